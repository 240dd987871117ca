"""What is said where patients are few, from tables whose numbers are known."""

import pandas as pd
import pytest

from xraygan import disk, run
from xraygan.comparison import scarcity
from xraygan.comparison import verdict as verdicts
from xraygan.report import published, worth

CONTRAST = {
    **{"setting": "PNEUMONIA-25", "metric": "auroc", "first": "nothing", "second": "gan", "primary": True},
    **{"difference": 0.031, "low": 0.012, "high": 0.05, "replicates": 5, "images": 1288, "smallest_seen": 0.029},
    "outcome": verdicts.BETTER,
}
SECONDARY = CONTRAST | {
    "setting": "PNEUMONIA-115",
    "primary": False,
    "outcome": verdicts.EQUIVALENT,
    "low": -0.002,
    "high": 0.004,
}
CURVE = pd.DataFrame({"num_real": [25, 25, 1000], "auroc": [0.9, 0.91, 0.98]})
TRAININGS = pd.DataFrame(
    [
        {"num_real": 25, "arm": arm, "auroc": auroc, "balanced_accuracy": balanced, "balanced_accuracy_of_likeliest": likeliest}
        for arm, auroc, balanced, likeliest in (
            ("nothing", 0.80, 0.81, 0.5),
            ("nothing", 0.90, 0.83, 0.5),
            ("nothing", 0.94, 0.82, 0.8),
            ("gan", 0.9, 0.8, 0.7),
        )
    ]
)
WORTH = pd.DataFrame(
    [
        {
            "num_real": 25,
            "arm": arm,
            "level": 0.9,
            "worth": worth,
            "worth_low": worth - 10,
            "worth_high": worth + 20,
            "beyond": beyond,
        }
        for arm, worth, beyond in (
            ("nothing", 0, ""),
            ("oversampling", 3, ""),
            ("gan", 975, "above"),
            ("more_real", 975, "above"),
        )
    ]
)


def test_what_remedies_are_worth_is_said_with_its_interval_and_where_the_curve_ends():
    text = worth.describe(scarcity.Scarcity(TRAININGS, CURVE, pd.DataFrame([CONTRAST]), WORTH, {"asked": 9, "finished": 9}))
    assert text.startswith(
        "**25 real images of patients and the fakes made from them reach the AUROC of 1,000 or more real images alone "
        "(95 % interval 990 to 1,020 or more).** With the same 25 images, the simple remedies reach the AUROC of: oversampling about 28 real images alone "
        "(95 % interval 18 or fewer to 48)."
    )
    assert "**Fakes against nothing added**" in text and "more real:" not in text


def test_worth_from_the_curves_own_replicates_is_told_where_an_arm_has_more():
    more, own = WORTH.assign(replicates=24), WORTH.assign(replicates=12)
    state = {"asked": 9, "finished": 9}
    for table, told in ((more, True), (own, False)):
        text = worth.describe(scarcity.Scarcity(TRAININGS, CURVE, pd.DataFrame([CONTRAST]), table, state, own))
        assert ("With 25 images, from only the 12 replicates that have a learning curve: oversampling about 28" in text) == told


def test_an_unfinished_study_gives_its_numbers_and_no_verdict():
    without_gan = WORTH[WORTH["arm"] != "gan"]
    text = worth.describe(scarcity.Scarcity(TRAININGS, CURVE, None, without_gan, {"asked": 9, "finished": 4}))
    assert text.startswith(
        "**Not finished: 4 of 9 trainings. These are the numbers so far, and no verdict.**\n\nWith 25 real images"
    )
    assert "there are no numbers of fakes yet." in text and "Fakes against nothing added" not in text
    assert "disagree" not in text


def test_scores_are_told_as_mean_and_median_and_so_is_where_the_two_ways_to_call_a_class_disagree():
    contrasts, state = pd.DataFrame([CONTRAST, SECONDARY]), {"asked": 9, "finished": 9}
    text = worth.describe(scarcity.Scarcity(TRAININGS, CURVE, contrasts, WORTH, state))
    assert "| 25 | nothing | 3 | 0.880 (0.900) | 0.820 (0.820) | 0.600 (0.500) |\n| 25 | GAN | 1 | 0.900 (0.900) |" in text
    assert (
        "against nothing added: in balanced accuracy they differ by -2.0 points where" in text
        and "by +10.0 by the likeliest" in text
    )
    assert (
        "- 0 of the 1 other comparisons are inconclusive. The rest:\n    - GAN against nothing, PNEUMONIA 115, AUROC: equivalent"
        in text
    )
    agreeing = TRAININGS.assign(balanced_accuracy_of_likeliest=TRAININGS["balanced_accuracy"])
    assert "disagree" not in worth.describe(scarcity.Scarcity(agreeing, CURVE, contrasts, WORTH, state))


def test_a_table_that_was_changed_is_not_read(tmp_path, monkeypatch):
    found = scarcity.Scarcity(TRAININGS, CURVE, None, WORTH, {"asked": 9, "finished": 4})
    folder = tmp_path / scarcity.FOLDER
    scarcity.write(found, folder)
    assert scarcity.read(tmp_path).state == found.state
    for name in ("worth.csv", "state.json"):
        content = (folder / name).read_text()
        (folder / name).write_text(content.replace("9", "8"))
        with pytest.raises(ValueError, match=f"{name} isn't what was written there: run notebooks/3_after_gan.ipynb again"):
            worth.describe_published(tmp_path)
        (folder / name).write_text(content)
    (folder / "curve.csv").unlink()
    monkeypatch.setattr(run, "PUBLISHED", tmp_path)
    monkeypatch.setattr(disk, "ROOT", tmp_path.parent)
    with pytest.raises(ValueError, match=f"`git checkout {tmp_path.name}` brings the published one back"):
        worth.describe_published(tmp_path)


def test_the_published_study_of_few_images_is_described_from_its_files():
    text = worth.describe_published(published.SCARCITY)
    state = published.SCARCITY / "scarcity" / "state.json"
    if not state.exists():
        assert text == "The study is declared, and nothing of it is trained yet."
    else:
        counts = disk.read_json(state)
        assert "the fakes made from them reach the AUROC of" in text and ("Not finished" in text) == (
            counts["finished"] < counts["asked"]
        )
