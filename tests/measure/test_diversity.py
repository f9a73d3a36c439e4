"""Spread: the distance against brute force, the paired comparison against scipy and enumeration."""

import doctest
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.cluster import DBSCAN

from panelbook.measure import diversity
from panelbook.measure.diversity import (
    compare_spread,
    count_clusters,
    embedding_variance_trace,
    mean_pairwise_distance,
    spread_table,
    variance_trace_from_distance,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=500)


def make_counts(n_problems=14, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.gamma(4.0, 0.02, n_problems)
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(n_problems)],
                "n": n,
                "c": 1,
                "mean_distance": factor * base * rng.gamma(20.0, 0.05, n_problems),
            }
        )
        for arm, factor, n in (("panel", 1.4, 16), ("think", 1.0, 8))
    ]
    return pd.concat(arms, ignore_index=True)


def distances(counts, arm):
    return counts.loc[counts["arm"] == arm, "mean_distance"].to_numpy()


embeddings = st.integers(2, 9).flatmap(
    lambda n: st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(size=(n, 5)))
)


class TestDistance:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(diversity)
        assert result.attempted > 0
        assert result.failed == 0

    @given(embeddings)
    def test_equals_the_mean_over_all_pairs(self, rows):
        assert mean_pairwise_distance(rows) == pytest.approx(pdist(rows, "cosine").mean(), abs=1e-12)

    @given(embeddings)
    def test_variance_trace_carries_the_same_information(self, rows):
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        trace = embedding_variance_trace(rows)
        assert trace == pytest.approx(np.trace(np.atleast_2d(np.cov(units.T, ddof=0))))
        assert trace == pytest.approx(
            variance_trace_from_distance(mean_pairwise_distance(rows), len(rows)), abs=1e-12
        )

    def test_closed_forms(self):
        assert mean_pairwise_distance(np.eye(6)) == pytest.approx(1.0)
        assert mean_pairwise_distance([[1.0, 0.0], [-3.0, 0.0]]) == pytest.approx(2.0)
        triangle = [[np.cos(a), np.sin(a)] for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
        assert mean_pairwise_distance(triangle) == pytest.approx(1.5)  # N / (N - 1), the largest

    def test_equal_draws_are_at_zero_and_never_below(self):
        same = np.tile(np.random.default_rng(0).normal(size=384), (16, 1))
        assert mean_pairwise_distance(same) == pytest.approx(0.0, abs=1e-12)
        assert mean_pairwise_distance(same) >= 0.0

    def test_length_and_order_of_rows_do_not_matter(self):
        rows = np.random.default_rng(0).normal(size=(7, 4))
        scaled = rows[::-1] * np.arange(1, 8)[:, np.newaxis]
        assert mean_pairwise_distance(scaled) == pytest.approx(mean_pairwise_distance(rows))

    def test_expectation_does_not_depend_on_the_number_of_draws(self):
        # Over all subsets of a fixed pool, the mean over pairs is the same whatever the subset's size.
        pool = np.random.default_rng(0).normal(size=(6, 3))
        for size in (2, 3, 5):
            means = [mean_pairwise_distance(pool[list(s)]) for s in combinations(range(6), size)]
            assert np.mean(means) == pytest.approx(mean_pairwise_distance(pool))

    def test_names_the_draw_without_direction(self):
        with pytest.raises(ValueError, match=r"row 1 has length 0\.0"):
            mean_pairwise_distance([[1.0, 0.0], [0.0, 0.0]])
        with pytest.raises(ValueError, match="row 0 has length nan"):
            embedding_variance_trace([[np.nan, 0.0], [1.0, 0.0]])

    def test_refuses_a_single_draw(self):
        with pytest.raises(ValueError, match="at least two rows"):
            mean_pairwise_distance([[1.0, 0.0]])
        with pytest.raises(ValueError, match="n >= 2; got n=1"):
            variance_trace_from_distance(0.1, 1)


class TestComparison:
    def test_tests_agree_with_scipy(self):
        counts = make_counts()
        result = compare_spread(counts, "panel", "think", R)
        test = stats.ttest_rel(distances(counts, "panel"), distances(counts, "think"))
        assert (result.t, result.df) == (pytest.approx(test.statistic), 13)
        assert result.p_student == pytest.approx(test.pvalue)
        assert result.p_normal == pytest.approx(2 * stats.norm.cdf(-abs(test.statistic)))
        assert result.p_normal < result.p_student

    def test_sign_flips_equal_enumeration_of_all_signs(self):
        counts = make_counts(8, seed=3)
        difference = distances(counts, "panel") - distances(counts, "think")
        flipped = np.array([np.dot(signs, difference) for signs in product((-1, 1), repeat=8)])
        larger = np.mean(np.abs(flipped) >= abs(difference.sum()) - 1e-12)
        result = compare_spread(counts, "panel", "think", R)
        assert result.p_sign_flip == pytest.approx(larger)

    def test_sign_flips_are_seeded(self):
        counts = make_counts(30)
        a, b = (compare_spread(counts, "panel", "think", R, n_permutations=999) for _ in range(2))
        assert a == b

    def test_means_ratio_and_differences_belong_together(self):
        counts = make_counts()
        result = compare_spread(counts, "panel", "think", R)
        panel, think = distances(counts, "panel").mean(), distances(counts, "think").mean()
        assert result.first.value == pytest.approx(panel)
        assert result.second.value == pytest.approx(think)
        assert result.ratio.value == pytest.approx(panel / think)
        assert result.relative_difference.value == pytest.approx(panel / think - 1)
        assert result.relative_difference.low == pytest.approx(result.ratio.low - 1)
        assert result.difference.value == pytest.approx(panel - think)
        assert result.difference.low < result.difference.value < result.difference.high
        assert (result.first.n_draws, result.second.n_draws, result.ratio.n_draws) == (224, 112, 336)

    def test_share_of_problems_counts_ties_as_not_larger(self):
        counts = make_counts(4)
        counts["mean_distance"] = [0.3, 0.2, 0.1, 0.4, 0.2, 0.2, 0.2, 0.2]
        assert compare_spread(counts, "panel", "think", R).share_first_larger.value == 0.5

    def test_unit_of_distance_does_not_matter_to_the_tests(self):
        counts = make_counts()
        scaled = counts.assign(mean_distance=counts["mean_distance"] * 1000)
        a, b = (compare_spread(c, "panel", "think", R) for c in (counts, scaled))
        assert (a.t, a.p_sign_flip) == pytest.approx((b.t, b.p_sign_flip))
        assert (a.ratio.low, a.ratio.high) == pytest.approx((b.ratio.low, b.ratio.high))

    def test_identical_arms_have_no_test_and_no_false_certainty(self):
        panel = make_counts()[:14]
        counts = pd.concat([panel, panel.assign(arm="twin")])
        result = compare_spread(counts, "panel", "twin", R)
        assert np.isnan([result.t, result.p_student, result.p_normal, result.p_sign_flip]).all()
        assert result.ratio.low is None
        assert result.share_first_larger.high == pytest.approx(1 - 0.05 ** (1 / 14))

    def test_reports_problems_left_out(self):
        result = compare_spread(make_counts()[:-5], "panel", "think", R)
        assert (result.n_problems, result.n_unpaired, result.df) == (9, 5, 8)
        assert result.ratio.n_unpaired == 5

    def test_one_shared_problem_gives_reasons(self):
        result = compare_spread(make_counts(1), "panel", "think", R)
        assert "at least two" in result.ratio.reason
        assert np.isnan(result.t)

    def test_names_the_missing_column_and_the_missing_distance(self):
        counts = make_counts()
        with pytest.raises(ValueError, match="no column 'mean_distance'"):
            compare_spread(counts.drop(columns="mean_distance"), "panel", "think", R)
        counts.loc[3, "mean_distance"] = np.nan
        with pytest.raises(ValueError, match=r"'mean_distance'.*problem 'p003' of arm 'panel'"):
            compare_spread(counts, "panel", "think", R)


class TestTable:
    def test_has_one_row_per_arm(self):
        counts = make_counts()
        table = spread_table(counts.sample(frac=1, random_state=1), R).set_index("arm")
        for arm in ("panel", "think"):
            assert table.loc[arm, "mean_distance"] == pytest.approx(distances(counts, arm).mean())
            assert table.loc[arm, "sd"] == pytest.approx(distances(counts, arm).std(ddof=1))
        assert table["n_draws"].to_dict() == {"panel": 224, "think": 112}
        pd.testing.assert_frame_equal(table.reset_index(), spread_table(counts, R))

    def test_agrees_with_the_comparison_on_the_same_problems(self):
        counts = make_counts()
        row = spread_table(counts, R).iloc[0]
        result = compare_spread(counts, "panel", "think", R)
        assert row["mean_distance"] == pytest.approx(result.first.value)
        assert (row["low"], row["high"]) == pytest.approx((result.first.low, result.first.high), rel=0.03)

    def test_one_problem_gives_a_reason(self):
        table = spread_table(make_counts(1), R)
        assert table[["low", "high", "sd"]].isna().all(axis=None)
        assert table["reason"].str.contains("at least two").all()


class TestClusters:
    """Clusters and single draws, against DBSCAN, which the book's spread table counts with."""

    @given(st.integers(0, 10_000), st.integers(2, 9))
    def test_are_those_of_dbscan(self, seed, n):
        vectors = np.random.default_rng(seed).normal(size=(n, 3))
        thresholds = [0.05, 0.25, 0.6, 1.2]
        expected = []
        for eps in thresholds:
            labels = DBSCAN(eps=eps, min_samples=2, metric="cosine").fit_predict(vectors)
            expected.append(len(set(labels) - {-1}) + int((labels == -1).sum()))
        assert count_clusters(vectors, thresholds).tolist() == expected

    def test_joining_is_by_the_chain_and_not_by_its_ends(self):
        angles = np.deg2rad([0, 20, 40, 60])  # neighbours lie 0.06 apart, the ends 0.5
        fan = np.column_stack([np.cos(angles), np.sin(angles)])
        assert count_clusters(fan, [0.05, 0.07]).tolist() == [4, 1]

    def test_equal_draws_are_one_cluster_at_any_distance(self):
        assert count_clusters([[1, 2], [2, 4], [3, 6]], [1e-6, 0.5]).tolist() == [1, 1]

    def test_a_draw_without_direction_is_refused(self):
        with pytest.raises(ValueError, match="row 1 has length 0"):
            count_clusters([[1, 0], [0, 0]], [0.1])
