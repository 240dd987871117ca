"""Tables of labels as people write them: which column holds what, tables for each part, and what stands beside and isn't understood."""

import os

import numpy as np
import pandas as pd
import pytest

import utils
from xraygan.data import audit, csv_tables, folder_names, sources, tree


def draw(root, *folders, count=4):
    """Tiny images at `root/FOLDER/0.png` and so on, no two alike."""
    rng = np.random.default_rng(0)
    for folder in folders:
        for index in range(count):
            utils.save_png(rng.integers(0, 256, (20, 20)).astype(np.uint8), root / folder / f"{index}.png")
    return root


def write(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def read(root):
    return sources.read_images(sources.find_source(str(root)), show_progress=False)


@pytest.mark.parametrize(
    ("heading", "train", "test"),
    [("set", "train", "test"), ("usage", "Training", "testing"), ("x", "TRAIN", "val"), ("group", "train", "test")],
)
def test_a_column_with_nothing_but_parts_is_the_split_whatever_it_is_called(tmp_path, heading, train, test):
    root = draw(tmp_path / "xrays", "images", count=8)
    rows = [f"images/{index}.png,{'AB'[index % 2]},{train if index < 4 else test},7{index}" for index in range(8)]
    write(root / "labels.csv", f"file,label,{heading},age", *rows)
    images = read(root)
    assert images.folders.tolist() == ["train"] * 4 + ["test"] * 4
    assert f"split from '{heading}'; not used: age." in images.describe() and set(images.patients) == {""}


def test_a_column_with_parts_and_other_words_is_none_of_the_split(tmp_path):
    root = draw(tmp_path / "xrays", "images")
    write(root / "labels.csv", "file,label,set", "0.png,A,train", "1.png,B,test", "2.png,A,odd", "3.png,B,train")
    images = read(root)
    assert set(images.folders) == {""} and "not used: set." in images.describe()


@pytest.mark.parametrize("layout", ["one folder", "a folder each"])
def test_a_table_for_each_part_is_joined_to_a_split(tmp_path, layout):
    root = tmp_path / "xrays"
    if layout == "one folder":
        draw(root, "images", count=8)
        write(root / "train_labels.csv", "file,label", *(f"{index}.png,{'AB'[index % 2]}" for index in range(4)))
        write(root / "test.csv", "file,label", *(f"{index}.png,{'AB'[index % 2]}" for index in range(4, 8)))
    else:
        draw(root, "train", "test/images")
        write(root / "train" / "labels.csv", "file,label", *(f"{index}.png,{'AB'[index % 2]}" for index in range(4)))
        write(root / "test" / "labels.csv", "file,label", *(f"images/{index}.png,{'AB'[index % 2]}" for index in range(4)))
    images = read(root)
    assert images.folders.tolist() == ["train"] * 4 + ["test"] * 4 and images.source.classes == ("A", "B")
    assert "aren't named" not in images.describe()


@pytest.mark.parametrize(
    ("name", "lines", "encoding", "message"),
    [
        (
            "labels.csv",
            ["Image File,Findings", "0.png,A"],
            "utf-8",
            "labels.csv was not used: it has no column label; its columns are Image File, Findings.",
        ),
        (
            "truth.tsv",
            ["a\tb", "0.png\tA"],
            "utf-8",
            "truth.tsv was not used: it has no column file and no label; its columns are a, b.",
        ),
        ("labels.xlsx", ["PK"], "utf-8", "Workbooks aren't read, and to use one, save it as CSV: labels.xlsx."),
        ("labels.csv", [""], "utf-8", "labels.csv is empty."),
        (
            "labels.txt",
            ["file label", "0.png A"],
            "utf-8",
            "labels.txt was not used: its columns file, label are separated by blanks; separate them by commas",
        ),
        ("labels.txt", ["0.png A", "1.png B"], "utf-8", "labels.txt was not used: it has no headings above its first image"),
        ("labels.csv", ["0.png,A", "1.png,B"], "utf-8", "labels.csv was not used: it has no headings above its first image"),
        (
            "test_list.txt",
            ["0.png", "1.png"],
            "utf-8",
            "Lists of images were not used: test_list.txt. To use them as the split,",
        ),
        (
            "l.csv",
            ["file,patient", "0.png,p"],
            "utf-8",
            "its columns are file, patient. Its patients are used only where GROUPS is its path.",
        ),
    ],
)
def test_a_table_that_is_not_understood_is_named(tmp_path, name, lines, encoding, message):
    """Where the run stops, where it goes on with class folders at the top or deeper, and where it goes on with another table."""
    root = draw(tmp_path / "xrays", "images")
    write(root / name, *lines, encoding=encoding)
    with pytest.raises(ValueError, match="at least two classes") as caught:
        sources.find_source(str(root))
    assert message in str(caught.value) and "left out: images" not in str(caught.value)
    draw(root, "A/site", "B/site")
    assert message in read(root).describe()
    write(root / "truth.csv", "file,label", *(f"images/{index}.png,{'AB'[index % 2]}" for index in range(4)))
    assert message in read(root).describe()
    deeper = draw(tmp_path / "deeper", "set/A", "set/B")
    write(deeper / "set" / name, *lines, encoding=encoding)
    assert message.replace(name, f"set/{name}") in read(deeper).describe()


@pytest.mark.parametrize("text", ["Images, and their labels\nare in folders.\n", "", "One line of words and files\n"])
def test_a_text_that_is_no_table_is_passed_over(text, tmp_path):
    root = draw(tmp_path / "xrays", "A", "B")
    (root / "README.txt").write_text(text)
    assert read(root).describe() == ""


def test_a_table_deeper_down_beside_class_folders_is_named(tmp_path):
    root = draw(tmp_path / "xrays", "set/A", "set/B")
    write(root / "set" / "labels.csv", "file,label", "A/0.png,ill")
    assert "set/labels.csv has labels and was not read: to use it, give DATA its path." in read(root).describe()


PATIENTS = {  # a table beside folders of patients, Kim0 and so on, with an image 0.png in each: its lines, and what is said with the refusal
    "patients": (["patient,label", *(f"Kim{index},A" for index in range(4))], "labels.csv was not used: it has no column file"),
    "some of them": (["patient,sex", *(f"Kim{index},F" for index in range(1, 4))], "it has no column file and no label"),
    "in a column file": (["file,label", *(f"Kim{index},A" for index in range(4))], "None of the 4 files that labels.csv names"),
    "names that repeat": (
        ["patient,file,label", *(f"Kim{index},0.png,A" for index in range(4))],
        "4 rows of labels.csv write a name",
    ),
}


@pytest.mark.parametrize("case", PATIENTS)
@pytest.mark.parametrize("above", ["", "set/"])
def test_folders_that_a_table_calls_patients_are_no_classes(case, above, tmp_path):
    lines, said = PATIENTS[case]
    root = draw(tmp_path / "xrays", *(f"{above}Kim{index}" for index in range(4)), count=1)
    write(root / above / "labels.csv", *lines)
    message = (
        rf"folders Kim0, Kim1, Kim2, Kim3 stand in the column '\w+' of {above}labels.csv, .* file \({above}Kim0/0.png, say\)"
    )
    with pytest.raises(ValueError, match=message) as caught:
        sources.find_source(str(root))
    assert above or said in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [
        ["file,patient", *(f"{index}.png,{index}" for index in range(9))],  # patients 0 to 8, and grades 0 to 2
        ["file,group", *(f"{index}.png,{index % 3}" for index in range(9))],  # a group of people
        ["patient,sex", '"0,F', "1,F", "2,F"],
    ],
)
def test_class_folders_called_like_a_few_patients_stay_classes(lines, tmp_path):
    root = draw(tmp_path / "xrays", "0", "1", "2")
    write(root / "patients.csv", *lines)
    assert sources.find_source(str(root)).classes == ("0", "1", "2")


def test_a_heading_that_stands_twice_is_said(tmp_path):
    root = draw(tmp_path / "xrays", "images")
    write(root / "labels.csv", "file,label,label", "0.png,A,x", "1.png,B,x")
    assert "label from 'label'. Several of its columns are called 'label': the first of them was used." in read(root).describe()


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("l.csv", "\n\nfile,label\na.png,A\n", "utf-8"),
        ("l.csv", '"file";"label";"age, years, months, days"\na.png;A;1\n', "utf-8"),
        ("l.tsv", "file\tlabel\na.png\tA\n", "utf-8"),
        ("l.txt", "file|label\na.png|A\n", "utf-8"),
        ("l.csv", "file,label\na.png,A\n", "utf-16-le"),
        ("l.csv", "file,label\na.png,A\n", "utf-16-be"),
        ("l.csv", "file,label\na.png,A\n", "utf-16"),
    ],
)
def test_the_ways_to_write_a_table(tmp_path, name, text, encoding):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    table = csv_tables.read_people_table(path, name)
    columns = csv_tables.find_filled_columns(table)
    assert table[columns["file"]].tolist() == ["a.png"] and table[columns["label"]].tolist() == ["A"]
    assert {"file", "label"} <= set(csv_tables.find_columns(csv_tables.read_headings(path)))


def test_a_column_of_nothing_but_parts_is_the_split_also_beside_one_called_part():
    table = pd.DataFrame({"file": ["a.png", "b.png"], "label": "A", "part": "chest", "usage": ["train", "test"]})
    assert csv_tables.find_filled_columns(table)["split"] == "usage"
    assert csv_tables.find_filled_columns(table.drop(columns="usage"))["split"] == "part"


def test_a_workbook_is_called_by_its_name(tmp_path):
    path = tmp_path / "patients.xlsx"
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(ValueError, match="GROUPS is a workbook of a spreadsheet program and no CSV: save it as CSV"):
        csv_tables.read_people_table(path, "GROUPS")


def test_labels_that_are_numbers_are_the_same_with_and_without_a_point(tmp_path):
    root = draw(tmp_path / "xrays", "images")
    write(root / "labels.csv", "file,label", "0.png,0", "1.png,1", "2.png,1.0", "3.png,0.0")
    assert sources.find_source(str(root)).classes == ("0", "1")


# What stands beside the class folders


def test_what_may_be_meant_as_a_class_and_holds_no_image_is_named(tmp_path):
    root = draw(tmp_path / "xrays", "A", "B")
    (root / "C").mkdir()
    for index in range(3):
        write(root / "D" / f"{index}.pgm", "P5")
    write(root / "docs" / "readme.txt", "x")
    write(root / "E.zip", "PK")
    os.symlink("/nowhere/F", root / "F")
    said = read(root).describe()
    assert "Folders without an image that is read, and left out: C (empty), D (no image, but 3 other files: 3 .pgm)." in said
    assert "Still packed, and not read: E.zip." in said and "Links to something that isn't there: F." in said
    assert "docs" not in said and "the folder itself" not in said


def test_where_no_class_holds_an_image_the_other_files_are_counted(tmp_path):
    for name in ("A", "B"):
        write(tmp_path / "xrays" / name / "0.mha", "x")
    write(tmp_path / "xrays" / "C.tar.gz", "x")
    with pytest.raises(
        ValueError, match=r"the folders A \(no image, but 1 other files: 1 .mha\), B \(.*\), and C.tar.gz, still packed"
    ):
        sources.find_source(str(tmp_path / "xrays"))


def test_a_test_without_classes_is_left_out_where_there_is_a_validation_part(tmp_path):
    root = draw(tmp_path / "xrays", "train/A", "train/B", "val/A", "val/B", "test/unknown")
    images = read(root)
    assert sorted(set(images.folders)) == ["test", "train"] and images.source.classes == ("A", "B")
    assert "Images outside the class folders were left out: test (4)." in images.describe()


def test_a_link_to_nowhere_in_place_of_the_test_folder_is_said(tmp_path):
    root = draw(tmp_path / "xrays", "train/A", "train/B")
    os.symlink("/nowhere/test", root / "test")
    with pytest.raises(ValueError, match=r"beside it \(test is a link to something that isn't there\)"):
        sources.find_source(str(root))


def test_a_folder_whose_names_can_be_read_and_nothing_else_is_closed(tmp_path, monkeypatch):
    root = draw(tmp_path / "xrays", "A", "B")
    monkeypatch.setattr(tree.os, "access", lambda path, mode: path != root / "A")
    with pytest.raises(ValueError, match="the folder A can't be opened .*change its permissions"):
        sources.find_source(str(root))


@pytest.mark.parametrize("name", ["ID_1", "sub-02", "uid3"])
def test_folders_that_are_called_like_patients_are_asked_about(name):
    assert "if these aren't classes" in folder_names.describe_numbered([name, name[:-1] + "9"])


def test_images_of_one_grey_are_said(tmp_path):
    root = draw(tmp_path / "xrays", "A", "B")
    assert "of one grey" not in read(root).describe()
    utils.save_png(np.zeros((20, 20), np.uint8), root / "A" / "black.png")
    assert (
        "1 images are of one grey everywhere, as where a file is empty or a DICOM window shows nothing of it: A/black.png."
        in (read(root).describe())
    )


def test_a_class_with_a_blank_that_looks_like_another_is_shown_with_its_signs(tmp_path):
    root = draw(tmp_path / "xrays", "A B", "C")
    with pytest.raises(ValueError, match=r"CLASSES names 'A\\xa0B'; the classes there are 'A B', 'C'\.$"):
        sources.find_source(str(root), "A\N{NO-BREAK SPACE}B,C")


def test_rows_of_groups_whose_name_several_images_have_are_said(tmp_path):
    root = draw(tmp_path / "xrays", "A", "B")
    images = read(root)
    groups = write(tmp_path / "groups.csv", "file,group", "A/0.png,p", "1.png,p", "2.png,q", "gone.png,q")
    _, said = audit.read_groups(str(groups), images)
    assert "2 rows of GROUPS write a name that several images have, 1.png say: write each with its folder and suffix." in said
    assert "1 rows of GROUPS name no image of this run." in said
