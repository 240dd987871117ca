"""Fakes that another generator made, in place of those of a GAN of ours: found in a folder and read as real images are."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from xraygan import disk, run
from xraygan.data import loading, split, tree

MOST = 2000  # fakes of a replicate that are taken: as many as a sweep over their number adds at most
HOW = "give the folder that holds them, or one with the folders 0, 1, 2 and so on in it, one a replicate"
NOT_FROM_FEW = (
    "The part with few images of patients is left out: only a generator that had seen no more than those few could be compared fairly, and what the "
    "generator of the fakes in FAKES had seen isn't known."
)
MOST_LETTERS = 40  # of a folder's name, which stands beside the axes of figures


@dataclass(frozen=True)
class Imported:
    """What a run's record says of fakes that another generator made.

    Attributes:
        name: of the folder that they came from.
        digests: a hash of the fakes of each replicate, in the replicates' order; a single one where all have the same fakes.
        number: how many each replicate has.
        real: how many of each replicate show the same picture as a real image of the run.
    """

    name: str
    digests: tuple
    number: int
    real: tuple

    @property
    def is_shared(self):
        """Whether all replicates have the same fakes, so that the generator is no source of variation."""
        return len(self.digests) == 1

    @property
    def words(self):
        """What the fakes are called, where those of a GAN are called "GAN"."""
        return f"fakes of {self.name}"

    def choose_digest(self, replicate):
        """The hash of the fakes of a replicate, counted from 0."""
        return self.digests[0 if self.is_shared else replicate]


def require_enough(imported, num_fakes, num_replicates):
    """Stop where a profile now asks for more than notebook 2 imported.

    Args:
        imported: `Imported`.
        num_fakes: of a replicate that are needed.
        num_replicates: that each need fakes.

    Raises:
        ValueError: there are too few fakes, or fakes for too few replicates.
    """
    replicates = num_replicates if imported.is_shared else len(imported.digests)
    if imported.number < num_fakes or replicates < num_replicates:
        raise ValueError(
            f"notebook 2 imported {imported.number} fakes for {'all' if imported.is_shared else replicates} replicates, and this PROFILE asks for "
            f"{num_fakes} for {num_replicates}: run notebooks/{run.NOTEBOOK_2} again, with as many in FAKES."
        )


# In the folder


def find_folder(name):
    """The folder that FAKES means, from where the process runs, from the project's folder or from the store.

    Raises:
        ValueError: there is none.
    """
    found = disk.find_named(name, os.path.isdir)
    if found is None:
        raise ValueError(f"FAKES is {name!r}, and there is no such folder: {HOW}.")
    return found.resolve()


def name_folder(folder):
    """What a folder of fakes is called in tables and figures."""
    return tree.make_printable(tree.decode_name(folder.name))[:MOST_LETTERS] or "a folder"


def find_fakes(folder, class_name, num_fakes, num_replicates):
    """The image files of the fakes of each replicate, by name: a list of lists of paths, with one entry where all replicates share them.

    Args:
        folder: of the fakes; with folders called 0, 1, 2 … in it, each is a replicate's. Where a folder holds no image itself, the only
            one inside that does is taken, or the one that is called after the class.
        class_name: the class that they imitate.
        num_fakes: how many a replicate needs.
        num_replicates: how many there are.

    Raises:
        ValueError: there are too few fakes or replicates, or it isn't clear which files are meant; the message says what was seen.
    """
    top = tree.read_tree(folder)
    children = [child for child in top.folders.values() if child.name.isascii() and child.name.isdecimal()]
    if not children:
        return [_list_images(top, class_name, num_fakes)]
    names = [child.name for child in children]
    if class_name in names:
        raise ValueError(
            f"FAKES doesn't say whether its folders {tree.list_names(names)} are replicates or classes, since a class is called {class_name}: give "
            f"the path of its folder {class_name}, or call the folders of replicates 000, 001 and so on."
        )
    numbered = {int(child.name): child for child in children}
    if len(numbered) < len(children):
        raise ValueError(f"FAKES has two folders of one number among {tree.list_names(names)}: keep one of them.")
    missing = [str(number) for number in range(num_replicates) if number not in numbered]
    if missing or top.images:
        raise ValueError(
            f"FAKES must have a folder for each of {num_replicates} replicates and no image beside them, and {tree.describe_tree(top)}"
            + (f"; there is no folder {tree.list_names(missing)}" if missing else "")
            + ". Add what is missing, take a profile with another num_seeds, or give one folder for all replicates."
        )
    return [_list_images(numbered[number], class_name, num_fakes) for number in range(num_replicates)]


def _list_images(folder, class_name, num_fakes):
    """The images of one folder, or of the folder in it that is meant."""
    inner = [child for child in folder.folders.values() if child.num_images]
    if inner and not folder.images:
        called = [child for child in inner if tree.name_class(child.name).casefold() == class_name.casefold()]
        if len(inner) > 1 and not called:
            raise ValueError(
                f"FAKES doesn't say which images are meant: {tree.describe_tree(folder)}. For fakes of {class_name}, {HOW}."
            )
        return _list_images((called or inner)[0], class_name, num_fakes)
    if folder.dangling:
        raise ValueError(
            f"{len(folder.dangling)} images in FAKES, folder {tree.make_printable(folder.name)}, are links to nowhere: copy the images themselves "
            "there."
        )
    if len(folder.images) < num_fakes:
        raise ValueError(_explain_too_few(folder, num_fakes))
    return [folder.path / file for file in folder.images]


def _explain_too_few(folder, num_fakes):
    """That a folder holds too few images, what else it holds, and what can be done."""
    name, number = tree.make_printable(folder.name), len(folder.images)
    if not number:
        return (
            f"FAKES, folder {name}, can't be used ({tree.describe_content(folder)}): {num_fakes} fakes are to be added, each of them saved there as a "
            "JPEG or PNG file."
        )
    inner = [f"{tree.make_printable(child.name)} ({child.num_images})" for child in folder.folders.values() if child.num_images]
    seen = f"{number} images" + (f" itself, others in its folders {tree.list_names(inner)}" if inner else "")
    advice = [f"make {num_fakes - number} more"]
    if inner:
        advice.append("give the path of the folder that is meant")
    if number >= split.FEWEST_JUDGED:
        advice.append(f"take a profile with num_fakes: {number}")
    return f"FAKES, folder {name}, holds {seen}, and {num_fakes} fakes are to be added: {', or '.join(advice)}."


# Their pixels


def read(found, image_size, num_fakes):
    """Read the fakes of each replicate as real images are read: JPEG, PNG or DICOM of any size to 8-bit grey of `image_size` pixels a side.

    Args:
        found: of `find_fakes`.
        num_fakes: how many a replicate needs; of more than `MOST` and of more than this, the first ones are read.

    Returns:
        a list of `uint8 (N, S, S, 1)`, all with the N of the replicate that has fewest; and a sentence about the files.

    Raises:
        ValueError: a file can't be read, or two replicates have the same fakes.
    """
    number = min(max(num_fakes, MOST), *map(len, found))
    loaded = loading.read_every_image([path for paths in found for path in paths[:number]], image_size, "images in FAKES")
    replicates = np.split(loaded.images, len(found))
    digests = [hash_images(images) for images in replicates]
    twice = [str(digests.index(digest)) for place, digest in enumerate(digests) if digests.index(digest) < place]
    if twice:
        raise ValueError(
            f"FAKES has the images of folder {twice[0]} in another folder too: give each replicate its own, or one folder for all."
        )
    return replicates, _describe(loaded.facts, sum(map(len, found)) - len(loaded.images))


def hash_images(images):
    """A hash of `uint8 (N, S, S, 1)` and of their order."""
    return hashlib.sha256(repr(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:16]


def _describe(facts, unused):
    """What the files are like; one that isn't a fake, such as a picture of many, is seen by that."""
    kinds = Counter(f"{one.format} of {one.width}×{one.height} pixels" for one in facts).most_common()
    others = sum(number for _, number in kinds[1:])
    but = f", but for {others} of other kinds or sizes" if others else ""
    return f"They are {kinds[0][0]}{but}." + (f" {unused} more, by name the last, aren't used." if unused else "")
