"""Figures of pass@k: what further draws buy."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from panelbook.publish.figures.style import GREY, INK, draw_band, set_log2_axis, stack


def draw_pass_curves(curve: pd.DataFrame, gap: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw pass@k of both arms and, below, their paired gap; bands are intervals from resampled problems.

    Parameters
    ----------
    curve
        arm, k, estimate, low, high.
    gap
        k, gap (first minus second), low, high.
    """
    fig, (top, bottom) = stack(2, height=5.4, ratios=(3, 2), sharex=True)
    for arm in (first, second):
        rows = curve[curve["arm"] == arm]
        draw_band(top, rows["k"], rows["estimate"], rows["low"], rows["high"], arm)
    top.axhline(1, color=GREY, linewidth=0.8)
    top.set(ylabel="pass@k", ylim=(0, 1.03))
    top.yaxis.set_major_formatter(PercentFormatter(1))
    top.legend(loc="lower right")
    bottom.axhline(0, color=INK, linewidth=0.8)
    bottom.plot(gap["k"], gap["gap"], color=INK, marker=".", markersize=5)
    bottom.fill_between(gap["k"], gap["low"], gap["high"], color=INK, alpha=0.15, linewidth=0)
    bottom.set(xlabel="k (draws)", ylabel=f"{first} minus {second}")
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:+.0f} pp"))
    set_log2_axis(bottom, int(gap["k"].max()))
    return fig
