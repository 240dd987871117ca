"""Radiograph-like images drawn by code, so that everything here runs and is tested without a patient's image.

The phantom is a drawing: nothing found on it is evidence about medicine. Three classes share one anatomy; COVID19 adds hazy
patches at the outer and lower edges of both lungs, PNEUMONIA one denser focus in one lung. Faint disease and harmless
haze in NORMAL overlap on purpose, so that a small classifier errs on some images.
"""

import json

import numpy as np
from joblib import Parallel, cpu_count, delayed
from scipy.ndimage import gaussian_filter

import utils
from xraygan import disk, processes

MARKER = "phantom.json"  # a folder with this file is a phantom, whatever it is called
DRAWING_VERSION = 1  # raise it when the drawing changes: folders of an older version are drawn again
SEED = 0  # same seed, same pixels
COUNTS = {  # about half the study's set, with its imbalance
    "train": {"NORMAL": 633, "COVID19": 230, "PNEUMONIA": 1709},
    "test": {"NORMAL": 158, "COVID19": 58, "PNEUMONIA": 428},
}
CLASSES = ("NORMAL", "COVID19", "PNEUMONIA")

README = """# Phantom: drawings, not patients

These images are drawn by code (`xraygan/data/phantom.py`) to look like chest radiographs at a glance, so that the project can be
run and tested without medical data. The class names are those of the real set; the images are of nobody.
**Nothing found on this phantom is evidence about medicine.**
"""


def draw(class_name, seed, image_size=utils.IMAGE_SIZE):
    """Draw one phantom radiograph.

    Args:
        class_name: "NORMAL", "COVID19" or "PNEUMONIA".
        seed: an integer or a sequence of integers; same seed, same pixels.
        image_size: pixels a side.

    Returns:
        `uint8 (image_size, image_size, 1)`.

    Raises:
        ValueError: an unknown class.
    """
    if class_name not in CLASSES:
        raise ValueError(f"the phantom has no class {class_name!r}; it draws {', '.join(CLASSES)}.")
    rng = np.random.default_rng(seed)
    y, x = _tilted_coordinates(rng, image_size)
    body = _anatomy(rng)
    lungs = _lungs(x, y, body)
    picture = _soft_tissue(x, y)
    picture -= (0.46 + rng.normal(0, 0.03)) * lungs * (0.85 + 0.3 * _texture(rng, image_size, 10))
    picture += _vessels(rng, x, y, image_size) * lungs
    picture += _opacities(rng, class_name, x, y, body, image_size) * lungs
    picture += _ribs(x, y, body) * np.clip(lungs + 0.25, 0, 1)
    picture += _mediastinum(x, y, body) + _clavicles(x, y)
    return _expose(rng, picture * _outline(x, y, body), image_size)


def write_phantom(folder, counts=None, show_progress=True):
    """Draw a whole phantom set as `folder/{train,test}/CLASS/phantom_0000.png` with a README; a finished one is kept.

    Args:
        folder: written as a whole: the marker that says "finished" comes last.
        counts: {"train": {class: number}, "test": {…}}, by default `COUNTS`.
    """
    counts = counts or COUNTS
    wanted = {"drawing_version": DRAWING_VERSION, "seed": SEED, "counts": counts}
    marker = folder / MARKER
    if marker.exists() and json.loads(marker.read_text()) == wanted:
        return
    marker.unlink(missing_ok=True)
    jobs = [
        (folder / part / name / f"phantom_{index:04d}.png", name, (SEED, part_id, CLASSES.index(name), index))
        for part_id, part in enumerate(counts)
        for name, number in counts[part].items()
        for index in range(number)
    ]
    with processes.side_by_side():
        parallel = Parallel(n_jobs=cpu_count(), return_as="generator_unordered")
        drawn = parallel(delayed(_draw_to_file)(*job) for job in jobs)
        for _ in utils.progress(drawn, total=len(jobs), desc="drawing the phantom", unit="image", disable=not show_progress):
            pass
    with disk.replacing(folder / "README.md") as draft:
        draft.write_text(README, encoding="utf-8")
    with disk.replacing(marker) as draft:
        draft.write_text(json.dumps(wanted, indent=1))


def _draw_to_file(path, class_name, seed):
    utils.save_png(draw(class_name, seed), path)


def _anatomy(rng):
    """The proportions of one body; lengths in units of half the picture's width."""
    return {
        "lung_x": rng.normal(0.39, 0.02),  # distance of each lung's axis from the midline
        "lung_y": rng.normal(-0.05, 0.03),
        "lung_width": rng.normal(0.28, 0.02),
        "lung_height": rng.normal(0.68, 0.035),
        "dome_right": rng.normal(0.50, 0.04),  # the right dome (left in the picture) stands higher
        "dome_left": rng.normal(0.57, 0.04),
        "heart_x": rng.normal(0.12, 0.03),
        "heart_width": rng.normal(0.33, 0.035),
        "spine_width": rng.normal(0.13, 0.012),
        "rib_pitch": rng.normal(0.165, 0.008),
        "rib_phase": rng.uniform(0, 1),
        "rib_strength": rng.uniform(0.05, 0.10),
        "shoulder": rng.normal(0.93, 0.03),
    }


def _tilted_coordinates(rng, image_size):
    """Coordinates −1 to 1 (y down) of a patient who doesn't stand quite straight or quite centred."""
    axis = (np.arange(image_size) + 0.5) / image_size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    angle, zoom = rng.normal(0, 0.03), rng.normal(1.0, 0.03)
    shift_x, shift_y = rng.normal(0, 0.02, 2)
    turned_x = (x * np.cos(angle) + y * np.sin(angle)) * zoom + shift_x
    turned_y = (y * np.cos(angle) - x * np.sin(angle)) * zoom + shift_y
    return turned_y, turned_x


def _edge(signed_distance, softness):
    """A soft step: 1 inside (negative distance), 0 outside."""
    return 1 / (1 + np.exp(np.clip(signed_distance / softness, -30, 30)))


def _bump(x, y, center_x, center_y, radius_x, radius_y):
    return np.exp(-(((x - center_x) / radius_x) ** 2) - ((y - center_y) / radius_y) ** 2)


def _texture(rng, image_size, grain):
    """Smooth random texture, about 0 ± 1, with features of `grain` pixels at 128 pixels a side."""
    noise = gaussian_filter(rng.standard_normal((image_size, image_size)), grain * image_size / 128, mode="reflect")
    return noise / noise.std()


def _lungs(x, y, body):
    """Both lungs, 0 to 1: narrow at the apex, cut below by the domes of the diaphragm and at the middle by the heart."""
    total = np.zeros_like(x)
    for side, dome in ((-1, body["dome_right"]), (1, body["dome_left"])):
        height = (y - body["lung_y"]) / body["lung_height"]
        width = body["lung_width"] * (1 + 0.22 * height)  # wider at the base
        axis = side * (body["lung_x"] + 0.06 * height)
        oval = (np.abs((x - axis) / width) ** 2.6 + np.abs(height) ** 2.6) ** (1 / 2.6)
        diaphragm = dome - 0.14 * np.cos(np.clip((x - axis) / width, -1.5, 1.5) * 1.3) + 0.08
        total += _edge(oval - 1, 0.045) * _edge(y - diaphragm, 0.015)
    heart = _edge(_heart_distance(x, y, body), 0.05)
    return np.clip(total, 0, 1) * (1 - 0.85 * heart)


def _heart_distance(x, y, body):
    """Below 0 inside the heart: an egg lying on the left dome, its tip to the patient's left (right in the picture)."""
    along, across = 0.85 * (x - body["heart_x"]) + 0.5 * (y - 0.32), 0.85 * (y - 0.32) - 0.5 * (x - body["heart_x"])
    return np.hypot(along / body["heart_width"], across / (0.30 - 0.12 * along)) - 1


def _outline(x, y, body):
    """The body against the dark plate: arms and shoulders, then the neck."""
    trunk = _edge(np.abs(x) - body["shoulder"] - 0.08 * np.cos(2.5 * y), 0.03)
    slope = _edge(-(y + 1.08 - 0.35 * np.clip(np.abs(x) - 0.25, 0, None)), 0.04)
    return trunk * slope


def _soft_tissue(x, y):
    return 0.60 + 0.06 * y - 0.25 * np.clip(np.abs(x) - 0.7, 0, None) + 0.10 * _edge(-(y - 0.62), 0.05)


def _mediastinum(x, y, body):
    spine = np.exp(-((x / body["spine_width"]) ** 2)) * (0.17 + 0.025 * np.cos(2 * np.pi * y / 0.16))
    trachea = -0.13 * np.exp(-((x / 0.045) ** 2)) * _edge(y + 0.30, 0.05)
    heart = 0.07 * _edge(_heart_distance(x, y, body), 0.12)
    arch = 0.10 * _bump(x, y, 0.13, -0.27, 0.10, 0.11)
    return spine + trachea + heart + arch


def _ribs(x, y, body):
    """Posterior ribs as bright arcs that fall off towards the side, with thin anterior ones crossing them."""
    aside = np.abs(x)
    posterior = (y + 0.55 * (aside - 0.30) ** 2 - 0.10 * aside) / body["rib_pitch"] + body["rib_phase"]
    anterior = (y - 0.45 * aside) / (1.25 * body["rib_pitch"]) + body["rib_phase"]
    cage = _edge(aside - 0.78, 0.04) * _edge(-(y + 0.82), 0.04) * _edge(y - 0.62, 0.06)
    bright = np.clip(np.cos(2 * np.pi * posterior), -0.3, 1) + 0.4 * np.clip(np.cos(2 * np.pi * anterior), 0, 1)
    return body["rib_strength"] * bright * cage


def _clavicles(x, y):
    height = -0.60 - 0.18 * (np.abs(x) - 0.1) + 0.10 * np.sin(4 * np.abs(x))
    return 0.10 * np.exp(-(((y - height) / 0.035) ** 2)) * _edge(np.abs(x) - 0.75, 0.04) * _edge(0.08 - np.abs(x), 0.03)


def _vessels(rng, x, y, image_size):
    """Hila and the branching marks around them, fading outwards."""
    total = np.zeros_like(x)
    for side in (-1, 1):
        hilum_x, hilum_y = side * 0.20, -0.03 + 0.03 * side
        distance = np.hypot(x - hilum_x, y - hilum_y)
        angle = np.arctan2(y - hilum_y, (x - hilum_x) * side)
        phases = rng.uniform(0, 2 * np.pi, 3)
        wobble = 0.5 * np.sin(9 * distance + phases[0])
        branches = (
            np.clip(np.cos(9 * angle + wobble + phases[1]), 0.4, 1)
            - 0.4
            + 0.7 * np.clip(np.cos(17 * angle + phases[2]), 0.6, 1)
            - 0.42
        )
        total += 0.16 * np.exp(-((distance / 0.16) ** 2)) + 0.24 * branches * np.exp(-distance / 0.22)
    return total + 0.018 * _texture(rng, image_size, 1.2)


def _opacities(rng, class_name, x, y, body, image_size):
    """What tells the classes apart. Strengths are drawn wide, so that the faintest disease looks like the haziest NORMAL."""
    total = np.zeros_like(x)
    if class_name == "COVID19":
        strength = rng.gamma(6.0, 0.040)
        patches = [
            (side, rng.uniform(0.10, 0.20), rng.uniform(-0.25, 0.40)) for side in (-1, 1) for _ in range(rng.integers(2, 4))
        ]
    elif class_name == "PNEUMONIA":
        strength = rng.gamma(6.0, 0.050)
        patches = [(rng.choice((-1, 1)), rng.uniform(-0.12, 0.08), rng.uniform(-0.35, 0.35))]
    else:  # harmless haze: poor inspiration, a fold of skin
        strength = rng.gamma(2.0, 0.025)
        patches = [(rng.choice((-1, 1)), rng.uniform(-0.12, 0.20), rng.uniform(-0.30, 0.40)) for _ in range(rng.integers(1, 3))]
    for side, outward, height in patches:
        center_x = side * (body["lung_x"] + outward)
        radius = rng.uniform(0.12, 0.22)
        total += _bump(x, y, center_x, height, radius * rng.uniform(0.7, 1.1), radius * rng.uniform(0.8, 1.4))
    mottle = np.clip(1 + 0.25 * _texture(rng, image_size, 2.5), 0, None)
    return strength * np.clip(total, 0, 1.3) * mottle


def _expose(rng, picture, image_size):
    """Exposure, blur and grain of the film; the same for every class."""
    picture = gaussian_filter(picture, rng.uniform(0.4, 0.9) * image_size / 128)
    picture = np.clip(picture, 0, 1.2) ** rng.uniform(0.85, 1.25) * rng.uniform(0.92, 1.10)
    picture += rng.normal(0, rng.uniform(0.008, 0.02), picture.shape)
    return utils.from_unit(picture)[..., np.newaxis]
