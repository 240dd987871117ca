"""The controlled comparison: every arm with every seed, each a unit that is trained once, written when finished, never redone.

A unit is known by its parameters: change one, and it is another unit. A study that was cut off goes on where it was when it is
run again. Units run side by side on the local cores, or on the workers of a Dask cluster that see the same folders.
"""

import contextlib
import functools
import hashlib
import io
import json
import shutil
import time
import warnings
from dataclasses import asdict, dataclass, replace

import joblib
import numpy as np
import pandas as pd

import utils
from xraygan import arms, backend, classifier, dcgan, disk, fakes, fidelity, record, runs, settings, split, statistics

MEMORY_OF_A_UNIT = 2.5e9  # bytes
FAKE_COUNTS = (100, 250, 500, 2000)  # numbers of fakes that a sweep tries beside the profile's
REAL_COUNTS = (115, 25)  # numbers of real training images that a sweep thins a class to
SWEEP_ARMS, SWEEP_SEEDS = ("nothing", "oversampling", "classical", "gan"), 3


@dataclass(frozen=True)
class Setting:
    """Which classes are told apart, and how many real images of the minority class there are.

    Attributes:
        classes: class names.
        minority: the class that is augmented.
        num_real: training images of the minority class that are used; 0 for all.
        with_leaks: whether training images with a twin in test, which notebook 1 left out, are used after all.
    """

    classes: tuple
    minority: str
    num_real: int = 0
    with_leaks: bool = False

    @property
    def name(self):
        name = f"{self.minority}-{self.num_real}" if self.num_real else f"{len(self.classes)}-classes"
        return f"{name}-with-leaks" if self.with_leaks else name


@dataclass(frozen=True)
class Unit:
    """One arm, one seed, one number of extra images, in one setting."""

    setting: Setting
    arm: str
    seed: int
    num_extra: int


@dataclass(frozen=True)
class Study:
    """What all units of a run share; small, so that it can be sent to a worker.

    Attributes:
        data: folder of the images.
        store: the folder that holds models/, images/, results/ and data/.
        run: name of the run whose notebook 1 made the split.
        profile: `settings.Profile`.
        recipe: the GAN's, a key of `dcgan.RECIPES`.
        precision: "float32" or "mixed_bfloat16".
        threads: processor threads a unit uses; its last digits depend on it.
    """

    data: str
    store: str
    run: str
    profile: settings.Profile
    recipe: str
    precision: str
    threads: int = 1

    @property
    def folders(self):
        return utils.run_folders(self.run, self.store)


def of_run(run):
    """The study that a run's record tells of: its profile, precision and recipe as they were."""
    notes = run.notes
    profile = {name: value for name, value in notes["profile"].items() if name != "name"}
    profile = settings.Profile(**profile | {"arms": tuple(profile["arms"])})
    recipe = record.read_json(run.folders.results / "gan" / "judgement.json")["recipe"]
    return Study(str(run.source.root), str(disk.STORE), run.folders.run, profile, recipe, notes["machine"]["precision"])


# The plan


def plan(setting, arm_names, seeds, num_extra):
    """The units of some arms and seeds in one setting."""
    return [Unit(setting, arm, seed, num_extra) for seed in seeds for arm in arm_names]


def settings_of(notes):
    """The settings of a run: its own classes, and those with the further ones where there are any."""
    own = Setting(tuple(notes["classes"]), notes["minority"])
    return [own, replace(own, classes=own.classes + tuple(notes["also"]))] if notes["also"] else [own]


def seeds_of(notes, count):
    """`count` seeds, the run's own first."""
    return range(notes["seed"], notes["seed"] + count)


def main_units(notes, profile):
    """The units of the comparison: every setting, arm and seed."""
    seeds = seeds_of(notes, profile.num_seeds)
    return [unit for setting in settings_of(notes) for unit in plan(setting, profile.arms, seeds, profile.num_fakes)]


def leak_units(notes, profile):
    """The units that show what leaks are worth: nothing added, in the run's classes, with the leaks that notebook 1 left out."""
    if split.LEAK not in notes["data"]["counts"]:
        return []
    leaky = replace(settings_of(notes)[0], with_leaks=True)
    return plan(leaky, ["nothing"], seeds_of(notes, profile.num_seeds), profile.num_fakes)


def sweep_units(notes, profile):
    """The units of both sweeps, {what is swept: units}: they show a tendency and make no claim.

    Fakes are swept in the setting with most classes. Real images are thinned in the first of the further classes, told from the
    majority alone (on the Kaggle set these two come from one hospital), or in the minority class where there's no further one.
    """
    seeds = seeds_of(notes, min(SWEEP_SEEDS, profile.num_seeds))
    largest = settings_of(notes)[-1]
    counts = sorted({*FAKE_COUNTS, profile.num_fakes})
    by_fakes = [unit for count in counts for unit in plan(largest, ["gan"], seeds, count)]
    by_fakes += plan(largest, ["nothing"], seeds, profile.num_fakes)
    thinned = notes["also"][0] if notes["also"] else notes["minority"]
    others = tuple(name for name in notes["classes"] if name != notes["minority"])
    by_real = [
        unit
        for count in REAL_COUNTS
        for unit in plan(Setting((*others, thinned), thinned, count), SWEEP_ARMS, seeds, profile.num_fakes)
    ]
    return {"number of fakes": by_fakes, "number of real images": by_real}


def parameters(study, unit):
    """All that decides a unit's result, as JSON takes it."""
    notes = record.read_record(study.folders)
    split_file = study.folders.results / "split.csv"
    profile = study.profile
    found = asdict(unit) | {
        "data": notes["data"]["fingerprint"],
        "split": hashlib.sha256(split_file.read_bytes()).hexdigest()[:16],
        "precision": study.precision,
        "classifier": [profile.classifier_epochs, profile.classifier_updates, profile.classifier_patience],
    }
    if arms.needs_fakes(unit.arm):
        found["gan"] = [study.recipe, profile.gan_epochs, profile.gan_sample_every]
    return json.loads(json.dumps(found))


def unit_file(study, unit):
    """The JSON whose presence says that a unit is finished; its predictions stand beside it as CSV."""
    key = hashlib.sha256(json.dumps(parameters(study, unit), sort_keys=True).encode()).hexdigest()[:8]
    return study.folders.results / "units" / unit.setting.name / f"{unit.arm}-{unit.num_extra}-{unit.seed}-{key}.json"


def is_finished(study, unit):
    return unit_file(study, unit).exists()


# Running it


def run(study, units, scheduler=""):
    """Train what isn't trained yet.

    Args:
        study: `Study`.
        units: list of `Unit`.
        scheduler: address of a Dask scheduler, "tcp://…", whose workers see the same folders; "" for the local cores.

    Returns:
        `arms_table` of the units.

    Raises:
        RuntimeError: another process is at this run's units.
    """
    with disk.held(study.folders.results / "units"):
        _train_missing(study, units, scheduler)
    return arms_table(study, units)


def _train_missing(study, units, scheduler):
    """In rounds of as many seeds as there are workers, so that a study that is cut off has finished seeds rather than GANs of all."""
    missing = [unit for unit in units if not is_finished(study, unit)]
    if not missing:
        return
    seeds = sorted({unit.seed for unit in missing})
    at_once = len(seeds) if scheduler else _num_local_jobs(study.threads)
    rounds = [seeds[start : start + at_once] for start in range(0, len(seeds), at_once)]
    steps = [step for some in rounds for step in _steps([unit for unit in missing if unit.seed in some])]
    with utils.progress(total=sum(map(len, steps)), desc="the comparison", unit="training") as bar:
        for jobs in steps:
            _in_parallel(study, jobs, bar, scheduler)


def _steps(units):
    """Two lists of (function, unit): GANs, with arms without fakes to fill the cores that the last GANs leave idle; then the other arms."""
    gans = {}
    for unit in units:
        if arms.needs_fakes(unit.arm):
            key = replace(unit.setting, classes=()), unit.seed  # settings that share the minority's images share its GANs
            gans[key] = max(unit, gans.get(key, unit), key=lambda unit: unit.num_extra)
    free, others = ([unit for unit in units if arms.needs_fakes(unit.arm) == needed] for needed in (False, True))
    return [
        [(ensure_fakes, unit) for unit in gans.values()] + [(train_unit, unit) for unit in free],
        [(train_unit, unit) for unit in others],
    ]


def _in_parallel(study, jobs, bar, scheduler):
    """Run (function, unit) pairs, in any order; each moves the bar on by one."""
    if not jobs:
        return
    calls = [joblib.delayed(_in_worker)(function, study, unit) for function, unit in jobs]
    with _workers(study, scheduler) as num_jobs, warnings.catch_warnings():
        # TensorFlow's caches look like a leak to joblib, which then starts a fresh process: nothing is lost.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        for _ in joblib.Parallel(num_jobs, return_as="generator_unordered")(calls):
            bar.update()


class _workers:
    """Where units run: the context gives the number of jobs that joblib starts."""

    def __init__(self, study, scheduler):
        self.study, self.scheduler = study, scheduler

    def __enter__(self):
        if not self.scheduler:
            return _num_local_jobs(self.study.threads)
        from dask.distributed import Client  # here, since most never need a cluster

        self.client = Client(self.scheduler)
        if set(self.client.nthreads().values()) - {1}:
            self.client.close()
            raise ValueError(
                "SCHEDULER has workers of several threads, and TensorFlow's settings hold for a process: start them with --nthreads 1."
            )
        self.configuration = joblib.parallel_config(backend="dask")
        self.configuration.__enter__()
        return -1

    def __exit__(self, *error):
        if self.scheduler:
            self.configuration.__exit__(*error)
            self.client.close()


def _num_local_jobs(threads):
    """As many as cores and memory allow; one where a GPU does the work."""
    if backend.has_gpu():
        return 1
    return max(1, min(joblib.cpu_count() // threads, int(backend.memory() / MEMORY_OF_A_UNIT)))


def _in_worker(function, study, unit):
    """Configure the process, then do the unit there, without bars and notices: several would write over each other."""
    with contextlib.redirect_stdout(io.StringIO()), backend.quiet_stderr():
        backend.configure(study.precision, threads=study.threads)
        function(study, unit)
        backend.forget_models()


# A unit's images


@functools.lru_cache(maxsize=1)
def _open_run(data, folders, fingerprint):  # a worker that lives long must notice when these are other images
    return runs.open_run(data, folders)


def images_of(study, setting, seed):
    """The images of a setting by part, thinned where it says so.

    A thinned setting keeps `num_real` training images of the minority class and as large a share of its validation images, other
    ones for each seed.

    Returns:
        `sources.Source`, and {part: (images `uint8 (N, 128, 128, 1)`, labels `int (N,)`, files)} of train, validation and test.
    """
    everything = _open_run(study.data, study.folders, record.read_record(study.folders)["data"]["fingerprint"]).everything
    table = split.read_split(study.folders)
    if setting.with_leaks:
        table["part"] = table["part"].replace(split.LEAK, "train")
    images = everything.of(setting.classes, setting.minority)
    rng = np.random.default_rng([seed, setting.num_real])
    share = 1.0
    found = {}
    for part in ("train", "validation", "test"):
        here = table[(table["part"] == part) & table["class"].isin(setting.classes)]
        if setting.num_real and part != "test":
            members = here.index[here["class"] == setting.minority]
            count = setting.num_real if part == "train" else round(share * len(members))
            share = count / len(members)
            here = here.drop(rng.permutation(members)[count:])
        rows = images.rows(here["file"])
        found[part] = images.images[rows], images.labels[rows], here["file"].to_numpy()
    return images.source, found


def _minority_images(source, part):
    images, labels, _ = part
    return images[labels == source.classes.index(source.minority)]


# GANs


def gan_folders(study, setting, seed):
    """The folders of the GAN that draws the fakes of a setting and seed."""
    return study.folders.below(f"gans/{setting.minority}-{setting.num_real or 'all'}-{seed}")


def is_of_notebook_2(study, setting, seed):
    """Whether that GAN is the one of notebook 2, which isn't trained a second time."""
    notes = record.read_record(study.folders)
    return seed == notes["seed"] and setting.minority == notes["minority"] and not setting.num_real


def ensure_fakes(study, unit):
    """Train the GAN of a unit's setting and seed, if it isn't, and write its fakes."""
    setting, seed, folders = unit.setting, unit.seed, gan_folders(study, unit.setting, unit.seed)
    if is_of_notebook_2(study, setting, seed):
        generator = dcgan.load_generator(study.folders, study.recipe)
    else:
        source, parts = images_of(study, setting, seed)
        real, validation = (_minority_images(source, parts[part]) for part in ("train", "validation"))
        judge = fidelity.make_judge(classifier.load_baseline(study.folders), real, validation)
        profile = study.profile
        generator, _, _ = dcgan.train_gan(
            real, study.recipe, profile.gan_epochs, profile.gan_sample_every, seed, folders, judge
        )
    manifest = folders.generated / "manifest.csv"
    count = max(unit.num_extra, len(pd.read_csv(manifest)) if manifest.exists() else 0)  # the first ones are the same
    fakes.write_fakes(generator, folders.generated, setting.minority, count, first_seed=0)


def fakes_of(study, unit, scheduler=""):
    """The fakes that a unit adds, `uint8 (N, 128, 128, 1)`; its GAN is trained first where only its results were taken over."""
    folder = gan_folders(study, unit.setting, unit.seed).generated
    if not (folder / "manifest.csv").exists():
        with utils.progress(total=1, desc="a GAN again", unit="training") as bar:
            _in_parallel(study, [(ensure_fakes, unit)], bar, scheduler)
    return fakes.read_fakes(folder, unit.setting.minority)[0]


# Classifiers


def train_unit(study, unit):
    """Train one arm with one seed, predict the test images, write both files of the unit."""
    start = time.perf_counter()
    source, parts = images_of(study, unit.setting, unit.seed)
    images, labels, _ = parts["train"]
    label = source.classes.index(source.minority)
    drawn = None
    if arms.needs_fakes(unit.arm):
        drawn = fakes.read_fakes(gan_folders(study, unit.setting, unit.seed).generated, source.minority)[0]
    extra = arms.extra_images(unit.arm, _minority_images(source, parts["train"]), unit.num_extra, drawn, unit.seed)
    counts, num_real = np.bincount(labels, minlength=len(source.classes)), len(images)
    if not arms.keeps_real(unit.arm):
        images, labels = images[labels != label], labels[labels != label]
    file = unit_file(study, unit)
    state_folder = study.folders.models / "units" / unit.setting.name / file.stem
    model, history = classifier.train_classifier(
        np.concatenate([images, extra]),
        np.concatenate([labels, np.full(len(extra), label)]),
        parts["validation"][:2],
        source,
        study.profile,
        seed=unit.seed,
        num_real_images=num_real,
        state_folder=state_folder,
        history_file=state_folder / "history.csv",
        description=file.stem,
        weights=arms.class_weights(unit.arm, counts, label, unit.num_extra),
    )
    test_images, test_labels, files = parts["test"]
    predictions = classifier.predictions_table(files, test_labels, classifier.predict(model, test_images), source)
    facts = {"real_images": num_real, "real_minority": int(counts[label]), "extra_images": len(extra)}
    cost = {"seconds": round(time.perf_counter() - start, 1), "threads": backend.num_threads()}
    write_unit(study, unit, predictions, history, facts | cost)
    shutil.rmtree(state_folder)


def write_unit(study, unit, predictions, history, facts):
    """Write a finished unit: its predictions, then what it was trained on and what it scored.

    Args:
        facts: real_images, real_minority, extra_images, seconds, threads.
    """
    file = unit_file(study, unit)
    utils.write_table(predictions, file.with_suffix(".csv"))
    an_epoch = classifier.updates_per_epoch(facts["real_images"])
    updates = {
        "updates_per_epoch": an_epoch,
        "updates": an_epoch * len(history),
        "best_update": an_epoch * (int(history["val_loss"].to_numpy().argmin()) + 1),
    }
    metrics = statistics.compute_metrics(predictions, unit.setting.classes, unit.setting.minority)
    device = {"device": backend.device_name()}
    record.write_json(file, {"parameters": parameters(study, unit)} | facts | updates | {"metrics": metrics} | device)


def adopt(study, setting, num_extra):
    """Take what notebooks 1 and 3 trained as units "nothing" and "gan" of the first seed: trained once, used here too."""
    notes = record.read_record(study.folders)
    counts = {name: int(notes["data"]["counts"]["train"][name]) for name in setting.classes}
    facts = {"real_images": sum(counts.values()), "real_minority": counts[setting.minority]}
    for arm, part, extra in (("nothing", "before_gan", 0), ("gan", "after_gan", num_extra)):
        unit = Unit(setting, arm, notes["seed"], num_extra)
        folder = study.folders.results / part
        if not is_finished(study, unit) and (folder / "predictions.csv").exists():
            history, predictions = pd.read_csv(folder / "history.csv"), read_predictions(folder / "predictions.csv")
            cost = {"seconds": notes["parts"][part]["seconds"], "threads": notes["machine"]["threads"]}
            write_unit(study, unit, predictions, history, facts | {"extra_images": extra} | cost)


# Reading it


def read_predictions(file):
    columns = {"file": str, "label": str, "prediction": str}
    return pd.read_csv(file, dtype=columns, keep_default_na=False)  # a class may be called None


def predictions_of(study, unit):
    """The prediction table of a finished unit."""
    return read_predictions(unit_file(study, unit).with_suffix(".csv"))


def answers_of(study, units, test_files=None, group_of=None):
    """Which test images the models of finished units get right.

    Args:
        study: `Study`.
        units: list of `Unit` of one setting.
        test_files: the test images to judge by; None takes all.
        group_of: Series of each file's group; None takes those that notebook 1 found.

    Returns:
        `bool (units, images)`, the images' classes `(images,)`, and the group of each `(images,)`.
    """
    tables = [predictions_of(study, unit) for unit in units]
    if test_files is not None:
        tables = [table[table["file"].isin(test_files)] for table in tables]
    if group_of is None:
        group_of = split.read_split(study.folders).set_index("file")["group"]
    right = np.array([table["label"] == table["prediction"] for table in tables])
    return right, tables[0]["label"].to_numpy(), group_of[tables[0]["file"]].to_numpy()


def arms_table(study, units):
    """One row a finished unit: what it was trained on, how long, and every metric."""
    rows = []
    for unit in units:
        file = unit_file(study, unit)
        if file.exists():
            content = record.read_json(file)
            metrics = content.pop("metrics")
            del content["parameters"]
            name = {"setting": unit.setting.name, "arm": unit.arm, "seed": unit.seed, "num_extra": unit.num_extra}
            rows.append(name | content | metrics)
    return pd.DataFrame(rows)


def leak_effect(study, units):
    """The balanced accuracy of finished units by setting, on all test images and on those without a twin in the train folder.

    Returns:
        DataFrame: setting, test_images ("all", "without a twin"), number, balanced_accuracy (mean of the seeds).
    """
    unseen = set(split.unseen_test_files(split.read_split(study.folders)))
    rows = []
    for setting in dict.fromkeys(unit.setting for unit in units):
        tables = [predictions_of(study, unit) for unit in units if unit.setting == setting]
        kinds = {"all": tables, "without a twin": [table[table["file"].isin(unseen)] for table in tables]}
        for kind, here in kinds.items():
            metrics = [statistics.compute_metrics(table, setting.classes, setting.minority) for table in here]
            mean = pd.Series([values["balanced_accuracy"] for values in metrics], dtype=float).mean()  # undefined: left empty
            rows.append({"setting": setting.name, "test_images": kind, "number": len(here[0]), "balanced_accuracy": mean})
    return pd.DataFrame(rows)


def compare(study, units, test_files=None, group_of=None):
    """`statistics.verdict` of the finished units, settings with most classes last; arms that lack a seed are left out.

    Args:
        study: `Study`.
        units: list of `Unit`.
        test_files, group_of: as in `answers_of`.

    Returns:
        the verdict, a DataFrame; a setting is left out if `test_files` holds fewer than two images, or groups of them, of one of its classes.
    """
    right, labels, groups = {}, {}, {}
    for setting in sorted({unit.setting for unit in units}, key=lambda setting: len(setting.classes)):
        here = [unit for unit in units if unit.setting == setting]
        seeds = sorted({unit.seed for unit in here})
        right[setting.name] = {}
        for arm in dict.fromkeys(unit.arm for unit in here):
            finished = [unit for unit in here if unit.arm == arm and is_finished(study, unit)]
            if len(finished) == len(seeds):
                right[setting.name][arm], labels[setting.name], groups[setting.name] = answers_of(
                    study, finished, test_files, group_of
                )
        if test_files is not None and _fewest_groups(setting, labels[setting.name], groups[setting.name]) < 2:
            del right[setting.name]
    return statistics.verdict(right, labels, groups)


def _fewest_groups(setting, labels, groups):
    """How many groups of images the class has that has fewest."""
    return pd.Series(groups).groupby(labels).nunique().reindex(setting.classes, fill_value=0).min()
