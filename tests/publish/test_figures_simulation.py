"""Figures of simulated studies show what their tables hold."""

import io

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection

from panelbook.publish import figures


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def coverage_table(recommended=(True, True, False)):
    rows = [
        (title, used, size, value, value - 0.02, value + 0.01)
        for title, used, base in zip(
            ("gap", "closure", "pooled"), recommended, (0.95, 0.93, 0.6), strict=True
        )
        for size, value in ((20, base), (50, base + 0.01))
    ]
    return pd.DataFrame(rows, columns=["title", "recommended", "n_problems", "coverage", "low", "high"])


def power_tables():
    curves = pd.DataFrame(
        {
            "name": ["a"] * 3 + ["b"] * 3,
            "n_problems": [5, 50, 200] * 2,
            "power": [0.1, 0.5, 0.9, 0.2, 0.8, 1.0],
        }
    )
    designs = pd.DataFrame(
        {"name": ["a", "b"], "n_problems": [50, 20], "power": [0.5, 0.4], "low": 0.3, "high": 0.6}
    )
    return curves, designs


def points_of(ax):
    return [
        tuple(p) for c in ax.collections if isinstance(c, PathCollection) for p in c.get_offsets().tolist()
    ]


def svg(fig):
    buffer = io.BytesIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


class TestCoverage:
    def test_every_combination_is_a_dot_with_its_bar(self):
        table = coverage_table()
        fig = figures.draw_coverage(table, (0.93, 0.97), 0.95)
        top, bottom = fig.axes
        assert sorted(x for x, _ in points_of(top)) == pytest.approx(sorted(table["coverage"][:4]))
        assert sorted(x for x, _ in points_of(bottom)) == pytest.approx([0.6, 0.61])
        bars = [s for c in top.collections if isinstance(c, LineCollection) for s in c.get_segments()]
        assert sorted(s[0][0] for s in bars) == pytest.approx(sorted(table["low"][:4]))
        assert sorted(s[1][0] for s in bars) == pytest.approx(sorted(table["high"][:4]))

    def test_titles_run_from_the_top_in_their_order(self):
        top = figures.draw_coverage(coverage_table(), (0.93, 0.97), 0.95).axes[0]
        labels = dict(zip([t.get_text() for t in top.get_yticklabels()], top.get_yticks(), strict=True))
        assert labels == {"gap": 1, "closure": 0}

    def test_an_estimator_that_lacks_the_smallest_size_keeps_its_place(self):
        table = coverage_table().sort_values("n_problems", kind="stable")
        table.loc[(table["title"] == "gap") & (table["n_problems"] == 20), "coverage"] = float("nan")
        top = figures.draw_coverage(table, (0.93, 0.97), 0.95).axes[0]
        assert [t.get_text() for t in top.get_yticklabels()] == ["closure", "gap"]

    def test_without_others_there_is_one_panel(self):
        assert len(figures.draw_coverage(coverage_table((True,) * 3), (0.93, 0.97), 0.95).axes) == 1

    def test_an_estimator_without_coverage_is_left_out(self):
        table = coverage_table()
        table.loc[table["title"] == "closure", "coverage"] = float("nan")
        top = figures.draw_coverage(table, (0.93, 0.97), 0.95).axes[0]
        assert [t.get_text() for t in top.get_yticklabels()] == ["gap"]

    def test_more_sizes_than_colours_begin_anew(self):
        table = pd.concat([coverage_table().assign(n_problems=n) for n in (5, 10, 20, 50, 100)])
        legend = figures.draw_coverage(table, (0.93, 0.97), 0.95).axes[0].get_legend()
        assert len(legend.get_texts()) == 5


class TestPower:
    def test_curves_and_designs_are_those_of_the_tables(self):
        curves, designs = power_tables()
        (ax,) = figures.draw_power(curves, designs, 0.8).axes
        drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
        assert drawn["a"] == [[5, 0.1], [50, 0.5], [200, 0.9]]
        assert sorted(points_of(ax)) == [(20, 0.4), (50, 0.5)]
        assert any(line.get_ydata()[0] == 0.8 for line in ax.lines if line.get_label().startswith("_"))

    def test_a_curve_without_a_design_has_no_dot(self):
        curves, designs = power_tables()
        (ax,) = figures.draw_power(curves, designs[:1], 0.8).axes
        assert points_of(ax) == [(50, 0.5)]

    def test_sizes_run_evenly_to_twice_the_largest_design(self):
        sizes = figures.power_sizes([20, 300])
        assert (sizes[0], sizes[-1]) == (5, 600)
        assert sizes == sorted(set(sizes))


def test_figures_repeat_byte_by_byte():
    for draw in (
        lambda: figures.draw_coverage(coverage_table(), (0.93, 0.97), 0.95),
        lambda: figures.draw_power(*power_tables(), 0.8),
    ):
        assert svg(draw()) == svg(draw())


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.draw_coverage(coverage_table(), (0.93, 0.97), 0.95),
        lambda: figures.draw_power(*power_tables(), 0.8),
    ],
)
def test_lettering_is_readable_on_a_phone(draw):
    fig = draw()
    fig.canvas.draw()
    texts = [
        t
        for ax in fig.axes
        for t in (*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label)
    ]
    assert all(t.get_fontsize() >= 8 for t in texts if t.get_text())
    assert fig.get_size_inches()[0] == figures.WIDTH
