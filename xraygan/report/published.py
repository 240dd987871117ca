"""What is committed of four runs, and how their numbers come to results/published/."""

from xraygan import disk, run

PHANTOM_RUN, BASELINE_RUN, STUDY_RUN, SCARCITY_RUN = "phantom-quick", "chest_xray-full", "chest_xray-study", "scarcity"
STUDY, SCARCITY = run.PUBLISHED / STUDY_RUN, run.PUBLISHED / SCARCITY_RUN
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
    "scarcity/*",
    "gan/*.csv",
    "gan/judgement.json",
)
UNITS = (
    "split.csv",
    "units/*/*.csv",
    "units/*/*.json",
    "gans/*/gan/*.csv",
)  # of runs on real images: each training, so that none is lost


def publish(folders):
    """Copy a run's tables, predictions and record to where they're committed; what this machine hasn't run stays as it is.

    Raises:
        ValueError: drawings under the name of a study of real images, or real images under the phantom's.
    """
    if (folders.results / "record.json").exists() and run.read_record(folders)["is_phantom"] != (folders.run == PHANTOM_RUN):
        raise ValueError(f"run {folders.run} isn't of the images that its name says; its numbers must not be published.")
    for pattern in NUMBERS + (() if folders.run == PHANTOM_RUN else UNITS):
        whole = [file for file in folders.results.glob(pattern) if not file.name.startswith(".")]  # no drafts
        disk.copy_files(whole, folders.results, run.PUBLISHED / folders.run)
