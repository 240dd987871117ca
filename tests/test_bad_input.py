"""Bad, odd and unlucky inputs, each with what must come of it: a right result, or one sentence that names what and why."""

import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import utils
from xraygan import run
from xraygan.comparison import profile
from xraygan.data import audit, decode, imported, sources, split

RNG = np.random.default_rng(0)


def picture(size=(20, 20), mode="L"):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}[mode]
    return Image.fromarray(RNG.integers(0, 256, (*size, *channels), dtype=np.uint8), mode)


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks, width=20, height=20, depth=8, colour=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def rows(width=20, height=20, value=0):
    return chunk(b"IDAT", zlib.compress((b"\0" + bytes([value]) * width) * height))


def spliced(data, start, removed=0, added=b""):
    return data[:start] + added + data[start + removed :]


JPEG, PNG = encode(picture((60, 50), "RGB"), "JPEG"), encode(picture((60, 50), "RGB"))
RIGHT = (utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1)
NO_IMAGE, TOO_LARGE = "^not a readable JPEG, PNG or DICOM$", "more than 64,000,000"
NO_JPEG, NO_PNG = "^not a readable JPEG \\(", "^not a readable PNG \\("
OTHER_KIND = "^a {} file, not JPEG, PNG or DICOM: save it as PNG$"

IMAGES = {  # bytes of one image file: what comes of them
    "nothing": (b"", "the file is empty"),
    "one byte": (b"\xff", NO_IMAGE),
    "zeros": (bytes(5000), "nothing but zeros, as a download leaves it that broke off"),
    "text": (b"patient 17", NO_IMAGE),
    "HTML of a failed download": (b"<!DOCTYPE html><html>Not found</html>", "a web page and not the image: download it again"),
    "PDF": (b"%PDF-1.7 ...", OTHER_KIND.format("PDF")),
    "DICOM without an image": (
        bytes(128) + b"DICM" + bytes(200),
        "a DICOM file without an image|pydicom, which reads them, isn't installed",
    ),
    "zip": (b"PK\x03\x04" + bytes(50), OTHER_KIND.format("zip")),
    "git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "a Git LFS pointer and not the image: run 'git lfs pull'",
    ),
    "GIF": (encode(picture(), "GIF"), OTHER_KIND.format("GIF")),
    "BMP": (encode(picture(), "BMP"), OTHER_KIND.format("BMP")),
    "TIFF": (encode(picture(), "TIFF"), OTHER_KIND.format("TIFF")),
    "WebP": (encode(picture(), "WEBP"), OTHER_KIND.format("WebP")),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(50), OTHER_KIND.format("HEIC")),
    "AVIF": (b"\0\0\0\x18ftypavif" + bytes(50), OTHER_KIND.format("AVIF")),
    "JPEG 2000": (encode(picture(), "JPEG2000"), OTHER_KIND.format("JPEG 2000")),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), OTHER_KIND.format("gzip")),
    "git-annex pointer": (b"/annex/objects/MD5E-s1--00.png\n", "a git-annex pointer and not the image: run 'git annex get'"),
    "EPS, which would start Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NO_IMAGE),
    "JPEG's first bytes": (JPEG[:10], NO_JPEG),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], NO_JPEG),
    "JPEG without its last bytes": (JPEG[:-2], NO_JPEG),
    "JPEG of which the end never came": (
        JPEG[: len(JPEG) // 2] + bytes(9000),
        "its end is nothing but zeros, .* download it again",
    ),
    "JPEG with zeros after it": (JPEG + bytes(9000), RIGHT),
    "JPEG with text after it": (JPEG + b"trailing", RIGHT),
    "JPEG without tables": (JPEG.replace(b"\xff\xdb", b"\xff\xfe", 1), NO_JPEG),
    "JPEG of no width": (spliced(JPEG, JPEG.index(b"\xff\xc0") + 7, 2, b"\0\0"), NO_JPEG),
    "JPEG of 65,500 pixels a side": (spliced(JPEG, JPEG.index(b"\xff\xc0") + 5, 4, b"\xff\xdc\xff\xdc"), TOO_LARGE),
    "JPEG with broken EXIF": (encode(picture((9, 9), "RGB"), "JPEG", exif=b"Exif\0\0garbage"), RIGHT),
    "JPEG, progressive": (encode(picture((60, 60), "RGB"), "JPEG", progressive=True), RIGHT),
    "JPEG, CMYK": (encode(picture((9, 9), "CMYK"), "JPEG"), RIGHT),
    "JPEG of one pixel": (encode(picture((1, 1)), "JPEG"), RIGHT),
    "PNG's signature": (PNG[:8], NO_PNG),
    "PNG cut in half": (PNG[: len(PNG) // 2], NO_PNG),
    "PNG with a wrong checksum": (spliced(PNG, 30, 1, b"\x99"), NO_PNG),
    "PNG without pixels": (png(), NO_PNG),
    "PNG of no width": (png(rows(), width=0), NO_PNG),
    "PNG with too few rows": (png(rows(height=5)), RIGHT),  # the others are black
    "PNG with rows to spare": (png(rows(height=50)), RIGHT),
    "PNG of impossible depth": (png(rows(), depth=3), NO_PNG),
    "PNG of impossible colour": (png(rows(), colour=5), NO_PNG),
    "PNG with a palette too short": (png(chunk(b"PLTE", bytes(3)), rows(value=200), colour=3), RIGHT),
    "PNG whose pixels aren't compressed": (png(chunk(b"IDAT", b"not zlib")), NO_PNG),
    "PNG with a giant comment": (png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), rows()), NO_PNG),
    "PNG of 10,000 million pixels": (png(rows(), width=100_000, height=100_000), TOO_LARGE),
    "PNG of 81 million pixels": (png(rows(), width=9000, height=9000), TOO_LARGE),
    "PNG of one pixel": (encode(picture((1, 1))), RIGHT),
    "PNG of one row": (encode(picture((1, 3000))), RIGHT),
    "PNG, black": (png(rows()), RIGHT),
    "PNG, 1 bit": (png(chunk(b"IDAT", zlib.compress(b"\0\xaa\xaa\xaa" * 20)), depth=1), RIGHT),
    "PNG, animated": (encode(picture(), save_all=True, append_images=[picture()]), RIGHT),
    "PNG, transparent": (encode(picture((9, 9), "RGBA")), RIGHT),
}


@pytest.mark.parametrize("case", IMAGES)
def test_image(case):
    data, expected = IMAGES[case]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected) as caught:
            decode.decode_image(data)
        assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value)
    else:
        decoded = decode.decode_image(data)
        assert (decoded.shape, decoded.dtype) == (expected, np.uint8)


def bases():
    """Small images of every kind, and two real ones where there are some, read now and kept nowhere."""
    found = [JPEG, PNG, encode(picture((30, 30), "LA")), encode(picture((30, 30), "CMYK"), "JPEG")]
    found += [encode(picture((40, 40), "RGB"), "JPEG", progressive=True), encode(picture((30, 30)).convert("P"))]
    found += [IMAGES["JPEG with broken EXIF"][0], IMAGES["PNG, animated"][0]]
    real = Path(os.environ.get("XRAY_DATA_DIR", "nowhere")) / "train" / "COVID19"
    return found + [path.read_bytes() for path in sorted(real.glob("*.*"))[:2]]


BASES = bases()
MUTATION = st.tuples(
    st.sampled_from(["flip", "remove", "insert", "repeat"]),
    st.floats(0, 1),
    st.integers(1, 40),
    st.binary(min_size=1, max_size=8),
)
TRIED = {"accepted": 0, "refused": 0}


def mutated(data, mutation):
    kind, where, length, content = mutation
    start = int(where**2 * len(data))  # more often near the start, where the headers are
    piece = data[start : start + length]
    return {
        "flip": spliced(data, start, len(content), content),
        "remove": spliced(data, start, length),
        "insert": spliced(data, start, 0, content),
        "repeat": spliced(data, start, 0, piece * 3),
    }[kind]


@settings(max_examples=2000, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(range(len(BASES))), st.lists(MUTATION, min_size=1, max_size=4))
def try_mutated_image(base, mutations):
    data = BASES[base]
    for mutation in mutations:
        data = mutated(data, mutation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says that metadata is odd
        try:
            assert decode.decode_image(data).shape == RIGHT
            TRIED["accepted"] += 1
        except ValueError as error:
            assert "\n" not in str(error)
            TRIED["refused"] += 1


def test_mutated_images_are_read_or_refused():
    try_mutated_image()
    print(f"mutated images: {TRIED}")
    assert min(TRIED.values()) > 100, "the mutations are all too mild or all too strong"


# Folders


def write(root, counts, content=None):
    """Images of noise in `root/PART/CLASS`, as many as `counts` says, {"train/A": 3}."""
    for place, count in counts.items():
        (root / place).mkdir(parents=True)
        for index in range(count):
            (root / place / f"{index}.png").write_bytes(content or encode(picture((128, 128))))
    return root


def usable(names, train=12, test=3):
    return {f"{part}/{name}": count for name in names for part, count in (("train", train), ("test", test))}


def with_file(root, place, content=b""):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(content)


def looped(root):
    write(root, usable("AB"))
    (root / "train" / "loop").symlink_to(root / "train")
    (root / "train" / "A" / "up").symlink_to(root)


def dangling(root, count=1, train=60):
    write(root, usable("AB", train=train))
    for index in range(count):
        (root / "train" / "A" / f"gone{index}.png").symlink_to(root / "nowhere.png")


def in_a_circle(root):
    write(root, usable("AB", train=60))
    (root / "train" / "A" / "loop.png").symlink_to("loop.png")


def linked_class(root):
    write(root, usable("AB"))
    write(root / "elsewhere", {"C": 12, "D": 3})
    (root / "train" / "C").symlink_to(root / "elsewhere" / "C")
    (root / "test" / "C").symlink_to(root / "elsewhere" / "D")


def with_pipe(root):
    write(root, usable("AB"))
    os.mkfifo(root / "train" / "A" / "pipe.png")


def with_giant(root):
    """One file of 50 GB among a hundred: sparse, so that it takes no space."""
    write(root, usable("AB", train=60))
    with (root / "train" / "A" / "giant.png").open("wb") as file:
        file.truncate(50 * 10**9)


def with_folder_named_as_image(root):
    write(root, usable("AB"))
    (root / "train" / "A" / "folder.png").mkdir()


def with_others(root):
    write(root, usable("AB"))
    for name in (
        "Thumbs.db",
        ".DS_Store",
        "._0.png",
        "notes.txt",
        "model.h5",
        "@eaDir/0.png",
        ".ipynb_checkpoints/0.png",
        "0.png:Zone.Identifier",
    ):
        with_file(root, f"train/A/{name}", b"x")
    for name in ("__MACOSX/train/A/._0.png", "lost+found/train/C/0.png", "__MACOSX/train/A/0.png"):
        with_file(root, name, b"x")


def upper_case(root):
    write(root, usable("AB"))
    for path in (root / "train" / "A").iterdir():
        path.rename(path.with_suffix(".PNG"))


def one_broken_in_many(root):
    write(root, usable("AB", train=60))
    with_file(root, "train/A/7.png", b"broken")


def many_broken(root):
    write(root, usable("AB"))
    for index in range(6):
        with_file(root, f"train/A/{index}.png", b"broken")


def all_equal(root):
    write(root, usable("AB"), content=encode(picture((128, 128))))


def same_in_both_classes(root):
    write(root, usable("AB"))
    for index in range(12):
        (root / "train" / "B" / f"{index}.png").write_bytes((root / "train" / "A" / f"{index}.png").read_bytes())


FOLDERS = {  # what lies in DATA: classes found, or the sentence that stops it
    "two classes": (lambda root: write(root, usable("AB")), ["A", "B"]),
    "ten classes": (lambda root: write(root, usable("ABCDEFGHIJ")), list("ABCDEFGHIJ")),
    "one class": (lambda root: write(root, usable("A")), "at least two classes"),
    "no class": (lambda root: write(root, {"train": 0, "test": 0}), "at least two classes"),
    "images without class folders": (lambda root: write(root, {"train": 3, "test": 3}), "at least two classes"),
    "no train": (lambda root: write(root, {"test/A": 3, "test/B": 3}), "has no folder 'train'"),
    "no test": (lambda root: write(root, {"train/A": 3, "train/B": 3}), "has no folder 'test'"),
    "one folder too high": (lambda root: write(root / "Data", usable("AB")), ["A", "B"]),
    "an empty class": (lambda root: write(root, usable("AB") | {"train/A": 0}), "train/A holds no image"),
    "an empty test class": (lambda root: write(root, usable("AB") | {"test/A": 0}), "test/A holds no image"),
    "a class in train only": (lambda root: write(root, usable("AB") | {"train/C": 3}), ["A", "B"]),
    "one image a class": (lambda root: write(root, usable("AB", train=1)), "class A has 1 usable images or groups"),
    "three images a class": (lambda root: write(root, usable("AB", train=3)), ["A", "B"]),
    "all black": (lambda root: write(root, usable("AB"), content=png(rows())), "class A has 0 usable images or groups"),
    "all equal": (all_equal, "class A has 0 usable images or groups"),
    "the same images in two classes": (same_in_both_classes, ["A", "B"]),
    "unicode names": (lambda root: write(root, usable(["건강", "naïve café", "😷"])), ["naïve café", "건강", "😷"]),
    "names of numbers": (lambda root: write(root, usable(["0", "1"])), ["0", "1"]),
    "names with spaces": (lambda root: write(root, usable(["not ill", "ill"])), ["ill", "not ill"]),
    "a long name": (lambda root: write(root, usable(["A" * 200, "B"])), ["A" * 200, "B"]),
    "a very long name": (lambda root: write(root, usable(["A" * 201, "B"])), "has a name of 201 bytes, .* one of at most 200"),
    "a name with a comma": (
        lambda root: write(root, usable(["A,B", "C"])),
        "the class 'A,B' can't stand in a list or table of classes; give it a name without a comma",
    ),
    "a name that ends in a space": (lambda root: write(root, usable(["A ", "C"])), "the class 'A ' can't stand"),
    "a name of two lines": (lambda root: write(root, usable(["A\nB", "C"])), "can't stand in a list"),
    "a name that tables use": (lambda root: write(root, usable(["all", "C"])), "the class 'all' can't stand"),
    "hidden folders": (lambda root: write(root, usable("AB") | {"train/.C": 2, "test/.C": 2}), ["A", "B"]),
    "upper-case suffix": (upper_case, ["A", "B"]),
    "other files": (with_others, ["A", "B"]),
    "a folder named as an image": (with_folder_named_as_image, ["A", "B"]),
    "links in a circle": (looped, ["A", "B"]),
    "an image that links to itself": (in_a_circle, ["A", "B"]),
    "a link to nowhere": (dangling, ["A", "B"]),
    "eight of 24 links to nowhere": (
        lambda root: dangling(root, 8, 12),
        "8 of 38 images can't be used, more than 1% of A, all: .*dangling links \\(8\\): train/A/gone0.png; ",
    ),
    "a class that is a link": (linked_class, ["A", "B", "C"]),
    "a pipe that never ends": (with_pipe, ["A", "B"]),
    "a file of 50 GB": (with_giant, ["A", "B"]),
    "one broken image in many": (one_broken_in_many, ["A", "B"]),
    "many broken images": (
        many_broken,
        "6 of 30 images can't be used, more than 1% of A, all: .*train/A/0.png: not a readable JPEG, PNG or DICOM; ",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folder(case, tmp_path):
    """From the folder to the split, as notebook 1 does before it trains."""
    make, expected = FOLDERS[case]
    root = tmp_path / "xrays"
    make(root)

    def prepare():
        source = sources.find_source(str(root))
        images = sources.read_images(source, show_progress=False)
        groups = audit.find_groups(images)
        audit.count_leaks(images, groups)
        return source, images, split.make_split(images, groups)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out is named; other tests read that
        if isinstance(expected, str):
            with pytest.raises(ValueError, match=expected) as caught:
                prepare()
            assert str(tmp_path) not in str(caught.value)
            _, *table = str(caught.value).split("\n")
            assert not table or table[0].split()[:1] == ["used"]
            return
        source, images, parts = prepare()
    assert list(source.classes) == expected
    for part in ("train", "validation", "test"):
        assert set(parts.loc[parts["part"] == part, "class"]) == set(source.classes)
    assert len(images.images) == len(parts)


# Parameters, profiles, groups


PARAMETERS = {
    "CLASSES": (["NORMAL", "COVID19"], r"CLASSES is \['NORMAL', 'COVID19'\]; it must be text, 'NORMAL,COVID19' say"),
    "ALSO": (("PNEUMONIA",), "ALSO is .* it must be text, 'PNEUMONIA' say"),
    "DATA": (None, "DATA is None; it must be text"),
    "PROFILE": (1, "PROFILE is 1; it must be text"),
    "RUN": (7, "RUN is 7; it must be text"),
    "MINORITY": (b"COVID19", "MINORITY is b'COVID19'; it must be text"),
    "GROUPS": (Path("groups.csv"), "GROUPS is .* it must be text"),
    "SCHEDULER": (8786, "SCHEDULER is 8786; it must be text"),
    "SWEEPS": ("yes", "SWEEPS is 'yes'; it must be True or False"),
    "SEED": (-1, "SEED is -1; it must be a whole number from 0"),
    "SEED of a fraction": (0.5, "SEED is 0.5; it must be a whole number from 0"),
    "SEED in words": ("zero", "SEED is 'zero'; it must be a whole number from 0"),
    "SEED too large": (2**40, "SEED is 1099511627776; it must be a whole number from 0 to 2147483647"),
    "ON_LEAK": ("ignore", "ON_LEAK is .ignore.; choose .drop. or .report.\\."),
    "ON_LEAK that is no text": (None, "ON_LEAK is None; choose"),
    "TEST_SHARE": (0.95, "TEST_SHARE is 0.95; it must be a number from 0"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameter(case):
    value, message = PARAMETERS[case]
    with pytest.raises(ValueError, match=message):
        profile.check_parameters(**{case.split()[0]: value})


def test_good_parameters_pass():
    profile.check_parameters(DATA="", CLASSES="A,B", SEED=0, SWEEPS=False)


PROFILE = """
max_train_images: 600
classifier_epochs: 18
classifier_updates: 0
classifier_patience: 18
gan_updates: 40
gan_sample_every: 2
num_fakes: 200
arms: [nothing, oversampling, classical, gan]
num_seeds: 2
"""
PROFILES = {
    "nothing": ("", "must have exactly the keys"),
    "a number": ("7", "must have exactly the keys"),
    "a list": ("[1, 2]", "must have exactly the keys"),
    "no YAML": ("{: : ]", "can't be read as YAML"),
    "no text": (b"\xff\xfe\x00\x81", "can't be read as YAML"),
    "an object": ("!!python/object/apply:os.system ['touch sign']", "can't be read as YAML"),
    "a key too many": (PROFILE + "\ngan_colour: 3", "must have exactly the keys"),
    "a key missing": (PROFILE.replace("num_seeds:", "# num_seeds:"), "must have exactly the keys"),
    "negative epochs": (PROFILE.replace("gan_updates: 40", "gan_updates: -40"), "gan_updates in profile .* is -40"),
    "no epochs": (PROFILE.replace("classifier_epochs: 18", "classifier_epochs: 0"), "at least 1"),
    "half an epoch": (PROFILE.replace("gan_updates: 40", "gan_updates: 0.5"), "gan_updates in profile .* is 0.5"),
    "epochs in words": (PROFILE.replace("gan_updates: 40", "gan_updates: many"), "gan_updates in profile .* is 'many'"),
    "yes for a number": (PROFILE.replace("num_fakes: 200", "num_fakes: yes"), "num_fakes in profile .* is True"),
    "fakes too few to judge": (
        PROFILE.replace("num_fakes: 200", "num_fakes: 5"),
        "num_fakes in profile .* is 5; .* at least 6",
    ),
    "few patients and no curve": (
        PROFILE + "scarce_counts: [25]\nscarce_seeds: [3]",
        "has scarce_counts, .* it needs curve_seeds",
    ),
    "a curve that begins above": (
        PROFILE + "scarce_counts: [25]\nscarce_seeds: [3]\ncurve_counts: [50, 100]\ncurve_seeds: 2",
        "two or more curve_counts, the first of them 25 or fewer",
    ),
    "images of 100 pixels": (PROFILE + "image_size: 100", "image_size in profile .* is 100; it must be a power of two"),
    "images of 16 pixels": (PROFILE + "image_size: 16", "is 16; it must be a power of two of at least 32"),
    "images of no size": (PROFILE + "image_size: large", "image_size in profile .* is 'large'"),
    "an unknown arm": (PROFILE.replace("[nothing,", "[nothing, magic,"), "arms in profile .* must be a list of"),
    "no arm nothing": (PROFILE.replace("[nothing,", "["), "with nothing, oversampling, gan among them"),
    "no arm to compare with": (PROFILE.replace(" oversampling,", ""), "with nothing, oversampling, gan among them"),
    "an arm twice": (PROFILE.replace("[nothing,", "[nothing, nothing,"), "each at most once"),
    "arms in a list of lists": (PROFILE.replace("[nothing,", "[nothing, [gan],"), "arms in profile .* must be a list of"),
    "a key twice": (PROFILE + "num_fakes: 1000", "can't be read as YAML: num_fakes stands there twice"),
    "a number with a zero before it": (PROFILE + "image_size: 0200", "can't be read as YAML: 0200 is no plain whole number"),
    "a time of day": (PROFILE + "image_size: 1:30", "can't be read as YAML: 1:30 is no plain whole number"),
    "a day that isn't in the calendar": (PROFILE + "image_size: 2024-13-45", "can't be read as YAML: month must be"),
    "3,000 brackets": ("[" * 3000, "profile mine.yaml can't be read as YAML"),
    "arms as text": (
        PROFILE.replace("[nothing, oversampling, classical, gan]", "nothing"),
        "arms in profile .* must be a list of",
    ),
}


@pytest.mark.parametrize("case", PROFILES)
def test_profile(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = PROFILES[case]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        profile.load_profile(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sign").exists()


@pytest.mark.parametrize(("line", "image_size"), [("", 128), ("image_size: 64", 64)])
def test_a_good_profile_passes(line, image_size, tmp_path):
    (tmp_path / "mine.yaml").write_text(PROFILE + line)
    loaded = profile.load_profile(tmp_path / "mine.yaml")
    assert (loaded.image_size, loaded.gan_updates, loaded.arms[-1]) == (image_size, 40, "gan")
    assert loaded.make_recipe("hinge").image_size == loaded.make_classifier("study_cnn").image_size == image_size


GROUPS = {
    "nothing": (b"", "can't be read as CSV"),
    "no text": (b"file\x03\x04\x00,\x99", "can't be read as CSV: it holds zero bytes"),
    "a workbook": (b"PK\x03\x04\x00,\x99", "GROUPS .* is a workbook of a spreadsheet program and no CSV: save it as CSV"),
    "UTF-16 of nothing sensible": (b"\xff\xfe\x81\x00,\x99", "GROUPS has no column file and group"),
    "an open quotation mark": (b'file,group\n"train/A/0.png,1\n', "a quotation mark opens in row 2 and is never closed"),
    "ragged": (b"file,group\na,b,c,d\na\n1,2,3,4,5,6\n", "can't be read as CSV"),
    "other columns": (b"name,person\na,1\n", "GROUPS has no column file and group; its columns are name, person. Call that of"),
    "one column": (b"file\na\n", "GROUPS has no column group"),
    "headings only": (b"file,group\n", "GROUPS names none of the images; it calls files like 'missing'"),
    "other files": (b"file,group\nx.png,1\n", "it calls files like 'x.png', and the images are called like 'train/A/0.png'"),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups(case, tmp_path):
    content, message = GROUPS[case]
    path = tmp_path / "groups.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_groups(path)
    assert "\n" not in str(caught.value)


def read_groups(path):
    """As for a run on one image."""
    source = sources.Source("xrays", Path("xrays"), ("A",), "A", False)
    nothing, folders, files, digests = (
        np.zeros((1, 8, 8, 1), np.uint8),
        np.array(["train"]),
        np.array(["train/A/0.png"]),
        np.array(["0"]),
    )
    return audit.read_groups(str(path), sources.ImageSet(source, nothing, np.zeros(1, int), folders, files, digests))


# Places that aren't there or can't be opened


@pytest.fixture
def nobody():
    """A folder that anyone may read, and a function after which the process has no rights of its own."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name), lambda: os.seteuid(65534)
        os.seteuid(0)


CLOSED = {"a folder above": "closed", "DATA itself": "closed/xrays", "the table": "closed/xrays/labels.csv"}


@pytest.mark.parametrize("case", CLOSED)
def test_what_is_closed_is_one_sentence_without_its_path(case, nobody):
    root, become_nobody = nobody
    write(root / "closed/xrays", usable("AB"))
    (root / "closed/xrays/labels.csv").write_text("file,label\ntrain/A/0.png,A\n")
    os.chmod(root / CLOSED[case], 0)
    become_nobody()
    data = root / "closed/xrays"
    for find, name in ((sources.find_source, data), (read_groups, data / "labels.csv")):
        with pytest.raises(ValueError, match=r"can't be opened \(Permission denied\); change its permissions") as caught:
            find(str(name))
        assert str(root) not in str(caught.value)


ABSENT = ["nowhere", "~nobodyhere/x", "x" * 300, "a\0b", "https://kaggle.com/x"]


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_not_there_is_one_sentence(name):
    with pytest.raises(ValueError, match="DATA is .* and there is no such folder or file"):
        sources.find_source(name)
    with pytest.raises(ValueError, match="GROUPS is .* and there is no such file"):
        read_groups(name)
    with pytest.raises(ValueError, match="FAKES is .* and there is no such folder"):
        imported.find_folder(name)


def test_a_path_of_windows_is_told_as_wsl_writes_it():
    with pytest.raises(ValueError, match=r"in WSL that is /mnt/c/…, with / in place of"):
        sources.find_source("C:\\Users\\me\\xrays")


RUN_FILES = {
    "record": ("record.json", run.read_record),
    "split": ("split.csv", lambda folders: run.read_table(folders, "split.csv", "1_before_gan.ipynb")),
    "split, hashed before": ("split.csv", lambda folders: utils.read_table(folders.results / "split.csv")),
}


@pytest.mark.parametrize("case", RUN_FILES)
def test_a_file_of_a_run_that_is_closed_is_one_sentence(case, nobody):
    root, become_nobody = nobody
    folders = run.open_folders("closed", root)
    run.start_record(folders)
    run.write_table(pd.DataFrame({"file": ["a"]}), folders, "split.csv")
    name, read = RUN_FILES[case]
    os.chmod(folders.results / name, 0)
    become_nobody()
    with pytest.raises(ValueError, match=rf"{name} can't be opened \(Permission denied\); change its permissions"):
        read(folders)


def test_a_folder_in_the_place_of_a_file_of_a_run_is_one_sentence(tmp_path):
    folders = run.open_folders("folder", tmp_path)
    (folders.results / "record.json").mkdir()
    with pytest.raises(ValueError, match="record.json is damaged: run notebooks/1_before_gan.ipynb again"):
        run.read_record(folders)
    with pytest.raises(OSError, match=r"record.json can't be written: a folder stands where a file has to be; move it away"):
        run.start_record(folders)
    (folders.results / "split.csv").mkdir()
    with pytest.raises(ValueError, match="split.csv is damaged"):
        utils.read_table(folders.results / "split.csv")
