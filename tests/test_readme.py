"""The hand-written pages: their numbers are the files' numbers, their links lead somewhere, their code runs."""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

import utils
from benchmarks import published_study, rescore
from xraygan import disk, keys, run
from xraygan.comparison import units
from xraygan.report import published, readme

README = readme.PAGES[0]
TEXT = README.read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(TEXT.splitlines()[:25])
pages = pytest.mark.parametrize("page", readme.PAGES, ids=readme.name_page)


@pages
def test_every_number_is_what_its_file_says(page):
    assert readme.find_stale_numbers(page) == []


@pages
def test_every_number_with_a_decimal_point_has_a_source(page):
    assert readme.find_unsourced_numbers(page) == []


def test_a_number_that_changes_in_its_file_is_named_with_its_line(tmp_path):
    for source in readme.read_sources(README):
        file = re.fullmatch(r"(?:table )?(\S+?)(?: .*?)?: .*", source.comment)[1]
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(disk.ROOT / file, tmp_path / file)
    assert readme.find_stale_numbers(README, tmp_path) == []

    file = tmp_path / "results" / "published" / "chest_xray-study" / "before_after.csv"
    table = pd.read_csv(file).set_index("metric")
    table.loc["auroc", "after"] = 0.9123
    table.to_csv(file)
    lines = TEXT.splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if text.startswith("| AUROC |"))
    source = "results/published/chest_xray-study/before_after.csv: after"
    assert readme.find_stale_numbers(README, tmp_path) == [f"README.md, line {line}: '0.9997' is now 0.9123 ({source})."]

    file.unlink()
    assert all("before_after.csv can't be compared" in fault for fault in readme.find_stale_numbers(README, tmp_path))


@pytest.fixture
def write_page(tmp_path):
    """A function (Markdown) → a page beside a CSV and a JSON file of known numbers."""
    rows = {"arm": ["nothing", "gan_and_classical", "gan"], "score": [0.5, 0.7512, 0.7488], "low": [-0.012, 0.0, 0.1]}
    pd.DataFrame(rows).to_csv(tmp_path / "arms.csv", index=False)
    disk.write_json(tmp_path / "facts.json", {"seconds": 90, "images": 1288, "parts": [{"name": "a b", "share": 0.92}]})

    def write(text):
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        return tmp_path / "page.md", tmp_path

    return write


TABLE = "| way | score |\n|---|---|\n| nothing | 0.50 |\n| GAN and classical (half) | 75.1% (+0.0) |\n\n"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("It took 1.5 minutes. <!-- facts.json: seconds / 60 -> 1.5 -->", []),
        (
            "It took 1.6 minutes. <!-- facts.json: seconds / 60 -> 1.6 -->",
            ["line 1: '1.6' is now 1.5 (facts.json: seconds / 60)."],
        ),
        ("It took 2 minutes. <!-- facts.json: seconds / 60 -> 1.5 -->", ["line 1: the text above doesn't hold '1.5'"]),
        ("1,288 images,\n92 %.\n<!-- facts.json: images -> 1,288;\nparts[name=a_b].share -> 92 % -->", []),
        ("1,289 images <!-- facts.json: images -> 1,289 -->", ["line 1: '1,289' is now 1,288"]),
        ("- 0.1\n- −1.2 points <!-- arms.csv: [arm=nothing].low * 100 -> −1.2 -->", []),
        ("- 0.1 points <!-- arms.csv: max(low) -> 0.1; count() -> 3 -->", ["doesn't hold '3'"]),
        ("mean 0.667 <!-- arms.csv: mean(score) -> 0.667 -->", []),
        ("0.5 <!-- arms.csv: score -> 0.5 -->", ["line 1: '0.5' can't be compared with arms.csv: score (3 rows are meant"]),
        ("0.5 <!-- facts.json: minutes -> 0.5 -->", ["line 1: '0.5' can't be compared with facts.json: minutes"]),
        ("0.5 <!-- lost.json: minutes -> 0.5 -->", ["line 1: lost.json can't be compared"]),
        (TABLE.replace("75.1% (+0.0)", "0.751") + "<!-- table arms.csv: =arm | score -->", []),
        (TABLE.replace("75.1% (+0.0)", "0.752") + "<!-- table arms.csv: =arm | score -->", ["line 4: '0.752' is now 0.751"]),
        (TABLE.replace("0.50 |", "0.50 (−0.01) |") + "<!-- table arms.csv: =arm | score, low -->", []),
        (TABLE + "<!-- table arms.csv: =arm | score -->", ["line 4 has 2 numbers where its source has 1 (score)"]),
        (TABLE + "<!-- table arms.csv: =arm -->", ["line 3 has 2 cells and its source 1"]),
        (TABLE.replace("nothing", "anything") + "<!-- table arms.csv: =arm | score, low -->", ["line 3 has 1 numbers"]),
    ],
)
def test_a_source_says_what_is_wrong(write_page, text, faults):
    found = readme.find_stale_numbers(*write_page(text))
    assert len(found) == len(faults)
    assert all(fault in sentence for fault, sentence in zip(faults, found, strict=True)), found


def test_a_number_without_a_source_is_named(write_page):
    text = "Python 3.11, `0.25`, [x](http://a/1.5), 2 and 0.5.\n\n0.5 <!-- arms.csv: [arm=nothing].score -> 0.5 -->\n"
    assert readme.find_unsourced_numbers(*write_page(text)) == ["page.md, line 1: '0.5' has no source."]


@pages
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("#"):
            assert target[1:] in list_headings(page), target
        elif not target.startswith("https://"):
            file, _, heading = target.partition("#")
            assert (page.parent / file).exists(), target
            assert not heading or heading in list_headings(page.parent / file), target


def list_headings(page):
    """A page's headings, as links to them are written."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_screen_has_the_answer_a_picture_and_both_commands():
    assert "**The answer: we found no benefit. " in FIRST_SCREEN and "(95 % interval: 25 or fewer to 33)" in FIRST_SCREEN
    for part in ("make study", "make test", "minutes", "results/published/scarcity/scarcity.png", "further images"):
        assert part in FIRST_SCREEN, part
    assert len(TEXT.splitlines()) <= 220


SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
USES = {  # what a snippet must have made possible, run where it has been pasted
    "xraygan/gan/recipe.py": """
from dataclasses import replace
import numpy as np
from xraygan.gan.dcgan import GAN
from xraygan.gan.recipe import RECIPES
gan = GAN(replace(RECIPES["least_squares"], image_size=32))
gan.compile_for_training(jit_compile=False)
history = gan.fit(np.zeros((8, 32, 32, 1), "float32"), batch_size=8, verbose=0).history
assert np.isfinite(history["d_loss"]).all() and np.isfinite(history["g_loss"]).all(), history
assert RECIPES["least_squares"].describe()["loss"] != RECIPES["dcgan"].describe()["loss"]
""",
    "xraygan/comparison/classifier.py": """
import numpy as np
from xraygan.comparison.classifier import Classifier
for num_classes, width in ((2, 1), (3, 3)):
    model = Classifier(network="pooled_cnn", image_size=32).build(num_classes)
    assert model(np.zeros((4, 32, 32, 1), "float32")).shape == (4, width)
assert Classifier(network="pooled_cnn").describe(2) != Classifier().describe(2)
""",
    "xraygan/comparison/arms.py": """
import numpy as np
from xraygan.comparison.arms import Sources, choose_arm, make_extra_images
real = np.full((3, 32, 32, 1), 128, np.uint8)
extra = make_extra_images("noisy", Sources(real), 5, seed=0)
assert extra.shape == (5, 32, 32, 1) and extra.dtype == np.uint8 and 5 < extra.std() < 15
assert choose_arm("noisy").describe() != choose_arm("oversampling").describe()
""",
}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.split(":")[0].rpartition("/")[2])
def test_a_snippet_pasted_where_it_says_does_what_it_says(snippet, tmp_path):
    file = snippet.removeprefix("# ").split(":")[0]
    assert len([line for line in snippet.splitlines() if line]) <= 15
    shutil.copytree(disk.ROOT / "xraygan", tmp_path / "xraygan")
    shutil.copyfile(disk.ROOT / "utils.py", tmp_path / "utils.py")
    with (tmp_path / file).open("a", encoding="utf-8") as module:
        module.write("\n" + snippet)
    (tmp_path / "use.py").write_text(USES[file], encoding="utf-8")
    environment = os.environ | {"XRAYGAN_STORE": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, tmp_path / "use.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_all_three_snippets_are_there():
    assert [snippet.removeprefix("# ").split(":")[0] for snippet in SNIPPETS] == list(USES)


def test_the_rescored_table_is_what_the_published_predictions_give():
    expected = pd.read_csv(published.STUDY / "rescored.csv")
    table = rescore.rescore().round(6)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-9)


def test_the_contrasts_that_were_judged_again_are_what_the_published_predictions_give():
    """Among them what an audit of the first study worked out by itself: ±0.6 points with classes called by shares."""
    folder = published.STUDY
    expected, table = utils.read_table(folder / "rescored_contrasts.csv"), rescore.compare_again().round(6)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)
    names = ["setting", "metric", "first", "second"]
    row = table.set_index(names).loc[("3-classes", "balanced_accuracy", "oversampling", "gan")]
    assert (row["high"] - row["low"]) / 2 == pytest.approx(0.0065, abs=0.0006) and row["outcome"] == "equivalent"


def test_probabilities_are_divided_by_the_class_shares():
    two = pd.DataFrame({"label": ["ill", "well"], "prediction": "well", "probability": [0.11, 0.09]})
    decided = published_study.decide_by_shares(two, {"well": 0.9, "ill": 0.1}, "ill")
    assert decided["prediction"].tolist() == ["ill", "well"], "above the share of the training images a patient is called ill"
    three = pd.DataFrame({"probability_a": [0.6, 0.6], "probability_b": [0.3, 0.1], "probability_c": [0.1, 0.3]})
    assert published_study.decide_by_shares(three, {"a": 0.8, "b": 0.1, "c": 0.1}, "b")["prediction"].tolist() == ["b", "c"]


@pytest.mark.parametrize(
    ("arm", "share"),
    [("nothing", 25 / 1036), ("gan", 1025 / 2036), ("class_weights", 1025 / 2036), ("gan_without_real", 1000 / 2011)],
)
def test_shares_are_those_of_what_was_trained_on(arm, share):
    added = 0 if arm in ("nothing", "class_weights") else 1000
    facts = {"real_images": 1036, "real_minority": 25, "extra_images": added, "parameters": {"arm": arm, "num_extra": 1000}}
    setting = {"classes": ["NORMAL", "PNEUMONIA"], "minority": "PNEUMONIA"}
    shares = published_study.count_shares(facts, setting, {"NORMAL": 1011, "PNEUMONIA": 2726})
    assert shares == pytest.approx({"NORMAL": 1 - share, "PNEUMONIA": share})


def test_fakes_that_may_be_copies_are_not_shown(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "FIGURES", tmp_path)
    shown = tmp_path / "chest_xray_fakes.png"
    readme.publish_fakes(folders)
    assert not shown.exists()
    folders.images.mkdir(parents=True, exist_ok=True)
    (folders.images / "fakes.png").write_bytes(b"fakes")
    disk.write_json(folders.results / "gan" / "judgement.json", {"alarm": False})
    readme.publish_fakes(folders)
    assert shown.read_bytes() == b"fakes"
    disk.write_json(folders.results / "gan" / "judgement.json", {"alarm": True})
    readme.publish_fakes(folders)
    assert not shown.exists()


@pytest.mark.parametrize(
    ("name", "is_phantom"), [(published.STUDY_RUN, True), (published.BASELINE_RUN, True), (published.PHANTOM_RUN, False)]
)
def test_drawings_are_not_published_as_patients_nor_patients_as_drawings(name, is_phantom, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PUBLISHED", tmp_path / "published")
    folders = run.open_folders(name, tmp_path)
    disk.write_json(folders.results / "record.json", {"is_phantom": is_phantom})
    with pytest.raises(ValueError, match=f"run {name} isn't of the images that its name says"):
        published.publish(folders)
    assert not (tmp_path / "published").exists()
    disk.write_json(folders.results / "record.json", {"is_phantom": not is_phantom})
    published.publish(folders)
    assert (tmp_path / "published" / name / "record.json").exists()


def test_published_trainings_are_taken_over_where_a_run_of_that_name_goes_on(tmp_path, monkeypatch):
    """Whole ones that the run hasn't; they are signed there, since earlier versions noted no hashes."""

    def find_files(study, name):
        folder, key = study.folders.results / "units" / "2-classes", keys.digest({"name": name})
        return units.Files(folder / f"{name}-{key}.json", folder / f"{name}-{key}.csv", folder / f"{name}-{key}.history.csv")

    def write(study, name, text):
        files = find_files(study, name)
        disk.write_json(files.facts, {"parameters": {"name": name}, "text": text})
        for file in files[1:]:
            file.write_text(text)

    monkeypatch.setattr(run, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(units, "find_files", find_files)
    first, second = (SimpleNamespace(folders=run.open_folders(published.STUDY_RUN, tmp_path / store)) for store in ("1", "2"))
    for name in ("a", "b", "of_another_study", "cut_off", "renamed"):
        write(first, name, f"published {name}")
    find_files(first, "cut_off").history.unlink()
    disk.write_json(find_files(first, "renamed").facts, {"parameters": {"name": "another"}})
    (find_files(first, "a").facts.parent / ".draft-1-a.csv").write_text("half")
    published.publish(first.folders)
    assert not list((tmp_path / "published").rglob(".draft*")), "a training that is at work meanwhile"

    write(second, "a", "own a")
    assert units.restore_published(second, ["a", "b", "cut_off", "renamed", "not_published"]) == 1
    assert len(list(find_files(second, "a").facts.parent.iterdir())) == 6
    for name, text in (("a", "own a"), ("b", "published b")):
        facts, *files = find_files(second, name)
        assert disk.read_json(facts)["text"] == text and [file.read_text() for file in files] == [text] * 2
    assert disk.read_json(find_files(second, "b").facts)["files"] == units.hash_tables(find_files(second, "b"))
    assert units.restore_published(second, ["a", "b"]) == 0

    another = SimpleNamespace(folders=run.open_folders("another", tmp_path / "2"))
    assert units.restore_published(another, ["b"]) == 0


def test_every_test_that_the_table_of_faults_names_exists():
    table = (disk.ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", table))
    existing = set()
    for path in (disk.ROOT / "tests").glob("test_*.py"):
        existing |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert len(named) > 25
    assert named <= existing, named - existing
