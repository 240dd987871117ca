"""The closing sentences of the notebooks and of the README, written from a run's files: no number in them is typed."""

import pandas as pd

from xraygan import disk, run
from xraygan.comparison import metrics, verdict as verdicts
from xraygan.comparison.arms import FAKES_INSTEAD, write_arm
from xraygan.comparison.plan import SWEEPS
from xraygan.data import audit

SWEPT = {
    "number of fakes": "extra_images",
    "number of real images": "real_minority",
}  # each sweep's column of `study.arms_table`
PATIENTS = "verdict_with_patients.csv"  # what `benchmarks.audit` leaves of the published study
DRAWINGS = "**These are drawings, not patients: nothing here is evidence about medicine.** "


def of_baseline(folders):
    """What notebook 1 found, as Markdown."""
    notes = run.read_record(folders)
    metrics = disk.read_json(folders.results / "before_gan" / "metrics.json")
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


def of_shortcuts(shortcuts):
    """What is left of the score without lungs, as Markdown, a paragraph a setting, from `audit.shortcuts_by_setting`."""
    return "\n\n".join(
        f"{setting.replace('-', ' ')}: {_shortcut(table.set_index('view'))}"
        for setting, table in shortcuts.groupby("setting", sort=False)
    )


def _shortcut(table):
    hidden, tiny = table.loc[audit.HIDDEN], table.iloc[-1]
    if pd.isna(hidden["share"]):
        whole = table["balanced_accuracy"].iloc[0]
        return f"nothing can be said about shortcuts, so small a learner hardly tells whole images apart (balanced accuracy {whole:.3f})."
    numbers = (
        f"With the lungs hidden, balanced accuracy {hidden['balanced_accuracy']:.3f}: {hidden['share']:.0%} of the score above chance is left. "
        f"With images {table.index[-1]} pixels, {tiny['balanced_accuracy']:.3f}. "
    )
    if audit.has_shortcut(table):
        return f"**Shortcut.** {numbers}Most of the score on these data isn't lungs, whatever is added to the training part."
    return f"no shortcut found. {numbers}"


def of_gan(folders):
    """What notebook 2 found, as Markdown."""
    notes = run.read_record(folders)
    history = pd.read_csv(folders.results / "gan" / "history.csv")
    judged = disk.read_json(folders.results / "gan" / "judgement.json")
    quality = folders.results / "gan" / "quality.csv"
    why = "the nearest to validation images" if (folders.results / "gan" / "fidelity.csv").exists() else "the last"
    lines = (
        of_fidelity(pd.read_csv(quality), judged)
        if quality.exists()
        else ["Too few test images to judge the fakes by numbers."]
    )
    return (
        _drawings(notes)
        + f"{len(history)} epochs took {notes['parts']['gan']['seconds'] / 60:.1f} minutes; the generator of epoch {judged['kept_epoch']} "
        + f"is kept, {why}, and drew {judged['fakes']} fakes of {notes['minority']}.\n\n"
        + "\n".join(f"- {line}" for line in [*lines, of_copies(judged)])
    )


def of_fidelity(quality, judged):
    """How good the fakes are, one sentence a question, from `fidelity.Judge.table` and the judgement beside it."""
    rows = quality.set_index(["space", "images"])
    beside = {"real": "other real images", "another class": "another class"}
    distances = []
    for space, here in quality.groupby("space", sort=False):
        of = here.set_index("images")["kid"]
        told = ", ".join(f"{words} {of[name]:.2f}" for name, words in beside.items() if name in of)
        distances.append(f"{of['fakes']:.2f} in {space} features ({told})")
    fakes, real = rows.loc[("random", "fakes")], rows.loc[("random", "real")]
    accuracy = f"{judged['accuracy']:.2f} ({judged['low']:.2f} to {judged['high']:.2f})"
    told = (
        "no better than chance" if judged["low"] <= 0.5 else "better than chance" if judged["low"] < 0.95 else "nearly always"
    )
    return [
        f"Distance to test images (KID): {', '.join(distances)}.",
        f"Variety: recall {fakes['recall']:.2f} and coverage {fakes['coverage']:.2f} in random features, "
        f"where other real images have {real['recall']:.2f} and {real['coverage']:.2f}; "
        f"{judged['duplicate_share']:.1%} of the fakes repeat another.",
        f"A small classifier tells real from fake with accuracy {accuracy}, {told}.",
    ]


def of_copies(judged):
    """Whether the fakes are copies of training images, and how often fresh real images look as if they were."""
    copies = f"{judged['copies']} of {judged['fakes']} fakes lie twice as near to a training image as to any held-out one"
    chance = f"as {judged['fresh_copies']} of {judged['fresh']} real held-out images do"
    if judged["alarm"]:
        return f"**Copies: alarm.** {copies}, more often than {chance}."
    return f"Copies: no alarm. {copies}, {chance}."


def of_comparison(folders):
    """What notebook 3 found, as Markdown: what one run of each says, then the verdict."""
    notes = run.read_record(folders)
    one_run = one_run_sentence(disk.read_json(folders.results / "mcnemar.json"))
    return _drawings(notes) + one_run + "\n\n" + of_verdict(disk.read_json(folders.results / "verdict.json"))


def of_progress(folder):
    """How far the published study is that has no verdict yet, as Markdown."""
    if not (folder / "arms.csv").exists():
        return "**No comparison on real images is published yet.**"
    notes, finished = disk.read_json(folder / "record.json"), len(pd.read_csv(folder / "arms.csv"))
    planned = len(notes["profile"]["arms"]) * notes["profile"]["num_seeds"] * (2 if notes["also"] else 1)
    return (
        f"**No answer on real images yet.** Of the {planned} trainings of the comparison {finished} are finished and published; "
        "the verdict waits for all of them, since looking earlier and stopping when it pleases is a way to fool oneself."
    )


def of_published(folder, benchmarks):
    """The published study's verdict, also by patient, or how far it is, and its numbers, as Markdown."""
    if not (folder / "arms.csv").exists():
        return of_progress(folder)
    if (folder / "verdict.json").exists():
        verdict, patients = disk.read_json(folder / "verdict.json"), of_patients(benchmarks)
        told = "\n".join(filter(None, [answer_of(verdict), patients and f"- {patients}", rest_of(verdict)]))
    else:
        told = of_progress(folder)
    return f"{told}\n\n{tables_of_study(folder)}\n\n{found_besides(folder)}"


def tables_of_study(folder):
    """The mean of each arm of the published study, and its sweeps, as Markdown; what isn't there yet is left out."""
    shortcuts = folder / "shortcuts.csv"
    told = [of_shortcuts(pd.read_csv(shortcuts))] if shortcuts.exists() else []
    tables = [*told, means_of_arms(folder)] + [_sweep_table(name, trainings) for name, trainings in sweeps_of(folder).items()]
    return "\n\n".join(tables)


def sweep_file(folder, name):
    """Where a run's results hold the sweep `name`, a key of `SWEPT`."""
    return folder / f"sweep_{name.replace(' ', '_')}.csv"


def sweeps_of(folder):
    """The trainings of the sweeps that a run's results hold, {a key of `SWEPT`: rows of `study.arms_table`}."""
    files = {name: sweep_file(folder, name) for name in SWEPT}
    return {name: pd.read_csv(file) for name, file in files.items() if file.exists()}


def _sweep_table(name, trainings):
    """One sweep of the published study as a Markdown table: a row a number of images, a column an arm."""
    cells = trainings.groupby([SWEPT[name], "arm"], sort=False)["balanced_accuracy"].agg(_mean_and_range).unstack()
    cells = cells.sort_index()[list(dict.fromkeys(trainings["arm"]))].fillna("").rename(columns=write_arm)
    per_cell = trainings.groupby([SWEPT[name], "arm"]).size().max()
    settings = " and ".join(dict.fromkeys(trainings["setting"].str.replace("-", " ")))
    heading = (
        f"Another {name} ({settings}; balanced accuracy, mean of {per_cell} seeds (lowest to highest); a tendency, no claim):"
    )
    return f"{heading}\n\n{markdown_table(cells, SWEPT[name].replace('_', ' '))}"


def of_patients(benchmarks):
    """Fakes against nothing where patients are counted, or only those who aren't in train; None where that isn't measured yet."""
    if not (benchmarks / PATIENTS).exists():
        return None
    rows = pd.read_csv(benchmarks / PATIENTS)
    told = {
        kind: ", and ".join(
            f"{row['outcome']} in {row['setting'].replace('-', ' ')}, {with_interval(row)}"
            for row in here.to_dict("records")
            if is_against_nothing(row)
        )
        for kind, here in rows.groupby("test_images")
    }
    return (
        "Counted by the patients that the collections' own lists name, fakes against nothing are "
        f"{told['all']}; on test images of patients who aren't in train, {told['unseen patients']}."
    )


def of_scarcity(folder):
    """Every arm's mean at the fewest real images of the published sweep, as a sentence; None where that isn't there yet."""
    trainings = sweeps_of(folder).get("number of real images")
    if trainings is None:
        return None
    fewest = trainings[trainings["real_minority"] == trainings["real_minority"].min()]
    means = fewest.groupby("arm", sort=False)["balanced_accuracy"].mean()
    name, count = fewest["setting"].iloc[0].rsplit("-", 1)
    told = ", ".join(f"{write_arm(arm)} {mean:.3f}" for arm, mean in means.items())
    return f"With {count} real training images of {name} ({fewest['seed'].nunique()} seeds, a tendency, no claim), balanced accuracy: {told}."


def found_besides(folder):
    """What the published study says beside its verdict, a Markdown list: what leaks are worth, how fakes are classified, what they teach."""
    lines = []
    if (folder / "leaks.csv").exists():
        leaks = pd.read_csv(folder / "leaks.csv").set_index("setting")
        without, kept = (leaks[leaks.index.str.endswith("-with-leaks") == leaky] for leaky in (False, True))
        if len(kept):
            before, after = without["balanced_accuracy"].tolist(), kept["balanced_accuracy"].tolist()
            lines.append(
                f"Leaks: with the training images kept that have a twin in test, the baseline comes to {after[0]:.3f} instead of {before[0]:.3f}; "
                f"on the {kept['number'].iloc[1]} test images without a twin, {after[1]:.3f} instead of {before[1]:.3f} (balanced accuracy, "
                f"{without.index[0].replace('-', ' ')})."
            )
    if (folder / "share_found.csv").exists():
        shares = pd.read_csv(folder / "share_found.csv", index_col="model")
        lines += [
            f"The network {model} finds " + ", ".join(f"{share:.0%} of the {kind}" for kind, share in row.items()) + "."
            for model, row in shares.iterrows()
        ]
    for file in sorted(folder.glob(f"units/*/{FAKES_INSTEAD}-*.json")):
        metrics = disk.read_json(file)["metrics"]
        lines.append(
            f"A network that saw fakes of the minority class and never a real image of it finds {metrics['sensitivity']:.0%} of the real test "
            f"images (specificity {metrics['specificity']:.0%})."
        )
    return "\n".join(f"- {line}" for line in lines)


def means_of_arms(folder):
    """The mean of each arm of the published study, as a Markdown table."""
    rows = []
    for (setting, arm), trainings in pd.read_csv(folder / "arms.csv").groupby(["setting", "arm"], sort=False):
        spread = _mean_and_range(trainings["balanced_accuracy"])
        sensitivity = f"{trainings['sensitivity'].mean():.3f}"
        kept = f"{trainings['best_update'].mean():.0f} of {trainings['updates'].mean():.0f}"
        where = f"{setting.replace('-', ' ')}, {trainings['test_images'].iloc[0]:,} test images"
        rows.append([where, write_arm(arm), str(len(trainings)), spread, sensitivity, kept])
    columns = [
        "setting",
        "arm",
        "seeds",
        "balanced accuracy, mean (lowest to highest)",
        "sensitivity, mean",
        "kept update, mean",
    ]
    table = pd.DataFrame(rows, columns=columns).set_index("setting")
    return markdown_table(table, "setting")


def _mean_and_range(score):
    return f"{score.mean():.3f} ({score.min():.3f} to {score.max():.3f})"


def markdown_table(table, first_column):
    """A DataFrame of text as a Markdown table; `first_column` is the heading of its index."""
    lines = [f"| {first_column} | " + " | ".join(table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    return "\n".join(
        lines + [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(table.index, table.to_numpy(), strict=True)]
    )


def of_verdict(verdict):
    """The answer, from `verdict.json`, and what else it says, as Markdown."""
    return f"{answer_of(verdict)}\n{rest_of(verdict)}"


def answer_of(verdict):
    """Fakes against nothing, the primary contrast, and the warnings, as Markdown."""
    answers = [
        *_against_nothing(_fakes_against_nothing(verdict), verdict["margin"]),
        _answer(_primary(verdict), verdict["margin"]),
    ]
    warnings = [f"- {warning}" for warning in verdict["warnings"]]
    return "\n".join(["\n\n".join(f"**{answer}**" for answer in answers) + "\n", *warnings])


def rest_of(verdict):
    """The primary contrast on fewer images, and which other contrasts are decided, as Markdown."""
    primary, lines = _primary(verdict), []
    for row in verdict["without_twins"]:
        if row["primary"] and row["images"] < primary["images"]:
            lines.append(
                f"- Fakes against duplicates on the {row['images']:,} test images that have no twin in the train folder, nor another image of their "
                f"patient where patients are known, {row['setting'].replace('-', ' ')}: {with_interval(row)}."
            )
    others = [row for row in verdict["contrasts"] if not row["primary"]]
    decided = [row for row in others if row["outcome"] != verdicts.INCONCLUSIVE]
    besides = [row for row in decided if row not in _fakes_against_nothing(verdict)]
    lines.append(
        f"- Of the {len(others)} other contrasts (outcomes adjusted for their number, intervals not), {len(decided)} are decided"
        + (f", {len(decided) - len(besides)} of them fakes against nothing" if len(besides) < len(decided) else "")
        + (f"; the other {len(besides)}:" if besides and len(besides) < len(decided) else ":" if besides else ".")
    )
    lines += [f"    - {contrast(row)}: {row['outcome']}, {with_interval(row)}" for row in besides]
    return "\n".join(lines)


def _primary(verdict):
    return next(row for row in verdict["contrasts"] if row["primary"])


def _fakes_against_nothing(verdict):
    return [row for row in verdict["contrasts"] if is_against_nothing(row)]


def is_against_nothing(row):
    """Whether a contrast is that of fakes against nothing added."""
    return (row["first"], row["second"]) == ("nothing", "gan")


def _against_nothing(rows, margin):
    """What adding fakes changed, a sentence for all settings that come out alike."""
    words = {
        verdicts.BETTER: "Adding fakes helped",
        verdicts.WORSE: "Adding fakes hurt",
        verdicts.EQUIVALENT: f"Adding fakes changed nothing that matters (less than {100 * margin:.0f} points of balanced accuracy)",
        verdicts.INCONCLUSIVE: "Whether adding fakes changes anything can't be told",
        None: "Fakes against nothing added, without a claim",
    }
    told = {}
    for row in rows:
        outcome = None if row["low"] is None else row["outcome"]
        told.setdefault(outcome, []).append(f"{with_interval(row)} in {row['setting'].replace('-', ' ')}")
    return [f"{words[outcome]}: {', '.join(numbers)}." for outcome, numbers in told.items()]


def _answer(primary, margin):
    """What the primary contrast says, in a sentence with its interval."""
    if primary["low"] is None:
        seeds = f"{primary['seeds']} seed" + "s" * (primary["seeds"] > 1)
        return (
            f"No claim is made about the method: {seeds} of each arm, and it takes {verdicts.FEWEST_SEEDS} or more to tell it from chance. "
            f"Fakes against duplicates: {with_interval(primary)} of balanced accuracy, {primary['setting'].replace('-', ' ')}, "
            f"{primary['images']:,} test images."
        )
    words = {
        verdicts.BETTER: "Fakes did better than duplicates",
        verdicts.WORSE: "Fakes did worse than duplicates",
        verdicts.EQUIVALENT: f"Fakes and duplicates are equivalent (within {100 * margin:.0f} points)",
        verdicts.INCONCLUSIVE: "Whether fakes help more than duplicates can't be told",
    }
    return (
        f"{words[primary['outcome']]} (the contrast named beforehand): {with_interval(primary)}, {primary['setting'].replace('-', ' ')}, "
        f"{primary['seeds']} seeds, {primary['images']:,} test images. Such a study finds a difference of "
        f"{100 * primary['smallest_seen']:.1f} points four times in five."
    )


def contrast(row):
    """A contrast in words: the second arm against the first, and where."""
    return f"{write_arm(row['second'])} against {write_arm(row['first'])}, {row['setting'].replace('-', ' ')}"


def with_interval(row):
    """A contrast's difference in points, with its interval where it has one."""
    difference = f"{_in_points(row['difference'])} points"
    if pd.isna(row["low"]):  # None as JSON has it, NaN as a CSV's
        return difference
    return f"{difference} (95 % interval {_in_points(row['low'])} to {_in_points(row['high'])})"


def _in_points(share):
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: never -0.0


def warnings_of(notes, shortcuts):
    """What must be said with every verdict of a run.

    Args:
        notes: the run's record.
        shortcuts: `audit.shortcuts_by_setting`.
    """
    found = ["The interval is conditional on this one split of this one data set."]
    if notes["is_phantom"]:
        found.insert(0, "These are drawings, not patients: nothing here is evidence about medicine.")
    if not notes["groups_file"]:
        found.append(
            "Patients aren't known (`GROUPS`): one may stand in train and in test, and the interval takes all test images for different patients."
        )
    elif notes["data"]["without_group"]:
        found.append(
            f"`GROUPS` names no patient for {notes['data']['without_group']} of the images: each is taken for a patient of its own."
        )
    left = {setting: table.set_index("view") for setting, table in shortcuts.groupby("setting", sort=False)}
    alarms = {setting: table.loc[audit.HIDDEN] for setting, table in left.items() if audit.has_shortcut(table)}
    if alarms:
        told = " and ".join(
            f"{hidden['share']:.0%} of its score above chance in {setting.replace('-', ' ')} (balanced accuracy {hidden['balanced_accuracy']:.3f})"
            for setting, hidden in alarms.items()
        )
        found.append(
            f"Shortcut: with the lungs hidden a small classifier still has {told}, so most of what is compared there isn't lungs."
        )
    return found


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
