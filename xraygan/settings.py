"""The sizes a run can have (notebooks/profiles/*.yaml) and the name of its folder."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from xraygan import arms, disk

PROFILES = disk.ROOT / "notebooks" / "profiles"


@dataclass(frozen=True)
class Profile:
    """The size of a run, read from a YAML file that says why for each number.

    Attributes:
        max_train_images: images of the train folder to use, validation included; 0 for all.
        classifier_epochs: at most this many epochs.
        classifier_updates: and at most this many updates; 0 for no such limit.
        classifier_patience: epochs without a better validation loss before training stops.
        gan_epochs: passes over the minority class.
        gan_sample_every: epochs between two sample grids.
        num_fakes: generated images to add.
        arms: the ways to rebalance that are compared, names of `arms.ARMS`.
        num_seeds: how often each is trained, each time with other initial weights and another GAN.
    """

    max_train_images: int
    classifier_epochs: int
    classifier_updates: int
    classifier_patience: int
    gan_epochs: int
    gan_sample_every: int
    num_fakes: int
    arms: tuple
    num_seeds: int

    def epochs_of_classifier(self, updates_per_epoch):
        """The number of epochs that both limits allow, at least one."""
        if not self.classifier_updates:
            return self.classifier_epochs
        return max(1, min(self.classifier_epochs, self.classifier_updates // updates_per_epoch))


HINTS = {"CLASSES": "'NORMAL,COVID19' say", "ALSO": "'PNEUMONIA' say"}
MAY_BE_ZERO = ("max_train_images", "classifier_updates")


def load_profile(name):
    """Read a profile.

    Args:
        name: "quick", "study", "full", or the path of a YAML file with the same keys.

    Raises:
        ValueError: no such profile, a key too many or missing, or a value that isn't a sensible number.
    """
    named = PROFILES / f"{name}.yaml"
    path = named if named.is_file() else disk.find_file(name)
    if path is None:
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml")))
        raise ValueError(f"PROFILE is {name!r}; choose one of {known}, or give the path of a YAML file with the same keys.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"profile {path.name} can't be read as YAML: {' '.join(str(error).split())}.") from error
    expected = {entry.name for entry in fields(Profile)}
    if not isinstance(values, dict) or set(values) != expected:
        raise ValueError(f"profile {path.name} must have exactly the keys {', '.join(sorted(expected))}.")
    for key in expected - {"arms"}:
        value, smallest = values[key], 0 if key in MAY_BE_ZERO else 1
        if type(value) is not int or value < smallest:
            raise ValueError(f"{key} in profile {path.name} is {value!r}; it must be a whole number of at least {smallest}.")
    named_arms = values["arms"] if isinstance(values["arms"], list) else []
    if (
        not {*arms.PRIMARY, "nothing"} <= {name for name in named_arms if isinstance(name, str)}
        or not all(name in tuple(arms.ARMS) for name in named_arms)
        or len(set(named_arms)) < len(named_arms)
    ):
        raise ValueError(
            f"arms in profile {path.name} must be a list of {', '.join(arms.ARMS)}, each at most once, with nothing, {' and '.join(arms.PRIMARY)} among them."
        )
    return Profile(**values | {"arms": tuple(values["arms"])})


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
        elif name == "SWEEPS":
            if not isinstance(value, bool):
                raise ValueError(f"SWEEPS is {value!r}; it must be True or False.")
        elif not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; it must be text, {HINTS.get(name, 'in quotes')}.")


def run_name(run, source_name, profile_name):
    """The run's folder: the name given, else `SOURCE-PROFILE`, e.g. "phantom-quick"."""
    return run or f"{source_name}-{Path(profile_name).stem}"
