"""The command line: what a reader types, sees and gets as exit status."""

import dataclasses
import json
import re
import shutil
from typing import ClassVar

import pytest
from toy_book import (
    DRAW,
    DRAW_CELLS,
    DrawParams,
    assert_refused,
    change_notebook,
    curve_run,
    draw_run,
    read_all,
    read_results,
    write_profile,
)

from panelbook.errors import BookError
from panelbook.measure.power import IMPOSSIBLE, assess, plan_from_rates
from panelbook.pipeline import cli
from panelbook.pipeline.notebook import clean_source, read_notebook
from panelbook.pipeline.stages import STAGES
from panelbook.project import Project
from panelbook.publish.headline import END, START


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        ["build", "run", "variants", "import", "params", "claims", "fetch", "headline", "power", "tidy"],
    )
    def test_every_command_explains_itself_and_its_options(self, panelbook, command):
        status, out, _ = panelbook(command, "--help")
        assert status == 0
        assert command in out
        assert len(out) > 200

    def test_an_unknown_command_is_refused(self, panelbook):
        status, _, err = panelbook("biuld")
        assert status == 2
        assert "biuld" in err


@pytest.mark.published
class TestClaims:
    @pytest.fixture
    def checkout(self, published_folder, tmp_path, monkeypatch):
        """Return a checkout whose ledger a test may change."""
        root = tmp_path / "checkout"
        shutil.copytree(Project.find().params, root / "params")
        (root / "notebooks").mkdir()
        (root / "_config.yml").write_text("title: copy\n", encoding="utf-8")
        monkeypatch.chdir(root)
        return root

    def test_the_ledger_is_tried_and_nothing_has_drifted(self, checkout, panelbook):
        status, out, _ = panelbook("claims", "V1", "--why")
        assert status == 0
        assert "382" in out
        assert re.search(r"\b13 holds", out)
        assert "D1" not in out

    def test_a_value_that_drifted_is_named_and_the_status_is_not_0(self, checkout, panelbook):
        lock = checkout / "params" / "claims.lock.json"
        recorded = json.loads(lock.read_text(encoding="utf-8"))
        recorded["V1"]["values"]["ratio"] = 1.9
        lock.write_text(json.dumps(recorded), encoding="utf-8")
        assert_refused(
            panelbook("claims", "V1"), "V1: ratio was 1.9 and is 1.82", "panelbook claims --accept"
        )
        assert panelbook("claims", "V1", "--accept")[0] == 0
        assert panelbook("claims", "V1")[0] == 0

    def test_a_changed_rule_changes_the_verdict_and_says_so(self, checkout, panelbook):
        rules = checkout / "params" / "claims.yml"
        text = rules.read_text(encoding="utf-8")
        rules.write_text(
            text.replace("published: 382, within: 0", "published: 381, within: 0"), encoding="utf-8"
        )
        assert_refused(panelbook("claims", "V1"), "V1: the verdict was 'holds' and is 'contradicted")

    def test_an_id_that_is_not_there_is_answered_with_those_that_are(self, checkout, panelbook):
        assert_refused(panelbook("claims", "Z"), "no claim has an id that begins with 'Z'", "K3")


class TestParams:
    def test_without_a_stage_it_lists_stages_notebooks_and_groups(self, here, panelbook):
        status, out, _ = panelbook("params", "--profile", "toy")
        assert status == 0
        assert re.search(r"draw\s.*10_draw\.ipynb\s.*all", out)
        assert re.search(r"curve\s.*20_curve\.ipynb\s.*small", out)

    def test_a_stage_shows_name_type_default_value_and_meaning(self, here, panelbook):
        write_profile(here, "toy", {"stages": {"draw": {"few": {"n": 2}, "many": {"n": 77}}}})
        status, out, _ = panelbook("params", "draw", "--profile", "toy")
        assert status == 0
        assert re.search(r"few\s.*many", out)
        line = next(line for line in out.splitlines() if re.search(r"\bn\b.*\bint\b", line))
        assert re.search(r"n\s.*int\s.*4\s.*2\s.*77\s.*draws", line)

    def test_a_group_shows_that_group_alone(self, here, panelbook):
        write_profile(here, "toy", {"stages": {"draw": {"few": {"n": 2}, "many": {"n": 77}}}})
        _, out, _ = panelbook("params", "draw.few", "--profile", "toy")
        assert "many" not in out
        assert "77" not in out

    def test_an_unknown_stage_or_profile_is_answered_with_the_nearest_spelling(self, here, panelbook):
        assert_refused(panelbook("params", "drw", "--profile", "toy"), "Did you mean 'draw'?")
        assert_refused(panelbook("params", "draw", "--profile", "ty"), "Did you mean 'toy'?")


class TestPower:
    PLAN = ("--pass-first", "0.30", "--pass-second", "0.35", "--problems", "100", "--draws", "8")

    def answers(self, out):
        """Return the second column by the first, both as printed."""
        rows = re.findall(r"│\s+(.*?)\s+│\s+(.*?)\s+│", out)
        return dict(rows)

    def test_it_answers_what_a_design_sees_and_what_it_would_take(self, panelbook):
        status, out, _ = panelbook("power", *self.PLAN)
        design = plan_from_rates(0.05, 0.30, 0.35, 100, 8)
        found = assess(design)
        assert status == 0
        assert self.answers(out) == {
            "chance to see a difference of +0.05": f"{found.power:.1%}",
            "smallest difference seen with 80% chance": f"{found.detectable:.3f}",
            "problems needed for +0.05, with 8 draws each": f"{found.problems}",
            "draws needed for +0.05, with 100 problems": IMPOSSIBLE,
            "share of the variance that is between problems": f"{design.between / design.variance:.0%}",
        }

    def test_every_option_reaches_the_plan(self, panelbook):
        options = ("--effect", "0.2", "--power", "0.9", "--correlation", "0.9", "--sd-problems", "0.1")
        _, out, _ = panelbook("power", *self.PLAN, *options)
        found = assess(plan_from_rates(0.2, 0.30, 0.35, 100, 8, 0.9, 0.1), 0.9)
        answers = self.answers(out)
        assert answers["smallest difference seen with 90% chance"] == f"{found.detectable:.3f}"
        assert answers["draws needed for +0.2, with 100 problems"] == f"{found.draws}"

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--pass-second", "1.35"), "pass_second must lie between 0 and 1, both excluded; got 1.35"),
            (("--pass-second", "0.30"), "effect must be a difference other than 0"),
            (("--problems", "1"), "at least 2 problems"),
            (("--sd-problems", "0.9"), "sd_problems must lie between 0 and 0.458"),
            (("--power", "1"), "power must lie above the level 0.05 and below 1"),
            (
                ("--correlation", "1", "--sd-problems", "0", "--pass-first", "0.35", "--effect", "3"),
                "effect must be",
            ),
        ],
    )
    def test_what_cannot_be_planned_is_refused(self, panelbook, options, said):
        assert_refused(panelbook("power", *self.PLAN, *options), "ParamError", said)

    def test_what_is_left_out_is_named(self, panelbook):
        status, _, err = panelbook("power", *self.PLAN[:-2])
        assert status == 2
        assert "--draws" in err


class TestBuild:
    def test_a_build_runs_what_is_needed_and_a_second_one_nothing(self, here, panelbook):
        status, out, _ = panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        assert status == 0
        assert "2 executed, 0 up to date" in out
        status, out, _ = panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        assert status == 0
        assert "0 executed, 2 up to date" in out

    def test_a_failing_cell_is_one_screen_and_a_non_zero_exit(self, here, panelbook):
        change_notebook(here, DRAW, work='json.loads("{broken")')
        result = panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        assert_refused(
            result, "draw.all failed in cell 'work' of 10_draw.ipynb", "JSONDecodeError", "curve.small"
        )
        assert "draw.all: failed" in result[1]  # at once, not only at the end
        assert read_all(here.root / draw_run().folder) == {}
        assert "failed/draw.all/notebook.ipynb" in result[2]

    @pytest.mark.parametrize(
        ("profile", "expected"),
        [
            ({"stages": {"draw": {"all": {"nn": 1}}}}, "Did you mean 'n'?"),
            ({"stages": {"draw": {"all": {"n": "four"}}}}, "n must be int; got 'four' (str)"),
            ({"stages": {"draw": {"all": {"n": 0}}}}, "n must be at least 1; got 0"),
            ({"stages": {"draww": {"all": {}}}}, "Did you mean 'draw'?"),
            ("stages: [", "is not valid YAML"),
        ],
    )
    def test_a_wrong_profile_is_refused_before_anything_is_written(self, here, panelbook, profile, expected):
        write_profile(here, "toy", profile)
        assert_refused(panelbook("build", "--profile", "toy"), "ParamError", "params/toy.yml", expected)
        assert not here.runs.exists()

    def test_a_reader_without_the_published_files_is_told_what_is_left_out(
        self, here, panelbook, monkeypatch
    ):
        from toy_book import CURVE, NeedyDrawParams

        from panelbook.pipeline import stages

        needy = dataclasses.replace(DRAW, params=NeedyDrawParams)
        monkeypatch.setattr(stages, "STAGES", {"draw": needy, "curve": CURVE})
        write_profile(
            here,
            "toy",
            {"stages": {"draw": {"all": {}}, "curve": {"small": {}, "own": {"draws": "mine/draws.csv"}}}},
        )
        (here.root / "mine").mkdir()
        (here.root / "mine" / "draws.csv").write_text("0,1\n1,0\n", encoding="utf-8")
        status, out, _ = panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        assert status == 0
        assert "Leaving out 2 published chapters" in out
        assert "panelbook fetch" in out
        assert "1 executed, 0 up to date" in out
        assert read_all(here.root / curve_run(group="own").folder) != {}

    def test_damaged_published_files_stop_the_build(self, here, panelbook, monkeypatch, tmp_path):
        (tmp_path / "damaged" / "reports").mkdir(parents=True)
        monkeypatch.setenv("PANELBOOK_PUBLISHED", str(tmp_path / "damaged"))
        from panelbook.rollouts import published

        name = next(iter(published.registry()))
        (tmp_path / "damaged" / name).parent.mkdir(parents=True)
        (tmp_path / "damaged" / name).write_text("{}", encoding="utf-8")
        assert_refused(panelbook("build", "--profile", "toy", "--no-html"), "PublishedDataError", name)
        assert not (here.runs / "toy").exists()


class TestRun:
    def test_other_parameters_go_to_a_variant_and_the_moved_results_are_shown(self, here, panelbook):
        status, out, _ = panelbook("run", "curve", "-p", "k_max=3", "--profile", "toy", "--no-html")
        assert status == 0
        baseline, variant = curve_run(), here.runs / "toy" / "variants" / "curve.small" / "k_max=3"
        assert read_results(here, baseline)["k_max"]["value"] == 2
        assert (variant / "curve.csv").read_text().splitlines()[-1].startswith("3,")
        assert re.search(r"a number\s.*2 .*3 ", out)
        assert "1 results moved, 0 did not" in out
        assert "files: runs/toy/variants/curve.small/k_max=3" in out

    def test_the_baseline_is_not_touched(self, here, panelbook):
        panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        before = read_all(here.root / curve_run().folder)
        status, out, _ = panelbook("run", "curve.small", "-p", "seed=5", "--profile", "toy", "--no-html")
        assert status == 0
        assert read_all(here.root / curve_run().folder) == before
        assert "0 results moved, 1 did not" in out

    def test_without_other_parameters_the_baseline_itself_is_executed_again(self, here, panelbook):
        panelbook("run", "draw", "--profile", "toy", "--no-html")
        manifest = here.root / draw_run().folder / "manifest.json"
        before = manifest.stat().st_mtime_ns
        status, out, _ = panelbook("run", "draw.all", "--profile", "toy", "--no-html")
        assert status == 0
        assert "draw.all: executed" in out
        assert manifest.stat().st_mtime_ns > before
        assert not (here.runs / "toy" / "variants").exists()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("curve", "-p", "kmax=3"), "Did you mean 'k_max'?"),
            (("curve", "-p", "k_max=three"), "k_max must be int; got 'three' (str)"),
            (("curve", "-p", "k_max"), "name=value"),
            (("draw", "-p", "n=0"), "n must be at least 1; got 0"),
            (("curv",), "Did you mean 'curve'?"),
            (("curve.smal",), "Did you mean 'small'?"),
            (("curve", "--profile", "tony"), "Did you mean 'toy'?"),
            (("draw", "--profile", "base"), "profile 'base' has no group of stage 'draw'"),
        ],
    )
    def test_a_slip_is_refused_before_any_kernel_starts(self, here, panelbook, arguments, expected):
        if "--profile" not in arguments:
            arguments = (*arguments, "--profile", "toy")
        assert_refused(panelbook("run", *arguments), expected)
        assert not (here.runs / "toy").exists()

    def test_a_failing_variant_leaves_the_baseline_and_no_folder(self, here, panelbook):
        panelbook("build", "--profile", "toy", "--no-html", "--no-download")
        before = read_all(here.root / curve_run().folder)
        result = panelbook(
            "run", "curve", "-p", "k_max=-1", "-p", "draws=gone.csv", "--profile", "toy", "--no-html"
        )
        assert_refused(result, "gone.csv, which does not exist")
        assert read_all(here.root / curve_run().folder) == before
        assert not (here.runs / "toy" / "variants").exists()


class TestHeadline:
    CLAIM: ClassVar = {
        "claim": "Four draws",
        "published": "4",
        "verdict": "holds",
        "chapter": "draw.all",
        "headline": "Four",
        "records": {
            "n_draws": {
                **{"value": 4.0, "low": None, "high": None, "n_problems": None, "n_draws": None},
                **{"method": "exact", "reason": "a setting", "style": "count", "title": "draws"},
            }
        },
    }

    def test_the_table_is_printed_and_written_between_the_marks(self, here, panelbook, monkeypatch):
        monkeypatch.setattr("panelbook.pipeline.book.load_ledger", lambda project, runs: [self.CLAIM])
        status, out, _ = panelbook("headline", "--profile", "toy")
        assert status == 0
        assert "| Four draws | **holds** | 4 | 4 | none: a setting |  |" in out
        readme = here.root / "README.md"
        readme.write_text(f"Before.\n{START}\nold\n{END}\nAfter.\n", encoding="utf-8")
        status, _, _ = panelbook("headline", "--write", str(readme), "--profile", "toy")
        assert status == 0
        assert readme.read_text(encoding="utf-8") == f"Before.\n{START}\n{out}{END}\nAfter.\n"

    def test_without_a_trial_the_file_is_left_alone(self, here, panelbook):
        readme = here.root / "README.md"
        readme.write_text(f"{START}\nold\n{END}\n", encoding="utf-8")
        result = panelbook("headline", "--write", str(readme), "--profile", "toy")
        assert_refused(result, "The claims have not been tried yet. Run `panelbook build` first.")
        assert readme.read_text(encoding="utf-8") == f"{START}\nold\n{END}\n"


class TestTidy:
    def test_a_notebook_with_outputs_and_stale_parameters_is_brought_into_its_tracked_form(
        self, here, panelbook
    ):
        path = here.notebooks / DRAW.notebook
        tidy = path.read_bytes()
        path.write_text(
            path.read_text(encoding="utf-8").replace("n: int = 4", "n: int = 5").replace("null", "7"),
            encoding="utf-8",
        )
        assert_refused(panelbook("tidy", "--check"), "10_draw.ipynb is not in its tracked form")
        assert path.read_bytes() != tidy
        status, out, _ = panelbook("tidy")
        assert (status, "tidied 10_draw.ipynb" in out) == (0, True)
        assert path.read_bytes() == tidy

    def test_a_notebook_of_the_right_content_and_another_layout_is_laid_out_anew(self, here, panelbook):
        path = here.notebooks / "10_draw.ipynb"
        tidy = path.read_bytes()
        path.write_text(json.dumps(json.loads(tidy)), encoding="utf-8")
        assert_refused(panelbook("tidy", "--check"), "10_draw.ipynb is not in its tracked form")
        panelbook("tidy")
        assert path.read_bytes() == tidy

    def test_a_tidy_checkout_is_left_alone(self, here, panelbook):
        before = read_all(here.notebooks)
        assert panelbook("tidy") == (0, "", "")
        assert panelbook("tidy", "--check") == (0, "", "")
        assert read_all(here.notebooks) == before


class TestMain:
    def test_a_defect_keeps_its_traceback(self, here, monkeypatch):
        monkeypatch.setattr("panelbook.pipeline.stages.plan", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cli.main(["params", "--profile", "toy"])

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (PermissionError(13, "Permission denied", "/locked/out"), "/locked/out: Permission denied"),
            (OSError(28, "No space left on device"), "No space left on device"),
        ],
    )
    def test_a_refusal_of_the_system_is_one_screen(self, panelbook, monkeypatch, error, told):
        def refuse(*_):
            raise error

        monkeypatch.setattr("panelbook.pipeline.stages.plan", refuse)
        assert_refused(panelbook("params"), told)

    def test_brackets_in_a_message_are_shown_as_they_are(self, panelbook, monkeypatch):
        def refuse(*_):
            raise BookError("column [bold]x[/bold] is missing")

        monkeypatch.setattr("panelbook.pipeline.stages.plan", refuse)
        assert_refused(panelbook("params"), "column [bold]x[/bold] is missing")


class TestProject:
    def test_it_is_found_from_any_folder_inside(self, toy):
        (toy.root / "deep" / "er").mkdir(parents=True)
        assert Project.find(toy.root / "deep" / "er") == toy
        assert Project.find(toy.root) == toy

    def test_from_outside_it_is_the_checkout_of_this_package(self, tmp_path):
        assert Project.find(tmp_path).notebooks.is_dir()

    def test_paths_are_written_from_the_root(self, toy, tmp_path):
        assert toy.relative(toy.root / "runs" / "x.csv") == "runs/x.csv"
        assert toy.path("runs/x.csv") == toy.root / "runs" / "x.csv"
        assert toy.relative(tmp_path / "elsewhere") == (tmp_path / "elsewhere").resolve().as_posix()
        assert toy.path("/abs/x.csv").as_posix() == "/abs/x.csv"


def test_the_toy_speaks_the_same_form_as_the_project(toy):
    """Guard the fixture: were its notebooks not tidy, the tests above would prove nothing."""
    notebook = read_notebook(toy.notebooks / DRAW.notebook)
    assert clean_source(notebook, DrawParams) == notebook
    assert DRAW_CELLS.keys() == {cell.id for cell in notebook.cells if cell.cell_type == "code"}
    assert STAGES
