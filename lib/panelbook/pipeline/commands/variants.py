"""`panelbook variants`: the re-runs that are there, and which of them the book shows."""

import functools
import json
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from panelbook.errors import BookError
from panelbook.pipeline.commands.complete import complete_profile, complete_variant
from panelbook.pipeline.commands.terminal import console
from panelbook.project import DEFAULT_PROFILE, Project

variants_app = typer.Typer(
    help="List, open, delete the variants that `panelbook run -p` made, or show them in the book's appendix.\n\n"
    "A name may be shortened to any part of it that only one variant has: [bold]k_max=8[/bold]."
)

NameArgument = Annotated[
    str, typer.Argument(help="A variant, or a part of its name.", autocompletion=complete_variant)
]
ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="A file of params/, without .yml.", autocompletion=complete_profile),
]

say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)


@variants_app.callback(invoke_without_command=True)
def list_variants(
    ctx: typer.Context,
    profile: ProfileOption = DEFAULT_PROFILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON, for scripts.")] = False,
) -> None:
    """List the variants on disk: what they changed, what moved, and whether they are what the code of now gives."""
    if ctx.invoked_subcommand is not None:
        return
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.variants import SWEEPS, find_variants, read_appendix

    project = Project.find()
    runs = plan(project, profile)
    shown = {run.full_id for run in read_appendix(project, runs)}
    baselines = {run.id: run for run in runs}
    rows = [_describe(project, v, baselines, v.name in shown) for v in find_variants(project, runs)]
    sweeps = sorted((project.runs / profile / "variants").glob(f"*/{SWEEPS}/*/sweep.csv"))
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    if not rows:
        say("There is no variant yet. `panelbook run STAGE -p name=value` makes one.")
        return
    table = Table("stage", "variant", "changed", "age", "moved", "size", "state", title_justify="left")
    for row in rows:
        changed = ", ".join(f"{name}={value}" for name, value in row["changes"].items())
        moved = "" if row["moved"] is None else str(row["moved"])
        state = row["state"] + (", in the appendix" if row["appendix"] else "")
        table.add_row(
            row["stage"], row["variant"], changed, row["age"], moved, f"{row['bytes'] / 1e6:.1f} MB", state
        )
    console.print(table)
    for path in sweeps:
        say(f"  sweep: {project.relative(path.parent)}")


@variants_app.command("open")
def open_variant(
    name: NameArgument,
    profile: ProfileOption = DEFAULT_PROFILE,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Print the path of a variant's page, rendered if need be, and open it."""
    from panelbook.pipeline import book
    from panelbook.pipeline.stages import MANIFEST, plan
    from panelbook.pipeline.tasks import build_lock
    from panelbook.pipeline.variants import find_variants, judge, pick

    project = Project.find()
    runs = plan(project, profile)
    variant = pick(find_variants(project, runs), name)
    if variant.run is None:
        raise BookError(
            f"{variant.name}: {judge(project, variant)}. Its files are in {variant.folder.as_posix()}."
        )
    page = book.page_path(project, runs, variant.run)
    made = (project.root / variant.folder / MANIFEST).stat().st_mtime
    if not page.is_file() or page.stat().st_mtime < made:
        with build_lock(project), console.status("rendering the page"):
            missing = book.published_status(say)
            (page,) = book.render_variants(project, runs, [variant.run], missing=missing)
    say(project.relative(page))
    if browser:
        webbrowser.open(page.as_uri())


@variants_app.command("delete")
def delete_variants(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Variants, or parts of their names.", autocompletion=complete_variant),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="All that are stale or broken.")] = False,
    profile: ProfileOption = DEFAULT_PROFILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete variants and their pages; what the appendix shows has to be removed from it first."""
    from panelbook.pipeline import book
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.tasks import build_lock
    from panelbook.pipeline.variants import VariantError, delete, find_variants, judge, pick, read_appendix

    project = Project.find()
    runs = plan(project, profile)
    found = find_variants(project, runs)
    if not names and not stale:
        raise VariantError("Name the variants to delete, or give --stale.")
    chosen = {v.name: v for v in (pick(found, name) for name in names or [])}
    kept = {run.full_id for run in read_appendix(project, runs)}
    if stale:
        gone = (v for v in found if judge(project, v) != "current" and v.name not in kept)
        chosen |= {v.name: v for v in gone}
    for name in chosen.keys() & kept:
        raise VariantError(f"{name} is in the appendix. Take it out first: panelbook variants remove {name}")
    if not chosen:
        say("Nothing to delete.")
        return
    for name in chosen:
        say(f"  {name}")
    if not yes and not typer.confirm(f"Delete {'it' if len(chosen) == 1 else f'these {len(chosen)}'}?"):
        raise BookError("Nothing was deleted.")
    with build_lock(project):
        for variant in chosen.values():
            delete(project, variant, book.page_path(project, runs, variant.run) if variant.run else None)
    say(f"Deleted {len(chosen)}.")


@variants_app.command("add")
def add_variant(name: NameArgument, profile: ProfileOption = DEFAULT_PROFILE) -> None:
    """Show a variant in the book's appendix; `params/appendix.yml` records it, the next build renders it."""
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.variants import (
        APPENDIX,
        VariantError,
        find_variants,
        pick,
        read_appendix,
        write_appendix,
    )

    project = Project.find()
    runs = plan(project, profile)
    variant = pick(find_variants(project, runs), name)
    if variant.run is None:
        raise VariantError(f"{variant.name} cannot be made again as it is. Run it again first.")
    appendix = read_appendix(project, runs)
    if variant.run in appendix:
        say(f"{variant.name} is in the appendix already.")
        return
    write_appendix(project, profile, [*appendix, variant.run])
    say(f"{variant.name} is in params/{APPENDIX}. {_build(profile)} shows it.")


@variants_app.command("remove")
def remove_variant(
    name: Annotated[str, typer.Argument(help="A variant of the appendix, or a part of its name.")],
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Take a variant out of the book's appendix; its files stay."""
    from panelbook.pipeline.stages import plan
    from panelbook.pipeline.variants import (
        APPENDIX,
        Variant,
        VariantError,
        pick,
        read_appendix,
        write_appendix,
    )

    project = Project.find()
    appendix = read_appendix(project, plan(project, profile))
    if not appendix:
        raise VariantError(f"The appendix of profile {profile!r} is empty.")
    gone = pick([Variant(run.full_id, run.folder, None, run) for run in appendix], name)
    write_appendix(project, profile, [run for run in appendix if run != gone.run])
    say(f"{gone.name} is no longer in params/{APPENDIX}. {_build(profile)} leaves it out.")


def _build(profile: str) -> str:
    return "`make book`" if profile == DEFAULT_PROFILE else f"`panelbook build --profile {profile}`"


def _describe(project: Project, variant: Any, baselines: dict[str, Any], appendix: bool) -> dict[str, Any]:
    """Return what the list says of one variant, as plain data."""
    from panelbook.pipeline import book
    from panelbook.pipeline.variants import judge, size_of
    from panelbook.publish.results import ResultsError, list_moves

    moved: int | None = None
    stage, _, short = variant.name.partition("/")
    if variant.run is not None and stage in baselines:
        try:
            before = book.load_results(project, baselines[stage])
            moved = len(list_moves(before, book.load_results(project, variant.run)))
        except ResultsError:
            moved = None  # the baseline, or the variant, has not been run
    manifest = variant.manifest or {}
    return {
        "stage": stage,
        "variant": short,
        "changes": manifest.get("changes", {}),
        "age": _age(manifest.get("finished")),
        "finished": manifest.get("finished"),
        "moved": moved,
        "bytes": size_of(project.root / variant.folder),
        "state": judge(project, variant),
        "appendix": appendix,
        "folder": Path(variant.folder).as_posix(),
    }


def _age(finished: str | None) -> str:
    """Say in one unit how long ago a run ended."""
    if not finished:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(finished)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
