"""Windows: what of a draw is read, by which encoder, and how much of it is not read at all.

Between a draw and its vector stand three choices: what is cut out of the text (`STRIPS`), which part of the rest is
taken (`WINDOWS`), and which encoder reads it. Every combination is a way to measure spread; their tables feed
`panelbook.measure.multiverse`.

An encoder reads a limited number of word pieces and drops the rest without a word, so each combination is counted
too: pieces of the text, pieces in the window, pieces read.

Two encoders need no model: TF-IDF over words, and over letters. They know no meaning, and miss nothing.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.measure.diversity import mean_pairwise_distance
from panelbook.measure.uncertainty import Resampling, estimate
from panelbook.measure.variety import round_distance
from panelbook.rollouts.embed import Encoder, EncoderError, Vectors, extract_traces
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.schema import TableError
from panelbook.study.arithmetic import strip_labels

Counts = npt.NDArray[np.int64]

WINDOWS = ("head", "middle", "tail", "whole")
"""Parts of a text: a number of characters from its head, middle or tail; or all of it, in as many chunks as the
encoder needs to read every word, their vectors averaged."""

STRIPS = ("nothing", "tags", "labels", "numbers")
"""What is cut out: nothing (the whole completion); tags (what stands between them is left, as in the published
study); with them the labels of the miniature's turns; with the tags every number, put down as 0."""

CHOICES = ("encoder", "window", "stripped", "draws", "kept")
"""What makes a specification: the three above, how many draws of a problem, and whether all of them or the right."""

PUBLISHED_HEAD = 2000
"""Characters of a trace that the published study embeds."""
PUBLISHED_LONG_HEAD = 8000
"""Characters in its check that a longer window changes nothing."""
PUBLISHED_WINDOW = 384
"""Word pieces that its encoder, all-mpnet-base-v2, reads, two marks included."""

TERMS: Mapping[str, Mapping[str, Any]] = {
    "words": {"analyzer": "word", "token_pattern": r"\S+"},
    "letters": {"analyzer": "char", "ngram_range": (1, 3)},
}
"""Encoders without a model: name -> what a term is, as scikit-learn's TfidfVectorizer takes it."""

TRANSCRIPTS = "reports/case_study/transcripts.json"
# A text with nothing left still needs a direction; alike for all such texts.
EMPTY = "(empty)"
# Texts encoded at once.
BATCH = 32
# An encoder's start and end marks, which `Encoder.count_pieces` and `Encoder.window` include.
MARKS = 2


class TextEncoder(Protocol):
    """What turns groups of texts into vectors."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def window(self) -> int | None:
        """Word pieces that it reads of a text, its marks included; None where it reads all."""

    def encode(self, groups: Sequence[Sequence[str]]) -> list[Vectors]:
        """Return one array of shape (N, D) per group."""

    def count_pieces(self, texts: Sequence[str]) -> Counts:
        """Return how many pieces each text has for this encoder, its marks included."""


class TermEncoder:
    """TF-IDF over words or letters: a text is how often its terms occur, rare terms weighted up.

    Parameters
    ----------
    name
        A name in `TERMS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.window: int | None = None
        """None: every word counts."""

    def encode(self, groups: Sequence[Sequence[str]]) -> list[Vectors]:
        """Return the vectors, of length 1, of groups of texts; all groups are the corpus that weights terms."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # deferred: it takes seconds

        distinct = sorted({text for texts in groups for text in texts})
        row = {text: i for i, text in enumerate(distinct)}
        matrix = TfidfVectorizer(**TERMS[self.name]).fit_transform(distinct)
        return [matrix[[row[text] for text in texts]].toarray().astype(np.float32) for texts in groups]

    def count_pieces(self, texts: Sequence[str]) -> Counts:
        """Return the words of each text, and as many marks as a sentence encoder adds."""
        return np.array([len(text.split()) + MARKS for text in texts], dtype=np.int64)


@dataclass(frozen=True)
class Reading:
    """One encoder's vectors of one window of one text, and how much of it they rest on.

    Parameters
    ----------
    vectors_N_D
        One vector of length 1 per draw.
    pieces_N
        Word pieces of the text, after stripping.
    given_N
        Of which stand in the window.
    read_N
        Of which the encoder reads.
    """

    vectors_N_D: Vectors
    pieces_N: Counts
    given_N: Counts
    read_N: Counts


Readings = dict[tuple[str, str], Reading]
"""(window, stripped) -> reading."""


def load_encoder(name: str, cache: Path) -> TextEncoder:
    """Return the encoder called `name`: one of `TERMS`, or a sentence encoder as `Encoder` takes it.

    Raises
    ------
    EncoderError
        If it is not to be had.
    """
    if name in TERMS:
        return TermEncoder(name)
    try:
        return Encoder(name, cache)
    except EncoderError as error:
        raise EncoderError(f"{error} These need no model: {', '.join(TERMS)}.") from None


def select_draws(
    rollouts: pd.DataFrame, first: str, second: str, *, n_problems: int, n_draws: int
) -> pd.DataFrame:
    """Return the first draws of some problems under both arms: equally many of each, evenly over sources.

    Parameters
    ----------
    rollouts
        Rollouts table of one benchmark.
    first, second
        The two arms.
    n_problems
        Problems wanted; fewer where fewer have enough draws. Within a source they are taken at even steps through the
        sorted ids, so that no end of the list is preferred.
    n_draws
        Draws of each problem and arm, those with the lowest sample_id.

    Raises
    ------
    TableError
        If an arm was drawn at several checkpoints, or no problem has enough draws under both arms.
    """
    mine = rollouts[rollouts["arm"].isin([first, second])]
    for arm, rows in mine.groupby("arm"):
        checkpoints = sorted(set(rows["checkpoint"]))
        if len(checkpoints) > 1:
            raise TableError(
                f"rollouts of arm {arm!r} come from {len(checkpoints)} checkpoints: {', '.join(checkpoints[:3])}. "
                "Select one."
            )
    drawn = mine.pivot_table(
        index=["source", "problem_id"], columns="arm", values="sample_id", aggfunc="nunique", fill_value=0
    ).reindex(columns=[first, second], fill_value=0)
    enough = drawn[(drawn >= n_draws).all(axis=1)].index.to_frame(index=False)
    if enough.empty:
        raise TableError(
            f"no problem has {n_draws} draws under both {first!r} and {second!r}. Lower n_embedded or draw more."
        )
    by_source = [sorted(rows["problem_id"]) for _, rows in enough.groupby("source")]
    chosen = {
        problem for ids, size in _share_out(by_source, n_problems) for problem in _spread_out(ids, size)
    }
    kept = mine[mine["problem_id"].isin(chosen)].sort_values(["problem_id", "arm", "sample_id"])
    return kept[kept.groupby(["problem_id", "arm"]).cumcount() < n_draws].reset_index(drop=True)


def strip_texts(rollouts: pd.DataFrame, stripped: str) -> list[str]:
    """Return the text of each draw with something cut out, see `STRIPS`.

    Raises
    ------
    ValueError
        If `stripped` is none of them.
    """
    if stripped not in STRIPS:
        raise ValueError(f"stripped must be one of {', '.join(STRIPS)}; got {stripped!r}.")
    texts = list(rollouts["completion"]) if stripped == "nothing" else extract_traces(rollouts)
    if stripped == "labels":
        texts = [strip_labels(arm, text) for arm, text in zip(rollouts["arm"], texts, strict=True)]
    if stripped == "numbers":
        texts = [re.sub(r"\d+", "0", text) for text in texts]
    return [text if text.strip() else EMPTY for text in texts]


def cut_window(text: str, window: str, chars: int) -> str:
    """Return one part of a text, see `WINDOWS`; the whole text where it is no longer than `chars`.

    Raises
    ------
    ValueError
        If `window` is none of them, or `chars` is not positive.

    Examples
    --------
    >>> [cut_window("abcdefg", window, 3) for window in WINDOWS]
    ['abc', 'cde', 'efg', 'abcdefg']
    """
    if window not in WINDOWS or chars < 1:
        raise ValueError(
            f"window must be one of {', '.join(WINDOWS)} and chars at least 1; got {window!r}, {chars}."
        )
    start = {"head": 0, "middle": (len(text) - chars) // 2, "tail": len(text) - chars, "whole": 0}[window]
    part = text if window == "whole" or len(text) <= chars else text[start : start + chars]
    return part if part.strip() else EMPTY


def split_to_window(text: str, encoder: TextEncoder) -> list[str]:
    """Split a text at white space into the fewest chunks of about equal size that the encoder reads whole.

    A single word that is longer than the encoder's window stays one chunk, and is cut by the encoder.

    Parameters
    ----------
    text
        Any text that is not blank.
    encoder
        With its window; without one the text is its only chunk.
    """
    if encoder.window is None or encoder.count_pieces([text])[0] <= encoder.window:
        return [text]
    words = text.split()
    sizes = encoder.count_pieces(words) - MARKS
    before = np.cumsum(sizes) - sizes
    # A chunk ends with the word that crosses its mark, so a mark leaves room for the longest word.
    room = max(encoder.window - MARKS - int(sizes.max()), 1)
    mark = sizes.sum() / math.ceil(sizes.sum() / room)
    chunk_of_word = (before // mark).astype(int)
    return [
        " ".join(word for word, chunk in zip(words, chunk_of_word, strict=True) if chunk == i)
        for i in sorted(set(chunk_of_word.tolist()))
    ]


def read_windows(
    rollouts: pd.DataFrame,
    encoder: TextEncoder,
    *,
    windows: Sequence[str],
    strips: Sequence[str],
    window_chars: int,
) -> Readings:
    """Read every window of every stripped text with one encoder; each distinct text is encoded once.

    Parameters
    ----------
    rollouts
        Rollouts table; the vectors are in the order of its rows.
    encoder
        Turns texts into vectors.
    windows, strips
        Of `WINDOWS` and `STRIPS`.
    window_chars
        Characters of the head, middle and tail windows.

    Notes
    -----
    For an encoder without a model, the texts of one window and one way of stripping are the corpus that weights its
    terms.
    """
    chunks: dict[tuple[str, str], list[list[str]]] = {}
    counted: dict[tuple[str, str], tuple[Counts, Counts, Counts]] = {}
    for stripped in strips:
        texts = strip_texts(rollouts, stripped)
        pieces = encoder.count_pieces(texts) - MARKS
        for window in windows:
            given = [cut_window(text, window, window_chars) for text in texts]
            split = [split_to_window(text, encoder) if window == "whole" else [text] for text in given]
            chunks[window, stripped] = split
            # A word cut in two at a window's edge may count as more pieces than it had.
            in_window = np.minimum(encoder.count_pieces(given) - MARKS, pieces)
            counted[window, stripped] = (
                pieces,
                in_window,
                np.minimum(_count_read(split, encoder), in_window),
            )

    corpora = [[key] for key in chunks] if encoder.window is None else [list(chunks)]
    readings: Readings = {}
    for corpus in corpora:
        vector_of = _encode_distinct(
            (part for key in corpus for parts in chunks[key] for part in parts), encoder
        )
        for key in corpus:
            means = [np.mean([vector_of[part] for part in parts], axis=0) for parts in chunks[key]]
            vectors = np.array(means) / np.linalg.norm(means, axis=1, keepdims=True)
            readings[key] = Reading(vectors.astype(np.float32), *counted[key])
    return readings


def list_specifications(
    rollouts: pd.DataFrame, readings: Mapping[str, Readings], n_draws: Iterable[int]
) -> pd.DataFrame:
    """Measure the spread of every problem under every specification.

    Parameters
    ----------
    rollouts
        As `select_draws` returns it, and as it was read.
    readings
        Encoder -> its readings of these rollouts.
    n_draws
        Numbers of draws, each of them the first so many.

    Returns
    -------
    One row per specification, arm and problem: the columns of `CHOICES`, arm, problem_id, value (mean pairwise
    distance, NaN with fewer than two such draws) and n (draws behind it).
    """
    place = rollouts.groupby(["problem_id", "arm"]).cumcount().to_numpy()
    right = (rollouts["status"] == "correct").to_numpy()
    groups = [
        (rows.iloc[0]["problem_id"], rows.iloc[0]["arm"], rows.index.to_numpy())
        for _, rows in rollouts.reset_index(drop=True).groupby(["problem_id", "arm"])
    ]
    table = []
    for n in sorted(set(n_draws)):
        for kept, mask in (("all", place < n), ("right", (place < n) & right)):
            for problem, arm, rows in groups:
                mine = rows[mask[rows]]
                for encoder, windows in readings.items():
                    for (window, stripped), reading in windows.items():
                        vectors = reading.vectors_N_D[mine]
                        value = round_distance(mean_pairwise_distance(vectors)) if len(mine) > 1 else np.nan
                        table.append((encoder, window, stripped, n, kept, arm, problem, value, len(mine)))
    return pd.DataFrame(table, columns=[*CHOICES, "arm", "problem_id", "value", "n"])


def list_reach(rollouts: pd.DataFrame, readings: Mapping[str, Readings]) -> pd.DataFrame:
    """Count what each reading rests on.

    Returns
    -------
    One row per encoder, window, way of stripping and draw: those three, arm, problem_id, pieces, given, read.
    """
    parts = [
        rollouts[["arm", "problem_id"]].assign(
            encoder=encoder,
            window=window,
            stripped=stripped,
            pieces=reading.pieces_N,
            given=reading.given_N,
            read=reading.read_N,
        )
        for encoder, windows in readings.items()
        for (window, stripped), reading in windows.items()
    ]
    return pd.concat(parts, ignore_index=True)


def estimate_unread(
    reach: pd.DataFrame, resampling: Resampling, by: Sequence[str] = ("arm",)
) -> pd.DataFrame:
    """Share of the text that has no part in a vector.

    Parameters
    ----------
    reach
        One row per draw: problem_id, pieces, given, read, and the columns of `by`.
    resampling
        Seed, number of resamples and confidence; problems are resampled with all their draws.
    by
        What is told apart.

    Returns
    -------
    Columns of `by`, quantity (`beyond`: share of the window beyond what the encoder reads; `unread`: share of the
    whole text), estimate, low, high, n_problems, n_draws, method, reason.
    """
    rows = []
    for _, here in reach.groupby(list(by), sort=False):
        sums = here.groupby("problem_id")[["pieces", "given", "read"]].sum().to_numpy(float)
        for quantity, whole in (("beyond", 1), ("unread", 0)):
            share = estimate(
                np.column_stack([sums[:, whole] - sums[:, 2], sums[:, whole]]),
                lambda means: means[..., 0] / means[..., 1],
                resampling,
                len(here),
                support=(0.0, 1.0),
            )
            rows.append(
                here[list(by)].iloc[0].to_dict()
                | {
                    "quantity": quantity,
                    "estimate": share.value,
                    "low": share.low,
                    "high": share.high,
                    "n_problems": share.n_problems,
                    "n_draws": share.n_draws,
                    "method": share.method,
                    "reason": share.reason,
                }
            )
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def published_window(texts: Sequence[str]) -> str:
    """Return which of `WINDOWS` is nearest to the published study's: the whole of texts that its head would not cut."""
    return "whole" if max(map(len, texts)) <= PUBLISHED_HEAD else "head"


def read_transcripts(folder: Path) -> pd.DataFrame:
    """Read the published gallery: the only texts that the study tracks, one draw of each arm on each problem.

    Parameters
    ----------
    folder
        Of the published files, see `panelbook.rollouts.published.locate`.

    Returns
    -------
    Columns arm, problem_id, trace (what stands between the tags).

    Raises
    ------
    PublishedDataError
        Naming the file and the first record that is not as expected.
    """
    try:
        items = json.loads((folder / TRANSCRIPTS).read_text(encoding="utf-8"))["items"]
        rows = [
            {"arm": arm, "problem_id": str(item["id"]), "trace": str(item[arm]["reasoning"])}
            for item in items
            for arm in ("panel", "thinking")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PublishedDataError(
            f"{TRANSCRIPTS} is missing from {folder} or is not as expected: {error!r}. Run `panelbook fetch`."
        ) from None
    return pd.DataFrame(rows)


def list_transcript_reach(
    transcripts: pd.DataFrame,
    encoder: TextEncoder,
    heads: Sequence[int] = (PUBLISHED_HEAD, PUBLISHED_LONG_HEAD),
    window: int = PUBLISHED_WINDOW,
) -> pd.DataFrame:
    """Count what the published study's measurement rests on, in its 40 tracked transcripts.

    Parameters
    ----------
    transcripts
        See `read_transcripts`.
    encoder
        Its tokenizer counts; one of the same word pieces as the study's encoder, as MiniLM's is.
    heads
        Characters of a trace that are embedded.
    window
        Word pieces that the study's encoder reads, two marks included.

    Returns
    -------
    One row per head and trace: arm, problem_id, head_chars, pieces, given, read, and same: whether the encoder reads
    the same text as with the shortest head, because that fills its window or is the whole trace.
    """
    traces = list(transcripts["trace"])
    pieces = encoder.count_pieces(traces) - MARKS
    room = window - MARKS
    shortest = encoder.count_pieces([trace[: min(heads)] for trace in traces]) - MARKS
    whole = np.array([len(trace) <= min(heads) for trace in traces])
    parts = []
    for head in heads:
        given = np.minimum(encoder.count_pieces([trace[:head] for trace in traces]) - MARKS, pieces)
        parts.append(
            transcripts[["arm", "problem_id"]].assign(
                head_chars=head,
                pieces=pieces,
                given=given,
                read=np.minimum(given, room),
                same=(shortest > room) | whole,
            )
        )
    return pd.concat(parts, ignore_index=True)


def _count_read(split: Sequence[Sequence[str]], encoder: TextEncoder) -> Counts:
    """Word pieces that the encoder reads of all chunks of each text."""
    flat = [part for parts in split for part in parts]
    read = encoder.count_pieces(flat) - MARKS
    if encoder.window is not None:
        read = np.minimum(read, encoder.window - MARKS)
    ends = np.cumsum([len(parts) for parts in split])
    return np.array([chunk.sum() for chunk in np.split(read, ends[:-1])], dtype=np.int64)


def _encode_distinct(texts: Iterable[str], encoder: TextEncoder) -> dict[str, Vectors]:
    """Encode every distinct text once, in batches of texts of about one length, which leaves little to pad."""
    distinct = np.array(sorted(set(texts)), dtype=object)
    ordered = distinct[np.argsort(encoder.count_pieces(distinct.tolist()), kind="stable")].tolist()
    batches = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
    vectors = np.concatenate(encoder.encode(batches))
    return dict(zip(ordered, vectors, strict=True))


def _share_out(by_source: Sequence[list[str]], n_problems: int) -> list[tuple[list[str], int]]:
    """Give each source its number of problems: one each in turn until enough are taken."""
    sizes = [0] * len(by_source)
    while sum(sizes) < min(n_problems, sum(map(len, by_source))):
        open_sources = [i for i, ids in enumerate(by_source) if sizes[i] < len(ids)]
        for i in open_sources[: n_problems - sum(sizes)]:
            sizes[i] += 1
    return list(zip(by_source, sizes, strict=True))


def _spread_out(ids: Sequence[str], size: int) -> list[str]:
    """Return `size` of the ids at even steps."""
    return [ids[(2 * i + 1) * len(ids) // (2 * size)] for i in range(size)]
