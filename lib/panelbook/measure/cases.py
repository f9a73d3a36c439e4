"""Cases: which draws are worth reading, by rules that leave no choice.

A reader of a few completions should know how they were picked. Every kind of case here is a rule over the table of
draws that names one draw of each arm: which draws qualify, and which of those comes first. Ties are broken by
problem_id and sample_id, so the same table gives the same cases.

The first four kinds show one problem under both arms; the others take each arm's own most telling draw, wherever it is.

Kinds that speak of a first result or of equations need draws made of labelled turns, as the miniature's are; for other
models they are left out, since nothing there says where an attempt ends.

Not handled: whether a text is well reasoned. An equation is right or wrong, an argument is for the reader.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

_SIGNS: Mapping[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
# Whole numbers only, with nothing before or behind that would make them part of a longer expression.
_EQUATION = re.compile(r"(?<![+*=/.-] )(?<![\d.])(\d{1,15}) ?([-+*]) ?(\d{1,15}) ?= ?(-?\d{1,15})(?![\d.])")

COLUMNS = ("kind", "situation", "rule", "arm", "row", "qualify", "draws", "note")
"""Columns of picked cases; `row` is the label of the draw in the index of the table it was picked from."""


@dataclass(frozen=True)
class Kind:
    """One kind of case.

    Parameters
    ----------
    situation
        Heading on the page.
    rule
        Which draws qualify and which comes first, in words.
    qualifies
        Draws of one arm -> a mark for each.
    order
        Columns by which those that qualify are sorted, the first taken; a minus sign before a name sorts downwards.
    turns
        Whether it makes sense only for draws of labelled turns.
    note
        Row -> what is to be seen.
    """

    situation: str
    rule: str
    qualifies: Callable[[pd.DataFrame], "pd.Series[bool]"]
    order: tuple[str, ...]
    turns: bool
    note: Callable[["pd.Series"], str]


def _changed(draws: pd.DataFrame) -> "pd.Series[bool]":
    return (
        draws["first_result"].notna()
        & draws["predicted"].notna()
        & (draws["first_result"] != draws["predicted"])
    )


KINDS: Mapping[str, Kind] = {
    "rescued": Kind(
        "a change of mind that rescued a wrong first result",
        "first result wrong, answer right; of these the one on the arm's hardest problem",
        lambda draws: _changed(draws) & draws["correct"],
        ("rate",),
        True,
        lambda row: f"first result {row['first_result']}, answer {row['predicted']}",
    ),
    "spoiled": Kind(
        "a change of mind that spoiled a right first result",
        "first result right, answer wrong; of these the one on the arm's easiest problem",
        lambda draws: _changed(draws) & draws["first_right"],
        ("-rate",),
        True,
        lambda row: f"first result {row['first_result']}, answer {row['predicted']}",
    ),
    "wrong_path": Kind(
        "a right answer by a wrong path",
        "answer right, though an equation on the way is wrong; of these the one with the most such equations",
        lambda draws: draws["correct"] & (draws["n_slips"] > 0),
        ("-n_slips",),
        True,
        lambda row: f"wrong on the way: {', '.join(row['slips'])}",
    ),
    "longest_wrong": Kind(
        "the longest of the wrong",
        "answer wrong or missing; of these the one with the most tokens",
        lambda draws: ~draws["correct"],
        ("-completion_tokens",),
        False,
        lambda row: "",
    ),
    "repeated": Kind(
        "one text, drawn again and again",
        "the same text, to the letter, as another draw of the problem; of these the one with the most copies",
        lambda draws: draws["copies"] > 1,
        ("-copies",),
        False,
        lambda row: f"{row['copies']} of the {row['n']} draws of this problem are this text",
    ),
}
"""Name -> kind, in the order of the page, after the four situations of `pick_situations`."""


def find_slips(text: str) -> list[str]:
    """Return the wrong equations of a text, in order: two whole numbers, a sign and a result that is not theirs.

    Examples
    --------
    >>> find_slips("34 + 20 = 54 , 54 + 9 = 62 , 2 * 3 + 1 = 8")
    ['54 + 9 = 62']
    """
    return [
        found[0]
        for found in _EQUATION.finditer(text)
        if _SIGNS[found[2]](int(found[1]), int(found[3])) != int(found[4])
    ]


def pick_situations(draws: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Pick one problem for each of four situations: both arms mostly right, only one of them, neither.

    The problem is taken whose two success rates fit best, ties broken by problem id, and none twice; of its draws the
    first that is typical: right where the arm is mostly right, wrong where it is mostly wrong. Where one arm alone is
    mostly right, that is the problem on which the arms lie furthest apart in this direction.

    Parameters
    ----------
    draws
        One row per draw, numbered by its index: problem_id, arm, sample_id, correct.
    first, second
        The two arms.

    Returns
    -------
    Columns of `COLUMNS`, two rows per situation; fewer situations where there are fewer problems.

    Raises
    ------
    ValueError
        If no problem was drawn under both arms.
    """
    rate = draws.pivot_table(index="problem_id", columns="arm", values="correct")
    rate = rate.reindex(columns=[first, second]).dropna().sort_index()
    if rate.empty:
        raise ValueError(
            f"no problem was drawn under both {first!r} and {second!r}, so none can be shown side by side. "
            "Give the rollouts of both arms."
        )
    situations = {
        "both arms are mostly right": (1, 1),
        f"{first} is mostly right, {second} is not": (1, 0),
        f"{second} is mostly right, {first} is not": (0, 1),
        "neither is": (0, 0),
    }
    rows = []
    for (situation, wanted), _ in zip(situations.items(), range(len(rate)), strict=False):
        misfit = (rate - list(wanted)).abs().sum(axis=1)
        problem_id = misfit.round(12).idxmin()
        rate = rate.drop(index=problem_id)
        for arm, right in zip((first, second), wanted, strict=True):
            mine = draws[(draws["problem_id"] == problem_id) & (draws["arm"] == arm)].sort_values("sample_id")
            typical = mine[mine["correct"] == bool(right)]
            row = (typical if len(typical) else mine).iloc[0]
            rows.append(
                {
                    "kind": "situation",
                    "situation": situation,
                    "rule": "success rates of both arms nearest to this situation",
                    "arm": arm,
                    "row": row.name,
                    "qualify": len(typical),
                    "draws": len(mine),
                    "note": f"right in {int(mine['correct'].sum())} of {len(mine)} draws",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"row": "Int64"})


def pick_cases(draws: pd.DataFrame, first: str, second: str, *, turns: bool) -> pd.DataFrame:
    """Pick the most telling draw of each arm for every kind of `KINDS`.

    Parameters
    ----------
    draws
        One row per draw, numbered by its index: problem_id, arm, sample_id, correct, completion, completion_tokens,
        predicted; with `turns` also first_result (of the first attempt; missing where there is none) and first_right.
    first, second
        The two arms.
    turns
        Whether draws are made of labelled turns; without, kinds that need them are left out.

    Returns
    -------
    Columns of `COLUMNS`, one row per kind and arm, also where no draw qualifies: `qualify` is then 0 and `row` missing.
    """
    rows = []
    described = {arm: _describe(draws[draws["arm"] == arm], turns=turns) for arm in (first, second)}
    for name, kind in KINDS.items():
        if kind.turns and not turns:
            continue
        for arm, mine in described.items():
            found = mine[kind.qualifies(mine).astype(bool)] if len(mine) else mine
            names = [column.removeprefix("-") for column in kind.order]
            up = [not column.startswith("-") for column in kind.order]
            ranked = found.sort_values([*names, "problem_id", "sample_id"], ascending=[*up, True, True])
            best = ranked.iloc[0] if len(ranked) else None
            rows.append(
                {
                    "kind": name,
                    "situation": kind.situation,
                    "rule": kind.rule,
                    "arm": arm,
                    "row": None if best is None else best.name,
                    "qualify": len(found),
                    "draws": len(mine),
                    "note": "" if best is None else kind.note(best),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"row": "Int64"})


def _describe(draws: pd.DataFrame, *, turns: bool) -> pd.DataFrame:
    """Add what the rules look at: success rate, copies and number of draws of the problem, wrong equations."""
    by_problem = draws.groupby("problem_id")["correct"]
    slips = draws["completion"].map(find_slips) if turns else pd.Series([[]] * len(draws), index=draws.index)
    return draws.assign(
        correct=draws["correct"].astype(bool),
        # Rounded, or the same rate could differ in its last bit and decide an order.
        rate=by_problem.transform("mean").astype(float).round(12),
        n=by_problem.transform("size"),
        copies=draws.groupby(["problem_id", "completion"])["correct"].transform("size"),
        slips=slips,
        n_slips=slips.map(len),
    )
