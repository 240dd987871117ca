"""The DCGAN: both networks, the training step, sampling.

One `keras.Model` holds both networks. Its `call` runs them, its `compute_loss` adds both losses, and plain `fit` trains it on
any Keras backend. The generator's loss sees the discriminator through weights whose gradient is stopped, so one backward pass
gives each network its own gradient.
"""

from dataclasses import dataclass

import keras
from keras import layers, ops

import utils
from xraygan import backend, fakes, training
from xraygan.diffaugment import augment

GRID_SEED = 1_000_000  # first seed of the progress grid; fakes take theirs from elsewhere


@dataclass(frozen=True)
class Recipe:
    """How a GAN is built and trained.

    Attributes:
        latent_dim: length of the noise vector.
        batch_size: real images an update.
        learning_rate: of Adam, for both networks.
        ema_decay: of the averaged generator that is sampled; 0 samples the live one.
        augmented: whether the discriminator sees augmented images.
    """

    latent_dim: int = 100
    batch_size: int = 16
    learning_rate: float = 2e-4
    ema_decay: float = 0.99
    augmented: bool = True


RECIPES = {
    # Radford et al. 2015 plus what a few hundred images need: small batches, averaging, mild augmentation.
    "dcgan": Recipe(),
    # The study this project rebuilds, faithfully, for comparison.
    "seed": Recipe(batch_size=128, ema_decay=0.0, augmented=False),
}


def build_generator(recipe_name, latent_dim=100):
    """The generator of a recipe: noise `(B, latent_dim)` → images `(B, 128, 128, 1)` in −1 to 1."""
    return {"dcgan": _dcgan_generator, "seed": _seed_generator}[recipe_name](latent_dim)


def build_discriminator(recipe_name):
    """The discriminator of a recipe: images `(B, 128, 128, 1)` in −1 to 1 → logits `(B, 1)`, positive for real."""
    return {"dcgan": _dcgan_discriminator, "seed": _seed_discriminator}[recipe_name]()


def _dcgan_generator(latent_dim):
    noise = keras.Input((latent_dim,))
    x = layers.Dense(4 * 4 * 256, use_bias=False, kernel_initializer=_small_weights())(noise)
    x = layers.Reshape((4, 4, 256))(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for filters in (256, 128, 64, 32):  # 8, 16, 32, 64 pixels; kernel 4 is a multiple of stride 2: no checkerboard
        doubled = layers.Conv2DTranspose(
            filters, 4, strides=2, padding="same", use_bias=False, kernel_initializer=_small_weights()
        )
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(doubled(x)))
    x = layers.Conv2DTranspose(1, 4, strides=2, padding="same", kernel_initializer=_small_weights(), dtype="float32")(x)
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


def _small_weights():
    """Radford et al. 2015; a new one for each layer, since an initializer used twice gives the same numbers twice."""
    return keras.initializers.RandomNormal(stddev=0.02)


def _dcgan_discriminator():
    image = x = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    for filters in (32, 64, 128, 256, 256):  # 64, 32, 16, 8, 4 pixels; no batch norm, so each image is judged alone
        # He et al. 2015: without batch norm, smaller weights let the signal fade and leave the discriminator at chance.
        x = layers.Conv2D(filters, 4, strides=2, padding="same", kernel_initializer="he_normal")(x)
        x = layers.LeakyReLU(0.2)(x)
    logit = layers.Dense(1, dtype="float32")(layers.Flatten()(x))
    return keras.Model(image, logit, name="discriminator")


def _seed_generator(latent_dim):
    noise = keras.Input((latent_dim,))
    x = layers.LeakyReLU(0.2)(layers.Dense(8 * 8 * 128)(noise))
    x = layers.Reshape((8, 8, 128))(x)
    for _ in range(4):
        x = layers.LeakyReLU(0.2)(layers.Conv2DTranspose(128, 4, strides=2, padding="same")(x))
    image = layers.Conv2D(1, 5, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(noise, image, name="generator")


def _seed_discriminator():
    image = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(128, 5, padding="same")(image))
    for _ in range(4):
        x = layers.LeakyReLU(0.2)(layers.Conv2D(128, 5, strides=2, padding="same")(x))
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(1, dtype="float32")(x), name="discriminator")


class DCGAN(keras.Model):
    """Generator, averaged generator and discriminator, trained together by `fit` on batches of real images.

    Attributes:
        generator: the live network, updated by gradients.
        averaged_generator: the moving average of its weights *and* of its batch-norm statistics; the one to sample.
        discriminator: logits, positive for real.
    """

    def __init__(self, recipe_name="dcgan", seed=0):
        """
        Args:
            recipe_name: a key of `RECIPES`.
            seed: of noise and augmentation; the initial weights follow `utils.set_seed`.

        Raises:
            ValueError: no such recipe.
        """
        if recipe_name not in RECIPES:
            raise ValueError(f"GAN_RECIPE is {recipe_name!r}; choose one of {', '.join(RECIPES)}.")
        super().__init__(name="dcgan", dtype="float32")  # the networks have their own precision; averages need all 32 bits
        self.recipe = RECIPES[recipe_name]
        self.generator = build_generator(recipe_name, self.recipe.latent_dim)
        self.averaged_generator = build_generator(recipe_name, self.recipe.latent_dim)
        self.averaged_generator.set_weights(self.generator.get_weights())
        self.averaged_generator.trainable = False
        self.discriminator = build_discriminator(recipe_name)
        self.random = keras.random.SeedGenerator(seed)
        self.discriminator_loss = keras.metrics.Mean(name="d_loss")
        self.generator_loss = keras.metrics.Mean(name="g_loss")

    def compile_for_training(self, jit_compile):
        """Compile with Adam, β₁ = 0.5 (0.9 oscillates, Radford et al. 2015), and build every variable."""
        optimizer = keras.optimizers.Adam(self.recipe.learning_rate, beta_1=0.5)
        self.compile(optimizer=optimizer, jit_compile=jit_compile)
        self.built = True
        optimizer.build(self.trainable_variables)

    def call(self, real, training=False):
        """`(B, 128, 128, 1)` real images → logits of real images, of fakes, and of fakes for the generator's loss."""
        noise = keras.random.normal((ops.shape(real)[0], self.recipe.latent_dim), seed=self.random)
        fake = self.generator(noise, training=training)
        if training:
            self._average_generator()
        seen_real, seen_fake = self._as_seen(real), self._as_seen(fake)
        judged = self.discriminator(ops.concatenate([seen_real, ops.stop_gradient(seen_fake)]), training=training)
        real_logits, fake_logits = ops.split(judged, 2)
        frozen = [ops.stop_gradient(variable.value) for variable in self.discriminator.trainable_variables]
        state = [variable.value for variable in self.discriminator.non_trainable_variables]
        fooling_logits, _ = self.discriminator.stateless_call(frozen, state, seen_fake, training=training)
        return {"real": real_logits, "fake": fake_logits, "fooling": fooling_logits}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Non-saturating loss (Goodfellow et al. 2014); the discriminator's is 2·ln 2 where it can't tell real from fake."""
        d_loss = ops.mean(ops.softplus(-y_pred["real"])) + ops.mean(ops.softplus(y_pred["fake"]))
        g_loss = ops.mean(ops.softplus(-y_pred["fooling"]))
        self.discriminator_loss.update_state(d_loss)
        self.generator_loss.update_state(g_loss)
        return d_loss + g_loss

    def sampler(self):
        """The generator to sample: the averaged one, or the live one where the recipe doesn't average."""
        return self.averaged_generator if self.recipe.ema_decay else self.generator

    def _as_seen(self, images):
        return augment(images, self.random) if self.recipe.augmented else images

    def _average_generator(self):
        decay = self.recipe.ema_decay
        for average, live in zip(self.averaged_generator.variables, self.generator.variables, strict=True):
            average.assign(decay * average.value + (1 - decay) * live.value)


class SampleGrids(keras.callbacks.Callback):
    """Draws the same noise at every k-th epoch and writes it as `epoch_0001.png`, so that progress can be watched."""

    def __init__(self, folder, noise, every):
        super().__init__()
        self.folder, self.noise, self.every = folder, noise, every

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0 or (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            picture = utils.image_grid(fakes.draw(self.model.sampler(), self.noise))
            utils.save_png(picture, self.folder / f"epoch_{epoch + 1:04d}.png")


def train_gan(images, recipe_name, num_epochs, sample_every, seed, folders, description="training the GAN"):
    """Train a GAN on one class, resuming where it stopped; writes sample grids and the history as it goes.

    Args:
        images: `uint8 (N, 128, 128, 1)`, the training part of one class.
        recipe_name: a key of `RECIPES`.
        num_epochs: passes over the images.
        sample_every: epochs between two sample grids.
        seed: of weights, noise, order and augmentation.
        folders: `utils.RunFolders`.

    Returns:
        the trained `DCGAN` and its history as a DataFrame (epoch, d_loss, g_loss).
    """
    utils.set_seed(seed)
    gan = DCGAN(recipe_name, seed)
    gan.compile_for_training(backend.use_jit())
    batch_size = min(gan.recipe.batch_size, len(images))
    updates = -(-len(images) // batch_size)
    parameters = {"recipe": recipe_name, "seed": seed, "precision": keras.mixed_precision.global_policy().name}
    run = training.ResumableTraining(
        gan,
        folders.models / "gan_state",
        folders.results / "gan" / "history.csv",
        parameters | {"images": training.fingerprint(images)},
    )
    history = run.fit(
        lambda step: training.RepeatingShuffle(images, None, utils.to_signed, batch_size, seed, step),
        updates,
        num_epochs,
        description,
        callbacks=[
            SampleGrids(
                folders.images / "gan", fakes.fake_noise(range(GRID_SEED, GRID_SEED + 32), gan.recipe.latent_dim), sample_every
            )
        ],
    )
    return gan, history
