"""Arms: prompts to the byte, stop strings, parsing, reward."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelbook.study.arms import ARMS, Arm, Parsed, reward

PANEL, THINK, NO_PANEL, NATIVE = (ARMS[name] for name in ("panel", "think", "no_panel", "native"))

# SHA-256 of the published prompts with "{problem}" in place of the question.
FRAMES = {
    ("panel", "latex"): "c4fff9a5737292524881c37d4a7511266c69c1e3652a910f2e708a2a5d55415e",
    ("think", "latex"): "5a5a7a040ba15cbcf5b4e41aeb91ff419dbc8cf6354da8f2f4a00752c51d73aa",
    ("no_panel", "latex"): "a2017ad07b4c10131cfba4cfdcd3616f7266da6def392dd3fd384a3b12b0c3b9",
    ("no_panel", "int"): "26a52e25d7fdb83217e0d7f7deb0c8aea1449a7cf569e09e443df980209b3c62",
}


# Prompts


@pytest.mark.parametrize(("name", "answer_type"), FRAMES)
def test_prompts_equal_the_published_ones_to_the_byte(name, answer_type):
    prompt = ARMS[name].prompt("{problem}", answer_type)
    assert hashlib.sha256(prompt.encode()).hexdigest() == FRAMES[name, answer_type]


def test_think_is_the_panel_prompt_with_four_phrases_changed():
    prompt = PANEL.prompt("Q")
    deliberates = "deliberates and debates the reasoning process with each other"
    for panel, think in [
        ("Multi-Persona Panel of Experts", "Assistant"),
        (deliberates, "thinks about the reasoning process in its mind"),
        ("mutipersonaDebate", "think"),
        ("deliberation process", "reasoning process"),
    ]:
        prompt = prompt.replace(panel, think)
    assert prompt == THINK.prompt("Q")


def test_published_smoke_cases_of_the_prompt():
    prompt = PANEL.prompt("Alice has 3 apples. Bob has 5.")
    assert prompt.endswith("Assistant: ")
    assert "<mutipersonaDebate>" in prompt
    assert "<answer>answer here </answer>" in prompt
    assert "Alice has 3 apples" in prompt


def test_a_question_full_of_braces_is_inserted_as_it_is():
    question = r"Find $\frac{1}{2}$ of {problem} and {0}, 100%s."
    for arm in (PANEL, THINK, NO_PANEL):
        assert arm.prompt(question).count(question) == 1


def test_only_no_panel_words_integer_answers_differently():
    for arm in (PANEL, THINK):
        assert arm.prompt("Q", "int") == arm.prompt("Q", "latex")
    assert "integer" in NO_PANEL.prompt("Q", "int")
    assert NO_PANEL.prompt("Q", "gsm8k") == NO_PANEL.prompt("Q", "latex")


class RecordingTokenizer:
    def apply_chat_template(self, conversation, **options):
        self.conversation, self.options = conversation, options
        return "<|im_start|>user ..."


def test_native_uses_the_chat_template_with_thinking_and_one_user_turn():
    tokenizer = RecordingTokenizer()
    assert NATIVE.prompt("What is 2+2?", "int", tokenizer) == "<|im_start|>user ..."
    assert tokenizer.conversation == [{"role": "user", "content": "What is 2+2?"}]
    assert tokenizer.options == {"tokenize": False, "add_generation_prompt": True, "enable_thinking": True}


def test_native_without_a_tokenizer_says_what_to_pass():
    with pytest.raises(ValueError, match=r"arm 'native'.*Pass the model's tokenizer"):
        NATIVE.prompt("Q")


# Tags: the published smoke cases. What they left open, a missing </answer>, is decided by `close`.


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<mutipersonaDebate>Persona A says X; B says Y.</mutipersonaDebate> <answer>42</answer>", True),
        ("<answer>42</answer>", False),
        ("<mutipersonaDebate>  </mutipersonaDebate> <answer>42</answer>", False),
        ("<mutipersonaDebate>stuff</mutipersonaDebate> <answer>   </answer>", False),
        ("<answer>42</answer> <mutipersonaDebate>debate</mutipersonaDebate>", False),
        ("<multipersonaDebate>x</multipersonaDebate> <answer>42</answer>", False),
        ("<mutipersonaDebate>x</mutipersonaDebate> so, <answer>42</answer>", False),
        ("<think>x</think> <answer>42</answer>", False),
    ],
)
def test_published_smoke_cases_of_the_tags(completion, expected):
    assert PANEL.parse(completion).tag_valid is expected


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<mutipersonaDebate>x</mutipersonaDebate> <answer>42</answer>", "42"),
        (r"<mutipersonaDebate>x</mutipersonaDebate> <answer>\boxed{12}</answer>", r"\boxed{12}"),
        ("just some text", None),
        ("no debate but <answer> 7 </answer>", "7"),
        ("<mutipersonaDebate>never closed <answer>7</answer>", "7"),
    ],
)
def test_published_smoke_cases_of_the_answer(completion, answer):
    assert PANEL.parse(completion).answer == answer


@pytest.mark.parametrize("arm", [PANEL, THINK], ids=lambda arm: arm.name)
def test_an_answer_cut_off_by_the_token_limit_is_not_an_answer(arm):
    open_answer = f"{arm.open_tag}debate{arm.close_tag} <answer>7"
    assert arm.parse(arm.close(open_answer, "stop")) == Parsed("debate", "7", tag_valid=True)
    assert arm.parse(arm.close(open_answer, "length")) == Parsed("debate", None, tag_valid=False)


def test_no_panel_asks_for_an_answer_only():
    assert NO_PANEL.parse("2+2 is 4. <answer>4</answer>") == Parsed("2+2 is 4.", "4", tag_valid=True)
    assert NO_PANEL.parse("<answer>4</answer>") == Parsed(None, "4", tag_valid=True)
    assert NO_PANEL.parse("2+2 is <answer>4") == Parsed("2+2 is", None, tag_valid=False)


@pytest.mark.parametrize("arm", [PANEL, THINK], ids=lambda arm: arm.name)
def test_pieces_of_a_broken_completion_are_kept_and_marked(arm):
    assert arm.parse(f"{arm.open_tag} half a thought") == Parsed("half a thought", None, tag_valid=False)
    assert arm.parse(f"{arm.open_tag} half <answer>4</answer>") == Parsed("half", "4", tag_valid=False)
    assert arm.parse(f"{arm.open_tag} stray</answer>") == Parsed("stray", None, tag_valid=False)
    assert arm.parse("") == Parsed(None, None, tag_valid=False)


def test_the_first_block_that_an_answer_follows_counts():
    again = "<think>a</think> hm <think>b</think><answer>4</answer><answer>5</answer>"
    assert THINK.parse(again) == Parsed("a</think> hm <think>b", "4", tag_valid=True)


def test_parsing_a_megabyte_of_open_tags_is_quick():
    # Quadratic matching would take minutes.
    assert PANEL.parse("<mutipersonaDebate>" * 50_000).answer is None
    assert PANEL.parse("<mutipersonaDebate>" + "</mutipersonaDebate>\n" * 50_000).tag_valid is False


# The native format


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>\nso\n</think>\n\nIt is 4.<|im_end|>", Parsed("so", "It is 4.", tag_valid=True)),
        ("so\n</think>\n\nIt is 4.<|im_end|>", Parsed("so", "It is 4.", tag_valid=True)),
        ("It is 4.<|im_end|>", Parsed(None, "It is 4.", tag_valid=False)),
        ("<think>\nso\n</think>\n\nIt is 4", Parsed("so", None, tag_valid=False)),
        ("<think>\nso it must be 4", Parsed("so it must be 4", None, tag_valid=False)),
        ("<think>\nso it must be 4<|im_end|>", Parsed("so it must be 4", None, tag_valid=False)),
        ("<think>\n</think>\n\n4<|im_end|>", Parsed(None, "4", tag_valid=False)),
    ],
)
def test_native_reads_what_follows_the_thinking_and_only_if_it_is_finished(completion, expected):
    assert NATIVE.parse(completion) == expected


# Stop strings


@pytest.mark.parametrize("arm", ARMS.values(), ids=lambda arm: arm.name)
@given(text=st.text(alphabet="ab <>/answer|im_end"))
def test_close_adds_a_stop_string_once_and_only_to_a_draw_that_stopped(arm, text):
    closed = arm.close(text, "stop")
    assert arm.close(text, "length") == text
    assert any(stop in closed for stop in arm.stop)
    assert closed in (text, text + arm.stop[0])
    assert arm.close(closed, "stop") == closed


@pytest.mark.parametrize("arm", [PANEL, THINK], ids=lambda arm: arm.name)
@given(reasoning=st.text(alphabet="ab\n. {}\\<", min_size=1), answer=st.text(alphabet="01/ \\{}", min_size=1))
def test_a_well_formed_completion_comes_back_in_its_parts(arm, reasoning, answer):
    parsed = arm.parse(f"{arm.open_tag}{reasoning}{arm.close_tag}\n<answer>{answer}</answer>")
    if reasoning.strip() and answer.strip():
        assert parsed == Parsed(reasoning.strip(), answer.strip(), tag_valid=True)
    else:
        assert not parsed.tag_valid


# Reward


@pytest.mark.parametrize(
    ("correct", "tag_valid", "expected"),
    [(True, True, 1.0), (False, True, 0.0), (True, False, 0.8), (False, False, -0.2)],
)
def test_reward_takes_the_four_published_values(correct, tag_valid, expected):
    assert reward(correct, tag_valid) == pytest.approx(expected)


def test_reward_without_a_tag_term_is_correctness():
    assert [reward(True, False, tag_coef=0), reward(False, False, tag_coef=0)] == [1.0, 0.0]


def test_arms_cannot_be_changed():
    with pytest.raises(TypeError):
        ARMS["panel"] = THINK  # type: ignore[index]
    with pytest.raises(AttributeError):
        PANEL.stop = ()  # type: ignore[misc]
    assert all(isinstance(arm, Arm) and arm.name == name for name, arm in ARMS.items())


# The rule as one expression, which is slow on hostile text but plain to read


PIECES = st.lists(
    st.sampled_from(["<t>", "</t>", "<answer>", "</answer>", " ", "\n", "x", "4", "<", "answer>"]),
    max_size=14,
)


def parse_slowly(text, open_tag, close_tag):
    """Return reasoning, answer and validity by regular expressions over the whole text."""
    answer = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    loose = (answer[1].strip() or None) if answer else None
    body = text.partition(open_tag)[2]
    pair = re.search(f"{close_tag}\\s*<answer>(.*?)</answer>", body, re.DOTALL) if open_tag in text else None
    if pair and body[: pair.start()].strip() and pair[1].strip():
        return Parsed(body[: pair.start()].strip(), pair[1].strip(), tag_valid=True)
    reasoning = re.split(f"{close_tag}|</?answer>", body, maxsplit=1)[0].strip() or None
    return Parsed(reasoning, loose, tag_valid=False)


@given(PIECES)
def test_tags_in_any_order_are_parsed_by_the_rule(pieces):
    text = "".join(pieces)
    for arm in (PANEL, THINK):
        there = text.replace("<t>", arm.open_tag).replace("</t>", arm.close_tag)
        assert arm.parse(there) == parse_slowly(there, arm.open_tag, arm.close_tag)
    answer = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    parsed = ARMS["no_panel"].parse(text)
    assert parsed.answer == ((answer[1].strip() or None) if answer else None)
    assert parsed.reasoning == (text.partition("<answer>")[0].strip() or None)


# Forty real completions


def read_transcripts():
    folder = os.environ.get("PANELBOOK_PUBLISHED")
    path = Path(folder or "/nonexistent") / "reports/case_study/transcripts.json"
    if not path.is_file():
        pytest.skip("needs reports/case_study/transcripts.json: set PANELBOOK_PUBLISHED")
    return json.loads(path.read_text())["items"]


@pytest.mark.published
@pytest.mark.parametrize(("key", "arm"), [("panel", PANEL), ("thinking", NATIVE)])
def test_real_completions_parse_as_published(key, arm):
    items = read_transcripts()
    assert len(items) == 20
    for item in items:
        published = item[key]
        expected = Parsed(published["reasoning"], published["answer"], tag_valid=True)
        assert arm.parse(arm.close(published["raw"], "stop")) == expected, item["id"]


@pytest.mark.published
@pytest.mark.parametrize(("key", "arm"), [("panel", PANEL), ("thinking", NATIVE)])
def test_real_completions_cut_short_have_no_answer(key, arm):
    for item in read_transcripts():
        raw = item[key]["raw"]
        for end in (len(raw) // 4, len(raw) // 2, len(raw) - 1):
            parsed = arm.parse(arm.close(raw[:end], "length"))
            assert parsed.answer is None, item["id"]
            assert not parsed.tag_valid, item["id"]
