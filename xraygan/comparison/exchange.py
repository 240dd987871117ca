"""What a remedy is worth in real images: how many real images without it give the same score.

The learning curve says which score a classifier reaches with so many real images and nothing added. Where a remedy at n real images
reaches the level that the curve has at m real images, it is worth m − n further ones.
"""

import numpy as np
import pandas as pd

NUM_DRAWS = 4000
COLUMNS = ["num_real", "arm", "replicates", "score", "score_low", "score_high", "worth", "worth_low", "worth_high", "beyond"]


def tabulate_worth(trainings, curve, seed=0):
    """What each arm at each number of real images is worth, by AUROC.

    The arm's advantage over "nothing" in the same replicates is added to the learning curve at that number, and the curve is read where
    it has this level. So "nothing" is worth exactly nothing, also where the curve had to be made monotone. The interval is a parametric
    bootstrap: the means of "nothing" and of the arm are drawn together from the t distribution that their replicates give them, all other
    points of the curve from theirs, the curve is made monotone again and read again. Shown by simulation to hold the truth in 93 or more
    of 100 (tests/test_exchange.py).

    Args:
        trainings: DataFrame with columns num_real, arm, seed (of the replicate) and auroc, a row a training.
        curve: the same of the arm "nothing" alone, at two or more numbers of real images, those of `trainings` among them.
        seed: of the bootstrap.

    Returns:
        DataFrame, a row an arm and number of real images: num_real, arm, replicates, score (mean), score_low, score_high, worth (real
        images beyond num_real), worth_low, worth_high, and beyond: "" or whether the level lies "below" or "above" the curve, so that
        the worth is that of the curve's end. Intervals are of 95 %, NaN with fewer than 3 replicates of an arm or of a point of the curve.
    """
    rng = np.random.default_rng(seed)
    points = {number: rows["auroc"].to_numpy(float) for number, rows in curve.groupby("num_real")}
    drawn_points = {number: _draw_means([scores], rng) for number, scores in points.items()}
    nothing = curve.set_index(["num_real", "seed"])["auroc"]
    table = []
    for (num_real, arm), rows in trainings.groupby(["num_real", "arm"], sort=False):
        scores = rows["auroc"].to_numpy(float)
        paired = nothing[[(num_real, replicate) for replicate in rows["seed"]]].to_numpy(float)
        drawn = _draw_means([paired, scores], rng)
        weights = {number: len(replicates) for number, replicates in (points | {num_real: paired}).items()}
        table.append(
            {"num_real": num_real, "arm": arm, "replicates": len(scores), "score": scores.mean()}
            | _find_worth(points, weights, num_real, paired, scores)
            | _find_intervals(drawn_points, weights, num_real, drawn)
        )
    return pd.DataFrame(table, columns=COLUMNS)


def _find_worth(points, weights, num_real, paired, scores):
    """What one arm at one number is worth, and whether that lies beyond the curve; `paired` are the scores of "nothing" in its replicates."""
    means = np.array([[replicates.mean() for replicates in (points | {num_real: paired}).values()]])
    levels, wanted = _add_advantage(means, weights, num_real, scores.mean() - paired.mean())
    beyond = "below" if wanted[0] < levels[0, 0] else "above" if wanted[0] > levels[0, -1] else ""
    return {"worth": read_curve(list(weights), levels, wanted)[0] - num_real, "beyond": beyond}


def _find_intervals(drawn_points, weights, num_real, drawn):
    """The 95 % intervals of the arm's score and worth, from drawn means of the curve's points and of ("nothing", arm), or {}."""
    if drawn is None or any(means is None for means in drawn_points.values()):
        return {}
    means = np.hstack(list((drawn_points | {num_real: drawn[:, :1]}).values()))
    curves = _add_advantage(means, weights, num_real, drawn[:, 1] - drawn[:, 0])
    low, high = np.quantile(read_curve(list(weights), *curves) - num_real, [0.025, 0.975])
    score_low, score_high = np.quantile(drawn[:, 1], [0.025, 0.975])
    return {"score_low": score_low, "score_high": score_high, "worth_low": low, "worth_high": high}


def _draw_means(scores, rng):
    """What the means of A arms may be: `float (NUM_DRAWS, A)`, by the t distribution of their R common replicates; None for fewer than three.

    `scores` is A lists of R scores.
    """
    scores = np.array(scores)
    freedom = scores.shape[1] - 1
    if freedom < 2:
        return None
    covariance = np.atleast_2d(np.cov(scores)) / (freedom + 1)
    normal = rng.multivariate_normal(np.zeros(len(scores)), covariance, NUM_DRAWS, method="svd")
    return scores.mean(axis=1) + normal / np.sqrt(rng.chisquare(freedom, (NUM_DRAWS, 1)) / freedom)


def _add_advantage(means, weights, num_real, advantage):
    """D learning curves `float (D, P)`, made monotone, and on each the level at `num_real` plus an advantage, `float (D,)`.

    Args:
        means: `float (D, P)`, the points' mean scores.
        weights: {number of real images: how many scores that point rests on}, P of them, in the order of `means`.
        num_real: one of these numbers.
        advantage: `float (D,)` or a number, in AUROC.
    """
    levels = _make_monotone(means, np.array(list(weights.values())))
    return levels, levels[:, list(weights).index(num_real)] + advantage


def fit_curve(curve):
    """The learning curve as worth is read from it: Series of the monotone mean AUROC, by number of real images; `curve` as above."""
    points = curve.groupby("num_real")["auroc"]
    means, counts = points.mean(), points.size()
    return pd.Series(_make_monotone(means.to_numpy()[None], counts.to_numpy())[0], index=means.index)


def read_curve(numbers, levels, wanted):
    """At how many real images monotone learning curves reach a level.

    Args:
        numbers: P numbers of real images, in ascending order.
        levels: `float (D, P)`, D curves that never fall.
        wanted: `float (D,)`, the level that is looked up on each.

    Returns:
        `float (D,)`, from the first number to the last. Between points, a curve is straight over the number's logarithm.
    """
    logarithms = np.log(numbers)
    rising = levels + 1e-12 * np.arange(len(numbers))  # where a curve is flat, its smallest number counts
    found = [np.interp(value, level, logarithms) for value, level in zip(wanted, rising, strict=True)]
    return np.round(np.exp(found), 6)  # so that the curve's ends are whole numbers


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
