"""Training that survives a disconnect: batches that depend on seed and step only, and a state written twice a minute.

What a training goes on from is known by its hash: where a file isn't as it was written, the training starts again and says so.
"""

import hashlib
import json
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import utils
from xraygan import backend, disk, keys

CODE_HASH = "code and networks"  # the parameter of a saved state that is a hash of these, and of the recipe
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


class KeptTable(keras.callbacks.Callback):
    """A table with a row an epoch, and the weights of the best one. The rows are kept with the training's state: the file is for readers."""

    def __init__(self, table_file=None, monitor=None, best_file=None):
        """
        Args:
            table_file: CSV that is written anew with every row; None writes none.
            monitor: the column whose smallest value is the best, e.g. "val_loss"; None keeps no weights.
            best_file: where the weights of the best epoch are kept.
        """
        super().__init__()
        self.table_file, self.monitor, self.best_file = table_file, monitor, best_file
        self.rows, self.parameters = [], ""

    def add(self, row, variables=()):
        """Add an epoch's row, and keep the variables if it's the best so far."""
        self.rows.append(row)
        if self.monitor and find_best_epoch(self.rows, self.monitor) == row["epoch"]:
            save_variables(self.best_file, variables, row["epoch"], self.parameters)
        self.write()

    def write(self):
        if self.table_file:
            utils.write_table(pd.DataFrame(self.rows), self.table_file)

    def take_up(self, rows, finished):
        """Go on with the rows of `finished` epochs.

        Raises:
            disk.DamagedError: the weights of the best of them aren't there.
        """
        best = find_best_epoch(rows, self.monitor)
        if best:
            epoch = read_variables(self.best_file, self.parameters)[1]["epoch"]
            if epoch != best and epoch <= finished:  # after a crash it may be ahead, and will be written again
                raise _damaged(self.best_file)
        self.rows = rows
        self.write()


def find_best_epoch(rows, monitor):
    """The epoch whose row has the smallest value; the earlier of two. None where no value is a number: a training that went astray."""
    values = [(row[monitor], row["epoch"]) for row in rows if monitor and np.isfinite(row[monitor])]
    return min(values)[1] if values else None


class SavedState(KeptTable):
    """Writes weights, optimizer and random state now and then and at the end, history after every epoch, each file whole or absent.

    The epoch is part of the state's file name, so that one rename moves everything on at once. The state holds the rows of all tables;
    the files of tables and best weights may be ahead of it after a crash, and are made again.
    """

    def __init__(self, folder, history_file, monitor=None, patience=None):
        """
        Args:
            folder: where the state is kept.
            history_file: CSV with one row an epoch.
            monitor: the logged value whose smallest epoch is kept as `best.npz`, e.g. "val_loss"; None keeps none.
            patience: epochs without a smaller one before training stops; None stops never.
        """
        super().__init__(Path(history_file), monitor, Path(folder) / "best.npz")
        self.folder, self.patience, self.tables = Path(folder), patience, [self]
        self.written = time.monotonic()

    def restore(self, model, num_epochs):
        """Load the newest state into a built and compiled `model`; returns the number of finished epochs.

        That is 0 where there is no state, or where a dropped one would have to go on to `num_epochs`, or, with a sentence, where what is
        needed to go on isn't as it was written.
        """
        finished = max(self._states(), default=0)
        self.set_model(model)  # `fit` does so too, but a finished training isn't fitted again
        try:
            if finished and self._take_up_state(finished, num_epochs):
                return finished
        except disk.DamagedError as error:
            print(error)
        for table in self.tables:
            table.rows = []
        for file in self._states().values():
            disk.remove(file)
        return 0

    def _take_up_state(self, finished, num_epochs):
        """Go on from the state of an epoch; False where it was dropped and is asked to go on."""
        file = self._states()[finished]
        arrays, about = read_variables(file, self.parameters)
        if (about["epoch"], len(about["tables"])) != (finished, len(self.tables)):
            raise _damaged(file)
        if not arrays and finished < num_epochs:
            return False
        for table, rows in zip(self.tables, about["tables"], strict=True):
            table.take_up(rows, finished)
        if arrays:
            _assign(file, _everything(self.model), arrays)
        return True

    def is_of(self, parameters):
        """Whether the newest state is whole and of a training with these parameters, given by their hash."""
        states = self._states()
        try:
            return bool(states) and bool(read_variables(states[max(states)], parameters))
        except disk.DamagedError:
            return False

    def tidy(self):
        """Delete what a killed process left: half a state, or one that a newer has replaced."""
        for folder in (self.folder, self.table_file.parent):
            disk.remove_drafts(folder)
        states = self._states()
        for epoch in sorted(states)[:-1]:
            disk.remove(states[epoch])

    def drop(self):
        """Forget the state of a finished training whose outcome is kept elsewhere, which frees some 40 MB; that it's finished stays known."""
        for epoch, file in self._states().items():
            self._save(file, [], epoch)

    def load_best(self):
        """Give the model the weights of its best epoch."""
        load_variables(self.best_file, self.model.weights, self.parameters)

    def is_stalled(self):
        """Whether as many epochs as `patience` allows brought nothing better."""
        best = find_best_epoch(self.rows, self.monitor) or 0
        return bool(self.patience and self.rows) and len(self.rows) - best >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        self.add({"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()}, self.model.weights)
        if time.monotonic() - self.written >= SECONDS_BETWEEN_STATES:
            self._write()
        if self.is_stalled():
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if len(self.rows) not in self._states():
            self._write()

    def _write(self):
        outdated = self._states().values()
        self._save(self.folder / f"epoch_{len(self.rows):05d}.npz", _everything(self.model), len(self.rows))
        for file in outdated:
            disk.remove(file)
        self.written = time.monotonic()

    def _save(self, file, variables, epoch):
        save_variables(file, variables, epoch, self.parameters, [table.rows for table in self.tables])

    def _states(self):
        numbers = {file: file.stem.removeprefix("epoch_") for file in self.folder.glob("epoch_*.npz")}
        return {
            int(number): file for file, number in numbers.items() if number.isdecimal()
        }  # "epoch_00002 (1)" is a cloud's copy


def _everything(model):
    """All a training has come to: weights, moving statistics, random state, optimizer moments. Keras' own files leave out the third."""
    return [*model.variables, *model.optimizer.variables]


# Variables in a file, which knows what training it is of


def save_variables(file, variables, epoch, parameters="", tables=()):
    """Write variables, whole or not at all, with what they are from.

    Args:
        file: where, `.npz`.
        variables: Keras variables or arrays, which are read back in this order.
        epoch: that they are from.
        parameters: a hash of all that decides the training.
        tables: lists of rows, a list for each table of the training.
    """
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    about = {"epoch": epoch, "parameters": parameters, "tables": tables, "hash": fingerprint(*arrays)}
    with disk.replacing(file) as draft, draft.open("wb") as opened:
        text = json.dumps(about | {"checksum": keys.digest(about)})
        np.savez(opened, *arrays, about=np.frombuffer(text.encode(), np.uint8))


def read_variables(file, parameters=""):
    """What `save_variables` wrote.

    Returns:
        the arrays in their order, and a dict of epoch, parameters and tables.

    Raises:
        disk.DamagedError: it isn't there, or isn't what was written there by a training with these parameters.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            arrays = [stored[f"arr_{index}"] for index in range(len(stored.files) - 1)]
        checksum = about.pop("checksum")
    except Exception as error:  # whatever zipfile, numpy and json make of changed bytes
        raise _damaged(file) from error
    if (checksum, about["hash"], about["parameters"]) != (keys.digest(about), fingerprint(*arrays), parameters):
        raise _damaged(file)
    return arrays, about


def load_variables(file, variables, parameters=""):
    """Assign what `save_variables` wrote; returns the epoch.

    Raises:
        disk.DamagedError: as `read_variables`.
    """
    arrays, about = read_variables(file, parameters)
    _assign(file, variables, arrays)
    return about["epoch"]


def _assign(file, variables, arrays):
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise _damaged(file)
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _damaged(file):
    return disk.DamagedError(f"{disk.display_path(file)} is gone, damaged or of another training: this training starts again.")


class ProgressBar(keras.callbacks.Callback):
    """One line for the whole training: epochs done, time left, the newest values."""

    SHOWN = ("val_loss", "d_loss", "g_loss")

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
        """
        self.model = model
        self.state = SavedState(state_folder, history_file, monitor, patience)
        self.parameters = json.loads(json.dumps(parameters))  # as they will be read back
        self.state.parameters = keys.digest(self.parameters, 16)

    def fit(self, batches_from, updates_per_epoch, num_epochs, description, callbacks=(), **fit_arguments):
        """Train up to epoch `num_epochs`.

        Args:
            batches_from: function of the first step to the endless data from there on.
            updates_per_epoch: length of an epoch, however many images there are.
            callbacks: run at the end of each epoch before the state is saved, so that what they write is never missing.

        Returns:
            the history, a row an epoch.

        Raises:
            ValueError: the folder holds a training with other parameters, more epochs are done than are asked for, or no epoch's
                monitored value was a number.
            RuntimeError: another process is at this training.
        """
        self.state.tables = [self.state, *[callback for callback in callbacks if isinstance(callback, KeptTable)]]
        for table in self.state.tables:
            table.parameters = self.state.parameters
        with disk.held(self.state.folder):
            self._claim_folder()
            self._fit(batches_from, updates_per_epoch, num_epochs, description, callbacks, fit_arguments)
        return pd.DataFrame(self.state.rows)

    def _fit(self, batches_from, updates_per_epoch, num_epochs, description, callbacks, fit_arguments):
        self.state.tidy()
        finished = self.state.restore(self.model, num_epochs)
        if finished > num_epochs:
            raise ValueError(
                f"{disk.display_path(self.state.folder)} was trained for {finished} epochs, and {num_epochs} are asked for: "
                "choose another name with RUN, or delete this run with `make clean` to train again."
            )
        if finished < num_epochs and not self.state.is_stalled():
            with backend.feed(batches_from(finished * updates_per_epoch)) as batches:
                self.model.fit(
                    batches,
                    steps_per_epoch=updates_per_epoch,
                    initial_epoch=finished,
                    epochs=num_epochs,
                    callbacks=[*callbacks, self.state, ProgressBar(description, num_epochs, finished)],
                    shuffle=False,  # the chain is shuffled already
                    verbose=0,
                    **fit_arguments,
                )
        for table in self.state.tables:
            if table.monitor and table.rows and not find_best_epoch(table.rows, table.monitor):
                raise ValueError(
                    f"{description}: {table.monitor} was NaN (not a number) in every epoch, so the network learned nothing: set PRECISION to "
                    "'float32', or choose a smaller learning rate, with another name for RUN."
                )

    def _claim_folder(self):
        """Write the parameters beside the state; a whole training with others stays."""
        path = self.state.folder / "parameters.json"
        try:
            stored = disk.read_json(path)
        except (FileNotFoundError, disk.DamagedError):
            stored = {}
        changed = [key for key in stored | self.parameters if stored.get(key) != self.parameters.get(key)]
        if changed and self.state.is_of(keys.digest(stored, 16)):
            plain = [key for key in changed if key != CODE_HASH]  # the hash of the code holds the other parameters too
            told = [f"{key} {stored.get(key)!r}, now {self.parameters.get(key)!r}" for key in plain] or [
                "other code or networks"
            ]
            raise ValueError(
                f"{disk.display_path(self.state.folder)} was trained with {'; '.join(told)}: "
                "choose another name with RUN, or delete this run with `make clean` to train again."
            )
        if changed:
            disk.write_json(path, self.parameters)


def fingerprint(*arrays):
    """A short hash of the arrays' bytes, to tell whether a saved state belongs to these data."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
