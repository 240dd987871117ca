"""Tables about images: which is of which class, patient and part, by our own columns or by those of known collections."""

import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from xraygan.data import csv_tables, folder_names, layouts, patients, tree
from xraygan.data.layouts import Listing, Record

MISSING, AMBIGUOUS = "missing", "ambiguous names"  # kinds of files that a table names and that aren't found
TABLES = (".csv", ".tsv", ".txt")
WORKBOOK_SUFFIXES = (".xls", ".xlsx", ".ods")
SEVERAL = "|"  # between the findings of one image, in NIH's table


def list_label_files(folder):
    """The tables at the top of a tree that name files and labels: a list of paths."""
    return [
        path
        for path in _list_tables(folder)
        if {"file", "label"} <= set(csv_tables.find_columns(csv_tables.read_headings(path)))
    ]


def _list_tables(folder):
    return [folder.path / name for name in folder.others if name.lower().endswith(TABLES)]


def describe_unread_tables(folder, places=None):
    """A sentence about each table that isn't one of labels, as far as its headings say.

    Args:
        folder: a tree.
        places: the folders at whose tops tables are looked for; None for the tree's own.
    """
    places = [folder] if places is None else places
    workbooks = [place.path / name for place in places for name in place.others if name.lower().endswith(WORKBOOK_SUFFIXES)]
    tables = {path: csv_tables.read_headings(path) for place in places for path in _list_tables(place)}
    lists = [path for path, headings in tables.items() if _is_list(headings)]
    sentences = []
    if workbooks:
        named = tree.list_names(_name(path, folder) for path in workbooks)
        sentences.append(f"Workbooks aren't read, and to use one, save it as CSV: {named}.")
    if lists:
        sentences.append(
            f"Lists of images were not used: {tree.list_names(_name(path, folder) for path in lists)}. To use them as the split, add a "
            "column split with the values train and test to the table of labels."
        )
    about = [_explain_unread(headings, path, folder) for path, headings in tables.items() if path not in lists]
    return [*sentences, *filter(None, about)][: tree.MAX_NAMED]


def _name(path, folder):
    return tree.name_file(path, folder.path)


def _is_list(headings):
    """Whether the first line of a table is the name of an image and nothing else, as in NIH's lists of train and test."""
    return len(headings) == 1 and headings[0].strip().lower().endswith(tree.SUFFIXES)


def _explain_unread(headings, path, folder):
    """Why a table isn't one of labels, in a sentence; "" where it is one, or where it is something else."""
    name, columns, words = _name(path, folder), csv_tables.find_columns(headings), " ".join(headings).split()
    missing = [kind for kind in ("file", "label") if kind not in columns]
    is_text = path.suffix.lower() == ".txt"  # it may be anything
    if not missing or (is_text and not words):
        return ""
    if not words:
        return f"{name} is empty."
    if len(words) > 1 and words[0].lower().rstrip(",;").endswith(tree.SUFFIXES):
        return f"{name} was not used: it has no headings above its first image; write file,label there, and commas between the fields."
    if len(headings) == 1 and {"file", "label"} <= set(csv_tables.find_columns(words)):
        return f"{name} was not used: its columns {', '.join(words)} are separated by blanks; separate them by commas."
    if not columns and (is_text or len(headings) == 1):
        return ""
    there = tree.make_printable(tree.list_names(headings))
    why = f"{name} was not used: it has no column {' and no '.join(missing)}; its columns are {there}."
    return f"{why} {_explain_patients(columns)}".strip()


def _explain_patients(columns):
    """What to do for the patients of a table that isn't used for its labels; "" where it has none."""
    return "Its patients are used only where GROUPS is its path." if {"file", "patient"} <= set(columns) else ""


def explain_patients_of(tables):
    """`_explain_patients` of the tables of `find_label_files`."""
    return next(
        filter(None, (_explain_patients(csv_tables.find_columns(csv_tables.read_headings(path))) for path in tables)), ""
    )


def require_no_patients(places, folder, listing):
    """Stop where the class folders are called as a table calls its patients or files, so that they are no classes.

    Args:
        places: the folders whose tables are looked at.
        folder: the tree that they are of.
        listing: of its class folders.

    Raises:
        ValueError: with what to write into the table.
    """
    for path in (path for place in places for path in _list_tables(place)):
        for heading, values in _read_names(path).items():
            if 2 * len(values & set(listing.classes)) > max(len(values), len(listing.classes)):
                raise ValueError(
                    f"the folders {tree.make_printable(tree.list_names(listing.classes))} stand in the column {heading!r} of {_name(path, folder)}, "
                    f"so they are taken for patients and not for classes: name each image there by its path in a column file "
                    f"({listing.records[0].file}, say), with its class in a column label."
                )


def _read_names(path):
    """What stands in the columns of a table that may name patients or, beside labels, folders: {heading: set of values}."""
    columns = csv_tables.find_columns(csv_tables.read_headings(path))
    kinds = [kind for kind in ("person", "file", "folder") if kind in columns and (kind == "person" or "label" in columns)]
    try:
        table = csv_tables.read_people_table(path, path.name) if kinds else None
    except ValueError:
        return {}  # whatever it is, it names nobody
    return {columns[kind]: {tree.name_class(text.strip()) for text in table[columns[kind]]} for kind in kinds}


def find_label_files(folder):
    """The tables that say the labels of a tree's images, {path: part}; {} where there are none.

    It is the one at the top, part "", or one for each part of a split: `train.csv` and `test.csv`, or `train/labels.csv` and `test/labels.csv`.

    Raises:
        ValueError: there are several at the top, and they aren't one for each part.
    """
    found = list_label_files(folder)
    if len(found) == 1:
        return {found[0]: ""}
    if found:
        parts = {path: _name_part_of(path.stem) for path in found}
    else:
        of_parts = [(child, folder_names.name_part(child.name)) for child in folder.folders.values()]
        parts = {path: part for child, part in of_parts if part for path in list_label_files(child)}
    if "train" in parts.values() and "" not in parts.values() and len(set(parts.values())) == len(parts) > 1:
        return parts
    if found:
        names = tree.list_names(tree.name_file(path, folder.path) for path in found)
        raise ValueError(
            f"{tree.make_printable(folder.name)} holds {len(found)} tables with labels: {names}. Join them into one (with a column split, if they are "
            "parts of one), or give DATA the path of the one that is meant."
        )
    return {}


def _name_part_of(stem):
    """The part that a table is of by a word of its name, `train_labels` say; "" where no word names one."""
    return next(filter(None, map(folder_names.name_part, folder_names.list_words(stem))), "")


def name_tables(tables, folder):
    """What a person calls the tables of `find_label_files`."""
    return " and ".join(tree.name_file(path, folder.path) for path in tables)


def list_tables_below(folder, places=None):
    """A sentence about the tables of labels further down in a tree, which aren't read unless DATA names one; [] where there is none.

    Args:
        folder: the tree.
        places: the folders below it that are looked into; None for all.
    """
    below = [child for child in tree.walk(folder) if child is not folder] if places is None else places
    found = [tree.name_file(path, folder.path) for child in below for path in list_label_files(child)]
    verb = (
        "has labels and was not read: to use it, give DATA its path"
        if len(found) == 1
        else "have labels and were not read: to use one, give DATA its path"
    )
    return [f"{tree.list_names(found)} {verb}."] if found else []


def list_labelled(folder, tables):
    """The images that tables name, found anywhere below a folder: `layouts.Listing`.

    Args:
        folder: its tree.
        tables: {path of a CSV: the part of the split that all its images are of, "" where it isn't one part's}.

    Raises:
        ValueError: a column is missing, a part of the split isn't understood, or two rows contradict each other.
    """
    name = name_tables(tables, folder)
    text, notes = _read_tables(folder, tables)
    used, about_rows = _choose_rows(text, name)
    parts = _read_parts(text, used, name)
    files, masks = _list_files(folder)
    records, lost, about_places = _match_rows(text[used], parts[used], files, folder.path, name)
    notes += about_rows + about_places
    if not records:
        return Listing(folder.path, [], (), lost, {}, [*about_places, *_explain_nothing(name, lost, files)])
    records, about_repeats = _drop_repeats(records, name)
    records = layouts.keep_apart(records, folder.path)
    about_parts = []
    if "split" not in text:
        records, about_parts = _take_parts_of_folders(records, name)
    classes, about_classes = layouts.find_common_classes((record.part, record.label) for record in records)
    named = {record.path for record in records} | _find_left_out(text[~used], files, folder.path, name)
    unnamed = folder.num_images - len(named) - masks
    notes += about_repeats + about_parts + _describe_records(records, unnamed, name)
    return Listing(folder.path, records, classes, lost, {}, notes + about_classes)


def _read_tables(folder, tables):
    """The rows of all tables, a DataFrame as of `_read_columns`, and a sentence about the columns of each."""
    texts, notes = [], []
    for path, part in tables.items():
        text, about = _read_columns(path, tree.name_file(path, folder.path))
        inside = path.parent.relative_to(folder.path).as_posix()
        if inside != ".":
            place = "folder" if "folder" in text else "file"
            text[place] = (inside + "/" + text[place]).where(text["file"] != "", "")
        texts.append(text.assign(split=part) if part else text)
        notes += about
    return pd.concat(texts, ignore_index=True).fillna(""), notes


def _read_columns(path, name):
    """A table's columns under our names for them, as text without blanks about it, a DataFrame; and which they are, in a list of one sentence.

    Raises:
        ValueError: one that is needed is missing.
    """
    table = csv_tables.read_people_table(path, name)
    columns = csv_tables.find_filled_columns(table)
    for kind in ("file", "label"):
        if kind not in columns:
            raise ValueError(
                f"{name} has no column {kind!r}; its columns are {', '.join(map(str, table.columns))}. Call the columns file, label and, where "
                f"they are known, patient and split; those of {csv_tables.NIH_AND_COHEN} are understood too."
            )
    text = pd.DataFrame({kind: table[heading].str.strip() for kind, heading in columns.items()})
    unused = [heading for heading in table.columns if heading not in columns.values()]
    others = f"; not used: {tree.make_printable(tree.list_names(unused))}" if unused else ""
    headings = csv_tables.read_headings(path)
    twice = [f"{heading!r}" for heading in dict.fromkeys(columns.values()) if headings.count(heading) > 1]
    repeats = f" Several of its columns are called {tree.list_names(twice)}: the first of them was used." if twice else ""
    return text, [f"The labels are those of {name}: {_name_columns(columns)}{others}.{repeats}"]


def _choose_rows(text, name):
    """Which rows are used, `bool (N,)`, and a sentence about each kind that isn't."""
    used, notes = (text["file"] != "") & (text["label"] != ""), []
    if not used.all():
        notes.append(f"{(~used).sum()} rows of {name} name no file or no label, and were left out.")
    is_ct = used & _find_ct(text)
    if is_ct.any():
        notes.append(f"{is_ct.sum()} rows of {name} are CT and no radiographs by their own column, and were left out.")
    return used & ~is_ct, notes


def _match_rows(text, parts, files, root, name):
    """The records of the rows whose file is there, what is lost of the others, and sentences about where files were found."""
    classes, written = _name_classes(text["label"], name), _write_paths(text)
    found, ambiguous, notes = find_files(written, list(files), root, name)
    records, lost = [], []
    for row, place in zip(text.index, found, strict=True):
        label = classes[text["label"][row]]
        if place is None:
            kind = AMBIGUOUS if written[row] in ambiguous else MISSING
            lost.append((label, kind, tree.make_printable(written[row])))
            continue
        file = tree.name_file(files[place], root)
        patient = patients.clean(text["patient"][row]) if "patient" in text else ""
        records.append(Record(files[place], file, label, parts[row], (file,), patient))
    return records, lost, notes


def _find_left_out(text, files, root, name):
    """The paths of the images whose rows aren't used."""
    found, _, _ = find_files(_write_paths(text), list(files), root, name) if len(text) else ((), (), ())
    return {files[file] for file in found if file is not None}


def _write_paths(text):
    """The path that each row writes, with that of a column for folders before it."""
    if "folder" not in text:
        return text["file"]
    return (text["folder"] + "/").where(text["folder"] != "", "") + text["file"]


def _describe_records(records, unnamed, name):
    """Sentences about several labels of an image, and about images that the table doesn't name."""
    notes, several = [], sum(SEVERAL in record.label for record in records)
    if several:
        notes.append(
            f"{several} images have several labels (A{SEVERAL}B): each combination is a class of its own, unless CLASSES leaves it out."
        )
    if unnamed > 0:
        notes.append(f"{unnamed} images in the folder aren't named in {name}, and were left out.")
    return notes


def _explain_nothing(name, lost, files):
    """Why a table gives no image, in a list of one sentence; [] where all of the names that it writes are ambiguous."""
    if not lost:
        return [f"{name} has headings and no rows with a file and a label."]
    missing = [file for _, kind, file in lost if kind == MISSING]
    if not missing:
        return []
    there = next(iter(files), "")
    example = f"an image there is {tree.make_printable(tree.decode_name(there))}" if there else "and no image is there"
    return [
        f"None of the {len(set(missing))} files that {name} names is below its folder; the first is {missing[0]}, {example}."
    ]


def _name_columns(columns):
    return ", ".join(
        f"{kind} from {heading!r}" for kind, heading in columns.items() if kind in ("file", "label", "patient", "split")
    )


def _name_classes(written, name):
    """The class of each label as it is written: {label: class}.

    Raises:
        ValueError: two labels would be one class.
    """
    plain = {label: patients.clean_number(label) for label in written.unique()}
    names = {label: tree.name_class(text) for label, text in plain.items()}
    twice = [name for name, count in Counter(map(tree.name_class, set(plain.values()))).items() if count > 1]
    if twice:
        raise ValueError(
            f"{name} has labels that differ in their slashes or accents only: {tree.list_names(twice)}; write one of them."
        )
    return names


def _find_ct(text):
    """Which rows are of computed tomography, by their own columns."""
    kinds = [text[kind].str.upper().str.startswith("CT") for kind in ("modality", "view") if kind in text]
    return pd.concat(kinds, axis=1).any(axis=1) if kinds else pd.Series(False, index=text.index)


def _read_parts(text, used, name):
    """The part of each row, "" for all where the CSV has no column of it or an empty one."""
    if "split" not in text or not (text["split"][used] != "").any():
        return pd.Series("", index=text["file"].index)
    parts = text["split"].map({value: folder_names.name_part(value) for value in text["split"].unique()})
    empty = int((used & (text["split"] == "")).sum())
    if empty:
        raise ValueError(
            f"{empty} of {used.sum()} rows of {name} have an empty split; write train, test or validation in each, or leave the whole column "
            "empty."
        )
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


def _take_parts_of_folders(records, name):
    """The records of a table without a column of the split, each with the part whose folder it lies in; and a sentence about it."""
    parts = [next(filter(None, map(folder_names.name_part, record.file.split("/")[:-1])), "") for record in records]
    if "train" not in parts or not {"test", "validation"} & set(parts):
        return records, []
    if "" in parts:
        return records, [
            f"{name} has no column split, and {parts.count('')} of its files lie outside the folders of train and test: a test set is drawn from all."
        ]
    moved = [record._replace(part=part) for record, part in zip(records, parts, strict=True)]
    return moved, [f"{name} has no column split: the parts are those of the folders that its files lie in."]


def _drop_repeats(records, name):
    """Each file once, and a sentence where rows repeat another.

    Raises:
        ValueError: two rows give one file two labels, parts or patients.
    """
    known = {}
    for record in records:
        first = known.setdefault(record.path, record)
        if first != record:
            raise ValueError(f"{name} names {record.file} twice, with another {_name_difference(first, record)}; keep one row.")
    repeats = len(records) - len(known)
    return list(known.values()), [f"{repeats} rows of {name} repeat another, and count once."] if repeats else []


def _name_difference(first, second):
    """In what two records of one file differ, with both values."""
    kinds = {"label": "label", "patient": "patient", "part": "part of the split"}  # all else follows from the file
    kind = next(kind for kind in kinds if getattr(first, kind) != getattr(second, kind))
    return f"{kinds[kind]} ({getattr(first, kind)!r} and {getattr(second, kind)!r})"


# Which file a table means


def _list_files(folder, above=()):
    """The images of a tree without masks, {path below it: path}, and how many masks there are."""
    files, masks = {"/".join((*above, name)): folder.path / name for name in folder.images}, 0
    for name, child in folder.folders.items():
        if folder_names.has_word(child.name, folder_names.MASKS):
            masks += child.num_images
        else:
            inner, more = _list_files(child, (*above, name))
            files |= inner
            masks += more
    return files, masks


def find_files(written, files, root, name):
    """Which file each row of a table means; two paths that are written differently never mean the same one.

    A row may name a file by its path below the root, by a path that begins above or below it, or by its name alone, with or without the
    suffix, and with other capitals where only one file reads so. Where its folder is another one than is written, its name must be the only
    one, and a sentence says so.

    Args:
        written: what the rows say.
        files: paths below the root, with `/`.
        root: the folder that they lie in.
        name: what the person calls the table.

    Returns:
        for each row an item of `files`, or None; those of `written` that are the name of several files, a set; and sentences.
    """
    whole = {_split(file): file for file in files}
    asked = {text: _split(text) for text in written}
    by_end, by_stem = exact = _index_names(list(whole.items()))
    others = {parts for parts in asked.values() if parts[-1:] not in by_end and parts[-1:] not in by_stem}
    folded = _index_names([(_fold(parts), file) for parts, file in whole.items()]) if others - {()} else ()
    root_name = _split(Path(root).name)
    found, unsure, moved, shared = {}, set(), set(), set()
    for parts in set(asked.values()) - {()}:
        key, indices = (_fold(parts), folded) if parts in others else (parts, exact)
        index = next((index for index in indices if key[-1:] in index), {})
        end = next((key[start:] for start in range(len(key)) if key[start:] in index), None)
        file = (parts not in others and whole.get(end)) or index.get(end)
        if file is None:
            if end == key:
                shared.add(parts)
            continue
        if end != parts:
            unsure.add(parts)
            if len(end) < len(parts) and not _begins_above(parts, end, _split(file), root_name):
                moved.add(parts)
                file = index[key[-1:]]
        found[parts] = file
    times = Counter(found.values())
    found = {parts: file for parts, file in found.items() if parts not in unsure or times[file] == 1}
    answers = [found.get(asked[text]) for text in written]
    ambiguous, sentences = [text for text in written if asked[text] in shared], []
    if ambiguous:
        sentences.append(
            f"{len(ambiguous)} rows of {name} write a name that several images have, {tree.make_printable(ambiguous[0])} say: write each with its "
            "folder and suffix."
        )
    lines = [(text, file) for text, file in zip(written, answers, strict=True) if file is not None and asked[text] in moved]
    if lines:
        text, file = (tree.make_printable(word) for word in lines[0])
        sentences.append(
            f"{len(lines)} rows of {name} were found by the file's name alone, in another folder than is written there: {text} is {file}, say."
        )
    return answers, set(ambiguous), sentences


def _begins_above(parts, end, file, root_name):
    """Whether a path begins above the root, so that all of the file's own path is the end of it; a bare name also needs the root's before it."""
    return len(end) == len(file) and (len(end) > 1 or parts[-2:-1] == root_name)


def _index_names(paths):
    """Two `_index_ends` of pairs of a path's parts and its file: with the suffixes of the files' names, and without."""
    return _index_ends(paths), _index_ends(((*parts[:-1], _cut_suffix(parts[-1])), file) for parts, file in paths)


def _fold(parts):
    """A path's parts without capitals."""
    return tuple(part.casefold() for part in parts)


def _index_ends(paths):
    """Files by each end of their paths: {end: file}, None where several end so; `paths` are pairs of a path's parts and its file."""
    index = {}
    for parts, file in paths:
        for start in range(len(parts)):
            end = parts[start:]
            index[end] = None if end in index else file
    return index


def _split(text):
    """The parts of a path, however it is written."""
    plain = unicodedata.normalize("NFC", tree.decode_name(text).strip().replace("\\", "/"))
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _cut_suffix(name):
    return next((name[: -len(suffix)] for suffix in tree.SUFFIXES if name.lower().endswith(suffix)), name)
