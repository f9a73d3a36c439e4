r"""Agreement: whether two readers of the same transcripts give the same verdicts, beyond what chance would give.

Notation: `R` transcripts, `P` problems, `V` verdicts that can be given; :math:`n_{ij}` transcripts that the first
reader calls i and the second j. *Observed agreement* is :math:`p_o = \sum_i n_{ii} / R`. *Chance agreement*,
:math:`p_e = \sum_i n_{i\cdot} n_{\cdot i} / R^2`, is what readers would reach who kept their rates and read nothing.
Cohen's kappa is how far the first exceeds the second, of what there was to exceed.

Kappa depends on how rare a verdict is. Where nearly everything is right, chance agreement is high, and one disputed
transcript moves kappa by much; where both readers call all alike, it is 0 / 0 and undefined. So both are reported.

Intervals resample problems with the transcripts of all arms, as everywhere in the book.

Not handled: more than two readers, missing verdicts, ordered verdicts (weighted kappa).

References
----------
Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational and Psychological Measurement 20(1).
Byrt, T., Bishop, J. and Carlin, J. B. (1993). Bias, prevalence and kappa. Journal of Clinical Epidemiology 46(5).
McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions. Psychometrika 12(2).
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from panelbook.measure.uncertainty import Estimate, Floats, Resampling, estimate, estimate_many

POOLED = "both arms"
"""Name of the row that pools the transcripts of all arms."""

QUANTITIES = ("observed", "chance", "kappa")
"""What `estimate_agreement` estimates: observed agreement, chance agreement, and Cohen's kappa."""


def cohen_kappa(joint: npt.ArrayLike) -> Floats:
    r"""Agreement beyond chance of two readers, from their joint verdicts.

    Parameters
    ----------
    joint
        Counts or shares of shape (..., V, V), the first reader's verdicts in rows; leading axes are resamples.

    Returns
    -------
    Shape (...): 1 for full agreement, 0 for what chance gives, below 0 for less; NaN where both readers give one and
    the same verdict throughout.

    Notes
    -----
    :math:`\kappa = (p_o - p_e) / (1 - p_e)`, Cohen (1960), equation 1. A closed form, so that thousands of resamples
    are one array expression; scikit-learn's `cohen_kappa_score` gives the same value of one table.

    Examples
    --------
    >>> float(cohen_kappa([[20, 5], [10, 15]]).round(3))  # 35 of 50 agree, 25 by chance: 10 of 25
    0.4
    """
    joint = np.asarray(joint, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = joint / joint.sum(axis=(-2, -1), keepdims=True)
        observed = np.trace(share, axis1=-2, axis2=-1)
        chance = (share.sum(axis=-1) * share.sum(axis=-2)).sum(axis=-1)
        room = 1.0 - chance
        # With one verdict throughout nothing is left to agree on; rounding must not make a number of it.
        return np.where(room > 1e-12, (observed - chance) / room, np.nan)


def count_verdicts(verdicts: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Cross the verdicts of two readers.

    Parameters
    ----------
    verdicts
        One row per transcript: first, second.
    categories
        Verdicts that can be given.

    Returns
    -------
    One row per verdict of the first reader, one column per verdict of the second, in the order of `categories`.

    Raises
    ------
    ValueError
        If there is no transcript, or a verdict is none of the categories.
    """
    if verdicts.empty:
        raise ValueError("no transcript has been read by both readers. Give ratings of the same transcripts.")
    for reader in ("first", "second"):
        strange = verdicts[~verdicts[reader].isin(list(categories))]
        if len(strange):
            raise ValueError(
                f"the {reader} reader's verdict {strange[reader].iloc[0]!r} is none of {', '.join(categories)}."
            )
    table = pd.crosstab(verdicts["first"], verdicts["second"])
    return table.reindex(index=list(categories), columns=list(categories), fill_value=0)


def estimate_agreement(
    verdicts: pd.DataFrame, categories: Sequence[str], resampling: Resampling
) -> pd.DataFrame:
    """Measure how far two readers agree, for each arm and for all arms pooled.

    Parameters
    ----------
    verdicts
        One row per transcript that both have read: problem_id, arm, first, second.
    categories
        Verdicts that can be given.
    resampling
        Seed, number of resamples and confidence; problems are resampled with all their transcripts.

    Returns
    -------
    One row per arm and quantity of `QUANTITIES`, the pooled rows last: arm, quantity, estimate, low, high, n_problems,
    n_draws, method, reason.

    Raises
    ------
    ValueError
        As `count_verdicts` does.
    """
    count_verdicts(verdicts, categories)
    n = len(categories)
    place = {verdict: i for i, verdict in enumerate(categories)}
    cells = verdicts["first"].map(place) * n + verdicts["second"].map(place)
    tables = []
    arms = list(dict.fromkeys(verdicts["arm"]))
    for arm in [*arms, *([POOLED] if len(arms) > 1 else [])]:
        mine = verdicts["arm"].eq(arm) | (arm == POOLED)
        counts = pd.crosstab(verdicts.loc[mine, "problem_id"], cells[mine])
        joint_P_K = counts.reindex(columns=range(n * n), fill_value=0).to_numpy(dtype=np.float64)
        n_read = int(mine.sum())
        # Full agreement has no spread to resample; as a plain mean over problems it has an exact bound instead.
        even = len(set(joint_P_K.sum(axis=1))) == 1
        found = [
            estimate_many(
                joint_P_K,
                partial(_agree, n=n, q=q),
                resampling,
                n_read,
                support=(0.0, 1.0) if name == "observed" and even else None,
            ).to_frame()
            for q, name in enumerate(QUANTITIES)
        ]
        tables.append(pd.concat(found).assign(arm=arm, quantity=QUANTITIES))
    columns = ["arm", "quantity", "estimate", "low", "high", "n_problems", "n_draws", "method", "reason"]
    return pd.concat(tables, ignore_index=True)[columns]


def estimate_paired_difference(
    first_P: npt.ArrayLike, second_P: npt.ArrayLike, resampling: Resampling
) -> Estimate:
    """Share of problems right under the first arm minus under the second, one draw of each.

    Parameters
    ----------
    first_P, second_P
        Whether each problem is right, shape (P,), the same problems in the same order.
    resampling
        Seed, number of resamples and confidence; problems are resampled as pairs.

    Raises
    ------
    ValueError
        If the two are not of one length.
    """
    first, second = (np.asarray(values, dtype=bool) for values in (first_P, second_P))
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"both arms need one verdict on each problem; the shapes are {first.shape} and {second.shape}."
        )
    difference = first.astype(float) - second.astype(float)
    return estimate(
        difference[:, np.newaxis],
        lambda means: means[..., 0],
        resampling,
        2 * len(first),
        support=(-1.0, 1.0),
    )


def exact_mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p-value of the sign test on problems that only one of two arms has right; 1 where there are none.

    Parameters
    ----------
    first_only, second_only
        Problems that only the first, and only the second, has right; the rest say nothing about a difference.

    Examples
    --------
    >>> exact_mcnemar(3, 1)  # 5 of 16 equally likely splits of 4 have 3 or more on this side, times 2
    0.625
    """
    disagreements = first_only + second_only
    return float(stats.binomtest(first_only, disagreements).pvalue) if disagreements else 1.0


def least_disagreement(first: Sequence[int], second: Sequence[int]) -> int:
    """Fewest single verdicts on which two readings can differ, where one is known by its counts alone.

    Parameters
    ----------
    first, second
        Problems of each reading that are right under both arms, under the first alone, the second alone, neither.

    Raises
    ------
    ValueError
        If the counts are not four, or not of equally many problems.

    Notes
    -----
    The cheapest way to pair the problems of one reading with those of the other, where a pair costs the number of arms
    on which it differs.

    Examples
    --------
    >>> least_disagreement([17, 1, 2, 0], [15, 3, 1, 1])
    3
    """
    a, b = np.asarray(first, dtype=int), np.asarray(second, dtype=int)
    if a.shape != (4,) or b.shape != (4,) or a.sum() != b.sum() or min(a.min(), b.min()) < 0:
        raise ValueError(
            "each reading needs four counts, both, first only, second only and neither, of the same problems; "
            f"got {a.tolist()} and {b.tolist()}."
        )
    right = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    before, after = np.repeat(right, a, axis=0), np.repeat(right, b, axis=0)
    changes = np.abs(before[:, np.newaxis] - after[np.newaxis]).sum(axis=2)
    return int(changes[optimize.linear_sum_assignment(changes)].sum())


def _agree(means: Floats, n: int, q: int) -> Floats:
    """Quantity q of `QUANTITIES` from flattened joint shares of shape (..., V * V), as shape (..., 1)."""
    joint = means.reshape(*means.shape[:-1], n, n)
    if QUANTITIES[q] == "kappa":
        return cohen_kappa(joint)[..., np.newaxis]
    # Problems may have unequal numbers of transcripts, so the means need not add up to one.
    share = joint / joint.sum(axis=(-2, -1), keepdims=True)
    observed = np.trace(share, axis1=-2, axis2=-1)
    chance = (share.sum(axis=-1) * share.sum(axis=-2)).sum(axis=-1)
    chosen: Floats = observed if QUANTITIES[q] == "observed" else chance
    return chosen[..., np.newaxis]
