"""How well the audit finds what belongs together, against the true patients where they're known.

python -m benchmarks.audit --data DATA --truth patients.csv

The truth is a CSV with the columns file and patient. A pair of images is found where the audit puts both into one group; it's true
where both are of one patient. Most images of one patient are different radiographs, which no comparison of pictures can find, so
recall is low by nature: it says how much a `GROUPS` file is worth.
"""

import argparse

import pandas as pd

import utils
from xraygan import audit, sources


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


def across(found, image_set):
    """Those of the pairs that stand on both sides of train and test."""
    part = dict(zip(image_set.files, image_set.parts, strict=True))
    return {(first, second) for first, second in found if part[first] != part[second]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--classes", default="NORMAL,COVID19,PNEUMONIA")
    options = parser.parse_args()
    truth = pd.read_csv(options.truth, dtype=str).set_index("file")["patient"]
    rows = []
    everything = sources.read_images(sources.find_source(options.data, options.classes))
    for name in everything.source.classes:
        here = everything.of((name,), name)
        groups, _ = audit.find_groups(here)
        patients = (name + " " + truth.reindex(here.files)).fillna(pd.Series(here.files, here.files)).to_numpy()
        found, true = pairs(here, groups), pairs(here, patients)
        rows.append({"class": name, "pairs": "all"} | score(found, true))
        rows.append({"class": name, "pairs": "train and test"} | score(across(found, here), across(true, here)))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    utils.write_table(table, utils.ROOT / "results" / "published" / "benchmarks" / "audit.csv")


if __name__ == "__main__":
    main()
