"""What the terminal shows while stages run: a bar per notebook, or plain lines where there is no terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from panelbook.pipeline.run import Outcome
from panelbook.pipeline.stages import StageRun

QUIET_S = 5.0
"""Without a terminal a running notebook reports at most this often, in seconds."""


class StageDisplay:
    """Progress of several notebooks at once, cell by cell. Its methods are the callbacks of `run_all`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._spoken: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.__exit__(kind, value, trace)

    def start(self, run: StageRun) -> None:
        """Show that a run is under way."""
        self._tasks[run.full_id] = self.progress.add_task(run.full_id, total=None, note="")
        self._spoken[run.full_id] = time.monotonic()

    def cell(self, run: StageRun, done: int, total: int) -> None:
        """Show how far a run has come."""
        self.progress.update(self._tasks[run.full_id], completed=done, total=total)
        if not self.console.is_terminal and time.monotonic() - self._spoken[run.full_id] > QUIET_S:
            self._spoken[run.full_id] = time.monotonic()
            self.console.print(f"  {run.full_id}: cell {done} of {total}", markup=False)

    def note(self, run: StageRun, line: str) -> None:
        """Show how far a long cell has come, in its own words."""
        self.progress.update(self._tasks[run.full_id], note=line)
        if not self.console.is_terminal and time.monotonic() - self._spoken[run.full_id] > QUIET_S:
            self._spoken[run.full_id] = time.monotonic()
            self.console.print(f"  {run.full_id}: {line}", markup=False, highlight=False)

    def end(self, outcome: Outcome) -> None:
        """Replace the bar by one line that stays."""
        self._remove_bar(outcome.run)
        if outcome.status == "executed":
            self.console.print(
                f"  {outcome.run.full_id}: executed in {outcome.wall_s:.1f} s", markup=False, highlight=False
            )

    def fail(self, run: StageRun) -> None:
        """Say at once that a run has failed: those that do not read from it may go on for hours."""
        self._remove_bar(run)
        self.console.print(f"  {run.full_id}: failed; why comes at the end", markup=False, highlight=False)

    def _remove_bar(self, run: StageRun) -> None:
        task = self._tasks.pop(run.full_id, None)
        if task is not None:
            self.progress.remove_task(task)
