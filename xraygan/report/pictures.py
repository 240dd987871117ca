"""Radiographs in the notebooks: grids and rows of them, pairs, a film, and what a network looks at."""

import base64

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from PIL import Image

import utils
from xraygan import disk
from xraygan.report.figures import WIDE, save_figure

COLUMNS = 8  # pictures a row
FRAMES, FILM_SECONDS, FILM_WIDTH = 20, 8, 416  # of a film: pictures at most, about how long it is, pixels


def show_images(images, title):
    """A grid of `uint8 (N, H, W, 1)` images under a title."""
    return show_picture(utils.image_grid(images, COLUMNS), title)


def show_picture(picture, title):
    """One grey picture `uint8 (H, W)` at full width under a title."""
    height, width = picture.shape
    figure, axes = plt.subplots(figsize=(WIDE, WIDE * height / width + 0.4))
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title)
    axes.axis("off")
    return figure


def show_rows(images_by_name, title):
    """A block of images a name, one above the other; `images_by_name` is {name: `uint8 (N, H, W, 1)`}."""
    pictures = {name: utils.image_grid(images) for name, images in images_by_name.items()}
    heights = [picture.shape[0] / picture.shape[1] for picture in pictures.values()]
    figure, axes = plt.subplots(len(pictures), 1, figsize=(WIDE, WIDE * sum(heights) + 0.6), height_ratios=heights)
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axis.set_ylabel(name)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    figure.suptitle(title)
    return figure


def show_examples(image_set, source, text):
    """The first eight images of each class of a source that aren't in its test folder, a row for each class."""
    in_train = image_set.folders != "test"  # where the source has no split, all of them
    rows = {}
    for name in source.classes:
        members = in_train & (image_set.labels == image_set.source.classes.index(name))
        rows[name] = image_set.images[np.flatnonzero(members)[:COLUMNS]]
    return show_rows(rows, source.title(text))


def show_pairs(image_set, pairs, title, path):
    """Pairs of images one above the other, also written as PNG; nothing where there are none. `pairs` has the columns first and second."""
    path.unlink(missing_ok=True)  # of a run of this name on other images
    if len(pairs):
        pictures = {side: image_set.images[image_set.find_rows(pairs[side])] for side in ("first", "second")}
        save_figure(show_rows(pictures, title), path)


def write_timelapse(grid_files, path):
    """Join sample grids (PNG files, oldest first) into a GIF of at most `FRAMES` pictures and about `FILM_SECONDS`; the last one is held."""
    chosen = [grid_files[index] for index in sorted(set(np.linspace(0, len(grid_files) - 1, FRAMES).round().astype(int)))]
    frames = []
    for file in chosen:
        with Image.open(file) as image:
            frames.append(image.resize((FILM_WIDTH, round(FILM_WIDTH * image.height / image.width)), Image.Resampling.LANCZOS))
    duration = max(60, int(1000 * FILM_SECONDS / len(frames)))
    with disk.replacing(path) as draft:
        frames[0].save(
            draft,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=[duration] * (len(frames) - 1) + [2000],
            loop=0,
        )


def show_film(path):
    """A GIF to display in a notebook; as HTML, since the pages made from notebooks show no other moving picture."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return HTML(f'<img alt="sample grids by epoch" src="data:image/gif;base64,{encoded}">')


def draw_heat(images, heats, probabilities, title):
    """Images with what speaks for a class laid over them in colour, and the probability that the network gives that class above each.

    Args:
        images: `uint8 (N, S, S, 1)`.
        heats: `inspection.grad_cam` of them.
        probabilities: `float (N,)`, 0 to 1.
        title: of the figure.
    """
    num_rows = -(-len(images) // COLUMNS)
    figure, axes = plt.subplots(num_rows, COLUMNS, figsize=(WIDE, (WIDE / COLUMNS + 0.2) * num_rows + 0.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    extent = (0, images.shape[2], images.shape[1], 0)
    for axis, image, heat, probability in zip(axes.flat, images, heats, probabilities, strict=False):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, extent=extent)
        axis.imshow(heat, cmap="inferno", alpha=0.45, vmin=0, vmax=1, extent=extent, interpolation="bilinear")
        axis.set_title(f"{probability:.2f}", fontsize=9)
    figure.suptitle(title)
    return figure
