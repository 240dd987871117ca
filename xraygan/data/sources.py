"""Which images: one's own folder, the Kaggle set, or the phantom; all three are read the same way."""

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import utils
from xraygan import disk
from xraygan.data import kaggle_download, phantom

SUFFIXES = (".jpg", ".jpeg", ".png")
FOLDERS = ("train", "test")
DEFAULT_CLASSES = ("NORMAL", "COVID19")
LAYOUT = "DATA/train/CLASS/*.jpg and DATA/test/CLASS/*.jpg"


@dataclass(frozen=True)
class Source:
    """A folder of images laid out as `root/{train,test}/CLASS/*.{jpg,jpeg,png}`.

    Attributes:
        name: short name, the first half of a run's default name.
        root: the folder.
        classes: class folders to read, in order.
        minority: the class the GAN augments and metrics call positive.
        is_phantom: whether the images are drawn, so that no title presents them as medicine.
    """

    name: str
    root: Path
    classes: tuple
    minority: str
    is_phantom: bool

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
        folders: `str (N,)`, "train" or "test": where each came from.
        files: `str (N,)`, path below the root, with `/`.
        digests: `str (N,)`, a hash of each file's bytes.
        skipped: {file: why} of those that could not be read.
    """

    source: Source
    images: np.ndarray
    labels: np.ndarray
    folders: np.ndarray
    files: np.ndarray
    digests: np.ndarray
    skipped: dict = field(default_factory=dict)

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
        return ImageSet(
            replace(self.source, classes=tuple(classes), minority=minority),
            self.images[kept],
            position[self.labels[kept]],
            self.folders[kept],
            self.files[kept],
            self.digests[kept],
            self.skipped,
        )

    def find_rows(self, files):
        """The row of each of `files`, in their order."""
        position = {file: row for row, file in enumerate(self.files)}
        return np.array([position[file] for file in files], dtype=int)


def find_source(data="", classes="", minority=""):
    """Find the images a run works on.

    Args:
        data: a folder, "kaggle" (downloaded if it isn't there), "phantom" (drawn if it isn't there), or "" for
            `data/chest_xray` where it exists, else the phantom.
        classes: comma-separated class folders; "" for NORMAL,COVID19 where both exist, else all.
        minority: the class to augment; "" for the one with the fewest training images.

    Raises:
        ValueError: the folder or a class isn't there, or holds no images; the message says what to do.
    """
    root = _find_root(data)
    available = _class_folders(root)
    chosen = _choose_classes(classes, available)
    counts = {name: len(list_images(root / "train" / name)) for name in chosen}
    is_phantom = (root / phantom.MARKER).exists()
    if minority and minority not in chosen:
        raise ValueError(f"MINORITY is {minority!r}; choose one of this run's classes: {', '.join(chosen)}.")
    return Source(
        name="phantom" if is_phantom else _short_name(root),
        root=root,
        classes=chosen,
        minority=minority or min(chosen, key=counts.get),
        is_phantom=is_phantom,
    )


def add_classes(source, also):
    """The source with further classes, a comma-separated list; "" adds none.

    Raises:
        ValueError: a class isn't there, or is there already.
    """
    return replace(source, classes=_choose_classes(",".join([*source.classes, also]), _class_folders(source.root), "ALSO"))


def read_images(source, image_size=utils.IMAGE_SIZE, show_progress=True):
    """Read every image of a source at one size, decoding only what isn't cached: `ImageSet`."""
    paths, labels, folders = [], [], []
    for folder in FOLDERS:
        for label, name in enumerate(source.classes):
            images = list_images(source.root / folder / name)
            paths += images
            labels += [label] * len(images)
            folders += [folder] * len(images)
    loaded = utils.load_images(paths, disk.STORE / "data" / "cache", image_size, show_progress)
    files = np.array([path.relative_to(source.root).as_posix() for path in paths])
    kept = loaded.kept
    return ImageSet(
        source,
        loaded.images,
        np.array(labels)[kept],
        np.array(folders)[kept],
        files[kept],
        loaded.digests[kept],
        dict(zip(files[~kept], loaded.skipped.values(), strict=True)),
    )


def list_images(folder):
    """The image files of one class folder, sorted by name; other visible files are named in a warning.

    Raises:
        ValueError: the folder isn't there or holds no image.
    """
    if not folder.is_dir():
        raise ValueError(f"{_below_data(folder)} isn't there; the layout expected is {LAYOUT}.")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] != "." and os.path.isfile(entry))
    images = [folder / name for name in names if name.lower().endswith(SUFFIXES)]
    others = [name for name in names if not name.lower().endswith(SUFFIXES)]
    if others:
        named = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        warnings.warn(f"{_below_data(folder)} holds {len(others)} files that aren't images ({named}); left out.", stacklevel=2)
    if not images:
        raise ValueError(
            f"{_below_data(folder)} holds no {', '.join(SUFFIXES)} image; put some there or choose other classes with CLASSES."
        )
    return images


def _below_data(folder):
    """`train/COVID19` of a longer path: enough to find it, and no machine's folders in a notebook."""
    return "/".join(folder.parts[-2:])


def _find_root(data):
    if data == "kaggle":
        return kaggle_download.download(disk.STORE / "data" / "chest_xray")
    default = disk.STORE / "data" / "chest_xray"
    if data == "phantom" or (not data and not default.is_dir()):
        root = disk.STORE / "data" / "phantom"
        phantom.write_phantom(root)
        return root
    candidates = [default] if not data else [Path(data).expanduser(), disk.ROOT / data, disk.STORE / data]
    root = next((folder for folder in candidates if folder.is_dir()), None)
    if root is None:
        raise ValueError(f"DATA is {data!r}, and there is no such folder; give one laid out as {LAYOUT}, or 'phantom'.")
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            raise ValueError(f"{root.name} has no folder {folder!r}; the layout expected is {LAYOUT}.")
    return root.resolve()


def _class_folders(root):
    """Class folders that stand in both train and test, sorted."""
    train, test = (
        {entry.name for entry in (root / folder).iterdir() if entry.is_dir() and entry.name[0] != "."} for folder in FOLDERS
    )
    if train != test:
        warnings.warn(f"in train or test only, and left out: {', '.join(sorted(train ^ test))}", stacklevel=2)
    both = sorted(train & test)
    for name in both:
        if name != name.strip() or "," in name or not name.isprintable() or name == "all":
            raise ValueError(
                f"the class folder {name!r} can't stand in a list or table of classes; give it a plain name, without commas."
            )
    return both


def _choose_classes(classes, available, parameter="CLASSES"):
    wanted = tuple(name.strip() for name in classes.split(",") if name.strip())
    missing = [name for name in wanted if name not in available]
    if missing:
        raise ValueError(
            f"{parameter} names {', '.join(missing)}; train and test both hold {', '.join(available) or 'no class'}."
        )
    if not wanted:
        wanted = DEFAULT_CLASSES if set(DEFAULT_CLASSES) <= set(available) else tuple(available)
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"{parameter} names a class twice: {', '.join(wanted)}.")
    if len(wanted) < 2:
        raise ValueError(
            f"a classifier needs at least two classes, and here is {', '.join(wanted) or 'none'}; expected {LAYOUT}."
        )
    return wanted


def _short_name(root):
    letters = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in root.name)
    return letters.strip("._-")[:60] or "images"
