"""The benchmarks count and compare rightly; what they measure is the machine's business."""

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import utils
from benchmarks import (
    audit,
    determinism,
    error_rates,
    machine,
    near_copies,
    pipeline,
    precision,
    published_study,
    rescore,
    same_arm,
    scale,
    scarcity,
    search,
    steps,
    variance_parts,
)
from benchmarks.candidates import CANDIDATES, DoubleSmoothly
from xraygan import backend, disk, run
from xraygan.comparison import plan, units
from xraygan.comparison import study as studies
from xraygan.data import audit as audits
from xraygan.data import split
from xraygan.data.dataset import Setting
from xraygan.gan import dcgan
from xraygan.gan.networks import DoubleAndConvolve
from xraygan.gan.recipe import RECIPES

PARAMETERS = {"CLASSES": "", "MINORITY": "", "ALSO": "", "GROUPS": "", "ON_LEAK": "drop", "SEED": 0, "CLASSIFIER": "study_cnn"}
PARAMETERS |= {"TEST_SHARE": 0.0}


def begin_study(data, name):
    """A run on the small phantom as notebook 1 leaves it, its baseline untrained."""
    start = studies.begin(DATA=str(data), PROFILE="quick", RUN=name, PRECISION="auto", **PARAMETERS)
    groups = audits.find_groups(start.images, start.patients)
    study = start.start_study(split.make_split(start.images, groups), audits.count_leaks(start.images, groups))
    run.save_model(
        study.classifier.build(2), study.folders, "before_gan", unit=units.find_key(study, plan.plan_baseline(study))
    )
    return study


def random_images(count, size=128):
    return np.random.default_rng(0).uniform(-1, 1, (count, size, size, 1)).astype(np.float32)


# An update, organised in four ways


def test_operations_are_counted_as_by_hand():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same")(image)  # 4·4 places × 3·3·3 inputs × 5 filters
    x = layers.Conv2DTranspose(2, 4, strides=2, padding="same")(x)  # each of 4·4 inputs × 5 channels reaches 4·4·2 outputs
    x = layers.Dense(7)(layers.Flatten()(x))  # 8·8·2 × 7
    assert steps.flops(keras.Model(image, x)) == 2 * (16 * 27 * 5 + 16 * 5 * 32 + 128 * 7)


def test_the_ratio_is_taken_within_a_round():
    """A machine that slows down in one round slows both: the ratio stays 2."""
    rounds = [
        {"organisation": name, "precision": "float32", "batch_size": 16, "round": turn}
        | {"images_a_second": speed * slow, "images_a_cpu_second": 1.5 * speed}
        for turn, slow in enumerate((1, 0.5, 3))
        for name, speed in (("ours", 40), ("keras.io", 20))
    ]
    table = steps.summarise(pd.DataFrame(rounds)).set_index("organisation")
    assert table["times_keras_io_float32"].to_dict() == {"ours": 2, "keras.io": 1}
    assert table["times_keras_io_float32_cpu"].to_dict() == {"ours": 2, "keras.io": 1}
    assert table["images_a_second"].to_dict() == {"ours": 40, "keras.io": 20}


def test_the_peak_is_that_of_the_median_product(monkeypatch):
    """Seven products of 16×16 matrices, of 1 to 9 seconds by the clock: the median takes 2."""
    ends = [1, 9, 2, 1, 2, 4, 3]
    clock = iter([moment for second in ends for moment in (100, 100 + second)])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=clock.__next__))
    monkeypatch.setattr(machine, "SIZE", 16)
    assert machine.matrix_peak("float32") == 2 * 16**3 / 2
    assert next(clock, None) is None


@pytest.mark.parametrize("name", steps.ORGANISATIONS)
def test_every_organisation_trains_both_networks_and_is_timed(name):
    gan = steps.build(steps.ORGANISATIONS[name][0], keras.mixed_precision.global_policy().name)
    before = [[np.array(v) for v in network.trainable_variables] for network in (gan.generator, gan.discriminator)]
    times = machine.time_updates(gan, random_images(12), batch_size=4)
    assert len(times) == 2 and (times > 0).all(axis=None)
    for network, old in zip((gan.generator, gan.discriminator), before, strict=True):
        assert all(np.abs(np.array(v) - o).max() > 0 for v, o in zip(network.trainable_variables, old, strict=True))


# The search for the recipe


def test_each_candidate_is_todays_recipe_with_something_changed():
    recipes = [candidate.recipe for candidate in CANDIDATES.values()]
    assert CANDIDATES["today"].recipe == RECIPES["dcgan"] and len(set(recipes)) == len(recipes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "excited", "finer", "smooth", "patches", "describing"])
def test_a_candidate_that_needs_code_trains(name):
    gan = dcgan.make_gan(CANDIDATES[name].recipe, 0)
    logs = gan.fit(random_images(4), batch_size=2, verbose=0).history
    assert np.isfinite([logs["d_loss"], logs["g_loss"]]).all()


def test_smooth_doubling_is_bilinear_upsampling_and_then_a_convolution(float32):
    images, layer = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32), DoubleSmoothly(5, "glorot_uniform")
    doubled = np.array(layer(images))
    larger = keras.layers.UpSampling2D(interpolation="bilinear")(images)
    expected = np.array(keras.ops.conv(larger, layer.kernel, padding="same"))
    assert doubled.shape == expected.shape
    inside = np.s_[:, 2:-2, 2:-2]  # at the edges, Keras repeats the last pixel, and the layer takes black
    np.testing.assert_allclose(doubled[inside], expected[inside], atol=1e-5)


def test_candidates_networks_are_the_packages_with_one_thing_changed():
    """As many weights of each shape as the package's, but for those that the change adds or leaves out."""

    def shapes(name, network):
        return Counter(tuple(weight.shape) for weight in getattr(CANDIDATES[name].recipe, f"build_{network}")().weights)

    today, excited = shapes("today", "generator"), shapes("excited", "generator")
    assert not today - excited and sum((excited - today).values()) == 8  # two dense layers at each of two sizes
    finer = shapes("finer", "generator")
    assert today - finer == Counter([(3, 3, 32, 1)]) and (finer - today)[(3, 3, 32, 16)] == (finer - today)[(3, 3, 16, 1)] == 1
    assert shapes("smooth", "generator") == shapes("today", "generator")
    today = shapes("today", "discriminator")
    assert today - shapes("first", "discriminator") == Counter([(256,)])  # the weight of the spread
    assert not shapes("first", "discriminator") - today
    assert shapes("patches", "discriminator") - today == Counter([(4, 4, 256, 1), (128,)])  # the spread is seen earlier
    assert not today - shapes("describing", "discriminator")


def test_reconstructions_error_is_that_of_the_image_at_a_quarter_of_its_size():
    image = random_images(2)
    network = CANDIDATES["describing"].recipe.build_discriminator()
    *_, drawn = (layer for layer in network.layers if isinstance(layer, DoubleAndConvolve))
    drawn = keras.Model(network.inputs[0], drawn.output).predict_on_batch(image)
    smaller = image.reshape(2, 32, 4, 32, 4, 1).mean((2, 4))
    np.testing.assert_allclose(network.predict_on_batch(image)[:, 1], ((drawn - smaller) ** 2).mean((1, 2, 3)), rtol=1e-5)


@pytest.fixture
def small_search(phantom_folder, monkeypatch, tmp_path):
    """A run whose notebook 1 is done, and a search of two updates a trial that is written elsewhere."""
    for constant, value in {"FOLDER": tmp_path, "NUM_JUDGED": 32}.items():
        monkeypatch.setattr(search, constant, value)
    monkeypatch.setattr(search, "count_updates", lambda *_: 2)
    return begin_study(phantom_folder, "search-run")


def test_a_trial_is_a_row_and_another_programs_fakes_are_judged_alike(phantom_folder, small_search, monkeypatch, tmp_path):
    data, trial = str(phantom_folder), search.Trial("hinge", "COVID19", 0, 0.001, 0)
    (row,) = search.run_trials(data, small_search.run, [trial])
    assert row["updates"] == 2 and row["device"] == backend.device_name()
    real, _, held_out = search.read_images(small_search, trial)
    (tmp_path / "perfect").mkdir()
    np.savez(tmp_path / "perfect" / "minute_5.npz", images=held_out, updates=7, device="its")
    perfect = dataclasses.replace(trial, candidate="perfect")
    rows = search.judge_folder(data, small_search.run, perfect, tmp_path / "perfect")
    for _ in range(2):  # the second time takes the place of the first
        search.add_rows([row, *rows])
    table = search.read_rows().set_index("candidate")
    assert len(table) == 2 and table.loc["perfect", ["real_images", "updates", "minutes"]].tolist() == [len(real), 7, 5]
    assert table.loc["perfect", "kid_random"] < table.loc["hinge", "kid_random"]
    assert table.loc["perfect", "recall_random"] == table.loc["perfect", "precision_random"] == 1
    monkeypatch.setattr(search, "run_trials", None)
    search.search(data, small_search.run, [trial])  # it is finished, and nothing is trained


def test_few_images_are_other_ones_for_each_seed_and_none_is_judged_by(small_search):
    drawn = {}
    for seed in range(4):
        few, known, held_out = search.read_images(small_search, search.Trial("today", "COVID19", 6, 1, seed))
        drawn[seed] = {image.tobytes() for image in few}
        assert len(drawn[seed]) == 6 and drawn[seed] <= {image.tobytes() for image in known}
        assert not drawn[seed] & {image.tobytes() for image in held_out}
    assert len(set.union(*drawn.values())) > 6


def test_as_many_updates_as_fit_into_the_minutes(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "FOLDER", tmp_path)
    monkeypatch.setattr(search, "CANDIDATES", dict.fromkeys(["today", "fast"]))
    times = pd.DataFrame({"candidate": ["today"] * 3 + ["fast"] * 3, "seconds": [0.5, 0.4, 9.0, 0.05, 0.05, 0.05]})
    search.publish_speeds(times)  # the median of three rounds
    assert [search.count_updates(name, 10) for name in ("today", "fast")] == [1200, 12_000]
    assert search.count_updates("today", 0.01) == 100


def test_a_candidate_timed_later_on_a_slower_machine_is_scaled_by_todays_recipe(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "FOLDER", tmp_path)
    monkeypatch.setattr(search, "CANDIDATES", dict.fromkeys(["today", "fast", "finer"]))
    utils.write_table(
        pd.DataFrame({"candidate": ["today", "fast"], "median": [600.0, 900.0], "min": 590.0, "max": 950.0}),
        tmp_path / "updates_a_minute.csv",
    )
    disk.write_json(
        tmp_path / "updates_a_minute_machine.json", {"device": "theirs", "added": {"earlier": {"device": "a third"}}}
    )
    search.publish_speeds(pd.DataFrame({"candidate": ["today"] * 3 + ["finer"] * 3, "seconds": [0.2] * 3 + [0.4, 0.5, 0.3]}))
    assert [search.count_updates(name, 10) for name in ("today", "fast", "finer")] == [6000, 9000, 3000]
    timed = {"device": backend.device_name(), "rounds": search.ROUNDS, "median_of_today": 300.0}
    added = {"earlier": {"device": "a third"}, "finer": timed}
    assert disk.read_json(tmp_path / "updates_a_minute_machine.json") == {"device": "theirs", "added": added}


def test_fakes_are_compared_with_images_from_all_over_the_held_out_ones(monkeypatch):
    """The first files of a folder are often of the same few patients."""
    seen = []

    def note(real, fake):
        seen.append(real[:, 0].tolist())
        return dict.fromkeys(("precision", "recall", "coverage"), 1.0)

    def space(images):
        return images.reshape(len(images), -1)[:, :2].astype(float)

    space.name = "features"
    held_out = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    drawn = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
    judges = SimpleNamespace(
        spaces=[space], held_out={"features": space(held_out)}, tell_real_from_fake=lambda _: {"accuracy": 1}
    )
    monkeypatch.setattr(search.fidelity, "precision_recall_density_coverage", note)
    monkeypatch.setattr(search.fidelity, "kernel_distance", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(search.memorisation, "find_copies", lambda *_: SimpleNamespace(summary={"copies": 0, "alarm": False}))
    for _ in range(2):
        search.judge_fakes(judges, drawn, held_out[:10], held_out)
    assert seen[0] == seen[1] and len(set(seen[0])) == 50
    assert np.histogram(seen[0], bins=4, range=(0, 200))[0].min() > 5, "of each quarter"


@pytest.mark.slow
def test_trials_that_are_one_program_end_where_each_alone_ends():
    """With JAX, in float32: two GANs of other seeds on other numbers of images. Later, rounding alone makes them differ."""
    script = """
import numpy as np
from dataclasses import replace
from benchmarks import together
from xraygan.gan import dcgan
from xraygan.gan.recipe import RECIPES

recipe, rng = replace(RECIPES["dcgan"], image_size=32, updates=2), np.random.default_rng(0)
sets = [rng.integers(0, 256, (count, 32, 32, 1), dtype=np.uint8) for count in (9, 25)]
together_trained = [dcgan.make_gan(recipe, seed) for seed in (3, 4)]
together.STEPS_A_CALL = 1
together.fit(together_trained, sets, (3, 4))
for trained, images, seed in zip(together_trained, sets, (3, 4)):
    alone = dcgan.make_gan(recipe, seed)
    before = [np.array(variable.value) for variable in alone.averaged_generator.variables]
    alone.fit(dcgan.make_batches(images, recipe, seed), steps_per_epoch=2, verbose=0, shuffle=False)
    for one, other in zip(alone.variables, trained.variables):
        np.testing.assert_allclose(one.value, other.value, atol=1e-5)
    assert any(np.abs(old - new.value).max() > 1e-4 for old, new in zip(before, alone.averaged_generator.variables))
"""
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT), "KERAS_BACKEND": "jax"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_a_checkerboard_is_known_by_its_detail_in_every_other_row():
    even = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 1), dtype=np.uint8)
    assert search.checkerboard(even) < 0.02
    uneven = even.copy()
    uneven[:, 1::2] = (
        uneven[:, ::2].astype(int) + np.roll(uneven[:, ::2], -1, axis=1)
    ) // 2  # what lies between two rows is their mean
    assert search.checkerboard(uneven) > 0.1


# What is compared


def test_what_determinism_costs_is_taken_within_a_round():
    seconds = [("GAN epoch", turn, 1.1 * slow, slow) for turn, slow in enumerate((1, 5, 2))]
    table = determinism.summarise(pd.DataFrame(seconds, columns=["part", "round", "deterministic", "not_deterministic"]))
    assert table.to_dict("records") == [
        {"part": "GAN epoch", "deterministic": 2.2, "not_deterministic": 2, "ratio": 1.1},
    ]


def test_precisions_are_compared_in_each_arm_and_arms_in_each_precision():
    labels, setting = np.repeat(["a", "b"], 10), Setting(("a", "b"), "b")
    files, half = [f"{number}.png" for number in range(20)], np.arange(20) % 2 == 0
    right = pd.DataFrame(
        {"file": files, "label": labels, "prediction": labels, "likeliest": labels, "probability": labels == "b"}
    )
    wrong = right.assign(prediction=np.where(half, labels, np.where(labels == "a", "b", "a")))
    predictions = {f"{name}, {arm}": [right] * 3 for name in ("float32", "mixed_bfloat16") for arm in precision.ARMS}
    predictions["float32, nothing"] = [wrong] * 3
    table = precision.compare(predictions, setting, pd.Series(range(20), files))
    table = table[table["metric"] == "balanced_accuracy"].set_index(["first", "second"])["difference"]
    assert table.to_dict() == {
        ("float32, nothing", "mixed_bfloat16, nothing"): 0.5,
        ("float32, gan", "mixed_bfloat16, gan"): 0,
        ("float32, nothing", "float32, gan"): 0.5,
        ("mixed_bfloat16, nothing", "mixed_bfloat16, gan"): 0,
    }


def test_a_precision_has_folders_of_its_own_that_start_after_notebook_1(phantom_folder):
    study = begin_study(phantom_folder, "both-precisions")
    copy = precision.copy_study(study, "float32")
    assert (copy.run, copy.precision, copy.recipe.image_size) == ("both-precisions-float32", "float32", 128)
    assert copy.own == study.own and len(copy.load_baseline().weights) == len(study.load_baseline().weights)


def test_the_audits_pairs_are_counted_as_by_hand(phantom_images):
    images = phantom_images.choose(("COVID19",), "COVID19")
    keys = np.arange(len(images.files))
    keys[[0, 1, 2]] = 0  # three of one patient: three pairs
    keys[[5, -1]] = 5  # a pair over train and test
    true = audit.list_pairs(images, keys)
    assert len(true) == 4 and len(audit.keep_pairs_across(true, images)) == 1
    proposed = audit.list_pairs(images, np.where(keys == 5, 5, np.arange(len(keys)))) | {("a", "b")}
    expected = {"pairs_found": 2, "pairs_true": 4, "in_both": 1, "precision": 0.5, "recall": 0.25}
    assert audit.score_pairs(proposed, true) == expected
    assert audit.lowest_correlation(set(), images) is None
    first, second = sorted(true)[0]
    by_hand = np.corrcoef(*(images.images[images.find_rows([file])[0]].ravel().astype(float) for file in (first, second)))[0, 1]
    assert audit.lowest_correlation({(first, second)}, images) == pytest.approx(by_hand, abs=6e-4)


def test_the_reach_of_the_search_for_copies_is_counted(phantom_images, monkeypatch):
    """Each picture has one changed copy: a mirrored one is found, one cut to a fifth isn't, and no other pair counts as recall."""
    monkeypatch.setattr(near_copies, "NUM_COPIES", 10)
    monkeypatch.setattr(near_copies, "NUM_OTHERS", 20)
    few = {"mirrored": near_copies.CHANGES["mirrored"], "cut": (near_copies.CHANGES["cut on every side, %"][0], (3, 40))}
    monkeypatch.setattr(near_copies, "CHANGES", few)
    rows = np.arange(len(phantom_images.files))
    table, others = near_copies.measure_reach(phantom_images, rows)
    table = table.set_index(["change", "amount"])
    assert table["recall"].to_dict() == {("mirrored", 1): 1, ("cut", 3): 1, ("cut", 40): 0}
    assert (
        (table["pairs_of_patients"] == 0).all()
        and not others
        and (table["images"] == 10).all()
        and (table["among"] == 40).all()
    )


@pytest.mark.parametrize("name", near_copies.CHANGES)
def test_a_change_of_a_file_does_what_it_says(phantom_images, name):
    """The more of it, the further from the picture as it was, and the size of the picture may change but not become nothing."""
    path = phantom_images.source.root / phantom_images.files[0]
    change, amounts = near_copies.CHANGES[name]
    picture = near_copies.open_picture(path)
    changed = [change(picture, amount, np.random.default_rng(0)) for amount in amounts]
    assert all(min(each.size) > 0.7 * min(picture.size) for each in changed)
    apart = [np.abs(np.asarray(each.resize(picture.size), float) - np.asarray(picture, float)).mean() for each in changed]
    assert min(apart) > 0 and (name.startswith(("contrast", "brighter", "cut on")) or apart == sorted(apart))


def test_a_shifted_file_has_a_black_border(phantom_images):
    picture = near_copies.open_picture(phantom_images.source.root / phantom_images.files[0])
    for seed in range(8):
        moved = np.asarray(near_copies.shift(picture, 10, np.random.default_rng(seed)))
        black = moved == 0
        assert black[:12].all() != black[-12:].all() and black[:, :12].all() != black[:, -12:].all()


def test_a_picture_that_equals_anothers_copy_is_no_recall(phantom_images, monkeypatch):
    """Two patients, one picture: neither counts as the other's own copy, and the pair is named."""
    images = phantom_images.images.copy()
    images[15] = images[2]
    monkeypatch.setattr(near_copies, "NUM_COPIES", 10)
    monkeypatch.setattr(near_copies, "NUM_OTHERS", 20)
    monkeypatch.setattr(near_copies, "CHANGES", {"mirrored": near_copies.CHANGES["mirrored"]})
    table, others = near_copies.measure_reach(dataclasses.replace(phantom_images, images=images), np.arange(30))
    assert others == {(2, 15)} and table.loc[0, "pairs_of_patients"] == 1 and table.loc[0, "recall"] == 1


def test_pairs_of_two_patients_are_listed_with_their_numbers(phantom_images):
    images = phantom_images.images.copy()
    images[7] = images[3, :, ::-1]
    data = dataclasses.replace(phantom_images, images=images)
    rows, pairs = near_copies.choose_different(data, np.arange(len(images)))
    assert sorted(rows[pairs].ravel()) == [3, 7]
    (row,) = near_copies.describe_pairs(data, rows[pairs]).to_dict("records")
    assert {row["first"], row["second"]} == set(data.files[[3, 7]])
    assert row["correlation_of_aligned_detail"] > 0.99 > row["correlation_as_they_are"]


# Growth


def test_drawn_images_are_different_pictures():
    """Also where there are more than drawings: each pair of drawings meets once."""
    images = scale.draw_images(90, num_drawn=30)
    assert images.shape == (90, 128, 128, 1) and images.std() > 20
    assert len(near_copies.near_copies.find_pairs(images)) == 0


def test_growth_is_the_exponent_between_two_sizes():
    sizes = [{"stage": stage, "images": n, "cpu_seconds": s} for stage, n, s in [("a", 10, 1), ("b", 10, 0.1), ("a", 100, 100)]]
    table = scale.add_growth(pd.DataFrame([*sizes, {"stage": "b", "images": 100, "cpu_seconds": 0.2}]))
    assert table["stage"].tolist() == ["a", "a", "b", "b"] and table["images"].tolist() == [10, 100, 10, 100]
    assert table["exponent"].dropna().tolist() == [2]


@pytest.mark.slow
def test_every_stage_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "NUM_FAKES", 40)
    monkeypatch.setattr(scale, "NUM_FILES", 20)
    rows = pd.DataFrame(scale.run_stages(150, tmp_path))
    assert rows["stage"].is_unique and rows["stage"].str[:3].isin(["1: ", "2: "]).all()
    assert (rows["images"] == 150).all() and (rows["peak_memory_gb"] > 0.1).all() and (rows["cpu_seconds"] >= 0).all()
    assert rows.set_index("stage")["worked_on"][["1: read files", "1: split", "2: write fakes"]].tolist() == [20, 150, 40]
    total = scale.sum_up(rows)
    assert total["cpu_seconds"].tolist() == [pytest.approx(rows["cpu_seconds"].sum())]
    assert total["peak_memory_gb"].tolist() == [rows["peak_memory_gb"].max()]


def test_a_patients_name_counts_within_a_class_and_an_unknown_patient_alone():
    table = pd.DataFrame({"file": ["a", "b", "c", "d"], "class": ["X", "X", "Y", "Y"]})
    patients = audit.name_patients(table, pd.Series({"a": "1", "b": "1", "c": "1"}))
    assert patients.to_dict() == {"a": "X 1", "b": "X 1", "c": "Y 1", "d": "d"}


# The published study, read by its files' names


def test_published_predictions_are_those_of_the_files():
    files = published_study.list_facts("2-classes", "gan")
    tables = [published_study.read_called_by_shares(file) for file in files]
    assert len(tables) == 5 and all(len(table) == 433 for table in tables)
    facts = disk.read_json(files[0])
    assert (tables[0]["likeliest"] != tables[0]["label"]).sum() == facts["metrics"]["errors"]
    assert len(published_study.list_facts("2-classes", "nothing")) == 10  # with the seeds of `same_arm`
    with pytest.raises(FileNotFoundError, match="no training of the arm 'gan' with 3 images more"):
        published_study.list_facts("2-classes", "gan", 3)


def test_the_same_arm_on_published_files_gives_what_is_published():
    group_of = published_study.read_published_split().set_index("file")["group"]
    found = same_arm.read_published()
    rows = [{"setting": name} | row for name, of in found.items() for row in same_arm.compare_halves(*of, group_of)]
    published = utils.read_table(machine.PUBLISHED / "same_arm.csv")
    pd.testing.assert_frame_equal(pd.DataFrame(rows), published, check_dtype=False, atol=1e-6)
    assert set(published["outcome"]) == {"equivalent"}, "a false alarm"


# As commands


@pytest.mark.parametrize(
    "benchmark",
    [
        steps,
        pipeline,
        determinism,
        precision,
        audit,
        same_arm,
        search,
        error_rates,
        rescore,
        scale,
        scarcity,
        variance_parts,
    ],
)
def test_a_benchmark_says_how_it_is_started(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [benchmark.__file__, "--help"])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 0 and f"python -m {benchmark.__name__}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_is_timed_in_a_process_of_its_own():
    measured = pipeline.measure("classifier epoch", "float32", 128)
    assert measured["seconds"] > 0 and measured["peak_memory_gb"] > 0.1
