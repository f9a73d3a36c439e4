"""What GitHub and Binder are told to do exists in this checkout: make targets, commands, files."""

import os
import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from panelbook.pipeline.cli import app
from panelbook.pipeline.stages import plan
from panelbook.project import Project

ROOT = Project.find().root
WORKFLOW = ROOT / ".github" / "workflows" / "book.yml"
POST_BUILD = ROOT / "binder" / "postBuild"


@pytest.fixture(scope="module")
def workflow() -> dict:
    return yaml.load(WORKFLOW.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # `on` is no truth value


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_every_action_is_pinned_to_a_major_version_and_is_githubs_own(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert len(used) >= 8
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", action), action


def test_only_the_deployment_may_write_and_only_main_is_deployed(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == (
            {"pages": "write", "id-token": "write"} if name == "deploy" else {}
        )
        assert int(job["timeout-minutes"]) <= 90
    deploy = workflow["jobs"]["deploy"]
    assert deploy["if"] == "github.ref == 'refs/heads/main'"
    assert set(deploy["needs"]) == workflow["jobs"].keys() - {"deploy"}


def test_a_pull_request_is_cancelled_by_its_next_push_and_a_deployment_is_not(workflow):
    assert workflow["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert workflow["jobs"]["deploy"]["concurrency"]["cancel-in-progress"] == "false"


def test_targets_profiles_and_paths_exist(workflow):
    text = "\n".join(step.get("run", "") for step in steps(workflow))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"\bmake ([\w./-]+)", text)
    assert {"lint", "test"} <= set(targets)
    for target in targets:
        assert re.search(
            rf"^{re.escape(target)}:|^READY\s*:= \$\(VENV\)/{Path(target).name}$", makefile, re.M
        ), target
    profiles = re.findall(r"'(\w+)'", workflow["jobs"]["build"]["env"]["PROFILE"].partition("==")[2])
    for profile in set(profiles) - {"pull_request"}:
        assert (ROOT / "params" / f"{profile}.yml").is_file(), profile
    for step in steps(workflow):
        for path in re.findall(r"hashFiles\('([^']+)'\)", step.get("with", {}).get("key", "")):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("path", [WORKFLOW, POST_BUILD], ids=lambda path: path.name)
def test_every_panelbook_command_exists(path):
    commands = get_command(app).commands  # type: ignore[attr-defined]
    used = re.findall(r"panelbook (\w+) ", path.read_text(encoding="utf-8").replace("\n", " \n"))
    assert used
    assert set(used) <= set(commands)


def test_binder_makes_what_a_notebook_opened_by_hand_reads():
    assert os.access(POST_BUILD, os.X_OK)
    text = POST_BUILD.read_text(encoding="utf-8")
    runs = {run.id for run in plan(Project(ROOT), "miniature")}
    made = re.findall(r"panelbook run ([\w.]+)", text)
    assert {"published_data.all", "counts.arithmetic"} <= set(made) <= runs
    environment = yaml.safe_load((POST_BUILD.parent / "environment.yml").read_text(encoding="utf-8"))
    required = re.search(
        r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert required
    assert f"python={required[1]}" in environment["dependencies"]
