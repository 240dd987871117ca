"""What all three notebooks share about pixels and files: loading at one size, normalisation, grids, seeds, progress."""

import hashlib
import io
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from xraygan.disk import keep_most_recent, replacing

IMAGE_SIZE = 128  # pixels a side by default, as in the study this project rebuilds
MAX_PIXELS = 64_000_000  # an 8000×8000 radiograph passes, a decompression bomb doesn't
MAX_BYTES = 400_000_000  # no file of an image that passes is larger
MAX_SKIPPED_SHARE = 0.01  # more unreadable images than this is a broken download, not bad luck
MAX_CACHE_BYTES = 4_000_000_000  # 240,000 images of 128×128 pixels; what was used longest ago goes
LOADER_VERSION = 1  # part of every cache key: raise it when decoding changes

warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


# Tables


def write_table(table, path):
    """Write a DataFrame as CSV without its index, whole or not at all."""
    with replacing(path) as draft:
        table.to_csv(draft, index=False)


# Reading images


def decode_image(data, image_size=IMAGE_SIZE):
    """Decode one JPEG or PNG to grey, upright, `image_size` pixels a side.

    Args:
        data: the file's bytes; modes L, RGB, RGBA, P, CMYK and 16-bit grey, EXIF rotation honoured.
        image_size: pixels a side; the aspect ratio isn't kept, as in the study this project rebuilds.

    Returns:
        `uint8 (image_size, image_size, 1)`, 0 black to 255 white.

    Raises:
        ValueError: the bytes are no readable JPEG or PNG, or hold more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels, more than {MAX_PIXELS:,}")
            image.draft("L", (2 * image_size, 2 * image_size))  # JPEG only: decodes fewer pixels, still ≥ 2× the target
            may_be_turned = "exif" in image.info or image.format == "PNG"  # asking costs as much as resizing
            grey = _to_grey(ImageOps.exif_transpose(image) if may_be_turned else image)
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        MemoryError,
        OverflowError,
    ) as error:  # what Pillow raises on broken bytes
        raise ValueError(f"not a readable JPEG or PNG ({error})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from error
    resized = grey.resize((image_size, image_size), Image.Resampling.BICUBIC)  # Pillow's filters antialias when shrinking
    return np.asarray(resized, dtype=np.uint8)[..., np.newaxis]


def _to_grey(image):
    """Any mode Pillow decodes to 8-bit grey; transparency shows black, 16-bit grey is scaled and not clipped."""
    if image.mode.startswith("I"):  # "I;16" and relatives: 16-bit PNG
        wide = np.asarray(image).astype(np.int32).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L")


@dataclass(frozen=True)
class LoadedImages:
    """What `load_images` read.

    Attributes:
        images: `uint8 (N, image_size, image_size, 1)`.
        kept: `bool (number of files,)`, False where a file could not be read.
        digests: `str (number of files,)`, a hash of each file's bytes.
        skipped: {file: why} for those not kept.
    """

    images: np.ndarray
    kept: np.ndarray
    digests: np.ndarray
    skipped: dict


def load_images(paths, cache_folder, image_size=IMAGE_SIZE, show_progress=True):
    """Decode many images on all cores, once: a second call with the same bytes reads one cached file.

    The cache is keyed by the content of every file, so it can't be stale.

    Args:
        paths: files to read, in the order wanted.
        cache_folder: folder for the cached array, or None for no cache.

    Returns:
        `LoadedImages`; a warning names the files that could not be read.

    Raises:
        ValueError: more than 1 % of the files could not be read.
    """
    paths = [Path(path) for path in paths]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # hashing and decoding both release the GIL
        digests = list(_map_chunks(pool, _digest, paths))
        key = hashlib.blake2b(f"{LOADER_VERSION} {image_size} {' '.join(digests)}".encode(), digest_size=16).hexdigest()
        cache = cache_folder and Path(cache_folder) / f"{key}.npy"
        if cache and cache.exists():
            with cache.open("rb") as file:  # two arrays in one file: `np.savez` would spend a third of the time on checksums
                reasons, images = np.load(file).tolist(), np.load(file)
        else:
            jobs = _map_chunks(pool, lambda path: _decode_or_reason(path, image_size), paths)
            results = list(progress(jobs, total=len(paths), desc="reading images", unit="image", disable=not show_progress))
            reasons = [result if isinstance(result, str) else "" for result in results]
            readable = [result for result in results if not isinstance(result, str)]
            images = np.stack(readable) if readable else np.zeros((0, image_size, image_size, 1), np.uint8)
            if cache:
                with replacing(cache) as draft, draft.open("wb") as file:
                    np.save(file, np.array(reasons))
                    np.save(file, images)
    if cache:
        keep_most_recent(cache, MAX_CACHE_BYTES)
    skipped = {path.as_posix(): reason for path, reason in zip(paths, reasons, strict=True) if reason}
    _report_skipped(skipped, len(paths))
    return LoadedImages(images, np.array([not reason for reason in reasons]), np.array(digests), skipped)


def _map_chunks(pool, function, items, size=64):
    """`pool.map`, some items a job: thousands of jobs of a tenth of a millisecond would mostly wait for each other."""
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
        yield from results


def _read_bytes(path):
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"can't be opened ({error.strerror})") from error


def _digest(path):
    try:
        return hashlib.blake2b(_read_bytes(path), digest_size=16).hexdigest()
    except ValueError as error:
        return str(error)


def _decode_or_reason(path, image_size):
    try:
        return decode_image(_read_bytes(path), image_size)
    except ValueError as error:
        return str(error)


def _report_skipped(skipped, total):
    if not skipped:
        return
    named = "; ".join(f"{Path(file).name}: {reason}" for file, reason in list(skipped.items())[:5])
    message = f"{len(skipped)} of {total} images can't be read ({named}{'; …' if len(skipped) > 5 else ''})"
    if len(skipped) > MAX_SKIPPED_SHARE * total:
        raise ValueError(f"{message}: more than {MAX_SKIPPED_SHARE:.0%}. Download the images again or remove these files.")
    warnings.warn(f"{message}; they are left out.", stacklevel=3)


# Normalisation: each network has one function and its inverse


def to_unit(pixels):
    """`uint8` 0 to 255 → `float32` 0 to 1, what the classifier takes."""
    return np.asarray(pixels, dtype=np.float32) / 255


def from_unit(values):
    """`float` 0 to 1 → `uint8` 0 to 255, the inverse of `to_unit`."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def to_signed(pixels):
    """`uint8` 0 to 255 → `float32` −1 to 1, what the GAN takes and its tanh gives."""
    return np.asarray(pixels, dtype=np.float32) / 127.5 - 1


def from_signed(values):
    """`float` −1 to 1 → `uint8` 0 to 255 by one fixed map, the inverse of `to_signed`: no image is stretched by its own range."""
    return np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)


# Grids


def image_grid(images, num_columns=8, gap=2):
    """Tile `uint8 (N, H, W, 1)` images into one `uint8` picture, row by row, on black."""
    images = np.asarray(images)
    num_rows = -(-len(images) // num_columns)
    height, width = images.shape[1] + gap, images.shape[2] + gap
    grid = np.zeros((num_rows * height - gap, num_columns * width - gap), np.uint8)
    for index, image in enumerate(images):
        top, left = index // num_columns * height, index % num_columns * width
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image[..., 0]
    return grid


def save_png(picture, path):
    """Write a `uint8 (H, W)` or `(H, W, 1)` picture as 8-bit grey PNG, whole or not at all."""
    picture = np.asarray(picture)
    with replacing(path) as draft:
        Image.fromarray(picture[..., 0] if picture.ndim == 3 else picture).save(draft, format="PNG")


def read_png(path):
    """A grey PNG as it was saved by `save_png`: `uint8 (H, W)`."""
    with Image.open(path) as image:
        return np.asarray(image)


# Seeds and progress


def seeds(seed):
    """A function that gives a new seed each time it's called, for the initial weights of a network's layers one after the other.

    Keras would draw them from Python's global randomness, which other threads use too: those of a Dask worker do.
    """
    stream = random.Random(seed)
    return lambda: stream.randint(1, 10**9)


def progress(iterable=None, **arguments):
    """A tqdm bar on standard output: in Jupyter a plain line, and the same in a terminal that runs the notebook."""
    return tqdm(iterable, file=sys.stdout, mininterval=1, bar_format="{l_bar}{bar:24}{r_bar}", **arguments)
