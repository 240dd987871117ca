"""Metrics against scikit-learn and by hand; the paired test against the binomial distribution."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from xraygan.comparison import metrics
from xraygan.report import findings

BALANCED = ("balanced_accuracy", "balanced_accuracy_of_likeliest")


def binary_table(labels, probabilities):
    probabilities = np.asarray(probabilities, dtype=float)
    return pd.DataFrame(
        {
            "file": [f"{index}.png" for index in range(len(labels))],
            "label": labels,
            "prediction": np.where(probabilities >= 0.5, "sick", "well"),
            "likeliest": np.where(probabilities >= 0.5, "sick", "well"),
            "probability": probabilities,
        }
    )


def score(labels, probabilities):
    return metrics.compute_metrics(binary_table(labels, probabilities), ("well", "sick"), "sick")


def test_two_classes_agree_with_scikit_learn(rng):
    labels = np.where(rng.random(300) < 0.3, "sick", "well")
    probabilities = np.clip(0.3 * (labels == "sick") + rng.random(300) * 0.7, 0, 1).round(2)  # ties on purpose
    table = binary_table(labels, probabilities)
    truth, called = (labels == "sick").astype(int), (table["prediction"] == "sick").astype(int)
    found = score(labels, probabilities)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, called))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, called))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(truth, called))
    assert found["specificity"] == pytest.approx(sk.recall_score(truth, called, pos_label=0))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, probabilities))
    assert found["auprc"] == pytest.approx(sk.average_precision_score(truth, probabilities))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, called))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, probabilities))
    assert found["errors"] == (truth != called).sum()
    assert found["test_images"] == 300


def test_three_classes_agree_with_scikit_learn(rng):
    classes = ("a", "b", "c")
    labels = rng.integers(0, 3, 200)
    outputs = rng.dirichlet([1, 1, 1], 200) * 0.6 + 0.4 * np.eye(3)[labels]
    names = np.array(classes)
    table = pd.DataFrame({"label": names[labels], "prediction": names[outputs.argmax(1)], "probability": outputs[:, 1]})
    table["likeliest"] = table["prediction"]
    for index, name in enumerate(classes):
        table[f"probability_{name}"] = outputs[:, index]
    found = metrics.compute_metrics(table, classes, "b")
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, outputs, multi_class="ovr", average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(sk.recall_score(labels, outputs.argmax(1), average="macro"))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(labels, outputs.argmax(1), labels=[1], average="macro"))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels == 1, outputs.argmax(1) == 1))


def test_calibration_error_against_scikit_learns_curve(rng):
    probabilities = rng.random(2000)
    positive = rng.random(2000) < probabilities**2
    observed, predicted = calibration_curve(positive, probabilities, n_bins=10)
    shares = np.histogram(probabilities, bins=10, range=(0, 1))[0] / 2000
    expected = np.sum(shares * np.abs(observed - predicted))
    assert metrics.expected_calibration_error(positive, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "probabilities", "undefined"),
    [
        (["well"] * 4, [0.1, 0.2, 0.6, 0.3], {*BALANCED, "sensitivity", "auroc", "auprc", "mcc"}),
        (["sick"] * 4, [0.1, 0.2, 0.6, 0.3], {*BALANCED, "specificity", "auroc", "auprc", "mcc"}),
        (["well", "sick"] * 2, [0.1] * 4, {"mcc"}),
    ],
    ids=["no positives", "no negatives", "all one prediction"],
)
def test_what_cannot_be_computed_is_called_undefined(labels, probabilities, undefined):
    found = score(labels, probabilities)
    assert {name for name, value in found.items() if value is None} == undefined
    json.dumps(found, allow_nan=False)
    table = metrics.compare_before_after(found, score(["well", "sick"] * 2, [0.1, 0.9, 0.2, 0.8]))
    shown = metrics.format_before_after(table).to_string()
    assert "undefined" in shown
    assert "nan" not in shown.lower()


def test_table_reads_the_same_from_disk(tmp_path):
    found = score(["well", "sick", "sick"], [0.1, 0.9, 0.2])
    table = metrics.compare_before_after(found, score(["well", "sick", "sick"], [0.1, 0.9, 0.8]))
    table.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(
        metrics.format_before_after(pd.read_csv(tmp_path / "t.csv")), metrics.format_before_after(table)
    )
    assert metrics.format_before_after(table).loc["errors"].tolist() == ["1", "0", "-1"]
    assert metrics.format_before_after(table).loc["sensitivity"].tolist() == ["0.500", "1.000", "+0.500"]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(mended, broken, unchanged):
    labels = ["sick"] * (mended + broken + unchanged)
    if not labels:
        return
    before = binary_table(labels, [0.1] * mended + [0.9] * broken + [0.9] * unchanged)
    after = binary_table(labels, [0.9] * mended + [0.1] * broken + [0.9] * unchanged)
    found = metrics.exact_mcnemar(before, after)
    tail = binom.cdf(min(mended, broken), mended + broken, 0.5)
    assert (found["mended"], found["broken"]) == (mended, broken)
    assert found["p_value"] == pytest.approx(min(1, 2 * tail))


def test_the_studys_own_difference_is_no_evidence():
    """424 and 427 right of 433: at best 3 mended and none broken."""
    labels = ["sick"] * 433
    before = binary_table(labels, [0.1] * 9 + [0.9] * 424)
    after = binary_table(labels, [0.9] * 3 + [0.1] * 6 + [0.9] * 424)
    found = metrics.exact_mcnemar(before, after)
    assert found["p_value"] == pytest.approx(0.25)
    assert "Chance alone easily produces such a difference" in findings.describe_one_run(found)
    assert "Of 433 test images, 3 that the model was wrong about before became right" in findings.describe_one_run(found)


def test_other_test_images_are_refused():
    one, two = binary_table(["sick"] * 2, [0.1, 0.9]), binary_table(["sick"] * 2, [0.1, 0.9])
    two["file"] = ["x", "y"]
    with pytest.raises(ValueError, match="different test images"):
        metrics.exact_mcnemar(one, two)
