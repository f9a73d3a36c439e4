"""The tables that everything downstream reads, and the checks that a table must pass.

*Counts* hold one row per arm and problem: n draws, c of them correct. Pass@k, bands, cost and power need
no more, so the published study, a live run and anyone's imported logs go through the same functions.

*Rollouts* hold one row per draw: the text, its grade and how it was drawn. `count_draws` leads from the
second table to the first.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from panelbook.errors import BookError
from panelbook.study.vocabulary import Status, StopReason

COUNTS_KEY = ["study", "benchmark", "arm", "checkpoint", "problem_id"]

COUNTS_COLUMNS: dict[str, str] = {
    "study": "string",
    "benchmark": "string",
    "arm": "string",
    "checkpoint": "string",
    "problem_id": "string",
    "source": "string",
    "n": "int64",
    "c": "int64",
    "mean_tokens": "float64",
    "mean_distance": "float64",
    "max_tokens": "Int64",
    "temperature": "float64",
}
"""Column -> pandas type. The last four may be missing values: not every file records them."""

ROLLOUTS_KEY = ["run_id", "arm", "checkpoint", "problem_id", "sample_id"]

ROLLOUTS_COLUMNS: dict[str, str] = {
    "study": "string",
    "profile": "string",
    "run_id": "string",
    "benchmark": "string",
    "problem_id": "string",
    "source": "string",
    "arm": "string",
    "checkpoint": "string",
    "step": "int64",
    "sample_id": "int64",
    "prompt_tokens": "Int64",
    "completion": "string",
    "completion_tokens": "int64",
    "stop_reason": "string",
    "predicted": "string",
    "status": "string",
    "tag_valid": "bool",
    "reward": "float64",
    "seed": "Int64",
    "temperature": "float64",
    "max_tokens": "Int64",
}
"""Column -> pandas type, one row per draw. See `check_rollouts` for what the columns hold."""

MAY_BE_MISSING = ("prompt_tokens", "predicted", "seed", "temperature", "max_tokens")
"""Columns of rollouts that may hold missing values: other tools' logs do not record them, and a draw
without an answer has nothing predicted."""

STATUSES: tuple[str, ...] = get_args(Status)
STOP_REASONS: tuple[str, ...] = get_args(StopReason)


class TableError(BookError, ValueError):
    """A table breaks a rule; the message names the table, the row, the column and the value."""


def check_counts(counts: pd.DataFrame, name: str = "counts") -> pd.DataFrame:
    """Return `counts` with the declared columns and types, in a fixed order of rows.

    Raises
    ------
    TableError
        If a column is absent, a value is missing or of the wrong type, c is not between 0 and n, or two
        rows describe the same problem of the same arm and checkpoint.
    """
    _require_columns(counts, COUNTS_COLUMNS, name)
    try:
        table = counts[list(COUNTS_COLUMNS)].astype(COUNTS_COLUMNS)
    except (TypeError, ValueError) as error:
        raise TableError(f"{name}: a column has values of the wrong type: {error}") from None
    empty = table[[*COUNTS_KEY, "source", "n", "c"]].isna().any()
    if empty.any():
        raise TableError(f"{name}: column {empty.idxmax()!r} has missing values; every row needs one.")
    for column in ("n", "c"):  # a cast to whole numbers would drop the fraction without a word
        cut = table[column] != counts[column]
        if cut.any():
            raise TableError(
                f"{name}: a column has values of the wrong type: {column!r} holds "
                f"{float(counts[column][cut].iloc[0])}; counts are whole numbers."
            )
    wrong = table[(table["n"] < 1) | (table["c"] < 0) | (table["c"] > table["n"])]
    if len(wrong):
        row = wrong.iloc[0]
        raise TableError(
            f"{name}: problem {row['problem_id']!r} of arm {row['arm']!r} has n={row['n']}, c={row['c']}; "
            "c correct draws must lie between 0 and n, and n must be at least 1."
        )
    _require_unique(table, COUNTS_KEY, name)
    return table.sort_values(COUNTS_KEY, ignore_index=True)


def select_counts(counts: pd.DataFrame, *, study: str, benchmark: str, arms: Iterable[str]) -> pd.DataFrame:
    """Return the rows of some arms on one benchmark of one study.

    Raises
    ------
    TableError
        If an arm has no row there; the message lists what there is.
    """
    chosen = counts[(counts["study"] == study) & (counts["benchmark"] == benchmark)]
    for arm in arms:
        if not (chosen["arm"] == arm).any():
            there = (
                counts[["study", "benchmark", "arm"]]
                .drop_duplicates()
                .sort_values(["study", "benchmark", "arm"])
            )
            known = "; ".join("/".join(row) for row in there.itertuples(index=False))
            raise TableError(
                f"no rows for study {study!r}, benchmark {benchmark!r}, arm {arm!r}. There are: {known}."
            )
    return chosen[chosen["arm"].isin(list(arms))].reset_index(drop=True)


def read_counts(path: str | Path) -> pd.DataFrame:
    """Read a counts table from parquet, checked.

    Raises
    ------
    TableError
        As `check_counts` does, or if the file is missing or is not parquet.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read as a parquet table: {error}") from None
    return check_counts(table, str(path))


def check_rollouts(rollouts: pd.DataFrame, name: str = "rollouts") -> pd.DataFrame:
    """Return `rollouts` with the declared columns and types, in a fixed order of rows.

    Parameters
    ----------
    rollouts
        One row per draw. `checkpoint` and `step` name the weights that were drawn from; `completion` is the
        text that was graded, the stop string put back where the draw stopped on it; `predicted` and `status`
        are the grader's; `seed` is the draw's own; token counts, `temperature` and `max_tokens` are the
        engine's. Further columns are dropped.
    name
        What the caller calls the table, for the message.

    Raises
    ------
    TableError
        If a column is absent, a value is missing or of the wrong type, a status or stop reason is unknown,
        a count is negative, or a draw occurs twice.
    """
    _require_columns(rollouts, ROLLOUTS_COLUMNS, name)
    try:
        table = rollouts[list(ROLLOUTS_COLUMNS)].astype(ROLLOUTS_COLUMNS)
    except (TypeError, ValueError) as error:
        raise TableError(f"{name}: a column has values of the wrong type: {error}") from None
    empty = table.drop(columns=list(MAY_BE_MISSING)).isna().any()
    if empty.any():
        raise TableError(f"{name}: column {empty.idxmax()!r} has missing values; every draw needs one.")
    _require_values(table, "status", table["status"].isin(STATUSES), f"one of {', '.join(STATUSES)}", name)
    _require_values(table, "stop_reason", table["stop_reason"].isin(STOP_REASONS), "stop or length", name)
    for column in ("step", "sample_id", "completion_tokens"):
        _require_values(table, column, table[column] >= 0, "0 or more", name)
    _require_unique(table, ROLLOUTS_KEY, name)
    return table.sort_values(ROLLOUTS_KEY, ignore_index=True)


def read_rollouts(path: str | Path) -> pd.DataFrame:
    """Read a rollouts table from parquet, checked.

    Raises
    ------
    TableError
        As `check_rollouts` does, or if the file is missing or is not parquet.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read as a parquet table: {error}") from None
    return check_rollouts(table, str(path))


def count_draws(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Count rollouts into a counts table: draws, correct draws and mean length per arm and problem.

    Parameters
    ----------
    rollouts
        One row per draw, with at least the key columns of counts, `source`, `sample_id`, `status`,
        `completion_tokens`, `max_tokens` and `temperature`.

    Raises
    ------
    TableError
        If a column is absent, or the same draw occurs twice.
    """
    needed = [*COUNTS_KEY, "source", "sample_id", "status", "completion_tokens", "max_tokens", "temperature"]
    _require_columns(rollouts, needed, "rollouts")
    # Group once, then count with integers: a million draws take a fraction of what six groupings would.
    code = rollouts.groupby(COUNTS_KEY, sort=True, observed=True).ngroup().to_numpy()
    sample = rollouts["sample_id"].to_numpy(dtype="int64")
    draw = pd.Series(code * (sample.max(initial=0) + 1) + sample)
    if draw.duplicated().any():
        _require_unique(rollouts, [*COUNTS_KEY, "sample_id"], "rollouts")
    first_row = np.empty(code.max(initial=-1) + 1, dtype="int64")
    first_row[code[::-1]] = np.arange(len(code))[::-1]
    correct = (rollouts["status"] == "correct").to_numpy(dtype="float64")
    n = np.bincount(code)
    counts = rollouts.iloc[first_row][[*COUNTS_KEY, "source", "max_tokens", "temperature"]].assign(
        n=n,
        c=np.bincount(code, weights=correct).astype("int64"),
        mean_tokens=np.bincount(code, weights=rollouts["completion_tokens"].to_numpy(dtype="float64")) / n,
        mean_distance=float("nan"),
    )
    return check_counts(counts)


def _require_columns(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise TableError(f"{name}: no column {absent[0]!r}; there are {', '.join(map(str, table.columns))}.")


def _require_values(table: pd.DataFrame, column: str, valid: "pd.Series[bool]", rule: str, name: str) -> None:
    if not valid.all():
        row = table[~valid].head(1).to_dict("records")[0]
        where = ", ".join(f"{key}={row[key]!r}" for key in ROLLOUTS_KEY)
        raise TableError(f"{name}: {column} must be {rule}; got {row[column]!r} at {where}.")


def _require_unique(table: pd.DataFrame, key: list[str], name: str) -> None:
    twice = table.duplicated(key)
    if twice.any():
        row = table[twice].head(1).to_dict("records")[0]
        where = ", ".join(f"{column}={row[column]!r}" for column in key)
        raise TableError(
            f"{name}: {int(twice.sum())} rows repeat another; the first is {where}. Keep one of each."
        )
