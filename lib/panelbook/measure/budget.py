"""Budget: what a number of tokens buys, and from which number on the other arm buys more.

Pass@k compares arms at equal draws, although the draws of one may cost many times those of the other. Here the
arms are compared at equal tokens. A budget of B tokens per problem can be spent in two ways:

- *single draws* (`compare_draw_budgets`): draws of a problem are taken in random order, without replacement, until B is
  used up. A draw that needs more than is left is cut, costs what is left and counts as wrong. Pass@B is the chance that
  a right draw is finished within B; maj@B the chance that the answer given most often by the finished draws is right.
- *means only* (`compare_count_budgets`): every problem gets equally many draws, k of them costing k times the mean
  length. Between whole k the budget gives some problems one draw more than others, so the curve is a straight line.
  A budget below one mean draw leaves problems without an answer and buys nothing, unless problems may be skipped.

Both are unbiased as long as the draws last: whether a right draw is finished within B depends on no draw beyond the n
recorded if their tokens sum to B or more. Where a problem's draws sum to less, the next one might have solved it, and
the estimate would be too low; the curve of an arm therefore ends at the smallest sum over its problems (for the means,
at the mean cost of the fewest draws) and budgets beyond it count as not observed.

The *crossover* is the smallest budget from which on, as far as both arms are observed, the arm that leads at small
budgets does not lead any more. It is read off a grid, so it is exact to one step of the grid.

Notation: `P` problems, `G` budgets, `R` orders of the draws, `L` caps, `D` draws, n draws and c right draws of a
problem, B a budget in tokens per problem.

Not handled: stopping a draw early for other reasons than the budget; answers that a cut draw would have been credited
with; latency and batching; votes for one wrong answer written in two ways, which count as two answers while all right
ones count as one; caps above the token limit that the draws were made with.

References
----------
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374 (pass@k).
Wang, X. et al. (2023). Self-consistency improves chain of thought reasoning in language models. ICLR (majority).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.counts import ArmPair, pair_arms, require_columns
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.tokens import CostComparison
from panelbook.measure.uncertainty import (
    ROUNDING,
    Estimate,
    Estimates,
    Floats,
    Ints,
    Resampling,
    Statistic,
    estimate,
    estimate_many,
    keep_means,
    resample_means,
)

Quantity = Literal["pass", "majority"]
Prompts = Literal["each_draw", "once", "not_counted"]
# Means of shape (..., K) to the difference of two curves and their budgets, both of shape (..., G).
DifferenceCurve = Callable[[Floats], tuple[Floats, Floats]]

# Random orders of a problem's draws: their error, at most 0.5 / sqrt(200) for one problem, averages out over problems.
N_ORDERS = 200
# Budgets on a curve of single draws, and steps of the grid on which a crossover of mean lengths is looked for.
N_BUDGETS = 80
N_STEPS = 400
# Draws in all orders held at once.
CELLS = 4_000_000
PER_MILLION = 1e6


@dataclass(frozen=True)
class Crossover:
    """From which budget on another arm leads.

    Parameters
    ----------
    tokens
        The budget in tokens per problem; NaN, with the reason, where the lead does not change.
    leader
        The arm that leads at the smallest budget at which the arms differ; "" where they never do.
    follower
        The other arm; "" where the arms never differ.
    share_without
        Share of the resamples in which the lead does not pass from `leader` to `follower` for good.
    """

    tokens: Estimate
    leader: str
    follower: str
    share_without: float


@dataclass(frozen=True)
class BudgetGap:
    """The two arms at one budget.

    Parameters
    ----------
    budget
        Tokens per problem.
    gap
        First minus second, paired within problems.
    short_of
        The arm whose draws end before the budget does; it is credited with what all of them reach, and its pass rate
        would be no smaller at the budget itself. "first and second" where both do, "" where both are observed.
    """

    budget: float
    gap: Estimate
    short_of: str


@dataclass(frozen=True)
class BudgetComparison:
    """Two arms over a range of budgets.

    Parameters
    ----------
    curve
        Columns arm, budget, estimate, low, high, n_problems, n_draws, method, reason, observed; with means only, k.
    limits
        The largest budget at which each arm is observed, first and second.
    crossover
        Where the lead changes.
    low, equal, high
        The gap at one mean draw of the shorter arm, at one of the longer, and at the largest budget at which
        both arms are observed.
    first_coverage, second_coverage, coverage_ratio
        Tokens per problem to solve a given share of the problems, and their ratio, second over first.
    """

    curve: pd.DataFrame
    limits: tuple[float, float]
    crossover: Crossover
    low: BudgetGap
    equal: BudgetGap
    high: BudgetGap
    first_coverage: Estimate
    second_coverage: Estimate
    coverage_ratio: Estimate


@dataclass(frozen=True)
class UntilRight:
    """Cost of drawing until the first right answer, giving up after m draws.

    Parameters
    ----------
    n_draws
        m.
    first_tokens, second_tokens
        Expected tokens per problem, problems that are never solved included.
    first_solved, second_solved
        Expected share of problems solved; the others are given up.
    first_cost, second_cost
        Tokens per problem solved: the ratio of the two above.
    cost_ratio
        Second over first.
    """

    n_draws: int
    first_tokens: Estimate
    second_tokens: Estimate
    first_solved: Estimate
    second_solved: Estimate
    first_cost: Estimate
    second_cost: Estimate
    cost_ratio: Estimate


@dataclass(frozen=True)
class BudgetScores:
    """What every budget buys on every problem of one arm.

    Parameters
    ----------
    problem_ids_P
        Problems in the order of their id.
    budgets_G
        Budgets in tokens.
    score_P_G
        Chance that the budget yields a right answer.
    drawn_P
        Tokens of all draws of each problem: beyond, a budget is not observed.
    n_draws
        Draws of the arm.
    """

    problem_ids_P: npt.NDArray[np.object_]
    budgets_G: Floats
    score_P_G: Floats
    drawn_P: Floats
    n_draws: int


def log_grid(low: float, high: float, n: int) -> Ints:
    """Whole numbers from low to high in about equal ratios, both ends included, none twice.

    Parameters
    ----------
    low, high
        Ends, 1 <= low <= high.
    n
        Points asked for, at least 2; fewer come back where whole numbers are scarce.

    Raises
    ------
    ValueError
        If the ends or n are not such numbers.

    Examples
    --------
    >>> log_grid(1, 8, 4).tolist()
    [1, 2, 4, 8]
    """
    if not 1 <= low <= high or n < 2:
        raise ValueError(f"a grid needs 1 <= low <= high and n >= 2; got low={low}, high={high}, n={n}.")
    return np.unique(np.rint(np.geomspace(low, high, n)).astype(np.int64))


def summarise_draws(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Count single draws, with the mean lengths of right and of wrong ones.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, sample_id, completion_tokens, status, and where known prompt_tokens.

    Returns
    -------
    One row per arm and problem: arm, problem_id, n, c, mean_tokens, right_tokens, wrong_tokens (means; NaN where there
    is no such draw) and prompt_tokens (mean over the draws; NaN where a draw's is missing, no column where none is
    known).

    Raises
    ------
    ValueError
        If a column is missing, a draw occurs twice, or a length is missing or negative.
    """
    arms = pd.unique(rollouts["arm"]) if "arm" in rollouts.columns else [""]
    tables = []
    for arm in sorted(map(str, arms)):
        draws = _select_draws(rollouts, arm)
        code, right, tokens = draws["code"].to_numpy(), draws["right"].to_numpy(), draws["tokens"].to_numpy()
        n = np.bincount(code)
        c = np.bincount(code, right).astype(np.int64)
        spent, spent_right = np.bincount(code, tokens), np.bincount(code, tokens * right)
        with np.errstate(invalid="ignore"):
            table = pd.DataFrame(
                {
                    "arm": arm,
                    "problem_id": draws["problem_id"].drop_duplicates().to_numpy(),
                    "n": n,
                    "c": c,
                    "mean_tokens": spent / n,
                    "right_tokens": spent_right / c,
                    "wrong_tokens": (spent - spent_right) / (n - c),
                }
            )
        if "prompt_tokens" in draws.columns:
            table["prompt_tokens"] = np.bincount(code, draws["prompt_tokens"].to_numpy(dtype=float)) / n
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def score_budgets(
    rollouts: pd.DataFrame,
    arm: str,
    budgets_G: npt.ArrayLike,
    quantity: Quantity = "pass",
    seed: int = 0,
    n_orders: int = N_ORDERS,
) -> BudgetScores:
    """Chance that a budget yields a right answer, for every problem of an arm.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, sample_id, completion_tokens, status ("correct" or not); for the majority
        also predicted.
    arm
        Arm to score.
    budgets_G
        Budgets in tokens per problem, positive and increasing.
    quantity
        "pass": some finished draw is right. "majority": the answer given most often by the finished draws is right; a
        tie of t answers counts 1/t, right draws vote together, draws without an answer do not vote.
    seed
        Seed of the orders.
    n_orders
        Orders of the draws that are tried. Problems with n! of them or fewer are computed exactly, over all orders.

    Raises
    ------
    ValueError
        If a column is missing, the arm has no draws, a draw occurs twice, a length is missing or negative, or the
        budgets are not positive and increasing.

    Notes
    -----
    Let S_j be the tokens of the first j draws of an order and m_j the score once j draws are finished (0 for none). The
    score at B is the sum over j of (m_j - m_(j-1)) [S_j <= B], averaged over orders. The same random orders
    serve all problems with equally many draws, whose draws are shuffled first.

    Examples
    --------
    >>> draws = pd.DataFrame({"arm": "a", "problem_id": "p", "sample_id": [0, 1, 2],
    ...     "completion_tokens": [100, 200, 300], "status": ["correct", "wrong", "wrong"]})
    >>> score_budgets(draws, "a", [100, 300, 400, 600]).score_P_G.round(3).tolist()
    [[0.333, 0.5, 0.667, 1.0]]
    """
    budgets = np.asarray(budgets_G, dtype=float)
    if budgets.ndim != 1 or len(budgets) == 0 or budgets[0] <= 0 or np.any(np.diff(budgets) <= 0):
        raise ValueError(f"budgets_G must be positive and increasing, shape (G,); got {budgets}.")
    if n_orders < 1:
        raise ValueError(f"n_orders must be at least 1; got {n_orders}.")
    if quantity not in ("pass", "majority"):
        raise ValueError(f"quantity must be 'pass' or 'majority'; got {quantity!r}.")
    draws = _select_draws(rollouts, arm, votes=quantity == "majority")
    code, tokens = draws["code"].to_numpy(), draws["tokens"].to_numpy()
    # A vote of 0 is right; for pass@B a wrong draw is simply another vote.
    votes = draws["vote"].to_numpy() if quantity == "majority" else (~draws["right"]).to_numpy(dtype=np.int64)
    n_P = np.bincount(code)
    start_P = np.cumsum(n_P) - n_P
    rng = np.random.default_rng(seed)
    shuffled = np.lexsort((rng.random(len(code)), code))
    score_P_G = np.empty((len(n_P), len(budgets)))
    for n in np.unique(n_P).tolist():
        orders_R_n = _orders(n, n_orders, rng)
        problems = np.flatnonzero(n_P == n)
        for part in np.array_split(problems, max(1, -(-len(problems) * orders_R_n.size // CELLS))):
            rows = shuffled[start_P[part][:, np.newaxis] + np.arange(n)]
            spent = np.cumsum(tokens[rows][:, orders_R_n], axis=-1)
            cast = votes[rows][:, orders_R_n]
            score_P_G[part] = (
                _pass_curve(spent, cast == 0, budgets)
                if quantity == "pass"
                else _majority_curve(spent, cast, budgets)
            )
    return BudgetScores(
        problem_ids_P=draws["problem_id"].drop_duplicates().to_numpy(dtype=object),
        budgets_G=budgets,
        score_P_G=score_P_G,
        drawn_P=np.bincount(code, tokens).astype(float),
        n_draws=len(code),
    )


def compare_draw_budgets(
    rollouts: pd.DataFrame,
    first: str,
    second: str,
    coverage: float,
    resampling: Resampling,
    quantity: Quantity = "pass",
    n_orders: int = N_ORDERS,
) -> BudgetComparison:
    """Compare two arms at equal tokens per problem, from single draws.

    Parameters
    ----------
    rollouts
        One row per draw, as for `score_budgets`.
    first, second
        Arms; gaps are first minus second, ratios second over first.
    coverage
        Share of problems to be solved for the tokens to reach it, above 0 and at most 1.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together. The seed is also that of
        the orders.
    quantity
        "pass" or "majority", as for `score_budgets`.
    n_orders
        As for `score_budgets`.

    Returns
    -------
    The comparison; the mean lengths that name the budgets `low` and `equal` are held fixed in the resamples.

    Raises
    ------
    ValueError
        As `score_budgets`, or if the arms share no problem, no draw has tokens, or `coverage` is out of range.
    """
    _check_coverage(coverage)
    lengths = [_shared_draws(rollouts, first, second, arm) for arm in (first, second)]
    drawn = [float(np.bincount(draws["code"], draws["tokens"]).min()) for draws in lengths]
    means = [
        float(draws.groupby("code")["tokens"].mean().mean()) for draws in lengths
    ]  # every problem counts alike
    if min(drawn) < 1:
        raise ValueError(
            "every problem needs draws with tokens in both arms; the smallest sum over a problem's draws is "
            f"{min(drawn)}. Leave such problems out and say so."
        )
    common = min(drawn)
    named = np.array([min(means), max(means), common, *drawn])
    shortest = max(1.0, min(float(draws["tokens"].min()) for draws in lengths))
    budgets = np.unique(
        np.concatenate([log_grid(shortest, max(shortest, *drawn), N_BUDGETS), named[named <= max(drawn)]])
    )
    scores = [
        score_budgets(draws.assign(arm=arm), arm, budgets, quantity, resampling.seed, n_orders)
        for draws, arm in zip(lengths, (first, second), strict=True)
    ]
    n_unpaired = int(lengths[0].attrs["n_unpaired"])
    n_draws = scores[0].n_draws + scores[1].n_draws
    observed = [budgets <= limit for limit in drawn]
    curves = []
    for arm, score, seen in zip((first, second), scores, observed, strict=True):
        points = estimate_many(
            score.score_P_G, keep_means, resampling, score.n_draws, support=(0.0, 1.0), n_unpaired=n_unpaired
        )
        curves.append(_curve(arm, budgets, points, seen))
    values = np.hstack([score.score_P_G for score in scores])
    size = len(budgets)
    both = observed[0] & observed[1]

    def difference(means: Floats) -> Floats:
        return np.where(both, means[..., :size] - means[..., size:], np.nan)

    budgets_named = (min(means), max(means), common)
    # An arm whose draws end first is credited with all of them.
    differences = [
        np.subtract(
            *(
                score.score_P_G[:, np.searchsorted(budgets, min(budget, limit))]
                for score, limit in zip(scores, drawn, strict=True)
            )
        )
        for budget in budgets_named
    ]
    gaps = estimate_many(
        np.column_stack(differences),
        keep_means,
        resampling,
        n_draws,
        support=(-1.0, 1.0),
        n_unpaired=n_unpaired,
    )
    low, equal, high = _name_gaps(budgets_named, gaps, (first, second), drawn)

    def tokens_to_cover(means: Floats) -> Floats:
        reached = []
        for side in (0, 1):
            seen = np.where(observed[side], means[..., side * size : (side + 1) * size], np.nan)
            reached.append(_first_reach(seen, np.broadcast_to(budgets, seen.shape), coverage))
        return np.stack([*reached, reached[1] / reached[0]], axis=-1)

    covered = estimate_many(values, tokens_to_cover, resampling, n_draws, n_unpaired=n_unpaired)
    ended = _name_short((first, second), drawn, max(means))
    why = f"the draws of {ended} end before one mean draw of the longer arm is paid for" if ended else ""
    return BudgetComparison(
        curve=pd.concat(curves, ignore_index=True),
        limits=(drawn[0], drawn[1]),
        crossover=_find_crossover(
            values,
            lambda m: (difference(m), np.broadcast_to(budgets, difference(m).shape)),
            (first, second),
            resampling,
            n_draws,
            n_unpaired,
            why,
        ),
        low=low,
        equal=equal,
        high=high,
        first_coverage=_explain_coverage(covered[0], first),
        second_coverage=_explain_coverage(covered[1], second),
        coverage_ratio=_explain_coverage(covered[2], f"{first} or {second}"),
    )


def compare_count_budgets(
    counts: pd.DataFrame,
    first: str,
    second: str,
    coverage: float,
    resampling: Resampling,
    *,
    every_problem: bool = True,
) -> BudgetComparison:
    """Compare two arms at equal mean tokens, from counts with mean lengths.

    k draws of an arm cost k times its mean length, averaged over problems, and solve pass@k of them. Unlike in
    `panelbook.measure.tokens.compare_at_equal_tokens` the number of draws that a budget pays for is recomputed in
    every resample and need not be whole.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens (positive).
    first, second
        Arms; gaps are first minus second, ratios second over first.
    coverage
        Share of problems to be solved for the tokens to reach it, above 0 and at most 1.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.
    every_problem
        True: a budget below one mean draw buys nothing, because not every problem can be answered. False: a
        share of the problems may be skipped, so that half a draw's tokens buy half its pass rate.

    Raises
    ------
    ValueError
        If a length is missing or not positive, the arms share no problem, `coverage` is out of range, or the
        table is malformed.

    Examples
    --------
    >>> toy = pd.DataFrame({"arm": ["a", "b"], "problem_id": "p", "n": 2, "c": 1, "mean_tokens": [100.0, 200.0]})
    >>> compare_count_budgets(toy, "a", "b", 0.5, Resampling(seed=1)).equal.gap.value  # two draws against one
    0.5
    """
    _check_coverage(coverage)
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    sides = (pair.first, pair.second)
    for arm, rows in zip((first, second), sides, strict=True):
        bad = rows.loc[rows["mean_tokens"] <= 0]
        if len(bad):
            raise ValueError(
                f"mean_tokens must be positive; problem {bad['problem_id'].iloc[0]!r} of arm {arm!r} has "
                f"{bad['mean_tokens'].iloc[0]}. Leave out problems without text and count them."
            )
    k_max = [int(rows["n"].min()) for rows in sides]
    passes = [
        pass_at_k_matrix(rows["n"], rows["c"], np.arange(1, k + 1), rows["problem_id"].tolist())
        for rows, k in zip(sides, k_max, strict=True)
    ]
    lengths = [rows["mean_tokens"].to_numpy(dtype=float) for rows in sides]
    values = np.column_stack([*lengths, *passes])
    means = [float(tokens.mean()) for tokens in lengths]
    limits = [k * mean for k, mean in zip(k_max, means, strict=True)]
    short, long = (0, 1) if means[0] <= means[1] else (1, 0)
    binding = 0 if limits[0] <= limits[1] else 1

    def passes_of(m: Floats, side: int) -> Floats:
        return m[..., 2 : 2 + k_max[0]] if side == 0 else m[..., 2 + k_max[0] :]

    def read(m: Floats, side: int, budget: Floats, hold: bool = False) -> Floats:
        """Pass at a budget of shape (..., X); beyond the draws NaN, or the value of all of them."""
        return read_pass_curve(passes_of(m, side), budget / m[..., side, np.newaxis], every_problem, hold)

    named = ((short, 1), (long, 1), (binding, k_max[binding]))  # what k draws of an arm cost

    def gaps_at(m: Floats) -> Floats:
        budget = np.stack([k * m[..., side] for side, k in named], axis=-1)
        return read(m, 0, budget, hold=True) - read(m, 1, budget, hold=True)

    gaps = estimate_many(values, gaps_at, resampling, pair.n_draws, n_unpaired=pair.n_unpaired)
    low, equal, high = _name_gaps(tuple(k * means[side] for side, k in named), gaps, (first, second), limits)

    # In units of one mean draw of the longer arm, so that its first draw lies on the grid in every resample.
    start = means[short] / means[long] * (0.5 if every_problem else 0.05)
    units = np.unique(
        np.append(np.geomspace(start, max(1.5 * min(limits) / means[long], 2 * start), N_STEPS), 1.0)
    )

    def grid(m: Floats) -> Floats:
        return np.asarray(units * m[..., long, np.newaxis])

    def difference(m: Floats) -> tuple[Floats, Floats]:
        budget = grid(m)
        return read(m, 0, budget) - read(m, 1, budget), budget

    def tokens_to_cover(m: Floats) -> Floats:
        reached = []
        for side in (0, 1):
            reached.append(m[..., side] * _draws_to_reach(passes_of(m, side), coverage, every_problem))
        return np.stack([*reached, reached[1] / reached[0]], axis=-1)

    covered = estimate_many(values, tokens_to_cover, resampling, pair.n_draws, n_unpaired=pair.n_unpaired)
    ended = _name_short((first, second), limits, means[long]) if every_problem else ""
    why = f"the draws of {ended} end before one mean draw of the longer arm is paid for" if ended else ""
    return BudgetComparison(
        curve=pd.concat(
            [
                _count_curve(arm, passes[side], means[side], pair, side, resampling)
                for side, arm in enumerate((first, second))
            ],
            ignore_index=True,
        ),
        limits=(limits[0], limits[1]),
        crossover=_find_crossover(
            values,
            difference,
            (first, second),
            resampling,
            pair.n_draws,
            pair.n_unpaired,
            why,
        ),
        low=low,
        equal=equal,
        high=high,
        first_coverage=_explain_coverage(covered[0], first),
        second_coverage=_explain_coverage(covered[1], second),
        coverage_ratio=_explain_coverage(covered[2], f"{first} or {second}"),
    )


def cap_sensitivity(
    rollouts: pd.DataFrame, arm: str, caps_L: Sequence[int] | Ints, resampling: Resampling
) -> pd.DataFrame:
    """Measure what an arm's draws would be worth under a lower token limit.

    A draw longer than the cap is cut at it, costs the cap and counts as wrong.

    Parameters
    ----------
    rollouts
        One row per draw: arm, problem_id, sample_id, completion_tokens, status and, where known, max_tokens.
    arm
        Arm to measure.
    caps_L
        Caps in tokens, positive and increasing. Those above the limit that the draws were made with are left out: what
        would have followed is not known.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, cap, quantity, estimate, low, high, n_problems, n_draws, method, reason. Quantities: `accuracy` (mean
    over problems), `cut` (share of draws longer than the cap, one minus the distribution of lengths), `tokens`
    (mean per draw) and `cost` (tokens of all draws per right draw).

    Raises
    ------
    ValueError
        If a column is missing, a length is missing or negative, or no cap is left.

    Examples
    --------
    >>> draws = pd.DataFrame({"arm": "a", "problem_id": ["p", "p", "q", "q"], "sample_id": [0, 1, 0, 1],
    ...     "completion_tokens": [100, 300, 100, 200], "status": ["correct", "correct", "wrong", "correct"]})
    >>> table = cap_sensitivity(draws, "a", [200, 300], Resampling(seed=1))
    >>> table[table["quantity"] == "cost"]["estimate"].round(1).tolist()  # 600 tokens for 2, then 700 for 3
    [300.0, 233.3]
    """
    draws = _select_draws(rollouts, arm)
    caps = np.asarray(caps_L, dtype=float)
    if caps.ndim != 1 or len(caps) == 0 or caps[0] <= 0 or np.any(np.diff(caps) <= 0):
        raise ValueError(f"caps_L must be positive and increasing, shape (L,); got {caps}.")
    limit = token_limit(rollouts, arm)
    caps = caps[caps <= limit]
    if len(caps) == 0:
        raise ValueError(
            f"no cap is left: the draws of {arm!r} were made with a limit of {limit:,.0f} tokens. Lower the caps."
        )
    code, right, tokens = draws["code"].to_numpy(), draws["right"].to_numpy(), draws["tokens"].to_numpy()
    n_P = np.bincount(code)
    correct, cut, spent = (np.empty((len(n_P), len(caps))) for _ in range(3))
    for column, cap in enumerate(caps):
        longer = tokens > cap
        correct[:, column] = np.bincount(code, right & ~longer)
        cut[:, column] = np.bincount(code, longer)
        spent[:, column] = np.bincount(code, np.minimum(tokens, cap))
    shares = estimate_many(
        np.hstack([correct, cut]) / n_P[:, np.newaxis],
        keep_means,
        resampling,
        len(code),
        support=(0.0, 1.0),
    )
    size = len(caps)
    costs = estimate_many(
        np.hstack([spent / n_P[:, np.newaxis], spent, correct]),
        lambda m: np.concatenate([m[..., :size], m[..., size : 2 * size] / m[..., 2 * size :]], axis=-1),
        resampling,
        len(code),
    )
    table = pd.concat([shares.to_frame(), costs.to_frame()], ignore_index=True)
    table.insert(0, "quantity", np.repeat(["accuracy", "cut", "tokens", "cost"], size))
    table.insert(0, "cap", np.tile(caps.astype(np.int64), 4))
    table.insert(0, "arm", arm)
    return table


def token_limit(rollouts: pd.DataFrame, arm: str) -> float:
    """Return the token limit that an arm's draws were made with; where none is recorded, the longest draw.

    Parameters
    ----------
    rollouts
        One row per draw: arm, completion_tokens and, where known, max_tokens.
    arm
        The arm.
    """
    rows = rollouts.loc[rollouts["arm"] == arm]
    known = rows["max_tokens"].dropna() if "max_tokens" in rows.columns else pd.Series(dtype=float)
    return float(known.min()) if len(known) else float(rows["completion_tokens"].max())


def compare_until_right(counts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> UntilRight:
    """Compare what drawing until the first right answer costs, both arms giving up after equally many draws.

    It takes somebody who recognises a right answer at once. The expectation is over the order of the recorded
    draws, so it is exact and finite: a problem that is never solved costs all m draws.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens; with right_tokens and wrong_tokens, as `summarise_draws` gives
        them, right and wrong draws may differ in length, otherwise the mean length is taken for both.
    first, second
        Arms; the ratio is second over first.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Raises
    ------
    ValueError
        If the arms share no problem or the table is malformed.

    Notes
    -----
    Draw j is made if the first j - 1 were wrong, with probability C(n-c, j-1) / C(n, j-1), and then is one of
    n-j+1 left, c of them right: with mean lengths r (right) and w (wrong) it costs
    ((n-c-j+1) w + c r) / (n-j+1). The sum over j <= m is the expected cost.

    Examples
    --------
    >>> toy = pd.DataFrame({"arm": ["a", "b"], "problem_id": "p", "n": 2, "c": [1, 2], "mean_tokens": 100.0})
    >>> costs = compare_until_right(toy, "a", "b", Resampling(seed=1))
    >>> costs.first_tokens.value, costs.second_tokens.value  # one draw or two, each in half the orders; always one
    (150.0, 100.0)
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    m = int(min(pair.first["n"].min(), pair.second["n"].min()))
    columns = []
    for rows in (pair.first, pair.second):
        columns.append(_cost_until_right(rows, m))
        columns.append(pass_at_k_matrix(rows["n"], rows["c"], [m], rows["problem_id"].tolist())[:, 0])
    values, draws = np.column_stack(columns), pair.n_draws
    tokens = estimate_many(
        values,
        lambda x: np.stack(
            [
                x[..., 0],
                x[..., 2],
                x[..., 0] / x[..., 1],
                x[..., 2] / x[..., 3],
                _divide(x[..., 2] / x[..., 3], x[..., 0] / x[..., 1]),
            ],
            axis=-1,
        ),
        resampling,
        draws,
        n_unpaired=pair.n_unpaired,
    )
    solved = estimate_many(
        values[:, [1, 3]], keep_means, resampling, draws, support=(0.0, 1.0), n_unpaired=pair.n_unpaired
    )
    return UntilRight(m, tokens[0], tokens[1], solved[0], solved[1], tokens[2], tokens[3], tokens[4])


def compare_dollars(
    counts: pd.DataFrame,
    first: str,
    second: str,
    prompt_price: float,
    completion_price: float,
    resampling: Resampling,
    prompts: Prompts = "each_draw",
) -> CostComparison:
    """Price of one right draw of two arms, wrong draws included.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens and, unless `prompts` is "not_counted", prompt_tokens (mean
        over the draws, as `summarise_draws` gives it).
    first, second
        Arms; the ratio is second over first.
    prompt_price, completion_price
        Currency units per million tokens, not negative.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.
    prompts
        Whether a prompt is paid for with every draw ("each_draw"), once per problem because its draws share the
        prefill ("once"), or left out ("not_counted").

    Raises
    ------
    ValueError
        If a price is negative, prompt tokens are asked for and missing, or the table is malformed.

    Examples
    --------
    >>> toy = pd.DataFrame({"arm": ["a", "b"], "problem_id": "p", "n": 2, "c": 1,
    ...     "mean_tokens": [1000.0, 3000.0], "prompt_tokens": 500.0})
    >>> compare_dollars(toy, "a", "b", 1.0, 2.0, Resampling(seed=1)).first.value  # 2 * (500 + 2 * 1000) / 1e6
    0.005
    """
    if min(prompt_price, completion_price) < 0 or not np.isfinite([prompt_price, completion_price]).all():
        raise ValueError(
            "prices must be finite and not negative; got "
            f"{prompt_price} for prompts and {completion_price} for completions. Correct the price table."
        )
    if prompts not in ("each_draw", "once", "not_counted"):
        raise ValueError(f"prompts must be 'each_draw', 'once' or 'not_counted'; got {prompts!r}.")
    needed = ("mean_tokens",) if prompts == "not_counted" else ("mean_tokens", "prompt_tokens")
    pair = pair_arms(counts, first, second, needed)
    columns: list[Floats] = []
    for rows in (pair.first, pair.second):
        n = rows["n"].to_numpy(dtype=float)
        paid = completion_price * n * rows["mean_tokens"].to_numpy(dtype=float)
        if prompts != "not_counted":
            times = n if prompts == "each_draw" else 1.0
            paid = paid + prompt_price * times * rows["prompt_tokens"].to_numpy(dtype=float)
        columns += [paid / PER_MILLION, rows["c"].to_numpy(dtype=float)]
    outputs = estimate_many(
        np.column_stack(columns),
        lambda m: np.stack(
            [
                m[..., 0] / m[..., 1],
                m[..., 2] / m[..., 3],
                _divide(m[..., 2] / m[..., 3], m[..., 0] / m[..., 1]),
            ],
            axis=-1,
        ),
        resampling,
        pair.n_draws,
        n_unpaired=pair.n_unpaired,
    )
    per_arm = [
        replace(outputs[side], n_draws=int(rows["n"].sum()))
        for side, rows in enumerate((pair.first, pair.second))
    ]
    return CostComparison(first=per_arm[0], second=per_arm[1], ratio=outputs[2])


def _select_draws(rollouts: pd.DataFrame, arm: str, *, votes: bool = False) -> pd.DataFrame:
    """One arm's draws, checked, in the order of problem and sample, with problem code, tokens, right and vote."""
    needed = ["arm", "problem_id", "sample_id", "completion_tokens", "status"]
    require_columns(rollouts, [*needed, "predicted"] if votes else needed, "rollouts")
    rows = rollouts.loc[rollouts["arm"] == arm]
    if rows.empty:
        arms = ", ".join(map(str, rollouts["arm"].unique()))
        raise ValueError(f"arm {arm!r} has no draws; the rollouts table has: {arms}. Check the arm's name.")
    rows = rows.sort_values(["problem_id", "sample_id"], kind="stable", ignore_index=True)
    repeated = rows.duplicated(["problem_id", "sample_id"])
    if repeated.any():
        row = rows.loc[repeated].iloc[0]
        raise ValueError(
            f"(arm, problem_id, sample_id) must be unique; ({arm!r}, {row['problem_id']!r}, {row['sample_id']}) "
            "occurs more than once. Select one run and checkpoint first."
        )
    tokens = rows["completion_tokens"].to_numpy(dtype=float, na_value=np.nan)
    bad = np.flatnonzero(~(np.isfinite(tokens) & (tokens >= 0)))
    if len(bad):
        row = rows.iloc[bad[0]]
        raise ValueError(
            f"completion_tokens must be a number from 0; problem {row['problem_id']!r}, sample {row['sample_id']} "
            f"of arm {arm!r} has {row['completion_tokens']}. Leave the draw out and count it."
        )
    code, _ = pd.factorize(rows["problem_id"])
    right = (rows["status"] == "correct").to_numpy(dtype=bool)
    rows = rows.assign(code=code, tokens=tokens, right=right)
    if "prompt_tokens" in rows.columns:
        prompt = rows["prompt_tokens"].to_numpy(dtype=float, na_value=np.nan)
        rows = (
            rows.drop(columns="prompt_tokens")
            if np.isnan(prompt).all()
            else rows.assign(prompt_tokens=prompt)
        )
    return rows.assign(vote=_votes(rows)) if votes else rows


def _votes(rows: pd.DataFrame) -> Ints:
    """Vote of each draw within its problem: 0 for right, -1 for none, 1, 2, ... for each wrong answer."""
    text = rows["predicted"].fillna("").astype(str).str.strip()
    right = rows["right"].to_numpy()
    wrong = ~right & (rows["status"] != "no_answer").to_numpy(dtype=bool) & (text != "").to_numpy(dtype=bool)
    vote = np.where(right, 0, -1).astype(np.int64)
    code, answer = rows["code"].to_numpy()[wrong], pd.factorize(text[wrong])[0].astype(np.int64)
    # Distinct (problem, answer) pairs are numbered in the order of problems; counting restarts with each problem.
    pairs, number = np.unique(code * (answer.max(initial=0) + 1) + answer, return_inverse=True)
    problem = pairs // (answer.max(initial=0) + 1)
    vote[wrong] = number - np.searchsorted(problem, problem)[number] + 1
    return vote


def _shared_draws(rollouts: pd.DataFrame, first: str, second: str, arm: str) -> pd.DataFrame:
    """One arm's draws on the problems that both arms have; `attrs` holds the number of other problems."""
    one, other = (_select_draws(rollouts, name) for name in (arm, second if arm == first else first))
    ids, others = set(one["problem_id"]), set(other["problem_id"])
    if not ids & others:
        raise ValueError(
            f"arms {first!r} and {second!r} share no problem_id. Check that both come from one benchmark."
        )
    shared = one[one["problem_id"].isin(ids & others)].reset_index(drop=True)
    shared["code"] = pd.factorize(shared["problem_id"])[0]
    shared.attrs["n_unpaired"] = len(ids ^ others)
    return shared


def _orders(n: int, n_orders: int, rng: np.random.Generator) -> Ints:
    """Return all orders of n draws if they are few enough, otherwise random ones."""
    if n <= 10 and factorial(n) <= n_orders:
        return np.array(list(permutations(range(n))), dtype=np.int64)
    return rng.permuted(np.tile(np.arange(n), (n_orders, 1)), axis=1)


def _pass_curve(spent: Floats, right: npt.NDArray[np.bool_], budgets: Floats) -> Floats:
    """Share of the orders whose first right draw is finished within each budget; arrays (P, R, n)."""
    position = right.argmax(axis=-1)[..., np.newaxis]
    cost = np.take_along_axis(spent, position, axis=-1)[..., 0]
    cost = np.where(np.take_along_axis(right, position, axis=-1)[..., 0], cost, np.inf)
    return _accumulate(np.ones(cost.size), cost.ravel(), cost.shape, budgets)


def _majority_curve(spent: Floats, votes: Ints, budgets: Floats) -> Floats:
    """Mean score of the majority of the draws finished within each budget; arrays (P, R, n)."""
    n_problems, n_orders, n = votes.shape
    counts = np.zeros((n_problems * n_orders, int(votes.max()) + 2), dtype=np.int16)
    top, n_top = np.zeros(len(counts), dtype=np.int16), np.zeros(len(counts), dtype=np.int16)
    right_leads = np.zeros(len(counts), dtype=bool)
    before = np.zeros(len(counts))
    total = np.zeros((n_problems, len(budgets)))
    for j in range(n):
        vote = votes[:, :, j].ravel()
        rows = np.flatnonzero(vote >= 0)
        cast = vote[rows]
        counts[rows, cast] += 1
        votes_now = counts[rows, cast]
        alone, tied = votes_now > top[rows], votes_now == top[rows]
        top[rows[alone]], n_top[rows[alone]] = votes_now[alone], 1
        right_leads[rows[alone]] = cast[alone] == 0
        n_top[rows[tied]] += 1
        right_leads[rows[tied]] |= cast[tied] == 0
        score = right_leads / np.maximum(n_top, 1)
        total += _accumulate(score - before, spent[:, :, j].ravel(), (n_problems, n_orders), budgets)
        before = score
    return total


def _accumulate(change: Floats, cost: Floats, shape: tuple[int, ...], budgets: Floats) -> Floats:
    """Mean over orders of the changes whose cost is within each budget, shape (P, G)."""
    n_problems, n_orders = shape
    moved = np.flatnonzero(change)
    column = np.searchsorted(budgets, cost[moved], side="left")
    width = len(budgets) + 1  # the last column holds what no budget pays for
    sums = np.bincount(moved // n_orders * width + column, change[moved], minlength=n_problems * width)
    return np.asarray(np.cumsum(sums.reshape(n_problems, width)[:, :-1], axis=1) / n_orders)


def read_pass_curve(pass_K: Floats, draws_X: Floats, every_problem: bool, hold: bool) -> Floats:
    """Read the pass rate that X numbers of draws buy, whole or not, straight between whole numbers.

    Parameters
    ----------
    pass_K
        pass@1 to pass@K, shape (..., K).
    draws_X
        Numbers of draws per problem, shape (..., X).
    every_problem
        True: less than one draw buys nothing. False: half a draw buys half of pass@1.
    hold
        Beyond K draws: True gives pass@K, False gives NaN.

    Returns
    -------
    Shape (..., X).
    """
    n = pass_K.shape[-1]
    from_zero = np.concatenate([np.zeros_like(pass_K[..., :1]), pass_K], axis=-1)
    beyond = draws_X > n * (1 + ROUNDING)
    draws = np.minimum(draws_X, n)
    # Rounding must not turn one draw into slightly less than one, which buys nothing.
    draws = np.where(np.abs(draws - 1) <= 1e-9, 1.0, draws)
    whole = np.minimum(np.floor(draws).astype(np.int64), n - 1)
    low = np.take_along_axis(from_zero, whole, axis=-1)
    high = np.take_along_axis(from_zero, whole + 1, axis=-1)
    value = low + (draws - whole) * (high - low)
    if every_problem:
        value = np.where(draws < 1, 0.0, value)
    return value if hold else np.where(beyond, np.nan, value)


def _draws_to_reach(pass_K: Floats, goal: float, every_problem: bool) -> Floats:
    """Find the number of draws at which the straight lines between pass@k reach the goal; NaN where they do not."""
    from_zero = np.concatenate([np.zeros_like(pass_K[..., :1]), pass_K], axis=-1)
    reached = pass_K >= goal - ROUNDING
    below = reached.argmax(axis=-1)[..., np.newaxis]
    low, high = (np.take_along_axis(from_zero, at, axis=-1)[..., 0] for at in (below, below + 1))
    draws = below[..., 0] + np.clip((goal - low) / (high - low), 0.0, 1.0)
    if every_problem:
        draws = np.maximum(draws, 1.0)
    return np.where(reached.any(axis=-1), draws, np.nan)


def _first_reach(value_G: Floats, budget_G: Floats, goal: float) -> Floats:
    """Smallest budget at which a curve reaches the goal; NaN where it does not. Shape (..., G) to (...)."""
    reached = value_G >= goal - ROUNDING
    position = reached.argmax(axis=-1)[..., np.newaxis]
    budget = np.take_along_axis(budget_G, position, axis=-1)[..., 0]
    return np.where(reached.any(axis=-1), budget, np.nan)


def _crossing(difference_G: Floats, budget_G: Floats, leader: int) -> Floats:
    """Budget from which on the sign `leader` does not come back; NaN where the lead does not change so."""
    sign = np.where(np.abs(difference_G) > ROUNDING, np.sign(difference_G), 0.0)  # NaN becomes 0
    size = sign.shape[-1]
    led, lost = sign == leader, sign == -leader
    last_led = size - 1 - np.flip(led, axis=-1).argmax(axis=-1)
    after = lost & (np.arange(size) > last_led[..., np.newaxis])
    starts_with_leader = led.any(axis=-1) & (
        led.argmax(axis=-1) < np.where(lost.any(axis=-1), lost.argmax(axis=-1), size)
    )
    position = after.argmax(axis=-1)[..., np.newaxis]
    budget = np.take_along_axis(budget_G, position, axis=-1)[..., 0]
    return np.where(starts_with_leader & after.any(axis=-1), budget, np.nan)


def _find_crossover(
    values_P_K: Floats,
    difference: DifferenceCurve,
    arms: tuple[str, str],
    resampling: Resampling,
    n_draws: int,
    n_unpaired: int,
    unobserved: str,
) -> Crossover:
    """Find where the lead changes for good, with its interval."""
    at, _ = difference(values_P_K.mean(axis=0))
    signs = np.sign(at[np.abs(at) > ROUNDING])
    if len(signs) == 0:
        reason = unobserved or "the arms do not differ at any budget that both arms' draws reach"
        return Crossover(
            Estimate(np.nan, None, None, len(values_P_K), n_draws, "none", reason, n_unpaired), "", "", 1.0
        )
    leader = int(signs[0])
    names = arms if leader > 0 else arms[::-1]
    statistic: Statistic = lambda means: _crossing(*difference(means), leader)  # noqa: E731
    tokens = estimate(values_P_K, statistic, resampling, n_draws, n_unpaired=n_unpaired)
    without = 1.0
    if len(values_P_K) > 1:
        without = float(np.isnan(statistic(resample_means(values_P_K, resampling))).mean())
    if np.isnan(tokens.value):
        lasting = (
            "the lead changes, but not for good," if signs[-1] == leader and (signs != leader).any() else ""
        )
        reason = unobserved or (
            f"{lasting} {names[0]} leads at the largest budget that both arms' draws reach"
            if lasting
            else f"{names[0]} leads at every budget that both arms' draws reach"
        )
        tokens = replace(tokens, reason=reason)
    elif tokens.low is None and without > 0:
        tokens = replace(tokens, reason=f"the lead does not change in {without:.1%} of the resamples")
    return Crossover(tokens, names[0], names[1], without)


def _name_gaps(
    budgets: Sequence[float], gaps: Estimates, arms: tuple[str, str], limits: Sequence[float]
) -> list[BudgetGap]:
    """Wrap the gaps at the named budgets and say whose draws end first."""
    return [
        BudgetGap(budget, gaps[position], _name_short(arms, limits, budget))
        for position, budget in enumerate(budgets)
    ]


def _curve(arm: str, budgets: Floats, points: Estimates, observed: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Tabulate an arm's curve; budgets that its draws do not reach have no estimate."""
    table = points.to_frame().assign(observed=observed)
    table.loc[~observed, ["estimate", "low", "high"]] = np.nan
    table.loc[~observed, "reason"] = "not observed: the draws of some problem end below this budget"
    table.insert(0, "budget", budgets)
    table.insert(0, "arm", arm)
    return table


def _count_curve(
    arm: str, pass_P_K: Floats, mean: float, pair: ArmPair, side: int, resampling: Resampling
) -> pd.DataFrame:
    """Tabulate pass@k of an arm against what k mean draws cost."""
    rows = (pair.first, pair.second)[side]
    points = estimate_many(
        pass_P_K,
        keep_means,
        resampling,
        int(rows["n"].sum()),
        support=(0.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    ks = np.arange(1, pass_P_K.shape[1] + 1)
    table = _curve(arm, ks * mean, points, np.ones(len(ks), dtype=bool))
    return table.assign(k=ks)


def _cost_until_right(rows: pd.DataFrame, m: int) -> Floats:
    """Tokens to expect of drawing until right, at most m draws, for every problem; see `compare_until_right`."""
    n, c = rows["n"].to_numpy(dtype=float), rows["c"].to_numpy(dtype=float)
    mean = rows["mean_tokens"].to_numpy(dtype=float)
    right, wrong = (
        rows[name].fillna(0.0).to_numpy(dtype=float) if name in rows.columns else mean
        for name in ("right_tokens", "wrong_tokens")
    )
    cost, all_wrong = np.zeros(len(rows)), np.ones(len(rows))
    for made in range(m):
        left, wrong_left = n - made, np.maximum(n - c - made, 0.0)
        cost += all_wrong * (wrong_left * wrong + c * right) / left
        all_wrong = all_wrong * wrong_left / left
    return cost


def _divide(second: Floats, first: Floats) -> Floats:
    """Ratio of two costs; NaN where one is infinite because nothing was right, since no ratio says by how much."""
    return np.where(np.isfinite(first) & np.isfinite(second), second / first, np.nan)


def _name_short(arms: Sequence[str], limits: Sequence[float], budget: float) -> str:
    """Name the arms whose draws end before a budget; "" for none."""
    ended = [arm for arm, limit in zip(arms, limits, strict=True) if budget > limit * (1 + ROUNDING)]
    return " and ".join(ended)


def _check_coverage(coverage: float) -> None:
    """Refuse a coverage that no share of problems can be."""
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage is a share of problems above 0 and at most 1; got {coverage}.")


def _explain_coverage(tokens: Estimate, arm: str) -> Estimate:
    """Say why there are no tokens to a coverage."""
    if np.isnan(tokens.value):
        return replace(tokens, reason=f"the draws of {arm} do not reach the coverage")
    if tokens.reason.startswith("undefined in"):
        return replace(
            tokens, reason=f"the coverage is not reached by {arm} {tokens.reason[len('undefined ') :]}"
        )
    return tokens
