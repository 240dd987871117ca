"""Real small disks: full, read-only, and two processes in one folder. Needs the right to mount (root), else skipped."""

import errno
import os
import re
import subprocess
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import require_papermill, write_profile

import utils
from xraygan import disk, run, training
from xraygan.data import loading
from xraygan.gan import dcgan
from xraygan.gan.recipe import Recipe
from xraygan.report import figures, pictures

RNG = np.random.default_rng(0)


def remount(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def fill(place):
    with (place / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def noise_picture():
    return RNG.integers(0, 256, (300, 300), dtype=np.uint8)


def save_a_figure(folders):
    figure = plt.figure()
    figures.save_figure(figure, folders.images / "figure.png")
    plt.close(figure)


def write_a_film(folders):
    utils.save_png(noise_picture(), folders.images.parent.parent.parent / "frame.png")
    pictures.write_timelapse([folders.images.parent.parent.parent / "frame.png"], folders.images / "film.gif")


def read_with_cache(folders):
    picture = folders.images.parent.parent.parent / "picture.png"
    utils.save_png(noise_picture(), picture)
    loading.load_images([picture], folders.results / "cache", show_progress=False)


SAVERS = {
    "table": lambda folders: utils.write_table(pd.DataFrame(RNG.random((500, 9))), folders.results / "table.csv"),
    "picture": lambda folders: utils.save_png(noise_picture(), folders.images / "picture.png"),
    "JSON": lambda folders: disk.write_json(folders.results / "numbers.json", {"numbers": RNG.random(2000).tolist()}),
    "state": lambda folders: training.save_variables(folders.models / "epoch_00001.npz", [RNG.random(5000)], 1),
    "model": lambda folders: run.save_model(Recipe().build_discriminator(), folders, "model"),
    "figure": save_a_figure,
    "film": write_a_film,
    "cache": read_with_cache,
}


def contents(place):
    return {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file() and path.name != "filler"}


@pytest.mark.parametrize(
    ("trouble", "sentence"), [("full", "the disk is full; free some space"), ("read-only", "is read-only")]
)
def test_what_cannot_be_written_is_one_sentence_and_the_old_file_stays(small_disk, trouble, sentence):
    place = small_disk("64m")
    folders = run.open_folders("run", place)
    run.start_record(folders)
    for save in SAVERS.values():
        save(folders)
    if trouble == "full":
        fill(place)
    else:
        remount(place, "ro")
    before = contents(place)
    for name, save in SAVERS.items():
        with pytest.raises(OSError, match=sentence) as caught:
            save(folders)
            pytest.fail(f"{name} was written")
        assert re.search(r"can't be written: .* and run this again, it goes on where it was\.$", str(caught.value)), name
        assert "\n" not in str(caught.value)
        assert contents(place) == before, name
    with pytest.raises(OSError, match=sentence):
        run.open_folders("another", place)
        SAVERS["table"](run.open_folders("another", place))


def notebook_1(store, data, *arguments, **options):
    require_papermill()
    profile = data.parent / "small.yaml"
    profile.write_text(write_profile(gan_sample_every=1, num_fakes=6, num_seeds=1))
    command = [sys.executable, "notebooks/run.py", "--data", str(data), "--profile", str(profile), "--only", "1_before_gan"]
    command += map(str, arguments)
    environment = os.environ | {"XRAYGAN_STORE": str(store)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=disk.ROOT, env=environment, **pipes, **options)


@pytest.mark.slow
def test_a_run_that_fills_the_disk_goes_on_when_there_is_space(small_disk, phantom_folder):
    place = small_disk("5m")  # less than the state of one training
    process = notebook_1(place, phantom_folder, "--run", "big")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "can't be written: the disk is full; free some space" in errors
    assert "Traceback" not in errors
    remount(place, "size=400m")
    process = notebook_1(place, phantom_folder, "--run", "big")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert not list(place.rglob(".draft*"))


def test_the_second_of_two_runs_in_one_folder_says_so_and_stops(tmp_path, phantom_folder):
    first = notebook_1(tmp_path, phantom_folder, "--run", "shared", process_group=0)
    lock = tmp_path / "results" / "shared" / ".lock"
    try:
        deadline = time.time() + 60
        while not lock.exists() and time.time() < deadline:
            time.sleep(0.1)
        second = notebook_1(tmp_path, phantom_folder, "--run", "shared")
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 1
        assert errors.strip() == (
            "another process is at work in results/shared: wait for it or stop it, or choose another name with RUN."
        )
        assert first.poll() is None
    finally:
        os.killpg(first.pid, 9)
        first.communicate()
    with disk.held(tmp_path / "results" / "shared"):  # the hold went with the killed process
        pass


def test_a_training_is_done_by_one_process_at_a_time(folders, phantom_images):
    images, recipe = phantom_images.images[:8], Recipe(updates=1)
    with disk.held(folders.models / "gan_state"), pytest.raises(RuntimeError, match="another process is at work in"):
        dcgan.train_gan(images, recipe, 0, folders)
    assert not (folders.results / "gan" / "history.csv").exists()
    dcgan.train_gan(images, recipe, 0, folders)
    assert (folders.results / "gan" / "history.csv").exists()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("", disk.ROOT),
        ("store", disk.ROOT / "store"),
        ("../store", disk.ROOT / "../store"),
        ("~/store", "HOME/store"),
        ("/a b", "/a b"),
    ],
)
@pytest.mark.parametrize("cwd", [".", "notebooks"])
def test_the_store_is_one_place_wherever_a_process_runs(name, place, cwd, tmp_path):
    environment = os.environ | {"XRAYGAN_STORE": name, "HOME": str(tmp_path), "PYTHONPATH": str(disk.ROOT)}
    command = [sys.executable, "-c", "from xraygan import disk; print(disk.STORE)"]
    done = subprocess.run(command, cwd=disk.ROOT / cwd, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(place).replace("HOME", str(tmp_path))


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "한" * 83 + ".csv"])
def test_a_file_with_the_longest_name_is_written_and_a_longer_one_is_one_sentence(tmp_path, name):
    utils.write_table(pd.DataFrame({"a": [1]}), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OSError, match="can't be written: its name is too long for this disk; choose a shorter one"):
        utils.write_table(pd.DataFrame({"a": [1]}), tmp_path / f"longer{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_where_a_folder_has_to_be_is_one_sentence(tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(
        OSError, match="can't be written: a file stands where a folder has to be; move it away and run this again"
    ):
        run.open_folders("mine", tmp_path)
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(
        OSError, match="can't be written: a folder stands where a file has to be; move it away and run this again"
    ):
        utils.write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.csv")


def test_drafts_of_processes_that_are_gone_are_deleted_and_no_others(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for writer in (gone.pid, os.getpid(), os.getppid(), "x"):
        (tmp_path / f".draft-{writer}-model.keras").touch()
    disk.remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".draft-{os.getppid()}-model.keras"]


def test_a_cache_keeps_what_was_used_last(tmp_path):
    for number, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    disk.keep_most_recent(tmp_path / "a", 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "d"]
    disk.keep_most_recent(tmp_path / "d", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["d"], "what is in use stays, however large it is"
    disk.keep_most_recent(tmp_path / "gone", 10)


def test_decoded_images_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MAX_CACHE_BYTES", 40_000)
    for number in range(4):
        utils.save_png(noise_picture(), tmp_path / f"{number}.png")
        loading.load_images([tmp_path / f"{number}.png"], tmp_path / "cache", show_progress=False)
    loading.load_images([tmp_path / "3.png"], tmp_path / "cache", show_progress=False)
    assert len(list((tmp_path / "cache").iterdir())) == 2, "of 16 kB each"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOTCONN, "the disk doesn't answer"),
        (errno.ESTALE, "the disk doesn't answer"),
        (errno.ENOLCK, "this disk can't lock files"),
    ],
)
def test_a_disk_of_a_network_that_fails_is_one_sentence(tmp_path, monkeypatch, number, sentence):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk.os, "replace", fail)
    with pytest.raises(OSError, match=f"numbers.json can't be written: {sentence}"):
        disk.write_json(tmp_path / "numbers.json", {})
    error = OSError(number, os.strerror(number))
    assert "check whether its disk is still connected" in str(disk.explain_closed("xrays", error))
    assert "change its permissions" in str(disk.explain_closed("xrays", PermissionError(errno.EACCES, "no")))


def test_a_disk_that_cannot_lock_is_one_sentence(tmp_path, monkeypatch):
    def fail(self):
        raise NotImplementedError

    monkeypatch.setattr(disk.FileLock, "acquire", fail)
    with pytest.raises(OSError, match="this disk can't lock files"), disk.held(tmp_path / "run"):
        pass


def test_what_a_cloud_or_a_person_left_beside_a_state_is_no_state(tmp_path):
    state = training.SavedState(tmp_path / "state", tmp_path / "history.csv")
    training.save_variables(tmp_path / "state" / "epoch_00002.npz", [np.zeros(3)], 2, "all", [[], []])
    (tmp_path / "state" / "epoch_00002 (1).npz").write_bytes(b"a copy")
    assert list(state._states()) == [2]
    state.parameters = "all"
    (tmp_path / "state" / "epoch_00001.npz").mkdir()
    state.tidy()
    assert sorted(path.name for path in (tmp_path / "state").glob("*.npz")) == ["epoch_00002 (1).npz", "epoch_00002.npz"]
