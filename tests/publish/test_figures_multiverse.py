"""The multiverse's figures show what their tables hold, and repeat byte by byte."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from panelbook.publish import figures

ARMS = ("panel", "think")
CHOICES = ("encoder", "draws")


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def specifications():
    table = pd.DataFrame(list(itertools.product("xyz", (2, 4))), columns=list(CHOICES))
    table["effect"] = [0.5, -0.4, 0.1, 0.0, -1.0, 0.2]
    table["low"] = table["effect"] - [0.2, 0.1, 0.3, 0.3, np.nan, 0.4]
    table["high"] = table["effect"] + [40.0, 0.1, 0.3, 0.3, np.nan, 0.4]
    table["sign"] = np.select([table["low"] > 0, table["high"] < 0], ["above", "below"], "unclear")
    return table


def measures():
    rows = [("one", 0.2, 0.1, 0.3, 0.7, 0.6, 0.8), ("two", -0.1, np.nan, np.nan, 0.4, 0.3, 0.5)]
    names = ["title", "effect", "effect_low", "effect_high", "wider", "wider_low", "wider_high"]
    return pd.DataFrame(rows, columns=names)


def strata():
    ends = {f"{side}_{end}": 0.1 for side in ("first", "second") for end in ("low", "high")}
    return pd.DataFrame(
        {"stratum": ["short", "long", "all"], "first": [0.1, 0.2, 0.3], "second": 0.15} | ends
    )


def frontier():
    rows = [
        (arm, seed, step, 0.3 + step / 100, 0.2 + i / 10 - step / 200)
        for i, arm in enumerate(ARMS)
        for seed in (1, 2)
        for step in (0, 20)
    ]
    table = pd.DataFrame(rows, columns=["arm", "train_seed", "step", "accuracy", "spread"])
    for name in ("accuracy", "spread"):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 0.05, table[name] + 0.05
    return table


DRAWN = {
    "curve": lambda: figures.draw_specification_curve(
        specifications(), CHOICES, *ARMS, {"encoder": "x", "draws": 4}
    ),
    "explained": lambda: figures.draw_explained(
        pd.DataFrame(
            {"choice": list(CHOICES), "share": [0.3, 0.1], "low": [0.1, np.nan], "high": [0.4, np.nan]}
        )
    ),
    "measures": lambda: figures.draw_measures(measures(), *ARMS),
    "strata": lambda: figures.draw_strata({"right answers": strata(), "length": strata()}, *ARMS),
    "frontier": lambda: figures.draw_frontier(frontier()),
}


@pytest.mark.parametrize("name", DRAWN)
class TestEvery:
    def test_is_one_column_wide_with_letters_of_eight_points_or_more(self, name):
        fig = DRAWN[name]()
        assert fig.get_figwidth() == figures.WIDTH
        fig.canvas.draw()
        texts = [t for t in fig.findobj(mpl.text.Text) if t.get_text() and t.get_visible()]
        assert texts
        assert min(t.get_fontsize() for t in texts) >= 8

    def test_repeats_byte_by_byte(self, name):
        def svg():
            buffer = io.BytesIO()
            DRAWN[name]().savefig(buffer, format="svg", metadata={"Date": None})
            return buffer.getvalue()

        assert svg() == svg()


class TestCurve:
    def test_effects_are_sorted_and_coloured_by_the_arm_that_their_interval_finds_wider(self):
        top, _ = DRAWN["curve"]().axes
        dots = top.collections[-1]
        assert dots.get_offsets()[:, 1].tolist() == [-1.0, -0.4, 0.0, 0.1, 0.2, 0.5]
        colours = [to_hex(c) for c in dots.get_facecolors()]
        panel, think = (figures.ARM_STYLES[arm][0].lower() for arm in ARMS)
        assert (colours[1], colours[5]) == (think, panel)
        assert colours[0] == colours[2] == colours[3] not in (panel, think)

    def test_every_specification_has_one_tick_for_each_choice(self):
        _, bottom = DRAWN["curve"]().axes
        labels = [t.get_text() for t in bottom.get_yticklabels()]
        assert labels == ["encoder: z", "encoder: y", "encoder: x", "draws: 4", "draws: 2"]
        places = [sorted(dots.get_offsets()[:, 0].tolist()) for dots in bottom.collections]
        for part in (places[:3], places[3:]):
            assert sorted(itertools.chain(*part)) == list(range(6))
        assert places[2] == [1, 5]  # encoder x: effects 0.5 and -0.4

    def test_the_chosen_one_is_marked_where_it_stands(self):
        top, _ = DRAWN["curve"]().axes
        marks = [line for line in top.lines if list(line.get_xdata()) == [1, 1]]
        assert len(marks) == 1

    def test_one_endless_interval_does_not_flatten_the_rest(self):
        low, high = DRAWN["curve"]().axes[0].get_ylim()
        assert low < -1
        assert high < 1

    def test_undefined_effects_leave_an_empty_frame(self):
        table = specifications().assign(effect=np.nan, low=np.nan, high=np.nan, sign="unclear")
        figures.draw_specification_curve(table, CHOICES, *ARMS).canvas.draw()


class TestOthers:
    def test_bars_are_the_shares_largest_on_top(self):
        (ax,) = DRAWN["explained"]().axes
        assert [bar.get_width() for bar in ax.patches] == [0.1, 0.3]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["draws", "encoder"]

    def test_measures_stand_in_the_order_of_their_table_from_the_top(self):
        top, bottom = DRAWN["measures"]().axes
        assert [t.get_text() for t in top.get_yticklabels()] == ["two", "one"]
        assert top.lines[0].get_xdata().tolist() == [-0.1, 0.2]
        assert bottom.lines[0].get_xdata().tolist() == [0.4, 0.7]

    def test_strata_show_both_arms_in_each_panel(self):
        fig = DRAWN["strata"]()
        assert [t.get_text() for t in fig.legends[0].get_texts()] == list(ARMS)
        for ax in fig.axes:
            assert [line.get_xdata().tolist() for line in ax.lines] == [[0.3, 0.2, 0.1], [0.15] * 3]

    def test_one_arrow_leads_from_the_first_to_the_last_step_of_each_run(self):
        (ax,) = DRAWN["frontier"]().axes
        arrows = [a for a in ax.texts if getattr(a, "arrow_patch", None)]
        assert len(arrows) == 4
        assert arrows[0].xy == pytest.approx((0.5, 0.1))
        assert arrows[0].xyann == pytest.approx((0.3, 0.2))
        assert [t.get_text() for t in ax.get_legend().get_texts()] == list(ARMS)

    def test_a_run_with_one_step_has_no_arrow(self):
        (ax,) = figures.draw_frontier(frontier().query("step == 0")).axes
        assert not [a for a in ax.texts if getattr(a, "arrow_patch", None)]
