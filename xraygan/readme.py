"""Writes the README's numbers from the published files, so that none is typed by hand.

Run as `python -m xraygan.readme` (`make refresh` does). Everything between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced.
"""

import re
import shutil

import pandas as pd

import utils
from xraygan import findings, record, statistics

PUBLISHED = utils.ROOT / "results" / "published"
FIGURES = utils.ROOT / "images" / "readme"
PHANTOM_RUN = "phantom-quick"
PUBLISHED_FILES = (
    "record.json",
    "before_after.csv",
    "mcnemar.json",
    "split.csv",
    "before_gan/metrics.json",
    "after_gan/metrics.json",
)


def main():
    folders = utils.run_folders(PHANTOM_RUN, utils.ROOT)
    publish_phantom(folders)
    path = utils.ROOT / "README.md"
    text = fill(path.read_text(encoding="utf-8"), phantom_blocks(PUBLISHED / PHANTOM_RUN))
    with utils.replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def publish_phantom(folders):
    """Copy the phantom run's tables and two of its figures to where they're committed.

    Raises:
        ValueError: the run isn't on the phantom; real images have no place in the repository.
    """
    if not record.read_record(folders)["is_phantom"]:
        raise ValueError(f"run {folders.run} isn't on the phantom; its pictures must not be published.")
    for name in PUBLISHED_FILES:
        target = PUBLISHED / folders.run / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folders.results / name, target)
    FIGURES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folders.images / "real_beside_fake.png", FIGURES / "phantom_and_fakes.png")
    shutil.copyfile(folders.images / "gan" / "timelapse.gif", FIGURES / "phantom_timelapse.gif")


def phantom_blocks(folder):
    """The README's generated passages, {name: Markdown}, from one published run on the phantom."""
    notes = record.read_json(folder / "record.json")
    table = pd.read_csv(folder / "before_after.csv")
    seconds = sum(part["seconds"] for part in notes["parts"].values())
    memory = max(part["peak_memory_gb"] for part in notes["parts"].values())
    machine = notes["machine"]
    finding = (
        "**No real study is published yet. On the phantom (drawings, evidence of nothing in medicine):** "
        + findings.one_run_sentence(record.read_json(folder / "mcnemar.json"))
    )
    hardware = (
        f"Measured for the quick phantom run on {machine['cores']} cores ({machine['device']}, {machine['precision']}): "
        f"{seconds / 60:.1f} minutes of training, at most {memory:.1f} GB of memory."
    )
    return {"finding": finding, "table": _markdown_table(statistics.readable(table)), "hardware": hardware}


def fill(text, blocks):
    """Replace what stands between each block's two marks.

    Raises:
        ValueError: a block's marks aren't there.
    """
    for name, content in blocks.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(\n<!-- end {name} -->)"
        text, replaced = re.subn(pattern, lambda match, content=content: match[1] + content + match[2], text, flags=re.DOTALL)
        if replaced != 1:
            raise ValueError(f"README.md has {replaced} passages marked {name!r}; expected one.")
    return text


def _markdown_table(table):
    lines = ["| metric | " + " | ".join(table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    return "\n".join(
        lines + [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(table.index, table.to_numpy(), strict=True)]
    )


if __name__ == "__main__":
    main()
