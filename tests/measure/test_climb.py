"""Climb: exact intervals of held-out ticks, the gain between two of them, training windows."""

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import climb
from panelbook.measure.climb import (
    climb_gain,
    expected_visits,
    heldout_trajectory,
    rolling_mean,
    training_change,
    training_ratio,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=2000)


@pytest.fixture
def ticks():
    solved = {0: (1, 8, 0, 5), 10: (1, 8, 0, 3), 90: (4, 13, 1, 11)}
    return pd.DataFrame(
        [
            {"step": step, "source": source, "n_problems": 25, "c": c}
            for step, counts in solved.items()
            for source, c in zip(("aime", "amc", "hmmt", "olympiadbench"), counts, strict=True)
        ]
    )


@pytest.fixture
def train():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "step": np.arange(100),
            "reward": np.linspace(0.2, 0.6, 100) + rng.normal(0, 0.05, 100),
            "entropy": 0.6 * np.exp(-np.arange(100) / 50),
        }
    )


def test_examples_in_docstrings():
    result = doctest.testmod(climb)
    assert result.attempted > 0
    assert result.failed == 0


class TestTrajectory:
    def test_totals_and_exact_intervals(self, ticks):
        table = heldout_trajectory(ticks).set_index(["step", "source"])
        assert table.loc[(0, "all"), ["n_problems", "n_draws", "c", "share"]].tolist() == [100, 100, 14, 0.14]
        assert table.loc[(90, "all"), "share"] == pytest.approx(0.29)
        for row in table.itertuples():
            exact = stats.binomtest(row.c, row.n_problems).proportion_ci(0.95, "exact")
            assert (row.low, row.high) == (exact.low, exact.high)
        assert len(table) == 15

    def test_nothing_solved_still_has_an_upper_end(self, ticks):
        row = heldout_trajectory(ticks).set_index(["step", "source"]).loc[(0, "hmmt")]
        assert (row["low"], row["high"]) == (0.0, pytest.approx(1 - 0.025 ** (1 / 25)))

    def test_order_of_rows_does_not_matter(self, ticks):
        assert heldout_trajectory(ticks[::-1]).equals(heldout_trajectory(ticks))

    def test_confidence_widens(self, ticks):
        narrow, wide = (heldout_trajectory(ticks, level) for level in (0.8, 0.99))
        assert ((wide["high"] - wide["low"]) > (narrow["high"] - narrow["low"])).all()

    def test_refuses_malformed_tables(self, ticks):
        with pytest.raises(ValueError, match="held-out table has no column 'c'"):
            heldout_trajectory(ticks.drop(columns="c"))
        with pytest.raises(ValueError, match=r"\(0, 'aime'\) occurs more than once"):
            heldout_trajectory(pd.concat([ticks, ticks[:1]]))
        with pytest.raises(ValueError, match="c=26, n=25"):
            heldout_trajectory(ticks.assign(c=26))
        with pytest.raises(ValueError, match="name of the total"):
            heldout_trajectory(ticks.assign(source="all").drop_duplicates("step"))


class TestGain:
    def test_is_the_difference_of_the_totals(self, ticks):
        gain = climb_gain(ticks, 0, 90, R)
        assert (gain.value, gain.n_problems, gain.n_draws) == (0.15, 100, 200)
        assert gain.low < 0.15 < gain.high
        assert "within 4 strata" in gain.method

    def test_pairing_extremes_enclose_independence(self, ticks):
        widths = []
        for pairing in ("most_agreement", "independent", "least_agreement"):
            gain = climb_gain(ticks, 0, 90, R, pairing)
            widths.append(gain.high - gain.low)
        assert widths[0] < widths[1] < widths[2]

    def test_order_of_rows_does_not_matter(self, ticks):
        assert climb_gain(ticks.sample(frac=1, random_state=2), 0, 90, R) == climb_gain(ticks, 0, 90, R)

    def test_a_step_against_itself_is_zero_within_chance(self, ticks):
        gain = climb_gain(ticks, 10, 10, R)
        assert gain.value == 0.0
        assert gain.low < 0.0 < gain.high

    def test_names_the_step_that_is_missing(self, ticks):
        with pytest.raises(ValueError, match="step 70 is not in the table; it has 0, 10, 90"):
            climb_gain(ticks, 0, 70, R)

    def test_refuses_steps_that_cover_other_problems(self, ticks):
        with pytest.raises(ValueError, match="same sources and problems"):
            climb_gain(ticks[:-1], 0, 90, R)
        ticks.loc[0, "n_problems"] = 24
        with pytest.raises(ValueError, match="'aime': 24"):
            climb_gain(ticks, 0, 90, R)


class TestVisits:
    def test_sources_share_visits_evenly_whatever_their_size(self):
        pool = pd.DataFrame({"problem_id": [f"p{i}" for i in range(10)], "source": ["amc"] * 2 + ["oly"] * 8})
        table = expected_visits(pool, 40)
        assert table["source"].tolist() == ["oly", "amc"]
        assert table["visits"].tolist() == [20, 20]
        assert table["visits_per_problem"].tolist() == [2.5, 10.0]
        assert table["share_of_problems"].tolist() == [0.8, 0.2]
        assert table["share_of_visits"].tolist() == [0.5, 0.5]
        assert (table["visits_per_problem"] * table["problems"]).sum() == 40

    def test_refuses_an_empty_pool_or_no_visits(self):
        pool = pd.DataFrame({"problem_id": ["p"], "source": ["amc"]})
        with pytest.raises(ValueError, match="1 problems and 0 visits"):
            expected_visits(pool, 0)
        with pytest.raises(ValueError, match="0 problems and 5 visits"):
            expected_visits(pool[:0], 5)
        with pytest.raises(ValueError, match="pool table has no column 'source'"):
            expected_visits(pool.drop(columns="source"), 5)


class TestTraining:
    def test_rolling_mean_looks_back(self, train):
        table = rolling_mean(train[::-1], "reward", 10)
        assert table["rolling"].isna().sum() == 9
        assert table["rolling"].iloc[9] == pytest.approx(train["reward"][:10].mean())
        assert table["rolling"].iloc[-1] == pytest.approx(train["reward"][-10:].mean())
        assert table.columns.tolist() == ["step", "reward", "rolling"]

    @pytest.mark.parametrize("window", [0, 101])
    def test_rolling_window_must_fit(self, train, window):
        with pytest.raises(ValueError, match=f"it is {window}"):
            rolling_mean(train, "reward", window)

    def test_change_is_last_minus_first(self, train):
        change = training_change(train, "reward", 5, 20, R)
        assert change.value == pytest.approx(train["reward"][-20:].mean() - train["reward"][:5].mean())
        assert change.low < change.value < change.high
        assert change.n_problems is None
        assert "25 batches within 2 strata" in change.method
        assert "problems are not tracked" in change.method

    def test_interval_is_that_of_two_independent_means(self, train):
        change = training_change(train, "reward", 30, 30, Resampling(1, 20_000))
        first, last = train["reward"][:30], train["reward"][-30:]
        welch = stats.ttest_ind(last, first, equal_var=False).confidence_interval(0.95)
        assert (change.low, change.high) == pytest.approx((welch.low, welch.high), abs=0.003)

    def test_ratio_is_last_over_first(self, train):
        ratio = training_ratio(train, "entropy", 10, 10, R)
        assert ratio.value == pytest.approx(np.exp(-90 / 50))
        assert ratio.low < ratio.value < ratio.high

    def test_unit_and_order_do_not_matter_to_the_ratio(self, train):
        scaled = train.assign(entropy=1000 * train["entropy"])[::-1]
        a, b = (training_ratio(table, "entropy", 10, 10, R) for table in (train, scaled))
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))

    def test_two_runs_are_bit_identical(self, train):
        assert training_change(train, "reward", 9, 9, R) == training_change(train, "reward", 9, 9, R)

    def test_constant_metric_has_no_interval(self, train):
        change = training_change(train.assign(tag_valid=1.0), "tag_valid", 10, 10, R)
        assert change.value == pytest.approx(0.0, abs=1e-12)
        assert "batches" in change.reason

    def test_single_batch_has_no_interval(self, train):
        assert "at least two" in training_change(train, "reward", 1, 10, R).reason

    def test_refuses_malformed_input(self, train):
        with pytest.raises(ValueError, match="training table has no column 'kl'"):
            training_change(train, "kl", 10, 10, R)
        with pytest.raises(ValueError, match="60 first, 60 last"):
            training_change(train, "reward", 60, 60, R)
        with pytest.raises(ValueError, match="step 0 occurs more than once"):
            training_change(pd.concat([train, train[:1]]), "reward", 10, 10, R)
        train.loc[7, "reward"] = np.nan
        with pytest.raises(ValueError, match="at step 7 it is nan"):
            training_ratio(train, "reward", 10, 10, R)
