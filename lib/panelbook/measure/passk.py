"""Pass@k: the chance that at least one of k draws is right.

Pass@k averages, over problems, the chance that k draws contain a correct one. From n >= k draws of which
c are correct, 1 - C(n-c, k) / C(n, k) is its unbiased estimate: the share of the k-subsets of
the draws that hold a correct one. The plug-in 1 - (1 - c/n)^k is biased and not used.

Two arms are compared on the same problems. Their gap at k is the mean over problems of the paired
difference; *closure* is how much the gap changes from one k to another.

Notation: `P` problems, `K` values of k, n draws and c correct draws of a problem.

Not handled: k beyond the number of draws (raises: extrapolation needs a model of the problems), and
grader errors, which pass@k amplifies, since one false positive solves a problem at every larger k.

References
----------
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374, equation 1.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.counts import ArmPair, list_arms, pair_arms, select_arm
from panelbook.measure.uncertainty import (
    ROUNDING,
    Estimate,
    Floats,
    Resampling,
    estimate,
    estimate_many,
    keep_means,
)

OVERLAP = ("both", "first_only", "second_only", "neither")


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of the n draws, chosen without replacement, include one of the c correct ones.

    Parameters
    ----------
    n
        Draws of the problem.
    c
        Correct draws, 0 to n.
    k
        Size of the subset, 1 to n.

    Raises
    ------
    ValueError
        If the counts are impossible or k exceeds n.

    Examples
    --------
    >>> round(pass_at_k(n=6, c=2, k=3), 12)  # 16 of the 20 triples hold a correct draw
    0.8
    """
    return float(pass_at_k_matrix([n], [c], [k])[0, 0])


def pass_at_k_matrix(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Unbiased pass@k of every problem at every k.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.
    ks_K
        Values of k, each from 1 to the smallest n.
    problem_ids_P
        Names for the error message; row numbers where not given.

    Returns
    -------
    Array of shape (P, K), non-decreasing in k.

    Raises
    ------
    ValueError
        If the counts are impossible, or k exceeds the draws of a problem, naming it, n and k.

    Notes
    -----
    C(n-c, k) / C(n, k) is the running product of (n-c-i) / (n-i) for i < k: no factorial overflows and
    the result is exact to about k rounding errors. Problems with equal (n, c) are computed once.
    """
    n, c, ks = (np.asarray(x, dtype=np.int64) for x in (n_P, c_P, ks_K))
    _check(n, c, ks, problem_ids_P)
    if len(ks) == 0:
        return np.empty((len(n), 0))
    # One sortable key per (n, c); c <= n keeps the pairs apart.
    keys, row_of_problem = np.unique(n * (n.max() + 1) + c, return_inverse=True)
    n_distinct, c_distinct = np.divmod(keys, n.max() + 1)
    taken = np.arange(ks.max())
    wrong_left = np.maximum((n_distinct - c_distinct)[:, np.newaxis] - taken, 0)
    # k <= n keeps every ratio that is used meaningful; the floor of 1 guards the unused ones.
    left = np.maximum(n_distinct[:, np.newaxis] - taken, 1)
    all_wrong = np.cumprod(wrong_left / left, axis=1)
    return np.asarray((1.0 - all_wrong)[row_of_problem][:, ks - 1])


def pass_at_k_curve(counts: pd.DataFrame, ks: Sequence[int], resampling: Resampling) -> pd.DataFrame:
    """Pass@k of every arm, averaged over its problems.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    ks
        Values of k, none larger than the draws of any problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, k, estimate, low, high, n_problems, n_draws, method, reason; arms in alphabetical order.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, or the table is malformed.
    """
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        points = estimate_many(
            _matrix(rows, ks), keep_means, resampling, int(rows["n"].sum()), support=(0.0, 1.0)
        )
        table = points.to_frame()
        table.insert(0, "k", list(ks))
        table.insert(0, "arm", arm)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def pass_at_k_gap(
    counts: pd.DataFrame, first: str, second: str, ks: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Paired difference of two arms' pass@k, first minus second.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms; a positive gap means that the first solves more.
    ks
        Values of k, none larger than the draws of any paired problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns k, first, second, gap, low, high, se, t, p, n_problems, n_draws, n_unpaired, method, reason. `se`,
    `t` and `p` are those of the paired t-test with Student's distribution; NaN where the paired
    differences do not vary.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    first_P_K, second_P_K = _matrix(pair.first, ks), _matrix(pair.second, ks)
    points = estimate_many(
        first_P_K - second_P_K,
        keep_means,
        resampling,
        pair.n_draws,
        support=(-1.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    table = points.to_frame().rename(columns={"estimate": "gap"})
    table.insert(0, "second", second_P_K.mean(axis=0))
    table.insert(0, "first", first_P_K.mean(axis=0))
    table.insert(0, "k", list(ks))
    se, t, p = _paired_tests(first_P_K, second_P_K)
    table.insert(6, "se", se)
    table.insert(7, "t", t)
    table.insert(8, "p", p)
    table.insert(11, "n_unpaired", pair.n_unpaired)
    return table


def gap_closure(
    counts: pd.DataFrame, first: str, second: str, k_from: int, k_to: int, resampling: Resampling
) -> Estimate:
    """Change of the gap (first minus second) from one k to another, paired within problems.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, as in `pass_at_k_gap`.
    k_from, k_to
        The two values of k. Positive closure: the first arm gains on the second.
    resampling
        Seed, number of resamples and confidence.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    gaps_P_2 = _matrix(pair.first, (k_from, k_to)) - _matrix(pair.second, (k_from, k_to))
    return estimate(
        gaps_P_2[:, 1:] - gaps_P_2[:, :1],
        lambda means: means[..., 0],
        resampling,
        pair.n_draws,
        support=(-1.0, 1.0),  # pass@k moves by less than 1, and always the same way
        n_unpaired=pair.n_unpaired,
    )


def failure_ratio(counts: pd.DataFrame, first: str, second: str, k: int, resampling: Resampling) -> Estimate:
    """Ratio of the two arms' chances to fail on all k draws, first over second.

    A gap in probability must close where both curves approach 1; this ratio has no such ceiling, so a gap
    that closes in probability and opens here has closed because of the ceiling.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, as in `pass_at_k_gap`.
    k
        Number of draws.
    resampling
        Seed, number of resamples and confidence.

    Returns
    -------
    (1 - pass@k of the first) / (1 - pass@k of the second); NaN, with the reason, where the second never
    fails.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    failures_P_2 = 1.0 - np.hstack([_matrix(pair.first, (k,)), _matrix(pair.second, (k,))])
    return estimate(
        failures_P_2,
        lambda means: means[..., 0] / means[..., 1],
        resampling,
        pair.n_draws,
        n_unpaired=pair.n_unpaired,
    )


def failure_ratio_change(
    counts: pd.DataFrame, first: str, second: str, k_from: int, k_to: int, resampling: Resampling
) -> Estimate:
    """Factor by which `failure_ratio` changes from one k to another: below 1 the gap closes, above 1 it opens.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, as in `pass_at_k_gap`.
    k_from, k_to
        The two values of k.
    resampling
        Seed, number of resamples and confidence.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    ks = (k_from, k_to)
    failures_P_4 = 1.0 - np.hstack([_matrix(pair.first, ks), _matrix(pair.second, ks)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(
            failures_P_4,
            lambda means: (means[..., 1] / means[..., 3]) / (means[..., 0] / means[..., 2]),
            resampling,
            pair.n_draws,
            n_unpaired=pair.n_unpaired,
        )


def is_monotone(values: npt.ArrayLike, tolerance: float = 1e-12) -> bool:
    """Check that values never decrease by more than rounding.

    Parameters
    ----------
    values
        Values in order, as gaps at growing k.
    tolerance
        Decrease that still counts as rounding.

    Examples
    --------
    >>> is_monotone([-0.5, -0.4, -0.4]), is_monotone([-0.5, -0.6])
    (True, False)
    """
    return bool(np.all(np.diff(np.asarray(values, dtype=float)) >= -tolerance))


def max_common_k(counts: pd.DataFrame, arms: Sequence[str] | None = None) -> int:
    """Largest k that every problem of every arm has draws for.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    arms
        Arms to consider; all of them where not given.

    Raises
    ------
    ValueError
        If an arm has no rows or the table is malformed.
    """
    chosen = list_arms(counts) if arms is None else arms
    return min(int(select_arm(counts, arm)["n"].min()) for arm in chosen)


def solved_overlap(counts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> pd.DataFrame:
    """Which problems each arm solved at least once, with all the draws it had.

    An arm with more draws had more chances; `expected_overlap` compares at equal draws.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Four rows, `outcome` both, first_only, second_only, neither; columns count, share, low, high, n_problems,
    n_draws, n_unpaired, method, reason, problem_ids (list).

    Raises
    ------
    ValueError
        If the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    member_P_4 = _overlap(*((rows["c"].to_numpy() > 0).astype(float) for rows in (pair.first, pair.second)))
    table = _overlap_table(member_P_4, pair, resampling)
    ids = pair.first["problem_id"].to_numpy()
    table["count"] = member_P_4.sum(axis=0).astype(int)
    table["problem_ids"] = [ids[column > 0].tolist() for column in member_P_4.T]
    return table


def expected_overlap(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling, n_draws: int | None = None
) -> pd.DataFrame:
    """Overlap of the solved sets to expect if both arms had the same number m of draws.

    A problem is solved within m draws with probability pass@m, and the two arms' draws are
    independent given the problem, so the chance that both solve it is the product.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled.
    n_draws
        m, at most the draws of either arm; for each problem the smaller of its two numbers of draws
        where not given.

    Returns
    -------
    As `solved_overlap`, with `count` an expectation and `matched_draws` (the mean of m) in place of
    problem_ids.

    Raises
    ------
    ValueError
        If m exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    if n_draws is None:
        matched = np.minimum(pair.first["n"].to_numpy(), pair.second["n"].to_numpy())
    else:
        matched = np.full(len(pair.first), n_draws, dtype=np.int64)
    solved = []
    for rows in (pair.first, pair.second):
        chance = np.empty(len(rows))
        for m in np.unique(matched):
            at_m = matched == m
            chance[at_m] = _matrix(rows[at_m], [int(m)])[:, 0]
        solved.append(chance)
    table = _overlap_table(_overlap(*solved), pair, resampling)
    table["matched_draws"] = float(matched.mean())
    return table


def _check(
    n: npt.NDArray[np.int64],
    c: npt.NDArray[np.int64],
    ks: npt.NDArray[np.int64],
    problem_ids: Sequence[object] | None,
) -> None:
    """Check that these are counts and that every k has enough draws; name the problem otherwise."""
    if n.ndim != 1 or n.shape != c.shape or ks.ndim != 1:
        raise ValueError(
            f"n_P and c_P need one shape (P,) and ks_K (K,); got {n.shape}, {c.shape}, {ks.shape}."
        )
    if len(ks) and ks.min() < 1:
        raise ValueError(f"k must be 1 or more; got k={ks.min()}. A draw is needed to pass.")
    if len(n) == 0:
        raise ValueError("no problems: pass@k needs at least one. Check the selection of rows.")
    impossible = np.flatnonzero((c < 0) | (c > n) | (n < 1))
    short = np.flatnonzero(n < ks.max(initial=0))
    for rows, complaint in (
        (impossible, "correct draws must lie between 0 and n, with n >= 1"),
        (short, "k must not exceed the draws of each problem"),
    ):
        if len(rows):
            row = rows[0]
            name = repr(problem_ids[row]) if problem_ids is not None else f"in row {row}"
            seen = f"c={c[row]}" if rows is impossible else f"k={ks.max()}"
            step = "Correct the row." if rows is impossible else "Lower k, or draw more completions."
            raise ValueError(f"{complaint}; problem {name} has n={n[row]}, {seen}. {step}")


def _matrix(rows: pd.DataFrame, ks: Sequence[int]) -> Floats:
    """Pass@k of the rows of one arm."""
    return pass_at_k_matrix(rows["n"].to_numpy(), rows["c"].to_numpy(), ks, rows["problem_id"].tolist())


def _paired_tests(first_P_K: Floats, second_P_K: Floats) -> Floats:
    """Compute se, t and p of paired t-tests, shape (3, K); NaN where the differences do not vary."""
    difference = first_P_K - second_P_K
    varies = np.ptp(difference, axis=0) > ROUNDING
    results = np.full((3, difference.shape[1]), np.nan)
    if varies.any():
        test = stats.ttest_rel(first_P_K[:, varies], second_P_K[:, varies])
        results[:, varies] = stats.sem(difference[:, varies]), test.statistic, test.pvalue
    return results


def _overlap(first_P: Floats, second_P: Floats) -> Floats:
    """Chance of each outcome of `OVERLAP` from two independent chances of solving, shape (P, 4)."""
    return np.column_stack(
        [
            first_P * second_P,
            first_P * (1.0 - second_P),
            (1.0 - first_P) * second_P,
            (1.0 - first_P) * (1.0 - second_P),
        ]
    )


def _overlap_table(member_P_4: Floats, pair: ArmPair, resampling: Resampling) -> pd.DataFrame:
    """Shares of the four outcomes with intervals."""
    shares = estimate_many(
        member_P_4,
        keep_means,
        resampling,
        pair.n_draws,
        support=(0.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    table = shares.to_frame().rename(columns={"estimate": "share"})
    table.insert(0, "count", member_P_4.sum(axis=0))
    table.insert(0, "outcome", list(OVERLAP))
    table.insert(7, "n_unpaired", pair.n_unpaired)
    return table
