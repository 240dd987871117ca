"""The CNN, the order of its batches, and training that goes on where it stopped."""

import dataclasses
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import types

import keras
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from xraygan import backend, disk, training
from xraygan.comparison import arms, classifier
from xraygan.comparison.classifier import Classifier
from xraygan.comparison.profile import load_profile
from xraygan.data.dataset import Part, Setting

TWO, THREE = Setting(("NORMAL", "COVID19"), "COVID19"), Setting(("A", "B", "C"), "C")
TINY = Classifier(batch_size=32, epochs=3, patience=3)


def train(images, tmp_path, name="run", setting=TWO, weights=(1.0, 1.0), seed=1, **changes):
    """Train on every other image of the small phantom, validate on others."""
    rows, held_out = np.arange(0, 56, 2), np.arange(1, 56, 4)
    return classifier.train_classifier(
        dataclasses.replace(TINY, **changes),
        setting,
        arms.TrainingImages(images.images[rows], images.labels[rows], np.array(weights), 50, 14),
        Part(images.images[held_out], images.labels[held_out], images.files[held_out]),
        seed,
        state_folder=tmp_path / name,
        description=name,
    )


def test_parameters_are_those_of_the_study():
    """4,443,585 with three colour channels (SEED of the study); two channels of 32 3×3 kernels fewer with one."""
    assert Classifier().build(2).count_params() == 4_443_585 - 2 * 32 * 3 * 3
    assert Classifier().build(3).output_shape == (None, 3)
    names = [layer.__class__.__name__ for layer in Classifier().build(2).layers]
    assert names == ["InputLayer"] + ["Conv2D", "MaxPooling2D"] * 3 + ["Conv2D", "Flatten"] + ["Dense"] * 3
    assert "Lambda" not in names


@pytest.mark.parametrize("network", [name for name in classifier.NETWORKS if name not in classifier.LEARNING_RATES])
@pytest.mark.parametrize("size", [32, 256])
def test_every_network_takes_every_size_and_ends_in_a_dense_layer(network, size):
    model = Classifier(network, image_size=size).build(3)
    assert model.input_shape == (None, size, size, 1) and model.output_shape == (None, 3)
    assert isinstance(model.layers[-1], keras.layers.Dense) and model.layers[-1].compute_dtype == "float32"


def test_an_unknown_network_is_a_sentence():
    with pytest.raises(ValueError, match="CLASSIFIER is 'vgg'; choose one of study_cnn"):
        Classifier("vgg").build(2)


def test_an_epoch_depends_on_the_real_images_only():
    assert [Classifier().count_updates(number) for number in (1, 128, 129, 1381)] == [1, 1, 2, 11]
    study, full = (load_profile(name).make_classifier("study_cnn") for name in ("study", "full"))
    assert study.count_epochs(1381) == 54  # 1200 updates of 64 images at most
    assert full.count_epochs(1381) == 500
    assert dataclasses.replace(study, updates=5).count_epochs(1381) == 1, "at least one"


def test_targets_call_the_minority_positive():
    labels = np.array([0, 1, 1, 0])
    assert classifier.make_targets(labels, Setting(("COVID19", "NORMAL"), "COVID19")).tolist() == [1, 0, 0, 1]
    assert classifier.make_targets(labels, TWO).tolist() == [0, 1, 1, 0]
    assert classifier.make_targets(labels, THREE).tolist() == [0, 1, 1, 0]


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_every_image_is_seen_equally_often(num_images, batch_size, seed):
    batches = training.RepeatingShuffle(np.zeros((num_images, 1, 1, 1)), None, utils.to_unit, batch_size, seed)
    steps = num_images  # batch_size whole laps
    rows = np.concatenate([batches.rows_of_step(step) for step in range(steps)])
    assert (np.bincount(rows, minlength=num_images) == batch_size).all()


def test_batches_of_a_resumed_training_are_the_same(rng):
    images = rng.integers(0, 256, (11, 4, 4, 1), dtype=np.uint8)
    whole = training.RepeatingShuffle(images, np.arange(11), utils.to_unit, 4, seed=5)
    resumed = training.RepeatingShuffle(images, np.arange(11), utils.to_unit, 4, seed=5, first_step=6)
    for index in range(3):
        np.testing.assert_array_equal(whole[6 + index][1], resumed[index][1])


def test_interrupted_equals_uninterrupted(phantom_images, tmp_path):
    whole, whole_history = train(phantom_images, tmp_path, "whole")
    train(phantom_images, tmp_path, "cut", epochs=2)
    keras.utils.set_random_seed(99)
    resumed, resumed_history = train(phantom_images, tmp_path, "cut", epochs=3)
    pd.testing.assert_frame_equal(whole_history, resumed_history)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_training_is_not_repeated_and_keeps_its_best_epoch(phantom_images, tmp_path, monkeypatch):
    model, history = train(phantom_images, tmp_path, epochs=4)
    best = history["val_loss"].min()
    rows = np.arange(1, 56, 4)
    ill = classifier.predict(model, phantom_images.images[rows])[:, 0].astype(float)
    y, share = phantom_images.labels[rows], (phantom_images.labels[:56:2] == 1).mean()
    corrected = ill / share / (ill / share + (1 - ill) / (1 - share))
    loss = (-np.log(corrected[y == 1]).mean() - np.log(1 - corrected[y == 0]).mean()) / 2
    assert loss == pytest.approx(best, rel=1e-3)
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("trained again"))
    again, _ = train(phantom_images, tmp_path, epochs=4)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_another_seed_other_weights_and_another_network_are_refused_in_the_same_folder(phantom_images, tmp_path, monkeypatch):
    train(phantom_images, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="was trained with seed 1, now 2.*choose another name with RUN"):
        train(phantom_images, tmp_path, epochs=1, seed=2)
    with pytest.raises(ValueError, match="was trained with weights"):
        train(phantom_images, tmp_path, epochs=1, weights=(1.0, 2.0))
    monkeypatch.setitem(classifier.NETWORKS, "flat", build_flat)
    with pytest.raises(ValueError, match="was trained with network"):
        train(phantom_images, tmp_path, epochs=1, network="flat")


def build_flat(image_size, num_classes, next_seed):
    image = keras.Input((image_size, image_size, 1))
    return keras.Model(image, classifier.add_decision(keras.layers.Flatten()(image), num_classes, next_seed))


def test_weights_of_classes_reach_the_loss(phantom_images, tmp_path, monkeypatch):
    """A linear model on one epoch: the loss that Keras reports is the weighted mean of the losses of single images."""
    monkeypatch.setitem(classifier.NETWORKS, "flat", build_flat)
    rows, still = np.arange(0, 56, 2), {"network": "flat", "epochs": 1, "learning_rate": 1e-12, "batch_size": 28}
    model = Classifier("flat").build(2, seed=1)
    outputs = classifier.predict(model, phantom_images.images[rows])[:, 0].astype(float)
    y = classifier.make_targets(phantom_images.labels[rows], TWO)
    losses = -(y * np.log(outputs) + (1 - y) * np.log(1 - outputs))
    for weights in ((1.0, 1.0), (0.5, 3.0)):
        images = arms.TrainingImages(phantom_images.images[rows], phantom_images.labels[rows], np.array(weights), 28, 14)
        held_out = Part(phantom_images.images[:4], phantom_images.labels[:4], None)
        changed = dataclasses.replace(TINY, **still)
        _, history = classifier.train_classifier(changed, TWO, images, held_out, 1, tmp_path / str(weights[1]), "")
        assert history["loss"].item() == pytest.approx(np.mean(np.array(weights)[y.astype(int)] * losses), rel=2e-2)


def test_fewer_epochs_than_done_are_a_sentence_and_a_lost_history_is_written_again(phantom_images, tmp_path):
    _, history = train(phantom_images, tmp_path, epochs=2)
    with pytest.raises(ValueError, match="was trained for 2 epochs, and 1 are asked for: choose another name with RUN"):
        train(phantom_images, tmp_path, epochs=1)
    (tmp_path / "run" / "history.csv").unlink()
    _, again = train(phantom_images, tmp_path, epochs=2)
    pd.testing.assert_frame_equal(again, history)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "history.csv"), history)


def test_patience_is_remembered_over_a_resume(tmp_path):
    """A tiny model whose validation loss only rises stops after exactly `patience` epochs, however often it's cut off."""

    def run(num_epochs):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.optimizer.build(model.trainable_variables)
        resumable = training.ResumableTraining(model, tmp_path / "s", tmp_path / "h.csv", {}, monitor="val_loss", patience=3)
        images, y = np.full((4, 1, 1, 1), 255, np.uint8), np.full((4, 1), 5.0)
        start = float(model.get_weights()[0][0, 0])
        return resumable.fit(
            lambda step: training.RepeatingShuffle(images, y, utils.to_unit, 4, 0, step),
            1,
            num_epochs,
            "test",
            validation_data=(np.ones((1, 1, 1, 1)), np.full((1, 1), start)),
        )

    for cut in (1, 2, 3):
        run(cut)
    assert len(run(50)) == 4  # the best is epoch 1, then three epochs of waiting
    assert len(run(50)) == 4


def test_predictions_as_a_table(tmp_path):
    files, labels = np.array(["a", "b"]), np.array([0, 1])
    even = np.array([0.5, 0.5])
    table = classifier.tabulate_predictions(files, labels, np.array([[0.2], [0.7]], np.float32), TWO, even)
    assert table.columns.tolist() == ["file", "label", "prediction", "likeliest", "probability"]
    assert table["label"].tolist() == table["prediction"].tolist() == ["NORMAL", "COVID19"]
    swapped = dataclasses.replace(TWO, minority="NORMAL")
    assert classifier.tabulate_predictions(files, labels, np.array([[0.9], [0.1]]), swapped, even)["prediction"].tolist() == [
        "NORMAL",
        "COVID19",
    ]
    three = classifier.tabulate_predictions(
        np.array(["a"]), np.array([1]), np.array([[0.2, 0.5, 0.3]], np.float32), THREE, np.full(3, 1 / 3)
    )
    assert three["prediction"][0] == "B"
    assert three["probability"][0] == three["probability_C"][0] == pytest.approx(0.3)
    three.to_csv(tmp_path / "t.csv", index=False)
    read = classifier.read_predictions(tmp_path / "t.csv").astype(three.dtypes)
    pd.testing.assert_frame_equal(read, three, check_exact=True)


def test_a_class_is_called_by_its_probability_over_its_share():
    """Bayes' rule by hand: what a balanced classifier would call, from one trained on 3 sick images in 100."""
    shares, minority = np.array([0.97, 0.03]), dataclasses.replace(TWO, minority="COVID19")
    outputs = np.array([[0.02], [0.04], [0.6]])
    table = classifier.tabulate_predictions(np.array(["a", "b", "c"]), np.array([0, 1, 1]), outputs, minority, shares)
    odds = outputs[:, 0] / 0.03 / ((1 - outputs[:, 0]) / 0.97)
    assert table["prediction"].tolist() == np.where(odds > 1, "COVID19", "NORMAL").tolist() == ["NORMAL", "COVID19", "COVID19"]
    assert table["likeliest"].tolist() == ["NORMAL", "NORMAL", "COVID19"]
    assert table["probability"].tolist() == outputs[:, 0].tolist(), "AUROC needs no rule"
    three = classifier.tabulate_predictions(
        np.array(["a"]), np.array([1]), np.array([[0.5, 0.3, 0.2]]), THREE, np.array([0.7, 0.2, 0.1])
    )
    assert (three["prediction"][0], three["likeliest"][0]) == (THREE.classes[2], THREE.classes[0])


def test_an_epoch_is_scored_as_scikit_learn_does_with_classes_that_weigh_the_same(rng):
    labels, shares = rng.choice(3, 60, p=[0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    divided = rng.dirichlet(np.ones(3), 60)
    learned = divided * shares / (divided * shares).sum(axis=1, keepdims=True)  # as from a training with these shares
    weights = 1 / np.bincount(labels)[labels]
    score = classifier.score_validation(learned, labels, shares)
    assert score["val_loss"] == pytest.approx(sk.log_loss(labels, divided, sample_weight=weights))
    assert score["val_balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, divided.argmax(axis=1)))


def test_what_suits_the_shares_of_validation_images_is_not_preferred():
    """6 of 100 validation images are ill. A network that was trained on as many ill as healthy should say one half where it knows nothing."""
    labels, even = np.repeat([0, 1], [94, 6]), np.array([0.5, 0.5])
    ignorant, suited = (np.tile([1 - ill, ill], (100, 1)) for ill in (0.5, 0.06))
    assert classifier.score_validation(ignorant, labels, even)["val_loss"] == pytest.approx(np.log(2))
    assert classifier.score_validation(suited, labels, even)["val_loss"] > 1.4
    assert classifier.score_validation(suited, labels, np.array([0.94, 0.06]))["val_loss"] == pytest.approx(np.log(2))


def test_a_network_that_gives_no_numbers_has_no_validation_loss():
    score = classifier.score_validation(np.full((2, 2), np.nan), np.array([0, 1]), np.array([0.5, 0.5]))
    assert np.isnan(score["val_loss"])


def test_batches_on_the_fly_depend_on_seed_and_step_alone(rng):
    images = rng.integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
    change = lambda batch, rng: batch + rng.integers(0, 5, (len(batch), 1, 1, 1)).astype(np.uint8)  # noqa: E731
    whole = training.RepeatingShuffle(images, None, utils.to_unit, 3, seed=1, transform=change)
    resumed = training.RepeatingShuffle(images, None, utils.to_unit, 3, seed=1, first_step=3, transform=change)
    np.testing.assert_array_equal(whole[4], resumed[1])
    rows = whole.rows_of_step(0)
    laps = [
        whole[step][np.flatnonzero(whole.rows_of_step(step) == rows[0])]
        for step in range(6)
        if rows[0] in whole.rows_of_step(step)
    ]
    assert len(laps) == 2 and not np.array_equal(*laps), "the same image is shown changed anew"


def test_a_class_called_none_is_read_as_text(tmp_path):
    table = classifier.tabulate_predictions(
        np.array(["1"]), np.array([0]), np.array([[0.2]]), Setting(("None", "ill"), "ill"), np.full(2, 0.5)
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    assert classifier.read_predictions(tmp_path / "t.csv").loc[0, ["file", "label", "prediction"]].tolist() == [
        "1",
        "None",
        "None",
    ]


def test_initial_weights_follow_the_seed_whatever_other_threads_draw():
    """Keras would draw them from Python's global randomness, which a Dask worker's other threads use too."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        models = [Classifier().build(2, seed) for seed in (1, 1, 1, 2)]
    finally:
        stop.set()
        thread.join()
    kernels = [model.layers[1].kernel.numpy() for model in models]
    assert (kernels[0] == kernels[1]).all() and (kernels[0] == kernels[2]).all()
    assert (kernels[0] != kernels[3]).any()
    assert len({float(layer.kernel.numpy().std()) for layer in models[0].layers if hasattr(layer, "kernel")}) == 7


def test_what_is_fed_to_fit_is_the_chain_in_order(rng):
    images, labels = rng.integers(0, 256, (10, 128, 128, 1), dtype=np.uint8), np.arange(10, dtype=np.float32)
    chain = training.RepeatingShuffle(images, labels, utils.to_unit, 4, seed=3, first_step=2)
    with backend.feed(chain) as data:
        for step, (batch, targets) in zip(range(6), data, strict=False):
            np.testing.assert_array_equal(batch, chain[step][0])
            np.testing.assert_array_equal(targets, chain[step][1])


def test_it_trains_in_float16_with_a_scaled_loss(float16, phantom_images, tmp_path):
    small = types.SimpleNamespace(
        images=phantom_images.images[:, ::8, ::8], labels=phantom_images.labels, files=phantom_images.files
    )
    model, history = train(small, tmp_path, image_size=16)
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert model.layers[1].compute_dtype == "float16"
    assert np.isfinite(history.to_numpy()).all() and history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_a_training_in_a_notebooks_own_process_leaves_the_notebook_as_it_was(float16, phantom_images):
    """On a GPU units run there."""
    mine = Classifier(image_size=32).build(2)
    before = classifier.predict(mine, phantom_images.images[:4, :32, :32])
    with backend.configured("float32", True, 1):
        Classifier(image_size=32).build(2)
        assert keras.mixed_precision.global_policy().name == "float32"
    assert keras.mixed_precision.global_policy().name == "mixed_float16", "the next model would be in float32"
    np.testing.assert_array_equal(classifier.predict(mine, phantom_images.images[:4, :32, :32]), before)
    with pytest.raises(KeyError), backend.configured("float32", True, 1):
        raise KeyError
    assert keras.mixed_precision.global_policy().name == "mixed_float16"


def test_a_backend_that_the_gan_is_not_written_for_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="KERAS_BACKEND is 'torch', .* set it to tensorflow or jax"):
        backend.configure()


@pytest.mark.parametrize(
    ("capability", "fast", "possible"),
    [
        ((6, 0), "float32", {"float32"}),  # P100
        ((7, 5), "float32", {"float32", "mixed_float16"}),  # T4
        ((8, 0), "mixed_bfloat16", {"float32", "mixed_float16", "mixed_bfloat16"}),  # A100
        ((12, 0), "mixed_bfloat16", {"float32", "mixed_float16", "mixed_bfloat16"}),
    ],
)
def test_no_precision_is_chosen_or_advised_that_the_gpu_cannot_train_in(capability, fast, possible, monkeypatch):
    details = {"device_name": "this GPU", "compute_capability": capability}
    monkeypatch.setattr(backend, "_gpu_details", lambda: details)
    assert backend.fast_precision() == fast
    for precision in backend.PRECISIONS:
        advice = backend.advise_precision(precision)
        assert backend.can_train_in(precision) == (precision in possible)
        assert (f"set PRECISION = '{precision}' here" in advice) == (precision in possible)
        if precision not in possible:
            assert f"this GPU can't train in {precision}" in advice
            with pytest.raises(ValueError, match="this GPU can't train in it: choose 'float32' or 'auto'"):
                backend.configure(precision)


def sleep(seconds):
    """Sleep; returns how long it was, which on a busy machine is longer."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


class SlowBatches(keras.utils.PyDataset):
    """Batches that take a while to make; the one at `broken` can't be made."""

    num_batches = None

    def __init__(self, seconds, broken=None):
        super().__init__()
        self.seconds, self.broken, self.makers, self.slept = seconds, broken, [], 0

    def __getitem__(self, index):
        if index == self.broken:
            raise LookupError(f"no batch {index}")
        self.slept += sleep(self.seconds)
        self.makers.append(threading.current_thread())
        return np.full((1, 1), index, np.float32), np.zeros((1, 1), np.float32)


def fit_slowly(batches, num_updates, seconds):
    """Fit a tiny model whose updates take a while; returns how long the fit took, and how long its updates alone."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    slept = []
    wait = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: slept.append(sleep(seconds)))
    with backend.feed(batches) as data:
        model.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)  # traced, which takes its time
        start, batches.slept = time.perf_counter(), 0
        model.fit(data, steps_per_epoch=num_updates, verbose=0, shuffle=False, callbacks=[wait])
        return time.perf_counter() - start, sum(slept)


def test_a_batch_is_made_while_the_one_before_is_computed_with_and_the_thread_ends():
    batches = SlowBatches(0.1)
    taken, updates = fit_slowly(batches, num_updates=20, seconds=0.1)
    assert taken < 0.8 * (updates + batches.slept), "as long as one after the other"
    maker = batches.makers[-1]
    assert maker is not threading.main_thread() and not maker.is_alive()


def test_what_goes_wrong_while_a_batch_is_made_is_raised_as_it_is():
    with pytest.raises(LookupError, match="no batch 3"):
        fit_slowly(SlowBatches(0, broken=3), num_updates=6, seconds=0)


ON_JAX = textwrap.dedent("""
    import sys
    from pathlib import Path
    import keras, numpy as np
    from xraygan.comparison import arms, classifier
    from xraygan.data.dataset import Part, Setting
    images, labels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 1), dtype=np.uint8), np.arange(24) % 2
    setting, validation = Setting(("A", "B"), "B"), Part(images[:6], labels[:6], None)
    model, history = classifier.train_classifier(
        classifier.Classifier(image_size=32, batch_size=8, epochs=3),
        setting, arms.TrainingImages(images, labels, np.ones(2), 24, 12), validation, 0, Path(sys.argv[1]), "on JAX",
    )
    probabilities = classifier.to_probabilities(classifier.predict(model, validation.images), setting)
    score = classifier.score_validation(probabilities, validation.labels, np.full(2, 0.5))
    print("RESULT", keras.backend.backend(), len(history), score["val_loss"] - history["val_loss"].min())
""")


@pytest.mark.slow
def test_it_trains_on_jax_and_keeps_its_best_epoch(tmp_path):
    pytest.importorskip("jax", reason="JAX, an option, isn't installed")
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", ON_JAX, str(tmp_path / "state")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    (result,) = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")] or [done.stderr[-2000:]]
    assert result[1:3] == ["jax", "3"] and abs(float(result[3])) < 1e-3
