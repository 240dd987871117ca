"""The comparison's error rates, on simulated studies whose truth is known, and its parts against known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from benchmarks import error_rates, variance_parts
from xraygan import disk
from xraygan.comparison import metrics, verdict
from xraygan.comparison.metrics import METRICS

HELD = [
    name for name, regime in error_rates.REGIMES.items() if regime.spread_of_gan == 1
]  # where the intervals keep their word


def judge(outputs, positive):
    """{metric: `verdict.Judged`} of outputs `(R, N)`, all replicates with the same test images."""
    return error_rates.judge_arm(np.asarray(outputs, float), np.asarray(positive), np.full(np.shape(outputs), True))


def compare(first, second, positive, metric, groups=None, others=()):
    """`verdict.estimate_difference` of two arms of outputs, beside which other arms may stand."""
    named = {"first": first, "second": second} | {f"other {number}": other for number, other in enumerate(others)}
    arms = {name: judge(outputs, positive)[metric] for name, outputs in named.items()}
    groups = np.arange(len(positive)) if groups is None else groups
    return verdict.estimate_difference(arms, "first", "second", np.asarray(positive), groups, METRICS[metric])


@pytest.mark.parametrize("regime", HELD)
@pytest.mark.parametrize("replicates", [3, 10])
def test_error_rates_in_short(regime, replicates):
    """The long table (2,000 studies of every regime and number of replicates) is published and checked below; this is a part of it made anew."""
    for row in error_rates.count_errors(error_rates.REGIMES[regime], replicates, 200, seed=1):
        assert 0.90 <= row["coverage"] <= 1, row  # two standard errors of 400 intervals about 93 to 98
        assert row["better"] <= 0.025 and row["any_better"] <= 0.06, row


def test_the_published_error_rates_are_of_this_code_and_hold_what_is_promised():
    table = pd.read_csv(disk.ROOT / "results" / "published" / "benchmarks" / "error_rates.csv")
    power = pd.read_csv(disk.ROOT / "results" / "published" / "benchmarks" / "power.csv")
    made_by = {*table["code"], *power["code"]}
    assert made_by == {error_rates.describe_code()}, "the verdict has changed: run python -m benchmarks.error_rates"
    held = table[table["regime"].isin(HELD)]
    assert len(HELD) >= 7 and len(held) == len(HELD) * 4 * 2 and (table["studies"] >= 2000).all()
    assert held["coverage"].min() >= 0.93 and held["coverage"].max() <= 0.985
    assert table["better"].max() <= 0.025 and table["any_better"].max() <= 0.05
    assert sorted(held["replicates"].unique()) == [3, 5, 10, 24]
    other, said = table[~table["regime"].isin(HELD)], (disk.ROOT / "notebooks" / "3_after_gan.ipynb").read_text()
    for rows in (held, other):
        assert f"{100 * rows['coverage'].min():.0f} to {100 * rows['coverage'].max():.0f}" in said


def test_regimes_are_set_by_the_published_predictions():
    table = pd.read_csv(disk.ROOT / "results" / "published" / "benchmarks" / "variance_parts.csv").set_index("setting")
    pd.testing.assert_series_equal(
        pd.Series(variance_parts.part_variance(*variance_parts.read_scores("PNEUMONIA-25"))),
        table.loc["PNEUMONIA-25", ["ease", *variance_parts.PARTS]],
        atol=0.001,
        check_names=False,
        check_dtype=False,
    )
    for regime, setting in [(error_rates.Regime(), "PNEUMONIA-115"), (error_rates.FEW_PATIENTS, "PNEUMONIA-25")]:
        for name in ("ease", *variance_parts.PARTS):
            assert getattr(regime, name) == pytest.approx(table.loc[setting, name], abs=0.01)


def test_planted_parts_of_the_variance_are_found(rng):
    planted = {"threshold": 0.4, "replicate": 0.2, "image": 1.0, "arm_image": 0.5, "rest": 0.7}
    positive, (num_arms, num_replicates) = np.repeat([True, False], 2000), (6, 200)
    scores = 2.0 + rng.normal(size=(num_arms, 1, 1)) + planted["image"] * rng.normal(size=4000)
    scores = scores + planted["arm_image"] * rng.normal(size=(num_arms, 1, 4000))
    scores = scores + planted["replicate"] * rng.normal(size=(num_arms, num_replicates, 1))
    scores = scores + planted["threshold"] * rng.normal(size=(num_arms, num_replicates, 1)) * np.where(positive, 1, -1)
    scores = scores + planted["rest"] * rng.normal(size=scores.shape)
    found = variance_parts.part_variance(scores, positive)
    unit = np.sqrt(sum(value**2 for value in planted.values()))
    assert {name: found[name] * unit for name in planted} == pytest.approx(planted, rel=0.06)


def test_eight_points_are_found():
    regime, rng = error_rates.REGIMES["remedies differ by image"], np.random.default_rng(0)
    found = []
    for _ in range(60):
        judged, labels, groups = error_rates.simulate(regime, 10, rng, better={"gan": 1.0})
        table = verdict.reach_verdict({"study": judged}, {"study": labels}, {"study": groups}, "study")
        found.append(table[table["primary"]].set_index(["metric", "first"])["outcome"])
    shares = (pd.DataFrame(found) == verdict.BETTER).mean()
    assert (shares >= 0.8).all(), shares


def test_influence_adds_up_to_the_metric_and_its_variance(rng):
    """Balanced accuracy: the binomial variance by class. AUROC: DeLong's, written out pair by pair."""
    positive = rng.random(80) < 0.4
    values = np.round(rng.normal(size=80) + positive, 1)  # ties on purpose
    names = np.where(positive, "sick", "well")
    called = np.where(values > 0.5, "sick", "well")
    answers = metrics.Answers(names, called, called, positive, called == "sick", values, {"sick": values})
    added = METRICS["auroc"].influence(answers)
    placements = np.array([[(a > b) + 0.5 * (a == b) for b in values[~positive]] for a in values[positive]])
    assert sk.roc_auc_score(positive, values) == pytest.approx(placements.mean())
    by_hand = (placements.mean(axis=1) - placements.mean()) / positive.sum()
    np.testing.assert_allclose(added[positive], by_hand)
    np.testing.assert_allclose(added[~positive], (placements.mean(axis=0) - placements.mean()) / (~positive).sum())
    added = METRICS["balanced_accuracy"].influence(answers)
    expected = sum((called[part] == names[part]).var() / part.sum() / 4 for part in (positive, ~positive))
    assert (added**2).sum() == pytest.approx(expected)


def test_influence_of_three_classes_is_the_mean_of_each_against_the_rest(rng):
    names = rng.choice(["A", "B", "C"], 60)
    outputs = rng.random((60, 3))
    by_class = dict(zip("ABC", outputs.T, strict=True))
    answers = metrics.Answers(names, names, names, names == "C", names == "C", outputs[:, 2], by_class)
    expected = np.mean([metrics.rank_influence(by_class[name], names == name) for name in "ABC"], axis=0)
    np.testing.assert_allclose(METRICS["auroc"].influence(answers), expected)


@pytest.mark.parametrize("metric", verdict.PRIMARY_METRICS)
def test_the_difference_is_that_of_the_metric(metric, rng):
    positive = rng.random(90) < 0.5
    first, second = rng.normal(size=(2, 4, 90)) + positive * 1.0
    found = compare(first, second, positive, metric)
    score = {
        "auroc": lambda v: sk.roc_auc_score(positive, v),
        "balanced_accuracy": lambda v: sk.balanced_accuracy_score(positive, v > 0),
    }
    assert found["difference"] == pytest.approx(
        np.mean([score[metric](b) - score[metric](a) for a, b in zip(first, second, strict=True)])
    )
    swapped = compare(second, first, positive, metric)
    assert swapped["low"] == pytest.approx(-found["high"]) and swapped["p_value"] == pytest.approx(found["p_value"])
    assert (found["replicates"], found["images"]) == (4, 90)


def test_where_only_replicates_differ_the_interval_is_the_t_interval_over_them(rng):
    """Two arms, very many images: scipy's paired t interval of the replicates' differences is the answer."""
    positive = np.repeat([True, False], 20_000)
    shares = {"first": [0.80] * 5, "second": [0.80, 0.84, 0.78, 0.86, 0.82]}
    right = {name: np.array([rng.random(40_000) < share for share in values]) for name, values in shares.items()}
    first, second = (np.where(right[name] == positive, 1.0, -1.0) for name in shares)
    found = compare(first, second, positive, "balanced_accuracy")
    scores = [np.mean([(row > 0)[positive].mean(axis=0), (row <= 0)[~positive].mean(axis=0)]) for row in (*first, *second)]
    interval = stats.ttest_rel(scores[5:], scores[:5]).confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx(tuple(interval), abs=0.002)


def test_where_only_images_differ_the_interval_is_delongs(rng):
    """Every replicate gives the same answers: they add nothing to what one pair of models on these images tells."""
    positive = np.repeat([True, False], 1500)
    first, second = rng.normal(size=(2, 3000)) + positive * 1.5
    found = compare(np.tile(first, (5, 1)), np.tile(second, (5, 1)), positive, "auroc")
    change = metrics.rank_influence(second, positive) - metrics.rank_influence(first, positive)
    assert found["high"] - found["difference"] == pytest.approx(1.96 * np.sqrt((change**2).sum()), rel=0.02)


def test_the_spread_of_other_arms_steadies_that_of_two(rng):
    """Three replicates that agree by luck: with arms beside them that don't, the interval isn't lured into being narrow."""
    positive = np.repeat([True, False], 400)
    arm = lambda shifts: rng.normal(size=(1, 800)) + positive * 1.0 + np.array(shifts)[:, None]  # noqa: E731
    lucky = arm([0.0, 0.0, 0.0]), arm([0.01, 0.01, 0.01])
    others = [arm([-0.6, 0.5, 0.1]), arm([0.5, -0.7, 0.0]), arm([0.1, 0.6, -0.5])]
    alone, beside = (
        compare(*lucky, positive, "balanced_accuracy"),
        compare(*lucky, positive, "balanced_accuracy", others=others),
    )
    assert beside["high"] - beside["low"] > 1.2 * (alone["high"] - alone["low"])


def test_the_same_image_three_times_says_no_more_than_once(rng):
    positive = np.repeat([True, False], [100, 200])
    first, second = rng.normal(size=(2, 1, 300)) + 0.1 * rng.normal(size=(2, 4, 300)) + positive * 1.0
    for metric in verdict.PRIMARY_METRICS:
        once = compare(first, second, positive, metric)
        thrice = [np.repeat(array, 3, axis=-1) for array in (first, second)]
        grouped = compare(*thrice, np.repeat(positive, 3), metric, groups=np.repeat(np.arange(300), 3))
        assert grouped.pop("images") == 3 * once.pop("images")
        assert grouped == pytest.approx(once)
        assert compare(*thrice, np.repeat(positive, 3), metric)["high"] < once["high"]


def test_a_test_part_drawn_anew_counts_the_images_of_a_replicate(rng):
    judged, labels, groups = error_rates.simulate(error_rates.FEW_PATIENTS, 6, rng)
    found = verdict.estimate_difference(judged["auroc"], "nothing", "gan", labels, groups, METRICS["auroc"])
    assert found["images"] == 400 and len(labels) == 800
    assert np.isfinite([found["low"], found["high"], found["p_value"]]).all()


@pytest.mark.parametrize("metric", verdict.PRIMARY_METRICS)
def test_a_tiny_test_set_is_never_equivalent_and_a_large_one_is(metric):
    for size, word in ((10, verdict.INCONCLUSIVE), (400, verdict.EQUIVALENT)):
        positive = np.repeat([True, False], size)
        perfect = np.tile(np.where(positive, 1.0, -1.0), (5, 1))
        found = compare(perfect, perfect, positive, metric)
        outcome = verdict.decide_outcome(found["difference"], found["p_value"], found["p_equivalent"])
        assert (outcome, found["difference"]) == (word, 0)


@pytest.mark.parametrize("replicates", range(1, verdict.FEWEST_REPLICATES))
def test_too_few_replicates_make_no_claim(replicates, rng):
    positive = np.repeat([True, False], 100)
    first, second = rng.normal(size=(2, replicates, 200)) + positive * np.array([0.2, 4.0])[:, None, None]
    found = compare(first, second, positive, "balanced_accuracy")
    assert found["difference"] > 0.2 and found["low"] is None and found["p_value"] is None
    assert verdict.decide_outcome(found["difference"], found["p_value"], found["p_equivalent"]) == "inconclusive"


def test_holm_against_known_answers():
    """Holm 1979, worked by hand: 0.01·4, 0.02·3, 0.03·2, 0.5·1, never falling."""
    assert verdict.holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06])
    assert verdict.holm([0.9, 0.8]) == [1.0, 1.0]
    assert verdict.holm([]) == []


def test_the_verdict_names_its_primary_contrasts_and_adjusts_both_families(rng):
    names = ("nothing", "class_weights", "oversampling", "on_the_fly", "gan", "more_real")
    positive = np.repeat([True, False], 60)
    judged = {}
    for setting in ("PNEUMONIA-25", "PNEUMONIA-115"):
        arms = {name: judge(rng.normal(size=(4, 120)) + positive * 1.0, positive) for name in names}
        judged[setting] = {metric: {name: arms[name][metric] for name in names} for metric in verdict.PRIMARY_METRICS}
    places = dict.fromkeys(judged, np.arange(120))
    table = verdict.reach_verdict(judged, dict.fromkeys(judged, positive), places, "PNEUMONIA-25")
    primary, others = table[table["primary"]], table[~table["primary"]]
    assert set(map(tuple, primary[["setting", "metric", "first", "second"]].to_numpy())) == {
        ("PNEUMONIA-25", metric, first, "gan") for metric in verdict.PRIMARY_METRICS for first in ("nothing", "oversampling")
    }
    assert len(table) == 2 * 2 * 9 and not table.duplicated(["setting", "metric", "first", "second"]).any()
    for family in (primary, others):
        assert family["p_holm"].min() == pytest.approx(min(1, len(family) * family["p_value"].min()))


def test_a_class_with_one_patient_is_a_sentence():
    positive = np.array([True, True, False, False])
    outputs = np.ones((3, 4))
    with pytest.raises(ValueError, match="all test images of class False are of one patient or near-copies"):
        compare(outputs, outputs, positive, "balanced_accuracy", groups=np.array([0, 1, 2, 2]))
