"""The images of a run and their split, as notebook 1 left them, and what of them a training of some setting uses."""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from xraygan import run
from xraygan.data import sources, split

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
        split: DataFrame with columns file, class, part and group, as `split.make_split` gives it.
    """

    images: sources.ImageSet
    split: pd.DataFrame

    def select_all(self, setting, seed=0):
        """The images that a training of `setting` uses, in the split's order: {part: `Part`} of train, validation and test.

        A setting with few real images keeps `num_real` training images of the minority class and as large a share of its validation
        images, other ones for each seed. Its test images are those of all.
        """
        table = self.split
        if setting.with_leaks:
            table = table.assign(part=table["part"].replace(split.LEAK, "train"))
        images = self.images.choose(setting.classes, setting.minority)
        rng = np.random.default_rng([seed, setting.num_real])
        share, parts = 1.0, {}
        for name in ("train", "validation", "test"):
            rows = table[(table["part"] == name) & table["class"].isin(setting.classes)]
            if setting.num_real and name != "test":
                members = rows.index[rows["class"] == setting.minority]
                count = setting.num_real if name == "train" else round(share * len(members))
                share = count / len(members)
                rows = rows.drop(rng.permutation(members)[count:])
            positions = images.find_rows(rows["file"])
            parts[name] = Part(images.images[positions], images.labels[positions], rows["file"].to_numpy())
        return parts

    def select_class(self, class_names, part):
        """The images of some classes in one part, `uint8 (N, S, S, 1)`, in the split's order."""
        chosen = (self.split["part"] == part) & self.split["class"].isin(class_names)
        return self.images.images[self.images.find_rows(self.split.loc[chosen, "file"])]

    def list_unseen_test_files(self):
        """The test images that have no twin, nor another image of their patient, in the train folder."""
        return split.list_unseen_test_files(self.split)


def open_dataset(data, folders):
    """Read what notebook 1 decided, and the images again, at the size that it read them.

    Raises:
        FileNotFoundError: notebook 1 hasn't been run.
        ValueError: the images are no longer the ones it saw.
    """
    record = run.read_record(folders)
    return _open(data, folders, record["data"]["fingerprint"])


@functools.lru_cache(maxsize=1)
def _open(data, folders, fingerprint):
    """Keyed by the fingerprint, so that a worker that lives long notices when the images are others."""
    record = run.read_record(folders)
    source = sources.find_source(data, ",".join(record["classes"] + record["also"]), record["minority"])
    images = sources.read_images(source, record["classifier"]["image_size"])
    run.require_same_data(record, images.fingerprint)
    return Dataset(images, split.read_split(folders))


def list_settings(record):
    """The settings of a run: its own classes, and those with the further ones where there are any."""
    own = Setting(tuple(record["classes"]), record["minority"])
    return [own, replace(own, classes=own.classes + tuple(record["also"]))] if record["also"] else [own]
