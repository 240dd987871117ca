"""Where files live and how they're written: whole or absent, by one process at a time, with a sentence where they can't be.

A JSON file of this project holds a checksum of its own content. Any other file that a later step reads is known by its hash, which
stands in a JSON file of the step that wrote it, see `run.sign`.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from xraygan import keys

WHY_NOT_WRITTEN = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EFBIG: "it is larger than this disk or your account allows; choose another place with XRAYGAN_STORE",
    errno.EDQUOT: "your share of the disk is used up; free some space",
    errno.EROFS: "the folder is read-only; choose another place with XRAYGAN_STORE",
    errno.EACCES: "you may not write there; change its permissions or choose another place with XRAYGAN_STORE",
    errno.EPERM: "you may not write there; change its permissions or choose another place with XRAYGAN_STORE",
    errno.ENAMETOOLONG: "its name is too long for this disk; choose a shorter one, or a place nearer to the top with XRAYGAN_STORE",
    errno.EEXIST: "a file stands where a folder has to be; move it away",
    errno.ENOTDIR: "a file stands where a folder has to be; move it away",
    errno.EISDIR: "a folder stands where a file has to be; move it away",
    errno.ENOLCK: "this disk can't lock files; choose another place with XRAYGAN_STORE",
    errno.ENOSYS: "this disk can't lock files; choose another place with XRAYGAN_STORE",
    **dict.fromkeys(
        (errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT, errno.ENODEV, errno.EHOSTDOWN),
        "the disk doesn't answer; check it or choose another place with XRAYGAN_STORE",
    ),
}

CHECKSUM = "checksum"  # the entry of a JSON file that holds it

ROOT = Path(__file__).resolve().parent.parent
# Where data/, models/, images/ and results/ live (Drive, in Colab). One place for all processes, wherever each of them runs.
STORE = ROOT / os.path.expanduser(os.environ.get("XRAYGAN_STORE", ""))


def find_named(path, is_meant=os.path.exists):
    """What a user names: from where the process runs, from the project's folder or from the store; None where it's in none of them.

    Args:
        path: as the user writes it.
        is_meant: whether a path that is there is of the kind that is looked for, e.g. `os.path.isdir`.

    Raises:
        ValueError: it is in a folder that can't be opened.
    """
    path = os.path.expanduser(path)
    for option in (Path(path), ROOT / path, STORE / path):
        try:
            os.stat(option)
        except PermissionError as error:
            raise explain_closed(Path(path).name, error) from error
        except (OSError, ValueError):  # too long, or with a zero byte in it
            continue
        if is_meant(option):
            return option
    return None


def find_file(path):
    """The same for a file."""
    return find_named(path, os.path.isfile)


@contextlib.contextmanager
def read_errors_explained(name):
    """Turn what keeps the block from opening what a person calls `name` into one sentence, without the path that it has on this machine.

    Raises:
        ValueError: it can't be opened.
    """
    try:
        yield
    except OSError as error:
        raise explain_closed(name, error) from error


def explain_closed(name, error):
    """The error to raise where what a person calls `name` can't be opened."""
    is_closed = error.errno in (errno.EACCES, errno.EPERM)
    advice = (
        "change its permissions, or those of a folder above it" if is_closed else "check whether its disk is still connected"
    )
    return ValueError(f"{name} can't be opened ({error.strerror}); {advice}.")


@contextlib.contextmanager
def write_errors_explained(path):
    """Turn what keeps the block from writing to `path` into one sentence that says what to do, still an `OSError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in WHY_NOT_WRITTEN:
            raise
        reason = WHY_NOT_WRITTEN[error.errno]
        raise OSError(
            f"{display_path(path)} can't be written: {reason} and run this again, it goes on where it was."
        ) from error


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path` that takes its place when the block ends well: whole or absent, never half.

    Raises:
        OSError: the disk is full or read-only, in one sentence; what was at `path` is as before.
    """
    path = Path(path)
    # The suffix stays: savers choose the format by it. A long name is cut: together they'd be too long for a disk.
    draft = path.with_name(f".draft-{os.getpid()}-{path.name[-50:]}")
    try:
        with write_errors_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def copy_files(files, source, target):
    """Copy files below the folder `source` to the same places below `target`, each whole or not at all."""
    for file in files:
        with replacing(target / file.relative_to(source)) as draft:
            shutil.copyfile(file, draft)


class DamagedError(ValueError):
    """A file isn't what was written there."""


class OlderFormError(ValueError):
    """A file was written by an earlier version of this project, which noted no checksum."""


def write_json(path, content):
    """Write a dict as JSON with a checksum of itself, whole or not at all."""
    content = json.loads(json.dumps(content))  # as it will be read back
    with replacing(path) as draft:
        text = json.dumps(content | {CHECKSUM: keys.digest(content, 64)}, indent=1, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")


def read_json(path, may_be_older=True):
    """The content of one of a run's JSON files, a dict, if it is what `write_json` wrote.

    Args:
        path: the file.
        may_be_older: whether a file without a checksum is taken, as earlier versions of this project wrote it.

    Raises:
        FileNotFoundError: it isn't there yet.
        DamagedError: it is cut off or changed.
        OlderFormError: it has no checksum and needs one.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{display_path(path)} isn't there: run the notebooks in their order, 1, 2, 3, with the same DATA, PROFILE and RUN."
        )
    with read_errors_explained(display_path(path)):
        text = path.read_bytes() if path.is_file() else b""  # a folder in its place
    try:
        content = json.loads(text.decode())
        checksum = content.pop(CHECKSUM, None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:  # no JSON, or no dict
        raise DamagedError(f"{display_path(path)} is damaged: run the notebook that writes it again.") from error
    if checksum is None and not may_be_older:
        raise OlderFormError(
            f"{display_path(path)} is of an earlier version of this project: run the notebook that writes it again."
        )
    if checksum not in (None, keys.digest(content, 64)):
        raise DamagedError(f"{display_path(path)} was changed: run the notebook that writes it again.")
    return content


def hash_file(path):
    """The SHA-256 of a file's bytes, as `sha256sum` prints it; "" where there is no such file.

    Raises:
        ValueError: it can't be opened.
    """
    with read_errors_explained(display_path(path)):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def keep_most_recent(used, max_bytes):
    """Mark a file of a cache as just used, and delete the other files of its folder that were used longest ago until all fit into `max_bytes`."""
    with contextlib.suppress(OSError):  # a read-only cache, or another process deletes the same
        os.utime(used)
        files = sorted(
            ((path.stat(), path) for path in used.parent.iterdir() if path.is_file()), key=lambda file: -file[0].st_mtime
        )
        taken = 0
        for facts, path in files:
            taken += facts.st_size
            if taken > max_bytes and path != used:
                path.unlink()


def remove(path):
    """Delete a file, a link or, where one stands in a file's place, a folder with all in it; what isn't there is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_drafts(folder):
    """Delete what killed processes were writing in a folder; what another process is writing there stays."""
    for draft in Path(folder).glob(".draft-*"):
        writer = draft.name.split("-")[1]
        if not writer.isdecimal() or int(writer) == os.getpid() or not _is_running(int(writer)):
            draft.unlink(missing_ok=True)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it's another user's
        return True
    return True


@contextlib.contextmanager
def held(folder):
    """Keep `folder` to this process while the block runs; the hold ends with the process, however it dies.

    Raises:
        RuntimeError: another process holds it.
    """
    folder = Path(folder)
    busy = f"another process is at work in {display_path(folder)}: wait for it or stop it, or choose another name with RUN."
    with write_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock", folder, busy, seconds=0):
        yield


@contextlib.contextmanager
def in_turn(path):
    """Let one process after the other read and rewrite the file `path` in the block: each waits for those before it.

    Raises:
        RuntimeError: another process hasn't ended its block within a minute.
    """
    busy = f"another process is using {display_path(path)}: stop it, and run this again."
    with _locked(path.with_name(f".{path.name}.lock"), path, busy, seconds=60):
        yield


@contextlib.contextmanager
def _locked(file, what, busy, seconds):
    """Hold a lock's file while the block runs; `what` is locked by it, and `busy` is said where that takes longer than so many seconds."""
    lock = FileLock(file, timeout=seconds)
    with write_errors_explained(what):
        try:
            lock.acquire()
        except Timeout as error:
            raise RuntimeError(busy) from error
        except NotImplementedError as error:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from error
    try:
        yield
    finally:
        lock.release()


def require(path, notebook):
    """`path`, which `notebook` writes.

    Raises:
        FileNotFoundError: it isn't there yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{display_path(path)} isn't there: run notebooks/{notebook} first, with the same DATA, PROFILE and RUN."
        )
    return path


def display_path(path):
    """`path` as a reader of a notebook needs it: relative to the store, so that no machine's folders are printed."""
    path = Path(path).resolve()
    store = STORE.resolve()
    return path.relative_to(store).as_posix() if path.is_relative_to(store) else path.name
