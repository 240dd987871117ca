"""The images of a run and their split, as notebook 1 left them, and what of them a training of some setting uses."""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from xraygan import disk, run
from xraygan.data import sources, split

PUT_BACK = "Put back what notebook 1 saw, or run all three notebooks with a new name for RUN."
RESERVE = "reserve"  # training images of the minority class beyond those that a setting uses
MAX_NAME = 50  # letters of a class in a setting's name, which folders are called after: four bytes each at most


@dataclass(frozen=True)
class Setting:
    """Which classes are told apart, and how many real images of the minority class there are.

    Attributes:
        classes: class names.
        minority: the class that is augmented, which metrics call positive.
        num_real: training images of the minority class that are used; 0 for all.
        with_leaks: whether training images with a twin in test, which notebook 1 left out, are used after all.
    """

    classes: tuple
    minority: str
    num_real: int = 0
    with_leaks: bool = False

    @property
    def name(self):
        name = f"{self.minority[:MAX_NAME]}-{self.num_real}" if self.num_real else f"{len(self.classes)}-classes"
        return f"{name}-with-leaks" if self.with_leaks else name

    @property
    def minority_label(self):
        return self.classes.index(self.minority)


class Part(NamedTuple):
    """The images of one part of the split: `uint8 (N, S, S, 1)`, labels `int (N,)` (indices into a setting's classes), files `str (N,)`."""

    images: np.ndarray
    labels: np.ndarray
    files: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """All images of a run, those of the second comparison too, and the split.

    Attributes:
        images: `sources.ImageSet`.
        split: DataFrame as `split.make_split` gives it.
        seed: of that split.
    """

    images: sources.ImageSet
    split: pd.DataFrame
    seed: int = 0

    def select_all(self, setting, seed=None):
        """The images that a training of `setting` uses in the replicate `seed` (None: the run's own): {part: `Part`}, in the split's order.

        The parts are train, validation, test, and reserve: training images of the minority class that the setting doesn't use. Each
        seed draws other ones, see `split.redraw`. A setting with few real images keeps `num_real` training images of the minority
        class and as large a share of its validation images; with the same seed, a larger number has the smaller one's images among
        its own.
        """
        seed = self.seed if seed is None else seed
        table = split.redraw(self.split, seed)
        if setting.with_leaks:
            table["part"] = table["part"].replace(split.LEAK, "train")
        table = table[table["class"].isin(setting.classes)]
        is_minority = table["class"] == setting.minority
        table.loc[is_minority & (table["part"] == split.UNUSED), "part"] = RESERVE
        if setting.num_real:
            of_part = {name: table.index[is_minority & (table["part"] == name)] for name in ("train", "validation")}
            share = setting.num_real / len(of_part["train"])
            counts = {"train": setting.num_real, "validation": max(1, round(share * len(of_part["validation"])))}
            for name, members in of_part.items():
                surplus = members[split.order_by_hash(table.loc[members, "file"], seed, draw="few patients")[counts[name] :]]
                table.loc[surplus, "part"] = RESERVE if name == "train" else split.UNUSED
        images, parts = self.images.choose(setting.classes, setting.minority), {}
        for name in ("train", "validation", "test", RESERVE):
            rows = table[table["part"] == name]
            positions = images.find_rows(rows["file"])
            parts[name] = Part(images.images[positions], images.labels[positions], rows["file"].to_numpy())
        return parts

    def select_class(self, class_names, part):
        """The images of some classes in one part, `uint8 (N, S, S, 1)`, in the split's order."""
        chosen = (self.split["part"] == part) & self.split["class"].isin(class_names)
        return self.images.images[self.images.find_rows(self.split.loc[chosen, "file"])]

    @property
    def redraws_test(self):
        """Whether each replicate draws its own test images; else all have those of the test folder."""
        return not (self.split["folder"] == "test").any()

    def list_unseen_test_files(self):
        """The test images that have no twin, nor another image of their patient, in the train folder."""
        return split.list_unseen_test_files(self.split)


def open_dataset(data, folders):
    """Read what notebook 1 decided, and the images again, at the size that it read them.

    Raises:
        FileNotFoundError: notebook 1 hasn't been run.
        ValueError: the images are no longer the ones it saw, or the split isn't the one that it made.
    """
    record = run.read_record(folders)
    path = run.require_signed(folders, folders.results / run.SPLIT, run.NOTEBOOK_1)
    return _open(data, folders, record["data"]["fingerprint"], disk.hash_file(path))


@functools.lru_cache(maxsize=1)
def _open(data, folders, fingerprint, split_hash):
    """Keyed by both hashes, so that a worker that lives long notices when images or split are others."""
    record = run.read_record(folders)
    try:
        source = sources.find_source(data, ",".join(record["classes"] + record["also"]), record["minority"])
    except ValueError as error:
        raise ValueError(f"DATA isn't what notebook 1 saw: {error} {PUT_BACK}") from error
    images, table = sources.read_images(source, record["classifier"]["image_size"]), split.read_split(folders)
    _require_same_images(images, table, fingerprint)
    return Dataset(images, table, record["seed"])


def _require_same_images(images, table, fingerprint):
    """Stop where the images aren't those that notebook 1 split.

    Raises:
        ValueError: files came or went, or have another class or other pixels; the message names the first.
    """
    now, then = images.list_classes(), dict(zip(table["file"], table["class"], strict=True))
    differences = {
        "new": sorted(now.keys() - then),
        "gone": sorted(then.keys() - now),
        "of another class": sorted(file for file in now.keys() & then if now[file] != then[file]),
    }
    found = [f"{len(files)} {what} (the first: {files[0]})" for what, files in differences.items() if files]
    if found or images.fingerprint != fingerprint:
        raise ValueError(
            f"DATA isn't what notebook 1 saw: {' and '.join(found) or 'the files have the same names and other pixels'}. {PUT_BACK}"
        )


def list_settings(record):
    """The settings of a run: its own classes, and those with the further ones where there are any."""
    own = Setting(tuple(record["classes"]), record["minority"])
    return [own, replace(own, classes=own.classes + tuple(record["also"]))] if record["also"] else [own]
