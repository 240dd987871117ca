"""What the benchmarks share: the machine's own peak, and tables that say where they were measured."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import utils
from xraygan import disk, record

PUBLISHED = disk.ROOT / "results" / "published" / "benchmarks"
SIZE = 2048


def matrix_peak(precision):
    """Operations a second of this machine's matrix product in a precision: the most that a convolution can hope for.

    Args:
        precision: "float32" or "mixed_bfloat16".
    """
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


def seconds_between_updates(model, data, **fit_arguments):
    """`float (updates − 1,)`: the seconds from the end of each update of one epoch to the end of the next."""
    times = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
    model.fit(data, verbose=0, shuffle=False, callbacks=[watch], **fit_arguments)
    return np.diff(times)


def publish(table, name, chosen):
    """Print a table and write it, with the machine and the versions beside it."""
    print(table.to_string(index=False))
    utils.write_table(table, PUBLISHED / f"{name}.csv")
    record.write_json(PUBLISHED / f"{name}_machine.json", chosen)
