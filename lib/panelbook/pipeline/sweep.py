"""Sweeps: one chapter with several values of a parameter, set side by side.

Each combination of values is a variant of its own (`stages.vary`), or the baseline itself where the values are its own.
What they give is kept as one long table, one row per result and member, with a figure of the chapter's main results.

Not handled: whether a difference between members is more than chance. Members share their data, so their intervals
overlap far more than those of independent samples; the table shows how a result depends on a setting.
"""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from panelbook.pipeline.notebook import read_notebook
from panelbook.pipeline.stages import StageRun, short_name, vary
from panelbook.pipeline.variants import SWEEPS
from panelbook.project import Project
from panelbook.publish.results import list_moves

MOST = 16
"""Members that are run without asking; more need a confirmation."""

HEADLINES = 6
"""Results that the figure shows."""

NUMBERS = ("value", "low", "high", "n_problems", "n_draws", "reason")

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """A baseline and its members.

    Attributes
    ----------
    baseline
        The run that is varied.
    axes
        Swept parameter -> its values, two or more.
    fixed
        Other parameters that differ from the baseline, in every member.
    members
        One run for each combination of values, the last axis running fastest.
    """

    baseline: StageRun
    axes: Mapping[str, list[Any]]
    fixed: Mapping[str, Any]
    members: list[StageRun]

    @property
    def name(self) -> str:
        """Name of its folder."""
        swept = {name: "+".join(map(str, values)) for name, values in self.axes.items()}
        return short_name(",".join(f"{k}={v}" for k, v in sorted({**swept, **self.fixed}.items())))

    @property
    def folder(self) -> Path:
        """Where its table and figure lie, from the project's root."""
        return Path("runs") / self.baseline.profile / "variants" / self.baseline.id / SWEEPS / self.name

    def values(self, member: StageRun) -> dict[str, Any]:
        """Return the swept parameters of a member or of the baseline."""
        return {name: getattr(member.params, name) for name in self.axes}

    def label(self, member: StageRun) -> str:
        """Return the swept values of a member as a heading: the bare value where one parameter is swept."""
        values = self.values(member)
        return ", ".join(str(v) if len(values) == 1 else f"{k}={v}" for k, v in values.items())


def make_sweep(baseline: StageRun, values: Mapping[str, list[Any]]) -> Sweep:
    """Plan a sweep over the parameters that have several values.

    Raises
    ------
    ParamError
        If a combination is out of range.
    """
    axes = {name: several for name, several in values.items() if len(several) > 1}
    fixed = {name: several[0] for name, several in values.items() if len(several) == 1}
    members = []
    for combination in itertools.product(*axes.values()):
        changed = vary(baseline, fixed | dict(zip(axes, combination, strict=True)))
        members.append(baseline if changed.params == baseline.params else changed)
    return Sweep(baseline, axes, fixed, members)


def tabulate(sweep: Sweep, results: Mapping[str, Records]) -> pd.DataFrame:
    """Return every result of every member and of the baseline, one row each.

    Parameters
    ----------
    results
        `StageRun.full_id` -> results; a member that failed is not there.

    Returns
    -------
    DataFrame
        `result, title, heading` (the title without the numbers that differ), `style`, the swept parameters, `baseline`
        and `member` (whether the row is one's), `moved` (whether the result differs anywhere), value, interval, counts.
    """
    runs = {run.full_id: run for run in (sweep.baseline, *sweep.members) if run.full_id in results}
    names = list(dict.fromkeys(name for key in runs for name in results[key]))
    moved = find_moves([results[key] for key in runs])
    rows = []
    for name in names:
        heading = join_titles([results[key][name]["title"] for key in runs if name in results[key]])
        for key, run in runs.items():
            if (record := results[key].get(name)) is None:
                continue
            swept = {axis: str(value) for axis, value in sweep.values(run).items()}
            row = {
                "result": name,
                "title": record["title"],
                "heading": heading,
                "style": record["style"],
                **swept,
            }
            row |= {"baseline": run is sweep.baseline, "member": run in sweep.members, "moved": name in moved}
            rows.append(row | {key: record[key] for key in NUMBERS})
    return pd.DataFrame(rows)


def join_titles(titles: list[str]) -> str:
    """Return one title for a result whose title quotes what is varied: "gap at k = 4" and "gap at k = 8".

    Examples
    --------
    >>> join_titles(["gap at k = 4", "gap at k = 8"])
    'gap at k = …'
    """
    split = [re.split(r"(\d+(?:[.,]\d+)*)", title) for title in titles]
    if len({(len(parts), *parts[::2]) for parts in split}) > 1:
        return titles[0]
    columns = zip(*split, strict=True)
    return "".join(parts[0] if len(set(parts)) == 1 else "…" for parts in columns)


def find_moves(results: list[Records]) -> list[str]:
    """Return the names of the results that are not the same in all, in their order."""
    moved = {name for other in results[1:] for name in list_moves(results[0], other)}
    return [name for name in dict.fromkeys(n for records in results for n in records) if name in moved]


def idle_axes(sweep: Sweep, results: Mapping[str, Records]) -> list[str]:
    """Return the swept parameters that moved no result, the others being equal."""
    done = [run for run in sweep.members if run.full_id in results]
    idle = []
    for axis in sweep.axes:
        groups: dict[str, list[Records]] = {}
        for run in done:
            others = {name: value for name, value in sweep.values(run).items() if name != axis}
            groups.setdefault(str(others), []).append(results[run.full_id])
        compared = [group for group in groups.values() if len(group) > 1]
        if compared and not any(find_moves(group) for group in compared):
            idle.append(axis)
    return idle


def main_results(project: Project, sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """Return which moved results a figure should show.

    Those that the chapter's opening quotes, in its order; where none of them moved, those that moved and have an
    interval.
    """
    moved = list(dict.fromkeys(table.loc[table["moved"] & table["value"].notna(), "result"]))
    estimated = set(table.loc[table["low"].notna(), "result"])
    cells = read_notebook(project.notebooks / sweep.baseline.stage.notebook).cells
    opening = next((c.source for c in cells if c.cell_type == "markdown" and "# " in c.source), "")
    quoted = [re.sub(r"_(?:ci|full)$", "", name) for name in re.findall(r"\{glue:text\}`([\w-]+)`", opening)]
    chosen = [name for name in dict.fromkeys(quoted) if name in moved and name in estimated]
    chosen = chosen or [name for name in moved if name in estimated] or moved
    return chosen[:HEADLINES]


def save_sweep(project: Project, sweep: Sweep, table: pd.DataFrame, failed: Mapping[str, str]) -> list[Path]:
    """Write table, figure and a record of a sweep; return the files.

    Parameters
    ----------
    table
        As `tabulate` returns it.
    failed
        Name of a member -> why it failed.
    """
    from panelbook.publish.figures.sweep import draw_sweep  # deferred: it loads matplotlib

    folder = project.root / sweep.folder
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "sweep.csv", folder / "sweep.json"]
    table.drop(columns=["heading", "style", "member"]).to_csv(files[0], index=False)
    record = {
        "run": sweep.baseline.id,
        "axes": dict(sweep.axes),
        "fixed": dict(sweep.fixed),
        "members": [run.full_id for run in sweep.members],
        "failed": dict(failed),
    }
    files[1].write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shown = main_results(project, sweep, table)
    axes = {name: [str(value) for value in values] for name, values in sweep.axes.items()}
    for path in (folder / "sweep.svg", folder / "sweep.png"):
        path.unlink(missing_ok=True)
        if shown:
            figure = draw_sweep(table, axes, shown)
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(path, dpi=200, metadata=metadata)
            files.append(path)
    return files
