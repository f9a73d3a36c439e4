"""`panelbook run`: one chapter again, with other parameters if you like, or with several in turn."""

import contextlib
import dataclasses
import functools
import json
import webbrowser
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from panelbook.errors import BookError
from panelbook.pipeline.commands.complete import complete_param, complete_profile, complete_stage
from panelbook.pipeline.commands.spending import agree_to_spend, print_costs
from panelbook.pipeline.commands.terminal import JobsOption, console, errors
from panelbook.project import DEFAULT_PROFILE, Project

if TYPE_CHECKING:
    from panelbook.pipeline.stages import StageRun
    from panelbook.pipeline.sweep import Sweep

Records = dict[str, dict[str, Any]]

SHOWN = 30
"""Rows of a comparison on the terminal; all are in the file that it names."""

RUN_HELP = """Re-execute one chapter, with other parameters if you like; the baseline stays as it is.

With [bold]-p[/bold] the result goes to a variant of its own, named after the parameters, is compared with the \
baseline, and gets a page beside it. A variant that is up to date is found again. Without [bold]-p[/bold] the baseline \
itself is executed again.

[bold]Several values[/bold]

  panelbook run pass_at_k.aime -p k_max=4,8,16

makes one variant for each value and sets them side by side, in a table, a CSV file and a figure. Several parameters \
with several values give every combination; more than 16 have to be confirmed.

  numbers, true/false    -p k_max=4,8,16
  texts                  -p benchmark=aime,olympiad
  a text with a comma    -p 'label="first, second"'
  a list                 -p 'sizes=[20,50]'
  several lists          -p 'sizes=[20,50];[20,134]'

[bold]panelbook params STAGE[/bold] lists what can be varied, [bold]panelbook variants[/bold] what has been.
"""


@dataclasses.dataclass
class Plan:
    """What a call of `run` is about to do.

    Attributes
    ----------
    runs
        Every run of the profile.
    sweeps
        One for each chosen group; without changed parameters its only member is the baseline.
    upstream
        What they read, directly or not, and the baselines that they are compared with.
    """

    runs: "list[StageRun]"
    sweeps: "list[Sweep]"
    upstream: "list[StageRun]"

    @property
    def members(self) -> "list[StageRun]":
        """Every run that was asked for, once."""
        return list({run.full_id: run for sweep in self.sweeps for run in sweep.members}.values())


def run(
    stage: Annotated[
        str,
        typer.Argument(
            help="A stage, or one group of it: pass_at_k or pass_at_k.aime.", autocompletion=complete_stage
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            help="name=value, or name=value,value to sweep; repeat for more.",
            autocompletion=complete_param,
        ),
    ] = None,
    profile: Annotated[
        str,
        typer.Option("--profile", help="A file of params/, without .yml.", autocompletion=complete_profile),
    ] = DEFAULT_PROFILE,
    jobs: JobsOption = 2,
    html: Annotated[bool, typer.Option(help="Render the page.")] = True,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Execute variants that are up to date, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be executed, and execute nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, for scripts.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a large sweep, or before spending.")
    ] = False,
) -> None:
    """Re-execute one chapter; see `RUN_HELP`."""
    project = Project.find()
    asked = make_plan(project, stage, param or [], profile)
    screen = errors if as_json else console
    if dry_run:
        _print_dry_run(project, asked, as_json=as_json)
        return
    _confirm(asked, yes=yes)
    affected = list({r.full_id: r for r in (*asked.upstream, *asked.members)}.values())
    agree_to_spend(project, affected, asked.runs, yes=yes, screen=screen)
    outcome = _execute(project, asked, stage, jobs, html=html, force=force, screen=screen)
    if as_json:
        print(json.dumps(outcome, indent=1, ensure_ascii=False))
    pages = [entry["page"] for entry in outcome["runs"] if entry.get("page")]
    if open_ and pages:
        webbrowser.open((project.root / pages[0]).as_uri())
    if outcome["failed"]:
        raise SystemExit(1)


def make_plan(project: Project, stage: str, assignments: list[str], profile: str) -> Plan:
    """Check what was typed against the stage and the profile, before anything is executed.

    Raises
    ------
    ParamError
        If there is no such stage, group, parameter or profile, or a value is of the wrong type or out of range.
    """
    from panelbook.pipeline.params import ParamError, nearest, parse_assignments
    from panelbook.pipeline.stages import find_stage, list_upstream, plan
    from panelbook.pipeline.sweep import make_sweep

    name, _, group = stage.partition(".")
    values = parse_assignments(find_stage(name).params, assignments)
    runs = plan(project, profile)
    groups = {r.group: r for r in runs if r.stage.name == name}
    if not groups:
        raise ParamError(f"profile {profile!r} has no group of stage {name!r}; give another with --profile.")
    if group and group not in groups:
        raise ParamError(f"stage {name!r} has no group {group!r}.{nearest(group, groups)}")
    baselines = [groups[group]] if group else list(groups.values())
    sweeps = [make_sweep(baseline, values) for baseline in baselines]
    upstream = [*list_upstream(runs, baselines), *(baselines if values else [])]
    return Plan(runs, sweeps, upstream)


def _confirm(asked: Plan, *, yes: bool) -> None:
    from panelbook.pipeline.sweep import MOST

    if len(asked.members) <= MOST or yes:
        return
    text = f"This makes {len(asked.members)} variants, more than {MOST}."
    if not console.is_terminal:
        raise BookError(f"{text} Add --yes if that is meant.")
    if not typer.confirm(f"{text} Go on?"):
        raise BookError("Nothing was executed.")


def _execute(
    project: Project,
    asked: Plan,
    stage: str,
    jobs: int,
    *,
    html: bool,
    force: bool,
    screen: Console,
) -> dict[str, Any]:
    """Execute, compare and render; return what happened as plain data."""
    from panelbook.pipeline import book
    from panelbook.pipeline.display import StageDisplay
    from panelbook.pipeline.tasks import build_lock

    baselines = [sweep.baseline for sweep in asked.sweeps]
    variants = [run for run in asked.members if run.variant]
    failed: dict[str, str] = {}
    with build_lock(project):
        missing = book.published_status(functools.partial(_say, screen))
        if missing and any(r in book.without_published(asked.runs)[1] for r in baselines):
            raise BookError(f"{stage} needs the published files. {missing}")
        display = StageDisplay(screen)
        executed = []
        if asked.upstream:
            report = book.execute_runs(project, asked.upstream, display, jobs)
            executed += [done.run.full_id for done in report.executed]
        if variants:
            if force:
                for run in variants:
                    (project.root / run.folder / "manifest.json").unlink(missing_ok=True)
            if len(variants) > 1:
                _say(screen, f"{len(variants)} variants, {jobs} side by side")
            report = book.execute_runs(project, variants, display, jobs, keep_going=True)
            executed += [done.run.full_id for done in report.executed]
            failed = {name: str(error) for name, error in report.failed.items()}
            for run in variants:  # the scheduler makes the folder of what it is about to try
                with contextlib.suppress(OSError):  # it is not empty, or not there
                    (project.root / run.folder).rmdir()
            for name in report.unchanged:
                _say(screen, f"  {name}: up to date")
        elif not asked.upstream or asked.members != asked.upstream[-len(asked.members) :]:
            executed += _execute_again(project, asked.members, display)
        results = {
            run.full_id: book.load_results(project, run)
            for run in (*baselines, *asked.members)
            if run.full_id not in failed
        }
        entries = [
            _compare(sweep, run, results, executed, screen)
            for sweep in asked.sweeps
            for run in sweep.members
            if run.full_id in results
        ]
        saved = [_save(project, sweep, results, failed, screen) for sweep in asked.sweeps if sweep.axes]
        if html and results.keys() - {run.id for run in baselines if variants}:
            shown = [run for run in asked.members if run.full_id in results]
            for run, page in zip(shown, _render(project, asked, shown, missing, screen), strict=True):
                for entry in entries:
                    if entry["run"] == run.full_id:
                        entry["page"] = project.relative(page)
    for name, error in failed.items():
        errors.print(f"[bold red]failed[/bold red] {name}", highlight=False)
        errors.print(error, markup=False, highlight=False, soft_wrap=True)
    for entry in entries:
        if "page" in entry:
            _say(screen, f"  page:  {entry['page']}")
        if len(entries) <= len(asked.sweeps):
            _say(screen, f"  files: {entry['folder']}")
    notebook = project.relative(project.notebooks / baselines[0].stage.notebook)
    _say(screen, f"  by hand, with parameters of your own in its first cells: jupyter lab {notebook}")
    return {"profile": baselines[0].profile, "runs": entries, "sweeps": saved, "failed": failed}


def _say(screen: Console, text: str) -> None:
    screen.print(text, markup=False, highlight=False, soft_wrap=True)


def _execute_again(project: Project, runs: "Iterable[StageRun]", display: Any) -> list[str]:
    """Execute baselines whether or not they are up to date."""
    from panelbook.pipeline.run import run_stage

    done = []
    with display:
        for r in runs:
            display.start(r)
            cell, note = (functools.partial(show, r) for show in (display.cell, display.note))
            display.end(run_stage(project, r, force=True, on_cell=cell, on_note=note))
            done.append(r.full_id)
    return done


def _render(
    project: Project, asked: Plan, shown: "list[StageRun]", missing: str, screen: Console
) -> list[Path]:
    """Render the pages of variants, or the book where a baseline was executed again; return the pages."""
    from panelbook.pipeline import book

    variants = [run for run in shown if run.variant]
    if variants:
        with screen.status("rendering the page" if len(variants) == 1 else "rendering the pages"):
            book.render_variants(project, asked.runs, variants, missing=missing)
    else:
        with screen.status("rendering the book"):
            book.render(project, asked.runs, missing=missing, target=book.find_book(project, asked.runs)[0])
    return [book.page_path(project, asked.runs, run) for run in shown]


def _compare(
    sweep: "Sweep", run: "StageRun", results: Mapping[str, Records], executed: list[str], screen: Console
) -> dict[str, Any]:
    """Say what moved between a variant and its baseline, and return it as plain data."""
    from panelbook.publish.results import list_moves

    entry: dict[str, Any] = {
        "run": run.full_id,
        "changes": dict(run.changes),
        "status": "executed" if run.full_id in executed else "up to date",
        "folder": run.folder.as_posix(),
    }
    if not run.variant:
        return entry
    before, after = results[sweep.baseline.full_id], results[run.full_id]
    moved = list_moves(before, after)
    unmoved = len(before.keys() | after.keys()) - len(moved)
    entry |= {
        "moved": [
            {"result": name, "before": _numbers(before.get(name)), "after": _numbers(after.get(name))}
            for name in moved
        ],
        "unmoved": unmoved,
        "warnings": _find_idle(sweep.baseline, run, moved),
    }
    if not sweep.axes:
        if moved:
            _print_moves(before, after, moved, run.full_id, screen)
        _say(screen, f"  {len(moved)} results moved, {unmoved} did not")
        for warning in entry["warnings"]:
            errors.print(f"  [yellow]note[/yellow]: {warning}", highlight=False, soft_wrap=True)
    return entry


def _find_idle(baseline: "StageRun", run: "StageRun", moved: list[str]) -> list[str]:
    """Return what a reader should know of parameters that made no difference."""
    same = [name for name, value in run.changes.items() if getattr(baseline.params, name) == value]
    notes = [f"{name}={getattr(run.params, name)} is what the baseline has." for name in same]
    rest = [name for name in run.changes if name not in same]
    if rest and not moved:
        notes.append(f"{' and '.join(rest)} had no effect on any result of this chapter.")
    return notes


def _numbers(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    keys = ("title", "value", "low", "high", "n_problems", "n_draws")
    return None if record is None else {key: record[key] for key in keys}


def _print_moves(before: Records, after: Records, moved: list[str], name: str, screen: Console) -> None:
    """Print which results differ between a baseline and its variant."""
    from panelbook.publish.results import format_interval, format_value

    table = Table("result", "baseline", "now", title=f"{name}: what moved", title_justify="left")
    for key in moved[:SHOWN]:
        old, new = (
            f"{format_value(side[key])} ({format_interval(side[key])})" if key in side else "not there"
            for side in (before, after)
        )
        table.add_row((after.get(key) or before[key])["title"], old, new)
    screen.print(table)
    if len(moved) > SHOWN:
        screen.print(f"  and {len(moved) - SHOWN} more, in results.json", highlight=False)


def _save(
    project: Project,
    sweep: "Sweep",
    results: Mapping[str, Records],
    failed: Mapping[str, str],
    screen: Console,
) -> dict[str, Any]:
    """Print, keep and return the comparison of a sweep."""
    from panelbook.pipeline.sweep import find_moves, idle_axes, main_results, save_sweep, tabulate

    done = [run for run in sweep.members if run.full_id in results]
    mine = {name: why for name, why in failed.items() if name in {run.full_id for run in sweep.members}}
    if not done:
        return {"run": sweep.baseline.id, "files": [], "moved": []}
    table = tabulate(sweep, results)
    files = [path.relative_to(project.root).as_posix() for path in save_sweep(project, sweep, table, mine)]
    moved = find_moves([results[sweep.baseline.full_id], *(results[run.full_id] for run in done)])
    first = main_results(project, sweep, table)
    _print_sweep(sweep, results, [*first, *(name for name in moved if name not in first)], screen)
    idle = idle_axes(sweep, results)
    for name in idle:
        errors.print(f"  [yellow]note[/yellow]: {name} had no effect on any result.", highlight=False)
    _say(screen, f"  sweep: {sweep.folder.as_posix()}/ with {', '.join(Path(path).name for path in files)}")
    return {"run": sweep.baseline.id, "axes": dict(sweep.axes), "files": files, "moved": moved, "idle": idle}


def _print_sweep(sweep: "Sweep", results: Mapping[str, Records], moved: list[str], screen: Console) -> None:
    from panelbook.pipeline.sweep import join_titles
    from panelbook.publish.results import format_interval, format_value

    base = sweep.baseline
    runs = [run for run in sweep.members if run.full_id in results]
    heads = [f"{sweep.label(run)} (baseline)" if run == base else sweep.label(run) for run in runs]
    if base not in runs:
        runs, heads = [base, *runs], [f"baseline ({sweep.label(base)})", *heads]
    table = Table("result", *heads, title=f"{base.id}: {', '.join(sweep.axes)}", title_justify="left")
    for name in moved[:SHOWN]:
        records = [results[run.full_id].get(name) for run in runs]
        cells = [
            f"{format_value(record)}\n{format_interval(record)}" if record else "not there"
            for record in records
        ]
        table.add_row(join_titles([record["title"] for record in records if record]), *cells)
    if moved:
        screen.print(table)
    if len(moved) > SHOWN:
        _say(screen, f"  and {len(moved) - SHOWN} more, in sweep.csv")
    everything = {name for run in runs for name in results[run.full_id]}
    _say(screen, f"  {len(moved)} results moved, {len(everything) - len(moved)} did not")


def _print_dry_run(project: Project, asked: Plan, *, as_json: bool) -> None:
    """Say which notebooks would be executed, with which parameters, and why."""
    from panelbook.pipeline.estimate import estimate_costs, list_spending
    from panelbook.pipeline.run import StageFailed, is_current, stage_key

    rows: list[dict[str, Any]] = []
    stale: set[str] = set()
    for run in [*asked.upstream, *(r for r in asked.members if r not in asked.upstream)]:
        forced = (
            not run.variant
            and run in asked.members
            and not any(s.members != [s.baseline] for s in asked.sweeps)
        )
        fed = any(Path(name).parent.as_posix() in stale for name in run.inputs)
        try:
            current = is_current(project.root / run.folder, stage_key(project, run))
        except StageFailed:
            current = False
        state = "would be executed" if forced or not current else "up to date"
        if state == "up to date" and fed:
            state = "would be executed if what it reads changes"
        if state != "up to date":
            stale.add(run.folder.as_posix())
        reads = list(dict.fromkeys(Path(name).parent.as_posix() for name in run.inputs))
        row: dict[str, Any] = {"run": run.full_id, "state": state, "changes": dict(run.changes)}
        rows.append(row | {"notebook": run.stage.notebook, "reads": reads})
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table(title="Nothing is executed", title_justify="left")
    for heading in ("run", "state", "parameters changed", "reads"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        changes = ", ".join(f"{name}={value}" for name, value in row["changes"].items())
        table.add_row(row["run"], row["state"], changes, "\n".join(row["reads"]))
    console.print(table)
    spending = list_spending(project, {r.full_id: r for r in (*asked.upstream, *asked.members)}.values())
    if costs := estimate_costs(project, spending, asked.runs):
        print_costs(project, costs)
