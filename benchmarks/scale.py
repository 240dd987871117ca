"""What notebooks 1 and 2 cost beside their trainings as a set grows, stage by stage: seconds and peak memory.

python -m benchmarks.scale                # 1,000 to 112,120 images, ChestX-ray14's number, and results/published/benchmarks/scale.csv
python -m benchmarks.scale 1000 5000      # these sizes alone; rows of other sizes stay

The images are drawn: pairs of phantom pictures laid over each other with seeded noise, so that no two show one picture. Nearly half of them
are the minority class. Each size runs in a process of its own. Files are decoded of `NUM_FILES` images at most: decoding is proportional.
Linux alone says how much memory each stage takes; elsewhere a row holds the most so far.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

import utils
from benchmarks import machine, pipeline
from xraygan import backend, disk, run
from xraygan.comparison.classifier import Classifier
from xraygan.data import audit, dataset, phantom, sources, split
from xraygan.gan import fakes, fidelity, memorisation
from xraygan.gan.recipe import Recipe
from xraygan.report import figures, pictures

COUNTS = (1000, 5000, 20_000, 112_120)
MINORITY_SHARE = 50_000 / 112_120
NUM_DRAWN = 2000  # phantom pictures that the images are made of
NUM_FILES = 2000  # files that are decoded
NUM_FAKES = 1000
CLASSES = ("NORMAL", "COVID19")


# Images


def draw_images(count, num_drawn=NUM_DRAWN):
    """`count` different pictures, `uint8 (count, 128, 128, 1)`: two drawings each, no two of which meet twice, and noise."""
    num_drawn = min(num_drawn, count)
    drawn = np.stack([phantom.draw(CLASSES[seed % 2], seed) for seed in range(num_drawn)])
    images = np.empty((count, *drawn.shape[1:]), np.uint8)
    for start in range(0, count, 1024):
        rows = np.arange(start, min(start + 1024, count))
        one, other = rows % num_drawn, (rows + 1 + rows // num_drawn) % num_drawn
        noise = np.random.default_rng(start).standard_normal((len(rows), *drawn.shape[1:]), dtype=np.float32)
        mixed = 0.6 * drawn[one] + 0.4 * drawn[other] + 40 * gaussian_filter(noise, (0, 1.5, 1.5, 0))
        images[rows] = mixed.clip(0, 255)
    return images


def make_image_set(count):
    """An `ImageSet` of drawn images without files, a fifth of them in test."""
    images = draw_images(count)
    labels = (np.random.default_rng(0).random(count) < MINORITY_SHARE).astype(int)
    folders = np.where(np.arange(count) % 5 == 0, "test", "train")
    names = zip(folders, labels, range(count), strict=True)
    files = np.array([f"{folder}/{CLASSES[label]}/{row:06d}.png" for folder, label, row in names])
    digests = np.array([hashlib.blake2b(image, digest_size=16).hexdigest() for image in images])
    return sources.ImageSet(sources.Source("drawn", None, CLASSES, CLASSES[1], True), images, labels, folders, files, digests)


# Stages


def run_stages(count, folder):
    """Every stage of both notebooks on `count` images: a row each.

    Args:
        folder: what the stages write goes here.
    """
    measure, rows = _make_stopwatch(count)
    num_files = min(count, NUM_FILES)
    source = _write_files(folder / "data", num_files)
    measure("1: read files", lambda: sources.read_images(source, show_progress=False), num_files)
    images = make_image_set(count)
    _run_notebook_1(images, folder, measure)
    _run_notebook_2(images, folder, measure)
    return rows


def _run_notebook_1(images, folder, measure):
    measure("1: fingerprint", lambda: images.fingerprint)
    measure("1: examples", lambda: pictures.show_examples(images, images.source, "examples"))
    groups = measure("1: groups of near-copies", lambda: audit.find_groups(images))
    leaks = measure("1: leaks", lambda: audit.count_leaks(images, groups))
    print(leaks.to_string(), file=sys.stderr)
    measure("1: pairs to look at", lambda: audit.list_pairs_across(images, groups))
    folders = run.open_folders("scale", folder)
    run.start_record(folders)
    split.write_split(measure("1: split", lambda: split.make_split(images, groups)), folders)
    opened = measure("1: split from its file", lambda: dataset.Dataset(images, split.read_split(folders)))
    settings, most = [dataset.Setting(CLASSES, CLASSES[1])], min(len(groups), audit.MOST_LEARNED)
    measure("1: shortcuts", lambda: audit.shortcuts_by_setting(opened, settings), most)


def _run_notebook_2(images, folder, measure):
    folders = run.open_folders("scale", folder)
    opened, (other, minority) = dataset.Dataset(images, split.read_split(folders)), CLASSES
    parts = ("train", "validation", "test")
    real, validation, test = measure("2: images of a class", lambda: [opened.select_class([minority], part) for part in parts])
    most = min(len(real), fidelity.MOST)
    baseline, generator = Classifier().build(2), Recipe().build_generator()
    measure("2: judge while training", lambda: fidelity.Judge(baseline, real, validation).distances(real[:256]), most)
    measure("2: write fakes", lambda: fakes.write_fakes(generator, folders.generated, minority, NUM_FAKES, 0), NUM_FAKES)
    drawn, _ = measure("2: read fakes", lambda: fakes.read_fakes(folders.generated, minority), NUM_FAKES)
    measure("2: brightness", lambda: figures.tabulate_brightness({"real": real, "fake": drawn}))
    judge = measure("2: judge at the end", lambda: fidelity.Judge(baseline, real, test), most)
    sets = {"fakes": drawn, "real": real, "another class": opened.select_class([other], "test")[:500]}
    noise = fidelity.draw_uniform(len(drawn))
    measure("2: quality of fakes", lambda: judge.table(sets | {"noise": noise}), most)
    measure("2: real or fake", lambda: judge.tell_real_from_fake(drawn), most)
    measure("2: copies among fakes", lambda: memorisation.find_copies(drawn, real, [*validation, *test]), len(real))


def _write_files(folder, count):
    """Files of 1024 pixels a side, in the layout that is read."""
    pipeline.write_jpegs(folder, count)
    for row, file in enumerate(sorted(folder.glob("*.jpg"))):
        place = folder / ("test" if row % 5 == 0 else "train") / CLASSES[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    return sources.find_source(str(folder), ",".join(CLASSES))


def _make_stopwatch(count):
    """A function that runs a stage and notes what it took, and the list that it notes it in."""
    rows = []

    def measure(stage, work, worked_on=count):
        """`worked_on`: the images that the stage works on, if not all."""
        with suppress(OSError):  # Linux alone
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        start = time.perf_counter(), time.process_time()
        result = work()
        seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        row = {"stage": stage, "images": count, "worked_on": worked_on, "seconds": round(seconds, 2)}
        rows.append(row | {"cpu_seconds": round(cpu_seconds, 2), "peak_memory_gb": round(_read_peak(), 2)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        return result

    return measure, rows


def _read_peak():
    """Gigabytes since the peak was last forgotten."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
    return backend.peak_memory_gb()


# Tables


def add_growth(table):
    """The table in the order of stages and sizes, with `exponent`: CPU seconds grow with images to this power, from the size before on.

    None where there is none before, or the stage takes less than half a second.
    """
    order = {stage: place for place, stage in enumerate(table["stage"].drop_duplicates())}
    table = table.sort_values(["stage", "images"], key=lambda column: column.map(order) if column.name == "stage" else column)
    before = table.groupby("stage")[["images", "cpu_seconds"]].shift()
    exponent = np.log(table["cpu_seconds"] / before["cpu_seconds"]) / np.log(table["images"] / before["images"])
    return table.assign(exponent=exponent.where(before["cpu_seconds"] >= 0.5).round(2)).reset_index(drop=True)


def sum_up(table):
    """A row a size: the sum of seconds and the highest peak of all stages."""
    sums = table.groupby("images", as_index=False).agg({"seconds": "sum", "cpu_seconds": "sum", "peak_memory_gb": "max"})
    return sums.round(2).assign(stage="all stages", worked_on=sums["images"])


def measure_size(count):
    """All stages in a process of its own, with a store of its own, in which nothing is cached yet: DataFrame."""
    command = [sys.executable, "-m", "benchmarks.scale", "--stages", str(count)]
    with tempfile.TemporaryDirectory() as store:
        environment = os.environ | {"XRAYGAN_STORE": store}
        done = subprocess.run(command, cwd=disk.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return pd.DataFrame(json.loads(done.stdout.splitlines()[-1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, help="numbers of images")
    parser.add_argument("--stages", action="store_true", help="of one number, in this process; prints the rows as JSON")
    options = parser.parse_args()
    if options.stages:
        backend.configure()
        print(json.dumps(run_stages(options.counts[0], disk.STORE)))
        return
    path = machine.PUBLISHED / "scale.csv"
    old = pd.read_csv(path) if path.exists() else pd.DataFrame({"stage": [], "images": []})
    tables = [old[(old["stage"] != "all stages") & ~old["images"].isin(options.counts)]]
    for count in utils.progress(options.counts, desc="sizes"):
        tables.append(measure_size(count))
    stages = pd.concat(tables, ignore_index=True)
    table = add_growth(pd.concat([stages, sum_up(stages)], ignore_index=True).astype({"images": int, "worked_on": int}))
    machine.publish(
        table, "scale", backend.configure() | {"note": "a busy machine: CPU seconds count, the others hold waiting"}
    )


if __name__ == "__main__":
    main()
