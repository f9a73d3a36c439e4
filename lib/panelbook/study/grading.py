r"""Grading: is this answer the gold answer, and if not, what went wrong.

A grade is a status and the text it was read from, never a bare "wrong": an answer that is missing, that no
grader can read or that ran out of time is counted as what it is. Three rules can decide:

- ``number``: both sides are plain numbers (``1,750``, ``0.5``, ``1/2``, ``\frac{1}{2}``) and are compared as
  exact fractions, on the spot.
- ``symbolic``: math-verify parses both sides and compares them.
- ``literal``: math-verify finds no match, but both sides are the same text.

math-verify can compute for ever, so it runs in processes that are killed at the limit (`worker`).

What is *not* handled: finding the answer in a completion (`arms`). Nothing here searches a reasoning trace
for something to mark as right.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, Self, get_args

from panelbook.study.comparison import FORMULA, Verdict
from panelbook.study.vocabulary import AnswerType, Status
from panelbook.study.worker import Worker, start_workers, stop_workers

Rule = Literal["number", "symbolic", "literal"]
Job = tuple[str | None, str, str]

# Longer answers are refused unread; the longest gold of the olympiad pool has under 300 characters.
MAX_ANSWER_CHARS = 20_000
MAX_NUMBER_CHARS = 400
MAX_CACHED_GRADES = 100_000
# How far apart two numbers may lie when one is written as a decimal: the published GSM8K tolerance.
DECIMAL_TOLERANCE = Fraction(1, 10**6)


@dataclass(frozen=True)
class Grade:
    """The verdict on one answer.

    Parameters
    ----------
    status
        ``correct``; ``wrong`` (read, and different); ``no_answer`` (missing or blank); ``unparsable``
        (nothing could be read, on either side); ``timeout`` (killed at the limit).
    predicted
        The text that was compared: the last box if there is one, unwrapped. None for ``no_answer``.
    rule
        The rule that decided; None where none could.
    """

    status: Status
    predicted: str | None
    rule: Rule | None = None


class Grader:
    r"""Grades answers, several at a time, and remembers what it has graded.

    May be shared between threads. Workers start with the first answer that needs one, and stop at the end
    of the ``with`` block, at `close`, or with this process.

    Parameters
    ----------
    n_workers
        Processes that compare; None means one per core, at most eight.
    limit_s
        Seconds after which a comparison is killed.

    Examples
    --------
    >>> with Grader(n_workers=1) as grader:
    ...     grader.grade("0.5", r"\frac{1}{2}", "latex").status
    'correct'
    """

    def __init__(self, n_workers: int | None = None, limit_s: float = 5.0) -> None:
        self.n_workers = min(os.cpu_count() or 1, 8) if n_workers is None else n_workers
        if self.n_workers < 1 or limit_s <= 0:
            raise ValueError(f"n_workers and limit_s must be positive; got {n_workers} and {limit_s}.")
        self.limit_s = limit_s
        self.n_compared = 0
        """Comparisons that reached a worker: neither plain numbers nor repeats."""
        self._cache: dict[tuple[str, str], Grade] = {}
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._workers: list[Worker] = []
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._close = weakref.finalize(self, stop_workers, self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers. A closed grader grades no more."""
        self._close()

    def grade(self, text: str | None, gold: str, answer_type: str = "latex") -> Grade:
        r"""Grade one answer.

        Parameters
        ----------
        text
            The answer as `Arm.parse` gives it: the body of ``<answer>``, or what follows ``</think>``.
        gold
            The right answer.
        answer_type
            ``int``: a number, exactly. ``gsm8k``: a number, to 1e-6. ``latex``: whatever math-verify reads.
            For the first two a sentence stands for its last number, but an answer that looks like a
            formula (``\frac{48}{2}``, ``3 \sqrt{2}``) is evaluated, not searched for digits.

        Raises
        ------
        ValueError
            If the gold is blank, or is no number where `answer_type` says so; or after `close`.
        RuntimeError
            If a worker cannot be started.
        """
        if not self._close.alive:
            raise ValueError("this grader is closed; make a new Grader.")
        gold, gold_number = _read_gold(gold, answer_type)
        predicted = unwrap(text or "")
        if not predicted:
            return Grade("no_answer", None)
        if len(predicted) > MAX_ANSWER_CHARS:
            return Grade("unparsable", predicted[:MAX_ANSWER_CHARS])
        number = read_number(predicted)
        if answer_type != "latex" and number is None and not FORMULA.search(_last_side(predicted)):
            number = _last_number(predicted)
            if number is None:
                return Grade("unparsable", predicted)
        if number is None or gold_number is None:
            return self._compare(predicted, gold)
        exact = answer_type == "int" or not ("." in predicted or "." in gold)
        same = abs(number - gold_number) <= (0 if exact else DECIMAL_TOLERANCE)
        return Grade("correct" if same else "wrong", predicted, "number")

    def grade_many(self, jobs: Iterable[Job]) -> list[Grade]:
        """Grade (text, gold, answer_type) triples over all workers; grades come in the order of the jobs."""
        jobs = list(jobs)
        distinct = list(dict.fromkeys(jobs))
        with ThreadPoolExecutor(self.n_workers) as threads:
            grades = dict(zip(distinct, threads.map(lambda job: self.grade(*job), distinct), strict=True))
        return [grades[job] for job in jobs]

    def _compare(self, predicted: str, gold: str) -> Grade:
        """Ask the cache, else a worker; then see whether the two are at least the same text."""
        key = (predicted, gold)
        with self._lock:
            if key in self._cache:
                return self._cache[key]
            self.n_compared += 1
        with self._borrowed_worker() as worker:
            status: Verdict = worker.compare(predicted, gold)
        if status != "correct" and _squeeze(predicted) == _squeeze(gold):
            grade = Grade("correct", predicted, "literal")
        else:
            grade = Grade(status, predicted, "symbolic" if status in ("correct", "wrong") else None)
        with self._lock:
            if len(self._cache) >= MAX_CACHED_GRADES:
                del self._cache[next(iter(self._cache))]  # the oldest
            self._cache[key] = grade
        return grade

    @contextlib.contextmanager
    def _borrowed_worker(self) -> Iterator[Worker]:
        with self._starting:
            if not self._workers:
                self._workers += start_workers(self.n_workers, self.limit_s)
                for worker in self._workers:
                    self._idle.put(worker)
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)


# Reading text ------------------------------------------------------------------------------------------

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_LAYOUT = re.compile(r"(?<!\\)\\(?:[,!;:> ]|(?:left|right|displaystyle)(?![a-zA-Z]))")
_UNITS = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<decimal>{_DIGITS}(?:\.\d*)?|\.\d+)"
    r"|(?P<over>\d+)\s*/\s*(?P<under>\d+)"
    r"|\\[dt]?frac\s*(?:\{(?P<top>-?\d+)\}\s*\{(?P<bottom>-?\d+)\}|(?P<one>\d)\s*(?P<two>\d)))"
)
_NUMBER_IN_WORDS = re.compile(rf"(?<![\w.])-?(?:{_DIGITS}(?:\.\d+)?|\.\d+)")


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{...}``, braces balanced; None without one.

    Examples
    --------
    >>> last_boxed(r"first \boxed{1}, no: \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    start = max((found.end() for found in _BOX.finditer(text)), default=None)
    if start is None:
        return None
    depth = 1
    for brace in re.finditer(r"(?<!\\)[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : start + brace.start()].strip()
    return None


def unwrap(text: str) -> str:
    r"""Return the answer itself: the last box if any, without math delimiters, bold and closing full stop.

    Examples
    --------
    >>> unwrap(r"So it is $\boxed{\frac{1}{2}}$."), unwrap("$36$."), unwrap(r"\(x\) or \(y\)")
    ('\\frac{1}{2}', '36', '\\(x\\) or \\(y\\)')
    """
    boxed = last_boxed(text)
    core, before = (text if boxed is None else boxed).strip(), None
    while core != before:
        before = core
        bare = core.rstrip(".,;: \n")
        core = core[: len(bare) + bare.endswith("\\")]  # "5\\," ends in a space, not in a comma
        for left, right in _WRAPPERS:
            inner = core[len(left) : -len(right)]
            if core.startswith(left) and core.endswith(right) and left not in inner and right not in inner:
                core = inner.strip()
    return core


def read_number(text: str) -> Fraction | None:
    r"""Return the exact value of a plain number: integer, decimal, ``a/b``, ``\frac{a}{b}``; else None.

    Examples
    --------
    >>> read_number("$1,750.50"), read_number(r"-\dfrac{2}{4}"), read_number("2x")
    (Fraction(3501, 2), Fraction(-1, 2), None)
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    found = _NUMBER.fullmatch(_without_layout(text).strip(" $"))
    if not found:
        return None
    part = found.groupdict()
    top = (part["decimal"] or part["over"] or part["top"] or part["one"]).replace(",", "")
    bottom = int(part["under"] or part["bottom"] or part["two"] or 1)
    if bottom == 0:
        return None
    return (-1 if part["sign"] == "-" else 1) * Fraction(top) / bottom


def _last_number(text: str) -> Fraction | None:
    """Return the last number in a sentence."""
    numbers = _NUMBER_IN_WORDS.findall(_last_side(text))
    return read_number(numbers[-1]) if numbers else None


def _last_side(text: str) -> str:
    r"""Return what follows the last equals sign, with units as words: ``x = 5 \text{ cm}`` reads ``5 cm``."""
    return _UNITS.sub(r" \1 ", _without_layout(text)).rpartition("=")[2].strip(" %\\$")


def _without_layout(text: str) -> str:
    return _LAYOUT.sub("", text.replace("{,}", ",").replace("−", "-").replace("~", " ").replace(r"\$", ""))


def _squeeze(text: str) -> str:
    """Return the text without spacing, sizes, math signs and unit wrappers, for comparing as text."""
    return re.sub(r"[\s$]", "", _UNITS.sub(r"\1", _without_layout(text).replace("dfrac", "frac")))


@lru_cache(maxsize=4096)
def _read_gold(gold: str, answer_type: str) -> tuple[str, Fraction | None]:
    """Return the gold unwrapped, and as a number unless it is a formula."""
    if answer_type not in get_args(AnswerType):
        raise ValueError(f"answer_type must be one of {get_args(AnswerType)}; got {answer_type!r}.")
    bare = unwrap(gold)
    if not bare:
        raise ValueError(
            f"the gold answer is blank ({gold!r}): nothing can be graded against it. Drop the problem."
        )
    number = read_number(bare)
    if number is None and answer_type != "latex":
        raise ValueError(
            f"gold {gold!r} is no number, so it cannot be graded as {answer_type!r}; use 'latex'."
        )
    return bare, number
