"""The closing sentences of the notebooks and of the README, written from a run's files: no number in them is typed."""

import pandas as pd

from xraygan import record, statistics

DRAWINGS = "**These are drawings, not patients: nothing here is evidence about medicine.** "


def of_baseline(folders):
    """What notebook 1 found, as Markdown."""
    notes = record.read_record(folders)
    metrics = record.read_json(folders.results / "before_gan" / "metrics.json")
    cost = notes["parts"]["before_gan"]
    balanced, sensitivity = (statistics.number(name, metrics[name]) for name in ("balanced_accuracy", "sensitivity"))
    leaked = notes["data"]["leaks"]["train images with their group in test"]
    return (
        _drawings(notes)
        + f"The baseline errs on {metrics['errors']} of {metrics['test_images']} test images: accuracy {metrics['accuracy']:.4f}, "
        + f"balanced accuracy {balanced}, sensitivity for {notes['minority']} {sensitivity}. "
        + f"{leaked} training images had a near-copy or their group in test and were {'left out' if notes['on_leak'] == 'drop' else 'kept'}. "
        + f"Training took {cost['seconds']:.0f} seconds and at most {cost['peak_memory_gb']:.1f} GB of memory."
    )


def of_gan(folders):
    """What notebook 2 found, as Markdown."""
    notes = record.read_record(folders)
    history = pd.read_csv(folders.results / "gan" / "history.csv")
    manifest = pd.read_csv(folders.generated / "manifest.csv")
    brightness = pd.read_csv(folders.results / "gan" / "brightness.csv", index_col=0)
    real, fake = brightness.loc["real"], brightness.loc["fake"]
    return (
        _drawings(notes)
        + f"{len(history)} epochs took {notes['parts']['gan']['seconds'] / 60:.1f} minutes and wrote {len(manifest)} fakes of {notes['minority']}. "
        + f"Real images have a mean brightness of {real['mean']:.0f} and a spread of {real['standard deviation']:.0f} (of 255), "
        + f"fakes of {fake['mean']:.0f} and {fake['standard deviation']:.0f}."
    )


def of_comparison(folders):
    """What notebook 3 found, as Markdown."""
    notes = record.read_record(folders)
    return _drawings(notes) + one_run_sentence(record.read_json(folders.results / "mcnemar.json"))


def one_run_sentence(comparison):
    """What one model before and one after allow to say (from `statistics.exact_mcnemar`), and what they don't."""
    mended, broken, p_value = comparison["mended"], comparison["broken"], comparison["p_value"]
    counts = f"Of {comparison['test_images']} test images the fakes mended {mended} and broke {broken} (exact McNemar p = {p_value:.2f}). "
    if p_value >= 0.05:
        return counts + "One run of each can't tell that from chance, and makes no claim about the method either way."
    direction = "better" if mended > broken else "worse"
    return (
        counts
        + f"These two models differ, the one with fakes is {direction}; one run of each still makes no claim about the method."
    )


def _drawings(notes):
    return DRAWINGS if notes["is_phantom"] else ""
