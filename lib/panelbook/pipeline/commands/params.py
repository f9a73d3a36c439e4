"""`panelbook params`: what a stage can be asked to vary."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.table import Table

from panelbook.pipeline.commands.complete import complete_profile, complete_stage
from panelbook.pipeline.commands.terminal import console
from panelbook.project import DEFAULT_PROFILE, Project

if TYPE_CHECKING:
    from panelbook.pipeline.stages import StageRun


def params(
    stage: Annotated[
        str | None,
        typer.Argument(
            help="A stage, or one group of it; leave it out to list the stages.",
            autocompletion=complete_stage,
        ),
    ] = None,
    profile: Annotated[
        str,
        typer.Option("--profile", help="A file of params/, without .yml.", autocompletion=complete_profile),
    ] = DEFAULT_PROFILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for scripts.")] = False,
) -> None:
    """Show what a stage can be asked to vary: name, type, default, the profile's values, what is allowed, meaning."""
    from panelbook.pipeline.params import ParamError, nearest
    from panelbook.pipeline.stages import STAGES, find_stage, plan

    runs = plan(Project.find(), profile)
    if stage is None:
        groups = {name: [r.group for r in runs if r.stage.name == name] for name in STAGES}
        if as_json:
            listed = [{"stage": n, "notebook": s.notebook, "groups": groups[n]} for n, s in STAGES.items()]
            print(json.dumps(listed, indent=1))
            return
        table = Table("stage", "notebook", f"groups in {profile}")
        for name, known in STAGES.items():
            table.add_row(name, known.notebook, ", ".join(groups[name]))
        console.print(table)
        console.print("`panelbook params STAGE` shows what a stage can be asked to vary.", markup=False)
        return
    name, _, group = stage.partition(".")
    cls = find_stage(name).params
    chosen = [r for r in runs if r.stage.name == name and group in ("", r.group)]
    if group and not chosen:
        known_groups = [r.group for r in runs if r.stage.name == name]
        raise ParamError(f"stage {name!r} has no group {group!r}.{nearest(group, known_groups)}")
    rows = [_describe(field, get_type_hints(cls), chosen) for field in dataclasses.fields(cls)]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table()
    for heading in ("parameter", "type", "default", *(r.group for r in chosen), "allowed", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        values = ["" if value == row["default"] else str(value) for value in row["values"].values()]
        table.add_row(row["name"], row["type"], str(row["default"]), *values, row["allowed"], row["meaning"])
    console.print(table)
    console.print("An empty cell: the default.", highlight=False)
    if chosen and (example := find_example(chosen[0])):
        console.print(f"For example: {example}", markup=False, highlight=False, soft_wrap=True)


def _describe(
    field: "dataclasses.Field[Any]", hints: dict[str, Any], chosen: "list[StageRun]"
) -> dict[str, Any]:
    """Return what there is to say of one parameter, as plain data."""
    from panelbook.pipeline.params import default_of, spell_range, spell_type

    choices, within = field.metadata.get("choices") or (), field.metadata.get("within") or ""
    return {
        "name": field.name,
        "type": spell_type(hints[field.name]),
        "default": default_of(field),
        "values": {r.group: getattr(r.params, field.name) for r in chosen},
        "allowed": ", ".join(choices) or (spell_range(within) if within else ""),
        "choices": list(choices),
        "within": within,
        "known": list(field.metadata.get("known") or ()),
        "meaning": field.metadata["help"],
    }


def find_example(run: "StageRun") -> str:
    """Return a command that varies one parameter of a stage by a value that it takes; "" where none is found.

    The stage's own parameters come before those that every stage has.
    """
    from panelbook.pipeline.params import ParamError, StageParams
    from panelbook.pipeline.stages import vary
    from panelbook.pipeline.variants import command_of

    common = {field.name for field in dataclasses.fields(StageParams)}
    fields = sorted(dataclasses.fields(run.params), key=lambda field: field.name in common)
    for field in fields:
        value = getattr(run.params, field.name)
        if isinstance(value, bool):
            other: Any = not value
        elif isinstance(value, int):
            other = 2 * value or 8
        elif isinstance(value, float):
            other = value / 2
        else:
            continue
        try:
            return command_of(vary(run, {field.name: other}))
        except ParamError:
            continue
    return ""
