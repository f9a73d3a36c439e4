"""No page may keep a reader out: axe-core finds no serious fault, and a keyboard and a phone reach everything.

Pages of one notebook differ in their numbers alone, so one of them stands for all. What axe finds depends little on
the size of the window and not on the theme, but for contrast: a page is examined once, as a phone shows it in the
dark, and its contrasts in the light of a desktop as well. Contrast is by far the slowest rule of axe; so it judges
those elements alone whose colours, by the plain formula, are too much alike.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from conftest import Built
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

STRUCTURE = {"rules": {"color-contrast": {"enabled": False}}, "resultTypes": ["violations"], "preload": False}
CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"], "preload": False}

RUN = """async ([context, options]) => {
  const { violations } = await axe.run(context, options);
  return violations
    .filter(found => found.impact === "serious" || found.impact === "critical")
    .flatMap(found => found.nodes.map(node => `${found.id}: ${node.html.slice(0, 160)}`));
}"""

# Mark one element for each pair of colours that the formula of WCAG 2 finds too much alike; axe then judges it.
SUSPECT = """() => {
  document.querySelectorAll("[data-suspect]").forEach(node => node.removeAttribute("data-suspect"));
  const parse = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (top, below) => top.rgb.map((x, i) => top.a * x + (1 - top.a) * below[i]);
  const ground = node => {
    if (!node) return [255, 255, 255];
    const own = parse(getComputedStyle(node).backgroundColor);
    return own.a === 1 ? own.rgb : over(own, ground(node.parentElement));
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(x => x / 255).map(x => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const seen = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let suspects = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest("mjx-container")) continue;
    const behind = ground(node);
    const ink = over(parse(getComputedStyle(node).color), behind);
    const look = `${ink} ${behind}`;
    if (seen.has(look)) continue;
    seen.add(look);
    const [a, b] = [ink, behind].map(luminance);
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) node.dataset.suspect = ++suspects;
  }
  return suspects;
}"""

UNNAMED_IMAGES = """() => [...document.querySelectorAll("img")]
  .filter(image => !image.closest("[aria-hidden=true]"))
  .map(image => [image.getAttribute("src"), image.getAttribute("alt") ?? ""])
  .filter(([source, alt]) => alt.trim().length < 4 || source.includes(alt.trim()))"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    yield context.new_page()
    context.close()


def open_page(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_load_state("load")
    page.evaluate("window.MathJax?.startup?.promise")
    page.evaluate(AXE_SCRIPT)


def find_faults(page: Page) -> list[str]:
    """Return what axe calls serious or critical in the open page, structure once and contrast in both themes."""
    found = page.evaluate(RUN, [{"include": [["html"]]}, STRUCTURE])
    for theme, size in (("dark", PHONE), ("light", DESKTOP)):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(size)
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        if page.evaluate(SUSPECT):
            suspects = {"include": [["[data-suspect]"]]}
            found += [f"{theme}: {fault}" for fault in page.evaluate(RUN, [suspects, CONTRAST])]
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    return found


def choose_pages(book: Built) -> list[Path]:
    """Return one page of each notebook, and every page that is written by hand."""
    kinds: dict[str, Path] = {}
    for path in book.pages:
        if path.name != "index.html":
            kinds.setdefault(path.name.partition("-")[0], path)
    return list(kinds.values())


def test_no_kind_of_page_has_a_serious_fault(book, page):
    faults, unnamed = {}, {}
    for path in choose_pages(book):
        open_page(page, path.as_uri())
        name = path.relative_to(book.html).as_posix()
        if found := find_faults(page):
            faults[name] = found[:5]
        if found := page.evaluate(UNNAMED_IMAGES):
            unnamed[name] = found
    assert faults == {}
    assert unnamed == {}


@pytest.mark.parametrize(
    ("markup", "rule"),
    [
        ('<img src="x.png">', "image-alt"),
        ("<button></button>", "button-name"),
        ('<p style="color: #999; background: #fff">grey on white</p>', "color-contrast"),
        ('<p>good</p><p style="color: #16181d; background: #121212">night</p>', "color-contrast"),
        ("<input>", "label"),
    ],
)
def test_the_examination_finds_a_fault_that_is_there(page, markup, rule):
    head = '<html lang="en" data-theme="dark"><title>x</title><main><h1>Title</h1>'
    script = """<script>matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
      event => { document.documentElement.dataset.theme = event.matches ? "dark" : "light" })</script>"""
    page.set_content(f"{head}{markup}</main>{script}")
    page.evaluate(AXE_SCRIPT)
    assert any(rule in fault for fault in find_faults(page))


def test_a_keyboard_reaches_the_text_first_and_shows_where_it_is(book, page):
    page.set_viewport_size(DESKTOP)
    open_page(page, (book.html / "methods.html").as_uri())
    page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert "main-content" in page.evaluate(f"{focused}.getAttribute('href') ?? ''")
    page.wait_for_function(
        f"{focused}.getBoundingClientRect().top >= 0", timeout=5_000
    )  # it slides into sight
    for _ in range(12):
        page.keyboard.press("Tab")
        shown = page.evaluate(
            f"""[{focused}, ...{focused}.querySelectorAll("*")].some(node => {{
              const style = getComputedStyle(node);
              return style.outlineStyle !== "none" || style.boxShadow !== "none";
            }})"""
        )
        assert shown, page.evaluate(f"{focused}.outerHTML.slice(0, 200)")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_first_screen_holds_the_answer_and_three_doors(book, page, size):
    page.set_viewport_size(size)
    open_page(page, (book.html / "intro.html").as_uri())
    doors = page.locator(".doors .sd-card").all()
    assert len(doors) == 3
    for box in (page.locator(selector).bounding_box() for selector in (".question", ".in-short")):
        assert box is not None
        assert box["y"] + box["height"] <= size["height"]
    for door in doors:
        box = door.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= size["height"]
        link = door.locator("a").first
        assert (link.get_attribute("href") or "").split("#")[0] in ("", *(p.name for p in book.pages), "#")
