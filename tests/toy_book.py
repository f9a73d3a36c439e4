"""A book small enough to run in seconds: two stages, one short notebook each, no heavy import in the kernel.

`draw` writes `draws.csv`; `curve` reads it and writes `curve.csv`. Both know one trick each that a test of a
failure needs: any line can be put into their last cell.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import yaml

from panelbook.pipeline.notebook import clean_source, write_notebook
from panelbook.pipeline.params import StageParams, artefact, param
from panelbook.pipeline.stages import Stage, StageRun
from panelbook.project import Project


@dataclass(frozen=True, kw_only=True)
class DrawParams(StageParams):
    n: int = param(4, "draws")
    rate: float = param(0.5, "share of draws that are right")

    def check(self):
        super().check()
        if self.n < 1:
            raise ValueError(f"n must be at least 1; got {self.n}.")


@dataclass(frozen=True, kw_only=True)
class NeedyDrawParams(DrawParams):
    """The same, but it reads the published files."""

    @property
    def needs_published(self):
        return True


@dataclass(frozen=True, kw_only=True)
class CurveParams(StageParams):
    draws: str = artefact("draws.csv")
    k_max: int = param(2, "largest k")


DRAW = Stage("draw", "10_draw.ipynb", DrawParams, writes=("draws.csv",))
CURVE = Stage("curve", "20_curve.ipynb", CurveParams, writes=("curve.csv",))
STAGES = {stage.name: stage for stage in (DRAW, CURVE)}

SCREEN = 24
"""Lines that a refusal may take."""

RECORD = {
    "low": None,
    "high": None,
    "n_problems": 1,
    "n_draws": 4,
    "method": "count",
    "reason": "a toy",
    "style": "count",
    "title": "a number",
}

IMPORTS = "import json\nfrom pathlib import Path"
SAVE = f"""
record = {RECORD!r}
(output / "results.json").write_text(json.dumps({{name: record | {{"value": value}}}}))
print(output.resolve().name != "", value)
""".strip()

DRAW_CELLS = {
    "imports": IMPORTS,
    "parameters": "",
    "work": "output = Path(output_dir)\noutput.mkdir(parents=True, exist_ok=True)\n"
    '(output / "draws.csv").write_text("".join(f"{i},{int(i < n * rate)}\\n" for i in range(n)))',
    "save": 'name, value = "n_draws", n\n' + SAVE,
}
CURVE_CELLS = {
    "imports": IMPORTS,
    "parameters": "",
    "work": "output = Path(output_dir)\noutput.mkdir(parents=True, exist_ok=True)\n"
    "right = [int(line.split(',')[1]) for line in Path(draws).read_text().splitlines()]\n"
    '(output / "curve.csv").write_text("".join(f"{k},{max(right[:k])}\\n" for k in range(1, k_max + 1)))',
    "save": 'name, value = "k_max", k_max\n' + SAVE,
}
CELLS = {"draw": DRAW_CELLS, "curve": CURVE_CELLS}
PROSE = "(ch-{name})=\n# Does the {name} work?\n\nA sentence."


def make_notebook(stage: Stage, **changes: str) -> nbformat.NotebookNode:
    """Return the stage's notebook in its tracked form; `changes` replace cells by name, `prose` the text."""
    cells = [nbformat.v4.new_markdown_cell(changes.get("prose", PROSE.format(name=stage.name)), id="prose")]
    for name, source in (CELLS[stage.name] | {k: v for k, v in changes.items() if k != "prose"}).items():
        metadata = {"tags": ["parameters"]} if name == "parameters" else {}
        cells.append(nbformat.v4.new_code_cell(source, id=name, metadata=metadata))
    return clean_source(nbformat.v4.new_notebook(cells=cells), stage.params)


def change_notebook(project: Project, stage: Stage, **changes: str) -> None:
    """Write the stage's notebook with some cells changed."""
    write_notebook(make_notebook(stage, **changes), project.notebooks / stage.notebook)


def make_checkout(root: Path) -> Project:
    """Write a checkout with both notebooks and a profile `toy`, and return it."""
    for folder in ("notebooks", "params"):
        (root / folder).mkdir(parents=True)
    (root / "_config.yml").write_text("title: a toy\n", encoding="utf-8")
    (root / "requirements.lock").write_text("toy==1.0\n", encoding="utf-8")
    project = Project(root.resolve())
    for stage in STAGES.values():
        change_notebook(project, stage)
    write_profile(project, "base", {"defaults": {"n_resamples": 100}})
    write_profile(project, "toy", {"stages": {"draw": {"all": {"n": 4}}, "curve": {"small": {"k_max": 2}}}})
    return project


def write_profile(project: Project, name: str, data: object) -> None:
    """Write `params/<name>.yml`; a string is written as it is."""
    text = data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False)
    (project.params / f"{name}.yml").write_text(text, encoding="utf-8")


def draw_run(group: str = "all", **values: object) -> StageRun:
    """Return a run of `draw`."""
    return StageRun(DRAW, "toy", group, DrawParams(**values))


def curve_run(source: StageRun | None = None, group: str = "small", **values: object) -> StageRun:
    """Return a run of `curve` that reads what `source` (default: the one `draw`) writes."""
    path = ((source or draw_run()).folder / "draws.csv").as_posix()
    return StageRun(CURVE, "toy", group, CurveParams(draws=path, **values), (path,))


def with_variant(run: StageRun, name: str) -> StageRun:
    """Return the run with a variant's folder."""
    return replace(run, variant=name)


def read_all(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


def read_results(project: Project, run: StageRun) -> dict:
    """Return the results of a finished run, read without the package's own reader."""
    return json.loads((project.root / run.folder / "results.json").read_text(encoding="utf-8"))


def assert_refused(result, *expected):
    """Check that a command failed with one screen of text that says so, and no traceback."""
    status, out, err = result
    assert status == 1
    for text in expected:
        assert text in err
    assert "Traceback" not in out + err
    assert len(err.splitlines()) <= SCREEN
