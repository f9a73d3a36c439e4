"""The map of rollouts: every draw as a point, once by its arm and once by whether it is right."""

import pandas as pd
from matplotlib.figure import Figure

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, stack, style_of

RIGHT, WRONG = "#009E73", "#CC79A7"


@keeps_data
def draw_places(places: pd.DataFrame, shares: tuple[float, float]) -> Figure:
    """Draw where draws lie after each problem's mean is subtracted, above by arm, below by correctness.

    Parameters
    ----------
    places
        One row per draw: x, y, arm, correct (bool).
    shares
        Share of the variance that each axis holds; NaN where there is none.
    """
    fig, axs = stack(2, height=7.4, sharex=True)
    shown = places.sample(frac=1, random_state=0)  # or the arm drawn last would cover the others
    names = [f"{axis} axis" + (f" ({share:.0%} of the variance)" if share == share else "")
             for axis, share in zip(("first", "second"), shares, strict=True)]  # fmt: skip
    kinds = (
        [(arm, shown["arm"] == arm, *style_of(arm)[:2]) for arm in places["arm"].drop_duplicates()],
        [("right", shown["correct"], RIGHT, "o"), ("not right", ~shown["correct"], WRONG, "X")],
    )
    size = 14 if len(places) < 1000 else 7
    for ax, legend in zip(axs, kinds, strict=True):
        ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
        ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
        for label, mine, colour, marker in legend:
            ax.scatter(
                shown["x"][mine],
                shown["y"][mine],
                s=size,
                color=colour,
                marker=marker,
                alpha=0.4,
                linewidths=0,
                rasterized=True,  # thousands of points would make the page heavy
            )
            ax.scatter([], [], s=24, color=colour, marker=marker, label=label)
        ax.legend(loc="upper right", ncols=2, labelcolor=INK)
        ax.set_ylabel(names[1])
    axs[1].set_xlabel(names[0])
    return fig
