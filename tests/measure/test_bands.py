"""Variance bands: classes, shares, joint table, and the chance of a mixed group."""

import doctest
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from panelbook.measure import bands
from panelbook.measure.bands import (
    BANDS,
    band_shares,
    classify_band,
    compare_bands,
    expected_mixed_share,
    joint_bands,
    mixed_group_probability,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=500)

# c of n = 8 for the same eight problems; bands 0, 0, v, v, v, 1, 0, v and v, 0, v, 1, v, 1, 0, 0.
PANEL = [0, 0, 3, 5, 1, 8, 0, 2]
THINK = [4, 0, 2, 8, 7, 8, 0, 0]


def make_counts(panel=PANEL, think=THINK, n=8):
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i}" for i in range(len(c))],
                "source": ["amc", "hmmt"] * (len(c) // 2),
                "n": n,
                "c": c,
            }
        )
        for arm, c in (("panel", panel), ("think", think))
    ]
    return pd.concat(arms, ignore_index=True)


groups = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


class TestClasses:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(bands)
        assert result.attempted > 0
        assert result.failed == 0

    def test_single_draws_are_never_mixed(self):
        assert classify_band([1, 1], [0, 1]).tolist() == ["all_zero", "all_one"]

    def test_edges_of_the_band(self):
        assert classify_band(8, [1, 7]).tolist() == ["variance_band", "variance_band"]

    @pytest.mark.parametrize(("n", "c"), [(8, 9), (8, -1), (0, 0)])
    def test_refuses_impossible_counts(self, n, c):
        with pytest.raises(ValueError, match=f"row 1 has n={n}, c={c}"):
            classify_band([8, n], [4, c])


class TestShares:
    def test_counts_and_shares(self):
        table = band_shares(make_counts(), R)
        assert table["band"].tolist() == [*BANDS, *BANDS]
        assert table["count"].tolist() == [3, 4, 1, 3, 3, 2]
        assert table["share"].tolist() == pytest.approx([3 / 8, 4 / 8, 1 / 8, 3 / 8, 3 / 8, 2 / 8])
        assert table["n_draws"].eq(64).all()
        assert (table["low"].le(table["share"]) & table["high"].ge(table["share"])).all()

    def test_by_source_adds_up_and_keeps_empty_bands(self):
        table = band_shares(make_counts(), R, by="source")
        assert table.columns[:3].tolist() == ["arm", "source", "band"]
        assert len(table) == 2 * 2 * 3
        whole = band_shares(make_counts(), R).set_index(["arm", "band"])["count"]
        summed = table.groupby(["arm", "band"])["count"].sum()
        assert summed.sort_index().equals(whole.sort_index())
        empty = table[(table["count"] == 0)]
        assert len(empty) > 0
        assert empty["high"].tolist() == pytest.approx([1 - 0.05 ** (1 / 4)] * len(empty))

    def test_order_of_rows_and_copies_of_problems(self):
        counts = make_counts()
        assert band_shares(counts[::-1], R).equals(band_shares(counts, R))
        copies = pd.concat([counts, counts.assign(problem_id=counts["problem_id"] + "'")])
        assert band_shares(copies, R)["share"].tolist() == band_shares(counts, R)["share"].tolist()

    def test_names_the_missing_column(self):
        with pytest.raises(ValueError, match="no column 'level'"):
            band_shares(make_counts(), R, by="level")


class TestJoint:
    def test_cells_by_hand(self):
        table = joint_bands(make_counts(), "panel", "think")
        assert table.to_numpy().tolist() == [[2, 1, 0], [1, 2, 1], [0, 0, 1]]
        assert table.index.tolist() == table.columns.tolist() == list(BANDS)
        assert (table.index.name, table.columns.name) == ("panel", "think")

    def test_margins_are_the_shares(self):
        counts = make_counts()
        table = joint_bands(counts, "panel", "think")
        shares = band_shares(counts, R).set_index(["arm", "band"])["count"]
        assert table.sum(axis=1).tolist() == shares["panel"].tolist()
        assert table.sum(axis=0).tolist() == shares["think"].tolist()

    def test_swapping_arms_transposes(self):
        counts = make_counts()
        there = joint_bands(counts, "panel", "think").to_numpy()
        assert (joint_bands(counts, "think", "panel").to_numpy() == there.T).all()

    def test_order_stays_and_zeros_stay_when_bands_are_missing(self):
        table = joint_bands(make_counts([0, 0], [8, 8]), "panel", "think")
        assert table.to_numpy().tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 0]]

    def test_counts_problems_left_out(self):
        table = joint_bands(make_counts()[:-2], "panel", "think")
        assert table.to_numpy().sum() == 6
        assert table.attrs["n_unpaired"] == 2

    def test_refuses_unequal_draws(self):
        counts = make_counts()
        counts.loc[10, "n"] = 16
        with pytest.raises(ValueError, match=r"problem 'p2' has n=8 for 'panel' and n=16 for 'think'"):
            joint_bands(counts, "panel", "think")


class TestComparison:
    def test_mcnemar_is_scipys_binomial_test_of_the_disagreements(self):
        rng = np.random.default_rng(0)
        counts = make_counts(rng.integers(0, 9, 60), rng.integers(0, 9, 60) // 2 * 2)
        joint = joint_bands(counts, "panel", "think")
        table = compare_bands(counts, "panel", "think", R).set_index("band")
        for band in BANDS:
            first_only = joint.loc[band].sum() - joint.loc[band, band]
            second_only = joint[band].sum() - joint.loc[band, band]
            row = table.loc[band]
            assert (row["first_only"], row["second_only"]) == (first_only, second_only)
            p = stats.binomtest(int(first_only), int(first_only + second_only)).pvalue
            assert row["p_mcnemar"] == pytest.approx(p)
            assert row["difference"] * 60 == pytest.approx(first_only - second_only)

    def test_ratio_and_difference_by_hand(self):
        row = compare_bands(make_counts(), "panel", "think", R).set_index("band").loc["variance_band"]
        assert (row["first_share"], row["second_share"]) == (0.5, 0.375)
        assert row["difference"] == pytest.approx(0.125)
        assert row["ratio"] == pytest.approx(4 / 3)
        assert row["difference_low"] < 0.125 < row["difference_high"]
        assert row["n_draws"] == 128

    def test_empty_bands_leave_the_ratio_undefined_but_bound_the_difference(self):
        counts = make_counts([0, 1, 2, 0], [0, 3, 4, 1])
        row = compare_bands(counts, "panel", "think", R).set_index("band").loc["all_one"]
        assert np.isnan(row["ratio"])
        assert "undefined" in row["ratio_reason"]
        assert row["p_mcnemar"] == 1.0
        assert row["difference_high"] == pytest.approx(1 - 0.05 ** (1 / 4))

    def test_two_runs_are_bit_identical(self):
        a, b = (compare_bands(make_counts(), "panel", "think", R) for _ in range(2))
        assert a.equals(b)

    def test_refuses_unequal_draws(self):
        counts = make_counts()
        counts.loc[0, "n"] = 4
        with pytest.raises(ValueError, match="expected_mixed_share"):
            compare_bands(counts, "panel", "think", R)


class TestMixedGroup:
    @pytest.mark.parametrize("n", range(1, 8))
    def test_equals_enumeration_of_all_groups(self, n):
        for c in range(n + 1):
            for size in range(1, n + 1):
                mixed = [0 < sum(i < c for i in group) < size for group in combinations(range(n), size)]
                assert mixed_group_probability(n, c, size)[0] == pytest.approx(np.mean(mixed), abs=1e-12)

    @given(groups)
    def test_equals_the_formula(self, drawn):
        n, c, size = drawn
        formula = 1 - (comb(c, size) + comb(n - c, size)) / comb(n, size)
        assert mixed_group_probability(n, c, size)[0] == pytest.approx(formula, abs=1e-12)

    @given(groups)
    def test_is_symmetric_bounded_and_grows_with_the_group(self, drawn):
        n, c, size = drawn
        chance = mixed_group_probability(n, c, size)[0]
        assert 0.0 <= chance <= 1.0
        assert chance == pytest.approx(mixed_group_probability(n, n - c, size)[0], abs=1e-12)
        if size < n:
            assert mixed_group_probability(n, c, size + 1)[0] >= chance - 1e-12

    def test_whole_set_of_draws_is_the_band(self):
        counts = make_counts()
        table = expected_mixed_share(counts, [8], R).set_index("arm")["estimate"]
        shares = band_shares(counts, R).set_index(["arm", "band"])["share"]
        assert table["panel"] == pytest.approx(shares["panel", "variance_band"])

    def test_is_unbiased(self):
        n, size, p = 9, 4, 0.3
        c = np.arange(n + 1)
        expected = stats.binom.pmf(c, n, p) @ mixed_group_probability(np.full(n + 1, n), c, size)
        assert expected == pytest.approx(1 - p**size - (1 - p) ** size)

    def test_refuses_groups_beyond_the_draws_naming_the_problem(self):
        with pytest.raises(ValueError, match="problem 'p0' has n=8, k=9"):
            expected_mixed_share(make_counts(), [2, 9], R)

    def test_table_has_the_documented_columns(self):
        table = expected_mixed_share(make_counts(), [2, 4], R)
        expected = ["arm", "group_size", "estimate", "low", "high", "n_problems", "n_draws"]
        assert table.columns.tolist() == [*expected, "method", "reason"]
        assert table["group_size"].tolist() == [2, 4, 2, 4]
        assert (table["low"].le(table["estimate"]) & table["high"].ge(table["estimate"])).all()
