"""The ledger as a file: read with care, held to its record, shown whole."""

import json
import re
from dataclasses import replace

import pytest
import yaml

from panelbook.measure.claims import HOLDS
from panelbook.measure.uncertainty import Estimate
from panelbook.project import Project
from panelbook.publish import ledger
from panelbook.publish.ledger import LedgerError, Tried, read_claims

PROJECT = Project.find()
ROW = {
    "id": "D1",
    "claim": "It grows <fast>.",
    "published": "+15 pp",
    "tracked": "rows",
    "function": "spread_excess",
    "figures": [{"value": "gain", "published": 0.15, "within": 0.01, "style": "points"}],
    "why": "The rows give {gain}.",
    "chapter": "climb.toy",
    "agrees": {"gain": "gain"},
}
GAIN = Estimate(0.148, 0.02, 0.28, 20, 80, "bootstrap")
RECORD = {"value": 0.148, "low": 0.02, "high": 0.28}


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "claims.yml"
        path.write_text(yaml.safe_dump(list(rows)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def trial(write):
    return Tried(read_claims(write(ROW))[0], {"gain": GAIN}, HOLDS, True)


class TestReading:
    def test_the_project_has_41_claims_with_functions_that_exist(self):
        claims = read_claims(PROJECT.params / "claims.yml")
        assert len(claims) == 41
        assert {claim.function for claim in claims if claim.function} <= ledger.GATHER.keys()

    def test_every_function_of_evidence_serves_a_claim(self):
        used = {claim.function for claim in read_claims(PROJECT.params / "claims.yml")}
        assert ledger.GATHER.keys() <= used

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"id": "X1"}, "must begin with one of D, K"),
            ({"tracked": "some"}, "tracked"),
            ({"why": "It is {loss}."}, "quotes 'loss', which the claim does not show"),
            ({"figures": [ROW["figures"][0] | {"style": "furlongs"}]}, "no style 'furlongs'"),
            ({"function": "guess"}, "no function 'guess'"),
            ({"conditions": [{"value": "gain"}]}, "either above or below"),
        ],
    )
    def test_a_broken_row_is_refused_with_its_place(self, write, change, expected):
        with pytest.raises(LedgerError, match=re.escape(expected)):
            read_claims(write(ROW | change))

    def test_two_rows_of_one_id_are_refused(self, write):
        with pytest.raises(LedgerError, match=r"claims\.yml, claim D1: the id is there twice"):
            read_claims(write(ROW, ROW))

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(LedgerError, match=r"none\.yml"):
            read_claims(tmp_path / "none.yml")


class TestRecord:
    def test_what_was_recorded_has_not_drifted(self, trial, tmp_path):
        lock = tmp_path / "lock.json"
        ledger.write_lock([trial], lock)
        assert ledger.find_drift([trial], lock) == []

    def test_a_value_and_a_verdict_that_moved_are_named_with_both_sides(self, trial, tmp_path):
        lock = tmp_path / "lock.json"
        ledger.write_lock([trial], lock)
        moved = replace(trial, verdict="not recomputable", evidence={"gain": replace(GAIN, value=0.1481)})
        assert ledger.find_drift([moved], lock) == [
            "D1: the verdict was 'holds' and is 'not recomputable'",
            "D1: gain was 0.148 and is 0.1481",
        ]

    def test_another_processors_last_bits_are_no_drift(self, trial, tmp_path):
        lock = tmp_path / "lock.json"
        ledger.write_lock([trial], lock)
        assert (
            ledger.find_drift([replace(trial, evidence={"gain": replace(GAIN, value=0.148 + 1e-9)})], lock)
            == []
        )

    def test_a_claim_on_one_side_only_is_named(self, trial, tmp_path):
        lock = tmp_path / "lock.json"
        ledger.write_lock([], lock)
        assert ledger.find_drift([trial], lock) == ["D1: in the ledger but not in the record"]
        ledger.write_lock([trial], lock)
        assert ledger.find_drift([], lock) == ["D1: in the record but not in the ledger"]

    @pytest.mark.parametrize("text", [None, "{"])
    def test_a_missing_or_broken_record_says_what_writes_it(self, trial, tmp_path, text):
        lock = tmp_path / "lock.json"
        if text is not None:
            lock.write_text(text, encoding="utf-8")
        with pytest.raises(LedgerError, match="panelbook claims --accept"):
            ledger.find_drift([trial], lock)


class TestChapters:
    def test_equal_numbers_are_counted(self, trial):
        assert ledger.compare_with_chapters([trial], {"climb.toy": {"gain": RECORD}}) == 1

    def test_a_chapter_that_was_left_out_is_not_compared(self, trial):
        assert ledger.compare_with_chapters([trial], {}) == 0

    @pytest.mark.parametrize("end", ["value", "low", "high"])
    def test_a_chapter_that_says_something_else_is_refused(self, trial, end):
        with pytest.raises(LedgerError, match=rf"claim D1: gain is {end} .* in climb.toy"):
            ledger.compare_with_chapters([trial], {"climb.toy": {"gain": RECORD | {end: 0.2}}})

    def test_a_chapter_without_the_number_is_refused(self, trial):
        with pytest.raises(LedgerError, match=r"chapter climb\.toy has no result 'gain'"):
            ledger.compare_with_chapters([trial], {"climb.toy": {"loss": RECORD}})


class TestShowing:
    def test_a_row_shows_claim_figure_number_interval_counts_verdict_reason_and_link(self, trial):
        page = ledger.ledger_html([trial], lambda run, text: f'<a href="{run}.html">{text}</a>')
        for part in (
            "It grows &lt;fast&gt;.",
            "+15 pp",
            "<b>+14.8 pp</b>",
            "+2.0 pp to +28.0 pp; 20 problems, 80 draws",
            "holds",
            "The rows give +14.8 pp.",
            'href="climb.toy.html"',
        ):
            assert part in page

    def test_the_front_pages_file_holds_what_it_reads(self, trial):
        rows = json.loads(ledger.to_json([trial]))
        assert rows[0]["why"] == "The rows give +14.8 pp."
        assert rows[0]["records"]["gain"]["low"] == 0.02

    def test_verdicts_are_counted_with_those_that_none_got(self, trial):
        counts = ledger.count_verdicts([trial, trial])
        assert counts[HOLDS] == 2
        assert sum(counts.values()) == 2
        assert len(counts) == 4
