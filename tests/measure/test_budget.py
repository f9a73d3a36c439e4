"""Budgets: pass and majority at a budget against every order of the draws, caps against a recount, prices by hand."""

import doctest
from collections import Counter
from itertools import permutations
from math import comb

import numpy as np
import pandas as pd
import pytest

from panelbook.measure import budget
from panelbook.measure.budget import (
    cap_sensitivity,
    compare_count_budgets,
    compare_dollars,
    compare_draw_budgets,
    compare_until_right,
    log_grid,
    score_budgets,
    summarise_draws,
    token_limit,
)
from panelbook.measure.passk import pass_at_k
from panelbook.measure.tokens import compare_at_equal_tokens, compare_cost
from panelbook.measure.uncertainty import Resampling, estimate
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

R = Resampling(seed=20260424, n_resamples=400)


def one_problem(tokens, answers, arm="a", problem="p"):
    """Draws of one problem; the answer "R" is right, None is no answer, anything else is wrong."""
    status = {"R": "correct", None: "no_answer"}
    return pd.DataFrame(
        {
            "arm": arm,
            "problem_id": problem,
            "sample_id": range(len(tokens)),
            "completion_tokens": tokens,
            "status": [status.get(answer, "wrong") for answer in answers],
            "predicted": pd.array(answers, dtype="string"),
        }
    )


def make_rollouts(n_problems=12, n_draws=5, seed=0, arms=(("a", 60.0), ("b", 150.0)), wrong=3):
    rng = np.random.default_rng(seed)
    tables = []
    for arm, mean in arms:
        for p in range(n_problems):
            rate = rng.beta(0.8, 0.8)
            answers = [
                "R" if rng.random() < rate else str(rng.integers(wrong)) if rng.random() < 0.9 else None
                for _ in range(n_draws)
            ]
            tokens = rng.integers(int(mean / 3), int(2 * mean), n_draws)
            tables.append(one_problem(tokens, answers, arm, f"p{p:02d}"))
    return pd.concat(tables, ignore_index=True)


def by_enumeration(draws, budget_tokens, quantity):
    """Spend a budget draw by draw in every order, as the definition says it."""
    tokens, status = draws["completion_tokens"].tolist(), draws["status"].tolist()
    predicted = draws["predicted"].tolist()
    scores = []
    for order in permutations(range(len(tokens))):
        left, finished = budget_tokens, []
        for i in order:
            if tokens[i] > left:  # cut: it costs what is left and counts as wrong
                break
            left -= tokens[i]
            finished.append(i)
        if quantity == "pass":
            scores.append(float(any(status[i] == "correct" for i in finished)))
            continue
        votes = Counter(
            "right" if status[i] == "correct" else predicted[i] for i in finished if status[i] != "no_answer"
        )
        leaders = [answer for answer, n in votes.items() if n == max(votes.values())]
        scores.append(("right" in leaders) / len(leaders) if leaders else 0.0)
    return np.mean(scores)


class TestScore:
    @pytest.mark.parametrize("quantity", ["pass", "majority"])
    def test_agrees_with_every_order_of_the_draws(self, quantity):
        draws = make_rollouts(n_problems=8, arms=(("a", 60.0),))
        budgets = [20, 45, 90, 91, 150, 220, 400, 1000]
        got = score_budgets(draws, "a", budgets, quantity, n_orders=120)
        for i, problem in enumerate(got.problem_ids_P):
            rows = draws[draws["problem_id"] == problem]
            expected = [by_enumeration(rows, b, quantity) for b in budgets]
            assert got.score_P_G[i] == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("quantity", ["pass", "majority"])
    def test_random_orders_come_close_to_all_of_them(self, quantity):
        draws = make_rollouts(n_problems=10, n_draws=6, arms=(("a", 60.0),), seed=3)
        budgets = [60, 120, 200, 300]
        exact = score_budgets(draws, "a", budgets, quantity, n_orders=720).score_P_G
        sampled = score_budgets(draws, "a", budgets, quantity, seed=5, n_orders=700).score_P_G
        assert np.abs(sampled - exact).max() < 5 * 0.5 / np.sqrt(700)
        assert not np.array_equal(sampled, exact)

    def test_draws_of_one_length_give_pass_at_k(self):
        n, length = 6, 100
        draws = pd.concat(
            [one_problem([length] * n, ["R"] * c + ["0"] * (n - c), problem=f"p{c}") for c in range(n + 1)]
        )
        budgets = np.array([k * length for k in range(1, n + 1)])
        got = score_budgets(draws, "a", budgets, n_orders=720).score_P_G
        expected = [[pass_at_k(n, c, k) for k in range(1, n + 1)] for c in range(n + 1)]
        assert got == pytest.approx(np.array(expected), abs=1e-12)
        short = score_budgets(draws, "a", budgets - 1, n_orders=720).score_P_G  # the k-th draw is cut
        assert short[:, 1:] == pytest.approx(got[:, :-1], abs=1e-12)
        assert (short[:, 0] == 0).all()

    def test_majority_of_one_length_is_that_of_all_subsets(self):
        answers, k = ["R", "R", "x", "x", "y"], 3
        draws = one_problem([10] * 5, answers)
        total = 0.0
        for subset in {tuple(sorted(order[:k])) for order in permutations(range(5))}:
            votes = Counter(answers[i] for i in subset)
            leaders = [a for a, n in votes.items() if n == max(votes.values())]
            total += ("R" in leaders) / len(leaders)
        got = score_budgets(draws, "a", [k * 10], "majority", n_orders=120).score_P_G[0, 0]
        assert got == pytest.approx(total / comb(5, k))

    def test_a_majority_that_loses_its_lead_counts_as_wrong(self):
        draws = pd.concat(
            [one_problem([10] * 3, ["R", "x", "x"]), one_problem([10] * 2, [None, None], problem="q")]
        )
        got = score_budgets(draws, "a", [10, 20, 30], "majority").score_P_G
        assert got[0] == pytest.approx([1 / 3, 1 / 3, 0.0])  # of two draws: two ties of a half, one defeat
        assert (got[1] == 0).all()

    def test_does_not_depend_on_the_order_of_rows_and_repeats_by_seed(self):
        draws = make_rollouts(n_draws=9, arms=(("a", 60.0),))
        shuffled = draws.sample(frac=1, random_state=1)
        one, two = (score_budgets(table, "a", [80, 200], seed=4).score_P_G for table in (draws, shuffled))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, score_budgets(draws, "a", [80, 200], seed=5).score_P_G)

    def test_problems_may_have_different_numbers_of_draws(self):
        draws = pd.concat(
            [one_problem([30, 40], ["R", "0"]), one_problem([30, 40, 50], ["0", "0", "R"], problem="q")]
        )
        got = score_budgets(draws, "a", [50, 70, 120])
        for i, problem in enumerate("pq"):
            rows = draws[draws["problem_id"] == problem]
            expected = [by_enumeration(rows, b, "pass") for b in (50, 70, 120)]
            assert got.score_P_G[i] == pytest.approx(expected)
        assert got.drawn_P.tolist() == [70.0, 120.0]

    def test_mean_over_samples_is_the_truth_where_the_draws_last(self):
        """Unbiased: draws of 10 or 20 tokens, right with 0.3; at B = 40 the draws of n = 5 always suffice."""
        rng = np.random.default_rng(0)
        n_problems, n = 4000, 5
        tokens = rng.choice([10, 20], (n_problems, n))
        right = rng.random((n_problems, n)) < 0.3
        draws = pd.DataFrame(
            {
                "arm": "a",
                "problem_id": np.repeat(np.arange(n_problems), n),
                "sample_id": np.tile(np.arange(n), n_problems),
                "completion_tokens": tokens.ravel(),
                "status": np.where(right.ravel(), "correct", "wrong"),
            }
        )
        chance = np.zeros(5)  # of finishing a right draw with 0, 10, ... 40 tokens left
        for left in range(1, 5):
            for length in (1, 2):
                if length <= left:
                    chance[left] += 0.5 * (0.3 + 0.7 * chance[left - length])
        scores = score_budgets(draws, "a", [40]).score_P_G[:, 0]
        assert abs(scores.mean() - chance[4]) < 4 * scores.std() / np.sqrt(n_problems)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.drop(columns="status"), "no column 'status'"),
            (lambda t: t.assign(arm="z"), "arm 'a' has no draws"),
            (lambda t: t.assign(sample_id=0), "must be unique"),
            (lambda t: t.assign(completion_tokens=np.nan), "completion_tokens must be a number from 0"),
            (lambda t: t.assign(completion_tokens=-1), "completion_tokens must be a number from 0"),
            (lambda t: t.iloc[:0], "has no draws"),
        ],
    )
    def test_refuses_broken_tables(self, change, message):
        with pytest.raises(ValueError, match=message):
            score_budgets(change(one_problem([10, 20], ["R", "0"])), "a", [10])

    @pytest.mark.parametrize("budgets", [[], [0, 10], [20, 10], [10, 10]])
    def test_refuses_budgets_that_do_not_grow(self, budgets):
        with pytest.raises(ValueError, match="budgets_G"):
            score_budgets(one_problem([10], ["R"]), "a", budgets)

    def test_refuses_an_unknown_quantity_and_no_order(self):
        draws = one_problem([10], ["R"])
        with pytest.raises(ValueError, match="quantity"):
            score_budgets(draws, "a", [10], "vote")
        with pytest.raises(ValueError, match="n_orders"):
            score_budgets(draws, "a", [10], n_orders=0)


class TestDrawBudgets:
    @pytest.fixture(scope="class")
    @staticmethod
    def rollouts():
        return make_rollouts(n_problems=20, n_draws=8, seed=2)

    @pytest.fixture(scope="class")
    @staticmethod
    def compared(rollouts):
        return compare_draw_budgets(rollouts, "a", "b", 0.5, R)

    def test_curve_is_the_mean_score_and_ends_where_a_problem_runs_out(self, rollouts, compared):
        for arm, limit in zip("ab", compared.limits, strict=True):
            spent = rollouts[rollouts["arm"] == arm].groupby("problem_id")["completion_tokens"].sum()
            assert limit == spent.min()
            rows = compared.curve[compared.curve["arm"] == arm]
            assert (rows["observed"] == (rows["budget"] <= limit)).all()
            seen = rows[rows["observed"]]
            scores = score_budgets(rollouts, arm, rows["budget"], seed=R.seed).score_P_G.mean(axis=0)
            assert seen["estimate"].to_numpy() == pytest.approx(scores[: len(seen)], abs=0.03)
            assert (np.diff(seen["estimate"]) >= -1e-12).all()
            assert rows.loc[~rows["observed"], ["estimate", "low", "high"]].isna().all(axis=None)
        assert compared.curve["observed"].sum() < len(compared.curve)

    def test_gaps_stand_at_mean_draws_and_at_the_end(self, rollouts, compared):
        means = rollouts.groupby("arm")["completion_tokens"].mean()  # every problem has as many draws
        assert compared.low.budget == pytest.approx(means["a"])
        assert compared.equal.budget == pytest.approx(means["b"])
        assert compared.high.budget == min(compared.limits)
        for gap in (compared.low, compared.equal, compared.high):
            a, b = (
                score_budgets(rollouts, arm, [gap.budget], n_orders=1000).score_P_G.mean() for arm in "ab"
            )
            assert gap.gap.value == pytest.approx(a - b, abs=0.03)
            assert gap.gap.low <= gap.gap.value <= gap.gap.high

    def test_swapping_the_arms_turns_the_signs(self, rollouts, compared):
        swapped = compare_draw_budgets(rollouts, "b", "a", 0.5, R)
        assert swapped.high.gap.value == pytest.approx(-compared.high.gap.value)
        assert swapped.crossover.leader == compared.crossover.leader
        assert swapped.first_coverage.value == compared.second_coverage.value

    def test_an_arm_whose_draws_end_first_is_named_and_credited_with_all_of_them(self):
        rollouts = make_rollouts(n_draws=3, arms=(("a", 30.0), ("b", 600.0)))
        compared = compare_draw_budgets(rollouts, "a", "b", 0.5, R)
        assert compared.equal.short_of == "a"
        assert compared.low.short_of == compared.high.short_of == ""
        limit = compared.limits[0]
        a = score_budgets(rollouts, "a", [limit]).score_P_G.mean()
        b = score_budgets(rollouts, "b", [compared.equal.budget]).score_P_G.mean()
        assert compared.equal.gap.value == pytest.approx(a - b)

    def test_problems_of_one_arm_only_are_counted_and_left_out(self, rollouts):
        more = pd.concat([rollouts, one_problem([1], ["0"], "a", "only")])
        compared = compare_draw_budgets(more, "a", "b", 0.5, R)
        assert compared.high.gap.n_unpaired == 1
        assert compared.limits == compare_draw_budgets(rollouts, "a", "b", 0.5, R).limits

    def test_crossover_of_a_fast_starter_and_a_late_one(self):
        """a: short draws, right on the first half of the problems; b: one long draw each, always right."""
        tables = []
        for p in range(30):
            tables.append(one_problem([100] * 6, ["R" if p % 2 else "0"] * 6, "a", f"p{p:02d}"))
            tables.append(one_problem([350 + 2 * p] * 6, ["R"] * 6, "b", f"p{p:02d}"))
        compared = compare_draw_budgets(pd.concat(tables), "a", "b", 0.9, R)
        crossing = compared.crossover
        assert (crossing.leader, crossing.follower) == ("a", "b")
        # b passes a when more than half of its draws fit: at 350 + 2 * 15 tokens
        assert 378 <= crossing.tokens.value <= 395
        assert crossing.tokens.low <= crossing.tokens.value <= crossing.tokens.high
        assert crossing.share_without == 0
        assert compared.second_coverage.value >= 350 + 2 * 26  # 27 of 30
        assert "do not reach" in compared.first_coverage.reason

    def test_refuses_arms_without_a_shared_problem_and_empty_draws(self):
        with pytest.raises(ValueError, match="share no problem_id"):
            compare_draw_budgets(
                pd.concat([one_problem([1], ["R"]), one_problem([1], ["R"], "b", "q")]), "a", "b", 0.5, R
            )
        with pytest.raises(ValueError, match="draws with tokens"):
            compare_draw_budgets(
                pd.concat([one_problem([0], ["0"]), one_problem([1], ["R"], "b")]), "a", "b", 0.5, R
            )

    def test_one_problem_and_one_draw_give_values_without_intervals(self):
        table = pd.concat([one_problem([10], ["R"]), one_problem([20], ["R"], "b")])
        compared = compare_draw_budgets(table, "a", "b", 0.5, R)
        assert compared.equal.gap.low is None
        assert "at least two" in compared.equal.gap.reason
        assert compared.crossover.tokens.low is None


def make_counts(n_problems=25, n=(16, 16), factor=4.0, seed=0, gain=0.15):
    rng = np.random.default_rng(seed)
    base, rate = rng.lognormal(6.0, 0.4, n_problems), rng.beta(1.0, 2.0, n_problems)
    tables = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:02d}" for i in range(n_problems)],
                "n": size,
                "c": rng.binomial(size, np.clip(rate + more, 0, 1)),
                "mean_tokens": scale * base,
            }
        )
        for arm, size, scale, more in (("a", n[0], 1.0, 0.0), ("b", n[1], factor, gain))
    ]
    return pd.concat(tables, ignore_index=True)


class TestCountBudgets:
    def test_whole_ratio_of_lengths_is_pass_at_k_against_pass_at_1(self):
        counts = make_counts(factor=4.0)
        k, whole = compare_at_equal_tokens(counts, "a", "b", R)
        compared = compare_count_budgets(counts, "a", "b", 0.5, R)
        assert k == 4
        assert compared.equal.gap.value == pytest.approx(whole.value)
        assert compared.equal.gap.low == pytest.approx(whole.low, abs=0.01)
        assert compared.equal.short_of == ""
        assert compared.equal.budget == pytest.approx(counts.loc[counts["arm"] == "b", "mean_tokens"].mean())

    def test_half_a_draw_more_lies_half_way(self):
        counts = make_counts(factor=4.5)
        compared = compare_count_budgets(counts, "a", "b", 0.5, R)
        a, b = (counts[counts["arm"] == arm] for arm in "ab")
        four, five = (
            np.mean([pass_at_k(n, c, k) for n, c in zip(a["n"], a["c"], strict=True)]) for k in (4, 5)
        )
        assert compared.equal.gap.value == pytest.approx((four + five) / 2 - (b["c"] / b["n"]).mean())

    def test_budget_below_one_draw_buys_nothing_unless_problems_may_be_skipped(self):
        counts = make_counts(factor=4.0)
        rate = {arm: (rows["c"] / rows["n"]).mean() for arm, rows in counts.groupby("arm")}
        every, some = (
            compare_count_budgets(counts, "a", "b", 0.5, R, every_problem=flag) for flag in (True, False)
        )
        assert every.low.gap.value == pytest.approx(rate["a"])
        assert some.low.gap.value == pytest.approx(rate["a"] - rate["b"] / 4)

    def test_draws_that_end_first_are_named_and_the_value_is_that_of_all_of_them(self):
        counts = make_counts(n=(4, 4), factor=7.5)
        compared = compare_count_budgets(counts, "a", "b", 0.5, R)
        assert compared.equal.short_of == "a"
        k, whole = compare_at_equal_tokens(counts, "a", "b", R)
        assert k == 4
        assert compared.equal.gap.value == pytest.approx(whole.value)
        assert "end before one mean draw" in compared.crossover.tokens.reason

    def test_curve_costs_k_mean_draws(self):
        counts = make_counts(n=(3, 2))
        curve = compare_count_budgets(counts, "a", "b", 0.5, R).curve
        means = counts.groupby("arm")["mean_tokens"].mean()
        assert curve["k"].tolist() == [1, 2, 3, 1, 2]
        assert curve["budget"].tolist() == pytest.approx(
            [means["a"], 2 * means["a"], 3 * means["a"], means["b"], 2 * means["b"]]
        )

    def test_crossover_of_straight_lines_is_where_they_meet(self):
        """a solves a tenth of the problems with 10 tokens and no more; b half of them with 100."""
        rows = []
        for p in range(40):
            rows.append(("a", f"p{p:02d}", 16, 16 * (p % 10 == 0), 10.0))
            rows.append(("b", f"p{p:02d}", 16, 16 * (p % 2 == 0), 100.0))
        counts = pd.DataFrame(rows, columns=["arm", "problem_id", "n", "c", "mean_tokens"])
        some = compare_count_budgets(counts, "a", "b", 0.5, R, every_problem=False)
        # from the origin b rises to 1/2 at 100, so it meets 1/10 at 20; steps of the grid are about a hundredth
        assert some.crossover.tokens.value == pytest.approx(20, rel=0.03)
        assert (some.crossover.leader, some.crossover.follower) == ("a", "b")
        every = compare_count_budgets(counts, "a", "b", 0.5, R)
        assert every.crossover.tokens.value == pytest.approx(100)
        assert every.second_coverage.value == pytest.approx(100)

    def test_no_crossover_says_who_leads(self):
        counts = make_counts(gain=-1.0)
        compared = compare_count_budgets(counts, "a", "b", 0.5, R)
        assert np.isnan(compared.crossover.tokens.value)
        assert compared.crossover.tokens.reason.startswith("a leads at every budget")
        assert compared.crossover.share_without == 1.0

    def test_arms_that_never_differ_have_no_leader(self):
        counts = make_counts().query("arm == 'a'")
        both = pd.concat([counts, counts.assign(arm="b")])
        compared = compare_count_budgets(both, "a", "b", 0.5, R)
        assert compared.crossover.leader == ""
        assert "do not differ" in compared.crossover.tokens.reason

    def test_coverage_inverts_the_curve(self):
        counts = make_counts(n=(16, 16))
        a = counts[counts["arm"] == "a"]
        curve = [np.mean([pass_at_k(16, c, k) for c in a["c"]]) for k in range(1, 17)]
        goal = (curve[2] + curve[3]) / 2
        compared = compare_count_budgets(counts, "a", "b", goal, R)
        assert compared.first_coverage.value == pytest.approx(3.5 * a["mean_tokens"].mean())
        assert compared.coverage_ratio.value == pytest.approx(
            compared.second_coverage.value / compared.first_coverage.value
        )
        never = compare_count_budgets(counts.assign(c=0), "a", "b", 0.5, R)
        assert np.isnan(never.first_coverage.value)
        assert "do not reach" in never.first_coverage.reason

    def test_interval_covers_the_truth_about_as_often_as_it_says(self):
        """Equal budget gap of two arms of known rates: pass@2 of 0.3 less 0.5."""
        truth, covered = 1 - 0.7**2 - 0.5, 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            counts = pd.concat(
                [
                    pd.DataFrame(
                        {
                            "arm": arm,
                            "problem_id": range(40),
                            "n": 8,
                            "c": rng.binomial(8, rate, 40),
                            "mean_tokens": tokens,
                        }
                    )
                    for arm, rate, tokens in (("a", 0.3, 10.0), ("b", 0.5, 20.0))
                ]
            )
            gap = compare_count_budgets(counts, "a", "b", 0.5, Resampling(seed, 100)).equal.gap
            covered += gap.low <= truth <= gap.high
        assert 25 <= covered <= 30

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.drop(columns="mean_tokens"), "no column 'mean_tokens'"),
            (lambda t: t.assign(mean_tokens=0.0), "must be positive"),
            (lambda t: t.assign(mean_tokens=np.nan), "must be a finite number"),
            (lambda t: t[t["arm"] == "a"], "arm 'b' has no rows"),
        ],
    )
    def test_refuses_broken_tables(self, change, message):
        with pytest.raises(ValueError, match=message):
            compare_count_budgets(change(make_counts()), "a", "b", 0.5, R)

    @pytest.mark.parametrize("coverage", [0.0, 1.1, -1.0])
    def test_refuses_a_coverage_that_is_no_share(self, coverage):
        with pytest.raises(ValueError, match="coverage is a share"):
            compare_count_budgets(make_counts(), "a", "b", coverage, R)

    def test_one_draw_each_and_one_problem_do_not_fail(self):
        counts = make_counts(n_problems=1, n=(1, 1))
        compared = compare_count_budgets(counts, "a", "b", 0.5, R)
        assert compared.equal.gap.low is None


class TestCaps:
    def test_agrees_with_cutting_every_draw(self):
        draws = make_rollouts(n_draws=4, arms=(("a", 60.0),))
        caps = [25, 40, 70, 119]
        table = cap_sensitivity(draws, "a", caps, R).set_index(["quantity", "cap"])["estimate"]
        for cap in caps:
            tokens, right, longer = [], [], []
            for draw in draws.itertuples():
                tokens.append(min(draw.completion_tokens, cap))
                right.append(draw.status == "correct" and draw.completion_tokens <= cap)
                longer.append(draw.completion_tokens > cap)
            assert table["accuracy", cap] == pytest.approx(np.mean(right))
            assert table["tokens", cap] == pytest.approx(np.mean(tokens))
            assert table["cut", cap] == pytest.approx(np.mean(longer))
            if sum(right):
                assert table["cost", cap] == pytest.approx(sum(tokens) / sum(right))

    def test_at_the_longest_draw_nothing_changes(self):
        draws = make_rollouts()
        longest = int(draws["completion_tokens"].max())
        table = cap_sensitivity(draws, "b", [longest], R).set_index("quantity")["estimate"]
        cost = compare_cost(summarise_draws(draws), "b", "a", R).first.value
        assert table["cost"] == pytest.approx(cost)
        assert table["cut"] == 0

    def test_caps_above_the_tracked_limit_are_left_out(self):
        draws = make_rollouts().assign(max_tokens=pd.array([200] * 120, dtype="Int64"))
        assert token_limit(draws, "a") == 200
        assert cap_sensitivity(draws, "a", [100, 200, 300], R)["cap"].unique().tolist() == [100, 200]
        with pytest.raises(ValueError, match="no cap is left"):
            cap_sensitivity(draws, "a", [300], R)

    def test_without_a_recorded_limit_the_longest_draw_stands_in(self):
        draws = make_rollouts()
        expected = draws.loc[draws["arm"] == "a", "completion_tokens"].max()
        assert token_limit(draws, "a") == expected
        assert token_limit(draws.assign(max_tokens=pd.array([pd.NA] * 120, dtype="Int64")), "a") == expected

    def test_a_cap_no_right_draw_fits_has_no_cost(self):
        draws = pd.concat([one_problem([50], ["R"]), one_problem([60], ["R"], problem="q")])
        table = cap_sensitivity(draws, "a", [10, 60], R).set_index(["quantity", "cap"])
        assert np.isnan(table.loc[("cost", 10), "estimate"])
        assert table.loc[("cost", 10), "reason"]

    @pytest.mark.parametrize("caps", [[], [0, 5], [9, 8]])
    def test_refuses_caps_that_do_not_grow(self, caps):
        with pytest.raises(ValueError, match="caps_L"):
            cap_sensitivity(make_rollouts(), "a", caps, R)


class TestUntilRight:
    def test_agrees_with_every_order(self):
        draws = make_rollouts(n_problems=6, n_draws=5)
        got = compare_until_right(summarise_draws(draws), "a", "b", R)
        for arm, tokens, solved in (
            ("a", got.first_tokens, got.first_solved),
            ("b", got.second_tokens, got.second_solved),
        ):
            costs, ends = [], []
            for _, rows in draws[draws["arm"] == arm].groupby("problem_id"):
                lengths, right = rows["completion_tokens"].tolist(), (rows["status"] == "correct").tolist()
                spent = []
                for order in permutations(range(5)):
                    total = 0
                    for i in order:
                        total += lengths[i]
                        if right[i]:
                            break
                    spent.append(total)
                costs.append(np.mean(spent))
                ends.append(any(right))
            assert tokens.value == pytest.approx(np.mean(costs))
            assert solved.value == pytest.approx(np.mean(ends))

    def test_gives_up_after_the_draws_that_both_arms_have(self):
        counts = make_counts(n=(16, 4))
        got = compare_until_right(counts, "a", "b", R)
        assert got.n_draws == 4
        a = counts[counts["arm"] == "a"]
        expected = [
            t * sum(comb(16 - c, j) / comb(16, j) for j in range(4))
            for c, t in zip(a["c"], a["mean_tokens"], strict=True)
        ]
        assert got.first_tokens.value == pytest.approx(np.mean(expected))
        assert got.first_solved.value == pytest.approx(np.mean([pass_at_k(16, c, 4) for c in a["c"]]))
        assert got.cost_ratio.value == pytest.approx(got.second_cost.value / got.first_cost.value)

    def test_an_arm_that_never_solves_pays_for_all_and_has_no_cost(self):
        counts = make_counts(n=(4, 4)).assign(c=lambda t: np.where(t["arm"] == "a", 0, 4))
        got = compare_until_right(counts, "a", "b", R)
        assert got.first_tokens.value == pytest.approx(
            4 * counts.loc[counts["arm"] == "a", "mean_tokens"].mean()
        )
        assert got.first_solved.value == 0
        assert np.isnan(got.first_cost.value)
        assert got.first_cost.reason


class TestDollars:
    def test_by_hand(self):
        counts = pd.DataFrame(
            {
                "arm": ["a", "a", "b", "b"],
                "problem_id": ["p", "q"] * 2,
                "n": [2, 4, 2, 4],
                "c": [1, 2, 2, 4],
                "mean_tokens": [1000.0, 500.0, 4000.0, 2000.0],
                "prompt_tokens": [100.0, 200.0, 100.0, 200.0],
            }
        )
        each = compare_dollars(counts, "a", "b", 1.0, 3.0, R)
        once = compare_dollars(counts, "a", "b", 1.0, 3.0, R, "once")
        none = compare_dollars(counts, "a", "b", 1.0, 3.0, R, "not_counted")
        # a: 2 * 1000 + 4 * 500 = 4,000 tokens for 3 right; prompts 2 * 100 + 4 * 200 = 1,000, or 300 once
        assert none.first.value == pytest.approx(4000 * 3 / 1e6 / 3)
        assert each.first.value == pytest.approx((4000 * 3 + 1000) / 1e6 / 3)
        assert once.first.value == pytest.approx((4000 * 3 + 300) / 1e6 / 3)
        assert none.ratio.value == pytest.approx((16000 / 6) / (4000 / 3))
        assert none.first.n_draws == 6
        assert each.ratio.value == pytest.approx(each.second.value / each.first.value)

    def test_without_prompts_it_is_the_price_times_tokens_per_correct(self):
        counts = make_counts()
        dollars = compare_dollars(counts, "a", "b", 9.0, 2.5, R, "not_counted")
        tokens = compare_cost(counts, "a", "b", R)
        assert dollars.first.value == pytest.approx(2.5e-6 * tokens.first.value)
        assert dollars.ratio.high == pytest.approx(tokens.ratio.high)

    def test_prompt_tokens_that_are_missing_are_named(self):
        with pytest.raises(ValueError, match="prompt_tokens"):
            compare_dollars(make_counts(), "a", "b", 1.0, 1.0, R)
        with pytest.raises(ValueError, match="must be a finite number"):
            compare_dollars(make_counts().assign(prompt_tokens=np.nan), "a", "b", 1.0, 1.0, R)

    @pytest.mark.parametrize("price", [-1.0, np.nan, np.inf])
    def test_refuses_a_price_that_is_none(self, price):
        with pytest.raises(ValueError, match="prices must be finite"):
            compare_dollars(make_counts(), "a", "b", price, 1.0, R, "not_counted")

    def test_refuses_an_unknown_way_to_pay(self):
        with pytest.raises(ValueError, match="prompts must be"):
            compare_dollars(make_counts(), "a", "b", 1.0, 1.0, R, "twice")


class TestSummary:
    def test_recounts(self):
        draws = make_rollouts().assign(prompt_tokens=lambda t: t.index % 7 + 1)
        table = summarise_draws(draws).set_index(["arm", "problem_id"])
        for key, rows in draws.groupby(["arm", "problem_id"]):
            right = rows["status"] == "correct"
            got = table.loc[key]
            assert (got["n"], got["c"]) == (5, right.sum())
            assert got["mean_tokens"] == pytest.approx(rows["completion_tokens"].mean())
            for name, chosen in (("right_tokens", right), ("wrong_tokens", ~right)):
                expected = rows.loc[chosen, "completion_tokens"].mean()
                assert got[name] == pytest.approx(expected, nan_ok=True)
            assert got["prompt_tokens"] == pytest.approx(rows["prompt_tokens"].mean())

    def test_unknown_prompt_tokens_give_no_column(self):
        draws = make_rollouts()
        assert "prompt_tokens" not in summarise_draws(draws).columns
        missing = draws.assign(prompt_tokens=pd.array([pd.NA] * len(draws), dtype="Int64"))
        assert "prompt_tokens" not in summarise_draws(missing).columns


class TestGrid:
    def test_holds_both_ends_and_no_number_twice(self):
        grid = log_grid(3, 1000, 50)
        assert grid[0] == 3
        assert grid[-1] == 1000
        assert (np.diff(grid) > 0).all()

    @pytest.mark.parametrize("arguments", [(0, 5, 3), (5, 4, 3), (1, 5, 1)])
    def test_refuses_what_is_no_grid(self, arguments):
        with pytest.raises(ValueError, match="a grid needs"):
            log_grid(*arguments)


def test_examples():
    assert doctest.testmod(budget, extraglobs={"pd": pd, "Resampling": Resampling}).failed == 0


def test_gap_interval_is_that_of_the_paired_differences():
    draws = make_rollouts(n_problems=15, n_draws=5)
    compared = compare_draw_budgets(draws, "a", "b", 0.5, R)
    budget_tokens = compared.high.budget
    scores = [score_budgets(draws, arm, [budget_tokens], seed=R.seed).score_P_G[:, 0] for arm in "ab"]
    expected = estimate((scores[0] - scores[1])[:, None], lambda m: m[..., 0], R, None)
    assert compared.high.gap.low == pytest.approx(expected.low)
    assert compared.high.gap.high == pytest.approx(expected.high)


def test_a_cost_that_is_infinite_makes_no_ratio():
    counts = make_counts(n=(4, 4)).assign(c=lambda t: np.where(t["arm"] == "a", 0, 4))
    for ratio in (
        compare_until_right(counts, "a", "b", R).cost_ratio,
        compare_dollars(counts, "a", "b", 1.0, 1.0, R, "not_counted").ratio,
        compare_dollars(counts, "b", "a", 1.0, 1.0, R, "not_counted").ratio,
    ):
        assert np.isnan(ratio.value)
        assert ratio.reason


def test_both_arms_are_named_where_the_draws_of_both_end_first():
    """One problem of either arm is short of the mean of the longer arm, which the other problems raise."""
    rows = [one_problem([20 + 80 * (p > 0)], ["R"], arm, f"p{p}") for arm in "ab" for p in range(4)]
    compared = compare_draw_budgets(pd.concat(rows), "a", "b", 0.5, R)
    assert compared.equal.budget == 80
    assert compared.equal.short_of == "a and b"
    assert compared.crossover.tokens.reason.startswith("the draws of a and b end")


@pytest.mark.published
class TestPublished:
    @pytest.fixture(scope="class")
    @staticmethod
    def counts(published_folder):
        table = adapters.read_counts(published_folder)
        return lambda name: select_counts(
            table, study="published", benchmark=name, arms=("panel", "thinking")
        )

    def test_aime_thinking_leads_as_soon_as_one_draw_of_it_is_paid_for(self, counts):
        compared = compare_count_budgets(counts("aime"), "panel", "thinking", 0.5, R)
        assert compared.equal.budget == pytest.approx(11_328.025)
        assert compared.equal.short_of == ""
        assert compared.equal.gap.value == pytest.approx(-0.2475, abs=0.0001)
        assert compared.equal.gap.high < 0
        assert compared.crossover.tokens.value == pytest.approx(11_328.025)
        assert compared.crossover.follower == "thinking"

    def test_math500_is_open_because_the_panel_was_drawn_four_times(self, counts):
        compared = compare_count_budgets(counts("math500_s50"), "panel", "thinking", 0.5, R)
        assert compared.limits[0] == pytest.approx(4 * 597.615)
        assert compared.equal.short_of == "panel"
        assert compared.equal.gap.value == pytest.approx(-0.07)
        assert compared.equal.gap.high >= 0  # just reaches zero: which side is a matter of the resamples
        assert np.isnan(compared.crossover.tokens.value)


class TestConstructedCurves:
    """Difference of two curves at budgets 1, 2, ... with the answer read off by eye."""

    @pytest.mark.parametrize(
        ("difference", "expected"),
        [
            ([0, 1, 1, -1, -1], 4),
            ([0, 1, -1, 1, -1], 5),  # the lead comes back once: only the last change is for good
            ([1, -1, 1, 1, 1], np.nan),
            ([1, 0, 0, -1, 0], 4),  # a tie is no change
            ([-1, -1, 1, 1, -1], np.nan),  # the other arm led first
            ([1, -1, -1, np.nan, np.nan], 2),  # not observed is no lead
            ([1, 1, 1, 1, np.nan], np.nan),
            ([0, 0, 0, 0, 0], np.nan),
        ],
    )
    def test_crossover_is_the_first_budget_from_which_the_leader_does_not_return(self, difference, expected):
        got = budget._crossing(np.array(difference, dtype=float), np.arange(1.0, 6.0), leader=1)
        assert got == pytest.approx(expected, nan_ok=True)

    def test_reading_beyond_the_draws_gives_nothing_unless_held(self):
        passes, draws = np.array([0.2, 0.5]), np.array([0.5, 1.0, 1.5, 2.0, 2.1])
        assert budget.read_pass_curve(passes, draws, True, False) == pytest.approx(
            [0.0, 0.2, 0.35, 0.5, np.nan], nan_ok=True
        )
        assert budget.read_pass_curve(passes, draws, False, True) == pytest.approx([0.1, 0.2, 0.35, 0.5, 0.5])
