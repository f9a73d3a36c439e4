"""Run one stage, once, atomically: the only way a notebook of this book is executed.

`make book`, the command line, the tests and continuous integration all come through `run_stage`:
check the inputs, execute in a fresh folder, check what the notebook left, make it canonical, write
the manifest last, move the folder into place. Until that last rename nothing under the run's own
folder has changed; a run that fails, is killed or fills the disk leaves the previous result whole.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from papermill import PapermillExecutionError

from panelbook.engine.service import ServiceError
from panelbook.errors import BookError
from panelbook.pipeline.kernel import KernelDied, OnCell, OnNote, execute
from panelbook.pipeline.notebook import canonicalise, hash_code, read_notebook, write_notebook
from panelbook.pipeline.stages import MANIFEST, NOTEBOOK, RESULTS, StageRun
from panelbook.project import Project
from panelbook.publish.downloads import FOLDER, take_files, write_files
from panelbook.publish.numbers import BareNumber, check_outputs, check_records
from panelbook.publish.results import ResultsError, read_results
from panelbook.rollouts import published

MAX_NOTEBOOK_BYTES = 2_000_000
"""A page above two megabytes opens slowly on a phone; text in bulk belongs in an artefact."""

REPORTED_PACKAGES = ("numpy", "pandas", "scipy", "matplotlib", "papermill", "jupyter-book")


class StageFailed(BookError):
    """A stage did not finish; the message says where, the failed notebook is kept apart."""


@dataclass(frozen=True)
class Outcome:
    """What `run_stage` did: `unchanged` means that the folder already held the result of this very key."""

    run: StageRun
    status: Literal["executed", "unchanged"]
    wall_s: float


def run_stage(
    project: Project,
    run: StageRun,
    *,
    force: bool = False,
    on_cell: OnCell = lambda done, total: None,
    on_note: OnNote = lambda line: None,
) -> Outcome:
    """Execute one stage unless its folder already holds the result of the same key.

    Parameters
    ----------
    project
        The checkout.
    run
        Stage, group and checked parameters.
    force
        Execute even if nothing has changed.
    on_cell
        Called with (cells finished, cells in all).
    on_note
        Called with a line of progress from within a long cell.

    Raises
    ------
    StageFailed
        If an input is missing, a cell raises, a declared file is not written, the results are not
        readable, a number has neither interval nor reason, or the disk is full. The executed notebook of a
        cell that raised is then under `runs/<profile>/failed/`.
    """
    started = time.monotonic()
    key = stage_key(project, run)
    folder = project.root / run.folder
    if not force and is_current(folder, key):
        return Outcome(run, "unchanged", time.monotonic() - started)
    scratch = project.runs / ".scratch" / f"{run.id}-{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
        _execute_in(project, run, scratch, on_cell, on_note)
        _check_outputs(run, scratch)
        wall_s = time.monotonic() - started
        _write_json(scratch / MANIFEST, _manifest(project, run, key, scratch, wall_s))
        _move_into_place(scratch, folder)
    except OSError as error:
        raise StageFailed(
            f"{run.id}: {error}. Nothing was changed; free the space or the path and run again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(run, "executed", wall_s)


def stage_key(project: Project, run: StageRun) -> str:
    """Return the SHA-256 of everything a run's result depends on: `code_key` and the content of its inputs.

    Raises
    ------
    StageFailed
        If an input does not exist.
    """
    parts = [code_key(project, run)]
    for name in run.inputs:
        path = project.path(name)
        if not path.is_file():
            raise StageFailed(
                f"{run.id} reads {name}, which does not exist. Run `panelbook build` to make it."
            )
        parts.append(hash_file(path))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_key(project: Project, run: StageRun) -> str:
    """Return the SHA-256 of what a run depends on before any stage has run.

    The code of its notebook (prose aside), its parameters, the modules of this package that it imports,
    directly or not, the lock file, and for stages that read published files their pinned hashes.

    Raises
    ------
    StageFailed
        If a cell is not valid Python.
    """
    notebook = read_notebook(project.notebooks / run.stage.notebook)
    params = dataclasses.asdict(run.params)
    modules: frozenset[str] = frozenset()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                modules |= imported_modules(cell.source)
            except SyntaxError as error:
                raise StageFailed(
                    f"{run.id}: cell {cell.id!r} of {run.stage.notebook} is not valid Python, line {error.lineno}: "
                    f"{(error.text or '').strip()}\n  SyntaxError: {error.msg}"
                ) from None
    parts = [
        hash_code(notebook),
        json.dumps(params, sort_keys=True),
        hash_library(modules),
        hash_file(project.root / "requirements.lock"),
        published.registry_hash() if run.params.needs_published else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_current(folder: Path, key: str) -> bool:
    """Return whether `folder` holds the untouched result of `key`: same key, every file with its recorded hash."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["key"] != key:
        return False
    return all(
        (folder / name).is_file() and hash_file(folder / name) == digest
        for name, digest in manifest["outputs"].items()
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished run, or None if there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest if {"key", "outputs"} <= manifest.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache  # the scheduler asks first, on the main thread: ast.parse is not safe in several at once
def imported_modules(code: str) -> frozenset[str]:
    """Return the modules of this package that `code` imports, directly or through others."""
    tree = ast.parse(code)
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    graph = _import_graph()
    direct = {name for name in named if name in graph.modules}
    return frozenset(direct.union(*(graph.find_upstream_modules(name) for name in direct)))


@functools.cache
def _import_graph() -> Any:
    import grimp  # deferred: only building a key needs it

    return grimp.build_graph("panelbook", cache_dir=None)


@functools.cache
def hash_library(modules: frozenset[str]) -> str:
    """Return a SHA-256 over the source of some modules of this package, and of the scripts that stand beside them."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in sorted(modules):
        path = package.joinpath(*name.split(".")[1:])
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        script = source.with_suffix(".js")  # what a module of this name puts on its page
        for part in (source, *([script] if script.is_file() else [])):
            digest.update(name.encode() + b"\0" + part.read_bytes() + b"\0")
    return digest.hexdigest()


def clear_scratch(project: Project) -> None:
    """Remove what killed runs left behind; call it only while holding the build lock."""
    shutil.rmtree(project.runs / ".scratch", ignore_errors=True)


def _execute_in(project: Project, run: StageRun, scratch: Path, on_cell: OnCell, on_note: OnNote) -> None:
    """Execute the notebook into `scratch`, and turn a failing cell into one screen of text."""
    notebook = read_notebook(project.notebooks / run.stage.notebook)
    values = dataclasses.asdict(run.params) | {"output_dir": str(scratch)}
    target = scratch / NOTEBOOK
    try:
        executed = execute(notebook, target, values, cwd=project.root, on_cell=on_cell, on_note=on_note)
    except PapermillExecutionError as error:
        kept = _keep_failed(project, run, scratch)
        raise StageFailed(_describe_failure(run, notebook, error, project.relative(kept))) from None
    except KernelDied as death:
        left = project.relative(_keep_failed(project, run, scratch).parent)
        raise StageFailed(
            f"{run.id}: the kernel died in cell {death.cell_id!r} of {run.stage.notebook} without an exception: "
            f"out of memory, or killed from outside.\nWhat it left is kept in {left}; the last good result, if any, "
            "is untouched."
        ) from None
    page = canonicalise(executed, run.params, project.root)
    write_files(take_files(page), scratch / FOLDER)
    write_notebook(page, target)
    target.with_suffix(".log").unlink()


def _keep_failed(project: Project, run: StageRun, scratch: Path) -> Path:
    """Move what a failed run left to `runs/<profile>/failed/`, where nothing reads it."""
    kept = project.runs / run.profile / "failed" / run.full_id
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(kept)
    return kept / NOTEBOOK


def _describe_failure(run: StageRun, notebook: Any, error: PapermillExecutionError, kept: str) -> str:
    """Say which stage, cell and line failed, with the last frame of the traceback.

    A service that fails has nothing to do with the line that asked it: what it says is all there is to say.
    """
    if error.ename == ServiceError.__name__:
        return f"{run.full_id}: {error.evalue}"
    blocks = [re.sub(r"\x1b\[[0-9;]*m", "", block) for block in error.traceback]
    frames = [block for block in blocks if re.match(r"Cell In|File ", block)]
    here = next((_arrow(frame) for frame in reversed(frames) if frame.startswith("Cell In")), "")
    last = frames[-1] if frames else ""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cell = next((cell.id for cell in code if cell.source == error.source), "?")
    lines = [
        f"{run.full_id} failed in cell {cell!r} of {run.stage.notebook}",
        f"  line:  {here or error.source.splitlines()[-1]}",
        *(
            [f"  at:    {last.splitlines()[0]}", f"         {_arrow(last)}"]
            if last.startswith("File ")
            else []
        ),
        f"  error: {error.ename}: {error.evalue}",
        f"The executed notebook is kept at {kept}; the last good result, if any, is untouched.",
    ]
    return "\n".join(lines)


def _arrow(frame: str) -> str:
    """Return the line that a frame of a traceback points at."""
    return next((line.strip() for line in frame.splitlines() if re.match(r"\s*-+>\s*\d+", line)), "")


def _check_outputs(run: StageRun, scratch: Path) -> None:
    missing = [name for name in run.outputs if not (scratch / name).is_file()]
    if missing:
        raise StageFailed(
            f"{run.id}: {run.stage.notebook} ended without writing {', '.join(missing)}, which its stage declares. "
            "Write it to output_dir, or take it out of `writes` in pipeline/stages.py."
        )
    size = (scratch / NOTEBOOK).stat().st_size
    if size > MAX_NOTEBOOK_BYTES:
        raise StageFailed(
            f"{run.id}: the executed notebook has {size:,} bytes, more than {MAX_NOTEBOOK_BYTES:,}. "
            "Write bulk text to an artefact instead of the output of a cell."
        )
    try:
        records = read_results(scratch / RESULTS)
        check_records(records, run.stage.notebook)
        check_outputs(read_notebook(scratch / NOTEBOOK), records, run.stage.notebook)
    except (ResultsError, BareNumber) as error:
        raise StageFailed(f"{run.id}: {error}") from None


def _manifest(project: Project, run: StageRun, key: str, scratch: Path, wall_s: float) -> dict[str, Any]:
    commit, dirty = git_state(project.root)
    return {
        "stage": run.stage.name,
        "group": run.group,
        "profile": run.profile,
        "variant": run.variant,
        "changes": dict(run.changes),
        "key": key,
        "params": {k: v for k, v in dataclasses.asdict(run.params).items() if k != "output_dir"},
        "inputs": {name: hash_file(project.path(name)) for name in run.inputs},
        "outputs": {name: hash_file(scratch / name) for name in [*run.outputs, *_list_files(scratch)]},
        "commit": commit,
        "dirty": dirty,
        "published_commit": published.COMMIT if run.params.needs_published else None,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in REPORTED_PACKAGES},
        "lock": hash_file(project.root / "requirements.lock"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(wall_s, 1),
    }


def _list_files(scratch: Path) -> list[str]:
    """List what readers may download, besides what the stage declares."""
    return sorted(path.relative_to(scratch).as_posix() for path in (scratch / FOLDER).glob("*"))


def git_state(root: Path) -> tuple[str, bool]:
    """Return the commit of the checkout and whether tracked files differ from it; ("unknown", True) without git."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _move_into_place(scratch: Path, folder: Path) -> None:
    """Put `scratch` where `folder` is. If killed between the two renames, the stage simply runs again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = scratch.with_name(scratch.name + ".old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    scratch.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


CellCallback = Callable[[StageRun, int, int], None]
"""Called with (run, cells finished, cells in all) by everything that runs several stages."""

NoteCallback = Callable[[StageRun, str], None]
"""Called with (run, line of progress) by everything that runs several stages."""
