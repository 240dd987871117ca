"""The search for the GAN's recipe: one change at a time, at equal CPU time, on all or on few real images, with three judges.

python -m benchmarks.search --data DATA --run RUN --only today hinge --minority COVID19 --minutes 10 --seeds 0 1 2
python -m benchmarks.search --data DATA --run RUN --minority PNEUMONIA --num-real 25                 # every candidate, on 25 images
python -m benchmarks.search --data DATA --run RUN --minority COVID19 --save-images IMAGES.npz        # for benchmarks/torch_fastgan.py …
python -m benchmarks.search --data DATA --run RUN --minority COVID19 --seeds 0 --judge FOLDER        # … and its fakes, judged alike

RUN is a run whose notebook 1 is done: its split and its baseline judge. Validation images judge, test images are never seen. A trial is one
training on one core, as many updates as its CPU minutes allow; trials run side by side, those that are finished stay. Each is a row of
results/published/recipes/search.csv, and a grid of 32 fakes, none chosen, in images/RUN/search/. The columns *imagenet* are a judge that
chose nothing (imagenet.py).
"""

import argparse
import itertools
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

import utils
from benchmarks import imagenet, machine
from benchmarks.candidates import CANDIDATES
from xraygan import backend, disk, run
from xraygan.comparison.study import recall_study
from xraygan.data.dataset import Setting
from xraygan.gan import dcgan, fakes, fidelity

TABLE = disk.ROOT / "results" / "published" / "recipes" / "search.csv"
NUM_JUDGED = 512  # fakes of a trial
NUM_TIMED = 100  # updates, to know how many fit into a trial
FIRST = 20  # updates before those: they compile


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
    """The images that a GAN learns from, those that the judges know, and those that they judge by."""
    known, held_out = (study.dataset.select_class([trial.minority], part) for part in ("train", "validation"))
    if not trial.num_real:
        return known, known, held_out
    classes = (study.own.classes[0], trial.minority)
    parts = study.dataset.select_all(Setting(classes, trial.minority, trial.num_real), trial.seed)
    return parts["train"].images[parts["train"].labels == 1], known, held_out


def count_updates(recipe, real, minutes):
    """How many updates of a recipe fit into so many CPU minutes on this machine."""
    gan = dcgan.make_gan(recipe, 0)
    with backend.feed(dcgan.make_batches(real, recipe, 0)) as fed:
        times = machine.time_updates(gan, fed, steps_per_epoch=FIRST + NUM_TIMED)
    return round(60 * minutes / times["cpu_seconds"].tail(NUM_TIMED).mean())


def train(gan, real, seed):
    """All updates of a GAN's recipe; returns the CPU seconds that they took."""
    start = time.process_time()
    with backend.feed(dcgan.make_batches(real, gan.recipe, seed)) as fed:
        gan.fit(fed, steps_per_epoch=gan.recipe.updates, verbose=0, shuffle=False)
    return time.process_time() - start


def run_trial(data, run_name, trial):
    """Train and judge a trial; returns its row."""
    with backend.configured("auto", deterministic=True, threads=1):
        study = recall_study(data, run_name)
        real, known, held_out = read_images(study, trial)
        change, recipe = CANDIDATES[trial.candidate]
        recipe = replace(recipe, updates=count_updates(recipe, real, trial.minutes))
        gan = dcgan.make_gan(recipe, trial.seed)
        seconds = train(gan, real, trial.seed)
        drawn = fakes.draw(gan.get_sampler(), fakes.draw_noise(range(NUM_JUDGED), recipe.latent_dim))
        show(run_name, trial, drawn)
        facts = {"change": change, "real_images": len(real), "updates": recipe.updates, "cpu_minutes": seconds / 60}
        return vars(trial) | facts | judge_fakes(Judges(study, known, held_out), drawn)


class Judges(fidelity.Judge):
    """The package's judge, with the features that learned from photographs beside its own where they are installed."""

    def __init__(self, study, known, held_out):
        super().__init__(study.load_baseline(), known, held_out)
        if imagenet.is_installed():
            space = fidelity.FeatureSpace(imagenet.ImageNetNetwork(), known)
            self.spaces.append(space)
            self.held_out[space.name] = space(held_out)


def judge_fakes(judges, drawn):
    """KID, precision, recall and coverage by every judge, and how often a classifier tells fake from real."""
    found = {}
    for space in judges.spaces:
        real, fake = judges.held_out[space.name], space(drawn)
        size = min(len(real), len(fake))
        scores = fidelity.precision_recall_density_coverage(real[:size], fake[:size])
        found[f"kid_{space.name}"] = fidelity.kernel_distance(real, fake)[0]
        found |= {f"{name}_{space.name}": scores[name] for name in ("precision", "recall", "coverage")}
    return found | {"told_from_real": judges.tell_real_from_fake(drawn)["accuracy"]}


def judge_folder(data, run_name, trial, folder):
    """Rows of the fakes that another program left after so many CPU minutes: `minute_5.npz` with `images` and `updates`."""
    study = recall_study(data, run_name)
    _, known, held_out = read_images(study, trial)
    judges, rows = Judges(study, known, held_out), []
    for file in folder.glob("minute_*.npz"):
        stored, minutes = np.load(file, allow_pickle=False), float(file.stem.removeprefix("minute_"))
        facts = {"change": f"another program: {folder.name}", "real_images": len(known)}
        facts |= {"updates": int(stored["updates"]), "cpu_minutes": minutes}
        trial = replace(trial, minutes=minutes)
        rows.append(vars(trial) | facts | judge_fakes(judges, stored["images"]))
        show(run_name, trial, stored["images"])
    return rows


def show(run_name, trial, drawn):
    utils.save_png(utils.image_grid(drawn[:32]), run.open_folders(run_name).images / "search" / f"{trial}.png")


def read_rows():
    """The trials that are finished, as a table."""
    return utils.read_table(TABLE) if TABLE.exists() else pd.DataFrame(columns=list(Trial.__annotations__))


def add_rows(rows):
    """Add trials to the table, in the place of earlier ones of that name."""
    new, names = pd.DataFrame(rows).round(4), list(Trial.__annotations__)
    table = pd.concat([read_rows(), new]).drop_duplicates(names, keep="last")
    utils.write_table(table.sort_values(names), TABLE)
    print(new.T.to_string(header=False), flush=True)


def search(data, run_name, trials):
    """Every trial that isn't in the table yet, one a core."""
    known = {Trial(*row) for row in read_rows()[list(Trial.__annotations__)].itertuples(index=False)}
    jobs = [joblib.delayed(run_trial)(data, run_name, trial) for trial in trials if trial not in known]
    finished = joblib.Parallel(n_jobs=os.cpu_count(), batch_size=1, pre_dispatch="all", return_as="generator_unordered")(jobs)
    for row in utils.progress(finished, total=len(jobs), desc="trials", unit="trial"):
        add_rows([row])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--minority", default="COVID19")
    parser.add_argument("--num-real", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--save-images", type=Path)
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    trials = [
        Trial(candidate, options.minority, options.num_real, options.minutes, seed)
        for seed, candidate in itertools.product(options.seeds, options.only)
    ]
    if options.save_images:
        images = read_images(recall_study(options.data, options.run), trials[0])[0]
        np.savez(options.save_images, images=images)
    elif options.judge:
        trial = replace(trials[0], candidate=options.judge.name)
        add_rows(judge_folder(options.data, options.run, trial, options.judge))
    else:
        search(options.data, options.run, trials)


if __name__ == "__main__":
    main()
