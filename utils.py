"""What all three notebooks share about pixels and files: tables, normalisation, grids, seeds, progress."""

import random
import sys

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from xraygan.disk import DamagedError, display_path, explain_closed, replacing

IMAGE_SIZE = 128  # pixels a side by default, as in the study this project rebuilds
NAMES = (
    "file",
    "class",
    "minority",
    "label",
    "prediction",
    "likeliest",
    "folder",
    "beyond",
    "part",
    "setting",
    "first",
    "second",
)  # columns of text, whatever it looks like
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
EXACT = {"float_precision": "round_trip"} if PANDAS < (3, 1) else {}  # later versions always read the number that was written


# Tables


def write_table(table, path):
    """Write a DataFrame as CSV without its index, whole or not at all."""
    with replacing(path) as draft:
        table.to_csv(draft, index=False)


def read_table(path, **options):
    """Read a CSV that this project wrote: a class may be called None, NA, nan or 007, and no field but an empty one is missing.

    Args:
        path: the file.
        options: further arguments of `pandas.read_csv`.

    Returns:
        DataFrame; the columns of `NAMES` are text, never missing, the others as pandas reads them.

    Raises:
        FileNotFoundError: it isn't there.
        disk.DamagedError: it's no CSV.
        ValueError: it can't be opened.
    """
    try:
        how = {"dtype": dict.fromkeys(NAMES, str), "keep_default_na": False, "na_values": [""]}
        table = pd.read_csv(path, **how | EXACT | options)
    except PermissionError as error:
        raise explain_closed(display_path(path), error) from error
    except (ValueError, IsADirectoryError) as error:
        raise DamagedError(f"{display_path(path)} is damaged: run the notebook that writes it again.") from error
    names = [name for name in NAMES if name in table]
    return table.fillna(dict.fromkeys(names, "")) if names else table


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
    """`float` −1 to 1 → `uint8` 0 to 255 by one fixed map, the inverse of `to_signed`: no image is stretched by its own range.

    What is no number becomes grey: a network that went astray draws such.
    """
    return np.rint((np.clip(np.nan_to_num(values), -1, 1) + 1) * 127.5).astype(np.uint8)


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
