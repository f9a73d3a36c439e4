"""Null models of closure: what a merely weaker copy of the stronger arm would show.

The gap between two pass@k curves changes with k, and a gap that closes has been read as a sign of wider search.
But a curve near 1 cannot rise, so a gap closes for other reasons too. Here the weaker arm is replaced by copies of
the stronger one that search no wider by construction, brought down to the weaker arm's pass@1:

- `thinned`: every correct draw of the stronger arm is kept with probability s, p = s q. Weakness spread evenly
  over draws, as of an arm that slips now and then on every problem.
- `logit_shift`: logit p = logit q - d. Every problem becomes harder by the same amount on the log-odds scale, as in
  item-response models. The result depends on how nearly certain the arm's certain problems are, which n draws do
  not show: with the beta distribution that fits the counts best, many problems are so safe that no shift of
  moderate size reaches them. `logit_shift_jeffreys` is the same with Beta(1/2, 1/2) as the prior of every
  problem, under which a problem is no safer than its own n draws could tell.
- `lost_problems`: a share 1 - s of the problems is lost altogether, the rest solved as before. Weakness
  concentrated on whole problems. Here the gap must open.

Copies of which problem is which (shuffled difficulty) would add nothing: closure is a function of means over
problems, and these do not depend on the pairing.

Closure is measured on three scales h of mean pass@k, all increasing, so that a positive closure always means that
the first arm gains:

- `points`: h(x) = x, in percentage points where printed;
- `logit`: h(x) = log(x / (1 - x)), so that the gap is a log ratio of odds;
- `failure`: h(x) = -log(1 - x), so that the gap is the log of the second arm's failure rate over the first's.

What the test compares. On each scale

    closure = [h(W_k) - h(S_k)] - [h(W_1) - h(S_1)]

with the weaker arm's curve W and the stronger's S. A copy has the same S and the same W_1, so observed and null
closure differ by h(W_k) - h(C_k), where C_k is the pass@k of the copy. Both curves are estimated on the same problems,
so that the difficulty of these problems cancels; simulating closure itself would count it twice and give
bands that are too wide. Since h is increasing, the difference has the same sign on every scale.

Notation: `P` problems, `K` values of k, `B` simulated data sets, `C` cells, the pairs (n, c) that a problem can
show; q success probability of the stronger arm, p of the weaker one; s share kept, d shift.

Not handled: nulls whose copy searches wider on purpose; grader errors; k beyond the draws. The prior of the
simulation is fitted once and held. A copy of a noisy arm inherits the noise of its counts, which the band contains.

References
----------
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374, equation 1.
Phipson, B. and Smyth, G. K. (2010). Permutation p-values should never be zero. Statistical Applications in
Genetics and Molecular Biology 9(1), article 39.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.betabinomial import BetaPrior, fit_beta_binomial
from panelbook.measure.counts import pair_arms
from panelbook.measure.passk import gap_closure, pass_at_k_matrix
from panelbook.measure.uncertainty import CHUNK_CELLS, ROUNDING, Floats, Ints, Resampling, Statistic, estimate

NULLS = ("thinned", "logit_shift", "logit_shift_jeffreys", "lost_problems")
DESCRIPTIONS = {
    "thinned": "a thinned copy of",
    "logit_shift": "a copy, shifted in log-odds, of",
    "logit_shift_jeffreys": "a copy, shifted in log-odds (Jeffreys prior), of",
    "lost_problems": "a copy with lost problems of",
}
"""How a null continues "the weaker arm is ... the stronger"."""

OBSERVED = (
    "scale",
    "k",
    "estimate",
    "low",
    "high",
    "n_problems",
    "n_draws",
    "n_unpaired",
    "method",
    "reason",
)
EXPECTED = (
    *(
        "null",
        "scale",
        "k",
        "copied",
        "weaker",
        "strength",
        "observed",
        "estimate",
        "low",
        "high",
        "p",
        "place",
    ),
    *("n_undefined", "n_problems", "n_draws", "method", "reason"),
)

# The usual prior of a probability of which nothing is known. With it no problem lies further from 0 or 1 than its
# own draws could tell, whatever the other problems say.
JEFFREYS = BetaPrior(0.5, 0.5)
# Shifts tried for `logit_shift`. At 15 a problem solved 999 times in 1000 is solved 3 times in 10,000.
SHIFTS = np.linspace(-5.0, 15.0, 401)
# Levels of the equally likely values of q that stand for a beta distribution.
LEVELS = (np.arange(200) + 0.5) / 200


def _points(failure: Floats) -> Floats:
    return 1.0 - failure


def _logit(failure: Floats) -> Floats:
    return np.asarray(np.log1p(-failure) - np.log(failure))


def _failure(failure: Floats) -> Floats:
    return np.asarray(-np.log(failure))


SCALES: dict[str, Callable[[Floats], Floats]] = {"points": _points, "logit": _logit, "failure": _failure}
"""Scale -> h as a function of 1 - mean pass@k, in which a mean of exactly 1 is an exact 0; infinite there."""


def thinned_pass_at_k(n_P: npt.ArrayLike, c_P: npt.ArrayLike, kept: float, ks: Sequence[int]) -> Floats:
    """Pass@k of a copy that keeps every correct draw with probability `kept`, averaged over problems.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem of the arm that is copied.
    kept
        Share s of its correct draws that stay correct.
    ks
        Values of k, none larger than the draws of any problem.

    Returns
    -------
    Array of shape (K,).

    Raises
    ------
    ValueError
        If the counts are impossible or k exceeds the draws of a problem.

    Notes
    -----
    A k-subset with j correct draws fails when all j are spoilt, so the copy fails with probability
    E[(1 - s)^J], where J is hypergeometric: the correct ones among k of n draws. This is the unbiased estimate of
    (1 - s q)^k and needs no model of q.

    Examples
    --------
    >>> thinned_pass_at_k([2], [1], kept=0.5, ks=[1, 2]).tolist()  # half of one in two, then half of one
    [0.25, 0.5]
    """
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    arm = _Tabulated(pd.DataFrame({"problem_id": np.arange(len(n)), "n": n, "c": c}), ks)
    return np.asarray(1.0 - _Thinned(arm, ks).copy(arm.shares, np.array([kept]))[0])


def closure_by_scale(
    counts: pd.DataFrame, first: str, second: str, ks: Sequence[int], resampling: Resampling
) -> pd.DataFrame:
    """Observed closure from one draw to k, on every scale.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms; a positive closure means that the first gains.
    ks
        Values of k above 1, none larger than the draws of any paired problem; none at all gives an empty table.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms together.

    Returns
    -------
    Columns scale, k, estimate, low, high, n_problems, n_draws, n_unpaired, method, reason. On `points` it is
    `gap_closure`; on `failure` it is minus the logarithm of `failure_ratio_change`. Where a mean is exactly 0 or
    1 and the scale has no value there, the estimate is NaN with the reason; no continuity correction is made.

    Raises
    ------
    ValueError
        If k is below 2 or exceeds the draws of a problem, the arms share no problem, or the table is malformed.
    """
    _check_ks(ks)
    pair = pair_arms(counts, first, second)
    rows = []
    for k in ks:
        failures_P_4 = np.hstack([1.0 - _pass(arm, (1, k)) for arm in (pair.first, pair.second)])
        for scale, h in SCALES.items():
            if scale == "points":
                found = gap_closure(counts, first, second, 1, k, resampling)
            else:
                found = estimate(
                    failures_P_4, _closure_on(h), resampling, pair.n_draws, n_unpaired=pair.n_unpaired
                )
            row = {"scale": scale, "k": k, "estimate": found.value, "low": found.low, "high": found.high}
            row |= {"n_problems": found.n_problems, "n_draws": found.n_draws, "n_unpaired": found.n_unpaired}
            missing = np.isnan(found.value)
            reason = _why_undefined(failures_P_4.mean(axis=0), first, second, k) if missing else found.reason
            rows.append(row | {"method": found.method, "reason": reason})
    return pd.DataFrame(rows, columns=list(OBSERVED)).astype({"low": float, "high": float})


def null_closure(
    counts: pd.DataFrame,
    first: str,
    second: str,
    ks: Sequence[int],
    resampling: Resampling,
    n_null: int = 2000,
    nulls: Sequence[str] = NULLS,
) -> pd.DataFrame:
    """Closure that weaker copies of the stronger arm would show, and where the observed one lies.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms, as in `closure_by_scale`. The one with the higher pass@1 is copied; on a tie the second.
    ks
        Values of k above 1, none larger than the draws of any paired problem; none at all gives an empty table.
    resampling
        Seed, and confidence of the band; its number of resamples is not used.
    n_null
        Simulated data sets B, at least 100.
    nulls
        Which of `NULLS`.

    Returns
    -------
    One row for each null, scale and k. Columns null, scale, k, copied (arm), weaker (arm), strength (s or d),
    observed, estimate (mean closure under the null), low, high (band that holds the observed closure with
    the given confidence if the null is true), p (two-sided), place (of the observed closure: above, inside or
    below the band; empty where there is none), n_undefined (simulated data sets without a value), n_problems,
    n_draws, method, reason.

    Raises
    ------
    ValueError
        If n_null is too small, a null is unknown, k is below 2 or exceeds the draws of a problem, the arms share no
        problem, or the table is malformed.

    Notes
    -----
    Each simulated data set resamples problems, draws q of each from Beta(a + c, b + n - c) given the stronger
    arm's counts (a, b: `fit_beta_binomial`), weakens it, and draws new counts for both arms with the observed n. From
    these counts everything is estimated anew, strength included: D* = h(W*_k) - h(C*_k). The band is the closure
    of the observed arm's copy plus quantiles of D*, and p = 2 min over both tails of (1 + count) / (1 + B), at
    most 1 (Phipson and Smyth 2010). A data set without a value counts in both tails.

    The copy's curve is exact for `thinned` (see `thinned_pass_at_k`) and for `lost_problems`, C_k = s S_k. For
    `logit_shift` it needs the distribution of q, which n draws do not identify. The mixture of the
    problems' posteriors g stands for it, and only the change that the shift makes is taken from it,
    C_k = S_k + g_k(d) - g_k(0), so that a copy of equal strength has the curve of the arm itself.
    """
    _check_ks(ks)
    if n_null < 100:
        raise ValueError(
            f"n_null must be 100 or more to resolve the tails; it is {n_null}. Use 2000 for a result to report."
        )
    unknown = [null for null in nulls if null not in NULLS]
    if unknown:
        raise ValueError(f"there is no null {unknown[0]!r}; known: {', '.join(NULLS)}. Choose among these.")
    pair = pair_arms(counts, first, second)
    first_is_weaker = _pass_1(pair.first) <= _pass_1(pair.second)
    copied, weaker = (second, first) if first_is_weaker else (first, second)
    strong, weak = (pair.second, pair.first) if first_is_weaker else (pair.first, pair.second)
    sign = 1.0 if first_is_weaker else -1.0
    labels: dict[str, object] = {"copied": copied, "weaker": weaker}
    counted: dict[str, object] = {"n_problems": len(weak), "n_draws": pair.n_draws, "method": "none"}
    if _pass_1(weak) == 0.0:
        nothing: dict[str, object] = dict.fromkeys(
            ("strength", "observed", "estimate", "low", "high", "p"), np.nan
        )
        nothing |= {"place": "", "n_undefined": 0} | counted
        nothing |= {"reason": f"{weaker} is never right, and so is every copy of {copied} as weak"}
        return pd.DataFrame(
            [
                {"null": null, "scale": scale, "k": k} | labels | nothing
                for null in nulls
                for scale in SCALES
                for k in ks
            ],
            columns=list(EXPECTED),
        )
    arm_S, arm_W = _Tabulated(strong, (1, *ks)), _Tabulated(weak, (1, *ks))
    fails_S, fails_W = arm_S.failures(), arm_W.failures()
    fitted = fit_beta_binomial(arm_S.n_P, arm_S.c_P)
    rows = []
    for null in nulls:
        prior = JEFFREYS if null == "logit_shift_jeffreys" else fitted
        copies = _simulate(arm_S, arm_W, _make_null(null, arm_S, (1, *ks), prior), prior, resampling, n_null)
        for scale, h in SCALES.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                h_S, h_W, h_C = h(fails_S), h(fails_W), h(copies.fails_K)
                observed = sign * ((h_W - h_S) - (h_W[0] - h_S[0]))
                expected = sign * ((h_C - h_S) - (h_W[0] - h_S[0]))
                noise_B_K = sign * (h(copies.simulated_weak_B_K) - h(copies.simulated_fails_B_K))
            for i, k in enumerate(ks, start=1):
                row: dict[str, object] = {"null": null, "scale": scale, "k": k} | labels
                row |= {"strength": copies.strength, "observed": observed[i]} | counted
                if np.isfinite(observed[i]) and np.isfinite(expected[i]):
                    row |= _band(observed[i], expected[i], noise_B_K[:, i], resampling.confidence)
                    row["method"] = (
                        f"null band: {n_null} simulated studies in which {weaker} is {DESCRIPTIONS[null]} {copied}"
                    )
                else:
                    means = np.array([fails_W[0], fails_W[i], fails_S[0], fails_S[i]])
                    row |= dict.fromkeys(("observed", "estimate", "low", "high", "p"), np.nan)
                    row |= {"place": "", "n_undefined": 0}
                    row["reason"] = _why_undefined(means, weaker, copied, k) or f"the copy's pass@{k} is 1"
                rows.append(row)
    return pd.DataFrame(rows, columns=list(EXPECTED))


class _Cells:
    """The pairs (n, c) that the problems of one arm can show: n_C draws, c_C correct."""

    def __init__(self, n_P: Ints) -> None:
        distinct = np.unique(n_P)
        start = np.concatenate([[0], np.cumsum(distinct + 1)])
        self.first_cell_P = start[np.searchsorted(distinct, n_P)]
        self.n_C = np.repeat(distinct, distinct + 1)
        self.c_C = np.arange(start[-1]) - np.repeat(start[:-1], distinct + 1)

    def shares(self, c_B_P: Ints, problems_B_P: Ints | None = None) -> Floats:
        """Share of the problems in each cell, shape (B, C), for counts of the problems given by row number."""
        first = self.first_cell_P if problems_B_P is None else self.first_cell_P[problems_B_P]
        cell_B_P = first + c_B_P
        n_sets, n_problems = cell_B_P.shape
        cell_B_P += np.arange(n_sets)[:, np.newaxis] * len(self.n_C)
        visits = np.bincount(cell_B_P.ravel(), minlength=n_sets * len(self.n_C))
        return np.asarray(visits.reshape(n_sets, -1) / n_problems)


class _Tabulated:
    """One arm of a study: its counts, and the failure rate 1 - pass@k of each of its cells."""

    def __init__(self, rows: pd.DataFrame, ks: Sequence[int]) -> None:
        self.n_P, self.c_P = rows["n"].to_numpy(), rows["c"].to_numpy()
        _pass(rows, ks)  # names the problem whose draws are too few for k
        self.cells = _Cells(self.n_P)
        self.fails_C_K = 1.0 - pass_at_k_matrix(self.cells.n_C, self.cells.c_C, ks)
        self.shares = self.cells.shares(self.c_P[np.newaxis])

    def failures(self) -> Floats:
        """Return the failure rate of the observed counts, shape (K,)."""
        return np.asarray((self.shares @ self.fails_C_K)[0])

    def redraw(self, rng: np.random.Generator, problems_B_P: Ints, chance_B_P: Floats) -> Floats:
        """Draw new counts and return the shares of the cells, shape (B, C)."""
        return self.cells.shares(rng.binomial(self.n_P[problems_B_P], chance_B_P), problems_B_P)


class _Null(Protocol):
    """A way to make a weaker copy of an arm."""

    def match(self, shares_B_C: Floats, weak_1_B: Floats) -> Floats:
        """Strength at which the copy's pass@1 is that of the weaker arm, shape (B,)."""

    def copy(self, shares_B_C: Floats, strength_B: Floats) -> Floats:
        """Failure rate of the copy, shape (B, K)."""

    def weaken(self, q: Floats, strength: float, rng: np.random.Generator) -> Floats:
        """Success probabilities of the copy, given those of the arm."""


class _LostProblems:
    """A share 1 - s of the problems is lost; the rest is solved as before."""

    def __init__(self, strong: _Tabulated) -> None:
        self.fails_C_K = strong.fails_C_K

    def match(self, shares_B_C: Floats, weak_1_B: Floats) -> Floats:
        strong_1_B = 1.0 - shares_B_C @ self.fails_C_K[:, 0]
        return np.divide(weak_1_B, strong_1_B, out=np.zeros_like(weak_1_B), where=strong_1_B > 0.0)

    def copy(self, shares_B_C: Floats, strength_B: Floats) -> Floats:
        s_B = strength_B[:, np.newaxis]
        return np.clip((1.0 - s_B) + s_B * (shares_B_C @ self.fails_C_K), 0.0, 1.0)

    def weaken(self, q: Floats, strength: float, rng: np.random.Generator) -> Floats:
        return np.asarray(q * (rng.random(q.shape) < strength))


class _Thinned(_LostProblems):
    """Every correct draw is kept with probability s."""

    def __init__(self, strong: _Tabulated, ks: Sequence[int]) -> None:
        super().__init__(strong)
        n, c = (x[:, np.newaxis, np.newaxis] for x in (strong.cells.n_C, strong.cells.c_C))
        k, j = np.asarray(ks)[:, np.newaxis], np.arange(max(ks) + 1)
        # Chance of j correct draws in a k-subset, shape (C, K, J).
        self.chance_C_K_J = stats.hypergeom.pmf(j, n, c, k)

    def copy(self, shares_B_C: Floats, strength_B: Floats) -> Floats:
        chance_B_K_J = np.tensordot(shares_B_C, self.chance_C_K_J, axes=1)
        # An estimate s > 1 occurs between arms of like strength; the sum stays unbiased then.
        spoilt_B_J = (1.0 - strength_B)[:, np.newaxis] ** np.arange(chance_B_K_J.shape[2])
        return np.asarray((chance_B_K_J @ spoilt_B_J[:, :, np.newaxis])[:, :, 0])

    def weaken(self, q: Floats, strength: float, rng: np.random.Generator) -> Floats:
        return q * min(strength, 1.0)


class _LogitShift:
    """Every problem's log-odds are lowered by d."""

    def __init__(self, strong: _Tabulated, ks: Sequence[int], prior: BetaPrior) -> None:
        self.fails_C_K = strong.fails_C_K
        a_C, b_C = prior.posterior(strong.cells.n_C, strong.cells.c_C)
        self.table_D_C_K = np.empty((len(SHIFTS), len(a_C), len(ks)))
        for cell, (a, b) in enumerate(zip(a_C, b_C, strict=True)):
            wrong = 1.0 - _shift(stats.beta.ppf(LEVELS, a, b), SHIFTS[:, np.newaxis])
            for i, k in enumerate(ks):
                self.table_D_C_K[:, cell, i] = (wrong**k).mean(axis=1)
        self.unshifted_C_K = self.table_D_C_K[np.searchsorted(SHIFTS, 0.0)]

    def match(self, shares_B_C: Floats, weak_1_B: Floats) -> Floats:
        # Anchored at d = 0, where the copy is the arm itself; see the notes of `null_closure`.
        offset_B = shares_B_C @ (self.unshifted_C_K - self.fails_C_K)[:, 0]
        target_B = (1.0 - weak_1_B) + offset_B
        fails_B_D = shares_B_C @ self.table_D_C_K[:, :, 0].T
        below = np.clip((fails_B_D < target_B[:, np.newaxis]).sum(axis=1) - 1, 0, len(SHIFTS) - 2)
        row = np.arange(len(below))
        step = fails_B_D[row, below + 1] - fails_B_D[row, below]
        part = np.divide(target_B - fails_B_D[row, below], step, out=np.zeros_like(step), where=step > 0.0)
        return np.asarray(SHIFTS[below] + np.clip(part, 0.0, 1.0) * (SHIFTS[1] - SHIFTS[0]))

    def copy(self, shares_B_C: Floats, strength_B: Floats) -> Floats:
        place = (strength_B - SHIFTS[0]) / (SHIFTS[1] - SHIFTS[0])
        below = np.clip(place.astype(np.int64), 0, len(SHIFTS) - 2)
        part = (place - below)[:, np.newaxis, np.newaxis]
        shifted_B_C_K = (1.0 - part) * self.table_D_C_K[below] + part * self.table_D_C_K[below + 1]
        change_B_C_K = shifted_B_C_K - self.unshifted_C_K + self.fails_C_K
        return np.asarray(np.clip(np.einsum("bc,bck->bk", shares_B_C, change_B_C_K), 0.0, 1.0))

    def weaken(self, q: Floats, strength: float, rng: np.random.Generator) -> Floats:
        return _shift(q, np.array(strength))


def _make_null(name: str, strong: _Tabulated, ks: Sequence[int], prior: BetaPrior) -> _Null:
    """Build a null on the stronger arm; the first k must be 1."""
    if name == "thinned":
        return _Thinned(strong, ks)
    return _LostProblems(strong) if name == "lost_problems" else _LogitShift(strong, ks, prior)


@dataclass(frozen=True)
class _Copies:
    """What one null makes of the stronger arm: from its own counts, and in simulated studies."""

    strength: float
    fails_K: Floats
    simulated_fails_B_K: Floats
    simulated_weak_B_K: Floats


def _simulate(
    strong: _Tabulated, weak: _Tabulated, null: _Null, prior: BetaPrior, resampling: Resampling, n_null: int
) -> _Copies:
    """Copy the stronger arm, and simulate studies in which the weaker arm is such a copy."""
    strength = null.match(strong.shares, 1.0 - weak.failures()[:1])
    a_P, b_P = prior.posterior(strong.n_P, strong.c_P)
    rng = resampling.generator()
    of_copy, of_weak = [], []
    for problems in _resampled_problems(rng, len(a_P), n_null):
        q = rng.beta(a_P[problems], b_P[problems])
        shares = strong.redraw(rng, problems, q)
        fails = weak.redraw(rng, problems, null.weaken(q, float(strength[0]), rng)) @ weak.fails_C_K
        of_weak.append(fails)
        of_copy.append(null.copy(shares, null.match(shares, 1.0 - fails[:, 0])))
    observed = null.copy(strong.shares, strength)[0]
    return _Copies(float(strength[0]), observed, np.concatenate(of_copy), np.concatenate(of_weak))


def _resampled_problems(rng: np.random.Generator, n_problems: int, n_sets: int) -> Iterator[Ints]:
    """Row numbers of resampled problems, a chunk of data sets at a time, shape (chunk, P)."""
    chunk = max(1, CHUNK_CELLS // n_problems)
    for start in range(0, n_sets, chunk):
        yield rng.integers(0, n_problems, size=(min(chunk, n_sets - start), n_problems))


def _band(observed: float, expected: float, noise_B: Floats, confidence: float) -> dict[str, object]:
    """Band of the null about the copy's closure, and the place of the observed closure in it."""
    finite = np.isfinite(noise_B)
    n_null, n_undefined = len(noise_B), int((~finite).sum())
    excess = observed - expected
    at_least = int((noise_B[finite] >= excess - ROUNDING).sum()) + n_undefined
    at_most = int((noise_B[finite] <= excess + ROUNDING).sum()) + n_undefined
    rank = max(int((1.0 - confidence) / 2.0 * (n_null + 1)), 1) - 1
    low = float(np.sort(np.where(finite, noise_B, -np.inf))[rank])
    high = float(np.sort(np.where(finite, noise_B, np.inf))[n_null - 1 - rank])
    found: dict[str, object] = {
        "estimate": expected + (float(noise_B[finite].mean()) if finite.any() else np.nan),
        "low": np.nan,
        "high": np.nan,
        "p": min(1.0, 2.0 * (1 + min(at_least, at_most)) / (1 + n_null)),
        "place": "",
        "n_undefined": n_undefined,
        "reason": "",
    }
    if not (np.isfinite(low) and np.isfinite(high)):
        return found | {"reason": f"undefined in {n_undefined / n_null:.1%} of the simulated studies"}
    if high - low <= ROUNDING:
        return found | {"reason": "the simulated studies show no spread"}
    place = "above" if excess > high + ROUNDING else "below" if excess < low - ROUNDING else "inside"
    return found | {"low": expected + low, "high": expected + high, "place": place}


def _shift(q: Floats, d: Floats) -> Floats:
    """Lower the log-odds of q by d; 0 and 1 stay where they are."""
    return np.asarray(q * np.exp(-d) / (1.0 - q + q * np.exp(-d)))


def _closure_on(h: Callable[[Floats], Floats]) -> Statistic:
    """Closure as a function of mean failure rates: first arm at 1 and k, second at 1 and k, on the last axis."""

    def closure(fails_4: Floats) -> Floats:
        values = h(fails_4)
        return np.asarray((values[..., 1] - values[..., 3]) - (values[..., 0] - values[..., 2]))

    return closure


def _pass(rows: pd.DataFrame, ks: Sequence[int]) -> Floats:
    """Pass@k of the rows of one arm."""
    return pass_at_k_matrix(rows["n"].to_numpy(), rows["c"].to_numpy(), ks, rows["problem_id"].tolist())


def _pass_1(rows: pd.DataFrame) -> float:
    """Mean pass@1 of the rows of one arm."""
    return float((rows["c"] / rows["n"]).mean())


def _check_ks(ks: Sequence[int]) -> None:
    """Check that closure has somewhere to go."""
    if min(ks, default=2) < 2:
        raise ValueError(f"closure is a change from k = 1, so every k must be 2 or more; got {list(ks)}.")


def _why_undefined(failures_4: Floats, first: str, second: str, k: int) -> str:
    """Name the mean at which a logarithm has no value."""
    for name, fails, at in zip((first, first, second, second), failures_4, (1, k, 1, k), strict=True):
        if fails in (0.0, 1.0):
            return f"pass@{at} of {name} is exactly {1.0 - fails:.0f}, where this scale has no value"
    return ""
