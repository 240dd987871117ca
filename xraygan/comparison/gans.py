"""The GANs of a study: one for each choice of real images of the minority class and each seed, and their fakes; or those of another generator."""

import utils
from xraygan import disk, run
from xraygan.data import imported
from xraygan.gan import dcgan, fakes, fidelity, memorisation


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
        _require_same_recipe(study)
        generator = dcgan.load_generator(study.folders, study.recipe)
    else:
        parts = study.dataset.select_all(setting, seed)
        real, validation = (
            parts[name].images[parts[name].labels == setting.minority_label] for name in ("train", "validation")
        )
        # With few real images there are too few to choose an epoch by, and the baseline has learnt from all of them.
        judge = None if setting.num_real else fidelity.make_judge(study.load_baseline(), real, validation)
        generator, _, _ = dcgan.train_gan(real, study.recipe, seed, folders, judge)
    manifest = folders.generated / "manifest.csv"
    count = max(unit.num_extra, len(utils.read_table(manifest)) if manifest.exists() else 0)  # the first ones are the same
    fakes.write_fakes(generator, folders.generated, setting.minority, count, first_seed=0)


def read_fakes(study, setting, seed, count=None):
    """The first fakes of that GAN, or all, `uint8 (count, S, S, 1)`.

    Raises:
        ValueError: they aren't those that were imported.
    """
    folder, image_size = open_gan_folders(study, setting, seed).generated, study.profile.image_size
    if not study.imported:
        return fakes.read_fakes(folder, setting.minority, image_size, count)[0]
    images, _ = fakes.read_fakes(folder, setting.minority, image_size)
    if imported.hash_images(images) != study.imported.choose_digest(seed - study.seed):
        raise ValueError(
            f"the images in {disk.display_path(folder)} aren't those that notebook 2 copied there: run notebooks/2_gan_training.ipynb again."
        )
    return images[:count]


def _require_same_recipe(study):
    """Stop where notebook 2's GAN was trained otherwise than the recipe now says: its fakes would go by the wrong name."""
    parameters = study.folders.models / "gan_state" / "parameters.json"
    if not parameters.exists():
        return  # only its results were taken over
    then, now = disk.read_json(parameters), dcgan.describe_training(study.recipe)
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        raise ValueError(
            f"the GAN of run {study.run} was trained with another {', '.join(changed)}: choose another name with RUN, or delete "
            f"{disk.display_path(parameters.parent)} and run notebooks/2_gan_training.ipynb again."
        )
