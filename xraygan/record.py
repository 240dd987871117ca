"""The run's record: what was asked for, on which data and machine, and what it took."""

import contextlib
import json
import time

from xraygan import backend, disk

ADDED = ("parts", "models")  # what a record gains as the run goes on
MAY_CHANGE = ("profile", "machine")  # what may be different when notebook 1 runs again: more epochs or seeds, another computer


def write_json(path, content):
    with disk.replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path):
    """The content of one of the run's JSON files.

    Raises:
        FileNotFoundError: it isn't there yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{disk.display_path(path)} isn't there: run the notebooks in their order, 1, 2, 3, same DATA, PROFILE and RUN."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def rows_of(table):
    """A DataFrame as JSON takes it: a dict a row, what is missing None."""
    return json.loads(table.to_json(orient="records", double_precision=6))


def start_record(folders, **content):
    """Write `results/RUN/record.json` before any training; `add` notes below "parts" what each took, below "models" each file's hash.

    What an earlier call of the same run noted is kept, so that a training in several goes is counted whole.

    Raises:
        ValueError: a run of this name has trained models of other images, classes or settings.
    """
    path = folders.results / "record.json"
    content = json.loads(json.dumps(content))  # as it will be read back
    earlier = read_json(path) if path.exists() else {}
    added = {kind: earlier.pop(kind, {}) for kind in ADDED}
    changed = [key for key in content if key not in MAY_CHANGE and earlier.get(key) != content[key]]
    if precision_of(earlier) != precision_of(content):
        changed.append("precision")
    if changed and added["models"]:
        raise ValueError(
            f"the run {folders.run} was made with another {', '.join(changed)}: choose another name with RUN, or delete "
            f"{disk.display_path(folders.results)} and {disk.display_path(folders.models)} to make it anew."
        )
    write_json(path, content | ({kind: {} for kind in ADDED} if changed else added))


def precision_of(notes):
    """The precision that a record's models were trained in; None before it says so."""
    return notes.get("machine", {}).get("precision")


def add(folders, kind, name, note):
    """Note something that came after the record was started: `record[kind][name] = note`, with `kind` one of `ADDED`."""
    notes = read_record(folders)
    notes[kind][name] = note
    write_json(folders.results / "record.json", notes)


def read_record(folders):
    """The record that notebook 1 wrote.

    Raises:
        FileNotFoundError: there is none yet.
    """
    return read_json(folders.results / "record.json")


def require_same_data(record, image_set):
    """Stop where the images are no longer those of the record.

    Raises:
        ValueError: they differ.
    """
    if record["data"]["fingerprint"] != image_set.fingerprint:
        raise ValueError(
            "DATA isn't what notebook 1 saw: other files, or other bytes. Run notebooks/1_before_gan.ipynb again, or give RUN a new name."
        )


@contextlib.contextmanager
def measured(folders, part):
    """Add the seconds of the block and the process's peak memory so far to the record's `part`, also when the block is cut off."""
    start = time.perf_counter()
    try:
        yield
    finally:
        earlier = read_record(folders)["parts"].get(part, {"seconds": 0, "peak_memory_gb": 0})
        cost = {
            "seconds": round(earlier["seconds"] + time.perf_counter() - start, 1),
            "peak_memory_gb": max(earlier["peak_memory_gb"], round(backend.peak_memory_gb(), 2)),
        }
        add(folders, "parts", part, cost)
