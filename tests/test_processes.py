"""Processes end together, whoever is killed; a run ends with one sentence; other programs' settings change nothing."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import keras
import nbformat
import psutil
import pytest
from conftest import require_papermill, write_profile

from xraygan import backend, disk, processes
from xraygan.comparison import workers
from xraygan.data import csv_tables

STOPPED = processes.STOPPED.strip()
SECONDS_TO_END = 5 * max(1, os.getloadavg()[0] / os.cpu_count())  # five, on a machine that isn't busy with other things

SIDE_BY_SIDE = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    import joblib
    from xraygan import processes

    def compute(number):
        Path(sys.argv[1], f"at-work-{number}").touch()
        while True:
            time.sleep(0.01)

    def end_elsewhere(parent):
        from xraygan import processes

        sys.platform = "darwin"  # where no signal tells of a parent's death
        processes.end_with_parent(parent)

    if sys.argv[2] == "elsewhere":
        processes.end_with_parent = end_elsewhere
    with processes.side_by_side():
        joblib.Parallel(2)(joblib.delayed(compute)(number) for number in range(2))
""")


def find_processes(mark):
    """Processes whose environment holds `mark`: those of a run, however they were started and whoever has adopted them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and mark in process.environ().values():
                found.append(process)
    return found


def find_notebook(family):
    """The notebook's own process among those of a run."""
    for process in family:
        with contextlib.suppress(psutil.Error):
            if "ipykernel_launcher" in process.cmdline():
                return process
    return None


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until_gone(mark, spared=None):
    end = time.monotonic() + SECONDS_TO_END
    while left := [process for process in find_processes(mark) if process.pid != spared]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def find_shared_files():
    """What joblib's processes leave in shared memory where nobody tidies up."""
    place = Path("/dev/shm")
    return {path.name for path in place.glob("*")} if place.is_dir() else set()


@pytest.mark.parametrize(
    ("number", "platform"),
    [(signal.SIGKILL, "linux"), (signal.SIGKILL, "elsewhere"), (signal.SIGTERM, "linux"), (signal.SIGINT, "linux")],
)
def test_workers_end_with_their_parent_and_leave_nothing(tmp_path, number, platform):
    before = find_shared_files()
    environment = os.environ | processes.OURS | {"PYTHONPATH": str(disk.ROOT), "MARK": str(tmp_path)}
    command = [sys.executable, "-c", SIDE_BY_SIDE, str(tmp_path), platform]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(tmp_path.glob("at-work-*"))) == 2, 120)
    assert len(find_processes(str(tmp_path))) >= 3
    parent.send_signal(number)
    parent.wait(60)
    wait_until_gone(str(tmp_path))
    errors = parent.stderr.read()
    assert "leaked" not in errors and "Worker" not in errors
    mine = {name for name in find_shared_files() - before if f"-{parent.pid}-" in name or f"_{parent.pid}_" in name}
    assert not mine


def kill_itself(study, unit):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence(monkeypatch):
    monkeypatch.setattr(workers, "count_local_jobs", lambda study: 2)
    bar, study = types.SimpleNamespace(update=lambda: None), types.SimpleNamespace(precision="float32", deterministic=True)
    with pytest.raises(RuntimeError, match="a training process was killed, most often because memory ran out: .* goes on"):  # noqa: SIM117
        with workers._choose_workers(None, "") as num_jobs:
            workers._run_side_by_side(study, [(kill_itself, 0), (kill_itself, 1)], bar, num_jobs)


def test_units_in_the_notebooks_own_process_leave_its_precision_and_its_output(monkeypatch, capsys):
    """That is where they are trained on a GPU."""
    monkeypatch.setattr(backend, "has_gpu", lambda: True)
    monkeypatch.setattr(backend, "_gpu_generation", lambda: 7)
    before, seen = keras.mixed_precision.global_policy().name, []

    def train(study, unit):
        print("not shown")
        seen.append((os.getpid(), keras.mixed_precision.global_policy().name))

    bar = types.SimpleNamespace(update=lambda: print("one more"))
    study = types.SimpleNamespace(precision="mixed_float16", deterministic=True)
    with workers._choose_workers(None, "") as num_jobs:
        workers._run_side_by_side(study, [(train, 0), (train, 1)], bar, num_jobs)
    assert seen == [(os.getpid(), "mixed_float16")] * 2
    assert keras.mixed_precision.global_policy().name == before
    assert capsys.readouterr().out == "one more\n" * 2


# A run


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "my small profile.yaml"
    path.write_text(write_profile())
    return path


def start_run(store, *arguments, root=disk.ROOT, cwd=None, **environment):
    require_papermill()
    command = [sys.executable, os.path.relpath(root / "notebooks" / "run.py", cwd or root), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    environment = os.environ | {"XRAYGAN_STORE": str(store), "MARK": str(store)} | environment
    return subprocess.Popen(command, cwd=cwd or root, env=environment, **pipes)


@pytest.mark.parametrize(
    ("number", "late"),
    [
        (signal.SIGINT, True),
        (signal.SIGINT, False),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, True, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_is_one_sentence_and_all_of_it_ends(tmp_path, phantom_folder, profile, number, late):
    """In the middle of a notebook, and while the packages are loaded."""
    process = start_run(tmp_path, "--data", phantom_folder, "--profile", profile)
    if late:
        while "reading images" not in process.stdout.readline():
            assert process.poll() is None
    else:
        wait_for(lambda: "PYTHONUTF8" in psutil.Process(process.pid).environ(), 30)
        time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert errors.strip() == STOPPED
    assert process.returncode == 128 + number
    wait_until_gone(str(tmp_path))


@pytest.mark.slow
def test_after_20_kills_at_random_moments_no_process_is_left(tmp_path, phantom_folder, profile):
    """run.py or the notebook's process is killed, with trainings side by side; in the end the run is whole and nothing is left."""
    rng, kills = random.Random(0), 0
    arguments = "--data", phantom_folder, "--profile", profile
    numbers, described = set(), set(Path("/tmp").glob("tmp*.json"))
    while kills < 20:
        process = start_run(tmp_path, *arguments)
        while kills % 2 and len(find_processes(str(tmp_path))) < 4 and process.poll() is None:
            time.sleep(0.2)  # every second kill comes when trainings are side by side
        try:
            output, errors = process.communicate(timeout=rng.uniform(1, 30))
        except subprocess.TimeoutExpired:
            family = find_processes(str(tmp_path))
            numbers |= {str(member.pid) for member in family}
            signalled, victim = rng.choice([("run.py", process), ("notebook", find_notebook(family) or process)])
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            wait_until_gone(str(tmp_path), spared=process.pid)
            _, errors = process.communicate(timeout=60)
            assert "Traceback" not in errors, errors
            kills += 1
            print(f"kill {kills}: {signalled}, with {len(family)} processes", flush=True)
        else:
            assert process.returncode == 0, output + errors
            for folder in ("results", "models"):
                shutil.rmtree(tmp_path / folder)
    process = start_run(tmp_path, *arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert not find_processes(str(tmp_path))
    assert not [name for name in find_shared_files() if set(re.split("[-_]", name)) & numbers]
    assert set(Path("/tmp").glob("tmp*.json")) <= described


@pytest.fixture
def nasty(tmp_path):
    """An environment full of other programs' settings, and a home with their files."""
    home, place, other = tmp_path / "home", tmp_path / ("t" * 100), tmp_path / "other"
    for path, content in {
        home / ".keras" / "keras.json": json.dumps(
            {"image_data_format": "channels_first", "backend": "theano", "floatx": "float64", "epsilon": 0.5}
        ),
        home / ".config" / "matplotlib" / "matplotlibrc": "text.usetex: True\n",
        home / ".ipython" / "profile_default" / "startup" / "first.py": "raise SystemExit('a start-up file')\n",
        other / "yaml.py": "raise ImportError('an old yaml')\n",
        other / "kernels" / "python3" / "kernel.json": '{"argv": ["/bin/false"], "display_name": "x", "language": "python"}',
        place / "there": "",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {
        "HOME": str(home),
        "TMPDIR": str(place),
        "PYTHONPATH": str(other),
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "JUPYTER_PATH": str(other),
        "MPLBACKEND": "module://an.ide",
        "MATPLOTLIBRC": str(home / ".config" / "matplotlib"),
        "PYTHONIOENCODING": "latin-1",
        "KERAS_MAX_EPOCHS": "1",
    }


@pytest.mark.slow
def test_other_programs_settings_change_nothing(tmp_path, phantom_folder, nasty):
    """A clone with braces, a dollar and blanks in its path, called from above, its store a relative path, its profile below `~`."""
    clone = tmp_path / "{r} $x [a]" / "xraygan"
    unwanted = shutil.ignore_patterns(".*", "results", "images", "models", "data")
    shutil.copytree(disk.ROOT, clone, ignore=lambda folder, names: unwanted(folder, names) if Path(folder) == disk.ROOT else ())
    Path(nasty["HOME"], "my small profile.yaml").write_text(write_profile())
    tables = []
    for store, environment in (("first", nasty), ("second", {})):
        name = "~/my small profile.yaml" if environment else Path(nasty["HOME"], "my small profile.yaml")
        arguments = "--data", phantom_folder, "--profile", name, "--only", "1_before_gan"
        process = start_run(f"../../{store}", *arguments, root=clone, cwd=clone.parent, **environment)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output + errors
        assert not errors
        (folder,) = (tmp_path / store / "results").iterdir()
        notebook = nbformat.read(folder / "notebooks" / "1_before_gan.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4, "a notebook without pictures"
        assert not [output for output in outputs if output.get("name") == "stderr"]
        tables.append([path.read_bytes() for path in sorted(folder.rglob("*.csv"))])
    assert tables[0] == tables[1]
    assert folder.name.startswith("phantom-my-small-profile-")
    assert [path.name for path in Path(nasty["TMPDIR"]).iterdir()] == ["there"]


@pytest.mark.parametrize(("locale", "charmap"), [("ko_KR", "EUC-KR"), ("de_DE", "ISO-8859-1")])
def test_a_terminal_that_lacks_letters_shows_others(tmp_path, locale, charmap):
    made = subprocess.run(["localedef", "-i", locale, "-f", charmap, str(tmp_path / "xx_XX")], capture_output=True, check=False)
    if not (tmp_path / "xx_XX").is_dir():
        pytest.skip(f"no such locale can be made here: {made.stderr}")
    script = "from xraygan import processes; processes.start_clean(); print('여 ä █ end')"
    (tmp_path / "script.py").write_text(f"import sys; sys.path.insert(0, {str(disk.ROOT)!r}); {script}", encoding="utf-8")
    environment = os.environ | {"LOCPATH": str(tmp_path), "LC_ALL": "xx_XX"}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(charmap) == "여 ä █ end\n".encode(charmap, errors="replace").decode(charmap)


def test_keras_and_matplotlib_by_hand(nasty):
    """As in a notebook that Jupyter has started: the files in one's home are there, the package sets its own."""
    script = """
        import sys, types
        sys.modules["ipykernel"] = types.ModuleType("ipykernel")
        from xraygan.report import figures
        import keras, matplotlib, os
        print(keras.backend.backend(), keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon())
        print(keras.config.max_epochs(), matplotlib.rcParams["text.usetex"], os.environ["MPLBACKEND"])
    """
    kept = {name: nasty[name] for name in ("HOME", "MPLBACKEND", "KERAS_MAX_EPOCHS")} | {"PYTHONPATH": str(disk.ROOT)}
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | kept
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "tensorflow channels_last float32 1e-07",
        "None False module://matplotlib_inline.backend_inline",
    ], done.stderr


def test_what_a_killed_run_left_is_removed_and_what_another_is_at_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JOBLIB_TEMP_FOLDER"):
        monkeypatch.setenv(variable, "as before")
    monkeypatch.setattr(processes, "LONGEST_PLACE", 1000)
    left = tmp_path / "xraygan-run-left"
    (left / "profile_default").mkdir(parents=True)
    with processes.private_folder() as mine:
        assert not left.exists() and mine.is_dir()
        assert os.environ["IPYTHONDIR"] == str(mine)
        with processes.private_folder() as another:
            assert mine.is_dir() and another != mine
    assert not list(tmp_path.iterdir())


# What a run is asked for


@pytest.mark.parametrize(
    ("text", "says"), [("1", True), ("Yes", True), ("true", True), ("", False), ("0", False), ("no", False), ("FALSE", False)]
)
def test_a_switch_says_yes_or_no(run_notebooks, text, says):
    assert run_notebooks.read_switch("SWEEPS", text) is says


def test_a_switch_that_says_neither_is_one_sentence(run_notebooks):
    with pytest.raises(ValueError, match="SWEEPS is 'maybe'; say yes or no."):
        run_notebooks.read_switch("SWEEPS", "maybe")


def test_a_tilde_is_the_home_everywhere(run_notebooks, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "patients.csv").touch()
    (tmp_path / "my profile.yaml").write_text(write_profile())
    os.chdir(disk.ROOT)
    for path in (
        run_notebooks.from_notebooks(csv_tables.find_groups_file("~/patients.csv")),
        run_notebooks.locate_profile("~/my profile.yaml"),
    ):
        assert (disk.ROOT / "notebooks" / path).is_file()
    assert run_notebooks.locate_profile("quick") == "quick"
    with pytest.raises(ValueError, match="GROUPS is '~/nowhere.csv', and there is no such file"):
        csv_tables.find_groups_file("~/nowhere.csv")
    assert disk.find_file("~nobody-of-that-name/file") is None


def test_a_path_that_is_no_text_is_one_sentence(run_notebooks):
    with pytest.raises(ValueError, match="DATA isn't text in UTF-8; give that file or folder a name of plain letters."):
        run_notebooks.require_text({"DATA": os.fsdecode(b"/data/\xc7\xd1\xb1\xdb")})


def test_a_scheduler_that_is_nowhere_is_one_sentence():
    pytest.importorskip("dask.distributed")
    with pytest.raises(ValueError, match=r"SCHEDULER is 'nowhere', and no scheduler answers there: .*\.$"):  # noqa: SIM117
        with processes.connected("nowhere"):
            pytest.fail("connected to nothing")
