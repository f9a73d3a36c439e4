"""Figures of the book: finished tables in, a matplotlib Figure out.

Colour and marker stand for an arm and are the same in every chapter; the colours are those of Okabe and
Ito (2008), which readers with colour-blindness can tell apart. Every figure is one column wide, so that its
lettering stays readable on a phone, and shows the interval of what it estimates.

References
----------
Okabe, M. and Ito, K. (2008). Color universal design. https://jfly.uni-koeln.de/color/
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats

WIDTH = 5.2
"""Inches. At 96 dots per inch this fits a phone without shrinking the letters below 8 points."""

INK = "#333333"
GREY = "#8c8c8c"

ARM_STYLES = {  # arm -> colour, marker, line
    "panel": ("#0072B2", "o", "-"),
    "thinking": ("#D55E00", "s", "--"),
    "think": ("#D55E00", "s", "--"),
    "no_panel": ("#009E73", "^", ":"),
    "panel_premath": ("#56B4E9", "v", "-."),
    "no_panel_premath": ("#7fbf9f", "<", ":"),
    "instruct": ("#CC79A7", "D", "-."),
}
OTHER_ARM = (INK, "X", "-")

BANDS = ("all_zero", "variance_band", "all_one")
BAND_LABELS = {"all_zero": "never right", "variance_band": "variance band", "all_one": "always right"}
BAND_COLOURS = {"all_zero": "#bdbdbd", "variance_band": "#E69F00", "all_one": "#5a5a5a"}


def use_theme() -> None:
    """Set the look of every figure of a notebook, and make its SVG repeatable byte by byte."""
    sns.set_theme(
        style="ticks", font="DejaVu Sans", rc={"axes.spines.top": False, "axes.spines.right": False}
    )
    mpl.rcParams.update(
        {
            "font.size": 9.5,
            "axes.labelsize": 9.5,
            "axes.titlesize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.edgecolor": INK,
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "panelbook",
        }
    )
    set_matplotlib_formats("svg", metadata={"Date": None})


def draw_paired_spread(spread: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the spread of each problem under both arms, and the distribution of the paired differences.

    Parameters
    ----------
    spread
        One row per arm and problem: arm, problem_id, mean_distance (cosine).
    """
    wide = spread.pivot(index="problem_id", columns="arm", values="mean_distance")[[first, second]].dropna()
    wide = wide.sort_values(second, ignore_index=True)
    fig, (top, bottom) = _stack(2, height=5.2, ratios=(3, 2))
    top.vlines(wide.index, wide[first], wide[second], color=GREY, linewidth=0.8, zorder=1)
    for arm in (first, second):
        colour, marker, _ = _style(arm)
        top.scatter(wide.index, wide[arm], color=colour, marker=marker, s=16, label=arm, zorder=2)
    top.set(
        xlabel=f"problem, sorted by the spread of {second}",
        ylabel="mean pairwise distance (cosine)",
        ylim=(0, None),
    )
    top.legend(loc="upper left", ncols=2)
    difference = wide[first] - wide[second]
    bottom.hist(difference, bins="auto", color=_style(first)[0], alpha=0.45, edgecolor="white")
    bottom.plot(difference, np.full(len(wide), -0.4), "|", color=INK, markersize=7, clip_on=False)
    bottom.axvline(0, color=INK, linewidth=0.8)
    bottom.axvline(difference.mean(), color=_style(first)[0], linewidth=1.8)
    bottom.annotate(
        "mean", (difference.mean(), bottom.get_ylim()[1]), xytext=(4, -8), textcoords="offset points"
    )
    bottom.set(xlabel=f"{first} minus {second}, per problem", ylabel="problems")
    return fig


def draw_spread_against_accuracy(table: pd.DataFrame) -> Figure:
    """Draw each arm's mean spread against its pass@1, with both intervals.

    Parameters
    ----------
    table
        One row per arm: arm, pass_at_1, pass_low, pass_high, spread, spread_low, spread_high.
    """
    fig, (ax,) = _stack(1, height=3.6)
    for row in table.to_dict("records"):
        colour, marker, _ = _style(row["arm"])
        ax.errorbar(
            row["pass_at_1"],
            row["spread"],
            xerr=[[row["pass_at_1"] - row["pass_low"]], [row["pass_high"] - row["pass_at_1"]]],
            yerr=[[row["spread"] - row["spread_low"]], [row["spread_high"] - row["spread"]]],
            fmt=marker,
            color=colour,
            capsize=2,
        )
        ax.annotate(
            row["arm"],
            (row["pass_at_1"], row["spread"]),
            xytext=(6, 5),
            textcoords="offset points",
            color=colour,
        )
    ax.set(xlabel="pass@1", ylabel="mean pairwise distance (cosine)", xlim=(0, 1.05), ylim=(0, None))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    return fig


def draw_pass_curves(curve: pd.DataFrame, gap: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw pass@k of both arms and, below, their paired gap; bands are intervals from resampled problems.

    Parameters
    ----------
    curve
        arm, k, estimate, low, high.
    gap
        k, gap (first minus second), low, high.
    """
    fig, (top, bottom) = _stack(2, height=5.4, ratios=(3, 2), sharex=True)
    for arm in (first, second):
        rows = curve[curve["arm"] == arm]
        _band(top, rows["k"], rows["estimate"], rows["low"], rows["high"], arm)
    top.axhline(1, color=GREY, linewidth=0.8)
    top.set(ylabel="pass@k", ylim=(0, 1.03))
    top.yaxis.set_major_formatter(PercentFormatter(1))
    top.legend(loc="lower right")
    bottom.axhline(0, color=INK, linewidth=0.8)
    bottom.plot(gap["k"], gap["gap"], color=INK, marker=".", markersize=5)
    bottom.fill_between(gap["k"], gap["low"], gap["high"], color=INK, alpha=0.15, linewidth=0)
    bottom.set(xlabel="k (draws)", ylabel=f"{first} minus {second}")
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:+.0f} pp"))
    _log2_axis(bottom, int(gap["k"].max()))
    return fig


def draw_length_pairs(counts: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw each problem's mean completion length under one arm against the other, on log axes.

    Parameters
    ----------
    counts
        arm, problem_id, mean_tokens, c, n.
    """
    wide = counts.pivot(index="problem_id", columns="arm", values="mean_tokens").dropna()
    fig, (ax,) = _stack(1, height=4.2)
    ax.scatter(wide[first], wide[second], s=18, color=INK, alpha=0.7)
    low, high = wide[[first, second]].min().min() * 0.8, wide[[first, second]].max().max() * 1.25
    for factor, text in ((1, "equal"), (4, "4 times"), (16, "16 times")):
        ax.plot(
            [low, high],
            [low * factor, high * factor],
            color=GREY,
            linewidth=0.7,
            linestyle=":" if factor > 1 else "-",
        )
        ax.annotate(text, (low * 1.02, low * factor * 1.1), color=INK, fontsize=8, rotation=30)
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(low, wide[first].max() * 1.3),
        ylim=(low, high),
        xlabel=f"{first}: mean tokens per draw",
        ylabel=f"{second}: mean tokens per draw",
    )
    return fig


def draw_length_buckets(buckets: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the mean and the median length of both arms in each correctness bucket of paired draws.

    Parameters
    ----------
    buckets
        bucket, n_pairs, first_mean, second_mean, first_median, second_median (tokens).
    """
    names = {
        "both": "both right",
        "first_only": f"{first} only",
        "second_only": f"{second} only",
        "neither": "neither",
    }
    rows = buckets.set_index("bucket").loc[list(names)]
    fig, (ax,) = _stack(1, height=3.4)
    height = np.arange(len(rows))[::-1]
    for arm, key, shift in ((first, "first", 0.14), (second, "second", -0.14)):
        colour, marker, _ = _style(arm)
        ax.hlines(height + shift, rows[f"{key}_median"], rows[f"{key}_mean"], color=colour, linewidth=1.5)
        ax.scatter(
            rows[f"{key}_mean"], height + shift, color=colour, marker=marker, s=36, label=f"{arm}, mean"
        )
        ax.scatter(
            rows[f"{key}_median"],
            height + shift,
            facecolor="white",
            edgecolor=colour,
            marker=marker,
            s=36,
            label=f"{arm}, median",
        )
    ax.set_yticks(
        height,
        [
            f"{names[name]}\n{row.n_pairs:,} pairs"
            for name, row in zip(rows.index, rows.itertuples(), strict=True)
        ],
    )
    ax.set(xscale="log", xlabel="completion tokens")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def draw_cost(cost: pd.DataFrame) -> Figure:
    """Draw tokens per correct answer by arm; an arm without an interval is drawn as an open marker.

    Parameters
    ----------
    cost
        arm, estimate, low, high (tokens per correct answer; low and high may be missing).
    """
    fig, (ax,) = _stack(1, height=1.9)
    for height, row in zip(range(len(cost), 0, -1), cost.to_dict("records"), strict=True):
        colour, marker, _ = _style(row["arm"])
        known = pd.notna(row["low"])
        if known:
            ax.hlines(height, row["low"], row["high"], color=colour, linewidth=2)
        ax.plot(
            row["estimate"],
            height,
            marker,
            color=colour,
            markerfacecolor=colour if known else "white",
            markersize=7,
        )
        ax.annotate(
            f"{row['estimate']:,.0f}",
            (row["estimate"], height),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
        )
    ax.set_yticks(range(len(cost), 0, -1), cost["arm"])
    ax.set(xlabel="tokens per correct answer", ylim=(0.5, len(cost) + 0.7), xlim=(0, None))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    return fig


def draw_joint_bands(joint: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the 3 x 3 table of band pairs with its counts.

    Parameters
    ----------
    joint
        Rows: band of `first`; columns: band of `second`; values: problems.
    """
    table = joint.loc[list(BANDS), list(BANDS)]
    fig, (ax,) = _stack(1, height=3.7)
    labels = [BAND_LABELS[band] for band in BANDS]
    sns.heatmap(
        table,
        annot=True,
        fmt="d",
        cmap="Blues",
        cbar=False,
        linewidths=2,
        ax=ax,
        annot_kws={"size": 12},
        square=True,
    )
    ax.set(xlabel=f"under {second}", ylabel=f"under {first}")
    ax.set_xticklabels([label.replace(" ", "\n") for label in labels], rotation=0)
    ax.set_yticklabels([label.replace(" ", "\n") for label in labels], rotation=0)
    return fig


def draw_band_shares(shares: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the share of the variance band by source for both arms, with intervals.

    Parameters
    ----------
    shares
        arm, source, band, share, low, high, n_problems.
    """
    rows = shares[shares["band"] == "variance_band"]
    sources = sorted(rows["source"].unique())
    fig, (ax,) = _stack(1, height=0.62 * len(sources) + 1.2)
    for arm, shift in ((first, 0.13), (second, -0.13)):
        colour, marker, _ = _style(arm)
        mine = rows[rows["arm"] == arm].set_index("source").loc[sources]
        height = np.arange(len(sources))[::-1] + shift
        ax.hlines(height, mine["low"], mine["high"], color=colour, linewidth=1.8)
        ax.scatter(mine["share"], height, color=colour, marker=marker, s=36, label=arm, zorder=3)
    counts = rows.drop_duplicates("source").set_index("source")["n_problems"]
    ax.set_yticks(
        np.arange(len(sources))[::-1], [f"{source}\n{counts[source]:,} problems" for source in sources]
    )
    ax.set(xlabel="share of problems in the variance band", xlim=(0, 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def draw_mixed_share(mixed: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the expected share of mixed groups against the group size.

    Parameters
    ----------
    mixed
        arm, group_size, estimate, low, high.
    """
    fig, (ax,) = _stack(1, height=3.2)
    for arm in (first, second):
        rows = mixed[mixed["arm"] == arm]
        _band(ax, rows["group_size"], rows["estimate"], rows["low"], rows["high"], arm)
    _log2_axis(ax, int(mixed["group_size"].max()))
    ax.set(xlabel="group size G", ylabel="groups with both outcomes", ylim=(0, 1), xlim=(1.9, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left")
    return fig


def draw_trajectory(overall: pd.DataFrame, by_source: pd.DataFrame, arm: str) -> Figure:
    """Draw held-out accuracy against training steps: all problems, then each source.

    Parameters
    ----------
    overall
        step, estimate, low, high, n_problems.
    by_source
        The same with a column source.
    """
    sources = sorted(by_source["source"].unique())
    rows = 1 + (len(sources) + 1) // 2
    fig = Figure(figsize=(WIDTH, 2.0 + 1.6 * (rows - 1)), layout="constrained")
    grid = fig.add_gridspec(rows, 2, height_ratios=[1.5, *[1] * (rows - 1)])
    panels = [(fig.add_subplot(grid[0, :]), overall, "all held-out problems")]
    for index, source in enumerate(sources):
        ax = fig.add_subplot(grid[1 + index // 2, index % 2])
        panels.append((ax, by_source[by_source["source"] == source], source))
    for ax, table, title in panels:
        colour, marker, _ = _style(arm)
        ax.errorbar(
            table["step"],
            table["estimate"],
            yerr=[table["estimate"] - table["low"], table["high"] - table["estimate"]],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
        )
        ax.set_title(f"{title} (n = {int(table['n_problems'].iloc[0])})", loc="left")
        ax.set_ylim(0, 1 if title != "all held-out problems" else 0.5)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for ax, _, _ in panels[-2:]:
        ax.set_xlabel("training step")
    sns.despine(fig)
    return fig


def draw_training(
    training: pd.DataFrame, smooth: pd.DataFrame, columns: Sequence[tuple[str, str]], arm: str = "panel"
) -> Figure:
    """Draw training metrics, one panel each: every batch as a point, the rolling mean as a line.

    Parameters
    ----------
    training
        step and one column per metric.
    smooth
        The same columns, smoothed.
    columns
        (column, axis label) of each panel.
    arm
        Whose training it is, for the colour.
    """
    rows = (len(columns) + 1) // 2
    fig = Figure(figsize=(WIDTH, 1.55 * rows + 0.3), layout="constrained")
    axs = fig.subplots(rows, 2, sharex=True, squeeze=False).ravel()
    for ax, (column, label) in zip(axs, columns, strict=False):
        ax.scatter(training["step"], training[column], s=6, color=GREY, alpha=0.6, linewidth=0)
        ax.plot(smooth["step"], smooth[column], color=_style(arm)[0], linewidth=1.6)
        ax.set_title(label, loc="left")
        ax.set_ylim(0, None)
    for ax in axs[len(columns) :]:
        ax.remove()
    for ax in axs[max(len(columns) - 2, 0) : len(columns)]:
        ax.set_xlabel("training step")
        ax.tick_params(labelbottom=True)
    sns.despine(fig)
    return fig


def draw_pretraining(curve: pd.DataFrame) -> Figure:
    """Draw the loss of pretraining against tokens.

    Parameters
    ----------
    curve
        n_tokens, loss (nats per token).
    """
    fig, (ax,) = _stack(1, height=2.8)
    ax.plot(curve["n_tokens"] / 1e6, curve["loss"], color=INK, linewidth=1.4)
    ax.set(xlabel="million tokens learnt from", ylabel="loss (nats a token)", yscale="log", xlim=(0, None))
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 4) if tick <= curve["loss"].max() * 1.2]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    return fig


def draw_accuracy_by_level(points: pd.DataFrame, arm: str) -> Figure:
    """Draw the share of right draws by source, one marker for each level, with intervals.

    Parameters
    ----------
    points
        source, level, estimate, low, high.
    """
    sources, levels = sorted(points["source"].unique()), sorted(points["level"].unique())
    fig, (ax,) = _stack(1, height=0.55 * len(sources) + 1.3)
    colour, _, _ = _style(arm)
    for index, level in enumerate(levels):
        mine = points[points["level"] == level].set_index("source").reindex(sources)
        height = np.arange(len(sources))[::-1] + 0.2 * ((len(levels) - 1) / 2 - index)
        ax.hlines(height, mine["low"].astype(float), mine["high"].astype(float), color=GREY, linewidth=1.4)
        fill = ("white", colour, INK)[index % 3]
        ax.scatter(
            mine["estimate"],
            height,
            marker="os^Dv"[index % 5],
            facecolor=fill,
            edgecolor=colour,
            s=30,
            label=f"level {level}",
            zorder=3,
        )
    ax.set_yticks(np.arange(len(sources))[::-1], [source.replace("_", " ") for source in sources])
    ax.set(xlabel="right draws", xlim=(-0.02, 1.02))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=len(levels))
    return fig


def draw_heldout(curve: pd.DataFrame, arm: str) -> Figure:
    """Draw held-out pass@k of one training run against updates, a line for each k.

    Parameters
    ----------
    curve
        step, k, estimate, low, high.
    """
    fig, (ax,) = _stack(1, height=3.0)
    _climb(ax, curve, arm, "step")
    ax.set(xlabel="updates", ylabel="held-out pass@k", ylim=(0, 1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right", ncols=2)
    return fig


def draw_matched_climb(curve: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw held-out pass@k of both arms: the smallest k against updates and tokens, the largest against updates.

    Parameters
    ----------
    curve
        arm, k (one or two values), step, tokens_total, estimate, low, high.
    """
    low, high = sorted(curve["k"].unique())[:: max(1, curve["k"].nunique() - 1)][:2]
    fig, axs = _stack(3, height=7.2)
    curve = curve.assign(tokens=curve["tokens_total"] / 1000)
    panels = (
        ("step", "updates", low),
        ("tokens", "thousand completion tokens of training", low),
        ("step", "updates", high),
    )
    for ax, (x, label, k) in zip(axs, panels, strict=True):
        for shift, arm in ((-1, first), (1, second)):
            rows = curve[(curve["arm"] == arm) & (curve["k"] == k)]
            apart = shift * 0.004 * curve[x].max()  # so that bars at the same place can both be seen
            _climb(ax, rows.assign(**{x: rows[x] + apart}), arm, x)
        ax.set(xlabel=label, ylabel=f"held-out pass@{k}")
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axs[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def _climb(ax: Axes, curve: pd.DataFrame, arm: str, x: str) -> None:
    """Draw a line with bars for each k; the smallest k has filled markers."""
    colour, marker, line = _style(arm)
    for index, (k, rows) in enumerate(curve.groupby("k")):
        ax.errorbar(
            rows[x],
            rows["estimate"],
            yerr=[rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]],
            color=colour,
            marker=marker,
            markerfacecolor=colour if index == 0 else "white",
            markersize=5,
            linestyle=line,
            linewidth=1.3,
            elinewidth=0.8,
            label=f"{arm}, pass@{k}",
        )


def _stack(
    rows: int, height: float, ratios: Sequence[float] | None = None, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column with its axes from top to bottom."""
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    axs = fig.subplots(rows, 1, sharex=sharex, squeeze=False, height_ratios=ratios)[:, 0]
    sns.despine(fig)
    return fig, list(axs)


def _style(arm: str) -> tuple[str, str, str]:
    return ARM_STYLES.get(arm, OTHER_ARM)


def _band(ax: Axes, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, arm: str) -> None:
    """Draw a curve with its pointwise interval."""
    colour, marker, line = _style(arm)
    ax.plot(x, y, color=colour, marker=marker, markersize=4, linestyle=line, label=arm)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _log2_axis(ax: Axes, largest: int) -> None:
    ax.set_xscale("log", base=2)
    ticks = [2**i for i in range(largest.bit_length()) if 2**i <= largest]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
