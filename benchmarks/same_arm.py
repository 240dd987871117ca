"""A comparison on real images whose truth is known: arm "nothing" against itself, trained with other seeds.

python -m benchmarks.same_arm --data DATA --run RUN

RUN is a run whose notebook 3 is done, so that half of the trainings are there. "better" or "worse" would be a false alarm.
"""

import argparse

import numpy as np
import pandas as pd

import utils
from benchmarks import machine
from xraygan import backend, runs, settings, statistics, study


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    options = parser.parse_args()
    chosen = backend.configure()
    run = runs.open_run(options.data, utils.run_folders(options.run))
    notes = run.notes
    profile = settings.load_profile(notes["profile"]["name"])
    plan = study.Study(str(run.source.root), str(utils.STORE), options.run, profile, "dcgan", notes["machine"]["precision"])
    rows = []
    for setting in study.settings_of(notes):
        halves = [
            study.plan(setting, ["nothing"], range(start, start + profile.num_seeds), profile.num_fakes)
            for start in (notes["seed"], notes["seed"] + profile.num_seeds)
        ]
        study.run(plan, halves[0] + halves[1])
        tables = [[study.predictions_of(plan, unit) for unit in half] for half in halves]
        right = [np.array([table["label"] == table["prediction"] for table in half]) for half in tables]
        found = statistics.balanced_difference(*right, tables[0][0]["label"].to_numpy())
        word = statistics.outcome(found["difference"], found["p_value"], found["p_equivalent"])
        rows.append({"setting": setting.name} | found | {"outcome": word})
    machine.publish(pd.DataFrame(rows).round(6), "same_arm", chosen)


if __name__ == "__main__":
    main()
