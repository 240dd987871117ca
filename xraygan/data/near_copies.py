"""Near-copies: pairs of images that show one picture, though one was cut, shifted, turned, mirrored, brightened or encoded anew.

Three steps, after Ke, Sukthankar and Huston 2004 (doi:10.1145/1027527.1027729), each about N log N for N images:

1. Every image is described by small patches around its most striking points: a copy has most of them, wherever they have moved.
2. Patches that resemble each other are found by a forest of random trees; two images with two such patches in common are a candidate.
3. The two images of a candidate are laid over each other as well as they can be, and their fine detail is correlated. Chests resemble
   each other in everything but that.

How much is found of which change is measured by `python -m benchmarks.audit` (results/published/benchmarks/near_copies.csv).
"""

import hashlib
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, gaussian_laplace, maximum_filter

SIDE = 64  # pixels a side at which images are compared: what is finer doesn't survive a copy
BLOCK = 1024  # images, leaves or candidates at a time: keeps the memory small

NUM_POINTS = 24  # at most, in an image
BORDER = 4  # pixels along the edges without points: a cut removes them
FAINT = 0.05  # response of the blob filter (grey levels) below which there's nothing to see
PATCH, REACH = 8, 8.0  # a patch is PATCH×PATCH samples, REACH pixels to each side of its point
NUM_WAVES = 24  # lowest waves of a patch (discrete cosine transform) that describe it

NUM_TREES = 6  # a pair that one tree parts is met in another
LEAF = 32  # patches in a leaf: this many, to twice as many
ALIKE = 0.9  # cosine of the descriptions of two patches that are called alike
MOVED = 9.0  # pixels that a patch may have moved: 14 % of the side
VOTES = 2  # patches alike that make two images a candidate

LEVELS = ((16, 4, 0.965), (32, 3, 0.965), (64, 3, -1.0))  # side in pixels, steps of the alignment, correlation needed to go on
MARGIN = 0.2  # of the picture, on each side of the middle, that isn't compared: a cut, a turn or a label changes it
SAME = 0.94  # correlation of aligned detail of one picture: of 6,432 radiographs others reached 0.93, copies began at 0.95


class Points(NamedTuple):
    """Striking points of many images: `image` `int (P,)` ascending, `place` `float32 (P, 2)` (row, column), `patch` `float32 (P, NUM_WAVES)`."""

    image: np.ndarray
    place: np.ndarray
    patch: np.ndarray


def find_pairs(images):
    """Pairs of images that show one picture.

    Args:
        images: `uint8 (N, S, S, 1)`.

    Returns:
        `int (P, 2)`, first < second, each pair once.
    """
    small = shrink(images)
    equal = link_equal([hashlib.blake2b(image, digest_size=16).hexdigest() for image in small])
    distinct = np.delete(np.arange(len(small)), equal[:, 1])  # a thousand equal pictures would hide each other
    if len(distinct) < 2:
        return equal
    small = small[distinct]
    candidates = propose(find_points(small))
    near = candidates.loc[correlate(small, candidates) >= SAME, ["first", "second"]].drop_duplicates()
    return np.concatenate([distinct[near.to_numpy()], equal])


def link_equal(keys):
    """Pairs `int (P, 2)` that connect each key's first occurrence with its others, first < second."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([first[inverse], np.arange(len(keys))], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def shrink(images):
    """The images `uint8 (N, S, S, 1)` at the size they are compared at: `uint8 (N, 64, 64)`."""
    small = np.empty((len(images), SIDE, SIDE), np.uint8)
    for row, image in enumerate(images):
        small[row] = Image.fromarray(image[..., 0]).resize((SIDE, SIDE), Image.Resampling.BOX)
    return small


# 1. Points


def find_points(small):
    """The `Points` of images `uint8 (N, 64, 64)`: the strongest blobs, bright and dark, with a description of what is around each."""
    blocks = [_find_points(small[start : start + BLOCK].astype(np.float32), start) for start in range(0, len(small), BLOCK)]
    return Points(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _find_points(small, first):
    strength = np.abs(gaussian_laplace(small, (0, 1, 1)))
    strength[strength < maximum_filter(strength, (0, 3, 3))] = 0
    inner = np.zeros((SIDE, SIDE), bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    strength = (strength * inner).reshape(len(small), -1)
    strongest = np.argpartition(-strength, NUM_POINTS, axis=1)[:, :NUM_POINTS]
    image, rank = np.nonzero(np.take_along_axis(strength, strongest, axis=1) > FAINT)
    place = np.stack(np.divmod(strongest[image, rank], SIDE), axis=1)
    offsets = ((np.arange(PATCH) + 0.5) / PATCH * 2 - 1) * REACH
    rows, columns = (np.rint(place[:, axis, None] + offsets).astype(int).clip(0, SIDE - 1) for axis in (0, 1))
    smooth = gaussian_filter(small, (0, REACH / PATCH, REACH / PATCH))
    patch = smooth[image[:, None, None], rows[:, :, None], columns[:, None, :]]
    return image + first, place.astype(np.float32), _describe(patch)


def _describe(patches):
    """The lowest waves of each patch but its mean, of unit length: brightness and contrast don't count. `float32 (P, NUM_WAVES)`."""
    waves = dctn(patches, axes=(1, 2), norm="ortho").reshape(-1, PATCH**2)[:, _list_waves()]
    return (waves / np.linalg.norm(waves, axis=1, keepdims=True).clip(1e-6)).astype(np.float32)


def _list_waves():
    down, across = np.divmod(np.arange(1, PATCH**2), PATCH)
    return np.argsort(down + across, kind="stable")[:NUM_WAVES] + 1


def mirror(points):
    """The points of the mirrored images: waves that are odd from left to right change their sign."""
    signs = np.where(_list_waves() % PATCH % 2 == 1, np.float32(-1), np.float32(1))
    place = np.abs(points.place - np.float32([0, SIDE - 1]))
    return points._replace(place=place, patch=points.patch * signs)


# 2. Candidates


def propose(points):
    """Candidates: pairs of images with `VOTES` pairs of patches alike, about where they'd be in a copy.

    Returns:
        DataFrame: first < second (images), mirrored (whether the first must be mirrored).
    """
    low, high, mirrored = _find_patches_alike(points, np.random.default_rng(0))
    size = len(points.image) and points.image[-1] + 1
    found, votes = np.unique((points.image[low] * size + points.image[high]) * 2 + mirrored, return_counts=True)
    pairs, mirrored = np.divmod(found[votes >= VOTES], 2)
    first, second = np.divmod(pairs, max(size, 1))
    return pd.DataFrame({"first": first, "second": second, "mirrored": mirrored == 1})


def _find_patches_alike(points, rng):
    """Pairs of patches of two images, each once: the lower, the higher, and whether one of them is mirrored (1) or none (0)."""
    count, found = len(points.image), [np.zeros(0, int)]
    image, place, patch = (np.concatenate(both) for both in zip(points, mirror(points), strict=True))
    for _ in range(NUM_TREES if count else 0):
        one, other = _find_mates(patch, image, place, _grow_tree(patch, rng))
        one, other = np.where(one < count, one, other), np.where(one < count, other, one)  # at most the other is mirrored
        mirrored, other = np.divmod(other, count)
        low, high = np.minimum(one, other), np.maximum(one, other)  # points are in the order of their images
        found.append(np.unique((low * count + high) * 2 + mirrored))
    pairs, mirrored = np.divmod(np.unique(np.concatenate(found)), 2)
    return *np.divmod(pairs, max(count, 1)), mirrored


def _grow_tree(patch, rng):
    """Part the patches into equal halves along random directions until `LEAF` to twice as many stay together: `int (leaves, patches a leaf)`.

    A direction joins two patches chosen at random, so most directions are those in which patches differ.
    """
    levels = max(0, int(np.log2(len(patch) / LEAF)))
    in_leaf = -(-len(patch) // 2**levels)
    order = np.resize(rng.permutation(len(patch)), (1, in_leaf * 2**levels))  # some twice, so that all leaves are full
    for _ in range(levels):
        one, other = rng.choice(len(patch), 2, replace=False)
        along = (patch @ (patch[one] - patch[other]))[order]
        half = order.shape[1] // 2
        order = np.take_along_axis(order, np.argpartition(along, half, axis=1), axis=1).reshape(-1, half)
    return order


def _find_mates(patch, image, place, leaves):
    """Of each patch the one in its leaf, of another image, that is most like it, if the two are alike and near: `int (M,)` and `int (M,)`.

    Two mirrored patches are left out: they're met unmirrored.
    """
    count, found = len(patch) // 2, []
    for start in range(0, len(leaves), BLOCK):
        members = leaves[start : start + BLOCK]
        likeness = patch[members] @ patch[members].transpose(0, 2, 1)
        likeness[image[members][:, :, None] == image[members][:, None, :]] = -1
        best = likeness.argmax(axis=2)
        mates = np.take_along_axis(members, best, axis=1)
        good = np.take_along_axis(likeness, best[..., None], axis=2)[..., 0] > ALIKE
        good &= np.abs(place[members] - place[mates]).max(axis=2) < MOVED
        good &= (members < count) | (mates < count)
        found.append(np.stack([members[good], mates[good]]))
    return np.concatenate(found, axis=1)


# 3. Alignment


def correlate(small, candidates):
    """How far the two images of each candidate are one picture: `float32 (C,)`, the correlation of aligned detail, −1 to 1.

    −1 where coarser versions already say that they aren't.
    """
    result = np.full(len(candidates), -1, np.float32)
    for start in range(0, len(candidates), BLOCK):
        result[start : start + BLOCK] = _correlate(small, candidates.iloc[start : start + BLOCK])
    return result


def _correlate(small, candidates):
    first, second = (small[candidates[side]].astype(np.float32) for side in ("first", "second"))
    mirrored = candidates["mirrored"].to_numpy(bool)
    first[mirrored] = first[mirrored, :, ::-1]
    place = np.tile(np.eye(2, 3, dtype=np.float32), (len(candidates), 1, 1))
    rows, result = np.arange(len(candidates)), np.full(len(candidates), -1, np.float32)
    for side, steps, enough in LEVELS:
        one, other = (gaussian_filter(_halve(images[rows], side), (0, 0.7, 0.7)) for images in (first, second))
        place, correlation = _align(one, other, place, steps)
        rows, place = rows[correlation >= enough], place[correlation >= enough]
    one, other = (_keep_detail(images[rows]) for images in (first, second))
    grid = _make_grid(SIDE)
    result[rows] = (
        _normalise(_sample(one, np.eye(2, 3, dtype=np.float32)[None], grid)) * _normalise(_sample(other, place, grid))
    ).sum(axis=1)
    return result


def _halve(images, side):
    block = SIDE // side
    return images.reshape(len(images), side, block, side, block).mean(axis=(2, 4))


def _keep_detail(images):
    """What is between 1 and 3 pixels wide."""
    return gaussian_filter(images, (0, 0.7, 0.7)) - gaussian_filter(images, (0, 2.6, 2.6))


def _align(first, second, place, steps):
    """Find the affine map by which the second image of each pair fits the first, brightness and contrast aside.

    Gauss and Newton's steps with the first image's gradient (inverse compositional alignment, Baker and Matthews 2004,
    doi:10.1023/B:VISI.0000011205.11775.fd).

    Args:
        first, second: `float32 (C, side, side)`.
        place: `float32 (C, 2, 3)`, where to begin: coordinates of the first, −1 to 1, to those of the second.
        steps: how many.

    Returns:
        the maps `float32 (C, 2, 3)`, and the correlation `(C,)` before the last step.
    """
    grid = _make_grid(first.shape[1])
    identity = np.eye(2, 3, dtype=np.float32)[None]
    wanted = _sample(first, identity, grid)
    length = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True), axis=1, keepdims=True).clip(1e-6)
    wanted = _normalise(wanted)
    slope = [_sample(slope, identity, grid) * first.shape[1] / 2 / length for slope in np.gradient(first, axis=(1, 2))]
    change = np.concatenate(
        [slope[1][:, None] * grid, slope[0][:, None] * grid], axis=1
    )  # (C, 6, pixels): by each entry of the map
    change -= change.mean(axis=2, keepdims=True)
    change -= (change @ wanted[:, :, None]) * wanted[:, None]  # brightness and contrast are nobody's movement
    curvature = change @ change.transpose(0, 2, 1)
    curvature += 1e-3 * (np.trace(curvature, axis1=1, axis2=2)[:, None, None] + 1e-6) * np.eye(6, dtype=np.float32)
    for _ in range(steps):
        seen = _normalise(_sample(second, place, grid))
        step = np.linalg.solve(curvature, change @ (seen - wanted)[:, :, None]).reshape(-1, 2, 3).clip(-0.1, 0.1)
        place = (_square(place) @ np.linalg.inv(_square(step + identity)))[:, :2]
    return place, (seen * wanted).sum(axis=1)


def _square(maps):
    """`(C, 2, 3)` → `(C, 3, 3)`, so that one map after another is a product."""
    return np.concatenate([maps, np.broadcast_to(np.float32([[[0, 0, 1]]]), (len(maps), 1, 3))], axis=1)


def _make_grid(side):
    """The places that are compared: `float32 (3, pixels)` of x, y (−1 to 1) and 1."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    axis = axis[np.abs(axis) < 1 - MARGIN]
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)


def _sample(images, place, grid):
    """Grey at the places of a grid after a map, between pixels in proportion: `float32 (C, pixels)`. scipy's map_coordinates takes ten times as long."""
    side = images.shape[1]
    x, y = ((place @ grid + 1) * (side / 2) - 0.5).clip(0, side - 1.001).transpose(1, 0, 2)
    left, top = x.astype(np.int32), y.astype(np.int32)
    right, down = x - left, y - top
    start = np.arange(len(images))[:, None] * side**2 + top * side + left
    above, below = (
        images.reshape(-1)[start + offset] * (1 - right) + images.reshape(-1)[start + offset + 1] * right
        for offset in (0, side)
    )
    return above * (1 - down) + below * down


def _normalise(rows):
    """Each row with mean 0 and length 1."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
