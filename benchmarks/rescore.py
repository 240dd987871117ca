"""The published study's predictions scored a second time, with a decision rule that knows the class shares of the training images.

python -m benchmarks.rescore      # rescored.csv, and the contrasts again in rescored_contrasts.csv

A classifier trained on 25 patients among 1,036 images learns that patients are rare and calls nearly nobody ill; balanced accuracy
counts both classes alike and punishes that. Dividing each class's probability by the class's share of the training images before the
largest is taken (Menon et al. 2021, arXiv:2007.07314) removes that difference between the arms; nothing is tuned and no test label is used.
"""

import matplotlib.pyplot as plt
import pandas as pd

import utils
from benchmarks import published_study
from xraygan import disk
from xraygan.comparison import arms, classifier, metrics, verdict
from xraygan.comparison.tables import judge_predictions
from xraygan.data.dataset import Setting
from xraygan.report import figures
from xraygan.report.published import STUDY

SCORES = {
    "balanced_accuracy": "balanced accuracy,\nthe likeliest class",
    "balanced_accuracy_by_shares": "balanced accuracy,\nprobabilities divided by class shares",
    "auroc": "AUROC,\nno threshold at all",
}
FEWEST = "PNEUMONIA-25"  # the setting that is drawn
PRIMARY = "3-classes"
PICTURE = disk.ROOT / "images" / "readme" / "chest_xray_rescored.png"


def main(study=STUDY):
    contrasts = compare_again(study)
    print(contrasts[contrasts["primary"] | (contrasts["second"] == "gan")].round(4).to_string(index=False))
    utils.write_table(contrasts.round(6), study / "rescored_contrasts.csv")
    table = rescore(study)
    print(table.to_string(index=False))
    utils.write_table(table.round(6), study / "rescored.csv")
    figures.save_figure(draw_scores(table[table["setting"] == FEWEST]), PICTURE)


def draw_scores(rows):
    """The arms of one setting by each score, a panel a score: the mean, and a line from the lowest to the highest seed."""
    rows = rows.set_index("arm").loc[[arm for arm in arms.ARMS if arm in set(rows["arm"])][::-1]]
    figure, axes = plt.subplots(1, len(SCORES), figsize=(10, 2.6), sharey=True, layout="constrained")
    for axis, (score, words) in zip(axes, SCORES.items(), strict=True):
        for arm, row in rows.iterrows():
            colour, marker = figures.choose_look(arm)
            axis.plot([row[f"{score}_lowest"], row[f"{score}_highest"]], [arms.write_arm(arm)] * 2, color=colour)
            axis.plot(row[score], arms.write_arm(arm), marker, color=colour, markersize=8)
            axis.annotate(
                f"{row[score]:.3f}", (row[score], arms.write_arm(arm)), (0, 7), textcoords="offset points", ha="center"
            )
        axis.set(title=words, xlim=(0.48, 1.02))
        axis.margins(y=0.25)
    figure.suptitle(
        f"{rows['real_minority'].iloc[0]} real images of patients, {rows['seeds'].iloc[0]} seeds: a tendency, no claim"
    )
    return figure


def rescore(study):
    """Both decision rules and AUROC of every published training of a study: a row for each setting, arm and number of extra images.

    Args:
        study: folder with `record.json` and `units/`.

    Returns:
        DataFrame: each score's mean over the seeds of the study, its lowest and highest.
    """
    record = disk.read_json(study / "record.json")
    rows = [score_unit(file, record["data"]["counts"]["train"]) for file in sorted(study.glob("units/*/*.json"))]
    trainings = pd.DataFrame(rows)
    trainings = trainings[trainings["seed"] < record["profile"]["num_seeds"]]  # further seeds are those of `same_arm`
    groups = trainings.groupby(["setting", "arm", "real_images", "real_minority", "extra_images"])
    summary = groups["seed"].nunique().rename("seeds").to_frame()
    for score in SCORES:
        summary[score] = groups[score].mean()
        summary[f"{score}_lowest"], summary[f"{score}_highest"] = groups[score].min(), groups[score].max()
    return summary.reset_index()


def score_unit(file, train_counts):
    """One training's scores; the one by the usual rule is checked against what was written when it was trained."""
    facts = disk.read_json(file)
    setting = facts["parameters"]["setting"]
    arm, classes, minority = facts["parameters"]["arm"], setting["classes"], setting["minority"]
    predictions = read_old_predictions(file)
    scores = metrics.compute_metrics(predictions, classes, minority)
    if abs(scores["balanced_accuracy"] - facts["metrics"]["balanced_accuracy"]) > 1e-9:
        raise ValueError(f"{file.name}: the predictions give another balanced accuracy than the file says.")

    shares = count_shares(facts, setting, train_counts)
    adjusted = metrics.compute_metrics(decide_by_shares(predictions, shares, minority), classes, minority)
    return {
        "setting": file.parent.name,
        "arm": arm,
        "seed": facts["parameters"]["seed"],
        "real_images": facts["real_images"],
        "real_minority": facts["real_minority"],
        "extra_images": facts["extra_images"],
        "balanced_accuracy": scores["balanced_accuracy"],
        "balanced_accuracy_by_shares": adjusted["balanced_accuracy"],
        "auroc": scores["auroc"],
    }


def read_old_predictions(file):
    """The predictions beside a unit's facts; they were written when the likeliest class was the one that was called."""
    predictions = classifier.read_predictions(file.with_suffix(".csv"))
    return predictions.assign(likeliest=predictions["prediction"])


def compare_again(study):
    """The published study's contrasts, classes called by shares, with the intervals that pool the spread of all arms.

    Returns:
        DataFrame of `verdict.reach_verdict`, the primary contrasts being those in three classes.
    """
    record = disk.read_json(study / "record.json")
    group_of = published_study.read_published_split().set_index("file")["group"]
    judged, labels, groups = {}, {}, {}
    for folder in sorted((study / "units").iterdir()):
        predictions, setting = {}, None
        for file in sorted(folder.glob("*.json")):
            facts = disk.read_json(file)
            asked = facts["parameters"]
            if asked["seed"] < record["profile"]["num_seeds"] and facts["extra_images"] in (0, record["profile"]["num_fakes"]):
                setting = Setting(
                    tuple(asked["setting"]["classes"]), asked["setting"]["minority"], asked["setting"]["num_real"]
                )
                shares = count_shares(facts, asked["setting"], record["data"]["counts"]["train"])
                table = decide_by_shares(read_old_predictions(file), shares, setting.minority)
                predictions.setdefault(asked["arm"], {})[asked["seed"]] = table
        seeds = set().union(*predictions.values())
        by_arm = {arm: [tables[seed] for seed in sorted(seeds)] for arm, tables in predictions.items() if set(tables) == seeds}
        if len(by_arm) > 1:
            judged[folder.name], labels[folder.name], groups[folder.name] = judge_predictions(by_arm, setting, group_of)
    return verdict.reach_verdict(judged, labels, groups, PRIMARY)


def count_shares(facts, setting, train_counts):
    """{class: share of what a unit was trained on}; an arm that weighs the loss counts as if the extra images were there."""
    arm = arms.choose_arm(facts["parameters"]["arm"])
    counts = {name: train_counts[name] for name in setting["classes"]}
    added = facts["parameters"]["num_extra"] if arm.weighs else facts["extra_images"]
    counts[setting["minority"]] = facts["real_minority"] * arm.keeps_real
    if len(counts) == 2:  # the other class is what remains: a unit that kept leaks has more of it than the split counts
        other = next(name for name in counts if name != setting["minority"])
        counts[other] = facts["real_images"] - facts["real_minority"]
    counts[setting["minority"]] += added
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def decide_by_shares(predictions, shares, minority):
    """A table of predictions whose `prediction` is the class with the largest probability divided by its share of the training images."""
    if len(shares) == 2:
        other = next(name for name in shares if name != minority)
        by_class = pd.DataFrame({other: 1 - predictions["probability"], minority: predictions["probability"]})
    else:
        by_class = predictions[[f"probability_{name}" for name in shares]].set_axis(list(shares), axis=1)
    return predictions.assign(prediction=(by_class / pd.Series(shares)).idxmax(axis=1))


if __name__ == "__main__":
    main()
