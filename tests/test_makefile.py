"""What a user sees when the set-up can't work: one clear sentence. And what is given to make arrives as it was given."""

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


def make(checkout, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PIP_"))}
    return subprocess.run(
        ["make", *map(str, arguments)],
        cwd=checkout,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def write_program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["3.10.4", "3.14.0"])
def test_wrong_python(checkout, version):
    python = write_program(checkout / "fake python", f'case "$1" in --version) echo "Python {version}";; *) exit 1;; esac\n')
    done = make(checkout, "study", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"This project needs Python 3.11, 3.12 or 3.13, and '{python}' is Python {version}" in done.stdout


def test_no_python_at_all(checkout):
    done = make(checkout, "PYTHON=no-such-python")
    assert "This project needs Python 3.11, 3.12 or 3.13" in done.stdout


def test_no_venv_module(checkout):
    python = write_program(checkout / "python", 'case "$2" in venv) echo "no ensurepip here"; exit 1;; *) exit 0;; esac\n')
    done = make(checkout, f"PYTHON={python}")
    assert done.stdout.startswith("no ensurepip here\n"), "its own message"
    assert "apt install python3-venv" in done.stdout
    assert not (checkout / ".venv").exists()


def test_no_network(checkout):
    """pip is sent to a port where nothing listens."""
    (checkout / "pip.conf").write_text(
        "[global]\nindex-url = http://127.0.0.1:9/simple\nextra-index-url =\nno-cache-dir = true\nretries = 0\n"
    )
    done = make(checkout, PIP_CONFIG_FILE=str(checkout / "pip.conf"), PIP_NO_INDEX="0", PIP_FIND_LINKS="")
    assert done.returncode != 0
    assert "NewConnectionError" in done.stdout and "ERROR: No matching distribution found" in done.stdout, "pip's own words"
    assert "Installing failed; pip's own message is above" in done.stdout
    assert not (checkout / ".venv" / "installed").exists()


@pytest.fixture
def installed(checkout):
    """A checkout whose Python prints what it's called with."""
    write_program(checkout / ".venv" / "bin" / "python", 'case "$2" in -c) echo 1;; *) printf "%s\\0" "$@";; esac\n')
    shutil.copy(checkout / "requirements.lock", checkout / ".venv" / "installed")
    return checkout


def given(done):
    """The options that run.py was started with."""
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\0")
    assert words[0] == "notebooks/run.py"
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.mark.parametrize("value", [
    "`touch harm`", "$(touch harm)", "$(shell touch harm)", "a$b$$c${HOME}", 'say "hi"; touch harm', "it's", "two  blanks ",
    "two\nlines", "#1 \\", "{r}", "*", "~", "--refresh", "한글", "a=b", "; touch harm", "|", "%",
])  # fmt: skip
@pytest.mark.parametrize("name", ["DATA", "SWEEPS", "FAKES"])
def test_a_value_arrives_as_it_was_given(installed, name, value):
    before = sorted(path.name for path in installed.iterdir())
    assert given(make(installed, "study", f"{name}={value}"))[f"--{name.lower()}"] == value
    assert sorted(path.name for path in installed.iterdir()) == before


def test_the_environments_variables_of_those_names_do_not_count(installed):
    """Nor those that make itself hands on to its recipes."""
    names = ("DATA", "PROFILE", "RUN", "GROUPS", "CLASSES", "MINORITY", "SWEEPS", "SCHEDULER", "FAKES", "PYTHON")
    harm = {name: "from elsewhere" for name in names} | {f"ASKED_{name}": "from elsewhere" for name in names}
    options = given(make(installed, "study", **harm))
    assert set(options.values()) == {""}
    assert given(make(installed, "study", "RUN=mine", **harm))["--run"] == "mine"


def test_each_target_gets_its_values(installed):
    assert given(make(installed, "sweep"))["--sweep"] == "real"
    assert given(make(installed, "sweep", "SWEEP=fakes"))["--sweep"] == "fakes"
    assert make(installed, "clean", "RUN=mine").stdout.split("\0")[:3] == ["notebooks/run.py", "--clean", "--run=mine"]


def test_a_misspelt_parameter_is_one_sentence(installed):
    done = make(installed, "study", "CLASES=A,B", "data=x")
    assert done.returncode != 0
    assert "there is no parameter CLASES data; there are: DATA PROFILE RUN CLASSES" in done.stderr
    assert not done.stdout


@pytest.fixture
def new_python(installed):
    """A Python that makes an environment of itself in `.venv`."""
    return write_program(
        installed / "new-python",
        'case "$1 $2" in "-m venv") rm -rf .venv/*; mkdir -p .venv/bin; cp "$0" .venv/bin/python;; '
        '"-c "*) exit;; "-E -c") echo 1; exit;; esac\necho "$@"\n',
    )


def lose_python(checkout):
    """As after an update of the system's Python: `.venv/bin/python` is a link to nowhere."""
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.12")


def edit_lock(checkout):
    with open(checkout / "requirements.lock", "a") as lock:
        lock.write("another-package==1.0\n")


BROKEN = pytest.mark.parametrize("break_it", [lose_python, edit_lock])


@BROKEN
def test_an_environment_that_no_longer_fits_is_made_again(installed, new_python, break_it):
    break_it(installed)
    done = make(installed, "study", f"PYTHON={new_python}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Installing the packages" in done.stdout and "notebooks/run.py" in done.stdout
    done = make(installed, "study", f"PYTHON={new_python}")
    assert "Installing" not in done.stdout, "once"


def test_a_lock_that_is_newer_and_says_the_same_costs_nothing(installed, new_python):
    """As in a fresh clone, whose files are all new."""
    os.utime(installed / ".venv" / "installed", (0, 0))
    done = make(installed, "study", f"PYTHON={new_python}")
    assert "Installing" not in done.stdout and done.returncode == 0


@BROKEN
def test_an_environment_behind_a_link_is_left_as_it_is(installed, new_python, break_it):
    """It is another folder's, where something may be running with it."""
    elsewhere = installed / "another folder" / "environment"
    elsewhere.parent.mkdir()
    (installed / ".venv").rename(elsewhere)
    (installed / ".venv").symlink_to(elsewhere)
    assert make(installed, "study").returncode == 0, "one that fits is used"
    break_it(installed)
    before = sorted(elsewhere.rglob("*"))
    done = make(installed, "study", f"PYTHON={new_python}")
    assert done.returncode != 0
    assert done.stdout.startswith(
        f".venv is a symbolic link to '{elsewhere}', which doesn't hold the packages of requirements.lock"
    )
    assert "remove the link with 'rm .venv' and run make again" in done.stdout
    assert (installed / ".venv").is_symlink() and sorted(elsewhere.rglob("*")) == before


def test_a_broken_python_setting_of_the_shell_does_not_cost_the_environment(installed):
    done = make(installed, "study", PYTHONHOME="/nowhere", PYTHONPATH="/nowhere")
    assert "Installing" not in done.stdout and done.returncode == 0
