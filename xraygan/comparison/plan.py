"""What is trained: the units of the comparison, those that show what leaks are worth, and the sweeps."""

from dataclasses import replace

from xraygan.comparison.arms import FAKES_INSTEAD
from xraygan.comparison.units import Unit
from xraygan.data import split
from xraygan.data.dataset import Setting

FAKE_COUNTS = (100, 250, 500, 2000)  # numbers of fakes that a sweep tries beside the profile's
REAL_COUNTS = (115, 25)  # numbers of real training images that a sweep thins a class to
SWEEP_ARMS, SWEEP_SEEDS = ("nothing", "oversampling", "classical", "gan"), 3
SWEEPS = {  # each sweep's column in the table of its trainings
    "number of fakes": "extra_images",
    "number of real images": "real_minority",
}


def list_units(setting, arm_names, seeds, num_extra):
    """The units of some arms and seeds in one setting."""
    return [Unit(setting, arm, seed, num_extra) for seed in seeds for arm in arm_names]


def list_seeds(study, count):
    """`count` seeds, the run's own first."""
    return range(study.seed, study.seed + count)


def plan_baseline(study):
    """The unit of notebook 1: nothing added, the run's own seed."""
    return Unit(study.own, "nothing", study.seed, study.profile.num_fakes)


def plan_after(study):
    """The unit of notebook 3's first half: fakes added, the run's own seed."""
    return replace(plan_baseline(study), arm="gan")


def plan_comparison(study):
    """The units of the comparison: every setting, arm and seed."""
    profile = study.profile
    seeds = list_seeds(study, profile.num_seeds)
    return [unit for setting in study.settings for unit in list_units(setting, profile.arms, seeds, profile.num_fakes)]


def plan_leaks(study):
    """The units that show what leaks are worth: nothing added, in the run's classes, with the leaks that notebook 1 left out."""
    if split.LEAK not in study.record["data"]["counts"]:
        return []
    leaky = replace(study.own, with_leaks=True)
    return list_units(leaky, ["nothing"], list_seeds(study, study.profile.num_seeds), study.profile.num_fakes)


def plan_fakes_instead(study):
    """The unit that learns the minority class from fakes alone."""
    return [replace(plan_after(study), arm=FAKES_INSTEAD)]


def plan_sweep(study, name):
    """The units of one sweep, a key of `SWEEPS`: it shows a tendency and makes no claim.

    Fakes are swept in the setting with most classes. Real images are thinned in the first of the further classes, told from the
    majority alone (on the Kaggle set these two come from one hospital), or in the minority class where there's no further one.
    """
    num_fakes, seeds = study.profile.num_fakes, list_seeds(study, min(SWEEP_SEEDS, study.profile.num_seeds))
    if name == "number of fakes":
        largest = study.settings[-1]
        units = [unit for count in sorted({*FAKE_COUNTS, num_fakes}) for unit in list_units(largest, ["gan"], seeds, count)]
        return units + list_units(largest, ["nothing"], seeds, num_fakes)
    also = study.record["also"]
    thinned = also[0] if also else study.own.minority
    others = tuple(name for name in study.own.classes if name != study.own.minority)
    settings = [Setting((*others, thinned), thinned, count) for count in REAL_COUNTS]
    return [unit for setting in settings for unit in list_units(setting, SWEEP_ARMS, seeds, num_fakes)]
