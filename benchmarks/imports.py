"""One hundred thousand draws in JSON lines: the import, with all its checks, against a plain read of the same file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from panelbook.rollouts.imports import Options, read_imports

N_PROBLEMS, N_SAMPLES = 500, 100
TEXT = "Let us look at the parity of each term. " * 8
"""A short completion: the longer it is, the more of both times is spent on parsing."""


def write_log(path: Path) -> None:
    """Write two arms' draws under the names of another tool."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as stream:
        for arm, (a, b) in (("panel", (0.8, 1.6)), ("think", (2.0, 1.0))):
            for problem, rate in enumerate(rng.beta(a, b, N_PROBLEMS)):
                right, tokens = rng.random(N_SAMPLES) < rate, rng.integers(50, 4000, N_SAMPLES)
                for sample in range(N_SAMPLES):
                    row = {
                        "model": arm,
                        "question_id": f"problem-{problem:05d}",
                        "epoch": sample,
                        "is_correct": bool(right[sample]),
                        "response": TEXT,
                        "output_tokens": int(tokens[sample]),
                        "finish_reason": "stop",
                        "prediction": str(problem),
                    }
                    stream.write(json.dumps(row) + "\n")


def measure_import(path: Path) -> dict[tuple[str, str, str], float]:
    """Right draws and tokens of every arm and problem by the import: read, matched, checked, counted."""
    counts = read_imports([path], Options("synthetic")).counts
    found: dict[tuple[str, str, str], float] = {}
    for row in counts.itertuples():
        found[row.arm, row.problem_id, "right"] = 1 + row.c
        found[row.arm, row.problem_id, "tokens"] = row.mean_tokens
    return found


def reference_import(path: Path) -> dict[tuple[str, str, str], float]:
    """The same by pandas alone: `read_json` and one grouping, nothing checked."""
    rows = pd.read_json(path, lines=True)
    counts = rows.groupby(["model", "question_id"]).agg(
        c=("is_correct", "sum"), mean_tokens=("output_tokens", "mean")
    )
    found: dict[tuple[str, str, str], float] = {}
    for (arm, problem), row in counts.iterrows():
        found[arm, problem, "right"] = 1 + row["c"]
        found[arm, problem, "tokens"] = row["mean_tokens"]
    return found
