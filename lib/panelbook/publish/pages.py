"""From executed notebooks to a rendered book.

A clean tree is staged under `_build/source`: the hand-written pages, one page per run, generated tables,
a table of contents with one entry per run, and every asset the pages load. Jupyter Book renders it
beside the last good book and takes its place only when it has no warning.
"""

import hashlib
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from panelbook.errors import BookError
from panelbook.project import Project
from panelbook.publish.downloads import FOLDER, link_files, write_files
from panelbook.publish.findings import list_findings, mark_finding
from panelbook.publish.links import DIALS

SOURCE_KEY = ".source-sha256"
CHAPTERS = "chapters"
APPENDIX = "Appendix: variants"
STATE = ".state"
"""Suffix of the folder beside a rendered book that holds what Sphinx remembers of it."""
KEPT = (".doctrees", "jupyter_execute")
"""What that is: the pages as read, and their pictures."""


@dataclass(frozen=True)
class Chapter:
    """One page made of a run.

    Attributes
    ----------
    stage, name
        Stage the page belongs to, and its file name without suffix.
    study
        Which study its rows belong to.
    group, label
        The parameter group, and how a reader calls it.
    notebook
        The page, prose joined to outputs; None where the run could not be made.
    anchor, title
        Label and text of the notebook's first heading.
    missing
        Why there is no notebook, in markdown.
    note
        Markdown that opens the page, under its title: what sets a variant apart from its baseline.
    appended
        Whether the page stands in the appendix of variants instead of among those of its stage.
    source, command
        The tracked notebook that the page is made of, and the command line that makes it again.
    files
        What a reader may take away, by name; see `panelbook.publish.downloads`.
    """

    stage: str
    name: str
    study: str
    group: str
    label: str
    anchor: str
    title: str
    notebook: NotebookNode | None
    missing: str = ""
    note: str = ""
    appended: bool = False
    source: str = ""
    command: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp:
    """What the footer of every page says of the build."""

    commit: str
    dirty: bool
    data_hash: str
    built: str


def stage_book(
    project: Project,
    target: Path,
    chapters: Iterable[Chapter],
    generated: Mapping[str, str],
    stamp: Stamp,
    *,
    toc_name: str = "_toc.yml",
    extra: Mapping[str, Path] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Write the tree that Jupyter Book renders, from scratch, and return the hash of what matters in it.

    Parameters
    ----------
    target
        Folder to write; anything in it is removed.
    chapters
        Every page made of a run.
    generated
        File name -> markdown, for `{include}` by hand-written pages.
    stamp
        For the footer; the date does not enter the hash, or no build would ever be up to date.
    toc_name
        The table of contents, a file of `book/`.
    extra
        Name -> folder that is copied into the book as it is, beside its pages.
    files
        Name -> content of what hand-written pages offer to take away.
    """
    chapters = list(chapters)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(project.book, target, ignore=shutil.ignore_patterns("_toc*.yml"))
    for name, text in generated.items():
        path = target / "generated" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (target / CHAPTERS).mkdir()
    localised = []
    for chapter in chapters:
        others = [
            other
            for other in chapters
            if other.stage == chapter.stage and other is not chapter and not other.appended
        ]
        localised.append(_localise_chapter(chapter, named=bool(others) or chapter.appended))
        _write_chapter(target / CHAPTERS, localised[-1], others)
        write_files(localised[-1].files, target / "extra" / FOLDER / chapter.name)
    written = [chapter for chapter in chapters if not chapter.appended]
    toc = expand_toc(yaml.safe_load((project.book / toc_name).read_text(encoding="utf-8")), written)
    (target / "_toc.yml").write_text(
        yaml.safe_dump(append_variants(toc, chapters), sort_keys=False), encoding="utf-8"
    )
    findings = target / "generated" / "findings.md"
    findings.parent.mkdir(exist_ok=True)
    findings.write_text(list_findings(toc, {f"{CHAPTERS}/{c.name}": c for c in localised}), encoding="utf-8")
    _copy_dials(target / "extra" / "_static")
    for name, folder in (extra or {}).items():
        shutil.copytree(folder, target / "extra" / name)
    write_files(files or {}, target / "extra" / FOLDER)
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    (target / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    digest = _hash_tree(target, salt=f"{stamp.commit}{stamp.dirty}{stamp.data_hash}")
    config.setdefault("html", {})["extra_footer"] = footer(stamp)
    (target / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    _copy_mathjax(target / "extra" / "_static" / "mathjax")
    return digest


def render_book(staged: Path, html_dir: Path, digest: str, log: Path, *, strict: bool = True) -> bool:
    """Render a staged tree with Jupyter Book unless `html_dir` already shows the same; return whether it rendered.

    Parameters
    ----------
    html_dir
        Where the book ends up; replaced only by a finished one.
    digest
        What `stage_book` returned.
    log
        File for the whole output of the renderer.
    strict
        Whether a warning fails the build.

    Raises
    ------
    BookError
        With the renderer's warnings, if there were any.
    """
    key = html_dir / SOURCE_KEY
    if key.is_file() and key.read_text(encoding="utf-8") == digest and (html_dir / "index.html").is_file():
        return False
    scratch = staged.with_name(staged.name + ".rendering")
    shutil.rmtree(scratch, ignore_errors=True)
    rendered = call_renderer(staged, scratch, log, "--all", *(["-n", "-W"] if strict else []))
    (rendered / SOURCE_KEY).write_text(digest, encoding="utf-8")
    state = html_dir.with_name(html_dir.name + STATE)
    shutil.rmtree(state, ignore_errors=True)  # first: it must never be that of another book
    old = html_dir.with_name(html_dir.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if html_dir.exists():
        html_dir.rename(old)
    rendered.rename(html_dir)
    state.mkdir()
    for kept in (scratch / "_build" / name for name in KEPT):
        if kept.exists():
            kept.rename(state / kept.name)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(scratch, ignore_errors=True)
    return True


def call_renderer(staged: Path, scratch: Path, log: Path, *flags: str) -> Path:
    """Call Jupyter Book and return the folder of its HTML, below `scratch`.

    Raises
    ------
    BookError
        With the renderer's warnings, if there were any.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(staged)]
    command += ["--keep-going", "--path-output", str(scratch), *flags]
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=_renderer_environment()
        ).returncode
    rendered = scratch / "_build" / "html"
    if status or not (rendered / "index.html").is_file():
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8"))
        problems = [
            line for line in text.splitlines() if re.search(r"WARNING|ERROR|Error:", line)
        ] or text.splitlines()[-8:]
        shown = "\n".join(f"  {line.replace(str(staged) + '/', '')}" for line in dict.fromkeys(problems[:12]))
        raise BookError(
            f"The book did not render; Jupyter Book said:\n{shown}\nAll of its output is in {log}."
        )
    return rendered


def expand_toc(node: Any, chapters: list[Chapter]) -> Any:
    """Replace every `stage:` entry of a table of contents by the pages of that stage.

    The first page stands for the question and carries its title, or the entry's own `title:`; further pages, the
    same question asked of other data, become its sections and carry their labels. With `of: published` or
    `of: live` an entry takes the pages of the published or of any other study alone.
    """
    if isinstance(node, dict):
        return {key: expand_toc(value, chapters) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    expanded: list[Any] = []
    for item in node:
        if isinstance(item, dict) and "stage" in item:
            wanted = {"published": (True,), "live": (False,)}.get(item.get("of", ""), (True, False))
            pages = [c for c in chapters if c.stage == item["stage"] and (c.study == "published") in wanted]
            if pages:
                files = [{"file": f"{CHAPTERS}/{c.name}", "title": c.label} for c in pages]
                sections = {"sections": files[1:]} if files[1:] else {}
                # Sphinx makes no quotation marks of those in a table of contents, as it does of those in a heading.
                title = item.get("title", pages[0].title).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
                expanded.append(files[0] | {"title": title} | sections)
        else:
            expanded.append(expand_toc(item, chapters))
    return [item for item in expanded if not (isinstance(item, dict) and [] in item.values())]


def append_variants(toc: Any, chapters: list[Chapter]) -> Any:
    """Return a table of contents that ends in the pages of variants, where there are any."""
    pages = [
        {"file": f"{CHAPTERS}/{c.name}", "title": f"{c.title} · {c.label}"} for c in chapters if c.appended
    ]
    if not pages:
        return toc
    parts = toc["parts"] if "parts" in toc else [{"chapters": toc["chapters"]}]
    rest = {key: value for key, value in toc.items() if key not in ("parts", "chapters")}
    return rest | {"parts": [*parts, {"caption": APPENDIX, "chapters": pages}]}


def localise(notebook: NotebookNode, group: str, label: str = "") -> NotebookNode:
    """Return a page whose labels carry its group, so that several groups of one notebook can stand in one book.

    `(sec-x)=`, `$$ (eq-x)` and figure names become `…-<group>`, as do the references to them in the same
    notebook; references to other pages stay. With a `label`, the first heading ends in it.
    """
    page = nbformat.from_dict(json.loads(json.dumps(notebook)))
    text = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    names = set(re.findall(r"^\(([\w-]+)\)=", text, re.M)) | set(
        re.findall(r"^:(?:label|name): ([\w-]+)", text, re.M)
    )
    names |= set(re.findall(r"^\$\$ \(([\w-]+)\)$", text, re.M))
    names |= {
        cell.metadata["mystnb"]["figure"]["name"]
        for cell in page.cells
        if "figure" in cell.metadata.get("mystnb", {})
    }
    suffixed = {name: f"{name}-{group}" for name in names}

    def rename(source: str) -> str:
        for name, new in suffixed.items():
            source = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", new, source)
        return source

    titled = False
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cell.source = rename(cell.source)
            if label and not titled and re.search(r"^# ", cell.source, re.M):
                cell.source = re.sub(
                    r"^(# .+)$", lambda title: f"{title[0]} · {label}", cell.source, count=1, flags=re.M
                )
                titled = True
        elif "figure" in cell.metadata.get("mystnb", {}):
            figure = cell.metadata["mystnb"]["figure"]
            figure["name"] = suffixed[figure["name"]]
            figure["caption"] = rename(figure.get("caption", ""))
    return page


def add_note(page: NotebookNode, note: str) -> NotebookNode:
    """Put a note under the first heading of a page."""
    if note:
        page = nbformat.from_dict(json.loads(json.dumps(page)))
        cell = next(c for c in page.cells if c.cell_type == "markdown" and re.search(r"^# ", c.source, re.M))
        cell.source = re.sub(
            r"^# .+$", lambda title: f"{title[0]}\n\n{note}", cell.source, count=1, flags=re.M
        )
    return page


def footer(stamp: Stamp) -> str:
    """Return the footer of every page: which commit, which data, when."""
    commit = html.escape(stamp.commit[:12]) + (" with local changes" if stamp.dirty else "")
    return (
        f'<p class="build-stamp">Built {html.escape(stamp.built)} from commit <code>{commit}</code>; '
        f"published data <code>{html.escape(stamp.data_hash[:12])}</code></p>"
    )


def _localise_chapter(chapter: Chapter, *, named: bool) -> Chapter:
    """Return a chapter whose labels, and where its stage has other pages whose title, carry its group."""
    if chapter.notebook is None:
        return chapter
    page = localise(chapter.notebook, chapter.group, chapter.label if named else "")
    files = link_files(
        page,
        chapter.files,
        name=chapter.name,
        group=chapter.group,
        command=chapter.command,
        notebook=chapter.source,
    )
    return replace(chapter, notebook=page, files=files)


def _write_chapter(folder: Path, chapter: Chapter, others: list[Chapter]) -> None:
    """Write a chapter, its finding marked; `others` are the pages that ask the same question of other data."""
    if chapter.notebook is not None:
        links = [(other.label, f"{CHAPTERS}/{other.name}") for other in others]
        page = mark_finding(chapter.notebook, f"summary-{chapter.anchor}-{chapter.group}", links)
        page = add_note(page, chapter.note)
        text = json.dumps(page, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / f"{chapter.name}.ipynb").write_text(text + "\n", encoding="utf-8")
        return
    title = f"{chapter.title} · {chapter.label}" if others else chapter.title
    body = f"({chapter.anchor}-{chapter.group})=\n# {title}\n\n:::{{warning}}\n{chapter.missing}\n:::\n"
    (folder / f"{chapter.name}.md").write_text(body, encoding="utf-8")


def _copy_dials(target: Path) -> None:
    """Copy the script that turns the dials of a page to where only pages that have one load it."""
    script = target / DIALS
    script.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "web" / script.name, script)


def _copy_mathjax(target: Path) -> None:
    """Copy MathJax and its fonts out of the Python package that carries them, into what only maths pages load."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise BookError(
            "The package sphinx-mathjax-offline is not installed. Run `make book`, which installs it."
        )
    source = Path(spec.origin).parent / "static" / "mathjax"
    shutil.copytree(
        source / "output" / "chtml" / "fonts" / "woff-v2", target / "output" / "chtml" / "fonts" / "woff-v2"
    )
    shutil.copy(source / "tex-mml-chtml.js", target)


def _hash_tree(folder: Path, salt: str) -> str:
    digest = hashlib.sha256(salt.encode())
    for path in _files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _renderer_environment() -> dict[str, str]:
    # Sphinx stamps some pages with the date; a fixed locale keeps its messages, and so the log, in English.
    return {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
