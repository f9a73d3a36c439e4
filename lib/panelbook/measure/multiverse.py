r"""Multiverse: one comparison under every reasonable way to make it.

Whether one arm's draws lie further apart than another's depends on choices that nobody is forced to: which encoder,
which part of a text, what is cut out, how many draws, all of them or the right ones. A *specification* is one choice
of each. All specifications are computed on the same problems, so their effects are compared as they stand, and one
resampling of problems serves them all: the median effect, the share of variation that each choice explains, and a
joint test get intervals or a reference distribution that know how closely the specifications hang together.

The effect is the relative difference of two means over problems, first / second - 1.

Notation: `P` problems, `S` specifications, `L` levels of a choice, `B` resamples.

Not handled: the specifications are those that someone thought of, not a sample of anything, so a share of them has no
sampling error and no probability; intervals of single specifications are not adjusted for their number.

References
----------
Steegen, S. et al. (2016). Increasing transparency through a multiverse analysis. Perspectives on Psychological
    Science 11(5).
Simonsohn, U., Simmons, J. P. and Nelson, L. D. (2020). Specification curve analysis. Nature Human Behaviour 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from panelbook.measure.counts import require_columns
from panelbook.measure.uncertainty import Estimate, Estimates, Floats, Resampling, estimate_many, keep_means

# Fewer paired problems than this say nothing that an interval could be put on.
MIN_PROBLEMS = 5
# What tells one evaluation of a training run from another.
RUN = ["arm", "train_seed", "step"]
# Sign patterns tried at once: bounds the memory of the joint test.
FLIP_BATCH = 500


@dataclass(frozen=True)
class Multiverse:
    """A comparison under every specification.

    Parameters
    ----------
    table
        One row per specification in the order of falling effect: the choices, first and second (means over
        problems), effect, low, high, n_problems, n_draws, method, reason, and sign ("above" or "below" zero where the
        interval lies there, else "unclear").
    median
        Median effect over specifications; problems are resampled, in all specifications at once.
    explained
        One row per choice with more than one level: choice, n_levels, share (of the variance of the ranks of
        effects, see `explained_shares`), low, high, n_problems, n_draws, method, reason.
    share_positive
        Share of specifications whose effect is above zero.
    share_above, share_below
        Shares whose interval lies above, and below, zero.
    p_joint
        Share of patterns of exchanging the two arms within problems, at random, that give a median log ratio as
        far from zero as the one found.
    left_out
        Specifications with fewer than `MIN_PROBLEMS` paired problems, though others have as many.
    """

    table: pd.DataFrame
    median: Estimate
    explained: pd.DataFrame
    share_positive: float
    share_above: float
    share_below: float
    p_joint: float
    left_out: int


def compare_specifications(
    values: pd.DataFrame,
    choices: Sequence[str],
    first: str,
    second: str,
    resampling: Resampling,
    n_flips: int = 4000,
) -> Multiverse:
    """Compare two arms under every specification, on the same problems.

    Parameters
    ----------
    values
        One row per specification, arm and problem: the columns of `choices`, arm, problem_id, value (0 or more; NaN
        where undefined) and n (draws behind it).
    choices
        Columns that make a specification.
    first, second
        The two arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled. The seed also drives the joint test.
    n_flips
        Patterns of exchanged arms that the joint test tries.

    Raises
    ------
    ValueError
        If a column is missing, a row occurs twice, or no problem has a value under both arms.

    Notes
    -----
    In a specification that leaves problems out (right draws only) a problem without a value enters the joint figures
    as zero on both sides, which leaves the ratio of the sums as it is. Specifications with the same problems share
    one resampling; their own intervals use the number of their own problems.
    """
    require_columns(values, (*choices, "arm", "problem_id", "value", "n"), "specifications")
    key = [*choices, "arm", "problem_id"]
    repeated = values.duplicated(key)
    if repeated.any():
        row = values.loc[repeated, key].iloc[0].to_dict()
        raise ValueError(f"a specification has one value per arm and problem; {row} occurs twice.")
    value_P_S = {arm: _to_matrix(values, choices, arm, "value") for arm in (first, second)}
    specifications = value_P_S[first].columns.intersection(value_P_S[second].columns, sort=False)
    problems = value_P_S[first].index.union(value_P_S[second].index)
    first_P_S, second_P_S = (
        value_P_S[arm].reindex(index=problems, columns=specifications).to_numpy(float)
        for arm in (first, second)
    )
    paired_P_S = np.isfinite(first_P_S) & np.isfinite(second_P_S)
    n_paired_S = paired_P_S.sum(axis=0)
    if not n_paired_S.any():
        raise ValueError(
            f"no specification has a problem with a value under both {first!r} and {second!r}. Check the arms' names, "
            "and that both were drawn on the same problems."
        )
    # Where there are so few problems in all, a specification that has them all still counts.
    enough = n_paired_S >= min(MIN_PROBLEMS, n_paired_S.max())
    draws_P_S = np.zeros(paired_P_S.shape)
    for arm in (first, second):
        matrix = _to_matrix(values, choices, arm, "n").reindex(index=problems, columns=specifications)
        draws_P_S += matrix.to_numpy(float)
    n_draws_S = np.where(paired_P_S, draws_P_S, 0).sum(axis=0).astype(int)[enough]
    first_P_S, second_P_S = (
        np.where(paired_P_S, matrix, 0.0)[:, enough] for matrix in (first_P_S, second_P_S)
    )
    paired_P_S = paired_P_S[:, enough]
    labels = specifications[enough].to_frame(index=False).set_axis(list(choices), axis=1)
    table = _compare_each(labels, first_P_S, second_P_S, paired_P_S, n_draws_S, resampling)
    # A problem that no specification has is none of this comparison's.
    some = paired_P_S.any(axis=1)
    first_P_S, second_P_S = first_P_S[some], second_P_S[some]
    varied = [choice for choice in choices if len(set(labels[choice])) > 1]
    members = [_membership(labels[choice]) for choice in varied]

    def outputs(means: Floats) -> Floats:
        """Median effect, then the share that each choice explains."""
        effect = means[..., : len(labels)] / means[..., len(labels) :] - 1.0
        ranks = _ranks(effect)
        return np.stack([_median(effect), *(_explained(ranks, member) for member in members)], axis=-1)

    joint = estimate_many(
        np.hstack([first_P_S, second_P_S]), outputs, resampling, int(n_draws_S.max(initial=0))
    )
    explained = joint.to_frame().iloc[1:].rename(columns={"estimate": "share"})
    explained.insert(0, "choice", varied)
    explained.insert(1, "n_levels", [len(set(labels[choice])) for choice in varied])
    return Multiverse(
        table=table.sort_values("effect", ascending=False, kind="stable", ignore_index=True),
        median=joint[0],
        explained=explained.reset_index(drop=True),
        share_positive=float((table["effect"] > 0).mean()),
        share_above=float((table["sign"] == "above").mean()),
        share_below=float((table["sign"] == "below").mean()),
        p_joint=_joint_test(first_P_S, second_P_S, resampling, n_flips),
        left_out=int((~enough).sum()),
    )


def explained_shares(effects: npt.ArrayLike, labels: pd.DataFrame) -> dict[str, float]:
    r"""Share of the variance of the ranks of effects that lies between the levels of each choice: eta squared.

    Ranks, because a ratio of two small means can be wild, and one wild specification would decide alone.

    Parameters
    ----------
    effects
        Effect of each specification, shape (S,); those that are not finite are left out.
    labels
        One row per specification, one column per choice.

    Returns
    -------
    Choice -> share from 0 to 1; NaN where all effects are equal. Where every combination of levels occurs equally
    often the shares add up to at most 1, and what is left is interaction: choices that matter only together.

    Notes
    -----
    :math:`\eta^2 = \sum_l n_l (\bar r_l - \bar r)^2 / \sum_s (r_s - \bar r)^2` of the ranks r, the one-way analysis of
    variance of each choice by itself. It is the statistic of Kruskal and Wallis divided by S - 1.

    Examples
    --------
    >>> labels = pd.DataFrame({"encoder": ["a", "a", "b", "b"], "window": ["x", "y", "x", "y"]})
    >>> explained_shares([0.0, 1.0, 3.0, 4.0], labels)
    {'encoder': 0.8, 'window': 0.2}
    """
    values = np.asarray(effects, dtype=float)
    ranks = _ranks(values)
    return {str(choice): float(_explained(ranks, _membership(labels[choice]))) for choice in labels}


def list_neighbours(table: pd.DataFrame, choices: Sequence[str], own: Mapping[str, object]) -> pd.DataFrame:
    """Select one specification and all that differ from it in a single choice.

    Parameters
    ----------
    table
        As in `Multiverse`.
    choices
        Columns that make a specification.
    own
        Level of every choice of the one specification.

    Returns
    -------
    Rows of the table, the one specification first, with a column `changed` in front: "nothing", or choice and level.

    Raises
    ------
    ValueError
        If the table does not have that specification.
    """
    differs = pd.DataFrame({choice: table[choice] != own[choice] for choice in choices})
    n_different = differs.sum(axis=1)
    if not (n_different == 0).any():
        raise ValueError(f"the table has no specification {dict(own)}. Choose one of its rows.")
    parts = [table[n_different == 0].assign(changed="nothing")]
    for choice in choices:
        rows = table[differs[choice] & (n_different == 1)]
        parts.append(
            rows.assign(changed=[f"{choice}: {level}" for level in rows[choice]]).sort_values("changed")
        )
    found = pd.concat(parts, ignore_index=True)
    return found[["changed", *table.columns]]


def compare_strata(pairs: pd.DataFrame, first: str, second: str, resampling: Resampling) -> pd.DataFrame:
    r"""Compare two arms' distances among pairs of draws of one kind, and with the mix of kinds held equal.

    An arm that is wrong more often, or longer, has more pairs of that kind. Within a kind, and at one mix of kinds
    for both arms, that has no part in the difference.

    Parameters
    ----------
    pairs
        One row per pair of draws of one problem: arm, problem_id, stratum (its kind; a categorical sets the order),
        distance, i and j (the two draws).
    first, second
        The two arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled with all their pairs.

    Returns
    -------
    One row per stratum, then "mix held equal" and "all pairs": stratum, n_pairs_first, n_pairs_second
    and, each with `_low`, `_high` and `_reason`, first and second (mean distance) and effect (first / second - 1);
    n_problems and n_draws (with such a pair under either arm), method.

    Raises
    ------
    ValueError
        If a column is missing or an arm has no pairs.

    Notes
    -----
    Direct standardisation: :math:`\sum_k w_k \bar d_{ak}`, where :math:`w_k` is the share of stratum k among the
    pairs of both arms together, over the strata that both arms have.
    """
    require_columns(pairs, ("arm", "problem_id", "stratum", "distance", "i", "j"), "pairs")
    strata = [
        str(k) for k in pairs["stratum"].astype("category").cat.remove_unused_categories().cat.categories
    ]
    pairs = pairs.assign(stratum=pairs["stratum"].astype(str))
    problems = sorted(pairs["problem_id"].unique())
    columns, counts = [], []
    for arm in (first, second):
        mine = pairs[pairs["arm"] == arm]
        if mine.empty:
            raise ValueError(f"arm {arm!r} has no pairs; the table has: {', '.join(pairs['arm'].unique())}.")
        cells = mine.groupby(["problem_id", "stratum"])["distance"]
        for cell in (cells.sum(), cells.size()):
            wide = cell.unstack(fill_value=0).reindex(index=problems, columns=strata, fill_value=0)
            columns.append(wide.to_numpy(float))
        counts.append(columns[-1].sum(axis=0))
    k = len(strata)
    shared = (counts[0] > 0) & (counts[1] > 0)

    def outputs(means: Floats) -> Floats:
        """First, second and effect of every row of the table, row by row."""
        sums = [means[..., i * k : (i + 1) * k] for i in range(4)]
        totals = [block.sum(axis=-1, keepdims=True) for block in sums]
        weights = np.where(shared, sums[1] + sums[3], 0.0)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        arms = []
        for total, count, all_total, all_count in ((*sums[:2], *totals[:2]), (*sums[2:], *totals[2:])):
            mean = total / count
            # A stratum of no weight may be undefined: it is not part of the sum.
            equal = np.where(weights > 0, weights * mean, 0.0).sum(axis=-1, keepdims=True)
            arms.append(np.concatenate([mean, equal, all_total / all_count], axis=-1))
        rows = np.stack([arms[0], arms[1], arms[0] / arms[1] - 1.0], axis=-1)
        return rows.reshape(*rows.shape[:-2], -1)

    found = estimate_many(np.hstack(columns), outputs, resampling, None)
    sizes = [[*count, count[shared].sum(), count.sum()] for count in counts]
    rows = []
    for i, stratum in enumerate([*strata, "mix held equal", "all pairs"]):
        row: dict[str, object] = {
            "stratum": stratum,
            "n_pairs_first": int(sizes[0][i]),
            "n_pairs_second": int(sizes[1][i]),
        }
        for j, name in enumerate(("first", "second", "effect")):
            output = found[3 * i + j]
            row |= {name: output.value, f"{name}_low": output.low, f"{name}_high": output.high}
            row |= {f"{name}_reason": output.reason}
        kinds = (
            [stratum] if i < k else [name for name, both in zip(strata, shared, strict=True) if both or i > k]
        )
        here = pairs[pairs["arm"].isin([first, second]) & pairs["stratum"].isin(kinds)]
        ends_of_pairs = here.melt(["arm", "problem_id"], ["i", "j"], value_name="draw").drop(
            columns="variable"
        )
        row |= {"n_problems": here["problem_id"].nunique(), "n_draws": len(ends_of_pairs.drop_duplicates())}
        row |= {"method": found.method_M[3 * i + 2]}
        rows.append(row)
    ends = {f"{name}_{end}": float for name in ("first", "second", "effect") for end in ("low", "high")}
    return pd.DataFrame(rows).astype(ends)


def list_frontier(heldout: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Accuracy and spread of every arm, training seed and checkpoint whose spread is known.

    Parameters
    ----------
    heldout
        One row per arm, training seed, step and problem: arm, train_seed, step, problem_id, n, c, mean_distance
        (missing where it was not measured).
    resampling
        Seed, number of resamples and confidence; problems are resampled, accuracy and spread together.

    Returns
    -------
    Columns arm, train_seed, step, accuracy, accuracy_low, accuracy_high, spread, spread_low, spread_high, n_problems,
    n_draws, method; empty where no spread is known. An end is missing where there is no interval.
    """
    require_columns(heldout, (*RUN, "problem_id", "n", "c", "mean_distance"), "heldout")
    rows = []
    for _, here in heldout.dropna(subset="mean_distance").groupby(RUN):
        found = estimate_many(
            np.column_stack([here["c"] / here["n"], here["mean_distance"]]).astype(float),
            keep_means,
            resampling,
            int(here["n"].sum()),
        )
        rows.append(here[RUN].iloc[0].to_dict() | _ends(found, ("accuracy", "spread")))
    return pd.DataFrame(rows)


def frontier_changes(heldout: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Compare the last checkpoint with the first, in accuracy and in spread, on the same problems.

    Parameters
    ----------
    heldout
        As in `list_frontier`; the training seeds of an arm are averaged within each problem.
    resampling
        Seed, number of resamples and confidence; problems are resampled.

    Returns
    -------
    One row per arm that has a spread at two steps: arm, step_from, step_to, accuracy and spread (changes) with `_low`
    and `_high`, and `_moved`: rose, fell, or did not clearly move, as the interval says; n_problems, n_draws, method.
    """
    require_columns(heldout, (*RUN, "problem_id", "n", "c", "mean_distance"), "heldout")
    known = heldout.dropna(subset="mean_distance").assign(accuracy=lambda t: t["c"] / t["n"])
    rows = []
    for arm, here in known.groupby("arm"):
        steps = sorted(set(here["step"]))
        if len(steps) < 2:
            continue
        ends = [
            here[here["step"] == step].groupby("problem_id")[["accuracy", "mean_distance"]].mean()
            for step in (steps[0], steps[-1])
        ]
        change = (ends[1] - ends[0]).dropna()
        n_draws = int(here.loc[here["step"].isin([steps[0], steps[-1]]), "n"].sum())
        found = estimate_many(change.to_numpy(float), keep_means, resampling, n_draws)
        row = {"arm": arm, "step_from": steps[0], "step_to": steps[-1]}
        for name, low, high in zip(("accuracy", "spread"), found.low_M, found.high_M, strict=True):
            row[f"{name}_moved"] = "rose" if low > 0 else "fell" if high < 0 else "did not clearly move"
        rows.append(row | _ends(found, ("accuracy", "spread")))
    return pd.DataFrame(rows)


def _ends(found: Estimates, names: Sequence[str]) -> dict[str, object]:
    """Lay the outputs of one resampling out as the columns of a row."""
    row: dict[str, object] = {}
    for name, value, low, high in zip(names, found.value_M, found.low_M, found.high_M, strict=True):
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | {"n_problems": found.n_problems, "n_draws": found.n_draws, "method": found.method_M[0]}


def _to_matrix(values: pd.DataFrame, choices: Sequence[str], arm: str, column: str) -> pd.DataFrame:
    """One arm's values: problems down, specifications across."""
    mine = values[values["arm"] == arm]
    return mine.pivot(index="problem_id", columns=list(choices), values=column)


def _compare_each(
    labels: pd.DataFrame,
    first_P_S: Floats,
    second_P_S: Floats,
    paired_P_S: npt.NDArray[np.bool_],
    n_draws_S: npt.NDArray[np.int64],
    resampling: Resampling,
) -> pd.DataFrame:
    """Effect of every specification with its own interval; those with the same problems in one resampling."""
    parts = []
    patterns, pattern_S = np.unique(paired_P_S, axis=1, return_inverse=True)
    for i, pattern in enumerate(patterns.T):
        members = np.flatnonzero(pattern_S == i)
        size = len(members)
        found = estimate_many(
            np.hstack([first_P_S[np.ix_(pattern, members)], second_P_S[np.ix_(pattern, members)]]),
            lambda means, size=size: means[..., :size] / means[..., size:] - 1.0,  # type: ignore[misc]
            resampling,
            None,
        )
        rows = labels.iloc[members].reset_index(drop=True)
        rows["first"] = first_P_S[np.ix_(pattern, members)].mean(axis=0)
        rows["second"] = second_P_S[np.ix_(pattern, members)].mean(axis=0)
        frame = found.to_frame().rename(columns={"estimate": "effect"}).assign(n_draws=n_draws_S[members])
        parts.append(pd.concat([rows, frame], axis=1))
    table = pd.concat(parts, ignore_index=True)
    table["sign"] = np.select([table["low"] > 0, table["high"] < 0], ["above", "below"], "unclear")
    return table


def _membership(labels: pd.Series) -> Floats:
    """Which specification has which level: shape (S, L)."""
    codes, levels = pd.factorize(labels)
    return np.eye(len(levels))[codes]


def _ranks(effects: Floats) -> Floats:
    """Ranks over the last axis, ties shared; NaN where an effect is not finite."""
    finite = np.where(np.isfinite(effects), effects, np.nan)
    return np.asarray(stats.rankdata(finite, axis=-1, nan_policy="omit"))


def _explained(ranks: Floats, member_S_L: Floats) -> Floats:
    """Eta squared of ranks of shape (..., S), leaving out those that are missing."""
    finite = np.isfinite(ranks)
    values = np.where(finite, ranks, 0.0)
    n_L = finite @ member_S_L
    mean = np.divide(
        values.sum(axis=-1), finite.sum(axis=-1), out=np.zeros(values.shape[:-1]), where=finite.any(axis=-1)
    )[..., np.newaxis]
    mean_L = np.divide(values @ member_S_L, n_L, out=np.zeros_like(n_L), where=n_L > 0)
    between = (n_L * (mean_L - mean) ** 2).sum(axis=-1)
    total = np.where(finite, (values - mean) ** 2, 0.0).sum(axis=-1)
    return np.asarray(np.divide(between, total, out=np.full(total.shape, np.nan), where=total > 0))


def _median(effects: Floats) -> Floats:
    """Median over the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(effects)
    n = finite.sum(axis=-1, keepdims=True)
    ordered = np.sort(np.where(finite, effects, np.inf), axis=-1)
    middle = [np.take_along_axis(ordered, np.maximum(i, 0), axis=-1) for i in ((n - 1) // 2, n // 2)]
    halves = np.where(n > 0, middle[0] / 2.0 + middle[1] / 2.0, np.nan)
    return np.asarray(halves[..., 0])


def _joint_test(first_P_S: Floats, second_P_S: Floats, resampling: Resampling, n_flips: int) -> float:
    """Two-sided p of the median log ratio when each problem's two arms are exchanged at random."""
    rng = resampling.generator()

    def medians(kept_B_P: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            first = kept_B_P @ first_P_S + (1.0 - kept_B_P) @ second_P_S
            second = kept_B_P @ second_P_S + (1.0 - kept_B_P) @ first_P_S
            return _median(np.log(first / second))

    found = abs(float(medians(np.ones((1, len(first_P_S))))[0]))
    if not np.isfinite(found):
        return float("nan")
    extreme = 0
    for start in range(0, n_flips, FLIP_BATCH):
        size = (min(FLIP_BATCH, n_flips - start), len(first_P_S))
        extreme += int((np.abs(medians(rng.integers(0, 2, size).astype(float))) >= found - 1e-12).sum())
    return (1 + extreme) / (1 + n_flips)
