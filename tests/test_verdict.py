"""The comparison's error rates, on simulated studies whose truth is known, and its parts against known answers."""

import numpy as np
import pytest
from scipy import stats

from xraygan.comparison import verdict

LABELS = np.repeat(["NORMAL", "COVID19"], [317, 116])
SEEDS, STUDIES = 5, 2000
# Standard deviations of what makes a model err: its seed, the image for everyone, the image for this arm, this seed on this image.
REGIMES = {"seeds": (0.1, 1.0, 0.02, 0.15), "images": (0.02, 0.8, 0.8, 0.2), "residual": (0.02, 0.8, 0.1, 1.0)}


def simulate(rng, regime, accuracies, num_studies=STUDIES, labels=LABELS, seeds=SEEDS):
    """Two arms' right and wrong answers, `bool (num_studies, S, N)` each, with the expected accuracies given."""
    by_seed, by_image, by_arm_and_image, rest = REGIMES[regime]
    spread = np.sqrt(by_seed**2 + by_image**2 + by_arm_and_image**2 + rest**2)
    difficulty = by_image * rng.standard_normal((num_studies, 1, len(labels)))
    for accuracy in accuracies:
        score = stats.norm.ppf(accuracy) * spread + difficulty
        score = score + by_seed * rng.standard_normal((num_studies, seeds, 1))
        score = score + by_arm_and_image * rng.standard_normal((num_studies, 1, len(labels)))
        yield score + rest * rng.standard_normal((num_studies, seeds, len(labels))) > 0


def reach_outcomes(first, second, labels=LABELS):
    found = [verdict.balanced_difference(a, b, labels) for a, b in zip(first, second, strict=True)]
    words = np.array([verdict.decide_outcome(row["difference"], row["p_value"], row["p_equivalent"]) for row in found])
    return found, words


@pytest.mark.parametrize("regime", REGIMES)
def test_arms_that_do_not_differ(regime, rng):
    """The interval covers 0 in 93 to 97 % of studies, and "better" and "worse" are said in at most 5 % each."""
    found, words = reach_outcomes(*simulate(rng, regime, (0.85, 0.85)))
    coverage = np.mean([row["low"] <= 0 <= row["high"] for row in found])
    assert 0.93 <= coverage <= 0.97
    assert np.mean(words == "better") <= 0.05 and np.mean(words == "worse") <= 0.05


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("accuracies", "word"), [((0.85, 0.93), "better"), ((0.85, 0.77), "worse")])
def test_eight_points_are_found(regime, accuracies, word, rng):
    _, words = reach_outcomes(*simulate(rng, regime, accuracies))
    assert np.mean(words == word) >= 0.8


def test_the_regimes_are_what_they_are_called(rng):
    """Share of the variance of the difference that seeds, images and the rest make, by the variance components themselves."""
    for regime in REGIMES:
        first, second = simulate(rng, regime, (0.85, 0.85), num_studies=400)
        changes = second.astype(float) - first
        of_rest = changes.var(axis=1, ddof=1).mean() / SEEDS / len(LABELS)
        of_seeds = changes.mean(axis=2).var(axis=1, ddof=1).mean() / SEEDS - of_rest
        of_images = changes.mean(axis=1).var(axis=1, ddof=1).mean() / len(LABELS) - of_rest
        parts = {"seeds": of_seeds, "images": of_images, "residual": of_rest}
        assert max(parts, key=parts.get) == regime, (regime, parts)


def test_a_tiny_test_set_is_never_equivalent(rng):
    labels = np.repeat(["NORMAL", "COVID19"], 10)
    for regime in REGIMES:
        _, words = reach_outcomes(*simulate(rng, regime, (0.97, 0.97), 500, labels), labels)
        assert "equivalent" not in words
    same = np.ones((SEEDS, 20), bool)
    found, words = reach_outcomes([same], [same], labels)
    assert words == ["inconclusive"] and found[0]["difference"] == 0 and found[0]["high"] > verdict.MARGIN


def test_many_equal_answers_are_equivalent():
    same = np.ones((SEEDS, len(LABELS)), bool)
    assert reach_outcomes([same], [same])[1] == ["equivalent"]


@pytest.mark.parametrize("regime", REGIMES)
def test_three_seeds_are_enough_for_a_claim(regime, rng):
    """Where seeds dominate, three of them hold 92 % instead of 95; false alarms stay rare."""
    found, words = reach_outcomes(*simulate(rng, regime, (0.85, 0.85), seeds=verdict.FEWEST_SEEDS))
    assert np.mean([row["low"] <= 0 <= row["high"] for row in found]) >= 0.9
    assert np.mean(words == "better") <= 0.05 and np.mean(words == "worse") <= 0.05


def test_two_seeds_would_not_hold_their_coverage(rng, monkeypatch):
    """Why they make no claim: were they allowed to, their interval would miss the truth three times as often as it says."""
    monkeypatch.setattr(verdict, "FEWEST_SEEDS", 2)
    found, _ = reach_outcomes(*simulate(rng, "seeds", (0.85, 0.85), seeds=2))
    assert 0.84 <= np.mean([row["low"] <= 0 <= row["high"] for row in found]) <= 0.88


@pytest.mark.parametrize("seeds", range(1, verdict.FEWEST_SEEDS))
def test_too_few_seeds_make_no_claim(seeds, rng):
    first, second = simulate(rng, "images", (0.6, 0.95), num_studies=1, seeds=seeds)
    found = verdict.balanced_difference(first[0], second[0], LABELS)
    assert found["difference"] > 0.2 and found["low"] is None and found["p_value"] is None
    assert verdict.decide_outcome(found["difference"], found["p_value"], found["p_equivalent"]) == "inconclusive"


def test_the_difference_is_that_of_balanced_accuracy(rng):
    from sklearn.metrics import balanced_accuracy_score

    labels = rng.choice(["A", "B", "C"], 90)
    truth, answers = np.tile(labels, (3, 1)), rng.choice(["A", "B", "C"], (2, 3, 90))
    scores = [np.mean([balanced_accuracy_score(labels, answer) for answer in arm]) for arm in answers]
    found = verdict.balanced_difference(answers[0] == truth, answers[1] == truth, labels)
    assert found["difference"] == pytest.approx(scores[1] - scores[0])
    swapped = verdict.balanced_difference(answers[1] == truth, answers[0] == truth, labels)
    assert swapped["low"] == pytest.approx(-found["high"]) and swapped["p_value"] == pytest.approx(found["p_value"])


def test_where_only_seeds_differ_the_interval_is_the_t_interval_over_seeds(rng):
    """Each seed errs on its own share of very many images: scipy's interval of the seeds' differences is the answer."""
    labels = np.repeat(["A", "B"], 20_000)
    accuracies = [0.80, 0.84, 0.78, 0.86, 0.82]
    first = rng.random((5, 40_000)) < 0.8
    second = np.array([rng.random(40_000) < accuracy for accuracy in accuracies])
    found = verdict.balanced_difference(first, second, labels)
    by_seed = [b[labels == "A"].mean() / 2 + b[labels == "B"].mean() / 2 - a.mean() for a, b in zip(first, second, strict=True)]
    interval = stats.ttest_1samp(by_seed, 0).confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx(tuple(interval), abs=0.002)


def test_where_only_images_differ_the_interval_is_that_of_one_model(rng):
    """Every seed gives the same answers: the seeds add nothing to what one pair of models on these images tells."""
    labels = np.repeat(["A", "B"], 3000)
    first, second = rng.random((2, 6000)) < 0.9
    found = verdict.balanced_difference(np.tile(first, (5, 1)), np.tile(second, (5, 1)), labels)
    by_class = [(second.astype(float) - first)[labels == name] for name in ("A", "B")]
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in by_class)) / 2
    assert found["high"] - found["difference"] == pytest.approx(1.96 * error, rel=0.02)


def test_the_same_image_three_times_says_no_more_than_once(rng):
    first, second = (arm[0] for arm in simulate(rng, "images", (0.85, 0.85), num_studies=1))
    groups = np.repeat(rng.permutation(len(LABELS)), 3)
    once = verdict.balanced_difference(first, second, LABELS)
    thrice = [np.repeat(array, 3, axis=-1) for array in (first, second, LABELS)]
    grouped = verdict.balanced_difference(*thrice, groups)
    assert grouped.pop("images") == 3 * once.pop("images")
    assert grouped == pytest.approx(once)
    assert verdict.balanced_difference(*thrice)["high"] < once["high"]


def test_images_of_one_patient_are_mended_and_broken_together(rng):
    """Four images a patient that share what makes them easy: the interval of patients covers 0 as it says, that of single images doesn't."""
    labels, patients = np.repeat(["NORMAL", "COVID19"], [320, 120]), np.repeat(np.arange(110), 4)
    spread = np.sqrt(0.02**2 + 0.8**2 + 0.8**2 + 0.3**2)
    covered = {"patients": [], "images": []}
    for _ in range(STUDIES):
        of_patient = rng.standard_normal(110)
        first, second = (
            stats.norm.ppf(0.85) * spread
            + 0.8 * (of_patient + rng.standard_normal(110))[patients]
            + 0.02 * rng.standard_normal((SEEDS, 1))
            + 0.3 * rng.standard_normal((SEEDS, 440))
            > 0
            for _ in range(2)
        )
        for kind, groups in (("patients", patients), ("images", None)):
            found = verdict.balanced_difference(first, second, labels, groups)
            covered[kind].append(found["low"] <= 0 <= found["high"])
    assert 0.93 <= np.mean(covered["patients"]) <= 0.97
    assert np.mean(covered["images"]) < 0.85


def test_holm_against_known_answers():
    """Holm 1979, worked by hand: 0.01·4, 0.02·3, 0.03·2, 0.5·1, never falling."""
    assert verdict.holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06])
    assert verdict.holm([0.9, 0.8]) == [1.0, 1.0]
    assert verdict.holm([]) == []


def test_the_verdict_names_one_primary_contrast_and_adjusts_the_others(rng):
    labels = {"2-classes": LABELS, "3-classes": np.repeat(["A", "B", "C"], 100)}
    arms = ("nothing", "class_weights", "oversampling", "classical", "gan", "gan_and_classical")
    right = {setting: {arm: rng.random((5, len(of))) < 0.9 for arm in arms} for setting, of in labels.items()}
    table = verdict.reach_verdict(right, labels, {setting: np.arange(len(of)) for setting, of in labels.items()})
    primary = table[table["primary"]]
    assert primary[["setting", "first", "second"]].to_numpy().tolist() == [["3-classes", "oversampling", "gan"]]
    assert len(table) == 2 * 9 and not table.duplicated(["setting", "first", "second"]).any()
    assert (table["p_holm"] >= table["p_value"] - 1e-12).all()
    assert primary["p_holm"].item() == primary["p_value"].item()
    others = table[~table["primary"]]
    assert others["p_holm"].min() == pytest.approx(min(1, len(others) * others["p_value"].min()))


def test_a_class_with_one_image_is_a_sentence():
    with pytest.raises(ValueError, match="class B has one test image"):
        verdict.balanced_difference(np.ones((2, 3)), np.ones((2, 3)), ["A", "A", "B"])
    with pytest.raises(ValueError, match="all test images of class B are of one group"):
        verdict.balanced_difference(np.ones((3, 4)), np.ones((3, 4)), ["A", "A", "B", "B"], [0, 1, 2, 2])
