"""A few pages into a book that is there: seconds, where rendering all of it takes a minute.

Sphinx keeps what it has read of a book; given the same folder again, it reads and writes the pages that changed. So the
tree is staged anew, the files that did not change keep their times (`sync_tree`), and of what Sphinx then makes in a
copy only the wanted pages are taken over (`render_pages`): the rest of the book stays as `render_book` left it.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from panelbook.errors import BookError
from panelbook.publish.pages import CHAPTERS, KEPT, STATE, call_renderer


def render_pages(
    staged: Path, html_dir: Path, names: Iterable[str], log: Path, *, strict: bool = True
) -> None:
    """Render some pages of a staged tree into a book that `render_book` made of the same folder.

    Where what Sphinx kept is missing or of no use, everything is read once more.

    Parameters
    ----------
    staged
        The tree, brought up to date by `sync_tree`.
    html_dir
        The book that the pages are added to, or replaced in.
    names
        Pages, by their file names without suffix.
    log
        File for the whole output of the renderer.
    strict
        Whether a warning fails the build.

    Raises
    ------
    BookError
        With the renderer's warnings, if there were any.
    """
    scratch = staged.with_name(staged.name + ".rendering")
    flags = ["-n", "-W"] if strict else []
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(html_dir, scratch / "_build" / "html")
    state = html_dir.with_name(html_dir.name + STATE)
    for kept in KEPT:
        if (state / kept).exists():
            shutil.copytree(state / kept, scratch / "_build" / kept)
    try:
        rendered = call_renderer(staged, scratch, log, *flags)
    except BookError:  # from nothing: an error is then one of these pages, not of what was kept
        shutil.rmtree(scratch)
        rendered = call_renderer(staged, scratch, log, "--all", *flags)
    pages = {rendered / CHAPTERS / f"{name}.html" for name in names}
    pages |= {path for name in names for path in (rendered / "_sources" / CHAPTERS).glob(f"{name}.ipynb")}
    for path in (path for path in rendered.rglob("*") if path.is_file()):
        target = html_dir / path.relative_to(rendered)
        if path in pages or (
            path.suffix != ".html" and not target.exists()
        ):  # pictures and downloads of theirs
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.rmtree(scratch, ignore_errors=True)


def sync_tree(source: Path, target: Path) -> None:
    """Make `target` equal to `source`, which is used up; a file that is the same keeps its time of change."""
    target.mkdir(exist_ok=True)
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target) not in wanted:
            path.unlink()
    for name in wanted:
        new, old = source / name, target / name
        if not old.is_file() or old.read_bytes() != new.read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            new.replace(old)
    shutil.rmtree(source, ignore_errors=True)
