"""How people lay their images out: which folder is a part of the split, which is a class, and what is no image of either.

In the tree of a folder the place is looked for that holds the parts of a split (`train`, `Testing`, `val` …), at any depth; else the
place whose folders are classes. What is found is a `Listing`: a record of each file, and sentences about the rest.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xraygan.data import folder_names
from xraygan.data.tree import (
    TEXTS,
    count_others,
    decode_name,
    describe_content,
    fold_class,
    list_names,
    list_packed,
    make_printable,
    name_below,
    name_bytes,
    name_class,
    name_file,
    walk,
)

LAYOUT = "DATA/train/CLASS/*.jpg and DATA/test/CLASS/*.jpg, or DATA/CLASS/*.jpg"
DANGLING = "dangling links"
PART_FOLDERS = {"train": "train", "test": "test", "validation": "val"}  # what the folder of each part is called in messages


class Record(NamedTuple):
    """One file that is or should be an image of a class.

    Attributes:
        path: where it is.
        file: its path below the root, with `/`, as text that can be printed.
        label: its class.
        part: "train", "validation" or "test"; "" where there is no split.
        inside: its path below the class folder, a tuple of names: by this the images of a class are sorted.
        patient: "" where it isn't known.
    """

    path: Path
    file: str
    label: str
    part: str
    inside: tuple
    patient: str = ""


@dataclass(frozen=True)
class Listing:
    """What was found in a folder or a CSV.

    Attributes:
        root: the folder that files are named from.
        records: list of `Record`.
        classes: class names, sorted: those that stand in every part that counts.
        lost: list of (label, kind, file): images that are named and aren't there.
        left_out: {(label, kind): count} of what was left out on purpose, masks say.
        notes: sentences about what was found.
        question: a sentence where it can't be known whether these are the classes unless CLASSES names them; else "".
    """

    root: Path
    records: list
    classes: tuple
    lost: list = field(default_factory=list)
    left_out: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    question: str = ""


# The place of a split


def find_split(tree):
    """The folders of a split, wherever they stand below `tree`: {(part, class): [`Folder`]} and the place in words, or (None, "").

    Raises:
        ValueError: there are two such places, or two folders for one part.
    """
    places = [(folder, parts) for folder, parts in _find_parts(tree) if _is_split(parts)]
    if not places:
        return None, ""
    if places[0][0] is not tree and len(places) > 1:
        if _are_classes(places):
            found = [((part, folder.name), part_folder) for folder, parts in places for part, part_folder in parts.items()]
            return {
                (part, name_class(label)): [folder] for (part, label), folder in found
            }, "each class folder's own train and test"
        where = list_names(name_below(tree, folder) for folder, _ in places)
        raise ValueError(
            f"{tree.name} holds a split in {len(places)} places: {where}. "
            f"Give DATA the path of one of them, e.g. …/{tree.name}/{name_below(tree, places[0][0])}"
        )
    folder, parts = places[0]
    split = {
        (part, label): class_folders
        for part, classes in _leave_unlabelled(_find_classes_of_parts(parts)).items()
        for label, class_folders in classes.items()
    }
    return split, "" if folder is tree else name_below(tree, folder)


def _find_classes_of_parts(parts):
    """The classes of each part of a split, {part: {class: [`Folder`]}}; through folders that stand alone in the parts, `train/data/CLASS` say."""
    through = {part: _find_through_lone(folder) for part, folder in parts.items()}
    shared = through["train"].keys() & {name for part in through if part != "train" for name in through[part]}
    if len(shared) > 1 and len(_find_filled(parts["train"])) == 1:
        return through
    return {part: find_classes(folder) for part, folder in parts.items()}


def _leave_unlabelled(classes_of):
    """The parts of a split without those in which no class of train has a folder, like the test of a competition."""
    names = {part: {label.casefold() for label in classes} for part, classes in classes_of.items()}
    if len(names["train"]) < 2:
        return classes_of
    return {part: classes for part, classes in classes_of.items() if part == "train" or names[part] & names["train"]}


def check_split(tree, split):
    """Stop where what stands in the parts of a split isn't its classes; `split` of `find_split`.

    Raises:
        ValueError: with what was seen and what to do.
    """
    classes = _join_parts(split)
    require_classes(_leave_out_empty(classes))
    if len(classes) > 1 and {part for part, _ in split} == {"train"}:
        _explain_unlabelled(tree)
    if not classes:
        _explain_split_of_one(tree)


def _join_parts(split):
    """The class folders of all parts together, {class: [`Folder`]}; `split` of `find_split`."""
    classes = {}
    for (_, label), class_folders in split.items():
        classes.setdefault(label, []).extend(class_folders)
    return classes


def _leave_out_empty(classes):
    """The class folders without those that hold no image, and without classes that have no other, {class: [`Folder`]}."""
    filled = {label: [folder for folder in class_folders if folder.num_images] for label, class_folders in classes.items()}
    return {label: class_folders for label, class_folders in filled.items() if class_folders}


def _explain_split_of_one(tree):
    """Stop where one folder has a train and a test without classes in them, and beside it stand folders that have none."""
    folder, parts = _find_place(tree)
    above = next((each for each in walk(tree) if folder in each.folders.values()), None)
    others = [child for child in above.folders.values() if child.num_images and child is not folder] if above else []
    if others:
        name, named = repr(make_printable(folder.name)), " and ".join(sorted(repr(part.name) for part in parts.values()))
        beside = list_names(f"{make_printable(child.name)!r} ({child.num_images} images)" for child in others)
        raise ValueError(
            f"the folders {named} in {name} were taken for the parts of a split, and beside {name} stand folders without all of these: {beside}. "
            f"Give each class folder its own {named}, or put the images of {name} together, and a test set is drawn from all. "
            f"The layout expected is {LAYOUT}."
        )


def _find_place(tree):
    """The first folder that holds a split, and its parts, {part: `Folder`}; there is one."""
    return next((folder, parts) for folder, parts in _find_parts(tree) if _is_split(parts))


def _is_split(parts):
    return "train" in parts and len(parts) > 1


def _explain_unlabelled(tree):
    """Stop where train has class folders and no other part of the split has them.

    Raises:
        ValueError: always; `find_split` found no class outside train.
    """
    folder, parts = _find_place(tree)
    name, others = make_printable(folder.name), " and ".join(repr(parts[part].name) for part in parts if part != "train")
    raise ValueError(
        f"none of train's classes ({make_printable(list_names(sorted(find_classes(parts['train']))))}) has a folder in {others}: give DATA the path "
        f"…/{name}/{parts['train'].name}, and a test set is drawn from it, or sort the other images into class folders, too."
    )


def explain_half_a_split(tree):
    """Stop where a part of a split stands without the others: what is in it would be mixed up with the rest.

    Raises:
        ValueError: there is a folder `train` and no `test`, or the reverse.
    """
    for folder, parts in _find_parts(tree):
        needed = ("test", "validation") if "train" in parts else ("train",)
        name, missing = make_printable(folder.name), " or ".join(repr(PART_FOLDERS[part]) for part in needed)
        gone = [make_printable(decode_name(link)) for link in folder.dangling if folder_names.name_part(link)]
        why = f" ({list_names(gone)} is a link to something that isn't there)" if gone else ""
        seen = " and ".join(repr(part.name) for part in parts.values())
        raise ValueError(
            f"{name} has {'a folder' if len(parts) == 1 else 'the folders'} {seen} and has no folder {missing} beside it{why}: "
            f"{_advise_on_half(folder, parts, needed, seen)} The layout expected is {LAYOUT}."
        )


def _advise_on_half(folder, parts, needed, seen):
    """What to do where some parts of a split stand in `folder`, those `seen` in words, and none of those that are needed."""
    name = make_printable(folder.name)
    others = [child for child in folder.folders.values() if child.num_images and child not in parts.values()]
    meant = [(child, part) for child in others if (part := folder_names.guess_part(child.name, needed))]
    if meant:
        child, part = meant[0]
        return f"{make_printable(child.name)!r} ({child.num_images} images) stands there and is probably meant: rename it to {PART_FOLDERS[part]!r}."
    add = f"add {name}/{PART_FOLDERS[needed[0]]}/CLASS"
    if not any(len(_find_filled(part)) > 1 for part in parts.values()):
        return (
            f"if {seen} is a class, rename it, or name the class of each image in a CSV with the columns file and label; if it is a part of "
            f"the split, {add}."
        )
    if others:
        beside = list_names(f"{make_printable(child.name)!r} ({child.num_images} images)" for child in others)
        add = f"if {beside} is meant, rename it to {PART_FOLDERS[needed[0]]!r}; else {add}"
    if "train" in parts:
        return f"{add}, or give DATA the path …/{name}/{parts['train'].name}, and a test set is drawn from it."
    return f"{add}, or give DATA the path of a folder whose folders are the classes."


def _find_parts(folder):
    """Every folder, `folder` first, with folders that are called like parts of a split: pairs of it and {part: folder}."""
    parts = {}
    for child in folder.folders.values():
        part = folder_names.name_part(child.name)
        if part and child.num_images:
            if part in parts:
                raise ValueError(
                    f"{make_printable(folder.name)} has two folders for {part}, {parts[part].name} and {child.name}: put them together, or "
                    "rename the one that is something else."
                )
            parts[part] = child
    if parts:
        yield folder, parts
    for child in folder.folders.values():
        if not _is_split(parts) or child not in parts.values():
            yield from _find_parts(child)


def _are_classes(places):
    """Whether the places of a split are the classes themselves, `CLASS/train/*.jpg`: all below one folder, without folders in their parts."""
    parents = {folder.path.parent for folder, _ in places}
    return len(parents) == 1 and not any(find_classes(part) for _, parts in places for part in parts.values())


# Classes


def find_classes(folder):
    """The classes whose folders stand in `folder`, through a lone `images` and without `masks` beside it: {class: [`Folder`]}."""
    children = list(folder.folders.values())
    if any(folder_names.has_word(child.name, folder_names.IMAGES) for child in children):
        children = [child for child in children if not folder_names.has_word(child.name, folder_names.MASKS)]
    filled = [child for child in children if child.num_images]
    if len(filled) == 1 and not folder.images and folder_names.has_word(filled[0].name, folder_names.IMAGES):
        return find_classes(filled[0])
    classes = {}
    for child in children:
        classes.setdefault(name_class(child.name), []).append(child)
    return classes


def find_unsplit_classes(tree):
    """The classes of a folder without a split: {("", class): [`Folder`]} and the place in words; through folders that stand alone.

    Raises:
        ValueError: the folders there are no classes, as far as their names say.
    """
    classes = _find_through_lone(tree)
    require_classes(classes)
    above = {class_folders[0].path.parent for class_folders in classes.values()} - {tree.path}
    return {("", name): class_folders for name, class_folders in classes.items()}, list_names(
        name_file(path, tree.path) for path in above
    )


def _find_filled(folder):
    """`find_classes` without those that hold no image."""
    return {name: found for name, found in find_classes(folder).items() if any(each.num_images for each in found)}


def _find_through_lone(folder):
    """The classes of a folder or, where a single folder stands in it, those below that, at any depth, if there are two or more."""
    classes = _find_filled(folder)
    if len(classes) != 1 or folder.images:
        return classes
    ((inner, *_),) = classes.values()
    below = _find_through_lone(inner)
    return below if len(below) > 1 else classes


def require_classes(classes):
    """Stop where folders can't be classes: they hold the classes, they are parts of a split, or they are called images.

    Args:
        classes: {name: [`Folder`]}, of all parts of a split where there is one.

    Raises:
        ValueError: they can't, as far as names and folders say.
    """
    if len(classes) < 2:
        return
    named = make_printable(list_names(classes))
    parts = {}
    for name in classes:
        words = folder_names.list_words(name)
        for part in filter(None, map(folder_names.name_part, words)):
            parts.setdefault(tuple(word for word in words if folder_names.name_part(word) != part), {})[part] = name
    split = next((list(names.values()) for names in parts.values() if len(names) > 1), None)
    if split:
        raise ValueError(
            f"{make_printable(' and '.join(split))} are called like parts of a split, and not like classes. The layout expected is {LAYOUT}, or "
            "a CSV beside the images with the columns file, label and split."
        )
    inner = _list_inner(classes)
    containers = [name for name, names in inner.items() if len(names) > 1 and folder_names.is_container(name)]
    if len(containers) == 1:
        (name,), others = containers, list_names(each for each in classes if each not in containers)
        raise ValueError(
            f"{make_printable(name)} holds the folders {make_printable(list_names(sorted(inner[name])))}, and beside it stand others: "
            f"{make_printable(others)}. If the classes are in {make_printable(name)}, give DATA its path."
        )
    if all(map(folder_names.is_no_class, classes)):
        raise ValueError(
            f"{named} are called like images or masks, and not like classes: name the class of each image in a CSV with the columns file and "
            "label, or put the images of each class into a folder of its name."
        )


def ask_which_are_classes(classes):
    """What to say where all class folders hold folders of the same names, which may be the classes as well; else "".

    Args:
        classes: {name: [`Folder`]}, of all parts of a split where there is one.
    """
    inner = _list_inner(classes)
    first = next(iter(inner.values()), set())
    are_patients = folder_names.may_be_patients(first) and not folder_names.may_be_patients(classes)
    if len(classes) < 2 or len(first) < 2 or any(names != first for names in inner.values()) or are_patients:
        return ""
    named = make_printable(list_names(classes))
    return (
        f"{named} each hold {make_printable(list_names(sorted(first)))}, and which of these are the classes can't be known. If they are {named}, "
        "name them in CLASSES. If not, put the images of each class into one folder of its name, or name the class of each image in a CSV with "
        "the columns file and label."
    )


def _list_inner(classes):
    """The names of the folders with images in each class's folders, as `find_classes` finds them: {class: set}."""
    return {name: {below for folder in folders for below in _find_filled(folder)} for name, folders in classes.items()}


def _describe_repeated(classes):
    """A sentence where all class folders hold two folders or more of the same names, and some hold others; else ""."""
    shared = set.intersection(*_list_inner(classes).values()) if len(classes) > 1 else set()
    if len(shared) < 2 or folder_names.are_numbered(shared) or not all(map(folder_names.list_words, shared)):
        return ""
    return (
        f"{make_printable(list_names(classes))} were taken for the classes, and each of them holds {make_printable(list_names(sorted(shared)))}: if "
        "these are the classes, name the class of each image in a CSV with the columns file and label."
    )


def has_class_folders(tree):
    """Whether the folders of a tree without a split are called like classes, and not like parts, patients or images."""
    try:
        classes = _join_parts(find_unsplit_classes(tree)[0])
    except ValueError:
        return False
    names = list(classes)
    return (
        len(names) > 1
        and not ask_which_are_classes(classes)
        and not folder_names.are_numbered(names)
        and not any(folder_names.name_part(name) or folder_names.has_word(name, folder_names.IMAGES) for name in names)
    )


# The listing


def list_folders(tree, folders, place):
    """All images of classes as a `Listing`.

    Args:
        tree: of `read_tree`.
        folders: {(part, class): [`Folder`]}, part "" where there is no split.
        place: where these folders stand below the tree, in words, "" for in `tree` itself.
    """
    classes, notes = find_common_classes(folders)
    joined = {name: found for name, found in _leave_out_empty(_join_parts(folders)).items() if name in classes}
    question = ask_which_are_classes(joined)
    about = [
        f"The images were found in {place}." if place else "",
        folder_names.describe_numbered(classes),
        "" if question else _describe_repeated(joined),
    ]
    notes = [*filter(None, about), *notes]
    collector = _Collector(tree)
    collector.seen = {folder for class_folders in folders.values() for folder in class_folders}
    for (part, label), class_folders in folders.items():
        if label in classes:
            for folder in class_folders:
                collector.collect(folder, part, label)
    notes += _describe_rest(tree, collector.seen) + _describe_empty(tree, folders)
    records = keep_apart(collector.records, tree.path)
    return Listing(tree.path, records, classes, collector.lost, collector.left_out, notes, question)


def name_folders(parts):
    """Which of train and test each part of a split counts as: {part: "train" or "test"}, or {"": ""} where there is no split."""
    if "" in parts:
        return {"": ""}
    return {"train": "train", "validation": "train" if "test" in parts else "test", "test": "test"}


def name_records(records, folder_of):
    """What each file is called wherever it lies: `train/CLASS/FILE`, or `CLASS/FILE` where there is no split; a path below the root in a CSV.

    Args:
        records: list of `Record`.
        folder_of: {part: "train", "test" or ""}, of `name_folders`.

    Returns:
        a list of names, no two of which are alike: files that would have one name are called by their paths.
    """
    names = [_name_record(record, folder_of) for record in records]
    times, places = Counter(names), {record.file for record in records}
    return [
        name if times[name] == 1 and (name == record.file or name not in places) else record.file
        for name, record in zip(names, records, strict=True)
    ]


def _name_record(record, folder_of):
    if record.inside == (record.file,):  # a CSV names it, whose folders say nothing
        return record.file
    inside = make_printable(decode_name("/".join(record.inside)))
    return "/".join(filter(None, (folder_of[record.part], record.label, inside)))


def find_common_classes(keys):
    """The classes that stand both in train and in test, sorted, and sentences about the others and about a validation part.

    Args:
        keys: pairs (part, class).
    """
    keys = set(keys)
    folder_of = name_folders({part for part, _ in keys})
    if "" in folder_of:
        return tuple(sorted(label for _, label in keys)), []
    train, test = ({label for part, label in keys if folder_of[part] == folder} for folder in ("train", "test"))
    notes = []
    if train != test:
        named = sorted(f"{part}/{label}" for part, label in keys if label in train ^ test)
        alike = Counter(map(fold_class, train | test))
        why = " (other capitals or blanks?)" if any(alike[fold_class(name)] > 1 for name in train ^ test) else ""
        notes.append(f"In one part of the split only, and left out: {list_names(map(repr, named))}{why}.")
    if any(part == "validation" for part, _ in keys):
        notes.append(
            "There is no test part: the validation part is the test, and validation is taken from train."
            if folder_of["validation"] == "test"
            else "The images of the validation part join train: validation is taken from there, with groups kept together."
        )
    return tuple(sorted(train & test)), notes


class _Collector:
    """Walks class folders and notes every file: a record, lost, or left out."""

    def __init__(self, tree):
        self.tree = tree
        self.records, self.lost, self.left_out, self.seen = [], [], {}, set()

    def collect(self, folder, part, label, inside=()):
        self.seen.add(folder)
        masks = folder_names.find_masks(folder.images)
        for name in folder.images:
            if name not in masks:
                path = folder.path / name
                self.records.append(Record(path, name_file(path, self.tree.path), label, part, (*inside, name)))
        self._leave_out(label, "masks", len(masks))
        self._leave_out(label, "other files", len(folder.others))
        self.lost += [(label, DANGLING, name_file(folder.path / name, self.tree.path)) for name in folder.dangling]
        for name, child in folder.folders.items():
            if folder_names.has_word(child.name, folder_names.MASKS):
                self.seen.add(child)
                self._leave_out(label, "masks", child.num_images)
            else:
                self.collect(child, part, label, (*inside, name))

    def _leave_out(self, label, kind, count):
        if count:
            self.left_out[label, kind] = self.left_out.get((label, kind), 0) + count


def keep_apart(records, root):
    """The records with a name of its own for each file: names in two encodings can read alike."""
    counts = Counter(record.file for record in records)
    if len(counts) == len(records):
        return records
    return [record._replace(file=name_bytes(record.path, root)) if counts[record.file] > 1 else record for record in records]


def _describe_rest(tree, seen):
    """A sentence about folders with images that no class took, and about images that lie outside every class folder."""
    if not seen:
        return []
    sentences, rest = [], []

    def look(folder):
        if folder in seen:
            return
        inner = [child for child in folder.folders.values() if child.num_images]
        if not inner or not _holds_any(folder, seen):
            rest.append((folder, folder.num_images))
            return
        rest.append((folder, len(folder.images) + sum(bool(os.path.splitext(name)[1]) for name in folder.dangling)))
        for child in inner:
            look(child)

    look(tree)
    named = [f"{name_below(tree, folder)} ({count})" for folder, count in rest if count]
    if named:
        sentences.append(f"Images outside the class folders were left out: {list_names(named)}.")
    return sentences


def find_parents(tree, folders):
    """The folders of a tree in which class folders stand, `folders` as of `list_folders`."""
    above = {class_folder.path.parent for class_folders in folders.values() for class_folder in class_folders}
    return [folder for folder in walk(tree) if folder.path in above]


def _describe_empty(tree, folders):
    """Sentences about what stands beside the class folders and may be meant as a class: folders without images, archives, links to nowhere."""
    chosen = {folder for class_folders in folders.values() for folder in class_folders}
    sentences = []
    for parent in find_parents(tree, folders):
        others = {child: set(count_others(child)) for child in parent.folders.values() if not child.num_images}
        empty = [child for child, kinds in others.items() if child not in chosen and not (kinds and kinds <= set(TEXTS))]
        if empty:
            named = list_names(f"{name_below(tree, child)} ({describe_content(child)})" for child in empty)
            sentences.append(f"Folders without an image that is read, and left out: {named}.")
        if packed := list_packed(parent):
            sentences.append(f"Still packed, and not read: {list_names(packed)}.")
        links = [make_printable(decode_name(name)) for name in parent.dangling if not os.path.splitext(name)[1]]
        if links:
            sentences.append(f"Links to something that isn't there: {list_names(links)}.")
    return sentences


def _holds_any(folder, seen):
    return folder in seen or any(_holds_any(child, seen) for child in folder.folders.values())
