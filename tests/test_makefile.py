"""What a user sees when the set-up can't work: one clear sentence."""

import os
import shutil
import subprocess

import pytest

from xraygan import disk


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that the set-up reads, and no .venv."""
    for name in ("Makefile", "requirements.lock", "requirements.txt"):
        shutil.copy(disk.ROOT / name, tmp_path)
    return tmp_path


def make(checkout, python, path_first=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PIP_"))}
    if path_first:
        environment["PATH"] = f"{path_first}:{environment['PATH']}"
    return subprocess.run(
        ["make", "study", f"PYTHON={python}"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def fake_python(folder, body):
    path = folder / "fake-python"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["3.10.4", "3.14.0"])
def test_wrong_python(checkout, version):
    python = fake_python(checkout, f'case "$1" in --version) echo "Python {version}";; *) exit 1;; esac\n')
    done = make(checkout, python)
    assert done.returncode != 0
    assert f"This project needs Python 3.11, 3.12 or 3.13, and '{python}' is Python {version}" in done.stdout


def test_no_python_at_all(checkout):
    done = make(checkout, "no-such-python")
    assert "This project needs Python 3.11, 3.12 or 3.13" in done.stdout


def test_no_venv_module(checkout):
    python = fake_python(checkout, 'case "$2" in venv) exit 1;; *) exit 0;; esac\n')
    done = make(checkout, python)
    assert "install Python's venv module" in done.stdout
    assert not (checkout / ".venv").exists()


def test_no_network(checkout):
    """pip is sent to a port where nothing listens."""
    (checkout / "pip.conf").write_text(
        "[global]\nindex-url = http://127.0.0.1:9/simple\nextra-index-url =\nno-cache-dir = true\nretries = 0\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PIP_"))}
    environment |= {"PIP_CONFIG_FILE": str(checkout / "pip.conf"), "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}
    done = subprocess.run(
        ["make", "study"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    assert "check the network connection and run make again" in done.stdout
    assert not (checkout / ".venv" / "installed").exists()
