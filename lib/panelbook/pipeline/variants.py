"""Variants: re-runs of a chapter with other parameters, kept beside its baseline.

A variant lives in `runs/<profile>/variants/<stage.group>/<name>`, where its manifest says which parameters it changed.
Here they are found, compared with their baselines, described for their page, and entered in `params/appendix.yml`, the
tracked list of those that the book shows. What is on disk is derived: deleting a variant loses nothing but time.
"""

import json
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from panelbook.errors import BookError
from panelbook.pipeline.params import ParamError, nearest
from panelbook.pipeline.stages import StageRun, vary
from panelbook.project import DEFAULT_PROFILE, Project
from panelbook.publish.markdown import code, escape

Records = Mapping[str, Mapping[str, Any]]

SWEEPS = "sweeps"
"""Folder of comparisons of variants, beside the variants themselves."""

APPENDIX = "appendix.yml"
HEADER = (
    "# Variants that the book shows in its appendix; `panelbook variants add` and `remove` write this file.\n"
)

SHOWN_MOVES = 12
"""Results that the note on a variant's page lists; the page itself shows all."""


class VariantError(BookError, ValueError):
    """A variant is not there, its name is not clear, or it cannot be entered or deleted."""


@dataclass(frozen=True)
class Variant:
    """One folder of a variant.

    Attributes
    ----------
    name
        `stage.group/variant`.
    folder
        From the project's root.
    manifest
        As the run left it; None where it cannot be read.
    run
        The run that would make it now; None where the profile has no such run any more, or it cannot be made.
    """

    name: str
    folder: Path
    manifest: dict[str, Any] | None
    run: StageRun | None


def find_variants(project: Project, runs: Iterable[StageRun]) -> list[Variant]:
    """Return the variants of a profile's runs that are on disk, by name."""
    from panelbook.pipeline.run import read_manifest  # deferred: it loads what executes notebooks

    baselines = {run.id: run for run in runs}
    profiles = {run.profile for run in baselines.values()}
    found = []
    for profile in sorted(profiles):
        for folder in sorted((project.runs / profile / "variants").glob("*/*")):
            if folder.name == SWEEPS or not folder.is_dir() or not any(folder.iterdir()):
                continue
            manifest = read_manifest(folder)
            run = _make_again(baselines.get(folder.parent.name), manifest)
            if run is not None and run.variant != folder.name:
                run = None
            name = f"{folder.parent.name}/{folder.name}"
            found.append(Variant(name, folder.relative_to(project.root), manifest, run))
    return found


def _make_again(baseline: StageRun | None, manifest: Mapping[str, Any] | None) -> StageRun | None:
    try:
        return vary(baseline, manifest["changes"]) if baseline and manifest else None
    except (ParamError, KeyError):
        return None


def judge(project: Project, variant: Variant) -> str:
    """Say whether a variant on disk is what its parameters would give now: current, stale or broken, and why."""
    from panelbook.pipeline.run import StageFailed, is_current, stage_key

    if variant.manifest is None:
        return "broken: no readable manifest"
    if variant.run is None:
        return "stale: the profile has no such run now"
    try:
        key = stage_key(project, variant.run)
    except StageFailed:
        return "stale: what it reads is gone"
    if variant.manifest["key"] != key:
        return "stale: code, parameters or input changed"
    return "current" if is_current(project.root / variant.folder, key) else "broken: a file was changed"


def pick(variants: list[Variant], name: str) -> Variant:
    """Return the variant that `name` means: its whole name, its end, or any part that only one has.

    Raises
    ------
    VariantError
        If none has, or several.
    """
    for fits in (
        [v for v in variants if v.name == name],
        [v for v in variants if v.folder.name == name],
        [v for v in variants if name in v.name],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            names = "\n  ".join(v.name for v in fits)
            raise VariantError(
                f"{name!r} may mean several variants. Say more of one of these names:\n  {names}"
            )
    if not variants:
        raise VariantError("There is no variant. `panelbook run STAGE -p name=value` makes one.")
    raise VariantError(f"There is no variant {name!r}.{nearest(name, [v.name for v in variants])}")


def read_appendix(project: Project, runs: list[StageRun]) -> list[StageRun]:
    """Return the variants that the book of these runs shows in its appendix, in their order.

    Raises
    ------
    ParamError
        If `params/appendix.yml` is no list of runs and changed parameters under the names of profiles, or names a
        run that its profile lacks.
    """
    if not runs:
        return []
    entries = _read_entries(project).get(runs[0].profile, [])
    baselines = {run.id: run for run in runs}
    found = []
    for entry in entries:
        baseline = baselines.get(entry["run"])
        if baseline is None:
            raise ParamError(
                f"params/{APPENDIX}: profile {runs[0].profile!r} has no run {entry['run']!r}."
                f"{nearest(str(entry['run']), baselines)} Correct the entry, or remove it."
            )
        try:
            found.append(vary(baseline, entry["params"]))
        except ParamError as error:
            raise ParamError(f"params/{APPENDIX}, {entry['run']}: {error}") from None
    return found


def write_appendix(project: Project, profile: str, variants: Iterable[StageRun]) -> None:
    """Record which variants the book of a profile shows; other profiles' entries stay."""
    entries = _read_entries(project)
    entries[profile] = [{"run": run.id, "params": dict(run.changes)} for run in variants]
    kept = {name: listed for name, listed in entries.items() if listed}
    path = project.params / APPENDIX
    if not kept:
        path.unlink(missing_ok=True)
        return
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    path.write_text(HEADER + text, encoding="utf-8")


def _read_entries(project: Project) -> dict[str, list[dict[str, Any]]]:
    path = project.params / APPENDIX
    if not path.is_file():
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ParamError(f"params/{APPENDIX} is not valid YAML: {error}") from None
    good = isinstance(data, dict) and all(
        isinstance(listed, list)
        and all(
            isinstance(e, dict) and {"run", "params"} == e.keys() and isinstance(e["params"], dict)
            for e in listed
        )
        for listed in data.values()
    )
    if not good:
        raise ParamError(
            f"params/{APPENDIX} must map names of profiles to lists of {{run, params}}; it begins {str(data)[:60]!r}."
        )
    return data


def delete(project: Project, variant: Variant, page: Path | None = None) -> None:
    """Remove a variant's files, and its page where it has one."""
    shutil.rmtree(project.root / variant.folder)
    if page is not None:
        page.unlink(missing_ok=True)


def describe_variant(baseline: StageRun, variant: StageRun, before: Records, after: Records) -> str:
    """Return the note that opens a variant's page: what it changes, what moved, where the baseline is, in markdown."""
    from panelbook.publish.pages import CHAPTERS
    from panelbook.publish.results import format_interval, format_value, list_moves

    changes = ", ".join(
        f"{code(name)} = {code(value)} instead of {code(getattr(baseline.params, name))}"
        for name, value in variant.changes.items()
    )
    link = f"{{doc}}`its baseline </{CHAPTERS}/{baseline.page}>`"
    lines = [
        "::::{admonition} A variant",
        ":class: variant",
        f"This page differs from {link} in {changes or 'nothing'}.",
        "",
    ]
    moved = list_moves(dict(before), dict(after)) if before and after else []  # type: ignore[arg-type]
    if not (before and after):
        lines.append("One of the two has not been run yet.")
    elif not moved:
        lines.append("No result moved.")
    else:
        lines += [
            f":::{{dropdown}} {len(moved)} of {len(before.keys() | after.keys())} results moved",
            "",
            "| result | baseline | here |",
            "|---|---|---|",
        ]
        for name in moved[:SHOWN_MOVES]:
            cells = (
                f"{format_value(side[name])} ({format_interval(side[name])})" if name in side else "not there"  # type: ignore[arg-type]
                for side in (before, after)
            )
            title = (after.get(name) or before[name])["title"]
            lines.append(f"| {' | '.join(map(escape, (title, *cells)))} |")
        if len(moved) > SHOWN_MOVES:
            lines += ["", "The others are further down this page."]
        lines.append(":::")
    return "\n".join([*lines, "", f"To make it again: {code(command_of(variant))}", "::::"])


def command_of(run: StageRun) -> str:
    """Return the command line that makes a run, or a variant, again."""
    command = f"panelbook run {run.id}"
    if run.profile != DEFAULT_PROFILE:
        command += f" --profile {run.profile}"
    return " ".join([command, *(f"-p {assign(name, value)}" for name, value in run.changes.items())])


def assign(name: str, value: Any) -> str:
    """Write a changed parameter as the command line takes it, quoted for a shell where need be."""
    if isinstance(value, list):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value)
        if isinstance(value, str) and ("," in text or text.startswith('"')):
            doubled = text.replace('"', '""')
            text = f'"{doubled}"'
    return shlex.quote(f"{name}={text}")


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
