"""From imported draws to a profile of their own: which chapters they allow, the files, and the book's first page.

An import becomes a study like any other. Its tables lie under `runs/<name>/imported/`, its profile in `params/`
lists the chapters that compare two arms, each reading those tables by their path, and `panelbook build` or
`panelbook run` with `--profile <name>` work as for every profile. A chapter that the data cannot carry is left
out, and the first page says why.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from panelbook.errors import BookError
from panelbook.pipeline.book import FRONT, read_title
from panelbook.pipeline.stages import find_stage, plan
from panelbook.project import Project
from panelbook.publish.markdown import code, escape, table
from panelbook.publish.pages import CHAPTERS
from panelbook.rollouts.imports import Imported, list_taken
from panelbook.rollouts.schema import select_counts

HEADER = "# Written by `panelbook import`; a second import under this name needs --force.\n"

RESERVED = ("html", "source", "variants", "cache")
"""Folders of `_build` and `runs` that a profile's would be mistaken for."""

PRICED_AS = "imported"
"""Row of `params/prices.yml` for tokens of which nobody has said what they cost."""

GROUP_SIZES = (8, 4, 2)
"""Of an RL group, the largest first: the chapters take the first that every problem has draws for."""


class ImportRefused(BookError, ValueError):
    """The draws were read but make no comparison of two arms, or their name is taken."""


@dataclass(frozen=True)
class LeftOut:
    """A chapter that an import does not get, and why."""

    stage: str
    benchmark: str
    reason: str


@dataclass(frozen=True)
class Written:
    """What an import left: files, from the project's root, and the chapters left out."""

    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def check_name(project: Project, name: str, *, force: bool = False) -> None:
    """Check that a profile may be written under `name`.

    Parameters
    ----------
    force
        Allow the name of an earlier import.

    Raises
    ------
    ImportRefused
        If the name is no plain word, is reserved, or belongs to a profile.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name) or name in RESERVED:
        raise ImportRefused(
            f"--name {name!r}: it names a profile, a study and folders. Use up to 40 letters, digits and _, a letter "
            f"first, and none of {', '.join(RESERVED)}."
        )
    path = project.params / f"{name}.yml"
    if path.exists():
        ours = path.read_text(encoding="utf-8").startswith(HEADER)
        if not (ours and force):
            step = "Give --force to replace it, or another --name." if ours else "Give another --name."
            what = "an earlier import" if ours else "a profile or table of the book"
            raise ImportRefused(f"--name {name}: params/{name}.yml is there already, {what}. {step}")


def choose_arms(counts: pd.DataFrame, first: str = "", second: str = "") -> tuple[str, str]:
    """Return the two arms to compare: those asked for, or the only two in the order of their names.

    Raises
    ------
    ImportRefused
        If an arm is not there, there are not two, which two is open, or they share no problem; the message lists
        what there is.
    """
    arms = sorted(str(arm) for arm in counts["arm"].unique())
    there = "; ".join(f"{arm!r} ({(counts['arm'] == arm).sum():,} problems)" for arm in arms)
    if len(arms) < 2:
        raise ImportRefused(
            f"a comparison needs two arms; there is one: {there}. Add a file that holds the other and name both with "
            "--arm, once for each file, or say which column tells them apart with --map arm=THEIRS."
        )
    if not (first or second) and len(arms) == 2:
        first, second = arms
    for option, arm in (("--first", first), ("--second", second)):
        if arm not in arms:
            asked = f"{option} {arm!r} is not among the arms" if arm else f"{option} is not given"
            raise ImportRefused(f"{asked}. Choose two with --first and --second; there are: {there}.")
    if first == second:
        raise ImportRefused(f"--first and --second are both {first!r}. Name two arms; there are: {there}.")
    if not _shared_benchmarks(counts, first, second):
        some = [
            f"{arm}: {', '.join('/'.join(pair) for pair in _problems(counts, arm)[:3])}"
            for arm in (first, second)
        ]
        raise ImportRefused(
            f"arms {first!r} and {second!r} share no problem, so nothing can be compared. The first of each, as "
            f"benchmark/problem: {'; '.join(some)}. If the ids differ in form, choose another column with "
            "--map problem_id=THEIRS; if only the benchmarks do, name one with --benchmark."
        )
    return first, second


def choose_chapters(
    name: str, imported: Imported, first: str, second: str, *, embed: bool = False
) -> tuple[dict[str, dict[str, dict[str, Any]]], list[LeftOut]]:
    """Say which chapters the draws allow, and with which parameters.

    Parameters
    ----------
    name
        Of the import: its study and the folder of its tables.
    first, second
        The arms.
    embed
        Whether traces are to be embedded.

    Returns
    -------
    dict, list
        Stage -> group -> values, as in a profile, a group for each benchmark that both arms have; and what is
        left out.
    """
    folder = f"runs/{name}/{FRONT.parent.as_posix()}"
    rollouts = [f"{folder}/rollouts.parquet"] if imported.rollouts is not None else []
    # A chapter that counts votes or tags must not take a column that was filled in for one that was recorded.
    answered = rollouts if _recorded(imported, "predicted") else []
    tagged = rollouts if _recorded(imported, "tag_valid") else []
    stages: dict[str, dict[str, dict[str, Any]]] = {}
    left_out: list[LeftOut] = []
    groups: set[str] = set()
    for benchmark in _shared_benchmarks(imported.counts, first, second):
        group = _name_group(benchmark, groups)
        rows = select_counts(imported.counts, study=name, benchmark=benchmark, arms=[first, second])
        base: dict[str, Any] = {
            "label": benchmark,
            "study": name,
            "benchmark": benchmark,
            "first": first,
            "second": second,
        }
        tables = {"counts": f"{folder}/counts.parquet"}
        size = next((size for size in GROUP_SIZES if size <= rows["n"].min()), 0)
        wanted: dict[str, tuple[dict[str, Any], str]] = {
            "pass_at_k": (tables, _too_few(rows)),
            "reliability": (tables | {"rollouts": answered}, _too_few(rows)),
            "closure": (tables, _too_few(rows)),
            "hard_problems": (tables, _too_few(rows)),
            "token_efficiency": (tables | {"rollouts": rollouts}, _no_tokens(rows)),
            "budget": (tables | {"rollouts": answered, "priced_as": PRICED_AS}, _no_tokens(rows)),
            "variance_band": (tables | {"group_size": size}, _too_few(rows) or _unequal(rows)),
            "signal": (
                tables | {"rollouts": tagged, "group_size": size},
                _too_few(rows) or _unequal(rows),
            ),
            "diversity": ({}, _no_texts(imported, embed) or _too_few(rows)),
            "multiverse": (
                {"rollouts": rollouts, "turns": False, "window_chars": _third_of_a_text(imported)},
                _no_texts(imported, embed) or _too_few(rows),
            ),
        }
        for stage, (values, reason) in wanted.items():
            if reason:
                left_out.append(LeftOut(stage, benchmark, reason))
            else:
                stages.setdefault(stage, {})[group] = base | values
    if "diversity" in stages:
        stages["embed"] = {"all": {"label": name, "study": name, "rollouts": rollouts, "turns": False}}
    return stages, left_out


def write_import(
    project: Project, name: str, imported: Imported, first: str, second: str, *, embed: bool = False
) -> Written:
    """Write tables, profile and first page of an import.

    Parameters
    ----------
    name
        Checked by `check_name`.
    first, second
        From `choose_arms`.
    embed
        Whether the chapters on the spread of traces are wanted.

    Raises
    ------
    ImportRefused
        If the draws allow no chapter at all.
    """
    stages, left_out = choose_chapters(name, imported, first, second, embed=embed)
    if not stages:
        reasons = "; ".join(sorted({case.reason for case in left_out}))
        raise ImportRefused(f"these draws allow no chapter: {reasons}.")
    folder = (project.runs / name / FRONT).parent
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("counts.parquet", "rollouts.parquet", "rejected.jsonl"):
        (folder / old).unlink(missing_ok=True)
    imported.counts.to_parquet(folder / "counts.parquet", index=False)
    files = [folder / "counts.parquet"]
    if imported.rollouts is not None:
        imported.rollouts.to_parquet(folder / "rollouts.parquet", index=False)
        files.append(folder / "rollouts.parquet")
    if imported.rejected:
        lines = (
            json.dumps(
                {"where": r.where, "reason": r.reason, "record": r.record}, ensure_ascii=False, default=str
            )
            for r in imported.rejected
        )
        (folder / "rejected.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        files.append(folder / "rejected.jsonl")
    profile = project.params / f"{name}.yml"
    text = yaml.safe_dump({"inherits": "base", "stages": stages}, sort_keys=False, allow_unicode=True)
    profile.write_text(HEADER + text, encoding="utf-8")
    page = write_front(project, name, imported, first, second, left_out)
    (project.runs / name / FRONT).write_text(page, encoding="utf-8")
    return Written(tuple(project.relative(path) for path in (*files, profile)), tuple(left_out))


def write_front(
    project: Project, name: str, imported: Imported, first: str, second: str, left_out: Sequence[LeftOut]
) -> str:
    """Return the first page of the book of an import, in markdown."""
    runs = plan(project, name)
    read = [
        [
            code(benchmark),
            code(arm),
            f"{len(rows):,}",
            f"{rows['n'].sum():,}",
            _range(rows["n"]),
        ]
        for (benchmark, arm), rows in imported.counts.groupby(["benchmark", "arm"])
    ]
    taken = [
        [
            code(ours),
            code(theirs.removeprefix("column ")) if theirs.startswith("column ") else _plain(theirs),
            _plain(files),
        ]
        for ours, theirs, files in list_taken(imported.sources)
    ]
    notes = [*imported.notes, *_unpaired(imported.counts, first, second)]
    if imported.rejected:
        where = f"runs/{name}/{FRONT.parent.as_posix()}/rejected.jsonl"
        notes.append(f"Rows left out: {len(imported.rejected):,}; {where} lists them.")
    example = next(run for run in runs if run.stage.name != "embed")
    chapters = [f"- {{doc}}`/{CHAPTERS}/{run.page}`" for run in runs]
    missing = list(
        dict.fromkeys(
            f"- *{read_title(project, find_stage(case.stage))}* on {code(case.benchmark)}: {_plain(case.reason)}."
            for case in left_out
        )
    )
    parts = [
        f"(front)=\n# {_plain(name)}: {_title(first)} and {_title(second)}",
        f"Draws of {code(first)}, the arm under study, and {code(second)}, the arm it is compared with, imported "
        f"from {len(imported.sources)} file{'s' if len(imported.sources) > 1 else ''}. Each chapter asks one question "
        "of them. Intervals resample problems; {doc}`/methods` says how.",
        "\n".join(chapters),
        "## What was read",
        table(["benchmark", "arm", "problems", "draws", "draws each"], read),
        "\n".join(f"- {_plain(note)}" for note in notes),
        "## What was taken for what",
        table(["here", "in the files", "files"], taken),
        "## What is left out" if missing else "",
        "\n".join(missing),
        "## Ask again",
        f"```bash\npanelbook params {example.stage.name} --profile {name}\n"
        f"panelbook run {example.id} --profile {name} -p n_resamples=10000\npanelbook build --profile {name}\n```",
        "The first lists what a chapter can be asked to vary, the second asks it with another value, the third brings "
        "every chapter up to date.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _recorded(imported: Imported, column: str) -> bool:
    return all(column in source.taken for source in imported.sources)


def _problems(counts: pd.DataFrame, arm: str) -> list[tuple[str, str]]:
    rows = counts[counts["arm"] == arm]
    return [(str(b), str(p)) for b, p in zip(rows["benchmark"], rows["problem_id"], strict=True)]


def _shared_benchmarks(counts: pd.DataFrame, first: str, second: str) -> list[str]:
    """Return the benchmarks on which both arms have a problem in common."""
    shared = set(_problems(counts, first)) & set(_problems(counts, second))
    return sorted({benchmark for benchmark, _ in shared})


def _unpaired(counts: pd.DataFrame, first: str, second: str) -> list[str]:
    """Return sentences on what has no counterpart in the other arm."""
    mine, theirs = set(_problems(counts, first)), set(_problems(counts, second))
    notes = [
        f"Problems that only {arm} has, left out of every paired comparison: {len(only):,}."
        for arm, only in ((first, mine - theirs), (second, theirs - mine))
        if only
    ]
    others = sorted(set(counts["arm"].astype(str)) - {first, second})
    return notes + ([f"Further arms, kept in the table of counts: {', '.join(others)}."] if others else [])


def _name_group(benchmark: str, taken: set[str]) -> str:
    """Return a name for folders and pages made of a benchmark's, different from those taken, and take it."""
    stem = re.sub(r"\W+", "_", benchmark, flags=re.ASCII).strip("_") or "all"
    group, number = stem, 1
    while group.lower() in taken:
        number += 1
        group = f"{stem}_{number}"
    taken.add(group.lower())
    return group


def _too_few(rows: pd.DataFrame) -> str:
    least = rows.sort_values("n").iloc[0]
    if least["n"] > 1:
        return ""
    return f"it compares draws of one problem, and problem {least['problem_id']!r} of arm {least['arm']!r} has one"


def _no_tokens(rows: pd.DataFrame) -> str:
    missing = rows[rows["mean_tokens"].isna()]
    return f"no token counts for arm {missing['arm'].iloc[0]!r}" if len(missing) else ""


def _unequal(rows: pd.DataFrame) -> str:
    if rows["n"].min() == rows["n"].max():
        return ""
    return f"a band depends on the number of draws, and that differs between problems or arms ({_range(rows['n'])})"


def _no_texts(imported: Imported, embed: bool) -> str:
    if not embed:
        return "not asked for; --embed adds it"
    if imported.rollouts is None or not imported.rollouts["completion"].str.len().gt(0).any():
        return "there are no completions to embed"
    return ""


def _third_of_a_text(imported: Imported) -> int:
    """Return the length of a window of which head, middle and tail just fit into the middling completion."""
    if imported.rollouts is None:
        return 1
    return min(2000, max(1, int(imported.rollouts["completion"].str.len().median()) // 3))


def _range(values: "pd.Series[int]") -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _plain(text: str) -> str:
    """Keep a name from being read as markdown; an option is set as code, or its dashes would be joined to one."""
    return re.sub(r"(?<!\S)(--[a-z]+)", r"`\1`", escape(text))


def _title(text: str) -> str:
    """Return a name for the title of a page; the theme repeats that in the sidebar of every page, unescaped."""
    return code(text.translate(str.maketrans('<>"', "‹›”")))
