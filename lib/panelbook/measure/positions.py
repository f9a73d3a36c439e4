"""Positions: two arms at every position of a dial, from one resampling of the problems.

A dial of a chapter turns one setting: the number of draws, the size of a group, a budget, a cap, a threshold, a
checkpoint. Each function here answers at all positions at once and returns the same tidy table, one row per position
and quantity: the setting, `quantity`, estimate, low, high, n_problems, n_draws, method, reason. The quantities `first`
and `second` are the two arms, `gap` is first minus second, paired by problem; a quantity that has no interval has its
reason.

Notation: `P` problems, `X` positions.

Not handled: simultaneous coverage of all positions (every interval is pointwise), so a position chosen because it
looks best has an interval that is too short.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.bands import BANDS, classify_band
from panelbook.measure.budget import Quantity, read_pass_curve, score_budgets, token_limit
from panelbook.measure.counts import pair_arms, require_columns
from panelbook.measure.matched import check_heldout
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Estimates, Floats, Resampling, estimate_many, keep_means


def compare_at_each_k(
    counts: pd.DataFrame, first: str, second: str, ks: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Pass@k of both arms, their gap, the ratio of their failures, and what a merely weaker copy would reach.

    The copy is the arm that is better at one draw with a share of its right draws spoilt at random, so many that
    its pass@1 is that of the other arm; it searches no wider, by construction. See `panelbook.measure.closure`.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    ks
        Values of k, none larger than the draws of any paired problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Column k; quantities first, second, gap, `failure_ratio` (share of problems that the first fails over that of the
    second), `copy`, and `beyond_copy` (the weaker arm minus the copy). `attrs["stronger"]` names the arm copied.

    Raises
    ------
    ValueError
        If k exceeds the draws of a problem, the arms share no problem, or the table is malformed.

    Notes
    -----
    The share kept is s = pass@1 (weaker) / pass@1 (stronger), recomputed in every resample; the copy passes with
    1 - E[(1 - s)^J], J hypergeometric: the right ones among k of n draws.
    """
    pair = pair_arms(counts, first, second)
    sides = (pair.first, pair.second)
    passes = [pass_at_k_matrix(rows["n"], rows["c"], ks, rows["problem_id"].tolist()) for rows in sides]
    rates = [(rows["c"] / rows["n"]).to_numpy(dtype=float) for rows in sides]
    strong = 0 if rates[0].mean() > rates[1].mean() else 1
    n_strong, c_strong = (sides[strong][name].to_numpy()[:, np.newaxis] for name in ("n", "c"))
    # Chance of j right draws among k, all k side by side, shape (P, sum of k + 1).
    right = [stats.hypergeom.pmf(np.arange(k + 1), n_strong, c_strong, k) for k in ks]
    ends = np.cumsum([k + 1 for k in ks])
    size = len(ks)

    def compare(means: Floats) -> Floats:
        one, two = means[..., 2 : 2 + size], means[..., 2 + size : 2 + 2 * size]
        spoilt = 1.0 - means[..., 1 - strong, np.newaxis] / means[..., strong, np.newaxis]
        chance = means[..., 2 + 2 * size :]
        copy = np.stack(
            [
                1.0 - (chance[..., end - k - 1 : end] * spoilt ** np.arange(k + 1)).sum(axis=-1)
                for k, end in zip(ks, ends, strict=True)
            ],
            axis=-1,
        )
        weak = two if strong == 0 else one
        return np.concatenate([(1.0 - one) / (1.0 - two), copy, weak - copy], axis=-1)

    values = np.column_stack([*rates, *passes, *right])
    points = estimate_many(values, compare, resampling, pair.n_draws, n_unpaired=pair.n_unpaired)
    table = pd.concat(
        [
            _two_arms("k", ks, passes, resampling, (sides[0]["n"].sum(), sides[1]["n"].sum())),
            _rows("k", ks, ("failure_ratio", "copy", "beyond_copy"), points),
        ],
        ignore_index=True,
    )
    table.attrs["stronger"] = (first, second)[strong]
    return table


def compare_at_each_group_size(
    counts: pd.DataFrame, first: str, second: str, sizes: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Share of groups of G draws to expect all wrong, mixed and all right, for both arms.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms; draws may differ in number, since both are measured at the same G.
    sizes
        Values of G, none larger than the draws of any paired problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns group_size and band (as `panelbook.measure.bands.BANDS`); quantities first, second, gap and `ratio`, first
    over second. At G = n the shares are those of `band_shares`.

    Raises
    ------
    ValueError
        If G exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, first, second)
    shares: list[list[Floats]] = []
    for rows in (pair.first, pair.second):
        n, c, ids = rows["n"].to_numpy(), rows["c"].to_numpy(), rows["problem_id"].tolist()
        never = 1.0 - pass_at_k_matrix(n, c, sizes, ids)
        always = 1.0 - pass_at_k_matrix(n, n - c, sizes, ids)
        shares.append([never, np.maximum(1.0 - never - always, 0.0), always])
    n_draws = (pair.first["n"].sum(), pair.second["n"].sum())
    tables = []
    for band, one, two in zip(BANDS, *shares, strict=True):
        ratio = estimate_many(np.hstack([one, two]), _ratio_of_halves, resampling, pair.n_draws)
        arms = _two_arms("group_size", sizes, [one, two], resampling, n_draws)
        both = pd.concat([arms, _rows("group_size", sizes, ("ratio",), ratio)], ignore_index=True)
        tables.append(both.assign(band=band))
    return pd.concat(tables, ignore_index=True)


def compare_at_each_budget(
    rollouts: pd.DataFrame,
    first: str,
    second: str,
    budgets: Sequence[int] | npt.NDArray[np.int64],
    resampling: Resampling,
    quantity: Quantity = "pass",
) -> pd.DataFrame:
    """Chance that a budget yields a right answer under both arms, draw by draw, and their gap.

    Parameters
    ----------
    rollouts
        One row per draw, as for `panelbook.measure.budget.score_budgets`.
    first, second
        Arms.
    budgets
        Tokens per problem, increasing; those that the draws of some problem do not reach are left out.
    resampling
        Seed (also of the orders), number of resamples and confidence; problems are resampled, both arms together.
    quantity
        "pass" or "majority".

    Returns
    -------
    Column budget; quantities first, second, gap.

    Raises
    ------
    ValueError
        As `score_budgets`, or if the arms share no problem or no budget is reached.
    """
    draws = _shared_problems(rollouts, first, second)
    at = np.asarray(budgets)
    scores = [score_budgets(draws, arm, at, quantity, resampling.seed) for arm in (first, second)]
    reached = at <= min(score.drawn_P.min() for score in scores)
    if not reached.any():
        raise ValueError(
            f"no budget from {at[0]:,} tokens on is reached by the draws of every problem. Lower the budgets."
        )
    values = [score.score_P_G[:, reached] for score in scores]
    return _two_arms("budget", at[reached], values, resampling, [score.n_draws for score in scores])


def compare_at_each_mean_budget(
    counts: pd.DataFrame,
    first: str,
    second: str,
    budgets: Sequence[int] | npt.NDArray[np.int64],
    resampling: Resampling,
    *,
    every_problem: bool = True,
) -> pd.DataFrame:
    """Pass rate that a budget buys under both arms when every draw costs the arm's mean length, and their gap.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second
        Arms.
    budgets
        Tokens per problem, increasing; those beyond the draws of either arm are left out.
    resampling
        Seed, number of resamples and confidence; the mean length is recomputed in every resample, and an arm whose
        draws end before the budget does in a resample is credited with all of them.
    every_problem
        As for `panelbook.measure.budget.compare_count_budgets`.

    Returns
    -------
    Column budget; quantities first, second, gap.

    Raises
    ------
    ValueError
        If a length is missing, the arms share no problem, no budget is reached, or the table is malformed.
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    sides = (pair.first, pair.second)
    k_max = [int(rows["n"].min()) for rows in sides]
    passes = [
        pass_at_k_matrix(rows["n"], rows["c"], np.arange(1, k + 1), rows["problem_id"].tolist())
        for rows, k in zip(sides, k_max, strict=True)
    ]
    lengths = [rows["mean_tokens"].to_numpy(dtype=float) for rows in sides]
    at = np.asarray(budgets, dtype=float)
    at = at[at <= min(k * float(tokens.mean()) for k, tokens in zip(k_max, lengths, strict=True))]
    if len(at) == 0:
        raise ValueError(f"no budget from {budgets[0]:,} tokens on is within both arms' draws. Lower them.")

    def compare(means: Floats) -> Floats:
        one, two = (
            read_pass_curve(curve, at / means[..., side, np.newaxis], every_problem, True)
            for side, curve in enumerate((means[..., 2 : 2 + k_max[0]], means[..., 2 + k_max[0] :]))
        )
        return np.concatenate([one, two, one - two], axis=-1)

    points = estimate_many(
        np.column_stack([*lengths, *passes]), compare, resampling, pair.n_draws, n_unpaired=pair.n_unpaired
    )
    table = _rows("budget", at.astype(np.int64), ("first", "second", "gap"), points)
    nothing = (table["estimate"] == 0.0) & table["low"].isna() & every_problem
    table.loc[nothing, "reason"] = (
        "the budget pays for less than one mean draw, which by this rule buys nothing"
    )
    return table


def compare_at_each_cap(
    rollouts: pd.DataFrame,
    first: str,
    second: str,
    caps: Sequence[int] | npt.NDArray[np.int64],
    resampling: Resampling,
) -> pd.DataFrame:
    """Cost of a right draw and share of right draws kept if draws had been cut at a lower token limit.

    A draw longer than the cap is cut at it, costs the cap and counts as wrong.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, completion_tokens, status and, where known, max_tokens.
    first, second
        Arms.
    caps
        Caps in tokens, positive; those above a limit that the draws were made with are left out.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Column cap; quantities `first_cost` and `second_cost` (tokens of all draws per right one), `cost_ratio` (second over
    first), `first_kept`, `second_kept` (share of the right draws that fit under the cap) and `kept_gap`.

    Raises
    ------
    ValueError
        If a column is missing, the arms share no problem, or no cap is left.
    """
    require_columns(rollouts, ("arm", "problem_id", "completion_tokens", "status"), "rollouts")
    draws = _shared_problems(rollouts, first, second)
    limit = min(token_limit(rollouts, arm) for arm in (first, second))
    at = np.asarray([cap for cap in caps if 0 < cap <= limit], dtype=np.int64)
    if len(at) == 0:
        raise ValueError(
            f"no cap is left: the draws were made with a limit of {limit:,.0f} tokens. Lower the caps."
        )
    code = pd.factorize(draws["problem_id"], sort=True)[0]
    tokens = draws["completion_tokens"].to_numpy(dtype=float)
    right = (draws["status"] == "correct").to_numpy(dtype=bool)
    columns = []
    for arm in (first, second):
        mine = (draws["arm"] == arm).to_numpy()
        for weight in (
            *(np.minimum(tokens, cap) for cap in at),
            *(right & (tokens <= cap) for cap in at),
            right,
        ):
            columns.append(np.bincount(code[mine], weight[mine].astype(float), minlength=code.max() + 1))
    size = len(at)

    def compare(means: Floats) -> Floats:
        costs, kept = [], []
        for side in (means[..., : 2 * size + 1], means[..., 2 * size + 1 :]):
            costs.append(side[..., :size] / side[..., size : 2 * size])
            kept.append(side[..., size : 2 * size] / side[..., 2 * size :])
        return np.concatenate([*costs, costs[1] / costs[0], *kept, kept[0] - kept[1]], axis=-1)

    points = estimate_many(np.column_stack(columns), compare, resampling, len(draws))
    names = ("first_cost", "second_cost", "cost_ratio", "first_kept", "second_kept", "kept_gap")
    return _rows("cap", at, names, points)


def compare_at_each_threshold(
    table: pd.DataFrame, first: str, second: str, resampling: Resampling
) -> pd.DataFrame:
    """Mean number of clusters per problem under both arms at every threshold, and their gap.

    Parameters
    ----------
    table
        One row per arm, problem and threshold: arm, problem_id, n, threshold, n_clusters.
    first, second
        Arms; where their draws differ in number, so do the most clusters they can have.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Column threshold; quantities first, second, gap.

    Raises
    ------
    ValueError
        If a column is missing, a problem lacks a threshold, or the arms share no problem.
    """
    require_columns(table, ("arm", "problem_id", "n", "threshold", "n_clusters"), "clusters")
    wide = [
        table[table["arm"] == arm].pivot(index="problem_id", columns="threshold", values="n_clusters")
        for arm in (first, second)
    ]
    shared = wide[0].index.intersection(wide[1].index)
    if len(shared) == 0:
        raise ValueError(f"arms {first!r} and {second!r} share no problem_id. Check the arms' names.")
    values = [counts.loc[shared].to_numpy(dtype=float) for counts in wide]
    once = table.drop_duplicates(["arm", "problem_id"]).query("problem_id in @shared")
    n_draws = [once.loc[once["arm"] == arm, "n"].sum() for arm in (first, second)]
    return _two_arms("threshold", wide[0].columns.to_numpy(), values, resampling, n_draws, bounded=False)


def compare_at_each_step(
    heldout: pd.DataFrame, first: str, second: str, k: int, resampling: Resampling
) -> pd.DataFrame:
    """Pass@1, pass@k and the variance band of both arms at every checkpoint, and their gaps.

    Parameters
    ----------
    heldout
        As for `panelbook.measure.matched.check_heldout`; training seeds of an arm are averaged within each problem.
    first, second
        Arms.
    k
        Draws of the pass@k beside pass@1.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns step (those that every run of both arms has) and measure ("pass_1", "pass_k", "band"); quantities first,
    second, gap.

    Raises
    ------
    ValueError
        As `check_heldout`, if k exceeds the draws of a problem, or the arms share no checkpoint.
    """
    rows = check_heldout(heldout[heldout["arm"].isin([first, second])])
    n_runs = rows.groupby("arm")["train_seed"].nunique().sum()
    runs_at = rows.drop_duplicates(["arm", "train_seed", "step"]).groupby("step").size()
    steps = runs_at.index[runs_at == n_runs].tolist()
    if rows["arm"].nunique() < 2 or not steps:
        raise ValueError(
            f"arms {first!r} and {second!r} share no checkpoint. Train both for as many updates."
        )
    passes = pass_at_k_matrix(rows["n"], rows["c"], [1, k])
    rows = rows.assign(
        pass_1=passes[:, 0],
        pass_k=passes[:, 1],
        band=(classify_band(rows["n"], rows["c"]) == "variance_band").astype(float),
    )
    tables = []
    for measure in ("pass_1", "pass_k", "band"):
        wide = rows.pivot_table(index="problem_id", columns=["arm", "step"], values=measure, aggfunc="mean")
        values = [wide[arm][steps].to_numpy(dtype=float) for arm in (first, second)]
        n_draws = [
            rows.loc[(rows["arm"] == arm) & (rows["step"] == steps[0]), "n"].sum() for arm in (first, second)
        ]
        tables.append(_two_arms("step", steps, values, resampling, n_draws).assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def _two_arms(
    key: str,
    at: Sequence[float] | npt.NDArray[np.generic],
    values: Sequence[Floats],
    resampling: Resampling,
    n_draws: Sequence[float],
    *,
    bounded: bool = True,
) -> pd.DataFrame:
    """Tabulate both arms and their gap, from one value of shape (P, X) each; `bounded` values are probabilities."""
    one, two = values
    tables = []
    for name, matrix, low, drawn in (
        ("first", one, 0.0, n_draws[0]),
        ("second", two, 0.0, n_draws[1]),
        ("gap", one - two, -1.0, sum(n_draws)),
    ):
        support = (low, 1.0) if bounded else None
        points = estimate_many(matrix, keep_means, resampling, int(drawn), support=support)
        tables.append(_rows(key, at, (name,), points))
    return pd.concat(tables, ignore_index=True)


def _rows(
    key: str,
    at: Sequence[float] | npt.NDArray[np.generic],
    quantities: Sequence[str],
    points: Estimates,
) -> pd.DataFrame:
    """Name the outputs of one resampling, quantity by quantity, each at every position."""
    table = points.to_frame()
    table.insert(0, "quantity", np.repeat(quantities, len(at)))
    table.insert(0, key, np.tile(np.asarray(at), len(quantities)))
    return table


def _ratio_of_halves(means: Floats) -> Floats:
    """Ratio of the first half of the means to the second."""
    size = means.shape[-1] // 2
    return np.asarray(means[..., :size] / means[..., size:])


def _shared_problems(rollouts: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return the draws of both arms on the problems that both have."""
    ids = [set(rollouts.loc[rollouts["arm"] == arm, "problem_id"]) for arm in (first, second)]
    shared = ids[0] & ids[1]
    if not shared:
        raise ValueError(
            f"arms {first!r} and {second!r} share no problem_id. Check that both come from one benchmark."
        )
    return rollouts[rollouts["problem_id"].isin(shared) & rollouts["arm"].isin([first, second])]
