"""`panelbook export`: the book in other forms, a folder of figures and tables, a PDF, or a record of its runs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from panelbook.pipeline.commands.terminal import ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project

export_app = typer.Typer(
    no_args_is_help=True,
    help="Take figures and tables, a PDF, a trained adapter or a record of runs out of the book.",
)


@export_app.command()
def figures(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; made if need be.")],
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Copy every figure (SVG, PNG, CSV) and every table (CSV) of the last build into one folder, with index.csv."""
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.takeaway import export_files

    project = Project.find()
    found = export_files(project, plan(project, profile), out)
    counts = {kind: sum(file.kind == kind for file in found) for kind in ("figure", "table", "artefact")}
    console.print(
        f"{counts['figure']} files of figures, {counts['table']} of tables, {counts['artefact']} artefacts; "
        f"{out / 'index.csv'} lists them",
        highlight=False,
        soft_wrap=True,
    )


@export_app.command()
def pdf(
    profile: ProfileOption = DEFAULT_PROFILE,
    out: Annotated[
        Path | None, typer.Option("--out", help="The PDF; default _build/panelbook-<profile>.pdf.")
    ] = None,
    pages: Annotated[
        str, typer.Option("--pages", help="Only these, with commas: intro,40_pass_at_k-aime")
    ] = "",
    browser: Annotated[
        str, typer.Option("--browser", help="Chromium or Chrome, if it is not found by itself.")
    ] = "",
) -> None:
    """Print the rendered book, or some of its pages, as one PDF; Chromium or Chrome must be installed."""
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.takeaway import export_pdf

    started = time.monotonic()
    project = Project.find()
    target = out or project.build / f"panelbook-{profile}.pdf"
    wanted = [page for page in pages.split(",") if page.strip()]
    n_sheets = export_pdf(
        project,
        plan(project, profile),
        target,
        wanted,
        browser,
        lambda line: console.print(line, highlight=False),
    )
    console.print(
        f"{n_sheets} pages in {time.monotonic() - started:.0f} s: {target}", highlight=False, soft_wrap=True
    )


@export_app.command()
def record(
    study: Annotated[str, typer.Option("--study", help="Name that the rows take, such as smollm2.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; tables in it are replaced.")],
    profile: ProfileOption = "hf",
) -> None:
    """Keep what the models of a profile said and learnt, with their manifests, for books that cannot ask them."""
    from panelbook.pipeline.record import record_profile

    recorded = record_profile(Project.find(), profile, study, out)
    for name, file in recorded.manifest["files"].items():
        console.print(f"{name:26} {file['rows']:>8,} rows {file['bytes']:>10,} bytes", highlight=False)
    console.print(f"The record is in {out}; the stage `recorded` reads it.", highlight=False, soft_wrap=True)
