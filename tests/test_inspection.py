"""The look inside: heat maps point where the network looks, shares are counted right, the map of features is centred."""

import keras
import numpy as np
import pytest
from keras import layers

from xraygan.comparison import inspection, units
from xraygan.comparison.classifier import Classifier, add_decision, predict
from xraygan.data.dataset import Setting
from xraygan.report import figures

SETTING = Setting(("NORMAL", "COVID19"), "COVID19")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, 128, 128, 1), dtype=np.uint8)


def test_heat_lies_where_the_network_looks_and_nowhere_else(images):
    """The first dense layer is made blind to all but one of 16×16 places."""
    model = Classifier().build(2)
    dense = model.layers[9]
    kernel = dense.kernel.numpy().reshape(16, 16, 128, 128)
    seeing = np.zeros_like(kernel)
    seeing[3, 11] = np.abs(kernel[3, 11])
    dense.kernel.assign(seeing.reshape(dense.kernel.shape))
    for layer in model.layers[10:]:
        layer.kernel.assign(np.abs(layer.kernel.numpy()))
    heat = inspection.grad_cam(model, images)
    assert heat.shape == (6, 16, 16)
    assert (heat[:, 3, 11] == 1).all()
    heat[:, 3, 11] = 0
    assert not heat.any()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_heat_is_a_share_of_its_largest(images, num_classes):
    heat = inspection.grad_cam(Classifier().build(num_classes), images, label=num_classes - 1)
    assert heat.min() >= 0
    assert set(heat.max(axis=(1, 2)).round(6)) <= {0.0, 1.0}


def test_the_maps_of_a_network_inside_the_network_are_found(images):
    """The same layers, once inside a model of their own and once not: the same heat, also when it's asked for again."""

    def convolve(x):
        for filters in (4, 8):
            x = layers.Conv2D(
                filters, 3, strides=4, activation="relu", kernel_initializer=keras.initializers.HeNormal(filters)
            )(x)
        return layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])

    image, inner = (keras.Input((128, 128, 1)) for _ in range(2))
    block = keras.Sequential([keras.Input((16,)), layers.Dense(5, kernel_initializer=keras.initializers.HeNormal(1))])
    flat = keras.Model(image, add_decision(block(convolve(image)), 2, iter([3]).__next__))
    nested = keras.Model(image, add_decision(block(keras.Model(inner, convolve(inner))(image)), 2, iter([3]).__next__))
    expected = inspection.grad_cam(flat, images)
    assert expected.shape[1:] == (8, 8) and expected.any()
    for _ in range(2):
        np.testing.assert_allclose(inspection.grad_cam(nested, images), expected, atol=1e-6)


def test_shares_found_are_those_of_the_predictions(images):
    model = Classifier().build(2)
    trained = units.Trained(model, [0.3, 0.7], None, None, None)
    table = inspection.count_found({"before": trained}, {"some": images, "one": images[:1]}, SETTING)
    positive = predict(model, images)[:, 0] > 0.7  # the class shares that it was trained on
    assert table.loc["before", "some"] == positive.mean()
    assert table.loc["before", "one"] == positive[0]


def test_the_map_is_fitted_to_the_reference(images):
    points, share = inspection.map_features(Classifier().build(2), {"all": images, "two": images[:2]}, images)
    assert points["all"].shape == (6, 2)
    np.testing.assert_allclose(points["all"].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(points["two"], points["all"][:2], atol=1e-5)
    assert 0 < share <= 1


def test_a_far_image_is_counted_instead_of_drawn():
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(60, 2)), np.array([[0.0, 500.0]])
    axis = figures.draw_feature_plane({"near": near, "far": far}, 0.5, "map").axes[0]
    assert "1 of 61 lie too far out" in axis.get_title()
    assert [len(line.get_xdata()) for line in axis.lines] == [60, 0]
    alone = figures.draw_feature_plane({"near": near}, 0.5, "map").axes[0]
    assert "too far out" not in alone.get_title()
    assert len(alone.lines[0].get_xdata()) == 60
