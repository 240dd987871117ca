"""A run: its folders, its record (what was asked for, on which data and machine, what it took), and its saved models."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

from xraygan import clouds, disk

GROWING = ("costs", "models")  # what a record gains as the run goes on
NO_RUNS = ("published", "readme", "readme.md")  # names that stand in those folders already; some disks don't tell A from a
MAY_CHANGE = ("profile", "machine")  # what may differ when notebook 1 runs again: more epochs or seeds, another computer


# Folders


@dataclass(frozen=True)
class RunFolders:
    """The folders that one run writes to."""

    run: str
    models: Path
    images: Path
    results: Path
    generated: Path

    def below(self, name):
        """The same four folders, one level down, e.g. for the GAN of another seed; created if they aren't there."""
        folders = RunFolders(self.run, self.models / name, self.images / name, self.results / name, self.generated / name)
        folders.make()
        return folders

    def list_all(self):
        return self.models, self.images, self.results, self.generated

    def make(self):
        for folder in self.list_all():
            with disk.write_errors_explained(folder):
                folder.mkdir(parents=True, exist_ok=True)


def open_folders(run, store=None):
    """Create and return the folders of the run called `run`, e.g. `phantom-quick`.

    Args:
        run: letters, digits, `.`, `_` and `-`; names one folder under models/, images/, results/ and data/generated/.
        store: the folder that holds those four; by default the repository, or `$XRAYGAN_STORE`.

    Raises:
        ValueError: `run` isn't a plain folder name, or is one of the project's own.
    """
    folders = _name_folders(run, store)
    folders.make()
    return folders


def _name_folders(run, store=None):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run):
        raise ValueError(f"RUN is {run!r}; a run's name has letters, digits, '.', '_' and '-' only, e.g. 'phantom-quick'.")
    if run.lower() in NO_RUNS:
        raise ValueError(f"RUN is {run!r}, which is the name of files of the project itself; choose another.")
    store = Path(store or disk.STORE)
    return RunFolders(
        run, store / "models" / run, store / "images" / run, store / "results" / run, store / "data" / "generated" / run
    )


def choose_name(run, source_name, profile_name):
    """The name of a run's folders: the one given, else `SOURCE-PROFILE`, e.g. "phantom-quick"."""
    return run or f"{source_name}-{_write_plain(Path(profile_name).stem)}"


def _write_plain(text):
    """`text` as a part of a folder's name; where letters had to go, a short hash keeps two such names apart."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:30]
    return plain if plain == text else f"{plain}-{hashlib.blake2b(os.fsencode(text), digest_size=3).hexdigest()}"


def list_runs(store=None):
    """What each run takes on the disk: {name: bytes}."""
    store = Path(store or disk.STORE)
    kinds = (store / "models", store / "images", store / "results", store / "data" / "generated")
    names = {path.name for kind in kinds if kind.is_dir() for path in kind.iterdir() if path.is_dir()}
    names = sorted(name for name in names if name.lower() not in NO_RUNS and not name.startswith("."))
    return {name: sum(map(_count_bytes, (kind / name for kind in kinds))) for name in names}


def delete_run(run, store=None):
    """Delete all that a run has written; returns the bytes that this frees.

    Raises:
        ValueError: there is no such run.
        RuntimeError: a process is at work in it.
    """
    folders = _name_folders(run, store)
    there = [folder for folder in folders.list_all() if folder.is_dir()]
    if not there:
        raise ValueError(f"there is no run {run!r}; there are: {', '.join(list_runs(store)) or 'none'}.")
    for lock in [lock for folder in there for lock in folder.rglob(".lock")]:
        with disk.held(lock.parent):
            pass
    freed = sum(map(_count_bytes, there))
    for folder in there:
        with disk.write_errors_explained(folder):
            shutil.rmtree(folder.resolve())
    return freed


def _count_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# The record


def start_record(folders, **content):
    """Write `results/RUN/record.json` before any training.

    Below "costs" the record gains what each training took, below "models" the hash of each saved model. What an earlier call of the
    same run noted there is kept, so that a training in several goes is counted whole.

    Raises:
        ValueError: a run of this name has trained models of other images, classes or settings.
    """
    path = folders.results / "record.json"
    content = json.loads(json.dumps(content))  # as it will be read back
    earlier = disk.read_json(path) if path.exists() else {}
    gained = {kind: earlier.pop(kind, {}) for kind in GROWING}
    changed = [key for key in content if key not in MAY_CHANGE and earlier.get(key) != content[key]]
    if get_precision(earlier) != get_precision(content):
        changed.append("precision")
    if changed and gained["models"]:
        raise ValueError(
            f"the run {folders.run} was made with another {', '.join(changed)}: choose another name with RUN, or delete "
            f"{disk.display_path(folders.results)} and {disk.display_path(folders.models)} to make it again from the start."
        )
    disk.write_json(path, content | ({kind: {} for kind in GROWING} if changed else gained))


def read_record(folders):
    """The record that notebook 1 wrote.

    Raises:
        FileNotFoundError: there is none yet.
    """
    return disk.read_json(folders.results / "record.json")


def note(folders, **entries):
    """Add entries to the record, e.g. `note(folders, recipe=…)`; a dict below `costs` or `models` is merged with what is there, None removes."""
    record = read_record(folders)
    for key, value in json.loads(json.dumps(entries)).items():
        record[key] = record[key] | value if key in GROWING else value
    disk.write_json(folders.results / "record.json", {key: value for key, value in record.items() if value is not None})


def require_begun(run, store=None):
    """Stop where notebook 1 hasn't left a run of this name, or any where "" leaves the name open; called before any work.

    Raises:
        FileNotFoundError: in one sentence, with the likely cause on this host.
    """
    results = Path(store or disk.STORE) / "results"
    begun = [path.parent.name for path in results.glob("*/record.json") if path.parent.name not in NO_RUNS]
    if run not in begun and (run or not begun):
        missing = f"the run {run}" if run else "a run of notebook 1"
        raise FileNotFoundError(f"{missing} isn't on this machine: {clouds.explain_missing_run()}")


def is_deterministic(record):
    """Whether a record's trainings are to give the same numbers again."""
    return record.get("machine", {}).get("deterministic", True)


def get_precision(record):
    """The precision that a record's models were trained in; None before it says so."""
    return record.get("machine", {}).get("precision")


def require_same_data(record, fingerprint):
    """Stop where the images are no longer those of the record.

    Raises:
        ValueError: they differ.
    """
    if record["data"]["fingerprint"] != fingerprint:
        raise ValueError(
            "DATA isn't what notebook 1 saw: other files, or other contents. Run notebooks/1_before_gan.ipynb again, or give RUN a new name."
        )


@contextlib.contextmanager
def measured(folders, name):
    """Add the seconds of the block and the process's peak memory so far to the record's costs, also when the block is cut off."""
    from xraygan import backend  # here, so that naming a run needs no deep-learning library

    start = time.perf_counter()
    try:
        yield
    finally:
        earlier = read_record(folders)["costs"].get(name, {"seconds": 0, "peak_memory_gb": 0})
        cost = {
            "seconds": round(earlier["seconds"] + time.perf_counter() - start, 1),
            "peak_memory_gb": max(earlier["peak_memory_gb"], round(backend.peak_memory_gb(), 2)),
        }
        note(folders, costs={name: cost})


# Saved models


def save_model(model, folders, name):
    """Write `models/RUN/NAME.keras` in the native Keras format, whole or not at all, and its hash into the run's record."""
    disk.remove_drafts(folders.models)
    path = folders.models / f"{name}.keras"
    with disk.replacing(path) as draft:
        model.save(draft)
    note(folders, models={name: _hash(path)})


def is_saved(folders, name):
    """Whether `models/RUN/NAME.keras` is there and is the file that the record knows."""
    path = folders.models / f"{name}.keras"
    return path.exists() and read_record(folders)["models"].get(name) == _hash(path)


def load_weights(model, folders, name, notebook):
    """Give a model that was built in code the weights that `save_model` wrote.

    What the file says of its own layers is never read: a saved model may name code to run. Keras itself refuses weights that
    point to other files.

    Args:
        model: of the architecture that was saved.
        folders: `RunFolders`.
        name: of the file, without `.keras`.
        notebook: the one that writes it.

    Returns:
        `model`.

    Raises:
        FileNotFoundError: it isn't there yet.
        ValueError: the file isn't the one that the record knows, or holds other weights than this model's.
    """
    path = disk.require(folders.models / f"{name}.keras", notebook)
    remedy = f"run notebooks/{notebook} again, which writes it again"
    if not is_saved(folders, name):
        raise ValueError(f"{disk.display_path(path)} isn't the file that the run's record knows: {remedy}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # where a layer is missing in the file Keras only warns, and leaves it as it was
            model.load_weights(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, UserWarning) as error:
        raise ValueError(f"{disk.display_path(path)} doesn't hold the weights of this run's network: {remedy}.") from error
    return model


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
