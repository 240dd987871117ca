"""Tables, normalising, tiling and writing images."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

import utils
from xraygan import disk


@given(arrays.arrays(np.uint8, (2, 3, 3, 1)))
def test_normalisations_are_inverted_exactly(pixels):
    assert utils.to_unit(pixels).min() >= 0
    assert utils.to_unit(pixels).max() <= 1
    assert np.abs(utils.to_signed(pixels)).max() <= 1
    np.testing.assert_array_equal(utils.from_unit(utils.to_unit(pixels)), pixels)
    np.testing.assert_array_equal(utils.from_signed(utils.to_signed(pixels)), pixels)


def test_fakes_are_not_stretched_by_their_own_range():
    np.testing.assert_array_equal(utils.from_signed(np.array([-0.5, 0.0, 0.5, 2.0])), [64, 128, 191, 255])


def test_grid_places_images_row_by_row():
    images = np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 4, 4, 1), np.uint8)
    grid = utils.image_grid(images, num_columns=2, gap=1)
    assert grid.shape == (9, 9)
    assert (grid[0, 0], grid[0, 5], grid[5, 0], grid[5, 5], grid[4, 0]) == (1, 2, 3, 0, 0)


def test_every_published_column_that_holds_classes_is_read_as_text():
    """A class may be called 007, and a column that isn't among `utils.NAMES` would give it back as 7."""
    classes, found = {"NORMAL", "COVID19", "PNEUMONIA"}, set()
    for file in (disk.ROOT / "results" / "published").rglob("*.csv"):
        table = pd.read_csv(file, dtype=str)
        found |= {name for name in table if not classes.isdisjoint(table[name].unique())}
    assert {"class", "minority", "label", "prediction"} <= found <= set(utils.NAMES)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="crash"), disk.replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError("crash")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]
