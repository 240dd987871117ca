"""What finished units say: a row a unit, what leaks are worth, and the verdict over all contrasts."""

import numpy as np
import pandas as pd

from xraygan import disk
from xraygan.comparison import metrics, units, verdict
from xraygan.comparison.arms import choose_arm
from xraygan.comparison.classifier import read_predictions
from xraygan.data import split

NOT_SHOWN = (
    "parameters",
    "files",
    "fakes",
    "model",
    "metrics",
    "training_shares",
)  # metrics are computed from the predictions instead, so that one that was added since is there, too


def read_unit_predictions(study, unit):
    """The prediction table of a finished unit."""
    return read_predictions(units.find_files(study, unit).predictions)


def tabulate_units(study, wanted):
    """One row a finished unit: what it was trained on, how long, and every metric."""
    rows = []
    for unit in wanted:
        files = units.find_files(study, unit)
        if units.is_finished(study, unit):
            facts = {name: fact for name, fact in disk.read_json(files.facts).items() if name not in NOT_SHOWN}
            _, scores = units.read_results(files, unit.setting)
            name = {"setting": unit.setting.name, "arm": unit.arm, "seed": unit.seed, "num_extra": unit.num_extra}
            made = {"maker": study.maker if choose_arm(unit.arm).needs_fakes else ""} if study.imported else {}
            rows.append(name | made | facts | scores)
    return pd.DataFrame(rows)


def judge_setting(study, wanted, test_files=None):
    """What finished units of one setting say by the primary metrics, ready for `verdict.reach_verdict`.

    Args:
        study: `study.Study`.
        wanted: list of finished `units.Unit` of one setting, every arm with the same seeds.
        test_files: the test images to judge by; None takes all.

    Returns:
        {metric: {arm: `verdict.Judged`}}, the images' classes `(N,)`, and the group of each `(N,)`.
    """
    group_of = split.read_split(study.folders).set_index("file")["group"]
    predictions = {}
    for unit in wanted:
        table = read_unit_predictions(study, unit)
        predictions.setdefault(unit.arm, []).append(table if test_files is None else table[table["file"].isin(test_files)])
    return judge_predictions(predictions, wanted[0].setting, group_of)


def judge_predictions(predictions, setting, group_of):
    """The same from tables of predictions.

    Args:
        predictions: {arm: [table of `classifier.tabulate_predictions`, one a replicate]}.
        setting: `dataset.Setting`.
        group_of: Series of each file's group.
    """
    labels = pd.concat([table.set_index("file")["label"] for tables in predictions.values() for table in tables])
    labels = labels[~labels.index.duplicated()].sort_index()
    judged = {
        metric: {arm: _judge_arm(metric, tables, setting, labels.index) for arm, tables in predictions.items()}
        for metric in verdict.PRIMARY_METRICS
    }
    return judged, labels.to_numpy(), group_of[labels.index].to_numpy()


def _judge_arm(metric, replicates, setting, files):
    """`verdict.Judged` of one arm's tables of predictions, the images in the order of `files`."""
    scores, influence = [], np.full((len(replicates), len(files)), np.nan)
    for row, table in zip(influence, replicates, strict=True):
        answers = metrics.read_answers(table, setting.classes, setting.minority)
        scores.append(metrics.METRICS[metric].compute(answers))
        row[files.get_indexer(table["file"])] = metrics.METRICS[metric].influence(answers)
    return verdict.Judged(np.array(scores), influence)


def compare_leaks(study, wanted):
    """The balanced accuracy of finished units by setting, on all test images and on those without a near-copy in the train folder.

    Returns:
        DataFrame: setting, test_images ("all", "without a near-copy"), number, balanced_accuracy (mean of the seeds).
    """
    unseen = set(split.list_unseen_test_files(split.read_split(study.folders)))
    rows = []
    for setting in dict.fromkeys(unit.setting for unit in wanted):
        predictions = [read_unit_predictions(study, unit) for unit in wanted if unit.setting == setting]
        kinds = {"all": predictions, "without a near-copy": [table[table["file"].isin(unseen)] for table in predictions]}
        for kind, chosen in kinds.items():
            scores = [metrics.compute_metrics(table, setting.classes, setting.minority) for table in chosen]
            mean = pd.Series([score["balanced_accuracy"] for score in scores], dtype=float).mean()  # undefined: left empty
            rows.append({"setting": setting.name, "test_images": kind, "number": len(chosen[0]), "balanced_accuracy": mean})
    return pd.DataFrame(rows)


def compare_arms(study, wanted, primary_setting, test_files=None):
    """`verdict.reach_verdict` of the finished units; of each setting the seeds that all its arms have finished.

    Args:
        study: `study.Study`.
        wanted: list of `units.Unit`.
        primary_setting: `dataset.Setting`, the one that the primary contrasts are of.
        test_files: as in `judge_setting`.

    Returns:
        the verdict, a DataFrame; a setting is left out if no seed is finished, or if `test_files` holds fewer than two images, or groups
        of them, of one of its classes.
    """
    judged, labels, groups = {}, {}, {}
    for setting in dict.fromkeys(unit.setting for unit in wanted):
        finished = list_comparable(study, [unit for unit in wanted if unit.setting == setting])
        if not finished:
            continue
        found = judge_setting(study, finished, test_files)
        if _count_fewest_groups(setting, *found[1:]) >= split.FEWEST_TESTED:
            judged[setting.name], labels[setting.name], groups[setting.name] = found
    return verdict.reach_verdict(judged, labels, groups, primary_setting.name)


def list_comparable(study, wanted):
    """The units of those seeds that every arm has finished, by arm and seed; `wanted` is of one setting."""
    arms, finished = {unit.arm for unit in wanted}, {}
    for unit in wanted:
        if units.is_finished(study, unit):
            finished.setdefault(unit.seed, set()).add(unit.arm)
    return [unit for unit in wanted if finished.get(unit.seed) == arms]


def _count_fewest_groups(setting, labels, groups):
    """How many groups of images the class has that has fewest."""
    return pd.Series(groups).groupby(labels).nunique().reindex(setting.classes, fill_value=0).min()
