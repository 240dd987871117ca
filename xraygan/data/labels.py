"""A CSV that says which image is of which class, and perhaps of which patient and part: our own columns, or those of known collections."""

import csv
import io
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from xraygan.data import layouts, tree
from xraygan.data.layouts import Listing, Record

COLUMNS = {  # what a column is for, by its heading without blanks, signs and capitals; the first that is there counts
    "file": (
        "file",
        "filename",
        "filepath",
        "path",
        "imageindex",
        "image",
        "imagename",
        "imagepath",
        "imageid",
        "xrayimagename",
    ),
    "label": ("label", "class", "findinglabels", "finding", "diagnosis", "labels", "category", "target"),
    "patient": ("patient", "patientid", "subject", "subjectid", "group"),
    "split": ("split", "part", "subset", "datasettype", "partition"),
    "folder": ("folder",),  # Cohen's metadata.csv: the file lies in it
    "modality": ("modality",),
    "view": ("view", "viewposition"),
}
NIH_AND_COHEN = (
    "'Image Index', 'Finding Labels', 'Patient ID' of NIH's and 'filename', 'finding', 'patientid' of Cohen's collection"
)
MISSING = "missing"
SEVERAL = "|"  # between the findings of one image, in NIH's table


def read_people_table(path, name):
    """A CSV that a person wrote, all columns text: UTF-8, CP949 or Latin-1; comma, semicolon or tab.

    Args:
        path: of the file.
        name: what the person calls it, for messages.

    Returns:
        DataFrame of `str`; an empty field is "", and None, NA or nan are what they are.

    Raises:
        ValueError: it is no table.
    """
    raw = Path(path).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = tree.decode_legacy(raw)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=_find_separator(text)) if row]
    except csv.Error as error:
        raise ValueError(f"{name} can't be read as CSV: {error}.") from error
    if not rows or "\0" in text:
        raise ValueError(f"{name} can't be read as CSV: it holds {'zero bytes' if rows else 'nothing'}.")
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if any(row[width:]):
            raise ValueError(f"{name} can't be read as CSV: row {number} has {len(row)} fields, and the headings are {width}.")
    table = pd.DataFrame([(row + [""] * width)[:width] for row in rows[1:]], columns=rows[0], dtype=str)
    return table.loc[:, ~table.columns.duplicated()]


def _find_separator(text):
    heading = text.lstrip().partition("\n")[0]
    return max(",;\t", key=heading.count)


def find_columns(headings):
    """Which heading stands for which of `COLUMNS`: {"file": heading, …}, those that are there."""
    plain = {}
    for heading in headings:
        plain.setdefault(re.sub(r"[\W_]+", "", str(heading).casefold()), heading)
    found = {kind: [plain[name] for name in names if name in plain] for kind, names in COLUMNS.items()}
    return {kind: names[0] for kind, names in found.items() if names}


def find_label_file(folder):
    """The one CSV at the top of a tree that names files and labels, as a path; None where there is none.

    Raises:
        ValueError: there are two.
    """
    found = []
    for name in folder.others:
        if name.lower().endswith(".csv"):
            with open(folder.path / name, encoding="utf-8-sig", errors="replace") as file:
                heading = file.readline()
            columns = find_columns(next(csv.reader([heading], delimiter=_find_separator(heading)), []))
            if {"file", "label"} <= set(columns):
                found.append(folder.path / name)
    if len(found) > 1:
        names = tree.list_names(tree.name_file(path, folder.path) for path in found)
        raise ValueError(
            f"{tree.make_printable(folder.name)} holds {len(found)} CSV files with labels: {names}. Give DATA the path of one."
        )
    return found[0] if found else None


def list_labelled(folder, path):
    """The images that a CSV names, found anywhere below its folder: `layouts.Listing`.

    Args:
        folder: the tree of the CSV's folder.
        path: of the CSV.

    Raises:
        ValueError: a column is missing, a part of the split isn't understood, or two rows contradict each other.
    """
    name = tree.name_file(path, folder.path)
    table = read_people_table(path, name)
    columns = find_columns(table.columns)
    for kind in ("file", "label"):
        if kind not in columns:
            raise ValueError(
                f"{name} has no column {kind!r}; its columns are {', '.join(map(str, table.columns))}. Call the columns file, label and, where "
                f"they are known, patient and split; those of {NIH_AND_COHEN} are understood too."
            )
    text = {kind: table[heading].str.strip() for kind, heading in columns.items()}
    used = (text["file"] != "") & (text["label"] != "")
    notes = [f"The labels are those of {name}: {_name_columns(columns)}."]
    if not used.all():
        notes.append(f"{(~used).sum()} rows of {name} name no file or no label, and were left out.")
    is_ct = _find_ct(text)
    if is_ct is not None and (used & is_ct).any():
        notes.append(f"{(used & is_ct).sum()} rows of {name} are CT and no radiographs by their own column, and were left out.")
        used &= ~is_ct
    parts = _read_parts(text, used, name)
    names = _name_classes(text["label"][used], name)
    records, lost, files = [], [], _Files(folder)
    for row in table.index[used]:
        label = names[text["label"][row]]
        wanted = "/".join(part for part in (text["folder"][row] if "folder" in text else "", text["file"][row]) if part)
        found = files.find(wanted) or files.find(text["file"][row])
        if found is None:
            lost.append((label, MISSING, tree.make_printable(wanted)))
            continue
        file = tree.name_file(found, folder.path)
        patient = text["patient"][row] if "patient" in text else ""
        records.append(Record(found, file, label, parts[row], (file,), patient))
    records = layouts.keep_apart(_without_repeats(records, name, notes), folder.path)
    several = sum(SEVERAL in record.label for record in records)
    if several:
        notes.append(
            f"{several} images have several labels (A{SEVERAL}B): each combination is a class of its own, unless CLASSES leaves it out."
        )
    unnamed = folder.num_images - len({record.path for record in records}) - files.masks
    if unnamed > 0:
        notes.append(f"{unnamed} images in the folder aren't named in {name}, and were left out.")
    classes, about_classes = layouts.find_common_classes((record.part, record.label) for record in records)
    return Listing(folder.path, records, classes, lost, {}, notes + about_classes)


def _name_columns(columns):
    return ", ".join(
        f"{kind} from {heading!r}" for kind, heading in columns.items() if kind in ("file", "label", "patient", "split")
    )


def _name_classes(written, name):
    """The class of each label as it is written: {label: class}.

    Raises:
        ValueError: two labels would be one class.
    """
    names = {label: tree.name_class(label) for label in written.unique()}
    if len(set(names.values())) < len(names):
        twice = [label for label, count in Counter(names.values()).items() if count > 1]
        raise ValueError(
            f"{name} has labels that differ in their slashes or accents only: {tree.list_names(twice)}; write one of them."
        )
    return names


def _find_ct(text):
    """Which rows are of computed tomography, by their own columns; None where no column says."""
    kinds = [text[kind].str.upper().str.startswith("CT") for kind in ("modality", "view") if kind in text]
    return pd.concat(kinds, axis=1).any(axis=1) if kinds else None


def _read_parts(text, used, name):
    """The part of each row, "" for all where the CSV has no column of it or an empty one."""
    if "split" not in text or not (text["split"][used] != "").any():
        return pd.Series("", index=text["file"].index)
    parts = text["split"].map({value: layouts.name_part(value) for value in text["split"].unique()})
    odd = sorted(set(text["split"][used & (parts == "")]))
    if odd:
        raise ValueError(
            f"{name} calls a part of the split {tree.list_names(map(repr, odd))}; write train, test or validation."
        )
    present = set(parts[used])
    if "train" not in present or len(present) < 2:
        raise ValueError(
            f"{name} knows the part {' and '.join(sorted(present))} only; write train and test, or leave the column split empty."
        )
    return parts


def _without_repeats(records, name, notes):
    """Each file once.

    Raises:
        ValueError: two rows give one file two labels, parts or patients.
    """
    known = {}
    for record in records:
        first = known.setdefault(record.path, record)
        if first != record:
            raise ValueError(
                f"{name} names {record.file} twice, as {first.label} and as {record.label}, or with another patient or part; keep one row."
            )
    if len(known) < len(records):
        notes.append(f"{len(records) - len(known)} rows of {name} repeat another, and count once.")
    return list(known.values())


class _Files:
    """The images of a tree by their path, by their name alone, and by their name without its suffix."""

    def __init__(self, folder):
        self.by_path, self.masks = {}, 0
        self._add(folder, ())
        names = Counter(path.name for path in self.by_path.values())
        stems = Counter(path.stem for path in self.by_path.values())
        self.by_name = {_key(path.name): path for path in self.by_path.values() if names[path.name] == 1}
        self.by_stem = {_key(path.stem): path for path in self.by_path.values() if stems[path.stem] == 1}

    def _add(self, folder, above):
        for name in folder.images:
            self.by_path[_key("/".join((*above, name)))] = folder.path / name
        for name, child in folder.folders.items():
            if layouts.has_word(child.name, layouts.MASKS):
                self.masks += child.num_images
            else:
                self._add(child, (*above, name))

    def find(self, wanted):
        """The path of a file that a CSV names; None where there is none of the name, or several."""
        parts = _key(wanted).split("/")
        for start in range(len(parts)):  # it may begin further up than this tree
            if found := self.by_path.get("/".join(parts[start:])):
                return found
        return self.by_name.get(parts[-1]) or self.by_stem.get(parts[-1])


def _key(text):
    return unicodedata.normalize("NFC", tree.decode_name(text).replace("\\", "/"))
