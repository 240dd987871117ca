"""The GANs of a study: one for each choice of real images of the minority class and each seed, and their fakes; or those of another generator.

The GAN of the run's own seed, trained on all images, is notebook 2's: its generator is kept as a model of the run.
"""

from xraygan import disk, keys, run
from xraygan.data import imported
from xraygan.gan import dcgan, fakes, fidelity, memorisation


def save_generator(study, generator):
    """Keep notebook 2's generator, what it was made from, and its recipe in the record."""
    run.note(study.folders, recipe=vars(study.recipe), imported=None)
    run.save_model(generator, study.folders, dcgan.GENERATOR, **_list_sources_of_generator(study))


def load_generator(study):
    """The generator that notebook 2 saved.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: the file isn't what the record knows, or was made from another split or by another recipe.
    """
    require_generator(study)
    return run.load_weights(study.recipe.build_generator(), study.folders, dcgan.GENERATOR, run.NOTEBOOK_2)


def require_generator(study):
    """Stop where notebook 2's generator isn't there, isn't what the record knows, or is of another split or recipe."""
    path = study.folders.models / f"{dcgan.GENERATOR}.keras"
    if study.recipe is None:
        disk.require(path, run.NOTEBOOK_2)
        raise ValueError(f"{disk.display_path(path)} is of an unknown recipe: run notebooks/{run.NOTEBOOK_2} again.")
    run.require_signed(study.folders, path, run.NOTEBOOK_2, **_list_sources_of_generator(study))


def _list_sources_of_generator(study):
    return {"recipe": keys.digest(dcgan.describe_training(study.recipe))}


def import_fakes(study, folder):
    """Copy the fakes that another generator made into the run, those of each replicate, and note in its record what they are.

    Args:
        study: `study.Study` without a recipe.
        folder: FAKES, see `imported.find_fakes`.

    Raises:
        ValueError: there are too few, or they can't be read.
    """
    place, own, profile = imported.find_folder(folder), study.own, study.profile
    found = imported.find_fakes(place, own.minority, profile.num_fakes, profile.num_seeds)
    replicates, about = imported.read(found, profile.image_size, profile.num_fakes)
    real = study.dataset.images.choose((own.minority,), own.minority).images
    facts = imported.Imported(
        imported.name_folder(place),
        tuple(map(imported.hash_images, replicates)),
        len(replicates[0]),
        tuple(memorisation.count_real(images, real) for images in replicates),
    )
    run.note(study.folders, imported=vars(facts), recipe=None)
    for number, (images, paths) in enumerate(zip(replicates, found, strict=True)):
        folders = open_gan_folders(study, own, study.seed + number)
        fakes.write_imported(images, [path.name for path in paths[: len(images)]], folders.generated, own.minority)
    each = "for all replicates" if facts.is_shared else f"for each of {len(replicates)} replicates"
    print(f"{facts.number} {facts.words} were copied {each}. {about}")


def open_gan_folders(study, setting, seed):
    """The folders of the GAN that draws the fakes of a setting and seed; the run's own where that GAN is notebook 2's."""
    if is_of_notebook_2(study, setting, seed) or (study.imported and study.imported.is_shared):
        return study.folders
    return study.folders.below(f"gans/{setting.minority}-{setting.num_real or 'all'}-{seed}")


def is_of_notebook_2(study, setting, seed):
    """Whether that GAN is the one of notebook 2, which isn't trained a second time."""
    return seed == study.seed and setting.minority == study.own.minority and not setting.num_real


def ensure_fakes(study, unit):
    """Train the GAN of a unit's setting and seed, if it isn't trained, and write its fakes."""
    setting, seed = unit.setting, unit.seed
    if study.imported:
        return  # notebook 2 wrote all of them
    folders = open_gan_folders(study, setting, seed)
    if is_of_notebook_2(study, setting, seed):
        generator = load_generator(study)
    else:
        run.start_record(folders, gan=vars(study.recipe), minority=setting.minority, num_real=setting.num_real, seed=seed)
        parts = study.dataset.select_all(setting, seed)
        real, validation = (
            parts[name].images[parts[name].labels == setting.minority_label] for name in ("train", "validation")
        )
        # With few real images there are too few to choose an epoch by, and the baseline has learnt from all of them.
        judge = None if setting.num_real else fidelity.make_judge(study.load_baseline(), real, validation)
        generator, _, _ = dcgan.train_gan(real, study.recipe, seed, folders, judge)
    count = max(unit.num_extra, fakes.count_fakes(folders.generated))  # the first ones are the same
    write_fakes(study, setting, seed, generator, count)


def write_fakes(study, setting, seed, generator, count):
    """Draw the first `count` fakes of the GAN of a setting and seed, if they aren't there, and sign their manifest."""
    folders = open_gan_folders(study, setting, seed)
    fakes.write_fakes(generator, folders.generated, setting.minority, count, first_seed=0)
    run.sign(folders, folders.generated / "manifest.csv", **_list_sources_of_fakes(study, setting, seed))


def _list_sources_of_fakes(study, setting, seed):
    """What the fakes of a GAN are made from, as far as a file says it."""
    generator = study.folders.models / f"{dcgan.GENERATOR}.keras"
    return {generator.name: disk.hash_file(generator)} if is_of_notebook_2(study, setting, seed) else {}


def read_fakes(study, setting, seed, count=None):
    """The fakes of the GAN of a setting and replicate.

    Args:
        study: `study.Study`.
        setting: `dataset.Setting`.
        seed: of the replicate.
        count: how many, the first ones; None for all.

    Returns:
        `uint8 (count, S, S, 1)`.

    Raises:
        FileNotFoundError: they haven't been written.
        ValueError: they were changed, are fewer than `count`, or aren't those that notebook 2 was asked for.
    """
    if study.imported:
        return _read_imported(study, setting, seed, count)
    folders = open_gan_folders(study, setting, seed)
    notebook = run.NOTEBOOK_3
    if is_of_notebook_2(study, setting, seed):
        notebook = run.NOTEBOOK_2
        require_generator(study)
    run.require_signed(folders, folders.generated / "manifest.csv", notebook, **_list_sources_of_fakes(study, setting, seed))
    return fakes.read_fakes(folders.generated, setting.minority, study.recipe.image_size, count)[0]


def _read_imported(study, setting, seed, count):
    """The same of another generator's fakes, whose hash stands in the run's record."""
    folder = open_gan_folders(study, setting, seed).generated
    images, _ = fakes.read_fakes(folder, setting.minority, study.profile.image_size)
    if imported.hash_images(images) != study.imported.choose_digest(seed - study.seed):
        raise ValueError(
            f"the images in {disk.display_path(folder)} aren't those that notebook 2 copied there: run notebooks/{run.NOTEBOOK_2} again."
        )
    return images[:count]


def hash_fakes(study, unit):
    """A hash of the fakes that a unit adds; "" where they aren't there, or not as they were written."""
    if study.imported:
        return study.imported.choose_digest(unit.seed - study.seed)
    folders = open_gan_folders(study, unit.setting, unit.seed)
    manifest = folders.generated / "manifest.csv"
    try:
        known = manifest.exists() and run.is_signed(folders, manifest)
    except (FileNotFoundError, disk.DamagedError):  # the record of that GAN is no longer there
        known = False
    return fakes.hash_fakes(folders.generated, unit.num_extra) if known else ""
