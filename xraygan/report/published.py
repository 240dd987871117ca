"""What is committed of three runs: how their numbers come to results/published/, and how a study goes on from there."""

import shutil

from xraygan import disk, run

PUBLISHED = disk.ROOT / "results" / "published"
PHANTOM_RUN, BASELINE_RUN, STUDY_RUN = "phantom-quick", "chest_xray-full", "chest_xray-study"
NUMBERS = (
    "record.json",
    "before_after.csv",
    "mcnemar.json",
    "shortcuts.csv",
    "arms.csv",
    "verdict.json",
    "share_found.csv",
    "leaks.csv",
    "sweep_*.csv",
    "*_gan/metrics.json",
    "*_gan/history.csv",
    "*_gan/predictions.csv",
    "gan/*.csv",
    "gan/judgement.json",
)
UNITS = (
    "split.csv",
    "units/*/*.csv",
    "units/*/*.json",
    "gans/*/gan/*.csv",
)  # of the real study: each training, so that none is lost


def publish(folders, patterns):
    """Copy a run's tables, predictions and record to where they're committed; what this machine hasn't run stays as it is.

    Raises:
        ValueError: drawings under the name of a study of real images, or real images under the phantom's.
    """
    if (folders.results / "record.json").exists() and run.read_record(folders)["is_phantom"] != (folders.run == PHANTOM_RUN):
        raise ValueError(f"run {folders.run} isn't of the images that its name says; its numbers must not be published.")
    for pattern in patterns:
        _copy(folders.results.glob(pattern), folders.results, PUBLISHED / folders.run)


def restore_units(folders, wanted):
    """Copy the finished trainings that are published under a run's name into the run: a study goes on in another clone.

    The name of a training's file holds a hash of its data, its split and every parameter, so one of another study is never taken.

    Args:
        folders: `run.RunFolders`.
        wanted: the run's own files of trainings, `study.unit_file`.

    Returns:
        how many were copied.
    """
    source = PUBLISHED / folders.run
    published = [source / file.relative_to(folders.results) for file in wanted if not file.exists()]
    found = [file for file in published if file.exists()]
    for file in found:
        _copy((file.with_suffix(".csv"), file), source, folders.results)  # the JSON last: it says that a training is finished
    return len(found)


def _copy(files, source, target):
    for file in files:
        with disk.replacing(target / file.relative_to(source)) as draft:
            shutil.copyfile(file, draft)
