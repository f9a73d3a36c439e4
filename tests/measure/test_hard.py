"""Hard problems: splits by enumeration, the second batch by simulation, the two directions by identity."""

import doctest
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import hard
from panelbook.measure.betabinomial import fit_beta_binomial
from panelbook.measure.hard import BUCKETS, bucket_by_rate, compare_buckets, compare_saves, second_batch_pass
from panelbook.measure.passk import pass_at_k, pass_at_k_gap
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

R = Resampling(seed=20260424, n_resamples=500)
FEW = Resampling(seed=1, n_resamples=100)


def table(c_first, n_first, c_second, n_second):
    ids = [f"p{i:04d}" for i in range(len(c_first))]
    arms = (("panel", n_first, c_first), ("think", n_second, c_second))
    return pd.concat(
        [pd.DataFrame({"arm": arm, "problem_id": ids, "n": n, "c": c}) for arm, n, c in arms],
        ignore_index=True,
    )


def study(n_problems=120, n_first=8, n_second=8, seed=0, shuffle=False, a=0.6, b=0.6):
    """Two arms with the same success probabilities, or with those of other problems."""
    rng = np.random.default_rng(seed)
    q = rng.beta(a, b, n_problems)
    p = rng.permutation(q) if shuffle else q
    return table(rng.binomial(n_first, p), n_first, rng.binomial(n_second, q), n_second)


def saves(counts, n_null=400, resampling=R):
    return compare_saves(counts, "panel", "think", resampling, n_null).set_index(["saving", "quantity"])


def test_examples_in_docstrings():
    result = doctest.testmod(hard)
    assert result.attempted > 0
    assert result.failed == 0


class TestBuckets:
    def test_four_draws_are_the_published_buckets(self):
        assert bucket_by_rate([4] * 5, range(5)) == list(BUCKETS)

    @pytest.mark.parametrize("n", [1, 2, 7, 16])
    def test_every_count_has_one_bucket_and_they_are_in_order(self, n):
        places = [BUCKETS.index(name) for name in bucket_by_rate([n] * (n + 1), range(n + 1))]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, len(BUCKETS) - 1)

    def test_rates_are_means_of_pass_at_m_within_the_bucket(self):
        counts = table([3, 0, 8, 4], 8, [0, 0, 4, 4], 4)
        found = compare_buckets(counts, "think", "panel", 4, R, 200).set_index("bucket")
        assert list(found.index) == ["never", "always"]
        assert found.loc["never", "estimate"] == pytest.approx(pass_at_k(8, 3, 4) / 2)
        assert found.loc["always", "estimate"] == pytest.approx((1.0 + pass_at_k(8, 4, 4)) / 2)
        assert found["n_problems"].tolist() == [2, 2]
        assert found["n_draws"].tolist() == [24, 24]

    def test_the_second_batch_is_that_of_the_beta_binomial_model(self):
        counts = study(400)
        found = compare_buckets(counts, "think", "panel", 4, R, 1000).set_index("bucket")
        rows = counts[counts["arm"] == "think"]
        prior = fit_beta_binomial(rows["n"], rows["c"])
        expected = pd.Series(prior.predict_pass(rows["n"], rows["c"], 4)).groupby(
            bucket_by_rate(rows["n"], rows["c"])
        )
        assert found["second_batch"].to_dict() == pytest.approx(expected.mean().to_dict(), abs=0.02)
        assert (found["second_low"] <= found["second_batch"]).all()
        assert (found["second_batch"] <= found["second_high"]).all()


class TestSplits:
    @pytest.mark.parametrize(("n", "h"), [(4, 1), (4, 2), (5, 2), (7, 3)])
    def test_second_batch_is_the_share_of_all_splits(self, n, h):
        for c in range(n + 1):
            draws = [1] * c + [0] * (n - c)
            found = [
                not any(draws[i] for i in one) and any(draws[i] for i in other)
                for one in combinations(range(n), h)
                for other in combinations(sorted(set(range(n)) - set(one)), h)
            ]
            assert second_batch_pass(n, c, h) == pytest.approx(np.mean(found))

    def test_refuses_halves_that_do_not_fit(self):
        with pytest.raises(ValueError, match="k must not exceed"):
            second_batch_pass(5, 1, 3)

    def test_the_table_is_the_ratio_of_sums_over_problems(self):
        counts = table([2, 0, 5, 7], 8, [0, 1, 3, 6], 6)
        found = saves(counts).loc["panel"]
        n_half = 3
        fails = [1.0 - pass_at_k(6, c, n_half) for c in (0, 1, 3, 6)]
        same = [second_batch_pass(6, c, n_half) for c in (0, 1, 3, 6)]
        other = [f * pass_at_k(8, c, n_half) for f, c in zip(fails, (2, 0, 5, 7), strict=True)]
        assert found.loc["half_same", "draws"] == n_half
        assert found.loc["half_same", "estimate"] == pytest.approx(sum(same) / sum(fails))
        assert found.loc["half_other", "estimate"] == pytest.approx(sum(other) / sum(fails))
        assert found.loc["half_difference", "estimate"] == pytest.approx(
            (sum(other) - sum(same)) / sum(fails)
        )

    def test_two_arms_alike_save_as_much_of_each_other_as_of_themselves(self):
        found = saves(study(8000), 100, FEW).loc["panel"]
        assert found.loc["half_difference", "estimate"] == pytest.approx(0.0, abs=0.03)
        assert found.loc["matched", "estimate"] == pytest.approx(
            found.loc["second_batch", "estimate"], abs=0.02
        )


class TestSaves:
    def test_all_draws_are_counts_with_an_exact_interval(self):
        counts = table([0, 2, 1, 0, 8, 0], 8, [0, 0, 0, 4, 4, 1], 4)
        found = saves(counts)
        row = found.loc[("panel", "all_draws")]
        exact = stats.binomtest(2, 3).proportion_ci(method="exact")
        assert (row["n_failed"], row["n_saved"], row["n_problems"], row["n_draws"]) == (3, 2, 3, 36)
        assert (row["estimate"], row["low"], row["high"]) == pytest.approx((2 / 3, exact.low, exact.high))
        back = found.loc[("think", "all_draws")]
        assert (back["n_failed"], back["n_saved"]) == (3, 2)

    def test_matched_is_the_mean_over_every_subset_of_the_longer_arm(self):
        counts = table([1, 5, 0], 6, [0, 0, 2], 3)
        draws = [[1] + [0] * 5, [1] * 5 + [0]]
        share = [np.mean([any(d[i] for i in chosen) for chosen in combinations(range(6), 3)]) for d in draws]
        row = saves(counts).loc[("panel", "matched")]
        assert row["draws"] == 3
        assert row["estimate"] == pytest.approx(np.mean(share))
        assert row["n_failed"] == 2

    def test_the_two_directions_differ_by_the_gap_in_pass_at_m(self):
        counts = study(60, n_second=4, shuffle=True, seed=3)
        found = saves(counts)
        difference = found.loc[("panel", "matched"), "n_saved"] - found.loc[("think", "matched"), "n_saved"]
        gap = pass_at_k_gap(counts, "panel", "think", [4], R)["gap"].iloc[0]
        assert difference == pytest.approx(60 * gap)

    def test_the_order_of_rows_does_not_matter(self):
        counts = study(30)
        pd.testing.assert_frame_equal(saves(counts), saves(counts.sample(frac=1.0, random_state=2)))


class TestSecondBatch:
    @pytest.mark.slow
    def test_a_copy_of_the_arm_is_rarely_told_from_its_second_batch(self):
        found = [
            saves(study(80, n_second=4, seed=s), 199, FEW).loc[("panel", "second_batch"), "p"]
            for s in range(20)
        ]
        assert (np.array(found) <= 0.05).mean() <= 0.2  # 3 standard errors above 5%
        assert 0.2 <= (np.array(found) <= 0.5).mean() <= 0.8

    def test_an_arm_strong_elsewhere_saves_more_than_a_second_batch(self):
        found = saves(study(300, shuffle=True)).loc["panel"]
        assert found.loc["second_batch", "p"] <= 0.01
        assert found.loc["matched", "estimate"] > found.loc["second_batch", "high"]
        assert found.loc["half_difference", "low"] > 0

    def test_an_arm_that_saves_nothing_lies_below_it(self):
        counts = study(300)
        counts.loc[counts["arm"] == "panel", "c"] = 0
        found = saves(counts).loc["panel"]
        assert found.loc["matched", "estimate"] == 0.0
        assert found.loc["second_batch", "low"] > 0.0
        assert found.loc["second_batch", "p"] <= 0.01


@pytest.mark.published
class TestPublished:
    @pytest.fixture(scope="class")
    @staticmethod
    def found(published_folder):
        counts = adapters.read_counts(published_folder)
        rows = select_counts(counts, study="published", benchmark="math500_l5", arms=("panel", "thinking"))
        return compare_saves(rows, "panel", "thinking", R, 400).set_index(["saving", "quantity"])

    def test_counts_are_those_that_the_study_prints(self, found):
        row, back = found.loc[("panel", "all_draws")], found.loc[("thinking", "all_draws")]
        assert (row["n_saved"], row["n_failed"]) == (3, 6)
        assert (back["n_saved"], back["n_failed"]) == (20, 23)

    def test_at_four_draws_each_a_second_batch_of_thinking_would_do_as_well(self, found):
        null = found.loc[("panel", "second_batch")]
        assert found.loc[("panel", "matched"), "n_saved"] == pytest.approx(2.43, abs=0.005)
        assert null["low"] <= found.loc[("panel", "matched"), "estimate"] <= null["high"]


class TestEdges:
    def test_where_nothing_is_failed_the_share_is_undefined_and_says_so(self):
        found = saves(table([1, 2, 3], 4, [4, 4, 4], 4)).loc["panel"]
        for quantity in ("all_draws", "matched", "second_batch", "half_same"):
            assert np.isnan(found.loc[quantity, "estimate"])
            assert "think fails no problem" in found.loc[quantity, "reason"]
            assert np.isnan(found.loc[quantity, "low"])

    def test_a_single_draw_cannot_be_halved(self):
        found = saves(table([1, 0, 1], 4, [0, 1, 0], 1))
        assert ("panel", "half_same") not in found.index
        assert ("think", "half_same") in found.index
        assert found.loc[("panel", "matched"), "draws"] == 1

    def test_draws_may_differ_between_problems(self):
        found = saves(table([1, 0, 5], [4, 6, 8], [0, 1, 0], [3, 5, 7])).loc["panel"]
        assert found.loc["matched", "draws"] == 3
        assert found.loc["half_same", "draws"] == 1

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda t: compare_saves(t, "panel", "think", R, 10), "n_null must be 100 or more"),
            (lambda t: compare_saves(t, "panel", "nobody", R, 200), "'nobody' has no rows"),
            (lambda t: compare_saves(t.drop(columns="n"), "panel", "think", R, 200), "no column 'n'"),
            (lambda t: compare_saves(t.assign(c=np.nan), "panel", "think", R, 200), "whole numbers"),
            (lambda t: compare_buckets(t, "think", "panel", 9, R, 200), "k must not exceed"),
        ],
    )
    def test_refuses(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(study(20))
