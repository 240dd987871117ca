"""What became of every file, how values of many bits become grey, and classes that can be told apart by their files alone."""

import io
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraygan import disk
from xraygan.data import decode, inventory, loading, sources

RNG = np.random.default_rng(0)
PLACES = [f"{part}/{name}" for part in ("train", "test") for name in "AB"]


def encode(picture, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def noise(size=(40, 30)):
    return RNG.integers(0, 256, size, dtype=np.uint8)


def fill(root, number, write=lambda place, index: encode(noise())):
    """`number` images in train and test of the classes A and B; `write` gives the bytes of each."""
    for place in PLACES:
        (root / place).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            (root / place / f"{index}.png").write_bytes(write(place, index))
    return root


def read(root):
    return sources.read_images(sources.find_source(str(root)), show_progress=False)


# The inventory


def test_every_file_is_in_the_table(tmp_path):
    root = fill(tmp_path / "xrays", 300)
    for index in range(16):
        (root / "train/A/deep/er").mkdir(parents=True, exist_ok=True)
        (root / f"train/A/deep/er/{index}.png").write_bytes(encode(noise()))
    (root / "train/A/gone.png").symlink_to(root / "nowhere.png")
    (root / "train/B/1.png").write_bytes(b"")
    (root / "train/B/2.png").write_bytes(encode(noise(), "WEBP"))
    (root / "train/B/notes.txt").write_text("seen")
    images = read(root)
    expected = pd.DataFrame(
        {
            "used": [616, 598, 1214],
            "in subfolders": [16, 0, 16],
            "dangling links": [1, 0, 1],
            "unreadable": [0, 1, 1],
            "wrong format": [0, 1, 1],
            "other files": [0, 1, 1],
        },
        index=pd.Index(["A", "B", "all"], name="class"),
    )
    pd.testing.assert_frame_equal(images.inventory, expected, check_dtype=False)
    assert expected.loc["all", "used"] == len(images.images)
    assert images.skipped == {
        "train/B/1.png": "the file is empty",
        "train/B/2.png": "a WebP file, not JPEG, PNG or DICOM: save it as PNG",
    }
    said = images.describe()
    assert "dangling links (1): train/A/gone.png" in said and "wrong format (1): train/B/2.png: a WebP file" in said
    assert "in subfolders" in said.splitlines()[-4]


def test_a_whole_set_in_a_usual_layout_says_nothing(tmp_path):
    assert read(fill(tmp_path / "xrays", 5)).describe() == ""


LOSSES = {  # images of A and B in train, how many of A are broken: whether it stops
    "one of few": (60, 1, False),
    "two of few": (60, 2, True),
    "one in a hundred of all": (100, 4, True),
    "few of all, many of a class": ((2000, 20), 3, True),
    "few of all and of the class": ((600, 600), 5, False),
}


@pytest.mark.parametrize("case", LOSSES)
def test_more_than_one_percent_of_all_or_of_a_class_stops(case):
    counts, broken, stops = LOSSES[case]
    many, few = counts if isinstance(counts, tuple) else (counts, counts)
    table = pd.DataFrame({"used": [few - broken, many], "unreadable": [broken, 0]}, index=["A", "B"])
    table.loc["all"] = table.sum()
    if not stops:
        return inventory.require_few_lost(table, "")
    with pytest.raises(
        ValueError, match=f"{broken} of {many + few} images can't be used, more than 1% of .*: mend .* why.\n *used"
    ):
        inventory.require_few_lost(table, "why")


def test_sixteen_of_24_images_in_a_subfolder_are_used_and_said(tmp_path):
    root = fill(tmp_path / "xrays", 24)
    (root / "train/A/second visit").mkdir()
    for index in range(16):
        shutil.move(root / f"train/A/{index}.png", root / "train/A/second visit")
    images = read(root)
    assert len(images.images) == 96
    assert images.inventory.loc["A", "in subfolders"] == 16
    assert "16" in images.describe()


# Values of more than 8 bits


def wide(picture, bits):
    """`uint8` as 16-bit PNG that uses `bits` of its bits."""
    return encode(((picture.astype(np.int64) * (2**bits - 1) + 127) // 255).astype(np.uint16))


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15, 16])
def test_bits_that_no_image_of_the_set_uses_are_dropped(bits, tmp_path):
    pictures = {}

    def write(place, index):
        pictures[f"{place}/{index}.png"] = noise()
        return wide(pictures[f"{place}/{index}.png"], bits)

    images = read(fill(tmp_path / "xrays", 8, write))
    for file, image in zip(images.files, images.images, strict=True):
        np.testing.assert_array_equal(image, decode.decode_image(encode(pictures[file])))
    sentence = (
        f"32 images have more than 8 bits a value (up to 16), and in the whole set the upper {16 - bits} of them are unused"
    )
    assert (sentence in images.describe()) == (bits < 16)


def test_the_range_is_one_for_all_classes_and_images(tmp_path):
    """A class that is darker stays darker; one image that uses all bits makes all others dark, and burnt-in letters don't."""
    root = fill(tmp_path / "xrays", 20, lambda place, index: wide(noise() // (4 if place.endswith("A") else 1), 12))
    images = read(root)
    means = [images.images[images.labels == label].mean() for label in (0, 1)]
    assert abs(means[0] - 31) < 2 and abs(means[1] - 127) < 2

    values = (noise((40, 30)).astype(np.uint16) << 4) // 16 * 16
    values[0, 0] = 65535  # one white pixel in 80 images
    (root / "train/A/0.png").write_bytes(encode(values))
    assert abs(read(root).images.mean() - 79) < 3
    (root / "train/A/0.png").write_bytes(encode(noise().astype(np.uint16) * 257))
    dark = read(root)
    assert dark.images[dark.labels == 1].mean() < 10
    assert "unused" not in dark.describe()


@pytest.mark.parametrize(("frame", "said"), [(3, True), (0, False)])
def test_a_white_frame_that_makes_a_whole_set_nearly_black_is_said(frame, said, tmp_path):
    """One pixel in a hundred that is white keeps all bits in use; what is left of the picture is said and not guessed."""

    def write(place, index):
        values = noise().astype(np.uint16) * 16
        values[0, : 10 * frame] = 65535
        return encode(values)

    images = read(fill(tmp_path / "xrays", 5, write))
    assert (
        "The 20 images of more than 8 bits a value are nearly black: 95% of their pixels lie in" in images.describe()
    ) == said
    assert (images.images.mean() < 20) == said


def test_full_16_bits_are_what_they_were(tmp_path):
    values = RNG.integers(0, 65536, (50, 50), dtype=np.uint16)
    grey = Image.fromarray(((values.astype(np.int32) + 128) // 257).astype(np.uint8))  # as this project always did
    expected = np.asarray(grey.resize((128, 128), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(decode.decode_image(encode(values))[..., 0], expected)


def test_colour_of_16_bits_that_uses_few_of_them_is_a_sentence(tmp_path):
    import struct
    import zlib

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def colour(bits):
        rows = b"".join(b"\0" + RNG.integers(0, 2**bits, 60, dtype=np.uint16).astype(">u2").tobytes() for _ in range(20))
        header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    assert read(fill(tmp_path / "full", 4, lambda *_: colour(16))).images.mean() > 120
    with pytest.raises(ValueError, match="16-bit colour of which only 12 bits are used: save it as 16-bit grey"):
        read(fill(tmp_path / "dark", 4, lambda *_: colour(12)))


# Classes that differ in their files


def described(write, tmp_path):
    images = read(fill(tmp_path / "xrays", 6, write))
    assert images.formats.index.tolist() == ["A", "B"]
    return images.describe(), images.formats


DIFFERENCES = {  # what is different in class A: how a file of it is written, and the words
    "format": (lambda: encode(noise(), "JPEG", quality=90), "100% JPEG, elsewhere 0%"),
    "bits": (
        lambda: wide(noise(), 16),
        "0% 8 bits, elsewhere 100%; 100% 16 bits, elsewhere 0%; median used bits 16, elsewhere 8",
    ),
    "size": (lambda: encode(noise((80, 60))), "median width 60, elsewhere 30; median height 80, elsewhere 40"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_class_of_another_kind_of_file_is_said(case, tmp_path):
    make, words = DIFFERENCES[case]
    said, _ = described(lambda place, index: make() if place.endswith("A") else encode(noise()), tmp_path)
    assert f"A differs from the other classes in its files ({words}" in said
    assert "without looking at lungs" in said


def test_another_compression_and_other_used_bits_are_said(tmp_path):
    said, table = described(lambda place, _: encode(noise(), "JPEG", quality=60 if place.endswith("A") else 90), tmp_path)
    assert "median quality 60, elsewhere 90" in said
    assert table["median quality"].tolist() == [60, 90]
    shutil.rmtree(tmp_path / "xrays")
    said, _ = described(lambda place, _: wide(noise(), 12 if place.endswith("A") else 16), tmp_path)
    assert "median used bits 12, elsewhere 16" in said


def test_of_three_classes_only_the_odd_one_is_named():
    facts = [decode.Facts("JPEG", 8, 200, 200, 75)] * 4 + [decode.Facts("PNG", 8, 200, 200)] * 2
    table = inventory.compare_formats(("A", "B", "C"), np.array([0, 0, 1, 1, 2, 2]), facts)
    said = inventory.describe_formats(table)
    assert said.startswith(
        "C differs from the other classes in its files (0% JPEG, elsewhere 100%, 100%; 100% PNG, elsewhere 0%, 0%)."
    )
    assert said.count("differs") == 1
    assert inventory.describe_formats(table.loc[["A", "B"]]) == ""


@pytest.mark.parametrize("quality", [30, 50, 75, 85, 95, 100])
def test_jpeg_quality_is_the_one_it_was_saved_with(quality):
    assert abs(decode.examine_image(encode(noise(), "JPEG", quality=quality))[1].quality - quality) <= 1


# The cache


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Twenty images, read once with a cache; the files, the pixels, the cache's file."""
    paths = []
    for index in range(20):
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(encode(noise()))
    loaded = loading.load_images(paths, tmp_path / "cache", show_progress=False)
    (file,) = (tmp_path / "cache").iterdir()
    return paths, loaded, file


def read_again(paths, tmp_path):
    return loading.load_images(paths, tmp_path / "cache", show_progress=False)


DAMAGE = {
    "zeroed pixels": lambda data: data[:-5000] + bytes(5000),
    "one flipped bit": lambda data: data[:-777] + bytes([data[-777] ^ 1]) + data[-776:],
    "cut off": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "more than it was": lambda data: data + b"\0",
    "another checksum": lambda data: b"0" + data[1:],
    "changed facts": lambda data: data.replace(b'"PNG"', b'"JPG"', 1),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_cache_is_decoded_again(case, cached, tmp_path):
    paths, loaded, file = cached
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[case](whole))
    again = read_again(paths, tmp_path)
    np.testing.assert_array_equal(loaded.images, again.images)
    assert again.facts == loaded.facts
    assert file.read_bytes() == whole


def test_any_flipped_byte_of_the_cache_is_noticed(cached, tmp_path):
    _, _, file = cached
    whole = file.read_bytes()
    for place in [*range(300), *RNG.integers(0, len(whole), 300)]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        assert loading._read_cache(file) is None


def test_the_cache_holds_all_that_reading_gives(cached, tmp_path, monkeypatch):
    paths, loaded, _ = cached
    monkeypatch.setattr(decode, "examine_image", lambda *_: pytest.fail("decoded although cached"))
    again = read_again(paths, tmp_path)
    np.testing.assert_array_equal(loaded.images, again.images)
    assert (again.facts, again.value_range, again.problems) == (loaded.facts, loaded.value_range, loaded.problems)
    assert again.digests.tolist() == loaded.digests.tolist()


def test_a_file_that_is_cut_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    """The bytes are whole when they are hashed first, cut when they are decoded, and whole in the next run."""
    path = tmp_path / "0.png"
    path.write_bytes(encode(noise()))
    whole, once = path.read_bytes(), []

    def hash_and_cut(path):
        digest = loading._hash(path.read_bytes())
        if not once:
            once.append(path.write_bytes(whole[: len(whole) // 2]))
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_hash_or_explain", hash_and_cut)
        assert len(read_again([path], tmp_path).images) == 0
    path.write_bytes(whole)
    assert len(read_again([path], tmp_path).images) == 1
    path.write_bytes(whole[: len(whole) // 2])
    assert len(read_again([path], tmp_path).images) == 0


def test_a_file_of_many_bits_that_changes_between_its_two_readings_is_not_used(tmp_path, monkeypatch):
    paths = []
    for index in range(3):
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(wide(noise(), 12))
    find_range = decode.find_range

    def change(all_facts):
        paths[1].write_bytes(wide(noise(), 12))
        return find_range(all_facts)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "find_range", change)
        loaded = read_again(paths, tmp_path)
    assert loaded.problems == {1: loading.Problem(loading.UNREADABLE, loading.CHANGED)}
    assert len(read_again(paths, tmp_path).images) == 3


def test_reading_is_linear_and_a_cache_of_many_is_small(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "STORE", tmp_path)
    path = tmp_path / "0.png"
    path.write_bytes(encode(noise()))
    for index in range(1, 500):
        os.link(path, tmp_path / f"{index}.png")
    loaded = loading.load_images([tmp_path / f"{index}.png" for index in range(500)], tmp_path / "cache", show_progress=False)
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size < loaded.images.nbytes + 200 * 500
