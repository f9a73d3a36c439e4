"""Sweeps: every combination once, the baseline among them, and a comparison that names what moved."""

import csv
import json
from typing import ClassVar

import pytest
from toy_book import CURVE, DRAW, RECORD, change_notebook, curve_run, draw_run

from panelbook.pipeline.params import ParamError
from panelbook.pipeline.stages import vary
from panelbook.pipeline.sweep import (
    find_moves,
    idle_axes,
    join_titles,
    main_results,
    make_sweep,
    save_sweep,
    tabulate,
)


def record(value, low=None, high=None, title="a number"):
    reason = "" if low is not None else "a toy"
    return RECORD | {"value": value, "low": low, "high": high, "title": title, "reason": reason}


def results_of(sweep, **of):
    """Return results of every member and the baseline: each name's function of the run's parameters."""
    runs = (sweep.baseline, *sweep.members)
    return {run.full_id: {name: make(run.params) for name, make in of.items()} for run in runs}


class TestPlan:
    def test_members_are_the_combinations_with_the_last_axis_fastest(self):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5], "seed": [1, 2]})
        assert [(r.params.k_max, r.params.seed) for r in sweep.members] == [(3, 1), (3, 2), (5, 1), (5, 2)]
        assert sweep.members[0].variant == "k_max=3,seed=1"
        assert sweep.label(sweep.members[0]) == "k_max=3, seed=1"

    def test_the_value_of_the_baseline_is_the_baseline_itself(self):
        sweep = make_sweep(curve_run(), {"k_max": [2, 3]})
        assert sweep.members == [curve_run(), vary(curve_run(), {"k_max": 3})]
        assert sweep.label(sweep.members[1]) == "3"

    def test_a_parameter_of_one_value_changes_every_member(self):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5], "seed": [7]})
        assert {r.params.seed for r in sweep.members} == {7}
        assert (dict(sweep.axes), dict(sweep.fixed)) == ({"k_max": [3, 5]}, {"seed": 7})

    def test_a_member_out_of_range_stops_it_all(self):
        with pytest.raises(ParamError, match="n must be at least 1; got 0"):
            make_sweep(draw_run(), {"n": [3, 0]})

    def test_two_sweeps_never_share_a_folder(self):
        values = [[1, 2], [1, 2, 3], [12, 3]]
        folders = {make_sweep(curve_run(), {"k_max": several}).folder for several in values}
        assert len(folders) == 3
        (folder, *_) = folders
        assert folder.parent.as_posix() == "runs/toy/variants/curve.small/sweeps"


class TestTable:
    def test_every_result_of_every_member_and_the_baseline_is_a_row(self):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5]})
        table = tabulate(
            sweep, results_of(sweep, k=lambda p: record(p.k_max), same=lambda p: record(1.0, 0.5, 1.5))
        )
        rows = [(r.result, r.k_max, r.value, r.baseline, r.member, r.moved) for r in table.itertuples()]
        assert rows == [
            ("k", "2", 2, True, False, True),
            ("k", "3", 3, False, True, True),
            ("k", "5", 5, False, True, True),
            ("same", "2", 1.0, True, False, False),
            ("same", "3", 1.0, False, True, False),
            ("same", "5", 1.0, False, True, False),
        ]

    def test_a_member_that_failed_is_not_there(self):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5]})
        results = results_of(sweep, k=lambda p: record(p.k_max))
        del results["curve.small/k_max=3"]
        assert set(tabulate(sweep, results)["k_max"]) == {"2", "5"}

    def test_a_result_that_one_member_alone_has_has_moved(self):
        assert find_moves([{"a": record(1)}, {"a": record(1), "b": record(2)}]) == ["b"]
        assert find_moves([{"a": record(1)}, {"a": record(1)}, {"a": record(1, 0, 2)}]) == ["a"]
        assert find_moves([{"a": record(1)}, {"a": record(1)}]) == []

    def test_a_parameter_without_effect_is_found_beside_one_with(self):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5], "seed": [1, 2]})
        assert idle_axes(sweep, results_of(sweep, k=lambda p: record(p.k_max))) == ["seed"]
        assert idle_axes(sweep, results_of(sweep, k=lambda p: record(p.k_max * p.seed))) == []

    @pytest.mark.parametrize(
        ("titles", "joined"),
        [
            (["gap at k = 4", "gap at k = 16"], "gap at k = …"),
            (["from 1 to 4", "from 1 to 8"], "from 1 to …"),
            (["pass@4, 1,000 draws", "pass@4, 2,000 draws"], "pass@4, … draws"),
            (["the same", "the same"], "the same"),
            (["one thing", "another"], "one thing"),
        ],
    )
    def test_a_title_that_quotes_the_value_is_said_once_for_all(self, titles, joined):
        assert join_titles(titles) == joined


class TestFiles:
    OF: ClassVar = {
        "quoted": lambda p: record(p.k_max, p.k_max - 1, p.k_max + 1),
        "other": lambda p: record(-p.k_max, -p.k_max - 1, -p.k_max + 1),
        "count": lambda p: record(p.k_max),
    }

    def test_the_figure_shows_what_the_opening_of_the_chapter_quotes(self, toy):
        prose = "(ch-curve)=\n# Does it?\n\nIt is {glue:text}`quoted_full`, or {glue:text}`count`."
        change_notebook(toy, CURVE, prose=prose)
        sweep = make_sweep(curve_run(), {"k_max": [3, 5]})
        assert main_results(toy, sweep, tabulate(sweep, results_of(sweep, **self.OF))) == ["quoted"]

    def test_and_without_one_what_moved_and_has_an_interval(self, toy):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5]})
        table = tabulate(sweep, results_of(sweep, **self.OF))
        assert main_results(toy, sweep, table) == ["quoted", "other"]

    def test_table_record_and_figure_are_written(self, toy):
        sweep = make_sweep(curve_run(), {"k_max": [3, 5]})
        table = tabulate(sweep, results_of(sweep, **self.OF))
        files = save_sweep(toy, sweep, table, {"curve.small/k_max=5": "why"})
        assert [p.name for p in files] == ["sweep.csv", "sweep.json", "sweep.svg", "sweep.png"]
        rows = list(csv.DictReader(files[0].open(encoding="utf-8")))
        assert [r["value"] for r in rows if r["result"] == "quoted"] == ["2", "3", "5"]
        assert {"low", "high", "n_problems", "n_draws", "reason", "baseline", "moved", "k_max"} <= rows[
            0
        ].keys()
        written = json.loads(files[1].read_text(encoding="utf-8"))
        assert written["axes"] == {"k_max": [3, 5]}
        assert written["failed"] == {"curve.small/k_max=5": "why"}
        assert files[2].read_text(encoding="utf-8").lstrip().startswith("<?xml")
        assert files[3].read_bytes()[:4] == b"\x89PNG"

    def test_where_nothing_moved_there_is_no_figure_not_even_an_old_one(self, toy):
        sweep = make_sweep(draw_run(), {"seed": [3, 5]})
        folder = toy.root / sweep.folder
        folder.mkdir(parents=True)
        (folder / "sweep.svg").write_text("old", encoding="utf-8")
        files = save_sweep(toy, sweep, tabulate(sweep, results_of(sweep, n=lambda p: record(p.n))), {})
        assert [p.name for p in files] == ["sweep.csv", "sweep.json"]
        assert not (folder / "sweep.svg").exists()
        assert DRAW.name in folder.as_posix()
