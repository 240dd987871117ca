"""Leaks and shortcuts: which images stand on both sides of the split, and what a classifier can tell without seeing lungs."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from xraygan.data import csv_tables, labels, near_copies, patients, tree

MOST_LISTED = 10_000  # pairs that are listed to be looked at
MOST_APART = 200  # images of a group that one of it is compared with for that list
MOST_LEARNED = 4_000  # images that shortcuts are learned from, and as many tried on: the cost grows with their square
HIDDEN_SHARE = 0.6875  # of the image's side: the black square that hides the lungs (88 of 128 pixels)
SHORTCUT_SHARE = 0.8  # of the score above chance that is left without lungs, from which on the alarm is raised
FAINT = 0.1  # a whole image's score above chance below which nothing is said about what is left of it


def read_groups(path, image_set):
    """Each image's patient from a user's CSV, whose columns and files may be written as in a table of labels.

    Args:
        path: the CSV with the columns `file` and `group`.
        image_set: `sources.ImageSet`.

    Returns:
        `str (N,)`, "" for images that the CSV doesn't name or whose patient it doesn't know; and sentences.

    Raises:
        ValueError: no such file, or a column is missing, or it names none of the images, or an image with two patients.
    """
    files = image_set.list_places(image_set.files)
    path = csv_tables.find_groups_file(path)
    table = csv_tables.read_people_table(path, f"GROUPS ({tree.make_printable(path.name)})")
    columns = csv_tables.find_filled_columns(table)
    missing = [kind for kind in ("file", "group") if kind not in columns]
    if missing:
        there = tree.make_printable(", ".join(table.columns))
        raise ValueError(
            f"GROUPS has no column {' and '.join(missing)}; its columns are {there}. Call that of the images file and that of the patients group."
        )
    written = table[columns["file"]]
    found, ambiguous, sentences = labels.find_files(written, files, image_set.source.root or ".", "GROUPS")
    patient_of = {}
    for file, patient in zip(found, map(patients.clean, table[columns["group"]]), strict=True):
        if file is not None and patient and patient_of.setdefault(file, patient) != patient:
            raise ValueError(f"GROUPS names {file} twice, with two patients; keep one row.")
    if not any(found):
        raise ValueError(
            f"GROUPS names none of the images; it calls files like {next(iter(written), 'missing')!r}, and the images are called like "
            f"{str(files[0])!r}. Where two images have one name, write it with its folder."
        )
    if gone := sum(file is None and text not in ambiguous for text, file in zip(written, found, strict=True)):
        sentences.append(f"{gone} rows of GROUPS name no image of this run.")
    names = np.array([patient_of.get(file, "") for file in files])
    unknown = files[names == ""]
    if len(unknown):
        sentences.append(
            f"GROUPS names a patient for {len(files) - len(unknown)} of {len(files)} images; not for {tree.list_names(unknown)}."
        )
    names, about_shared = patients.drop_shared(
        names, image_set.labels, image_set.source.classes, "Is it the right column of GROUPS?"
    )
    return names, sentences + about_shared


def find_groups(image_set, patients=None):
    """Group images that must stay together: equal bytes, near-copies, and patients where these are known.

    Args:
        image_set: `sources.ImageSet`.
        patients: `str (N,)` from `read_groups`, beside those that the set itself knows; an image without a known patient, "", joins no other
            by it. None adds no patient.

    Returns:
        groups `int (N,)`.
    """
    links = [near_copies.find_pairs(image_set.images), near_copies.link_equal(image_set.digests)]
    for names in [image_set.patients] if patients is None else [image_set.patients, patients]:
        known = np.flatnonzero(names != "")
        links.append(known[near_copies.link_equal(names[known])])
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
    num_classes = pd.Series(image_set.labels).groupby(groups).nunique()
    rows = {
        "images": len(groups),
        "copies, byte for byte": len(groups) - len(np.unique(image_set.digests)),
        "images in a group of two or more": int((sizes > 1).sum()),
        "train images with their group in test": int((in_train & np.isin(groups, test_groups)).sum()),
        "test images with their group in train": int((in_test & np.isin(groups, train_groups)).sum()),
        "groups with more than one class": int((num_classes > 1).sum()),
    }
    return pd.DataFrame({"number": rows})


def list_pairs_across(image_set, groups):
    """Pairs of one group whose images stand on both sides of train and test, or in two classes: what a person should look at.

    Returns:
        DataFrame: first, second (files), first_class, second_class, why ("in train and test" or "in two classes"), group by group. At most
        `MOST_LISTED`, and where there may be more a sentence says so.
    """
    pairs, are_all = _pair_across(image_set, groups)
    if not are_all:
        print(f"There are more pairs than a person can look at: {len(pairs):,} of them are listed.")
    first, second = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], groups[pairs[:, 0]]))].T
    classes = np.array(image_set.source.classes)[image_set.labels]
    why = np.where(classes[first] != classes[second], "in two classes", "in train and test")
    places = image_set.list_places(image_set.files)
    columns = [places[first], places[second], classes[first], classes[second], why]
    return pd.DataFrame(dict(zip(["first", "second", "first_class", "second_class", "why"], columns, strict=True)))


def _pair_across(image_set, groups):
    """Rows of such pairs, `int (P, 2)`, first < second, and whether these are all.

    With the images in the order of their groups, each is compared with the next one, then with the one after it, and so on.
    """
    order, largest = np.argsort(groups, kind="stable"), np.bincount(groups).max()
    found, count = [np.zeros((0, 2), int)], 0
    for apart in range(1, min(largest, MOST_APART)):
        first, second = order[:-apart], order[apart:]
        across = image_set.labels[first] != image_set.labels[second]
        across |= image_set.folders[first] != image_set.folders[second]
        across &= groups[first] == groups[second]
        found.append(np.stack([first[across], second[across]], axis=1))
        count += len(found[-1])
        if count > MOST_LISTED:
            break
    return np.concatenate(found)[:MOST_LISTED], count <= MOST_LISTED and largest <= MOST_APART


def shortcut_table(images, labels, held_out, held_out_labels):
    """How well classes can be told apart in held-out images without lungs, and without any detail.

    A support vector machine learns from four views of the same images: it needs seconds, and what such a small learner finds, a
    network finds too. A high score with the lungs hidden says that the classes differ in something else: collimation, text, pose,
    the hospital (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).

    Args:
        images, labels: `uint8 (N, S, S, 1)` and `int (N,)` to learn from; where there are more than `MOST_LEARNED` on a side, as many
            are drawn, in the classes' shares.
        held_out, held_out_labels: the same, to be classified.

    Returns:
        DataFrame: a row a view, with balanced_accuracy; share, the part of the whole image's score above chance that is left (NaN
        where that score is hardly above chance); and learned_from and tried_on, the numbers of images.
    """
    learned, tried = (_draw_stratified(side, MOST_LEARNED, seed=0) for side in (labels, held_out_labels))
    images, labels, held_out, held_out_labels = images[learned], labels[learned], held_out[tried], held_out_labels[tried]
    chance = 1 / len(np.unique(labels))
    scores = {}
    for name, view in VIEWS.items():
        machine = make_pipeline(StandardScaler(), SVC(class_weight="balanced", C=3.0)).fit(view(images), labels)
        scores[name] = balanced_accuracy_score(held_out_labels, machine.predict(view(held_out)))
    table = pd.DataFrame({"balanced_accuracy": scores})
    whole = table["balanced_accuracy"].iloc[0] - chance
    table["share"] = (table["balanced_accuracy"] - chance) / whole if whole >= FAINT else np.nan
    return table.assign(learned_from=len(labels), tried_on=len(held_out_labels))


def _draw_stratified(labels, size, seed):
    """Rows of about `size` of the images in ascending order, every class in proportion; of each class at least 100, if it has them."""
    if len(labels) <= size:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(size * len(rows) // len(labels), 100)] for rows in members]))


def shortcuts_by_setting(dataset, settings):
    """`shortcut_table` of the training and validation parts of each setting.

    Args:
        dataset: `dataset.Dataset`.
        settings: list of `dataset.Setting`.

    Returns:
        DataFrame: setting (its name), view, balanced_accuracy, share, learned_from, tried_on.
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
