"""The closing sentences of the notebooks: each outcome says what it is, with its numbers, and each warning stands where it must."""

import numpy as np
import pandas as pd
import pytest

from xraygan.comparison import verdict as verdicts
from xraygan.report import figures, findings, published

CONTRAST = {
    "setting": "2-classes",
    "first": "nothing",
    "second": "gan",
    "primary": False,
    "difference": 0.031,
    "low": 0.012,
    "high": 0.05,
    "seeds": 5,
    "images": 1288,
    "smallest_seen": 0.029,
    "outcome": verdicts.BETTER,
}
PRIMARY = CONTRAST | {"first": "oversampling", "primary": True}


def shortcuts(setting, whole, hidden, tiny=0.5):
    scores = {"whole image": whole, "lungs hidden": hidden, "shrunk to 8×8": tiny, "shrunk to 4×4": tiny}
    shares = {view: (score - 0.5) / (whole - 0.5) if whole >= 0.6 else np.nan for view, score in scores.items()}
    table = pd.DataFrame({"balanced_accuracy": scores, "share": shares})
    return table.rename_axis("view").reset_index().assign(setting=setting)


def make_verdict(*contrasts, without_twins=(), warnings=("A warning.",)):
    return {"margin": 0.02, "warnings": list(warnings), "contrasts": list(contrasts), "without_twins": list(without_twins)}


@pytest.mark.parametrize(
    ("whole", "hidden", "sentence"),
    [
        (
            0.97,
            0.95,
            "2 classes: **Shortcut.** With the lungs hidden, balanced accuracy is 0.950: 96% of the score above chance is left.",
        ),
        (0.9, 0.6, "2 classes: no shortcut was found. With the lungs hidden, balanced accuracy is 0.600: 25%"),
        (0.55, 0.55, "2 classes: nothing can be said about shortcuts"),
    ],
)
def test_a_shortcut_is_named_where_most_of_the_score_is_left_without_lungs(whole, hidden, sentence):
    assert findings.describe_shortcuts(shortcuts("2-classes", whole, hidden)).startswith(sentence)


@pytest.mark.parametrize(
    ("outcome", "against_nothing", "against_duplicates"),
    [
        (verdicts.BETTER, "Adding fakes helped:", "Fakes did better than duplicates"),
        (verdicts.WORSE, "Adding fakes hurt:", "Fakes did worse than duplicates"),
        (
            verdicts.EQUIVALENT,
            "Adding fakes changed nothing that matters (less than 2 points",
            "Fakes and duplicates are equivalent (within 2 points)",
        ),
        (
            verdicts.INCONCLUSIVE,
            "Whether adding fakes changes anything remains open:",
            "Whether fakes help more than duplicates remains open",
        ),
    ],
)
def test_each_outcome_is_a_sentence_with_its_interval(outcome, against_nothing, against_duplicates):
    answer = findings.describe_answer(make_verdict(PRIMARY | {"outcome": outcome}, CONTRAST | {"outcome": outcome}))
    first, second, warning = answer.replace("\n\n", "\n").splitlines()
    assert first.startswith(f"**{against_nothing}") and "+3.1 points (95 % interval +1.2 to +5.0) in 2 classes" in first
    assert second.startswith(f"**{against_duplicates}") and "5 seeds, 1,288 test images" in second
    assert "a difference of 2.9 points four times in five" in second
    assert warning == "- A warning."


def test_settings_that_come_out_alike_share_a_sentence():
    three = CONTRAST | {"setting": "3-classes", "difference": -0.0001}
    answer = findings.describe_answer(make_verdict(PRIMARY, CONTRAST, three))
    assert "+3.1 points (95 % interval +1.2 to +5.0) in 2 classes, +0.0 points" in answer and "in 3 classes." in answer


def test_too_few_seeds_make_no_claim():
    unknown = {"low": None, "high": None, "smallest_seen": None, "seeds": 2, "outcome": verdicts.INCONCLUSIVE}
    answer = findings.describe_answer(make_verdict(PRIMARY | unknown, CONTRAST | unknown))
    assert "**Fakes against nothing added, without a claim: +3.1 points in 2 classes.**" in answer
    assert "**No claim is made about the method: each arm was trained with 2 seeds, and it takes 3 or more" in answer


def test_decided_contrasts_and_fewer_images_are_listed_below_the_answer():
    other = CONTRAST | {"first": "classical", "outcome": verdicts.WORSE, "difference": -0.04, "low": -0.06, "high": -0.02}
    open_one = CONTRAST | {"first": "class_weights", "outcome": verdicts.INCONCLUSIVE}
    fewer = PRIMARY | {"images": 1271, "difference": -0.001, "low": -0.02, "high": 0.018}
    text = findings.describe_verdict(make_verdict(PRIMARY, CONTRAST, other, open_one, without_twins=[fewer]))
    assert "- On the 1,271 test images that have no twin" in text and "-0.1 points (95 % interval -2.0 to +1.8)" in text
    assert "- Of the 3 other contrasts, 2 are decided" in text
    assert "    - GAN against classical, 2 classes: worse, -4.0 points (95 % interval -6.0 to -2.0)" in text
    assert "class weights" not in text


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, ["The interval holds for this one split", "Patients aren't known"]),
        ({"is_phantom": True}, ["These are drawings, not patients", "The interval holds", "Patients aren't known"]),
        ({"groups_file": "patients.csv"}, ["The interval holds"]),
        (
            {"groups_file": "patients.csv", "data": {"without_group": 2}},
            ["The interval holds", "`GROUPS` names no patient for 2 of the images"],
        ),
    ],
)
def test_every_verdict_warns_of_what_it_rests_on(record, expected):
    record = {"is_phantom": False, "groups_file": "", "data": {"without_group": 0}} | record
    warnings = findings.list_warnings(record, shortcuts("2-classes", 0.9, 0.6))
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))


def test_a_shortcut_is_a_warning_that_names_its_settings():
    record = {"is_phantom": False, "groups_file": "patients.csv", "data": {"without_group": 0}}
    both = pd.concat([shortcuts("2-classes", 0.97, 0.95), shortcuts("3-classes", 0.9, 0.6)])
    warning = findings.list_warnings(record, both)[-1]
    assert (
        "96% of its score above chance in 2 classes (balanced accuracy 0.950). Most of what is compared there isn't lungs."
        in warning
    )
    assert "3 classes" not in warning


@pytest.mark.parametrize(
    ("low", "strength"), [(0.45, "no better than chance"), (0.7, "better than chance"), (0.96, "nearly always right")]
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


@pytest.mark.parametrize("alarm", [True, False])
def test_copies_are_an_alarm_or_none(alarm):
    judgement = {"copies": 7, "fakes": 1000, "fresh_copies": 1, "fresh": 207, "alarm": alarm}
    assert findings.describe_copies(judgement).startswith(
        "**Copies: alarm.** 7 of 1000" if alarm else "Copies: no alarm. 7 of 1000"
    )


def test_the_published_study_is_described_from_its_files():
    text = findings.describe_published(published.STUDY)
    assert (
        "Adding fakes changed nothing that matters" in text and "+0.3 points (95 % interval -0.8 to +1.4) in 2 classes" in text
    )
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 12 and "| 2 classes, 433 test images | GAN | 5 |" in text


def test_brightness_is_that_of_all_pixels_together(rng):
    """Counted grey by grey, against numpy on all pixels at once."""
    images = rng.normal(120, 40, (17, 32, 32, 1)).clip(0, 255).astype(np.uint8)
    black = np.zeros((2, 32, 32, 1), np.uint8)
    table = figures.tabulate_brightness({"noise": images, "black": black})
    expected = [images.mean(), images.std(), np.percentile(images, 1), np.percentile(images, 99)]
    assert table.loc["noise"].tolist() == [round(value, 1) for value in expected]
    assert table.loc["black"].tolist() == [0, 0, 0, 0]
    two_greys = np.repeat(np.uint8([10, 200]), [1, 9]).reshape(1, 2, 5, 1)
    assert figures.tabulate_brightness({"few": two_greys}).loc["few", "darkest 1 %"] == round(np.percentile(two_greys, 1), 1)
