"""How well the audit finds what belongs together, against the true patients where they're known.

python -m benchmarks.audit --data DATA --truth patients.csv

The truth is a CSV with the columns file and patient. A pair of images is found where the audit puts both into one group; it's true
where both are of one patient. Most images of one patient are different radiographs, which no comparison of pictures can find, so
recall is low by nature: it says how much a `GROUPS` file is worth.

The search for near-copies is measured, too (benchmarks/near_copies.py): near_copies.csv is the share of changed files that it finds, by
change and amount, and near_copies_of_patients.csv lists every pair that it calls one picture though the truth says two patients, with the
numbers that show whether it is.
"""

import argparse

import numpy as np
import pandas as pd

import utils
from benchmarks import near_copies
from benchmarks.machine import PUBLISHED
from xraygan.data import audit, sources


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--classes", default="NORMAL,COVID19,PNEUMONIA")
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


if __name__ == "__main__":
    main()
