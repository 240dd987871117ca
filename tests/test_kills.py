"""SIGKILL: whatever is killed and run again ends as if it hadn't been, bit for bit."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest
from conftest import write_profile

from xraygan import disk

TRAININGS = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    from xraygan import backend, run, training
    from xraygan.comparison.arms import TrainingImages
    from xraygan.comparison.classifier import Classifier, train_classifier
    from xraygan.data.dataset import Part, Setting
    from xraygan.gan import dcgan, fakes, fidelity
    from xraygan.gan.recipe import Recipe
    training.SECONDS_BETWEEN_STATES = float(sys.argv[2])
    backend.configure()
    print("READY", flush=True)
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 1), dtype=np.uint8)
    labels = np.arange(30) % 2
    folders = run.open_folders("killed", Path(sys.argv[1]))
    run.start_record(folders, classes=["NORMAL", "COVID19"])
    classifier, setting = Classifier(image_size=32, epochs=12), Setting(("NORMAL", "COVID19"), "COVID19")
    model, _ = train_classifier(
        classifier, setting, TrainingImages(images, labels, np.ones(2), 30, 15), Part(images[:6], labels[:6], None), 0,
        folders.models / "classifier_state", "baseline",
    )
    run.save_model(model, folders, "classifier")
    recipe = Recipe(image_size=32, updates=32, sample_every=8)
    judge = fidelity.Judge(model, images[:12], images[12:18])
    generator, epoch, _ = dcgan.train_gan(images[:12], recipe, 4, folders, judge)
    run.save_model(generator, folders, "dcgan_generator")
    saved = run.load_weights(recipe.build_generator(), folders, "dcgan_generator", "2_gan_training.ipynb")
    fakes.write_fakes(saved, folders.generated, "COVID19", 200, 0)
    baseline = run.load_weights(classifier.build(2), folders, "classifier", "1_before_gan.ipynb")
    print("WEIGHTS", fakes.weights_hash(baseline), fakes.weights_hash(generator), epoch)
""")
EVERY_EPOCH, AT_THE_END = 0, "inf"


def start(store, seconds_between_states=EVERY_EPOCH):
    """The trainings and the drawing of fakes, in a process of their own; returns when it has imported everything."""
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    command = [sys.executable, "-c", TRAININGS, str(store), str(seconds_between_states)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert any(line.startswith("READY") for line in iter(process.stdout.readline, ""))
    return process


def outcome(process, store):
    """Both models' weights, and every file but those that hold times: states with optimizer moments, tables, grids, fakes."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    weights = next(line for line in output.splitlines() if line.startswith("WEIGHTS"))
    return {"weights": weights} | fingerprints(store)


def fingerprints(store):
    files = [path for path in store.rglob("*") if path.suffix in (".csv", ".npz", ".png", ".gif")]
    return {path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def progress_of(store):
    """How far a killed process came, for the report."""
    states = sorted(path.stem for path in store.rglob("epoch_*.npz"))
    drafts = [path.name.split("-", 2)[2] for path in store.rglob(".draft-*")]
    return f"states {states}, {len(list(store.rglob('fake_*.png')))} fakes, half-written: {drafts}"


def kill_when(process, reached):
    """Kill a process as soon as `reached()`; False where it had ended before."""
    deadline = time.monotonic() + 200
    while process.poll() is None and not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def count_rows(table):
    return len(pd.read_csv(table)) if table.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of undisturbed trainings, and the seconds they took after the imports."""
    store = tmp_path_factory.mktemp("whole")
    process = start(store)
    begin = time.perf_counter()
    result = outcome(process, store)
    assert len(result) > 200
    return result, time.perf_counter() - begin


def test_a_kill_of_each_kind_ends_as_undisturbed(whole, tmp_path):
    """As a state of the classifier appears; when the GAN's tables and grids are ahead of its state; while fakes are drawn."""
    models, results = tmp_path / "models" / "killed", tmp_path / "results" / "killed"
    fakes = tmp_path / "data" / "generated" / "killed" / "COVID19"
    assert kill_when(start(tmp_path), (models / "classifier_state" / "epoch_00003.npz").exists)
    assert kill_when(start(tmp_path), (models / "gan_state" / "epoch_00002.npz").exists)
    assert kill_when(start(tmp_path, AT_THE_END), lambda: count_rows(results / "gan" / "history.csv") >= 5)
    states = [path.stem for path in (models / "gan_state").glob("epoch_*.npz")]
    assert len(states) == 1 and states[0] < "epoch_00005", states
    assert kill_when(start(tmp_path, AT_THE_END), (fakes / "fake_0000.png").exists)
    print(progress_of(tmp_path))
    assert outcome(start(tmp_path, AT_THE_END), tmp_path) == whole[0]
    assert not list(tmp_path.rglob(".draft-*"))


@pytest.mark.slow
def test_kills_at_random_moments_end_as_undisturbed(whole, tmp_path):
    whole, duration = whole
    num_kills, rng = 24, random.Random(24)
    kills, attempt, half_written = 0, 0, 0
    while kills < num_kills:
        attempt += 1
        store = tmp_path / f"killed-{attempt}"
        while kills < num_kills:  # again and again in the same folder, until it gets through
            process = start(store)
            try:
                process.wait(rng.uniform(0, 0.8 * duration))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                half_written += bool(list(store.rglob(".draft-*")))
                print(f"kill {kills}, attempt {attempt}: {progress_of(store)}")
            else:
                break
        assert outcome(start(store), store) == whole, f"attempt {attempt}"
        assert not list((store / "models").rglob(".draft-*"))
    print(f"{kills} kills in {attempt} trainings, {half_written} of them while a file was being written: all as undisturbed")


@pytest.mark.slow
def test_killed_notebooks_end_as_undisturbed_ones(tmp_path, phantom_folder):
    """`make study` killed with all its processes, five times; every table, picture and fake agrees but those that hold times."""
    from test_notebooks import TINY

    profile = tmp_path / "tiny.yaml"
    profile.write_text(write_profile(**TINY))

    def study(store):
        command = [sys.executable, "notebooks/run.py", "--data", str(phantom_folder), "--profile", str(profile)]
        environment = os.environ | {"XRAYGAN_STORE": str(store)}
        return subprocess.Popen(command, cwd=disk.ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)

    def tables(store):
        found = fingerprints(store)
        return {name: found[name] for name in found if name.endswith((".csv", ".png")) and not name.endswith("arms.csv")}

    begin = time.perf_counter()
    assert study(tmp_path / "whole").wait(600) == 0
    duration = time.perf_counter() - begin
    rng = random.Random(0)
    for kill in range(5):
        process = study(tmp_path / "cut")
        try:
            process.wait(rng.uniform(0.15, 0.5) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(3)  # a notebook's process sees within a second that its parent is gone
            print(f"kill {kill + 1}: {sorted(path.name for path in (tmp_path / 'cut' / 'results').rglob('*.csv'))}")
    assert study(tmp_path / "cut").wait(600) == 0
    assert tables(tmp_path / "cut") == tables(tmp_path / "whole")
