"""The profile `skyrl` through a live server: the same tables as the local engine's, once, and no key in any file."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from panelbook.pipeline.stages import plan
from panelbook.project import Project

pytestmark = pytest.mark.service

ROOT = Path(__file__).resolve().parents[2]
LAST = (
    "matched_climb.arithmetic",
    "diversity.arithmetic",
    "pass_at_k.arithmetic",
    "token_efficiency.arithmetic",
)
"""Chapters that between them need every stage that asks a model, and what counts, embeds and measures its draws."""
TABLES = ("problems", "rollouts", "counts", "spread", "heldout", "metrics", "training_rollouts")
KEYS = ["arm", "checkpoint", "problem_id", "sample_id", "step"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a checkout of its own: runs are kept apart from those of the reader."""
    root = tmp_path_factory.mktemp("profile") / "checkout"
    ignored = shutil.ignore_patterns("_build", "runs", ".git", ".venv", "node_modules", "__pycache__")
    shutil.copytree(ROOT, root, ignore=ignored)
    return Project(root.resolve())


def run_profile(project, environment, profile):
    """Run the chapters with the command line; returns what it printed, and the seconds it took."""
    code = "import sys; from panelbook.pipeline.cli import main; main(sys.argv[1:])"
    paths = os.pathsep.join(filter(None, (str(project.root / "lib"), environment.get("PYTHONPATH"))))
    started, said = time.monotonic(), ""
    for chapter in LAST:
        command = [
            sys.executable,
            "-c",
            code,
            "run",
            chapter,
            "--profile",
            profile,
            "--no-html",
            "--jobs",
            "1",
            "--yes",
        ]
        done = subprocess.run(
            command,
            cwd=project.root,
            env={**environment, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        said += done.stdout
    return said, time.monotonic() - started


@pytest.fixture(scope="module")
def ran(project, environment):
    said, wall_s = run_profile(project, environment, "skyrl")
    print(f"profile skyrl: {wall_s:.0f} s")
    return said


@pytest.fixture(scope="module")
def local(project, environment, ran):
    run_profile(project, environment, "smoke")


def live_runs(project, profile):
    return [run for run in plan(project, profile) if (project.root / run.folder / "manifest.json").is_file()]


def test_it_is_the_server_that_was_asked(project, ran):
    asked = [run for run in live_runs(project, "skyrl") if getattr(run.params, "engine", "") == "tinker"]
    assert {run.stage.name for run in asked} == {"rollouts", "train"}
    for run in asked:
        if run.stage.name == "train":
            saved = json.loads((project.root / run.folder / "checkpoints.json").read_text())
            assert all(one["sampler_path"].startswith("tinker://") for one in saved)


def test_its_tables_have_the_columns_keys_and_rows_of_the_local_engine(project, local):
    ours, theirs = ({run.id: run for run in live_runs(project, profile)} for profile in ("smoke", "skyrl"))
    assert ours.keys() == theirs.keys()
    n_compared = 0
    for name, run in theirs.items():
        results = [
            json.loads((project.root / one.folder / "results.json").read_text()) for one in (run, ours[name])
        ]
        assert results[0].keys() == results[1].keys() or run.stage.name in ("pass_at_k", "diversity")
        for table in TABLES:
            path, reference = (project.root / one.folder / f"{table}.parquet" for one in (run, ours[name]))
            if not path.is_file():
                continue
            found, expected = pd.read_parquet(path), pd.read_parquet(reference)
            assert found.dtypes.to_dict() == expected.dtypes.to_dict(), (name, table)
            keys = [key for key in KEYS if key in found]
            if (
                table == "training_rollouts"
            ):  # which problems are visited depends on the band, and so on the draws
                assert len(found) == len(expected)
            else:
                pd.testing.assert_frame_equal(
                    *(one[keys].sort_values(keys, ignore_index=True) for one in (found, expected))
                )
            n_compared += 1
    assert n_compared >= 10


def test_draws_are_right_as_often_as_with_the_local_engine(project, local):
    """The same weights: over all draws of both arms the shares differ by chance alone (five standard errors)."""
    right = []
    for profile in ("smoke", "skyrl"):
        paths = [
            run.folder / "rollouts.parquet"
            for run in live_runs(project, profile)
            if run.stage.name == "rollouts"
        ]
        draws = pd.concat([pd.read_parquet(project.root / path) for path in paths])
        right.append((draws["status"] == "correct").to_numpy())
    n = len(right[0])
    assert abs(right[0].mean() - right[1].mean()) < 5 * (0.5 / n) ** 0.5


def test_a_second_time_asks_for_nothing(project, environment, ran):
    before = {path: path.read_bytes() for path in (project.root / "runs/skyrl/work").rglob("*.jsonl")}
    said, _ = run_profile(project, environment, "skyrl")
    assert {path: path.read_bytes() for path in before} == before
    assert "rollouts.panel: executed" not in said
    assert "train.panel_1: executed" not in said


def test_the_key_is_in_no_file(project, environment, ran):
    key = environment["TINKER_API_KEY"].encode()
    left = [path for path in (project.root / "runs").rglob("*") if path.is_file()]
    assert left
    assert [path for path in left if key in path.read_bytes()] == []
