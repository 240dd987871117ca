"""The second search for the recipe: one change at a time, judged as CPU minutes pass, on all or on few real images.

python -m benchmarks.search --data DATA --run RUN --minority COVID19 --seed 0 --updates 8000
python -m benchmarks.search --data DATA --run RUN --only cutout --minority PNEUMONIA --num-real 25 --updates 8000
python -m benchmarks.search --data DATA --run RUN --minority COVID19 --save-images IMAGES.npz    # for benchmarks/torch_fastgan.py …
python -m benchmarks.search --data DATA --run RUN --minority COVID19 --judge FOLDER              # … and its fakes, judged alike

RUN is a run whose notebook 1 is done: its split and its baseline judge. Validation images judge, test images are never seen. Each trial is a
few rows of results/published/recipes/second_search.csv, and a grid of 32 fakes, none chosen, in images/RUN/search/.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import utils
from benchmarks.recipes import NUM_JUDGED, SECOND_WINNER, TRIALS, VARIANTS
from xraygan import backend, run
from xraygan.comparison.study import recall_study
from xraygan.data.dataset import Setting
from xraygan.gan import dcgan, fakes, fidelity
from xraygan.gan.recipe import Recipe

TABLE = TRIALS / "second_search.csv"
MOMENTS = (0.25, 0.5, 0.75, 1.0)  # shares of a training after which its fakes are judged


@dataclass(frozen=True)
class Trial:
    """What is trained: a variant of `recipes.VARIANTS` on so many real images (0: all) of a class."""

    variant: str
    minority: str
    num_real: int
    seed: int

    def __str__(self):
        return f"{self.variant}-{self.minority}-{self.num_real or 'all'}-{self.seed}"


def read_images(study, trial):
    """The images that a GAN learns from, those that the judge knows, and those that it judges by."""
    known, held_out = (study.dataset.select_class([trial.minority], part) for part in ("train", "validation"))
    if not trial.num_real:
        return known, known, held_out
    classes = (study.own.classes[0], trial.minority)
    parts = study.dataset.select_all(Setting(classes, trial.minority, trial.num_real), trial.seed)
    return parts["train"].images[parts["train"].labels == 1], known, held_out


def run_trial(study, trial, recipe):
    """Train and judge: a row a moment."""
    real, known, held_out = read_images(study, trial)
    judge = fidelity.Judge(study.load_baseline(), known, held_out)
    gan = dcgan.make_gan(recipe, trial.seed)
    noise = fakes.draw_noise(range(NUM_JUDGED), recipe.latent_dim)
    rows, done, used = [], 0, 0.0
    for moment in MOMENTS:
        batches = dcgan.make_batches(real, recipe, trial.seed, done)
        start, updates = time.process_time(), round(moment * recipe.updates) - done
        with backend.feed(batches) as fed:
            gan.fit(fed, steps_per_epoch=updates, verbose=0, shuffle=False)
        done, used = done + updates, used + time.process_time() - start
        drawn = fakes.draw(gan.get_sampler(), noise)
        facts = vars(trial) | {"real_images": len(real), "updates": recipe.updates, "update": done, "cpu_minutes": used / 60}
        rows.append(facts | judge_fakes(judge, drawn))
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)
        show(study, trial, drawn)
    add_rows(rows)


def judge_fakes(judge, drawn):
    """Distances, precision and recall in both spaces, and how often a classifier tells fake from real."""
    found = judge.distances(drawn)
    for space in judge.spaces:
        real, fake = judge.held_out[space.name], space(drawn)
        size = min(len(real), len(fake))
        scores = fidelity.precision_recall_density_coverage(real[:size], fake[:size])
        found |= {f"{name}_{space.name}": scores[name] for name in ("precision", "recall")}
    return found | {"told_from_real": judge.tell_real_from_fake(drawn)["accuracy"]}


def judge_folder(study, trial, folder):
    """The fakes that another program left after so many CPU minutes: `minute_5.npz` with `images` and `updates`."""
    _, known, held_out = read_images(study, trial)
    judge, rows = fidelity.Judge(study.load_baseline(), known, held_out), []
    for file in sorted(folder.glob("minute_*.npz"), key=lambda file: float(file.stem.removeprefix("minute_"))):
        stored = np.load(file, allow_pickle=False)
        facts = {"update": int(stored["updates"]), "cpu_minutes": float(file.stem.removeprefix("minute_"))}
        rows.append(vars(trial) | {"real_images": len(known)} | facts | judge_fakes(judge, stored["images"]))
    show(study, trial, stored["images"])
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    add_rows([row | {"updates": rows[-1]["update"]} for row in rows])


def show(study, trial, drawn):
    utils.save_png(utils.image_grid(drawn[:32]), run.open_folders(study.run).images / "search" / f"{trial}.png")


def add_rows(rows):
    """Add a trial to the table, in the place of an earlier one of that name and length."""
    new = pd.DataFrame(rows).round(4)
    if TABLE.exists():
        old = utils.read_table(TABLE)
        same = ["variant", "minority", "num_real", "seed", "updates"]
        again = old[same].astype(str).agg("-".join, axis=1).isin(new[same].astype(str).agg("-".join, axis=1))
        new = pd.concat([old[~again], new])
    utils.write_table(new.sort_values(["minority", "num_real", "variant", "seed", "updates", "update"]), TABLE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--only", choices=VARIANTS, default=SECOND_WINNER)
    parser.add_argument("--minority", default="COVID19")
    parser.add_argument("--num-real", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=Recipe.updates)
    parser.add_argument("--save-images", type=Path)
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    backend.configure(threads=1)
    study = recall_study(options.data, options.run)
    trial = Trial(options.only, options.minority, options.num_real, options.seed)
    if options.save_images:
        np.savez(options.save_images, images=read_images(study, trial)[0])
    elif options.judge:
        judge_folder(study, replace(trial, variant=options.judge.name), options.judge)
    else:
        run_trial(study, trial, replace(VARIANTS[options.only].recipe, updates=options.updates))


if __name__ == "__main__":
    main()
