"""Which runs of a profile go into a record, and what is said of them."""

import json
import shutil

import pandas as pd
import pytest

from panelbook.pipeline import record
from panelbook.pipeline.record import record_profile
from panelbook.pipeline.stages import plan
from panelbook.project import Project
from panelbook.rollouts.recorded import RecordError, read_record

PROJECT = Project.find()
KEPT = {"problems", "warmup", "rollouts", "train"}


@pytest.fixture
def project(tmp_path):
    shutil.copytree(PROJECT.params, tmp_path / "params")
    return Project(tmp_path.resolve())


@pytest.fixture
def made(project, monkeypatch):
    """Every run of the profile hf that is kept has been made: one row of whatever tables it writes."""
    monkeypatch.setattr(record, "_describe_model", lambda asking: {"name": asking[0].params.model})
    for run in plan(project, "hf"):
        if run.stage.name not in KEPT or run.params.study != "hf":
            continue
        folder = project.root / run.folder
        folder.mkdir(parents=True)
        for name in run.stage.writes:
            if name.endswith(".parquet"):
                pd.DataFrame({"study": ["hf"], "run": [run.id]}).to_parquet(folder / name)
        manifest = {
            **{"key": "k", "outputs": {}, "stage": run.stage.name, "group": run.group, "params": {}},
            **{"commit": "c", "dirty": False, "wall_s": 1.0, "inputs": {"/somewhere/else": "h"}},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return project


def test_runs_that_ask_a_model_and_their_problems_are_kept(made, tmp_path):
    recorded = record_profile(made, "hf", "mine", tmp_path / "record")
    assert {stage["stage"] for stage in recorded.manifest["stages"]} == KEPT
    assert list(recorded.read("rollouts.parquet")["run"]) == ["rollouts.panel", "rollouts.think"]
    trained = [run.id for run in plan(made, "hf") if run.stage.name == "train"]
    assert list(recorded.read("heldout.parquet")["run"]) == trained
    assert set(recorded.read("problems.parquet")["study"]) == {"mine"}
    assert recorded.manifest["model"] == {"name": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    assert read_record(tmp_path / "record").manifest == recorded.manifest


def test_what_names_a_place_on_this_machine_is_left_out(made, tmp_path):
    record_profile(made, "hf", "mine", tmp_path / "record")
    assert "/somewhere/else" not in (tmp_path / "record" / "manifest.json").read_text()


def test_a_run_that_was_not_made_is_named_with_its_command(project, tmp_path):
    with pytest.raises(
        RecordError, match=r"problems\.svamp has not been run.*panelbook run problems\.svamp --profile hf"
    ):
        record_profile(project, "hf", "mine", tmp_path / "record")


def test_a_profile_that_asks_no_model_has_nothing_to_record(project, tmp_path):
    with pytest.raises(RecordError, match="'published' asks no model"):
        record_profile(project, "published", "mine", tmp_path / "record")


def test_the_command_says_what_it_wrote(made, tmp_path, panelbook, monkeypatch):
    monkeypatch.chdir(made.root)
    shutil.copytree(PROJECT.notebooks, made.root / "notebooks")
    shutil.copy(PROJECT.root / "_config.yml", made.root)
    status, said, _ = panelbook("export", "record", "--study", "mine", "--out", tmp_path / "record")
    assert status == 0
    assert "rollouts.parquet" in said
    assert "2 rows" in said
