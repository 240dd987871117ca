"""Fakes on disk: all of them, reproducible from their seeds."""

import numpy as np
import pytest
from PIL import Image

from xraygan.gan import fakes
from xraygan.gan.recipe import Recipe


@pytest.fixture(scope="module")
def generator():
    return Recipe().build_generator()


def test_all_fakes_are_there_as_grey_png_with_their_seed(generator, tmp_path):
    manifest = fakes.write_fakes(generator, tmp_path, "COVID19", 70, first_seed=10)
    images, stored = fakes.read_fakes(tmp_path, "COVID19")
    assert images.shape == (70, 128, 128, 1)
    assert len(list((tmp_path / "COVID19").iterdir())) == 70
    assert manifest.equals(stored)
    with Image.open(tmp_path / "COVID19" / "fake_0042.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (128, 128))
    seed = stored.loc[stored["file"] == "COVID19/fake_0042.png", "seed"].item()
    again = fakes.draw(generator, fakes.draw_noise([seed], 100))[0]
    assert np.abs(again.astype(int) - images[42]).max() <= 1  # another batch size may round differently
    assert (stored["generator"] == fakes.weights_hash(generator)).all()


def test_finished_fakes_stay_and_others_are_replaced(generator, tmp_path):
    fakes.write_fakes(generator, tmp_path, "A", 6, first_seed=0)
    times = [file.stat().st_mtime_ns for file in sorted((tmp_path / "A").iterdir())]
    fakes.write_fakes(generator, tmp_path, "A", 6, first_seed=0)
    assert times == [file.stat().st_mtime_ns for file in sorted((tmp_path / "A").iterdir())]
    fakes.write_fakes(generator, tmp_path, "A", 4, first_seed=0)
    assert len(list((tmp_path / "A").iterdir())) == 6, "two fakes of the same generator were thrown away"
    np.testing.assert_array_equal(*(fakes.read_fakes(tmp_path, "A", count=count)[0][:4] for count in (4, None)))
    assert len(fakes.read_fakes(tmp_path, "A", count=4)[0]) == 4
    fakes.write_fakes(generator, tmp_path, "A", 4, first_seed=100)
    assert len(list((tmp_path / "A").iterdir())) == 4, "fakes of other seeds stayed"
    (tmp_path / "A" / "fake_0001.png").unlink()
    with pytest.raises(ValueError, match="1 of 4 fakes in .* are gone or were changed .the first: A.fake_0001.png.: run"):
        fakes.read_fakes(tmp_path, "A")
    fakes.write_fakes(generator, tmp_path, "A", 4, first_seed=0)
    assert len(fakes.read_fakes(tmp_path, "A")[0]) == 4


def test_fakes_of_another_class_are_not_taken(generator, tmp_path):
    fakes.write_fakes(generator, tmp_path, "1", 2, first_seed=0)
    times = [file.stat().st_mtime_ns for file in sorted((tmp_path / "1").iterdir())]
    fakes.write_fakes(generator, tmp_path, "1", 2, first_seed=0)  # a class that looks like a number stays text
    assert times == [file.stat().st_mtime_ns for file in sorted((tmp_path / "1").iterdir())]
    with pytest.raises(
        ValueError, match="are of 1, and PNEUMONIA is to be augmented: run notebooks/2_gan_training.ipynb again"
    ):
        fakes.read_fakes(tmp_path, "PNEUMONIA")


def test_fakes_are_read_at_the_size_they_were_drawn_at(tmp_path):
    small = Recipe(image_size=32).build_generator()
    fakes.write_fakes(small, tmp_path, "A", 3, first_seed=5)
    images, _ = fakes.read_fakes(tmp_path, "A", image_size=32)
    np.testing.assert_array_equal(images, fakes.draw(small, fakes.draw_noise(range(5, 8), 100)))


def test_no_fakes_yet(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebooks/2_gan_training.ipynb first"):
        fakes.read_fakes(tmp_path, "A")


def test_a_link_in_the_place_of_the_fakes_folder_is_replaced_and_what_it_leads_to_stays(generator, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "fake_0000.png").write_bytes(b"mine")
    fakes.write_fakes(generator, run, "A", 2, first_seed=0)
    (run / "A").rename(tmp_path / "moved")
    (run / "A").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="isn't in its folder: run notebooks/2_gan_training.ipynb again"):
        fakes.read_fakes(run, "A")
    fakes.write_fakes(generator, run, "A", 2, first_seed=0)
    assert len(fakes.read_fakes(run, "A")[0]) == 2
    assert (elsewhere / "fake_0000.png").read_bytes() == b"mine"
