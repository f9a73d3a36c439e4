"""What the TAB key offers: stages and groups, parameters and their values, profiles, variants.

Bash hands over the command line split at every `=`; `join_words` puts it together again before Typer reads it, and
`bash` alone wants the part after the `=` back. Nothing here may print or raise: a completion that fails offers nothing.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import typer

Offer = tuple[str, str]
"""What would be typed, and a word about it."""

COMPLETE = "_PANELBOOK_COMPLETE"


def join_words(environment: MutableMapping[str, str]) -> None:
    """Undo in the variables of a completion by bash that it takes `=` for a word of its own."""
    if not environment.get(COMPLETE, "").endswith("_bash") or "COMP_CWORD" not in environment:
        return
    words = environment["COMP_WORDS"].split("\n") if "\n" in environment["COMP_WORDS"] else None
    words = words or environment["COMP_WORDS"].split(" ")
    at = int(environment["COMP_CWORD"])
    words += [""] * (at + 1 - len(words))
    joined: list[str] = []
    position = 0
    for index, word in enumerate(words):
        glued = bool(joined) and (
            word == "=" or (index > 1 and words[index - 1] == "=" and joined[-1].endswith("="))
        )
        if glued:
            joined[-1] += word
        else:
            joined.append(word)
        if index == at:
            position = len(joined) - 1
    environment["COMP_WORDS"] = " ".join(joined)
    environment["COMP_CWORD"] = str(position)


def _quiet(offer: Callable[..., Iterator[Offer]]) -> Callable[..., list[Offer]]:
    """Turn a generator of offers into what Typer calls: those that begin as typed, none where something is amiss."""

    @functools.wraps(offer)
    def safe(ctx: typer.Context, incomplete: str) -> list[Offer]:
        found: list[Offer] = []
        with contextlib.suppress(Exception):
            found += [(text, help) for text, help in offer(ctx, incomplete) if text.startswith(incomplete)]
        if os.environ.get(COMPLETE, "").endswith("_bash") and "=" in incomplete:
            before = incomplete.rpartition("=")[0] + "="
            found = [(text.removeprefix(before), help) for text, help in found]
        return found

    safe.__annotations__ = {"ctx": typer.Context, "incomplete": str}
    del safe.__wrapped__
    return safe


def _runs(ctx: typer.Context) -> list[Any]:
    from panelbook.pipeline.stages import plan
    from panelbook.project import DEFAULT_PROFILE, Project

    return plan(Project.find(), ctx.params.get("profile") or DEFAULT_PROFILE)


@_quiet
def complete_stage(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer stages; once one is typed with a dot, or is the only one left, its groups."""
    runs = _runs(ctx)
    names = list(dict.fromkeys(run.stage.name for run in runs))
    fitting = [name for name in names if name.startswith(incomplete)]
    if "." not in incomplete:
        for name in fitting:
            groups = [run.group for run in runs if run.stage.name == name]
            yield name, f"{len(groups)} groups" if len(groups) > 1 else "1 group"
    if "." in incomplete or len(fitting) == 1:
        for run in runs:
            yield run.id, run.params.label


@_quiet
def complete_param(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer parameters of the stage with their values of now; after the `=`, the values that are known."""
    import dataclasses

    from panelbook.pipeline.params import default_of, spell_range
    from panelbook.pipeline.stages import find_stage

    stage, _, group = str(ctx.params.get("stage") or "").partition(".")
    fields = dataclasses.fields(find_stage(stage).params)
    chosen = [run.params for run in _runs(ctx) if run.stage.name == stage and group in ("", run.group)]
    given = {assignment.partition("=")[0] for assignment in ctx.params.get("param") or ()}
    for field in fields:
        name, default = field.name, default_of(field)
        now = getattr(chosen[0], name) if len(chosen) == 1 else default
        if name == "output_dir" or "artefact" in field.metadata:
            continue
        if not incomplete.startswith(f"{name}="):
            if name not in given:
                within = field.metadata.get("within")
                words = [field.metadata["help"], spell_range(within) if within else ""]
                words.append(f"default {_write(default)}")
                yield f"{name}={_write(now)}", "; ".join(filter(None, words))
            continue
        values = [*field.metadata.get("choices", ()), *field.metadata.get("known", ())]
        if isinstance(default, bool):
            values = ["true", "false"]
        head, comma, _ = incomplete.partition("=")[2].rpartition(",")
        for value in dict.fromkeys([*values, _write(now), _write(default)]):
            yield (
                f"{name}={head}{comma}{value}",
                "as it is" if value == _write(now) else field.metadata["help"],
            )


def _write(value: Any) -> str:
    """Write a value as one word of a command line; a list without blanks."""
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"\s", "", str(value)) if isinstance(value, list) else str(value)


@_quiet
def complete_profile(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the profiles, with the first line of their files."""
    from panelbook.pipeline.params import NO_PROFILES
    from panelbook.project import Project

    for path in sorted(Project.find().params.glob("*.yml")):
        if path.stem not in NO_PROFILES:
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            yield path.stem, first.lstrip("# ") if first.startswith("#") else ""


@_quiet
def complete_variant(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the variants that are on disk."""
    from panelbook.project import DEFAULT_PROFILE, Project

    profile = ctx.params.get("profile") or DEFAULT_PROFILE
    for folder in sorted((Project.find().runs / profile / "variants").glob("*/*")):
        if folder.name != "sweeps":
            yield f"{folder.parent.name}/{folder.name}", ""
