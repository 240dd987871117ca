"""The classifier: the study's small CNN, its training with the best weights kept, its predictions as a table."""

import keras
import numpy as np
import pandas as pd
from keras import layers

import utils
from xraygan import backend, model_files, record, training

BATCH_SIZE = 128


def build_classifier(num_classes, seed=0):
    """The CNN of the study with one grey channel: `(B, 128, 128, 1)` in 0 to 1 → probabilities.

    Two classes give `(B, 1)`, the probability of the positive class; more give `(B, num_classes)`. With two classes it has
    4,443,009 parameters: the study's 4,443,585 less the two colour channels of the first layer.

    Args:
        num_classes: how many are told apart.
        seed: of the initial weights.
    """
    next_seed = utils.seeds(seed)

    def weights():
        return keras.initializers.GlorotUniform(next_seed())

    image = x = keras.Input((utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1))
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=weights())(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu", kernel_initializer=weights())(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu", kernel_initializer=weights())(x)
    x = layers.Dense(64, activation="relu", kernel_initializer=weights())(x)
    units, activation = (1, "sigmoid") if num_classes == 2 else (num_classes, "softmax")
    probabilities = layers.Dense(units, activation=activation, kernel_initializer=weights(), dtype="float32")(x)
    return keras.Model(image, probabilities, name="classifier")


def targets(labels, classes, minority):
    """What the CNN is trained to give: 1 for the minority and 0 for the other of two classes, else the class index."""
    if len(classes) == 2:
        return (labels == classes.index(minority)).astype(np.float32)
    return labels.astype(np.int32)


def _by_target(weights, source):
    """Weights by class index → {what `targets` gives: weight}, as Keras takes them."""
    keys = targets(np.arange(len(weights)), source.classes, source.minority)
    return {int(key): float(weight) for key, weight in zip(keys, weights, strict=True)}


def updates_per_epoch(num_real_images):
    """An epoch is ⌈real training images / 128⌉ updates, with or without extra images: no arm trains longer than another."""
    return -(-num_real_images // BATCH_SIZE)


def train_classifier(
    images, labels, validation, source, profile, seed, num_real_images, state_folder, history_file, description, weights=None
):
    """Train the CNN, resuming where it stopped; the weights of the best validation loss are kept.

    Args:
        images, labels: training part, `uint8 (N, 128, 128, 1)` and `int (N,)`; fakes may be among them.
        validation: (images, labels) of real images only.
        source: `sources.Source`, for classes and minority.
        profile: `settings.Profile`, for epochs and patience.
        seed: of initial weights and order.
        num_real_images: how many of `images` are real; sets the length of an epoch.
        state_folder: where the training keeps what it needs to resume.
        history_file: CSV with one row an epoch.
        description: of the progress bar.
        weights: `float (num_classes,)`, the weight of an image of each class in the training loss; None weighs all alike.

    Returns:
        the model with its best weights, and the history as a DataFrame.
    """
    model = build_classifier(len(source.classes), seed)
    loss = "binary_crossentropy" if len(source.classes) == 2 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=backend.use_jit())
    model.optimizer.build(model.trainable_variables)

    updates = updates_per_epoch(num_real_images)
    y = targets(labels, source.classes, source.minority)
    run = training.ResumableTraining(
        model,
        state_folder,
        history_file,
        parameters={"seed": seed, "classes": source.classes, "updates_per_epoch": updates}
        | {"precision": keras.mixed_precision.global_policy().name}
        | {"images": training.fingerprint(images, y), "validation": training.fingerprint(*validation)}
        | ({} if weights is None else {"weights": list(map(float, weights))}),
        monitor="val_loss",
        patience=profile.classifier_patience,
    )
    history = run.fit(
        lambda step: training.RepeatingShuffle(images, y, utils.to_unit, BATCH_SIZE, seed, step),
        updates,
        profile.epochs_of_classifier(updates),
        description,
        validation_data=(utils.to_unit(validation[0]), targets(validation[1], source.classes, source.minority)),
        validation_batch_size=BATCH_SIZE,
        class_weight=None if weights is None else _by_target(weights, source),
    )
    run.state.load_best()
    return model, history


def load_baseline(folders):
    """The CNN that notebook 1 saved.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: the file isn't what the record tells of.
    """
    model = build_classifier(len(record.read_record(folders)["classes"]))
    return model_files.load_weights(model, folders, "before_gan", "1_before_gan.ipynb")


def predict(model, images):
    """Probabilities of each class: `float32 (N, 1)` for two classes, `(N, num_classes)` for more; images `uint8`."""
    batches = [
        model.predict_on_batch(utils.to_unit(images[start : start + BATCH_SIZE])) for start in range(0, len(images), BATCH_SIZE)
    ]
    return np.concatenate(batches)


def predictions_table(files, labels, outputs, source):
    """Per-image predictions: file, label, prediction, probability (of the minority class), and one column a class if more than two."""
    names, outputs = np.array(source.classes), outputs.astype(np.float64)  # what a CSV gives back exactly
    minority = source.classes.index(source.minority)
    if len(names) == 2:
        positive = outputs[:, 0]
        predicted = np.where(positive >= 0.5, minority, 1 - minority)
        extra = {}
    else:
        positive = outputs[:, minority]
        predicted = outputs.argmax(axis=1)
        extra = {f"probability_{name}": outputs[:, index] for index, name in enumerate(names)}
    columns = {"file": files, "label": names[labels], "prediction": names[predicted], "probability": positive} | extra
    return pd.DataFrame(columns)
