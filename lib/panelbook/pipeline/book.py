"""Build the book: plan, run what has changed, stage, render.

This is what `panelbook build` does, without the command line around it.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from panelbook.errors import BookError
from panelbook.pipeline.display import StageDisplay
from panelbook.pipeline.notebook import join_page, read_notebook
from panelbook.pipeline.run import StageFailed, git_state
from panelbook.pipeline.stages import LEDGER, NOTEBOOK, RESULTS, Stage, StageRun
from panelbook.pipeline.tasks import Report, run_all
from panelbook.project import Project
from panelbook.publish.headline import headline_table, live_table, read_headlines, verdict_cards
from panelbook.publish.numbers import check_page, check_records
from panelbook.publish.pages import CHAPTERS, Chapter, Stamp, render_book, stage_book
from panelbook.publish.results import read_results
from panelbook.rollouts import published

FRONT = Path("imported") / "front.md"
"""Under the folder of a profile in `runs`: the first page of a book of imported draws, where there is one."""


@dataclass(frozen=True)
class Rendered:
    """Where the book is, and whether it had to be rendered again."""

    index: Path
    rendered: bool


def published_status(say: Callable[[str], None], *, download: bool = True) -> str:
    """Return "" if the published files are here, verified, or else why not; try to download them once.

    Raises
    ------
    PublishedDataError
        If files are there but damaged: that needs the reader, a book without them would hide it.
    """
    try:
        published.locate()
        return ""
    except published.PublishedDataMissing as missing:
        if not download:
            return str(missing)
    say("The published study's files are not here yet; downloading them (2 MB, once).")
    try:
        published.fetch()
        return ""
    except published.PublishedDataError as error:
        return str(error)


def execute_runs(project: Project, runs: Iterable[StageRun], display: StageDisplay, n_workers: int) -> Report:
    """Bring runs up to date under a progress display.

    Raises
    ------
    StageFailed
        If a run failed; its message holds one screen for each failure.
    """
    with display:
        report = run_all(
            project,
            runs,
            n_workers=n_workers,
            on_start=display.start,
            on_cell=display.cell,
            on_note=display.note,
            on_end=display.end,
        )
    if report.failed:
        for error in report.failed.values():
            if not isinstance(error, BookError):
                raise error
        texts = [str(error) for error in report.failed.values()]
        if report.skipped:
            texts.append(f"Not run, because they read from what failed: {', '.join(sorted(report.skipped))}.")
        raise StageFailed("\n\n".join(texts))
    return report


def without_published(runs: list[StageRun]) -> tuple[list[StageRun], list[StageRun]]:
    """Split runs into those that need no published file, directly or through another run, and the rest."""
    blocked: list[StageRun] = []
    for run in runs:
        folders = {other.folder.as_posix() for other in blocked}
        reads_blocked = any(Path(name).parent.as_posix() in folders for name in run.inputs)
        if run.params.needs_published or reads_blocked:
            blocked.append(run)
    return [run for run in runs if run not in blocked], blocked


def render(
    project: Project,
    runs: list[StageRun],
    *,
    missing: str = "",
    target: Path | None = None,
    variants: Iterable[StageRun] = (),
) -> Rendered:
    """Stage and render the book of these runs.

    A profile of imported draws has a first page and a table of contents of its own. References of hand-written
    pages to chapters that such a book lacks become plain text there instead of stopping it.

    Parameters
    ----------
    missing
        Why the published chapters could not be made; empty if they could.
    target
        Folder of the HTML; default `_build/html`.
    variants
        Re-runs with changed parameters, each shown in place of its baseline.

    Raises
    ------
    BookError
        If a page cannot be made, shows a number with neither interval nor reason, or the renderer warns.
    """
    html_dir = target or project.build / "html"
    staged = html_dir.with_name("source" if target is None else html_dir.name + ".source")
    html_dir.parent.mkdir(parents=True, exist_ok=True)
    changed = {run.id: run for run in variants}
    blocked = {run.id for run in without_published(runs)[1]} if missing else set()
    shown = [changed.get(run.id, run) for run in runs]
    chapters = [_chapter(project, run, missing if run.id in blocked else "") for run in shown]
    results = {
        run.id: load_results(project, run) for run in shown if (project.root / run.folder / RESULTS).is_file()
    }
    for run, chapter in zip(shown, chapters, strict=True):
        check_records(results.get(run.id, {}), run.id)
        if chapter.notebook is not None:
            check_page(chapter.notebook, results.get(run.id, {}), run.id)
    commit, dirty = git_state(project.root)
    stamp = Stamp(commit, dirty, published.registry_hash(), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    log = html_dir.with_name(html_dir.name + ".log")
    front = project.runs / runs[0].profile / FRONT if runs else None
    if front and front.is_file():
        text = front.read_text(encoding="utf-8")
        digest = stage_book(
            project, staged, chapters, {FRONT.name: text}, stamp, toc_name="_toc_imported.yml"
        )
        rendered = render_book(staged, html_dir, digest, log, strict=False)
        return Rendered(html_dir / "index.html", rendered)
    pages = {run.id: f"/{CHAPTERS}/{run.page}" for run in shown}
    ledger = load_ledger(project, shown)
    for claim in ledger:
        check_records(claim["records"], f"claim {claim['id']}")
    rows = read_headlines(project.params / "live.yml")

    def link(run: str, text: str) -> str:
        return f"{{doc}}`{text} <{pages[run]}>`" if run in pages else text

    generated = {
        "headline.md": headline_table(ledger, link),
        "live.md": live_table(rows, results, link),
        "cards.md": verdict_cards(ledger, rows, results, link),
    }
    note = f":::{{warning}}\n{missing}\n:::\n\n" if missing else ""
    digest = stage_book(
        project, staged, chapters, generated | {"cards.md": note + generated["cards.md"]}, stamp
    )
    rendered = render_book(staged, html_dir, digest, log)
    return Rendered(html_dir / "index.html", rendered)


def load_results(project: Project, run: StageRun) -> dict[str, dict[str, Any]]:
    """Return the results of a finished run."""
    return read_results(project.root / run.folder / RESULTS)


def read_title(project: Project, stage: Stage) -> str:
    """Return the question that a stage's notebook asks, as its first heading has it."""
    return _heading(project, stage)[1]


def _heading(project: Project, stage: Stage) -> tuple[str, str]:
    """Return label and title of a stage's notebook."""
    source = read_notebook(project.notebooks / stage.notebook)
    text = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    anchor, title = (re.search(pattern, text, re.M) for pattern in (r"^\(([\w-]+)\)=", r"^# (.+)$"))
    if anchor is None or title is None:
        raise BookError(f"{stage.notebook} must begin with a label, `(ch-…)=`, and a title, `# …`.")
    return anchor[1], title[1]


def load_ledger(project: Project, runs: list[StageRun]) -> list[dict[str, Any]]:
    """Return the claims as the last build tried them; empty where it did not."""
    names = [project.root / run.folder / LEDGER for run in runs if run.stage.name == "claims"]
    return [
        claim for name in names if name.is_file() for claim in json.loads(name.read_text(encoding="utf-8"))
    ]


def _chapter(project: Project, run: StageRun, missing: str) -> Chapter:
    source = read_notebook(project.notebooks / run.stage.notebook)
    anchor, title = _heading(project, run.stage)
    executed = project.root / run.folder / NOTEBOOK
    page = None
    if not missing and executed.is_file():
        page = join_page(source, read_notebook(executed))
    elif not missing:
        missing = f"This chapter has not been run yet. `panelbook build --profile {run.profile}` makes it."
    return Chapter(
        stage=run.stage.name,
        name=run.page,
        study=run.params.study,
        group=run.group,
        label=f"{run.params.label} ({run.variant})" if run.variant else run.params.label,
        anchor=anchor,
        title=title,
        notebook=page,
        missing=missing,
    )
