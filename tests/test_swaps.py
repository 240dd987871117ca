"""To change one thing, one place: a loss, an image size, a classifier, an arm, a kind of extra images, a metric."""

import dataclasses
import inspect

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from keras import layers, ops
from test_units import TINY, TWO, prepare

from xraygan import keys, run
from xraygan.comparison import arms, classifier, gans, inspection, metrics, plan, tables, units, verdict, workers
from xraygan.comparison import study as studies
from xraygan.comparison.profile import load_profile
from xraygan.comparison.units import Unit
from xraygan.data import audit, split
from xraygan.gan import dcgan, fidelity, losses, memorisation
from xraygan.gan.recipe import Recipe
from xraygan.report import figures

SMALL = dataclasses.replace(TINY, image_size=32, classifier_epochs=1, num_fakes=12)


@pytest.fixture(scope="module")
def study(tmp_path_factory, phantom_folder):
    """What notebooks 1 and 2 leave, with images of 32 pixels."""
    return prepare(tmp_path_factory.mktemp("swaps"), phantom_folder, SMALL, also=())


# A loss


def judge_by_squares(real_logits, fake_logits):
    """Least squares (Mao et al. 2017, arXiv:1611.04076): real images are to be rated 1, fakes 0."""
    return ops.mean(ops.square(real_logits - 1)) + ops.mean(ops.square(fake_logits))


def generate_by_squares(fake_logits):
    """Fakes are to be rated 1."""
    return ops.mean(ops.square(fake_logits - 1))


LEAST_SQUARES = losses.Loss(judge_by_squares, generate_by_squares)


def test_another_loss_is_two_functions_and_one_entry(monkeypatch, folders, rng):
    lines = [line for function in (judge_by_squares, generate_by_squares) for line in inspect.getsource(function).splitlines()]
    assert len(lines) + 1 <= 15
    monkeypatch.setitem(losses.LOSSES, "least_squares", LEAST_SQUARES)
    images = rng.integers(0, 256, (16, 32, 32, 1), dtype=np.uint8)
    recipe = Recipe(loss="least_squares", image_size=32, updates=4, sample_every=2)
    assert recipe.describe() != dataclasses.replace(recipe, loss="logistic").describe()
    gan = dcgan.GAN(recipe, seed=0)
    (d_loss, g_loss), _ = gan.judge(ops.ones((8, 32, 32, 1)), ops.zeros((8, 32, 32, 1)))
    assert float(d_loss) >= 0 and float(g_loss) >= 0
    _, epoch, history = dcgan.train_gan(images, recipe, 0, folders)
    assert epoch == 2 and np.isfinite(history[["d_loss", "g_loss"]]).all(axis=None)
    assert figures.draw_gan_losses(history, recipe.loss, "least squares").axes


# An image size


@pytest.mark.parametrize("image_size", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_another_image_size_is_one_number_of_the_profile(image_size, tmp_path, phantom_folder):
    """All that the notebooks call, with few images and one epoch: the profile's number alone differs."""
    sizes = {"max_train_images": 60, "classifier_epochs": 1, "classifier_updates": 0, "classifier_patience": 1}
    sizes |= {"gan_updates": 2, "gan_sample_every": 1, "num_fakes": 12, "num_seeds": 1, "image_size": image_size}
    profile = tmp_path / "size.yaml"
    profile.write_text(yaml.safe_dump(sizes | {"arms": ["nothing", "oversampling", "gan", "classical"]}))
    shared = {"DATA": str(phantom_folder), "PROFILE": str(profile), "RUN": f"size-{image_size}", "PRECISION": "float32"}

    asked = {
        "CLASSES": "",
        "MINORITY": "",
        "ALSO": "",
        "GROUPS": "",
        "ON_LEAK": "drop",
        "SEED": 0,
        "CLASSIFIER": "study_cnn",
        "TEST_SHARE": 0.0,
    }
    beginning = studies.begin(**shared, **asked)
    assert beginning.images.images.shape[1:] == (image_size, image_size, 1)
    groups = audit.find_groups(beginning.images, beginning.patients)
    table = split.make_split(beginning.images, groups, max_train_images=beginning.profile.max_train_images)
    study = beginning.start_study(table, audit.count_leaks(beginning.images, groups))
    shortcuts = audit.shortcuts_by_setting(study.dataset, study.settings)
    assert shortcuts["balanced_accuracy"].between(0, 1).all()
    run.write_table(shortcuts, study.folders, "shortcuts.csv")
    before = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "before")
    assert before.model.input_shape == (None, image_size, image_size, 1)

    study = studies.open_study(**shared, GAN_RECIPE="dcgan")
    real, held_out = (study.dataset.select_class([study.own.minority], part) for part in ("train", "validation"))
    judge = fidelity.make_judge(study.load_baseline(), real, held_out)
    generator, _, history = dcgan.train_gan(real, study.recipe, study.seed, study.folders, judge)
    gans.save_generator(study, generator)
    assert generator.output_shape == (None, image_size, image_size, 1) and len(history) == 1

    study = studies.open_study(**shared)
    gans.ensure_fakes(study, plan.plan_after(study))
    fakes = gans.read_fakes(study, study.own, study.seed)
    assert fakes.shape == (12, image_size, image_size, 1)
    quality = judge.table({"fakes": fakes, "noise": fidelity.draw_uniform(12, image_size)})
    assert np.isfinite(quality["kid"]).all() and len(quality) == 2 * 2
    assert memorisation.nearest(np.concatenate([real[:2], fakes[:2]]), real, held_out)["copy"].tolist()[:2] == [True, True]
    after = units.train_and_keep(study, plan.plan_after(study), "after_gan", "after")
    assert inspection.grad_cam(after.model, real[:3]).shape == (3, image_size // 8, image_size // 8)
    units.train_unit(study, Unit(study.own, "classical", 0, 12))
    rows = tables.tabulate_units(study, plan.plan_comparison(study))
    assert rows["arm"].tolist() == ["nothing", "gan", "classical"]


# A classifier


def residual_cnn(image_size, num_classes, next_seed):
    """Three residual blocks with batch norm, then the mean over places."""

    def convolve(x, filters, stride=1):
        weights = keras.initializers.HeNormal(next_seed())
        return layers.BatchNormalization()(layers.Conv2D(filters, 3, stride, "same", kernel_initializer=weights)(x))

    image = keras.Input((image_size, image_size, 1))
    x = convolve(image, 8, 2)
    for filters in (8, 16, 32):
        inner = layers.ReLU()(convolve(x, filters, 2))
        x = layers.ReLU()(layers.Add()([convolve(inner, filters), convolve(x, filters, 2)]))
    return keras.Model(image, classifier.add_decision(layers.GlobalAveragePooling2D()(x), num_classes, next_seed))


def test_another_classifier_is_one_function_and_one_entry(tmp_path, phantom_folder, monkeypatch):
    monkeypatch.setitem(classifier.NETWORKS, "residual_cnn", residual_cnn)
    run_through_a_study("residual_cnn", SMALL, tmp_path, phantom_folder)


def run_through_a_study(network, profile, tmp_path, phantom_folder):
    """Train a network of the registry whose last maps have 2×2 places, then all that looks inside it; returns the network."""
    study = prepare(tmp_path, phantom_folder, profile, also=())
    before = study.classifier.describe(2)["network"]
    study = dataclasses.replace(study, classifier=dataclasses.replace(profile.make_classifier(network), batch_size=32))
    described = study.classifier.describe(2)["network"]
    assert described != before
    keys.describe_network.cache_clear()
    assert study.classifier.describe(2)["network"] == described, "two networks of one description have one key"

    trained = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
    baseline = study.load_baseline()
    for one, other in zip(trained.model.get_weights(), baseline.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    test = study.dataset.select_all(study.own)["test"]
    outputs = classifier.predict(baseline, test.images)[:, 0]
    np.testing.assert_allclose(outputs, trained.predictions["probability"], atol=1e-6)

    real, held_out = (study.dataset.select_class([study.own.minority], part) for part in ("train", "validation"))
    heat = inspection.grad_cam(baseline, real[:3])
    assert heat.shape == (3, 2, 2) and heat.min() >= 0 and heat.max() <= 1
    judge = fidelity.make_judge(baseline, real, held_out)
    assert np.isfinite(judge.distances(real[:12])["kid"])
    points, share = inspection.map_features(baseline, {"real": real}, real)
    assert points["real"].shape == (len(real), 2) and 0 < share <= 1
    assert inspection.count_found({"before": trained}, {"real": real}, study.own).shape == (1, 1)
    three = study.classifier.build(3)
    assert three.output_shape == (None, 3) and inspection.grad_cam(three, real[:2], label=2).shape == (2, 2, 2)
    return baseline


def test_the_heat_of_a_network_that_averages_places_lies_about_what_it_sees(monkeypatch):
    """One bright spot in a dark image: no place that doesn't see it has any heat."""
    monkeypatch.setitem(classifier.NETWORKS, "residual_cnn", residual_cnn)
    model = classifier.Classifier("residual_cnn", image_size=128).build(2)
    dense = model.layers[-1]
    dense.kernel.assign(np.abs(dense.kernel.numpy()))
    images = np.zeros((1, 128, 128, 1), np.uint8)
    images[:, 112:120, 8:16] = 255
    heat = inspection.grad_cam(model, images)[0]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.shape == (8, 8) and row >= 5 and column <= 2
    assert not heat[:4].any() and not heat[:, 4:].any()


# An arm


def test_another_arm_is_one_entry(study, monkeypatch, tmp_path):
    """It gets fakes, comes after its GAN, may stand in a profile, and is compared and drawn as the others are."""
    monkeypatch.setitem(arms.ARMS, "diffusion", arms.Arm("fakes of another generator", adds=(("fakes", 1.0),)))
    profile = tmp_path / "more.yaml"
    named = {"arms": [*arms.NEEDED, "diffusion"]}
    profile.write_text(yaml.safe_dump({name: value for name, value in vars(SMALL).items() if name != "arms"} | named))
    assert "diffusion" in load_profile(str(profile)).arms
    wanted = plan.list_units(TWO, ["nothing", "diffusion"], [0], 12)
    first, then = workers.order_jobs(wanted)
    assert [(function, unit.arm) for function, unit in first] == [
        (gans.ensure_fakes, "diffusion"),
        (units.train_unit, "nothing"),
    ]
    assert [(function, unit.arm) for function, unit in then] == [(units.train_unit, "diffusion")]
    for function, unit in [*first, *then]:
        function(study, unit)
    table = tables.tabulate_units(study, wanted)
    assert table.set_index("arm")["extra_images"].to_dict() == {"nothing": 0, "diffusion": 12}
    assert figures.draw_arms(table, "arms").axes
    assert {("diffusion", "gan"), ("nothing", "diffusion")} <= set(verdict.list_contrasts(load_profile(str(profile)).arms))


def invert_real(name, sources, count, seed):
    """Negatives of real images."""
    return 255 - arms.copy_real(name, sources, count, seed)


def test_another_kind_of_extra_images_is_one_function_and_one_entry(study, monkeypatch):
    monkeypatch.setitem(arms.ADDITIONS, "negatives", invert_real)
    monkeypatch.setitem(arms.ARMS, "inverted", arms.Arm("negatives and copies", adds=(("negatives", 0.5), ("copies", 0.5))))
    sources = arms.Sources(study.dataset.select_class(["COVID19"], "train"))
    extra = arms.make_extra_images("inverted", sources, 12, seed=0)
    np.testing.assert_array_equal(255 - extra[:6], arms.copy_real("", sources, 6, 0))
    unit = Unit(TWO, "inverted", 0, 12)
    assert [function for function, _ in workers.order_jobs([unit])[0]] == [units.train_unit]
    key = units.find_files(study, unit).facts
    units.train_unit(study, unit)
    assert key.exists() and tables.tabulate_units(study, [unit])["extra_images"].tolist() == [12]


# A metric


def negative_predictive_value(answers):
    """The share of those called negative that are."""
    return float((~answers.positive)[~answers.called].mean()) if (~answers.called).any() else None


def test_another_metric_is_one_function_and_one_entry_and_holds_for_trainings_that_came_before(study, monkeypatch, tmp_path):
    unit = Unit(TWO, "oversampling", 3, 12)
    units.train_unit(study, unit)
    assert "npv" not in tables.tabulate_units(study, [unit])
    monkeypatch.setitem(metrics.METRICS, "npv", metrics.Metric("negative predictive value", negative_predictive_value))

    table = pd.DataFrame(
        {
            "label": ["ill", "ill", "well", "well"],
            "prediction": ["ill", "well", "well", "well"],
            "likeliest": ["ill", "well", "well", "well"],
            "probability": [0.9, 0.2, 0.1, 0.3],
        }
    )
    scores = metrics.compute_metrics(table, ("well", "ill"), "ill")
    assert scores["npv"] == pytest.approx(2 / 3)
    never = scores | {"npv": None}
    compared = metrics.compare_before_after(scores, never)
    compared.to_csv(tmp_path / "compared.csv", index=False)
    shown = metrics.format_before_after(pd.read_csv(tmp_path / "compared.csv"))
    assert shown.loc["negative predictive value"].tolist() == ["0.667", "undefined", "undefined"]
    assert metrics.format_metrics({"baseline": scores}).loc["negative predictive value", "baseline"] == "0.667"

    predictions = tables.read_unit_predictions(study, unit)
    expected = metrics.compute_metrics(predictions, TWO.classes, TWO.minority)["npv"]
    assert tables.tabulate_units(study, [unit])["npv"].tolist() == [expected]
    kept = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
    monkeypatch.setitem(
        metrics.METRICS, "called", metrics.Metric("called ill", lambda answers: int(answers.called.sum()), is_count=True)
    )
    again = units.train_and_keep(study, plan.plan_baseline(study), "before_gan", "")
    assert again.metrics == kept.metrics | {"called": int((kept.predictions["prediction"] == "COVID19").sum())}
