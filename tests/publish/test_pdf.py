"""The book as a PDF: order, links and bookmarks as a reader of the file finds them, and what goes wrong."""

import stat
from pathlib import Path

import pytest
from pypdf import PdfReader

from panelbook.publish import pdf
from panelbook.publish.pages import _copy_mathjax
from panelbook.publish.pdf import Cover, Part, PrintError, find_browser, list_parts, print_book

TOC = {
    "root": "intro",
    "parts": [
        {
            "caption": "Live & well",
            "chapters": [
                {"file": "chapters/10_a-one", "title": "A", "sections": [{"file": "chapters/10_a-two"}]},
                {"file": "methods"},
            ],
        }
    ],
}
COVER = Cover("Panel or “monologue”", "The developers", ("Built today",))

PAGES = {
    "intro": """<h1>First page<a class="headerlink" href="#x">#</a></h1>
        <p>See <a href="chapters/10_a-one.html#fig-a">the figure</a>, <a href="https://example.org/a">a site</a>,
        <a href="https://example.org/b">example.org/b</a> and <a href="downloads/a.csv" download>a file</a>.</p>""",
    "chapters/10_a-one": f"""<h1 id="top">Does a rather long question, which fills more than a line of a page,
        keep its spaces?</h1><h2>A section</h2>
        <details class="hide above-input"><summary>Show code</summary><pre>hidden_code()</pre></details>
        <pre>shown_code()</pre><p>Half: <span class="math notranslate">\\(\\frac{{1}}{{2}}\\)</span></p>
        <figure id="fig-a"><img alt="a square" loading="lazy" src="../_images/a.svg"></figure>
        <p class="takeaway"><span class="takeaway-files">SVG PNG</span> <span>Reproduce it: panelbook run a</span></p>
        <details><summary>A word</summary>opened</details>
        <details open><summary>The whole text</summary>{"very " * 500}long</details>
        <div class="dial">a dial</div><script>document.title = "owned"</script>
        <p><a href="10_a-two.html">next</a> <a href="#top">up</a></p>""",
    "chapters/10_a-two": "<h1 id='top'>Second</h1><p>&lt;script&gt;text of a model&lt;/script&gt;</p>",
    "methods": "<h1>Methods</h1><p>Words.</p>",
}


@pytest.fixture
def html_dir(tmp_path):
    """Return a rendered book of four pages, with its mathematics and one picture."""
    folder = tmp_path / "html"
    for name, article in PAGES.items():
        path = folder / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"<html><body><nav>menu</nav><article>{article}</article></body></html>", encoding="utf-8"
        )
    (folder / "_images").mkdir()
    square = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><rect width="90" height="90"/></svg>'
    )
    (folder / "_images" / "a.svg").write_text(square)
    return folder


def fake_browser(folder: Path, script: str) -> Path:
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class TestListParts:
    def test_pages_come_in_the_order_of_the_contents(self, html_dir):
        assert list_parts(html_dir, TOC) == [
            Part("", ("intro",)),
            Part("Live & well", ("chapters/10_a-one", "chapters/10_a-two", "methods")),
        ]

    def test_only_wanted_pages_in_their_parts(self, html_dir):
        assert list_parts(html_dir, TOC, ["methods.html", "10_a-two"]) == [
            Part("Live & well", ("chapters/10_a-two", "methods"))
        ]

    def test_a_page_that_was_not_rendered_is_left_out(self, html_dir):
        (html_dir / "methods.html").unlink()
        assert list_parts(html_dir, TOC)[1].pages == ("chapters/10_a-one", "chapters/10_a-two")

    def test_an_unknown_page_is_refused_with_the_known_ones(self, html_dir):
        with pytest.raises(PrintError, match=r"no page 'intor'.*10_a-one, 10_a-two, intro, methods"):
            list_parts(html_dir, TOC, ["intor"])


class TestFindBrowser:
    def test_none_is_said_with_what_to_do(self, monkeypatch):
        monkeypatch.delenv(pdf.ENVIRONMENT, raising=False)
        monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
        with pytest.raises(PrintError, match=r"Install one .*--browser PATH"):
            find_browser()

    def test_a_named_one_comes_before_those_that_are_found(self, tmp_path, monkeypatch):
        mine = fake_browser(tmp_path, "exit 0")
        assert find_browser(str(mine)) == mine
        monkeypatch.setenv(pdf.ENVIRONMENT, str(mine))
        assert find_browser() == mine

    def test_a_named_one_that_is_not_there_is_not_replaced_by_another(self):
        with pytest.raises(PrintError, match="no-such-browser is no program"):
            find_browser("no-such-browser")


class TestFailures:
    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("echo out of memory >&2; exit 7", "ended with status 7 and printed nothing:\n  out of memory"),
            ("exit 0", "printed nothing"),
        ],
    )
    def test_a_browser_that_prints_nothing_leaves_the_old_pdf(self, html_dir, tmp_path, script, message):
        target = tmp_path / "book.pdf"
        target.write_text("the old one")
        with pytest.raises(PrintError, match=message):
            print_book(html_dir, list_parts(html_dir, TOC), target, COVER, fake_browser(tmp_path, script))
        assert target.read_text() == "the old one"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["book.pdf", "browser", "html"]

    def test_a_file_that_is_no_page_is_named(self, html_dir, tmp_path):
        (html_dir / "methods.html").write_text("<html><body>moved</body></html>")
        with pytest.raises(PrintError, match=r"methods\.html has no article"):
            print_book(html_dir, list_parts(html_dir, TOC), tmp_path / "a.pdf", COVER, tmp_path)


@pytest.fixture(scope="module")
def browser() -> Path:
    return find_browser()


@pytest.mark.browser
class TestPrint:
    @pytest.fixture
    def printed(self, html_dir, tmp_path, browser):
        _copy_mathjax(html_dir / "_static" / "mathjax")
        lines: list[str] = []
        n_sheets = print_book(
            html_dir, list_parts(html_dir, TOC), tmp_path / "book.pdf", COVER, browser, lines.append
        )
        reader = PdfReader(tmp_path / "book.pdf")
        assert n_sheets == len(reader.pages)
        return reader, lines

    def test_the_whole_book(self, printed):
        reader, lines = printed
        texts = [" ".join(page.extract_text().split()) for page in reader.pages]
        whole = " ".join(texts)
        # One line for each page and each printing.
        assert [line.split()[-1] for line in lines[:4]] == list(PAGES)
        assert len(lines) == 6
        # Title page, contents, and a sheet for each of four short pages.
        assert len(texts) == 6
        assert "Panel or “monologue”" in texts[0]
        assert [round(float(size)) for size in reader.pages[0].mediabox[2:]] == [595, 842]
        # Contents with the numbers of the sheets, which the sheets bear.
        assert texts[1].index("First page") < texts[1].index("Live & well") < texts[1].index("Second")
        for sheet, title in ((3, "First page"), (5, "Second"), (6, "Methods")):
            assert f"{title} {sheet}" in texts[1]
            assert texts[sheet - 1].endswith(f" {sheet}") or f" {sheet} " in texts[sheet - 1]
        # Folded code, dials, download links and scripts have no use on paper.
        for absent in ("hidden_code", "Show code", "a dial", "SVG PNG", "menu", "#"):
            assert absent not in whole, absent
        assert "very very" not in whole
        assert "The whole text" in whole
        assert "A word opened" in whole
        assert "shown_code()" in whole
        assert "Reproduce it: panelbook run a" in whole
        assert "<script>text of a model</script>" in whole
        assert reader.metadata is not None
        assert reader.metadata.title == COVER.title
        # Mathematics is set, not shown as it is written.
        assert "frac" not in whole
        # Addresses are readable; one that is its own text is not repeated.
        assert "a site (https://example.org/a)" in whole
        assert "(https://example.org/b)" not in whole

    def test_bookmarks_and_links_lead_to_their_places(self, printed):
        reader, _ = printed

        def flatten(items):
            for item in items:
                yield from flatten(item) if isinstance(item, list) else [item]

        marks = {item.title: reader.get_destination_page_number(item) + 1 for item in flatten(reader.outline)}
        question = "Does a rather long question, which fills more than a line of a page, keep its spaces?"
        assert marks == {
            "First page": 3,
            "Live & well": 4,
            question: 4,
            "A section": 4,
            "Second": 5,
            "Methods": 6,
        }
        places = reader.named_destinations
        links = [[annotation.get_object() for annotation in page.get("/Annots", [])] for page in reader.pages]
        inside = [[places[link["/Dest"]] for link in found if "/Dest" in link] for found in links]
        leads = [[reader.get_destination_page_number(place) + 1 for place in found] for found in inside]
        assert leads[1] == [3, 4, 5, 6]
        assert set(leads[2]) == {4}
        assert leads[3] == [5, 4]
        outside = [link["/A"]["/URI"] for found in links for link in found if "/A" in link]
        assert {address for address in outside if not address.startswith("https://example.org/")} == set()

    def test_printing_before_the_mathematics_is_set_is_noticed(self, html_dir, tmp_path, browser):
        with pytest.raises(PrintError, match="before the mathematics was set"):  # there is no MathJax at all
            print_book(html_dir, list_parts(html_dir, TOC), tmp_path / "book.pdf", COVER, browser)
        assert not (tmp_path / "book.pdf").exists()
