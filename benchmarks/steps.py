"""One GAN update, organised in several ways, in two precisions: images a second, and the share of the machine's own peak.

python -m benchmarks.steps                            # a table, and results/published/benchmarks/steps.csv
taskset -c 0 python -m benchmarks.steps --name steps_one_core --torch PYTHON

All train the same two networks with the same augmentation and averaging on the same images; they differ in how many times an
update goes through the networks, and in what computes it: "of Keras' operations" is ours without gan/operations.py, with upsampling and
convolution one after the other; "PyTorch" is benchmarks/torch_steps.py, run by a PYTHON that has PyTorch. The references are written from their descriptions:
- keras.io, "DCGAN to generate face images" (overriding `train_step`): fakes for the discriminator, then other fakes for the generator;
- TensorFlow's tutorial "Deep Convolutional Generative Adversarial Network": one set of fakes, two tapes.
"""

import argparse
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

import utils
from benchmarks import machine
from xraygan import backend, run
from xraygan.gan import dcgan, losses, networks, operations
from xraygan.gan.recipe import RECIPES

UPDATES, ROUNDS = 10, 5
IN_A_RUN = (363, 25)  # training images of a whole training
RECIPE = RECIPES["dcgan"]


class Reference(dcgan.GAN):
    """What both references share: each network has its own tape."""

    def draw_noise(self, real):
        return keras.random.normal((ops.shape(real)[0], self.recipe.latent_dim), seed=self.random)

    def descend(self, optimizer, tape, loss, network):
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

    def update(self, real):
        self.average_generator()
        d_loss, g_loss = self.descend_both(real)
        self.discriminator_loss.update_state(d_loss)
        self.generator_loss.update_state(g_loss)


class KerasIo(Reference):
    """Two passes through the generator: one for the discriminator's update, one for its own."""

    def descend_both(self, real):
        fake = self.generator(self.draw_noise(real), training=True)
        both = ops.concatenate([self.show(real), self.show(fake)])
        with tf.GradientTape() as tape:
            real_logits, fake_logits = ops.split(self.discriminator(both, training=True), 2)
            d_loss = losses.logistic_discriminator(real_logits, fake_logits)
        self.descend(self.optimizer, tape, d_loss, self.discriminator)
        with tf.GradientTape() as tape:
            fake = self.generator(self.draw_noise(real), training=True)
            g_loss = losses.logistic_generator(self.discriminator(self.show(fake), training=True))
        self.descend(self.generator_optimizer, tape, g_loss, self.generator)
        return d_loss, g_loss


class TensorFlowTutorial(Reference):
    """One pass through the generator, two tapes over it and the discriminator."""

    def descend_both(self, real):
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = self.generator(self.draw_noise(real), training=True)
            real_logits = self.discriminator(self.show(real), training=True)
            fake_logits = self.discriminator(self.show(fake), training=True)
            d_loss = losses.logistic_discriminator(real_logits, fake_logits)
            g_loss = losses.logistic_generator(fake_logits)
        self.descend(self.generator_optimizer, g_tape, g_loss, self.generator)
        self.descend(self.optimizer, d_tape, d_loss, self.discriminator)
        return d_loss, g_loss


class OfKerasOperations(dcgan.GAN):
    """Ours, computed by Keras' own layers and optimizer: what gan/operations.py replaces."""

    def __init__(self, recipe, seed=0):
        with mock.patch.object(networks, "BatchNorm", keras.layers.BatchNormalization):
            super().__init__(recipe, seed)

    def compile_for_training(self, jit_compile):
        with mock.patch.object(backend, "Adam", keras.optimizers.Adam):
            super().compile_for_training(jit_compile)

    def update(self, real):
        halve = lambda images, kernel: ops.conv(images, kernel, strides=2, padding="same")  # noqa: E731
        plain = mock.patch.object(networks.DoubleAndConvolve, "call", double_and_then_convolve)
        with plain, mock.patch.object(operations, "halve", halve):
            super().update(real)


def double_and_then_convolve(layer, images):
    """`networks.DoubleAndConvolve` by its definition."""
    images = ops.repeat(ops.repeat(images, 2, axis=1), 2, axis=2)
    doubled = ops.conv(images, ops.cast(layer.kernel, layer.compute_dtype), padding="same")
    return doubled if layer.bias is None else doubled + ops.cast(layer.bias, layer.compute_dtype)


# Passes an image costs: (generator, discriminator), where forward, gradient of weights and gradient of inputs count one each.
ORGANISATIONS = {
    "ours": (dcgan.GAN, (3, 7)),
    "ours, of Keras' operations": (OfKerasOperations, (3, 7)),
    "keras.io": (KerasIo, (4, 8)),
    "TensorFlow tutorial": (TensorFlowTutorial, (3, 7)),
}


def flops(network):
    """Floating-point operations of one image's forward pass: two for each multiplication and addition."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            total += 2 * layer.kernel.shape.num_elements() * np.prod(layer.input.shape[1:3])
        elif isinstance(layer, networks.DoubleAndConvolve):  # computed as a transposed 4×4 convolution
            total += 2 * 16 / 9 * layer.kernel.shape.num_elements() * np.prod(layer.input.shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D | networks.ConvolveAndHalve):
            total += 2 * layer.kernel.shape.num_elements() * np.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * layer.kernel.shape.num_elements()
    return float(total)


def build(gan_class, precision):
    """A compiled GAN of the default recipe, organised as a class of `ORGANISATIONS` does it."""
    keras.mixed_precision.set_global_policy(precision)
    gan = gan_class(RECIPE, 0)
    gan.compile_for_training(backend.use_jit())
    return gan


def measure_speed(gan, images, batch_size):
    """Images a second, and images a second of computing on one core, of one short training, its first updates left out."""
    times = machine.time_updates(gan, images, batch_size=batch_size)[1:].median()
    return {"images_a_second": batch_size / times["seconds"], "images_a_cpu_second": batch_size / times["cpu_seconds"]}


def measure_run(num_images, num_updates=(32, 128)):
    """What a whole training reaches, with its history, grids and states: images a second between two numbers of updates, so that tracing is left out."""
    size, spent = RECIPE.image_size, []
    images = np.random.default_rng(0).integers(0, 256, (num_images, size, size, 1), dtype=np.uint8)
    for updates in num_updates:
        start = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as store:
            dcgan.train_gan(images, replace(RECIPE, updates=updates), 0, run.open_folders("steps", store))
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, cpu_seconds = np.diff(spent, axis=0)[0]
    trained = [updates * RECIPE.batch_size for updates in num_updates]
    row = {"organisation": f"ours, a training on {num_images} images", "batch_size": RECIPE.batch_size}
    return row | {
        "images_a_second": (trained[1] - trained[0]) / seconds,
        "images_a_cpu_second": (trained[1] - trained[0]) / cpu_seconds,
    }


class PyTorch:
    """The update in PyTorch, in a process that waits between its turns."""

    def __init__(self, python):
        command = [python, str(Path(__file__).with_name("torch_steps.py")), str(backend.num_threads()), str(RECIPE.batch_size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def measure_speed(self):
        """As `measure_speed`."""
        print(UPDATES, file=self.process.stdin, flush=True)
        seconds, cpu_seconds = map(float, self.process.stdout.readline().split())
        return {"images_a_second": RECIPE.batch_size / seconds, "images_a_cpu_second": RECIPE.batch_size / cpu_seconds}


def measure_rounds(gans, batch_size, num_rounds, torch=None):
    """All organisations in turn, round by round: a row each.

    Args:
        gans: {(organisation, precision): compiled GAN}.
        torch: `PyTorch`, measured in each round beside them.
    """
    size, rows = RECIPE.image_size, []
    images = np.random.default_rng(0).uniform(-1, 1, (UPDATES * batch_size, size, size, 1)).astype(np.float32)
    for gan in gans.values():
        measure_speed(gan, images[: 3 * batch_size], batch_size)
    for turn in utils.progress(range(num_rounds), desc=f"batch {batch_size}", unit="round"):
        peak = {precision: machine.matrix_peak(precision) for _, precision in gans}
        for (name, precision), gan in list(gans.items())[:: -1 if turn % 2 else 1]:  # none always comes after the same one
            speed = measure_speed(gan, images, batch_size)
            g_passes, d_passes = ORGANISATIONS[name][1]
            work = g_passes * flops(gan.generator) + d_passes * flops(gan.discriminator)
            share = speed["images_a_second"] * work / peak[precision]
            row = {"organisation": name, "precision": precision, "batch_size": batch_size, "round": turn} | speed
            rows.append(row | {"peak_gflops": peak[precision] / 1e9, "share_of_peak": share})
        others = [measure_run(number) for number in IN_A_RUN]
        if torch:
            others.append({"organisation": "PyTorch", "batch_size": batch_size} | torch.measure_speed())
        rows += [row | {"precision": keras.mixed_precision.global_policy().name, "round": turn} for row in others]
    return pd.DataFrame(rows)


def summarise(rounds):
    """Medians over rounds; ratios to keras.io's organisation in float32 are taken within each round first."""
    is_reference = (rounds["organisation"] == "keras.io") & (rounds["precision"] == "float32")
    reference = rounds[is_reference].set_index(["batch_size", "round"])
    same_round = pd.MultiIndex.from_frame(rounds[["batch_size", "round"]])
    rounds = rounds.assign(
        times_keras_io_float32=rounds["images_a_second"] / reference["images_a_second"].loc[same_round].to_numpy(),
        times_keras_io_float32_cpu=rounds["images_a_cpu_second"] / reference["images_a_cpu_second"].loc[same_round].to_numpy(),
    )
    keys = ["organisation", "precision", "batch_size"]
    return rounds.drop(columns="round").groupby(keys, sort=False).median().round(3).reset_index()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--name", default="steps", help="of the table")
    parser.add_argument("--torch", default="", help="a Python that has PyTorch")
    parser.add_argument(
        "--folder", type=Path, default=machine.PUBLISHED, help="of the table; another one gets each round's numbers too"
    )
    options = parser.parse_args()
    chosen = backend.configure()
    precisions = list(dict.fromkeys(["float32", chosen["precision"]]))
    gans = {(name, precision): build(kind, precision) for name, (kind, _) in ORGANISATIONS.items() for precision in precisions}
    torch = PyTorch(options.torch) if options.torch else None
    rounds = measure_rounds(gans, RECIPE.batch_size, options.rounds, torch)
    if options.folder != machine.PUBLISHED:
        utils.write_table(rounds.round(3), options.folder / f"{options.name}_rounds.csv")
    machine.publish(summarise(rounds), options.name, chosen, options.folder)


if __name__ == "__main__":
    main()
