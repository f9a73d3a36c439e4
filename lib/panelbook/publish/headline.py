"""The headline table: what the study printed beside what its rows give, for the front page and the README."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from panelbook.errors import BookError
from panelbook.publish.results import format_interval, format_value

START, END = "<!-- headline: written by `make readme` -->", "<!-- end of headline -->"


@dataclass(frozen=True)
class Headline:
    """One row of `params/headline.yml`.

    Attributes
    ----------
    claim
        What is claimed, in our words.
    published
        The figure as the study prints it, with its own rounding.
    run
        Stage and group that recompute it, as `stage.group`.
    result
        Name of the number in that run's `results.json`.
    """

    claim: str
    published: str
    run: str
    result: str


def read_headlines(path: Path) -> list[Headline]:
    """Read the rows, checked.

    Raises
    ------
    BookError
        If the file is not a list of complete rows.
    """
    try:
        return TypeAdapter(list[Headline]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BookError(f"{path}: {error}") from None


def headline_table(
    headlines: list[Headline],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    link: Callable[[str, str], str] = lambda run, text: text,
) -> str:
    """Return the table as markdown.

    Parameters
    ----------
    results
        Run id -> result name -> record; a run that is absent is said to be not recomputed.
    link
        (run id, text) -> the text as a link to the run's page.

    Raises
    ------
    BookError
        If a run's results lack a number that a row names.
    """
    rows = [
        "| claim | published | recomputed | 95% interval | problems | draws |",
        "|---|---|---|---|---|---|",
    ]
    for headline in headlines:
        claim = link(headline.run, headline.claim)
        if headline.run not in results:
            rows.append(_row(claim, headline.published, "not recomputed here", "", "", ""))
            continue
        if headline.result not in results[headline.run]:
            known = ", ".join(results[headline.run])
            raise BookError(
                f"params/headline.yml: {headline.run} has no result {headline.result!r}; it has {known}."
            )
        rows.append(_row(claim, headline.published, *_cells(results[headline.run][headline.result])))
    return "\n".join(rows) + "\n"


def live_table(
    headlines: list[Headline],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    link: Callable[[str, str], str] = lambda run, text: text,
) -> str:
    """Return the table of the live study as markdown, or a sentence where none of it was run.

    Parameters
    ----------
    headlines
        Rows of `params/live.yml`; their `published` is empty, for nothing of this was published.
    results, link
        As in `headline_table`.
    """
    shown = [headline for headline in headlines if headline.result in results.get(headline.run, {})]
    if not shown:
        return "*This build did not run the live study; `make book` does.*\n"
    rows = ["| the miniature | estimate | 95% interval | problems | draws |", "|---|---|---|---|---|"]
    for headline in shown:
        claim = link(headline.run, headline.claim)
        rows.append(_row(claim, *_cells(results[headline.run][headline.result])))
    return "\n".join(rows) + "\n"


def write_between_marks(text: str, table: str, name: str) -> str:
    """Return `text` with what stands between the two headline marks replaced by `table`.

    Raises
    ------
    BookError
        If the marks are not there, once each and in order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise BookError(f"{name} must hold the line {START!r} and, after it, {END!r}, once each.")
    before, rest = text.split(START)
    return f"{before}{START}\n{table}{END}{rest.split(END)[1]}"


def _cells(record: Mapping[str, Any]) -> list[str]:
    """Write a result as estimate, interval, problems and draws."""
    counts = ["" if record[key] is None else f"{record[key]:,}" for key in ("n_problems", "n_draws")]
    return [format_value(dict(record)), format_interval(dict(record)), *counts]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
