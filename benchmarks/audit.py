"""How well the audit finds what belongs together, against the true patients where they're known.

python -m benchmarks.audit --data DATA --truth patients.csv [--run RUN]

The truth is a CSV with the columns file and patient. A pair of images is found where the audit puts both into one group; it's true
where both are of one patient. Most images of one patient are different radiographs, which no comparison of pictures can find, so
recall is low by nature: it says how much a `GROUPS` file is worth. With RUN, whose notebook 3 is done, the verdict is also taken with the
true patients: on all test images, and on those whose patient stands in no training folder.
"""

import argparse

import numpy as np
import pandas as pd

import utils
from benchmarks.machine import PUBLISHED
from xraygan import audit, runs, sources, split, study


def pairs(image_set, keys):
    """The pairs of images with an equal key, as a set of (file, file)."""
    members = pd.Series(image_set.files).groupby(keys).agg(sorted)
    return {(first, second) for files in members for place, first in enumerate(files) for second in files[place + 1 :]}


def score(found, true):
    """Pairs found, true and both; precision is None where nothing was found, recall where nothing was to be found."""
    both = len(found & true)
    return {
        "pairs_found": len(found),
        "pairs_true": len(true),
        "in_both": both,
        "precision": round(both / len(found), 3) if found else None,
        "recall": round(both / len(true), 3) if true else None,
    }


def lowest_correlation(found, image_set):
    """The correlation of the two pictures of each pair found, the lowest: whether they're one picture, whatever the lists say."""
    correlations = [
        np.corrcoef(*image_set.images[image_set.rows(pair)].reshape(2, -1).astype(np.float32))[0, 1] for pair in sorted(found)
    ]
    return round(float(min(correlations)), 3) if correlations else None


def across(found, image_set):
    """Those of the pairs that stand on both sides of train and test."""
    part = dict(zip(image_set.files, image_set.parts, strict=True))
    return {(first, second) for first, second in found if part[first] != part[second]}


def verdicts(image_set, patients, run):
    """The verdict of a finished study with the true patients, on all test images and on those whose patient has no image in train.

    Args:
        image_set: `sources.ImageSet`.
        patients: `str (N,)`.
        run: `runs.Run`.
    """
    plan = study.of_run(run)
    units = study.main_units(run.notes, plan.profile)
    table = pd.DataFrame({"file": image_set.files, "part": image_set.parts, "group": patients})
    patient_of = table.set_index("file")["group"]
    kinds = {"all": None, "unseen patients": set(split.unseen_test_files(table))}
    found = [study.compare(plan, units, files, patient_of).assign(test_images=kind) for kind, files in kinds.items()]
    return pd.concat(found, ignore_index=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--classes", default="NORMAL,COVID19,PNEUMONIA")
    parser.add_argument("--run", default="")
    options = parser.parse_args()
    truth = pd.read_csv(options.truth, dtype=str).set_index("file")["patient"]
    rows = []
    everything = sources.read_images(sources.find_source(options.data, options.classes))
    names = np.array(everything.source.classes)[everything.labels]
    # A name may be another patient's in another class.
    patients = (pd.Series(names, everything.files) + " " + truth.reindex(everything.files)).fillna(
        pd.Series(everything.files, everything.files)
    )
    for name in everything.source.classes:
        here = everything.of((name,), name)
        groups, _ = audit.find_groups(here)
        in_group, of_patient = pairs(here, groups), pairs(here, patients[here.files].to_numpy())
        for which, found, true in (
            ("all", in_group, of_patient),
            ("train and test", across(in_group, here), across(of_patient, here)),
        ):
            row = {"class": name, "pairs": which} | score(found, true)
            rows.append(row | {"lowest_correlation": lowest_correlation(found, here)})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    utils.write_table(table, PUBLISHED / "audit.csv")
    if options.run:
        run = runs.open_run(options.data, utils.run_folders(options.run))
        found = verdicts(everything, patients.to_numpy(), run).round(6)
        print(found.to_string(index=False))
        utils.write_table(found, PUBLISHED / "verdict_with_patients.csv")


if __name__ == "__main__":
    main()
