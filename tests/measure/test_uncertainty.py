"""Intervals: what they resample, when they fall back, when they refuse, and how often they cover."""

import doctest
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from scipy import special, stats

from panelbook.measure import uncertainty
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import (
    Estimate,
    Resampling,
    binomial_interval,
    estimate,
    estimate_count_difference,
    estimate_many,
    estimate_median,
    estimate_share,
    keep_means,
    resample_means,
)

R = Resampling(seed=20260424, n_resamples=2000)


def first(means):
    return means[..., 0]


def test_examples_in_docstrings():
    result = doctest.testmod(uncertainty)
    assert result.attempted > 0
    assert result.failed == 0


class TestResampling:
    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"seed": -1}, "seed.*-1"),
            ({"seed": 0, "n_resamples": 99}, "n_resamples.*99"),
            ({"seed": 0, "confidence": 1.0}, "confidence.*1.0"),
            ({"seed": 0, "confidence": 0.0}, "confidence.*0.0"),
            ({"seed": 0, "confidence": 95}, "confidence.*95"),
        ],
    )
    def test_refuses_what_cannot_work(self, fields, named):
        with pytest.raises(ValueError, match=named):
            Resampling(**fields)

    def test_generators_are_fresh_and_leave_global_state_alone(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert R.generator().random() == R.generator().random()
        estimate([[0.0], [1.0], [0.3]], first, R, 3)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


class TestEstimate:
    def test_must_have_an_interval_or_a_reason(self):
        with pytest.raises(ValueError, match="must say why"):
            Estimate(0.5, None, None, 1, 1, "none")
        with pytest.raises(ValueError, match="needs no reason"):
            Estimate(0.5, 0.4, 0.6, 9, 9, "bootstrap", "because")

    def test_interval_has_two_finite_ends_in_order(self):
        with pytest.raises(ValueError, match="two ends"):
            Estimate(0.5, 0.4, None, 9, 9, "bootstrap")
        with pytest.raises(ValueError, match="finite and in order"):
            Estimate(0.5, 0.6, 0.4, 9, 9, "bootstrap")
        with pytest.raises(ValueError, match="finite and in order"):
            Estimate(0.5, 0.4, np.inf, 9, 9, "bootstrap")

    def test_holds_plain_python_numbers(self):
        result = estimate(np.random.default_rng(0).random((9, 1)), first, R, 9)
        assert [type(asdict(result)[name]) for name in ("value", "low", "high")] == [float] * 3


class TestResampleMeans:
    def test_two_problems_follow_the_binomial(self):
        means = resample_means([[0.0], [1.0]], Resampling(seed=3, n_resamples=20_000))[:, 0]
        shares = [np.mean(means == value) for value in (0.0, 0.5, 1.0)]
        np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.015)

    @pytest.mark.parametrize("distinct", [3, 40], ids=["grouped", "one_by_one"])
    def test_moments_are_those_of_the_bootstrap(self, distinct):
        values = np.resize(np.random.default_rng(1).normal(size=distinct), 40)[:, np.newaxis]
        means = resample_means(values, Resampling(seed=5, n_resamples=20_000))[:, 0]
        assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(40 * 20_000))
        assert means.std() == pytest.approx(values.std() / np.sqrt(40), rel=0.03)

    def test_columns_of_a_problem_stay_together(self):
        values = np.random.default_rng(2).random((30, 1))
        means = resample_means(np.hstack([values, 3.0 * values + 1.0]), R)
        np.testing.assert_allclose(means[:, 1], 3.0 * means[:, 0] + 1.0)

    def test_each_stratum_keeps_its_size(self):
        values = np.array([[0.0], [0.0], [0.0], [10.0], [12.0]])
        means = resample_means(values, R, strata=["a", "a", "a", "b", "b"])[:, 0]
        assert set(np.round(means * 5).astype(int)) == {20, 22, 24}

    def test_problems_with_equal_rows_are_interchangeable(self):
        tripled = np.repeat(np.array([[0.0], [1.0], [5.0]]), 30, axis=0)  # drawn as three groups
        jitter = tripled + np.linspace(0, 1e-9, 90)[:, np.newaxis]  # drawn one by one
        many = Resampling(seed=8, n_resamples=20_000)
        a, b = resample_means(tripled, many)[:, 0], resample_means(jitter, many)[:, 0]
        assert stats.ks_2samp(np.round(a, 6), np.round(b, 6)).pvalue > 0.001

    def test_memory_does_not_grow_with_problems_times_resamples(self):
        values = np.random.default_rng(0).random((10_000, 2))
        tracemalloc.start()
        resample_means(values, Resampling(seed=1, n_resamples=4000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6

    def test_names_the_row_that_is_not_finite(self):
        with pytest.raises(ValueError, match="row 2 is"):
            resample_means([[0.0], [1.0], [np.nan]], R)

    def test_refuses_other_shapes(self):
        with pytest.raises(ValueError, match="one row per problem"):
            resample_means([0.0, 1.0], R)
        with pytest.raises(ValueError, match="at least one row"):
            resample_means(np.empty((0, 2)), R)
        with pytest.raises(ValueError, match="one label per problem"):
            resample_means([[0.0], [1.0]], R, strata=["a"])


class TestInterval:
    def test_levels_are_hesterbergs(self):
        # Normal data: the expanded percentile interval approaches mean +- t * s / sqrt(P).
        values = np.random.default_rng(4).normal(size=(25, 1))
        result = estimate(values, first, Resampling(seed=1, n_resamples=40_000), 25)
        half = stats.t.ppf(0.975, 24) * values.std(ddof=1) / 5.0
        assert result.high - result.low == pytest.approx(2 * half, rel=0.04)
        plain = np.ptp(np.quantile(resample_means(values, Resampling(1, 40_000)), [0.025, 0.975]))
        assert result.high - result.low > 1.05 * plain

    def test_strata_count_one_degree_of_freedom_each(self):
        # Twelve strata of three problems, far apart: only the spread within counts, with 24 degrees.
        values = np.random.default_rng(4).normal(size=(12, 3))
        values -= values.mean(axis=1, keepdims=True)
        shifted = (values + 100.0 * np.arange(12)[:, np.newaxis]).reshape(-1, 1)
        strata = np.repeat([f"source {s}" for s in range(12)], 3)
        result = estimate(shifted, first, Resampling(seed=1, n_resamples=20_000), 36, strata)
        pooled_sd = np.sqrt((values**2).sum() / 24)
        half = stats.t.ppf(0.975, 24) * pooled_sd / np.sqrt(36)
        assert result.high - result.low == pytest.approx(2 * half, rel=0.05)
        assert "within 12 strata" in result.method

    def test_wider_at_higher_confidence(self):
        values = np.random.default_rng(0).random((30, 1))
        widths = []
        for confidence in (0.5, 0.8, 0.95, 0.99):
            result = estimate(values, first, Resampling(1, 4000, confidence), 30)
            widths.append(result.high - result.low)
        assert widths == sorted(widths)
        assert len(set(widths)) == 4

    def test_duplicating_problems_narrows_by_the_square_root(self):
        values = np.random.default_rng(0).random((40, 1))
        once = estimate(values, first, R, 40)
        nine_times = estimate(np.tile(values, (9, 1)), first, R, 360)
        assert nine_times.value == pytest.approx(once.value)
        assert (once.high - once.low) / (nine_times.high - nine_times.low) == pytest.approx(3.0, rel=0.12)

    def test_two_runs_are_bit_identical_and_seeds_differ(self):
        values = np.random.default_rng(0).random((37, 3))
        runs = [estimate_many(values, keep_means, R, 37).to_frame() for _ in range(2)]
        assert runs[0].equals(runs[1])
        other = estimate_many(values, keep_means, Resampling(seed=1, n_resamples=2000), 37).to_frame()
        assert not runs[0]["low"].equals(other["low"])

    def test_one_output_equals_the_same_output_among_many(self):
        values = np.random.default_rng(0).random((25, 3))
        many = estimate_many(values, keep_means, R, 25)
        assert len(many) == 3
        assert estimate(values, lambda m: m[..., 1], R, 25) == many[1]

    def test_difference_of_differences_is_linear(self):
        values = np.random.default_rng(0).random((25, 4))
        result = estimate(values, lambda m: (m[..., 3] - m[..., 2]) - (m[..., 1] - m[..., 0]), R, 25)
        by_hand = values[:, 3] - values[:, 2] - values[:, 1] + values[:, 0]
        direct = estimate(by_hand[:, np.newaxis], first, R, 25)
        np.testing.assert_allclose(
            [result.value, result.low, result.high], [direct.value, direct.low, direct.high]
        )


class TestAllProblemsAgree:
    def test_bound_is_the_one_sided_exact_binomial(self):
        for rate, ends in ((0.0, ("less", 0.0)), (1.0, ("greater", 1.0))):
            result = estimate(np.full((20, 1), rate), first, R, 320, support=(0, 1))
            exact = stats.binomtest(int(20 * rate), 20, alternative=ends[0]).proportion_ci(0.95, "exact")
            assert (result.low, result.high) == pytest.approx((exact.low, exact.high))
            assert result.method.startswith("exact Clopper-Pearson bound, one-sided: all 20 problems")

    def test_agreement_inside_the_range_opens_to_both_sides(self):
        result = estimate(np.zeros((30, 1)), first, R, 30, support=(-1, 1))
        share = 1 - 0.05 ** (1 / 30)
        assert (result.low, result.high) == pytest.approx((-share, share))

    def test_bound_covers_whatever_the_other_problems_hold(self):
        # Truth: 12% of problems score 1, the rest 0. All 20 sampled problems agree with chance .88^20.
        chance_of_agreement = 0.88**20
        result = estimate(np.zeros((20, 1)), first, R, 20, support=(0, 1))
        assert chance_of_agreement > 0.05
        assert result.high > 0.12

    def test_without_a_known_range_there_is_no_interval(self):
        result = estimate(np.full((20, 1), 0.3), first, R, 20)
        assert (result.value, result.low) == (pytest.approx(0.3), None)
        assert "no spread" in result.reason

    def test_strata_that_agree_only_within_themselves_give_no_interval(self):
        values = np.repeat([0.0, 1.0], 5)[:, np.newaxis]
        result = estimate(values, first, R, 10, strata=values[:, 0], support=(0, 1))
        assert result.value == 0.5
        assert "no spread" in result.reason

    def test_a_ratio_that_never_moves_gives_no_interval(self):
        values = np.random.default_rng(0).random((15, 1))
        result = estimate(np.hstack([values, values / 3]), lambda m: m[..., 0] / m[..., 1], R, 15)
        assert result.value == pytest.approx(3.0)
        assert "no spread" in result.reason


class TestNoInterval:
    def test_single_problem(self):
        result = estimate([[0.4]], first, R, 16, support=(0, 1))
        assert (result.value, result.low, result.high, result.method) == (0.4, None, None, "none")
        assert "at least two" in result.reason

    def test_single_problem_in_a_stratum(self):
        result = estimate([[0.4], [0.1], [0.9]], first, R, 3, strata=["a", "a", "b"])
        assert "in each stratum" in result.reason

    def test_undefined_value(self):
        result = estimate([[1.0, 0.0], [2.0, 0.0]], lambda m: m[..., 0] / m[..., 1], R, 2)
        assert np.isnan(result.value)
        assert "undefined on these problems" in result.reason

    def test_ratio_whose_denominator_vanishes_in_resamples(self):
        values = np.column_stack([np.ones(20), np.eye(20)[0]])
        result = estimate(values, lambda m: m[..., 0] / m[..., 1], R, 20)
        assert result.value == pytest.approx(20.0)
        share = float(result.reason.split("in ")[1].split("%")[0]) / 100
        assert share == pytest.approx((19 / 20) ** 20, abs=0.04)

    def test_rare_undefined_resamples_leave_the_interval(self):
        # (14/20)^20 = 0.08% of the resamples have no correct draw: beyond the widened level.
        values = np.column_stack([np.ones(20), np.arange(20) < 6])
        result = estimate(values, lambda m: m[..., 0] / m[..., 1], Resampling(1, 20_000), 20)
        assert np.isfinite(result.high)
        assert result.low < 20 / 6 < result.high

    def test_an_undefined_resample_counts_against_both_ends(self):
        values = np.random.default_rng(0).normal(size=(30, 1))
        plain = estimate(values, first, R, 30)
        edge = np.sort(resample_means(values, R)[:, 0])[20]  # 20 of 2000: fewer than the widened level
        gaps = estimate(values, lambda m: np.where(m[..., 0] < edge, np.nan, m[..., 0]), R, 30)
        assert gaps.low == plain.low
        assert gaps.high > plain.high

    def test_table_keeps_reasons_beside_values(self):
        values = np.column_stack([np.ones(5), np.arange(5.0)])
        table = estimate_many(values, keep_means, R, 5).to_frame()
        assert table["low"].isna().tolist() == [True, False]
        assert (table["reason"] == "").tolist() == [False, True]


class TestMedian:
    def test_agrees_with_the_interval_of_order_statistics(self):
        values = np.random.default_rng(5).normal(size=101)
        result = estimate_median(values, Resampling(seed=1, n_resamples=4000), 101)
        ranks = stats.binom.ppf([0.025, 0.975], 101, 0.5).astype(int)
        low, high = np.sort(values)[ranks - [1, 0]]
        assert result.value == np.median(values)
        assert result.low == pytest.approx(low, abs=0.12)
        assert result.high == pytest.approx(high, abs=0.12)

    def test_order_of_problems_does_not_matter(self):
        values = np.random.default_rng(5).normal(size=20)
        assert estimate_median(values, R, 20) == estimate_median(values[::-1], R, 20)

    def test_refuses_without_spread_or_problems(self):
        assert "no spread" in estimate_median([2.0, 2.0, 2.0], R, 3).reason
        assert "at least two" in estimate_median([2.0], R, 1).reason


class TestBinomial:
    def test_solves_the_defining_equations(self):
        low, high = binomial_interval(7, 25, 0.9)
        assert stats.binom.sf(6, 25, low) == pytest.approx(0.05)
        assert stats.binom.cdf(7, 25, high) == pytest.approx(0.05)

    def test_share_counts_its_problems(self):
        share = estimate_share(0, 25)
        assert (share.value, share.low, share.n_problems, share.n_draws) == (0.0, 0.0, 25, 25)
        assert share.high == pytest.approx(1 - 0.025 ** (1 / 25))

    @pytest.mark.parametrize(("c", "n"), [(-1, 5), (6, 5), (0, 0)])
    def test_refuses_impossible_counts(self, c, n):
        with pytest.raises(ValueError, match=f"c={c}, n={n}"):
            binomial_interval(c, n)


class TestCountDifference:
    before, after, n = np.array([1, 8, 0, 5]), np.array([4, 13, 1, 11]), np.full(4, 25)

    def width(self, pairing):
        result = estimate_count_difference(self.before, self.after, self.n, R, pairing)
        assert result.value == 0.15
        assert (result.n_problems, result.n_draws) == (100, 200)
        assert pairing.replace("_", " ") in result.method
        assert "over 100 problems within 4 strata" in result.method
        return result.high - result.low

    def test_independence_lies_between_the_extremes(self):
        widths = [self.width(p) for p in ("most_agreement", "independent", "least_agreement")]
        assert widths == sorted(widths)
        assert widths[0] < widths[1] < widths[2]

    def test_independence_matches_the_normal_interval(self):
        before, after, n = np.array([120]), np.array([180]), np.array([400])
        result = estimate_count_difference(before, after, n, Resampling(1, 20_000))
        p, q = 0.3, 0.45
        half = 1.96 * np.sqrt((p * (1 - p) + q * (1 - q)) / 400)
        assert result.high - result.low == pytest.approx(2 * half, rel=0.05)

    def test_extremes_are_attained_by_an_explicit_pairing(self):
        # 2 of 6 solved before, 5 after: with most agreement 3 gained and none lost.
        result = estimate_count_difference([2], [5], [6], R, "most_agreement")
        same = estimate(np.array([[1.0]] * 3 + [[0.0]] * 3), first, R, 6)
        assert result.value == 0.5
        assert (result.low, result.high) == pytest.approx((same.low, same.high), abs=0.17)

    def test_swapping_the_looks_turns_the_interval_round(self):
        there = estimate_count_difference(self.before, self.after, self.n, R)
        back = estimate_count_difference(self.after, self.before, self.n, R)
        assert there.value == -back.value
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.02)

    def test_no_change_in_fully_agreeing_counts_is_bounded_exactly(self):
        result = estimate_count_difference([0], [0], [25], R, "most_agreement")
        assert result.high == pytest.approx(1 - 0.05 ** (1 / 25))
        assert "no spread" in estimate_count_difference([0], [0], [25], R).reason

    def test_refuses_impossible_counts_and_pairings(self):
        with pytest.raises(ValueError, match="between 0 and n"):
            estimate_count_difference([3], [26], [25], R)
        with pytest.raises(ValueError, match="two counts"):
            estimate_count_difference([3, 4], [5], [25], R)
        with pytest.raises(ValueError, match="got 'best'"):
            estimate_count_difference([3], [4], [25], R, "best")


def simulate_pass_at_k(n_problems, n_draws, k, n_studies, seed):
    """Draw studies of two arms that share difficulty; return pass@1 and pass@k (P, studies) and truths.

    A weak arm (Beta(0.35, 0.9): most problems never solved) and a strong one (Beta(0.9, 0.4)), their
    success rates tied by a Gaussian copula.
    """
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n_problems, n_studies))
    other = 0.7 * common + np.sqrt(1 - 0.7**2) * rng.normal(size=common.shape)
    arms, truths = [], []
    for (a, b), z in zip(((0.35, 0.9), (0.9, 0.4)), (common, other), strict=True):
        c = rng.binomial(n_draws, stats.beta.ppf(stats.norm.cdf(z), a, b))
        flat = pass_at_k_matrix(np.full(c.size, n_draws), c.ravel(), [1, k])
        arms.append(flat.reshape(*c.shape, 2))
        truths.append([1 - special.beta(a, b + j) / special.beta(a, b) for j in (1, k)])
    return np.array(arms), np.array(truths)


def share_covered(points, truth):
    """Share of intervals around the truth; one without an interval does not cover."""
    return np.mean((points.low_M <= truth) & (truth <= points.high_M))


@pytest.mark.slow
@pytest.mark.parametrize(("n_draws", "k"), [(16, 16), (8, 4)])
@pytest.mark.parametrize("n_problems", [20, 50, 134])
def test_interval_covers_as_it_says(n_problems, n_draws, k):
    arms, truths = simulate_pass_at_k(n_problems, n_draws, k, 2000, seed=1000 * n_problems + k)
    weak, strong = arms
    resampling = Resampling(seed=7, n_resamples=1000)
    cases = {
        "rate": (weak[..., 0], truths[0, 0], (0, 1)),
        "pass@k": (weak[..., 1], truths[0, 1], (0, 1)),
        "gap at 1": (weak[..., 0] - strong[..., 0], truths[0, 0] - truths[1, 0], (-1, 1)),
        "gap at k": (weak[..., 1] - strong[..., 1], truths[0, 1] - truths[1, 1], (-1, 1)),
        "closure": (
            weak[..., 1] - strong[..., 1] - weak[..., 0] + strong[..., 0],
            truths[0, 1] - truths[1, 1] - truths[0, 0] + truths[1, 0],
            (-1, 1),
        ),
    }
    covered = {
        name: share_covered(estimate_many(values, keep_means, resampling, None, support=support), truth)
        for name, (values, truth, support) in cases.items()
    }
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered


@pytest.mark.slow
@pytest.mark.parametrize("n_problems", [20, 50, 134])
def test_ratio_interval_covers_as_it_says(n_problems):
    rng = np.random.default_rng(n_problems)
    difficulty = rng.gamma(4.0, 0.25, size=(n_problems, 2000))
    first_arm = difficulty * rng.gamma(8.0, 0.12 / 8, size=difficulty.shape)
    second_arm = difficulty * rng.gamma(8.0, 0.07 / 8, size=difficulty.shape)
    points = estimate_many(
        np.hstack([first_arm, second_arm]),
        lambda m: m[..., :2000] / m[..., 2000:],
        Resampling(seed=7, n_resamples=1000),
        None,
    )
    assert 0.93 <= share_covered(points, 0.12 / 0.07) <= 0.97


@pytest.mark.slow
def test_interval_near_a_bound_is_known_to_fall_short():
    # Written down in the module's docstring; a change of method should change both.
    arms, truths = simulate_pass_at_k(20, 8, 4, 2000, seed=1)
    points = estimate_many(arms[1][..., 1], keep_means, Resampling(7, 1000), None, support=(0, 1))
    assert truths[1, 1] == pytest.approx(0.89, abs=0.01)
    assert 0.84 < share_covered(points, truths[1, 1]) < 0.90


@pytest.mark.slow
def test_unpaired_difference_covers_when_pairing_is_independent():
    rng = np.random.default_rng(3)
    rates = np.array([[0.05, 0.3, 0.02, 0.2], [0.15, 0.5, 0.05, 0.42]])
    truth = (rates[1] - rates[0]).mean()
    hits = 0
    for _ in range(500):
        before, after = rng.binomial(25, rates)
        result = estimate_count_difference(before, after, np.full(4, 25), Resampling(1, 500))
        hits += result.low <= truth <= result.high
    assert 0.925 <= hits / 500 <= 0.985
