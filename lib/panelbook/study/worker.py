r"""A process that compares formulas with math-verify, and that can be killed.

math-verify limits its own time by a signal alarm, which only the main thread may set and which waits for
whatever C code is running (``10^{10^{10}}``). Here the limit is a SIGKILL, so it holds in any thread, under a
running event loop and in a notebook kernel.

How a grader's processes hang together: the caller starts one *nursery*, a fresh interpreter (`subprocess`, so
the caller's threads and tensors are never forked and its ``__main__`` never runs again). The nursery imports
math-verify, warms its parser up and forks the *workers*, one for each comparison at a time. Each worker forks a
*child* that compares, and kills it at the limit. All forks are of a process with one thread, and cost
milliseconds where another interpreter would cost a second or two. POSIX only.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal, NoReturn, TypeAlias

Verdict = Literal["correct", "wrong", "unparsable", "timeout"]
Link: TypeAlias = "Connection[Any, Any]"

# A comparison that asks for more address space fails as unreadable instead of taking the machine with it.
MAX_CHILD_BYTES = 4 * 2**30

_START_LIMIT_S = 120.0
# A worker answers within its limit. One that is this much later has itself been stopped.
_GRACE_S = 10.0

_WORD = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}")
# Math between signs. Words in between, or a digit behind, mean currency: "$5 each, so $10 - $5 are left".
_DELIMITED = re.compile(rf"\$(?:(?!{_WORD.pattern})[^$])+\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_SIGNS = re.compile(r"(?<!\\)\$|\\[()\[\]]")
_JOINT = re.compile(r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))\s*")

# Signs that digits belong to an expression: commands, powers, operators between terms, 2x, 3(4), 10! (but an
# exclamation mark after words is one).
FORMULA = re.compile(
    r"\\[a-zA-Z]|[\^_√π]|[\w)}]\s*[+*/×·÷]\s*[\w({\\]|[\d)}]\s*-\s*[\d({\\]|\d[a-zA-Z(]|[a-zA-Z)]\d"
    r"|^[^a-zA-Z]*[\d)]\s*!"
)

# Compared once at the start, so that the parser's tables are filled before the first question.
_WARM_UP = (
    *(r"\frac{1}{2}", r"3\sqrt{2}+\pi", "2x+1", r"x=\frac{-1+\sqrt{5}}{2}", "1,3,5", "(1,2),(3,4)"),
    *(r"[-1, \infty)", r"2^{n}-\binom{n}{2}", r"\left\lfloor\frac{n}{2}\right\rfloor", r"45^{\circ}"),
    *(r"\text{even}", r"\log_2 5", r"62.5\%"),
)


class Worker:
    """The caller's end of a process that compares, one question at a time; made by `start_workers`."""

    def __init__(self, link: Link, nursery: subprocess.Popen[bytes], limit_s: float) -> None:
        self.link = link
        self.nursery = nursery
        self._limit_s = limit_s

    def compare(self, predicted: str, gold: str) -> Verdict:
        """Return whether two formulas are equal.

        Raises
        ------
        RuntimeError
            If the process was lost and cannot be started again.
        """
        for _ in range(2):  # a process killed from outside, say for memory, says nothing about the answer
            with contextlib.suppress(EOFError, OSError):
                if self.link.closed:
                    self._replace()
                return self._ask((predicted, gold))
        return "unparsable"

    def _ask(self, question: tuple[str, str]) -> Verdict:
        verdict: Verdict = "timeout"
        try:
            self.link.send(question)
            if self.link.poll(self._limit_s + _GRACE_S):
                verdict = self.link.recv()
                return verdict
        except BaseException:  # interrupted: its reply would be taken for that to the next question
            self.link.close()
            raise
        self.link.close()
        return verdict

    def _replace(self) -> None:
        (fresh,) = start_workers(1, self._limit_s)
        self.link, self.nursery = fresh.link, fresh.nursery


def start_workers(n_workers: int, limit_s: float) -> list[Worker]:
    """Start processes that compare, and wait until they are ready.

    Parameters
    ----------
    n_workers
        How many.
    limit_s
        Seconds after which a comparison is killed.

    Raises
    ------
    RuntimeError
        If they do not come up.
    """
    pairs = [Pipe() for _ in range(n_workers)]
    numbers = [theirs.fileno() for _, theirs in pairs]
    # The caller's modules, wherever it found them; and one hash seed for all runs, because sympy walks sets,
    # and a close call may hang on the order.
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
    command = "from panelbook.study.worker import run_nursery; run_nursery()"
    nursery = subprocess.Popen(
        [sys.executable, "-P", "-c", command, str(limit_s), *map(str, numbers)],
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **settings},
    )
    workers = [Worker(ours, nursery, limit_s) for ours, _ in pairs]
    for _, theirs in pairs:
        theirs.close()
    try:
        for worker in workers:
            if not (worker.link.poll(_START_LIMIT_S) and worker.link.recv() == "ready"):
                raise EOFError
    except BaseException as error:
        stop_workers(workers)
        if not isinstance(error, EOFError):
            raise
        raise RuntimeError(
            "the grading workers did not start; their own message, if they had one, is on stderr. "
            f"Try: {sys.executable} -c 'import math_verify, panelbook.study.worker'"
        ) from None
    return workers


def stop_workers(workers: Iterable[Worker]) -> None:
    """Hang up and wait; a worker ends when it notices, at the latest at its limit."""
    workers = list(workers)
    for worker in workers:
        worker.link.close()
    for worker in workers:
        try:
            worker.nursery.wait(worker._limit_s + _GRACE_S)
        except subprocess.TimeoutExpired:
            worker.nursery.kill()
            worker.nursery.wait()


def run_nursery() -> None:
    """Be a nursery: fork a worker for each link named on the command line, and outlive them."""
    # An interrupted notebook cell must not take the grader along.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_s, links = float(sys.argv[1]), [Connection(int(number)) for number in sys.argv[2:]]
    compare = load_comparison()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parser remarks on every odd answer
    gc.freeze()  # what is loaded stays: no need to walk it again, nor to copy its pages
    while links:
        link = links.pop()
        if os.fork() == 0:
            # A caller sees that a worker is gone only if nobody else holds that worker's end.
            for other in links:
                other.close()
            _work(link, compare, limit_s)
        link.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _work(link: Link, compare: Callable[[str, str], Verdict], limit_s: float) -> NoReturn:
    """Be a worker: answer the caller's questions until it hangs up."""
    try:
        child = _Child(compare, link)
        link.send("ready")
        with contextlib.suppress(EOFError, OSError):
            while True:
                link.send(child.compare(link.recv(), limit_s))
        child.kill()
    finally:
        os._exit(0)


class _Child:
    """The process that is killed: a fork of the worker, made again when it is gone."""

    def __init__(self, compare: Callable[[str, str], Verdict], caller: Link) -> None:
        self._compare, self._caller = compare, caller
        self._fork()

    def compare(self, question: tuple[str, str], limit_s: float) -> Verdict:
        verdict: Verdict = "timeout"
        try:
            self._link.send(question)
            if self._link.poll(limit_s):
                verdict = self._link.recv()
                return verdict
        except (EOFError, OSError):  # it crashed
            verdict = "unparsable"
        self.kill()
        self._fork()
        return verdict

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._link.close()

    def _fork(self) -> None:
        self._link, theirs = Pipe()
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        # In the child. The caller's end must close, or the caller would never see its worker gone.
        self._caller.close()
        self._link.close()
        for limit, value in ((resource.RLIMIT_AS, MAX_CHILD_BYTES), (resource.RLIMIT_CORE, 0)):
            with contextlib.suppress(ValueError, OSError):  # macOS refuses the first
                resource.setrlimit(limit, (value, value))
        try:
            while True:
                theirs.send(self._compare(*theirs.recv()))
        finally:
            os._exit(0)


def load_comparison() -> Callable[[str, str], Verdict]:
    r"""Import math-verify and return the function that asks it.

    Notes
    -----
    The prediction is read as LaTeX. Only a sentence in plain words is searched for a number instead: taking
    every number that can be found would read ``2\sqrt{3}`` as 2.
    """
    import math_verify  # here, because it takes half a second and only the nursery needs it

    logging.disable(logging.CRITICAL)
    _speed_up_latex_reading()
    latex, plain = math_verify.LatexExtractionConfig(), math_verify.ExprExtractionConfig()

    def read(text: str, config: object) -> list[Any]:
        options = {"parsing_timeout": None, "fallback_mode": "no_fallback"}
        found: list[Any] = math_verify.parse(text, extraction_config=[config], **options)
        return found

    def read_prediction(text: str) -> list[Any]:
        listed = _SIGNS.sub("", _JOINT.sub(", ", text))  # "$3$ and $5$" is the list 3, 5
        if not _WORD.search(listed):
            return read(f"${listed}$", latex)
        if _DELIMITED.search(text):
            return read(text, latex)
        conclusion = re.split(r"\n\s*\n", _SIGNS.sub("", text).strip())[-1]
        return ([] if FORMULA.search(conclusion) else read(conclusion, plain)) or read(f"${text}$", latex)

    @lru_cache(maxsize=4096)  # a gold is met once per draw
    def read_gold(text: str) -> list[Any]:
        return read(f"${_SIGNS.sub('', text)}$", latex)

    def compare(predicted: str, gold: str) -> Verdict:
        golds, predictions = read_gold(gold), read_prediction(predicted)
        if not (golds and predictions):
            return "unparsable"
        if _differ_in_value(golds[0], predictions[0]):
            return "wrong"
        return "correct" if math_verify.verify(golds, predictions, timeout_seconds=None) else "wrong"

    for formula in _WARM_UP:
        compare(formula, formula)
    return compare


def _differ_in_value(gold: Any, predicted: Any) -> bool:
    """Refute equality by numbers, which saves simplifying the difference: most wrong answers end here.

    Only by a wide margin. Whatever is close, or means more than its values (an inequality, a word, a
    percentage), is left to math-verify.
    """
    try:
        return any(_are_apart(_values(gold, scale), _values(predicted, scale)) for scale in (1.0, 37.0))
    except Exception:  # not a matter of values; sympy raises whatever it likes
        return False


def _are_apart(left: set[tuple[float, float]], right: set[tuple[float, float]]) -> bool:
    pairs = zip(sorted(left), sorted(right), strict=False)
    # Not-a-number compares as False, so it counts as close.
    return len(left) != len(right) or any(math.dist(x, y) > 1e-3 * max(1.0, math.hypot(*x)) for x, y in pairs)


def _values(formula: Any, scale: float) -> set[tuple[float, float]]:
    """Evaluate to (real, imaginary), each name a number of its own; a collection gives all its members."""
    import sympy  # type: ignore[import-untyped]
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    if isinstance(formula, sympy.FiniteSet | sympy.Tuple):
        return set().union(*(_values(member, scale) for member in formula.args))
    if isinstance(formula, sympy.Interval):
        return _values(formula.start, scale) | _values(formula.end, scale)
    if isinstance(formula, sympy.Eq) and isinstance(formula.lhs, sympy.Symbol | AppliedUndef):
        return _values(formula.rhs, scale)  # x = 5, f(x) = 2x: math-verify compares the right sides too
    if isinstance(formula, sympy.Symbol) or formula.has(sympy.UnevaluatedExpr):
        raise ValueError("a word or a percentage, not a value")
    # By name: the same symbol may be real on one side and complex on the other.
    point = {name: scale * (1 + zlib.crc32(str(name).encode()) % 997 / 613) for name in formula.free_symbols}
    value = complex(formula.evalf(12, subs=point))
    return {(round(value.real, 6), round(value.imag, 6))}


def _speed_up_latex_reading() -> None:
    """Make the LaTeX reader under math-verify about four times as fast, in the nursery only.

    ANTLR tries its fast prediction mode (SLL) before the full one (LL): by contract SLL gives the same tree
    or a syntax error, and then LL is run. And sympy, which reads every number in a namespace of its own,
    is given one instead of executing ``from sympy import *`` each time. The reader has options for neither.
    """
    from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
    from latex2sympy2_extended import latex2sympy2  # type: ignore[import-untyped]
    from sympy.parsing import sympy_parser  # type: ignore[import-untyped]

    class TwoStageParser(latex2sympy2._Latex2Sympy):  # type: ignore[misc]
        mode = PredictionMode.SLL

        def create_parser(self, latex: str) -> Any:
            parser = super().create_parser(latex)
            parser._interp.predictionMode = self.mode
            return parser

        def parse(self, latex: str) -> Any:
            try:
                return super().parse(latex)
            except Exception:
                self.mode = PredictionMode.LL
                return super().parse(latex)

    latex2sympy2._Latex2Sympy = TwoStageParser
    names: dict[str, Any] = {}
    exec("from sympy import *", names)
    sympy_parser.parse_expr = partial(sympy_parser.parse_expr, global_dict=names)
