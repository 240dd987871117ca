"""Saved models: written whole, known by their hash, and read as weights alone."""

import hashlib
import warnings
import zipfile

from xraygan import disk, record


def save_model(model, folders, name):
    """Write `models/RUN/NAME.keras` in the native Keras format, whole or not at all, and its hash into the run's record."""
    disk.remove_drafts(folders.models)
    path = folders.models / f"{name}.keras"
    with disk.replacing(path) as draft:
        model.save(draft)
    record.add(folders, "models", name, _hash(path))


def load_weights(model, folders, name, notebook):
    """Give a model that was built in code the weights that `save_model` wrote.

    What the file says of its own layers is never read: a saved model may name code to run. Keras itself refuses weights that
    point to other files.

    Args:
        model: of the architecture that was saved.
        folders: `utils.RunFolders`.
        name: of the file, without `.keras`.
        notebook: the one that writes it.

    Returns:
        `model`.

    Raises:
        FileNotFoundError: it isn't there yet.
        ValueError: the file isn't the one that the record tells of, or holds other weights than this model's.
    """
    path = disk.require(folders.models / f"{name}.keras", notebook)
    remedy = f"run notebooks/{notebook} again, which writes it anew"
    if record.read_record(folders)["models"].get(name) != _hash(path):
        raise ValueError(f"{disk.display_path(path)} isn't the file that the run's record tells of: {remedy}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # where a layer is missing in the file Keras only warns, and leaves it as it was
            model.load_weights(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, UserWarning) as error:
        raise ValueError(f"{disk.display_path(path)} doesn't hold the weights of this run's network: {remedy}.") from error
    return model


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
