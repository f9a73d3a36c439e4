"""Which draws a book's explorer holds, and the explorer itself, made again only when something has changed.

Every table of rollouts that the runs of a profile have left: those of its arms, those of imported draws, and those
seen in training, with their checkpoints; the questions; the map, where it was made. Where the published files are at
hand, the 40 transcripts that the study tracks are a study of their own among them.
"""

import hashlib
import html
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from pyarrow.parquet import read_schema

from panelbook.pipeline.stages import StageRun
from panelbook.project import Project
from panelbook.publish import explorer
from panelbook.publish.explorer_data import rollout_id
from panelbook.rollouts import published
from panelbook.rollouts.casestudy import read_case_study
from panelbook.rollouts.imports import read_draws
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, ROLLOUTS_KEY, read_rollouts
from panelbook.rollouts.windows import TRANSCRIPTS

FOLDER = "explore"
"""The explorer's folder in the book; the page that shows it is `explore.html`, beside it."""
PAGE = "explore.md"
"""What the hand-written page includes, under `generated/`."""
KEY = ".key"

ROLLOUTS = ("rollouts.parquet", "training_rollouts.parquet")
IMPORTED = Path("imported") / "rollouts.parquet"
"""Draws of an import, under the folder of its profile in `runs`."""

PUBLISHED_ARMS = {
    "study": "published",
    "run_id": "published",
    "benchmark": "case_study",
    "checkpoint": "published",
}
ATTRIBUTION = (
    "Study “published”: the 20 case studies of scasella/multi-model (MIT licence), one transcript of each arm, as "
    "published; nobody graded them here."
)


@dataclass(frozen=True)
class Tables:
    """Files that an explorer is made of; any may be empty.

    Parameters
    ----------
    rollouts, problems, places, neighbours
        Parquet files.
    transcripts
        Folder of the published files; None to leave their transcripts out.
    """

    rollouts: tuple[Path, ...]
    problems: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()
    neighbours: tuple[Path, ...] = ()
    transcripts: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        extra = (self.transcripts / TRANSCRIPTS,) if self.transcripts else ()
        return (*self.rollouts, *self.problems, *self.places, *self.neighbours, *extra)


@dataclass(frozen=True)
class Staged:
    """An explorer for a book.

    Parameters
    ----------
    folder
        The explorer; None where there is no draw to show.
    page
        Markdown of the page that shows it.
    """

    folder: Path | None
    page: str


def find_tables(project: Project, runs: Sequence[StageRun], *, transcripts: bool = True) -> Tables:
    """Find what the runs have left of draws, problems and maps.

    Parameters
    ----------
    transcripts
        Whether the published transcripts are wanted, if a run reads published files and they are here.
    """

    def written(*names: str, variants: bool = False) -> tuple[Path, ...]:
        paths = (
            project.root / run.folder / name
            for run in runs
            for name in names
            if name in run.stage.writes and (variants or not run.variant)
        )
        return tuple(path for path in paths if path.is_file())

    imports = (project.runs / profile / IMPORTED for profile in sorted({run.profile for run in runs}))
    folder = None
    if transcripts and any(run.params.needs_published for run in runs):
        try:
            folder = published.locate()
        except published.PublishedDataError:
            folder = None
    return Tables(
        rollouts=(*written(*ROLLOUTS, variants=True), *(path for path in imports if path.is_file())),
        problems=written("problems.parquet"),
        places=written("map.parquet"),
        neighbours=written("neighbours.parquet"),
        transcripts=folder,
    )


def write_tables(tables: Tables, folder: Path, *, title: str, back: str | None = None) -> pd.DataFrame | None:
    """Write an explorer of what was found and return its draws; None, and nothing written, if there is none."""
    rollouts = [read_rollouts(path) for path in tables.rollouts]
    problems = [pd.read_parquet(path) for path in tables.problems]
    if tables.transcripts:
        draws, asked = read_published_draws(tables.transcripts)
        rollouts.append(draws)
        problems.append(asked)
    rollouts = [table[table["completion"].str.len() > 0] for table in rollouts]  # an import may have no texts
    if not any(map(len, rollouts)):
        return None
    draws = pd.concat([table.astype(object) for table in rollouts if len(table)], ignore_index=True)
    draws = draws.drop_duplicates(
        ROLLOUTS_KEY, ignore_index=True
    )  # a variant may have the draws of its baseline
    explorer.write_explorer(
        folder,
        draws,
        _join(problems),
        _join([pd.read_parquet(path) for path in tables.places]),
        _join([pd.read_parquet(path) for path in tables.neighbours]),
        title=title,
        back=back,
        note=ATTRIBUTION if tables.transcripts else "",
    )
    return draws


def write_files(paths: Sequence[Path], problems: Path | None, folder: Path) -> None:
    """Write an explorer of files of draws.

    Parameters
    ----------
    paths
        Tables of this book, or anything that `panelbook.rollouts.imports.read_draws` takes.
    problems
        File with problem_id and, if known, question, gold and benchmark; None for none.

    Raises
    ------
    BookError
        If a file cannot be read, or what is in it not shown.
    """
    rollouts = pd.concat([_read_table(path).astype(object) for path in paths], ignore_index=True)
    names = ", ".join(path.name for path in paths[:3]) + (" and more" if len(paths) > 3 else "")
    asked = None if problems is None else _read_problems(problems)
    explorer.write_explorer(folder, rollouts, asked, title=f"Rollouts: {names}")


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet" and path.is_file():
        columns = set(read_schema(path).names)
        if set(ROLLOUTS_COLUMNS) <= columns:
            return read_rollouts(path)
    draws = read_draws(path, path.name.split(".")[0])
    if "completion" not in draws:
        raise explorer.ExplorerError(
            f"{path} has no text to read: no column 'completion', nor one under a usual other name. Rename the column "
            "that holds it."
        )
    return draws if "run_id" in draws else draws.assign(run_id=path.name)  # equal draws of two files are two


def _read_problems(path: Path) -> pd.DataFrame:
    try:
        match path.suffix:
            case ".parquet":
                return pd.read_parquet(path)
            case ".csv":
                return pd.read_csv(path, dtype=str)
            case ".jsonl":
                return pd.read_json(path, lines=True, dtype=False)
    except (OSError, ValueError) as error:
        raise explorer.ExplorerError(f"--problems {path} cannot be read: {error}") from None
    raise explorer.ExplorerError(f"--problems {path}: give a .parquet, .jsonl or .csv file.")


def read_published_draws(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the published transcripts as rollouts that nobody graded, and their problems."""
    study = read_case_study(folder)
    draws = study.rename(columns={"raw": "completion", "category": "source", "answer": "predicted"})
    draws = draws[["problem_id", "source", "arm", "completion", "predicted", "max_tokens"]]
    # No length is recorded, so what ended a draw is not known; the published file says none was cut off.
    draws = draws.assign(**PUBLISHED_ARMS, sample_id=0, status=None, temperature=1.0, stop_reason="stop")
    problems = study.drop_duplicates("problem_id").rename(columns={"expected": "gold"})
    return draws, problems[["problem_id", "question", "gold"]].assign(benchmark=PUBLISHED_ARMS["benchmark"])


def stage_explorer(project: Project, runs: Sequence[StageRun], *, transcripts: bool = True) -> Staged:
    """Make a book's explorer, or take the last one if it is of the same draws, and the page that shows it.

    It is kept below `_build/.explorer`, a folder for each profile.
    """
    cache = project.build / ".explorer" / (runs[0].profile if runs else "none")
    tables = find_tables(project, runs, transcripts=transcripts)
    key = _key(tables)
    if not (cache / KEY).is_file() or (cache / KEY).read_text(encoding="utf-8") != key:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        draws = write_tables(tables, cache / FOLDER, title="Rollout explorer", back="../explore.html")
        (cache / PAGE).write_text(write_page(draws), encoding="utf-8")
        (cache / KEY).write_text(key, encoding="utf-8")
    folder = cache / FOLDER
    return Staged(folder if folder.is_dir() else None, (cache / PAGE).read_text(encoding="utf-8"))


def write_page(draws: pd.DataFrame | None) -> str:
    """Return what the hand-written page includes: the explorer in a frame, and ready-made views as links."""
    if draws is None:
        return (
            ":::{warning}\nThere is no draw to explore in this book: its profile samples none, and none was imported "
            "with its text. `panelbook build` with the profile `miniature` draws some.\n:::\n"
        )
    n, problems, arms = (
        len(draws),
        draws[["benchmark", "problem_id"]].drop_duplicates(),
        draws["arm"].nunique(),
    )
    views = "\n".join(
        f'<li><a href="{FOLDER}/index.html{html.escape(address)}">{html.escape(label)}</a></li>'
        for label, address in list_views(draws)
    )
    return (
        f"It holds {n:,} draws of {len(problems):,} problems by {arms} arms.\n\n"
        "```{raw} html\n"
        f'<p><a class="explorer-open" href="{FOLDER}/index.html">Open the explorer full size</a></p>\n'
        f'<iframe class="explorer" src="{FOLDER}/index.html" title="Rollout explorer: search, filter and read every '
        'draw" loading="lazy" style="width: 100%; height: 46rem; border: 1px solid #8c8c8c"></iframe>\n'
        "<noscript><p>The explorer needs scripts. Without them, the chapter “What the arms say” shows some draws as "
        "plain text.</p></noscript>\n"
        "```\n\n"
        "## Views to begin with\n\n"
        f'```{{raw}} html\n<ul class="explorer-views">\n{views}\n</ul>\n```\n'
    )


def list_views(draws: pd.DataFrame) -> list[tuple[str, str]]:
    """Return views worth opening, each with a draw opened in it: label, and address within the explorer.

    Those that would show nothing are left out. Who solves what is asked of the first checkpoint of the first study.
    """
    table = draws.assign(step=draws["step"].fillna(0) if "step" in draws else 0)
    graded = table[table["status"].notna()]
    views: list[tuple[str, dict[str, Any], pd.DataFrame]] = []
    if len(graded):
        first = graded[graded["study"] == graded["study"].iloc[0]].sort_values("step", kind="stable").iloc[0]
        base = {"study": first["study"], "checkpoint": first["checkpoint"]}
        mine = graded[(graded["study"] == base["study"]) & (graded["checkpoint"] == base["checkpoint"])]
        problem = mine["benchmark"] + "\0" + mine["problem_id"]
        solved = (mine["status"] == "correct").groupby([problem, mine["arm"]]).any().unstack(fill_value=False)
        for arm in solved if solved.shape[1] > 1 else ():
            alone = solved.index[solved[arm] & ~solved.drop(columns=arm).any(axis=1)]
            right = mine[problem.isin(alone) & (mine["status"] == "correct")]
            views.append((f"problems that only {arm} ever solves", base | {"outcome": f"only:{arm}"}, right))
        hard = mine[problem.isin(solved.index[~solved.any(axis=1)])]
        views.append(("problems that no arm solves", base | {"outcome": "none"}, hard))
        last = graded.sort_values("step", kind="stable").tail(1)
        later = {"study": last["study"].item(), "checkpoint": last["checkpoint"].item()}
        if last["step"].item() > first["step"]:
            views.append((f"draws of the last checkpoint, {later['checkpoint']}", later, last))
    for label, column, value, view in (
        ("draws cut off at the limit", "stop_reason", "length", {"stop": "length"}),
        ("draws whose tags are not as asked for", "tag_valid", False, {"valid": "not valid"}),
        ("draws without an answer", "status", "no_answer", {"status": "no_answer"}),
        ("the published transcripts", "study", "published", {"study": "published"}),
    ):
        if column in table:
            views.append((label, view, table[table[column] == value]))
    return [
        (label, _address({"r": rollout_id(rows.iloc[0])} | view)) for label, view, rows in views if len(rows)
    ]


def _address(view: dict[str, Any]) -> str:
    """Return the address of a view as the explorer writes it; names, not positions."""
    return "#" + "&".join(
        f"{key}={quote(str(value), safe='').replace('%20', '+')}" for key, value in view.items()
    )


def _join(tables: Sequence[pd.DataFrame]) -> pd.DataFrame | None:
    return pd.concat(tables, ignore_index=True) if tables else None


def _key(tables: Tables) -> str:
    """Return a hash of all that an explorer is made of: the files, the code, and the page's script and style."""
    from panelbook.pipeline.run import (
        hash_file,
        hash_library,
        imported_modules,
    )  # deferred: it loads papermill

    code = hash_library(imported_modules("import panelbook.pipeline.explore"))
    assets = [hash_file(path) for path in sorted(explorer.WEB.glob("explorer.*"))]
    parts = [code, assets, [(path.name, hash_file(path)) for path in tables.files]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
