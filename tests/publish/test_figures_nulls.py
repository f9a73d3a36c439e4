"""Figures of null models show every estimate with its interval, and leave out what has no value."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from panelbook.publish import figures
from panelbook.publish.figures.nulls import NULL_STYLES
from panelbook.publish.figures.style import ARM_STYLES

SCALES = ("points", "logit", "failure")
KS = (2, 4, 8)


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def observed_table():
    rows = [(scale, k, 0.1 * k, 0.05 * k, 0.15 * k) for scale in SCALES for k in KS]
    return pd.DataFrame(rows, columns=["scale", "k", "estimate", "low", "high"])


def nulls_table():
    rows = [
        (null, scale, k, 0.01 * i * k, 0.01 * i * k - 0.02, 0.01 * i * k + 0.02)
        for i, null in enumerate(NULL_STYLES)
        for scale in SCALES
        for k in KS
    ]
    return pd.DataFrame(rows, columns=["null", "scale", "k", "estimate", "low", "high"])


def buckets_table():
    return pd.DataFrame(
        {
            "bucket": ["never", "mostly", "always"],
            "m": 4,
            "estimate": [0.4, 0.5, 0.8],
            "low": [0.1, 0.2, 0.7],
            "high": [0.8, 0.8, 0.9],
            "second_batch": [0.33, 0.97, 1.0],
            "second_low": [0.0, 0.9, 1.0],
            "second_high": [0.65, 1.0, 1.0],
            "n_problems": [6, 10, 1112],
        }
    )


def saves_table():
    rows = [
        ("panel", "thinking", "matched", 0.4, 0.0, 0.8),
        ("panel", "thinking", "second_batch", 0.33, 0.0, 0.65),
        ("thinking", "panel", "matched", 0.88, 0.75, 0.98),
        ("thinking", "panel", "second_batch", 0.27, 0.15, 0.41),
    ]
    return pd.DataFrame(rows, columns=["saving", "failing", "quantity", "estimate", "low", "high"])


class TestNullClosure:
    def test_a_panel_for_each_scale_with_every_observed_point(self):
        fig = figures.draw_null_closure(observed_table(), nulls_table())
        assert len(fig.axes) == 3
        for ax in fig.axes:
            points = {c.get_label(): c.get_offsets()[:, 1].tolist() for c in ax.collections}
            assert points["observed"] == pytest.approx([0.2, 0.4, 0.8])
            assert {label for label, _, _ in NULL_STYLES.values()} <= set(points)

    def test_no_two_markers_of_a_k_stand_on_each_other(self):
        fig = figures.draw_null_closure(observed_table(), nulls_table())
        markers = [c for c in fig.axes[0].collections if not hasattr(c, "get_segments")]
        places = [x for c in markers for x in c.get_offsets()[:, 0].tolist()]
        assert len(places) == len(set(np.round(places, 6))) == 5 * len(KS)

    def test_every_null_has_its_band(self):
        fig = figures.draw_null_closure(observed_table(), nulls_table())
        ends = [
            segment[:, 1].tolist()
            for c in fig.axes[0].collections
            if hasattr(c, "get_segments")
            for segment in c.get_segments()
        ]
        expected = nulls_table().query("scale == 'points'")
        for row in expected.itertuples():
            assert any(end == pytest.approx([row.low, row.high]) for end in ends)

    def test_a_scale_without_any_value_is_left_out(self):
        observed = observed_table()
        observed.loc[observed["scale"] != "points", ["estimate", "low", "high"]] = np.nan
        fig = figures.draw_null_closure(observed, nulls_table())
        assert len(fig.axes) == 1

    def test_nothing_to_draw_is_said(self):
        fig = figures.draw_null_closure(observed_table().iloc[:0], nulls_table().iloc[:0])
        assert "no closure to draw" in fig.axes[0].texts[0].get_text()

    def test_a_single_k_is_drawn(self):
        fig = figures.draw_null_closure(observed_table().query("k == 2"), nulls_table().query("k == 2"))
        assert len(fig.axes) == 3


class TestHardProblems:
    def test_shows_buckets_with_their_sizes_and_both_directions(self):
        fig = figures.draw_hard_problems(buckets_table(), saves_table(), "thinking", "panel")
        top, bottom = fig.axes
        assert [label.get_text().split("\n")[-1] for label in top.get_xticklabels()] == [
            "(6)",
            "(10)",
            "(1,112)",
        ]
        heights = sorted(
            y for c in top.collections if len(c.get_offsets()) == 3 for y in c.get_offsets()[:, 1]
        )
        assert heights == pytest.approx(sorted([0.4, 0.5, 0.8, 0.33, 0.97, 1.0]))
        shown = sorted(
            c.get_offsets()[0, 0]
            for c in bottom.collections
            if len(c.get_offsets()) == 1 and not hasattr(c, "get_segments")
        )
        assert shown == pytest.approx([0.27, 0.33, 0.4, 0.88])
        assert [label.get_text() for label in bottom.get_yticklabels()] == [
            "failed by\nthinking",
            "failed by\npanel",
        ]

    def test_colours_are_those_of_the_arms(self):
        fig = figures.draw_hard_problems(buckets_table(), saves_table(), "thinking", "panel")
        edges = {to_hex(c) for ax in fig.axes for one in ax.collections for c in one.get_edgecolor()}
        assert {to_hex(ARM_STYLES[arm][0]) for arm in ("panel", "thinking")} <= edges

    def test_a_share_without_a_value_leaves_its_place_empty(self):
        saves = saves_table()
        saves.loc[:1, ["estimate", "low", "high"]] = np.nan
        fig = figures.draw_hard_problems(buckets_table(), saves, "thinking", "panel")
        fig.canvas.draw()
