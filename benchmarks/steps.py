"""One GAN update, organised in three ways, in two precisions: images a second, and the share of the machine's own peak.

python -m benchmarks.steps          # a table, and results/published/benchmarks/steps.csv

All three train the same two networks with the same augmentation and averaging on the same images; they differ in how many times an
update goes through the networks. The references are written from their descriptions:
- keras.io, "DCGAN to generate face images" (overriding `train_step`): fakes for the discriminator, then other fakes for the generator;
- TensorFlow's tutorial "Deep Convolutional Generative Adversarial Network": one set of fakes, two tapes.
"""

import argparse
import statistics

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

import utils
from benchmarks import machine
from xraygan import backend, dcgan

UPDATES, ROUNDS = 10, 5


class TwoOptimizers(dcgan.DCGAN):
    """What both references share: each network has its own optimizer and its own tape."""

    def compile_for_training(self, jit_compile):
        super().compile_for_training(jit_compile)
        self.optimizers = [keras.optimizers.Adam(self.recipe.learning_rate, beta_1=0.5) for _ in range(2)]
        for optimizer, network in zip(self.optimizers, (self.discriminator, self.generator), strict=True):
            optimizer.build(network.trainable_variables)

    def noise(self, real):
        return keras.random.normal((ops.shape(real)[0], self.recipe.latent_dim), seed=self.random)

    def descend(self, optimizer, tape, loss, network):
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

    def train_step(self, data):
        real = data[0] if isinstance(data, tuple) else data
        self._average_generator()
        d_loss, g_loss = self.descend_both(real)
        self.discriminator_loss.update_state(d_loss)
        self.generator_loss.update_state(g_loss)
        return {"d_loss": self.discriminator_loss.result(), "g_loss": self.generator_loss.result()}


class KerasIo(TwoOptimizers):
    """Two passes through the generator: one for the discriminator's update, one for its own."""

    def descend_both(self, real):
        fake = self.generator(self.noise(real), training=True)
        both = ops.concatenate([self._as_seen(real), self._as_seen(fake)])
        with tf.GradientTape() as tape:
            real_logits, fake_logits = ops.split(self.discriminator(both, training=True), 2)
            d_loss = dcgan.discriminator_loss(real_logits, fake_logits)
        self.descend(self.optimizers[0], tape, d_loss, self.discriminator)
        with tf.GradientTape() as tape:
            fake = self.generator(self.noise(real), training=True)
            g_loss = dcgan.generator_loss(self.discriminator(self._as_seen(fake), training=True))
        self.descend(self.optimizers[1], tape, g_loss, self.generator)
        return d_loss, g_loss


class TensorFlowTutorial(TwoOptimizers):
    """One pass through the generator, two tapes over it and the discriminator."""

    def descend_both(self, real):
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = self.generator(self.noise(real), training=True)
            real_logits = self.discriminator(self._as_seen(real), training=True)
            fake_logits = self.discriminator(self._as_seen(fake), training=True)
            d_loss = dcgan.discriminator_loss(real_logits, fake_logits)
            g_loss = dcgan.generator_loss(fake_logits)
        self.descend(self.optimizers[1], g_tape, g_loss, self.generator)
        self.descend(self.optimizers[0], d_tape, d_loss, self.discriminator)
        return d_loss, g_loss


# Passes an image costs: (generator, discriminator), where forward, gradient of weights and gradient of inputs count one each.
ORGANISATIONS = {
    "ours": (dcgan.DCGAN, (3, 6)),
    "keras.io": (KerasIo, (4, 8)),
    "TensorFlow tutorial": (TensorFlowTutorial, (3, 7)),
}


def flops(network):
    """Floating-point operations of one image's forward pass: two for each multiplication and addition."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            total += 2 * layer.kernel.shape.num_elements() * np.prod(layer.input.shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D):
            total += 2 * layer.kernel.shape.num_elements() * np.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * layer.kernel.shape.num_elements()
    return float(total)


def build(gan_class, precision):
    keras.mixed_precision.set_global_policy(precision)
    gan = gan_class("dcgan", 0)
    gan.compile_for_training(backend.use_jit())
    return gan


def images_a_second(gan, images, batch_size):
    """Of one short training, the first updates left out."""
    return batch_size / statistics.median(machine.seconds_between_updates(gan, images, batch_size=batch_size)[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="*", default=[dcgan.RECIPES["dcgan"].batch_size, 64])
    options = parser.parse_args()
    chosen = backend.configure()
    precisions = list(dict.fromkeys(["float32", chosen["precision"]]))
    gans = {(name, precision): build(kind, precision) for name, (kind, _) in ORGANISATIONS.items() for precision in precisions}
    rows = []
    for batch_size in options.batch_size:
        images = np.random.default_rng(0).uniform(-1, 1, (UPDATES * batch_size, 128, 128, 1)).astype(np.float32)
        for gan in gans.values():
            images_a_second(gan, images[: 3 * batch_size], batch_size)
        for turn in utils.progress(range(ROUNDS), desc=f"batch {batch_size}", unit="round"):
            peak = {precision: machine.matrix_peak(precision) for precision in precisions}
            for (name, precision), gan in gans.items():
                speed = images_a_second(gan, images, batch_size)
                g_passes, d_passes = ORGANISATIONS[name][1]
                work = g_passes * flops(gan.generator) + d_passes * flops(gan.discriminator)
                share = speed * work / peak[precision]
                row = {"organisation": name, "precision": precision, "batch_size": batch_size, "round": turn}
                rows.append(row | {"images_a_second": speed, "peak_gflops": peak[precision] / 1e9, "share_of_peak": share})
    table = summary(pd.DataFrame(rows))
    machine.publish(table, "steps", chosen)


def summary(rounds):
    """Medians over rounds; the ratio to keras.io's organisation in float32 is taken within each round first."""
    keys = ["organisation", "precision", "batch_size"]
    reference = rounds[(rounds["organisation"] == "keras.io") & (rounds["precision"] == "float32")]
    reference = reference.set_index(["batch_size", "round"])["images_a_second"]
    rounds["times_keras_io_float32"] = [
        row.images_a_second / reference[(row.batch_size, row.round)] for row in rounds.itertuples()
    ]
    return rounds.drop(columns="round").groupby(keys, sort=False).median().round(3).reset_index()


if __name__ == "__main__":
    main()
