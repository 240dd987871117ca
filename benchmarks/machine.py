"""What the benchmarks share: the machine's own peak, seconds of an update, and tables that say where they were measured."""

import statistics
import time

import keras
import numpy as np
import pandas as pd

import utils
from xraygan import disk

PUBLISHED = disk.ROOT / "results" / "published" / "benchmarks"
SIZE = 2048


def matrix_peak(precision):
    """Operations a second of this machine's matrix product in a precision: the most that a convolution can hope for.

    Args:
        precision: "float32" or "mixed_bfloat16".
    """
    import tensorflow as tf  # here, since benchmarks that don't ask for it also run with JAX alone

    dtype = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
    matrix = tf.cast(tf.random.stateless_normal((SIZE, SIZE), (0, 0)), dtype)
    multiply = tf.function(tf.matmul)
    multiply(matrix, matrix).numpy()
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        multiply(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / statistics.median(seconds)


def time_updates(model, data, **fit_arguments):
    """The time from the end of each update of one epoch to the end of the next.

    Returns:
        DataFrame, a row an update but the first: `seconds` that passed, and `cpu_seconds` that all threads of this process computed,
        which other processes on the machine disturb less.
    """
    times = []

    def note(batch, logs):
        times.append((time.perf_counter(), time.process_time()))

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    model.fit(data, verbose=0, shuffle=False, callbacks=[watch], **fit_arguments)
    return pd.DataFrame(np.diff(times, axis=0), columns=["seconds", "cpu_seconds"])


def publish(table, name, chosen, folder=PUBLISHED):
    """Print a table and write it to a folder, with the machine and the versions beside it."""
    print(table.to_string(index=False))
    utils.write_table(table, folder / f"{name}.csv")
    disk.write_json(folder / f"{name}_machine.json", chosen)
