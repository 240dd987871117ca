"""Fakes of any generator in place of a GAN's: found, read, copied, keyed by what they show, called by their folder's name."""

import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap
import types

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import one_process
from PIL import Image
from test_notebooks import study as run_study
from test_units import TINY, prepare

from xraygan import disk, run
from xraygan.comparison import gans, metrics, plan, scarcity, tables, units, workers
from xraygan.comparison.plan import FAKE_COUNTS
from xraygan.data import decode, imported
from xraygan.gan import fakes
from xraygan.report import figures, findings

SMALL = dataclasses.replace(
    TINY,
    classifier_epochs=1,
    num_fakes=12,
    num_seeds=3,
    arms=("nothing", "oversampling", "gan", "gan_and_classical"),
)
# Another tool, which knows nothing of this project: numpy and Pillow alone.
GENERATOR = textwrap.dedent("""
    import sys, numpy as np
    from pathlib import Path
    from PIL import Image
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:180, :200]
    for index in range(count):
        picture = 40 + rng.normal(0, 8, (180, 200, 3))
        for middle in (65, 135):
            lung = np.exp(-(((x - middle - rng.normal(0, 6)) / 25) ** 2) - ((y - 90 - rng.normal(0, 6)) / 50) ** 2)
            picture += 120 * rng.random() * lung[..., None] * [1.0, 0.9, 0.8]
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"sample_{index:03d}.jpg", quality=80)
""")


def generate(folder, count=14, seed=0):
    """Colour JPEG of 200×180 pixels by a process of its own."""
    subprocess.run([sys.executable, "-c", GENERATOR, str(folder), str(count), str(seed)], check=True)
    return folder


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    """Fakes of three replicates."""
    root = tmp_path_factory.mktemp("made") / "diffusion"
    for number in range(3):
        generate(root / str(number), seed=number)
    return root


def start(store, phantom_folder, profile=SMALL, also=()):
    """What notebook 1 leaves, and no GAN."""
    study = dataclasses.replace(prepare(store, phantom_folder, profile, also=also), recipe=None)
    run.note(study.folders, recipe=None)
    return study


# The same images, the same numbers


def test_a_gans_fakes_imported_from_their_folder_give_the_gans_numbers(tmp_path, phantom_folder):
    """Also as colour PNG under other names: what counts is what they show, in which order."""
    theirs = prepare(tmp_path / "gan", phantom_folder, SMALL, also=())
    unit = plan.plan_after(theirs)
    gans.ensure_fakes(theirs, unit)
    units.train_unit(theirs, unit)
    expected = tables.read_unit_predictions(theirs, unit)
    colour = tmp_path / "colour"
    colour.mkdir()
    for number, file in enumerate(sorted((theirs.folders.generated / "COVID19").iterdir())):
        Image.open(file).convert("RGB").save(colour / f"{number:02d}.png")
    found = []
    for name, folder in {
        "same": theirs.folders.generated / "COVID19",
        "above": theirs.folders.generated,
        "other": colour,
    }.items():
        study = start(tmp_path / name, phantom_folder)
        gans.import_fakes(study, str(folder))
        gans.ensure_fakes(study, unit)
        units.train_unit(study, unit)
        pd.testing.assert_frame_equal(tables.read_unit_predictions(study, unit), expected)
        found.append(units.find_files(study, unit).facts.name)
    assert len(set(found)) == 1, "the folder's name is not in the key"
    assert found[0] != units.find_files(theirs, unit).facts.name


def test_keys_follow_the_images_of_the_replicate_and_arms_without_fakes_keep_theirs(tmp_path, phantom_folder, diffusion):
    study = start(tmp_path / "store", phantom_folder)

    def find_keys():
        gans.import_fakes(study, str(tmp_path / "fakes"))
        return [
            units.find_files(study, unit).facts.name for unit in plan.list_units(study.own, ["nothing", "gan"], range(3), 12)
        ]

    shutil.copytree(diffusion, tmp_path / "fakes")
    before = find_keys()
    assert before == find_keys()
    picture = tmp_path / "fakes" / "1" / "sample_004.jpg"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(picture)
    assert [one == other for one, other in zip(before, find_keys(), strict=True)] == [True, True, True, False, True, True]


STALE = (
    "The table of before and after isn't shown: results/study/before_after.csv was made from another {} than there is now: run "
)


def test_the_table_of_before_and_after_is_shown_for_the_baseline_and_the_fakes_that_it_is_of(
    tmp_path, phantom_folder, run_notebooks, capsys, monkeypatch
):
    monkeypatch.setattr(disk, "STORE", tmp_path / "store")
    study = start(tmp_path / "store", phantom_folder)

    def show():
        capsys.readouterr()
        run_notebooks.summarise(study.folders)
        return capsys.readouterr().out

    first, second = (str(generate(tmp_path / name, 14, seed)) for seed, name in enumerate(("first", "second")))
    assert "before and after" not in show()
    gans.import_fakes(study, first)
    scores = dict.fromkeys(metrics.METRICS, 0.25)
    metrics.write_before_after(metrics.compare_before_after(scores, scores), study.folders)
    assert "0.250" in show()
    gans.import_fakes(study, second)
    said = show()
    assert STALE.format("set of fakes") + "notebooks/3_after_gan.ipynb again. Whatever else" in said and "0.250" not in said
    gans.import_fakes(study, first)
    assert "0.250" in show()
    entry = study.record["files"]["before_gan.keras"]
    run.note(study.folders, files={"before_gan.keras": entry | {"made_from": entry["made_from"] | {"unit": "another"}}})
    assert STALE.format("baseline") in show()
    (study.folders.results / "before_after.csv").write_text("metric,before,after\n")
    assert "isn't the file that the run's record knows: run notebooks/3_after_gan.ipynb again" in show()


# How they are read and kept


def test_they_are_copied_as_real_images_are_decoded(tmp_path, phantom_folder, diffusion, capsys):
    study = start(tmp_path, phantom_folder)
    gans.import_fakes(study, str(diffusion))
    assert (
        "14 fakes of diffusion were copied for each of 3 replicates. They are JPEG of 200×180 pixels."
        in capsys.readouterr().out
    )
    for number in range(3):
        images = gans.read_fakes(study, study.own, number)
        files = sorted((diffusion / str(number)).iterdir())
        np.testing.assert_array_equal(images, [decode.decode_image(file.read_bytes(), 32) for file in files])
        folder = gans.open_gan_folders(study, study.own, number).generated
        with Image.open(folder / "COVID19" / "fake_0013.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))
        manifest = fakes.read_fakes(folder, "COVID19", 32)[1]
        assert manifest["origin"].tolist() == [file.name for file in files]
    assert str(tmp_path) not in (study.folders.results / "record.json").read_text()
    assert len(gans.read_fakes(study, study.own, 0, count=5)) == 5


def test_fewer_than_before_leave_none_of_the_old_ones(tmp_path, phantom_folder):
    study = start(tmp_path / "store", phantom_folder)
    for count in (15, 12):
        gans.import_fakes(study, str(generate(tmp_path / f"fakes{count}", count, seed=count)))
        assert len(list((study.folders.generated / "COVID19").iterdir())) == count == len(gans.read_fakes(study, study.own, 2))


@pytest.mark.parametrize("harm", ["another picture", "another order"])
def test_copies_that_were_changed_are_noticed(harm, tmp_path, phantom_folder):
    study = start(tmp_path / "store", phantom_folder)
    gans.import_fakes(study, str(generate(tmp_path / "fakes")))
    if harm == "another picture":
        Image.new("L", (32, 32)).save(study.folders.generated / "COVID19" / "fake_0013.png")
    else:
        table = pd.read_csv(study.folders.generated / "manifest.csv")
        table.iloc[::-1].to_csv(study.folders.generated / "manifest.csv", index=False)
    with pytest.raises(
        ValueError,
        match=r"(aren't those that notebook 2 copied there|are gone or were changed.*): run notebooks/2_gan_training.ipynb again",
    ):
        gans.read_fakes(study, study.own, 1, count=3)


def test_a_sweep_needs_no_more_than_is_taken_and_tries_no_more_than_is_there(tmp_path, phantom_folder):
    assert max(FAKE_COUNTS) <= imported.MOST
    study = start(tmp_path / "store", phantom_folder, dataclasses.replace(SMALL, num_fakes=100))
    many = generate(tmp_path / "fakes", 300)
    gans.import_fakes(study, str(many))
    assert {unit.num_extra for unit in plan.plan_fakes_sweep(study)} == {100, 250}
    replicates, about = imported.read([list(many.iterdir())[:5]], 32, 2)
    assert len(replicates[0]) == 5 and "aren't used" not in about


def test_of_very_many_the_first_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(imported, "MOST", 6)
    found = imported.find_fakes(generate(tmp_path / "fakes"), "COVID19", 4, 1)
    replicates, about = imported.read(found, 32, 4)
    assert len(replicates[0]) == 6 and about == "They are JPEG of 200×180 pixels. 8 more, by name the last, aren't used."


# Which images are meant, or a sentence


def touch(folder, count, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (8, 8), number).save(folder / name.format(number))


PLACES = {
    "the folder itself": ([("", 12)], 12),
    "other files beside them": ([("", 12), ("more", 3)], 12),
    "one folder in it": ([("samples", 12)], 12),
    "a folder in a folder": ([("out/samples", 13)], 13),
    "one of several classes": ([("NORMAL", 20), ("covid19", 12), ("gans", 4)], 12),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_images_that_are_meant_are_found(place, tmp_path):
    folders, count = PLACES[place]
    for name, number in folders:
        touch(tmp_path / name, number)
    (tmp_path / "options.json").write_text("{}")
    (tmp_path / ".DS_Store").write_text("")
    (found,) = imported.find_fakes(tmp_path, "COVID19", 12, 5)
    assert len(found) == count and all(path.suffix == ".png" for path in found)


WRONG = {
    "nothing in it": ([], r"can't be used \(empty\): 12 fakes are to be added, each of them saved there as a JPEG or PNG"),
    "an array": ([("arrays.npy", 0)], r"can't be used \(no image, but 1 other files: 1 .npy\): 12 fakes are to be added"),
    "others in a folder in it": (
        [("", 2), ("samples", 12)],
        r"holds 2 images itself, others in its folders samples \(12\), and .*: make 10 more, or give the path of the folder that is meant\.",
    ),
    "very few": ([("", 5)], r"holds 5 images, and 12 fakes are to be added: make 7 more\."),
    "too few": ([("", 9)], "holds 9 images, and 12 fakes are to be added: make 3 more, or take a profile with num_fakes: 9"),
    "too few in one replicate": ([("0", 12), ("1", 11), ("2", 12)], "FAKES, folder 1, holds 11 images, and 12 fakes"),
    "a replicate missing": (
        [("0", 12), ("2", 12)],
        "a folder for each of 3 replicates.*there is no folder 1.*another num_seeds, or give one",
    ),
    "images beside replicates": (
        [("", 1), ("0", 12), ("1", 12), ("2", 12)],
        "no image beside them, and .* holds 1 images itself",
    ),
    "two folders of one number": ([("0", 12), ("00", 12), ("1", 12), ("2", 12)], "two folders of one number among 0, 00, 1, 2"),
    "several folders": (
        [("A", 12), ("B", 12)],
        "doesn't say which images are meant: .* the folders A .12., B .12.. For fakes of COVID19, give",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_enough_or_not_clear_is_a_sentence(case, tmp_path):
    for name, number in WRONG[case][0]:
        if number:
            touch(tmp_path / name, number)
        else:
            (tmp_path / name).write_bytes(b"numbers")
    with pytest.raises(ValueError, match=WRONG[case][1]):
        imported.find_fakes(tmp_path, "COVID19", 12, 3)


def test_folders_of_classes_that_are_numbers_are_not_taken_for_replicates(tmp_path):
    for name in ("0", "1", "2"):
        touch(tmp_path / name, 12)
    with pytest.raises(
        ValueError, match="whether its folders 0, 1, 2 are replicates or classes, since a class is called 1: give the path"
    ):
        imported.find_fakes(tmp_path, "1", 12, 3)
    for name in ("0", "1", "2"):
        (tmp_path / name).rename(tmp_path / f"00{name}")
    assert len(imported.find_fakes(tmp_path, "1", 12, 3)) == 3


def test_what_cannot_be_read_or_is_twice_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="FAKES is 'nowhere', and there is no such folder: give the folder that holds them"):
        imported.find_folder("nowhere")
    touch(tmp_path / "links", 12)
    (tmp_path / "links" / "12.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="1 images in FAKES, folder links, are links to nowhere"):
        imported.find_fakes(tmp_path / "links", "COVID19", 12, 1)
    touch(tmp_path / "broken", 12)
    (tmp_path / "broken" / "3.png").write_bytes(b"RIFF1234WEBPVP8 ")
    with pytest.raises(
        ValueError,
        match="1 of 12 images in FAKES can't be read .broken/3.png: a WebP file, not JPEG, PNG or DICOM: save it as PNG",
    ):
        imported.read(imported.find_fakes(tmp_path / "broken", "COVID19", 12, 1), 32, 12)
    for number in range(3):
        touch(tmp_path / "twice" / str(number), 12, "{}.png" if number < 2 else "1{}.png")
    with pytest.raises(ValueError, match="the images of folder 0 in another folder too: give each replicate its own"):
        imported.read(imported.find_fakes(tmp_path / "twice", "COVID19", 12, 3), 32, 12)


def test_one_that_cannot_be_read_is_named_with_its_replicate_before_notebook_1_trains(tmp_path, run_notebooks, diffusion):
    shutil.copytree(diffusion, tmp_path / "fakes")
    asked = types.SimpleNamespace(gan_recipe="", fakes=str(tmp_path / "fakes"), sweep="")
    source = types.SimpleNamespace(minority="COVID19")
    run_notebooks.check_generator(asked, source, SMALL)
    (tmp_path / "fakes" / "1" / "sample_003.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 42 images in FAKES can't be read \(1/sample_003.jpg: the file is empty\)"):
        run_notebooks.check_generator(asked, source, SMALL)


@pytest.mark.parametrize("part", ["train", "test"])
def test_real_images_among_them_are_an_alarm(part, tmp_path, phantom_folder, diffusion):
    """One of them in the replicate that notebook 2 doesn't judge, saved again as a small JPEG."""
    shutil.copytree(diffusion, tmp_path / "mixed")
    study = start(tmp_path / "store", phantom_folder)
    training, held_out = (study.dataset.select_class(["COVID19"], name) for name in ("train", "test"))
    file = study.dataset.split.query("part == @part and `class` == 'COVID19'")["file"].iloc[0]
    with Image.open(phantom_folder / file) as image:
        image.convert("RGB").resize((90, 90)).save(tmp_path / "mixed" / "1" / "sample_003.jpg", quality=60)
        image.convert("RGB").save(tmp_path / "mixed" / "0" / "sample_002.jpg")
    gans.import_fakes(study, str(tmp_path / "mixed"))
    assert list(study.imported.real) == [1, 1, 0]
    found = gans.memorisation.find_copies(gans.read_fakes(study, study.own, 0), training, held_out)
    assert found.summary["real"] == 1 and found.summary["alarm"] and found.summary["copies"] == (part == "train")
    assert "Copies: alarm.** 1 of 14 fakes show the same picture as a real image" in findings.describe_copies(found.summary)
    shortcuts = pd.DataFrame({"setting": [], "view": [], "balanced_accuracy": [], "share": []})
    record = study.record | {"groups_file": ""}
    assert "1 and 1 and 0 of 14 fakes show the same picture as a real image of this run: take them out of mixed." in (
        findings.list_warnings(record, shortcuts, False)
    )


# The comparison


@pytest.fixture(scope="module", params=["a folder a replicate", pytest.param("one folder", marks=pytest.mark.slow)])
def compared(request, tmp_path_factory, phantom_folder, diffusion):
    """All arms of three replicates: whether they share their fakes, the study, its units."""
    shared = request.param == "one folder"
    study = start(tmp_path_factory.mktemp("compared"), phantom_folder)
    gans.import_fakes(study, str(diffusion / "1" if shared else diffusion))
    wanted = plan.plan_comparison(study)
    with one_process():
        return shared, study, wanted, workers.train_units(study, wanted)


def test_every_replicate_has_its_own_fakes_or_all_have_the_same(compared):
    shared, study, wanted, _ = compared
    images = [gans.read_fakes(study, study.own, seed) for seed in range(3)]
    assert all(np.array_equal(images[0], other) == shared for other in images[1:])
    assert len(wanted) == 3 * 4 and len({units.find_files(study, unit) for unit in wanted}) == 12
    assert [unit.seed for unit in plan.plan_other_fakes(study)] == ([] if shared else [1])


def test_tables_figures_and_verdict_speak_of_the_folder_and_of_no_gan(compared, tmp_path):
    shared, study, wanted, table = compared
    name = "fakes of 1" if shared else "fakes of diffusion"
    assert set(table.loc[table["arm"].str.contains("gan"), "maker"]) == {name} == {study.maker}
    means = figures.summarise_arms(table, study.maker)
    assert means.index.get_level_values("remedy").tolist() == ["nothing", "oversampling", name, f"{name} and classical"]
    other_number = table[table["arm"] == "gan"].assign(extra_images=24)
    both = figures.summarise_arms(pd.concat([table, other_number]), study.maker).loc[(slice(None), name), "images added"]
    assert both.tolist() == [12, 24], "other numbers of fakes aren't averaged"
    contrasts = tables.compare_arms(study, wanted, study.own)
    drawn = [figures.draw_arms(table, "arms", study.maker), figures.draw_contrasts(contrasts, "verdict", study.maker)]
    drawn.append(figures.draw_fakes_sweep(table, "sweep", study.maker))
    written = [label.get_text() for figure in drawn for label in figure.findobj(figures.plt.Text)]
    assert any(name in text for text in written) and not any("GAN" in text or "gan" in text for text in written)

    run.note(study.folders, groups_file="", test_share=0)
    shortcuts = pd.DataFrame(
        {"setting": ["2-classes"], "view": ["lungs hidden"], "balanced_accuracy": [0.5], "share": [np.nan]}
    )
    run.write_table(shortcuts, study.folders, "shortcuts.csv")
    verdict = findings.write_verdict(study, contrasts, contrasts.iloc[:0])
    text = findings.describe_verdict(disk.read_json(study.folders.results / "verdict.json"))
    assert text == findings.describe_verdict(verdict) and "GAN" not in text
    assert (
        f"**{'These fakes' if shared else 'Fakes'} of {study.imported.name} against nothing added** (2 classes, 3 replicates"
        in text
    )
    assert ("All replicates have the same fakes of 1: this is about these very images" in text) == shared
    assert "Which images the generator of" in text
    verdict["contrasts"] = [
        row | {"outcome": "better", "low": 0.1, "high": 0.2, "smallest_seen": 0.1} for row in verdict["contrasts"]
    ]
    assert f": {'these ' if shared else ''}{name} are better." in findings.describe_verdict(verdict)


def test_where_patients_are_few_nothing_is_compared_and_a_sentence_says_why(compared):
    _, study, _, _ = compared
    few = dataclasses.replace(
        study, profile=dataclasses.replace(SMALL, scarce_counts=(12,), scarce_seeds=(1,), curve_counts=(12, 20), curve_seeds=1)
    )
    assert scarcity.list_units(few) == [] and scarcity.summarise(few) is None
    assert "only a generator that had seen no more than those few" in scarcity.explain_nothing(few)


def test_a_profile_that_grew_after_the_import_is_one_sentence():
    shared, three = (imported.Imported("x", digests, 20, (0,) * len(digests)) for digests in (("0",), ("0", "1", "2")))
    imported.require_enough(shared, 20, 9)
    imported.require_enough(three, 20, 3)
    for facts, asked, said in (
        (shared, (24, 9), "20 fakes for all"),
        (three, (20, 5), "20 fakes for 3"),
        (three, (21, 3), "20 fakes for 3"),
    ):
        with pytest.raises(
            ValueError, match=f"imported {said} replicates, .* asks for {asked[0]} for {asked[1]}: run notebooks/2"
        ):
            imported.require_enough(facts, *asked)


# The notebooks


PROFILE = "\n".join(
    f"{name}: {json.dumps(value)}"
    for name, value in vars(dataclasses.replace(SMALL, arms=("nothing", "oversampling", "gan"), num_seeds=2)).items()
)


@pytest.mark.slow
def test_a_study_on_fakes_of_another_tool_from_one_command(tmp_path, phantom_folder, diffusion):
    """`make study FAKES=…` and the sweep; then another generator's fakes in the same run: what has no fakes isn't trained again."""
    profile = tmp_path / "tiny.yaml"
    profile.write_text(PROFILE)
    given = ("--data", phantom_folder, "--profile", profile, "--run", "theirs")
    few = run_study(tmp_path, *given, "--fakes", generate(tmp_path / "few", 3))
    assert few.returncode == 1 and "FAKES, folder few, holds 3 images, and 12 fakes are to be added" in few.stderr
    assert "Notebook 1" not in few.stdout, "said before anything is done"
    both = run_study(tmp_path, *given, "--fakes", diffusion, "--gan-recipe", "hinge")
    assert both.returncode == 1 and "FAKES and GAN_RECIPE were both given" in both.stderr

    done = run_study(tmp_path, *given, "--fakes", diffusion)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no GAN is trained" in done.stdout and "14 fakes of diffusion were copied for each of 2 replicates" in done.stdout
    results = tmp_path / "results" / "theirs"
    record = disk.read_json(results / "record.json")
    assert (
        record["imported"]["name"] == "diffusion"
        and "recipe" not in record
        and set(record["costs"]) == {"before_gan", "after_gan"}
    )
    assert {path.name for path in (results / "gan").iterdir()} == {
        "brightness.csv",
        "judgement.json",
        "memorisation.csv",
        "quality.csv",
    }
    assert disk.read_json(results / "gan" / "judgement.json")["origin"] == "diffusion"
    assert (
        not (tmp_path / "images" / "theirs" / "gan").exists()
        and not (tmp_path / "models" / "theirs" / "dcgan_generator.keras").exists()
    )
    for name in ("2_gan_training", "3_after_gan"):
        cells = nbformat.read(results / "notebooks" / f"{name}.ipynb", as_version=4).cells
        for cell in (cell for cell in cells if "published.SCARCITY" not in cell.source):  # which isn't about this run
            for output in cell.get("outputs", []):
                text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
                text += output.get("data", {}).get("text/markdown", "")
                assert output.output_type != "error" and str(tmp_path) not in text
                assert "GAN" not in text.replace("no GAN is trained", "").replace("No GAN was trained", "")

    refused = run_study(tmp_path, *given, "--fakes", diffusion, "--sweep", "real")
    assert refused.returncode == 1 and "The part with few images of patients is left out" in refused.stderr
    sweep = run_study(tmp_path, *given, "--sweep", "fakes")
    assert sweep.returncode == 0 and "fakes of diffusion" in sweep.stdout and "Notebook" not in sweep.stdout
