"""The classifier: registry `NETWORKS`, its training with the best weights kept, its predictions as a table.

Another classifier is one function (image size S, number of classes, next_seed) → model and one entry. The model takes images
`(B, S, S, 1)` in 0 to 1; its last layer is a `Dense` made by `add_decision`, which Grad-CAM and the judge of the fakes look behind.
"""

import functools
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from keras import layers

import utils
from xraygan import backend, keys, training
from xraygan.comparison import applications


def study_cnn(image_size, num_classes, next_seed):
    """The CNN of the study that this project rebuilds, with one grey channel.

    With two classes and 128 pixels it has 4,443,009 parameters: the study's 4,443,585 less the two colour channels of the first layer.
    """

    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    image = x = keras.Input((image_size, image_size, 1))
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=weights())(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu", kernel_initializer=weights())(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu", kernel_initializer=weights())(x)
    x = layers.Dense(64, activation="relu", kernel_initializer=weights())(x)
    return keras.Model(image, add_decision(x, num_classes, next_seed), name="classifier")


def add_decision(features, num_classes, next_seed):
    """The last layer: features `(B, D)` → probabilities, of the positive class `(B, 1)` for two classes, else of each `(B, num_classes)`."""
    units, activation = (1, "sigmoid") if num_classes == 2 else (num_classes, "softmax")
    weights = keras.initializers.GlorotUniform(next_seed())
    return layers.Dense(units, activation=activation, kernel_initializer=weights, dtype="float32")(features)


def fine_tuned(application, image_size, num_classes, next_seed):
    """An application of Keras that has learned on ImageNet, and a new last layer."""
    body = applications.build_pretrained(application, image_size)
    return keras.Model(body.inputs[0], add_decision(body.output, num_classes, next_seed), name="classifier")


def from_scratch(application, image_size, num_classes, next_seed):
    """The same network with random weights."""
    body = applications.build_untrained(application, image_size, next_seed)
    return keras.Model(body.inputs[0], add_decision(body.output, num_classes, next_seed), name="classifier")


NETWORKS = {
    "study_cnn": study_cnn,
    "mobilenet_untrained": functools.partial(from_scratch, applications.MOBILENET),
    "densenet_untrained": functools.partial(from_scratch, applications.DENSENET),
    "mobilenet": functools.partial(fine_tuned, applications.MOBILENET),
    "densenet": functools.partial(fine_tuned, applications.DENSENET),
}
LEARNING_RATES = {
    "mobilenet": 1e-4,
    "densenet": 1e-4,
}  # of networks for which `Classifier`'s own would undo what they have learned


@dataclass(frozen=True)
class Classifier:
    """Everything that decides what a classifier becomes, but for its images and its seed.

    Attributes:
        network: a name in `NETWORKS`.
        image_size: pixels a side.
        batch_size: images an update.
        learning_rate: of Adam.
        epochs: at most this many; an epoch is ⌈real training images / batch_size⌉ updates.
        updates: and at most this many; 0 for no such limit.
        patience: epochs without a better validation loss before training stops.
    """

    network: str = "study_cnn"
    image_size: int = utils.IMAGE_SIZE
    batch_size: int = 128
    learning_rate: float = 1e-3
    epochs: int = 500
    updates: int = 0
    patience: int = 50

    def build(self, num_classes, seed=0):
        """A new network: images `(B, S, S, 1)` in 0 to 1 → probabilities, as `add_decision` gives them.

        Raises:
            ValueError: there's no network of that name.
        """
        build = keys.choose(NETWORKS, self.network, "CLASSIFIER")
        return build(self.image_size, num_classes, utils.seeds(seed))

    def count_updates(self, num_real):
        """Updates an epoch, with or without extra images: no arm trains longer than another."""
        return -(-num_real // self.batch_size)

    def count_epochs(self, num_real):
        """The number of epochs that both limits allow, at least one."""
        if not self.updates:
            return self.epochs
        return max(1, min(self.epochs, self.updates // self.count_updates(num_real)))

    def describe(self, num_classes):
        """The contents of the description as a key takes them: its fields, its network as built, its training as code."""
        network = keys.describe_network(NETWORKS[self.network], self.image_size, num_classes)
        code = [compile_network, make_targets, make_batches, _weigh_targets, predict, training.SavedState.is_stalled]
        code += [
            to_probabilities,
            divide_by_shares,
            score_validation,
            Validation,
            Classifier.count_updates,
            Classifier.count_epochs,
        ]
        return keys.describe(self) | {"network": network, "code": keys.describe(code)}


def make_targets(labels, setting):
    """What the network is trained to give: 1 for the minority and 0 for the other of two classes, else the class index."""
    if len(setting.classes) == 2:
        return (labels == setting.minority_label).astype(np.float32)
    return labels.astype(np.int32)


def compile_network(model, learning_rate, num_classes):
    """Give a network its loss and its optimizer, built."""
    loss = "binary_crossentropy" if num_classes == 2 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"], jit_compile=backend.use_jit())
    model.optimizer.build(model.trainable_variables)


def make_batches(classifier, images, targets, seed, first_step=0):
    """What a classifier sees of `arms.TrainingImages` from an update on: endless batches of images in 0 to 1 and what is to be given for them."""
    return training.RepeatingShuffle(
        images.images, targets, utils.to_unit, classifier.batch_size, seed, first_step, images.transform
    )


@backend.deterministic_if_possible
def train_classifier(classifier, setting, images, validation, seed, state_folder, description):
    """Train a classifier, resuming where it stopped; the weights of the best validation loss (`score_validation`) are kept.

    Args:
        classifier: `Classifier`.
        setting: `dataset.Setting`.
        images: `arms.TrainingImages`.
        validation: `dataset.Part` of real images only.
        seed: of initial weights and order.
        state_folder: where the training keeps its history and what it needs to resume.
        description: of the progress bar.

    Returns:
        the model with its best weights, and the history as a DataFrame.
    """
    model = classifier.build(len(setting.classes), seed)
    compile_network(model, classifier.learning_rate, len(setting.classes))
    updates, targets = classifier.count_updates(images.num_real), make_targets(images.labels, setting)
    resumable = training.ResumableTraining(
        model,
        state_folder,
        state_folder / "history.csv",
        parameters={"seed": seed, "classes": setting.classes, "updates_per_epoch": updates}
        | {"precision": keras.mixed_precision.global_policy().name, "weights": images.weights.tolist()}
        | {"images": training.fingerprint(images.images, targets), "validation": training.fingerprint(*validation[:2])}
        | {"network": classifier.describe(len(setting.classes))["network"], "transform": keys.describe(images.transform)},
        monitor="val_loss",
        patience=classifier.patience,
    )
    history = resumable.fit(
        lambda step: make_batches(classifier, images, targets, seed, step),
        updates,
        classifier.count_epochs(images.num_real),
        description,
        callbacks=[Validation(validation, setting, images.shares)],
        class_weight=_weigh_targets(images.weights, setting),
    )
    resumable.state.load_best()
    return model, history


def _weigh_targets(weights, setting):
    """Weights by class index → {what `make_targets` gives: weight}, as Keras takes them."""
    if np.all(weights == 1):
        return None
    targets = make_targets(np.arange(len(weights)), setting)
    return {int(target): float(weight) for target, weight in zip(targets, weights, strict=True)}


def predict(model, images, batch_size=128):
    """Probabilities: `float32 (N, 1)` for two classes, `(N, num_classes)` for more; images `uint8 (N, S, S, 1)`."""
    batches = [
        model.predict_on_batch(utils.to_unit(images[start : start + batch_size])) for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(batches)


def to_probabilities(outputs, setting):
    """What `predict` gives → the probability of each class of a setting: `float64 (N, num_classes)`, which a CSV gives back exactly."""
    outputs = outputs.astype(np.float64)
    if len(setting.classes) > 2:
        return outputs
    by_class = np.concatenate([1 - outputs, outputs], axis=1)
    return by_class if setting.minority_label == 1 else by_class[:, ::-1]


def divide_by_shares(probabilities, shares):
    """The probabilities as they were if each class had the same share of the training images: `float (N, num_classes)`, sums of 1.

    A classifier trained on many healthy and few sick images learns that few are sick. Balanced accuracy counts both classes alike, so each
    probability is divided by the class's share of the training images (Menon et al. 2021, arXiv:2007.07314): nothing is tuned, and the
    rule is the same for every arm.
    """
    divided = probabilities / shares
    return divided / divided.sum(axis=1, keepdims=True)


def score_validation(probabilities, labels, shares):
    """What chooses the epoch whose weights are kept: each class counts alike, whatever its share of training and validation images.

    Were every image to count alike, few sick images among many healthy ones would hardly matter, and weights would be preferred that
    suit the validation part's shares, while predictions are made for equal ones.

    Args:
        probabilities: `float (N, num_classes)`, of validation images.
        labels: `int (N,)`, indices into the classes.
        shares: `float (num_classes,)`, of each class among what the classifier is trained on.

    Returns:
        dict of `val_loss`, the mean over classes of each class's mean cross-entropy, in nats, and `val_balanced_accuracy`.
    """
    divided = divide_by_shares(probabilities.clip(keras.config.epsilon(), 1), shares)
    of_truth, is_right = divided[np.arange(len(labels)), labels], divided.argmax(axis=1) == labels
    classes = [labels == label for label in np.unique(labels)]
    return {
        "val_loss": float(np.mean([-np.log(of_truth[members]).mean() for members in classes])),
        "val_balanced_accuracy": float(np.mean([is_right[members].mean() for members in classes])),
    }


class Validation(keras.callbacks.Callback):
    """Adds `score_validation` of the validation images to what is known of an epoch."""

    def __init__(self, validation, setting, shares):
        """
        Args:
            validation: `dataset.Part` of real images only.
            setting: `dataset.Setting`.
            shares: `float (num_classes,)`, of each class among what the classifier is trained on.
        """
        super().__init__()
        self.validation, self.setting, self.shares = validation, setting, shares

    def on_epoch_end(self, epoch, logs=None):
        probabilities = to_probabilities(predict(self.model, self.validation.images), self.setting)
        logs.update(score_validation(probabilities, self.validation.labels, self.shares))


def tabulate_predictions(files, labels, outputs, setting, shares):
    """What a classifier says of each test image: the class with the largest probability after `divide_by_shares`.

    Args:
        files: `str (N,)`.
        labels: `int (N,)`, indices into the setting's classes.
        outputs: `float (N, 1)` for two classes, `(N, num_classes)` for more, as `predict` gives them.
        setting: `dataset.Setting`.
        shares: `float (num_classes,)`, of each class among what the classifier was trained on, see `arms.TrainingImages`.

    Returns:
        DataFrame: file, label, prediction (by that rule), likeliest (the class with the largest probability), probability (of the
        minority class), and one column a class if more than two.
    """
    names, by_class = np.array(setting.classes), to_probabilities(outputs, setting)
    extra = {f"probability_{name}": by_class[:, index] for index, name in enumerate(names)} if len(names) > 2 else {}
    return pd.DataFrame(
        {
            "file": files,
            "label": names[labels],
            "prediction": names[divide_by_shares(by_class, shares).argmax(axis=1)],
            "likeliest": names[by_class.argmax(axis=1)],
            "probability": by_class[:, setting.minority_label],
        }
        | extra
    )


def read_predictions(file):
    """A table of `tabulate_predictions` as it was written."""
    return utils.read_table(file)
