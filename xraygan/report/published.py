"""What is committed of four runs: how their numbers come to results/published/, and how a study goes on from there."""

import shutil

from xraygan import disk, run
from xraygan.comparison import units

PUBLISHED = disk.ROOT / "results" / "published"
PHANTOM_RUN, BASELINE_RUN, STUDY_RUN, SCARCITY_RUN = "phantom-quick", "chest_xray-full", "chest_xray-study", "scarcity"
STUDY, SCARCITY = PUBLISHED / STUDY_RUN, PUBLISHED / SCARCITY_RUN
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
    "few_patients/*",
    "gan/*.csv",
    "gan/judgement.json",
)
UNITS = (
    "split.csv",
    "units/*/*.csv",
    "units/*/*.json",
    "gans/*/gan/*.csv",
)  # of studies of real images: each training, so that none is lost


def publish(folders):
    """Copy a run's tables, predictions and record to where they're committed; what this machine hasn't run stays as it is.

    Raises:
        ValueError: drawings under the name of a study of real images, or real images under the phantom's.
    """
    if (folders.results / "record.json").exists() and run.read_record(folders)["is_phantom"] != (folders.run == PHANTOM_RUN):
        raise ValueError(f"run {folders.run} isn't of the images that its name says; its numbers must not be published.")
    for pattern in NUMBERS + (UNITS if folders.run in (STUDY_RUN, SCARCITY_RUN) else ()):
        _copy(folders.results.glob(pattern), folders.results, PUBLISHED / folders.run)


def restore_units(study, wanted):
    """Copy finished trainings that are published under a run's name into the run: a study goes on in another clone.

    The name of a training's file holds a hash of everything that decides its numbers, so one of another study is never taken.

    Args:
        study: `study.Study`.
        wanted: list of `units.Unit`.

    Returns:
        how many were copied; a sentence says so.
    """
    source, taken = PUBLISHED / study.folders.run, 0
    for unit in units.list_missing(study, wanted):
        target = units.find_files(study, unit)
        published = units.Files(*[source / file.relative_to(study.folders.results) for file in target])
        if all(file.exists() for file in published) and not units.describe_change(published):
            _copy(published[1:], source, study.folders.results)
            # The facts last: they say that a training is finished. Its fakes aren't here, so it can't be compared with any.
            facts = {"fakes": None, "files": units.hash_tables(target)}
            disk.write_json(target.facts, disk.read_json(published.facts) | facts)
            taken += 1
    if taken:
        print(f"{taken} trainings of the published study of this name are taken over.")
    return taken


def _copy(files, source, target):
    for file in files:
        with disk.replacing(target / file.relative_to(source)) as draft:
            shutil.copyfile(file, draft)
