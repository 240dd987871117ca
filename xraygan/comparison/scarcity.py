"""Where patients are few: every arm at small numbers of real images, the learning curve, and what each remedy is worth in real images."""

from typing import NamedTuple

import pandas as pd

import utils
from xraygan import disk, run
from xraygan.comparison import exchange, plan, profile, tables, units
from xraygan.data import imported

FOLDER = "scarcity"  # in results/RUN/
TABLES = ("trainings", "curve", "contrasts", "worth", "worth_of_curve")
NO_REMEDIES = ("nothing", "more_real")  # what remedies are compared with
SCORES = ("auroc", "balanced_accuracy", "balanced_accuracy_of_likeliest")


class Scarcity(NamedTuple):
    """What the finished trainings say.

    Attributes:
        trainings: `tables.tabulate_units` of all arms at small numbers, with the column num_real.
        curve: the same of the arm "nothing" at all numbers.
        contrasts: `verdict.reach_verdict`, the primary setting being the one with fewest real images; None before all trainings are
            finished, so that nobody reads a verdict from the first of them.
        worth: `exchange.tabulate_worth`.
        state: {"asked": number of trainings, "finished": how many of them are finished}.
        worth_of_curve: as `worth`, from the curve's own replicates. Where an arm has more replicates than the curve, `worth` takes the arm's
            advantage from all of them; if "nothing" varies much between replicates, that makes a large worth vague.
    """

    trainings: pd.DataFrame
    curve: pd.DataFrame
    contrasts: pd.DataFrame | None
    worth: pd.DataFrame
    state: dict
    worth_of_curve: pd.DataFrame | None = None


def list_units(study):
    """All units, by replicate, so that a study that is cut off has whole replicates."""
    wanted = dict.fromkeys([*plan.plan_scarcity(study), *plan.plan_curve(study)])
    return sorted(wanted, key=lambda unit: unit.seed)


def explain_nothing(study):
    """Why a run compares nothing where patients are few, a sentence."""
    if study.imported:
        return imported.NOT_FROM_FEW
    if study.profile.scarce_counts:
        there = study.record["data"]["counts"]["train"][study.own.minority]
        return f"This run trains on {there} images of {study.own.minority}, no more than the fewest that the profile would compare remedies at."
    return profile.NO_SCARCITY


def summarise(study):
    """What is finished, also written to results/RUN/scarcity/: `Scarcity`, or None where nothing can be said yet.

    Nothing can be said before one replicate of every arm at one number and of every point of the curve are finished, of two points at least.
    """
    compared = plan.plan_scarcity(study)
    settings = list(dict.fromkeys(unit.setting for unit in compared))
    by_setting = [[unit for unit in compared if unit.setting == setting] for setting in settings]
    finished = [unit for wanted in by_setting for unit in tables.list_comparable(study, wanted)]
    curve = [unit for unit in dict.fromkeys([*plan.plan_curve(study), *compared]) if unit.arm == "nothing"]
    curve = [unit for unit in curve if units.is_finished(study, unit)]
    if not finished or len({unit.setting for unit in curve}) < 2:
        return None
    trainings, of_curve = (_tabulate(study, wanted) for wanted in (finished, curve))
    if exchange.pair_curve(of_curve).empty:
        return None
    state = {"asked": len(list_units(study)), "finished": len({*finished, *curve})}
    is_whole, fewest = state["finished"] == state["asked"], min(settings, key=lambda setting: setting.num_real)
    contrasts = tables.compare_arms(study, finished, fewest) if is_whole else None
    worth, worth_of_curve = exchange.tabulate_worth(trainings, of_curve), tabulate_worth_of_curve(trainings, of_curve)
    found = Scarcity(trainings, of_curve, contrasts, worth, state, worth_of_curve)
    write(found, study.folders.results / FOLDER)
    return found


def tabulate_worth_of_curve(trainings, curve):
    """`exchange.tabulate_worth` from the replicates alone that the learning curve is of."""
    return exchange.tabulate_worth(trainings[trainings["seed"].isin(exchange.pair_curve(curve).index)], curve)


def tabulate_scores(trainings):
    """What each arm scores at each number of real images.

    Args:
        trainings: DataFrame, see `Scarcity`.

    Returns:
        DataFrame: num_real, arm, replicates, and of every score in `SCORES` its mean over replicates and, with the ending "_median", its median.
    """
    by_arm = trainings.groupby(["num_real", "arm"], sort=False)
    columns = {"replicates": by_arm.size()}
    for name in SCORES:
        columns |= {name: by_arm[name].mean(), f"{name}_median": by_arm[name].median()}
    return pd.DataFrame(columns).reset_index()


def write(found, folder):
    """Write the tables of a `Scarcity`, and last their state, which knows each by its hash."""
    contents = {name: getattr(found, name) for name in TABLES} | {"scores": tabulate_scores(found.trainings)}
    files = {name: folder / f"{name}.csv" for name in contents}
    for name, table in contents.items():
        if table is None:
            disk.remove(files[name])
        else:
            utils.write_table(table, files[name])
    disk.write_json(
        folder / "state.json", found.state | {"files": {name: disk.hash_file(file) for name, file in files.items()}}
    )


def read(results):
    """What `summarise` wrote below a run's results: `Scarcity`, or None where there is nothing.

    Raises:
        ValueError: a table isn't the one that was written.
    """
    folder = results / FOLDER
    if not (folder / "state.json").exists():
        return None
    try:
        state = disk.read_json(folder / "state.json")
    except disk.DamagedError:
        raise disk.DamagedError(_write_advice(folder / "state.json")) from None
    for name, known in state.pop("files", {}).items():
        if disk.hash_file(folder / f"{name}.csv") != known:
            raise disk.DamagedError(_write_advice(folder / f"{name}.csv"))
    files = {name: folder / f"{name}.csv" for name in TABLES}
    return Scarcity(**{name: utils.read_table(file) if file.exists() else None for name, file in files.items()}, state=state)


def _write_advice(file):
    """What to do where a file isn't what was written there."""
    again = f"run notebooks/{run.NOTEBOOK_3} again, which writes it again"
    if file.is_relative_to(run.PUBLISHED):
        again = f"`git checkout {run.PUBLISHED.relative_to(disk.ROOT).as_posix()}` brings the published one back"
    return f"{disk.display_path(file)} isn't what was written there: {again}."


def _tabulate(study, wanted):
    """`tables.tabulate_units` with the number of real images of the minority class that was asked for.

    A setting of all of them has the number of the run's own split; a replicate may have an image more or fewer (column real_minority).
    """
    counts, table = study.record["data"]["counts"]["train"], tables.tabulate_units(study, wanted)
    asked = {unit.setting.name: unit.setting.num_real or counts[unit.setting.minority] for unit in wanted}
    return table.assign(num_real=table["setting"].map(asked))
