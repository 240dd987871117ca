"""The GAN's fast operations against Keras' own, in value and gradient."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from xraygan import backend
from xraygan.gan import networks, operations

tf = pytest.importorskip("tensorflow")
SIZES = [(1, 32), (3, 5), (32, 1), (16, 8)]


def with_gradients(function, *inputs):
    """Values, and the gradients of a fixed weighing of them by each input."""
    inputs = [tf.constant(value, tf.float32) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        values = function(*inputs)
        weighed = tf.reduce_sum(values * np.random.default_rng(1).normal(size=values.shape))
    return [values.numpy(), *(gradient.numpy() for gradient in tape.gradient(weighed, inputs))]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


@pytest.mark.parametrize(("large", "small"), SIZES)
def test_halving_is_keras_convolution(large, small, rng):
    images, kernel = rng.normal(size=(3, 12, 8, large)), rng.normal(size=(4, 4, large, small))
    plain = lambda images, kernel: ops.conv(images, kernel, strides=2, padding="same")  # noqa: E731
    assert_same(with_gradients(operations.halve, images, kernel), with_gradients(plain, images, kernel))


@pytest.mark.parametrize(("large", "small"), SIZES)
def test_doubling_is_keras_transposed_convolution(large, small, rng):
    images, kernel = rng.normal(size=(3, 6, 4, small)), rng.normal(size=(4, 4, large, small))
    plain = lambda images, kernel: ops.conv_transpose(images, kernel, strides=2, padding="same")  # noqa: E731
    assert_same(with_gradients(operations.double, images, kernel), with_gradients(plain, images, kernel))


def test_gradients_have_gradients(rng):
    """A gradient penalty differentiates twice."""
    images, kernel = rng.normal(size=(2, 8, 8, 1)), rng.normal(size=(4, 4, 1, 3))

    def penalise(halve):
        def penalty(images, kernel):
            with tf.GradientTape() as tape:
                tape.watch(images)
                values = tf.square(halve(images, kernel))
            return tf.square(tape.gradient(values, images))

        return penalty

    plain = lambda images, kernel: ops.conv(images, kernel, strides=2, padding="same")  # noqa: E731
    assert_same(with_gradients(penalise(operations.halve), images, kernel), with_gradients(penalise(plain), images, kernel))


def test_any_number_of_images():
    halve = tf.function(operations.halve, input_signature=[tf.TensorSpec((None, 8, 8, 2)), tf.TensorSpec((4, 4, 2, 3))])
    double = tf.function(operations.double, input_signature=[tf.TensorSpec((None, 4, 4, 3)), tf.TensorSpec((4, 4, 2, 3))])
    for count in (1, 5):
        assert halve(tf.ones((count, 8, 8, 2)), tf.ones((4, 4, 2, 3))).shape == (count, 4, 4, 3)
        assert double(tf.ones((count, 4, 4, 3)), tf.ones((4, 4, 2, 3))).shape == (count, 8, 8, 2)


def test_batch_normalization_is_keras(rng):
    images = rng.normal(3, 2, size=(4, 6, 6, 5)).astype(np.float32)
    ours, keras_own = networks.BatchNorm(momentum=0.9), layers.BatchNormalization(momentum=0.9)
    results = []
    for layer in (ours, keras_own):
        layer.build(images.shape)
        layer.gamma.assign(np.linspace(0.5, 1.5, 5))
        results.append(with_gradients(lambda images, layer=layer: layer(images, training=True), images))
    assert_same(*results)
    for one, other in zip(ours.variables, keras_own.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4)
    np.testing.assert_allclose(ours(images), keras_own(images), atol=1e-5)


def take_steps(optimizer, start):
    """Where a few random gradients lead a weight."""
    weight = keras.Variable(start)
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))
    for gradient in np.random.default_rng(2).normal(size=(6, *start.shape)).astype(np.float32):
        step(tf.constant(gradient))
    return weight.numpy()


def test_adam_is_keras(rng):
    start = rng.normal(size=(7, 3)).astype(np.float32)
    falling = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    ours, expected = (take_steps(kind(falling, beta_1=0.5), start) for kind in (backend.Adam, keras.optimizers.Adam))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.abs(ours - start).max() > 0.1
