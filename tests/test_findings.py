"""The closing sentences of the notebooks: each outcome says what it is, with its numbers, and each warning stands where it must."""

import numpy as np
import pandas as pd
import pytest

from xraygan.comparison import verdict as verdicts
from xraygan.report import figures, findings

CONTRAST = {
    "setting": "2-classes",
    "metric": "auroc",
    "first": "nothing",
    "second": "gan",
    "primary": True,
    "difference": 0.031,
    "low": 0.012,
    "high": 0.05,
    "replicates": 5,
    "images": 1288,
    "smallest_seen": 0.029,
    "outcome": verdicts.BETTER,
}
BALANCED = CONTRAST | {"metric": "balanced_accuracy", "difference": -0.0001, "low": -0.01, "high": 0.01}
DUPLICATES = CONTRAST | {"first": "oversampling"}
OTHER = CONTRAST | {"primary": False}


def shortcuts(setting, whole, hidden, tiny=0.5):
    scores = {"whole image": whole, "lungs hidden": hidden, "shrunk to 8×8": tiny, "shrunk to 4×4": tiny}
    shares = {view: (score - 0.5) / (whole - 0.5) if whole >= 0.6 else np.nan for view, score in scores.items()}
    table = pd.DataFrame({"balanced_accuracy": scores, "share": shares})
    return table.rename_axis("view").reset_index().assign(setting=setting)


def make_verdict(*contrasts, without_twins=(), warnings=("A warning.",)):
    return {"warnings": list(warnings), "contrasts": list(contrasts), "without_twins": list(without_twins)}


@pytest.mark.parametrize(
    ("whole", "hidden", "sentence"),
    [
        (
            0.97,
            0.95,
            "2 classes: **Shortcut.** With the lungs hidden, balanced accuracy is 0.950: 96% of the score above chance is left.",
        ),
        (
            0.9,
            0.6,
            "2 classes: with the lungs hidden most of the score is lost, so this view shows no shortcut outside the lungs. With the lungs hidden, balanced",
        ),
        (0.9, 0.75, "2 classes: with the lungs hidden a part of the score is lost, so this view shows no shortcut"),
        (0.55, 0.55, "2 classes: nothing can be said about shortcuts"),
    ],
)
def test_a_shortcut_is_named_where_most_of_the_score_is_left_without_lungs(whole, hidden, sentence):
    assert findings.describe_shortcuts(shortcuts("2-classes", whole, hidden)).startswith(sentence)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (verdicts.BETTER, "fakes are better"),
        (verdicts.WORSE, "fakes are worse"),
        (verdicts.EQUIVALENT, "equivalent, since a difference within ±1 is too small to matter"),
        (
            verdicts.INCONCLUSIVE,
            "inconclusive",
        ),
    ],
)
def test_each_outcome_is_a_sentence_with_its_interval(outcome, words):
    first, second = findings.describe_answer([DUPLICATES, CONTRAST | {"outcome": outcome}, BALANCED]).split("\n\n")
    assert first.startswith("**Fakes against nothing added** (2 classes, 5 replicates, 1,288 test images). AUROC: +3.1 points")
    assert f"(95 % interval +1.2 to +5.0): {words}." in first
    assert "Balanced accuracy: +0.0 points (95 % interval -1.0 to +1.0): fakes are better." in first
    assert second.startswith("**Fakes against duplicates of the same real images** (2 classes, 5 replicates")


def test_what_a_study_of_this_size_finds_is_said_once_where_a_primary_comparison_is_inconclusive():
    unclear = {"outcome": verdicts.INCONCLUSIVE}
    text = findings.describe_verdict(
        make_verdict(DUPLICATES | unclear | {"smallest_seen": 0.041}, CONTRAST | unclear, BALANCED | unclear, OTHER | unclear)
    )
    assert (
        text.count("*Inconclusive*") == 1
        and "finds a true difference of 4.1 points of AUROC or 2.9 points of balanced accuracy" in text
    )


def test_too_few_replicates_make_no_claim():
    unknown = {"low": None, "high": None, "smallest_seen": None, "replicates": 1, "outcome": verdicts.INCONCLUSIVE}
    answer = findings.describe_answer([CONTRAST | unknown])
    assert (
        "(2 classes, 1 replicate, 1,288 test images). AUROC: +3.1 points; no claim is made, since it takes 3 or more" in answer
    )


def test_decided_contrasts_and_fewer_images_are_listed_below_the_answer():
    other = OTHER | {"first": "classical", "outcome": verdicts.WORSE, "difference": -0.04, "low": -0.06, "high": -0.02}
    open_one = OTHER | {"first": "class_weights", "outcome": verdicts.INCONCLUSIVE}
    fewer = DUPLICATES | {"images": 1271, "difference": -0.001, "low": -0.02, "high": 0.018}
    text = findings.describe_verdict(make_verdict(DUPLICATES, CONTRAST, other, open_one, without_twins=[fewer]))
    assert "- A warning." in text
    assert "- On the 1,271 test images without a near-copy" in text and "-0.1 points (95 % interval -2.0 to +1.8)" in text
    assert "- 1 of the 2 other comparisons are inconclusive. The rest:" in text
    assert "*Inconclusive*" not in text  # which is said of primary comparisons
    assert "    - GAN against classical, 2 classes, AUROC: worse, -4.0 points (95 % interval -6.0 to -2.0)" in text
    assert "class weights" not in text


ALL_KNOWN = {"without_group": 0, "counts": {"train": {"all": 30}, "test": {"all": 20}}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {},
            ["The interval holds for patients like those of this data set, and for these test images", "Patients aren't known"],
        ),
        ({"redraws_test": True}, ["The interval holds for patients like those of this data set.", "Patients aren't known"]),
        ({"is_phantom": True}, ["These are drawings, not patients", "The interval holds for drawings like those"]),
        ({"data": ALL_KNOWN}, ["The interval holds"]),  # by GROUPS, by a column of the table of labels or by DICOM
        ({"data": ALL_KNOWN | {"without_group": 2}}, ["The interval holds", "The patient isn't known for 2 of 50 images"]),
    ],
)
def test_every_verdict_warns_of_what_it_rests_on(record, expected):
    record = {"is_phantom": False, "data": ALL_KNOWN | {"without_group": 50}} | record
    warnings = findings.list_warnings(record, shortcuts("2-classes", 0.9, 0.6), record.pop("redraws_test", False))
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))


def test_a_shortcut_is_a_warning_that_names_its_settings():
    record = {"is_phantom": False, "data": ALL_KNOWN}
    both = pd.concat([shortcuts("2-classes", 0.97, 0.95), shortcuts("3-classes", 0.9, 0.6)])
    warning = findings.list_warnings(record, both, False)[-1]
    assert (
        "96% of its score above chance in 2 classes (balanced accuracy 0.950). Most of that score can be reached without lungs, so"
        in warning
    )
    assert "3 classes" not in warning


@pytest.mark.parametrize(
    ("low", "strength"),
    [
        (0.45, "no better than by chance"),
        (0.7, "better than by chance"),
        (0.96, "nearly always right: the fakes are easily recognised"),
    ],
)
def test_how_well_fakes_are_told_from_real_images_is_said_with_its_interval(low, strength):
    rows = [
        {"space": space, "images": images, "kid": kid, "recall": 0.5, "coverage": 0.9}
        for space in ("classifier", "random")
        for images, kid in (("fakes", 0.3), ("real", 0.01), ("another class", 2.0))
    ]
    judgement = {"accuracy": 0.98, "low": low, "high": 1.0, "duplicate_share": 0.003}
    distance, variety, told_apart = findings.describe_fidelity(pd.DataFrame(rows), judgement)
    assert "0.30 in classifier features (other real images have 0.01, another class has 2.00)" in distance
    assert "recall 0.50 and coverage 0.90" in variety and "0.3% of the fakes repeat another" in variety
    assert told_apart.endswith(f"{strength}.")
    without = [row for row in rows if row["images"] != "real"]  # too few validation images to compare with
    _, variety, _ = findings.describe_fidelity(pd.DataFrame(without), judgement)
    assert "coverage 0.90 in random features; 0.3% of the fakes" in variety


@pytest.mark.parametrize("alarm", [True, False])
def test_copies_are_an_alarm_or_none(alarm):
    judgement = {"copies": 7, "fakes": 1000, "fresh_copies": 1, "fresh": 207, "alarm": alarm}
    assert findings.describe_copies(judgement).startswith(
        "**Copies: alarm.** For 7 of 1000" if alarm else "Copies: no alarm. For 7 of 1000"
    )


def test_brightness_is_that_of_all_pixels_together(rng):
    """Counted grey by grey, against numpy on all pixels at once."""
    images = rng.normal(120, 40, (17, 32, 32, 1)).clip(0, 255).astype(np.uint8)
    black = np.zeros((2, 32, 32, 1), np.uint8)
    table = figures.tabulate_brightness({"noise": images, "black": black})
    expected = [images.mean(), images.std(), *np.percentile(images, [1, 99], method="inverted_cdf")]
    assert table.loc["noise"].tolist() == [round(value, 1) for value in expected]
    assert table.loc["black"].tolist() == [0, 0, 0, 0]
    two_greys = np.repeat(np.uint8([10, 200]), [1, 9]).reshape(1, 2, 5, 1)
    assert figures.tabulate_brightness({"few": two_greys}).loc["few"].tolist() == [181, 57, 10, 200]
