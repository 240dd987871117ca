"""The ways to rebalance that are compared: registry `ARMS`. Another arm is one entry.

Every arm trains for the same number of updates an epoch on the same validation images; arms that add images add equally many. A new
*kind* of extra images is one function in `ADDITIONS`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from xraygan import keys

BATCH_SIZE = 64


@dataclass(frozen=True)
class Arm:
    """One way to rebalance the training part.

    Attributes:
        explained: what it does, for the reader of a table.
        adds: the kinds of extra images and the share of each, e.g. `(("fakes", 0.5), ("transformed", 0.5))`; shares sum to 1.
        weighs: whether the loss weighs the minority class as if the extra images were there.
        keeps_real: whether the real images of the minority class stay in the training part.
        max_shift: of transformed images, in each direction, a share of the side.
        max_rotation: of transformed images, a share of a full turn.
        flips: whether transformed images are flipped left to right at random.
    """

    explained: str = field(metadata={"key": False})
    adds: tuple = ()
    weighs: bool = False
    keeps_real: bool = True
    max_shift: float = 0.1
    max_rotation: float = 10 / 360  # patients lie that crooked, not more
    flips: bool = True

    @property
    def needs_fakes(self):
        """Whether it can only be trained after a GAN."""
        return "fakes" in dict(self.adds)

    def describe(self):
        """The contents of the arm as a key takes them: its fields, and what it adds as code."""
        return keys.describe(self) | {"additions": [keys.describe(ADDITIONS[kind]) for kind, _ in self.adds]}


ARMS = {
    "nothing": Arm("the training images as they are"),
    "class_weights": Arm("the weights that give each class the share it has among images and fakes", weighs=True),
    "oversampling": Arm("training images of the minority class again", adds=(("copies", 1.0),)),
    "classical": Arm("training images of the minority class shifted, rotated, flipped", adds=(("transformed", 1.0),)),
    "gan": Arm("fakes of the GAN", adds=(("fakes", 1.0),)),
    "gan_and_classical": Arm("half fakes, half classical", adds=(("fakes", 0.5), ("transformed", 0.5))),
    "classical_without_flip": Arm(
        "as classical, but no flip: a flipped chest has its heart on the wrong side", adds=(("transformed", 1.0),), flips=False
    ),
    # Nobody would choose it; notebook 3 uses it to see what a classifier learns from fakes alone.
    "gan_without_real": Arm("fakes instead of real images of the minority class", adds=(("fakes", 1.0),), keeps_real=False),
}
PRIMARY = ("oversampling", "gan")  # the contrast named before any result: the second against the first
FAKES_INSTEAD = "gan_without_real"


def choose_arm(name):
    """The arm called `name`, or a sentence that says which there are."""
    return keys.choose(ARMS, name, "the arm")


def write_arm(name):
    """An arm's name as a reader wants it."""
    return name.replace("gan", "GAN").replace("_", " ")


class TrainingImages(NamedTuple):
    """What a classifier is trained on.

    Attributes:
        images: `uint8 (N, S, S, 1)`, extra ones among them.
        labels: `int (N,)`.
        weights: `float (num_classes,)`, of an image of each class in the loss.
        num_real: real images, which set the length of an epoch; also those that an arm then leaves out.
        num_real_minority: those of the minority class.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    num_real: int
    num_real_minority: int


def rebalance(name, setting, train, num_extra, fakes, seed):
    """The training images of an arm: the real ones, those that it adds, and the weights that it gives.

    Args:
        name: a key of `ARMS`.
        setting: `dataset.Setting`.
        train: `dataset.Part`, real images.
        num_extra: how many images to add.
        fakes: `uint8 (M, S, S, 1)`; None for arms without fakes.
        seed: of choices and transformations.

    Returns:
        `TrainingImages`.

    Raises:
        ValueError: there's no such arm, or there are fewer fakes than it adds.
    """
    arm, label = choose_arm(name), setting.minority_label
    images, labels, _ = train
    real = images[labels == label]
    extra = make_extra_images(name, real, num_extra, fakes, seed)
    counts = np.bincount(labels, minlength=len(setting.classes))
    if not arm.keeps_real:
        images, labels = images[labels != label], labels[labels != label]
    return TrainingImages(
        np.concatenate([images, extra]),
        np.concatenate([labels, np.full(len(extra), label)]),
        weigh_classes(counts, label, num_extra) if arm.weighs else np.ones(len(counts)),
        len(train.images),
        len(real),
    )


def make_extra_images(name, real, num_extra, fakes, seed):
    """The images of the minority class that an arm adds, `uint8 (num_extra, S, S, 1)`, or none; arguments as in `rebalance`."""
    arm, made = choose_arm(name), [real[:0]]
    counts = [int(share * num_extra) for _, share in arm.adds[:-1]]
    for (kind, _), count in zip(arm.adds, [*counts, num_extra - sum(counts)], strict=False):
        made.append(ADDITIONS[kind](name, real, count, fakes, seed))
    return np.concatenate(made)


def weigh_classes(counts, minority_label, num_extra):
    """The weights that give the minority class the share of the loss that it has where `num_extra` images are added.

    Args:
        counts: `int (num_classes,)`, real training images.

    Returns:
        `float (num_classes,)`, with mean 1 over the training images.
    """
    counts = np.asarray(counts, float)
    enlarged = counts.copy()
    enlarged[minority_label] += num_extra
    return enlarged / counts * counts.sum() / enlarged.sum()


# Kinds of extra images: functions (arm's name, real images, how many, fakes, seed) → `uint8 (count, S, S, 1)`


def take_fakes(name, real, count, fakes, seed):
    """The first fakes of a GAN."""
    num_fakes = 0 if fakes is None else len(fakes)
    if num_fakes < count:
        raise ValueError(f"arm {name!r} adds {count} fakes, and there are {num_fakes}.")
    return fakes[:count]


def copy_real(name, real, count, fakes, seed):
    """Real images again, each as often as any other."""
    return real[_draw_evenly(len(real), count, seed)]


def transform_real(name, real, count, fakes, seed):
    """Real images again, each by its own random amount shifted, rotated, and perhaps flipped left to right.

    What moves in from outside mirrors the border: black corners would give the minority class away.
    """
    from keras import layers, ops  # here, so that naming the arms needs no deep-learning library

    arm, images = ARMS[name], copy_real(name, real, count, fakes, seed)
    steps = [
        layers.RandomTranslation(arm.max_shift, arm.max_shift, fill_mode="reflect", seed=seed, dtype="float32"),
        layers.RandomRotation(arm.max_rotation, fill_mode="reflect", seed=seed + 1, dtype="float32"),
    ]
    if arm.flips:
        steps.append(layers.RandomFlip("horizontal", seed=seed + 2, dtype="float32"))
    changed = np.zeros(images.shape, np.uint8)
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE].astype(np.float32)
        for step in steps:
            batch = step(batch, training=True)
        changed[start : start + BATCH_SIZE] = np.rint(np.clip(ops.convert_to_numpy(batch), 0, 255))
    return changed


def _draw_evenly(size, count, seed):
    """`int (count,)`: rows of `size` in random order, none a second time before all have come once."""
    rng = np.random.default_rng(seed)
    laps = -(-count // size)
    return np.concatenate([rng.permutation(size) for _ in range(laps)])[:count] if count else np.zeros(0, int)


ADDITIONS = {"fakes": take_fakes, "copies": copy_real, "transformed": transform_real}
