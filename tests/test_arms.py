"""The ways to rebalance: what each adds, that all train equally long, and that none cheats."""

import dataclasses

import numpy as np
import pytest

from xraygan.comparison import arms
from xraygan.comparison.arms import Sources
from xraygan.data.dataset import RESERVE, Part, Setting

WEIGHED = [name for name, arm in arms.ARMS.items() if arm.weighs]
ADDING = [name for name, arm in arms.ARMS.items() if arm.adds]


@pytest.fixture(scope="module")
def real(phantom_images):
    minority = phantom_images.source.classes.index("COVID19")
    return phantom_images.images[(phantom_images.labels == minority) & (phantom_images.folders == "train")]


@pytest.fixture(scope="module")
def fakes():
    return np.random.default_rng(1).integers(0, 256, (90, 128, 128, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def sources(real, fakes):
    return Sources(real, fakes, np.random.default_rng(2).integers(0, 256, (95, 128, 128, 1), dtype=np.uint8))


@pytest.mark.parametrize("arm", arms.ARMS)
def test_arms_that_add_images_add_equally_many(arm, sources):
    extra = arms.make_extra_images(arm, sources, 90, seed=0)
    assert extra.dtype == np.uint8 and extra.shape[1:] == (128, 128, 1)
    assert len(extra) == (90 if arm in ADDING else 0)
    assert np.array_equal(extra, arms.make_extra_images(arm, sources, 90, seed=0))
    if arm in ADDING:
        assert sum(share for _, share in arms.ARMS[arm].adds) == 1


def test_oversampling_repeats_every_image_equally_often(real):
    extra = arms.make_extra_images("oversampling", Sources(real), 2 * len(real) + 5, seed=3)
    counts = [(extra == image).all(axis=(1, 2, 3)).sum() for image in real]
    assert sorted(set(counts)) == [2, 3] and counts.count(3) == 5


def test_half_are_fakes_and_half_are_classical(sources, fakes):
    extra = arms.make_extra_images("gan_and_classical", sources, 41, seed=0)
    assert np.array_equal(extra[:20], fakes[:20])
    assert np.array_equal(extra[20:], arms.make_extra_images("classical", sources, 21, seed=0))


def test_classical_moves_images_a_little_and_keeps_their_brightness(real):
    extra = arms.transform_real("classical_without_flip", Sources(real), len(real), seed=0)
    copies = arms.copy_real("classical_without_flip", Sources(real), len(real), seed=0)
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
        moved = arms.make_extra_images("classical", Sources(column), 60, seed=0)
        reached[max_shift] = np.abs(moved[:, 32, :, 0].argmax(axis=1) - 31.5).max()
    assert reached[1 / 64] <= 2
    assert 10 < reached[1 / 4] <= 17


def test_only_the_arm_with_flips_flips():
    half_bright = np.zeros((40, 128, 128, 1), np.uint8)
    half_bright[:, :, :64] = 200
    left = {
        arm: arms.make_extra_images(arm, Sources(half_bright), 40, 0)[:, :, :40].mean(axis=(1, 2, 3))
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
def test_an_arm_keeps_the_real_images_and_weighs_only_where_it_says_so(arm, real, fakes, sources):
    """Whatever an arm adds or leaves out, the length of an epoch stays that of the real images."""
    setting = Setting(("NORMAL", "COVID19"), "COVID19")
    images = np.concatenate([real, 255 - real[:20]])
    train = Part(images, np.repeat([1, 0], [len(real), 20]), np.arange(len(images)).astype(str))
    reserve = Part(sources.reserve, np.ones(95, int), np.arange(95).astype(str))
    made = arms.rebalance(arm, setting, {"train": train, RESERVE: reserve}, 30, fakes, seed=0)
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
    assert (made.transform is not None) == arms.ARMS[arm].transforms
    shares = np.bincount(made.labels) * expected
    np.testing.assert_allclose(made.shares, shares / shares.sum())


def test_class_weights_and_duplicates_teach_the_same_shares(real, sources):
    """What the decision divides by: an arm that weighs the loss counts as if the images were there."""
    setting, images = Setting(("NORMAL", "COVID19"), "COVID19"), np.concatenate([real, 255 - real[:20]])
    train = Part(images, np.repeat([1, 0], [len(real), 20]), np.arange(len(images)).astype(str))
    parts = {"train": train, RESERVE: Part(sources.reserve, None, None)}
    weighed, copied = (arms.rebalance(arm, setting, parts, 30, None, 0).shares for arm in ("class_weights", "oversampling"))
    np.testing.assert_allclose(weighed, copied)


def test_more_real_images_are_of_the_reserve_each_once(sources):
    extra = arms.make_extra_images("more_real", sources, 60, seed=1)
    places = [np.flatnonzero((sources.reserve == image).all(axis=(1, 2, 3))) for image in extra]
    assert all(len(place) == 1 for place in places) and len({int(place[0]) for place in places}) == 60
    assert {int(place[0]) for place in places} != set(range(60)), "not the first of a list that has an order of its own"


def test_a_transformation_against_scipys_own(rng):
    """Shifted by whole pixels it is a roll of the image; turned, scipy's `rotate`; as it was where nothing may change."""
    from scipy import ndimage

    images = np.kron(rng.integers(0, 256, (5, 16, 16, 1)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    still = arms.Arm("", max_shift=0, max_rotation=0, flips=False)
    np.testing.assert_array_equal(arms.transform(images, rng, still), images)
    mirrored = arms.transform(images, rng, dataclasses.replace(still, flips=True))
    assert all((new == old).all() or (new == old[:, ::-1]).all() for new, old in zip(mirrored, images, strict=True))
    angle = np.random.default_rng(3)
    angle.uniform(0, 0, (5, 2))
    angles = angle.uniform(-1 / 36, 1 / 36, 5) * 360
    turned = arms.transform(images, np.random.default_rng(3), dataclasses.replace(still, max_rotation=1 / 36))
    for image, degrees, found in zip(images, angles, turned, strict=True):
        expected = ndimage.rotate(image[..., 0].astype(np.float32), -degrees, reshape=False, order=1, mode="reflect")
        other = ndimage.rotate(image[..., 0].astype(np.float32), degrees, reshape=False, order=1, mode="reflect")
        assert min(np.abs(found[..., 0] - expected).max(), np.abs(found[..., 0] - other).max()) <= 0.51


def test_unknown_arms_and_missing_images_are_sentences(real, sources):
    with pytest.raises(ValueError, match="the arm is 'smote'; choose one of nothing, class_weights"):
        arms.make_extra_images("smote", sources, 5, 0)
    with pytest.raises(ValueError, match="adds 100 fakes, and there are 90"):
        arms.make_extra_images("gan", sources, 100, 0)
    with pytest.raises(ValueError, match="adds 5 fakes, and there are 0"):
        arms.make_extra_images("gan", Sources(real), 5, 0)
    with pytest.raises(ValueError, match="adds 96 further real images, and there are 95"):
        arms.make_extra_images("more_real", sources, 96, 0)
