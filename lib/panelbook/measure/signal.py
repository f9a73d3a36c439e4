r"""Signal: how much a group of draws has to teach, where it comes from, and what it costs.

A variance band only asks whether the draws of a group differ. What an update learns from grows with the squared
advantages. Drawing G times with success probability p and taking the mean of the group off,

.. math:: E\Big[\tfrac{1}{G} \sum_i A_i^2\Big] = \frac{G-1}{G}\, p (1 - p),

the *signal* of a problem. From c of n correct draws, :math:`c (n - c) / (n (n - 1))` is an unbiased estimate of
p (1 - p), for every group size G, also one above n. Averaged over problems it is

.. math:: \frac{G-1}{G}\, m (1 - m) (1 - \rho),

with the mean m of the success rates and their dispersion :math:`\rho` (`matching.rate_dispersion`): so the ratio
of two arms' signals is exactly a factor of strength times a factor of dispersion, whatever distribution the rates have.

The reward has a second term for the tags, r = correct + w (tag_valid - 1). Its variance within a problem is that of the
outcome, plus w squared that of the tags, plus 2 w their covariance (`reward_parts`).

Notation: `P` problems, n draws of which c are correct, G draws in a group, w the weight of the tags.

Not handled: how far a squared advantage moves the weights, which depends on the gradients of the draws.

References
----------
Shao, Z. et al. (2024). DeepSeekMath. arXiv:2402.03300 (group-relative advantages).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.bands import mixed_group_probability
from panelbook.measure.counts import list_arms, pair_arms, require_columns, select_arm
from panelbook.measure.matching import beta_mixed_share, rate_dispersion, rate_moments
from panelbook.measure.uncertainty import Estimate, Floats, Resampling, estimate, estimate_many

QUANTITIES = ("first", "second", "ratio", "strength_factor", "dispersion_factor")
REWARD_PARTS = ("outcome", "tags", "covariance", "total", "tag_share")
MILLION = 1e6


def expected_signal(n: npt.ArrayLike, c: npt.ArrayLike, group_size: int) -> Floats:
    """Unbiased mean squared advantage of a group of G draws of each problem.

    Parameters
    ----------
    n, c
        Draws, at least 2, and correct draws of each problem.
    group_size
        G, at least 2; it may exceed n.

    Returns
    -------
    Array of shape (P,). The mean *absolute* advantage of 0-1 outcomes is exactly twice this: a group with a share s of
    correct draws has mean squared advantage s (1 - s) and mean absolute advantage 2 s (1 - s).

    Raises
    ------
    ValueError
        If the counts are impossible, a problem has one draw, or G is below 2.

    Examples
    --------
    >>> expected_signal([2, 2, 2], [0, 1, 2], group_size=2).tolist()  # advantages +1/2 and -1/2 in the middle
    [0.0, 0.25, 0.0]
    """
    if group_size < 2:
        raise ValueError(f"group_size must be 2 or more, or no draw has an advantage; got {group_size}.")
    moments = rate_moments(n, c)
    return np.asarray((moments[:, 0] - moments[:, 1]) * (group_size - 1) / group_size)


def compare_signal(
    counts: pd.DataFrame, first: str, second: str, group_size: int, resampling: Resampling
) -> pd.DataFrame:
    """Compare the signal of two arms on the same problems, and split their ratio.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    group_size
        G; the ratio does not depend on it.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns quantity, estimate, low, high, n_problems, n_draws, method, reason; rows `first`, `second`, `ratio`,
    `strength_factor` (ratio of m (1 - m)) and `dispersion_factor` (ratio of 1 - rho). The ratio is the product
    of the two factors.

    Raises
    ------
    ValueError
        As `expected_signal` and `pair_arms` do.
    """
    pair = pair_arms(counts, first, second)
    columns = [
        np.column_stack([expected_signal(rows["n"], rows["c"], group_size), rows["c"] / rows["n"]])
        for rows in (pair.first, pair.second)
    ]

    def compare(means: Floats) -> Floats:
        signal1, m1, signal2, m2 = np.moveaxis(means, -1, 0)
        ratio, strength = signal1 / signal2, (m1 * (1 - m1)) / (m2 * (1 - m2))
        return np.stack([signal1, signal2, ratio, strength, ratio / strength], axis=-1)

    table = estimate_many(np.hstack(columns), compare, resampling, pair.n_draws).to_frame()
    table.insert(0, "quantity", list(QUANTITIES))
    return table


def compare_signal_per_token(
    counts: pd.DataFrame, first: str, second: str, group_size: int, resampling: Resampling
) -> pd.DataFrame:
    """Compare what two arms' groups have to teach for a million sampled tokens.

    A group of G draws has G times the signal as its sum of squared advantages, and G times the mean length as its
    tokens, so the two means divide.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second, group_size, resampling
        As in `compare_signal`.

    Returns
    -------
    As `compare_signal`, rows `first`, `second` and `ratio`.

    Raises
    ------
    ValueError
        As `compare_signal` does, or if a problem has no mean_tokens.
    """
    pair = pair_arms(counts, first, second, ["mean_tokens"])
    columns = [
        np.column_stack([expected_signal(rows["n"], rows["c"], group_size), rows["mean_tokens"]])
        for rows in (pair.first, pair.second)
    ]

    def compare(means: Floats) -> Floats:
        rates = means[..., [0, 2]] / means[..., [1, 3]]
        ratio = rates[..., :1] / rates[..., 1:]
        return np.concatenate([rates * MILLION, ratio], axis=-1)

    table = estimate_many(np.hstack(columns), compare, resampling, pair.n_draws).to_frame()
    table.insert(0, "quantity", list(QUANTITIES[:3]))
    return table


def mixed_share_at_any_size(
    counts: pd.DataFrame, group_sizes: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Share of mixed groups at each group size: counted up to n draws, from a model beyond.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    group_sizes
        Values of G, each at least 2.
    resampling
        Seed, number of resamples and confidence; problems are resampled, and the model fitted to each resample.

    Returns
    -------
    Columns arm, group_size, model_based, estimate, low, high, n_problems, n_draws, method, reason. Where a problem
    has fewer than G draws no unbiased estimate exists: the chance of a mixed group is a polynomial of degree G in p.
    There `model_based` is True and the share that of beta-distributed success rates fitted by their first two moments.

    Raises
    ------
    ValueError
        As `expected_signal` does for counts or a group size below 2.
    """
    if min(group_sizes) < 2:
        raise ValueError(f"every group size must be 2 or more, or no group is mixed; got {min(group_sizes)}.")
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        n, c = rows["n"].to_numpy(), rows["c"].to_numpy()
        counted = [size for size in group_sizes if size <= n.min()]
        beyond = [size for size in group_sizes if size > n.min()]
        values = np.column_stack(
            [mixed_group_probability(n, c, size) for size in counted] + [rate_moments(n, c)]
        )

        def share(means: Floats, beyond: list[int] = beyond) -> Floats:
            m, q = means[..., -2], means[..., -1]
            model = [beta_mixed_share(m, rate_dispersion(m, q), size) for size in beyond]
            return np.concatenate([means[..., :-2], *(each[..., np.newaxis] for each in model)], axis=-1)

        table = estimate_many(values, share, resampling, int(n.sum())).to_frame()
        table.insert(0, "model_based", [False] * len(counted) + [True] * len(beyond))
        table.insert(0, "group_size", counted + beyond)
        table.insert(0, "arm", arm)
        tables.append(table.sort_values("group_size"))
    return pd.concat(tables, ignore_index=True)


def fresh_mixed_share(
    counts: pd.DataFrame, arm: str, problem_ids: Sequence[str], group_size: int, resampling: Resampling
) -> Estimate:
    """Share of mixed groups to expect from a *new* group on chosen problems, every source visited equally often.

    Problems chosen because their draws were mixed would look better than they are if the same draws also
    predicted their groups. Here the rates of all of the arm's problems, chosen or not, give a beta prior,
    and each chosen problem's counts its posterior, under which a new group of G draws is mixed or not.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, source, n, c.
    arm
        Arm to predict for.
    problem_ids
        Problems that groups are drawn from.
    group_size
        G; it may exceed n.
    resampling
        Seed, number of resamples and confidence; the chosen problems are resampled within sources, the prior stays.

    Raises
    ------
    ValueError
        If none of the problems is in the table, or as `select_arm` and `rate_moments` do.
    """
    require_columns(counts, ("source",), "counts")
    rows = select_arm(counts, arm)
    n, c = rows["n"].to_numpy(dtype=float), rows["c"].to_numpy(dtype=float)
    m, q = rate_moments(n, c).mean(axis=0)
    prior_draws = 1.0 / max(float(rate_dispersion(m, q)), 1e-9) - 1.0  # a + b of the beta distribution
    chosen = rows["problem_id"].isin(list(problem_ids)).to_numpy()
    if not chosen.any():
        raise ValueError(
            f"none of the {len(problem_ids)} problems is in the counts of arm {arm!r}. Check their ids."
        )
    draws = prior_draws + n[chosen]
    mixed = beta_mixed_share((m * prior_draws + c[chosen]) / draws, 1.0 / (draws + 1.0), group_size)
    sources = rows.loc[chosen, "source"].astype(str)
    sizes = sources.map(sources.value_counts()).to_numpy(dtype=float)
    even = len(sources) / (sources.nunique() * sizes)  # weights that give every source the same share
    return estimate(
        (mixed * even)[:, np.newaxis], lambda means: means[..., 0], resampling, int(n[chosen].sum()), sources
    )


def reward_parts(
    rollouts: pd.DataFrame, tag_coef: float, group_size: int, resampling: Resampling
) -> pd.DataFrame:
    """Split the signal of the reward into outcome, tags and what they share.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, status, tag_valid; at least 2 draws of every problem.
    tag_coef
        w, the weight of the tags.
    group_size
        G, at least 2.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, part, estimate, low, high, n_problems, n_draws, method, reason. The `total` is the sum of
    `outcome`, `tags` and `covariance`; `tag_share` is the share of the total that is not the outcome's.

    Raises
    ------
    ValueError
        If a column is missing, a problem has one draw, or G is below 2.

    Notes
    -----
    Variances and covariances are those of the draws of one problem with n - 1 below, unbiased, times (G-1) / G.
    """
    require_columns(rollouts, ("arm", "problem_id", "status", "tag_valid"), "rollouts")
    if group_size < 2:
        raise ValueError(f"group_size must be 2 or more, or no draw has an advantage; got {group_size}.")
    draws = pd.DataFrame(
        {
            "arm": rollouts["arm"].astype(str),
            "problem_id": rollouts["problem_id"].astype(str),
            "x": (rollouts["status"] == "correct").astype(float),
            "y": tag_coef * rollouts["tag_valid"].astype(float),
        }
    )
    draws = draws.assign(xx=draws["x"] ** 2, yy=draws["y"] ** 2, xy=draws["x"] * draws["y"])
    tables = []
    for arm, mine in draws.groupby("arm"):
        by_problem = mine.groupby("problem_id")
        n = by_problem.size()
        if n.min() < 2:
            raise ValueError(
                f"a variance needs 2 draws of every problem; {n.idxmin()!r} of arm {arm!r} has one. Draw more often."
            )
        mean = by_problem[["x", "y", "xx", "yy", "xy"]].mean()
        scale = n / (n - 1) * (group_size - 1) / group_size
        values = np.column_stack(
            [
                (mean["xx"] - mean["x"] ** 2) * scale,
                (mean["yy"] - mean["y"] ** 2) * scale,
                2 * (mean["xy"] - mean["x"] * mean["y"]) * scale,
            ]
        )

        def split(means: Floats) -> Floats:
            total = means.sum(axis=-1, keepdims=True)
            return np.concatenate([means, total, 1.0 - means[..., :1] / total], axis=-1)

        table = estimate_many(values, split, resampling, int(n.sum())).to_frame()
        table.insert(0, "part", list(REWARD_PARTS))
        table.insert(0, "arm", arm)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def round_robin_visits(pool: pd.DataFrame, n_visits: int) -> pd.DataFrame:
    """How often each problem is visited when sources take turns and each goes round its own problems.

    Parameters
    ----------
    pool
        Training problems: problem_id, source.
    n_visits
        Visits in all, one per group.

    Returns
    -------
    Columns problem_id, source, n_visits. Within a source the numbers differ by at most one; *which* problems have the
    extra visit depends on the shuffle, which is not tracked: here it is the first ones.

    Raises
    ------
    ValueError
        If a column is missing, the pool is empty or there are no visits.

    Examples
    --------
    >>> pool = pd.DataFrame({"problem_id": ["a", "b", "c"], "source": ["x", "x", "y"]})
    >>> round_robin_visits(pool, 10)["n_visits"].tolist()
    [3, 2, 5]
    """
    require_columns(pool, ("problem_id", "source"), "pool")
    if pool.empty or n_visits < 1:
        raise ValueError(
            f"visits need problems and a positive number; got {len(pool)} problems, {n_visits} visits."
        )
    table = pool[["problem_id", "source"]].sort_values(["source", "problem_id"], ignore_index=True)
    groups = table.groupby("source", observed=True)
    turn = groups.ngroup().to_numpy()
    of_source = n_visits // groups.ngroups + (turn < n_visits % groups.ngroups)
    size = groups["problem_id"].transform("size").to_numpy()
    return table.assign(n_visits=of_source // size + (groups.cumcount().to_numpy() < of_source % size))


def audit_visits(visits: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """How often the problems of each source were visited, and how many of them too often.

    Parameters
    ----------
    visits
        One row per problem: source, n_visits.
    most
        Visits of one problem above which it is flagged.

    Returns
    -------
    Columns source, problems, visits, visits_per_problem, most_visits, n_over (problems above `most`), visits_over
    (their visits); a row for each source and the total `all`.

    Raises
    ------
    ValueError
        If a column is missing or there is no problem.
    """
    require_columns(visits, ("source", "n_visits"), "visits")
    if visits.empty:
        raise ValueError("the visits table has no problem. Check the training run it comes from.")
    number = visits["n_visits"]
    over = number > most
    flagged = pd.DataFrame(
        {
            "source": visits["source"].astype(str),
            "visits": number,
            "n_over": over,
            "visits_over": number.where(over, 0),
        }
    )
    total = flagged.assign(source="all")
    rows = pd.concat([flagged, total]).groupby("source", sort=False)
    table = rows.agg(
        problems=("visits", "size"),
        visits=("visits", "sum"),
        visits_per_problem=("visits", "mean"),
        most_visits=("visits", "max"),
        n_over=("n_over", "sum"),
        visits_over=("visits_over", "sum"),
    ).reset_index()
    table["last"] = table["source"] == "all"
    return table.sort_values(["last", "source"], ignore_index=True).drop(columns="last")
