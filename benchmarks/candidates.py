"""What the search for the GAN's recipe tries: each candidate is today's recipe with one thing changed. What won is in the package already.

Networks and losses that only a candidate needs stand here, as entries of the package's registries.
"""

from dataclasses import replace
from typing import NamedTuple

import keras
from keras import layers, ops

from xraygan.gan.losses import LOSSES, Loss
from xraygan.gan.networks import (
    DISCRIMINATORS,
    GENERATORS,
    BatchNorm,
    BatchSpread,
    DoubleAndConvolve,
    dcgan_generator,
    halve_to,
    strided_discriminator,
)
from xraygan.gan.recipe import RECIPES, Recipe


def initial(next_seed):
    """Initial weights as the package's generator has them."""
    return keras.initializers.RandomNormal(stddev=0.02, seed=next_seed())


def excited_generator(image_size, latent_dim, next_seed):
    """The package's generator with skip-layer excitation (Liu et al. 2021, arXiv:2101.04775): maps of 32 and 64 pixels are scaled by those of 4 and 8."""
    maps = {}

    def excite(x, small):
        seen = layers.Flatten()(layers.AveragePooling2D(small.shape[1] // 4)(small))
        scale = layers.Dense(x.shape[-1], activation="silu", kernel_initializer=initial(next_seed))(seen)
        scale = layers.Dense(x.shape[-1], activation="sigmoid", kernel_initializer=initial(next_seed))(scale)
        return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(scale)])

    def double(x, filters, **arguments):
        size = x.shape[1]
        maps[size] = excite(x, maps[size // 8]) if size >= 32 else x
        return DoubleAndConvolve(filters, **arguments)(maps[size])

    return dcgan_generator(double, image_size, latent_dim, next_seed)


def finer_generator(image_size, latent_dim, next_seed):
    """The package's generator with features at the image's own size, of which a last 3×3 convolution makes the image.

    Without them each pixel is a plain sum of features at half the size, with other weights in even and odd rows: fine detail is weaker in
    the ones than in the others.
    """

    def double(x, filters, **arguments):
        if filters > 1:
            return DoubleAndConvolve(filters, **arguments)(x)
        x = DoubleAndConvolve(16, use_bias=False, kernel_initializer=initial(next_seed))(x)
        x = layers.ReLU()(BatchNorm(momentum=0.9)(x))
        return layers.Conv2D(1, 3, padding="same", **arguments)(x)

    return dcgan_generator(double, image_size, latent_dim, next_seed)


class DoubleSmoothly(DoubleAndConvolve):
    """Bilinear upsampling and then a 3×3 convolution, computed as one transposed 6×6 convolution of stride 2.

    Between pixels, bilinear upsampling is a convolution by (1, 3, 3, 1) / 4 along each axis, and two convolutions are one by their kernels' convolution.
    """

    def call(self, images):
        kernel = self.kernel
        for axis in (0, 1):
            padded = ops.pad(kernel, [(3, 3) if axis == other else (0, 0) for other in range(4)])
            kernel = sum(weight / 4 * ops.take(padded, range(at, at + 6), axis) for at, weight in enumerate((1, 3, 3, 1)))
        kernel = ops.cast(ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2)), self.compute_dtype)
        doubled = ops.conv_transpose(images, kernel, strides=2, padding="same")
        return doubled if self.bias is None else doubled + self.bias


def smooth_generator(image_size, latent_dim, next_seed):
    """The package's generator with bilinear upsampling in its last two layers: pixels that are repeated show as small squares and stripes."""

    def double(x, filters, **arguments):
        return (DoubleSmoothly if 4 * x.shape[1] >= image_size else DoubleAndConvolve)(filters, **arguments)(x)

    return dcgan_generator(double, image_size, latent_dim, next_seed)


def judge_each_alone(image_size, next_seed):
    """The discriminator of the first search, which doesn't see how varied its batch is: the package's without that layer."""

    def leave_out(layer):
        return layers.Identity() if isinstance(layer, BatchSpread) else layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(strided_discriminator(image_size, next_seed), clone_function=leave_out)


def patch_discriminator(image_size, next_seed):
    """A logit for each of 5×5 overlapping parts of the image (Isola et al. 2017, arXiv:1611.07004) instead of one for all of it."""
    image = keras.Input((image_size, image_size, 1))
    x = halve_to(8, image, next_seed)
    glorot = keras.initializers.GlorotUniform(next_seed())
    logits = layers.Conv2D(1, 4, kernel_initializer=glorot, dtype="float32")(x)
    return keras.Model(image, layers.Flatten()(logits), name="discriminator")


def describing_discriminator(image_size, next_seed):
    """The package's discriminator, which also draws the image again, at a quarter of its size, from its last maps (Liu et al. 2021): `(B, 2)`, logit and error."""
    image = keras.Input((image_size, image_size, 1))
    x = halve_to(4, image, next_seed)
    glorot = keras.initializers.GlorotUniform(next_seed())
    logit = layers.Dense(1, kernel_initializer=glorot, dtype="float32")(layers.Flatten()(x))
    for filters in (128, 64):
        x = layers.LeakyReLU(0.2)(DoubleAndConvolve(filters, keras.initializers.HeNormal(next_seed()))(x))
    x = DoubleAndConvolve(1, keras.initializers.GlorotUniform(next_seed()), dtype="float32")(x)
    wanted = layers.AveragePooling2D(image_size // 32, dtype="float32")(image)
    missed = layers.Subtract(dtype="float32")([x, wanted])
    error = layers.GlobalAveragePooling2D(dtype="float32")(layers.Multiply(dtype="float32")([missed, missed]))
    return keras.Model(image, layers.Concatenate(dtype="float32")([logit, error]), name="discriminator")


def judge_and_describe(real, fake):
    """The logistic loss of the logits, and the error of the real images that were drawn again; `(B, 2)` each."""
    return LOSSES["logistic"].discriminator(real[:, :1], fake[:, :1]) + ops.mean(real[:, 1])


def be_judged(fake):
    """The logistic loss of the generator, by the logits of `(B, 2)`."""
    return LOSSES["logistic"].generator(fake[:, :1])


GENERATORS["excited"] = excited_generator
GENERATORS["finer"] = finer_generator
GENERATORS["smooth"] = smooth_generator
DISCRIMINATORS["alone"] = judge_each_alone
DISCRIMINATORS["patches"] = patch_discriminator
DISCRIMINATORS["describing"] = describing_discriminator
LOSSES["describing"] = Loss(judge_and_describe, be_judged)


class Candidate(NamedTuple):
    """A change of today's recipe, in words and as a recipe."""

    change: str
    recipe: Recipe


def _change(words, **changes):
    return Candidate(words, replace(RECIPES["dcgan"], **changes))


CANDIDATES = {
    "today": _change("nothing: today's recipe"),
    "first": _change(
        "the recipe of the first search: nothing hidden, no view of the batch's spread, a steady learning rate",
        discriminator="alone",
        augmentation="mild",
        steady=1.0,
    ),
    "hinge": _change("hinge loss", loss="hinge"),
    "excited": _change("skip-layer excitation in the generator", generator="excited"),
    "finer": _change("features at the image's own size, before the last convolution", generator="finer"),
    "smooth": _change("bilinear upsampling in the generator's last two layers", generator="smooth"),
    "patches": _change("25 logits for parts of the image", discriminator="patches"),
    "describing": _change(
        "the discriminator also learns to draw the real image again", discriminator="describing", loss="describing"
    ),
    "faster": _change("learning rate of both × 2", learning_rate=4e-4),
    "longer_average": _change("a generator averaged over five times as many updates", ema_decay=0.998),
    "larger_changes": _change(
        "shifts of an eighth, brightness and contrast changed by 0.4", max_shift=1 / 8, max_brightness=0.4, max_contrast=0.4
    ),
    "excited_hinge": _change("skip-layer excitation and hinge loss", generator="excited", loss="hinge"),
    "excited_patches": _change("skip-layer excitation and 25 logits for parts", generator="excited", discriminator="patches"),
    "excited_describing": _change(
        "skip-layer excitation, and the discriminator draws the image again",
        generator="excited",
        discriminator="describing",
        loss="describing",
    ),
}
