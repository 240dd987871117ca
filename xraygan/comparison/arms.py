"""The ways to rebalance that are compared: registry `ARMS`. Another arm is one entry.

Every arm trains for the same number of updates an epoch on the same validation images; arms that add images add equally many. A new
*kind* of extra images is one function in `ADDITIONS`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from xraygan import keys
from xraygan.data.dataset import RESERVE


@dataclass(frozen=True)
class Arm:
    """One way to rebalance the training part.

    Attributes:
        explained: what it does, for the reader of a table.
        adds: the kinds of extra images and the share of each, e.g. `(("fakes", 0.5), ("transformed", 0.5))`; shares sum to 1.
        weighs: whether the loss weighs the minority class as if the extra images were there.
        keeps_real: whether the real images of the minority class stay in the training part.
        transforms: whether every training image of every class is transformed anew each time that it's shown.
        max_shift: of transformed images, in each direction, a share of the side.
        max_rotation: of transformed images, a share of a full turn.
        flips: whether transformed images are flipped left to right at random.
    """

    explained: str = field(metadata={"key": False})
    adds: tuple = ()
    weighs: bool = False
    keeps_real: bool = True
    transforms: bool = False
    max_shift: float = 0.1
    max_rotation: float = 10 / 360  # patients lie that crooked, not more
    flips: bool = True

    @property
    def needs_fakes(self):
        """Whether it can only be trained after a GAN."""
        return "fakes" in dict(self.adds)

    @property
    def needs_reserve(self):
        """Whether it can only be trained where there are further real images."""
        return "real" in dict(self.adds)

    def describe(self):
        """The contents of the arm as a key takes them: its fields, and what it adds or does to images as code."""
        code = [ADDITIONS[kind] for kind, _ in self.adds] + [transform] * self.transforms
        return keys.describe(self) | {"code": keys.describe(code)}


ARMS = {
    "nothing": Arm("the training images as they are"),
    "class_weights": Arm("the weights that give each class the share it has among images and fakes", weighs=True),
    "oversampling": Arm("training images of the minority class again", adds=(("copies", 1.0),)),
    "classical": Arm("training images of the minority class shifted, rotated, flipped", adds=(("transformed", 1.0),)),
    "on_the_fly": Arm("nothing; every image of every class is shifted, rotated, flipped anew each time", transforms=True),
    "gan": Arm("fakes", adds=(("fakes", 1.0),)),
    "gan_and_classical": Arm("half fakes, half classical", adds=(("fakes", 0.5), ("transformed", 0.5))),
    "classical_without_flip": Arm(
        "as classical, but no flip: a flipped chest has its heart on the wrong side", adds=(("transformed", 1.0),), flips=False
    ),
    "more_real": Arm("as many further real images: what fakes are measured by", adds=(("real", 1.0),)),
    # Nobody would choose it; notebook 3 uses it to see what a classifier learns from fakes alone.
    "gan_without_real": Arm("fakes instead of real images of the minority class", adds=(("fakes", 1.0),), keeps_real=False),
}
NEEDED = ("nothing", "oversampling", "gan")  # what the primary contrasts compare
FAKES_INSTEAD = "gan_without_real"


def choose_arm(name):
    """The arm called `name`, or a sentence that says which there are."""
    return keys.choose(ARMS, name, "the arm")


def write_arm(name, maker="GAN"):
    """An arm's name as a reader wants it; `maker` is what makes its fakes, see `study.Study.maker`."""
    return " ".join(maker if word == "gan" else word for word in name.split("_"))


class TrainingImages(NamedTuple):
    """What a classifier is trained on.

    Attributes:
        images: `uint8 (N, S, S, 1)`, extra ones among them.
        labels: `int (N,)`.
        weights: `float (num_classes,)`, of an image of each class in the loss.
        num_real: real images, which set the length of an epoch; also those that an arm then leaves out.
        num_real_minority: those of the minority class.
        transform: (`uint8 (B, S, S, 1)`, random generator) → the same images changed, at each pass anew; None shows them as they are.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    num_real: int
    num_real_minority: int
    transform: Callable | None = None

    @property
    def shares(self):
        """The share of the loss that each class has, `float (num_classes,)`: what the classifier learns how frequent a class is."""
        weighed = np.bincount(self.labels, minlength=len(self.weights)) * self.weights
        return weighed / weighed.sum()


def rebalance(name, setting, parts, num_extra, fakes, seed):
    """The training images of an arm: the real ones, those that it adds, and the weights that it gives.

    Args:
        name: a key of `ARMS`.
        setting: `dataset.Setting`.
        parts: {part: `dataset.Part`} of `Dataset.select_all`.
        num_extra: how many images to add.
        fakes: `uint8 (M, S, S, 1)`; None for arms without fakes.
        seed: of choices and transformations.

    Returns:
        `TrainingImages`.

    Raises:
        ValueError: there's no such arm, or there are fewer fakes or further real images than it adds.
    """
    arm, label = choose_arm(name), setting.minority_label
    images, labels, _ = parts["train"]
    real = images[labels == label]
    sources = Sources(real, fakes, parts[RESERVE].images)
    extra = make_extra_images(name, sources, num_extra, seed)
    counts = np.bincount(labels, minlength=len(setting.classes))
    if not arm.keeps_real:
        images, labels = images[labels != label], labels[labels != label]
    return TrainingImages(
        np.concatenate([images, extra]),
        np.concatenate([labels, np.full(len(extra), label)]),
        weigh_classes(counts, label, num_extra) if arm.weighs else np.ones(len(counts)),
        len(parts["train"].images),
        len(real),
        functools.partial(transform, arm=arm) if arm.transforms else None,
    )


class Sources(NamedTuple):
    """Where extra images of the minority class come from: `uint8 (N, S, S, 1)` each, or None where there are none.

    Attributes:
        real: its real training images.
        fakes: of its GAN.
        reserve: its further real images, which the setting doesn't use.
    """

    real: np.ndarray
    fakes: np.ndarray | None = None
    reserve: np.ndarray | None = None


def make_extra_images(name, sources, num_extra, seed):
    """The images of the minority class that an arm adds, `uint8 (num_extra, S, S, 1)`, or none.

    Args:
        name: a key of `ARMS`.
        sources: `Sources`.
        num_extra: how many images to add.
        seed: of choices and transformations.
    """
    arm, made = choose_arm(name), [sources.real[:0]]
    counts = [int(share * num_extra) for _, share in arm.adds[:-1]]
    for (kind, _), count in zip(arm.adds, [*counts, num_extra - sum(counts)], strict=False):
        made.append(ADDITIONS[kind](name, sources, count, seed))
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


def transform(images, rng, arm):
    """Each image by its own random amount shifted, rotated, and perhaps flipped left to right.

    What moves in from outside mirrors the border: black corners would give transformed images away.

    Args:
        images: `uint8 (N, S, S, 1)`.
        rng: `numpy.random.Generator`.
        arm: `Arm`, for its ranges.

    Returns:
        `uint8 (N, S, S, 1)`.
    """
    size = images.shape[1]
    middle = np.array([(size - 1) / 2] * 2)
    shifts = rng.uniform(-arm.max_shift, arm.max_shift, (len(images), 2)) * size
    angles = rng.uniform(-arm.max_rotation, arm.max_rotation, len(images)) * 2 * np.pi
    flipped = rng.random(len(images)) < 0.5 * arm.flips
    changed = np.empty_like(images)
    for image, shift, angle, flip, target in zip(images, shifts, angles, flipped, changed, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = ndimage.affine_transform(
            (image[:, ::-1] if flip else image)[..., 0].astype(np.float32),
            turn,
            middle - turn @ (middle + shift),  # of the pixel (row, column) that is shown at each place
            order=1,
            mode="reflect",
        )
        target[..., 0] = np.rint(moved)
    return changed


# Kinds of extra images: functions (arm's name, `Sources`, how many, seed) → `uint8 (count, S, S, 1)`


def take_fakes(name, sources, count, seed):
    """The first fakes of a GAN."""
    _require(sources.fakes, count, f"arm {name!r} adds {count} fakes")
    return sources.fakes[:count]


def take_reserve(name, sources, count, seed):
    """Real images that the setting doesn't use, drawn at random."""
    _require(sources.reserve, count, f"arm {name!r} adds {count} further real images")
    return sources.reserve[_draw_evenly(len(sources.reserve), count, seed)]


def _require(images, count, wish):
    there = 0 if images is None else len(images)
    if there < count:
        raise ValueError(f"{wish}, and there are {there}: choose a profile with a smaller num_fakes.")


def copy_real(name, sources, count, seed):
    """Real images again, each as often as any other."""
    return sources.real[_draw_evenly(len(sources.real), count, seed)]


def transform_real(name, sources, count, seed):
    """Real images again, each changed by `transform`."""
    return transform(copy_real(name, sources, count, seed), np.random.default_rng(seed), ARMS[name])


def _draw_evenly(size, count, seed):
    """`int (count,)`: rows of `size` in random order, none a second time before all have come once."""
    rng = np.random.default_rng(seed)
    laps = -(-count // size)
    return np.concatenate([rng.permutation(size) for _ in range(laps)])[:count] if count else np.zeros(0, int)


ADDITIONS = {"fakes": take_fakes, "copies": copy_real, "transformed": transform_real, "real": take_reserve}
