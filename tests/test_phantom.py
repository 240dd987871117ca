"""The drawn radiographs."""

import json

import numpy as np
import pytest

from xraygan.data import phantom


@pytest.mark.parametrize("name", phantom.CLASSES)
def test_same_seed_same_pixels(name):
    image = phantom.draw(name, (1, 2))
    assert image.shape == (128, 128, 1)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, phantom.draw(name, (1, 2)))
    assert (image != phantom.draw(name, (1, 3))).mean() > 0.5


def test_looks_like_a_chest():
    """Over many drawings: dark lungs on both sides of a bright spine, dark plate in the upper corners."""
    mean = np.mean([phantom.draw("NORMAL", seed) for seed in range(40)], axis=0)[..., 0]
    right_lung, spine, left_lung = mean[40:60, 35:45].mean(), mean[60:80, 60:68].mean(), mean[40:60, 83:93].mean()
    assert spine > right_lung + 60
    assert spine > left_lung + 60
    assert mean[:5, :10].max() < 60


def test_disease_is_drawn_inside_the_lungs_only():
    """The border, which holds no lung, has the same brightness in every class: no shortcut."""
    border = np.ones((128, 128), bool)
    border[12:-12, 12:-12] = False
    means = [np.mean([phantom.draw(name, seed)[border].mean() for seed in range(60)]) for name in phantom.CLASSES]
    assert np.ptp(means) < 3


def test_unknown_class():
    with pytest.raises(ValueError, match="no class 'FLU'"):
        phantom.draw("FLU", 0)


def test_folder_is_marked_and_kept(phantom_folder):
    assert "Nothing found on this phantom is evidence about medicine" in (phantom_folder / "README.md").read_text()
    counts = json.loads((phantom_folder / phantom.MARKER).read_text())["counts"]
    for part, classes in counts.items():
        for name, number in classes.items():
            assert len(list((phantom_folder / part / name).glob("*.png"))) == number
    before = (phantom_folder / "train" / "NORMAL" / "phantom_0000.png").stat().st_mtime_ns
    phantom.write_phantom(phantom_folder, counts, show_progress=False)
    assert (phantom_folder / "train" / "NORMAL" / "phantom_0000.png").stat().st_mtime_ns == before


def test_default_counts_have_the_studys_imbalance():
    train = phantom.COUNTS["train"]
    assert train["NORMAL"] / train["COVID19"] == pytest.approx(1266 / 460, rel=0.02)
    assert train["PNEUMONIA"] / train["COVID19"] == pytest.approx(3418 / 460, rel=0.02)
