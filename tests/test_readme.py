"""README: its numbers are the published files', its links lead somewhere."""

import re

import pandas as pd
import pytest
from PIL import Image

import utils
from xraygan import arms, disk, figures, findings, published, readme, record, statistics

TEXT = (disk.ROOT / "README.md").read_text(encoding="utf-8")


def test_every_generated_passage_is_what_the_published_files_give():
    assert readme.fill(TEXT, readme.passages()) == TEXT


def test_missing_marks_are_an_error():
    with pytest.raises(ValueError, match="0 passages marked 'finding'"):
        readme.fill("no marks", {"finding": "x"})


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#][^)]*)\)", TEXT):
        assert target.startswith("https://") or (disk.ROOT / target).exists(), target


def test_the_first_screen_has_the_finding_and_both_commands():
    top = "\n".join(TEXT.splitlines()[:20])
    assert "<!-- begin finding -->" in top
    assert "make study" in top
    assert "make test" in top


def test_fakes_that_may_be_copies_are_not_shown(folders, tmp_path, monkeypatch):
    phantom = published.PUBLISHED / published.PHANTOM_RUN
    monkeypatch.setattr(disk, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "REAL_FAKES", tmp_path / "shown.png")
    (folders.results / "gan").mkdir()
    for file in ("record.json", "gan/history.csv", "gan/judgement.json", "gan/quality.csv"):
        (folders.results / file).write_bytes((phantom / file).read_bytes())
    (folders.images / "fakes.png").write_bytes(b"fakes")
    readme.publish_fakes(folders)
    assert readme.REAL_FAKES.read_bytes() == b"fakes"
    assert "(shown.png)" in readme.generator(folders.results)
    judgement = folders.results / "gan" / "judgement.json"
    record.write_json(judgement, record.read_json(judgement) | {"alarm": True, "copies": 9})
    readme.publish_fakes(folders)
    assert not readme.REAL_FAKES.exists()
    told = readme.generator(folders.results)
    assert "Copies: alarm" in told and "shown.png" not in told
    assert "| random: noise |" in told


@pytest.mark.parametrize(
    ("run", "is_phantom"), [(published.STUDY_RUN, True), (published.BASELINE_RUN, True), (published.PHANTOM_RUN, False)]
)
def test_drawings_are_not_published_as_patients_nor_patients_as_drawings(run, is_phantom, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    folders = utils.run_folders(run, tmp_path)
    record.write_json(folders.results / "record.json", {"is_phantom": is_phantom})
    with pytest.raises(ValueError, match=f"run {run} isn't of the images that its name says"):
        published.publish(folders, published.NUMBERS)
    assert not (tmp_path / "published").exists()
    record.write_json(folders.results / "record.json", {"is_phantom": not is_phantom})
    published.publish(folders, published.NUMBERS)
    assert (tmp_path / "published" / run / "record.json").exists()


def test_a_published_study_is_told_from_its_files(tmp_path, monkeypatch):
    assert "No comparison on real images" in findings.of_published(tmp_path, tmp_path)
    rows = [
        ("2-classes", arm, seed, 0.8 + 0.01 * seed, 0.7, 100 + 10 * seed, 396, 1433)
        for arm in ("nothing", "gan_and_classical")
        for seed in (0, 1)
    ]
    columns = ["setting", "arm", "seed", "balanced_accuracy", "sensitivity", "best_update", "updates", "test_images"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "arms.csv", index=False)
    profile = {"arms": ["nothing", "gan_and_classical", "gan"], "num_seeds": 2}
    record.write_json(tmp_path / "record.json", {"profile": profile, "also": ["PNEUMONIA"]})
    under_way = findings.of_published(tmp_path, tmp_path)
    assert "Of the 12 trainings of the comparison 4 are finished" in under_way
    assert "| 2 classes, 1,433 test images | GAN and classical | 2 | 0.805 (0.800 to 0.810) | 0.700 | 105 of 396 |" in under_way
    contrast = {"setting": "2-classes", "first": "oversampling", "second": "gan", "primary": True, "seeds": 2, "images": 433}
    numbers = {"difference": -0.03, "low": -0.05, "high": -0.01, "smallest_seen": 0.04, "outcome": statistics.WORSE}
    verdict = {"margin": 0.02, "warnings": ["It's one split."], "contrasts": [contrast | numbers]}
    verdict["without_twins"] = [contrast | numbers | {"images": 420, "difference": -0.031}]
    record.write_json(tmp_path / "verdict.json", verdict)
    told = findings.of_published(tmp_path, tmp_path)
    assert "**Fakes did worse than duplicates (the contrast named beforehand): -3.0 points (95 % interval -5.0 to -1.0)" in told
    assert "- It's one split." in told
    assert "- Fakes against duplicates on the 420 test images that have no twin" in told and "2 classes: -3.1 points" in told
    assert "| 2 classes, 1,433 test images | GAN and classical | 2 | 0.805 (0.800 to 0.810) | 0.700 | 105 of 396 |" in told
    others = [
        contrast | numbers | {"setting": setting, "first": first, "second": second, "primary": False, "outcome": outcome}
        for setting, first, second, outcome in (
            ("2-classes", "nothing", "gan", statistics.EQUIVALENT),
            ("3-classes", "nothing", "gan", statistics.EQUIVALENT),
            ("2-classes", "nothing", "classical", statistics.BETTER),
            ("3-classes", "nothing", "classical", statistics.INCONCLUSIVE),
        )
    ]
    lines = findings.of_verdict(verdict | {"contrasts": verdict["contrasts"] + others}).splitlines()
    alike = "-3.0 points (95 % interval -5.0 to -1.0) in 2 classes, -3.0 points (95 % interval -5.0 to -1.0) in 3 classes.**"
    assert lines[0] == f"**Adding fakes changed nothing that matters (less than 2 points of balanced accuracy): {alike}"
    assert lines[2].startswith("**Fakes did worse than duplicates (the contrast named beforehand)")
    assert lines[-2] == (
        "- Of the 4 other contrasts (outcomes adjusted for their number, intervals not), 3 are decided, "
        "2 of them fakes against nothing; the other 1:"
    )
    assert lines[-1].startswith("    - classical against nothing, 2 classes: better, -3.0 points")
    monkeypatch.setattr(readme, "REAL_VERDICT", disk.ROOT / "verdict.png")
    assert readme.finding(tmp_path, None, tmp_path) == f"On real radiographs: {findings.answer_of(verdict)}"
    monkeypatch.setattr(disk, "ROOT", tmp_path.parent)
    monkeypatch.setattr(readme, "REAL_VERDICT", tmp_path.parent / "verdict.png")
    section = readme.study_on_real_images(tmp_path, tmp_path)
    assert section.startswith(
        "![Differences between arms, with intervals](verdict.png)\n\n- Fakes against duplicates on the 420"
    )


def test_the_published_study_is_drawn_from_its_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "REAL_VERDICT", tmp_path / "verdict.png")
    readme.draw_study(tmp_path)
    assert not readme.REAL_VERDICT.exists()
    contents = record.read_json(published.PUBLISHED / published.PHANTOM_RUN / "verdict.json")
    record.write_json(tmp_path / "verdict.json", contents)
    readme.draw_study(tmp_path)
    with Image.open(readme.REAL_VERDICT) as picture:
        assert picture.size[0] > 600


def test_what_the_published_study_found_besides_is_told(tmp_path):
    columns = ["setting", "arm", "seed", "extra_images", "real_minority", "balanced_accuracy", "sensitivity"]
    fakes_swept = [("3-classes", "gan", seed, extra, 363, 0.9 + extra / 1e5, 0.9) for extra in (500, 100) for seed in (0, 1)]
    fakes_swept += [("3-classes", "nothing", seed, 0, 363, 0.88 + 0.02 * seed, 0.9) for seed in (0, 1)]
    real_swept = [
        (f"PNEUMONIA-{real}", arm, seed, 0, real, score, 0.9)
        for real, arm, score in ((115, "nothing", 0.8), (115, "gan", 0.81), (25, "nothing", 0.7), (25, "gan", 0.75))
        for seed in (0, 1, 2)
    ]
    trainings = pd.DataFrame(fakes_swept, columns=columns).assign(best_update=300, updates=396, test_images=1288)
    trainings.to_csv(tmp_path / "arms.csv", index=False)
    assert findings.tables_of_study(tmp_path) == findings.means_of_arms(tmp_path)
    for name, rows in (("number of fakes", fakes_swept), ("number of real images", real_swept)):
        pd.DataFrame(rows, columns=columns).to_csv(findings.sweep_file(tmp_path, name), index=False)
    leaks = [("2-classes", "all", 433, 0.98), ("2-classes", "without a twin", 420, 0.97)]
    leaks += [("2-classes-with-leaks", "all", 433, 0.99), ("2-classes-with-leaks", "without a twin", 420, 0.975)]
    pd.DataFrame(leaks, columns=["setting", "test_images", "number", "balanced_accuracy"]).to_csv(tmp_path / "leaks.csv")
    shares = {"model": ["before", "after"], "real test images": [0.9, 0.91], "fakes of another GAN": [0.97, 1.0]}
    pd.DataFrame(shares).to_csv(tmp_path / "share_found.csv", index=False)
    unit = tmp_path / "units" / "2-classes" / f"{arms.FAKES_INSTEAD}-1000-0-abc.json"
    record.write_json(unit, {"metrics": {"sensitivity": 0.64, "specificity": 0.99}})
    panels = figures.published_sweeps(tmp_path).axes
    assert [axis.get_title() for axis in panels] == list(findings.SWEPT)
    assert [len(axis.lines) for axis in panels] == [4, 4]  # two arms: their means, and a dot a seed
    left, right = ({line.get_label(): line.get_color() for line in axis.lines[::2]} for axis in panels)
    assert left == right and len(set(left.values())) == 2, "an arm has one colour in both panels"
    assert set(figures.ARM_LOOKS) == set(arms.ARMS)
    few = "With 25 real training images of PNEUMONIA (3 seeds, a tendency, no claim), balanced accuracy: nothing 0.700, GAN 0.750."
    assert findings.of_scarcity(tmp_path) == few
    told = findings.tables_of_study(tmp_path)
    assert "Another number of fakes (3 classes; balanced accuracy, mean of 2 seeds" in told
    assert "| 0 |  | 0.890 (0.880 to 0.900) |" in told
    assert told.index("| 100 | 0.901 (0.901 to 0.901) |  |") < told.index("| 500 | 0.905 (0.905 to 0.905) |  |")
    assert "Another number of real images (PNEUMONIA 115 and PNEUMONIA 25; balanced accuracy, mean of 3 seeds" in told
    assert "| real minority | nothing | GAN |" in told
    assert "| 25 | 0.700 (0.700 to 0.700) | 0.750 (0.750 to 0.750) |" in told
    told = findings.found_besides(tmp_path)
    assert "comes to 0.990 instead of 0.980; on the 420 test images without a twin, 0.975 instead of 0.970" in told
    assert "The network after finds 91% of the real test images, 100% of the fakes of another GAN." in told
    assert "never a real image of it finds 64% of the real test images (specificity 99%)" in told


def test_what_was_measured_of_the_study_is_told_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "ROOT", tmp_path.parent)
    row = {"setting": "3-classes", "first": "oversampling", "second": "gan", "primary": True, "difference": 0.01, "low": -0.01}
    row |= {"high": 0.03, "outcome": statistics.INCONCLUSIVE, "seeds": 5, "images": 1000}
    columns = ["setting", "arm", "balanced_accuracy", "sensitivity", "best_update", "updates", "test_images"]
    pd.DataFrame([("3-classes", "gan", 0.9, 0.9, 300, 396, 1288)], columns=columns).to_csv(tmp_path / "arms.csv", index=False)
    assert "\n- " not in readme.study_on_real_images(tmp_path, tmp_path)
    all_images = row | {"test_images": "all", "images": 1288}
    against_nothing = all_images | {"first": "nothing", "primary": False, "outcome": statistics.EQUIVALENT}
    others = all_images | {"first": "classical", "primary": False, "difference": 0.077}
    unseen = row | {"test_images": "unseen patients", "difference": 0.02}
    rows = pd.DataFrame([all_images, against_nothing, others, unseen])
    rows.to_csv(tmp_path / "verdict_with_patients.csv", index=False)
    pd.DataFrame([row | {"outcome": statistics.EQUIVALENT}]).to_csv(tmp_path / "same_arm.csv", index=False)
    told = readme.study_on_real_images(tmp_path, tmp_path)
    interval = "points (95 % interval -1.0 to +3.0)"
    assert f"instead of images (1,288): GAN against oversampling, 3 classes: inconclusive, +1.0 {interval}; GAN against" in told
    assert f"GAN against nothing, 3 classes: equivalent, +1.0 {interval}." in told
    assert f"no image in the train folder (1,000): GAN against oversampling, 3 classes: inconclusive, +2.0 {interval}." in told
    assert "7.7" not in told
    assert "with 5 other seeds, 3 classes: equivalent, +1.0 points (95 % interval -1.0 to +3.0)" in told
    pd.DataFrame([row | {"low": None, "high": None, "seeds": 2}]).to_csv(tmp_path / "same_arm.csv", index=False)
    assert "with 2 other seeds, 3 classes: inconclusive, +1.0 points (`" in readme.study_on_real_images(tmp_path, tmp_path)
    verdict = record.read_json(published.PUBLISHED / published.PHANTOM_RUN / "verdict.json")
    record.write_json(tmp_path / "verdict.json", verdict)
    unseen_against_nothing = unseen | {"first": "nothing", "primary": False, "low": -0.02}
    pd.concat([rows, pd.DataFrame([unseen_against_nothing])]).to_csv(tmp_path / "verdict_with_patients.csv", index=False)
    counted = (
        "- Counted by the patients that the collections' own lists name, fakes against nothing are "
        f"equivalent in 3 classes, +1.0 {interval}; on test images of patients who aren't in train, "
        "inconclusive in 3 classes, +2.0 points (95 % interval -2.0 to +3.0)."
    )
    assert readme.finding(tmp_path, None, tmp_path).splitlines()[-1] == counted
    assert counted in findings.of_published(tmp_path, tmp_path).splitlines()


def test_published_trainings_are_taken_over_where_a_run_of_that_name_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    first, second = (utils.run_folders(published.STUDY_RUN, tmp_path / store) for store in ("first", "second"))
    for file in ("a.json", "a.csv", "b.json", "b.csv"):
        (first.results / "units" / "2-classes").mkdir(parents=True, exist_ok=True)
        (first.results / "units" / "2-classes" / file).write_text(file)
    published.publish(first, published.UNITS)
    (first.results / "units" / "2-classes" / "of_another_study.json").write_text("{}")
    (first.results / "units" / "2-classes" / "of_another_study.csv").write_text("")
    published.publish(first, published.UNITS)
    wanted = [second.results / "units" / "2-classes" / file for file in ("a.json", "b.json", "not_published.json")]
    wanted[0].parent.mkdir(parents=True)
    wanted[0].write_text("own")
    assert published.restore_units(second, wanted) == 1
    assert {file.name: file.read_text() for file in wanted[0].parent.iterdir()} == {
        "a.json": "own",
        "b.json": "b.json",
        "b.csv": "b.csv",
    }
    assert published.restore_units(second, wanted) == 0
    another = utils.run_folders("another", tmp_path / "second")
    assert published.restore_units(another, [another.results / "units" / "2-classes" / "b.json"]) == 0


def test_every_test_that_the_table_of_faults_names_exists():
    table = (disk.ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", table))
    existing = set()
    for path in (disk.ROOT / "tests").glob("test_*.py"):
        existing |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert len(named) > 25
    assert named <= existing, named - existing
