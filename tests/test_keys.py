"""The key of a unit: whatever changes a number makes another unit; a comment or a local name doesn't."""

import dataclasses
import functools
import importlib
import inspect
import itertools
import linecache
import os
import re
import subprocess
import sys
import textwrap
import types

import keras
import pytest
from test_units import SCARCE, TWO, prepare

import utils
from xraygan import backend, disk, keys, run, training
from xraygan.comparison import arms, classifier, units
from xraygan.comparison.classifier import Classifier
from xraygan.comparison.profile import load_profile
from xraygan.comparison.units import Unit
from xraygan.data.dataset import Dataset, Setting
from xraygan.data.sources import ImageSet
from xraygan.gan import augmentation, dcgan, losses, networks, operations
from xraygan.gan.recipe import Recipe
from xraygan.training import SavedState

PLAIN_ARM, GAN_ARM = Unit(TWO, "nothing", 0, 24), Unit(TWO, "gan", 0, 24)


@pytest.fixture(scope="module")
def study(tmp_path_factory, phantom_folder):
    return prepare(tmp_path_factory.mktemp("keys"), phantom_folder)


def find_key(study, unit=GAN_ARM):
    return keys.digest(units.describe_unit(study, unit))


def change(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, *value[:1]) if value else (("fakes", 1.0),)
    return value * 2 if value else type(value)(3)


def replace_field(description, name, registry=()):
    """The description with another value in one field; a name of a registry becomes another one of it."""
    value = getattr(description, name)
    other = next(entry for entry in registry if entry != value) if isinstance(value, str) else change(value)
    return dataclasses.replace(description, **{name: other})


# Every field


REGISTRIES = {
    "generator": networks.GENERATORS,
    "discriminator": networks.DISCRIMINATORS,
    "loss": losses.LOSSES,
    "augmentation": augmentation.AUGMENTATIONS,
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_every_field_of_a_recipe_is_in_the_key_of_arms_with_fakes_and_of_no_other(study, name):
    changed = dataclasses.replace(study, recipe=replace_field(study.recipe, name, REGISTRIES.get(name, ())))
    assert find_key(changed) != find_key(study)
    assert find_key(changed, PLAIN_ARM) == find_key(study, PLAIN_ARM)


def build_flat(image_size, num_classes, next_seed):
    image = keras.Input((image_size, image_size, 1))
    return keras.Model(image, classifier.add_decision(keras.layers.Flatten()(image), num_classes, next_seed))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Classifier)])
def test_every_field_of_a_classifier_is_in_the_key(study, name, monkeypatch):
    monkeypatch.setitem(classifier.NETWORKS, "flat", build_flat)
    changed = dataclasses.replace(study, classifier=replace_field(study.classifier, name, classifier.NETWORKS))
    for unit in (PLAIN_ARM, GAN_ARM):
        assert find_key(changed, unit) != find_key(study, unit)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(arms.Arm)])
def test_every_field_of_an_arm_but_its_words_is_in_the_key(study, name, monkeypatch):
    unit = dataclasses.replace(GAN_ARM, arm="gan_and_classical")
    before, others = find_key(study, unit), find_key(study)
    changed = replace_field(arms.ARMS[unit.arm], name, ["in other words"])
    monkeypatch.setitem(arms.ARMS, unit.arm, changed)
    assert (find_key(study, unit) == before) == (name == "explained")
    assert find_key(study) == others, "the key of another arm"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Setting)])
def test_every_field_of_a_setting_is_in_the_key(study, name):
    changed = {"classes": ("COVID19", "NORMAL"), "minority": "NORMAL"}.get(name) or change(getattr(SCARCE, name))
    for arm in ("nothing", "gan"):
        unit = Unit(dataclasses.replace(SCARCE, classes=TWO.classes, minority=TWO.minority), arm, 0, 24)
        other = dataclasses.replace(unit, setting=dataclasses.replace(unit.setting, **{name: changed}))
        assert find_key(study, other) != find_key(study, unit)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Unit)])
def test_every_field_of_a_unit_is_in_the_key(study, name):
    changed = {"setting": SCARCE, "arm": "oversampling", "seed": 1, "num_extra": 25}[name]
    other = dataclasses.replace(GAN_ARM, **{name: changed})
    assert find_key(study, other) != find_key(study)


def test_the_number_of_extra_images_is_in_the_key_of_arms_that_use_it():
    unused = [name for name, arm in arms.ARMS.items() if not (arm.adds or arm.weighs)]
    assert unused == ["nothing", "on_the_fly"]


@pytest.mark.parametrize("arm", arms.ARMS)
def test_the_number_of_extra_images_counts_where_there_are_any(study, arm):
    unit = Unit(TWO, arm, 0, 24)
    same = find_key(study, dataclasses.replace(unit, num_extra=25)) == find_key(study, unit)
    assert same == (arm in ("nothing", "on_the_fly"))


# What is beside the descriptions


def test_precision_images_and_split_are_in_the_key(tmp_path, phantom_folder):
    study = prepare(tmp_path, phantom_folder)
    found = [find_key(study, PLAIN_ARM), find_key(dataclasses.replace(study, precision="mixed_bfloat16"), PLAIN_ARM)]
    run.note(study.folders, data=study.record["data"] | {"fingerprint": "of other pixels"})
    found.append(find_key(study, PLAIN_ARM))
    split_file = study.folders.results / "split.csv"
    split_file.write_text(split_file.read_text().replace(",validation,", ",train,", 1))
    found.append(find_key(study, PLAIN_ARM))
    assert len(set(found)) == 4


def test_the_baseline_that_judges_the_fakes_is_in_the_key_of_arms_with_fakes(tmp_path, phantom_folder):
    study = prepare(tmp_path, phantom_folder)
    before = {unit.arm: find_key(study, unit) for unit in (PLAIN_ARM, GAN_ARM)}
    run.note(study.folders, seed=5)
    assert find_key(study) != before["gan"] and find_key(study, PLAIN_ARM) == before["nothing"]


def test_the_keys_of_arms_without_fakes_are_these():
    """A study of days is known by them: an edit that changes one would train all of it again."""
    chosen = [Dataset.select_all, ImageSet.choose, ImageSet.find_rows, arms.rebalance, classifier.tabulate_predictions]
    assert keys.describe(chosen) == [
        "0b854050cdc7b581",
        "1bd8d1d4b6156216",
        "65d2d46617bfd5ee",
        "bdcd5bf2e8cf24a0",
        "dcbac6c1fd087cab",
    ]
    described = load_profile("study").make_classifier("study_cnn").describe(2)
    training_code = [
        "9a3060cc0639bad6",
        "76dbe28a0c0952a8",
        "06bd887cc4a9f4fb",
        "5b8fc6b5d4843809",
        "00da6117ab8298b9",
        "d22db9dc0b3f228c",
        "9ae593375a87041a",
        "170f56fc36e3719c",
        "1a1d99af21f2e851",
        "ccdd96526a0a02b9",
        "45deb59b6506bdc6",
        "63ea84dc3f15270b",
    ]
    assert described["code"] == training_code
    assert described["network"] == "495165438ff55677"
    arms_of_study = ("nothing", "class_weights", "oversampling", "classical", "on_the_fly", "more_real")
    found = [keys.digest(arms.ARMS[name].describe()) for name in arms_of_study]
    assert found == ["67567450", "6c4219fa", "069cbcea", "6ad373ef", "f7513539", "0a490b0d"]


def test_how_files_are_written_is_in_no_key(study, monkeypatch):
    """What a GAN's callbacks draw and judge is in the key, and what becomes of it on the disk isn't."""
    before = find_key(study)
    for module, name in ((disk, "replacing"), (utils, "write_table"), (training, "save_variables"), (dcgan, "FidelityCurve")):
        monkeypatch.setattr(module, name, lambda *_: None)
    keys.write_code.cache_clear()
    assert find_key(study) == before
    with monkeypatch.context() as patch:
        patch.setattr(dcgan, "NUM_JUDGED", 7)
        keys.write_code.cache_clear()
        assert find_key(study) != before
    keys.write_code.cache_clear()


# Networks are known as they are built


def one_filter_more(layer):
    """`layer` with one filter more wherever it makes several."""
    return lambda filters, *arguments, **named: layer(filters + (filters > 1), *arguments, **named)


@pytest.mark.parametrize(
    ("registry", "name", "module", "layer"),
    [
        (classifier.NETWORKS, "study_cnn", classifier.layers, "Conv2D"),
        (networks.GENERATORS, "upsampling", networks, "DoubleAndConvolve"),
        (networks.DISCRIMINATORS, "strided", networks, "ConvolveAndHalve"),
    ],
    ids=["classifier", "generator", "discriminator"],
)
def test_one_filter_more_is_another_unit_and_other_words_are_not(study, monkeypatch, registry, name, module, layer):
    before, build = find_key(study), registry[name]

    def in_other_words(*arguments):
        """Another docstring."""
        network = build(*arguments)  # another name
        return network

    def wider(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(module, layer, one_filter_more(getattr(module, layer)))
            return build(*arguments)

    monkeypatch.setitem(registry, name, in_other_words)
    assert find_key(study) == before
    monkeypatch.setitem(registry, name, wider)
    assert find_key(study) != before


def make_doubling():
    class Scale(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    return Scale()


def make_tripling():
    class Scale(keras.layers.Layer):
        def call(self, x):
            return 3 * x

    return Scale()


def build_with(*layers):
    def build(next_seed):
        x = image = keras.Input((8, 8, 1))
        for layer in layers:
            x = layer(next_seed)(x)
        return keras.Model(image, x)

    return build


def dense(next_seed, **arguments):
    return keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(next_seed()), **arguments)


def conv_block(next_seed, filters=3, last=keras.layers.ReLU):
    return keras.Sequential([keras.layers.Conv2D(filters, 3), last()])


def make_activation(factor):
    def activate(x):
        return keras.ops.relu(factor * x)

    return activate


def make_curve():
    def activate(x):
        return keras.ops.tanh(x)

    return activate


def with_weights(next_seed, value=1.0):
    """A layer whose weights come from a file, say."""
    layer = keras.layers.Dense(3)
    layer.build((None, 8, 8, 1))
    layer.kernel.assign([[0.0, value, 2.0]])
    return layer


VARIANTS = {
    "another size": (dense, lambda next_seed: keras.layers.Dense(5)),
    "another activation": tuple(functools.partial(dense, activation=name) for name in ("relu", "tanh")),
    "another code of one's own layer": (lambda next_seed: make_doubling(), lambda next_seed: make_tripling()),
    "another precision of a layer": (dense, functools.partial(dense, dtype="float32")),
    "a block inside": (conv_block, functools.partial(conv_block, filters=2)),
    "one's own layer in a block": tuple(functools.partial(conv_block, last=last) for last in (make_doubling, make_tripling)),
    "one's own activation": tuple(functools.partial(dense, activation=own) for own in (make_activation(2), make_curve())),
    "what an activation encloses": tuple(functools.partial(dense, activation=make_activation(factor)) for factor in (2, 3)),
    "pretrained weights": (with_weights, functools.partial(with_weights, value=1.5)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_network_computes_is_in_its_key(variant):
    one, other = (keys.describe_network(build_with(layer)) for layer in VARIANTS[variant])
    again = keys.describe_network(build_with(VARIANTS[variant][0]))
    assert one == again != other


def test_which_layer_takes_which_seed_is_in_the_key():
    def in_order(next_seed):
        first, second = dense(next_seed), dense(next_seed)
        image = keras.Input((4,))
        return keras.Model(image, second(first(image)))

    def the_other_way(next_seed):
        second, first = dense(next_seed), dense(next_seed)
        image = keras.Input((4,))
        return keras.Model(image, second(first(image)))

    assert keys.describe_network(in_order) != keys.describe_network(the_other_way)


def test_the_key_does_not_depend_on_what_this_process_computes_in(study):
    policy, found = keras.config.dtype_policy(), []
    for name in ("float32", "mixed_bfloat16"):
        keys.describe_network.cache_clear()
        keras.config.set_dtype_policy(name)
        try:
            found.append(find_key(study))
            assert keras.config.dtype_policy().name == name
        finally:
            keras.config.set_dtype_policy(policy)
    assert found[0] == found[1]


# Losses, augmentations, kinds of extra images and the update are known by their code


def last_fakes(name, sources, count, seed):
    return sources.fakes[-count:]


def shift_alone(images, seed, recipe):
    return augmentation.translate(images, seed, 3)


def fool(fake_logits):
    return keras.ops.mean(keras.ops.softplus(fake_logits))


def list_functions(entry):
    """The functions of a registry's entry."""
    return [entry] if callable(entry) else [value for value in vars(entry).values() if callable(value)]


@pytest.mark.parametrize(
    ("registry", "name", "changed"),
    [
        (losses.LOSSES, "logistic", dataclasses.replace(losses.LOSSES["logistic"], generator=fool)),
        (augmentation.AUGMENTATIONS, "cutout", shift_alone),
        (arms.ADDITIONS, "fakes", last_fakes),
    ],
    ids=["loss", "augmentation", "addition"],
)
def test_another_function_under_the_same_name_is_another_unit(study, monkeypatch, registry, name, changed):
    for function, there in zip(*map(list_functions, (changed, registry[name])), strict=True):
        assert inspect.signature(function) == inspect.signature(there), "it could take the other's place"
    before, plain = find_key(study), find_key(study, PLAIN_ARM)
    monkeypatch.setitem(registry, name, changed)
    assert find_key(study) != before
    assert find_key(study, PLAIN_ARM) == plain


def test_what_only_a_figure_shows_is_not_in_the_key(study, monkeypatch):
    before = find_key(study)
    monkeypatch.setitem(losses.LOSSES, "logistic", dataclasses.replace(losses.LOSSES["logistic"], at_chance=None))
    assert find_key(study) == before


def test_the_update_the_loss_and_the_choice_of_images_are_in_the_key(study, monkeypatch):
    """Each is replaced by another function of the same name; the keys follow."""

    def compile_network(model, learning_rate, num_classes):
        model.compile("sgd", "mse")

    def rebalance(name, setting, parts, num_extra, fakes, seed):
        return parts["train"]

    before = find_key(study)
    assert dcgan.make_gan in dcgan.CODE
    for module, name, other in (
        (classifier, "compile_network", compile_network),
        (arms, "rebalance", rebalance),
        (dcgan, "CODE", dcgan.CODE[1:]),
    ):
        assert name == "CODE" or inspect.signature(other) == inspect.signature(getattr(module, name)), "it could take its place"
        with monkeypatch.context() as patch:
            patch.setattr(module, name, other)
            assert find_key(study) != before, name
    assert find_key(study) == before


class Another:
    """What stands in the place of a class or function that was edited."""


def another(*arguments):
    return 1


def forget_code():
    keys.write_code.cache_clear()
    keys.describe_network.cache_clear()


OF_GANS = [
    (dcgan, "SteadyThenFalling", Another),
    (dcgan, "HalfPrecisionGAN", Another),
    (backend, "Adam", Another),
    (Recipe, "count_updates", another),
    (Recipe, "count_real", another),
    (operations, "_pull_kernel", another),
]
OF_ALL = [
    (Classifier, "count_epochs", another),
    (classifier, "_weigh_targets", another),
    (classifier, "predict", another),
    (SavedState, "is_stalled", another),
    (ImageSet, "choose", another),
    (arms, "Sources", Another),
]


@pytest.mark.parametrize(
    ("owner", "name", "edited"), OF_GANS + OF_ALL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_edited_class_method_or_helper_is_another_unit(study, monkeypatch, owner, name, edited):
    """Also what a function reaches through a class of this project."""
    before = {unit.arm: find_key(study, unit) for unit in (PLAIN_ARM, GAN_ARM)}
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, edited)
        forget_code()
        after = {unit.arm: find_key(study, unit) for unit in (PLAIN_ARM, GAN_ARM)}
    forget_code()
    assert after["gan"] != before["gan"]
    assert (after["nothing"] == before["nothing"]) == ((owner, name, edited) in OF_GANS)


def test_the_baseline_that_chooses_a_gans_epoch_is_in_its_key(study):
    """A longer training of the baseline is another judge."""
    longer = dataclasses.replace(study, classifier=dataclasses.replace(study.classifier, patience=99))
    described = (units.describe_unit(one, GAN_ARM)["gan"]["judge"] for one in (study, longer))
    assert len(set(described)) == 2


# Code as text

CODE = """
import functools
import keras
import numpy as np
from keras import ops
from keras.ops import relu as act
from helpers_of_{name} import OFFSET, TABLE, soften

SCALE = 2.0
EDGES = [0.5, 1.5]
KERNEL = np.array([1, 2, 3])
LARGEST = np.float32(4)
CORNERS = {"left", "right"}
PLACES = {("row", 1): 5}
halve = functools.partial(np.multiply, 0.5)


def first(x):
    return x + 3


def second(x):
    return x - 4


STEPS = [first, second]
CHOICES = {"first": first, "second": second}

def helper(x):
    return x * SCALE


def loss(real, fake, weight=1.5):
    \"\"\"What it is.\"\"\"
    from keras import layers
    # a comment
    total = ops.mean(act(helper(real)))
    spread = [OFFSET + entry for entry in EDGES]

    def inner(x):
        return x - total

    try:
        total = inner(soften(fake)) * weight
    except ValueError as error:
        raise ValueError("went wrong") from error
    marks = (KERNEL, LARGEST, "left" in CORNERS, PLACES, halve(x), [step(x) for step in STEPS], CHOICES[weight], loss)
    return total + sum(spread) + TABLE["low"] + layers.Rescaling(1)(fake) + len(marks)
"""
HELPERS = """
OFFSET = 1
TABLE = {"low": 1, "high": 2}


def soften(x):
    return deeper(x)


def deeper(x):
    return x + 1
"""
# Every edit of CODE or HELPERS that changes what is computed, and where it is seen
EDITS = {
    "the code itself": ("total + sum", "total - sum"),
    "a default": ("weight=1.5", "weight=2.5"),
    "a constant": ("SCALE = 2.0", "SCALE = 3.0"),
    "a constant that is a list": ("[0.5, 1.5]", "[0.5, 1.0]"),
    "a helper": ("x * SCALE", "x / SCALE"),
    "a number in an array": ("[1, 2, 3]", "[1, 2, 9]"),
    "the shape of an array": ("np.array([1, 2, 3])", "np.array([[1, 2, 3]])"),
    "the precision of an array": ("[1, 2, 3]", "[1, 2, 3], 'int32'"),
    "a number of NumPy": ("np.float32(4)", "np.float32(5)"),
    "a set": ('{"left", "right"}', '{"left", "top"}'),
    "a dict whose names are no text": ('("row", 1)', '("row", 2)'),
    "what a partial holds": ("0.5)", "0.25)"),
    "a function in a list": ("x - 4", "x - 5"),
    "the order of functions in a list": ("[first, second]", "[second, first]"),
    "an imported constant": ("OFFSET = 1", "OFFSET = 2"),
    "an imported dict": ('"low": 1', '"low": 3'),
    "a helper of an imported helper": ("x + 1\n", "x + 2\n"),
    "what a library's name stands for": ("relu as act", "softplus as act"),
    "an import inside": ("from keras import layers", "from keras import activations as layers"),
    "the order of operations": ("inner(soften(fake)) * weight", "soften(inner(fake)) * weight"),
    "a nested function": ("x - total", "total - x"),
    "what is caught": ("except ValueError", "except KeyError"),
}
REWORDED = {
    "a comment": ("# a comment", "# another\n    # comment"),
    "a docstring": ("What it is.", "Something\n    else."),
    "no docstring": ('    """What it is."""\n', ""),
    "a local variable": ("total", "result"),
    "arguments": ("fake", "made"),
    "a caught error's name": ("as error:", "as problem:"),
    "a message": ("went wrong", "is wrong"),
    "the order of a set": ('{"left", "right"}', '{"right", "left"}'),
    "an entry of a registry": ('"second": second', '"second": second, "third": first'),
    "line breaks": ("sum(spread) + TABLE", "(\n        sum(spread)\n    ) + TABLE"),
    "annotations": ("(real, fake, weight=1.5):", "(real: object, fake, weight: float = 1.5) -> float:"),
}


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """A function that writes CODE, edited, as a module of another name each time, imports it, and gives it."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(edit=None, names=()):
        name = f"code_{tmp_path.name}_{len(written)}"
        code, helpers = CODE, HELPERS
        if edit:
            assert edit[0] in code + helpers
            code, helpers = code.replace(*edit), helpers.replace(*edit)
        for old, new in names:
            code = re.sub(rf"\b{old}\b", new, code)
        (tmp_path / f"{name}.py").write_text(code.replace("{name}", name))
        (tmp_path / f"helpers_of_{name}.py").write_text(helpers)
        written.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)
        sys.modules.pop(f"helpers_of_{name}", None)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_changes_what_a_function_computes_changes_its_key(edit, write_module):
    assert keys.describe(write_module(EDITS[edit]).loss) != keys.describe(write_module().loss)


@pytest.mark.parametrize("edit", REWORDED)
def test_other_words_do_not_change_a_functions_key(edit, write_module):
    assert keys.describe(write_module(REWORDED[edit]).loss) == keys.describe(write_module().loss)


def test_other_names_in_nested_functions_and_of_aliases_do_not_change_the_key(write_module):
    before = write_module()
    for names in ([("inner", "nested")], [("act", "activation")], [("x", "value")], [("entry", "edge")], [("loss", "renamed")]):
        after = write_module(names=names)
        assert keys.describe(getattr(after, "renamed", None) or after.loss) == keys.describe(before.loss), names


def test_what_a_partial_holds_is_in_the_key():
    penalties = [functools.partial(losses.penalise_gradient, weight=weight) for weight in (1.0, 10.0)]
    assert keys.describe(penalties[0]) != keys.describe(penalties[1])


@pytest.mark.parametrize(("folder", "is_followed"), [("mine", True), ("site-packages", False), ("dist-packages", False)])
def test_ones_own_code_is_followed_and_that_of_an_installed_library_is_not(folder, is_followed, tmp_path, monkeypatch):
    """Colab and Debian install into dist-packages: a key that followed Keras there would be another on each machine."""
    name = f"helpers_in_{folder.replace('-', '_')}"
    place = tmp_path / folder
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    found = []
    for step, body in enumerate(("x + 1", "x + 2")):
        (place / f"{name}_{step}.py").write_text(f"def helper(x):\n    return {body}\n")
        (tmp_path / f"user_of_{name}_{step}.py").write_text(
            f"from {name}_{step} import helper\ndef use(x):\n    return helper(x)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        found.append(keys.describe(importlib.import_module(f"user_of_{name}_{step}").use))
    assert (found[0] != found[1]) == is_followed


def test_methods_that_exchange_their_names_change_the_key_of_a_class(write_module, tmp_path):
    """Others call them by these names: what `start` did, `end` does now."""
    found = []
    for names in (("start", "end"), ("end", "start")):
        name = f"class_{'_'.join(names)}"
        methods = "".join(f"    def {name}(self, x):\n        return x + {step}\n" for step, name in enumerate(names))
        (tmp_path / f"{name}.py").write_text(f"class Update:\n{methods}")
        importlib.invalidate_caches()
        found.append(keys.describe(importlib.import_module(name).Update))
    assert found[0] != found[1]


def test_recursion_ends():
    def countdown(number):
        return countdown(number - 1) if number else 0

    assert keys.describe(countdown) == keys.describe(countdown)


@pytest.fixture
def run_cell(monkeypatch):
    """A function that runs a notebook's cell as IPython does, and gives the notebook's names."""
    notebook = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    cells = itertools.count()

    def run(code):
        name = f"<cell {next(cells)}>"
        monkeypatch.setitem(linecache.cache, name, (len(code), None, code.splitlines(keepends=True), name))
        exec(compile(code, name, "exec"), vars(notebook))
        return notebook

    return run


def test_a_helper_and_a_constant_that_a_notebook_defines_anew_change_the_key(run_cell):
    """Though the function that uses them is still the one of the first cell."""
    notebook = run_cell("RATE = 1\n\ndef strength():\n    return 10 * RATE\n")
    run_cell("def loss(x):\n    return strength() * x\n")
    found = [keys.describe(notebook.loss)]
    for edit in ("def strength():\n    return 99 * RATE\n", "RATE = 2\n"):
        run_cell(edit)
        found.append(keys.describe(notebook.loss))
    run_cell("RATE = 1\n\ndef strength():\n    # as at first\n    return 10 * RATE\n")
    assert len(set(found)) == 3 and keys.describe(notebook.loss) == found[0]


def test_a_network_that_uses_what_a_notebook_defines_anew_has_another_key(run_cell):
    notebook = run_cell("import keras\n\ndef count_filters():\n    return 3\n")
    run_cell(
        "def build(next_seed):\n    image = keras.Input((8,))\n    return keras.Model(image, keras.layers.Dense(count_filters())(image))\n"
    )
    before = keys.describe_network(notebook.build)
    run_cell("def count_filters():\n    return 4\n")
    assert keys.describe_network(notebook.build) != before


def test_code_that_cannot_be_read_is_a_sentence(run_cell):
    """Python doesn't find the source of a notebook's class, and of nothing that is put together while a program runs."""
    space = {"__name__": "__main__"}
    exec("def unseen(x):\n    return x", space)
    notebook = run_cell("class Scale:\n    pass\n\ndef scale(x):\n    return Scale()(x)\n")
    for function in (space["unseen"], notebook.scale):
        with pytest.raises(ValueError, match="define a function by `def` in a file or in a notebook, and a class in a file"):
            keys.describe(function)


def test_a_constant_that_no_key_can_hold_is_a_sentence(write_module):
    module = write_module(("SCALE = 2.0", "SCALE = range(2)"))
    with pytest.raises(
        ValueError, match=r"key can't hold range\(0, 2\), a range: make it inside the function that uses it, or"
    ):
        keys.describe(module.loss)


# The same in every process


KEY = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    import keras
    keras.layers.Dense(1)  # the next layer of its kind is called dense_1
    import test_units as t
    study = t.make_study({store!r}, {data!r})
    for arm in t.arms.ARMS:
        print("KEY", t.units.find_files(study, t.Unit(t.TWO, arm, 0, 24)).facts.name)
""")


def test_the_key_is_the_same_in_another_process_with_another_hash_seed(study):
    code = KEY.format(tests=str(disk.ROOT / "tests"), store=study.store, data=study.data)
    environment = os.environ | {"PYTHONPATH": str(disk.ROOT), "PYTHONHASHSEED": "4711"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
    there = [line.removeprefix("KEY ") for line in output.splitlines() if line.startswith("KEY ")]
    assert there == [units.find_files(study, Unit(TWO, arm, 0, 24)).facts.name for arm in arms.ARMS]


def test_no_key_holds_what_differs_between_machines(study):
    """No address of an object, no folder: the same code in another place has the same key."""
    written = str(units.describe_unit(study, GAN_ARM)) + keys.write_code(dcgan.GAN) + keys.write_code(utils.to_unit)
    assert " at 0x" not in written and str(disk.ROOT) not in written and study.store not in written
