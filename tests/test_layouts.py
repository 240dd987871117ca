"""Folders as other people lay them out, and tables of labels: the same images and classes as in the plain layout, or a sentence."""

import csv
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import utils
from xraygan.data import labels, layouts, sources, tree

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
            utils.save_png(np.full((20, 20), 10 * place_ + index, np.uint8), root / name / f"{index}.png")
    return root


def test_a_class_may_be_called_mask(tmp_path):
    root = small(tmp_path / "faces", [f"{part}/{name}" for part in ("train", "test") for name in ("mask", "no mask")])
    assert sources.find_source(str(root)).classes == ("mask", "no mask")


NEAR_MISSES = {  # folders with images, and the sentence that says what was seen and what to write
    "train alone": (
        ["train/A", "train/B"],
        "xrays has a folder 'train' and has no folder 'test' or 'val' beside it: add xrays/test/CLASS, or give DATA",
    ),
    "test alone": (["TEST/A", "TEST/B"], "xrays has 'TEST' and has no folder 'train' beside it"),
    "test and val": (["test/A", "val/A", "test/B"], "xrays has 'test' and 'val' and has no folder 'train'"),
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
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_a_near_miss_says_what_was_seen_and_what_to_write(case, tmp_path):
    folders, message = NEAR_MISSES[case]
    (tmp_path / "xrays").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        sources.find_source(str(small(tmp_path / "xrays", folders)))
    assert str(tmp_path) not in str(caught.value)


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
    assert "5 images in the folder aren't named in metadata.csv" in images.describe()
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
    "two labels": ("file,label\nimages/0.png,A\nimages/0.png,B\n", "names images/0.png twice, as A and as B"),
    "slash and dash": ("file,label\nimages/0.png,A/B\nimages/1.png,A-B\n", "differ in their slashes or accents only: A-B"),
    "one class": ("file,label\nimages/0.png,A\nimages/1.png,A\n", "at least two classes, and here is A"),
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
    with pytest.raises(ValueError, match="xrays holds 2 CSV files with labels: a.csv, b.csv. Give DATA the path of one"):
        sources.find_source(str(root))


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
    table = labels.read_people_table(path, "t.csv")
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
    assert {word: layouts.name_part(word) for word in meant} == meant


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
