"""Dials in headless Chromium, as a reader meets them: a static page, the script and the book's CSS."""

import json
import re
import shutil
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

import panelbook
from panelbook.measure.uncertainty import Resampling
from panelbook.project import Project
from panelbook.publish.chapter_dials import dial_group_size, dial_k, dial_ticks
from panelbook.publish.dials import Dial

pytestmark = pytest.mark.browser

HOSTILE = '</script><img src=x onerror="window.hacked=1">&lt;b&gt;'
R = Resampling(seed=1, n_resamples=200)

# The theme's colours, as far as the book's own CSS asks for them.
THEME = """
html { --pst-color-text-base: #222832; --pst-color-text-muted: #48566b; --pst-color-background: #fff;
  --pst-color-border: #c9ced6; --pst-color-primary: #0a7d91; }
html[data-theme="dark"] { --pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af;
  --pst-color-background: #121212; --pst-color-border: #48566b; --pst-color-primary: #3fb1c5; }
body { background: var(--pst-color-background); color: var(--pst-color-text-base); margin: 8px; font: 16px sans-serif; }
"""

# Contrast of everything that has text of its own, SVG text included, against the nearest ground that is painted.
CONTRAST = """() => {
  const light = colour => {
    const [r, g, b] = colour.map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const own = node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  return [...document.querySelectorAll(".dial *")].filter(node => own(node) && node.tagName !== "SCRIPT").map(node => {
    const style = getComputedStyle(node);
    const ink = parse(node instanceof SVGElement ? style.fill : style.color).slice(0, 3);
    const [a, b] = [ink, ground(node)].map(light);
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent];
  });
}"""


def make_counts(second: str) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {"arm": arm, "problem_id": f"p{i}", "n": 8, "c": int(rng.binomial(8, rate))}
            for arm, rate in (("panel", 0.3), (second, 0.7))
            for i in range(12)
        ]
    )


def make_ticks() -> Dial:
    heldout = pd.DataFrame({"step": [0, 10, 20], "source": "a", "n_problems": 25, "c": [5, 9, 14]})
    trajectory = pd.DataFrame(
        {
            "step": [0, 10, 20],
            "source": "all",
            "estimate": [0.2, 0.36, 0.56],
            "low": [0.07, 0.18, 0.35],
            "high": [0.41, 0.57, 0.76],
            "n_problems": 25,
            "n_draws": 25,
            "method": "exact",
        }
    )
    return dial_ticks(heldout, trajectory, "panel", R, (0, 20))


@pytest.fixture(scope="module")
def dials() -> list[Dial]:
    """A slider with a choice, bars, two sliders, and an arm whose name is an attack."""
    return [
        dial_k(make_counts("think"), "panel", "think", R),
        dial_group_size(make_counts("think"), "panel", "think", R),
        make_ticks(),
        dial_k(make_counts(HOSTILE), "panel", HOSTILE, R),
    ]


@pytest.fixture(scope="module")
def address(dials: list[Dial], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dials")
    package = Project.find().root / "lib" / panelbook.__name__
    shutil.copy(package / "publish" / "web" / "dials.js", folder)
    css = (Project.find().book / "_static" / "book.css").read_text(encoding="utf-8")
    body = "".join(f'<div class="text_html">{one._repr_html_()}</div>' for one in dials)
    page = folder / "page.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>dials</title><style>{THEME}{css}</style><body class="bd-content">{body}'
        '<script src="dials.js" defer></script>',
        encoding="utf-8",
    )
    return page.as_uri()


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    options = {"viewport": {"width": 1000, "height": 900}} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    assert errors == []


def expected(dial: Dial, *at: int) -> str:
    """Return the readout of a frame, worked out from the data without the script."""
    number = 0
    for knob, place in zip(dial.data["knobs"], at, strict=True):
        number = number * len(knob["texts"]) + place
    return "".join(
        part
        if isinstance(part, str)
        else part["label"]
        if "label" in part
        else f"{part['value']} ({part['interval']})"
        for one in dial.data["frames"][number]["say"]
        for part in one
    )


def test_the_arrow_keys_move_readout_chart_table_and_what_is_read_aloud(page, dials):
    box = page.locator(".dial").nth(0)
    slider = box.get_by_role("slider", name="draws per problem, k")
    assert box.locator(".dial-readout").text_content() == expected(dials[0], 0, 0)
    before = box.locator(".dial-mark").first.evaluate("node => node.style.transform")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert box.locator(".dial-readout").text_content() == expected(dials[0], 3, 0)
    assert slider.get_attribute("aria-valuetext") == "4 draws"
    assert box.locator(".dial-mark").first.evaluate("node => node.style.transform") != before
    numbers = [mark[5] for mark in dials[0].data["frames"][9]["points"]]
    assert box.locator(".dial-value").all_text_contents() == numbers
    box.get_by_text("Table of this view").click()
    cells = box.locator("tbody td").all_text_contents()
    assert cells == [text for mark in dials[0].data["frames"][9]["points"] for text in mark[5:]]
    assert expected(dials[0], 3, 0)[:20] in (box.get_by_role("img").get_attribute("aria-label") or "")
    assert box.locator(".dial-readout").get_attribute("aria-live") == "polite"


def test_a_mark_stands_where_its_number_says(page, dials):
    """Solved shares lie on an axis from 0 to 1: heights of marks in pixels must be in proportion."""
    box = page.locator(".dial").nth(0)
    page.wait_for_timeout(300)
    ticks = {
        node.text_content(): node.bounding_box()
        for node in box.locator("svg.dial-picture > text[text-anchor=end]").all()
    }
    zero, one = (ticks[text]["y"] + ticks[text]["height"] / 2 for text in ("0%", "100%"))
    for shape, mark in zip(
        box.locator(".dial-shape").all(), dials[0].data["frames"][0]["points"], strict=True
    ):
        found = shape.bounding_box()
        share = (zero - found["y"] - found["height"] / 2) / (zero - one)
        assert share == pytest.approx(mark[2], abs=0.02)
    for whisker, mark in zip(
        box.locator(".dial-whisker").all(), dials[0].data["frames"][0]["points"], strict=True
    ):
        length = whisker.bounding_box()["height"] / (zero - one)
        assert length == pytest.approx(mark[4] - mark[3], abs=0.02)


def test_the_choice_changes_the_chart_and_reset_undoes_all(page, dials):
    box = page.locator(".dial").nth(0)
    box.get_by_role("radio", name="beside a weaker copy").check()
    assert box.locator(".dial-readout").text_content() == expected(dials[0], 0, 2)
    assert "weaker copy of think" in box.locator(".dial-legend").text_content()
    box.get_by_role("slider").press("End")
    assert box.locator(".dial-readout").text_content() == expected(dials[0], 7, 2)
    box.get_by_role("button", name="Reset").click()
    assert box.locator(".dial-readout").text_content() == expected(dials[0], 0, 0)
    assert box.get_by_role("slider").input_value() == "0"
    assert box.get_by_role("radio", name="problems solved").is_checked()


def test_two_sliders_and_an_order_that_makes_no_sense(page, dials):
    box = page.locator(".dial").nth(2)
    start = box.get_by_role("slider", name="first evaluation")
    start.press("End")
    assert (
        box.locator(".dial-readout").text_content()
        == "Choose a first evaluation that comes before the second."
    )
    start.press("ArrowLeft")
    assert box.locator(".dial-readout").text_content() == expected(dials[2], 1, 2)
    assert box.locator(".dial-mark").count() == 2


def test_dials_of_one_page_do_not_move_each_other(page, dials):
    page.locator(".dial").nth(0).get_by_role("slider").press("End")
    assert page.locator(".dial").nth(1).locator(".dial-readout").text_content() == expected(dials[1], 6)
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
    assert len(ids) == len(set(ids))


def test_an_arm_called_like_an_attack_is_only_text(page):
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img:not([role])").count() == 0
    assert HOSTILE in page.locator(".dial").nth(3).locator(".dial-legend").text_content()


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_nothing_of_a_dial_is_seen(page):
    assert page.locator(".dial").count() == 4
    assert page.locator(".dial:visible, .dial-note:visible").count() == 0


def test_paper_does_not_show_it(page):
    assert page.locator(".dial:visible").count() == 4
    page.emulate_media(media="print")
    assert page.locator(".dial:visible").count() == 0


@pytest.mark.parametrize(
    "page",
    [{"viewport": {"width": 390, "height": 844}}, {"viewport": {"width": 320, "height": 700}}],
    indirect=True,
)
def test_a_phone_shows_it_without_scrolling_sideways(page):
    page.locator(".dial").nth(0).get_by_role("radio", name="beside a weaker copy").check()
    for summary in page.locator(".dial summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    picture = page.locator(".dial").nth(1).locator(".dial-picture").bounding_box()
    for text in page.locator(".dial").nth(1).locator(".dial-picture text").all():
        box = text.bounding_box()
        assert box["x"] >= picture["x"] - 1
        assert box["x"] + box["width"] <= picture["x"] + picture["width"] + 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_is_legible_in_both_themes(page, theme):
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    page.get_by_text("Table of this view").nth(0).click()
    found = page.evaluate(CONTRAST)
    assert len(found) > 50
    assert [pair for pair in found if pair[0] < 4.5] == []


def test_colour_is_not_the_only_mark(page, dials):
    lines = page.locator(".dial").nth(0).locator(".dial-curve")
    assert len({line.get_attribute("stroke-dasharray") for line in lines.all()}) == 2
    shapes = page.locator(".dial").nth(0).locator(".dial-shape")
    assert len({shape.get_attribute("d") for shape in shapes.all()}) == 2


@pytest.mark.parametrize(
    ("page", "seconds"),
    [({"reduced_motion": "reduce"}, 0.0), ({"reduced_motion": "no-preference"}, 0.18)],
    indirect=["page"],
)
def test_marks_glide_only_for_readers_who_want_that(page, seconds):
    text = page.locator(".dial-mark").first.evaluate("node => getComputedStyle(node).transitionDuration")
    assert max(float(found) for found in re.findall(r"[\d.]+", text)) == seconds


def test_data_that_cannot_be_read_leaves_the_box_hidden_and_the_others_at_work(
    browser, address, dials, tmp_path
):
    good = dials[0]._repr_html_()
    broken = json.loads(json.dumps(dials[0].data)) | {"frames": []}
    page_file = tmp_path / "page.html"
    page_file.write_text(
        f'<div class="dial" hidden><script type="application/json">{json.dumps(broken)}</script></div>{good}'
        f'<script src="{address.replace("page.html", "dials.js")}"></script>',
        encoding="utf-8",
    )
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(page_file.as_uri())
    assert page.locator(".dial:visible").count() == 1
    assert any("0 frames for 24 positions" in text for text in said)
    page.close()
