"""Figures of null models: what an arm did beside what a mere copy would have done."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, stack, style_of

NULL_STYLES = {  # null -> label, colour, marker; in the order in which they stand beside each other
    "thinned": ("thinned copy", "#E69F00", "^"),
    "logit_shift_jeffreys": ("log-odds shift, Jeffreys", "#CC79A7", "D"),
    "logit_shift": ("log-odds shift, fitted", "#009E73", "s"),
    "lost_problems": ("lost problems", GREY, "v"),
}
SCALE_LABELS = {
    "points": "closure (points)",
    "logit": "closure (log odds)",
    "failure": "closure (log ratio\nof failure rates)",
}
BUCKET_LABELS = {
    "never": "never",
    "rarely": "up to\n1/4",
    "up_to_half": "up to\n1/2",
    "mostly": "above\n1/2",
    "always": "always",
}


@keeps_data
def draw_null_closure(observed: pd.DataFrame, nulls: pd.DataFrame) -> Figure:
    """Draw the observed closure up to every k against the bands of the nulls, one panel for each scale.

    Parameters
    ----------
    observed
        scale, k, estimate, low, high.
    nulls
        null, scale, k, estimate, low, high: the band of each null.
    """
    scales = [
        scale for scale in SCALE_LABELS if observed.loc[observed["scale"] == scale, "estimate"].notna().any()
    ]
    if not scales:
        fig, (ax,) = stack(1, height=1.6)
        ax.text(
            0.5, 0.5, "no closure to draw: a single draw, or no value", ha="center", va="center", color=INK
        )
        ax.set_axis_off()
        return fig
    ks = sorted(observed["k"].unique())
    fig, axs = stack(len(scales), height=2.3 * len(scales) + 0.9, sharex=True)
    for ax, scale in zip(axs, scales, strict=True):
        ax.axhline(0, color=INK, linewidth=0.8)
        series = [("observed", INK, "o", observed)]
        series += [(*style, nulls[nulls["null"] == null]) for null, style in NULL_STYLES.items()]
        for i, (label, colour, marker, table) in enumerate(series):
            rows = table[table["scale"] == scale].dropna(subset=["estimate"])
            place = rows["k"].map(ks.index) + 0.14 * (i - 2)
            ax.vlines(place, rows["low"], rows["high"], color=colour, linewidth=2)
            face = colour if label == "observed" else "white"
            ax.scatter(
                place,
                rows["estimate"],
                marker=marker,
                s=32,
                facecolor=face,
                edgecolor=colour,
                label=label,
                zorder=3,
            )
        ax.set(ylabel=SCALE_LABELS[scale])
        if scale == "points":
            ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:+.0f} pp"))
    axs[-1].set_xticks(range(len(ks)), [str(k) for k in ks])
    axs[-1].set(xlabel="k (draws)", xlim=(-0.5, len(ks) - 0.5))
    axs[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


@keeps_data
def draw_hard_problems(buckets: pd.DataFrame, saves: pd.DataFrame, failing: str, saving: str) -> Figure:
    """Draw pass@m by how often the other arm solved a problem and, below, the saves in both directions.

    Beside each stands the second batch of the same arm: what new draws of it would do on the same problems.

    Parameters
    ----------
    buckets
        bucket, m, estimate, low, high (of `saving`), second_batch, second_low, second_high (of `failing`), n_problems.
    saves
        saving, failing, quantity (matched and second_batch are drawn), draws, estimate, low, high.
    failing, saving
        The arm whose counts make the buckets, and the one looked at within them.
    """
    fig, (top, bottom) = stack(2, height=6.2, ratios=(3, 2))
    place = np.arange(len(buckets))
    for arm, shift, (value, low, high) in (
        (saving, -0.12, ("estimate", "low", "high")),
        (failing, 0.12, ("second_batch", "second_low", "second_high")),
    ):
        colour, marker, _ = style_of(arm)
        label = arm if arm == saving else f"second batch of {arm}"
        top.vlines(place + shift, buckets[low], buckets[high], color=colour, linewidth=1.8)
        face = colour if arm == saving else "white"
        top.scatter(
            place + shift,
            buckets[value],
            marker=marker,
            s=40,
            facecolor=face,
            edgecolor=colour,
            label=label,
            zorder=3,
        )
    names, sizes = buckets["bucket"].tolist(), buckets["n_problems"].tolist()
    ticks = [f"{BUCKET_LABELS[name]}\n({size:,})" for name, size in zip(names, sizes, strict=True)]
    top.set_xticks(place, ticks)
    top.set(
        xlabel=f"share of draws right under {failing} (problems)",
        ylim=(-0.03, 1.05),
        xlim=(-0.5, len(place) - 0.5),
    )
    top.set_ylabel(f"pass@{int(buckets['m'].iloc[0])}")
    top.yaxis.set_major_formatter(PercentFormatter(1))
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    labels = []
    for height, (one, other) in zip((1.0, 0.0), ((saving, failing), (failing, saving)), strict=True):
        labels.append(f"failed by\n{other}")
        rows = saves[(saves["saving"] == one) & (saves["failing"] == other)].set_index("quantity")
        for quantity, arm, shift in (("matched", one, 0.13), ("second_batch", other, -0.13)):
            colour, marker, _ = style_of(arm)
            row = rows.loc[quantity]
            bottom.hlines(height + shift, row["low"], row["high"], color=colour, linewidth=1.8)
            face = colour if quantity == "matched" else "white"
            bottom.scatter(
                row["estimate"],
                height + shift,
                marker=marker,
                s=40,
                facecolor=face,
                edgecolor=colour,
                zorder=3,
            )
    bottom.set_yticks([1.0, 0.0], labels)
    bottom.set(
        xlabel="share of them solved (filled: the other arm; open: a second batch)",
        xlim=(-0.03, 1.03),
        ylim=(-0.5, 1.5),
    )
    bottom.xaxis.set_major_formatter(PercentFormatter(1))
    return fig
