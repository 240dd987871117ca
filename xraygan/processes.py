"""Processes: a worker ends with its parent, and `make study` starts free of other programs' settings and ends with one sentence."""

import codecs
import contextlib
import ctypes
import fcntl
import locale
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 1
PR_SET_PDEATHSIG = 1  # of Linux' prctl: the signal that a process gets when what started it dies
LONGEST_PLACE = 60  # letters; below it stand sockets, whose whole path may have 103
STOPPED = "\nStopped. What was finished is kept: run the same command again, and everything goes on from where it was.\n"
OTHER_PROGRAMS = ("PYTHON", "JUPYTER", "IPYTHON", "JPY_", "MPLBACKEND", "MATPLOTLIBRC")  # whose variables begin so
OURS = {
    "PYTHONUTF8": "1",  # files' names and contents don't depend on the terminal's language
    "PYTHONSAFEPATH": "1",  # a file called random.py in the folder that one happens to be in isn't imported
    "PYTHONWARNINGS": "ignore::UserWarning:joblib.externals.loky.backend.resource_tracker",  # it tidies up after a kill and says so
}


# Workers


@contextlib.contextmanager
def side_by_side():
    """Let what `joblib.Parallel` starts in the block end with the block, or soon after this process, however that dies."""
    import joblib  # here, since `start_clean` comes before any package
    from joblib.externals.loky import get_reusable_executor

    try:
        with joblib.parallel_config("loky", initializer=end_with_parent, initargs=(os.getpid(),)):
            yield
    finally:
        get_reusable_executor(reuse=True).shutdown()


def end_with_parent(parent):
    """Let this process end soon after its parent, however that dies: a child doesn't otherwise learn of it.

    Linux ends it at once. Elsewhere, or where the parent is dead already, a thread looks again and again; while TensorFlow loads it may be late.
    Ctrl-C is left to the parent, too: a terminal sends it to all of them.

    Args:
        parent: the parent's process number, as the parent knows it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


# A run


def start_clean():
    """Start this program again where the environment holds other programs' settings, and prepare what it needs to end well.

    An old package in PYTHONPATH, a kernel in JUPYTER_PATH, an IDE's MPLBACKEND or a start-up file of IPython would otherwise decide what
    the notebooks compute or show. Call it first of all.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OTHER_PROGRAMS)} | OURS
    if clean != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], clean)
    _stop_with_a_sentence()
    terminal = codecs.lookup(locale.getencoding()).name
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal doesn't have becomes "?"
        stream.reconfigure(encoding="utf-8" if terminal == "ascii" else terminal, errors="replace")


def _stop_with_a_sentence():
    """On Ctrl-C, SIGTERM and a closed terminal say one sentence and end; the notebook's process and its workers see it and end, too."""

    def stop(number, frame):
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), STOPPED.encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` has it ignored
            signal.signal(number, stop)


@contextlib.contextmanager
def private_folder():
    """A folder for what the notebook's process and its workers leave: sockets, start-up files, histories; the user's own aren't read.

    It goes at the end; after a kill the next run removes it. Its path is short, since that of a socket may have about a hundred letters.
    """
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= LONGEST_PLACE else "/tmp"
    for left in Path(place).glob("xraygan-run-*"):
        with contextlib.suppress(OSError), _held_alone(left):  # else another run is at work in it
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="xraygan-run-", dir=place, ignore_cleanup_errors=True) as name, _held_alone(name):
        for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JOBLIB_TEMP_FOLDER"):
            os.environ[variable] = name
        tempfile.tempdir = name  # there Jupyter describes its sockets
        try:
            yield Path(name)
        finally:
            tempfile.tempdir = None


@contextlib.contextmanager
def _held_alone(folder):
    """Hold a folder while the block runs, or until this process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def connected(scheduler):
    """Be connected to a Dask scheduler while the block runs.

    Args:
        scheduler: its address, "tcp://…".

    Raises:
        ValueError: none answers there, or its workers run several threads each.
    """
    from dask.distributed import Client  # here, since most never need a cluster

    try:
        client = Client(scheduler, timeout=20)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"SCHEDULER is {scheduler!r}, and no scheduler answers there: {error}. Start one with dask scheduler and give its address, or leave SCHEDULER out."
        ) from error
    with client:
        if not client.nthreads():
            raise ValueError(
                f"SCHEDULER is {scheduler!r}, and it has no workers: start some with dask worker {scheduler} --nthreads 1."
            )
        if set(client.nthreads().values()) - {1}:
            raise ValueError(
                "SCHEDULER's workers run several threads each, which would share TensorFlow's settings: start them with --nthreads 1."
            )
        yield
