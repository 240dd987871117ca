"""The published study's trainings, found by the names of their files: an earlier version of the package chose their keys."""

import re

import numpy as np

import utils
from xraygan import disk
from xraygan.comparison.classifier import read_predictions
from xraygan.report import published

FOLDER = published.STUDY
SETTINGS = ("2-classes", "3-classes")  # what it compares, most classes last


def read_published_answers(setting, arm, num_extra=1000):
    """Which test images the published models of one arm get right.

    Args:
        setting: name of the setting, e.g. "3-classes".
        arm: name of the arm.
        num_extra: images that were added.

    Returns:
        `bool (seeds, images)` in the order of seeds, the images' classes `(images,)`, and their files `(images,)`.

    Raises:
        FileNotFoundError: there are none.
    """
    folder = FOLDER / "units" / setting
    pattern = re.compile(rf"{re.escape(arm)}-{num_extra}-(\d+)-[0-9a-f]+\.csv")  # ARM-EXTRA-SEED-KEY.csv
    matches = [pattern.fullmatch(file.name) for file in folder.glob("*.csv")]
    name_of_seed = {int(match[1]): match[0] for match in matches if match}
    if not name_of_seed:
        raise FileNotFoundError(f"{disk.display_path(folder)} has no training of the arm {arm!r} with {num_extra} images more.")
    predictions = [read_predictions(folder / name_of_seed[seed]) for seed in sorted(name_of_seed)]
    right = np.array([table["label"] == table["prediction"] for table in predictions])
    return right, predictions[0]["label"].to_numpy(), predictions[0]["file"].to_numpy()


def read_published_split():
    """The split of the published study: file, class, part and group, all as text."""
    return utils.read_table(FOLDER / "split.csv", dtype=str)


def read_published_profile():
    """The size of the published study, by the names of `profile.Profile`."""
    return disk.read_json(FOLDER / "record.json")["profile"]
