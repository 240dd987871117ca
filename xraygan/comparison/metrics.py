"""Metrics of a table of predictions, and two such tables side by side: registry `METRICS`. Another metric is one function and one entry.

Positive is the minority class. With more than two classes, balanced accuracy and AUROC are means over classes, accuracy and errors count all
classes, and all other metrics compare the positive class with the rest.
A metric that can't be computed (one class missing) is None and shown as "undefined", never NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics as sk

import utils
from xraygan import disk, keys, run

BEFORE_AFTER = "before_after.csv"  # one training without and one with fakes


class Answers(NamedTuple):
    """What a model said of N test images.

    Attributes:
        truth, predicted: class names `(N,)`, the second by the rule of `classifier.tabulate_predictions`.
        likeliest: class names `(N,)`, the class with the largest probability, whatever the class shares.
        positive, called: `bool (N,)`, whether an image is of the minority class and whether it was called so.
        probability: `float (N,)` of the minority class.
        by_class: {class name: `float (N,)`}, the probability of each class; with two classes of the minority alone.
    """

    truth: np.ndarray
    predicted: np.ndarray
    likeliest: np.ndarray
    positive: np.ndarray
    called: np.ndarray
    probability: np.ndarray
    by_class: dict


@dataclass(frozen=True)
class Metric:
    """One metric: its name in words, and a function of `Answers` that gives a number, or None where it's undefined.

    `needs` says when it is defined: "positive", "negative" or "both" where such images are there, "every class", or "" always.
    A metric that verdicts are about has a `margin`, below which a difference is of no practical interest, and `influence`, a function of
    `Answers` → `float (N,)`: what each test image adds to the metric, less its mean over the image's class.
    """

    words: str
    compute: Callable
    needs: str = ""
    is_count: bool = False
    margin: float = 0.0
    is_ranking: bool = False
    influence: Callable | None = None


def compute_metrics(predictions, classes, minority):
    """All metrics of one model.

    Args:
        predictions: table with columns label, prediction, likeliest, probability (of the minority class) and, for more than two
            classes, probability_CLASS.
        classes: class names, in order.
        minority: the positive class.

    Returns:
        {name in `METRICS`: float, int, or None where undefined}.
    """
    answers = read_answers(predictions, classes, minority)
    truth = answers.truth
    is_met = {
        "": True,
        "positive": answers.positive.any(),
        "negative": (~answers.positive).any(),
        "both": 0 < answers.positive.sum() < len(truth),
        "every class": set(truth) == set(classes),
    }
    return {name: metric.compute(answers) if is_met[metric.needs] else None for name, metric in METRICS.items()}


def read_answers(predictions, classes, minority):
    """A table of predictions as `Answers`; arguments as in `compute_metrics`."""
    truth, predicted = predictions["label"].to_numpy(), predictions["prediction"].to_numpy()
    probability = predictions["probability"].to_numpy(dtype=float)
    columns = {name: f"probability_{name}" for name in classes} if len(classes) > 2 else {minority: "probability"}
    by_class = {name: predictions[column].to_numpy(dtype=float) for name, column in columns.items()}
    likeliest = predictions["likeliest"].to_numpy()
    return Answers(truth, predicted, likeliest, truth == minority, predicted == minority, probability, by_class)


def balanced_accuracy(answers):
    """The mean over classes of the share of its images that is called right."""
    return float(sk.balanced_accuracy_score(answers.truth, answers.predicted))


def influence_balanced_accuracy(answers):
    """Whether each image is called right, less its class's mean, by the size of its class and the number of classes."""
    right = (answers.truth == answers.predicted).astype(float)
    names, place, counts = np.unique(answers.truth, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=right) / counts
    return (right - means[place]) / counts[place] / len(names)


def balanced_accuracy_of_likeliest(answers):
    """Balanced accuracy where the class with the largest probability is called, as the original study does."""
    return float(sk.balanced_accuracy_score(answers.truth, answers.likeliest))


def accuracy(answers):
    """The share of images that is called right."""
    return float((answers.truth == answers.predicted).mean())


def sensitivity(answers):
    """The share of positive images that is found."""
    return float(answers.called[answers.positive].mean())


def specificity(answers):
    """The share of negative images that is left alone."""
    return float((~answers.called[~answers.positive]).mean())


def auroc(answers):
    """Area under the ROC curve; with more than two classes the mean of each class against the rest."""
    return float(np.mean([sk.roc_auc_score(answers.truth == name, values) for name, values in answers.by_class.items()]))


def influence_auroc(answers):
    """The share of the other class that each image is ranked rightly against, less its class's mean, by the size of its class.

    With more than two classes, the mean over each class against the rest, as in `auroc`.
    """
    parts = [rank_influence(values, answers.truth == name) for name, values in answers.by_class.items()]
    return np.mean(parts, axis=0)


def rank_influence(values, positive):
    """The structural components of AUROC (DeLong et al. 1988, doi:10.2307/2531595), from mid-ranks as Sun and Xu 2014 compute them.

    Args:
        values: `float (…, N)`, larger for positive.
        positive: `bool (N,)`.

    Returns:
        `float (…, N)`: what each image adds to AUROC, less the mean over its class; its squares' sum estimates AUROC's variance.
    """
    ranks, influence = stats.rankdata(values, axis=-1), np.empty(np.shape(values))
    for members, sign in ((positive, 1), (~positive, -1)):
        above = (ranks[..., members] - stats.rankdata(values[..., members], axis=-1)) / (~members).sum()
        influence[..., members] = sign * (above - above.mean(axis=-1, keepdims=True)) / members.sum()
    return influence


def auprc(answers):
    """Average precision."""
    return float(sk.average_precision_score(answers.positive, answers.probability))


def mcc(answers):
    """Matthews correlation coefficient; None where one answer is never or always given."""
    if not 0 < answers.called.sum() < len(answers.called):
        return None
    return float(sk.matthews_corrcoef(answers.positive, answers.called))


def brier(answers):
    """Mean squared error of the probability (Brier 1950)."""
    return float(np.mean((answers.probability - answers.positive) ** 2))


def calibration_error(answers):
    """`expected_calibration_error` of the minority class."""
    return expected_calibration_error(answers.positive, answers.probability)


def errors(answers):
    """How many images are called wrong."""
    return int((answers.truth != answers.predicted).sum())


def test_images(answers):
    """How many images there are."""
    return len(answers.truth)


def expected_calibration_error(positive, probability):
    """Mean gap between predicted probability and observed share over ten equal-width bins (Naeini et al. 2015), 0 to 1.

    Args:
        positive: `bool (N,)`.
        probability: `float (N,)` of being positive.
    """
    bins = np.minimum((probability * 10).astype(int), 9)
    gaps = np.bincount(bins, weights=probability - positive, minlength=10)
    return float(np.abs(gaps).sum() / len(positive))


METRICS = {
    "balanced_accuracy": Metric(
        "balanced accuracy", balanced_accuracy, "every class", margin=0.02, influence=influence_balanced_accuracy
    ),
    "balanced_accuracy_of_likeliest": Metric(
        "balanced accuracy, likeliest class", balanced_accuracy_of_likeliest, "every class"
    ),
    "accuracy": Metric("accuracy", accuracy),
    "sensitivity": Metric("sensitivity", sensitivity, "positive"),
    "specificity": Metric("specificity", specificity, "negative"),
    "auroc": Metric("AUROC", auroc, "every class", margin=0.01, is_ranking=True, influence=influence_auroc),
    "auprc": Metric("AUPRC", auprc, "both"),
    "mcc": Metric("MCC", mcc, "both"),
    "brier": Metric("Brier score (lower is better)", brier),
    "calibration_error": Metric("calibration error (lower is better)", calibration_error),
    "errors": Metric("errors", errors, is_count=True),
    "test_images": Metric("test images", test_images, is_count=True),
}


def compare_before_after(before, after):
    """The two models' metrics and their difference, a row each: numbers, for a CSV."""
    rows = []
    for name in METRICS:
        difference = None if before[name] is None or after[name] is None else after[name] - before[name]
        rows.append({"metric": name, "before": before[name], "after": after[name], "difference": difference})
    return pd.DataFrame(rows)


def format_before_after(table):
    """`compare_before_after` (or its CSV) as a reader wants it: names in words, three decimals, "undefined" for what is."""
    shown = pd.DataFrame({"metric": [METRICS[name].words for name in table["metric"]]})
    for column in table.columns[1:]:
        sign = "+" if column == "difference" else ""
        shown[column] = [format_metric(name, value, sign) for name, value in zip(table["metric"], table[column], strict=True)]
    return shown.set_index("metric").rename_axis(None)


def write_before_after(table, folders):
    """Write `compare_before_after` to the run's results, with what both models were trained on in the record."""
    run.write_table(table, folders, BEFORE_AFTER, **_list_sources(folders))


def read_before_after(folders):
    """What `write_before_after` wrote.

    Raises:
        FileNotFoundError: it, or what it's made from, isn't there yet.
        ValueError: it was changed, or notebook 1 or 2 has made another baseline or other fakes since.
    """
    return run.read_table(folders, BEFORE_AFTER, run.NOTEBOOK_3, **_list_sources(folders))


def _list_sources(folders):
    """What the two models of a run are made from, as `run.sign` takes it: the baseline's training, and those fakes that are added."""
    record = run.read_record(folders)
    manifest = utils.read_table(disk.require(folders.generated / "manifest.csv", run.NOTEBOOK_2), usecols=["sha256"])
    added = manifest["sha256"].head(record["profile"]["num_fakes"]).tolist()  # a sweep over their number draws further ones
    baseline = record["files"].get("before_gan.keras", {}).get("made_from", {}).get("unit")
    return {"baseline": baseline, "set of fakes": keys.digest(added, 16)}


def format_metrics(metrics_by_model):
    """{model: metrics} as a reader wants it, a column a model."""
    columns = {model: [format_metric(name, values[name]) for name in METRICS] for model, values in metrics_by_model.items()}
    return pd.DataFrame(columns, index=[metric.words for metric in METRICS.values()])


def format_metric(name, value, sign=""):
    """One metric as text: three decimals, counts whole, "undefined" for None; `sign` "+" shows the sign."""
    if value is None or pd.isna(value):
        return "undefined"
    return f"{int(value):{sign}d}" if METRICS[name].is_count else f"{value:{sign}.3f}"


def exact_mcnemar(before, after):
    """Whether two models err differently on the same images (McNemar 1947, exact): what two single runs can tell.

    Args:
        before, after: prediction tables of the same files in the same order.

    Returns:
        dict: `mended` (wrong before, right after), `broken` (right before, wrong after), `test_images`, and `p_value` (1 where none
        changed).

    Raises:
        ValueError: the tables are of different files.
    """
    if not (before["file"].tolist() == after["file"].tolist() and before["label"].tolist() == after["label"].tolist()):
        raise ValueError("the two prediction tables are of different test images; run notebooks 1 and 3 on the same run.")
    right_before = (before["label"] == before["prediction"]).to_numpy()
    right_after = (after["label"] == after["prediction"]).to_numpy()
    mended, broken = int((~right_before & right_after).sum()), int((right_before & ~right_after).sum())
    p_value = float(stats.binomtest(mended, mended + broken).pvalue) if mended + broken else 1.0
    return {"mended": mended, "broken": broken, "test_images": len(before), "p_value": p_value}
