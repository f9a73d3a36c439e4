r"""Matched: arms trained alike, compared on the same held-out problems at equal steps and at equal tokens.

Every checkpoint of every training run draws several times from the same held-out problems. So differences are
paired by problem, between checkpoints and between arms. Runs of one arm that differ in their seed are averaged
within each problem first; problems are then resampled. The interval therefore speaks of other problems of this
kind, not of other training seeds: with a handful of seeds there is no honest interval over them, so their
values are listed instead (`by_seed`).

Equal tokens: a run has paid for every completion token drawn in training up to a checkpoint. Between checkpoints
a problem's accuracy is taken to move along a line.

References
----------
Chen, M. et al. (2021). Evaluating large language models trained on code. arXiv:2107.03374 (pass@k).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.counts import require_columns
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import Estimate, Resampling, estimate, keep_means

Floats = npt.NDArray[np.float64]

COLUMNS = ["arm", "train_seed", "step", "tokens_total", "problem_id", "n", "c"]
RUN = ["arm", "train_seed"]


def check_heldout(heldout: pd.DataFrame) -> pd.DataFrame:
    """Return the table, checked: every run has every step on the same problems, once.

    Parameters
    ----------
    heldout
        One row per arm, training seed, step and problem: `tokens_total` (completion tokens the run had drawn in
        training by then), n draws, c of them correct.

    Raises
    ------
    ValueError
        If a column is missing, or a checkpoint lacks a problem or has one twice.
    """
    require_columns(heldout, COLUMNS, "heldout")
    problems = sorted(heldout["problem_id"].unique())
    for (arm, seed, step), rows in heldout.groupby([*RUN, "step"]):
        if sorted(rows["problem_id"]) != problems:
            raise ValueError(
                f"arm {arm!r}, seed {seed}, step {step} was evaluated on {len(rows)} rows of "
                f"{rows['problem_id'].nunique()} problems; every checkpoint needs the same {len(problems)}, each once."
            )
    return heldout.sort_values([*RUN, "step", "problem_id"], ignore_index=True)


def climb_curve(heldout: pd.DataFrame, k: int, resampling: Resampling) -> pd.DataFrame:
    """Pass@k of each arm at each step, averaged over its training seeds.

    Returns
    -------
    Columns arm, step, tokens_total (mean over seeds), estimate, low, high, n_problems, n_draws, method, reason.

    Raises
    ------
    ValueError
        As `check_heldout` does, or if k exceeds the draws of a problem.
    """
    table = check_heldout(heldout)
    rows = []
    for (arm, step), here in table.groupby(["arm", "step"]):
        point = estimate(
            _by_problem(here, k)[:, np.newaxis],
            lambda means: keep_means(means)[..., 0],
            resampling,
            int(here["n"].sum()),
            support=(0.0, 1.0),
        )
        rows.append(
            {
                "arm": arm,
                "step": step,
                "tokens_total": here.groupby("train_seed")["tokens_total"].first().mean(),
                "estimate": point.value,
                "low": point.low,
                "high": point.high,
                "n_problems": point.n_problems,
                "n_draws": point.n_draws,
                "method": point.method,
                "reason": point.reason,
            }
        )
    return pd.DataFrame(rows)


def paired_gain(
    heldout: pd.DataFrame, arm: str, step_from: int, step_to: int, k: int, resampling: Resampling
) -> Estimate:
    """Pass@k at a late step minus that at an early one, paired by problem.

    Raises
    ------
    ValueError
        As `check_heldout` does, or if the arm has no such step.
    """
    return _contrast(heldout, {(arm, step_to): 1, (arm, step_from): -1}, k, resampling)


def compare_at_step(
    heldout: pd.DataFrame, first: str, second: str, step: int, k: int, resampling: Resampling
) -> Estimate:
    """Pass@k of `first` minus that of `second` after equally many updates, paired by problem.

    Raises
    ------
    ValueError
        As `paired_gain` does.
    """
    return _contrast(heldout, {(first, step): 1, (second, step): -1}, k, resampling)


def compare_gains(
    heldout: pd.DataFrame,
    first: str,
    second: str,
    step_from: int,
    step_to: int,
    k: int,
    resampling: Resampling,
) -> Estimate:
    """Gain of `first` minus the gain of `second` between two steps, paired by problem.

    Raises
    ------
    ValueError
        As `paired_gain` does.
    """
    signs = {(first, step_to): 1, (first, step_from): -1, (second, step_to): -1, (second, step_from): 1}
    return _contrast(heldout, signs, k, resampling)


def common_tokens(heldout: pd.DataFrame) -> float:
    """Return the most completion tokens that every run has spent on training."""
    return float(heldout.groupby(RUN)["tokens_total"].max().min())


def compare_at_tokens(
    heldout: pd.DataFrame, first: str, second: str, tokens: float, k: int, resampling: Resampling
) -> Estimate:
    """Pass@k of `first` minus that of `second` after equally many training tokens, paired by problem.

    Parameters
    ----------
    tokens
        Completion tokens spent on training by each run, at most `common_tokens`.

    Raises
    ------
    ValueError
        As `check_heldout` does, or if a run has spent fewer tokens.
    """
    table = check_heldout(heldout)
    one, other = (_at_tokens(table, arm, tokens, k) for arm in (first, second))
    drawn = table[table["arm"].isin([first, second])]
    return _estimate_difference(one - other, resampling, int(drawn["n"].sum()))


def by_seed(heldout: pd.DataFrame, k: int) -> pd.DataFrame:
    """Pass@k of every run at every step: one row per step, one column per (arm, training seed).

    Raises
    ------
    ValueError
        As `check_heldout` does.
    """
    table = check_heldout(heldout)
    table["value"] = pass_at_k_matrix(table["n"], table["c"], [k])[:, 0]
    return table.pivot_table(index="step", columns=RUN, values="value", aggfunc="mean")


def seed_gap(heldout: pd.DataFrame, step: int, k: int) -> float:
    """Pass@k of the best training seed of an arm minus that of its worst, at one step: the larger of the arms' gaps.

    It is 0 where every arm has one seed. Seeds are too few for an interval; hold it against the difference of arms.

    Raises
    ------
    ValueError
        As `check_heldout` does, or if no run was evaluated at this step.
    """
    runs = by_seed(heldout, k)
    if step not in runs.index:
        raise ValueError(f"no run was evaluated at step={step}; there are {sorted(runs.index)}.")
    arms = runs.loc[step].groupby("arm")
    return float((arms.max() - arms.min()).to_numpy().max())


def end_entropies(metrics: pd.DataFrame) -> pd.DataFrame:
    """Entropy of the first and of the last batch of each arm's training, in nats a token, averaged over its seeds.

    Parameters
    ----------
    metrics
        One row per arm, training seed and step: the `entropy` of its batch.

    Returns
    -------
    entropies
        One row per arm; columns first and last.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    require_columns(metrics, [*RUN, "step", "entropy"], "metrics")
    by_run = metrics.sort_values("step").groupby(RUN)["entropy"].agg(["first", "last"])
    return by_run.groupby("arm").mean()


def _by_problem(rows: pd.DataFrame, k: int) -> Floats:
    """Pass@k of each problem, averaged over seeds; problems in order of their ids."""
    values = pass_at_k_matrix(rows["n"], rows["c"], [k])[:, 0]
    means = pd.Series(values).groupby(rows["problem_id"].to_numpy()).mean()
    return np.asarray(means.sort_index(), dtype=np.float64)


def _at_step(table: pd.DataFrame, arm: str, step: int) -> pd.DataFrame:
    mine = table[table["arm"] == arm]
    rows = mine[mine["step"] == step]
    if rows.empty or rows["train_seed"].nunique() < mine["train_seed"].nunique():
        steps = sorted(int(known) for known in mine["step"].unique())
        raise ValueError(
            f"not every run of arm {arm!r} has a checkpoint at step {step}; there are {steps or 'none'}."
        )
    return rows


def _at_tokens(table: pd.DataFrame, arm: str, tokens: float, k: int) -> Floats:
    """Pass@k of each problem after so many tokens, between checkpoints along a line, averaged over seeds."""
    runs = []
    for seed, run in table[table["arm"] == arm].groupby("train_seed"):
        spent = run.groupby("step")["tokens_total"].first()
        if tokens > spent.max():
            raise ValueError(
                f"arm {arm!r}, seed {seed} has spent {spent.max():,.0f} tokens, fewer than tokens={tokens:,.0f}. "
                "Compare at `common_tokens` or below."
            )
        values = np.array([_by_problem(run[run["step"] == step], k) for step in spent.index])
        upper = int(np.searchsorted(spent.to_numpy(), tokens))
        lower = max(upper - 1, 0)
        gap = spent.iloc[upper] - spent.iloc[lower]
        share = (tokens - spent.iloc[lower]) / gap if gap else 0.0
        runs.append(values[lower] + share * (values[upper] - values[lower]))
    if not runs:
        raise ValueError(f"there is no run of arm {arm!r}.")
    return np.asarray(np.mean(runs, axis=0))


def _contrast(
    heldout: pd.DataFrame, signs: Mapping[tuple[str, int], int], k: int, resampling: Resampling
) -> Estimate:
    """Sum of signed pass@k over (arm, step), paired by problem."""
    table = check_heldout(heldout)
    parts = {place: _at_step(table, *place) for place in signs}
    difference = sum(sign * _by_problem(parts[place], k) for place, sign in signs.items())
    n_draws = sum(int(rows["n"].sum()) for rows in parts.values())
    return _estimate_difference(np.asarray(difference), resampling, n_draws, width=len(signs) / 2)


def _estimate_difference(
    difference_P: Floats, resampling: Resampling, n_draws: int, width: float = 1.0
) -> Estimate:
    return estimate(
        difference_P[:, np.newaxis],
        lambda means: keep_means(means)[..., 0],
        resampling,
        n_draws,
        support=(-width, width),
    )
