"""Variance bands: which problems a group of draws can learn from.

Group-relative training compares the draws of one problem with each other; a group that is all wrong or
all right carries no signal by outcome. The *variance band* is the set of problems with mixed
outcomes in n draws. Membership depends on n: the more draws, the more problems are mixed, so
bands are compared at equal n only, and `expected_mixed_share` gives the share at any group size G <= n.

Notation: `P` problems, G draws in a group.

Not handled: rewards with more than the outcome in them (a tag penalty can vary where outcomes do not).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.agreement import exact_mcnemar
from panelbook.measure.counts import ArmPair, list_arms, pair_arms, require_columns, select_arm
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Floats, Resampling, estimate_many, keep_means

BANDS = ("all_zero", "variance_band", "all_one")


def classify_band(n: npt.ArrayLike, c: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Band of each problem: all_zero (c = 0), variance_band (0 < c < n) or all_one (c = n).

    Parameters
    ----------
    n, c
        Draws and correct draws of each problem.

    Raises
    ------
    ValueError
        If the counts are impossible.

    Examples
    --------
    >>> classify_band([8, 8, 8], [0, 3, 8]).tolist()
    ['all_zero', 'variance_band', 'all_one']
    """
    return np.array(BANDS)[_band_codes(n, c)]


def band_shares(counts: pd.DataFrame, resampling: Resampling, by: str | None = None) -> pd.DataFrame:
    """Share of each arm's problems in each band.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, and `by` where given.
    resampling
        Seed, number of resamples and confidence; problems are resampled.
    by
        Column to split the problems by, as "source"; None for all together.

    Returns
    -------
    Columns arm, (`by`,) band, count, share, low, high, n_problems, n_draws, method, reason; three
    rows for each arm and group, also where a band is empty.

    Raises
    ------
    ValueError
        If a column is missing or the table is malformed.
    """
    if by is not None:
        require_columns(counts, (by,), "counts")
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        groups = [(None, rows)] if by is None else list(rows.groupby(by, sort=True, observed=True))
        for group, members in groups:
            inside_P_3 = _band_members(members)
            shares = estimate_many(
                inside_P_3, keep_means, resampling, int(members["n"].sum()), support=(0.0, 1.0)
            )
            table = shares.to_frame().rename(columns={"estimate": "share"})
            table.insert(0, "count", inside_P_3.sum(axis=0).astype(int))
            table.insert(0, "band", list(BANDS))
            if by is not None:
                table.insert(0, by, group)
            table.insert(0, "arm", arm)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def joint_bands(counts: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Count problems by the band they fall in for two arms.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, with equal n on every shared problem.

    Returns
    -------
    3 x 3 counts, first arm's bands down and second arm's across, empty cells included; `attrs` holds
    n_unpaired, the problems that only one arm has.

    Raises
    ------
    ValueError
        If the arms share no problem, draws are unequal, or the table is malformed.
    """
    pair = _pair_at_equal_n(counts, first, second)
    table = pd.DataFrame(
        (_band_members(pair.first).T @ _band_members(pair.second)).astype(int),
        index=pd.Index(BANDS, name=first),
        columns=pd.Index(BANDS, name=second),
    )
    table.attrs["n_unpaired"] = pair.n_unpaired
    return table


def compare_bands(counts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> pd.DataFrame:
    """Compare two arms' band shares on the same problems.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, with equal n on every shared problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    One row per band: band, first_share, second_share, difference (first minus second) with
    difference_low and difference_high, ratio (first over second) with ratio_low and ratio_high,
    first_only and second_only (problems in the band for one arm but not for the other), p_mcnemar
    (exact), n_problems, n_draws, n_unpaired, method, difference_reason, ratio_reason.

    Raises
    ------
    ValueError
        If the arms share no problem, draws are unequal, or the table is malformed.

    Notes
    -----
    McNemar's exact test asks whether the problems on which the arms disagree fall evenly: a binomial
    test of first_only among first_only + second_only at 1/2. With no disagreement p is 1.
    """
    pair = _pair_at_equal_n(counts, first, second)
    first_P_3, second_P_3 = _band_members(pair.first), _band_members(pair.second)
    difference = estimate_many(
        first_P_3 - second_P_3, keep_means, resampling, pair.n_draws, support=(-1.0, 1.0)
    )
    ratio = estimate_many(
        np.hstack([first_P_3, second_P_3]), lambda m: m[..., :3] / m[..., 3:], resampling, pair.n_draws
    )
    first_only = ((first_P_3 == 1) & (second_P_3 == 0)).sum(axis=0)
    second_only = ((first_P_3 == 0) & (second_P_3 == 1)).sum(axis=0)
    return pd.DataFrame(
        {
            "band": BANDS,
            "first_share": first_P_3.mean(axis=0),
            "second_share": second_P_3.mean(axis=0),
            "difference": difference.value_M,
            "difference_low": difference.low_M,
            "difference_high": difference.high_M,
            "ratio": ratio.value_M,
            "ratio_low": ratio.low_M,
            "ratio_high": ratio.high_M,
            "first_only": first_only,
            "second_only": second_only,
            "p_mcnemar": [
                exact_mcnemar(int(a), int(b)) for a, b in zip(first_only, second_only, strict=True)
            ],
            "n_problems": len(pair.first),
            "n_draws": pair.n_draws,
            "n_unpaired": pair.n_unpaired,
            "method": difference.method_M,
            "difference_reason": difference.reason_M,
            "ratio_reason": ratio.reason_M,
        }
    )


def mixed_group_probability(
    n: npt.ArrayLike,
    c: npt.ArrayLike,
    group_size: int,
    problem_ids: Sequence[object] | None = None,
) -> Floats:
    """Unbiased chance that a group of G draws has both a correct and a wrong one.

    Parameters
    ----------
    n, c
        Draws and correct draws of each problem, numbers or arrays of shape (P,).
    group_size
        G, from 1 to the smallest n.
    problem_ids
        Names for the error message; row numbers where not given.

    Returns
    -------
    Array of shape (P,).

    Raises
    ------
    ValueError
        If the counts are impossible, or G exceeds the draws of a problem, naming it (as k).

    Notes
    -----
    1 - [C(c, G) + C(n-c, G)] / C(n, G): one minus the shares of all-correct and of all-wrong groups, which is
    the chance of a correct draw plus the chance of a wrong one, less one.

    Examples
    --------
    >>> mixed_group_probability(4, 2, group_size=2).round(12).tolist()  # 4 of the 6 pairs are mixed
    [0.666666666667]
    """
    draws, correct = np.atleast_1d(n), np.atleast_1d(c)
    some_right = pass_at_k_matrix(draws, correct, [group_size], problem_ids)[:, 0]
    some_wrong = pass_at_k_matrix(draws, draws - correct, [group_size], problem_ids)[:, 0]
    # Rounding can leave a group that cannot be mixed a hair below zero.
    return np.maximum(some_right + some_wrong - 1.0, 0.0)


def expected_mixed_share(
    counts: pd.DataFrame, group_sizes: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Share of mixed groups to expect at each group size, when problems are visited evenly.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    group_sizes
        Values of G, none larger than the draws of any problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, group_size, estimate, low, high, n_problems, n_draws, method, reason.

    Raises
    ------
    ValueError
        If G exceeds the draws of a problem, or the table is malformed.
    """
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        n, c, ids = rows["n"].to_numpy(), rows["c"].to_numpy(), rows["problem_id"].tolist()
        mixed_P_G = np.column_stack([mixed_group_probability(n, c, size, ids) for size in group_sizes])
        points = estimate_many(mixed_P_G, keep_means, resampling, int(n.sum()), support=(0.0, 1.0))
        table = points.to_frame()
        table.insert(0, "group_size", list(group_sizes))
        table.insert(0, "arm", arm)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _band_codes(n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Position in `BANDS` of each problem."""
    n, c = np.atleast_1d(np.asarray(n_P, dtype=np.int64)), np.atleast_1d(np.asarray(c_P, dtype=np.int64))
    bad = np.flatnonzero((n < 1) | (c < 0) | (c > n))
    if len(bad):
        row = bad[0]
        raise ValueError(
            f"a band needs 0 <= c <= n and n >= 1; row {row} has n={n[row]}, c={c[row]}. Correct the row."
        )
    return np.where(c == 0, 0, np.where(c == n, 2, 1))


def _band_members(rows: pd.DataFrame) -> Floats:
    """One-hot bands of the rows of one arm, shape (P, 3)."""
    return np.eye(len(BANDS))[_band_codes(rows["n"].to_numpy(), rows["c"].to_numpy())]


def _pair_at_equal_n(counts: pd.DataFrame, first: str, second: str) -> ArmPair:
    """Pair two arms, insisting on equal draws: a band at n = 4 is not a band at n = 8."""
    pair = pair_arms(counts, first, second)
    unequal = pair.first["n"].to_numpy() != pair.second["n"].to_numpy()
    if unequal.any():
        row = int(np.flatnonzero(unequal)[0])
        raise ValueError(
            f"bands compare at equal draws only; problem {pair.first['problem_id'].iloc[row]!r} has "
            f"n={pair.first['n'].iloc[row]} for {first!r} and n={pair.second['n'].iloc[row]} for {second!r}. "
            "Use expected_mixed_share at a common group size."
        )
    return pair
