"""What the tests share. Real images are read only where XRAY_DATA_DIR names them, and none is ever written anywhere."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

STORE = Path(tempfile.mkdtemp(prefix="xraygan-tests-"))
os.environ["XRAYGAN_STORE"] = str(STORE)  # before xraygan is imported: nothing a test does touches the repository's folders

import keras
import numpy as np
import pytest
import yaml
from hypothesis import settings

from xraygan import backend, disk, run
from xraygan.comparison import workers
from xraygan.data import phantom, sources

settings.register_profile("ours", deadline=None)  # a first call imports what it needs, and another job may hold a core
settings.load_profile("ours")
backend.configure()  # as the notebooks do: the fast precision of this machine, deterministic

TINY_COUNTS = {
    "train": {"NORMAL": 40, "COVID19": 38, "PNEUMONIA": 60},
    "test": {"NORMAL": 12, "COVID19": 10, "PNEUMONIA": 16},
}


LONG_FILES = (
    "test_notebooks",
    "test_units",
    "test_provenance",
    "test_kills",
    "test_processes",
    "test_imported",
    "test_benchmarks",
)


def pytest_collection_modifyitems(items):
    """The files that take longest come first: begun last, one of them would keep one core waiting for the other."""
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


def pytest_sessionfinish():
    shutil.rmtree(STORE, ignore_errors=True)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    """A small phantom: 176 drawings in the layout of the Kaggle set."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    phantom.write_phantom(folder, TINY_COUNTS, show_progress=False)
    return folder


@pytest.fixture(scope="session")
def phantom_images(phantom_folder):
    """The small phantom's NORMAL and COVID19, read."""
    return sources.read_images(sources.find_source(str(phantom_folder)), show_progress=False)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real radiographs that XRAY_DATA_DIR names; tests that need it are skipped without it."""
    folder = os.environ.get("XRAY_DATA_DIR")
    if not folder:
        pytest.skip("XRAY_DATA_DIR names no folder of real radiographs")
    return Path(folder)


@contextlib.contextmanager
def one_process():
    """Units are trained in the test's own process: starting others takes longer than trainings as small as the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "count_local_jobs", lambda study: 1)
        yield


def require_papermill():
    """Skip what starts notebooks/run.py in an environment, like Colab's, that lacks it."""
    return pytest.importorskip("papermill", reason="papermill, which runs the notebooks, isn't installed")


@pytest.fixture(scope="session")
def run_notebooks():
    """notebooks/run.py as a module."""
    require_papermill()
    spec = importlib.util.spec_from_file_location("run_notebooks", disk.ROOT / "notebooks" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def compute_in(precision):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    yield
    keras.mixed_precision.set_global_policy(before)


@pytest.fixture
def float32():
    with compute_in("float32"):
        yield


@pytest.fixture
def float16():
    with compute_in("mixed_float16"):
        yield


SMALL_PROFILE = {
    "image_size": 32,
    "max_train_images": 60,
    "classifier_epochs": 2,
    "classifier_updates": 0,
    "classifier_patience": 2,
    "gan_updates": 4,
    "gan_sample_every": 4,
    "num_fakes": 12,
    "arms": ["nothing", "oversampling", "gan"],
    "num_seeds": 3,
}


def write_profile(**changes):
    """The text of a profile of a few updates on small pictures, with what a test changes of it or adds."""
    return yaml.safe_dump(SMALL_PROFILE | changes)


@pytest.fixture
def folders(tmp_path):
    return run.open_folders("test-run", tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a tmpfs of some size; unmounted after the test."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting isn't allowed here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
