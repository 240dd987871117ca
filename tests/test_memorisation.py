"""The alarm for copies: planted ones are caught, fresh images don't trip it, on drawings and on real radiographs."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraygan.data import phantom, sources
from xraygan.gan import memorisation


def shifted(image, down, right):
    padded = np.pad(image[..., 0], 16, mode="reflect")
    return padded[16 + down : 144 + down, 16 + right : 144 + right][..., None]


def brightened(image):
    return np.clip(image * 0.8 + 40, 0, 255).astype(np.uint8)


def re_encoded(image, quality=40):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[..., None]


PLANTED = {
    "as it is": lambda image, rng: image,
    "shifted": lambda image, rng: shifted(image, *rng.integers(-12, 13, 2)),
    "brightened": lambda image, rng: brightened(image),
    "re-encoded": lambda image, rng: re_encoded(image),
    "noisy": lambda image, rng: np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8),
    "all of it": lambda image, rng: re_encoded(brightened(shifted(image, *rng.integers(-8, 9, 2)))),
}


def drawn(first, count):
    return np.stack([phantom.draw("COVID19", [3, first + index]) for index in range(count)])


def read_real(folder):
    images = sources.read_images(sources.find_source(str(folder)), show_progress=False)
    covid = images.labels == images.source.classes.index("COVID19")
    return images.images[covid & (images.folders == "train")], images.images[covid & (images.folders == "test")]


@pytest.fixture(scope="module", params=["phantom", "real"])
def three_sets(request):
    """Training, held-out and fresh images of one class; near-copies among the real ones are left out, as the split does."""
    if request.param == "phantom":
        return drawn(0, 120), drawn(1000, 40), drawn(2000, 60)
    train, test = read_real(request.getfixturevalue("real_data"))
    distances = memorisation.copy_distances(np.concatenate([train, test]), np.concatenate([train, test]))
    unlike = ~np.tril(distances < 0.15, -1).any(axis=1)
    train, test = train[unlike[: len(train)]], test[unlike[len(train) :]]
    order = np.random.default_rng(0).permutation(len(train))
    return train[order[90:]], train[order[:90]], test


@pytest.fixture(scope="module")
def calibration(three_sets):
    """How often held-out images look like copies of the training images."""
    training, held_out, _ = three_sets
    return memorisation.nearest_of_held_out(training, held_out)


@pytest.fixture(scope="module")
def fresh_table(three_sets):
    """The nearest images of each fresh image."""
    training, held_out, fresh = three_sets
    return memorisation.nearest(fresh, training, held_out)


@pytest.fixture(scope="module")
def planted_tables(three_sets):
    """{change: the nearest images of 30 training images after the change}."""
    training, held_out, _ = three_sets
    rng = np.random.default_rng(0)
    copies = np.stack([change(image, rng) for change in PLANTED.values() for image in training[:30]])
    table = memorisation.nearest(copies, training, held_out)
    return {change: table.iloc[30 * place : 30 * (place + 1)] for place, change in enumerate(PLANTED)}


@pytest.mark.parametrize("change", PLANTED)
def test_planted_copies_are_caught(planted_tables, fresh_table, calibration, change):
    table = planted_tables[change]
    assert table["copy"].mean() >= 0.9
    assert (table["training_row"] == np.arange(30))[table["copy"]].all(), "a copy of another image was found"
    assert memorisation.count_copies(pd.concat([fresh_table[:50], table[:5]]), calibration)["alarm"]


def test_fresh_images_do_not_trip_it(three_sets, fresh_table, calibration):
    _, held_out, fresh = three_sets
    found = memorisation.count_copies(fresh_table, calibration)
    assert not found["alarm"], found
    assert found["fakes"] == len(fresh) and found["fresh"] == len(held_out)


def test_distance_is_that_of_normalised_correlation(rng):
    """Without a shift that helps, the distance is √(2 − 2r) of Pearson's r over the centre's samples, found here with numpy."""
    image = rng.integers(0, 256, (128, 128, 1), dtype=np.uint8)
    other = np.clip(0.6 * image + 0.4 * rng.integers(0, 256, image.shape), 0, 255).astype(np.uint8)

    def samples(picture):
        halves = picture[..., 0].reshape(64, 2, 64, 2).mean(axis=(1, 3)).round()
        padded = np.pad(halves, 1, mode="symmetric")
        smooth = sum(padded[i : i + 64, j : j + 64] for i in range(3) for j in range(3)) / 9
        return smooth[8:56:2, 8:56:2].ravel()

    r = np.corrcoef(samples(image), samples(other))[0, 1]
    assert memorisation.copy_distances(image[None], other[None])[0, 0] == pytest.approx(np.sqrt(2 - 2 * r), abs=0.01)


@pytest.mark.parametrize("image_size", [64, 256])
def test_copies_are_found_at_other_image_sizes(image_size):
    def resize(images):
        return np.stack([np.asarray(Image.fromarray(image[..., 0]).resize((image_size,) * 2))[..., None] for image in images])

    training, held_out, fresh = resize(drawn(0, 40)), resize(drawn(1000, 20)), resize(drawn(2000, 20))
    shift = image_size // 16
    copies = np.stack([brightened(np.roll(image, (shift, -shift), axis=(0, 1))) for image in training[:20]])
    table = memorisation.nearest(copies, training, held_out)
    assert table["copy"].mean() >= 0.9
    assert (table["training_row"] == np.arange(20))[table["copy"]].all()
    calibration = memorisation.nearest_of_held_out(training, held_out)
    fresh_table = memorisation.nearest(fresh, training, held_out)
    assert memorisation.count_copies(pd.concat([fresh_table, table[:5]]), calibration)["alarm"]
    assert not memorisation.count_copies(fresh_table, calibration)["alarm"]


def test_black_images_are_no_copies_and_no_nan():
    black, drawings = np.zeros((2, 128, 128, 1), np.uint8), drawn(0, 4)
    table = memorisation.nearest(black, drawings, drawn(10, 4))
    assert np.isfinite(table[["training_distance", "held_out_distance", "ratio"]]).all().all()
    assert not table["copy"].any()


def test_some_fresh_copies_excuse_as_many_fakes():
    """Where 5 % of real held-out images look like copies, 5 % of the fakes may; 20 % may not."""
    tables = {count: pd.DataFrame({"copy": np.arange(100) < count}) for count in (0, 1, 5, 20)}
    assert not memorisation.count_copies(tables[5], tables[5])["alarm"]
    assert memorisation.count_copies(tables[20], tables[5])["alarm"]
    assert memorisation.count_copies(tables[1], tables[0])["alarm"]
    assert not memorisation.count_copies(tables[0], tables[0])["alarm"]


def test_what_was_found_and_the_most_suspicious_fakes():
    """Three planted copies among drawn fakes: they are counted, and come first among those that a person should look at."""
    training, held_out, fakes = drawn(0, 40), drawn(1000, 20), drawn(2000, 20)
    fakes[[4, 11, 17]] = [brightened(image) for image in training[[30, 5, 8]]]
    found = memorisation.find_copies(fakes, training, held_out)
    assert (found.summary["copies"], found.summary["fakes"], found.summary["fresh"]) == (3, 20, 20)
    assert found.summary["alarm"] and found.summary["duplicate_share"] == 0
    suspects = found.pick_suspects(3)
    shown, nearest_training, nearest_unseen = suspects.values()
    order = found.nearest["ratio"].to_numpy().argsort()[:3]
    assert set(order) == {4, 11, 17}
    np.testing.assert_array_equal(shown, fakes[order])
    np.testing.assert_array_equal(nearest_training, training[[{4: 30, 11: 5, 17: 8}[row] for row in order]])
    np.testing.assert_array_equal(nearest_unseen, held_out[found.nearest["held_out_row"].iloc[order]])


def test_duplicates_among_fakes():
    training, fakes = drawn(0, 60), drawn(500, 30)
    assert memorisation.duplicate_share(fakes, training) == 0
    repeated = np.concatenate([fakes[:10], np.stack([brightened(image) for image in fakes[:10]])])
    assert memorisation.duplicate_share(repeated, training) == 0.5


def test_blocks_change_nothing(monkeypatch):
    """Compared seven at a time: the same distances, copies and duplicates, also where a fake repeats one of an earlier block."""
    training, held_out, fakes = drawn(0, 20), drawn(1000, 10), drawn(2000, 16)
    fakes[[3, 15]] = [brightened(training[9]), shifted(fakes[1], 2, -3)]
    whole = memorisation.copy_distances(fakes, training), memorisation.find_copies(fakes, training, held_out)
    monkeypatch.setattr(memorisation, "BLOCK", 7)
    np.testing.assert_allclose(memorisation.copy_distances(fakes, training), whole[0], atol=5e-4)
    found = memorisation.find_copies(fakes, training, held_out)
    assert found.summary == whole[1].summary and found.summary["duplicate_share"] == 1 / 16
    pd.testing.assert_frame_equal(found.nearest, whole[1].nearest, atol=5e-4, rtol=0.02)


def test_of_many_held_out_images_a_draw_is_compared_and_counted(monkeypatch):
    """The fakes are still compared with every training image, and a copy of the last one is caught."""
    training, held_out, fakes = drawn(0, 30), drawn(1000, 20), drawn(2000, 6)
    fakes[5] = brightened(training[29])
    monkeypatch.setattr(memorisation, "MOST_FRESH", 8)
    found = memorisation.find_copies(fakes, training, list(held_out))
    assert (found.summary["fresh"], found.summary["copies"], len(found.held_out)) == (8, 1, 8)
    assert found.nearest["training_row"][5] == 29 and found.nearest["held_out_row"].max() < 8
