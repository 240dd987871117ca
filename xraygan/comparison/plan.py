"""What is trained: the units of the comparison, those that show what leaks are worth, those of few real images, and a sweep."""

import functools
from dataclasses import replace

from xraygan import disk, run
from xraygan.comparison.arms import ARMS, FAKES_INSTEAD, write_arm
from xraygan.comparison.units import Unit
from xraygan.data import split

FAKE_COUNTS = (100, 250, 500, 2000)  # numbers of fakes that the sweep tries beside the profile's
SWEEP_SEEDS = 3


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
    seeds = list_seeds(study, study.profile.num_seeds)
    return [
        unit
        for setting in study.settings
        for unit in list_units(setting, list_arms(study, setting, seeds), seeds, study.profile.num_fakes)
    ]


def list_arms(study, setting, seeds):
    """The profile's arms; that of further real images only where every replicate has as many as fakes."""
    needing = [name for name in study.profile.arms if ARMS[name].needs_reserve]
    left_out = needing if needing and count_reserve(study, setting, seeds) < study.profile.num_fakes else []
    return [name for name in study.profile.arms if name not in left_out]


def describe_left_out(study):
    """What the other notebooks will leave out because there are too few images, a sentence each, before anything is trained."""
    profile, minority = study.profile, study.own.minority
    counts = {part: count.get(minority, 0) for part, count in study.record["data"]["counts"].items()}
    sentences = []
    if min(counts["train"], counts["validation"]) < split.FEWEST_JUDGED:
        sentences.append(
            f"Notebook 2 can't choose the GAN's best epoch and keeps the last: {counts['train']} training and {counts['validation']} validation "
            f"images of {minority}, at least {split.FEWEST_JUDGED} each are needed."
        )
    if counts["test"] < split.FEWEST_JUDGED:
        sentences.append(
            f"Notebook 2 can't judge the fakes by numbers: {counts['test']} test images of {minority}, at least {split.FEWEST_JUDGED} are needed."
        )
    seeds = list_seeds(study, profile.num_seeds)
    without = [write_arm(name) for name in profile.arms if name not in list_arms(study, study.own, seeds)]
    if without:
        sentences.append(
            f"Notebook 3 leaves out the remedy {', '.join(without)}: it needs {profile.num_fakes} further real images of {minority} in every "
            f"replicate, and the fewest are {count_reserve(study, study.own, seeds)}."
        )
    wanted = sorted({*profile.scarce_counts, *profile.curve_counts})
    too_many = [str(number) for number in wanted if number >= counts["train"]]
    if too_many:
        sentences.append(
            f"Notebook 3 can't show what {', '.join(too_many)} real images of {minority} reach, because there are only {counts['train']} to train on."
        )
    return sentences


def count_reserve(study, setting, seeds):
    """How many real training images of the minority class a setting doesn't use, in the replicate that has fewest."""
    split_hash = disk.hash_file(study.folders.results / run.SPLIT)
    counts = [_count_training_images(study.folders, split_hash, setting.minority, seed) for seed in seeds]
    return min(unused + (trained - setting.num_real if setting.num_real else 0) for trained, unused in counts)


@functools.lru_cache(maxsize=1000)
def _count_training_images(folders, split_hash, name, seed):
    """How many images of a class a replicate trains on and how many it leaves unused; the hash tells one split of a run from another."""
    table = split.redraw(split.read_split(folders), seed)
    parts = table.loc[table["class"] == name, "part"]
    return (parts == "train").sum(), (parts == split.UNUSED).sum()


def plan_leaks(study):
    """The units that show what leaks are worth: nothing added, in the run's classes, with the leaks that notebook 1 left out."""
    if split.LEAK not in study.record["data"]["counts"]:
        return []
    leaky = replace(study.own, with_leaks=True)
    return list_units(leaky, ["nothing"], list_seeds(study, study.profile.num_seeds), study.profile.num_fakes)


def plan_fakes_instead(study):
    """The unit that learns the minority class from fakes alone."""
    return [replace(plan_after(study), arm=FAKES_INSTEAD)]


def plan_other_fakes(study):
    """The unit, if any, whose fakes are of another GAN than the run's own, so that none of its models knows them."""
    has_others = study.profile.num_seeds > 1 and not (study.imported and study.imported.is_shared)
    return [replace(plan_after(study), seed=study.seed + 1)] if has_others else []


def plan_fakes_sweep(study):
    """The units with other numbers of fakes, as many as there can be, in the setting with most classes: a tendency, no claim."""
    num_fakes, seeds = study.profile.num_fakes, list_seeds(study, min(SWEEP_SEEDS, study.profile.num_seeds))
    largest = study.settings[-1]
    counts = [count for count in sorted({*FAKE_COUNTS, num_fakes}) if not study.imported or count <= study.imported.number]
    units = [unit for count in counts for unit in list_units(largest, ["gan"], seeds, count)]
    return units + list_units(largest, ["nothing"], seeds, num_fakes)


def plan_scarcity(study):
    """The units that say what remedies are worth where patients are few, by replicate: so many real images of the minority class, every arm.

    There are none, nor of the learning curve, where the fakes are another generator's: it had seen more patients than so few.
    """
    if study.imported:
        return []
    profile, units = study.profile, []
    replicates = dict(zip(profile.scarce_counts, profile.scarce_seeds, strict=True))
    for setting in _list_settings(study, profile.scarce_counts):
        seeds = list_seeds(study, replicates[setting.num_real])
        units += list_units(setting, list_arms(study, setting, seeds), seeds, profile.num_fakes)
    return sorted(units, key=lambda unit: unit.seed)


def plan_curve(study):
    """The units of the learning curve: nothing added, more and more real images of the minority class, at last perhaps all."""
    if study.imported:
        return []
    profile = study.profile
    settings = _list_settings(study, profile.curve_counts)
    if not settings or not _list_settings(study, profile.scarce_counts):
        return []
    if len(settings) < len(profile.curve_counts):
        settings.append(study.own)
    seeds = list_seeds(study, profile.curve_seeds)
    return [unit for setting in settings for unit in list_units(setting, ["nothing"], seeds, profile.num_fakes)]


def _list_settings(study, numbers):
    """The run's own classes with so many real images of the minority class; numbers that it has no more images than are left out."""
    there = study.record["data"]["counts"]["train"][study.own.minority]
    return [replace(study.own, num_real=number) for number in numbers if number < there]
