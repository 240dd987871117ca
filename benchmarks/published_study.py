"""The first published study's trainings, found by the names of their files: an earlier version of the package chose their keys.

Its classifiers called the class with the largest probability; here the same predictions are called by the class shares of the training
images too, as `classifier.tabulate_predictions` does now.
"""

import re

import pandas as pd

import utils
from xraygan import disk
from xraygan.comparison import arms
from xraygan.comparison.classifier import read_predictions
from xraygan.data.dataset import Setting
from xraygan.report import published

FOLDER = published.STUDY
RECORD = disk.read_json(FOLDER / "record.json")
SETTINGS = ("2-classes", "3-classes")  # what it compares, most classes last


def list_facts(setting, arm, num_extra=1000):
    """The files that say what a training was, of one arm in one setting, in the order of seeds.

    Raises:
        FileNotFoundError: there are none.
    """
    pattern = re.compile(rf"{re.escape(arm)}-{num_extra}-(\d+)-[0-9a-f]+\.json")  # ARM-EXTRA-SEED-KEY.json
    found = {int(match[1]): file for file in (FOLDER / "units" / setting).iterdir() if (match := pattern.fullmatch(file.name))}
    if not found:
        raise FileNotFoundError(f"{disk.display_path(FOLDER)} has no training of the arm {arm!r} with {num_extra} images more.")
    return [found[seed] for seed in sorted(found)]


def read_called_by_shares(facts_file):
    """A training's predictions: `likeliest` is what it called, `prediction` what it calls by the class shares of its training images."""
    predictions = read_predictions(facts_file.with_suffix(".csv"))
    called = decide_by_shares(predictions, read_shares(facts_file), read_setting(facts_file).minority)
    return called.assign(likeliest=predictions["prediction"])


def read_shares(facts_file):
    """{class: share of what a training was trained on}."""
    facts = disk.read_json(facts_file)
    return count_shares(facts, facts["parameters"]["setting"], RECORD["data"]["counts"]["train"])


def read_setting(facts_file):
    """The `dataset.Setting` of a training."""
    asked = disk.read_json(facts_file)["parameters"]["setting"]
    return Setting(tuple(asked["classes"]), asked["minority"], asked["num_real"])


def read_published_split():
    """The split of the published study: file, class, part and group, all as text."""
    return utils.read_table(FOLDER / "split.csv", dtype=str)


def count_shares(facts, setting, train_counts):
    """{class: share of what a unit was trained on}; an arm that weighs the loss counts as if the extra images were there."""
    arm = arms.choose_arm(facts["parameters"]["arm"])
    counts = {name: train_counts[name] for name in setting["classes"]}
    added = facts["parameters"]["num_extra"] if arm.weighs else facts["extra_images"]
    counts[setting["minority"]] = facts["real_minority"] * arm.keeps_real
    if len(counts) == 2:  # the other class is what remains: a unit that kept leaks has more of it than the split counts
        other = next(name for name in counts if name != setting["minority"])
        counts[other] = facts["real_images"] - facts["real_minority"]
    counts[setting["minority"]] += added
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def decide_by_shares(predictions, shares, minority):
    """A table of predictions whose `prediction` is the class with the largest probability divided by its share of the training images."""
    if len(shares) == 2:
        other = next(name for name in shares if name != minority)
        by_class = pd.DataFrame({other: 1 - predictions["probability"], minority: predictions["probability"]})
    else:
        by_class = predictions[[f"probability_{name}" for name in shares]].set_axis(list(shares), axis=1)
    return predictions.assign(prediction=(by_class / pd.Series(shares)).idxmax(axis=1))
