r"""Splits: which problems are nearly the same question, and who may be held out.

A held-out score means nothing if its questions, or theirs in other spacing, were trained on. So similarity is
measured on shingles (runs of three tokens, blind to case, punctuation and LaTeX looks), found exactly rather
than by sampling, and a problem with a near-duplicate is never held out.

Not handled: the same question in other words, or with other numbers in a short text.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from panelbook.study.problems import Problem, natural_key, order

# From here on, two questions count as nearly the same. In OlympiadBench, parts of one problem that share their
# stem lie between 0.7 and 0.99; in GSM8K, pairs above 0.6 are the same story with another name or number.
NEAR = 0.7


@dataclass(frozen=True)
class Overlap:
    """Two problems that are nearly the same question: their ids, and the Jaccard similarity of shingles."""

    first_id: str
    second_id: str
    similarity: float


@dataclass(frozen=True)
class Split:
    """Problems held out for evaluation, and the rest; both ordered by id."""

    heldout: list[Problem]
    rest: list[Problem]


_TOKEN = re.compile(r"\\[a-z]+|[a-z]+|\d+(?:\.\d+)?|[-+*/^=<>]")
_LOOKS = re.compile(r"\\(?:left|right|displaystyle|quad|qquad|text|mathrm)(?![a-z])|\\[,;:! ]")


def shingles(question: str, size: int = 3) -> frozenset[tuple[str, ...]]:
    r"""Return the runs of `size` tokens in a question, blind to case, spacing, punctuation and LaTeX looks.

    Examples
    --------
    >>> shingles(r"Compute $\dfrac{1}{2}$.") == shingles(r"compute \( \frac{1}{2} \)")
    True
    """
    text = _LOOKS.sub(" ", question.lower()).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    tokens = _TOKEN.findall(text)
    return frozenset(tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1)))


def find_overlap(
    pool: Sequence[Problem], evaluation: Sequence[Problem], threshold: float = NEAR
) -> list[Overlap]:
    """Find the problems of a pool that nearly repeat one of an evaluation slice.

    Exact, not sampled. Two sets with Jaccard similarity of at least t share one of the rarest
    ``n - ceil(t n) + 1`` members of either (prefix filtering), so only problems that share a rare shingle
    are ever compared.

    Parameters
    ----------
    pool, evaluation
        Problems; ids are unique within each.
    threshold
        Least Jaccard similarity of shingles, in (0, 1].

    Returns
    -------
    list of Overlap
        `first_id` from the pool, `second_id` from the evaluation slice; most similar first, then by id.

    References
    ----------
    Bayardo, Ma and Srikant (2007), Scaling up all pairs similarity search, section 4.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1]; got {threshold}.")
    left = {problem.problem_id: shingles(problem.question) for problem in pool}
    right = {problem.problem_id: shingles(problem.question) for problem in evaluation}
    counts = Counter(shingle for found in (*left.values(), *right.values()) for shingle in found)

    def prefix(found: frozenset[tuple[str, ...]]) -> list[tuple[str, ...]]:
        rarest_first = sorted(found, key=lambda shingle: (counts[shingle], shingle))
        return rarest_first[: len(found) - math.ceil(threshold * len(found) - 1e-9) + 1]

    holders: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for problem_id, found in right.items():
        for shingle in prefix(found):
            holders[shingle].append(problem_id)
    overlaps = []
    for first_id, found in left.items():
        for second_id in {holder for shingle in prefix(found) for holder in holders[shingle]}:
            other = right[second_id]
            similarity = len(found & other) / len(found | other)
            if similarity >= threshold:
                overlaps.append(Overlap(first_id, second_id, similarity))
    return sorted(
        overlaps, key=lambda pair: (-pair.similarity, natural_key(pair.first_id), natural_key(pair.second_id))
    )


def find_near_duplicates(problems: Sequence[Problem], threshold: float = NEAR) -> list[Overlap]:
    """Find the pairs of problems that are nearly the same question; see `find_overlap`."""
    pairs = find_overlap(problems, problems, threshold)
    return [pair for pair in pairs if natural_key(pair.first_id) < natural_key(pair.second_id)]


def split_problems(
    problems: Sequence[Problem], *, n_heldout_per_source: int, seed: int, threshold: float = NEAR
) -> Split:
    """Hold out problems of every source, none of which has a near-duplicate anywhere in the pool.

    Near-duplicates therefore stay together on the training side, and the held-out problems are distinct
    questions, as statistics over problems assume. The draw depends on the seed and on the ids of each
    source alone: not on the order of the rows, on other sources or on Python's hash seed.

    Parameters
    ----------
    problems
        The pool.
    n_heldout_per_source
        Problems to hold out of each source.
    seed
        Seed of the draw.
    threshold
        Similarity from which two problems count as near-duplicates.

    Raises
    ------
    ValueError
        If a source has too few problems without near-duplicates.
    """
    ordered = order(problems)
    repeated = {
        problem_id
        for pair in find_near_duplicates(ordered, threshold)
        for problem_id in (pair.first_id, pair.second_id)
    }
    heldout: set[str] = set()
    for source in sorted({problem.source for problem in ordered}):
        distinct = [
            problem.problem_id
            for problem in ordered
            if problem.source == source and problem.problem_id not in repeated
        ]
        if len(distinct) < n_heldout_per_source:
            raise ValueError(
                f"source {source!r} has {len(distinct)} problems without a near-duplicate, fewer than the "
                f"{n_heldout_per_source} to hold out. Lower that, or raise threshold={threshold}."
            )
        heldout.update(random.Random(f"{seed}:{source}").sample(distinct, n_heldout_per_source))
    return Split(
        heldout=[problem for problem in ordered if problem.problem_id in heldout],
        rest=[problem for problem in ordered if problem.problem_id not in heldout],
    )


def take_round_robin(problems: Sequence[Problem], n: int, seed: int) -> list[Problem]:
    """Draw `n` problems, one of each source in turn, each source shuffled; a short source drops out.

    Raises
    ------
    ValueError
        If there are fewer than `n`.
    """
    if n > len(problems):
        raise ValueError(f"cannot take n={n} problems of {len(problems)}; lower n.")
    queues = []
    for source in sorted({problem.source for problem in problems}):
        queue = [problem for problem in order(problems) if problem.source == source]
        random.Random(f"{seed}:{source}").shuffle(queue)
        queues.append(iter(queue))
    taken: list[Problem] = []
    while len(taken) < n:
        taken += [problem for queue in queues if (problem := next(queue, None)) is not None]
    return taken[:n]
