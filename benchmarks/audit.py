"""How well the audit finds what belongs together, against the true patients where they're known.

python -m benchmarks.audit --data DATA --truth patients.csv [--run RUN | --published]

The truth is a CSV with the columns file and patient. A pair of images is found where the audit puts both into one group; it's true
where both are of one patient. Most images of one patient are different radiographs, which no comparison of pictures can find, so
recall is low by nature: it says how much a `GROUPS` file is worth. The verdict is also taken with the true patients, on all test images
and on those whose patient stands in no training folder: of RUN, whose notebook 3 is done, or of the published study, if DATA is its data.

The search for near-copies is measured, too (benchmarks/near_copies.py): near_copies.csv is the share of changed files that it finds, by
change and amount, and near_copies_of_patients.csv lists every pair that it calls one picture though the truth says two patients, with the
numbers that show whether it is.
"""

import argparse

import numpy as np
import pandas as pd

import utils
from benchmarks import near_copies, published_study
from benchmarks.machine import PUBLISHED
from xraygan.comparison import plan, tables, verdict
from xraygan.comparison.study import recall_study
from xraygan.data import audit, sources, split


def list_pairs(image_set, keys):
    """The pairs of images with an equal key, as a set of (file, file)."""
    members = pd.Series(image_set.files).groupby(keys).agg(sorted)
    return {(first, second) for files in members for place, first in enumerate(files) for second in files[place + 1 :]}


def score_pairs(proposed, true):
    """Pairs found, true and both; precision is None where nothing was found, recall where nothing was to be found.

    Args:
        proposed: the pairs that the audit found, a set.
        true: those of one patient, a set.
    """
    both = len(proposed & true)
    return {
        "pairs_found": len(proposed),
        "pairs_true": len(true),
        "in_both": both,
        "precision": round(both / len(proposed), 3) if proposed else None,
        "recall": round(both / len(true), 3) if true else None,
    }


def lowest_correlation(pairs, image_set):
    """The correlation of the two images of each pair as they are, the lowest; a cut lowers it, and it doesn't mean another picture."""
    images = [image_set.images[image_set.find_rows(pair)].reshape(2, -1).astype(np.float32) for pair in sorted(pairs)]
    return round(float(min(np.corrcoef(*both)[0, 1] for both in images)), 3) if images else None


def keep_pairs_across(pairs, image_set):
    """Those of the pairs that stand on both sides of train and test."""
    folder_of = dict(zip(image_set.files, image_set.folders, strict=True))
    return {(first, second) for first, second in pairs if folder_of[first] != folder_of[second]}


def score_class(image_set, patients):
    """The audit of one class against its patients: a row for all pairs, and one for those across train and test.

    Args:
        image_set: `sources.ImageSet`.
        patients: `str (N,)`.
    """
    groups = audit.find_groups(image_set)
    proposed, true = list_pairs(image_set, groups), list_pairs(image_set, patients)
    across = keep_pairs_across(proposed, image_set), keep_pairs_across(true, image_set)
    rows = {"all": (proposed, true), "train and test": across}
    return [
        {"pairs": name} | score_pairs(*both) | {"lowest_correlation": lowest_correlation(both[0], image_set)}
        for name, both in rows.items()
    ]


def name_patients(table, truth):
    """Each image's patient, a Series by file; an image without one is a patient of its own.

    Args:
        table: DataFrame with columns file and class.
        truth: Series of the patients' names by file.
    """
    names = table["class"] + " " + table["file"].map(truth)  # a name may be another patient's in another class
    return names.fillna(table["file"]).set_axis(table["file"])


def judge_run(study, test_files, patient_of):
    """The verdict of a finished study on some test images, None for all, with the true patients."""
    return tables.compare_arms(study, plan.plan_comparison(study), test_files, patient_of)


def judge_published(test_files, patient_of):
    """The same of the published study."""
    profile, right, labels, groups = published_study.read_published_profile(), {}, {}, {}
    for setting in published_study.SETTINGS:
        right[setting] = {}
        for arm in profile["arms"]:
            answers, classes, files = published_study.read_published_answers(setting, arm, profile["num_fakes"])
            chosen = np.full(len(files), True) if test_files is None else np.isin(files, list(test_files))
            right[setting][arm] = answers[: profile["num_seeds"], chosen]
            labels[setting], groups[setting] = classes[chosen], patient_of[files[chosen]].to_numpy()
    return verdict.reach_verdict(right, labels, groups)


def judge_with_patients(judge, table, truth):
    """The verdict with the true patients, on all test images and on those whose patient has no image in the train folder.

    Args:
        judge: (files of test images or None, Series of each file's patient) → verdict.
        table: a split, with columns file, class and part.
        truth: Series of the patients' names by file.
    """
    patient_of = name_patients(table, truth)
    unseen = set(split.list_unseen_test_files(table.assign(group=patient_of.to_numpy())))
    kinds = {"all": None, "unseen patients": unseen}
    verdicts = [judge(files, patient_of).assign(test_images=kind) for kind, files in kinds.items()]
    return pd.concat(verdicts, ignore_index=True).round(6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--classes", default="NORMAL,COVID19,PNEUMONIA")
    verdict_of = parser.add_mutually_exclusive_group()
    verdict_of.add_argument("--run", default="")
    verdict_of.add_argument("--published", action="store_true")
    options = parser.parse_args()
    truth = pd.read_csv(options.truth, dtype=str).set_index("file")["patient"]
    images = sources.read_images(sources.find_source(options.data, options.classes))
    classes = np.array(images.source.classes)[images.labels]
    patients = name_patients(pd.DataFrame({"file": images.files, "class": classes}), truth).to_numpy()
    rows = []
    for name in images.source.classes:
        rows += [{"class": name} | row for row in score_class(images.choose((name,), name), patients[classes == name])]
    reach, pairs = near_copies.measure(images, patients)
    for name, table in {"audit": pd.DataFrame(rows), "near_copies": reach, "near_copies_of_patients": pairs}.items():
        print(table.to_string(index=False))
        utils.write_table(table, PUBLISHED / f"{name}.csv")
    if options.published:
        outcomes = judge_with_patients(judge_published, published_study.read_published_split(), truth)
    elif options.run:
        study = recall_study(options.data, options.run)
        outcomes = judge_with_patients(lambda *chosen: judge_run(study, *chosen), split.read_split(study.folders), truth)
    else:
        return
    print(outcomes.to_string(index=False))
    utils.write_table(outcomes, PUBLISHED / "verdict_with_patients.csv")


if __name__ == "__main__":
    main()
