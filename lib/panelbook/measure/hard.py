"""Hard problems: what one arm solves of those that the other failed, and what chance alone would give.

"The first arm solves 3 of the 6 problems that the second never solves" compares unlike things twice. The two arms may
have different numbers of draws; and problems chosen because an arm failed on m draws are partly hard and partly
unlucky, so that a second batch of m draws of the *same* arm would solve some of them as well: regression to the
mean (Galton 1886; Barnett et al. 2005). Here every count of saves is set beside that second batch.

Notation: an arm *fails* a problem on m draws if none is right, and the other *saves* it if at least one of its m draws
is. n draws and c correct draws of a problem, `P` problems, `B` simulated batches. With
f_m = C(n - c, m) / C(n, m), the chance that m of the n draws are all wrong, the expected number of problems failed on
m draws is sum_p f_m, and of these the other arm saves sum_p f_m (1 - f'_m) at equal draws.

The second batch is estimated in two ways:

- from a model: given c of n, the success probability of a problem follows Beta(a + c, b + n - c) with the beta
  distribution that fits the failing arm's counts (empirical Bayes), and new draws are simulated from it, with
  priors fitted to resampled problems;
- without one: condition on half of the draws and look at the other half, averaged over all splits in closed form.
  C(n - c, h) / C(n, h) - C(n - c, 2h) / C(n, 2h) is the chance that h draws are all wrong and h others are not.
  It is unbiased, but at half the draws.

Saves in the two directions are not two findings: (first saves, second fails) minus (second saves, first
fails), counted at equal draws, is the difference of the two arms' pass@m.

Not handled: graders that err, and problems that no draw could solve as a class of their own (the beta distribution
has none; the split-half comparison does not need it).

References
----------
Barnett, A. G., van der Pols, J. C. and Dobson, A. J. (2005). Regression to the mean: what it is and how to deal with
it. International Journal of Epidemiology 34(1).
Galton, F. (1886). Regression towards mediocrity in hereditary stature. Journal of the Anthropological Institute 15.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.betabinomial import fit_beta_binomial
from panelbook.measure.counts import pair_arms
from panelbook.measure.passk import pass_at_k_matrix
from panelbook.measure.uncertainty import (
    ROUNDING,
    Estimate,
    Floats,
    Ints,
    Resampling,
    estimate,
    estimate_share,
)

BUCKETS = ("never", "rarely", "up_to_half", "mostly", "always")
"""By c / n: 0, up to 1/4, up to 1/2, below 1, 1. With four draws: 0, 1, 2, 3 and 4 right."""

# Priors fitted to resampled problems, each the source of an equal part of the simulated batches: what the
# problems do not settle about the prior widens the band.
PRIORS = 20


def bucket_by_rate(n_P: npt.ArrayLike, c_P: npt.ArrayLike) -> list[str]:
    """Bucket of every problem by how often it was solved.

    Parameters
    ----------
    n_P, c_P
        Draws and correct draws of each problem.

    Returns
    -------
    Names of `BUCKETS`.

    Examples
    --------
    >>> bucket_by_rate([4] * 5, [0, 1, 2, 3, 4])
    ['never', 'rarely', 'up_to_half', 'mostly', 'always']
    """
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    place = (c > 0).astype(int) + (4 * c > n) + (2 * c > n) + (c == n)
    return [BUCKETS[i] for i in place]


def second_batch_pass(n: int, c: int, h: int) -> float:
    """Chance that h of the draws are all wrong and h others are not, over all ways to choose both.

    Parameters
    ----------
    n
        Draws of the problem, at least 2 h.
    c
        Correct draws.
    h
        Draws of either batch.

    Raises
    ------
    ValueError
        If the counts are impossible or 2 h exceeds n.

    Examples
    --------
    >>> second_batch_pass(n=4, c=1, h=2)  # the right draw is among the other two half the time
    0.5
    """
    pass_h, pass_2h = pass_at_k_matrix([n], [c], [h, 2 * h])[0]
    return float(pass_2h - pass_h)


def compare_buckets(
    counts: pd.DataFrame, failing: str, saving: str, m: int, resampling: Resampling, n_null: int = 2000
) -> pd.DataFrame:
    """Pass@m of one arm on problems grouped by how often the other solved them, beside a second batch of the other.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    failing
        The arm whose counts make the buckets.
    saving
        The arm that is looked at within them.
    m
        Number of draws, at most those of any problem of either arm.
    resampling
        Seed, number of resamples and confidence; problems are resampled within the bucket.
    n_null
        Simulated second batches, at least 100.

    Returns
    -------
    One row for each bucket that holds a problem, in the order of `BUCKETS`: bucket, m, estimate (pass@m of
    `saving`), low, high, second_batch (pass@m that `failing` would show in new draws), second_low, second_high
    (band over simulated batches of as many draws as `saving` had), n_problems, n_draws, method, reason.

    Raises
    ------
    ValueError
        If m exceeds the draws of a problem, n_null is too small, the arms share no problem, or the table is malformed.
    """
    pair = pair_arms(counts, saving, failing)
    n_P, c_P = (pair.second[column].to_numpy() for column in ("n", "c"))
    saved_P = _pass(pair.first, m)
    batches_B_P = _second_batches(pair.first, pair.second, m, resampling, n_null)
    buckets_P = np.array(bucket_by_rate(n_P, c_P))
    rows = []
    for bucket in BUCKETS:
        here = buckets_P == bucket
        if here.any():
            n_draws = int(pair.first["n"].to_numpy()[here].sum() + n_P[here].sum())
            found = estimate(
                saved_P[here, np.newaxis],
                lambda means: means[..., 0],
                resampling,
                n_draws,
                support=(0.0, 1.0),
            )
            mean, low, high = _band(batches_B_P[:, here].mean(axis=1), resampling.confidence)
            row = {"bucket": bucket, "m": m} | _columns(found)
            rows.append(row | {"second_batch": mean, "second_low": low, "second_high": high})
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def compare_saves(
    counts: pd.DataFrame, first: str, second: str, resampling: Resampling, n_null: int = 2000
) -> pd.DataFrame:
    """Share of one arm's failed problems that the other saves, both ways, beside a second batch of the same arm.

    Parameters
    ----------
    counts
        Counts table: arm, problem_id, n, c.
    first, second
        Arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled.
    n_null
        Simulated second batches, at least 100.

    Returns
    -------
    For each direction (first saves what second fails, then the reverse) the rows, by `quantity`:

    - `all_draws`: with every draw that either arm had, as a count of problems; exact binomial interval;
    - `matched`: at m draws each, the smallest number that any problem has;
    - `second_batch`: what `failing` would save of its own failures in a second batch, from the model. `low` and
      `high` are the band of a simulated batch, and `p` (two-sided) places `matched` in it, where it has a width;
    - `half_other`, `half_same`, `half_difference`: at h draws, half of those that `failing` has and at most
      those that `saving` has, what `saving` saves, what the other half of `failing`'s own draws saves, and the
      first minus the second. Left out where `failing` has a single draw of some problem.

    Columns saving, failing, quantity, draws (m or h; 0 for all), estimate, low, high, p, n_failed and n_saved
    (expected numbers of problems), n_problems, n_draws, method, reason. Where nothing was failed the estimates are
    NaN and the reason says so.

    Raises
    ------
    ValueError
        If n_null is too small, the arms share no problem, or the table is malformed.
    """
    return pd.concat(
        [
            _saves_of(counts, first, second, resampling, n_null),
            _saves_of(counts, second, first, resampling, n_null),
        ],
        ignore_index=True,
    )


def _saves_of(
    counts: pd.DataFrame, saving: str, failing: str, resampling: Resampling, n_null: int
) -> pd.DataFrame:
    """One direction of `compare_saves`."""
    pair = pair_arms(counts, saving, failing)
    m = int(min(pair.first["n"].min(), pair.second["n"].min()))
    half = int(min(pair.first["n"].min(), pair.second["n"].min() // 2))
    rows: list[dict[str, object]] = []

    def add(quantity: str, draws: int, weight_P: Floats, saved_P: Floats, found: Estimate) -> None:
        """Keep a row; an undefined share says that nothing was failed."""
        if np.isnan(found.value):
            words = "with all its draws" if quantity == "all_draws" else f"on {draws} draws"
            found = replace(found, low=None, high=None, reason=f"{failing} fails no problem {words}")
        rows.append(
            {"saving": saving, "failing": failing, "quantity": quantity, "draws": draws}
            | _columns(replace(found, n_problems=len(weight_P), n_draws=pair.n_draws))
            | {"p": np.nan, "n_failed": float(weight_P.sum()), "n_saved": float((weight_P * saved_P).sum())}
        )

    failed_P = (pair.second["c"].to_numpy() == 0).astype(float)
    solved_P = (pair.first["c"].to_numpy() > 0).astype(float)
    n_failed, n_saved = int(failed_P.sum()), int(failed_P @ solved_P)
    none = Estimate(np.nan, None, None, None, None, "none", "nothing was failed")
    share = estimate_share(n_saved, n_failed, resampling.confidence) if n_failed else none
    add("all_draws", 0, failed_P, solved_P, share)
    draws_P = pair.first["n"].to_numpy() + pair.second["n"].to_numpy()
    rows[-1] |= {"n_problems": n_failed, "n_draws": int(failed_P @ draws_P)}  # nothing else entered it

    weight_P, saved_P = 1.0 - _pass(pair.second, m), _pass(pair.first, m)
    matched = _share(weight_P, saved_P, resampling)
    add("matched", m, weight_P, saved_P, matched)

    batches_B_P = _second_batches(pair.first, pair.second, m, resampling, n_null)
    if weight_P.sum() > 0.0:
        shares_B = batches_B_P @ weight_P / weight_P.sum()
        mean, low, high = _band(shares_B, resampling.confidence)
        method = f"null band: {n_null} simulated second batches of {failing} on the same problems"
        spread = high - low > ROUNDING
        null = Estimate(
            mean,
            low if spread else None,
            high if spread else None,
            None,
            None,
            method if spread else "none",
            "" if spread else "the simulated batches show no spread",
        )
        add("second_batch", m, weight_P, batches_B_P.mean(axis=0), null)
        rows[-1]["p"] = _two_sided(matched.value, shares_B) if spread else np.nan
    else:
        add("second_batch", m, weight_P, saved_P, none)

    if half >= 1:
        weight_P, saved_P = 1.0 - _pass(pair.second, half), _pass(pair.first, half)
        both_P = _pass(pair.second, 2 * half) - _pass(
            pair.second, half
        )  # failed, and solved by the other half
        same_P = np.divide(both_P, weight_P, out=np.zeros_like(both_P), where=weight_P > 0.0)
        add("half_other", half, weight_P, saved_P, _share(weight_P, saved_P, resampling))
        add("half_same", half, weight_P, same_P, _share(weight_P, same_P, resampling))
        difference_P = saved_P - same_P
        add("half_difference", half, weight_P, difference_P, _share(weight_P, difference_P, resampling))
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def _second_batches(
    saving: pd.DataFrame, failing: pd.DataFrame, m: int, resampling: Resampling, n_null: int
) -> Floats:
    """Pass@m of the failing arm in new draws, as many as the saving arm had, shape (B, P)."""
    if n_null < 100:
        raise ValueError(
            f"n_null must be 100 or more to resolve the tails; it is {n_null}. Use 2000 for a result to report."
        )
    n_P, c_P, n_new_P = failing["n"].to_numpy(), failing["c"].to_numpy(), saving["n"].to_numpy()
    rng = resampling.generator()
    passed = [np.empty((0, len(n_P)))]
    for n_sets in np.diff(np.linspace(0, n_null, PRIORS + 1).round().astype(int)):
        rows = rng.integers(0, len(n_P), size=len(n_P))
        a_P, b_P = fit_beta_binomial(n_P[rows], c_P[rows]).posterior(n_P, c_P)
        c_new = rng.binomial(n_new_P, rng.beta(a_P, b_P, size=(n_sets, len(n_P))))
        passed.append(_pass_of_counts(n_new_P, c_new, m))
    return np.concatenate(passed)


def _pass_of_counts(n_P: Ints, c_B_P: Ints, m: int) -> Floats:
    """Pass@m of many data sets with the same draws, shape (B, P), by looking it up."""
    passed = np.empty(c_B_P.shape)
    for n in np.unique(n_P):
        here = n_P == n
        pass_of_c = pass_at_k_matrix(np.full(n + 1, n), np.arange(n + 1), [m])[:, 0]
        passed[:, here] = pass_of_c[c_B_P[:, here]]
    return passed


def _share(weight_P: Floats, saved_P: Floats, resampling: Resampling) -> Estimate:
    """Weighted mean of `saved_P` as a ratio of two means over problems."""
    values_P_2 = np.column_stack([weight_P * saved_P, weight_P])
    return estimate(values_P_2, lambda means: means[..., 0] / means[..., 1], resampling, None)


def _pass(rows: pd.DataFrame, k: int) -> Floats:
    """Pass@k of every problem of one arm, shape (P,)."""
    ids = rows["problem_id"].tolist()
    return np.asarray(pass_at_k_matrix(rows["n"].to_numpy(), rows["c"].to_numpy(), [k], ids)[:, 0])


def _band(values_B: Floats, confidence: float) -> tuple[float, float, float]:
    """Mean and the two ends of the middle of the simulated values, as order statistics."""
    ordered = np.sort(values_B)
    rank = max(int((1.0 - confidence) / 2.0 * (len(ordered) + 1)), 1) - 1
    return float(ordered.mean()), float(ordered[rank]), float(ordered[len(ordered) - 1 - rank])


def _two_sided(observed: float, values_B: Floats) -> float:
    """Two-sided Monte Carlo p-value, (1 + count) / (1 + B) in the smaller tail, doubled."""
    at_least = int((values_B >= observed - ROUNDING).sum())
    at_most = int((values_B <= observed + ROUNDING).sum())
    return float(min(1.0, 2.0 * (1 + min(at_least, at_most)) / (1 + len(values_B))))


def _columns(found: Estimate) -> dict[str, object]:
    """Columns of a table that hold an estimate."""
    return {
        "estimate": found.value,
        "low": found.low,
        "high": found.high,
        "n_problems": found.n_problems,
        "n_draws": found.n_draws,
        "method": found.method,
        "reason": found.reason,
    }
