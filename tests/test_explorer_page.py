"""The rollout explorer in headless Chromium, opened from the file system as `write_explorer` leaves it."""

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from hostile import HOSTILE, MARKER
from playwright.sync_api import Browser, Page, expect

from panelbook.publish.explorer import explore, rollout_id, write_explorer

pytestmark = pytest.mark.browser

LOOKS = {"desktop": ((1280, 900), "light"), "phone": ((390, 844), "dark")}

KEY = ["run_id", "arm", "checkpoint", "problem_id", "sample_id"]


def make_draws() -> pd.DataFrame:
    """Return draws of two arms at two checkpoints on three problems; only `sum-2` parts the arms."""
    rows = []
    for number in range(3):
        for arm in ("panel", "think"):
            for checkpoint in ("base", "step 5"):
                for sample in range(3):
                    correct = number == 2 and arm == "panel" and sample == 1
                    thought = (
                        f"Expert 1: let $x_{sample}$ be {number}.\n\nExpert 2: then \\(x^2 \\ge 0\\), a walrus."
                        if arm == "panel"
                        else f"First, {number} is small.\n\nThen \\[ \\frac{{1}}{{2}} \\] follows."
                    )
                    frame = "mutipersonaDebate" if arm == "panel" else "think"
                    rows.append(
                        {
                            "study": "toy",
                            "run_id": "run1",
                            "benchmark": "sums",
                            "source": "easy" if number else "hard",
                            "problem_id": f"sum-{number}",
                            "arm": arm,
                            "checkpoint": checkpoint,
                            "step": 0 if checkpoint == "base" else 5,
                            "sample_id": sample,
                            "completion": f"<{frame}>\n{thought}\n</{frame}>\n<answer>{sample}</answer>",
                            "completion_tokens": 20 + 10 * number + sample,
                            "status": "correct" if correct else "wrong",
                            "predicted": str(sample),
                            "stop_reason": "stop",
                            "tag_valid": True,
                            "seed": 7,
                            "temperature": 1.0,
                            "max_tokens": 99,
                        }
                    )
    return pd.DataFrame(rows)


def make_places(draws: pd.DataFrame) -> pd.DataFrame:
    """Return places on a grid, so that a test knows where a draw lies: x by the row, y by the arm."""
    return draws[KEY].assign(
        x=[float(i) for i in range(len(draws))], y=[float(arm == "panel") for arm in draws["arm"]]
    )


def make_neighbours(draws: pd.DataFrame) -> pd.DataFrame:
    """Return, for every draw of the panel, the think draw of the same number as nearest."""
    mine = draws[draws["arm"] == "panel"][KEY].reset_index(drop=True)
    others = {f"other_{name}": mine[name] for name in KEY if name != "problem_id"} | {"other_arm": "think"}
    return mine.assign(**others, relation="near", rank=0, distance=0.125)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draws = make_draws()
    problems = pd.DataFrame(
        {
            "problem_id": [f"sum-{i}" for i in range(3)],
            "question": ["What is $1 + 1$?", "It costs \\$5. What is $\\frac{4}{2}$?", None],
            "gold": ["2", "2", "1"],
        }
    )
    folder = tmp_path_factory.mktemp("explorer") / "explore"
    return write_explorer(
        folder, draws, problems, make_places(draws), make_neighbours(draws), title="Toy", back="../intro.html"
    )


Open = Callable[..., tuple[Page, list[str]]]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page and give it with its complaints: console errors, script errors, requests that leave the files."""
    contexts = []

    def open_it(page_path: Path, hash_: str = "", look: str = "desktop") -> tuple[Page, list[str]]:
        (width, height), theme = LOOKS[look]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.set_default_timeout(15_000)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: (
                None if re.match("(file|data|blob|about):", request.url) else complaints.append(request.url)
            ),
        )
        page.goto(page_path.as_uri() + hash_)
        return page, complaints

    yield open_it
    for context in contexts:
        context.close()


def draw_id(problem: str, arm: str, checkpoint: str, sample: int) -> str:
    return rollout_id(
        {
            "run_id": "run1",
            "arm": arm,
            "checkpoint": checkpoint,
            "problem_id": problem,
            "sample_id": sample,
        }
    )


def pane(page: Page, side: str) -> Any:
    return page.locator(f'.pane[data-side="{side}"]')


def label(page: Page, side: str) -> str:
    return pane(page, side).get_attribute("aria-label")


def expect_count(page: Page, count: str) -> None:
    expect(page.locator(".order .count b")).to_have_text(count)


def expect_label(page: Page, side: str, part: str) -> None:
    expect(pane(page, side)).to_have_attribute("aria-label", re.compile(re.escape(part)))


@pytest.mark.parametrize("look", LOOKS)
def test_opens_on_a_problem_where_the_arms_disagree(written, open_page, look):
    page, complaints = open_page(written, look=look)
    page.wait_for_selector(".reasoning")
    assert label(page, "left") == "Left pane: sum-2, panel, base, draw 1, correct"
    assert label(page, "right") == "Right pane: sum-2, think, base, draw 0, wrong"
    assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look][0][0]
    assert page.evaluate("document.documentElement.dataset.theme") == LOOKS[look][1]
    assert page.title() == "Toy"
    assert pane(page, "left").locator(".speaker").all_inner_texts() == ["Expert 1", "Expert 2"]
    assert pane(page, "left").locator("math").count() == 2
    assert pane(page, "left").locator(".facts").inner_text().count("7") == 1
    assert "do not hold this problem" in page.locator(".problem").inner_text()
    assert complaints == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("hash_", ["", "#map=arm", "#raw=1&q=walrus"])
def test_axe_finds_nothing_serious(written, open_page, look, hash_):
    page, _ = open_page(written, hash_, look)
    page.wait_for_selector(".pane .text", state="attached")
    if look == "phone" and hash_:
        page.locator(".tabs button").nth(1).click()
    page.locator(".sieve summary").evaluate("node => node.parentElement.open = true")
    page.wait_for_timeout(400)
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], [node["html"][:120] for node in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_filters_narrow_the_list_and_reset(written, open_page):
    page, complaints = open_page(written)
    page.wait_for_selector(".reasoning")
    expect_count(page, "36")
    page.locator(".sieve summary").click()
    page.get_by_label("correct", exact=False).first.check(force=True)
    expect_count(page, "2")
    assert page.locator(".item").count() == 2
    page.locator(".value", has_text="base").locator("input").check(force=True)
    expect_count(page, "1")
    assert "status=correct" in page.url
    assert "checkpoint=base" in page.url
    page.get_by_role("button", name="Reset").click()
    expect_count(page, "36")
    page.get_by_label("Outcome of the problem").select_option("only:panel")
    expect_count(page, "12")
    page.get_by_label("Outcome of the problem").select_option("")
    page.locator(".range input").first.fill("42")
    expect_count(page, "4")
    assert complaints == []


def test_search_reads_the_texts(written, open_page):
    page, complaints = open_page(written)
    page.wait_for_selector(".reasoning")
    page.keyboard.press("/")
    page.keyboard.type("WALRUS")
    expect_count(page, "18")
    assert pane(page, "left").locator("mark").inner_text() == "walrus"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")
    page.locator("#search").fill("no such words")
    page.wait_for_selector("text=No rollout passes these filters")
    assert complaints == []


def test_a_link_restores_the_whole_view(written, open_page):
    first, second = draw_id("sum-1", "think", "step 5", 2), draw_id("sum-1", "panel", "base", 0)
    hash_ = f"#r={first}&o={second}&side=right&arm=panel,think&source=easy&min=25&sort=-tokens&map=status&raw=1&q=x"
    page, complaints = open_page(written, hash_)
    page.wait_for_selector(".raw")
    assert label(page, "right") == "Right pane: sum-1, think, step 5, draw 2, wrong"
    assert label(page, "left") == "Left pane: sum-1, panel, base, draw 0, wrong"
    assert page.locator(".pane.current").get_attribute("data-side") == "right"
    assert page.locator("#search").input_value() == "x"
    assert page.get_by_label("Sort by").input_value() == "tokens"
    assert page.locator(".map canvas").is_visible()
    assert "<mutipersonaDebate>" in pane(page, "left").locator(".raw").inner_text()
    expect_count(page, "12")
    again, _ = open_page(written, "#" + page.url.partition("#")[2])
    assert label(again, "right") == label(page, "right")
    assert again.url == page.url
    assert complaints == []


def test_links_to_a_problem_and_to_nothing(written, open_page):
    page, _ = open_page(written, "#p=sum-1")
    page.wait_for_selector(".reasoning")
    assert label(page, "left") == "Left pane: sum-1, panel, base, draw 0, wrong"
    assert page.locator(".question").inner_text().startswith("It costs $5. What is")
    assert page.locator(".question math mfrac").count() == 1
    page, _ = open_page(written, "#r=0000000000")
    page.wait_for_selector("text=The link names a rollout that these data do not hold.")
    assert "sum-2" in label(page, "left")


def test_back_and_forward(written, open_page):
    page, _ = open_page(written)
    page.wait_for_selector(".reasoning")
    start = label(page, "left")
    page.keyboard.press("p")
    expect_label(page, "left", "sum-1")
    page.go_back()
    expect_label(page, "left", "sum-2")
    assert label(page, "left") == start
    page.go_forward()
    expect_label(page, "left", "sum-1")


def test_keys(written, open_page):
    page, complaints = open_page(written)
    page.wait_for_selector(".reasoning")
    for key, side, said in (
        ("1", "left", "sum-2, panel, base, draw 2"),
        ("1", "left", "sum-2, panel, base, draw 0"),
        ("Shift+1", "left", "sum-2, panel, base, draw 2"),
        ("2", "right", "sum-2, think, base, draw 1"),
        ("j", "right", "sum-2, think, base, draw 2"),
        ("k", "right", "sum-2, think, base, draw 1"),
        ("ArrowUp", "right", "sum-2, think, base, draw 0"),
        ("p", "left", "sum-1, panel"),
    ):
        page.keyboard.press(key)
        expect_label(page, side, said)
    page.keyboard.press("m")
    expect(page.locator(".map")).to_be_visible()
    page.keyboard.press("m")
    expect(page.locator(".map")).to_have_count(0)
    page.keyboard.press("r")
    expect(page.locator(".raw")).to_have_count(2)
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    before = label(page, "left")
    page.keyboard.press("j")  # the page behind a dialog keeps still
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert label(page, "left") == before
    page.locator(".list").focus()
    page.keyboard.press("End")
    expect(page.locator('.item[aria-selected="true"]')).to_have_attribute("aria-posinset", "36")
    assert page.locator(".list").get_attribute("aria-activedescendant") == page.locator(
        '.item[aria-selected="true"]'
    ).get_attribute("id")
    assert complaints == []


def test_map_opens_what_is_clicked_or_chosen_by_key(written, open_page):
    page, complaints = open_page(written, "#map=arm")
    page.wait_for_selector(".reasoning")
    canvas = page.locator(".map canvas")
    box = canvas.bounding_box()
    # Places run from (0, 1) to (35, 0), and the page keeps one scale: the first draw lies at the left edge.
    scale = (box["width"] - 2 - 32) / 35
    page.mouse.click(box["x"] + 1 + 16, box["y"] + box["height"] / 2 - scale / 2)
    expect_label(page, "left", "sum-0, panel, base, draw 0")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect_label(page, "left", "sum-0, panel, base, draw 1")
    assert "36 of 36 rollouts with a place" in page.locator("#map-words").inner_text()
    assert complaints == []


def test_a_neighbour_opens_in_the_other_pane(written, open_page):
    page, _ = open_page(written)
    page.wait_for_selector(".neighbours")
    page.locator(".neighbours summary").first.click()
    entry = pane(page, "left").locator(".neighbours li button")
    assert "0.125" in entry.inner_text()
    entry.click()
    expect_label(page, "right", "sum-2, think, base, draw 1")
    assert "sum-2, panel, base, draw 1" in label(page, "left")


def test_export(written, open_page):
    page, complaints = open_page(written, "#status=correct")
    page.wait_for_selector(".reasoning")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export 2 as JSONL").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    draws = make_draws()
    right = draws[draws["status"] == "correct"].sort_values("step")
    assert [line["completion"] for line in lines] == right["completion"].tolist()
    assert [line["checkpoint"] for line in lines] == ["base", "step 5"]
    assert {line["seed"] for line in lines} == {7}
    assert complaints == []


def test_copied_link_leads_back(written, browser, open_page):
    page, _ = open_page(written)
    page.wait_for_selector(".reasoning")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_selector(".notice")
    shown = page.locator(".notice").inner_text()
    link = page.evaluate("navigator.clipboard.readText()") if "is copied" in shown else shown
    assert f"#r={draw_id('sum-2', 'panel', 'base', 1)}" in link


SHORT = [item for item in HOSTILE if len(item.text) < 300_000]
"""The longer ones differ in size alone; `test_a_long_text_is_cut_until_asked_for` has one."""


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an explorer in which everything a model or an imported file may say is hostile."""
    rows = [
        {
            "arm": arm,
            "problem_id": f"{number:03d} {item.text[:60]}",
            "checkpoint": f"<img src=x onerror=window.{MARKER}=1>\u202e",
            "run_id": "\x1b[31m",
            "source": "<b>\x00",
            "completion": item.text,
            "predicted": item.text[:200],
            "status": "wrong" if arm == "panel" else "correct",
        }
        for number, item in enumerate(SHORT)
        for arm in ("panel", "think", f"<script>window.{MARKER}=1</script>")
    ]
    latex = "\\href{javascript:pwned=1}{x} \\class{a}{x} \\style{position:fixed}{x} \\htmlData{a=b}{x}"
    for number, tex in enumerate(
        [*latex.split(" "), "\\url{https://example.com}", "\\includegraphics{x.png}"]
    ):
        for arm in ("panel", "think"):
            rows.append(
                rows[0] | {"arm": arm, "problem_id": f"tex-{number}", "completion": f"\\({tex}\\) $x^2$"}
            )
    draws = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})
    ids = list(dict.fromkeys(draws["problem_id"]))
    texts = [SHORT[i % len(SHORT)].text for i in range(len(ids))]
    problems = pd.DataFrame({"problem_id": ids, "question": texts, "gold": texts}, dtype=object)
    folder = tmp_path_factory.mktemp("hostile") / "explore"
    title = f"</title><script>window.{MARKER}=1</script>"
    return write_explorer(folder, draws, problems, title=title, back="javascript:window.pwned=1", note=title)


INJECTED = """() => ({
  pwned: window.pwned,
  tags: [...document.querySelectorAll(
    '#explorer :is(img, script, iframe, style, svg, link, object, form:not(.finder))'
  )].map(n => n.outerHTML),
  links: [...document.querySelectorAll('#explorer a')].map(n => n.href),
  handlers: [...document.querySelectorAll('#explorer *')]
    .filter(n => [...n.attributes].some(a => /^on|srcdoc/.test(a.name))).length,
  wide: document.documentElement.scrollWidth > innerWidth,
  escapes: /[\\u0000-\\u0008\\u000e-\\u001f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText),
})"""
CLEAN = {"pwned": None, "tags": [], "links": [], "handlers": 0, "wide": False, "escapes": False}


def test_hostile_texts_stay_texts(hostile_page, open_page):
    page, complaints = open_page(hostile_page)
    page.wait_for_selector(".pane")
    problems = len(SHORT) + 6
    for number in range(problems):
        for side in ("left", "right"):
            pane(page, side).locator(".text, .absent, .trouble").first.wait_for(state="attached")
        if number % 10 == 0:
            page.keyboard.press("r")
        assert page.evaluate(INJECTED) == CLEAN, page.locator(".problem h2").inner_text()
        page.keyboard.press("n")
    assert page.locator(".problem h2").inner_text() == "tex-5"
    assert complaints == []


def test_refused_latex_is_shown_as_its_source(hostile_page, open_page):
    page, _ = open_page(hostile_page, "#p=tex-0")
    page.wait_for_selector(".pane math")
    assert "\\href{javascript:pwned=1}{x}" in pane(page, "left").locator(".reasoning").inner_text()
    assert page.evaluate(INJECTED) == CLEAN


def test_a_long_text_is_cut_until_asked_for(tmp_path, open_page):
    draws = make_draws().head(2).assign(completion="x" * 1_000_000)
    page, _ = open_page(write_explorer(tmp_path / "explore", draws, title="Long"))
    page.get_by_role("button", name="Show all 1,000,000 characters").first.click()
    assert page.evaluate("document.querySelector('.pane .text').textContent.length") == 1_000_000
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_text_in_very_many_pieces_is_cut_too(tmp_path, open_page):
    draws = make_draws().head(2).assign(completion="</mutipersonaDebate> <answer>" * 2_000, arm="think")
    page, _ = open_page(write_explorer(tmp_path / "explore", draws, title="Pieces"))
    page.wait_for_selector("text=more pieces follow")
    assert page.locator(".pane .text").count() < 1500


# --- data that are not whole ---------------------------------------------------------------------------


def pack(data: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(data).encode(), mtime=0)).decode()


def read_index(folder: Path) -> dict[str, Any]:
    packed = re.search(r'"([^"]+)"', (folder / "data/index.js").read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def write_index(folder: Path, index: dict[str, Any]) -> None:
    (folder / "data/index.js").write_text(f'panelbookExplorer.index("{pack(index)}");')


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a copy of the explorer that a test may damage."""
    return Path(shutil.copytree(written.parent, tmp_path / "explore"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file is missing"),
        ('panelbookExplorer.shard(0, "H4sI', "it holds no data"),
        ('panelbookExplorer.shard(0, "H4sIAAAAAAAA");', "it does not unpack"),
        (f'panelbookExplorer.shard(0, "{pack({"rows": []})}");', "it holds 0 rollouts, not 36"),
    ],
)
def test_a_broken_shard_is_named_and_the_rest_works(folder, open_page, content, message):
    shard = folder / "data/shard-000.js"
    whole = shard.read_text()
    shard.unlink()
    if content is not None:
        shard.write_text(content)
    page, _ = open_page(folder / "index.html")
    page.wait_for_selector(f".trouble >> text={message}")
    page.keyboard.press("j")
    expect_label(page, "left", "draw 2")
    assert "42 of at most 99" in pane(page, "left").locator(".facts").inner_text()
    again = pane(page, "left").get_by_role("button", name="Try again")
    again.wait_for()  # the next draw asks for the file once more; mended before that, it would just open
    shard.write_text(whole)
    again.click()
    page.wait_for_selector(".reasoning")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: index | {"format": 99}, "The index has format 99; this page reads format 1."),
        (lambda index: index | {"columns": {}}, "no list of columns.id"),
        (lambda index: [], "The index is not as expected"),
    ],
)
def test_an_index_that_cannot_be_used_says_why(folder, open_page, damage, message):
    write_index(folder, damage(read_index(folder)))
    page, complaints = open_page(folder / "index.html")
    page.wait_for_selector(f"[role=alert] >> text={message}")
    assert complaints == []


def test_a_cut_or_missing_index_says_so(folder, open_page):
    index = folder / "data/index.js"
    index.write_text(index.read_text()[:200] + '");')
    page, _ = open_page(folder / "index.html")
    page.wait_for_selector("[role=alert] >> text=The index of the rollouts cannot be read")
    index.unlink()
    page, _ = open_page(folder / "index.html")
    page.wait_for_selector("[role=alert] >> text=data/index.js, is missing or broken")


def test_an_empty_index_opens(folder, open_page):
    index = read_index(folder)
    empty = {"problems": [], "shards": [], "columns": {name: [] for name in index["columns"]}}
    write_index(folder, index | empty)
    page, complaints = open_page(folder / "index.html")
    page.wait_for_selector("text=There is no rollout here")
    for key in ("j", "n", "1", "m", "m"):
        page.keyboard.press(key)
    expect_count(page, "0")
    assert complaints == []


def test_one_arm_one_draw_no_map_no_question(tmp_path, open_page):
    draws = pd.DataFrame({"arm": ["mine"], "problem_id": ["a"], "completion": ["four"], "correct": [None]})
    page, complaints = open_page(write_explorer(tmp_path / "explore", draws, title="One"), "#map=arm")
    page.wait_for_selector(".reasoning")
    assert "no other draw of this problem" in page.locator(".pane.vacant").inner_text()
    assert "These data have no map" in page.locator(".map").inner_text()
    assert "not graded" in label(page, "left")
    page.keyboard.press("2")
    page.keyboard.press("j")
    assert complaints == []


def test_without_scripts_there_is_a_word(written, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert "scripts are switched off" in page.locator("noscript").inner_text()
    context.close()


def test_all_in_one_document_within_a_notebook(tmp_path, open_page):
    draws = make_draws()
    frame = tmp_path / "notebook.html"
    frame.write_text(f"<!doctype html><title>x</title>{explore(draws)._repr_html_()}", encoding="utf-8")
    page, complaints = open_page(frame)
    inside = page.frame_locator("iframe")
    inside.locator(".reasoning").first.wait_for()
    assert inside.locator(".item").count() > 5
    inside.locator(".list").press("Home")
    inside.locator('.pane[aria-label*="sum-1, panel, base, draw 0"]').wait_for()
    inside.get_by_role("button", name="Auto").click()
    assert complaints == []
