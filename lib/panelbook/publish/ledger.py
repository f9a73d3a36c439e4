"""The ledger of claims: read from `params/claims.yml`, tried on the published tables, shown, and held to a record.

`params/claims.lock.json` keeps what the last accepted trial gave. A value or a verdict that is no longer the same is a
*drift*: something in the code or in the data has changed what the book says.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from IPython.display import HTML
from pydantic import TypeAdapter, ValidationError

from panelbook.errors import BookError
from panelbook.measure.claims import VERDICTS, Claim, judge, reaches_beyond
from panelbook.measure.evidence import GATHER, Published, gather
from panelbook.measure.uncertainty import Estimate, Resampling
from panelbook.publish.downloads import keep, list_claims
from panelbook.publish.headline import Link
from panelbook.publish.results import STYLES, format_full, format_interval, format_value

DRIFT = 1e-6
"""Relative change of a value from which it has drifted: sums are rounded differently on another processor."""

GROUPS = {
    "D": "Diversity",
    "K": "Pass@k",
    "T": "Tokens",
    "V": "Variance band",
    "H": "Hill climb",
    "P": "Provenance",
}
BENCHMARKS = {
    "math500_s50": "MATH-500 (50)",
    "math500_l5": "MATH-500 level 5",
    "aime": "AIME",
    "olympiad": "olympiad pool",
}


class LedgerError(BookError, ValueError):
    """The ledger is broken, asks for what no function returns, or has drifted from its record."""


@dataclass(frozen=True)
class Tried:
    """A claim after its trial.

    Attributes
    ----------
    claim
        The claim and its rule.
    evidence
        Recomputed estimates by name, those that the claim shows.
    verdict
        One of `measure.claims.VERDICTS`.
    beyond
        Whether the first number is told apart from no effect; None where it has no interval.
    """

    claim: Claim
    evidence: dict[str, Estimate]
    verdict: str
    beyond: bool | None

    @property
    def why(self) -> str:
        """The reason, with the recomputed numbers filled in."""
        texts: dict[str, str] = {}
        for name, record in self.records.items():
            texts |= {name: format_value(record), f"{name}_full": format_full(record)}
        return self.claim.why.format(**texts)

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The shown estimates as records of `results.json`, in the order of the claim."""
        return {
            name: asdict(self.evidence[name]) | {"style": style, "title": _spell(name)}
            for name, style in self.claim.styles.items()
            if name in self.evidence
        }


def read_claims(path: Path) -> list[Claim]:
    """Read the ledger, checked.

    Raises
    ------
    LedgerError
        If the file is not a list of complete claims, two have one id, or a style or a number in a sentence is unknown.
    """
    try:
        claims = TypeAdapter(list[Claim]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise LedgerError(f"{path}: {error}") from None
    seen: set[str] = set()
    for claim in claims:
        where = f"{path}, claim {claim.id}"
        if claim.id in seen:
            raise LedgerError(f"{where}: the id is there twice. Give each claim one of its own.")
        seen.add(claim.id)
        if claim.id[0] not in GROUPS:
            raise LedgerError(f"{where}: the id must begin with one of {', '.join(GROUPS)}.")
        if claim.function and claim.function not in GATHER:
            raise LedgerError(
                f"{where}: there is no function {claim.function!r}; there are {', '.join(GATHER)}."
            )
        for name, style in claim.styles.items():
            if style not in STYLES:
                raise LedgerError(f"{where}: {name} has no style {style!r}; known: {', '.join(STYLES)}.")
        quoted = {name.removesuffix("_full") for name in re.findall(r"\{(\w+)\}", claim.why)}
        if unknown := sorted(quoted - claim.styles.keys()):
            raise LedgerError(f"{where}: the reason quotes {unknown[0]!r}, which the claim does not show.")
    return claims


def try_claims(claims: Iterable[Claim], tables: Published, resampling: Resampling) -> list[Tried]:
    """Recompute and judge every claim, in order.

    Raises
    ------
    LedgerError
        If a claim asks for a function, an argument or an estimate that there is not.
    """
    known: dict[str, dict[str, Estimate]] = {}
    tried = []
    for claim in claims:
        key = json.dumps([claim.function, claim.arguments], sort_keys=True)
        try:
            if claim.function and key not in known:
                known[key] = gather(tables, resampling, claim.function, claim.arguments)
            evidence = known.get(key, {})
            verdict = judge(claim, evidence)
        except (TypeError, ValueError) as error:
            raise LedgerError(f"claim {claim.id}: {error}") from None
        shown = {name: evidence[name] for name in claim.styles if name in evidence}
        tried.append(Tried(claim, shown, verdict, reaches_beyond(claim, evidence)))
    return tried


def compare_with_chapters(
    tried: Iterable[Tried], results: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> int:
    """Check that the ledger and the chapters state the same numbers, and return how many were compared.

    Parameters
    ----------
    tried
        The claims.
    results
        Run id -> result name -> record; claims about a chapter that is absent are not compared.

    Raises
    ------
    LedgerError
        If a chapter lacks a number, or states another value or interval than the ledger.
    """
    n_compared = 0
    for trial in tried:
        chapter = results.get(trial.claim.chapter, {})
        for mine, theirs in trial.claim.agrees.items() if chapter else ():
            where = f"claim {trial.claim.id}: {mine}"
            if theirs not in chapter:
                raise LedgerError(f"{where}: chapter {trial.claim.chapter} has no result {theirs!r}.")
            for end in ("value", "low", "high"):
                here, there = getattr(trial.evidence[mine], end), chapter[theirs][end]
                if not _same(here, there):
                    raise LedgerError(
                        f"{where} is {end} {here} in the ledger and {there} in {trial.claim.chapter} ({theirs})."
                    )
            n_compared += 1
    return n_compared


def count_verdicts(tried: Iterable[Tried]) -> dict[str, int]:
    """Return how many claims got each verdict."""
    found = [trial.verdict for trial in tried]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def find_drift(tried: Iterable[Tried], lock: Path) -> list[str]:
    """Return a line for every verdict or value that is not the recorded one; empty where all agree.

    Raises
    ------
    LedgerError
        If the record is missing or broken.
    """
    try:
        recorded = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{lock} cannot be read: {error}. `panelbook claims --accept` writes it.") from None
    now = _as_lock(tried)
    lines = [f"{name}: in the ledger but not in the record" for name in now.keys() - recorded.keys()]
    lines += [f"{name}: in the record but not in the ledger" for name in recorded.keys() - now.keys()]
    for name in sorted(now.keys() & recorded.keys()):
        before, after = recorded[name], now[name]
        if before["verdict"] != after["verdict"]:
            lines.append(f"{name}: the verdict was {before['verdict']!r} and is {after['verdict']!r}")
        for value in sorted(before["values"].keys() | after["values"].keys()):
            old, new = (side["values"].get(value) for side in (before, after))
            if not _same(old, new):
                lines.append(f"{name}: {value} was {old} and is {new}")
    return lines


def write_lock(tried: Iterable[Tried], lock: Path) -> None:
    """Record verdicts and values."""
    lock.write_text(json.dumps(_as_lock(tried), indent=1) + "\n", encoding="utf-8")


def to_json(tried: Iterable[Tried]) -> str:
    """Return what the front page reads: id, claim, verdict, reason and records of every claim."""
    rows = [
        {
            "id": trial.claim.id,
            "claim": trial.claim.claim,
            "published": trial.claim.published,
            "verdict": trial.verdict,
            "beyond": trial.beyond,
            "why": trial.why,
            "concedes": trial.claim.concedes,
            "chapter": trial.claim.chapter,
            "headline": trial.claim.headline,
            "records": trial.records,
        }
        for trial in tried
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def list_numbers(trial: Tried) -> list[str]:
    """Return a line for every recomputed number of a claim: what it is, value, interval and counts."""
    return [f"{record['title']}: {format_full(record)}" for record in trial.records.values()] or [
        "nothing is tracked"
    ]


def show_ledger(tried: Iterable[Tried], link: Link) -> HTML:
    """Return claims as a table for the page, with their numbers to take away."""
    tried = list(tried)
    page = HTML(ledger_html(tried, link))  # type: ignore[no-untyped-call]
    return keep(page, {"": list_claims(json.loads(to_json(tried)))})


def ledger_html(tried: Iterable[Tried], link: Link) -> str:
    """Return claims as an HTML table: what was claimed, what the rows give, the verdict and why."""
    rows = []
    for trial in tried:
        claim = trial.claim
        why = html.escape(trial.why)
        if claim.concedes:
            why += f' <em class="concedes">{html.escape(claim.concedes)}</em>'
        if claim.chapter:
            why += f" {link(claim.chapter, 'The chapter')}"
        cells = [
            ("claim", f"<strong>{claim.id}</strong> {html.escape(claim.claim)}"),
            ("published", html.escape(claim.published) or "no figure"),
            ("recomputed", _numbers_html(trial.records)),
            ("verdict", f'<span class="verdict {_slug(trial.verdict)}">{html.escape(trial.verdict)}</span>'),
            ("why", why),
        ]
        tds = "".join(f'<td data-label="{label}">{text}</td>' for label, text in cells)
        rows.append(f'<tr id="claim-{claim.id}">{tds}</tr>')
    head = "".join(
        f"<th>{label}</th>" for label in ("claim", "published", "recomputed, interval, n", "verdict", "why")
    )
    return f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _numbers_html(records: Mapping[str, Mapping[str, Any]]) -> str:
    if not records:
        return "nothing is tracked"
    parts = []
    for record in records.values():
        counts = ", ".join(
            f"{record[key]:,} {word}"
            for key, word in (("n_problems", "problems"), ("n_draws", "draws"))
            if record[key]
        )
        detail = "; ".join(part for part in (format_interval(dict(record)), counts) if part)
        value = format_value(dict(record))
        parts.append(
            f"<li><b>{value}</b> {html.escape(record['title'])} <small>({html.escape(detail)})</small></li>"
        )
    return f"<ul>{''.join(parts)}</ul>"


def _spell(name: str) -> str:
    """Write the name of an estimate in words."""
    for code, words in BENCHMARKS.items():
        name = re.sub(rf"^{code}(_|$)", f"{words}, ", name)
    return name.strip(", ").replace("__", " / ").replace("_", " ")


def _slug(verdict: str) -> str:
    return verdict.split()[0] if " " not in verdict else verdict.replace(" ", "-")


def _as_lock(tried: Iterable[Tried]) -> dict[str, dict[str, Any]]:
    return {
        trial.claim.id: {
            "verdict": trial.verdict,
            "values": {name: record["value"] for name, record in trial.records.items()},
        }
        for trial in tried
    }


def _same(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return abs(old - new) <= DRIFT * max(abs(old), abs(new))
