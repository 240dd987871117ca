"""SIGKILL at random moments: whatever is killed and run again ends as if it hadn't been, bit for bit."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from test_notebooks import TINY_PROFILE

from xraygan import disk

TRAININGS = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    import utils
    from xraygan import backend, classifier, dcgan, fakes, fidelity, model_files, record, settings, sources, training
    training.SECONDS_BETWEEN_STATES = 0  # a state after every epoch: about half of the time goes into saving
    backend.configure()
    print("READY", flush=True)
    images = np.random.default_rng(0).integers(0, 256, (30, 128, 128, 1), dtype=np.uint8)
    labels = np.arange(30) % 2
    folders = utils.run_folders("killed", Path(sys.argv[1]))
    source = sources.Source("noise", None, ("NORMAL", "COVID19"), "COVID19", True)
    profile = settings.Profile(0, 6, 0, 6, 8, 2, 80, ("nothing",), 1)
    record.start_record(folders, classes=source.classes)
    model, _ = classifier.train_classifier(
        images, labels, (images[:6], labels[:6]), source, profile, 0, 30, folders.models / "before_gan_state",
        folders.results / "before_gan" / "history.csv", "baseline",
    )
    model_files.save_model(model, folders, "before_gan")
    judge = fidelity.Judge(model, images[:12], images[12:18])
    generator, _, _ = dcgan.train_gan(images[:12], "dcgan", 8, 2, 3, folders, judge)
    model_files.save_model(generator, folders, "dcgan_generator")
    fakes.write_fakes(dcgan.load_generator(folders, "dcgan"), folders.generated, "COVID19", 80, 0)
    print("WEIGHTS", fakes.weights_hash(classifier.load_baseline(folders)), fakes.weights_hash(generator))
""")


def start(store):
    """The trainings and the drawing of fakes, in a process of their own; returns when it has imported everything."""
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    command = [sys.executable, "-c", TRAININGS, str(store)]
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


def kill_while_drawing(store):
    """Start the trainings and kill them as soon as the first fake is there; returns how many there are then, not all."""
    generated = store / "data" / "generated" / "killed"
    for _ in range(20):  # a busy machine may see the first fake too late, when all are there
        process = start(store)
        while process.poll() is None and not (generated / "COVID19" / "fake_0000.png").exists():
            time.sleep(0.0005)
        process.kill()
        process.communicate()
        drawn = len(list(generated.rglob("fake_*.png")))
        if 0 < drawn < 80:
            return drawn
        shutil.rmtree(generated)
    pytest.fail("every kill came too late")


@pytest.mark.parametrize("num_kills", [3, pytest.param(24, marks=pytest.mark.slow)])
def test_killed_at_random_moments_ends_as_undisturbed(tmp_path, num_kills):
    process = start(tmp_path / "whole")
    begin = time.perf_counter()
    whole = outcome(process, tmp_path / "whole")
    duration = time.perf_counter() - begin
    assert len(whole) > 90
    rng = random.Random(num_kills)
    kills, attempt, half_written = 0, 0, 0
    while kills < num_kills:
        attempt += 1
        store = tmp_path / f"killed-{attempt}"
        while kills < num_kills:  # again and again in the same folder, until it gets through
            process = start(store)
            try:
                process.wait(rng.uniform(0, 0.8 * duration))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                half_written += bool(list(store.rglob(".draft-*")))
                print(f"kill {kills}, attempt {attempt}: {progress_of(store)}")
            else:
                break
        assert outcome(start(store), store) == whole, f"attempt {attempt}"
        assert not list((store / "models").rglob(".draft-*"))
    print(f"{kills} kills in {attempt} trainings, {half_written} of them while a file was being written: all as undisturbed")
    store = tmp_path / "killed-drawing"
    drawn = kill_while_drawing(store)
    assert outcome(start(store), store) == whole, f"killed when {drawn} fakes were written"


@pytest.mark.slow
def test_killed_notebooks_end_as_undisturbed_ones(tmp_path, phantom_folder):
    """`make study` killed with all its processes, five times; every table, picture and fake agrees but those that hold times."""
    profile = tmp_path / "tiny.yaml"
    profile.write_text(TINY_PROFILE)

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
