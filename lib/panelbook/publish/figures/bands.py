"""Figures of variance bands: which problems carry a signal."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from panelbook.publish.figures.style import BAND_LABELS, BANDS, draw_band, set_log2_axis, stack, style_of


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
