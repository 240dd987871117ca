"""The GAN: the update, the training that resumes, and what is watched while it runs.

One `keras.Model` holds both networks, and plain `fit` trains it on TensorFlow and on JAX.
"""

import sys
from dataclasses import replace

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

import utils
from xraygan import backend, disk, keys, training
from xraygan.gan import augmentation, fakes, fidelity, losses

GRID_SEED = 1_000_000  # first seed of what is drawn as training goes on; fakes take theirs from elsewhere
GENERATOR = "dcgan_generator"  # the file of notebook 2's
NUM_JUDGED = 256  # fakes that are judged at a sampled epoch


class SteadyThenFalling(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that stays for a share of the steps and then falls to 0 in a straight line."""

    def __init__(self, rate, num_steps, steady):
        self.rate, self.num_steps, self.steady = rate, num_steps, steady

    def __call__(self, step):
        left = 1 - ops.cast(step, "float32") / self.num_steps
        return self.rate * ops.clip(left / max(1 - self.steady, 1e-6), 0.0, 1.0)

    def get_config(self):
        return {"rate": self.rate, "num_steps": self.num_steps, "steady": self.steady}


class GAN(keras.Model):
    """Generator, averaged generator and discriminator, trained together by `fit` on batches of real images.

    Attributes:
        recipe: `recipe.Recipe`.
        loss_pair: `losses.Loss`.
        generator: the live network, updated by gradients.
        averaged_generator: the moving average of its weights *and* of its batch-norm statistics; the one to sample.
        discriminator: logits, positive for real.
    """

    def __init__(self, recipe, seed=0):
        """
        Args:
            recipe: `recipe.Recipe`.
            seed: of initial weights, noise and augmentation.
        """
        super().__init__(name="gan", dtype="float32")  # the networks have their own precision; averages need all 32 bits
        self.recipe, self.loss_pair = recipe, losses.LOSSES[recipe.loss]
        next_seed = utils.seeds(seed)
        self.generator = recipe.build_generator(next_seed)
        self.averaged_generator = recipe.build_generator(next_seed)
        self.averaged_generator.set_weights(self.generator.get_weights())
        self.averaged_generator.trainable = False
        self.discriminator = recipe.build_discriminator(next_seed)
        self.random = keras.random.SeedGenerator(seed)
        self.discriminator_loss = keras.metrics.Mean(name="d_loss")
        self.generator_loss = keras.metrics.Mean(name="g_loss")

    def compile_for_training(self, jit_compile):
        """Compile with an Adam for each network, and build every variable."""
        self.generator_optimizer = self._make_optimizer(steps_an_update=1)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.generator_moments = self.generator_optimizer.variables  # a model's state holds the variables of its attributes
        self.compile(optimizer=self._make_optimizer(self.loss_pair.discriminator_steps), jit_compile=jit_compile)
        self.optimizer.build(self.discriminator.trainable_variables)
        self.built = True

    def _make_optimizer(self, steps_an_update):
        recipe = self.recipe
        rate = SteadyThenFalling(recipe.learning_rate, recipe.updates * steps_an_update, recipe.steady)
        return backend.Adam(rate, beta_1=recipe.beta_1)

    def train_step(self, *arguments):
        """One update; Keras gives `(data)` on TensorFlow and `(state, data)` on JAX."""
        return backend.run_update(self, self.update, *arguments)

    def update(self, real):
        """One update of both networks on real images `(B, S, S, 1)` in −1 to 1."""
        *earlier, last = ops.split(real, self.loss_pair.discriminator_steps)
        for images in earlier:  # where the loss wants it, the discriminator learns more often than the generator
            fake, _ = self.generate(images.shape[0])
            _, pull = self.judge(images, fake)
            self.optimizer.apply(pull(0, 0), self.discriminator.trainable_variables)

        self.average_generator()
        fake, pull_generator = self.generate(last.shape[0])
        (d_loss, g_loss), pull_judge = self.judge(last, fake)  # both losses, from one pass forward
        d_gradients = pull_judge(0, 0)  # of the discriminator's loss by its weights
        fake_gradient = pull_judge(1, 1)  # of the generator's loss by the fake images …
        g_gradients = pull_generator(0, 0, fake_gradient)  # … and from there by the generator's weights
        self.optimizer.apply(d_gradients, self.discriminator.trainable_variables)
        self.generator_optimizer.apply(g_gradients, self.generator.trainable_variables)
        self.discriminator_loss.update_state(d_loss)
        self.generator_loss.update_state(g_loss)

    def generate(self, num_images):
        """Fakes from new noise, `(num_images, S, S, 1)`, and `backend.pullback`'s way back from them to the generator's weights."""
        noise = keras.random.normal((num_images, self.recipe.latent_dim), seed=self.random)

        def run_generator(weights):
            state = backend.read(self.generator.non_trainable_variables)
            fake, state = self.generator.stateless_call(weights, state, noise, training=True)
            return (fake,), state

        (fake,), state, pull = backend.pullback(run_generator, backend.read(self.generator.trainable_variables))
        backend.assign(self.generator.non_trainable_variables, state)
        return fake, pull

    def judge(self, real, fake):
        """Both losses, and the way back from them (0 the discriminator's, 1 the generator's) to the discriminator's weights (0) and the fakes (1)."""

        def run_discriminator(weights, fake):
            state = backend.read(self.discriminator.non_trainable_variables)
            seen_real, seen_fake = self.show(real), self.show(fake)
            # Apart, not as one batch: two small convolutions side by side keep two cores busier than one large one.
            real_logits, state = self.discriminator.stateless_call(weights, state, seen_real, training=True)
            fake_logits, state = self.discriminator.stateless_call(weights, state, seen_fake, training=True)
            d_loss = self.loss_pair.discriminator(real_logits, fake_logits)
            if self.loss_pair.penalty:
                rate = lambda images: self.discriminator.stateless_call(weights, state, images, training=True)[0]  # noqa: E731
                d_loss += self.loss_pair.penalty(rate, seen_real, seen_fake, self.random)
            return (d_loss, self.loss_pair.generator(fake_logits)), state

        pulled = backend.pullback(run_discriminator, backend.read(self.discriminator.trainable_variables), fake)
        both_losses, state, pull = pulled
        backend.assign(self.discriminator.non_trainable_variables, state)
        return both_losses, pull

    def show(self, images):
        """The images as the discriminator sees them."""
        return augmentation.AUGMENTATIONS[self.recipe.augmentation](images, self.random, self.recipe)

    def average_generator(self):
        """Move the averaged generator a little towards the live one, batch-norm statistics included."""
        decay = self.recipe.ema_decay
        for average, live in zip(self.averaged_generator.variables, self.generator.variables, strict=True):
            average.assign(decay * average.value + (1 - decay) * live.value)

    def get_sampler(self):
        """The generator to sample: the averaged one, or the live one where the recipe doesn't average."""
        return self.averaged_generator if self.recipe.ema_decay else self.generator


class HalfPrecisionGAN(GAN):
    """The same with networks in float16, where small gradients would become 0: the losses that they come from are scaled up.

    Keras' `LossScaleOptimizer` says how far, divides the gradients again, and leaves out an update in which one of them overflowed.
    """

    def _make_optimizer(self, steps_an_update):
        return keras.mixed_precision.LossScaleOptimizer(super()._make_optimizer(steps_an_update))

    def judge(self, real, fake):
        """As `GAN.judge`; the way back is that of the scaled losses."""
        both_losses, pull = super().judge(real, fake)
        optimizers = self.optimizer, self.generator_optimizer
        return both_losses, lambda loss, wanted: pull(loss, wanted, optimizers[loss].scale_loss(ops.ones(())))


def make_gan(recipe, seed):
    """The GAN of a recipe, compiled, in the precision of this process."""
    half = keras.mixed_precision.dtype_policy().compute_dtype == "float16"
    gan = (HalfPrecisionGAN if half else GAN)(recipe, seed)
    gan.compile_for_training(backend.use_jit())
    return gan


def make_batches(images, recipe, seed, first_step=0):
    """What a GAN sees of images `uint8 (N, S, S, 1)` from an update on: endless batches of real images in −1 to 1."""
    return training.RepeatingShuffle(images, None, utils.to_signed, recipe.count_real(len(images)), seed, first_step)


class SampleGrids(training.KeptTable):
    """Draws the same noise at every sampled epoch and writes it as `epoch_0001.png`, so that progress can be watched."""

    def __init__(self, folder, noise, every):
        super().__init__()
        self.folder, self.noise, self.every = folder, noise, every

    def on_train_begin(self, logs=None):
        disk.remove_drafts(self.folder)
        self._remove_others()

    def on_epoch_end(self, epoch, logs=None):
        if is_sampled(epoch, self.every, self.params["epochs"]):
            picture = utils.image_grid(fakes.draw(self.model.get_sampler(), self.noise))
            utils.save_png(picture, self._name(epoch + 1))
            self.add({"epoch": epoch + 1, "sha256": disk.hash_file(self._name(epoch + 1))})

    def take_up(self, rows, finished):
        """Go on after `finished` epochs; grids that aren't as they were drawn go, since only a new training could draw them again."""
        self.rows = [row for row in rows if disk.hash_file(self._name(row["epoch"])) == row["sha256"]]
        whole = {self._name(row["epoch"]) for row in self.rows}
        changed = [self._name(row["epoch"]) for row in rows if self._name(row["epoch"]) not in whole]
        if changed:
            print(
                f"{disk.display_path(changed[0])} is gone or was changed and is left out of pictures and film"
                + (f", as are {len(changed) - 1} more." if changed[1:] else ".")
            )
        self._remove_others()

    def _remove_others(self):
        """Delete grids that this training hasn't drawn: of an earlier one of other settings, or ahead of the state that is gone on from."""
        for file in set(self.folder.glob("epoch_*.png")) - {self._name(row["epoch"]) for row in self.rows}:
            disk.remove(file)

    def _name(self, epoch):
        return self.folder / f"epoch_{epoch:04d}.png"


class FidelityCurve(training.KeptTable):
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
        super().__init__(table_file, "kid", best_file)
        self.judge, self.noise, self.every = judge, noise, every

    def on_epoch_end(self, epoch, logs=None):
        if not is_sampled(epoch, self.every, self.params["epochs"]):
            return
        earlier, sampler = self.rows[-1:], self.model.get_sampler()
        row = judge_epoch(self.judge, sampler, self.noise, logs)
        self.add({"epoch": epoch + 1} | row, sampler.variables)
        if earlier and self.judge.has_collapsed(row["diversity"], earlier[-1]["diversity"]):
            tqdm.write(
                f"Epoch {epoch + 1}: the generator has collapsed, its images are nearly all alike "
                f"({row['diversity']:.0%} of the distances among real ones). The best generator before is kept.",
                file=sys.stdout,
            )


def judge_epoch(judge, generator, noise, losses_of_epoch):
    """`fidelity.Judge.distances` of what a generator draws; no numbers where its losses were none."""
    if not np.isfinite(list(losses_of_epoch.values())).all():
        return {"kid": np.nan, "diversity": np.nan}
    return judge.distances(fakes.draw(generator, noise))


def is_sampled(epoch, every, num_epochs):
    """Whether grids are drawn and judged after an epoch, counted from 0."""
    return epoch == 0 or (epoch + 1) % every == 0 or epoch + 1 == num_epochs


def draw_judged_noise(latent_dim):
    """The noise of the fakes that are judged at every sampled epoch."""
    return fakes.draw_noise(range(GRID_SEED, GRID_SEED + NUM_JUDGED), latent_dim)


@backend.deterministic_if_possible
def train_gan(images, recipe, seed, folders, judge=None):
    """Train a GAN on one class, resuming where it stopped; writes sample grids, history and fidelity as it goes.

    Args:
        images: `uint8 (N, S, S, 1)`, the training part of one class.
        recipe: `recipe.Recipe`.
        seed: of weights, noise, order and augmentation.
        folders: `run.RunFolders`.
        judge: `fidelity.Judge` of validation images, which chooses the epoch whose generator is kept; None keeps the last.

    Returns:
        the generator to sample, the epoch it is from, and the history as a DataFrame (epoch, d_loss, g_loss).

    Raises:
        ValueError: the losses were numbers in no epoch that could be kept.
    """
    gan = make_gan(recipe, seed)
    num_epochs, sample_every = recipe.count_epochs(len(images))
    state_folder, table_folder = folders.models / "gan_state", folders.results / "gan"
    choice = {"sample_every": recipe.sample_every, "baseline and validation images": judge.made_from} if judge else {}
    resumable = training.ResumableTraining(
        gan,
        state_folder,
        table_folder / "history.csv",
        parameters=describe_training(recipe)
        | {"seed": seed, "precision": keras.mixed_precision.global_policy().name, "images": training.fingerprint(images)}
        | choice,  # of the epoch that is kept
    )
    shown = fakes.draw_noise(range(GRID_SEED, GRID_SEED + 32), recipe.latent_dim)
    callbacks = [SampleGrids(folders.images / "gan", shown, sample_every)]
    best_file = state_folder / "best_generator.npz"
    if judge:
        judged = draw_judged_noise(recipe.latent_dim)
        callbacks.append(FidelityCurve(judge, judged, sample_every, table_folder / "fidelity.csv", best_file))
    history = resumable.fit(
        lambda step: make_batches(images, recipe, seed, step),
        recipe.count_updates(len(images)),
        num_epochs,
        "training the GAN",
        callbacks=callbacks,
    )
    generator, epoch = gan.get_sampler(), len(history)
    if judge:
        epoch = training.load_variables(best_file, generator.variables, resumable.state.parameters)
        resumable.state.drop()  # what is used from now on is `best_file`
    elif not np.isfinite(history.iloc[-1]).all():
        raise ValueError(
            "training the GAN: the losses of the last epoch are NaN (not a number), and there are too few images to choose an earlier one by: "
            "take another GAN_RECIPE, or PRECISION 'float32', with another name for RUN."
        )
    return generator, epoch, history


# Beside its recipe this decides what a GAN's fakes are: the update, the choice of the epoch, the drawing; not how files are written.
CODE = (
    *(make_gan, make_batches),
    *(is_sampled, judge_epoch, draw_judged_noise, training.find_best_epoch),
    *(fidelity.Judge.distances, fidelity.FeatureSpace, fidelity.random_network),
    *(fakes.draw, fakes.draw_noise),
)


def describe_training(recipe):
    """The recipe and the code as a saved state is known by them: how often samples are drawn changes no weight."""
    fields = {name: value for name, value in keys.describe(recipe).items() if name != "sample_every"}
    return fields | {training.CODE_HASH: keys.digest([replace(recipe, sample_every=0).describe(), keys.describe(CODE)])}
