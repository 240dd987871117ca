"""The ways to rebalance: what each adds, that all train equally long, and that none cheats."""

import dataclasses

import numpy as np
import pytest

from xraygan.comparison import arms
from xraygan.data.dataset import Part, Setting

WEIGHED = [name for name, arm in arms.ARMS.items() if arm.weighs]
ADDING = [name for name, arm in arms.ARMS.items() if arm.adds]


@pytest.fixture(scope="module")
def real(phantom_images):
    minority = phantom_images.source.classes.index("COVID19")
    return phantom_images.images[(phantom_images.labels == minority) & (phantom_images.folders == "train")]


@pytest.fixture(scope="module")
def fakes():
    return np.random.default_rng(1).integers(0, 256, (90, 128, 128, 1), dtype=np.uint8)


@pytest.mark.parametrize("arm", arms.ARMS)
def test_arms_that_add_images_add_equally_many(arm, real, fakes):
    extra = arms.make_extra_images(arm, real, 90, fakes, seed=0)
    assert extra.dtype == np.uint8 and extra.shape[1:] == (128, 128, 1)
    assert len(extra) == (90 if arm in ADDING else 0)
    assert np.array_equal(extra, arms.make_extra_images(arm, real, 90, fakes, seed=0))
    if arm in ADDING:
        assert sum(share for _, share in arms.ARMS[arm].adds) == 1


def test_oversampling_repeats_every_image_equally_often(real, fakes):
    extra = arms.make_extra_images("oversampling", real, 2 * len(real) + 5, fakes, seed=3)
    counts = [(extra == image).all(axis=(1, 2, 3)).sum() for image in real]
    assert sorted(set(counts)) == [2, 3] and counts.count(3) == 5


def test_half_are_fakes_and_half_are_classical(real, fakes):
    extra = arms.make_extra_images("gan_and_classical", real, 41, fakes, seed=0)
    assert np.array_equal(extra[:20], fakes[:20])
    assert np.array_equal(extra[20:], arms.make_extra_images("classical", real, 21, None, seed=0))


def test_classical_moves_images_a_little_and_keeps_their_brightness(real):
    extra = arms.transform_real("classical_without_flip", real, len(real), None, seed=0)
    copies = arms.copy_real("classical_without_flip", real, len(real), None, seed=0)
    assert not any(np.array_equal(image, other) for image, other in zip(extra, copies, strict=True))
    assert abs(extra.mean() - real.mean()) < 8
    assert extra.min(axis=(1, 2, 3)).max() < 60, "no image is washed out"


def test_an_arm_moves_images_as_far_as_its_entry_says(monkeypatch):
    """A bright column that may be shifted by a quarter of the side is found further out than one that may be shifted by a 64th."""
    column = np.zeros((60, 64, 64, 1), np.uint8)
    column[:, :, 31:33] = 255
    reached = {}
    for max_shift in (1 / 64, 1 / 4):
        still = dataclasses.replace(arms.ARMS["classical"], max_shift=max_shift, max_rotation=0.0)
        monkeypatch.setitem(arms.ARMS, "classical", still)
        moved = arms.make_extra_images("classical", column, 60, None, seed=0)
        reached[max_shift] = np.abs(moved[:, 32, :, 0].argmax(axis=1) - 31.5).max()
    assert reached[1 / 64] <= 2
    assert 10 < reached[1 / 4] <= 17


def test_only_the_arm_with_flips_flips():
    half_bright = np.zeros((40, 128, 128, 1), np.uint8)
    half_bright[:, :, :64] = 200
    left = {
        arm: arms.make_extra_images(arm, half_bright, 40, None, 0)[:, :, :40].mean(axis=(1, 2, 3))
        for arm in ("classical", "classical_without_flip")
    }
    assert (left["classical_without_flip"] > 150).all()
    assert 8 < (left["classical"] < 50).sum() < 32


def test_class_weights_give_the_minority_the_share_it_has_among_fakes():
    weights = arms.weigh_classes([1011, 363], minority_label=1, num_extra=1000)
    mass = weights * [1011, 363]
    assert mass.sum() == pytest.approx(1374)
    assert mass[1] / mass.sum() == pytest.approx(1363 / 2374)


@pytest.mark.parametrize("arm", arms.ARMS)
def test_an_arm_keeps_the_real_images_and_weighs_only_where_it_says_so(arm, real, fakes):
    """Whatever an arm adds or leaves out, the length of an epoch stays that of the real images."""
    setting = Setting(("NORMAL", "COVID19"), "COVID19")
    images = np.concatenate([real, 255 - real[:20]])
    train = Part(images, np.repeat([1, 0], [len(real), 20]), np.arange(len(images)).astype(str))
    made = arms.rebalance(arm, setting, train, 30, fakes, seed=0)
    keeps, extra = arms.ARMS[arm].keeps_real, 30 if arm in ADDING else 0
    assert (made.num_real, made.num_real_minority) == (len(images), len(real))
    assert np.bincount(made.labels).tolist() == [20, extra + (len(real) if keeps else 0)]
    assert made.images.shape == (len(made.labels), 128, 128, 1)
    assert (made.labels[len(made.labels) - extra :] == 1).all(), "what is added is of the minority class"
    np.testing.assert_array_equal(made.images[made.labels == 0], 255 - real[:20])
    if keeps:
        np.testing.assert_array_equal(made.images[: len(images)], images)
    expected = arms.weigh_classes([20, len(real)], 1, 30) if arm in WEIGHED else np.ones(2)
    np.testing.assert_array_equal(made.weights, expected)


def test_unknown_arms_and_missing_fakes_are_sentences(real, fakes):
    with pytest.raises(ValueError, match="the arm is 'smote'; choose one of nothing, class_weights"):
        arms.make_extra_images("smote", real, 5, None, 0)
    with pytest.raises(ValueError, match="adds 100 fakes, and there are 90"):
        arms.make_extra_images("gan", real, 100, fakes, 0)
    with pytest.raises(ValueError, match="adds 5 fakes, and there are 0"):
        arms.make_extra_images("gan", real, 5, None, 0)
