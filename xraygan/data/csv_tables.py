"""Tables that people wrote: their text whatever the program that saved it, and which column holds what."""

import codecs
import csv
import io
import re
from pathlib import Path

import pandas as pd

from xraygan import disk
from xraygan.data import folder_names, tree

PERSON = ("patient", "patientid", "subject", "subjectid")
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
        "imagefile",
        "img",
        "imgname",
        "imgpath",
        "xrayimagename",
    ),
    "label": (
        *("label", "class", "findinglabels", "finding", "diagnosis", "labels", "category", "target"),
        *("classname", "disease", "pathology", "condition"),
    ),
    "patient": (*PERSON, "group"),
    "group": ("group", *PERSON),  # of GROUPS
    "person": PERSON,  # that can't be a group of healthy or ill people
    "split": ("split", "part", "subset", "datasettype", "partition"),
    "folder": ("folder",),  # Cohen's metadata.csv: the file lies in it
    "modality": ("modality",),
    "view": ("view", "viewposition"),
}
NIH_AND_COHEN = (
    "'Image Index', 'Finding Labels', 'Patient ID' of NIH's and 'filename', 'finding', 'patientid' of Cohen's collection"
)
END = "the row after the last"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # what the files of spreadsheet programs begin with
SEPARATORS = ",;\t|"
QUOTED = re.compile(r'"[^"]*"')
SEPARATOR_LINE = re.compile(r"\s*sep=([,;\t])\r?\n", re.IGNORECASE)
HEADING_BYTES = 65_536  # of a table: more than any headings take


def read_people_table(path, name):
    """A CSV that a person wrote, all columns text: UTF-8, UTF-16, CP949 or Latin-1; comma, semicolon, tab or `|`.

    Args:
        path: of the file.
        name: what the person calls it, for messages.

    Returns:
        DataFrame of `str`; an empty field is "", and None, NA or nan are what they are.

    Raises:
        ValueError: it is no table.
    """
    with disk.read_errors_explained(name):
        raw = Path(path).read_bytes()
    if raw.startswith(WORKBOOKS):
        raise ValueError(f"{name} is a workbook of a spreadsheet program and no CSV: save it as CSV.")
    text, separator = _prepare(raw)
    try:
        rows = [row for row in csv.reader(io.StringIO(f"{text}\n{END}", newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise ValueError(f"{name} can't be read as CSV: {error}.") from error
    if rows.pop() != [END]:
        raise ValueError(f"{name} can't be read as CSV: a quotation mark opens in row {len(rows) + 1} and is never closed.")
    if not rows or "\0" in text:
        raise ValueError(f"{name} can't be read as CSV: it holds {'zero bytes' if rows else 'nothing'}.")
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if any(row[width:]):
            raise ValueError(f"{name} can't be read as CSV: row {number} has {len(row)} fields, and the headings are {width}.")
    table = pd.DataFrame([(row + [""] * width)[:width] for row in rows[1:]], columns=rows[0], dtype=str)
    return table.loc[:, ~table.columns.duplicated()]


def _prepare(raw):
    """The text of a table without the line `sep=;` that a spreadsheet writes above it, and what separates its fields."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", errors="replace")
    elif b"\0" in raw[:2]:  # UTF-16 without its mark, of a text that begins with a plain letter
        text = raw.decode("utf-16-be" if raw[:1] == b"\0" else "utf-16-le", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = tree.decode_legacy(raw)
    if said := SEPARATOR_LINE.match(text):
        return text[said.end() :], said[1]
    text = text.lstrip("\r\n ")
    heading = QUOTED.sub("", text.partition("\n")[0])
    return text, max(SEPARATORS, key=heading.count)


def find_groups_file(name):
    """The file that GROUPS names.

    Raises:
        ValueError: there is none.
    """
    path = disk.find_file(name)
    if path is None:
        raise ValueError(f"GROUPS is {name!r}, and there is no such file; give a CSV with the columns file and group.")
    return path


def find_columns(headings):
    """Which heading stands for which of `COLUMNS`: {"file": heading, …}, those that are there."""
    plain = {}
    for heading in headings:
        plain.setdefault(re.sub(r"[\W_]+", "", str(heading).casefold()), heading)
    found = {kind: [plain[name] for name in names if name in plain] for kind, names in COLUMNS.items()}
    return {kind: names[0] for kind, names in found.items() if names}


def find_filled_columns(table):
    """`find_columns` of a table, where a column with nothing but parts of a split is that of the split, whatever it is called."""
    named = find_columns(table.columns)
    of_parts = [heading for heading in table.columns if heading not in (named.get("file"), named.get("label"))]
    of_parts = [heading for heading in of_parts if _holds_parts(table[heading])]
    columns = find_columns([heading for heading in table.columns if heading not in of_parts])
    split = named.get("split")
    if of_parts and split not in of_parts:
        split = of_parts[0]
    return columns | ({"split": split} if split else {})


def _holds_parts(column):
    parts = {folder_names.name_part(value) for value in column.str.strip().unique()}
    return "train" in parts and len(parts) > 1 and "" not in parts


def read_headings(path):
    """The headings of a table, whatever it holds; [] where its first line can't be those of one."""
    with disk.read_errors_explained(path.name), path.open("rb") as file:
        raw = file.read(HEADING_BYTES)
    text, separator = _prepare(raw.rpartition(b"\n")[0] or raw if len(raw) == HEADING_BYTES else raw)
    try:
        return next(csv.reader(text.splitlines()[:1], delimiter=separator), [])
    except csv.Error:
        return []
