"""Demonstrations: the two arms are shown the same sentences, and the sentences are right."""

import json
import random
import re

import pytest

from panelbook.study.arms import ARMS
from panelbook.study.demonstrations import DOUBT_RATE, load_demonstrations, solve_aloud

SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}


def make_row(left, sign, right, question="How many are there?"):
    return {
        "Body": f"There are {left} and {right}.",
        "Question": question,
        "Equation": f"( {left}.0 {sign} {right}.0 )",
        "Answer": float(SIGNS[sign](left, right)),
    }


@pytest.fixture
def svamp(tmp_path, monkeypatch):
    """A folder with sixty problems, every third of two operations."""
    rows = [make_row(2 * i + 6, "+-*/"[i % 4], 2) for i in range(60)]
    for row in rows[::3]:
        row["Equation"] = "( ( 1.0 + 2.0 ) - 3.0 )"
    (tmp_path / "svamp").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "svamp" / "test.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PANELBOOK_DATASETS", str(tmp_path))


def strip_labels(text):
    return re.sub(r"^(Solver|Skeptic|Checker|Moderator): ", "", text, flags=re.M)


def test_both_arms_are_shown_the_same_sentences(svamp):
    for shown in load_demonstrations(40, seed=1):
        panel = shown.render("panel").replace("mutipersonaDebate>", "think>")
        assert strip_labels(panel) == shown.render("think")
        assert panel != shown.render("think")


@pytest.mark.parametrize("arm", ["panel", "think"])
def test_what_is_shown_keeps_to_the_scaffold_and_is_right(svamp, arm):
    for shown in load_demonstrations(40, seed=1):
        said = ARMS[arm].parse(shown.render(arm))
        assert said.tag_valid
        assert said.answer == shown.problem.gold


@pytest.mark.parametrize(("left", "sign", "right"), [(8, "-", 5), (8, "+", 5), (8, "*", 5), (8, "/", 4)])
def test_every_calculation_adds_up(left, sign, right):
    for seed in range(20):
        for step in solve_aloud(random.Random(seed), make_row(left, sign, right)):
            for a, op, b, c in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", step):
                assert SIGNS[op](int(a), int(b)) == int(c)


def test_some_propose_a_wrong_operation_first_and_take_it_back(svamp):
    doubted = [len(solve_aloud(random.Random(seed), make_row(8, "-", 5))) > 4 for seed in range(400)]
    assert abs(sum(doubted) / 400 - DOUBT_RATE) < 0.1
    steps = next(
        steps for seed in range(40) if len(steps := solve_aloud(random.Random(seed), make_row(8, "-", 5))) > 4
    )
    assert "8 - 5" not in steps[1]
    assert steps[2].startswith("No,")
    assert steps[3] == "We subtract: 8 - 5 = 3."


@pytest.mark.parametrize(
    "changes",
    [
        {"Equation": "( ( 1.0 + 2.0 ) - 3.0 )"},
        {"Answer": 4.0},
        {"Equation": "( 8.0 / 0.0 )"},
        {"Equation": ""},
    ],
)
def test_a_problem_that_it_cannot_solve_is_left_out(changes):
    assert solve_aloud(random.Random(1), {**make_row(8, "-", 5), **changes}) == ()


def test_the_same_seed_shows_the_same_and_none_of_those_asked(svamp):
    first = load_demonstrations(30, seed=1)
    assert first == load_demonstrations(30, seed=1)
    assert first != load_demonstrations(30, seed=2)
    asked = {one.problem.problem_id for one in first[:10]}
    again = load_demonstrations(30, seed=1, without=asked)
    assert not asked & {one.problem.problem_id for one in again}


def test_asking_for_more_than_there_are_is_refused(svamp):
    with pytest.raises(ValueError, match="SVAMP has 40 problems of one operation to show; 41 are asked for"):
        load_demonstrations(41, seed=1)
