"""Whether precision changes the outcome: arms "nothing" and "gan" in float32 and in the automatic precision, over seeds.

python -m benchmarks.precision --data DATA --run RUN [--seeds 3]

RUN is a run whose notebook 1 is done, whatever its size; trainings have the size of the profile "quick". Each precision has its own
folders beside RUN's, its own GANs too; finished trainings aren't repeated.
"""

import argparse
import shutil
from dataclasses import replace

import pandas as pd

import utils
from benchmarks import machine
from benchmarks.pairs import judge_pairs
from xraygan import backend, disk, run
from xraygan.comparison import plan, profile, tables, units, workers
from xraygan.comparison.study import recall_study
from xraygan.data import split

ARMS = ("nothing", "gan")
COLUMNS = ["precision", "arm", "seed", "balanced_accuracy", "sensitivity", "specificity", "auroc"]


def copy_study(study, precision):
    """A study of the size "quick" that starts, in folders of its own, where notebook 1 of another ended."""
    size = replace(profile.load_profile("quick"), image_size=study.classifier.image_size)
    copy = replace(
        study,
        run=f"{study.run}-{precision}",
        profile=size,
        classifier=size.make_classifier(study.classifier.network),
        recipe=size.make_recipe("dcgan"),
        precision=precision,
    )
    for folder, name in (("results", "split.csv"), ("models", "before_gan.keras")):
        shutil.copyfile(getattr(study.folders, folder) / name, getattr(copy.folders, folder) / name)
    disk.write_json(copy.folders.results / "record.json", study.record | {"run": copy.run})
    baseline = units.find_key(copy, plan.plan_baseline(copy))  # the same network judges, though this size would train another
    run.sign(copy.folders, copy.folders.models / "before_gan.keras", unit=baseline)
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    chosen = backend.configure()
    study = recall_study(options.data, options.run)
    # The run's own seed is left out: its GAN is notebook 2's, of another size.
    seeds = plan.list_seeds(study, options.seeds + 1)[1:]
    trainings, predictions = [], {}
    for precision in dict.fromkeys(("float32", chosen["precision"])):
        copy = copy_study(study, precision)
        wanted = plan.list_units(copy.own, ARMS, seeds, copy.profile.num_fakes)
        trainings.append(workers.train_units(copy, wanted).assign(precision=precision))
        for arm in ARMS:
            finished = [unit for unit in wanted if unit.arm == arm]
            predictions[f"{precision}, {arm}"] = [tables.read_unit_predictions(copy, unit) for unit in finished]
    table = compare(predictions, copy.own, split.read_split(copy.folders).set_index("file")["group"])
    print(table.round(4).to_string(index=False))
    machine.publish(pd.concat(trainings)[COLUMNS], "precision", chosen)
    utils.write_table(table.round(6), machine.PUBLISHED / "precision_differences.csv")


def compare(predictions, setting, group_of):
    """Differences with their intervals: a precision from the other in each arm, and the GAN from nothing in each precision.

    Args:
        predictions: {"precision, arm": [table of predictions, one a seed]}, float32 first.
        setting: `dataset.Setting`.
        group_of: Series of each file's group.
    """
    precisions = list(dict.fromkeys(name.split(", ")[0] for name in predictions))
    pairs = [(f"{precisions[0]}, {arm}", f"{precisions[-1]}, {arm}") for arm in ARMS]
    pairs += [(f"{precision}, {ARMS[0]}", f"{precision}, {ARMS[1]}") for precision in precisions]
    return pd.DataFrame(judge_pairs(predictions, pairs, setting, group_of))


if __name__ == "__main__":
    main()
