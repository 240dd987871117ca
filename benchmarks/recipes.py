"""The search for the recipe: one change at a time from a first recipe, equal wall-clock, validation images, up to three seeds.

What won is the default of `xraygan.dcgan`; the first recipe and all that was tried stand here, so that the search can be repeated.

python -m benchmarks.recipes calibrate [--only VARIANT …]       # seconds an update of every variant, on a quiet machine
python -m benchmarks.recipes search --data DATA --run RUN       # every trial that isn't there yet, one process a core
python -m benchmarks.recipes summarise                          # the table of what was tried and what it bought

RUN is a run whose notebook 1 is done: its split and its baseline judge the trials. A trial is a budget of seconds, turned into
updates by the calibration, so that its result doesn't depend on what else the machine does. Each finished trial is one file
in results/published/recipes/.
"""

import argparse
import functools
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field, replace

import joblib
import keras
import numpy as np
import pandas as pd
from keras import layers, ops

import utils
from benchmarks import machine
from xraygan import backend, classifier, dcgan, disk, fakes, fidelity, runs, training

TRIALS = disk.ROOT / "results" / "published" / "recipes"
SECONDS = TRIALS / "seconds_an_update.csv"
BUDGET = 600  # seconds a trial takes on one core of the calibrated machine
SEEDS = (0, 1, 2)
NUM_JUDGED = 512  # fakes that are judged
BASE = dcgan.Recipe(latent_dim=100, batch_size=16, learning_rate=2e-4, ema_decay=0.99, augmented=True)
WINNER = "upsampling_batch_8"  # the default recipe of `xraygan.dcgan`
MOMENTS = 5  # how often within a trial
AVERAGES = (0.0, 0.99, 0.995, 0.999)  # decays compared within each trial, which they don't change; 0 is the live generator


# The first recipe's networks, and what they can be changed to


def keras_seed():
    """A seed as Keras draws it where none is given."""
    return random.randint(1, 10**9)


def discriminator(filters=(32, 64, 128, 256, 256), wrap=lambda layer: layer):
    image = x = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    for channels in filters:
        x = wrap(layers.Conv2D(channels, 4, strides=2, padding="same", kernel_initializer="he_normal"))(x)
        x = layers.LeakyReLU(0.2)(x)
    logit = wrap(layers.Dense(1, dtype="float32"))(layers.Flatten()(x))
    return keras.Model(image, logit, name="discriminator")


def generator(latent_dim, filters=(256, 256, 128, 64, 32), upsample=None):
    def weights():
        return keras.initializers.RandomNormal(stddev=0.02)

    def doubled(x, channels, **arguments):
        arguments |= {"padding": "same", "kernel_initializer": weights()}
        if upsample:
            return layers.Conv2D(channels, 3, **arguments)(layers.UpSampling2D(2, interpolation=upsample)(x))
        return layers.Conv2DTranspose(channels, 4, strides=2, **arguments)(x)

    noise = keras.Input((latent_dim,))
    x = layers.Dense(4 * 4 * filters[0], use_bias=False, kernel_initializer=weights())(noise)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layers.Reshape((4, 4, filters[0]))(x)))
    for channels in filters[1:]:
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(doubled(x, channels, use_bias=False)))
    x = doubled(x, 1, dtype="float32")
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


# Steps that differ from the default's


class Stronger(dcgan.DCGAN):
    """Twice the shift, two and a half times the brightness and contrast."""

    def _as_seen(self, images):
        return dcgan.augment(images, self.random, max_shift=16, max_brightness=0.5, max_contrast=0.5)


class Adaptive(dcgan.DCGAN):
    """The stronger augmentation for a share of the images that follows the discriminator's overfitting (Karras et al. 2020)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.share = self.add_weight(shape=(), initializer="zeros", trainable=False, name="share")

    def _as_seen(self, images):
        changed = dcgan.augment(images, self.random, max_shift=16, max_brightness=0.5, max_contrast=0.5)
        drawn = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.random)
        return ops.where(drawn < self.share, changed, images)

    def gradients(self, real, noise):
        found = super().gradients(real, noise)
        step = ops.sign(ops.mean(ops.sign(found[2])) - 0.6) * self.recipe.batch_size / 10_000
        self.share.assign(ops.clip(self.share + step, 0.0, 1.0))
        return found


class Penalised(dcgan.DCGAN):
    """R1 of Mescheder et al. 2018 by differences: the discriminator changes little when a real image changes a little."""

    def gradients(self, real, noise):
        d_gradients, *rest = super().gradients(real, noise)
        seen = self._as_seen(real)
        nudged = seen + 0.02 * keras.random.normal(ops.shape(seen), seed=self.random)

        def penalty(weights):
            state = dcgan.values(self.discriminator.non_trainable_variables)
            logits, _ = self.discriminator.stateless_call(weights, state, ops.concatenate([seen, nudged]), training=True)
            here, there = ops.split(logits, 2)
            return 0.5 * ops.mean(ops.square((here - there) / 0.02)), None

        weights = dcgan.values(self.discriminator.trainable_variables)
        value, _, pull = backend.pullback(penalty, weights)
        (extra,) = pull(ops.ones_like(value))
        return [a + b for a, b in zip(d_gradients, extra, strict=True)], *rest


class Hinge(dcgan.DCGAN):
    """Hinge loss (Lim and Ye 2017), which needs a backward pass for each network."""

    def gradients(self, real, noise):
        def lose(d_weights, g_weights):
            state = dcgan.values(self.generator.non_trainable_variables)
            fake, moved = self.generator.stateless_call(g_weights, state, noise, training=True)
            seen_real, seen_fake = self._as_seen(real), self._as_seen(fake)
            both = ops.concatenate([seen_real, ops.stop_gradient(seen_fake)])
            real_logits, fake_logits = ops.split(self.discriminator.stateless_call(d_weights, [], both)[0], 2)
            frozen = [ops.stop_gradient(weight) for weight in d_weights]
            fooling = self.discriminator.stateless_call(frozen, [], seen_fake)[0]
            d_loss = ops.mean(ops.relu(1 - real_logits)) + ops.mean(ops.relu(1 + fake_logits))
            return d_loss - ops.mean(fooling), (real_logits, fake_logits, moved)

        networks = self.discriminator, self.generator
        weights = [dcgan.values(network.trainable_variables) for network in networks]
        loss, (real_logits, fake_logits, moved), pull = backend.pullback(lose, *weights)
        for variable, value in zip(self.generator.non_trainable_variables, moved, strict=True):
            variable.assign(value)
        return *pull(ops.ones_like(loss)), real_logits, fake_logits


class TwoRates(keras.optimizers.Adam):
    """Adam with its own learning rate for the discriminator, whose variables come last."""

    def __init__(self, discriminator_rate, num_generator_variables, **arguments):
        super().__init__(**arguments)
        self.factor, self.first = discriminator_rate / arguments["learning_rate"], num_generator_variables

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        super()._backend_update_step(grads[: self.first], trainable_variables[: self.first], learning_rate)
        super()._backend_update_step(grads[self.first :], trainable_variables[self.first :], learning_rate * self.factor)


@dataclass(frozen=True)
class Variant:
    change: str
    recipe: dict = field(default_factory=dict)
    gan: type = dcgan.DCGAN
    generator: callable = generator
    discriminator: callable = discriminator
    discriminator_rate: float = 0  # 0: the recipe's


VARIANTS = {
    "base": Variant("none: the recipe the search started from"),
    "no_augmentation": Variant("the discriminator sees images as they are", {"augmented": False}),
    "strong_augmentation": Variant("shift up to 16 pixels, brightness and contrast up to 0.5", gan=Stronger),
    "adaptive_augmentation": Variant("the strong augmentation, for a share of images that follows overfitting", gan=Adaptive),
    "spectral_norm": Variant(
        "spectral normalisation of the discriminator",
        discriminator=lambda: discriminator(wrap=lambda layer: layers.SpectralNormalization(layer, dtype="float32")),
    ),
    "r1": Variant("gradient penalty R1 (by differences, γ = 1)", gan=Penalised),
    "faster_discriminator": Variant("learning rate of the discriminator × 2", discriminator_rate=4e-4),
    "slower_discriminator": Variant("learning rate of the discriminator ÷ 2", discriminator_rate=1e-4),
    "faster_both": Variant("learning rate of both × 2", {"learning_rate": 4e-4}),
    "upsampling": Variant(
        "nearest-neighbour upsampling and 3×3 convolutions instead of transposed ones",
        generator=lambda latent_dim: generator(latent_dim, upsample="nearest"),
    ),
    "wider": Variant(
        "twice the channels near the image",
        generator=lambda latent_dim: generator(latent_dim, (256, 256, 256, 128, 64)),
        discriminator=lambda: discriminator((64, 128, 256, 256, 256)),
    ),
    "batch_8": Variant("8 real images an update", {"batch_size": 8}),
    "batch_32": Variant("32 real images an update", {"batch_size": 32}),
    "hinge": Variant("hinge loss", gan=Hinge),
    "upsampling_faster": Variant(
        "nearest-neighbour upsampling, and learning rate of both × 2",
        {"learning_rate": 4e-4},
        generator=lambda latent_dim: generator(latent_dim, upsample="nearest"),
    ),
    "upsampling_batch_8": Variant(
        "nearest-neighbour upsampling, 8 real images an update",
        {"batch_size": 8},
        generator=lambda latent_dim: generator(latent_dim, upsample="nearest"),
    ),
    "upsampling_faster_batch_8": Variant(
        "nearest-neighbour upsampling, learning rate of both × 2, 8 real images an update",
        {"learning_rate": 4e-4, "batch_size": 8},
        generator=lambda latent_dim: generator(latent_dim, upsample="nearest"),
    ),
    "study": Variant(
        "the recipe of the study that this project rebuilds: its networks, 128 images an update, no augmentation, no average",
        {"batch_size": 128, "ema_decay": 0.0, "augmented": False},
        generator=functools.partial(dcgan.build_generator, "original", next_seed=keras_seed),
        discriminator=functools.partial(dcgan.build_discriminator, "original", keras_seed),
    ),
}


# Trials


def build(name, seed):
    """The compiled GAN of a variant; this process builds no other."""
    variant = VARIANTS[name]
    dcgan.RECIPES["trial"] = replace(BASE, **variant.recipe)
    dcgan.build_generator = lambda _, latent_dim, next_seed: variant.generator(latent_dim)
    dcgan.build_discriminator = lambda _, next_seed: variant.discriminator()
    keras.utils.set_random_seed(seed)  # this process has no other threads that draw from it
    gan = variant.gan("trial", seed)
    gan.compile_for_training(backend.use_jit())
    if variant.discriminator_rate:
        count = len(gan.generator.trainable_variables)
        gan.optimizer = TwoRates(variant.discriminator_rate, count, learning_rate=gan.recipe.learning_rate, beta_1=0.5)
        gan.optimizer.build(gan.trainable_variables)
    return gan


class Averages(keras.callbacks.Callback):
    """Averaged generators at several decays beside the recipe's own; watching them doesn't change the training."""

    def __init__(self, gan):
        super().__init__()
        self.copies = {decay: [v.numpy() for v in gan.generator.variables] for decay in AVERAGES}
        self.updates = 0

    def on_train_batch_end(self, batch, logs=None):
        live = [v.numpy() for v in self.model.generator.variables]
        warm_up = (1 + self.updates) / (10 + self.updates)  # a slow average else remembers the untrained generator
        self.updates += 1
        for full_decay, values in self.copies.items():
            decay = min(full_decay, warm_up)
            self.copies[full_decay] = [decay * old + (1 - decay) * new for old, new in zip(values, live, strict=True)]


def run_trial(name, minority, seed, data, run):
    """Train one variant for its budget and write what its fakes are worth, at five moments and with every average."""
    chosen = backend.configure()
    judge, images = judge_of(data, run, minority)
    seconds = pd.read_csv(SECONDS, index_col="variant").loc[name, "seconds"]
    gan = build(name, seed)
    updates = round(BUDGET / seconds / MOMENTS)
    averages = Averages(gan)
    noise = fakes.fake_noise(range(NUM_JUDGED), gan.recipe.latent_dim)
    rows = []
    for moment in range(MOMENTS):
        data_from_here = training.RepeatingShuffle(images, None, utils.to_signed, gan.recipe.batch_size, seed, moment * updates)
        logs = gan.fit(
            backend.feed(data_from_here), steps_per_epoch=updates, verbose=0, shuffle=False, callbacks=[averages]
        ).history
        for decay, values in averages.copies.items():
            gan.averaged_generator.set_weights(values)
            drawn = fakes.draw(gan.averaged_generator, noise)
            done = {"updates": (moment + 1) * updates, "seconds": BUDGET * (moment + 1) / MOMENTS}
            losses = {key: round(value[-1], 4) for key, value in logs.items()}
            rows.append(
                {"variant": name, "minority": minority, "seed": seed, "ema_decay": decay}
                | done
                | losses
                | judge.distances(drawn)
            )
    gan.averaged_generator.set_weights(averages.copies[gan.recipe.ema_decay])
    drawn = fakes.draw(gan.averaged_generator, noise[:32])
    grid = utils.image_grid(drawn)
    utils.save_png(grid, utils.run_folders(run).images / "recipes" / f"{name}-{minority}-{seed}.png")
    table = pd.DataFrame(rows).round(5).assign(precision=chosen["precision"])
    utils.write_table(table, trial_file(name, minority, seed))


def trial_file(name, minority, seed):
    return TRIALS / f"{name}-{minority}-{seed}.csv"


def judge_of(data, run, minority):
    """The judge against validation images and the training images of a class, from a run whose notebook 1 is done."""
    opened = runs.open_run(data, utils.run_folders(run))
    real, validation = (opened.select(part, [minority]) for part in ("train", "validation"))
    return fidelity.Judge(classifier.load_baseline(opened.folders), real, validation), real


def calibrate(only):
    """Write seconds an update of every variant on one core, the others busy alike: the median of three.

    Variants that came later are timed beside the base and written in the seconds of the machine that timed it first.
    """
    names = list(dict.fromkeys(["base", *only])) if only else list(VARIANTS)
    commands = [["time", "--only", name] for _ in range(3) for name in names]
    outputs = list(utils.progress(one_a_core(commands), total=len(commands), desc="timing", unit="training"))
    seconds = pd.Series(np.median(np.array([float(text.split()[-1]) for text in outputs]).reshape(3, -1), axis=0), names)
    table = pd.DataFrame({"seconds": seconds, "device": backend.device_name(), "cores": 1})
    if only:
        known = pd.read_csv(SECONDS, index_col="variant")
        table["seconds"] *= known.loc["base", "seconds"] / seconds["base"]
        table = pd.concat([known.drop(only, errors="ignore"), table.loc[list(only)]])
    utils.write_table(table.round({"seconds": 5}).rename_axis("variant").reset_index(), SECONDS)


def time_updates(name, num_updates=12):
    """Seconds an update of one variant, on random images."""
    backend.configure()
    gan = build(name, 0)
    images = np.random.default_rng(0).integers(0, 256, (128, utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1), dtype=np.uint8)
    batches = training.RepeatingShuffle(images, None, utils.to_signed, gan.recipe.batch_size, 0)
    print(np.median(machine.seconds_between_updates(gan, backend.feed(batches), steps_per_epoch=num_updates)[2:]))


def search(data, run, only):
    """Every trial that isn't there yet, seed by seed, so that a search cut short has compared all variants."""
    wanted = [(name, "COVID19", seed) for seed in SEEDS for name in only or VARIANTS]
    missing = [trial for trial in wanted if not trial_file(*trial).exists()]
    commands = [
        ["trial", "--data", data, "--run", run, "--only", name, "--minority", minority, "--seed", str(seed)]
        for name, minority, seed in missing
    ]
    for _ in utils.progress(one_a_core(commands), total=len(commands), desc="trials", unit="trial"):
        pass


def summarise():
    """Write one row a variant and class (what was changed, what it bought at the end of its budget), averages, and KID by time."""
    trials = pd.concat([pd.read_csv(file) for file in sorted(TRIALS.glob("*-*-[0-9].csv"))])
    last = trials[trials["seconds"] == BUDGET]
    own = {name: replace(BASE, **variant.recipe).ema_decay for name, variant in VARIANTS.items()}
    last = last[last["ema_decay"] == last["variant"].map(own)].set_index(["minority", "variant", "seed"])
    rows = []
    for (minority, name), group in last.groupby(level=["minority", "variant"], sort=False):
        base = last.loc[(minority, "base")]["kid"]
        gained = (group["kid"].droplevel(["minority", "variant"]) - base).dropna()
        rows.append(
            {"class": minority, "variant": name, "change": VARIANTS[name].change, "won": name == WINNER, "seeds": len(group)}
            | {"updates": int(group["updates"].iloc[0])}
            | group[["kid_classifier", "kid_random", "diversity", "kid"]].mean().round(3).to_dict()
            | {"spread": round(group["kid"].std(), 3), "against_base": round(gained.mean(), 3)}
            | {"better_than_base": "" if name == "base" else f"{(gained < 0).sum()} of {len(gained)} seeds"}
        )
    table = pd.DataFrame(rows).sort_values(["class", "kid"])
    print(table.drop(columns="change").to_string(index=False))
    utils.write_table(table, TRIALS / "summary.csv")
    ours = trials[(trials["variant"] == WINNER) & (trials["seconds"] == BUDGET)]
    averages = ours.groupby("ema_decay")[["kid_classifier", "kid_random", "kid", "diversity"]].mean().round(3)
    print(averages)
    utils.write_table(averages.reset_index(), TRIALS / "averages.csv")
    sampled = trials[trials["ema_decay"] == trials["variant"].map(own)]
    by_time = sampled[sampled["variant"].isin([WINNER, "study"])].pivot_table("kid", "seconds", ["minority", "variant"])
    by_time.columns = [f"{name}, {minority}" for minority, name in by_time.columns]
    print(by_time.round(3))
    utils.write_table(by_time.round(3).reset_index(), TRIALS / "by_time.csv")


def one_a_core(commands):
    """Run this module once a command, as many at a time as there are cores, each on its own; yields what each printed, in order.

    Two trainings on one core each do about a third more a minute than one after the other on both.
    """
    free = list(range(os.cpu_count()))

    def run_on_a_free_core(command):
        core = free.pop()
        try:
            command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.recipes", *command]
            return subprocess.run(command, cwd=disk.ROOT, capture_output=True, text=True, check=True).stdout
        finally:
            free.append(core)

    jobs = (joblib.delayed(run_on_a_free_core)(command) for command in commands)
    return joblib.Parallel(n_jobs=len(free), prefer="threads", return_as="generator")(jobs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("calibrate", "time", "search", "trial", "summarise"))
    parser.add_argument("--data", default="")
    parser.add_argument("--run", default="chest_xray-full")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--minority", default="COVID19")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.action == "calibrate":
        calibrate(options.only)
    elif options.action == "time":
        time_updates(options.only[0])
    elif options.action == "trial":
        run_trial(options.only[0], options.minority, options.seed, options.data, options.run)
    elif options.action == "summarise":
        summarise()
    else:
        search(options.data, options.run, options.only)
        summarise()


if __name__ == "__main__":
    main()
