"""Build the book: plan, run what has changed, stage, render.

This is what `panelbook build` does, without the command line around it.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from panelbook import engine
from panelbook.errors import BookError
from panelbook.pipeline import explore
from panelbook.pipeline.display import StageDisplay
from panelbook.pipeline.notebook import join_page, read_notebook
from panelbook.pipeline.run import StageFailed, git_state, read_manifest
from panelbook.pipeline.stages import LEDGER, NOTEBOOK, RESULTS, Stage, StageRun
from panelbook.pipeline.tasks import Report, run_all
from panelbook.pipeline.variants import command_of, describe_variant, read_appendix
from panelbook.project import Project
from panelbook.publish.cards import list_files, list_prompts, list_settings, list_weights
from panelbook.publish.colophon import Made, write_colophon
from panelbook.publish.downloads import FOLDER, link_table, list_claims, read_files, write_csv
from panelbook.publish.headline import (
    headline_table,
    live_table,
    read_headlines,
    verdict_cards,
    verdict_count,
)
from panelbook.publish.incremental import render_pages, sync_tree
from panelbook.publish.numbers import check_page, check_records
from panelbook.publish.pages import CHAPTERS, SOURCE_KEY, STATE, Chapter, Stamp, render_book, stage_book
from panelbook.publish.results import read_results
from panelbook.rollouts import published

RECORD = "book.json"
"""In the folder of what Sphinx kept of a book: its profile and its stamp."""

MAX_DOWNLOAD_BYTES = 1_000_000
"""An artefact above a megabyte stays in its run's folder instead of weighing on the book."""

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


def execute_runs(
    project: Project,
    runs: Iterable[StageRun],
    display: StageDisplay,
    n_workers: int,
    *,
    keep_going: bool = False,
) -> Report:
    """Bring runs up to date under a progress display.

    Parameters
    ----------
    keep_going
        Leave failed runs to the caller, who finds them in the report.

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
            on_fail=display.fail,
        )
    if report.failed:
        for error in report.failed.values():
            if not isinstance(error, BookError):
                raise error
        if keep_going:
            return report
        texts = list(dict.fromkeys(str(error) for error in report.failed.values()))
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
) -> Rendered:
    """Stage and render the book of these runs, with the variants of its appendix.

    A profile of imported draws has a first page and a table of contents of its own. References of hand-written
    pages to chapters that such a book lacks become plain text there instead of stopping it.

    Parameters
    ----------
    missing
        Why the published chapters could not be made; empty if they could.
    target
        Folder of the HTML; default `_build/html`.

    Raises
    ------
    BookError
        If a page cannot be made, shows a number with neither interval nor reason, or the renderer warns.
    """
    html_dir = target or project.build / "html"
    html_dir.parent.mkdir(parents=True, exist_ok=True)
    commit, dirty = git_state(project.root)
    stamp = Stamp(commit, dirty, published.registry_hash(), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    staged = _staged(html_dir)
    fresh = staged.with_name(staged.name + ".fresh")
    digest = _stage(project, runs, read_appendix(project, runs), missing, fresh, stamp)
    sync_tree(fresh, staged)
    rendered = render_book(staged, html_dir, digest, _log(html_dir), strict=_front(project, runs) is None)
    if rendered and runs and (state := _state(html_dir)).is_dir():
        record = {"profile": runs[0].profile, "stamp": dataclasses.asdict(stamp)}
        (state / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return Rendered(html_dir / "index.html", rendered)


def find_book(project: Project, runs: list[StageRun]) -> tuple[Path, Stamp | None]:
    """Return the folder of the book of these runs, and the stamp it was rendered with; None where it was not.

    Imported draws have a book of their own, and so has a profile if `_build/html` shows another one.
    """
    profile = runs[0].profile
    folders = [project.build / profile]
    if _front(project, runs) is None:
        folders.insert(0, project.build / "html")
    for html_dir in folders:
        if not (html_dir / "index.html").is_file():
            return html_dir, None
        try:
            record = json.loads((_state(html_dir) / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return html_dir, None
        if record["profile"] == profile:
            return html_dir, Stamp(**record["stamp"])
    return folders[-1], None


def page_path(project: Project, runs: list[StageRun], variant: StageRun) -> Path:
    """Return where the page of a run or a variant is in the book of these runs, rendered or not."""
    return find_book(project, runs)[0] / CHAPTERS / f"{variant.page}.html"


def render_variants(
    project: Project, runs: list[StageRun], variants: Iterable[StageRun], *, missing: str = ""
) -> list[Path]:
    """Render variants as pages of the book of these runs, beside their baselines, and return the pages.

    The book itself stays as it was last rendered; where it was not yet, it is rendered first.

    Raises
    ------
    BookError
        As `render` does.
    """
    variants = list(variants)
    html_dir, stamp = find_book(project, runs)
    if stamp is None:
        (html_dir / SOURCE_KEY).unlink(
            missing_ok=True
        )  # or a book without what Sphinx keeps counts as up to date
        render(project, runs, missing=missing, target=html_dir)
        html_dir, stamp = find_book(project, runs)
    if stamp is None:
        raise BookError(
            f"{html_dir} was rendered, but holds no record of it. Remove the folder and run again."
        )
    staged = _staged(html_dir)
    fresh = staged.with_name(staged.name + ".fresh")
    appendix = read_appendix(project, runs)
    shown = [*appendix, *(run for run in variants if run not in appendix)]
    _stage(
        project, runs, shown, missing, fresh, stamp
    )  # the book's own stamp: another would change every page
    sync_tree(fresh, staged)
    strict = _front(project, runs) is None
    render_pages(staged, html_dir, [run.page for run in variants], _log(html_dir), strict=strict)
    return [html_dir / CHAPTERS / f"{run.page}.html" for run in variants]


def _staged(html_dir: Path) -> Path:
    return html_dir.with_name("source" if html_dir.name == "html" else html_dir.name + ".source")


def _log(html_dir: Path) -> Path:
    return html_dir.with_name(html_dir.name + ".log")


def _state(html_dir: Path) -> Path:
    return html_dir.with_name(html_dir.name + STATE)


def _front(project: Project, runs: list[StageRun]) -> Path | None:
    """Return the first page of a book of imported draws; None for other books."""
    front = project.runs / runs[0].profile / FRONT if runs else None
    return front if front and front.is_file() else None


def _stage(
    project: Project,
    runs: list[StageRun],
    variants: list[StageRun],
    missing: str,
    staged: Path,
    stamp: Stamp,
) -> str:
    """Check the pages of runs and variants, write the tree that is rendered, and return its hash."""
    baselines = {run.id: run for run in runs}
    blocked = {run.id for run in without_published([*runs, *variants])[1]} if missing else set()
    results = {
        run.full_id: load_results(project, run)
        for run in (*runs, *variants)
        if (project.root / run.folder / RESULTS).is_file()
    }
    chapters = []
    for run in (*runs, *variants):
        chapter = _chapter(project, run, missing if run.id in blocked else "")
        records = results.get(run.full_id, {})
        check_records(records, run.full_id)
        if chapter.notebook is not None:
            check_page(chapter.notebook, records, run.full_id)
        if run.variant:
            note = describe_variant(baselines[run.id], run, results.get(run.id, {}), records)
            chapter = dataclasses.replace(chapter, note=note, appended=True)
        chapters.append(chapter)
    stages = [run.stage.name for run in runs]
    manifests = {run.id: m for run in runs if (m := read_manifest(project.root / run.folder))}
    made = [
        Made(
            chapter.title + (f" · {chapter.label}" if stages.count(chapter.stage) > 1 else ""),
            f"{CHAPTERS}/{chapter.name}",
            manifests[run.id],
            chapter.notebook,
            results[run.id],
        )
        # the variants that follow the chapters are no part of the book
        for run, chapter in zip(runs, chapters, strict=False)
        if chapter.notebook is not None and run.id in results and run.id in manifests
    ]
    colophon = write_colophon(made, project.root / "CITATION.cff", stamp.data_hash)
    draws = explore.stage_explorer(project, [*runs, *variants], transcripts=not missing)
    extra = {explore.FOLDER: draws.folder} if draws.folder else {}
    generated = {"colophon.md": colophon, explore.PAGE: draws.page}
    if front := _front(project, runs):
        generated[FRONT.name] = front.read_text(encoding="utf-8")
        return stage_book(
            project, staged, chapters, generated, stamp, toc_name="_toc_imported.yml", extra=extra
        )
    pages = {run.id: f"/{CHAPTERS}/{run.page}" for run in runs}
    ledger = load_ledger(project, runs)
    for claim in ledger:
        check_records(claim["records"], f"claim {claim['id']}")
    rows = read_headlines(project.params / "live.yml")

    def link(run: str, text: str) -> str:
        return f"{{doc}}`{text} <{pages[run]}>`" if run in pages else text

    generated |= {
        "headline.md": headline_table(ledger, link),
        "live.md": live_table(rows, results, link),
        "cards.md": verdict_cards(ledger, rows, results, link),
        "count.md": verdict_count(ledger, link),
        "files.md": list_files(published.registry()),
        "prompts.md": list_prompts(),
        "settings.md": list_settings(manifests),
        "weights.md": list_weights(Path(engine.__file__).parent / "abacus"),
    }
    note = f":::{{warning}}\n{missing}\n:::\n\n" if missing else ""
    generated["count.md"] = note + generated["count.md"]
    live = [
        {"claim": row.claim, "chapter": row.run, "records": {row.result: results[row.run][row.result]}}
        for row in rows
        if row.result in results.get(row.run, {})
    ]
    files = {}
    for name, claims in (("headline", [claim for claim in ledger if claim["headline"]]), ("live", live)):
        if claims:
            files[f"{name}.csv"] = write_csv({"": list_claims(claims)}).encode()
            generated[f"{name}.md"] += "\n" + link_table(f"{name}.csv", f"{name} table")
    return stage_book(project, staged, chapters, generated, stamp, extra=extra, files=files)


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
        group=run.page_group,
        label=", ".join(filter(None, (run.params.label, run.variant))),
        anchor=anchor,
        title=title,
        notebook=page,
        missing=missing,
        source=run.stage.notebook,
        command=command_of(run),
        files=list_downloads(project, run) if page is not None else {},
    )


def read_toc(html_dir: Path) -> Any:
    """Return the table of contents that a book was rendered with."""
    path = _staged(html_dir) / "_toc.yml"
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BookError(f"{path} cannot be read: {error}. Run `panelbook build` again.") from None


def list_downloads(project: Project, run: StageRun) -> dict[str, bytes]:
    """Return by name what a finished run offers to take away: its figures and tables, and its small artefacts."""
    folder = project.root / run.folder
    small = [
        name
        for name in run.outputs
        if (name in (RESULTS, LEDGER) or name.endswith(".csv"))
        and (folder / name).is_file()
        and (folder / name).stat().st_size <= MAX_DOWNLOAD_BYTES
    ]
    return read_files(folder / FOLDER) | {name: (folder / name).read_bytes() for name in small}
