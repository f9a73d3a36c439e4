"""The rendered book as one PDF, printed by the reader's own Chromium.

The articles of the HTML pages are put into one document, in the order of the table of contents, with a title page and
a list of contents; links between pages become links within it. A browser that prints it sets the mathematics and makes
the bookmarks and the running heads. It is printed twice: the numbers of the pages are known only after the first time.

Dials, buttons and folded code are left out: they need a screen. The explorer of rollouts is no part of the PDF.
"""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from bs4.element import Tag
from pypdf import PdfReader

from panelbook.errors import BookError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
"""Where Chromium and its kin are looked for: on the path, and where they install themselves."""

ENVIRONMENT = "PANELBOOK_CHROMIUM"
LIMIT_S = 900
STYLE = Path(__file__).with_suffix(".css")

REMOVED = (
    "script, .headerlink, .dial, .dial-note, .takeaway-files, .copybtn, button, form, iframe, "
    "details.hide, .prev-next-footer"
)
"""What has no use on paper; folded code among it."""

FOLDED = 2000
"""Characters from which a fold stays closed, its title alone in print: whole transcripts would fill the book."""

CROWDED = 8
"""A table of more columns is set in smaller letters."""

TYPESET = """window.MathJax = {
  options: {processHtmlClass: "tex2jax_process|mathjax_process|math|output_area"},
  startup: {pageReady: () => MathJax.startup.defaultPageReady().then(() => { document.title = TITLE; })}
};"""
"""The document gets its title when all of its mathematics is set: the PDF without it was printed too early."""


class PrintError(BookError):
    """There is no browser to print with, nothing to print, or the browser did not print it."""


@dataclass(frozen=True)
class Part:
    """A part of the book: its title, empty for the pages before the first one, and its pages in order."""

    title: str
    pages: tuple[str, ...]


@dataclass(frozen=True)
class Cover:
    """What the title page says."""

    title: str
    author: str
    lines: tuple[str, ...] = ()


def find_browser(named: str = "") -> Path:
    """Return the browser to print with: the one that is named, that `PANELBOOK_CHROMIUM` names, or one that is found.

    Raises
    ------
    PrintError
        If there is none.
    """
    wanted = named or os.environ.get(ENVIRONMENT, "")
    for name in [wanted] if wanted else BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    if wanted:
        raise PrintError(f"{wanted} is no program that can be started. Give the path of Chromium or Chrome.")
    raise PrintError(
        "The PDF is printed by Chromium or Chrome, and none was found. Install one (Debian: apt install chromium), or "
        f"name it: panelbook export pdf --browser PATH, or the environment variable {ENVIRONMENT}."
    )


def list_parts(html_dir: Path, toc: Mapping[str, Any], wanted: Sequence[str] = ()) -> list[Part]:
    """Return the parts of a table of contents with their pages, all that were rendered or those that are wanted.

    Parameters
    ----------
    html_dir
        The rendered book.
    toc
        Expanded: as it is staged for the renderer.
    wanted
        Pages with or without the folder before them: `intro`, `40_pass_at_k-aime`.

    Raises
    ------
    PrintError
        If a wanted page is not in the book.
    """
    parts = [Part("", (toc["root"], *_list_files(toc.get("chapters", []))))]
    parts += [
        Part(str(part.get("caption", "")), tuple(_list_files(part.get("chapters", []))))
        for part in toc.get("parts", [])
    ]
    parts = [
        Part(part.title, tuple(page for page in part.pages if (html_dir / f"{page}.html").is_file()))
        for part in parts
    ]
    if wanted:
        known = {page.rpartition("/")[2] for part in parts for page in part.pages}
        names = [name.strip().removesuffix(".html").rpartition("/")[2] for name in wanted]
        if absent := [name for name in names if name not in known]:
            raise PrintError(f"The book has no page {absent[0]!r}. Its pages: {', '.join(sorted(known))}.")
        parts = [
            Part(part.title, tuple(page for page in part.pages if page.rpartition("/")[2] in names))
            for part in parts
        ]
    return [part for part in parts if part.pages]


def print_book(
    html_dir: Path,
    parts: Sequence[Part],
    target: Path,
    cover: Cover,
    browser: Path,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Print pages of a rendered book into one PDF, and return how many sheets it has.

    Parameters
    ----------
    html_dir
        The rendered book.
    target
        The PDF; it is replaced only by a finished one.
    say
        Called with a line for every page that is put in, and for every printing.

    Raises
    ------
    PrintError
        If a page is missing, or the browser fails or does not finish.
    """
    keys = {page: f"p{i}" for i, page in enumerate(page for part in parts for page in part.pages)}
    titles: dict[str, str] = {}
    bodies: dict[str, str] = {}
    for number, (page, key) in enumerate(keys.items(), 1):
        titles[page], bodies[page] = _read_page(html_dir, page, key, keys)
        say(f"{number:3}/{len(keys)}  {page}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="panelbook-") as scratch:
        document, printed = Path(scratch, "book.html"), Path(scratch, "book.pdf")
        numbers: dict[str, int] = {}
        for round_ in ("laying out", "printing with page numbers"):
            say(round_)
            text = _compose(html_dir, parts, keys, titles, bodies, cover, numbers)
            document.write_text(text, encoding="utf-8", errors="backslashreplace")
            _call_browser(browser, document, printed, cover.title)
            reader = PdfReader(printed)
            numbers = _find_pages(reader, keys)
        n_sheets = len(reader.pages)
        unfinished = target.with_name(target.name + ".part")
        shutil.copyfile(printed, unfinished)
        unfinished.replace(target)
    return n_sheets


def _list_files(node: Any) -> Iterator[str]:
    """Yield the files of a list of contents, sections after their chapter."""
    for item in node:
        if "file" in item:
            yield item["file"]
        yield from _list_files(item.get("sections", []))


def _read_page(html_dir: Path, page: str, key: str, keys: Mapping[str, str]) -> tuple[str, str]:
    """Return title and article of a page, fit for paper: what needs a screen removed, links and names made unique."""
    path = html_dir / f"{page}.html"
    try:
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    except OSError as error:
        raise PrintError(f"{path} cannot be read: {error}. Run `panelbook build` first.") from None
    article = soup.find("article")
    heading = article.find("h1") if isinstance(article, Tag) else None
    if not isinstance(article, Tag) or not isinstance(heading, Tag):
        raise PrintError(f"{path} has no article with a heading; it is no page of the book.")
    for tag in article.select(REMOVED):
        tag.decompose()
    for tag in article.select("details"):
        tag.attrs.pop("open", None)
        if len(tag.get_text()) <= FOLDED:
            tag["open"] = ""
    for tag in article.select("[id]"):
        if not str(tag["id"]).startswith("T_"):  # a table's own style sheet knows it by this name
            tag["id"] = f"{key}--{tag['id']}"
    for level in (5, 4, 3, 2, 1):  # a part of the book is the heading above those of its pages
        for tag in article.find_all(f"h{level}"):
            tag.name = f"h{level + 1}"
            for text in tag.find_all(string=True):  # the style sheet keeps the spaces of headings
                text.replace_with(re.sub(r"\s+", " ", text))
    for tag in article.select("a[href]"):
        _turn_link(tag, page, keys)
    for tag in article.select("table"):
        row = tag.find("tr")
        if isinstance(row, Tag) and len(row.find_all(["th", "td"])) > CROWDED:
            tag["class"] = " ".join(["crowded", *map(str, filter(None, tag.get_attribute_list("class")))])
    for tag in article.select("img[src]"):
        source = str(tag["src"])
        if not urlsplit(source).scheme:
            tag["src"] = (path.parent / unquote(source)).resolve().as_uri()
        tag.attrs.pop("loading", None)  # what is not on the first screen would be left out
    title = " ".join(heading.get_text().split())
    return title, article.decode_contents()


def _turn_link(tag: Tag, page: str, keys: Mapping[str, str]) -> None:
    """Make a link lead to its place in the PDF, to the web with its address shown, or nowhere."""
    link = urlsplit(str(tag["href"]))
    if link.scheme in ("http", "https"):
        shown = " ".join(tag.get_text().split())
        address = str(tag["href"])
        if re.sub(r"^https?://", "", address).strip("/") not in shown:
            after = f'<span class="address"> ({html.escape(address)})</span>'
            tag.insert_after(BeautifulSoup(after, "html.parser"))
        return
    if link.scheme:
        return
    place = (
        PurePosixPath(os.path.normpath(PurePosixPath(page).parent / unquote(link.path)))
        if link.path
        else None
    )
    name = page if place is None else str(place.with_suffix(""))
    if name in keys:
        tag["href"] = f"#{keys[name]}--{link.fragment}" if link.fragment else f"#{keys[name]}"
    else:  # a download, the explorer, or a page that is not printed
        del tag["href"]
    for attribute in ("download", "target"):
        tag.attrs.pop(attribute, None)


def _compose(
    html_dir: Path,
    parts: Sequence[Part],
    keys: Mapping[str, str],
    titles: Mapping[str, str],
    bodies: Mapping[str, str],
    cover: Cover,
    numbers: Mapping[str, int],
) -> str:
    """Return the document: title page, contents, articles."""
    static = html_dir / "_static"
    sheets = [
        "styles/theme.css",
        "styles/pydata-sphinx-theme.css",
        "pygments.css",
        "styles/sphinx-book-theme.css",
    ]
    sheets += [path.name for path in sorted(static.glob("mystnb.*.css"))] + [
        "sphinx-design.min.css",
        "book.css",
    ]
    links = "".join(
        f'<link rel="stylesheet" href="{(static / name).resolve().as_uri()}">'
        for name in sheets
        if (static / name).is_file()
    )
    heads = "".join(
        f"@page {key} {{ @top-right {{ content: {_css_text(titles[page])}; }} }}\n#{key} {{ page: {key}; }}\n"
        for page, key in keys.items()
        if titles[page] != cover.title
    )
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in cover.lines)
    contents, chapters = [], []
    for part in parts:
        if part.title:
            contents.append(f'<p class="list-part">{html.escape(part.title)}</p>')
        for i, page in enumerate(part.pages):
            key = keys[page]
            number = numbers.get(key, "")
            contents.append(
                f'<p><a href="#{key}"><span>{html.escape(titles[page])}</span><span>{number}</span></a></p>'
            )
            head = f"<h1>{html.escape(part.title)}</h1>" if part.title and i == 0 else ""
            chapters.append(f'<article id="{key}" class="bd-article chapter">{head}{bodies[page]}</article>')
    mathjax = (static / "mathjax" / "tex-mml-chtml.js").resolve().as_uri()
    title = html.escape(cover.title)
    setup = TYPESET.replace("TITLE", _script_text(cover.title))
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8">
<title>unfinished</title>
{links}
<style>{STYLE.read_text(encoding="utf-8")}
@page {{ @top-left {{ content: {_css_text(cover.title)}; }} }}
{heads}</style>
<script>{setup}</script>
<script defer src="{mathjax}"></script>
</head>
<body class="printed bd-content">
<section class="cover"><p class="cover-title">{title}</p><p>{html.escape(cover.author)}</p>{lines}</section>
<nav class="list"><p class="list-title">Contents</p>{"".join(contents)}</nav>
{"".join(chapters)}
</body>
</html>
"""


def _css_text(text: str) -> str:
    """Write a text as a string of CSS that cannot end the style sheet."""
    return '"' + re.sub(r'["\\<>\n\r]', lambda found: f"\\{ord(found[0]):x} ", text) + '"'


def _script_text(text: str) -> str:
    """Write a text as a string of JavaScript that cannot end the script."""
    return '"' + re.sub(r'["\\<>\n\r]|[^ -~]', lambda found: _escape_utf16(found[0]), text) + '"'


def _escape_utf16(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _call_browser(browser: Path, document: Path, printed: Path, title: str) -> None:
    """Print a document with a browser that may read files and reach nothing else."""
    command = [
        str(browser),
        "--headless",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--allow-file-access-from-files",
        f"--user-data-dir={document.parent / 'profile'}",
        "--virtual-time-budget=100000",
        "--no-pdf-header-footer",
        "--generate-pdf-document-outline",
        f"--print-to-pdf={printed}",
    ]
    if sys.platform == "linux" and os.geteuid() == 0:
        command.append("--no-sandbox")  # as root, in containers, there is none
    printed.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [*command, document.as_uri()], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrintError(f"{browser} did not print: {error}") from None
    if not printed.is_file():
        last = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-5:])
        raise PrintError(f"{browser} ended with status {done.returncode} and printed nothing:\n{last}")
    about = PdfReader(printed).metadata
    if about is None or about.title != title:
        raise PrintError(
            f"{browser} printed before the mathematics was set. Close other programs and try again, or print fewer "
            "pages with --pages."
        )


def _find_pages(reader: PdfReader, keys: Mapping[str, str]) -> dict[str, int]:
    """Return the number of the page on which each article begins."""
    places = reader.named_destinations
    numbers: dict[str, int] = {}
    for key in keys.values():
        if f"/{key}" in places:
            number = reader.get_destination_page_number(places[f"/{key}"])
            if number is not None:
                numbers[key] = number + 1
    return numbers
