"""Notebook 1's way from DATA to the split: the phantom in every layout, from a CSV and as DICOM is the plain phantom."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image
from test_layouts import LAYOUTS, lay_out, list_files, place, small, write_csv

import utils
from xraygan import run
from xraygan.comparison.study import begin, open_study, recall_study
from xraygan.data import audit, dataset, sources, split
from xraygan.report import figures, findings, pictures

ASKED = {"PROFILE": "quick", "CLASSES": "", "MINORITY": "", "ALSO": "PNEUMONIA", "GROUPS": "", "CLASSIFIER": "study_cnn"}
ASKED |= {"TEST_SHARE": 0.0, "ON_LEAK": "drop", "SEED": 0, "PRECISION": "float32"}


def go(data, name):
    """What notebook 1 does before it trains: `Beginning`, the split and the `Study`."""
    begun = begin(DATA=str(data), RUN=name, **ASKED)
    groups = audit.find_groups(begun.images, begun.patients)
    table = split.make_split(begun.images, groups, max_train_images=begun.profile.max_train_images)
    return begun, table, begun.start_study(table, audit.count_leaks(begun.images, groups))


@pytest.fixture(scope="module")
def plain(phantom_folder):
    return go(phantom_folder, "plain")


def from_csv(phantom_folder, root):
    rows = []
    for part, name, path in list_files(phantom_folder):
        place(path, root / "all" / f"{part}_{name}_{path.name}")
        rows.append((f"all/{part}_{name}_{path.name}", name, part))
    return write_csv(root / "labels.csv", ("file", "label", "split"), rows)


def as_dicom(phantom_folder, root, **options):
    dicom = pytest.importorskip("pydicom") and pytest.importorskip("test_dicom")
    for part, name, path in list_files(phantom_folder):
        target = root / part / name / f"{path.stem}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(dicom.write_dicom(np.asarray(Image.open(path)), 12, **options))
    return root


OTHER_NAMES = (
    "subfolders",
    "hospitals in each class",
    "images in each class",
    "CSV",
    "DICOM",
    "DICOM of 12 bits in 16",
)  # below the class's folder, or altogether
WAYS = {case: lambda folder, root, where=where: lay_out(folder, root, where) for case, (where, _) in LAYOUTS.items()}
WAYS |= {"CSV": from_csv, "DICOM": as_dicom}
WAYS |= {"DICOM of 12 bits in 16": lambda folder, root: as_dicom(folder, root, stored=16)}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_leads_to_the_same_images_and_classes(way, plain, phantom_folder, tmp_path):
    name = "way-" + "".join(letter for letter in way if letter.isalnum())
    begun, table, study = go(WAYS[way](phantom_folder, tmp_path / "xrays"), name)
    expected, expected_table, _ = plain
    np.testing.assert_array_equal(expected.images.images, begun.images.images)
    np.testing.assert_array_equal(expected.images.labels, begun.images.labels)
    np.testing.assert_array_equal(expected.images.folders, begun.images.folders)
    assert (expected.source.classes, expected.source.minority) == (begun.source.classes, begun.source.minority)
    assert (table["part"] == "test").sum() == (expected_table["part"] == "test").sum()
    assert set(table["part"]) == set(expected_table["part"])
    assert (way in OTHER_NAMES) or table.equals(expected_table), "how folders are spelt has changed the draw"
    listed = utils.read_table(study.folders.results / "replicates.csv")["file"]
    assert all((tmp_path / "xrays" / file).is_file() for file in listed)
    opened = dataset.open_dataset(study.data, study.folders)  # as notebooks 2 and 3 and every worker find it again
    np.testing.assert_array_equal(opened.images.images, begun.images.images)
    assert opened.redraws_test == (not (begun.images.folders == "test").any())
    figures.plt.close(pictures.show_examples(begun.images, begun.source, "examples"))


def test_patients_of_a_csv_are_groups_unless_groups_says_otherwise(phantom_folder, tmp_path):
    root = tmp_path / "xrays"
    rows = []
    for number, (part, name, path) in enumerate(list_files(phantom_folder)):
        place(path, root / part / name / path.name)
        rows.append((f"{part}/{name}/{path.name}", name, part, f"p{number // 3}"))
    labels = write_csv(root / "labels.csv", ("file", "label", "split", "patient"), rows)
    begun, table, _ = go(labels, "patients")
    assert len(set(begun.patients)) == len({row[3] for row in rows})
    groups = dict(zip(table["file"], table["group"], strict=True))
    for first, second in itertools.pairwise(rows):
        if first[3] == second[3]:
            assert groups[first[0]] == groups[second[0]]
    write_csv(tmp_path / "groups.csv", ("file", "group"), [(row[0], row[0]) for row in rows])
    begun = begin(DATA=str(labels), RUN="other-patients", **ASKED | {"GROUPS": str(tmp_path / "groups.csv")})
    assert len(set(begun.patients)) == len(rows)


def test_notebook_2_finds_the_images_again_whatever_classes_were_left_out(tmp_path):
    """More classes than are hardly meant, and one whose name can't be used: CLASSES left them out, and only notebook 1 knows it."""
    root, rows = tmp_path / "xrays", []
    for number in range(70):
        name = "AB"[number % 2] if number < 30 else f"finding {number}|other" if number < 69 else "B, severe"
        rows.append((f"{number}.png", name))
        (root / "images").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{number}.png")
    write_csv(root / "labels.csv", ("file", "label"), rows)
    begun = begin(DATA=str(root), RUN="left-out", **ASKED | {"ALSO": "", "CLASSES": "A,B"})
    groups = audit.find_groups(begun.images)
    study = begun.start_study(split.make_split(begun.images, groups), audit.count_leaks(begun.images, groups))
    run.write_table(audit.shortcuts_by_setting(study.dataset, study.settings), study.folders, "shortcuts.csv")
    asked = {key: ASKED[key] for key in ("PROFILE", "PRECISION")}
    assert open_study(**asked, DATA=str(root), RUN="left-out", threads=1).own.classes == ("A", "B")
    assert recall_study(str(root), "left-out").own.classes == ("A", "B")


def relabel_the_last_of_a(root):
    """The files stand in the same order then, so that neither their names nor their pixels tell."""
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("A/9.png,A", "A/9.png,B"))


def put(name, value):
    return lambda root: Image.fromarray(np.full((32, 32), value, np.uint8)).save(root / name)


CHANGES = {
    "of another class": (relabel_the_last_of_a, r"1 of another class \(the first: A/9\.png\)"),
    "new": (
        lambda root: (root / "B/10.png", put("B/10.png", 7)(root), add_row(root, "B/10.png,B")),
        r"1 new \(the first: B/10\.png\)",
    ),
    "gone": (lambda root: drop_row(root, "B/3.png,B"), r"1 gone \(the first: B/3\.png\)"),
    "renamed": (
        lambda root: (
            shutil.copy(root / "B/3.png", root / "B/33.png"),
            drop_row(root, "B/3.png,B"),
            add_row(root, "B/33.png,B"),
        ),
        "1 new .* and 1 gone",
    ),
    "other pixels": (put("A/0.png", 99), "the files have the same names and other pixels"),
}


def add_row(root, row):
    (root / "labels.csv").write_text((root / "labels.csv").read_text() + row + "\n")


def drop_row(root, row):
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace(row + "\n", ""))


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_or_labels_than_notebook_1_saw_are_named(change, tmp_path):
    root, rng = tmp_path / "xrays", np.random.default_rng(0)
    for name in "AB":
        (root / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(root / name / f"{number}.png")
    write_csv(root / "labels.csv", ("file", "label"), [(f"{name}/{number}.png", name) for name in "AB" for number in range(10)])
    asked = ASKED | {
        "ALSO": "",
        "MINORITY": "A",
        "DATA": str(root / "labels.csv"),
        "RUN": "changed-" + change.replace(" ", "-"),
    }
    begun = begin(**asked)
    groups = audit.find_groups(begun.images)
    study = begun.start_study(split.make_split(begun.images, groups), audit.count_leaks(begun.images, groups))
    dataset.open_dataset(study.data, study.folders)
    edit, sentence = CHANGES[change]
    edit(root)
    dataset._open.cache_clear()
    with pytest.raises(ValueError, match=rf"DATA isn't what notebook 1 saw: {sentence}.* with a new name for RUN\."):
        dataset.open_dataset(study.data, study.folders)


def test_a_run_that_notebook_1_refuses_stays_as_it_was(phantom_folder):
    """Refused before any work, with the tables of the run that is there untouched."""
    _, _, study = go(phantom_folder, "kept")
    run.save_model(study.classifier.build(2), study.folders, "before_gan")
    before = {path: path.read_bytes() for path in study.folders.results.rglob("*") if path.is_file()}
    for change, sentence in ({"SEED": 1}, "seed"), ({"ALSO": ""}, "also, data"), ({"PRECISION": "mixed_bfloat16"}, "precision"):
        with pytest.raises(ValueError, match=f"the run kept was made with another {sentence}: choose another name with RUN"):
            begin(DATA=str(phantom_folder), RUN="kept", **ASKED | change)
    assert {path: path.read_bytes() for path in study.folders.results.rglob("*") if path.is_file()} == before


def test_what_was_found_is_printed(phantom_folder, tmp_path, capsys):
    root = lay_out(phantom_folder, tmp_path / "xrays", lambda *parts: "Data/" + "/".join(parts))
    (root / "Data/train/NORMAL/notes.txt").write_text("x")
    go(root, "printed")
    printed = capsys.readouterr().out
    assert "The images were found in Data." in printed and "other files" in printed and str(tmp_path) not in printed


@pytest.mark.parametrize(("share", "said"), [(0.0, "about 20% of each class"), (0.3, "about 30% of each class")])
def test_where_there_is_no_test_folder_the_draw_is_said(share, said, phantom_folder, tmp_path, capsys):
    asked = ASKED | {"TEST_SHARE": share}
    begin(DATA=str(phantom_folder), RUN="with-test", **asked)
    assert "without a test folder" not in capsys.readouterr().out
    root = lay_out(phantom_folder, tmp_path / "xrays", lambda part, name, file: f"{name}/{part}_{file}")
    begin(DATA=str(root), RUN=f"without-test-{share}", **asked)
    assert f"The images come without a test folder: {said} are drawn for the test" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["NA", "A$_$", "<img src=x onerror=alert(1)>", "a|b*c_d", "A" * 200, "007"])
def test_a_class_of_any_name_goes_through_to_files_figures_and_findings(name, tmp_path):
    root = small(tmp_path / "xrays", [f"{part}/{label}" for part in ("train", "test") for label in (name, "Z")], count=9)
    for number, path in enumerate(sorted(root.glob("*/*/*.png"))):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    begun = begin(DATA=str(root), RUN="named", **ASKED | {"ALSO": "", "MINORITY": name})
    groups = audit.find_groups(begun.images)
    table = split.make_split(begun.images, groups)
    shutil.rmtree(run.open_folders("named").results)
    run.open_folders("named")
    study = begun.start_study(table, audit.count_leaks(begun.images, groups))
    assert set(study.dataset.split["class"]) == {name, "Z"}
    few = dataset.Setting(study.own.classes, name, 3)
    (study.folders.results / "units" / few.name).mkdir(parents=True)
    assert len(study.dataset.select_all(few)["train"].images) > 3
    figure = pictures.show_examples(begun.images, begun.source, f"images of {name}")
    figure.savefig(tmp_path / "figure.png")
    figures.plt.close(figure)
    contrast = {"second": "gan", "first": "nothing", "setting": few.name, "metric": "auroc"}
    assert "<img" not in findings.write_class(name) + findings.write_contrast(contrast)
    run.write_table(audit.shortcuts_by_setting(study.dataset, study.settings), study.folders, "shortcuts.csv")
    again = open_study(**{key: ASKED[key] for key in ("PROFILE", "PRECISION")}, DATA=str(root), RUN="named", threads=1)
    assert again.own.minority == name
    assert isinstance(sources.find_source(str(root), name + ",Z").minority, str)
