"""Writes the README's numbers from the published files, so that none is typed by hand.

Run as `python -m xraygan.readme` (`make refresh` does). Everything between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced.
"""

import re
import shutil
from types import SimpleNamespace

import pandas as pd

import utils
from xraygan import disk, figures, findings, published, record, statistics
from xraygan.arms import in_words
from xraygan.fidelity import readable
from xraygan.published import BASELINE_RUN, PHANTOM_RUN, PUBLISHED, STUDY_RUN

FIGURES = disk.ROOT / "images" / "readme"
REAL_FAKES, REAL_VERDICT = FIGURES / "chest_xray_fakes.png", FIGURES / "chest_xray_verdict.png"
REAL_SWEEPS = FIGURES / "chest_xray_sweeps.png"


def main():
    for run in (PHANTOM_RUN, BASELINE_RUN):
        published.publish(utils.run_folders(run, disk.ROOT), published.NUMBERS)
    published.publish(utils.run_folders(STUDY_RUN, disk.ROOT), (*published.NUMBERS, *published.UNITS))
    publish_figures(utils.run_folders(PHANTOM_RUN, disk.ROOT))
    publish_fakes(utils.run_folders(BASELINE_RUN, disk.ROOT))
    draw_study(PUBLISHED / STUDY_RUN)
    path = disk.ROOT / "README.md"
    text = fill(path.read_text(encoding="utf-8"), passages())
    with disk.replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def publish_figures(folders):
    """Copy the figures of the run on the phantom to where the README shows them; without such a run here they stay as they are."""
    if not (folders.images / "verdict.png").exists():
        return
    FIGURES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folders.images / "real_beside_fake.png", FIGURES / "phantom_and_fakes.png")
    shutil.copyfile(folders.images / "verdict.png", FIGURES / "phantom_verdict.png")
    shutil.copyfile(folders.images / "gan" / "timelapse.gif", FIGURES / "phantom_timelapse.gif")


def publish_fakes(folders):
    """Copy the fakes of a generator trained on real images to where the README shows them, if it isn't found to copy patients."""
    judgement = folders.results / "gan" / "judgement.json"
    if judgement.exists() and record.read_json(judgement)["alarm"]:
        REAL_FAKES.unlink(missing_ok=True)
    elif judgement.exists():
        shutil.copyfile(folders.images / "fakes.png", REAL_FAKES)


def draw_study(study):
    """Draw the figures of the published real study: its verdict and its sweeps, where there are any."""
    for figure, file in ((figures.published_verdict(study), REAL_VERDICT), (figures.published_sweeps(study), REAL_SWEEPS)):
        if figure:
            figures.save_figure(figure, file)


def passages():
    """The README's generated passages, {name: Markdown}, from the published files."""
    phantom, baseline = PUBLISHED / PHANTOM_RUN, PUBLISHED / BASELINE_RUN
    return {
        "finding": finding(PUBLISHED / STUDY_RUN, phantom, PUBLISHED / "benchmarks"),
        "table": findings.markdown_table(statistics.readable(pd.read_csv(phantom / "before_after.csv")), "metric"),
        "comparison": findings.of_verdict(record.read_json(phantom / "verdict.json")),
        "hardware": hardware(phantom),
        "study": study_on_real_images(PUBLISHED / STUDY_RUN, PUBLISHED / "benchmarks"),
        "baseline": baseline_on_real_images(baseline),
        "audit": audit_on_real_images(PUBLISHED / "benchmarks"),
        "generator": generator(baseline),
        "recipes": recipes(PUBLISHED / "recipes"),
        "speed": speed(PUBLISHED / "benchmarks"),
        "precision": precision(PUBLISHED / "benchmarks"),
    }


def finding(study, phantom, benchmarks):
    """The first sentence: the published real study's verdict; until there is one, how far it is, and the phantom's single run, marked as such."""
    if (study / "verdict.json").exists():
        told = f"On real radiographs: {findings.answer_of(record.read_json(study / 'verdict.json'))}"
        besides = findings.of_patients(benchmarks), findings.of_scarcity(study)
        return "\n- ".join([told, *filter(None, besides)])
    return (
        findings.of_progress(study)
        + "\n\n**On the phantom (drawings, evidence of nothing in medicine):** "
        + findings.one_run_sentence(record.read_json(phantom / "mcnemar.json"))
    )


def hardware(folder):
    """What the run took, and on what."""
    notes = record.read_json(folder / "record.json")
    seconds = sum(part["seconds"] for part in notes["parts"].values())
    memory = max(part["peak_memory_gb"] for part in notes["parts"].values())
    machine = notes["machine"]
    return (
        f"Measured for this run on {machine['cores']} cores ({machine['device']}, {machine['precision']}): "
        f"{seconds / 60:.1f} minutes of training the three networks, before the comparison, and at most {memory:.1f} GB of memory."
    )


def study_on_real_images(folder, benchmarks):
    """The numbers of the published study, what was measured of it besides, and how to go on with it or repeat it."""
    passages = [findings.tables_of_study(folder)]
    if (folder / "verdict.json").exists():
        picture = _picture("Differences between arms, with intervals", REAL_VERDICT)
        passages = [picture, findings.rest_of(record.read_json(folder / "verdict.json")), *passages]
    if findings.sweeps_of(folder):
        passages.append(_picture("Balanced accuracy by numbers of fakes and of real images", REAL_SWEEPS))
    passages.append("\n".join(filter(None, [findings.found_besides(folder), *_measured_of_study(benchmarks)])))
    return (
        "\n\n".join(passages) + "\n\n"
        f"Every training is a pair of files in [results/published/{folder.name}]({folder.relative_to(disk.ROOT).as_posix()}/). "
        f"`make study DATA=… PROFILE=study ALSO=PNEUMONIA SWEEPS=1 RUN={folder.name}` on the same images takes them over and goes on; "
        "with another `RUN` it repeats the study from nothing."
    )


def _picture(says, file):
    return f"![{says}]({file.relative_to(disk.ROOT).as_posix()})"


def _measured_of_study(benchmarks):
    """A line each: the study's verdict with true patients, and an arm of it against itself; what isn't measured yet is left out."""
    lines = []
    if (benchmarks / findings.PATIENTS).exists():
        rows = pd.read_csv(benchmarks / findings.PATIENTS)
        which = {
            "all": "Over the patients that the collections' own lists name instead of images",
            "unseen patients": "On the test images alone whose patient, by those lists, has no image in the train folder",
        }
        for kind, here in rows.groupby("test_images", sort=False):
            told = [
                f"{findings.contrast(row)}: {row['outcome']}, {findings.with_interval(row)}"
                for row in here.to_dict("records")
                if row["primary"] or findings.is_against_nothing(row)
            ]
            lines.append(
                f"- {which[kind]} ({' and '.join(f'{size:,}' for size in here['images'].unique())}): {'; '.join(told)}."
            )
    if (benchmarks / "same_arm.csv").exists():
        lines += [
            f"- A comparison whose truth is known, nothing added against nothing added with {row['seeds']} other seeds, "
            f"{row['setting'].replace('-', ' ')}: {row['outcome']}, {findings.with_interval(row)} (`python -m benchmarks.same_arm`)."
            for row in pd.read_csv(benchmarks / "same_arm.csv").to_dict("records")
        ]
    return lines


def baseline_on_real_images(folder):
    """What notebook 1 found on the real set at the original study's size."""
    notes, metrics = record.read_json(folder / "record.json"), record.read_json(folder / "before_gan" / "metrics.json")
    cost, leaks = notes["parts"]["before_gan"], notes["data"]["leaks"]
    return (
        "The baseline alone, at the original study's settings (`PROFILE=full`), on a reconstruction of its images: "
        f"{metrics['errors']} errors on {metrics['test_images']} test images, accuracy {metrics['accuracy']:.4f}, balanced accuracy "
        f"{metrics['balanced_accuracy']:.4f}, sensitivity for {notes['minority']} {metrics['sensitivity']:.4f}; one seed, "
        f"{cost['seconds'] / 60:.0f} minutes, {cost['peak_memory_gb']:.1f} GB. "
        f"{leaks['train images with their group in test']} near-copies of test images were left out of training. Two flaws of the data remain: "
        "a patient can stand in train and in test, and each class comes from other hospitals."
    )


def audit_on_real_images(folder):
    """What the audit finds in the real set, against the patients that the collections' own lists name."""
    table = pd.read_csv(folder / "audit.csv").set_index(["pairs", "class"])
    everywhere, across = table.loc["all"], table.loc["train and test"]
    found, true, both = (int(everywhere[column].sum()) for column in ("pairs_found", "pairs_true", "in_both"))
    return (
        f"The audit finds {found} pairs of one picture in the three classes, {int(across['pairs_found'].sum())} of them with one in train and the "
        f"other in test; their pixels correlate at {everywhere['lowest_correlation'].min():.2f} or more. The collections' own lists give "
        f"{found - both} of these pairs two patients' names: the lists overlap. Of the {true:,} pairs of images that the lists give to one patient, "
        f"{int(across['pairs_true'].sum()):,} of them across train and test, it finds {both / true:.1%}: different radiographs of one patient can't "
        "be told by looking, and only a `GROUPS` file helps."
    )


def generator(folder):
    """How good the fakes of the generator trained on real images are, and what they look like."""
    if not (folder / "gan" / "judgement.json").exists():
        return "The generator of the full 1000 epochs isn't published yet."
    quality = readable(pd.read_csv(folder / "gan" / "quality.csv"))
    quality.index = [f"{space}: {images}" for space, images in quality.index]
    table = findings.markdown_table(quality, "features: images, against test images")
    if record.read_json(folder / "gan" / "judgement.json")["alarm"]:
        shown = "None of the fakes is shown here: they may show patients. "
    else:
        shown = f"![The first 32 fakes]({REAL_FAKES.relative_to(disk.ROOT).as_posix()})\n\n*The first 32 fakes, none chosen.* "
    return f"{shown}{findings.of_gan(SimpleNamespace(results=folder))}\n\n{table}"


def recipes(folder):
    """What was tried for the GAN's recipe, and what it bought, from the search's summary."""
    tried = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values={"spread": [""]})
    passages = []
    for name, rows in tried.groupby("class", sort=False):
        shown = pd.DataFrame(
            {
                "seeds": rows["seeds"].astype(str),
                "updates": rows["updates"].astype(str),
                "KID": [_mean_and_spread(row.kid, row.spread) for row in rows.itertuples()],
                "diversity": rows["diversity"].map("{:.2f}".format),
                "better than the start": rows["better_than_base"],
            }
        )
        shown.index = [f"**{row.change}**" if row.won else row.change for row in rows.itertuples()]
        passages.append(f"{name}:\n\n" + findings.markdown_table(shown, "change"))
    minutes = pd.read_csv(folder / "by_time.csv")["seconds"].max() / 60
    default, study = (
        tried[(tried["class"] == "COVID19") & chosen].iloc[0] for chosen in (tried["won"], tried["variant"] == "study")
    )
    passages.append(
        f"The recipe of the study that this project rebuilds has wide layers and batches of 128: in the same {minutes:.0f} minutes "
        f"it comes to {study['updates']} updates and a KID of {study['kid']:.2f}, the default to {default['kid']:.2f}."
    )
    return "\n\n".join(passages)


def _mean_and_spread(mean, spread):
    return f"{mean:.2f}" if pd.isna(spread) else f"{mean:.2f} ± {spread:.2f}"


def speed(folder):
    """How fast an update and the parts of the pipeline are, from the benchmarks' tables."""
    machine = record.read_json(folder / "steps_machine.json")
    steps, parts = pd.read_csv(folder / "steps.csv"), pd.read_csv(folder / "pipeline.csv")
    batch_size = steps["batch_size"].iloc[0]
    shown = steps[steps["batch_size"] == batch_size]
    table = pd.DataFrame(
        {
            "images a second": shown["images_a_second"].map("{:.1f}".format),
            "of keras.io's in float32": shown["times_keras_io_float32"].map("{:.2f}".format),
            "of this machine's matrix product": shown["share_of_peak"].map("{:.0%}".format),
        }
    )
    table.index = [f"{row.organisation}, {row.precision}" for row in shown.itertuples()]
    fast = machine["precision"]
    of_part = parts[parts["images"] == 4600].set_index("part")["seconds"]
    epochs = parts[(parts["part"] == "classifier epoch") & (parts["images"] == 4600)].set_index("precision")["seconds"]
    ratio = epochs["float32"] / epochs[fast]
    costs = pd.read_csv(folder / "determinism.csv").set_index("part")["ratio"] - 1
    return (
        f"Measured with `make bench` on {machine['cores']} cores ({machine['device']}), batch {batch_size}, median of several rounds "
        "in one run. The same two networks, one update organised in three ways:\n\n"
        + findings.markdown_table(table, "update")
        + f"\n\nAn epoch of the classifier is {ratio:.2f} times as fast in {fast} as in float32. Reading 4,600 JPEG files of 1024 pixels a side "
        f"takes {of_part['reading, cold'].item():.1f} seconds the first time and {of_part['reading, cached'].item():.1f} after. "
        f"That the same seed gives the same numbers costs {costs['classifier epoch']:.1%} of the classifier's time and "
        f"{costs['GAN epoch']:.1%} of the GAN's (`python -m benchmarks.determinism`)."
    )


def precision(folder):
    """Whether float32 and this machine's fast precision come to the same, from the benchmark's table."""
    rows = pd.read_csv(folder / "precision_differences.csv")
    first, second = (
        rows[column].map(lambda pair: " ".join(in_words(word) for word in pair.split(", "))) for column in ("first", "second")
    )
    shown = pd.DataFrame({"against": first, "outcome": rows["outcome"]})
    shown.insert(
        1,
        "points of balanced accuracy (95 % interval)",
        [f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})" for row in rows.itertuples()],
    )
    shown.index = second
    arm_of = {column: rows[column].str.split(", ").str[1] for column in ("first", "second")}
    same_arm = rows[arm_of["first"] == arm_of["second"]]
    unequal = len(same_arm) - (same_arm["outcome"] == statistics.EQUIVALENT).sum()
    verdict = (
        "In both arms the two precisions are equivalent."
        if not unequal
        else f"In {unequal} of {len(same_arm)} arms the two precisions aren't shown to be equivalent, so all trainings of a comparison keep to one."
    )
    return (
        f"Does the fast precision change the outcome? {rows['seeds'].iloc[0]} seeds, each with its own GAN, of the quick size on the real images "
        f"({rows['images'].iloc[0]} test images, two classes), not adjusted for their number:\n\n"
        + findings.markdown_table(shown, "arm")
        + f"\n\n{verdict}"
    )


def fill(text, contents):
    """Replace what stands between each passage's two marks.

    Raises:
        ValueError: a passage's marks aren't there.
    """
    for name, content in contents.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text, replaced = re.subn(
            pattern, lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
        )
        if replaced != 1:
            raise ValueError(f"README.md has {replaced} passages marked {name!r}; expected one.")
    return text


if __name__ == "__main__":
    main()
