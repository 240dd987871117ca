"""Finding and listing images in folders of every kind."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

import utils
from xraygan import run
from xraygan.data import decode, sources


def make_folder(root, layout):
    """Small grey images: `layout` is {"train/A": number, …}."""
    for folder, number in layout.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            utils.save_png(np.full((20, 20), index, np.uint8), root / folder / f"{index}.png")
    return str(root)


def test_defaults_are_those_of_the_study(phantom_folder):
    source = sources.find_source(str(phantom_folder))
    assert source.classes == ("NORMAL", "COVID19")
    assert source.minority == "COVID19"
    assert source.is_phantom
    assert source.title("x").startswith("Phantom")


def test_the_minority_may_be_written_as_its_folder_is_or_as_it_is_shown(tmp_path):
    """A Hangul name pasted from macOS has its letters taken apart; a blank at an end is no other class."""
    names = ["정상", "폐렴"]
    data = make_folder(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in names})
    for written in (unicodedata.normalize("NFD", "폐렴"), " 폐렴 "):
        assert sources.find_source(data, minority=written).minority == "폐렴"


@pytest.mark.parametrize(("counts", "word"), [((7, 7, 9), True), ((7, 8, 7), True), ((7, 8, 9), False)])
def test_a_tie_for_the_minority_is_said(counts, word, tmp_path):
    data = make_folder(tmp_path, {f"train/{name}": count for name, count in zip("abc", counts, strict=True)})
    make_folder(tmp_path, {f"test/{name}": 2 for name in "abc"})
    source = sources.find_source(data)
    said = sources.describe_minority(source, asked="")
    assert (
        said.startswith("the minority class is a")
        and ("have as few training images, and MINORITY chooses another" in said) == word
    )
    assert sources.describe_minority(sources.find_source(data, "", "a"), asked="a") == "the minority class is a."


def test_any_names_and_any_number_of_classes(tmp_path):
    data = make_folder(
        tmp_path / "höhe 1", {f"{part}/{name}": 3 + i for part in ("train", "test") for i, name in enumerate("dcba")}
    )
    source = sources.find_source(data)
    assert source.classes == ("a", "b", "c", "d")
    assert source.minority == "d"
    assert not source.is_phantom
    assert run.open_folders(source.name, tmp_path).run == source.name  # a usable folder name, whatever the folder is called
    chosen = sources.find_source(data, "c, a", "c")
    assert (chosen.classes, chosen.minority) == (("c", "a"), "c")


def test_images_labels_and_files_belong_together(phantom_images, phantom_folder):
    row = list(phantom_images.files).index("test/COVID19/phantom_0003.png")
    expected = decode.decode_image((phantom_folder / "test/COVID19/phantom_0003.png").read_bytes())
    np.testing.assert_array_equal(phantom_images.images[row], expected)
    assert phantom_images.source.classes[phantom_images.labels[row]] == "COVID19"
    assert phantom_images.folders[row] == "test"
    assert list(phantom_images.find_rows(["test/COVID19/phantom_0003.png"])) == [row]


@pytest.mark.parametrize(
    ("layout", "arguments", "message"),
    [
        ({"train/A": 2, "train/B": 2}, {}, "no folder 'test'"),
        ({"test/A": 2, "test/B": 2}, {}, "no folder 'train'"),
        ({"train/A": 2, "test/A": 2}, {}, "at least two classes"),
        ({"train/A": 0, "train/B": 2, "test/A": 1, "test/B": 1}, {}, "train/A holds no image"),
        (
            {"train/A": 2, "train/B": 2, "test/A": 1, "test/B": 1},
            {"classes": "A,C"},
            "CLASSES names 'C'; the classes there are 'A', 'B'",
        ),
        ({"train/A": 2, "train/B": 2, "test/A": 1, "test/B": 1}, {"classes": "A,A"}, "twice"),
        ({"train/A": 2, "train/B": 2, "test/A": 1, "test/B": 1}, {"minority": "C"}, "MINORITY is 'C'; choose one of"),
    ],
)
def test_wrong_layouts_say_what_to_do(tmp_path, layout, arguments, message):
    data = make_folder(tmp_path, layout)
    with pytest.raises(ValueError, match=message):
        sources.find_source(data, **arguments)


def test_empty_test_class_is_named(tmp_path):
    data = make_folder(tmp_path, {"train/A": 2, "train/B": 2, "test/A": 0, "test/B": 1})
    with pytest.raises(ValueError, match="test/A holds no image"):
        sources.read_images(sources.find_source(data), show_progress=False)


def test_missing_folder():
    with pytest.raises(ValueError, match="DATA is 'nowhere', and there is no such folder"):
        sources.find_source("nowhere")


def test_other_files_are_named_and_left_out(tmp_path):
    data = make_folder(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in "AB"})
    (tmp_path / "train" / "A" / "notes.txt").write_text("hello")
    (tmp_path / "train" / "A" / ".DS_Store").write_bytes(b"hidden")
    images = sources.read_images(sources.find_source(data), show_progress=False)
    assert len(images.files) == 8
    assert images.inventory.loc["A", "other files"] == 1
    assert "other files" in images.describe()


def test_class_in_one_part_only_is_left_out(tmp_path):
    data = make_folder(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in "AB"} | {"train/C": 2})
    source = sources.find_source(data)
    assert source.classes == ("A", "B")
    assert "In one part of the split only, and left out: 'train/C'." in source.listing.notes


def test_classes_that_are_not_chosen_are_said(tmp_path):
    """The study's two classes go before a third, which ALSO may add."""
    names = ("NORMAL", "COVID19", "PNEUMONIA")
    source = sources.find_source(make_folder(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in names}))
    assert source.classes == ("NORMAL", "COVID19")
    said = sources.read_images(source, show_progress=False).describe()
    assert "Classes that were left out: 'PNEUMONIA' (4 images). CLASSES chooses the classes, and ALSO adds some" in said
    assert "left out" not in sources.read_images(sources.add_classes(source, "PNEUMONIA"), show_progress=False).describe()


def test_the_fingerprint_follows_names_and_decoded_pixels(tmp_path):
    """A picture saved again with other compression is the same data; another picture or another name is other data."""
    data = make_folder(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in "AB"})
    picture = tmp_path / "train" / "A" / "0.png"

    def fingerprint():
        return sources.read_images(sources.find_source(data), show_progress=False).fingerprint

    first = fingerprint()
    bytes_before = picture.read_bytes()
    Image.fromarray(utils.read_png(picture)).save(picture, compress_level=0)
    assert picture.read_bytes() != bytes_before
    assert first == fingerprint()
    utils.save_png(np.full((20, 20), 99, np.uint8), picture)
    second = fingerprint()
    shutil.move(tmp_path / "train" / "A" / "1.png", tmp_path / "train" / "A" / "2.png")
    assert len({first, second, fingerprint()}) == 3


def test_chosen_classes_keep_their_own_images_and_take_new_labels(phantom_folder):
    whole = sources.read_images(sources.find_source(str(phantom_folder), "NORMAL,COVID19,PNEUMONIA"), show_progress=False)
    chosen = whole.choose(("PNEUMONIA", "COVID19"), "COVID19")
    assert (chosen.source.classes, chosen.source.minority) == (("PNEUMONIA", "COVID19"), "COVID19")
    assert len(chosen.files) == 60 + 38 + 16 + 10
    np.testing.assert_array_equal(chosen.images, whole.images[whole.find_rows(chosen.files)])
    folder_of_file = np.array([file.split("/")[1] for file in chosen.files])
    np.testing.assert_array_equal(np.array(chosen.source.classes)[chosen.labels], folder_of_file)


@pytest.mark.parametrize("image_size", [64, 256])
def test_images_are_read_at_the_size_that_is_asked_for(phantom_folder, image_size):
    images = sources.read_images(sources.find_source(str(phantom_folder)), image_size, show_progress=False)
    assert images.images.shape == (100, image_size, image_size, 1)
    expected = decode.decode_image((phantom_folder / images.files[3]).read_bytes(), image_size)
    np.testing.assert_array_equal(images.images[3], expected)


def test_real_set_has_the_studys_counts(real_data):
    source = sources.find_source(str(real_data), "NORMAL,COVID19,PNEUMONIA")
    train = [record.label for record in source.listing.records if record.part == "train"]
    counts = {name: train.count(name) for name in source.classes}
    assert counts == {"NORMAL": 1266, "COVID19": 460, "PNEUMONIA": 3418}
    assert source.minority == "COVID19"
