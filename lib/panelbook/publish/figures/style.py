"""The look of every figure: one column wide, colours and markers by arm, lettering that survives a phone.

The colours are those of Okabe and Ito (2008), which readers with colour-blindness can tell apart.

References
----------
Okabe, M. and Ito, K. (2008). Color universal design. https://jfly.uni-koeln.de/color/
"""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, NullFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats

from panelbook.publish.downloads import carry_data

WIDTH = 5.2
"""Inches. At 96 dots per inch this fits a phone without shrinking the letters below 8 points."""

INK = "#333333"
GREY = "#8c8c8c"

ARM_STYLES = {  # arm -> colour, marker, line
    "panel": ("#0072B2", "o", "-"),
    "thinking": ("#D55E00", "s", "--"),
    "think": ("#D55E00", "s", "--"),
    "no_panel": ("#009E73", "^", ":"),
    "panel_premath": ("#56B4E9", "v", "-."),
    "no_panel_premath": ("#7fbf9f", "<", ":"),
    "instruct": ("#CC79A7", "D", "-."),
}
OTHER_ARM = (INK, "X", "-")

BANDS = ("all_zero", "variance_band", "all_one")
BAND_LABELS = {"all_zero": "never right", "variance_band": "variance band", "all_one": "always right"}
BAND_COLOURS = {"all_zero": "#bdbdbd", "variance_band": "#E69F00", "all_one": "#5a5a5a"}


LONGEST_WORD = 24
"""Characters of a word that a figure shows unbroken: more is the name of a model, not a word."""

MOST_LINES = 4


class _Figure(Figure):
    """A figure in which the name of an arm, however long, leaves room for the axes."""

    def draw(self, renderer: RendererBase) -> None:
        """Break what is too long, then lay out and draw."""
        for ax in self.axes:
            legend = ax.get_legend()
            for text in [ax.xaxis.label, ax.yaxis.label, *(legend.get_texts() if legend else ())]:
                text.set_text(break_words(text.get_text()))
            for axis in (ax.xaxis, ax.yaxis):
                ticks = axis.get_major_formatter()
                if isinstance(ticks, FixedFormatter):
                    ticks.seq = [break_words(label) for label in ticks.seq]
        super().draw(renderer)


def break_words(label: str) -> str:
    r"""Return a label with lines in which no word is longer than `LONGEST_WORD`, at most `MOST_LINES` where one was.

    Examples
    --------
    >>> break_words("share of draws right under panel, of all there are")
    'share of draws right under panel, of all there are'
    >>> break_words("second batch of meta-llama/Llama-3.3-70B-Instruct-step-3000").split("\n")
    ['second batch of meta-lla', 'ma/Llama-3.3-70B-', 'Instruct-step-3000']
    """
    if all(len(word) <= LONGEST_WORD for word in label.split()):
        return label
    lines = [piece for line in label.split("\n") for piece in textwrap.wrap(line, LONGEST_WORD)]
    return "\n".join(lines[:MOST_LINES]) + ("…" if len(lines) > MOST_LINES else "")


def use_theme() -> None:
    """Set the look of every figure of a notebook, and make its files repeatable byte by byte.

    A page shows the SVG; the PNG, of twice its size, and the data as CSV are there to take away.
    """
    sns.set_theme(
        style="ticks", font="DejaVu Sans", rc={"axes.spines.top": False, "axes.spines.right": False}
    )
    mpl.rcParams.update(
        {
            "font.size": 9.5,
            "axes.labelsize": 9.5,
            "axes.titlesize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.edgecolor": INK,
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "panelbook",
            "text.parse_math": False,  # a dollar sign in the name of an arm is no formula
        }
    )
    set_matplotlib_formats("svg", "png2x", metadata={"Date": None})
    carry_data()


def stack(
    rows: int, height: float, ratios: Sequence[float] | None = None, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column with its axes from top to bottom."""
    fig = _Figure(figsize=(WIDTH, height), layout="constrained")
    axs = fig.subplots(rows, 1, sharex=sharex, squeeze=False, height_ratios=ratios)[:, 0]
    sns.despine(fig)
    return fig, list(axs)


def style_of(arm: str) -> tuple[str, str, str]:
    """Return colour, marker and line of an arm; one that the book does not know gets `OTHER_ARM`."""
    return ARM_STYLES.get(arm, OTHER_ARM)


def draw_band(ax: Axes, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, arm: str) -> None:
    """Draw a curve with its pointwise interval."""
    colour, marker, line = style_of(arm)
    ax.plot(x, y, color=colour, marker=marker, markersize=4, linestyle=line, label=arm)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def set_log2_axis(ax: Axes, largest: int) -> None:
    """Label the x axis with the powers of two up to `largest`."""
    ax.set_xscale("log", base=2)
    ticks = [2**i for i in range(largest.bit_length()) if 2**i <= largest]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())  # matplotlib writes the numbers of a log axis as formulas
    ax.minorticks_off()
