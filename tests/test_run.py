"""A run: its folders, its record, and its saved models, which come back the same or are refused."""

import base64
import hashlib
import io
import json
import marshal
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from conftest import require_papermill

from xraygan import disk, run
from xraygan.comparison.classifier import Classifier, predict
from xraygan.gan import fakes
from xraygan.gan.recipe import Recipe

CLASSIFIER, RECIPE = Classifier(image_size=32), Recipe(image_size=32)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)


# Folders


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 101])
def test_a_run_needs_a_plain_name(name, tmp_path):
    with pytest.raises(ValueError, match="RUN is"):
        run.open_folders(name, tmp_path)


def test_a_run_is_named_by_its_source_and_profile(tmp_path):
    assert run.choose_name("", "phantom", "quick") == "phantom-quick"
    assert run.choose_name("", "xrays", "somewhere/mine.yaml") == "xrays-mine"
    assert run.choose_name("trial", "phantom", "quick") == "trial"


def test_every_run_has_four_folders_of_its_own(tmp_path):
    folders = run.open_folders("trial", tmp_path)
    below = folders.below("seed-1")
    for opened, tail in ((folders, "trial"), (below, "trial/seed-1")):
        places = [opened.models, opened.images, opened.results, opened.generated]
        assert places == [tmp_path / kind / tail for kind in ("models", "images", "results", "data/generated")]
        assert all(place.is_dir() for place in places)
    assert below.run == "trial"


# The record


def test_a_training_in_several_goes_is_counted_whole(folders):
    run.start_record(folders, seed=0, classes=("A", "B"))
    with run.measured(folders, "gan"):
        time.sleep(0.2)
    with pytest.raises(KeyboardInterrupt), run.measured(folders, "gan"):
        time.sleep(0.2)
        raise KeyboardInterrupt
    run.start_record(folders, seed=0, classes=("A", "B"))  # the same run again
    cost = run.read_record(folders)["costs"]["gan"]
    assert 0.4 <= cost["seconds"] < 5
    assert cost["peak_memory_gb"] > 0.05
    run.start_record(folders, seed=1, classes=("A", "B"))  # another run in the same folder
    assert run.read_record(folders)["costs"] == {}


def test_a_run_with_models_is_not_overwritten_by_another(folders):
    """Notebook 1 again: on another computer, with more updates of the GAN, it goes on; with other classes or another precision it would mix two runs."""
    machine = {"precision": "float32", "cores": 2}
    run.start_record(folders, classes=("A", "B"), profile={"gan_updates": 3}, machine=machine)
    model = folders.models / "before_gan.keras"
    model.write_bytes(b"a model")
    run.sign(folders, model)
    run.note(folders, recipe={"loss": "hinge"})
    run.start_record(folders, classes=("A", "B"), profile={"gan_updates": 4}, machine=machine | {"cores": 64})
    notes = run.read_record(folders)
    assert list(notes["files"]) == [model.name] and notes["recipe"] == {"loss": "hinge"} and notes["machine"]["cores"] == 64
    with pytest.raises(ValueError, match="was made with another classes: choose another name with RUN, or delete"):
        run.start_record(folders, classes=("A", "C"), profile={"gan_updates": 4}, machine=machine)
    with pytest.raises(ValueError, match="was made with another precision"):
        run.start_record(folders, classes=("A", "B"), profile={"gan_updates": 4}, machine={"precision": "mixed_bfloat16"})
    assert run.read_record(folders) == notes
    model.write_bytes(b"another model")  # then the record is another run's, and protects nothing
    run.start_record(folders, classes=("A", "C"), profile={"gan_updates": 4}, machine=machine)
    assert run.read_record(folders)["files"] == {}


def test_a_run_goes_on_with_the_library_that_it_began_with(folders):
    run.start_record(folders, machine={"precision": "float32", "backend": "jax"})
    model = folders.models / "before_gan.keras"
    model.write_bytes(b"a model")
    run.sign(folders, model)
    with pytest.raises(ValueError, match="was made with another KERAS_BACKEND: choose another name with RUN"):
        run.start_record(folders, machine={"precision": "float32", "backend": "tensorflow"})


def test_a_copy_of_a_run_is_called_one(tmp_path):
    first = run.open_folders("first", tmp_path)
    run.start_record(first, run="first")
    (first.models / "before_gan.keras").write_bytes(b"a model")
    run.sign(first, first.models / "before_gan.keras")
    second = run.name_folders("second", tmp_path)
    for source, target in zip(first.list_all(), second.list_all(), strict=True):
        shutil.copytree(source, target)
    with pytest.raises(ValueError, match="is that of the run first, so these folders are a copy: give RUN that name"):
        run.read_record(second)
    with pytest.raises(ValueError, match="the run second is a copy of the run first: choose another name with RUN, or delete"):
        run.start_record(second, run="second")


def test_a_run_that_lies_on_another_disk_is_deleted_with_the_link_to_it(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    link = tmp_path / "results" / "mine"
    link.symlink_to(tmp_path / "elsewhere")
    run.delete_run("mine", tmp_path)
    assert not link.is_symlink() and not (tmp_path / "elsewhere").exists()
    link.symlink_to(tmp_path / "elsewhere")  # as an earlier version left it
    run.delete_run("mine", tmp_path)
    assert not link.is_symlink()


def test_a_library_that_cannot_be_loaded_is_one_sentence():
    command = [sys.executable, "-c", "from xraygan import backend"]
    environment = os.environ | {"KERAS_BACKEND": "magic"}
    done = subprocess.run(command, cwd=disk.ROOT, env=environment, capture_output=True, text=True, check=False)
    sentence = (
        "KERAS_BACKEND is 'magic', which can't be loaded (Unable to import backend : magic): set it to tensorflow or jax."
    )
    assert done.stderr.strip().endswith(f"ValueError: {sentence}")


def test_what_is_wrong_is_said_before_the_deep_learning_libraries_are_loaded():
    require_papermill()
    code = "import sys; sys.path.insert(0, 'notebooks'); import run; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=disk.ROOT, check=True)


def test_a_run_with_finished_trainings_is_not_overwritten_by_another(folders):
    """A study that keeps no model, as that of few images: the trainings themselves protect it."""
    run.start_record(folders, groups_file="patients.csv")
    run.start_record(folders, groups_file="")  # nothing is trained yet
    unit = folders.results / "units" / "PNEUMONIA-25" / "nothing-1000-0-364ce8ef.json"
    unit.parent.mkdir(parents=True)
    unit.with_name(".draft-7").touch()
    run.start_record(folders, groups_file="patients.csv")
    unit.write_text("{}")
    with pytest.raises(ValueError, match="was made with another groups_file: choose another name"):
        run.start_record(folders, groups_file="")


def test_no_record_yet(folders):
    with pytest.raises(FileNotFoundError, match="run the notebooks in their order"):
        run.read_record(folders)


def test_notes_are_added_and_merged(folders):
    """Costs and files grow; any other entry takes the place of the one before."""
    run.start_record(folders, seed=0)
    run.note(folders, files={"a": "1"}, recipe={"name": "dcgan"})
    run.note(folders, files={"b": "2"}, costs={"gan": {"seconds": 1}}, recipe={"loss": "hinge"})
    assert run.read_record(folders) == {
        "seed": 0,
        "costs": {"gan": {"seconds": 1}},
        "files": {"a": "1", "b": "2"},
        "recipe": {"loss": "hinge"},
    }


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_only_processors_that_the_process_may_use_are_counted():
    """A container or a batch system gives a process some of them: as many threads as there are would fight for those."""
    code = "import json, os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from xraygan import backend; "
    code += "print(json.dumps(backend.configure('float32')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=disk.ROOT, capture_output=True, text=True, check=True)
    machine = json.loads(done.stdout)
    assert (machine["cores"], machine["threads"]) == (1, 1)


# Saved models


def load_baseline(folders):
    return run.load_weights(CLASSIFIER.build(2), folders, "before_gan", "1_before_gan.ipynb")


def load_generator(folders):
    return run.load_weights(RECIPE.build_generator(), folders, "dcgan_generator", "2_gan_training.ipynb")


class Trap:
    """Unpickled, it leaves a file: the sign that a stranger's code ran."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return Path.touch, (Path(self.sign),)


def lambda_that_leaves(sign):
    code = base64.b64encode(marshal.dumps(compile(f"open({str(sign)!r}, 'w')", "x", "exec"))).decode()
    inside = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "trap", "function": inside}}


def function_that_leaves(sign):
    return {"module": "builtins", "class_name": "function", "config": "open", "args": [str(sign), "w"]}


def rewritten(whole, member, content):
    """The bytes of a .keras file with one member replaced."""
    written = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == member else old.read(name))
    return written.getvalue()


def weights_with(whole, change):
    """The bytes of its weights, changed by `change(h5py.File)`."""
    with zipfile.ZipFile(whole) as opened:
        store = io.BytesIO(opened.read("model.weights.h5"))
    with h5py.File(store, "r+") as file:
        change(file)
    return store.getvalue()


def first_dataset(file):
    names = []
    file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
    return names[0]


def linked_elsewhere(file, elsewhere):
    name = first_dataset(file)
    del file[name]
    file[name] = h5py.ExternalLink(str(elsewhere), "/secret")


def stored_elsewhere(file, elsewhere):
    name = first_dataset(file)
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, kind, external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)])


def named_elsewhere(file, elsewhere):
    name = first_dataset(file)
    del file[name]
    file[name] = h5py.SoftLink("/nowhere")


@pytest.fixture
def saved(folders):
    """The folders of a run whose baseline and generator are saved."""
    run.start_record(folders, classes=["NORMAL", "COVID19"])
    run.save_model(CLASSIFIER.build(2, seed=5), folders, "before_gan")
    run.save_model(RECIPE.build_generator(), folders, "dcgan_generator")
    return folders


def plant(folders, content, recorded):
    """Put a file where the baseline is; `recorded` plants its hash too, as a stranger does who hands over a whole run."""
    path = folders.models / "before_gan.keras"
    path.write_bytes(content)
    if recorded:
        run.note(folders, files={path.name: {"sha256": hashlib.sha256(content).hexdigest(), "made_from": {}}})


def hostile_files(folders, tmp_path):
    """Files as {what: bytes}: first those that can't be read as this model's weights, some of which would run code or read elsewhere;
    then those whose weights are good, and whose description of the layers would run code."""
    whole, sign, elsewhere = folders.models / "before_gan.keras", tmp_path / "sign", tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["secret"] = np.ones((3, 3, 1, 32), np.float32)
    with zipfile.ZipFile(whole) as opened:
        config = json.loads(opened.read("config.json"))
    other = tmp_path / "other.keras"
    CLASSIFIER.build(3).save(other)
    files = {
        name: rewritten(whole, "model.weights.h5", weights_with(whole, lambda file, change=change: change(file, elsewhere)))
        for name, change in {
            "external link": linked_elsewhere,
            "external data": stored_elsewhere,
            "soft link": named_elsewhere,
        }.items()
    }
    return files | {
        "pickle": pickle.dumps(Trap(sign)),
        "pickle for weights": rewritten(whole, "model.weights.h5", pickle.dumps(Trap(sign))),
        "no weights": rewritten(whole, "model.weights.h5", b""),
        "cut off": whole.read_bytes()[:-1000],
        "empty": b"",
        "text": b"not a model",
        "three classes": other.read_bytes(),
    }, {
        name: rewritten(whole, "config.json", json.dumps(content).encode())
        for name, content in {
            "Lambda": config
            | {"config": config["config"] | {"layers": [*config["config"]["layers"], lambda_that_leaves(sign)]}},
            "function": function_that_leaves(sign),
            "import": config
            | {"module": "os", "class_name": "system", "registered_name": "os>system", "config": {"command": f"touch {sign}"}},
        }.items()
    }


def test_saved_models_come_back_the_same(saved):
    expected = predict(CLASSIFIER.build(2, seed=5), IMAGES)
    np.testing.assert_array_equal(predict(load_baseline(saved), IMAGES), expected)
    generator = load_generator(saved)
    assert fakes.weights_hash(generator) == fakes.weights_hash(RECIPE.build_generator())
    by_keras = keras.models.load_model(saved.models / "before_gan.keras", safe_mode=True)
    np.testing.assert_array_equal(predict(by_keras, IMAGES), expected)


def test_every_hostile_file_is_refused_by_its_hash(saved, tmp_path):
    refused, ignored = hostile_files(saved, tmp_path)
    for name, content in (refused | ignored).items():
        plant(saved, content, recorded=False)
        with pytest.raises(
            ValueError, match="isn't the file that the run's record knows: run notebooks/1_before_gan.ipynb again"
        ):
            load_baseline(saved)
        assert not (tmp_path / "sign").exists(), name


def test_hostile_files_of_a_stranger_run_nothing_and_read_nothing_elsewhere(saved, tmp_path):
    """Even where the record's hash is theirs: what points elsewhere is refused, and what would run code is never read."""
    refused, ignored = hostile_files(saved, tmp_path)
    for name, content in refused.items():
        plant(saved, content, recorded=True)
        with pytest.raises(ValueError, match="doesn't hold the weights of this run's network"):
            load_baseline(saved)
            pytest.fail(f"{name} was read")
        assert not (tmp_path / "sign").exists(), name
    for name, content in ignored.items():
        plant(saved, content, recorded=True)
        weights = load_baseline(saved).get_weights()
        for ours, theirs in zip(weights, CLASSIFIER.build(2, seed=5).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert not (tmp_path / "sign").exists(), name


def test_the_traps_are_real(tmp_path):
    """Read as such files are read elsewhere, the pickle does leave its sign."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def test_a_model_that_is_not_there(folders):
    run.start_record(folders, classes=["NORMAL", "COVID19"])
    with pytest.raises(FileNotFoundError, match="run notebooks/1_before_gan.ipynb first"):
        load_baseline(folders)
    shutil.rmtree(folders.models)
    with pytest.raises(FileNotFoundError):
        load_generator(folders)
    assert run.open_folders(folders.run, folders.models.parent.parent) == folders


# Names, and what a run leaves


def test_names_of_the_projects_own_files_are_no_runs(tmp_path):
    """Every name that is committed below models/, images/, results/ and data/generated/, in any case: a disk may not tell A from a."""
    listed = subprocess.run(
        ["git", "ls-files", "models", "images", "results", "data/generated"],
        cwd=disk.ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = {line.removeprefix("data/").split("/")[1] for line in listed.stdout.splitlines()}
    assert {"published", "README.md", "readme"} <= names
    for name in names | {name.swapcase() for name in names}:
        for function in (run.open_folders, run.delete_run):
            with pytest.raises(ValueError, match="which is the name of files of the project itself; choose another."):
                function(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stem", ["my profile", "한글", "a/../b c", "x" * 200, "-leading", "~", "`touch harm`", "a\nb"])
def test_a_profile_of_any_name_gives_a_run_of_a_plain_name(stem, tmp_path):
    name = run.choose_name("", "images", f"{stem}.yaml")
    assert run.open_folders(name, tmp_path).run == name
    assert name != run.choose_name("", "images", f"{stem}2.yaml"), "two profiles in one run"


def test_plain_profiles_keep_their_names():
    assert run.choose_name("", "phantom", "quick") == "phantom-quick"
    assert run.choose_name("", "phantom", "../my_own-2.yaml") == "phantom-my_own-2"
    assert run.choose_name("mine", "phantom", "quick") == "mine"


def test_a_deleted_run_leaves_nothing_and_takes_nothing_else(tmp_path):
    folders, other = run.open_folders("mine", tmp_path), run.open_folders("other", tmp_path)
    for folder in (*folders.list_all(), *other.list_all(), folders.below("gans/A-all-1").models):
        (folder / "file").write_bytes(bytes(1000))
    published = tmp_path / "results" / "published" / "mine" / "table.csv"
    published.parent.mkdir(parents=True)
    published.touch()
    assert run.list_runs(tmp_path) == {"mine": 5000, "other": 4000}
    assert run.delete_run("mine", tmp_path) == 5000
    assert published.exists() and run.list_runs(tmp_path) == {"other": 4000}
    assert not [path for path in tmp_path.rglob("mine") if "published" not in path.parts]
    with pytest.raises(ValueError, match="there is no run 'mine'; there are: other."):
        run.delete_run("mine", tmp_path)


def test_a_run_in_which_a_process_is_at_work_is_not_deleted(tmp_path):
    folders = run.open_folders("mine", tmp_path)
    with disk.held(folders.models / "gan_state"), pytest.raises(RuntimeError, match="another process is at work in gan_state"):
        run.delete_run("mine", tmp_path)
    assert folders.models.is_dir()


def test_what_was_made_from_another_split_is_noticed(folders):
    """Notebook 1 ran again with other patients: a GAN of before has perhaps seen what is test now."""
    run.start_record(folders, classes=["A", "B"])
    made = folders.models / "dcgan_generator.keras"
    made.write_text("weights")
    run.write_table(pd.DataFrame({"file": ["a", "b"], "part": ["train", "test"]}), folders, run.SPLIT)
    run.sign(folders, made)
    assert run.require_signed(folders, made, "2_gan_training.ipynb") == made
    run.write_table(pd.DataFrame({"file": ["a", "b"], "part": ["test", "train"]}), folders, run.SPLIT)
    with pytest.raises(ValueError, match="was made from another split.csv than there is now: run notebooks/2_gan_training"):
        run.require_signed(folders, made, "2_gan_training.ipynb")


def test_notes_of_processes_at_work_side_by_side_are_all_kept(tmp_path):
    """Two notebooks in one run: neither writes a record that it read before the other noted something."""
    folders = run.open_folders("shared", tmp_path)
    run.start_record(folders)
    code = "import sys; from xraygan import run; folders = run.open_folders('shared', sys.argv[1])\n"
    code += "for number in range(25): run.note(folders, files={sys.argv[2] + str(number): {}})"
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, name], cwd=disk.ROOT) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(run.read_record(folders)["files"]) == 75
