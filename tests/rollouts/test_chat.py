"""One question at a time: rows of rollouts, seeds and numbers of draws, weights by name, messages."""

import doctest
import json
from dataclasses import replace

import pandas as pd
import pytest
from fake_engine import FakeResponse, FakeSampler, FakeSequence
from hostile import HOSTILE

from panelbook.rollouts import chat as module
from panelbook.rollouts.chat import (
    EXAMPLES,
    Chat,
    ChatError,
    Options,
    Weights,
    find_weights,
    open_chat,
    space_out,
)
from panelbook.rollouts.draw import derive_seed
from panelbook.rollouts.imports import Options as ImportOptions
from panelbook.rollouts.imports import read_draws, read_imports
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, check_rollouts
from panelbook.rollouts.setting import Setting
from panelbook.rollouts.store import Shard, read_lines
from panelbook.study.grading import Grader
from panelbook.text import mend

THINK = Options(("think",), max_tokens=64, seed=5)


@pytest.fixture(scope="module")
def grader():
    with Grader(n_workers=1, limit_s=0.5) as grader:
        yield grader


@pytest.fixture
def chat(grader):
    """A model without weights, which answers 42 or 7; see `fake_engine`."""
    return Chat(FakeSampler(), Setting("local", "someone/model"), Weights(), "test", grader)


@pytest.fixture(scope="module")
def abacus(grader, tmp_path_factory):
    """The miniature itself."""
    return open_chat(Setting("local", "abacus"), Weights(), "miniature", tmp_path_factory.mktemp("w"), grader)


def test_examples_in_docstrings():
    results = doctest.testmod(module)
    assert results.attempted >= 1
    assert results.failed == 0


# --- rows ---------------------------------------------------------------------------------------------


def test_graded_draws_are_rows_of_the_rollouts_table(chat):
    records = chat.ask("what?", replace(THINK, n_draws=6), gold="42")
    table = check_rollouts(pd.DataFrame(records), "chat")
    assert list(table["sample_id"]) == [0, 1, 2, 3, 4, 5]
    assert set(table["status"]) == {"correct", "wrong"}
    assert {(row["question"], row["gold"]) for row in records} == {("what?", "42")}
    assert {(r["arm"], r["checkpoint"], r["step"], r["benchmark"], r["max_tokens"]) for r in records} == {
        ("think", "base", 0, "chat", 64)
    }
    for row in records:
        assert row["seed"] == derive_seed(5, row["problem_id"], "think", "base", row["sample_id"])
        assert (row["status"] == "correct") == (row["predicted"] == "42") == (row["reward"] == 1.0)


def test_without_a_gold_answer_nothing_is_graded(chat):
    (row,) = chat.ask("what?", THINK)
    assert set(row) == {*ROLLOUTS_COLUMNS, "question", "gold"}
    assert row["status"] is row["reward"] is row["gold"] is None
    assert row["predicted"] in ("42", "7")
    assert row["completion"].endswith("</answer>")


def test_the_prompt_does_not_depend_on_the_gold_answer(chat):
    for gold in (None, "42", r"\frac{1}{2}"):
        chat.ask("what?", replace(THINK, arms=("think",)), gold)
    prompts = {tuple(request.prompt.to_ints()) for call in chat.client.calls for request in call}
    assert len(prompts) == 1


def test_asking_again_goes_on_and_another_chat_begins_anew(chat, grader):
    first, second = (chat.ask("what?", THINK)[0] for _ in range(2))
    assert (first["sample_id"], second["sample_id"]) == (0, 1)
    assert first["seed"] != second["seed"]
    other = Chat(FakeSampler(), chat.setting, Weights(), "test", grader)
    assert other.ask("what?", THINK) == [first]
    assert other.ask("else?", THINK)[0]["sample_id"] == 0
    assert other.ask("what?", replace(THINK, seed=6))[0]["sample_id"] == 0


def test_a_transcript_is_gone_on_from_explored_and_imported(chat, grader, tmp_path):
    path = tmp_path / "asked.jsonl"
    for _ in range(2):  # two sessions
        again = Chat(FakeSampler(), chat.setting, Weights(), "test", grader)
        if path.exists():
            again.go_on_from(read_lines(path)[0])
        with Shard(path) as shard:
            for row in again.ask("what?", replace(THINK, n_draws=2), gold="42"):
                shard.append(row)
    assert [row["sample_id"] for row in read_lines(path)[0]] == [0, 1, 2, 3]
    imported = read_imports([path], ImportOptions("asked"))
    assert imported.counts["n"].tolist() == [4]
    assert imported.rejected == ()
    with Shard(path) as shard:
        shard.append(chat.ask("unknown?", THINK)[0])
    assert list(read_draws(path, "asked")["status"].isna()) == [False] * 4 + [True]


def test_lines_of_another_origin_are_no_draws_to_go_on_from(chat):
    chat.go_on_from(
        [{}, {"run_id": "x"}, {"run_id": 1, "arm": [], "checkpoint": "", "problem_id": "", "sample_id": "?"}]
    )
    assert chat.ask("what?", THINK)[0]["sample_id"] == 0


# --- the miniature ------------------------------------------------------------------------------------


def test_both_arms_of_the_miniature_answer_and_can_be_watched(abacus):
    seen = []
    both = Options(("panel", "think"), max_tokens=112, n_draws=2)
    records = abacus.ask("34+29=?", both, "63", lambda look: seen.append(look()))
    assert [(row["arm"], row["sample_id"]) for row in records] == [
        ("panel", 0), ("panel", 1), ("think", 0), ("think", 1)
    ]  # fmt: skip
    assert abacus.streams
    assert records[0]["question"] == "34 + 29 = ?"
    assert len(seen) == max(row["completion_tokens"] for row in records)  # once for every token
    assert [glimpse.n_tokens for glimpse in seen[0]] == [1, 1, 1, 1]
    for glimpse, row in zip(seen[-1], records, strict=True):
        assert glimpse.ended
        assert glimpse.text == row["completion"]


def test_a_draw_that_is_cancelled_leaves_no_trace(abacus):
    def stop(look):
        raise KeyboardInterrupt

    options = Options(("panel",), max_tokens=112, seed=77)
    with pytest.raises(KeyboardInterrupt):
        abacus.ask("7 * 8 = ?", options, on_token=stop)
    assert abacus.ask("7 * 8 = ?", options)[0]["sample_id"] == 0


def test_what_the_miniature_does_not_know_is_said_with_examples(abacus):
    with pytest.raises(ChatError, match="does not know 'What', 'is', 'love'") as refused:
        abacus.ask("What is love?", Options(("panel",), max_tokens=112))
    for example in EXAMPLES:
        assert example in str(refused.value)
        assert space_out(example) == example
        assert abacus.ask(example, Options(("panel",), max_tokens=1))
    with pytest.raises(ChatError, match="knows the arms panel, think, and no native"):
        abacus.ask("7 * 8 = ?", Options(("native",), max_tokens=112))
    with pytest.raises(ChatError, match=r"exceed the model's context of \d+. Lower max_tokens"):
        abacus.ask("7 * 8 = ?", Options(("panel",), max_tokens=4000))
    with pytest.raises(ChatError, match="exceed the model's context"):
        abacus.ask("7 + " * 200 + "8 = ?", Options(("panel",), max_tokens=1))


# --- what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arms": ("panle",)}, "there is no arm 'panle'; there are panel, think, no_panel, native"),
        ({"arms": ()}, "name one arm"),
        ({"arms": ("panel", "panel")}, "different ones; got panel, panel"),
        ({"max_tokens": 0}, "must be 1 or more"),
        ({"n_draws": 0}, "must be 1 or more"),
        ({"temperature": -0.1}, "temperature 0 or more"),
        ({"temperature": float("nan")}, "temperature 0 or more"),
    ],
)
def test_options_are_checked(changes, expected):
    with pytest.raises(ChatError, match=expected):
        replace(THINK, **changes)


@pytest.mark.parametrize(
    ("question", "gold", "expected"),
    [
        (" \n", None, "question is empty"),
        ("what?", " $$ ", "gold answer is blank"),
        ("\udc80", None, "not UTF-8"),
    ],
)
def test_questions_are_checked(chat, question, gold, expected):
    with pytest.raises(ChatError, match=expected):
        chat.ask(question, THINK, gold)


def test_a_failing_service_is_one_line_without_the_key(chat, monkeypatch):
    monkeypatch.setenv("TINKER_API_KEY", "tml-secret")
    chat.client.fail = lambda call, request: RuntimeError("401 for tml-secret\nTraceback ...\n")
    with pytest.raises(ChatError) as refused:
        chat.ask("what?", THINK)
    assert str(refused.value) == "the engine does not answer: 401 for (key)"


@pytest.mark.parametrize(
    ("setting", "weights", "expected"),
    [
        (Setting("tinker", "Qwen/x"), Weights(), "TINKER_API_KEY is not set"),
        (Setting("tinker", "abacus"), Weights(), "no model 'abacus'"),
        (Setting("local", "/no/such/folder"), Weights(), "no folder /no/such/folder"),
        (Setting("local", "abacus"), Weights("x", 0, "/no/adapter"), "with the weights /no/adapter"),
    ],
)
def test_a_model_that_is_not_to_be_had_is_named(setting, weights, expected, monkeypatch, tmp_path, grader):
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    with pytest.raises(ChatError, match=expected) as refused:
        open_chat(setting, weights, "test", tmp_path, grader)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [pytest.param(h.text, id=h.name) for h in HOSTILE if len(h.text) < 2000])
def test_whatever_a_model_says_becomes_a_row_that_can_be_written(text, chat, tmp_path):
    class Speaker(FakeSampler):
        def _answer(self, request) -> FakeResponse:
            return FakeResponse([FakeSequence([ord(c) for c in text], None, "length")])

    chat.client = Speaker()
    (row,) = chat.ask("what?", THINK, gold="42")
    assert row["completion"] == mend(text)
    with Shard(tmp_path / "t.jsonl") as shard:
        shard.append(row)
    assert read_lines(tmp_path / "t.jsonl")[0] == [row]


# --- weights by name ----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A project with a training run of two checkpoints, and the folder of an adapter."""
    run = tmp_path / "runs" / "p" / "train" / "panel_1"
    run.mkdir(parents=True)
    rows = [
        {
            "step": step,
            "name": f"step{step:06d}",
            "tokens_total": 1,
            "state_path": "s",
            "sampler_path": f"w/step{step:06d}",
        }
        for step in (0, 60)
    ]
    (run / "checkpoints.json").write_text(json.dumps(rows))
    (tmp_path / "w" / "step000060").mkdir(parents=True)
    (tmp_path / "w" / "step000060" / "adapter_model.safetensors").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", Weights()),
        ("train.panel_1@60", Weights("panel_1@60", 60, "w/step000060")),
        ("panel_1@step000000", Weights("panel_1@0", 0, "w/step000000")),
        ("train.panel_1", Weights("panel_1@60", 60, "w/step000060")),
        ("w/step000060", Weights("step000060", 60, "w/step000060")),
        ("runs/p/train/panel_1/checkpoints.json@0", None),
        ("tinker://abc/sampler_weights/000020", Weights("000020", 20, "tinker://abc/sampler_weights/000020")),
    ],
)
def test_weights_are_found_by_run_and_step_by_folder_and_by_address(name, expected, project):
    found = find_weights(name, project, project / "runs" / "p")
    if expected is None:
        assert (found.step, found.path) == (0, str(project / "w/step000000"))
    elif expected.path and "://" not in expected.path:
        assert found == replace(expected, path=str(project / expected.path))
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("panel_2", "no weights 'panel_2'.*training runs there are: panel_1"),
        ("panel_1@61", "no checkpoint '61'; its steps are 0, 60"),
        ("panel_1@", "no checkpoint ''"),
        ("../../etc", "no weights"),
    ],
)
def test_weights_that_are_not_there_are_named_with_those_that_are(name, expected, project):
    with pytest.raises(ChatError, match=expected):
        find_weights(name, project, project / "runs" / "p")
