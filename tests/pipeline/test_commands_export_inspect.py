"""`panelbook export inspect`: which draws it takes and where it puts them; the writing itself is tested elsewhere."""

import json

import pandas as pd
import pytest

from panelbook.rollouts import inspect_logs
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS

ROW = {
    "study": "s", "profile": "p", "run_id": "r", "benchmark": "b", "problem_id": "q", "source": "b", "arm": "panel",
    "checkpoint": "base", "step": 0, "sample_id": 0, "prompt_tokens": 3, "completion": "x", "completion_tokens": 1,
    "stop_reason": "stop", "predicted": None, "status": "wrong", "tag_valid": False, "reward": -0.2, "seed": 1,
    "temperature": 1.0, "max_tokens": 9,
}  # fmt: skip


@pytest.fixture
def written(monkeypatch):
    """Take the place of Inspect's package: what would be written, by name."""
    logs = {}

    def write_log(log, path, *, force=False):
        new = force or path.name not in logs
        logs[path.name] = log
        return new

    monkeypatch.setattr(inspect_logs, "check_installed", lambda: None)
    monkeypatch.setattr(inspect_logs, "write_log", write_log)
    return logs


def test_tables_and_transcripts_become_logs_with_their_questions(panelbook, written, tmp_path):
    assert ROW.keys() == ROLLOUTS_COLUMNS.keys()
    pd.DataFrame([ROW, ROW | {"arm": "think"}]).to_parquet(tmp_path / "r.parquet")
    asked = ROW | {
        "benchmark": "chat",
        "run_id": "c",
        "status": None,
        "reward": None,
        "question": "4?",
        "gold": None,
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(asked) + "\n")
    questions = pd.DataFrame([{"benchmark": "b", "problem_id": "q", "question": "3?", "gold": "3"}])
    questions.to_parquet(tmp_path / "problems.parquet")
    arguments = ["export", "inspect", tmp_path / "r.parquet", tmp_path / "t.jsonl", "--out", tmp_path / "logs",
                 "--problems", tmp_path / "problems.parquet"]  # fmt: skip
    status, out, _ = panelbook(*arguments)
    assert status == 0
    assert "logs written: 3, there already: 0, draws: 3" in out
    inputs = {log["eval"]["task"]: log["samples"][0]["input"] for log in written.values()}
    assert inputs == {"b_panel": "3?", "b_think": "3?", "chat_panel": "4?"}
    assert "logs written: 0, there already: 3" in panelbook(*arguments)[1]
    assert "logs written: 3" in panelbook(*arguments, "--force")[1]


def test_the_same_draws_of_two_files_are_written_once(panelbook, written, tmp_path):
    for name in ("a", "b"):
        pd.DataFrame([ROW]).to_parquet(tmp_path / f"{name}.parquet")
    status, out, _ = panelbook("export", "inspect", tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert status == 0
    assert "draws: 1" in out
    (log,) = written.values()
    assert len(log["samples"]) == 1


def test_a_profile_without_draws_and_a_missing_package_are_said(
    panelbook, written, toy, toy_stages, monkeypatch
):
    monkeypatch.chdir(toy.root)
    status, _, err = panelbook("export", "inspect", "--profile", "toy")
    assert status == 1
    assert "has no draws yet" in err
    monkeypatch.undo()
    monkeypatch.setattr(inspect_logs.importlib.util, "find_spec", lambda name: None)
    status, _, err = panelbook("export", "inspect", "nothing.parquet")
    assert status == 1
    assert "pip install" in err
