"""One training: images of a setting → train → predict → score → write. Baseline, after the GAN, arms and sweeps are all this call.

A unit is known by its key, a hash of everything that decides its numbers: change one, and it is another unit. It is trained once and
its files say that it is finished; a study that was cut off goes on where it was. A unit whose files aren't as it wrote them isn't
finished.
"""

import shutil
import time
from dataclasses import asdict, dataclass
from typing import NamedTuple

import pandas as pd

import utils
from xraygan import backend, disk, keys, run, training
from xraygan.comparison import arms, gans, metrics
from xraygan.comparison.classifier import predict, read_predictions, tabulate_predictions, train_classifier
from xraygan.data import dataset, sources
from xraygan.gan import dcgan

MADE_IN = {"before_gan": run.NOTEBOOK_1, "after_gan": run.NOTEBOOK_3}  # a kept model's notebook


@dataclass(frozen=True)
class Unit:
    """One arm, one seed, one number of extra images, in one setting."""

    setting: dataset.Setting
    arm: str
    seed: int
    num_extra: int


class Files(NamedTuple):
    """The files of a unit. The first is written last: its presence says that the unit is finished."""

    facts: disk.Path
    predictions: disk.Path
    history: disk.Path


def describe_unit(study, unit):
    """All that decides a unit's numbers, as JSON takes it; its digest is the unit's key."""
    record, arm = study.record, arms.choose_arm(unit.arm)
    code = [
        dataset.Dataset.select_all,
        sources.ImageSet.choose,
        sources.ImageSet.find_rows,
        arms.rebalance,
        tabulate_predictions,
    ]
    split_file = study.folders.results / run.SPLIT
    description = asdict(unit) | {
        "arm": arm.describe(),
        "num_extra": _count_extra(unit),
        "classifier": study.classifier.describe(len(unit.setting.classes)),
        "precision": study.precision,
        "data": record["data"]["fingerprint"],
        "split": disk.hash_file(split_file)[:16],
        "code": keys.describe(code),
    }
    if arm.needs_fakes and study.imported:
        description["gan"] = {"imported": study.imported.choose_digest(unit.seed - study.seed)}
    elif arm.needs_fakes:
        description["gan"] = study.recipe.describe() | {"code": keys.describe(dcgan.CODE)}
        if not unit.setting.num_real:  # the baseline chooses the GAN's epoch
            baseline = Unit(dataset.list_settings(record)[0], "nothing", record["seed"], 0)
            description["gan"]["judge"] = find_key(study, baseline)
    return description


def _count_extra(unit):
    """How many images a unit's arm adds, or weighs as if it added them."""
    arm = arms.choose_arm(unit.arm)
    return unit.num_extra if arm.adds or arm.weighs else 0


def find_key(study, unit):
    """The hash of all that decides a unit's numbers."""
    return keys.digest(describe_unit(study, unit))


def find_files(study, unit):
    """Where a unit's files are or will be: `Files`."""
    folder = study.folders.results / "units" / unit.setting.name
    name = f"{unit.arm}-{_count_extra(unit)}-{unit.seed}-{find_key(study, unit)}"
    return Files(folder / f"{name}.json", folder / f"{name}.csv", folder / f"{name}.history.csv")


def is_finished(study, unit):
    """Whether a unit is trained and its files are as its training wrote them."""
    files = find_files(study, unit)
    return files.facts.exists() and not _say_why_not(study, unit, files)


def list_missing(study, wanted):
    """The units that aren't finished."""
    return [unit for unit in wanted if not is_finished(study, unit)]


def say_changed(study, missing):
    """Print a sentence where unfinished units were finished once: their files were changed since."""
    changed = [(unit, files) for unit in missing if (files := find_files(study, unit)).facts.exists()]
    if changed:
        others = f", and so are {len(changed) - 1} others" if changed[1:] else ""
        print(f"{_say_why_not(study, *changed[0])}: that training is done again{others}.")


def _say_why_not(study, unit, files):
    """Why a unit whose facts are there isn't finished, in words; "" where it is."""
    if change := describe_change(files):
        return change
    trained_on = disk.read_json(files.facts).get("fakes")
    if trained_on and gans.hash_fakes(study, unit) not in (trained_on, ""):
        return f"{disk.display_path(files.facts)} is of other fakes than there are now"
    return ""


def describe_change(files):
    """What of a unit's `Files` isn't as its training wrote it, in words; "" where all of them are."""
    try:
        facts = disk.read_json(files.facts)
    except disk.DamagedError:
        return f"{disk.display_path(files.facts)} is damaged"
    described = {name: value for name, value in facts.get("parameters", {}).items() if name != "arm_name"}
    if not files.facts.stem.endswith(f"-{keys.digest(described)}"):
        return f"{disk.display_path(files.facts)} is of another training"
    hashes = hash_tables(files)
    for name, known in facts.get("files", hashes).items():  # earlier versions noted none
        if hashes[name] != known or not known:
            return f"{disk.display_path(getattr(files, name))} is gone or was changed"
    return ""


def restore_published(study, wanted):
    """Copy finished trainings that are published under a run's name into the run: a study goes on in another clone.

    The name of a training's file holds a hash of everything that decides its numbers, so one of another study is never taken.

    Args:
        study: `study.Study`.
        wanted: list of `Unit`.

    Returns:
        how many were copied; a sentence says so.
    """
    source, taken = run.PUBLISHED / study.folders.run, 0
    for unit in list_missing(study, wanted) if source.is_dir() else []:
        target = find_files(study, unit)
        published = Files(*[source / file.relative_to(study.folders.results) for file in target])
        if all(file.exists() for file in published) and not describe_change(published):
            disk.copy_files(published[1:], source, study.folders.results)
            # The facts last: they say that a training is finished. Its fakes aren't here, so it can't be compared with any.
            disk.write_json(target.facts, disk.read_json(published.facts) | {"fakes": None, "files": hash_tables(target)})
            taken += 1
    if taken:
        print(f"{taken} trainings of the published study of this name are taken over.")
    return taken


def hash_tables(files):
    """The hashes of a unit's tables, by their names in `Files`."""
    return {name: disk.hash_file(getattr(files, name)) for name in ("predictions", "history")}


def train_unit(study, unit, keep_as="", description=""):
    """Train one arm with one seed, predict the test images, write the unit's files.

    Args:
        study: `study.Study`.
        unit: `Unit`; the fakes that it needs are there.
        keep_as: the name that the model is saved under in models/RUN/; "" keeps the predictions alone.
        description: of the progress bar.
    """
    start = time.perf_counter()
    files, state_folder = find_files(study, unit), _find_state(study, unit)
    parts = study.dataset.select_all(unit.setting, unit.seed)
    made = gans.read_fakes(study, unit.setting, unit.seed) if arms.choose_arm(unit.arm).needs_fakes else None
    images = arms.rebalance(unit.arm, unit.setting, parts, unit.num_extra, made, unit.seed)

    model, history = train_classifier(
        study.classifier, unit.setting, images, parts["validation"], unit.seed, state_folder, description or files.facts.stem
    )
    outputs = predict(model, parts["test"].images)
    predictions = tabulate_predictions(parts["test"].files, parts["test"].labels, outputs, unit.setting, images.shares)

    if keep_as:
        run.save_model(model, study.folders, keep_as, unit=find_key(study, unit))
    utils.write_table(history, files.history)
    utils.write_table(predictions, files.predictions)
    updates = study.classifier.count_updates(images.num_real)
    facts = {
        "parameters": describe_unit(study, unit) | {"arm_name": unit.arm},
        "files": hash_tables(files),
        "fakes": None if made is None else gans.hash_fakes(study, unit),
        "model": disk.hash_file(_name_model(study, keep_as)) if keep_as else None,
        "real_images": images.num_real,
        "real_minority": images.num_real_minority,
        "extra_images": len(images.images) - images.num_real if arms.choose_arm(unit.arm).keeps_real else unit.num_extra,
        "training_shares": images.shares.tolist(),
        "updates_per_epoch": updates,
        "updates": updates * len(history),
        "best_update": updates * training.find_best_epoch(history.to_dict("records"), "val_loss"),
        "metrics": metrics.compute_metrics(predictions, unit.setting.classes, unit.setting.minority),
        "seconds": round(time.perf_counter() - start, 1),
        "threads": backend.num_threads(),
        "device": backend.device_name(),
        "deterministic": study.deterministic and not backend.lost_determinism(),
    }
    disk.write_json(files.facts, facts)
    shutil.rmtree(state_folder)


def drop_states(study, finished):
    """Delete the training states of finished units, some 40 MB each, that were left by a process that was killed just then."""
    for unit in finished:
        shutil.rmtree(_find_state(study, unit), ignore_errors=True)


def _find_state(study, unit):
    """The folder that a unit's training keeps its state in until it's finished."""
    return study.folders.models / "units" / unit.setting.name / find_files(study, unit).facts.stem


class Trained(NamedTuple):
    """A finished unit whose model is kept: the model, the class shares that it was trained on, its history, predictions and metrics."""

    model: object
    shares: list
    history: pd.DataFrame
    predictions: pd.DataFrame
    metrics: dict


def train_and_keep(study, unit, name, description):
    """Train a unit in this process, if it isn't trained, and keep its model as `models/RUN/NAME.keras`: `Trained`.

    Args:
        study: `study.Study`.
        unit: `Unit`.
        name: a key of `MADE_IN`.
        description: of the progress bar.
    """
    files = find_files(study, unit)
    with disk.held(files.facts.parent.parent), run.measured(study.folders, name):
        missing = list_missing(study, [unit])
        say_changed(study, missing)
        if missing or not _has_its_model(study, unit, name):
            train_unit(study, unit, name, description)
    model = run.load_weights(study.classifier.build(len(unit.setting.classes)), study.folders, name, MADE_IN[name])
    shares = disk.read_json(files.facts)["training_shares"]
    return Trained(model, shares, utils.read_table(files.history), *read_results(files, unit.setting))


def _has_its_model(study, unit, name):
    """Whether the model saved under a name is the unit's: with another profile the same name was another unit."""
    path = _name_model(study, name)
    if disk.read_json(find_files(study, unit).facts).get("model") != disk.hash_file(path):
        print(f"{disk.display_path(path)} is missing or belongs to another training: this training is done again.")
        return False
    if not run.is_signed(study.folders, path):  # the record was lost
        run.sign(study.folders, path, unit=find_key(study, unit))
    return True


def _name_model(study, name):
    return study.folders.models / f"{name}.keras"


def read_results(files, setting):
    """A finished unit's predictions and their metrics, also those that were added to `metrics.METRICS` since."""
    predictions = read_predictions(files.predictions)
    return predictions, metrics.compute_metrics(predictions, setting.classes, setting.minority)
