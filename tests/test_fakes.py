"""Fakes on disk: all of them, reproducible from their seeds."""

import numpy as np
import pytest
from PIL import Image

from xraygan import dcgan, fakes


@pytest.fixture(scope="module")
def generator():
    return dcgan.build_generator("dcgan")


def test_all_fakes_are_there_as_grey_png_with_their_seed(generator, tmp_path):
    manifest = fakes.write_fakes(generator, tmp_path, "COVID19", 70, first_seed=10)
    images, stored = fakes.read_fakes(tmp_path, "COVID19")
    assert images.shape == (70, 128, 128, 1)
    assert len(list((tmp_path / "COVID19").iterdir())) == 70
    assert manifest.equals(stored)
    with Image.open(tmp_path / "COVID19" / "fake_0042.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (128, 128))
    seed = stored.loc[stored["file"] == "COVID19/fake_0042.png", "seed"].item()
    again = fakes.draw(generator, fakes.fake_noise([seed], 100))[0]
    assert np.abs(again.astype(int) - images[42]).max() <= 1  # another batch size may round differently
    assert (stored["generator"] == fakes.weights_hash(generator)).all()


def test_finished_fakes_stay_and_others_are_replaced(generator, tmp_path):
    fakes.write_fakes(generator, tmp_path, "A", 6, first_seed=0)
    times = [file.stat().st_mtime_ns for file in sorted((tmp_path / "A").iterdir())]
    fakes.write_fakes(generator, tmp_path, "A", 6, first_seed=0)
    assert times == [file.stat().st_mtime_ns for file in sorted((tmp_path / "A").iterdir())]
    fakes.write_fakes(generator, tmp_path, "A", 4, first_seed=0)
    assert len(list((tmp_path / "A").iterdir())) == 4
    (tmp_path / "A" / "fake_0001.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 4 fakes are missing"):
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


def test_no_fakes_yet(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebooks/2_gan_training.ipynb first"):
        fakes.read_fakes(tmp_path, "A")
