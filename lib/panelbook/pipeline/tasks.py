"""Schedule the runs of a plan with pytask: the only module that knows it.

pytask decides from content, not from times, which runs have to happen, in which order, and which may go
side by side; killed in the middle, it redoes only what had not finished. Every task is one call of
`run_stage`. Workers are threads: the work itself happens in the kernels that they start.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import filelock
import psutil

from panelbook.errors import BookError
from panelbook.pipeline.run import (
    CellCallback,
    NoteCallback,
    Outcome,
    StageFailed,
    clear_scratch,
    code_key,
    run_stage,
)
from panelbook.pipeline.stages import MANIFEST, StageRun
from panelbook.project import Project


class BuildRunning(BookError):
    """Another build works in the same checkout."""


class BuildStopped(BookError):
    """The reader interrupted the build."""


@dataclass
class Report:
    """What a build did with each run."""

    executed: list[Outcome] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, BaseException] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


@contextmanager
def build_lock(project: Project) -> Any:
    """Hold the checkout's build lock; the operating system releases it when the process ends, however it ends.

    Raises
    ------
    BuildRunning
        If another process holds it.
    """
    project.runs.mkdir(exist_ok=True)
    note = project.runs / ".lock.txt"
    try:
        with filelock.FileLock(project.runs / ".lock", timeout=0):
            note.write_text(
                f"process {os.getpid()}, since {datetime.now(UTC):%H:%M:%S} UTC", encoding="utf-8"
            )
            clear_scratch(project)
            yield
    except filelock.Timeout:
        holder = note.read_text(encoding="utf-8") if note.exists() else "unknown process"
        raise BuildRunning(
            f"Another build is running in {project.root} ({holder}). Wait for it to end, or stop it."
        ) from None


def run_all(
    project: Project,
    runs: Iterable[StageRun],
    *,
    n_workers: int = 2,
    on_start: Callable[[StageRun], None] = lambda run: None,
    on_cell: CellCallback = lambda run, done, total: None,
    on_note: NoteCallback = lambda run, line: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
    on_fail: Callable[[StageRun], None] = lambda run: None,
) -> Report:
    """Bring every run up to date, in an order and with a parallelism that their inputs allow.

    A run that fails takes down only those that read its files; the others finish.

    Parameters
    ----------
    n_workers
        Notebooks executed side by side, each in a kernel of its own.
    on_start, on_cell, on_note, on_end, on_fail
        Progress callbacks, called from worker threads, one at a time.

    Raises
    ------
    StageFailed
        Before anything runs, if a run reads a file that is neither there nor made by another.
    BuildStopped
        If the reader interrupts it (Ctrl-C): running kernels are ended, what had finished is kept.
    BookError
        If the runs read from each other in a circle.
    """
    import pytask  # deferred: two seconds that `--help` and `params` should not pay

    pytask.console.quiet = True  # the command line has its own display
    report, lock, stopping = Report(), threading.Lock(), threading.Event()

    def perform(run: StageRun) -> None:
        if stopping.is_set():  # pytask had queued it before the interrupt
            raise BuildStopped(run.full_id)
        with lock:
            on_start(run)

        def cell(done: int, total: int) -> None:
            with lock:
                on_cell(run, done, total)

        def note(line: str) -> None:
            with lock:
                on_note(run, line)

        try:
            outcome = run_stage(project, run, on_cell=cell, on_note=note)
        except Exception:
            if not stopping.is_set():  # an interrupt ends running kernels; no run has failed then
                with lock:
                    on_fail(run)
            raise
        with lock:
            if outcome.status == "executed":
                report.executed.append(outcome)
            else:
                report.unchanged.append(run.full_id)
            on_end(outcome)

    runs = list(runs)
    _check_inputs(project, runs)
    project.runs.mkdir(exist_ok=True)
    # Pytask keeps its records beside its configuration; left alone it would put them at the top of the checkout.
    config = project.runs / "pytask.toml"
    config.write_text("[tool.pytask.ini_options]\n", encoding="utf-8")
    with _kernels_end_on_interrupt(stopping):
        session = pytask.build(
            tasks=[_make_task(project, run, perform) for run in runs],
            config=config,
            paths=project.runs,
            n_workers=max(1, min(n_workers, len(runs))),
            parallel_backend="threads",
            capture="no",
            verbose=0,
        )
    for result in session.execution_reports:
        name = result.task.name.partition("/")[2]
        if result.outcome == pytask.TaskOutcome.FAIL and result.exc_info and result.exc_info[1]:
            report.failed[name] = result.exc_info[1]
        elif result.outcome in (pytask.TaskOutcome.SKIP_UNCHANGED, pytask.TaskOutcome.PERSISTENCE):
            report.unchanged.append(name)
        elif result.outcome != pytask.TaskOutcome.SUCCESS:
            report.skipped.append(name)
    if stopping.is_set():
        left = len(runs) - len(report.executed) - len(report.unchanged)
        raise BuildStopped(
            f"Stopped with {left} of {len(runs)} notebooks not done. What had finished is kept; run the same "
            "command again for the rest."
        )
    if session.exit_code == pytask.ExitCode.DAG_FAILED:
        raise BookError(
            "The scheduler could not order the stages: does a stage read what a later one writes?"
        )
    return report


@contextmanager
def _kernels_end_on_interrupt(stopping: threading.Event) -> Iterator[None]:
    """Answer Ctrl-C at once: without this, pytask would wait for the running notebooks, a training among them.

    Kernels live in process groups of their own, which the terminal's interrupt does not reach.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        stopping.set()
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        stopping.set()  # it came outside pytask's own handling
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _check_inputs(project: Project, runs: list[StageRun]) -> None:
    made = {(run.folder / name).as_posix() for run in runs for name in run.outputs}
    for run in runs:
        for name in run.inputs:
            if name not in made and not project.path(name).is_file():
                raise StageFailed(
                    f"{run.id} reads {name}, which does not exist and which no run of this build makes. "
                    "Correct the path, or make the file."
                )


def _make_task(project: Project, run: StageRun, perform: Callable[[StageRun], None]) -> Any:
    """Describe a run to pytask: what it depends on, what it produces, what to call."""
    import pytask

    folder = project.root / run.folder
    reads = [pytask.PathNode(path=project.path(name)) for name in run.inputs]
    writes = [pytask.PathNode(path=folder / name) for name in (*run.outputs, MANIFEST)]

    @pytask.task(name=f"{run.profile}/{run.full_id}", kwargs={"reads": reads})
    def task(
        reads: list[Path],
        key: Annotated[str, pytask.PythonNode(value=code_key(project, run), hash=True)],
        writes: Annotated[list[Path], pytask.Product] = writes,  # type: ignore[assignment]
    ) -> None:
        perform(run)

    return task
