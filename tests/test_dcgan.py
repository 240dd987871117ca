"""The GAN: shapes, whose loss moves whom, the average, and a training killed for real."""

import hashlib
import json
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

from xraygan import dcgan, diffaugment, disk, fakes, fidelity


def compiled_gan(recipe_name="dcgan"):
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


def test_the_original_recipe_is_the_studys():
    """About 1.89 M and 1.66 M parameters with three colour channels; 5×5×128 kernels less in one layer of each with one."""
    generator = dcgan.build_generator("original").count_params() + 2 * (5 * 5 * 128 + 1)
    discriminator = dcgan.build_discriminator("original").count_params() + 2 * 5 * 5 * 128
    assert generator == pytest.approx(1.89e6, rel=0.01)
    assert discriminator == pytest.approx(1.66e6, rel=0.01)
    assert dcgan.RECIPES["original"].batch_size == 128


def test_unknown_recipe():
    with pytest.raises(ValueError, match="GAN_RECIPE is 'stylegan'; choose one of dcgan, original"):
        dcgan.DCGAN("stylegan")


@pytest.mark.parametrize("confident", [False, True])
def test_one_backward_pass_gives_both_networks_their_own_gradients(confident):
    """Against two tapes and two passes; also where the discriminator is nearly certain and the factor is large."""
    with_precision("float32", lambda: compare_with_two_passes(confident))


def compare_with_two_passes(confident):
    gan = compiled_gan()
    if confident:
        bias = gan.discriminator.trainable_variables[-1]
        bias.assign(bias - 12)
    rng = np.random.default_rng(0)
    real = rng.uniform(-1, 1, (4, 128, 128, 1)).astype(np.float32)
    noise = rng.standard_normal((4, 100)).astype(np.float32)
    state, statistics = gan.random.state.numpy(), [v.numpy() for v in gan.generator.non_trainable_variables]
    d_gradients, g_gradients, *_ = gan.gradients(real, noise)
    moved = [v.numpy() for v in gan.generator.non_trainable_variables]
    gan.random.state.assign(state)
    for variable, value in zip(gan.generator.non_trainable_variables, statistics, strict=True):
        variable.assign(value)
    with tf.GradientTape(persistent=True) as tape:
        fake = gan.generator(noise, training=True)
        seen = ops.concatenate([gan._as_seen(real), gan._as_seen(fake)])
        real_logits, fake_logits = ops.split(gan.discriminator(seen, training=True), 2)
        d_loss = ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))
        g_loss = ops.mean(ops.softplus(-fake_logits))
    assert (fake_logits.numpy() < -8).all() == confident
    for found, loss, network in ((d_gradients, d_loss, gan.discriminator), (g_gradients, g_loss, gan.generator)):
        expected = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
        for ours, theirs in zip(found, expected, strict=True):
            assert np.abs(theirs).max() > 0
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    for ours, variable in zip(moved, gan.generator.non_trainable_variables, strict=True):
        np.testing.assert_allclose(ours, variable.numpy(), rtol=1e-6)


def with_precision(precision, function):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        function()
    finally:
        keras.mixed_precision.set_global_policy(before)


def test_losses_at_chance():
    zero = np.zeros((5, 1), np.float32)
    assert float(dcgan.discriminator_loss(zero, zero)) == pytest.approx(2 * np.log(2))
    assert float(dcgan.generator_loss(zero)) == pytest.approx(np.log(2))


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
    assert compiled_gan("original").sampler().name == "generator"


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
    from xraygan import backend, classifier, dcgan, fidelity, training
    training.SECONDS_BETWEEN_STATES = float(sys.argv[2])
    backend.configure()
    images = np.random.default_rng(0).integers(0, 256, (30, 128, 128, 1), dtype=np.uint8)
    folders = utils.run_folders("killed", Path(sys.argv[1]))
    judge = fidelity.Judge(classifier.build_classifier(2), images[:12], images[12:18])
    generator, epoch, history = dcgan.train_gan(images[:12], "dcgan", 8, 2, 3, folders, judge)
    digest = hashlib.sha256()
    with np.load(folders.models / "gan_state" / "epoch_00008.npz") as state:
        for name in state.files:
            digest.update(np.ascontiguousarray(state[name]))
    for variable in generator.variables:
        digest.update(np.ascontiguousarray(variable))
    print("HASH", epoch, digest.hexdigest())
""")


def train_in_a_process(store, seconds_between_states="inf"):
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    command = [sys.executable, "-c", TRAIN, str(store), seconds_between_states]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def result_of(process):
    output, _ = process.communicate(timeout=300)
    return next(line for line in output.splitlines() if line.startswith("HASH"))


def grids_of(store):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (store / "images").rglob("*.png")}


def kill_when(process, reached):
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None and not reached():
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    """SIGKILL as a state appears, and when tables and grids are ahead of it; weights, optimizer, random state, tables, grids and the kept generator agree."""
    whole = result_of(train_in_a_process(tmp_path / "whole"))
    state = tmp_path / "cut" / "models" / "killed" / "gan_state"
    history = tmp_path / "cut" / "results" / "killed" / "gan" / "history.csv"
    kill_when(train_in_a_process(tmp_path / "cut", "0"), lambda: list(state.glob("epoch_00002*")))
    kill_when(train_in_a_process(tmp_path / "cut"), lambda: len(pd.read_csv(history)) >= 6)
    assert not list(state.glob("epoch_00006*"))
    assert result_of(train_in_a_process(tmp_path / "cut")) == whole
    for table in ("history.csv", "fidelity.csv"):
        cut, undisturbed = (pd.read_csv(tmp_path / store / "results/killed/gan" / table) for store in ("cut", "whole"))
        pd.testing.assert_frame_equal(cut, undisturbed)
    assert grids_of(tmp_path / "cut") == grids_of(tmp_path / "whole")
    assert sorted(grids_of(tmp_path / "whole")) == [f"epoch_{epoch:04d}.png" for epoch in (1, 2, 4, 6, 8)]


def test_the_best_generator_is_kept_and_a_collapse_is_said(folders, capsys):
    """A judge that likes the second judgement best and then sees a collapse."""

    class Judge:
        has_collapsed = staticmethod(fidelity.Judge.has_collapsed)
        rows = iter([(0.9, 0.8), (0.2, 0.7), (0.5, 0.1)])

        def distances(self, images):
            assert images.shape == (dcgan.NUM_JUDGED, 128, 128, 1)
            self.seen = [*getattr(self, "seen", []), images]
            return dict(zip(("kid", "diversity"), next(self.rows), strict=True))

    judge = Judge()
    images = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 1), dtype=np.uint8)
    generator, epoch, history = dcgan.train_gan(images, "dcgan", 3, 1, 0, folders, judge)
    assert (epoch, len(history)) == (2, 3)
    table = pd.read_csv(folders.results / "gan" / "fidelity.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    noise = fakes.fake_noise(range(dcgan.GRID_SEED, dcgan.GRID_SEED + dcgan.NUM_JUDGED), 100)
    np.testing.assert_array_equal(fakes.draw(generator, noise), judge.seen[1])
    assert "Epoch 3: the generator has collapsed" in capsys.readouterr().out


ON_EITHER_BACKEND = textwrap.dedent("""
    import sys
    from pathlib import Path
    import keras, numpy as np
    import utils
    from xraygan import backend, classifier, dcgan, fakes, fidelity
    machine = backend.configure("float32")
    images = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 1), dtype=np.uint8)
    judge = fidelity.Judge(classifier.build_classifier(2), images[:16], images[16:28])
    folders = utils.run_folders("short", Path(sys.argv[1]))
    generator, epoch, history = dcgan.train_gan(images[:16], "dcgan", 3, 1, 0, folders, judge)
    drawn = fakes.draw(generator, fakes.fake_noise(range(4), 100))
    print("RESULT", machine["backend"], drawn.shape, history["d_loss"].round(6).tolist(), epoch)
""")


@pytest.mark.parametrize("keras_backend", ["tensorflow", "jax"])
def test_the_gan_trains_and_samples_on_either_backend(keras_backend, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT), "KERAS_BACKEND": keras_backend}
    command = [sys.executable, "-c", ON_EITHER_BACKEND, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert result.startswith(f"RESULT {keras_backend} (4, 128, 128, 1)")
    losses = json.loads(result[result.index("[") : result.index("]") + 1])
    assert len(losses) == 3 and losses[-1] < losses[0], "the discriminator learned nothing from noise against smooth fakes"
