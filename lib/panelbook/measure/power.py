r"""Power: what a design can see, and how many problems and draws it would take.

A comparison of two arms averages one value for each problem: a difference of pass rates, a closure, a difference of
band membership, the influence of a problem on a log ratio. With P problems its variance is

.. math:: \mathrm{Var} = \frac{1}{P} \Big( V_\text{between} + V_\text{within} \Big), \qquad
   V_\text{within} = \frac{E[q_1 (1 - q_1)]}{n_1} + \frac{E[q_2 (1 - q_2)]}{n_2} \ \text{for pass@1},

where V_between is the variance over problems of the true difference and V_within what the draws add. More draws
shrink the second term only; if the first alone is too large, no number of draws makes up for too few problems.

Power is that of a two-sided t-test with P - 1 degrees of freedom (noncentral t), which agrees with the intervals of
the book where the mean over problems is about normal (`simulate_power` checks that on the design's own values). The
*detectable effect* is the one that the test sees with the wanted chance.

V_within of pass@k, closure and bands comes from the binomial distribution of the counts, averaged over a beta
distribution of success rates with the moments of the data; for pass@1 this is the unbiased estimate above. V_between is
the rest of the observed variance.

Notation: `P` problems, n draws of each; q success probability of a problem; effects on ratios are logarithms.

Not handled: unequal numbers of draws (the mean counts); uncertainty of the variances themselves, which twenty problems
pin down to about a third; several comparisons at once; effects that would change the variance.

References
----------
Cohen, J. (1988). Statistical power analysis for the behavioral sciences, 2nd edition. Erlbaum.
Miller, E. (2024). Adding error bars to evals: a statistical approach to language model evaluations. arXiv:2411.00640
(variance of paired differences, and what more draws can save).
Gelman, A. and Carlin, J. (2014). Beyond power calculations: assessing type S (sign) and type M (magnitude) errors.
Perspectives on Psychological Science 9(6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr, roots_legendre, roots_sh_jacobi

from panelbook.measure.bands import mixed_group_probability
from panelbook.measure.counts import ArmPair, pair_arms, require_columns
from panelbook.measure.matching import rate_dispersion, rate_moments
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Estimate, Floats, Resampling, binomial_interval

ALPHA = 0.05
"""Two-sided level of every test."""

MAX_DRAWS = 4096  # beyond it, nobody draws
MAX_PROBLEMS = 10**7
N_NODES = (
    64  # Gauss-Jacobi nodes: exact for scores of up to 63 draws, whose variance is a polynomial of degree 2n
)
DISPERSIONS = (
    1e-3,
    0.999,
)  # of success rates: below, rates are taken as equal; above, the nodes run into 0 and 1

IMPOSSIBLE = "impossible: the variance between problems alone is too large"
UNKNOWN = "not known: single draws are not tracked"

Score = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Floats]
"""Value of a problem with c of n right draws, from arrays n and c."""


@dataclass(frozen=True)
class Design:
    """What decides the power of a comparison.

    Parameters
    ----------
    effect
        The effect: a difference, or the logarithm of a ratio.
    n_problems
        P.
    n_draws
        Draws of each problem: of the first and of the second arm.
    variance
        Variance over problems of the value of a problem, draws included.
    within
        Variance that n draws of both arms add to it, as a function of n; None where draws are not known one by one.
    within_now
        The same with the draws that there are; NaN where not known.
    least_draws
        Smallest n for which the value of a problem is defined.
    values_P
        Values of the problems, or any sample of their distribution; empty for a design made up from rates.
    """

    effect: float
    n_problems: int
    n_draws: tuple[int, int]
    variance: float
    within: Callable[[int], float] | None = None
    within_now: float = np.nan
    least_draws: int = 1
    values_P: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def sd(self) -> float:
        """Standard deviation over problems, draws included."""
        return float(np.sqrt(self.variance))

    @property
    def between(self) -> float:
        """Variance over problems of the true value; NaN where not known."""
        return float(np.maximum(self.variance - self.within_now, 0.0))

    def sd_at(self, n: int) -> float:
        """Return the standard deviation over problems with n draws of both arms."""
        if self.within is None:
            raise ValueError("what the draws add to the variance of this design is not known.")
        return float(np.sqrt(self.between + self.within(n)))


def power_of(effect: float, sd: float, n_problems: int, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t-test over problems sees an effect.

    Parameters
    ----------
    effect
        True mean over problems.
    sd
        Standard deviation over problems, above 0.
    n_problems
        P, at least 2.
    alpha
        Level.

    Raises
    ------
    ValueError
        If there are fewer than two problems, or sd is not above 0.

    Notes
    -----
    P(|T| > t) for T noncentral t with P - 1 degrees of freedom and noncentrality d = effect sqrt(P) / sd: the mean of
    Phi(d - t s) + Phi(-d - t s) over the estimated s, whose square is chi-squared over its degrees of freedom. It is
    integrated over s, because the closed form loses its digits where the effect is large.

    Examples
    --------
    >>> round(power_of(0.0, 1.0, 20), 4)  # nothing to see: the level of the test
    0.05
    >>> round(power_of(0.5, 1.0, 34), 2)  # Cohen's medium effect
    0.81
    """
    if n_problems < 2 or not sd > 0:
        raise ValueError(f"power needs two problems and a spread above 0; got P={n_problems}, sd={sd}.")
    df = n_problems - 1
    shift = abs(effect) / sd * np.sqrt(n_problems)
    spread, weight = _estimated_spread(df)
    critical = stats.t.isf(alpha / 2.0, df) * spread
    return float(weight @ (ndtr(shift - critical) + ndtr(-shift - critical)))


def detectable_effect(sd: float, n_problems: int, power: float = 0.8, alpha: float = ALPHA) -> float:
    """Smallest effect that is seen with the wanted chance.

    Parameters
    ----------
    sd
        Standard deviation over problems, above 0.
    n_problems
        P, at least 2.
    power
        Wanted chance, above alpha and below 1.
    alpha
        Level.

    Raises
    ------
    ValueError
        As `power_of` does, or if the wanted chance is out of range.

    Examples
    --------
    >>> round(detectable_effect(1.0, 10_000), 4)  # (1.96 + 0.84) / 100
    0.028
    """
    _check_power(power, alpha)
    power_of(0.0, sd, n_problems, alpha)  # checks both
    unit = brentq(lambda x: power_of(x, 1.0, n_problems, alpha) - power, 0.0, 1e4)
    return float(unit * sd)


def problems_needed(effect: float, sd: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """Fewest problems with which an effect is seen with the wanted chance.

    Parameters
    ----------
    effect
        True mean over problems.
    sd
        Standard deviation over problems, above 0.
    power
        Wanted chance, above alpha and below 1.
    alpha
        Level.

    Returns
    -------
    The number; None where it is beyond ten million.

    Raises
    ------
    ValueError
        As `detectable_effect` does.

    Examples
    --------
    >>> problems_needed(0.5, 1.0)
    34
    """
    _check_power(power, alpha)
    return _search(lambda p: power_of(effect, sd, p, alpha) >= power, 2, MAX_PROBLEMS)


def draws_needed(design: Design, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """Fewest draws of each problem with which the design sees its effect with the wanted chance.

    Parameters
    ----------
    design
        The design, whose number of problems is kept.
    power
        Wanted chance, above alpha and below 1.
    alpha
        Level.

    Returns
    -------
    The number; None where the variance between problems alone is too large for any number of draws (up to 4,096).

    Raises
    ------
    ValueError
        If the part of the draws is not known, or as `detectable_effect` does.
    """
    _check_power(power, alpha)

    def suffices(n: int) -> bool:
        sd = design.sd_at(n)
        return sd == 0 or power_of(design.effect, sd, design.n_problems, alpha) >= power

    floor = float(np.sqrt(design.between))
    if floor > 0 and power_of(design.effect, floor, design.n_problems, alpha) < power:
        return None
    return _search(suffices, design.least_draws, MAX_DRAWS)


@dataclass(frozen=True)
class Assessment:
    """What a design can see.

    Parameters
    ----------
    power
        Chance that it sees its own effect.
    detectable
        Smallest effect that it sees with the wanted chance.
    problems
        Problems needed for its own effect with its draws; None beyond ten million.
    draws
        Draws needed with its problems; None where no number will do or it is not known.
    draws_note
        Which of the two; empty where there is a number.
    """

    power: float
    detectable: float
    problems: int | None
    draws: int | None
    draws_note: str = ""


def assess(design: Design, power: float = 0.8, alpha: float = ALPHA) -> Assessment:
    """Answer what a design can see, and what it would take.

    Parameters
    ----------
    design
        The design.
    power
        Wanted chance, above alpha and below 1.
    alpha
        Level.

    Raises
    ------
    ValueError
        If the wanted chance is out of range.
    """
    draws = draws_needed(design, power, alpha) if design.within else None
    return Assessment(
        power=power_of(design.effect, design.sd, design.n_problems, alpha),
        detectable=detectable_effect(design.sd, design.n_problems, power, alpha),
        problems=problems_needed(design.effect, design.sd, power, alpha),
        draws=draws,
        draws_note="" if draws is not None else UNKNOWN if design.within is None else IMPOSSIBLE,
    )


def plan_from_rates(
    effect: float,
    pass_first: float,
    pass_second: float,
    n_problems: int,
    n_draws: int,
    correlation: float = 0.5,
    sd_problems: float | None = None,
) -> Design:
    """Design of a comparison of two arms' pass@1 that has not been made yet.

    Parameters
    ----------
    effect
        Difference to be seen.
    pass_first, pass_second
        Expected share of right draws of each arm, between 0 and 1.
    n_problems, n_draws
        Problems, and draws of each for both arms.
    correlation
        Of the arms' success rates over problems, in [-1, 1].
    sd_problems
        Standard deviation over problems of an arm's success rate, the same for both. None takes 0.7 of the most that
        it can be, sqrt(m (1 - m)): about what the published benchmarks show.

    Raises
    ------
    ValueError
        If a value is out of range, naming it.

    Notes
    -----
    V_between = s1^2 + s2^2 - 2 r s1 s2; V_within = sum of (m (1 - m) - s^2) / n, since E[q (1 - q)] = m - m^2 - s^2.

    Examples
    --------
    >>> design = plan_from_rates(0.05, 0.5, 0.5, 100, 4, correlation=1.0, sd_problems=0.3)
    >>> round(design.between, 12), round(design.within_now, 12)  # 0 and 2 * (0.25 - 0.09) / 4
    (0.0, 0.08)
    """
    if n_problems < 2 or n_draws < 1:
        raise ValueError(
            f"a plan needs at least 2 problems and 1 draw of each; got {n_problems} and {n_draws}."
        )
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation must lie between -1 and 1; got {correlation}. Try 0.5.")
    sds = []
    for name, mean in (("pass_first", pass_first), ("pass_second", pass_second)):
        if not 0 < mean < 1:
            raise ValueError(f"{name} must lie between 0 and 1, both excluded; got {mean}. Give a fraction.")
        most = float(np.sqrt(mean * (1 - mean)))
        sd = 0.7 * most if sd_problems is None else sd_problems
        if not 0 <= sd <= most:
            raise ValueError(
                f"sd_problems must lie between 0 and {most:.3f}, the most that rates with {name} = {mean} can "
                f"spread; got {sd}."
            )
        sds.append(sd)
    if effect == 0 or not -1 <= effect <= 1:
        raise ValueError(
            f"effect must be a difference other than 0, from -1 to 1; got {effect}. Say which difference is to be seen."
        )
    noise = sum(m * (1 - m) - s**2 for m, s in zip((pass_first, pass_second), sds, strict=True))
    # Rounding can leave a variance of two equal arms a hair below zero.
    between = max(sds[0] ** 2 + sds[1] ** 2 - 2 * correlation * sds[0] * sds[1], 0.0)
    return Design(
        effect=effect,
        n_problems=n_problems,
        n_draws=(n_draws, n_draws),
        variance=between + noise / n_draws,
        within=lambda n: noise / n,
        within_now=noise / n_draws,
    )


def design_of_counts(
    counts: pd.DataFrame, first: str, second: str, score: Score, least_draws: int = 1
) -> Design:
    """Design of a paired comparison of any score of the counts, first minus second.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n (at least 2 for both arms), c.
    first, second
        The arms.
    score
        Value of a problem from its draws and right draws, such as an unbiased pass@k.
    least_draws
        Smallest n for which the score is defined.

    Raises
    ------
    ValueError
        If there are fewer than two problems, a problem has one draw, or as `pair_arms` and the score do.
    """
    pair = pair_arms(counts, first, second)
    sides = [(rows["n"].to_numpy(), rows["c"].to_numpy()) for rows in (pair.first, pair.second)]
    values = score(*sides[0]) - score(*sides[1])
    rates = [_rates(n, c) for n, c in sides]

    def within(numbers: Sequence[int]) -> float:
        return sum(_draw_variance(score, q, n) for q, n in zip(rates, numbers, strict=True))

    n_draws = (round(sides[0][0].mean()), round(sides[1][0].mean()))
    now = within([max(n, least_draws) for n in n_draws])
    return replace(
        _design(values, pair),
        within=lambda n: within([n, n]),
        within_now=min(now, float(values.var(ddof=1))),
        least_draws=least_draws,
    )


def design_gap(counts: pd.DataFrame, first: str, second: str, k: int) -> Design:
    """Design of a gap at k: pass@k of the first arm minus that of the second.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        The arms.
    k
        Number of draws, at most the smallest n.

    Raises
    ------
    ValueError
        As `design_of_counts` does, or if k exceeds the draws of a problem.

    Examples
    --------
    >>> arms = ["a"] * 3 + ["b"] * 3
    >>> counts = pd.DataFrame({"arm": arms, "problem_id": [1, 2, 3] * 2, "n": 4, "c": [1, 2, 3, 2, 2, 4]})
    >>> round(design_gap(counts, "a", "b", 1).effect, 3)
    -0.167
    """
    return design_of_counts(counts, first, second, lambda n, c: pass_at_k_matrix(n, c, [k])[:, 0], k)


def design_closure(counts: pd.DataFrame, first: str, second: str, k_from: int, k_to: int) -> Design:
    """Design of a closure: the change of the gap from one k to another.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        The arms.
    k_from, k_to
        The two values of k.

    Raises
    ------
    ValueError
        As `design_gap` does.
    """

    def score(n: npt.NDArray[np.int64], c: npt.NDArray[np.int64]) -> Floats:
        at = pass_at_k_matrix(n, c, [k_from, k_to])
        return np.asarray(at[:, 1] - at[:, 0])

    return design_of_counts(counts, first, second, score, max(k_from, k_to))


def design_band(counts: pd.DataFrame, first: str, second: str, group_size: int) -> Design:
    """Design of a difference of the two arms' shares of mixed groups of G draws.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        The arms.
    group_size
        G, at most the smallest n; at G = n the share is that of the variance band.

    Raises
    ------
    ValueError
        As `design_of_counts` does, or if G exceeds the draws of a problem.
    """
    return design_of_counts(
        counts, first, second, lambda n, c: mixed_group_probability(n, c, group_size), group_size
    )


def design_ratio(counts: pd.DataFrame, first: str, second: str, column: str) -> Design:
    """Design of the logarithm of a ratio of two arms' means of a column, second over first.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c and the column, positive on average.
    first, second
        The arms.
    column
        Such as mean_tokens or mean_distance.

    Raises
    ------
    ValueError
        If the column is missing, a mean is not above 0, there are fewer than two problems, or as `pair_arms` does.

    Notes
    -----
    Delta method: the influence of problem p on log(m2 / m1) is x2 / m2 - x1 / m1, and the variance of the log ratio is
    that of the influences over P.
    """
    pair = pair_arms(counts, first, second, (column,))
    columns = [rows[column].to_numpy(dtype=float) for rows in (pair.first, pair.second)]
    return _ratio(pair, [(columns[1], 1), (columns[0], -1)])


def design_cost_ratio(counts: pd.DataFrame, first: str, second: str) -> Design:
    """Design of the logarithm of a ratio of tokens per right draw, second over first.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second
        The arms.

    Raises
    ------
    ValueError
        As `design_ratio` does.
    """
    pair = pair_arms(counts, first, second, ("mean_tokens",))
    terms = []
    for rows, sign in ((pair.second, 1), (pair.first, -1)):
        spent = (rows["n"] * rows["mean_tokens"]).to_numpy(dtype=float)
        terms += [(spent, sign), (rows["c"].to_numpy(dtype=float), -sign)]
    return _ratio(pair, terms)


def design_gain(table: pd.DataFrame, step_from: int, step_to: int) -> Design:
    """Design of a held-out gain of which only the right answers of each source survive, one draw for each problem.

    Parameters
    ----------
    table
        One row per (step, source): step, source, n_problems, c.
    step_from, step_to
        The two looks.

    Raises
    ------
    ValueError
        If a column or a step is missing, or the looks have different problems.

    Notes
    -----
    Which problems were solved at both looks is not known. Looks that are independent given the source are assumed;
    where the same problems are solved again, the variance is smaller.

    Examples
    --------
    >>> ticks = pd.DataFrame({"step": [0, 90], "source": "amc", "n_problems": 20, "c": [10, 10]})
    >>> design_gain(ticks, 0, 90).variance  # a half gained or lost, by one each
    0.5
    """
    require_columns(table, ("step", "source", "n_problems", "c"), "held-out")
    looks = [table[table["step"] == step].sort_values("source") for step in (step_from, step_to)]
    covered = [look[["source", "n_problems"]].to_numpy().tolist() for look in looks]
    if not covered[0] or covered[0] != covered[1]:
        raise ValueError(
            f"steps {step_from} and {step_to} must be in the held-out table and cover the same problems; they "
            f"cover {covered[0]} and {covered[1]}."
        )
    n = looks[0]["n_problems"].to_numpy(dtype=float)
    before, after = (look["c"].to_numpy(dtype=float) / n for look in looks)
    gained, lost = ((n @ share) / n.sum() for share in (after * (1 - before), before * (1 - after)))
    effect = float(gained - lost)
    variance = float(gained + lost - effect**2)
    if not variance > 0:
        raise ValueError(f"steps {step_from} and {step_to} show no change that could vary. Choose others.")
    parts = np.rint(10_000 * np.array([gained, lost, 1 - gained - lost])).astype(int)
    return Design(effect, int(n.sum()), (1, 1), variance, values_P=np.repeat([1.0, -1.0, 0.0], parts))


def simulate_power(
    design: Design, effect: float, n_simulations: int, resampling: Resampling, alpha: float = ALPHA
) -> Estimate:
    """Share of simulated studies that see an effect, the problems drawn from the values that were observed.

    Nothing is assumed to be normal, so this tells whether the t-test's power can be trusted for values as skewed
    and as few as these.

    Parameters
    ----------
    design
        With values of problems.
    effect
        True mean: the values are shifted to have it.
    n_simulations
        Studies.
    resampling
        Seed of the simulation and confidence of the interval.
    alpha
        Level of the test.

    Returns
    -------
    The share with its exact binomial interval for the limited number of simulations.

    Raises
    ------
    ValueError
        If the design has no values.
    """
    _, t = _simulate(design, effect, n_simulations, resampling)
    seen = int((t > _critical(design, alpha)).sum())
    low, high = binomial_interval(seen, n_simulations, resampling.confidence)
    method = f"exact binomial interval over {n_simulations} simulated studies"
    return Estimate(seen / n_simulations, low, high, None, None, method)


def exaggeration(
    design: Design, n_simulations: int, resampling: Resampling, alpha: float = ALPHA
) -> Estimate:
    """By what factor studies of a design overstate its effect when they see it.

    A study that sees an effect has as a rule drawn problems on which it is large. The less power, the more so.

    Parameters
    ----------
    design
        With values of problems; its effect is taken for the truth.
    n_simulations
        Studies.
    resampling
        Seed of the simulation and confidence of the interval.
    alpha
        Level of the test.

    Returns
    -------
    Mean of the absolute estimate over the truth among the studies that see an effect (the type M error of Gelman
    and Carlin 2014), with a normal interval for the limited number of simulations; NaN where fewer than two see one.

    Raises
    ------
    ValueError
        If the design has no values.
    """
    mean, t = _simulate(design, design.effect, n_simulations, resampling)
    factors = np.abs(mean[t > _critical(design, alpha)] / design.effect)
    if len(factors) < 2:
        return Estimate(np.nan, None, None, None, None, "none", "hardly a simulated study sees the effect")
    half = stats.norm.ppf(0.5 + resampling.confidence / 2.0) * stats.sem(factors)
    value = float(factors.mean())
    method = f"normal interval over the {len(factors)} simulated studies that see the effect"
    return Estimate(value, float(value - half), float(value + half), None, None, method)


def assess_designs(
    designs: Mapping[str, Design], power: float, n_simulations: int, resampling: Resampling
) -> pd.DataFrame:
    """Answer for several designs what they can see, each checked by simulation.

    Parameters
    ----------
    designs
        Name -> design, with values of problems.
    power
        Wanted chance.
    n_simulations
        Simulated studies of each design.
    resampling
        Seed of the simulations and confidence of their intervals.

    Returns
    -------
    One row for each design: name, n_problems, draws_first, draws_second, effect, detectable, power, simulated (power
    at the effect in simulated studies) with low and high, at_detectable (the same at the detectable effect) with
    at_low and at_high, problems (needed; missing beyond ten million), draws (needed; missing where none is) and
    draws_note.

    Raises
    ------
    ValueError
        If there is no design, or as `assess` and `simulate_power` do.
    """
    if not designs:
        raise ValueError("there is no design to assess. Check that the tables hold both arms.")
    rows = []
    for name, design in designs.items():
        found = assess(design, power)
        own = simulate_power(design, design.effect, n_simulations, resampling)
        least = simulate_power(design, found.detectable, n_simulations, resampling)
        rows.append(
            {
                "name": name,
                "n_problems": design.n_problems,
                "draws_first": design.n_draws[0],
                "draws_second": design.n_draws[1],
                "effect": design.effect,
                "detectable": found.detectable,
                "power": found.power,
                "simulated": own.value,
                "low": own.low,
                "high": own.high,
                "at_detectable": least.value,
                "at_low": least.low,
                "at_high": least.high,
                "problems": found.problems,
                "draws": found.draws,
                "draws_note": found.draws_note,
            }
        )
    return pd.DataFrame(rows).astype({"problems": "Int64", "draws": "Int64"})


def power_curve(design: Design, sizes: Sequence[int], alpha: float = ALPHA) -> pd.DataFrame:
    """Power of a design at other numbers of problems.

    Parameters
    ----------
    design
        The design, whose effect and variance are kept.
    sizes
        Numbers of problems, each at least 2.
    alpha
        Level.

    Returns
    -------
    Columns n_problems, power.
    """
    return pd.DataFrame(
        {"n_problems": list(sizes), "power": [power_of(design.effect, design.sd, p, alpha) for p in sizes]}
    )


def _critical(design: Design, alpha: float) -> float:
    """Value that |t| must exceed."""
    return float(stats.t.isf(alpha / 2.0, design.n_problems - 1))


def _simulate(
    design: Design, effect: float, n_simulations: int, resampling: Resampling
) -> tuple[Floats, Floats]:
    """Mean and |t| of studies whose problems have the values of the design, shifted to a true mean."""
    if len(design.values_P) < 2:
        raise ValueError("this design was made up from rates and has no problems to draw from.")
    pool = design.values_P - design.values_P.mean()
    pool = pool * design.sd / pool.std()  # the variance that was planned with
    rng = resampling.generator()
    sample = pool[rng.integers(len(pool), size=(n_simulations, design.n_problems))] + effect
    mean, sd = sample.mean(axis=1), sample.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # all problems alike: an infinite t, or none
        return mean, np.abs(mean) * np.sqrt(design.n_problems) / sd


def _design(values: Floats, pair: ArmPair, effect: float | None = None) -> Design:
    """Design of observed values, without knowledge of what the draws add."""
    if len(values) < 2:
        raise ValueError(f"a variance over problems needs two of them; the arms share {len(values)}.")
    variance = float(values.var(ddof=1))
    if not variance > 0:
        raise ValueError("all problems agree, so nothing tells how much they could differ. Plan with more.")
    return Design(
        effect=float(values.mean()) if effect is None else effect,
        n_problems=len(values),
        n_draws=(round(pair.first["n"].mean()), round(pair.second["n"].mean())),
        variance=variance,
        values_P=values,
    )


def _ratio(pair: ArmPair, terms: Sequence[tuple[Floats, int]]) -> Design:
    """Design of a sum of signed logarithms of means."""
    means = [float(values.mean()) for values, _ in terms]
    if min(means) <= 0:
        raise ValueError(
            f"a ratio needs means above 0; got {min(means):g}. No draw is right, or a length is 0."
        )
    effect = sum(sign * np.log(mean) for (_, sign), mean in zip(terms, means, strict=True))
    influence = sum(sign * values / mean for (values, sign), mean in zip(terms, means, strict=True))
    return _design(np.asarray(influence), pair, float(effect))


@lru_cache(maxsize=4096)
def _estimated_spread(df: int) -> tuple[Floats, Floats]:
    """Nodes and weights of the estimated standard deviation over the true one."""
    nodes, weights = roots_legendre(N_NODES)
    share = (nodes + 1.0) / 2.0
    return np.sqrt(stats.chi2.ppf(share, df) / df), weights / 2.0


def _rates(n: npt.NDArray[np.int64], c: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Nodes and weights of a beta distribution of success rates that has the moments of the counts."""
    mean, square = rate_moments(n, c).mean(axis=0)
    dispersion = 0.0 if mean in (0.0, 1.0) else float(rate_dispersion(mean, square))
    least, most = DISPERSIONS
    if dispersion < least:
        return np.array([mean]), np.array([1.0])
    size = 1.0 / min(dispersion, most) - 1.0
    nodes, weights = roots_sh_jacobi(N_NODES, size - 1.0, mean * size)  # weight x^(a-1) (1-x)^(b-1)
    return np.asarray(nodes), np.asarray(weights / weights.sum())


def _draw_variance(score: Score, rates: tuple[Floats, Floats], n: int) -> float:
    """Variance of the score of a problem with n draws given its success rate, averaged over rates."""
    c = np.arange(n + 1)
    values = score(np.full(n + 1, n), c)
    nodes, weights = rates
    chance = stats.binom.pmf(c, n, nodes[:, np.newaxis])
    mean = chance @ values
    return float(weights @ np.maximum(chance @ values**2 - mean**2, 0.0))


def _search(suffices: Callable[[int], bool], low: int, most: int) -> int | None:
    """Smallest whole number from `low` that suffices, where all larger ones do too; None beyond `most`."""
    if suffices(low):
        return low
    high = low
    while not suffices(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _check_power(power: float, alpha: float) -> None:
    """Check that the wanted chance can be wanted."""
    if not alpha < power < 1:
        raise ValueError(f"power must lie above the level {alpha} and below 1; got {power}. Try 0.8.")
