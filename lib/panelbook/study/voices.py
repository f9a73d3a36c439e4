r"""Voices: a completion taken apart into who speaks, or step by step, the answer, and what stands outside the tags.

The rule, for every arm alike:

1. Tags divide the text. What stands between an arm's reasoning tags is reasoning, what stands in ``<answer>`` the
   answer, the rest is outside. An arm that this book does not prompt is read with every tag that it knows. An arm
   without reasoning tags reasons until ``<answer>``. A chat model's text after its reasoning is its answer.
2. A *label* opens a voice: at the beginning of the reasoning, of a line, or after the end of a sentence, up to a
   colon, perhaps in bold, perhaps with a role in brackets. Labels are numbered speakers (``Expert 2:``,
   ``**Persona B:**``), titles with names (``Dr. Chen (topologist):``), and the miniature's ``Ada :``, ``Ben :``,
   ``Cy :``; at the beginning of a line also bare roles (``Mathematician:``, ``Moderator:``) and, in the panel, any
   capitalised name that labels several lines, if there are two such names (``Priya:``).
3. Reasoning with labels is speech: one voice in the panel will do, elsewhere it takes two, since a monologue may
   quote one. What stands before the first label is a step.
4. Reasoning without is made of steps: its paragraphs, except inside a displayed formula or a code block; its
   numbered points; and where there is one paragraph only, the miniature's sentences (`` . ``).

What is *not* handled: voices that are told apart by prose alone ("the second expert objects that"), and labels in
another language. They are not lost: they are steps. Whether voices differ in what they say is no question for here.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from panelbook.study.arms import ARMS, Arm

Kind = Literal["speech", "step", "answer", "outside"]

MOST_SEGMENTS = 500
"""A text that falls into more is kept whole from there on: nobody reads them, and a page has to show them."""


@dataclass(frozen=True)
class Segment:
    """One piece of a completion.

    Parameters
    ----------
    kind
        ``speech`` (of a voice), ``step`` (of reasoning without voices), ``answer`` or ``outside`` (of any tag).
    speaker
        The voice's label without marks; empty unless `kind` is ``speech``.
    text
        What is said: the piece without its tags, its label and the blanks around it.
    start, stop
        The piece with its tags and label, as a slice of the completion. The pieces tile it.
    """

    kind: Kind
    speaker: str
    text: str
    start: int
    stop: int


_ROLES = (
    "Expert|Persona|Panell?ist|Panel [Mm]ember|Member|Speaker|Participant|Agent|Person|Voice|Specialist|"
    "Mathematician|Statistician|Logician|Physicist|Chemist|Biologist|Economist|Scientist|Engineer|Analyst|"
    "Algebraist|Geometer|Theorist|Strategist|S[ck]eptic|Critic|Teacher|Tutor|Professor|Student|Programmer|"
    "Philosopher|Psychologist|Verifier|Checker|Reviewer|Historian|Lawyer|Doctor|Puzzler|Solver"
)
_CHAIRS = (
    "Moderator|Facilitator|Host|Chair|User|Assistant|Consensus|Panel|(?:Multi-Persona )?Panel of Experts"
)
_WORD = r"[A-Z][\w'’-]{0,24}"
_NUMBER = r"(?:[ ]#?\d{1,2}|[ ][A-Z]|[ ](?:One|Two|Three|Four|Five))(?!\w)"
_LINE = r"(?:\A|(?<=\n))[ \t]*"
_ANYWHERE = r"(?:\A|(?<=\n)|(?<=[.!?…)\]}$\"”'’*]\s)|(?<=[.!?…)\]}$\"”'’*]\s\s))[ \t]*"
_BEFORE = r"(?:[-•>][ ]|\#{1,4}[ ])?(?:\*{1,3}|__)?"
_AFTER = r"(?P<role>[ ]?\([^()\n:]{1,60}\))?(?:\*{1,3}|__)?[ \t]?:(?:\*{1,3}|__)?"

_NUMBERED = rf"(?:{_WORD}[ ]){{0,2}}(?:{_ROLES}){_NUMBER}"
_TITLED = rf"(?:Dr|Prof|Mr|Ms|Mrs|Professor)\.?[ ]{_WORD}(?:[ ]{_WORD})?"
_STRONG = rf"{_ANYWHERE}{_BEFORE}(?P<name>{_NUMBERED}|{_TITLED}){_AFTER}"
_MINIATURE = rf"{_ANYWHERE}(?P<name>Ada|Ben|Cy)(?P<role>)[ ]:"
_WEAK = rf"{_LINE}{_BEFORE}(?P<name>(?:{_WORD}[ ]){{0,3}}(?:{_ROLES})|{_CHAIRS}){_AFTER}"
_NAME = rf"{_LINE}{_BEFORE}(?P<name>[A-Z][A-Za-z'’-]{{1,24}}(?:[ ][A-Z][A-Za-z'’-]{{1,24}}){{0,2}}){_AFTER}"
_LABELS = tuple(re.compile(pattern) for pattern in (_STRONG, _MINIATURE, _WEAK))
_NAMES = re.compile(_NAME)

_NO_NAME = re.compile(
    "(?:Step|Case|Note|Check|Answer|Solution|Proof|Given|Then|Now|So|Therefore|Thus|Hence|Total|Result|Example|Option|"
    "Method|Approach|Let|First|Second|Third|Next|Finally|Since|Equation|Final|Conclusion|Verification|Day|Part)\\b"
)
"""First words that label parts of an argument and not who makes it."""

_ATOM = re.compile(r"\\\[|\\\]|\$\$|```")
_POINT = re.compile(r"(?:(?<=\n)|\A)[ \t]*(?:\*\*)?(?:Step[ ])?\d{1,2}[.):]\s")
_PARAGRAPH = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_SENTENCE = re.compile(r"(?<=\s\.)\s+")

_OPENING = tuple(dict.fromkeys(arm.open_tag for arm in ARMS.values() if arm.open_tag))
_CLOSING = tuple(dict.fromkeys(arm.close_tag for arm in ARMS.values() if arm.close_tag))
_ENDS = ("<|im_end|>", "<|endoftext|>")


def take_apart(completion: str, arm_name: str) -> list[Segment]:
    """Take a completion apart by the rule of this module.

    Returns
    -------
    Pieces in their order, none without text but a voice that says nothing; their slices tile the completion, so
    nothing is lost. What a slice has more than its text is tags, a label and blanks. Empty for a completion of
    blanks and tags alone.

    Examples
    --------
    >>> text = "<mutipersonaDebate> Ada : 3 + 4 = 7 . Ben : right . </mutipersonaDebate> <answer> 7 </answer>"
    >>> [(piece.kind, piece.speaker, piece.text) for piece in take_apart(text, "panel")]
    [('speech', 'Ada', '3 + 4 = 7 .'), ('speech', 'Ben', 'right .'), ('answer', '', '7')]
    """
    pieces: list[Segment] = []
    for kind, start, stop, inner, outer in _zones(completion, arm_name):
        if kind == "reasoning":
            pieces += _divide(completion, start, stop, inner, outer, panel=arm_name == "panel")
        else:
            pieces.append(Segment(kind, "", completion[inner:outer].strip(), start, stop))
    return _close_gaps(pieces, len(completion))


def read_voices(segments: Sequence[Segment]) -> list[str]:
    """Return who speaks, each once, in the order of their first turn."""
    return list(dict.fromkeys(segment.speaker for segment in segments if segment.kind == "speech"))


def drop_labels(trace: str, arm_name: str) -> str:
    r"""Return a reasoning trace, which stands between an arm's tags, without the labels that open its voices.

    Examples
    --------
    >>> drop_labels("Solver: 3 + 4 = 7.\nChecker: right.", "panel")
    '3 + 4 = 7.\nright.'
    """
    arm = ARMS.get(arm_name)  # type: ignore[call-overload]  # any string may be asked for
    opened = f"{arm.open_tag}{trace}" if arm and arm.open_tag else trace
    return "\n".join(piece.text for piece in take_apart(opened, arm_name))


_State = Literal["reasoning", "answer", "outside"]
_Zone = tuple[_State, int, int, int, int]


@cache
def _tags(arm: Arm | None) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, _State], re.Pattern[str]]:
    """Return the tags that open and close an arm's reasoning, what stands after each tag, and what finds them."""
    opening = _OPENING if arm is None else (arm.open_tag,) if arm.open_tag else ()
    closing = _CLOSING if arm is None else (arm.close_tag,) if arm.close_tag else ()
    ends = _ENDS if arm is None or arm.frame is None else ()
    states: dict[str, _State] = {
        **dict.fromkeys(opening, "reasoning"),
        **dict.fromkeys((*closing, *ends, "</answer>"), "outside"),
        "<answer>": "answer",
    }
    return opening, closing, states, re.compile("|".join(map(re.escape, states)))


def _zones(text: str, arm_name: str) -> list[_Zone]:
    """Divide a completion by its tags: (kind, slice with the tag that opens it, slice of what it says)."""
    arm = ARMS.get(arm_name)  # type: ignore[call-overload]  # any string may be asked for
    opening, closing, states, pattern = _tags(arm)
    tags = list(pattern.finditer(text))
    chat = arm is None or arm.frame is None
    found = {tag[0] for tag in tags}
    state: _State = "outside"
    opens = next((i for i, tag in enumerate(tags) if tag[0] in (*opening, *closing)), None)
    if (
        not opening
        or (arm is None and opens is None)
        or (chat and opens is not None and tags[opens][0] in closing)
    ):
        state = "reasoning"  # no tag is asked for, or the template has opened it
    zones: list[_Zone] = []
    start = inner = 0
    for tag in tags:
        zones.append((state, start, tag.start(), inner, tag.start()))
        state, start, inner = states[tag[0]], tag.start(), tag.end()
    zones.append((state, start, len(text), inner, len(text)))
    if chat and "<answer>" not in found:  # after thinking, or without it, a chat model just answers
        if arm is not None and opens is None:
            zones = [("answer", *zone[1:]) if i == 0 else zone for i, zone in enumerate(zones)]
        else:
            first = next((i for i, zone in enumerate(zones) if zone[0] == "reasoning"), len(zones))
            zones = [
                ("answer", *zone[1:]) if i > first and text.startswith(closing, zone[1]) else zone
                for i, zone in enumerate(zones)
            ]
    return zones


def _divide(text: str, start: int, stop: int, inner: int, outer: int, *, panel: bool) -> Iterator[Segment]:
    """Divide reasoning into voices, or else into steps."""
    said = text[inner:outer]
    labels = _find_labels(said, panel=panel)
    if len({speaker for _, _, speaker in labels}) >= (1 if panel else 2):
        first = labels[0][0]
        if said[:first].strip():
            yield Segment("step", "", said[:first].strip(), start, inner + first)
            start = inner + first
        for (_, after, speaker), (end, _, _) in pairwise([*labels, (len(said), 0, "")]):
            last = stop if end == len(said) else inner + end
            yield Segment("speech", speaker, said[after:end].strip(), start, last)
            start = last
        return
    cuts = _find_steps(said)
    for begin, end in pairwise([0, *cuts, len(said)]):
        last = stop if end == len(said) else inner + end
        yield Segment("step", "", said[begin:end].strip(), inner + begin if begin else start, last)


def _find_labels(said: str, *, panel: bool) -> list[tuple[int, int, str]]:
    """Return where each label begins and ends, and whose it is."""
    if ":" not in said:
        return []
    found = {match.start(): match for pattern in _LABELS for match in pattern.finditer(said)}
    if panel:
        names = [match for match in _NAMES.finditer(said) if not _NO_NAME.match(match["name"])]
        lines = Counter(match["name"] for match in names)
        if sum(n > 1 for n in lines.values()) > 1:
            found = {match.start(): match for match in names if lines[match["name"]] > 1} | found
    labels: list[tuple[int, int, str]] = []
    for _, match in sorted(found.items()):
        if labels and match.start() < labels[-1][1]:
            continue
        speaker = " ".join(f"{match['name']} {(match['role'] or '').strip()}".split())
        labels.append((match.start(), match.end(), speaker))
    return labels[:MOST_SEGMENTS]


def _find_steps(said: str) -> list[int]:
    """Return where a new step begins, inside the text."""
    cuts = {match.end() for match in _PARAGRAPH.finditer(said)}
    points = {match.start() for match in _POINT.finditer(said)}
    cuts |= points if len(points) > 1 else set()
    if cuts:
        closed = _atoms(said)
        begins = [begin for begin, _ in closed]
        cuts = {cut for cut in cuts if not (i := bisect_left(begins, cut)) or cut >= closed[i - 1][1]}
    if not any(said[:cut].strip() and said[cut:].strip() for cut in cuts):
        cuts = {match.end() for match in _SENTENCE.finditer(said)}
    return [cut for cut in sorted(cuts) if 0 < cut < len(said)][: MOST_SEGMENTS - 1]


def _atoms(said: str) -> list[tuple[int, int]]:
    """Return the slices of displayed formulas and code blocks that are closed; a blank line there is no new step."""
    atoms: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for mark in _ATOM.finditer(said):
        if opened is None:
            opened = None if mark[0] == r"\]" else mark
        elif mark[0] == {r"\[": r"\]"}.get(opened[0], opened[0]):
            atoms.append((opened.start(), mark.end()))
            opened = None
    return atoms


def _close_gaps(pieces: Sequence[Segment], length: int) -> list[Segment]:
    """Leave out pieces without text and give their slices, mere tags and labels, to their neighbours."""
    kept = [piece for piece in pieces if piece.text or piece.kind == "speech"]
    closed: list[Segment] = []
    for i, piece in enumerate(kept):
        start = closed[-1].stop if closed else 0
        stop = kept[i + 1].start if i + 1 < len(kept) else length
        closed.append(Segment(piece.kind, piece.speaker, piece.text, start, stop))
    return closed
