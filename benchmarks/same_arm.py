"""A comparison on real images whose truth is known: arm "nothing" against itself, trained with other seeds.

python -m benchmarks.same_arm --data DATA --run RUN

RUN is a run whose notebook 3 is done, so that half of the trainings are there; those that are published under its name are
taken over. "better" or "worse" would be a false alarm.
"""

import argparse

import pandas as pd

import utils
from benchmarks import machine
from xraygan import backend, published, runs, statistics, study


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    options = parser.parse_args()
    chosen = backend.configure()
    run = runs.open_run(options.data, utils.run_folders(options.run))
    notes = run.notes
    plan = study.of_run(run)
    num_seeds, num_fakes = plan.profile.num_seeds, plan.profile.num_fakes
    seeds = study.seeds_of(notes, 2 * num_seeds)
    rows = []
    for setting in study.settings_of(notes):
        units = study.plan(setting, ["nothing"], seeds, num_fakes)
        published.restore_units(run.folders, [study.unit_file(plan, unit) for unit in units])
        study.run(plan, units)
        right, *images = study.answers_of(plan, units)
        found = statistics.judged_difference(right[:num_seeds], right[num_seeds:], *images)
        rows.append({"setting": setting.name} | found)
    machine.publish(pd.DataFrame(rows).round(6), "same_arm", chosen)


if __name__ == "__main__":
    main()
