"""Anyone's draws: log files of other tools, read into the tables of `schema`.

Two shapes are taken. A file of *draws* has one row per completion: arm, problem and whether it was correct, and as
much more as was recorded. A file of *counts* has one row per arm and problem: n draws, c of them correct. JSON
lines, CSV, parquet and the logs of Inspect AI are read; ``.gz`` is unpacked.

A column is found under its own name here, under a usual other name (`ALIASES`), or where the caller says. What was
taken for what is part of the result, so that it can be shown. A row that cannot be taken is an error that names
file, line, field, value and rule; rows are left out only on request, and then they are listed.

Not recorded is kept apart from recorded as nothing: counts of an import without token counts have no mean tokens, and
no table of rollouts is made, since that table needs the length of every draw.

What is *not* handled: grading (correctness is taken as the file gives it), partial credit, and several checkpoints
under the name of one arm.

References: the log format of Inspect AI, https://inspect.aisi.org.uk/eval-logs.html.
"""

import codecs
import csv
import gzip
import hashlib
import io
import json
import sys
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow.parquet

from panelbook.errors import BookError
from panelbook.rollouts.schema import check_counts, check_rollouts, count_draws
from panelbook.study.vocabulary import Status
from panelbook.text import is_whole, mend, show_controls

Kind = Literal["draws", "counts"]
Values = list[Any]

NOT_RECORDED = "not recorded"
"""Checkpoint of an arm whose files name none."""

MAX_NAME_CHARS = 1000
"""A name is shown in tables, figures and messages; whoever keeps questions for ids stays below."""

SHOWN = 5
"""Broken rows that an error message quotes."""

ALIASES: dict[str, tuple[str, ...]] = {
    "arm": ("model", "model_name", "model_id", "policy", "condition", "method"),
    "problem_id": ("question_id", "task_id", "prompt_id", "doc_id", "unique_id", "uid", "id"),
    "correct": ("is_correct", "passed", "pass", "success", "acc", "accuracy", "score", "status"),
    "sample_id": ("sample_idx", "sample_index", "completion_id", "epoch", "draw", "attempt", "trial"),
    "source": ("subset", "category", "subject"),
    "benchmark": ("task", "task_name", "dataset"),
    "completion": ("response", "output", "generation", "generated_text", "model_output"),
    "completion_tokens": ("output_tokens", "n_tokens", "num_tokens", "n_completion_tokens", "tokens"),
    "prompt_tokens": ("input_tokens", "n_prompt_tokens"),
    "predicted": ("prediction", "pred", "extracted_answer", "parsed_answer", "model_answer"),
    "stop_reason": ("finish_reason",),
    "max_tokens": ("max_new_tokens", "max_completion_tokens"),
    "temperature": (),
    "checkpoint": ("adapter", "revision"),
    "tag_valid": ("format_valid",),
    "reward": (),
    "n": ("n_samples", "num_samples", "n_draws", "n_total"),
    "c": ("n_correct", "num_correct", "n_passed"),
    "mean_tokens": ("mean_completion_tokens", "avg_tokens"),
}
"""Our column -> other names under which it is found, the likeliest first. ``answer`` is not among the names of
`predicted`: many files keep the gold answer there."""

IDENTITY = ("benchmark", "arm", "checkpoint", "problem_id")
DRAW_FIELDS = tuple(name for name in ALIASES if name not in ("n", "c", "mean_tokens"))
COUNT_FIELDS = (*IDENTITY, "source", "n", "c", "mean_tokens", "max_tokens", "temperature")
NEEDED: dict[Kind, tuple[str, ...]] = {
    "draws": ("arm", "problem_id", "correct"),
    "counts": ("arm", "problem_id", "n", "c"),
}
MAY_BE_EMPTY = ("completion", "predicted", "prompt_tokens", "max_tokens", "temperature", "mean_tokens")
"""Fields that a row may leave empty although its file has the column."""

GRADES: dict[Any, str] = {
    1: "correct",  # True and 1.0 are equal to it
    0: "wrong",
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "c", "pass", "passed"), "correct"),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "i", "incorrect", "fail", "failed"), "wrong"),
    **{status: status for status in get_args(Status)},
}
GRADE_LETTERS = {"correct": "C", "no_answer": "N", "wrong": "I", "unparsable": "I", "timeout": "I"}
"""Status -> the letter that stands for it in a log of Inspect AI."""
STOPS: dict[str, str] = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_length", "max_new_tokens"), "length"),
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed"), "stop"),
    **dict.fromkeys(("tool_calls", "content_filter", "unknown"), "stop"),  # ended, but not at the limit
}


class ImportFailed(BookError, ValueError):
    """Files cannot be taken as they are; the message names file, line, field, value and what to do."""


@dataclass(frozen=True)
class Rejected:
    """One row that cannot be taken.

    Attributes
    ----------
    where
        File and line, row or sample.
    reason
        Field, value and rule.
    record
        The row as it stands in the file, or the beginning of a line that is no record.
    """

    where: str
    reason: str
    record: Any


@dataclass(frozen=True)
class Source:
    """What was found in one file.

    Attributes
    ----------
    kind
        Draws or counts.
    n_rows
        Rows taken.
    taken
        Our column -> where it comes from, in the words of the page.
    unused
        Columns of the file that were not read.
    n_mended
        Rows with text that no file can keep, see `panelbook.text.mend`.
    """

    path: Path
    kind: Kind
    n_rows: int
    taken: dict[str, str]
    unused: tuple[str, ...]
    n_mended: int


@dataclass(frozen=True)
class Imported:
    """Draws as they were read.

    Attributes
    ----------
    counts
        One row per arm and problem, checked.
    rollouts
        One row per draw, checked; None for counts, or where a file has no token counts.
    rejected
        Rows left out on request.
    notes
        What a reader should know of the tables, one sentence each.
    """

    counts: pd.DataFrame
    rollouts: pd.DataFrame | None
    sources: tuple[Source, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """How files are to be read.

    Parameters
    ----------
    study
        Name that the rows are kept under.
    arms
        One name for every file, or one for each; it goes before any column. Empty takes the column.
    benchmark
        Name of the benchmark of every row, before any column. Empty takes the column, or else `study`.
    columns
        Our column -> theirs, a dot leading into nested records; an empty name ignores a column.
    skip_broken
        Leave out rows that cannot be taken instead of refusing the file.
    """

    study: str
    arms: Sequence[str] = ()
    benchmark: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_broken: bool = False

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in ALIASES:
                raise ImportFailed(
                    f"--map {name}=...: there is no column {name!r}. Known: {', '.join(ALIASES)}."
                )


@dataclass(frozen=True)
class _Raw:
    """A file's rows before anything is made of them."""

    path: Path
    unit: str  # what a row is called: line, row or sample
    positions: Sequence[Any]
    names: Sequence[str]
    take: Callable[[str], Values | None]  # values of a column, None if there is no such column
    broken: list[Rejected]
    n_mended: int = 0

    def where(self, row: int) -> str:
        return f"{self.path}, {self.unit} {self.positions[row]}"


def read_imports(paths: Sequence[Path], options: Options) -> Imported:
    """Read files of draws, or files of counts, into the tables of `schema`.

    Parameters
    ----------
    paths
        Files, all of draws or all of counts. Formats go by suffix: ``.jsonl``, ``.csv``, ``.parquet``, ``.eval``
        and ``.json`` (an Inspect AI log, or a list of records), each of the text formats also with ``.gz``.
    options
        Names of study, arms and columns.

    Returns
    -------
    Imported
        Draws are numbered from 0 within arm and problem, by the numbers they come with, or else in the order of
        files and rows.

    Raises
    ------
    ImportFailed
        If a file cannot be read, a column that is needed is not there, a row breaks a rule and `skip_broken` is
        not set, a draw occurs twice, or an arm has several checkpoints.
    """
    if len(options.arms) > 1 and len(options.arms) != len(paths):
        raise ImportFailed(
            f"{len(options.arms)} arms are named for {len(paths)} files. Name one for all, or one for each, "
            "in their order."
        )
    _refuse_repeated(paths)
    tables: list[pd.DataFrame] = []
    sources: list[Source] = []
    rejected: list[Rejected] = []
    for number, path in enumerate(paths):
        arm = options.arms[min(number, len(options.arms) - 1)] if options.arms else ""
        table, source, broken = _read_file(_open(path), arm, options)
        if sources and source.kind != sources[0].kind:
            raise ImportFailed(
                f"{sources[0].path} holds {sources[0].kind} and {path} holds {source.kind}. Import one shape at a time."
            )
        tables.append(table)
        sources.append(source)
        rejected += broken
    rows = pd.concat(tables, ignore_index=True)
    kind = sources[0].kind
    key = [*IDENTITY, *(["sample_id"] if kind == "draws" else [])]
    if kind == "draws":
        rows["sample_id"] = _number(rows)
    twice = rows.duplicated(key)
    rejected += _repeated(rows, twice, key)
    if rejected and not options.skip_broken:
        raise ImportFailed(_describe(rejected))
    rows = rows[~twice]
    if rows.empty:
        raise ImportFailed(f"no row is left to import.\n{_describe(rejected)}")
    if kind == "draws":  # from 0 without gaps, as everywhere: "the first four" must mean four
        rows = rows.assign(sample_id=rows.sort_values("sample_id").groupby(list(IDENTITY)).cumcount())
    _refuse_checkpoints(rows)
    counts, rollouts, notes = (_make_tables if kind == "draws" else _make_counts)(rows, options.study)
    notes += [
        f"{source.n_mended:,} rows of {source.path.name} hold halves of characters (lone surrogates), which no "
        "file can keep: each has become U+FFFD, the replacement character."
        for source in sources
        if source.n_mended
    ]
    return Imported(counts, rollouts, tuple(sources), tuple(rejected), tuple(notes))


def read_draws(path: Path, study: str) -> pd.DataFrame:
    """Read one file of draws as it is, for reading and not for counting: nothing but what a row says.

    Parameters
    ----------
    path
        As for `read_imports`.
    study
        Name that the rows are kept under, and their benchmark where the file names none.

    Returns
    -------
    One row per draw, in the order of the file: arm, problem_id, status (the grade, None where nobody graded), study,
    benchmark, checkpoint, and the other columns of `DRAW_FIELDS` that the file has. Draws are not numbered; a text that
    is missing is empty.

    Raises
    ------
    ImportFailed
        If the file cannot be read, holds counts, or a row breaks a rule.
    """
    table, source, broken = _read_file(_open(path), "", Options(study), (*MAY_BE_EMPTY, "correct", "reward"))
    if broken:
        raise ImportFailed(_describe(broken))
    if source.kind == "counts":
        raise ImportFailed(
            f"{path} holds counts, and nothing of single draws. Give a file with one row per draw."
        )
    return table.drop(columns="_where").rename(columns={"correct": "status"}).assign(study=study)


def _read_file(
    raw: _Raw, arm: str, options: Options, may_be_empty: Sequence[str] = MAY_BE_EMPTY
) -> tuple[pd.DataFrame, Source, list[Rejected]]:
    """Read one file into typed columns, one row for each that can be taken."""
    if not len(raw.positions):
        raise ImportFailed(
            _describe(raw.broken) if raw.broken else f"{raw.path} is empty: there is no row to import."
        )
    fixed = {name: value for name, value in (("arm", arm), ("benchmark", options.benchmark)) if value}
    kind, found = _match(raw, options.columns, fixed)
    columns: dict[str, Values] = {}
    reasons: dict[int, list[str]] = defaultdict(list)
    for name in DRAW_FIELDS if kind == "draws" else COUNT_FIELDS:
        theirs = found.get(name)
        if theirs is None:
            continue
        values = raw.take(theirs)
        assert values is not None  # `_match` has looked
        called = name if theirs == name else f"{name} (column {theirs!r})"
        columns[name] = _read_column(name, called, values, reasons, name in may_be_empty)
    if kind == "counts":
        for row, (n, c) in enumerate(zip(columns["n"], columns["c"], strict=True)):
            if n is not None and c is not None and not (n >= 1 and c <= n):
                reasons[row].append(f"c={c} and n={n}; c must lie between 0 and n, and n be at least 1")
    whole = {name: raw.take(name) or [] for name in raw.names} if reasons else {}
    broken = [
        Rejected(raw.where(row), "; ".join(why), {name: values[row] for name, values in whole.items()})
        for row, why in sorted(reasons.items())
    ]
    table = pd.DataFrame(columns, dtype=object)
    for name, value in fixed.items():
        table[name] = value
    table["_where"] = [raw.where(row) for row in range(len(table))]
    table = table.drop(index=list(reasons))
    defaults = {"benchmark": options.study, "checkpoint": NOT_RECORDED}
    for name, default in defaults.items():
        if name not in table:
            table[name] = default
    taken = {name: f"column {theirs}" for name, theirs in found.items()} | {
        name: f"{value!r} for every row" for name, value in fixed.items()
    }
    unused = tuple(name for name in raw.names if name not in {t.split(".")[0] for t in found.values()})
    return table, Source(raw.path, kind, len(table), taken, unused, raw.n_mended), [*raw.broken, *broken]


def _match(raw: _Raw, columns: Mapping[str, str], fixed: Mapping[str, str]) -> tuple[Kind, dict[str, str]]:
    """Say what the file holds, and under which name each of our columns is found in it."""
    plain = {_plain(name): name for name in reversed(raw.names)}
    found: dict[str, str] = {}
    for ours, others in ALIASES.items():
        if ours in fixed:
            continue
        if ours in columns:
            theirs = columns[ours]
            if theirs and raw.take(theirs) is None:
                raise ImportFailed(
                    f"{raw.path} has no column {theirs!r}, which --map {ours}={theirs} asks for; it has "
                    f"{', '.join(raw.names)}."
                )
        else:
            theirs = next((plain[name] for name in (ours, *others) if name in plain), "")
        if theirs:
            found[ours] = theirs
    counted = "n" in found and "c" in found and "correct" not in columns
    kind: Kind = "counts" if counted else "draws"
    for name in NEEDED[kind]:
        if name not in found and name not in fixed:
            raise ImportFailed(
                f"{raw.path} has no column {name!r} and none of the names {', '.join(ALIASES[name])}; it has "
                f"{', '.join(raw.names)}. Name the column with --map {name}=THEIRS"
                + (
                    ", or the arm that the whole file holds with --arm NAME."
                    if name == "arm"
                    else ", a nested one with dots: --map correct=result.passed."
                    if name == "correct"
                    else "."
                )
            )
    wanted = DRAW_FIELDS if kind == "draws" else COUNT_FIELDS
    return kind, {name: found[name] for name in wanted if name in found}


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _read_column(
    name: str, called: str, values: Values, reasons: dict[int, list[str]], may_be_empty: bool
) -> Values:
    """Read the values of a column; note under its row why one cannot be read."""
    read, rule = READERS[name]
    empty = "" if name == "completion" else None
    column: Values = []
    for row, value in enumerate(values):
        if value is None or value is pd.NA or value != value:  # NaN alone is unequal to itself
            column.append(empty)
            if not may_be_empty:
                reasons[row].append(f"{called} is missing; it must be {rule}")
            continue
        try:
            column.append(read(value))
        except (KeyError, TypeError, ValueError, OverflowError):
            column.append(empty)
            reasons[row].append(f"{called} is {_short(value)}; it must be {rule}")
    return column


def _read_name(value: Any) -> str:
    if isinstance(value, str):
        if not value.strip() or len(value) > MAX_NAME_CHARS or "\n" in value or "\t" in value:
            raise ValueError
        if show_controls(value) != value:
            raise ValueError
        return value
    return str(_read_whole(value))


def _read_text(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def _read_whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = float(value) if isinstance(value, str) else value  # pandas writes "12.0" where a column has gaps
    if number < 0 or number != int(number):
        raise ValueError
    return int(number)


def _read_number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not np.isfinite(number):
        raise ValueError
    return number


def _read_size(value: Any) -> float:
    number = _read_number(value)
    if number < 0:
        raise ValueError
    return number


def _read_grade(value: Any) -> str:
    return GRADES[value.strip().lower() if isinstance(value, str) else value]


def _read_stop(value: Any) -> str:
    return STOPS[value.strip().lower()] if isinstance(value, str) else STOPS[value]


def _read_flag(value: Any) -> bool:
    return {"correct": True, "wrong": False}[_read_grade(value)]


_NAME = (
    _read_name,
    f"a name: a line of text, not empty, of at most {MAX_NAME_CHARS:,} characters and none of them a control "
    "character, or a whole number",
)
_TEXT = (_read_text, "text")
_WHOLE = (_read_whole, "a whole number, 0 or more")
_SIZE = (_read_size, "a number, 0 or more")

READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    **dict.fromkeys(("arm", "problem_id", "source", "benchmark", "checkpoint"), _NAME),
    **dict.fromkeys(("completion", "predicted"), _TEXT),
    **dict.fromkeys(("sample_id", "completion_tokens", "prompt_tokens", "max_tokens", "n", "c"), _WHOLE),
    **dict.fromkeys(("temperature", "mean_tokens"), _SIZE),
    "correct": (
        _read_grade,
        f"right or wrong: true/false, 1/0, C/I or a status ({', '.join(get_args(Status))}); a score in between has "
        "to be made right or wrong first",
    ),
    "stop_reason": (_read_stop, f"one of {', '.join(STOPS)}"),
    "tag_valid": (_read_flag, "true or false"),
    "reward": (_read_number, "a finite number"),
}
"""Our column -> how a value of it is read, and the rule that it must keep."""


def _number(rows: pd.DataFrame) -> "pd.Series[int]":
    """Return the number of each draw: as recorded, else counted within arm and problem."""
    counted = rows.groupby(list(IDENTITY), sort=False).cumcount()
    return rows["sample_id"].where(rows["sample_id"].notna(), counted) if "sample_id" in rows else counted


def _repeated(rows: pd.DataFrame, twice: "pd.Series[bool]", key: list[str]) -> list[Rejected]:
    """Say which earlier row each row of `twice` repeats."""
    if not twice.any():
        return []
    first = rows.groupby(key, sort=False)["_where"].transform("first")[twice]
    advice = (
        "if these are different draws, --map sample_id= numbers them anew"
        if "sample_id" in key
        else "add up n and c, or make it another arm"
    )
    found = []
    for row, earlier in zip(rows[twice].to_dict("records"), first, strict=True):
        draw = ", ".join(f"{name} {row[name]!r}" for name in key if name not in ("benchmark", "checkpoint"))
        found.append(
            Rejected(
                row["_where"], f"repeats {earlier} ({draw}); {advice}", {name: row[name] for name in key}
            )
        )
    return found


def _refuse_repeated(paths: Sequence[Path]) -> None:
    """Refuse files that are the same by content: their draws would count twice."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest in seen:
                raise ImportFailed(f"{path} has the same content as {seen[digest]}. Give each file once.")
            seen[digest] = path


def _refuse_checkpoints(rows: pd.DataFrame) -> None:
    names = rows.groupby(["benchmark", "arm"])["checkpoint"].unique()
    several = names[names.map(len) > 1]
    if len(several):
        arm, found = several.index[0][1], several.iloc[0]
        raise ImportFailed(
            f"arm {arm!r} has draws of {len(found)} checkpoints ({', '.join(map(str, found[:3]))}). An arm is one "
            "policy: import one checkpoint, or make each an arm: --map arm=CHECKPOINT_COLUMN --map checkpoint="
        )


def _make_tables(rows: pd.DataFrame, study: str) -> tuple[pd.DataFrame, pd.DataFrame | None, list[str]]:
    """Return counts, rollouts where lengths are known, and what a reader should know of both."""
    notes: list[str] = []
    table = pd.DataFrame(
        {
            "study": study,
            "profile": study,
            "run_id": "import " + rows["benchmark"].astype(str),  # keeps benchmarks with like ids apart
            "status": rows["correct"],
            "step": 0,
            **{name: rows[name] for name in (*IDENTITY, "sample_id")},
        }
    )
    for name, default in (("source", rows["benchmark"]), ("completion", ""), ("predicted", None)):
        table[name] = _column(rows, name, default)
    for name in ("completion_tokens", "prompt_tokens", "max_tokens", "temperature"):
        table[name] = pd.to_numeric(_column(rows, name, None), errors="raise")
    table["tag_valid"] = _column(rows, "tag_valid", True)
    right = (table["status"] == "correct").astype(float)
    table["reward"] = _column(rows, "reward", right).astype(float)
    at_limit = (table["completion_tokens"] >= table["max_tokens"]).map({True: "length", False: "stop"})
    table["stop_reason"] = _column(rows, "stop_reason", at_limit)
    table["seed"] = pd.NA
    for name in ("max_tokens", "temperature"):
        mixed = table.groupby(["benchmark", "arm"])[name].nunique(dropna=False)
        for benchmark, arm in mixed.index[mixed > 1]:
            notes.append(
                f"Arm {arm} was drawn with several values of {name} on {benchmark}; tables show the one of each "
                "problem's first draw."
            )
    counts = count_draws(table)
    lengths = table["completion_tokens"].notna()
    if not lengths.all():
        without = ", ".join(sorted(table["arm"][~lengths].astype(str).unique()))
        notes.append(
            f"No token counts for {without}: there are counts of right draws alone, and no table of single draws."
        )
        return counts, None, notes
    for name, text in (
        (
            "predicted",
            "Answers are not recorded, so there are no majority votes, and budgets are counted in mean draws.",
        ),
        ("reward", "Rewards are not recorded; a right draw counts 1 and a wrong one 0."),
        (
            "stop_reason",
            "Stop reasons are not recorded; a draw is taken as cut off if it has as many tokens as its limit.",
        ),
    ):
        if name not in rows:
            notes.append(text)
    return counts, check_rollouts(table, "imported draws"), notes


def _make_counts(rows: pd.DataFrame, study: str) -> tuple[pd.DataFrame, None, list[str]]:
    """Return counts that were counts in the file."""
    table = rows[[*IDENTITY, "n", "c"]].assign(study=study, mean_distance=float("nan"))
    table["source"] = _column(rows, "source", rows["benchmark"])
    for name in ("mean_tokens", "max_tokens", "temperature"):
        table[name] = pd.to_numeric(_column(rows, name, None), errors="raise")
    return (
        check_counts(table, "imported counts"),
        None,
        ["The files hold counts; nothing is known of single draws."],
    )


def _column(rows: pd.DataFrame, name: str, default: Any) -> Any:
    """Return a column with `default` where the row's file does not have it."""
    if name in rows:
        return rows[name] if default is None else rows[name].where(rows[name].notna(), default)
    if isinstance(default, pd.Series):
        return default
    return pd.Series([default] * len(rows), index=rows.index, dtype=object)


def _open(path: Path) -> _Raw:
    """Read a file by its suffix."""
    if path.is_dir():
        some = ", ".join(sorted(p.name for p in path.iterdir() if p.is_file())[:3]) or "none"
        raise ImportFailed(f"{path} is a folder. Give the files in it (there are: {some}), as {path}/*.jsonl")
    name = path.name.lower().removesuffix(".gz")
    suffix = next((suffix for suffix in FORMATS if name.endswith(suffix)), "")
    if not suffix:
        raise ImportFailed(
            f"{path}: a file of this kind is not read. Known: {', '.join(FORMATS)}, and .gz of them."
        )
    try:
        if not path.stat().st_size:
            raise ImportFailed(f"{path} is empty: there is no row to import.")
        return FORMATS[suffix](path)
    except FileNotFoundError:
        raise ImportFailed(f"{path} does not exist. Correct the path.") from None
    except ImportFailed:
        raise
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
        zlib.error,
        csv.Error,
        ValueError,
        RecursionError,
    ) as error:
        raise ImportFailed(
            f"{path} cannot be read as {suffix}: {error}. If the file is whole and only named otherwise, rename it; "
            "a log of Inspect can be rewritten with `inspect log convert --to json`."
        ) from None


def _read_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()


def _from_records(
    path: Path, unit: str, positions: Sequence[Any], records: list[dict[str, Any]], broken: list[Rejected]
) -> _Raw:
    torn = [row for row, record in enumerate(records) if not is_whole(record)]
    for row in torn:
        records[row] = mend(records[row])
    names = list(dict.fromkeys(chain.from_iterable(records)))

    def take(name: str) -> Values | None:
        if name in names:
            return [record.get(name) for record in records]
        values = [_dig(record, name) for record in records] if "." in name else []
        return values if any(value is not None for value in values) else None

    return _Raw(path, unit, positions, names, take, broken, len(torn))


def _dig(record: Any, name: str) -> Any:
    """Return what a dotted name leads to, None if it leads nowhere."""
    for part in name.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def _read_jsonl(path: Path) -> _Raw:
    records, positions, broken = [], [], []
    lines = _read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError) as error:  # of broken text and of broken JSON alike
            why = f"the line is not JSON ({error})"
        else:
            if isinstance(record, dict):
                records.append(record)
                positions.append(number)
                continue
            why = "the line is JSON but not an object {...}"
        broken.append(Rejected(f"{path}, line {number}", why, line[:2000].decode("utf-8", "replace")))
    return _from_records(path, "line", positions, records, broken)


def _read_json(path: Path) -> _Raw:
    try:
        data = json.loads(_read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ImportFailed(
            f"{path} is not JSON ({error}). If it has one record a line, name it .jsonl."
        ) from None
    if isinstance(data, dict) and "eval" in data:
        return _from_inspect(path, data, enumerate(data.get("samples") or [], start=1))
    if isinstance(data, list) and all(isinstance(record, dict) for record in data):
        return _from_records(path, "record", range(1, len(data) + 1), data, [])
    raise ImportFailed(f"{path} is neither an Inspect AI log nor a list of records [{{...}}, ...].")


def _read_eval(path: Path) -> _Raw:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        header = next((n for n in ("header.json", "_journal/start.json", "start.json") if n in names), "")
        if not header:
            raise ImportFailed(f"{path} has no header.json: it is not a log of Inspect AI.")
        samples = [n for n in names if n.startswith("samples/") and n.endswith(".json")]
        log = json.loads(archive.read(header))
        return _from_inspect(path, log, ((name, archive.read(name)) for name in samples))


def _from_inspect(path: Path, log: Any, samples: Iterable[tuple[Any, Any]]) -> _Raw:
    """Read the samples of a log, each given by its position and what is there: a sample, or its JSON."""
    records, positions, broken = [], [], []
    for position, sample in samples:
        try:
            whole = json.loads(sample) if isinstance(sample, bytes) else sample
            records.append(_inspect_record(whole, log))
            positions.append(position)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            why = f"it is not a sample of an Inspect AI log ({error})"
            broken.append(Rejected(f"{path}, sample {position}", why, str(position)))
    return _from_records(path, "sample", positions, records, broken)


def _inspect_record(sample: Mapping[str, Any], log: Mapping[str, Any]) -> dict[str, Any]:
    """Return one sample of an Inspect AI log as a flat record; its metadata stay nested.

    Where `panelbook.rollouts.inspect_logs` wrote the sample, that is the row it was made of.
    """
    own = _dig(sample, "metadata.rollout")
    if isinstance(own, dict) and "completion" in own:
        return _own_record(own, sample.get("scores") or {})
    config = {**(_dig(log, "plan.config") or {}), **(_dig(log, "eval.model_generate_config") or {})}
    choice = (_dig(sample, "output.choices") or [{}])[0]
    scores = sample.get("scores") or {}
    record = {
        "model": _dig(log, "eval.model"),
        "task": _dig(log, "eval.task"),
        "id": sample.get("id"),
        "epoch": sample.get("epoch"),
        "completion": _content(_dig(choice, "message.content"), sample.get("attachments") or {}),
        "output_tokens": _dig(sample, "output.usage.output_tokens"),
        "input_tokens": _dig(sample, "output.usage.input_tokens"),
        "stop_reason": choice.get("stop_reason"),
        "max_tokens": config.get("max_tokens"),
        "temperature": config.get("temperature"),
        "metadata": sample.get("metadata"),
        "error": _dig(sample, "error.message"),
    }
    for name, score in scores.items():
        value = score.get("value")
        record[f"scores.{name}.value"] = "no_answer" if value == "N" else value
        record[f"scores.{name}.answer"] = score.get("answer")
    if len(scores) == 1:  # of several, it is for the caller to say which one tells right from wrong
        (name,) = scores
        record |= {"score": record[f"scores.{name}.value"], "predicted": record[f"scores.{name}.answer"]}
    return {name: value for name, value in record.items() if value is not None}


def _own_record(own: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of rollouts that a log carries; where its score was edited since, that is its grade."""
    record = {name: own[name] for name in DRAW_FIELDS if own.get(name) is not None}
    status = own.get("status")
    letter = GRADE_LETTERS.get(status or "")
    scored = _dig(scores, "correct.value")
    value = letter if scored is None else scored
    record["correct"] = status if value == letter else "no_answer" if value == "N" else value
    return {name: value for name, value in record.items() if value is not None}


def _content(content: Any, attachments: Mapping[str, str]) -> str | None:
    """Return a message's text: reasoning and text of its parts, long ones looked up among the attachments."""
    if isinstance(content, list):
        parts = [
            part.get("reasoning") or part.get("text") or "" for part in content if isinstance(part, dict)
        ]
        return "\n".join(_content(part, attachments) or "" for part in parts)
    if isinstance(content, str) and content.startswith("attachment://"):
        return attachments.get(content.removeprefix("attachment://"), content)
    return content if isinstance(content, str) else None


def _read_csv(path: Path) -> _Raw:
    text = _read_bytes(path).decode("utf-8-sig")
    limit = csv.field_size_limit(sys.maxsize)  # completions are longer than its default
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows, lines, broken = [], [], []
        names = next(reader, [])
        start = reader.line_num + 1
        for row in reader:
            line, start = start, reader.line_num + 1
            if not row:
                continue
            if len(row) == len(names):
                rows.append(row)
                lines.append(line)
            else:
                why = f"the row has {len(row)} fields, the header {len(names)}"
                broken.append(Rejected(f"{path}, line {line}", why, row))
    finally:
        csv.field_size_limit(limit)
    if len(set(names)) != len(names):
        raise ImportFailed(f"{path}: two columns have the same name: {', '.join(names)}. Rename one.")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    return _Raw(
        path,
        "line",
        lines,
        names,
        lambda name: [value or None for value in columns[name]] if name in columns else None,
        broken,
    )


def _read_parquet(path: Path) -> _Raw:
    try:
        names = [str(name) for name in pyarrow.parquet.read_schema(path).names]
        n_rows = pyarrow.parquet.read_metadata(path).num_rows
    except (OSError, ValueError) as error:
        raise ImportFailed(f"{path} cannot be read as a parquet table: {error}") from None

    def take(name: str) -> Values | None:
        top, _, rest = name.partition(".")
        if name in names:
            top, rest = name, ""
        if top not in names:
            return None
        values: Values = pyarrow.parquet.read_table(path, columns=[top]).column(0).to_pylist()
        return [_dig(value, rest) for value in values] if rest else values

    return _Raw(path, "row", range(1, n_rows + 1), names, take, [])


FORMATS: dict[str, Callable[[Path], _Raw]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".eval": _read_eval,
}


def _describe(rejected: Sequence[Rejected]) -> str:
    """Say which rows cannot be taken, the first few word for word, and what to do."""
    lines = [f"  {case.where}: {case.reason}." for case in rejected[:SHOWN]]
    more = [f"  and {len(rejected) - SHOWN:,} more."] if len(rejected) > SHOWN else []
    head = f"{len(rejected):,} row{'s' if len(rejected) > 1 else ''} cannot be taken:"
    end = (
        "Correct them, read another column with --map OURS=THEIRS (--map OURS= ignores one), or give --skip-broken "
        "to leave these rows out and have them listed."
    )
    return "\n".join([head, *lines, *more, end])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_columns(assignments: Iterable[str]) -> dict[str, str]:
    """Read `ours=theirs` strings of a command line.

    Raises
    ------
    ImportFailed
        If one has no `=`.

    Examples
    --------
    >>> parse_columns(["correct=grade.passed", "reward="])
    {'correct': 'grade.passed', 'reward': ''}
    """
    columns = {}
    for assignment in assignments:
        ours, equals, theirs = assignment.partition("=")
        if not equals:
            raise ImportFailed(
                f"--map takes OURS=THEIRS; got {assignment!r}. For example: --map correct=is_right"
            )
        columns[ours.strip()] = theirs.strip()
    return columns


def list_taken(sources: Iterable[Source]) -> Iterator[tuple[str, str, str]]:
    """Yield (our column, where it was found, in which files), in the order of `ALIASES`."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for source in sources:
        for name, theirs in source.taken.items():
            found[name, theirs].append(source.path.name)
    order = list(ALIASES)
    for (name, theirs), files in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        yield name, theirs, ", ".join(files)
