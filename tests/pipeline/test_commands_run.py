"""`panelbook run` and `params`: sweeps, what is said of them, what is asked before, and what scripts get."""

import csv
import json
import re

import pytest
from toy_book import CURVE, assert_refused, change_notebook, curve_run, draw_run, read_all, write_profile

SWEEP = ("run", "curve", "--profile", "toy", "--no-html")
FAILS_AT_5 = "if k_max == 5:\n    raise ValueError('five')\n"


def variants(project):
    return {p.name for p in (project.runs / "toy" / "variants" / "curve.small").iterdir()} - {"sweeps"}


class TestSweep:
    def test_each_value_is_a_variant_and_they_are_compared(self, here, panelbook):
        status, out, _ = panelbook(*SWEEP, "-p", "k_max=2,3,4")
        assert status == 0
        assert variants(here) == {"k_max=3", "k_max=4"}  # 2 is the baseline's own
        assert re.search(r"2 \(baseline\)\s.*3\s.*4", out)
        assert re.search(r"a number\s.*2\s.*3\s.*4", out)
        folder = here.runs / "toy" / "variants" / "curve.small" / "sweeps" / "k_max=2+3+4"
        assert "sweep: runs/toy/variants/curve.small/sweeps/k_max=2+3+4/" in out
        rows = list(csv.DictReader((folder / "sweep.csv").open(encoding="utf-8")))
        assert [(r["k_max"], r["value"], r["baseline"]) for r in rows] == [
            ("2", "2", "True"),
            ("3", "3", "False"),
            ("4", "4", "False"),
        ]

    def test_what_is_there_is_found_again_and_a_failed_member_does_not_lose_the_others(self, here, panelbook):
        change_notebook(here, CURVE, check=FAILS_AT_5)
        status, out, err = panelbook(*SWEEP, "-p", "k_max=3,5,4")
        assert status == 1
        assert "failed curve.small/k_max=5" in err
        assert "ValueError: five" in err
        assert variants(here) == {"k_max=3", "k_max=4"}
        assert re.search(r"baseline \(2\)\s.*3\s.*4", out)
        before = read_all(here.runs / "toy" / "variants" / "curve.small" / "k_max=3")
        status, out, _ = panelbook(*SWEEP, "-p", "k_max=3,4")
        assert status == 0
        assert "curve.small/k_max=3: up to date" in out
        assert "executed" not in out
        assert read_all(here.runs / "toy" / "variants" / "curve.small" / "k_max=3") == before

    def test_a_parameter_without_effect_is_named(self, here, panelbook):
        _, _, err = panelbook(*SWEEP, "-p", "k_max=3,4", "-p", "seed=1,2")
        assert "seed had no effect on any result." in err
        assert "k_max had no effect" not in err
        assert len(variants(here)) == 4

    def test_a_large_sweep_is_not_begun_unasked(self, here, panelbook):
        many = ",".join(str(k) for k in range(3, 20))
        assert_refused(panelbook(*SWEEP, "-p", f"k_max={many}"), "makes 17 variants, more than 16", "--yes")
        assert not (here.runs / "toy").exists()

    def test_a_value_out_of_range_stops_it_before_anything_runs(self, here, panelbook):
        result = panelbook("run", "draw", "--profile", "toy", "-p", "n=3,0")
        assert_refused(result, "n must be at least 1; got 0")
        assert not (here.runs / "toy").exists()


class TestVariant:
    def test_it_is_found_again_and_executed_again_when_forced(self, here, panelbook):
        panelbook(*SWEEP, "-p", "k_max=3")
        manifest = here.runs / "toy" / "variants" / "curve.small" / "k_max=3" / "manifest.json"
        before = manifest.stat().st_mtime_ns
        _, out, _ = panelbook(*SWEEP, "-p", "k_max=3")
        assert "curve.small/k_max=3: up to date" in out
        assert manifest.stat().st_mtime_ns == before
        _, out, _ = panelbook(*SWEEP, "-p", "k_max=3", "--force")
        assert "curve.small/k_max=3: executed" in out
        assert manifest.stat().st_mtime_ns > before

    def test_parameters_without_effect_or_like_the_baseline_are_pointed_out(self, here, panelbook):
        _, _, err = panelbook(*SWEEP, "-p", "seed=5")
        assert "seed had no effect on any result of this chapter." in err
        _, _, err = panelbook(*SWEEP, "-p", "k_max=2", "-p", "seed=5")
        assert "k_max=2 is what the baseline has." in err
        assert "seed had no effect" in err

    def test_it_ends_with_how_to_go_on_by_hand(self, here, panelbook):
        _, out, _ = panelbook(*SWEEP, "-p", "k_max=3")
        assert "jupyter lab notebooks/20_curve.ipynb" in out


class TestScripts:
    def test_json_is_all_that_goes_to_the_output(self, here, panelbook):
        status, out, err = panelbook(*SWEEP, "-p", "k_max=3", "--json")
        assert status == 0
        (entry,) = json.loads(out)["runs"]
        assert entry["run"] == "curve.small/k_max=3"
        assert (entry["status"], entry["changes"], entry["unmoved"]) == ("executed", {"k_max": 3}, 0)
        (moved,) = entry["moved"]
        assert (moved["result"], moved["before"]["value"], moved["after"]["value"]) == ("k_max", 2, 3)
        assert "executed" in err

    def test_json_of_a_sweep_with_a_failed_member(self, here, panelbook):
        change_notebook(here, CURVE, check=FAILS_AT_5)
        status, out, _ = panelbook(*SWEEP, "-p", "k_max=3,5", "--json")
        told = json.loads(out)
        assert status == 1
        assert list(told["failed"]) == ["curve.small/k_max=5"]
        assert [e["run"] for e in told["runs"]] == ["curve.small/k_max=3"]
        assert told["sweeps"][0]["moved"] == ["k_max"]

    def test_a_dry_run_says_what_would_happen_and_does_nothing(self, here, panelbook):
        status, out, _ = panelbook(*SWEEP, "-p", "k_max=3", "--dry-run", "--json")
        assert status == 0
        assert [(row["run"], row["state"]) for row in json.loads(out)] == [
            ("draw.all", "would be executed"),
            ("curve.small", "would be executed"),
            ("curve.small/k_max=3", "would be executed"),
        ]
        assert not (here.runs / "toy").exists()
        panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        _, out, _ = panelbook(*SWEEP, "-p", "k_max=3", "--dry-run", "--json")
        assert [row["state"] for row in json.loads(out)] == ["up to date", "up to date", "would be executed"]
        _, out, _ = panelbook(*SWEEP, "--dry-run", "--json")
        assert json.loads(out)[-1]["state"] == "would be executed"  # a baseline is, whenever it is asked for
        _, out, _ = panelbook(*SWEEP, "-p", "k_max=3", "--dry-run")
        assert re.search(r"curve\.small/k_max=3\s.*would be executed\s.*k_max=3\s.*runs/toy/draw/all", out)


class TestParams:
    def test_json_tells_types_ranges_and_values(self, here, panelbook):
        write_profile(here, "toy", {"stages": {"draw": {"few": {"n": 2}, "many": {"n": 77}}}})
        _, out, _ = panelbook("params", "draw", "--profile", "toy", "--json")
        told = {row["name"]: row for row in json.loads(out)}
        assert told["n"]["values"] == {"few": 2, "many": 77}
        assert (told["n"]["type"], told["n"]["default"]) == ("int", 4)
        assert told["confidence"]["within"] == "(0, 1)"
        assert told["n_resamples"]["allowed"] == "at least 100"

    def test_it_ends_with_a_command_that_works(self, here, panelbook):
        _, out, _ = panelbook("params", "curve.small", "--profile", "toy")
        (command,) = re.findall(r"For example: panelbook (.+)", out)
        assert command == "run curve.small --profile toy -p k_max=4"
        status, out, _ = panelbook(*command.split(), "--dry-run")
        assert status == 0
        assert "k_max=4" in out

    def test_an_unknown_group_is_answered_with_the_nearest(self, here, panelbook):
        assert_refused(panelbook("params", "curve.smal", "--profile", "toy"), "Did you mean 'small'?")


def test_the_toy_has_the_runs_these_tests_name():
    assert (draw_run().id, curve_run().id) == ("draw.all", "curve.small")


@pytest.mark.parametrize("arguments", [("run", "--help"), ("params", "--help"), ("variants", "--help")])
def test_help_explains_sweeps_and_quoting(panelbook, arguments):
    status, out, _ = panelbook(*arguments)
    assert status == 0
    if arguments[0] == "run":
        assert "k_max=4,8,16" in out
        assert 'label="first, second"' in out
        assert "[20,50];[20,134]" in out
