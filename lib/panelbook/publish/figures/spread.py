"""Figures of spread: how far apart the draws of one problem lie."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, stack, style_of


@keeps_data
def draw_paired_spread(spread: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the spread of each problem under both arms, and the distribution of the paired differences.

    Parameters
    ----------
    spread
        One row per arm and problem: arm, problem_id, mean_distance (cosine).
    """
    wide = spread.pivot(index="problem_id", columns="arm", values="mean_distance")[[first, second]].dropna()
    wide = wide.sort_values(second, ignore_index=True)
    fig, (top, bottom) = stack(2, height=5.2, ratios=(3, 2))
    top.vlines(wide.index, wide[first], wide[second], color=GREY, linewidth=0.8, zorder=1)
    for arm in (first, second):
        colour, marker, _ = style_of(arm)
        top.scatter(wide.index, wide[arm], color=colour, marker=marker, s=16, label=arm, zorder=2)
    top.set(
        xlabel=f"problem, sorted by the spread of {second}",
        ylabel="mean pairwise distance (cosine)",
        ylim=(0, None),
    )
    top.legend(loc="upper left", ncols=2)
    difference = wide[first] - wide[second]
    bottom.hist(difference, bins="auto", color=style_of(first)[0], alpha=0.45, edgecolor="white")
    bottom.plot(difference, np.full(len(wide), -0.4), "|", color=INK, markersize=7, clip_on=False)
    bottom.axvline(0, color=INK, linewidth=0.8)
    bottom.axvline(difference.mean(), color=style_of(first)[0], linewidth=1.8)
    bottom.annotate(
        "mean", (difference.mean(), bottom.get_ylim()[1]), xytext=(4, -8), textcoords="offset points"
    )
    bottom.set(xlabel=f"{first} minus {second}, per problem", ylabel="problems")
    return fig


@keeps_data
def draw_spread_against_accuracy(table: pd.DataFrame) -> Figure:
    """Draw each arm's mean spread against its pass@1, with both intervals.

    Parameters
    ----------
    table
        One row per arm: arm, pass_at_1, pass_low, pass_high, spread, spread_low, spread_high.
    """
    fig, (ax,) = stack(1, height=3.6)
    for row in table.to_dict("records"):
        colour, marker, _ = style_of(row["arm"])
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
