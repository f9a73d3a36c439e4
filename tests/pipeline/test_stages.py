"""The plan: which runs a profile asks for, what each reads, and where it lies."""

import dataclasses

import pytest
from toy_book import CURVE, DRAW, curve_run, draw_run, write_profile

from panelbook.pipeline.params import ParamError
from panelbook.pipeline.stages import STAGES, StageRun, find_stage, list_upstream, plan, vary
from panelbook.project import Project

PROJECT = Project.find()
PROFILES = sorted(path.stem for path in PROJECT.params.glob("*.yml") if path.stem not in ("base", "headline"))


class TestStages:
    def test_every_stage_has_its_notebook_and_no_notebook_is_without_stage(self):
        tracked = {path.name for path in PROJECT.notebooks.glob("*.ipynb")}
        assert {stage.notebook for stage in STAGES.values()} == tracked

    def test_stages_stand_in_the_order_of_their_notebooks(self):
        names = [stage.notebook for stage in STAGES.values()]
        assert names == sorted(names)

    def test_every_artefact_that_a_stage_reads_is_written_by_one_other_stage(self):
        read = {
            field.metadata["artefact"]
            for stage in STAGES.values()
            for field in dataclasses.fields(stage.params)
            if "artefact" in field.metadata
        }
        assert read
        for name in read:
            assert [stage.name for stage in STAGES.values() if name in stage.writes] != [], name
            assert len([stage for stage in STAGES.values() if name in stage.writes]) == 1, name

    def test_unknown_stage_is_answered_with_the_nearest_spelling(self):
        with pytest.raises(ParamError, match=r"no stage 'pass_at_kk'. Did you mean 'pass_at_k'"):
            find_stage("pass_at_kk")


@pytest.mark.parametrize("profile", PROFILES)
class TestProfilesOfTheProject:
    def test_every_run_comes_after_those_whose_files_it_reads(self, profile):
        written: set[str] = set()
        for run in plan(PROJECT, profile):
            assert set(run.inputs) <= written, run.id
            written |= {(run.folder / name).as_posix() for name in run.outputs}

    def test_ids_folders_and_pages_are_unique(self, profile):
        runs = plan(PROJECT, profile)
        assert runs
        for names in ([r.id for r in runs], [r.folder for r in runs], [r.page for r in runs]):
            assert len(set(names)) == len(names)

    def test_every_group_has_a_label_for_the_reader(self, profile):
        assert [run.id for run in plan(PROJECT, profile) if not run.params.label] == []


def test_smoke_is_the_published_profile_with_fewer_resamples():
    published, smoke = plan(PROJECT, "published"), plan(PROJECT, "smoke")
    assert [run.id for run in smoke] == [run.id for run in published]
    for small, full in zip(smoke, published, strict=True):
        assert small.params.n_resamples < full.params.n_resamples
        changed = {
            field.name
            for field in dataclasses.fields(small.params)
            if getattr(small.params, field.name) != getattr(full.params, field.name)
        }
        artefacts = {f.name for f in dataclasses.fields(small.params) if "artefact" in f.metadata}
        assert changed - artefacts == {"n_resamples"}


@pytest.mark.usefixtures("toy_stages")
class TestPlan:
    def test_defaults_reach_the_stages_that_have_the_parameter(self, toy):
        write_profile(
            toy, "x", {"defaults": {"k_max": 7}, "stages": {"draw": {"all": {}}, "curve": {"c": {}}}}
        )
        draw, curve = plan(toy, "x")
        assert curve.params.k_max == 7
        assert (draw.params.n_resamples, curve.params.n_resamples) == (100, 100)

    def test_a_default_may_serve_a_stage_that_this_profile_leaves_out(self, toy):
        write_profile(toy, "x", {"defaults": {"k_max": 7}, "stages": {"draw": {"all": {}}}})
        assert [run.id for run in plan(toy, "x")] == ["draw.all"]

    def test_a_group_wins_over_the_defaults(self, toy):
        write_profile(toy, "x", {"defaults": {"n": 7}, "stages": {"draw": {"a": {"n": 3}, "b": {}}}})
        assert [run.params.n for run in plan(toy, "x")] == [3, 7]

    def test_an_input_is_what_the_run_of_the_same_group_writes(self, toy):
        write_profile(toy, "x", {"stages": {"draw": {"a": {}, "b": {}}, "curve": {"b": {}}}})
        assert plan(toy, "x")[-1].inputs == ("runs/x/draw/b/draws.csv",)

    def test_an_input_is_what_the_only_run_writes_if_no_group_matches(self, toy):
        _, curve = plan(toy, "toy")
        assert curve.params.draws == "runs/toy/draw/all/draws.csv"

    def test_a_path_given_by_hand_is_kept(self, toy):
        write_profile(toy, "x", {"stages": {"curve": {"c": {"draws": "mine/draws.csv"}}}})
        assert plan(toy, "x")[0].inputs == ("mine/draws.csv",)

    @pytest.mark.parametrize(
        ("profile", "expected"),
        [
            (
                {"stages": {"drew": {"all": {}}}},
                r"params/x.yml: there is no stage 'drew'. Did you mean 'draw'",
            ),
            (
                {"defaults": {"kmax": 1}, "stages": {"curve": {"c": {}}}},
                r"params/x.yml: no stage has a parameter 'kmax'. Did you mean 'k_max'",
            ),
            (
                {"stages": {"draw": {"all": {"nn": 1}}}},
                r"params/x.yml, draw.all: DrawParams has no parameter 'nn'",
            ),
            (
                {"stages": {"draw": {"all": {"n": "4"}}}},
                r"params/x.yml, draw.all: DrawParams: n must be int; got '4' \(str\)",
            ),
            (
                {"stages": {"draw": {"all": {"n": 0}}}},
                r"params/x.yml, draw.all: .*n must be at least 1; got 0",
            ),
            (
                {"stages": {"curve": {"c": {}}}},
                r"params/x.yml, curve.c: no stage of this profile writes draws.csv",
            ),
            (
                {"stages": {"draw": {"a": {}, "b": {}}, "curve": {"c": {}}}},
                r"curve.c: draw.a and draw.b of this profile writes draws.csv",
            ),
        ],
    )
    def test_what_cannot_be_planned_is_refused_with_its_place(self, toy, profile, expected):
        write_profile(toy, "x", profile)
        with pytest.raises(ParamError, match=expected):
            plan(toy, "x")


class TestRun:
    def test_names_of_a_run(self):
        run = draw_run(group="all")
        assert (run.id, run.page) == ("draw.all", "10_draw-all")
        assert run.folder.as_posix() == "runs/toy/draw/all"
        assert run.outputs == ("notebook.ipynb", "results.json", "draws.csv")

    def test_a_variant_has_a_folder_of_its_own_and_keeps_the_page(self):
        baseline, variant = curve_run(), vary(curve_run(), {"k_max": 3})
        assert variant.params.k_max == 3
        assert variant.folder.as_posix() == "runs/toy/variants/curve.small/k_max=3"
        assert (variant.id, variant.page) == (baseline.id, baseline.page)

    def test_a_variant_reads_the_file_it_was_given(self):
        assert vary(curve_run(), {"draws": "other/draws.csv"}).inputs == ("other/draws.csv",)

    def test_the_order_of_the_overrides_does_not_matter(self):
        one = vary(curve_run(), {"k_max": 3, "seed": 1})
        two = vary(curve_run(), {"seed": 1, "k_max": 3})
        assert one == two

    @pytest.mark.parametrize("label", ["../../../etc", "a b#c?d%e", "x" * 400, "new\nline", "a/b"])
    def test_any_value_gives_one_folder_name_that_a_file_system_and_a_link_can_carry(self, label):
        variant = vary(draw_run(), {"label": label}).variant
        assert len(variant) < 130
        assert set(variant).isdisjoint("/\\#?% \n")
        assert variant not in (".", "..")

    @pytest.mark.parametrize(("one", "other"), [("x" * 400, "x" * 401), ("a/b", "a_b"), ("a b", "a_b")])
    def test_two_variants_never_share_a_folder(self, one, other):
        folders = {vary(draw_run(), {"label": label}).folder for label in (one, other)}
        assert len(folders) == 2

    def test_what_a_variant_may_not_change_is_refused(self):
        with pytest.raises(ParamError, match="Did you mean 'k_max'"):
            vary(curve_run(), {"kmax": 3})
        with pytest.raises(ParamError, match="n must be at least 1; got 0"):
            vary(draw_run(), {"n": 0})

    def test_runs_are_values(self):
        assert StageRun(DRAW, "toy", "all", DRAW.params()) == draw_run()
        assert StageRun(CURVE, "toy", "all", CURVE.params()) != draw_run()


def test_upstream_is_what_a_run_reads_directly_or_through_others():
    runs = plan(Project.find(), "published")
    chapter = next(run for run in runs if run.id == "pass_at_k.aime")
    assert [run.id for run in list_upstream(runs, [chapter])] == ["published_data.all"]
    assert list_upstream(runs, [runs[0]]) == []
