"""Arms: how a question is put, and what counts as its answer.

An *arm* is a scaffold: the text around the question, the strings that end a draw, the tags that hold the
reasoning and the answer. Four arms share this file because the comparison rests on their being alike:

- ``panel``: a Multi-Persona Panel of Experts deliberates in ``<mutipersonaDebate>`` (the spelling is part
  of the experiment) and answers in ``<answer>``.
- ``think``: the matched control, word for word the same frame around one Assistant and ``<think>``.
- ``no_panel``: the question and a request for ``<answer>`` tags, nothing else.
- ``native``: the model's own chat template with thinking enabled, one user turn, no system prompt.

The frames are the published study's, to the byte (``envs/`` of scasella/multi-model). What is *not* here:
whether an answer is right (``grading``), and turning text into tokens (``engine``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from panelbook.study.vocabulary import ArmName, StopReason

# What the question replaces. Not str.format: questions and frames are full of braces.
_SLOT = "{problem}"

_PANEL_FRAME = (
    "A conversation between User and Multi-Persona Panel of Experts. The user asks a question, and the "
    "Multi-Persona Panel of Experts solves it. The Multi-Persona Panel of Experts first deliberates and "
    "debates the reasoning process with each other and then provides the user with the answer. "
    "The deliberation process and answer are enclosed within <mutipersonaDebate>...</mutipersonaDebate> and "
    "<answer>...</answer> tags, respectively, i.e., <mutipersonaDebate> deliberation process here "
    "</mutipersonaDebate> <answer>answer here </answer>. User: {problem}. Assistant: "
)
_THINK_FRAME = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The Assistant first thinks about the reasoning process in its mind and then provides the user with "
    "the answer. The reasoning process and answer are enclosed within <think>...</think> and "
    "<answer>...</answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer>answer here </answer>. User: {problem}. Assistant: "
)
_NO_PANEL_FRAME = (
    "User: {problem}\n\nPlease solve this problem. Put your final answer inside <answer>...</answer> tags, "
    "using LaTeX if needed (e.g. \\frac{3}{4}).\n\nAssistant: "
)
_NO_PANEL_INTEGER_FRAME = (
    "User: {problem}\n\nPlease solve this problem. State your final integer answer inside "
    "<answer>...</answer> tags.\n\nAssistant: "
)

_OPEN_ANSWER = "<answer>"
_CLOSE_ANSWER = "</answer>"


class ChatTokenizer(Protocol):
    """The one method of a Hugging Face tokenizer that the native arm needs."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """Render a conversation."""


@dataclass(frozen=True)
class Parsed:
    """What a completion says, taken apart.

    Parameters
    ----------
    reasoning
        Text of the reasoning block, stripped. Where the block was opened and never closed, the text up to
        ``<answer>`` or the end (``tag_valid`` is then False). None where it is missing or blank.
    answer
        Text of the answer, stripped; None where it is missing, blank or was cut off.
    tag_valid
        Whether a non-blank reasoning block is followed at once by a non-blank, closed answer. For
        ``no_panel``, which has no reasoning tag, only the answer counts.
    """

    reasoning: str | None
    answer: str | None
    tag_valid: bool


@dataclass(frozen=True)
class Arm:
    r"""One scaffold.

    Parameters
    ----------
    name
        Key in `ARMS`.
    frame
        Prompt with ``{problem}`` where the question goes; None means the model's chat template.
    integer_frame
        Prompt used instead for integer answers (AIME); None means that `frame` serves those too.
    open_tag, close_tag
        Tags around the reasoning; None where the arm asks for none.
    stop
        Strings that end a draw. The sampler is told of them, and `close` puts them back.

    Examples
    --------
    >>> arm = ARMS["think"]
    >>> arm.parse(arm.close("<think>half of 8</think> <answer>4", "stop"))
    Parsed(reasoning='half of 8', answer='4', tag_valid=True)
    >>> arm.parse(arm.close("<think>half of 8</think> <answer>4", "length")).answer is None
    True
    """

    name: ArmName
    frame: str | None
    open_tag: str | None
    close_tag: str | None
    stop: tuple[str, ...]
    integer_frame: str | None = None

    def prompt(
        self, question: str, answer_type: str = "latex", tokenizer: ChatTokenizer | None = None
    ) -> str:
        """Return the prompt text for one question.

        Parameters
        ----------
        question
            Inserted as it is.
        answer_type
            ``"int"`` selects the integer frame where the arm has one.
        tokenizer
            Needed by ``native`` alone: its chat template is the prompt.

        Raises
        ------
        ValueError
            If the arm is ``native`` and no tokenizer is given.
        """
        if self.frame is None:
            if tokenizer is None:
                raise ValueError(
                    f"arm {self.name!r} is rendered by the model's chat template; got tokenizer=None. "
                    "Pass the model's tokenizer, or choose panel, think or no_panel."
                )
            turns = [{"role": "user", "content": question}]
            options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": True}
            return str(tokenizer.apply_chat_template(turns, **options))
        frame = self.integer_frame if answer_type == "int" and self.integer_frame else self.frame
        return frame.replace(_SLOT, question)

    def close(self, completion: str, stop_reason: StopReason) -> str:
        """Return the completion with its stop string, if the draw ended on one.

        Samplers cut the stop string off. It is put back only when the draw *stopped*: a draw that ran into
        its token limit inside ``<answer>`` stays open, so its answer is never graded as closed.
        """
        if stop_reason == "length" or any(stop in completion for stop in self.stop):
            return completion
        return completion + self.stop[0]

    def parse(self, completion: str) -> Parsed:
        """Take a completion (with its stop string, see `close`) apart."""
        if self.frame is None:
            return self._parse_chat(completion)
        if self.open_tag is None or self.close_tag is None:
            before, _, after = completion.partition(_OPEN_ANSWER)
            answer = _closed_answer(after)
            return Parsed(_text_or_none(before), answer, tag_valid=answer is not None)
        return self._parse_tagged(completion, self.open_tag, self.close_tag)

    def _parse_tagged(self, completion: str, open_tag: str, close_tag: str) -> Parsed:
        """Find the first block that an answer follows; failing that, the pieces, marked as not valid."""
        _, opened, body = completion.partition(open_tag)
        pair = re.search(rf"{re.escape(close_tag)}\s*{_OPEN_ANSWER}", body) if opened else None
        if pair:
            reasoning, answer = _text_or_none(body[: pair.start()]), _closed_answer(body[pair.end() :])
            if reasoning and answer:
                return Parsed(reasoning, answer, tag_valid=True)
        return Parsed(
            reasoning=_text_or_none(re.split(re.escape(close_tag) + "|</?answer>", body, maxsplit=1)[0]),
            answer=_closed_answer(completion.partition(_OPEN_ANSWER)[2]),
            tag_valid=False,
        )

    def _parse_chat(self, completion: str) -> Parsed:
        """Split at ``</think>``. A template may open the tag itself, so the opening tag is optional."""
        text, ended, _ = completion.partition(self.stop[0])
        before, closed, after = text.partition("</think>")
        if closed:
            reasoning, answer = _text_or_none(before.replace("<think>", "", 1)), _text_or_none(after)
        elif "<think>" in text or not ended:  # cut off while thinking
            reasoning, answer = _text_or_none(text.replace("<think>", "", 1)), None
        else:  # answered without thinking
            reasoning, answer = None, _text_or_none(text)
        answer = answer if ended else None
        return Parsed(reasoning, answer, tag_valid=reasoning is not None and answer is not None)


def reward(correct: bool, tag_valid: bool, tag_coef: float = 0.2) -> float:
    r"""Return the reward of one draw.

    .. math:: r = \text{correct} + \text{tag\_coef} \cdot (\text{tag\_valid} - 1)

    so 1.0, 0.0, 0.8 and -0.2 at the default. The published native-thinking environment left the tag term
    out (``tag_coef=0``); here every arm is rewarded by the same formula unless a caller says otherwise.

    Examples
    --------
    >>> reward(correct=True, tag_valid=False)
    0.8
    """
    return float(correct) + tag_coef * (float(tag_valid) - 1.0)


def _closed_answer(after: str) -> str | None:
    """Return what stands before the first ``</answer>``, stripped; None if it is not closed, or blank.

    Not one expression for both tags: tried anew at each ``<answer>``, it takes half an hour on a megabyte of them.
    """
    answer, closed, _ = after.partition(_CLOSE_ANSWER)
    return _text_or_none(answer) if closed else None


def _text_or_none(text: str) -> str | None:
    """Strip; None for blank."""
    return text.strip() or None


_TAGGED_STOP = ("</answer>",)

ARMS: Mapping[ArmName, Arm] = MappingProxyType(
    {
        "panel": Arm(
            name="panel",
            frame=_PANEL_FRAME,
            open_tag="<mutipersonaDebate>",
            close_tag="</mutipersonaDebate>",
            stop=_TAGGED_STOP,
        ),
        "think": Arm(
            name="think",
            frame=_THINK_FRAME,
            open_tag="<think>",
            close_tag="</think>",
            stop=_TAGGED_STOP,
        ),
        "no_panel": Arm(
            name="no_panel",
            frame=_NO_PANEL_FRAME,
            integer_frame=_NO_PANEL_INTEGER_FRAME,
            open_tag=None,
            close_tag=None,
            stop=_TAGGED_STOP,
        ),
        "native": Arm(
            name="native",
            frame=None,
            open_tag="<think>",
            close_tag="</think>",
            stop=("<|im_end|>",),
        ),
    }
)
