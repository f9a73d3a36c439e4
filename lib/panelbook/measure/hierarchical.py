"""Bayesian pass@k: what a model of the problems adds to the counts, also beyond the draws there are.

The unbiased pass@k says nothing for k above the number n of draws, and moves in steps where n is small. A model
of how success rates differ between problems says something for every k. It is the hierarchical beta-binomial: problem p
has success rate q_p ~ Beta(a, b), its draws are independent given q_p, so c_p ~ BetaBinomial(n_p; a, b). Two questions
are answered from the posterior of (a, b):

- *population*: pass@k expected on a new problem of the same kind, E[1 - (1 - q)^k] = 1 - B(a, b + k) / B(a, b).
  Its interval covers which problems were taken, as the bootstrap of the other modules does.
- *benchmark*: pass@k averaged over these very problems, with q_p | data ~ Beta(a + c_p, b + n_p - c_p). Its interval
  covers the draws only: what would be found on the same problems with unlimited draws.

The hyperprior is that of Gelman et al. (2013, section 5.3): p(a, b) proportional to (a + b)^(-5/2), which is flat in
the mean a / (a + b) and in (a + b)^(-1/2), roughly the spread of the success rates. In u = log(a / b) and
w = log(a + b) its density is m (1 - m) exp(-w / 2), m the mean. The posterior is evaluated, without simulation, on a
grid over (u, w) that is fitted to where it has mass. It is proper if and only if some problem has both right and
wrong draws; otherwise nothing is given, and the reason is said.

`betabinomial` fits the same model by maximum likelihood and plugs the fit in: enough for a null model, not for an
interval.

Not handled: success rates that are no beta distribution, above all a share of problems that can never be solved,
which makes every k beyond the draws look too good (`check_extrapolation` tests it as far as the draws allow), and
the pairing of two arms. A difference treats the posteriors of the arms as independent, although both saw the same
problems: for the population this ignores that a hard sample is hard for both, and the interval is as a rule too
wide; the paired bootstrap of the other modules has no such fault.

References
----------
Gelman, A., Carlin, J. B., Stern, H. S., Dunson, D. B., Vehtari, A. and Rubin, D. B. (2013). Bayesian data analysis, 3rd
edition, section 5.3. CRC Press.
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, log_expit

from panelbook.measure.counts import list_arms, pair_arms, select_arm
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Floats, Resampling

TARGETS = ("population", "benchmark")

GRID = 64  # points a side: spacing well below a posterior standard deviation once the box fits
WIDEST = ((-15.0, 15.0), (-25.0, 35.0))  # of log(a / b) and log(a + b): beyond lies no noticeable mass
DEPTH = 14.0  # the grid covers all points whose density is above exp(-14) of the highest
CHUNK_CELLS = 2_000_000  # success rates held at once
IMPROPER = (
    "no problem has both right and wrong draws, so the posterior of the beta-binomial model is improper"
)


@dataclass(frozen=True)
class HyperPosterior:
    """Posterior of (a, b) on a grid of cells.

    Parameters
    ----------
    logit_mean_G, log_concentration_G
        log(a / b) and log(a + b) at the centre of each cell.
    weight_G
        Posterior probability of each cell; they sum to 1.
    steps
        Sides of a cell.
    """

    logit_mean_G: Floats
    log_concentration_G: Floats
    weight_G: Floats
    steps: tuple[float, float]

    @property
    def a_G(self) -> Floats:
        """The parameter a at the centre of each cell."""
        return _to_ab(self.logit_mean_G, self.log_concentration_G)[0]

    @property
    def b_G(self) -> Floats:
        """The parameter b at the centre of each cell."""
        return _to_ab(self.logit_mean_G, self.log_concentration_G)[1]

    def draw(self, n_posterior: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw (a, b): a cell by its probability, a point within it evenly.

        Parameters
        ----------
        n_posterior
            Number of draws D.
        rng
            Generator.

        Returns
        -------
        a and b, each of shape (D,).
        """
        cell = rng.choice(len(self.weight_G), size=n_posterior, p=self.weight_G)
        jitter = rng.uniform(-0.5, 0.5, size=(2, n_posterior))
        return _to_ab(
            self.logit_mean_G[cell] + jitter[0] * self.steps[0],
            self.log_concentration_G[cell] + jitter[1] * self.steps[1],
        )


def why_improper(n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> str:
    """Return why the posterior is improper; empty where it is proper.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.

    Notes
    -----
    As a + b falls to 0 every success rate becomes 0 or 1. Problems that are all right or all wrong fit this
    perfectly, and the prior has infinite mass there; one mixed problem rules it out.
    """
    n, c = np.asarray(n_P), np.asarray(c_P)
    return "" if np.any((c > 0) & (c < n)) else IMPROPER


def fit_hyperposterior(n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> HyperPosterior:
    """Posterior of (a, b) of the beta-binomial model, on a grid.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.

    Raises
    ------
    ValueError
        If the counts are impossible or the posterior is improper.

    Notes
    -----
    The likelihood of a problem is prod_{i < c} (a + i) prod_{i < n - c} (b + i) / prod_{i < n} (a + b + i) up to a
    constant, so the data enter through how many problems have more than i right, wrong and all draws: the
    time grows with n, not with the number of problems.

    Examples
    --------
    >>> posterior = fit_hyperposterior([4, 4, 4], [1, 2, 3])
    >>> round(float(posterior.weight_G @ (posterior.a_G / (posterior.a_G + posterior.b_G))), 3)  # symmetric data
    0.5
    """
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    pass_at_k_matrix(n, c, [1])  # checks the counts
    reason = why_improper(n, c)
    if reason:
        raise ValueError(f"{reason}. Draw more completions, or use pass@k up to n alone.")
    exceeding = [_count_exceeding(count, int(n.max())) for count in (c, n - c, n)]
    box = WIDEST
    for _ in range(12):
        logit_mean, log_concentration, log_density = _evaluate(box, exceeding)
        fitted = _fit_box(logit_mean, log_concentration, log_density)
        settled = all(np.diff(new)[0] > 0.8 * np.diff(old)[0] for new, old in zip(fitted, box, strict=True))
        if settled:
            break
        box = fitted
    weight = np.exp(log_density - log_density.max())
    grid = np.meshgrid(logit_mean, log_concentration, indexing="ij")
    return HyperPosterior(
        grid[0].ravel(),
        grid[1].ravel(),
        (weight / weight.sum()).ravel(),
        (float(logit_mean[1] - logit_mean[0]), float(log_concentration[1] - log_concentration[0])),
    )


def population_pass_at_k(a_D: npt.ArrayLike, b_D: npt.ArrayLike, ks_K: npt.ArrayLike) -> Floats:
    """Pass@k expected on a new problem whose success rate is Beta(a, b): 1 - B(a, b + k) / B(a, b).

    Parameters
    ----------
    a_D, b_D
        Parameters, above 0.
    ks_K
        Values of k, at least 1, without an upper limit.

    Returns
    -------
    Array of shape (D, K).

    Raises
    ------
    ValueError
        If a k is below 1.

    Notes
    -----
    The quotient of beta functions is prod_{i < k} (1 - a / (a + b + i)).

    Examples
    --------
    >>> population_pass_at_k([1.0], [1.0], [1, 3]).round(12).tolist()  # rates spread evenly: k / (k + 1)
    [[0.5, 0.75]]
    """
    a, b = np.asarray(a_D, dtype=np.float64), np.asarray(b_D, dtype=np.float64)
    ks = _check_ks(ks_K)
    values = np.empty((len(a), len(ks)))
    log_failure = np.zeros(len(a))
    for i in range(int(ks.max())):
        log_failure += np.log1p(-a / (a + b + i))
        values[:, ks == i + 1] = -np.expm1(log_failure)[:, np.newaxis]
    return values


def benchmark_pass_at_k(
    n_P: npt.ArrayLike,
    c_P: npt.ArrayLike,
    a_D: npt.ArrayLike,
    b_D: npt.ArrayLike,
    ks_K: npt.ArrayLike,
    rng: np.random.Generator,
) -> Floats:
    """Posterior draws of pass@k averaged over these very problems.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.
    a_D, b_D
        Posterior draws of the parameters; each gets one set of success rates.
    ks_K
        Values of k, at least 1, without an upper limit.
    rng
        Generator.

    Returns
    -------
    Array of shape (D, K): the mean over p of 1 - (1 - q_p)^k with q_p ~ Beta(a + c_p, b + n_p - c_p).

    Raises
    ------
    ValueError
        If a k is below 1.
    """
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    a, b = (np.asarray(x, dtype=np.float64)[:, np.newaxis] for x in (a_D, b_D))
    ks = _check_ks(ks_K)
    total = np.zeros((len(a), len(ks)))
    block = max(1, CHUNK_CELLS // len(a))
    for start in range(0, len(n), block):
        rows = slice(start, start + block)
        failure = 1.0 - rng.beta(a + c[rows], b + (n - c)[rows])
        for column, k in enumerate(ks):
            total[:, column] += (1.0 - failure**k).sum(axis=1)
    return total / len(n)


def bayes_pass_at_k(
    counts: pd.DataFrame, ks: Sequence[int], resampling: Resampling, n_posterior: int = 4000
) -> pd.DataFrame:
    """Bayesian pass@k of every arm, for the population of problems and for the benchmark.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    ks
        Values of k, at least 1; those above the draws rest on the model alone.
    resampling
        Seed and confidence.
    n_posterior
        Draws from the posterior.

    Returns
    -------
    Columns arm, target (population or benchmark), k, estimate (posterior mean), low, high (equal-tailed
    credible interval), beyond (whether k exceeds the draws of a problem), n_problems, n_draws, method, reason; arms in
    alphabetical order. NaN, with the reason, where the posterior is improper.

    Raises
    ------
    ValueError
        If the table is malformed or a k is below 1.
    """
    rng = resampling.generator()
    tables = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        draws, reason = _draw_pass_at_k(rows, ks, n_posterior, rng)
        table = _tabulate(draws, ks, reason, resampling, n_posterior)
        table.insert(0, "arm", arm)
        table = table.assign(
            beyond=table["k"] > int(rows["n"].min()), n_problems=len(rows), n_draws=int(rows["n"].sum())
        )
        tables.append(table)
    columns = [
        "arm",
        "target",
        "k",
        "estimate",
        "low",
        "high",
        "beyond",
        "n_problems",
        "n_draws",
        "method",
        "reason",
    ]
    return pd.concat(tables, ignore_index=True)[columns]


def bayes_pass_at_k_gap(
    counts: pd.DataFrame,
    first: str,
    second: str,
    ks: Sequence[int],
    resampling: Resampling,
    n_posterior: int = 4000,
) -> pd.DataFrame:
    """Difference of two arms' Bayesian pass@k, first minus second, on the problems that both have.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms. Their posteriors are treated as independent; see the module's notes.
    ks
        Values of k, at least 1.
    resampling
        Seed and confidence.
    n_posterior
        Draws from each posterior.

    Returns
    -------
    Columns target, k, first, second, gap, low, high, p_first_ahead (posterior probability that the first arm's
    pass@k is the higher), beyond, n_problems, n_draws, n_unpaired, method, reason.

    Raises
    ------
    ValueError
        If the arms share no problem, the table is malformed or a k is below 1.
    """
    pair = pair_arms(counts, first, second)
    rng = resampling.generator()
    left, why_left = _draw_pass_at_k(pair.first, ks, n_posterior, rng)
    right, why_right = _draw_pass_at_k(pair.second, ks, n_posterior, rng)
    reason = "; ".join(f"{arm}: {why}" for arm, why in ((first, why_left), (second, why_right)) if why)
    table = _tabulate(left - right, ks, reason, resampling, n_posterior).rename(columns={"estimate": "gap"})
    fewest = min(int(pair.first["n"].min()), int(pair.second["n"].min()))
    table = table.assign(
        first=left.mean(axis=1).ravel(),
        second=right.mean(axis=1).ravel(),
        # A tie has posterior probability 0; undefined stays undefined.
        p_first_ahead=np.where(np.isnan(left - right), np.nan, left > right).mean(axis=1).ravel(),
        beyond=table["k"] > fewest,
        n_problems=len(pair.first),
        n_draws=pair.n_draws,
        n_unpaired=pair.n_unpaired,
    )
    columns = ["target", "k", "first", "second", "gap", "low", "high", "p_first_ahead", "beyond"]
    return table[[*columns, "n_problems", "n_draws", "n_unpaired", "method", "reason"]]


def check_extrapolation(
    counts: pd.DataFrame, n_kept: int, resampling: Resampling, n_posterior: int = 4000
) -> pd.DataFrame:
    """Predict from a part of the draws how many problems all of them solve, and set what was seen beside it.

    Each problem keeps `n_kept` of its draws, chosen at random without replacement. The model is fitted to these and
    predicts the share of problems that the draws left out, together with the kept ones, solve at least once.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    n_kept
        Draws that each problem keeps, at least 1 and below every n.
    resampling
        Seed and confidence.
    n_posterior
        Draws from the posterior.

    Returns
    -------
    One row per arm: arm, n_kept, predicted, low, high (posterior predictive mean and equal-tailed interval of the
    share), observed, inside (whether low <= observed <= high; missing without an interval), n_problems, n_draws,
    reason.

    Raises
    ------
    ValueError
        If n_kept is out of range or the table is malformed.
    """
    rng = resampling.generator()
    tail = (1.0 - resampling.confidence) / 2.0
    found = []
    for arm in list_arms(counts):
        rows = select_arm(counts, arm)
        n, c = rows["n"].to_numpy(), rows["c"].to_numpy()
        if not 1 <= n_kept < n.min():
            raise ValueError(
                f"n_kept must be at least 1 and below the draws of every problem; arm {arm!r} has a problem with "
                f"{n.min()} draws and n_kept={n_kept}. Keep fewer, or draw more completions."
            )
        kept = rng.hypergeometric(c, n - c, n_kept)
        observed = float(np.mean(c > 0))
        reason = why_improper(np.full(len(n), n_kept), kept)
        predicted = low = high = np.nan
        if not reason:
            a, b = fit_hyperposterior(np.full(len(n), n_kept), kept).draw(n_posterior, rng)
            # A problem solved by the kept draws stays solved; the others are solved by chance.
            left = n[kept == 0] - n_kept
            failure = (
                1.0 - rng.beta(a[:, np.newaxis], b[:, np.newaxis] + n_kept, (len(a), len(left)))
            ) ** left
            solved = np.count_nonzero(kept) + (rng.random(failure.shape) >= failure).sum(axis=1)
            share = solved / len(n)
            predicted, (low, high) = share.mean(), np.quantile(share, [tail, 1.0 - tail])
        found.append(
            {
                "arm": arm,
                "n_kept": n_kept,
                "predicted": predicted,
                "low": low,
                "high": high,
                "observed": observed,
                "inside": None if reason else bool(low <= observed <= high),
                "n_problems": len(rows),
                "n_draws": int(n.sum()),
                "reason": reason,
            }
        )
    return pd.DataFrame(found)


def _draw_pass_at_k(
    rows: pd.DataFrame, ks: Sequence[int], n_posterior: int, rng: np.random.Generator
) -> tuple[Floats, str]:
    """Posterior draws of pass@k for each of `TARGETS`, shape (2, D, K); NaN and the reason where there are none."""
    n, c = rows["n"].to_numpy(), rows["c"].to_numpy()
    reason = why_improper(n, c)
    if reason:
        return np.full((len(TARGETS), n_posterior, len(_check_ks(ks))), np.nan), reason
    a, b = fit_hyperposterior(n, c).draw(n_posterior, rng)
    return np.stack([population_pass_at_k(a, b, ks), benchmark_pass_at_k(n, c, a, b, ks, rng)]), ""


def _tabulate(
    draws: Floats, ks: Sequence[int], reason: str, resampling: Resampling, n_posterior: int
) -> pd.DataFrame:
    """Posterior mean and equal-tailed interval of draws of shape (targets, D, K), a row for each target and k."""
    tail = (1.0 - resampling.confidence) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail], axis=1)
    method = (
        f"hierarchical beta-binomial model, equal-tailed credible interval ({n_posterior} posterior draws)"
    )
    return pd.DataFrame(
        {
            "target": np.repeat(TARGETS, len(ks)),
            "k": list(ks) * len(TARGETS),
            "estimate": draws.mean(axis=1).ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "method": "none" if reason else method,
            "reason": reason,
        }
    )


def _check_ks(ks_K: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the values of k as whole numbers, or say which is none."""
    ks = np.asarray(ks_K, dtype=np.int64)
    if ks.ndim != 1 or len(ks) == 0 or ks.min() < 1:
        raise ValueError(
            f"ks must be a list of whole numbers of at least 1; got {np.asarray(ks_K).tolist()}."
        )
    return ks


def _to_ab(logit_mean: Floats, log_concentration: Floats) -> tuple[Floats, Floats]:
    """Turn log(a / b) and log(a + b) into a and b, both above 0 at any values."""
    concentration = np.exp(log_concentration)
    return np.asarray(concentration * expit(logit_mean)), np.asarray(concentration * expit(-logit_mean))


def _count_exceeding(count_P: npt.NDArray[np.int64], largest: int) -> npt.NDArray[np.int64]:
    """How many problems have more than i, for i = 0 .. largest - 1."""
    return len(count_P) - np.cumsum(np.bincount(count_P, minlength=largest + 1))[:largest]


def _evaluate(
    box: Sequence[tuple[float, float]], exceeding: Sequence[npt.NDArray[np.int64]]
) -> tuple[Floats, Floats, Floats]:
    """Axes of a grid over the box, and the log posterior density in (log(a / b), log(a + b)) on it."""
    logit_mean, log_concentration = (np.linspace(low, high, GRID) for low, high in box)
    a, b = _to_ab(logit_mean[:, np.newaxis], log_concentration[np.newaxis, :])
    # a + b depends on the second axis only; (a + b)^(-5/2) times the Jacobian a b, in logs.
    concentration = np.exp(log_concentration)
    density = log_expit(logit_mean) + log_expit(-logit_mean)
    log_density = density[:, np.newaxis] - log_concentration[np.newaxis, :] / 2.0
    for sign, base, times in ((1, a, exceeding[0]), (1, b, exceeding[1]), (-1, concentration, exceeding[2])):
        for i in np.flatnonzero(times):
            log_density = log_density + sign * times[i] * np.log(base + i)
    return logit_mean, log_concentration, log_density


def _fit_box(
    logit_mean: Floats, log_concentration: Floats, log_density: Floats
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest box around all points of noticeable density, two cells wider on each side, within `WIDEST`."""
    near = log_density > log_density.max() - DEPTH
    sides = []
    for axis, other, limits in ((logit_mean, 1, WIDEST[0]), (log_concentration, 0, WIDEST[1])):
        inside = np.flatnonzero(near.any(axis=other))
        margin = 2.0 * (axis[1] - axis[0])
        sides.append((max(axis[inside[0]] - margin, limits[0]), min(axis[inside[-1]] + margin, limits[1])))
    return (float(sides[0][0]), float(sides[0][1])), (float(sides[1][0]), float(sides[1][1]))
