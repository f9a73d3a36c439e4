"""The command line: `panelbook build | run | import | params | claims | fetch | headline | power | tidy`."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
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


@app.command("import", help=IMPORT_HELP)
def import_(
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


@app.command()
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


@app.command()
def power(
    pass_first: Annotated[
        float, typer.Option(help="Expected share of right draws of the first arm, such as 0.30.")
    ],
    pass_second: Annotated[
        float, typer.Option(help="Expected share of right draws of the second arm, such as 0.35.")
    ],
    problems: Annotated[int, typer.Option(help="Problems that both arms answer.")],
    draws: Annotated[int, typer.Option(help="Draws of each problem, for each arm.")],
    effect: Annotated[
        float | None,
        typer.Option(help="Difference to be seen, such as 0.05. By default that of the two shares."),
    ] = None,
    wanted: Annotated[float, typer.Option("--power", help="Wanted chance to see it.")] = 0.8,
    correlation: Annotated[
        float, typer.Option(help="Of the two arms' success rates over problems, from -1 to 1.")
    ] = 0.5,
    sd_problems: Annotated[
        float | None,
        typer.Option(
            help="How much success rates differ between problems (standard deviation). "
            "By default 0.7 of the most they can, about what the published benchmarks show."
        ),
    ] = None,
) -> None:
    """Plan a comparison of two arms: what a design can see, and how many problems or draws it takes.

    Both arms answer the same problems, several times each. A difference of shares has two sources of noise:
    problems differ in how much they favour an arm, and draws of one problem differ by chance. More draws
    help against the second only. For example: [bold]panelbook power --pass-first 0.30 --pass-second 0.35
    --problems 100 --draws 8[/bold].
    """
    from panelbook.measure.power import assess, plan_from_rates
    from panelbook.pipeline.params import ParamError

    seen = pass_second - pass_first if effect is None else effect
    try:
        design = plan_from_rates(seen, pass_first, pass_second, problems, draws, correlation, sd_problems)
        found = assess(design, wanted)
    except ValueError as error:
        raise ParamError(str(error)) from None
    table = Table("question", "answer", title=f"{problems:,} problems, {draws:,} draws each, both arms")
    needed = "more than ten million" if found.problems is None else f"{found.problems:,}"
    rows = (
        (f"chance to see a difference of {seen:+.3g}", f"{found.power:.1%}"),
        (f"smallest difference seen with {wanted:.0%} chance", f"{found.detectable:.3f}"),
        (f"problems needed for {seen:+.3g}, with {draws:,} draws each", needed),
        (
            f"draws needed for {seen:+.3g}, with {problems:,} problems",
            found.draws_note or f"{found.draws:,}",
        ),
        ("share of the variance that is between problems", f"{design.between / design.variance:.0%}"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print("Two-sided t-test over problems at 5%, arms paired by problem.", highlight=False)


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
