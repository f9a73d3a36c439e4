"""Reliability: how often several draws are right, not only whether one of them is.

Pass@k asks for one right draw among k, so it rewards luck. Other questions are as fair: how often is a draw
right (avg@n), are *all* k right (pass^k), is a given share of the k right (G-pass@k), does the most frequent
answer win (maj@k)? Each is one number per problem that is estimated without bias from n >= k draws, by averaging over
all k-subsets of the draws, and averaged over problems. Two arms that one of them ranks need not be ranked
alike by another, so the module computes them side by side.

Notation: `P` problems, `K` values of k, n draws and c correct draws of a problem, X the number of correct draws among
k chosen without replacement, hypergeometric with parameters n, c, k.

- avg@n = c / n. It does not depend on k and is unbiased for the success rate.
- pass^k = P(X = k) = C(c, k) / C(n, k). With pass@k it makes the two envelopes: every rule "at least m of k are
  right" lies between them.
- G-pass@k at tau = P(X >= max(1, ceil(tau k))), after Liu et al. (2024).
- mG-pass@k = 2 times the integral of G-pass@k over tau from 1/2 to 1 = E[max(2 X / k - 1, 0)]. Liu et al. print
  the sum that equals the integral at even k; the integral is used at odd k too.
- area = area under pass@k over log2 k from 1 to k, straight lines between whole k, divided by log2 k: the mean
  pass@k if k is drawn log-uniformly. At k = 1 it is pass@1.
- maj@k = chance that the answer given most often among k draws is right, a tie of t answers counting 1/t.
  Draws without an answer do not vote, and k draws of which none votes count as wrong.

Not handled: votes for the same wrong answer written in two ways count as two answers, while all right answers count
as one, which favours the right one; weighted votes; k beyond the number of draws (raises). At k = n a problem's pass^k
and pass@k are 0 or 1, which costs precision: draw more than the k that is asked about.

References
----------
Yao, S., Shinn, N., Razavi, P. and Narasimhan, K. (2024). tau-bench: a benchmark for tool-agent-user interaction in
real-world domains. arXiv:2406.12045 (pass^k).
Liu, J. et al. (2024). Are your LLMs capable of stable reasoning? arXiv:2412.13147 (G-pass@k, mG-pass@k).
Wang, X. et al. (2023). Self-consistency improves chain of thought reasoning in language models. ICLR (maj@k).
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374 (pass@k).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.special import comb

from panelbook.measure.counts import list_arms, pair_arms, require_columns, select_arm
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Floats, Resampling, estimate_many, keep_means

SUMMARIES = {
    "avg": "avg@n",
    "pass_at_k": "pass@k",
    "pass_power_k": "pass^k",
    "g_pass_at_k": "G-pass@k",
    "mg_pass_at_k": "mG-pass@k",
    "area": "area under pass@k",
    "maj_at_k": "maj@k",
}
"""Summary -> how it is written. The last one needs votes, see `add_votes`."""

VOTE_KEY = ("study", "benchmark", "arm", "checkpoint", "problem_id")
# Up to this k majority votes are counted exactly, whatever n; beyond, over sampled subsets.
EXACT_K = 32
# Subsets sampled for each problem: their error, at most 0.5 / sqrt(400) for one problem, averages out over problems.
N_SUBSETS = 400


def ladder(k_max: int) -> list[int]:
    """Powers of two below k_max, and k_max: where curves over log2 k are read off.

    Parameters
    ----------
    k_max
        Largest k, at least 1.

    Examples
    --------
    >>> ladder(6)
    [1, 2, 4, 6]
    """
    return sorted({2**i for i in range(k_max.bit_length()) if 2**i < k_max} | {k_max})


def pass_power_k_matrix(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Unbiased pass^k of every problem: the chance that all of k draws are right.

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
    Array of shape (P, K), non-increasing in k.

    Raises
    ------
    ValueError
        As `pass_at_k_matrix`.

    Examples
    --------
    >>> round(float(pass_power_k_matrix([4], [3], [2])[0, 0]), 12)  # 3 of the 6 pairs are both right
    0.5
    """
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    pass_at_k_matrix(n, c, ks_K, problem_ids_P)  # its checks speak of correct draws
    return 1.0 - pass_at_k_matrix(n, n - c, ks_K, problem_ids_P)


def g_pass_at_k_matrix(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    tau: float,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Unbiased G-pass@k of every problem: the chance that at least a share tau of k draws is right.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.
    ks_K
        Values of k, each from 1 to the smallest n.
    tau
        Share of the k draws that must be right, above 0 and at most 1: 1 gives pass^k, anything up to 1 / k pass@k.
    problem_ids_P
        Names for the error message; row numbers where not given.

    Returns
    -------
    Array of shape (P, K).

    Raises
    ------
    ValueError
        If tau is out of range, or as `pass_at_k_matrix`.

    Examples
    --------
    >>> round(float(g_pass_at_k_matrix([6], [2], [4], tau=0.5)[0, 0]), 12)  # both right draws among four of six
    0.4
    """
    if not 0.0 < tau <= 1.0:
        raise ValueError(f"tau is a share of the k draws and must lie in (0, 1]; it is {tau}. Try 0.5.")
    # 0.1 * 30 is above 3 in floating point; without the allowance four draws would be asked for.
    return _expect(
        n_P,
        c_P,
        ks_K,
        lambda k: (np.arange(k + 1) >= max(np.ceil(tau * k - 1e-9), 1.0)).astype(np.float64),
        problem_ids_P,
    )


def mg_pass_at_k_matrix(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Unbiased mG-pass@k of every problem: the mean of G-pass@k over tau from 1/2 to 1.

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
    Array of shape (P, K).

    Raises
    ------
    ValueError
        As `pass_at_k_matrix`.

    Notes
    -----
    2 * integral of P(X >= tau k) d tau over (1/2, 1] = E[max(2 X / k - 1, 0)].

    Examples
    --------
    >>> round(float(mg_pass_at_k_matrix([4], [3], [2])[0, 0]), 12)  # half of the pairs hold two, the others one
    0.5
    """
    return _expect(n_P, c_P, ks_K, lambda k: np.maximum(2.0 * np.arange(k + 1) / k - 1.0, 0.0), problem_ids_P)


def pass_area_matrix(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Area under pass@k over log2 k from 1 to k, divided by log2 k, of every problem.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.
    ks_K
        Upper ends k, each from 1 to the smallest n; at 1 the area is pass@1, its limit.
    problem_ids_P
        Names for the error message; row numbers where not given.

    Returns
    -------
    Array of shape (P, K), between pass@1 and pass@k.

    Raises
    ------
    ValueError
        As `pass_at_k_matrix`.

    Examples
    --------
    >>> round(float(pass_area_matrix([2], [1], [2])[0, 0]), 12)  # from pass@1 = 0.5 straight to pass@2 = 1
    0.75
    """
    ks = np.asarray(ks_K, dtype=np.int64)
    every_k = np.arange(1, ks.max(initial=1) + 1)
    curve = pass_at_k_matrix(n_P, c_P, every_k, problem_ids_P)
    pass_at_k_matrix(n_P, c_P, ks, problem_ids_P)  # refuses k below 1
    width = np.diff(np.log2(every_k))
    area = np.cumsum(width * (curve[:, :-1] + curve[:, 1:]) / 2.0, axis=1)
    # Column k - 2 holds the area up to k; log2 1 = 0 has none.
    means = np.hstack([curve[:, :1], area / np.log2(every_k[1:])])
    return np.asarray(means[:, ks - 1])


def add_votes(counts: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Add to a counts table how the draws of each problem would vote.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, and what else tells its rows apart.
    rollouts
        One row per draw: arm, problem_id, predicted, status. Draws of problems that are not in `counts` are left out.

    Returns
    -------
    `counts` with columns `blank`, the draws that do not vote (status no_answer, or nothing predicted), and `wrong`, a
    tuple with the votes of each wrong answer, most votes first. The `c` correct draws vote together, whatever
    they wrote.

    Raises
    ------
    ValueError
        If a column is missing, or the two tables do not count the same draws; the message names the problem.

    Examples
    --------
    >>> counts = pd.DataFrame({"arm": ["panel"], "problem_id": ["p1"], "n": [4], "c": [1]})
    >>> draws = pd.DataFrame({"arm": "panel", "problem_id": "p1", "predicted": ["7", "8", "8", None],
    ...                       "status": ["correct", "wrong", "wrong", "no_answer"]})
    >>> add_votes(counts, draws)[["c", "blank", "wrong"]].values.tolist()
    [[1, 1, (2,)]]
    """
    require_columns(counts, ("arm", "problem_id", "n", "c"), "counts")
    require_columns(rollouts, ("arm", "problem_id", "predicted", "status"), "rollouts")
    key = [name for name in VOTE_KEY if name in counts.columns and name in rollouts.columns]
    rows = counts[key].assign(row=np.arange(len(counts)))
    draws = rollouts[[*key, "predicted", "status"]].merge(rows, on=key)
    right = (draws["status"] == "correct").to_numpy(dtype=bool)
    text = draws["predicted"].fillna("").astype(str).str.strip()
    blank = ~right & ((draws["status"] == "no_answer") | (text == "")).to_numpy(dtype=bool)
    row = draws["row"].to_numpy()
    for column, seen in (
        ("n", np.bincount(row, minlength=len(counts))),
        ("c", np.bincount(row[right], minlength=len(counts))),
    ):
        differs = np.flatnonzero(seen != counts[column].to_numpy())
        if len(differs):
            first = counts.iloc[differs[0]]
            raise ValueError(
                f"counts and rollouts must hold the same draws; problem {first['problem_id']!r} of arm "
                f"{first['arm']!r} has {column}={first[column]} in counts and {seen[differs[0]]} in the rollouts. "
                "Give the rollouts that the counts were made from, each once."
            )
    votes = text[~right & ~blank].groupby([row[~right & ~blank], text[~right & ~blank]]).size()
    tuples: list[tuple[int, ...]] = [()] * len(counts)
    for number, group in votes.groupby(level=0):
        tuples[int(str(number))] = tuple(sorted(map(int, group), reverse=True))
    return counts.assign(
        blank=np.bincount(row[blank], minlength=len(counts)),
        wrong=pd.Series(tuples, index=counts.index, dtype=object),
    )


def majority_at_k_matrix(
    right_P: npt.ArrayLike,
    blank_P: npt.ArrayLike,
    wrong_P: Sequence[Sequence[int]],
    ks_K: npt.ArrayLike,
    seed: int = 0,
    problem_ids_P: Sequence[object] | None = None,
) -> Floats:
    """Unbiased maj@k of every problem: the chance that the most frequent answer of k draws is right.

    Parameters
    ----------
    right_P
        Right draws of each problem; they vote together.
    blank_P
        Draws of each problem that do not vote.
    wrong_P
        Votes of each wrong answer, for each problem.
    ks_K
        Values of k, each from 1 to the smallest number of draws.
    seed
        Seed of the subsets that are sampled for k above `EXACT_K`; below, nothing is random.
    problem_ids_P
        Names for the error message; row numbers where not given.

    Returns
    -------
    Array of shape (P, K).

    Raises
    ------
    ValueError
        If a wrong answer has no vote, or as `pass_at_k_matrix`.

    Notes
    -----
    Up to `EXACT_K` all k-subsets are counted. Let right draws cast v votes; the number of subsets of size k in which
    t wrong answers tie with them and none has more is the coefficient of x^k y^t in
    C(r, v) x^v (1 + x)^blank prod_g (sum_{j < v} C(m_g, j) x^j + C(m_g, v) x^v y), and each counts 1 / (t + 1).
    Problems with equal votes are computed once.

    Examples
    --------
    >>> round(float(majority_at_k_matrix([2], [0], [[1, 1]], [3])[0, 0]), 12)  # half: two agree; half: three-way tie
    0.666666666667
    """
    right, blank = np.asarray(right_P, dtype=np.int64), np.asarray(blank_P, dtype=np.int64)
    ks = np.asarray(ks_K, dtype=np.int64)
    ballots = [
        (int(r), int(b), *sorted(map(int, w), reverse=True))
        for r, b, w in zip(right, blank, wrong_P, strict=True)
    ]
    bad = [ballot for ballot in ballots if min(ballot[1:]) < 0 or 0 in ballot[2:]]
    if bad:
        raise ValueError(
            f"votes are counts: blank at least 0, each wrong answer at least 1; got blank={bad[0][1]} and "
            f"wrong={list(bad[0][2:])}. Use add_votes to count them."
        )
    pass_at_k_matrix(
        [sum(ballot) for ballot in ballots], right, ks, problem_ids_P
    )  # checks counts and every k
    # Sorted, so that what is sampled for a problem does not depend on the order of rows.
    distinct = sorted(set(ballots))
    place = {ballot: i for i, ballot in enumerate(distinct)}
    values = np.empty((len(distinct), len(ks)))
    small = ks <= EXACT_K
    if small.any():
        values[:, small] = _count_majorities(distinct, ks[small])
    if not small.all():
        values[:, ~small] = _sample_majorities(distinct, ks[~small], np.random.default_rng(seed))
    return np.asarray(values[[place[ballot] for ballot in ballots]])


def score_problems(rows: pd.DataFrame, ks: Sequence[int], tau: float, seed: int = 0) -> dict[str, Floats]:
    """Every summary of every problem of one arm.

    Parameters
    ----------
    rows
        Counts of one arm: problem_id, n, c; with `blank` and `wrong` (see `add_votes`) also votes.
    ks
        Values of k, each from 1 to the smallest n.
    tau
        Share of right draws that G-pass@k asks for.
    seed
        Seed of sampled subsets for votes at large k.

    Returns
    -------
    Summary -> array of shape (P, K), in the order of `SUMMARIES`; maj_at_k only where there are votes.

    Raises
    ------
    ValueError
        As `pass_at_k_matrix` and `g_pass_at_k_matrix`.
    """
    n, c, ids = rows["n"].to_numpy(), rows["c"].to_numpy(), rows["problem_id"].tolist()
    scores = {
        "avg": np.repeat((c / n)[:, np.newaxis], len(ks), axis=1),
        "pass_at_k": pass_at_k_matrix(n, c, ks, ids),
        "pass_power_k": pass_power_k_matrix(n, c, ks, ids),
        "g_pass_at_k": g_pass_at_k_matrix(n, c, ks, tau, ids),
        "mg_pass_at_k": mg_pass_at_k_matrix(n, c, ks, ids),
        "area": pass_area_matrix(n, c, ks, ids),
    }
    if "wrong" in rows.columns:
        scores["maj_at_k"] = majority_at_k_matrix(c, rows["blank"], rows["wrong"].tolist(), ks, seed, ids)
    return scores


def summarise(counts: pd.DataFrame, ks: Sequence[int], tau: float, resampling: Resampling) -> pd.DataFrame:
    """Every summary of every arm at every k, averaged over problems.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c; with `blank` and `wrong` (see `add_votes`) also votes.
    ks
        Values of k, none larger than the draws of any problem.
    tau
        Share of right draws that G-pass@k asks for.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    Columns arm, summary, k, estimate, low, high, n_problems, n_draws, method, reason; arms in alphabetical order.

    Raises
    ------
    ValueError
        As `score_problems`, or if the table is malformed.
    """
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        scores = score_problems(rows, ks, tau, resampling.seed)
        points = estimate_many(
            np.hstack(list(scores.values())), keep_means, resampling, int(rows["n"].sum()), support=(0.0, 1.0)
        )
        table = _label(points.to_frame(), scores, ks)
        table.insert(0, "arm", arm)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def compare_summaries(
    counts: pd.DataFrame, first: str, second: str, ks: Sequence[int], tau: float, resampling: Resampling
) -> pd.DataFrame:
    """Paired difference of two arms in every summary at every k, first minus second.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c; with `blank` and `wrong` (see `add_votes`) also votes.
    first, second
        Arms; a positive difference means that the first is better.
    ks
        Values of k, none larger than the draws of any paired problem.
    tau
        Share of right draws that G-pass@k asks for.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns summary, k, first, second, difference, low, high, n_problems, n_draws, n_unpaired, method, reason.

    Raises
    ------
    ValueError
        As `score_problems`, or if the arms share no problem.
    """
    pair = pair_arms(counts, first, second)
    left, right = (score_problems(rows, ks, tau, resampling.seed) for rows in (pair.first, pair.second))
    left_P_M, right_P_M = np.hstack(list(left.values())), np.hstack(list(right.values()))
    points = estimate_many(
        left_P_M - right_P_M,
        keep_means,
        resampling,
        pair.n_draws,
        support=(-1.0, 1.0),
        n_unpaired=pair.n_unpaired,
    )
    table = _label(points.to_frame().rename(columns={"estimate": "difference"}), left, ks)
    table.insert(2, "first", left_P_M.mean(axis=0))
    table.insert(3, "second", right_P_M.mean(axis=0))
    table.insert(9, "n_unpaired", pair.n_unpaired)
    return table


def _label(table: pd.DataFrame, scores: dict[str, Floats], ks: Sequence[int]) -> pd.DataFrame:
    """Put summary and k in front of estimates that were stacked summary by summary."""
    table.insert(0, "summary", [name for name in scores for _ in ks])
    table.insert(1, "k", list(ks) * len(scores))
    return table


def _expect(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    worth: Callable[[int], Floats],
    problem_ids_P: Sequence[object] | None,
) -> Floats:
    """Mean worth of X right draws among k; `worth(k)` holds that of X = 0 .. k."""
    n, c, ks = (np.asarray(x, dtype=np.int64) for x in (n_P, c_P, ks_K))
    pass_at_k_matrix(n, c, ks, problem_ids_P)  # checks counts and every k
    pairs, row_of_problem = np.unique(np.column_stack([n, c]), axis=0, return_inverse=True)
    values = np.empty((len(pairs), len(ks)))
    for column, k in enumerate(ks.tolist()):
        chance = stats.hypergeom.pmf(np.arange(k + 1), pairs[:, :1], pairs[:, 1:], k)
        # Sums of probabilities may exceed 1 by rounding.
        values[:, column] = np.clip(chance @ worth(k), 0.0, 1.0)
    return np.asarray(values[row_of_problem.ravel()])


def _count_majorities(ballots: Sequence[tuple[int, ...]], ks: npt.NDArray[np.int64]) -> Floats:
    """Chance that the right answer wins among k draws, over all subsets, shape (ballots, K)."""
    k_max = int(ks.max())
    right, blank = (np.array([ballot[i] for ballot in ballots]) for i in (0, 1))
    widest = max(len(ballot) for ballot in ballots) - 2
    wrong = np.array([[*ballot[2:], *[0] * (widest + 2 - len(ballot))] for ballot in ballots]).reshape(
        len(ballots), widest
    )
    wins = np.zeros((len(ballots), k_max + 1))
    for v in range(1, min(k_max, int(right.max())) + 1):
        rows = np.flatnonzero(right >= v)
        # Subsets by size and by number of wrong answers in the tie: at most k_max // v answers have v votes.
        ways = np.zeros((len(rows), k_max + 1, k_max // v))
        not_voting = np.arange(k_max + 1 - v)
        ways[:, v:, 0] = comb(right[rows], v)[:, np.newaxis] * comb(blank[rows, np.newaxis], not_voting)
        for votes in wrong[rows].T:  # most votes first, so the columns soon hold single votes
            most = int(votes.max())
            if most == 0:
                break
            more = ways.copy()
            for j in range(1, min(v - 1, most) + 1):
                more[:, j:] += comb(votes, j)[:, np.newaxis, np.newaxis] * ways[:, :-j]
            if most >= v:
                more[:, v:, 1:] += comb(votes, v)[:, np.newaxis, np.newaxis] * ways[:, :-v, :-1]
            ways = more
        wins[rows] += ways @ (1.0 / np.arange(1, k_max // v + 1))
    n = np.array([sum(ballot) for ballot in ballots])
    return np.asarray(np.clip(wins[:, ks] / comb(n[:, np.newaxis], ks), 0.0, 1.0))


def _sample_majorities(
    ballots: Sequence[tuple[int, ...]], ks: npt.NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Estimate the same from shuffled draws, of which the first k are a random k-subset; unbiased too."""
    values = np.empty((len(ballots), len(ks)))
    for i, ballot in enumerate(ballots):
        answer = np.repeat(np.arange(len(ballot)), ballot)  # 0 right, 1 blank, then the wrong ones
        shuffled = rng.permuted(np.tile(answer, (N_SUBSETS, 1)), axis=1)
        cell = shuffled + np.arange(N_SUBSETS)[:, np.newaxis] * len(ballot)
        for column, k in enumerate(ks):
            votes = np.bincount(cell[:, :k].ravel(), minlength=N_SUBSETS * len(ballot)).reshape(N_SUBSETS, -1)
            votes[:, 1] = 0
            top = votes.max(axis=1, keepdims=True)
            winner = (votes == top) & (top > 0)
            values[i, column] = np.mean(winner[:, 0] / np.maximum(winner.sum(axis=1), 1))
    return values
