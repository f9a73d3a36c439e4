"""One million synthetic draws: the measures against what one would write without them."""

import math
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from panelbook.measure.passk import pass_at_k_curve, pass_at_k_matrix
from panelbook.measure.tokens import bucket_draws
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts.schema import count_draws

N_PROBLEMS, N_SAMPLES = 5_000, 100
KS = list(range(1, 33))


def write_draws(path: Path) -> None:
    """Write two arms' draws as a rollouts table: beta-binomial successes, log-normal lengths."""
    rng = np.random.default_rng(0)
    tables = []
    for arm, (a, b), scale in (("panel", (0.8, 1.6), 6.5), ("think", (2.0, 1.0), 8.0)):
        rate = np.repeat(rng.beta(a, b, N_PROBLEMS), N_SAMPLES)
        correct = rng.random(rate.size) < rate
        tokens = np.ceil(rng.lognormal(scale, 0.5, rate.size)).astype("int64")
        tables.append(
            pd.DataFrame(
                {
                    "study": "synthetic",
                    "benchmark": "synthetic",
                    "arm": arm,
                    "checkpoint": "none",
                    "problem_id": np.repeat([f"problem-{i:05d}" for i in range(N_PROBLEMS)], N_SAMPLES),
                    "source": "synthetic",
                    "sample_id": np.tile(np.arange(N_SAMPLES), N_PROBLEMS),
                    "status": np.where(correct, "correct", "wrong"),
                    "correct": correct,
                    "completion_tokens": tokens,
                    "max_tokens": 16384,
                    "temperature": 1.0,
                }
            )
        )
    keys = ["study", "benchmark", "arm", "checkpoint", "problem_id", "source", "status"]
    pd.concat(tables, ignore_index=True).astype(dict.fromkeys(keys, "category")).to_parquet(path)


def measure_pass_at_k(draws: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Pass@k by the library: rows to counts, counts to the mean over problems."""
    found = {}
    for arm, rows in count_draws(draws).groupby("arm"):
        means = pass_at_k_matrix(rows["n"], rows["c"], KS).mean(axis=0)
        found |= {(str(arm), k): float(mean) for k, mean in zip(KS, means, strict=True)}
    return found


def measure_pass_at_k_with_intervals(draws: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Pass@k by the library with an interval at every k, from 1,000 resamples of problems."""
    curve = pass_at_k_curve(count_draws(draws), KS, Resampling(seed=0, n_resamples=1000))
    return {(row.arm, row.k): row.estimate for row in curve.itertuples()}


def reference_pass_at_k(draws: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Pass@k by plain Python over rows: count in dictionaries, one binomial ratio per problem and k; no interval."""
    n: dict[tuple[str, str], int] = defaultdict(int)
    c: dict[tuple[str, str], int] = defaultdict(int)
    for arm, problem, status in zip(draws["arm"], draws["problem_id"], draws["status"], strict=True):
        n[arm, problem] += 1
        c[arm, problem] += status == "correct"
    found = {}
    for arm in sorted({arm for arm, _ in n}):
        for k in KS:
            values = [1 - math.comb(n[key] - c[key], k) / math.comb(n[key], k) for key in n if key[0] == arm]
            found[arm, k] = math.fsum(values) / len(values)
    return found


def measure_tokens(draws: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Token statistics of paired draws by the library, with intervals from 1,000 resamples of problems."""
    buckets = bucket_draws(draws, "panel", "think", Resampling(seed=0, n_resamples=1000))
    columns = ("first_mean", "second_mean", "first_median", "second_median", "ratio_geomean")
    return {(row["bucket"], column): row[column] for _, row in buckets.iterrows() for column in columns}


def reference_tokens(draws: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Token statistics by plain Python: a dictionary of pairs, then the statistics module; no interval."""
    pairs: dict[tuple[str, int], dict[str, tuple[bool, int]]] = defaultdict(dict)
    columns = ("arm", "problem_id", "sample_id", "status", "completion_tokens")
    for arm, problem, sample, status, tokens in zip(*(draws[name] for name in columns), strict=True):
        pairs[problem, sample][arm] = (status == "correct", tokens)
    sorted_pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    names = {
        (True, True): "both",
        (True, False): "first_only",
        (False, True): "second_only",
        (False, False): "neither",
    }
    for pair in pairs.values():
        (first, first_tokens), (second, second_tokens) = pair["panel"], pair["think"]
        sorted_pairs[names[first, second]].append((first_tokens, second_tokens))
    found = {}
    for bucket, lengths in sorted_pairs.items():
        first_lengths, second_lengths = zip(*lengths, strict=True)
        found[bucket, "first_mean"] = statistics.fmean(first_lengths)
        found[bucket, "second_mean"] = statistics.fmean(second_lengths)
        found[bucket, "first_median"] = statistics.median(first_lengths)
        found[bucket, "second_median"] = statistics.median(second_lengths)
        found[bucket, "ratio_geomean"] = statistics.geometric_mean([y / x for x, y in lengths])
    return found
