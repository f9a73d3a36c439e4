"""The dials of the chapters: what they say at a position is what the chapter's own measure says there."""

import numpy as np
import pandas as pd
import pytest

from panelbook.measure.bands import compare_bands
from panelbook.measure.budget import cap_sensitivity
from panelbook.measure.climb import climb_gain, heldout_trajectory
from panelbook.measure.matched import compare_at_step
from panelbook.measure.passk import failure_ratio, pass_at_k_gap
from panelbook.measure.uncertainty import Resampling
from panelbook.publish.chapter_dials import (
    MAX_POSITIONS,
    arm_series,
    dial_cap,
    dial_checkpoint,
    dial_draw_budget,
    dial_group_size,
    dial_k,
    dial_mean_budget,
    dial_threshold,
    dial_ticks,
)

R = Resampling(seed=3, n_resamples=200)
ARMS = ("panel", "think")


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    rows = [
        {
            "arm": arm,
            "problem_id": f"p{i:02d}",
            "n": 8,
            "c": int(rng.binomial(8, rate)),
            "mean_tokens": tokens + i,
        }
        for arm, rate, tokens in (("panel", 0.3, 50.0), ("think", 0.6, 120.0))
        for i in range(15)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def rollouts(counts):
    rng = np.random.default_rng(2)
    rows = [
        {
            "arm": row.arm,
            "problem_id": row.problem_id,
            "sample_id": place,
            "completion_tokens": int(rng.integers(10, 90)),
            "status": "correct" if place < row.c else "wrong",
            "predicted": str(place % 3),
            "max_tokens": 90,
        }
        for row in counts.itertuples()
        for place in range(row.n)
    ]
    return pd.DataFrame(rows)


def frame(dial, *at):
    """Return the frame at a position given by the texts of its knobs."""
    knobs = dial.data["knobs"]
    number = 0
    for knob, text in zip(knobs, at, strict=True):
        number = number * len(knob["texts"]) + knob["texts"].index(text)
    return dial.data["frames"][number]


def said(dial, *at):
    """Return the readout at a position as text."""
    return " ".join(
        "".join(
            part
            if isinstance(part, str)
            else part["label"]
            if "label" in part
            else f"{part['value']} ({part['interval']})"
            for part in one
        )
        for one in frame(dial, *at)["say"]
    )


def points(estimate):
    texts = [f"{100 * x:+.1f} pp".replace("-", "−") for x in (estimate.value, estimate.low, estimate.high)]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


class TestK:
    def test_says_the_gap_and_the_ratio_of_failures_of_the_chapter(self, counts):
        dial = dial_k(counts, *ARMS, R)
        gap = pass_at_k_gap(counts, *ARMS, [4], R).iloc[0]
        expected = f"{100 * gap['gap']:+.1f} pp".replace("-", "−")
        assert f"The gap is {expected}" in said(dial, "4 draws", "problems solved")
        ratio = failure_ratio(counts, *ARMS, 4, R)
        text = f"{ratio.value:.2f}× ({ratio.low:.2f}× to {ratio.high:.2f}×)"
        assert text in said(dial, "4 draws", "ratio of failures")

    def test_at_one_draw_the_copy_is_alike_and_later_it_is_named_after_the_stronger_arm(self, counts):
        dial = dial_k(counts, *ARMS, R)
        assert "the copy was made so" in said(dial, "1 draw", "beside a weaker copy")
        assert "copy of think" in said(dial, "8 draws", "beside a weaker copy")
        names = [one["name"] for one in dial.data["series"]]
        assert [names[mark[0]] for mark in frame(dial, "8 draws", "beside a weaker copy")["points"]] == [
            "panel",
            "think",
            "weaker copy of think",
        ]

    def test_many_draws_make_no_more_positions_than_a_finger_can_tell(self):
        rows = [
            {"arm": arm, "problem_id": p, "n": 100, "c": c} for arm in ARMS for p, c in (("a", 3), ("b", 60))
        ]
        texts = dial_k(pd.DataFrame(rows), *ARMS, R).data["knobs"][0]["texts"]
        assert len(texts) <= MAX_POSITIONS
        assert (texts[0], texts[-1]) == ("1 draw", "100 draws")


def test_a_group_of_all_draws_has_the_ratio_of_the_bands(counts):
    dial = dial_group_size(counts, *ARMS, R)
    band = compare_bands(counts, *ARMS, R).set_index("band").loc["variance_band"]
    assert f"a ratio of {band['ratio']:.2f}× (" in said(dial, "8")
    assert len(frame(dial, "2")["points"]) == 6


def test_the_cap_says_what_the_chapter_on_budgets_says(rollouts):
    dial = dial_cap(rollouts, *ARMS, R)
    cap = dial.data["knobs"][0]["texts"][-4]
    table = cap_sensitivity(rollouts, "panel", [int(cap)], R)
    cost = table[table["quantity"] == "cost"].iloc[0]
    text = f"{cost['estimate']:,.0f} ({cost['low']:,.0f} to {cost['high']:,.0f})"
    assert text in said(dial, cap, "tokens per right draw")


def test_budgets_from_draws_and_from_means(counts, rollouts):
    drawn = dial_draw_budget(rollouts, *ARMS, R)
    last = drawn.data["knobs"][0]["texts"][-1]
    sums = rollouts.groupby(["arm", "problem_id"])["completion_tokens"].sum()
    assert int(last.replace(",", "")) == sums.min()
    assert "the majority decides" in drawn.data["knobs"][1]["texts"]
    means = dial_mean_budget(counts, *ARMS, R)
    at = [text for text in means.data["knobs"][0]["texts"] if int(text.replace(",", "")) < 100][-1]
    assert "think 0.0% (" in said(means, at, "every problem is answered")
    assert "think 0.0% (" not in said(means, at, "problems may be skipped")


def test_the_two_evaluations_have_the_gain_between_them_and_their_order_matters():
    heldout = pd.DataFrame(
        {"step": [0, 0, 10, 10, 20, 20], "source": ["a", "b"] * 3, "n_problems": 25, "c": [5, 2, 9, 2, 8, 6]}
    )
    trajectory = heldout_trajectory(heldout).rename(columns={"share": "estimate"})
    dial = dial_ticks(heldout, trajectory, "panel", R, (0, 20))
    assert points(climb_gain(heldout, 10, 20, R)) in said(dial, "10", "20")
    assert [mark[1] for mark in frame(dial, "10", "20")["points"]] == [10, 20]
    for first, second in (("20", "10"), ("10", "10")):
        assert said(dial, first, second) == "Choose a first evaluation that comes before the second."


def test_the_checkpoint_has_the_difference_of_the_chapter():
    rng = np.random.default_rng(5)
    heldout = pd.DataFrame(
        [
            {
                "arm": arm,
                "train_seed": 1,
                "step": step,
                "tokens_total": step,
                "problem_id": f"p{i}",
                "n": 8,
                "c": int(rng.integers(0, 9)),
            }
            for arm in ARMS
            for step in (0, 15, 30)
            for i in range(12)
        ]
    )
    dial = dial_checkpoint(heldout, *ARMS, 8, R)
    assert points(compare_at_step(heldout, *ARMS, 15, 1, R)) in said(dial, "15", "pass@1")
    assert points(compare_at_step(heldout, *ARMS, 30, 8, R)) in said(dial, "30", "pass@8")
    assert "the share of mixed problems" in said(dial, "0", "variance band")


def test_the_threshold_has_the_mean_number_of_clusters():
    clusters = pd.DataFrame(
        [
            {
                "arm": arm,
                "problem_id": f"p{i}",
                "n": 4,
                "threshold": eps,
                "n_clusters": 1 + (i % 3) * (eps < 0.2),
            }
            for arm in ARMS
            for i in range(6)
            for eps in (0.1, 0.25)
        ]
    )
    dial = dial_threshold(clusters, *ARMS, R, 0.25)
    assert "into 2.00 (" in said(dial, "0.1")
    assert "into 1.00 (none: " in said(dial, "0.25")
    assert dial.data["knobs"][0]["at"] == 1


def test_an_arm_looks_as_in_every_figure_and_a_stranger_has_the_colour_of_the_text():
    assert vars(arm_series("think")) == {"name": "think", "colour": "#D55E00", "dash": "7 4", "marker": "s"}
    assert arm_series("stranger").colour == ""


class TestTooLittle:
    """Rows that leave nothing to turn, or nothing to draw, break no chapter."""

    def rows(self, n, c, tokens=50.0):
        return pd.DataFrame(
            [
                {"arm": arm, "problem_id": p, "n": n, "c": c, "mean_tokens": tokens}
                for arm in ARMS
                for p in ("a", "b")
            ]
        )

    def test_one_draw_has_no_dial(self):
        one = self.rows(1, 1)
        assert dial_k(one, *ARMS, R) is None
        assert dial_mean_budget(one, *ARMS, R) is None
        assert dial_group_size(self.rows(2, 1), *ARMS, R) is None

    def test_one_length_has_no_budget_and_no_limit_to_move(self):
        drawn = pd.DataFrame(
            [
                {"arm": arm, "problem_id": "a", "sample_id": 0, "completion_tokens": 7, "status": "correct"}
                for arm in ARMS
            ]
        )
        assert dial_cap(drawn, *ARMS, R) is None
        assert dial_draw_budget(drawn.assign(predicted="1"), *ARMS, R) is None

    @pytest.mark.parametrize("c", [0, 8])
    @pytest.mark.filterwarnings("error")
    def test_arms_that_are_always_or_never_right_say_what_is_undefined(self, c):
        text = said(dial_k(self.rows(8, c), *ARMS, R), "2 draws", "ratio of failures")
        assert ("undefined (none: " if c else "1.00× (none: ") in text
