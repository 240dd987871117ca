"""Generated images on disk: 8-bit grey PNG with a manifest that says which seed and which generator made each, and its hash."""

import hashlib

import keras
import numpy as np
import pandas as pd

import utils
from xraygan import disk, keys, run
from xraygan.data import loading

BATCH_SIZE = 64
AGAIN = f"run notebooks/{run.NOTEBOOK_2} again"
COLUMNS = ("file", "class", "sha256")  # of the manifest


def draw_noise(seeds, latent_dim):
    """Standard normal noise `float32 (N, latent_dim)`, one row a seed: each fake can be drawn again from its own seed."""
    return np.stack([np.random.default_rng(seed).standard_normal(latent_dim, dtype=np.float32) for seed in seeds])


def draw(generator, noise):
    """Run the generator on noise `(N, latent_dim)`: images `uint8 (N, S, S, 1)`."""
    batches = [generator.predict_on_batch(noise[start : start + BATCH_SIZE]) for start in range(0, len(noise), BATCH_SIZE)]
    return utils.from_signed(np.concatenate(batches))


def weights_hash(model):
    """A hash of all weights of a model, moving statistics too."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)))
    return digest.hexdigest()


def write_fakes(generator, folder, class_name, num_fakes, first_seed):
    """Write `folder/CLASS/fake_0000.png …` and `folder/manifest.csv`; fakes that are already there, from this generator, stay, also further ones.

    Args:
        generator: noise → images in −1 to 1.
        num_fakes: how many.
        first_seed: fake i is drawn from seed `first_seed + i`.

    Returns:
        the manifest: file, class, seed, generator (hash of its weights), sha256 (of the file).
    """
    files = [f"{class_name}/fake_{index:04d}.png" for index in range(num_fakes)]
    seeds = range(first_seed, first_seed + num_fakes)
    manifest = pd.DataFrame({"file": files, "class": class_name, "seed": seeds, "generator": weights_hash(generator)})
    path = folder / "manifest.csv"
    if path.exists() and _is_whole(folder, manifest):
        return _read_manifest(path).head(num_fakes)
    latent_dim, starts = generator.input_shape[-1], range(0, num_fakes, BATCH_SIZE)
    batches = (draw(generator, draw_noise(seeds[start : start + BATCH_SIZE], latent_dim)) for start in starts)
    progress = utils.progress(batches, total=len(starts), desc="writing fakes", unit="batch")
    return _replace(folder, class_name, manifest, progress)


def write_imported(images, origins, folder, class_name):
    """Write fakes that another generator made, as `write_fakes` writes those of a GAN; returns the manifest: file, class, origin, sha256.

    Args:
        images: `uint8 (N, S, S, 1)`.
        origins: the name of the file that each came from.
    """
    files = [f"{class_name}/fake_{index:04d}.png" for index in range(len(images))]
    return _replace(folder, class_name, pd.DataFrame({"file": files, "class": class_name, "origin": origins}), [images])


def _replace(folder, class_name, manifest, batches):
    """Write the fakes of a manifest in place of all that are there; returns it with their hashes."""
    path = folder / "manifest.csv"
    disk.remove(path)  # the manifest comes last: while it's missing, so may be fakes
    if (folder / class_name).is_symlink():
        (folder / class_name).unlink()  # what it leads to isn't the run's to write in, and couldn't be read from here
    for place in (folder, folder / class_name):
        disk.remove_drafts(place)
    for old in (folder / class_name).glob("fake_*.png"):
        disk.remove(old)
    images = (image for batch in batches for image in batch)
    for file, image in zip(manifest["file"], images, strict=True):
        utils.save_png(image, folder / file)
    manifest = manifest.assign(sha256=[disk.hash_file(folder / file) for file in manifest["file"]])
    utils.write_table(manifest, path)
    return manifest


def _is_whole(folder, expected):
    """Whether the first fakes are those of a manifest without hashes, and their files as they were written."""
    try:
        there = _read_manifest(folder / "manifest.csv").head(len(expected))
        return there.drop(columns="sha256").equals(expected) and not _list_changed(folder, there)
    except ValueError:
        return False


def read_fakes(folder, class_name, image_size=utils.IMAGE_SIZE, count=None):
    """The first `count` fakes of one class, or all: `uint8 (N, image_size, image_size, 1)` and the manifest.

    Raises:
        FileNotFoundError: notebook 2 hasn't written them.
        ValueError: they are fewer, of another class, or not as they were written.
    """
    manifest = _read_manifest(disk.require(folder / "manifest.csv", run.NOTEBOOK_2))
    if count is not None and count > len(manifest):
        raise ValueError(f"{count} fakes are asked for, and {disk.display_path(folder)} has {len(manifest)}: {AGAIN}.")
    manifest = manifest.head(count)
    others = set(manifest["class"]) - {class_name}
    if others:
        raise ValueError(
            f"the fakes in {disk.display_path(folder)} are of {', '.join(sorted(others))}, and {class_name} is to be augmented: "
            f"{AGAIN}, or give RUN a new name."
        )
    changed = _list_changed(folder, manifest)
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(manifest)} fakes in {disk.display_path(folder)} are gone or were changed (the first: {changed[0]}): {AGAIN}."
        )
    return loading.load_every_image([folder / file for file in manifest["file"]], image_size), manifest


def count_fakes(folder):
    """How many fakes a folder's manifest names; 0 where it can't be read."""
    try:
        return len(_read_manifest(folder / "manifest.csv"))
    except (FileNotFoundError, ValueError):
        return 0


def hash_fakes(folder, count):
    """A hash of the first `count` fakes that a folder's manifest names."""
    return keys.digest(_read_manifest(folder / "manifest.csv")["sha256"].head(count).tolist(), 16)


def _list_changed(folder, manifest):
    """The files that aren't as the manifest says."""
    return [
        file for file, known in zip(manifest["file"], manifest["sha256"], strict=True) if disk.hash_file(folder / file) != known
    ]


def _read_manifest(path):
    """The table of the fakes in a folder.

    Raises:
        ValueError: it is no such table, or names a file outside its folder.
    """
    manifest = utils.read_table(path)
    missing = [name for name in COLUMNS if name not in manifest]
    if missing:
        raise disk.DamagedError(f"{disk.display_path(path)} has no column {', '.join(missing)}: {AGAIN}.")
    folder = path.parent.resolve()
    outside = [file for file in manifest["file"] if not (folder / file).resolve().is_relative_to(folder)]
    if outside:
        raise ValueError(f"{disk.display_path(path)} names {outside[0]!r}, which isn't in its folder: {AGAIN}.")
    return manifest
