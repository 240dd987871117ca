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

import numpy as np
import pandas as pd
import pytest

import utils
from xraygan import arms, audit, classifier, dcgan, disk, findings, model_files, record, settings, sources, split, study

TINY = settings.Profile(
    max_train_images=0,
    classifier_epochs=2,
    classifier_updates=0,
    classifier_patience=2,
    gan_epochs=1,
    gan_sample_every=1,
    num_fakes=24,
    arms=tuple(arms.ARMS),
    num_seeds=2,
)


def prepare(store, data):
    """What notebooks 1 and 2 leave, of untrained networks: a record, a split over three classes, a baseline, a generator."""
    folders = utils.run_folders("study", store)
    everything = sources.read_images(sources.find_source(str(data), "NORMAL,COVID19,PNEUMONIA", "COVID19"), show_progress=False)
    groups, _ = audit.find_groups(everything)
    parts = split.make_split(everything, groups)
    split.write_split(parts, folders)
    counts = split.counts_table(parts, everything.source.classes)
    record.start_record(
        folders,
        classes=["NORMAL", "COVID19"],
        also=["PNEUMONIA"],
        minority="COVID19",
        seed=0,
        machine={"threads": 1},
        data={"fingerprint": everything.fingerprint, "counts": counts.to_dict()},
    )
    model_files.save_model(classifier.build_classifier(2), folders, "before_gan")
    model_files.save_model(dcgan.build_generator("dcgan"), folders, "dcgan_generator")
    return study.Study(str(data), str(store), "study", TINY, "dcgan", "float32")


TWO = study.Setting(("NORMAL", "COVID19"), "COVID19")
THREE = study.Setting(("NORMAL", "COVID19", "PNEUMONIA"), "COVID19")
SCARCE = study.Setting(("NORMAL", "PNEUMONIA"), "PNEUMONIA", num_real=12)


def test_sweeps_vary_one_number_and_share_what_the_comparison_trains():
    notes = {"classes": ["NORMAL", "COVID19"], "minority": "COVID19", "also": ["PNEUMONIA"], "seed": 0}
    profile = settings.load_profile("study")
    swept = study.sweep_units(notes, profile)
    assert list(swept) == list(findings.SWEPT)
    of_fakes, of_real = swept.values()
    assert {unit.setting for unit in of_fakes} == {THREE} and {unit.seed for unit in of_fakes} == {0, 1, 2}
    assert {unit.num_extra for unit in of_fakes if unit.arm == "gan"} == {100, 250, 500, 1000, 2000}
    trained_already = set(study.main_units(notes, profile))
    assert len(trained_already & set(of_fakes)) == 6  # 1000 fakes and none at all, three seeds each
    assert {(unit.setting.classes, unit.setting.minority, unit.setting.num_real) for unit in of_real} == {
        (("NORMAL", "PNEUMONIA"), "PNEUMONIA", count) for count in (115, 25)
    }
    assert len(of_real) == len(set(of_real)) == 2 * 4 * 3
    alone = study.sweep_units(notes | {"also": []}, profile)
    assert {unit.setting.minority for unit in alone["number of real images"]} == {"COVID19"}
    assert {unit.setting for unit in alone["number of fakes"]} == {TWO}


def test_settings_with_the_same_minority_share_its_gans_and_arms_without_fakes_come_beside_them():
    units = study.plan(TWO, ["nothing", "gan"], [1, 2], 24) + study.plan(THREE, ["gan_and_classical"], [1], 40)
    units += study.plan(SCARCE, ["gan"], [1], 24)
    first, then = study._steps(units)
    gans = [(unit.setting.minority, unit.seed, unit.num_extra) for function, unit in first if function is study.ensure_fakes]
    assert gans == [("COVID19", 1, 40), ("COVID19", 2, 24), ("PNEUMONIA", 1, 24)]
    assert [unit.arm for function, unit in first if function is study.train_unit] == ["nothing", "nothing"]
    assert [unit.arm for _, unit in then] == ["gan", "gan", "gan_and_classical", "gan"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, phantom_folder):
    """A study of all arms in three classes with one seed, and of two arms in the thinned setting with two."""
    tiny = prepare(tmp_path_factory.mktemp("whole"), phantom_folder)
    units = study.plan(THREE, arms.ARMS, [1], 24) + study.plan(SCARCE, ["nothing", "gan"], [0, 1], 24)
    return tiny, units, study.run(tiny, units)


def test_arms_match_in_all_but_the_extra_images(whole):
    tiny, units, table = whole
    three = table[table["setting"] == "3-classes"].set_index("arm")
    assert set(three.index) == set(arms.ARMS)
    for column in ("real_images", "updates_per_epoch", "updates", "test_images", "seed", "threads"):
        assert three[column].nunique() == 1, column
    adding = three.drop(["nothing", "class_weights"])
    assert (adding["extra_images"] == 24).all() and (three.loc[["nothing", "class_weights"], "extra_images"] == 0).all()
    files = [study.predictions_of(tiny, unit)[["file", "label"]] for unit in units if unit.setting == THREE]
    assert all(other.equals(files[0]) for other in files)
    assert (three["best_update"] <= three["updates"]).all()


def test_arms_of_one_seed_start_alike_and_end_apart(whole):
    tiny, units, _ = whole
    tables = {unit.arm: study.predictions_of(tiny, unit) for unit in units if unit.setting == THREE}
    hashes = {arm: table["probability"].round(6).to_numpy().tobytes() for arm, table in tables.items()}
    assert len(set(hashes.values())) == len(arms.ARMS)


def test_a_thinned_setting_is_thinned_and_its_gan_sees_just_those(whole):
    tiny, _, _ = whole
    all_images = study.images_of(tiny, replace(SCARCE, num_real=0), 0)[1]
    source, parts = study.images_of(tiny, SCARCE, 0)
    label = source.classes.index("PNEUMONIA")
    counts = {part: np.bincount(parts[part][1]) for part in parts}
    everything = {part: np.bincount(all_images[part][1]) for part in parts}
    assert counts["train"][label] == 12
    share = 12 / everything["train"][label]
    assert counts["validation"][label] == round(share * everything["validation"][label])
    assert counts["test"].tolist() == everything["test"].tolist()
    assert counts["train"][1 - label] == everything["train"][1 - label]
    other_seed = study.images_of(tiny, SCARCE, 1)[1]
    assert set(parts["train"][2]) != set(other_seed["train"][2])
    history = study.gan_folders(tiny, SCARCE, 0).results / "gan" / "history.csv"
    assert len(pd.read_csv(history)) == 1


def test_leaks_are_used_where_a_setting_says_so(whole):
    tiny, units, _ = whole
    table = split.read_split(tiny.folders)
    leaked = table.index[table["part"] == "train"][:2]
    twin = table.index[table["part"] == "test"][0]
    table.loc[leaked, ["part", "group"]] = [split.LEAK, table.loc[twin, "group"]]
    store = tiny.folders.results.parent.parent
    other = prepare(store / "leaky", tiny.data)
    split.write_split(table, other.folders)
    setting = units[0].setting
    clean, leaky = (study.images_of(other, replace(setting, with_leaks=value), 1)[1] for value in (False, True))
    assert set(leaky["train"][2]) - set(clean["train"][2]) == set(table.loc[leaked, "file"])
    assert all((leaky[part][2] == clean[part][2]).all() for part in ("validation", "test"))
    assert set(table.loc[table["part"] == "test", "file"]) - set(split.unseen_test_files(table)) == {table.loc[twin, "file"]}


def test_the_effect_of_leaks_is_the_mean_over_seeds(whole):
    tiny, units, table = whole
    nothing = [unit for unit in units if unit.arm == "nothing" and unit.setting == SCARCE]
    effect = study.leak_effect(tiny, nothing)
    scores = table[(table["arm"] == "nothing") & (table["setting"] == SCARCE.name)]["balanced_accuracy"]
    assert effect["test_images"].tolist() == ["all", "without a twin"]
    assert effect["balanced_accuracy"].iloc[0] == pytest.approx(scores.mean())


def test_a_setting_is_left_out_where_too_few_of_its_images_are_judged(whole):
    tiny, units, _ = whole
    table = study.predictions_of(tiny, next(unit for unit in units if unit.setting == THREE))
    minority = table.loc[table["label"] == "COVID19", "file"]
    assert set(study.compare(tiny, units)["setting"]) == {THREE.name, SCARCE.name}
    assert study.compare(tiny, study.plan(THREE, ["nothing"], [7], 24)).empty, "no arm has all its seeds"
    assert set(study.compare(tiny, units, set(table["file"]) - set(minority[1:]))["setting"]) == {SCARCE.name}


def test_fakes_that_were_not_taken_over_are_drawn_again(whole):
    tiny, _, _ = whole
    unit = study.Unit(SCARCE, "gan", 0, 24)
    before = study.fakes_of(tiny, unit)
    shutil.rmtree(study.gan_folders(tiny, SCARCE, 0).generated)
    assert np.array_equal(study.fakes_of(tiny, unit), before)


def fingerprints(tiny, units):
    return {unit: hashlib.sha256(study.unit_file(tiny, unit).with_suffix(".csv").read_bytes()).hexdigest() for unit in units}


def test_finished_units_are_not_redone_and_a_changed_parameter_makes_new_ones(whole):
    tiny, units, _ = whole
    files = {unit: study.unit_file(tiny, unit) for unit in units}
    times = {unit: file.stat().st_mtime_ns for unit, file in files.items()}
    study.run(tiny, units)
    assert times == {unit: file.stat().st_mtime_ns for unit, file in files.items()}
    longer = replace(tiny, profile=replace(TINY, classifier_epochs=3))
    assert not any(study.is_finished(longer, unit) for unit in units)
    other_recipe = replace(tiny, recipe="original")
    assert {unit.arm for unit in units if not study.is_finished(other_recipe, unit)} == {"gan", "gan_and_classical"}
    assert not study.is_finished(tiny, replace(units[0], num_extra=25))


RUN = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    import test_study as t
    from xraygan import study
    tiny = study.Study({data!r}, {store!r}, "study", t.TINY, "dcgan", "float32")
    study.run(tiny, study.plan(t.TWO, ["nothing", "oversampling", "gan"], [1], 24), {scheduler!r})
""")


def run_in_a_process(store, data, scheduler=""):
    code = RUN.format(tests=str(disk.ROOT / "tests"), data=str(data), store=str(store), scheduler=scheduler)
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


def test_a_killed_study_goes_on_and_ends_as_an_undisturbed_one(tmp_path, phantom_folder):
    units = study.plan(TWO, ["nothing", "oversampling", "gan"], [1], 24)
    found = {}
    for name in ("cut", "undisturbed"):
        tiny = prepare(tmp_path / name, phantom_folder)
        process = run_in_a_process(tmp_path / name, phantom_folder)
        if name == "cut":
            deadline = time.time() + 200
            while time.time() < deadline and not any(study.is_finished(tiny, unit) for unit in units):
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            finished = {unit: study.unit_file(tiny, unit).stat().st_mtime_ns for unit in units if study.is_finished(tiny, unit)}
            assert 0 < len(finished) < len(units)
            process = run_in_a_process(tmp_path / name, phantom_folder)
        assert process.wait(300) == 0
        found[name] = fingerprints(tiny, units)
    assert found["cut"] == found["undisturbed"]
    cut = study.Study(str(phantom_folder), str(tmp_path / "cut"), "study", TINY, "dcgan", "float32")
    assert all(study.unit_file(cut, unit).stat().st_mtime_ns == written for unit, written in finished.items())


def test_workers_of_several_threads_are_refused(whole):
    """TensorFlow's threads and precision are a process's: two units in one would train with each other's."""
    from dask.distributed import LocalCluster

    units = study.plan(TWO, ["nothing"], [9], 24)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None) as cluster,
        pytest.raises(ValueError, match="start them with --nthreads 1"),
    ):
        study.run(whole[0], units, cluster.scheduler_address)
    assert not study.is_finished(whole[0], units[0])


def test_a_dask_cluster_of_two_processes_gives_the_same_numbers_as_the_local_cores(tmp_path, phantom_folder, monkeypatch):
    """A real scheduler on loopback and two worker processes that see the same folders."""
    from dask.distributed import Client, LocalCluster

    units = study.plan(TWO, ["nothing", "gan"], [1], 24)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(disk.ROOT), str(disk.ROOT / "tests")]))
    found = {}
    local = prepare(tmp_path / "local", phantom_folder)
    study.run(local, units)
    found["local"] = fingerprints(local, units)
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        there = prepare(tmp_path / "cluster", phantom_folder)
        study.run(there, units, cluster.scheduler_address)
        with Client(cluster) as client:
            workers = set(client.run(os.getpid).values())
    found["cluster"] = fingerprints(there, units)
    assert found["cluster"] == found["local"]
    assert len(workers) == 2 and os.getpid() not in workers
