"""A study: what all trainings of a run share. Notebook 1 begins one, notebooks 2 and 3 open it, a worker gets it sent."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import utils
from xraygan import backend, clouds, disk, run
from xraygan.comparison import plan, units
from xraygan.comparison import profile as profiles
from xraygan.comparison.classifier import Classifier
from xraygan.data import audit, dataset, imported, sources, split
from xraygan.gan import dcgan
from xraygan.gan.recipe import Recipe

UNIT_THREADS = 1  # processor threads of a classifier's training, in a notebook as in a worker: its last digits depend on them


@dataclass(frozen=True)
class Study:
    """What all trainings of a run share; small, so that it can be sent to a worker.

    Attributes:
        data: folder of the images.
        store: the folder that holds models/, images/, results/ and data/.
        run: name of the run whose notebook 1 made the split.
        profile: `profile.Profile`.
        classifier: `classifier.Classifier`.
        recipe: the GAN's, a `recipe.Recipe`; None until notebook 2 has chosen it, and where the fakes are another generator's.
        precision: one of `backend.PRECISIONS`.
    """

    data: str
    store: str
    run: str
    profile: profiles.Profile
    classifier: Classifier
    recipe: Recipe | None
    precision: str

    @functools.cached_property
    def folders(self):
        """The `run.RunFolders`, made once."""
        return run.open_folders(self.run, self.store)

    @property
    def record(self):
        return run.read_record(self.folders)

    @property
    def dataset(self):
        """All images of the run and their split, a `dataset.Dataset`; read once."""
        return dataset.open_dataset(self.data, self.folders)

    @property
    def settings(self):
        """The settings that are compared: the run's own classes, and those with the further ones where there are any."""
        return dataset.list_settings(self.record)

    @property
    def own(self):
        """The setting of the run's own classes."""
        return self.settings[0]

    @property
    def seed(self):
        """The run's own seed: of its split, its baseline and its GAN."""
        return self.record["seed"]

    @property
    def imported(self):
        """The fakes of another generator, an `imported.Imported`; None where there are none."""
        facts = self.record.get("imported")
        return imported.Imported(**facts) if facts else None

    @property
    def maker(self):
        """What makes the fakes, as tables and figures call it."""
        return self.imported.words if self.imported else "GAN"

    @property
    def deterministic(self):
        """Whether the run's trainings are to give the same numbers again, as notebook 1 was asked."""
        return run.is_deterministic(self.record)

    def title(self, text):
        """`text` as a figure's title: that of a run on the phantom says so."""
        return sources.write_title(text, self.record["is_phantom"])

    def load_baseline(self):
        """The network that notebook 1 saved.

        Raises:
            FileNotFoundError: there is none yet.
            ValueError: the file isn't what the record knows, or is of another training.
        """
        model, key = self.classifier.build(len(self.own.classes)), units.find_key(self, plan.plan_baseline(self))
        return run.load_weights(model, self.folders, "before_gan", run.NOTEBOOK_1, unit=key)


@dataclass(frozen=True)
class Beginning:
    """A run whose images are read and whose split isn't made yet.

    Attributes:
        asked: the notebook's parameters, {name: value}.
        machine: what `backend.configure` chose.
        profile: `profile.Profile`.
        classifier: `classifier.Classifier`.
        source: `sources.Source` of the run's own classes.
        images: `sources.ImageSet` of all classes, those of the second comparison too.
        patients: `str (N,)`, each image's patient by GROUPS where that is given, else by the set itself, DICOM say; "" where it isn't known.
        folders: `run.RunFolders`.
    """

    asked: dict
    machine: dict
    profile: profiles.Profile
    classifier: Classifier
    source: sources.Source
    images: sources.ImageSet
    patients: np.ndarray
    folders: run.RunFolders

    def describe(self):
        """What the run's record will say, as far as it's known before the split."""
        classes = self.source.classes
        return {
            "run": self.folders.run,
            "source": self.source.name,
            "is_phantom": self.source.is_phantom,
            "classes": classes,
            "also": self.images.source.classes[len(classes) :],
            "minority": self.source.minority,
            "profile": {"name": profiles.name_profile(self.asked["PROFILE"])} | vars(self.profile),
            "classifier": vars(self.classifier),
            "seed": self.asked["SEED"],
            "on_leak": self.asked["ON_LEAK"],
            "test_share": self.asked["TEST_SHARE"],
            "groups_file": Path(self.asked["GROUPS"]).name,
            "machine": self.machine,
            "data": {
                "fingerprint": self.images.fingerprint,
                "skipped": len(self.images.skipped),
                "without_group": int(((self.patients == "") & (self.images.patients == "")).sum()),
            },
        }

    def start_study(self, table, leaks):
        """Write the split and what this run is, before anything is trained; returns the `Study`.

        Args:
            table: the split, of `split.make_split`.
            leaks: of `audit.count_leaks`.

        Raises:
            ValueError: a run of this name has trained models of other images, classes or settings, or a class has too few test images to
                compare anything by.
        """
        classes = self.images.source.classes
        split.require_comparable(table, classes)
        content = self.describe()
        content["data"] |= {"counts": split.count_images(table, classes).to_dict(), "leaks": leaks["number"].to_dict()}
        run.start_record(self.folders, **content)
        split.write_split(table, self.folders)
        study = _study(self.source, self.folders, self.profile, self.classifier, None, self.machine["precision"])
        replicates = split.list_replicates(table, plan.list_seeds(study, self.profile.num_seeds))
        replicates["file"] = self.images.list_places(replicates["file"])
        utils.write_table(replicates, self.folders.results / "replicates.csv")
        for sentence in plan.describe_left_out(study):
            print(sentence)
        return study


def begin(**asked):
    """Check notebook 1's parameters, configure the machine, read the images, and write what became of every file.

    Args:
        asked: the parameters of notebook 1, by their names there.

    Returns:
        `Beginning`.

    Raises:
        ValueError: a parameter is wrong, or a run of this name has trained models of something else; the message says what to do.
    """
    profiles.check_parameters(**asked)
    machine = backend.configure(asked["PRECISION"], asked.get("DETERMINISTIC", True), UNIT_THREADS)
    machine |= {"host": clouds.find_host()}
    profile = profiles.load_profile(asked["PROFILE"])
    classifier = profile.make_classifier(asked["CLASSIFIER"])
    classifier.build(2)  # weights that it needs and that aren't here are fetched or asked for now, not after an hour
    source = sources.find_source(asked["DATA"], asked["CLASSES"], asked["MINORITY"])
    folders = run.open_folders(run.choose_name(asked["RUN"], source.name, asked["PROFILE"]))
    images = sources.read_images(sources.add_classes(source, asked["ALSO"]), profile.image_size)
    patients, about_patients = audit.read_groups(asked["GROUPS"], images) if asked["GROUPS"] else (images.patients, [])
    for sentence in filter(None, [images.describe(), *about_patients, split.describe_draw(images, asked["TEST_SHARE"])]):
        print(sentence)
    minority = sources.describe_minority(source, asked["MINORITY"])
    kind = "drawings, not patients, called" if source.is_phantom else "images of"
    print(f"Run {folders.run}: {len(images.files)} {kind} {', '.join(images.source.classes)}; {minority}")
    begun = Beginning(asked, machine, profile, classifier, source, images, patients, folders)
    run.require_startable(folders, **begun.describe())
    for table, name in ((images.inventory, "inventory.csv"), (images.formats, "formats.csv")):
        utils.write_table(table.reset_index(), folders.results / name)
    return begun


def open_study(threads=UNIT_THREADS, **asked):
    """Open in notebook 2 or 3 what notebook 1 began.

    Args:
        threads: processor threads of an operation; 0 for as many as there are.
        asked: the notebook's parameters, by their names there.

    Returns:
        `Study`.

    Raises:
        FileNotFoundError: notebook 1 hasn't been run.
        ValueError: a parameter is wrong, or notebook 1 ran with other settings or on other images.
    """
    profiles.check_parameters(**asked)
    profile = profiles.load_profile(asked["PROFILE"])
    run.require_begun(asked["RUN"])
    source = sources.open_source(asked["DATA"])
    folders = run.name_folders(run.choose_name(asked["RUN"], source.name, asked["PROFILE"]))
    record = run.read_record(folders)
    machine = backend.configure(asked["PRECISION"], run.is_deterministic(record), threads)
    require_profile(record, profile)
    _require_machine(record, machine)
    run.require_signed(folders, folders.results / "shortcuts.csv", run.NOTEBOOK_1)  # read at the end: known now
    if sentence := run.describe_other_packages(record, machine):
        print(sentence)
    classifier, recipe = _read_made(folders, record)
    if "GAN_RECIPE" in asked:
        recipe = _choose_recipe(folders, record, profile, asked)
    elif recipe:
        _require_sizes(recipe, profile)
    elif "imported" in record:
        imported.require_enough(imported.Imported(**record["imported"]), profile.num_fakes, profile.num_seeds)
    study = _study(source, folders, profile, classifier, recipe, machine["precision"])
    print(
        f"Run {study.run}: {len(study.dataset.select_class([study.own.minority], 'train'))} training images of {study.own.minority}."
    )
    return study


def _choose_recipe(folders, record, profile, asked):
    """The recipe that notebook 2 was asked for; None where FAKES names another generator's images."""
    if not asked.get("FAKES"):
        return profile.make_recipe(asked["GAN_RECIPE"])
    if f"{dcgan.GENERATOR}.keras" in record["files"]:
        raise ValueError(
            f"the run {folders.run} has a GAN and its fakes: choose another name with RUN for those that FAKES names."
        )
    print("FAKES names another generator's images: no GAN is trained, and the cells about its training stay empty.")
    return None


def recall_study(data, name, recipe_name="dcgan", store=None):
    """The study that a run's record describes; `recipe_name` is that of its GAN where notebook 2 hasn't been run."""
    folders = run.name_folders(name, store)
    record = run.read_record(folders)
    classifier, recipe = _read_made(folders, record)
    profile = profiles.read_profile(record["profile"])
    if not recipe and "imported" not in record:
        recipe = profile.make_recipe(recipe_name)
    return _study(sources.open_source(data), folders, profile, classifier, recipe, record["machine"]["precision"], store)


def _read_made(folders, record):
    """The classifier that a record names, and the recipe of its GAN, None where it has none.

    Raises:
        ValueError: another version of this project wrote it.
    """
    try:
        return Classifier(**record["classifier"]), Recipe(**record["recipe"]) if record.get("recipe") else None
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{disk.display_path(folders.results / 'record.json')} is of another version of this project: choose another name with RUN, or go on "
            "with the version that wrote it."
        ) from error


def _study(source, folders, profile, classifier, recipe, precision, store=None):
    return Study(str(source.data), str(store or disk.STORE), folders.run, profile, classifier, recipe, precision)


def _require_sizes(recipe, profile):
    """Stop where notebook 2 trained its GAN at another size than the profile now says."""
    asked = profile.resize(recipe)
    changed = [
        f"{name} {getattr(recipe, name)}, now {getattr(asked, name)}"
        for name in vars(recipe)
        if getattr(recipe, name) != getattr(asked, name)
    ]
    if changed:
        raise ValueError(
            f"the GAN was trained with {', '.join(changed)}: give the PROFILE that notebook 2 had, or choose another name with RUN and run all "
            "three notebooks."
        )


def require_profile(record, profile):
    """Stop where notebook 1 ran with another profile: what it trained couldn't be compared with what comes now."""
    asked, recorded = json.loads(json.dumps(vars(profile))), record["profile"]
    changed = [key for key in asked if asked[key] != recorded.get(key)]
    if changed:
        raise ValueError(
            f"PROFILE differs from notebook 1's ({recorded['name']!r}) in {', '.join(changed)}: give all three notebooks the same, run notebook 1 "
            "again with this one, or choose another name with RUN."
        )


def require_library(record, library):
    """Stop where notebook 1 computed with another library than this one: what it trained couldn't be compared with what comes now."""
    recorded = record["machine"].get("backend", library)
    if library != recorded:
        raise ValueError(
            f"notebook 1 ran on {recorded}, and this is {library}: set KERAS_BACKEND to {recorded}, or choose another name with RUN."
        )


def _require_machine(record, machine):
    """Stop where notebook 1 computed with another library or in another precision."""
    require_library(record, machine["backend"])
    precision = run.get_precision(record)
    if machine["precision"] != precision:
        raise ValueError(
            f"notebook 1 ran in {precision}, and this is {machine['precision']}: {backend.advise_precision(precision)}"
        )
