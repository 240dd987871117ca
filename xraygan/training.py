"""Training that survives a disconnect: batches that depend on seed and step only, and a state written twice a minute."""

import hashlib
import json
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import utils
from xraygan import backend, disk

SECONDS_BETWEEN_STATES = 30  # a crash costs at most this and an epoch; a GAN's state is 50 MB, and its epoch may take a second


class RepeatingShuffle(keras.utils.PyDataset):
    """An endless chain of shuffles of the images, cut into batches.

    Batch `step` of the chain, and how its images are transformed, depends on the seed and on `step` alone, so a resumed training sees what an undisturbed one does.
    """

    num_batches = None  # endless for Keras, which then neither shuffles again nor fetches across an epoch's end

    def __init__(self, images, labels, normalise, batch_size, seed, first_step=0, transform=None):
        """
        Args:
            images: `uint8 (N, H, W, 1)`.
            labels: `(N,)`, or None for batches of images alone.
            normalise: `uint8` pixels → what the network takes.
            batch_size: images an update.
            seed: of the order.
            first_step: where to start in the chain.
            transform: (`uint8` images, random generator) → what is shown instead, drawn anew for each batch; None shows them as they are.
        """
        super().__init__()
        self.transform = transform
        self.images, self.labels, self.normalise = images, labels, normalise
        self.batch_size, self.seed, self.first_step = batch_size, seed, first_step

    def __getitem__(self, index):
        step = self.first_step + index
        rows = self.rows_of_step(step)
        images = self.images[rows]
        if self.transform:
            images = self.transform(images, np.random.default_rng([self.seed, step]))
        images = self.normalise(images)
        return images if self.labels is None else (images, self.labels[rows])

    def rows_of_step(self, step):
        """The image indices `(batch_size,)` of update number `step`, counted from the start of training."""
        size = len(self.images)
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        shuffles = {lap: np.random.default_rng([self.seed, lap]).permutation(size) for lap in set(positions // size)}
        return np.array([shuffles[position // size][position % size] for position in positions])


class SavedState(keras.callbacks.Callback):
    """Writes weights, optimizer and random state now and then and at the end, history after every epoch, each file whole or absent.

    The epoch is part of the state's file name, so that one rename moves everything on at once; `best.npz` and the
    history may be ahead of it after a crash, and are made again.
    """

    def __init__(self, folder, history_file, monitor=None):
        """
        Args:
            folder: where the state is kept.
            history_file: CSV with one row an epoch.
            monitor: the logged value whose smallest epoch is kept as `best.npz`, e.g. "val_loss"; None keeps none.
        """
        super().__init__()
        self.folder, self.history_file, self.monitor = Path(folder), Path(history_file), monitor
        self.rows = []
        self.written = time.monotonic()

    def restore(self, model, num_epochs):
        """Load the newest state into a built and compiled `model`; returns the number of finished epochs.

        That is 0 where there is no state, or where a dropped one would have to go on to `num_epochs`.
        """
        states = self._states()
        finished = max(states, default=0)
        self.set_model(model)  # `fit` does so too, but a finished training isn't fitted again
        if finished and _is_dropped(states[finished]):
            if finished < num_epochs:
                states[finished].unlink()
                return 0
            self.rows = pd.read_csv(self.history_file).to_dict("records")
        elif finished:
            if not self.history_file.exists():
                shown = disk.display_path(self.history_file), disk.display_path(self.folder)
                raise FileNotFoundError(
                    f"{shown[0]} is gone, and {shown[1]} needs it to go on; delete that folder to train again."
                )
            load_variables(states[finished], _everything(model))
            self.rows = utils.read_table(self.history_file).iloc[:finished].to_dict("records")
        return finished

    def tidy(self):
        """Delete what a killed process left: half a state, or one that a newer has replaced."""
        for folder in (self.folder, self.history_file.parent):
            disk.remove_drafts(folder)
        states = self._states()
        for epoch in sorted(states)[:-1]:
            states[epoch].unlink()

    def drop(self):
        """Forget the state of a finished training whose outcome is kept elsewhere, which frees some 40 MB; that it's finished stays known."""
        for epoch, file in self._states().items():
            save_variables(file, [], epoch)

    def load_best(self):
        """Give the model the weights of its best epoch."""
        load_variables(self.folder / "best.npz", self.model.weights)

    def best_epoch(self):
        """The epoch (from 1) with the smallest monitored value; ties go to the earlier."""
        return int(np.argmin([row[self.monitor] for row in self.rows])) + 1

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()})
        if self.monitor and self.best_epoch() == epoch + 1:
            save_variables(self.folder / "best.npz", self.model.weights, epoch + 1)
        utils.write_table(pd.DataFrame(self.rows), self.history_file)
        if time.monotonic() - self.written >= SECONDS_BETWEEN_STATES:
            self._write()

    def on_train_end(self, logs=None):
        if len(self.rows) not in self._states():
            self._write()

    def _write(self):
        outdated = self._states().values()
        save_variables(self.folder / f"epoch_{len(self.rows):05d}.npz", _everything(self.model), len(self.rows))
        for file in outdated:
            file.unlink()
        self.written = time.monotonic()

    def _states(self):
        return {int(file.stem.removeprefix("epoch_")): file for file in self.folder.glob("epoch_*.npz")}


def _everything(model):
    """All a training has come to: weights, moving statistics, random state, optimizer moments. Keras' own files leave out the third."""
    return [*model.variables, *model.optimizer.variables]


def save_variables(file, variables, epoch):
    """Write variables, in their order, and the epoch they are from."""
    with disk.replacing(file) as draft, draft.open("wb") as opened:
        np.savez(opened, *[keras.ops.convert_to_numpy(variable) for variable in variables], epoch=epoch)


def _is_dropped(file):
    with np.load(file, allow_pickle=False) as stored:
        return stored.files == ["epoch"]


def load_variables(file, variables):
    """Assign what `save_variables` wrote; returns the epoch."""
    with np.load(file, allow_pickle=False) as stored:
        for index, variable in enumerate(variables):
            variable.assign(stored[f"arr_{index}"])
        return int(stored["epoch"])


class EarlyStop(keras.callbacks.EarlyStopping):
    """Keras' early stopping that remembers, after a resume, how long it has waited."""

    def __init__(self, saved_state, patience):
        super().__init__(monitor=saved_state.monitor, patience=patience)
        self.saved_state = saved_state

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        rows = self.saved_state.rows
        if rows:
            self.best_epoch = self.saved_state.best_epoch() - 1
            self.best = rows[self.best_epoch][self.monitor]
            self.wait = len(rows) - self.best_epoch - 1


class ProgressBar(keras.callbacks.Callback):
    """One line for the whole training: epochs done, time left, the newest values."""

    SHOWN = ("val_loss", "val_accuracy", "d_loss", "g_loss")

    def __init__(self, description, num_epochs, first_epoch=0):
        super().__init__()
        self.arguments = {"desc": description, "total": num_epochs, "initial": first_epoch}

    def on_train_begin(self, logs=None):
        self.bar = utils.progress(**self.arguments, unit="epoch")

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix({key: f"{logs[key]:.3g}" for key in self.SHOWN if key in logs}, refresh=False)
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()


class ResumableTraining:
    """`fit` that goes on from the last finished epoch when it is called again, and does nothing when it had finished."""

    def __init__(self, model, state_folder, history_file, parameters, monitor=None, patience=None):
        """
        Args:
            model: built and compiled, its optimizer built too.
            state_folder: where the state is kept; made for these `parameters` only.
            history_file: CSV with one row an epoch.
            parameters: what must be equal for a state to be gone on from, as JSON.
            monitor, patience: stop when the monitored value hasn't fallen for `patience` epochs, and keep the best weights.

        Raises:
            ValueError: the folder holds a training with other parameters.
        """
        self.model, self.patience = model, patience
        self.state = SavedState(state_folder, history_file, monitor)
        _claim_folder(Path(state_folder), parameters)

    def fit(self, batches_from, updates_per_epoch, num_epochs, description, callbacks=(), **fit_arguments):
        """Train up to epoch `num_epochs`.

        Args:
            batches_from: function of the first step to the endless data from there on.
            updates_per_epoch: length of an epoch, however many images there are.
            callbacks: run at the end of each epoch before the state is saved, so that what they write is never missing.

        Returns:
            the history, a row an epoch.

        Raises:
            ValueError: more epochs are done than are asked for.
            RuntimeError: another process is at this training.
        """
        with disk.held(self.state.folder):
            self._fit(batches_from, updates_per_epoch, num_epochs, description, callbacks, fit_arguments)
        return pd.DataFrame(self.state.rows)

    def _fit(self, batches_from, updates_per_epoch, num_epochs, description, callbacks, fit_arguments):
        self.state.tidy()
        finished = self.state.restore(self.model, num_epochs)
        if finished > num_epochs:
            raise ValueError(
                f"{disk.display_path(self.state.folder)} was trained for {finished} epochs, and {num_epochs} are asked for: "
                "choose another name with RUN, or delete that folder to train again."
            )
        if finished < num_epochs and not self._stopped_early():
            watchers = [self.state, ProgressBar(description, num_epochs, finished)]
            if self.patience:
                watchers.append(EarlyStop(self.state, self.patience))
            with backend.feed(batches_from(finished * updates_per_epoch)) as batches:
                self.model.fit(
                    batches,
                    steps_per_epoch=updates_per_epoch,
                    initial_epoch=finished,
                    epochs=num_epochs,
                    callbacks=[*callbacks, *watchers],
                    shuffle=False,  # the chain is shuffled already
                    verbose=0,
                    **fit_arguments,
                )

    def _stopped_early(self):
        return bool(self.patience and self.state.rows) and len(self.state.rows) - self.state.best_epoch() >= self.patience


def fingerprint(*arrays):
    """A short hash of the arrays' bytes, to tell whether a saved state belongs to these data."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _claim_folder(folder, parameters):
    """Write the parameters into a new state folder, or compare them with those that are there."""
    path = folder / "parameters.json"
    parameters = json.loads(json.dumps(parameters))  # as they will be read back
    if not path.exists():
        with disk.replacing(path) as draft:
            draft.write_text(json.dumps(parameters, indent=1), encoding="utf-8")
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = [
        f"{key} {stored.get(key)!r}, now {parameters.get(key)!r}"
        for key in stored | parameters
        if stored.get(key) != parameters.get(key)
    ]
    if changed:
        raise ValueError(
            f"{disk.display_path(folder)} was trained with {'; '.join(changed)}: "
            "choose another name with RUN, or delete that folder to train again."
        )
