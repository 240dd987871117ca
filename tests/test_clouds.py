"""Colab and Kaggle: the first cells in a fresh folder with stand-ins for the cloud, runs that are kept and taken over, and, slow, the
three notebooks in environments of the clouds' own package versions."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import write_profile
from test_pythons import find_python

from xraygan import backend, clouds, disk, run, training
from xraygan.comparison.study import open_study
from xraygan.data import kaggle_download, phantom, sources
from xraygan.report import address

NOTEBOOKS = ("1_before_gan", "2_gan_training", "3_after_gan")
PREPARE = "from xraygan import clouds\n\nclouds.prepare(DRIVE)\n"


# A machine like the cloud's: its package, its folders, and a repository to fetch


@pytest.fixture
def machine(tmp_path):
    """A fresh folder `content`, a stand-in for `google.colab`, and a copy of the project whose Drive and /kaggle are folders here."""
    package = tmp_path / "stand_in" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text(
        "from pathlib import Path\n\ndef mount(folder):\n    (Path(folder) / 'MyDrive').mkdir(parents=True, exist_ok=True)\n"
    )
    repository = tmp_path / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"], cwd=disk.ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        target = repository / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (disk.ROOT / name).is_file() and not name.startswith(
            "results/published/"
        ):  # most of the files, which no first cell reads
            target.write_bytes((disk.ROOT / name).read_bytes())
    rooms = repository / "xraygan" / "clouds.py"
    rooms.write_text(with_places(rooms.read_text(), tmp_path))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-C", str(repository)]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "test"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "content").mkdir()
    return tmp_path


def with_places(code, machine):
    """Code with this machine's folders for those of the clouds."""
    return code.replace('"/kaggle', f'"{machine}/kaggle').replace('"/content/drive', f'"{machine}/drive')


def make_kaggle(machine):
    for name in ("input", "working"):
        (machine / "kaggle" / name).mkdir(parents=True)


def first_cells(machine, number=0, drive=False, project=None):
    """The code of a notebook's first cell, and the start of its second; the other imports need no cloud."""
    notebook = nbformat.read(disk.ROOT / "notebooks" / f"{NOTEBOOKS[number]}.ipynb", as_version=4)
    setup, imports = [cell.source for cell in notebook.cells if cell.cell_type == "code"][:2]
    assert imports.startswith(PREPARE) and setup.count("DRIVE = False") == 1
    project = project or (machine / "repository").as_uri()
    setup = re.sub(r'PROJECT = ".*?"', f'PROJECT = "{project}"', setup)
    return with_places(f"{setup}\n{PREPARE}", machine).replace("DRIVE = False", f"DRIVE = {drive}")


def cloud_environment(machine):
    """The environment of a process in the cloud; none of ours."""
    ours = ("XRAYGAN_STORE", "PYTHONPATH", "MPLBACKEND")
    return {name: value for name, value in os.environ.items() if name not in ours} | {
        "PYTHONPATH": str(machine / "stand_in"),
        "TMPDIR": str(machine),
        "TF_CPP_MIN_LOG_LEVEL": "0",  # so that silence is ours
    }


def run_setup(machine, end="import utils\nfrom xraygan import disk\nprint(disk.ROOT, disk.STORE)", **options):
    command = [sys.executable, "-c", f"{first_cells(machine, **options)}\n{end}\n"]
    folder, environment = machine / "content", cloud_environment(machine)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_first_cells_of_all_notebooks_are_the_same(tmp_path):
    assert len({first_cells(tmp_path, number) for number in range(3)}) == 1


def test_fetches_the_project_once_and_imports_it(machine):
    project = machine / "content" / "xraygan-project"
    done = run_setup(machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == [str(project), str(project)]
    assert "DRIVE = True above keeps them" in done.stdout
    (machine / "repository").rename(machine / "gone")
    again = run_setup(machine)
    assert again.returncode == 0, "fetched again although it's there: " + again.stderr


def test_what_cannot_be_fetched_is_one_sentence(machine):
    done = run_setup(machine, project="https://example.invalid/nobody/nothing")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "CalledProcessError" not in done.stderr
    said = "https://example.invalid/nobody/nothing can't be fetched: check PROJECT above and, in Kaggle, turn on Internet"
    assert done.stderr.splitlines()[-1].startswith(said) and len(done.stderr.splitlines()) <= 2, (
        "git's own message stands above"
    )


def test_only_what_does_not_import_is_installed(monkeypatch):
    assert clouds.missing_requirements() == []
    present = clouds.importlib.util.find_spec
    monkeypatch.setattr(clouds.importlib.util, "find_spec", lambda name: None if name == "filelock" else present(name))
    (missing,) = clouds.missing_requirements()
    assert missing.startswith("filelock==")
    assert missing in (disk.ROOT / "requirements.txt").read_text()


HIDE_FILELOCK = "import importlib.util as u\nreal = u.find_spec\nu.find_spec = lambda name, *a: None if name == 'filelock' else real(name, *a)\n"


def test_missing_packages_are_asked_of_pip(machine):
    """A pip that writes down what it is asked for, in place of the real one, in a run of both cells."""
    pip = 'import sys, pathlib\npathlib.Path("asked.txt").write_text(" ".join(sys.argv[1:]))\n'
    (machine / "stand_in" / "pip.py").write_text(pip)
    (machine / "stand_in" / "sitecustomize.py").write_text(HIDE_FILELOCK)
    done = run_setup(machine)
    assert done.returncode == 0, done.stderr
    assert (machine / "content" / "asked.txt").read_text().startswith("install --quiet --retries 1 filelock==")


@pytest.mark.parametrize(("host", "advice"), [("Colab", "check the connection"), ("Kaggle", "turn on Internet")])
def test_what_cannot_be_installed_is_one_sentence(machine, host, advice):
    (machine / "stand_in" / "pip.py").write_text("import sys\nsys.exit('ERROR: No matching distribution found for filelock')\n")
    (machine / "stand_in" / "sitecustomize.py").write_text(HIDE_FILELOCK)
    if host == "Kaggle":
        make_kaggle(machine)
    done = run_setup(machine)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.match(rf"filelock==\S+ can't be installed: {advice}.* and run this cell again. pip says: ERROR: No", done.stderr)


# The address


def test_all_pages_name_one_address_and_every_badge_opens_its_notebook():
    mentioned = {slug for page in address.PAGES for slug in address.MENTIONED.findall(page.read_text())}
    assert len(mentioned) == 1
    (slug,) = mentioned
    for path in address.NOTEBOOKS:
        place = f"github.com/{slug}/blob/main/notebooks/{path.name}"
        links = [
            f"(https://colab.research.google.com/{place.replace('.com', '')})",
            f"(https://kaggle.com/kernels/welcome?src=https://{place})",
        ]
        assert f'PROJECT = \\"https://github.com/{slug}\\"' in path.read_text()
        for page in (path, address.PAGES[0]):
            assert all(page.read_text().count(link) == 1 for link in links), (page.name, path.name)
    others = [name for name in clouds.ROOT.rglob("*.py") if ".venv" not in name.parts and "tests" not in name.parts]
    assert not [name for name in others if f"github.com/{slug}" in name.read_text()], "the address stands in a second place"


@pytest.mark.parametrize(
    "given",
    ["https://github.com/Some-One/x_ray.gan", "https://github.com/Some-One/x_ray.gan.git", "git@github.com:Some-One/x_ray.gan.git",
     "ssh://git@github.com/Some-One/x_ray.gan", "github.com/Some-One/x_ray.gan/"],
)  # fmt: skip
def test_the_address_is_set_in_every_place_at_once(given, tmp_path):
    pages = [tmp_path / page.name for page in address.PAGES]
    for page, original in zip(pages, address.PAGES, strict=True):
        page.write_text(original.read_text())
    assert address.set_address(given, pages) == "Some-One/x_ray.gan"
    old = address.MENTIONED.findall(address.PAGES[0].read_text())[0]
    for page, original in zip(pages, address.PAGES, strict=True):
        assert set(address.MENTIONED.findall(page.read_text())) == {"Some-One/x_ray.gan"}
        assert page.read_text().replace("Some-One/x_ray.gan", old) == original.read_text()


def test_the_clones_own_remote_is_taken_and_what_is_no_address_is_a_sentence(tmp_path):
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert address.find_remote(tmp_path) == ""
    subprocess.run([*git, "remote", "add", "origin", "git@github.com:someone/xraygan.git"], check=True)
    assert address.find_remote(tmp_path) == "git@github.com:someone/xraygan.git"
    for wrong in ("", "https://gitlab.com/a/b", "https://github.com/a", "/a/folder", "https://github.com/a/b/tree/main"):
        with pytest.raises(ValueError, match="give that of your copy on GitHub, https://github.com/OWNER/NAME"):
            address.set_address(wrong, [])


# Which host


@pytest.mark.parametrize(
    ("variables", "working", "importable", "expected"),
    [
        ({}, False, False, ""),
        ({}, False, True, "Colab"),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, False, True, "Kaggle"),
        ({"KAGGLE_URL_BASE": "https://www.kaggle.com"}, False, False, "Kaggle"),
        ({}, True, True, "Kaggle"),
        ({"KAGGLE_USERNAME": "someone"}, False, False, ""),  # an account, as on a laptop
    ],
)
def test_kaggle_is_not_taken_for_colab_nor_a_laptop_for_either(variables, working, importable, expected, monkeypatch, tmp_path):
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(clouds, "KAGGLE", tmp_path)
    monkeypatch.setattr(clouds, "_can_import", lambda name: importable)
    if working:
        (tmp_path / "working").mkdir()
    assert clouds.find_host() == expected


def test_elsewhere_nothing_happens(monkeypatch):
    assert clouds.find_host() == ""
    monkeypatch.setattr(clouds, "missing_requirements", lambda: pytest.fail("looked for packages outside the clouds"))
    clouds.prepare(True)


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        ("Colab", "a machine of its own. Set DRIVE = True in the first cell of all three"),
        ("Kaggle", "save it \\(Save Version\\), and add its output here"),
        ("", "run notebooks/1_before_gan.ipynb first, with the same DATA, PROFILE and RUN"),
    ],
)
def test_a_run_that_is_not_here_is_one_sentence_before_any_work(host, cause, monkeypatch, tmp_path):
    monkeypatch.setattr(clouds, "find_host", lambda: host)
    monkeypatch.setattr(disk, "STORE", tmp_path)
    for work in (backend, "configure"), (sources, "find_source"), (phantom, "write_phantom"):
        monkeypatch.setattr(*work, lambda *arguments, **named: pytest.fail("work was done first"))
    (tmp_path / "results" / "published").mkdir(parents=True)
    asked = {"DATA": "", "PROFILE": "quick", "PRECISION": "auto"}
    with pytest.raises(FileNotFoundError, match=f"^a run of notebook 1 isn't on this machine: .*{cause}"):
        open_study(RUN="", **asked)
    other = run.open_folders("other", tmp_path)
    run.start_record(other, seed=0)
    with pytest.raises(FileNotFoundError, match=f"^the run mine isn't on this machine: .*{cause}"):
        open_study(RUN="mine", **asked)


# Runs that are kept


def make_run(store, name="mine", record="{}"):
    folders = run.open_folders(name, store)
    for path, content in {
        folders.results / "record.json": record,
        folders.results / "units" / "2-classes" / "nothing-0.csv": "file,label\n",
        folders.models / "before_gan.keras": "weights",
        folders.generated / "COVID19" / "fake_0000.png": "fake",
        folders.images / "fakes.png": "picture",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folders


def read_all(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kept_run_is_the_same_on_another_machine(tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "one", "published-like", "{}")
    clouds.Keeper(tmp_path / "one", tmp_path / "kept").keep()
    assert clouds.restore(tmp_path / "two", [tmp_path / "kept"]) == ["mine", "published-like"]
    assert read_all(tmp_path / "one") == read_all(tmp_path / "two")


def test_what_changed_is_kept_again_and_nothing_else(tmp_path):
    folders = make_run(tmp_path / "store")
    keeper = clouds.Keeper(tmp_path / "store", tmp_path / "kept")
    keeper.keep()
    archives = {path.name: path.stat().st_ino for path in (tmp_path / "kept" / "mine").glob("*.zip")}
    assert set(archives) == {"models.zip", "images.zip", "generated.zip", "results.zip"}
    keeper.keep()
    assert archives == {path.name: path.stat().st_ino for path in (tmp_path / "kept" / "mine").glob("*.zip")}
    (folders.results / "arms.csv").write_text("arm\n")
    keeper.keep()
    again = {path.name: path.stat().st_ino for path in (tmp_path / "kept" / "mine").glob("*.zip")}
    assert {name for name in archives if archives[name] != again[name]} == {"results.zip"}
    assert sorted(path.name for path in (tmp_path / "kept" / "mine").iterdir()) == sorted([*archives, "saved.txt"])


def test_states_of_trainings_at_work_drafts_and_locks_are_not_kept(tmp_path):
    folders = make_run(tmp_path / "store")
    done, at_work = folders.models / "gan_state", folders.models / "units" / "2-classes" / "gan-0"
    long_history = [{"epoch": epoch, "d_loss": 0.1, "g_loss": 0.1} for epoch in range(500)]
    for state, variables in (done, []), (at_work, [np.zeros(9)]):
        state.mkdir(parents=True)
        (state / "parameters.json").write_text("{}")
        training.save_variables(state / "epoch_00004.npz", variables, 4, tables=[long_history])
        (state / "best.npz").write_bytes(bytes(50_000))
    (folders.results / ".lock").touch()
    (folders.results / ".draft-7-arms.csv").touch()
    clouds.Keeper(tmp_path / "store", tmp_path / "kept").keep()
    with zipfile.ZipFile(tmp_path / "kept" / "mine" / "models.zip") as models:
        assert sorted(models.namelist()) == ["before_gan.keras"] + [
            f"gan_state/{name}" for name in ("best.npz", "epoch_00004.npz", "parameters.json")
        ]
    with zipfile.ZipFile(tmp_path / "kept" / "mine" / "results.zip") as results:
        assert not [name for name in results.namelist() if "/." in name or name.startswith(".")]


def test_of_a_run_kept_twice_the_newest_is_taken_and_what_is_here_stays(tmp_path):
    for name in ("first", "second", "third"):  # outputs of three notebooks
        make_run(tmp_path / name, record=json.dumps(name))
        clouds.Keeper(tmp_path / name, tmp_path / f"kept-{name}").keep()
    places = [tmp_path / f"kept-{name}" for name in ("second", "third", "first")]
    clouds.restore(tmp_path / "here", places)
    assert json.loads((tmp_path / "here" / "results" / "mine" / "record.json").read_text()) == "third"
    assert clouds.restore(tmp_path / "first", places) == []
    assert json.loads((tmp_path / "first" / "results" / "mine" / "record.json").read_text()) == "first"


def test_a_machine_that_stayed_open_does_not_write_over_a_newer_copy(tmp_path, capsys):
    """Notebook 1's machine keeps a run, notebook 2's takes it over and adds the GAN; then notebook 1's first cell is run again."""
    kept, first = tmp_path / "kept", make_run(tmp_path / "one")
    clouds.Keeper(tmp_path / "one", kept).keep()
    clouds.restore(tmp_path / "two", [kept])
    (tmp_path / "two" / "models" / "mine" / "gan.keras").write_bytes(b"a GAN")
    clouds.Keeper(tmp_path / "two", kept).keep()
    assert capsys.readouterr().out == ""
    (first.results / "arms.csv").write_text("arm\n")
    again = clouds.Keeper(tmp_path / "one", kept)
    for _ in range(2):
        again.keep()
    assert capsys.readouterr().out.count("The run mine isn't kept from here any more") == 1
    clouds.restore(tmp_path / "three", [kept])
    assert read_all(tmp_path / "three") == read_all(tmp_path / "two")


def test_a_kept_run_without_its_results_is_no_dead_end(tmp_path):
    make_run(tmp_path / "one")
    clouds.Keeper(tmp_path / "one", tmp_path / "kept").keep()
    (tmp_path / "kept" / "mine" / "results.zip").unlink()
    clouds.restore(tmp_path / "two", [tmp_path / "kept"])
    assert (tmp_path / "two" / "models" / "mine").is_dir() and not (tmp_path / "two" / "results" / "mine").exists()


def test_archives_that_the_cloud_has_unpacked_are_taken_too(tmp_path):
    make_run(tmp_path / "one")
    clouds.Keeper(tmp_path / "one", tmp_path / "kept").keep()
    for archive in (tmp_path / "kept" / "mine").glob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(archive.with_suffix(""))
        archive.unlink()
    clouds.restore(tmp_path / "two", [tmp_path / "kept"])
    assert read_all(tmp_path / "one") == read_all(tmp_path / "two")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_broken_archive_is_one_sentence_and_nothing_is_half_there(tmp_path, damage):
    make_run(tmp_path / "one")
    clouds.Keeper(tmp_path / "one", tmp_path / "kept").keep()
    archive = tmp_path / "kept" / "mine" / "results.zip"
    data = archive.read_bytes()
    middle = data.index(b"{}") if b"{}" in data else 45
    flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    archive.write_bytes({"cut": data[:50], "flipped": flipped, "empty": b"", "text": b"no archive"}[damage])
    with pytest.raises(
        SystemExit, match="xraygan-runs/mine/results.zip is broken .* delete that folder and run notebook 1 again"
    ):
        clouds.restore(tmp_path / "two", [tmp_path / "kept"])
    assert not (tmp_path / "two" / "results" / "mine").exists()


def test_a_full_drive_is_a_sentence_and_the_run_goes_on(small_disk, tmp_path, capsys):
    place = small_disk("64k")
    folders = make_run(tmp_path / "store")
    (folders.models / "before_gan.keras").write_bytes(os.urandom(200_000))
    keeper = clouds.Keeper(tmp_path / "store", place / "kept")
    keeper.keep()
    assert "This run isn't kept in kept now: No space left on device. It goes on" in capsys.readouterr().out
    (folders.models / "before_gan.keras").write_bytes(b"small")
    keeper.keep()
    assert capsys.readouterr().out == ""
    clouds.restore(tmp_path / "two", [place / "kept"])
    assert (tmp_path / "two" / "models" / "mine" / "before_gan.keras").read_bytes() == b"small"


# Colab: Drive and Secrets


KEEP = """
from pathlib import Path
from xraygan import disk, run
folders = run.open_folders("mine")
run.start_record(folders, seed=1)
(folders.models / "before_gan.keras").write_bytes(b"weights")
clouds.Keeper(disk.STORE, clouds.DRIVE / "MyDrive" / clouds.KEPT).keep()
"""
SHOW = 'from xraygan import disk, run\nprint("SEED", run.read_record(run.open_folders("mine"))["seed"])'


def test_a_run_on_drive_is_there_for_the_next_notebook_on_a_new_machine(machine):
    done = run_setup(machine, KEEP, drive=True)
    assert done.returncode == 0, done.stderr
    assert "Runs are kept in the folder xraygan-runs on Google Drive." in done.stdout
    files = sorted(path.relative_to(machine / "drive") for path in (machine / "drive").rglob("*") if path.is_file())
    assert [path.name for path in files] == ["models.zip", "results.zip", "saved.txt"]
    (machine / "content").rename(machine / "deleted")
    (machine / "content").mkdir()
    done = run_setup(machine, SHOW, drive=True)
    assert "A kept copy of the run mine was found" in done.stdout and "SEED 1" in done.stdout, done.stderr


def test_drive_that_is_refused_is_one_sentence(machine):
    (machine / "stand_in" / "google" / "colab" / "drive.py").write_text(
        "def mount(folder):\n    raise ValueError('mount failed')\n"
    )
    done = run_setup(machine, drive=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Google Drive can't be reached (mount failed): run this cell again and allow it, or set DRIVE = False" in done.stderr


def test_kaggles_token_comes_from_colabs_secrets(machine):
    (machine / "stand_in" / "google" / "colab" / "userdata.py").write_text(
        "def get(name):\n    if name != 'KAGGLE_API_TOKEN':\n        raise LookupError(name)\n    return 'secret'\n"
    )
    done = run_setup(machine, "print('TOKEN', clouds.read_kaggle_token())")
    assert done.stdout.splitlines()[-1] == "TOKEN {'KAGGLE_API_TOKEN': 'secret'}"


def test_the_download_gets_the_token_and_nobody_else(monkeypatch, tmp_path):
    monkeypatch.setattr(clouds, "read_kaggle_token", lambda: {"KAGGLE_API_TOKEN": "secret"})
    monkeypatch.setattr(
        kaggle_download, "KAGGLE_COMMAND", "import os; print('has it', os.environ['KAGGLE_API_TOKEN'] == 'secret')"
    )
    with pytest.raises(RuntimeError, match="download of .* failed .* among the Secrets"):
        kaggle_download.download(tmp_path / "chest_xray")
    assert os.environ.get("KAGGLE_API_TOKEN") != "secret"


# Kaggle: inputs, read-only code, no Internet


@pytest.mark.parametrize("place", ["notebook-1", "datasets/someone/project", "project/xraygan-main"])
def test_in_kaggle_without_internet_the_project_is_found_among_the_inputs(machine, place):
    make_kaggle(machine)
    target = machine / "kaggle" / "input" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    (machine / "repository").rename(target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run_setup(machine, project="https://example.invalid/x/y")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == [str(target), str(machine / "xraygan")]
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)


def test_kaggles_output_is_taken_over_by_the_next_notebook(machine):
    make_kaggle(machine)
    keep = KEEP.replace('clouds.DRIVE / "MyDrive"', 'clouds.KAGGLE / "working"')
    done = run_setup(machine, keep)
    assert done.returncode == 0, done.stderr
    assert "in the folder xraygan-runs in this notebook's output; add that as an input of the next notebook." in done.stdout
    kaggle = machine / "kaggle"
    (kaggle / "input" / "notebooks" / "someone").mkdir(parents=True)
    (kaggle / "working").rename(kaggle / "input" / "notebooks" / "someone" / "notebook-1")
    (kaggle / "working").mkdir()
    (machine / "xraygan").rename(machine / "deleted")
    done = run_setup(machine, SHOW)
    assert "A kept copy of the run mine was found" in done.stdout and "SEED 1" in done.stdout, done.stderr


@pytest.mark.parametrize("place", ["SLUG", "datasets/OWNER/SLUG"])
def test_the_kaggle_set_is_found_where_kaggle_shows_it(place, monkeypatch, tmp_path, phantom_folder):
    monkeypatch.setattr(clouds, "KAGGLE", tmp_path)
    monkeypatch.setattr(disk, "STORE", tmp_path / "store")
    (tmp_path / "working").mkdir()
    with pytest.raises(RuntimeError, match="in Kaggle, add prashant268/chest-xray-covid19-pneumonia as an input"):
        sources.find_source("kaggle")
    owner, slug = kaggle_download.DATASET.split("/")
    shown = tmp_path / "input" / place.replace("OWNER", owner).replace("SLUG", slug)
    shown.mkdir(parents=True)
    (shown / "Data").symlink_to(phantom_folder)
    for data in ("kaggle", "", str(shown), str(shown / "Data" / "train").removesuffix("/train")):
        source = sources.find_source(data)
        assert source.classes == ("NORMAL", "COVID19") and len(source.listing.records) == 176


# The notebooks in environments of the clouds' versions


LISTS = {"Colab": "colab_packages.txt", "Kaggle": "kaggle_packages.txt"}
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
try:
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
finally:
    nbformat.write(notebook, sys.argv[1])
"""
COUNT_ON_DRIVE = """
import os, sys
def count(event, arguments):
    if event == "os.mkdir" and str(arguments[0]).startswith("{drive}"):
        with open("{log}", "a") as log:
            log.write(str(arguments[0]) + "\\n")
sys.addaudithook(count)
"""


@pytest.fixture(scope="module", params=LISTS)
def cloud(request, tmp_path_factory):
    """A cloud's name and a Python with its versions of the packages, of its own version of Python where that is here."""
    packages = Path(__file__).with_name(LISTS[request.param])
    version = re.match(r"# Python (\S+)", packages.read_text()).group(1)
    python = find_python(version) or find_python("3.11")
    if python is None:
        pytest.skip(f"no Python {version} or 3.11 here")
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = folder / "bin" / "python"
    install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(packages)]
    subprocess.run(install, check=True, timeout=1200)
    return request.param, str(inside)


def execute(python, machine, number, **options):
    """Run a notebook alone in an empty folder on a machine that is deleted afterwards; returns it as executed."""
    folder = machine / "content"
    folder.mkdir(exist_ok=True)
    notebook = nbformat.read(disk.ROOT / "notebooks" / f"{NOTEBOOKS[number]}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = first_cells(machine, number, **options).removesuffix(PREPARE)
    code[2].source = code[2].source.replace('PROFILE = "quick"', f"PROFILE = {str(machine / 'tiny.yaml')!r}")
    code[2].source = code[2].source.replace('DATA = ""', f"DATA = {str(machine / 'images')!r}")
    path = folder / f"{NOTEBOOKS[number]}.ipynb"
    nbformat.write(notebook, path)
    command, environment = [python, "-c", EXECUTE, str(path)], cloud_environment(machine)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(path, as_version=4)
    for left in ("content", "xraygan"):
        subprocess.run(["rm", "-rf", str(machine / left)], check=True)
    return executed


def list_noise(notebook):
    """What no reader should see: standard error, and lines that warn."""
    noise = []
    for output in (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs):
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        if output.output_type == "error" or output.get("name") == "stderr":
            noise.append(text or output.evalue)
        noise += [line for line in text.splitlines() if re.search(r"warning|remapper|debugger|deprecated", line, re.IGNORECASE)]
    return noise


COMPUTED = (
    *(
        "arms",
        "classifier",
        "dcgan",
        "disk",
        "exchange",
        "fakes",
        "fidelity",
        "findings",
        "inspection",
        "keys",
        "layouts",
        "loading",
    ),
    *(
        "memorisation",
        "metrics",
        "near_copies",
        "phantom",
        "run",
        "sources",
        "split_audit",
        "study",
        "units",
        "utils",
        "verdict",
    ),
)


@pytest.mark.slow
def test_what_the_package_computes_is_tested_there_too(cloud):
    _, python = cloud
    pins = (disk.ROOT / "requirements.txt").read_text()
    hypothesis = re.search(r"^hypothesis==\S+", pins, re.MULTILINE).group()
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", hypothesis], check=True)
    files = [f"tests/test_{name}.py" for name in COMPUTED]
    command = [python, "-W", "error::FutureWarning", "-m", "pytest", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=disk.ROOT, capture_output=True, text=True, timeout=3000, check=False)
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.slow
def test_the_notebooks_run_one_after_the_other_each_on_a_machine_of_its_own(cloud, machine, phantom_folder):
    """What goes from one to the next goes by Drive, or by Kaggle's output; Drive sees few operations."""
    host, python = cloud
    (machine / "tiny.yaml").write_text(
        write_profile(
            **{"max_train_images": 120, "classifier_epochs": 3, "classifier_patience": 3, "gan_updates": 12, "num_fakes": 40},
            arms=["nothing", "class_weights", "oversampling", "classical", "on_the_fly", "gan"],
        )
    )
    (machine / "images").symlink_to(phantom_folder)
    if host == "Kaggle":
        make_kaggle(machine)
    log = machine / "mkdir.txt"
    code = COUNT_ON_DRIVE.replace("{drive}", str(machine / "drive")).replace("{log}", str(log))
    (machine / "stand_in" / "sitecustomize.py").write_text(code)
    kept = machine / ("drive/MyDrive" if host == "Colab" else "kaggle/working") / clouds.KEPT
    for number, name in enumerate(NOTEBOOKS):
        executed = execute(python, machine, number, drive=host == "Colab")
        assert list_noise(executed) == [], name
        if host == "Kaggle" and number < 2:
            kaggle = machine / "kaggle"
            (kaggle / "working").rename(kaggle / "input" / f"notebook-{number + 1}")
            (kaggle / "working").mkdir()
    files = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert files == [
        f"phantom-tiny/{name}" for name in ("generated.zip", "images.zip", "models.zip", "results.zip", "saved.txt")
    ]
    with zipfile.ZipFile(kept / "phantom-tiny" / "results.zip") as results:
        assert {"before_after.csv", "arms.csv", "verdict.json", "gan/judgement.json"} <= set(results.namelist())
        assert json.loads(results.read("record.json"))["machine"]["host"] == host
    if host == "Colab":
        made = set(log.read_text().splitlines())
        assert len(log.read_text().splitlines()) <= 10, made
