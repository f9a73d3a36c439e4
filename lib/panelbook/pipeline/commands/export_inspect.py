"""`panelbook export inspect`: rollouts as logs of Inspect AI."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from panelbook.errors import BookError
from panelbook.pipeline.commands.terminal import ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project

INSPECT_HELP = """Write rollouts as logs of Inspect AI, one for each arm, checkpoint and benchmark.

Without files it takes the draws of every arm of the profile; with [bold]--training[/bold], of its training too. \
With files, tables of this book (.parquet) or transcripts of [bold]panelbook chat[/bold] (.jsonl).

A log that is there already is left as it is, so a run that was cut off goes on where it stopped. The logs open with \
[bold]inspect view[/bold], and [bold]panelbook import[/bold] reads them back word for word. Needs the extra: \
[bold]pip install -e '.\\[inspect]'[/bold].

[bold]Examples[/bold]

  panelbook export inspect --out logs

  inspect view --log-dir logs

  panelbook import logs/*.eval --name again
"""


def export_inspect(
    tables: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of draws; those of the profile by default.", metavar="TABLE..."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; made if need be.")] = Path("logs"),
    profile: ProfileOption = DEFAULT_PROFILE,
    problems: Annotated[
        Path | None, typer.Option(help="problems.parquet with the questions, where TABLE... are given.")
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Also the draws seen in training.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace other logs of the same names.")] = False,
) -> None:
    """Write logs; see `INSPECT_HELP`."""
    import pandas as pd

    from panelbook.pipeline.explore import find_tables
    from panelbook.pipeline.run import git_state
    from panelbook.pipeline.stages import plan
    from panelbook.rollouts.inspect_logs import (
        check_installed,
        describe_log,
        read_questions,
        read_table,
        split_logs,
        write_log,
    )
    from panelbook.rollouts.schema import ROLLOUTS_KEY

    check_installed()
    asked: list[pd.DataFrame]
    if tables:
        draws, revision = [read_table(path) for path in tables], ""
        asked = [table for table in draws if "question" in table]
        asked += [pd.read_parquet(problems)] if problems else []
    else:
        project = Project.find()
        found = find_tables(project, plan(project, profile), transcripts=False)
        paths = [path for path in found.rollouts if training or path.name == "rollouts.parquet"]
        draws, revision = [read_table(path) for path in paths], git_state(project.root)[0]
        asked = [pd.read_parquet(path) for path in found.problems]
    if not sum(map(len, draws)):
        raise BookError(
            f"profile {profile!r} has no draws yet. Run `panelbook build --profile {profile}` first, or name files."
        )
    rollouts = pd.concat([table.astype(object) for table in draws if len(table)], ignore_index=True)
    rollouts = rollouts.drop_duplicates(ROLLOUTS_KEY)  # a variant may have the draws of its baseline
    questions = read_questions(asked)
    n_written = n_kept = 0
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("draws"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=len(rollouts))
        for name, rows in split_logs(rollouts):
            progress.update(task, description=name)
            written = write_log(describe_log(rows, questions, revision), out / name, force=force)
            n_written, n_kept = n_written + written, n_kept + (not written)
            progress.advance(task, len(rows))
    console.print(
        f"logs written: {n_written}, there already: {n_kept}, draws: {len(rollouts):,}\n  inspect view --log-dir {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
