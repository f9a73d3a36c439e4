"""`panelbook fetch` and `panelbook tidy`: the published files, and the tracked form of the notebooks."""

from typing import Annotated

import typer

from panelbook.errors import BookError
from panelbook.pipeline.commands.terminal import console
from panelbook.project import Project


def fetch() -> None:
    """Download the published study's files into your cache, each checked against its pinned SHA-256."""
    from rich.progress import Progress

    from panelbook.rollouts import published

    with Progress(console=console) as progress:
        task = progress.add_task(
            f"{published.REPOSITORY} at {published.COMMIT[:12]}", total=len(published.registry())
        )
        folder = published.fetch(on_file=lambda name, done, total: progress.update(task, completed=done))
    console.print(
        f"{len(published.registry())} files, verified, in {folder}", highlight=False, soft_wrap=True
    )


def tidy(
    check: Annotated[
        bool, typer.Option(help="Change nothing; exit with 1 if a notebook is not tidy.")
    ] = False,
) -> None:
    """Bring notebooks into their tracked form: no outputs, allowed metadata, parameters as their stage declares."""
    from panelbook.pipeline.notebook import clean_source, format_notebook, read_notebook, write_notebook
    from panelbook.pipeline.stages import STAGES

    project = Project.find()
    for stage in STAGES.values():
        path = project.notebooks / stage.notebook
        tidied = clean_source(read_notebook(path), stage.params)
        if format_notebook(tidied) == path.read_text(encoding="utf-8"):
            continue
        if check:
            raise BookError(f"{stage.notebook} is not in its tracked form. Run `panelbook tidy`.")
        write_notebook(tidied, path)
        console.print(f"tidied {stage.notebook}", highlight=False)
