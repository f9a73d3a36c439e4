"""The headline table: published figures beside recomputed ones, between its marks."""

import re

import pytest

from panelbook.errors import BookError
from panelbook.pipeline.stages import plan
from panelbook.project import DEFAULT_PROFILE, Project
from panelbook.publish.headline import (
    END,
    START,
    Headline,
    headline_table,
    live_table,
    read_headlines,
    write_between_marks,
)

PROJECT = Project.find()
ROW = Headline("It grows", "+78.2%", "diversity.aime", "ratio")
RECORD = {
    "value": 0.7825,
    "low": 0.5,
    "high": 1.126,
    "n_problems": 50,
    "n_draws": 1400,
    "method": "bootstrap",
    "reason": "",
    "style": "change",
    "title": "a title",
}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestTable:
    def test_a_row_holds_claim_published_figure_estimate_interval_and_counts(self):
        lines = headline_table([ROW], {"diversity.aime": {"ratio": RECORD}}).splitlines()
        assert len(lines) == 3
        assert cells(lines[2]) == ["It grows", "+78.2%", "+78.2%", "+50.0% to +112.6%", "50", "1,400"]

    def test_every_row_has_as_many_cells_as_the_head(self):
        absent = Headline("It shrinks", "2x", "nowhere.all", "x")
        bare = RECORD | {
            "low": None,
            "high": None,
            "reason": "only sums",
            "n_problems": None,
            "n_draws": None,
        }
        table = headline_table([ROW, absent, ROW], {"diversity.aime": {"ratio": bare}})
        assert {len(cells(line)) for line in table.splitlines()} == {6}

    def test_a_run_that_was_not_made_is_said_to_be_so(self):
        line = headline_table([ROW], {}).splitlines()[2]
        assert cells(line)[:3] == ["It grows", "+78.2%", "not recomputed here"]

    def test_a_number_without_interval_gives_its_reason_and_no_counts(self):
        bare = RECORD | {
            "low": None,
            "high": None,
            "reason": "only sums",
            "n_problems": None,
            "n_draws": None,
        }
        line = headline_table([ROW], {"diversity.aime": {"ratio": bare}}).splitlines()[2]
        assert "only sums" in cells(line)[3]
        assert cells(line)[4:] == ["", ""]

    def test_a_result_of_another_name_is_refused_with_those_there_are(self):
        with pytest.raises(BookError, match=r"diversity.aime has no result 'ratio'; it has spread, gap"):
            headline_table([ROW], {"diversity.aime": {"spread": RECORD, "gap": RECORD}})

    def test_claims_link_to_the_page_of_their_run(self):
        table = headline_table([ROW], {}, link=lambda run, text: f"[{text}]({run})")
        assert "[It grows](diversity.aime)" in table


class TestRows:
    def test_the_projects_own_rows_name_runs_that_the_published_profile_makes(self):
        runs = {run.id for run in plan(PROJECT, "published")}
        rows = read_headlines(PROJECT.params / "headline.yml")
        assert rows
        assert {row.run for row in rows} <= runs

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("- {claim: a, published: b, run: c}\n", "result"),
            ("- {claim: a, published: 3, run: c, result: d}\n", "published"),
            ("claim: a\n", "list"),
            ("- [", "headline.yml"),
        ],
    )
    def test_a_broken_file_is_refused_by_name(self, tmp_path, text, expected):
        (tmp_path / "headline.yml").write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match=r"headline\.yml") as error:
            read_headlines(tmp_path / "headline.yml")
        assert expected in str(error.value)

    def test_a_missing_file_is_refused_by_name(self, tmp_path):
        with pytest.raises(BookError, match=r"headline\.yml"):
            read_headlines(tmp_path / "headline.yml")


class TestMarks:
    TEXT = f"Before.\n\n{START}\nold\n{END}\n\nAfter.\n"

    def test_only_what_stands_between_them_changes(self):
        assert write_between_marks(self.TEXT, "new\n", "x.md") == self.TEXT.replace("old", "new")

    def test_writing_twice_changes_nothing_more(self):
        once = write_between_marks(self.TEXT, "| a |\n|---|\n", "x.md")
        assert write_between_marks(once, "| a |\n|---|\n", "x.md") == once

    @pytest.mark.parametrize(
        "text",
        [
            "no marks",
            START,
            END,
            f"{END}\n{START}\n",
            f"{START}\n{START}\n{END}\n",
            f"{START}\n{END}\n{END}\n",
        ],
    )
    def test_anything_but_one_pair_in_order_is_refused(self, text):
        with pytest.raises(BookError, match=r"x\.md must hold the line") as error:
            write_between_marks(text, "new\n", "x.md")
        assert START in str(error.value)
        assert END in str(error.value)

    def test_the_readme_has_its_table_with_every_row(self):
        text = (PROJECT.root / "README.md").read_text(encoding="utf-8")
        assert write_between_marks(text, "", "README.md") != text
        table = re.search(re.escape(START) + r"\n(.*)" + re.escape(END), text, re.S)[1].splitlines()
        rows = read_headlines(PROJECT.params / "headline.yml")
        assert [cells(line)[:2] for line in table[2:]] == [[row.claim, row.published] for row in rows]
        assert "not recomputed" not in "".join(table)


LIVE_RECORD = {
    **{"value": 0.05, "low": 0.01, "high": 0.09, "n_problems": 84, "n_draws": 1344, "style": "points"},
    **{"title": "gain", "reason": "", "method": "bootstrap"},
}


class TestLiveTable:
    ROW = Headline(claim="A gain", published="", run="climb.toy", result="gain")

    def test_shows_what_was_run(self):
        table = live_table(
            [self.ROW], {"climb.toy": {"gain": LIVE_RECORD}}, link=lambda run, text: f"[{text}]({run})"
        )
        assert table.splitlines()[-1] == "| [A gain](climb.toy) | +5.0 pp | +1.0 pp to +9.0 pp | 84 | 1,344 |"

    def test_says_so_where_nothing_was_run(self):
        assert live_table([self.ROW], {}) == "*This build did not run the live study; `make book` does.*\n"

    def test_the_projects_own_rows_name_runs_of_the_default_book(self):
        project = Project.find()
        runs = {run.id for run in plan(project, DEFAULT_PROFILE)}
        rows = read_headlines(project.params / "live.yml")
        assert {row.run for row in rows} <= runs
