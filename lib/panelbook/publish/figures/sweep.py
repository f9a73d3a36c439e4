"""How results depend on a parameter that was swept: one panel for each result, the baseline beneath."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from panelbook.publish.figures.style import GREY, INK, stack, use_theme
from panelbook.publish.results import STYLES

SERIES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    (INK, "X"),
)
SPREAD = 0.12
"""Distance of two series side by side, where the values of the parameter are 1 apart."""


def draw_sweep(table: pd.DataFrame, axes: Mapping[str, Sequence[str]], names: Sequence[str]) -> Figure:
    """Draw results against a swept parameter, with their intervals.

    The values stand at equal distances in the order they were given. Where several parameters were swept, the first is
    the horizontal axis and each combination of the others has a colour and a marker. The baseline is a dashed line, its
    interval a grey band, and a diamond around the point where it is one of the values.

    Parameters
    ----------
    table
        `result, heading, style, value, low, high, baseline, member` and one column for each swept parameter.
    axes
        Swept parameter -> its values in their order, as written in the table.
    names
        Results to draw, one panel each.
    """
    use_theme()
    fig, panels = stack(len(names), 0.5 + 1.75 * len(names), sharex=True)
    first = next(iter(axes))
    ticks = list(axes[first])
    for ax, name in zip(panels, names, strict=True):
        rows = table[table["result"] == name]
        _draw_baseline(ax, rows[rows["baseline"]])
        _draw_members(ax, rows[rows["member"]], list(axes), ticks)
        style = STYLES[rows["style"].iloc[0]]
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _, style=style: style(value)))
        ax.set_title("\n".join(textwrap.wrap(rows["heading"].iloc[0], 62)), loc="left")
        ax.margins(y=0.15)
    panels[-1].set_xticks(range(len(ticks)), ticks)
    panels[-1].set_xlim(-0.5, len(ticks) - 0.5)
    panels[-1].set_xlabel(first)
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        fig.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    return fig


def _draw_baseline(ax: Axes, rows: pd.DataFrame) -> None:
    if rows.empty or rows["value"].isna().any():
        return
    row = rows.iloc[0]
    ax.axhline(row["value"], color=GREY, linestyle="--", linewidth=1, label="baseline")
    if pd.notna(row["low"]):
        ax.axhspan(row["low"], row["high"], color=GREY, alpha=0.15, linewidth=0)


def _draw_members(ax: Axes, rows: pd.DataFrame, axes: Sequence[str], ticks: list[str]) -> None:
    others = list(axes[1:])
    groups: list[tuple[tuple[Any, ...], pd.DataFrame]] = [((), rows)]
    if others:
        groups = [(tuple(key), group) for key, group in rows.groupby(others, sort=False)]
    for i, (key, group) in enumerate(groups):
        colour, marker = SERIES[i % len(SERIES)]
        x = [ticks.index(value) + (i - (len(groups) - 1) / 2) * SPREAD for value in group[axes[0]]]
        label = ", ".join(f"{name} = {value}" for name, value in zip(others, key, strict=True))
        known = group["low"].notna()
        ends = [
            (group["value"] - group["low"]).where(known, 0.0),
            (group["high"] - group["value"]).where(known, 0.0),
        ]
        ax.errorbar(
            x,
            group["value"],
            yerr=[end.clip(lower=0.0).to_numpy(dtype=float) for end in ends],
            color=colour,
            marker=marker,
            markersize=4,
            linestyle="none",
            capsize=2,
            label=label or None,
        )
        baseline = group["baseline"].to_numpy(dtype=bool)
        ax.plot(
            np.array(x)[baseline],
            group["value"].to_numpy(dtype=float)[baseline],
            marker="D",
            markersize=9,
            markerfacecolor="none",
            color=INK,
            linestyle="none",
        )
