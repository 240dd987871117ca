"""The GAN: shapes, whose loss moves whom, the average, and a training killed for real."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import ops

import utils
from xraygan import dcgan, diffaugment, fakes


def compiled_gan(recipe_name="dcgan"):
    utils.set_seed(0)
    gan = dcgan.DCGAN(recipe_name, seed=0)
    gan.compile_for_training(jit_compile=False)
    return gan


@pytest.mark.parametrize("recipe_name", dcgan.RECIPES)
def test_shapes_and_range(recipe_name):
    generator, discriminator = dcgan.build_generator(recipe_name), dcgan.build_discriminator(recipe_name)
    images = generator.predict(fakes.fake_noise(range(3), 100), verbose=0)
    assert images.shape == (3, 128, 128, 1)
    assert np.abs(images).max() <= 1
    assert discriminator.predict(images, verbose=0).shape == (3, 1)
    layers = [layer.__class__.__name__ for model in (generator, discriminator) for layer in model.layers]
    assert "Lambda" not in layers


def test_the_seed_recipe_is_the_studys():
    """About 1.89 M and 1.66 M parameters with three colour channels; 5×5×128 kernels less in one layer of each with one."""
    generator = dcgan.build_generator("seed").count_params() + 2 * (5 * 5 * 128 + 1)
    discriminator = dcgan.build_discriminator("seed").count_params() + 2 * 5 * 5 * 128
    assert generator == pytest.approx(1.89e6, rel=0.01)
    assert discriminator == pytest.approx(1.66e6, rel=0.01)
    assert dcgan.RECIPES["seed"].batch_size == 128


def test_unknown_recipe():
    with pytest.raises(ValueError, match="GAN_RECIPE is 'stylegan'; choose one of dcgan, seed"):
        dcgan.DCGAN("stylegan")


def test_each_loss_moves_its_own_network_only():
    gan = compiled_gan()
    real = np.random.default_rng(0).uniform(-1, 1, (4, 128, 128, 1)).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        logits = gan(real, training=True)
        d_loss = ops.mean(ops.softplus(-logits["real"])) + ops.mean(ops.softplus(logits["fake"]))
        g_loss = ops.mean(ops.softplus(-logits["fooling"]))
    generator = [variable.value for variable in gan.generator.trainable_variables]
    discriminator = [variable.value for variable in gan.discriminator.trainable_variables]
    assert all(gradient is None for gradient in tape.gradient(d_loss, generator))
    assert all(gradient is None for gradient in tape.gradient(g_loss, discriminator))
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(d_loss, discriminator))
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(g_loss, generator))
    assert float(gan.compute_loss(y_pred=logits)) == pytest.approx(float(d_loss + g_loss), rel=1e-5)


def test_the_average_follows_weights_and_batch_norm_statistics_slowly():
    gan = compiled_gan()
    names = [variable.path for variable in gan.averaged_generator.variables]
    assert any("moving_variance" in name for name in names)
    start = [variable.numpy().copy() for variable in gan.averaged_generator.variables]
    for variable in gan.generator.variables:
        if "float" in str(variable.dtype):
            variable.assign(variable + 1)
    moved = [variable.numpy().copy() for variable in gan.generator.variables]
    gan._average_generator()
    decay = gan.recipe.ema_decay
    for name, before, live, average in zip(names, start, moved, gan.averaged_generator.variables, strict=True):
        if "seed" not in name:
            np.testing.assert_allclose(average.numpy(), decay * before + (1 - decay) * live, rtol=1e-5, atol=1e-7)
    assert not gan.averaged_generator.trainable_variables
    assert compiled_gan("seed").sampler().name == "generator"


def test_augmentation_is_mild_differentiable_and_never_flips():
    seed = keras.random.SeedGenerator(0)
    images = np.tile(np.linspace(-0.5, 0.5, 32, dtype=np.float32)[None, None, :, None], (64, 32, 1, 1))
    variable = tf.Variable(images)
    with tf.GradientTape() as tape:
        augmented = diffaugment.augment(variable, seed, max_shift=2)
        total = ops.sum(augmented)
    assert augmented.shape == images.shape
    assert np.abs(tape.gradient(total, variable)).max() > 0
    inner = augmented.numpy()[:, 4:-4, 4:-4, 0]
    assert (np.diff(inner, axis=2) > 0).all(), "left to right has turned"
    assert len({round(float(value), 4) for value in inner.mean(axis=(1, 2))}) > 60, "images share their random numbers"


def test_translation_moves_whole_pixels_and_reflects():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    shifted = {diffaugment.translate(image, keras.random.SeedGenerator(seed), 1).numpy().tobytes() for seed in range(60)}
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = {padded[:, row : row + 4, column : column + 4].tobytes() for row in range(3) for column in range(3)}
    assert shifted == expected


TRAIN = textwrap.dedent("""
    import hashlib, sys
    from pathlib import Path
    import numpy as np
    import utils
    from xraygan import backend, dcgan
    backend.configure()
    images = np.random.default_rng(0).integers(0, 256, (6, 128, 128, 1), dtype=np.uint8)
    folders = utils.run_folders("killed", Path(sys.argv[1]))
    gan, history = dcgan.train_gan(images, "dcgan", 8, 2, 3, folders)
    digest = hashlib.sha256()
    for variable in [*gan.variables, *gan.optimizer.variables]:
        digest.update(np.ascontiguousarray(variable))
    print("HASH", digest.hexdigest())
""")


def train_in_a_process(store):
    environment = os.environ | {"PYTHONPATH": str(utils.ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(store)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def result_of(process):
    output, _ = process.communicate(timeout=300)
    return next(line for line in output.splitlines() if line.startswith("HASH"))


def grids_of(store):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (store / "images").rglob("*.png")}


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    """SIGKILL right after an epoch's state appears, twice; weights, optimizer, random state, history and grids agree bit for bit."""
    whole = result_of(train_in_a_process(tmp_path / "whole"))
    state = tmp_path / "cut" / "models" / "killed" / "gan_state"
    for epoch in (2, 5):
        process = train_in_a_process(tmp_path / "cut")
        deadline = time.time() + 200
        while time.time() < deadline and process.poll() is None and not list(state.glob(f"epoch_{epoch:05d}*")):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert result_of(train_in_a_process(tmp_path / "cut")) == whole
    history = "results/killed/gan/history.csv"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "cut" / history), pd.read_csv(tmp_path / "whole" / history))
    assert grids_of(tmp_path / "cut") == grids_of(tmp_path / "whole")
    assert sorted(grids_of(tmp_path / "whole")) == [f"epoch_{epoch:04d}.png" for epoch in (1, 2, 4, 6, 8)]
