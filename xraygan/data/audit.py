"""Leaks and shortcuts: which images stand on both sides of the split, and what a classifier can tell without seeing lungs."""

import imagehash
import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from xraygan import disk

HASH_SIZE = 16  # 256 bits: a chest radiograph resembles every other, 64 bits confuse them
HIDDEN_SHARE = 0.6875  # of the image's side: the black square that hides the lungs (88 of 128 pixels)
SHORTCUT_SHARE = 0.8  # of the score above chance that is left without lungs, from which on the alarm is raised
FAINT = 0.1  # a whole image's score above chance below which nothing is said about what is left of it
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
        path: the CSV; `file` is the path below DATA, as in split.csv. "" where no such file was given.
        files: `str (N,)`, the files to find.

    Returns:
        `str (N,)`; "" for files that the CSV doesn't name.

    Raises:
        ValueError: no such file, or a column is missing, or it names none of the images.
    """
    if not path:
        return np.full(len(files), "")
    path = disk.find_file(path)
    if path is None:
        raise ValueError("GROUPS names a file that isn't there; give a CSV with the columns file and group.")
    try:
        table = pd.read_csv(path, dtype=str)
    except (ValueError, pd.errors.ParserError) as error:  # no text, no columns, ragged rows
        raise ValueError(f"GROUPS ({path.name}) can't be read as CSV: {' '.join(str(error).split())}.") from error
    missing = {"file", "group"} - set(table.columns)
    if missing:
        raise ValueError(f"GROUPS has no column {' and '.join(sorted(missing))}; its columns are {', '.join(table.columns)}.")
    table = table.dropna(subset=["file", "group"])
    group_of = dict(zip(table["file"], table["group"], strict=True))
    if not set(files) & set(group_of):
        raise ValueError(
            f"GROUPS names none of the images; its first file is {next(iter(group_of), 'missing')!r}, an image is {str(files[0])!r}."
        )
    return np.array([group_of.get(file, "") for file in files])


def find_groups(image_set, patients=None):
    """Group images that must stay together: equal bytes, near-duplicates, and patients where these are known.

    Args:
        image_set: `sources.ImageSet`.
        patients: `str (N,)` from `read_groups`; an image without a known patient, "", joins no other by it. None knows no patient.

    Returns:
        groups `int (N,)`.
    """
    patients = np.full(len(image_set.files), "") if patients is None else patients
    known = np.flatnonzero(patients != "")
    links = [
        near_pairs(perceptual_hashes(image_set.images)),
        _link_equal(image_set.digests),
        known[_link_equal(patients[known])],
    ]
    first, second = np.concatenate(links).T
    size = len(image_set.files)
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def count_leaks(image_set, groups):
    """What the grouping found, a row each: copies, near-copies, and images with a twin on the other side of the split."""
    test_groups = np.unique(groups[image_set.folders == "test"])
    train_groups = np.unique(groups[image_set.folders == "train"])
    in_train, in_test = image_set.folders == "train", image_set.folders == "test"
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


def list_pairs_across(image_set, groups):
    """Pairs of one group whose images stand on both sides of train and test, or in two classes: what a person should look at.

    Returns:
        DataFrame: first, second (files), first_class, second_class, why ("in train and test" or "in two classes").
    """
    classes, rows = np.array(image_set.source.classes)[image_set.labels], []
    for group in np.unique(groups[np.isin(groups, np.flatnonzero(np.bincount(groups) > 1))]):
        members = np.flatnonzero(groups == group)
        for place, first in enumerate(members):
            for second in members[place + 1 :]:
                contradicts = classes[first] != classes[second]
                if contradicts or image_set.folders[first] != image_set.folders[second]:
                    why = "in two classes" if contradicts else "in train and test"
                    rows.append([image_set.files[first], image_set.files[second], classes[first], classes[second], why])
    return pd.DataFrame(rows, columns=["first", "second", "first_class", "second_class", "why"])


def shortcut_table(images, labels, held_out, held_out_labels):
    """How well classes can be told apart in held-out images without lungs, and without any detail.

    A support vector machine learns from four views of the same images: it needs seconds, and what such a small learner finds, a
    network finds too. A high score with the lungs hidden says that the classes differ in something else: collimation, text, pose,
    the hospital (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).

    Args:
        images, labels: `uint8 (N, S, S, 1)` and `int (N,)` to learn from.
        held_out, held_out_labels: the same, to be classified.

    Returns:
        DataFrame: a row a view, with balanced_accuracy and share, the part of the whole image's score above chance that is left (NaN
        where that score is hardly above chance).
    """
    chance = 1 / len(np.unique(labels))
    scores = {}
    for name, view in VIEWS.items():
        machine = make_pipeline(StandardScaler(), SVC(class_weight="balanced", C=3.0)).fit(view(images), labels)
        scores[name] = balanced_accuracy_score(held_out_labels, machine.predict(view(held_out)))
    table = pd.DataFrame({"balanced_accuracy": scores})
    whole = table["balanced_accuracy"].iloc[0] - chance
    table["share"] = (table["balanced_accuracy"] - chance) / whole if whole >= FAINT else np.nan
    return table


def shortcuts_by_setting(dataset, settings):
    """`shortcut_table` of the training and validation parts of each setting.

    Args:
        dataset: `dataset.Dataset`.
        settings: list of `dataset.Setting`.

    Returns:
        DataFrame: setting (its name), view, balanced_accuracy, share.
    """
    tables = []
    for setting in settings:
        parts = dataset.select_all(setting)
        train, validation = parts["train"], parts["validation"]
        table = shortcut_table(train.images, train.labels, validation.images, validation.labels)
        table = table.rename_axis("view").reset_index()
        table.insert(0, "setting", setting.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def has_shortcut(table):
    """Whether most of the score is left with the lungs hidden."""
    return bool(table.loc[HIDDEN, "share"] >= SHORTCUT_SHARE)


def hide_lungs(images):
    """The images with a black square over the centre, where the lungs are."""
    side = images.shape[1]
    size = round(HIDDEN_SHARE * side)
    start = (side - size) // 2
    hidden = images.copy()
    hidden[:, start : start + size, start : start + size] = 0
    return hidden


def _shrunk(images, size):
    """Mean grey of each of size×size places, `float (N, size²)`."""
    block = images.shape[1] // size
    return images.reshape(len(images), size, block, size, block).mean(axis=(2, 4)).reshape(len(images), -1)


HIDDEN = "lungs hidden"
VIEWS = {
    "whole image": lambda images: _shrunk(images, 32),
    HIDDEN: lambda images: _shrunk(hide_lungs(images), 32),
    "shrunk to 8×8": lambda images: _shrunk(images, 8),
    "shrunk to 4×4": lambda images: _shrunk(images, 4),
}


def _link_equal(keys):
    """Pairs `int (P, 2)` that connect each key's first occurrence with its others."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([first[inverse], np.arange(len(keys))], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]
