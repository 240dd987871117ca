"""The oldest, the newest and every supported Python that is here: installed from the lock as a new user does, then tried."""

import shutil
import subprocess
from pathlib import Path

import pytest

from xraygan import disk

TRIED = (
    "test_utils.py",
    "test_run.py",
    "test_classifier.py",
    "test_bad_input.py",
    "test_verdict.py",
    "test_notebooks.py",
)


def find_python(version):
    """An interpreter of this version that starts, from the PATH or from pyenv; None if there is none."""
    named = shutil.which(f"python{version}")
    for path in [named, *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]:
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_installs_and_runs_on(version, tmp_path):
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(disk.ROOT), str(clone)], check=True)
    made = subprocess.run(
        ["make", ".venv/installed", f"PYTHON={python}"], cwd=clone, capture_output=True, text=True, timeout=900, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    command = [".venv/bin/python", "-m", "pytest", *(f"tests/{name}" for name in TRIED), "-k", "not real"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=1200, check=False)
    print(f"Python {version}: {done.stdout.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout[-5000:]
