"""The ways to rebalance: what each adds, that all train equally long, and that none cheats."""

import numpy as np
import pytest

from xraygan import arms


@pytest.fixture(scope="module")
def real(phantom_images):
    minority = phantom_images.source.classes.index("COVID19")
    return phantom_images.images[(phantom_images.labels == minority) & (phantom_images.parts == "train")]


@pytest.fixture(scope="module")
def fakes():
    return np.random.default_rng(1).integers(0, 256, (90, 128, 128, 1), dtype=np.uint8)


@pytest.mark.parametrize("arm", arms.ARMS)
def test_arms_that_add_images_add_equally_many(arm, real, fakes):
    extra = arms.extra_images(arm, real, 90, fakes, seed=0)
    assert extra.dtype == np.uint8 and extra.shape[1:] == (128, 128, 1)
    assert len(extra) == (0 if arm in ("nothing", "class_weights") else 90)
    assert np.array_equal(extra, arms.extra_images(arm, real, 90, fakes, seed=0))


def test_oversampling_repeats_every_image_equally_often(real, fakes):
    extra = arms.extra_images("oversampling", real, 2 * len(real) + 5, fakes, seed=3)
    counts = [(extra == image).all(axis=(1, 2, 3)).sum() for image in real]
    assert sorted(set(counts)) == [2, 3] and counts.count(3) == 5


def test_half_are_fakes_and_half_are_classical(real, fakes):
    extra = arms.extra_images("gan_and_classical", real, 41, fakes, seed=0)
    assert np.array_equal(extra[:20], fakes[:20])
    assert np.array_equal(extra[20:], arms.extra_images("classical", real, 21, None, seed=0))


def test_classical_moves_images_a_little_and_keeps_their_brightness(real):
    extra = arms.extra_images("classical_without_flip", real, len(real), None, seed=0)
    order = arms._drawn_evenly(len(real), len(real), 0)
    assert not any(np.array_equal(image, other) for image, other in zip(extra, real[order], strict=True))
    assert abs(extra.mean() - real.mean()) < 8
    assert extra.min(axis=(1, 2, 3)).max() < 60, "no image is washed out"


def test_only_the_arm_with_flips_flips():
    half_bright = np.zeros((40, 128, 128, 1), np.uint8)
    half_bright[:, :, :64] = 200
    left = {
        arm: arms.extra_images(arm, half_bright, 40, None, 0)[:, :, :40].mean(axis=(1, 2, 3))
        for arm in ("classical", "classical_without_flip")
    }
    assert (left["classical_without_flip"] > 150).all()
    assert 8 < (left["classical"] < 50).sum() < 32


def test_class_weights_give_the_minority_the_share_it_has_among_fakes():
    weights = arms.class_weights("class_weights", [1011, 363], minority_label=1, num_extra=1000)
    mass = weights * [1011, 363]
    assert mass.sum() == pytest.approx(1374)
    assert mass[1] / mass.sum() == pytest.approx(1363 / 2374)
    assert arms.class_weights("gan", [1011, 363], 1, 1000).tolist() == [1, 1]


def test_unknown_arms_and_missing_fakes_are_sentences(real, fakes):
    with pytest.raises(ValueError, match="no arm 'smote'"):
        arms.extra_images("smote", real, 5, None, 0)
    with pytest.raises(ValueError, match="adds 100 fakes, and there are 90"):
        arms.extra_images("gan", real, 100, fakes, 0)
