"""The closing sentences of the notebooks, written from a run's files: no number in them is typed."""

import html
import json
import re

import pandas as pd

import utils
from xraygan import disk, run
from xraygan.comparison import verdict as verdicts
from xraygan.comparison.arms import write_arm
from xraygan.comparison.metrics import METRICS, format_metric
from xraygan.data import audit, split
from xraygan.data.imported import Imported

DRAWINGS = "These are drawings, not patients: nothing here is evidence about medicine."


# Notebook 1


def describe_baseline(study, metrics):
    """What notebook 1 found, as Markdown; `metrics` is the baseline's, of `metrics.compute_metrics`."""
    record = study.record
    cost, leaks = record["costs"]["before_gan"], _count_leaks(study)
    balanced, sensitivity = (format_metric(name, metrics[name]) for name in ("balanced_accuracy", "sensitivity"))
    what_happened = "were left out of training" if record["on_leak"] == "drop" else "were kept in training"
    near_copies = (
        f"{leaks} training images had a near-copy or an image of the same patient in the test; they {what_happened}. "
        if leaks
        else "No training image has a near-copy or an image of the same patient in the test. "
    )
    return (
        _warn_of_drawings(record)
        + f"The baseline is wrong about {metrics['errors']} of {metrics['test_images']} test images: accuracy {metrics['accuracy']:.4f}, "
        + f"balanced accuracy {balanced}, sensitivity for {write_class(record['minority'])} {sensitivity}. "
        + near_copies
        + f"Training took {cost['seconds']:.0f} seconds and at most {cost['peak_memory_gb']:.1f} GB of memory."
    )


def _count_leaks(study):
    """How many training images have a near-copy or an image of their patient in the test: left out of training, or kept in it."""
    record = study.record
    if record["on_leak"] == "drop":
        return record["data"]["counts"].get(split.LEAK, {"all": 0})["all"]
    return 0 if study.dataset.redraws_test else record["data"]["leaks"]["train images with their group in test"]


def describe_shortcuts(shortcuts):
    """What is left of the score without lungs, as Markdown, a paragraph a setting, from `audit.shortcuts_by_setting`."""
    return "\n\n".join(
        f"{write_setting(setting)}: {_describe_shortcut(table.set_index('view'))}"
        for setting, table in shortcuts.groupby("setting", sort=False)
    )


def _describe_shortcut(table):
    hidden, tiny = table.loc[audit.HIDDEN], table.iloc[-1]
    if pd.isna(hidden["share"]):
        whole = table["balanced_accuracy"].iloc[0]
        return f"nothing can be said about shortcuts, because so small a learner hardly tells whole images apart (balanced accuracy {whole:.3f})."
    numbers = (
        f"With the lungs hidden, balanced accuracy is {hidden['balanced_accuracy']:.3f}: {hidden['share']:.0%} of the score above chance is left. "
        f"With images {table.index[-1]} pixels it is {tiny['balanced_accuracy']:.3f}. "
    )
    if audit.has_shortcut(table):
        return f"**Shortcut.** {numbers}Most of the score on these data can be reached without lungs, whatever is added to the training images."
    whole = table["balanced_accuracy"].iloc[0]
    brightness = (
        f"Images so small are told apart as well as whole ones ({whole:.3f}) or better, so the brightness of large areas is enough. Haze in the "
        "lungs can cause such a difference, and so can exposure: the view with the lungs hidden says more."
        if tiny["balanced_accuracy"] >= whole - 0.02
        else ""
    )
    lost = "most" if hidden["share"] < 0.5 else "a part"
    return f"with the lungs hidden {lost} of the score is lost, so this view shows no shortcut outside the lungs. {numbers}{brightness}".rstrip()


# Notebook 2


def describe_gan(study):
    """What notebook 2 found, as Markdown."""
    record, folder = study.record, study.folders.results / "gan"
    judgement, quality = disk.read_json(folder / "judgement.json"), folder / "quality.csv"
    lines = (
        describe_fidelity(utils.read_table(quality), judgement)
        if quality.exists()
        else ["There are too few test images to judge the fakes by numbers."]
    )
    origin = _describe_import(study, judgement) if study.imported else _describe_training(record, judgement, folder)
    return f"{_warn_of_drawings(record)}{origin}\n\n" + "\n".join(f"- {line}" for line in [*lines, describe_copies(judgement)])


def _describe_training(record, judgement, folder):
    """How the GAN was trained that drew the fakes."""
    history = utils.read_table(folder / "history.csv")
    reason = "the nearest to validation images" if (folder / "fidelity.csv").exists() else "the last"
    return (
        f"{len(history)} epochs took {record['costs']['gan']['seconds'] / 60:.1f} minutes. The generator of epoch {judgement['kept_epoch']} "
        f"is kept, {reason}; it drew {judgement['fakes']} fakes of {write_class(record['minority'])}."
    )


def _describe_import(study, judgement):
    """Where fakes come from that another generator made."""
    each = "all replicates have the same ones" if study.imported.is_shared else "each replicate has its own"
    return (
        f"{judgement['fakes']} fakes of {write_class(study.own.minority)} were taken from {write_class(study.imported.name)}; {each}. No GAN was "
        "trained, and which images their generator had seen isn't known here."
    )


def describe_fidelity(quality, judgement):
    """How good the fakes are, one sentence a question, from `fidelity.Judge.table` and the judgement beside it."""
    rows = quality.set_index(["space", "images"])
    references = {"real": "other real images have", "another class": "another class has"}
    distances = []
    for space, table in quality.groupby("space", sort=False):
        kid = table.set_index("images")["kid"]
        beside = ", ".join(f"{words} {kid[name]:.2f}" for name, words in references.items() if name in kid)
        distances.append(f"{kid['fakes']:.2f} in {space} features ({beside})")
    fakes, other = rows.loc[("random", "fakes")], rows["kid"].get(("random", "another class"))
    farther = (
        " In random features the fakes are farther from the real images than another class is."
        if other is not None and fakes["kid"] > other
        else ""
    )
    compared = ""
    if ("random", "real") in rows.index:  # there are enough validation images
        real = rows.loc[("random", "real")]
        compared = f", where other real images have {real['recall']:.2f} and {real['coverage']:.2f}"
    return [
        f"Distance to test images (KID): {', '.join(distances)}.{farther}",
        f"Variety: recall {fakes['recall']:.2f} and coverage {fakes['coverage']:.2f} in random features{compared}; "
        f"{judgement['duplicate_share']:.1%} of the fakes repeat another.",
        _describe_recognition(judgement),
    ]


def _describe_recognition(judgement):
    """How well a small classifier tells fakes from real images, a sentence."""
    accuracy = (
        f"{judgement['accuracy']:.2f} (95 % interval {judgement['low']:.2f} to {judgement['high']:.2f}; 0.50 would be guessing)"
    )
    strength = (
        "no better than by chance"
        if judgement["low"] <= 0.5
        else "better than by chance"
        if judgement["low"] < 0.95
        else "nearly always right: the fakes are easily recognised"
    )
    return f"A small classifier tells fakes from real images with accuracy {accuracy}, {strength}."


def describe_copies(judgement):
    """Whether the fakes are copies of training images, and how often fresh real images look as if they were."""
    found = (
        f"For {judgement['copies']} of {judgement['fakes']} fakes, the nearest training image is at most half as far away as the nearest validation "
        f"or test image; the same holds for {judgement['fresh_copies']} of {judgement['fresh']} real validation and test images."
    )
    if judgement.get("real"):
        return f"**Copies: alarm.** {judgement['real']} of {judgement['fakes']} fakes show the same picture as a real image. {found}"
    if judgement["alarm"]:
        return f"**Copies: alarm.** {found} Look at the pairs: with few real images this can also happen by chance."
    return f"Copies: no alarm. {found}"


# Notebook 3


def describe_comparison(study):
    """What notebook 3 found, as Markdown: what one training of each says, the answer, and how fakes are classified."""
    folder = study.folders.results
    one_run = describe_one_run(disk.read_json(folder / "mcnemar.json"))
    verdict = disk.read_json(folder / "verdict.json")
    answer = describe_answer(verdict["contrasts"], _name_fakes(verdict.get("imported")))
    found = utils.read_table(folder / "share_found.csv").set_index("model").loc["after"]
    share = "; ".join(f"{found[kind]:.0%} of the {kind}" for kind in found.index)
    inside = f"Of the images of {write_class(study.own.minority)}, the model with fakes finds {share}."
    return f"{_warn_of_drawings(study.record)}{one_run}\n\n{answer}\n\n{inside}"


def describe_one_run(comparison):
    """What one model before and one after allow to say (from `metrics.exact_mcnemar`), and what they don't."""
    mended, broken, p_value = comparison["mended"], comparison["broken"], comparison["p_value"]
    counts = (
        f"Of {comparison['test_images']} test images, {mended} that the model was wrong about before became right with fakes (mended), and "
        f"{broken} that it was right about became wrong (broken); exact McNemar test, p = {p_value:.2f}. "
    )
    if p_value >= 0.05:
        return counts + "Chance alone easily produces such a difference. One training of each says nothing about the method."
    direction = "better" if mended > broken else "worse"
    return (
        counts
        + f"Of these two models the one with fakes is {direction}; one training of each still says nothing about the method."
    )


def write_verdict(study, contrasts, without_twins):
    """Write `results/RUN/verdict.json` and return what it holds.

    Args:
        study: `study.Study`.
        contrasts: `tables.compare_arms` of all test images.
        without_twins: the same of those without a near-copy in the train folder.
    """
    folder = study.folders.results
    content = {
        "margins": {metric: METRICS[metric].margin for metric in verdicts.PRIMARY_METRICS},
        "warnings": list_warnings(
            study.record, run.read_table(study.folders, "shortcuts.csv", run.NOTEBOOK_1), study.dataset.redraws_test
        ),
        "contrasts": list_rows(contrasts),
        "without_twins": list_rows(without_twins),
    }
    if study.imported:
        content["imported"] = {"name": study.imported.name, "is_shared": study.imported.is_shared}
    disk.write_json(folder / "verdict.json", content)
    return content


def list_rows(table):
    """A DataFrame as JSON takes it: a dict a row, what is missing None."""
    return json.loads(table.to_json(orient="records", double_precision=6))


def describe_verdict(verdict):
    """The answer, from `verdict.json`, its warnings, and the other contrasts, as Markdown."""
    warnings = [f"- {warning}" for warning in verdict["warnings"]]
    imported = verdict.get("imported")
    maker = f"fakes of {write_class(imported['name'])}" if imported else "GAN"
    lines = [*warnings, *_describe_fewer_images(verdict, maker), *describe_other_contrasts(verdict["contrasts"], maker)]
    answer = [describe_answer(verdict["contrasts"], _name_fakes(imported)), *describe_power(verdict["contrasts"])]
    return "\n\n".join([*answer, "\n".join(lines)])


def _name_fakes(imported):
    """What a sentence calls the fakes; "these" where the verdict is about nothing but these very images."""
    if not imported:
        return "fakes"
    return f"{'these ' if imported['is_shared'] else ''}fakes of {write_class(imported['name'])}"


def describe_answer(contrasts, fakes="fakes"):
    """The primary contrasts, a paragraph each, as Markdown, from the rows of `verdict.reach_verdict`; `fakes` is what they're called."""
    paragraphs = []
    for first, second in verdicts.PRIMARY_CONTRASTS[::-1]:
        rows = [row for row in contrasts if row["primary"] and (row["first"], row["second"]) == (first, second)]
        if rows:
            opening = f"**{fakes[0].upper()}{fakes[1:]} against {OTHERS[first]}** ({_describe_size(rows[0])}). "
            paragraphs.append(opening + " ".join(_describe_primary(row, fakes) for row in rows))
    return "\n\n".join(paragraphs)


OTHERS = {"nothing": "nothing added", "oversampling": "duplicates of the same real images"}
OUTCOMES = {
    verdicts.BETTER: "{fakes} are better",
    verdicts.WORSE: "{fakes} are worse",
    verdicts.EQUIVALENT: "equivalent, since a difference within ±{margin:.0f} is too small to matter",
    verdicts.INCONCLUSIVE: "inconclusive",
}


def _describe_size(row):
    return (
        f"{write_class(write_setting(row['setting']))}, {_count(row['replicates'], 'replicate')}, {row['images']:,} test images"
    )


def _count(number, word):
    return f"{number} {word}" + "s" * (number != 1)


def _describe_primary(row, fakes):
    """One primary contrast by one metric, a sentence."""
    name = METRICS[row["metric"]].words
    start = f"{name[0].upper()}{name[1:]}: {write_difference(row)}"
    if pd.isna(row["low"]):
        return f"{start}; no claim is made, since it takes {verdicts.FEWEST_REPLICATES} or more replicates to tell a difference from chance."
    words = {"fakes": fakes, "margin": 100 * METRICS[row["metric"]].margin}
    return f"{start}: {OUTCOMES[row['outcome']].format(**words)}."


def describe_power(contrasts):
    """What inconclusive means, and which difference such a study finds, where a primary contrast is inconclusive; else no sentence."""
    unclear = [
        row for row in contrasts if row["primary"] and row["outcome"] == verdicts.INCONCLUSIVE and not pd.isna(row["low"])
    ]
    if not unclear:
        return []
    largest = pd.DataFrame(unclear).groupby("metric", sort=False)["smallest_seen"].max()
    found = " or ".join(f"{100 * size:.1f} points of {METRICS[metric].words}" for metric, size in largest.items())
    return [
        "*Inconclusive* says that the numbers are too uncertain to tell: neither a difference nor its absence is shown. "
        f"A study of this size finds a true difference of {found} in 4 of 5 cases, if nothing else is compared. "
        "Only the outcomes are corrected for the number of comparisons, so an interval can exclude 0 where the outcome is inconclusive."
    ]


def _describe_fewer_images(verdict, maker):
    """The primary contrasts on those test images that have no near-copy in the train folder: lines of Markdown."""
    lines = []
    images = {(row["setting"], row["metric"]): row["images"] for row in verdict["contrasts"]}
    for row in verdict["without_twins"]:
        if row["primary"] and row["images"] < images[row["setting"], row["metric"]]:
            lines.append(
                f"- On the {row['images']:,} test images without a near-copy in the train folder (nor another image of their patient, where patients "
                f"are known), {write_contrast(row, maker)}: {write_difference(row)}."
            )
    return lines


def describe_other_contrasts(contrasts, maker="GAN"):
    """Which contrasts beside the primary ones are decided: lines of Markdown, from the rows of `verdict.reach_verdict`."""
    others = [row for row in contrasts if not row["primary"]]
    decided = [row for row in others if row["outcome"] != verdicts.INCONCLUSIVE]
    return [
        f"- {len(others) - len(decided)} of the {len(others)} other comparisons are inconclusive{'. The rest:' if decided else '.'}",
        *(f"    - {write_contrast(row, maker)}: {row['outcome']}, {write_difference(row)}" for row in decided),
    ]


def list_warnings(record, shortcuts, redraws_test):
    """What must be said with every verdict of a run.

    Args:
        record: the run's.
        shortcuts: `audit.shortcuts_by_setting`.
        redraws_test: whether each replicate has its own test images.
    """
    is_phantom, those = record["is_phantom"], "drawings" if record["is_phantom"] else "patients"
    warnings = [DRAWINGS] if is_phantom else []
    warnings.append(
        f"The interval holds for {those} like those of this data set"
        + ("." if redraws_test else ", and for these test images.")
    )
    num_images = sum(count["all"] for count in record["data"]["counts"].values())
    unknown = 0 if is_phantom else record["data"]["without_group"]
    if unknown == num_images:
        warnings.append(
            "Patients aren't known (no `GROUPS` was given): one patient may stand in train and in test, and the interval takes all test images for "
            "different patients."
        )
    elif unknown:
        warnings.append(
            f"The patient isn't known for {unknown} of {num_images} images: each is taken for a patient of its own."
        )
    warnings += _warn_of_import(record)
    tables = {setting: table.set_index("view") for setting, table in shortcuts.groupby("setting", sort=False)}
    hidden = {setting: table.loc[audit.HIDDEN] for setting, table in tables.items() if audit.has_shortcut(table)}
    if hidden:
        numbers = " and ".join(
            f"{row['share']:.0%} of its score above chance in {write_setting(setting)} (balanced accuracy {row['balanced_accuracy']:.3f})"
            for setting, row in hidden.items()
        )
        warnings.append(
            f"Shortcut: with the lungs hidden, a small classifier still has {numbers}. Most of that score can be reached without lungs, so a difference "
            "between remedies need not be about lungs."
        )
    return warnings


def _warn_of_import(record):
    """What must be said where the fakes are another generator's."""
    if not record.get("imported"):
        return []
    imported = Imported(**record["imported"])
    name = write_class(imported.name)
    warnings = [
        f"Which images the generator of {name} had seen isn't known here: had it seen validation or test images, the verdict would favour the fakes."
    ]
    if imported.is_shared and record["profile"]["num_seeds"] > 1:
        warnings.append(
            f"All replicates have the same fakes of {name}: this is about these very images, and says nothing of others that their generator "
            "would make, or another training of it."
        )
    if any(imported.real):
        count = " and ".join(map(str, imported.real)) if len(set(imported.real)) > 1 else imported.real[0]
        warnings.append(
            f"{count} of {imported.number} fakes show the same picture as a real image of this run: take them out of {name}."
        )
    return warnings


# Words for a row


def write_class(name):
    """A class's name in Markdown: whatever a folder is called, it is text there and no markup."""
    return re.sub(r"([\\`*_\[\]|$~#])", r"\\\1", html.escape(name, quote=False))


def write_setting(name):
    """A setting's name as a reader wants it."""
    return name.replace("-", " ")


def write_contrast(row, maker="GAN"):
    """A contrast in words: the second arm against the first, where, and by which metric; `maker` as `write_arm` takes it."""
    second, first = (write_arm(row[side], maker) for side in ("second", "first"))
    return f"{second} against {first}, {write_class(write_setting(row['setting']))}, {METRICS[row['metric']].words}"


def write_difference(row):
    """A contrast's difference in points, with its interval where it has one."""
    difference = f"{write_points(row['difference'])} points"
    if pd.isna(row["low"]):  # None as JSON has it, NaN as a CSV's
        return difference
    return f"{difference} (95 % interval {write_points(row['low'])} to {write_points(row['high'])})"


def write_points(share):
    """A difference of shares in points, with its sign and one decimal."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: never -0.0


def _warn_of_drawings(record):
    return f"**{DRAWINGS}** " if record["is_phantom"] else ""
