"""Generated images on disk: 8-bit grey PNG with a manifest that says which seed and which generator made each."""

import hashlib

import keras
import numpy as np
import pandas as pd

import utils
from xraygan import disk
from xraygan.data import loading

BATCH_SIZE = 64


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
        the manifest: file, class, seed, generator (hash of its weights).
    """
    files = [f"{class_name}/fake_{index:04d}.png" for index in range(num_fakes)]
    seeds = range(first_seed, first_seed + num_fakes)
    manifest = pd.DataFrame({"file": files, "class": class_name, "seed": seeds, "generator": weights_hash(generator)})
    path = folder / "manifest.csv"
    if (
        path.exists()
        and _read_manifest(path).head(num_fakes).equals(manifest)
        and all((folder / file).exists() for file in files)
    ):
        return manifest
    latent_dim, starts = generator.input_shape[-1], range(0, num_fakes, BATCH_SIZE)
    batches = (draw(generator, draw_noise(seeds[start : start + BATCH_SIZE], latent_dim)) for start in starts)
    _replace(folder, class_name, manifest, utils.progress(batches, total=len(starts), desc="writing fakes", unit="batch"))
    return manifest


def write_imported(images, origins, folder, class_name):
    """Write fakes that another generator made, as `write_fakes` writes those of a GAN; returns the manifest: file, class, origin.

    Args:
        images: `uint8 (N, S, S, 1)`.
        origins: the name of the file that each came from.
    """
    files = [f"{class_name}/fake_{index:04d}.png" for index in range(len(images))]
    manifest = pd.DataFrame({"file": files, "class": class_name, "origin": origins})
    _replace(folder, class_name, manifest, [images])
    return manifest


def _replace(folder, class_name, manifest, batches):
    """Write the fakes of a manifest in place of all that are there."""
    path = folder / "manifest.csv"
    path.unlink(missing_ok=True)  # the manifest comes last: while it's missing, so may be fakes
    for place in (folder, folder / class_name):
        disk.remove_drafts(place)
    for old in (folder / class_name).glob("fake_*.png"):
        old.unlink()
    images = (image for batch in batches for image in batch)
    for file, image in zip(manifest["file"], images, strict=True):
        utils.save_png(image, folder / file)
    utils.write_table(manifest, path)


def read_fakes(folder, class_name, image_size=utils.IMAGE_SIZE, count=None):
    """The first `count` fakes of one class, or all: `uint8 (N, image_size, image_size, 1)` and the manifest.

    Raises:
        FileNotFoundError: notebook 2 hasn't written them, or some are missing.
        ValueError: they are of another class.
    """
    manifest = _read_manifest(disk.require(folder / "manifest.csv", "2_gan_training.ipynb"))
    manifest = manifest.head(len(manifest) if count is None else count)
    others = set(manifest["class"]) - {class_name}
    if others:
        raise ValueError(
            f"the fakes in {disk.display_path(folder)} are of {', '.join(sorted(others))}, and {class_name} is to be augmented: "
            "run notebooks/2_gan_training.ipynb again, or give RUN a new name."
        )
    missing = [file for file in manifest["file"] if not (folder / file).exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(manifest)} fakes are missing (the first: {missing[0]}); run notebooks/2_gan_training.ipynb again."
        )
    files = [folder / file for file in manifest["file"]]
    return loading.load_every_image(files, image_size), manifest


def _read_manifest(path):
    return utils.read_table(path)
