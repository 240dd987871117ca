"""The sizes a run can have (notebooks/profiles/*.yaml), and the check of what a notebook was asked for."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

import utils
from xraygan import disk, keys
from xraygan.comparison import arms
from xraygan.data import split

PROFILES = disk.ROOT / "notebooks" / "profiles"
SMALLEST_IMAGE = 32  # pixels a side: what the networks halve down to 4×4 and the audit shrinks to 32×32


@dataclass(frozen=True)
class Profile:
    """The size of a run, read from a YAML file that says why for each number.

    Attributes:
        max_train_images: images of the train folder to use, validation included; 0 for all.
        classifier_epochs: at most this many epochs.
        classifier_updates: and at most this many updates; 0 for no such limit.
        classifier_patience: epochs without a better validation loss before training stops.
        gan_updates: updates of the GAN, however many images there are.
        gan_sample_every: updates between two sample grids, about: a grid is drawn at the end of an epoch.
        num_fakes: generated images to add.
        arms: the ways to rebalance that are compared, names of `arms.ARMS`.
        num_seeds: how often each is trained: replicates, each with other training images, other initial weights and another GAN.
        image_size: pixels a side, a power of two; may be left out of the file.
        classifier_batch: images an update; may be left out of the file.
        scarce_counts: numbers of real training images of the minority class at which all arms are compared; may be left out.
        scarce_seeds: the number of replicates at each of them.
        curve_counts: numbers of real training images at which nothing is added, for the learning curve; may be left out.
        curve_seeds: the number of replicates at each of them.
    """

    max_train_images: int
    classifier_epochs: int
    classifier_updates: int
    classifier_patience: int
    gan_updates: int
    gan_sample_every: int
    num_fakes: int
    arms: tuple
    num_seeds: int
    image_size: int = utils.IMAGE_SIZE
    classifier_batch: int = 128  # as in the study this project rebuilds
    scarce_counts: tuple = ()
    scarce_seeds: tuple = ()
    curve_counts: tuple = ()
    curve_seeds: int = 0

    def make_classifier(self, network):
        """The `Classifier` of this size with a network of `classifier.NETWORKS`."""
        from xraygan.comparison import classifier  # here, so that reading a profile needs no deep learning

        keys.choose(classifier.NETWORKS, network, "CLASSIFIER")
        return classifier.Classifier(
            network=network,
            learning_rate=classifier.LEARNING_RATES.get(network, classifier.Classifier.learning_rate),
            image_size=self.image_size,
            batch_size=self.classifier_batch,
            epochs=self.classifier_epochs,
            updates=self.classifier_updates,
            patience=self.classifier_patience,
        )

    def make_recipe(self, name):
        """The GAN's recipe of this name, at this size."""
        from xraygan.gan.recipe import RECIPES

        return self.resize(keys.choose(RECIPES, name, "GAN_RECIPE"))

    def resize(self, recipe):
        """A GAN's recipe at this size."""
        sizes = {"image_size": self.image_size, "updates": self.gan_updates, "sample_every": self.gan_sample_every}
        return dataclasses.replace(recipe, **sizes)


HINTS = {"CLASSES": "'NORMAL,COVID19' say", "ALSO": "'PNEUMONIA' say"}
SMALLEST = {
    "num_fakes": split.FEWEST_JUDGED,
    "max_train_images": 0,
    "classifier_updates": 0,
    "curve_seeds": 0,
}  # of the others 1
NO_SCARCITY = "This profile leaves out the part with few images of patients; PROFILE = 'study' has it."
LISTS = ("scarce_counts", "scarce_seeds", "curve_counts")


class PlainLoader(yaml.SafeLoader):
    """YAML in which a key stands once and 010 isn't 8."""

    def construct_mapping(self, node, deep=False):
        keys_there = [key.value for key, _ in node.value]
        twice = next((key for key in keys_there if keys_there.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node):
        if not re.fullmatch(r"[+-]?(0|[1-9][0-9]*)", node.value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no plain whole number", node.start_mark)
        return int(node.value)


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)


def find_profile(name):
    """The file of a profile.

    Args:
        name: "quick", "study", "full", or the path of a YAML file with the same keys.

    Raises:
        ValueError: there is no such profile.
    """
    named = PROFILES / f"{name}.yaml"
    path = named if named.is_file() else disk.find_file(name)
    if path is None:
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml")))
        raise ValueError(f"PROFILE is {name!r}; choose one of {known}, or give the path of a YAML file with the same keys.")
    return path


def load_profile(name):
    """Read a profile: one of ours by its name, or a YAML file with the same keys by its path.

    Raises:
        ValueError: no such profile, a key too many or missing, or a value that isn't a sensible number.
    """
    path = find_profile(name)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), PlainLoader) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a day that isn't in the calendar, say
        raise ValueError(f"profile {path.name} can't be read as YAML: {' '.join(str(error).split())}.") from error
    fields = dataclasses.fields(Profile)
    expected = {field.name for field in fields}
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not isinstance(values, dict) or not required <= set(values) <= expected:
        raise ValueError(
            f"profile {path.name} must have exactly the keys {', '.join(sorted(required))}, and may have {', '.join(sorted(expected - required))}."
        )
    for key in set(values) - {"arms", *LISTS}:
        _require_whole_number(key, values[key], path.name)
    _require_arms(values["arms"], path.name)
    lists = {key: values.get(key, []) for key in LISTS}
    _require_lists(lists, path.name)
    _require_curve(lists["scarce_counts"], lists["curve_counts"], values.get("curve_seeds", 0), path.name)
    return read_profile(values)


def _require_whole_number(key, value, file):
    smallest = SMALLEST.get(key, 1)
    if type(value) is not int or value < smallest:
        raise ValueError(f"{key} in profile {file} is {value!r}; it must be a whole number of at least {smallest}.")
    if key == "image_size" and (value < SMALLEST_IMAGE or value & (value - 1)):
        raise ValueError(f"image_size in profile {file} is {value}; it must be a power of two of at least {SMALLEST_IMAGE}.")


def _require_lists(lists, file):
    for key, numbers in lists.items():
        if not isinstance(numbers, list) or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"{key} in profile {file} is {numbers!r}; it must be a list of whole numbers of at least 1.")
    if len(lists["scarce_counts"]) != len(lists["scarce_seeds"]):
        raise ValueError(f"scarce_counts and scarce_seeds in profile {file} must be equally long.")


def _require_curve(few, curve, curve_seeds, file):
    """Stop where remedies would be trained on few images, and no learning curve would say what that is worth."""
    if few and not (curve_seeds and len(set(curve)) > 1 and min(curve) <= min(few)):
        raise ValueError(
            f"profile {file} has scarce_counts, and what remedies are worth there is read off a learning curve: it needs curve_seeds, and two or more "
            f"curve_counts, the first of them {min(few)} or fewer."
        )


def _require_arms(named, file):
    names = named if isinstance(named, list) else []
    if (
        not set(arms.NEEDED) <= {name for name in names if isinstance(name, str)}
        or not all(name in tuple(arms.ARMS) for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(
            f"arms in profile {file} must be a list of {', '.join(arms.ARMS)}, each at most once, with {', '.join(arms.NEEDED)} among them."
        )


def read_profile(content):
    """The profile that a record or a file holds."""
    values = {name: value for name, value in content.items() if name != "name"}
    return Profile(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_parameters(**parameters):
    """Check the type of a notebook's parameters, and that a seed isn't negative, before anything is done with them.

    Args:
        parameters: by their names in the notebooks.

    Raises:
        ValueError: one is of the wrong type; the message says what is expected.
    """
    for name, value in parameters.items():
        if name == "SEED":
            if type(value) is not int or not 0 <= value < 2**31:
                raise ValueError(f"SEED is {value!r}; it must be a whole number from 0 to {2**31 - 1}.")
        elif name in ("SWEEPS", "DETERMINISTIC"):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it must be True or False.")
        elif name == "TEST_SHARE":
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 0.9:
                raise ValueError(
                    f"TEST_SHARE is {value!r}; it must be a number from 0 (take the test folder) to 0.9, like 0.3."
                )
        elif name == "ON_LEAK" and value not in split.ON_LEAK:
            raise ValueError(f"ON_LEAK is {value!r}; choose {' or '.join(map(repr, split.ON_LEAK))}.")
        elif not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; it must be text, {HINTS.get(name, 'in quotes')}.")


def name_profile(name):
    """The short name of a profile, also where it was given as the path of a file."""
    return Path(name).stem
