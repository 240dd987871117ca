"""Which images: one's own folder or CSV, the Kaggle set, or the phantom; all are read the same way."""

import functools
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

import utils
from xraygan import disk
from xraygan.data import decode, inventory, kaggle_download, labels, layouts, loading, patients, phantom, tree

DEFAULT_CLASSES = ("NORMAL", "COVID19")
MANY_CLASSES = 30  # more than these are hardly meant: NIH's table has a class for every combination of 14 findings


@dataclass(frozen=True)
class Source:
    """Images on disk: what `layouts` or `labels` found in a folder.

    Attributes:
        name: short name, the first half of a run's default name.
        root: the folder that files are named from.
        classes: classes to read, in order.
        minority: the class the GAN augments and metrics call positive.
        is_phantom: whether the images are drawn, so that no title presents them as medicine.
        data: what DATA should be to find the same again: the folder, or the CSV with labels.
        listing: `layouts.Listing`.
    """

    name: str
    root: Path
    classes: tuple
    minority: str
    is_phantom: bool
    data: Path | None = None
    listing: layouts.Listing | None = field(default=None, repr=False, compare=False)

    def title(self, text):
        """`text` as a figure's title: a phantom's says so."""
        return write_title(text, self.is_phantom)


def write_title(text, is_phantom):
    """`text` as a figure's title: of a phantom it says so."""
    return f"Phantom (drawn, not patients): {text}" if is_phantom else text


@dataclass(frozen=True)
class ImageSet:
    """All images of a source.

    Attributes:
        source: where they come from.
        images: `uint8 (N, S, S, 1)`.
        labels: `int (N,)`, indices into `source.classes`.
        folders: `str (N,)`, "train" or "test", where each came from; "" for all where the source has no split.
        files: `str (N,)`, the name of each, see `layouts.name_records`: its path below the root, its folders spelt as in the plain layout.
        digests: `str (N,)`, a hash of each file's bytes.
        skipped: {file: why} of those that could not be read.
        patients: `str (N,)`, a name that a CSV gives, or a hash of DICOM's; "" where the patient isn't known.
        inventory: DataFrame of `inventory.count_files`: what became of every file, a row a class.
        formats: DataFrame of `inventory.compare_formats`: what the files of each class are like.
        notes: sentences about what was found and what was made of it.
        places: {file: its path below the root, with `/`} of those whose folders are spelt otherwise.
    """

    source: Source
    images: np.ndarray
    labels: np.ndarray
    folders: np.ndarray
    files: np.ndarray
    digests: np.ndarray
    skipped: dict = field(default_factory=dict)
    patients: np.ndarray | None = None
    inventory: pd.DataFrame = field(default_factory=pd.DataFrame)
    formats: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple = ()
    places: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.patients is None:
            object.__setattr__(self, "patients", np.full(len(self.files), ""))

    @functools.cached_property
    def fingerprint(self):
        """A hash of every file's name and of its pixels as they were decoded: with the same fingerprint two runs saw the same data."""
        digest = hashlib.blake2b("\n".join(self.files).encode(), digest_size=32)
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()

    def choose(self, classes, minority):
        """The images of some classes alone; labels become indices into `classes`."""
        kept = np.isin(np.array(self.source.classes)[self.labels], classes)
        position = np.array([classes.index(name) if name in classes else -1 for name in self.source.classes])
        return replace(
            self,
            source=replace(self.source, classes=tuple(classes), minority=minority),
            images=self.images[kept],
            labels=position[self.labels[kept]],
            folders=self.folders[kept],
            files=self.files[kept],
            digests=self.digests[kept],
            patients=self.patients[kept],
        )

    def describe(self):
        """What was found, in sentences and, where a file was lost or left out or lies deeper, as the inventory's table."""
        lines = list(self.notes)
        if len(self.inventory) and self.inventory.drop(columns=inventory.USED).to_numpy().any():
            lines.append(inventory.format_table(self.inventory))
        return "\n".join(lines)

    def list_classes(self):
        """The class of each file, {file: name}."""
        return dict(zip(self.files, np.array(self.source.classes)[self.labels], strict=True))

    def list_places(self, files):
        """Where some files lie, as a person finds them: their paths below the root, `str (N,)`."""
        return np.array([self.places.get(file, file) for file in files], dtype=str)

    def find_rows(self, files):
        """The row of each of `files`, in their order."""
        position = {file: row for row, file in enumerate(self.files)}
        return np.array([position[file] for file in files], dtype=int)


def open_source(data=""):
    """Find the images that DATA means, and choose no classes yet: a `Source` without classes; `data` as in `find_source`."""
    data = _find_data(data)
    listing = _list_images(data)
    is_phantom = _is_drawn(listing)
    name = "phantom" if is_phantom else _short_name(listing.root)
    return Source(name, listing.root, (), "", is_phantom, data, listing)


def find_source(data="", classes="", minority=""):
    """Find the images a run works on.

    Args:
        data: a folder laid out as `layouts` understands, a CSV with labels, "kaggle" (downloaded if it isn't there), "phantom" (drawn if it
            isn't there), or "" for `data/chest_xray` where it exists, else the phantom.
        classes: comma-separated classes; "" for NORMAL,COVID19 where both exist, else all.
        minority: the class to augment; "" for the one with the fewest training images.

    Raises:
        ValueError: the folder or a class isn't there, or holds no images; the message says what was seen and what to do.
    """
    source = open_source(data)
    chosen, minority = _choose_classes(classes, source.listing), tree.name_class(minority.strip())
    if minority and minority not in chosen:
        raise ValueError(f"MINORITY is {minority!r}; choose one of this run's classes: {', '.join(chosen)}.")
    return replace(source, classes=chosen, minority=minority or _find_smallest(source.listing, chosen)[0])


def add_classes(source, also):
    """The source with further classes, a comma-separated list; "" adds none.

    Raises:
        ValueError: a class isn't there, or is there already.
    """
    return replace(source, classes=_choose_classes(",".join([*source.classes, also]), source.listing, "ALSO"))


def read_images(source, image_size=utils.IMAGE_SIZE, show_progress=True):
    """Read every image of a source at one size, decoding only what isn't cached: `ImageSet`.

    Raises:
        ValueError: more than 1 % of the images can't be used; the message has the table of all classes.
    """
    records, folder_of = _sort_records(source)
    loaded = loading.load_images([record.path for record in records], disk.STORE / "data" / "cache", image_size, show_progress)
    kept = loaded.kept
    places = np.array([record.file for record in records])
    files = np.array(layouts.name_records(records, folder_of))
    problems = {places[row]: problem for row, problem in loaded.problems.items()}
    table = inventory.count_files(source.listing, source.classes, problems)
    lost = inventory.describe_lost(source.listing, source.classes, problems)
    inventory.require_few_lost(table, lost)
    kept_labels = np.array([source.classes.index(record.label) for record in records])[kept]
    formats = inventory.compare_formats(source.classes, kept_labels, loaded.facts)
    given = np.array([record.patient for record in records], dtype=str)[kept]
    of_patients, about_patients = _name_patients(given, loaded.facts, kept_labels, source.classes)
    about_pixels = [*_describe_range(loaded), _describe_plain(files[kept], loaded.images)]
    about_files = [_describe_unused(source), f"Left out: {lost}." if lost else ""]
    notes = [*source.listing.notes, *about_files, *about_patients, *about_pixels]
    return ImageSet(
        source,
        loaded.images,
        kept_labels,
        np.array([folder_of[record.part] for record in records])[kept],
        files[kept],
        loaded.digests[kept],
        {file: problem.why for file, problem in problems.items()},
        of_patients,
        table,
        formats,
        tuple(note for note in [*notes, inventory.describe_formats(formats)] if note),
        {file: place for file, place in zip(files, places, strict=True) if file != place},
    )


def _describe_unused(source):
    """A sentence about the classes that are there and weren't chosen, with their numbers of images; "" where all were."""
    counts = Counter(record.label for record in source.listing.records)
    unused = [f"{name!r} ({counts[name]} images)" for name in source.listing.classes if name not in source.classes]
    if not unused:
        return ""
    return f"Classes that were left out: {tree.list_names(unused)}. CLASSES chooses the classes, and ALSO adds some for a second comparison."


def _sort_records(source):
    """The records of the source's classes, train before test, then by class, then by name; and {part: "train", "test" or ""}."""
    order = {name: place for place, name in enumerate(source.classes)}
    folder_of = layouts.name_folders({record.part for record in source.listing.records})
    chosen = [record for record in source.listing.records if record.label in order]
    chosen.sort(key=lambda record: (folder_of[record.part] == "test", order[record.label], record.inside, record.file))
    return chosen, folder_of


def _name_patients(given, all_facts, kept_labels, classes):
    """Each image's patient, from a CSV or else from DICOM's header, `str (N,)`; and sentences where a name can't be meant."""
    hashed = np.array([facts.patient for facts in all_facts], dtype=str)
    return patients.drop_shared(np.where(given != "", given, hashed), kept_labels, classes)


def _describe_range(loaded):
    """Sentences about values of more than 8 bits, where not all of their bits are used or few pixels use them."""
    many = [facts.bits for facts in loaded.facts if facts.clipped]
    unused, black = loaded.value_range
    facts = [f"the upper {unused} of them are unused"] * bool(unused) + ["no value is below 0"] * bool(black)
    if facts:
        yield (
            f"{len(many)} images have more than 8 bits a value (up to {max(many)}), and in the whole set {' and '.join(facts)}: all of them were "
            "scaled alike, by what is used."
        )
    if decode.is_dark(loaded.facts, loaded.value_range):
        yield (
            f"The {len(many)} images of more than 8 bits a value are nearly black: {decode.DARK_SHARE:.0%} of their pixels lie in the darkest "
            "1/16 of the range. If a white frame or white letters are the cause, cut them away; else save the images with 8 bits a value."
        )


def _describe_plain(files, images):
    """A sentence where images are of one grey everywhere; else ""."""
    pixels = images.reshape(len(images), -1)
    plain = files[pixels.min(axis=1) == pixels.max(axis=1)] if len(pixels) else []
    if not len(plain):
        return ""
    return (
        f"{len(plain)} images are of one grey everywhere, as where a file is empty or a DICOM window shows nothing of it: "
        f"{tree.list_names(map(str, plain))}. They were used; take them out if they aren't meant."
    )


def _find_data(data):
    """The folder or the CSV that DATA means."""
    if data == "kaggle":
        return kaggle_download.download(disk.STORE / "data" / "chest_xray")
    default = kaggle_download.find_input() or disk.STORE / "data" / "chest_xray"
    if data == "phantom" or (not data and not default.is_dir()):
        root = disk.STORE / "data" / "phantom"
        phantom.write_phantom(root)
        return root
    found = disk.find_named(data or default)
    if found is None:
        drive = re.match(r"([A-Za-z]):[\\/]", data)
        hint = f" It is a path of Windows: in WSL that is /mnt/{drive[1].lower()}/…, with / in place of \\." if drive else ""
        raise ValueError(
            f"DATA is {data!r}, and there is no such folder or file; give a folder laid out as {layouts.LAYOUT}, or 'phantom'.{hint}"
        )
    return found.resolve()


def _list_images(data):
    """The `layouts.Listing` of a folder or of a CSV.

    Raises:
        ValueError: there are fewer than two classes; the message says what was seen.
    """
    if data.is_file():
        if data.suffix.lower() not in labels.TABLES:
            raise ValueError(
                f"DATA is the file {data.name}; give the folder of the images, or a CSV with the columns file and label."
            )
        folder = tree.read_tree(data.parent)
        return _require_two_classes(labels.list_labelled(folder, {data: ""}), folder)
    folder = tree.read_tree(data)
    split, place = layouts.find_split(folder)
    parts, classes = (set(names) for names in zip(*split, strict=True)) if split else (set(), set())
    listing, notes = _list_by_tables(folder, len(classes) > 1, len(parts) > 1)
    notes = [*notes, *labels.describe_unread_tables(folder)]
    if listing is None:
        try:
            listing = _list_by_folders(folder, split, place)
        except ValueError as error:
            raise ValueError(" ".join([str(error), *notes])) from error
    return _require_two_classes(replace(listing, notes=[*listing.notes, *notes]), folder)


def _list_by_folders(folder, split, place):
    """The listing of the class folders of a tree; `split` and `place` of `layouts.find_split`.

    Raises:
        ValueError: the folders are no classes, as far as can be seen.
    """
    if split is None:
        layouts.explain_half_a_split(folder)
        split, place = layouts.find_unsplit_classes(folder)
    else:
        layouts.check_split(folder, split)
    listing = layouts.list_folders(folder, split, place)
    below = [parent for parent in layouts.find_parents(folder, split) if parent is not folder]
    labels.require_no_patients([folder, *below], folder, listing)
    about_tables = [*labels.describe_unread_tables(folder, below), *labels.list_tables_below(folder, below)]
    return replace(listing, notes=listing.notes + about_tables)


def _list_by_tables(folder, has_classes, has_parts):
    """The listing of the tables of labels in a folder, or None where its folders say more; and sentences about tables that weren't used.

    Args:
        folder: `tree.Folder`.
        has_classes: whether folders of a split have class folders.
        has_parts: whether these stand in two parts of the split.
    """
    tables = labels.find_label_files(folder)
    if not tables:
        return None, []
    name, instead = labels.name_tables(tables, folder), "since the folders say the classes; to use it, give DATA its path."
    instead = f"{instead} {labels.explain_patients_of(tables)}".strip()
    if has_classes and has_parts:
        return None, [f"{name} was not read, {instead}"]
    listing = labels.list_labelled(folder, tables)
    named = len(listing.records)
    if not named:
        return None, listing.notes
    if 2 * named < folder.num_images and (has_classes or layouts.has_class_folders(folder)):
        return None, [f"{name} names {named} of {folder.num_images} images only and was not read, {instead}"]
    return listing, []


def _require_two_classes(listing, folder):
    """The listing, unless it has fewer than two classes.

    Raises:
        ValueError: with what was seen in the folder and noted about it.
    """
    if len(listing.classes) > 1:
        return listing
    lost = tree.list_names(file for _, _, file in listing.lost)
    notes = [
        f"Named and not there: {lost}." if lost and listing.records else "",
        *listing.notes,
        *labels.describe_unread_tables(folder),
        *labels.list_tables_below(folder),
    ]
    notes = "".join(f" {note}" for note in dict.fromkeys(notes) if note)
    raise ValueError(
        f"a classifier needs at least two classes, and here is {', '.join(listing.classes) or 'none'}: {tree.describe_tree(folder)}.{notes} "
        f"The layout expected is {layouts.LAYOUT}, or a CSV beside the images with the columns file and label."
    )


def _choose_classes(classes, listing, parameter="CLASSES"):
    available = listing.classes
    wanted = tuple(tree.name_class(name.strip()) for name in classes.split(",") if name.strip())
    missing = [name for name in wanted if name not in available]
    if missing:
        parted = (
            " (a comma parts two classes: CLASSES can't choose a class with one in its name)"
            if "," in "".join(available)
            else ""
        )
        raise ValueError(
            f"{parameter} names {tree.list_names(map(repr, missing))}; the classes there are "
            f"{tree.list_names(map(repr, available))}{parted}. {listing.question}".strip()
        )
    if not wanted:
        tree.check_alike(available)
        wanted = DEFAULT_CLASSES if set(DEFAULT_CLASSES) <= set(available) else available
        if listing.question and wanted is not DEFAULT_CLASSES:
            raise ValueError(listing.question)
        if len(wanted) > MANY_CLASSES:
            notes = "".join(f" {note}" for note in listing.notes)
            raise ValueError(f"there are {len(wanted)} classes: {tree.list_names(wanted)}. Choose some with CLASSES.{notes}")
    twice = [name for name, count in Counter(wanted).items() if count > 1]
    if twice:
        fault = "that the run has already" if parameter == "ALSO" else "twice"
        raise ValueError(f"{parameter} names a class {fault}: {tree.list_names(twice)}.")
    if len(wanted) < 2:
        raise ValueError(f"{parameter} names {wanted[0]} alone; name two classes or more of {tree.list_names(available)}.")
    tree.check_classes(wanted)
    _require_images(listing, wanted)
    return wanted


def _require_images(listing, classes):
    """Stop where a class has no image in a part."""
    folder_of = layouts.name_folders({record.part for record in listing.records})
    present = {(folder_of[record.part], record.label) for record in listing.records}
    for folder in sorted(set(folder_of.values()), reverse=True):
        for name in classes:
            if (folder, name) not in present:
                where = f"{folder}/{name}" if folder else name
                raise ValueError(
                    f"{where} holds no image (JPEG, PNG or DICOM); put some there or choose other classes with CLASSES."
                )


def describe_minority(source, asked):
    """Which class is the minority, a sentence, which says so where others have as few training images; `asked` is what was asked for."""
    equals = _find_smallest(source.listing, source.classes)
    tie = f", chosen by its name alone: {' and '.join(equals)} have as few training images, and MINORITY chooses another"
    return f"the minority class is {source.minority}{tie if equals[1:] and not asked else ''}."


def _find_smallest(listing, classes):
    """The classes with the fewest images in train."""
    folder_of = layouts.name_folders({record.part for record in listing.records})
    counts = Counter(record.label for record in listing.records if folder_of[record.part] != "test")
    return [name for name in classes if counts[name] == min(map(counts.__getitem__, classes))]


def _is_drawn(listing):
    """Whether the images are the phantom's: its marker stands beside the first of them or above, however the folder is given."""
    if not listing.records:
        return False
    path = listing.records[0].path
    above = [folder for folder in path.parents if folder == listing.root.parent or folder.is_relative_to(listing.root)]
    return any((folder / phantom.MARKER).exists() for folder in above)


def _short_name(root):
    letters = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in root.name)
    return letters.strip("._-")[:60] or "images"
