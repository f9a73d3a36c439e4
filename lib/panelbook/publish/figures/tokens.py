"""Figures of length and cost, and of what a budget of tokens buys."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from panelbook.publish.downloads import keep, keeps_data
from panelbook.publish.figures.style import GREY, INK, stack, style_of


@keeps_data
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


@keeps_data
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


@keeps_data
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


@keeps_data
def draw_budget_curves(
    panels: dict[str, tuple[pd.DataFrame, tuple[float, float | None, float | None] | None]],
    first: str,
    second: str,
) -> Figure:
    """Draw what a budget buys under both arms, one panel for each rule, with the budget at which the lead changes.

    Parameters
    ----------
    panels
        Label of the vertical axis -> a curve (arm, budget, estimate, low, high; missing where not observed) and the
        crossover as tokens with the ends of its interval, or None where there is none. A curve with a column k is drawn
        with a marker at every whole number of draws.
    first, second
        Arms.
    """
    fig, axs = stack(len(panels), height=0.6 + 2.8 * len(panels), sharex=True)
    for ax, (label, (curve, crossover)) in zip(axs, panels.items(), strict=True):
        for arm in (first, second):
            rows = curve[curve["arm"] == arm]
            colour, marker, line = style_of(arm)
            ax.plot(
                rows["budget"],
                rows["estimate"],
                color=colour,
                marker=marker if "k" in curve.columns else "",
                markersize=4,
                linestyle=line,
                label=arm,
            )
            ax.fill_between(rows["budget"], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
        if crossover is not None:
            tokens, low, high = crossover
            ax.axvline(tokens, color=INK, linewidth=0.9, linestyle=":")
            if low is not None and high is not None:
                ax.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0)
            # Beside the line on the side that has room.
            spans = curve.loc[curve["estimate"].notna(), "budget"]
            left = tokens > np.sqrt(spans.min() * spans.max())
            ax.annotate(
                "lead changes",
                (tokens, 1.0),
                xytext=(-4 if left else 4, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="bottom",
                fontsize=8.5,
                color=INK,
            )
        ax.axhline(1, color=GREY, linewidth=0.8)
        ax.set(ylabel=label, ylim=(-0.02, 1.1))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        _set_token_axis(ax)
    axs[0].legend(loc="lower right")
    axs[-1].set_xlabel("tokens per problem")
    changes = [(label, *mark) for label, (_, mark) in panels.items() if mark is not None]
    return keep(fig, {"lead changes": pd.DataFrame(changes, columns=["panel", "budget", "low", "high"])})


@keeps_data
def draw_cap_sensitivity(caps: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw what the draws of both arms would be worth under every lower token limit.

    Parameters
    ----------
    caps
        arm, cap, quantity (accuracy, cut, cost), estimate, low, high; missing where undefined.
    first, second
        Arms.
    """
    labels = {"accuracy": "right draws", "cut": "draws cut", "cost": "tokens per\nright draw"}
    fig, axs = stack(3, height=6.4, sharex=True)
    for ax, (quantity, label) in zip(axs, labels.items(), strict=True):
        for arm in (first, second):
            rows = caps[(caps["arm"] == arm) & (caps["quantity"] == quantity)]
            colour, _, line = style_of(arm)
            ax.plot(rows["cap"], rows["estimate"], color=colour, linestyle=line, label=arm)
            ax.fill_between(rows["cap"], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
        ax.set(ylabel=label)
        _set_token_axis(ax)
        if quantity != "cost":
            ax.set_ylim(-0.02, 1.03)
            ax.yaxis.set_major_formatter(PercentFormatter(1))
    if caps.loc[caps["quantity"] == "cost", "estimate"].notna().any():  # an arm was right at least once
        axs[2].set_yscale("log")
    axs[2].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    axs[2].yaxis.set_minor_formatter(NullFormatter())
    axs[0].legend(loc="lower right")
    axs[2].set_xlabel("token limit")
    return fig


@keeps_data
def draw_mean_lengths(counts: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw the share of problems whose mean length is below each length, with the token limit of either arm.

    Parameters
    ----------
    counts
        arm, problem_id, mean_tokens and, where recorded, max_tokens.
    first, second
        Arms.
    """
    fig, (ax,) = stack(1, height=3.2)
    for arm, height, side in ((first, 1.0, "top"), (second, 0.03, "bottom")):
        rows = counts[counts["arm"] == arm].sort_values("mean_tokens")
        colour, _, line = style_of(arm)
        share = np.arange(1, len(rows) + 1) / len(rows)
        ax.step(rows["mean_tokens"], share, where="post", color=colour, linestyle=line, label=arm)
        known = rows["max_tokens"].dropna() if "max_tokens" in rows.columns else pd.Series(dtype=float)
        if len(known):
            limit = float(known.max())
            ax.axvline(limit, color=colour, linewidth=0.9, linestyle=":")
            ax.annotate(
                f"limit, {arm}",
                (limit, height),
                xytext=(-2, 0),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va=side,
                fontsize=8.5,
                color=colour,
            )
    ax.set(xlabel="mean tokens per draw of a problem", ylabel="share of problems", ylim=(0, 1.03))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    _set_token_axis(ax)
    ax.legend(loc="upper left")
    return fig


def _set_token_axis(ax: Axes) -> None:
    """Make the x axis logarithmic, with whole numbers at 1, 2 and 5 times the powers of ten."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
