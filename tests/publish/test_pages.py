"""From runs to pages: the table of contents, labels that stay unique, the footer, and a build that fails whole."""

import dataclasses
import html
import re
import shutil
from dataclasses import replace

import nbformat
import pytest
import yaml

from panelbook.errors import BookError
from panelbook.project import Project
from panelbook.publish.pages import (
    Chapter,
    Stamp,
    expand_toc,
    footer,
    localise,
    render_book,
    stage_book,
)

STAMP = Stamp("0123456789abcdef", False, "fedcba9876543210", "2026-01-02 03:04 UTC")


def make_page(*texts, figure="fig-spread", caption="See {numref}`fig-spread`."):
    """Return a page with some prose and one figure."""
    cells = [nbformat.v4.new_markdown_cell(text, id=f"md-{i}") for i, text in enumerate(texts)]
    metadata = {"mystnb": {"figure": {"name": figure, "caption": caption}, "image": {"alt": "a figure"}}}
    cells.append(nbformat.v4.new_code_cell('"fig-spread"', id="fig", metadata=metadata))
    return nbformat.v4.new_notebook(cells=cells)


def make_chapter(stage, group, notebook=None, missing="", study="published"):
    return Chapter(
        stage=stage,
        name=f"10_{stage}-{group}",
        study=study,
        group=group,
        label=f"the {group} group",
        anchor=f"ch-{stage}",
        title=f"Does {stage} work?",
        notebook=notebook,
        missing=missing,
    )


class TestToc:
    CHAPTERS = (make_chapter("a", "one"), make_chapter("a", "two"), make_chapter("b", "one"))

    def expand(self, text):
        return expand_toc(yaml.safe_load(text), list(self.CHAPTERS))

    def test_the_first_page_of_a_stage_is_its_question_and_the_others_lie_below_it(self):
        expanded = self.expand("[{file: intro}, {stage: a}, {file: end}]")
        assert expanded == [
            {"file": "intro"},
            {
                "file": "chapters/10_a-one",
                "title": "Does a work?",
                "sections": [{"file": "chapters/10_a-two", "title": "the two group"}],
            },
            {"file": "end"},
        ]

    def test_an_entry_may_give_its_question_a_shorter_title(self):
        (entry,) = self.expand("[{stage: b, title: B}]")
        assert entry == {"file": "chapters/10_b-one", "title": "B"}

    def test_stages_are_found_at_any_depth(self):
        expanded = self.expand("{root: intro, parts: [{caption: A, chapters: [{stage: b}]}]}")
        assert expanded == {
            "root": "intro",
            "parts": [{"caption": "A", "chapters": [{"file": "chapters/10_b-one", "title": "Does b work?"}]}],
        }

    def test_a_part_that_is_left_without_a_page_is_left_out(self):
        expanded = self.expand(
            "{parts: [{caption: A, chapters: [{stage: none}]}, {caption: B, chapters: [{stage: a}]}]}"
        )
        assert [part["caption"] for part in expanded["parts"]] == ["B"]

    def test_an_entry_may_take_the_pages_of_one_kind_of_study(self):
        chapters = [make_chapter("a", "one"), make_chapter("a", "two", study="mine")]
        toc = yaml.safe_load("[{stage: a, of: live}, {file: x}, {stage: a, of: published}, {stage: a}]")
        expanded = expand_toc(toc, chapters)
        assert [entry["file"] for entry in expanded] == [
            "chapters/10_a-two",
            "x",
            "chapters/10_a-one",
            "chapters/10_a-one",
        ]
        assert [entry["file"] for entry in expanded[-1]["sections"]] == ["chapters/10_a-two"]

    def test_a_part_without_pages_is_left_out(self):
        toc = yaml.safe_load(
            "{parts: [{caption: Live, chapters: [{stage: a, of: live}]}, {chapters: [{file: x}]}]}"
        )
        assert expand_toc(toc, [make_chapter("a", "one")]) == {"parts": [{"chapters": [{"file": "x"}]}]}

    def test_the_projects_own_contents_hold_every_page_once(self):
        from panelbook.pipeline.stages import STAGES

        toc = yaml.safe_load((Project.find().book / "_toc.yml").read_text(encoding="utf-8"))
        chapters = [
            make_chapter(name, study, study=study) for name in STAGES for study in ("published", "mine")
        ]
        text = yaml.safe_dump(expand_toc(toc, chapters))
        for chapter in chapters:
            assert text.count(f"{chapter.name}\n") == 1, chapter.name


class TestLocalise:
    def test_labels_and_the_references_to_them_carry_the_group(self):
        page = localise(make_page("(ch-x)=\n# Title\n\n{ref}`here <ch-x>` and {numref}`fig-spread`"), "aime")
        assert (
            page.cells[0].source
            == "(ch-x-aime)=\n# Title\n\n{ref}`here <ch-x-aime>` and {numref}`fig-spread-aime`"
        )

    def test_equations_in_both_spellings(self):
        text = "$$\nx = 1\n$$ (eq-one)\n\n```{math}\n:label: eq-two\nx = 2\n```\n\n{eq}`eq-one`, {eq}`eq-two`"
        source = localise(make_page(text), "g").cells[0].source
        assert "$$ (eq-one-g)" in source
        assert ":label: eq-two-g" in source
        assert source.endswith("{eq}`eq-one-g`, {eq}`eq-two-g`")

    def test_figures_and_their_captions(self):
        page = localise(make_page("text"), "g")
        figure = page.cells[-1].metadata["mystnb"]["figure"]
        assert figure == {"name": "fig-spread-g", "caption": "See {numref}`fig-spread-g`."}

    def test_references_to_other_pages_and_longer_names_stay(self):
        text = "(ch-x)=\n# T\n\n{ref}`ch-other`, {ref}`ch-x-aime`, {numref}`fig-spread-all`, `my-fig-spread`"
        source = localise(make_page(text), "g").cells[0].source
        assert source.endswith("{ref}`ch-other`, {ref}`ch-x-aime`, {numref}`fig-spread-all`, `my-fig-spread`")

    def test_code_is_left_alone(self):
        assert localise(make_page("text"), "g").cells[-1].source == '"fig-spread"'

    def test_the_title_and_only_the_title_ends_in_the_label(self):
        page = localise(make_page("(ch-x)=\n# Title\n\n# Another\n\n## Below", "# Third"), "g", "AIME 2024")
        lines = page.cells[0].source.splitlines()
        assert lines[1].startswith("# Title")
        assert lines[1].endswith("AIME 2024")
        assert lines[3:] == ["# Another", "", "## Below"]
        assert page.cells[1].source == "# Third"

    def test_without_a_label_the_title_stays(self):
        assert localise(make_page("# Title"), "g").cells[0].source == "# Title"

    @pytest.mark.parametrize("label", [r"\frac 1 2", r"a\1b", r"\g<0>", "100% $x$"])
    def test_a_label_is_taken_as_it_is(self, label):
        assert localise(make_page("# Title"), "g", label).cells[0].source.endswith(label)

    def test_what_was_handed_in_is_left_alone(self):
        page = make_page("(ch-x)=\n# Title")
        before = nbformat.writes(page)
        localise(page, "g", "label")
        assert nbformat.writes(page) == before

    def test_two_groups_of_one_notebook_share_no_label(self):
        page = make_page("(ch-x)=\n# T\n\n$$\nx\n$$ (eq-x)")
        labels = [
            set(re.findall(r"(?:ch|eq|fig)-x?[\w-]*", nbformat.writes(localise(page, group))))
            - {"fig-spread"}
            for group in ("one", "two")
        ]
        assert labels[0].isdisjoint(labels[1])


class TestFooter:
    def test_names_date_commit_and_data(self):
        text = re.sub(r"<[^>]+>", "", footer(STAMP))
        assert text == "Built 2026-01-02 03:04 UTC from commit 0123456789ab; published data fedcba987654"

    def test_says_when_the_checkout_was_changed(self):
        assert "with local changes" in footer(replace(STAMP, dirty=True))
        assert "with local changes" not in footer(STAMP)

    def test_escapes_what_it_is_given(self):
        evil = '<b>&"x'
        text = footer(Stamp(evil, False, evil, evil))
        assert "<b>" not in text
        assert html.unescape(text).count(evil) == 3


def write_checkout(root):
    """Write a checkout with two hand-written pages and the project's own configuration."""
    (root / "book").mkdir(parents=True)
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- stage: draw\n- file: methods\n", encoding="utf-8"
    )
    (root / "book" / "intro.md").write_text(
        "# Intro\n\n```{include} generated/table.md\n```\n", encoding="utf-8"
    )
    (root / "book" / "methods.md").write_text(
        "(methods)=\n# Methods\n\nSee {ref}`ch-draw-one`.\n", encoding="utf-8"
    )
    (root / "book" / "references.bib").write_text("", encoding="utf-8")
    shutil.copy(Project.find().root / "_config.yml", root)
    return Project(root.resolve())


@pytest.fixture
def project(tmp_path):
    """Return a fresh checkout."""
    return write_checkout(tmp_path / "checkout")


def chapters():
    page = make_page("(ch-draw)=\n# Does draw work?\n\nYes: $x^2$.", caption="Nothing.")
    del page.cells[-1]
    return [make_chapter("draw", "one", page), make_chapter("draw", "two", None, "Data are **missing**.")]


TABLE = {"table.md": "| a |\n|---|\n| 1 |\n"}


class TestStage:
    def stage(self, project, tmp_path, stamp=STAMP, chapters_=None, generated=TABLE):
        return stage_book(project, tmp_path / "staged", chapters_ or chapters(), generated, stamp)

    def test_pages_contents_tables_and_footer_are_there(self, project, tmp_path):
        self.stage(project, tmp_path)
        staged = tmp_path / "staged"
        toc = yaml.safe_load((staged / "_toc.yml").read_text(encoding="utf-8"))
        question, methods = toc["chapters"]
        (other,) = question["sections"]
        assert [entry["file"] for entry in (question, other, methods)] == [
            "chapters/10_draw-one",
            "chapters/10_draw-two",
            "methods",
        ]
        for entry in (question, other, methods):
            assert list(staged.glob(f"{entry['file']}.*"))
        assert (staged / "generated" / "table.md").read_text(encoding="utf-8") == TABLE["table.md"]
        config = yaml.safe_load((staged / "_config.yml").read_text(encoding="utf-8"))
        assert "0123456789ab" in config["html"]["extra_footer"]

    def test_a_folder_laid_beside_the_pages_is_part_of_the_book_and_of_its_hash(self, project, tmp_path):
        laid = tmp_path / "made"
        (laid / "data").mkdir(parents=True)
        (laid / "data" / "index.js").write_text("1", encoding="utf-8")
        without = self.stage(project, tmp_path)

        def stage():
            return stage_book(project, tmp_path / "staged", chapters(), TABLE, STAMP, extra={"explore": laid})

        first = stage()
        copied = tmp_path / "staged" / "extra" / "explore" / "data" / "index.js"
        assert copied.read_text(encoding="utf-8") == "1"
        assert first == stage() != without
        (laid / "data" / "index.js").write_text("2", encoding="utf-8")
        assert stage() != first

    def test_what_a_chapter_offers_lies_beside_its_page_and_in_the_hash(self, project, tmp_path):
        def stage(content):
            first, second = chapters()
            first = dataclasses.replace(first, files={"curve.csv": content}, command="panelbook run draw.one")
            made = [first, second]
            return stage_book(project, tmp_path / "staged", made, TABLE, STAMP, files={"live.csv": b"a\n"})

        before = stage(b"k\n1\n")
        offered = tmp_path / "staged" / "extra" / "downloads"
        assert (offered / "10_draw-one" / "curve-one.csv").read_bytes() == b"k\n1\n"
        assert (offered / "live.csv").read_bytes() == b"a\n"
        page = nbformat.read(tmp_path / "staged" / "chapters" / "10_draw-one.ipynb", 4)
        assert 'href="../downloads/10_draw-one/curve-one.csv"' in page.cells[-1].source
        assert stage(b"k\n2\n") != before

    def test_pages_of_one_stage_are_told_apart_by_title_and_label(self, project, tmp_path):
        self.stage(project, tmp_path)
        page = nbformat.read(tmp_path / "staged" / "chapters" / "10_draw-one.ipynb", 4)
        assert page.cells[0].source.startswith("(ch-draw-one)=\n# Does draw work?")
        assert "the one group" in page.cells[0].source

    def test_the_finding_of_a_page_is_marked_and_listed(self, project, tmp_path):
        self.stage(project, tmp_path)
        page = nbformat.read(tmp_path / "staged" / "chapters" / "10_draw-one.ipynb", 4)
        assert "Finding in short\n:class: finding\n\nYes: $x^2$." in page.cells[0].source
        assert "{doc}`the two group </chapters/10_draw-two>`" in page.cells[0].source
        listed = (tmp_path / "staged" / "generated" / "findings.md").read_text(encoding="utf-8")
        assert "{doc}`the one group </chapters/10_draw-one>`: Yes: $x^2$." in listed

    def test_the_only_page_of_a_stage_keeps_its_title(self, project, tmp_path):
        self.stage(project, tmp_path, chapters_=chapters()[:1])
        page = nbformat.read(tmp_path / "staged" / "chapters" / "10_draw-one.ipynb", 4)
        assert page.cells[0].source.splitlines()[1] == "# Does draw work?"

    def test_a_page_that_could_not_be_made_says_why_under_its_own_label(self, project, tmp_path):
        self.stage(project, tmp_path)
        text = (tmp_path / "staged" / "chapters" / "10_draw-two.md").read_text(encoding="utf-8")
        assert text.startswith("(ch-draw-two)=\n# Does draw work?")
        assert "Data are **missing**." in text
        assert "warning" in text

    def test_mathjax_comes_along_with_its_fonts(self, project, tmp_path):
        self.stage(project, tmp_path)
        folder = tmp_path / "staged" / "extra" / "_static" / "mathjax"
        assert (folder / "tex-mml-chtml.js").is_file()
        assert len(list(folder.rglob("*.woff"))) > 10

    def test_the_script_of_the_dials_lies_where_pages_with_a_dial_load_it(self, project, tmp_path):
        self.stage(project, tmp_path)
        script = tmp_path / "staged" / "extra" / "_static" / "panelbook" / "dials.js"
        assert "application/json" in script.read_text(encoding="ascii")

    def test_what_lay_there_before_is_gone(self, project, tmp_path):
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged" / "old.md").write_text("old", encoding="utf-8")
        self.stage(project, tmp_path)
        assert not (tmp_path / "staged" / "old.md").exists()

    def test_the_hash_is_of_the_content_and_not_of_the_date(self, project, tmp_path):
        before = self.stage(project, tmp_path)
        assert self.stage(project, tmp_path, replace(STAMP, built="2027-01-01 00:00 UTC")) == before

    @pytest.mark.parametrize(
        "change",
        [
            {"stamp": replace(STAMP, commit="f" * 40)},
            {"stamp": replace(STAMP, dirty=True)},
            {"stamp": replace(STAMP, data_hash="0" * 64)},
            {"generated": {"table.md": "| b |\n|---|\n"}},
            {"chapters_": chapters()[:1]},
        ],
        ids=["commit", "dirty", "data", "table", "chapters"],
    )
    def test_the_hash_changes_with_all_that_a_reader_sees(self, project, tmp_path, change):
        before = self.stage(project, tmp_path)
        assert self.stage(project, tmp_path, **change) != before

    @pytest.mark.parametrize("name", ["book/intro.md", "_config.yml", "book/_toc.yml"])
    def test_the_hash_changes_with_every_hand_written_file(self, project, tmp_path, name):
        before = self.stage(project, tmp_path)
        text = (project.root / name).read_text(encoding="utf-8")
        changed = (
            text.replace("Intro", "Introduction")
            .replace("title: ", "title: My ")
            .replace("- file: methods\n", "")
        )
        assert changed != text
        (project.root / name).write_text(changed, encoding="utf-8")
        assert self.stage(project, tmp_path) != before


class TestVariants:
    def stage(self, project, tmp_path):
        chapter = replace(chapters()[0], name="10_draw-one--n-3", group="one--n-3", label="one, n=3")
        variant = replace(chapter, appended=True, note="::::{note}\nOf n.\n::::")
        stage_book(project, tmp_path / "staged", [*chapters(), variant], TABLE, STAMP)
        return tmp_path / "staged"

    def test_they_stand_at_the_end_of_the_contents_and_nowhere_else(self, project, tmp_path):
        toc = (self.stage(project, tmp_path) / "_toc.yml").read_text(encoding="utf-8")
        assert toc.count("10_draw-one--n-3") == 1
        last = yaml.safe_load(toc)["parts"][-1]
        title = "Does draw work? · one, n=3"
        assert last == {
            "caption": "Appendix: variants",
            "chapters": [{"file": "chapters/10_draw-one--n-3", "title": title}],
        }

    def test_the_note_opens_the_page_and_no_label_is_that_of_the_baseline(self, project, tmp_path):
        folder = self.stage(project, tmp_path) / "chapters"
        page = nbformat.read(folder / "10_draw-one--n-3.ipynb", as_version=4).cells[0].source
        assert re.match(r"\(ch-draw-one--n-3\)=\n# Does draw work\? · one, n=3\n\n::::\{note\}\nOf n", page)
        baseline = nbformat.read(folder / "10_draw-one.ipynb", as_version=4).cells[0].source
        assert "(ch-draw-one)=" in baseline
        assert "Of n" not in baseline


@pytest.mark.slow
class TestRender:
    @pytest.fixture
    def folders(self, tmp_path):
        """Return where the tree is staged, where the book lies (an old one does), and the log."""
        html_dir = tmp_path / "build" / "html"
        html_dir.mkdir(parents=True)
        (html_dir / "index.html").write_text("the old book", encoding="utf-8")
        return tmp_path / "build" / "source", html_dir, tmp_path / "build" / "html.log"

    def test_a_warning_fails_the_build_and_leaves_the_old_book(self, project, folders):
        source, html_dir, log = folders
        (project.book / "methods.md").write_text("# Methods\n\nSee {ref}`ch-nowhere`.\n", encoding="utf-8")
        digest = stage_book(project, source, chapters(), TABLE, STAMP)
        with pytest.raises(BookError) as error:
            render_book(source, html_dir, digest, log)
        message = str(error.value)
        assert "methods.md" in message
        assert "ch-nowhere" in message
        assert str(log) in message
        assert len(message.splitlines()) <= 20
        assert (html_dir / "index.html").read_text(encoding="utf-8") == "the old book"
        assert log.is_file()

    def test_a_good_tree_replaces_the_old_book_once(self, project, folders):
        source, html_dir, log = folders
        digest = stage_book(project, source, chapters(), TABLE, STAMP)
        assert render_book(source, html_dir, digest, log) is True
        assert "the old book" not in (html_dir / "index.html").read_text(encoding="utf-8")
        page = (html_dir / "chapters" / "10_draw-one.html").read_text(encoding="utf-8")
        assert "Does draw work?" in page
        assert "0123456789ab" in page
        assert {path.name for path in html_dir.parent.iterdir()} == {
            "html",
            "html.log",
            "html.state",
            "source",
        }
        assert render_book(source, html_dir, digest, log) is False
        shutil.rmtree(html_dir / "chapters")
        (html_dir / "index.html").unlink()
        assert render_book(source, html_dir, digest, log) is True
        assert (html_dir / "chapters" / "10_draw-one.html").is_file()
