"""The front page: what was claimed, what the rows give, and what the live study adds; the README repeats a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from panelbook.errors import BookError
from panelbook.measure.claims import AGGREGATES, CONTRADICTED, HOLDS, NOT_RECOMPUTABLE, VERDICTS
from panelbook.publish.results import format_interval, format_value

Link = Callable[[str, str], str]
"""(run id, text) -> the text as a link to that run's page."""

START, END = "<!-- headline: written by `make readme` -->", "<!-- end of headline -->"


@dataclass(frozen=True)
class Headline:
    """One row of `params/live.yml`.

    Attributes
    ----------
    claim
        What is claimed, in our words.
    run
        Stage and group that recompute it, as `stage.group`.
    result
        Name of the number in that run's `results.json`.
    card
        Whether the answer in one screen quotes it.
    of
        Whose number it is; rows of one name share a table.
    """

    claim: str
    run: str
    result: str
    card: bool = False
    of: str = "the miniature"


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


def headline_table(ledger: Sequence[Mapping[str, Any]], link: Link = lambda run, text: text) -> str:
    """Return the claims of the front page as a markdown table, or a sentence where none was tried.

    Parameters
    ----------
    ledger
        Claims after their trial, as `claims.json` has them.
    link
        (run id, text) -> the text as a link to the run's page.
    """
    shown = [claim for claim in ledger if claim["headline"]]
    if not shown:
        return "*This build did not try the claims; `make book` does where the published files can be had.*\n"
    rows = [
        "| claim | verdict | published | recomputed | 95% interval | problems, draws |",
        "|---|---|---|---|---|---|",
    ]
    for claim in shown:
        record = next(iter(claim["records"].values()))
        text = link(claim["chapter"], claim["claim"])
        value, interval, *counts = _cells(record)
        n = ", ".join(count for count in counts if count)
        rows.append(
            _row(text, f"**{claim['verdict']}**", claim["published"] or "no figure", value, interval, n)
        )
    return "\n".join(rows) + "\n"


def verdict_count(ledger: Sequence[Mapping[str, Any]], link: Link = lambda run, text: text) -> str:
    """Return how the claims fared in one sentence, or that none was tried.

    Parameters
    ----------
    ledger, link
        As in `headline_table`.
    """
    if not ledger:
        return "This build did not try the claims; `make book` does where the published files can be had.\n"
    counts = {verdict: sum(claim["verdict"] == verdict for claim in ledger) for verdict in VERDICTS}
    return (
        f"Of {link('claims.all', f'{len(ledger)} claims')} {counts[HOLDS]} hold, {counts[AGGREGATES]} more hold from "
        f"aggregates only, {counts[CONTRADICTED]} are contradicted by the study's own data, and "
        f"{counts[NOT_RECOMPUTABLE]} cannot be recomputed.\n"
    )


def verdict_cards(
    ledger: Sequence[Mapping[str, Any]],
    live: list[Headline],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    link: Link = lambda run, text: text,
) -> str:
    """Return the answer in one screen: what of the study stands, what does not, what the live study adds.

    Parameters
    ----------
    ledger
        As in `headline_table`.
    live, results, link
        As in `live_table`.
    """
    if not ledger:
        return ""
    counts = {verdict: sum(claim["verdict"] == verdict for claim in ledger) for verdict in VERDICTS}
    shown = [claim for claim in ledger if claim["headline"]]
    stands = [_claim_line(claim, link) for claim in shown if claim["verdict"] in (HOLDS, AGGREGATES)]
    falls = [_claim_line(claim, link) for claim in shown if claim["verdict"] not in (HOLDS, AGGREGATES)]
    adds = [
        f"- {link(row.run, row.claim)}: {format_value(record)} ({format_interval(record)})"
        for row in live
        if row.card and row.result in results.get(row.run, {})
        for record in [dict(results[row.run][row.result])]
    ]
    cards = [
        (
            "What stands",
            f"{counts[HOLDS]} of {len(ledger)} claims hold, {counts[AGGREGATES]} more from aggregates only.",
            stands,
        ),
        (
            "What does not",
            f"{counts[CONTRADICTED]} are contradicted by the tracked data, {counts[NOT_RECOMPUTABLE]} cannot be "
            "recomputed.",
            falls,
        ),
        ("What the live study adds", "Both arms of a miniature, trained alike on one processor.", adds),
    ]
    body = "\n".join(
        f":::{{grid-item-card}} {title}\n{lead}\n\n" + "\n".join(lines) + "\n:::"
        for title, lead, lines in cards
        if lines
    )
    return f"::::{{grid}} 1 1 3 3\n:gutter: 2\n\n{body}\n::::\n"


def live_table(
    headlines: list[Headline],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    link: Link = lambda run, text: text,
) -> str:
    """Return a table for each model of the live study as markdown, or a sentence where none of it was run.

    Parameters
    ----------
    headlines
        Rows of `params/live.yml`.
    results
        Run id -> result name -> record.
    link
        As in `headline_table`.
    """
    shown = [headline for headline in headlines if headline.result in results.get(headline.run, {})]
    if not shown:
        return "*This build did not run the live study; `make book` does.*\n"
    tables = []
    for of in dict.fromkeys(headline.of for headline in shown):
        rows = [f"| {of} | estimate | 95% interval | problems | draws |", "|---|---|---|---|---|"]
        for headline in shown:
            if headline.of == of:
                claim = link(headline.run, headline.claim)
                rows.append(_row(claim, *_cells(results[headline.run][headline.result])))
        tables.append("\n".join(rows) + "\n")
    return "\n".join(tables)


def write_between_marks(text: str, table: str, name: str, marks: tuple[str, str] = (START, END)) -> str:
    """Return `text` with what stands between two marks, by default those of the headline, replaced by `table`.

    Raises
    ------
    BookError
        If the marks are not there, once each and in order.
    """
    start, end = marks
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise BookError(f"{name} must hold the line {start!r} and, after it, {end!r}, once each.")
    before, rest = text.split(start)
    return f"{before}{start}\n{table}{end}{rest.split(end)[1]}"


def _claim_line(claim: Mapping[str, Any], link: Link) -> str:
    """Write a claim as one item of a card: its short form and its first number."""
    record = dict(next(iter(claim["records"].values())))
    interval = format_interval(record) + (
        "" if claim["beyond"] is not False else ", which includes no effect"
    )
    return f"- {link(claim['chapter'], claim['headline'])}: {format_value(record)} ({interval})"


def _cells(record: Mapping[str, Any]) -> list[str]:
    """Write a result as estimate, interval, problems and draws."""
    counts = ["" if record[key] is None else f"{record[key]:,}" for key in ("n_problems", "n_draws")]
    return [format_value(dict(record)), format_interval(dict(record)), *counts]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
