"""Evidence: what the published rows say about each published claim.

One function for each kind of claim. It takes the published tables and returns named estimates, nothing more: what a
claim needs in order to hold is written down in the ledger (`params/claims.yml`) and judged in `claims`. The functions
call those that the chapters call, with the same resampling, so that ledger and chapters cannot disagree.

Not handled: whether a claim is interesting; and anything that leaves no trace in the published files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from panelbook.measure.bands import band_shares, compare_bands, joint_bands
from panelbook.measure.climb import climb_gain, expected_visits, heldout_trajectory, training_ratio
from panelbook.measure.closure import null_closure
from panelbook.measure.diversity import compare_spread
from panelbook.measure.matching import compare_matched
from panelbook.measure.passk import (
    gap_closure,
    is_monotone,
    max_common_k,
    pass_at_k_curve,
    pass_at_k_gap,
    solved_overlap,
)
from panelbook.measure.tokens import (
    bucket_totals,
    compare_at_equal_tokens,
    compare_cost,
    wilcoxon_p_from_statistic,
)
from panelbook.measure.uncertainty import Estimate, Resampling, estimate, exact, row_estimate

PANEL, THINKING = "panel", "thinking"
SUMS_ONLY = "only sums over problems are tracked"
BYTES_PER_WEIGHT = 2  # bf16


@dataclass(frozen=True)
class Published:
    """The published study's tables, as `rollouts.adapters` reads them.

    Attributes
    ----------
    counts
        Draws and correct draws of every problem, arm and benchmark.
    spread
        Spread and length of the draws of every problem, arm and window.
    buckets
        Lengths of paired draws by which of the two was right.
    heldout
        Correct draws at each evaluation of a training run, by source.
    training
        Metrics of every batch of the olympiad run.
    pool
        The olympiad problems and the splits they are in.
    record
        What the run logs and metadata say: name -> number or text.
    """

    counts: pd.DataFrame
    spread: pd.DataFrame
    buckets: pd.DataFrame
    heldout: pd.DataFrame
    training: pd.DataFrame
    pool: pd.DataFrame
    record: Mapping[str, str | float]

    def pair(self, benchmark: str) -> pd.DataFrame:
        """Return the counts of the two arms on one benchmark."""
        return self.arms(benchmark, PANEL, THINKING)

    def arms(self, benchmark: str, *arms: str) -> pd.DataFrame:
        """Return the counts of some arms on one benchmark."""
        rows = self.counts[(self.counts["benchmark"] == benchmark) & self.counts["arm"].isin(arms)]
        return rows.reset_index(drop=True)

    def spreads(self, benchmark: str, window: int = 2000) -> pd.DataFrame:
        """Return the spread of every arm on one benchmark, at one window in characters."""
        rows = self.spread[(self.spread["benchmark"] == benchmark) & (self.spread["window_chars"] == window)]
        return rows.reset_index(drop=True)

    def bucket(self, benchmark: str, name: str) -> pd.Series:
        """Return one bucket of paired draws."""
        rows = self.buckets[(self.buckets["benchmark"] == benchmark) & (self.buckets["bucket"] == name)]
        return rows.iloc[0]


Evidence = dict[str, Estimate]
Gather = Callable[..., Evidence]


def spread_excess(
    tables: Published, resampling: Resampling, benchmark: str, n_flips: int = 20000
) -> Evidence:
    """Spread of the panel relative to thinking, and the tests of the paired difference.

    Parameters
    ----------
    tables
        The published tables.
    resampling
        Seed, number of resamples and confidence.
    benchmark
        Which problems.
    n_flips
        Sign patterns sampled where there are too many to list.
    """
    result = compare_spread(_two(tables.spreads(benchmark)), PANEL, THINKING, resampling, n_flips)
    tests = {"t": result.t, "p_student": result.p_student, "p_normal": result.p_normal}
    return {"relative_difference": result.relative_difference} | {
        name: exact(value, "a test statistic", result.n_problems) for name, value in tests.items()
    }


def longer_window(tables: Published, resampling: Resampling, benchmark: str, windows: list[int]) -> Evidence:
    """Relative spread at two windows, and how far any problem's spread differs between them.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    windows
        Characters of the shorter and of the longer window.
    """
    short, long = (_two(tables.spreads(benchmark, window)) for window in windows)
    both = short.merge(long, on=["arm", "problem_id"], suffixes=("", "_long"))
    change = (both["mean_distance"] - both["mean_distance_long"]).abs().max()
    return {
        "relative_difference": compare_spread(short, PANEL, THINKING, resampling, 999).relative_difference,
        "relative_difference_long": compare_spread(
            long, PANEL, THINKING, resampling, 999
        ).relative_difference,
        "largest_change": exact(change, "the largest of all rows", both["problem_id"].nunique()),
    }


def spread_by_length(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Spread per token, panel over thinking; and the ratio of spreads, which is that per character embedded.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    wide = _wide(tables.spreads(benchmark), ["mean_distance", "mean_tokens"])
    columns = [
        ("mean_distance", PANEL),
        ("mean_tokens", PANEL),
        ("mean_distance", THINKING),
        ("mean_tokens", THINKING),
    ]
    values = wide[columns].to_numpy(dtype=float)
    n_draws = int(_two(tables.spreads(benchmark))["n"].sum())
    return {
        "ratio_per_token": estimate(
            values, lambda m: (m[..., 0] / m[..., 1]) / (m[..., 2] / m[..., 3]), resampling, n_draws
        ),
        "ratio_embedded": estimate(values, lambda m: m[..., 0] / m[..., 2], resampling, n_draws),
    }


def clusters(tables: Published, resampling: Resampling) -> Evidence:
    """Clusters and noise points per problem, by benchmark and arm.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    found = {}
    for benchmark in ("math500_s50", "aime"):
        for arm, rows in _two(tables.spreads(benchmark)).groupby("arm"):
            values = rows["n_clusters"].to_numpy(dtype=float)[:, np.newaxis]
            found[f"{benchmark}_{arm}"] = estimate(
                values,
                lambda m: m[..., 0],
                resampling,
                int(rows["n"].sum()),
                support=(1.0, float(rows["n"].max())),
            )
    return found


def scaffold_effect(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Spread and accuracy of the panel minus those of the same weights asked without the scaffold.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    spreads = tables.spreads(benchmark)
    bare = compare_spread(spreads, PANEL, "no_panel", resampling, 999)
    before = compare_spread(spreads, PANEL, "panel_premath", resampling, 999)
    gap = pass_at_k_gap(tables.arms(benchmark, PANEL, "no_panel"), PANEL, "no_panel", [1], resampling).iloc[0]
    return {
        "minus_no_panel": bare.difference,
        "minus_before": before.difference,
        "accuracy_minus_no_panel": row_estimate(gap, "gap"),
    }


def closure(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Change of the gap in pass@k from one draw to as many as both arms have, and whether it never falls.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    counts = tables.pair(benchmark)
    k_max = max_common_k(counts)
    gaps = pass_at_k_gap(counts, PANEL, THINKING, list(range(1, k_max + 1)), resampling)["gap"]
    return {
        "closure": gap_closure(counts, PANEL, THINKING, 1, k_max, resampling),
        "monotone": exact(is_monotone(gaps), "a fact about the curve", len(counts) // 2),
    }


def closure_against_null(
    tables: Published, resampling: Resampling, benchmark: str, n_null: int = 2000
) -> Evidence:
    """Closure minus that of two weaker copies of the stronger arm, each made as accurate as the panel.

    One copy has right draws spoilt at random (`thinned`), the other loses whole problems (`lost_problems`).

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    n_null
        Simulated null data sets.
    """
    counts = tables.pair(benchmark)
    nulls = null_closure(counts, PANEL, THINKING, [max_common_k(counts)], resampling, n_null)
    found = {}
    for name in ("thinned", "lost_problems"):
        row = nulls[(nulls["null"] == name) & (nulls["scale"] == "points")].iloc[0]
        observed = float(row["observed"])
        found[f"minus_{name}"] = Estimate(
            observed - float(row["estimate"]),
            observed - float(row["high"]),
            observed - float(row["low"]),
            int(row["n_problems"]),
            int(row["n_draws"]),
            str(row["method"]),
        )
    return found


def pass_at(tables: Published, resampling: Resampling, benchmark: str, ks: list[int]) -> Evidence:
    """Pass@k of both arms.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    ks
        Values of k.
    """
    counts = tables.pair(benchmark)
    # At every k, as the chapter does: problems that agree at all of them are resampled together.
    curve = pass_at_k_curve(counts, list(range(1, max_common_k(counts) + 1)), resampling)
    return {
        f"{row['arm']}_{row['k']}": row_estimate(row, "estimate")
        for _, row in curve[curve["k"].isin(ks)].iterrows()
    }


def solved_sets(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Problems solved at least once: by the panel, by thinking, by the panel alone, by either, by neither.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    counts = tables.pair(benchmark)
    n = solved_overlap(counts, PANEL, THINKING, resampling).set_index("outcome")["count"]
    draws = counts.groupby("arm")["n"].max()
    values = {
        "panel": n["both"] + n["first_only"],
        "thinking": n["both"] + n["second_only"],
        "panel_only": n["first_only"],
        "thinking_only": n["second_only"],
        "union": n.sum() - n["neither"],
        "thinking_never": n["first_only"] + n["neither"],
        "draws_panel": draws[PANEL],
        "draws_thinking": draws[THINKING],
    }
    return {name: exact(value, "a count of the rows", int(n.sum())) for name, value in values.items()}


def paired_draws(tables: Published, resampling: Resampling) -> Evidence:
    """Lengths of the paired draws, from published sums.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    found: dict[str, float] = {}
    for benchmark in ("math500_l5", "aime"):
        both, every = (tables.bucket(benchmark, name) for name in ("both", "all_paired"))
        found |= {
            f"{benchmark}_n_both": both["n_pairs"],
            f"{benchmark}_median_ratio": both["ratio_median"],
            f"{benchmark}_share_longer": every["n_second_longer"] / every["n_pairs"],
            f"{benchmark}_wilcoxon_p": wilcoxon_p_from_statistic(both["wilcoxon_w"], int(both["wilcoxon_n"])),
        }
        rows = tables.buckets[tables.buckets["benchmark"] == benchmark]
        cost = bucket_totals(rows[rows["bucket"] != "all_paired"])
        found |= {
            f"{benchmark}_panel_cost": cost.first.value,
            f"{benchmark}_thinking_cost": cost.second.value,
            f"{benchmark}_cost_ratio": cost.ratio.value,
        }
    found["n_both"] = found["math500_l5_n_both"] + found["aime_n_both"]
    return {name: exact(value, SUMS_ONLY) for name, value in found.items()}


def cost(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Tokens per correct answer of both arms, from the rows.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    result = compare_cost(tables.pair(benchmark), PANEL, THINKING, resampling)
    return {"panel": result.first, "thinking": result.second, "ratio": result.ratio}


def token_limits(tables: Published, resampling: Resampling) -> Evidence:
    """Token limit of thinking over that of the panel, on each benchmark.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    limits = tables.counts.groupby(["benchmark", "arm"])["max_tokens"].max()
    return {
        benchmark: exact(limits[benchmark, THINKING] / limits[benchmark, PANEL], "a setting")
        for benchmark in ("math500_s50", "math500_l5", "aime", "olympiad")
    }


def equal_tokens(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Pass@k of the panel minus pass@1 of thinking, k panel draws costing no more than one of thinking.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    k, difference = compare_at_equal_tokens(tables.pair(benchmark), PANEL, THINKING, resampling)
    return {"difference": difference, "k": exact(k, "a whole number of draws")}


def band(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Variance bands of both arms: sizes, shares and their ratio.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    counts = tables.pair(benchmark)
    row = _variance_band(compare_bands(counts, PANEL, THINKING, resampling)).iloc[0]
    shares = _variance_band(band_shares(counts, resampling))
    panel, thinking = (shares[shares["arm"] == arm].iloc[0] for arm in (PANEL, THINKING))
    n = int(row["n_problems"])
    return {
        "n_panel": exact(panel["count"], "a count of the rows", n),
        "n_thinking": exact(thinking["count"], "a count of the rows", n),
        "panel": row_estimate(panel, "share"),
        "thinking": row_estimate(thinking, "share"),
        "ratio": row_estimate(row, "ratio", prefix="ratio_"),
        "difference": row_estimate(row, "difference", prefix="difference_"),
    }


def wider_band(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Compare the variance bands of the two arms: in the pool, at equal measured success, and within each source.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    counts = tables.pair(benchmark)
    matched, _ = compare_matched(counts, PANEL, THINKING, resampling)
    found = {
        "difference": row_estimate(
            _variance_band(compare_bands(counts, PANEL, THINKING, resampling)).iloc[0],
            "difference",
            prefix="difference_",
        ),
        "matched_ratio": row_estimate(matched[matched["part"] == "matched_ratio"].iloc[0], "estimate"),
    }
    for source, rows in counts.groupby("source"):
        row = _variance_band(compare_bands(rows, PANEL, THINKING, resampling)).iloc[0]
        found[f"in_{source}"] = row_estimate(row, "difference", prefix="difference_")
    return found


def joint_table(tables: Published, resampling: Resampling, benchmark: str) -> Evidence:
    """Count every cell of the joint table of bands, named by the panel's band and thinking's.

    Parameters
    ----------
    tables, resampling, benchmark
        As in `spread_excess`.
    """
    joint = joint_bands(tables.pair(benchmark), PANEL, THINKING)
    total = int(joint.to_numpy().sum())
    return {
        f"{mine}__{theirs}": exact(joint.loc[mine, theirs], "a count of the rows", total)
        for mine in joint.index
        for theirs in joint.columns
    }


def policies(tables: Published, resampling: Resampling) -> Evidence:
    """Tell whether the panel of the band filter is the one of the evaluations (1) or other weights (0).

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    names = tables.counts[tables.counts["arm"] == PANEL].groupby("benchmark")["checkpoint"].agg(set)
    same = names["olympiad"] == names["aime"] == names["math500_s50"]
    return {"same_weights": exact(same, "a comparison of two names")}


def shared_problems(tables: Published, resampling: Resampling) -> Evidence:
    """Thinking on the AIME problems of both studies, band filter minus evaluation; and what the pool repeats.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    counts = tables.counts[tables.counts["arm"] == THINKING]
    # The pool writes aime_2024__0 where the evaluation writes aime2024_0.
    pool_names = counts["problem_id"].str.replace("aime_", "aime").str.replace("__", "_")
    filtered = counts.assign(problem_id=pool_names)[counts["benchmark"] == "olympiad"]
    evaluated = counts[counts["benchmark"] == "aime"]
    both = pd.concat([filtered.assign(arm="filter"), evaluated.assign(arm="evaluation")], ignore_index=True)
    both = both[both["problem_id"].isin(evaluated["problem_id"])]
    gap = pass_at_k_gap(both, "filter", "evaluation", [1], resampling).iloc[0]
    limits = both.groupby("arm")["max_tokens"].max()
    trained = tables.pool.assign(
        problem_id=tables.pool["problem_id"].str.replace("aime_", "aime").str.replace("__", "_")
    )
    trained = trained[trained["problem_id"].isin(evaluated["problem_id"])]
    n = len(evaluated)
    return {
        "difference": row_estimate(gap, "gap"),
        "limit_ratio": exact(limits["filter"] / limits["evaluation"], "a setting"),
        "n_evaluated": exact(n, "a count of the rows"),
        "n_in_pool": exact(len(trained), "a count of the rows", n),
        "n_in_panel_train": exact(trained["panel_train"].sum(), "a count of the rows", n),
        "n_in_thinking_train": exact(trained["thinking_train"].sum(), "a count of the rows", n),
    }


def tag_signal(tables: Published, resampling: Resampling) -> Evidence:
    """Tell what a group that is all wrong can still teach: the reward's tag term, and how often tags varied.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    coefficient = float(tables.record["tag_coef"])
    valid = tables.training["tag_valid"]
    varied = (valid > 0) & (valid < 1)
    # Half of the tags valid: the largest variance that the tag term can have in a group.
    return {
        "tag_variance": exact(coefficient**2 / 4, "follows from the reward's formula"),
        "share_batches": exact(varied.mean(), "a count of batches, which share their policies"),
        "n_batches": exact(len(valid), "a count of the rows"),
    }


def heldout_gain(tables: Published, resampling: Resampling, steps: list[int]) -> Evidence:
    """Held-out accuracy at two steps of the olympiad run, and the gain between them.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    steps
        The two steps.
    """
    ticks = tables.heldout[tables.heldout["benchmark"] == "olympiad"]
    overall = heldout_trajectory(ticks)
    overall = overall[overall["source"] == "all"]
    values = {
        name: row_estimate(overall[overall["step"] == step].iloc[0], "share")
        for name, step in zip(("start", "end"), steps, strict=True)
    }
    return values | {"gain": climb_gain(ticks, steps[0], steps[1], resampling)}


def gains_and_exposure(
    tables: Published, resampling: Resampling, steps: list[int], groups_per_step: int
) -> Evidence:
    """Shares of the training pool and of the visits by source, and each source's gain.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    steps
        Two held-out evaluations.
    groups_per_step
        Problems visited in one update; sources take turns.
    """
    pool = tables.pool[tables.pool["panel_train"]]
    visits = expected_visits(pool, len(tables.training) * groups_per_step).set_index("source")
    ticks = tables.heldout[tables.heldout["benchmark"] == "olympiad"]
    found = {}
    for source, row in visits.iterrows():
        found[f"{source}_share"] = exact(
            row["share_of_problems"], "a count of the rows", int(row["problems"])
        )
        found[f"{source}_visits"] = exact(row["share_of_visits"], "follows from taking sources in turn")
        found[f"{source}_gain"] = climb_gain(ticks[ticks["source"] == source], steps[0], steps[1], resampling)
    departure = (visits["share_of_problems"] - visits["share_of_visits"]).abs().max()
    return found | {"largest_departure": exact(departure, "follows from taking sources in turn")}


def training_ends(tables: Published, resampling: Resampling, window: int) -> Evidence:
    """Compare the first and the last batches of the olympiad run: reward, accuracy, entropy, tokens, length spread.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    window
        Batches in a mean at either end.
    """
    rows = tables.training.sort_values("step")
    why = f"a mean over {window} batches; problems are not tracked"
    found = {}
    for column in ("reward", "correct"):
        found[f"{column}_start"] = exact(rows[column].head(window).mean(), why)
        found[f"{column}_end"] = exact(rows[column].tail(window).mean(), why)
    entropy, tokens, spread = rows["entropy"], rows["mean_tokens"], rows["length_cv"].dropna()
    return found | {
        "entropy_ratio": training_ratio(rows, "entropy", window, window, resampling),
        "entropy_fall_windows": exact(1 - entropy.tail(window).mean() / entropy.head(window).mean(), why),
        "entropy_fall_ends": exact(1 - entropy.iloc[-1] / entropy.iloc[0], "two single batches"),
        "tokens_start": exact(tokens.iloc[0], "a single batch"),
        "tokens_end": exact(tokens.iloc[-1], "a single batch"),
        "length_cv_start": exact(spread.iloc[0], "a single batch"),
        "length_cv_end": exact(spread.iloc[-1], "a single batch"),
    }


def heldout_thinking(tables: Published, resampling: Resampling) -> Evidence:
    """Accuracy of thinking, as the band filter drew it, on the held-out problems.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    members = tables.pool.loc[tables.pool["heldout_eval"], "problem_id"]
    rows = tables.pair("olympiad")
    curve = pass_at_k_curve(rows[rows["problem_id"].isin(members)], [1], resampling)
    return {str(row["arm"]): row_estimate(row, "estimate") for _, row in curve.iterrows()}


def gsm8k_stage(tables: Published, resampling: Resampling) -> Evidence:
    """Length of the GSM8K stage, and its first accuracy, as the run log and the evaluations give them.

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    """
    steps = tables.heldout.loc[tables.heldout["benchmark"] == "gsm8k", "step"]
    logged = ("gsm8k_steps_logged", "gsm8k_start", "gsm8k_start_summary")
    return {"last_step": exact(steps.max(), "a setting")} | {
        name: exact(float(tables.record[name]), "as the run log says") for name in logged
    }


def adapter_size(
    tables: Published,
    resampling: Resampling,
    rank: int,
    layers: int,
    hidden: int,
    query: int,
    key_value: int,
    experts: int,
    expert_width: int,
    parameters: float,
) -> Evidence:
    """Weights of a LoRA adapter on every matrix of a mixture-of-experts transformer, and on attention alone.

    Parameters
    ----------
    tables, resampling
        Not used: this is arithmetic.
    rank
        Of the adapter.
    layers, hidden, query, key_value, experts, expert_width
        Layers, width of the residual stream, of queries, of keys (and of values), experts a layer, width of one.
    parameters
        Weights of the whole model.

    Notes
    -----
    A matrix of shape (m, n) gets rank * (m + n) weights. An expert has three: gate, up and down.
    """
    attention = 2 * (hidden + query) + 2 * (hidden + key_value)
    expert = 3 * (hidden + expert_width)
    every = layers * rank * (attention + experts * expert)
    why = "arithmetic on the model's shape"
    return {
        "share": exact(every / parameters, why),
        "share_attention": exact(layers * rank * attention / parameters, why),
        "gigabytes": exact(every * BYTES_PER_WEIGHT / 1e9, why),
    }


def gallery_model(tables: Published, resampling: Resampling, stated: str) -> Evidence:
    """Tell whether the gallery's metadata name the model that is stated (1) or another (0).

    Parameters
    ----------
    tables, resampling
        As in `spread_excess`.
    stated
        Part of the stated model's name.
    """
    return {
        "as_stated": exact(stated in str(tables.record["gallery_model"]), "a comparison of two names"),
    }


GATHER: dict[str, Gather] = {
    function.__name__: function
    for function in (
        spread_excess,
        longer_window,
        spread_by_length,
        clusters,
        scaffold_effect,
        closure,
        closure_against_null,
        pass_at,
        solved_sets,
        paired_draws,
        cost,
        token_limits,
        equal_tokens,
        band,
        wider_band,
        joint_table,
        policies,
        shared_problems,
        tag_signal,
        heldout_gain,
        gains_and_exposure,
        training_ends,
        heldout_thinking,
        gsm8k_stage,
        adapter_size,
        gallery_model,
    )
}
"""Name in the ledger -> function."""


def gather(
    tables: Published, resampling: Resampling, function: str, arguments: Mapping[str, object]
) -> Evidence:
    """Call a function of `GATHER`; with the argument `benchmarks`, once for each, names prefixed by the benchmark.

    Parameters
    ----------
    tables
        The published tables.
    resampling
        Seed, number of resamples and confidence.
    function
        Its name.
    arguments
        What it is called with.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    if function not in GATHER:
        raise ValueError(f"there is no function {function!r} of evidence; there are {', '.join(GATHER)}.")
    given = dict(arguments)
    benchmarks = given.pop("benchmarks", None)
    if not isinstance(benchmarks, list):
        return GATHER[function](tables, resampling, **given)
    return {
        f"{benchmark}_{name}": estimate
        for benchmark in benchmarks
        for name, estimate in GATHER[function](tables, resampling, benchmark=benchmark, **given).items()
    }


def _two(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["arm"].isin([PANEL, THINKING])].reset_index(drop=True)


def _variance_band(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["band"] == "variance_band"]


def _wide(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return _two(table).pivot(index="problem_id", columns="arm", values=columns).dropna()
