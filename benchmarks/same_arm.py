"""A comparison on real images whose truth is known: arm "nothing" against itself, trained with other seeds.

python -m benchmarks.same_arm                            # the published study
python -m benchmarks.same_arm --data DATA --run RUN      # another run, whose notebook 1 is done; trains what isn't trained

"better" or "worse" would be a false alarm. The published trainings are read as they are: their keys are of an earlier version of the
package, so none is trained again or added to them.
"""

import argparse

import pandas as pd

from benchmarks import machine, published_study
from benchmarks.pairs import judge_pairs
from xraygan import backend
from xraygan.comparison import plan, tables, workers
from xraygan.comparison.study import recall_study
from xraygan.data import split


def read_published():
    """{setting name: (`dataset.Setting`, [table of predictions, one a seed])} of the published study's arm "nothing"."""
    found = {}
    for name in published_study.SETTINGS:
        files = published_study.list_facts(name, "nothing")
        found[name] = published_study.read_setting(files[0]), list(map(published_study.read_called_by_shares, files))
    return found


def train_run(study):
    """The same of a run, with twice as many seeds as its arms have; what isn't trained yet is trained."""
    seeds, found = plan.list_seeds(study, 2 * study.profile.num_seeds), {}
    for setting in study.settings:
        units = plan.list_units(setting, ["nothing"], seeds, study.profile.num_fakes)
        workers.train_units(study, units)
        found[setting.name] = setting, [tables.read_unit_predictions(study, unit) for unit in units]
    return found


def compare_halves(setting, predictions, group_of):
    """The first half of the seeds against the second, a row a metric.

    Args:
        setting: `dataset.Setting`.
        predictions: list of an even number of tables.
        group_of: Series of each file's group.
    """
    half = len(predictions) // 2
    halves = {"first half": predictions[:half], "second half": predictions[half:]}
    rows = judge_pairs(halves, [tuple(halves)], setting, group_of)
    return [{name: value for name, value in row.items() if name not in ("first", "second")} for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--run", default="")
    options = parser.parse_args()
    if options.run:
        chosen, study = backend.configure(), recall_study(options.data, options.run)
        found, table = train_run(study), split.read_split(study.folders)
    else:
        found, table = read_published(), published_study.read_published_split()
        chosen = published_study.RECORD["machine"]
    group_of = table.set_index("file")["group"]
    rows = [{"setting": name} | row for name, halves in found.items() for row in compare_halves(*halves, group_of)]
    machine.publish(pd.DataFrame(rows).round(6), "same_arm", chosen)


if __name__ == "__main__":
    main()
