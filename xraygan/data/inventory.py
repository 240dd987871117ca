"""What became of every file, class by class, and in what a class's files differ from those of the others."""

import numpy as np
import pandas as pd

from xraygan.data import decode, loading
from xraygan.data.labels import AMBIGUOUS, MISSING
from xraygan.data.layouts import DANGLING
from xraygan.data.tree import list_names

USED, DEEP = "used", "in subfolders"
ALWAYS = (USED, DEEP, DANGLING, loading.UNREADABLE, loading.WRONG_FORMAT)  # columns of every inventory
LOST = (DANGLING, loading.UNREADABLE, loading.WRONG_FORMAT, loading.NO_RADIOGRAPH, MISSING, AMBIGUOUS)
LEFT_OUT = ("masks", "other files")  # on purpose
MAX_LOST_SHARE = 0.01  # more lost images than this is a broken download, not bad luck
SHARE_DIFFERS = 0.5  # of a class's files: a format or a depth by which it stands out from every other class
SIZE_DIFFERS = 1.5  # ratio of the median sides
ALLOWED = {"median quality": 10, "median used bits": 2}  # what the medians of classes differ by from which on it is said


def count_files(listing, classes, problems):
    """The inventory of some classes.

    Args:
        listing: `layouts.Listing`.
        classes: class names.
        problems: {file: `loading.Problem`} of the files that were named and couldn't be read.

    Returns:
        DataFrame: a row a class and one for all; columns of numbers: those of `ALWAYS`, and the others of `LOST` and `LEFT_OUT` where there are any.
        "in subfolders" counts images that are among the used.
    """
    chosen = [record for record in listing.records if record.label in classes]
    used = [record for record in chosen if record.file not in problems]
    entries = [(record.label, USED) for record in used]
    entries += [(record.label, DEEP) for record in used if len(record.inside) > 1]
    entries += [(record.label, problems[record.file].kind) for record in chosen if record.file in problems]
    entries += [(label, kind) for label, kind, _ in listing.lost if label in classes]
    table = pd.DataFrame(0, index=list(classes), columns=list(dict.fromkeys([*ALWAYS, *LOST, *LEFT_OUT])))
    for (label, kind), number in pd.Series(entries, dtype=object).value_counts().items():
        table.loc[label, kind] = number
    for (label, kind), number in listing.left_out.items():
        if label in classes:
            table.loc[label, kind] = number
    table.loc["all"] = table.sum()
    return table[[column for column in table if column in ALWAYS or table.loc["all", column]]].rename_axis(index="class")


def format_table(table):
    """The inventory as text, a line a class."""
    return table.rename_axis(index=None).to_string()


def describe_lost(listing, classes, problems):
    """A sentence about the first files of each kind that were lost; "" where none was."""
    lost = [(kind, file, "") for label, kind, file in listing.lost if label in classes]
    lost += [(problem.kind, file, f": {problem.why}") for file, problem in problems.items()]
    sentences = []
    for kind in LOST:
        named = [f"{file}{why}" for each, file, why in lost if each == kind]
        if named:
            sentences.append(f"{kind} ({len(named)}): {'; '.join(named[:3])}{'; …' if len(named) > 3 else ''}")
    return ". ".join(sentences)


def require_few_lost(table, lost):
    """Stop where more than 1 % of the images were lost, of all or of one class (one file of a small class doesn't stop).

    Args:
        table: of `count_files`.
        lost: of `describe_lost`.

    Raises:
        ValueError: with the table.
    """
    missing = table[[column for column in LOST if column in table]].sum(axis=1)
    too_many = missing > MAX_LOST_SHARE * (table[USED] + missing)
    too_many &= (missing > 1) | (table.index == "all")
    if too_many.any():
        raise ValueError(
            f"{missing['all']} of {table.loc['all', USED] + missing['all']} images can't be used, more than {MAX_LOST_SHARE:.0%} of "
            f"{list_names(name for name in table.index[too_many])}: mend these files or remove them. {lost}.\n{format_table(table)}"
        )


# What the files of a class look like


def compare_formats(classes, labels, all_facts):
    """What the used files of each class are like: a class that alone is DICOM, small or strongly compressed can be told by that.

    Args:
        classes: class names.
        labels: `int (N,)`, indices into them.
        all_facts: a `decode.Facts` for each image.

    Returns:
        DataFrame: a row a class; a column for the share of each format, of DICOM files with a window where there are any, and of each number
        of bits a value, then the median width, height, number of bits that are used, and, where there is JPEG, its quality (1 to 100).
    """
    facts = pd.DataFrame(all_facts, columns=decode.Facts._fields).assign(
        **{"used bits": list(map(decode.count_used_bits, all_facts))}
    )
    facts["class"] = pd.Categorical(np.array(classes, dtype=object)[labels], categories=list(classes))
    formats = pd.crosstab(facts["class"], facts["format"], normalize="index")
    if facts["windowed"].any():
        formats["windowed"] = facts.groupby("class", observed=False)["windowed"].mean()
    depths = pd.crosstab(facts["class"], facts["bits"], normalize="index").rename(columns="{} bits".format)
    grouped = facts.replace({"quality": {0: np.nan}}).groupby("class", observed=False)
    medians = grouped[["width", "height", "used bits", "quality"]].median().rename(columns="median {}".format)
    return pd.concat([formats, depths, medians.dropna(axis=1, how="all")], axis=1)


def describe_formats(table):
    """A sentence for each class whose files differ from those of the other classes, or "" where none does; `table` of `compare_formats`."""
    rows = table.head(1) if len(table) == 2 else table  # of two, each differs from the other
    sentences = []
    for name, row in rows.iterrows():
        others = table.drop(index=name)
        found = [column for column in table if _stands_out(column, row[column], others[column].dropna())]
        if found:
            differences = (f"{_write(column, row[column])}, elsewhere {_write_all(column, others[column])}" for column in found)
            sentences.append(f"{name} differs from the other classes in its files ({'; '.join(differences)})")
    if not sentences:
        return ""
    return f"{'. '.join(sentences)}. A network can tell classes apart by that alone, without looking at lungs."


def _stands_out(column, value, others):
    """Whether a class's value in a column of `compare_formats` is far from that of every other class."""
    if np.isnan(value) or not len(others):
        return False
    if not column.startswith("median"):
        return bool((others - value).abs().min() >= SHARE_DIFFERS)
    if column in ALLOWED:
        return bool((others - value).abs().min() >= ALLOWED[column])
    return bool(np.maximum(others / value, value / others).min() >= SIZE_DIFFERS)


def _write(column, value):
    return f"{column} {value:.0f}" if column.startswith("median") else f"{value:.0%} {column}"


def _write_all(column, values):
    return list_names(f"{value:.0f}" if column.startswith("median") else f"{value:.0%}" for value in values)
