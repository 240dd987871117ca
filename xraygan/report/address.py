"""The project's public address, which the notebooks' first cells, their badges and the README's name.

Run as `python -m xraygan.report.address ADDRESS` (that is what `make address ADDRESS=…` does); without one, this clone's own remote is taken.
"""

import re
import subprocess
import sys

from xraygan import disk, run

NOTEBOOKS = tuple(disk.ROOT / "notebooks" / name for name in run.NOTEBOOKS)
PAGES = (disk.ROOT / "README.md", *NOTEBOOKS)
ON_GITHUB = re.compile(
    r"(?:https://|ssh://)?(?:git@)?github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
)  # Colab and Kaggle open from there alone
MENTIONED = re.compile(
    r'(?<=github\.com/)[\w.-]+/[\w.-]+(?=\\"|/blob/)|(?<=com/github/)[\w.-]+/[\w.-]+(?=/blob/)'
)  # OWNER/NAME


def set_address(address, pages=PAGES):
    """Write an address into every place that names the project's.

    Args:
        address: of a repository on GitHub, as a browser shows it or as git knows it.
        pages: the files to change.

    Returns:
        "OWNER/NAME".

    Raises:
        ValueError: it's no such address.
    """
    found = ON_GITHUB.fullmatch(address)
    if not found:
        raise ValueError(
            f"ADDRESS is {address!r}; give that of your copy on GitHub, https://github.com/OWNER/NAME: Colab and Kaggle open notebooks from there."
        )
    for page in pages:
        with disk.replacing(page) as draft:
            draft.write_text(MENTIONED.sub(found.group(1), page.read_text(encoding="utf-8")), encoding="utf-8")
    return found.group(1)


def find_remote(folder=disk.ROOT):
    """The address that a clone came from; "" where it has none."""
    command = ["git", "-C", str(folder), "remote", "get-url", "origin"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    try:
        print(
            f"The badges and first cells name {set_address(''.join(sys.argv[1:]) or find_remote())} now; commit and push them."
        )
    except (ValueError, OSError) as error:
        sys.exit(str(error))
