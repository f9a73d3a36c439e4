"""A page more in a book that is there: the rest of it, and the times of what did not change, are left alone."""

import os
import shutil
from dataclasses import replace

import pytest
from test_pages import STAMP, TABLE, chapters, make_chapter, make_page, write_checkout

from panelbook.errors import BookError
from panelbook.publish.incremental import render_pages, sync_tree
from panelbook.publish.pages import render_book, stage_book

OLD = 1_000_000_000


class TestSync:
    def write(self, folder, **files):
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def test_the_target_becomes_the_source_and_what_is_the_same_keeps_its_time(self, tmp_path):
        source, target = tmp_path / "new", tmp_path / "old"
        self.write(target, same="1", changed="1", gone="1", deep__gone="1")
        for path in target.rglob("*"):
            os.utime(path, (OLD, OLD))
        self.write(source, same="1", changed="2", deep__new="3")
        sync_tree(source, target)
        files = {p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("*") if p.is_file()}
        assert files == {"same": "1", "changed": "2", "deep/new": "3"}
        assert (target / "same").stat().st_mtime == OLD
        assert (target / "changed").stat().st_mtime > OLD
        assert not source.exists()

    def test_a_target_that_is_not_there_is_made(self, tmp_path):
        self.write(tmp_path / "new", one="1")
        sync_tree(tmp_path / "new", tmp_path / "old")
        assert (tmp_path / "old" / "one").read_text() == "1"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a checkout with two hand-written pages."""
    return write_checkout(tmp_path_factory.mktemp("incremental") / "checkout")


@pytest.fixture(scope="module")
def made(tmp_path_factory, project):
    """Return staged tree, HTML and log of a book that was rendered once."""
    build = tmp_path_factory.mktemp("incremental") / "build"
    build.mkdir()
    source, html_dir, log = build / "source", build / "html", build / "html.log"
    digest = stage_book(project, source, chapters(), TABLE, STAMP)
    render_book(source, html_dir, digest, log)
    return source, html_dir, log


def stage_variant(project, source, text="A sentence."):
    """Stage the same book with a variant's page at its end."""
    page = make_page(f"(ch-draw)=\n# Does draw work?\n\n{text}")
    del page.cells[-1]
    variant = make_chapter("draw", "one--n-3", page)
    fresh = source.with_name("fresh")
    variant = replace(variant, appended=True, note="::::{admonition} A variant\nOf n.\n::::")
    stage_book(project, fresh, [*chapters(), variant], TABLE, STAMP)
    sync_tree(fresh, source)
    return variant.name


@pytest.mark.slow
class TestPages:
    def test_the_page_is_added_and_the_others_stay_byte_by_byte(self, project, made):
        source, html_dir, log = made
        before = {p: p.read_bytes() for p in html_dir.rglob("*") if p.is_file()}
        name = stage_variant(project, source)
        render_pages(source, html_dir, [name], log)
        page = (html_dir / "chapters" / f"{name}.html").read_text(encoding="utf-8")
        assert "A variant" in page
        assert "Appendix: variants" in page
        assert (html_dir / "_sources" / "chapters" / f"{name}.ipynb").is_file()
        assert {p: p.read_bytes() for p in before} == before
        assert not source.with_name("source.rendering").exists()

    def test_what_sphinx_kept_may_be_missing_or_broken(self, project, made):
        source, html_dir, log = made
        name = stage_variant(project, source, "Another sentence.")
        state = html_dir.with_name("html.state")
        (state / ".doctrees" / "environment.pickle").write_bytes(b"broken")
        render_pages(source, html_dir, [name], log)
        assert "Another sentence." in (html_dir / "chapters" / f"{name}.html").read_text(encoding="utf-8")
        shutil.rmtree(state)
        name = stage_variant(project, source, "A third one.")
        render_pages(source, html_dir, [name], log)
        assert "A third one." in (html_dir / "chapters" / f"{name}.html").read_text(encoding="utf-8")

    def test_a_page_with_a_broken_reference_is_refused_and_nothing_is_taken_over(self, project, made):
        source, html_dir, log = made
        before = {p: p.read_bytes() for p in html_dir.rglob("*") if p.is_file()}
        name = stage_variant(project, source, "See {ref}`nowhere`.")
        with pytest.raises(BookError, match="nowhere"):
            render_pages(source, html_dir, [name], log)
        assert {p: p.read_bytes() for p in html_dir.rglob("*") if p.is_file()} == before
