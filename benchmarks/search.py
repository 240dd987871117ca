"""The search for the GAN's recipe: one change at a time, at equal CPU time, on all or on few real images, with three judges.

python -m benchmarks.search --data DATA --run RUN --time      # first: how many updates of each candidate a CPU minute allows here
python -m benchmarks.search --data DATA --run RUN --time --only finer      # later: add one candidate to them
python -m benchmarks.search --data DATA --run RUN --only today hinge --minorities COVID19 --minutes 10 --seeds 0 1 2
python -m benchmarks.search --data DATA --run RUN --minorities PNEUMONIA --num-real 25        # every candidate, on 25 images
python -m benchmarks.search --data DATA --run RUN --minorities COVID19 --save-images IMAGES.npz    # for benchmarks/torch_fastgan.py …
python -m benchmarks.search --data DATA --run RUN --minorities COVID19 --seeds 0 --judge FOLDER    # … and its fakes, judged alike

RUN is a run whose notebook 1 is done: its split and its baseline judge. Validation images judge, test images are never seen. A trial is one
training, of as many updates as one core of the machine of `updates_a_minute.csv` does in its minutes, wherever it is trained: on a processor
one trial a core, side by side; with KERAS_BACKEND=jax, on a GPU say, all trials of a candidate as one program (together.py).
Trials that are finished stay. Each is a row of results/published/recipes/search.csv, and a grid of 32 fakes, none chosen, in
images/RUN/search/. The columns *imagenet* are a judge that chose nothing (imagenet.py); *copies* counts fakes that memorisation.py calls
copies of training images, and *alarm* says whether they are more than among real images that nobody trained on; *checkerboard* is about 0 for
real images.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import keras
import numpy as np
import pandas as pd

import utils
from benchmarks import imagenet, machine, together
from benchmarks.candidates import CANDIDATES
from xraygan import backend, disk, processes, run
from xraygan.comparison import workers
from xraygan.comparison.study import recall_study
from xraygan.gan import dcgan, fakes, fidelity, memorisation

FOLDER = disk.ROOT / "results" / "published" / "recipes"
NUM_JUDGED = 512  # fakes of a trial
SPEEDS = "updates_a_minute"  # a table in `FOLDER`
NUM_TIMED, ROUNDS = 25, 5  # updates of each candidate a round, and rounds, to know how long they take
FASTGAN = "fastgan"  # the row of what PyTorch trains, see torch_fastgan.py


@dataclass(frozen=True)
class Trial:
    """What is trained, and what names its row: a candidate on so many real images (0: all) of a class, for so many CPU minutes."""

    candidate: str
    minority: str
    num_real: int
    minutes: float
    seed: int

    def __str__(self):
        return f"{self.candidate}-{self.minority}-{self.num_real or 'all'}-{self.minutes:g}-{self.seed}"


def read_images(study, trial):
    """The images that a GAN learns from, those that the judges know, and those that they judge by; the last share no image with the others."""
    known, held_out = (study.dataset.select_class([trial.minority], part) for part in ("train", "validation"))
    few = np.random.default_rng(trial.seed).permutation(len(known))[: trial.num_real or None]
    return known[np.sort(few)], known, held_out


# How long an update takes


def time_candidates(images, names):
    """The CPU seconds that an update of today's recipe and of candidates takes on this machine, in turns; with all of them, also one of
    FastGAN where PyTorch is installed.

    Returns:
        DataFrame, a row a candidate and round.
    """
    with backend.configured("auto", deterministic=True, threads=1):
        recipes = {name: CANDIDATES[name].recipe for name in CANDIDATES if name == "today" or name in names}
        updates = {name: time_updates(dcgan.make_gan(recipe, 0), images) for name, recipe in recipes.items()}
        if imagenet.is_installed() and len(recipes) == len(CANDIDATES):
            updates[FASTGAN] = time_fastgan(images)
        rounds = [{name: next(of) for name, of in updates.items()} for _ in utils.progress(range(1 + ROUNDS), desc="rounds")]
    return pd.DataFrame(rounds[1:]).rename_axis("round").melt(var_name="candidate", value_name="seconds", ignore_index=False)


def time_updates(gan, images):
    """Yields the CPU seconds of an update for ever; the first of them are of compiling."""
    while True:
        with backend.feed(dcgan.make_batches(images, gan.recipe, 0)) as fed:
            yield machine.time_updates(gan, fed, steps_per_epoch=NUM_TIMED)["cpu_seconds"].median()


def time_fastgan(images):
    """The same of FastGAN, in a process of its own each time, without TensorFlow, beside which PyTorch is slower."""
    command = [sys.executable, "benchmarks/torch_fastgan.py", "--time"]
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/images.npz", images=images)
        while True:
            said = subprocess.check_output([*command, f"{folder}/images.npz"], cwd=disk.ROOT, env=environment, text=True)
            yield float(said)


def publish_speeds(times):
    """Write how many updates a CPU minute allows, and the spread over the rounds, with the machine beside it.

    Where not every candidate was timed, those that were are added to the table that is there. Their rates are scaled as if its machine had
    timed them: by what its median for today's recipe is to the median here, which is noted beside it with the machine that timed them.
    """
    rates = (60 / times["seconds"]).groupby(times["candidate"], sort=False).agg(["median", "min", "max"])
    about = {"device": backend.device_name(), "rounds": ROUNDS}
    if not set(CANDIDATES) <= set(rates.index):
        known, here = utils.read_table(FOLDER / f"{SPEEDS}.csv").set_index("candidate"), rates.loc["today", "median"]
        added = rates.drop(index="today") * known.loc["today", "median"] / here
        rates = pd.concat([known.drop(index=added.index, errors="ignore"), added])
        timed, about = about | {"median_of_today": round(float(here), 1)}, disk.read_json(FOLDER / f"{SPEEDS}_machine.json")
        about |= {"added": about.get("added", {}) | dict.fromkeys(added.index, timed)}
    machine.publish(rates.round(1).reset_index(), SPEEDS, about, FOLDER)


def count_updates(candidate, minutes):
    """How many updates a trial has, in whole hundreds."""
    rates = utils.read_table(FOLDER / f"{SPEEDS}.csv").set_index("candidate")["median"]
    return max(100, int(round(minutes * rates[candidate], -2)))


# Training and judging


def train(recipe, sets, seeds):
    """A GAN for each set of images and seed; with JAX, all of them as one program."""
    gans = [dcgan.make_gan(recipe, seed) for seed in seeds]
    if keras.backend.backend() == "jax":
        together.fit(gans, sets, seeds)
        return gans
    for gan, images, seed in zip(gans, sets, seeds, strict=True):
        with backend.feed(dcgan.make_batches(images, recipe, seed)) as fed:
            gan.fit(fed, steps_per_epoch=recipe.updates, verbose=0, shuffle=False)
    return gans


def run_trials(data, run_name, trials):
    """Train trials of one candidate and equally many updates, and judge them; returns their rows."""
    with backend.configured("auto", deterministic=True, threads=1):
        study = recall_study(data, run_name)
        change, recipe = CANDIDATES[trials[0].candidate]
        recipe = replace(recipe, updates=count_updates(trials[0].candidate, trials[0].minutes))
        images = [read_images(study, trial) for trial in trials]
        gans = train(recipe, [real for real, *_ in images], [trial.seed for trial in trials])
        rows, judges = [], {}
        for trial, gan, (real, known, held_out) in zip(trials, gans, images, strict=True):
            drawn = fakes.draw(gan.get_sampler(), fakes.draw_noise(range(NUM_JUDGED), recipe.latent_dim))
            show(run_name, trial, drawn)
            if trial.minority not in judges:
                judges[trial.minority] = Judges(study.load_baseline(), known, held_out)
            facts = {"change": change, "real_images": len(real), "updates": recipe.updates, "device": backend.device_name()}
            rows.append(vars(trial) | facts | judge_fakes(judges[trial.minority], drawn, real, held_out))
        return rows


class Judges(fidelity.Judge):
    """The package's judge, with the features that learned from photographs beside its own where they are installed."""

    def __init__(self, baseline, known, held_out):
        super().__init__(baseline, known, held_out)
        if imagenet.is_installed():
            space = fidelity.FeatureSpace(imagenet.ImageNetNetwork(), known)
            self.spaces.append(space)
            self.held_out[space.name] = space(held_out)


def judge_fakes(judges, drawn, training, held_out):
    """KID, precision, recall and coverage by every judge, how often a classifier tells fake from real, and copies of training images."""
    found = {}
    for space in judges.spaces:
        real, fake = judges.held_out[space.name], space(drawn)
        size = min(len(real), len(fake))
        some = memorisation.draw_at_most(real, size)  # from all over, since neighbouring files are often of one patient
        scores = fidelity.precision_recall_density_coverage(some, fake[:size])
        found[f"kid_{space.name}"] = fidelity.kernel_distance(real, fake)[0]
        found |= {f"{name}_{space.name}": scores[name] for name in ("precision", "recall", "coverage")}
    copies = memorisation.find_copies(drawn, training, held_out).summary
    found |= {"checkerboard": checkerboard(drawn), "copies": copies["copies"], "alarm": copies["alarm"]}
    return found | {"told_from_real": judges.tell_real_from_fake(drawn)["accuracy"]}


def checkerboard(images):
    """How unevenly fine detail lies on even and odd rows and columns (Odena et al. 2016): about 0 for real images, more where a network doubles pictures badly.

    Args:
        images: `uint8 (N, S, S, 1)`.

    Returns:
        the spread of the mean absolute difference between a pixel and its four neighbours over the four kinds of places, relative to its mean.
    """
    x = images[..., 0].astype(np.float64)
    around = (x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]) / 4
    detail = np.abs(x[:, 1:-1, 1:-1] - around)
    kinds = [detail[:, row::2, column::2].mean() for row in (0, 1) for column in (0, 1)]
    return float(np.std(kinds) / np.mean(kinds))


def judge_folder(data, run_name, trial, folder):
    """Rows of the fakes that another program left after so many CPU minutes: `minute_5.npz` with `images` and `updates`."""
    study = recall_study(data, run_name)
    real, known, held_out = read_images(study, trial)
    judges, rows = Judges(study.load_baseline(), known, held_out), []
    for file in folder.glob("minute_*.npz"):
        with np.load(file, allow_pickle=False) as opened:
            stored = dict(opened)
        trial = replace(trial, minutes=float(file.stem.removeprefix("minute_")))
        facts = {"change": f"another program: {trial.candidate}", "real_images": len(real), "updates": int(stored["updates"])}
        facts |= {"device": str(stored["device"])}
        rows.append(vars(trial) | facts | judge_fakes(judges, stored["images"], real, held_out))
        show(run_name, trial, stored["images"])
    return rows


def show(run_name, trial, drawn):
    utils.save_png(utils.image_grid(drawn[:32]), run.open_folders(run_name).images / "search" / f"{trial}.png")


# The table


def read_rows():
    """The trials that are finished, as a table."""
    file = FOLDER / "search.csv"
    return utils.read_table(file) if file.exists() else pd.DataFrame(columns=list(Trial.__annotations__))


def add_rows(rows):
    """Add trials to the table, in the place of earlier ones of that name."""
    new, names = pd.DataFrame(rows).round(4), list(Trial.__annotations__)
    known = read_rows()
    table = (pd.concat([known, new]) if len(known) else new).drop_duplicates(names, keep="last")
    table = table.sort_values(names)
    utils.write_table(table.assign(minutes=table["minutes"].map("{:g}".format)), FOLDER / "search.csv")
    print(new.T.to_string(header=False), flush=True)


def search(data, run_name, trials):
    """Every trial that isn't in the table yet: one a core, or with JAX those of a candidate and so many updates together."""
    known = {Trial(*row) for row in read_rows()[list(Trial.__annotations__)].itertuples(index=False)}
    trials = [trial for trial in trials if trial not in known]
    name = (lambda trial: (trial.candidate, trial.minutes)) if keras.backend.backend() == "jax" else str
    groups = [list(group) for _, group in itertools.groupby(sorted(trials, key=name), name)]
    jobs = [joblib.delayed(run_trials)(data, run_name, group) for group in groups]
    num_jobs = workers.count_local_jobs(recall_study(data, run_name))
    with processes.side_by_side():
        finished = joblib.Parallel(n_jobs=num_jobs, batch_size=1, pre_dispatch="all", return_as="generator_unordered")(jobs)
        for rows in utils.progress(finished, total=len(jobs), desc="trials", unit="job"):
            add_rows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--minorities", nargs="+", default=["COVID19"])
    parser.add_argument("--num-real", type=int, nargs="+", default=[0], help="images of the class; 0 for all")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--time", action="store_true", help="measure updates_a_minute.csv, and nothing else; with --only, add to it"
    )
    parser.add_argument("--save-images", type=Path)
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    if (options.save_images or options.judge) and max(map(len, (options.seeds, options.minorities, options.num_real))) > 1:
        parser.error("--save-images and --judge take one seed, one class and one number of images")
    sets = itertools.product(options.seeds, options.only, options.minorities, options.num_real)
    trials = [Trial(candidate, minority, count, options.minutes, seed) for seed, candidate, minority, count in sets]
    if options.time:
        publish_speeds(time_candidates(read_images(recall_study(options.data, options.run), trials[0])[0], options.only))
    elif options.save_images:
        images = read_images(recall_study(options.data, options.run), trials[0])[0]
        np.savez(options.save_images, images=images)
    elif options.judge:
        add_rows(judge_folder(options.data, options.run, replace(trials[0], candidate=FASTGAN), options.judge))
    else:
        search(options.data, options.run, trials)


if __name__ == "__main__":
    main()
