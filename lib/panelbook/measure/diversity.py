"""Diversity: how far apart the draws of one problem are.

The spread of a problem is the mean cosine distance between the embeddings of its draws, over all pairs.
Its expectation does not depend on the number of draws, so arms with different numbers can be compared.
Two arms are compared on the same problems.

Notation: `N` draws of a problem, `D` embedding dimensions.

Not handled: what the encoder sees (its window, its sensitivity to length and format). A larger distance
says that texts differ, not that strategies do.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

from panelbook.measure.counts import list_arms, pair_arms, select_arm
from panelbook.measure.uncertainty import (
    ROUNDING,
    Estimate,
    Floats,
    Ints,
    Resampling,
    estimate,
    estimate_many,
)

# Sign patterns tested at once: bounds the memory of the permutation test.
SIGN_BATCH = 1000


@dataclass(frozen=True)
class SpreadComparison:
    """Spread of two arms on the same problems.

    Parameters
    ----------
    first, second
        Mean over problems of each arm's mean pairwise distance.
    ratio
        Ratio of the two means, first over second.
    relative_difference
        The same less one: 0.75 reads "75% further apart".
    difference
        Mean paired difference, first minus second.
    t, df
        Paired t statistic and its degrees of freedom.
    p_student
        Two-sided p of t under Student's distribution.
    p_normal
        Two-sided p of the same t under the normal distribution, which is too small for few problems.
    p_sign_flip
        Two-sided p of the mean difference when the sign of every paired difference is a coin toss; it
        assumes symmetry, not normality.
    share_first_larger
        Share of problems on which the first arm's distance is larger; ties count as not larger.
    n_problems, n_unpaired
        Problems that both arms have, and those that only one has.
    """

    first: Estimate
    second: Estimate
    ratio: Estimate
    relative_difference: Estimate
    difference: Estimate
    t: float
    df: int
    p_student: float
    p_normal: float
    p_sign_flip: float
    share_first_larger: Estimate
    n_problems: int
    n_unpaired: int


def mean_pairwise_distance(embeddings_N_D: npt.ArrayLike) -> float:
    """Mean cosine distance over all pairs of draws.

    Parameters
    ----------
    embeddings_N_D
        One embedding per draw, at least two; rows are scaled to unit length here.

    Returns
    -------
    Distance from 0 (all the same direction) to N / (N - 1) (directions cancel).

    Raises
    ------
    ValueError
        If there are fewer than two rows, or a row is zero or not finite.

    Notes
    -----
    With unit rows u and their sum s, the N (N - 1) off-diagonal cosines add up to |s|^2 - N, so no N x N
    matrix is needed.

    Examples
    --------
    >>> mean_pairwise_distance([[1, 0], [1, 0], [0, 2]])  # pairs at 0, 1 and 1
    0.6666666666666667
    """
    units = _unit_rows(embeddings_N_D)
    n = len(units)
    total = units.sum(axis=0)
    return max(0.0, float(1.0 - (total @ total - n) / (n * (n - 1))))


def embedding_variance_trace(embeddings_N_D: npt.ArrayLike) -> float:
    """Trace of the covariance (divided by N) of the unit-length embeddings.

    Parameters
    ----------
    embeddings_N_D
        One embedding per draw, at least two; rows are scaled to unit length here.

    Raises
    ------
    ValueError
        As `mean_pairwise_distance`.

    Notes
    -----
    It carries the same information as the mean pairwise distance: see `variance_trace_from_distance`.
    """
    return float(_unit_rows(embeddings_N_D).var(axis=0).sum())


def variance_trace_from_distance(distance: float, n: int) -> float:
    """Trace of the covariance implied by a mean pairwise distance, (N - 1) / N times it.

    Parameters
    ----------
    distance
        Mean pairwise cosine distance.
    n
        Draws N behind it, at least 2.

    Examples
    --------
    >>> variance_trace_from_distance(0.16, n=16)
    0.15
    """
    if n < 2:
        raise ValueError(f"a distance between draws needs n >= 2; got n={n}. Draw more completions.")
    return (n - 1) / n * distance


def count_clusters(vectors_N_D: npt.ArrayLike, thresholds_X: npt.ArrayLike) -> Ints:
    """Count groups of draws, single draws included, when draws within a cosine distance are joined.

    Parameters
    ----------
    vectors_N_D
        One embedding per draw, at least two; rows are scaled to unit length here.
    thresholds_X
        Largest cosine distance at which two draws are joined, any number of them.

    Returns
    -------
    Clusters at each threshold, from 1 to N, shape (X,).

    Raises
    ------
    ValueError
        As `mean_pairwise_distance`.

    Notes
    -----
    Joining is transitive: the chain counts, not its ends. So these are the clusters and noise points of DBSCAN with
    two points to a core, and the branches of a single-linkage tree: one more than its joins above the threshold.

    Examples
    --------
    >>> count_clusters([[1, 0], [1, 0.1], [0, 1]], [0.001, 0.1, 1.0]).tolist()
    [3, 2, 1]
    """
    joins = linkage(pdist(_unit_rows(vectors_N_D), "cosine"), "single")[:, 2]
    above = joins[:, np.newaxis] > np.asarray(thresholds_X, dtype=float)
    return np.asarray(1 + above.sum(axis=0), dtype=np.int64)


def compare_spread(
    counts: pd.DataFrame,
    first: str,
    second: str,
    resampling: Resampling,
    n_permutations: int = 9999,
) -> SpreadComparison:
    """Compare two arms' spread problem by problem.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_distance.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together. The seed
        also drives the sign flips.
    n_permutations
        Sign patterns tried; all 2^P of them where that is not more.

    Raises
    ------
    ValueError
        If a distance is missing, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second, ("mean_distance",))
    values_P_2 = np.column_stack(
        [rows["mean_distance"].to_numpy(dtype=float) for rows in (pair.first, pair.second)]
    )
    difference_P = values_P_2[:, 0] - values_P_2[:, 1]
    larger_P_1 = (difference_P > 0).astype(float)[:, np.newaxis]
    spread = estimate_many(values_P_2, _spread_outputs, resampling, pair.n_draws, n_unpaired=pair.n_unpaired)
    share = estimate(
        larger_P_1,
        lambda means: means[..., 0],
        resampling,
        pair.n_draws,
        support=(0.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    t, p_student, p_normal, p_sign_flip = _test_differences(difference_P, resampling, n_permutations)
    return SpreadComparison(
        first=replace(spread[0], n_draws=int(pair.first["n"].sum())),
        second=replace(spread[1], n_draws=int(pair.second["n"].sum())),
        ratio=spread[2],
        relative_difference=spread[3],
        difference=spread[4],
        t=t,
        df=len(difference_P) - 1,
        p_student=p_student,
        p_normal=p_normal,
        p_sign_flip=p_sign_flip,
        share_first_larger=share,
        n_problems=len(difference_P),
        n_unpaired=pair.n_unpaired,
    )


def spread_table(counts: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Spread of every arm, averaged over its problems.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_distance.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, mean_distance, low, high, sd (over problems), n_problems, n_draws, method, reason; arms in
    alphabetical order.

    Raises
    ------
    ValueError
        If a distance is missing or the table is malformed.
    """
    rows = []
    for arm in list_arms(counts):
        table = select_arm(counts, arm, ("mean_distance",))
        values = table["mean_distance"].to_numpy(dtype=float)
        mean = estimate(values[:, np.newaxis], lambda m: m[..., 0], resampling, int(table["n"].sum()))
        rows.append(
            {
                "arm": arm,
                "mean_distance": mean.value,
                "low": mean.low,
                "high": mean.high,
                "sd": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                "n_problems": mean.n_problems,
                "n_draws": mean.n_draws,
                "method": mean.method,
                "reason": mean.reason,
            }
        )
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def _spread_outputs(means: Floats) -> Floats:
    """First mean, second mean, ratio, relative difference, difference; in the order used above."""
    first, second = means[..., 0], means[..., 1]
    return np.stack([first, second, first / second, first / second - 1.0, first - second], axis=-1)


def _unit_rows(embeddings_N_D: npt.ArrayLike) -> Floats:
    """Scale rows to unit length, or name the row that has no direction."""
    rows = np.asarray(embeddings_N_D, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(
            f"embeddings_N_D needs at least two rows, one per draw; its shape is {rows.shape}. "
            "Draw more completions."
        )
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(
            f"an embedding needs a direction; row {bad[0]} has length {lengths[bad[0]]} ({len(bad)} such "
            "rows). Leave out draws that have no text, and count them."
        )
    return np.asarray(rows / lengths[:, np.newaxis])


def _test_differences(
    difference_P: Floats, resampling: Resampling, n_permutations: int
) -> tuple[float, float, float, float]:
    """Paired t with its p under Student and normal, and the sign-flip p; NaN where nothing varies."""
    if len(difference_P) < 2 or np.ptp(difference_P) <= ROUNDING:
        return np.nan, np.nan, np.nan, np.nan
    # A one-sample test of the differences is the paired test of the two arms.
    student = stats.ttest_1samp(difference_P, 0.0)
    flips = stats.permutation_test(
        (difference_P,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_permutations,
        batch=SIGN_BATCH,
        rng=resampling.generator(),
    )
    t = float(student.statistic)
    return t, float(student.pvalue), float(2.0 * stats.norm.sf(abs(t))), float(flips.pvalue)
