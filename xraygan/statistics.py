"""Metrics of a table of predictions, and the comparison of two such tables on the same test images.

Positive is the minority class. With more than two classes, sensitivity, specificity, average precision, MCC of the positive
class against the rest, Brier score and calibration are of positive against the rest; balanced accuracy and AUROC are macro.
A metric that can't be computed (one class missing) is None and shown as "undefined", never NaN.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics as sk

from xraygan.arms import PRIMARY

CONFIDENCE = 0.95
MARGIN = 0.02  # of balanced accuracy: smaller differences are of no practical interest; set before any result was seen
FEWEST_SEEDS = 3  # with two, the interval covers the truth in 86 of 100 simulated studies and not in 95: no claim is made
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"

METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "brier": "Brier score (lower is better)",
    "calibration_error": "calibration error (lower is better)",
    "errors": "errors",
    "test_images": "test images",
}


def compute_metrics(predictions, classes, minority):
    """All metrics of one model.

    Args:
        predictions: table with columns label, prediction, probability (of the minority class) and, for more than two classes,
            probability_CLASS.
        classes: class names, in order.
        minority: the positive class.

    Returns:
        {name of `METRIC_NAMES`: float, int, or None where undefined}.
    """
    truth, predicted = predictions["label"].to_numpy(), predictions["prediction"].to_numpy()
    positive, called = truth == minority, predicted == minority
    probability = predictions["probability"].to_numpy(dtype=float)
    both = 0 < positive.sum() < len(positive)
    all_present = set(truth) == set(classes)
    return {
        "balanced_accuracy": float(sk.balanced_accuracy_score(truth, predicted)) if all_present else None,
        "accuracy": float((truth == predicted).mean()),
        "sensitivity": float(called[positive].mean()) if positive.any() else None,
        "specificity": float((~called[~positive]).mean()) if (~positive).any() else None,
        "auroc": _auroc(predictions, truth, classes, minority) if all_present else None,
        "auprc": float(sk.average_precision_score(positive, probability)) if both else None,
        "mcc": float(sk.matthews_corrcoef(positive, called)) if both and 0 < called.sum() < len(called) else None,
        "brier": float(np.mean((probability - positive) ** 2)),
        "calibration_error": expected_calibration_error(positive, probability),
        "errors": int((truth != predicted).sum()),
        "test_images": len(truth),
    }


def _auroc(predictions, truth, classes, minority):
    """Area under the ROC curve; with more than two classes the mean of each class against the rest."""
    if len(classes) == 2:
        return float(sk.roc_auc_score(truth == minority, predictions["probability"]))
    return float(np.mean([sk.roc_auc_score(truth == name, predictions[f"probability_{name}"]) for name in classes]))


def expected_calibration_error(positive, probability, num_bins=10):
    """Mean gap between predicted probability and observed share over equal-width bins (Naeini et al. 2015), 0 to 1.

    Args:
        positive: `bool (N,)`.
        probability: `float (N,)` of being positive.
    """
    bins = np.minimum((probability * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=probability - positive, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(positive))


def before_after_table(before, after):
    """The two models' metrics and their difference, a row each: numbers, for a CSV."""
    rows = []
    for name in METRIC_NAMES:
        difference = None if before[name] is None or after[name] is None else after[name] - before[name]
        rows.append({"metric": name, "before": before[name], "after": after[name], "difference": difference})
    return pd.DataFrame(rows)


def readable(table):
    """`before_after_table` (or its CSV) as a reader wants it: names in words, three decimals, "undefined" for what is."""
    shown = pd.DataFrame({"metric": [METRIC_NAMES[name] for name in table["metric"]]})
    for column in table.columns[1:]:
        sign = "+" if column == "difference" else ""
        shown[column] = [number(name, value, sign) for name, value in zip(table["metric"], table[column], strict=True)]
    return shown.set_index("metric").rename_axis(None)


def readable_metrics(metrics_by_model):
    """{model: metrics} as a reader wants it, a column a model."""
    columns = {model: [number(name, values[name]) for name in METRIC_NAMES] for model, values in metrics_by_model.items()}
    return pd.DataFrame(columns, index=list(METRIC_NAMES.values()))


def number(name, value, sign=""):
    """One metric as text: three decimals, counts whole, "undefined" for None; `sign` "+" shows the sign."""
    if value is None or pd.isna(value):
        return "undefined"
    return f"{int(value):{sign}d}" if name in ("errors", "test_images") else f"{value:{sign}.3f}"


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


def balanced_difference(first, second, labels, groups=None):
    """Balanced accuracy of the second arm less that of the first, with an interval over training seeds *and* test images.

    Both arms are trained with the same S seeds and judge the same N images. The difference is the mean over classes of the mean
    over their images; each image of each seed adds 1 where only the second arm is right, −1 where only the first is. Its variance has
    three parts: seeds differ, images differ, and the rest. With A the variance of the seeds' differences over S, B the same of the images'
    (averaged over seeds) by class, and R the rest's share, which A and B both hold, it is A + B − R (two-way random effects without
    replication; Searle, Casella and McCulloch 1992, chapter 4); degrees of freedom as Satterthwaite 1946. The interval is conditional on the split.
    Images of one group, a patient's say, are mended and broken together: the variance is that of the groups' sums (Cochran 1977, section 9A.1).

    A test set in which the arms differ on no image says little if it's small: B is at least what one image mended and one
    broken, half each, in each class would give (Agresti and Min 2005).

    Args:
        first, second: `bool (S, N)`, whether each seed's model is right about each image.
        labels: `(N,)`, the class of each image.
        groups: `(N,)`, equal for images that belong together; None where each stands alone.

    Returns:
        dict: `difference`, `low`, `high`, `p_value` (of no difference), `p_equivalent` (of one beyond the margin),
        `smallest_seen` (the difference that such a study finds with probability 0.8), `seeds`, `images`. With fewer than
        `FEWEST_SEEDS` seeds all but the difference and the counts are None: so few trainings say nothing about a method.

    Raises:
        ValueError: the arms have other shapes, or a class has fewer than two images or groups.
    """
    first, second, labels = np.asarray(first, float), np.asarray(second, float), np.asarray(labels)
    if first.shape != second.shape or first.shape[1:] != labels.shape:
        raise ValueError(f"both arms need the same seeds and images; got {first.shape}, {second.shape} and {labels.shape}.")
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2:
        raise ValueError(f"class {classes[sizes.argmin()]} has one test image; an interval needs two of each class.")
    num_seeds, by_class = len(first), [(second - first)[:, labels == name] for name in classes]
    of_seeds = np.mean([here.mean(axis=1) for here in by_class], axis=0)
    found = {"difference": float(of_seeds.mean()), "seeds": num_seeds, "images": len(labels)}
    if num_seeds < FEWEST_SEEDS:
        return found | dict.fromkeys(("low", "high", "p_value", "p_equivalent", "smallest_seen"))
    of_images, of_rest, freedom = 0.0, 0.0, 0
    for name, here in zip(classes, by_class, strict=True):
        sums = (here - here.mean(axis=1, keepdims=True)) / here.shape[1]
        if groups is not None:
            sums = _sums_by_group(sums, np.asarray(groups)[labels == name])
        count = sums.shape[1]
        if count < 2:
            raise ValueError(f"all test images of class {name} are of one group; an interval needs two of each class.")
        freedom += count - 1
        correction = count / (count - 1) / len(classes) ** 2
        of_images += max((sums.mean(axis=0) ** 2).sum() * correction, 1 / (count + 2) ** 2 / len(classes) ** 2)
        of_rest += ((sums - sums.mean(axis=0)) ** 2).sum() * correction / (num_seeds * (num_seeds - 1))
    return found | _interval(found["difference"], of_seeds.var(ddof=1) / num_seeds, of_images, of_rest, num_seeds, freedom)


def _sums_by_group(values, groups):
    """`float (S, G)`: the sum of each row's values `(S, N)` by group."""
    names, place = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(values), len(names)))
    np.add.at(sums, (slice(None), place), values)
    return sums


def judged_difference(first, second, labels, groups=None):
    """`balanced_difference` and its `outcome`, for a contrast that stands alone: nothing is adjusted."""
    found = balanced_difference(first, second, labels, groups)
    return found | {"outcome": outcome(found["difference"], found["p_value"], found["p_equivalent"])}


def _interval(difference, of_seeds, of_images, of_rest, num_seeds, image_freedom):
    """The t interval of A + B − R. Cut off at B alone it would be too wide where seeds hardly differ: 0.9 B holds its coverage there."""
    variance = max(of_seeds + of_images - of_rest, 0.9 * of_images)
    uncertain = of_images**2 / image_freedom + of_rest**2 / ((num_seeds - 1) * image_freedom)
    if of_seeds > of_rest:
        uncertain += of_seeds**2 / (num_seeds - 1)
    distribution, error = stats.t(variance**2 / uncertain), np.sqrt(variance)
    half = distribution.ppf((1 + CONFIDENCE) / 2) * error
    beyond = distribution.cdf((abs(difference) - MARGIN) / error)
    return {
        "low": float(difference - half),
        "high": float(difference + half),
        "p_value": float(2 * distribution.sf(abs(difference) / error)),
        "p_equivalent": float(min(1, 2 * beyond)),
        "smallest_seen": float(half + distribution.ppf(0.8) * error),
    }


def holm(p_values):
    """p-values adjusted for their number (Holm 1979); None stays None and isn't counted."""
    adjusted, floor = list(p_values), 0.0
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    for rank, (value, place) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * value))
        adjusted[place] = floor
    return adjusted


def outcome(difference, p_value, p_equivalent):
    """One of four words. Equivalent comes first: a difference surely smaller than the margin is of no interest, even if it isn't 0."""
    if p_value is None:
        return INCONCLUSIVE
    if p_equivalent <= 1 - CONFIDENCE:
        return EQUIVALENT
    if p_value <= 1 - CONFIDENCE:
        return BETTER if difference > 0 else WORSE
    return INCONCLUSIVE


def contrasts(arm_names):
    """The pairs (first, second) that are compared, the primary one foremost: the GAN against every remedy, every remedy against nothing."""
    others = [(name, "gan") for name in arm_names if name not in ("gan", "oversampling")]
    others += [("nothing", name) for name in arm_names if name not in ("nothing", "gan")]
    return [pair for pair in [PRIMARY, *others] if set(pair) <= set(arm_names)]


def verdict(right, labels, groups):
    """Every contrast of every setting, with its interval and outcome.

    Primary is the GAN against oversampling in the setting with most classes; all others are adjusted together by Holm's method.

    Args:
        right: {setting: {arm: `bool (S, N)`}}, the setting with most classes last.
        labels, groups: {setting: `(N,)`}, the images' classes and which of them belong together.

    Returns:
        DataFrame: setting, first, second, primary, what `balanced_difference` gives, `p_holm`, `outcome`.
    """
    rows = []
    for setting, arms in right.items():
        for first, second in contrasts(list(arms)):
            row = {"setting": setting, "first": first, "second": second}
            rows.append(row | balanced_difference(arms[first], arms[second], labels[setting], groups[setting]))
    last = next(reversed(right), None)
    primary = [(row["setting"], row["first"], row["second"]) == (last, *PRIMARY) for row in rows]
    adjusted = {}
    for key in ("p_value", "p_equivalent"):
        others = iter(holm([row[key] for row, is_primary in zip(rows, primary, strict=True) if not is_primary]))
        adjusted[key] = [row[key] if is_primary else next(others) for row, is_primary in zip(rows, primary, strict=True)]
    for row, is_primary, p_value, p_equivalent in zip(rows, primary, *adjusted.values(), strict=True):
        row |= {"primary": is_primary, "p_holm": p_value, "outcome": outcome(row["difference"], p_value, p_equivalent)}
    return pd.DataFrame(rows)
