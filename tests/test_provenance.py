"""Nothing silent between notebooks: a file that isn't as it was written is noticed in one sentence and made again, or changes nothing."""

import contextlib
import hashlib
import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import utils
from xraygan import backend, disk, keys, run
from xraygan.comparison import classifier, gans, plan, tables, units, workers
from xraygan.comparison import study as studies
from xraygan.comparison.arms import ARMS
from xraygan.data import audit, split
from xraygan.gan import dcgan, fakes, fidelity
from xraygan.report import findings, published

NUM_FAKES = 7
PROFILE = {
    "max_train_images": 0,
    "classifier_epochs": 2,
    "classifier_updates": 0,
    "classifier_patience": 2,
    "gan_updates": 9,
    "gan_sample_every": 3,
    "num_fakes": NUM_FAKES,
    "arms": ["nothing", "oversampling", "gan"],
    "num_seeds": 2,
    "image_size": 32,
}
ASKED = {"CLASSES": "", "MINORITY": "", "ALSO": "", "GROUPS": "", "ON_LEAK": "drop", "CLASSIFIER": "study_cnn", "TEST_SHARE": 0.0}


@dataclass
class Machine:
    """What a person has: a store, images, a profile; and what the three notebooks do there, by the calls that they make."""

    store: Path
    data: Path
    seed: int = 0

    def write_profile(self, **changes):
        path = self.store / "tiny.yaml"
        path.write_text(yaml.safe_dump(PROFILE | changes))
        self.shared = {"DATA": str(self.data), "PROFILE": str(path), "RUN": "tiny", "PRECISION": "float32"}

    def notebook_1(self):
        begun = studies.begin(**self.shared, **ASKED, SEED=self.seed)
        groups = audit.find_groups(begun.images, begun.patients)
        table = split.make_split(begun.images, groups, max_train_images=begun.profile.max_train_images, seed=self.seed)
        study = begun.start_study(table, audit.count_leaks(begun.images, groups))
        run.write_table(audit.shortcuts_by_setting(study.dataset, study.settings), study.folders, "shortcuts.csv")
        before = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
        return {"before": before.predictions, "before history": before.history}

    def notebook_2(self, recipe="dcgan"):
        study = studies.open_study(1, **self.shared, GAN_RECIPE=recipe)
        real, validation = (study.dataset.select_class([study.own.minority], part) for part in ("train", "validation"))
        judge = fidelity.make_judge(study.load_baseline(), real, validation)
        with run.measured(study.folders, "gan"):
            generator, kept_epoch, history = dcgan.train_gan(real, study.recipe, study.seed, study.folders, judge)
        study.save_generator(generator)
        for grid in (study.folders.images / "gan").glob("epoch_*.png"):
            utils.read_png(grid)
        gans.write_fakes(study, study.own, study.seed, generator, study.profile.num_fakes)
        drawn, manifest = fakes.read_fakes(study.folders.generated, study.own.minority, 32, study.profile.num_fakes)
        curve = utils.read_table(study.folders.results / "gan" / "fidelity.csv")
        return {"epoch": kept_epoch, "history": history, "curve": curve, "fakes": drawn, "names": manifest["file"].tolist()}

    def notebook_3(self):
        study = studies.open_study(**self.shared, SWEEPS=False, SCHEDULER="")
        drawn = gans.read_fakes(study, study.own, study.seed, study.profile.num_fakes)
        published.restore_units(study, [plan.plan_baseline(study), plan.plan_after(study)])
        before = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
        after = units.train_and_keep(study, plan.plan_after(study), "after_gan", "")
        wanted = plan.plan_comparison(study)
        published.restore_units(study, wanted)
        workers.train_units(study, wanted)
        rows = tables.tabulate_units(study, wanted).drop(columns=["seconds", "threads", "device"])
        contrasts = tables.compare_arms(study, wanted, study.own)
        verdict = findings.write_verdict(study, contrasts, tables.compare_arms(study, wanted, study.own))
        other = [unit for unit in wanted if unit.arm == "gan"][1]
        found = {"fakes": drawn, "other fakes": workers.read_or_draw_fakes(study, other)[:NUM_FAKES], "arms": rows}
        for name, trained in {"before": before, "after": after}.items():
            found |= {name: trained.predictions, f"{name} history": trained.history}
            found[f"{name} outputs"] = classifier.predict(trained.model, drawn)
        return found | {"contrasts": contrasts, "verdict": json.dumps(verdict)}

    def notebooks(self):
        return {"1": self.notebook_1, "2": self.notebook_2, "3": self.notebook_3}


def fingerprint(results):
    def digest(value):
        if isinstance(value, pd.DataFrame):
            value = value.to_csv(index=False)
        return hashlib.sha256(value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()).hexdigest()

    return {name: digest(value) for name, value in results.items()}


def attempt(notebook):
    """What a notebook's calls come to: (fingerprint or None, what was printed or raised). Anything raised must be one sentence."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            results = notebook()
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError, disk.DamagedError, disk.OlderFormError), repr(error)
        assert "\n" not in str(error) and str(error).endswith("."), error
        return None, str(error)
    return fingerprint(results), printed.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_folder):
    """A finished run, its machine and what its notebooks gave; and the store of a run of the same name with another seed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(workers, "count_local_jobs", lambda: 1)  # in this process
    machines = []
    for seed in (0, 1):
        machine = Machine(tmp_path_factory.mktemp(f"store-{seed}"), phantom_folder, seed)
        patch.setattr(disk, "STORE", machine.store)
        machine.write_profile()
        given = {number: fingerprint(notebook()) for number, notebook in machine.notebooks().items()}
        machines.append((machine, given))
    (machine, given), (other, _) = machines
    kept = tmp_path_factory.mktemp("kept") / "store"
    shutil.copytree(machine.store, kept)
    patch.setattr(disk, "STORE", machine.store)
    yield machine, given, kept, other.store
    patch.undo()


@pytest.fixture
def whole(finished):
    """The finished run as it was, whatever the test before did to it."""
    machine, given, kept, other = finished
    shutil.rmtree(machine.store)
    shutil.copytree(kept, machine.store)
    machine.write_profile()
    return machine, given, other


def list_files(store):
    """The files of a run that are for a later step, relative to the store; each kind's first, then the others."""
    files = [path.relative_to(store) for kind in ("models", "results", "images", "data") for path in (store / kind).rglob("*")]
    files = [file for file in files if (store / file).is_file() and not any(part.startswith(".") for part in file.parts)]
    return sorted(file for file in files if "tiny" in file.parts)


def name_kind(file):
    """A file's kind: its place without what is numbered in it."""
    parts = [part for part in file.parts if part not in ("tiny",)]
    name = "".join("#" if letter.isdigit() else letter for letter in parts[-1])
    unit = name.split("-")[0] + "." + name.split(".", 1)[1] if "units" in parts else name
    return "/".join([*parts[:-1], unit])


def flip(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path, other):
    path.write_bytes(b"")


def halve(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path, other):
    path.unlink()


def swap(path, other):
    shutil.copyfile(other, path)


DAMAGES = (flip, empty, halve, delete, swap)
FOUND = {"noticed": 0, "made again": 0, "harmless": 0}


def judge_damage(whole, file, damage):
    """Damage a file, open notebook 3, then 2 and 3; raise where something goes unnoticed or is a dead end."""
    machine, given, other = whole
    path = machine.store / file
    before = path.read_bytes()
    there = [candidate for candidate in list_files(other) if name_kind(candidate) == name_kind(file)]
    if damage is swap and not there:
        return
    damage(path, other / there[0] if there else None)
    if path.exists() and path.read_bytes() == before:
        return  # both runs have the same, such as an epoch's number
    notebooks, said = machine.notebooks(), ""
    for order in ("3", "23"):
        for number in order:
            results, words = attempt(notebooks[number])
            said += words
            asked = [again for again in "12" if f"notebooks/{again}_" in words]
            if results is None:
                assert asked, f"{file}: a sentence that doesn't say what to do: {words}"
                for again in [again for again in "123" if min(asked) <= again <= number]:
                    results, words = attempt(notebooks[again])
                    assert results, f"{file}: a dead end: {words}"
            assert results == given[number], f"{file}: other results"
    known = path.name in said or path.parent.name in said or "fakes" in said
    FOUND["noticed" if "notebooks/" in said else "made again" if known else "harmless"] += 1


KINDS = (
    *("models/before_gan.keras", "models/dcgan_generator.keras", "models/after_gan.keras"),
    *("models/gan_state/parameters.json", "models/gan_state/epoch_#####.npz", "models/gan_state/best_generator.npz"),
    *("results/record.json", "results/split.csv", "results/shortcuts.csv", "results/gan/history.csv", "results/gan/fidelity.csv"),
    *("results/units/2-classes/gan.json", "results/units/2-classes/gan.csv", "results/units/2-classes/gan.history.csv"),
    *("results/gans/COVID19-all-1/record.json", "results/gans/COVID19-all-1/gan/history.csv"),
    *("data/generated/manifest.csv", "data/generated/COVID19/fake_####.png", "images/gan/epoch_####.png"),
    *("data/generated/gans/COVID19-all-1/manifest.csv", "data/generated/gans/COVID19-all-1/COVID19/fake_####.png"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_of_each_kind_is_noticed_or_harmless(whole, kind):
    """One byte flipped, and one other damage, another for each kind."""
    files = [file for file in list_files(whole[0].store) if name_kind(file) == kind]
    assert files, sorted({name_kind(file) for file in list_files(whole[0].store)})
    judge_damage(whole, files[0], flip)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_changed_file_is_noticed_or_harmless(finished, damage):
    machine, given, kept, other = finished
    for file in list_files(kept):
        for kind in ("models", "results", "images", "data/generated"):
            shutil.rmtree(machine.store / kind)
            shutil.copytree(kept / kind, machine.store / kind)
        judge_damage((machine, given, other), file, damage)
    print(f"{damage.__name__}: {FOUND}")
