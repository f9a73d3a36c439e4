"""Hostile completions and labels through everything that reads them; see `hostile`.

What is tried is the same everywhere: no crash, no markup or control sequence that runs, the text unchanged (apart from
lone surrogates, which become U+FFFD), and time that grows with the length of the text, not with its square.
"""

import csv
import doctest
import io
import json
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hostile import BY_NAME, HOSTILE, LABELS, MARKER, SMALL, TEXTS
from rich.table import Table
from rich.text import Text

from panelbook.pipeline.commands.terminal import SafeConsole
from panelbook.publish import figures
from panelbook.publish.figures import style
from panelbook.publish.figures.style import stack
from panelbook.publish.results import show
from panelbook.rollouts.draw import Draw, read_answer
from panelbook.rollouts.embed import extract_traces
from panelbook.rollouts.imports import ImportFailed, Options, read_imports
from panelbook.rollouts.inspect_logs import describe_log
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, STATUSES, count_draws, read_rollouts
from panelbook.rollouts.store import Shard, compact, read_draws
from panelbook.rollouts.windows import STRIPS, strip_texts
from panelbook.study.arms import ARMS
from panelbook.study.grading import Grader
from panelbook.study.problems import Problem
from panelbook.study.voices import take_apart
from panelbook.text import mend


def make_row(text: str, number: int = 0, **changes: object) -> dict:
    row = {
        "study": "s", "profile": "p", "run_id": "r", "benchmark": "b", "problem_id": "q", "source": "b", "arm": "panel",
        "checkpoint": "base", "step": 0, "sample_id": number, "prompt_tokens": 3, "completion": text,
        "completion_tokens": 5, "stop_reason": "stop", "predicted": None, "status": "wrong", "tag_valid": False,
        "reward": -0.2, "seed": 1, "temperature": 1.0, "max_tokens": 9,
    }  # fmt: skip
    assert row.keys() == ROLLOUTS_COLUMNS.keys()
    return row | changes


class Measured:
    """Processor time of a block, which other work on the machine does not lengthen."""

    def __enter__(self) -> "Measured":
        self.started = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.started


# --- the study reads them ----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_megabyte_is_parsed_within_a_second(arm, text):
    with Measured() as parsing:
        for stop in ("stop", "length"):
            parsed = arm.parse(arm.close(text, stop))
    assert parsing.seconds < 1
    for part in (parsed.reasoning, parsed.answer):
        assert part is None or (part == part.strip() != "" and part in text)


@pytest.mark.parametrize("text", SMALL)
def test_voices_tile_the_text(text):
    for arm in (*ARMS, "an arm of someone else"):
        pieces = take_apart(text, arm)
        assert "".join(text[piece.start : piece.stop] for piece in pieces) in ("", text)


@pytest.fixture(scope="module")
def grader():
    with Grader(n_workers=1, limit_s=1.0) as grader:
        yield grader


@pytest.mark.parametrize("answer_type", ["int", "latex"])
def test_every_text_is_graded_in_bounded_time(grader, answer_type):
    grader.grade("x + 1", "1 + x", "latex")  # the workers start
    for hostile in HOSTILE:
        started = time.monotonic()
        for answer in {hostile.text, ARMS["panel"].parse(hostile.text).answer}:
            grade = grader.grade(answer, "4", answer_type)
            assert grade.status in STATUSES
        assert time.monotonic() - started < 8, (
            hostile.name
        )  # two answers, one second each, and a busy machine


def test_a_right_answer_among_hostile_text_is_right(grader):
    parsed = ARMS["panel"].parse(BY_NAME["script"])
    assert parsed.tag_valid
    assert grader.grade(parsed.answer, "4", "int").status == "correct"


# --- files --------------------------------------------------------------------------------------------


def test_draws_go_to_disk_and_back(tmp_path):
    """What a tokenizer makes of tokens is mended once, so that every later file can hold it."""

    class Bytes:
        def decode(self, tokens):
            return HOSTILE[tokens[0]].text

    class Drawn:
        logprobs = None
        stop_reason = "length"

        def __init__(self, number):
            self.tokens = [number]

    with Shard(tmp_path / "draws.jsonl") as shard:
        for number in range(len(HOSTILE)):
            draw = Draw(Problem("q", "b", "b", "?", "4", "int"), number, 1)
            answer = read_answer(draw, Drawn(number), [1], "panel", Bytes())
            shard.append(make_row(answer.completion, number))
    records, torn = read_draws(tmp_path)
    assert not torn
    compact(records, tmp_path / "rollouts.parquet")
    table = read_rollouts(tmp_path / "rollouts.parquet")
    assert list(table["completion"]) == [mend(hostile.text) for hostile in HOSTILE]
    assert count_draws(table)["n"].tolist() == [len(HOSTILE)]


def test_a_shard_of_another_writer_may_hold_lone_surrogates(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps(make_row(BY_NAME["lone_surrogate"])) + "\n", encoding="ascii"
    )
    records, _ = read_draws(tmp_path)
    table = compact(records, tmp_path / "out.parquet")
    assert table["completion"][0] == mend(BY_NAME["lone_surrogate"]) != BY_NAME["lone_surrogate"]


def test_brackets_without_end_are_no_draw(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a":' * 100_000 + "\n", encoding="ascii")
    _, torn = read_draws(tmp_path)
    assert [cut.line for cut in torn] == [1]


def rows_of_arm(hostiles):
    return [
        {"arm": "a", "problem_id": f"q{i}", "correct": True, "completion": h.text, "completion_tokens": 3}
        for i, h in enumerate(hostiles)
    ]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")


def write_json(path, rows):
    path.write_text(json.dumps(rows), encoding="ascii")


def write_csv(path, rows):
    pd.DataFrame(rows).to_csv(path, index=False, quoting=csv.QUOTE_ALL)


def write_parquet(path, rows):
    pd.DataFrame(rows).to_parquet(path)


def write_eval(path, rows):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"eval": {"model": "a", "task": "t"}}))
        for i, row in enumerate(rows):
            message = {"role": "assistant", "content": row["completion"]}
            output = {"choices": [{"message": message, "stop_reason": "stop"}], "usage": {"output_tokens": 3}}
            sample = {"id": f"q{i}", "epoch": 1, "output": output, "scores": {"s": {"value": "C"}}}
            archive.writestr(f"samples/{i}.json", json.dumps(sample))


WRITERS = [(write_jsonl, "x.jsonl"), (write_json, "x.json"), (write_csv, "x.csv"), (write_parquet, "x.parquet"),
           (write_eval, "x.eval")]  # fmt: skip


@pytest.mark.parametrize(("write", "name"), WRITERS, ids=[name for _, name in WRITERS])
def test_every_format_is_imported_word_for_word(write, name, tmp_path):
    escapes = name in (
        "x.jsonl",
        "x.json",
        "x.eval",
    )  # the others cannot hold a lone surrogate in the first place
    hostiles = [h for h in HOSTILE if (escapes or h.encodable) and h.text]
    write(tmp_path / name, rows_of_arm(hostiles))
    imported = read_imports([tmp_path / name], Options("mine"))
    kept = dict(zip(imported.rollouts["problem_id"], imported.rollouts["completion"], strict=True))
    for number, hostile in enumerate(hostiles):
        assert kept[f"q{number}"] == mend(hostile.text), hostile.name
    notes = [note for note in imported.notes if "U+FFFD" in note]
    assert [note.split()[0] for note in notes] == (["1"] if escapes else [])
    imported.rollouts.to_parquet(tmp_path / "out.parquet")


@pytest.mark.parametrize("content", ['{"a":' * 100_000, "[" * 100_000, '{"eval": ' + "[" * 100_000])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_brackets_without_end_are_refused_in_one_message(content, name, tmp_path):
    (tmp_path / name).write_text(content, encoding="ascii")
    with pytest.raises(ImportFailed, match=name):
        read_imports([tmp_path / name], Options("mine"))


@pytest.mark.parametrize("field", ["arm", "problem_id", "benchmark", "source", "checkpoint"])
def test_a_name_is_one_line_of_text_and_may_be_hostile_in_no_other_way(field, tmp_path):
    def take(name):
        row = {"arm": "a", "problem_id": "q", "correct": True, "completion_tokens": 1} | {field: name}
        write_jsonl(tmp_path / "x.jsonl", [row])
        return read_imports([tmp_path / "x.jsonl"], Options("mine")).counts[field][0]

    for name in ("script", "event_handlers", "myst_roles", "broken_latex", "rich_markup", "path_text"):
        assert take(BY_NAME[name]) == BY_NAME[name]
    for name in (
        "ansi_colours",
        "bidi",
        "null_bytes",
        "line_separators",
        "myst_directives",
        "long_line",
        "blank",
    ):
        with pytest.raises(ImportFailed, match=rf"{field}.*must be a name: a line of text") as refused:
            take(BY_NAME[name])
        assert "\x1b" not in str(refused.value)
        assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("stripped", STRIPS)
def test_what_is_embedded_is_never_empty_and_cut_in_bounded_time(stripped):
    table = pd.DataFrame([make_row(mend(hostile.text)) for hostile in HOSTILE])
    with Measured() as cutting:
        texts = strip_texts(table, stripped)
    assert cutting.seconds < 5  # 16 MB
    assert len(texts) == len(table)
    assert all(text.strip() for text in texts)
    assert len(extract_traces(table)) == len(table)


@pytest.mark.parametrize("text", LABELS)
def test_a_log_of_inspect_holds_every_text_word_for_word(text):
    log = describe_log(pd.DataFrame([make_row(text)]), {("b", "q"): (text, text)})
    (sample,) = json.loads(json.dumps(log))["samples"]
    parts = sample["messages"][1]["content"]
    assert "".join(part.get("reasoning", part.get("text")) for part in parts) in ("", text)
    assert sample["metadata"]["rollout"]["completion"] == sample["output"]["completion"] == text


# --- pages --------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects what a browser would build: tags with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", LABELS)
@pytest.mark.parametrize("place", ["cell", "heading", "index", "caption"])
def test_tables_of_a_page_show_text_and_make_no_markup_of_it(text, place):
    table = pd.DataFrame({"arm": ["plain"], "n": [3]})
    why = "a count"
    if place == "cell":
        table["arm"] = text
    elif place == "heading":
        table.columns = ["arm", text]
    elif place == "index":
        table = table.set_index(pd.Index([text], name=text))
    else:
        why = text
    html = show(table, why=why).to_html()
    page = Tags()
    page.feed(html)
    assert page.tags <= {"style", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert page.attributes <= {"id", "class", "type", "data-keeps"}
    assert html.count("<style") == html.count("</style") <= 1
    if MARKER in text:
        assert MARKER in page.text


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning", "ignore:constrained_layout:UserWarning")
def test_figures_take_any_name_of_an_arm():
    names = [label.values[0] for label in LABELS]  # noqa: PD011
    with plt.rc_context():
        figures.use_theme()
        fig, ax = plt.subplots()
        try:
            lines = [ax.plot([0, 1])[0] for _ in names]
            legend = ax.legend(lines, names)
            ax.set(title=BY_NAME["broken_latex"], xlabel="$", ylabel="$x$")
            fig.canvas.draw()
            assert [text.get_text() for text in legend.get_texts()] == names
        finally:
            plt.close(fig)


@pytest.mark.filterwarnings("error:constrained_layout:UserWarning")
@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.3-70B-Instruct-step-{}-v2", "x" * 900 + "{}", "<b>" * 30 + "{}"]
)
def test_long_names_leave_room_for_the_axes(name):
    """A layout that fails ends the chapter: what it says on stderr is no result."""
    first, second = name.format(1), name.format(2)
    fig, (ax,) = stack(1, height=1.4)
    for i, arm in enumerate((first, second)):
        ax.scatter(0.5, i, label=arm)
    ax.set_yticks([0, 1], [f"failed by\n{first}", f"failed by\n{second}"])
    ax.set(xlabel=f"right under {first}", ylabel=second)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    fig.canvas.draw()
    assert ax.get_position().width > 0.1


def test_examples_of_breaking_names():
    assert doctest.testmod(style).failed == 0
    assert style.break_words("a, of " * 20) == "a, of " * 20


# --- the terminal -------------------------------------------------------------------------------------


def print_all(*things: object, **options: object) -> str:
    file = io.StringIO()
    console = SafeConsole(file=file, width=100, force_terminal=True, color_system=None)
    for thing in things:
        console.print(thing, **options)
    return file.getvalue()


@pytest.mark.parametrize("text", SMALL)
def test_no_text_steers_the_terminal(text):
    table = Table("heading")
    table.add_row(Text(text))
    printed = print_all(Text(text), table) + print_all(text, markup=False, highlight=False)
    steering = {c for c in printed if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160}
    assert steering == set()
    assert not set(printed) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    printed.encode()  # nor does it end the program


def test_rich_itself_still_colours():
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, color_system="standard").print(
        "[red]x[/red]\x1b[32my", highlight=False
    )
    assert file.getvalue() == "\x1b[31mx\x1b[0m␛[32my\n"


def test_messages_of_the_command_line_quote_files_safely(panelbook, tmp_path, toy, monkeypatch):
    monkeypatch.chdir(toy.root)
    path = Path(tmp_path / "x.jsonl")
    column = "\x1b]0;pwned\x07\u202e[red]"
    write_jsonl(path, [{column: 1, "arm": "a"}])
    status, out, err = panelbook("import", path, "--name", "mine")
    assert status == 1
    assert "\x1b" not in out + err
    assert "␛]0;pwned␇<202E>[red]" in err
