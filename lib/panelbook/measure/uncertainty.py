"""Uncertainty: every interval of the book is made here.

The unit that is resampled is the *problem*. Draws of one problem share its difficulty, so they are
not independent evidence about a benchmark; problems are. All quantities of the book are functions of
means over problems (a pass rate, a difference of two arms, a ratio of mean token counts, a difference
of differences), so one engine serves them all: resample problems, recompute the means, apply the
function, read off quantiles.

Notation: `P` problems, `K` columns of per-problem values, `B` resamples, `M` outputs of a statistic,
`S` strata (sources).

The interval is the percentile bootstrap with the quantile levels widened as Hesterberg (2015) proposes,
because the plain percentile interval is too short for few problems, by the factor sqrt((P-1)/P) and by
the difference between Student's t and the normal distribution. Where all problems agree, resampling sees
no spread at all and an exact binomial bound takes its place. Where nothing honest can be said there is
no interval, and the result says why.

Simulated coverage of the 95% interval is 94-96% for pass rates, gaps and closures on 20 to 134 problems. It
falls short for a rate pressed against 0 or 1, where a few problems not in the sample would carry the
missing mass: a true rate of 0.89 was covered in 87% of samples of 20 problems, 92% of 50 and 94% of 134, and
differences of two such rates can fare worse. `simulate` tries every estimator; notebook 92 shows what it finds.

Not handled: uncertainty from the draws alone at fixed problems; problems that are themselves clustered
(near-duplicates); simultaneous coverage of a whole curve (every band is pointwise).

References
----------
Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American Statistician 69(4).
Clopper, C. J. and Pearson, E. S. (1934). The use of confidence or fiducial limits. Biometrika 26(4).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.resampling import Resampling as Resampling

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
Pairing = Literal["independent", "most_agreement", "least_agreement"]

# Resampled problem indices held at once: 8 MB of weights, which stays near the processor's cache.
CHUNK_CELLS = 1_000_000
# A statistic that moves by less than this between resamples moves by rounding only.
ROUNDING = 1e-12
# Method of a number for which nothing was sampled.
EXACT = "exact"


@dataclass(frozen=True)
class Estimate:
    """One number with its interval, or with the reason why it has none.

    Parameters
    ----------
    value
        The estimate; NaN or infinite only where it is undefined, and then without an interval.
    low, high
        Ends of the interval, both or neither.
    n_problems
        Problems behind the value; None where the source does not say.
    n_draws
        Draws behind the value, over all arms that enter it; None where the source does not say.
    method
        What was resampled or computed, in words fit for a caption.
    reason
        Why there is no interval; empty exactly when there is one.
    n_unpaired
        Problems left out because only one of two paired arms has them.
    """

    value: float
    low: float | None
    high: float | None
    n_problems: int | None
    n_draws: int | None
    method: str
    reason: str = ""
    n_unpaired: int = 0

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has two ends; low is {self.low} and high is {self.high}.")
        if self.low is None and not self.reason:
            raise ValueError(f"an estimate without an interval must say why; value is {self.value}.")
        if self.low is not None and self.high is not None:
            if self.reason:
                raise ValueError(f"an estimate with an interval needs no reason; it gives {self.reason!r}.")
            if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
                raise ValueError(f"interval ends must be finite and in order: [{self.low}, {self.high}].")


@dataclass(frozen=True)
class Estimates:
    """Several outputs of one resampling, such as the points of a curve; arrays of length M.

    Parameters
    ----------
    value_M
        The estimates.
    low_M, high_M
        Interval ends; NaN where there is none.
    method_M
        What was computed for each output.
    reason_M
        Why an output has no interval; empty where it has one.
    n_problems, n_draws, n_unpaired
        As in `Estimate`, shared by all outputs.
    """

    value_M: Floats
    low_M: Floats
    high_M: Floats
    method_M: tuple[str, ...]
    reason_M: tuple[str, ...]
    n_problems: int
    n_draws: int | None
    n_unpaired: int = 0

    def __len__(self) -> int:
        return len(self.value_M)

    def __getitem__(self, m: int) -> Estimate:
        """Output m as a single `Estimate`."""
        has_interval = not self.reason_M[m]
        return Estimate(
            value=float(self.value_M[m]),
            low=float(self.low_M[m]) if has_interval else None,
            high=float(self.high_M[m]) if has_interval else None,
            n_problems=self.n_problems,
            n_draws=self.n_draws,
            method=self.method_M[m],
            reason=self.reason_M[m],
            n_unpaired=self.n_unpaired,
        )

    def to_frame(self) -> pd.DataFrame:
        """Tabulate, one row per output: estimate, low, high, n_problems, n_draws, method, reason."""
        return pd.DataFrame(
            {
                "estimate": self.value_M,
                "low": self.low_M,
                "high": self.high_M,
                "n_problems": self.n_problems,
                "n_draws": self.n_draws,
                "method": self.method_M,
                "reason": self.reason_M,
            }
        )


def exact(value: float, why: str, n_problems: int | None = None) -> Estimate:
    """Wrap a number for which nothing was sampled, or none of whose sampling is tracked.

    Parameters
    ----------
    value
        The number.
    why
        Why it has no interval, in words fit for a table: "a count of the rows", "a setting".
    n_problems
        Problems behind it, where it is about some.
    """
    return Estimate(float(value), None, None, n_problems, None, EXACT, why)


def row_estimate(row: pd.Series, value: str, *, prefix: str = "") -> Estimate:
    """Return one row of a measure's table as an estimate.

    Parameters
    ----------
    row
        With `value`, `{prefix}low`, `{prefix}high`, n_problems, n_draws, method, and a reason where there is no
        interval.
    value
        Name of the column that holds the estimate.
    prefix
        Of the columns low, high and reason.
    """
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    missing = bool(pd.isna(low))
    reason = str(row.get(f"{prefix}reason") or row.get("reason") or "no interval was computed")
    return Estimate(
        value=float(row[value]),
        low=None if missing else float(low),
        high=None if missing else float(high),
        n_problems=int(row["n_problems"]),
        n_draws=int(row["n_draws"]),
        method=str(row["method"]),
        reason=reason if missing else "",
    )


def keep_means(means: Floats) -> Floats:
    """Return the means themselves: the statistic of a plain average.

    Parameters
    ----------
    means
        Mean vectors of shape (..., K).
    """
    return means


def resample_means(
    values_P_K: npt.ArrayLike, resampling: Resampling, strata: npt.ArrayLike | None = None
) -> Floats:
    """Means over resampled problems: the cluster bootstrap.

    Each resample draws P problems with replacement, or P_s from each stratum, and averages their rows.
    Problems with equal rows are interchangeable, so where many are, their joint number of visits is
    drawn instead (one multinomial draw over the distinct rows), which has the same distribution.

    Parameters
    ----------
    values_P_K
        One row of finite values per problem.
    resampling
        Seed and number of resamples B.
    strata
        Stratum label of each problem, shape (P,); None resamples from all problems.

    Returns
    -------
    Array of shape (B, K).

    Raises
    ------
    ValueError
        If `values_P_K` is not a finite table with at least one row, or `strata` has another length.

    Examples
    --------
    >>> means = resample_means([[0.0], [1.0]], Resampling(seed=1, n_resamples=1000))
    >>> means.shape, sorted(set(means[:, 0].tolist()))
    ((1000, 1), [0.0, 0.5, 1.0])
    """
    values = _check_values(values_P_K)
    blocks = [values[rows] for rows in _rows_by_stratum(strata, len(values))]
    rng = resampling.generator()
    sums = np.zeros((resampling.n_resamples, values.shape[1]))
    for block in blocks:
        distinct, multiplicity = np.unique(block, axis=0, return_counts=True)
        few = 4 * len(distinct) <= len(block)
        draws = (
            _visits_of_groups(rng, multiplicity, resampling.n_resamples)
            if few
            else _visits_of_problems(rng, len(block), resampling.n_resamples)
        )
        start = 0
        for visits in draws:
            sums[start : start + len(visits)] += visits @ (distinct if few else block)
            start += len(visits)
    return sums / len(values)


def estimate(
    values_P_K: npt.ArrayLike,
    statistic: Statistic,
    resampling: Resampling,
    n_draws: int | None,
    strata: npt.ArrayLike | None = None,
    *,
    support: tuple[float, float] | None = None,
    n_unpaired: int = 0,
    unit: str = "problems",
) -> Estimate:
    """Value of a statistic of means over problems, with its interval.

    Parameters
    ----------
    values_P_K
        One row of finite values per problem.
    statistic
        Maps mean vectors of shape (..., K) to values of shape (...), as `lambda m: m[..., 0] / m[..., 1]`.
    resampling
        Seed, number of resamples and confidence.
    n_draws
        Draws behind the values, reported as given.
    strata
        Stratum label of each problem, shape (P,); None for one stratum.
    support
        Range that the statistic of a *single* problem cannot leave, as (0, 1) for a pass rate or
        (-1, 1) for a difference of two. Give it only for statistics that are linear in the means: it
        serves the exact bound used when all problems agree.
    n_unpaired
        Problems left out by pairing, reported as given.
    unit
        What one row is, for the wording; anything but problems must be argued for.

    Returns
    -------
    The estimate; without an interval, and with the reason, where there is none to give.

    Examples
    --------
    >>> scores = [[1.0], [0.0], [1.0], [0.5]]
    >>> estimate(scores, lambda m: m[..., 0], Resampling(seed=1), n_draws=8).value
    0.625
    """
    outputs = estimate_many(
        values_P_K,
        lambda means: statistic(means)[..., np.newaxis],
        resampling,
        n_draws,
        strata,
        support=support,
        n_unpaired=n_unpaired,
        unit=unit,
    )
    return outputs[0]


def estimate_many(
    values_P_K: npt.ArrayLike,
    statistic: Statistic,
    resampling: Resampling,
    n_draws: int | None,
    strata: npt.ArrayLike | None = None,
    *,
    support: tuple[float, float] | None = None,
    n_unpaired: int = 0,
    unit: str = "problems",
) -> Estimates:
    """Several statistics of the same resampled means, as the points of a curve.

    Parameters are those of `estimate`, except that `statistic` maps means of shape (..., K) to outputs
    of shape (..., M). The intervals are pointwise.

    Parameters
    ----------
    values_P_K
        One row of finite values per problem.
    statistic
        Maps mean vectors (..., K) to output vectors (..., M); `keep_means` for plain averages.
    resampling
        Seed, number of resamples and confidence.
    n_draws
        Draws behind the values, reported as given.
    strata
        Stratum label of each problem, shape (P,); None for one stratum.
    support
        Range of each output for a single problem; see `estimate`.
    n_unpaired
        Problems left out by pairing, reported as given.
    unit
        What one row is, for the wording.

    Notes
    -----
    Quantile levels (Hesterberg 2015, "expanded percentile"): alpha' / 2 = Phi(-sqrt(P / d) t), where
    d = P - 1 (with strata the sum of P_s - 1) and t is the upper alpha / 2 point of Student's
    distribution with d degrees of freedom. Quantiles are order statistics, not interpolated, so that an
    infinite resample (a ratio whose denominator vanished) is handled; a resample that is undefined
    (0 / 0) counts against both ends.

    If all P problems have the same value v on `support` [a, b], the chance that a problem
    differs is below u = 1 - alpha^(1 / P) (Clopper-Pearson, one-sided), so the mean lies in
    [v - u (v - a), v + u (b - v)]. For a pass rate of zero this is the exact binomial bound [0, u].
    """
    values = _check_values(values_P_K)
    blocks = _rows_by_stratum(strata, len(values))
    value_M = _apply(statistic, values.mean(axis=0))
    value_M[~np.isfinite(value_M)] = np.nan
    n_problems, n_out = len(values), len(value_M)
    missing = _why_no_resampling(blocks, unit)
    if missing:
        nothing = np.full(n_out, np.nan)
        reasons = [missing] * n_out
        return Estimates(
            value_M, nothing, nothing, ("none",) * n_out, tuple(reasons), n_problems, n_draws, n_unpaired
        )
    resampled_B_M = _apply(statistic, resample_means(values, resampling, strata))
    low_M, high_M = _expanded_quantiles(
        resampled_B_M, n_problems, n_problems - len(blocks), resampling.confidence
    )
    reasons = _why_no_interval(value_M, resampled_B_M, low_M, high_M, unit)
    methods = [_describe(n_problems, len(blocks), resampling, unit)] * n_out
    if support is not None:
        values_P_M = _apply(statistic, values)
        for m in np.flatnonzero(np.ptp(values_P_M, axis=0) <= ROUNDING).tolist():
            value_M[m] = values_P_M[0, m]
            low_M[m], high_M[m] = _agreement_bound(value_M[m], support, n_problems, resampling)
            methods[m] = f"exact Clopper-Pearson bound, one-sided: all {n_problems} {unit} agree"
            reasons[m] = ""
    for m, reason in enumerate(reasons):
        if reason:
            low_M[m] = high_M[m] = np.nan
            methods[m] = "none"
    return Estimates(value_M, low_M, high_M, tuple(methods), tuple(reasons), n_problems, n_draws, n_unpaired)


def estimate_median(
    values_P: npt.ArrayLike, resampling: Resampling, n_draws: int | None, *, n_unpaired: int = 0
) -> Estimate:
    """Median over problems, which is no function of means, with the same interval.

    Parameters
    ----------
    values_P
        One finite value per problem.
    resampling
        Seed, number of resamples and confidence.
    n_draws
        Draws behind the values, reported as given.
    n_unpaired
        Problems left out by pairing, reported as given.

    Examples
    --------
    >>> estimate_median([1.0, 2.0, 10.0], Resampling(seed=1), n_draws=3).value
    2.0
    """
    values = _check_values(np.asarray(values_P, dtype=float).reshape(-1, 1))[:, 0]
    value, n_problems = float(np.median(values)), len(values)
    reason = _why_no_resampling([np.arange(n_problems)], "problems")
    if not reason and np.ptp(values) == 0.0:
        reason = "all problems agree, so resampling them shows no spread"
    if reason:
        return Estimate(value, None, None, n_problems, n_draws, "none", reason, n_unpaired)
    values = np.sort(values)
    medians = np.concatenate(
        [
            np.median(values[rows], axis=1)
            for rows in _resampled_rows(resampling.generator(), n_problems, resampling.n_resamples)
        ]
    )
    low, high = _expanded_quantiles(medians[:, np.newaxis], n_problems, n_problems - 1, resampling.confidence)
    method = (
        f"percentile bootstrap of the median over {n_problems} problems ({resampling.n_resamples} resamples)"
    )
    return Estimate(value, float(low[0]), float(high[0]), n_problems, n_draws, method, n_unpaired=n_unpaired)


def binomial_interval(c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact (Clopper-Pearson) interval of a success probability known only through counts.

    Parameters
    ----------
    c
        Successes, 0 to n.
    n
        Independent trials, at least 1.
    confidence
        Nominal coverage; the true one is never below it.

    Raises
    ------
    ValueError
        If c and n are not such counts.

    Examples
    --------
    >>> low, high = binomial_interval(0, 25)
    >>> low, round(high, 4)  # 1 - 0.025 ** (1 / 25)
    (0.0, 0.1372)
    """
    if n < 1 or not 0 <= c <= n:
        raise ValueError(f"a binomial count needs 0 <= c <= n and n >= 1; got c={c}, n={n}. Check the table.")
    interval = stats.binomtest(int(c), int(n)).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


def estimate_share(c: int, n: int, confidence: float = 0.95) -> Estimate:
    """Share known only as c of n problems, one draw each, with its exact interval.

    Parameters
    ----------
    c
        Problems with a correct draw.
    n
        Problems.
    confidence
        Nominal coverage.
    """
    low, high = binomial_interval(c, n, confidence)
    return Estimate(c / n, low, high, n, n, f"exact Clopper-Pearson interval over {n} problems")


def estimate_count_difference(
    c_from_S: npt.ArrayLike,
    c_to_S: npt.ArrayLike,
    n_S: npt.ArrayLike,
    resampling: Resampling,
    pairing: Pairing = "independent",
) -> Estimate:
    """Change of a share between two looks at the same problems when only counts per stratum survive.

    Which problems were solved at both looks is unknown, and the interval depends on it. The two Fréchet
    extremes bound what pairing could do: `most_agreement` (every problem solved at the look that solved
    fewer was also solved at the other: the narrowest interval) and `least_agreement` (as few as the
    counts allow: the widest). `independent` lies between them and is what counts alone support.

    Parameters
    ----------
    c_from_S, c_to_S
        Solved problems of each stratum at the first and the second look, shape (S,).
    n_S
        Problems of each stratum, one draw each at each look.
    resampling
        Seed, number of resamples and confidence; problems are resampled within strata.
    pairing
        Which pairing to assume.

    Raises
    ------
    ValueError
        If a count is impossible, or `pairing` is not one of the three names.

    Examples
    --------
    >>> estimate_count_difference([1, 8], [4, 13], [25, 25], Resampling(seed=1)).value
    0.16
    """
    c_from, c_to, n = (np.atleast_1d(np.asarray(x, dtype=np.int64)) for x in (c_from_S, c_to_S, n_S))
    if not (c_from.shape == c_to.shape == n.shape and np.all(n >= 1)):
        raise ValueError(f"every stratum needs two counts and n >= 1; got {c_from}, {c_to} of {n}.")
    if np.any(np.minimum(c_from, c_to) < 0) or np.any(np.maximum(c_from, c_to) > n):
        raise ValueError(f"solved problems must lie between 0 and n; got {c_from} and {c_to} of {n}.")
    n_total = int(n.sum())
    if pairing == "independent":
        # Two separate samples: each look is a stratum of its own, scaled so that the mean over all rows
        # is the difference of the two shares.
        signed = [
            2.0 * sign * (np.arange(size) < c)
            for sign, counts in ((-1.0, c_from), (1.0, c_to))
            for c, size in zip(counts, n, strict=True)
        ]
        strata = np.repeat(np.arange(2 * len(n)), np.concatenate([n, n]))
        support = None
    elif pairing in ("most_agreement", "least_agreement"):
        both = np.minimum(c_from, c_to) if pairing == "most_agreement" else np.maximum(c_from + c_to - n, 0)
        signed = [
            np.repeat([1.0, -1.0, 0.0], [gained, lost, size - gained - lost])
            for gained, lost, size in zip(c_to - both, c_from - both, n, strict=True)
        ]
        strata = np.repeat(np.arange(len(n)), n)
        support = (-1.0, 1.0)
    else:
        raise ValueError(
            f"pairing must be 'independent', 'most_agreement' or 'least_agreement'; got {pairing!r}."
        )
    result = estimate(
        np.concatenate(signed)[:, np.newaxis],
        lambda means: means[..., 0],
        resampling,
        2 * n_total,
        strata,
        support=support,
    )
    method = result.method
    if not result.reason:
        # The independent pairing doubles rows and strata; the caption counts problems.
        words = _describe(n_total, len(n), resampling) if pairing == "independent" else result.method
        method = f"{words}; pairing of the two looks: {pairing.replace('_', ' ')}"
    # The value comes from the counts rather than from the signed rows: free of rounding.
    value = float((c_to - c_from).sum() / n_total)
    return replace(result, value=value, n_problems=n_total, method=method)


def _check_values(values_P_K: npt.ArrayLike) -> Floats:
    """Return the values as a float table, or say which row is not finite."""
    values = np.asarray(values_P_K, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(
            f"values_P_K needs one row per problem and at least one row; its shape is {values.shape}. "
            "Reshape a vector with values[:, None]."
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"values_P_K must be finite; row {bad[0]} is {values[bad[0]].tolist()} ({len(bad)} such rows). "
            "Leave out problems without a value, and count them."
        )
    return values


def _rows_by_stratum(strata: npt.ArrayLike | None, n_problems: int) -> list[Ints]:
    """Row numbers of each stratum; one block where there are no strata."""
    if strata is None:
        return [np.arange(n_problems)]
    labels = np.asarray(strata)
    if labels.shape != (n_problems,):
        raise ValueError(f"strata needs one label per problem, {n_problems}; its shape is {labels.shape}.")
    _, codes = np.unique(labels, return_inverse=True)
    return [np.flatnonzero(codes == s) for s in range(codes.max() + 1)]


def _why_no_resampling(blocks: list[Ints], unit: str) -> str:
    """Reason why these strata cannot be resampled; empty when they can."""
    if all(len(rows) >= 2 for rows in blocks):
        return ""
    where = "" if len(blocks) == 1 else " in each stratum"
    return f"resampling {unit} needs at least two of them{where}"


def _why_no_interval(
    value_M: Floats, resampled_B_M: Floats, low_M: Floats, high_M: Floats, unit: str
) -> list[str]:
    """Reason why the resamples of each output make no interval; empty where they do."""
    finite_B_M = np.isfinite(resampled_B_M)
    spread_M = np.where(finite_B_M, resampled_B_M, -np.inf).max(axis=0) - np.where(
        finite_B_M, resampled_B_M, np.inf
    ).min(axis=0)
    reasons = []
    for m, value in enumerate(value_M):
        if np.isnan(value):
            reasons.append(f"the value is undefined on these {unit}")
        elif not (np.isfinite(low_M[m]) and np.isfinite(high_M[m])):
            reasons.append(f"undefined in {1.0 - finite_B_M[:, m].mean():.1%} of the resamples")
        elif spread_M[m] <= ROUNDING * max(1.0, abs(value)):
            reasons.append(f"resampling {unit} shows no spread: they agree")
        else:
            reasons.append("")
    return reasons


def _describe(n_problems: int, n_strata: int, resampling: Resampling, unit: str = "problems") -> str:
    """Name the bootstrap in words fit for a caption."""
    within = f" within {n_strata} strata" if n_strata > 1 else ""
    resamples = f"{resampling.n_resamples} resamples, Student t levels"
    return f"percentile bootstrap over {n_problems} {unit}{within} ({resamples})"


def _apply(statistic: Statistic, means: Floats) -> Floats:
    """Apply a statistic where a ratio may divide by zero: infinite and NaN are handled by the caller."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.array(statistic(means), dtype=np.float64)


def _resampled_rows(rng: np.random.Generator, n_problems: int, n_resamples: int) -> Iterator[Ints]:
    """Row numbers of resampled problems, a chunk of resamples at a time, shape (chunk, P)."""
    chunk = max(1, CHUNK_CELLS // n_problems)
    for start in range(0, n_resamples, chunk):
        size = (min(chunk, n_resamples - start), n_problems)
        # 32-bit indices are drawn twice as fast as 64-bit ones.
        yield rng.integers(0, n_problems, size=size, dtype=np.int32).astype(np.int64)


def _visits_of_problems(rng: np.random.Generator, n_problems: int, n_resamples: int) -> Iterator[Floats]:
    """How often each problem is drawn, a chunk of resamples at a time, shape (chunk, P)."""
    for rows in _resampled_rows(rng, n_problems, n_resamples):
        rows += np.arange(len(rows))[:, np.newaxis] * n_problems
        yield np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.float64)


def _visits_of_groups(rng: np.random.Generator, multiplicity: Ints, n_resamples: int) -> Iterator[Floats]:
    """How often each group of equal problems is drawn, a chunk of resamples at a time."""
    n_problems = int(multiplicity.sum())
    chunk = max(1, CHUNK_CELLS // len(multiplicity))
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        yield rng.multinomial(n_problems, multiplicity / n_problems, size=size).astype(np.float64)


def _expanded_quantiles(
    resampled_B_M: Floats, n_problems: int, degrees: int, confidence: float
) -> tuple[Floats, Floats]:
    """Order statistics at Hesterberg's widened levels; an undefined resample counts against both ends."""
    t_upper = stats.t.ppf(0.5 + confidence / 2.0, degrees)
    level = float(stats.norm.cdf(-t_upper * np.sqrt(n_problems / degrees)))
    n_resamples = len(resampled_B_M)
    rank = max(int(np.ceil(level * n_resamples)), 1) - 1
    low = np.sort(np.where(np.isnan(resampled_B_M), -np.inf, resampled_B_M), axis=0)[rank]
    high = np.sort(np.where(np.isnan(resampled_B_M), np.inf, resampled_B_M), axis=0)[n_resamples - 1 - rank]
    return low, high


def _agreement_bound(
    value: float, support: tuple[float, float], n_problems: int, resampling: Resampling
) -> tuple[float, float]:
    """Interval of a mean when every problem has the same value; see the notes of `estimate_many`."""
    differs = 1.0 - (1.0 - resampling.confidence) ** (1.0 / n_problems)
    return value - differs * (value - support[0]), value + differs * (support[1] - value)
