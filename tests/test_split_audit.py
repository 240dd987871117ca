"""Groups, the split, shortcuts."""

import dataclasses
import hashlib
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xraygan import run
from xraygan.data import audit, patients, phantom, sources, split
from xraygan.data.dataset import RESERVE, Dataset, Setting
from xraygan.data.layouts import Record, name_folders, name_records
from xraygan.data.sources import ImageSet, Source


def image_set(parts, labels, images=None, digests=None):
    """An `ImageSet` without files on disk."""
    size = len(parts)
    labels = np.asarray(labels)
    names = tuple("ABCDEFGHIJ"[: labels.max() + 1])
    files = np.array(
        [f"{part}/{names[label]}/{index}.png" for index, (part, label) in enumerate(zip(parts, labels, strict=True))]
    )
    images = np.zeros((size, 8, 8, 1), np.uint8) if images is None else images
    digests = np.arange(size).astype(str) if digests is None else np.asarray(digests)
    return ImageSet(Source("test", None, names, names[-1], False), images, labels, np.asarray(parts), files, digests)


def test_equal_bytes_and_patients_join_groups():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    data = image_set(["train"] * 6, [0, 1] * 3, images, digests=list("aabcde"))
    groups = audit.find_groups(data, np.array(["p", "q", "p", "r", "", ""]))
    assert groups[0] == groups[1] == groups[2]  # 0 and 1 by bytes, 0 and 2 by patient
    assert len(set(groups)) == 4, "images without a known patient were joined"


def test_the_list_of_replicates_is_what_their_trainings_use(phantom_images):
    """So that a generator of one's own can learn from the training images of a replicate and from no others."""
    groups = audit.find_groups(phantom_images)
    table = split.make_split(phantom_images, groups, test_share=0.3, seed=5)
    listed = split.list_replicates(table, range(5, 8)).set_index("file")
    data, setting = Dataset(phantom_images, table, 5), Setting(("NORMAL", "COVID19"), "COVID19")
    for number in range(3):
        parts = data.select_all(setting, 5 + number)
        for part in ("train", "validation", "test"):
            assert set(listed.index[listed[f"part_in_{number}"] == part]) == set(parts[part].files)
    assert (listed["part_in_0"] != listed["part_in_1"]).any()


NAMED = {  # where files lie, as (part, class, path below the class's folder), and what they are called
    "Train/Sick/a.png": ("train", "Sick", ("a.png",), "train/Sick/a.png"),
    "x/TEST/Sick/a.png": ("test", "Sick", ("a.png",), "test/Sick/a.png"),
    "val/Sick/deep/b.png": ("validation", "Sick", ("deep", "b.png"), "train/Sick/deep/b.png"),
    "Sick/train/c.png": ("train", "Sick", ("c.png",), "train/Sick/c.png"),
    "train/Well/d.png": ("train", "Well", ("d.png",), "train/Well/d.png"),  # two of one name: by their paths
    "val/Well/d.png": ("validation", "Well", ("d.png",), "val/Well/d.png"),
    "Train/table/e.png": ("train", "Sick", ("Train/table/e.png",), "Train/table/e.png"),  # named by a CSV
}


def test_files_are_called_alike_however_their_folders_are_spelt():
    records = [Record(None, file, label, part, inside) for file, (part, label, inside, _) in NAMED.items()]
    folder_of = name_folders({"train", "validation", "test"})
    assert name_records(records, folder_of) == [name for *_, name in NAMED.values()]
    unsplit = [record._replace(part="") for record in records[:1]]
    assert name_records(unsplit, {"": ""}) == ["Sick/a.png"]


def test_groups_names_files_where_they_lie(tmp_path):
    places = {"train/A/0.png": "x/Training/A/0.png", "test/A/0.png": "x/Testing/A/0.png"}
    data = dataclasses.replace(image_set(["train", "test"], [0, 0]), files=np.array(list(places)), places=places)
    (tmp_path / "groups.csv").write_text("file,group\nx/Testing/A/0.png,q\nx/Training/A/0.png,p\n")
    names, _ = audit.read_groups(tmp_path / "groups.csv", data)
    assert names.tolist() == ["p", "q"]


def test_patients_that_the_set_knows_count_beside_those_of_groups():
    """GROUPS names two of five images; of the others the set itself, DICOM say, knows two of one patient."""
    rng = np.random.default_rng(0)
    data = image_set(["train"] * 5, [0, 1, 0, 1, 0], rng.integers(0, 256, (5, 32, 32, 1), dtype=np.uint8))
    data = dataclasses.replace(data, patients=np.array(["", "", "x", "x", ""]))
    groups = audit.find_groups(data, np.array(["p", "p", "", "", ""]))
    assert groups[0] == groups[1] and groups[2] == groups[3] and len(set(groups)) == 3


def test_group_file(tmp_path):
    files = np.array(["train/A/0.png", "train/A/1.png", "test/A/0.png"])
    path = tmp_path / "groups.csv"
    pd.DataFrame({"file": files[[0, 2]], "group": ["p1", "p1"]}).to_csv(path, index=False)
    assert read_groups(path, files) == (
        ["p1", "", "p1"],
        ["GROUPS names a patient for 2 of 3 images; not for train/A/1.png."],
    )
    pd.DataFrame({"file": files, "group": ["p1", None, None]}).to_csv(path, index=False)
    assert read_groups(path, files)[0] == ["p1", "", ""]
    with pytest.raises(ValueError, match="GROUPS is .* and there is no such file"):
        read_groups(tmp_path / "none.csv", files)
    with pytest.raises(ValueError, match="names none of the images"):
        read_groups(path, np.array(["x.png"]))
    pd.DataFrame({"file": files, "person": "p"}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="no column group; its columns are file, person"):
        read_groups(path, files)


def read_groups(path, files):
    """The patients of images of one class as a list, and what is said."""
    names, said = audit.read_groups(path, dataclasses.replace(image_set(["train"] * len(files), [0] * len(files)), files=files))
    return names.tolist(), said


FILES = np.array(["A/0.png", "A/1.png", "A/2.png", "B/3.png"])
TABLES = {  # a table of GROUPS for these files: its beginning, what separates its fields, the patients' fields, the patients
    "semicolons": ("file;group", ";", "pqpr", "pqpr"),
    "tabs, other headings": ("Image Index\t Patient ID", "\t", "pqpr", "pqpr"),
    "sep=": ("sep=,\nFile, GROUP", ",", "pqpr", "pqpr"),
    "group before patient": ("file,patient,group", ",", ("x,p", "x,q", "y,p", "z,r"), "pqpr"),
    "blanks": ("file,group", ",", (" p", "q ", "p ", "r"), "pqpr"),
    "whole numbers": ("file,group", ",", ("12", "13", "12.0", "1.5"), ("12", "13", "12", "1.5")),
    "nobody": ("file,group", ",", ("NA", "unknown", "", "-"), ("",) * 4),
    "nobody else": ("file,group", ",", ("n/a", "nan", "None", "?"), ("",) * 4),
}
SPELLINGS = ["{}", "./{}", "/data/xrays/{}", "C:\\xrays\\{}", "{name}", "{name} "]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", TABLES)
def test_groups_are_read_as_a_table_of_labels_is(case, spelling, tmp_path):
    beginning, separator, fields, expected = TABLES[case]
    written = [spelling.format(file, name=file.split("/")[1]) for file in FILES]
    rows = [f"{file}{separator}{field}" for file, field in zip(written, fields, strict=True)]
    (tmp_path / "groups.csv").write_text("\n".join([beginning, *rows]))
    assert read_groups(tmp_path / "groups.csv", FILES)[0] == list(expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_groups_in_other_encodings(encoding, tmp_path):
    (tmp_path / "groups.csv").write_bytes("file,group\nA/0.png,환자\nA/1.png,환자\n".encode(encoding))
    assert read_groups(tmp_path / "groups.csv", FILES)[0] == ["환자", "환자", "", ""]


def test_an_image_with_two_patients_is_a_sentence(tmp_path):
    (tmp_path / "groups.csv").write_text("file,group\nA/0.png,p\n./A/0.png,p\nA/0.png,q\n")
    with pytest.raises(ValueError, match="GROUPS names A/0.png twice, with two patients; keep one row"):
        read_groups(tmp_path / "groups.csv", FILES)


SHARED = {  # patients of 20 images of class A and 20 of B: those that are left, and of which classes it is said
    "pairs": ([f"p{index // 2}" for index in range(40)], 20, []),
    "one for each class": (["x"] * 20 + ["y"] * 20, 0, ["A", "B"]),
    "one for most of a class": (["x"] * 15 + [f"p{index}" for index in range(25)], 25, ["A"]),
    "one for half of a class": (["x"] * 10 + [f"p{index}" for index in range(30)], 31, []),
    "one in both": (["x"] * 30 + [""] * 10, 0, ["A"]),
}


@pytest.mark.parametrize("case", SHARED)
def test_a_name_that_most_images_of_a_class_have_is_of_nobody(case):
    names, left, classes = SHARED[case]
    kept, said = patients.drop_shared(np.array(names), np.repeat([0, 1], 20), ("A", "B"))
    assert len(set(kept) - {""}) == left
    assert [sentence.split(" have ")[0].split()[-1] for sentence in said] == classes
    few, said = patients.drop_shared(np.array(["x"] * 4), np.zeros(4, int), ("A",))
    assert set(few) == {"x"} and not said, "one patient may have all of a few images"


def test_leaks_are_dropped_or_kept():
    data = image_set(["train"] * 20 + ["test"] * 4, [0, 1] * 12)
    groups = np.arange(24)
    groups[[0, 20]] = 100  # train 0 and test 20 are one picture
    dropped = split.make_split(data, groups)
    assert list(dropped.loc[dropped["part"] == split.LEAK].index) == [0]
    assert (dropped.loc[20:, "part"] == "test").all()
    assert split.LEAK not in set(split.make_split(data, groups, on_leak="report")["part"])
    table = audit.count_leaks(data, groups)["number"]
    assert table["train images with their group in test"] == 1
    assert table["test images with their group in train"] == 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(30, 120))
def test_split_laws(seed, num_classes, num_images):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), np.arange(num_classes), rng.integers(0, num_classes, num_images)])
    parts = np.array(["train"] * len(labels))
    parts[:num_classes] = "test"
    groups = rng.integers(0, num_images, len(labels))
    try:
        result = split.make_split(image_set(parts, labels), groups, seed=seed)
    except ValueError as error:
        assert re.search("too few for one each in|would have no image of|that is also in test", str(error))
        return
    part, train = result["part"].to_numpy(), set(groups[result["part"] == "train"])
    assert train.isdisjoint(groups[part == "validation"])
    assert train.isdisjoint(groups[part == "test"])
    assert (part[parts == "test"] == "test").all()
    again = split.make_split(image_set(parts, labels), groups, seed=seed)
    pd.testing.assert_frame_equal(result, again)
    pd.testing.assert_frame_equal(split.redraw(result, seed), result)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.5]), st.integers(3, 40), st.integers(3, 40))
def test_replicates_redraw_patients_and_nothing_else(seed, test_share, first, second):
    """Each class keeps about its numbers in every part, no patient stands on two sides, and the own seed gives the split again."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([rng.permutation(np.arange(count * 2) // 2) + base for count, base in ((first, 0), (second, 1000))])
    labels = np.repeat([0, 1], [2 * first, 2 * second])
    folders = np.where(rng.random(len(labels)) < 0.2, "test", "train").astype(object)
    folders[[0, -1]], folders[[1, -2]] = "test", "train"
    try:
        table = split.make_split(image_set(folders, labels), groups, test_share=test_share, seed=seed)
    except ValueError as error:
        assert re.search("too few for one each in|that is also in test", str(error))
        return
    pd.testing.assert_frame_equal(split.redraw(table, seed), table)
    other = split.redraw(table, seed + 1)
    for drawn in (table, other):
        sides = [set(drawn.loc[drawn["part"] == part, "group"]) for part in ("train", "validation", "test")]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        assert all(drawn[drawn["part"] == part]["class"].nunique() == 2 for part in ("train", "validation", "test"))
    counts, others = (pd.crosstab(drawn["class"], drawn["part"]) for drawn in (table, other))
    assert (counts.sum(axis=1) == others.sum(axis=1)).all()
    assert (counts[["train", "validation", "test"]] - others[["train", "validation", "test"]]).abs().to_numpy().max() <= 2
    if not test_share:
        assert ((table["part"] == "test") == (other["part"] == "test")).all(), "a test folder stays as it is"


def test_a_split_depends_on_seed_files_and_groups_alone():
    """Not on the order of the images, nor on the numbers that groups go by; and it is the same in every version of every library."""
    labels, groups = np.repeat([0, 1], [40, 20]), np.repeat(np.arange(30), 2)
    data = image_set(["train"] * 60, labels)
    table = split.make_split(data, groups, test_share=0.3, seed=7).set_index("file")
    again = split.make_split(data, 1000 - groups, test_share=0.3, seed=7).set_index("file")
    assert (table["part"] == again["part"]).all()
    digest = hashlib.sha256("".join(table.sort_index()["part"]).encode()).hexdigest()
    assert digest[:12] == "47c69de8fec6"


@pytest.mark.parametrize("seed", range(40))
def test_three_patients_are_enough_for_three_parts(seed):
    """3 groups of one class and 10 of another are split whatever the seed, each part with both classes."""
    labels, groups = np.repeat([0, 1], [9, 30]), np.repeat(np.arange(13), 3)
    table = split.make_split(image_set(["train"] * 39, labels), groups, test_share=0.2, seed=seed)
    assert all(table[table["part"] == part]["class"].nunique() == 2 for part in ("train", "validation", "test"))


@pytest.mark.parametrize("seed", range(10))
def test_a_split_is_stratified_by_group(seed):
    """100 healthy and 20 sick images, 1 to 4 a patient: validation gets 15 to 25 % of either."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [100, 20])
    groups = np.concatenate(
        [np.repeat(np.arange(100), rng.integers(1, 5, 100))[:100], 1000 + np.repeat(np.arange(20), rng.integers(1, 5, 20))[:20]]
    )
    table = split.make_split(
        image_set(["train"] * 120 + ["test"] * 2, np.append(labels, [0, 1])), np.append(groups, [9998, 9999]), seed=seed
    )
    shares = pd.crosstab(table["class"], table["part"])[["validation"]].div([100, 20], axis=0)
    assert shares.to_numpy().min() >= 0.15 and shares.to_numpy().max() <= 0.25


def test_quick_size_keeps_the_imbalance():
    data = image_set(["train"] * 1000 + ["test"] * 10, [0] * 750 + [1] * 250 + [0, 1] * 5)
    result = split.make_split(data, np.arange(1010), max_train_images=200)
    table = split.count_images(result, ("A", "B"))
    assert table.loc["A", "train"] + table.loc["A", "validation"] == 150
    assert table.loc["B", "train"] + table.loc["B", "validation"] == 50
    assert table.loc["all", "validation"] == 40
    assert table.loc["all", split.UNUSED] == 800


def test_quick_size_leaves_enough_of_a_rare_class():
    data = image_set(["train"] * 5000 + ["test"] * 10, [0] * 4940 + [1] * 60 + [0, 1] * 5)
    table = split.count_images(split.make_split(data, np.arange(5010), max_train_images=200), ("A", "B"))
    assert table.loc["B", ["train", "validation"]].sum() == 20
    assert table.loc["A", ["train", "validation"]].sum() == 197


def test_a_class_may_be_called_none(folders):
    data = image_set(["train"] * 20 + ["test"] * 4, [0, 1] * 12)
    table = split.make_split(data, np.arange(24)).replace({"class": {"A": "None"}})
    run.start_record(folders)
    split.write_split(table, folders)
    assert split.read_split(folders)["class"].tolist() == table["class"].tolist()


@pytest.mark.parametrize(("counts", "share"), [((40, 5), 0.8), ((40, 3), 0.9), ((12, 4), 0.9), ((40, 30), 0.9)])
def test_a_large_test_share_leaves_an_image_to_train_and_to_validate(counts, share):
    data = image_set(["train"] * sum(counts), np.repeat([0, 1], counts))
    table = split.make_split(data, np.arange(sum(counts)), test_share=share, max_train_images=6)
    assert split.count_images(table, ("A", "B"))[["train", "validation", "test"]].to_numpy().min() >= 1
    with pytest.raises(ValueError, match="class B has no train image: add images, or leave the class out"):
        split.require_comparable(table[(table["class"] == "A") | (table["part"] != "train")], ("A", "B"))


def test_a_class_of_one_patient_is_a_sentence_with_the_patients_share():
    data = image_set(["train"] * 24, np.repeat([0, 1], 12))
    with pytest.raises(
        ValueError, match="class B has 1 usable .* the largest group has 12 of 12 images.*add images or patients"
    ):
        split.make_split(data, np.append(np.arange(12), [99] * 12))


def test_too_few_images_is_a_sentence():
    data = image_set(["train"] * 11 + ["test"] * 2, [0] * 10 + [1] + [0, 1])
    with pytest.raises(ValueError, match="class B has 1 usable images or groups of images"):
        split.make_split(data, np.arange(13))


@pytest.mark.parametrize("can_be_drawn", [True, False])
def test_images_that_were_left_out_as_twins_are_no_missing_images(can_be_drawn):
    """To add images wouldn't help: all of a class's training images are in test, too. TEST_SHARE helps where they are of several groups."""
    data = image_set(["train"] * 20 + ["test"] * 10, [0] * 10 + [1] * 10 + [0, 1] * 5)
    groups = np.arange(30)
    groups[:10] = groups[20::2] = 100
    if can_be_drawn:
        groups[:10], groups[20::2] = np.arange(100, 110) // 2, np.arange(50, 55)
    with pytest.raises(
        ValueError, match="class A has 0 usable .*, since 10 of its 10 training images show a picture or a"
    ) as said:
        split.make_split(data, groups)
    ways = str(said.value).split("also in test: ")[1]
    assert ways.startswith("take other test images")
    assert ("(make study TEST_SHARE=0.2)" in ways) == ("ON_LEAK = 'report' in the parameter cell of" in ways) == can_be_drawn
    if can_be_drawn:
        assert set(split.make_split(data, groups, test_share=0.2)["part"]) == {"train", "validation", "test"}
        assert (split.make_split(data, groups, on_leak="report")["part"] == "train").any()
    assert (split.make_split(data, np.arange(30))["part"] == "train").any()


@pytest.mark.parametrize("groups", [[0, 1, 2], [0, 0, 1]], ids=["one image", "one patient"])
def test_too_few_test_images_to_compare_by_stop_notebook_1(groups):
    labels = ["A", "B", "B"] if len(set(groups)) == 3 else ["A", "A", "B"]
    table = pd.DataFrame({"file": list("abc"), "class": labels, "part": "test", "group": groups, "folder": "test"})
    table = pd.concat([table, table.assign(part="train"), table.assign(part="validation")])
    two = pd.concat([table, table.assign(group=table["group"] + 10)])
    split.require_comparable(two, ("A", "B"))
    with pytest.raises(
        ValueError,
        match="class A has 1 test images or patients, and notebook 3 compares by at least 2 .*from all images with TEST_SHARE",
    ):
        split.require_comparable(table[table["class"] == "A"], ("A",))
    with pytest.raises(ValueError, match="draw more of them with a larger TEST_SHARE, 0.3 say"):
        split.require_comparable(table[table["class"] == "A"].assign(folder=""), ("A",))
    with pytest.raises(ValueError, match="class C has no train image"):
        split.require_comparable(two, ("A", "B", "C"))


def test_a_tiny_share_still_draws_enough_to_compare_by():
    data = image_set([""] * 40, [0] * 20 + [1] * 20)
    table = split.make_split(data, np.arange(40), test_share=0.0001)
    assert (table[table["part"] == "test"].groupby("class").size() == split.FEWEST_TESTED).all()


def test_split_survives_the_disk(folders, phantom_images):
    result = split.make_split(phantom_images, np.arange(len(phantom_images.files)))
    with pytest.raises(FileNotFoundError, match="run notebooks/1_before_gan.ipynb first"):
        split.read_split(folders)
    run.start_record(folders)
    split.write_split(result, folders)
    pd.testing.assert_frame_equal(split.read_split(folders), result, check_dtype=False)


def test_class_names_that_look_like_numbers_stay_text(folders):
    data = dataclasses.replace(
        image_set(["train"] * 20 + ["test"] * 2, [0, 1] * 11), source=Source("t", None, ("0", "1"), "1", False)
    )
    run.start_record(folders)
    split.write_split(split.make_split(data, np.arange(22)), folders)
    assert set(split.read_split(folders)["class"]) == {"0", "1"}


def test_a_setting_selects_its_images_in_the_order_of_the_split(phantom_images):
    """Few real images: as many of the minority class as asked for in training, as large a share in validation, all of them in test."""
    table = split.make_split(phantom_images, np.arange(len(phantom_images.files)))
    data = Dataset(phantom_images, table)
    whole = Setting(("NORMAL", "COVID19"), "COVID19")
    few = dataclasses.replace(whole, num_real=6)
    assert (whole.name, few.name, few.minority_label) == ("2-classes", "COVID19-6", 1)
    counts = {part: table[table["part"] == part]["class"].value_counts() for part in ("train", "validation", "test")}
    for part in counts:
        selected = data.select_all(whole)[part]
        assert selected.files.tolist() == table.loc[table["part"] == part, "file"].tolist()
        np.testing.assert_array_equal(selected.images, phantom_images.images[phantom_images.find_rows(selected.files)])
        assert (selected.labels == [file.split("/")[1] == "COVID19" for file in selected.files]).all()
        scarce = data.select_all(few)[part]
        assert (scarce.labels == 0).sum() == counts[part]["NORMAL"]
        expected = {"train": 6, "validation": round(6 / counts["train"]["COVID19"] * counts[part]["COVID19"])}
        assert (scarce.labels == 1).sum() == expected.get(part, counts[part]["COVID19"])
    first, again, other = (set(data.select_all(few, seed)["train"].files) for seed in (0, 0, 1))
    assert first == again != other
    more = set(data.select_all(dataclasses.replace(whole, num_real=9), 0)["train"].files)
    assert first < more, "a larger number has the smaller one's images among its own"
    reserve = set(data.select_all(few, 0)[RESERVE].files)
    assert not reserve & first and more - first <= reserve and all("COVID19" in file for file in reserve)
    of_class = data.select_class(["COVID19"], "train")
    np.testing.assert_array_equal(of_class, data.select_all(whole)["train"].images[data.select_all(whole)["train"].labels == 1])


def test_few_images_are_a_fair_draw_from_the_training_part():
    """Half of the images are alone, the others in groups of five. Were few images drawn in the order in which groups were, the first of
    a group would come last, and nobody who has one image would be among few patients.
    """
    labels, groups = np.tile([0, 1], 400), np.arange(800)
    groups[400:] = 400 + np.arange(400) // 10 * 10 + np.arange(400) % 2  # five of a class each
    data = image_set(["train"] * 800, labels)
    table = split.make_split(data, groups, test_share=0.5)
    size, first = (table.groupby("group")["file"].transform(what) for what in ("size", "min"))
    alone, leads = (set(table.loc[chosen, "file"]) for chosen in (size == 1, first == table["file"]))
    few = Setting(("A", "B"), "B", num_real=20)
    for part, expected in (("train", 20), ("validation", 5)):
        drawn = [Dataset(data, table).select_all(few, seed)[part] for seed in range(30)]
        files = np.concatenate([of.files[of.labels == 1] for of in drawn])
        assert len(files) == 30 * expected
        of_alone, of_leads = (np.mean([file in chosen for file in files]) for chosen in (alone, leads))
        reach = 4 * np.sqrt(0.25 / 30)  # four standard errors were all images of a replicate alike
        assert abs(of_alone - 0.5) < reach and abs(of_leads - 0.6) < reach


def test_a_setting_with_leaks_trains_on_the_twins_that_were_left_out():
    data = image_set(["train"] * 20 + ["test"] * 4, [0, 1] * 12)
    groups = np.arange(24)
    groups[[0, 20]] = 100  # train 0 and test 20 are one picture
    table = split.make_split(data, groups)
    clean = Setting(("A", "B"), "B")
    leaky = dataclasses.replace(clean, with_leaks=True)
    twin = data.files[0]
    assert twin not in Dataset(data, table).select_all(clean)["train"].files
    assert twin in Dataset(data, table).select_all(leaky)["train"].files
    assert leaky.name == "2-classes-with-leaks"
    assert split.list_unseen_test_files(table).tolist() == data.files[21:].tolist()


def shortcut_of(images, labels):
    half = len(images) // 2
    return audit.shortcut_table(images[:half], labels[:half], images[half:], labels[half:])


def test_borders_that_differ_by_class_raise_the_alarm(rng):
    """The same lungs for both classes, and a border whose brightness gives the class away."""
    labels = rng.integers(0, 2, 200)
    images = rng.integers(60, 120, (200, 128, 128, 1)).astype(np.uint8)
    images[:, :12] += (40 * labels[:, None, None, None]).astype(np.uint8)
    table = shortcut_of(images, labels)
    assert table.loc["lungs hidden", "balanced_accuracy"] > 0.95 and audit.has_shortcut(table)


def test_a_difference_in_the_lungs_alone_raises_none(rng):
    labels = rng.integers(0, 2, 200)
    images = rng.integers(60, 120, (200, 128, 128, 1)).astype(np.uint8)
    images[:, 48:80, 48:80] += (40 * labels[:, None, None, None]).astype(np.uint8)
    table = shortcut_of(images, labels)
    assert table.loc["whole image", "balanced_accuracy"] > 0.95 and not audit.has_shortcut(table)


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_the_black_square_hides_the_same_share_of_every_size(image_size):
    """69 % of the side, in the middle: 88 of 128 pixels; what it doesn't hide stays, and so do the images that were given."""
    images = np.full((2, image_size, image_size, 1), 200, np.uint8)
    hidden = audit.hide_lungs(images)
    rows, columns = np.nonzero(hidden[0, ..., 0] == 0)
    side = {64: 44, 128: 88, 256: 176}[image_size]
    border = (image_size - side) // 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (border, border + side - 1) * 2
    assert len(rows) == side**2 and set(np.unique(hidden)) == {0, 200}
    assert (images == 200).all()
    assert side / image_size == pytest.approx(audit.HIDDEN_SHARE) == pytest.approx(0.69, abs=0.005)


@pytest.mark.parametrize("image_size", [32, 64, 256])
@pytest.mark.parametrize("in_the_border", [True, False])
def test_a_shortcut_is_found_at_every_image_size(rng, image_size, in_the_border):
    """The classes differ in a border or in the lungs: the alarm is raised for the border alone."""
    labels = np.arange(160) % 2
    images = rng.integers(60, 120, (160, image_size, image_size, 1)).astype(np.uint8)
    border = slice(0, image_size // 10)
    lungs = slice(3 * image_size // 8, 5 * image_size // 8)
    place = (slice(None), border) if in_the_border else (slice(None), lungs, lungs)
    images[place] += (40 * labels.reshape(-1, *[1] * 3)).astype(np.uint8)
    table = shortcut_of(images, labels)
    assert table.loc["whole image", "balanced_accuracy"] > 0.9
    assert table.loc["whole image", "share"] == 1
    assert table.index.tolist() == list(audit.VIEWS)
    assert audit.has_shortcut(table) == in_the_border


def test_the_phantom_has_no_shortcut(tmp_path):
    """Drawings differ in their lungs, as they should."""
    folder = tmp_path / "phantom"
    phantom.write_phantom(folder, {part: {"NORMAL": 160, "COVID19": 160} for part in ("train", "test")}, show_progress=False)
    drawn = sources.read_images(sources.find_source(str(folder)), show_progress=False)
    train = drawn.folders == "train"
    table = audit.shortcut_table(drawn.images[train], drawn.labels[train], drawn.images[~train], drawn.labels[~train])
    assert table.loc["whole image", "balanced_accuracy"] > 0.7 and not audit.has_shortcut(table)


def test_pairs_to_look_at_are_named(phantom_images):
    groups = np.arange(len(phantom_images.files))
    train = np.flatnonzero(phantom_images.folders == "train")
    test = np.flatnonzero(phantom_images.folders == "test")
    other = train[phantom_images.labels[train] != phantom_images.labels[train[0]]][0]
    groups[[test[0], other]] = groups[train[0]]
    table = audit.list_pairs_across(phantom_images, groups)
    assert len(table) == 3 and set(table["why"]) == {"in two classes", "in train and test"}
    assert (table["why"] == "in two classes").sum() == 2, "one image of another class, two of the same"


def list_pairs_one_by_one(data, groups):
    """The same list, by looking at every pair of images."""
    pairs = itertools.combinations(range(len(groups)), 2)
    together = [(i, j) for i, j in pairs if groups[i] == groups[j]]
    across = [(i, j) for i, j in together if (data.labels[i], data.folders[i]) != (data.labels[j], data.folders[j])]
    return {
        (data.files[i], data.files[j], "in two classes" if data.labels[i] != data.labels[j] else "in train and test")
        for i, j in across
    }


def test_the_list_of_pairs_and_the_counts_are_those_of_every_pair_looked_at(rng):
    parts, labels = rng.choice(["train", "test"], 120), rng.integers(0, 3, 120)
    data, groups = image_set(parts, labels), rng.integers(0, 30, 120)
    table = audit.list_pairs_across(data, groups)
    assert set(zip(table["first"], table["second"], table["why"], strict=True)) == list_pairs_one_by_one(data, groups)
    assert len(table) == len(list_pairs_one_by_one(data, groups))
    group_of = dict(zip(data.files, groups, strict=True))
    assert table["first"].map(group_of).is_monotonic_increasing
    mixed = sum(len(set(labels[groups == group])) > 1 for group in set(groups))
    assert audit.count_leaks(data, groups).loc["groups with more than one class", "number"] == mixed


def test_one_giant_group_is_listed_in_part_and_said(capsys):
    """20,000 images of one group, one in three in test: a list of all 90 million pairs would help nobody."""
    data = image_set(["train", "train", "test"] * 6667, np.arange(20001) % 2)
    table = audit.list_pairs_across(data, np.zeros(20001, int))
    assert len(table) == audit.MOST_LISTED
    assert "more pairs than a person can look at: 10,000 of them are listed" in capsys.readouterr().out


def test_shortcuts_are_learned_from_a_bounded_draw_of_every_class(rng, monkeypatch):
    """Of 3,000 images 400 are used, all classes in proportion, and a rare class whole; the alarm is the same."""
    monkeypatch.setattr(audit, "MOST_LEARNED", 400)
    labels = rng.permutation(np.repeat([0, 1, 2], [2000, 940, 60]))
    images = rng.integers(0, 60, (3000, 32, 32, 1), dtype=np.uint8)
    images[:, :2] += (60 * labels).astype(np.uint8)[:, None, None, None]
    table = audit.shortcut_table(images, labels, images[:500], labels[:500])
    assert audit.has_shortcut(table)
    assert set(table["learned_from"]) == {266 + 125 + 60} and set(table["tried_on"]) == {
        sum(max(400 * count // 500, min(count, 100)) for count in np.bincount(labels[:500]))
    }
    rows = audit._draw_stratified(labels, 400, 0)
    assert len(set(rows)) == len(rows) == 451 and (np.diff(rows) > 0).all()
    assert np.array_equal(rows, audit._draw_stratified(labels, 400, 0))
    assert not np.array_equal(rows, audit._draw_stratified(labels, 400, 1))
    assert np.array_equal(audit._draw_stratified(labels[:300], 400, 0), np.arange(300))


def test_nothing_is_said_about_shortcuts_where_whole_images_are_not_told_apart(rng):
    images, labels = rng.integers(0, 256, (80, 128, 128, 1), dtype=np.uint8), np.arange(80) % 2
    table = audit.shortcut_table(images[:40], labels[:40], images[40:], labels[40:])
    assert table["share"].isna().all() and not audit.has_shortcut(table)


def test_shortcuts_are_looked_for_in_each_choice_of_classes(rng):
    """Classes A and B differ in their borders, C is as B: a shortcut in two classes, and a smaller one in three."""
    labels = np.arange(180) % 3
    images = rng.integers(0, 100, (180, 128, 128, 1), dtype=np.uint8)
    images[labels == 0, :8] = 255
    data = image_set(["train"] * 180, labels, images)
    part = np.where(np.arange(180) < 120, "train", "validation")
    parts = pd.DataFrame(
        {"file": data.files, "class": np.array(["A", "B", "C"])[labels], "part": part, "group": np.arange(180), "folder": ""}
    )
    table = audit.shortcuts_by_setting(Dataset(data, parts), [Setting(("A", "B"), "B"), Setting(("A", "B", "C"), "B")])
    assert table["setting"].tolist() == ["2-classes"] * 4 + ["3-classes"] * 4
    of_two, of_three = (table[table["setting"] == f"{count}-classes"].set_index("view") for count in (2, 3))
    assert of_two.loc["lungs hidden", "balanced_accuracy"] == 1 and of_three.loc["lungs hidden", "balanced_accuracy"] < 0.9
