"""The beta-binomial fit against scipy's likelihood, and its predictions against simulation."""

import doctest

import numpy as np
import pytest
from scipy import optimize, stats

from panelbook.measure import betabinomial
from panelbook.measure.betabinomial import BetaPrior, fit_beta_binomial


def draw(a, b, n, n_problems=300, seed=0):
    rng = np.random.default_rng(seed)
    n_P = np.broadcast_to(n, n_problems)
    return n_P, rng.binomial(n_P, rng.beta(a, b, n_problems))


def test_examples_in_docstrings():
    result = doctest.testmod(betabinomial)
    assert result.attempted > 0
    assert result.failed == 0


class TestFit:
    @pytest.mark.parametrize(("a", "b", "n"), [(0.3, 0.2, 8), (2.0, 5.0, 4), (0.8, 0.2, 16), (6.0, 6.0, 30)])
    def test_is_the_maximum_of_scipys_likelihood(self, a, b, n):
        n_P, c_P = draw(a, b, n)

        def loss(x):
            return -stats.betabinom.logpmf(c_P, n_P, *np.exp(x)).sum()

        best = optimize.minimize(
            loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
        )
        found = fit_beta_binomial(n_P, c_P)
        assert (found.a, found.b) == pytest.approx(tuple(np.exp(best.x)), rel=1e-3)
        assert not found.at_limit

    def test_recovers_the_truth_with_draws_that_differ_between_problems(self):
        n_P = np.tile([2, 5, 9, 16], 1000)
        _, c_P = draw(0.7, 1.6, n_P, n_problems=4000, seed=3)
        found = fit_beta_binomial(n_P, c_P)
        assert (found.a, found.b) == pytest.approx((0.7, 1.6), rel=0.1)

    @pytest.mark.parametrize("c", [0, 8])
    def test_an_arm_that_is_never_or_always_right_stops_at_the_limit(self, c):
        found = fit_beta_binomial([8] * 20, [c] * 20)
        assert found.at_limit
        assert found.a / (found.a + found.b) == pytest.approx(c / 8, abs=1e-3)

    def test_problems_that_agree_more_than_draws_would_stop_at_the_limit(self):
        found = fit_beta_binomial([8] * 20, [4] * 20)
        assert found.at_limit
        assert found.a + found.b > 1000

    @pytest.mark.parametrize(
        ("n", "c"), [([4], [5]), ([4], [-1]), ([0], [0]), ([4, 4], [1]), ([], []), ([4], [np.nan])]
    )
    def test_refuses_what_is_no_count(self, n, c):
        with pytest.raises(ValueError, match=r"n_P and c_P|between 0 and n"):
            fit_beta_binomial(n, c)


class TestPrediction:
    @pytest.mark.parametrize("m", [1, 3, 8])
    def test_is_one_minus_scipys_chance_of_no_success(self, m):
        prior, n, c = BetaPrior(0.4, 0.9), np.array([4, 4, 8]), np.array([0, 2, 8])
        expected = 1.0 - stats.betabinom.pmf(0, m, 0.4 + c, 0.9 + n - c)
        assert prior.predict_pass(n, c, m) == pytest.approx(expected)

    def test_is_what_problems_selected_by_their_counts_do_next(self):
        rng = np.random.default_rng(5)
        q = rng.beta(0.6, 0.8, 200_000)
        failed = rng.binomial(4, q) == 0
        again = rng.binomial(4, q[failed]) > 0
        assert BetaPrior(0.6, 0.8).predict_pass([4], [0], 4)[0] == pytest.approx(again.mean(), abs=0.01)
