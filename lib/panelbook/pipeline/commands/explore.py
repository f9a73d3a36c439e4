"""`panelbook explore`: every draw of a profile, or of any file, in the browser."""

import functools
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from panelbook.errors import BookError
from panelbook.pipeline.commands.terminal import ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project

EXPLORE_HELP = """Search, filter and read rollouts in the browser, side by side.

Without files it shows every draw of the profile. With files, any table with the columns [bold]arm[/bold], \
[bold]problem_id[/bold], [bold]completion[/bold] and [bold]correct[/bold] or [bold]status[/bold] will do, .parquet, \
.jsonl, .csv or Inspect AI logs; usual other names such as response or is_correct are understood.

Nothing leaves this machine: the pages come from 127.0.0.1, or from a folder.

[bold]Examples[/bold]

All draws of the last build, training included:

  panelbook explore

One file, with the questions beside the answers:

  panelbook explore draws.jsonl --problems questions.jsonl

On another machine, seen through a tunnel (ssh -L 8321:127.0.0.1:8321 HOST):

  panelbook explore --port 8321 --no-open

A folder to keep or to send; its index.html opens by a double click:

  panelbook explore draws.parquet --write draws_explorer
"""


def explore(
    tables: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of draws; all of the profile's by default.", metavar="TABLE..."),
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    problems: Annotated[
        Path | None, typer.Option(help="File with problem_id, question and gold: .parquet, .jsonl or .csv.")
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            help="Port of the server, on 127.0.0.1 alone; 0 takes any that is free.", min=0, max=65535
        ),
    ] = 0,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
    write: Annotated[
        Path | None, typer.Option(help="Write a folder to keep instead of serving one.", metavar="DIR")
    ] = None,
) -> None:
    """Show rollouts in the browser; see `EXPLORE_HELP`."""
    from panelbook.pipeline.explore import find_tables, write_files, write_tables
    from panelbook.pipeline.serve import serve
    from panelbook.pipeline.stages import plan

    say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)

    def fill(folder: Path) -> None:
        with console.status("writing the explorer"):
            if tables:
                write_files(tables, problems, folder)
                return
            project = Project.find()
            found = find_tables(project, plan(project, profile))
            if problems is not None:
                raise BookError(
                    "--problems goes with files of draws; a profile has its own questions. Leave it out."
                )
            if write_tables(found, folder, title=f"Rollouts of {profile}") is None:
                raise BookError(
                    f"profile {profile!r} has no draws yet. Run `panelbook build --profile {profile}` first, or name "
                    "files: `panelbook explore draws.jsonl`."
                )

    if write is not None:
        fill(write)
        say(f"{write / 'index.html'}")
        return
    with tempfile.TemporaryDirectory(prefix="panelbook-explore-") as scratch:
        fill(Path(scratch))
        serve(Path(scratch), port, say, open_browser=open_)
