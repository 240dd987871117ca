"""Where a notebook runs: Colab, Kaggle or elsewhere. What it lacks there, and where runs are kept when their machine is gone.

Both clouds give a machine that is deleted afterwards. A run is worked on there, where files are near, and kept elsewhere as four archives,
each written anew when something in it changed: on Google Drive, or in Kaggle's output, which the next notebook takes as its input.

This room needs nothing but Python, since it installs what is missing.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KAGGLE = Path("/kaggle")
DRIVE = Path("/content/drive")  # where Colab shows Google Drive
KEPT = "xraygan-runs"  # the folder of the kept runs, on Drive and in Kaggle's output
PARTS = {"models": "models", "images": "images", "generated": "data/generated", "results": "results"}  # archive: what is in it
STAMP = "saved.txt"  # when the run was kept
MARK = ".kept"  # beside a run's record: the stamp of the kept copy that this run was last saved to or restored from
SECONDS_BETWEEN_LOOKS = 60
IMPORT_NAMES = {  # what the notebooks import, by the name it's installed under; a cloud keeps its own version of what it has
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "kaggle": "kaggle",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "joblib": "joblib",
    "tqdm": "tqdm",
    "filelock": "filelock",
}
SECRETS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
NO_INTERNET = {
    "Kaggle": "turn on Internet among the notebook's settings, at the right (Kaggle asks for a telephone number once)",
    "Colab": "check the connection",
}


# The host


def find_host():
    """ "Kaggle", "Colab", or "" for any other place; Kaggle has Colab's package, too."""
    if {"KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE"} & set(os.environ) or (KAGGLE / "working").is_dir():
        return "Kaggle"
    return "Colab" if _can_import("google.colab") else ""


def prepare(drive=False):
    """In Colab and Kaggle install what doesn't import, take over the runs that were kept, and keep this one; anywhere else do nothing.

    Call before `disk` is imported: it reads `XRAYGAN_STORE` on import.

    Args:
        drive: whether runs are kept on Google Drive, in Colab.
    """
    host = find_host()
    if not host:
        return
    _install(missing_requirements(), host)
    if host == "Kaggle":  # what lies in its output folder is stored with the notebook, and its inputs can't be written to
        os.environ.setdefault("XRAYGAN_STORE", str(Path(tempfile.gettempdir()) / "xraygan"))
    store = ROOT / os.path.expanduser(os.environ.get("XRAYGAN_STORE", ""))  # as disk.STORE will be
    kept = _find_kept(host, drive)
    if kept is None:
        print("Colab deletes this machine and all results after you leave; DRIVE = True above keeps them on Google Drive.")
        return
    inputs = [*KAGGLE.glob(f"input/*/{KEPT}"), *KAGGLE.glob(f"input/*/*/*/{KEPT}")] if host == "Kaggle" else []
    for run in restore(store, [kept, *inputs]):
        print(f"A kept copy of the run {run} was found: it goes on from there.")
    where = {"Colab": "on Google Drive", "Kaggle": "in this notebook's output; add that as an input of the next notebook"}
    print(f"Runs are kept in the folder {KEPT} {where[host]}.")
    _start(Keeper(store, kept))


def _find_kept(host, drive):
    """The folder that runs are kept in; None where they aren't."""
    if host == "Kaggle":
        return KAGGLE / "working" / KEPT
    if not drive:
        return None
    from google.colab import drive as google_drive

    try:
        google_drive.mount(str(DRIVE))
    except Exception as error:
        sys.exit(f"Google Drive can't be reached ({error}): run this cell again and allow it, or set DRIVE = False above.")
    return DRIVE / "MyDrive" / KEPT


def explain_missing_run():
    """What to do where a notebook finds no run of the first one, as the end of a sentence."""
    if find_host() == "Colab":
        return (
            "each notebook in Colab has a machine of its own. Set DRIVE = True in the first cell of all three and run 1_before_gan.ipynb "
            "first, with the same DATA, PROFILE and RUN."
        )
    if find_host() == "Kaggle":
        return "run 1_before_gan.ipynb, save it (Save Version), and add its output here (Add Input, Your Work)."
    return "run notebooks/1_before_gan.ipynb first, with the same DATA, PROFILE and RUN."


# Packages and secrets


def missing_requirements():
    """The pinned requirement of each package that the notebooks import and that isn't here, e.g. ["filelock==4.2.12"]."""
    pins = re.findall(r"^([a-z-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [f"{name}=={version}" for name, version in pins if name in IMPORT_NAMES and not _can_import(IMPORT_NAMES[name])]


def _install(missing, host):
    if not missing:
        return
    print(f"installing {', '.join(missing)}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", *missing]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        sys.exit(f"{', '.join(missing)} can't be installed: {NO_INTERNET[host]} and run this cell again. pip says: {said}")
    importlib.invalidate_caches()


def _can_import(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it's in
        return False


def read_kaggle_token():
    """Kaggle's token as {variable: value}, where it's among Colab's Secrets and the notebook may read it."""
    found = {}
    if find_host() == "Colab":
        from google.colab import userdata

        for name in SECRETS:
            with contextlib.suppress(Exception):  # each reason has an error of its own
                found[name] = userdata.get(name)
    return found


# Keeping runs


class Keeper:
    """Keeps the runs of a store as archives in a folder that outlives the machine."""

    def __init__(self, store, kept):
        """
        Args:
            store: the folder that holds models/, images/, results/ and data/.
            kept: where each run has a folder with an archive of each of `PARTS`.
        """
        self.store, self.kept = store, kept
        self.seen = {}  # {archive: the files that it was made of}
        self.given_up = set()  # runs that another machine has kept since
        self.lock = threading.Lock()

    def keep(self):
        """Write the archives in which something has changed since. A disk that can't be written to is one sentence."""
        try:
            with self.lock:
                for record in sorted(self.store.glob("results/*/record.json")):
                    self._keep_run(record.parent.name)
        except OSError as error:
            print(f"This run isn't kept in {self.kept.name} now: {error.strerror}. It goes on, and keeping it is tried again.")

    def _keep_run(self, run):
        folder, changed = self.kept / run, {}
        for part, place in PARTS.items():
            archive, files = folder / f"{part}.zip", _list_finished(self.store / place / run)
            if files and self.seen.get(archive) != files:
                changed[archive] = files
        if not changed or run in self.given_up or self._is_of_another_machine(run):
            return
        if not folder.is_dir():  # asking costs Drive less than trying
            folder.mkdir(parents=True)
        for archive, files in changed.items():
            _write_archive(archive, self.store / PARTS[archive.stem] / run, files)
            self.seen[archive] = files
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        (folder / STAMP).write_text(now)
        (self.store / "results" / run / MARK).write_text(now)

    def _is_of_another_machine(self, run):
        """Whether the kept copy is another one than was kept or restored here, which must not be written over; then says so, once."""
        stamp, mark = self.kept / run / STAMP, self.store / "results" / run / MARK
        if not stamp.exists() or (mark.exists() and mark.read_text() == stamp.read_text()):
            return False
        self.given_up.add(run)
        print(
            f"The run {run} isn't kept from here any more, since another notebook has kept a newer copy of it: disconnect and delete this "
            "machine and start the notebook again, which goes on from that copy, or choose another name with RUN."
        )
        return True

    def keep_on(self):
        """Keep, look again, and so on."""
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self.keep()


_started = set()  # folders that runs of this process are kept in


def _start(keeper):
    """Keep runs at the end of every cell, and while a long one is at work; once, however often the first cell is run."""
    from IPython import get_ipython

    if keeper.kept in _started:
        return
    _started.add(keeper.kept)

    if shell := get_ipython():
        shell.events.register("post_run_cell", lambda result: keeper.keep())
    threading.Thread(target=keeper.keep_on, daemon=True).start()


def _list_finished(folder):
    """{file: its size and time} of all files but drafts, locks and the states of trainings that aren't finished, which are large and many."""
    at_work = [state.parent for state in folder.rglob("parameters.json") if not _is_finished(state.parent)]
    files = {}
    for file in folder.rglob("*"):
        inside = file.relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts) and not any(file.is_relative_to(state) for state in at_work):
            with contextlib.suppress(FileNotFoundError):  # a newer has just taken its place
                if file.is_file():
                    files[inside] = file.stat().st_size, file.stat().st_mtime_ns
    return files


def _is_finished(state_folder):
    """Whether a training's state is what `training.SavedState.drop` leaves: one without arrays."""
    with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
        for file in state_folder.glob("epoch_*.npz"):
            with zipfile.ZipFile(file) as state:
                return not any(name.startswith("arr_") for name in state.namelist())
    return False


def _write_archive(archive, source, files):
    """Made on this machine, then copied in one go: whole or absent."""
    with tempfile.TemporaryDirectory() as folder:
        made, draft = Path(folder) / archive.name, archive.with_name(f".draft-{archive.name}")
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
            for file in sorted(files):
                with contextlib.suppress(FileNotFoundError):
                    opened.write(source / file, file)
        shutil.copyfile(made, draft)
        draft.replace(archive)


def restore(store, places):
    """Unpack the runs that are kept and aren't in the store; returns their names.

    Args:
        store: the folder that holds models/, images/, results/ and data/.
        places: folders of kept runs; of one that is in several the newest is taken.
    """
    newest = {}
    for stamp in [stamp for place in places for stamp in place.glob(f"*/{STAMP}")]:
        when, run = stamp.read_text(), stamp.parent.name
        if when > newest.get(run, ("", None))[0] and not (store / "results" / run / "record.json").exists():
            newest[run] = when, stamp.parent
    for run, (stamp, folder) in newest.items():
        for part, place in PARTS.items():  # results come last: a run without them is unpacked again
            _unpack(folder / part, store / place / run)
        if (results := store / "results" / run).is_dir():
            (results / MARK).write_text(stamp)
    return sorted(newest)


def _unpack(kept, target):
    """Unpack `kept`.zip, or copy the folder `kept` where the cloud has unpacked it already; whole or not at all."""
    archive, draft = kept.with_name(f"{kept.name}.zip"), target.with_name(f".draft-{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        if archive.is_file():
            shutil.unpack_archive(archive, draft)
        elif kept.is_dir():
            shutil.copytree(kept, draft)
        else:
            return
    except (shutil.ReadError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        sys.exit(f"{KEPT}/{kept.parent.name}/{archive.name} is broken ({error}): delete that folder and run notebook 1 again.")
    shutil.rmtree(target, ignore_errors=True)
    draft.replace(target)
