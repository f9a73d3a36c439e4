"""Climb: whether training moved accuracy, and by how much more than chance.

Two kinds of record. *Held-out ticks* give, for each checkpoint and source, how many of its
problems were solved in one draw each, without saying which: `heldout_trajectory` and `climb_gain`. *Training
curves* give one row per batch and no problem at all: `rolling_mean`, `training_change` and
`training_ratio`, whose intervals resample batches because nothing finer survives.

Where the draws of every held-out problem are known, use `passk` and pair by problem: it is sharper.

Not handled: the choice of the best tick after seeing all of them, and trends within a window.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from panelbook.measure.counts import require_columns
from panelbook.measure.uncertainty import (
    Estimate,
    Pairing,
    Resampling,
    Statistic,
    estimate,
    estimate_count_difference,
    estimate_share,
)

ALL_SOURCES = "all"


def heldout_trajectory(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Accuracy at each step, for each source and for all of them, with exact intervals.

    Parameters
    ----------
    table
        One row per (step, source): step, source, n_problems, c; one draw for each problem.
    confidence
        Nominal coverage of the Clopper-Pearson intervals.

    Returns
    -------
    Columns step, source, n_problems, n_draws, c, share, low, high, method, ordered by step and source;
    the source "all" adds up the others. Its interval ignores the strata and is a little wide for it.

    Raises
    ------
    ValueError
        If a column is missing, a (step, source) occurs twice, or a count is impossible.
    """
    rows = _check_ticks(table)
    if (rows["source"] == ALL_SOURCES).any():
        raise ValueError(f"source {ALL_SOURCES!r} is the name of the total. Leave it out of the table.")
    totals = rows.groupby("step", as_index=False, sort=True)[["n_problems", "c"]].sum()
    totals["source"] = ALL_SOURCES
    both = pd.concat([rows, totals], ignore_index=True)
    both = both.sort_values(["step", "source"], kind="stable", ignore_index=True)
    shares = [
        estimate_share(int(c), int(n), confidence) for c, n in zip(both["c"], both["n_problems"], strict=True)
    ]
    return both[["step", "source", "n_problems"]].assign(
        n_draws=both["n_problems"],
        c=both["c"],
        share=[share.value for share in shares],
        low=np.array([share.low for share in shares], dtype=float),
        high=np.array([share.high for share in shares], dtype=float),
        method=[share.method for share in shares],
    )


def climb_gain(
    table: pd.DataFrame,
    step_from: int,
    step_to: int,
    resampling: Resampling,
    pairing: Pairing = "independent",
) -> Estimate:
    """Gain in held-out accuracy between two steps, stratified by source.

    Parameters
    ----------
    table
        One row per (step, source): step, source, n_problems, c; one draw for each problem.
    step_from, step_to
        Steps to compare, both in the table with the same sources and problems.
    resampling
        Seed, number of resamples and confidence; problems are resampled within sources.
    pairing
        Which problems were solved at both steps is not recorded; "independent" is what counts support,
        "most_agreement" and "least_agreement" are the Fréchet extremes.

    Raises
    ------
    ValueError
        If a step is missing, its sources or problems differ, or the table is malformed.

    Examples
    --------
    >>> ticks = pd.DataFrame({"step": [0, 90], "source": "amc", "n_problems": 25, "c": [8, 13]})
    >>> climb_gain(ticks, 0, 90, Resampling(seed=1)).value
    0.2
    """
    rows = _check_ticks(table)
    looks = []
    for step in (step_from, step_to):
        look = rows.loc[rows["step"] == step].sort_values("source", ignore_index=True)
        if look.empty:
            steps = ", ".join(map(str, sorted(rows["step"].unique())))
            raise ValueError(f"step {step} is not in the table; it has {steps}. Choose one of these.")
        looks.append(look)
    before, after = looks
    if not before[["source", "n_problems"]].equals(after[["source", "n_problems"]]):
        raise ValueError(
            f"steps {step_from} and {step_to} must cover the same sources and problems; they have "
            f"{dict(zip(before['source'], before['n_problems'], strict=True))} and "
            f"{dict(zip(after['source'], after['n_problems'], strict=True))}. "
            "Restrict both to what they share."
        )
    return estimate_count_difference(
        before["c"].to_numpy(), after["c"].to_numpy(), before["n_problems"].to_numpy(), resampling, pairing
    )


def rolling_mean(train: pd.DataFrame, column: str, window: int) -> pd.DataFrame:
    """Mean of a training metric over the last `window` batches.

    Parameters
    ----------
    train
        Training table: step and the column.
    column
        Metric to smooth.
    window
        Batches in the mean, at least 1.

    Returns
    -------
    Columns step, `column`, rolling, ordered by step; rolling is NaN until `window` batches are there.

    Raises
    ------
    ValueError
        If a column is missing, a step occurs twice, or the window does not fit.
    """
    rows = _check_training(train, column)
    if not 1 <= window <= len(rows):
        raise ValueError(f"window must lie between 1 and the {len(rows)} batches; it is {window}.")
    return rows.assign(rolling=rows[column].rolling(window).mean())


def training_change(
    train: pd.DataFrame, column: str, first_steps: int, last_steps: int, resampling: Resampling
) -> Estimate:
    """Mean of a metric over the last batches minus its mean over the first.

    Parameters
    ----------
    train
        Training table: step and the column, one row per batch.
    column
        Metric, as correct, reward, tag_valid, mean_tokens, entropy or share_mixed.
    first_steps, last_steps
        Number of batches in the two windows, which must not overlap.
    resampling
        Seed, number of resamples and confidence; batches are resampled within each window, as
        if they were independent: problems are not tracked, and neighbouring batches share a policy.

    Raises
    ------
    ValueError
        If a column is missing, a step occurs twice, a value is not finite, or the windows do not fit.
    """
    return _compare_windows(
        train, column, first_steps, last_steps, resampling, lambda m: m[..., 1] - m[..., 0]
    )


def training_ratio(
    train: pd.DataFrame, column: str, first_steps: int, last_steps: int, resampling: Resampling
) -> Estimate:
    """Mean of a metric over the last batches divided by its mean over the first.

    Parameters
    ----------
    train
        Training table: step and the column, one row per batch.
    column
        Metric with positive means.
    first_steps, last_steps
        Number of batches in the two windows, which must not overlap.
    resampling
        As in `training_change`.

    Raises
    ------
    ValueError
        As `training_change`.
    """
    return _compare_windows(
        train, column, first_steps, last_steps, resampling, lambda m: m[..., 1] / m[..., 0]
    )


def _compare_windows(
    train: pd.DataFrame,
    column: str,
    first_steps: int,
    last_steps: int,
    resampling: Resampling,
    statistic: Statistic,
) -> Estimate:
    """Compare the first and the last window; each is a stratum of batches."""
    rows = _check_training(train, column)
    if min(first_steps, last_steps) < 1 or first_steps + last_steps > len(rows):
        raise ValueError(
            f"the windows ({first_steps} first, {last_steps} last) must each hold a batch and not overlap; "
            f"there are {len(rows)} batches. Choose smaller windows."
        )
    values = rows[column].to_numpy(dtype=float)
    n_batches = first_steps + last_steps
    # Scaled so that the mean over all rows is the mean over one window.
    windows = np.zeros((n_batches, 2))
    windows[:first_steps, 0] = values[:first_steps] * n_batches / first_steps
    windows[first_steps:, 1] = values[-last_steps:] * n_batches / last_steps
    in_last = np.arange(n_batches) >= first_steps
    result = estimate(windows, statistic, resampling, None, in_last, unit="batches")
    method = result.method if result.reason else f"{result.method}; problems are not tracked"
    return replace(result, n_problems=None, method=method)


def _check_ticks(table: pd.DataFrame) -> pd.DataFrame:
    """Check the held-out table; counts themselves are checked where they are used."""
    columns = ["step", "source", "n_problems", "c"]
    require_columns(table, columns, "held-out")
    repeated = table.duplicated(["step", "source"])
    if repeated.any():
        row = table.loc[repeated].iloc[0]
        raise ValueError(
            f"(step, source) must be unique; ({row['step']}, {row['source']!r}) occurs more than once. "
            "Select one arm and run first."
        )
    return table[columns].reset_index(drop=True)


def _check_training(train: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of one metric in the order of steps, each step once, each value finite."""
    require_columns(train, ("step", column), "training")
    rows = train[["step", column]].sort_values("step", kind="stable", ignore_index=True)
    repeated = rows["step"].duplicated()
    if repeated.any():
        raise ValueError(
            f"steps must be unique; step {rows.loc[repeated, 'step'].iloc[0]} occurs more than once. "
            "Select one arm and run first."
        )
    bad = ~np.isfinite(rows[column].to_numpy(dtype=float))
    if bad.any():
        raise ValueError(
            f"column {column!r} must be finite; at step {rows.loc[bad, 'step'].iloc[0]} it is "
            f"{rows.loc[bad, column].iloc[0]}. Leave such batches out and say so."
        )
    return rows


def expected_visits(pool: pd.DataFrame, n_visits: int) -> pd.DataFrame:
    """How often each training problem is visited when sources are taken in turn.

    A strict round robin gives every source the same number of visits, whatever its share of the problems;
    the smaller a source, the more often each of its problems comes back.

    Parameters
    ----------
    pool
        Training problems: problem_id, source.
    n_visits
        Visits in all, one per group: training steps times groups per step.

    Returns
    -------
    Columns source, problems, share_of_problems, visits, share_of_visits, visits_per_problem; most
    problems first.

    Raises
    ------
    ValueError
        If a column is missing, the pool is empty or there are no visits.
    """
    require_columns(pool, ["problem_id", "source"], "pool")
    if pool.empty or n_visits < 1:
        raise ValueError(
            f"visits need problems and a positive number; there are {len(pool)} problems and {n_visits} "
            "visits. Check the arm's training split and the training table."
        )
    problems = (
        pool.groupby("source", observed=True)["problem_id"]
        .nunique()
        .sort_values(ascending=False, kind="stable")
    )
    visits = n_visits / len(problems)
    return pd.DataFrame(
        {
            "source": problems.index,
            "problems": problems.to_numpy(),
            "share_of_problems": (problems / problems.sum()).to_numpy(),
            "visits": visits,
            "share_of_visits": 1 / len(problems),
            "visits_per_problem": (visits / problems).to_numpy(),
        }
    )
