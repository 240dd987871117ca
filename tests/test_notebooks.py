"""The product itself: the notebooks as committed, run small from top to bottom, and in the wrong order."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import require_papermill, write_profile
from PIL import Image

import utils
from xraygan import disk
from xraygan.comparison import metrics
from xraygan.gan import fakes

papermill = require_papermill()

NOTEBOOKS = ("1_before_gan", "2_gan_training", "3_after_gan")
TOKEN = "KGAT_0123456789abcdef-this-is-secret"
TINY = {"image_size": 64, "max_train_images": 120, "classifier_epochs": 3, "classifier_patience": 3}
TINY |= {"gan_updates": 12, "num_fakes": 20, "num_seeds": 2}


def committed(name):
    return nbformat.read(disk.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def study(store, *arguments):
    """Run notebooks/run.py as `make study` does, writing below `store`."""
    environment = os.environ | {"XRAYGAN_STORE": str(store), "KAGGLE_API_TOKEN": TOKEN, "KAGGLE_KEY": TOKEN}
    command = [sys.executable, "notebooks/run.py", *map(str, arguments)]
    return subprocess.run(command, cwd=disk.ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def tiny_profile(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    path.write_text(write_profile(**TINY))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_folder, tiny_profile):
    """The store of a whole small study of three classes on the phantom, and what it printed."""
    store = tmp_path_factory.mktemp("study")
    done = study(store, "--data", phantom_folder, "--profile", tiny_profile, "--classes", "NORMAL,COVID19,PNEUMONIA")
    assert done.returncode == 0, done.stdout + done.stderr
    return store, done.stdout


def test_every_promised_file_is_there(finished):
    store, _ = finished
    run = "phantom-tiny"
    results, models, images = store / "results" / run, store / "models" / run, store / "images" / run
    record = json.loads((results / "record.json").read_text())
    assert record["is_phantom"] is True
    assert record["classes"] == ["NORMAL", "COVID19", "PNEUMONIA"]
    assert record["minority"] == "COVID19"
    assert record["profile"]["num_fakes"] == 20
    assert {"tensorflow", "keras", "numpy", "python"} <= set(record["machine"]["packages"])
    assert record["machine"]["precision"] in ("float32", "mixed_bfloat16")
    assert set(record["costs"]) == {"before_gan", "gan", "after_gan"}
    assert all(cost["seconds"] > 0 and cost["peak_memory_gb"] > 0.1 for cost in record["costs"].values())

    split = pd.read_csv(results / "split.csv")
    assert split.columns.tolist() == ["file", "class", "part", "group", "folder"]
    assert (split.loc[split["file"].str.startswith("test/"), "part"] == "test").all()
    test_files = split.loc[split["part"] == "test", "file"].tolist()

    scores = {}
    for model, arm, number in (("before_gan", "nothing", 0), ("after_gan", "gan", 20)):
        (facts,) = (results / "units" / "3-classes").glob(f"{arm}-{number}-0-*.json")
        history = pd.read_csv(facts.with_suffix(".history.csv"))
        assert history.columns.tolist() == ["epoch", "accuracy", "loss", "val_loss", "val_balanced_accuracy"]
        assert history["epoch"].tolist() == [1, 2, 3]
        predictions = pd.read_csv(facts.with_suffix(".csv"))
        assert predictions["file"].tolist() == test_files
        scores[arm] = json.loads(facts.read_text())["metrics"]
        assert scores[arm] == metrics.compute_metrics(predictions, ("NORMAL", "COVID19", "PNEUMONIA"), "COVID19")
        assert keras.models.load_model(models / f"{model}.keras").output_shape == (None, 3)
    table = metrics.compare_before_after(scores["nothing"], scores["gan"])
    pd.testing.assert_frame_equal(pd.read_csv(results / "before_after.csv"), table, check_dtype=False)

    assert [path.name for path in sorted((images / "gan").glob("epoch_*.png"))] == [
        f"epoch_{epoch:04d}.png" for epoch in (1, 2, 3)
    ]
    with Image.open(images / "gan" / "timelapse.gif") as film:
        assert film.n_frames == 3
    assert len(pd.read_csv(results / "gan" / "history.csv")) == 3
    curve = pd.read_csv(results / "gan" / "fidelity.csv")
    assert curve["epoch"].tolist() == [1, 2, 3]
    judgement = json.loads((results / "gan" / "judgement.json").read_text())
    assert judgement["kept_epoch"] == curve.loc[curve["kid"].idxmin(), "epoch"]
    assert judgement["fakes"] == 20 and judgement["alarm"] in (True, False)
    quality = pd.read_csv(results / "gan" / "quality.csv")
    assert set(zip(quality["space"], quality["images"], strict=True)) == {
        (space, name) for space in ("classifier", "random") for name in ("fakes", "real", "another class", "noise")
    }
    assert not quality.isna().any().any()
    assert len(pd.read_csv(results / "gan" / "memorisation.csv")) == 20
    fake_images, manifest = fakes.read_fakes(store / "data" / "generated" / run, "COVID19", 64)
    assert len(fake_images) == 20
    generator = keras.models.load_model(models / "dcgan_generator.keras")
    assert set(manifest["generator"]) == {fakes.weights_hash(generator)}
    again = fakes.draw(generator, fakes.draw_noise(manifest["seed"], 100))
    assert np.abs(again.astype(int) - fake_images).max() <= 1
    leftovers = [path for path in store.rglob("*") if "draft" in path.name or path.suffix in (".pkl", ".pickle", ".joblib")]
    assert not leftovers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--classes", "NORMAL,COVID19"),
            "CLASSES is for notebook 1_before_gan, which doesn't run now, and the run phantom-tiny was made with another",
        ),
        (
            ("--classes", "NORMAL,COVID19,PNEUMONIA", "--gan-recipe", "hinge"),
            "GAN_RECIPE is for notebook 2_gan_training, which doesn't run now, and",
        ),
    ],
)
def test_a_parameter_that_nothing_would_read_stops_unless_the_run_was_made_with_it(
    arguments, message, finished, phantom_folder, tiny_profile
):
    done = study(finished[0], "--data", phantom_folder, "--profile", tiny_profile, "--only", "3_after_gan", *arguments)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_every_file_of_the_comparison_is_there(finished):
    results = finished[0] / "results" / "phantom-tiny"
    shortcuts = pd.read_csv(results / "shortcuts.csv")
    assert shortcuts["balanced_accuracy"].between(0, 1).all() and shortcuts["setting"].tolist() == ["3-classes"] * 4
    arms_table = pd.read_csv(results / "arms.csv")
    assert set(zip(arms_table["setting"], arms_table["arm"], arms_table["seed"], strict=True)) == {
        ("3-classes", arm, seed) for arm in ("nothing", "oversampling", "gan") for seed in (0, 1)
    }
    verdict = json.loads((results / "verdict.json").read_text())
    primary = [row for row in verdict["contrasts"] if row["primary"]]
    assert [(row["metric"], row["first"], row["second"], row["setting"]) for row in primary] == [
        (metric, first, "gan", "3-classes")
        for metric in ("auroc", "balanced_accuracy")
        for first in ("oversampling", "nothing")
    ]
    assert abs(primary[0]["difference"]) <= 1 and primary[0]["replicates"] == 2
    assert primary[0]["low"] is None and primary[0]["outcome"] == "inconclusive", "two seeds make no claim"
    assert {row["images"] for row in verdict["without_twins"] if row["primary"]} == {primary[0]["images"]}, "it has no twins"
    assert "drawings" in verdict["warnings"][0]
    share_found = pd.read_csv(results / "share_found.csv", index_col="model")
    assert share_found.index.tolist() == ["before", "after"] and share_found.shape == (2, 3)


def test_study_ends_with_the_table_and_says_where_things_are(finished):
    store, printed = finished
    assert "this run uses the phantom" in printed
    assert re.search(r"balanced accuracy +\d\.\d{3} +\d\.\d{3} +[+-]\d\.\d{3}", printed)
    assert "training the GAN: 100%" in printed, "no progress was shown"
    folder = store / "results" / "phantom-tiny" / "notebooks"
    for name in NOTEBOOKS:
        assert (folder / f"{name}.ipynb").exists()
        assert "<html" in (folder / f"{name}.html").read_text()[:500]
    assert "notebooks, as pages" in printed


def test_an_executed_notebook_shows_no_noise(finished):
    folder = finished[0] / "results" / "phantom-tiny" / "notebooks"
    for name in NOTEBOOKS:
        outputs = [
            output for cell in code_cells(nbformat.read(folder / f"{name}.ipynb", as_version=4)) for output in cell.outputs
        ]
        assert not [output["text"][:300] for output in outputs if output.get("name") == "stderr"], name


@pytest.mark.slow
def test_running_again_trains_nothing_and_changes_nothing(finished, phantom_folder, tiny_profile):
    store, _ = finished
    results = store / "results" / "phantom-tiny"
    before = {path: path.read_bytes() for path in results.rglob("*.csv")}
    profile = os.path.relpath(tiny_profile, disk.ROOT)  # from where `make` runs, not from the notebooks' folder
    done = study(store, "--data", phantom_folder, "--profile", profile, "--classes", "NORMAL,COVID19,PNEUMONIA")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"training the|training with|writing fakes|the comparison", done.stdout), "trained again"
    assert {path: path.read_bytes() for path in results.rglob("*.csv")} == before


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_in_all_three_notebooks(finished, tmp_path, phantom_folder, tiny_profile):
    """Two runs in fresh processes: every table but the one with times, every grid and every fake, byte for byte."""
    done = study(tmp_path, "--data", phantom_folder, "--profile", tiny_profile, "--classes", "NORMAL,COVID19,PNEUMONIA")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (
        {
            path.relative_to(store): path.read_bytes()
            for kind in ("*.csv", "epoch_*.png", "fake_*.png", "best*.npz")
            for path in store.rglob(kind)
            if path.name != "arms.csv"
        }
        for store in (finished[0], tmp_path)
    )
    assert set(first) == set(second)
    assert [path for path in first if first[path] != second[path]] == []
    assert len(first) > 70


def test_kaggles_token_is_written_nowhere(finished):
    store, printed = finished
    assert TOKEN not in printed
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > 70
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", [pytest.param(NOTEBOOKS[1], marks=pytest.mark.slow), NOTEBOOKS[2]])
def test_out_of_order_says_which_to_run_first(name, tmp_path, phantom_folder, tiny_profile):
    done = study(tmp_path, "--data", phantom_folder, "--profile", tiny_profile, "--only", name)
    assert done.returncode != 0
    assert f"{name} stopped: " in done.stderr
    assert "run notebooks/1_before_gan.ipynb first" in done.stderr or "run the notebooks in their order" in done.stderr


def test_a_sweep_that_the_profile_leaves_out_is_refused_before_anything_is_trained(tmp_path, phantom_folder, tiny_profile):
    done = study(tmp_path, "--data", phantom_folder, "--profile", tiny_profile, "--sweep", "real")
    assert done.returncode != 0 and "Notebook 1" not in done.stdout
    assert done.stderr.strip() == "This profile leaves out the part with few images of patients; PROFILE = 'study' has it."


@pytest.mark.slow
def test_a_sweep_runs_alone_by_one_command(tmp_path, phantom_folder, monkeypatch):
    """It needs notebook 1 alone, which is run where it wasn't, and its own GANs."""
    few = tmp_path / "few.yaml"
    sizes = {"scarce_counts": [8], "scarce_seeds": [1], "curve_counts": [8, 12], "curve_seeds": 1}
    few.write_text(write_profile(**TINY | {"gan_updates": 1} | sizes))
    done = study(tmp_path, "--data", phantom_folder, "--profile", few, "--sweep", "real")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Notebook 1 of 1" in done.stdout and "Notebook 2" not in done.stdout
    table = pd.read_csv(tmp_path / "results" / "phantom-few" / "scarcity" / "worth.csv")
    assert set(table["arm"]) == {"nothing", "oversampling", "gan"} and set(table["num_real"]) == {8}
    assert (tmp_path / "images" / "phantom-few" / "scarcity.png").exists()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    mixed = study(tmp_path, "--data", phantom_folder, "--profile", few, "--sweep", "real")
    assert mixed.returncode != 0 and "notebook 1 ran on tensorflow, and this is jax: set KERAS_BACKEND" in mixed.stderr


@pytest.mark.slow
def test_too_few_images_to_judge_by_is_said_and_the_last_epoch_kept(tmp_path, phantom_folder):
    few = tmp_path / "few.yaml"
    few.write_text(write_profile(**TINY | {"max_train_images": 40}))
    for name in NOTEBOOKS[:2]:
        done = study(tmp_path, "--data", phantom_folder, "--profile", few, "--only", name)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "held-out images are too few to judge the fakes by numbers" in done.stdout
    judgement = json.loads((tmp_path / "results/phantom-few/gan/judgement.json").read_text())
    history = pd.read_csv(tmp_path / "results/phantom-few/gan/history.csv")
    assert judgement["kept_epoch"] == len(history) == 6, "the last epoch"
    assert not (tmp_path / "results/phantom-few/gan/fidelity.csv").exists()


@pytest.mark.slow
def test_changed_data_are_noticed(tmp_path, phantom_folder, tiny_profile):
    import shutil

    data = shutil.copytree(phantom_folder, tmp_path / "data-copy")
    assert study(tmp_path, "--data", data, "--profile", tiny_profile, "--only", "1_before_gan").returncode == 0
    utils.save_png(np.zeros((128, 128), np.uint8), data / "train" / "NORMAL" / "phantom_0000.png")
    done = study(tmp_path, "--data", data, "--profile", tiny_profile, "--only", "2_gan_training")
    assert "DATA isn't what notebook 1 saw" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere"), "DATA is 'nowhere', and there is no such folder"),
        (("--profile", "enormous"), "PROFILE is 'enormous'; choose one of full, quick, study"),
        (("--also", "FLU"), "ALSO names 'FLU'; the classes there are 'COVID19', 'NORMAL', 'PNEUMONIA'"),
    ],
)
def test_wrong_parameters_are_one_sentence(arguments, message, tmp_path, phantom_folder):
    data = () if "--data" in arguments else ("--data", phantom_folder)
    done = study(tmp_path, *data, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("1_before_gan", {"CLASSES": ["NORMAL", "COVID19"]}, "CLASSES is ['NORMAL', 'COVID19']; it must be text"),
        pytest.param("2_gan_training", {"FAKES": 7}, "FAKES is 7; it must be text", marks=pytest.mark.slow),
        pytest.param("3_after_gan", {"SWEEPS": "yes"}, "SWEEPS is 'yes'; it must be True or False", marks=pytest.mark.slow),
    ],
)
def test_wrong_parameters_stop_a_notebook_before_anything_is_done(name, wrong, message, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAYGAN_STORE", str(tmp_path / "store"))
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            disk.ROOT / "notebooks" / f"{name}.ipynb",
            tmp_path / "out.ipynb",
            parameters=wrong,
            cwd=disk.ROOT / "notebooks",
            kernel_name="python3",
            progress_bar=False,
        )
    assert message in caught.value.evalue
    assert not (tmp_path / "store").exists()


def test_a_killed_notebook_is_one_sentence(tmp_path, phantom_folder, tiny_profile):
    """The notebook's own process is killed, as the system does when memory runs out."""
    environment = os.environ | {"XRAYGAN_STORE": str(tmp_path)}
    command = [sys.executable, "notebooks/run.py", "--data", str(phantom_folder), "--profile", str(tiny_profile)]
    process = subprocess.Popen(
        command, cwd=disk.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while "reading images" not in process.stdout.readline():  # it has started
        assert process.poll() is None
    os.kill(notebook_process(process.pid), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1_before_gan stopped: its process was killed, most often because memory ran out; run this again" in errors
    assert "Traceback" not in errors


def notebook_process(pid):
    """The process of the notebook that a process runs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(child) for child in children if b"ipykernel" in Path(f"/proc/{child}/cmdline").read_bytes())


@pytest.mark.parametrize("line", ["gan_updates: 1.5", "gan_epocs: 5"])
def test_wrong_profiles_are_one_sentence(line, tmp_path, phantom_folder):
    path = tmp_path / "mine.yaml"
    path.write_text(write_profile(**TINY).replace("gan_updates: 12", line))
    done = study(tmp_path, "--data", phantom_folder, "--profile", path)
    assert done.returncode == 1
    assert re.search(r"gan_updates in profile mine.yaml is|must have exactly the keys", done.stderr)


@pytest.mark.slow
def test_real_images_run_small(real_data, tmp_path, tiny_profile):
    done = study(tmp_path, "--data", real_data, "--profile", tiny_profile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "phantom" not in done.stdout


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_the_setup_cell_finds_the_project_from_its_own_folder_and_from_the_repositorys(folder, monkeypatch, tmp_path):
    script = code_cells(committed("1_before_gan"))[0].source + "\nimport utils; print(utils.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"XRAYGAN_STORE": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=disk.ROOT / folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(disk.ROOT / "utils.py")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_is_executed_clean_and_honest(name):
    notebook = committed(name)
    cells = code_cells(notebook)
    assert len(cells) <= 30
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "warning noise"
    text = json.dumps(notebook)
    assert not re.search(r"/home/|/root/|/tmp/|/work/|/Users/|C:\\\\", text)
    assert "not patients" in text, "a phantom's outputs must say so"
    parameters = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    for line in parameters[0].source.splitlines():
        assert re.fullmatch(r'[A-Z_]+ = ("[^"]*"|\d+|True|False)  # .+', line), line
    assert not re.search(r"^\s*(class|def) ", "\n".join(cell.source for cell in cells), flags=re.MULTILINE)
    kinds = [cell.cell_type for cell in notebook.cells]
    unexplained = [i for i, kind in enumerate(kinds) if kind == "code" and kinds[i - 1] == "code"]
    assert not unexplained, "a code cell has no sentence before it"
    assert count_lines(cells) <= 100, "a notebook argues, the package computes"


def count_lines(cells):
    """Lines of code: neither blank nor a comment."""
    lines = [line.strip() for cell in cells for line in cell.source.splitlines()]
    return len([line for line in lines if line and not line.startswith("#")])


def test_the_setup_cell_has_eight_lines():
    assert count_lines(code_cells(committed("1_before_gan"))[:1]) <= 8


def test_the_setup_cell_is_the_same_in_all_notebooks():
    assert len({code_cells(committed(name))[0].source for name in NOTEBOOKS}) == 1


def test_no_number_is_typed_into_a_closing_text():
    for name in NOTEBOOKS:
        cells = committed(name).cells
        start = next(index for index, cell in enumerate(cells) if cell.source.startswith("## What we found"))
        prose = " ".join(cell.source for cell in cells[start:] if cell.cell_type == "markdown")
        assert not re.search(r"\d", re.sub(r"`[^`]*`|[Nn]otebook \d", "", prose)), name


def test_no_pickle_and_no_lambda_layer_in_the_code():
    for path in [*Path(disk.ROOT / "xraygan").rglob("*.py"), disk.ROOT / "utils.py"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"import (pickle|dill|cloudpickle)|joblib\.(dump|load)|layers\.Lambda|allow_pickle=True", text), (
            path
        )
