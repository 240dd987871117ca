"""Whether precision changes the outcome: arms "nothing" and "gan" in float32 and in the automatic precision, over seeds.

python -m benchmarks.precision --data DATA --run RUN [--seeds 3]

RUN is a run whose notebook 1 is done, whatever its size; trainings have the size of the profile "quick". Each precision has its own
folders beside RUN's, its own GANs too; finished trainings aren't repeated.
"""

import argparse
import shutil

import pandas as pd

import utils
from benchmarks import machine
from xraygan import backend, disk, runs, settings, statistics, study

ARMS = ("nothing", "gan")


def copy_of(folders, name):
    """The folders of a run that starts where notebook 1 of another ended."""
    copy = utils.run_folders(name)
    shutil.copyfile(folders.results / "record.json", copy.results / "record.json")
    shutil.copyfile(folders.results / "split.csv", copy.results / "split.csv")
    shutil.copyfile(folders.models / "before_gan.keras", copy.models / "before_gan.keras")
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    chosen = backend.configure()
    run = runs.open_run(options.data, utils.run_folders(options.run))
    profile = settings.load_profile("quick")
    setting = study.settings_of(run.notes)[0]
    # The run's own seed is left out: its GAN is notebook 2's, of another size.
    seeds = study.seeds_of(run.notes, options.seeds + 1)[1:]
    units = study.plan(setting, ARMS, seeds, profile.num_fakes)
    right, tables = {}, []
    for precision in dict.fromkeys(("float32", chosen["precision"])):
        folders = copy_of(run.folders, f"{options.run}-{precision}")
        plan = study.Study(str(run.source.root), str(disk.STORE), folders.run, profile, "dcgan", precision)
        tables.append(study.run(plan, units).assign(precision=precision))
        for arm in ARMS:
            right[precision, arm], *images = study.answers_of(plan, [unit for unit in units if unit.arm == arm])
    rows = differences(right, images, chosen["precision"])
    print(rows.round(4).to_string(index=False))
    columns = ["precision", "arm", "seed", "balanced_accuracy", "sensitivity", "specificity", "auroc"]
    machine.publish(pd.concat(tables)[columns], "precision", chosen)
    utils.write_table(rows.round(6), machine.PUBLISHED / "precision_differences.csv")


def differences(right, images, fast):
    """What is compared, with its interval: a precision with the other in each arm, and the GAN with nothing in each precision."""
    pairs = [(("float32", arm), (fast, arm)) for arm in ARMS]
    pairs += [((precision, ARMS[0]), (precision, ARMS[1])) for precision in dict.fromkeys(("float32", fast))]
    rows = []
    for first, second in pairs:
        found = statistics.judged_difference(right[first], right[second], *images)
        rows.append({"first": ", ".join(first), "second": ", ".join(second)} | found)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
