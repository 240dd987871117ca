"""The networks of the GAN: registries `GENERATORS` and `DISCRIMINATORS`. Another network is one function and one entry.

A generator is a function (image size S, latent_dim, next_seed) → model: noise `(B, latent_dim)` → images `(B, S, S, 1)` in −1 to 1.
A discriminator is a function (image size S, next_seed) → model: images `(B, S, S, 1)` in −1 to 1 → logits `(B, 1)`, positive for real.
`next_seed` gives the seed of each layer's initial weights, see `utils.seeds`. S is a power of two.
"""

import keras
from keras import layers, ops

from xraygan.gan import operations


def _filters_at(size, image_size):
    """Wide where the picture is small, narrow where it is large: 32 at half the image's size, twice as many at each halving, at most 256."""
    return min(256, 32 * image_size // (2 * size))


def _sizes_between(smallest, image_size):
    """The sizes of picture from twice `smallest` to half of `image_size`, each twice the one before."""
    size = 2 * smallest
    while size < image_size:
        yield size
        size *= 2


@keras.saving.register_keras_serializable("xraygan")
class DoubleAndConvolve(layers.Layer):
    """Nearest-neighbour upsampling and then a 3×3 convolution, computed as one transposed 4×4 convolution of stride 2.

    After doubling, a 3×3 kernel sees each pixel once or as two equal copies, whose weights can be added beforehand: along each axis
    the kernel (a, b, c) becomes (c, b + c, a + b, a). It is the same function of the same weights with 2.25 times fewer products.
    """

    def __init__(self, filters, kernel_initializer, use_bias=True, **arguments):
        super().__init__(**arguments)
        self.filters, self.use_bias = filters, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, autocast=False, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias") if self.use_bias else None

    def call(self, images):
        kernel = self.kernel  # added up in float32, whatever the images' precision
        for axis in (0, 1):
            a, b, c = ops.split(kernel, 3, axis)
            kernel = ops.concatenate([c, b + c, a + b, a], axis)
        kernel = ops.cast(ops.transpose(kernel, (0, 1, 3, 2)), self.compute_dtype)
        doubled = operations.double(images, kernel)
        return doubled if self.bias is None else doubled + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, 2 * height, 2 * width, self.filters

    def get_config(self):
        own = {"filters": self.filters, "use_bias": self.use_bias}
        return super().get_config() | own | {"kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}


@keras.saving.register_keras_serializable("xraygan")
class BatchNorm(layers.BatchNormalization):
    """Keras' batch normalization over pictures, which TensorFlow computes in one operation while training rather than in ten."""

    def call(self, images, training=None, mask=None):
        if not (training and self.trainable and operations.IS_TENSORFLOW and len(images.shape) == 4):
            return super().call(images, training=training, mask=mask)
        normal, mean, variance = operations.normalise(images, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return normal


@keras.saving.register_keras_serializable("xraygan")
class ConvolveAndHalve(layers.Layer):
    """A 4×4 convolution of stride 2 with a bias, as `layers.Conv2D(filters, 4, strides=2, padding="same")`, but faster to learn."""

    def __init__(self, filters, kernel_initializer, **arguments):
        super().__init__(**arguments)
        self.filters = filters
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        shape = (4, 4, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, images):
        return operations.halve(images, self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, height // 2, width // 2, self.filters

    def get_config(self):
        own = {"filters": self.filters, "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}
        return super().get_config() | own


def upsampling_generator(image_size, latent_dim, next_seed):
    """Doubles the picture by repeating its pixels and convolves it after: no checkerboard (Odena et al. 2016)."""

    def double(x, filters, **arguments):
        return DoubleAndConvolve(filters, **arguments)(x)

    return dcgan_generator(double, image_size, latent_dim, next_seed)


def transposed_generator(image_size, latent_dim, next_seed):
    """Doubles the picture by transposed convolutions, as Radford et al. 2015 do (arXiv:1511.06434)."""

    def double(x, filters, **arguments):
        return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", **arguments)(x)

    return dcgan_generator(double, image_size, latent_dim, next_seed)


def dcgan_generator(double, image_size, latent_dim, next_seed):
    """Noise → 4×4 places → doubled until it has the image's size; batch norm and ReLU in between, tanh at the end.

    Args:
        double: (maps, number of features, arguments of a Keras layer) → maps of twice the size; last it is asked for 1 feature in float32.
    """

    def weights():  # Radford et al. 2015
        return keras.initializers.RandomNormal(stddev=0.02, seed=next_seed())

    noise = keras.Input((latent_dim,))
    x = layers.Dense(4 * 4 * 256, use_bias=False, kernel_initializer=weights())(noise)
    x = layers.Reshape((4, 4, 256))(x)
    x = layers.ReLU()(BatchNorm(momentum=0.9)(x))
    for size in _sizes_between(4, image_size):
        x = double(x, _filters_at(size, image_size), use_bias=False, kernel_initializer=weights())
        x = layers.ReLU()(BatchNorm(momentum=0.9)(x))
    x = double(x, 1, kernel_initializer=weights(), dtype="float32")
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


@keras.saving.register_keras_serializable("xraygan")
class BatchSpread(layers.Layer):
    """Adds to each feature map, by a weight of its own, how much the images of a batch differ: their standard deviation over the batch, averaged.

    Fakes that are all alike give themselves away by it (minibatch standard deviation of Karras et al. 2018, arXiv:1710.10196, section 3).
    There it is one more feature map for the next convolution, which adds it up with such weights; 257 maps would be slow.
    """

    def __init__(self, kernel_initializer, **arguments):
        super().__init__(**arguments)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=input_shape[-1:], initializer=self.kernel_initializer, name="kernel")

    def call(self, maps):
        differences = ops.sqrt(ops.var(ops.cast(maps, "float32"), axis=0) + 1e-8)  # the variance would drown in bfloat16
        return maps + ops.cast(ops.mean(differences), maps.dtype) * self.kernel

    def get_config(self):
        return super().get_config() | {"kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}


def strided_discriminator(image_size, next_seed):
    """Halves the picture by strided convolutions down to 4×4 places; no batch norm. Sees how varied its batch is, before the last halving."""
    image = keras.Input((image_size, image_size, 1))
    glorot, x = keras.initializers.GlorotUniform, halve_to(4, image, next_seed)
    logit = layers.Dense(1, kernel_initializer=glorot(next_seed()), dtype="float32")(layers.Flatten()(x))
    return keras.Model(image, logit, name="discriminator")


def halve_to(smallest, image, next_seed):
    """Maps of `smallest` pixels a side from an image, which see how varied their batch is, by `BatchSpread` before the last halving."""

    def weights():  # He et al. 2015: without batch norm, smaller ones let the signal fade and leave the discriminator at chance
        return keras.initializers.HeNormal(next_seed())

    x, image_size = image, image.shape[1]
    for size in [*reversed([*_sizes_between(smallest, image_size)]), smallest]:
        if size == smallest:
            x = BatchSpread(keras.initializers.RandomNormal(stddev=x.shape[-1] ** -0.5, seed=next_seed()))(x)
        x = ConvolveAndHalve(_filters_at(size, image_size), weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    return x


def original_generator(image_size, latent_dim, next_seed):
    """The generator of the study that this project rebuilds: 128 filters everywhere, no batch norm."""

    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    noise = keras.Input((latent_dim,))
    x = layers.LeakyReLU(0.2)(layers.Dense(8 * 8 * 128, kernel_initializer=weights())(noise))
    x = layers.Reshape((8, 8, 128))(x)
    for _ in [*_sizes_between(8, image_size), image_size]:
        x = layers.Conv2DTranspose(128, 4, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    image = layers.Conv2D(1, 5, padding="same", activation="tanh", kernel_initializer=weights(), dtype="float32")(x)
    return keras.Model(noise, image, name="generator")


def original_discriminator(image_size, next_seed):
    """The discriminator of the study that this project rebuilds: 128 filters everywhere, dropout before the logit."""

    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    image = keras.Input((image_size, image_size, 1))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(128, 5, padding="same", kernel_initializer=weights())(image))
    for _ in [*_sizes_between(8, image_size), image_size]:
        x = layers.Conv2D(128, 5, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dropout(0.4, seed=next_seed())(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(1, kernel_initializer=weights(), dtype="float32")(x), name="discriminator")


GENERATORS = {"upsampling": upsampling_generator, "transposed": transposed_generator, "original": original_generator}
DISCRIMINATORS = {"strided": strided_discriminator, "original": original_discriminator}
