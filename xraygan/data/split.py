"""Which image trains, validates or tests: drawn by groups, class by class, from a seed; drawn again for every replicate.

The order of the draw comes from a hash of the seed and of the name of each group's first file, not from a library's random numbers: the same
images, groups and seed give the same split in every version of every package. A name has the part of the split, the class, the path below
the class's folder and the file's own name with its suffix; how people spell the folders of parts and classes, and what lies above them,
makes no difference, and files that are renamed or saved in another format are drawn anew.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from xraygan import run

ON_LEAK = ("drop", "report")  # what may become of training images with a near-copy in the test folder
LEAK, UNUSED = "leak", "unused"  # parts of the split that nothing is trained or measured on
FEWEST_TESTED = 2  # test images of a class, or groups of them, that differ: without a second one there is no spread
FEWEST_JUDGED = 6  # held-out images, and fakes, that fakes can be judged by
TEST_SHARE = 0.2  # of the images, where they come without a test folder
VALIDATION_SHARE = 0.2  # of the training images of each class, real ones only


def make_split(image_set, groups, test_share=0.0, max_train_images=None, on_leak="drop", seed=0):
    """Assign every image to a part.

    Images of one group (near-copies, or one patient) never stand on both sides of training, validation and test, with one exception:
    a test folder that comes with the images stays as it is, and `on_leak` says what happens to training images of its groups.

    Args:
        image_set: `sources.ImageSet`.
        groups: `int (N,)`.
        test_share: 0 takes the test folder as it is; a share draws the test images from all images, of each class that share.
            `TEST_SHARE` is taken where the images come without a test folder.
        max_train_images: keep about this many images for training and validation, class by class in proportion, but of each class a
            tenth of this many if it has them; None or 0 keeps all.
        on_leak: "drop" leaves out training images whose group also stands in the test folder, "report" keeps them.
        seed: of the draw.

    Returns:
        DataFrame with columns file, class, part ("train", "validation", "test", "leak" or "unused"), group, and folder: "test" for
        images that stay in test whatever is drawn, else "".

    Raises:
        ValueError: a class has too few groups to stand in every part.
    """
    is_fixed = (np.asarray(image_set.folders) == "test") & (test_share == 0)
    if not is_fixed.any():
        test_share = test_share or TEST_SHARE
    names = np.array(image_set.source.classes)[image_set.labels]
    table = pd.DataFrame({"file": image_set.files, "class": names, "part": np.where(is_fixed, "test", ""), "group": groups})
    table["folder"] = np.where(is_fixed, "test", "")
    if on_leak == "drop":
        table.loc[~is_fixed & table["group"].isin(table.loc[is_fixed, "group"]), "part"] = LEAK
    _require_not_all_leaks(table)
    drawn = table[table["part"] == ""]
    counts = drawn["class"].value_counts().reindex(image_set.source.classes, fill_value=0)
    test = np.minimum((test_share * counts).round().astype(int), counts - 2)  # one stays for training, one for validation
    learned = _limit(counts - test.clip(lower=0), max_train_images)
    validation = np.minimum((VALIDATION_SHARE * learned).round().astype(int), learned - 1).clip(lower=1)
    tested = test.clip(lower=np.minimum(FEWEST_TESTED, counts - 2).clip(lower=1))
    targets = {"train": learned - validation, "validation": validation} | ({"test": tested} if test_share else {})
    _require_enough_groups(drawn, image_set.source.classes, list(targets))
    table.loc[drawn.index, "part"] = _draw_parts(drawn, targets, seed)
    return _settle(table, seed)


def describe_draw(image_set, test_share=0.0):
    """A sentence where the images come without a test folder, so that `make_split` draws the test images; else ""."""
    if (np.asarray(image_set.folders) == "test").any():
        return ""
    return (
        f"The images come without a test folder: about {test_share or TEST_SHARE:.0%} of each class are drawn for the test, anew for each replicate; "
        "near-copies and, where patients are known, the images of a patient stay together. TEST_SHARE sets another share."
    )


def _require_enough_groups(drawn, classes, parts):
    """Stop where a class has too few groups to stand in each part that is drawn."""
    for name in classes:
        sizes = drawn.loc[drawn["class"] == name, "group"].value_counts()
        if len(sizes) < len(parts):
            raise ValueError(
                f"class {name} has {len(sizes)} usable images or groups of images that belong together (near-copies, or of one patient; the largest "
                f"group has {sizes.max() if len(sizes) else 0} of {sizes.sum()} images), too few for one each in {', '.join(parts)}: add images or "
                "patients, or leave it out with CLASSES."
            )


def _settle(table, seed):
    """The table that `redraw` gives again with its own seed: groups of several classes may bring other numbers than were aimed at."""
    for _ in range(100):
        again = redraw(table, seed)
        if again.equals(table):
            break
        table = again
    return table


def _require_not_all_leaks(table):
    """Stop where a class has too few training images because the others have a twin, or their patient, in test."""
    for name, of in table[table["folder"] != "test"].groupby("class", sort=False):
        kept, leaks = of.loc[of["part"] != LEAK, "group"].nunique(), int((of["part"] == LEAK).sum())
        if kept < 2 and leaks:
            ways = ["take other test images"]
            if table.loc[table["class"] == name, "group"].nunique() > 2:  # one for each part
                ways.append("let them be drawn so that nothing is in two parts (make study TEST_SHARE=0.2)")
            if of["group"].nunique() > 1:
                ways.append("keep those training images (ON_LEAK = 'report' in the parameter cell of notebook 1)")
            raise ValueError(
                f"class {name} has {kept} usable images or groups of images that belong together, since {leaks} of its {len(of)} training images "
                f"show a picture or a patient that is also in test: {', or '.join(ways)}."
            )


def require_comparable(table, classes):
    """Stop where a class has no image to learn from, or too few test images for notebook 3, which compares remedies over images or patients.

    Raises:
        ValueError: a class has no training or validation image, or fewer than two test images, or groups of them.
    """
    counts = count_images(table, classes)
    for part in ("train", "validation"):
        for name in classes:
            if not counts.get(part, {}).get(name, 0):
                raise ValueError(f"class {name} has no {part} image: add images, or leave the class out with CLASSES.")
    groups = table[table["part"] == "test"].groupby("class")["group"].nunique()
    is_drawn = not (table["folder"] == "test").any()
    advice = "draw more of them with a larger TEST_SHARE, 0.3 say" if is_drawn else "draw them from all images with TEST_SHARE"
    for name in classes:
        if groups.get(name, 0) < FEWEST_TESTED:
            raise ValueError(
                f"class {name} has {groups.get(name, 0)} test images or patients, and notebook 3 compares by at least {FEWEST_TESTED} of each "
                f"class: add images, {advice}, or leave the class out with CLASSES."
            )


def redraw(table, seed):
    """The split of another replicate: of other groups, and of as many images of each class in each part as whole groups allow.

    Args:
        table: of `make_split`.
        seed: of the draw; that of the table gives the table again.

    Returns:
        DataFrame like `table`. Images of a test folder stay where they are, and so do leaks.
    """
    drawn = table[(table["folder"] != "test") & (table["part"] != LEAK)]
    counts = pd.crosstab(drawn["class"], drawn["part"])
    targets = {part: counts[part] for part in ("train", "validation", "test") if part in counts}
    table = table.copy()
    table.loc[drawn.index, "part"] = _draw_parts(drawn, targets, seed)
    return table


def list_replicates(table, seeds):
    """In which part each image is in each replicate, for those who train a generator of their own for each.

    Args:
        table: of `make_split`.
        seeds: of the replicates.

    Returns:
        DataFrame: file, class, and for each replicate, counted from 0, the column `part_in_0` and so on; all but test images are drawn anew.
    """
    parts = {f"part_in_{number}": redraw(table, seed)["part"] for number, seed in enumerate(seeds)}
    return table[["file", "class"]].assign(**parts)


def order_by_hash(names, seed, draw=""):
    """The places `int (N,)` of the names in a random order that depends on the seed, the draw's name and the names alone.

    A draw from what an earlier one left needs a name of its own: in the earlier order what was left comes last.
    """
    digests = [hashlib.sha256(f"{draw}{seed}\n{name}".encode()).digest() for name in names]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), int)


def _limit(counts, max_images):
    """How many images of each class are kept: all, or about `max_images` together; a rare class isn't thinned to a handful."""
    if not max_images or counts.sum() <= max_images:
        return counts
    in_proportion = max_images * counts // counts.sum()
    return np.minimum(counts, in_proportion.clip(lower=max(2, max_images // 10)))


def _draw_parts(rows, targets, seed):
    """A part for each row: test and validation are filled with whole groups, then training; what remains is unused.

    Args:
        rows: DataFrame with columns file, class and group.
        targets: {part: Series of numbers of images by class}.
        seed: of the order in which groups are taken.

    Returns:
        Series of parts, by the index of `rows`.
    """
    first_files = rows.groupby("group")["file"].min()
    groups = list(first_files.index[order_by_hash(first_files, seed)])
    members = defaultdict(Counter)
    for group, name in zip(rows["group"], rows["class"], strict=True):
        members[group][name] += 1
    part_of = {}
    for part in ("test", "validation"):
        if part in targets:
            later = 2 if part == "test" else 1  # parts that still need a group of each class
            remaining = [group for group in groups if group not in part_of]
            part_of |= dict.fromkeys(_choose_groups(remaining, members, targets[part].to_dict(), later, part), part)

    place = {group: number for number, group in enumerate(groups)}
    parts = rows["group"].map(part_of)
    free = rows[parts.isna()]
    free = free.iloc[np.lexsort([free["file"], free["group"].map(place)])]
    is_trained = free.groupby("class").cumcount() < free["class"].map(targets["train"])
    return parts.fillna(is_trained.map({True: "train", False: UNUSED}).reindex(parts.index))


def _choose_groups(groups, members, targets, later, part):
    """The groups, in their order, that bring each class as near to its target as whole groups can without going beyond it.

    A class of which no group is small enough gets its smallest one. Each class keeps at least `later` groups for other parts.

    Args:
        groups: in the order in which they are taken.
        members: {group: {class: number of its images}}.
        targets: {class: number of images}.
        later: groups of each class that must remain.
        part: the part's name, for the message.

    Raises:
        ValueError: a class has too few groups.
    """
    chosen, have = [], Counter()
    left = Counter(name for group in groups for name in members[group])
    for name in targets:
        if left[name] <= later:
            raise ValueError(
                f"class {name} has {left[name]} usable images or groups of images that belong together, too few for "
                f"one each in training, validation and test ({part} would have none): add images, or leave it out with CLASSES."
            )

    def take(group):
        chosen.append(group)
        have.update(members[group])
        left.subtract(dict.fromkeys(members[group], 1))

    def can_spare(group):
        return all(left[name] > later for name in members[group])

    for group in groups:
        if can_spare(group) and all(have[name] + count <= targets[name] for name, count in members[group].items()):
            take(group)
    for name in targets:
        if targets[name] and not have[name]:
            possible = [group for group in groups if name in members[group] and group not in chosen and can_spare(group)]
            if not possible:
                raise ValueError(
                    f"{part} would have no image of {name}: all its images belong together with too many others; add images, or "
                    "choose other CLASSES."
                )
            take(min(possible, key=lambda group: members[group].total()))
    return chosen


def count_images(split, classes):
    """Images by class (rows) and part (columns), with sums."""
    parts = [part for part in ("train", "validation", "test", LEAK, UNUSED) if (split["part"] == part).any()]
    table = pd.crosstab(split["class"], split["part"]).reindex(index=list(classes), columns=parts, fill_value=0)
    table.loc["all"] = table.sum()
    return table.rename_axis(index=None, columns=None)


def write_split(split, folders):
    """Write the split to `results/RUN/split.csv`; the run's record is there already."""
    run.write_table(split, folders, run.SPLIT)


def read_split(folders):
    """The split that notebook 1 wrote.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: it was changed since.
    """
    return run.read_table(folders, run.SPLIT, run.NOTEBOOK_1)


def list_unseen_test_files(split):
    """The test images whose group (twin or patient) stands in no part that comes from the train folder, left out or not.

    Where there is no test folder these are all images: each replicate draws its test part by groups, so none has a twin in its other parts.
    """
    if not (split["folder"] == "test").any():
        return split["file"]
    learned = split.loc[split["part"] != "test", "group"]
    return split.loc[(split["part"] == "test") & ~split["group"].isin(learned), "file"]
