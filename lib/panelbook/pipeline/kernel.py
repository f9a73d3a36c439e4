"""Execute one notebook with papermill: the only module that starts a kernel.

Papermill does the parameter injection and the cell loop; the engine registered here adds what it
lacks: a callback at every cell, a working directory for the kernel alone (papermill would change
that of the whole process, which other threads share), and an environment that keeps a run
repeatable and quiet.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

from panelbook.rollouts.progress import VARIABLE

OnCell = Callable[[int, int], None]
"""Called with (cells finished, cells in all) whenever a cell ends."""

OnNote = Callable[[str], None]
"""Called with the line of progress that a long cell last told (`panelbook.rollouts.progress`)."""

NOTE_EVERY_S = 1.0

KERNEL_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",  # notebooks run side by side; threads below them would only contend
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


class KernelDied(RuntimeError):
    """The kernel process ended in the middle of a cell, which raised nothing: out of memory, or killed."""

    def __init__(self, cell_id: str) -> None:
        super().__init__(f"the kernel died in cell {cell_id!r}")
        self.cell_id = cell_id


class ProgressEngine(Engine):  # type: ignore[misc]
    """Papermill engine that reports every cell and starts the kernel in a folder and environment of its own."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        on_cell: OnCell,
        kernel_cwd: Path,
        kernel_env: Mapping[str, str],
        kernel_log: Path,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **_: Any,
    ) -> Any:
        """Run every cell of the managed notebook and stop at the first that fails."""
        total = len(nb_man.nb.cells)
        client = PapermillNotebookClient(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=execution_timeout,
            on_cell_complete=lambda cell, cell_index: on_cell(cell_index + 1, total),
        )
        # What the kernel process itself prints (start-up notices, a native crash) goes to a file: beside
        # the notebooks of other threads it would only garble the terminal.
        with kernel_log.open("wb") as log:
            try:
                return client.execute(cwd=str(kernel_cwd), env=dict(kernel_env), stdout=log, stderr=log)
            except DeadKernelError:
                begun = [
                    cell for cell in nb_man.nb.cells if cell.metadata.papermill["status"] != nb_man.PENDING
                ]
                raise KernelDied(begun[-1].id) from None


papermill_engines.register("panelbook", ProgressEngine)


def execute(
    notebook: nbformat.NotebookNode,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cwd: Path,
    on_cell: OnCell = lambda done, total: None,
    on_note: OnNote = lambda line: None,
) -> nbformat.NotebookNode:
    """Execute `notebook` in a new kernel of this interpreter and return it with its outputs.

    Parameters
    ----------
    notebook
        The source, left unchanged.
    output
        Where papermill writes the executed copy, also when a cell fails; what the kernel process prints goes
        to the same name with the suffix `.log`.
    parameters
        Checked values for the cell tagged `parameters`.
    cwd
        Working directory of the kernel.
    on_cell, on_note
        Progress callbacks.

    Raises
    ------
    papermill.PapermillExecutionError
        If a cell raises.
    KernelDied
        If the kernel ends without an exception.
    """
    with tempfile.TemporaryDirectory(prefix="panelbook-ipython-") as ipython_dir:
        # Without a profile folder of its own, kernels started together race for the same history file.
        note = Path(ipython_dir, "progress.txt")
        environment = os.environ | KERNEL_ENVIRONMENT | {"IPYTHONDIR": ipython_dir, VARIABLE: str(note)}
        # The interpreter's own kernel first, whatever kernels the reader has registered under that name.
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        with _watch(note, on_note):
            return papermill.execute_notebook(
                notebook,
                str(output),
                parameters=dict(parameters),
                engine_name="panelbook",
                kernel_name="python3",
                progress_bar=False,
                request_save_on_cell_execute=False,
                on_cell=on_cell,
                kernel_cwd=cwd,
                kernel_env=environment,
                kernel_log=output.with_suffix(".log"),
            )


@contextmanager
def _watch(note: Path, on_note: OnNote) -> Iterator[None]:
    """Pass on what the notebook writes to its progress file."""
    done = threading.Event()

    def follow() -> None:
        told = ""
        while not done.wait(NOTE_EVERY_S):
            with suppress(OSError):
                line = note.read_text(encoding="utf-8")
                if line != told:
                    told = line
                    on_note(line)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
