"""The figure of a sweep: one panel a result, every point with its interval, the baseline beneath."""

import pandas as pd
import pytest

from panelbook.publish.figures.sweep import draw_sweep


def make_table(*, intervals=True, second=False):
    """Return two results at two values of k; the baseline is the member at 4."""
    rows = []
    for result, style in (("gap", "points"), ("rate", "fraction")):
        for k, value, baseline in (("4", 0.2, True), ("8", 0.5, False)):
            for seed in ("1", "2") if second else ("1",):
                low, high = (value - 0.1, value + 0.1) if intervals else (None, None)
                rows.append(
                    {
                        **{"result": result, "heading": f"{result} at k = …", "style": style, "k_max": k},
                        **{"seed": seed, "value": value, "low": low, "high": high},
                        **{"baseline": baseline and seed == "1", "member": True},
                    }
                )
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def segments(ax):
    """Return the ends of every vertical bar."""
    bars = [c for c in ax.collections if hasattr(c, "get_segments")]
    return [(s[0][1], s[1][1]) for bar in bars for s in bar.get_segments()]


def test_every_result_has_a_panel_with_its_title_and_its_way_of_writing_numbers():
    fig = draw_sweep(make_table(), {"k_max": ["4", "8"]}, ["gap", "rate"])
    fig.canvas.draw_idle()
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["gap at k = …", "rate at k = …"]
    assert fig.axes[0].yaxis.get_major_formatter()(0.2) == "+20.0 pp"
    assert fig.axes[1].yaxis.get_major_formatter()(0.2) == "0.200"
    assert fig.axes[1].get_xlabel() == "k_max"


def test_points_stand_in_the_order_given_with_their_intervals():
    fig = draw_sweep(make_table(), {"k_max": ["8", "4"]}, ["gap"])
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "4"]
    assert sorted(segments(ax)) == [pytest.approx((0.1, 0.3)), pytest.approx((0.4, 0.6))]


def test_the_baseline_is_a_line_a_band_and_a_diamond_around_its_point():
    fig = draw_sweep(make_table(), {"k_max": ["4", "8"]}, ["gap"])
    (ax,) = fig.axes
    line = next(line for line in ax.lines if line.get_label() == "baseline")
    assert list(line.get_ydata()) == [0.2, 0.2]
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [(list(d.get_xdata()), list(d.get_ydata())) for d in diamonds] == [([0.0], [0.2])]


def test_results_without_intervals_are_drawn_as_points():
    fig = draw_sweep(make_table(intervals=False), {"k_max": ["4", "8"]}, ["gap"])
    assert all(low == pytest.approx(high) for low, high in segments(fig.axes[0]))


def test_a_second_parameter_is_a_series_of_its_own():
    fig = draw_sweep(make_table(second=True), {"k_max": ["4", "8"], "seed": ["1", "2"]}, ["gap"])
    labels = {text.get_text() for legend in fig.legends for text in legend.get_texts()}
    assert labels == {"baseline", "seed = 1", "seed = 2"}
