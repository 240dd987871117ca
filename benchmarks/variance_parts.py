"""Where the answers of published classifiers differ: how much is the image, the arm, the replicate. By this the simulated studies are set.

python -m benchmarks.variance_parts       # a table, and results/published/benchmarks/variance_parts.csv

A classifier's score of an image is the logarithm of the odds that it gives the right class, with class shares divided out and in units of
its standard deviation within a class: that one classifier is surer of everything than another changes no call and no ranking. The variance of
the scores of A arms, R replicates and N test images is taken apart by the method of moments (Searle, Casella and McCulloch 1992, chapter 4),
within each class, since arms and classes have means of their own.
"""

import argparse

import numpy as np
import pandas as pd

import utils
from benchmarks import machine, published_study

SURE = 1e-7  # probabilities beyond this far from 0 and 1 are rounding
ARMS = ("nothing", "oversampling", "classical", "gan")
SETTINGS = ("PNEUMONIA-25", "PNEUMONIA-115", *published_study.SETTINGS)
PARTS = ("threshold", "replicate", "image", "arm_image", "rest")


def score_predictions(predictions, minority, share):
    """Scores `float (N,)`, positive where the minority class is rightly told from all others, and whether an image is of it `bool (N,)`.

    Args:
        predictions: a unit's table.
        minority: name of the class.
        share: its share of the training images.
    """
    column = "probability" if "probability" in predictions else f"probability_{minority}"
    probability = predictions[column].to_numpy(float).clip(SURE, 1 - SURE)
    score = np.log(probability / (1 - probability)) - np.log(share / (1 - share))
    positive = (predictions["label"] == minority).to_numpy()
    score /= np.mean([score[members].std() for members in (positive, ~positive)])
    return np.where(positive, score, -score), positive


def read_scores(setting):
    """Scores `float (A, R, N)` of the first published study in one setting, and whether each image is of the minority class."""
    scores = []
    for arm in ARMS:
        of_arm = [score_predictions(*_read_unit(file)) for file in published_study.list_facts(setting, arm)]
        scores.append([score for score, _ in of_arm])
    fewest = min(map(len, scores))
    return np.array([of_arm[:fewest] for of_arm in scores]), of_arm[0][1]


def _read_unit(facts_file):
    minority = published_study.read_setting(facts_file).minority
    return published_study.read_called_by_shares(facts_file), minority, published_study.read_shares(facts_file)[minority]


def part_variance(scores, positive):
    """The standard deviation of each source of `PARTS` and the mean score `ease`, in units of a score's whole standard deviation.

    A replicate's mean scores of the two classes go together in two ways: `replicate` lifts both, it is better; `threshold` lifts one and lowers
    the other, it calls more images ill.

    Args:
        scores: `float (A, R, N)`, positive where right.
        positive: `bool (N,)`.
    """
    classes = [_part_class(scores[:, :, members]) for members in (positive, ~positive)]
    found = {name: np.mean([of_class[name] for of_class in classes]) for name in ("ease", "image", "arm_image", "rest")}
    one, other = (of_class["replicates"] for of_class in classes)
    together = (one * other).sum() / _count_freedom(one)
    apart = np.mean([of_class["of_replicates"] for of_class in classes])
    found |= {"replicate": (apart + together) / 2, "threshold": (apart - together) / 2}
    unit = np.sqrt(sum(max(found[name], 0) for name in PARTS))
    return {"ease": found["ease"] / unit} | {name: np.sqrt(max(found[name], 0)) / unit for name in PARTS}


def _part_class(scores):
    """Mean, variances and the replicates' means, less their arm's, `float (A, R)`, of one class's scores `(A, R, N)`."""
    num_arms, num_replicates, num_images = scores.shape
    by_replicate = scores.mean(axis=2) - scores.mean(axis=(1, 2))[:, None]
    by_image = scores.mean(axis=1) - scores.mean(axis=(1, 2))[:, None]
    rest = scores - scores.mean(axis=(1, 2))[:, None, None] - by_replicate[:, :, None] - by_image[:, None, :]
    of_rest = (rest**2).sum() / (_count_freedom(by_replicate) * (num_images - 1))
    covariance = np.cov(by_image)
    of_images = (covariance.sum() - np.trace(covariance)) / (num_arms * (num_arms - 1))
    return {
        "ease": scores.mean(),
        "image": of_images,
        "arm_image": np.trace(covariance) / num_arms - of_images - of_rest / num_replicates,
        "rest": of_rest,
        "of_replicates": (by_replicate**2).sum() / _count_freedom(by_replicate) - of_rest / num_images,
        "replicates": by_replicate,
    }


def _count_freedom(by_replicate):
    num_arms, num_replicates = by_replicate.shape
    return num_arms * (num_replicates - 1)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for setting in SETTINGS:
        scores, positive = read_scores(setting)
        counts = {"replicates": scores.shape[1], "minority_images": positive.sum(), "other_images": (~positive).sum()}
        rows.append({"setting": setting} | counts | part_variance(scores, positive))
    table = pd.DataFrame(rows).round(3)
    print(table.to_string(index=False))
    utils.write_table(table, machine.PUBLISHED / "variance_parts.csv")


if __name__ == "__main__":
    main()
