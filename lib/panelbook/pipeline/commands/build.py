"""`panelbook build`: the whole book."""

from typing import Annotated

import typer

from panelbook.pipeline.commands.terminal import JobsOption, ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project


def build(
    profile: ProfileOption = DEFAULT_PROFILE,
    jobs: JobsOption = 2,
    html: Annotated[bool, typer.Option(help="Render the pages after running the stages.")] = True,
    download: Annotated[bool, typer.Option(help="Fetch the published files if they are not here.")] = True,
) -> None:
    """Execute what has changed, then render the book to _build/html."""
    from panelbook.pipeline import book
    from panelbook.pipeline.display import StageDisplay
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.tasks import build_lock
    from panelbook.pipeline.variants import read_appendix

    project = Project.find()
    runs = plan(project, profile)
    with build_lock(project):
        missing = book.published_status(console.print, download=download)
        wanted = [*runs, *read_appendix(project, runs)]
        ready = book.without_published(wanted)[0] if missing else wanted
        if missing:
            console.print(
                f"Leaving out {len(wanted) - len(ready)} published chapters. {missing}",
                markup=False,
                soft_wrap=True,
            )
        console.print(f"{profile}: {len(ready)} notebooks, {jobs} side by side", highlight=False)
        report = book.execute_runs(project, ready, StageDisplay(console), jobs)
        console.print(
            f"  {len(report.executed)} executed, {len(report.unchanged)} up to date", highlight=False
        )
        if html:
            with console.status("rendering the book"):
                result = book.render(project, runs, missing=missing)
            state = "rendered" if result.rendered else "up to date"
            console.print(
                f"The book is {state}: {project.relative(result.index)}", highlight=False, soft_wrap=True
            )
