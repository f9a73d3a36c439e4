"""The dials of the chapters: what each turns, what it draws, and what it says at every position.

Each function takes the rows that a chapter has at hand, asks `panelbook.measure` for every position of its dial, and
returns a `Dial` for the last line of a cell, or None where the rows have fewer than two positions: then there is
nothing to turn, and the chapter shows none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from panelbook.measure import positions
from panelbook.measure.budget import log_grid, token_limit
from panelbook.measure.climb import ALL_SOURCES, climb_gain
from panelbook.measure.passk import max_common_k
from panelbook.measure.uncertainty import Estimate, Resampling, row_estimate
from panelbook.publish.dials import Axis, Chart, Dial, Knob, Label, Sentence, Series, dial, sentence
from panelbook.publish.figures.style import GREY, OTHER_ARM, style_of

MAX_POSITIONS = 24
"""Positions of a slider: more are no finer to a finger."""

NOTE = (
    "Every interval resamples problems, both arms together, as everywhere in this chapter. A position that was chosen "
    "because it looks best has an interval that is too short."
)

GROUPS = {"all_zero": "all wrong", "variance_band": "mixed", "all_one": "all right"}
"""How a group of draws is called by the band that it would put its problem in."""

DASHES = {"-": "", "--": "7 4", ":": "2 4", "-.": "9 3 2 3"}
"""Line of matplotlib -> dashes of SVG."""


class _Reader:
    """Look up estimates of one table of `panelbook.measure.positions`."""

    def __init__(self, table: pd.DataFrame, *keys: str) -> None:
        self._rows = table.set_index([*keys, "quantity"]).sort_index()

    def __call__(self, *at: Any) -> Estimate:
        return row_estimate(self._rows.loc[at], "estimate")


def dial_k(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling, k_max: int = 0
) -> Dial | None:
    """Turn k, the number of draws: share solved, ratio of failures, and a copy that is merely weaker.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    k_max
        Largest k; 0 takes every k that both arms' draws allow, which must be two or more.
    """
    ks = _thin(range(1, (k_max or max_common_k(counts, [first, second])) + 1))
    if len(ks) < 2:
        return None
    table = positions.compare_at_each_k(counts, first, second, ks, resampling)
    strong = table.attrs["stronger"]
    weak = second if strong == first else first
    copy = f"weaker copy of {strong}"
    ratio = f"{first} over {second}"
    views = {"solved": (first, second), "failures": (ratio,), "copy": (first, second, copy)}
    names = {"first": first, "second": second, "failure_ratio": ratio, "copy": copy}
    points = pd.concat(
        [
            _marks(
                table, "k", names, [name for name, series in names.items() if series in views[view]]
            ).assign(view=view)
            for view in views
        ],
        ignore_index=True,
    )
    read = _Reader(table, "k")

    def say(k: int, view: str) -> list[Sentence]:
        common: dict[str, Any] = {"k": _draws(k), "first": Label(first), "second": Label(second)}
        if view == "solved":
            return [
                sentence(
                    "With {k} {first} solves {a} of the problems and {second} {b}.",
                    a=(read(k, "first"), "percent"),
                    b=(read(k, "second"), "percent"),
                    **common,
                ),
                sentence("The gap is {gap}.", gap=(read(k, "gap"), "points")),
            ]
        if view == "failures":
            return [
                sentence(
                    "With {k} {first} fails {ratio} as many problems as {second}.",
                    ratio=(read(k, "failure_ratio"), "ratio"),
                    **common,
                )
            ]
        beyond = sentence(
            "{weak} minus the copy: {beyond}.", weak=Label(weak), beyond=(read(k, "beyond_copy"), "points")
        )
        same = sentence("With one draw they are alike: the copy was made so.")
        return [
            sentence(
                "With {k} a copy of {strong} that has right draws spoilt at random until it is as weak as {weak} at "
                "one draw solves {copy}; {weak} solves {a}.",
                strong=Label(strong),
                weak=Label(weak),
                copy=(read(k, "copy"), "percent"),
                a=(read(k, "first" if weak == first else "second"), "percent"),
                k=_draws(k),
            ),
            same if k == 1 else beyond,
        ]

    draws = Axis("draws k", log=True, ticks=_powers(ks))
    solved = Chart("curves", draws, Axis("problems solved", "percent", low=0.0, high=1.0))
    ratios = table.loc[table["quantity"] == "failure_ratio", "estimate"].dropna()
    largest = float(ratios.max()) if len(ratios) else 1.0
    failed = Axis(
        "failures, first arm over second", "ratio", low=0.0, high=max(2.0, 1.8 * largest), reference=1.0
    )
    return dial(
        "number of draws",
        "More draws bring the arms together. Does that mean wider search? Look at the same draws as a ratio of "
        "failures, then beside a copy of the stronger arm that searches no wider and is merely weaker.",
        [
            Knob("k", "draws per problem, k", ks, [_draws(k).text for k in ks], ks[0]),
            Knob(
                "view",
                "shown",
                list(views),
                ["problems solved", "ratio of failures", "beside a weaker copy"],
                "solved",
                choice=True,
            ),
        ],
        [solved, Chart("curves", draws, failed), solved],
        [
            arm_series(first),
            arm_series(second),
            Series(ratio, "", "", "o"),
            Series(copy, GREY, DASHES[":"], "D"),
        ],
        points,
        say,
        curves=points,
        note=NOTE,
        instead="panelbook run pass_at_k -p k_max=4",
    )


def dial_draw_budget(rollouts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> Dial | None:
    """Turn the budget where single draws are tracked: any finished draw right, or their majority.

    Parameters
    ----------
    rollouts
        One row per draw of both arms, as for `panelbook.measure.budget.score_budgets`.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    """
    drawn = int(rollouts.groupby(["arm", "problem_id"])["completion_tokens"].sum().min())
    shortest = max(1, int(rollouts["completion_tokens"].min()))
    if drawn <= shortest:
        return None
    budgets = log_grid(shortest, drawn, MAX_POSITIONS)
    tables = {
        rule: positions.compare_at_each_budget(rollouts, first, second, budgets, resampling, rule)
        for rule in ("pass", "majority")
    }
    return _budget_dial(
        tables,
        ["somebody knows a right answer", "the majority decides"],
        first,
        second,
        "Both arms get the same tokens per problem. See from which budget the second draw starts to pay, and what is "
        "left of it when nobody can tell which answer is right.",
    )


def dial_mean_budget(counts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> Dial | None:
    """Turn the budget where only counts and mean lengths are tracked: every problem answered, or some skipped.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c, mean_tokens.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    """
    arms = counts.groupby("arm").agg(n=("n", "min"), tokens=("mean_tokens", "mean")).loc[[first, second]]
    low, high = float(arms["tokens"].min()), float((arms["n"] * arms["tokens"]).min())
    if np.floor(high) <= np.ceil(low):
        return None
    named = [np.ceil(tokens) for tokens in arms["tokens"] if tokens < np.floor(high)]
    budgets = np.unique([*log_grid(np.ceil(low), np.floor(high), MAX_POSITIONS), *named]).astype(np.int64)
    tables = {
        rule: positions.compare_at_each_mean_budget(
            counts, first, second, budgets, resampling, every_problem=rule == "every"
        )
        for rule in ("every", "skip")
    }
    return _budget_dial(
        tables,
        ["every problem is answered", "problems may be skipped"],
        first,
        second,
        "Both arms get the same tokens per problem. See where the lead changes, and how much of it hangs on the rule: "
        "may a budget below one mean draw be spent on some problems only?",
    )


def dial_cap(rollouts: pd.DataFrame, first: str, second: str, resampling: Resampling) -> Dial | None:
    """Turn the token limit: tokens per right draw, and the share of right draws that still fit.

    Parameters
    ----------
    rollouts
        One row per draw of both arms: arm, problem_id, completion_tokens, status and, where known, max_tokens.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    """
    limit = int(min(token_limit(rollouts, arm) for arm in (first, second)))
    low = max(1, int(np.quantile(rollouts["completion_tokens"], 0.1)))
    if limit <= low:
        return None
    caps = log_grid(low, limit, MAX_POSITIONS).tolist()
    table = positions.compare_at_each_cap(rollouts, first, second, caps, resampling)
    views = {"kept": ("first_kept", "second_kept"), "cost": ("first_cost", "second_cost")}
    points = pd.concat(
        [
            _marks(table, "cap", {one: first, two: second}, [one, two]).assign(view=view)
            for view, (one, two) in views.items()
        ],
        ignore_index=True,
    )
    read = _Reader(table, "cap")

    def say(cap: int, view: str) -> list[Sentence]:
        style = "percent" if view == "kept" else "tokens"
        one, two = (read(cap, quantity) for quantity in views[view])
        words = (
            "Under a limit of {cap} tokens {a} of the right draws of {first} still fit, and {b} of those of {second}."
            if view == "kept"
            else "Under a limit of {cap} tokens a right draw costs {a} tokens under {first} and {b} under {second}."
        )
        both = (
            sentence("The difference is {gap}.", gap=(read(cap, "kept_gap"), "points"))
            if view == "kept"
            else sentence(
                "{second} costs {ratio} as much.",
                second=Label(second),
                ratio=(read(cap, "cost_ratio"), "ratio"),
            )
        )
        said = sentence(
            words,
            cap=Label(f"{cap:,}"),
            a=(one, style),
            b=(two, style),
            first=Label(first),
            second=Label(second),
        )
        return [said, both]

    tokens = Axis("token limit of a draw", "tokens", log=True)
    cost = table.loc[table["quantity"].isin(views["cost"]) & (table["cap"] == limit), "high"].max()
    return dial(
        "token limit",
        "A draw that is longer than the limit is cut, paid for and wrong. Lower the limit and see which arm loses "
        "right draws first, and whether it is still the one that costs more.",
        [
            Knob("cap", "token limit", caps, [f"{cap:,}" for cap in caps], caps[len(caps) // 2]),
            Knob(
                "view",
                "shown",
                list(views),
                ["right draws that fit", "tokens per right draw"],
                "kept",
                choice=True,
            ),
        ],
        [
            Chart("curves", tokens, Axis("right draws that fit", "percent", low=0.0, high=1.0)),
            Chart(
                "curves",
                tokens,
                Axis("tokens per right draw", "tokens", low=0.0, high=None if pd.isna(cost) else 4.0 * cost),
            ),
        ],
        [arm_series(first), arm_series(second)],
        points,
        say,
        curves=points,
        note=NOTE,
        instead="panelbook run budget",
    )


def dial_group_size(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling, initial: int = 8
) -> Dial | None:
    """Turn G, the draws of a training group: how many groups are all wrong, mixed and all right.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    initial
        G at first, if it is among the positions.
    """
    largest = max_common_k(counts, [first, second])
    if largest < 3:
        return None
    sizes = _thin(range(2, largest + 1))
    table = positions.compare_at_each_group_size(counts, first, second, sizes, resampling)
    place = {band: float(i) for i, band in enumerate(GROUPS)}
    marks = table[table["quantity"].isin(["first", "second"])]
    points = marks.assign(
        series=marks["quantity"].map({"first": first, "second": second}), x=marks["band"].map(place)
    ).rename(columns={"estimate": "y"})
    read = _Reader(table, "group_size", "band")

    def say(group_size: int) -> list[Sentence]:
        band = (group_size, "variance_band")
        return [
            sentence(
                "In groups of {size} {first} has a signal on {a} of the problems and {second} on {b}: a ratio of "
                "{ratio}.",
                size=Label(str(group_size)),
                first=Label(first),
                second=Label(second),
                a=(read(*band, "first"), "percent"),
                b=(read(*band, "second"), "percent"),
                ratio=(read(*band, "ratio"), "ratio"),
            ),
            sentence(
                "Groups without one: {first} is all wrong on {a} and all right on {b}, {second} on {c} and {d}.",
                first=Label(first),
                second=Label(second),
                a=(read(group_size, "all_zero", "first"), "percent"),
                b=(read(group_size, "all_one", "first"), "percent"),
                c=(read(group_size, "all_zero", "second"), "percent"),
                d=(read(group_size, "all_one", "second"), "percent"),
            ),
        ]

    named = [(place[band], name) for band, name in GROUPS.items()]
    return dial(
        "group size",
        "A group teaches only if its draws disagree. Make groups larger and see where the mixed ones come from: from "
        "problems that were never right, or from those that were always right.",
        [
            Knob(
                "group_size",
                "draws of a group, G",
                sizes,
                [str(size) for size in sizes],
                initial if initial in sizes else sizes[0],
            )
        ],
        Chart(
            "bars",
            Axis("a group of G draws", ticks=named, low=-0.5, high=len(named) - 0.5),
            Axis("share of problems, expected", "percent", low=0.0, high=1.0),
        ),
        [arm_series(first), arm_series(second)],
        points,
        say,
        note=NOTE,
        instead="panelbook run variance_band -p group_size=4",
    )


def dial_threshold(
    clusters: pd.DataFrame, first: str, second: str, resampling: Resampling, initial: float
) -> Dial | None:
    """Turn the distance at which two draws count as one strategy.

    Parameters
    ----------
    clusters
        One row per arm, problem and threshold: arm, problem_id, n, threshold, n_clusters.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence.
    initial
        The threshold at first, one of those in the table.
    """
    table = positions.compare_at_each_threshold(clusters, first, second, resampling)
    at = sorted(table["threshold"].unique().tolist())
    if len(at) < 2:
        return None
    read = _Reader(table, "threshold")
    points = _marks(table, "threshold", {"first": first, "second": second}, ["first", "second"])

    def say(threshold: float) -> list[Sentence]:
        return [
            sentence(
                "At a distance of {threshold} the draws of a problem fall into {a} clusters under {first} and {b} "
                "under {second}: a difference of {gap}.",
                threshold=Label(f"{threshold:g}"),
                first=Label(first),
                second=Label(second),
                a=(read(threshold, "first"), "number"),
                b=(read(threshold, "second"), "number"),
                gap=(read(threshold, "gap"), "number"),
            )
        ]

    return dial(
        "distance of one strategy",
        "How many strategies there are is a choice of threshold. Move it: no distance in the data says where one "
        "strategy ends, and what the arms differ by moves with it.",
        [Knob("threshold", "draws this close are one cluster", at, [f"{x:g}" for x in at], initial)],
        Chart(
            "curves",
            Axis(
                "cosine distance",
                "fraction",
                log=True,
            ),
            Axis("clusters per problem", "number", low=1.0, high=float(clusters["n"].max())),
        ),
        [arm_series(first), arm_series(second)],
        points,
        say,
        curves=points,
        note=NOTE,
        instead="panelbook run embed -p cluster_eps=0.1",
    )


def dial_ticks(
    heldout: pd.DataFrame,
    trajectory: pd.DataFrame,
    arm: str,
    resampling: Resampling,
    initial: tuple[int, int],
) -> Dial | None:
    """Turn the two evaluations between which a gain is read off.

    Parameters
    ----------
    heldout
        One row per (step, source), as for `panelbook.measure.climb.climb_gain`.
    trajectory
        What `panelbook.measure.climb.heldout_trajectory` made of it, its share called `estimate`.
    arm
        The arm that was trained.
    resampling
        Seed, number of resamples and confidence.
    initial
        The two steps at first.
    """
    overall = trajectory[trajectory["source"] == ALL_SOURCES].sort_values("step")
    steps = overall["step"].tolist()
    if len(steps) < 2:
        return None
    at = {int(row["step"]): row_estimate(row, "estimate") for _, row in overall.iterrows()}
    curve = overall.rename(columns={"step": "x", "estimate": "y"}).assign(series=arm)
    curve = curve[["series", "x", "y", "low", "high"]]
    points = pd.concat(
        [
            curve[curve["x"].isin([start, end])].assign(start=start, end=end)
            for start in steps
            for end in steps
        ],
        ignore_index=True,
    )
    gains = {
        (start, end): climb_gain(heldout, start, end, resampling)
        for start in steps
        for end in steps
        if start < end
    }

    def say(start: int, end: int) -> list[Sentence]:
        if start >= end:
            return [sentence("Choose a first evaluation that comes before the second.")]
        return [
            sentence(
                "From step {start} to step {end} accuracy goes from {a} to {b}.",
                start=Label(str(start)),
                end=Label(str(end)),
                a=(at[start], "percent"),
                b=(at[end], "percent"),
            ),
            sentence(
                "That is a gain of {gain}, the two looks taken as independent.",
                gain=(gains[start, end], "points"),
            ),
        ]

    texts = [str(step) for step in steps]
    return dial(
        "two evaluations",
        "A gain is a difference of two evaluations, and somebody chose them. Choose others: see how much of the climb "
        "is settled, and by how much the choice alone moves it.",
        [
            Knob("start", "first evaluation, step", steps, texts, initial[0]),
            Knob("end", "second evaluation, step", steps, texts, initial[1]),
        ],
        Chart("curves", Axis("training step", "count"), Axis("held-out accuracy", "percent", low=0.0)),
        [arm_series(arm)],
        points,
        say,
        curves=curve,
        note="Intervals of the evaluations are exact binomial ones; that of the gain resamples problems within "
        "sources. Two evaluations that were chosen because they lie far apart have an interval that is too short.",
        instead=f"panelbook run hill_climb -p step_from={steps[0]} -p step_to={steps[len(steps) // 2]}",
    )


def dial_checkpoint(
    heldout: pd.DataFrame, first: str, second: str, k: int, resampling: Resampling
) -> Dial | None:
    """Turn the checkpoint at which two trained arms are compared: pass@1, pass@k and the variance band.

    Parameters
    ----------
    heldout
        As for `panelbook.measure.matched.check_heldout`.
    first, second
        Arms.
    k
        Draws of the pass@k beside pass@1.
    resampling
        Seed, number of resamples and confidence.
    """
    table = positions.compare_at_each_step(heldout, first, second, k, resampling)
    steps = sorted(table["step"].unique().tolist())
    if len(steps) < 2:
        return None
    measures = {"pass_1": "pass@1", "pass_k": f"pass@{k}", "band": "variance band"}
    points = pd.concat(
        [
            _marks(
                table[table["measure"] == measure],
                "step",
                {"first": first, "second": second},
                ["first", "second"],
            ).assign(measure=measure)
            for measure in measures
        ],
        ignore_index=True,
    )
    read = _Reader(table, "step", "measure")

    def say(step: int, measure: str) -> list[Sentence]:
        return [
            sentence(
                "After {step} updates {what} is {a} under {first} and {b} under {second}.",
                step=Label(str(step)),
                what=Label(measures[measure] if measure != "band" else "the share of mixed problems"),
                first=Label(first),
                second=Label(second),
                a=(read(step, measure, "first"), "percent"),
                b=(read(step, measure, "second"), "percent"),
            ),
            sentence("The difference is {gap}.", gap=(read(step, measure, "gap"), "points")),
        ]

    updates = Axis("updates", "count")
    return dial(
        "checkpoint",
        "Stop the training of both arms at the same update. Does the arm that is ahead stay ahead, and does a rising "
        "share of right draws come with problems that were out of reach before?",
        [
            Knob("step", "updates", steps, [str(step) for step in steps], steps[-1]),
            Knob("measure", "shown", list(measures), list(measures.values()), "pass_1", choice=True),
        ],
        [
            Chart("curves", updates, Axis(f"held-out {name}", "percent", low=0.0, high=1.0))
            for name in measures.values()
        ],
        [arm_series(first), arm_series(second)],
        points,
        say,
        curves=points,
        note=NOTE,
        instead="panelbook run train -p n_steps=30",
    )


def arm_series(arm: str) -> Series:
    """Return an arm as a series, in the colour, line and marker that it has in every figure."""
    colour, marker, line = style_of(arm)
    return Series(arm, "" if (colour, marker, line) == OTHER_ARM else colour, DASHES[line], marker)


def _budget_dial(
    tables: Mapping[str, pd.DataFrame], rules: Sequence[str], first: str, second: str, claim: str
) -> Dial:
    """Make the dial of a budget, from one table for each rule of spending it."""
    budgets = sorted(tables[next(iter(tables))]["budget"].unique().tolist())
    points = pd.concat(
        [
            _marks(table, "budget", {"first": first, "second": second}, ["first", "second"]).assign(rule=rule)
            for rule, table in tables.items()
        ],
        ignore_index=True,
    )
    read = {rule: _Reader(table, "budget") for rule, table in tables.items()}

    def say(budget: int, rule: str) -> list[Sentence]:
        return [
            sentence(
                "With {budget} tokens per problem {first} solves {a} and {second} {b}.",
                budget=Label(f"{budget:,}"),
                first=Label(first),
                second=Label(second),
                a=(read[rule](budget, "first"), "percent"),
                b=(read[rule](budget, "second"), "percent"),
            ),
            sentence("The gap is {gap}.", gap=(read[rule](budget, "gap"), "points")),
        ]

    chart = Chart(
        "curves",
        Axis("tokens per problem", "tokens", log=True),
        Axis("problems solved", "percent", low=0.0, high=1.0),
    )
    return dial(
        "budget of tokens",
        claim,
        [
            Knob(
                "budget",
                "tokens per problem",
                budgets,
                [f"{b:,}" for b in budgets],
                budgets[len(budgets) // 2],
            ),
            Knob("rule", "rule", list(tables), rules, next(iter(tables)), choice=True),
        ],
        [chart] * len(tables),
        [arm_series(first), arm_series(second)],
        points,
        say,
        curves=points,
        note=NOTE,
        instead="panelbook run budget -p coverage=0.8",
    )


def _marks(
    table: pd.DataFrame, key: str, names: Mapping[str, str], quantities: Sequence[str]
) -> pd.DataFrame:
    """Rows of some quantities as marks of a chart: the setting itself as x, the estimate as y."""
    mine = table[table["quantity"].isin(quantities)]
    marks = mine.assign(series=mine["quantity"].map(names), x=mine[key])
    return marks.rename(columns={"estimate": "y"})


def _thin(values: range) -> list[int]:
    """All values, or about `MAX_POSITIONS` of them in equal ratios."""
    return (
        list(values)
        if len(values) <= MAX_POSITIONS
        else log_grid(values[0], values[-1], MAX_POSITIONS).tolist()
    )


def _powers(ks: Sequence[int]) -> list[tuple[float, str]]:
    """Ticks at the powers of two."""
    return [(float(2**i), str(2**i)) for i in range(ks[-1].bit_length()) if ks[0] <= 2**i <= ks[-1]]


def _draws(k: int) -> Label:
    """Write a number of draws."""
    return Label("1 draw" if k == 1 else f"{k} draws")
