"""Nothing silent between notebooks: a file that isn't as it was written is noticed in one sentence and made again, or changes nothing."""

import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import one_process
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st

import utils
from xraygan import backend, disk, run, training
from xraygan.comparison import classifier, gans, plan, tables, units, workers
from xraygan.comparison import study as studies
from xraygan.data import audit, split
from xraygan.gan import dcgan, fakes, fidelity
from xraygan.gan.recipe import RECIPES
from xraygan.report import findings

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
ASKED = {
    "CLASSES": "",
    "MINORITY": "",
    "ALSO": "",
    "GROUPS": "",
    "ON_LEAK": "drop",
    "CLASSIFIER": "study_cnn",
    "TEST_SHARE": 0.0,
}


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
        gans.save_generator(study, generator)
        for grid in (study.folders.images / "gan").glob("epoch_*.png"):
            utils.read_png(grid)
        gans.write_fakes(study, study.own, study.seed, generator, study.profile.num_fakes)
        drawn, manifest = fakes.read_fakes(study.folders.generated, study.own.minority, 32, study.profile.num_fakes)
        curve = utils.read_table(study.folders.results / "gan" / "fidelity.csv")
        return {"epoch": kept_epoch, "history": history, "curve": curve, "fakes": drawn, "names": manifest["file"].tolist()}

    def notebook_3(self):
        study = studies.open_study(**self.shared, SWEEPS=False, SCHEDULER="")
        drawn = gans.read_fakes(study, study.own, study.seed, study.profile.num_fakes)
        before = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
        after = units.train_and_keep(study, plan.plan_after(study), "after_gan", "")
        wanted = plan.plan_comparison(study)
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
    machines = []
    with one_process(), pytest.MonkeyPatch.context() as patch:
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
    parts = [re.sub(r"-all-\d+$", "-all-#", part) for part in file.parts if part != "tiny"]
    name = "".join("#" if letter.isdigit() else letter for letter in parts[-1])
    unit = name.split("-")[0] + "." + name.split(".", 1)[1] if "units" in parts else name
    return "/".join([*parts[:-1], unit])


def flip(path, other):
    """One bit of one byte, another place for each file."""
    content, rng = bytearray(path.read_bytes()), random.Random(path.name)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
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
    """Damage a file and open notebook 3, then 2; fail where something goes unnoticed or is a dead end."""
    machine, given, other = whole
    path = machine.store / file
    before = path.read_bytes()
    alike = [candidate for candidate in list_files(other) if name_kind(candidate) == name_kind(file)]
    damage(path, other / alike[0] if alike else path)
    if path.exists() and path.read_bytes() == before:
        return  # both runs have the same file
    said = "".join(open_until_whole(machine, given, number) for number in "32")
    known = path.name in said or path.parent.name in said or "fakes" in said
    FOUND["noticed" if "notebooks/" in said else "made again" if known else "harmless"] += 1


def open_until_whole(machine, given, number):
    """Open a notebook and do what its sentences ask for; returns all that was said. In the end its results are as ever."""
    results, said = attempt(machine.notebooks()[number])
    if results is None:
        asked = [again for again in "123" if f"notebooks/{again}_" in said]
        assert asked, f"a sentence that doesn't say what to do: {said}"
        for again in [again for again in "123" if min(asked) <= again <= number]:
            results, words = attempt(machine.notebooks()[again])
            if results is None and "to make it again from the start" in words:  # the record is that of another run
                shutil.rmtree(machine.store / "results" / "tiny")
                shutil.rmtree(machine.store / "models" / "tiny")
                results, words = attempt(machine.notebooks()[again])
            assert results, f"{said} Then: {words}"
            said += words
    assert results == given[number], [name for name in results if results[name] != given[number][name]]
    return said


KINDS = (
    *("models/before_gan.keras", "models/dcgan_generator.keras", "models/after_gan.keras"),
    *("models/gan_state/parameters.json", "models/gan_state/epoch_#####.npz", "models/gan_state/best_generator.npz"),
    *(
        "results/record.json",
        "results/split.csv",
        "results/shortcuts.csv",
        "results/gan/history.csv",
        "results/gan/fidelity.csv",
    ),
    *("results/units/2-classes/gan.json", "results/units/2-classes/gan.csv", "results/units/2-classes/gan.history.csv"),
    *("results/gans/COVID19-all-#/record.json", "results/gans/COVID19-all-#/gan/history.csv"),
    *("data/generated/manifest.csv", "data/generated/COVID19/fake_####.png", "images/gan/epoch_####.png"),
    *("data/generated/gans/COVID19-all-#/manifest.csv", "data/generated/gans/COVID19-all-#/COVID19/fake_####.png"),
)


def pick(store, kind):
    """The first file of a kind."""
    return next(file for file in list_files(store) if name_kind(file) == kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_a_file_of_each_kind_is_noticed_or_harmless(whole, kind):
    judge_damage(whole, pick(whole[0].store, kind), flip)


CUT = ("results/record.json", "results/units/2-classes/gan.json", "models/gan_state/epoch_#####.npz", "models/before_gan.keras")


@pytest.mark.parametrize("damage", [empty, halve], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", CUT)
def test_an_empty_or_cut_file_is_no_dead_end(whole, kind, damage):
    judge_damage(whole, pick(whole[0].store, kind), damage)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_changed_file_is_noticed_or_harmless(finished, damage):
    """Every file of a finished run in turn; of the many fakes and units the first and the last where it isn't one bit that is flipped."""
    machine, given, kept, other = finished
    files, by_kind = list_files(kept), {}
    for file in files:
        by_kind.setdefault(name_kind(file), []).append(file)
    ends = {file for of in by_kind.values() for file in (of[0], of[-1])}
    for file in files if damage is flip else sorted(ends):
        for kind in ("models", "results", "images", "data/generated"):
            shutil.rmtree(machine.store / kind)
            shutil.copytree(kept / kind, machine.store / kind)
        try:
            judge_damage((machine, given, other), file, damage)
        except Exception as error:
            raise AssertionError(f"{damage.__name__} {file}") from error
    print(f"{damage.__name__}: {FOUND}")


# What people do between notebooks


def expect(notebook, sentence):
    results, said = attempt(notebook)
    assert results is None and re.search(sentence, said), said


def test_more_fakes_than_notebook_2_drew_are_noticed(whole):
    machine, *_ = whole
    machine.write_profile(num_fakes=9)
    expect(machine.notebook_3, "PROFILE differs from notebook 1's .* in num_fakes: .* run notebook 1 again")
    assert attempt(machine.notebook_1)[0]
    expect(machine.notebook_3, "9 fakes are asked for, and data/generated/tiny has 7: run notebooks/2_gan_training.ipynb again")
    assert attempt(machine.notebook_2)[0]
    study_rows = machine.notebook_3()["arms"]
    assert set(study_rows.loc[study_rows["arm"] == "gan", "extra_images"]) == {9}


def test_another_length_of_the_gans_training_is_noticed(whole):
    machine, *_ = whole
    machine.write_profile(gan_updates=12)
    assert attempt(machine.notebook_1)[0]
    expect(
        machine.notebook_3,
        "the GAN was trained with updates 9, now 12: give the PROFILE that notebook 2 had, or choose another name with RUN",
    )
    expect(
        machine.notebook_2,
        "gan_state was trained with updates 9, now 12: choose another name with RUN, or delete this run with `make clean`",
    )


def test_notebook_1_again_keeps_what_notebook_2_did(whole):
    machine, given, _ = whole
    for number in "13":
        assert attempt(machine.notebooks()[number])[0] == given[number]


def edit_table(path, change):
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)


def test_a_cut_manifest_is_noticed(whole):
    machine, given, _ = whole
    edit_table(machine.store / "data/generated/tiny/manifest.csv", lambda table: table.head(3))
    said = open_until_whole(machine, given, "3")
    assert (
        "data/generated/tiny/manifest.csv isn't the file that the run's record knows: run notebooks/2_gan_training.ipynb"
        in said
    )


@pytest.mark.parametrize(
    "change",
    [lambda table: table.head(20), lambda table: table.assign(part=table["part"].replace("test", "train"))],
    ids=["cut", "test images in training"],
)
def test_a_changed_split_is_noticed(whole, change):
    machine, given, _ = whole
    edit_table(machine.store / "results/tiny/split.csv", change)
    for number in "23":
        expect(
            machine.notebooks()[number],
            "^results/tiny/split.csv isn't the file that .*: run notebooks/1_before_gan.ipynb again",
        )
    open_until_whole(machine, given, "3")


@pytest.mark.parametrize("kind", ["black", "real", "truncated", "a link"])
def test_other_images_in_the_place_of_fakes_are_noticed(whole, kind):
    machine, given, _ = whole
    fake = machine.store / "data/generated/tiny/COVID19/fake_0002.png"
    real = sorted((machine.data / "test" / "COVID19").iterdir())[0]
    content = {"real": real.read_bytes(), "truncated": fake.read_bytes()[:-20]}
    if kind == "black":
        utils.save_png(np.zeros((32, 32), np.uint8), fake)
    elif kind == "a link":
        fake.unlink()
        fake.symlink_to(real)
    else:
        fake.write_bytes(content[kind])
    sentence = (
        "1 of 7 fakes in data/generated/tiny are gone or were changed .the first: COVID19/fake_0002.png.: run notebooks/2_gan"
    )
    outside = "manifest.csv names 'COVID19/fake_0002.png', which isn't in its folder: run notebooks/2_gan_training.ipynb again"
    expect(machine.notebook_3, outside if kind == "a link" else sentence)
    open_until_whole(machine, given, "3")


@pytest.mark.parametrize("name", ["../../../results/tiny/x.png", "/etc/passwd"])
def test_a_manifest_that_points_outside_its_folder_is_refused_whoever_signed_it(whole, name):
    machine, *_ = whole
    folders = run.open_folders("tiny", machine.store)
    manifest = folders.generated / "manifest.csv"
    edit_table(manifest, lambda table: table.assign(file=[name, *table["file"][1:]]))
    made_from = {"dcgan_generator.keras": disk.hash_file(folders.models / "dcgan_generator.keras")}
    run.sign(folders, manifest, **made_from)
    expect(machine.notebook_3, "manifest.csv names '.*', which isn't in its folder: run")
    assert attempt(machine.notebook_2)[0], "it's written anew"


def test_a_reordered_table_of_a_training_is_made_again(whole):
    """Probabilities in the order of another image each would make another verdict."""
    machine, given, _ = whole
    path = machine.store / pick(machine.store, "results/units/2-classes/oversampling.csv")
    edit_table(path, lambda table: table.assign(probability=table["probability"].to_numpy()[::-1]))
    said = open_until_whole(machine, given, "3")
    assert f"results/tiny/units/2-classes/{path.name} is gone or was changed: that training is done again." in said


def test_fakes_of_another_gan_make_their_trainings_again(whole):
    """The GAN of another seed drew other fakes: what was trained on the earlier ones is said and trained again."""
    machine, given, _ = whole
    study = studies.open_study(**machine.shared, SWEEPS=False, SCHEDULER="")
    unit = [unit for unit in plan.plan_comparison(study) if unit.arm == "gan"][1]
    gans.write_fakes(study, study.own, unit.seed, study.recipe.build_generator(), NUM_FAKES)
    results, said = attempt(machine.notebook_3)
    assert "is of other fakes than there are now: that training is done again." in said
    assert results == given["3"], "its GAN draws its own fakes again"


def test_a_lost_row_of_a_history_is_written_again(whole):
    machine, given, _ = whole
    for name in ("history", "fidelity"):
        edit_table(machine.store / f"results/tiny/gan/{name}.csv", lambda table: table.drop(index=1))
    open_until_whole(machine, given, "2")


def test_other_versions_of_packages_are_said_once(whole):
    machine, given, _ = whole
    folders = run.open_folders("tiny", machine.store)
    record = run.read_record(folders)
    packages = record["machine"]["packages"] | {"keras": "2.0"}
    run.note(folders, machine=record["machine"] | {"packages": packages})
    for number in "321":
        results, said = attempt(machine.notebooks()[number])
        assert results == given[number]
        now = backend.package_versions()
        assert "This run began with" in said and f"keras 2.0, now {now['keras']}" in said and said.count("may differ") == 1
    assert "This run began with" not in attempt(machine.notebook_3)[1], "notebook 1 has noted the new ones"


def test_a_record_of_an_earlier_version_is_one_sentence_and_notebook_1_goes_on_from_it(whole):
    machine, given, _ = whole
    path = machine.store / "results/tiny/record.json"
    record = disk.read_json(path)
    path.write_text(json.dumps({name: record[name] for name in record if name != "files"} | {"models": {"before_gan": "x"}}))
    for number in "23":
        expect(
            machine.notebooks()[number],
            "record.json is of an earlier version of this project: run notebooks/1_before_gan.ipynb",
        )
    assert attempt(machine.notebook_1)[0] == given["1"]
    assert run.read_record(run.open_folders("tiny", machine.store))["costs"] != {}
    open_until_whole(machine, given, "3")


def test_trainings_of_an_earlier_version_and_published_ones_are_taken_as_they_are(whole, tmp_path, monkeypatch):
    """They note no hashes. Published ones are signed where they're taken over; a damaged published one isn't taken."""
    machine, given, _ = whole
    folder = machine.store / "results/tiny/units"
    for path in folder.rglob("*.json"):
        facts = disk.read_json(path)
        path.write_text(json.dumps({name: facts[name] for name in facts if name not in ("files", "fakes")}))
    monkeypatch.setattr(units, "train_unit", lambda *_: pytest.fail("trained again"))
    assert attempt(machine.notebook_3)[0] == given["3"]

    shutil.copytree(folder, tmp_path / "tiny" / "units")
    monkeypatch.setattr(run, "PUBLISHED", tmp_path)
    for path in folder.rglob("*-[0-9a-f]*.json"):
        if not path.name.startswith(("nothing-0-0", "gan-7-0")):
            path.unlink()
    results, said = attempt(machine.notebook_3)
    assert results == given["3"] and "4 trainings of the published study of this name are taken over." in said
    path = machine.store / pick(machine.store, "results/units/2-classes/oversampling.csv")
    flip(path, None)
    results, said = attempt(machine.notebook_3)
    assert results == given["3"] and "1 trainings of the published" in said and "is done again" not in said


def test_a_run_without_its_baseline_of_now_is_noticed(whole):
    """Notebook 1 was stopped before its training: the model that is there is of another one."""
    machine, *_ = whole
    study = studies.open_study(**machine.shared, SWEEPS=False, SCHEDULER="")
    slower = replace(study, classifier=replace(study.classifier, learning_rate=1e-5))
    for opened in (slower, replace(study, precision="mixed_bfloat16")):
        with pytest.raises(ValueError, match="before_gan.keras was made from another unit than there is now: run notebooks/1"):
            opened.load_baseline()


# Trainings that went astray


class Astray:
    """A judge whose first judgement is no number."""

    made_from = "images"
    has_collapsed = staticmethod(fidelity.Judge.has_collapsed)

    def __init__(self, *values):
        self.values = iter(values)

    def distances(self, images):
        return {"kid": next(self.values), "diversity": 1.0}


def test_an_epoch_that_is_no_number_is_never_kept_as_best(folders, rng):
    images, recipe = rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8), RECIPES["dcgan"]
    recipe = replace(recipe, image_size=32, updates=3, sample_every=1)
    _, epoch, _ = dcgan.train_gan(images, recipe, 0, folders, Astray(np.nan, 0.5, 0.7))
    assert epoch == 2
    with pytest.raises(
        ValueError, match="kid was NaN .not a number. in every epoch, so the network learned nothing: set PRECISION"
    ):
        dcgan.train_gan(images, recipe, 1, folders.below("other"), Astray(np.nan, np.nan, np.nan))
    broken = replace(recipe, learning_rate=np.nan)
    with pytest.raises(ValueError, match="the losses of the last epoch are NaN .not a number., and there are too few images"):
        dcgan.train_gan(images, broken, 1, folders.below("broken"))


@pytest.mark.parametrize(("values", "best"), [((np.nan, 2.0, 1.0, 1.0), 3), ((np.nan, np.inf), None), ((), None), ((3.0,), 1)])
def test_the_best_epoch_is_the_smallest_number(values, best):
    rows = [{"epoch": number, "loss": value} for number, value in enumerate(values, start=1)]
    assert training.find_best_epoch(rows, "loss") == best


# JSON that knows itself


@settings(deadline=None, max_examples=300)
@drawn_from(st.data())
def test_a_flipped_bit_of_a_json_file_is_seen_or_changes_nothing(data):
    content = {"name": "Äé", "numbers": [1, 2.5, 1e-9], "inner": {"yes": True, "no": None}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.json"
        disk.write_json(path, content)
        raw = bytearray(path.read_bytes())
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(raw)
        with contextlib.suppress(disk.DamagedError, disk.OlderFormError):
            assert disk.read_json(path, may_be_older=False) == content


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"text"', "\0" * 9, "[" * 100_000, '{"a": 1, "checksum": 5}'])
def test_what_is_no_json_of_ours_is_one_sentence(text, tmp_path):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(disk.DamagedError, match="^file.json (is damaged|was changed): run the notebook that writes it again.$"):
        disk.read_json(tmp_path / "file.json")
