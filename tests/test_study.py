"""A study as notebooks 2 and 3 open it: what notebook 1 decided, or a sentence where they were asked for something else."""

import pytest
import yaml
from test_units import TINY, prepare

from xraygan import disk, run
from xraygan.comparison import gans
from xraygan.comparison.study import open_study, recall_study


@pytest.fixture
def opened(tmp_path, monkeypatch, phantom_folder):
    """A function that opens the study of a prepared run with a profile that has other values in some keys."""
    monkeypatch.setattr(disk, "STORE", tmp_path)
    study = prepare(tmp_path, phantom_folder)

    def open_with(precision="float32", **changes):
        profile = tmp_path / "tiny.yaml"
        content = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(TINY).items()}
        profile.write_text(yaml.safe_dump(content | changes))
        return open_study(DATA=str(phantom_folder), PROFILE=str(profile), RUN="study", PRECISION=precision)

    return study, open_with


def test_a_study_is_opened_as_notebook_1_began_it(opened, capsys, phantom_folder):
    study, open_with = opened
    assert open_with() == study
    assert "Run study: 30 training images of COVID19." in capsys.readouterr().out
    assert recall_study(str(phantom_folder), "study", store=study.store) == study


def test_notebooks_2_and_3_refuse_other_settings_than_notebook_1s(opened):
    _, open_with = opened
    with pytest.raises(ValueError, match="PROFILE differs from notebook 1's \\('tiny'\\) in num_fakes: give all three"):
        open_with(num_fakes=25)
    with pytest.raises(ValueError, match="PROFILE differs .* in image_size"):
        open_with(image_size=64)
    with pytest.raises(ValueError, match="notebook 1 ran in float32, and this is mixed_bfloat16: set PRECISION = 'float32'"):
        open_with("mixed_bfloat16")


@pytest.mark.parametrize("name", ["classifier", "recipe"])
def test_a_record_of_a_later_version_is_one_sentence(opened, name):
    study, open_with = opened
    facts = run.read_record(study.folders)
    made = facts[name] if name in facts else vars(study.recipe)
    run.note(study.folders, **{name: made | {"colour": "blue"}})
    with pytest.raises(ValueError, match="record.json is of another version of this project: choose another name with RUN, or"):
        open_with()
    run.note(study.folders, **{name: facts.get(name)})


def test_notebooks_2_and_3_refuse_another_library_than_notebook_1s(opened, monkeypatch):
    study, open_with = opened
    machine = run.read_record(study.folders)["machine"]
    run.note(study.folders, machine=machine | {"backend": "jax"})
    with pytest.raises(ValueError, match="notebook 1 ran on jax, and this is tensorflow: set KERAS_BACKEND to jax, or choose"):
        open_with()
    run.note(study.folders, machine=machine)


def test_notebook_2_writes_down_the_recipe_that_it_was_asked_for(opened, tmp_path, phantom_folder):
    study, _ = opened
    asked = {"DATA": str(phantom_folder), "PROFILE": str(tmp_path / "tiny.yaml"), "RUN": "study", "PRECISION": "float32"}
    opened[1]()  # writes the profile
    hinge = open_study(0, GAN_RECIPE="hinge", **asked)
    assert hinge.recipe.loss == "hinge" and hinge.recipe.image_size == TINY.image_size
    assert run.read_record(study.folders)["recipe"]["loss"] == "logistic", "nothing is written down that wasn't trained"
    gans.save_generator(hinge, hinge.recipe.build_generator())
    assert run.read_record(study.folders)["recipe"]["loss"] == "hinge"
    assert open_study(**asked).recipe == hinge.recipe
    with pytest.raises(ValueError, match="GAN_RECIPE is 'stylegan'; choose one of"):
        open_study(0, GAN_RECIPE="stylegan", **asked)


def test_a_run_has_a_gan_or_the_fakes_of_another_generator(opened, tmp_path, phantom_folder, capsys):
    study, open_with = opened
    open_with()  # writes the profile
    asked = {"DATA": str(phantom_folder), "PROFILE": str(tmp_path / "tiny.yaml"), "RUN": "study", "PRECISION": "float32"}
    with pytest.raises(
        ValueError, match="the run study has a GAN and its fakes: choose another name with RUN for those that FAKES names"
    ):
        open_study(0, GAN_RECIPE="dcgan", FAKES="diffusion", **asked)
    record = run.read_record(study.folders)
    run.note(study.folders, recipe=None, imported={"name": "x", "digests": ["0"], "number": 24, "real": [0]})
    left = {name: entry for name, entry in record["files"].items() if name != "dcgan_generator.keras"}
    disk.write_json(study.folders.results / "record.json", run.read_record(study.folders) | {"files": left})
    theirs = open_study(0, GAN_RECIPE="dcgan", FAKES="diffusion", **asked)
    assert theirs.recipe is None and "no GAN is trained" in capsys.readouterr().out
    assert (
        open_study(**asked).imported.name == "x"
        and recall_study(str(phantom_folder), "study", store=study.store).recipe is None
    )
    ours = open_study(0, GAN_RECIPE="dcgan", FAKES="", **asked)
    gans.save_generator(ours, ours.recipe.build_generator())
    assert ours.imported is None and run.read_record(study.folders)["recipe"] == record["recipe"]
