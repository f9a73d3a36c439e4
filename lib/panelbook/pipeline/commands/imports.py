"""`panelbook import`: a book of your own rollouts."""

import functools
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from panelbook.pipeline.commands.terminal import JobsOption, console
from panelbook.project import Project

IMPORT_HELP = """Analyse your own rollouts: two arms, the whole comparison, as a book of its own.

A row is one draw: an [bold]arm[/bold], a [bold]problem_id[/bold] and whether it was [bold]correct[/bold]. \
The rest is optional and adds chapters: completion_tokens, predicted, source, benchmark, max_tokens and more. \
Or a row is one arm and problem already counted: arm, problem_id, n, c. Usual names such as question_id, model or \
is_correct are understood, and what was taken for what is printed.

Files are .jsonl, .csv, .parquet or logs of Inspect AI (.eval, .json); .gz is unpacked.

[bold]Examples[/bold]

Both arms in one file, a column tells them apart:

  panelbook import draws.jsonl --name mine --first debate --second monologue

One file for each arm, which the files do not name:

  panelbook import debate.csv mono.csv --arm debate --arm mono --name mine --first debate --second mono

Other names of columns, a nested one with dots; an empty name ignores a column:

  panelbook import log.jsonl --name mine --map correct=grade.passed --map problem_id=key --map reward=

Inspect AI logs, where the arms are two tasks of one model on one set of problems:

  panelbook import logs/*.eval --name mine --map arm=task --benchmark gpqa

The result is a profile: change one number of a chapter with

  panelbook run pass_at_k --profile mine -p k_max=8
"""


def import_draws(
    files: Annotated[list[Path], typer.Argument(help="Files of draws, or of counts.", metavar="FILE...")],
    name: Annotated[str, typer.Option("--name", help="What the import is to be called: letters, digits, _.")],
    first: Annotated[
        str, typer.Option(help="The arm under study; may be left out where there are just two.")
    ] = "",
    second: Annotated[str, typer.Option(help="The arm that it is compared with.")] = "",
    column: Annotated[
        list[str] | None, typer.Option("--map", help="OURS=THEIRS: where a column is found; repeat for more.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="The arm that a file holds: once for all, or for each.")
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark of every row.")] = "",
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out rows that cannot be taken, and list them.")
    ] = False,
    embed: Annotated[
        bool, typer.Option("--embed", help="Also embed the completions, for the chapters on their spread.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier import of this name.")] = False,
    jobs: JobsOption = 2,
    execute: Annotated[
        bool, typer.Option("--build/--no-build", help="Execute the chapters and render the book.")
    ] = True,
) -> None:
    """Import draws; see `IMPORT_HELP`."""
    from panelbook.pipeline import book
    from panelbook.pipeline.display import StageDisplay
    from panelbook.pipeline.imported import check_name, choose_arms, write_import
    from panelbook.pipeline.run import StageFailed
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.tasks import build_lock
    from panelbook.rollouts.imports import Options, list_taken, parse_columns, read_imports

    project = Project.find()
    check_name(project, name, force=force)
    options = Options(name, arm or [], benchmark, parse_columns(column or []), skip_broken)
    imported = read_imports(files, options)
    taken = Table("here", "in the files", "files", title="What was taken for what", title_justify="left")
    for row in list_taken(imported.sources):
        taken.add_row(*map(escape, row))
    console.print(taken)
    first, second = choose_arms(imported.counts, first, second)
    with build_lock(project):
        written = write_import(project, name, imported, first, second, embed=embed)
        say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
        for label, rows in imported.counts.groupby("arm"):
            say(f"  arm {label}: {len(rows):,} problems, {rows['n'].sum():,} draws")
        for note in imported.notes:
            say(f"  {note}")
        if imported.rejected:
            say(f"  rows left out: {len(imported.rejected):,}, the first: {imported.rejected[0].where}:")
            say(f"    {imported.rejected[0].reason}")
        for case in written.left_out:
            say(f"  without {case.stage} on {case.benchmark}: {case.reason}")
        say(f"  wrote {', '.join(written.files)}")
        if not execute:
            say(f"`panelbook build --profile {name}` executes the chapters.")
            return
        runs = plan(project, name)
        failure: StageFailed | None = None
        try:
            book.execute_runs(project, runs, StageDisplay(console), jobs)
        except StageFailed as error:  # the other chapters are worth reading
            failure = error
        with console.status("rendering the book"):
            result = book.render(project, runs, target=project.build / name)
        say(f"The book: {project.relative(result.index)}")
        if failure:
            raise failure
