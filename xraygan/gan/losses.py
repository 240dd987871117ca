"""What the two networks minimise: registry `LOSSES`. Another loss is two functions of logits and one entry.

Logits are `(B, 1)`, positive for real. A loss may add a penalty to the discriminator's, and may train the discriminator several
times for each step of the generator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
from keras import ops

from xraygan import backend


@dataclass(frozen=True)
class Loss:
    """A pair of losses.

    Attributes:
        discriminator: (real logits, fake logits) → what the discriminator minimises, a scalar.
        generator: fake logits → what the generator minimises, a scalar.
        penalty: (judge, real, fake, seed) → a scalar added to the discriminator's loss, where `judge` gives the logits of images,
            `real` and `fake` are images as the discriminator sees them, and `seed` is a `keras.random.SeedGenerator`. None adds nothing.
        discriminator_steps: steps of the discriminator, each on real images of its own, for one step of the generator.
        at_chance: the discriminator's loss where it can't tell real from fake, for the figure of losses; None where there's no such value.
    """

    discriminator: Callable
    generator: Callable
    penalty: Callable | None = None
    discriminator_steps: int = 1
    at_chance: float | None = field(default=None, metadata={"key": False})


def logistic_discriminator(real_logits, fake_logits):
    """Logistic loss (Goodfellow et al. 2014): 2·ln 2 where real can't be told from fake."""
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def logistic_generator(fake_logits):
    """Non-saturating logistic loss (Goodfellow et al. 2014): ln 2 where real can't be told from fake."""
    return ops.mean(ops.softplus(-fake_logits))


def hinge_discriminator(real_logits, fake_logits):
    """Hinge loss (Lim and Ye 2017, arXiv:1705.02894): nothing is gained beyond a margin of 1; 2 where real can't be told from fake."""
    return ops.mean(ops.relu(1 - real_logits)) + ops.mean(ops.relu(1 + fake_logits))


def mean_discriminator(real_logits, fake_logits):
    """How much higher fakes are rated than real images (Arjovsky et al. 2017, arXiv:1701.07875): minus the Wasserstein distance's estimate."""
    return ops.mean(fake_logits) - ops.mean(real_logits)


def mean_generator(fake_logits):
    """Fakes are to be rated high, without bound."""
    return -ops.mean(fake_logits)


def penalise_gradient(judge, real, fake, seed, weight=10.0):
    """Keeps the slope of the logits near 1 between real images and fakes (Gulrajani et al. 2017, arXiv:1704.00028)."""
    share = keras.random.uniform((ops.shape(real)[0], 1, 1, 1), seed=seed, dtype="float32")
    between = fake + ops.cast(share, fake.dtype) * (real - fake)
    _, _, pull = backend.pullback(lambda images: ((judge(images),), None), between)
    slope = ops.sqrt(ops.sum(ops.square(ops.cast(pull(0, 0), "float32")), axis=(1, 2, 3)) + 1e-12)
    return weight * ops.mean(ops.square(slope - 1))


LOSSES = {
    "logistic": Loss(logistic_discriminator, logistic_generator, at_chance=2 * math.log(2)),
    "hinge": Loss(hinge_discriminator, mean_generator, at_chance=2.0),
    "wasserstein": Loss(mean_discriminator, mean_generator, penalise_gradient, discriminator_steps=5),
}
