"""The comparison as it runs: every unit trained once, arms alike in all but the extra images, the same on any worker."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import one_process

from xraygan import disk, run
from xraygan.comparison import arms, gans, plan, scarcity, tables, units, workers
from xraygan.comparison.plan import list_units
from xraygan.comparison.profile import Profile, load_profile
from xraygan.comparison.study import Study
from xraygan.comparison.units import Unit
from xraygan.data import audit, sources, split
from xraygan.data.dataset import Setting
from xraygan.gan import dcgan
from xraygan.report import worth

TINY = Profile(
    max_train_images=0,
    classifier_epochs=2,
    classifier_updates=0,
    classifier_patience=2,
    gan_updates=4,
    gan_sample_every=4,
    num_fakes=24,
    arms=tuple(arms.ARMS),
    num_seeds=2,
    image_size=32,
)
TWO = Setting(("NORMAL", "COVID19"), "COVID19")
THREE = Setting(("NORMAL", "COVID19", "PNEUMONIA"), "COVID19")
TRAINED = tuple(name for name, arm in arms.ARMS.items() if not arm.needs_reserve)  # no further real images are there
SCARCE = Setting(("NORMAL", "PNEUMONIA"), "PNEUMONIA", num_real=12)


def make_study(store, data, profile=TINY):
    """A study as notebooks 1 and 2 leave it, without what they write."""
    classifier = replace(profile.make_classifier("study_cnn"), batch_size=32)
    return Study(str(data), str(store), "study", profile, classifier, profile.make_recipe("dcgan"), "float32")


def prepare(store, data, profile=TINY, also=("PNEUMONIA",)):
    """What notebooks 1 and 2 leave, of untrained networks: a record, a split over three classes, a baseline, a generator."""
    study = make_study(store, data, profile)
    classes = ",".join(["NORMAL", "COVID19", *also])
    images = sources.read_images(sources.find_source(str(data), classes, "COVID19"), profile.image_size, show_progress=False)
    table = split.make_split(images, audit.find_groups(images))
    run.start_record(
        study.folders,
        classes=["NORMAL", "COVID19"],
        also=list(also),
        minority="COVID19",
        is_phantom=True,
        seed=0,
        profile={"name": "tiny"} | vars(profile),
        classifier=vars(study.classifier),
        recipe=vars(study.recipe),
        machine={"threads": 1, "precision": "float32"},
        data={
            "fingerprint": images.fingerprint,
            "without_group": len(images.files),
            "counts": split.count_images(table, images.source.classes).to_dict(),
        },
    )
    split.write_split(table, study.folders)
    run.write_table(pd.DataFrame({"balanced_accuracy": []}), study.folders, "shortcuts.csv")
    baseline = units.find_key(study, plan.plan_baseline(study))
    run.save_model(study.classifier.build(2), study.folders, "before_gan", unit=baseline)
    gans.save_generator(study, study.recipe.build_generator())
    return study


@pytest.fixture(scope="module")
def untrained(tmp_path_factory, phantom_folder):
    """A study of the size "study" in which nothing is trained, for plans; its image size is the tiny one."""
    return prepare(tmp_path_factory.mktemp("untrained"), phantom_folder, replace(load_profile("study"), image_size=32))


def test_a_run_plans_its_baseline_its_gan_and_every_arm_by_seed(untrained):
    assert plan.plan_baseline(untrained) == Unit(TWO, "nothing", 0, untrained.profile.num_fakes)
    assert plan.plan_after(untrained) == Unit(TWO, "gan", 0, untrained.profile.num_fakes)
    planned = plan.plan_comparison(untrained)
    profile = untrained.profile
    assert len(planned) == len(set(planned)) == 2 * (len(profile.arms) - 1) * profile.num_seeds, (
        "no further real images are there"
    )
    assert {plan.plan_baseline(untrained), plan.plan_after(untrained)} <= set(planned), (
        "the baseline is a unit of the comparison"
    )
    assert [unit.arm for unit in plan.plan_fakes_instead(untrained)] == ["gan_without_real"]
    assert plan.plan_leaks(untrained) == []


def test_further_real_images_are_planned_only_where_every_replicate_has_them(tmp_path, phantom_folder):
    """Patients with five images each: the replicates 0 and 1 train on 22 images of COVID19, and replicate 2 on 20."""
    study = prepare(tmp_path, phantom_folder)
    sick = [("COVID19", group) for group, size in enumerate([1, 2, 5, 5, 5, 5, 5]) for _ in range(size)]
    table = pd.DataFrame(sick + [("NORMAL", group) for group in range(7, 27)], columns=["class", "group"])
    number = table.groupby("group").cumcount()
    table["file"] = [
        f"COVID19/{group}_{n}.png" if name == "COVID19" else f"NORMAL/{group - 7}.png"
        for name, group, n in zip(table["class"], table["group"], number, strict=True)
    ]
    test, validation = [2, *range(7, 12)], [0, *range(12, 15)]
    table["part"] = np.select([table["group"].isin(test), table["group"].isin(validation)], ["test", "validation"], "train")
    split.write_split(table.assign(folder=""), study.folders)
    few = replace(study.own, num_real=12)
    assert [plan.count_reserve(study, few, [seed]) for seed in range(3)] == [10, 10, 8]
    for num_fakes, num_seeds, is_planned in ((10, 2, True), (10, 3, False), (8, 3, True)):
        profile = replace(study.profile, num_fakes=num_fakes, scarce_counts=(12,), scarce_seeds=(num_seeds,))
        planned = plan.plan_scarcity(replace(study, profile=profile))
        assert ("more_real" in {unit.arm for unit in planned}) == is_planned


def test_the_sweep_varies_one_number_and_shares_what_the_comparison_trains(untrained, tmp_path, phantom_folder):
    planned = plan.plan_fakes_sweep(untrained)
    assert {unit.setting for unit in planned} == {THREE} and {unit.seed for unit in planned} == {0, 1, 2}
    assert {unit.num_extra for unit in planned if unit.arm == "gan"} == {100, 250, 500, 1000, 2000}
    trained_already = set(plan.plan_comparison(untrained))
    assert len(trained_already & set(planned)) == 6  # 1000 fakes and none at all, three seeds each
    alone = prepare(tmp_path, phantom_folder, also=())
    assert {unit.setting for unit in plan.plan_fakes_sweep(alone)} == {TWO}


def test_few_images_are_planned_by_replicate_up_to_what_the_run_has(untrained):
    """The phantom's 30 training images hold 12 and 20 of them, not 40; the curve ends with all."""
    profile = replace(
        untrained.profile,
        scarce_counts=(12, 20, 40),
        scarce_seeds=(3, 2, 9),
        curve_counts=(12, 20, 25, 60),
        curve_seeds=2,
        num_fakes=8,
    )
    study = replace(untrained, profile=profile)
    planned = plan.plan_scarcity(study)
    assert [unit.seed for unit in planned] == sorted(unit.seed for unit in planned)
    counted = pd.DataFrame([{"n": unit.setting.num_real, "arm": unit.arm, "seed": unit.seed} for unit in planned])
    assert counted.groupby("n")["seed"].nunique().to_dict() == {12: 3, 20: 2}
    assert set(counted["arm"]) == set(profile.arms) and "more_real" in profile.arms
    curve = plan.plan_curve(study)
    assert [unit.setting.num_real for unit in curve if unit.seed == 0] == [12, 20, 25, 0]
    assert {unit.arm for unit in curve} == {"nothing"}
    many = replace(study, profile=replace(profile, num_fakes=1000))
    assert "more_real" not in {unit.arm for unit in plan.plan_scarcity(many)}, "there aren't 1000 further images"
    too_few = replace(study, profile=replace(profile, scarce_counts=(40,), scarce_seeds=(9,)))
    assert plan.plan_scarcity(too_few) == plan.plan_curve(too_few) == [], "a curve that no remedy is read on"
    assert "trains on 30 images of COVID19, no more than the fewest" in scarcity.explain_nothing(too_few)


def test_a_curve_that_ends_with_all_images_stays_one_where_replicates_differ_by_an_image(untrained, monkeypatch):
    """Whole groups make it 30 training images in one replicate and 29 in another."""
    sizes = {"scarce_counts": (12,), "scarce_seeds": (4,), "curve_counts": (12, 20, 60), "curve_seeds": 4}
    study = replace(untrained, profile=replace(untrained.profile, arms=arms.NEEDED, **sizes))

    def tabulate(study, wanted):
        names = [{"setting": unit.setting.name, "arm": unit.arm, "seed": unit.seed} for unit in wanted]
        real = [unit.setting.num_real or 30 - unit.seed % 2 for unit in wanted]
        scores = dict.fromkeys(scarcity.SCORES, np.array(real) / 100)
        return pd.DataFrame(names).assign(real_minority=real, **scores)

    monkeypatch.setattr(tables, "tabulate_units", tabulate)
    monkeypatch.setattr(units, "is_finished", lambda study, unit: True)
    monkeypatch.setattr(tables, "compare_arms", lambda *_: None)
    found = scarcity.summarise(study)
    assert found.curve.groupby("num_real")["seed"].nunique().to_dict() == {12: 4, 20: 4, 30: 4}
    assert found.worth["worth"].tolist() == [0, 0, 0]


def test_what_will_be_left_out_is_said_before_anything_trains(untrained):
    """The phantom has 30 training, 8 validation and 10 test images of the minority, no further ones."""
    sentences = plan.describe_left_out(untrained)
    assert (
        sentences[0]
        == "Notebook 3 leaves out the remedy more real: it needs 1000 further real images of COVID19 in every replicate, and the fewest are 0."
    )
    assert sentences[1:] == [
        "Notebook 3 can't show what 50, 115, 230, 460, 1000 real images of COVID19 reach, because there are only 30 to train on."
    ]
    counts = {"train": {"COVID19": 5}, "validation": {"COVID19": 2}, "test": {"COVID19": 4}}
    small = replace(untrained.profile, arms=("nothing", "oversampling", "gan"), scarce_counts=(), curve_counts=())
    study = SimpleNamespace(profile=small, own=TWO, seed=0, record={"data": {"counts": counts}})
    first, second = plan.describe_left_out(study)
    assert "can't choose the GAN's best epoch" in first and "4 test images of COVID19, at least 6 are needed" in second


@pytest.mark.parametrize(("gigabytes", "jobs"), [(0, 9), (1.8, 3), (20, 1)])
def test_as_many_units_at_once_as_their_images_leave_memory_for(gigabytes, jobs, monkeypatch):
    """24 GB: nine of 2.5 GB, three where each holds three copies of 1.8 GB beside that, and one in any case."""
    monkeypatch.setattr(workers.joblib, "cpu_count", lambda: 64)
    monkeypatch.setattr(workers.backend, "memory", lambda: 24e9)
    images = SimpleNamespace(images=SimpleNamespace(nbytes=gigabytes * 1e9))
    assert workers.count_local_jobs(SimpleNamespace(dataset=SimpleNamespace(images=images))) == jobs


def test_settings_with_the_same_minority_share_its_gans_and_arms_without_fakes_come_beside_them():
    wanted = list_units(TWO, ["nothing", "gan"], [1, 2], 24) + list_units(THREE, ["gan_and_classical"], [1], 40)
    wanted += list_units(SCARCE, ["gan"], [1], 24)
    first, then = workers.order_jobs(wanted)
    needed = [(unit.setting.minority, unit.seed, unit.num_extra) for function, unit in first if function is gans.ensure_fakes]
    assert needed == [("COVID19", 1, 40), ("COVID19", 2, 24), ("PNEUMONIA", 1, 24)]
    assert [unit.arm for function, unit in first if function is units.train_unit] == ["nothing", "nothing"]
    assert [unit.arm for _, unit in then] == ["gan", "gan", "gan_and_classical", "gan"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, phantom_folder):
    """A study of all arms in three classes with one seed, and in the thinned setting of two arms with two seeds, of the GAN with one."""
    study = prepare(tmp_path_factory.mktemp("whole"), phantom_folder)
    wanted = list_units(THREE, TRAINED, [1], 24) + list_units(SCARCE, ["nothing", "oversampling"], [0, 1], 24)
    wanted += list_units(SCARCE, ["gan"], [0], 24)
    return study, wanted, workers.train_units(study, wanted)


def test_gans_are_trained_as_many_at_once_as_there_are_cores_and_the_runs_own_has_one_already(tmp_path, phantom_folder):
    study = prepare(tmp_path, phantom_folder)

    def seeds(first, last, at_once):
        rounds = workers.split_rounds(study, list_units(TWO, ["nothing", "gan"], range(first, last + 1), 24), at_once)
        assert all(len(units) == 2 * len({unit.seed for unit in units}) for units in rounds)
        return [sorted({unit.seed for unit in units}) for units in rounds]

    assert seeds(0, 2, at_once=2) == [[0, 1, 2]]
    assert seeds(0, 4, at_once=2) == [[0, 1, 2], [3, 4]]
    assert seeds(1, 3, at_once=2) == [[1, 2], [3]]
    assert seeds(0, 3, at_once=1) == [[0, 1], [2], [3]]


def test_arms_match_in_all_but_the_extra_images(whole):
    study, wanted, table = whole
    three = table[table["setting"] == "3-classes"].set_index("arm")
    assert set(three.index) == set(TRAINED)
    for column in ("real_images", "updates_per_epoch", "updates", "test_images", "seed", "threads"):
        assert three[column].nunique() == 1, column
    adds = [bool(arm.adds) for arm in map(arms.ARMS.get, TRAINED)]
    assert three.loc[list(TRAINED), "extra_images"].tolist() == [24 if any_added else 0 for any_added in adds]
    tested = [tables.read_unit_predictions(study, unit)[["file", "label"]] for unit in wanted if unit.setting == THREE]
    assert all(other.equals(tested[0]) for other in tested)
    assert (three["best_update"] <= three["updates"]).all()


def test_arms_of_one_seed_end_apart(whole):
    study, wanted, _ = whole
    predicted = {unit.arm: tables.read_unit_predictions(study, unit) for unit in wanted if unit.setting == THREE}
    hashes = {arm: table["probability"].round(6).to_numpy().tobytes() for arm, table in predicted.items()}
    assert len(set(hashes.values())) == len(TRAINED)


def test_a_unit_says_what_it_was_and_leaves_no_state(whole):
    study, wanted, _ = whole
    for unit in wanted:
        files = units.find_files(study, unit)
        facts = disk.read_json(files.facts)
        assert {name: facts["parameters"][name] for name in ("seed", "num_extra")} == {
            "seed": unit.seed,
            "num_extra": 24 if arms.ARMS[unit.arm].adds or arms.ARMS[unit.arm].weighs else 0,
        }
        assert facts["parameters"]["arm_name"] == unit.arm and facts["threads"] == 1
        assert len(pd.read_csv(files.history)) == facts["updates"] / facts["updates_per_epoch"] == 2
    assert not list((study.folders.models / "units").rglob("*.npz"))


def test_a_thinned_setting_is_thinned_and_its_gan_sees_just_those(whole):
    study, _, _ = whole
    everything = study.dataset.select_all(replace(SCARCE, num_real=0), 0)
    parts = study.dataset.select_all(SCARCE, 0)
    label = SCARCE.minority_label
    counts = {name: np.bincount(part.labels) for name, part in parts.items()}
    all_counts = {name: np.bincount(part.labels) for name, part in everything.items()}
    assert counts["train"][label] == 12
    share = 12 / all_counts["train"][label]
    assert counts["validation"][label] == round(share * all_counts["validation"][label])
    assert counts["test"].tolist() == all_counts["test"].tolist()
    assert counts["train"][1 - label] == all_counts["train"][1 - label]
    other_seed = study.dataset.select_all(SCARCE, 1)["train"]
    assert set(parts["train"].files) != set(other_seed.files)
    history = gans.open_gan_folders(study, SCARCE, 0).results / "gan" / "history.csv"
    assert len(pd.read_csv(history)) == 2, "four updates of eight images each are two epochs of twelve images"


def test_leaks_are_used_where_a_setting_says_so(whole):
    study, _, _ = whole
    table = split.read_split(study.folders)
    leaked = table.index[table["part"] == "train"][:2]
    twin = table.index[table["part"] == "test"][0]
    table.loc[leaked, ["part", "group"]] = [split.LEAK, table.loc[twin, "group"]]
    other = prepare(disk.Path(study.store) / "leaky", study.data)
    split.write_split(table, other.folders)
    clean, leaky = (other.dataset.select_all(replace(THREE, with_leaks=value), 1) for value in (False, True))
    assert set(leaky["train"].files) - set(clean["train"].files) == set(table.loc[leaked, "file"])
    assert all((leaky[part].files == clean[part].files).all() for part in ("validation", "test"))
    unseen = set(split.list_unseen_test_files(table))
    assert set(table.loc[table["part"] == "test", "file"]) - unseen == {table.loc[twin, "file"]}
    counts = split.count_images(table, THREE.classes).to_dict()
    run.note(other.folders, data=other.record["data"] | {"counts": counts})
    planned = plan.plan_leaks(other)
    assert {(unit.setting, unit.arm) for unit in planned} == {(replace(TWO, with_leaks=True), "nothing")}
    assert {unit.seed for unit in planned} == {0, 1}


def test_the_effect_of_leaks_is_the_mean_over_seeds(whole):
    study, wanted, table = whole
    nothing = [unit for unit in wanted if unit.arm == "nothing" and unit.setting == SCARCE]
    effect = tables.compare_leaks(study, nothing)
    scores = table[(table["arm"] == "nothing") & (table["setting"] == SCARCE.name)]["balanced_accuracy"]
    assert effect["test_images"].tolist() == ["all", "without a near-copy"]
    assert effect["balanced_accuracy"].iloc[0] == pytest.approx(scores.mean())


def test_a_setting_is_left_out_where_too_few_of_its_images_are_judged(whole):
    study, wanted, _ = whole
    table = tables.read_unit_predictions(study, next(unit for unit in wanted if unit.setting == THREE))
    minority = table.loc[table["label"] == "COVID19", "file"]
    compared = tables.compare_arms(study, wanted, THREE)
    assert set(compared["setting"]) == {THREE.name, SCARCE.name}
    assert set(compared.loc[compared["primary"], "setting"]) == {THREE.name}
    scarce = compared[compared["setting"] == SCARCE.name]
    assert set(scarce["replicates"]) == {1}, "the GAN lacks a seed"
    assert tables.compare_arms(study, list_units(THREE, ["nothing"], [7], 24), THREE).empty, "no seed is finished"
    few = set(table["file"]) - set(minority[1:])
    assert set(tables.compare_arms(study, wanted, THREE, few)["setting"]) == {SCARCE.name}


def test_arms_are_judged_as_scikit_learn_scores_their_tables(whole):
    study, wanted, _ = whole
    units_of = [unit for unit in wanted if unit.setting == SCARCE and unit.arm != "gan"]
    judged, labels, groups = tables.judge_setting(study, units_of)
    assert len(labels) == len(groups) == judged["auroc"]["nothing"].influence.shape[1]
    for metric, arms_judged in judged.items():
        for arm, of in arms_judged.items():
            scores = [
                units.read_results(units.find_files(study, unit), SCARCE)[1][metric] for unit in units_of if unit.arm == arm
            ]
            np.testing.assert_allclose(of.scores, scores)
            np.testing.assert_allclose(np.nansum(of.influence, axis=1), 0, atol=1e-12)


@pytest.mark.slow
def test_few_images_are_summed_up_from_what_is_finished(whole):
    study, _, _ = whole
    profile = replace(study.profile, arms=("nothing", "oversampling", "gan"), scarce_counts=(12,), scarce_seeds=(2,))
    few = replace(study, profile=replace(profile, curve_counts=(12, 20), curve_seeds=1))
    assert scarcity.summarise(few) is None, "the curve has no point yet"
    with one_process():
        workers.train_units(few, scarcity.list_units(few))
    found = scarcity.summarise(few)
    folder = few.folders.results / scarcity.FOLDER
    assert scarcity.read(few.folders.results).state == {"asked": 7, "finished": 7}
    assert found.worth[["num_real", "arm", "replicates"]].to_numpy().tolist() == [[12, arm, 2] for arm in profile.arms]
    assert set(found.curve["num_real"]) == {12, 20} and set(found.contrasts["replicates"]) == {2}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "worth.csv").fillna({"beyond": ""}), found.worth, check_dtype=False)
    text = worth.describe_published(few.folders.results)
    assert "12 real images of patients and the fakes made from them reach the AUROC of" in text and "Not finished" not in text
    assert worth.draw(found.worth, found.curve, "a title").axes


def test_fakes_that_were_not_taken_over_are_drawn_again(whole):
    study, _, _ = whole
    unit = Unit(SCARCE, "gan", 0, 24)
    before = workers.read_or_draw_fakes(study, unit)
    shutil.rmtree(gans.open_gan_folders(study, SCARCE, 0).generated)
    assert np.array_equal(workers.read_or_draw_fakes(study, unit), before)


def fingerprint(study, wanted):
    return {unit: hashlib.sha256(units.find_files(study, unit).predictions.read_bytes()).hexdigest() for unit in wanted}


def test_finished_units_are_not_redone_and_a_changed_parameter_makes_new_ones(whole):
    study, wanted, _ = whole
    files = [units.find_files(study, unit).facts for unit in wanted]
    times = [file.stat().st_mtime_ns for file in files]
    workers.train_units(study, wanted)
    assert times == [file.stat().st_mtime_ns for file in files]
    longer = replace(study, classifier=replace(study.classifier, epochs=3))
    assert not any(units.is_finished(longer, unit) for unit in wanted)
    other_recipe = replace(study, recipe=TINY.make_recipe("hinge"))
    with_fakes = {name for name, arm in arms.ARMS.items() if arm.needs_fakes}
    assert {unit.arm for unit in wanted if not units.is_finished(other_recipe, unit)} == with_fakes
    more = replace(wanted[0], num_extra=25)
    assert wanted[0].arm == "nothing" and units.find_files(study, more).predictions.stem.split("-")[-1] in files[0].stem


def test_a_kept_unit_is_trained_once_and_gives_its_model_again(whole, tmp_path, monkeypatch):
    """Notebook 1's baseline is a unit like any other, whose model is kept; one whose model is gone is trained again."""
    study = prepare(tmp_path, whole[0].data)
    unit = plan.plan_baseline(study)
    first = units.train_and_keep(study, unit, "before_gan", "the baseline")
    assert first.metrics == disk.read_json(units.find_files(study, unit).facts)["metrics"]
    assert run.is_saved(study.folders, "before_gan") and study.record["costs"]["before_gan"]["seconds"] > 0
    with monkeypatch.context() as patch:
        patch.setattr(units, "train_classifier", lambda *_: pytest.fail("trained again"))
        again = units.train_and_keep(study, unit, "before_gan", "the baseline")
    assert again.metrics == first.metrics
    pd.testing.assert_frame_equal(again.predictions, first.predictions)
    for one, other, third in zip(
        first.model.get_weights(), again.model.get_weights(), study.load_baseline().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)
    (study.folders.models / "before_gan.keras").unlink()
    third = units.train_and_keep(study, unit, "before_gan", "the baseline")
    pd.testing.assert_frame_equal(third.predictions, first.predictions)


def test_a_model_saved_under_the_same_name_by_another_profile_is_not_taken_for_the_units_own(tmp_path, phantom_folder):
    study = prepare(tmp_path, phantom_folder)
    unit = plan.plan_baseline(study)
    first = units.train_and_keep(study, unit, "before_gan", "")
    slower = replace(study, classifier=replace(study.classifier, learning_rate=1e-4))
    units.train_and_keep(slower, unit, "before_gan", "")
    again = units.train_and_keep(study, unit, "before_gan", "")
    for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fakes_of_a_gan_trained_by_another_recipe_are_not_taken_for_this_ones(tmp_path, phantom_folder, rng):
    """A record may say another recipe than the generator on the disk has; notebook 3 mustn't use its fakes."""
    study = prepare(tmp_path, phantom_folder, also=())
    images = rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    generator, _, _ = dcgan.train_gan(images, study.recipe, 0, study.folders)
    gans.save_generator(study, generator)
    unit = Unit(TWO, "gan", 0, 3)
    gans.ensure_fakes(replace(study, recipe=replace(study.recipe, sample_every=36)), unit)
    assert len(gans.read_fakes(study, TWO, 0)) == 3
    for change in ({"loss": "hinge"}, {"beta_1": 0.9}, {"updates": 36}):
        other = replace(study, recipe=replace(study.recipe, **change))
        for ask in (lambda: gans.ensure_fakes(other, unit), lambda: gans.read_fakes(other, TWO, 0)):  # noqa: B023
            with pytest.raises(ValueError, match="was made from another recipe than there is now: run notebooks/2_gan_tra"):
                ask()
        with pytest.raises(ValueError, match=f"was trained with .*{next(iter(change))}.*choose another name with RUN"):
            dcgan.train_gan(images, other.recipe, 0, study.folders)


RUN = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    import test_units as t
    t.workers.train_units(t.make_study({store!r}, {data!r}), t.list_units(t.TWO, t.KILLED_ARMS, [1], 24), {scheduler!r})
""")
KILLED_ARMS = ("nothing", "oversampling", "gan")


def start_in_a_process(store, data, scheduler=""):
    code = RUN.format(tests=str(disk.ROOT / "tests"), data=str(data), store=str(store), scheduler=scheduler)
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow  # test_kills.py kills trainings of each kind every time
def test_a_killed_study_goes_on_and_ends_as_an_undisturbed_one(tmp_path, phantom_folder):
    wanted = list_units(TWO, KILLED_ARMS, [1], 24)
    study = prepare(tmp_path / "cut", phantom_folder)
    process = start_in_a_process(tmp_path / "cut", phantom_folder)
    deadline = time.time() + 200
    while time.time() < deadline and not any(units.is_finished(study, unit) for unit in wanted):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    files = {unit: units.find_files(study, unit).facts for unit in wanted}
    finished = {unit: file.stat().st_mtime_ns for unit, file in files.items() if file.exists()}
    assert 0 < len(finished) < len(wanted)
    workers.train_units(study, wanted)
    assert all(files[unit].stat().st_mtime_ns == written for unit, written in finished.items())
    undisturbed = prepare(tmp_path / "undisturbed", phantom_folder)
    workers.train_units(undisturbed, wanted)
    assert fingerprint(study, wanted) == fingerprint(undisturbed, wanted)


@pytest.mark.slow
def test_workers_of_several_threads_are_refused(whole):
    """TensorFlow's threads and precision are a process's: two units in one would train with each other's."""
    distributed = pytest.importorskip("distributed", reason="Dask, an option, isn't installed")

    wanted = list_units(TWO, ["nothing"], [9], 24)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None) as cluster,
        pytest.raises(ValueError, match="start them with --nthreads 1"),
    ):
        workers.train_units(whole[0], wanted, cluster.scheduler_address)
    assert not units.is_finished(whole[0], wanted[0])


@pytest.mark.slow
def test_a_dask_cluster_of_two_processes_gives_the_same_numbers_as_the_local_cores(tmp_path, phantom_folder, monkeypatch):
    """A real scheduler on loopback and two worker processes that see the same folders."""
    distributed = pytest.importorskip("distributed", reason="Dask, an option, isn't installed")

    wanted = list_units(TWO, ["nothing", "gan"], [1], 24)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(disk.ROOT), str(disk.ROOT / "tests")]))
    local = prepare(tmp_path / "local", phantom_folder)
    workers.train_units(local, wanted)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        there = prepare(tmp_path / "cluster", phantom_folder)
        workers.train_units(there, wanted, cluster.scheduler_address)
        with distributed.Client(cluster) as client:
            processes = set(client.run(os.getpid).values())
    assert fingerprint(there, wanted) == fingerprint(local, wanted)
    assert len(processes) == 2 and os.getpid() not in processes
