"""The colophon: what was made, in what time, under which licences, and how to cite it."""

import nbformat
import pytest

from panelbook.errors import BookError
from panelbook.project import Project
from panelbook.publish.colophon import Made, cite, read_licence, write_colophon, write_duration

CITATION = """
title: "A book: of things"
authors: [{name: The developers}, {given-names: Ada, family-names: Lovelace}]
version: 1.2.0
date-released: "2025-03-04"
repository-code: https://example.org/book
references:
  - {title: study, authors: [{name: somebody}], repository-code: https://example.org/study, commit: 0123456789abcdef}
"""


def make_manifest(wall_s=5.0, **changes):
    return {
        "wall_s": wall_s,
        "machine": "Linux x86_64, 2 cores",
        "python": "3.11.7",
        "commit": "aaaaaaaabbbb",
        "dirty": False,
        "versions": {"numpy": "2.0"},
    } | changes


def make_notebook(n_figures, n_tables):
    table = {"text/html": "<style></style>" + "<table><tr></tr></table>" * n_tables}
    cells = [
        nbformat.v4.new_code_cell(
            "1", metadata={"mystnb": {"figure": {"name": f"fig-{i}", "caption": "x"}}}, id=f"f{i}"
        )
        for i in range(n_figures)
    ]
    cells.append(
        nbformat.v4.new_code_cell("2", id="t", outputs=[nbformat.v4.new_output("display_data", table)])
    )
    return nbformat.v4.new_notebook(cells=cells)


def make(title, manifest, n_figures=1, n_tables=2):
    results = {"a": {"low": 0.1}, "b": {"low": None}}
    return Made(title, f"chapters/{title}", manifest, make_notebook(n_figures, n_tables), results)


@pytest.fixture
def citation(tmp_path):
    path = tmp_path / "CITATION.cff"
    path.write_text(CITATION, encoding="utf-8")
    return path


class TestWrite:
    def write(self, citation, *made):
        return write_colophon(made, citation, "fedcba9876543210")

    def test_totals_are_sums_over_the_chapters(self, citation):
        text = self.write(
            citation, make("One", make_manifest(70.0), 3, 1), make("Two", make_manifest(9.9), 1, 4)
        )
        first = text.partition("\n\n")[0]
        assert (
            "2 executed chapters with 4 figures, 5 tables and 4 results, of which 2 have an interval" in first
        )
        assert "took 1 min 20 s in all" in first
        assert "the longest is {doc}`One </chapters/One>` with 1 min 10 s" in first
        assert "fedcba987654" in first

    def test_every_chapter_has_a_row_with_its_own_figures(self, citation):
        dirty = make_manifest(9.9, commit="cccccccc1111", dirty=True)
        text = self.write(citation, make("One", make_manifest(70.0), 3, 1), make("Two", dirty, 1, 4))
        assert "| {doc}`One </chapters/One>` | 1 min 10 s | 3 | 1 | 2 | `aaaaaaaa` |" in text
        assert "| {doc}`Two </chapters/Two>` | 9.9 s | 1 | 4 | 2 | `cccccccc` with changes |" in text

    def test_machines_and_versions_that_differ_are_all_named(self, citation):
        other = make_manifest(machine="Darwin arm64, 8 cores", versions={"numpy": "2.1"})
        text = self.write(citation, make("One", make_manifest()), make("Two", other))
        assert "Darwin arm64, 8 cores, Python 3.11.7; Linux x86_64, 2 cores, Python 3.11.7" in text
        assert "| numpy | 2.0 |\n| numpy | 2.1 |" in text

    def test_a_book_without_chapters_says_so_and_can_still_be_cited(self, citation):
        text = self.write(citation)
        assert "no executed chapter" in text
        assert "How to cite" in text

    def test_a_checkout_without_citation_file_is_not_cited(self, tmp_path):
        assert "cite" not in write_colophon([make("One", make_manifest())], tmp_path / "none", "f").lower()

    def test_licences_are_those_that_packages_declare(self, citation):
        text = self.write(citation)
        assert "| sphinx | the pages | BSD License |" in text
        assert "| myst-nb | notebooks as pages | BSD-3-Clause |" in text

    def test_a_title_with_a_bar_stays_in_its_cell(self, citation):
        assert r"a\|b" in self.write(citation, make("a|b", make_manifest()))


class TestCite:
    def test_sentence_and_bibtex_come_from_the_file(self, citation):
        text = cite(citation)
        assert (
            "The developers, Ada Lovelace (2025). *A book: of things* (version 1.2.0). <https://example.org/book>"
            in text
        )
        for line in (
            "  author  = {{The developers} and {Ada Lovelace}},",
            "  title   = {A book: of things},",
            "  year    = {2025},",
            "  version = {1.2.0},",
        ):
            assert line in text.splitlines()

    def test_what_is_re_tested_is_cited_too(self, citation):
        assert "- somebody. *study*. <https://example.org/study>, commit `0123456789ab`" in cite(citation)

    @pytest.mark.parametrize("field", ["title", "authors", "version", "date-released", "repository-code"])
    def test_a_file_without_a_field_is_refused_by_name(self, citation, field):
        kept = [line for line in CITATION.splitlines() if not line.startswith(f"{field}:")]
        citation.write_text("\n".join(kept), encoding="utf-8")
        with pytest.raises(BookError, match=field):
            cite(citation)

    @pytest.mark.parametrize("text", ["", "- a list", "a: [", "title: x\nauthors: none"])
    def test_what_is_no_citation_is_refused(self, citation, text):
        citation.write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match=r"CITATION\.cff"):
            cite(citation)

    def test_the_projects_own_file_can_be_cited(self):
        text = cite(Project.find().root / "CITATION.cff")
        assert "Panel or monologue" in text
        assert "scasella/multi-model" in text


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        (("MIT", "text", ["License :: OSI Approved :: BSD License"]), "MIT"),
        ((None, "long\ntext", ["Topic :: X", "License :: OSI Approved :: BSD License"]), "BSD License"),
        ((None, "Apache 2.0", []), "Apache 2.0"),
        ((None, "long\ntext", []), "see the package"),
        ((None, None, []), "see the package"),
        (("MIT AND MIT AND BSD-3-Clause", None, []), "MIT and BSD-3-Clause"),
    ],
)
def test_a_licence_is_read_where_it_is_said_best(declared, shown):
    assert read_licence(*declared) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (119.6, "2 min 0 s"), (3600, "1 h 0 min")],
)
def test_times_have_two_units_at_most(seconds, text):
    assert write_duration(seconds) == text
