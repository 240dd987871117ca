"""The difference between two arms with its interval over replicates and test images, and the verdict over all contrasts."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from xraygan.comparison.metrics import METRICS

CONFIDENCE = 0.95
FEWEST_REPLICATES = 3  # with two, no interval holds what it says: no claim is made
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"

# Named before any result: the second arm against the first, by these metrics.
PRIMARY_CONTRASTS = (("oversampling", "gan"), ("nothing", "gan"))
PRIMARY_METRICS = ("auroc", "balanced_accuracy")

PRIOR_FREEDOM = 4  # how much the spread of all arms counts beside that of the two that are compared


class Judged(NamedTuple):
    """What the replicates of one arm say, by one metric.

    Attributes:
        scores: `float (R,)`, the metric of each replicate.
        influence: `float (R, N)`, what each test image adds to it, see `metrics.Metric`; NaN where an image isn't in a replicate's test part.
    """

    scores: np.ndarray
    influence: np.ndarray


def estimate_difference(arms, first, second, labels, groups, metric):
    """The second arm's mean score less the first's, with an interval over replicates *and* test patients.

    Every arm is trained in the same R replicates: each draws its training images, initial weights, order and GAN anew, and perhaps its
    test images. The variance of the difference has three parts (two-way random effects without replication; Searle, Casella and McCulloch
    1992, chapter 4): replicates differ, test images differ, and the rest. With A the variance of the replicates' differences over R, B the
    variance of the images' mean influence, and C the rest's share, which A and B both hold, it is A + B − C. The same sum holds where every
    replicate has the same test images and where each draws its own. Images of one group, a patient's say, are mended and
    broken together: their influence is summed, also over classes (Obuchowski 1997, doi:10.2307/2533958).

    With few replicates, A is hardly known from two arms: it is moderated by the spread of all arms (Smyth 2004, doi:10.2202/1544-6115.1027),
    the residual mean square of arms × replicates. Degrees of freedom are Satterthwaite's (1946); those of A are always counted.

    A test set on which two arms hardly differ says little if it's small: B is at least what one image mended and one broken,
    half each, in each class would give to balanced accuracy (Agresti and Min 2005).

    Args:
        arms: {name: `Judged`} of all arms with the same replicates and images.
        first, second: names of the two arms.
        labels: `(N,)`, the class of each image.
        groups: `(N,)`, equal for images that belong together.
        metric: `metrics.Metric` that was judged by.

    Returns:
        dict: `difference`, `low`, `high`, `p_value` (of no difference), `p_equivalent` (of one beyond the margin),
        `smallest_seen` (the difference that such a study finds with probability 0.8 where it is the only comparison), `replicates`,
        `images` (in the mean test part). With fewer than `FEWEST_REPLICATES` replicates all but the difference and the counts are None: so few say nothing about a method.

    Raises:
        ValueError: a class has fewer than two groups.
    """
    changes = arms[second].influence - arms[first].influence
    num_replicates = len(changes)
    result = {
        "difference": float(arms[second].scores.mean() - arms[first].scores.mean()),
        "replicates": num_replicates,
        "images": round(float(np.isfinite(changes).sum(axis=1).mean())),
    }
    if num_replicates < FEWEST_REPLICATES:
        return result | dict.fromkeys(("low", "high", "p_value", "p_equivalent", "smallest_seen"))
    changes, (_, place) = np.nan_to_num(changes), np.unique(groups, return_inverse=True)
    sums, lacking, image_freedom = 0.0, 0.0, 0
    classes = np.unique(labels)
    for name in classes:
        count = len(np.unique(place[labels == name]))
        if count < 2:
            raise ValueError(
                f"all test images of class {name} are of one patient or near-copies; an interval needs two patients of each class."
            )
        image_freedom += count - 1
        of_class = _sum_by_group(np.where(labels == name, changes, 0), place) * np.sqrt(count / (count - 1))
        sums = sums + of_class  # over the classes too: a patient may have images of several
        swing = (
            1.0
            if not metric.is_ranking
            else max(1 - (arms[first].scores.mean() + arms[second].scores.mean()) / 2, 1 / (count + 2))
        )
        floor = swing / (count + 2) ** 2 / len(classes) ** 2
        lacking += max(0.0, floor - (of_class.mean(axis=0) ** 2).sum())
    of_images = (sums.mean(axis=0) ** 2).sum() + lacking
    of_rest = ((sums - sums.mean(axis=0)) ** 2).sum() / (num_replicates * (num_replicates - 1))
    of_replicates, replicate_freedom = _estimate_replicate_variance(arms, first, second)
    variance = max(of_replicates + of_images - of_rest, 0.9 * of_images)
    uncertain = of_replicates**2 / replicate_freedom
    uncertain += of_images**2 / image_freedom + of_rest**2 / ((num_replicates - 1) * image_freedom)
    return result | _make_interval(result["difference"], variance, variance**2 / uncertain, metric.margin)


def _estimate_replicate_variance(arms, first, second):
    """The variance of the mean difference between replicates, and its degrees of freedom."""
    scores = np.array([judged.scores for judged in arms.values()])
    num_arms, num_replicates = scores.shape
    residuals = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    own_freedom, freedom = num_replicates - 1, (num_arms - 1) * (num_replicates - 1)
    of_all = 2 * (residuals**2).sum() / freedom
    own = (arms[second].scores - arms[first].scores).var(ddof=1)
    weight = own_freedom / (own_freedom + PRIOR_FREEDOM)
    moderated = weight * own + (1 - weight) * of_all
    counted = min(freedom, 1 / (weight**2 / own_freedom + (1 - weight) ** 2 / freedom))
    return moderated / num_replicates, counted


def _sum_by_group(values, place):
    """`float (R, G)`: the sum of each row's values `(R, N)` by group, whose numbers `place` holds."""
    return np.stack([np.bincount(place, weights=row) for row in values])


def _make_interval(difference, variance, freedom, margin):
    error = np.sqrt(variance)
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error
    return {
        "low": float(difference - half),
        "high": float(difference + half),
        "p_value": float(2 * special.stdtr(freedom, -abs(difference) / error)),
        "p_equivalent": float(min(1, 2 * special.stdtr(freedom, (abs(difference) - margin) / error))),
        "smallest_seen": float(half + special.stdtrit(freedom, 0.8) * error),
    }


def holm(p_values):
    """p-values adjusted for their number (Holm 1979); None stays None and isn't counted."""
    adjusted, floor = list(p_values), 0.0
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    for rank, (value, place) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * value))
        adjusted[place] = floor
    return adjusted


def decide_outcome(difference, p_value, p_equivalent):
    """One of four words. Equivalent comes first: a difference surely smaller than the margin is of no interest, even if it isn't 0.

    "Equivalent" asks for the whole 95 % interval within the margin, which is stricter than the usual two one-sided tests (90 %).
    """
    if p_value is None:
        return INCONCLUSIVE
    if p_equivalent <= 1 - CONFIDENCE:
        return EQUIVALENT
    if p_value <= 1 - CONFIDENCE:
        return BETTER if difference > 0 else WORSE
    return INCONCLUSIVE


def list_contrasts(arm_names):
    """The pairs (first, second) that are compared, the primary ones foremost: the GAN against every remedy, every remedy against nothing."""
    others = [(name, "gan") for name in arm_names if name != "gan"]
    others += [("nothing", name) for name in arm_names if name not in ("nothing", "gan")]
    pairs = [*PRIMARY_CONTRASTS, *(pair for pair in others if pair not in PRIMARY_CONTRASTS)]
    return [pair for pair in pairs if set(pair) <= set(arm_names)]


def reach_verdict(judged, labels, groups, primary_setting):
    """Every contrast of every setting by every primary metric, with its interval and outcome.

    Primary are `PRIMARY_CONTRASTS` by `PRIMARY_METRICS` in one setting; their p-values are adjusted together by Holm's method, and so are
    those of all other contrasts.

    Args:
        judged: {setting: {metric: {arm: `Judged`}}}.
        labels, groups: {setting: `(N,)`}, the images' classes and which of them belong together.
        primary_setting: name of a setting.

    Returns:
        DataFrame: setting, metric, first, second, primary, what `estimate_difference` gives, `p_holm`, `outcome`.
    """
    rows = []
    for setting, by_metric in judged.items():
        for metric, arms in by_metric.items():
            for first, second in list_contrasts(list(arms)):
                is_primary = setting == primary_setting and (first, second) in PRIMARY_CONTRASTS
                row = {"setting": setting, "metric": metric, "first": first, "second": second, "primary": is_primary}
                found = estimate_difference(arms, first, second, labels[setting], groups[setting], METRICS[metric])
                rows.append(row | found)
    for is_primary in (True, False):
        family = [row for row in rows if row["primary"] == is_primary]
        adjusted = [holm([row[key] for row in family]) for key in ("p_value", "p_equivalent")]
        for row, p_value, p_equivalent in zip(family, *adjusted, strict=True):
            row |= {"p_holm": p_value, "outcome": decide_outcome(row["difference"], p_value, p_equivalent)}
    return pd.DataFrame(rows)
