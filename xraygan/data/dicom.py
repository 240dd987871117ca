"""DICOM files, by pydicom: their pixels as they are meant to be seen, and a hash of the patient. Nothing else of a header is kept.

A file of computed tomography, say, by its header's Modality is no radiograph and isn't read.

pydicom is an option: without it DICOM files are named in a sentence.
"""

import functools
import hashlib
import io
import warnings
from typing import NamedTuple

import numpy as np

from xraygan.data import patients

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GREYS = ("MONOCHROME1", "MONOCHROME2")
NEEDED = (
    *("PixelData", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsStored", "BitsAllocated", "PixelRepresentation"),
)
NO_RADIOGRAPHS = {  # Modality (DICOM PS3.3, C.7.3.1.1.1) of what isn't read; any other, OT and SC of scanned films say, and none is
    "CT": "computed tomography",
    "MR": "magnetic resonance",
    "NM": "nuclear medicine",
    "PT": "positron emission tomography",
    "US": "ultrasound",
}
MAX_BITS = 16
UNPACKERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"  # what pydicom asks for where Pillow can't
FAR = 2.0**40  # darker and brighter than any pixel: what these become is a window's black and white


class WrongFormat(ValueError):
    """The file is whole, as far as can be seen, but of a kind that isn't read."""


class NoRadiograph(WrongFormat):
    """The file says of itself that it is an image of another kind."""


class Scan(NamedTuple):
    """One DICOM image.

    Attributes:
        values: `float (H, W)` from 0 to 1 where a window says what is shown; else integers `(H, W)`; in colour `uint8 (H, W, 3)`.
        bits: bits that hold a value.
        is_shown: whether `values` are from 0 to 1.
        is_signed: whether the integers may be below 0.
        is_negative_film: whether the smallest value is white (MONOCHROME1).
        patient: a hash of PatientID; "" where there is none.
        padding: `bool (H, W)`, pixels outside the picture, which the header says to be shown black; None where it knows none.
    """

    values: np.ndarray
    bits: int
    is_shown: bool
    is_signed: bool
    is_negative_film: bool
    patient: str
    padding: np.ndarray | None = None


def read(data, max_pixels):
    """Read the bytes of a DICOM file with one image: `Scan`.

    Raises:
        WrongFormat: pydicom isn't installed, or the file holds no image, several, one that is neither grey nor RGB, or one of more
            than `max_pixels` pixels.
        NoRadiograph: its Modality is one of `NO_RADIOGRAPHS`.
        ValueError: it can't be read.
    """
    pydicom = _import_pydicom()
    try:
        header = pydicom.dcmread(io.BytesIO(data), force=True)
        if "TransferSyntaxUID" not in header.file_meta:  # there is no file header: DICOM's default holds
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        _require_one_image(header, max_pixels)
        _require_radiograph(header)
        return _read_pixels(header)
    except WrongFormat:
        raise
    except Exception as error:  # broken bytes raise errors of every kind, whose text may hold what stands in the header
        raise ValueError(
            f"it is cut off or damaged, pydicom ends with {type(error).__name__}: copy or download it again"
        ) from error


@functools.cache
def _import_pydicom():
    try:
        import pydicom  # here: an option, and it takes half a second
    except ImportError as error:
        raise WrongFormat("a DICOM file, and pydicom, which reads them, isn't installed: pip install pydicom") from error
    warnings.filterwarnings("ignore", module=r"pydicom|xraygan\.data\.dicom")  # that a header is odd, quoting it
    return pydicom


def _require_one_image(header, max_pixels):
    missing = [name for name in NEEDED if header.get(name) is None]
    if "PixelData" in missing:
        raise WrongFormat("a DICOM file without an image (a report or an index, say): take it out of the folder")
    if missing:
        raise WrongFormat(f"a DICOM file whose header has no {', '.join(missing)}: export it again, or as PNG")
    if header.Rows * header.Columns > max_pixels:
        raise WrongFormat(f"a DICOM file of {header.Columns}×{header.Rows} pixels, more than {max_pixels:,}")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise WrongFormat(f"a DICOM file of {frames} images (multi-frame): export the one that is meant as a file of its own")
    if header.PhotometricInterpretation not in GREYS + COLOURS:
        raise WrongFormat("a DICOM file that is neither grey nor RGB: export it as grey, or as PNG")


def _require_radiograph(header):
    modality = str(header.get("Modality") or "").strip().upper()
    if modality in NO_RADIOGRAPHS:
        raise NoRadiograph(
            f"{NO_RADIOGRAPHS[modality]} by its header (Modality {modality}): take it out of the folder, or, if the header is wrong, export it as PNG"
        )


def _read_pixels(header):
    bits, patient = int(header.BitsStored), hash_patient(header)
    try:
        values = header.pixel_array
    except (RuntimeError, NotImplementedError) as error:  # there is no decoder
        name = header.file_meta.TransferSyntaxUID.name
        raise WrongFormat(f"a DICOM file compressed as {name}: {UNPACKERS}, or export it uncompressed") from error
    if values.dtype.kind not in "iu" or bits > MAX_BITS:
        raise WrongFormat(f"a DICOM file of {bits} bits a value, more than {MAX_BITS}: export it with fewer, or as PNG")
    if values.ndim != 2 and values.shape[2:] != (3,):
        raise WrongFormat("a DICOM file that is neither grey nor RGB: export it as grey, or as PNG")
    if values.ndim == 3:
        return Scan((values >> max(0, bits - 8)).astype(np.uint8), bits, False, False, False, patient)
    padding = _find_padding(values, header)
    is_negative_film = header.PhotometricInterpretation == "MONOCHROME1"
    if header.get("ModalityLUTSequence") or header.get("VOILUTSequence") or _has_window(header):
        return Scan(_show(values, header), bits, True, False, is_negative_film, patient, padding)
    falls = float(header.get("RescaleSlope") or 1) < 0  # a rescale moves black and white with the values, and may swap them
    is_signed = header.PixelRepresentation == 1
    return Scan(values.astype(np.int32), bits, False, is_signed, is_negative_film != falls, patient, padding)


def _find_padding(values, header):
    """Which pixels lie outside the picture, from PixelPaddingValue to PixelPaddingRangeLimit; None where none does."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    padding = (values >= low) & (values <= high)
    return padding if padding.any() and not padding.all() else None


def _has_window(header):
    widths = np.ravel(header.get("WindowWidth") or 0)  # the first of several is the one to show
    return header.get("WindowCenter") is not None and float(widths[0]) >= 1


def _show(values, header):
    """The values after the header's rescale and window, from 0 (black) to 1 (white)."""
    from pydicom import pixels

    values = pixels.apply_modality_lut(values, header)
    if header.get("VOILUTSequence"):
        values = pixels.apply_voi(values, header)
        black, white = 0, 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif _has_window(header):
        values = pixels.apply_windowing(values, header)
        black, white = pixels.apply_windowing(np.array([-FAR, FAR]), header)
    else:
        black, white = 0, 2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    return ((values - black) / (white - black)).clip(0, 1)


def hash_patient(header):
    """A hash that is the same for all files of a patient: the name itself is kept nowhere."""
    identity = patients.clean(str(header.get("PatientID") or ""))
    return hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=8).hexdigest() if identity else ""
