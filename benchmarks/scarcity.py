"""The published study of few images: pneumonia against none, in children of one hospital.

python -m benchmarks.scarcity --data DATA --groups patients.csv       # goes on where it was; hours to days on 2 CPU cores
python -m benchmarks.scarcity --data DATA --summarise                 # the tables of what is finished

DATA holds the Kaggle set, and patients.csv names each file's patient (columns file and group). What is asked, and how it is judged, is
declared in results/published/scarcity/declaration.md, which was committed before the first training. Finished trainings are
read from results/published/scarcity/ and published there.
"""

import argparse

from xraygan import run
from xraygan.comparison import scarcity, units, workers
from xraygan.comparison.study import begin, recall_study
from xraygan.data import audit, split
from xraygan.report import published, worth

ASKED = {
    "PROFILE": "study",
    "RUN": published.SCARCITY_RUN,
    "CLASSES": "NORMAL,PNEUMONIA",
    "MINORITY": "PNEUMONIA",
    "ALSO": "",
    "CLASSIFIER": "study_cnn",
    "TEST_SHARE": 0.5,
    "ON_LEAK": "drop",
    "SEED": 0,
    "PRECISION": "mixed_bfloat16",
}


def start(data, groups_file):
    """Split the images by patient and write down what the run is, as notebook 1 does; returns the study."""
    begun = begin(DATA=data, GROUPS=groups_file, **ASKED)
    groups = audit.find_groups(begun.images, begun.patients)
    table = split.make_split(begun.images, groups, test_share=ASKED["TEST_SHARE"], seed=ASKED["SEED"])
    begun.start_study(table, audit.count_leaks(begun.images, groups))
    study = recall_study(data, published.SCARCITY_RUN)
    run.write_table(audit.shortcuts_by_setting(study.dataset, study.settings), study.folders, "shortcuts.csv")
    return study


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--groups", help="CSV with the columns file and group: without it the study would be another one")
    parser.add_argument("--summarise", action="store_true")
    options = parser.parse_args()
    if not (options.groups or options.summarise):
        parser.error("--groups is missing: the study's split is by patient")
    study = recall_study(options.data, published.SCARCITY_RUN) if options.summarise else start(options.data, options.groups)
    wanted = scarcity.list_units(study)
    if options.summarise:
        units.restore_published(study, wanted)
    else:
        workers.train_units(study, wanted)
    found = scarcity.summarise(study)
    if found:
        print(found.worth.round(3).to_string(index=False))
        worth.show(found, study)
    published.publish(study.folders)


if __name__ == "__main__":
    main()
