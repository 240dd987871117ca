"""The first cell of each notebook in a fresh folder, with a stand-in `google.colab` and a local git address."""

import os
import subprocess
import sys
import textwrap

import nbformat
import pytest

from xraygan import colab, disk


@pytest.fixture
def machine(tmp_path):
    """A fresh folder like Colab's, a stand-in for its package, and a repository to clone."""
    package = tmp_path / "stand_in" / "google" / "colab"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "drive.py").write_text(
        "from pathlib import Path\n\ndef mount(folder):\n    (Path(folder) / 'MyDrive').mkdir(parents=True)\n"
    )
    repository = tmp_path / "repository"
    files = subprocess.run(
        ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"], cwd=disk.ROOT, capture_output=True, check=True
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        target = repository / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (disk.ROOT / name).exists():
            target.write_bytes((disk.ROOT / name).read_bytes())
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-C", str(repository)]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "test"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "content").mkdir()
    return tmp_path


def run_setup(machine, drive="", repository=None, end="print(disk.ROOT, disk.STORE)"):
    notebook = nbformat.read(disk.ROOT / "notebooks" / "1_before_gan.ipynb", as_version=4)
    setup, imports = [cell.source for cell in notebook.cells if cell.cell_type == "code"][:2]
    prepare = "from xraygan import colab\n\ncolab.prepare(DRIVE)\n"
    assert imports.startswith(prepare)  # the other imports need the real packages of the name google
    cell = f"{setup}\n{prepare}"
    assert 'DRIVE = ""' in cell
    script = cell.replace('DRIVE = ""', f"DRIVE = {drive!r}") + f"\nimport utils\nfrom xraygan import disk\n{end}\n"
    environment = {name: value for name, value in os.environ.items() if name not in ("XRAYGAN_STORE", "PYTHONPATH")}
    environment |= {"PYTHONPATH": str(machine / "stand_in"), "XRAYGAN_REPOSITORY": repository or ""}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=machine / "content",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_fetches_the_project_once_and_imports_it(machine):
    address = (machine / "repository").as_uri()
    project = machine / "content" / "xraygan-project"
    done = run_setup(machine, repository=address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(project), str(project)]
    (machine / "repository").rename(machine / "gone")
    again = run_setup(machine, repository=address)
    assert again.returncode == 0, "fetched again although it's there: " + again.stderr


def test_keeps_everything_on_drive(machine):
    done = run_setup(
        machine,
        str(machine / "drive"),
        (machine / "repository").as_uri(),
        "from xraygan import run; print(run.open_folders('x').models)",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(machine / "drive" / "MyDrive" / "xraygan" / "models" / "x")


def test_without_an_address_one_sentence(machine):
    done = run_setup(machine)
    assert "Set REPOSITORY above." in done.stderr.strip().splitlines()[-1]


def test_only_what_does_not_import_is_installed(machine, monkeypatch):
    assert colab.missing_requirements() == []
    present = colab.importlib.util.find_spec
    monkeypatch.setattr(colab.importlib.util, "find_spec", lambda name: None if name == "filelock" else present(name))
    (missing,) = colab.missing_requirements()
    assert missing.startswith("filelock==")
    assert missing in (disk.ROOT / "requirements.txt").read_text()


def test_missing_packages_are_asked_of_pip(machine):
    """A pip that writes down what it is asked for, in place of the real one, in a run of the whole cell."""
    (machine / "stand_in" / "pip.py").write_text(
        textwrap.dedent("""
            import sys, pathlib
            pathlib.Path("asked.txt").write_text(" ".join(sys.argv[1:]))
        """)
    )
    (machine / "stand_in" / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\nu.find_spec = lambda name, *a: None if name == 'filelock' else real(name, *a)\n"
    )
    done = run_setup(machine, repository=(machine / "repository").as_uri())
    assert done.returncode == 0, done.stderr
    assert (machine / "content" / "asked.txt").read_text().startswith("install --quiet filelock==")


def test_elsewhere_nothing_happens(monkeypatch):
    assert not colab.in_colab()
    monkeypatch.setattr(colab, "missing_requirements", lambda: pytest.fail("looked for packages outside Colab"))
    colab.prepare("/content/drive")
