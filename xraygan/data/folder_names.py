"""What the names of people's folders say: a part of a split, a class, masks, one folder for all images, patients."""

import difflib
import os
import re

from xraygan.data.tree import decode_name, list_names, make_printable

PARTS = {  # what the folders of a split are called
    "train": {"train", "training", "trn", "tr", "학습", "훈련"},
    "validation": {"val", "valid", "validation", "validate", "dev", "검증"},
    "test": {"test", "testing", "tst", "holdout", "시험", "테스트"},
}
FILLERS = {"set", "data", "dataset", "images", "image", "folder", "split", "part"}  # "Training set", "test_images"
MASKS = {"mask", "masks", "segmentation", "segmentations", "seg", "segs", "labelmap", "labelmaps", "annotation", "annotations"}
IMAGES = {"image", "images", "img", "imgs", "picture", "pictures", "xray", "xrays", "radiograph", "radiographs", "cxr", "cxrs"}
KINDS = {"png", "jpg", "jpeg", "dcm", "dicom", "files", "all"}  # words beside the above that are in no class's name alone
NUMBERED = {  # what folders with a number are called that hardly are classes
    *("p", "pt", "patient", "subject", "case", "study", "series", "id", "sub", "uid"),
    *("fold", "site", "hospital", "center", "centre", "clinic", "batch"),
}
FEWEST_NUMBERS = 5  # folders with bare numbers for names, from which on they are taken for patients
LOOKS_ALIKE = 0.7  # of difflib's ratio: "tets" and "test" have 0.75, "normal" and "train" 0.36
MASK_OF = re.compile(r"(.+)[ _.-](?:mask|masks|seg|segmentation)$", re.IGNORECASE)
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between the words of "LungMasks" and "CXRMasks"


def name_part(name):
    """The part of a split that a folder's name means, "train", "validation" or "test"; "" for others."""
    joined = "".join(word for word in list_words(decode_name(name)) if word not in FILLERS)
    for filler in ("set", "data"):  # "testset"
        joined = joined.removesuffix(filler)
    return next((part for part, names in PARTS.items() if joined in names), "")


def guess_part(name, parts):
    """Which of `parts` a folder's name looks like with a slip of the pen, "trian" or "evaluation" say; "" where it looks like none."""
    words = {word: part for part in parts for word in PARTS[part]}
    joined = "".join(word for word in list_words(decode_name(name)) if word not in FILLERS)
    close = difflib.get_close_matches(joined, words, n=1, cutoff=LOOKS_ALIKE)
    return words[close[0]] if close else ""


def has_word(name, words):
    """Whether a folder's name is made of words one of which is among `words`, e.g. "lung masks" or "LungMasks"."""
    return any(not words.isdisjoint(read) for read in _read_words(name))


def _read_words(name):
    """The words of a name, once as it is and once parted at its capitals."""
    return list_words(name), list_words(CAMEL.sub(" ", name))


def list_words(name):
    """The words of a name, without capitals, numbers and signs."""
    return [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]


def is_container(name):
    """Whether a folder is called like one for all images, "dataset" or "images" say, and not like a class."""
    return bool(list_words(name)) and set(list_words(name)) <= IMAGES | FILLERS


def is_no_class(name):
    """Whether a folder is called like images or masks and nothing else, so that it names no class."""
    called = IMAGES | MASKS
    return has_word(name, called) and any(set(words) <= called | KINDS for words in _read_words(name))


def find_masks(names):
    """Those of some files' names that are `x_mask.png` beside an `x.png`, of any suffix."""
    stems = {os.path.splitext(name)[0]: name for name in names}
    matches = {name: MASK_OF.fullmatch(stem) for stem, name in stems.items()}
    return {name for name, match in matches.items() if match and match[1] in stems}


def are_numbered(names):
    """Whether folders are called like patients or hospitals that somebody numbered or lettered: "p10" and "p11", "SiteA" and "SiteB"."""
    words = {_drop_letter(_read_words(name)[1]) for name in names}
    return len(words) == 1 and () not in words and NUMBERED.issuperset(*words)


def may_be_patients(names):
    """Whether folders are numbered or lettered, or have bare numbers for names and are too many for classes called 0, 1 and 2."""
    return are_numbered(names) or (len(names) >= FEWEST_NUMBERS and all(name.isdecimal() for name in names))


def _drop_letter(words):
    """Some words as a tuple, without one letter alone behind others."""
    return tuple(words[:-1] if len(words) > 1 and len(words[-1]) == 1 else words)


def describe_numbered(classes):
    """A sentence where the classes are called like patients or hospitals; else ""."""
    if not are_numbered(classes):
        return ""
    return (
        f"The class folders are called {make_printable(list_names(classes))}: if these aren't classes, name the class of each image in a CSV with "
        "the columns file and label."
    )
