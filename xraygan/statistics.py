"""Metrics of a table of predictions, and the comparison of two such tables on the same test images.

Positive is the minority class. With more than two classes, sensitivity, specificity, average precision, MCC of the positive
class against the rest, Brier score and calibration are of positive against the rest; balanced accuracy and AUROC are macro.
A metric that can't be computed (one class missing) is None and shown as "undefined", never NaN.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn import metrics as sk

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
    p_value = float(binomtest(mended, mended + broken).pvalue) if mended + broken else 1.0
    return {"mended": mended, "broken": broken, "test_images": len(before), "p_value": p_value}
