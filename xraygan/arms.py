"""The ways to rebalance that are compared: which images each adds to the training part, or which weights it gives.

Every arm trains for the same number of updates an epoch on the same validation images; arms that add images add equally many.
"""

import numpy as np

ARMS = {
    "nothing": "the training images as they are",
    "class_weights": "the weights that give each class the share it has among images and fakes",
    "oversampling": "training images of the minority class again",
    "classical": "training images of the minority class shifted, rotated, flipped",
    "gan": "fakes of the GAN",
    "gan_and_classical": "half fakes, half classical",
    "classical_without_flip": "as classical, but no flip: a flipped chest has its heart on the wrong side",
}
PRIMARY = ("oversampling", "gan")  # the contrast named before any result: the second against the first
FAKES_INSTEAD = "gan_without_real"  # not compared, since nobody would choose it: what a classifier learns from fakes alone
MAX_SHIFT = 0.1  # of the image's side, in each direction
MAX_ROTATION = 10 / 360  # of a full turn: patients lie that crooked, not more
BATCH_SIZE = 64


def in_words(arm):
    """An arm's name as a reader wants it."""
    return arm.replace("gan", "GAN").replace("_", " ")


def keeps_real(arm):
    """Whether the real images of the minority class stay in the training part."""
    return arm != FAKES_INSTEAD


def needs_fakes(arm):
    """Whether an arm can only be trained after a GAN."""
    return arm.startswith("gan")


def extra_images(arm, real, num_extra, fakes, seed):
    """The images of the minority class that an arm adds to the training part.

    Args:
        arm: a key of `ARMS`.
        real: `uint8 (N, 128, 128, 1)`, the training images of the minority class.
        num_extra: how many to add.
        fakes: `uint8 (M, 128, 128, 1)`; None for arms without fakes.
        seed: of the choice and of the transformations.

    Returns:
        `uint8 (num_extra, 128, 128, 1)`; none for the arms "nothing" and "class_weights".

    Raises:
        ValueError: no such arm, or there are fewer fakes than it adds.
    """
    if arm not in (*ARMS, FAKES_INSTEAD):
        raise ValueError(f"there's no arm {arm!r}; choose among {', '.join(ARMS)}.")
    if arm in ("nothing", "class_weights"):
        return real[:0]
    if arm == "oversampling":
        return real[_drawn_evenly(len(real), num_extra, seed)]
    if arm.startswith("classical"):
        return transform(real[_drawn_evenly(len(real), num_extra, seed)], seed, flip=arm == "classical")
    num_fakes = num_extra // 2 if arm == "gan_and_classical" else num_extra
    if fakes is None or len(fakes) < num_fakes:
        raise ValueError(f"arm {arm!r} adds {num_fakes} fakes, and there are {0 if fakes is None else len(fakes)}.")
    rest = extra_images("classical", real, num_extra - num_fakes, None, seed)
    return np.concatenate([fakes[:num_fakes], rest])


def class_weights(arm, counts, minority_label, num_extra):
    """The weight of an image of each class in the loss, with mean 1 over the training images.

    Arm "class_weights" gives the minority class the share of the loss that it has where `num_extra` images are added; the other
    arms weigh all alike.

    Args:
        counts: `int (num_classes,)`, real training images.

    Returns:
        `float (num_classes,)`.
    """
    if arm != "class_weights":
        return np.ones(len(counts))
    counts = np.asarray(counts, float)
    enlarged = counts.copy()
    enlarged[minority_label] += num_extra
    return enlarged / counts * counts.sum() / enlarged.sum()


def transform(images, seed, flip):
    """Classical augmentation, each image by its own random amount: shift, rotation, and perhaps a flip left to right.

    What moves in from outside mirrors the border: black corners would give the minority class away.

    Args:
        images: `uint8 (N, 128, 128, 1)`.

    Returns:
        `uint8 (N, 128, 128, 1)`.
    """
    from keras import layers, ops  # here, so that naming the arms needs no deep-learning library

    steps = [
        layers.RandomTranslation(MAX_SHIFT, MAX_SHIFT, fill_mode="reflect", seed=seed, dtype="float32"),
        layers.RandomRotation(MAX_ROTATION, fill_mode="reflect", seed=seed + 1, dtype="float32"),
    ]
    if flip:
        steps.append(layers.RandomFlip("horizontal", seed=seed + 2, dtype="float32"))
    changed = np.zeros(images.shape, np.uint8)
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE].astype(np.float32)
        for step in steps:
            batch = step(batch, training=True)
        changed[start : start + BATCH_SIZE] = np.rint(np.clip(ops.convert_to_numpy(batch), 0, 255))
    return changed


def _drawn_evenly(size, count, seed):
    """`int (count,)`: rows of `size` in random order, none a second time before all have come once."""
    rng = np.random.default_rng(seed)
    laps = -(-count // size)
    return np.concatenate([rng.permutation(size) for _ in range(laps)])[:count] if count else np.zeros(0, int)
