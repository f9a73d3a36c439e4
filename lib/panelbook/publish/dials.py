"""A dial: one setting of a chapter that the reader turns on the page, without a kernel.

Python computes what is shown at every position, with its intervals, and the page carries it as JSON; a script of the
book (`web/src/dials`) draws the frame that the reader asks for. Nothing is computed in the browser, so a dial cannot
show a number that the book has not checked: `check_dials` holds every number to its interval or its reason.

Without the script, as in JupyterLab or on paper, a dial is one line that says how to get the same from the command
line; the static figure of the chapter stays.

Not handled: settings that cannot be computed for every position beforehand, as a seed or a model.
"""

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import product
from string import Formatter
from typing import Any, Literal

import numpy as np
import pandas as pd

from panelbook.errors import BookError
from panelbook.measure.uncertainty import Estimate
from panelbook.publish.results import FRACTION, STYLES, format_interval, format_value

FORMAT = 1
MAX_BYTES = 150_000
"""A dial that weighs more slows the page on a phone; fewer positions say the same."""

DIGITS = 6
"""Significant digits of what is drawn; what is read was formatted from the full number."""


class DialError(BookError, ValueError):
    """A dial lacks a position, or shows a number with neither interval nor reason."""


@dataclass(frozen=True)
class Knob:
    """What the reader turns.

    Parameters
    ----------
    key
        Column of the tables that holds its value.
    label
        As the reader sees it.
    positions
        Its values, in order.
    texts
        How each position is written.
    initial
        The position at first, a value.
    choice
        Whether it is a choice among names instead of a slider. A dial has one choice at most, and a chart for each.
    """

    key: str
    label: str
    positions: Sequence[Any]
    texts: Sequence[str]
    initial: Any
    choice: bool = False

    def __post_init__(self) -> None:
        if (
            len(self.positions) < 2
            or len(self.positions) != len(self.texts)
            or self.initial not in self.positions
        ):
            raise DialError(
                f"dial {self.key!r} needs at least two positions, each with a text, one of them the initial one; "
                f"it has {len(self.positions)} positions, {len(self.texts)} texts and starts at {self.initial!r}."
            )


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Parameters
    ----------
    label
        With the unit.
    style
        How numbers are written, of `panelbook.publish.results.STYLES`.
    log
        Whether equal ratios have equal lengths.
    low, high
        Its ends; where not given, those of what is drawn.
    ticks
        Positions and names of its ticks, where they are not plain numbers.
    reference
        Value at which a line is drawn, as a ratio of 1.
    """

    label: str
    style: str = "number"
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[tuple[float, str]] = ()
    reference: float | None = None


@dataclass(frozen=True)
class Chart:
    """How a dial is drawn: curves with the position marked on them, or bars for the position alone.

    Parameters
    ----------
    kind
        "curves" or "bars".
    x, y
        Its axes.
    """

    kind: Literal["curves", "bars"]
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Series:
    """One thing that is drawn at every position; colour is never its only mark.

    Parameters
    ----------
    name
        As the tables and the legend call it.
    colour
        Hexadecimal; "" for the colour of the text.
    dash
        Dashes of its line as SVG writes them; "" for a full line.
    marker
        One of o, s, ^, v, <, D, X.
    """

    name: str
    colour: str
    dash: str
    marker: str


@dataclass(frozen=True)
class Label:
    """A text in a sentence whose digits are no finding: a position of the dial, or the name of an arm."""

    text: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of the readout: texts, labels, and numbers with their intervals."""

    parts: tuple[str | Mapping[str, str], ...]


@dataclass(frozen=True)
class Dial:
    """A dial as a notebook shows it.

    Parameters
    ----------
    data
        What the script of the book draws.
    instead
        Command that does the same where no script runs; "" where none does.
    """

    data: Mapping[str, Any]
    instead: str = ""

    def __repr__(self) -> str:
        command = f" Here: {self.instead}" if self.instead else ""
        return f"Dial “{self.data['title']}”: it turns on the page of the rendered book.{command}"

    def _repr_html_(self) -> str:
        text = json.dumps(self.data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        for sign in "<>&":  # nothing in the data can end the script element
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        command = f" Here: <code>{html.escape(self.instead)}</code>" if self.instead else ""
        return (
            f'<div class="dial" hidden><script type="application/json">{text}</script></div>'
            f'<p class="dial-note">Dial “{html.escape(self.data["title"])}”: it turns on the page of the rendered '
            f"book.{command}</p>"
        )


def sentence(template: str, **values: Estimate | tuple[Estimate, str] | Label | str) -> Sentence:
    """Fill a sentence of the readout.

    Parameters
    ----------
    template
        With {names}; in its own words no number but a count may stand.
    values
        A `Label`, or an estimate with its style, which is written with its interval or the reason why it has none.

    Raises
    ------
    DialError
        If the template states a number, or a style is unknown.

    Examples
    --------
    >>> from panelbook.measure.uncertainty import exact
    >>> sentence("A {arm} of {x}.", arm=Label("panel"), x=(exact(0.5, "a setting"), "percent")).parts[3]
    {'value': '50.0%', 'interval': 'none: a setting'}
    """
    parts: list[str | Mapping[str, str]] = []
    for literal, name, _, _ in Formatter().parse(template):
        if FRACTION.search(literal):
            raise DialError(f"the readout {template!r} states a number. Give it as an estimate or a Label.")
        if literal:
            parts.append(literal)
        if name is None:
            continue
        value = values[name]
        if isinstance(value, Label):
            parts.append({"label": value.text})
        elif isinstance(value, tuple):
            parts.append(_number(*value))
        else:
            raise DialError(f"the readout {template!r}: {name!r} must be a Label or (estimate, style).")
    return Sentence(tuple(parts))


def dial(
    title: str,
    claim: str,
    knobs: Sequence[Knob],
    charts: Chart | Sequence[Chart],
    series: Sequence[Series],
    points: pd.DataFrame,
    say: Callable[..., Sequence[Sentence]],
    *,
    curves: pd.DataFrame | None = None,
    note: str = "",
    instead: str = "",
) -> Dial:
    """Make a dial of finished tables.

    Parameters
    ----------
    title
        What is turned, in a few words.
    claim
        What turning it lets the reader see.
    knobs
        One or two.
    charts
        One, or one for each value of the knob that is a choice.
    series
        What is drawn, in order.
    points
        One row for each position and mark: the keys of the knobs, series, x, y, low, high, and a `reason` where there
        is no interval.
    say
        Called with the values of the knobs by key; returns the readout of that position.
    curves
        What is drawn at every position: series, x, y, low, high, and the key of the knob that is a choice.
    note
        What every interval is, in words.
    instead
        Command that does the same where no script runs.

    Raises
    ------
    DialError
        If a position has no row or no sentence, a number has neither interval nor reason, or the whole is too large.
    """
    names = [one.name for one in series]
    choice = next((knob for knob in knobs if knob.choice), None)
    per_choice = [charts] if isinstance(charts, Chart) else list(charts)
    if len(per_choice) != (len(choice.positions) if choice and not isinstance(charts, Chart) else 1):
        raise DialError(f"dial {title!r} needs one chart, or one for each value of its choice.")
    missing = {"series", "x", "y", "low", "high", *(knob.key for knob in knobs)} - set(points.columns)
    if missing:
        raise DialError(f"dial {title!r}: its points lack the columns {', '.join(sorted(missing))}.")
    by_position = dict(iter(points.groupby([knob.key for knob in knobs], sort=False)))
    frames = []
    for position in product(*(knob.positions for knob in knobs)):
        at = dict(zip((knob.key for knob in knobs), position, strict=True))
        chart = per_choice[choice.positions.index(at[choice.key]) if choice and len(per_choice) > 1 else 0]
        said = say(**at)
        if position not in by_position or not said:
            raise DialError(f"dial {title!r} has nothing to show or to say at {at}.")
        rows = by_position[position]
        frames.append(
            {
                "points": [_point(row, names, chart.y.style, title) for row in rows.to_dict("records")],
                "say": [list(one.parts) for one in said],
            }
        )
    data = {
        "format": FORMAT,
        "title": title,
        "claim": claim,
        "note": note,
        "knobs": [
            {
                "label": knob.label,
                "texts": list(knob.texts),
                "at": list(knob.positions).index(knob.initial),
                "choice": knob.choice,
            }
            for knob in knobs
        ],
        "charts": [
            _chart(chart, names, _of_choice(points, choice, i), _of_choice(curves, choice, i))
            for i, chart in enumerate(per_choice)
        ],
        "series": [vars(one) for one in series],
        "frames": frames,
    }
    found = Dial(data, instead)
    size = len(found._repr_html_())
    if size > MAX_BYTES:
        raise DialError(
            f"dial {title!r} has {size:,} bytes, more than {MAX_BYTES:,}. Give it fewer positions or points."
        )
    _check(data, f"dial {title!r}")
    return found


def check_dials(page: str, where: str) -> None:
    """Check every dial in the HTML of a page: each number has an interval or a reason.

    Parameters
    ----------
    page
        HTML.
    where
        How an error names it.

    Raises
    ------
    DialError
        Naming the dial and the number.
    """
    if 'class="dial"' not in page:
        return
    reader = _Reader()
    reader.feed(page)
    for text in reader.found:
        try:
            data = json.loads(text)
            _check(data, f"{where}: dial {data['title']!r}")
        except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
            raise DialError(f"{where}: a dial is broken: {type(error).__name__}: {error}.") from None


def _check(data: Mapping[str, Any], where: str) -> None:
    """Hold every number of a dial's data to its interval or reason."""
    labels = {text for knob in data["knobs"] for text in knob["texts"]} | {
        one["name"] for one in data["series"]
    }
    said = [part for frame in data["frames"] for one in frame["say"] for part in one]
    for part in [data["title"], data["claim"], data["note"], *said]:
        if isinstance(part, str):
            if found := FRACTION.search(part):
                raise DialError(f"{where} says {found[0]!r} with neither interval nor reason.")
        elif "label" in part:
            if part["label"] not in labels and FRACTION.search(part["label"]):
                raise DialError(f"{where} says {part['label']!r}, which is no position and no series of it.")
        elif not part["value"] or not part["interval"]:
            raise DialError(f"{where} says {part['value']!r} with neither interval nor reason.")
    for frame in data["frames"]:
        for _, _, _, low, high, text, interval in frame["points"]:
            if not interval or ((low is None or high is None) and not interval.startswith("none: ")):
                raise DialError(f"{where} shows {text!r} with neither interval nor reason.")


class _Reader(HTMLParser):
    """Find the data of the dials of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._in_dial = self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div":
            self._in_dial = dict(attrs).get("class") == "dial"
        self._in_script = tag == "script" and self._in_dial

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.found.append(data)


def _number(estimate: Estimate, style: str) -> Mapping[str, str]:
    """Write a number with its interval, in the words of `results.json`."""
    if style not in STYLES:
        raise DialError(f"no style {style!r}; known: {', '.join(STYLES)}.")
    record = {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "reason": estimate.reason,
        "style": style,
    }
    return {"value": format_value(record), "interval": format_interval(record)}


def _point(row: Mapping[Any, Any], names: Sequence[str], style: str, title: str) -> list[Any]:
    """One mark: series, x, y, low, high, and the two texts of the table of the view."""
    if row["series"] not in names:
        raise DialError(f"dial {title!r} has no series {row['series']!r}; it has {', '.join(names)}.")
    missing = pd.isna(row["low"]) or pd.isna(row["high"])
    reason = str(row.get("reason") or "")
    if missing and not reason:
        raise DialError(
            f"dial {title!r}: {row['series']} at {row['x']} has neither an interval nor a reason. Give one."
        )
    low, high = (None, None) if missing else (float(row["low"]), float(row["high"]))
    number = _number(Estimate(float(row["y"]), low, high, None, None, "", reason if missing else ""), style)
    drawn = [_round(value) for value in (row["x"], row["y"], low, high)]
    return [names.index(row["series"]), *drawn, number["value"], number["interval"]]


def _of_choice(table: pd.DataFrame | None, choice: Knob | None, i: int) -> pd.DataFrame | None:
    """Rows that belong to one value of the choice; all where the table does not distinguish."""
    if table is None or choice is None or choice.key not in table.columns:
        return table
    mine: pd.DataFrame = table[table[choice.key] == choice.positions[i]]
    return mine


def _chart(
    chart: Chart, names: Sequence[str], points: pd.DataFrame | None, curves: pd.DataFrame | None
) -> dict[str, Any]:
    """One chart with the ends of its axes and its curves."""
    drawn = pd.concat([table for table in (points, curves) if table is not None])
    lines = []
    for name in names:
        mine = curves[curves["series"] == name] if curves is not None else drawn.head(0)
        if len(mine):
            mine = mine.sort_values("x")
            rows = [[_round(value) for value in row] for row in _values(mine)]
            lines.append([names.index(name), rows])
    axes = {}
    for key, axis, columns in (("x", chart.x, ["x"]), ("y", chart.y, ["y", "low", "high"])):
        values = drawn[columns].to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        low = axis.low if axis.low is not None else float(finite.min(initial=np.inf))
        high = axis.high if axis.high is not None else float(finite.max(initial=-np.inf))
        if not low < high:  # nothing to draw, or all of it in one place
            low, high = (low, low + 1.0) if np.isfinite(low) else (0.0, 1.0)
        axes[key] = {
            "label": axis.label,
            "style": axis.style,
            "log": axis.log,
            "low": _round(low),
            "high": _round(high),
            "ticks": [[_round(value), text] for value, text in axis.ticks],
            "reference": axis.reference,
        }
    return {"kind": chart.kind, **axes, "curves": lines}


def _values(table: pd.DataFrame) -> Iterator[tuple[float, ...]]:
    return iter(table[["x", "y", "low", "high"]].astype(float).itertuples(index=False, name=None))


def _round(value: Any) -> float | None:
    """Round for drawing; NaN and infinity become nothing."""
    number = float(value) if value is not None else np.nan
    return float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None
