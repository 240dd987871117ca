"""What a remedy is worth in real images, on simulated curves whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from xraygan.comparison import exchange

NUMBERS = [25, 50, 115, 230, 460, 1000]
CURVE = dict(zip(NUMBERS, [0.897, 0.94, 0.979, 0.987, 0.991, 0.994], strict=True))
SPREAD = dict(zip(NUMBERS, [0.02, 0.012, 0.004, 0.002, 0.0015, 0.001], strict=True))
REPLICATES = dict(zip(NUMBERS, [24, 6, 10, 6, 6, 6], strict=True))


def true_worth(score, num_real):
    return np.exp(np.interp(score, list(CURVE.values()), np.log(NUMBERS))) - num_real


def simulate(rng, num_real, score, replicates):
    """Trainings of one arm and those of the curve."""
    curve = [
        {"num_real": number, "auroc": v}
        for number in NUMBERS
        for v in rng.normal(CURVE[number], SPREAD[number], REPLICATES[number])
    ]
    arm = pd.DataFrame({"num_real": num_real, "arm": "gan", "auroc": rng.normal(score, SPREAD[num_real], replicates)})
    return arm, pd.DataFrame(curve)


@pytest.mark.parametrize(
    ("num_real", "score", "replicates"), [(25, 0.945, 24), (25, 0.945, 6), (115, 0.981, 10), (115, 0.975, 10)]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(num_real, score, replicates, rng, monkeypatch):
    monkeypatch.setattr(exchange, "NUM_DRAWS", 500)
    truth, held, found = true_worth(score, num_real), [], []
    for study in range(300):
        row = exchange.tabulate_worth(*simulate(rng, num_real, score, replicates), seed=study).iloc[0]
        held.append(row["worth_low"] <= truth <= row["worth_high"])
        found.append(row["worth"])
    assert 0.92 <= np.mean(held) <= 0.99
    assert np.mean(found) == pytest.approx(truth, abs=2)


def test_the_curve_is_made_monotone_as_scikit_learn_does(rng):
    levels, weights = rng.normal(size=(20, 6)), rng.integers(1, 9, 6)
    expected = [IsotonicRegression().fit_transform(range(6), row, sample_weight=weights) for row in levels]
    np.testing.assert_allclose(exchange._make_monotone(levels, weights), expected)


@pytest.mark.parametrize(
    ("score", "expected", "beyond"),
    [(0.90, 25, ""), (0.95, 50, ""), (0.925, np.sqrt(25 * 50), ""), (0.80, 25, "below"), (0.999, 100, "above")],
)
def test_a_score_is_looked_up_on_the_curve(score, expected, beyond):
    """By hand: at a point of the curve its number, halfway between two points the middle of their logarithms, outside the curve its end."""
    curve = pd.DataFrame({"num_real": [25, 50, 100], "auroc": [0.90, 0.95, 0.97]})
    arm = pd.DataFrame({"num_real": [25], "arm": "gan", "auroc": [score]})
    row = exchange.tabulate_worth(arm, curve).iloc[0]
    assert row["worth"] == pytest.approx(expected - 25, abs=1e-6)
    assert row["beyond"] == beyond or score == 0.90
    assert np.isnan(row["worth_low"]), "one replicate has no interval"


def test_nothing_added_is_worth_nothing(rng):
    _, curve = simulate(rng, 25, 0.9, 24)
    nothing = curve.assign(arm="nothing")
    worth = exchange.tabulate_worth(nothing, curve).set_index("num_real")
    assert np.abs(worth.loc[[25, 115], "worth"]).max() < 1e-6
    assert (worth["worth_low"] <= 1e-6).all() and (worth["worth_high"] >= -1e-6).all()
