"""Token costs: ratios within problems, cost per correct, paired draws and their buckets."""

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import tokens
from panelbook.measure.tokens import (
    BUCKETS,
    bucket_draws,
    bucket_totals,
    compare_at_equal_tokens,
    compare_cost,
    compare_lengths,
    cost_per_correct,
    pair_draws,
    wilcoxon_p_from_statistic,
)
from panelbook.measure.uncertainty import Resampling, estimate

R = Resampling(seed=20260424, n_resamples=500)


def make_counts(n_problems=15, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.lognormal(6.0, 0.5, n_problems)
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(n_problems)],
                "n": n,
                "c": rng.integers(1, n + 1, n_problems),
                "mean_tokens": factor * base * rng.lognormal(0.0, 0.3, n_problems),
            }
        )
        for arm, factor, n in (("panel", 1.0, 8), ("think", 6.0, 4))
    ]
    return pd.concat(arms, ignore_index=True)


def make_rollouts(n_problems=20, n_draws=6, seed=0):
    rng = np.random.default_rng(seed)
    rate = {"panel": rng.beta(0.8, 1.2, n_problems), "think": rng.beta(1.2, 0.8, n_problems)}
    tables = []
    for arm, level in (("panel", 6.0), ("think", 8.0)):
        tables.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "problem_id": np.repeat([f"p{i:03d}" for i in range(n_problems)], n_draws),
                    "sample_id": np.tile(np.arange(n_draws), n_problems),
                    "correct": rng.random(n_problems * n_draws) < np.repeat(rate[arm], n_draws),
                    "completion_tokens": rng.lognormal(level, 0.5, n_problems * n_draws).astype(int) + 1,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def of_arm(counts, arm):
    return counts[counts["arm"] == arm].sort_values("problem_id", ignore_index=True)


def test_examples_in_docstrings():
    result = doctest.testmod(tokens)
    assert result.attempted > 0
    assert result.failed == 0


class TestLengths:
    def test_four_ways_to_say_how_much_longer(self):
        counts = make_counts()
        a, b = (of_arm(counts, arm)["mean_tokens"] for arm in ("panel", "think"))
        result = compare_lengths(counts, "panel", "think", R)
        assert result.first_mean.value == pytest.approx(a.mean())
        assert result.second_mean.value == pytest.approx(b.mean())
        assert result.ratio_of_means.value == pytest.approx(b.mean() / a.mean())
        assert result.geometric_mean_ratio.value == pytest.approx(stats.gmean(b / a))
        assert result.median_ratio.value == pytest.approx(np.median(b / a))
        assert result.share_second_longer.value == np.mean(b > a)
        for interval in (result.ratio_of_means, result.geometric_mean_ratio, result.median_ratio):
            assert interval.low <= interval.value <= interval.high
        assert (result.first_mean.n_draws, result.second_mean.n_draws) == (120, 60)
        assert result.ratio_of_means.n_draws == 180

    def test_wilcoxon_is_scipys_on_problem_means(self):
        counts = make_counts()
        a, b = (of_arm(counts, arm)["mean_tokens"] for arm in ("panel", "think"))
        test = stats.wilcoxon(a, b)
        result = compare_lengths(counts, "panel", "think", R)
        assert (result.wilcoxon_w, result.wilcoxon_p) == pytest.approx((test.statistic, test.pvalue))

    def test_swapping_arms_inverts_the_ratios(self):
        counts = make_counts()
        there, back = (compare_lengths(counts, *arms, R) for arms in (("panel", "think"), ("think", "panel")))
        assert there.geometric_mean_ratio.value == pytest.approx(1 / back.geometric_mean_ratio.value)
        assert there.ratio_of_means.value == pytest.approx(1 / back.ratio_of_means.value)
        assert there.wilcoxon_p == pytest.approx(back.wilcoxon_p)

    def test_equal_lengths_have_no_test(self):
        panel = make_counts()[:15]
        result = compare_lengths(pd.concat([panel, panel.assign(arm="twin")]), "panel", "twin", R)
        assert result.ratio_of_means.value == 1.0
        assert np.isnan(result.wilcoxon_p)
        assert result.share_second_longer.value == 0.0

    def test_reports_problems_left_out(self):
        result = compare_lengths(make_counts()[:-4], "panel", "think", R)
        assert (result.n_problems, result.n_unpaired) == (11, 4)

    def test_names_the_problem_without_tokens(self):
        counts = make_counts()
        counts.loc[2, "mean_tokens"] = 0.0
        with pytest.raises(ValueError, match=r"problem 'p002' of arm 'panel' has 0\.0"):
            compare_lengths(counts, "panel", "think", R)


class TestCost:
    def test_pays_for_wrong_draws(self):
        counts = pd.DataFrame(
            {
                "arm": "panel",
                "problem_id": ["a", "b", "c"],
                "n": [4, 4, 2],
                "c": [2, 0, 1],
                "mean_tokens": [10.0, 30.0, 20.0],
            }
        )
        cost = cost_per_correct(counts, "panel", R)
        assert cost.value == pytest.approx((40 + 120 + 40) / 3)
        assert cost.n_draws == 10

    def test_comparison_holds_both_costs_and_their_ratio(self):
        counts = make_counts()
        result = compare_cost(counts, "panel", "think", R)
        assert result.first == cost_per_correct(counts, "panel", R)
        assert result.second == cost_per_correct(counts, "think", R)
        assert result.ratio.value == pytest.approx(result.second.value / result.first.value)
        assert result.ratio.low < result.ratio.value < result.ratio.high

    def test_costs_in_both_units_and_row_orders(self):
        counts = make_counts()
        doubled = counts.assign(mean_tokens=2 * counts["mean_tokens"])[::-1]
        a, b = (compare_cost(table, "panel", "think", R) for table in (counts, doubled))
        assert b.first.value == pytest.approx(2 * a.first.value)
        assert (b.ratio.low, b.ratio.high) == pytest.approx((a.ratio.low, a.ratio.high))

    def test_nothing_correct_is_undefined_and_says_so(self):
        cost = cost_per_correct(make_counts().assign(c=0), "panel", R)
        assert np.isnan(cost.value)
        assert "undefined" in cost.reason

    def test_rarely_correct_has_a_cost_without_an_interval(self):
        counts = make_counts()
        counts["c"] = np.where(counts["problem_id"] == "p000", 1, 0)
        cost = cost_per_correct(counts, "panel", R)
        assert np.isfinite(cost.value)
        assert "of the resamples" in cost.reason


class TestPairs:
    def test_pairs_by_problem_and_sample(self):
        rollouts = make_rollouts()
        pairs = pair_draws(rollouts.sample(frac=1, random_state=1), "panel", "think")
        keys = ["problem_id", "sample_id"]
        joined = of_arm(rollouts, "panel").merge(of_arm(rollouts, "think"), on=keys).sort_values(keys)
        assert pairs["first_tokens"].tolist() == joined["completion_tokens_x"].tolist()
        assert pairs["second_tokens"].tolist() == joined["completion_tokens_y"].tolist()
        assert pairs["first_correct"].tolist() == joined["correct_x"].tolist()
        assert pairs[keys].to_numpy().tolist() == joined[keys].to_numpy().tolist()
        assert pairs.attrs["n_unpaired"] == 0

    def test_draws_without_a_partner_are_counted(self):
        rollouts = make_rollouts()
        fewer = rollouts[(rollouts["arm"] == "panel") | (rollouts["sample_id"] < 4)]
        pairs = pair_draws(fewer, "panel", "think")
        assert len(pairs) == 80
        assert pairs.attrs["n_unpaired"] == 40

    def test_status_serves_where_correct_is_not_there(self):
        rollouts = make_rollouts()
        status = np.where(rollouts["correct"], "correct", "unparsable")
        graded = rollouts.assign(status=status).drop(columns="correct")
        pd.testing.assert_frame_equal(
            pair_draws(graded, "panel", "think"), pair_draws(rollouts, "panel", "think")
        )

    def test_refuses_what_it_cannot_pair(self):
        rollouts = make_rollouts()
        with pytest.raises(ValueError, match="no column 'completion_tokens'"):
            pair_draws(rollouts.drop(columns="completion_tokens"), "panel", "think")
        with pytest.raises(ValueError, match="'correct' or 'status'"):
            pair_draws(rollouts.drop(columns="correct"), "panel", "think")
        with pytest.raises(ValueError, match="'native' has no draws"):
            pair_draws(rollouts, "panel", "native")
        with pytest.raises(ValueError, match=r"\('panel', 'p000', 3\) occurs more than once"):
            pair_draws(pd.concat([rollouts, rollouts[3:4]]), "panel", "think")
        with pytest.raises(ValueError, match="whole numbers"):
            pair_draws(rollouts.assign(sample_id=0.5), "panel", "think")
        apart = rollouts.assign(problem_id=rollouts["arm"] + rollouts["problem_id"])
        with pytest.raises(ValueError, match="share no"):
            pair_draws(apart, "panel", "think")


class TestBuckets:
    def test_aggregates_by_hand(self):
        rollouts = make_rollouts()
        pairs = pair_draws(rollouts, "panel", "think")
        table = bucket_draws(rollouts, "panel", "think", R).set_index("bucket")
        outcome = {
            "both": pairs["first_correct"] & pairs["second_correct"],
            "first_only": pairs["first_correct"] & ~pairs["second_correct"],
            "second_only": ~pairs["first_correct"] & pairs["second_correct"],
            "neither": ~pairs["first_correct"] & ~pairs["second_correct"],
        }
        assert table.index.tolist() == list(BUCKETS)
        for name, chosen in outcome.items():
            inside, row = pairs[chosen], table.loc[name]
            ratio = inside["second_tokens"] / inside["first_tokens"]
            assert row["n_pairs"] == len(inside)
            assert row["n_problems"] == inside["problem_id"].nunique()
            assert row["first_mean"] == pytest.approx(inside["first_tokens"].mean())
            assert row["second_median"] == pytest.approx(inside["second_tokens"].median())
            assert row["ratio_median"] == pytest.approx(ratio.median())
            assert row["ratio_geomean"] == pytest.approx(stats.gmean(ratio))
            assert row["ratio_of_means"] == pytest.approx(row["second_mean"] / row["first_mean"])
            assert row["share_second_longer"] == pytest.approx((ratio > 1).mean())
            assert row["ratio_geomean_low"] < row["ratio_geomean"] < row["ratio_geomean_high"]
        assert table["n_pairs"].sum() == len(pairs)

    def test_interval_resamples_problems_and_not_draws(self):
        # Within a problem every ratio is the same: more draws of it are no more evidence.
        rng = np.random.default_rng(0)
        ratio = rng.lognormal(2.0, 0.5, 20)

        def rollouts(n_draws):
            base = {"problem_id": np.repeat([f"p{i:02d}" for i in range(20)], n_draws)}
            base |= {"sample_id": np.tile(np.arange(n_draws), 20), "correct": True}
            panel = pd.DataFrame(base | {"arm": "panel", "completion_tokens": 100.0})
            think = panel.assign(arm="think", completion_tokens=100.0 * np.repeat(ratio, n_draws))
            return pd.concat([panel, think])

        few, many = (bucket_draws(rollouts(n), "panel", "think", R).iloc[0] for n in (2, 50))
        assert many["n_pairs"] == 25 * few["n_pairs"]
        for end in ("ratio_geomean_low", "ratio_geomean_high"):
            assert many[end] == pytest.approx(few[end], rel=1e-9)
        by_problem = estimate(np.log(ratio)[:, np.newaxis], lambda m: np.exp(m[..., 0]), R, 40)
        assert few["ratio_geomean_low"] == pytest.approx(by_problem.low, rel=0.06)

    def test_empty_bucket_is_nan_with_a_reason(self):
        rollouts = make_rollouts().assign(correct=True)
        table = bucket_draws(rollouts, "panel", "think", R).set_index("bucket")
        assert table.loc["neither", ["n_pairs", "n_problems"]].tolist() == [0, 0]
        assert table.loc["neither", ["first_mean", "ratio_geomean", "ratio_geomean_low"]].isna().all()
        assert "no paired draw" in table.loc["neither", "reason"]
        assert table.loc["both", "reason"] == ""

    def test_order_of_draws_does_not_matter_and_runs_are_bit_identical(self):
        rollouts = make_rollouts()
        table = bucket_draws(rollouts, "panel", "think", R)
        assert table.equals(bucket_draws(rollouts, "panel", "think", R))
        pd.testing.assert_frame_equal(
            table, bucket_draws(rollouts.sample(frac=1, random_state=5), "panel", "think", R)
        )

    def test_names_the_empty_completion(self):
        rollouts = make_rollouts()
        rollouts.loc[7, "completion_tokens"] = 0
        with pytest.raises(ValueError, match=r"problem 'p001', sample 1 has 0\.0"):
            bucket_draws(rollouts, "panel", "think", R)


class TestTotals:
    def test_recovers_the_cost_of_the_draws(self):
        rollouts = make_rollouts()
        totals = bucket_totals(bucket_draws(rollouts, "panel", "think", R))
        for arm, cost in (("panel", totals.first), ("think", totals.second)):
            rows = rollouts[rollouts["arm"] == arm]
            assert cost.value == pytest.approx(rows["completion_tokens"].sum() / rows["correct"].sum())
            assert (cost.low, cost.n_problems, cost.n_draws) == (None, None, 120)
            assert "aggregates" in cost.reason
        assert totals.ratio.value == pytest.approx(totals.second.value / totals.first.value)

    def test_empty_bucket_adds_nothing(self):
        rollouts = make_rollouts().assign(correct=True)
        totals = bucket_totals(bucket_draws(rollouts, "panel", "think", R))
        assert totals.first.value == pytest.approx(of_arm(rollouts, "panel")["completion_tokens"].mean())

    def test_nothing_correct_is_nan(self):
        table = bucket_draws(make_rollouts().assign(correct=False), "panel", "think", R)
        assert np.isnan(bucket_totals(table).ratio.value)

    def test_refuses_other_buckets(self):
        table = bucket_draws(make_rollouts(), "panel", "think", R)
        with pytest.raises(ValueError, match=r"once each; got both, first_only, second_only\.$"):
            bucket_totals(table[:3])
        with pytest.raises(ValueError, match="no column 'first_mean'"):
            bucket_totals(table.drop(columns="first_mean"))


class TestWilcoxon:
    @pytest.mark.parametrize("shift", [0.0, 0.2, 2.0, 50.0])
    def test_agrees_with_scipys_approximation(self, shift):
        difference = np.random.default_rng(1).normal(size=80) + shift
        test = stats.wilcoxon(difference, method="asymptotic", correction=False)
        assert wilcoxon_p_from_statistic(test.statistic, 80) == pytest.approx(test.pvalue)

    def test_refuses_the_larger_rank_sum(self):
        with pytest.raises(ValueError, match="w=1300, n=50"):
            wilcoxon_p_from_statistic(1300, 50)
        with pytest.raises(ValueError, match="n=0"):
            wilcoxon_p_from_statistic(0, 0)


class TestEqualTokens:
    def counts(self, first_tokens=100.0, second_tokens=350.0, n=4):
        rows = [("short", "a", n, 1, first_tokens), ("short", "b", n, 2, first_tokens)]
        rows += [("long", "a", 2, 1, second_tokens), ("long", "b", 2, 2, second_tokens)]
        return pd.DataFrame(rows, columns=["arm", "problem_id", "n", "c", "mean_tokens"])

    def test_three_short_draws_fit_in_one_long_one(self):
        k, difference = compare_at_equal_tokens(self.counts(), "short", "long", R)
        # pass@3 of 1 in 4 is 3/4, of 2 in 4 is 1; the long arm is right on half and on all of its single draws.
        assert k == 3
        assert difference.value == pytest.approx(((3 / 4 - 1 / 2) + (1 - 1)) / 2)

    def test_k_stops_at_the_draws_that_were_made(self):
        assert compare_at_equal_tokens(self.counts(second_tokens=5000.0), "short", "long", R)[0] == 4

    def test_refuses_arms_in_the_wrong_order(self):
        with pytest.raises(ValueError, match="Swap the arms"):
            compare_at_equal_tokens(self.counts(), "long", "short", R)
