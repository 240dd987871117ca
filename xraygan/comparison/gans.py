"""The GANs of a study: one for each choice of real images of the minority class and each seed, and their fakes."""

import utils
from xraygan import disk
from xraygan.gan import dcgan, fakes, fidelity


def open_gan_folders(study, setting, seed):
    """The folders of the GAN that draws the fakes of a setting and seed; the run's own where that GAN is notebook 2's."""
    if is_of_notebook_2(study, setting, seed):
        return study.folders
    return study.folders.below(f"gans/{setting.minority}-{setting.num_real or 'all'}-{seed}")


def is_of_notebook_2(study, setting, seed):
    """Whether that GAN is the one of notebook 2, which isn't trained a second time."""
    return seed == study.seed and setting.minority == study.own.minority and not setting.num_real


def ensure_fakes(study, unit):
    """Train the GAN of a unit's setting and seed, if it isn't trained, and write its fakes."""
    setting, seed = unit.setting, unit.seed
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
    """The first fakes of that GAN, or all, `uint8 (count, S, S, 1)`."""
    folder = open_gan_folders(study, setting, seed).generated
    return fakes.read_fakes(folder, setting.minority, study.recipe.image_size, count)[0]


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
