"""The headline table: published figures beside recomputed ones, between its marks."""

import dataclasses
import re

import pytest

from panelbook.errors import BookError
from panelbook.measure.claims import CONTRADICTED, HOLDS
from panelbook.pipeline.stages import plan
from panelbook.project import DEFAULT_PROFILE, Project
from panelbook.publish.headline import (
    END,
    START,
    Headline,
    headline_table,
    live_table,
    read_headlines,
    verdict_cards,
    verdict_count,
    write_between_marks,
)
from panelbook.publish.ledger import read_claims

PROJECT = Project.find()
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
CLAIM = {
    "id": "D1",
    "claim": "It grows",
    "published": "+78.2%",
    "verdict": HOLDS,
    "beyond": True,
    "why": "The rows say so.",
    "concedes": "",
    "chapter": "diversity.aime",
    "headline": "Growth",
    "records": {"ratio": RECORD},
}
BARE = RECORD | {"low": None, "high": None, "reason": "only sums", "n_problems": None, "n_draws": None}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestTable:
    def test_a_row_holds_claim_published_figure_estimate_interval_counts_and_verdict(self):
        lines = headline_table([CLAIM]).splitlines()
        assert len(lines) == 3
        assert cells(lines[2]) == [
            *("It grows", "**holds**", "+78.2%", "+78.2%", "+50.0% to +112.6%", "50, 1,400"),
        ]

    def test_only_claims_of_the_front_page_are_shown_and_every_row_has_as_many_cells_as_the_head(self):
        other = CLAIM | {"claim": "It shrinks", "headline": ""}
        table = headline_table([CLAIM, other, CLAIM | {"records": {"ratio": BARE}}])
        assert len(table.splitlines()) == 4
        assert "shrinks" not in table
        assert {len(cells(line)) for line in table.splitlines()} == {6}

    def test_a_number_without_interval_gives_its_reason_and_no_counts(self):
        line = headline_table([CLAIM | {"records": {"ratio": BARE}}]).splitlines()[2]
        assert "only sums" in cells(line)[4]
        assert cells(line)[5] == ""

    def test_a_build_without_the_ledger_says_so(self):
        assert headline_table([]).startswith("*This build did not try the claims")

    def test_claims_link_to_the_page_of_their_run(self):
        table = headline_table([CLAIM], link=lambda run, text: f"[{text}]({run})")
        assert "[It grows](diversity.aime)" in table


class TestCards:
    LIVE = Headline("A gain", "climb.toy", "gain", card=True)

    def test_claims_are_sorted_by_what_became_of_them(self):
        falls = CLAIM | {"headline": "Opening", "verdict": CONTRADICTED}
        text = verdict_cards([CLAIM, falls], [self.LIVE], {"climb.toy": {"gain": LIVE_RECORD}})
        stands, rest = text.split("What does not")
        assert "- Growth: +78.2% (+50.0% to +112.6%)" in stands
        assert "1 of 2 claims hold" in stands
        fallen, adds = rest.split("What the live study adds")
        assert "Opening" in fallen
        assert "A gain: +5.0 pp (+1.0 pp to +9.0 pp)" in adds

    def test_a_figure_that_reaches_no_other_problems_says_so(self):
        assert "includes no effect" not in verdict_cards([CLAIM], [], {})
        assert "includes no effect" in verdict_cards([CLAIM | {"beyond": False}], [], {})

    def test_a_card_without_a_line_is_left_out(self):
        text = verdict_cards([CLAIM], [self.LIVE], {})
        assert text.count("grid-item-card") == 1
        assert verdict_cards([], [self.LIVE], {}) == ""


class TestRows:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("- {claim: a, run: c}\n", "result"),
            ("- {claim: a, run: 3, result: d}\n", "run"),
            ("claim: a\n", "list"),
            ("- [", "live.yml"),
        ],
    )
    def test_a_broken_file_is_refused_by_name(self, tmp_path, text, expected):
        (tmp_path / "live.yml").write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match=r"live\.yml") as error:
            read_headlines(tmp_path / "live.yml")
        assert expected in str(error.value)

    def test_a_missing_file_is_refused_by_name(self, tmp_path):
        with pytest.raises(BookError, match=r"live\.yml"):
            read_headlines(tmp_path / "live.yml")


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
        rows = [claim for claim in read_claims(PROJECT.params / "claims.yml") if claim.headline]
        assert len(rows) >= 6
        shown = [[row.claim, row.published or "no figure"] for row in rows]
        assert [cells(line)[:3:2] for line in table[2:]] == shown


LIVE_RECORD = {
    **{"value": 0.05, "low": 0.01, "high": 0.09, "n_problems": 84, "n_draws": 1344, "style": "points"},
    **{"title": "gain", "reason": "", "method": "bootstrap"},
}


class TestLiveTable:
    ROW = Headline(claim="A gain", run="climb.toy", result="gain")

    def test_shows_what_was_run(self):
        table = live_table(
            [self.ROW], {"climb.toy": {"gain": LIVE_RECORD}}, link=lambda run, text: f"[{text}]({run})"
        )
        assert table.splitlines()[-1] == "| [A gain](climb.toy) | +5.0 pp | +1.0 pp to +9.0 pp | 84 | 1,344 |"

    def test_every_model_has_a_table_of_its_own(self):
        other = dataclasses.replace(self.ROW, of="another model", claim="Its gain")
        record = {"climb.toy": {"gain": dict(RECORD)}}
        text = live_table([self.ROW, other, self.ROW], record)
        first, second = text.split("\n\n")
        assert first.startswith("| the miniature |")
        assert first.count("A gain") == 2
        assert second.startswith("| another model |")
        assert "Its gain" in second

    def test_says_so_where_nothing_was_run(self):
        assert live_table([self.ROW], {}) == "*This build did not run the live study; `make book` does.*\n"

    def test_the_projects_own_rows_name_runs_of_the_default_book(self):
        project = Project.find()
        runs = {run.id for run in plan(project, DEFAULT_PROFILE)}
        rows = read_headlines(project.params / "live.yml")
        assert {row.run for row in rows} <= runs


class TestCount:
    def test_every_claim_is_counted_under_its_verdict(self):
        verdicts = ["holds"] * 3 + ["contradicted by the tracked data"] * 2 + ["not recomputable"]
        text = verdict_count(
            [{"verdict": verdict} for verdict in verdicts], lambda run, text: f"[{text}]({run})"
        )
        assert text == (
            "Of [6 claims](claims.all) 3 hold, 0 more hold from aggregates only, 2 are contradicted by the study's own "
            "data, and 1 cannot be recomputed.\n"
        )

    def test_a_build_without_claims_says_that_none_was_tried(self):
        assert "did not try the claims" in verdict_count([])
