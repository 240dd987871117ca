"""Folders as other people lay them out, and tables of labels: the same images and classes as in the plain layout, or a sentence."""

import csv
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import utils
from xraygan.data import csv_tables, folder_names, labels, layouts, sources, tree

CLASSES = ("NORMAL", "COVID19", "PNEUMONIA")
NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
COHEN = "patientid,offset,sex,age,finding,RT_PCR_positive,survival,view,modality,date,location,folder,filename,doi,url,license,clinical_notes,other_notes,"


def read(data, classes=CLASSES, **arguments):
    return sources.read_images(sources.find_source(str(data), ",".join(classes), **arguments), show_progress=False)


def list_files(phantom_folder):
    """(part, class, path) of every drawing."""
    return [(path.parts[-3], path.parts[-2], path) for path in sorted(phantom_folder.glob("*/*/*.png"))]


def place(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(path, target)


def lay_out(phantom_folder, root, where):
    """The phantom again, each file at `root/where(part, class, name)`; with the mark that says it is drawn."""
    for part, name, path in list_files(phantom_folder):
        place(path, root / where(part, name, path.name))
    shutil.copy(phantom_folder / "phantom.json", root)
    return root


def with_validation(part, name, file):
    """Every fourth training image in a folder for validation."""
    return f"{'val' if part == 'train' and int(file[8:12]) % 4 == 0 else part}/{name}/{file}"


LAYOUTS = {  # where a file of the plain layout lies, and words that are said of it
    "capitals": (lambda part, name, file: f"{part.title()}/{name}/{file}", ""),
    "shouted": (lambda part, name, file: f"{part.upper()}/{name}/{file}", ""),
    "training and testing": (lambda part, name, file: f"{part}ing/{name}/{file}", ""),
    "training set and test images": (
        lambda part, name, file: f"{part} {'set' if part == 'train' else 'images'}/{name}/{file}",
        "",
    ),
    "in Korean": (lambda part, name, file: f"{'학습' if part == 'train' else '시험'}/{name}/{file}", ""),
    "train, val, test": (with_validation, "images of the validation part join train"),
    "train and val": (
        lambda part, name, file: f"{'train' if part == 'train' else 'val'}/{name}/{file}",
        "the validation part is the test",
    ),
    "one folder down": (lambda part, name, file: f"Data/{part}/{name}/{file}", "were found in Data"),
    "three folders down": (lambda part, name, file: f"a/b c/Dät/{part}/{name}/{file}", "were found in a/b c/Dät"),
    "subfolders": (lambda part, name, file: f"{part}/{name}/clinic {int(file[8:12]) // 100}/{file}", "in subfolders"),
    "images in each class": (lambda part, name, file: f"{part}/{name}/images/{file}", "in subfolders"),
    "a lone folder in each part": (lambda part, name, file: f"{part}/{part} data/x/{name}/{file}", ""),
    "hospitals in each class": (
        lambda part, name, file: f"{part}/{name}/Hospital{'AB'[int(file[8:12]) > 4]}/{file}",
        "in subfolders",
    ),
    "images in each part": (lambda part, name, file: f"{part}/images/{name}/{file}", ""),
    "parts in each class": (lambda part, name, file: f"{name}/{part}/{file}", "each class folder's own train and test"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_another_layout_gives_the_same_images(case, phantom_folder, tmp_path):
    where, said = LAYOUTS[case]
    plain, other = read(phantom_folder), read(lay_out(phantom_folder, tmp_path / "xrays", where))
    np.testing.assert_array_equal(plain.images, other.images)
    np.testing.assert_array_equal(plain.labels, other.labels)
    np.testing.assert_array_equal(plain.folders, other.folders)
    assert [Path(file).name for file in plain.files] == [Path(file).name for file in other.files]
    assert said in other.describe()
    assert other.source.is_phantom and other.source.name == "phantom"
    assert other.source.minority == plain.source.minority == "COVID19"


def test_without_a_split_no_image_has_a_folder(phantom_folder, tmp_path):
    root = lay_out(phantom_folder, tmp_path / "xrays", lambda part, name, file: f"{name}/{part}_{file}")
    images = read(root)
    assert set(images.folders) == {""}
    assert len(images.images) == len(read(phantom_folder).images)
    names = np.array(CLASSES)[images.labels]
    assert [file.split("/")[0] for file in images.files] == list(names)
    assert sources.find_source(str(root)).minority == "COVID19"
    wrapped = tmp_path / "archive"
    shutil.move(root, wrapped / "xrays")
    assert "The images were found in xrays." in read(wrapped).notes


def test_the_images_of_a_phantom_are_drawn_from_wherever_they_are_seen(phantom_folder, tmp_path):
    root = lay_out(phantom_folder, tmp_path / "xrays", lambda *parts: "/".join(parts))
    assert sources.find_source(str(root / "train")).is_phantom
    assert sources.find_source(str(tmp_path)).is_phantom


def test_masks_are_left_out_and_counted(phantom_folder, tmp_path):
    root = tmp_path / "xrays"
    for part, name, path in list_files(phantom_folder):
        place(path, root / part / name / "images" / path.name)
        place(path, root / part / name / "Lung Masks" / path.name)
    plain, other = read(phantom_folder), read(root)
    np.testing.assert_array_equal(plain.images, other.images)
    assert other.inventory.loc["all", "masks"] == len(plain.images)
    for part, name, path in list_files(phantom_folder):
        place(path, tmp_path / "beside" / part / name / path.name)
        place(path, tmp_path / "beside" / part / name / f"{path.stem}_mask.png")
    np.testing.assert_array_equal(plain.images, read(tmp_path / "beside").images)
    for _, name, path in list_files(phantom_folder):
        place(path, tmp_path / "apart" / "images" / name / f"{path.parts[-3]}{path.name}")
        place(path, tmp_path / "apart" / "masks" / name / f"{path.parts[-3]}{path.name}")
    apart = read(tmp_path / "apart")
    assert len(apart.files) == len(plain.files)
    assert f"masks ({len(plain.files)})" in apart.describe()


def small(root, folders, count=3):
    """Tiny images: `folders` is a list of places below `root`."""
    for place_, name in enumerate(folders):
        for index in range(count):
            utils.save_png(np.full((20, 20), (10 * place_ + index) % 256, np.uint8), root / name / f"{index}.png")
    return root


def test_a_class_may_be_called_mask(tmp_path):
    root = small(tmp_path / "faces", [f"{part}/{name}" for part in ("train", "test") for name in ("mask", "no mask")])
    assert sources.find_source(str(root)).classes == ("mask", "no mask")


NEAR_MISSES = {  # folders with images, and the sentence that says what was seen and what to write
    "train alone": (
        ["train/A", "train/B"],
        "xrays has a folder 'train' and has no folder 'test' or 'val' beside it: add xrays/test/CLASS, or give DATA",
    ),
    "test alone": (["TEST/A", "TEST/B"], "xrays has a folder 'TEST' and has no folder 'train' beside it"),
    "test and val": (["test/A", "val/A", "test/B"], "xrays has the folders 'test' and 'val' and has no folder 'train'"),
    "a slip in train": (
        ["trian/A", "trian/B", "test/A", "test/B"],
        r"no folder 'train' beside it: 'trian' \(6 images\) stands there and is probably meant: rename it to 'train'\. The layout",
    ),
    "a slip in test": (
        ["train/A", "train/B", "tets/A", "tets/B"],
        r"no folder 'test' or 'val' beside it: 'tets' \(6 images\) stands there and is probably meant: rename it to 'test'\. The",
    ),
    "another word for validation": (
        ["train/A", "train/B", "evaluation/A", "evaluation/B", "more/A"],
        r"'evaluation' \(6 images\) stands there and is probably meant: rename it to 'val'\. The layout",
    ),
    "another word for test": (
        ["train/A", "train/B", "unseen/A", "unseen/B"],
        r"beside it: if 'unseen' \(6 images\) is meant, rename it to 'test'; else add xrays/test/CLASS, or give DATA the path …/xrays/train",
    ),
    "a class called TR": (
        ["TR", "NORMAL", "COVID"],
        "has a folder 'TR' and has no .* beside it: if 'TR' is a class, rename it, .* a CSV .*; if it is a part of the split, add xrays/test/CLASS",
    ),
    "a class called Dev": (["Dev", "NORMAL"], "no folder 'train' beside it: if 'Dev' is a class, rename it, or name the class"),
    "a split of one class": (
        ["A/train", "A/test", "B"],
        r"the folders 'test' and 'train' in 'A' were taken for the parts of a split, and beside 'A' stand folders without all of these: "
        r"'B' \(3 images\)\. Give each class folder its own 'test' and 'train', or put",
    ),
    "a class without a test": (
        ["x/A/train", "x/A/test", "x/B/train"],
        r"in 'A' were taken for .* without all of these: 'B' \(3 images\)",
    ),
    "train in the classes": (["A/train", "B/train"], "A has a folder 'train' and has no folder 'test'"),
    "two places": (
        ["one/train/A", "one/test/A", "two/train/A", "two/test/A"],
        "a split in 2 places: one, two. Give DATA the path of one of them, e.g. …/xrays/one",
    ),
    "two for train": (["train/A", "Training/A", "test/A"], "xrays has two folders for train, Training and train"),
    "no classes": (
        ["images"],
        "at least two classes, and here is none: xrays holds 0 images itself, and the folders images \\(3\\)",
    ),
    "one class": (["A"], "at least two classes, and here is A: xrays holds 0 images itself, and the folders A \\(3\\)"),
    "nothing": ([], "at least two classes, and here is none: xrays holds 0 images itself, and no folder"),
    "hospitals": (
        ["siteA/NORMAL", "siteA/COVID19", "siteB/NORMAL", "siteB/COVID19"],
        "siteA, siteB each hold COVID19, NORMAL, and which of these are the classes can't be known. If they are siteA, siteB, name",
    ),
    "hospitals in a split": (
        [f"{part}/{site}/{name}" for part in ("train", "test") for site in ("Seoul", "Busan") for name in ("ILL", "WELL")],
        "Busan, Seoul each hold ILL, WELL, and which of these are the classes can't be known.* If not, put .* in a CSV with the columns",
    ),
    "hospitals in a split, one without a class in test": (
        ["train/A/ILL", "train/A/WELL", "train/B/ILL", "train/B/WELL", "test/A/ILL", "test/B/WELL", "test/B/ILL"],
        "A, B each hold ILL, WELL, and which",
    ),
    "hospitals in train alone": (
        ["train/A/ILL", "train/A/WELL", "train/B/ILL", "train/B/WELL", "test/1"],
        "none of train's classes \\(A, B\\) has a folder in 'test'",
    ),
    "patients with series": (
        [f"patient{number}/series{series}" for number in (1, 2) for series in (1, 2)],
        "patient1, patient2 each hold series1, series2, and which",
    ),
    "folds": (
        [f"fold{fold}/{name}" for fold in (1, 2, 3) for name in "AB"],
        "fold1, fold2, fold3 each hold A, B, and which of these are the classes can't be known",
    ),
    "parts in the classes' names": (
        ["train_A", "train_B", "test_A", "test_B"],
        "test_A and train_A are called like parts of a split, and not like classes. The layout expected is DATA/train/CLASS",
    ),
    "RSNA without its table": (
        ["stage_2_train_images", "stage_2_test_images"],
        "stage_2_test_images and stage_2_train_images are called",
    ),
    "SIIM without its table": (
        [f"dicom-images-{part}/{name}" for part in ("train", "test") for name in ("1.2", "1.3")],
        "dicom-images-test and dicom-images-train are called",
    ),
    "NIH without its table": (
        ["images_001/images", "images_002/images"],
        "images_001, images_002 are called like images or masks, and not",
    ),
    "images and masks in camel case": (
        ["CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"],
        "at least two classes, and here is none",
    ),
    "labels of flat parts": (
        ["train/A", "train/B", "test"],
        "none of train's classes \\(A, B\\) has a folder in 'test': give DATA the path …/xrays/train",
    ),
    "other capitals in a part": (
        ["train/Normal", "test/NORMAL", "train/COVID", "test/COVID"],
        r"here is COVID: .* left out: 'test/NORMAL', 'train/Normal' \(other capitals or blanks\?\)\.",
    ),
    "a blank in a part": (
        ["train/NORMAL ", "test/NORMAL", "train/COVID", "test/COVID"],
        r"here is COVID: .* left out: 'test/NORMAL', 'train/NORMAL ' \(other capitals or blanks\?\)\.",
    ),
    "a folder of all images beside another": (
        ["images/A", "images/B", "thumbnails"],
        "images holds the folders A, B, and beside it stand others: thumbnails. If the classes are in images, give DATA its path",
    ),
    "capitals alone": (
        ["Normal", "NORMAL", "COVID"],
        "the classes 'NORMAL', 'Normal' differ in capitals or blanks only: give them one name, or choose",
    ),
    "capitals beside the study's classes": (
        ["NORMAL", "normal", "COVID19"],
        "the classes 'NORMAL', 'normal' differ in capitals or blanks only",
    ),
    "blanks alone": (
        ["viral pneumonia", "viral  pneumonia", "B"],
        "the classes 'viral  pneumonia', 'viral pneumonia' differ in",
    ),
    "seventy patients": (
        [f"patient_{number}" for number in range(31)],
        "there are 31 classes: .* Choose some with CLASSES. The class folders are called patient_0",
    ),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_a_near_miss_says_what_was_seen_and_what_to_write(case, tmp_path):
    folders, message = NEAR_MISSES[case]
    (tmp_path / "xrays").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        sources.find_source(str(small(tmp_path / "xrays", folders)))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["files/p10/1", "files/p11/2"], "p10, p11"),
        (["patient001", "patient002"], "patient001, patient002"),
        (["SiteA", "SiteB"], "SiteA, SiteB"),
        (["grade0", "grade1"], ""),
    ],
)
def test_folders_that_may_be_patients_are_asked_about(folders, said, tmp_path):
    notes = sources.find_source(str(small(tmp_path / "xrays", folders))).listing.notes
    assert any(f"The class folders are called {said}" in note for note in notes) == bool(said)


@pytest.mark.parametrize("inner", ["12345", ["HospitalA", "HospitalB"]])
def test_folders_of_patients_or_hospitals_alike_in_all_classes_are_no_classes(inner, tmp_path):
    folders = [f"{part}/{name}/{each}" for part in ("train", "test") for name in ("ILL", "WELL") for each in inner]
    assert sources.find_source(str(small(tmp_path / "xrays", folders))).classes == ("ILL", "WELL")


@pytest.mark.parametrize("split", [True, False], ids=["split", "no split"])
def test_classes_answers_which_of_two_kinds_of_folders_are_the_classes(split, tmp_path):
    names = [f"{name}/{view}" for name in ("ILL", "WELL") for view in ("PA", "AP")]
    root = str(
        small(tmp_path / "xrays", [f"{part}/{name}" for part in ("train", "test") for name in names] if split else names)
    )
    with pytest.raises(
        ValueError, match=r"which of these are the classes can't be known\. If they are ILL, WELL, name them in CLASSES"
    ):
        sources.find_source(root)
    source = sources.find_source(root, "WELL,ILL")
    assert source.classes == ("WELL", "ILL") and not any("taken for the classes" in note for note in source.listing.notes)
    with pytest.raises(
        ValueError, match="CLASSES names 'PA', 'AP'; the classes there are 'ILL', 'WELL'.*name the class of each image in a CSV"
    ):
        sources.find_source(root, "PA,AP")


def test_the_usual_names_are_classes_whatever_their_folders_hold(tmp_path):
    folders = [f"{part}/{name}/{view}" for part in ("train", "test") for name in ("NORMAL", "COVID19") for view in ("PA", "AP")]
    assert sources.find_source(str(small(tmp_path / "xrays", folders))).classes == ("NORMAL", "COVID19")


@pytest.mark.parametrize(
    ("inner", "asked"),
    [({"Seoul": "ABC", "Busan": "AB"}, True), ({"ILL": "123", "WELL": "12"}, False), ({"ILL": "AB", "WELL": "BC"}, False)],
)
def test_folders_that_share_the_names_of_folders_in_them_are_asked_about(inner, asked, tmp_path):
    folders = [f"{part}/{name}/{each}" for part in ("train", "test") for name, below in inner.items() for each in below]
    source = sources.find_source(str(small(tmp_path / "xrays", folders)))
    assert source.classes == tuple(sorted(inner))
    assert (
        any("Busan, Seoul were taken for the classes, and each of them holds A, B" in note for note in source.listing.notes)
        == asked
    )


@pytest.mark.parametrize("split", [True, False], ids=["split", "no split"])
def test_folders_of_patients_in_class_folders_are_no_classes(split, tmp_path):
    """Of the same names in both classes, as where each class counts its own patients, and of others."""
    names = [f"{name}/{inner}" for name in ("ILL", "WELL") for inner in ("patient1", "patient2", f"{name[0]}/1")]
    folders = [f"{part}/{name}" for part in ("train", "test") for name in names] if split else names
    assert sources.find_source(str(small(tmp_path / "xrays", folders))).classes == ("ILL", "WELL")


@pytest.mark.parametrize("above", ["archive/Radiography", "Set/Set/Set"])
def test_class_folders_are_found_through_folders_that_stand_alone(above, tmp_path):
    folders = [f"{above}/{name}/{inner}" for name in "AB" for inner in ("images", "masks")]
    listing = sources.find_source(str(small(tmp_path / "xrays", folders))).listing
    assert listing.classes == ("A", "B") and len(listing.records) == 6
    assert f"The images were found in {above}." in listing.notes


def test_masks_are_known_by_names_in_camel_case():
    names = {
        "LungMasks": True,
        "leftMask": True,
        "CXRMask": True,
        "lung_mask": True,
        "Masked": False,
        "Demask": False,
        "Unmasking": False,
    }
    assert {name: folder_names.has_word(name, folder_names.MASKS) for name in names} == names
    assert folder_names.has_word("XRays", folder_names.IMAGES)


def test_classes_that_differ_in_capitals_may_be_left_out(tmp_path):
    root = small(tmp_path / "xrays", ["Normal", "NORMAL", "COVID"])
    assert sources.find_source(str(root), "Normal,COVID").classes == ("Normal", "COVID")


def test_what_to_write_after_a_near_miss_is_right(tmp_path):
    root = small(tmp_path / "xrays", ["train/A", "train/B"])
    assert sources.find_source(str(root / "train")).classes == ("A", "B")


def test_images_that_no_class_takes_are_counted(tmp_path):
    root = small(tmp_path / "xrays", ["train/A", "train/B", "test/A", "test/B", "train", "extra/C", "."])
    source = sources.find_source(str(root))
    assert (
        "Images outside the class folders were left out: the folder itself (3), extra (3), train (3)." in source.listing.notes
    )


# Names


@pytest.mark.parametrize(
    "name", ["None", "NA", "null", "nan", "A$_$", "<img src=x onerror=alert(1)>", "a|b*c_d", "007", "1e3", "True"]
)
def test_a_class_may_have_any_name(name, tmp_path):
    root = small(tmp_path / "xrays", [f"{part}/{label}" for part in ("train", "test") for label in (name, "Z")])
    images = sources.read_images(sources.find_source(str(root)), show_progress=False)
    assert set(images.source.classes) == {name, "Z"}
    assert images.inventory.loc[name, "used"] == 6
    utils.write_table(images.inventory.reset_index(), tmp_path / "inventory.csv")
    assert utils.read_table(tmp_path / "inventory.csv")["class"].tolist() == [*images.source.classes, "all"]


NAMES = {  # bytes of a name on disk: its text
    "Hangul, CP949": ("건강".encode("cp949"), "건강"),
    "umlaut, Latin-1": ("höhe".encode("latin-1"), "höhe"),
    "two umlauts, Latin-1": ("äöü".encode("latin-1"), "äöü"),
    "decomposed, as macOS writes it": ("한글é".encode(), "한글é"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_in_other_encodings_are_text(case, tmp_path):
    raw, text = NAMES[case]
    root = small(tmp_path / "xrays", [f"{part}/{name}" for part in ("train", "test") for name in (os.fsdecode(raw), "Z")])
    os.rename(root / "train/Z/0.png", root / "train/Z" / os.fsdecode(raw + b"\r.png"))
    images = sources.read_images(sources.find_source(str(root)), show_progress=False)
    assert set(images.source.classes) == {text, "Z"}
    assert all(file.isprintable() and file.encode() for file in images.files)
    assert len(set(images.files)) == len(images.files)
    table = images.inventory.reset_index().assign(file=images.files[0])
    utils.write_table(table, tmp_path / "table.csv")
    assert utils.read_table(tmp_path / "table.csv")["file"].tolist() == [images.files[0]] * 3


def test_two_names_that_read_alike_stay_two_files(tmp_path):
    root = small(tmp_path / "xrays", [f"{part}/{name}" for part in ("train", "test") for name in "AB"])
    for name in ("é.png".encode(), "é.png".encode("latin-1")):
        shutil.copy(root / "train/A/0.png", root / "train/A" / os.fsdecode(name))
    images = sources.read_images(sources.find_source(str(root)), show_progress=False)
    assert len(set(images.files)) == len(images.files) == 14


# Tables of labels


def write_csv(path, heading, rows, **options):
    with open(path, "w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        writer = csv.writer(file, **options)
        writer.writerow(heading)
        writer.writerows(rows)
    return path


@pytest.fixture
def flat(phantom_folder, tmp_path):
    """The phantom's drawings in one folder, under names of their own, and rows (file, class, patient, part) about them."""
    rows = []
    for number, (part, name, path) in enumerate(list_files(phantom_folder)):
        file = f"{name}_{path.name}" if part == "train" else f"{name}_z{path.name}"
        place(path, tmp_path / "xrays" / "images" / file)
        rows.append((file, name, f"p{number // 2}", part))
    shutil.copy(phantom_folder / "phantom.json", tmp_path / "xrays")
    return tmp_path / "xrays", rows


def same_as_plain(images, phantom_folder):
    plain = read(phantom_folder)
    np.testing.assert_array_equal(plain.images, images.images)
    np.testing.assert_array_equal(plain.labels, images.labels)
    np.testing.assert_array_equal(plain.folders, images.folders)


@pytest.mark.parametrize(
    "kind", ["comma", "semicolon, byte order mark", "tab", "with folder", "by hand, capitals", "given by its path"]
)
def test_a_csv_of_labels_with_a_split(kind, flat, phantom_folder):
    root, rows = flat
    heading, options, prefix = ("file", "label", "patient", "split"), {}, ""
    if kind.startswith("semicolon"):
        options = {"delimiter": ";", "encoding": "utf-8-sig"}
    elif kind == "tab":
        options = {"delimiter": "\t"}
    elif kind == "with folder":
        prefix = "xrays/images/"
    elif kind.startswith("by hand"):
        heading = ("Image Name", "CLASS", "Patient-ID", "Dataset_type")
        rows = [(file, name, patient, part.upper()) for file, name, patient, part in rows]
    path = write_csv(root / "labels.csv", heading, [(prefix + file, *row) for file, *row in rows], **options)
    images = read(path if kind == "given by its path" else root)
    same_as_plain(images, phantom_folder)
    assert dict(zip([file.split("/")[-1] for file in images.files], images.patients, strict=True)) == {
        row[0]: row[2] for row in rows
    }
    assert "The labels are those of labels.csv" in images.describe()
    assert images.source.is_phantom
    assert images.source.data == (path if kind == "given by its path" else root)


def test_the_columns_of_nih(flat):
    root, rows = flat
    lines = [f"{file},{name},0,{patient},58,M,PA,2682,2749,0.143,0.143," for file, name, patient, _ in rows]
    (root / "Data_Entry_2017.csv").write_text("\n".join([NIH, *lines]) + "\n")
    images = read(root)
    assert len(images.files) == len(rows) and set(images.folders) == {""}
    assert len(set(images.patients)) == -(-len(rows) // 2)
    (root / "Data_Entry_2017.csv").write_text("\n".join([NIH[:-1], *(line[:-1] for line in lines)]) + "\n")
    assert len(read(root).files) == len(rows)


def test_the_columns_of_cohen(flat):
    root, rows = flat
    heading = COHEN.split(",")
    written = []
    for number, (file, name, patient, _) in enumerate(rows):
        row = dict.fromkeys(heading, "") | {
            "patientid": patient,
            "finding": f"Pneumonia/Viral/{name}",
            "folder": "images",
            "filename": file,
        }
        row |= {"modality": "X-ray", "clinical_notes": 'says "none", all\nclear', "view": "PA"}
        written.append(list((row | {"modality": "CT"} if number < 5 else row).values()))
    write_csv(root / "metadata.csv", heading, written)
    images = read(root, [f"Pneumonia/Viral/{name}" for name in CLASSES])
    assert images.source.classes == tuple(f"Pneumonia-Viral-{name}" for name in CLASSES)
    assert len(images.files) == len(rows) - 5
    assert "5 rows of metadata.csv are CT" in images.describe()
    assert "aren't named" not in images.describe()
    assert len(set(images.patients)) > 50


WRONG_TABLES = {
    "other columns": (
        "name,diagnosis\na,b\n",
        "labels.csv has no column 'file'; its columns are name, diagnosis. Call the columns file, label",
    ),
    "no label": ("file,group\na,b\n", "labels.csv has no column 'label'"),
    "nothing": ("", "labels.csv can't be read as CSV: it holds nothing"),
    "ragged": ("file,label\nimages/0.png,A,extra\n", "row 2 has 3 fields, and the headings are 2"),
    "parts of another kind": (
        "file,label,split\nimages/0.png,A,fold1\n",
        "calls a part of the split 'fold1'; write train, test or validation",
    ),
    "train alone": ("file,label,split\nimages/0.png,A,train\n", "knows the part train only"),
    "two labels": (
        "file,label\nimages/0.png,A\nimages/0.png,B\n",
        "names images/0.png twice, with another label \\('A' and 'B'\\); keep one row",
    ),
    "slash and dash": ("file,label\nimages/0.png,A/B\nimages/1.png,A-B\n", "differ in their slashes or accents only: A-B"),
    "one class": ("file,label\nimages/0.png,A\nimages/1.png,A\n", "at least two classes, and here is A"),
    "capitals": (
        "file,label\nimages/0.png,COVID\nimages/1.png,covid\n",
        "the classes 'COVID', 'covid' differ in capitals or blanks",
    ),
    "capitals of the study's classes": (
        "file,label\nimages/0.png,NORMAL\nimages/1.png,normal\nimages/2.png,COVID19\n",
        "the classes 'NORMAL', 'normal' differ in capitals or blanks only",
    ),
    "a long label": (
        f"file,label\nimages/0.png,{'가' * 70}\nimages/1.png,A\n",
        "has a name of 210 bytes, .* give it one of at most 200",
    ),
    "headings alone": ("file,label\n", "labels.csv has headings and no rows with a file and a label"),
    "a class of files that are not there": (
        "file,label\nimages/0.png,A\nimages/1.png,A\nill/0.png,B\nill/1.png,B\n",
        "and here is A: .* Named and not there: ill/0.png, ill/1.png.",
    ),
    "an open quotation mark": (
        'file,label\n"images/0.png,A\nimages/1.png,B\n',
        "a quotation mark opens in row 2 and is never closed",
    ),
    "files of another machine": (
        "file,label\n/data/im_0.png,A\n/data/im_1.png,B\n",
        "None of the 2 files that labels.csv names is below its folder; the first is /data/im_0.png, an image there is images/0.png",
    ),
    "another suffix": (
        "file,label\n0.dcm,A\n1.dcm,B\n",
        "None of the 2 files .*; the first is 0.dcm, an image there is images/0.png",
    ),
    "parts here and there": (
        "file,label,split\nimages/0.png,A,train\nimages/1.png,B,\nimages/2.png,B,\n",
        "2 of 3 rows of labels.csv have an empty split; write train, test or validation in each, or leave the whole column empty",
    ),
    "a test without a class": (
        "file,label,split\nimages/0.png,A,train\nimages/1.png,B,test\n",
        "at least two classes, and here is none",
    ),
}


@pytest.mark.parametrize("case", WRONG_TABLES)
def test_a_table_that_is_not_understood_is_one_sentence(case, tmp_path):
    content, message = WRONG_TABLES[case]
    root = small(tmp_path / "xrays", ["images"])
    (root / "labels.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        sources.find_source(str(root / "labels.csv"))
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_files_that_a_csv_names_and_that_are_not_there_stop_the_run(flat):
    root, rows = flat
    rows += [(f"gone{index}.png", "COVID19", "", "train") for index in range(9)]
    write_csv(root / "labels.csv", ("file", "label", "patient", "split"), rows)
    with pytest.raises(ValueError, match=r"9 of 185 images can't be used.*missing \(9\): gone0.png; gone1.png; gone2.png; …"):
        read(root)


def test_several_labels_and_many_classes_are_said(tmp_path):
    root = small(tmp_path / "xrays", ["images"], count=40)
    write_csv(root / "labels.csv", ("file", "label"), [(f"{index}.png", f"finding {index}|other") for index in range(40)])
    with pytest.raises(ValueError, match="there are 40 classes: .* Choose some with CLASSES"):
        sources.find_source(str(root))
    source = sources.find_source(str(root), "finding 1|other,finding 2|other")
    assert any("40 images have several labels (A|B)" in note for note in source.listing.notes)


def test_folders_go_before_a_csv_beside_them_and_this_is_said(phantom_folder, tmp_path):
    root = lay_out(phantom_folder, tmp_path / "xrays", lambda *parts: "/".join(parts))
    write_csv(root / "labels.csv", ("file", "label"), [("train/NORMAL/phantom_0000.png", "ill")])
    assert "labels.csv was not read, since the folders say the classes; to use it, give DATA its path." in read(root).notes


def test_two_tables_are_asked_about(tmp_path):
    root = small(tmp_path / "xrays", ["images"])
    for name in ("a.csv", "b.csv"):
        write_csv(root / name, ("file", "label"), [("0.png", "A"), ("1.png", "B")])
    with pytest.raises(
        ValueError, match=r"holds 2 tables with labels: a.csv, b.csv. Join them into one .*, or give DATA the path of"
    ):
        sources.find_source(str(root))


def test_a_table_one_folder_down_is_named(tmp_path):
    root = small(tmp_path / "xrays", ["archive/images"])
    write_csv(root / "archive" / "labels.csv", ("file", "label"), [("0.png", "A"), ("1.png", "B")])
    with pytest.raises(
        ValueError,
        match="and here is archive: .* archive/labels.csv has labels and was not read: to use it, give DATA its path",
    ):
        sources.find_source(str(root))
    assert sources.find_source(str(root / "archive" / "labels.csv")).classes == ("A", "B")


def test_a_table_about_few_images_of_class_folders_is_not_read_and_this_is_said(tmp_path):
    root = small(tmp_path / "xrays", ["Normal", "Pneumonia"], count=8)
    rows = [(f"Pneumonia/{index}.png", "AB"[index % 2]) for index in range(6)]
    write_csv(root / "boxes.csv", ("image", "label"), rows)
    source = sources.find_source(str(root))
    assert source.classes == ("Normal", "Pneumonia")
    assert (
        "boxes.csv names 6 of 16 images only and was not read, since the folders say the classes; to use it, give DATA its path."
        in (source.listing.notes)
    )
    write_csv(root / "boxes.csv", ("image", "label", "patient"), [(*row, "p") for row in rows])
    assert any(
        note.endswith("give DATA its path. Its patients are used only where GROUPS is its path.")
        for note in sources.find_source(str(root)).listing.notes
    )
    write_csv(root / "boxes.csv", ("image", "label"), rows + [(f"Normal/{index}.png", "A") for index in range(8)])
    assert sources.find_source(str(root)).classes == ("A", "B")


PARTS_OF_FOLDERS = {  # folders of the images of a table without a column of the split: their parts, and what is said
    "train and test": (["train", "test"], {"train", "test"}, "the parts are those of the folders that its files lie in"),
    "train and val, deeper": (["x/Train/1", "x/Val/1"], {"train", "validation"}, "the parts are those of the folders"),
    "and others": (["train", "test", "more"], {""}, "3 of its files lie outside the folders of train and test"),
    "train alone": (["train", "more"], {""}, "The labels are those of labels.csv"),
}


@pytest.mark.parametrize("case", PARTS_OF_FOLDERS)
def test_a_table_without_a_split_takes_that_of_the_folders(case, tmp_path):
    folders, parts, said = PARTS_OF_FOLDERS[case]
    root = small(tmp_path / "xrays", folders)
    write_csv(
        root / "labels.csv",
        ("file", "label"),
        [(f"{name}/{index}.png", "AB"[index % 2]) for name in folders for index in range(3)],
    )
    listing = sources.find_source(str(root)).listing
    assert {record.part for record in listing.records} == parts
    assert any(said in note for note in listing.notes)


@pytest.mark.parametrize("content", ["x" * 200_000 + "\n", '"' + "y" * 200_000], ids=["a long field", "an open quotation mark"])
def test_a_csv_of_something_else_is_passed_over(content, tmp_path):
    root = small(tmp_path / "xrays", ["A", "B"])
    (root / "embedding.csv").write_text(content)
    assert sources.find_source(str(root)).classes == ("A", "B")


@pytest.mark.parametrize(
    ("encoding", "above", "separator"),
    [("utf-16", "", "\t"), ("utf-16-le", "\ufeff", ","), ("utf-8", "sep=;\n", ";"), ("utf-8-sig", "SEP=,\r\n", ",")],
)
def test_tables_as_a_spreadsheet_saves_them(encoding, above, separator, tmp_path):
    root = small(tmp_path / "xrays", ["images"])
    rows = [("file", "label"), ("0.png", "환자"), ("1.png", "B"), ("2.png", "B")]
    (root / "labels.csv").write_bytes((above + "\r\n".join(map(separator.join, rows))).encode(encoding))
    assert sources.find_source(str(root)).classes == ("B", "환자")


WRITTEN = {  # files, what rows say, the file that each means, an example of those found by their name alone
    "paths": (["A/0.png", "B/0.png"], ["A/0.png", "./B//0.png", "B\\0.png"], ["A/0.png", "B/0.png", "B/0.png"], ""),
    "from further up": (["A/0.png", "B/0.png"], ["C:\\me\\set\\A\\0.png", "/data/B/0.png"], ["A/0.png", "B/0.png"], ""),
    "from further down": (["set/A/0.png", "set/B/0.png"], ["A/0.png", "B/0.png"], ["set/A/0.png", "set/B/0.png"], ""),
    "names": (["A/0.png", "B/1.png"], ["0.png", " 1.png "], ["A/0.png", "B/1.png"], ""),
    "a name that two have": (["A/0.png", "B/0.png"], ["0.png", "C/0.png"], [None, None], ""),
    "a name at the top and below": (["0.png", "B/0.png"], ["0.png", "C/0.png"], ["0.png", None], ""),
    "without suffix": (["A/0.png", "B/1.PNG"], ["A/0", "1"], ["A/0.png", "B/1.PNG"], ""),
    "two suffixes": (["A/0.png", "A/0.jpg"], ["A/0", "A/0.jpg"], [None, "A/0.jpg"], ""),
    "another suffix": (["A/0.png"], ["A/0.dcm"], [None], ""),
    "a folder that is not there": (["A/0.png"], ["A/0.png", "C/0.png"], ["A/0.png", None], ""),
    "two folders that are not there": (["A/0.png"], ["C/0.png", "D/0.png"], [None, None], ""),
    "two roots": (["0.png"], ["one/0.png", "two/0.png"], [None, None], ""),
    "the root": (["0.png"], ["/data/xrays/0.png"], ["0.png"], ""),
    "another folder": (["A/0.png", "B/1.png"], ["C/0.png", "B/1.png"], ["A/0.png", "B/1.png"], "C/0.png is A/0.png"),
    "identifiers with dots": (["d/1.2.840.0.5", "d/1.2.3.dcm"], ["1.2.840.0", "1.2.3"], [None, "d/1.2.3.dcm"], ""),
    "other capitals": (
        ["A/im0.png", "B/im1.png"],
        ["A/IM0.PNG", "im1.PNG"],
        ["A/im0.png", "B/im1.png"],
        "",
    ),
    "other capitals of two": (["A/im0.png", "A/IM0.PNG"], ["A/Im0.png"], [None], ""),
    "other capitals of two at the top": (["im0.png", "IM0.PNG"], ["Im0.png"], [None], ""),
    "composed letters": (["A/\u1112\u1161.png"], ["A/하.png"], ["A/\u1112\u1161.png"], ""),
}


SHARED = {  # of these cases, what several files are called
    "a name that two have": ["0.png"],
    "two suffixes": ["A/0"],
    "other capitals of two": ["A/Im0.png"],
    "other capitals of two at the top": ["Im0.png"],
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_row_means_one_file_and_no_two_paths_mean_the_same(case):
    files, written, expected, example = WRITTEN[case]
    found, ambiguous, said = labels.find_files(written, files, "/some/xrays", "labels.csv")
    assert found == expected
    assert sorted(ambiguous) == sorted(SHARED.get(case, []))
    if ambiguous:
        assert f"1 rows of labels.csv write a name that several images have, {SHARED[case][0]} say: write" in said.pop(0)
    assert [sentence.rpartition(": ")[2] for sentence in said] == ([f"{example}, say."] if example else [])


def test_rows_about_a_folder_that_is_not_there_are_missing(tmp_path):
    root = small(tmp_path / "xrays", ["hospital1"], count=9)
    rows = [(f"hospital{place}/{index}.png", "AB"[index % 2]) for place in (1, 2) for index in range(9)]
    write_csv(root / "labels.csv", ("file", "label"), rows)
    with pytest.raises(ValueError, match=r"9 of 18 images can't be used.*missing \(9\): hospital2/0.png"):
        read(root, "AB")


def test_names_that_several_images_have_are_no_missing_files(tmp_path):
    root = small(tmp_path / "xrays", ["x", "y", "z"], count=9)
    rows = [(f"{name}/{index}.png", "AB"[index % 2]) for name in "xy" for index in range(9)]
    write_csv(root / "labels.csv", ("file", "label"), [*rows, ("0.png", "A"), ("1.png", "A")])
    with pytest.raises(ValueError, match=r"2 of 20 images can't be used.*ambiguous names \(2\): 0.png; 1.png"):
        read(root, "AB")
    assert any(
        "2 rows of labels.csv write a name that several" in note for note in sources.find_source(str(root)).listing.notes
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_korean_tables(encoding, tmp_path):
    root = small(tmp_path / "xrays", ["images"])
    write_csv(
        root / "labels.csv", ("file", "label"), [("0.png", "건강"), ("1.png", "환자"), ("2.png", "환자")], encoding=encoding
    )
    assert sources.find_source(str(root)).classes == ("건강", "환자")


def test_peoples_tables_keep_their_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('file,label\r\na,None\r\nb,NA\r\n"c\rd",é\r\n'.encode("latin-1"))
    table = csv_tables.read_people_table(path, "t.csv")
    assert table["label"].tolist() == ["None", "NA", "é"] and table["file"].tolist() == ["a", "b", "c\rd"]


def test_words_for_parts():
    meant = {
        "Train": "train",
        "TRAINING": "train",
        "train_images": "train",
        "Trainset": "train",
        "01 train": "train",
        "valid": "validation",
    }
    meant |= {
        "Validation Set": "validation",
        "test": "test",
        "TestData": "test",
        "testing-images": "test",
        "검증": "validation",
        "": "",
    }
    meant |= {"COVID test": "", "retrain": "", "attest": "", "tested positive": "", "images": "", "trains": ""}
    assert {word: folder_names.name_part(word) for word in meant} == meant


def time_listing(folder):
    start = time.process_time()
    listed = tree.read_tree(folder)
    layouts.list_folders(listed, {("", "A"): [listed.folders["A"]]}, "")
    return time.process_time() - start


def test_a_folder_of_many_files_is_listed_in_linear_time(tmp_path):
    """A second tree of ten times the files takes about ten times as long."""
    seconds = []
    for number in (1000, 10_000):
        folder = tmp_path / str(number) / "A"
        folder.mkdir(parents=True)
        for index in range(number):
            (folder / f"{index}_mask.png").touch()
        seconds.append(min(time_listing(folder.parent) for _ in range(3)))
    print(f"1,000 and 10,000 files: {seconds[0]:.3f} and {seconds[1]:.3f} s of processor time")
    assert seconds[1] < 40 * seconds[0]
