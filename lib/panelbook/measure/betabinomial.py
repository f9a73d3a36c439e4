"""Success probabilities that differ between problems, as a beta distribution fitted to counts.

An arm solves problem p with probability q_p, which is not known: only c_p of n_p draws were right. If the q_p of
a benchmark follow a beta distribution, the counts follow the beta-binomial law (Skellam 1948), whose two
parameters the counts determine; and given them, a problem's own probability follows Beta(a + c, b + n - c).
This is empirical Bayes: the prior is estimated from the problems themselves, and each problem's rate c / n is
drawn towards the benchmark's, the more so the fewer its draws.

Notation: a, b parameters of the beta distribution, n draws and c correct draws of a problem, m further draws.

Not handled: uncertainty about a and b themselves (they are plugged in; `hierarchical` has their posterior), and
benchmarks whose problems are no smooth mixture, such as a share that no model could ever solve beside a share of easy
ones: a beta distribution with a < 1 and b < 1 has mass near both ends, but none at 0 or at 1.

References
----------
Skellam, J. G. (1948). A probability distribution derived from the binomial distribution by regarding the
probability of success as variable between the sets of trials. Journal of the Royal Statistical Society B 10(2).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, logit

from panelbook.measure.uncertainty import Floats

# Limits of the mean and of log(a + b). Where no problem is ever right, or problems agree more closely than draws
# of one probability would, or every problem is all right or all wrong, the likelihood rises towards an end of the
# range for ever.
MEAN_LIMITS = (1e-4, 1.0 - 1e-4)
LOG_SIZE_LIMITS = (float(np.log(1e-2)), float(np.log(1e4)))


@dataclass(frozen=True)
class BetaPrior:
    """Beta distribution of success probabilities over the problems of a benchmark.

    Parameters
    ----------
    a, b
        Its parameters, above 0; the mean is a / (a + b), and a + b says how alike the problems are.
    at_limit
        Whether the fit stopped at the end of its range; then the data lie outside the family, or on its edge.
    """

    a: float
    b: float
    at_limit: bool = False

    def posterior(self, n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the parameters of every problem's own distribution, each of shape (P,).

        Parameters
        ----------
        n_P, c_P
            Draws and correct draws of each problem.
        """
        n, c = np.asarray(n_P, dtype=np.float64), np.asarray(c_P, dtype=np.float64)
        return self.a + c, self.b + n - c

    def predict_pass(self, n_P: npt.ArrayLike, c_P: npt.ArrayLike, m: int) -> Floats:
        """Chance that m further draws hold a correct one, given c of n so far, shape (P,).

        Parameters
        ----------
        n_P, c_P
            Draws and correct draws of each problem so far.
        m
            Further draws.

        Notes
        -----
        With Beta(a', b') the chance that all m are wrong is B(a', b' + m) / B(a', b').

        Examples
        --------
        >>> BetaPrior(1.0, 1.0).predict_pass([0], [0], m=3).tolist()  # uniform q: 1 - 1/4
        [0.75]
        """
        a, b = self.posterior(n_P, c_P)
        return np.asarray(-np.expm1(betaln(a, b + m) - betaln(a, b)), dtype=np.float64)


def fit_beta_binomial(n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> BetaPrior:
    """Beta distribution under which the counts are most likely.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem, shape (P,).

    Returns
    -------
    The maximum-likelihood fit, within `MEAN_LIMITS` and `LOG_SIZE_LIMITS`.

    Raises
    ------
    ValueError
        If there is no problem or a count is impossible.

    Notes
    -----
    log L = sum_p log B(a + c_p, b + n_p - c_p) - log B(a, b) up to binomial coefficients, which do not depend
    on a and b. It is maximised over the logit of the mean and the logarithm of a + b.

    Examples
    --------
    >>> prior = fit_beta_binomial([4] * 5, [0, 1, 2, 3, 4])  # uniform counts: uniform probabilities
    >>> round(prior.a, 3), round(prior.b, 3)
    (1.0, 1.0)
    """
    n, c = np.asarray(n_P, dtype=np.float64), np.asarray(c_P, dtype=np.float64)
    if n.ndim != 1 or n.shape != c.shape or len(n) == 0:
        raise ValueError(f"n_P and c_P need one shape (P,) with P >= 1; got {n.shape} and {c.shape}.")
    bad = np.flatnonzero(~((n >= 1) & (c >= 0) & (c <= n)))  # NaN compares false, so it is caught here
    if len(bad):
        raise ValueError(
            f"correct draws must lie between 0 and n, with n >= 1; row {bad[0]} has n={n[bad[0]]}, "
            f"c={c[bad[0]]}. Correct the row."
        )
    pairs, times = np.unique(np.column_stack([n, c]), axis=0, return_counts=True)

    n_cell, c_cell, share = pairs[:, 0], pairs[:, 1], times / len(n)

    def loss(x: Floats) -> tuple[float, Floats]:
        a, b = _parameters(x)
        value = share @ betaln(a + c_cell, b + n_cell - c_cell) - betaln(a, b)
        common = share @ digamma(a + b + n_cell) - digamma(a + b)
        slope_a = share @ digamma(a + c_cell) - digamma(a) - common
        slope_b = share @ digamma(b + n_cell - c_cell) - digamma(b) - common
        slope_mean = a * b / (a + b) * (slope_a - slope_b)  # the chain rule through logit(mean)
        return -float(value), -np.array([slope_mean, a * slope_a + b * slope_b])

    limits = [(float(logit(MEAN_LIMITS[0])), float(logit(MEAN_LIMITS[1]))), LOG_SIZE_LIMITS]
    mean = float(np.clip(np.mean(c / n), *MEAN_LIMITS))
    best = minimize(loss, np.array([logit(mean), 0.0]), jac=True, bounds=limits, tol=1e-12).x
    # The likelihood flattens towards an end, so that the search may stop short of it.
    at_limit = any(min(x - low, high - x) < 0.1 for x, (low, high) in zip(best, limits, strict=True))
    a, b = _parameters(best)
    return BetaPrior(a, b, bool(at_limit))


def _parameters(x: Floats) -> tuple[float, float]:
    """Turn (logit of the mean, log of a + b) into (a, b)."""
    size = float(np.exp(x[1]))
    return float(expit(x[0])) * size, float(expit(-x[0])) * size
