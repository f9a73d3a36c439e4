"""Records: what is written can be read, and nothing else is."""

import json

import pandas as pd
import pytest

from panelbook.rollouts.recorded import RECORDS, TABLES, RecordError, read_record, write_record

STAGES = [{"stage": "rollouts", "group": "panel", "wall_s": 3.0}]
MODEL = {"engine": "local", "name": "tiny", "weights": "abc"}


@pytest.fixture
def runs(tmp_path):
    """Two runs; the first wrote every table, the second draws only."""
    table = pd.DataFrame(
        {"study": ["hf", "hf"], "profile": ["hf", "hf"], "problem_id": ["a", "b"], "n": [1, 2]}
    )
    for name in TABLES:
        (tmp_path / "one").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "one" / name)
    (tmp_path / "two").mkdir()
    table.assign(problem_id=["c", "d"]).to_parquet(tmp_path / "two" / "rollouts.parquet")
    return [tmp_path / "one", tmp_path / "two"]


def test_tables_of_all_runs_are_joined_under_one_study(runs, tmp_path):
    recorded = write_record(tmp_path / "record", "mine", runs, STAGES, MODEL)
    draws = recorded.read("rollouts.parquet")
    assert list(draws["problem_id"]) == ["a", "b", "c", "d"]
    assert set(draws["study"]) == set(draws["profile"]) == {"mine"}
    again = read_record(tmp_path / "record")
    assert again.manifest == recorded.manifest
    assert again.manifest["model"] == MODEL
    assert [stage["group"] for stage in again.stages("rollouts")] == ["panel"]
    assert again.manifest["files"]["rollouts.parquet"]["rows"] == 4


def test_a_run_without_a_table_cannot_be_recorded(runs, tmp_path):
    (runs[0] / "heldout.parquet").unlink()
    with pytest.raises(RecordError, match=r"a record needs heldout\.parquet"):
        write_record(tmp_path / "record", "mine", runs, STAGES, MODEL)
    assert not (tmp_path / "record").exists()


def test_an_altered_file_is_refused_by_name(runs, tmp_path):
    write_record(tmp_path / "record", "mine", runs, STAGES, MODEL)
    path = tmp_path / "record" / "metrics.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RecordError, match=r"metrics\.parquet has the SHA-256"):
        read_record(tmp_path / "record")


def test_a_missing_file_is_refused_by_name(runs, tmp_path):
    write_record(tmp_path / "record", "mine", runs, STAGES, MODEL)
    (tmp_path / "record" / "metrics.parquet").unlink()
    with pytest.raises(RecordError, match=r"metrics\.parquet is missing"):
        read_record(tmp_path / "record")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"a": 1}}'])
def test_a_broken_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RecordError, match="is no record"):
        read_record(tmp_path)


def test_a_manifest_cannot_name_a_file_elsewhere(runs, tmp_path):
    write_record(tmp_path / "record", "mine", runs, STAGES, MODEL)
    path = tmp_path / "record" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../one/metrics.parquet"] = manifest["files"]["metrics.parquet"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match=r"\.\./one/metrics\.parquet is missing"):
        read_record(tmp_path / "record")


def test_a_table_that_is_not_there_is_named(runs, tmp_path):
    with pytest.raises(RecordError, match=r"holds no loss\.csv"):
        write_record(tmp_path / "record", "mine", runs, STAGES, MODEL).read("loss.csv")


def test_the_records_of_the_book_are_whole_and_name_no_place_of_a_machine():
    folders = [path.parent for path in RECORDS.glob("*/manifest.json")]
    assert folders
    for folder in folders:
        recorded = read_record(folder)
        assert set(TABLES) <= recorded.manifest["files"].keys()
        text = (folder / "manifest.json").read_text()
        assert "/work" not in text
        assert "/tmp" not in text
        assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
