"""Every page in headless Chromium, as a reader opens it: from the file system, at two widths, in both themes."""

import re

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

# What must not be left for a reader to see outside code: markup that was never turned into a page.
MARKUP = re.compile(
    r"\$\$|\\frac|\\text\{|\\binom|\{(glue|numref|cite|doc|ref|eq)[:}]|Traceback \(most recent call"
)

TEXT_OUTSIDE_CODE = """() => {
  const copy = document.querySelector("article").cloneNode(true);
  copy.querySelectorAll("pre, code, mjx-container, script, style").forEach(node => node.remove());
  return copy.textContent;
}"""

# Paint each figure on a small canvas and count its distinct colours: a blank image has one.
FIGURES = """async () => {
  const found = [];
  for (const image of document.querySelectorAll("article figure img")) {
    image.scrollIntoView();
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [200, 200];
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, 200, 200);
    context.drawImage(image, 0, 0, 200, 200);
    const pixels = new Uint32Array(context.getImageData(0, 0, 200, 200).data.buffer);
    found.push([image.getAttribute("src"), image.naturalWidth, new Set(pixels).size]);
  }
  return found;
}"""

CONTRAST = """selector => {
  const luminance = colour => {
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
  return [...document.querySelectorAll(selector)].map(node => {
    const [a, b] = [parse(getComputedStyle(node).color).slice(0, 3), ground(node)].map(luminance);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""


def open_window(browser: Browser, size: str, theme: str) -> tuple[Page, list[str]]:
    """Return an empty page and the list that will hold its complaints: errors, requests to other hosts."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "requestfailed",  # one that is cut short by going to the next page has not failed
        lambda request: (
            complaints.append(f"failed: {request.url}") if request.failure != "net::ERR_ABORTED" else None
        ),
    )
    page.on(
        "request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None
    )
    return page, complaints


def visit(page: Page, url: str) -> None:
    """Go to a page and wait until its formulas are set."""
    page.goto(url)
    page.wait_for_load_state("load")
    if page.locator("article .math").count():
        page.wait_for_function(
            "document.querySelectorAll('article mjx-container').length > 0", timeout=20_000
        )
        page.evaluate("MathJax.startup.promise")


def open_page(browser: Browser, url: str, size: str, theme: str) -> tuple[Page, list[str]]:
    """Open a page in a window of its own; return it with its complaints."""
    page, complaints = open_window(browser, size, theme)
    visit(page, url)
    return page, complaints


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_every_page_opens_without_complaint_and_no_figure_is_blank(book, browser, size, theme):
    page, complaints = open_window(browser, size, theme)
    n_figures = 0
    for path in book.pages:
        if path.name == "index.html":
            continue  # a redirect to the introduction
        visit(page, path.as_uri())
        assert complaints == [], path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], (
            f"{path.name} is wider than {size}"
        )
        if page.locator("article").count():
            assert not MARKUP.search(page.evaluate(TEXT_OUTSIDE_CODE)), path.name
            assert page.locator("mjx-merror").count() == 0, f"{path.name}: MathJax could not set a formula"
        if path.parent.name == "chapters" and size == "desktop":
            for source, width, colours in page.evaluate(FIGURES):
                n_figures += 1
                assert width > 100, f"{path.name}: {source}"
                assert colours > 10, f"{path.name}: {source} is blank"
    assert n_figures >= 20 or size != "desktop"
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_text_tables_and_captions_can_be_read(book, browser, size, theme):
    path = book.html / "chapters" / "60_variance_band-olympiad.html"
    page, _ = open_page(browser, path.as_uri(), size, theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    for selector in (
        "article p",
        "article .text_html td",
        "article .text_html th",
        "article figcaption .caption-text",
    ):
        ratios = page.evaluate(CONTRAST, selector)
        assert ratios, selector
        assert min(ratios) >= 4.5, f"{selector}: contrast {min(ratios):.1f} to 1, below the 4.5 of WCAG AA"
    page.context.close()


def test_search_finds_a_chapter_offline(book, browser):
    page, complaints = open_page(
        browser, (book.html / "search.html").as_uri() + "?q=closure", "desktop", "light"
    )
    page.wait_for_selector("#search-results li a", timeout=20_000)
    assert any(
        "40_pass_at_k" in (link.get_attribute("href") or "")
        for link in page.locator("#search-results a").all()
    )
    assert complaints == []
    page.context.close()
