"""The counts table as the measures read it: checked columns, unique problems, paired arms.

One row per (arm, problem): `n` draws of which `c` are correct and, where known, means over the draws.
A measure looks only at the columns it names. Problems are put in the order of their id, so that no
result depends on the order of rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

COUNTS = ("n", "c")


@dataclass(frozen=True)
class ArmPair:
    """Two arms on the problems that both have.

    Parameters
    ----------
    first, second
        One row per problem, in the same order.
    n_unpaired
        Problems that only one of the two arms has; they are left out.
    """

    first: pd.DataFrame
    second: pd.DataFrame
    n_unpaired: int

    @property
    def n_draws(self) -> int:
        """Draws of both arms on the paired problems."""
        return int(self.first["n"].sum() + self.second["n"].sum())


def require_columns(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Check that a table has the columns a measure reads.

    Parameters
    ----------
    table
        The table.
    columns
        Names it must have.
    name
        What the caller calls the table, for the message.

    Raises
    ------
    ValueError
        Naming the first column that is missing and those that are there.
    """
    for column in columns:
        if column not in table.columns:
            raise ValueError(
                f"the {name} table has no column {column!r}; it has {', '.join(map(str, table.columns))}. "
                "Add the column or choose a measure that does not need it."
            )


def select_arm(counts: pd.DataFrame, arm: str, values: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of one arm, checked, in the order of problem ids.

    Parameters
    ----------
    counts
        Counts table.
    arm
        Arm to select.
    values
        Columns needed besides arm, problem_id, n and c; numbers that must be there for every problem.

    Returns
    -------
    One row per problem with a fresh index.

    Raises
    ------
    ValueError
        If a column is missing, the arm has no rows or a problem twice, a count is impossible, or a
        value is not a finite number.
    """
    require_columns(counts, ("arm", "problem_id", *COUNTS, *values), "counts")
    rows = counts.loc[counts["arm"] == arm].sort_values("problem_id", kind="stable", ignore_index=True)
    if rows.empty:
        arms = ", ".join(map(str, counts["arm"].unique()))
        raise ValueError(f"arm {arm!r} has no rows; the counts table has: {arms}. Check the arm's name.")
    repeated = rows["problem_id"].duplicated()
    if repeated.any():
        problem = rows.loc[repeated, "problem_id"].iloc[0]
        raise ValueError(
            f"(arm, problem_id) must be unique; ({arm!r}, {problem!r}) occurs more than once. "
            "Select one study, benchmark and checkpoint first, or add up n and c."
        )
    _check_counts(rows, arm)
    for column in values:
        bad = ~np.isfinite(rows[column].to_numpy(dtype=float))
        if bad.any():
            problem = rows.loc[bad, "problem_id"].iloc[0]
            raise ValueError(
                f"column {column!r} must be a finite number; problem {problem!r} of arm {arm!r} has "
                f"{rows.loc[bad, column].iloc[0]} ({int(bad.sum())} such problems). "
                "Leave these problems out and say so."
            )
    return rows.astype({"n": "int64", "c": "int64"})


def pair_arms(counts: pd.DataFrame, first: str, second: str, values: Sequence[str] = ()) -> ArmPair:
    """Join two arms on the problems that both have.

    Parameters
    ----------
    counts
        Counts table.
    first, second
        The two arms.
    values
        Columns needed besides arm, problem_id, n and c.

    Raises
    ------
    ValueError
        As `select_arm`, or if the arms share no problem.
    """
    left, right = select_arm(counts, first, values), select_arm(counts, second, values)
    # Both are ordered by problem, so the shared ones stay in step.
    row_in_left = pd.Index(left["problem_id"]).get_indexer(pd.Index(right["problem_id"]))
    shared = row_in_left >= 0
    if not shared.any():
        raise ValueError(
            f"arms {first!r} ({len(left)} problems) and {second!r} ({len(right)} problems) share no "
            "problem_id. Check that both come from the same benchmark."
        )
    return ArmPair(
        first=left.iloc[row_in_left[shared]].reset_index(drop=True),
        second=right.loc[shared].reset_index(drop=True),
        n_unpaired=len(left) + len(right) - 2 * int(shared.sum()),
    )


def list_arms(counts: pd.DataFrame) -> list[str]:
    """Arms of a counts table in alphabetical order, so that no result depends on the order of rows.

    Parameters
    ----------
    counts
        Counts table with a column arm.
    """
    require_columns(counts, ("arm",), "counts")
    return sorted(str(arm) for arm in counts["arm"].unique())


def _check_counts(rows: pd.DataFrame, arm: str) -> None:
    """Check that n and c are counts, or name the first problem where they are not."""
    n, c = rows["n"].to_numpy(dtype=float), rows["c"].to_numpy(dtype=float)
    whole = (n == np.floor(n)) & (c == np.floor(c))  # NaN compares unequal, so it is caught here
    bad = ~(whole & (n >= 1) & (c >= 0) & (c <= n))
    if bad.any():
        row = rows.loc[bad].iloc[0]
        raise ValueError(
            f"counts must be whole numbers with 0 <= c <= n and n >= 1; problem {row['problem_id']!r} of "
            f"arm {arm!r} has n={row['n']}, c={row['c']}. Correct the row or leave the problem out."
        )
