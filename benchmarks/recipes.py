"""The search for the recipe: one change at a time from a first recipe, equal wall-clock, validation images, up to three seeds.

What won is the default of `xraygan.gan.recipe`; the first recipe and all that was tried stand here, so that the search can be repeated.

python -m benchmarks.recipes calibrate [--only VARIANT …]       # seconds an update of every variant, on a quiet machine
python -m benchmarks.recipes search --data DATA --run RUN       # every trial that isn't there yet, one process a core
python -m benchmarks.recipes summarise                          # the table of what was tried and what it bought

RUN is a run whose notebook 1 is done: its split and its baseline judge the trials. A trial is a budget of seconds, turned into
updates by the calibration, so that its result doesn't depend on what else the machine does. Each finished trial is one file
in results/published/recipes/.

The published trials were made before each network had an optimizer of its own and two losses took two passes back: an update costs
more now, and other initial weights are drawn, so a search made again begins with `calibrate`.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import joblib
import keras
import numpy as np
import pandas as pd
from keras import layers, ops

import utils
from benchmarks import machine
from xraygan import backend, disk, run
from xraygan.comparison.study import recall_study
from xraygan.gan import dcgan, fakes, fidelity
from xraygan.gan.losses import LOSSES
from xraygan.gan.networks import DISCRIMINATORS, GENERATORS
from xraygan.gan.recipe import RECIPES, Recipe

TRIALS = disk.ROOT / "results" / "published" / "recipes"
SECONDS = TRIALS / "seconds_an_update.csv"
BUDGET = 600  # seconds a trial takes on one core of the calibrated machine
SEEDS = (0, 1, 2)
NUM_JUDGED = 512  # fakes that are judged
MOMENTS = 5  # how often within a trial
AVERAGES = (0.0, 0.99, 0.995, 0.999)  # decays compared within each trial, which they don't change; 0 is the live generator


# What is tried beside the registries' own entries


def change_layers(build, change):
    """A builder of `build`'s network with each layer put through `change`, a function layer → layer."""

    def build_changed(*arguments):
        model = build(*arguments)
        changed = keras.models.clone_model(model, clone_function=change)
        changed.name = model.name
        return changed

    return build_changed


def widen(layer):
    """Twice the filters, at most 256; the last convolution of a generator keeps its one."""
    settings = layer.get_config()
    if settings.get("filters", 1) > 1:
        settings["filters"] = min(256, 2 * settings["filters"])
    return layer.__class__.from_config(settings)


def normalise_spectrum(layer):
    """Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) of a layer that has a kernel."""
    copy = layer.__class__.from_config(layer.get_config())
    return layers.SpectralNormalization(copy, dtype="float32") if hasattr(layer, "kernel") else copy


def penalise_change_at_real(judge, real, fake, seed, step=0.02):
    """R1 of Mescheder et al. 2018 (arXiv:1801.04406) by differences: logits change little when a real image changes a little."""
    nudged = real + step * keras.random.normal(ops.shape(real), seed=seed)
    return 0.5 * ops.mean(ops.square((judge(nudged) - judge(real)) / step))


class AdaptiveGAN(dcgan.GAN):
    """Augments a share of the images that follows the discriminator's overfitting (Karras et al. 2020, arXiv:2006.06676)."""

    def __init__(self, recipe, seed=0):
        super().__init__(recipe, seed)
        self.share = self.add_weight(shape=(), initializer="zeros", trainable=False, name="share")

    def show(self, images):
        drawn = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.random)
        return ops.where(drawn < self.share, super().show(images), images)

    def update(self, real):
        super().update(real)
        overfitting = ops.mean(ops.sign(self.discriminator(self.show(real), training=False)))
        step = ops.sign(overfitting - 0.6) * self.recipe.batch_size / 10_000
        self.share.assign(ops.clip(self.share + step, 0.0, 1.0))


def judge_each_alone(image_size, next_seed):
    """The discriminator of the first search, which doesn't see how varied its batch is: `strided_discriminator` without that layer."""
    weights = lambda: keras.initializers.HeNormal(next_seed())  # noqa: E731
    image = x = keras.Input((image_size, image_size, 1))
    while x.shape[1] > 4:
        filters = min(256, 32 * image_size // x.shape[1])
        x = layers.Conv2D(filters, 4, strides=2, padding="same", kernel_initializer=weights())(x)
        x = layers.LeakyReLU(0.2)(x)
    glorot = keras.initializers.GlorotUniform(next_seed())
    logit = layers.Dense(1, kernel_initializer=glorot, dtype="float32")(layers.Flatten()(x))
    return keras.Model(image, logit, name="discriminator")


DISCRIMINATORS["alone"] = judge_each_alone
GENERATORS["wide"] = change_layers(GENERATORS["transposed"], widen)
DISCRIMINATORS["wide"] = change_layers(DISCRIMINATORS["alone"], widen)
DISCRIMINATORS["spectral"] = change_layers(DISCRIMINATORS["alone"], normalise_spectrum)
LOSSES["r1"] = replace(LOSSES["logistic"], penalty=penalise_change_at_real)


@dataclass(frozen=True)
class Variant:
    """A change of the first recipe, in words and as a recipe; what no recipe can say is a class or another rate."""

    change: str
    recipe: Recipe
    gan: type = dcgan.GAN
    discriminator_rate: float = 0  # 0: the recipe's


BASE = Recipe(generator="transposed", discriminator="alone", augmentation="mild", steady=1.0, batch_size=16)
STRONG = replace(BASE, max_shift=1 / 8, max_brightness=0.5, max_contrast=0.5)
UPSAMPLING = replace(BASE, generator="upsampling")
FIRST_WINNER = replace(UPSAMPLING, batch_size=8)  # the default recipe until the second search
WINNER, SECOND_WINNER = "upsampling_batch_8", "spread_falling_cutout"  # the second is the default recipe
VARIANTS = {
    "base": Variant("none: the recipe the search started from", BASE),
    "no_augmentation": Variant("the discriminator sees images as they are", replace(BASE, augmentation="none")),
    "strong_augmentation": Variant("shift up to 16 pixels, brightness and contrast up to 0.5", STRONG),
    "adaptive_augmentation": Variant(
        "the strong augmentation, for a share of images that follows overfitting", STRONG, AdaptiveGAN
    ),
    "spectral_norm": Variant("spectral normalisation of the discriminator", replace(BASE, discriminator="spectral")),
    "r1": Variant("gradient penalty R1 (by differences, γ = 1)", replace(BASE, loss="r1")),
    "faster_discriminator": Variant("learning rate of the discriminator × 2", BASE, discriminator_rate=4e-4),
    "slower_discriminator": Variant("learning rate of the discriminator ÷ 2", BASE, discriminator_rate=1e-4),
    "faster_both": Variant("learning rate of both × 2", replace(BASE, learning_rate=4e-4)),
    "upsampling": Variant("nearest-neighbour upsampling and 3×3 convolutions instead of transposed ones", UPSAMPLING),
    "wider": Variant("twice the channels near the image", replace(BASE, generator="wide", discriminator="wide")),
    "batch_8": Variant("8 real images an update", replace(BASE, batch_size=8)),
    "batch_32": Variant("32 real images an update", replace(BASE, batch_size=32)),
    "hinge": Variant("hinge loss", replace(BASE, loss="hinge")),
    "upsampling_faster": Variant(
        "nearest-neighbour upsampling, and learning rate of both × 2", replace(UPSAMPLING, learning_rate=4e-4)
    ),
    "upsampling_batch_8": Variant("nearest-neighbour upsampling, 8 real images an update", FIRST_WINNER),
    "upsampling_faster_batch_8": Variant(
        "nearest-neighbour upsampling, learning rate of both × 2, 8 real images an update",
        replace(UPSAMPLING, learning_rate=4e-4, batch_size=8),
    ),
    # The second search, from what won the first
    "falling": Variant("a learning rate that falls to 0 over the second half", replace(FIRST_WINNER, steady=0.5)),
    "spread": Variant("the discriminator sees how varied its batch is", replace(FIRST_WINNER, discriminator="strided")),
    "cutout": Variant("a square of each image is hidden from the discriminator", replace(FIRST_WINNER, augmentation="cutout")),
    "spread_falling_cutout": Variant("all three", RECIPES["dcgan"]),
    "study": Variant(
        "the recipe of the study that this project rebuilds: its networks, 128 images an update, no augmentation, no average",
        RECIPES["original"],
    ),
}


# Trials


def build(name, seed):
    """The compiled GAN of a variant."""
    variant = VARIANTS[name]
    gan = variant.gan(variant.recipe, seed)
    gan.compile_for_training(backend.use_jit())
    if variant.discriminator_rate:
        gan.optimizer._learning_rate.rate = variant.discriminator_rate  # of its schedule, before anything is traced
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


def run_trial(name, minority, seed, data, run_name):
    """Train one variant for its budget and write what its fakes are worth, at five moments and with every average."""
    chosen = backend.configure()
    study = recall_study(data, run_name)
    real, validation = (study.dataset.select_class([minority], part) for part in ("train", "validation"))
    judge = fidelity.Judge(study.load_baseline(), real, validation)
    seconds = utils.read_table(SECONDS, index_col="variant").loc[name, "seconds"]
    gan = build(name, seed)
    updates = round(BUDGET / seconds / MOMENTS)
    averages = Averages(gan)
    noise = fakes.draw_noise(range(NUM_JUDGED), gan.recipe.latent_dim)
    rows = []
    for moment in range(MOMENTS):
        batches = dcgan.make_batches(real, gan.recipe, seed, moment * updates)
        with backend.feed(batches) as fed:
            logs = gan.fit(fed, steps_per_epoch=updates, verbose=0, shuffle=False, callbacks=[averages]).history
        row = {"variant": name, "minority": minority, "seed": seed}
        row |= {"updates": (moment + 1) * updates, "seconds": BUDGET * (moment + 1) / MOMENTS}
        row |= {key: round(value[-1], 4) for key, value in logs.items()}
        for decay, values in averages.copies.items():
            gan.averaged_generator.set_weights(values)
            rows.append(row | {"ema_decay": decay} | judge.distances(fakes.draw(gan.averaged_generator, noise)))
    gan.averaged_generator.set_weights(averages.copies[gan.recipe.ema_decay])
    grid = utils.image_grid(fakes.draw(gan.averaged_generator, noise[:32]))
    utils.save_png(grid, run.open_folders(run_name).images / "recipes" / f"{name}-{minority}-{seed}.png")
    table = pd.DataFrame(rows).round(5).assign(precision=chosen["precision"])
    first = ["variant", "minority", "seed", "ema_decay"]
    utils.write_table(table[first + [name for name in table if name not in first]], trial_file(name, minority, seed))


def trial_file(name, minority, seed):
    return TRIALS / f"{name}-{minority}-{seed}.csv"


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
        known = utils.read_table(SECONDS, index_col="variant")
        table["seconds"] *= known.loc["base", "seconds"] / seconds["base"]
        table = pd.concat([known.drop(only, errors="ignore"), table.loc[list(only)]])
    utils.write_table(table.round({"seconds": 5}).rename_axis("variant").reset_index(), SECONDS)


def time_updates(name, num_updates=12):
    """Print the seconds an update of one variant takes, on random images."""
    backend.configure()
    gan = build(name, 0)
    size = gan.recipe.image_size
    images = np.random.default_rng(0).integers(0, 256, (128, size, size, 1), dtype=np.uint8)
    batches = dcgan.make_batches(images, gan.recipe, 0)
    with backend.feed(batches) as data:
        times = machine.time_updates(gan, data, steps_per_epoch=num_updates)
    print(times["seconds"][2:].median())


def search(data, run_name, only):
    """Every trial that isn't there yet, seed by seed, so that a search cut short has compared all variants."""
    wanted = [(name, "COVID19", seed) for seed in SEEDS for name in only or VARIANTS]
    missing = [trial for trial in wanted if not trial_file(*trial).exists()]
    commands = [
        ["trial", "--data", data, "--run", run_name, "--only", name, "--minority", minority, "--seed", str(seed)]
        for name, minority, seed in missing
    ]
    for _ in utils.progress(one_a_core(commands), total=len(commands), desc="trials", unit="trial"):
        pass


def summarise():
    """Write one row a variant and class (what was changed, what it bought at the end of its budget), averages, and KID by time."""
    trials = pd.concat([utils.read_table(file) for file in sorted(TRIALS.glob("*-*-[0-9].csv"))])
    last = trials[trials["seconds"] == BUDGET]
    own = {name: variant.recipe.ema_decay for name, variant in VARIANTS.items()}
    last = last[last["ema_decay"] == last["variant"].map(own)].set_index(["minority", "variant", "seed"]).sort_index()
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
    winner = trials[(trials["variant"] == WINNER) & (trials["seconds"] == BUDGET)]
    averages = winner.groupby("ema_decay")[["kid_classifier", "kid_random", "kid", "diversity"]].mean().round(3)
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
