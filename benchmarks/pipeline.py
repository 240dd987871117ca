"""What a user waits for: reading images, an epoch of each training; seconds and peak memory.

python -m benchmarks.pipeline       # a table, and results/published/benchmarks/pipeline.csv

Each part runs in a process of its own, on the phantom or on random pixels: speed doesn't depend on what is drawn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import utils
from benchmarks import machine
from xraygan import backend, disk, training
from xraygan.comparison.classifier import Classifier, compile_network
from xraygan.data import loading, phantom
from xraygan.gan import dcgan
from xraygan.gan.recipe import RECIPES

FEW, MANY = 460, 4600  # the study's COVID19 images, and ten times as many


def random_images(count):
    return np.random.default_rng(0).integers(0, 256, (count, utils.IMAGE_SIZE, utils.IMAGE_SIZE, 1), dtype=np.uint8)


def time_classifier(precision, count, deterministic=True):
    """An epoch of the CNN: every image once, in batches of 128."""
    backend.configure(precision, deterministic)
    classifier = Classifier()
    model = classifier.build(2)
    compile_network(model, classifier.learning_rate, 2)
    images, labels = random_images(count), np.arange(count, dtype=np.float32) % 2
    batches = training.RepeatingShuffle(images, labels, utils.to_unit, classifier.batch_size, 0)
    return time_epochs(model, batches, classifier.count_updates(count), count)


def time_gan(precision, count, deterministic=True):
    """An epoch of the GAN: every image once."""
    backend.configure(precision, deterministic)
    gan = dcgan.make_gan(RECIPES["dcgan"], 0)
    batch_size = gan.recipe.batch_size
    batches = dcgan.make_batches(random_images(count), gan.recipe, 0)
    return time_epochs(gan, batches, -(-count // batch_size), count)


def time_epochs(model, batches, updates, count):
    """The seconds of the median epoch after the first, fed as the notebooks' trainings are."""
    ends = [time.perf_counter()]
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    num_epochs = 4 if count <= FEW else 2
    with backend.feed(batches) as data:
        model.fit(data, steps_per_epoch=updates, epochs=num_epochs, verbose=0, shuffle=False, callbacks=[watch])
    return statistics.median(np.diff(ends)[1:])


def time_reading(cached, count):
    """Every image once from JPEG files that the system has in memory, decoded or from the project's own cache."""
    folder = Path(os.environ["BENCH_FOLDER"])
    files = sorted((folder / "jpeg").glob("*.jpg"))[:count]
    seconds = []
    for turn in range(3):
        cache = folder / ("cache" if cached else f"cold-{turn}")
        if cached:
            loading.load_images(files, cache, show_progress=False)
        start = time.perf_counter()
        loading.load_images(files, cache, show_progress=False)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def write_jpegs(folder, count):
    """Files as large as the real ones are after Kaggle's packing, about 100 kB each: phantom drawings of 1024 pixels a side."""
    from PIL import Image

    folder.mkdir()
    drawings = [phantom.draw("NORMAL", seed, 1024)[..., 0] for seed in range(8)]
    for index in range(count):
        Image.fromarray(np.roll(drawings[index % 8], index, axis=1)).save(folder / f"{index:05d}.jpg", quality=85)


PARTS = {
    "reading, cold": lambda precision, count: time_reading(False, count),
    "reading, cached": lambda precision, count: time_reading(True, count),
    "classifier epoch": time_classifier,
    "GAN epoch": time_gan,
    "classifier epoch, not deterministic": partial(time_classifier, deterministic=False),
    "GAN epoch, not deterministic": partial(time_gan, deterministic=False),
}


def run_part(part, precision, count):
    """One part in this process; prints its row as JSON."""
    seconds = PARTS[part](precision, count)
    print(json.dumps({"seconds": seconds, "peak_memory_gb": backend.peak_memory_gb()}))


def measure(part, precision, count, folder=""):
    """One part in a process of its own, as a dict; `folder` holds what it reads."""
    command = [sys.executable, "-m", "benchmarks.pipeline", part, precision, str(count)]
    environment = os.environ | {"BENCH_FOLDER": str(folder)}
    done = subprocess.run(command, cwd=disk.ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    if len(sys.argv) == 4:  # in a process of its own
        run_part(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        return
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    chosen = backend.configure()
    fast = chosen["precision"]
    trainings = [
        (part, precision, count)
        for part in ("classifier epoch", "GAN epoch")
        for precision in dict.fromkeys(["float32", fast])
        for count in (FEW, MANY)
    ]
    reading = [(f"reading, {how}", "", count) for how in ("cold", "cached") for count in (FEW, MANY)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        write_jpegs(Path(folder) / "jpeg", MANY)
        rows = []
        for part, precision, count in utils.progress([*reading, *trainings], desc="parts"):
            measured = measure(part, precision, count, folder)
            row = {"part": part, "precision": precision, "images": count} | measured
            rows.append(row | {"images_a_second": count / measured["seconds"]})
    machine.publish(pd.DataFrame(rows).round(3), "pipeline", chosen)


if __name__ == "__main__":
    main()
