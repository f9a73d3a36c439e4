"""Agreement: scikit-learn and sums by hand as oracles, undefined cases, and what does not change them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from panelbook.measure.agreement import (
    POOLED,
    cohen_kappa,
    count_verdicts,
    estimate_agreement,
    estimate_paired_difference,
    exact_mcnemar,
    least_disagreement,
)
from panelbook.measure.uncertainty import Resampling

LABELS = ("right", "wrong", "unclear")
RESAMPLING = Resampling(seed=3, n_resamples=400)
verdict_lists = st.integers(2, 25).flatmap(
    lambda n: st.tuples(*[st.lists(st.sampled_from(LABELS), min_size=n, max_size=n)] * 2)
)


def readings(first, second, arms=("panel", "thinking")):
    """Verdicts of two readers: transcript i belongs to problem i // 2 and to the arms in turn."""
    n = len(first)
    return pd.DataFrame(
        {
            "problem_id": [f"p{i // len(arms):02d}" for i in range(n)],
            "arm": [arms[i % len(arms)] for i in range(n)],
            "first": first,
            "second": second,
        }
    )


class TestKappa:
    @given(verdict_lists)
    def test_is_what_scikit_learn_computes(self, lists):
        first, second = lists
        joint = [
            [sum(pair == (a, b) for pair in zip(first, second, strict=True)) for b in LABELS] for a in LABELS
        ]
        value = float(cohen_kappa(joint))
        if len(set(first) | set(second)) == 1:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(cohen_kappa_score(first, second, labels=list(LABELS)), abs=1e-9)

    def test_resamples_are_leading_axes(self):
        tables = np.array([[[20, 5], [10, 15]], [[1, 0], [0, 1]], [[0, 1], [1, 0]], [[4, 0], [0, 0]]])
        np.testing.assert_allclose(cohen_kappa(tables), [0.4, 1, -1, np.nan])

    def test_rounding_makes_no_number_of_an_undefined_kappa(self):
        assert np.isnan(cohen_kappa(np.array([[0.1 + 0.2, 0], [0, 0]])))


class TestCounts:
    def test_verdicts_nobody_gave_are_there_with_zero(self):
        table = count_verdicts(readings(["right", "right"], ["right", "wrong"]), LABELS)
        assert table.to_numpy().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]

    def test_unknown_verdict_is_named_with_its_reader(self):
        with pytest.raises(
            ValueError, match=r"second reader's verdict 'Right' is none of right, wrong, unclear"
        ):
            count_verdicts(readings(["right"], ["Right"]), LABELS)

    def test_nothing_read_by_both_is_an_error(self):
        with pytest.raises(ValueError, match="no transcript has been read by both"):
            estimate_agreement(readings([], []), LABELS, RESAMPLING)


class TestEstimates:
    first = ["right"] * 12 + ["wrong"] * 6 + ["unclear"] * 2
    second = ["right"] * 9 + ["wrong"] * 8 + ["unclear"] * 3

    def rows(self, first=None, second=None):
        table = readings(first or self.first, second or self.second)
        return estimate_agreement(table, LABELS, RESAMPLING).set_index(["arm", "quantity"])

    def test_values_of_the_pooled_rows_by_hand(self):
        found = self.rows().loc[POOLED, "estimate"]
        # 9 right, 5 wrong and 2 unclear agree; margins 12, 6, 2 and 9, 8, 3 of 20.
        assert found["observed"] == pytest.approx(16 / 20)
        assert found["chance"] == pytest.approx((12 * 9 + 6 * 8 + 2 * 3) / 400)
        assert found["kappa"] == pytest.approx(cohen_kappa_score(self.first, self.second))

    def test_arms_come_apart_and_are_counted(self):
        table = self.rows()
        assert list(table.loc[POOLED, "n_draws"].unique()) == [20]
        for start, arm in enumerate(("panel", "thinking")):
            assert table.loc[(arm, "kappa"), "estimate"] == pytest.approx(
                cohen_kappa_score(self.first[start::2], self.second[start::2])
            )
            assert table.loc[(arm, "kappa"), "n_draws"] == 10

    def test_interval_holds_its_value_and_the_seed_decides_it(self):
        table = self.rows()
        assert (table["low"] <= table["estimate"]).all()
        assert (table["estimate"] <= table["high"]).all()
        assert table.equals(self.rows())

    def test_readers_may_change_places(self):
        here, there = self.rows(), self.rows(self.second, self.first)
        pd.testing.assert_frame_equal(here, there)

    def test_full_agreement_has_a_bound_and_kappa_a_reason(self):
        table = self.rows(["right"] * 20, ["right"] * 20)
        # With 10 problems all alike, 1 - 0.05^(1/10) is what may differ.
        assert table.loc[(POOLED, "observed"), "low"] == pytest.approx(0.05**0.1)
        assert np.isnan(table.loc[(POOLED, "kappa"), "estimate"])
        assert table.loc[(POOLED, "kappa"), "reason"] == "the value is undefined on these problems"

    def test_problems_with_unequal_numbers_of_transcripts_count_by_transcript(self):
        table = readings(
            ["right"] * 5, ["right", "right", "wrong", "wrong", "wrong"], arms=("panel", "thinking")
        )
        found = estimate_agreement(table, LABELS, RESAMPLING).set_index(["arm", "quantity"])["estimate"]
        assert found[POOLED, "observed"] == pytest.approx(2 / 5)

    def test_one_arm_alone_has_no_pooled_row(self):
        table = readings(["right", "wrong"], ["right", "right"], arms=("panel",))
        assert set(estimate_agreement(table, LABELS, RESAMPLING)["arm"]) == {"panel"}


class TestPairs:
    def test_difference_is_the_mean_of_the_pairs(self):
        found = estimate_paired_difference([1, 1, 1, 0, 0], [1, 0, 0, 1, 0], RESAMPLING)
        assert found.value == pytest.approx(1 / 5)
        assert (found.n_problems, found.n_draws) == (5, 10)
        assert found.low < 0 < found.high

    def test_arms_that_agree_everywhere_still_have_an_interval(self):
        found = estimate_paired_difference([1] * 20, [1] * 20, RESAMPLING)
        assert found.value == 0
        assert found.low == pytest.approx(-(1 - 0.05 ** (1 / 20)))

    def test_readings_of_different_length_are_refused(self):
        with pytest.raises(
            ValueError, match=r"one verdict on each problem; the shapes are \(2,\) and \(3,\)"
        ):
            estimate_paired_difference([1, 0], [1, 0, 1], RESAMPLING)

    @pytest.mark.parametrize(("b", "c", "p"), [(0, 0, 1.0), (3, 1, 0.625), (2, 2, 1.0), (5, 0, 2 / 32)])
    def test_sign_test_by_hand(self, b, c, p):
        assert exact_mcnemar(b, c) == pytest.approx(p)
        assert exact_mcnemar(c, b) == pytest.approx(p)

    def test_sign_test_is_twice_the_tail(self):
        assert exact_mcnemar(9, 2) == pytest.approx(2 * stats.binom.sf(8, 11, 0.5))


class TestLeastDisagreement:
    @given(
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6).flatmap(
            lambda first: st.tuples(st.just(first), st.permutations(first))
        )
    )
    def test_the_same_counts_need_no_difference(self, readings_pair):
        first, second = readings_pair
        assert least_disagreement(self.counts(first), self.counts(second)) == 0

    @given(
        st.integers(1, 8).flatmap(
            lambda n: st.tuples(
                *[st.lists(st.tuples(st.booleans(), st.booleans()), min_size=n, max_size=n)] * 2
            )
        )
    )
    def test_no_pair_of_readings_differs_less(self, two):
        first, second = two
        differ = sum((a != c) + (b != d) for (a, b), (c, d) in zip(first, second, strict=True))
        margins = sum(abs(sum(pair[i] for pair in first) - sum(pair[i] for pair in second)) for i in (0, 1))
        assert margins <= least_disagreement(self.counts(first), self.counts(second)) <= differ

    def test_moving_across_costs_two(self):
        assert least_disagreement([1, 0, 0, 0], [0, 0, 0, 1]) == 2
        assert least_disagreement([0, 1, 0, 0], [0, 0, 1, 0]) == 2
        assert least_disagreement([0, 1, 0, 0], [1, 0, 0, 0]) == 1

    @pytest.mark.parametrize("counts", [[1, 2, 3], [1, 0, 0, 2], [3, -1, 0, 0]])
    def test_impossible_counts_are_refused(self, counts):
        with pytest.raises(ValueError, match="four counts"):
            least_disagreement([1, 1, 0, 0], counts)

    @staticmethod
    def counts(reading):
        return [reading.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
