"""The bytes of one file: what kind of file they are, its pixels in 8-bit grey at one size, and what the file was like before.

JPEG, PNG and DICOM are read; every other kind is named in a sentence that says what to do.
"""

import functools
import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

import utils
from xraygan.data import dicom
from xraygan.data.dicom import WrongFormat

MAX_PIXELS = 64_000_000  # an 8000×8000 radiograph passes, a decompression bomb doesn't
MAX_CLIPPED_SHARE = 0.001  # of a set's pixels: burnt-in letters may be brighter than all that a detector gives
DARK_SHARE = 0.95  # of a set's pixels in the darkest 1/16 of the range: what a few bright ones leave of the picture
DARK_BITS = 4
MAX_UNUSED_BITS = 8  # of 16: what uses fewer than 8 bits is dark, not badly stored
STANDARD_LUMINANCE = 57.625  # mean of the table that JPEG's quality scales (ISO/IEC 10918-1, annex K)

END_OF_JPEG = b"\xff\xd9"
READABLE = "JPEG, PNG or DICOM"
FIRST_TAGS = (0x00, 0x01, 0x05, 0x06, 0x08, 0x12, 0x13, 0x14, 0x16)  # of group 8, where a DICOM file without a header may begin
SIGNATURES = {  # where a file begins with this, or holds it at that place
    "JPEG": [(0, b"\xff\xd8\xff")],
    "PNG": [(0, b"\x89PNG\r\n\x1a\n")],
    "DICOM": [(128, b"DICM"), (0, b"\x02\0\0\0"), *((0, bytes([8, 0, tag, 0])) for tag in FIRST_TAGS)],
    "WebP": [(8, b"WEBP")],
    "HEIC": [(4, b"ftyphei"), (4, b"ftyphev"), (4, b"ftypmif1"), (4, b"ftypmsf1")],
    "AVIF": [(4, b"ftypavi")],
    "GIF": [(0, b"GIF8")],
    "BMP": [(0, b"BM")],
    "TIFF": [(0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")],
    "JPEG 2000": [(4, b"jP  \r\n"), (0, b"\xff\x4f\xff\x51")],
    "JPEG XL": [(0, b"\xff\x0a"), (4, b"JXL \r\n")],
    "NIfTI": [(344, b"n+1\0"), (344, b"ni1\0")],
    "NRRD": [(0, b"NRRD")],
    "PDF": [(0, b"%PDF")],
    "zip": [(0, b"PK\x03\x04")],
    "gzip": [(0, b"\x1f\x8b")],
}
USED_KINDS = ("JPEG", "PNG", "DICOM")
PICTURES = ("WebP", "HEIC", "AVIF", "GIF", "BMP", "TIFF", "JPEG 2000", "JPEG XL", "NIfTI", "NRRD")  # that aren't read
STAND_INS = {  # a small text that came in place of the image
    b"version https://git-lfs.github.com/": "a Git LFS pointer and not the image: run 'git lfs pull' where it was cloned",
    b"/annex/objects/": "a git-annex pointer and not the image: run 'git annex get' where it was cloned",
    b"<!doctype html": "a web page and not the image: download it again",
    b"<html": "a web page and not the image: download it again",
    b"<?xml": "an XML text and not the image: download it again",
}
READ_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    OverflowError,
    struct.error,
)  # of Pillow, on broken bytes
TAIL = 512  # zero bytes at the end of a JPEG: more than any program writes there
HEADER_BYTES = 512  # enough to know every kind above

warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class ValueRange(NamedTuple):
    """Which part of the grey values that their files could hold the images of a whole set use.

    Attributes:
        unused_bits: the upper bits that are 0 everywhere, e.g. 4 for 12 bits that were stored in 16.
        black_is_zero: whether values that could be below 0 hardly ever are.
    """

    unused_bits: int = 0
    black_is_zero: bool = False


FULL_RANGE = ValueRange()


class Facts(NamedTuple):
    """What a file was like before it became 8-bit grey at one size.

    Attributes:
        format: "JPEG", "PNG" or "DICOM".
        bits: bits that hold a grey or colour value.
        width, height: pixels.
        quality: of JPEG, 1 to 100, estimated from its tables; 0 otherwise.
        patient: a hash of a DICOM file's PatientID, "" where there is none.
        clipped: of more than 8 bits: how many pixels would be too bright if 0, 1 … 8 upper bits were dropped; else empty.
        negative: how many of these pixels are below 0; None where none could be.
        windowed: whether a DICOM header says which values are black and white.
    """

    format: str
    bits: int
    width: int
    height: int
    quality: int = 0
    patient: str = ""
    clipped: tuple = ()
    negative: int | None = None
    windowed: bool = False


def name_kind(data):
    """The kind of file that begins with `data`, a key of `SIGNATURES`, or ""."""
    for kind, signatures in SIGNATURES.items():
        if any(data[place : place + len(signature)] == signature for place, signature in signatures):
            return kind
    return ""


def decode_image(data, image_size=utils.IMAGE_SIZE):
    """Decode one JPEG, PNG or DICOM file to grey, upright, `image_size` pixels a side.

    Args:
        data: the file's bytes; modes L, RGB, RGBA, P, CMYK and grey of up to 16 bits, EXIF rotation honoured.
        image_size: pixels a side; the aspect ratio isn't kept, as in the study this project rebuilds.

    Returns:
        `uint8 (image_size, image_size, 1)`, 0 black to 255 white.

    Raises:
        WrongFormat: the bytes are of another kind; the message names it and says what to do.
        ValueError: they can't be read, or hold more than `MAX_PIXELS` pixels.
    """
    return examine_image(data, image_size)[0]


def examine_image(data, image_size=utils.IMAGE_SIZE, value_range=FULL_RANGE):
    """`decode_image`, and what the file was like: a pair of the pixels and `Facts`."""
    if not data:
        raise ValueError("the file is empty")
    kind = name_kind(data)
    if kind not in USED_KINDS:
        raise _explain_kind(data, kind)
    if kind == "JPEG" and data.endswith(b"\0" * TAIL) and not data.rstrip(b"\0").endswith(END_OF_JPEG):
        raise ValueError("its end is nothing but zeros, as a download leaves it that broke off: download it again")
    read = dicom_to_grey if kind == "DICOM" else picture_to_grey
    try:
        grey, facts = read(data, kind, image_size, value_range)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:  # its message is the address of a buffer
        raise ValueError(f"not a readable {kind} (its header is broken)") from error
    except WrongFormat:
        raise
    except READ_ERRORS as error:
        raise ValueError(f"not a readable {kind} ({' '.join(str(error).split()) or type(error).__name__})") from error
    resized = grey.resize((image_size, image_size), Image.Resampling.BICUBIC)  # Pillow's filters antialias when shrinking
    return np.asarray(resized, dtype=np.uint8)[..., np.newaxis], facts


def _explain_kind(data, kind):
    """The error that says what a file is that isn't read."""
    beginning = data[:HEADER_BYTES].lstrip().lower()
    stand_in = next((why for text, why in STAND_INS.items() if text in beginning), None)
    if stand_in:
        return WrongFormat(stand_in)
    if kind:
        return WrongFormat(f"a {kind} file, not {READABLE}: save it as PNG")
    if not data.strip(b"\0"):
        return ValueError("nothing but zeros, as a download leaves it that broke off: download it again")
    return WrongFormat(f"not a readable {READABLE}")


# JPEG and PNG


def picture_to_grey(data, kind, image_size, value_range):
    """A JPEG or PNG file as an upright `PIL.Image` of mode L, and its `Facts`."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width}×{height} pixels, more than {MAX_PIXELS:,}")
        bits = data[24] if kind == "PNG" else 8
        quality = _estimate_quality(image) if kind == "JPEG" else 0
        image.draft("L", (2 * image_size, 2 * image_size))  # JPEG only: decodes fewer pixels, still ≥ 2× the target
        may_be_turned = "exif" in image.info or image.format == "PNG"  # asking costs as much as resizing
        upright = ImageOps.exif_transpose(image) if may_be_turned else image
        facts = Facts(kind, bits, width, height, quality)
        if upright.mode.startswith("I"):  # "I;16" and relatives: 16-bit PNG
            values = np.asarray(upright).astype(np.int32).clip(0, 65535)
            facts = facts._replace(clipped=count_clipped(values, 16))
            return Image.fromarray(_lookup(16 - value_range.unused_bits)[values]), facts
        grey = _to_grey(upright)
    if bits == 16:  # in colour: Pillow keeps the upper 8 of the 16 bits
        facts = facts._replace(clipped=count_clipped(np.asarray(grey), 8))
        if value_range.unused_bits:
            raise ValueError(
                f"16-bit colour of which only {16 - value_range.unused_bits} bits are used: save it as 16-bit grey"
            )
    return grey, facts


def _to_grey(image):
    """Any 8-bit mode Pillow decodes to grey; transparency shows black."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L")


def _estimate_quality(image):
    """The quality, 1 to 100, that a JPEG was saved with, from the mean of its first table (the Independent JPEG Group's rule)."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return 0
    scale = 100 * float(np.mean(next(iter(tables.values())))) / STANDARD_LUMINANCE
    return round(min(100.0, max(1.0, (200 - scale) / 2 if scale <= 100 else 5000 / scale)))


# DICOM


def dicom_to_grey(data, kind, image_size, value_range):
    """A DICOM file as a `PIL.Image` of mode L, and its `Facts`."""
    scan = dicom.read(data, MAX_PIXELS)
    values, bits = scan.values, scan.bits
    height, width = values.shape[:2]
    facts = Facts(kind, bits, width, height, patient=scan.patient, windowed=scan.is_shown)
    if values.ndim == 3:
        return Image.fromarray(values).convert("L"), facts
    if scan.is_shown:  # a window says what is black and what is white
        grey = np.rint(255 * values).astype(np.uint8)
    elif scan.is_signed:
        grey, facts = _signed_to_grey(scan, bits - 1, facts, value_range)
    else:
        facts = facts._replace(clipped=count_clipped(_leave_padding(scan), bits)) if bits > 8 else facts
        grey = _lookup(bits - value_range.unused_bits if bits > 8 else bits)[values]
    grey = 255 - grey if scan.is_negative_film else grey
    return Image.fromarray(grey if scan.padding is None else np.where(scan.padding, 0, grey).astype(np.uint8)), facts


def _leave_padding(scan):
    """The values of the picture alone."""
    return scan.values if scan.padding is None else scan.values[~scan.padding]


def _signed_to_grey(scan, bits, facts, value_range):
    """Values that may be below 0, of `bits` bits and a sign, as 8-bit grey, and the `Facts` with what they use."""
    values = scan.values
    if bits <= 8:
        value_range = FULL_RANGE
    else:
        counted = _leave_padding(scan)
        upper = np.where(counted < 0, ~counted, counted)
        facts = facts._replace(clipped=count_clipped(upper, bits), negative=int((counted < 0).sum()))
    bits -= value_range.unused_bits
    if value_range.black_is_zero:
        return _lookup(bits)[values.clip(min=0)], facts
    return _lookup(bits + 1)[(values + 2**bits).clip(0, 2 ** (bits + 1) - 1)], facts


# Grey values of more than 8 bits


def count_clipped(values, bits):
    """How many of some pixels would be too bright if 0, 1 … 8 of their upper `bits` were dropped, and how many there are.

    Args:
        values: integers from 0 to 2**bits - 1.
        bits: 8 or more.

    Returns:
        `MAX_UNUSED_BITS` + 1 numbers; of no dropped bit it is the number of all.
    """
    upper = np.bincount(np.asarray(values).ravel() >> (bits - 8), minlength=256)
    return (int(upper.sum()), *(int(upper[2 ** (8 - unused) :].sum()) for unused in range(1, MAX_UNUSED_BITS + 1)))


def find_range(all_facts):
    """The one `ValueRange` of a set: as many upper bits are dropped as hardly a pixel of the whole set needs.

    It is chosen for all images together, never for a class or an image: their brightness among each other stays as it is.

    Args:
        all_facts: the `Facts` of every image.
    """
    counts = _sum_clipped(all_facts)
    allowed = MAX_CLIPPED_SHARE * counts[0]
    unused = max([0, *(bits for bits in range(1, MAX_UNUSED_BITS + 1) if counts[0] and counts[bits] <= allowed)])
    negative = [facts.negative for facts in all_facts if facts.negative is not None]
    return ValueRange(unused, bool(negative and sum(negative) <= allowed))


def is_dark(all_facts, value_range):
    """Whether hardly a pixel of the images of more than 8 bits is brighter than 1/16 of the range that they are shown in."""
    counts, darkest = _sum_clipped(all_facts), value_range.unused_bits + DARK_BITS
    return bool(counts[0] and darkest <= MAX_UNUSED_BITS and counts[darkest] <= (1 - DARK_SHARE) * counts[0])


def _sum_clipped(all_facts):
    """The sum of all `Facts.clipped`, `int (MAX_UNUSED_BITS + 1,)`."""
    return np.array([facts.clipped for facts in all_facts if facts.clipped], int).reshape(-1, MAX_UNUSED_BITS + 1).sum(axis=0)


def count_used_bits(facts):
    """How many of its bits an image uses: those below the upper ones that are 0 in all of its pixels."""
    return facts.bits - max((unused for unused, count in enumerate(facts.clipped) if unused and not count), default=0)


@functools.cache
def _lookup(bits):
    """The 8-bit grey of every value that has `bits` bits, and white for brighter ones: `uint8 (2**max(bits, 16),)`."""
    white = 2**bits - 1
    values = np.arange(2 ** max(bits, 16), dtype=np.int64)
    return ((values * 255 + white // 2) // white).clip(max=255).astype(np.uint8)
