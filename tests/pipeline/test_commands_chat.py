"""`panelbook chat`: one-shot and line by line, with a model that needs no weights."""

import io
import json
import sys

import pytest
from hostile import LABELS

from panelbook.pipeline import chat_view
from panelbook.pipeline.commands import chat as command
from panelbook.rollouts import chat as chat_module
from panelbook.rollouts.chat import Chat
from panelbook.rollouts.store import read_lines


class Tokenizer:
    """One token per character."""

    eos_token = "\x03"

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, tokens):
        return "".join(map(chr, tokens))


class Row:
    def __init__(self, text):
        self.text, self.tokens, self.logprobs, self.stop_reason = text, [], [], None


class Model:
    """Says what it is told to, character by character."""

    def __init__(self):
        self.says = (
            "<mutipersonaDebate>Expert 1: Is it 4?\nExpert 2: Yes.</mutipersonaDebate> <answer>4</answer>"
        )
        self.requests = []
        self.interrupt_at = None

    def get_tokenizer(self):
        return Tokenizer()

    def stream(self, requests):
        self.requests += requests
        rows = [Row(self.says) for _ in requests]
        for position, character in enumerate(self.says):
            if position == self.interrupt_at:
                self.interrupt_at = None
                raise KeyboardInterrupt
            for row in rows:
                row.tokens.append(ord(character))
                row.stop_reason = "stop" if position == len(self.says) - 1 else None
            yield rows


@pytest.fixture
def model(monkeypatch):
    model = Model()

    def open_chat(setting, weights, profile, scratch, grader):
        return Chat(model, setting, weights, profile, grader)

    monkeypatch.setattr(chat_module, "open_chat", open_chat)
    return model


@pytest.fixture
def chat(panelbook, model, monkeypatch):
    """Return a function that runs `panelbook chat` on lines of standard input."""

    def call(*arguments, typed=""):
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode("utf-8", "surrogateescape")))
        )
        return panelbook("chat", *arguments, "--model", "someone/model")

    return call


def test_an_answer_is_taken_apart_and_graded(chat):
    status, out, _ = chat("What is 2 + 2?", "--gold", "4")
    assert status == 0
    for part in ("panel 0, base", "Expert 1: Is it 4?", "Expert 2: Yes.", "answer: 4  correct", "tags kept"):
        assert part in out
    assert "<answer>" not in out
    _, out, _ = chat("What is 2 + 2?", "--gold", "5")
    assert "answer: 4  wrong, gold 5" in out
    _, out, _ = chat("What is 2 + 2?")
    assert "answer: 4\x20" in out.replace("│", " ")
    assert "wrong" not in out


def test_two_arms_stand_side_by_side_where_there_is_room(chat, monkeypatch):
    _, out, _ = chat("What is 2 + 2?", "--arm", "panel", "--arm", "think", "-n", "2")
    assert "think 0, base" in next(line for line in out.splitlines() if "panel 0, base" in line)
    assert sum("panel 1, base" in line and "think 1, base" in line for line in out.splitlines()) == 1
    monkeypatch.setattr(chat_view, "SIDE_BY_SIDE", 1000)
    _, out, _ = chat("What is 2 + 2?", "--arm", "panel", "--arm", "think")
    assert not any("panel 0, base" in line and "think 0, base" in line for line in out.splitlines())


def test_json_is_one_line_per_draw_and_nothing_else(chat):
    status, out, _ = chat(
        "What is 2 + 2?", "--json", "-n", "3", "--gold", "4", "--seed", "9", "--max-tokens", "33"
    )
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["sample_id"], row["status"], row["max_tokens"]) for row in rows] == [
        (i, "correct", 33) for i in range(3)
    ]


def test_a_question_comes_from_standard_input(chat, model):
    status, out, _ = chat("-", "--json", typed="2 + 2\nis what?\n")
    assert status == 0
    assert json.loads(out)["question"] == "2 + 2\nis what?"
    status, _, err = chat("-", typed="\n")
    assert status == 1
    assert "the question is empty" in err


def test_a_transcript_is_appended_to(chat, tmp_path):
    path = tmp_path / "asked.jsonl"
    for _ in range(2):
        assert chat("What is 2 + 2?", "--transcript", path, "-n", "2", "--gold", "4")[0] == 0
    assert [row["sample_id"] for row in read_lines(path)[0]] == [0, 1, 2, 3]
    status, _, err = chat("What?", "--transcript", tmp_path / "asked.txt")
    assert status == 1
    assert ".jsonl" in err


def test_questions_are_asked_line_by_line(chat, model):
    first = "/help\n/arm think\n/gold 5\nWhat is 2 + 2?\n"
    typed = first + "/n 2\n/max 50\n/temp 0.5\n/seed 3\nAnd 3 + 1?\n/quit\nnever asked\n"
    status, out, err = chat(typed=typed)
    assert (status, err) == (0, "")
    assert command.HELP in out
    assert "think 0, base" in out
    assert out.count("answer: 4  wrong, gold 5") == 1  # the gold answer was of one question only
    first, *others = model.requests
    assert first.sampling_params.max_tokens == 112
    assert [(r.sampling_params.max_tokens, r.sampling_params.temperature) for r in others] == [(50, 0.5)] * 2
    assert "think; 2 draws of at most 50 tokens, temperature 0.5, seed 3" in out


def test_what_goes_wrong_is_said_and_the_next_question_is_asked(chat):
    typed = "/nope\n/seed x\n/n 0\n/arm panle\n\n/temp nan\nWhat is 2 + 2?\n"
    status, out, err = chat(typed=typed)
    assert status == 0
    for part in ("there is no /nope", "/seed takes a number; got 'x'", "must be 1 or more", "no arm 'panle'"):
        assert part in err
    assert out.count("answer: 4") == 1


def test_an_interrupt_cancels_the_draw_and_no_more(chat, model, tmp_path):
    model.interrupt_at = 5
    status, out, err = chat("--transcript", tmp_path / "t.jsonl", typed="What is 2 + 2?\nWhat is 2 + 2?\n")
    assert status == 0
    assert "cancelled" in err
    assert out.count("answer: 4") == 1
    assert [row["sample_id"] for row in read_lines(tmp_path / "t.jsonl")[0]] == [0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["q", "--arm", "panle"], "there is no arm 'panle'"),
        (["q", "--engine", "cloud"], "there is no engine 'cloud'"),
        (["q", "--checkpoint", "train.nothing@1"], "no weights 'train.nothing@1'"),
        (["q", "--profile", "published"], "asks no model"),
        (["q", "--max-tokens", "0"], "must be 1 or more"),
        (["q", "--temperature", "-1"], "temperature 0 or more"),
    ],
)
def test_a_wrong_argument_is_one_message(chat, model, arguments, expected):
    status, _, err = chat(*arguments)
    assert status == 1
    assert expected in err
    assert model.requests == []


def test_no_answer_steers_the_terminal(chat, model):
    texts = [label.values[0] for label in LABELS]
    says = [
        part
        for text in texts
        for part in (f"<mutipersonaDebate>Expert 1: {text}", f"<answer>{text}</answer>")
    ]
    left = iter(says)
    stream = model.stream

    def say_next(requests):
        model.says = next(left)
        return stream(requests)

    model.stream = say_next
    status, out, err = chat(typed="".join(f"question {i}\n" for i in range(len(says))))
    assert status == 0
    assert out.count("panel 0, base") == len(says)
    assert not [c for c in out + err if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert not set(out) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_markup_in_an_answer_is_text(chat, model):
    model.says = (
        "<mutipersonaDebate>Expert [red]1[/red]: [bold]x[/bold] [/]</mutipersonaDebate> <answer>[4]</answer>"
    )
    _, out, _ = chat("What?")
    assert "[bold]x[/bold] [/]" in out
    assert "answer: [4]" in out
