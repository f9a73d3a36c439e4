"""No number without its uncertainty: what an executed page must pass before it becomes one of the book.

A number on a page has an interval and says what it counts, or it gives the reason why it has none. Four rules see to
it. Tables of fractions have the ends of an interval beside them or a caption that says why not. What is glued into
the prose is a result of `results.json`. Every result has an interval or a reason, and counts. And no figure is typed
into the prose, where nothing would notice if it were wrong.

Exempt, since they estimate nothing: whole numbers in tables (counts), code and quoted text, mathematics, citations, the
paragraphs and cells of the cases worked by hand ("By hand …", cells called `toy…`), and the cells that print texts of
problems and models (`example…`).

Not handled: whether a column of a table is the one that its interval belongs to, and numbers within figures.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from nbformat import NotebookNode

from panelbook.errors import BookError
from panelbook.publish.dials import check_dials
from panelbook.publish.results import (
    FRACTION,
    GAPS,
    INTERVAL,
    NO_INTERVALS,
    NUMBER,
    Name,
    format_full,
    format_interval,
    format_value,
)

FREE_CELLS = ("toy", "example")
"""How the id of a cell begins whose printed numbers are worked by hand, or are the texts of problems and models."""

QUANTITY = r"[-+\u2212±<>≤≥~≈]?\s?\d[\d,]*(?:\.\d+)?(?:e[-+\u2212]?\d+)?\s?(?:%|pp\b|×)?"
CELL = re.compile(rf"{QUANTITY}(?:\s*(?:to|±|/|;|,|–)\s*{QUANTITY})*")
GLUED = re.compile(r"\{glue:text\}`([^`:]+)(?::[^`]*)?`")
TYPED = 10
"""Whole numbers from here on are not typed into the prose; smaller ones may be words of a sentence."""


class BareNumber(BookError, ValueError):
    """A page shows a number with neither interval nor reason."""


@dataclass
class _Table:
    """Heading and body by row; the index is left out of the body."""

    caption: str = ""
    heads: list[list[str]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def headings(self, width: int) -> list[str]:
        """Return the heading of each of the last `width` columns, levels joined."""
        levels = [[""] * width + head for head in self.heads]
        return [" ".join(head[i - width] for head in levels if head[i - width]) for i in range(width)]


def check_page(page: NotebookNode, records: Mapping[str, Mapping[str, Any]], name: str) -> None:
    """Check everything a page shows.

    Parameters
    ----------
    page
        Prose joined to the outputs of its run.
    records
        The run's `results.json`.
    name
        How an error names the page.

    Raises
    ------
    BareNumber
        Naming the page, the cell, the number, the rule and the remedy.
    """
    check_records(records, name)
    check_outputs(page, records, name)
    check_prose(page, name)


def check_records(records: Mapping[str, Mapping[str, Any]], name: str) -> None:
    """Check that every result has an interval or a reason, and says what it counts.

    Raises
    ------
    BareNumber
        Naming the result.
    """
    for key, record in records.items():
        if (record["low"] is None or record["high"] is None) and not record["reason"]:
            raise BareNumber(
                f"{name}: result {key!r} has neither an interval nor a reason. Give one to its Estimate, or keep "
                "the number with Results.exact."
            )
        counted = record["n_problems"] is not None or record["n_draws"] is not None
        if not (counted or record["reason"] or re.search(r"\d [a-z]", record["method"])):
            raise BareNumber(
                f"{name}: result {key!r} has an interval, but does not say over how many problems or draws. "
                "Give n_problems or n_draws to its Estimate, or a method that names what was resampled."
            )


def check_outputs(notebook: NotebookNode, records: Mapping[str, Mapping[str, Any]], name: str) -> None:
    """Check the tables and the printed numbers of an executed notebook, and what it glued.

    Raises
    ------
    BareNumber
        Naming the cell, and the table or the number.
    """
    glued = dict(read_glued(notebook))
    known = {
        number
        for record in records.values()
        for text in (format_value(dict(record)), format_interval(dict(record)), format_full(dict(record)))
        for number in NUMBER.findall(text)
    }
    known |= {number for text, is_name in glued.values() if is_name for number in NUMBER.findall(text)}
    for key, (text, _) in glued.items():
        unknown = [number for number in NUMBER.findall(text) if number not in known]
        if unknown:
            raise BareNumber(
                f"{name}: {key!r} is glued as {_short(text)}, but no result holds {unknown[0]}. Keep the number with "
                "Results.add or Results.exact; a name with digits belongs in Results.name."
            )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                _check_output(output, cell.id, name)
        for key in GLUED.findall(_text(cell)):
            if key not in glued:
                raise BareNumber(
                    f"{name}, cell {cell.id!r}: the prose quotes {key!r}, which no cell glues. Correct the name, or "
                    "add the result and run the notebook again."
                )


def check_prose(notebook: NotebookNode, name: str) -> None:
    """Check that no figure is typed into prose and captions: no decimal, no share, no whole number from ten on.

    Raises
    ------
    BareNumber
        Naming the cell and the number.
    """
    for cell in notebook.cells:
        if typed := find_typed(_text(cell)):
            raise BareNumber(
                f"{name}, cell {cell.id!r}: {typed[0]} is typed into the prose, where nothing would notice if it were "
                "wrong. Keep it with Results.add or Results.exact and quote it with {glue:text}; an example worked by "
                'hand starts with "By hand".'
            )


def find_typed(markdown: str) -> list[str]:
    """Return the figures that a text states in so many digits, in order.

    Years are no figures, nor are the numbers of a list or of a section.

    Examples
    --------
    >>> find_typed("From $k$ = 2 on, 45% of the 134 problems of MATH-500 since 2024. By hand: 0.5 of 2.")
    ['45%', '134']
    """
    text = re.sub(r"^( *)```(?!\{).*?^\1```", " ", markdown, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"(?:\{[\w:]+\})?(`+).+?\1", " ", text, flags=re.S)
    text = re.sub(r"\$[^$\n]+\$", " ", text)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)
    text = re.sub(r"^ *\d+\. ", "", text, flags=re.M)
    text = re.sub(r"\b(?:[Ss]ections?|[Cc]hapters?|[Ee]quations?|[Pp]ages?|version) \d[\d.]*", " ", text)
    text = re.sub(r"By hand\b.*?(?=\n\s*\n|\Z)", " ", text, flags=re.S)
    found = []
    for match in NUMBER.finditer(text):
        unit = re.match(r"\s?(?:%|pp\b|×)", text[match.end() :])
        number = match[0] + (unit[0] if unit else "")
        whole = re.fullmatch(r"[\d,]+", number)
        if not whole or (
            int(number.replace(",", "")) >= TYPED and not re.fullmatch(r"(?:19|20)\d\d", number)
        ):
            found.append(number)
    return found


def _check_output(output: NotebookNode, cell_id: str, name: str) -> None:
    """Check one output; figures are not read, nor is what is printed in a cell worked by hand."""
    if output.output_type == "stream":
        printed = output.text
    elif output.output_type in ("execute_result", "display_data"):
        data = output.data
        if "text/html" in data:
            check_dials(data["text/html"], f"{name}, cell {cell_id!r}")
            reader = _Reader()
            reader.feed(data["text/html"])
            for table in reader.tables:
                _check_table(table, f"{name}, cell {cell_id!r}")
            printed = " ".join(reader.rest)
        elif set(data) == {"text/plain"}:
            printed = data["text/plain"]
        else:
            return
    else:
        return
    if not cell_id.startswith(FREE_CELLS) and (found := FRACTION.search(printed)):
        line = next(line for line in printed.splitlines() if FRACTION.search(line))
        raise BareNumber(
            f"{name}, cell {cell_id!r}: {found[0]!r} of {_short(line.strip())} is printed with neither interval nor "
            "reason. Keep the number with Results.add or Results.exact and quote it in the prose, or show a table."
        )


def _check_table(table: _Table, where: str) -> None:
    """Check that every row with a fraction has an interval, or the caption says why it has none."""
    if re.match(rf"{NO_INTERVALS} \S", table.caption):
        return
    for row in table.rows:
        fraction = next((cell for cell in row if CELL.fullmatch(cell) and FRACTION.search(cell)), None)
        if fraction is None:
            continue
        headings = table.headings(len(row))
        found = {
            heading.lower(): cell
            for heading, cell in zip(headings, row, strict=True)
            if INTERVAL.search(heading.lower())
        }
        both = [any(re.search(rf"{end}|interval", heading) for heading in found) for end in ("low", "high")]
        missing = any(cell.lower() in ("", "nan", "none") for cell in found.values())
        if all(both) and (not missing or GAPS in table.caption):
            continue
        raise BareNumber(
            f"{where}: the table of {', '.join(filter(None, headings))[:80]} shows {fraction} without an interval. "
            "Give it the columns low and high, or the reason: show(table, why=…)."
        )


class _Reader(HTMLParser):
    """Take tables out of a page's HTML; text that is quoted as code is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[_Table] = []
        self.rest: list[str] = []
        self._open: list[str] = []
        self._span = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("table", "thead", "th", "td", "caption", "code", "pre", "style", "script"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append(_Table())
        elif not self.tables:
            return
        elif tag == "tr":
            (self.tables[-1].heads if "thead" in self._open else self.tables[-1].rows).append([])
        elif tag == "td" and self.tables[-1].rows:
            self.tables[-1].rows[-1].append("")
        elif tag == "th" and "thead" in self._open and self.tables[-1].heads:
            self._span = int(dict(attrs).get("colspan") or 1)
            self.tables[-1].heads[-1] += [""] * self._span

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag == "td" and self.tables and self.tables[-1].rows and self.tables[-1].rows[-1]:
            self.tables[-1].rows[-1][-1] = self.tables[-1].rows[-1][-1].strip()

    def handle_data(self, data: str) -> None:
        if {"code", "pre", "style", "script"} & set(self._open):
            return
        if "table" not in self._open:
            self.rest.append(data)
        elif "caption" in self._open:
            self.tables[-1].caption += data.strip()
        elif "td" in self._open and self.tables[-1].rows:
            self.tables[-1].rows[-1][-1] += data
        elif "thead" in self._open and "th" in self._open and self.tables[-1].heads:
            head = self.tables[-1].heads[-1]
            head[-self._span :] = [head[-1] + data.strip()] * self._span


def read_glued(notebook: NotebookNode) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yield what was glued: name, text, and whether it is a name."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {})
            if "scrapbook" not in metadata:
                continue
            prefix = metadata["scrapbook"]["mime_prefix"]
            text = output.data.get(f"{prefix}text/plain", "")
            with_quotes = text[:1] in ("'", '"')
            yield (
                metadata["scrapbook"]["name"],
                (ast.literal_eval(text) if with_quotes else "", Name.MARK.items() <= metadata.items()),
            )


def _text(cell: NotebookNode) -> str:
    """Return the prose of a cell: its text, or the caption and description of its figure."""
    if cell.cell_type == "markdown":
        return str(cell.source)
    shown = cell.metadata.get("mystnb", {})
    return "\n\n".join(
        str(shown.get(part, {}).get(key, "")) for part, key in (("figure", "caption"), ("image", "alt"))
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
