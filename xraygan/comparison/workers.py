"""Units side by side: on the local cores, or on the workers of a Dask cluster that see the same folders."""

import contextlib
import io
import warnings
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import joblib

import utils
from xraygan import backend, disk, processes
from xraygan.comparison import arms, gans, tables, units
from xraygan.comparison.study import UNIT_THREADS

MEMORY_OF_A_UNIT, COPIES_OF_IMAGES = 2.5e9, 3  # bytes, and how often a unit holds the run's images beside that


def train_units(study, wanted, scheduler=""):
    """Train what isn't trained yet, nor published under the run's name.

    Args:
        study: `study.Study`.
        wanted: list of `units.Unit`.
        scheduler: address of a Dask scheduler, "tcp://…", whose workers see the same folders; "" for the local cores.

    Returns:
        `tables.tabulate_units` of the units.

    Raises:
        RuntimeError: another process is at this run's units, or one that trained was killed.
    """
    with disk.held(study.folders.results / "units"):
        units.restore_published(study, wanted)
        _train_missing(study, wanted, scheduler)
    return tables.tabulate_units(study, wanted)


def read_or_draw_fakes(study, unit, scheduler=""):
    """The fakes that a unit adds, `uint8 (N, S, S, 1)`; its GAN draws them again where they aren't there or were changed."""
    try:
        return gans.read_fakes(study, unit.setting, unit.seed)
    except (FileNotFoundError, ValueError):
        with utils.progress(total=1, desc="a GAN again", unit="training") as bar, _choose_workers(study, scheduler) as num_jobs:
            _run_side_by_side(study, [(gans.ensure_fakes, unit)], bar, num_jobs)
    return gans.read_fakes(study, unit.setting, unit.seed)


def _train_missing(study, wanted, scheduler):
    """In rounds, so that a study that is cut off has finished seeds rather than GANs of all."""
    missing = units.list_missing(study, dict.fromkeys(wanted))
    units.drop_states(study, [unit for unit in wanted if unit not in missing])
    if not missing:
        return
    units.say_changed(study, missing)
    at_once = len(missing) if scheduler else count_local_jobs(study)
    steps = [step for some in split_rounds(study, missing, at_once) for step in order_jobs(some)]
    total = sum(map(len, steps))
    with (
        utils.progress(total=total, desc="the comparison", unit="training") as bar,
        _choose_workers(study, scheduler) as num_jobs,
    ):
        for jobs in steps:
            _run_side_by_side(study, jobs, bar, num_jobs)
    facts = [disk.read_json(units.find_files(study, unit).facts) for unit in missing]
    if study.deterministic and not all(of_unit["deterministic"] for of_unit in facts):
        print("Some trainings ran without deterministic kernels: the same seed doesn't repeat them to their last digits.")


def split_rounds(study, missing, at_once):
    """The units by seeds: in each round as many seeds whose GAN has to be trained as run at once; the run's own seed has its GAN."""
    seeds = sorted({unit.seed for unit in missing})
    round_of = {seed: max(0, number - (seeds[0] == study.seed)) // at_once for number, seed in enumerate(seeds)}
    return [[unit for unit in missing if round_of[unit.seed] == number] for number in range(max(round_of.values()) + 1)]


def order_jobs(missing):
    """Two lists of (function, unit): GANs, with arms without fakes to fill the cores that the last GANs leave idle; then the other arms."""
    needed = {}
    for unit in missing:
        if arms.choose_arm(unit.arm).needs_fakes:
            gan = replace(unit.setting, classes=()), unit.seed  # settings that share the minority's images share its GANs
            needed[gan] = max(unit, needed.get(gan, unit), key=lambda unit: unit.num_extra)
    without, with_fakes = (
        [unit for unit in missing if arms.choose_arm(unit.arm).needs_fakes == answer] for answer in (False, True)
    )
    return [
        [(gans.ensure_fakes, unit) for unit in needed.values()] + [(units.train_unit, unit) for unit in without],
        [(units.train_unit, unit) for unit in with_fakes],
    ]


def _run_side_by_side(study, jobs, bar, num_jobs):
    """Run (function, unit) pairs, in any order; each moves the bar on by one."""
    if not jobs:
        return
    calls = [joblib.delayed(_run_quietly)(function, study, unit) for function, unit in jobs]
    with warnings.catch_warnings():
        # TensorFlow's caches look like a leak to joblib, which then starts a fresh process: nothing is lost.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        try:
            for _ in joblib.Parallel(num_jobs, return_as="generator_unordered")(calls):
                bar.update()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a training process was killed, most often because memory ran out: close other programs and run this again, "
                "it goes on where it was."
            ) from error


@contextlib.contextmanager
def _choose_workers(study, scheduler):
    """Where units run; the context gives the number of jobs that joblib starts, and its end ends the local processes."""
    if not scheduler:
        with processes.side_by_side():
            yield count_local_jobs(study)
        return
    with processes.connected(scheduler), joblib.parallel_config(backend="dask"):
        yield -1


def count_local_jobs(study):
    """As many as cores and memory allow; one where a GPU does the work."""
    if backend.has_gpu():
        return 1
    needed = MEMORY_OF_A_UNIT + COPIES_OF_IMAGES * study.dataset.images.images.nbytes
    return max(1, min(joblib.cpu_count() // UNIT_THREADS, int(backend.memory() / needed)))


def _run_quietly(function, study, unit):
    """Configure the process, then do the unit there, without bars and notices: several would write over each other."""
    configured = backend.configured(study.precision, study.deterministic, UNIT_THREADS)
    with contextlib.redirect_stdout(io.StringIO()), backend.quiet_stderr(), configured:
        function(study, unit)
