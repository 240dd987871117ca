"""Who an image is of, as tables and DICOM headers write it: one rule for names that stand for nobody."""

import re

import numpy as np

NOBODY = {  # in place of a patient whom nobody noted, or whose name was taken away
    *("", "na", "n/a", "nan", "none", "null", "unknown", "-", "?"),
    *("anonymous", "anonymized", "anonymised", "anonym", "anon", "deidentified", "de-identified", "removed"),
}
MAX_SHARE = 0.5  # of a class's images: a name that more of them have stands for nobody
MANY_IMAGES = 10  # of a patient; fewer may be most images of a small class
WHOLE_NUMBER = re.compile(r"(\d+)\.0+")  # 12, as a spreadsheet writes it that takes it for a measurement


def clean(text):
    """A patient's name without what differs between two rows about the same one; "" where it says that the patient isn't known."""
    name = clean_number(text.strip())
    return "" if name.casefold() in NOBODY else name


def clean_number(text):
    """`text`, a whole number without the .0 that a spreadsheet gives it."""
    return WHOLE_NUMBER.sub(r"\1", text) if WHOLE_NUMBER.fullmatch(text) else text


def drop_shared(names, labels, classes, advice="Name the patients with GROUPS."):
    """The patients without a name that most images of a class have, as an archive gives it that hides all names.

    Args:
        names: `str (N,)`, "" where the patient isn't known.
        labels: `int (N,)`, indices into `classes`.
        classes: class names.
        advice: what to do about it.

    Returns:
        `str (N,)`, and a sentence for each class with such a name.
    """
    nobody, sentences = set(), []
    for label, class_name in enumerate(classes):
        of_class = names[labels == label]
        values, counts = np.unique(of_class[of_class != ""], return_counts=True)
        if len(counts) and counts.max() > max(MANY_IMAGES, MAX_SHARE * len(of_class)):
            nobody.add(values[counts.argmax()])
            sentences.append(
                f"{counts.max()} of {len(of_class)} images of {class_name} have the same patient: this was taken for a name that stands for "
                f"nobody, and each of these images for a patient of its own. {advice}"
            )
    return np.where(np.isin(names, list(nobody)), "", names) if nobody else names, sentences
