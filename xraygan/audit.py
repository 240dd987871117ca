"""Leaks: which images are copies or near-copies of each other, and which stand on both sides of the split."""

from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import utils

HASH_SIZE = 16  # 256 bits: a chest radiograph resembles every other, 64 bits confuse them
NEAR_DISTANCE = 34  # bits of 256 within which two images count as one picture: pairs of other pictures begin at about 40


def perceptual_hashes(images):
    """The pHash of each image: `bool (N, 256)`; near-copies (re-encoded, brightened, slightly cropped) differ in few bits."""
    chunks = np.array_split(np.arange(len(images)), 8 * cpu_count())
    jobs = (delayed(_hash_chunk)(images[chunk]) for chunk in chunks if len(chunk))
    return np.concatenate(Parallel(n_jobs=cpu_count(), prefer="threads")(jobs))


def _hash_chunk(images):
    return np.stack([imagehash.phash(Image.fromarray(image[..., 0]), hash_size=HASH_SIZE).hash.ravel() for image in images])


def near_pairs(hashes, max_distance=NEAR_DISTANCE):
    """Pairs of rows whose hashes differ in at most `max_distance` bits: `int (P, 2)`, first < second."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    num_bits = hashes.shape[1]
    found = []
    for start in range(0, len(signs), 1024):  # 1024 rows at a time keep the memory small
        distances = (num_bits - signs[start : start + 1024] @ signs.T) / 2
        first, second = np.nonzero(distances <= max_distance)
        first += start
        found.append(np.stack([first, second], axis=1)[first < second])
    return np.concatenate(found) if found else np.zeros((0, 2), int)


def read_groups(path, files):
    """The patient group of each file from a user's CSV with columns `file` and `group`.

    Args:
        path: the CSV; `file` is the path below DATA, as in split.csv.
        files: `str (N,)`, the files to find.

    Returns:
        `str (N,)`; files that the CSV doesn't name are a group of their own.

    Raises:
        ValueError: no such file, or a column is missing, or it names none of the images.
    """
    path = next((option for option in (Path(path).expanduser(), utils.ROOT / path) if option.is_file()), None)
    if path is None:
        raise ValueError("GROUPS names a file that isn't there; give a CSV with the columns file and group.")
    table = pd.read_csv(path, dtype=str)
    missing = {"file", "group"} - set(table.columns)
    if missing:
        raise ValueError(f"GROUPS has no column {' and '.join(sorted(missing))}; its columns are {', '.join(table.columns)}.")
    table = table.dropna(subset=["file", "group"])  # an image without a known group is a group of its own
    group_of = dict(zip(table["file"], table["group"], strict=True))
    if not set(files) & set(group_of):
        raise ValueError(
            f"GROUPS names none of the images; its first file is {next(iter(group_of), None)!r}, an image is {files[0]!r}."
        )
    return np.array([f"group {group_of[file]}" if file in group_of else f"file {file}" for file in files])


def find_groups(image_set, patient_groups=None):
    """Group images that must stay together: equal bytes, near-duplicates, and patients where these are known.

    Args:
        image_set: `sources.ImageSet`.
        patient_groups: `str (N,)` from `read_groups`, or None.

    Returns:
        groups `int (N,)`, and the near-duplicate pairs `int (P, 2)`.
    """
    pairs = near_pairs(perceptual_hashes(image_set.images))
    links = [pairs, _links_of_equal(image_set.digests)]
    if patient_groups is not None:
        links.append(_links_of_equal(patient_groups))
    first, second = np.concatenate(links).T
    size = len(image_set.files)
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1], pairs


def leak_table(image_set, groups):
    """What the grouping found, a row each: copies, near-copies, and images with a twin on the other side of the split."""
    test_groups = np.unique(groups[image_set.parts == "test"])
    train_groups = np.unique(groups[image_set.parts == "train"])
    in_train, in_test = image_set.parts == "train", image_set.parts == "test"
    sizes = np.bincount(groups)[groups]
    rows = {
        "images": len(groups),
        "copies, byte for byte": len(groups) - len(np.unique(image_set.digests)),
        "images in a group of two or more": int((sizes > 1).sum()),
        "train images with their group in test": int((in_train & np.isin(groups, test_groups)).sum()),
        "test images with their group in train": int((in_test & np.isin(groups, train_groups)).sum()),
        "groups with more than one class": sum(
            len(set(image_set.labels[groups == group])) > 1 for group in np.unique(groups[sizes > 1])
        ),
    }
    return pd.DataFrame({"number": rows})


def _links_of_equal(keys):
    """Pairs `int (P, 2)` that connect each key's first occurrence with its others."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([first[inverse], np.arange(len(keys))], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]
