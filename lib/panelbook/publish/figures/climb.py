"""Figures of training: curves over updates, and what they come to on held-out problems."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, WIDTH, stack, style_of

OBJECTIVE_STYLES = [
    ("#0072B2", "o", "-"),
    ("#E69F00", "^", "--"),
    ("#009E73", "D", "-."),
    ("#CC79A7", "v", ":"),
]
"""Colour, marker and line of training runs of one arm, in order."""


@keeps_data
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
        colour, marker, _ = style_of(arm)
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


@keeps_data
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
        ax.plot(smooth["step"], smooth[column], color=style_of(arm)[0], linewidth=1.6)
        ax.set_title(label, loc="left")
        ax.set_ylim(0, None)
    for ax in axs[len(columns) :]:
        ax.remove()
    for ax in axs[max(len(columns) - 2, 0) : len(columns)]:
        ax.set_xlabel("training step")
        ax.tick_params(labelbottom=True)
    sns.despine(fig)
    return fig


@keeps_data
def draw_pretraining(curve: pd.DataFrame) -> Figure:
    """Draw the loss of pretraining against tokens.

    Parameters
    ----------
    curve
        n_tokens, loss (nats per token).
    """
    fig, (ax,) = stack(1, height=2.8)
    ax.plot(curve["n_tokens"] / 1e6, curve["loss"], color=INK, linewidth=1.4)
    ax.set(xlabel="million tokens learnt from", ylabel="loss (nats a token)", yscale="log", xlim=(0, None))
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 4) if tick <= curve["loss"].max() * 1.2]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    return fig


@keeps_data
def draw_warmup(losses: pd.DataFrame) -> Figure:
    """Draw the loss of a supervised warm-up against updates, one line for each arm's frame.

    Parameters
    ----------
    losses
        step, arm, loss (nats per token of a completion, before the update).
    """
    fig, (ax,) = stack(1, height=2.8)
    for arm, rows in losses.groupby("arm", sort=False):
        colour, marker, line = style_of(str(arm))
        ax.plot(
            rows["step"] + 1,
            rows["loss"],
            color=colour,
            marker=marker,
            markersize=3,
            linestyle=line,
            label=arm,
        )
    ax.set(xlabel="update", ylabel="loss (nats a token)", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend()
    return fig


@keeps_data
def draw_accuracy_by_level(points: pd.DataFrame, arm: str) -> Figure:
    """Draw the share of right draws by source, one marker for each level, with intervals.

    Parameters
    ----------
    points
        source, level, estimate, low, high.
    """
    sources, levels = sorted(points["source"].unique()), sorted(points["level"].unique())
    fig, (ax,) = stack(1, height=0.55 * len(sources) + 1.3)
    colour, _, _ = style_of(arm)
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


@keeps_data
def draw_heldout(curve: pd.DataFrame, arm: str) -> Figure:
    """Draw held-out pass@k of one training run against updates, a line for each k.

    Parameters
    ----------
    curve
        step, k, estimate, low, high.
    """
    fig, (ax,) = stack(1, height=3.0)
    _climb(ax, curve, arm, "step")
    ax.set(xlabel="updates", ylabel="held-out pass@k", ylim=(0, 1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right", ncols=2)
    return fig


@keeps_data
def draw_matched_climb(curve: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw held-out pass@k of both arms: the smallest k against updates and tokens, the largest against updates.

    Parameters
    ----------
    curve
        arm, k (one or two values), step, tokens_total, estimate, low, high.
    """
    low, high = sorted(curve["k"].unique())[:: max(1, curve["k"].nunique() - 1)][:2]
    fig, axs = stack(3, height=7.2)
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


@keeps_data
def draw_objectives(curve: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw held-out pass@k of runs that differ in what they were trained for: small k above, large k below.

    Parameters
    ----------
    curve
        arm (the name of a run), k (one or two values), step, tokens_total, estimate, low, high.
    names
        The runs in the order of the legend.
    """
    ks = sorted(curve["k"].unique())
    panels = [(k, x) for k in ks for x in ("step", "tokens")]
    fig, axs = stack(len(panels), height=2.1 * len(panels) + 0.5)
    curve = curve.assign(tokens=curve["tokens_total"] / 1000)
    labels = {"step": "updates", "tokens": "thousand completion tokens of training"}
    for ax, (k, x) in zip(axs, panels, strict=True):
        for index, name in enumerate(names):
            colour, marker, line = OBJECTIVE_STYLES[index % len(OBJECTIVE_STYLES)]
            rows = curve[(curve["arm"] == name) & (curve["k"] == k)]
            apart = (index - (len(names) - 1) / 2) * 0.008 * curve[x].max()
            ax.errorbar(
                rows[x] + apart,
                rows["estimate"],
                yerr=[rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]],
                color=colour,
                marker=marker,
                markersize=5,
                linestyle=line,
                linewidth=1.3,
                elinewidth=0.8,
                label=name,
            )
        ax.set(xlabel=labels[x], ylabel=f"held-out pass@{k}")
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axs[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, len(names)))
    return fig


def _climb(ax: Axes, curve: pd.DataFrame, arm: str, x: str) -> None:
    """Draw a line with bars for each k; the smallest k has filled markers."""
    colour, marker, line = style_of(arm)
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
