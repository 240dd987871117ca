"""The GAN: its networks at every size, its losses, the gradients of an update, the average, and trainings that go on."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import fields, replace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.python.framework.config import is_op_determinism_enabled

from xraygan import backend, disk, keys, training
from xraygan.gan import augmentation, dcgan, fakes, fidelity, losses, networks
from xraygan.gan.recipe import RECIPES, Recipe

SMALL = Recipe(image_size=32, batch_size=4)


def choose_own(registry):
    """The entries that the package has, without those that benchmarks add for a trial."""
    made_by = {name: getattr(entry, "discriminator", entry).__module__ for name, entry in registry.items()}
    return {name: registry[name] for name, module in made_by.items() if module.startswith("xraygan.")}


GENERATORS, DISCRIMINATORS, LOSSES = map(choose_own, (networks.GENERATORS, networks.DISCRIMINATORS, losses.LOSSES))


def compiled_gan(recipe=SMALL):
    gan = dcgan.GAN(recipe, seed=0)
    gan.compile_for_training(jit_compile=False)
    return gan


# Recipes and networks


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_every_network_fits_every_image_size(image_size):
    """A generator gives images of the size asked for, a discriminator takes them, and neither holds code in a `Lambda`."""
    for name, build in GENERATORS.items():
        generator = build(image_size, 100, lambda: 0)
        assert (generator.input_shape, generator.output_shape) == ((None, 100), (None, image_size, image_size, 1)), name
        assert not any(isinstance(layer, keras.layers.Lambda) for layer in generator.layers)
    for name, build in DISCRIMINATORS.items():
        discriminator = build(image_size, lambda: 0)
        assert (discriminator.input_shape, discriminator.output_shape) == ((None, image_size, image_size, 1), (None, 1)), name
        assert not any(isinstance(layer, keras.layers.Lambda) for layer in discriminator.layers)
        assert "BatchNormalization" not in [layer.__class__.__name__ for layer in discriminator.layers]


@pytest.mark.parametrize(
    ("size", "channels", "filters", "use_bias"), [(4, 256, 256, False), (5, 3, 7, True), (64, 32, 1, True)]
)
def test_doubling_and_convolving_at_once_is_doubling_and_then_convolving(size, channels, filters, use_bias, rng):
    """The same function of the same weights, and the same gradients."""
    images = rng.standard_normal((2, size, size, channels)).astype(np.float32)
    at_once = networks.DoubleAndConvolve(filters, "he_normal", use_bias, dtype="float32")
    plain = keras.Sequential(
        [
            keras.layers.UpSampling2D(2, dtype="float32"),
            keras.layers.Conv2D(filters, 3, 1, "same", use_bias=use_bias, dtype="float32"),
        ]
    )
    at_once.build(images.shape)
    plain.build(images.shape)
    weights = [rng.standard_normal(weight.shape).astype(np.float32) for weight in at_once.weights]
    results = []
    for model in (at_once, plain):
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            output = model(images)
            loss = tf.reduce_mean(output**3)
        results.append([output, *tape.gradient(loss, model.trainable_weights)])
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("generator_name", GENERATORS)
def test_a_generator_draws_different_images_between_black_and_white(generator_name):
    generator = replace(SMALL, generator=generator_name).build_generator()
    images = generator.predict(fakes.draw_noise(range(3), 100), verbose=0)
    assert images.shape == (3, 32, 32, 1) and images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 0


def test_the_default_networks_have_the_parameters_of_the_first_version():
    """The first published study's networks, at 128 pixels a side, whose discriminator didn't see how varied its batch is."""
    assert Recipe().build_generator().count_params() == 1_389_729
    assert Recipe().build_discriminator().count_params() == 1_742_049 + 256  # a weight of the batch's spread for each feature
    assert RECIPES["original"].build_generator().count_params() == 1_879_681
    assert RECIPES["original"].build_discriminator().count_params() == 1_650_433


def test_the_original_recipe_is_the_studys():
    """About 1.89 M and 1.66 M parameters with three colour channels; 5×5×128 kernels less in one layer of each with one."""
    recipe = RECIPES["original"]
    assert recipe.build_generator().count_params() + 2 * (5 * 5 * 128 + 1) == pytest.approx(1.89e6, rel=0.01)
    assert recipe.build_discriminator().count_params() + 2 * 5 * 5 * 128 == pytest.approx(1.66e6, rel=0.01)
    assert (recipe.batch_size, recipe.augmentation, recipe.ema_decay) == (128, "none", 0)


def test_an_unknown_recipe_is_one_sentence():
    with pytest.raises(ValueError, match="GAN_RECIPE is 'stylegan'; choose one of dcgan, original, hinge, wasserstein"):
        keys.choose(RECIPES, "stylegan", "GAN_RECIPE")


def test_every_field_of_a_recipe_is_part_of_its_key():
    """Two recipes that differ in any field are two descriptions; two that are equal are one."""
    others = {"generator": "transposed", "discriminator": "original", "loss": "hinge", "augmentation": "none", "image_size": 64}
    described = keys.digest(SMALL.describe())
    assert described == keys.digest(replace(SMALL).describe())
    for field in fields(Recipe):
        value = others.get(field.name) or 2 * getattr(SMALL, field.name)
        assert keys.digest(replace(SMALL, **{field.name: value}).describe()) != described, field.name


def test_a_changed_loss_makes_another_key(monkeypatch):
    """The recipe's own words stay the same, and what its loss computes doesn't."""
    described = keys.digest(SMALL.describe())
    monkeypatch.setitem(losses.LOSSES, "logistic", replace(losses.LOSSES["logistic"], discriminator=losses.hinge_discriminator))
    assert keys.digest(SMALL.describe()) != described


# The update


def test_losses_at_chance():
    zero = np.zeros((5, 1), np.float32)
    for loss in LOSSES.values():
        if loss.at_chance is not None:
            assert float(loss.discriminator(zero, zero)) == pytest.approx(loss.at_chance)
    assert losses.LOSSES["logistic"].at_chance == pytest.approx(2 * np.log(2))
    assert float(losses.LOSSES["logistic"].generator(zero)) == pytest.approx(np.log(2))


PLAIN_LOSSES = {  # as in the papers, from logits of real and of fake images
    "logistic": (
        lambda real, fake: -tf.reduce_mean(tf.math.log_sigmoid(real)) - tf.reduce_mean(tf.math.log_sigmoid(-fake)),
        lambda fake: -tf.reduce_mean(tf.math.log_sigmoid(fake)),
    ),
    "hinge": (
        lambda real, fake: tf.reduce_mean(tf.maximum(0.0, 1 - real)) + tf.reduce_mean(tf.maximum(0.0, 1 + fake)),
        lambda fake: -tf.reduce_mean(fake),
    ),
    "wasserstein": (
        lambda real, fake: tf.reduce_mean(fake) - tf.reduce_mean(real),
        lambda fake: -tf.reduce_mean(fake),
    ),
}


def plain_gradients(gan, real, with_penalty):
    """Gradients of both networks as anyone would write them: a pass forward and a tape for each, from the same random state."""
    discriminator_loss, generator_loss = PLAIN_LOSSES[gan.recipe.loss]
    state = gan.random.state.numpy()
    noise = keras.random.normal((len(real), gan.recipe.latent_dim), seed=gan.random)
    fake = gan.generator(noise, training=True)
    with tf.GradientTape() as tape:
        seen_real, seen_fake = gan.show(real), gan.show(fake)
        loss = discriminator_loss(gan.discriminator(seen_real, training=True), gan.discriminator(seen_fake, training=True))
        if with_penalty:
            share = keras.random.uniform((len(real), 1, 1, 1), seed=gan.random)
            between = share * seen_real + (1 - share) * seen_fake
            with tf.GradientTape() as inner:
                inner.watch(between)
                logits = gan.discriminator(between, training=True)
            slopes = tf.norm(tf.reshape(inner.gradient(logits, between), (len(real), -1)), axis=1)
            loss += 10 * tf.reduce_mean((slopes - 1) ** 2)
    of_discriminator = tape.gradient(loss, [variable.value for variable in gan.discriminator.trainable_variables])
    after = gan.random.state.numpy()
    gan.random.state.assign(state)
    noise = keras.random.normal((len(real), gan.recipe.latent_dim), seed=gan.random)
    with tf.GradientTape() as tape:
        fake = gan.generator(noise, training=True)
        gan.show(real)  # draws from the random state, as the update does
        loss = generator_loss(gan.discriminator(gan.show(fake), training=True))
    of_generator = tape.gradient(loss, [variable.value for variable in gan.generator.trainable_variables])
    gan.random.state.assign(after)
    return of_discriminator, of_generator


def capture(monkeypatch, optimizer):
    """Let an optimizer note what it is to apply instead of applying it: a list that grows by (gradients, variables)."""
    noted = []
    monkeypatch.setattr(optimizer, "apply", lambda gradients, variables: noted.append((gradients, variables)))
    return noted


@pytest.mark.parametrize(
    ("loss", "confident"), [("logistic", False), ("logistic", True), ("hinge", False), ("wasserstein", False)]
)
def test_an_update_applies_the_gradients_of_two_independent_tapes(loss, confident, float32, monkeypatch):
    """Also where the discriminator is nearly certain that fakes are fake and a saturated loss would lose its gradient."""
    gan = compiled_gan(replace(SMALL, loss=loss))
    if confident:
        bias = gan.discriminator.trainable_variables[-1]
        bias.assign(bias - 12)
    steps = gan.loss_pair.discriminator_steps
    real = np.random.default_rng(0).uniform(-1, 1, (4 * steps, 32, 32, 1)).astype(np.float32)
    state = gan.random.state.numpy()
    of_discriminator, of_generator = capture(monkeypatch, gan.optimizer), capture(monkeypatch, gan.generator_optimizer)
    gan.update(real)
    assert (len(of_discriminator), len(of_generator)) == (steps, 1)
    gan.random.state.assign(state)
    for step, (gradients, variables) in enumerate(of_discriminator):
        expected, expected_of_generator = plain_gradients(gan, real[4 * step : 4 * step + 4], loss == "wasserstein")
        assert variables == gan.discriminator.trainable_variables
        assert_gradients_agree(gradients, expected)
    gradients, variables = of_generator[0]  # from the last images, after all other steps of the discriminator
    assert variables == gan.generator.trainable_variables
    assert_gradients_agree(gradients, expected_of_generator)


def assert_gradients_agree(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is None:  # the last bias under the Wasserstein loss: it cancels, and the penalty doesn't see it
            assert ours is None
            continue
        largest = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * largest + 1e-9)
    assert max(np.abs(gradient).max() for gradient in expected if gradient is not None) > 1e-6


VARIANTS = {f"loss {name}": replace(SMALL, loss=name) for name in LOSSES}
VARIANTS |= {f"generator {name}": replace(SMALL, generator=name) for name in GENERATORS}
VARIANTS |= {f"discriminator {name}": replace(SMALL, discriminator=name) for name in DISCRIMINATORS}


@pytest.mark.parametrize("variant", [name for name, recipe in VARIANTS.items() if recipe != SMALL] + ["loss logistic"])
def test_every_loss_and_network_trains_both_networks(variant):
    """Three updates, compiled as `fit` compiles them; the discriminator learns as often as the loss wants it to."""
    gan = compiled_gan(VARIANTS[variant])
    steps = gan.loss_pair.discriminator_steps
    assert steps == (5 if variant == "loss wasserstein" else 1)
    images = np.random.default_rng(0).uniform(-1, 1, (4 * steps, 32, 32, 1)).astype(np.float32)
    before = gan.generator.get_weights(), gan.discriminator.get_weights(), gan.averaged_generator.get_weights()
    for _ in range(3):
        results = gan.train_on_batch(images, return_dict=True)
    assert np.isfinite([float(value) for value in results.values()]).all()
    assert (int(gan.optimizer.iterations), int(gan.generator_optimizer.iterations)) == (3 * steps, 3)
    for network, weights in zip((gan.generator, gan.discriminator, gan.averaged_generator), before, strict=True):
        changes = [np.abs(new - old).max() for new, old in zip(network.get_weights(), weights, strict=True) if new.ndim > 1]
        assert min(changes) > 0, "a layer's weights stayed as they were"


def test_another_loss_is_one_entry(folders, monkeypatch):
    """The least-squares loss (Mao et al. 2016, arXiv:1611.04076): two functions, one entry, and it trains, resumes and is known by its key."""

    def discriminator(real_logits, fake_logits):
        return ops.mean(ops.square(real_logits - 1)) + ops.mean(ops.square(fake_logits))

    def generator(fake_logits):
        return ops.mean(ops.square(fake_logits - 1))

    monkeypatch.setitem(losses.LOSSES, "least squares", losses.Loss(discriminator, generator))
    recipe = replace(SMALL, loss="least squares", updates=8, sample_every=4)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    trained, epoch, history = dcgan.train_gan(images, recipe, 0, folders)
    assert epoch == len(history) == 4
    assert np.isfinite(history).all().all()
    untrained = dcgan.GAN(recipe, 0).averaged_generator
    assert min(np.abs(new - old).max() for new, old in zip(trained.weights, untrained.weights, strict=True)) > 0
    assert keys.digest(recipe.describe()) != keys.digest(replace(recipe, loss="logistic").describe())


def test_scaled_losses_give_the_same_update(float32):
    """Scaling by a power of two is exact where nothing is too small or too large: the weights end as without it."""
    ended = []
    for kind in (dcgan.GAN, dcgan.HalfPrecisionGAN):
        gan = kind(SMALL, seed=0)
        gan.compile_for_training(jit_compile=False)
        for seed in range(3):
            gan.update(np.random.default_rng(seed).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32))
        ended.append(gan.generator.get_weights() + gan.discriminator.get_weights())
    for plain, scaled in zip(*ended, strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-5, atol=1e-7)


def test_in_float16_small_gradients_stay_and_an_overflow_leaves_the_weights(float16):
    gan = dcgan.make_gan(SMALL, seed=0)
    real = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)
    assert isinstance(gan, dcgan.HalfPrecisionGAN) and gan.generator.layers[1].compute_dtype == "float16"
    fake, _ = gan.generate(4)
    _, pull = gan.judge(real, fake)
    scale = float(gan.generator_optimizer.dynamic_scale.numpy())
    assert np.abs(pull(1, 1)).max() > 2**-24 * scale / 100, "the smallest number of float16 is 2⁻²⁴"
    for optimizer in (gan.optimizer, gan.generator_optimizer):
        optimizer.dynamic_scale.assign(2.0**100)
    before = gan.generator.get_weights()[0], gan.discriminator.get_weights()[0]
    gan.update(real)
    after = gan.generator.get_weights()[0], gan.discriminator.get_weights()[0]
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert gan.optimizer.dynamic_scale.numpy() == gan.generator_optimizer.dynamic_scale.numpy() == 2.0**99


def test_in_float16_a_training_goes_on_where_it_was(float16, folders):
    """The scale is part of the state."""
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 1), dtype=np.uint8)
    recipe = replace(SMALL, updates=12, sample_every=8)
    at_once, _, history = dcgan.train_gan(images, recipe, 0, folders.below("at once"))
    cut = folders.below("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SECONDS_BETWEEN_STATES", 0)
        patch.setattr(dcgan.SampleGrids, "on_epoch_end", stop_after(2))
        with pytest.raises(KeyboardInterrupt):
            dcgan.train_gan(images, recipe, 0, cut)
    resumed, _, same = dcgan.train_gan(images, recipe, 0, cut)
    assert np.isfinite(history.to_numpy()).all()
    pd.testing.assert_frame_equal(history, same)
    assert fakes.weights_hash(resumed) == fakes.weights_hash(at_once)


def stop_after(num_epochs):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == num_epochs:
            raise KeyboardInterrupt

    return on_epoch_end


@pytest.mark.parametrize(
    ("library", "on_gpu", "is_promised"), [("jax", True, False), ("jax", False, True), ("tensorflow", True, True)]
)
def test_jax_on_a_gpu_is_not_called_deterministic(library, on_gpu, is_promised, monkeypatch):
    """Nothing here makes it so."""
    policy = keras.mixed_precision.global_policy().name
    monkeypatch.setattr(keras.backend, "backend", lambda: library)
    monkeypatch.setattr(backend, "has_gpu", lambda: on_gpu)
    monkeypatch.setattr(backend, "_gpu_generation", lambda: backend.AMPERE)
    monkeypatch.setattr(backend, "_gpu_details", dict)  # without JAX, too
    assert backend.configure(policy)["deterministic"] == is_promised
    assert backend.lost_determinism() != is_promised
    assert not backend.configure(policy, deterministic=False)["deterministic"]


def test_without_a_deterministic_kernel_a_training_goes_on_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(backend, "_relaxed", [])
    calls = []

    @backend.deterministic_if_possible
    def train(seed):
        calls.append((seed, is_op_determinism_enabled()))
        if is_op_determinism_enabled():
            raise tf.errors.UnimplementedError(
                None, None, "Deterministic GPU implementation of unsorted segment reduction op not available."
            )
        return "trained"

    @backend.deterministic_if_possible
    def other_fault():
        raise tf.errors.UnimplementedError(
            None, None, "Fused conv implementation does not support grouped convolutions for now."
        )

    try:
        assert train(3) == "trained" and calls == [(3, True), (3, False)]
        assert capsys.readouterr().out.startswith("TensorFlow has no deterministic kernel on this device")
        assert not backend.configure()["deterministic"], "the next unit of this process would fail and start again, too"
        with pytest.raises(tf.errors.UnimplementedError, match="grouped"):
            other_fault()
    finally:
        backend._relaxed.clear()
        backend.configure()
    assert is_op_determinism_enabled()


def test_the_average_follows_weights_and_batch_norm_statistics_slowly():
    gan = compiled_gan()
    names = [variable.path for variable in gan.averaged_generator.variables]
    assert any("moving_variance" in name for name in names)
    start = [variable.numpy().copy() for variable in gan.averaged_generator.variables]
    for variable in gan.generator.variables:
        if "float" in str(variable.dtype):
            variable.assign(variable + 1)
    moved = [variable.numpy().copy() for variable in gan.generator.variables]
    gan.average_generator()
    decay = gan.recipe.ema_decay
    for name, before, live, average in zip(names, start, moved, gan.averaged_generator.variables, strict=True):
        if "seed" not in name:
            np.testing.assert_allclose(average.numpy(), decay * before + (1 - decay) * live, rtol=1e-5, atol=1e-7)
    assert not gan.averaged_generator.trainable_variables
    assert gan.get_sampler() is gan.averaged_generator
    without_average = dcgan.GAN(replace(SMALL, ema_decay=0.0))
    assert without_average.get_sampler() is without_average.generator


def test_augmentation_is_mild_differentiable_and_never_flips():
    seed = keras.random.SeedGenerator(0)
    images = np.tile(np.linspace(-0.5, 0.5, 32, dtype=np.float32)[None, None, :, None], (64, 32, 1, 1))
    variable = tf.Variable(images)
    with tf.GradientTape() as tape:
        augmented = augmentation.shift_and_brighten(variable, seed, Recipe(max_shift=2 / 32))
        total = ops.sum(augmented)
    assert augmented.shape == images.shape
    assert np.abs(tape.gradient(total, variable)).max() > 0
    inner = augmented.numpy()[:, 4:-4, 4:-4, 0]
    assert (np.diff(inner, axis=2) > 0).all(), "left to right has turned"
    assert len({round(float(value), 4) for value in inner.mean(axis=(1, 2))}) > 60, "images share their random numbers"


def test_translation_moves_whole_pixels_and_reflects():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    shifted = {augmentation.translate(image, keras.random.SeedGenerator(seed), 1).numpy().tobytes() for seed in range(60)}
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = {padded[:, row : row + 4, column : column + 4].tobytes() for row in range(3) for column in range(3)}
    assert shifted == expected


# Whole trainings


def test_grids_of_an_earlier_training_of_other_settings_are_not_shown_as_this_ones(folders):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    left = folders.images / "gan" / "epoch_0099.png"
    for _ in range(2):  # a new training, and a finished one
        left.parent.mkdir(parents=True, exist_ok=True)
        left.touch()
        dcgan.train_gan(images, replace(SMALL, updates=5, sample_every=5), 0, folders)
        assert sorted(file.name for file in left.parent.glob("epoch_*.png")) == [f"epoch_000{epoch}.png" for epoch in (1, 2, 3)]


def test_a_finished_training_stays_and_another_recipe_is_refused(folders):
    """Asked for again it does nothing; with another loss, length or other images the folder is another training's."""
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    recipe = replace(SMALL, updates=5, sample_every=5)
    generator, epoch, history = dcgan.train_gan(images, recipe, 0, folders)
    assert epoch == len(history) == 3, "two updates an epoch"
    again, _, undisturbed = dcgan.train_gan(images, replace(recipe, sample_every=2), 0, folders)
    pd.testing.assert_frame_equal(history, undisturbed)
    assert fakes.weights_hash(generator) == fakes.weights_hash(again)
    for other in (replace(recipe, loss="hinge"), replace(recipe, learning_rate=1e-3), replace(recipe, updates=8)):
        with pytest.raises(ValueError, match="was trained with .*: choose another name with RUN"):
            dcgan.train_gan(images, other, 0, folders)
    with pytest.raises(ValueError, match="was trained with images"):
        dcgan.train_gan(images[::-1], recipe, 0, folders)


def test_updates_are_counted_however_many_images_there_are():
    recipe = Recipe(batch_size=8, updates=5000, sample_every=250)
    assert [recipe.count_epochs(number) for number in (3, 25, 363, 4000)] == [(157, 8), (157, 8), (109, 5), (10, 1)]
    assert [recipe.count_updates(number) for number in (3, 25, 363)] == [32, 32, 46], "short epochs would cost time"
    assert [replace(recipe, updates=number).count_updates(8) for number in (4, 80)] == [1, 10], (
        "a short training has epochs, too"
    )
    assert replace(recipe, loss="wasserstein").count_real(363) == 40


def test_the_learning_rate_stays_and_then_falls_to_nothing():
    rate = dcgan.SteadyThenFalling(2e-4, 1000, 0.5)
    steps = np.array([0, 499, 500, 750, 1000, 1200])
    np.testing.assert_allclose([float(rate(step)) for step in steps], [2e-4, 2e-4, 2e-4, 1e-4, 0, 0], atol=1e-9)
    assert float(dcgan.SteadyThenFalling(2e-4, 1000, 1.0)(999)) == pytest.approx(2e-4)
    gan = compiled_gan(replace(SMALL, loss="wasserstein", updates=10))
    images = np.random.default_rng(0).uniform(-1, 1, (20, 32, 32, 1)).astype(np.float32)
    for _ in range(9):
        gan.train_on_batch(images)
    for optimizer in (gan.optimizer, gan.generator_optimizer):  # the discriminator takes five steps an update
        assert float(optimizer.learning_rate) == pytest.approx(0.2 * gan.recipe.learning_rate, rel=1e-4)


def test_the_discriminator_sees_how_varied_a_batch_is(rng):
    """Standard deviation over the batch, averaged over places and features, by numpy; alike for every image, with a weight for each feature."""
    maps, weights = rng.standard_normal((6, 4, 4, 3)).astype(np.float32), np.float32([1, -2, 0])
    layer = networks.BatchSpread(lambda shape, dtype: weights, dtype="float32")
    np.testing.assert_allclose(layer(maps), maps + maps.std(axis=0).mean() * weights, rtol=1e-4, atol=1e-5)
    alike = np.repeat(maps[:1], 6, axis=0)
    np.testing.assert_allclose(layer(alike), alike, atol=1e-3)


def test_cutting_hides_a_square_of_each_image_and_lets_gradients_pass():
    images = tf.Variable(np.full((50, 32, 32, 1), 0.5, np.float32))
    recipe = Recipe(max_shift=0, max_brightness=0, max_contrast=0, cut_side=0.5)
    with tf.GradientTape() as tape:
        seen = augmentation.shift_brighten_and_cut(images, keras.random.SeedGenerator(0), recipe)
        total = ops.sum(seen)
    hidden = np.array(seen)[..., 0] == 0
    heights, widths = hidden.any(axis=2).sum(axis=1), hidden.any(axis=1).sum(axis=1)
    assert heights.max() == widths.max() == 15 and heights.min() >= 8, "a part may lie outside"
    assert (hidden.sum(axis=(1, 2)) == heights * widths).all(), "one square an image"
    assert len({tuple(np.argwhere(image)[0]) for image in hidden}) > 30
    np.testing.assert_allclose(np.array(tape.gradient(total, images))[..., 0], ~hidden)


def test_the_best_generator_is_kept_and_a_collapse_is_said(folders, capsys):
    """A judge that likes the second judgement best and then sees a collapse."""

    class Judge:
        has_collapsed = staticmethod(fidelity.Judge.has_collapsed)
        rows = iter([(0.9, 0.8), (0.2, 0.7), (0.5, 0.1)])
        made_from = "images"

        def distances(self, images):
            assert images.shape == (dcgan.NUM_JUDGED, 32, 32, 1)
            self.seen = [*getattr(self, "seen", []), images]
            return dict(zip(("kid", "diversity"), next(self.rows), strict=True))

    judge = Judge()
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    recipe = replace(SMALL, updates=6, sample_every=2)
    generator, epoch, history = dcgan.train_gan(images, recipe, 0, folders, judge)
    assert (epoch, len(history)) == (2, 3)
    table = pd.read_csv(folders.results / "gan" / "fidelity.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    noise = fakes.draw_noise(range(dcgan.GRID_SEED, dcgan.GRID_SEED + dcgan.NUM_JUDGED), 100)
    np.testing.assert_array_equal(fakes.draw(generator, noise), judge.seen[1])
    assert "Epoch 3: the generator has collapsed" in capsys.readouterr().out
    again, epoch, same_history = dcgan.train_gan(images, recipe, 0, folders, judge)
    assert (epoch, len(same_history)) == (2, 3), "a finished training isn't repeated, though its state was dropped"
    assert fakes.weights_hash(again) == fakes.weights_hash(generator)
    (state,) = (folders.models / "gan_state").glob("epoch_*.npz")
    assert state.stat().st_size < 5000
    judge.made_from = "other images"
    with pytest.raises(
        ValueError, match="was trained with baseline and validation images 'images', now 'other images': choose"
    ):
        dcgan.train_gan(images, recipe, 0, folders, judge)


ON_JAX = textwrap.dedent("""
    import sys
    from dataclasses import replace
    from pathlib import Path
    import jax, keras, numpy as np
    from keras import random
    from xraygan import backend, run
    from xraygan.comparison.classifier import Classifier
    from xraygan.gan import dcgan, fakes, fidelity, losses
    from xraygan.gan.recipe import Recipe
    machine = backend.configure("float32")
    small = Recipe(image_size=32, batch_size=4, updates=3, sample_every=1)

    # The gradients of one update against those that JAX finds of the loss written out as one function.
    losses.LOSSES["one step"] = replace(losses.LOSSES["wasserstein"], discriminator_steps=1)
    gan = dcgan.GAN(replace(small, loss="one step", augmentation="none"), seed=0)
    gan.compile_for_training(jit_compile=False)
    found = []
    gan.optimizer.apply = lambda gradients, variables: found.append(gradients)
    gan.generator_optimizer.apply = lambda gradients, variables: found.append(gradients)
    real = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)

    @jax.jit
    def update():
        with keras.StatelessScope():  # the random state stays as it was
            gan.update(real)
        return found

    found = update()
    noise, share = random.normal((4, 100), seed=gan.random), random.uniform((4, 1, 1, 1), seed=gan.random)
    weights = [[variable.value for variable in network.trainable_variables] for network in (gan.generator, gan.discriminator)]
    statistics = [variable.value for variable in gan.generator.non_trainable_variables]

    def generate(weights):
        return gan.generator.stateless_call(weights, statistics, noise, training=True)[0]

    def rate(weights, images):
        return gan.discriminator.stateless_call(weights, [], images, training=True)[0]

    @jax.jit
    @jax.grad
    def slope_of_discriminator_loss(weights, fake):
        slopes = jax.grad(lambda between: rate(weights, between).sum())(share * real + (1 - share) * fake)
        lengths = (slopes**2).sum(axis=(1, 2, 3)) ** 0.5
        return rate(weights, fake).mean() - rate(weights, real).mean() + 10 * ((lengths - 1) ** 2).mean()

    @jax.jit
    @jax.grad
    def slope_of_generator_loss(generator_weights, discriminator_weights):
        return -rate(discriminator_weights, generate(generator_weights)).mean()

    expected = slope_of_discriminator_loss(weights[1], generate(weights[0])), slope_of_generator_loss(*weights)
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max() + 1e-9)

    # A training from begin to end, compiled.
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), dtype=np.uint8)
    judge = fidelity.Judge(Classifier(image_size=32).build(2), images[:16], images[16:28])
    folders = run.open_folders("short", Path(sys.argv[1]))
    generator, epoch, history = dcgan.train_gan(images[:16], replace(small, loss="wasserstein"), 0, folders, judge)
    drawn = fakes.draw(generator, fakes.draw_noise(range(4), 100))
    print("RESULT", machine["backend"], drawn.shape, history["d_loss"].round(6).tolist(), epoch)
""")


@pytest.mark.slow
def test_the_gan_updates_trains_and_samples_on_jax(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", ON_JAX, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert result.startswith("RESULT jax (4, 32, 32, 1)")
    by_epoch = json.loads(result[result.index("[") : result.index("]") + 1])
    assert len(by_epoch) == 3 and by_epoch[-1] < by_epoch[0], "the discriminator learned nothing"
