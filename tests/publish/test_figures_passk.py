"""Figures of reliability: both envelopes of both arms, the model beyond the draws, one row for each summary."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from panelbook.publish import figures

ARMS = ("panel", "thinking")


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def envelopes(ks=(1, 2, 4, 8), summaries=("pass_at_k", "g_pass_at_k", "pass_power_k")):
    slope = {"pass_at_k": 0.1, "g_pass_at_k": 0.01, "pass_power_k": -0.1, "maj_at_k": 0.02}
    rows = [
        (arm, summary, k, 0.4 + slope[summary] * i, 0.3 + slope[summary] * i, 0.5 + slope[summary] * i)
        for arm in ARMS
        for summary in summaries
        for i, k in enumerate(ks)
    ]
    return pd.DataFrame(rows, columns=["arm", "summary", "k", "estimate", "low", "high"])


def model(ks=(1, 4, 16, 64), n=16):
    rows = [
        (arm, target, k, 0.3 + 0.1 * i, 0.3 + 0.1 * i - width, 0.3 + 0.1 * i + width, k > n)
        for arm in ARMS
        for target, width in (("population", 0.2), ("benchmark", 0.05))
        for i, k in enumerate(ks)
    ]
    return pd.DataFrame(rows, columns=["arm", "target", "k", "estimate", "low", "high", "beyond"])


def unbiased(ks=(1, 4, 16)):
    return envelopes(ks, ("pass_at_k",))


def differences():
    return pd.DataFrame(
        {
            "label": ["avg@n", "pass@k", "pass^k"],
            "difference": [-0.2, 0.0, 0.1],
            "low": [-0.3, -0.1, np.nan],
            "high": [-0.1, 0.1, np.nan],
        }
    )


def texts(fig):
    return [text.get_text() for text in fig.findobj(mpl.text.Text) if text.get_text()]


class TestEnvelopes:
    def test_each_arm_has_its_panel_with_every_rule_and_its_band(self):
        fig = figures.draw_envelopes(envelopes(), *ARMS, 0.5)
        assert [ax.get_ylabel() for ax in fig.axes] == list(ARMS)
        for ax, arm in zip(fig.axes, ARMS, strict=True):
            assert len(ax.lines) == len(ax.collections) == 3
            assert {to_hex(line.get_color()) for line in ax.lines} == {figures.ARM_STYLES[arm][0].lower()}
            assert len({line.get_linestyle() for line in ax.lines}) == 3
            assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.4, 0.5, 0.6, 0.7])
        assert "G-pass@k: at least 50% right" in texts(fig)

    def test_votes_are_drawn_where_there_are_any(self):
        rules = ("pass_at_k", "maj_at_k", "pass_power_k")
        assert "maj@k: the vote is right" in texts(
            figures.draw_envelopes(envelopes((1, 2), rules), *ARMS, 0.5)
        )
        assert "maj@k: the vote is right" not in texts(figures.draw_envelopes(envelopes(), *ARMS, 0.5))

    def test_a_single_k_has_its_intervals_as_bars(self):
        fig = figures.draw_envelopes(envelopes((1,)), *ARMS, 0.5)
        bars = [bar for bar in fig.axes[0].collections if isinstance(bar, LineCollection)]
        assert len(bars) == 3
        assert bars[0].get_segments()[0][:, 1].tolist() == pytest.approx([0.3, 0.5])


class TestModelCurves:
    def test_markers_stop_where_the_draws_stop_and_the_rest_is_marked(self):
        fig = figures.draw_model_curves(unbiased(), model(), *ARMS)
        for ax in fig.axes:
            seen = next(line for line in ax.lines if line.get_label() == "unbiased")
            assert max(seen.get_xdata()) == 16
            assert max(ax.lines[0].get_xdata()) == 64
            hatched = next(patch for patch in ax.patches if patch.get_hatch())
            assert (hatched.get_x(), hatched.get_x() + hatched.get_width()) == (16, 64)
        assert texts(fig).count("model only") == 2

    def test_an_arm_with_more_draws_than_are_compared_is_hatched_from_its_own_last_draw_on(self):
        table = model(n=4)
        table.loc[(table["arm"] == "panel") & (table["k"] == 16), "beyond"] = False
        fig = figures.draw_model_curves(unbiased((1, 4)), table, *ARMS)
        starts = [next(patch.get_x() for patch in ax.patches if patch.get_hatch()) for ax in fig.axes]
        assert starts == [16, 4]

    def test_nothing_is_hatched_where_the_draws_reach_all_k(self):
        fig = figures.draw_model_curves(unbiased(), model(n=64), *ARMS)
        assert "model only" not in texts(fig)
        assert not any(patch.get_hatch() for ax in fig.axes for patch in ax.patches)

    def test_an_arm_without_a_model_still_shows_what_was_seen(self):
        nothing = model()
        nothing.loc[nothing["arm"] == "panel", ["estimate", "low", "high"]] = np.nan
        fig = figures.draw_model_curves(unbiased(), nothing, *ARMS)
        fig.savefig(io.BytesIO(), format="svg")
        assert any(line.get_label() == "unbiased" for line in fig.axes[0].lines)


class TestDifferences:
    def test_a_marker_and_a_bar_for_each_summary_in_the_order_of_the_table(self):
        fig = figures.draw_summary_differences(differences(), *ARMS)
        (ax,) = fig.axes
        labels = sorted(
            zip(ax.get_yticks(), [t.get_text() for t in ax.get_yticklabels()], strict=True), reverse=True
        )
        assert [label for _, label in labels] == ["avg@n", "pass@k", "pass^k"]
        markers = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
        assert [line.get_xdata()[0] for line in markers] == [-0.2, 0.0, 0.1]
        assert [line.get_marker() for line in markers] == [
            figures.ARM_STYLES["thinking"][1],
            figures.OTHER_ARM[1],
            figures.ARM_STYLES["panel"][1],
        ]
        assert ax.get_xlabel() == "panel minus thinking"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.draw_envelopes(envelopes(), *ARMS, 0.5),
        lambda: figures.draw_envelopes(envelopes((1,)), *ARMS, 0.5),
        lambda: figures.draw_model_curves(unbiased(), model(), *ARMS),
        lambda: figures.draw_model_curves(unbiased((1,)), model((1, 2, 4), n=1), *ARMS),
        lambda: figures.draw_summary_differences(differences(), *ARMS),
    ],
    ids=["envelopes", "envelopes of one draw", "model", "model of one draw", "differences"],
)
class TestEveryFigure:
    def test_is_one_column_wide_and_legible(self, draw):
        fig = draw()
        fig.draw_without_rendering()
        assert fig.get_figwidth() == figures.WIDTH
        assert min(text.get_fontsize() for text in fig.findobj(mpl.text.Text) if text.get_text()) >= 8

    def test_repeats_byte_by_byte(self, draw):
        files = []
        for _ in range(2):
            buffer = io.BytesIO()
            draw().savefig(buffer, format="svg", metadata={"Date": None})
            files.append(buffer.getvalue())
        assert files[0] == files[1]
