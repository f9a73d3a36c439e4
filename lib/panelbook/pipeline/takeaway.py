"""The book in other forms: its figures and tables in a folder, its pages in a PDF.

What is exported is what the last build left; nothing is executed or rendered here.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

from panelbook.errors import BookError
from panelbook.pipeline.book import find_book, list_downloads, read_title, read_toc
from panelbook.pipeline.notebook import read_notebook
from panelbook.pipeline.stages import NOTEBOOK, StageRun
from panelbook.pipeline.variants import command_of
from panelbook.project import Project
from panelbook.publish.downloads import list_stems, name_file, write_csv
from panelbook.publish.pdf import Cover, find_browser, list_parts, print_book

INDEX = "index.csv"


@dataclass(frozen=True)
class Exported:
    """One file of an export.

    Attributes
    ----------
    file
        Its path, from the folder of the export.
    kind
        Figure, table or artefact.
    page, title
        The page it stands on, and the question that page asks.
    cell
        The cell of the notebook that made it; empty for an artefact.
    description
        Alternative text of a figure.
    notebook, command
        What makes it again.
    """

    file: str
    kind: str
    page: str
    title: str
    cell: str
    description: str
    notebook: str
    command: str


def export_files(project: Project, runs: Sequence[StageRun], target: Path) -> list[Exported]:
    """Copy what finished runs offer to take away into a folder per page, list it in `index.csv`, and return the list.

    Raises
    ------
    BookError
        If nothing was built, or `target` holds something else than an earlier export.
    """
    if target.exists() and not (target / INDEX).is_file() and (target.is_file() or any(target.iterdir())):
        raise BookError(f"{target} is there already and holds no {INDEX} of an export. Give a new folder.")
    unfinished = target.with_name(target.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    exported: list[Exported] = []
    for run in runs:
        if not (project.root / run.folder / NOTEBOOK).is_file():
            continue
        cells = _find_cells(project, run)
        title = read_title(project, run.stage)
        for name, content in list_downloads(project, run).items():
            file = f"{run.page}/{name_file(name, run.page_group)}"
            kind, cell, description = cells.get(name.rpartition(".")[0], ("artefact", "", ""))
            path = unfinished / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            exported.append(
                Exported(file, kind, run.page, title, cell, description, run.stage.notebook, command_of(run))
            )
    if not exported:
        raise BookError(f"There is nothing to export: `panelbook build --profile {runs[0].profile}` first.")
    table = pd.DataFrame([asdict(file) for file in exported])
    (unfinished / INDEX).write_text(write_csv({"": table}), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return exported


def export_pdf(
    project: Project,
    runs: list[StageRun],
    target: Path,
    wanted: Sequence[str] = (),
    browser: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Print the book of these runs and return the number of its sheets; see `panelbook.publish.pdf`.

    Raises
    ------
    BookError
        If the book is not rendered, has no such page, or cannot be printed.
    """
    program = find_browser(browser)
    html_dir, stamp = find_book(project, runs)
    if stamp is None:
        raise BookError(
            f"The book of profile {runs[0].profile} is not rendered. `panelbook build --profile {runs[0].profile}` "
            "does it; then export it."
        )
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    commit = stamp.commit[:12] + (" with local changes" if stamp.dirty else "")
    cover = Cover(
        str(config["title"]),
        str(config["author"]),
        (f"Built {stamp.built} from commit {commit}", f"Published data {stamp.data_hash[:12]}"),
    )
    parts = list_parts(html_dir, read_toc(html_dir), wanted)
    return print_book(html_dir, parts, target, cover, program, say)


def _find_cells(project: Project, run: StageRun) -> dict[str, tuple[str, str, str]]:
    """Return kind, cell and description of a run's figures and tables by the stem of their files."""
    notebook = read_notebook(project.root / run.folder / NOTEBOOK)
    found = {}
    for cell, stem, kind in list_stems(notebook):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        found[stem] = (kind, str(cell.id), alt if kind == "figure" else "")
    return found
