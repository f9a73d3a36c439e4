"""Figures of length and cost."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from panelbook.publish.figures.style import GREY, INK, stack, style_of


def draw_length_pairs(counts: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw each problem's mean completion length under one arm against the other, on log axes.

    Parameters
    ----------
    counts
        arm, problem_id, mean_tokens, c, n.
    """
    wide = counts.pivot(index="problem_id", columns="arm", values="mean_tokens").dropna()
    fig, (ax,) = stack(1, height=4.2)
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
    fig, (ax,) = stack(1, height=3.4)
    height = np.arange(len(rows))[::-1]
    for arm, key, shift in ((first, "first", 0.14), (second, "second", -0.14)):
        colour, marker, _ = style_of(arm)
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
    fig, (ax,) = stack(1, height=1.9)
    for height, row in zip(range(len(cost), 0, -1), cost.to_dict("records"), strict=True):
        colour, marker, _ = style_of(row["arm"])
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
