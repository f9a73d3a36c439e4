r"""Simulate: studies whose truth is known, and how often the book's intervals contain it.

An interval is a promise: of all 95% intervals, 95 in 100 should contain the quantity they are about. On real data
nobody can check, because the quantity is unknown. Here problems, policies and draws are made up, so every
quantity of the book has a true value, and the promise is tested by simulating many studies.

A `World` is two arms on one population of problems. Of a problem, arm i has

- success probability :math:`q_i = F_i^{-1}(\Phi(z_i))`, beta-distributed; the ease :math:`z` of a problem is standard
  normal and has correlation r between the arms (a Gaussian copula), so that pairing matters;
- log-normal lengths, whose median falls by a factor of exp(slope) for every standard deviation of ease, and by a
  log-normal factor of the problem's own;
- an expected distance d between two draws: draw i points to :math:`s_i e + \sqrt{1 - s_i^2}\, e_i` with orthogonal
  unit vectors and random :math:`s_i` of mean :math:`\sqrt{1 - d}`, so that two draws are :math:`1 - s_i s_j` apart.

The true value of an estimand is its value on the whole population (`World.population`, 32,768 problems placed by a
Sobol sequence), since the intervals claim to speak of other problems of the same kind.

Notation: `P` problems, `N` draws of each, k = N the largest k, G = N the group size.

Not handled: problems that are clustered; graders that err; success rates with mass at exactly 0 or 1; lengths that
depend on whether the draw is right, other than through the problem and through the token limit.

References
----------
Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American Statistician 69(4).
Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. Journal of the American
Statistical Association 22(158).
Morris, T. P., White, I. R. and Crowther, M. J. (2019). Using simulation studies to evaluate statistical methods.
Statistics in Medicine 38(11) (bias, coverage and their Monte Carlo error).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtrit

from panelbook.measure.bands import mixed_group_probability
from panelbook.measure.counts import pair_arms
from panelbook.measure.hierarchical import fit_hyperposterior, population_pass_at_k, why_improper
from panelbook.measure.matching import rate_dispersion, rate_moments
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.reliability import g_pass_at_k_matrix, pass_power_k_matrix
from panelbook.measure.signal import expected_signal
from panelbook.measure.uncertainty import (
    ROUNDING,
    Estimate,
    Floats,
    Resampling,
    Statistic,
    binomial_interval,
    estimate,
    estimate_many,
    estimate_median,
)

FIRST, SECOND = "first", "second"

COVERS = (0.93, 0.97)
"""Coverage of a 95% interval that counts as kept: the promise, give or take two in a hundred."""

VERDICTS = ("covers", "short", "too wide", "no interval")

POPULATION_LOG2 = 15  # problems that stand for the population, as a power of 2
EASE_GRID = np.linspace(-6.5, 6.5, 2601)  # where beta quantiles are tabulated; in between along a line
ALIGNMENT = 30.0  # a + b of the beta distribution of s: how alike the draws' own shares are
LOOK_EVERY = 10  # studies from one look at how alike the problems are to the next
MOSTLY_ALIKE = 0.75  # share of problems with one value from which that is named as a reason
N_POSTERIOR = 1000  # posterior draws behind a credible interval


@dataclass(frozen=True)
class Policy:
    """One arm on P problems, with everything about it known.

    Parameters
    ----------
    q_P
        Chance that a finished draw is right, in [0, 1].
    median_tokens_P
        Median length of a draw without a limit; a number or one for each problem.
    sigma
        Standard deviation of the logarithm of the lengths of one problem's draws.
    max_tokens
        Limit: a longer draw is cut there and is wrong.
    distance_P
        Expected cosine distance between two draws, in [0, 1); a number or one for each problem.
    n_wrong_answers
        Different wrong answers of a problem, all equally likely.
    """

    q_P: Floats
    median_tokens_P: Floats | float = 1000.0
    sigma: float = 0.4
    max_tokens: float = np.inf
    distance_P: Floats | float = 0.1
    n_wrong_answers: int = 4

    def __post_init__(self) -> None:
        q = np.asarray(self.q_P, dtype=np.float64)
        if q.ndim != 1 or len(q) == 0 or not np.all((q >= 0) & (q <= 1)):
            raise ValueError(f"q_P needs shape (P,) and probabilities in [0, 1]; got {self.q_P!r}.")
        if not (np.all(np.asarray(self.median_tokens_P) > 0) and self.max_tokens > 0 and self.sigma >= 0):
            raise ValueError(
                "median_tokens_P and max_tokens must be above 0 and sigma 0 or more; got "
                f"{self.median_tokens_P}, {self.max_tokens} and {self.sigma}."
            )
        distance = np.asarray(self.distance_P)
        if not np.all((distance >= 0) & (distance < 1)) or self.n_wrong_answers < 1:
            raise ValueError(
                f"distance_P must lie in [0, 1) and n_wrong_answers be 1 or more; got {self.distance_P} "
                f"and {self.n_wrong_answers}."
            )

    @cached_property
    def _log_room_P(self) -> Floats:
        """Logarithm of the limit over the median, one for each problem; infinite without a limit."""
        median = np.broadcast_to(np.asarray(self.median_tokens_P, dtype=np.float64), np.shape(self.q_P))
        return np.asarray(np.log(self.max_tokens / median))

    @cached_property
    def solve_P(self) -> Floats:
        """Chance that a draw is right: finished, and right if so."""
        finished = _cdf(self._log_room_P, self.sigma)
        return np.asarray(self.q_P * finished)

    @cached_property
    def length_P(self) -> Floats:
        """Expected tokens of a draw: the mean of a log-normal length that is cut at the limit."""
        median = np.broadcast_to(np.asarray(self.median_tokens_P, dtype=np.float64), np.shape(self.q_P))
        free = median * np.exp(self.sigma**2 / 2.0)
        if np.isinf(self.max_tokens):
            return np.asarray(free)
        below = _cdf(self._log_room_P - self.sigma**2, self.sigma)
        return np.asarray(free * below + self.max_tokens * (1.0 - _cdf(self._log_room_P, self.sigma)))

    def pass_at(self, k: int) -> float:
        """Return the true pass@k."""
        return float(np.mean(1.0 - (1.0 - self.solve_P) ** k))


@dataclass(frozen=True)
class Population:
    """How one arm fares on a population of problems.

    Parameters
    ----------
    a, b
        Parameters of the beta distribution of success probabilities, above 0.
    median_tokens
        Median length on a problem of medium ease.
    slope
        By how much the logarithm of the length falls for one standard deviation of ease.
    length_sd
        Standard deviation of the problem's own part of the logarithm of the length.
    sigma
        Standard deviation of the logarithm of the lengths of one problem's draws.
    max_tokens
        Token limit.
    distance, distance_sd
        Median over problems of the expected distance between draws, and the standard deviation of its logarithm.
    """

    a: float
    b: float
    median_tokens: float = 1000.0
    slope: float = 0.2
    length_sd: float = 0.4
    sigma: float = 0.4
    max_tokens: float = np.inf
    distance: float = 0.1
    distance_sd: float = 0.4

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"a beta distribution needs a > 0 and b > 0; got {self.a} and {self.b}.")

    def policy(self, ease_P: Floats, length_P: Floats, distance_P: Floats) -> Policy:
        """Place problems.

        Parameters
        ----------
        ease_P, length_P, distance_P
            Standard normal scores of each problem: ease, own part of its length, own part of its distance.
        """
        log_median = np.log(self.median_tokens) - self.slope * ease_P + self.length_sd * length_P
        return Policy(
            q_P=np.interp(ease_P, EASE_GRID, _rates_of_ease(self.a, self.b)),
            median_tokens_P=np.exp(log_median),
            sigma=self.sigma,
            max_tokens=self.max_tokens,
            distance_P=np.minimum(self.distance * np.exp(self.distance_sd * distance_P), 0.99),
        )


@dataclass(frozen=True)
class World:
    """Two arms on one population of problems.

    Parameters
    ----------
    first, second
        The arms.
    correlation
        Of the ease of a problem under the two arms, in [-1, 1].
    """

    first: Population
    second: Population
    correlation: float = 0.5

    def __post_init__(self) -> None:
        if not -1.0 <= self.correlation <= 1.0:
            raise ValueError(f"correlation must lie in [-1, 1]; got {self.correlation}.")

    def draw(self, n_problems: int, rng: np.random.Generator) -> tuple[Policy, Policy]:
        """Draw problems.

        Parameters
        ----------
        n_problems
            P.
        rng
            Generator.
        """
        return self._place(rng.standard_normal((6, n_problems)))

    @cached_property
    def population(self) -> tuple[Policy, Policy]:
        """Both arms on the problems that stand for the whole population."""
        points = stats.qmc.Sobol(6, scramble=True, rng=0).random_base2(POPULATION_LOG2)
        return self._place(ndtri(points).T)

    def _place(self, scores_6_P: Floats) -> tuple[Policy, Policy]:
        ease = scores_6_P[0]
        other = self.correlation * ease + np.sqrt(1.0 - self.correlation**2) * scores_6_P[1]
        return self.first.policy(ease, *scores_6_P[2:4]), self.second.policy(other, *scores_6_P[4:])


@dataclass(frozen=True)
class Draws:
    """The draws of one arm.

    Parameters
    ----------
    right_P_N
        Whether each draw is right.
    finished_P_N
        Whether each draw ended before the limit.
    tokens_P_N
        Its length, cut at the limit.
    distance_P
        Mean distance over the pairs of draws of each problem; NaN with one draw.
    """

    right_P_N: npt.NDArray[np.bool_]
    finished_P_N: npt.NDArray[np.bool_]
    tokens_P_N: Floats
    distance_P: Floats

    @property
    def n(self) -> int:
        """Draws of each problem."""
        return int(self.right_P_N.shape[1])

    @cached_property
    def n_P(self) -> npt.NDArray[np.int64]:
        """Draws of each problem, one number for each."""
        return np.full(len(self.right_P_N), self.n, dtype=np.int64)

    @cached_property
    def c_P(self) -> npt.NDArray[np.int64]:
        """Right draws of each problem."""
        return np.asarray(self.right_P_N.sum(axis=1), dtype=np.int64)

    @cached_property
    def mean_tokens_P(self) -> Floats:
        """Mean length of each problem's draws."""
        return np.asarray(self.tokens_P_N.mean(axis=1))

    @cached_property
    def pass_P_K(self) -> Floats:
        """Unbiased pass@k of each problem for k = 1 .. N."""
        return pass_at_k_matrix(self.n_P, self.c_P, np.arange(1, self.n + 1))

    def passes(self, *ks: int) -> Floats:
        """Return unbiased pass@k of each problem, shape (P, K)."""
        return self.pass_P_K[:, np.array(ks) - 1]


@dataclass(frozen=True)
class Study:
    """Both arms' draws on the same problems.

    Parameters
    ----------
    first, second
        The draws.
    """

    first: Draws
    second: Draws

    def counts(self) -> pd.DataFrame:
        """Return the counts table: arm, problem_id, source, n, c, mean_tokens, mean_distance."""
        tables = [
            pd.DataFrame(
                {
                    "arm": arm,
                    "problem_id": _problem_ids(len(draws.c_P)),
                    "source": "simulated",
                    "n": draws.n,
                    "c": draws.c_P,
                    "mean_tokens": draws.mean_tokens_P,
                    "mean_distance": draws.distance_P,
                }
            )
            for arm, draws in ((FIRST, self.first), (SECOND, self.second))
        ]
        return pd.concat(tables, ignore_index=True)


def simulate_draws(policy: Policy, n: int, rng: np.random.Generator) -> Draws:
    """Draw n completions of every problem.

    Parameters
    ----------
    policy
        The arm.
    n
        Draws of each problem, at least 1.
    rng
        Generator.

    Raises
    ------
    ValueError
        If n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more; got {n}. Nothing can be said of problems without draws.")
    shape = (len(policy.q_P), n)
    median = np.broadcast_to(np.asarray(policy.median_tokens_P, dtype=np.float64), shape[0])
    tokens = median[:, np.newaxis] * np.exp(policy.sigma * rng.standard_normal(shape))
    finished = tokens <= policy.max_tokens
    right = finished & (rng.random(shape) < np.asarray(policy.q_P)[:, np.newaxis])
    aligned = np.sqrt(1.0 - np.broadcast_to(np.asarray(policy.distance_P), shape[0]))[:, np.newaxis]
    distance = np.full(shape[0], np.nan)
    if n > 1:
        # A draw with no distance at all has s = 1, where the beta distribution ends.
        share = rng.beta(aligned * ALIGNMENT, np.maximum(1.0 - aligned, 1e-12) * ALIGNMENT, size=shape)
        distance = 1.0 - (share.sum(axis=1) ** 2 - (share**2).sum(axis=1)) / (n * (n - 1))
    return Draws(right, finished, np.minimum(tokens, policy.max_tokens), distance)


def simulate_study(
    first: Policy, second: Policy, n_first: int, n_second: int, rng: np.random.Generator
) -> Study:
    """Draw from two arms on the same problems.

    Parameters
    ----------
    first, second
        The arms.
    n_first, n_second
        Draws of each problem.
    rng
        Generator.

    Raises
    ------
    ValueError
        If the arms have different numbers of problems, or a number of draws is below 1.

    Examples
    --------
    >>> always, never = Policy(np.array([1.0, 1.0])), Policy(np.array([0.0, 0.0]))
    >>> simulate_study(always, never, 4, 2, np.random.default_rng(1)).counts()[["arm", "n", "c"]].values.tolist()
    [['first', 4, 4], ['first', 4, 4], ['second', 2, 0], ['second', 2, 0]]
    """
    if len(first.q_P) != len(second.q_P):
        raise ValueError(
            f"both arms need the same problems; the first has {len(first.q_P)}, the second {len(second.q_P)}."
        )
    return Study(simulate_draws(first, n_first, rng), simulate_draws(second, n_second, rng))


def simulate_rollouts(
    first: Policy, second: Policy, n_first: int, n_second: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw from two arms, one row for each draw.

    Parameters
    ----------
    first, second, n_first, n_second, rng
        As for `simulate_study`.

    Returns
    -------
    Columns arm, problem_id, source, sample_id, completion_tokens (whole), max_tokens (missing without a limit), status
    (correct, wrong, or no_answer where the limit cut it) and predicted ("right", "wrong 1" and so on, or missing).

    Raises
    ------
    ValueError
        As `simulate_study` does.
    """
    study = simulate_study(first, second, n_first, n_second, rng)
    tables = []
    for arm, policy, draws in ((FIRST, first, study.first), (SECOND, second, study.second)):
        right, finished = draws.right_P_N.ravel(), draws.finished_P_N.ravel()
        wrong = rng.integers(1, policy.n_wrong_answers + 1, size=len(right)).astype(str).astype(object)
        predicted = np.where(right, "right", "wrong " + wrong).astype(object)
        predicted[~finished] = None
        tables.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "problem_id": np.repeat(_problem_ids(len(draws.c_P)), draws.n),
                    "source": "simulated",
                    "sample_id": np.tile(np.arange(draws.n), len(draws.c_P)),
                    "completion_tokens": np.ceil(draws.tokens_P_N.ravel()).astype(np.int64),
                    "max_tokens": np.nan if np.isinf(policy.max_tokens) else policy.max_tokens,
                    "status": np.where(right, "correct", np.where(finished, "wrong", "no_answer")),
                    "predicted": predicted,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def fit_population(rows: pd.DataFrame, sigma: float = 0.4) -> Population:
    """Fit a population to the moments of one arm's counts.

    Parameters
    ----------
    rows
        Counts of one arm: n (at least 2), c, and where known mean_tokens.
    sigma
        Standard deviation of the logarithm of one problem's lengths, which counts do not hold.

    Returns
    -------
    Beta distribution with the unbiased estimates of the mean and of the variance of the success rates; lengths with
    the mean and variance over problems of the logarithm of mean_tokens and its correlation with the rates of
    success, where there are lengths. Distances are the defaults.

    Raises
    ------
    ValueError
        If a problem has fewer than two draws, or no draw, or every draw, is right.

    Examples
    --------
    >>> counts = pd.DataFrame({"n": 4, "c": [0, 1, 2, 3, 4]})
    >>> population = fit_population(counts)
    >>> round(population.a, 3), round(population.b, 3)  # uniform counts: uniform rates
    (1.0, 1.0)
    """
    mean, square = rate_moments(rows["n"], rows["c"]).mean(axis=0)
    if not 0.0 < mean < 1.0:
        raise ValueError(
            f"a population needs right and wrong draws; of these, a share of {mean:g} is right. "
            "Choose problems nearer to the arm's strength."
        )
    # Problems more alike than draws of one probability would be: as alike as makes no difference.
    dispersion = max(float(rate_dispersion(mean, square)), 1e-3)
    size = 1.0 / dispersion - 1.0
    lengths: dict[str, float] = {}
    if "mean_tokens" in rows.columns and rows["mean_tokens"].notna().all() and len(rows) > 2:
        log_length = np.log(rows["mean_tokens"].to_numpy(dtype=float))
        rate = (rows["c"] / rows["n"]).to_numpy(dtype=float)
        varies = np.ptp(log_length) > 0 and np.ptp(rate) > 0
        r = float(np.corrcoef(log_length, rate)[0, 1]) if varies else 0.0
        sd = float(log_length.std(ddof=1))
        lengths = {
            "median_tokens": float(np.exp(log_length.mean() - sigma**2 / 2.0)),
            "slope": -r * sd,
            "length_sd": sd * float(np.sqrt(1.0 - r**2)),
        }
    return Population(float(mean * size), float((1.0 - mean) * size), sigma=sigma, **lengths)


def fit_world(counts: pd.DataFrame, first: str, second: str, sigma: float = 0.4) -> World:
    """Fit a world to the moments of two arms' counts and to the correlation of their success rates.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, and where known mean_tokens.
    first, second
        The arms.
    sigma
        As for `fit_population`.

    Raises
    ------
    ValueError
        As `fit_population` and `pair_arms` do.
    """
    pair = pair_arms(counts, first, second)
    arms = [fit_population(rows, sigma) for rows in (pair.first, pair.second)]
    rates = [(rows["c"] / rows["n"]).to_numpy(dtype=float) for rows in (pair.first, pair.second)]
    # The draws of the arms are independent, so the covariance of the observed rates is that of the true ones.
    covariance = float(np.cov(rates[0], rates[1])[0, 1]) if len(rates[0]) > 1 else 0.0

    def excess(correlation: float) -> float:
        one, other = World(arms[0], arms[1], correlation).population
        return float(np.cov(one.q_P, other.q_P)[0, 1]) - covariance

    ends = (-0.99, 0.99)
    if excess(ends[0]) >= 0 or excess(ends[1]) <= 0:
        correlation = ends[0] if excess(ends[0]) >= 0 else ends[1]
    else:
        correlation = float(brentq(excess, *ends, xtol=1e-3))
    return World(arms[0], arms[1], correlation)


@dataclass(frozen=True)
class OfMeans:
    """An estimator that is a function of means over problems: the book's bootstrap gives its interval.

    Parameters
    ----------
    columns
        Values of each problem, shape (P, K).
    statistic
        Maps mean vectors of shape (..., K) to values of shape (...).
    support
        Range of a single problem, for a statistic that is linear in the means; see `uncertainty.estimate`.
    """

    columns: Callable[[Study], Floats]
    statistic: Statistic = lambda means: means[..., 0]
    support: tuple[float, float] | None = None


@dataclass(frozen=True)
class Estimator:
    """An estimator to be tried where the truth is known. Add one to `book_estimators` to have it tried too.

    Parameters
    ----------
    name
        Short name, unique.
    title
        What it estimates, for a table.
    truth
        Its true value for two policies.
    method
        Columns and statistic, or a function of a study that returns the estimate with its interval.
    recommended
        Whether the book uses it; the others are there for comparison.
    every
        Tried on every so many-th study only; for those that are slow.
    why
        What is wrong with it, for those that are not recommended.
    """

    name: str
    title: str
    truth: Callable[[Policy, Policy], float]
    method: OfMeans | Callable[[Study, Resampling], Estimate]
    recommended: bool = True
    every: int = 1
    why: str = ""


def book_estimators(k: int) -> list[Estimator]:
    """Return the estimators of the book, for studies of k draws of each problem, and some that it does not use.

    Parameters
    ----------
    k
        Draws of each problem, at least 2: the largest k and the group size.

    Raises
    ------
    ValueError
        If k is below 2.
    """
    if k < 2:
        raise ValueError(f"k must be 2 or more, or nothing can close and no draw differ; got {k}.")
    unit, signed, half = (0.0, 1.0), (-1.0, 1.0), max(k // 2, 2)

    def linear(columns: Callable[[Study], Floats], support: tuple[float, float]) -> OfMeans:
        return OfMeans(columns, support=support)

    def quotient(columns: Callable[[Study], Floats]) -> OfMeans:
        return OfMeans(columns, lambda m: m[..., 0] / m[..., 1])

    return [
        Estimator(
            "pass_1_first",
            "pass@1, first arm",
            lambda f, s: f.pass_at(1),
            linear(lambda x: x.first.passes(1), unit),
        ),
        Estimator(
            "pass_1_second",
            "pass@1, second arm",
            lambda f, s: s.pass_at(1),
            linear(lambda x: x.second.passes(1), unit),
        ),
        Estimator(
            "pass_k_first",
            f"pass@{k}, first arm",
            lambda f, s: f.pass_at(k),
            linear(lambda x: x.first.passes(k), unit),
        ),
        Estimator(
            "pass_k_second",
            f"pass@{k}, second arm",
            lambda f, s: s.pass_at(k),
            linear(lambda x: x.second.passes(k), unit),
        ),
        Estimator(
            "power_k_first",
            f"pass^{k}, first arm",
            lambda f, s: float(np.mean(f.solve_P**k)),
            linear(lambda x: pass_power_k_matrix(x.first.n_P, x.first.c_P, [k]), unit),
        ),
        Estimator(
            "g_pass_first",
            f"G-pass@{k} at half, first arm",
            lambda f, s: float(np.mean(stats.binom.sf(np.ceil(k / 2) - 1, k, f.solve_P))),
            linear(lambda x: g_pass_at_k_matrix(x.first.n_P, x.first.c_P, [k], 0.5), unit),
        ),
        Estimator(
            "gap_1",
            "gap at k = 1",
            lambda f, s: f.pass_at(1) - s.pass_at(1),
            linear(lambda x: x.first.passes(1) - x.second.passes(1), signed),
        ),
        Estimator(
            "gap_k",
            f"gap at k = {k}",
            lambda f, s: f.pass_at(k) - s.pass_at(k),
            linear(lambda x: x.first.passes(k) - x.second.passes(k), signed),
        ),
        Estimator(
            "closure",
            f"closure from 1 to {k}",
            lambda f, s: f.pass_at(k) - s.pass_at(k) - f.pass_at(1) + s.pass_at(1),
            linear(
                lambda x: (x.first.passes(k, 1) - x.second.passes(k, 1)) @ np.array([[1.0], [-1.0]]), signed
            ),
        ),
        Estimator(
            "failure_ratio",
            f"failure ratio at k = {k}",
            lambda f, s: (1 - f.pass_at(k)) / (1 - s.pass_at(k)),
            quotient(lambda x: 1.0 - np.hstack([x.first.passes(k), x.second.passes(k)])),
        ),
        Estimator(
            "failure_ratio_change",
            f"failure ratio, {k} over 1",
            lambda f, s: (1 - f.pass_at(k)) / (1 - s.pass_at(k)) * (1 - s.pass_at(1)) / (1 - f.pass_at(1)),
            OfMeans(
                lambda x: 1.0 - np.hstack([x.first.passes(1, k), x.second.passes(1, k)]),
                lambda m: (m[..., 1] / m[..., 3]) / (m[..., 0] / m[..., 2]),
            ),
        ),
        Estimator(
            "length_ratio",
            "ratio of mean lengths",
            lambda f, s: float(s.length_P.mean() / f.length_P.mean()),
            quotient(lambda x: np.column_stack([x.second.mean_tokens_P, x.first.mean_tokens_P])),
        ),
        Estimator(
            "length_geometric",
            "geometric mean ratio of lengths",
            lambda f, s: float(np.exp(np.mean(np.log(s.length_P / f.length_P)))),
            OfMeans(
                lambda x: np.log(x.second.mean_tokens_P / x.first.mean_tokens_P)[:, np.newaxis],
                lambda m: np.exp(m[..., 0]),
            ),
        ),
        Estimator(
            "length_median",
            "median ratio of lengths",
            lambda f, s: float(np.median(s.length_P / f.length_P)),
            lambda x, r: estimate_median(x.second.mean_tokens_P / x.first.mean_tokens_P, r, None),
        ),
        Estimator(
            "cost_first",
            "tokens per right answer, first arm",
            lambda f, s: _cost(f),
            quotient(lambda x: _spent_and_right(x.first)),
        ),
        Estimator(
            "cost_ratio",
            "ratio of tokens per right answer",
            lambda f, s: _cost(s) / _cost(f),
            OfMeans(
                lambda x: np.hstack([_spent_and_right(x.first), _spent_and_right(x.second)]),
                lambda m: (m[..., 2] / m[..., 3]) / (m[..., 0] / m[..., 1]),
            ),
        ),
        Estimator(
            "band_first",
            f"variance band of {k}, first arm",
            lambda f, s: _mixed(f, k),
            linear(lambda x: _band(x.first), unit),
        ),
        Estimator(
            "band_difference",
            f"difference of bands of {k}",
            lambda f, s: _mixed(f, k) - _mixed(s, k),
            linear(lambda x: _band(x.first) - _band(x.second), signed),
        ),
        Estimator(
            "band_ratio",
            f"ratio of bands of {k}",
            lambda f, s: _mixed(f, k) / _mixed(s, k),
            quotient(lambda x: np.hstack([_band(x.first), _band(x.second)])),
        ),
        Estimator(
            "mixed_first",
            f"mixed groups of {half}, first arm",
            lambda f, s: _mixed(f, half),
            linear(lambda x: mixed_group_probability(x.first.n_P, x.first.c_P, half)[:, np.newaxis], unit),
        ),
        Estimator(
            "signal_first",
            "signal, first arm",
            lambda f, s: _signal(f, k),
            OfMeans(lambda x: expected_signal(x.first.n_P, x.first.c_P, k)[:, np.newaxis]),
        ),
        Estimator(
            "signal_ratio",
            "ratio of signals",
            lambda f, s: _signal(f, k) / _signal(s, k),
            quotient(
                lambda x: np.column_stack([expected_signal(d.n_P, d.c_P, k) for d in (x.first, x.second)])
            ),
        ),
        Estimator(
            "spread_excess",
            "relative difference of spread",
            lambda f, s: float(np.mean(f.distance_P) / np.mean(s.distance_P)) - 1.0,
            OfMeans(
                lambda x: np.column_stack([x.first.distance_P, x.second.distance_P]),
                lambda m: m[..., 0] / m[..., 1] - 1.0,
            ),
        ),
        Estimator(
            "equal_tokens_whole",
            "gap at equal tokens, whole draws",
            lambda f, s: f.pass_at(_affordable(f.length_P, s.length_P, k)) - s.pass_at(1),
            linear(
                lambda x: (
                    x.first.passes(_affordable(x.first.mean_tokens_P, x.second.mean_tokens_P, k))
                    - x.second.passes(1)
                ),
                signed,
            ),
        ),
        Estimator(
            "equal_tokens",
            "gap at equal tokens",
            lambda f, s: float(
                _gap_at_budget(
                    np.array(
                        [
                            f.length_P.mean(),
                            s.length_P.mean(),
                            s.pass_at(1),
                            *(f.pass_at(j) for j in range(1, k + 1)),
                        ]
                    )
                )
            ),
            OfMeans(
                lambda x: np.column_stack(
                    [x.first.mean_tokens_P, x.second.mean_tokens_P, x.second.passes(1), x.first.pass_P_K]
                ),
                _gap_at_budget,
            ),
        ),
        Estimator(
            "bayes_pass_k",
            f"pass@{k}, first arm, credible interval",
            lambda f, s: f.pass_at(k),
            lambda x, r: _credible(x.first, k, r),
            every=4,
        ),
        Estimator(
            "pooled_wilson",
            "pass@1, Wilson interval of pooled draws",
            lambda f, s: f.pass_at(1),
            lambda x, r: pooled_wilson(int(x.first.c_P.sum()), int(x.first.n_P.sum()), r.confidence),
            recommended=False,
            why="it counts draws of one problem as independent",
        ),
        Estimator(
            "plug_in_k",
            f"pass@{k}, plugging in c / n",
            lambda f, s: f.pass_at(k),
            linear(lambda x: 1.0 - (1.0 - x.first.passes(1)) ** k, unit),
            recommended=False,
            why="it is biased: the power of a mean is not the mean of the power",
        ),
        Estimator(
            "unpaired_gap",
            "gap at k = 1, arms taken as unrelated",
            lambda f, s: f.pass_at(1) - s.pass_at(1),
            _unpaired_gap,
            recommended=False,
            why="it forgets that both arms saw the same problems",
        ),
    ]


def pooled_wilson(c: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson interval of a share of pooled draws, too short for draws of few problems.

    Parameters
    ----------
    c, n
        Right draws and draws, over all problems.
    confidence
        Nominal coverage.

    Notes
    -----
    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with p = c / n.

    Examples
    --------
    >>> interval = pooled_wilson(5, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.237, 0.763)
    """
    if n < 1 or not 0 <= c <= n:
        raise ValueError(f"a share needs 0 <= c <= n and n >= 1; got c={c}, n={n}. Check the counts.")
    z = float(ndtri(0.5 + confidence / 2.0))
    p, shrink = c / n, 1.0 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / shrink
    return Estimate(p, float(middle - half), float(middle + half), None, n, "Wilson interval of pooled draws")


def estimate_all(
    study: Study, estimators: Sequence[Estimator], resampling: Resampling
) -> dict[str, Estimate]:
    """Return every estimate of one study; estimators of means share their resamples.

    Parameters
    ----------
    study
        The study.
    estimators
        What to estimate.
    resampling
        Seed, number of resamples and confidence.
    """
    found = {e.name: e.method(study, resampling) for e in estimators if not isinstance(e.method, OfMeans)}
    of_means = [(e.name, e.method) for e in estimators if isinstance(e.method, OfMeans)]
    if not of_means:
        return found
    blocks = [method.columns(study) for _, method in of_means]
    ends = np.cumsum([block.shape[1] for block in blocks]).tolist()

    def statistics(means: Floats) -> Floats:
        parts = zip(of_means, blocks, ends, strict=True)
        values = [
            method.statistic(means[..., end - block.shape[1] : end]) for (_, method), block, end in parts
        ]
        return np.stack(values, axis=-1)

    outputs = estimate_many(np.hstack(blocks), statistics, resampling, None)
    for m, (name, method) in enumerate(of_means):
        found[name] = outputs[m]
        if method.support and np.ptp(method.statistic(blocks[m])) <= ROUNDING:
            # All problems agree: the exact bound needs the range of this output alone.
            found[name] = estimate(blocks[m], method.statistic, resampling, None, support=method.support)
    return found


def check_coverage(
    world: World,
    sizes: Sequence[int],
    n_draws: int,
    estimators: Sequence[Estimator],
    n_simulations: int,
    resampling: Resampling,
) -> pd.DataFrame:
    """How often the intervals of each estimator contain the truth, and how far the estimates lie from it on average.

    Parameters
    ----------
    world
        Where the truth is known.
    sizes
        Numbers of problems P.
    n_draws
        Draws of each problem, for both arms.
    estimators
        What to try.
    n_simulations
        Studies simulated for each size, at least 2.
    resampling
        Seed of the simulation, number of resamples in each study and confidence.

    Returns
    -------
    One row for each estimator and size: estimator, title, recommended, n_problems, truth, n_studies (with an interval),
    n_without (without one), bias with bias_se (Monte Carlo standard error), coverage with low and high (exact binomial
    interval for the limited number of studies), too_low and too_high (intervals that lie wholly below or above the
    truth), width (mean), alike (share of problems with
    the most frequent value), verdict (one of `VERDICTS`) and reason.

    Raises
    ------
    ValueError
        If there are fewer than two simulations or a size below 2.
    """
    if n_simulations < 2 or min(sizes) < 2:
        raise ValueError(
            f"n_simulations and every size must be 2 or more; got {n_simulations} and {list(sizes)}."
        )
    truths = {e.name: float(e.truth(*world.population)) for e in estimators}
    rng = resampling.generator()
    tables = []
    for size in sizes:
        seen: dict[str, list[Estimate]] = {e.name: [] for e in estimators}
        alike: dict[str, list[float]] = {e.name: [] for e in estimators}
        for i in range(n_simulations):
            study = simulate_study(*world.draw(size, rng), n_draws, n_draws, rng)
            own = Resampling(int(rng.integers(2**31)), resampling.n_resamples, resampling.confidence)
            for name, result in estimate_all(study, [e for e in estimators if i % e.every == 0], own).items():
                seen[name].append(result)
            if i % LOOK_EVERY == 0:
                for e in estimators:
                    alike[e.name].append(_share_alike(e, study))
        tables += [_summarise(e, size, truths[e.name], seen[e.name], alike[e.name]) for e in estimators]
    table = pd.DataFrame(tables)
    table["reason"] = [_explain(row, table, estimators) for _, row in table.iterrows()]
    return table


def summarise_coverage(table: pd.DataFrame, nominal: float = 0.95) -> pd.DataFrame:
    """Sum up each estimator over the numbers of problems.

    Parameters
    ----------
    table
        As `check_coverage` returns it.
    nominal
        Promised coverage.

    Returns
    -------
    One row for each estimator: title, recommended, kept_from (fewest problems from which on the promise is kept, or
    missed by no more than the noise of the simulation; 0 where it is not kept at the most problems tried), worst (the
    coverage farthest from the promise) with low and high, at (its number of problems), verdict and reason there.
    """
    rows = []
    for _, mine in table.groupby("estimator", sort=False):
        by_size = mine.sort_values("n_problems", ascending=False)
        kept = (by_size["verdict"] == "covers") | ((by_size["low"] <= nominal) & (by_size["high"] >= nominal))
        n_kept = int(kept.cumprod().sum())
        known = by_size[by_size["coverage"].notna()]
        known = known if len(known) else by_size
        worst = known.iloc[int((known["coverage"] - nominal).abs().fillna(0.0).argmax())]
        rows.append(
            {
                "title": worst["title"],
                "recommended": worst["recommended"],
                "kept_from": int(by_size["n_problems"].iloc[n_kept - 1]) if n_kept else 0,
                "worst": worst["coverage"],
                "low": worst["low"],
                "high": worst["high"],
                "at": worst["n_problems"],
                "verdict": worst["verdict"],
                "reason": worst["reason"],
            }
        )
    return pd.DataFrame(rows)


def _share_alike(estimator: Estimator, study: Study) -> float:
    """Share of problems that have the most frequent value; 0 where problems have no value of their own."""
    if not isinstance(estimator.method, OfMeans) or estimator.method.support is None:
        return 0.0
    values = estimator.method.statistic(estimator.method.columns(study))
    return float(np.unique(values.round(9), return_counts=True)[1].max() / len(values))


def _summarise(
    estimator: Estimator, size: int, truth: float, results: list[Estimate], alike: list[float]
) -> dict[str, object]:
    """One row of `check_coverage`, without the reason."""
    with_interval = [r for r in results if r.low is not None and r.high is not None]
    ends = np.array([(r.low, r.high) for r in with_interval], dtype=float).reshape(-1, 2)
    values = np.array([r.value for r in results], dtype=float)
    values = values[np.isfinite(values)]
    n = len(ends)
    too_low, too_high = int((ends[:, 1] < truth).sum()), int((ends[:, 0] > truth).sum())
    # Where most studies give no interval, those that do are no sample of what a reader would meet.
    defined = n > 0 and 2 * n >= len(results) and np.isfinite(truth)
    coverage = 1.0 - (too_low + too_high) / n if defined else np.nan
    low, high = binomial_interval(n - too_low - too_high, n) if defined else (np.nan, np.nan)
    below, above = COVERS
    verdict = VERDICTS[3 if not defined else 1 if coverage < below else 2 if coverage > above else 0]
    return {
        "estimator": estimator.name,
        "title": estimator.title,
        "recommended": estimator.recommended,
        "n_problems": size,
        "truth": truth,
        "n_studies": n,
        "n_without": len(results) - n,
        "bias": float(values.mean() - truth) if len(values) else np.nan,
        "bias_se": float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan,
        "coverage": coverage,
        "low": low,
        "high": high,
        "too_low": too_low,
        "too_high": too_high,
        "width": float(np.mean(ends[:, 1] - ends[:, 0])) if n else np.nan,
        "alike": float(np.mean(alike)),
        "verdict": verdict,
    }


def _explain(row: pd.Series, table: pd.DataFrame, estimators: Sequence[Estimator]) -> str:
    """Name what may be behind a coverage that is not what it should be."""
    if row["verdict"] == "covers":
        return ""
    known = next(e.why for e in estimators if e.name == row["estimator"])
    if known:
        return known
    if row["verdict"] == "no interval":
        return "most studies give no interval: a resample can leave nothing to divide by"
    parts = []
    if row["low"] <= np.mean(COVERS) <= row["high"]:
        parts.append("within the noise of the simulation")
    same = table[(table["estimator"] == row["estimator"]) & (table["n_problems"] > row["n_problems"])]
    if len(same) and (same["verdict"] == "covers").all():
        parts.append("few problems: it is kept by larger studies")
    if row["alike"] > MOSTLY_ALIKE:
        parts.append("most problems have one and the same value, so few carry the spread")
    missed = row["too_low"] + row["too_high"]
    if missed and stats.binomtest(int(row["too_low"]), int(missed)).pvalue < 0.01:
        side = "below" if row["too_low"] > row["too_high"] else "above"
        parts.append(f"skewed: the misses lie {side} the truth")
    if row["n_without"] > 0.02 * (row["n_studies"] + row["n_without"]):
        parts.append("studies without an interval are left out")
    return "; ".join(parts) or "not known"


def _problem_ids(n: int) -> npt.NDArray[np.str_]:
    """Ids that sort in the order of the problems."""
    return np.array([f"problem-{i:06d}" for i in range(n)])


def _cdf(log_room_P: Floats, sigma: float) -> Floats:
    """Chance that a log-normal length stays below the limit; sigma may be 0."""
    if sigma == 0:
        return np.asarray(log_room_P >= 0, dtype=np.float64)
    return np.asarray(ndtr(log_room_P / sigma))


@lru_cache(maxsize=16)
def _rates_of_ease(a: float, b: float) -> Floats:
    """Success probability at each point of `EASE_GRID`."""
    return np.asarray(stats.beta.ppf(ndtr(EASE_GRID), a, b))


def _spent_and_right(draws: Draws) -> Floats:
    """Tokens of all draws and right draws of each problem."""
    return np.column_stack([draws.n * draws.mean_tokens_P, draws.c_P])


def _cost(policy: Policy) -> float:
    """Tokens per right answer: a ratio of expectations."""
    return float(policy.length_P.mean() / policy.solve_P.mean())


def _mixed(policy: Policy, group_size: int) -> float:
    """Share of groups with both outcomes."""
    q = policy.solve_P
    return float(np.mean(1.0 - q**group_size - (1.0 - q) ** group_size))


def _band(draws: Draws) -> Floats:
    """Whether each problem has right and wrong draws."""
    return ((draws.c_P > 0) & (draws.c_P < draws.n))[:, np.newaxis].astype(np.float64)


def _signal(policy: Policy, group_size: int) -> float:
    """Mean squared advantage."""
    q = policy.solve_P
    return float(np.mean(q * (1.0 - q))) * (group_size - 1) / group_size


def _affordable(length_first_P: Floats, length_second_P: Floats, k: int) -> int:
    """Whole draws of the first arm, 1 to k, that one draw of the second pays for: `tokens.compare_at_equal_tokens`."""
    return int(np.clip(length_second_P.mean() // length_first_P.mean(), 1, k))


def _gap_at_budget(means: Floats) -> Floats:
    """Gap at what one draw of the second arm costs, from means of both lengths, its pass@1 and the first's curve.

    As `budget.compare_count_budgets`: a budget between whole draws gives some problems one draw more than others, one
    below a single draw buys nothing, and one beyond the draws buys what they all did.
    """
    first, second, one, curve = means[..., 0], means[..., 1], means[..., 2], means[..., 3:]
    draws = np.minimum(np.nan_to_num(second / first), curve.shape[-1])
    whole = np.floor(draws).astype(np.int64)
    padded = np.concatenate([np.zeros((*curve.shape[:-1], 1)), curve, curve[..., -1:]], axis=-1)
    at, following = (
        np.take_along_axis(padded, (whole + i)[..., np.newaxis], axis=-1)[..., 0] for i in (0, 1)
    )
    return np.asarray(np.where(whole < 1, 0.0, at + (draws - whole) * (following - at)) - one)


def _credible(draws: Draws, k: int, resampling: Resampling) -> Estimate:
    """Posterior mean and credible interval of pass@k on the population, as `hierarchical.bayes_pass_at_k`."""
    reason = why_improper(draws.n_P, draws.c_P)
    if reason:
        return Estimate(np.nan, None, None, None, None, "none", reason)
    a, b = fit_hyperposterior(draws.n_P, draws.c_P).draw(N_POSTERIOR, resampling.generator())
    sample = population_pass_at_k(a, b, [k])[:, 0]
    tail = (1.0 - resampling.confidence) / 2.0
    low, high = np.quantile(sample, [tail, 1.0 - tail])
    return Estimate(float(sample.mean()), float(low), float(high), None, None, "credible interval")


def _unpaired_gap(study: Study, resampling: Resampling) -> Estimate:
    """Welch's interval of the gap at k = 1, as if the arms had seen unrelated problems."""
    one, other = study.first.passes(1)[:, 0], study.second.passes(1)[:, 0]
    value, size = float(one.mean() - other.mean()), len(one)
    variances = np.array([one.var(ddof=1), other.var(ddof=1)]) / size
    if variances.sum() == 0:
        return Estimate(value, None, None, None, None, "none", "the problems agree")
    df = variances.sum() ** 2 / (variances**2 / (size - 1)).sum()
    half = float(stdtrit(df, 0.5 + resampling.confidence / 2.0) * np.sqrt(variances.sum()))
    return Estimate(value, value - half, value + half, None, None, "Welch's t interval")
