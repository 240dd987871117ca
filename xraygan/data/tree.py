"""A folder of somebody's images, read once into a tree: names as text, files that are images, others, and links to nowhere."""

import errno
import os
import unicodedata
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

from xraygan import disk
from xraygan.data import decode

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".dcm", ".dicom", ".ima")  # of images that are read
SUFFIXES += (".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".jxl", ".nii", ".nrrd")  # of others
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz")
TEXTS = (".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".html", ".htm", ".pdf", ".xls", ".xlsx", ".yaml", ".py", ".ipynb")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "lost+found", "__pycache__", "$recycle.bin", "#recycle", "system volume information")
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "dicomdir")
MAX_CLASS_BYTES = 200  # of the 255 that a file's name may have
MAX_NAMED = 5  # names in a sentence; the others are counted


@dataclass(eq=False)
class Folder:
    """A folder of the tree: `name` as text, files sorted, folders by name, links to nowhere, and how many images it and all below it hold."""

    path: Path
    name: str
    images: list = field(default_factory=list)
    others: list = field(default_factory=list)
    dangling: list = field(default_factory=list)
    folders: dict = field(default_factory=dict)
    num_images: int = 0


# Names


def decode_name(name):
    """The text of a file's name; names that aren't UTF-8 are read as Korean Windows (CP949) or, if that gives no Hangul, as Latin-1."""
    raw = os.fsencode(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return decode_legacy(raw)


def decode_legacy(raw):
    """Bytes that aren't UTF-8 as text: CP949 where every letter beyond ASCII is Hangul, else Latin-1."""
    try:
        text = raw.decode("cp949")
        if all(letter.isascii() or "가" <= letter <= "힣" for letter in text):
            return text
    except UnicodeDecodeError:
        pass
    return raw.decode("latin-1")


def make_printable(text):
    """`text` with what can't be printed, such as a carriage return, written as an escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def name_class(text):
    """A class's name from that of its folder or from a CSV: composed letters, and no `/`, because results have folders of that name."""
    return unicodedata.normalize("NFC", text).replace("/", "-").replace("\\", "-")


def fold_class(name):
    """A class's name without capitals and with single blanks between its words: where two are equal then, one class is meant."""
    return " ".join(name.split()).casefold()


def check_alike(names):
    """Stop where two classes' names read alike.

    Raises:
        ValueError: with these names.
    """
    alike = defaultdict(list)
    for name in names:
        alike[fold_class(name)].append(name)
    twice = [group for group in alike.values() if len(group) > 1]
    if twice:
        raise ValueError(
            f"the classes {list_names(map(repr, twice[0]))} differ in capitals or blanks only: give them one name, or choose some of the classes "
            "with CLASSES."
        )


def check_classes(names):
    """Stop where a class's name can't stand in a list, in a table and on the disk, or two read alike.

    Raises:
        ValueError: one can't.
    """
    for name in names:
        if name != name.strip() or "," in name or not name.isprintable() or name == "all" or name[:1] in ("", "."):
            raise ValueError(
                f"the class {name!r} can't stand in a list or table of classes; give it a name without a comma, without a blank at either end, "
                "that doesn't begin with a dot and isn't 'all'."
            )
        if len(name.encode()) > MAX_CLASS_BYTES:
            raise ValueError(
                f"the class {name[:20]!r}… has a name of {len(name.encode())} bytes, and files are called after it: give it one of at most "
                f"{MAX_CLASS_BYTES}."
            )
    check_alike(names)


def list_names(names):
    """Some names as a sentence has them: the first few, then how many more."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def name_file(path, root):
    """A file's path below the root as text that any table, page and terminal can hold."""
    return make_printable(decode_name(path.relative_to(root).as_posix()))


def name_bytes(path, root):
    """`name_file` with bytes that aren't UTF-8 written as escapes: of two files never the same."""
    return make_printable(os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace"))


# The tree


def read_tree(root):
    """Read the names in a folder and all below it: `Folder`. Links are followed, except to a folder above themselves.

    Raises:
        ValueError: a folder can't be opened.
    """
    return _read_folder(Path(root), decode_name(Path(root).name), ())


def _read_folder(path, name, above):
    folder = Folder(path, name)
    with disk.read_errors_explained(f"the folder {make_printable(name)}"), os.scandir(path) as opened:
        entries = sorted(opened, key=lambda entry: entry.name)
        if entries and not os.access(path, os.X_OK):  # its names can be read, and nothing in it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    status = os.stat(path)
    above = (*above, (status.st_dev, status.st_ino))
    for entry in entries:
        if _is_of_the_system(entry.name):
            continue
        if os.path.isdir(entry):
            if entry.is_symlink() and _is_among(entry, above):
                continue  # a circle
            child = folder.folders[entry.name] = _read_folder(path / entry.name, decode_name(entry.name), above)
            folder.num_images += child.num_images
        elif os.path.isfile(entry):
            (folder.images if _is_image(entry) else folder.others).append(entry.name)
        elif entry.is_symlink() and os.path.splitext(entry.name)[1].lower() not in TEXTS:
            folder.dangling.append(entry.name)
        else:
            folder.others.append(entry.name)  # a pipe, say
    folder.num_images += len(folder.images) + len(folder.dangling)
    return folder


def _is_of_the_system(name):
    """Whether a file or folder is there for a computer and not for a person: hidden, a thumbnail, a mark of where it was downloaded."""
    return name[0] == "." or name.casefold() in SYSTEM_FOLDERS + SYSTEM_FILES or name.endswith(":Zone.Identifier")


def _is_among(entry, above):
    status = entry.stat()
    return (status.st_dev, status.st_ino) in above


def _is_image(entry):
    """Whether a file is an image by its name, or, where the name says nothing, by its first bytes."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES or entry.name.lower().endswith(".nii.gz"):
        return True
    if suffix in TEXTS:
        return False
    try:
        with open(entry.path, "rb") as file:
            kind = decode.name_kind(file.read(decode.HEADER_BYTES))
    except OSError:
        return False
    return kind in decode.USED_KINDS + decode.PICTURES


def walk(folder):
    """A folder and all below it, those nearer to it first."""
    waiting = deque([folder])
    while waiting:
        yield (first := waiting.popleft())
        waiting += first.folders.values()


def describe_tree(tree):
    """What stands at the top of a folder, in words, for who expected it to be laid out otherwise."""
    folders = [f"{make_printable(child.name)} ({describe_content(child)})" for child in tree.folders.values()]
    named = f"the folders {list_names(folders)}" if folders else "no folder"
    packed = list_packed(tree)
    return f"{make_printable(tree.name)} holds {len(tree.images)} images itself, and {named}" + (
        f", and {list_names(packed)}, still packed" if packed else ""
    )


def describe_content(folder):
    """How many images a folder holds and, where there are none, what else."""
    others = count_others(folder)
    if folder.num_images:
        return str(folder.num_images)
    if not others:
        return "empty"
    kinds = list_names(f"{number} {suffix or 'without a suffix'}" for suffix, number in others.most_common())
    return f"no image, but {others.total()} other files: {kinds}"


def count_others(folder):
    """How many files that are no images a folder and all below it hold, by their suffix."""
    counts = Counter(make_printable(os.path.splitext(name)[1].lower()) for name in folder.others)
    return sum((count_others(child) for child in folder.folders.values()), counts)


def list_packed(folder):
    """The archives at the top of a folder, which nobody has unpacked yet."""
    return [make_printable(decode_name(name)) for name in folder.others if name.lower().endswith(ARCHIVES)]


def name_below(tree, folder):
    """A folder's path below the tree, as text."""
    return name_file(folder.path, tree.path) if folder is not tree else "the folder itself"
