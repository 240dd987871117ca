"""The DCGAN: both networks, the training step, sampling.

One `keras.Model` holds both networks, and plain `fit` trains it on TensorFlow and on JAX. An update takes one pass through the
generator and one through the discriminator, forward and backward, although two losses are minimised: see `DCGAN.gradients`.
"""

import sys
from dataclasses import dataclass

import keras
import pandas as pd
from keras import layers, ops
from tqdm import tqdm

import utils
from xraygan import backend, disk, fakes, model_files, training
from xraygan.diffaugment import augment

GRID_SEED = 1_000_000  # first seed of what is drawn as training goes on; fakes take theirs from elsewhere
NUM_JUDGED = 256  # fakes that are judged at a sampled epoch


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
    batch_size: int = 8
    learning_rate: float = 2e-4
    ema_decay: float = 0.99
    augmented: bool = True


RECIPES = {
    # Radford et al. 2015 plus what a few hundred images need: small batches, averaging, mild augmentation.
    "dcgan": Recipe(),
    # The study this project rebuilds, faithfully, for comparison.
    "original": Recipe(batch_size=128, ema_decay=0.0, augmented=False),
}


def build_generator(recipe_name, latent_dim=100, next_seed=None):
    """The generator of a recipe: noise `(B, latent_dim)` → images `(B, 128, 128, 1)` in −1 to 1.

    `next_seed` gives the seed of each layer's initial weights, see `utils.seeds`.
    """
    _require_recipe(recipe_name)
    return {"dcgan": _dcgan_generator, "original": _original_generator}[recipe_name](latent_dim, next_seed or utils.seeds(0))


def build_discriminator(recipe_name, next_seed=None):
    """The discriminator of a recipe: images `(B, 128, 128, 1)` in −1 to 1 → logits `(B, 1)`, positive for real; `next_seed` as above."""
    _require_recipe(recipe_name)
    return {"dcgan": _dcgan_discriminator, "original": _original_discriminator}[recipe_name](next_seed or utils.seeds(0))


def _require_recipe(name):
    if name not in RECIPES:
        raise ValueError(f"GAN_RECIPE is {name!r}; choose one of {', '.join(RECIPES)}.")


def _dcgan_generator(latent_dim, next_seed):
    def weights():  # Radford et al. 2015
        return keras.initializers.RandomNormal(stddev=0.02, seed=next_seed())

    noise = keras.Input((latent_dim,))
    x = layers.Dense(4 * 4 * 256, use_bias=False, kernel_initializer=weights())(noise)
    x = layers.Reshape((4, 4, 256))(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    # Doubled before the convolution, not by a transposed one: no checkerboard (Odena et al. 2016).
    for filters in (256, 128, 64, 32):  # 8, 16, 32, 64 pixels
        x = layers.UpSampling2D(2)(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=weights())(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(1, 3, padding="same", kernel_initializer=weights(), dtype="float32")(x)
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


def _dcgan_discriminator(next_seed):
    def weights():  # He et al. 2015: without batch norm, smaller ones let the signal fade and leave the discriminator at chance
        return keras.initializers.HeNormal(next_seed())

    image = x = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    for filters in (32, 64, 128, 256, 256):  # 64, 32, 16, 8, 4 pixels; no batch norm, so each image is judged alone
        x = layers.Conv2D(filters, 4, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    glorot = keras.initializers.GlorotUniform(next_seed())
    logit = layers.Dense(1, kernel_initializer=glorot, dtype="float32")(layers.Flatten()(x))
    return keras.Model(image, logit, name="discriminator")


def _original_generator(latent_dim, next_seed):
    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    noise = keras.Input((latent_dim,))
    x = layers.LeakyReLU(0.2)(layers.Dense(8 * 8 * 128, kernel_initializer=weights())(noise))
    x = layers.Reshape((8, 8, 128))(x)
    for _ in range(4):
        x = layers.Conv2DTranspose(128, 4, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    image = layers.Conv2D(1, 5, padding="same", activation="tanh", kernel_initializer=weights(), dtype="float32")(x)
    return keras.Model(noise, image, name="generator")


def _original_discriminator(next_seed):
    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    image = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(128, 5, padding="same", kernel_initializer=weights())(image))
    for _ in range(4):
        x = layers.Conv2D(128, 5, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dropout(0.4, seed=next_seed())(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(1, kernel_initializer=weights(), dtype="float32")(x), name="discriminator")


def discriminator_loss(real_logits, fake_logits):
    """Logistic loss (Goodfellow et al. 2014): 2·ln 2 where real can't be told from fake."""
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def generator_loss(fake_logits):
    """Non-saturating logistic loss (Goodfellow et al. 2014): ln 2 where real can't be told from fake."""
    return ops.mean(ops.softplus(-fake_logits))


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
            seed: of initial weights, noise and augmentation.

        Raises:
            ValueError: no such recipe.
        """
        _require_recipe(recipe_name)
        super().__init__(name="dcgan", dtype="float32")  # the networks have their own precision; averages need all 32 bits
        self.recipe = RECIPES[recipe_name]
        next_seed = utils.seeds(seed)
        self.generator = build_generator(recipe_name, self.recipe.latent_dim, next_seed)
        self.averaged_generator = build_generator(recipe_name, self.recipe.latent_dim, next_seed)
        self.averaged_generator.set_weights(self.generator.get_weights())
        self.averaged_generator.trainable = False
        self.discriminator = build_discriminator(recipe_name, next_seed)
        self.random = keras.random.SeedGenerator(seed)
        self.discriminator_loss = keras.metrics.Mean(name="d_loss")
        self.generator_loss = keras.metrics.Mean(name="g_loss")

    def compile_for_training(self, jit_compile):
        """Compile with Adam, β₁ = 0.5 (0.9 oscillates, Radford et al. 2015), and build every variable."""
        optimizer = keras.optimizers.Adam(self.recipe.learning_rate, beta_1=0.5)
        self.compile(optimizer=optimizer, jit_compile=jit_compile)
        self.built = True
        optimizer.build(self.trainable_variables)

    def train_step(self, *arguments):
        """One update; Keras gives `(data)` on TensorFlow and `(state, data)` on JAX."""
        return backend.run_update(self, self.update, *arguments)

    def update(self, real):
        """The gradients of one update on real images `(B, 128, 128, 1)`, in the order of `trainable_variables`; the rest is done in place."""
        self._average_generator()
        noise = keras.random.normal((ops.shape(real)[0], self.recipe.latent_dim), seed=self.random)
        d_gradients, g_gradients, real_logits, fake_logits = self.gradients(real, noise)
        self.discriminator_loss.update_state(discriminator_loss(real_logits, fake_logits))
        self.generator_loss.update_state(generator_loss(fake_logits))
        return [*g_gradients, *d_gradients]

    def gradients(self, real, noise):
        """Both networks' gradients from one backward pass through the discriminator.

        The discriminator has no batch statistics, so a fake image x enters both losses through its own logit l(x) only, and
        dL_G/dx = (dL_G/dl) / (dL_D/dl) · dL_D/dx. For the non-saturating logistic losses that factor is
        −σ(−l) / σ(l) = −exp(−l): the discriminator's gradient at each fake, times one number an image, is the generator's.

        Returns:
            gradients of the discriminator's and of the generator's trainable variables, and the logits `(B, 1)` of real and fake.
        """

        def generate(weights):
            return self.generator.stateless_call(weights, values(self.generator.non_trainable_variables), noise, training=True)

        def judge(weights, fake):
            state = values(self.discriminator.non_trainable_variables)
            # Apart, not as one batch: two small convolutions side by side keep two cores busier than one large one.
            real_logits, state = self.discriminator.stateless_call(weights, state, self._as_seen(real), training=True)
            fake_logits, state = self.discriminator.stateless_call(weights, state, self._as_seen(fake), training=True)
            return discriminator_loss(real_logits, fake_logits), (real_logits, fake_logits, state)

        fake, g_state, pull_generator = backend.pullback(generate, values(self.generator.trainable_variables))
        d_loss, (real_logits, fake_logits, d_state), pull_judge = backend.pullback(
            judge, values(self.discriminator.trainable_variables), fake
        )
        d_gradients, fake_gradient = pull_judge(ops.ones_like(d_loss))
        factor = -ops.exp(-ops.maximum(fake_logits, -60.0))  # beyond −60 the exponential would leave float32
        (g_gradients,) = pull_generator(fake_gradient * factor[:, :, None, None])
        for network, state in ((self.generator, g_state), (self.discriminator, d_state)):
            for variable, value in zip(network.non_trainable_variables, state, strict=True):
                variable.assign(value)
        return d_gradients, g_gradients, real_logits, fake_logits

    def sampler(self):
        """The generator to sample: the averaged one, or the live one where the recipe doesn't average."""
        return self.averaged_generator if self.recipe.ema_decay else self.generator

    def _as_seen(self, images):
        return augment(images, self.random) if self.recipe.augmented else images

    def _average_generator(self):
        decay = self.recipe.ema_decay
        for average, live in zip(self.averaged_generator.variables, self.generator.variables, strict=True):
            average.assign(decay * average.value + (1 - decay) * live.value)


def values(variables):
    """What the variables hold now, as a list of tensors for `stateless_call`."""
    return [ops.convert_to_tensor(variable.value) for variable in variables]


class SampleGrids(keras.callbacks.Callback):
    """Draws the same noise at every sampled epoch and writes it as `epoch_0001.png`, so that progress can be watched."""

    def __init__(self, folder, noise, every):
        super().__init__()
        self.folder, self.noise, self.every = folder, noise, every

    def on_train_begin(self, logs=None):
        disk.remove_drafts(self.folder)

    def on_epoch_end(self, epoch, logs=None):
        if _is_sampled(epoch, self.every, self.params["epochs"]):
            picture = utils.image_grid(fakes.draw(self.model.sampler(), self.noise))
            utils.save_png(picture, self.folder / f"epoch_{epoch + 1:04d}.png")


class FidelityCurve(keras.callbacks.Callback):
    """Judges the same noise at every sampled epoch, against validation images, and keeps the best generator."""

    def __init__(self, judge, noise, every, table_file, best_file):
        """
        Args:
            judge: `fidelity.Judge` of validation images.
            noise: float `(N, latent_dim)`, what is drawn and judged.
            every: epochs between two judgements.
            table_file: CSV with one row a judgement.
            best_file: weights of the generator with the smallest kernel distance so far, and its epoch.
        """
        super().__init__()
        self.judge, self.noise, self.every = judge, noise, every
        self.table_file, self.best_file = table_file, best_file
        self.rows = pd.read_csv(table_file).to_dict("records") if table_file.exists() else []

    def on_epoch_end(self, epoch, logs=None):
        if not _is_sampled(epoch, self.every, self.params["epochs"]):
            return
        earlier = [row for row in self.rows if row["epoch"] <= epoch]  # after a crash the file may be an epoch ahead
        row = {"epoch": epoch + 1} | self.judge.distances(fakes.draw(self.model.sampler(), self.noise))
        self.rows = [*earlier, row]
        if all(row["kid"] < other["kid"] for other in earlier):
            training.save_variables(self.best_file, self.model.sampler().variables, epoch=epoch + 1)
        utils.write_table(pd.DataFrame(self.rows), self.table_file)
        if earlier and self.judge.has_collapsed(row["diversity"], earlier[-1]["diversity"]):
            tqdm.write(
                f"Epoch {epoch + 1}: the generator has collapsed, its images are nearly all alike "
                f"({row['diversity']:.0%} of the distances among real ones). The best generator before is kept.",
                file=sys.stdout,
            )


def _is_sampled(epoch, every, num_epochs):
    return epoch == 0 or (epoch + 1) % every == 0 or epoch + 1 == num_epochs


def train_gan(images, recipe_name, num_epochs, sample_every, seed, folders, judge=None, description="training the GAN"):
    """Train a GAN on one class, resuming where it stopped; writes sample grids, history and fidelity as it goes.

    Args:
        images: `uint8 (N, 128, 128, 1)`, the training part of one class.
        recipe_name: a key of `RECIPES`.
        num_epochs: passes over the images.
        sample_every: epochs between two sample grids and judgements.
        seed: of weights, noise, order and augmentation.
        folders: `utils.RunFolders`.
        judge: `fidelity.Judge` of validation images, which chooses the epoch whose generator is kept; None keeps the last.

    Returns:
        the generator to sample, the epoch it is from, and the history as a DataFrame (epoch, d_loss, g_loss).
    """
    gan = DCGAN(recipe_name, seed)
    gan.compile_for_training(backend.use_jit())
    batch_size = min(gan.recipe.batch_size, len(images))
    updates = -(-len(images) // batch_size)
    parameters = {"recipe": recipe_name, "seed": seed, "precision": keras.mixed_precision.global_policy().name}
    state_folder, table_folder, latent_dim = folders.models / "gan_state", folders.results / "gan", gan.recipe.latent_dim
    run = training.ResumableTraining(
        gan, state_folder, table_folder / "history.csv", parameters | {"images": training.fingerprint(images)}
    )
    shown = fakes.fake_noise(range(GRID_SEED, GRID_SEED + 32), latent_dim)
    callbacks = [SampleGrids(folders.images / "gan", shown, sample_every)]
    best_file = state_folder / "best_generator.npz"
    if judge:
        judged = fakes.fake_noise(range(GRID_SEED, GRID_SEED + NUM_JUDGED), latent_dim)
        callbacks.append(FidelityCurve(judge, judged, sample_every, table_folder / "fidelity.csv", best_file))
    history = run.fit(
        lambda step: training.RepeatingShuffle(images, None, utils.to_signed, batch_size, seed, step),
        updates,
        num_epochs,
        description,
        callbacks=callbacks,
    )
    generator, epoch = gan.sampler(), len(history)
    if judge:
        epoch = training.load_variables(best_file, generator.variables)
    return generator, epoch, history


def load_generator(folders, recipe_name):
    """The generator that notebook 2 saved.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: the file isn't what the record tells of.
    """
    generator = build_generator(recipe_name, RECIPES[recipe_name].latent_dim)
    return model_files.load_weights(generator, folders, "dcgan_generator", "2_gan_training.ipynb")
