"""Many image files, read on all cores: hashed and decoded from the same bytes, and kept in a cache that notices its own damage."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np

import utils
from xraygan.data import decode, dicom, tree
from xraygan.disk import keep_most_recent, replacing

MAX_BYTES = 400_000_000  # no file of an image that passes is larger
MAX_CACHE_BYTES = 4_000_000_000  # 240,000 images of 128×128 pixels; what was used longest ago goes
LOADER_VERSION = 4  # part of every cache key: raise it when decoding changes
UNREADABLE, WRONG_FORMAT, NO_RADIOGRAPH = "unreadable", "wrong format", "no radiograph"
CHANGED = "it changed while it was being read: wait until it is written, and run this again"


class Problem(NamedTuple):
    """Why a file isn't used: its kind, `UNREADABLE`, `WRONG_FORMAT` or `NO_RADIOGRAPH`, and a sentence without its name."""

    kind: str
    why: str


@dataclass(frozen=True)
class LoadedImages:
    """What `load_images` read.

    Attributes:
        images: `uint8 (N, image_size, image_size, 1)`, those that could be read.
        kept: `bool (number of files,)`, False where a file could not be read.
        digests: `str (number of files,)`, a hash of each file's bytes.
        facts: a `decode.Facts` for each of `images`.
        problems: {position: `Problem`} of those not kept.
        value_range: the `decode.ValueRange` that all were decoded in.
    """

    images: np.ndarray
    kept: np.ndarray
    digests: np.ndarray
    facts: list
    problems: dict
    value_range: decode.ValueRange


def load_images(paths, cache_folder=None, image_size=utils.IMAGE_SIZE, show_progress=True):
    """Decode many images on all cores, once: a second call with the same bytes reads one cached file.

    The cache is keyed by the content of every file, so it can't be stale, and it is decoded again where its own checksum is wrong.
    Values of more than 8 bits are scaled by one `decode.ValueRange` of all images together.

    Args:
        paths: files to read, in the order wanted.
        cache_folder: folder for the cached array, or None for no cache.

    Returns:
        `LoadedImages`.
    """
    paths = [Path(path) for path in paths]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # reading, hashing and decoding all release the GIL
        if cache_folder:
            cached = _read_cache(_name_cache(cache_folder, image_size, list(_map_chunks(pool, _hash_or_explain, paths))))
            if cached and not _any_readable_now(cached, paths, image_size):
                keep_most_recent(_name_cache(cache_folder, image_size, cached.digests), MAX_CACHE_BYTES)
                return cached
        images = np.empty((len(paths), image_size, image_size, 1), np.uint8)
        read = _map_chunks(pool, lambda path: _read_image(path, image_size), paths)
        bar = utils.progress(read, total=len(paths), desc="reading images", unit="image", disable=not show_progress)
        digests, found = [], []  # of each file its Facts or its Problem
        for row, (digest, pixels, what) in enumerate(bar):
            images[row] = pixels
            digests.append(digest)
            found.append(what)
        value_range = decode.find_range([what for what in found if isinstance(what, decode.Facts)])
        if value_range != decode.FULL_RANGE:
            _rescale(pool, value_range, paths, images, digests, found)
    kept = np.array([isinstance(what, decode.Facts) for what in found], dtype=bool)
    loaded = LoadedImages(
        images if kept.all() else images[kept],
        kept,
        np.array(digests, dtype=str),
        [what for what in found if isinstance(what, decode.Facts)],
        {row: what for row, what in enumerate(found) if isinstance(what, Problem)},
        value_range,
    )
    if cache_folder:
        _write_cache(_name_cache(cache_folder, image_size, digests), loaded)
    return loaded


def load_every_image(paths, image_size=utils.IMAGE_SIZE):
    """`uint8 (N, image_size, image_size, 1)` of files that must all be readable, such as fakes.

    Raises:
        ValueError: one isn't.
    """
    return read_every_image(paths, image_size).images


def read_every_image(paths, image_size, what="images"):
    """The same as `LoadedImages`, with the facts about the files; `what` is what messages call them."""
    loaded = load_images(paths, None, image_size, show_progress=False)
    for row, problem in loaded.problems.items():
        name = tree.name_file(Path(paths[row]), Path(paths[row]).parent.parent)  # folders may hold files of one name
        raise ValueError(f"{len(loaded.problems)} of {len(loaded.kept)} {what} can't be read ({name}: {problem.why}).")
    return loaded


# One file


def _hash_or_explain(path):
    """A hash of a file's bytes, or the sentence that says why they can't be read."""
    try:
        return _hash(_read_bytes(path))
    except ValueError as error:
        return str(error)


def _read_image(path, image_size, value_range=decode.FULL_RANGE):
    """The hash of a file's bytes, the pixels of the same bytes (0 where there are none), and their `Facts` or a `Problem`."""
    digest = None
    try:
        data = _read_bytes(path)
        digest = _hash(data)
        return digest, *decode.examine_image(data, image_size, value_range)
    except dicom.NoRadiograph as error:
        return digest, 0, Problem(NO_RADIOGRAPH, str(error))
    except decode.WrongFormat as error:
        return digest, 0, Problem(WRONG_FORMAT, str(error))
    except ValueError as error:
        return digest or str(error), 0, Problem(UNREADABLE, str(error))


def _any_readable_now(cached, paths, image_size):
    """Whether a file that couldn't be read can be now: a package for its kind may have been installed since."""
    return any(isinstance(_read_image(paths[row], image_size)[2], decode.Facts) for row in cached.problems)


def _rescale(pool, value_range, paths, images, digests, found):
    """Decode those images of more than 8 bits again, in place, now that it is known how many of them the whole set uses."""
    rows = [row for row, what in enumerate(found) if isinstance(what, decode.Facts) and what.clipped]
    again = _map_chunks(pool, lambda row: (row, _read_image(paths[row], len(images[row]), value_range)), rows)
    for row, (digest, pixels, what) in again:
        if digest == digests[row]:
            images[row], found[row] = pixels, what
        else:
            digests[row], found[row] = CHANGED, Problem(UNREADABLE, CHANGED)


def _read_bytes(path):
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"can't be opened ({error.strerror})") from error


def _hash(data):
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _map_chunks(pool, function, items):
    """`pool.map`, 64 items a job: thousands of jobs of a tenth of a millisecond would mostly wait for each other."""
    chunks = [items[start : start + 64] for start in range(0, len(items), 64)]
    for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
        yield from results


# The cache: a line with the checksum of the rest, a line of JSON, and the pixels


def _name_cache(folder, image_size, digests):
    key = hashlib.blake2b(f"{LOADER_VERSION} {image_size} {' '.join(digests)}".encode(), digest_size=16).hexdigest()
    return Path(folder) / f"{key}.images"


def _write_cache(path, loaded):
    about = {
        "shape": loaded.images.shape,
        "digests": loaded.digests.tolist(),
        "facts": loaded.facts,
        "problems": {str(row): problem for row, problem in loaded.problems.items()},
        "value_range": loaded.value_range,
    }
    line = json.dumps(about).encode() + b"\n"
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(_checksum(line, loaded.images) + b"\n" + line)
        loaded.images.tofile(file)
    keep_most_recent(path, MAX_CACHE_BYTES)


def _read_cache(path):
    """What `_write_cache` wrote, or None where it isn't there or isn't whole."""
    try:
        with path.open("rb") as file:
            checksum, line = file.readline().strip(), file.readline()
            pixels = np.fromfile(file, np.uint8)
    except OSError:
        return None
    if checksum != _checksum(line, pixels):
        return None
    about = json.loads(line)
    facts = [decode.Facts(*values[:6], tuple(values[6]), *values[7:]) for values in about["facts"]]
    problems = {int(row): Problem(*values) for row, values in about["problems"].items()}
    kept = np.ones(len(about["digests"]), dtype=bool)
    kept[list(problems)] = False
    images, digests = pixels.reshape(about["shape"]), np.array(about["digests"], dtype=str)
    return LoadedImages(images, kept, digests, facts, problems, decode.ValueRange(*about["value_range"]))


def _checksum(line, pixels):
    digest = hashlib.blake2b(line, digest_size=32)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest().encode()
