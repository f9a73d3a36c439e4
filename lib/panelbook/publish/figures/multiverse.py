"""Figures of the multiverse: one comparison by many rulers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, stack, style_of

UNCLEAR = "#b5b5b5"
CHOSEN = "#CC79A7"


@keeps_data
def draw_specification_curve(
    specifications: pd.DataFrame,
    choices: Sequence[str],
    first: str,
    second: str,
    chosen: dict[str, object] | None = None,
) -> Figure:
    """Draw the effect of every specification in sorted order, and below it which choices make it.

    Parameters
    ----------
    specifications
        One row per specification: the columns of `choices`, effect, low, high (may be missing), sign ("above",
        "below" or "unclear").
    choices
        Columns that make a specification, from top to bottom.
    first, second
        The two arms; a specification takes the colour of the arm that its interval finds wider.
    chosen
        Levels of one specification to mark.
    """
    table = specifications.sort_values("effect", ignore_index=True)
    colours = {"above": style_of(first)[0], "below": style_of(second)[0], "unclear": UNCLEAR}
    levels = [(choice, level) for choice in choices for level in sorted(set(table[choice]), reverse=True)]
    fig, (top, bottom) = stack(2, 3.2 + 0.19 * len(levels), ratios=(2.6, 0.19 * len(levels)), sharex=True)
    for sign, rows in table.groupby("sign"):
        top.vlines(rows.index, rows["low"], rows["high"], color=colours[str(sign)], linewidth=0.8, alpha=0.6)
    top.scatter(table.index, table["effect"], s=4, color=[colours[sign] for sign in table["sign"]], zorder=3)
    top.axhline(0, color=INK, linewidth=0.8)
    top.set_ylim(*_edges(table["effect"]))
    top.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    top.set_ylabel(f"spread of {first}\nrelative to {second}")
    names = {"above": f"{first} wider", "below": f"{second} wider", "unclear": "unclear"}
    for sign, name in names.items():
        if (table["sign"] == sign).any():
            top.plot([], [], "o", color=colours[sign], markersize=4, label=name)
    y = 0.0
    ticks: dict[float, str] = {}
    for i, (choice, level) in enumerate(levels):
        y -= 1.0 if i == 0 or levels[i - 1][0] == choice else 1.5
        rows = table[table[choice] == level]
        bottom.scatter(
            rows.index,
            np.full(len(rows), y),
            marker="|",
            s=24,
            linewidths=0.9,
            color=[colours[sign] for sign in rows["sign"]],
        )
        ticks[y] = f"{choice}: {level}"
    if chosen is not None:
        mine = np.flatnonzero(np.logical_and.reduce([table[name] == level for name, level in chosen.items()]))
        for ax in (top, bottom):
            for place in mine.tolist():
                ax.axvline(place, color=CHOSEN, linewidth=1.2, zorder=0)
        top.plot([], [], color=CHOSEN, label="the study's own")
    top.legend(loc="upper left", ncols=2, fontsize=8.5, handletextpad=0.4, columnspacing=1.0)
    bottom.set_yticks(list(ticks), list(ticks.values()), fontsize=8.5)
    bottom.set(xlabel="specifications, sorted by effect", ylim=(y - 0.8, 0), xticks=[])
    bottom.spines["left"].set_visible(False)
    bottom.tick_params(axis="y", length=0)
    return fig


@keeps_data
def draw_explained(explained: pd.DataFrame) -> Figure:
    """Draw the share of the variance of the ranks of effects that each choice explains, with its interval.

    Parameters
    ----------
    explained
        One row per choice: choice, share, low, high (missing where there is none).
    """
    table = explained.sort_values("share", ignore_index=True)
    fig, (ax,) = stack(1, 0.9 + 0.33 * len(table))
    ax.barh(table.index, table["share"], color=GREY, alpha=0.45, height=0.6)
    ax.hlines(table.index, table["low"], table["high"], color=INK, linewidth=1.4)
    ax.set_yticks(table.index, table["choice"])
    ax.set(xlabel="share of the variance of the ranks of effects", xlim=(0, None))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig


@keeps_data
def draw_measures(measures: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw what each measure says: the relative difference, and the share of problems.

    Parameters
    ----------
    measures
        One row per measure: title, effect, effect_low, effect_high, wider, wider_low, wider_high.
    first, second
        The two arms.
    """
    table = measures.iloc[::-1].reset_index(drop=True)
    fig, (top, bottom) = stack(2, 1.6 + 0.44 * len(table), ratios=(1, 1))
    for ax, name, zero, label in (
        (top, "effect", 0.0, f"{first} relative to {second}, signs turned"),
        (bottom, "wider", 0.5, f"share of problems on which {first} is more varied"),
    ):
        _dots(ax, table, name, style_of(first)[0])
        ax.axvline(zero, color=INK, linewidth=0.8)
        ax.set_yticks(table.index, table["title"], fontsize=8.5)
        ax.set_xlabel(label)
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bottom.set_xlim(-0.02, 1.02)
    return fig


@keeps_data
def draw_strata(tables: dict[str, pd.DataFrame], first: str, second: str) -> Figure:
    """Draw the mean distance of both arms among pairs of each kind, one panel for each way to tell kinds apart.

    Parameters
    ----------
    tables
        Title of the panel -> one row per kind: stratum, first, first_low, first_high, second, second_low, second_high.
    first, second
        The two arms.
    """
    sizes = [len(table) for table in tables.values()]
    fig, axs = stack(len(tables), 0.9 + 0.75 * len(tables) + 0.32 * sum(sizes), ratios=[n + 1 for n in sizes])
    for ax, (title, table) in zip(axs, tables.items(), strict=True):
        rows = table.iloc[::-1].reset_index(drop=True)
        for arm, name, shift in ((first, "first", 0.13), (second, "second", -0.13)):
            colour, marker, _ = style_of(arm)
            y = rows.index + shift
            ax.hlines(y, rows[f"{name}_low"], rows[f"{name}_high"], color=colour, linewidth=1.4)
            ax.plot(rows[name], y, marker, color=colour, markersize=5, linestyle="none", label=arm)
        ax.set_yticks(rows.index, rows["stratum"])
        ax.set_title(title, loc="left")
        ax.set(xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))
    fig.legend(*axs[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    axs[-1].set_xlabel("mean pairwise distance (cosine)")
    return fig


@keeps_data
def draw_frontier(frontier: pd.DataFrame) -> Figure:
    """Draw spread against accuracy of every arm and checkpoint, an arrow along each training run.

    Parameters
    ----------
    frontier
        One row per arm, training seed and step: arm, train_seed, step, accuracy, accuracy_low, accuracy_high, spread,
        spread_low, spread_high.
    """
    fig, (ax,) = stack(1, height=3.9)
    named: set[str] = set()
    for (arm, _), run in frontier.groupby(["arm", "train_seed"]):
        rows = run.sort_values("step", ignore_index=True)
        colour, marker, line = style_of(str(arm))
        ax.hlines(
            rows["spread"], rows["accuracy_low"], rows["accuracy_high"], color=colour, alpha=0.5, linewidth=1
        )
        ax.vlines(
            rows["accuracy"], rows["spread_low"], rows["spread_high"], color=colour, alpha=0.5, linewidth=1
        )
        label = None if arm in named else str(arm)
        named.add(str(arm))
        first, last = rows.iloc[0], rows.iloc[-1]
        ax.plot(first["accuracy"], first["spread"], marker, color=colour, fillstyle="none", markersize=7)
        ax.plot(last["accuracy"], last["spread"], marker, color=colour, markersize=7, label=label)
        if len(rows) > 1:
            ax.annotate(
                "",
                (last["accuracy"], last["spread"]),
                (first["accuracy"], first["spread"]),
                arrowprops={
                    "arrowstyle": "->",
                    "color": colour,
                    "linestyle": line,
                    "shrinkA": 5,
                    "shrinkB": 5,
                },
            )
    ax.set(xlabel="share of draws that are right", ylabel="mean pairwise distance (cosine)", ylim=(0, None))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="best")
    return fig


def _dots(ax: Axes, table: pd.DataFrame, name: str, colour: str) -> None:
    """Draw one column of estimates with their intervals, one row each."""
    ax.hlines(table.index, table[f"{name}_low"], table[f"{name}_high"], color=colour, linewidth=1.4)
    ax.plot(table[name], table.index, "o", color=colour, markersize=5)
    ax.set_ylim(-0.6, len(table) - 0.4)


def _edges(effects: pd.Series) -> tuple[float, float]:
    """Limits that show every effect and zero; a wild interval may run out."""
    finite = [0.0, *effects[np.isfinite(effects)]]
    bottom, top = min(finite), max(finite)
    margin = 0.15 * (top - bottom) or 1.0
    return float(bottom - margin), float(top + margin)
