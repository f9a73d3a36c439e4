"""The published case study: twenty hand-written problems, one draw of each arm, and what readers made of them.

These are the only completions that the published study tracks. The study states how many it found right; which
ones, a map typed by hand, it does not track. So the book reads them again. A reading is a CSV file with one verdict
per transcript (`read_ratings`); the book's own lies in `params/ratings/`, and anyone may add another in the same
form. Where the expected answer is a plain number, the book's grader is a further reader (`grade_case_study`).

Not handled: grading answers in prose. Those are left to people.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from panelbook.errors import BookError
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.windows import TRANSCRIPTS
from panelbook.study.grading import Grader

ARMS = ("panel", "thinking")
"""The two arms, in the order in which the study names them."""

VERDICTS = ("right", "wrong", "unclear")
"""What a reader may say of a transcript."""

RATING_COLUMNS = ("problem_id", "arm", "verdict", "why")
"""Columns of a file of verdicts; `why` may be blank."""

STATED = {"panel": 18, "thinking": 16, "both": 15}
"""Problems that the published study calls right, of its twenty: for each arm, and for both."""

# An expected answer that is one number, with a letter, a unit or a remark around it: "r = 5.", "8 days.", "37/216 ≈ …".
_PLAIN = re.compile(r"(?:[A-Za-z] = )?\$?(\d+(?:\.\d+)?(?:/\d+)?)(?: [a-z]+)?(?:\.?$|\.? \(| ≈)")


class RatingError(BookError, ValueError):
    """A file of verdicts breaks a rule; the message names the file, the line, the value and the next step."""


def read_case_study(folder: Path) -> pd.DataFrame:
    """Read the published transcripts with their problems.

    Parameters
    ----------
    folder
        Of the published files, see `panelbook.rollouts.published.locate`.

    Returns
    -------
    One row per problem and arm, in the order of the file, `ARMS` within: problem_id, category, question, tests (what
    the problem is there for), expected, arm, max_tokens (the limit of this draw), raw (the whole completion),
    reasoning, answer (what stands behind the closing tag of the reasoning).

    Raises
    ------
    PublishedDataError
        If the file is missing, or a record is not as expected.
    """
    try:
        content = json.loads((folder / TRANSCRIPTS).read_text(encoding="utf-8"))
        meta = content["metadata"]
        again = {id_: int(batch["max_tokens"]) for batch in meta["resamples"] for id_ in batch["ids"]}
        rows = [
            _read_item(item, arm, int(meta["max_tokens"]), again) for item in content["items"] for arm in ARMS
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PublishedDataError(
            f"{TRANSCRIPTS} is missing from {folder} or is not as expected: {error!r}. Run `panelbook fetch`."
        ) from None
    return pd.DataFrame(rows)


def read_ratings(path: Path, transcripts: pd.DataFrame) -> pd.DataFrame:
    """Read one reader's verdicts, checked: one for every transcript, none for any other.

    Parameters
    ----------
    path
        A CSV file with the columns of `RATING_COLUMNS`, in UTF-8.
    transcripts
        What was to be read, as `read_case_study` returns it: problem_id and arm are used.

    Returns
    -------
    problem_id, arm, verdict, why, in the order of the transcripts.

    Raises
    ------
    RatingError
        If the file cannot be read, a column is absent, an id, an arm or a verdict is unknown, or a transcript has
        no verdict or two.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise RatingError(
            f"{path} is missing. Download your verdicts from the page of the case studies, and put the file there."
        ) from None
    except (OSError, ValueError) as error:  # pandas' own parser errors are ValueErrors
        raise RatingError(f"{path} is no CSV file of verdicts in UTF-8: {error}") from None
    if list(table.columns) != list(RATING_COLUMNS):
        raise RatingError(
            f"{path} must have the columns {', '.join(RATING_COLUMNS)}, in this order; it has "
            f"{', '.join(table.columns)}."
        )
    for column in RATING_COLUMNS:
        table[column] = table[column].str.strip()
    wanted = list(zip(transcripts["problem_id"], transcripts["arm"], strict=True))
    for column, known in (
        ("problem_id", list(dict.fromkeys(transcripts["problem_id"]))),
        ("arm", list(dict.fromkeys(transcripts["arm"]))),
        ("verdict", list(VERDICTS)),
    ):
        _require_known(table, column, known, path)
    given = list(zip(table["problem_id"], table["arm"], strict=True))
    twice = table[table.duplicated(["problem_id", "arm"])]
    if len(twice):
        row = twice.iloc[0]
        raise RatingError(
            f"{path}, line {_line(twice)}: a second verdict on problem {row['problem_id']!r} of arm {row['arm']!r}. "
            "Keep one."
        )
    absent = [key for key in wanted if key not in given]
    if absent:
        problem_id, arm = absent[0]
        raise RatingError(
            f"{path} has {len(given)} verdicts, and lacks {len(absent)}; the first that is missing is on problem "
            f"{problem_id!r} of arm {arm!r}. Add it; `unclear` is a verdict too."
        )
    ordered = table.set_index(["problem_id", "arm"]).loc[wanted].reset_index()
    return ordered[list(RATING_COLUMNS)]


def cross_arms(ratings: pd.DataFrame) -> tuple[int, int, int, int]:
    """Count problems that are right under both arms, the panel alone, thinking alone, and neither.

    Parameters
    ----------
    ratings
        One verdict per problem and arm of `ARMS`: problem_id, arm, verdict. Only `right` is right.
    """
    right = ratings.pivot(index="problem_id", columns="arm", values="verdict")[list(ARMS)] == "right"
    panel, thinking = (right[arm] for arm in ARMS)
    return cross_counts(int(panel.sum()), int(thinking.sum()), int((panel & thinking).sum()), len(right))


def cross_counts(panel: int, thinking: int, both: int, n_problems: int) -> tuple[int, int, int, int]:
    """Count the same from what is right under each arm and under both.

    Raises
    ------
    ValueError
        If no problems can have these counts.

    Examples
    --------
    >>> cross_counts(panel=18, thinking=16, both=15, n_problems=20)
    (15, 3, 1, 1)
    """
    counts = (both, panel - both, thinking - both, n_problems - panel - thinking + both)
    if min(counts) < 0:
        raise ValueError(
            f"no {n_problems} problems can have {panel}, {thinking} and {both} right in both; check the counts."
        )
    return counts


def plain_number(expected: str) -> str | None:
    """Return the number that an expected answer consists of; None where it is prose, or more than one number.

    Examples
    --------
    >>> plain_number("r = 5."), plain_number("37/216 ≈ 0.171."), plain_number("Any of 6, 7 or 8.")
    ('5', '37/216', None)
    """
    found = _PLAIN.match(expected.strip())
    return found[1] if found else None


def grade_case_study(transcripts: pd.DataFrame, grader: Grader) -> pd.DataFrame:
    """Let the book's grader read what it can: the answers to problems whose expected answer is a plain number.

    The grader compares numbers, not units: "30 minutes" is wrong for it where half an hour is expected in hours.

    Parameters
    ----------
    transcripts
        As `read_case_study` returns them.
    grader
        Compares.

    Returns
    -------
    problem_id, arm, verdict (`unclear` where it found nothing to compare), why (what it compared), of the transcripts
    that can be compared.
    """
    golds = transcripts["expected"].map(plain_number)
    mine = transcripts[golds.notna()].assign(gold=golds.dropna())
    grades = grader.grade_many(
        (str(answer), str(gold), "gsm8k") for answer, gold in zip(mine["answer"], mine["gold"], strict=True)
    )
    verdicts = {"correct": "right", "wrong": "wrong"}
    return pd.DataFrame(
        {
            "problem_id": mine["problem_id"],
            "arm": mine["arm"],
            "verdict": [verdicts.get(grade.status, "unclear") for grade in grades],
            "why": [
                f"{grade.status}: {grade.predicted!r} against {gold}"
                for grade, gold in zip(grades, mine["gold"], strict=True)
            ],
        }
    ).reset_index(drop=True)


def _read_item(item: dict[str, Any], arm: str, max_tokens: int, again: dict[str, int]) -> dict[str, Any]:
    """One transcript; only draws of the thinking arm were repeated with a higher limit."""
    texts = {name: item[name] for name in ("id", "category", "problem", "tests", "expected")}
    texts |= {name: item[arm][name] for name in ("raw", "reasoning", "answer")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(f"{name!r} of item {item['id']!r}, {arm}, is {value!r}, not a text")
    limit = again.get(texts["id"], max_tokens) if arm == "thinking" else max_tokens
    texts["problem_id"], texts["question"] = texts.pop("id"), texts.pop("problem")
    return {**texts, "arm": arm, "max_tokens": limit}


def _require_known(table: pd.DataFrame, column: str, known: Iterable[str], path: Path) -> None:
    known = list(known)
    strange = table[~table[column].isin(known)]
    if len(strange):
        raise RatingError(
            f"{path}, line {_line(strange)}: {column} {strange[column].iloc[0]!r} is unknown. It must be one of "
            f"{', '.join(known)}."
        )


def _line(rows: pd.DataFrame) -> int:
    """Line of the first of some rows in the file, its heading being line 1."""
    return int(rows.index[0]) + 2
