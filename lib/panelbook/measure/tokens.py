"""Tokens: what each arm spends, and what the spending buys.

Lengths are compared within problems, because long problems make long completions in every arm. Two
levels of record: counts with mean tokens per problem, which suffice for ratios and for cost per correct
answer, and single draws, which can also be split by whether the paired draws were right.

Ratios here are *second over first*: with the panel first and thinking second, 6.9 reads "thinking writes
6.9 times as much". Draws of one problem are exchangeable, so which draw of one arm is paired with which
of the other is arbitrary; intervals resample problems, never pairs of draws.

Notation: `P` problems.

Not handled: latency, the price of prompt tokens, and completions cut at the token limit, whose length
is the limit's and not the arm's.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.counts import pair_arms, require_columns, select_arm
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import (
    Estimate,
    Floats,
    Ints,
    Resampling,
    estimate,
    estimate_many,
    estimate_median,
)

# In the order of 2 * (first wrong) + (second wrong).
BUCKETS = ("both", "first_only", "second_only", "neither")


@dataclass(frozen=True)
class LengthComparison:
    """Mean completion lengths of two arms on the same problems.

    Parameters
    ----------
    first_mean, second_mean
        Mean over problems of the mean tokens per draw.
    ratio_of_means
        Second mean over first mean: dominated by the longest problems.
    geometric_mean_ratio
        Geometric mean over problems of second over first: every problem counts alike.
    median_ratio
        Median over problems of second over first.
    share_second_longer
        Share of problems on which the second arm's mean is larger.
    wilcoxon_w, wilcoxon_p
        Wilcoxon signed-rank test on the problem means (smaller rank sum, two-sided p); NaN where
        no problem differs.
    n_problems, n_unpaired
        Problems that both arms have, and those that only one has.
    """

    first_mean: Estimate
    second_mean: Estimate
    ratio_of_means: Estimate
    geometric_mean_ratio: Estimate
    median_ratio: Estimate
    share_second_longer: Estimate
    wilcoxon_w: float
    wilcoxon_p: float
    n_problems: int
    n_unpaired: int


@dataclass(frozen=True)
class CostComparison:
    """Tokens per correct answer of two arms.

    Parameters
    ----------
    first, second
        Tokens of all draws per correct draw of each arm.
    ratio
        Second over first.
    """

    first: Estimate
    second: Estimate
    ratio: Estimate


def compare_lengths(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling
) -> LengthComparison:
    """Compare two arms' mean completion lengths problem by problem.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens (positive).
    first, second
        Arms; ratios are second over first.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Raises
    ------
    ValueError
        If a length is missing or not positive, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    first_P, second_P = _lengths(pair.first, first), _lengths(pair.second, second)
    log_ratio_P = np.log(second_P / first_P)
    n_draws, unpaired = pair.n_draws, pair.n_unpaired
    lengths = estimate_many(
        np.column_stack([first_P, second_P, log_ratio_P]),
        _length_outputs,
        resampling,
        n_draws,
        n_unpaired=unpaired,
    )
    longer = estimate(
        (second_P > first_P).astype(float)[:, np.newaxis],
        lambda means: means[..., 0],
        resampling,
        n_draws,
        support=(0.0, 1.0),
        n_unpaired=unpaired,
    )
    differs = bool(np.any(second_P != first_P))
    test = stats.wilcoxon(second_P, first_P) if differs else None
    return LengthComparison(
        first_mean=replace(lengths[0], n_draws=int(pair.first["n"].sum())),
        second_mean=replace(lengths[1], n_draws=int(pair.second["n"].sum())),
        ratio_of_means=lengths[2],
        geometric_mean_ratio=lengths[3],
        median_ratio=estimate_median(second_P / first_P, resampling, n_draws, n_unpaired=unpaired),
        share_second_longer=longer,
        wilcoxon_w=float(test.statistic) if test is not None else np.nan,
        wilcoxon_p=float(test.pvalue) if test is not None else np.nan,
        n_problems=len(first_P),
        n_unpaired=unpaired,
    )


def cost_per_correct(counts: pd.DataFrame, arm: str, resampling: Resampling) -> Estimate:
    """Tokens spent on all draws per correct draw, wrong draws paid for.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    arm
        Arm.
    resampling
        Seed, number of resamples and confidence; tokens and correct draws of a problem stay together.

    Returns
    -------
    sum(n * mean_tokens) / sum(c); NaN, with the reason, where no draw is correct.

    Raises
    ------
    ValueError
        If a length is missing or not positive, or the table is malformed.

    Examples
    --------
    >>> counts = pd.DataFrame(
    ...     {"arm": "panel", "problem_id": ["a", "b"], "n": 4, "c": [3, 1], "mean_tokens": [10.0, 30.0]}
    ... )
    >>> cost_per_correct(counts, "panel", Resampling(seed=1)).value  # (40 + 120) tokens for 4
    40.0
    """
    rows = select_arm(counts, arm, ("mean_tokens",))
    return estimate(
        _spent_and_correct(rows, arm), lambda m: m[..., 0] / m[..., 1], resampling, int(rows["n"].sum())
    )


def compare_cost(counts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> CostComparison:
    """Tokens per correct draw of two arms on the problems that both have, and their ratio.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second
        Arms; the ratio is second over first.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Raises
    ------
    ValueError
        If a length is missing or not positive, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    left, right = _spent_and_correct(pair.first, first), _spent_and_correct(pair.second, second)
    n_left, n_right, unpaired = int(pair.first["n"].sum()), int(pair.second["n"].sum()), pair.n_unpaired
    return CostComparison(
        first=estimate(left, lambda m: m[..., 0] / m[..., 1], resampling, n_left, n_unpaired=unpaired),
        second=estimate(right, lambda m: m[..., 0] / m[..., 1], resampling, n_right, n_unpaired=unpaired),
        ratio=estimate(
            np.hstack([left, right]),
            lambda m: (m[..., 2] / m[..., 3]) / (m[..., 0] / m[..., 1]),
            resampling,
            pair.n_draws,
            n_unpaired=unpaired,
        ),
    )


def compare_at_equal_tokens(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling
) -> tuple[int, Estimate]:
    """Pass@k of the first arm minus pass@1 of the second, k draws of the first costing no more than one of the second.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second
        The arm with the shorter completions and the other.
    resampling
        Seed, number of resamples and confidence.

    Returns
    -------
    k, the largest number of first-arm draws whose mean tokens fit in those of one second-arm draw and which every
    problem has; and the paired difference at that k.

    Raises
    ------
    ValueError
        If one draw of the first arm already costs more, a length is missing, or the table is malformed.
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    costs = [
        float((arm["n"] * arm["mean_tokens"]).sum() / arm["n"].sum()) for arm in (pair.first, pair.second)
    ]
    k = min(int(costs[1] // costs[0]), int(pair.first["n"].min()))
    if k < 1:
        raise ValueError(
            f"one draw of {first!r} costs {costs[0]:,.0f} tokens, more than one of {second!r} with {costs[1]:,.0f}. "
            "Swap the arms."
        )
    many = pass_at_k_matrix(pair.first["n"], pair.first["c"], [k], pair.first["problem_id"].tolist())
    one = pass_at_k_matrix(pair.second["n"], pair.second["c"], [1], pair.second["problem_id"].tolist())
    difference = estimate(
        many - one,
        lambda means: means[..., 0],
        resampling,
        pair.n_draws,
        support=(-1.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    return k, difference


def pair_draws(rollouts: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Pair two arms' draws by problem and sample number.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, sample_id (whole numbers), completion_tokens, and either
        `correct` (true or false) or `status` (the draw is correct where it says "correct").
    first, second
        Arms.

    Returns
    -------
    Columns problem_id, sample_id, first_correct, second_correct, first_tokens, second_tokens, ordered by
    problem and sample; `attrs` holds n_unpaired, the draws of either arm that have no partner.

    Raises
    ------
    ValueError
        If a column is missing, an arm has no rows or a (problem_id, sample_id) twice, or no draw pairs.
    """
    outcome = "correct" if "correct" in rollouts.columns else "status"
    require_columns(rollouts, ("arm", "problem_id", "sample_id", "completion_tokens"), "rollouts")
    if outcome not in rollouts.columns:
        raise ValueError("the rollouts table needs a column 'correct' or 'status'. Grade the draws first.")
    arm_of_draw = rollouts["arm"]
    # Integer keys instead of a join on strings: a join of a million draws would take seconds.
    codes, problems = pd.factorize(rollouts["problem_id"], sort=True)
    samples = rollouts["sample_id"].to_numpy()
    if not np.issubdtype(samples.dtype, np.integer) or (len(samples) and samples.min() < 0):
        raise ValueError(
            f"sample_id must hold whole numbers from 0; its type is {samples.dtype}. Number the draws."
        )
    width = int(samples.max(initial=0)) + 1
    keys = codes.astype(np.int64) * width + samples
    positions, arm_keys = [], []
    for arm in (first, second):
        rows = np.flatnonzero((arm_of_draw == arm).to_numpy())
        if len(rows) == 0:
            raise ValueError(f"arm {arm!r} has no draws in the rollouts table. Check the arm's name.")
        rows = rows[np.argsort(keys[rows], kind="stable")]
        repeated = np.flatnonzero(np.diff(keys[rows]) == 0)
        if len(repeated):
            code, sample = divmod(int(keys[rows[repeated[0]]]), width)
            raise ValueError(
                f"(arm, problem_id, sample_id) must be unique; ({arm!r}, {problems[code]!r}, {sample}) "
                "occurs more than once. Select one run and checkpoint first."
            )
        positions.append(rows)
        arm_keys.append(keys[rows])
    shared, left, right = np.intersect1d(arm_keys[0], arm_keys[1], assume_unique=True, return_indices=True)
    if len(shared) == 0:
        raise ValueError(
            f"arms {first!r} and {second!r} share no (problem_id, sample_id). Check both tables."
        )
    first_rows, second_rows = positions[0][left], positions[1][right]
    correct = (
        rollouts[outcome].to_numpy() if outcome == "correct" else (rollouts["status"] == "correct").to_numpy()
    )
    correct, tokens = correct.astype(bool), rollouts["completion_tokens"].to_numpy(dtype=float)
    pairs = pd.DataFrame(
        {
            "problem_id": problems.take(codes[first_rows]),
            "sample_id": samples[first_rows],
            "first_correct": correct[first_rows],
            "second_correct": correct[second_rows],
            "first_tokens": tokens[first_rows],
            "second_tokens": tokens[second_rows],
        }
    )
    pairs.attrs["n_unpaired"] = len(positions[0]) + len(positions[1]) - 2 * len(shared)
    return pairs


def bucket_draws(rollouts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> pd.DataFrame:
    """Compare lengths of paired draws, split by which of the two was right.

    Parameters
    ----------
    rollouts
        One row per draw, as for `pair_draws`; tokens must be positive.
    first, second
        Arms; ratios are second over first.
    resampling
        Seed, number of resamples and confidence; the problems of a bucket are resampled, each with
        all its pairs.

    Returns
    -------
    Four rows, `bucket` both, first_only, second_only, neither; columns n_pairs, n_draws, n_problems,
    first_mean, first_median, second_mean, second_median, ratio_median, share_second_longer,
    ratio_of_means and ratio_geomean each with _low and _high, method, reason, n_unpaired (draws
    without a partner).

    Raises
    ------
    ValueError
        As `pair_draws`, or if a draw has no tokens.
    """
    pairs = pair_draws(rollouts, first, second)
    first_tokens, second_tokens = pairs["first_tokens"].to_numpy(), pairs["second_tokens"].to_numpy()
    empty = np.flatnonzero(~((first_tokens > 0) & (second_tokens > 0)))
    if len(empty):
        row = pairs.iloc[empty[0]]
        raise ValueError(
            f"a ratio of lengths needs positive tokens; problem {row['problem_id']!r}, sample "
            f"{row['sample_id']} has {row['first_tokens']} and {row['second_tokens']}. "
            "Leave out empty completions and count them."
        )
    # Pairs are ordered by problem, so a new problem starts where the id changes.
    codes, _ = pd.factorize(pairs["problem_id"])
    wrong = 2 * ~pairs["first_correct"].to_numpy() + ~pairs["second_correct"].to_numpy()
    table = pd.DataFrame(
        [
            {"bucket": name}
            | _bucket(codes[wrong == b], first_tokens[wrong == b], second_tokens[wrong == b], resampling)
            for b, name in enumerate(BUCKETS)
        ]
    )
    return table.assign(n_unpaired=pairs.attrs["n_unpaired"])


def bucket_totals(buckets: pd.DataFrame) -> CostComparison:
    """Tokens per correct draw recomputed from the aggregates of `bucket_draws` or of a publication.

    Parameters
    ----------
    buckets
        One row per bucket: bucket (both, first_only, second_only, neither), n_pairs, first_mean, second_mean.

    Returns
    -------
    Estimates without intervals, because the problems behind the aggregates are unknown.

    Raises
    ------
    ValueError
        If a column is missing, or the buckets are not the four.
    """
    require_columns(buckets, ("bucket", "n_pairs", "first_mean", "second_mean"), "buckets")
    if sorted(buckets["bucket"]) != sorted(BUCKETS):
        raise ValueError(
            f"buckets must be {', '.join(BUCKETS)}, once each; got {', '.join(map(str, buckets['bucket']))}."
        )
    rows = buckets.set_index("bucket").loc[list(BUCKETS)]
    n_pairs = rows["n_pairs"].to_numpy(dtype=float)
    # An empty bucket has no mean and adds nothing.
    spent = [
        np.where(n_pairs > 0, n_pairs * rows[column], 0.0).sum() for column in ("first_mean", "second_mean")
    ]
    correct = [n_pairs[[0, 1]].sum(), n_pairs[[0, 2]].sum()]
    costs = [tokens / c if c > 0 else np.nan for tokens, c in zip(spent, correct, strict=True)]
    n_draws = int(n_pairs.sum())
    return CostComparison(
        first=_without_interval(costs[0], n_draws),
        second=_without_interval(costs[1], n_draws),
        ratio=_without_interval(costs[1] / costs[0], 2 * n_draws),
    )


def wilcoxon_p_from_statistic(w: float, n: int) -> float:
    """Two-sided p of a published Wilcoxon signed-rank sum.

    Parameters
    ----------
    w
        Smaller of the two rank sums, from 0 to n (n + 1) / 4.
    n
        Pairs that differ.

    Raises
    ------
    ValueError
        If no smaller rank sum can have this value.

    Notes
    -----
    The normal approximation that scipy uses for n > 50: no ties, no continuity correction. It treats
    the pairs as independent; where they are draws of few problems the p is far too small.

    Examples
    --------
    >>> f"{wilcoxon_p_from_statistic(w=0, n=60):.2g}"  # the second of every pair is the longer
    '1.6e-11'
    """
    mean = n * (n + 1) / 4.0
    if n < 1 or not 0 <= w <= mean:
        raise ValueError(
            f"the smaller rank sum lies between 0 and n (n + 1) / 4, with n >= 1; got w={w}, n={n}. "
            "Check which of the two sums is given."
        )
    deviation = np.sqrt(n * (n + 1) * (2 * n + 1) / 24.0)
    return float(2.0 * stats.norm.sf((mean - w) / deviation))


def _lengths(rows: pd.DataFrame, arm: str) -> Floats:
    """Mean tokens of each problem, all positive."""
    tokens = rows["mean_tokens"].to_numpy(dtype=float)
    bad = np.flatnonzero(tokens <= 0)
    if len(bad):
        raise ValueError(
            f"mean_tokens must be positive; problem {rows['problem_id'].iloc[bad[0]]!r} of arm {arm!r} has "
            f"{tokens[bad[0]]}. Leave out problems without text and count them."
        )
    return tokens


def _length_outputs(means: Floats) -> Floats:
    """Two means, their ratio and the geometric mean of ratios, from means of first, second, log ratio."""
    first, second, log_ratio = means[..., 0], means[..., 1], means[..., 2]
    return np.stack([first, second, second / first, np.exp(log_ratio)], axis=-1)


def _spent_and_correct(rows: pd.DataFrame, arm: str) -> Floats:
    """Tokens of all draws and number of correct draws of each problem, shape (P, 2)."""
    n, c = rows["n"].to_numpy(dtype=float), rows["c"].to_numpy(dtype=float)
    return np.column_stack([n * _lengths(rows, arm), c])


def _bucket(codes: Ints, first: Floats, second: Floats, resampling: Resampling) -> dict[str, object]:
    """Aggregate one bucket of paired draws."""
    n_pairs = len(codes)
    ratio = second / first
    present, local = np.unique(codes, return_inverse=True)
    sums_P_4 = np.column_stack(
        [np.bincount(local, weights) for weights in (None, first, second, np.log(ratio))]
    )
    summary = (np.mean, np.median) if n_pairs else (_nothing, _nothing)
    row: dict[str, object] = {"n_pairs": n_pairs, "n_draws": 2 * n_pairs, "n_problems": len(present)}
    for name, values in (("first", first), ("second", second)):
        row |= {f"{name}_mean": float(summary[0](values)), f"{name}_median": float(summary[1](values))}
    row["ratio_median"] = float(summary[1](ratio))
    row["share_second_longer"] = float(summary[0](ratio > 1))
    if n_pairs:
        ratios = estimate_many(sums_P_4, _bucket_outputs, resampling, 2 * n_pairs)
        of_means, geomean = ratios[0], ratios[1]
    else:
        of_means = geomean = Estimate(np.nan, None, None, 0, 0, "none", "no paired draw in this bucket")
    for name, result in (("ratio_of_means", of_means), ("ratio_geomean", geomean)):
        row |= {name: result.value, f"{name}_low": _or_nan(result.low), f"{name}_high": _or_nan(result.high)}
    return row | {"method": geomean.method, "reason": geomean.reason}


def _bucket_outputs(means: Floats) -> Floats:
    """Ratio of mean lengths and geometric mean ratio, from sums of 1, first, second, log ratio."""
    pairs, first, second, log_ratio = (means[..., column] for column in range(4))
    return np.stack([second / first, np.exp(log_ratio / pairs)], axis=-1)


def _nothing(values: npt.NDArray[np.generic]) -> float:
    """Summary of an empty bucket."""
    return np.nan


def _or_nan(end: float | None) -> float:
    """Interval end for a table."""
    return np.nan if end is None else end


def _without_interval(value: float, n_draws: int) -> Estimate:
    """Wrap a value recomputed from aggregates."""
    reason = "only aggregates are tracked"
    return Estimate(float(value), None, None, None, n_draws, "ratio of published totals", reason)
