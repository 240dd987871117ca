"""How far the search for near-copies reaches: which share of changed files it finds again, by what was done and how much of it.

Part of `python -m benchmarks.audit`. Every copy is made of the file, of 512 pixels a side at most, saved as JPEG and read as any other image.
"""

import io

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageOps

from xraygan.data import decode, near_copies

NUM_COPIES, NUM_OTHERS = 200, 1000  # pictures that are changed and looked for, and others among which they're looked for
LARGEST = 512  # pixels a side of a file before it's changed
QUALITY = 90  # of the JPEG file that a copy is saved as


def cut(picture, left, top, right, bottom):
    """Percentages of each side cut off."""
    width, height = picture.size
    return picture.crop((width * left / 100, height * top / 100, width * (1 - right / 100), height * (1 - bottom / 100)))


def shift(picture, percent, rng):
    """Moved to one of the four corners, with a black border where nothing was."""
    right, down = (round(side * percent / 100 * rng.choice([-1, 1])) for side in picture.size)
    moved = ImageChops.offset(picture, right, down)
    moved.paste(0, (0, 0, right, moved.height) if right > 0 else (moved.width + right, 0, moved.width, moved.height))
    moved.paste(0, (0, 0, moved.width, down) if down > 0 else (0, moved.height + down, moved.width, moved.height))
    return moved


def set_contrast(picture, factor, offset=0):
    return picture.point(lambda value: (value - 128) * factor + 128 + offset)


def encode(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(quality))
    return file.getvalue()


def change_everything(picture, percent, rng):
    """Cut by up to this much, turned by up to 3 degrees, mirrored, contrast changed by up to a fifth, saved at a low quality."""
    turned = cut(picture, *rng.uniform(0, percent, 4)).rotate(rng.uniform(-3, 3), Image.Resampling.BICUBIC)
    changed = set_contrast(ImageOps.mirror(turned), rng.uniform(0.8, 1.2), rng.uniform(-15, 15))
    return Image.open(io.BytesIO(encode(changed, 50)))


CHANGES = {  # what is done to a picture (Pillow image, amount, generator of random numbers) → picture, and how much of it
    "cut on every side, %": (lambda picture, amount, rng: cut(picture, *[amount] * 4), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10)),
    "cut on one side, %": (lambda picture, amount, rng: cut(picture, *rng.permutation([amount, 0, 0, 0])), (2, 5, 10, 15)),
    "cut on any sides, up to %": (lambda picture, amount, rng: cut(picture, *rng.uniform(0, amount, 4)), (2, 5, 8)),
    "shifted both ways, %": (shift, (2, 3, 5, 7, 10)),
    "turned, degrees": (
        lambda picture, amount, rng: picture.rotate(amount * rng.choice([-1, 1]), Image.Resampling.BICUBIC),
        (1, 2, 3, 5, 7, 10),
    ),
    "mirrored": (lambda picture, amount, rng: ImageOps.mirror(picture), (1,)),
    "brighter, grey levels": (lambda picture, amount, rng: set_contrast(picture, 1, amount), (-40, -20, 20, 40)),
    "contrast, factor": (lambda picture, amount, rng: set_contrast(picture, amount), (0.5, 0.8, 1.25, 1.5)),
    "JPEG quality": (lambda picture, amount, rng: Image.open(io.BytesIO(encode(picture, amount))), (75, 50, 20)),
    "all of it, cut up to %": (change_everything, (2, 5)),
}


def open_picture(path):
    """A file as Pillow opens it, grey, of `LARGEST` pixels a side at most."""
    with Image.open(path) as picture:
        picture.draft("L", (LARGEST, LARGEST))
        grey = picture.convert("L")
    grey.thumbnail((LARGEST, LARGEST))
    return grey


def choose_different(image_set, patients):
    """One image of each patient, in random order, and the pairs among them that the search calls one picture."""
    _, first = np.unique(patients, return_index=True)
    rows = np.random.default_rng(0).permutation(first)
    return rows, near_copies.find_pairs(image_set.images[rows])


def describe_pairs(image_set, pairs):
    """What a person needs to judge such pairs: the correlation of the two images as they are, and of their aligned detail.

    Args:
        pairs: of rows.
    """
    table = []
    for first, second in pairs:
        both = near_copies.shrink(image_set.images[[first, second]])
        detail = near_copies.correlate(both, near_copies.propose(near_copies.find_points(both))).max(initial=-1)
        row = {"first": image_set.files[first], "second": image_set.files[second]}
        as_they_are = np.corrcoef(both.reshape(2, -1))[0, 1]
        table.append(row | {"correlation_as_they_are": as_they_are, "correlation_of_aligned_detail": detail})
    return pd.DataFrame(table).round(4)


def measure_reach(image_set, rows):
    """The share of changed pictures that are found, a row for each change and amount.

    Args:
        rows: images of different patients; the first `NUM_COPIES` are changed.

    Returns:
        DataFrame: change, amount, recall, images, pairs_of_patients (pairs that aren't a picture and its own copy), among (images in all);
        and those pairs, a set of (row, row).
    """
    rows, table, others = rows[: NUM_COPIES + NUM_OTHERS], [], set()
    places = image_set.list_places(image_set.files[rows[:NUM_COPIES]])
    pictures = [open_picture(image_set.source.root / place) for place in places]
    for name, (change, amounts) in CHANGES.items():
        for amount in amounts:
            rng = np.random.default_rng(0)
            files = [encode(change(picture, amount, rng), QUALITY) for picture in pictures]
            copies = np.stack([decode.decode_image(file, image_set.images.shape[1]) for file in files])
            pairs = near_copies.find_pairs(np.concatenate([image_set.images[rows], copies])) % len(rows)
            is_own = pairs[:, 0] == pairs[:, 1]
            strangers = {tuple(sorted(pair)) for pair in rows[pairs[~is_own]].tolist()}
            others |= strangers
            row = {"change": name, "amount": amount, "recall": is_own.sum() / len(copies), "images": len(copies)}
            table.append(row | {"pairs_of_patients": len(strangers), "among": len(rows) + len(copies)})
    return pd.DataFrame(table), others


def measure(image_set, patients):
    """The reach, with a row for unchanged images of different patients; and what was called one picture of two patients, anywhere."""
    rows, pairs = choose_different(image_set, patients)
    reach, others = measure_reach(image_set, np.delete(rows, pairs.ravel()))
    none = {"change": "unchanged", "amount": 0, "recall": None, "images": len(rows)}
    none |= {"pairs_of_patients": len(pairs), "among": len(rows)}
    found = sorted({tuple(sorted(pair)) for pair in rows[pairs].tolist()} | others)
    return pd.concat([pd.DataFrame([none]), reach], ignore_index=True), describe_pairs(image_set, found)
