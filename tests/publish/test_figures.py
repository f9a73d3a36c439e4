"""Figures show what their tables hold, in one look, and repeat byte by byte."""

import io
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from panelbook.publish import figures

ARMS = ("panel", "thinking")
KS = [1, 2, 4, 8, 16]


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def spread_table():
    rng = np.random.default_rng(0)
    rows = [
        (arm, f"p{i}", rng.uniform(low, low + 0.1))
        for arm, low in zip(ARMS, (0.1, 0.05), strict=True)
        for i in range(12)
    ]
    return pd.DataFrame(rows, columns=["arm", "problem_id", "mean_distance"])


def accuracy_table():
    return pd.DataFrame(
        {
            "arm": ["panel", "thinking", "unheard_of"],
            "pass_at_1": [0.3, 0.7, 0.5],
            "pass_low": [0.2, 0.6, 0.4],
            "pass_high": [0.4, 0.8, 0.6],
            "spread": [0.1, 0.05, 0.08],
            "spread_low": [0.08, 0.04, 0.07],
            "spread_high": [0.12, 0.06, 0.09],
        }
    )


def curve_table():
    rows = [
        (arm, k, 0.1 * i + base, 0.1 * i + base - 0.05, 0.1 * i + base + 0.06)
        for arm, base in zip(ARMS, (0.2, 0.4), strict=True)
        for i, k in enumerate(KS)
    ]
    return pd.DataFrame(rows, columns=["arm", "k", "estimate", "low", "high"])


def gap_table():
    return pd.DataFrame({"k": KS, "gap": [-0.2, -0.18, -0.15, -0.1, -0.05], "low": -0.4, "high": 0.1})


def lengths_table():
    rows = [
        (arm, f"p{i}", mean * (i + 1))
        for arm, mean in zip(ARMS, (300.0, 2000.0), strict=True)
        for i in range(8)
    ]
    return pd.DataFrame(rows, columns=["arm", "problem_id", "mean_tokens"]).assign(n=4, c=2)


def buckets_table():
    return pd.DataFrame(
        {
            "bucket": ["neither", "both", "second_only", "first_only", "all_paired"],
            "n_pairs": [37, 306, 181, 12, 536],
            "first_mean": [1384.0, 755.0, 1284.0, 905.0, 980.0],
            "second_mean": [14914.0, 5588.0, 9284.0, 11438.0, 7610.0],
            "first_median": [950.0, 651.0, 984.0, 825.0, 786.0],
            "second_median": [16384.0, 4957.0, 8875.0, 10013.0, 6634.0],
        }
    )


def cost_table():
    return pd.DataFrame(
        {"arm": list(ARMS), "estimate": [1652.0, 8376.0], "low": [1500.0, np.nan], "high": [1900.0, np.nan]}
    )


def joint_table():
    bands = list(figures.BANDS)
    return pd.DataFrame([[232, 137, 108], [30, 72, 280], [0, 0, 18]], index=bands, columns=bands)


def shares_table():
    rows = [
        (arm, source, band, share, share - 0.1, share + 0.1, n)
        for arm in ARMS
        for source, n in (("hmmt", 60), ("amc", 83))
        for band, share in zip(figures.BANDS, (0.3, 0.5, 0.2), strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "source", "band", "share", "low", "high", "n_problems"])


def mixed_table():
    rows = [(arm, g, 0.1 + 0.05 * i, 0.05, 0.5) for arm in ARMS for i, g in enumerate((2, 4, 8))]
    return pd.DataFrame(rows, columns=["arm", "group_size", "estimate", "low", "high"])


def trajectory_tables():
    overall = pd.DataFrame(
        {
            "step": [0, 10, 20],
            "estimate": [0.14, 0.2, 0.29],
            "low": [0.08, 0.13, 0.2],
            "high": [0.22, 0.29, 0.39],
            "n_problems": 100,
        }
    )
    by_source = pd.concat([overall.assign(source=name, n_problems=25) for name in ("hmmt", "amc", "aime")])
    return overall, by_source


def training_tables():
    steps = np.arange(30)
    training = pd.DataFrame(
        {"step": steps, "reward": 0.2 + 0.01 * steps, "entropy": 0.6 - 0.01 * steps, "tokens": 500.0 + steps}
    )
    return training, training.rolling(5).mean().assign(step=steps)


COLUMNS = [("reward", "reward"), ("entropy", "entropy (nats)"), ("tokens", "tokens per rollout")]


def climb_table():
    rows = [
        (arm, k, step, 900.0 * step, 0.3 + 0.01 * step, 0.2, 0.9)
        for arm in ARMS
        for k in (1, 8)
        for step in (0, 15, 30)
    ]
    return pd.DataFrame(rows, columns=["arm", "k", "step", "tokens_total", "estimate", "low", "high"])


def level_table():
    rows = [(source, level, 0.5, 0.4, 0.6) for source in ("sum", "product") for level in ("1", "2", "3")]
    return pd.DataFrame(rows, columns=["source", "level", "estimate", "low", "high"])


def loss_table():
    return pd.DataFrame({"n_tokens": [1e5, 1e6, 3e6], "loss": [2.0, 0.4, 0.1]})


def warmup_table():
    rows = [(step, arm, 2.0 / (1 + step) + i) for i, arm in enumerate(ARMS) for step in range(4)]
    return pd.DataFrame(rows, columns=["step", "arm", "loss"])


def sizes_table():
    rows = [
        (arm, 2**i, i > 3, 0.1 * i + base, 0.1 * i + base - 0.04, 0.1 * i + base + 0.05)
        for arm, base in zip(ARMS, (0.2, 0.1), strict=True)
        for i in range(1, 7)
    ]
    return pd.DataFrame(rows, columns=["arm", "group_size", "model_based", "estimate", "low", "high"])


def parts_table():
    return pd.DataFrame(
        {
            "label": ["whole", "strength", "dispersion"],
            "estimate": [0.2, -0.1, 0.3],
            "low": [0.1, -0.2, np.nan],
            "high": [0.3, 0.0, np.nan],
        }
    )


def strata_table():
    table = pd.DataFrame({"right": range(4), "n_sorting": 3, "group_size": 4})
    for side, shares in (("first", [0.1, 0.6, 0.7, 0.4]), ("second", [0.1, np.nan, 0.6, 0.1])):
        table[f"{side}_weight"] = 0.25
        table[side] = shares
        table[f"{side}_low"], table[f"{side}_high"] = table[side] - 0.05, table[side] + 0.06
    return table


RUNS = ["mean reward", "pass@4"]


def objectives_table():
    table = climb_table()
    return table.assign(arm=table["arm"].map(dict(zip(ARMS, RUNS, strict=True))))


FIGURES = {
    "paired_spread": lambda: figures.draw_paired_spread(spread_table(), *ARMS),
    "spread_against_accuracy": lambda: figures.draw_spread_against_accuracy(accuracy_table()),
    "pass_curves": lambda: figures.draw_pass_curves(curve_table(), gap_table(), *ARMS),
    "length_pairs": lambda: figures.draw_length_pairs(lengths_table(), *ARMS),
    "length_buckets": lambda: figures.draw_length_buckets(buckets_table(), *ARMS),
    "cost": lambda: figures.draw_cost(cost_table()),
    "joint_bands": lambda: figures.draw_joint_bands(joint_table(), *ARMS),
    "band_shares": lambda: figures.draw_band_shares(shares_table(), *ARMS),
    "mixed_share": lambda: figures.draw_mixed_share(mixed_table(), *ARMS),
    "trajectory": lambda: figures.draw_trajectory(*trajectory_tables(), "panel"),
    "training": lambda: figures.draw_training(*training_tables(), COLUMNS),
    "pretraining": lambda: figures.draw_pretraining(loss_table()),
    "warmup": lambda: figures.draw_warmup(warmup_table()),
    "accuracy_by_level": lambda: figures.draw_accuracy_by_level(level_table(), "panel"),
    "heldout": lambda: figures.draw_heldout(climb_table().query("arm == 'panel'"), "panel"),
    "matched_climb": lambda: figures.draw_matched_climb(climb_table(), *ARMS),
    "group_sizes": lambda: figures.draw_group_sizes(sizes_table(), *ARMS),
    "difference_parts": lambda: figures.draw_difference_parts(parts_table()),
    "matched_strata": lambda: figures.draw_matched_strata(strata_table(), *ARMS),
    "objectives": lambda: figures.draw_objectives(objectives_table(), RUNS),
}


def svg_of(fig: Figure) -> bytes:
    stream = io.BytesIO()
    fig.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def colours_of(fig: Figure) -> set[str]:
    """Return the colours of every line and marker."""
    found: set[str] = set()
    for ax in fig.axes:
        found |= {to_hex(line.get_color()) for line in ax.lines}
        for collection in ax.collections:
            for colours in (collection.get_facecolor(), collection.get_edgecolor()):
                if isinstance(colours, np.ndarray):
                    found |= {to_hex(colour) for colour in colours}
    return found


def ends_of(collection) -> tuple[float, float]:
    """Return lowest and highest y of an area or of some vertical lines."""
    points = np.concatenate([path.vertices for path in collection.get_paths()])
    return points[:, 1].min(), points[:, 1].max()


def test_every_drawing_function_is_tested_here_or_beside():
    drawn = {name.removeprefix("draw_") for name in vars(figures) if name.startswith("draw_")}
    beside = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_figures_*.py")
    )
    assert set(FIGURES) <= drawn
    assert {name for name in drawn if f"draw_{name}(" not in beside} <= set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_is_one_column_wide(self, name):
        fig = FIGURES[name]()
        assert isinstance(fig, Figure)
        assert fig.get_figwidth() == figures.WIDTH

    def test_is_not_blank(self, name):
        fig = FIGURES[name]()
        stream = io.BytesIO()
        fig.savefig(stream, format="rgba", dpi=60)
        pixels = np.frombuffer(stream.getvalue(), dtype=np.uint8).reshape(-1, 4)
        assert len(np.unique(pixels, axis=0)) > 20
        assert (pixels[:, :3] < 250).any(axis=1).mean() > 0.01

    def test_repeats_byte_by_byte(self, name):
        assert svg_of(FIGURES[name]()) == svg_of(FIGURES[name]())

    def test_axes_are_labelled(self, name):
        fig = FIGURES[name]()
        fig.draw_without_rendering()
        for ax in fig.axes:
            named = any(label.get_text()[:1].isalpha() for label in ax.get_yticklabels())
            assert ax.get_ylabel() or ax.get_title(loc="left") or named
        assert any(ax.get_xlabel() for ax in fig.axes)

    def test_lettering_is_not_smaller_than_eight_points(self, name):
        fig = FIGURES[name]()
        fig.draw_without_rendering()
        texts = [
            text for text in fig.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()
        ]
        assert texts
        assert min(text.get_fontsize() for text in texts) >= 8

    def test_leaves_no_figure_open(self, name):
        import matplotlib.pyplot as plt

        FIGURES[name]()
        assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "name", ["paired_spread", "pass_curves", "length_buckets", "cost", "band_shares", "mixed_share"]
)
def test_an_arm_has_the_same_colour_in_every_figure(name):
    assert {figures.ARM_STYLES[arm][0].lower() for arm in ARMS} <= colours_of(FIGURES[name]())


def test_arms_that_can_stand_in_one_figure_differ_in_colour_and_in_marker_or_line():
    styles = {
        arm: style for arm, style in figures.ARM_STYLES.items() if arm != "think"
    }  # another name of thinking
    for index in (0, 1):
        values = [style[index] for style in styles.values()]
        assert len(set(values)) == len(values)
    assert figures.ARM_STYLES["think"] == figures.ARM_STYLES["thinking"]


def test_an_arm_without_a_style_of_its_own_is_drawn_all_the_same():
    fig = figures.draw_spread_against_accuracy(accuracy_table())
    assert "unheard_of" in {text.get_text() for text in fig.axes[0].texts}
    assert to_hex(figures.OTHER_ARM[0]) in colours_of(fig)


class TestPassCurves:
    def test_points_and_bands_are_those_of_the_tables(self):
        top, bottom = figures.draw_pass_curves(curve_table(), gap_table(), *ARMS).axes
        for arm, line, band in zip(ARMS, top.lines, top.collections, strict=False):
            rows = curve_table()[curve_table()["arm"] == arm]
            assert line.get_ydata().tolist() == rows["estimate"].tolist()
            assert ends_of(band) == pytest.approx((rows["low"].min(), rows["high"].max()))
        assert ends_of(bottom.collections[0]) == pytest.approx((-0.4, 0.1))

    def test_k_stands_on_a_log2_axis_and_the_rate_begins_at_zero_with_the_ceiling_drawn(self):
        top, bottom = figures.draw_pass_curves(curve_table(), gap_table(), *ARMS).axes
        assert bottom.get_xscale() == "log"
        assert [label.get_text() for label in bottom.get_xticklabels()] == ["1", "2", "4", "8", "16"]
        assert top.get_ylim()[0] == 0
        assert any(set(line.get_ydata()) == {1} for line in top.lines)

    @pytest.mark.parametrize("largest", [1, 3, 6])
    def test_ticks_end_at_the_largest_k(self, largest):
        curve = pd.DataFrame(
            [(arm, k, 0.5, 0.4, 0.6) for arm in ARMS for k in range(1, largest + 1)],
            columns=["arm", "k", "estimate", "low", "high"],
        )
        gap = pd.DataFrame({"k": range(1, largest + 1), "gap": 0.0, "low": -0.1, "high": 0.1})
        _, bottom = figures.draw_pass_curves(curve, gap, *ARMS).axes
        ticks = [int(label.get_text()) for label in bottom.get_xticklabels()]
        assert ticks[0] == 1
        assert ticks[-1] <= largest < 2 * ticks[-1]
        assert all(b == 2 * a for a, b in pairwise(ticks))


class TestOthers:
    def test_a_problem_that_one_arm_lacks_is_not_drawn(self):
        table = spread_table()
        table = table.drop(table[(table["arm"] == "panel") & (table["problem_id"] == "p3")].index)
        top, _ = figures.draw_paired_spread(table, *ARMS).axes
        assert {len(c.get_offsets()) for c in top.collections if len(c.get_offsets()) > 1} == {11}

    def test_the_mean_of_the_differences_is_drawn_where_it_is(self):
        wide = spread_table().pivot(index="problem_id", columns="arm", values="mean_distance")
        _, bottom = figures.draw_paired_spread(spread_table(), *ARMS).axes
        upright = [line.get_xdata()[0] for line in bottom.lines if len(set(line.get_xdata())) == 1]
        assert (wide["panel"] - wide["thinking"]).mean() in upright
        assert 0 in upright

    def test_the_joint_table_shows_every_count_in_its_cell(self):
        ax = figures.draw_joint_bands(joint_table(), *ARMS).axes[0]
        shown = [int(text.get_text()) for text in ax.texts]
        assert shown == joint_table().to_numpy().ravel().tolist()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("under thinking", "under panel")

    def test_the_joint_table_does_not_depend_on_the_order_of_its_rows(self):
        shuffled = joint_table().iloc[::-1, ::-1]
        assert svg_of(figures.draw_joint_bands(shuffled, *ARMS)) == svg_of(FIGURES["joint_bands"]())

    def test_a_cost_without_interval_is_an_open_marker_and_has_no_line(self):
        ax = figures.draw_cost(cost_table()).axes[0]
        faces = [to_hex(line.get_markerfacecolor()) for line in ax.lines]
        assert faces == [figures.ARM_STYLES["panel"][0].lower(), "#ffffff"]
        assert len(ax.collections) == 1
        assert {text.get_text() for text in ax.texts} == {"1,652", "8,376"}

    def test_buckets_are_named_and_counted_and_totals_are_left_out(self):
        ax = figures.draw_length_buckets(buckets_table(), *ARMS).axes[0]
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert labels == [
            "both right\n306 pairs",
            "panel only\n12 pairs",
            "thinking only\n181 pairs",
            "neither\n37 pairs",
        ]

    def test_every_source_has_its_row_and_its_number_of_problems(self):
        ax = figures.draw_band_shares(shares_table(), *ARMS).axes[0]
        assert [label.get_text() for label in ax.get_yticklabels()] == [
            "amc\n83 problems",
            "hmmt\n60 problems",
        ]

    def test_the_trajectory_has_a_panel_for_all_and_for_each_source(self):
        axs = figures.draw_trajectory(*trajectory_tables(), "panel").axes
        titles = [ax.get_title(loc="left") for ax in axs]
        assert titles == ["all held-out problems (n = 100)", "aime (n = 25)", "amc (n = 25)", "hmmt (n = 25)"]
        assert axs[0].lines[0].get_ydata().tolist() == [0.14, 0.2, 0.29]

    def test_training_has_a_panel_per_metric_and_no_empty_one(self):
        axs = figures.draw_training(*training_tables(), COLUMNS).axes
        assert [ax.get_title(loc="left") for ax in axs] == [label for _, label in COLUMNS]
        for ax, (column, _) in zip(axs, COLUMNS, strict=True):
            points = ax.collections[0].get_offsets()
            assert points[:, 1].tolist() == training_tables()[0][column].tolist()

    def test_modelled_group_sizes_are_open_and_the_others_filled(self):
        ax = figures.draw_group_sizes(sizes_table(), *ARMS).axes[0]
        model = [c for c in ax.collections if len(c.get_offsets()) == 3]
        assert [to_hex(c.get_facecolor()[0]) for c in model] == ["#ffffff"] * 2
        assert [c.get_offsets()[:, 0].tolist() for c in model] == [[16, 32, 64]] * 2
        assert "from a model" in {text.get_text() for text in ax.texts}
        counted = sizes_table().query("not model_based")
        assert "from a model" not in {
            t.get_text() for t in figures.draw_group_sizes(counted, *ARMS).axes[0].texts
        }

    def test_the_whole_stands_above_its_parts_filled(self):
        ax = figures.draw_difference_parts(parts_table()).axes[0]
        points = ax.collections[-1]
        assert points.get_offsets()[:, 0].tolist() == [0.2, -0.1, 0.3]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["whole", "strength", "dispersion"]
        assert points.get_offsets()[:, 1].tolist() == [2, 1, 0]
        assert [to_hex(colour) for colour in points.get_facecolor()][1:] == ["#ffffff"] * 2

    def test_a_stratum_that_an_arm_never_reaches_is_left_out_above(self):
        top, bottom = figures.draw_matched_strata(strata_table(), *ARMS).axes
        points = [c.get_offsets()[:, 1].tolist() for c in top.collections if len(c.get_offsets()) > 1]
        assert points == [[0.1, 0.6, 0.7, 0.4], [0.1, 0.6, 0.1]]
        assert [bar.get_height() for bar in bottom.patches] == [0.25] * 8

    def test_runs_of_one_arm_differ_in_colour_marker_and_line(self):
        axs = figures.draw_objectives(objectives_table(), RUNS).axes
        lines = [line for line in axs[0].lines if line.get_linestyle() != "None"]
        assert (
            len({(to_hex(line.get_color()), line.get_marker(), line.get_linestyle()) for line in lines}) == 2
        )
        assert [text.get_text() for text in axs[0].get_legend().get_texts()] == RUNS
        assert {ax.get_ylabel() for ax in axs} == {f"held-out pass@{k}" for k in set(climb_table()["k"])}
