"""A comparison on real images whose truth is known: arm "nothing" against itself, trained with other seeds.

python -m benchmarks.same_arm                            # the published study
python -m benchmarks.same_arm --data DATA --run RUN      # another run, whose notebook 1 is done; trains what isn't trained

"better" or "worse" would be a false alarm. The published trainings are read as they are: their keys are of an earlier version of the
package, so none is trained again or added to them.
"""

import argparse

import pandas as pd

from benchmarks import machine, published_study
from xraygan import backend, disk
from xraygan.comparison import plan, tables, verdict, workers
from xraygan.comparison.study import recall_study


def read_published():
    """{setting: (answers `bool (seeds, images)`, classes, groups)} of the published study's arm "nothing"."""
    group_of = published_study.read_published_split().set_index("file")["group"]
    answers = {}
    for setting in published_study.SETTINGS:
        right, labels, files = published_study.read_published_answers(setting, "nothing")
        answers[setting] = right, labels, group_of[files].to_numpy()
    return answers


def train_run(data, run_name):
    """The same of a run, with twice as many seeds as its arms have; what isn't trained yet is trained."""
    study = recall_study(data, run_name)
    seeds, answers = plan.list_seeds(study, 2 * study.profile.num_seeds), {}
    for setting in study.settings:
        units = plan.list_units(setting, ["nothing"], seeds, study.profile.num_fakes)
        workers.train_units(study, units)
        answers[setting.name] = tables.read_answers(study, units)
    return answers


def compare_halves(right, labels, groups):
    """The verdict on the first half of the seeds against the second.

    Args:
        right: `bool (seeds, images)`, an even number of seeds.
        labels, groups: `(images,)`.
    """
    half = len(right) // 2
    return verdict.judge_difference(right[:half], right[half:], labels, groups)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--run", default="")
    options = parser.parse_args()
    if options.run:
        chosen = backend.configure()
        answers = train_run(options.data, options.run)
    else:
        answers = read_published()
        chosen = disk.read_json(published_study.FOLDER / "record.json")["machine"]
    table = pd.DataFrame([{"setting": setting} | compare_halves(*entry) for setting, entry in answers.items()])
    machine.publish(table.round(6), "same_arm", chosen)


if __name__ == "__main__":
    main()
