"""README: its numbers are the published files', its links lead somewhere."""

import re

import pandas as pd
import pytest

import utils
from xraygan import disk, findings, readme, record, statistics

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
    published = disk.ROOT / "results" / "published" / readme.PHANTOM_RUN
    monkeypatch.setattr(disk, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "REAL_FAKES", tmp_path / "shown.png")
    (folders.results / "gan").mkdir()
    for file in ("record.json", "gan/history.csv", "gan/judgement.json", "gan/quality.csv"):
        (folders.results / file).write_bytes((published / file).read_bytes())
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
    ("run", "is_phantom"), [(readme.STUDY_RUN, True), (readme.BASELINE_RUN, True), (readme.PHANTOM_RUN, False)]
)
def test_drawings_are_not_published_as_patients_nor_patients_as_drawings(run, is_phantom, tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "PUBLISHED", tmp_path / "published")
    folders = utils.run_folders(run, tmp_path)
    record.write_json(folders.results / "record.json", {"is_phantom": is_phantom})
    with pytest.raises(ValueError, match=f"run {run} isn't of the images that its name says"):
        readme.publish_numbers(folders, readme.NUMBERS)
    assert not (tmp_path / "published").exists()
    record.write_json(folders.results / "record.json", {"is_phantom": not is_phantom})
    readme.publish_numbers(folders, readme.NUMBERS)
    assert (tmp_path / "published" / run / "record.json").exists()


def test_a_published_study_is_told_from_its_files(tmp_path):
    assert "No comparison on real images" in findings.of_published(tmp_path)
    rows = [("2-classes", arm, seed, 0.8 + 0.01 * seed, 0.7) for arm in ("nothing", "gan_and_classical") for seed in (0, 1)]
    columns = ["setting", "arm", "seed", "balanced_accuracy", "sensitivity"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "arms.csv", index=False)
    contrast = {"setting": "2-classes", "first": "oversampling", "second": "gan", "primary": True, "seeds": 2, "images": 433}
    numbers = {"difference": -0.03, "low": -0.05, "high": -0.01, "smallest_seen": 0.04, "outcome": statistics.WORSE}
    verdict = {"margin": 0.02, "warnings": ["It's one split."], "contrasts": [contrast | numbers]}
    record.write_json(tmp_path / "verdict.json", verdict)
    told = findings.of_published(tmp_path)
    assert "**Fakes helped less than duplicates did: -3.0 points (95 % interval -5.0 to -1.0)" in told
    assert "- It's one split." in told
    assert "| 2 classes | GAN and classical | 2 | 0.805 (0.800 to 0.810) | 0.700 |" in told
    assert readme.finding(tmp_path, None) == findings.of_verdict(verdict)


def test_every_test_that_the_table_of_faults_names_exists():
    table = (disk.ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", table))
    existing = set()
    for path in (disk.ROOT / "tests").glob("test_*.py"):
        existing |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert len(named) > 25
    assert named <= existing, named - existing
