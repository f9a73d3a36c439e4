"""Pass@k: the formula against enumeration, the curve, the gap, the overlap."""

import doctest
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from panelbook.measure import passk
from panelbook.measure.passk import (
    expected_overlap,
    failure_ratio,
    failure_ratio_change,
    gap_closure,
    is_monotone,
    max_common_k,
    pass_at_k,
    pass_at_k_curve,
    pass_at_k_gap,
    pass_at_k_matrix,
    solved_overlap,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=500)


def make_counts(n_problems=12, n=8, seed=0):
    rng = np.random.default_rng(seed)
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(n_problems)],
                "n": n,
                "c": rng.binomial(n, rng.beta(a, b, n_problems)),
            }
        )
        for arm, a, b in (("panel", 0.5, 0.8), ("think", 0.9, 0.4))
    ]
    return pd.concat(arms, ignore_index=True)


draws = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


class TestFormula:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(passk)
        assert result.attempted > 0
        assert result.failed == 0

    def test_six_draws_two_correct_three_taken(self):
        assert pass_at_k(6, 2, 3) == pytest.approx(0.8)

    @pytest.mark.parametrize("n", range(1, 9))
    def test_equals_enumeration_of_all_subsets(self, n):
        for c in range(n + 1):
            for k in range(1, n + 1):
                hits = [any(i < c for i in subset) for subset in combinations(range(n), k)]
                assert pass_at_k(n, c, k) == pytest.approx(np.mean(hits))

    @given(draws)
    def test_equals_the_binomial_quotient(self, drawn):
        n, c, k = drawn
        exact = 1 - Fraction(comb(n - c, k), comb(n, k))
        assert pass_at_k(n, c, k) == pytest.approx(float(exact), abs=1e-13)

    @given(draws)
    def test_equals_the_hypergeometric_tail(self, drawn):
        n, c, k = drawn
        assert pass_at_k(n, c, k) == pytest.approx(stats.hypergeom(n, c, k).sf(0), abs=1e-10)

    def test_holds_where_factorials_overflow(self):
        exact = 1 - Fraction(comb(999_000, 500), comb(1_000_000, 500))
        assert pass_at_k(1_000_000, 1000, 500) == pytest.approx(float(exact), rel=1e-12)

    def test_degenerate_counts(self):
        assert pass_at_k_matrix([5, 5, 5], [0, 5, 3], [1, 3, 5]).tolist() == [
            [0.0, 0.0, 0.0],
            [1.0, 1.0, 1.0],
            [pytest.approx(0.6), 1.0, 1.0],
        ]

    def test_is_unbiased(self):
        # Averaged over all outcomes of n draws at success rate p, it is 1 - (1 - p)^k.
        n, k, p = 7, 3, 0.2
        c = np.arange(n + 1)
        expected = stats.binom.pmf(c, n, p) @ pass_at_k_matrix(np.full(n + 1, n), c, [k])[:, 0]
        assert expected == pytest.approx(1 - (1 - p) ** k)

    @given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
    def test_never_falls_as_k_grows_or_c_grows(self, drawn):
        n, c = drawn
        curve = pass_at_k_matrix([n], [c], range(1, n + 1))[0]
        assert np.all(np.diff(curve) >= 0)
        assert np.all((curve >= 0) & (curve <= 1))
        if c < n:
            assert np.all(pass_at_k_matrix([n], [c + 1], range(1, n + 1))[0] >= curve - 1e-15)

    def test_ks_come_in_the_order_asked(self):
        n, c = [9, 8], [2, 5]
        matrix = pass_at_k_matrix(n, c, [5, 1, 5])
        for column, k in zip(matrix.T, (5, 1, 5), strict=True):
            assert column.tolist() == [pass_at_k(*counts, k) for counts in zip(n, c, strict=True)]

    def test_refuses_k_beyond_the_draws_naming_problem_n_and_k(self):
        with pytest.raises(ValueError, match=r"problem 'aime-07' has n=8, k=16\. Lower k, or draw more"):
            pass_at_k_matrix([16, 8], [1, 1], [1, 16], ["aime-06", "aime-07"])
        with pytest.raises(ValueError, match=r"problem in row 1 has n=8, k=16"):
            pass_at_k_matrix([16, 8], [1, 1], [16])

    @pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (0, 0, 1), (4, 2, 0), (4, 2, -3)])
    def test_refuses_impossible_counts(self, n, c, k):
        with pytest.raises(ValueError, match=r"c=|k="):
            pass_at_k(n, c, k)

    def test_refuses_other_shapes(self):
        with pytest.raises(ValueError, match="one shape"):
            pass_at_k_matrix([4, 4], [1], [1])
        with pytest.raises(ValueError, match="at least one"):
            pass_at_k_matrix([], [], [1])


class TestCurve:
    def test_is_the_mean_over_problems(self):
        counts = make_counts()
        curve = pass_at_k_curve(counts, [1, 2, 8], R).set_index(["arm", "k"])
        for arm in ("panel", "think"):
            rows = counts[counts["arm"] == arm]
            by_hand = [np.mean([pass_at_k(8, c, k) for c in rows["c"]]) for k in (1, 2, 8)]
            np.testing.assert_allclose(curve.loc[arm, "estimate"], by_hand)
            assert curve.loc[(arm, 1), "estimate"] == pytest.approx(rows["c"].sum() / rows["n"].sum())
        assert curve["n_problems"].eq(12).all()
        assert curve["n_draws"].eq(96).all()
        assert curve["low"].le(curve["estimate"]).all()
        assert curve["high"].ge(curve["estimate"]).all()

    def test_has_the_documented_columns(self):
        expected = ["arm", "k", "estimate", "low", "high", "n_problems", "n_draws", "method", "reason"]
        assert pass_at_k_curve(make_counts(), [1], R).columns.tolist() == expected

    def test_order_of_rows_does_not_matter(self):
        counts = make_counts()
        shuffled = counts.sample(frac=1, random_state=3)
        pd.testing.assert_frame_equal(
            pass_at_k_curve(counts, [1, 4], R), pass_at_k_curve(shuffled, [1, 4], R)
        )

    def test_renaming_arms_renames_rows(self):
        counts = make_counts()
        renamed = counts.replace({"arm": {"panel": "a", "think": "b"}})
        before = pass_at_k_curve(counts, [1, 4], R).drop(columns="arm")
        pd.testing.assert_frame_equal(before, pass_at_k_curve(renamed, [1, 4], R).drop(columns="arm"))

    def test_two_runs_are_bit_identical(self):
        counts = make_counts(200)
        assert pass_at_k_curve(counts, [1, 4], R).equals(pass_at_k_curve(counts, [1, 4], R))

    def test_duplicating_problems_moves_no_estimate(self):
        counts = make_counts()
        copies = counts.assign(problem_id=counts["problem_id"] + "-copy")
        twice = pass_at_k_curve(pd.concat([counts, copies]), [1, 4], R)
        np.testing.assert_allclose(twice["estimate"], pass_at_k_curve(counts, [1, 4], R)["estimate"])

    def test_an_arm_that_solves_everything_gets_the_exact_bound(self):
        counts = make_counts(20).assign(c=8)
        curve = pass_at_k_curve(counts, [1], R)
        assert curve["low"].tolist() == pytest.approx([0.05 ** (1 / 20)] * 2)
        assert curve["method"].str.startswith("exact Clopper-Pearson").all()

    def test_one_problem_gives_a_reason_instead_of_an_interval(self):
        curve = pass_at_k_curve(make_counts(1), [1], R)
        assert curve["low"].isna().all()
        assert curve["reason"].str.contains("at least two").all()

    def test_names_the_problem_with_too_few_draws(self):
        counts = make_counts()
        counts.loc[4, ["n", "c"]] = (3, 1)
        with pytest.raises(ValueError, match="problem 'p004' has n=3, k=4"):
            pass_at_k_curve(counts, [1, 4], R)


class TestGap:
    def test_agrees_with_scipy_and_with_the_curve(self):
        counts = make_counts()
        table = pass_at_k_gap(counts, "panel", "think", [1, 4], R)
        curve = pass_at_k_curve(counts, [1, 4], R).set_index(["arm", "k"])["estimate"]
        for row in table.itertuples():
            a, b = (
                [pass_at_k(8, c, row.k) for c in counts.loc[counts["arm"] == arm, "c"]]
                for arm in ("panel", "think")
            )
            test = stats.ttest_rel(a, b)
            assert (row.t, row.p) == pytest.approx((test.statistic, test.pvalue))
            assert row.se == pytest.approx(np.std(np.subtract(a, b), ddof=1) / np.sqrt(12))
            assert row.t == pytest.approx(row.gap / row.se)
            assert row.first == pytest.approx(curve["panel", row.k])
            assert row.gap == pytest.approx(row.first - row.second)
            assert row.low <= row.gap <= row.high
            assert (row.n_problems, row.n_draws, row.n_unpaired) == (12, 192, 0)

    def test_has_the_documented_columns(self):
        expected = ["k", "first", "second", "gap", "low", "high", "se", "t", "p"]
        expected += ["n_problems", "n_draws", "n_unpaired", "method", "reason"]
        assert pass_at_k_gap(make_counts(), "panel", "think", [1], R).columns.tolist() == expected

    def test_pairing_beats_two_separate_intervals(self):
        counts = make_counts(60)
        # The second arm repeats the first with one more correct draw wherever it can.
        think = counts[counts["arm"] == "panel"].assign(arm="think", c=lambda t: np.minimum(t["c"] + 1, 8))
        counts = pd.concat([counts[counts["arm"] == "panel"], think])
        gap = pass_at_k_gap(counts, "panel", "think", [1], R).iloc[0]
        curve = pass_at_k_curve(counts, [1], R)
        assert gap["high"] - gap["low"] < 0.3 * (curve["high"] - curve["low"]).min()

    def test_swapping_arms_turns_the_sign(self):
        counts = make_counts()
        there = pass_at_k_gap(counts, "panel", "think", [1, 4], R)
        back = pass_at_k_gap(counts, "think", "panel", [1, 4], R)
        np.testing.assert_allclose(there["gap"], -back["gap"])
        np.testing.assert_allclose(there["t"], -back["t"])
        np.testing.assert_allclose(there["low"], -back["high"], atol=0.05)

    def test_counts_problems_left_out(self):
        counts = make_counts()[:-3]
        table = pass_at_k_gap(counts, "panel", "think", [1], R)
        assert table["n_problems"].tolist() == [9]
        assert table["n_unpaired"].tolist() == [3]

    def test_identical_arms_have_no_t_and_an_exact_bound(self):
        counts = make_counts()
        twin = counts[counts["arm"] == "panel"].assign(arm="twin")
        row = pass_at_k_gap(pd.concat([counts, twin]), "panel", "twin", [2], R).iloc[0]
        assert row["gap"] == 0.0
        assert row[["se", "t", "p"]].isna().all()
        assert row["high"] == -row["low"] == pytest.approx(1 - 0.05 ** (1 / 12))
        closure = gap_closure(pd.concat([counts, twin]), "panel", "twin", 1, 8, R)
        assert closure.high == -closure.low == row["high"]


class TestClosure:
    def test_is_the_difference_of_two_gaps(self):
        counts = make_counts()
        gaps = pass_at_k_gap(counts, "panel", "think", [1, 8], R)["gap"]
        closure = gap_closure(counts, "panel", "think", 1, 8, R)
        assert closure.value == pytest.approx(gaps[1] - gaps[0])
        assert closure.low < closure.value < closure.high
        assert (closure.n_problems, closure.n_draws) == (12, 192)

    def test_back_and_forth_cancel(self):
        counts = make_counts()
        there = gap_closure(counts, "panel", "think", 1, 8, R)
        assert gap_closure(counts, "panel", "think", 8, 1, R).value == pytest.approx(-there.value)

    def test_reports_problems_left_out(self):
        assert gap_closure(make_counts()[:-2], "panel", "think", 1, 8, R).n_unpaired == 2

    def test_monotone_check(self):
        assert is_monotone([0.1, 0.1, 0.1 - 1e-15, 0.2])
        assert not is_monotone([0.1, 0.09])
        assert is_monotone([0.3])


class TestFailureRatio:
    def test_is_the_ratio_of_the_curves_complements(self):
        counts = make_counts(60)
        curve = pass_at_k_curve(counts, [4], R).set_index("arm")["estimate"]
        ratio = failure_ratio(counts, "panel", "think", 4, R)
        assert ratio.value == pytest.approx((1 - curve["panel"]) / (1 - curve["think"]))
        assert ratio.low < ratio.value < ratio.high
        assert (ratio.n_problems, ratio.n_draws) == (60, 960)

    def test_tells_a_ceiling_from_a_closing_gap(self):
        # One rate for all problems, .2 and .5: the gap closes with k while the ratio (.8 / .5)^k opens.
        n = 40
        problems = [f"p{i}" for i in range(4)]
        counts = pd.DataFrame({"arm": ["a"] * 4 + ["b"] * 4, "problem_id": problems * 2, "n": n})
        counts["c"] = np.where(counts["arm"] == "a", 8, 20)
        counts.loc[[0, 4], "c"] += 1
        gap = pass_at_k_gap(counts, "a", "b", [4, 12], R)["gap"].abs()
        ratios = [failure_ratio(counts, "a", "b", k, R).value for k in (4, 12)]
        assert gap[1] < gap[0]
        assert ratios[1] > ratios[0] > 1

    def test_an_arm_that_never_fails_leaves_it_undefined(self):
        counts = make_counts()
        counts.loc[counts["arm"] == "think", "c"] = 8
        ratio = failure_ratio(counts, "panel", "think", 1, R)
        assert np.isnan(ratio.value)
        assert "undefined" in ratio.reason


class TestMaxCommonK:
    def test_is_the_fewest_draws_of_any_problem(self):
        counts = make_counts()
        counts.loc[counts["arm"] == "think", ["n", "c"]] = (5, 1)
        assert max_common_k(counts) == 5
        assert max_common_k(counts, ["panel"]) == 8


class TestOverlap:
    def counts(self):
        return pd.DataFrame(
            {
                "arm": ["panel"] * 4 + ["think"] * 4,
                "problem_id": ["a", "b", "c", "d"] * 2,
                "n": [8] * 4 + [4] * 4,
                "c": [3, 1, 0, 0, 4, 0, 2, 0],
            }
        )

    def test_sorts_problems_into_four_sets(self):
        table = solved_overlap(self.counts(), "panel", "think", R).set_index("outcome")
        assert table["problem_ids"].to_dict() == {
            "both": ["a"],
            "first_only": ["b"],
            "second_only": ["c"],
            "neither": ["d"],
        }
        assert table["count"].tolist() == [1, 1, 1, 1]
        assert table["share"].tolist() == [0.25] * 4
        assert table["n_draws"].eq(48).all()

    def test_shares_add_up_and_match_pass_at_n(self):
        counts = make_counts()
        table = solved_overlap(counts, "panel", "think", R).set_index("outcome")
        curve = pass_at_k_curve(counts, [8], R).set_index("arm")["estimate"]
        assert table["count"].sum() == 12
        assert table.loc[["both", "first_only"], "share"].sum() == pytest.approx(curve["panel"])
        assert table.loc[["both", "second_only"], "share"].sum() == pytest.approx(curve["think"])

    def test_matched_draws_lower_the_richer_arm(self):
        table = expected_overlap(self.counts(), "panel", "think", R).set_index("outcome")
        panel_at_4 = [pass_at_k(8, c, 4) for c in (3, 1, 0, 0)]
        think_at_4 = [1.0, 0.0, 1.0, 0.0]
        by_hand = np.dot(panel_at_4, think_at_4)
        assert table.loc["both", "count"] == pytest.approx(by_hand)
        assert table.loc["first_only", "count"] == pytest.approx(panel_at_4[1])
        assert table.loc["first_only", "count"] == pytest.approx(0.5)  # one correct draw in eight, four taken
        assert table["matched_draws"].eq(4).all()

    def test_matched_overlap_equals_enumeration_of_draws(self):
        counts = pd.DataFrame({"arm": ["x", "y"], "problem_id": ["a", "a"], "n": [5, 3], "c": [2, 1]})
        table = expected_overlap(counts, "x", "y", R, n_draws=2).set_index("outcome")
        x = [any(i < 2 for i in s) for s in combinations(range(5), 2)]
        y = [any(i < 1 for i in s) for s in combinations(range(3), 2)]
        outcomes = [(a, b) for a in x for b in y]
        assert table.loc["both", "share"] == pytest.approx(np.mean([a and b for a, b in outcomes]))
        assert table.loc["neither", "share"] == pytest.approx(np.mean([not (a or b) for a, b in outcomes]))

    def test_with_all_draws_of_equal_arms_both_versions_agree(self):
        counts = make_counts()
        np.testing.assert_allclose(
            solved_overlap(counts, "panel", "think", R)["count"],
            expected_overlap(counts, "panel", "think", R)["count"],
        )

    def test_refuses_more_draws_than_there_are(self):
        with pytest.raises(ValueError, match="problem 'a' has n=4, k=5"):
            expected_overlap(self.counts(), "panel", "think", R, n_draws=5)


class TestFailureRatioChange:
    def test_is_the_ratio_of_the_two_failure_ratios(self):
        counts = make_counts(n_problems=80)
        change = failure_ratio_change(counts, "panel", "think", 1, 4, R)
        ratios = [failure_ratio(counts, "panel", "think", k, R).value for k in (1, 4)]
        assert change.value == pytest.approx(ratios[1] / ratios[0])
        assert change.low < change.value < change.high

    def test_is_one_where_both_arms_fail_alike(self):
        counts = make_counts()
        copy = counts[counts["arm"] == "panel"].assign(arm="think")
        same = pd.concat([counts[counts["arm"] == "panel"], copy], ignore_index=True)
        assert failure_ratio_change(same, "panel", "think", 1, 4, R).value == pytest.approx(1)

    def test_a_ceiling_opens_the_gap_that_it_closes_in_points(self):
        # Failure 0.5 against 0.1 per draw, independent draws: 5 times as often at k = 1, more at k = 2.
        rows = [("a", 20, 10), ("b", 20, 18)]
        counts = pd.DataFrame(
            [(arm, f"p{i}", n, c) for arm, n, c in rows for i in range(6)],
            columns=["arm", "problem_id", "n", "c"],
        )
        change = failure_ratio_change(counts, "a", "b", 1, 2, R)
        exact = ((10 * 9) / (2 * 1)) / (10 / 2)
        assert change.value == pytest.approx(exact)
        assert exact > 1
