"""Positions: every table against enumeration of subsets, numbers by hand, and the chapters' measures."""

from itertools import combinations, product
from math import comb

import numpy as np
import pandas as pd
import pytest

from panelbook.measure.bands import band_shares
from panelbook.measure.passk import pass_at_k_gap
from panelbook.measure.positions import (
    compare_at_each_budget,
    compare_at_each_cap,
    compare_at_each_group_size,
    compare_at_each_k,
    compare_at_each_mean_budget,
    compare_at_each_step,
    compare_at_each_threshold,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=7, n_resamples=300)


def counts(
    first: dict[str, tuple[int, int]], second: dict[str, tuple[int, int]], **more: float
) -> pd.DataFrame:
    """Counts of two arms: problem -> (n, c)."""
    return pd.DataFrame(
        [
            {"arm": arm, "problem_id": problem, "n": n, "c": c, **more}
            for arm, rows in (("panel", first), ("think", second))
            for problem, (n, c) in rows.items()
        ]
    )


WEAK = {"p": (4, 0), "q": (4, 1), "r": (4, 2), "s": (4, 4)}
STRONG = {"p": (4, 2), "q": (4, 3), "r": (4, 4), "s": (4, 4)}


def value(table: pd.DataFrame, **at: object) -> float:
    for key, wanted in at.items():
        table = table[table[key] == wanted]
    assert len(table) == 1, at
    return float(table["estimate"].iloc[0])


def solved_by_subsets(n: int, c: int, k: int) -> float:
    """Share of the k-subsets of n draws that hold one of the first c."""
    subsets = list(combinations(range(n), k))
    return sum(any(draw < c for draw in subset) for subset in subsets) / len(subsets)


def copy_by_subsets(n: int, c: int, k: int, kept: float) -> float:
    """Chance that some right draw of a k-subset survives, each with probability `kept`: every outcome listed."""
    total = 0.0
    for subset in combinations(range(n), k):
        right = [draw for draw in subset if draw < c]
        for survives in product([False, True], repeat=len(right)):
            chance = np.prod([kept if alive else 1 - kept for alive in survives])
            total += chance * any(survives)
    return total / comb(n, k)


class TestEachK:
    table = compare_at_each_k(counts(WEAK, STRONG), "panel", "think", [1, 2, 3], R)

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_both_arms_are_the_share_of_subsets_with_a_right_draw(self, k):
        for quantity, arm in (("first", WEAK), ("second", STRONG)):
            expected = np.mean([solved_by_subsets(n, c, k) for n, c in arm.values()])
            assert value(self.table, k=k, quantity=quantity) == pytest.approx(expected)

    def test_the_gap_is_that_of_the_chapter_to_the_last_digit(self):
        gap = pass_at_k_gap(counts(WEAK, STRONG), "panel", "think", [1, 2, 3], R)
        mine = self.table[self.table["quantity"] == "gap"]
        assert (
            mine[["estimate", "low", "high"]].to_numpy().tolist()
            == gap[["gap", "low", "high"]].to_numpy().tolist()
        )

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_the_copy_spoils_right_draws_of_the_stronger_arm_one_by_one(self, k):
        kept = (7 / 16) / (13 / 16)
        expected = np.mean([copy_by_subsets(n, c, k, kept) for n, c in STRONG.values()])
        assert value(self.table, k=k, quantity="copy") == pytest.approx(expected)
        weak = value(self.table, k=k, quantity="first")
        assert value(self.table, k=k, quantity="beyond_copy") == pytest.approx(weak - expected)
        assert self.table.attrs["stronger"] == "think"

    def test_which_arm_is_copied_does_not_depend_on_their_order(self):
        swapped = compare_at_each_k(counts(WEAK, STRONG), "think", "panel", [2], R)
        assert swapped.attrs["stronger"] == "think"
        assert value(swapped, k=2, quantity="copy") == pytest.approx(value(self.table, k=2, quantity="copy"))
        assert value(swapped, k=2, quantity="beyond_copy") == pytest.approx(
            value(self.table, k=2, quantity="beyond_copy")
        )

    def test_failures_are_compared_as_a_ratio_and_undefined_where_the_second_has_none(self):
        first, second = (value(self.table, k=2, quantity=q) for q in ("first", "second"))
        assert value(self.table, k=2, quantity="failure_ratio") == pytest.approx((1 - first) / (1 - second))
        perfect = compare_at_each_k(counts(WEAK, dict.fromkeys(WEAK, (4, 4))), "panel", "think", [1], R)
        row = perfect[perfect["quantity"] == "failure_ratio"].iloc[0]
        assert np.isnan(row["estimate"])
        assert row["reason"]

    def test_every_row_has_an_interval_or_a_reason(self):
        bare = self.table["low"].isna() & (self.table["reason"] == "")
        assert not bare.any()

    def test_k_beyond_the_draws_names_the_problem(self):
        with pytest.raises(ValueError, match=r"'p' has n=4, k=5"):
            compare_at_each_k(counts(WEAK, STRONG), "panel", "think", [5], R)


class TestEachGroupSize:
    def test_three_outcomes_are_the_shares_of_subsets(self):
        table = compare_at_each_group_size(counts(WEAK, STRONG), "panel", "think", [2, 3], R)
        for size in (2, 3):
            expected = {"all_zero": 0.0, "variance_band": 0.0, "all_one": 0.0}
            for n, c in WEAK.values():
                groups = list(combinations(range(n), size))
                for group in groups:
                    right = sum(draw < c for draw in group)
                    band = "all_zero" if right == 0 else "all_one" if right == size else "variance_band"
                    expected[band] += 1 / len(groups) / len(WEAK)
            for band, share in expected.items():
                assert value(table, group_size=size, band=band, quantity="first") == pytest.approx(share)

    def test_a_group_of_all_draws_is_the_band_itself(self):
        rows = counts(WEAK, STRONG)
        table = compare_at_each_group_size(rows, "panel", "think", [4], R)
        shares = band_shares(rows, R).set_index(["arm", "band"])
        for band in ("all_zero", "variance_band", "all_one"):
            for arm, quantity in (("panel", "first"), ("think", "second")):
                mine = table[(table["band"] == band) & (table["quantity"] == quantity)].iloc[0]
                assert mine["estimate"] == pytest.approx(shares.loc[(arm, band), "share"])
        assert value(table, band="variance_band", quantity="ratio") == pytest.approx(2 / 2)
        assert value(table, band="variance_band", quantity="gap") == pytest.approx(0.0)

    def test_arms_with_unequal_draws_are_measured_at_one_size(self):
        rows = counts({"p": (4, 2), "q": (4, 4)}, {"p": (2, 1), "q": (2, 0)})
        table = compare_at_each_group_size(rows, "panel", "think", [2], R)
        assert value(table, band="variance_band", quantity="first") == pytest.approx((4 / 6) / 2)
        assert value(table, band="variance_band", quantity="second") == pytest.approx(1 / 2)
        with pytest.raises(ValueError, match="n=2, k=3"):
            compare_at_each_group_size(rows, "panel", "think", [3], R)


def draws(lengths: dict[tuple[str, str], list[tuple[int, str]]], limit: int | None = None) -> pd.DataFrame:
    """Rollouts: (arm, problem) -> (tokens, status) of each draw."""
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "problem_id": problem,
                "sample_id": place,
                "completion_tokens": tokens,
                "status": status,
                "predicted": "1" if status == "correct" else f"w{place}",
                "max_tokens": limit,
            }
            for (arm, problem), rows in lengths.items()
            for place, (tokens, status) in enumerate(rows)
        ]
    )


SINGLE = {
    ("panel", "p"): [(100, "correct"), (200, "wrong"), (300, "wrong")],
    ("panel", "q"): [(100, "wrong"), (100, "wrong"), (100, "wrong")],
    ("think", "p"): [(300, "correct"), (300, "correct"), (300, "correct")],
    ("think", "q"): [(400, "correct"), (400, "wrong"), (400, "wrong")],
    ("think", "only here"): [(400, "correct")],
}


class TestEachBudget:
    def test_numbers_of_the_chapters_toy_and_the_gap(self):
        table = compare_at_each_budget(draws(SINGLE), "panel", "think", [100, 300], R)
        # p under panel is the toy of the chapter on budgets: a third, then a half.
        assert value(table, budget=100, quantity="first") == pytest.approx((1 / 3 + 0) / 2)
        assert value(table, budget=300, quantity="first") == pytest.approx((1 / 2 + 0) / 2)
        assert value(table, budget=300, quantity="second") == pytest.approx((1 + 0) / 2)
        assert value(table, budget=300, quantity="gap") == pytest.approx(1 / 4 - 1 / 2)

    def test_budgets_that_some_draws_do_not_reach_are_left_out(self):
        table = compare_at_each_budget(draws(SINGLE), "panel", "think", [100, 300, 301], R)
        assert sorted(table["budget"].unique()) == [100, 300]
        with pytest.raises(ValueError, match=r"no budget from 500 tokens"):
            compare_at_each_budget(draws(SINGLE), "panel", "think", [500, 600], R)

    def test_a_majority_wants_more_than_one_right_draw(self):
        rows = draws({key: SINGLE[key] for key in SINGLE if key[1] == "p"})
        table = compare_at_each_budget(rows, "panel", "think", [600], R, "majority")
        assert value(table, budget=600, quantity="first") == pytest.approx(1 / 3)  # a tie of three answers

    def test_arms_without_a_common_problem(self):
        rows = draws({("panel", "p"): [(1, "wrong")], ("think", "q"): [(1, "wrong")]})
        with pytest.raises(ValueError, match="share no problem_id"):
            compare_at_each_budget(rows, "panel", "think", [1, 2], R)


class TestEachMeanBudget:
    rows = pd.concat(
        [counts(WEAK, {}, mean_tokens=100.0), counts({}, STRONG, mean_tokens=150.0)], ignore_index=True
    )

    def test_k_mean_draws_reach_pass_at_k_and_halves_lie_between(self):
        table = compare_at_each_mean_budget(self.rows, "panel", "think", [100, 150, 200], R)
        one, two = (np.mean([solved_by_subsets(4, c, k) for _, c in WEAK.values()]) for k in (1, 2))
        assert value(table, budget=100, quantity="first") == pytest.approx(one)
        assert value(table, budget=150, quantity="first") == pytest.approx((one + two) / 2)
        assert value(table, budget=200, quantity="first") == pytest.approx(two)
        assert value(table, budget=150, quantity="gap") == pytest.approx((one + two) / 2 - 13 / 16)

    def test_less_than_one_draw_buys_nothing_unless_problems_may_be_skipped(self):
        for every, bought in ((True, 0.0), (False, 0.5 * 13 / 16)):
            table = compare_at_each_mean_budget(self.rows, "panel", "think", [75], R, every_problem=every)
            assert value(table, budget=75, quantity="second") == pytest.approx(bought)
            reason = table.loc[table["quantity"] == "second", "reason"].item()
            assert ("less than one mean draw" in reason) == every

    def test_budgets_beyond_the_draws_are_left_out(self):
        table = compare_at_each_mean_budget(self.rows, "panel", "think", [400, 401], R)
        assert table["budget"].unique().tolist() == [400]
        with pytest.raises(ValueError, match="within both arms' draws"):
            compare_at_each_mean_budget(self.rows, "panel", "think", [401], R)

    def test_a_missing_length_is_named(self):
        rows = self.rows.assign(mean_tokens=np.where(self.rows["problem_id"] == "q", np.nan, 1.0))
        with pytest.raises(ValueError, match=r"'mean_tokens' must be a finite number; problem 'q'"):
            compare_at_each_mean_budget(rows, "panel", "think", [1], R)


class TestEachCap:
    table = compare_at_each_cap(draws(SINGLE, limit=400), "panel", "think", [150, 300, 400], R)

    def test_a_draw_that_is_cut_costs_the_cap_and_is_wrong(self):
        # panel at 150: 100 + 150 + 150 on p, 300 on q, one right; think at 300: 900 on p, 900 on q, three right.
        assert value(self.table, cap=150, quantity="first_cost") == pytest.approx(700 / 1)
        assert value(self.table, cap=300, quantity="second_cost") == pytest.approx(1800 / 3)
        assert value(self.table, cap=300, quantity="cost_ratio") == pytest.approx(600 / 900)

    def test_right_draws_that_fit_are_a_share_of_all_right_ones(self):
        assert value(self.table, cap=150, quantity="first_kept") == 1.0
        assert value(self.table, cap=150, quantity="second_kept") == 0.0
        assert value(self.table, cap=300, quantity="second_kept") == pytest.approx(3 / 4)
        assert value(self.table, cap=300, quantity="kept_gap") == pytest.approx(1 / 4)

    def test_what_nobody_gets_right_has_no_cost_and_says_so(self):
        row = self.table[(self.table["cap"] == 150) & (self.table["quantity"] == "second_cost")].iloc[0]
        assert np.isnan(row["estimate"])
        assert row["reason"]

    def test_caps_above_the_limit_of_the_draws_are_left_out(self):
        table = compare_at_each_cap(draws(SINGLE, limit=300), "panel", "think", [300, 301], R)
        assert table["cap"].unique().tolist() == [300]
        with pytest.raises(ValueError, match="made with a limit of 300 tokens"):
            compare_at_each_cap(draws(SINGLE, limit=300), "panel", "think", [301], R)


class TestEachThreshold:
    def clusters(self, **numbers: list[int]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "arm": arm,
                    "problem_id": f"p{i}",
                    "n": 4,
                    "threshold": threshold,
                    "n_clusters": n - (threshold > 0.1),
                }
                for arm, each in numbers.items()
                for i, n in enumerate(each)
                for threshold in (0.2, 0.1)
            ]
        )

    def test_means_and_their_paired_difference(self):
        table = compare_at_each_threshold(
            self.clusters(panel=[4, 3, 2], think=[2, 2, 2]), "panel", "think", R
        )
        assert table["threshold"].unique().tolist() == [0.1, 0.2]
        assert value(table, threshold=0.1, quantity="first") == pytest.approx(3.0)
        assert value(table, threshold=0.2, quantity="first") == pytest.approx(2.0)
        assert value(table, threshold=0.2, quantity="gap") == pytest.approx(1.0)
        assert table.loc[table["quantity"] == "gap", "n_draws"].unique().tolist() == [24]

    def test_a_problem_that_lacks_a_threshold_or_an_arm_is_refused(self):
        table = self.clusters(panel=[4, 3], think=[2, 2])
        with pytest.raises(ValueError, match="finite"):
            compare_at_each_threshold(table.drop(index=0), "panel", "think", R)
        with pytest.raises(ValueError, match="share no problem_id"):
            compare_at_each_threshold(table, "panel", "nobody", R)


class TestEachStep:
    def heldout(self, arm: str, seed: int, right: dict[int, list[int]]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "arm": arm,
                    "train_seed": seed,
                    "step": step,
                    "tokens_total": 100 * step,
                    "problem_id": f"p{i}",
                    "n": 4,
                    "c": c,
                }
                for step, counts in right.items()
                for i, c in enumerate(counts)
            ]
        )

    def table(self) -> pd.DataFrame:
        return pd.concat(
            [
                self.heldout("panel", 1, {0: [0, 2], 10: [4, 2], 20: [4, 4]}),
                self.heldout("panel", 2, {0: [0, 2], 10: [2, 2]}),
                self.heldout("think", 1, {0: [1, 4], 10: [1, 4], 20: [1, 4]}),
            ],
            ignore_index=True,
        )

    def test_seeds_are_averaged_within_problems_and_steps_are_those_of_every_run(self):
        found = compare_at_each_step(self.table(), "panel", "think", 2, R)
        assert sorted(found["step"].unique()) == [0, 10]
        assert value(found, step=10, measure="pass_1", quantity="first") == pytest.approx((0.75 + 0.5) / 2)
        assert value(found, step=10, measure="pass_1", quantity="gap") == pytest.approx(0.625 - 0.625)
        two_of_four = solved_by_subsets(4, 2, 2)
        assert value(found, step=0, measure="pass_k", quantity="first") == pytest.approx(
            (0 + two_of_four) / 2
        )

    def test_the_band_is_the_share_of_problems_with_both_outcomes(self):
        found = compare_at_each_step(self.table(), "panel", "think", 2, R)
        assert value(found, step=10, measure="band", quantity="first") == pytest.approx((0.5 + 1.0) / 2)
        assert value(found, step=10, measure="band", quantity="second") == pytest.approx(1 / 2)

    def test_without_a_common_checkpoint_there_is_nothing_to_compare(self):
        rows = pd.concat([self.heldout("panel", 1, {0: [1]}), self.heldout("think", 1, {5: [1]})])
        with pytest.raises(ValueError, match="share no checkpoint"):
            compare_at_each_step(rows, "panel", "think", 1, R)
        with pytest.raises(ValueError, match="share no checkpoint"):
            compare_at_each_step(rows, "panel", "nobody", 1, R)
