"""Figures of budgets and caps show what their tables hold."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from panelbook.publish import figures

ARMS = ("panel", "thinking")
TOKENS = np.array([100.0, 200.0, 400.0])


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def curve(**columns):
    tables = [
        pd.DataFrame({"arm": arm, "budget": TOKENS * (i + 1), "estimate": [0.2, 0.5, 0.6 + i / 10]})
        for i, arm in enumerate(ARMS)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(low=table["estimate"] - 0.1, high=table["estimate"] + 0.1, **columns)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


class TestBudgetCurves:
    def test_one_panel_for_each_rule_with_both_arms(self):
        other = curve().assign(estimate=lambda t: t["estimate"] / 2)
        fig = figures.draw_budget_curves({"pass@B": (curve(), None), "maj@B": (other, None)}, *ARMS)
        assert [ax.get_ylabel() for ax in fig.axes] == ["pass@B", "maj@B"]
        for ax, table in zip(fig.axes, (curve(), other), strict=True):
            assert ax.get_xscale() == "log"
            for arm in ARMS:
                rows = table[table["arm"] == arm]
                assert lines(ax)[arm].get_xdata().tolist() == rows["budget"].tolist()
                assert lines(ax)[arm].get_ydata().tolist() == rows["estimate"].tolist()
            assert len(ax.collections) == 2  # a band for each arm

    def test_crossover_is_marked_with_its_interval(self):
        fig = figures.draw_budget_curves({"pass": (curve(), (250.0, 220.0, 300.0))}, *ARMS)
        (ax,) = fig.axes
        assert any(np.ravel(line.get_xdata()).tolist() == [250.0, 250.0] for line in ax.get_lines())
        (span,) = ax.patches
        assert (span.get_x(), span.get_width()) == (220.0, 80.0)
        assert "lead changes" in [text.get_text() for text in ax.texts]

    def test_nothing_is_marked_where_the_lead_does_not_change(self):
        fig = figures.draw_budget_curves({"pass": (curve(), None)}, *ARMS)
        assert not fig.axes[0].texts
        assert not fig.axes[0].patches

    def test_only_whole_draws_have_markers(self):
        for table, marked in ((curve(), False), (curve(k=1), True)):
            fig = figures.draw_budget_curves({"pass": (table, None)}, *ARMS)
            assert (lines(fig.axes[0])["panel"].get_marker() not in ("", "None")) == marked

    def test_budgets_that_are_not_observed_are_left_open(self):
        table = curve()
        table.loc[2, ["estimate", "low", "high"]] = np.nan
        fig = figures.draw_budget_curves({"pass": (table, None)}, *ARMS)
        assert np.isnan(lines(fig.axes[0])["panel"].get_ydata()[-1])


def cap_table(cost=50.0):
    rows = [
        (arm, cap, quantity, value)
        for arm in ARMS
        for cap in (10, 20, 40)
        for quantity, value in (("accuracy", 0.4), ("cut", 0.2), ("tokens", 9.0), ("cost", cost))
    ]
    table = pd.DataFrame(rows, columns=["arm", "cap", "quantity", "estimate"])
    return table.assign(low=table["estimate"] * 0.9, high=table["estimate"] * 1.1)


class TestCaps:
    def test_three_panels_with_both_arms_and_bands(self):
        fig = figures.draw_cap_sensitivity(cap_table(), *ARMS)
        assert len(fig.axes) == 3
        for ax, value in zip(fig.axes, (0.4, 0.2, 50.0), strict=True):
            assert lines(ax)["thinking"].get_xdata().tolist() == [10, 20, 40]
            assert set(lines(ax)["thinking"].get_ydata()) == {value}
            assert len(ax.collections) == 2
        assert fig.axes[2].get_yscale() == "log"

    def test_arms_that_are_never_right_have_no_cost_to_put_on_a_log_axis(self):
        fig = figures.draw_cap_sensitivity(cap_table(cost=np.nan), *ARMS)
        fig.draw_without_rendering()
        assert fig.axes[2].get_yscale() == "linear"


class TestMeanLengths:
    counts = pd.DataFrame(
        {
            "arm": [ARMS[0]] * 3 + [ARMS[1]] * 3,
            "problem_id": list("abc") * 2,
            "mean_tokens": [30.0, 10.0, 20.0, 100.0, 300.0, 200.0],
            "max_tokens": pd.array([64] * 3 + [512] * 3, dtype="Int64"),
        }
    )

    def test_steps_through_the_sorted_means_with_both_limits(self):
        (ax,) = figures.draw_mean_lengths(self.counts, *ARMS).axes
        assert lines(ax)["panel"].get_xdata().tolist() == [10.0, 20.0, 30.0]
        assert lines(ax)["panel"].get_ydata() == pytest.approx([1 / 3, 2 / 3, 1])
        assert [text.get_text() for text in ax.texts] == ["limit, panel", "limit, thinking"]

    def test_limits_that_are_not_recorded_are_not_drawn(self):
        unknown = self.counts.assign(max_tokens=pd.array([pd.NA] * 6, dtype="Int64"))
        for table in (unknown, self.counts.drop(columns="max_tokens")):
            assert not figures.draw_mean_lengths(table, *ARMS).axes[0].texts
