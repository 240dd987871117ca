"""DICOM files, written here by pydicom: the pixels of the picture that was put in, patients kept together, and no name anywhere."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xraygan import disk
from xraygan.data import audit, decode, dicom, loading, sources, split

pydicom = pytest.importorskip("pydicom", reason="pydicom, an option, isn't installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # pydicom's, that a header is odd: pytest shows what the reader silences
RNG = np.random.default_rng(0)


def write_dicom(picture, bits=8, stored=None, patient="", falling=False, **header):
    """A DICOM file as bytes whose picture is `uint8 (H, W)`, held in values of `bits` bits, of which the header names `stored`."""
    values = (picture.astype(np.int64) * (2**bits - 1) + 127) // 255
    if falling:
        values = 2**bits - 1 - values
    is_signed = header.get("PixelRepresentation", 0) == 1
    kind = np.uint8 if max(bits, stored or 0) <= 8 else np.int16 if is_signed else np.uint16
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientID, dataset.PatientName, dataset.InstitutionName = patient, "Hong^Gildong", "Secret Hospital"
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = 8 * kind().itemsize
    dataset.BitsStored = stored or bits
    dataset.HighBit = dataset.BitsStored - 1
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.astype(kind).tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def write_png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


PICTURE = RNG.integers(0, 256, (90, 70), dtype=np.uint8)
KINDS = {  # how a picture is held: arguments of write_dicom
    "8 bits": {},
    "10 bits": {"bits": 10},
    "12 bits": {"bits": 12},
    "16 bits": {"bits": 16},
    "MONOCHROME1": {"falling": True, "PhotometricInterpretation": "MONOCHROME1"},
    "MONOCHROME1, 12 bits": {"bits": 12, "falling": True, "PhotometricInterpretation": "MONOCHROME1"},
    "a rescale": {"bits": 12, "RescaleSlope": 2, "RescaleIntercept": -1024},
    "a rescale that falls": {"bits": 12, "falling": True, "RescaleSlope": -1, "RescaleIntercept": 4095},
    "a window of all values": {"bits": 12, "WindowCenter": 2048, "WindowWidth": 4096},
    "a window of a part of the bits": {"bits": 10, "stored": 16, "WindowCenter": 512, "WindowWidth": 1024},
    "two windows": {"bits": 12, "WindowCenter": [2048, 10], "WindowWidth": [4096, 5]},
    "a window after a rescale": {
        "bits": 12,
        "RescaleSlope": 1,
        "RescaleIntercept": -1000,
        "WindowCenter": 1048,
        "WindowWidth": 4096,
    },
    "a window, MONOCHROME1": {
        "bits": 12,
        "falling": True,
        "PhotometricInterpretation": "MONOCHROME1",
        "WindowCenter": 2048,
        "WindowWidth": 4096,
    },
    "an exact window": {"bits": 12, "WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"},
    "a window of no width": {"bits": 12, "WindowCenter": 5, "WindowWidth": 0},
    "one frame, as it says": {"NumberOfFrames": 1},
}


@pytest.mark.parametrize("case", KINDS)
def test_the_picture_comes_out_as_from_png(case):
    pixels, facts = decode.examine_image(write_dicom(PICTURE, **KINDS[case]))
    np.testing.assert_allclose(
        pixels.astype(int), decode.decode_image(write_png(PICTURE)), atol=1 if "Window" in str(KINDS[case]) else 0
    )
    assert (facts.format, facts.width, facts.height) == ("DICOM", 70, 90)


def test_a_narrow_window_is_the_standards(rng):
    """The linear function of DICOM PS3.3 C.11.2.1.2, written out here; a narrow window shows a part of the values only."""
    values = np.arange(4096, dtype=np.int64).reshape(64, 64)
    center, width = 1500.0, 300.0
    shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    data = write_dicom(np.zeros((64, 64), np.uint8), 12, WindowCenter=center, WindowWidth=width)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = values.astype(np.uint16).tobytes()
    file = io.BytesIO()
    dataset.save_as(file)
    np.testing.assert_array_equal(decode.decode_image(file.getvalue(), 64)[..., 0], np.rint(255 * shown))


def test_a_table_of_greys_is_applied():
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], [65535 - 257 * value for value in range(256)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    data = write_dicom(255 - PICTURE, VOILUTSequence=pydicom.Sequence([table]))
    np.testing.assert_array_equal(decode.decode_image(data), decode.decode_image(write_png(PICTURE)))


CUT = r"not a readable DICOM \(it is cut off or damaged, pydicom ends with \w+: copy or download it again\)"
REFUSED = {
    "several frames": ({"NumberOfFrames": 3}, "a DICOM file of 3 images \\(multi-frame\\): export the one that is meant"),
    "a palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "neither grey nor RGB"),
    "too large": ({"Rows": 9000, "Columns": 9000}, "9000×9000 pixels, more than 64,000,000"),
    "fewer pixels than promised": ({"Rows": 900}, CUT),
    "MR": ({"Modality": "MR"}, "magnetic resonance by its header \\(Modality MR\\): take it out"),
    "more bits than promised": ({"BitsStored": 40}, "DICOM"),
    "no sign": ({"PixelRepresentation": None}, "whose header has no PixelRepresentation: export it again, or as PNG"),
    "no number of channels": ({"SamplesPerPixel": None}, "whose header has no SamplesPerPixel: export it again"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_grey_image_is_a_sentence(case):
    header, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        decode.decode_image(write_dicom(PICTURE, patient="PAT-4711", **header))
    assert not {"Gildong", "Secret", "4711"} & set(str(caught.value).replace("^", " ").split())


@pytest.mark.parametrize("modality", ["CR", "DX", "RF", "XA", "MG", "OT", "SC", "", "odd"])
def test_radiographs_and_what_says_nothing_of_itself_are_read(modality):
    np.testing.assert_array_equal(
        decode.decode_image(write_dicom(PICTURE, Modality=modality)), decode.decode_image(write_png(PICTURE))
    )


def test_a_file_that_was_cut_off_says_what_to_do():
    data = write_dicom(PICTURE)
    for length in (len(data) - 100, len(data) // 2, 700):
        with pytest.raises(ValueError, match=rf"{CUT}|without an image|has no \w+"):
            decode.decode_image(data[:length])


@pytest.mark.parametrize(("number", "stops"), [(1, False), (60, True)])
def test_computed_tomography_among_radiographs_is_counted_and_a_class_of_it_stops(number, stops, tmp_path):
    for index in range(180):
        target = tmp_path / "AB"[index % 2] / f"{index:03d}.dcm"
        target.parent.mkdir(exist_ok=True)
        modality = "CT" if index % 2 and index < 2 * number else "DX"
        target.write_bytes(write_dicom(RNG.integers(0, 256, (20, 20), dtype=np.uint8), Modality=modality))
    source = sources.find_source(str(tmp_path))
    sentence = rf"no radiograph \({number}\): B/001.dcm: computed tomography by its header \(Modality CT\): take it out"
    if stops:
        with pytest.raises(ValueError, match=rf"60 of 180 images can't be used, .*{sentence}"):
            sources.read_images(source, show_progress=False)
        return
    scans = sources.read_images(source, show_progress=False)
    assert re.search(sentence, scans.describe()) and len(scans.images) == 179
    assert scans.inventory["no radiograph"].tolist() == [0, 1, 1]


def test_every_file_that_pydicom_is_tested_with_is_an_image_or_a_sentence():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    outcomes = {"image": 0, "sentence": 0}
    for path in sorted(folder.glob("*.dcm")):
        try:
            assert decode.decode_image(path.read_bytes()).shape == (128, 128, 1)
            outcomes["image"] += 1
        except ValueError as error:
            assert "\n" not in str(error) and " at 0x" not in str(error) and len(str(error)) < 300, path.name
            outcomes["sentence"] += 1
    print(f"pydicom's own files: {outcomes}")
    assert min(outcomes.values()) > 20


def as_dicom(phantom_folder, root, **options):
    """The phantom as DICOM files without a suffix, two images a patient."""
    for number, path in enumerate(sorted(phantom_folder.glob("*/*/*.png"))):
        target = root / path.relative_to(phantom_folder).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(write_dicom(np.asarray(Image.open(path)), patient=f"PAT-{number // 2}", **options))
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    return root


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 12},
        {"bits": 12, "stored": 16},
        {"bits": 16, "stored": 16, "falling": True, "PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_the_phantom_as_dicom_gives_the_same_images_and_split(options, phantom_folder, tmp_path):
    root = as_dicom(phantom_folder, tmp_path / "scans", **options)
    plain, scans = (
        sources.read_images(sources.find_source(str(folder)), show_progress=False) for folder in (phantom_folder, root)
    )
    np.testing.assert_array_equal(plain.images, scans.images)
    np.testing.assert_array_equal(plain.labels, scans.labels)
    np.testing.assert_array_equal(plain.folders, scans.folders)
    assert len(np.unique(scans.patients)) == 50
    groups = audit.find_groups(scans, scans.patients)
    table = split.make_split(scans, groups, on_leak="report")
    inside = table[table["part"].isin(["train", "validation"])]
    assert (inside.groupby("group")["part"].nunique() == 1).all()
    assert ("of them are unused" in scans.describe()) == (options.get("stored") == 16 and options["bits"] == 12)


@pytest.mark.parametrize("beginning", ["file header alone", "implicit", "explicit"])
def test_a_file_without_dicoms_mark_is_read(beginning):
    whole = write_dicom(PICTURE)
    data = whole[132:]
    if beginning != "file header alone":
        dataset, file = pydicom.dcmread(io.BytesIO(whole)), io.BytesIO()
        dataset.file_meta, dataset.preamble = pydicom.dataset.FileMetaDataset(), None
        pydicom.dcmwrite(file, dataset, implicit_vr=beginning == "implicit", little_endian=True)
        data = file.getvalue()
    assert not data.startswith(bytes(128)) and decode.name_kind(data) == "DICOM"
    np.testing.assert_array_equal(decode.decode_image(data), decode.decode_image(whole))


def test_no_name_of_the_header_is_kept_or_shown(phantom_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(disk, "STORE", tmp_path / "store")
    scans = sources.read_images(sources.find_source(str(as_dicom(phantom_folder, tmp_path / "scans"))), show_progress=False)
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    shown = "".join([*capfd.readouterr(), scans.describe(), scans.formats.to_string(), *scans.patients])
    assert len(written) > scans.images.nbytes
    for name in ("Gildong", "Secret", "PAT-"):
        assert name.encode() not in written and name not in shown


def test_an_identity_that_most_files_share_is_of_nobody(phantom_folder, tmp_path):
    root = tmp_path / "scans"
    for path in sorted(phantom_folder.glob("*/*/*.png")):
        target = root / path.relative_to(phantom_folder).with_suffix(".dcm")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(write_dicom(np.asarray(Image.open(path)), patient="SITE-7"))
    scans = sources.read_images(sources.find_source(str(root)), show_progress=False)
    assert set(scans.patients) == {""}
    said = [note for note in scans.notes if "have the same patient: this was taken for a name that stands for nobody" in note]
    assert len(said) == 2 and all(note.endswith("Name the patients with GROUPS.") for note in said), "of each class"


@pytest.mark.parametrize("name", ["", " ", "UNKNOWN", "n/a", "NaN", "None", "-", "?", "ANONYMOUS", "Anonymized"])
def test_an_identity_that_says_unknown_is_of_nobody(name):
    assert decode.examine_image(write_dicom(PICTURE, patient=name))[1].patient == ""
    assert decode.examine_image(write_dicom(PICTURE, patient="P-1"))[1].patient != ""


PADDED = {  # arguments of write_dicom besides those of 12 bits in 16; the padding's value
    "unsigned": ({"PixelPaddingValue": 65535}, 65535),
    "a range": ({"PixelPaddingValue": 65000, "PixelPaddingRangeLimit": 65535}, 65200),
    "signed": ({"PixelRepresentation": 1, "PixelPaddingValue": -2000}, -2000),
    "MONOCHROME1": ({"PixelPaddingValue": 0, "falling": True, "PhotometricInterpretation": "MONOCHROME1"}, 0),
    "windowed": ({"PixelPaddingValue": 65535, "WindowCenter": 2048, "WindowWidth": 4096}, 65535),
}


@pytest.mark.parametrize("case", PADDED)
def test_padding_is_black_and_makes_no_image_of_the_set_darker(case, tmp_path):
    options, value = PADDED[case]
    pictures = [RNG.integers(1, 255, (40, 40), dtype=np.uint8) for _ in range(3)]
    for index, picture in enumerate(pictures):
        data = pydicom.dcmread(io.BytesIO(write_dicom(picture, 12, 16, **options)))
        pixels = data.pixel_array.copy()
        pixels[:8] = value
        data.PixelData = pixels.tobytes()
        data.save_as(tmp_path / f"{index}.dcm")
    loaded = loading.load_images(sorted(tmp_path.glob("*.dcm")), image_size=40, show_progress=False)
    for image, picture in zip(loaded.images, pictures, strict=True):
        np.testing.assert_allclose(image[8:, :, 0].astype(int), picture[8:], atol=1)
        assert not image[:8].any()


@pytest.mark.parametrize(("windowed", "said"), [("A", True), ("AB", False), ("", False)])
def test_a_window_in_one_class_alone_is_said(windowed, said, tmp_path):
    for name in "AB":
        for index in range(4):
            (tmp_path / name).mkdir(exist_ok=True)
            window = {"WindowCenter": 2048, "WindowWidth": 4096} if name in windowed else {}
            data = write_dicom(RNG.integers(0, 256, (30, 30), dtype=np.uint8), 12, **window)
            (tmp_path / name / f"{index}.dcm").write_bytes(data)
    images = sources.read_images(sources.find_source(str(tmp_path)), show_progress=False)
    assert ("100% windowed, elsewhere 0%" in images.describe()) == said
    assert ("windowed" in images.formats) == bool(windowed)


def test_without_pydicom_a_sentence_says_what_to_install_and_then_it_is_read(phantom_folder, tmp_path, monkeypatch):
    root = as_dicom(phantom_folder, tmp_path / "scans")
    dicom._import_pydicom.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(ValueError, match=r"100 of 100 images can't be used.*pip install pydicom"):
            sources.read_images(sources.find_source(str(root)), show_progress=False)
    assert len(sources.read_images(sources.find_source(str(root)), show_progress=False).images) == 100


def test_signed_values_begin_at_the_sets_own_black(tmp_path):
    """Values of a signed kind that are never below 0 use all greys; one rule for all files."""
    pictures = [RNG.integers(0, 256, (30, 30), dtype=np.uint8) for _ in range(4)]
    for index, picture in enumerate(pictures):
        (tmp_path / f"{index}.dcm").write_bytes(write_dicom(picture, 12, 16, PixelRepresentation=1))
    loaded = loading.load_images(sorted(tmp_path.glob("*.dcm")), show_progress=False)
    assert loaded.value_range == decode.ValueRange(3, True)
    for image, picture in zip(loaded.images, pictures, strict=True):
        np.testing.assert_array_equal(image, decode.decode_image(write_png(picture)))


def test_bytes_that_change_in_a_dicom_file_give_an_image_or_a_sentence():
    data, outcomes = write_dicom(PICTURE, 12), {"image": 0, "sentence": 0}
    for _ in range(600):
        broken = bytearray(data)
        for place in (RNG.random(3) ** 3 * len(data)).astype(int):
            broken[place] = RNG.integers(256)
        broken = bytes(broken if RNG.random() < 0.8 else broken[: RNG.integers(len(data))])
        try:
            assert decode.decode_image(broken).shape == (128, 128, 1)
            outcomes["image"] += 1
        except ValueError as error:
            assert "\n" not in str(error)
            outcomes["sentence"] += 1
    print(f"changed DICOM files: {outcomes}")
    assert min(outcomes.values()) > 20
