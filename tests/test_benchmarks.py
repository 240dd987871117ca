"""The benchmarks count and compare rightly; what they measure is the machine's business."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from benchmarks import audit, determinism, machine, recipes, steps
from xraygan import dcgan, split


def test_operations_are_counted_as_by_hand():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same")(image)  # 4·4 places × 3·3·3 inputs × 5 filters
    x = layers.Conv2DTranspose(2, 4, strides=2, padding="same")(x)  # each of 4·4 inputs × 5 channels reaches 4·4·2 outputs
    x = layers.Dense(7)(layers.Flatten()(x))  # 8·8·2 × 7
    assert steps.flops(keras.Model(image, x)) == 2 * (16 * 27 * 5 + 16 * 5 * 32 + 128 * 7)


def test_the_ratio_is_taken_within_a_round():
    """A machine that slows down in one round slows both: the ratio stays 2."""
    rounds = [
        {"organisation": name, "precision": "float32", "batch_size": 16, "round": turn, "images_a_second": speed * slow}
        for turn, slow in enumerate((1, 0.5, 3))
        for name, speed in (("ours", 40), ("keras.io", 20))
    ]
    table = steps.summary(pd.DataFrame(rounds)).set_index("organisation")
    assert table["times_keras_io_float32"].to_dict() == {"ours": 2, "keras.io": 1}
    assert table["images_a_second"].to_dict() == {"ours": 40, "keras.io": 20}


def test_what_determinism_costs_is_taken_within_a_round():
    seconds = [("GAN epoch", turn, 1.1 * slow, slow) for turn, slow in enumerate((1, 5, 2))]
    table = determinism.summary(pd.DataFrame(seconds, columns=["part", "round", "deterministic", "not_deterministic"]))
    assert table.to_dict("records") == [
        {"part": "GAN epoch", "deterministic": 2.2, "not_deterministic": 2, "ratio": 1.1},
    ]


def test_the_peak_is_a_plausible_number():
    assert 1e9 < machine.matrix_peak("float32") < 1e14


@pytest.mark.parametrize("name", ["keras.io", "TensorFlow tutorial"])
def test_the_references_train(name):
    images = np.random.default_rng(0).uniform(-1, 1, (8, 128, 128, 1)).astype(np.float32)
    gan = steps.build(steps.ORGANISATIONS[name][0], keras.mixed_precision.global_policy().name)
    before = [[np.array(v) for v in network.trainable_variables] for network in (gan.generator, gan.discriminator)]
    logs = gan.fit(images, batch_size=4, epochs=1, verbose=0).history
    assert set(logs) == {"d_loss", "g_loss"}
    for network, old in zip((gan.generator, gan.discriminator), before, strict=True):
        assert all(np.abs(np.array(v) - o).max() > 0 for v, o in zip(network.trainable_variables, old, strict=True))


def test_what_won_the_search_is_the_product():
    won, product = recipes.VARIANTS[recipes.WINNER], dcgan.RECIPES["dcgan"]
    assert replace(recipes.BASE, **won.recipe) == product
    networks = [
        (won.generator(product.latent_dim), dcgan.build_generator("dcgan", product.latent_dim)),
        (won.discriminator(), dcgan.build_discriminator("dcgan")),
    ]
    for tried, kept in networks:
        layers = [
            [layer for layer in network.layers if not isinstance(layer, keras.layers.Reshape)] for network in (tried, kept)
        ]
        assert [type(layer) for layer in layers[0]] == [type(layer) for layer in layers[1]]
        for one, other in zip(*layers, strict=True):
            assert one.output.shape == other.output.shape
            assert [v.shape for v in one.variables] == [v.shape for v in other.variables]


def test_the_audits_pairs_are_counted_as_by_hand(phantom_images):
    here = phantom_images.of(("COVID19",), "COVID19")
    keys = np.arange(len(here.files))
    keys[[0, 1, 2]] = 0  # three of one patient: three pairs
    keys[[5, -1]] = 5  # a pair over train and test
    true = audit.pairs(here, keys)
    assert len(true) == 4 and len(audit.across(true, here)) == 1
    found = audit.pairs(here, np.where(keys == 5, 5, np.arange(len(keys)))) | {("a", "b")}
    assert audit.score(found, true) == {"pairs_found": 2, "pairs_true": 4, "in_both": 1, "precision": 0.5, "recall": 0.25}
    assert audit.lowest_correlation(set(), here) is None
    first, second = sorted(true)[0]
    by_hand = np.corrcoef(*(here.images[here.rows([file])[0]].ravel().astype(float) for file in (first, second)))[0, 1]
    assert audit.lowest_correlation({(first, second)}, here) == pytest.approx(by_hand, abs=6e-4)
    of_patient = pd.DataFrame({"file": here.files, "part": here.parts, "group": keys})
    assert len(split.unseen_test_files(of_patient)) == (here.parts == "test").sum() - 1
