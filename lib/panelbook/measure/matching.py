r"""Matching: how much of a wider variance band is the arm's strength, and how much is left.

A problem with success rate p gives a mixed group of G draws with probability :math:`1 - p^G - (1-p)^G`, most likely
at p = 1/2. So one arm can have the wider band because its success rates lie nearer the middle. At one problem
the rate decides everything: matched on p itself, no two arms differ. What can be split is the *distribution* of
rates over problems, and it is split in two ways.

By a model (`decompose_mixed`): its mean m, which is how strong the arm is, and its dispersion :math:`\rho = Var(p) /
(m (1 - m))`, which is how sharply it divides problems into never and always right: 0 if all problems are alike, 1
if every draw of a problem ends the same way. With beta-distributed rates these two give the share of mixed groups,
and the difference of two arms is an effect of the mean plus an effect of the dispersion, each averaged over the two
orders in which they can be exchanged (Kitagawa 1955; Oaxaca 1973 and Blinder 1973 for regressions), plus what the
beta model does not fit.

Without a model (`compare_matched`): some draws of a problem measure how often the arm is right on it, the *others* say
whether a group is mixed. Strata by the arm's own counts in the very same draws would be circular, since the band is a
function of them; strata by the other arm's counts hold the same problems for both arms and so match nothing.
Averaged over every way to split the draws, this is exact and no draw counts twice.

Notation: `P` problems, `B` resamples, n draws of which c are correct, G draws in a group, A = n - G draws that sort.

Not handled: a few sorting draws measure success coarsely. Within a stratum the rates of two arms still differ (those of
an arm of extreme rates are more extreme), so the part that strata explain is a lower bound.

References
----------
Kitagawa, E. M. (1955). Components of a difference between two rates. Journal of the American Statistical
Association 50(272).
Oaxaca, R. (1973). Male-female wage differentials in urban labor markets. International Economic Review 14(3).
Blinder, A. S. (1973). Wage discrimination: reduced form and structural estimates. Journal of Human Resources 8(4).
Griffiths, D. A. (1973). Maximum likelihood estimation for the beta-binomial distribution. Biometrics 29(4).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.bands import mixed_group_probability
from panelbook.measure.counts import ArmPair, pair_arms, require_columns
from panelbook.measure.uncertainty import Estimates, Floats, Resampling, estimate_many

ALMOST_ONE = 1.0 - 1e-12
"""Dispersion is kept below 1, where the odds of it are infinite."""

PARTS = ("difference", "strength", "dispersion", "misfit", "share_strength", "second_at_first_mean")
MATCHED_PARTS = ("difference", "success", "within", "share_success", "ratio", "matched_ratio")


def rate_moments(n: npt.ArrayLike, c: npt.ArrayLike) -> Floats:
    """Unbiased estimates of p and of p squared for each problem, shape (P, 2).

    Raises
    ------
    ValueError
        If a problem has fewer than two draws, or impossible counts.

    Examples
    --------
    >>> rate_moments([4], [2]).round(12).tolist()  # of the 6 pairs of draws, 1 is right twice
    [[0.5, 0.166666666667]]
    """
    draws, correct = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (n, c))
    bad = np.flatnonzero(~((draws >= 2) & (correct >= 0) & (correct <= draws)))
    if len(bad):
        row = bad[0]
        raise ValueError(
            f"the spread of success rates needs n >= 2 draws of a problem and 0 <= c <= n; row {row} has "
            f"n={draws[row]:g}, c={correct[row]:g}. Draw more often, or leave the problem out."
        )
    return np.column_stack([correct / draws, correct * (correct - 1) / (draws * (draws - 1))])


def rate_dispersion(mean: npt.ArrayLike, second_moment: npt.ArrayLike) -> Floats:
    r"""Dispersion :math:`\rho` of success rates, from 0 (all problems alike) to 1 (all never or always right).

    Parameters
    ----------
    mean, second_moment
        Of the success rates over problems, estimated or true; arrays of one shape.

    Returns
    -------
    Array of that shape; estimates below 0 are set to 0; NaN where the mean is 0 or 1.
    """
    m, q = np.asarray(mean, dtype=np.float64), np.asarray(second_moment, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip((q - m**2) / (m * (1.0 - m)), 0.0, ALMOST_ONE)


def beta_mixed_share(mean: npt.ArrayLike, dispersion: npt.ArrayLike, group_size: int) -> Floats:
    r"""Share of mixed groups if success rates are beta-distributed with this mean and dispersion.

    Parameters
    ----------
    mean, dispersion
        m and :math:`\rho` = 1 / (a + b + 1) of a beta distribution with parameters a and b; arrays of one shape.
    group_size
        G.

    Notes
    -----
    1 - P(0) - P(G) of the beta-binomial (Griffiths 1973). With :math:`\theta = \rho / (1 - \rho)`, P(G) is the product
    of :math:`(m + i \theta) / (1 + i \theta)` over i < G, and P(0) the same with 1 - m: no beta function overflows,
    and :math:`\rho = 0` is the binomial.

    Examples
    --------
    >>> float(beta_mixed_share(0.5, 1 / 3, 2).round(12))  # uniform rates: 0, 1 and 2 of 2 are equally likely
    0.333333333333
    """
    m, rho = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(dispersion, dtype=np.float64))
    theta = rho / (1.0 - np.minimum(rho, ALMOST_ONE))
    all_right, all_wrong = np.ones(m.shape), np.ones(m.shape)
    for i in range(group_size):
        all_right = all_right * (m + i * theta) / (1.0 + i * theta)
        all_wrong = all_wrong * (1.0 - m + i * theta) / (1.0 + i * theta)
    return np.asarray(1.0 - all_right - all_wrong)


def decompose_mixed(
    counts: pd.DataFrame, first: str, second: str, group_size: int, resampling: Resampling
) -> pd.DataFrame:
    """Split the difference of two arms' shares of mixed groups into strength, dispersion and misfit.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms; the difference is the first minus the second.
    group_size
        G, at most the draws of any problem. At G = n the share of mixed groups is the variance band.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together, and the model is
        fitted by moments to every resample.

    Returns
    -------
    One row per part, columns part, estimate, low, high, n_problems, n_draws, method, reason. The difference is the sum
    of `strength` (the means exchanged), `dispersion` (the dispersions exchanged) and `misfit` (what the beta model
    leaves over). `share_strength` is strength over difference: below 0 it works against the difference.
    `second_at_first_mean` is the share of mixed groups of an arm as strong as the first and as dispersed as
    the second.

    Raises
    ------
    ValueError
        If G exceeds the draws of a problem, or as `pair_arms` and `rate_moments` do.
    """
    pair = pair_arms(counts, first, second)
    columns = [
        np.column_stack([rate_moments(rows["n"], rows["c"]), _mixed(rows, group_size)])
        for rows in (pair.first, pair.second)
    ]

    def split(means: Floats) -> Floats:
        m1, q1, mixed1, m2, q2, mixed2 = np.moveaxis(means, -1, 0)
        rho1, rho2 = rate_dispersion(m1, q1), rate_dispersion(m2, q2)
        own1, own2 = (beta_mixed_share(m, rho, group_size) for m, rho in ((m1, rho1), (m2, rho2)))
        weak2, strong1 = (beta_mixed_share(m, rho, group_size) for m, rho in ((m1, rho2), (m2, rho1)))
        difference = mixed1 - mixed2
        strength = (own1 - strong1 + weak2 - own2) / 2
        dispersion = (own1 - weak2 + strong1 - own2) / 2
        misfit = difference - (own1 - own2)
        return np.stack(
            [difference, strength, dispersion, misfit, strength / difference, mixed2 + weak2 - own2], axis=-1
        )

    return _table(PARTS, estimate_many(np.hstack(columns), split, resampling, pair.n_draws), pair)


def compare_matched(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the mixed groups of two arms at equal success in draws set apart for measuring it.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, with at least 3 draws of every problem.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    parts
        One row per part, columns as in `decompose_mixed`. With half of the fewest draws of a problem as the group and
        the rest as sorters, the difference of the shares of mixed groups is the sum of `success` (the strata have
        other weights) and `within` (the strata have other shares). `share_success` is success over difference,
        `ratio` the plain ratio of the shares, `matched_ratio` that ratio with both arms at the mean of their weights.
    strata
        One row per stratum: right (of `n_sorting` draws), n_sorting, group_size, first_weight, second_weight, and for
        each arm its share of mixed groups with low and high.

    Raises
    ------
    ValueError
        If a problem has fewer than 3 draws, or as `pair_arms` does.
    """
    pair = pair_arms(counts, first, second)
    fewest = int(min(pair.first["n"].min(), pair.second["n"].min()))
    if fewest < 3:
        raise ValueError(
            f"matching sets draws apart and needs 3 or more of every problem; one has n={fewest}. Draw more often."
        )
    group_size = max(2, fewest - fewest // 2)
    n_sorting = fewest - group_size
    values_P_K = np.hstack([_split_draws(rows, n_sorting, group_size) for rows in (pair.first, pair.second)])

    def split(means: Floats) -> Floats:
        w1, w2, r1, r2 = _stratum_shares(means)
        mixed1, mixed2 = (w1 * r1).sum(axis=-1), (w2 * r2).sum(axis=-1)
        success = ((w1 - w2) * (r1 + r2) / 2).sum(axis=-1)
        within = ((r1 - r2) * (w1 + w2) / 2).sum(axis=-1)
        standard = ((w1 + w2) * r1).sum(axis=-1) / ((w1 + w2) * r2).sum(axis=-1)
        difference = mixed1 - mixed2
        parts = [difference, success, within, success / difference, mixed1 / mixed2, standard]
        return np.stack(parts, axis=-1)

    def by_stratum(means: Floats) -> Floats:
        own = np.stack(np.split(means, 4, axis=-1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate([own[1] / own[0], own[3] / own[2]], axis=-1)

    parts = _table(MATCHED_PARTS, estimate_many(values_P_K, split, resampling, pair.n_draws), pair)
    shares = estimate_many(values_P_K, by_stratum, resampling, pair.n_draws)
    weights = values_P_K.mean(axis=0).reshape(4, -1)
    size = n_sorting + 1
    strata = pd.DataFrame({"right": np.arange(size), "n_sorting": n_sorting, "group_size": group_size})
    for side, start in (("first", 0), ("second", size)):
        strata[f"{side}_weight"] = weights[0 if side == "first" else 2]
        for name, column in (("", shares.value_M), ("_low", shares.low_M), ("_high", shares.high_M)):
            strata[f"{side}{name}"] = column[start : start + size]
    return parts, strata


def compare_sources(
    counts: pd.DataFrame, first: str, second: str, group_size: int, resampling: Resampling
) -> pd.DataFrame:
    """Mean success and share of mixed groups of two arms, source by source.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, source, n, c.
    first, second
        Arms.
    group_size
        G, at most the draws of any problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled within the source.

    Returns
    -------
    One row per source: source, first_success, second_success, first_mixed, second_mixed, difference, low, high,
    n_problems, n_draws, method, reason; the interval is that of the difference of the mixed shares.

    Raises
    ------
    ValueError
        If a column is missing, or as `decompose_mixed` does.
    """
    require_columns(counts, ("source",), "counts")
    pair = pair_arms(counts, first, second)
    rows = []
    for source, index in pair.first.groupby("source", observed=True).groups.items():
        one, other = pair.first.loc[index], pair.second.loc[index]
        mixed1, mixed2 = _mixed(one, group_size), _mixed(other, group_size)
        n_draws = int(one["n"].sum() + other["n"].sum())
        point = estimate_many(
            (mixed1 - mixed2)[:, np.newaxis], np.asarray, resampling, n_draws, support=(-1.0, 1.0)
        )
        rows.append(
            {
                "source": source,
                "first_success": (one["c"] / one["n"]).mean(),
                "second_success": (other["c"] / other["n"]).mean(),
                "first_mixed": mixed1.mean(),
                "second_mixed": mixed2.mean(),
                **point.to_frame().rename(columns={"estimate": "difference"}).iloc[0],
            }
        )
    return pd.DataFrame(rows)


def _mixed(rows: pd.DataFrame, group_size: int) -> Floats:
    """Chance of a mixed group of each problem of one arm."""
    return mixed_group_probability(rows["n"], rows["c"], group_size, rows["problem_id"].tolist())


def _split_draws(rows: pd.DataFrame, n_sorting: int, group_size: int) -> Floats:
    """Chance of each stratum, and of each stratum with a mixed group: shape (P, 2 (n_sorting + 1)).

    Over all ways to set `n_sorting` of n draws apart, the number of right ones among them is hypergeometric; a group of
    the draws that are left is mixed or not independently of which ones were set apart.
    """
    n, c = rows["n"].to_numpy(), rows["c"].to_numpy()
    right = np.arange(n_sorting + 1)
    chance: Floats = np.asarray(stats.hypergeom.pmf(right, n[:, np.newaxis], c[:, np.newaxis], n_sorting))
    left = (n - n_sorting)[:, np.newaxis]
    right_left = np.clip(c[:, np.newaxis] - right, 0, left)  # clipped where the stratum has chance 0
    mixed = mixed_group_probability(np.repeat(left, n_sorting + 1), right_left.ravel(), group_size)
    return np.hstack([chance, chance * mixed.reshape(chance.shape)])


def _stratum_shares(means: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Weights and shares of mixed groups of both arms' strata.

    A stratum that one arm never reaches says nothing about it: it takes the other arm's share, so that all of its
    difference is one of weights.
    """
    w1, x1, w2, x2 = np.split(means, 4, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r1, r2 = x1 / w1, x2 / w2
    r1, r2 = np.where(w1 > 0, r1, r2), np.where(w2 > 0, r2, r1)
    return w1, w2, np.nan_to_num(r1), np.nan_to_num(r2)


def _table(parts: tuple[str, ...], points: Estimates, pair: ArmPair) -> pd.DataFrame:
    """Tabulate the parts of a difference."""
    table = points.to_frame()
    table.insert(0, "part", list(parts))
    table["n_unpaired"] = pair.n_unpaired
    return table
