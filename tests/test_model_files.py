"""Saved models: the same after a round trip, and hostile files refused."""

import base64
import hashlib
import io
import json
import marshal
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import utils
from xraygan import classifier, dcgan, fakes, model_files, record


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
    record.start_record(folders, classes=["NORMAL", "COVID19"])
    model_files.save_model(classifier.build_classifier(2, seed=5), folders, "before_gan")
    model_files.save_model(dcgan.build_generator("dcgan"), folders, "dcgan_generator")
    return folders


def plant(folders, content, recorded):
    """Put a file where the baseline is; `recorded` plants its hash too, as a stranger does who hands over a whole run."""
    path = folders.models / "before_gan.keras"
    path.write_bytes(content)
    if recorded:
        record.add(folders, "models", "before_gan", hashlib.sha256(content).hexdigest())


def hostile_files(folders, tmp_path):
    """Files as {what: bytes}: first those that can't be read as this model's weights, some of which would run code or read elsewhere;
    then those whose weights are good, and whose description of the layers would run code."""
    whole, sign, elsewhere = folders.models / "before_gan.keras", tmp_path / "sign", tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["secret"] = np.ones((3, 3, 1, 32), np.float32)
    with zipfile.ZipFile(whole) as opened:
        config = json.loads(opened.read("config.json"))
    other = tmp_path / "other.keras"
    classifier.build_classifier(3).save(other)
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
        "cut off": whole.read_bytes()[:100_000],
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


def test_saved_models_come_back_the_same(saved, phantom_images):
    expected = classifier.predict(classifier.build_classifier(2, seed=5), phantom_images.images[:3])
    np.testing.assert_array_equal(classifier.predict(classifier.load_baseline(saved), phantom_images.images[:3]), expected)
    generator = dcgan.load_generator(saved, "dcgan")
    assert fakes.weights_hash(generator) == fakes.weights_hash(dcgan.build_generator("dcgan"))
    by_keras = keras.models.load_model(saved.models / "before_gan.keras", safe_mode=True)
    np.testing.assert_array_equal(classifier.predict(by_keras, phantom_images.images[:3]), expected)


def test_every_hostile_file_is_refused_by_its_hash(saved, tmp_path):
    refused, ignored = hostile_files(saved, tmp_path)
    for name, content in (refused | ignored).items():
        plant(saved, content, recorded=False)
        with pytest.raises(
            ValueError, match="isn't the file that the run's record tells of: run notebooks/1_before_gan.ipynb again"
        ):
            classifier.load_baseline(saved)
        assert not (tmp_path / "sign").exists(), name


def test_hostile_files_of_a_stranger_run_nothing_and_read_nothing_elsewhere(saved, tmp_path):
    """Even where the record's hash is theirs: what points elsewhere is refused, and what would run code is never read."""
    refused, ignored = hostile_files(saved, tmp_path)
    for name, content in refused.items():
        plant(saved, content, recorded=True)
        with pytest.raises(ValueError, match="doesn't hold the weights of this run's network"):
            classifier.load_baseline(saved)
            pytest.fail(f"{name} was read")
        assert not (tmp_path / "sign").exists(), name
    for name, content in ignored.items():
        plant(saved, content, recorded=True)
        weights = classifier.load_baseline(saved).get_weights()
        for ours, theirs in zip(weights, classifier.build_classifier(2, seed=5).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert not (tmp_path / "sign").exists(), name


def test_the_traps_are_real(tmp_path):
    """Read as such files are read elsewhere, the pickle does leave its sign."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def test_a_model_that_is_not_there(folders):
    record.start_record(folders, classes=["NORMAL", "COVID19"])
    with pytest.raises(FileNotFoundError, match="run notebooks/1_before_gan.ipynb first"):
        classifier.load_baseline(folders)
    shutil.rmtree(folders.models)
    with pytest.raises(FileNotFoundError):
        dcgan.load_generator(folders, "dcgan")
    assert utils.run_folders(folders.run, folders.models.parent.parent) == folders
