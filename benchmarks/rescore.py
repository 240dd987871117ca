"""The published study's predictions scored a second time, with a decision rule that knows the class shares of the training images.

python -m benchmarks.rescore      # rescored.csv, and the contrasts again in rescored_contrasts.csv

A classifier trained on 25 patients among 1,036 images learns that patients are rare and calls nearly nobody ill; balanced accuracy
counts both classes alike and punishes that. Dividing each class's probability by the class's share of the training images before the
largest is taken (Menon et al. 2021, arXiv:2007.07314) removes that difference between the arms; nothing is tuned and no test label is used.
"""

import argparse

import matplotlib.pyplot as plt
import pandas as pd

import utils
from benchmarks import published_study
from xraygan import disk
from xraygan.comparison import arms, metrics, verdict
from xraygan.comparison.tables import judge_predictions
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


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contrasts = compare_again()
    print(contrasts[contrasts["primary"] | (contrasts["second"] == "gan")].round(4).to_string(index=False))
    utils.write_table(contrasts.round(6), STUDY / "rescored_contrasts.csv")
    table = rescore()
    print(table.to_string(index=False))
    utils.write_table(table.round(6), STUDY / "rescored.csv")
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


def rescore():
    """Both decision rules and AUROC of every training of the first study: a row for each setting, arm and number of extra images.

    Returns:
        DataFrame: each score's mean over the seeds of the study, its lowest and highest.
    """
    rows = [score_unit(file) for file in sorted(published_study.FOLDER.glob("units/*/*.json"))]
    trainings = pd.DataFrame(rows)
    num_seeds = published_study.RECORD["profile"]["num_seeds"]
    trainings = trainings[trainings["seed"] < num_seeds]  # further seeds are those of `same_arm`
    groups = trainings.groupby(["setting", "arm", "real_images", "real_minority", "extra_images"])
    summary = groups["seed"].nunique().rename("seeds").to_frame()
    for score in SCORES:
        summary[score] = groups[score].mean()
        summary[f"{score}_lowest"], summary[f"{score}_highest"] = groups[score].min(), groups[score].max()
    return summary.reset_index()


def score_unit(file):
    """One training's scores; the one by the usual rule is checked against what was written when it was trained."""
    facts, setting = disk.read_json(file), published_study.read_setting(file)
    predictions = published_study.read_called_by_shares(file)
    scores = metrics.compute_metrics(predictions, setting.classes, setting.minority)
    if abs(scores["balanced_accuracy_of_likeliest"] - facts["metrics"]["balanced_accuracy"]) > 1e-9:
        raise ValueError(f"{file.name}: the predictions give another balanced accuracy than the file says.")
    return {
        "setting": file.parent.name,
        "arm": facts["parameters"]["arm"],
        "seed": facts["parameters"]["seed"],
        "real_images": facts["real_images"],
        "real_minority": facts["real_minority"],
        "extra_images": facts["extra_images"],
        "balanced_accuracy": scores["balanced_accuracy_of_likeliest"],
        "balanced_accuracy_by_shares": scores["balanced_accuracy"],
        "auroc": scores["auroc"],
    }


def compare_again():
    """The first study's contrasts, classes called by shares, with intervals that know the spread of all arms.

    Returns:
        DataFrame of `verdict.reach_verdict`, the primary contrasts being those in three classes. Of each setting the arms with all seeds.
    """
    profile = published_study.RECORD["profile"]
    group_of = published_study.read_published_split().set_index("file")["group"]
    judged, labels, groups = {}, {}, {}
    for folder in sorted((published_study.FOLDER / "units").iterdir()):
        names = {file.name.rsplit("-", 3)[0] for file in folder.glob(f"*-{profile['num_fakes']}-*.json")}
        files = {
            name: published_study.list_facts(folder.name, name, profile["num_fakes"]) for name in arms.ARMS if name in names
        }
        files = {name: some[: profile["num_seeds"]] for name, some in files.items()}
        most = max(map(len, files.values()))
        files = {name: some for name, some in files.items() if len(some) == most}
        if len(files) > 1:
            tables = {name: [published_study.read_called_by_shares(file) for file in some] for name, some in files.items()}
            setting = published_study.read_setting(next(iter(files.values()))[0])
            judged[folder.name], labels[folder.name], groups[folder.name] = judge_predictions(tables, setting, group_of)
    return verdict.reach_verdict(judged, labels, groups, PRIMARY)


if __name__ == "__main__":
    main()
