r"""Problems: one schema, stable ids, canonical golds.

Every benchmark becomes a list of `Problem` in the order of its ids, whatever its hub dataset calls its
columns. Ids name a row of the dataset (``gsm8k_test__7``), so they survive a rebuild; the olympiad pool and
MATH-500 keep the published ids.

Datasets come from the Hugging Face hub, or from files ``NAME/SPLIT.jsonl`` in a local folder, which takes
precedence where it has the file. What is *not* here: the miniature's exercises (`arithmetic`), and who is
held out (`splits`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from panelbook.errors import BookError
from panelbook.study.grading import Grade, Job, last_boxed, read_number, unwrap
from panelbook.study.vocabulary import AnswerType

BenchmarkName = Literal[
    "gsm8k_train",
    "gsm8k_test",
    "math_train",
    "math_heldout",
    "math500",
    "aime",
    "olympiad",
    "svamp",
    "mawps",
]

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

# Local path -> (hub id, configuration, split). The right-hand sides are the published study's.
_TABLES: Mapping[str, tuple[str, str | None, str]] = {
    "gsm8k/train": ("openai/gsm8k", "main", "train"),
    "gsm8k/test": ("openai/gsm8k", "main", "test"),
    **{
        f"math_{subject}/{split}": ("EleutherAI/hendrycks_math", subject, split)
        for subject in SUBJECTS
        for split in ("train", "test")
    },
    "math500/test": ("HuggingFaceH4/MATH-500", None, "test"),
    "aime_2024/test": ("HuggingFaceH4/aime_2024", None, "train"),
    "aime_2025/test": ("yentinglin/aime_2025", None, "train"),
    "hmmt_feb_2024/test": ("MathArena/hmmt_feb_2024", None, "train"),
    "hmmt_feb_2025/test": ("MathArena/hmmt_feb_2025", None, "train"),
    "olympiadbench/test": ("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
    "amc/test": ("AI-MO/aimo-validation-amc", None, "train"),
    "svamp/test": ("ChilleD/SVAMP", None, "test"),
    "mawps_singleop/test": ("MU-NLPC/Calc-mawps", None, "test"),
}

Row = Mapping[str, Any]
# Given a key of _TABLES, its rows in file order.
Reader = Callable[[str], Iterable[Row]]


class DatasetMissingError(BookError):
    """A dataset is neither in the local folder nor to be had from the hub."""


@dataclass(frozen=True)
class Problem:
    """One question with its right answer.

    Parameters
    ----------
    problem_id
        Unique within a benchmark, and the same in every build.
    benchmark
        What it was loaded as.
    source
        Stratum of the benchmark: contest, subject, exercise family.
    question
        Text that replaces ``{problem}`` in a prompt.
    gold
        Canonical right answer.
    answer_type
        How it is graded.
    level
        Difficulty as the dataset states it, "1" (easy) to "5" in MATH; of word problems the number of digits; None
        where there is none.
    """

    problem_id: str
    benchmark: str
    source: str
    question: str
    gold: str
    answer_type: AnswerType
    level: str | None = None


def load(
    name: BenchmarkName,
    *,
    folder: Path | None = None,
    n_per_level: int | None = None,
    n_per_source: int | None = None,
    level: str | None = None,
) -> list[Problem]:
    """Load a benchmark, or the published slices of it, ordered by `problem_id`.

    Slices are cut in file order, as the published study cut them: ``load("math500", n_per_level=10)`` is
    its stratified fifty, ``load("math500", level="5")`` its 134 hardest, ``load("aime", n_per_source=10)``
    its twenty.

    Parameters
    ----------
    name
        Benchmark.
    folder
        Where to look for ``NAME/SPLIT.jsonl`` first; None means the environment's PANELBOOK_DATASETS.
    n_per_level, n_per_source
        Keep that many of each level or source.
    level
        Keep one level.

    Raises
    ------
    ValueError
        If the name is unknown, or no problem is left.
    DatasetMissingError
        If a dataset is neither in the folder nor to be had from the hub.
    """
    if name not in get_args(BenchmarkName):
        raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(get_args(BenchmarkName))}.")
    problems = list(_READERS[name](lambda table: read_table(table, folder)))
    if level is not None:
        problems = [problem for problem in problems if problem.level == level]
    if n_per_level is not None:
        problems = _first_of_each(problems, n_per_level, lambda problem: problem.level)
    if n_per_source is not None:
        problems = _first_of_each(problems, n_per_source, lambda problem: problem.source)
    if not problems:
        raise ValueError(f"no problem of {name!r} is left with level={level!r}; widen the slice.")
    return order(problems)


def read_pool(rows: Iterable[Row]) -> list[Problem]:
    """Return the rows of a published pool file (`uid`, `source`, `problem`, `gold`) as problems."""
    return order(
        Problem(row["uid"], "olympiad", row["source"], row["problem"], *canonicalise_gold(row["gold"]))
        for row in rows
    )


def order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by id, runs of digits as numbers: ``aime_2024__9`` before ``aime_2024__10``.

    Raises
    ------
    ValueError
        If two problems have the same id.
    """
    ordered = sorted(problems, key=lambda problem: natural_key(problem.problem_id))
    counts = Counter(problem.problem_id for problem in ordered)
    for problem_id, count in counts.items():
        if count > 1:
            raise ValueError(f"problem_id must be unique; {problem_id!r} occurs {count} times.")
    return ordered


def natural_key(problem_id: str) -> tuple[str, str]:
    """Return the sort key of an id: runs of digits count by value."""
    return re.sub(r"\d+", lambda digits: digits.group().zfill(12), problem_id), problem_id


def canonicalise_gold(raw: object) -> tuple[str, AnswerType]:
    r"""Return the gold answer in one spelling, and how to grade it.

    Box, math signs and full stop are taken off, inner dollar signs (``69$,$84``, which math-verify cannot
    read) removed, and whole numbers written plainly: 142.0 as 142, 025 as 25.

    Examples
    --------
    >>> canonicalise_gold("$025$"), canonicalise_gold(142.0), canonicalise_gold("69$,$84")
    (('25', 'int'), ('142', 'int'), ('69,84', 'latex'))
    """
    text = re.sub(r"(?<!\\)\$", "", unwrap(str(raw)))
    number = read_number(text)
    # No comma: "100,200" may be a list.
    if number is not None and number.denominator == 1 and re.fullmatch(r"[-+]?\d+(\.0*)?", text):
        return str(number), "int"
    return text, "latex"


def read_gsm8k_gold(solution: str) -> str:
    """Return the number after the last ``####``, without thousands commas.

    Raises
    ------
    ValueError
        If there is none.
    """
    _, mark, tail = solution.rpartition("####")
    gold = tail.strip().removeprefix(":").strip().replace(",", "")
    if not mark or not gold:
        raise ValueError(f"a GSM8K solution ends with '#### answer'; this one ends with {solution[-60:]!r}.")
    return gold


def grade_golds(
    problems: Sequence[Problem], grade_many: Callable[[list[Job]], list[Grade]]
) -> dict[str, Grade]:
    """Grade every gold as the answer to its own problem: whatever is not correct by rule is a fault.

    A gold that comes back as ``literal`` is one that math-verify cannot match with itself; an equal answer
    in other words would be marked wrong.
    """
    grades = grade_many([(problem.gold, problem.gold, problem.answer_type) for problem in problems])
    return {problem.problem_id: grade for problem, grade in zip(problems, grades, strict=True)}


def write_problems(problems: Iterable[Problem], split: Mapping[str, str], path: Path) -> None:
    """Write problems as parquet, with a column `split` (``train`` or ``heldout``) looked up by id."""
    import pandas as pd  # here: the rest of this module needs no tables

    rows = [{**asdict(problem), "split": split[problem.problem_id]} for problem in problems]
    pd.DataFrame(rows).to_parquet(path, index=False)


def read_problems(path: Path, split: str | None = None) -> list[Problem]:
    """Read what `write_problems` wrote, one split of it or all.

    Raises
    ------
    ValueError
        If the file has no problem of that split.
    """
    import pandas as pd

    table = pd.read_parquet(path)
    table = table if split is None else table[table["split"] == split]
    if table.empty:
        raise ValueError(f"{path} has no problem of split {split!r}; run the stage `problems` again.")
    table = table.drop(columns="split").astype(object)
    rows = table.where(table.notna(), None).to_dict("records")
    return [Problem(**{str(name): value for name, value in row.items()}) for row in rows]


# Reading datasets --------------------------------------------------------------------------------------


def read_table(table: str, folder: Path | None = None) -> Iterable[Row]:
    """Return the rows of a table such as ``gsm8k/train`` from the folder, else from the hub.

    Raises
    ------
    DatasetMissingError
        If it is in neither.
    """
    import datasets  # here, because it takes seconds, and most of the library never loads any

    if folder is None and os.environ.get("PANELBOOK_DATASETS"):
        folder = Path(os.environ["PANELBOOK_DATASETS"])
    hub_id, configuration, split = _TABLES[table]
    path = folder / f"{table}.jsonl" if folder else None
    try:
        if path and path.is_file():
            # Streamed, so that no second copy is left in the user's cache.
            rows = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
        else:
            rows = datasets.load_dataset(hub_id, configuration, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        where = f"not in {folder}" if folder else "PANELBOOK_DATASETS names no folder"
        raise DatasetMissingError(
            f"no rows for {table!r}: {where}, and the hub did not give {hub_id!r} ({type(error).__name__}). "
            f"Connect to the hub, or let PANELBOOK_DATASETS name a folder that holds {table}.jsonl."
        ) from error
    return cast("Iterable[Row]", rows)


def _read_gsm8k(read: Reader, split: str) -> Iterator[Problem]:
    for index, row in enumerate(read(f"gsm8k/{split}")):
        gold = read_gsm8k_gold(row["answer"])
        yield Problem(f"gsm8k_{split}__{index}", f"gsm8k_{split}", "gsm8k", row["question"], gold, "gsm8k")


def _read_math(read: Reader, split: str) -> Iterator[Problem]:
    """Yield the seven subjects; a row whose solution boxes nothing has no gold and is left out."""
    for subject in SUBJECTS:
        for index, row in enumerate(read(f"math_{subject}/{split}")):
            boxed = last_boxed(row["solution"])
            if boxed:
                problem_id = f"math_{split}_{subject}__{index}"
                level = row["level"].removeprefix("Level").strip()
                yield Problem(problem_id, "math", subject, row["problem"], *canonicalise_gold(boxed), level)


def _read_math_heldout(read: Reader) -> Iterator[Problem]:
    """Yield MATH test without the questions of MATH-500, spacing aside."""
    published = {re.sub(r"\s", "", row["problem"]) for row in read("math500/test")}
    for problem in _read_math(read, "test"):
        if re.sub(r"\s", "", problem.question) not in published:
            yield problem


def _read_math500(read: Reader) -> Iterator[Problem]:
    for row in read("math500/test"):
        gold = canonicalise_gold(row["answer"])
        yield Problem(row["unique_id"], "math500", row["subject"], row["problem"], *gold, str(row["level"]))


def _read_contests(
    read: Reader, benchmark: str, contests: Mapping[str, tuple[str, str]]
) -> Iterator[Problem]:
    """Yield contests (table -> id prefix, source); rows without a question or an answer are left out."""
    for table, (prefix, source) in contests.items():
        for index, row in enumerate(read(table)):
            question = row.get("problem") or row.get("question")
            answer = row.get("final_answer") or row.get("answer")
            if isinstance(answer, list):
                answer = ", ".join(answer)
            if question and answer not in (None, ""):
                yield Problem(f"{prefix}__{index}", benchmark, source, question, *canonicalise_gold(answer))


def _read_word_problems(read: Reader, benchmark: str, table: str) -> Iterator[Problem]:
    """Yield SVAMP or MAWPS; the hub and the files people pass around differ in column names.

    They state no difficulty. What makes them hard for a small model is arithmetic, so their level is the number of
    digits of the largest number, in the question or as the answer.
    """
    for index, row in enumerate(read(table)):
        question = row.get("question") or row.get("input") or f"{row['Body']} {row['Question']}"
        answer = next(row[key] for key in ("Answer", "target", "result") if row.get(key) is not None)
        gold, _ = canonicalise_gold(answer)
        level = str(max(len(number) for number in re.findall(r"\d+", f"{question} {gold}")))
        yield Problem(f"{benchmark}__{index}", benchmark, benchmark, question, gold, "gsm8k", level)


_AIME = {f"aime_{year}/test": (f"aime_{year}", f"aime_{year}") for year in (2024, 2025)}
_OLYMPIAD = {
    "hmmt_feb_2024/test": ("hmmt_feb_2024", "hmmt"),
    "hmmt_feb_2025/test": ("hmmt_feb_2025", "hmmt"),
    "aime_2024/test": ("aime_2024", "aime"),
    "aime_2025/test": ("aime_2025", "aime"),
    "olympiadbench/test": ("olympiadbench_OE_TO_maths_en_COMP", "olympiadbench"),
    "amc/test": ("amc", "amc"),
}

_READERS: Mapping[BenchmarkName, Callable[[Reader], Iterator[Problem]]] = {
    "gsm8k_train": lambda read: _read_gsm8k(read, "train"),
    "gsm8k_test": lambda read: _read_gsm8k(read, "test"),
    "math_train": lambda read: _read_math(read, "train"),
    "math_heldout": _read_math_heldout,
    "math500": _read_math500,
    "aime": lambda read: _read_contests(read, "aime", _AIME),
    "olympiad": lambda read: _read_contests(read, "olympiad", _OLYMPIAD),
    "svamp": lambda read: _read_word_problems(read, "svamp", "svamp/test"),
    "mawps": lambda read: _read_word_problems(read, "mawps", "mawps_singleop/test"),
}


def _first_of_each(
    problems: Sequence[Problem], n: int, stratum: Callable[[Problem], str | None]
) -> list[Problem]:
    """Keep the first `n` of each stratum."""
    seen: Counter[str | None] = Counter()
    kept = []
    for problem in problems:
        seen[stratum(problem)] += 1
        if seen[stratum(problem)] <= n:
            kept.append(problem)
    return kept
