"""A chapter's first paragraph becomes a box, and all of them a page with their numbers filled in."""

from dataclasses import dataclass

import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from panelbook.project import Project
from panelbook.publish.findings import list_findings, mark_finding, read_finding

OPENING = "(ch-x)=\n# Does it?\n\nIt does, by {glue:text}`gain_full`.\nStill it does.\n\nWhy one asks."


def glue_output(name, text):
    """Return what `glue(name, text, display=False)` leaves in a notebook."""
    prefix = "application/papermill.record/"
    return nbformat.v4.new_output(
        "display_data",
        data={f"{prefix}text/plain": repr(text)},
        metadata={"scrapbook": {"mime_prefix": prefix, "name": name}},
    )


def make_page(opening=OPENING, closing="## Summary\n\n- It does.", **glued):
    cells = [
        nbformat.v4.new_markdown_cell(opening, id="md-0"),
        nbformat.v4.new_code_cell("pass", id="glue", outputs=[glue_output(*item) for item in glued.items()]),
        nbformat.v4.new_markdown_cell(closing, id="md-1"),
    ]
    return nbformat.v4.new_notebook(cells=cells)


@dataclass
class Page:
    name: str
    label: str
    title: str
    notebook: NotebookNode | None


class TestMark:
    def test_the_first_paragraph_alone_is_in_the_box_and_what_follows_stays(self):
        source = mark_finding(make_page(), "summary-x").cells[0].source
        before, box, after = source.partition(":::{admonition} Finding in short\n")
        assert before == "(ch-x)=\n# Does it?\n\n"
        inside, end, rest = after.partition("\n:::")
        assert box
        assert end
        assert "It does, by {glue:text}`gain_full`.\nStill it does." in inside
        assert "Why one asks" not in inside
        assert rest == "\n\nWhy one asks."

    def test_it_leads_to_the_summary_which_gets_the_label(self):
        page = mark_finding(make_page(), "summary-x")
        assert "{ref}`The finding in full <summary-x>`" in page.cells[0].source
        assert page.cells[2].source.startswith("(summary-x)=\n## Summary\n")

    def test_a_page_without_summary_gets_a_box_without_that_link(self):
        page = mark_finding(make_page(closing="## The end"), "summary-x")
        assert "Finding in short" in page.cells[0].source
        assert "summary-x" not in nbformat.writes(page)

    def test_it_leads_to_the_same_question_on_other_data(self):
        page = mark_finding(make_page(), "summary-x", [("AIME", "chapters/a"), ("pool", "chapters/b")])
        assert "{doc}`AIME </chapters/a>`, {doc}`pool </chapters/b>`." in page.cells[0].source

    @pytest.mark.parametrize(
        "opening",
        [
            "No title, only text.",
            "# Title",
            "# Title\n\n## A section at once",
            "# Title\n\n:::{note}\nA box.\n:::",
            "# Title\n\n| a |\n|---|",
            "# Title\n\n```python\nx\n```",
            "# Title\n\n- a list",
            "# Title\n\n$$\nx\n$$",
            "# Title\n\n(label)=\n## Section",
        ],
    )
    def test_what_is_no_paragraph_is_left_as_it_is(self, opening):
        page = make_page(opening)
        assert mark_finding(page, "summary-x").cells[0].source == opening

    def test_a_paragraph_that_repeats_the_title_is_not_mistaken_for_it(self):
        source = mark_finding(make_page("# It does\n\nIt does"), "s").cells[0].source
        assert source.startswith("# It does\n\n:::{admonition} Finding in short\n")

    def test_what_was_handed_in_is_left_alone(self):
        page = make_page()
        before = nbformat.writes(page)
        mark_finding(page, "summary-x")
        assert nbformat.writes(page) == before


class TestRead:
    def test_what_was_glued_is_filled_in_and_lines_are_joined(self):
        assert read_finding(make_page(gain_full="+15.6 pp")) == "It does, by +15.6 pp. Still it does."

    def test_a_glued_text_cannot_become_markup(self):
        text = read_finding(make_page(gain_full="<script>x</script> `a` *b* {doc}"))
        assert "<script>" not in text.replace("\\<", "")
        assert r"\<script\>" in text
        assert r"\`a\` \*b\* \{doc\}" in text

    def test_a_name_that_was_never_glued_leaves_a_gap_that_shows(self):
        assert read_finding(make_page()) == "It does, by …. Still it does."

    def test_a_page_without_title_has_none(self):
        assert read_finding(make_page("Text.")) == ""


class TestList:
    TOC = yaml.safe_load(
        """
        root: intro
        parts:
        - caption: First
          chapters:
          - {file: findings}
          - {file: c/a-1, title: Short, sections: [{file: c/a-2, title: two}]}
          - {file: c/b}
        - {caption: Empty, chapters: [{file: methods}]}
        """
    )

    def list_all(self, **changes):
        pages = {
            "c/a-1": Page("a-1", "one", "Does A?", make_page(gain_full="1.5 pp")),
            "c/a-2": Page("a-2", "two", "Does A?", make_page(gain_full="2.5 pp")),
            "c/b": Page("b", "only", "Does B?", make_page("# Does B?\n\nYes.")),
        }
        return list_findings(self.TOC, pages | changes)

    def test_questions_stand_in_the_order_of_the_parts_with_a_line_for_each_page(self):
        assert self.list_all() == (
            "## First\n\n"
            "**Does A?**\n"
            ": {doc}`one </c/a-1>`: It does, by 1.5 pp. Still it does.\n\n"
            ": {doc}`two </c/a-2>`: It does, by 2.5 pp. Still it does.\n\n\n"
            "**{doc}`Does B? </c/b>`**\n: Yes.\n\n"
        )

    def test_a_part_without_chapters_has_no_heading(self):
        assert "Empty" not in self.list_all()

    def test_a_chapter_that_could_not_be_made_says_so(self):
        text = self.list_all(**{"c/b": Page("b", "only", "Does B?", None)})
        assert "could not make" in text.partition("Does B?")[2]

    def test_contents_without_parts_are_one_part(self):
        pages = {"c/b": Page("b", "only", "Does B?", make_page("# Does B?\n\nYes."))}
        assert list_findings({"root": "intro", "chapters": [{"file": "c/b"}]}, pages).endswith(": Yes.\n\n")


def test_every_notebook_opens_with_a_paragraph_and_ends_in_a_summary():
    for path in sorted(Project.find().notebooks.glob("*.ipynb")):
        page = mark_finding(nbformat.read(path, 4), "summary-x")
        assert "Finding in short" in page.cells[0].source, f"{path.name} opens with no finding"
        assert "The finding in full" in page.cells[0].source, f"{path.name} has no section Summary"
        opening = read_finding(nbformat.read(path, 4))
        assert len(opening.split()) <= 110, f"{path.name}: the finding in short is long"
