"""The command line: `panelbook --help` lists its commands.

Each command is a function in a module of `pipeline/commands`. To add one: write the module, with `console` and the
shared options from `commands/terminal.py`, and one line under "Commands" below. What is slow to import (pandas, torch,
papermill) is imported inside the function: `--help` and completion on the TAB key load every module.
"""

import errno
import os
from collections.abc import Sequence

import typer

from panelbook.errors import BookError
from panelbook.pipeline.commands.build import build
from panelbook.pipeline.commands.chat import CHAT_HELP, chat
from panelbook.pipeline.commands.claims import claims, headline
from panelbook.pipeline.commands.complete import bash_words
from panelbook.pipeline.commands.explore import EXPLORE_HELP, explore
from panelbook.pipeline.commands.export import export_app
from panelbook.pipeline.commands.export_adapter import ADAPTER_HELP, export_adapter
from panelbook.pipeline.commands.export_inspect import INSPECT_HELP, export_inspect
from panelbook.pipeline.commands.imports import IMPORT_HELP, import_draws
from panelbook.pipeline.commands.params import params
from panelbook.pipeline.commands.power import power
from panelbook.pipeline.commands.run import RUN_HELP, run
from panelbook.pipeline.commands.terminal import errors
from panelbook.pipeline.commands.upkeep import fetch, tidy
from panelbook.pipeline.commands.variants import variants_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Build, re-run and read the book on panel-of-experts reasoning.\n\n"
    "Start with [bold]panelbook build[/bold]; then change one number: "
    "[bold]panelbook run pass_at_k.aime -p k_max=8[/bold].",
)

# Commands, in the order of `panelbook --help`.
app.command()(build)
app.command(help=RUN_HELP)(run)
app.command()(params)
app.add_typer(variants_app, name="variants")
app.command(help=EXPLORE_HELP)(explore)
app.command(help=CHAT_HELP)(chat)
export_app.command("adapter", help=ADAPTER_HELP)(export_adapter)
export_app.command("inspect", help=INSPECT_HELP)(export_inspect)
app.add_typer(export_app, name="export")
app.command("import", help=IMPORT_HELP)(import_draws)
app.command()(fetch)
app.command()(headline)
app.command()(claims)
app.command()(power)
app.command()(tidy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BookError`, or a refusal of the system over a file, is one screen and exits with 1."""
    try:
        with bash_words(os.environ):
            app(args=arguments)
    except BookError as error:
        errors.print(f"[bold red]error[/bold red] {type(error).__name__}", highlight=False)
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not full:  # nothing that the reader could do something about: a defect
            raise
        errors.print(f"[bold red]error[/bold red] {type(error).__name__}", highlight=False)
        errors.print(
            f"{error.filename or 'writing'}: {error.strerror}. Give another path, or make room, and run again.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise SystemExit(1) from None
