r"""Variety: how much the draws of one problem differ, by eleven measures behind one interface.

A conclusion about diversity should not hang on the one number it was first told in. Every measure here takes the
`Draws` of one problem and returns one number; `MEASURES` lists them with what they read, their range, which way is
more varied, and whether they grow with the number of draws (then arms are compared at equal numbers only).

Notation: `N` draws of a problem, `D` embedding dimensions, $s_{ij}$ cosine similarity of draws i and j.

Not handled: embedding and windows (`panelbook.rollouts.windows`); what a difference is worth. Two of the
measures cut distances at a threshold, and no threshold is right for every encoder.

References
----------
Friedman, D. and Dieng, A. B. (2023). The Vendi Score: a diversity evaluation metric for machine learning. TMLR.
Pasarkar, A. P. and Dieng, A. B. (2024). Cousins of the Vendi Score. AISTATS; arXiv:2310.12952 (2023).
Hill, M. O. (1973). Diversity and evenness: a unifying notation and its consequences. Ecology 54(2).
Zhang, Y. et al. (2025). NoveltyBench: evaluating language models for humanlike diversity. arXiv:2504.05228.
Kuhn, L., Gal, Y. and Farquhar, S. (2023). Semantic uncertainty. ICLR; arXiv:2302.09664.
Li, J. et al. (2016). A diversity-promoting objective function for neural conversation models. NAACL.
Papineni, K. et al. (2002). BLEU: a method for automatic evaluation of machine translation. ACL.
Zhu, Y. et al. (2018). Texygen: a benchmarking platform for text generation models. SIGIR; arXiv:1802.01886.
Shaib, C. et al. (2024). Standardizing the measurement of text diversity. arXiv:2403.00553.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.counts import pair_arms
from panelbook.measure.diversity import mean_pairwise_distance
from panelbook.measure.uncertainty import ROUNDING, Floats, Ints, Resampling, estimate

# Largest cosine distance at which two draws count as saying the same. At the published study's 0.25 nearly all draws
# of a problem fall into one class in both arms, and a measure that never moves tells nothing.
THRESHOLD = 0.1

# Longest n-grams of self-BLEU.
BLEU_ORDER = 4


@dataclass(frozen=True)
class Draws:
    """The draws of one problem under one arm.

    Parameters
    ----------
    texts
        One text per draw, at least two, none blank.
    vectors_N_D
        One embedding per draw, none of them zero; their lengths do not matter.
    answers
        The final answer of each draw; None where it gave none, which counts as an answer of its own.
    """

    texts: Sequence[str]
    vectors_N_D: Floats
    answers: Sequence[str | None]

    def __post_init__(self) -> None:
        n = len(self.texts)
        if n < 2:
            raise ValueError(f"variety is about two draws or more; got {n}. Draw more completions.")
        if len(self.vectors_N_D) != n or len(self.answers) != n:
            raise ValueError(
                f"every draw needs a text, a vector and an answer; got {n} texts, {len(self.vectors_N_D)} "
                f"vectors and {len(self.answers)} answers."
            )
        blank = [i for i, text in enumerate(self.texts) if not text.strip()]
        if blank:
            raise ValueError(
                f"draw {blank[0]} has no text ({len(blank)} such draws). Leave it out and say so, or measure "
                "something that it has."
            )


@dataclass(frozen=True)
class Measure:
    """One way to say how varied the draws of a problem are.

    Parameters
    ----------
    title
        As a table or an axis names it.
    function
        Maps `Draws` to a number.
    reads
        What of the draws it looks at.
    range
        Smallest and largest value in words, with N for the number of draws.
    direction
        1 where a larger number is more varied, -1 where a smaller one is.
    grows_with_n
        Whether its expectation depends on the number of draws.
    help
        What it is, in one sentence.
    """

    title: str
    function: Callable[[Draws], float]
    reads: Literal["vectors", "texts", "answers"]
    range: str
    direction: Literal[1, -1]
    grows_with_n: bool
    help: str


def vendi_score(vectors_N_D: npt.ArrayLike, q: float = 1.0) -> float:
    r"""Effective number of distinct draws: the Hill number of order q of the similarity matrix's spectrum.

    Parameters
    ----------
    vectors_N_D
        One embedding per draw, scaled to unit length here.
    q
        Order, above 0. The larger q, the more the largest group of alike draws decides; infinity looks at it alone.

    Returns
    -------
    From 1 (all alike) to N (all at right angles).

    Raises
    ------
    ValueError
        If q is not above 0, or a row has no direction.

    Notes
    -----
    With :math:`\lambda_i` the eigenvalues of K / N, K the cosine similarities, which add up to 1 (Friedman and
    Dieng 2023, definition 2.1; Pasarkar and Dieng 2024, equation 1):
    :math:`V_1 = \exp(-\sum \lambda_i \log \lambda_i)`, :math:`V_q = (\sum \lambda_i^q)^{1 / (1 - q)}` and
    :math:`V_\infty = 1 / \max \lambda_i`. For q = 2 it is 1 over the mean of the squared similarities.

    Examples
    --------
    >>> round(vendi_score([[1, 0], [1, 0], [0, 2]], q=2), 3)  # 9 / (4 + 1)
    1.8
    """
    if not q > 0:
        raise ValueError(f"the order q must be above 0; got {q}. Use 1, 2 or infinity.")
    similarity = _similarities(vectors_N_D)
    eigenvalues = np.clip(np.linalg.eigvalsh(similarity / len(similarity)), 0.0, None)
    eigenvalues = eigenvalues[eigenvalues > ROUNDING] / eigenvalues.sum()
    if np.isinf(q):
        return float(1.0 / eigenvalues.max())
    if q == 1.0:
        return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
    return float((eigenvalues**q).sum() ** (1.0 / (1.0 - q)))


def partition_draws(vectors_N_D: npt.ArrayLike, threshold: float = THRESHOLD) -> Ints:
    """Put draws that say the same into classes, one draw at a time.

    A draw joins the first class whose first member lies within the threshold, else it opens a class. So classes
    depend on the order of the draws; draws of a problem can be exchanged, so no order is preferred.

    Parameters
    ----------
    vectors_N_D
        One embedding per draw, scaled to unit length here.
    threshold
        Largest cosine distance to a class's first member.

    Returns
    -------
    Class of each draw, shape (N,), numbered from 0 in the order in which they open.

    Raises
    ------
    ValueError
        If the threshold is negative, or a row has no direction.

    Notes
    -----
    The procedure of Zhang et al. (2025) and Kuhn et al. (2023), who ask a trained judge where this asks a distance.

    Examples
    --------
    >>> partition_draws([[1, 0], [0, 1], [2, 0.1]]).tolist()
    [0, 1, 0]
    """
    if threshold < 0:
        raise ValueError(f"a distance is 0 or more; the threshold is {threshold}.")
    distance = 1.0 - _similarities(vectors_N_D)
    classes = np.zeros(len(distance), dtype=np.int64)
    openers: list[int] = []
    for i in range(len(distance)):
        near = [c for c, opener in enumerate(openers) if distance[i, opener] <= threshold + ROUNDING]
        if not near:
            openers.append(i)
        classes[i] = near[0] if near else len(openers) - 1
    return classes


def entropy(labels: Sequence[object]) -> float:
    """Entropy in nats of how draws spread over classes, by plug-in: 0 (one class) to log N (all distinct).

    Parameters
    ----------
    labels
        Class of each draw.

    Notes
    -----
    The plug-in estimate is too small for few draws, by about (classes - 1) / 2N; alike for arms of equal N only
    where their classes are.

    Examples
    --------
    >>> round(entropy(["4", "4", "5", "7"]), 3)
    1.04
    """
    share = np.array(list(Counter(labels).values())) / len(labels)
    return float(max(0.0, -(share * np.log(share)).sum()))


def distinct_ngrams(texts: Sequence[str], n: int = 2) -> float:
    """Share of all n-grams of the draws that are distinct: distinct-n.

    Parameters
    ----------
    texts
        One text per draw; words are what white space separates.
    n
        Length of the n-grams, at least 1.

    Returns
    -------
    Above 0 to 1; 1 where no text has as many as n words, for then nothing is repeated.

    Notes
    -----
    Li et al. (2016) divide by the number of words; the number of n-grams is used here, so that 1 can be reached.
    It falls with the amount of text, so a wordier arm scores lower for that alone.

    Examples
    --------
    >>> distinct_ngrams(["a b c", "a b d"])  # a b, b c, b d of four
    0.75
    """
    if n < 1:
        raise ValueError(f"n-grams have at least one word; got n={n}.")
    grams = [gram for text in texts for gram in _ngrams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def self_bleu(texts: Sequence[str], order: int = BLEU_ORDER) -> float:
    r"""Mean BLEU of each draw against all the others as references: 1 where every draw is repeated.

    Parameters
    ----------
    texts
        One text per draw, at least two; words are what white space separates.
    order
        Longest n-grams; shorter for a text with fewer words.

    Returns
    -------
    0 (no word shared) to 1 (identical draws). The smaller, the more varied.

    Notes
    -----
    BLEU of Papineni et al. (2002): brevity penalty times the geometric mean of the clipped n-gram precisions, n = 1
    to `order` (Zhu et al. 2018 average it over the draws). Where an order longer than 1 has no match, half a match
    takes its place, so that one missing order does not make the product 0.

    Examples
    --------
    >>> self_bleu(["one and one is two", "one and one is two"])
    1.0
    """
    words = [text.split() for text in texts]
    scores = [_bleu(words[i], words[:i] + words[i + 1 :], order) for i in range(len(words))]
    return float(np.mean(scores))


def compression_ratio(texts: Sequence[str]) -> float:
    """Length of all draws together over their length when compressed; the smaller, the more varied.

    Parameters
    ----------
    texts
        One text per draw, joined by line breaks.

    Notes
    -----
    DEFLATE at its highest level, as gzip without its header (Shaib et al. 2024). It grows with the amount of text,
    and draws that are alike within themselves compress as well as draws that are alike to each other.
    """
    joined = "\n".join(texts).encode()
    return len(joined) / len(zlib.compress(joined, 9))


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "mean_distance": Measure(
            "mean pairwise distance",
            lambda d: round_distance(mean_pairwise_distance(d.vectors_N_D)),
            "vectors",
            "0 to N / (N - 1)",
            1,
            False,
            "mean cosine distance over all pairs of draws: the published study's measure",
        ),
        "vendi_1": Measure(
            "Vendi score, q = 1",
            lambda d: vendi_score(d.vectors_N_D, 1.0),
            "vectors",
            "1 to N",
            1,
            True,
            "effective number of distinct draws",
        ),
        "vendi_2": Measure(
            "Vendi score, q = 2",
            lambda d: vendi_score(d.vectors_N_D, 2.0),
            "vectors",
            "1 to N",
            1,
            True,
            "the same, common kinds weighted up: 1 over the mean squared similarity",
        ),
        "vendi_inf": Measure(
            "Vendi score, q infinite",
            lambda d: vendi_score(d.vectors_N_D, np.inf),
            "vectors",
            "1 to N",
            1,
            True,
            "the same, the most common kind alone",
        ),
        "n_classes": Measure(
            "distinct classes",
            lambda d: float(partition_draws(d.vectors_N_D).max() + 1),
            "vectors",
            "1 to N",
            1,
            True,
            "classes of draws that lie within a distance of each class's first",
        ),
        "class_entropy": Measure(
            "entropy of classes",
            lambda d: entropy(partition_draws(d.vectors_N_D).tolist()),
            "vectors",
            "0 to log N",
            1,
            True,
            "how evenly draws spread over those classes, in nats",
        ),
        "distinct_2": Measure(
            "distinct-2",
            lambda d: distinct_ngrams(d.texts, 2),
            "texts",
            "above 0 to 1",
            1,
            True,
            "share of word pairs that are distinct",
        ),
        "self_bleu": Measure(
            "self-BLEU",
            lambda d: self_bleu(d.texts),
            "texts",
            "0 to 1",
            -1,
            True,
            "how well each draw is made of n-grams of the others",
        ),
        "compression_ratio": Measure(
            "compression ratio",
            lambda d: compression_ratio(d.texts),
            "texts",
            "about 1 and above",
            -1,
            True,
            "length of all draws over their compressed length",
        ),
        "answer_entropy": Measure(
            "entropy of answers",
            lambda d: entropy(d.answers),
            "answers",
            "0 to log N",
            1,
            True,
            "how evenly draws spread over final answers, in nats",
        ),
        "n_answers": Measure(
            "distinct answers",
            lambda d: float(len(set(d.answers))),
            "answers",
            "1 to N",
            1,
            True,
            "number of different final answers",
        ),
    }
)
"""Name -> measure. An `answer` that is missing counts as an answer of its own."""


def round_distance(distance: float) -> float:
    """Return the distance, or 0 where it is no more than rounding: the ratio of two rounding errors is no effect."""
    return float(distance) if distance > ROUNDING else 0.0


def measure_variety(draws: Draws) -> dict[str, float]:
    """Return every measure of `MEASURES` for the draws of one problem."""
    return {name: measure.function(draws) for name, measure in MEASURES.items()}


def compare_measures(values: pd.DataFrame, first: str, second: str, resampling: Resampling) -> pd.DataFrame:
    """Compare two arms by every measure of `MEASURES`, on the same problems.

    Parameters
    ----------
    values
        One row per arm and problem: arm, problem_id, n (draws) and a column for each measure, see `measure_variety`.
    first, second
        The two arms.
    resampling
        Seed, number of resamples and confidence; problems are resampled, both arms and all measures together.

    Returns
    -------
    One row per measure: measure, title, first and second (means over problems); effect (relative difference,
    first / second - 1, its sign turned where a smaller value is more varied) and wider (share of problems on which
    the first arm is more varied, ties half), each with `_low`, `_high` and `_reason`; n_problems, n_draws, method.

    Raises
    ------
    ValueError
        If a column is missing or not finite, the arms share no problem, or a problem has unequal numbers of draws: most
        measures grow with that number.
    """
    pair = pair_arms(values.assign(c=0), first, second, tuple(MEASURES))
    unequal = pair.first["n"] != pair.second["n"]
    if unequal.any():
        row = int(np.flatnonzero(unequal)[0])
        raise ValueError(
            f"problem {pair.first['problem_id'][row]!r} has {pair.first['n'][row]} draws of {first} and "
            f"{pair.second['n'][row]} of {second}; most measures grow with the number of draws. Take equally many."
        )
    rows = []
    for name, measure in MEASURES.items():
        a_P, b_P = (side[name].to_numpy(dtype=float) for side in (pair.first, pair.second))
        gain_P = measure.direction * (a_P - b_P)
        wider_P = np.where(np.abs(gain_P) <= ROUNDING, 0.5, gain_P > 0)
        effect = estimate(
            np.column_stack([a_P, b_P]),
            lambda means, sign=measure.direction: sign * (means[..., 0] / means[..., 1] - 1.0),  # type: ignore[misc]
            resampling,
            pair.n_draws,
            n_unpaired=pair.n_unpaired,
        )
        wider = estimate(
            wider_P[:, np.newaxis], lambda means: means[..., 0], resampling, pair.n_draws, support=(0.0, 1.0)
        )
        rows.append(
            {
                "measure": name,
                "title": measure.title,
                "first": a_P.mean(),
                "second": b_P.mean(),
                "effect": effect.value,
                "effect_low": effect.low,
                "effect_high": effect.high,
                "effect_reason": effect.reason,
                "wider": wider.value,
                "wider_low": wider.low,
                "wider_high": wider.high,
                "wider_reason": wider.reason,
                "n_problems": effect.n_problems,
                "n_draws": effect.n_draws,
                "method": effect.method,
            }
        )
    ends = [f"{name}_{end}" for name in ("effect", "wider") for end in ("low", "high")]
    return pd.DataFrame(rows).astype(dict.fromkeys(ends, float))


def list_pairs(
    vectors_N_D: npt.ArrayLike, correct_N: npt.ArrayLike, lengths_N: npt.ArrayLike
) -> pd.DataFrame:
    """List every pair of draws of one problem with its distance and what the two have in common.

    Parameters
    ----------
    vectors_N_D
        One embedding per draw, scaled to unit length here.
    correct_N
        Whether each draw is right.
    lengths_N
        Length of each draw, in tokens.

    Returns
    -------
    One row per pair: i and j (the two draws), distance (cosine), n_correct (0, 1 or 2 of the two), length (their mean).

    Examples
    --------
    >>> list_pairs([[1, 0], [0, 1]], [True, False], [10, 30]).to_dict("records")
    [{'i': 0, 'j': 1, 'distance': 1.0, 'n_correct': 1, 'length': 20.0}]
    """
    distance = 1.0 - _similarities(vectors_N_D)
    correct, length = np.asarray(correct_N, dtype=np.int64), np.asarray(lengths_N, dtype=np.float64)
    if correct.shape != (len(distance),) or length.shape != (len(distance),):
        raise ValueError(
            f"every draw needs a vector, a grade and a length; got {len(distance)} vectors, {correct.shape[0]} "
            f"grades and {length.shape[0]} lengths."
        )
    i, j = np.triu_indices(len(distance), k=1)
    return pd.DataFrame(
        {
            "i": i,
            "j": j,
            "distance": [round_distance(x) for x in distance[i, j]],
            "n_correct": correct[i] + correct[j],
            "length": (length[i] + length[j]) / 2.0,
        }
    )


def _similarities(vectors_N_D: npt.ArrayLike) -> Floats:
    """Cosine similarities, shape (N, N), or an error that names the row without a direction."""
    rows = np.asarray(vectors_N_D, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1) if rows.ndim == 2 else np.zeros(0)
    if not len(lengths) or not np.all(np.isfinite(lengths) & (lengths > 0)):
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        what = f"row {bad[0]} has length {lengths[bad[0]]}" if len(bad) else f"the shape is {rows.shape}"
        raise ValueError(f"vectors_N_D needs one row with a direction for every draw; {what}.")
    units = rows / lengths[:, np.newaxis]
    return np.asarray(units @ units.T)


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _bleu(candidate: Sequence[str], references: Sequence[Sequence[str]], order: int) -> float:
    """BLEU of one text, smoothed as `self_bleu` says."""
    precisions = []
    for n in range(1, min(order, len(candidate)) + 1):
        mine = Counter(_ngrams(candidate, n))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(
                _ngrams(reference, n)
            )  # the union of multisets: the largest count of any reference
        total, matched = mine.total(), (mine & most).total()
        if n == 1 and matched == 0:
            return 0.0
        precisions.append(max(matched, 0.5) / total)
    # The reference nearest in length, the shorter of two that are equally near.
    length = min((abs(len(r) - len(candidate)), len(r)) for r in references)[1]
    brevity = min(0.0, 1.0 - length / len(candidate))
    return float(np.exp(brevity + np.mean(np.log(precisions))))
