"""Figures of variance bands: which problems carry a signal."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import (
    BAND_LABELS,
    BANDS,
    GREY,
    INK,
    draw_band,
    set_log2_axis,
    stack,
    style_of,
)


@keeps_data
def draw_joint_bands(joint: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the 3 x 3 table of band pairs with its counts.

    Parameters
    ----------
    joint
        Rows: band of `first`; columns: band of `second`; values: problems.
    """
    table = joint.loc[list(BANDS), list(BANDS)]
    fig, (ax,) = stack(1, height=3.7)
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


@keeps_data
def draw_band_shares(shares: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the share of the variance band by source for both arms, with intervals.

    Parameters
    ----------
    shares
        arm, source, band, share, low, high, n_problems.
    """
    rows = shares[shares["band"] == "variance_band"]
    sources = sorted(rows["source"].unique())
    fig, (ax,) = stack(1, height=0.62 * len(sources) + 1.2)
    for arm, shift in ((first, 0.13), (second, -0.13)):
        colour, marker, _ = style_of(arm)
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


@keeps_data
def draw_mixed_share(mixed: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the expected share of mixed groups against the group size.

    Parameters
    ----------
    mixed
        arm, group_size, estimate, low, high.
    """
    fig, (ax,) = stack(1, height=3.2)
    for arm in (first, second):
        rows = mixed[mixed["arm"] == arm]
        draw_band(ax, rows["group_size"], rows["estimate"], rows["low"], rows["high"], arm)
    set_log2_axis(ax, int(mixed["group_size"].max()))
    ax.set(xlabel="group size G", ylabel="groups with both outcomes", ylim=(0, 1), xlim=(1.9, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left")
    return fig


@keeps_data
def draw_group_sizes(mixed: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the share of mixed groups against the group size: counted sizes filled, modelled ones open.

    Parameters
    ----------
    mixed
        arm, group_size, model_based, estimate, low, high.
    """
    fig, (ax,) = stack(1, height=3.2)
    for arm in (first, second):
        rows = mixed[mixed["arm"] == arm].sort_values("group_size")
        draw_band(ax, rows["group_size"], rows["estimate"], rows["low"], rows["high"], arm)
        colour, marker, _ = style_of(arm)
        model = rows[rows["model_based"]]
        ax.scatter(
            model["group_size"],
            model["estimate"],
            facecolor="white",
            edgecolor=colour,
            marker=marker,
            s=26,
            zorder=3,
        )
    counted = mixed.loc[~mixed["model_based"], "group_size"]
    if mixed["model_based"].any() and len(counted):
        edge = float(counted.max()) * 2**0.5
        ax.axvline(edge, color=GREY, linewidth=0.8, linestyle=":")
        ax.annotate(
            "from a model",
            (edge, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            color=INK,
            size=8.5,
        )
    set_log2_axis(ax, int(mixed["group_size"].max()))
    ax.set(xlabel="group size G", ylabel="groups with both outcomes", ylim=(0, 1), xlim=(1.9, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left")
    return fig


@keeps_data
def draw_difference_parts(parts: pd.DataFrame) -> Figure:
    """Draw a difference and the parts that it splits into, a row each, with intervals.

    Parameters
    ----------
    parts
        label, estimate, low, high, all in fractions; the first row is the whole and is drawn filled.
    """
    fig, (ax,) = stack(1, height=0.42 * len(parts) + 0.9)
    height = np.arange(len(parts))[::-1]
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.hlines(height, parts["low"].astype(float), parts["high"].astype(float), color=INK, linewidth=1.8)
    fill = [INK] + ["white"] * (len(parts) - 1)
    ax.scatter(parts["estimate"], height, color=fill, edgecolor=INK, s=34, zorder=3)
    ax.set_yticks(height, parts["label"].tolist())
    ax.set(xlabel="difference of the shares of mixed groups", ylim=(-0.6, len(parts) - 0.4))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig


@keeps_data
def draw_matched_strata(strata: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw both arms' shares of mixed groups at equal success in the sorting draws, and below it who has such problems.

    Parameters
    ----------
    strata
        right, n_sorting, group_size, and for `first` and `second` the share, `_low`, `_high` and `_weight`.
    """
    fig, (top, bottom) = stack(2, height=4.2, ratios=[2, 1], sharex=True)
    for side, arm, shift in (("first", first, -0.08), ("second", second, 0.08)):
        colour, marker, _ = style_of(arm)
        rows = strata[strata[side].notna()]
        at = rows["right"] + shift
        top.vlines(at, rows[f"{side}_low"], rows[f"{side}_high"], color=colour, linewidth=1.8)
        top.scatter(at, rows[side], color=colour, marker=marker, s=34, label=arm, zorder=3)
        bottom.bar(strata["right"] + 2 * shift, strata[f"{side}_weight"], width=0.3, color=colour)
    n_sorting, group_size = int(strata["n_sorting"].iloc[0]), int(strata["group_size"].iloc[0])
    top.set(ylabel=f"mixed groups\nof {group_size} other draws", ylim=(-0.02, 1))
    bottom.set(xlabel=f"right among {n_sorting} sorting draws", ylabel="problems")
    bottom.set_xticks(strata["right"])
    for ax in (top, bottom):
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig
