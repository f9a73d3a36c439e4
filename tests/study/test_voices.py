"""Completions taken apart: by rule, without loss, and in a time that no text can stretch."""

import re
import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelbook.rollouts.windows import read_transcripts
from panelbook.study.arithmetic import Attempt, Exercise, Solution, render_completion
from panelbook.study.arms import ARMS
from panelbook.study.voices import MOST_SEGMENTS, read_voices, take_apart

TAG = re.compile("</?(?:mutipersonaDebate|think|answer)>|<.im_end.>|<.endoftext.>")


def pieces(text: str, arm: str) -> list[tuple[str, str, str]]:
    return [(piece.kind, piece.speaker, piece.text) for piece in take_apart(text, arm)]


def panel(said: str) -> list[tuple[str, str]]:
    """What a panel's reasoning is made of."""
    text = f"<mutipersonaDebate>{said}</mutipersonaDebate> <answer>1</answer>"
    *reasoning, answer = pieces(text, "panel")
    assert answer == ("answer", "", "1")
    return [(speaker or kind, text) for kind, speaker, text in reasoning]


def think(said: str) -> list[str]:
    """The steps of a monologue."""
    *reasoning, answer = pieces(f"<think>{said}</think> <answer>1</answer>", "think")
    assert answer == ("answer", "", "1")
    assert {kind for kind, _, _ in reasoning} == {"step"}
    return [text for _, _, text in reasoning]


class TestVoices:
    def test_the_miniatures_three(self):
        said = " Ada : 3 + 4 = 7 , 7 + 1 = 8 . Ben : 4 + 4 = 8 . Cy : right . "
        assert panel(said) == [("Ada", "3 + 4 = 7 , 7 + 1 = 8 ."), ("Ben", "4 + 4 = 8 ."), ("Cy", "right .")]

    @pytest.mark.parametrize(
        ("label", "speaker"),
        [
            ("Expert 1:", "Expert 1"),
            ("**Expert 2:**", "Expert 2"),
            ("**Expert 2**:", "Expert 2"),
            ("- **Persona B:**", "Persona B"),
            ("### Panelist 3:", "Panelist 3"),
            ("Dr. Chen (topologist):", "Dr. Chen (topologist)"),
            ("Professor Ada Lovelace:", "Professor Ada Lovelace"),
            ("Geometry Expert 1:", "Geometry Expert 1"),
            ("Expert 1 (Number  Theory):", "Expert 1 (Number Theory)"),
            ("Mathematician:", "Mathematician"),
            ("Panel of Experts:", "Panel of Experts"),
        ],
    )
    def test_labels_of_language_models(self, label, speaker):
        assert panel(f"{label} let us add.\n\n{label} done.") == [
            (speaker, "let us add."),
            (speaker, "done."),
        ]

    def test_numbered_voices_may_begin_in_the_middle_of_a_line_but_not_of_a_sentence(self):
        said = "Expert 1: We have 3.  Expert 2: As Expert 1: said, 3. Dr. Wu: \\(x\\), Expert 9: no."
        assert [speaker for speaker, _ in panel(said)] == ["Expert 1", "Expert 2", "Dr. Wu"]

    def test_a_role_without_number_must_begin_its_line(self):
        assert panel("Critic: one. The Critic: two.") == [("Critic", "one. The Critic: two.")]

    def test_a_name_is_a_voice_if_it_comes_back_and_is_not_alone(self):
        said = "Priya: I add.\nStep 1: 3 + 4\nNote: look.\nNote: again.\nTom: no.\nPriya: yes.\nTom: fine."
        assert [speaker for speaker, _ in panel(said)] == ["Priya", "Tom", "Priya", "Tom"]
        assert [kind for kind, _ in panel("Priya: I add.\nPriya: again.")] == ["step"]

    def test_what_stands_before_the_first_label_is_a_step(self):
        assert panel("A hard one.\nExpert 1: no.") == [("step", "A hard one."), ("Expert 1", "no.")]

    def test_a_monologue_that_quotes_one_voice_is_no_panel_two_are(self):
        one, two = "Expert 1: yes, that would be said.", "Expert 1: yes.\nExpert 2: no."
        assert think(one) == [one]
        found = pieces(f"<think>{two}</think><answer>1</answer>", "think")
        assert [kind for kind, _, _ in found] == ["speech", "speech", "answer"]

    def test_who_speaks_each_once(self):
        said = "<mutipersonaDebate>Expert 2: a.\nExpert 1: b.\nExpert 2: c.</mutipersonaDebate>"
        assert read_voices(take_apart(said, "panel")) == ["Expert 2", "Expert 1"]


class TestSteps:
    def test_paragraphs(self):
        assert think("First this.\nStill this.\n\n \nThen that.") == [
            "First this.\nStill this.",
            "Then that.",
        ]

    def test_numbered_points(self):
        assert think("Plan:\n1. add\n2. carry\n10) done") == ["Plan:", "1. add", "2. carry", "10) done"]
        assert think("Only\n1. one point") == ["Only\n1. one point"]

    def test_a_displayed_formula_or_code_is_not_torn(self):
        said = "So\n\\[\nx\n\n= 1\n\\]\nand\n\n```\na\n\n1. b\n```\n\n$$y\n\n$$"
        assert think(said) == ["So\n\\[\nx\n\n= 1\n\\]\nand", "```\na\n\n1. b\n```", "$$y\n\n$$"]

    def test_a_formula_that_never_ends_holds_nothing_together(self):
        assert think("\\[ a\n\nb\n\nc") == ["\\[ a", "b", "c"]

    def test_the_miniatures_sentences(self):
        said = " 3 + 4 = 7 . Wait , check : right . "
        assert think(said) == ["3 + 4 = 7 .", "Wait , check : right ."]
        assert think("It is 3.5 . 4 is more.") == ["It is 3.5 .", "4 is more."]
        assert think("No blank before. Nothing is cut.") == ["No blank before. Nothing is cut."]


class TestTags:
    def test_text_outside_is_kept_apart(self):
        text = "Well. <think>a</think> hm <answer>7</answer> bye"
        assert pieces(text, "think") == [
            ("outside", "", "Well."),
            ("step", "", "a"),
            ("outside", "", "hm"),
            ("answer", "", "7"),
            ("outside", "", "bye"),
        ]

    def test_a_draw_that_was_cut_off(self):
        assert pieces("<think> one thing . and", "think") == [
            ("step", "", "one thing ."),
            ("step", "", "and"),
        ]
        assert pieces("<think>a</think> <answer>4", "think") == [("step", "", "a"), ("answer", "", "4")]

    def test_another_arms_tags_are_text(self):
        assert pieces("<think>a</think>", "panel") == [("outside", "", "<think>a</think>")]

    def test_an_unknown_arm_is_read_with_every_tag(self):
        debate = "<mutipersonaDebate>Expert 1: a.\nExpert 2: b.</mutipersonaDebate><answer>c</answer>"
        assert [kind for kind, _, _ in pieces(debate, "debate")] == ["speech", "speech", "answer"]
        assert pieces("a\n\nb", "plain") == [("step", "", "a"), ("step", "", "b")]

    def test_a_chat_model_answers_after_thinking(self):
        assert pieces("<think>a</think>It is 4.<|im_end|>", "native") == [
            ("step", "", "a"),
            ("answer", "", "It is 4."),
        ]
        assert pieces("a</think>4", "native") == [("step", "", "a"), ("answer", "", "4")]
        assert pieces("<think>a</think>It is 4.<|im_end|>", "thinking")[1] == ("answer", "", "It is 4.")
        assert pieces("It is 4.", "native") == [("answer", "", "It is 4.")]

    def test_an_arm_without_reasoning_tags_reasons_until_its_answer(self):
        assert pieces("a\n\nb <answer>c</answer>", "no_panel") == [
            ("step", "", "a"),
            ("step", "", "b"),
            ("answer", "", "c"),
        ]

    @pytest.mark.parametrize("text", ["", "  ", "<think></think>", "<answer> </answer>"])
    def test_nothing_said_is_nothing(self, text):
        assert pieces(text, "think") == []


LABELS = ["Expert 1:", "**Expert 2:**", "Ada :", "Ben :", "Priya:", "Tom:", "Dr. Wu (logic):", "Critic:"]
TAGS = ["<think", "</think", "<answer", "</answer", "<mutipersonaDebate", "</mutipersonaDebate", "<|im_end|>"]
MARKS = [" ", "\n", "\n\n", " . ", ". ", "1. ", "2) ", "\\[", "\\]", "$$", "```", "x", "\0", "\ud800", "é"]
WORDS = st.sampled_from([*LABELS, *(tag.rstrip(">") + ">" for tag in TAGS), *MARKS])


@given(st.one_of(st.lists(WORDS, max_size=25).map("".join), st.text()), st.sampled_from([*ARMS, "other"]))
def test_nothing_is_lost_and_nothing_is_made_up(text, arm):
    found = take_apart(text, arm)
    if not found:
        assert not TAG.sub("", text).strip()
        return
    assert "".join(text[piece.start : piece.stop] for piece in found) == text
    for piece in found:
        held = text[piece.start : piece.stop]
        assert piece.text in held
        assert piece.text == piece.text.strip()
        before, _, after = held.rpartition(piece.text) if piece.text else (held, "", "")
        # Beside what is said, a piece holds tags, blanks and, before it, at most the label of its voice.
        rest = TAG.sub("", before).strip() + TAG.sub("", after).strip()
        if piece.kind != "speech":
            assert not rest
        elif piece.text:
            assert len(rest) <= len(piece.speaker) + 12
        assert bool(piece.speaker) == (piece.kind == "speech")


def test_the_same_solution_in_both_frames_has_the_same_turns():
    attempts = (Attempt("jump", ("34 + 20 = 54", "54 + 9 = 63"), 63), Attempt("split", ("30 + 33 = 63",), 63))
    solution = Solution(Exercise("addition", 2, (34, 29)), attempts, nodded=False)
    said = {arm: pieces(render_completion(arm, solution), arm) for arm in ("panel", "think")}
    assert [text for _, _, text in said["panel"]] == ["34 + 20 = 54 , 54 + 9 = 63 .", "30 + 33 = 63 .", "63"]
    assert [text for _, _, text in said["think"]][1] == "Wait , check : 30 + 33 = 63 ."
    assert len(said["panel"]) == len(said["think"])


@pytest.mark.parametrize(
    "unit", ["\\[", "a\n\n", "Aa:\nBb:\n", "Expert 1: ", "$$\n\n", "<think>", "A ", "Dr. ", " . ", ": "]
)
@pytest.mark.parametrize("arm", ["panel", "think"])
def test_no_text_takes_long_or_falls_into_too_many_pieces(unit, arm):
    text = str(ARMS[arm].open_tag) + unit * (100_000 // len(unit))
    started = time.process_time()
    assert len(take_apart(text, arm)) <= MOST_SEGMENTS + 1
    assert time.process_time() - started < 2


@pytest.mark.published
def test_every_published_panel_transcript_has_voices_and_no_monologue_does(published_folder):
    transcripts = read_transcripts(published_folder)
    voices = pd.Series(
        [
            len(read_voices(take_apart(trace, "other" if arm == "thinking" else "no_panel")))
            if arm == "thinking"
            else len(read_voices(take_apart(f"<mutipersonaDebate>{trace}", "panel")))
            for arm, trace in zip(transcripts["arm"], transcripts["trace"], strict=True)
        ],
        index=transcripts["arm"],
    )
    assert (voices["panel"] >= 1).all()
    assert (voices["panel"] >= 2).sum() == 19  # one problem is solved by Expert 1 alone
    assert (voices["thinking"] == 0).all()
