"""What the TAB key offers: stages and groups, parameters and their values, profiles, variants.

Bash hands over the command line split at every `=` and wants back what follows the last one; `bash_words` stands
between it and Typer, which knows nothing of that. Nothing here may print or raise: a completion that fails offers
nothing.
"""

import contextlib
import functools
import io
import os
import re
import shlex
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


@contextlib.contextmanager
def bash_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Answer a completion by bash as bash wants it; do nothing for anything else."""
    join_words(environment)
    word = environment.get("COMP_WORDS", "").split(" ")[-1]
    if not environment.get(COMPLETE, "").endswith("_bash") or "=" not in word:
        yield
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        before = word.rpartition("=")[0] + "="
        print("\n".join(line.removeprefix(before) for line in said.getvalue().splitlines()))


def _quiet(offer: Callable[..., Iterator[Offer]]) -> Callable[..., list[Offer]]:
    """Turn a generator of offers into what Typer calls: those that begin as typed, none where something is amiss."""

    @functools.wraps(offer)
    def safe(ctx: typer.Context, incomplete: str) -> list[Offer]:
        found: list[Offer] = []
        with contextlib.suppress(Exception):
            found += [(text, help) for text, help in offer(ctx, incomplete) if text.startswith(incomplete)]
        return found

    safe.__annotations__ = {"ctx": typer.Context, "incomplete": str}
    del safe.__wrapped__
    return safe


def _typed() -> tuple[str, str, set[str]]:
    """Return stage, profile and parameters that the command line names so far.

    Read from its words: what is parsed of a line is nothing while its last option lacks a value.
    """
    from panelbook.project import DEFAULT_PROFILE

    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is still open
        words = line.split()
    stage, profile, given = "", DEFAULT_PROFILE, set()
    rest = iter(words[2:])  # after the program and the command
    for word in rest:
        if word == "--profile":
            profile = next(rest, profile)
        elif word in ("-p", "--param"):
            name, equals, _ = next(rest, "").partition("=")
            given |= {name} if equals else set()
        elif word in ("-j", "--jobs"):
            next(rest, None)
        elif not word.startswith("-"):
            stage = stage or word
    return stage, profile, given


def _runs(profile: str) -> list[Any]:
    from panelbook.pipeline.stages import plan
    from panelbook.project import Project

    return plan(Project.find(), profile)


@_quiet
def complete_stage(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer stages; once one is typed with a dot, or is the only one left, its groups."""
    runs = _runs(_typed()[1])
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

    typed, profile, given = _typed()
    stage, _, group = typed.partition(".")
    fields = dataclasses.fields(find_stage(stage).params)
    chosen = [run.params for run in _runs(profile) if run.stage.name == stage and group in ("", run.group)]
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
    from panelbook.project import Project

    for folder in sorted((Project.find().runs / _typed()[1] / "variants").glob("*/*")):
        if folder.name != "sweeps":
            yield f"{folder.parent.name}/{folder.name}", ""
