"""A look inside: how models treat fakes, where they look, and where real images, fakes and classical copies lie."""

import numpy as np
import pandas as pd
from keras import layers, ops
from sklearn.decomposition import PCA

import utils
from xraygan import backend, classifier, fidelity


def share_found(models, images_by_kind, source):
    """How many images of the minority class each model finds, by kind: sensitivity on real ones beside that on fakes.

    Args:
        models: {name: classifier}.
        images_by_kind: {kind: `uint8 (N, 128, 128, 1)`}, all of the minority class.
        source: `sources.Source`.

    Returns:
        DataFrame: a row a model, a column a kind, 0 to 1.
    """
    label = source.classes.index(source.minority)
    rows = {}
    for name, model in models.items():
        rows[name] = {}
        for kind, images in images_by_kind.items():
            outputs = classifier.predict(model, images)
            table = classifier.predictions_table([""] * len(images), np.full(len(images), label), outputs, source)
            rows[name][kind] = (table["prediction"] == source.minority).mean()
    return pd.DataFrame(rows).T


def grad_cam(model, images, label=1):
    """Where a classifier finds its reasons: the last convolution's maps times their gradients, summed.

    This is Grad-CAM (Selvaraju et al. 2017) whose gradients aren't averaged over places first (HiResCAM, Draelos and Carin 2020):
    the dense layers of this network tell places apart, so an average would point to places that it doesn't use.

    Args:
        model: a classifier as `classifier.build_classifier` makes it.
        images: `uint8 (N, 128, 128, 1)`.
        label: the class to explain; with two classes the positive one, whatever is given.

    Returns:
        `float (N, H, W)`, 0 to 1, of the last convolution's size; all 0 where nothing speaks for the class.
    """
    last = max(index for index, layer in enumerate(model.layers) if isinstance(layer, layers.Conv2D))
    x = utils.to_unit(images)
    for layer in model.layers[1 : last + 1]:
        x = layer(x)

    def logit(maps):
        for layer in model.layers[last + 1 : -1]:
            maps = layer(maps)
        dense = model.layers[-1]  # before its sigmoid or softmax, whose gradient vanishes where the network is sure
        scores = ops.matmul(ops.cast(maps, "float32"), dense.kernel) + dense.bias
        return scores[:, min(label, scores.shape[1] - 1)], None

    score, _, pull = backend.pullback(logit, x)
    (gradient,) = pull(ops.ones_like(score))
    heat = ops.convert_to_numpy(ops.relu(ops.sum(ops.cast(gradient, "float32") * ops.cast(x, "float32"), axis=-1)))
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def feature_map(model, images_by_kind, reference):
    """The two directions in which a model's features of some reference images vary most, for images of several kinds.

    Args:
        model: a classifier; its last hidden layer gives the features.
        images_by_kind: {kind: `uint8 (N, 128, 128, 1)`}.
        reference: `uint8 (M, 128, 128, 1)`, the images that the directions are fitted to.

    Returns:
        {kind: `float (N, 2)`}, and the share of the reference's variance that both directions hold.
    """
    space = fidelity.FeatureSpace(fidelity.classifier_network(model), reference)
    plane = PCA(2).fit(space(reference))
    return {
        kind: plane.transform(space(images)) for kind, images in images_by_kind.items()
    }, plane.explained_variance_ratio_.sum()
