"""Rollouts as logs of Inspect AI, to be read in its viewer or by any tool that reads its logs.

One log holds the draws of one arm at one checkpoint on one benchmark: a problem is a sample, its k-th draw the epoch
k, counted from 1 as Inspect does. `describe_log` says what a log holds, in plain values; `write_log` has Inspect's own
models check that and writes the file. Only the latter needs the package ``inspect-ai``, an extra of this project.

What has no field there stays with each sample, under ``metadata``: the whole row (``rollout``), so that
`panelbook.rollouts.imports` reads back exactly what was written, and the ``voices``.

The same draws give the same file: every id is a hash of what it names, and since rollouts record no times, all times
are `NO_TIME`.

What is *not* handled: draws as they are made (these are logs of finished runs), and events, of which there are none.

References: the log format, https://inspect.aisi.org.uk/eval-logs.html; version 2, written with inspect-ai 0.3.
"""

import hashlib
import importlib.util
import json
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from panelbook.errors import BookError
from panelbook.rollouts.imports import GRADE_LETTERS
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, read_rollouts
from panelbook.rollouts.store import read_lines
from panelbook.study.arms import ARMS
from panelbook.study.voices import Segment, take_apart
from panelbook.text import show_controls

LOG_KEY = ["study", "run_id", "benchmark", "arm", "checkpoint"]
"""Columns of rollouts that a log has one value of. Runs stay apart: each has a first draw of its own."""

NO_TIME = "2000-01-01T00:00:00+00:00"
"""Stands for the time that nobody recorded; Inspect wants one."""

FORMAT = 2
"""Raise it with any change of what is written: logs of older code are then seen to differ."""

SCORER = "correct"
NOT_RECORDED = "(not recorded)"

Questions = Mapping[tuple[str, str], tuple[str, str]]
"""(benchmark, problem_id) -> question and gold answer."""


class ExportFailed(BookError):
    """A log cannot be written; the message names it and says what to do."""


def check_installed() -> None:
    """Complain where the package that writes logs is missing, before anything is read.

    Raises
    ------
    ExportFailed
        If inspect-ai is not installed.
    """
    if importlib.util.find_spec("inspect_ai") is None:
        raise ExportFailed(
            "logs of Inspect AI are written by its own package, which is not installed. In the checkout: "
            "pip install -e '.[inspect]', or pip install inspect-ai."
        )


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of rollouts, or the transcript of a chat, of which draws may be ungraded.

    Raises
    ------
    BookError
        If the file is neither.
    """
    if path.suffix == ".parquet":
        return read_rollouts(path)
    if path.suffix != ".jsonl":
        raise ExportFailed(
            f"{path} is no table of this book: a .parquet of rollouts or the .jsonl of a chat. `panelbook import` "
            "makes one of other files, under runs/NAME/imported/."
        )
    table = pd.DataFrame(read_lines(path)[0])
    for name in ROLLOUTS_COLUMNS:
        if name not in table:
            raise ExportFailed(f"{path} is no transcript of a chat: its lines have no {name!r}.")
    return table


def read_questions(tables: Iterable[pd.DataFrame]) -> Questions:
    """Return the questions and gold answers of tables with benchmark, problem_id, question and gold."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for table in tables:
        columns = (table[name] for name in ("benchmark", "problem_id", "question", "gold"))
        for benchmark, problem_id, question, gold in zip(*columns, strict=True):
            known = isinstance(gold, str) and gold
            found[str(benchmark), str(problem_id)] = (str(question), gold if known else NOT_RECORDED)
    return found


def split_logs(rollouts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield for each log its file name and its rows, in order of names.

    Examples
    --------
    >>> row = {"study": "mine", "run_id": "r1", "benchmark": "gsm8k", "arm": "a/b", "checkpoint": "base"}
    >>> [name for name, rows in split_logs(pd.DataFrame([row]))]
    ['mine-gsm8k-a_b-base-31c5ef.eval']
    """
    named = []
    for key, rows in rollouts.groupby(LOG_KEY, sort=True):
        study, run_id, benchmark, arm, checkpoint = map(str, key)
        words = "-".join(re.sub(r"[^\w.@]+", "_", word)[:40] for word in (study, benchmark, arm, checkpoint))
        named.append((f"{words}-{_digest(study, run_id, benchmark, arm, checkpoint)[:6]}.eval", rows))
    yield from sorted(named, key=lambda item: item[0])


def describe_log(rows: pd.DataFrame, questions: Questions, revision: str = "") -> dict[str, Any]:
    """Return what a log holds, as the JSON of Inspect's ``EvalLog``.

    Parameters
    ----------
    rows
        Of one log, as `split_logs` gives them, of a table that `check_rollouts` has checked.
    questions
        Where they are known; a problem without is shown by its id.
    revision
        Commit of this project that is named as the origin; empty for none.
    """
    rollouts = [_plain(row) for row in rows.sort_values(["problem_id", "sample_id"]).to_dict("records")]
    first = rollouts[0]
    key = [str(first[name]) for name in LOG_KEY]
    model = f"{first['study']}/{first['checkpoint']}"
    samples = [_describe_sample(row, questions, model) for row in rollouts]
    graded = [row for row in rollouts if row["status"] is not None]
    ids = list(dict.fromkeys(sample["id"] for sample in samples))
    usage = {
        name: sum(sample["output"]["usage"][name] for sample in samples)
        for name in ("input_tokens", "output_tokens", "total_tokens")
    }
    n_draws = len(rollouts)
    scores = {
        "name": SCORER,
        "scorer": SCORER,
        "scored_samples": len(graded),
        "unscored_samples": n_draws - len(graded),
        "metrics": {
            "accuracy": {
                "name": "accuracy",
                "value": sum(row["status"] == "correct" for row in graded) / len(graded),
            }
        }
        if graded
        else {},
    }
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _digest(FORMAT, samples),
            "run_id": _digest(*key[:2]),
            "created": NO_TIME,
            "task": f"{first['benchmark']}_{first['arm']}",
            "task_id": _digest(*key),
            "dataset": {"name": first["benchmark"], "samples": len(ids), "sample_ids": ids},
            "model": model,
            "model_generate_config": {
                name: value
                for name in ("temperature", "max_tokens")
                if (value := _one_value(rollouts, name)) is not None
            },
            "config": {"epochs": max(sample["epoch"] for sample in samples)},
            "tags": [str(first["arm"]), str(first["checkpoint"])],
            "metadata": {
                "about": "finished draws of panelbook; times were not recorded",
                **{name: first[name] for name in (*LOG_KEY, "profile", "step")},
                "frame": getattr(ARMS.get(first["arm"]), "frame", None),
            },
            **({"revision": {"type": "git", "origin": "panelbook", "commit": revision}} if revision else {}),
        },
        "results": {"total_samples": n_draws, "completed_samples": n_draws, "scores": [scores]},
        "stats": {"started_at": NO_TIME, "completed_at": NO_TIME, "model_usage": {model: usage}},
        "samples": samples,
    }


def _describe_sample(row: dict[str, Any], questions: Questions, model: str) -> dict[str, Any]:
    """One draw as the JSON of an ``EvalSample``."""
    question, gold = questions.get((row["benchmark"], row["problem_id"]), (row["problem_id"], NOT_RECORDED))
    completion, cut_off = row["completion"], row["stop_reason"] == "length"
    segments = take_apart(completion, row["arm"])
    name = _digest(*(row[column] for column in (*LOG_KEY, "problem_id", "sample_id")))
    usage = {
        "input_tokens": row["prompt_tokens"] or 0,
        "output_tokens": row["completion_tokens"],
        "total_tokens": (row["prompt_tokens"] or 0) + row["completion_tokens"],
    }
    said = {
        "id": f"{name}-a",
        "role": "assistant",
        "source": "generate",
        "model": model,
        "content": _describe_content(completion, segments),
    }
    sample: dict[str, Any] = {
        "id": show_controls(row["problem_id"]),
        "epoch": row["sample_id"] + 1,
        "uuid": name,
        "input": question,
        "target": gold,
        "messages": [{"id": f"{name}-u", "role": "user", "source": "input", "content": question}, said],
        "output": {
            "model": model,
            "choices": [{"message": said, "stop_reason": "max_tokens" if cut_off else "stop"}],
            "completion": completion,
            "usage": usage,
        },
        "model_usage": {model: usage},
        "metadata": {
            "rollout": {column: row[column] for column in ROLLOUTS_COLUMNS},
            "voices": [
                {"speaker": segment.speaker, "text": segment.text}
                for segment in segments
                if segment.kind == "speech"
            ],
        },
    }
    if row["status"] is not None:
        sample["scores"] = {
            SCORER: {
                "value": GRADE_LETTERS[row["status"]],
                "answer": row["predicted"],
                "explanation": row["status"],
                "metadata": {name: row[name] for name in ("status", "reward", "tag_valid")},
            }
        }
    if cut_off and row["max_tokens"] is not None:
        sample["limit"] = {"type": "token", "limit": row["max_tokens"]}
    return sample


def _describe_content(completion: str, segments: Sequence[Segment]) -> list[dict[str, str]]:
    """Return reasoning and the rest as parts of a message, word for word; each part only where there is one."""
    reasoning: list[str] = []
    rest: list[str] = []
    for segment in segments:
        part = completion[segment.start : segment.stop]
        (reasoning if segment.kind in ("speech", "step") else rest).append(part)
    parts = []
    if reasoning:
        parts.append({"type": "reasoning", "reasoning": "".join(reasoning)})
    if rest or not reasoning:
        parts.append({"type": "text", "text": "".join(rest)})
    return parts


def write_log(log: Mapping[str, Any], path: Path, *, force: bool = False) -> bool:
    """Write a log whole or not at all; return False if the same is there already.

    Parameters
    ----------
    log
        From `describe_log`.
    path
        The file, in ``.eval``.
    force
        Replace another log of this name.

    Raises
    ------
    ExportFailed
        If inspect-ai is not installed, another log has that name, or the file cannot be written.
    """
    if path.exists() and not force:
        if _read_eval_id(path) == log["eval"]["eval_id"]:
            return False
        raise ExportFailed(
            f"{path} holds another log; --force replaces it, or give another folder with --out."
        )
    check_installed()
    from inspect_ai.log import EvalLog, write_eval_log  # deferred: an extra, and seconds to import

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as scratch:
            raw, whole = Path(scratch, "raw.eval"), Path(scratch, "whole.eval")
            write_eval_log(EvalLog.model_validate(log), str(raw))
            _repack(raw, whole)
            whole.replace(path)
    except OSError as error:
        raise ExportFailed(f"{path} could not be written: {error.strerror or error}.") from None
    return True


def _repack(source: Path, target: Path) -> None:
    """Copy an archive, without the times of its parts and packed so that any reader of zip files opens it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for part in old.infolist():
            undated = zipfile.ZipInfo(part.filename)
            new.writestr(undated, old.read(part), zipfile.ZIP_DEFLATED)


def _read_eval_id(path: Path) -> str | None:
    """Return the id of a log, None if it is none or was cut off."""
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("header.json"))
        found = header["eval"]["eval_id"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None
    return str(found)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of a table in JSON's types."""
    return {
        str(name): None if pd.isna(value) else value.item() if hasattr(value, "item") else value
        for name, value in row.items()
    }


def _one_value(rollouts: list[dict[str, Any]], name: str) -> Any:
    """Return the value that all draws share; None where they differ or do not record it."""
    values = {row[name] for row in rollouts}
    return values.pop() if len(values) == 1 else None


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:22]
