"""What a remedy is worth in real images: how many real images without it give the same score.

The learning curve says which score a classifier reaches with so many real images and nothing added. A remedy at n real images reaches a
score that the curve has at m real images: then it is worth m − n further ones.
"""

import numpy as np
import pandas as pd
from scipy import stats

NUM_DRAWS = 4000


def tabulate_worth(trainings, curve, metric="auroc", seed=0):
    """What each arm at each number of real images is worth.

    The interval is a parametric bootstrap: each mean is drawn from the t distribution that its replicates give it, the curve is made
    monotone again, and the worth is read off again. Shown by simulation to hold the truth in 93 or more of 100 (tests/test_exchange.py).

    Args:
        trainings: DataFrame with columns num_real, arm and the metric, a row a replicate.
        curve: the same of the arm "nothing" alone, at two or more numbers of real images.
        metric: a column.
        seed: of the bootstrap.

    Returns:
        DataFrame, a row an arm and number of real images: num_real, arm, replicates, score (mean), score_low, score_high, worth (real
        images beyond num_real), worth_low, worth_high, and beyond: "" or whether the score itself lies "below" or "above" the curve, so that
        the worth is that of the curve's end. Intervals are of 95 %, NaN with fewer than 3 replicates of an arm or of a point of the curve.
    """
    rng = np.random.default_rng(seed)
    points = {number: of[metric].to_numpy(float) for number, of in curve.groupby("num_real")}
    drawn_points = [_draw_means(scores, rng) for scores in points.values()]
    rows = []
    for (num_real, arm), of in trainings.groupby(["num_real", "arm"], sort=False):
        scores = of[metric].to_numpy(float)
        drawn = _draw_means(scores, rng)
        read = read_curve(points, [scores.mean()] + [of.mean() for of in points.values()])
        if drawn is None or any(of is None for of in drawn_points):
            low = high = score_low = score_high = np.nan
        else:
            draws = read_curve(points, np.stack([drawn, *drawn_points], axis=1))
            low, high = np.quantile(draws, [0.025, 0.975]) - num_real
            score_low, score_high = np.quantile(drawn, [0.025, 0.975])
        rows.append(
            {"num_real": num_real, "arm": arm, "replicates": len(scores)}
            | {"score": scores.mean(), "score_low": score_low, "score_high": score_high}
            | {"worth": float(read) - num_real, "worth_low": low, "worth_high": high}
            | {"beyond": {min(points): "below", max(points): "above"}.get(float(read), "")}
        )
    return pd.DataFrame(rows)


def _draw_means(scores, rng):
    """`float (NUM_DRAWS,)`: what the mean may be, by the t distribution of its replicates; None for fewer than three."""
    if len(scores) < 3:
        return None
    return scores.mean() + stats.sem(scores) * rng.standard_t(len(scores) - 1, NUM_DRAWS)


def read_curve(points, values):
    """At how many real images a monotone learning curve reaches a score.

    Args:
        points: {number of real images: its scores}, in ascending order; how many scores there are weighs a point where the curve
            has to be made monotone.
        values: `float (…, 1 + P)`: the score that is looked up, and the mean at each of the P points.

    Returns:
        `float (…)`, from the curve's first number to its last. Between points, the curve is straight over the number's logarithm.
    """
    values, numbers = np.atleast_2d(values), np.log(list(points))
    levels = _make_monotone(values[:, 1:], np.array([len(scores) for scores in points.values()]))
    levels = levels + 1e-12 * np.arange(levels.shape[1])  # where the curve is flat, its smallest number counts
    found = [np.interp(value, level, numbers) for value, level in zip(values[:, 0], levels, strict=True)]
    return np.exp(found).squeeze() if len(found) > 1 else np.round(np.exp(found[0]), 9)


def _make_monotone(levels, weights):
    """Isotonic regression of each row (Barlow et al. 1972, the max-min formula): `float (…, P)`, never falling."""
    size = levels.shape[1]
    sums = np.concatenate([np.zeros((len(levels), 1)), np.cumsum(levels * weights, axis=1)], axis=1)
    counts = np.concatenate([[0], np.cumsum(weights)])
    means = np.full((len(levels), size, size), np.inf)  # of the points from the first index to the second
    for first in range(size):
        for last in range(first, size):
            means[:, first, last] = (sums[:, last + 1] - sums[:, first]) / (counts[last + 1] - counts[first])
    return np.stack([means[:, : place + 1, place:].min(axis=2).max(axis=1) for place in range(size)], axis=1)
