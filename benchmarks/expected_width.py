"""How wide the declared intervals of the study of few images will be, from its first eight replicates; no difference between arms is looked at.

python -m benchmarks.expected_width       # a table, and results/published/scarcity/expected_width.csv

The declaration's stopping rule asks for it once: intervals far too wide change the number of replicates. Half of each
interval is taken for every pair of arms, and only their root mean square is shown.
"""

import argparse
import itertools

import numpy as np
import pandas as pd

import utils
from benchmarks.published_study import read_setting
from xraygan import disk
from xraygan.comparison import tables, verdict
from xraygan.comparison.classifier import read_predictions
from xraygan.comparison.metrics import METRICS
from xraygan.report.published import SCARCITY

SETTING, LOOK_AFTER, DECLARED = "PNEUMONIA-25", 8, 24  # replicates: those that are looked at, and all of them
ARMS = ("nothing", "class_weights", "oversampling", "on_the_fly", "gan", "more_real")
TOO_WIDE = 0.03  # half an interval of AUROC, declared


def expect_width(predictions, setting, group_of):
    """Half an interval's width by metric: with the replicates that there are, and as expected with all of them.

    Replicates draw their own test patients, so nearly all of a difference's variance falls with their number.

    Args:
        predictions: {arm: [table of `classifier.tabulate_predictions`, one a replicate]}.
        setting: `dataset.Setting`.
        group_of: Series of each file's group.
    """
    judged, labels, groups = tables.judge_predictions(predictions, setting, group_of)
    rows = []
    for metric, arms in judged.items():
        found = [
            verdict.estimate_difference(arms, first, second, labels, groups, METRICS[metric])
            for first, second in itertools.combinations(arms, 2)
        ]
        now = np.sqrt(np.mean([((row["high"] - row["low"]) / 2) ** 2 for row in found]))
        number = found[0]["replicates"]
        rows.append({"metric": metric, "replicates": number, "now": now, "expected": now * np.sqrt(number / DECLARED)})
    return pd.DataFrame(rows).round(4)


def read_first(number):
    """{arm: [predictions of the first replicates]} of the published trainings.

    Raises:
        ValueError: not all arms have finished so many.
    """
    found = {}
    for file in (SCARCITY / "units" / SETTING).glob("[!.]*.json"):
        asked = disk.read_json(file)["parameters"]
        found.setdefault(asked["arm_name"], {})[asked["seed"]] = file
    if set(found) != set(ARMS) or not all(set(range(number)) <= set(files) for files in found.values()):
        raise ValueError(f"not all arms have finished {number} replicates.")
    return {arm: [read_predictions(files[seed].with_suffix(".csv")) for seed in range(number)] for arm, files in found.items()}


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    group_of = utils.read_table(SCARCITY / "split.csv", dtype=str).set_index("file")["group"]
    setting = read_setting(next((SCARCITY / "units" / SETTING).glob("[!.]*.json")))
    table = expect_width(read_first(LOOK_AFTER), setting, group_of)
    print(table.to_string(index=False))
    expected = table.set_index("metric").loc["auroc", "expected"]
    print("The number of replicates stays." if expected <= TOO_WIDE else "The number of replicates is to be changed, once.")
    utils.write_table(table, SCARCITY / "expected_width.csv")


if __name__ == "__main__":
    main()
