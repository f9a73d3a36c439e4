"""`panelbook build`: the whole book."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from panelbook.pipeline.commands.spending import agree_to_spend, print_costs
from panelbook.pipeline.commands.terminal import JobsOption, ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project

if TYPE_CHECKING:
    from panelbook.pipeline.stages import StageRun


def build(
    profile: ProfileOption = DEFAULT_PROFILE,
    jobs: JobsOption = 2,
    html: Annotated[bool, typer.Option(help="Render the pages after running the stages.")] = True,
    download: Annotated[bool, typer.Option(help="Fetch the published files if they are not here.")] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be executed and what it would cost; execute nothing."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before spending at a service.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option("--budget", min=0, help="Refuse a build that may cost more at a service.")
    ] = None,
) -> None:
    """Execute what has changed, then render the book to _build/html."""
    from panelbook.pipeline import book
    from panelbook.pipeline.display import StageDisplay
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.tasks import build_lock
    from panelbook.pipeline.variants import read_appendix

    project = Project.find()
    runs = plan(project, profile)
    if dry_run:
        _print_plan(project, runs)
        return
    agree_to_spend(project, runs, runs, yes=yes, budget=budget)
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


def _print_plan(project: Project, runs: "list[StageRun]") -> None:
    """Say what each stage would do, and what those that ask a service would cost."""
    from panelbook.pipeline.estimate import estimate_costs, is_made, list_spending

    table = Table(title="Nothing is executed", title_justify="left")
    for heading in ("stage", "groups", "to execute"):
        table.add_column(heading, overflow="fold")
    for stage in dict.fromkeys(run.stage.name for run in runs):
        mine = [run for run in runs if run.stage.name == stage]
        stale = sum(not is_made(project, run) for run in mine)
        table.add_row(stage, ", ".join(run.group for run in mine), str(stale))
    console.print(table)
    costs = estimate_costs(project, list_spending(project, runs), runs)
    if costs:
        print_costs(project, costs)
    else:
        console.print("No run asks a service: it costs nothing but time.", highlight=False)
