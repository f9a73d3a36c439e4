"""Projection: where draws lie beside each other, and how well one direction tells two kinds of them apart.

Vectors of draws differ first of all by problem. So each problem's mean is subtracted before anything is
projected: what is left is how draws of one problem differ. The two axes are those along which they differ most
(principal components), and say nothing of the other few hundred; the share of the variance that they hold says
how much that is. A picture can hide a difference that all dimensions show, so `tell_apart` is asked as well.

Notation: `N` draws, `D` embedding dimensions, `P` problems.

Not handled: projections that bend space (t-SNE, UMAP). Their distances cannot be read.

References
----------
Jolliffe, I. T. (2002). Principal Component Analysis, 2nd ed., chapters 1 and 2.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.uncertainty import ROUNDING, Estimate, Floats, Resampling, estimate


@dataclass(frozen=True)
class Projection:
    """Draws on a plane.

    Parameters
    ----------
    places_N_2
        Coordinates of each draw; the mean of each problem lies at the origin.
    shares_2
        Share of the variance within problems that each axis holds; NaN where there is none.
    squares_P_2
        Squared distances of each problem's draws from their mean, summed: on the plane, and in all. Problems are in
        the order of their first draws. The ratio of the two columns' sums is the sum of `shares_2`.
    """

    places_N_2: Floats
    shares_2: Floats
    squares_P_2: Floats


def centre(vectors_N_D: npt.ArrayLike, problems_N: npt.ArrayLike) -> Floats:
    """Return vectors less the mean of their problem's.

    Examples
    --------
    >>> centre([[1, 0], [3, 0], [5, 5]], ["a", "a", "b"]).tolist()
    [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors_N_D, dtype=np.float64)
    code, n_problems = _codes(problems_N)
    sums = np.zeros((n_problems, vectors.shape[1]))
    np.add.at(sums, code, vectors)
    return vectors - (sums / np.bincount(code, minlength=n_problems)[:, None])[code]


def project_draws(vectors_N_D: npt.ArrayLike, problems_N: npt.ArrayLike) -> Projection:
    """Project draws on the two directions in which draws of one problem differ most.

    Parameters
    ----------
    vectors_N_D
        One vector per draw, of any length; D at least 2.
    problems_N
        Which problem each draw answers.

    Notes
    -----
    Principal components of the centred vectors. The sign of an axis is arbitrary; it is chosen so that the
    largest of its loadings is positive, and the same vectors give the same picture.

    Raises
    ------
    ValueError
        If shapes do not match, there is no draw, or a value is not finite.

    Examples
    --------
    >>> project_draws([[0, 1, 0], [0, -1, 0]], ["a", "a"]).shares_2.tolist()
    [1.0, 0.0]
    """
    vectors = _check(vectors_N_D, problems_N)
    centred = centre(vectors, problems_N)
    spread, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    top = axes[:, [-1, -2]]
    top = top * np.where(top[np.abs(top).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = spread.sum()
    code, n_problems = _codes(problems_N)
    if total <= ROUNDING * len(vectors):  # draws that are all alike have no direction
        return Projection(np.zeros((len(vectors), 2)), np.full(2, np.nan), np.zeros((n_problems, 2)))
    places = centred @ top
    squares = np.zeros((n_problems, 2))
    np.add.at(squares, code, np.column_stack([(places**2).sum(axis=1), (centred**2).sum(axis=1)]))
    return Projection(places, np.clip(spread[[-1, -2]] / total, 0.0, 1.0), squares)


def list_neighbours(vectors_N_D: npt.ArrayLike, problems_N: npt.ArrayLike, k: int) -> pd.DataFrame:
    """List the nearest and the farthest draws of the same problem.

    Parameters
    ----------
    vectors_N_D
        One vector per draw; scaled to length 1 here.
    problems_N
        Which problem each draw answers.
    k
        How many of each; fewer where a problem has no more other draws.

    Returns
    -------
    Rows of draw and other (row numbers from 0), relation (near or far), rank (from 1) and distance (cosine, 0 to 2).
    Draws at one distance come in the order of their rows. A draw may be both near and far where there are few.

    Raises
    ------
    ValueError
        As `project_draws`, or if a vector is zero or `k` is below 1.

    Examples
    --------
    >>> list_neighbours([[1, 0], [0, 2], [3, 0]], ["a", "a", "a"], k=1).head(2).to_dict("list")
    {'draw': [0, 0], 'other': [2, 1], 'relation': ['near', 'far'], 'rank': [1, 1], 'distance': [0.0, 1.0]}
    """
    vectors = _check(vectors_N_D, problems_N)
    if k < 1:
        raise ValueError(f"k is how many neighbours are listed and must be at least 1; got {k}.")
    lengths = np.linalg.norm(vectors, axis=1)
    if not lengths.all():
        raise ValueError(
            f"vector {int(lengths.argmin())} is zero and has no direction. Leave the draw out, or embed its text again."
        )
    units = vectors / lengths[:, None]
    code, n_problems = _codes(problems_N)
    columns: dict[str, list[npt.NDArray[np.generic]]] = {
        "draw": [], "other": [], "relation": [], "rank": [], "distance": []
    }  # fmt: skip
    by_problem = np.split(
        np.argsort(code, kind="stable"), np.cumsum(np.bincount(code, minlength=n_problems))[:-1]
    )
    for rows in by_problem:
        m, n = len(rows), min(k, len(rows) - 1)
        if not n:
            continue
        # Rounded, or the noise of the last digit would decide which of two equal draws comes first.
        distances = np.clip(np.round(1.0 - units[rows] @ units[rows].T, 6), 0.0, 2.0)
        for relation, key in (("near", distances), ("far", -distances)):
            sortable = key.copy()
            np.fill_diagonal(sortable, np.inf)
            chosen = np.argsort(sortable, axis=1, kind="stable")[:, :n]
            columns["draw"].append(np.repeat(rows, n))
            columns["other"].append(rows[chosen].ravel())
            columns["relation"].append(np.full(m * n, relation, dtype=object))
            columns["rank"].append(np.tile(np.arange(1, n + 1), m))
            columns["distance"].append(np.take_along_axis(distances, chosen, axis=1).ravel())
    types = {"draw": "int64", "other": "int64", "relation": "string", "rank": "int64", "distance": "float64"}
    table = pd.DataFrame({name: np.concatenate(parts) if parts else [] for name, parts in columns.items()})
    table = table.astype(types)
    order = table["relation"].map({"near": 0, "far": 1})
    table = table.assign(order=order).sort_values(["draw", "order", "rank"], ignore_index=True)
    return table.drop(columns="order")


def tell_apart(
    vectors_N_D: npt.ArrayLike,
    problems_N: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    resampling: Resampling,
    within_N: npt.ArrayLike | None = None,
) -> Estimate:
    """Estimate how well one direction tells two kinds of draws apart, on problems that it was not made of.

    Of two draws of one problem, one of each kind, the one that lies further in the direction from the mean of the
    one kind to the mean of the other is taken for the other kind. The value is how often that is right: 0.5 is a
    coin toss, 1 is every time. The direction is made anew for each problem, of all other problems.

    Parameters
    ----------
    vectors_N_D
        One vector per draw, or its place on a plane.
    problems_N
        Which problem each draw answers.
    labels_N
        True for one kind, False for the other.
    resampling
        Seed, number of resamples and confidence; problems are resampled, their directions are not made again.
    within_N
        What both draws of a pair must share besides the problem, as their arm; None for nothing.

    Returns
    -------
    Mean over problems that have such a pair of the share of pairs told apart; NaN, with the reason, where no
    problem has one or no other problem gives a direction.

    Notes
    -----
    A nearest-centroid rule (the direction of its boundary), left-one-problem-out, read by the area under the ROC
    curve within a problem, which asks for no threshold; ties count one half.
    """
    vectors = _check(vectors_N_D, problems_N)
    labels = np.asarray(labels_N, dtype=bool)
    problem, n_problems = _codes(problems_N)
    group = problem
    if within_N is not None:
        group, _ = _codes([f"{p}\0{w}" for p, w in zip(problem, np.asarray(within_N), strict=True)])
    centred = centre(vectors, group)
    sums, counts = np.zeros((2, n_problems, vectors.shape[1])), np.zeros((2, n_problems))
    np.add.at(sums, (labels.astype(int), problem), centred)
    np.add.at(counts, (labels.astype(int), problem), 1)
    shares, n_draws = [], 0
    for p in range(n_problems):
        left = counts.sum(axis=1) - counts[:, p]
        if not left.all():
            continue
        without = (sums.sum(axis=1) - sums[:, p]) / left[:, None]
        rows = np.flatnonzero(problem == p)
        score = centred[rows] @ (without[1] - without[0])
        pairs = labels[rows][:, None] & ~labels[rows][None] & (group[rows][:, None] == group[rows][None])
        if not pairs.any():
            continue
        gap = np.round(score[:, None] - score[None], 9)[pairs]
        shares.append(float(np.mean((gap > 0) + 0.5 * (gap == 0))))
        n_draws += int((pairs.any(axis=0) | pairs.any(axis=1)).sum())
    if not shares:
        reason = "no problem has draws of both kinds that another problem gives a direction for"
        return Estimate(float("nan"), None, None, 0, 0, "left-one-problem-out", reason)
    return estimate(
        np.array(shares)[:, None], lambda means: means[..., 0], resampling, n_draws, support=(0.0, 1.0)
    )


def _check(vectors_N_D: npt.ArrayLike, problems_N: npt.ArrayLike) -> Floats:
    vectors = np.asarray(vectors_N_D, dtype=np.float64)
    n = len(np.asarray(problems_N))
    if vectors.ndim != 2 or not len(vectors) or len(vectors) != n or vectors.shape[1] < 2:
        raise ValueError(
            f"vectors must be one row of two numbers or more for each draw; got shape {vectors.shape} for {n} draws."
        )
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        raise ValueError(f"vector {int(broken.argmax())} is not finite. Embed its text again.")
    return vectors


def _codes(names_N: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], int]:
    """Return names as numbers from 0, and how many there are."""
    code, known = pd.factorize(np.asarray(names_N))
    return code.astype(np.int64), len(known)
