"""The numbers a chapter states: written once, quoted by the prose, compared between runs.

A chapter collects its findings in a `Results`, which does two things with each: it keeps the number
with its interval and counts for `results.json`, and it glues a formatted text, so that the sentence on
the page and the stored number can never differ.
"""

import dataclasses
import html
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from IPython.display import HTML
from myst_nb import glue

from panelbook.errors import BookError
from panelbook.measure.uncertainty import EXACT, Estimate, exact
from panelbook.measure.uncertainty import row_estimate as row_estimate
from panelbook.publish.downloads import carry_data, keep, list_records

Style = Callable[[float], str]

STYLES: dict[str, Style] = {
    "fraction": lambda x: f"{x:.3f}",
    "percent": lambda x: f"{100 * x:.1f}%",
    "change": lambda x: f"{100 * x:+.1f}%",
    "points": lambda x: f"{100 * x:+.1f} pp",
    "ratio": lambda x: f"{x:.2f}×",
    "tokens": lambda x: f"{x:,.0f}",
    "number": lambda x: f"{x:.2f}",
    "decimal": lambda x: f"{x:.1f}",
    "count": lambda x: f"{x:,.0f}",
    "millions": lambda x: f"{x / 1e6:.1f} million",
    "level": lambda x: f"{100 * x:g}%",
    "p": lambda x: f"{x:.2g}" if x < 0.001 else f"{x:.3f}",
    "exponent": lambda x: f"{x:.1e}",
}
"""How a number is written in prose and tables. Percent, points and level multiply by 100; stored numbers never are.

A level is a share that was set, such as a confidence level: it is written without decimals that say nothing.
"""

NO_INTERVALS = "No intervals:"
GAPS = "Where no interval is given, the problems are too few, or too much alike, to resample."
"""Captions of tables of numbers that have no interval, and of those where some have none."""

INTERVAL = re.compile(r"(?:^|[ _])(?:low|high)(?:$|[ _])|interval")
"""Heading of a column that holds an interval or an end of one."""

NUMBER = re.compile(
    r"(?<![\w@.])(?<![A-Za-z_]-)(?<!\d[-/])\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+\u2212]?\d+)?(?![\w@])"
)
"""A number in a sentence, without sign and unit; not the digits of a name, such as pass@8, MATH-500 or L5."""

FRACTION = re.compile(r"\d\.\d|\d(?:e[-+\u2212]?\d+)|\d\s?(?:%|pp\b|×)")
"""What makes a number more than a count: decimals, an exponent or a unit of shares and ratios."""


class Name(str):
    """A text whose digits are no figures; the glued output carries the mark, so that a page can be checked."""

    MARK: ClassVar[dict[str, str]] = {"panelbook": "name"}

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, str]]:
        return {"text/plain": repr(str(self))}, self.MARK


class ResultsError(BookError, ValueError):
    """A results file is missing, broken or incomplete, or a result has no interval and no reason."""


class Results:
    """The findings of one chapter.

    Parameters
    ----------
    output_dir
        Folder that `save` writes `results.json` to; made if need be.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {}
        self._glued: dict[str, str] = {}
        carry_data()

    def add(self, name: str, estimate: Estimate, style: str, title: str) -> None:
        """Keep one estimate and glue it as `name` (value), `name_ci` (interval) and `name_full` (all of it).

        Raises
        ------
        ResultsError
            If the name is taken or the style unknown.
        """
        if name in self.records:
            raise ResultsError(f"result {name!r} is there already. Give each finding a name of its own.")
        if style not in STYLES:
            raise ResultsError(f"result {name!r}: no style {style!r}; known: {', '.join(STYLES)}.")
        value = estimate.value if math.isfinite(estimate.value) else None  # JSON has no infinity
        record = dataclasses.asdict(estimate) | {"value": value, "style": style, "title": title}
        self.records[name] = record
        for suffix, text in (
            ("", format_value(record)),
            ("_ci", format_interval(record)),
            ("_full", format_full(record)),
        ):
            self._glue(name + suffix, text)

    def exact(self, name: str, value: float, style: str, title: str, why: str) -> None:
        """Keep and glue a number that has no interval because nothing was sampled, or none can be given.

        Parameters
        ----------
        why
            Why it has none, in words fit for a table: "a count of the rows", "a parameter", "only sums are tracked".
        """
        self.add(name, exact(value, why), style, title)

    def text(self, name: str) -> str:
        """Return what was glued under `name`, to build a sentence of it."""
        return self._glued[name]

    def say(self, name: str, text: str) -> None:
        """Glue a word or a sentence for the prose; it is no result and is not stored.

        Raises
        ------
        ResultsError
            If the sentence holds a number that no result has, and so neither interval nor reason.
        """
        known = {number for glued in self._glued.values() for number in NUMBER.findall(glued)}
        unknown = [number for number in NUMBER.findall(text) if number not in known]
        if unknown:
            raise ResultsError(
                f"the sentence {name!r} says {unknown[0]!r}, which is no result of this chapter: {text[:80]!r}. "
                "Keep the number with Results.add or Results.exact first, and quote it with Results.text."
            )
        self._glue(name, text)

    def name(self, name: str, text: str) -> None:
        """Glue a name or a quotation, such as a label, a model's or an answer's, whose digits are no figures."""
        self._glue(name, Name(text))

    def _glue(self, name: str, text: str) -> None:
        self._glued[name] = text
        glue(name, text, display=False)

    def say_direction(
        self, name: str, estimate: Estimate, *, up: str, down: str, unclear: str, reference: float = 0.0
    ) -> None:
        """Glue the sentence that an interval supports: `up` if it lies above `reference`, `down` if below.

        `unclear` is said when the interval holds the reference or there is none: the rule is the same on every page.
        """
        if estimate.low is None or estimate.high is None or estimate.low <= reference <= estimate.high:
            self.say(name, unclear)
        else:
            self.say(name, up if estimate.low > reference else down)

    def table(self, *names: str) -> Any:
        """Return results as a table with their intervals and counts; by default all but the exact ones.

        None where there are none.
        """
        shown = names or [name for name, record in self.records.items() if record["method"] != EXACT]
        records = {name: self.records[name] for name in shown}
        rows = [
            {
                "quantity": record["title"],
                "estimate": format_value(record),
                "interval": format_interval(record),
                "problems": _count(record["n_problems"]),
                "draws": _count(record["n_draws"]),
            }
            for record in records.values()
        ]
        if not rows:
            return None
        table = pd.DataFrame(rows).style.hide(axis="index").format(escape="html")
        return keep(table, {"": list_records(records)})

    def save(self) -> None:
        """Write `results.json`."""
        text = json.dumps(self.records, indent=1, sort_keys=True, allow_nan=False)
        (self.output_dir / "results.json").write_text(text + "\n", encoding="utf-8")


def show(
    table: pd.DataFrame, why: str = "", precision: int = 3, formats: Mapping[str, str] | None = None
) -> Any:
    """Return a table for the page, or a line that says that it has no rows; a named index is shown as a column.

    Parameters
    ----------
    table
        With the ends of an interval (`low` and `high`, or `interval`) beside what it estimates. Where some are
        missing, a caption says what that means.
    why
        Where it has none: why not, as "counts of a fixed pool". Printed above the table. The build refuses a page
        with a table of fractions that has neither.
    precision
        Decimals.
    formats
        Column -> format of its own, as "{:.1%}".
    """
    if table.empty:
        return HTML("<p>No rows.</p>")  # type: ignore[no-untyped-call]
    named = any(name is not None for name in table.index.names)
    plain = table.rename_axis(columns=None).reset_index(drop=not named)
    shown = plain.style.hide(axis="index").format(
        dict(formats or {}), precision=precision, thousands=",", na_rep="", escape="html"
    )
    shown = shown.format_index(str, axis="columns", escape="html")  # names of arms may head columns
    ends = [column for column in plain.columns if INTERVAL.search(str(column).lower())]
    gaps = GAPS if plain[ends].isna().any(axis=None) else ""
    caption = html.escape(f"{NO_INTERVALS} {why}.", quote=False) if why else gaps
    return shown.set_caption(caption) if caption else shown


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read a `results.json`, checked.

    Raises
    ------
    ResultsError
        If the file is missing or broken, or a record has neither an interval nor a reason for having none.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing. Run `panelbook build`.") from None
    except ValueError as error:
        raise ResultsError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ResultsError(
            f"{path} must map names to records; it begins {str(records)[:60]!r}. Use Results.save."
        )
    for name, record in records.items():
        absent = {
            "value",
            "low",
            "high",
            "n_problems",
            "n_draws",
            "method",
            "reason",
            "style",
            "title",
        } - record.keys()
        if absent:
            raise ResultsError(f"{path}: result {name!r} lacks {', '.join(sorted(absent))}.")
        if record["low"] is None and not record["reason"]:
            raise ResultsError(
                f"{path}: result {name!r} has neither an interval nor a reason for having none."
            )
    return dict(records)


def list_moves(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of the results that two runs of a chapter do not share to the last digit, in order."""
    keys = ("value", "low", "high", "n_problems", "n_draws")

    def numbers(records: dict[str, dict[str, Any]], name: str) -> Any:
        return [records[name][key] for key in keys] if name in records else None

    return [name for name in {**after, **before} if numbers(before, name) != numbers(after, name)]


def format_value(record: dict[str, Any]) -> str:
    """Write the value of a record in its style."""
    return _format(record["value"], record)


def format_interval(record: dict[str, Any]) -> str:
    """Write the interval of a record in its style, or why there is none."""
    if record["low"] is None:
        return f"none: {record['reason']}"
    return f"{_format(record['low'], record)} to {_format(record['high'], record)}"


def format_full(record: dict[str, Any]) -> str:
    """Write value, interval and counts: what a sentence quotes at first mention."""
    words = (("n_problems", "problems"), ("n_draws", "draws"))
    counts = ", ".join(f"{_count(record[key])} {word}" for key, word in words if record[key])
    return f"{format_value(record)} ({'; '.join(part for part in (format_interval(record), counts) if part)})"


def _format(value: float | None, record: dict[str, Any]) -> str:
    if value is None or math.isnan(value):
        return "undefined"
    text = STYLES[record["style"]](value)
    return text.replace("-", "\N{MINUS SIGN}") if record["style"] not in ("p", "exponent") else text


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
