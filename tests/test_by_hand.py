"""A notebook opened by hand gives what the command line gives, from wherever it is opened.

A real chapter, on invented counts: what the reader of the book does with JupyterLab is done here with nbclient.
"""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from panelbook.pipeline.run import run_stage
from panelbook.pipeline.stages import STAGES, StageRun, vary
from panelbook.project import Project

ROOT = Path(__file__).resolve().parents[1]
STAGE = STAGES["pass_at_k"]
COUNTS = "runs/miniature/published_data/all/counts.parquet"
CHANGES = {"k_max": 4, "n_resamples": 200}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a checkout with one chapter and the counts that its default parameters name."""
    root = tmp_path_factory.mktemp("by-hand") / "checkout"
    (root / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / STAGE.notebook, root / "notebooks")
    shutil.copytree(ROOT / "params", root / "params")
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    rows = [
        {
            **{"study": "published", "benchmark": "aime", "arm": arm, "checkpoint": "base", "source": "aime"},
            **{"problem_id": f"p{i:02d}", "n": 8, "c": (i * step) % 9, "mean_tokens": 100.0 + i},
            **{"mean_distance": None, "max_tokens": None, "temperature": None},
        }
        for arm, step in (("panel", 5), ("thinking", 7))
        for i in range(12)
    ]
    (root / COUNTS).parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(root / COUNTS)
    return Project(root.resolve())


@pytest.fixture(scope="module")
def ran(project):
    """Return the variant as the command line makes it."""
    run = vary(StageRun(STAGE, "miniature", "aime", STAGE.params(label="AIME"), (COUNTS,)), CHANGES)
    run_stage(project, run)
    return run


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def execute(project, notebook, folder):
    """Execute a notebook as JupyterLab does and return the results that it leaves where its default says."""
    shutil.rmtree(project.runs / "by-hand", ignore_errors=True)
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    return read(project.runs / "by-hand" / "results.json")


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_the_tracked_notebook_with_its_parameters_edited(project, ran, folder):
    notebook = nbformat.read(project.notebooks / STAGE.notebook, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    for name, value in CHANGES.items():
        cell.source, edits = re.subn(rf"(?m)^({name}: int =) \d+", rf"\1 {value}", cell.source)
        assert edits == 1
    assert execute(project, notebook, project.root / folder) == read(
        project.root / ran.folder / "results.json"
    )


def test_the_notebook_that_a_page_offers_to_download(project, ran):
    notebook = nbformat.read(project.root / ran.folder / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    results = execute(project, notebook, project.notebooks)
    assert results == read(project.root / ran.folder / "results.json")
    assert results["k_max"]["value"] == CHANGES["k_max"]
