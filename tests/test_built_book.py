"""The rendered book, read as files: complete, self-contained, and true to its results."""

import csv
import html
import io
import json
import re
import subprocess
from pathlib import Path

import yaml
from conftest import Built, run_panelbook
from PIL import Image

from panelbook.measure.uncertainty import EXACT
from panelbook.pipeline.stages import plan
from panelbook.project import Project
from panelbook.publish.results import format_full, format_interval, format_value

MAX_PAGE_BYTES = 2_000_000
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=\"(https?:)?//|<link\b[^>]*?href=\"(https?:)?//"
)


def chapter_results(book: Built):
    """Yield (page text, results) of every chapter."""
    for run in plan(Project(book.root), "smoke"):
        page = (book.html / "chapters" / f"{run.page}.html").read_text(encoding="utf-8")
        yield run, page, json.loads((book.root / run.folder / "results.json").read_text(encoding="utf-8"))


def visible(page: str) -> str:
    """Return a page's text without tags, references to characters resolved, quotes as they were typed."""
    return html.unescape(re.sub(r"<[^>]+>", "", page)).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def test_every_group_of_every_stage_has_a_page(book):
    pages = {path.relative_to(book.html).as_posix() for path in book.pages}
    assert {f"chapters/{run.page}.html" for run in plan(Project(book.root), "smoke")} <= pages
    toc = yaml.safe_load((book.root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    written = {toc["root"]} | {
        entry["file"] for part in toc["parts"] for entry in part["chapters"] if "file" in entry
    }
    assert {f"{name}.html" for name in written} <= pages


def test_the_index_leads_to_the_introduction(book):
    assert "intro.html" in (book.html / "index.html").read_text(encoding="utf-8")


def test_pages_load_nothing_from_outside(book):
    for path in book.pages:
        found = LOADED.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name} loads {found.group(0) if found else ''}"
    for sheet in (book.html / "_static").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?https?:", sheet.read_text(encoding="utf-8")), (
            sheet.name
        )


def test_pages_are_small(book):
    assert {
        path.name: path.stat().st_size for path in book.pages if path.stat().st_size > MAX_PAGE_BYTES
    } == {}


def test_every_figure_is_numbered_captioned_and_described(book):
    n_figures = 0
    for run, page, _ in chapter_results(book):
        figures = re.findall(r"<figure\b.*?</figure>", page, re.S)
        n_figures += len(figures)
        for figure in figures:
            assert re.search(r"Fig\.\s*\d+", visible(figure)), f"{run.id}: a figure has no number"
            assert len(visible(figure)) > 60, f"{run.id}: a figure has no caption"
            alt = re.search(r'<img[^>]*\balt="([^"]+)"', figure)
            assert alt, f"{run.id}: a figure has no alternative text"
            assert len(alt.group(1)) > 40, f"{run.id}: a figure has no alternative text"
    assert n_figures >= 20


def test_every_figure_and_table_can_be_taken_away(book):
    n_figures = n_tables = 0
    for run, page, _ in chapter_results(book):
        links = re.findall(r'<a href="\.\./(downloads/[^"]+)" download aria-label="([^"]+)"', page)
        for path, label in links:
            content = (book.html / path).read_bytes()
            if path.endswith(".csv"):
                rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
                assert len(rows) >= (2 if "/fig-" in path else 1), path
                assert {len(row) for row in rows} == {len(rows[0])}, path
                assert b"\r\n" not in content, path
            elif path.endswith(".png"):
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
                    assert image.width > 600, path  # twice the 96 dots per inch of the page
            elif path.endswith(".svg"):
                assert b"</svg>" in content, path
            assert label.split(" of ")[1], path
        names = re.findall(r'<figure\b[^>]*\bid="([^"]+)"', page)
        n_figures += len(names)
        for name in names:
            # a page's anchors have hyphens where a name has underscores
            offered = {
                path.rpartition(".")[2]
                for path, label in links
                if label.replace("_", "-").endswith(f" of {name}")
            }
            assert offered == {"svg", "png", "csv"}, f"{run.id}: {name} offers {offered}"
        if names:
            assert f"panelbook run {run.id} --profile smoke" in visible(page), run.id
        tables = [path for path, _ in links if "/table-" in path]
        n_tables += len(tables)
        shown = re.findall(r'<div class="output text_html">(.*?)(?=<div class="cell|</section>)', page, re.S)
        bare = [
            text[:200] for text in shown if "<table" in text and "takeaway" not in text and "dial" not in text
        ]
        assert bare == [], f"{run.id}: a table has no CSV"
    assert n_figures >= 20
    assert n_tables >= 80
    for name in ("headline", "live"):
        assert (book.html / "downloads" / f"{name}.csv").stat().st_size > 500
        assert f'href="downloads/{name}.csv"' in (book.html / "intro.html").read_text(encoding="utf-8")


def test_prose_quotes_the_stored_results(book):
    quoted = 0
    for run, page, results in chapter_results(book):
        text = visible(page)
        pasted = {
            html.unescape(found) for found in re.findall(r'<span class="pasted-text">(.*?)</span>', page)
        }
        for record in results.values():
            full = format_full(record)
            if (
                record["method"] != EXACT
            ):  # a count or a setting may serve a sentence that this build does not say
                assert format_value(record) in text, f"{run.id}: {record['title']} is not on its page"
            quoted += full in pasted
    assert quoted >= 30


def test_the_front_page_repeats_the_ledger(book):
    text = visible((book.html / "intro.html").read_text(encoding="utf-8"))
    path = book.root / "runs" / "smoke" / "claims" / "all" / "claims.json"
    shown = [claim for claim in json.loads(path.read_text(encoding="utf-8")) if claim["headline"]]
    assert len(shown) >= 6
    for claim in shown:
        record = next(iter(claim["records"].values()))
        card, row = text.index(claim["headline"]), text.index(claim["claim"])
        assert format_value(record) in text[card : card + 200]
        for part in (claim["published"], format_value(record), format_interval(record), claim["verdict"]):
            assert part in text[row : row + 600], f"{claim['id']}: {part}"


def test_links_to_source_and_launch_resolve_to_tracked_files(book):
    tracked = set(
        subprocess.run(
            ["git", "ls-files"], cwd=book.root, capture_output=True, text=True, check=True
        ).stdout.split()
    )
    linked = set()
    for path in book.pages:
        page = path.read_text(encoding="utf-8")
        linked |= set(re.findall(r'href="https://github\.com/[^"]+?/blob/main/([^"?#]+)', page))
        linked |= {
            found.replace("%2F", "/") for found in re.findall(r'mybinder\.org[^"]*?tree/([^"&]+)', page)
        }
    assert any(name.endswith(".ipynb") for name in linked)
    assert any(name.endswith(".md") for name in linked)
    assert linked - tracked == set()


def test_the_footer_names_commit_data_and_date(book):
    text = visible((book.html / "methods.html").read_text(encoding="utf-8"))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=book.root, capture_output=True, text=True, check=True
    )
    assert re.search(
        rf"Built \d{{4}}-\d\d-\d\d \d\d:\d\d UTC from commit {commit.stdout[:12]}; published data \w+", text
    )


def test_a_second_build_executes_no_notebook_and_renders_nothing(book):
    before = (book.html / "index.html").stat().st_mtime_ns
    done = run_panelbook(book.root, "build", "--profile", "smoke", environment=book.environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b0 executed, \d+ up to date", done.stdout)
    assert "up to date" in done.stdout.splitlines()[-1]
    assert (book.html / "index.html").stat().st_mtime_ns == before


def test_a_build_leaves_the_checkout_as_it_was(book):
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=book.root, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


def test_no_page_names_a_folder_of_the_machine(book):
    for path in [*book.pages, *(book.html / "_sources").rglob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        assert str(book.root) not in text, path.name
        assert str(Path.home()) + "/" not in text, path.name


def test_without_the_published_files_the_book_says_what_is_missing(bare_book):
    assert bare_book.status == 0, bare_book.output[-3000:]
    intro = visible((bare_book.html / "intro.html").read_text(encoding="utf-8"))
    chapter = visible((bare_book.html / "chapters" / "40_pass_at_k-aime.html").read_text(encoding="utf-8"))
    for text in (intro, chapter):
        assert "published study's files are not in" in text
        assert "panelbook fetch" in text
    assert "did not try the claims" in intro
    live = visible(
        (bare_book.html / "chapters" / "85_matched_climb-arithmetic.html").read_text(encoding="utf-8")
    )
    assert "published study's files" not in live
    assert "Held-out accuracy of the miniature" in live
    assert "0 executed" in bare_book.output, "what another build has made is made again"
