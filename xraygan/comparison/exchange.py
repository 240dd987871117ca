"""What a remedy is worth in real images: how many real images without it give the same score.

The learning curve says which score a classifier reaches with so many real images and nothing added. Where a remedy at n real images
reaches the level that the curve has at m real images, it is worth m − n further ones.
"""

import numpy as np
import pandas as pd

NUM_DRAWS = 4000
COLUMNS = ["num_real", "arm", "replicates", "score", "level", "worth", "worth_low", "worth_high", "beyond"]


def tabulate_worth(trainings, curve, seed=0):
    """What each arm at each number of real images is worth, by AUROC.

    The curve is that of the replicates that have all its numbers, so that no two of its points are of other patients (`pair_curve`). The arm's
    advantage over "nothing" in the same replicates is added to the curve's level at the arm's number, and the curve is read where it has
    this level. So "nothing" is worth exactly nothing, also where the curve had to be made monotone. The interval is a parametric
    bootstrap: the means of the curve's points and of the advantage are drawn together from the t distribution that their replicates give
    them, and each curve drawn is made monotone and read again. Shown by simulation to hold the truth in 93 or more of 100 where scores are
    about normal (tests/test_exchange.py), and in fewer where they are skewed, because some trainings fail.

    Args:
        trainings: DataFrame with columns num_real, arm, seed (of the replicate) and auroc, a row a training.
        curve: the same of the arm "nothing" alone, at two or more numbers of real images, those of `trainings` among them.
        seed: of the bootstrap.

    Returns:
        DataFrame, a row an arm and number of real images: num_real, arm, replicates, score (mean), level (that of the curve at num_real
        and the arm's advantage), worth (real images beyond num_real), worth_low, worth_high, and beyond: "" or whether the level lies
        "below" or "above" the curve, so that the worth is that of the curve's end. Intervals are of 95 %, NaN with fewer than 3
        replicates of an arm or of the curve.
    """
    rng = np.random.default_rng(seed)
    points, nothing = pair_curve(curve), curve.set_index(["num_real", "seed"])["auroc"]
    table = []
    for (num_real, arm), rows in trainings.groupby(["num_real", "arm"], sort=False):
        scores = rows.set_index("seed")["auroc"]
        row = {"num_real": num_real, "arm": arm, "replicates": len(scores), "score": scores.mean()}
        table.append(row | _find_worth(points, num_real, scores - nothing[num_real], rng))
    return pd.DataFrame(table, columns=COLUMNS)


def pair_curve(curve):
    """The trainings of the learning curve by replicate (rows) and number of real images (columns): the replicates that have all numbers.

    Were each point the mean of all its replicates, two points would differ by their patients, too.
    """
    return curve.pivot_table(index="seed", columns="num_real", values="auroc").dropna()


def fit_curve(curve):
    """The learning curve as worth is read from it: Series of the monotone mean AUROC, by number of real images; `curve` as above."""
    means = pair_curve(curve).mean()
    return pd.Series(_make_monotone(means.to_numpy()[None])[0], index=means.index)


def _find_worth(points, num_real, advantages, rng):
    """What an arm is worth, whether that lies beyond the curve, and the 95 % interval where there are replicates enough.

    Args:
        points: of `pair_curve`.
        num_real: the arm's number of real images, one of the curve's.
        advantages: Series by seed, the arm's score less that of "nothing".
        rng: draws the bootstrap.
    """
    place, numbers = list(points.columns).index(num_real), points.columns.to_numpy(float)
    levels = _make_monotone(points.mean().to_numpy()[None])
    wanted = levels[:, place] + advantages.mean()
    found = {
        "level": wanted[0],
        "worth": read_curve(numbers, levels, wanted)[0] - num_real,
        "beyond": "below" if wanted[0] < levels[0, 0] else "above" if wanted[0] > levels[0, -1] else "",
    }
    drawn = _draw_means(points, advantages, rng)
    if drawn is not None:
        levels = _make_monotone(drawn[:, :-1])
        worth = read_curve(numbers, levels, levels[:, place] + drawn[:, -1]) - num_real
        found["worth_low"], found["worth_high"] = np.quantile(worth, [0.025, 0.975])
    return found


def _draw_means(points, advantages, rng):
    """What the means of the curve's P points and of the advantage may be: `float (NUM_DRAWS, P + 1)`; None with fewer than 3 common replicates.

    By the t distribution that the common replicates give them. A mean over more replicates varies less, and two means vary together as far
    as they share replicates.
    """
    together = points.join(advantages.rename("advantage"), how="outer")
    common, is_there = together.dropna(), together.notna().astype(float)
    freedom = len(common) - 1
    if freedom < 2:
        return None
    weights = is_there / is_there.sum()  # of each replicate in each mean
    covariance = common.cov() * (weights.T @ weights)
    normal = rng.multivariate_normal(np.zeros(len(covariance)), covariance, NUM_DRAWS, method="svd")
    return together.mean().to_numpy() + normal / np.sqrt(rng.chisquare(freedom, (NUM_DRAWS, 1)) / freedom)


def read_curve(numbers, levels, wanted):
    """At how many real images learning curves reach a level.

    Args:
        numbers: P numbers of real images, in ascending order.
        levels: `float (D, P)`, D curves that rise, see `_make_monotone`.
        wanted: `float (D,)`, the level that is looked up on each.

    Returns:
        `float (D,)`, from the first number to the last. Between points, a curve is straight over the number's logarithm.
    """
    found = [np.interp(value, level, np.log(numbers)) for value, level in zip(wanted, levels, strict=True)]
    return np.round(np.exp(found), 6)  # so that the curve's ends are whole numbers


def _make_monotone(means):
    """Isotonic regression of each row of `float (D, P)` (Barlow et al. 1972, the max-min formula), and where that is level, a rise of 1e-12.

    So every number has a level of its own, at which it is found again.
    """
    size = means.shape[1]
    sums = np.concatenate([np.zeros((len(means), 1)), np.cumsum(means, axis=1)], axis=1)
    between = np.full((len(means), size, size), np.inf)  # the mean of the points from the first index to the second
    for first in range(size):
        for last in range(first, size):
            between[:, first, last] = (sums[:, last + 1] - sums[:, first]) / (last + 1 - first)
    level = np.stack([between[:, : place + 1, place:].min(axis=2).max(axis=1) for place in range(size)], axis=1)
    return level + 1e-12 * np.arange(size)
