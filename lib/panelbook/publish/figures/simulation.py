"""Figures of simulated studies: whether intervals keep their promise, and what a design can see."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, stack

SIZE_STYLES = (("#56B4E9", "v"), ("#009E73", "^"), ("#E69F00", "s"), ("#0072B2", "o"))
"""Colour and marker of the numbers of problems, from the smallest; they begin anew after four."""

LINES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", ":"),
    ("#CC79A7", "-."),
    (INK, "-"),
    ("#E69F00", "--"),
)


@keeps_data
def draw_coverage(table: pd.DataFrame, kept: tuple[float, float], nominal: float) -> Figure:
    """Draw how often the intervals of each estimator contain the truth, one dot for each number of problems.

    Parameters
    ----------
    table
        title, recommended, n_problems, coverage, low, high; the order of titles is kept, and those that are not
        recommended come below, on an axis of their own.
    kept
        Range of coverage that counts as kept, shaded.
    nominal
        Promised coverage.
    """
    order = table["title"].drop_duplicates().tolist()
    shown = table[table["coverage"].notna()]
    parts = [shown[shown["recommended"]], shown[~shown["recommended"]]]
    parts = [part for part in parts if len(part)]
    rows = [part["title"].nunique() for part in parts]
    fig, axs = stack(
        len(parts), height=0.3 * sum(rows) + 0.7 * len(parts) + 0.6, ratios=[n + 1 for n in rows]
    )
    sizes = sorted(shown["n_problems"].unique())
    for ax, part in zip(axs, parts, strict=True):
        _draw_part(ax, part, sizes, order)
        ax.axvspan(*kept, color=GREY, alpha=0.2, linewidth=0)
        ax.axvline(nominal, color=INK, linewidth=0.8)
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axs[-1].set_xlabel("intervals that contain the truth")
    axs[0].legend(loc="lower center", bbox_to_anchor=(0.35, 1.0), ncols=2, handletextpad=0.2, columnspacing=1)
    return fig


def _draw_part(ax: Axes, table: pd.DataFrame, sizes: Sequence[int], order: Sequence[str]) -> None:
    """Draw one row of dots for each estimator."""
    titles = [title for title in order if title in set(table["title"])]
    place = {title: len(titles) - 1 - i for i, title in enumerate(titles)}
    for i, size in enumerate(sizes):
        colour, marker = SIZE_STYLES[i % len(SIZE_STYLES)]
        rows = table[table["n_problems"] == size]
        height = rows["title"].map(place) + 0.3 - 0.6 * (i + 0.5) / len(sizes)
        ax.hlines(height, rows["low"], rows["high"], color=colour, linewidth=1)
        label = f"{size:,} problems"
        ax.scatter(rows["coverage"], height, color=colour, marker=marker, s=14, label=label, zorder=3)
    ax.set_yticks(range(len(titles)), titles[::-1], fontsize=8)
    ax.set_ylim(-0.6, len(titles) - 0.4)


@keeps_data
def draw_power(curves: pd.DataFrame, designs: pd.DataFrame, wanted: float) -> Figure:
    """Draw power against the number of problems, with the design that each comparison had.

    Parameters
    ----------
    curves
        name, n_problems, power.
    designs
        name, n_problems, power, low, high: the design, and its power in simulated studies with an interval.
    wanted
        Wanted power, drawn as a line.
    """
    fig, (ax,) = stack(1, height=4.6)
    ax.axhline(wanted, color=GREY, linewidth=0.8)
    names = list(dict.fromkeys(curves["name"]))
    for i, name in enumerate(names):
        colour, line = LINES[i % len(LINES)]
        rows = curves[curves["name"] == name]
        ax.plot(rows["n_problems"], rows["power"], color=colour, linestyle=line, label=name)
        _draw_design(ax, designs[designs["name"] == name], colour)
    ax.set_xscale("log")
    ticks = [t for t in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t <= curves["n_problems"].max()]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="problems", ylabel="chance to see the effect", ylim=(0, 1.03))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2 if len(names) > 3 else 1)
    return fig


def _draw_design(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Mark a design on its curve, with the interval of its simulated power."""
    if len(rows):
        ax.vlines(rows["n_problems"], rows["low"], rows["high"], color=colour, linewidth=1.8)
        ax.scatter(rows["n_problems"], rows["power"], color=colour, s=40, zorder=3, edgecolor="white")


def power_sizes(designs: Sequence[int]) -> list[int]:
    """Numbers of problems to draw power curves at: evenly on a log axis, from 5 to twice the largest design."""
    most = max(2 * max(designs), 200)
    return [int(size) for size in np.unique(np.rint(np.geomspace(5, most, 60)))]
