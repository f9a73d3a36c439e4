"""Simulated studies: what is drawn has the truth that is claimed, and the estimators tried are those of the book."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import simulate
from panelbook.measure.bands import compare_bands
from panelbook.measure.budget import compare_count_budgets
from panelbook.measure.diversity import compare_spread, mean_pairwise_distance
from panelbook.measure.hierarchical import bayes_pass_at_k
from panelbook.measure.passk import failure_ratio_change, gap_closure, pass_at_k_curve, pass_at_k_gap
from panelbook.measure.signal import compare_signal
from panelbook.measure.simulate import (
    COVERS,
    Estimator,
    OfMeans,
    Policy,
    Population,
    World,
    book_estimators,
    check_coverage,
    estimate_all,
    fit_population,
    fit_world,
    pooled_wilson,
    simulate_draws,
    simulate_rollouts,
    simulate_study,
    summarise_coverage,
)
from panelbook.measure.tokens import compare_at_equal_tokens, compare_cost, compare_lengths
from panelbook.measure.uncertainty import Estimate, Resampling

R = Resampling(seed=3, n_resamples=200)
K = 8
WORLD = World(
    Population(1.0, 2.0, median_tokens=800, distance=0.15),
    Population(2.0, 1.0, median_tokens=3000, slope=0.3),
    correlation=0.6,
)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(11)
    harder = dataclasses.replace(WORLD, second=dataclasses.replace(WORLD.second, a=1.0))
    return simulate_study(*harder.draw(30, rng), K, K, rng)


@pytest.fixture(scope="module")
def found(study):
    return estimate_all(study, book_estimators(K), R)


class TestPolicy:
    def test_solve_rate_and_length_under_a_limit_are_those_of_many_draws(self):
        policy = Policy(np.array([0.4, 0.9]), np.array([500.0, 2000.0]), sigma=0.7, max_tokens=1500.0)
        draws = simulate_draws(policy, 200_000, np.random.default_rng(1))
        assert draws.right_P_N.mean(axis=1) == pytest.approx(policy.solve_P, abs=0.005)
        assert draws.mean_tokens_P == pytest.approx(policy.length_P, rel=0.005)
        assert draws.tokens_P_N.max() == 1500.0

    def test_without_a_limit_they_are_the_rates_and_log_normal_means(self):
        policy = Policy(np.array([0.4]), 500.0, sigma=0.7)
        assert policy.solve_P == pytest.approx([0.4])
        assert policy.length_P == pytest.approx([stats.lognorm.mean(0.7, scale=500.0)])

    def test_lengths_that_do_not_vary_are_cut_or_not(self):
        policy = Policy(np.array([1.0, 1.0]), np.array([100.0, 300.0]), sigma=0.0, max_tokens=200.0)
        assert policy.solve_P.tolist() == [1.0, 0.0]
        assert policy.length_P.tolist() == [100.0, 200.0]

    def test_pass_at_k_is_that_of_every_sequence_of_draws(self):
        q = 0.3
        chance = sum(
            np.prod([q if right else 1 - q for right in draws])
            for draws in itertools.product((0, 1), repeat=3)
            if any(draws)
        )
        assert Policy(np.array([q])).pass_at(3) == pytest.approx(chance)

    @pytest.mark.parametrize(
        "bad",
        [
            {"q_P": np.array([1.2])},
            {"q_P": np.array([np.nan])},
            {"q_P": np.array([])},
            {"q_P": np.array([0.5]), "sigma": -1.0},
            {"q_P": np.array([0.5]), "median_tokens_P": 0.0},
            {"q_P": np.array([0.5]), "distance_P": 1.0},
            {"q_P": np.array([0.5]), "n_wrong_answers": 0},
        ],
    )
    def test_impossible_values_are_refused(self, bad):
        with pytest.raises(ValueError, match="got"):
            Policy(**bad)


class TestPopulation:
    def test_success_rates_follow_the_beta_distribution(self):
        first, _ = WORLD.population
        a, b = 1.0, 2.0
        assert first.q_P.mean() == pytest.approx(a / (a + b), abs=1e-4)
        assert first.q_P.var() == pytest.approx(stats.beta.var(a, b), abs=1e-4)
        assert first.pass_at(4) == pytest.approx(
            1 - stats.beta(a, b).expect(lambda q: (1 - q) ** 4), abs=2e-4
        )

    def test_pairing_has_the_correlation_that_was_asked_for(self):
        ease = [
            stats.norm.ppf(stats.beta.cdf(p.q_P, a, b))
            for p, a, b in zip(WORLD.population, (1, 2), (2, 1), strict=True)
        ]
        assert np.corrcoef(*ease)[0, 1] == pytest.approx(0.6, abs=0.01)

    def test_median_of_the_ratio_of_lengths_has_a_closed_form_without_a_limit(self):
        first, second = WORLD.population
        assert np.median(second.length_P / first.length_P) == pytest.approx(3000 / 800, rel=0.01)

    def test_drawn_problems_resemble_the_population(self):
        drawn = WORLD.draw(20_000, np.random.default_rng(2))
        for few, all_ in zip(drawn, WORLD.population, strict=True):
            assert few.q_P.mean() == pytest.approx(all_.q_P.mean(), abs=0.01)
            assert few.length_P.mean() == pytest.approx(all_.length_P.mean(), rel=0.03)

    def test_impossible_values_are_refused(self):
        with pytest.raises(ValueError, match="a > 0"):
            Population(0.0, 1.0)
        with pytest.raises(ValueError, match="correlation"):
            World(WORLD.first, WORLD.second, 1.5)


class TestStudy:
    def test_counts_add_up_the_draws(self, study):
        counts = study.counts()
        assert counts.groupby("arm").size().to_dict() == {"first": 30, "second": 30}
        first = counts[counts["arm"] == "first"]
        assert first["c"].tolist() == study.first.right_P_N.sum(axis=1).tolist()
        assert first["mean_tokens"].to_numpy() == pytest.approx(study.first.tokens_P_N.mean(axis=1))

    def test_distances_are_those_of_vectors_with_orthogonal_parts_of_their_own(self):
        s = np.random.default_rng(5).uniform(0.5, 1.0, 6)
        vectors = np.column_stack([s, np.diag(np.sqrt(1 - s**2))])
        expected = 1.0 - (s.sum() ** 2 - (s**2).sum()) / (6 * 5)
        assert mean_pairwise_distance(vectors) == pytest.approx(expected)

    def test_the_expected_distance_is_the_policys(self):
        policy = Policy(np.full(20_000, 0.5), distance_P=0.2)
        draws = simulate_draws(policy, 3, np.random.default_rng(6))
        assert draws.distance_P.mean() == pytest.approx(0.2, abs=0.003)

    def test_one_draw_has_no_distance(self):
        draws = simulate_draws(Policy(np.array([0.5])), 1, np.random.default_rng(6))
        assert np.isnan(draws.distance_P).all()

    def test_the_same_seed_gives_the_same_study_and_another_another(self):
        policy = Policy(np.full(50, 0.5))
        one, same, other = (simulate_draws(policy, 8, np.random.default_rng(s)) for s in (1, 1, 2))
        assert np.array_equal(one.right_P_N, same.right_P_N)
        assert not np.array_equal(one.right_P_N, other.right_P_N)

    def test_rollouts_say_of_each_draw_what_became_of_it(self):
        policy = Policy(np.full(400, 0.5), 1000.0, sigma=0.5, max_tokens=1200.0, n_wrong_answers=2)
        rows = simulate_rollouts(policy, policy, 4, 2, np.random.default_rng(7))
        assert rows.groupby("arm").size().to_dict() == {"first": 1600, "second": 800}
        assert not rows.duplicated(["arm", "problem_id", "sample_id"]).any()
        assert set(rows.loc[rows["status"] == "correct", "predicted"]) == {"right"}
        assert set(rows.loc[rows["status"] == "wrong", "predicted"]) == {"wrong 1", "wrong 2"}
        cut = rows["status"] == "no_answer"
        assert rows.loc[cut, "predicted"].isna().all()
        assert (rows.loc[cut, "completion_tokens"] == 1200).all()
        assert (rows.loc[~cut, "completion_tokens"] <= 1200).all()
        assert cut.mean() == pytest.approx(stats.lognorm.sf(1200, 0.5, scale=1000), abs=0.03)
        assert (rows["status"] == "correct").mean() == pytest.approx(policy.solve_P[0], abs=0.03)

    def test_bad_input_is_refused(self):
        one, two = Policy(np.array([0.5])), Policy(np.array([0.5, 0.5]))
        with pytest.raises(ValueError, match="same problems"):
            simulate_study(one, two, 4, 4, np.random.default_rng(1))
        with pytest.raises(ValueError, match="n must be 1"):
            simulate_study(one, one, 4, 0, np.random.default_rng(1))


class TestFit:
    def test_a_population_is_found_again_from_many_counts(self):
        rng = np.random.default_rng(8)
        first, second = WORLD.draw(4000, rng)
        world = fit_world(simulate_study(first, second, 8, 4, rng).counts(), "first", "second")
        assert (world.first.a, world.first.b) == pytest.approx((1.0, 2.0), rel=0.1)
        assert (world.second.a, world.second.b) == pytest.approx((2.0, 1.0), rel=0.1)
        assert world.correlation == pytest.approx(0.6, abs=0.05)
        assert world.second.median_tokens == pytest.approx(3000, rel=0.05)

    def test_the_moments_are_those_of_the_counts(self):
        rows = pd.DataFrame({"n": [4, 4, 4, 4], "c": [0, 1, 3, 4]})
        population = fit_population(rows)
        m, square = 0.5, np.mean([0, 0, 3 * 2 / 12, 1])
        assert stats.beta.mean(population.a, population.b) == pytest.approx(m)
        assert stats.beta.var(population.a, population.b) == pytest.approx(square - m**2)

    def test_problems_that_are_all_alike_get_a_narrow_population(self):
        population = fit_population(pd.DataFrame({"n": 8, "c": [4, 4, 4]}))
        assert stats.beta.std(population.a, population.b) < 0.02

    def test_arms_that_move_apart_have_the_least_correlation_tried(self):
        counts = pd.DataFrame(
            {
                "arm": ["a"] * 4 + ["b"] * 4,
                "problem_id": list("wxyz") * 2,
                "n": 8,
                "c": [0, 2, 6, 8, 8, 6, 2, 0],
            }
        )
        assert fit_world(counts, "a", "b").correlation < -0.9

    @pytest.mark.parametrize("c", [[0, 0], [4, 4]])
    def test_an_arm_without_right_or_wrong_draws_is_refused(self, c):
        with pytest.raises(ValueError, match="right and wrong draws"):
            fit_population(pd.DataFrame({"n": 4, "c": c}))


class TestEstimatorsAreThoseOfTheBook:
    """Values and intervals equal those of the function that a chapter calls, seed for seed."""

    def check(self, estimate: Estimate, book: Estimate, interval=True):
        assert estimate.value == pytest.approx(book.value, rel=1e-9)
        if interval:
            assert (estimate.low, estimate.high) == pytest.approx((book.low, book.high), rel=1e-9)

    def of_row(self, table, column="estimate", **where):
        for key, value in where.items():
            table = table[table[key] == value]
        row = table.iloc[0]
        return Estimate(row[column], row["low"], row["high"], None, None, "x")

    def test_pass_at_k_and_gaps(self, study, found):
        counts = study.counts()
        curve = pass_at_k_curve(counts, [1, K], R)
        gap = pass_at_k_gap(counts, "first", "second", [1, K], R)
        # Few distinct rows are resampled by a shorter way, with other random numbers: values only.
        self.check(found["pass_1_first"], self.of_row(curve, arm="first", k=1), interval=False)
        self.check(found["pass_k_second"], self.of_row(curve, arm="second", k=K), interval=False)
        self.check(found["gap_1"], self.of_row(gap, "gap", k=1))
        self.check(found["gap_k"], self.of_row(gap, "gap", k=K))
        self.check(found["closure"], gap_closure(counts, "first", "second", 1, K, R))
        self.check(
            found["failure_ratio_change"],
            failure_ratio_change(counts, "first", "second", 1, K, R),
            interval=False,
        )

    def test_lengths_costs_and_equal_tokens(self, study, found):
        counts = study.counts()
        lengths = compare_lengths(counts, "first", "second", R)
        cost = compare_cost(counts, "first", "second", R)
        self.check(found["length_ratio"], lengths.ratio_of_means)
        self.check(found["length_geometric"], lengths.geometric_mean_ratio)
        self.check(found["length_median"], lengths.median_ratio)
        self.check(found["cost_first"], cost.first)
        self.check(found["cost_ratio"], cost.ratio)
        k, whole = compare_at_equal_tokens(counts, "first", "second", R)
        assert 1 < k < K
        self.check(found["equal_tokens_whole"], whole)
        self.check(found["equal_tokens"], compare_count_budgets(counts, "first", "second", 0.5, R).equal.gap)

    def test_bands_signal_and_spread(self, study, found):
        counts = study.counts()
        band = compare_bands(counts, "first", "second", R).set_index("band").loc["variance_band"]
        assert found["band_ratio"].value == pytest.approx(band["ratio"])
        assert found["band_difference"].value == pytest.approx(band["difference"])
        signal = compare_signal(counts, "first", "second", K, R)
        self.check(found["signal_ratio"], self.of_row(signal, quantity="ratio"))
        self.check(found["signal_first"], self.of_row(signal, quantity="first"))
        spread = compare_spread(counts, "first", "second", R, 999)
        self.check(found["spread_excess"], spread.relative_difference)

    def test_the_credible_interval_is_that_of_the_hierarchical_model(self, study, found):
        table = bayes_pass_at_k(study.counts(), [K], R, 20_000)
        row = table[(table["arm"] == "first") & (table["target"] == "population")].iloc[0]
        mine = found["bayes_pass_k"]
        assert (mine.value, mine.low, mine.high) == pytest.approx(
            (row["estimate"], row["low"], row["high"]), abs=0.02
        )

    def test_where_all_problems_agree_the_exact_bound_is_used(self):
        sure = Policy(np.ones(25))
        found = estimate_all(
            simulate_study(sure, sure, K, K, np.random.default_rng(1)), book_estimators(K), R
        )
        assert found["pass_1_first"].low == pytest.approx(0.05 ** (1 / 25))
        assert "exact" in found["gap_1"].method
        assert found["failure_ratio"].low is None

    def test_names_and_titles_are_unique_and_the_unused_say_why(self):
        estimators = book_estimators(K)
        assert len({e.name for e in estimators}) == len({e.title for e in estimators}) == len(estimators)
        assert all(e.why for e in estimators if not e.recommended)

    def test_one_draw_is_refused(self):
        with pytest.raises(ValueError, match="k must be 2"):
            book_estimators(1)


class TestTruth:
    def test_the_mean_of_many_studies_is_the_truth(self):
        """Unbiased estimators only: the mean over studies lies within the Monte Carlo error of the truth."""
        names = [
            "pass_1_first",
            "pass_k_second",
            "power_k_first",
            "g_pass_first",
            "gap_k",
            "closure",
            "band_first",
        ]
        names += ["mixed_first", "signal_first", "band_difference"]
        chosen = [e for e in book_estimators(4) if e.name in names]
        rng = np.random.default_rng(9)
        study = simulate_study(*WORLD.draw(60_000, rng), 4, 4, rng)
        for estimator in chosen:
            values = estimator.method.statistic(estimator.method.columns(study))
            error = values.std() / np.sqrt(len(values))
            assert values.mean() == pytest.approx(estimator.truth(*WORLD.population), abs=4 * error), (
                estimator.name
            )

    def test_ratios_of_a_large_study_are_the_true_ones(self):
        rng = np.random.default_rng(10)
        study = simulate_study(*WORLD.draw(100_000, rng), 8, 8, rng)
        for estimator in book_estimators(8):
            if not isinstance(estimator.method, OfMeans) or not estimator.recommended:
                continue
            value = estimator.method.statistic(estimator.method.columns(study).mean(axis=0))
            assert float(value) == pytest.approx(estimator.truth(*WORLD.population), rel=0.03, abs=0.01), (
                estimator.name
            )


class TestWilson:
    def test_it_is_the_interval_of_scipy(self):
        mine = pooled_wilson(7, 40, 0.9)
        theirs = stats.binomtest(7, 40).proportion_ci(0.9, method="wilson")
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))

    def test_impossible_counts_are_refused(self):
        with pytest.raises(ValueError, match="c=5, n=4"):
            pooled_wilson(5, 4)

    def test_the_unpaired_interval_is_welchs(self, study, found):
        theirs = stats.ttest_ind(
            study.first.passes(1)[:, 0], study.second.passes(1)[:, 0], equal_var=False
        ).confidence_interval(0.95)
        mine = found["unpaired_gap"]
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))


def constant(low, high, name="fixed", every=1):
    """An estimator of 0 that always gives the same interval."""
    return Estimator(
        name,
        name,
        lambda f, s: 0.0,
        lambda x, r: Estimate((low + high) / 2, low, high, None, None, "x"),
        every=every,
    )


class TestCoverage:
    def test_counting_is_right_for_intervals_known_beforehand(self):
        estimators = [
            constant(-1.0, 1.0, "always"),
            constant(-2.0, -1.0, "below"),
            constant(1.0, 2.0, "above", every=5),
            Estimator(
                "none",
                "none",
                lambda f, s: 0.0,
                lambda x, r: Estimate(0.0, None, None, None, None, "x", "why"),
            ),
        ]
        table = check_coverage(WORLD, [5], 2, estimators, 20, R).set_index("estimator")
        assert table["coverage"].tolist()[:3] == [1.0, 0.0, 0.0]
        assert np.isnan(table.loc["none", "coverage"])
        assert table["verdict"].tolist() == ["too wide", "short", "short", "no interval"]
        assert table["n_studies"].tolist() == [20, 20, 4, 0]
        assert table["too_low"].tolist() == [0, 20, 0, 0]
        assert table["too_high"].tolist() == [0, 0, 4, 0]
        assert table["bias"].tolist() == [0.0, -1.5, 1.5, 0.0]
        assert table["width"].tolist()[:3] == [2.0, 1.0, 1.0]
        assert "skewed" in table.loc["below", "reason"]
        assert table.loc["always", "low"] == pytest.approx(0.025 ** (1 / 20))

    def test_a_paired_gap_keeps_its_promise_and_pooled_draws_do_not(self):
        chosen = [e for e in book_estimators(K) if e.name in ("gap_1", "pooled_wilson", "plug_in_k")]
        table = check_coverage(WORLD, [60], K, chosen, 150, Resampling(4, 200)).set_index("estimator")
        assert table.loc["gap_1", "high"] > 0.95 > 0.90 < table.loc["gap_1", "coverage"]
        assert table.loc["pooled_wilson", "coverage"] < 0.85
        assert "independent" in table.loc["pooled_wilson", "reason"]
        assert table.loc["plug_in_k", "bias"] < -4 * table.loc["plug_in_k", "bias_se"]
        assert abs(table.loc["gap_1", "bias"]) < 4 * table.loc["gap_1", "bias_se"]

    def test_rates_near_an_end_are_named_as_a_reason(self):
        easy = World(Population(60.0, 0.3), Population(60.0, 0.3))
        chosen = [e for e in book_estimators(K) if e.name == "pass_k_first"]
        row = check_coverage(easy, [20], K, chosen, 40, R).iloc[0]
        assert row["alike"] > simulate.MOSTLY_ALIKE
        assert row["verdict"] == "too wide"
        assert "same value" in row["reason"]

    def test_the_same_seed_gives_the_same_table(self):
        chosen = [e for e in book_estimators(4) if e.name in ("closure", "length_median")]
        one, same = (check_coverage(WORLD, [10, 20], 4, chosen, 5, R) for _ in range(2))
        pd.testing.assert_frame_equal(one, same)

    def test_bad_input_is_refused(self):
        for sizes, n in (([20], 1), ([1], 10)):
            with pytest.raises(ValueError, match="2 or more"):
                check_coverage(WORLD, sizes, 4, book_estimators(4), n, R)


class TestSummary:
    def table(self, coverages):
        rows = [
            {
                "estimator": "x",
                "title": "x",
                "recommended": True,
                "n_problems": p,
                "coverage": c,
                "low": c - 0.01,
                "high": c + 0.01,
                "verdict": "covers" if COVERS[0] <= c <= COVERS[1] else "short",
                "reason": f"at {p}",
            }
            for p, c in coverages.items()
        ]
        return pd.DataFrame(rows)

    @pytest.mark.parametrize(
        ("coverages", "kept", "worst"),
        [
            ({20: 0.80, 50: 0.94, 134: 0.95}, 50, 20),
            ({20: 0.94, 50: 0.80, 134: 0.95}, 134, 50),
            ({20: 0.95, 50: 0.96, 134: 0.80}, 0, 134),
            ({20: 0.95, 50: 0.96, 134: 0.945}, 20, 50),
        ],
    )
    def test_the_promise_counts_from_where_all_larger_studies_keep_it(self, coverages, kept, worst):
        row = summarise_coverage(self.table(coverages)).iloc[0]
        assert (row["kept_from"], row["at"]) == (kept, worst)
        assert row["reason"] == f"at {worst}"

    def test_an_estimator_without_intervals_has_no_worst_coverage(self):
        row = summarise_coverage(self.table({20: np.nan, 50: np.nan})).iloc[0]
        assert np.isnan(row["worst"])
        assert row["kept_from"] == 0
