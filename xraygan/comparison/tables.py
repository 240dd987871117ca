"""What finished units say: a row a unit, what leaks are worth, and the verdict over all contrasts."""

import numpy as np
import pandas as pd

from xraygan import disk
from xraygan.comparison import metrics, units, verdict
from xraygan.comparison.classifier import read_predictions
from xraygan.data import split

NOT_SHOWN = ("parameters", "model", "metrics")  # the last are computed anew, for those that came after the training


def read_unit_predictions(study, unit):
    """The prediction table of a finished unit."""
    return read_predictions(units.find_files(study, unit).predictions)


def tabulate_units(study, wanted):
    """One row a finished unit: what it was trained on, how long, and every metric."""
    rows = []
    for unit in wanted:
        files = units.find_files(study, unit)
        if files.facts.exists():
            facts = {name: fact for name, fact in disk.read_json(files.facts).items() if name not in NOT_SHOWN}
            _, scores = units.read_results(files, unit.setting)
            name = {"setting": unit.setting.name, "arm": unit.arm, "seed": unit.seed, "num_extra": unit.num_extra}
            rows.append(name | facts | scores)
    return pd.DataFrame(rows)


def read_answers(study, wanted, test_files=None, group_of=None):
    """Which test images the models of finished units get right.

    Args:
        study: `study.Study`.
        wanted: list of `units.Unit` of one setting.
        test_files: the test images to judge by; None takes all.
        group_of: Series of each file's group; None takes those that notebook 1 found.

    Returns:
        `bool (units, images)`, the images' classes `(images,)`, and the group of each `(images,)`.
    """
    predictions = [read_unit_predictions(study, unit) for unit in wanted]
    if test_files is not None:
        predictions = [table[table["file"].isin(test_files)] for table in predictions]
    if group_of is None:
        group_of = split.read_split(study.folders).set_index("file")["group"]
    right = np.array([table["label"] == table["prediction"] for table in predictions])
    return right, predictions[0]["label"].to_numpy(), group_of[predictions[0]["file"]].to_numpy()


def compare_leaks(study, wanted):
    """The balanced accuracy of finished units by setting, on all test images and on those without a twin in the train folder.

    Returns:
        DataFrame: setting, test_images ("all", "without a twin"), number, balanced_accuracy (mean of the seeds).
    """
    unseen = set(split.list_unseen_test_files(split.read_split(study.folders)))
    rows = []
    for setting in dict.fromkeys(unit.setting for unit in wanted):
        predictions = [read_unit_predictions(study, unit) for unit in wanted if unit.setting == setting]
        kinds = {"all": predictions, "without a twin": [table[table["file"].isin(unseen)] for table in predictions]}
        for kind, chosen in kinds.items():
            scores = [metrics.compute_metrics(table, setting.classes, setting.minority) for table in chosen]
            mean = pd.Series([score["balanced_accuracy"] for score in scores], dtype=float).mean()  # undefined: left empty
            rows.append({"setting": setting.name, "test_images": kind, "number": len(chosen[0]), "balanced_accuracy": mean})
    return pd.DataFrame(rows)


def compare_arms(study, wanted, test_files=None, group_of=None):
    """`verdict.reach_verdict` of the finished units, settings with most classes last; arms that lack a seed are left out.

    Args:
        study: `study.Study`.
        wanted: list of `units.Unit`.
        test_files, group_of: as in `read_answers`.

    Returns:
        the verdict, a DataFrame; a setting is left out if `test_files` holds fewer than two images, or groups of them, of one of its classes.
    """
    right, labels, groups = {}, {}, {}
    for setting in sorted({unit.setting for unit in wanted}, key=lambda setting: len(setting.classes)):
        of_setting = [unit for unit in wanted if unit.setting == setting]
        seeds = {unit.seed for unit in of_setting}
        right[setting.name] = {}
        for arm in dict.fromkeys(unit.arm for unit in of_setting):
            finished = [unit for unit in of_setting if unit.arm == arm and units.is_finished(study, unit)]
            if len(finished) == len(seeds):
                right[setting.name][arm], labels[setting.name], groups[setting.name] = read_answers(
                    study, finished, test_files, group_of
                )
        if test_files is not None and _count_fewest_groups(setting, labels[setting.name], groups[setting.name]) < 2:
            del right[setting.name]
    return verdict.reach_verdict(right, labels, groups)


def _count_fewest_groups(setting, labels, groups):
    """How many groups of images the class has that has fewest."""
    return pd.Series(groups).groupby(labels).nunique().reindex(setting.classes, fill_value=0).min()
