"""What the explorer shows of a table of draws: columns checked and filled in, ids, order, and the index of it all.

The other half of `panelbook.publish.explorer`, which packs and writes what is made here. Tables are kept as lists of
plain values: a pandas column of strings refuses lone surrogates, and completions do hold them.

Not handled: whether a draw is right, or what a text says.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from panelbook.errors import BookError
from panelbook.rollouts.schema import ROLLOUTS_KEY, STATUSES, STOP_REASONS
from panelbook.study.arms import ARMS

UNGRADED = "ungraded"
"""Status of a draw that nobody graded."""

PREDICTED_CHARACTERS = 80

NEUTRAL: dict[str, Any] = {
    "study": "draws",
    "run_id": "",
    "benchmark": "draws",
    "checkpoint": "not recorded",
    "step": 0,
    "completion_tokens": None,
    "predicted": None,
    "seed": None,
    "temperature": None,
    "max_tokens": None,
}
"""What a column holds that a table does not have. Not listed: source (the benchmark), sample_id (draws are numbered as
they come), stop_reason (length where a draw is as long as its limit), tag_valid (what the arm's own rule says, or
true where it is not known)."""

MAP = {
    "kind": "pca",
    "title": "Where draws of one problem lie",
    "note": "The two directions in which draws of one problem differ most; each problem's mean lies in the middle. A "
    "plane shows little of what an encoder's several hundred dimensions hold.",
}

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""For arms that the book has no colour for, those of Okabe and Ito."""


class ExplorerError(BookError, ValueError):
    """A table cannot be explored; the message names the column or the row and what to do."""


def rollout_id(row: Mapping[str, Any] | pd.Series) -> str:
    """Return the id of one draw in every explorer: ten hexadecimal digits, made of the key of rollouts.

    `explore/index.html#r=<id>` opens the draw. A column that is missing counts as `NEUTRAL` says.
    """
    return _hash([row.get(name, NEUTRAL.get(name, 0)) for name in ROLLOUTS_KEY])


def _hash(key: Iterable[Any], again: int = 0) -> str:
    text = "\x1f".join([*map(str, key), *([str(again)] if again else [])])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


Table = dict[str, list[Any]]
"""Column -> plain values."""


def prepare_draws(rollouts: pd.DataFrame) -> Table:
    """Return the columns as plain values, checked, what is missing filled in."""
    for name in ("arm", "problem_id", "completion"):
        if name not in rollouts:
            raise ExplorerError(
                f"there is no column {name!r}; there are {', '.join(map(str, rollouts.columns))}. Rename the one that "
                f"holds it: rollouts.rename(columns={{'...': {name!r}}})."
            )
    if not {"status", "correct"} & set(rollouts.columns):
        raise ExplorerError("there is neither 'status' nor 'correct', so nothing says which draws are right.")
    n = len(rollouts)
    if not n:
        raise ExplorerError("there is no draw to explore: the table has no row.")
    table: Table = {
        name: _plain(rollouts[name]) if name in rollouts else [default] * n
        for name, default in NEUTRAL.items()
    }
    for name in ("arm", "problem_id", "study", "run_id", "benchmark", "checkpoint"):
        values = _plain(rollouts[name]) if name in rollouts else table[name]
        table[name] = [str(NEUTRAL.get(name, "")) if value is None else str(value) for value in values]
    table["completion"] = ["" if text is None else str(text) for text in _plain(rollouts["completion"])]
    table["status"] = _statuses(rollouts)
    sources = _plain(rollouts["source"]) if "source" in rollouts else [None] * n
    table["source"] = [b if s is None else str(s) for s, b in zip(sources, table["benchmark"], strict=True)]
    for name in ("step", "completion_tokens", "seed", "max_tokens"):
        table[name] = [_whole(value, name) for value in table[name]]
    table["step"] = [step or 0 for step in table["step"]]
    if "sample_id" in rollouts:
        table["sample_id"] = [_whole(value, "sample_id") or 0 for value in _plain(rollouts["sample_id"])]
    else:
        table["sample_id"] = _number(zip(*(table[name] for name in ROLLOUTS_KEY[:-1]), strict=True))
    at_limit = [
        "length" if None not in (limit, length) and length >= limit else "stop"
        for length, limit in zip(table["completion_tokens"], table["max_tokens"], strict=True)
    ]
    stops = _plain(rollouts["stop_reason"]) if "stop_reason" in rollouts else at_limit
    table["stop_reason"] = [
        stop if stop in STOP_REASONS else usual for stop, usual in zip(stops, at_limit, strict=True)
    ]
    valid = _plain(rollouts["tag_valid"]) if "tag_valid" in rollouts else [None] * n
    table["tag_valid"] = [
        int(arm not in ARMS or ARMS[arm].parse(text).tag_valid if flag is None else bool(flag))
        for flag, arm, text in zip(valid, table["arm"], table["completion"], strict=True)
    ]
    table["id"] = _ids(table)
    return table


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Return values as Python's own, None for every kind of missing."""
    values = column.astype(object)
    return values.where(column.notna(), None).tolist()


def _statuses(rollouts: pd.DataFrame) -> list[str]:
    if "status" not in rollouts:
        return [
            UNGRADED if value is None else "correct" if value else "wrong"
            for value in _plain(rollouts["correct"])
        ]
    statuses = [UNGRADED if value is None else str(value) for value in _plain(rollouts["status"])]
    unknown = sorted(set(statuses) - {*STATUSES, UNGRADED})
    if unknown:
        raise ExplorerError(
            f"status must be one of {', '.join(STATUSES)}, or missing where nobody graded; got {unknown[0]!r}."
        )
    return statuses


def _whole(value: Any, name: str) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        raise ExplorerError(f"{name} must hold whole numbers; got {value!r}.") from None


def _number(keys: Iterable[Any]) -> list[int]:
    """Return the number of each key among its equals, from 0, as they come."""
    seen: dict[Any, int] = {}
    numbers = []
    for key in keys:
        seen[key] = seen.get(key, -1) + 1
        numbers.append(seen[key])
    return numbers


def _ids(table: Table) -> list[str]:
    """Return the id of each draw, checked to be its own."""
    keys = list(zip(*(table[name] for name in ROLLOUTS_KEY), strict=True))
    if len(set(keys)) < len(keys):
        counts = _number(keys)
        where = ", ".join(
            f"{name}={value!r}" for name, value in zip(ROLLOUTS_KEY, keys[counts.index(1)], strict=True)
        )
        raise ExplorerError(
            f"{sum(map(bool, counts)):,} draws repeat another; the first is {where}. Keep one of each, number them "
            "in sample_id, or tell their runs apart in run_id."
        )
    ids = [_hash(key) for key in keys]
    if len(set(ids)) < len(ids):  # one chance in a thousand with 50,000 draws: the later one gets another
        taken: set[str] = set()
        for place in sorted(range(len(keys)), key=keys.__getitem__):
            again = 0
            while ids[place] in taken:
                again += 1
                ids[place] = _hash(keys[place], again)
            taken.add(ids[place])
    return ids


def make_index(
    table: Table, problems: pd.DataFrame | None, places: pd.DataFrame | None
) -> tuple[dict[str, Any], list[int]]:
    """Return the index, and the rows of the table in its order."""
    named = list(zip(table["benchmark"], table["problem_id"], strict=True))
    source_of = dict(zip(named, table["source"], strict=True))
    listed = sorted(
        source_of, key=lambda name: (_natural(name[0]), _natural(source_of[name]), _natural(name[1]))
    )
    step_of = dict(zip(table["checkpoint"], table["step"], strict=True))
    arms = _order_arms(set(table["arm"]))
    lists = {
        "arm": arms,
        "study": sorted(set(table["study"])),
        "run": sorted(set(table["run_id"])),
        "checkpoint": sorted(step_of, key=lambda name: (step_of[name], _natural(name))),
        "benchmark": sorted(set(table["benchmark"]), key=_natural),
        "source": sorted(set(table["source"]), key=_natural),
        "status": [*STATUSES, *([UNGRADED] if UNGRADED in table["status"] else [])],
        "stop": list(STOP_REASONS),
    }
    of = {"run": "run_id", "stop": "stop_reason"}
    codes = {name: _code(table[of.get(name, name)], values) for name, values in lists.items()}
    codes["problem"] = _code(named, listed)
    keys = (codes["run"], table["sample_id"], codes["checkpoint"], codes["arm"], codes["problem"])
    order = np.lexsort([np.array(key, dtype=np.int64) for key in keys]).tolist()
    x, y = _places(places, table["id"])
    columns = {
        **{name: codes[name] for name in ("problem", "arm", "study", "run", "checkpoint", "status", "stop")},
        **{name: table[name] for name in ("id", "seed", "max_tokens")},
        "sample": table["sample_id"],
        "tokens": table["completion_tokens"],
        "chars": [len(text) for text in table["completion"]],
        "valid": table["tag_valid"],
        "temperature": [_finite(value, 4) for value in table["temperature"]],
        "predicted": [
            None if text is None else str(text)[:PREDICTED_CHARACTERS] for text in table["predicted"]
        ],
        "x": x,
        "y": y,
    }
    asked = _questions(problems)
    index = {
        "arms": [
            {"name": arm, "colour": colour, "style": "steps"}
            for arm, colour in zip(arms, _colours(arms), strict=True)
        ],
        **{f"{name}s": lists[name] for name in ("benchmark", "source", "checkpoint", "run", "stop")},
        "studies": lists["study"],
        "statuses": lists["status"],
        "problems": [
            {
                "id": name,
                "benchmark": lists["benchmark"].index(benchmark),
                "source": lists["source"].index(source_of[benchmark, name]),
                **asked(benchmark, name),
            }
            for benchmark, name in listed
        ],
        "map": MAP if any(value is not None for value in x) else None,
        "shards": [],
        "columns": {name: [values[row] for row in order] for name, values in columns.items()},
    }
    return index, order


def _code(values: Iterable[Any], listed: Sequence[Any]) -> list[int]:
    place = {value: i for i, value in enumerate(listed)}
    return [place[value] for value in values]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which item 9 comes before item 10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(1, int(part), "") if i % 2 else (0, 0, part) for i, part in enumerate(parts)]


def _order_arms(arms: set[str]) -> list[str]:
    from panelbook.publish.figures.style import ARM_STYLES  # deferred: it loads matplotlib

    return [*(arm for arm in ARM_STYLES if arm in arms), *sorted(arms - set(ARM_STYLES))]


def _colours(arms: Sequence[str]) -> list[str]:
    """Return a colour for each arm, the book's own where it has one."""
    from panelbook.publish.figures.style import ARM_STYLES  # deferred: it loads matplotlib

    own = {arm: ARM_STYLES[arm][0] for arm in arms if arm in ARM_STYLES}
    free = [colour for colour in COLOURS if colour not in own.values()] or list(COLOURS)
    others = [arm for arm in arms if arm not in own]
    return [own.get(arm) or free[others.index(arm) % len(free)] for arm in arms]


def _questions(problems: pd.DataFrame | None) -> Callable[[str, str], dict[str, str | None]]:
    """Return a function that gives question and gold of a problem, by its benchmark where the table has one."""
    asked: dict[tuple[str, str] | str, dict[str, str | None]] = {}
    if problems is not None:
        if "problem_id" not in problems:
            raise ExplorerError(
                f"problems: there is no column 'problem_id'; there are {', '.join(map(str, problems.columns))}."
            )
        n = len(problems)
        parts = [
            _plain(problems[name]) if name in problems else [None] * n
            for name in ("benchmark", "problem_id", "question", "gold")
        ]
        for benchmark, name, question, gold in zip(*parts, strict=True):
            texts = {
                "question": None if question is None else str(question),
                "gold": None if gold is None else str(gold),
            }
            asked.setdefault((str(benchmark), str(name)), texts)
            if benchmark is None:
                asked.setdefault(str(name), texts)
    nothing: dict[str, str | None] = {"question": None, "gold": None}
    return lambda benchmark, name: asked.get((benchmark, name)) or asked.get(name) or nothing


def _places(places: pd.DataFrame | None, ids: Sequence[str]) -> tuple[list[float | None], list[float | None]]:
    if places is None:
        return [None] * len(ids), [None] * len(ids)
    _require(places, (*ROLLOUTS_KEY, "x", "y"), "places")
    at = {
        _hash(key): (_finite(x, 4), _finite(y, 4))
        for *key, x, y in zip(*(_plain(places[name]) for name in (*ROLLOUTS_KEY, "x", "y")), strict=True)
    }
    both = [at.get(name, (None, None)) for name in ids]
    return [x for x, _ in both], [y for _, y in both]


def list_near_and_far(
    neighbours: pd.DataFrame | None, rows: Mapping[str, int]
) -> dict[str, dict[int, list[Any]]]:
    """Return relation -> row -> [other row, distance], the first in rank first; no draw that is not in the table."""
    found: dict[str, dict[int, list[Any]]] = {"near": {}, "far": {}}
    if neighbours is None:
        return found
    others = ("other_run_id", "other_arm", "other_checkpoint", "problem_id", "other_sample_id")
    _require(neighbours, (*ROLLOUTS_KEY, *others, "relation", "rank", "distance"), "neighbours")
    ranked = neighbours.sort_values("rank", kind="stable")
    mine, theirs = (
        [_hash(key) for key in zip(*(_plain(ranked[name]) for name in names), strict=True)]
        for names in (ROLLOUTS_KEY, others)
    )
    for name, other, relation, distance in zip(
        mine, theirs, ranked["relation"], ranked["distance"], strict=True
    ):
        if name in rows and other in rows:
            found[relation].setdefault(rows[name], []).append([rows[other], round(float(distance), 4)])
    return found


def _require(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    absent = [column for column in columns if column not in table]
    if absent:
        raise ExplorerError(f"{name}: there is no column {absent[0]!r}. Take what the stage `map` writes.")


def _finite(value: Any, digits: int) -> float | None:
    if value is None or not math.isfinite(float(value)):
        return None
    return round(float(value), digits)
