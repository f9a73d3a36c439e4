"""`panelbook claims` and `panelbook headline`: every published claim tried, and the table of the front page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from panelbook.errors import BookError
from panelbook.pipeline.commands.terminal import ProfileOption, console
from panelbook.project import DEFAULT_PROFILE, Project


def claims(
    topic: Annotated[
        str, typer.Argument(help="Ids to show, by their beginning: K, or K3. All by default.")
    ] = "",
    why: Annotated[bool, typer.Option(help="Print the reason of each verdict.")] = False,
    accept: Annotated[
        bool, typer.Option(help="Record the verdicts and values of now as those to hold on to.")
    ] = False,
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Try every published claim on the published files; exit with 1 if a value or a verdict has drifted.

    The rules are in [bold]params/claims.yml[/bold], what they gave last in [bold]params/claims.lock.json[/bold].
    """
    from panelbook.pipeline.stages import plan
    from panelbook.publish import ledger
    from panelbook.rollouts.adapters import read_published
    from panelbook.rollouts.published import locate

    project = Project.find()
    run = next((r for r in plan(project, profile) if r.stage.name == "claims"), None)
    if run is None:
        raise BookError(f"profile {profile!r} has no stage claims; give another with --profile.")
    rules, lock = project.params / "claims.yml", project.params / "claims.lock.json"
    tried = ledger.try_claims(ledger.read_claims(rules), read_published(locate()), run.params.resampling)
    chosen = [trial for trial in tried if trial.claim.id.startswith(topic)]
    if not chosen:
        ids = ", ".join(trial.claim.id for trial in tried)
        raise BookError(f"no claim has an id that begins with {topic!r}; there are {ids}.")
    table = Table("claim", "published", "recomputed", "verdict", *(["why"] if why else []), show_lines=True)
    for trial in chosen:
        cells = [
            f"{trial.claim.id} {trial.claim.claim}",
            trial.claim.published,
            "\n".join(ledger.list_numbers(trial)),
        ]
        table.add_row(*cells, trial.verdict, *([trial.why] if why else []))
    console.print(table)
    for verdict, n in ledger.count_verdicts(tried).items():
        console.print(f"{n:3d} {verdict}", highlight=False)
    if accept:
        ledger.write_lock(tried, lock)
        console.print(f"Recorded in {project.relative(lock)}.", highlight=False)
    elif drift := ledger.find_drift(tried, lock):
        raise ledger.LedgerError(
            "the book would no longer say what it said:\n  "
            + "\n  ".join(drift)
            + "\nIf that is right, `panelbook claims --accept` records it."
        )


def headline(
    write: Annotated[
        Path | None, typer.Option(help="Write the table between the marks of this file.")
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Print the headline table from the results of the last build."""
    from panelbook.pipeline import book
    from panelbook.pipeline.stages import plan
    from panelbook.publish.headline import headline_table, write_between_marks

    project = Project.find()
    table = headline_table(book.load_ledger(project, plan(project, profile)))
    if write is None:
        print(table, end="")
        return
    if not table.startswith("|"):
        raise BookError("The claims have not been tried yet. Run `panelbook build` first.")
    write.write_text(
        write_between_marks(write.read_text(encoding="utf-8"), table, write.name), encoding="utf-8"
    )
    console.print(f"Wrote the headline table to {write}.", highlight=False)
