"""What a remedy is worth in real images, on simulated curves whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from xraygan.comparison import exchange

NUMBERS = [25, 50, 115, 230, 460, 1000]
CURVE = dict(zip(NUMBERS, [0.897, 0.94, 0.979, 0.987, 0.991, 0.994], strict=True))
SPREAD = dict(zip(NUMBERS, [0.02, 0.012, 0.004, 0.002, 0.0015, 0.001], strict=True))
CURVE_REPLICATES = 12  # that have all numbers


def true_worth(score, num_real):
    return np.exp(np.interp(score, list(CURVE.values()), np.log(NUMBERS))) - num_real


def simulate(rng, num_real, score, replicates, shared=0.5):
    """Trainings of one arm and those of the curve; a replicate lifts all of its own by `shared` of the standard deviation."""
    lifts = rng.normal(0, np.sqrt(shared), 24)

    def draw(number, mean, count):
        return mean + SPREAD[number] * (lifts[:count] + rng.normal(0, np.sqrt(1 - shared), count))

    curve = [
        {"num_real": number, "seed": seed, "auroc": value}
        for number in NUMBERS
        for seed, value in enumerate(draw(number, CURVE[number], max(CURVE_REPLICATES, replicates * (number == num_real))))
    ]
    arm = {"num_real": num_real, "arm": "gan", "seed": range(replicates), "auroc": draw(num_real, score, replicates)}
    return pd.DataFrame(arm), pd.DataFrame(curve)


@pytest.mark.parametrize(
    ("num_real", "score", "replicates", "shared", "off"),
    [
        (25, 0.945, 24, 0.5, 2),
        (25, 0.945, 6, 0, 3),  # so few replicates that nothing joins: their spread, seen on a curved scale, lifts the mean by 2
        (115, 0.981, 10, 0.8, 2),
        (115, 0.975, 10, 0, 2),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(num_real, score, replicates, shared, off, rng, monkeypatch):
    monkeypatch.setattr(exchange, "NUM_DRAWS", 500)
    truth, held, found = true_worth(score, num_real), [], []
    for study in range(300):
        row = exchange.tabulate_worth(*simulate(rng, num_real, score, replicates, shared), seed=study).iloc[0]
        held.append(row["worth_low"] <= truth <= row["worth_high"])
        found.append(row["worth"])
    assert 0.92 <= np.mean(held) <= 0.99
    assert np.mean(found) == pytest.approx(truth, abs=off)


def test_the_curve_is_made_monotone_as_scikit_learn_does(rng):
    levels = rng.normal(size=(20, 6))
    expected = [IsotonicRegression().fit_transform(range(6), row) for row in levels]
    np.testing.assert_allclose(exchange._make_monotone(levels), expected)


@pytest.mark.parametrize(
    ("score", "expected", "beyond"),
    [(0.90, 25, ""), (0.95, 50, ""), (0.925, np.sqrt(25 * 50), ""), (0.80, 25, "below"), (0.999, 100, "above")],
)
def test_a_score_is_looked_up_on_the_curve(score, expected, beyond):
    """By hand: at a point of the curve its number, halfway between two points the middle of their logarithms, outside the curve its end."""
    curve = pd.DataFrame({"num_real": [25, 50, 100], "seed": 0, "auroc": [0.90, 0.95, 0.97]})
    arm = pd.DataFrame({"num_real": [25], "arm": "gan", "seed": 0, "auroc": [score]})
    row = exchange.tabulate_worth(arm, curve).iloc[0]
    assert row["worth"] == pytest.approx(expected - 25, abs=1e-6)
    assert row["beyond"] == beyond
    assert np.isnan(row["worth_low"]), "one replicate has no interval"


@pytest.mark.parametrize(("middle", "level"), [([0.98, 0.97, 0.975], 0.9725), ([0.90, 0.91, 0.905], 0.9075)])
def test_nothing_added_is_worth_exactly_nothing_where_the_curve_falls_too(middle, level):
    """At 115 images the raw mean lies above that of 230, or below that of 25: the curve is level there, in some draws too."""
    scores = {25: [0.90, 0.91, 0.92], 115: middle, 230: [0.97, 0.965, 0.975], 1000: [0.99, 0.985, 0.98]}
    curve = pd.DataFrame([(number, seed, value) for number, of in scores.items() for seed, value in enumerate(of)])
    curve.columns = ["num_real", "seed", "auroc"]
    worth = exchange.tabulate_worth(curve.assign(arm="nothing"), curve).set_index("num_real")
    assert worth.loc[[25, 115, 230, 1000], ["worth", "worth_low", "worth_high"]].to_numpy().tolist() == [[0, 0, 0]] * 4
    assert exchange.fit_curve(curve).is_monotonic_increasing and exchange.fit_curve(curve)[115] == pytest.approx(level)


def test_points_of_the_curve_are_of_the_same_replicates():
    """Replicate 2 has easy patients and no second number: it must not make the curve flatter."""
    curve = pd.DataFrame({"num_real": [25, 50, 25, 50, 25], "seed": [0, 0, 1, 1, 2], "auroc": [0.8, 0.9, 0.82, 0.92, 0.99]})
    assert exchange.fit_curve(curve).to_dict() == pytest.approx({25: 0.81, 50: 0.91})
    arm = pd.DataFrame({"num_real": 25, "arm": "gan", "seed": [0, 1, 2], "auroc": [0.85, 0.87, 1.04]})  # 0.05 better in each
    row = exchange.tabulate_worth(arm, curve).iloc[0]
    assert row["worth"] == pytest.approx(np.sqrt(25 * 50) - 25, abs=1e-6)
    assert (row["score"], row["level"]) == pytest.approx((0.92, 0.86)), "the level is the curve's and the advantage"


def test_means_vary_together_as_far_as_they_share_replicates(rng):
    """Against many simulated studies: twelve replicates with both of the curve's points, and twelve more with the advantage alone."""
    lift, own = rng.normal(0, 1, (4000, 24)), rng.normal(0, 1, (4000, 24))
    means = np.stack([lift[:, :12].mean(axis=1), lift[:, :12].mean(axis=1), (lift + own).mean(axis=1)], axis=1)
    points = pd.DataFrame(np.stack([lift[0, :12]] * 2, axis=1))
    drawn = [
        exchange._draw_means(pd.DataFrame(np.stack([of[:12]] * 2, axis=1)), pd.Series(of + more), rng)
        for of, more in zip(lift[:60], own[:60], strict=True)
    ]
    within = [np.cov((of - of.mean(axis=0)).T) * 9 / 11 for of in drawn]  # t of 11 degrees of freedom has a variance of 11/9
    np.testing.assert_allclose(np.mean(within, axis=0), np.cov(means.T), rtol=0.25)
    assert exchange._draw_means(points[:2], pd.Series([0.0, 1.0, 2.0]), rng) is None
