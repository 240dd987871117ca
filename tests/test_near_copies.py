"""Near-copies: whatever was done to a picture it is found again, and different pictures are not called one."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import shift

from xraygan.data import near_copies, phantom, sources


def as_picture(image):
    return Image.fromarray(image[..., 0])


def as_image(picture):
    return np.asarray(picture, np.uint8)[..., None]


def cut(image, left, top, right, bottom):
    """Shares of the side that are cut off; what is left fills the picture again."""
    side = len(image)
    box = side * left, side * top, side * (1 - right), side * (1 - bottom)
    return as_image(as_picture(image).resize((side, side), Image.Resampling.BICUBIC, box))


def turn(image, degrees):
    return as_image(as_picture(image).rotate(degrees, Image.Resampling.BICUBIC))


def encode(image, quality):
    file = io.BytesIO()
    as_picture(image).save(file, "JPEG", quality=quality)
    return as_image(Image.open(file))


def set_contrast(image, factor, offset):
    return np.clip((image.astype(float) - 128) * factor + 128 + offset, 0, 255).astype(np.uint8)


CHANGES = {
    "cut by 5 % on every side": lambda image, rng: cut(image, 0.05, 0.05, 0.05, 0.05),
    "cut by 5 % on one side": lambda image, rng: cut(image, *rng.permutation([0.05, 0, 0, 0])),
    "cut by up to 5 %": lambda image, rng: cut(image, *rng.uniform(0, 0.05, 4)),
    "shifted by 5 %, black border": lambda image, rng: shift(image, (*rng.choice([-0.05, 0.05], 2) * len(image), 0), order=1),
    "turned by 3 degrees": lambda image, rng: turn(image, rng.choice([-3, 3])),
    "mirrored": lambda image, rng: image[:, ::-1],
    "brighter": lambda image, rng: set_contrast(image, 1, 20),
    "less contrast": lambda image, rng: set_contrast(image, 0.8, -10),
    "noise": lambda image, rng: np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8),
    "encoded anew": lambda image, rng: encode(image, 40),
    "all of it": lambda image, rng: encode(
        set_contrast(turn(cut(image, *rng.uniform(0, 0.05, 4)), rng.uniform(-3, 3))[:, ::-1], 0.9, 8), 50
    ),
}


@pytest.fixture(scope="module", params=["phantom", "real"])
def pictures(request):
    """Different pictures: drawings, or radiographs of different patients."""
    if request.param == "phantom":
        return np.stack([phantom.draw(phantom.CLASSES[seed % 3], seed) for seed in range(240)])
    folder = request.getfixturevalue("real_data")
    truth = folder.parent / "chest_xray_sources.csv"
    if not truth.exists():
        pytest.skip("the true patients aren't known")
    images = sources.read_images(sources.find_source(str(folder), "NORMAL,PNEUMONIA"), show_progress=False)
    patients = images.labels.astype(str) + pd.read_csv(truth, dtype=str).set_index("file")["patient"][images.files].to_numpy()
    _, first = np.unique(patients, return_index=True)
    return images.images[np.random.default_rng(0).permutation(first)[:1200]]


@pytest.fixture(scope="module")
def few(pictures):
    return pictures[:60]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_found_and_no_others(few, change):
    rng = np.random.default_rng(1)
    copies = np.stack([CHANGES[change](image, rng) for image in few])
    found = {tuple(pair) for pair in near_copies.find_pairs(np.concatenate([few, copies]))}
    planted = {(row, row + len(few)) for row in range(len(few))}
    assert len(found & planted) >= 0.95 * len(few)
    assert not found - planted, "different pictures were called near-copies"


def test_different_pictures_are_not_called_one(pictures):
    """Of the radiographs 1,200 of different patients. Two "patients" of the collection are one picture, pixel for pixel nearly."""
    pairs = near_copies.find_pairs(pictures)
    small = near_copies.shrink(pictures).reshape(len(pictures), -1)
    alike = [np.corrcoef(small[first], small[second])[0, 1] for first, second in pairs]
    assert len(pairs) <= 1 and min(alike, default=1) > 0.999


def test_a_mirrored_picture_is_described_by_its_mirrored_points():
    """Points and descriptions of the mirrored image, against those that `mirror` computes without it."""
    small = near_copies.shrink(np.stack([phantom.draw("NORMAL", seed) for seed in range(8)]))
    found = near_copies.find_points(np.ascontiguousarray(small[:, :, ::-1]))
    expected = near_copies.mirror(near_copies.find_points(small))
    lists = [set(zip(points.image, points.place[:, 0], points.place[:, 1], strict=True)) for points in (found, expected)]
    assert len(lists[0] & lists[1]) > 0.95 * len(lists[0])
    rows = [dict(zip(zip(p.image, *p.place.T, strict=True), p.patch, strict=True)) for p in (found, expected)]
    alike = [rows[0][place] @ rows[1][place] for place in lists[0] & lists[1]]
    assert np.median(alike) > 0.95


def test_alignment_finds_the_movement(rng):
    """A drawing moved by a known map: 4 % larger, turned by 2 degrees, 3 pixels down and 2 to the left, darker."""
    image = near_copies.shrink(phantom.draw("NORMAL", 0)[None]).astype(np.float32)
    angle = np.radians(2)
    map_ = np.float32([[[1.04 * np.cos(angle), -np.sin(angle), -0.06], [np.sin(angle), 1.04 * np.cos(angle), 0.09]]])
    inverse = np.linalg.inv(near_copies._square(map_))[:, :2]
    axis = (np.arange(64) + 0.5) / 32 - 1
    x, y = np.meshgrid(axis, axis)
    everywhere = np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)
    moved = 0.7 * near_copies._sample(image, inverse, everywhere).reshape(1, 64, 64) + 9
    start = np.eye(2, 3, dtype=np.float32)[None]
    found, correlation = near_copies._align(near_copies._halve(image, 32), near_copies._halve(moved, 32), start, 12)
    np.testing.assert_allclose(found, map_, atol=0.01)
    assert correlation[0] > 0.995


def test_many_copies_of_one_picture_stay_together():
    """Twenty equal pictures and forty encodings of another one: each family hangs together, and the two don't."""
    one, other = phantom.draw("NORMAL", 1), phantom.draw("NORMAL", 2)
    images = np.stack([one] * 20 + [encode(other, quality) for quality in range(30, 70)])
    pairs = near_copies.find_pairs(images)
    assert not ((pairs[:, 0] < 20) & (pairs[:, 1] >= 20)).any()
    reached = {20}
    for _ in range(len(images)):
        reached |= {end for pair in pairs.tolist() if set(pair) & reached for end in pair}
    assert reached == set(range(20, 60))
    assert set(pairs[pairs[:, 0] < 20].ravel()) == set(range(20))


def test_a_picture_that_is_there_many_times_is_compared_once():
    """Three hundred equal pictures, and a darker one with noise: it belongs to the first of them."""
    picture = phantom.draw("NORMAL", 1)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    others = [phantom.draw("NORMAL", seed) for seed in range(2, 6)]
    pairs = near_copies.find_pairs(np.stack([picture] * 300 + [(0.9 * picture + noise).clip(0, 255).astype(np.uint8), *others]))
    assert sorted(pairs.tolist()) == [[0, row] for row in range(1, 301)]


@pytest.mark.parametrize("size", [32, 64, 256])
def test_other_sizes(size):
    pictures = np.stack([phantom.draw("NORMAL", seed, size) for seed in range(20)])
    copies = np.stack([cut(image, 0.03, 0, 0.02, 0.04) for image in pictures[:10]])
    pairs = near_copies.find_pairs(np.concatenate([pictures, copies])).tolist()
    assert sorted(pairs) == [[row, 20 + row] for row in range(10)]


@pytest.mark.parametrize("greys, pairs", [([], []), ([0], []), ([7, 7, 7], [[0, 1], [0, 2]]), ([0, 9, 0, 255], [[0, 2]])])
def test_nothing_to_see(greys, pairs):
    """No image, one, or some without any contrast: the equal ones are one picture."""
    images = np.zeros((len(greys), 128, 128, 1), np.uint8) + np.array(greys, np.uint8).reshape(-1, 1, 1, 1)
    assert near_copies.find_pairs(images).tolist() == pairs


def test_the_same_images_give_the_same_pairs(few):
    images = np.concatenate([few, few[:, ::-1][:20]])
    np.testing.assert_array_equal(near_copies.find_pairs(images), near_copies.find_pairs(images))
