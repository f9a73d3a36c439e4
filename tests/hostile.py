"""Hostile completions: what a model may write, by chance or taught by someone, and no reader may obey.

`HOSTILE` is a list of `Hostile`, each with a name (for test ids), a text, and whether the text can be written as
UTF-8. Completions, questions, answers, problem ids and labels of imported files are all of them foreign text, so
every border is tried with these: files, parsing, grading, tables, pages, terminal.

    @pytest.mark.parametrize("text", TEXTS)          # ids are the names
    @pytest.mark.parametrize("text", ENCODABLE)      # without lone surrogates, for what goes into UTF-8 files

`MARKER` stands inside everything that would run: a page or terminal that shows it as text is right, one in which it
has become a tag, an attribute, an event or a global variable is not.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import pytest

MARKER = "pwned"


@dataclass(frozen=True)
class Hostile:
    """One hostile text and the name under which tests show it."""

    name: str
    text: str

    @property
    def encodable(self) -> bool:
        """Whether the text can be written as UTF-8: lone surrogates cannot."""
        try:
            self.text.encode()
        except UnicodeEncodeError:
            return False
        return True


def _panel(debate: str, answer: str = "4") -> str:
    return f"<mutipersonaDebate>{debate}</mutipersonaDebate> <answer>{answer}</answer>"


HOSTILE = [
    # Markup that runs.
    Hostile("script", _panel(f"Ann: <script>window.{MARKER}=1;alert(1)</script>")),
    Hostile("script_closed_early", f'</script><script>window.{MARKER}=1</script>"; window.{MARKER}=1; //'),
    Hostile("script_in_answer", _panel("Ann: fine", f"<script>window.{MARKER}=1</script>")),
    Hostile("script_case", f"<ScRiPt/x>window.{MARKER}=1</sCrIpT >"),
    Hostile("event_handlers", f'<img src=x onerror="window.{MARKER}=1"><svg/onload=window.{MARKER}=1>'),
    Hostile(
        "attribute_breakout",
        f"\"'><b onmouseover=window.{MARKER}=1 autofocus onfocus=window.{MARKER}=1 x=\"'",
    ),
    Hostile(
        "javascript_link", f'<a href="javascript:window.{MARKER}=1">x</a> [x](javascript:window.{MARKER}=1)'
    ),
    Hostile(
        "outside_requests",
        '<img src="https://example.com/x.png"><link rel=stylesheet href=//example.com/x.css>',
    ),
    Hostile(
        "style_and_iframe",
        f'<style>*{{display:none}}</style><iframe srcdoc="<script>parent.{MARKER}=1</script>">',
    ),
    Hostile("html_comment", "<!-- everything after this <![CDATA[ <p> is gone"),
    Hostile("json_in_script", f'<!--<script>{{"a":"</script><script>window.{MARKER}=1</script>"}}'),
    Hostile(
        "template_holes",
        f"{{{{ constructor.constructor('window.{MARKER}=1')() }}}} ${{window.{MARKER}=1}} <%= 1 %>",
    ),
    # Our own markup, closed or opened where it should not be.
    Hostile("close_debate", _panel("Ann: </mutipersonaDebate></answer></think> Ben: still talking?")),
    Hostile("close_page", "</pre></div></td></table></details></section></body></html> below the page"),
    Hostile("answer_in_debate", _panel("Ann: <answer>1</answer> Ben: <answer>2</answer>", "3")),
    Hostile("answer_twice", "<answer>1</answer><answer>2</answer>"),
    Hostile("answer_unclosed", "<mutipersonaDebate>Ann: hm</mutipersonaDebate><answer>4"),
    Hostile("tags_reversed", "</answer>4<answer></mutipersonaDebate>x<mutipersonaDebate>"),
    Hostile("entities", "&lt;script&gt; &amp;amp; &#60;b&#62; &nbsp &#x0; &unknown;"),
    # Characters that a reader does not see, or sees elsewhere.
    Hostile("bidi", "answer \u202e\u2066 4 \u2069\u202c is \u200f\u061c right \u2067 never closed"),
    Hostile("invisible", "a\u200bb\u200d\u2060\ufeffc\u00ad\U000e0041\U000e0042 \u3164"),
    Hostile("stacked_marks", "Z" + "\u0351\u0321" * 400),
    Hostile("line_separators", "one\u2028two\u2029three\x85four\x0bfive\x0csix\rseven\r\neight"),
    Hostile("null_bytes", "before\x00after\x00</answer>\x00"),
    Hostile("controls", "".join(chr(code) for code in (*range(1, 32), 127, *range(128, 160)))),
    Hostile("lone_surrogate", _panel("Ann: \ud800 and \udfff and \udc80", "4\ud83d")),
    Hostile("noncharacters", "\ufffe\uffff\U0001fffe\U0010ffff\ufffd"),
    # The terminal.
    Hostile("ansi_colours", f"\x1b[2J\x1b[H\x1b[31m{MARKER}\x1b[0m\x1b[8mhidden\x9b31mC1"),
    Hostile(
        "ansi_title_and_clipboard",
        f"\x1b]0;{MARKER}\x07\x1b]52;c;cHduZWQ=\x07\x1b]8;;https://example.com\x1b\\x\x1b]8;;\x1b\\",
    ),
    Hostile("ansi_query", "\x1b[6n\x1bP$q q\x1b\\\x1b[?1049h\x1bc"),
    Hostile("overwrite_line", "wrong\rright \x08\x08\x08\x08\x08\x08hidden"),
    Hostile(
        "rich_markup",
        f"[bold red]{MARKER}[/bold red] [link=https://example.com]x[/link] [/] [/nothing] \\[ [@click=app.bell]x[/]",
    ),
    # The book: markdown, MyST, glue, LaTeX.
    Hostile("myst_roles", "{glue:text}`accuracy` {download}`/etc/passwd` {eval}`1` {ref}`x` {{ accuracy }}"),
    Hostile(
        "myst_directives",
        "```{include} /etc/passwd\n```\n:::{raw} html\n<script>window.pwned=1</script>\n:::\n+++\n---\n",
    ),
    Hostile(
        "markdown",
        "# Heading\n\n- *a* **b** `c`\n\n| a | b |\n|---|---|\n| `|` | \\| |\n\n![x](https://example.com/x.png)\n\n[^1]\n\n````\n```",
    ),
    Hostile(
        "broken_latex",
        r"$\frac{1}{ $$ \begin{array}{c \left( \) \] \end{nothing} \input{/etc/passwd} \href{javascript:pwned=1}{x}",
    ),
    Hostile("recursive_latex", r"\boxed{\def\a{\a\a}\a} " + r"\frac{" * 200 + "1" + "}{2}" * 200),
    Hostile("latex_power", r"<answer>9^{9^{9^{9^{9}}}}</answer>"),
    Hostile("latex_factorial", "<answer>" + "(" * 500 + "100000000!" + ")" * 500 + "</answer>"),
    Hostile("csv_formula", "=cmd|' /C calc'!A0,+1,@SUM(1),\t\"\r\n;"),
    Hostile("json_text", '{"correct": true, "arm": "panel", "n": 1e999, "x": NaN}'),
    Hostile("path_text", "../../../../etc/passwd\\..\\..\\C:\\x|<>:?*"),
    # Size and shape.
    Hostile("empty", ""),
    Hostile("blank", " \t\n\u3000\u2003 \n"),
    Hostile("long_line", "x" * 1_000_000),
    Hostile("long_word_pairs", "ab " * 350_000),
    Hostile("open_answers", "<answer>" * 10_000),
    Hostile("open_answers_mb", "<answer>" * 130_000),
    Hostile("close_answers_mb", "</answer>" * 120_000),
    Hostile("open_debates_mb", "<mutipersonaDebate>" * 60_000),
    Hostile("close_debates_mb", "<mutipersonaDebate>" + "</mutipersonaDebate> " * 50_000),
    Hostile(
        "close_debate_then_blank_mb", "<mutipersonaDebate>a" + ("</mutipersonaDebate>" + " " * 1000) * 1000
    ),
    Hostile("blank_mb", "<mutipersonaDebate>" + " " * 1_000_000),
    Hostile("debate_answer_pairs_mb", "<mutipersonaDebate>" + "</mutipersonaDebate> <answer>" * 35_000),
    Hostile("voices_mb", _panel("Ann: yes. Ben: no.\n" * 55_000)),
    Hostile("names_mb", _panel("A b C d: " * 110_000)),
    Hostile("open_thinks_mb", "<think>" * 150_000),
    Hostile("nested_tags", "<div>" * 20_000 + "x" + "</div>" * 20_000),
    Hostile("nested_braces", "<answer>" + "{" * 20_000 + "1" + "}" * 20_000 + "</answer>"),
    Hostile("newlines_mb", "\n" * 1_000_000),
    Hostile("angle_brackets_mb", "<" * 1_000_000),
    Hostile("digits_mb", "<answer>" + "9" * 1_000_000 + "</answer>"),
]

BY_NAME = {hostile.name: hostile.text for hostile in HOSTILE}


def _choose(longest: float, *, encodable: bool) -> list[Any]:
    return [
        pytest.param(hostile.text, id=hostile.name)
        for hostile in HOSTILE
        if len(hostile.text) <= longest and (hostile.encodable or not encodable)
    ]


TEXTS = _choose(inf, encodable=False)
"""For `parametrize`: every text."""

ENCODABLE = _choose(inf, encodable=True)
"""For `parametrize`: those that UTF-8 can hold."""

SMALL = _choose(20_000, encodable=False)
"""For `parametrize`: those small enough for a page or a terminal."""

LABELS = _choose(2_000, encodable=True)
"""For `parametrize`: those that a table may hold as the name of something."""
