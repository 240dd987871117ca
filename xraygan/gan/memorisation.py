"""Are the fakes copies? The nearest training image of each, against the nearest image that the GAN never saw."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from scipy.ndimage import uniform_filter
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from xraygan.data import near_copies

SAME_PICTURE = 0.1  # two files of one picture are at most 0.06 apart, re-encoded and resized; two radiographs at least 0.28
COPY_RATIO = 0.5  # a fake twice as near to a training image as to any held-out one is called a copy
WINDOW, STEP, SHIFTS = 48, 2, 17  # pixels of a 64-pixel image: the part compared, its sampling, the offsets tried each way
BLOCK = 2048  # images compared at a time: keeps the memory small
MOST_FRESH = 500  # held-out images that are compared: each with every training image


@threadpool_limits.wrap(limits=1)  # hundreds of small products: threads would mostly wait for each other
def copy_distances(images, others):
    """How far each image is from each other one when the two are shifted over each other as well as they can be.

    The distance √(2 − 2r), where r is the largest normalised cross-correlation (Lewis 1995) of the image's centre with the other
    image over shifts of up to 16 of 128 pixels each way. Brightness and contrast don't count, fine noise hardly does.

    Args:
        images, others: `uint8 (N, S, S, 1)` and `(M, S, S, 1)`.

    Returns:
        `float32 (N, M)`, 0 for copies to 2.
    """
    middle = SHIFTS // 2
    centres = _window(_small(images), middle, middle)
    distances = np.empty((len(images), len(others)), np.float32)

    def fill(start):
        distances[:, start : start + BLOCK] = _compare_with_block(centres, others[start : start + BLOCK])

    Parallel(cpu_count(), prefer="threads")(delayed(fill)(start) for start in range(0, len(others), BLOCK))
    return distances


def _compare_with_block(centres, others):
    small_others = _small(others)
    correlation = np.full((len(centres), len(others)), -1, np.float32)
    for down in range(SHIFTS):
        for right in range(SHIFTS):
            np.maximum(correlation, centres @ _window(small_others, down, right).T, out=correlation)
    return np.sqrt(np.maximum(0, 2 - 2 * correlation))


def _small(images):
    """64 pixels a side, smoothed: what is left of a copy that was re-encoded or shifted by half a pixel."""
    return uniform_filter(near_copies.shrink(images).astype(np.float32), size=(0, 3, 3))


def _window(small, down, right):
    """One part of each image as a row of zero mean and unit length; all zeros where it has no contrast."""
    rows = small[:, down : down + WINDOW : STEP, right : right + WINDOW : STEP].reshape(len(small), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-3)


def nearest(images, training, held_out):
    """The nearest training and the nearest held-out image of each image.

    Args:
        images: `uint8 (N, S, S, 1)`, usually fakes.
        training: what the GAN saw.
        held_out: real images of the same class that it never saw.

    Returns:
        DataFrame: `training_row`, `training_distance`, `held_out_row`, `held_out_distance`, `ratio` of the two distances, `copy`.
    """
    return _compare(copy_distances(images, training), copy_distances(images, held_out))


def nearest_of_held_out(training, held_out):
    """The same for each held-out image among the others: how often fresh real images look like copies."""
    others = copy_distances(held_out, held_out)
    np.fill_diagonal(others, np.inf)
    return _compare(copy_distances(held_out, training), others)


def _compare(to_training, to_held_out):
    near, far = to_training.min(axis=1), to_held_out.min(axis=1)
    ratio = near / np.maximum(far, 1e-6)
    return pd.DataFrame(
        {
            "training_row": to_training.argmin(axis=1),
            "training_distance": near,
            "held_out_row": to_held_out.argmin(axis=1),
            "held_out_distance": far,
            "ratio": ratio,
            "copy": ratio < COPY_RATIO,
        }
    )


def count_copies(fakes, fresh):
    """Whether there are more copies among the fakes than chance allows where fresh real images are called copies this often.

    Args:
        fakes: table of `nearest`.
        fresh: table of `nearest_of_held_out`.

    Returns:
        dict: `copies`, `fakes`, `fresh_copies`, `fresh`, and `alarm`; with no copy among the fresh images, one fake is enough. The alarm is
        easy to raise on purpose, since a missed copy of a patient is worse than a look at eight pictures: it takes the share among the fresh
        images for known, and where that rests on few images, chance alone raises it far more often than in 1 of 100 cases.
    """
    copies, fresh_copies = int(fakes["copy"].sum()), int(fresh["copy"].sum())
    share = fresh_copies / len(fresh)
    too_many = copies > 0 and binomtest(copies, len(fakes), share, alternative="greater").pvalue < 0.01
    return {
        "copies": copies,
        "fakes": len(fakes),
        "fresh_copies": fresh_copies,
        "fresh": len(fresh),
        "alarm": bool(too_many),
    }


def count_real(images, real):
    """How many images show the same picture as one of some real images, such as a real file among fakes; both `uint8 (N, S, S, 1)`."""
    return int((copy_distances(images, real).min(axis=1) < SAME_PICTURE).sum()) if len(real) else 0


@dataclass(frozen=True)
class Copies:
    """What the search for copies found.

    Attributes:
        nearest: table of `nearest`, a row a fake.
        summary: dict of `count_copies`, `duplicate_share` of the fakes, and `real`: how many show the same picture as a real image of
            either kind, which is an alarm by itself.
        fakes, training, held_out: the images that were compared.
    """

    nearest: pd.DataFrame
    summary: dict
    fakes: np.ndarray
    training: np.ndarray
    held_out: np.ndarray

    def pick_suspects(self, number):
        """The fakes that come nearest to being copies, with their nearest images: {what: `uint8 (number, S, S, 1)`}."""
        rows = self.nearest.sort_values("ratio").head(number)
        return {
            "fake": self.fakes[rows.index],
            "nearest\ntraining": self.training[rows["training_row"]],
            "nearest\nunseen": self.held_out[rows["held_out_row"]],
        }


def find_copies(fakes, training, held_out):
    """Search the fakes for copies of training images and of each other: `Copies`.

    Args:
        fakes: `uint8 (N, S, S, 1)`.
        training: what the GAN saw.
        held_out: real images of the same class that it never saw; of more than `MOST_FRESH` a draw is compared (`fresh` in the summary).
    """
    real = count_real(fakes, np.concatenate([training, held_out]))
    held_out = draw_at_most(np.asarray(held_out), MOST_FRESH)
    table = nearest(fakes, training, held_out)
    summary = count_copies(table, nearest_of_held_out(training, held_out))
    summary |= {"duplicate_share": duplicate_share(fakes, training), "real": real, "alarm": summary["alarm"] or real > 0}
    return Copies(table, summary, fakes, training, held_out)


def duplicate_share(images, training):
    """The share of images that show the same picture as an earlier one in their set, 0 to 1.

    Two are the same picture where they are nearer to each other than half the median distance of a training image (of more than
    `MOST_FRESH`, those of a draw) to its nearest.
    """
    rows = draw_at_most(np.arange(len(training)), MOST_FRESH)
    to_training = copy_distances(training[rows], training)
    to_training[np.arange(len(rows)), rows] = np.inf
    limit = COPY_RATIO * np.median(to_training.min(axis=1))
    repeats = 0
    for start in range(0, len(images), BLOCK):
        same = copy_distances(images[start : start + BLOCK], images[: start + BLOCK]) < limit
        repeats += np.tril(same, start - 1).any(axis=1).sum()  # with an earlier one
    return float(repeats / len(images))


def draw_at_most(items, size):
    """At most `size` of the items, in their order."""
    rows = np.random.default_rng(0).permutation(len(items))[:size]
    return items[np.sort(rows)]
