"""Power: closed forms of scipy, simulation, and plans that a reader can check by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import power
from panelbook.measure.passk import gap_closure, pass_at_k_matrix
from panelbook.measure.power import (
    Design,
    assess,
    assess_designs,
    design_band,
    design_closure,
    design_cost_ratio,
    design_gain,
    design_gap,
    design_ratio,
    detectable_effect,
    draws_needed,
    exaggeration,
    plan_from_rates,
    power_curve,
    power_of,
    problems_needed,
    simulate_power,
)
from panelbook.measure.simulate import Population, World, simulate_study
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=5, n_resamples=300)
WORLD = World(Population(1.0, 2.0), Population(2.0, 1.5), correlation=0.6)
PAIR = ("first", "second")


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(3)
    return simulate_study(*WORLD.draw(300, rng), 8, 8, rng).counts()


class TestPower:
    @pytest.mark.parametrize("n", [2, 5, 20, 100])
    @pytest.mark.parametrize("effect", [0.1, 0.3, 0.5])
    def test_it_is_the_noncentral_t_of_scipy(self, n, effect):
        df, shift = n - 1, effect * math.sqrt(n)
        critical = stats.t.isf(0.025, df)
        expected = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
        assert power_of(effect, 1.0, n) == pytest.approx(expected, abs=1e-4)

    def test_it_depends_on_the_ratio_of_effect_and_spread_and_not_on_the_sign(self):
        assert power_of(0.2, 0.5, 30) == pytest.approx(power_of(-0.4, 1.0, 30))

    def test_it_goes_from_the_level_to_one(self):
        values = [power_of(effect, 1.0, 25) for effect in (0.0, 0.2, 0.5, 1.0, 5.0, 50.0)]
        assert values[0] == pytest.approx(0.05, abs=1e-4)
        assert values == sorted(values)
        assert values[-1] == pytest.approx(1.0)

    def test_many_problems_make_it_normal(self):
        shift = 0.03 * math.sqrt(10_000)
        expected = stats.norm.sf(1.959964 - shift) + stats.norm.cdf(-1.959964 - shift)
        assert power_of(0.03, 1.0, 10_000) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize(("sd", "n"), [(0.0, 20), (-1.0, 20), (math.nan, 20), (1.0, 1)])
    def test_no_spread_or_one_problem_is_refused(self, sd, n):
        with pytest.raises(ValueError, match="two problems and a spread"):
            power_of(0.1, sd, n)


class TestDetectableEffect:
    @pytest.mark.parametrize("n", [2, 20, 134, 877])
    @pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95])
    def test_it_is_seen_with_the_wanted_chance(self, n, wanted):
        assert power_of(detectable_effect(0.7, n, wanted), 0.7, n) == pytest.approx(wanted, abs=1e-6)

    def test_many_problems_give_the_normal_formula(self):
        expected = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * 2.0 / math.sqrt(5000)
        assert detectable_effect(2.0, 5000) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("wanted", [0.0, 0.05, 1.0, 1.2])
    def test_a_chance_that_cannot_be_wanted_is_refused(self, wanted):
        with pytest.raises(ValueError, match="power must lie"):
            detectable_effect(1.0, 20, wanted)


class TestProblemsNeeded:
    @pytest.mark.parametrize("effect", [0.05, 0.2, 1.5])
    def test_one_problem_less_is_too_few(self, effect):
        n = problems_needed(effect, 1.0)
        assert power_of(effect, 1.0, n) >= 0.8 > power_of(effect, 1.0, n - 1)

    def test_the_table_of_cohen(self):
        # Cohen (1988), paired or one-sample t, two-sided 5%, power 80%: d = 0.2, 0.5, 0.8.
        assert [problems_needed(d, 1.0) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]

    def test_an_effect_of_nothing_needs_more_than_there_are(self):
        assert problems_needed(0.0, 1.0) is None


class TestPlanFromRates:
    def test_the_variance_is_that_of_simulated_problems(self):
        first, second = WORLD.population
        q, r = first.solve_P, second.solve_P
        design = plan_from_rates(0.05, q.mean(), r.mean(), 50, 4, np.corrcoef(q, r)[0, 1], float(q.std()))
        rng = np.random.default_rng(1)
        difference = (rng.binomial(4, q) - rng.binomial(4, r)) / 4
        # Both arms are given the spread of the first; the second's is 0.235 against 0.236 here.
        assert design.variance == pytest.approx(difference.var(), rel=0.03)

    def test_by_hand_with_problems_that_are_all_alike(self):
        design = plan_from_rates(0.1, 0.4, 0.5, 10, 5, sd_problems=0.0)
        assert design.between == pytest.approx(0.0)
        assert design.variance == pytest.approx((0.24 + 0.25) / 5)

    def test_correlated_arms_differ_less_between_problems(self):
        between = [plan_from_rates(0.1, 0.5, 0.5, 10, 5, r, 0.3).between for r in (-1.0, 0.0, 0.5, 1.0)]
        assert between == pytest.approx([0.36, 0.18, 0.09, 0.0])

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"effect": 0.0}, "effect must be"),
            ({"effect": 2.0}, "effect must be"),
            ({"pass_first": 0.0}, "pass_first"),
            ({"pass_second": 1.35}, "pass_second"),
            ({"n_problems": 1}, "2 problems"),
            ({"n_draws": 0}, "1 draw"),
            ({"correlation": 2.0}, "correlation"),
            ({"sd_problems": 0.6}, "sd_problems must lie between 0 and 0.458"),
            ({"pass_first": math.nan}, "pass_first"),
        ],
    )
    def test_a_value_out_of_range_is_named(self, change, said):
        plan = {"effect": 0.05, "pass_first": 0.3, "pass_second": 0.35, "n_problems": 100, "n_draws": 8}
        with pytest.raises(ValueError, match=said):
            plan_from_rates(**(plan | change))


class TestDrawsNeeded:
    def test_one_draw_less_is_too_few(self):
        design = plan_from_rates(0.1, 0.5, 0.5, 100, 1, correlation=0.9, sd_problems=0.3)
        n = draws_needed(design)
        assert n > 1
        assert power_of(0.1, design.sd_at(n), 100) >= 0.8 > power_of(0.1, design.sd_at(n - 1), 100)

    def test_it_is_impossible_where_the_problems_alone_differ_too_much(self):
        design = plan_from_rates(0.05, 0.5, 0.5, 100, 8, correlation=0.0, sd_problems=0.4)
        assert power_of(0.05, math.sqrt(design.between), 100) < 0.8
        assert draws_needed(design) is None
        assert assess(design).draws_note == power.IMPOSSIBLE

    def test_without_any_difference_between_problems_draws_alone_do_it(self):
        design = plan_from_rates(0.05, 0.5, 0.5, 100, 1, correlation=1.0, sd_problems=0.3)
        n = draws_needed(design)
        # 0.05 at 100 problems: the variance of a difference that gives 80%.
        sd = 0.05 / detectable_effect(1.0, 100)
        assert n == math.ceil(2 * (0.25 - 0.09) / sd**2)

    def test_where_single_draws_are_not_tracked_it_is_not_known(self):
        design = Design(0.1, 20, (4, 4), 0.04)
        with pytest.raises(ValueError, match="not known"):
            draws_needed(design)
        assert assess(design).draws_note == power.UNKNOWN


class TestDesignsOfCounts:
    def test_the_part_of_the_draws_of_pass_1_is_the_unbiased_one(self, counts):
        design = design_gap(counts, *PAIR, 1)
        per_arm = (
            counts.assign(part=counts["c"] * (8 - counts["c"]) / (8 * 7) / 8).groupby("arm")["part"].mean()
        )
        assert design.within_now == pytest.approx(per_arm.sum(), rel=1e-6)
        assert design.within(16) == pytest.approx(per_arm.sum() / 2, rel=1e-6)

    def test_the_variance_and_effect_are_those_of_the_problems(self, counts):
        wide = counts.pivot(index="problem_id", columns="arm", values="c") / 8
        difference = wide["first"] - wide["second"]
        design = design_gap(counts, *PAIR, 1)
        assert design.effect == pytest.approx(difference.mean())
        assert design.variance == pytest.approx(difference.var())
        assert (design.n_problems, design.n_draws) == (300, (8, 8))

    def test_both_parts_are_those_of_the_world_the_counts_come_from(self):
        rng = np.random.default_rng(4)
        first, second = WORLD.draw(20_000, rng)
        many = simulate_study(first, second, 8, 4, rng).counts()
        q, r = first.solve_P, second.solve_P
        design = design_gap(many, *PAIR, 1)
        assert design.between == pytest.approx((q - r).var(), rel=0.05)
        assert design.within_now == pytest.approx(
            np.mean(q * (1 - q)) / 8 + np.mean(r * (1 - r)) / 4, rel=0.03
        )

    @pytest.mark.parametrize("score", ["closure", "band"])
    def test_the_part_of_the_draws_is_that_of_repeated_draws(self, score):
        """Problems drawn again and again: the variance around each problem's own mean."""
        rng = np.random.default_rng(6)
        first, second = WORLD.draw(4000, rng)
        counts = simulate_study(first, second, 8, 8, rng).counts()
        make = {
            "closure": lambda t: design_closure(t, *PAIR, 1, 4),
            "band": lambda t: design_band(t, *PAIR, 4),
        }[score]
        repeats = [make(simulate_study(first, second, 8, 8, rng).counts()).values_P for _ in range(12)]
        assert make(counts).within_now == pytest.approx(np.var(repeats, axis=0, ddof=1).mean(), rel=0.06)

    def test_closure_is_the_books(self, counts):
        design = design_closure(counts, *PAIR, 1, 8)
        book = gap_closure(counts, *PAIR, 1, 8, R)
        assert design.effect == pytest.approx(book.value)
        half = design.sd / math.sqrt(300) * stats.t.isf(0.025, 299)
        assert (book.high - book.low) / 2 == pytest.approx(half, rel=0.1)
        assert design.least_draws == 8

    def test_more_draws_than_k_are_not_asked_for_in_vain(self, counts):
        design = design_closure(counts, *PAIR, 1, 4)
        parts = [design.within(n) for n in (4, 8, 16, 64)]
        assert parts == sorted(parts, reverse=True)
        assert parts[-1] < 0.2 * parts[0]

    def test_an_arm_that_is_never_right_adds_nothing(self):
        counts = pd.DataFrame(
            {"arm": ["a"] * 3 + ["b"] * 3, "problem_id": list("xyz") * 2, "n": 4, "c": [0, 0, 0, 1, 2, 4]}
        )
        design = design_gap(counts, "a", "b", 1)
        rates = np.array([1, 2, 4]) * (4 - np.array([1, 2, 4])) / 12
        assert design.within_now == pytest.approx(rates.mean() / 4)

    def test_bad_input_is_refused(self, counts):
        with pytest.raises(ValueError, match="k must not exceed"):
            design_gap(counts, *PAIR, 9)
        with pytest.raises(ValueError, match="no column"):
            design_gap(counts.drop(columns="c"), *PAIR, 1)
        with pytest.raises(ValueError, match="has no rows"):
            design_gap(counts, "first", "third", 1)
        one = counts[counts["problem_id"] == counts["problem_id"].iloc[0]]
        with pytest.raises(ValueError, match="two of them"):
            design_gap(one, *PAIR, 1)
        with pytest.raises(ValueError, match="n >= 2"):
            design_gap(counts.assign(n=1, c=0), *PAIR, 1)
        with pytest.raises(ValueError, match="all problems agree"):
            design_gap(counts.assign(c=4), *PAIR, 1)


class TestDesignsOfRatios:
    def test_the_spread_of_a_log_ratio_is_that_of_many_studies(self):
        rng = np.random.default_rng(7)
        logs, costs, designs = [], [], []
        for _ in range(120):
            counts = simulate_study(*WORLD.draw(80, rng), 4, 4, rng).counts()
            length, cost = design_ratio(counts, *PAIR, "mean_tokens"), design_cost_ratio(counts, *PAIR)
            logs.append(length.effect)
            costs.append(cost.effect)
            designs.append((length.variance, cost.variance))
        predicted = np.mean(designs, axis=0) / 80
        assert np.var(logs) == pytest.approx(predicted[0], rel=0.3)
        assert np.var(costs) == pytest.approx(predicted[1], rel=0.3)

    def test_the_effect_is_the_log_of_the_ratio(self, counts):
        means = counts.groupby("arm")["mean_tokens"].mean()
        assert design_ratio(counts, *PAIR, "mean_tokens").effect == pytest.approx(
            math.log(means["second"] / means["first"])
        )
        sums = counts.groupby("arm")["c"].sum()
        cost = 8 * 300 * means / sums
        assert design_cost_ratio(counts, *PAIR).effect == pytest.approx(
            math.log(cost["second"] / cost["first"])
        )

    def test_an_arm_that_is_never_right_has_no_cost(self, counts):
        never = counts.assign(c=counts["c"].where(counts["arm"] == "second", 0))
        with pytest.raises(ValueError, match="No draw is right"):
            design_cost_ratio(never, *PAIR)
        with pytest.raises(ValueError, match="finite"):
            design_ratio(counts.assign(mean_tokens=np.nan), *PAIR, "mean_tokens")


class TestDesignOfAGain:
    TICKS = pd.DataFrame(
        {"step": [0, 0, 90, 90], "source": ["a", "b"] * 2, "n_problems": [20, 30] * 2, "c": [2, 15, 8, 21]}
    )

    def test_the_variance_is_that_of_two_unrelated_looks(self):
        design = design_gain(self.TICKS, 0, 90)
        rng = np.random.default_rng(8)
        source = rng.choice(2, p=[0.4, 0.6], size=400_000)
        before, after = (rng.random(400_000) < np.array(p)[source] for p in ([0.1, 0.5], [0.4, 0.7]))
        difference = after.astype(float) - before
        assert design.effect == pytest.approx(12 / 50)
        assert design.variance == pytest.approx(difference.var(), rel=0.01)
        assert design.values_P.var() == pytest.approx(design.variance, rel=0.01)
        assert design.values_P.mean() == pytest.approx(design.effect, abs=1e-3)

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="steps 0 and 50"):
            design_gain(self.TICKS, 0, 50)
        with pytest.raises(ValueError, match="same problems"):
            design_gain(self.TICKS.assign(n_problems=[20, 30, 20, 31]), 0, 90)
        with pytest.raises(ValueError, match="no change that could vary"):
            design_gain(self.TICKS.assign(c=0), 0, 90)
        with pytest.raises(ValueError, match="no column 'c'"):
            design_gain(self.TICKS.drop(columns="c"), 0, 90)


class TestSimulation:
    def test_a_detectable_effect_is_seen_by_four_studies_in_five(self, counts):
        """Fresh studies from the world itself: tests formula, decomposition and t-test together."""
        design = design_gap(counts, *PAIR, 1)
        n_problems = 25
        effect = detectable_effect(design.sd, n_problems)
        rng = np.random.default_rng(9)
        first, second = WORLD.population
        shift = first.solve_P.mean() - second.solve_P.mean()
        seen = 0
        for _ in range(400):
            study = simulate_study(*WORLD.draw(n_problems, rng), 8, 8, rng)
            difference = study.first.c_P / 8 - study.second.c_P / 8 - shift + effect
            seen += stats.ttest_1samp(difference, 0).pvalue < 0.05
        assert seen / 400 == pytest.approx(0.8, abs=0.07)

    def test_the_share_seen_is_that_of_a_test_by_scipy(self, counts):
        design = design_gap(counts, *PAIR, 1)
        few = Design(design.effect, 30, (8, 8), design.variance, values_P=design.values_P)
        mine = simulate_power(few, 0.1, 500, R)
        pool = design.values_P - design.values_P.mean()
        pool = pool * design.sd / pool.std()
        sample = pool[R.generator().integers(len(pool), size=(500, 30))] + 0.1
        assert mine.value == np.mean(stats.ttest_1samp(sample, 0, axis=1).pvalue < 0.05)
        assert mine.low < mine.value < mine.high

    def test_without_an_effect_it_is_the_level(self, counts):
        assert simulate_power(design_gap(counts, *PAIR, 1), 0.0, 4000, R).value == pytest.approx(
            0.05, abs=0.015
        )

    def test_studies_with_little_power_exaggerate(self):
        values = np.random.default_rng(1).normal(size=2000)
        weak, strong = (Design(effect, 20, (1, 1), 1.0, values_P=values) for effect in (0.2, 2.0))
        factor = exaggeration(weak, 4000, R)
        # Of a normal estimate, given that it is significant; the t-test's critical value varies a little.
        draws = np.random.default_rng(2).normal(0.2, 1 / math.sqrt(20), 400_000)
        expected = np.abs(draws[np.abs(draws) > 2.093 / math.sqrt(20)]).mean() / 0.2
        assert factor.value == pytest.approx(expected, rel=0.1)
        assert exaggeration(strong, 1000, R).value == pytest.approx(1.0, abs=0.02)

    def test_an_effect_that_is_never_seen_has_no_factor(self):
        values = np.array([-1.0, 1.0] * 50)
        hidden = Design(1e-9, 3, (1, 1), 1.0, values_P=values)
        assert exaggeration(hidden, 1, R).reason

    def test_a_plan_has_no_problems_to_draw_from(self):
        with pytest.raises(ValueError, match="no problems to draw from"):
            simulate_power(plan_from_rates(0.1, 0.4, 0.5, 20, 4), 0.1, 100, R)


class TestTables:
    def test_every_design_is_assessed(self, counts):
        designs = {"gap": design_gap(counts, *PAIR, 1), "length": design_ratio(counts, *PAIR, "mean_tokens")}
        table = assess_designs(designs, 0.8, 200, R).set_index("name")
        for name, design in designs.items():
            found = assess(design)
            assert table.loc[name, "power"] == found.power
            assert table.loc[name, "detectable"] == found.detectable
            assert table.loc[name, "problems"] == found.problems
            assert table.loc[name, "low"] <= table.loc[name, "simulated"] <= table.loc[name, "high"]
        assert table.loc["gap", "draws"] == draws_needed(designs["gap"])
        assert pd.isna(table.loc["length", "draws"])
        assert table.loc["length", "draws_note"] == power.UNKNOWN

    def test_no_design_is_refused(self):
        with pytest.raises(ValueError, match="no design"):
            assess_designs({}, 0.8, 200, R)

    def test_a_curve_is_the_power_at_each_size(self, counts):
        design = design_gap(counts, *PAIR, 1)
        curve = power_curve(design, [5, 50])
        assert curve["power"].tolist() == [power_of(design.effect, design.sd, n) for n in (5, 50)]


def test_pass_at_k_of_the_quadrature_is_exact():
    """Gauss-Jacobi nodes integrate the variance of a score exactly under the beta distribution."""
    nodes, weights = power._rates(np.full(5, 4), np.arange(5))  # uniform counts: uniform rates
    score = lambda n, c: pass_at_k_matrix(n, c, [2])[:, 0]  # noqa: E731
    c = np.arange(5)
    values = score(np.full(5, 4), c)
    chance = lambda q: stats.binom.pmf(c, 4, q)  # noqa: E731
    exact = stats.uniform.expect(lambda q: chance(q) @ values**2 - (chance(q) @ values) ** 2)
    assert power._draw_variance(score, (nodes, weights), 4) == pytest.approx(exact, rel=1e-6)
