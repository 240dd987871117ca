"""Networks of Keras as a classifier's body, with the weights that they learned on ImageNet or with random ones.

Everything else gives them what it gives every classifier: one grey channel, 0 to 1. Inside, it becomes three equal channels in the
range that the application was made for. Another application is one `Application`.
"""

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers

from xraygan import disk

TIMEOUT = 60  # seconds without an answer
IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue, on the scale 0 to 1
ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/"  # where Keras itself loads them from


@dataclass(frozen=True)
class Application:
    """A network of `keras.applications`.

    Attributes:
        name: what it is called in `classifier.NETWORKS`.
        build: its function.
        scale, offset: what turns 0 to 1 into the values that it expects, a number or one a channel.
        file: of its ImageNet weights without the last layer, below `ADDRESS`.
        md5: of that file.
        megabytes: of that file.
    """

    name: str
    build: Callable
    scale: float | tuple
    offset: float | tuple
    file: str
    md5: str
    megabytes: int


MOBILENET = Application(  # Howard et al. 2019, arXiv:1905.02244: one million weights; it scales 0 to 255 by itself
    "mobilenet",
    keras.applications.MobileNetV3Small,
    scale=255,
    offset=0,
    file="mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    md5="d3e8ec802a04aa4fc771ee12a9a9b836",
    megabytes=4,
)
DENSENET = Application(  # Huang et al. 2017, arXiv:1608.06993: seven million; the network of CheXNet, arXiv:1711.05225
    "densenet",
    keras.applications.DenseNet121,
    scale=tuple(1 / spread for spread in IMAGENET_SPREAD),
    offset=tuple(-mean / spread for mean, spread in zip(IMAGENET_MEAN, IMAGENET_SPREAD, strict=True)),
    file="densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5="30ee3e1110167f948a6b9946edeeb738",
    megabytes=29,
)


def build_pretrained(application, image_size):
    """The body with ImageNet's weights: images `(B, S, S, 1)` in 0 to 1 → features `(B, D)`.

    Its batch normalisation stays as it is, weights and statistics: a few hundred updates don't suffice to learn others.

    Raises:
        ValueError: the weights aren't here and can't be downloaded, or aren't this network's; the message says what to do.
    """
    path = find_weights(application)
    try:
        body = _build(application, image_size, str(path))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path.name} in {_write_folder()} doesn't hold the weights of {application.name}: delete it, and it is downloaded again."
        ) from error
    for layer in body.layers:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)
    return body


def build_untrained(application, image_size, next_seed):
    """The same body with random weights, each layer's from a seed of its own."""

    def give_seeds(layer):
        config = layer.get_config()
        for name, value in config.items():
            if name.endswith("_initializer") and "seed" in value["config"]:
                value["config"]["seed"] = next_seed()
        return type(layer).from_config(config)

    return keras.models.clone_model(_build(application, image_size, None), clone_function=give_seeds)


def _build(application, image_size, weights):
    image = keras.Input((image_size, image_size, 1))
    scaled = layers.Rescaling(application.scale, application.offset)(layers.Concatenate()([image] * 3))
    return application.build(include_top=False, weights=weights, input_tensor=scaled, pooling="avg")


# The weights


def find_weights(application):
    """The file of an application's ImageNet weights, in Keras' own folder; downloaded if it isn't there.

    Raises:
        ValueError: it isn't there and can't be downloaded.
    """
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    path = folder / Path(application.file).name
    if not path.is_file():
        print(f"Downloading the ImageNet weights of {application.name}, {application.megabytes} MB.")
        data = _download(application)
        with disk.replacing(path) as draft:
            draft.write_bytes(data)
    return path


def _download(application):
    try:
        with urllib.request.urlopen(ADDRESS + application.file, timeout=TIMEOUT) as answer:
            data = answer.read()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != application.md5:
            raise OSError("what came is another file")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"CLASSIFIER is {application.name!r}, whose ImageNet weights aren't on this machine and can't be downloaded ({reason}): connect it to "
            f"the network; or put {ADDRESS}{application.file} into {_write_folder()}; or choose {application.name}_untrained, which needs none."
        ) from error
    return data


def _write_folder():
    """Keras' folder as a reader finds it on any machine."""
    return "$KERAS_HOME/models" if os.environ.get("KERAS_HOME") else "~/.keras/models"
