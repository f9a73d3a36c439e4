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
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn, TypeAlias

from panelbook.study.comparison import Verdict, load_comparison

Link: TypeAlias = "Connection[Any, Any]"

# A comparison that asks for more address space fails as unreadable instead of taking the machine with it.
MAX_CHILD_BYTES = 4 * 2**30

_START_LIMIT_S = 120.0
# A worker answers within its limit. One that is this much later has itself been stopped.
_GRACE_S = 10.0


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
            if self.link.closed:
                self._replace()
            with contextlib.suppress(EOFError, OSError):
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
