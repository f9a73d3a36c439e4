"""Bayesian pass@k: the grid against integration and closed forms, intervals against simulated populations."""

import doctest
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

from panelbook.measure import hierarchical
from panelbook.measure.hierarchical import (
    bayes_pass_at_k,
    bayes_pass_at_k_gap,
    benchmark_pass_at_k,
    check_extrapolation,
    fit_hyperposterior,
    population_pass_at_k,
    why_improper,
)
from panelbook.measure.passk import pass_at_k_curve
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

R = Resampling(seed=20260424)
ARMS = ("panel", "think")


def make_counts(n_problems=40, n=8, seed=0, shapes=((0.5, 0.8), (0.9, 0.4))):
    rng = np.random.default_rng(seed)
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(n_problems)],
                "n": n,
                "c": rng.binomial(n, rng.beta(*shape, n_problems)),
            }
        )
        for arm, shape in zip(ARMS, shapes, strict=True)
    ]
    return pd.concat(arms, ignore_index=True)


def mean_by_quadrature(n, c, value):
    """Posterior mean of value(a, b): a double integral over the mean and (a + b)^(-1/2), in which the prior is flat."""

    def joint(mean, spread):
        a, b = mean / spread**2, (1 - mean) / spread**2
        return np.prod([stats.betabinom.pmf(ci, ni, a, b) for ni, ci in zip(n, c, strict=True)]), a, b

    def weigh(function):
        # The tail of wide spreads falls slowly; s = x / (1 - x) brings it to a finite range.
        return integrate.dblquad(
            lambda mean, x: function(mean, x / (1 - x)) / (1 - x) ** 2,
            1e-4,
            1 - 1e-4,
            1e-6,
            1 - 1e-6,
            epsabs=1e-6,
            epsrel=1e-3,
        )[0]

    def weighted(mean, spread):
        density, a, b = joint(mean, spread)
        return density * value(a, b)

    return weigh(weighted) / weigh(lambda mean, spread: joint(mean, spread)[0])


class TestPopulation:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(hierarchical)
        assert result.attempted > 0
        assert result.failed == 0

    @pytest.mark.parametrize(("a", "b"), [(1, 1), (0.3, 0.7), (2, 5), (40, 0.2), (0.01, 0.02)])
    def test_is_one_minus_a_quotient_of_beta_functions(self, a, b):
        ks = [1, 2, 16, 1000]
        expected = [1 - np.exp(special.betaln(a, b + k) - special.betaln(a, b)) for k in ks]
        assert population_pass_at_k([a], [b], ks)[0] == pytest.approx(expected, rel=1e-8)

    def test_is_the_mean_over_success_rates(self):
        expected = integrate.quad(lambda q: (1 - (1 - q) ** 5) * stats.beta(0.7, 1.6).pdf(q), 0, 1)[0]
        assert population_pass_at_k([0.7], [1.6], [5])[0, 0] == pytest.approx(expected)

    def test_ks_come_in_the_order_asked(self):
        assert population_pass_at_k([1.0], [1.0], [3, 1, 3])[0] == pytest.approx([0.75, 0.5, 0.75])

    @pytest.mark.parametrize("ks", [[0], [], [2, -1]])
    def test_refuses_k_below_one(self, ks):
        with pytest.raises(ValueError, match="ks must be a list of whole numbers of at least 1"):
            population_pass_at_k([1.0], [1.0], ks)


class TestFit:
    @pytest.mark.parametrize(("n", "c"), [([4, 4, 4], [1, 2, 4]), ([8, 3, 5, 8], [8, 1, 0, 5])])
    def test_posterior_means_agree_with_a_double_integral(self, n, c):
        posterior = fit_hyperposterior(n, c)
        grid = posterior.weight_G @ population_pass_at_k(posterior.a_G, posterior.b_G, [1, 4])
        for k, found in zip((1, 4), grid, strict=True):
            expected = mean_by_quadrature(n, c, lambda a, b, k=k: population_pass_at_k([a], [b], [k])[0, 0])
            assert found == pytest.approx(expected, abs=2e-3)

    def test_density_on_the_grid_is_likelihood_times_prior(self):
        n, c = np.array([4, 6, 9]), np.array([1, 6, 2])
        posterior = fit_hyperposterior(n, c)
        a, b = posterior.a_G, posterior.b_G
        log_density = sum(stats.betabinom.logpmf(ci, ni, a, b) for ni, ci in zip(n, c, strict=True))
        # Prior (a + b)^(-5/2) in a and b, times the Jacobian a b of the logarithmic axes.
        log_density += np.log(a) + np.log(b) - 2.5 * np.log(a + b)
        expected = np.exp(log_density - log_density.max())
        assert posterior.weight_G == pytest.approx(expected / expected.sum(), rel=1e-6, abs=1e-10)

    def test_the_grid_holds_the_mass_and_resolves_it(self):
        for n_problems, shape in ((20, (0.3, 0.6)), (50, (3, 0.4)), (2000, (1, 1)), (5000, (30, 60))):
            rng = np.random.default_rng(n_problems)
            c = rng.binomial(8, rng.beta(*shape, n_problems))
            posterior = fit_hyperposterior(np.full(n_problems, 8), c)
            side = posterior.weight_G.reshape(hierarchical.GRID, hierarchical.GRID)
            edges = [side[0].sum(), side[-1].sum(), side[:, 0].sum(), side[:, -1].sum()]
            assert max(edges) < 1e-3, (n_problems, edges)
            assert side.max() < 0.1, n_problems

    def test_many_problems_give_back_the_truth(self):
        rng = np.random.default_rng(1)
        c = rng.binomial(8, rng.beta(0.6, 1.4, 20_000))
        posterior = fit_hyperposterior(np.full(20_000, 8), c)
        assert posterior.weight_G @ posterior.a_G == pytest.approx(0.6, rel=0.05)
        assert posterior.weight_G @ posterior.b_G == pytest.approx(1.4, rel=0.05)

    def test_one_problem_given_the_parameters_is_conjugate(self):
        rng = np.random.default_rng(2)
        n, c, a, b, k = 5, 2, 0.7, 1.3, 3
        draws = benchmark_pass_at_k([n], [c], np.full(40_000, a), np.full(40_000, b), [k], rng)[:, 0]
        rate = stats.beta(a + c, b + n - c)
        expected = integrate.quad(lambda q: (1 - (1 - q) ** k) * rate.pdf(q), 0, 1)[0]
        assert draws.mean() == pytest.approx(expected, abs=4 * draws.std() / 200)
        assert np.quantile(draws, 0.9) == pytest.approx(1 - (1 - rate.ppf(0.9)) ** k, abs=0.01)

    def test_blocks_of_problems_do_not_change_the_mean(self, monkeypatch):
        n, c = np.full(7, 4), np.array([0, 1, 2, 3, 4, 1, 2])
        a, b = np.full(3000, 0.8), np.full(3000, 0.9)
        whole = benchmark_pass_at_k(n, c, a, b, [1, 2], np.random.default_rng(0))
        monkeypatch.setattr(hierarchical, "CHUNK_CELLS", 3000)
        blocks = benchmark_pass_at_k(n, c, a, b, [1, 2], np.random.default_rng(1))
        assert whole.mean(axis=0) == pytest.approx(blocks.mean(axis=0), abs=0.01)
        assert whole.std(axis=0) == pytest.approx(blocks.std(axis=0), rel=0.1)

    def test_draws_follow_the_grid(self):
        posterior = fit_hyperposterior([8] * 12, [0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8])
        a, b = posterior.draw(20_000, np.random.default_rng(0))
        found = population_pass_at_k(a, b, [1, 4, 32])
        expected = posterior.weight_G @ population_pass_at_k(posterior.a_G, posterior.b_G, [1, 4, 32])
        assert np.abs(found.mean(axis=0) - expected) == pytest.approx(
            0, abs=4 * found.std() / np.sqrt(20_000)
        )

    def test_turning_right_into_wrong_mirrors_the_posterior(self):
        n, c = np.array([4, 8, 8]), np.array([1, 8, 3])
        one, two = fit_hyperposterior(n, c), fit_hyperposterior(n, n - c)
        assert one.weight_G @ np.log(one.a_G) == pytest.approx(two.weight_G @ np.log(two.b_G), rel=1e-6)

    def test_says_when_the_posterior_is_improper(self):
        assert "improper" in why_improper([4, 4], [0, 4])
        assert why_improper([4, 4], [0, 3]) == ""
        with pytest.raises(
            ValueError, match=r"no problem has both right and wrong draws.*Draw more completions"
        ):
            fit_hyperposterior([4, 4], [0, 4])

    @pytest.mark.parametrize(("n", "c"), [([4], [5]), ([0], [0]), ([], []), ([4, 4], [1])])
    def test_refuses_impossible_counts(self, n, c):
        with pytest.raises(ValueError, match=r"correct draws must lie|no problems|need one shape"):
            fit_hyperposterior(n, c)


class TestCoverage:
    @pytest.mark.parametrize(("a", "b", "n"), [(0.6, 0.9, 4), (2.0, 0.5, 8)])
    def test_intervals_cover_beta_populations(self, a, b, n):
        n_studies, n_problems, ks = 200, 50, [1, 4, 32]
        rng = np.random.default_rng(20260424)
        truth = population_pass_at_k([a], [b], ks)[0]
        covered = np.zeros((2, len(ks)))
        for _ in range(n_studies):
            rate = rng.beta(a, b, n_problems)
            c = rng.binomial(n, rate)
            a_D, b_D = fit_hyperposterior(np.full(n_problems, n), c).draw(300, rng)
            for row, (draws, true) in enumerate(
                (
                    (population_pass_at_k(a_D, b_D, ks), truth),
                    (
                        benchmark_pass_at_k(np.full(n_problems, n), c, a_D, b_D, ks, rng),
                        np.array([np.mean(1 - (1 - rate) ** k) for k in ks]),
                    ),
                )
            ):
                low, high = np.quantile(draws, [0.025, 0.975], axis=0)
                covered[row] += (low <= true) & (true <= high)
        # 95% of 200 studies, within what chance allows at one in a thousand for each of the twelve numbers.
        least, most = stats.binom(n_studies, 0.95).interval(0.999)
        assert least <= covered.min(), covered
        assert covered.max() <= most, covered

    def test_a_share_of_unsolvable_problems_breaks_the_extrapolation(self):
        # What the module says it does not handle: the further beyond n = 8, the more is promised that never comes.
        rng = np.random.default_rng(3)
        rate = np.where(rng.random(400) < 0.4, 0.0, rng.beta(4, 4, 400))
        c = rng.binomial(8, rate)
        a_D, b_D = fit_hyperposterior(np.full(400, 8), c).draw(1000, rng)
        draws = benchmark_pass_at_k(np.full(400, 8), c, a_D, b_D, [8, 32, 256], rng)
        excess = draws.mean(axis=0) - [np.mean(1 - (1 - rate) ** k) for k in (8, 32, 256)]
        assert excess[0] < 0.06
        assert np.all(np.diff(excess) > 0.04)


class TestTables:
    def test_rows_targets_and_what_lies_beyond_the_draws(self):
        table = bayes_pass_at_k(make_counts(), [1, 8, 64], R, 1000)
        assert len(table) == 2 * 2 * 3
        assert table["beyond"].tolist() == [False, False, True] * 4
        assert set(table["n_draws"]) == {320}
        assert ((table["low"] < table["estimate"]) & (table["estimate"] < table["high"])).all()

    def test_agrees_with_the_unbiased_curve_where_there_is_data(self):
        counts = make_counts(150, n=16, seed=1)
        curve = pass_at_k_curve(counts, [1, 4, 16], R).set_index(["arm", "k"])
        bayes = bayes_pass_at_k(counts, [1, 4, 16], R, 1000).set_index(["target", "arm", "k"])
        for target in hierarchical.TARGETS:
            found = bayes.loc[target]
            assert found["estimate"].to_numpy() == pytest.approx(curve["estimate"].to_numpy(), abs=0.03)
        # The population's interval answers the bootstrap's question; the benchmark's leaves out which problems.
        width = (bayes["high"] - bayes["low"]).groupby("target").mean()
        assert width["population"] == pytest.approx((curve["high"] - curve["low"]).mean(), rel=0.25)
        assert width["benchmark"] < 0.5 * width["population"]

    def test_the_gap_and_the_chance_that_the_first_is_ahead(self):
        counts = make_counts(60, shapes=((0.5, 0.8), (3.0, 0.8)))
        gap = bayes_pass_at_k_gap(counts, *ARMS, [1, 8, 64], R, 1000)
        assert gap["gap"].to_numpy() == pytest.approx((gap["first"] - gap["second"]).to_numpy())
        assert (gap.loc[gap["k"] == 1, "high"] < 0).all()
        assert (gap.loc[gap["k"] == 1, "p_first_ahead"] < 0.01).all()
        turned = bayes_pass_at_k_gap(counts, *ARMS[::-1], [1, 8, 64], R, 1000)
        assert turned["gap"].to_numpy() == pytest.approx(-gap["gap"].to_numpy(), abs=0.02)
        assert turned["p_first_ahead"].to_numpy() == pytest.approx(
            1 - gap["p_first_ahead"].to_numpy(), abs=0.05
        )

    def test_equal_arms_are_ahead_half_of_the_time(self):
        one = make_counts(40).query("arm == 'panel'")
        gap = bayes_pass_at_k_gap(pd.concat([one, one.assign(arm="think")]), *ARMS, [1, 32], R)
        assert gap["p_first_ahead"].to_numpy() == pytest.approx(0.5, abs=0.05)

    def test_the_same_seed_gives_the_same_table(self):
        counts = make_counts(10)
        one = bayes_pass_at_k(counts, [1, 4], R, 500)
        pd.testing.assert_frame_equal(
            one, bayes_pass_at_k(counts.sample(frac=1, random_state=1), [1, 4], R, 500)
        )
        assert (one["estimate"] != bayes_pass_at_k(counts, [1, 4], Resampling(seed=2), 500)["estimate"]).any()

    def test_unequal_draws_and_unpaired_problems(self):
        counts = make_counts(10)
        counts.loc[counts.index[:5], "n"] = 12
        gap = bayes_pass_at_k_gap(counts.drop(index=0), *ARMS, [8, 9], R, 500)
        assert set(gap["n_unpaired"]) == {1}
        assert gap["beyond"].tolist() == [False, True] * 2

    def test_an_arm_without_a_mixed_problem_gets_a_reason_and_no_number(self):
        counts = make_counts(6)
        counts.loc[counts["arm"] == "think", "c"] = 8
        table = bayes_pass_at_k(counts, [1, 16], R, 200).set_index("arm")
        assert table.loc["think", ["estimate", "low", "high"]].isna().all(axis=None)
        assert table.loc["think", "reason"].str.contains("improper").all()
        assert table.loc["panel", "estimate"].notna().all()
        gap = bayes_pass_at_k_gap(counts, *ARMS, [1, 16], R, 200)
        assert gap[["gap", "low", "p_first_ahead"]].isna().all(axis=None)
        assert gap["reason"].str.startswith("think: no problem").all()
        assert check_extrapolation(counts, 4, R, 200).set_index("arm").loc["think", "inside"] is None

    def test_extrapolation_is_checked_against_the_draws_left_out(self):
        counts = make_counts(200, n=8, seed=2)
        table = check_extrapolation(counts, 4, R, 1000)
        solved = counts.assign(solved=counts["c"] > 0).groupby("arm")["solved"].mean()
        assert table["observed"].tolist() == solved.tolist()
        assert table["inside"].tolist() == [True, True]
        # Half of the problems are never solved, the others every second time: no beta distribution.
        broken = counts.assign(c=np.where(np.arange(len(counts)) % 2, 0, 4))
        table = check_extrapolation(broken, 4, R, 1000)
        assert not table["inside"].any()
        assert (table["predicted"] > table["observed"]).all()

    def test_the_check_of_the_extrapolation_covers_beta_populations(self):
        inside = []
        for seed in range(40):
            counts = make_counts(40, n=np.repeat([6, 8], 20), seed=seed, shapes=((0.5, 0.8), (2.0, 2.0)))
            inside += check_extrapolation(counts, 3, Resampling(seed=seed), 200)["inside"].tolist()
        # Shares are counts of problems, so the interval covers a little more than it says.
        assert 0.9 <= np.mean(inside) < 1.0

    @pytest.mark.parametrize("kept", [0, 8, 9])
    def test_refuses_to_keep_all_or_none(self, kept):
        with pytest.raises(
            ValueError, match="n_kept must be at least 1 and below the draws of every problem"
        ):
            check_extrapolation(make_counts(4), kept, R)

    def test_refuses_a_table_that_is_none(self):
        with pytest.raises(ValueError, match="no column 'n'"):
            bayes_pass_at_k(make_counts(4).drop(columns="n"), [1], R)
        counts = make_counts(4)
        counts.loc[counts["arm"] == "think", "problem_id"] += "x"
        with pytest.raises(ValueError, match="share no problem"):
            bayes_pass_at_k_gap(counts, *ARMS, [1], R)


def test_the_posterior_of_two_draws_by_exact_sums():
    """One mixed problem of two draws: the likelihood is 2 a b / ((a + b)(a + b + 1)), summed over a fine brute grid."""
    mean = (np.arange(400) + 0.5) / 400
    x = (np.arange(4000) + 0.5) / 4000
    m, s = np.meshgrid(mean, x / (1 - x), indexing="ij")
    concentration = s**-2
    weight = comb(2, 1) * m * (1 - m) * concentration / (concentration + 1) / (1 - x) ** 2
    expected = np.sum(weight * m**2) / np.sum(weight)
    posterior = fit_hyperposterior([2], [1])
    found = posterior.weight_G @ (posterior.a_G / (posterior.a_G + posterior.b_G)) ** 2
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.published
def test_thinking_is_ahead_on_aime_whatever_the_model(published_folder):
    counts = select_counts(
        adapters.read_counts(published_folder),
        study="published",
        benchmark="aime",
        arms=["panel", "thinking"],
    )
    gap = bayes_pass_at_k_gap(counts, "panel", "thinking", [1, 16], R, 1000).set_index(["target", "k"])
    assert gap.loc[("benchmark", 1), "gap"] == pytest.approx((72 - 234) / 320, abs=0.03)
    assert (gap["p_first_ahead"] < 0.05).all()
