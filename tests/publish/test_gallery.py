"""Transcripts on a page: hostile text stays text, none of it is lost, and the form works in a browser."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from panelbook.publish.gallery import FOLDED, MOST_CHARS, escape_text, show_cases, show_gallery, show_text
from panelbook.rollouts.casestudy import RATING_COLUMNS, VERDICTS, read_ratings

CSS = Path(__file__).resolve().parents[2] / "book" / "_static" / "book.css"
HOSTILE = (
    "<script>window.hit = 1</script>",
    "</div></pre></article></section></details></script><script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>\" onmouseover=\"window.hit = 1",
    "<mutipersonaDebate> Expert 1: <svg onload=window.hit=1> Expert 2: </pre> </mutipersonaDebate> <answer><b>",
    "a\u202eb\u2066c\x00d\x1be\ud800f\ufeffg\u2028h\rk",
    "&lt;script&gt; &amp;amp; &#60;",
    "<!-- --> ]]> <![CDATA[ <style>*{display:none}</style>",
    "x" * 1_000_000,
)
TAGS = {"div", "h3", "article", "p", "strong", "code", "pre", "span", "details", "summary", "a", "section", "dl", "dt",
        "dd", "fieldset", "legend", "label", "input", "button", "script"}  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of a piece of HTML: its elements and its text."""

    VOID = ("input",)

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "script" not in self.open:
            self.texts.append(data)


def check_inert(text):
    """Check that a page has elements of ours alone, all closed, without handlers."""
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.elements:
        assert tag in TAGS, tag
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc")]
    return page


def cases(completion, **changes):
    row = {"situation": "a case", "arm": "panel", "problem_id": "p", "sample_id": 0, "completion": completion,
           "predicted": "1", "status": "wrong", "completion_tokens": 5, "note": "a note"} | changes  # fmt: skip
    return pd.DataFrame([row], dtype=object)  # strings of pandas hold no lone surrogate


class TestEscape:
    @given(st.text(st.characters(), max_size=200))
    def test_no_text_makes_markup_or_cannot_be_written(self, text):
        shown = escape_text(text)
        assert not re.search("[<>\"'\x00\u202e]", shown)
        shown.encode("utf-8")
        assert Page(shown).elements == []

    @given(st.text(st.sampled_from("ab<>&'\"\n\té漢😀"), max_size=100))
    def test_what_is_visible_comes_back_as_it_was(self, text):
        assert "".join(Page(escape_text(text)).texts) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a\u202eb", "a⟦U+202E⟧b"),
            ("\x00", "⟦U+0000⟧"),
            ("\ud800", "⟦U+D800⟧"),
            ("a\u200bb", "a⟦U+200B⟧b"),
            ("\U000e0041", "⟦U+E0041⟧"),
            ("a\r\nb\rc", "a\nb⟦U+000D⟧c"),
            ("a\tb\nc", "a\tb\nc"),
        ],
    )
    def test_hidden_characters_become_visible(self, text, shown):
        assert escape_text(text) == shown

    def test_a_line_without_end_is_shortened_with_a_note(self):
        shown = escape_text("a" * 999_000 + "z" * 1000)
        assert len(shown) < MOST_CHARS + 100
        assert f"⟦{1_000_000 - MOST_CHARS:,} characters are left out here⟧" in shown
        assert shown.endswith("z" * 1000)

    def test_the_longest_text_that_is_not_shortened(self):
        assert "⟦" not in escape_text("a" * MOST_CHARS)
        assert "⟦1 characters" in escape_text("a" * (MOST_CHARS + 1))


class TestText:
    def test_voices_are_marked_and_nothing_is_lost(self):
        said = "<mutipersonaDebate> Ada : 7 . Ben : right . Ada : done . </mutipersonaDebate> <answer> 7 </answer>"
        page = check_inert(show_text(said, "panel"))
        assert "".join("".join(page.texts).split()) == "".join(said.split())
        marks = [attributes["class"].split()[1] for tag, attributes in page.elements if tag == "span"]
        assert marks == ["gallery-voice-1", "gallery-voice-2", "gallery-voice-1", "gallery-answer"]

    def test_a_long_text_is_folded_and_shows_how_it_ends(self):
        said = f"<think> {'so ' * FOLDED} </think> <answer> forty-two </answer>"
        page = check_inert(show_text(said, "think"))
        assert [tag for tag, _ in page.elements][:2] == ["details", "summary"]
        assert page.texts[-1] == "forty-two"
        assert "<details" not in show_text(said, "think", fold=False)

    @pytest.mark.parametrize("said", ["", " \n ", "<answer>", "no tags at all"])
    def test_texts_without_parts_are_shown(self, said):
        page = check_inert(show_text(said, "panel"))
        assert "".join(page.texts).strip() == said.strip()


class TestCases:
    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_texts_stay_texts_wherever_they_stand(self, text):
        short = text[:3000].replace("\ud800", "")  # no key of a table may hold one
        shown = show_cases(
            cases(
                text, situation=short, arm=short, problem_id=short, predicted=short, status=short, note=short
            ),
            {short: short},
            [f"../explore/index.html#r={short}"],
        )
        shown.encode("utf-8")
        assert len(shown) < 400_000
        assert "script" not in [tag for tag, _ in check_inert(shown).elements]

    def test_links_and_questions_are_those_of_the_draw(self):
        table = pd.concat([cases("x"), cases("y", sample_id=7, problem_id="q")]).set_index(pd.Index([5, 9]))
        page = check_inert(show_cases(table, {"q": "How many?"}, ["e#r=1", "e#r=2"]))
        assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == ["e#r=1", "e#r=2"]
        text = " ".join(page.texts)
        assert text.count("How many?") == 1
        assert "q, draw 7: wrong (" in "".join(page.texts)

    def test_no_explorer_no_link(self):
        assert "<a " not in show_cases(cases("x"), {})

    def test_a_missing_answer_is_named(self):
        assert "no answer" in show_cases(cases("x", predicted=pd.NA), {})


@pytest.fixture
def transcripts():
    rows = [
        {
            "problem_id": problem,
            "category": "Kind & <b>kin</b>",
            "question": f"Question {problem}?",
            "tests": "whether",
            "expected": "</dd><script>window.hit = 1</script>",
            "arm": arm,
            "max_tokens": 6000,
            "raw": f"{HOSTILE[1]} {HOSTILE[4]} text of {arm} on {problem}",
            "reasoning": "",
            "answer": "",
        }
        for problem in "abc"
        for arm in ("panel", "thinking")
    ]
    return pd.DataFrame(rows, dtype=object)


@pytest.fixture
def first(transcripts):
    verdicts = ["right", "right", "wrong", "right", "right", "unclear"]
    return transcripts[["problem_id", "arm"]].assign(
        verdict=verdicts, why="</p><script>window.hit = 1</script>"
    )


class TestGallery:
    def test_is_inert_complete_and_hides_the_form_until_a_script_runs(self, transcripts, first):
        shown = show_gallery(transcripts, first, "panelbook run x")
        page = check_inert(shown)
        forms = [attributes for tag, attributes in page.elements if tag == "fieldset"]
        assert len(forms) == 6
        assert all("hidden" in attributes for attributes in forms)
        assert [tag for tag, attributes in page.elements if "hidden" in attributes and tag != "fieldset"] == [
            "p",
            "section",
        ]
        names = {attributes["name"] for tag, attributes in page.elements if tag == "input"}
        assert len(names) == 6
        assert "".join(page.texts).count("The first reader's verdict") == 6

    def test_the_script_holds_no_data_and_the_data_no_markup(self, transcripts, first):
        shown = show_gallery(transcripts, first, "x")
        data, script = re.findall(r"<script[^>]*>(.*?)</script>", shown, re.S)
        assert "<" not in data
        assert json.loads(data)["first"] == first[["problem_id", "arm", "verdict"]].to_numpy().tolist()
        other = show_gallery(transcripts, first.assign(verdict="right"), "x")
        assert script == re.findall(r"<script[^>]*>(.*?)</script>", other, re.S)[1]
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval|https?:", script)

    def test_ids_of_problems_cannot_end_the_data(self, transcripts, first):
        strange = {"a": "</script><script>window.hit = 1</script>"}
        tables = [
            table.assign(problem_id=table["problem_id"].replace(strange)) for table in (transcripts, first)
        ]
        page = check_inert(show_gallery(*tables, "x"))
        assert [tag for tag, _ in page.elements].count("script") == 2

    def test_verdicts_must_be_on_these_transcripts(self, transcripts, first):
        with pytest.raises(ValueError, match="one-to-one"):
            show_gallery(transcripts, pd.concat([first, first]), "x")


@pytest.mark.browser
class TestForm:
    @pytest.fixture
    def url(self, transcripts, first, tmp_path):
        head = '<!doctype html><html lang="en" data-theme="dark"><head><meta charset="utf-8"><title>x</title>'
        body = show_gallery(
            transcripts, first, "panelbook run gallery -p second_rater=params/ratings/second.csv"
        )
        path = tmp_path / "page.html"
        path.write_text(
            f"{head}<style>{CSS.read_text()}</style></head><body>{body}</body></html>", encoding="utf-8"
        )
        return path.as_uri()

    @pytest.fixture
    def context(self, browser):
        context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
        context.set_default_timeout(5000)
        yield context
        context.close()

    @pytest.fixture
    def page(self, context, url):
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: page.complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(url)
        return page

    @staticmethod
    def choose(page, problem, arm, verdict):
        page.check(f"input[name='verdict-{problem}-{arm}'][value={verdict}]")

    @staticmethod
    def said(page):
        return page.inner_text(".gallery-live")

    def test_hostile_texts_did_nothing_and_the_page_fits_a_phone(self, page):
        assert page.evaluate("window.hit") is None
        assert page.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_the_first_verdict_is_hidden_until_mine_is_given(self, page):
        why = page.locator(".gallery-first p").first
        assert not why.is_visible()
        self.choose(page, "a", "panel", "wrong")
        assert why.is_visible()
        assert not page.locator(".gallery-first p").nth(1).is_visible()

    def test_kappa_follows_and_agrees_with_scikit_learn(self, page, first):
        mine = ["right", "wrong", "wrong", "right", "unclear", "unclear"]
        self.choose(page, "a", "panel", "right")
        assert "agree with the first reader on 1; Cohen's kappa is undefined" in self.said(page)
        for row, verdict in zip(first.itertuples(), mine, strict=True):
            self.choose(page, row.problem_id, row.arm, verdict)
        assert f"kappa is {cohen_kappa_score(first['verdict'], mine):.2f}." in self.said(page)
        assert "You have read 6 of 6. You agree with the first reader on 4" in self.said(page)
        self.choose(page, "a", "thinking", "right")  # a mind changed
        mine[1] = "right"
        assert f"kappa is {cohen_kappa_score(first['verdict'], mine):.2f}." in self.said(page)

    def test_verdicts_survive_a_reload_and_can_be_forgotten(self, page):
        self.choose(page, "b", "panel", "unclear")
        page.reload()
        assert page.is_checked("input[name='verdict-b-panel'][value=unclear]")
        assert "You have read 1 of 6" in self.said(page)
        page.on("dialog", lambda dialog: dialog.accept())
        page.click(".gallery-clear")
        assert "You have read 0 of 6" in self.said(page)
        assert page.locator("input:checked").count() == 0
        page.reload()
        assert "You have read 0 of 6" in self.said(page)

    def test_what_is_downloaded_is_what_the_stage_reads(self, page, transcripts, tmp_path):
        assert page.is_disabled(".gallery-save")
        page.locator(".gallery-first summary").nth(2).click()  # seen before it is judged
        for i, row in enumerate(transcripts.itertuples()):
            self.choose(page, row.problem_id, row.arm, VERDICTS[i % 3])
        assert "On 1 you had seen the first reader's verdict before" in self.said(page)
        with page.expect_download() as download:
            page.click(".gallery-save")
        path = tmp_path / "second.csv"
        download.value.save_as(path)
        assert download.value.suggested_filename == "second.csv"
        assert list(read_ratings(path, transcripts)["verdict"]) == list(VERDICTS) * 2
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        assert tuple(rows[0]) == RATING_COLUMNS
        assert [row[3] for row in rows[1:]] == ["", "", "after seeing the first verdict", "", "", ""]

    def test_damaged_or_foreign_storage_is_no_obstacle(self, page):
        for kept in ("{", "null", "7", '[["z\\u0000panel","right",false],["a\\u0000panel","<b>",false]]'):
            page.evaluate("kept => localStorage.setItem('panelbook-gallery-verdicts', kept)", kept)
            page.reload()
            assert "You have read 0 of 6" in self.said(page)
        assert page.complaints == []

    def test_keyboard_alone_is_enough(self, page):
        page.focus("input[name='verdict-a-panel']")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        assert page.is_checked("input[name='verdict-a-panel'][value=wrong]")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        role = page.get_by_role("group", name="Your verdict on panel, problem a")
        assert role.get_by_role("radio", name="wrong").is_checked()

    def test_without_scripts_the_page_is_complete_and_shows_no_dead_form(self, browser, url):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(url)
        assert not page.locator("input").first.is_visible()
        assert not page.locator(".gallery-score").is_visible()
        assert page.get_by_text("text of thinking on c").first.is_visible()
        page.locator(".gallery-first summary").first.click()
        assert page.locator(".gallery-first p").first.is_visible()
        context.close()
