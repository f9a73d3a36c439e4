"""The command line: `panelbook build | run | params | fetch | headline | tidy`."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.table import Table

from panelbook.errors import BookError
from panelbook.project import DEFAULT_PROFILE, Project

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Build, re-run and read the book on panel-of-experts reasoning.\n\n"
    "Start with [bold]panelbook build[/bold]; then change one number: "
    "[bold]panelbook run pass_at_k.aime -p k_max=8[/bold].",
)
console = Console()
errors = Console(stderr=True)

Records = dict[str, dict[str, Any]]

ProfileOption = Annotated[str, typer.Option("--profile", help="A file of params/, without .yml.")]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Notebooks executed side by side.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BookError` is printed on one screen and exits with 1."""
    try:
        app(args=arguments)
    except BookError as error:
        errors.print(f"[bold red]error[/bold red] {type(error).__name__}", highlight=False)
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@app.command()
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

    project = Project.find()
    runs = plan(project, profile)
    with build_lock(project):
        missing = book.published_status(console.print, download=download)
        ready = book.without_published(runs)[0] if missing else runs
        if missing:
            console.print(
                f"Leaving out {len(runs) - len(ready)} published chapters. {missing}",
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


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="A stage, or one group of it: pass_at_k or pass_at_k.aime.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="name=value; repeat for more.")
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    jobs: JobsOption = 2,
    html: Annotated[bool, typer.Option(help="Render the book with this chapter in its place.")] = True,
) -> None:
    """Re-execute one chapter, with other parameters if you like; the baseline stays as it is.

    With [bold]-p[/bold] the result goes to a variant folder of its own, named after the parameters, and is
    compared with the baseline. Without, the baseline itself is executed again.
    """
    from panelbook.pipeline import book
    from panelbook.pipeline.display import StageDisplay
    from panelbook.pipeline.params import ParamError, nearest, parse_overrides
    from panelbook.pipeline.run import run_stage
    from panelbook.pipeline.stages import find_stage, list_upstream, plan, vary
    from panelbook.pipeline.tasks import build_lock

    project = Project.find()
    name, _, group = stage.partition(".")
    overrides = parse_overrides(find_stage(name).params, param or [])
    runs = plan(project, profile)
    groups = {r.group: r for r in runs if r.stage.name == name}
    if not groups:
        raise ParamError(f"profile {profile!r} has no group of stage {name!r}; give another with --profile.")
    if group and group not in groups:
        raise ParamError(f"stage {name!r} has no group {group!r}.{nearest(group, groups)}")
    baselines = [groups[group]] if group else list(groups.values())
    chosen = [vary(baseline, overrides) if overrides else baseline for baseline in baselines]
    with build_lock(project):
        missing = book.published_status(console.print)
        if missing and any(r in book.without_published(runs)[1] for r in baselines):
            raise BookError(f"{stage} needs the published files. {missing}")
        upstream = [*list_upstream(runs, baselines), *(baselines if overrides else [])]
        display = StageDisplay(console)
        if upstream:
            book.execute_runs(project, upstream, display, jobs)
        with display:
            for r in chosen:
                display.start(r)
                cell, note = (functools.partial(show, r) for show in (display.cell, display.note))
                display.end(run_stage(project, r, force=True, on_cell=cell, on_note=note))
        for baseline, variant in zip(baselines, chosen, strict=True):
            if overrides:
                _print_moves(
                    book.load_results(project, baseline), book.load_results(project, variant), variant.id
                )
            console.print(f"  files: {variant.folder.as_posix()}", highlight=False, soft_wrap=True)
        if html:
            target = project.build / "variants" / name / chosen[0].variant if overrides else None
            with console.status("rendering the book"):
                result = book.render(
                    project, runs, missing=missing, target=target, variants=chosen if overrides else ()
                )
            for r in chosen:
                page = result.index.parent / "chapters" / f"{r.page}.html"
                console.print(f"  page:  {project.relative(page)}", highlight=False, soft_wrap=True)


@app.command()
def params(
    stage: Annotated[str | None, typer.Argument(help="A stage; leave it out to list the stages.")] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Show what a stage can be asked to vary: name, type, default, the profile's values, meaning."""
    from panelbook.pipeline.params import default_of
    from panelbook.pipeline.stages import STAGES, find_stage, plan

    runs = plan(Project.find(), profile)
    if stage is None:
        table = Table("stage", "notebook", f"groups in {profile}")
        for name, known in STAGES.items():
            table.add_row(name, known.notebook, ", ".join(r.group for r in runs if r.stage.name == name))
        console.print(table)
        return
    name, _, group = stage.partition(".")
    cls = find_stage(name).params
    hints = get_type_hints(cls)
    chosen = [r for r in runs if r.stage.name == name and group in ("", r.group)]
    table = Table("parameter", "type", "default", *(r.group for r in chosen), "meaning")
    for field in dataclasses.fields(cls):
        values = [_changed(getattr(r.params, field.name), default_of(field)) for r in chosen]
        table.add_row(
            field.name, hints[field.name].__name__, str(default_of(field)), *values, field.metadata["help"]
        )
    console.print(table)


@app.command()
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


@app.command()
def headline(
    write: Annotated[
        Path | None, typer.Option(help="Write the table between the marks of this file.")
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Print the headline table from the results of the last build."""
    from panelbook.pipeline import book
    from panelbook.pipeline.stages import RESULTS, plan
    from panelbook.publish.headline import headline_table, read_headlines, write_between_marks

    project = Project.find()
    runs = [r for r in plan(project, profile) if (project.root / r.folder / RESULTS).is_file()]
    results = {r.id: book.load_results(project, r) for r in runs}
    table = headline_table(read_headlines(project.params / "headline.yml"), results)
    if write is None:
        print(table, end="")
        return
    if not results:
        raise BookError("There are no results yet. Run `panelbook build` first.")
    write.write_text(
        write_between_marks(write.read_text(encoding="utf-8"), table, write.name), encoding="utf-8"
    )
    console.print(f"Wrote the headline table to {write}.", highlight=False)


@app.command()
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


def _changed(value: object, default: object) -> str:
    return "" if value == default else str(value)


def _print_moves(before: Records, after: Records, name: str) -> None:
    """Print which results differ between a baseline and its variant."""
    from panelbook.publish.results import format_interval, format_value, list_moves

    moved = list_moves(before, after)
    if moved:
        table = Table("result", "baseline", "now", title=f"{name}: what moved", title_justify="left")
        for key in moved:
            old, new = (
                f"{format_value(side[key])} ({format_interval(side[key])})" if key in side else "not there"
                for side in (before, after)
            )
            table.add_row((after.get(key) or before[key])["title"], old, new)
        console.print(table)
    console.print(f"  {len(moved)} results moved, {len(before.keys() | after.keys()) - len(moved)} did not")
