"""Figures of pass@k: what further draws buy."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from panelbook.publish.downloads import keeps_data
from panelbook.publish.figures.style import GREY, INK, OTHER_ARM, draw_band, set_log2_axis, stack, style_of


@keeps_data
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


@keeps_data
def draw_envelopes(curves: pd.DataFrame, first: str, second: str, tau: float) -> Figure:
    """Draw for each arm the two envelopes, pass@k above and pass^k below, with the rules that lie between them.

    Parameters
    ----------
    curves
        arm, summary (pass_at_k, g_pass_at_k, pass_power_k and, where there are votes, maj_at_k), k, estimate, low,
        high.
    first, second
        The arms, from top to bottom.
    tau
        Share of right draws that G-pass@k asks for.
    """
    rules = (
        ("pass_at_k", "pass@k: at least one right", "^", "-"),
        ("maj_at_k", "maj@k: the vote is right", "x", ":"),
        ("g_pass_at_k", f"G-pass@k: at least {100 * tau:g}% right", "o", "-."),
        ("pass_power_k", "pass^k: all right", "v", "--"),
    )
    fig, axs = stack(2, height=6.2, sharex=True)
    for ax, arm in zip(axs, (first, second), strict=True):
        for summary, label, marker, line in rules:
            rows = curves[(curves["arm"] == arm) & (curves["summary"] == summary)]
            # The vote is no share of right draws: it is set apart from the family by ink.
            colour = INK if summary == "maj_at_k" else style_of(arm)[0]
            if len(rows):
                ax.plot(
                    rows["k"],
                    rows["estimate"],
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    linestyle=line,
                    label=label,
                )
                ax.fill_between(rows["k"], rows["low"], rows["high"], color=colour, alpha=0.13, linewidth=0)
            if len(rows) == 1:  # a band of one point has no width
                ax.vlines(rows["k"], rows["low"], rows["high"], color=colour, linewidth=1.2)
        ax.set(ylabel=arm, ylim=(-0.02, 1.03))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = axs[0].get_legend_handles_labels()
    for handle in fig.legend(handles, labels, loc="outside upper center", ncols=2).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_color(INK)  # the colour is the arm's, the line is the rule's
    axs[1].set_xlabel("k (draws)")
    set_log2_axis(axs[1], int(curves["k"].max()))
    return fig


@keeps_data
def draw_model_curves(unbiased: pd.DataFrame, model: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw for each arm the unbiased pass@k with its intervals, and the curve of the model beyond the draws.

    Parameters
    ----------
    unbiased
        arm, k, estimate, low, high; k up to the draws.
    model
        arm, target (population or benchmark), k, estimate, low, high, beyond (whether k exceeds the draws).
    first, second
        The arms, from top to bottom.
    """
    fig, axs = stack(2, height=6.0, sharex=True)
    largest = int(model["k"].max())
    for ax, arm in zip(axs, (first, second), strict=True):
        colour, marker, line = style_of(arm)
        for target, alpha, style in (("population", 0.16, line), ("benchmark", 0.35, "none")):
            rows = model[(model["arm"] == arm) & (model["target"] == target)]
            ax.fill_between(
                rows["k"],
                rows["low"],
                rows["high"],
                color=colour,
                alpha=alpha,
                linewidth=0,
                label=f"model, {target}",
            )
            ax.plot(rows["k"], rows["estimate"], color=colour, linestyle=style)
        seen = unbiased[unbiased["arm"] == arm]
        ax.vlines(seen["k"], seen["low"], seen["high"], color=INK, linewidth=1.2)
        ax.plot(
            seen["k"],
            seen["estimate"],
            color=INK,
            marker=marker,
            markersize=5,
            linestyle="none",
            label="unbiased",
        )
        mine = model[model["arm"] == arm]
        if mine["beyond"].any():
            # An arm may have more draws than the k at which both can be compared.
            start = int(mine.loc[~mine["beyond"], "k"].max())
            ax.axvspan(start, largest, facecolor="none", edgecolor=GREY, alpha=0.45, hatch="//", linewidth=0)
            ax.text(
                (start * largest) ** 0.5,
                0.04,
                "model only",
                ha="center",
                color=INK,
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
        ax.set(ylabel=f"pass@k, {arm}", ylim=(0, 1.03))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = axs[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    axs[1].set_xlabel("k (draws)")
    set_log2_axis(axs[1], largest)
    return fig


@keeps_data
def draw_summary_differences(differences: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the difference of two arms under each summary with its interval, marked as the arm that is ahead.

    Parameters
    ----------
    differences
        label, difference (first minus second), low, high; drawn from top to bottom.
    first, second
        The arms.
    """
    fig, (ax,) = stack(1, height=0.9 + 0.34 * len(differences))
    height = range(len(differences) - 1, -1, -1)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.hlines(height, differences["low"], differences["high"], color=INK, linewidth=1.6)
    for y, value in zip(height, differences["difference"], strict=True):
        colour, marker, _ = OTHER_ARM if value == 0 else style_of(first if value > 0 else second)
        ax.plot(value, y, marker=marker, color=colour, markersize=7)
    ax.set_yticks(height, differences["label"])
    ax.set(xlabel=f"{first} minus {second}", ylim=(-0.6, len(differences) - 0.4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.0f} pp"))
    return fig
