"""Transcripts on a page: completions as inert text, side by side, and a form in which a reader gives verdicts.

A completion is hostile text. Everything of it that reaches a page goes through `escape_text`: markup becomes text,
characters that hide or reorder others become visible, and what no page can carry is shortened with a note.

The gallery is complete without scripts. Where they run, `gallery.js` turns a hidden form on: verdicts are kept in the
reader's browser, compared with the first reader's as they are given, and downloaded in the form that
`panelbook.rollouts.casestudy.read_ratings` reads. The script holds no data and the data hold no script: verdicts stand
in an element of JSON in which no `<` is left.

Not handled: typesetting formulas in transcripts. They are shown as they were written.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

from panelbook.rollouts.casestudy import RATING_COLUMNS, VERDICTS
from panelbook.study.voices import Segment, read_voices, take_apart

MOST_CHARS = 60_000
"""Characters of a text that a page shows; of a longer one its beginning and its end."""

FOLDED = 2_500
"""Texts with more characters than this are folded."""

# What a reader cannot see or what changes the order of what they see: controls but tab and line feed, marks of
# direction, separators that are no line feed to a browser, invisible operators, byte order marks, lone surrogates and
# the invisible letters of "tags".
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff"
    "\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
# How many colours mark voices; see `.gallery-voice-…` in book.css.
_COLOURS = 6


def escape_text(text: str, most: int = MOST_CHARS) -> str:
    r"""Return hostile text as HTML that shows it and does nothing.

    Parameters
    ----------
    text
        Anything, lone surrogates included.
    most
        Characters that are kept: three quarters from the beginning, the rest from the end, a note between them.

    Examples
    --------
    >>> escape_text("</pre><img src=x onerror='1'>"), escape_text("a\u202eb\x00")
    ('&lt;/pre&gt;&lt;img src=x onerror=&#x27;1&#x27;&gt;', 'a⟦U+202E⟧b⟦U+0000⟧')
    """
    if len(text) > most:
        head, tail = text[: 3 * most // 4], text[len(text) - most // 4 :]
        note = f"\n⟦{len(text) - len(head) - len(tail):,} characters are left out here⟧\n"
        return escape_text(head, most) + note + escape_text(tail, most)
    text = text.replace("\r\n", "\n")
    return html.escape(_HIDDEN.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text), quote=True)


def show_text(completion: str, arm: str, *, fold: bool = True) -> str:
    """Return a completion as escaped text in which the voices, the answer and the rest can be told apart.

    Tags and labels stand where the model wrote them; of blanks, those between two pieces are left out.

    Parameters
    ----------
    completion
        Raw text.
    arm
        Name of its arm, for `panelbook.study.voices.take_apart`.
    fold
        Whether a long one is shown folded: its answer open, the rest behind a button.
    """
    pieces = take_apart(completion, arm)
    voices = {voice: i % _COLOURS + 1 for i, voice in enumerate(read_voices(pieces))}
    if not pieces or len(completion) > MOST_CHARS:
        shown = [f"<span>{escape_text(completion)}</span>"]
        answer = ""
    else:
        shown = [_show_piece(completion, piece, voices) for piece in pieces]
        answer = next((piece.text for piece in reversed(pieces) if piece.kind == "answer"), "")
    text = f'<pre class="gallery-text" dir="auto">{"".join(shown)}</pre>'
    if not fold or len(completion) <= FOLDED:
        return text
    end = f'<p class="gallery-label">How it ends</p><pre class="gallery-text" dir="auto">{_end(answer)}</pre>'
    last = end if answer else ""
    return f"<details><summary>The whole text, {len(completion):,} characters</summary>{text}</details>{last}"


def show_cases(cases: pd.DataFrame, questions: Mapping[str, str], links: Sequence[str] = ()) -> str:
    """Return chosen draws side by side, one block per kind.

    Parameters
    ----------
    cases
        One row per draw, in order: situation, arm, problem_id, sample_id, completion, predicted, status,
        completion_tokens, and note (what is to be seen; may be blank).
    questions
        Question of each problem; those that are not there are left out.
    links
        Address of each draw in the explorer, in the order of the rows; none where there is no explorer.
    """
    blocks = []
    targets = dict(zip(cases.index, links, strict=True)) if links else {}
    for situation, rows in cases.groupby("situation", sort=False):
        title = str(situation)
        blocks.append(f'<h3>{escape_text(title[:1].upper() + title[1:])}</h3><div class="rollouts">')
        blocks += [_show_case(row, questions, targets.get(row.Index, "")) for row in rows.itertuples()]
        blocks.append("</div>")
    return f'<div class="gallery tex2jax_ignore mathjax_ignore">{"".join(blocks)}</div>'


def show_gallery(transcripts: pd.DataFrame, first: pd.DataFrame, command: str) -> str:
    """Return all transcripts with the form for a second reader.

    Parameters
    ----------
    transcripts
        As `panelbook.rollouts.casestudy.read_case_study` returns them.
    first
        The first reader's verdicts on them, in the same order: problem_id, arm, verdict, why.
    command
        What a second reader runs with the downloaded file.
    """
    table = transcripts.merge(first, on=["problem_id", "arm"], validate="one_to_one")
    blocks = []
    for problem_id, rows in table.groupby("problem_id", sort=False):
        head = rows.iloc[0]
        place = f"case-{escape_text(str(problem_id))}"
        blocks.append(
            f'<section class="gallery-problem" aria-labelledby="{place}">'
            f'<h3 id="{place}">{escape_text(str(problem_id))} · {escape_text(head["category"])}</h3>'
            f"<dl><dt>Problem</dt><dd>{escape_text(head['question'])}</dd>"
            f"<dt>What it tests</dt><dd>{escape_text(head['tests'])}</dd>"
            f'<dt>Expected answer</dt><dd>{escape_text(head["expected"])}</dd></dl><div class="rollouts">'
        )
        blocks += [_show_transcript(row) for row in rows.itertuples()]
        blocks.append("</div></section>")
    return (
        '<div class="gallery tex2jax_ignore mathjax_ignore" id="gallery">'
        f"{''.join(blocks)}{_show_score(command)}</div>{_show_script(first)}"
    )


def _show_piece(completion: str, piece: Segment, voices: Mapping[str, int]) -> str:
    """One piece of a completion as a block of its own, marked by what it is."""
    kind = f"gallery-voice-{voices[piece.speaker]}" if piece.kind == "speech" else f"gallery-{piece.kind}"
    return f'<span class="gallery-piece {kind}">{escape_text(completion[piece.start : piece.stop].strip())}</span>'


def _end(answer: str, chars: int = 400) -> str:
    """Last lines of an answer."""
    if len(answer) <= chars:
        return escape_text(answer)
    cut = answer[-chars:]
    return "… " + escape_text(cut[cut.find("\n") + 1 :] if "\n" in cut[: chars // 2] else cut)


def _show_case(row: Any, questions: Mapping[str, str], link: str) -> str:
    """One draw, its grade above it."""
    question = questions.get(row.problem_id, "")
    asked = f"<p>{escape_text(question)}</p>" if question else ""
    note = f'<p class="gallery-note">{escape_text(row.note)}</p>' if row.note else ""
    more = f'<p><a href="{escape_text(link)}">See it in the explorer</a></p>' if link else ""
    said = "no answer" if pd.isna(row.predicted) else row.predicted
    return (
        f'<article class="rollout rollout-{escape_text(row.status)}"><p><strong>{escape_text(row.arm)}</strong> on '
        f"{escape_text(row.problem_id)}, draw {int(row.sample_id)}: {escape_text(row.status)} "
        f"(<code>{escape_text(said, 200)}</code>), {int(row.completion_tokens):,} tokens</p>"
        f"{asked}{note}{show_text(row.completion, row.arm)}{more}</article>"
    )


def _show_transcript(row: Any) -> str:
    """One transcript with the form for a verdict and, folded, the first reader's."""
    problem, arm = escape_text(row.problem_id), escape_text(row.arm)
    buttons = "".join(
        f'<label><input type="radio" name="verdict-{problem}-{arm}" value="{choice}"> {choice}</label>'
        for choice in VERDICTS
    )
    length = f"{len(row.raw):,} characters, {len(row.raw.split()):,} words; the limit was {row.max_tokens:,} tokens"
    return (
        f'<article class="rollout" aria-label="{arm}, problem {problem}">'
        f"<p><strong>{arm}</strong> · {length}</p>{show_text(row.raw, row.arm)}"
        f'<fieldset class="gallery-form" data-problem="{problem}" data-arm="{arm}" hidden>'
        f"<legend>Your verdict on {arm}, problem {problem}</legend>{buttons}</fieldset>"
        f'<details class="gallery-first"><summary>The first reader&#x27;s verdict</summary>'
        f"<p><strong>{escape_text(row.verdict)}</strong>: {escape_text(row.why)}</p></details></article>"
    )


def _show_score(command: str) -> str:
    """Score of the second reader and buttons; hidden until the script finds that it runs."""
    return (
        '<p class="gallery-live" role="status" hidden></p>'
        '<section class="gallery-score" aria-label="Your reading" hidden>'
        '<p><button type="button" class="gallery-save">Download second.csv</button> '
        '<button type="button" class="gallery-clear">Forget my verdicts</button></p>'
        "<details><summary>What to do with the file</summary><p>Put it into <code>params/ratings/</code> of a checkout "
        f"and run <code>{escape_text(command)}</code>: this page then shows your verdicts too.</p></details></section>"
    )


def _show_script(first: pd.DataFrame) -> str:
    """Show nothing, but carry the data, as JSON in which no markup can begin, and the script, which holds none."""
    rows = first[["problem_id", "arm", "verdict"]].to_numpy().tolist()
    data = json.dumps({"columns": RATING_COLUMNS, "verdicts": VERDICTS, "first": rows}).replace(
        "<", "\\u003c"
    )
    script = resources.files("panelbook.publish").joinpath("gallery.js").read_text(encoding="utf-8")
    return f'<script type="application/json" id="gallery-data">{data}</script>\n<script>\n{script}</script>'
