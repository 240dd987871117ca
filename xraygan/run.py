"""A run: its folders, its record (what was asked for, on which data and machine, what it took), and the files that it is known by.

Each file that a later notebook reads stands in the record with its hash and with what it was made from. Whoever reads one asks
`require_signed`, which answers in one sentence: what was changed, and which notebook to run again.
"""

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

import utils
from xraygan import clouds, disk

NOTEBOOK_1, NOTEBOOK_2, NOTEBOOK_3 = NOTEBOOKS = ("1_before_gan.ipynb", "2_gan_training.ipynb", "3_after_gan.ipynb")
GROWING = ("costs", "files")  # what a record gains as the run goes on, entry by entry
GAINED = (*GROWING, "recipe", "imported")  # and what notebook 1 keeps of it when it runs again
SPLIT = "split.csv"  # all that a run makes is made from it
PUBLISHED = disk.ROOT / "results" / "published"  # the committed numbers of some runs
NO_RUNS = ("published", "readme", "readme.md")  # names that stand in those folders already; some disks don't tell A from a
# What may differ when notebook 1 runs again: more replicates or updates of a GAN, another computer.
MAY_CHANGE = ("profile", "machine")


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
    folders = name_folders(run, store)
    folders.make()
    return folders


def name_folders(run, store=None):
    """The same folders, whether they are there or not."""
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
    folders = name_folders(run, store)
    there = [folder for folder in folders.list_all() if folder.is_dir() or folder.is_symlink()]
    if not there:
        raise ValueError(f"there is no run {run!r}; there are: {', '.join(list_runs(store)) or 'none'}.")
    for lock in [lock for folder in there for lock in folder.rglob(".lock")]:
        with disk.held(lock.parent):
            pass
    freed = sum(map(_count_bytes, there))
    for folder in there:
        with disk.write_errors_explained(folder):
            if folder.is_dir():
                shutil.rmtree(folder.resolve())
            disk.remove(folder)  # a link to what was deleted
    return freed


def _count_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# The record


def start_record(folders, **content):
    """Write `results/RUN/record.json` before any training.

    Below "costs" the record gains what each training took, below "files" what later notebooks read. What an earlier call of the
    same run noted there is kept, so that a training in several goes is counted whole.

    Raises:
        ValueError: a run of this name has trained models of other images, classes or settings.
    """
    with disk.in_turn(folders.results / "record.json"):
        earlier = require_startable(folders, **content)
        gained = {kind: earlier[kind] for kind in GAINED if kind in earlier}
        if _list_changed(earlier, content):
            gained = {}
        elif _has_results(folders, earlier) and (sentence := describe_other_packages(earlier, content.get("machine", {}))):
            print(sentence)
        disk.write_json(folders.results / "record.json", {kind: {} for kind in GROWING} | content | gained)


def require_startable(folders, **content):
    """Stop where a run of this name has trained models of something else; returns its record, {} where there is none.

    Args:
        folders: `RunFolders`.
        content: what `start_record` will be given, as far as it's known; what isn't named isn't compared, in dicts neither.

    Raises:
        ValueError: as in `start_record`.
    """
    earlier = _read_earlier_record(folders.results / "record.json")
    changed = _list_changed(earlier, content)
    if changed and _has_results(folders, earlier):
        made = f"is a copy of the run {earlier['run']}" if "run" in changed else f"was made with another {', '.join(changed)}"
        raise ValueError(
            f"the run {folders.run} {made}: choose another name with RUN, or delete "
            f"{disk.display_path(folders.results)} and {disk.display_path(folders.models)} to make it again from the start."
        )
    return earlier


def _list_changed(earlier, content):
    """The names of what an earlier record says otherwise."""
    content = json.loads(json.dumps(content))  # as it will be read back
    changed = [name for name in content if name not in MAY_CHANGE and not _agree(earlier.get(name), content[name])]
    backends = {record.get("machine", {}).get("backend") for record in (earlier, content)} - {None}
    return (
        changed + ["precision"] * (get_precision(earlier) != get_precision(content)) + ["KERAS_BACKEND"] * (len(backends) > 1)
    )


def _agree(earlier, now):
    if isinstance(earlier, dict) and isinstance(now, dict):
        return all(earlier.get(name) == now[name] for name in now)
    return earlier == now


def _has_results(folders, record):
    """Whether a training is finished, or a model there that a record knows; below "models" earlier versions noted them."""
    if record and any((folders.results / "units").glob("*/[!.]*.json")):  # without a record nobody knows what they are of
        return True
    known = {f"{name}.keras": value for name, value in record.get("models", {}).items()}
    known |= {name: entry["sha256"] for name, entry in record.get("files", {}).items()}
    return any(name.endswith(".keras") and disk.hash_file(folders.models / name) == value for name, value in known.items())


def _read_earlier_record(path):
    """The record that is there, also one of an earlier version; a damaged one counts as none, with a sentence."""
    try:
        return disk.read_json(path)
    except FileNotFoundError:
        return {}
    except disk.DamagedError:
        print(f"{disk.display_path(path)} was damaged: it is written anew, and results that can't be checked are made again.")
        return {}


def read_record(folders):
    """The record that notebook 1 wrote.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: it's damaged, of another run, or of an earlier version of this project.
    """
    path = folders.results / "record.json"
    try:
        record = disk.read_json(path, may_be_older=False)
    except disk.OlderFormError:
        wrong = "is of an earlier version of this project"
    except disk.DamagedError:
        wrong = "is damaged"
    else:
        if record.get("run", folders.run) == folders.run:
            return record
        raise disk.DamagedError(
            f"{disk.display_path(path)} is that of the run {record['run']}, so these folders are a copy: give RUN that name, or delete the copy."
        )
    raise disk.DamagedError(f"{disk.display_path(path)} {wrong}: run notebooks/{NOTEBOOK_1} again, then the others.")


def note(folders, **entries):
    """Add entries to the record, e.g. `note(folders, recipe=…)`; a dict below `costs` or `files` is merged with what is there, None removes."""
    with disk.in_turn(folders.results / "record.json"):  # two notebooks may be at work in one run
        record = read_record(folders)
        for key, value in json.loads(json.dumps(entries)).items():
            record[key] = record[key] | value if key in GROWING else value
        disk.write_json(folders.results / "record.json", {key: value for key, value in record.items() if value is not None})


def require_begun(run):
    """Stop where notebook 1 hasn't left a run of this name, or any where "" leaves the name open; called before any work.

    Raises:
        FileNotFoundError: in one sentence, with the likely cause on this host.
    """
    results = disk.STORE / "results"
    begun = [path.parent.name for path in results.glob("*/record.json") if path.parent.name not in NO_RUNS]
    if run not in begun and (run or not begun):
        missing = f"the run {run}" if run else "a run of notebook 1"
        raise FileNotFoundError(f"{missing} isn't on this machine: {clouds.explain_missing_run()}")


def is_deterministic(record):
    """Whether a record's trainings are to give the same numbers again."""
    return record.get("machine", {}).get("deterministic", True)


def sign(folders, path, **made_from):
    """Note in the record a file that later notebooks read: its hash, and what it was made from, by name; always also from the split."""
    files = read_record(folders)["files"]
    entry = {"sha256": disk.hash_file(path), "made_from": _add_split(files, path, made_from)}
    note(folders, files={path.name: entry})


def _add_split(files, path, made_from):
    return made_from | ({SPLIT: files[SPLIT]["sha256"]} if SPLIT in files and path.name != SPLIT else {})


def is_signed(folders, path):
    """Whether a file is there and is the one that the record knows."""
    entry = read_record(folders)["files"].get(path.name)
    return entry is not None and disk.hash_file(path) == entry["sha256"]


def require_signed(folders, path, notebook, **made_from):
    """`path`, if it's the file that the record knows, and was made from what there is now.

    Args:
        folders: `RunFolders`.
        path: the file.
        notebook: the one that writes it.
        made_from: what it has to have been made from, as it was given to `sign`; beside the split, what isn't named isn't compared.

    Raises:
        FileNotFoundError: it isn't there yet.
        ValueError: it was changed, or was made from something else.
    """
    shown = disk.display_path(disk.require(path, notebook))
    files = read_record(folders)["files"]
    entry = files.get(path.name)
    if entry is None or disk.hash_file(path) != entry["sha256"]:
        raise disk.DamagedError(
            f"{shown} isn't the file that the run's record knows: run notebooks/{notebook} again, which writes it again."
        )
    needed = _add_split(files, path, made_from)
    changed = [name for name, value in needed.items() if entry["made_from"].get(name) != value]
    if changed:
        raise ValueError(
            f"{shown} was made from another {' and '.join(changed)} than there is now: run notebooks/{notebook} again."
        )
    return path


def write_table(table, folders, name, **made_from):
    """Write a DataFrame to `results/RUN/NAME` for others to read, and `sign` it."""
    path = folders.results / name
    utils.write_table(table, path)
    sign(folders, path, **made_from)


def read_table(folders, name, notebook, **made_from):
    """What `write_table` wrote.

    Raises:
        FileNotFoundError: it isn't there yet.
        ValueError: it was changed, or was made from something else.
    """
    return utils.read_table(require_signed(folders, folders.results / name, notebook, **made_from))


def describe_other_packages(record, machine):
    """A sentence where a run goes on with other versions of packages, or of Python, than it began with; else ""."""
    before, now = (known.get("machine", {}).get("packages", {}) for known in (record, {"machine": machine}))
    changed = [f"{name} {before[name]}, now {now.get(name, 'none')}" for name in before if before[name] != now.get(name)]
    if not changed:
        return ""
    return f"This run began with {'; '.join(changed)}: numbers may differ in their last digits from those that were trained before."


def get_precision(record):
    """The precision that a record's models were trained in; None before it says so."""
    return record.get("machine", {}).get("precision")


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


def save_model(model, folders, name, **made_from):
    """Write `models/RUN/NAME.keras` in the native Keras format, whole or not at all, and sign it."""
    disk.remove_drafts(folders.models)
    path = folders.models / f"{name}.keras"
    with disk.replacing(path) as draft:
        model.save(draft)
    sign(folders, path, **made_from)


def is_saved(folders, name):
    """Whether `models/RUN/NAME.keras` is there and is the file that the record knows."""
    return is_signed(folders, folders.models / f"{name}.keras")


def load_weights(model, folders, name, notebook, **made_from):
    """Give a model that was built in code the weights that `save_model` wrote.

    What the file says of its own layers is never read: a saved model may name code to run. Keras itself refuses weights that
    point to other files.

    Args:
        model: of the architecture that was saved.
        folders: `RunFolders`.
        name: of the file, without `.keras`.
        notebook: the one that writes it.
        made_from: as for `require_signed`.

    Returns:
        `model`.

    Raises:
        FileNotFoundError: it isn't there yet.
        ValueError: the file isn't the one that the record knows, was made from something else, or holds other weights than this model's.
    """
    path = require_signed(folders, folders.models / f"{name}.keras", notebook, **made_from)
    try:
        with warnings.catch_warnings():
            # Where a layer is missing in the file Keras only warns, and leaves it as it was.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, UserWarning) as error:
        raise ValueError(
            f"{disk.display_path(path)} doesn't hold the weights of this run's network: run notebooks/{notebook} again, which writes it again."
        ) from error
    return model
