"""A look inside: how models treat fakes, where they look, and where real images and fakes lie."""

import functools

import keras
import numpy as np
import pandas as pd
from keras import ops
from sklearn.decomposition import PCA

import utils
from xraygan import backend
from xraygan.comparison import classifier
from xraygan.gan import fidelity


def count_found(trained, images_by_kind, setting):
    """How many images of the minority class each model finds, by kind: sensitivity on real ones beside that on fakes.

    Args:
        trained: {name: `units.Trained`}.
        images_by_kind: {kind: `uint8 (N, S, S, 1)`}, all of the minority class.
        setting: `dataset.Setting`.

    Returns:
        DataFrame: a row a model, a column a kind, 0 to 1.
    """
    found = {}
    for name, (model, shares, *_) in trained.items():
        found[name] = {}
        for kind, images in images_by_kind.items():
            outputs, labels = classifier.predict(model, images), np.full(len(images), setting.minority_label)
            predictions = classifier.tabulate_predictions([""] * len(images), labels, outputs, setting, shares)
            found[name][kind] = (predictions["prediction"] == setting.minority).mean()
    return pd.DataFrame(found).T


def grad_cam(model, images, label=1):
    """Where a classifier finds its reasons: its last feature maps times their gradients, summed.

    This is Grad-CAM (Selvaraju et al. 2017) whose gradients aren't averaged over places first (HiResCAM, Draelos and Carin 2020):
    the dense layers of the study's network tell places apart, so an average would point to places that it doesn't use.

    Args:
        model: a classifier of `classifier.NETWORKS`; its last layer whose output has two dimensions of place gives the maps, also
            where that layer is in a model inside the model.
        images: `uint8 (N, S, S, 1)`.
        label: the class to explain; with two classes the positive one, whatever is given.

    Returns:
        `float (N, H, W)`, 0 to 1, of the maps' size; all 0 where nothing speaks for the class.
    """
    to_maps, to_features = _split_at_last_maps(model)

    def score(maps):
        features = ops.cast(to_features(maps, training=False), "float32")
        dense = model.layers[-1]  # before its sigmoid or softmax, whose gradient vanishes where the network is sure
        scores = ops.matmul(features, dense.kernel) + dense.bias
        return (scores[:, min(label, scores.shape[1] - 1)],), None

    maps = to_maps(utils.to_unit(images), training=False)
    _, _, pull = backend.pullback(score, maps)
    heat = ops.relu(ops.sum(ops.cast(pull(0, 0), "float32") * ops.cast(maps, "float32"), axis=-1))
    heat = ops.convert_to_numpy(heat)
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def find_probability(model, images, label=1):
    """The probability `float32 (N,)` that a classifier gives one class; `images` and `label` as in `grad_cam`."""
    outputs = classifier.predict(model, images)
    return outputs[:, min(label, outputs.shape[1] - 1)]


def _split_at_last_maps(model):
    """Two networks of a classifier's own layers: images → its last maps, and last maps → what its last layer takes."""
    called = []  # (inputs, output) of the innermost layers, in their order

    def call(layer, *inputs, **arguments):
        if isinstance(layer, keras.Sequential):
            return functools.reduce(lambda x, inner: call(inner, x), layer.layers, *inputs)
        if hasattr(layer, "operations"):  # a functional model
            unfold(layer, *inputs)
            return called[-1][1]
        output = layer(*inputs, **arguments)
        called.append((inputs, output))
        return output

    def unfold(network, image):
        copy = {"clone_function": lambda layer: layer, "call_function": call}  # the layers themselves, called once more
        keras.models.clone_model(network, input_tensors=image, **copy)

    image = keras.Input(model.input_shape[1:])
    unfold(model, image)
    last_maps = [output for _, output in called if len(getattr(output, "shape", ())) == 4][-1]
    (features, *_), _ = called[-1]
    return keras.Model(image, last_maps), keras.Model(last_maps, features)


def map_features(model, images_by_kind, reference):
    """The two directions in which a model's features of some reference images vary most, for images of several kinds.

    Args:
        model: a classifier; what its last layer takes are the features.
        images_by_kind: {kind: `uint8 (N, S, S, 1)`}.
        reference: `uint8 (M, S, S, 1)`, the images that the directions are fitted to.

    Returns:
        {kind: `float (N, 2)`}, and the share of the reference's variance that both directions hold.
    """
    space = fidelity.FeatureSpace(fidelity.classifier_network(model), reference)
    plane = PCA(2).fit(space(reference))
    return {
        kind: plane.transform(space(images)) for kind, images in images_by_kind.items()
    }, plane.explained_variance_ratio_.sum()
