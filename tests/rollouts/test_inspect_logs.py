"""Rollouts as logs of Inspect AI: what goes where, and that reading them back gives the same draws.

The mapping is plain JSON, tested here as such and by reading it back from an archive made by hand. What Inspect's own
package makes of it is tested where that is installed (`make inspect`).
"""

import doctest
import json
import zipfile

import pandas as pd
import pytest

from panelbook.rollouts import inspect_logs as module
from panelbook.rollouts.imports import Options, read_imports
from panelbook.rollouts.inspect_logs import (
    NOT_RECORDED,
    ExportFailed,
    check_installed,
    describe_log,
    read_questions,
    read_table,
    split_logs,
    write_log,
)
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, check_rollouts, count_draws

DEBATE = "<mutipersonaDebate> Ada : 3 + 4 = 7 . Ben : right . </mutipersonaDebate> <answer> 7 </answer>"
STATUSES = ["correct", "wrong", "no_answer", "unparsable", "timeout"]
LETTERS = ["C", "I", "N", "I", "I"]


def make_row(sample_id: int = 0, **changes: object) -> dict:
    return {
        "study": "live", "profile": "p", "run_id": "r1", "benchmark": "sums", "problem_id": "q1", "source": "easy",
        "arm": "panel", "checkpoint": "base", "step": 0, "sample_id": sample_id, "prompt_tokens": 11,
        "completion": DEBATE, "completion_tokens": 29, "stop_reason": "stop", "predicted": "7", "status": "correct",
        "tag_valid": True, "reward": 1.0, "seed": 12, "temperature": 1.0, "max_tokens": 112,
    } | changes  # fmt: skip


def make_table(rows: list[dict]) -> pd.DataFrame:
    return check_rollouts(pd.DataFrame(rows), "test")


VARIED = [
    *(
        make_row(i, status=s, reward=0.8, predicted=None if s == "no_answer" else "7")
        for i, s in enumerate(STATUSES)
    ),
    make_row(0, problem_id="q2", completion="", completion_tokens=0, predicted=None, status="no_answer"),
    make_row(
        1, problem_id="q2", completion="<mutipersonaDebate> Ada : 3", stop_reason="length", tag_valid=False
    ),
    make_row(7, problem_id="q/3 é", completion="x</answer>\x00\n" * 50, seed=None, prompt_tokens=None),
]
QUESTIONS = {("sums", "q1"): ("3 + 4 = ?", "7")}


def write_by_hand(path, log):
    """Write a log as its format is documented, without Inspect's package."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({name: log[name] for name in log if name != "samples"}))
        for number, sample in enumerate(log["samples"]):
            archive.writestr(f"samples/{number}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return path


def write_real(path, log):
    pytest.importorskip("inspect_ai", reason="inspect-ai is not installed; `make inspect` tests with it")
    assert write_log(log, path)
    return path


def test_examples_in_docstrings():
    results = doctest.testmod(module)
    assert results.attempted >= 2
    assert results.failed == 0


# --- the mapping --------------------------------------------------------------------------------------


def test_a_draw_becomes_a_sample():
    log = describe_log(make_table([make_row(3)]), QUESTIONS, revision="abc")
    (sample,) = log["samples"]
    assert (sample["id"], sample["epoch"], sample["input"], sample["target"]) == ("q1", 4, "3 + 4 = ?", "7")
    user, assistant = sample["messages"]
    assert user["content"] == "3 + 4 = ?"
    assert [part["type"] for part in assistant["content"]] == ["reasoning", "text"]
    assert assistant["content"][0]["reasoning"].startswith("<mutipersonaDebate> Ada : 3 + 4")
    assert assistant["content"][1]["text"] == "<answer> 7 </answer>"
    usage = {"input_tokens": 11, "output_tokens": 29, "total_tokens": 40}
    assert sample["output"]["usage"] == usage
    assert sample["model_usage"] == {"live/base": usage}
    assert sample["output"]["choices"][0]["stop_reason"] == "stop"
    assert "limit" not in sample
    score = sample["scores"]["correct"]
    assert (score["value"], score["answer"], score["explanation"]) == ("C", "7", "correct")
    assert score["metadata"] == {"status": "correct", "reward": 1.0, "tag_valid": True}
    assert sample["metadata"]["rollout"] == make_row(3)
    assert sample["metadata"]["voices"] == [
        {"speaker": "Ada", "text": "3 + 4 = 7 ."},
        {"speaker": "Ben", "text": "right ."},
    ]
    assert log["eval"]["revision"]["commit"] == "abc"
    assert log["eval"]["model_generate_config"] == {"temperature": 1.0, "max_tokens": 112}


@pytest.mark.parametrize(("status", "letter"), list(zip(STATUSES, LETTERS, strict=True)))
def test_every_status_has_its_letter_and_stays_readable(status, letter):
    (sample,) = describe_log(make_table([make_row(status=status)]), {})["samples"]
    assert sample["scores"]["correct"]["value"] == letter
    assert sample["scores"]["correct"]["explanation"] == status


def test_a_draw_that_was_cut_off_ran_into_its_limit():
    (sample,) = describe_log(make_table([make_row(stop_reason="length")]), {})["samples"]
    assert sample["output"]["choices"][0]["stop_reason"] == "max_tokens"
    assert sample["limit"] == {"type": "token", "limit": 112}
    (sample,) = describe_log(make_table([make_row(stop_reason="length", max_tokens=None)]), {})["samples"]
    assert "limit" not in sample


def test_totals_are_those_of_the_draws():
    log = describe_log(make_table(VARIED), QUESTIONS)
    n = len(VARIED)
    assert log["results"]["total_samples"] == n
    (score,) = log["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == pytest.approx(3 / n)  # q1's first, q2's second, q3
    assert log["eval"]["dataset"]["samples"] == 3
    assert log["eval"]["config"]["epochs"] == 8
    tokens = sum(row["completion_tokens"] for row in VARIED)
    assert log["stats"]["model_usage"]["live/base"]["output_tokens"] == tokens
    assert {sample["input"] for sample in log["samples"]} == {"3 + 4 = ?", "q2", "q/3 é"}
    assert {sample["target"] for sample in log["samples"]} == {"7", NOT_RECORDED}


def test_ungraded_draws_have_no_score():
    rows = pd.DataFrame([make_row(0, status=None, reward=None), make_row(1)]).astype(object)
    log = describe_log(rows, {})
    assert ["scores" in sample for sample in log["samples"]] == [False, True]
    (score,) = log["results"]["scores"]
    assert (score["scored_samples"], score["unscored_samples"]) == (1, 1)
    assert describe_log(rows.head(1), {})["results"]["scores"][0]["metrics"] == {}


def test_the_same_draws_in_any_order_give_the_same_log_and_any_change_another():
    table = make_table(VARIED)
    log = describe_log(table, QUESTIONS)
    assert describe_log(table.sample(frac=1, random_state=1), QUESTIONS) == log
    changed = [
        make_table([*VARIED[1:], make_row(**{name: value})])
        for name, value in (("seed", 13), ("reward", 0.9))
    ]
    ids = {describe_log(one, QUESTIONS)["eval"]["eval_id"] for one in (table, *changed)}
    ids |= {describe_log(table, {})["eval"]["eval_id"]}
    assert len(ids) == 4
    names = [sample["uuid"] for sample in log["samples"]]
    assert len(set(names)) == len(names)


def test_runs_arms_and_checkpoints_are_logs_of_their_own():
    rows = [make_row(), make_row(arm="think"), make_row(checkpoint="step000060"), make_row(run_id="r2"),
            make_row(run_id="r3", benchmark="../../etc: x"), make_row(arm="a" * 500)]  # fmt: skip
    named = dict(split_logs(make_table(rows)))
    assert len(named) == len(rows)
    assert all(len(table) == 1 for table in named.values())
    for name in named:
        assert name.endswith(".eval")
        assert "/" not in name
        assert ":" not in name
        assert len(name) < 200


# --- the way back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_by_hand, write_real])
def test_what_is_exported_is_imported_as_it_was(write, tmp_path):
    table = make_table(VARIED)
    path = write(tmp_path / "x.eval", describe_log(table, QUESTIONS))
    imported = read_imports([path], Options("live"))
    key = ["problem_id", "sample_id"]
    back = imported.rollouts.sort_values(key, ignore_index=True)
    # An import numbers the draws of a problem from 0 without gaps.
    numbers = table.sort_values(key).groupby("problem_id").cumcount().to_numpy()
    wanted = table.sort_values(key, ignore_index=True).assign(sample_id=numbers)
    for column in set(ROLLOUTS_COLUMNS) - {
        "run_id",
        "profile",
        "seed",
        "step",
    }:  # these an import does not take
        assert back[column].equals(wanted[column]), column
    counts = count_draws(wanted.assign(run_id="x"))
    assert imported.counts.drop(columns="study").equals(counts.drop(columns="study"))
    assert imported.rejected == ()


@pytest.mark.parametrize(
    ("value", "status"),
    [("C", "correct"), ("I", "timeout"), ("N", "no_answer"), (1.0, "correct"), (0.0, "wrong")],
)
def test_a_score_that_was_edited_since_is_the_grade(value, status, tmp_path):
    log = describe_log(make_table([make_row(status="timeout")]), {})
    log["samples"][0]["scores"]["correct"]["value"] = value
    imported = read_imports([write_by_hand(tmp_path / "x.eval", log)], Options("live"))
    assert imported.rollouts["status"].tolist() == [status]


# --- files --------------------------------------------------------------------------------------------


def test_the_real_package_writes_the_same_bytes_again_and_keeps_what_is_there(tmp_path):
    log = describe_log(make_table(VARIED), QUESTIONS)
    first = write_real(tmp_path / "a" / "x.eval", log)
    second = write_real(tmp_path / "b" / "x.eval", log)
    assert first.read_bytes() == second.read_bytes()
    assert write_log(log, first) is False
    assert sorted(path.name for path in first.parent.iterdir()) == ["x.eval"]
    other = describe_log(make_table([make_row()]), {})
    with pytest.raises(ExportFailed, match=r"x\.eval holds another log; --force"):
        write_log(other, first)
    assert first.read_bytes() == second.read_bytes()
    assert write_log(other, first, force=True)
    first.write_bytes(b"PK cut off")
    with pytest.raises(ExportFailed, match="holds another log"):
        write_log(log, first)


def test_the_real_package_reads_it(tmp_path):
    inspect_log = pytest.importorskip(
        "inspect_ai.log", reason="inspect-ai is not installed; see `make inspect`"
    )
    path = write_real(tmp_path / "x.eval", describe_log(make_table(VARIED), QUESTIONS))
    log = inspect_log.read_eval_log(str(path))
    assert log.status == "success"
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(3 / len(VARIED))
    sample = inspect_log.read_eval_log_sample(str(path), id="q1", epoch=1)
    assert sample.output.completion == DEBATE
    assert sample.scores["correct"].value == "C"
    assert sample.messages[1].content[0].type == "reasoning"
    summaries = inspect_log.read_eval_log_sample_summaries(str(path))
    assert len(summaries) == len(VARIED)


def test_without_the_package_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportFailed, match="pip install"):
        check_installed()
    with pytest.raises(ExportFailed, match="pip install"):
        write_log(describe_log(make_table([make_row()]), {}), tmp_path / "x.eval")
    assert list(tmp_path.iterdir()) == []


def test_tables_and_transcripts_are_read_and_nothing_else(tmp_path):
    make_table(VARIED).to_parquet(tmp_path / "r.parquet")
    assert len(read_table(tmp_path / "r.parquet")) == len(VARIED)
    row = make_row(status=None, reward=None) | {"question": "3?", "gold": None}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    table = read_table(tmp_path / "t.jsonl")
    assert read_questions([table]) == {("sums", "q1"): ("3?", NOT_RECORDED)}
    (tmp_path / "bad.jsonl").write_text('{"arm": "a"}\n')
    with pytest.raises(ExportFailed, match="no transcript of a chat: its lines have no 'study'"):
        read_table(tmp_path / "bad.jsonl")
    with pytest.raises(ExportFailed, match=r"no table of this book"):
        read_table(tmp_path / "x.csv")
