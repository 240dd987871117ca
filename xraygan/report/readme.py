"""The check of the numbers in the hand-written pages README.md, results/README.md and benchmarks/README.md.

A comment at the end of a paragraph or a list entry, or below a table, says which file its numbers come from:

    <!-- FILE: VALUE -> TEXT; VALUE -> TEXT -->      numbers in a paragraph; TEXT is how the paragraph writes one
    <!-- table FILE: CELL | CELL | … -->             all numbers of a table
    <!-- FILE PLACE: … -->, <!-- table FILE PLACE: … -->      the same for a part of the file

A VALUE is a path through a JSON file or a CSV's rows, then perhaps `* 100` or `/ 60`: `profile.num_seeds`,
`contrasts[first=nothing & second=gan].difference * 100`, `[arm=gan].mean(auroc)`. Brackets keep the rows whose
columns read so; what follows them needs exactly one row, or one of mean, std, min, max, sum(COLUMN) and count().
A CELL is `=COLUMN` where the page's words say which rows of the file are meant, `-` where nothing is checked, or the VALUEs of the
numbers in that cell, separated by commas. Words are compared without capitals, asterisks, commas, hyphens, underscores and what stands in parentheses. A PLACE is a path,
too, which all VALUEs start from. TEXT fixes the rounding: decimals, a plus sign, a thousands comma, a per cent sign.

`python -m xraygan.report.readme` (`make refresh` runs it) copies a new run's numbers and figures to where they are published, then
names every line that says something else than the files.
"""

import re
import shutil
from typing import NamedTuple

import pandas as pd

from xraygan import disk, run
from xraygan.report import published

PAGES = tuple(disk.ROOT / folder / "README.md" for folder in ("", "results", "benchmarks"))
FIGURES = disk.ROOT / "images" / "readme"
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[+−-]?\d+(?:,\d{3})*(?:\.\d+)?(?:\s?%(?!p))?")
HIDDEN = re.compile(  # comments, code, addresses, versions
    r"<!--.*?-->|```.*?```|`[^`\n]*`|\]\([^)\n]*\)|<[^>\n]*>|arXiv:[\d.]+|Python 3[\d. to]+", re.DOTALL
)
SUMMARIES = {"mean": pd.Series.mean, "std": pd.Series.std, "min": pd.Series.min, "max": pd.Series.max, "sum": pd.Series.sum}


def main():
    for name in (published.PHANTOM_RUN, published.BASELINE_RUN, published.STUDY_RUN):
        published.publish(run.name_folders(name))
    publish_figures(run.name_folders(published.PHANTOM_RUN))
    publish_fakes(run.name_folders(published.BASELINE_RUN))
    publish_scarcity()
    for page in PAGES:
        faults = find_stale_numbers(page) + find_unsourced_numbers(page)
        print("\n".join(faults) or f"{name_page(page)}: every number is what its file says.")


def publish_figures(folders):
    """Copy the figures of the run on the phantom to where the pages show them; without such a run here they stay as they are."""
    figures = {"verdict.png": "phantom_verdict.png", "gan/timelapse.gif": "phantom_timelapse.gif"}
    for source, target in ({"real_beside_fake.png": "phantom_and_fakes.png"} | figures).items():
        if (folders.images / source).exists():
            shutil.copyfile(folders.images / source, FIGURES / target)


def publish_fakes(folders):
    """Copy the fakes of a generator trained on real images to where the pages show them, unless they may be copies of patients."""
    judgement, shown = folders.results / "gan" / "judgement.json", FIGURES / "chest_xray_fakes.png"
    if judgement.exists() and disk.read_json(judgement)["alarm"]:
        shown.unlink(missing_ok=True)
    elif judgement.exists():
        shutil.copyfile(folders.images / "fakes.png", shown)


def publish_scarcity():
    """Draw the published study of few images beside its tables, as far as it has come."""
    from xraygan.report import figures, worth  # here, since it loads the deep-learning libraries

    if figure := worth.draw_published(published.SCARCITY):
        figures.save_figure(figure, published.SCARCITY / "scarcity.png")


def find_stale_numbers(page, root=disk.ROOT):
    """Compare every number that has a source with its source.

    Args:
        page: a Markdown file.
        root: the folder that the comments' files are relative to.

    Returns:
        a list of sentences, each naming the line and what the file says now; empty if all is well.
    """
    return [fault for source in read_sources(page) for fault in source.check(root)[1]]


def find_unsourced_numbers(page, root=disk.ROOT):
    """The numbers with a decimal point that no comment gives a source, outside code and addresses: a list of sentences."""
    text = page.read_text(encoding="utf-8")
    lines = HIDDEN.sub(_blank, text).splitlines()
    sourced = {found for source in read_sources(page) for found in source.check(root)[0]}
    return [
        f"{name_page(page)}, line {number}: {match[0]!r} has no source."
        for number, line in enumerate(lines, start=1)
        for match in NUMBER.finditer(line)
        if "." in match[0] and (number, match.start()) not in sourced
    ]


class Source(NamedTuple):
    """One comment, and the lines that it is about.

    Attributes:
        page: the Markdown file, as a reader finds it.
        comment: the text between the comment's marks, on one line.
        line: number of the comment's first line.
        block: {line number: text} of the paragraph, list entry or table above it.
    """

    page: str
    comment: str
    line: int
    block: dict

    def check(self, root):
        """What it is a source of, a list of (line number, column), and what is wrong, a list of sentences."""
        kind, file, place, values = re.fullmatch(r"(table )?(\S+?)(?: (.*?))?: (.*)", self.comment).groups()
        try:
            content = read_content(root / file)
            content = follow(content, place) if place else content
            if kind:
                return self._check_table(content, values.split(" | "), file)
            return self._check_text(content, values.split("; "), file)
        except (OSError, ValueError, KeyError, IndexError) as error:
            return [], [f"{self.page}, line {self.line}: {file} can't be compared: {error}"]

    def _check_text(self, content, values, file):
        places, faults = [], []
        for value in values:
            path, _, shown = (part.strip() for part in value.rpartition("->"))
            found = [
                (line, match.start())
                for line, text in self.block.items()
                for match in NUMBER.finditer(text)
                if normalise_number(match[0]) == normalise_number(shown)
            ]
            places += found
            if not found:
                faults.append(f"{self.page}, line {self.line}: the text above doesn't hold {shown!r}, which its source names.")
            else:
                faults += self._compare(found[-1][0], shown, content, path, file)
        return places, faults

    def _check_table(self, rows, cells, file):
        places, faults = [], []
        for line, text in list(self.block.items())[2:]:  # below the heading and its rule
            columns = [(match[0], match.start()) for match in re.finditer(r"(?<=\|)[^|]*(?=\|)", text)]
            if len(columns) != len(cells):
                raise ValueError(f"line {line} has {len(columns)} cells and its source {len(cells)}")
            keys = {cell[1:]: words for (words, _), cell in zip(columns, cells, strict=True) if cell.startswith("=")}
            meant = [row for row in rows if all(normalise_words(row[name]) == normalise_words(keys[name]) for name in keys)]
            for (words, start), cell in zip(columns, cells, strict=True):
                numbers = [*NUMBER.finditer(words)]
                if cell.startswith("=") and meant:
                    places += [(line, start + match.start()) for match in numbers]  # the words were compared as a whole
                if cell == "-" or cell.startswith("=") or not numbers:
                    continue
                paths = cell.split(", ")
                if len(paths) != len(numbers):
                    raise ValueError(f"line {line} has {len(numbers)} numbers where its source has {len(paths)} ({cell})")
                for match, path in zip(numbers, paths, strict=True):
                    places.append((line, start + match.start()))
                    faults += self._compare(line, match[0], meant, path, file)
        return places, faults

    def _compare(self, line, shown, content, path, file):
        try:
            now = write_like(follow(content, path), shown)
        except (ValueError, KeyError) as error:
            return [f"{self.page}, line {line}: {shown!r} can't be compared with {file}: {path} ({error})."]
        return [] if now == normalise_number(shown) else [f"{self.page}, line {line}: {shown!r} is now {now} ({file}: {path})."]


def read_sources(page):
    """The `Source`s of a Markdown file, in order."""
    text = page.read_text(encoding="utf-8")
    lines = COMMENT.sub(_blank, text).splitlines()
    sources = []
    for match in COMMENT.finditer(text):
        line = text.count("\n", 0, match.start())
        end = line if lines[line].strip() else line - 1
        while end > 0 and not lines[end].strip():
            end -= 1
        start = end
        while start > 0 and lines[start - 1].strip() and not lines[start].lstrip().startswith("- "):
            start -= 1
        block = {number + 1: lines[number] for number in range(start, end + 1)}
        sources.append(Source(name_page(page), " ".join(match[1].split()), line + 1, block))
    return sources


def name_page(page):
    return page.relative_to(disk.ROOT).as_posix() if page.is_relative_to(disk.ROOT) else page.name


def read_content(file):
    """A JSON file as it is, a CSV as a list of rows."""
    return disk.read_json(file) if file.suffix == ".json" else pd.read_csv(file, keep_default_na=False).to_dict("records")


def follow(content, path):
    """What stands at a path, see the top of this module.

    Raises:
        KeyError, ValueError: there's nothing, or more than one row.
    """
    calculation = re.fullmatch(r"(.*?) ([*/]) ([\d.]+)", path)
    if calculation:
        value, factor = float(follow(content, calculation[1])), float(calculation[3])
        return value * factor if calculation[2] == "*" else value / factor
    for step in re.findall(r"(?:[^.\[]|\[[^\]]*\])+", path):
        name, condition = re.fullmatch(r"([^\[]*)(?:\[(.*)\])?", step).groups()
        summary = re.fullmatch(r"(\w+)\((.*)\)", name)
        if summary:
            content = _summarise(content, *summary.groups())
        elif name:
            content = _only_row(content, path)[name]
        if condition is not None:
            content = [row for row in content if all(_is_met(row, part) for part in condition.split("&"))]
    return content if isinstance(content, (list, dict)) else float(content)


def _only_row(content, path):
    if not isinstance(content, list):
        return content
    if len(content) != 1:
        raise ValueError(f"{len(content)} rows are meant by {path!r}; expected one")
    return content[0]


def _summarise(rows, summary, column):
    return len(rows) if summary == "count" else SUMMARIES[summary](pd.Series([float(row[column]) for row in rows]))


def _is_met(row, condition):
    column, value = condition.split("=", maxsplit=1)
    return normalise_words(row[column.strip()]) == normalise_words(value)


def normalise_words(words):
    """Words as they are compared: "GAN and **classical**" is "gan_and_classical", "errors (of 433)" is "errors"."""
    return " ".join(re.sub(r"\([^)]*\)|[*_-]", " ", str(words)).replace(",", "").lower().split())


def normalise_number(text):
    return text.replace("−", "-").replace(" ", "").replace("\u00a0", "")


def write_like(value, shown):
    """A value as text with the decimals, plus sign, thousands comma and per cent sign that `shown` has."""
    shown = normalise_number(shown)
    decimals = len(shown.rstrip("%").partition(".")[2])
    kind = "%" if shown.endswith("%") else "f"
    value = round(value, decimals + 2 * (kind == "%")) + 0.0  # + 0.0: never -0.0
    return f"{value:{'+' if shown[0] == '+' else ''}{',' if ',' in shown else ''}.{decimals}{kind}}"


def _blank(match):
    return re.sub(r"[^\n]", " ", match[0])


if __name__ == "__main__":
    main()
