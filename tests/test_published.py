"""The published study of few images: every number that is told follows from its trainings' predictions."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import utils
from benchmarks import expected_width
from benchmarks.published_study import read_setting
from xraygan import disk
from xraygan.comparison import exchange, metrics, scarcity, tables, verdict
from xraygan.comparison.arms import ARMS
from xraygan.comparison.classifier import read_predictions
from xraygan.report.published import SCARCITY

TABLES = SCARCITY / scarcity.FOLDER
FILES = sorted(SCARCITY.glob("units/*/*.json"))
# Declared in declaration.md
NUM_REPLICATES, CURVE_REPLICATES = {25: 24, 115: 10}, 12
CURVE, NUM_ARMS = [25, 50, 115, 230, 460, 1000], 6


@pytest.fixture(scope="module")
def trainings():
    """A row a published training: num_real, arm, seed, its facts, and its predictions as a table."""
    if not FILES:
        pytest.skip("no training is finished yet")
    rows = []
    for file in FILES:
        facts = disk.read_json(file)
        asked = facts["parameters"]
        row = {"num_real": asked["setting"]["num_real"], "arm": asked["arm_name"], "seed": asked["seed"], "file": file}
        rows.append(row | {"facts": facts, "predictions": read_predictions(file.with_suffix(".csv"))})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def told():
    """{name: published table}."""
    if not (TABLES / "state.json").exists():
        pytest.skip("no replicate is finished yet")
    return {file.stem: utils.read_table(file) for file in TABLES.glob("*.csv")}


def choose_compared(trainings, num_real):
    """The trainings at a number of real images in those replicates that all arms have finished."""
    of = trainings[(trainings["num_real"] == num_real) & (trainings["seed"] < NUM_REPLICATES[num_real])]
    arms = of["arm"].unique()
    whole = of.groupby("seed")["arm"].nunique()
    return of[of["seed"].isin(whole.index[whole == len(arms)])]


def test_scores_are_those_of_the_predictions(trainings):
    """By scikit-learn, from the probabilities: the class with the largest probability divided by its share of the training images."""
    for row in trainings.itertuples():
        positive = row.predictions["label"] == "PNEUMONIA"
        odds = row.predictions["probability"] / row.facts["training_shares"][1]
        called = odds > (1 - row.predictions["probability"]) / row.facts["training_shares"][0]
        told = row.facts["metrics"]
        assert told["auroc"] == pytest.approx(roc_auc_score(positive, row.predictions["probability"])), row.file
        assert told["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(positive, called)), row.file
        assert (row.predictions["prediction"] == np.where(called, "PNEUMONIA", "NORMAL")).all(), row.file


def test_trainings_are_those_that_were_declared(trainings):
    text = (SCARCITY / "declaration.md").read_text()
    assert "NORMAL" in text and "PNEUMONIA" in text
    for row in trainings.itertuples():
        asked = row.facts["parameters"]
        assert asked["setting"]["classes"] == ["NORMAL", "PNEUMONIA"] and row.num_real in CURVE
        compared, in_curve = NUM_REPLICATES.get(row.num_real, 0), CURVE_REPLICATES if row.arm == "nothing" else 0
        assert row.seed < max(compared, in_curve)
        assert row.facts["real_minority"] == row.num_real and row.facts["extra_images"] in (0, 1000)
        assert (row.facts["extra_images"] == 1000) == (ARMS[row.arm].keeps_real and bool(ARMS[row.arm].adds))
        assert (asked["classifier"]["batch_size"], asked["classifier"]["updates"]) == (64, 1200)
    assert not trainings.duplicated(["num_real", "arm", "seed"]).any(), "one training was published twice"


def test_no_patient_is_tested_and_trained_on(trainings):
    """Patients by the file names of that collection; what a replicate tests is half of all patients, another half each time."""
    split = utils.read_table(SCARCITY / "split.csv", dtype=str)
    patient = split["file"].str.extract(r"(person\d+)_")[0]
    groups = split["group"].groupby(patient).nunique()
    assert (groups == 1).all(), "a patient of several groups could stand on both sides"
    tested = {row.seed: frozenset(row.predictions["file"]) for row in trainings.itertuples()}
    assert len(set(tested.values())) == len(tested)
    group_of = split.set_index("file")["group"]
    for files in tested.values():
        inside = group_of.index.isin(files)
        assert not set(group_of[inside]) & set(group_of[~inside])


def test_tables_are_those_of_the_trainings(trainings, told):
    for name, of in [
        ("trainings", pd.concat([choose_compared(trainings, number) for number in NUM_REPLICATES])),
        ("curve", trainings[trainings["arm"] == "nothing"]),
    ]:
        index = ["num_real", "arm", "seed"]
        published = told[name].set_index(index).sort_index()
        expected = of.set_index(index).sort_index()
        assert published.index.equals(expected.index)
        for metric in ("auroc", "balanced_accuracy"):
            scores = [
                metrics.compute_metrics(table, ("NORMAL", "PNEUMONIA"), "PNEUMONIA")[metric]
                for table in expected["predictions"]
            ]
            np.testing.assert_allclose(published[metric], scores)


def test_contrasts_are_those_of_the_predictions_and_none_is_published_before_all_trainings_are(trainings, told):
    state = disk.read_json(TABLES / "state.json")
    if state["finished"] < state["asked"]:
        assert "contrasts" not in told
        return
    group_of = utils.read_table(SCARCITY / "split.csv", dtype=str).set_index("file")["group"]
    judged, labels, groups = {}, {}, {}
    for number in NUM_REPLICATES:
        of = choose_compared(trainings, number).sort_values("seed")
        if len(of):
            setting = read_setting(of["file"].iloc[0])
            predictions = {arm: list(of.loc[of["arm"] == arm, "predictions"]) for arm in ARMS if arm in set(of["arm"])}
            found = tables.judge_predictions(predictions, setting, group_of)
            judged[setting.name], labels[setting.name], groups[setting.name] = found
    index = ["setting", "metric", "first", "second"]
    expected = verdict.reach_verdict(judged, labels, groups, "PNEUMONIA-25").set_index(index).sort_index()
    published = told["contrasts"].set_index(index).sort_index()
    assert published.index.equals(expected.index)
    for column in ("difference", "low", "high", "p_holm"):
        np.testing.assert_allclose(published[column].astype(float), expected[column].astype(float), atol=1e-9)
    assert (published["outcome"] == expected["outcome"]).all()


def test_the_expected_width_is_that_of_the_first_eight_replicates(trainings, told):
    if not (SCARCITY / "expected_width.csv").exists():
        pytest.skip("eight replicates aren't finished yet")
    of = trainings[(trainings["num_real"] == 25) & (trainings["seed"] < expected_width.LOOK_AFTER)].sort_values("seed")
    predictions = {arm: list(of.loc[of["arm"] == arm, "predictions"]) for arm in expected_width.ARMS}
    group_of = utils.read_table(SCARCITY / "split.csv", dtype=str).set_index("file")["group"]
    expected = expected_width.expect_width(predictions, read_setting(of["file"].iloc[0]), group_of)
    published = utils.read_table(SCARCITY / "expected_width.csv")
    pd.testing.assert_frame_equal(published, expected)
    half = published.set_index("metric")["expected"]["auroc"]
    said = re.findall(
        r"is (\d\.\d) points with these 8 and is expected to be (\d\.\d) with 24", (SCARCITY / "declaration.md").read_text()
    )
    assert said == [(f"{100 * published['now'][0]:.1f}", f"{100 * half:.1f}")]
    assert half < expected_width.TOO_WIDE


def test_what_a_remedy_is_worth_follows_from_the_trainings(told):
    expected = exchange.tabulate_worth(told["trainings"], told["curve"])
    pd.testing.assert_frame_equal(told["worth"].fillna({"beyond": ""}), expected, check_dtype=False)
    of_curve = scarcity.tabulate_worth_of_curve(told["trainings"], told["curve"])
    pd.testing.assert_frame_equal(told["worth_of_curve"].fillna({"beyond": ""}), of_curve, check_dtype=False)
    assert (of_curve["replicates"] <= CURVE_REPLICATES).all()


def test_means_and_medians_are_those_of_the_trainings(trainings, told):
    for row in told["scores"].itertuples():
        compared = choose_compared(trainings, row.num_real)
        scores = [facts["metrics"]["auroc"] for facts in compared.loc[compared["arm"] == row.arm, "facts"]]
        assert (len(scores), row.auroc, row.auroc_median) == pytest.approx((row.replicates, np.mean(scores), np.median(scores)))


def test_the_state_counts_the_trainings(trainings, told):
    """All that were declared: six arms in every replicate, and the rest of the learning curve."""
    text = (SCARCITY / "declaration.md").read_text()
    (said,) = re.findall(r"^\*\*Arms\*\*, at (.*):$", text, re.MULTILINE)
    declared = {int(num_real): int(replicates) for num_real, replicates in re.findall(r"n = (\d+) \((\d+) replicates\)", said)}
    (curve,) = re.findall(
        r"^\*\*Learning curve\*\*: nothing added, at n = (.*) real images, \*in the replicates 0 to (\d+)\*", text, re.MULTILINE
    )
    assert declared == NUM_REPLICATES and int(curve[1]) + 1 == CURVE_REPLICATES
    assert [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", curve[0])] == CURVE
    further = sum(CURVE_REPLICATES - min(CURVE_REPLICATES, declared.get(num_real, 0)) for num_real in CURVE)
    asked = NUM_ARMS * sum(declared.values()) + further
    state = disk.read_json(TABLES / "state.json")
    assert state["asked"] == asked and state["finished"] <= min(asked, len(trainings))
