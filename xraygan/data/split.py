"""The split, made once: test as it came, validation carved from train with groups kept together, leaks dropped."""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

import utils
from xraygan import disk

LEAK, UNUSED = "leak", "unused"  # parts of the split that nothing is trained or measured on


def make_split(image_set, groups, validation_share=0.2, max_train_images=None, on_leak="drop", seed=0):
    """Assign every image to a part.

    Args:
        image_set: `sources.ImageSet`.
        groups: `int (N,)`; images of one group (duplicates, one patient) never stand on both sides of train/validation.
        validation_share: share of the training images kept for validation, real images only.
        max_train_images: keep about this many of the train folder, class by class in proportion, but of each class a tenth of this many if it
            has them; None keeps all.
        on_leak: "drop" leaves out training images whose group also stands in test, "report" keeps them.
        seed: of the choice.

    Returns:
        DataFrame with columns file, class, part ("train", "validation", "test", "leak" or "unused") and group.

    Raises:
        ValueError: a class has too few images to stand in both train and validation, or `on_leak` is neither word.
    """
    if on_leak not in ("drop", "report"):
        raise ValueError(f"ON_LEAK is {on_leak!r}; choose 'drop' or 'report'.")
    rng = np.random.default_rng(seed)
    part = image_set.folders.astype(object)
    if on_leak == "drop":
        part[(part == "train") & np.isin(groups, groups[part == "test"])] = LEAK
    if max_train_images:
        part[_surplus(part, image_set.labels, max_train_images, rng)] = UNUSED
    train = np.flatnonzero(part == "train")
    _require_two_of_each(image_set, train)
    num_folds = min(round(1 / validation_share), np.bincount(image_set.labels[train]).max())  # no more than images
    folds = StratifiedGroupKFold(max(2, num_folds), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # small classes are checked below
        _, validation = next(folds.split(train, image_set.labels[train], groups[train]))
    part[train[validation]] = "validation"
    for name in ("train", "validation"):
        _require_every_class(image_set, part, name)
    names = np.array(image_set.source.classes)[image_set.labels]
    return pd.DataFrame({"file": image_set.files, "class": names, "part": part, "group": groups})


def count_images(split, classes):
    """Images by class (rows) and part (columns), with sums."""
    parts = [part for part in ("train", "validation", "test", LEAK, UNUSED) if (split["part"] == part).any()]
    table = pd.crosstab(split["class"], split["part"]).reindex(index=list(classes), columns=parts, fill_value=0)
    table.loc["all"] = table.sum()
    return table.rename_axis(index=None, columns=None)


def write_split(split, folders):
    """Write the split to `results/RUN/split.csv`."""
    utils.write_table(split, folders.results / "split.csv")


def read_split(folders):
    """The split that notebook 1 wrote.

    Raises:
        FileNotFoundError: there is none yet.
    """
    path = disk.require(folders.results / "split.csv", "1_before_gan.ipynb")
    columns = {"file": str, "class": str, "part": str}
    return pd.read_csv(path, dtype=columns, keep_default_na=False)  # a class may be called None


def list_unseen_test_files(split):
    """The test images whose group (twin or patient) stands in no part that comes from the train folder, left out or not."""
    learned = split.loc[split["part"] != "test", "group"]
    return split.loc[(split["part"] == "test") & ~split["group"].isin(learned), "file"]


def _surplus(part, labels, max_images, rng):
    """Rows of the train folder beyond `max_images`, taken from each class in proportion: a rare one isn't thinned to a handful."""
    train = np.flatnonzero(part == "train")
    surplus = []
    for label in np.unique(labels):
        members = rng.permutation(train[labels[train] == label])
        surplus.append(members[max(max_images * len(members) // len(train), max_images // 10) :])
    return np.concatenate(surplus) if len(train) > max_images else np.array([], dtype=int)


def _require_two_of_each(image_set, train):
    counts = np.bincount(image_set.labels[train], minlength=len(image_set.source.classes))
    for name, count in zip(image_set.source.classes, counts, strict=True):
        if count < 2:
            raise ValueError(f"class {name} has {count} usable training images; add images, or leave it out with CLASSES.")


def _require_every_class(image_set, part, name):
    missing = set(range(len(image_set.source.classes))) - set(image_set.labels[part == name])
    if missing:
        names = ", ".join(image_set.source.classes[label] for label in sorted(missing))
        raise ValueError(
            f"{name} would have no image of {names}: too few images or groups; add images, or choose other CLASSES."
        )
