"""README: its numbers are the published files', its links lead somewhere."""

import json
import re

import pytest

import utils
from xraygan import readme

TEXT = (utils.ROOT / "README.md").read_text(encoding="utf-8")


def test_every_generated_passage_is_what_the_published_files_give():
    assert readme.fill(TEXT, readme.passages()) == TEXT


def test_missing_marks_are_an_error():
    with pytest.raises(ValueError, match="0 passages marked 'finding'"):
        readme.fill("no marks", {"finding": "x"})


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#][^)]*)\)", TEXT):
        assert target.startswith("https://") or (utils.ROOT / target).exists(), target


def test_the_first_screen_has_the_finding_and_both_commands():
    top = "\n".join(TEXT.splitlines()[:20])
    assert "<!-- begin finding -->" in top
    assert "make study" in top
    assert "make test" in top


def test_fakes_that_may_be_copies_are_not_published(folders):
    (folders.results / "gan").mkdir()
    (folders.results / "gan" / "judgement.json").write_text(json.dumps({"alarm": True}))
    with pytest.raises(ValueError, match="must not be published"):
        readme.publish_fakes(folders)


def test_only_a_phantom_can_be_published(folders):
    (folders.results / "record.json").write_text(json.dumps({"is_phantom": False}))
    with pytest.raises(ValueError, match="isn't on the phantom"):
        readme.publish_figures(folders)
