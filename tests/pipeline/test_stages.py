"""The plan: which runs a profile asks for, what each reads, and where it lies."""

import dataclasses
import re

import pytest
from toy_book import CURVE, DRAW, CurveParams, DrawParams, curve_run, draw_run, write_profile
from toy_book import STAGES as STAGES_OF_TOY

from panelbook.pipeline.params import ParamError, artefacts, input_file
from panelbook.pipeline.stages import RESULTS, STAGES, StageRun, find_stage, list_upstream, plan, vary
from panelbook.project import DEFAULT_PROFILE, Project

PROJECT = Project.find()
PROFILES = sorted(
    path.stem
    for path in PROJECT.params.glob("*.yml")
    if "stages:" in path.read_text(encoding="utf-8") and path.stem != "base"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManyParams(CurveParams):
    draws: list[str] = artefacts("draws.csv", ["draw/all"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LateParams(DrawParams):
    after: str = input_file("", "a file to wait for")


class TestStages:
    def test_every_stage_has_its_notebook_and_no_notebook_is_without_stage(self):
        tracked = {path.name for path in PROJECT.notebooks.glob("*.ipynb")}
        assert {stage.notebook for stage in STAGES.values()} == tracked

    def test_stages_stand_in_the_order_of_their_notebooks(self):
        names = [stage.notebook for stage in STAGES.values()]
        assert names == sorted(names)

    def test_every_artefact_that_a_stage_reads_is_written_by_a_stage(self):
        read = {
            field.metadata["artefact"]
            for stage in STAGES.values()
            for field in dataclasses.fields(stage.params)
            if "artefact" in field.metadata
        }
        assert read
        written = {name for stage in STAGES.values() for name in (RESULTS, *stage.writes)}
        assert read <= written

    def test_unknown_stage_is_answered_with_the_nearest_spelling(self):
        with pytest.raises(ParamError, match=r"no stage 'pass_at_kk'. Did you mean 'pass_at_k'"):
            find_stage("pass_at_kk")


@pytest.mark.parametrize("profile", PROFILES)
class TestProfilesOfTheProject:
    def test_every_run_comes_after_those_whose_files_it_reads(self, profile):
        written: set[str] = set()
        for run in plan(PROJECT, profile):
            tracked = {name for name in run.inputs if not name.startswith("runs/")}
            assert all((PROJECT.root / name).is_file() for name in tracked), run.id
            assert set(run.inputs) - tracked <= written, run.id
            written |= {(run.folder / name).as_posix() for name in run.outputs}

    def test_ids_folders_and_pages_are_unique(self, profile):
        runs = plan(PROJECT, profile)
        assert runs
        for names in ([r.id for r in runs], [r.folder for r in runs], [r.page for r in runs]):
            assert len(set(names)) == len(names)

    def test_every_group_has_a_label_for_the_reader(self, profile):
        assert [run.id for run in plan(PROJECT, profile) if not run.params.label] == []

    def test_what_hand_written_pages_refer_to_is_a_chapter_of_the_book(self, profile):
        chapters = {(run.stage.notebook, run.group) for run in plan(PROJECT, profile)}
        anchors = {
            re.search(r"\(([\w-]+)\)=", (PROJECT.notebooks / notebook).read_text(encoding="utf-8"))[1]
            + f"-{group}"
            for notebook, group in chapters
        }
        pages = "".join(path.read_text(encoding="utf-8") for path in PROJECT.book.glob("*.md"))
        wanted = set(re.findall(r"{(?:num)?ref}`(?:[^`<]*<)?(ch-[\w-]+)", pages))
        assert len(wanted) > 5
        assert wanted - anchors == set()


def test_smoke_runs_every_stage_and_no_run_that_the_default_book_has_not():
    full, smoke = plan(PROJECT, DEFAULT_PROFILE), plan(PROJECT, "smoke")
    assert {run.id for run in smoke} <= {run.id for run in full}
    assert {run.stage.name for run in smoke} == {run.stage.name for run in full} == set(STAGES) - {"warmup"}


def test_the_warm_up_belongs_to_the_profile_whose_model_needs_one():
    runs = {run.id: run for run in plan(PROJECT, "hf")}
    for arm in ("panel", "think"):
        saved = (runs[f"warmup.{arm}"].folder / "checkpoints.json").as_posix()
        assert runs[f"rollouts.{arm}"].params.checkpoint == saved
        assert runs[f"train.{arm}_1"].params.start == saved


def test_the_two_warm_ups_differ_in_the_arm_alone():
    panel, think = (run.params for run in plan(PROJECT, "hf") if run.stage.name == "warmup")
    assert dataclasses.replace(panel, arm="think", label="think") == think


def test_the_profile_reaches_the_stages_that_ask_for_it():
    work = {run.params.work for run in plan(PROJECT, "smoke") if run.stage.name == "train"}
    assert work == {"runs/smoke/work"}


def test_both_arms_are_trained_alike_in_the_default_book():
    """The control that the published study lacked: nothing but the arm may differ."""
    plans = (run.params for run in plan(PROJECT, DEFAULT_PROFILE) if run.stage.name == "train")
    runs = [params for params in plans if params.study == "miniature"]
    assert {params.arm for params in runs} == {"panel", "think"}
    for seed in {params.train_seed for params in runs}:
        one, other = (params for params in runs if params.train_seed == seed)
        assert dataclasses.replace(one, arm=other.arm, label=other.label) == other


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

    def test_an_input_is_what_the_same_study_writes(self, toy):
        groups = {"mine": {"study": "mine"}, "theirs": {"study": "theirs"}}
        write_profile(toy, "x", {"stages": {"draw": groups, "curve": {"c": {"study": "theirs"}}}})
        assert plan(toy, "x")[-1].inputs == ("runs/x/draw/theirs/draws.csv",)

    def test_files_of_several_runs_are_read_together_within_a_study(self, toy, monkeypatch):
        monkeypatch.setitem(STAGES_OF_TOY, "curve", dataclasses.replace(CURVE, params=ManyParams))
        groups = {"a": {}, "b": {}, "other": {"study": "other"}}
        write_profile(toy, "x", {"stages": {"draw": groups, "curve": {"c": {}}}})
        assert plan(toy, "x")[-1].params.draws == ["runs/x/draw/a/draws.csv", "runs/x/draw/b/draws.csv"]
        assert plan(toy, "x")[-1].inputs == ("runs/x/draw/a/draws.csv", "runs/x/draw/b/draws.csv")

    def test_nothing_to_read_together_is_refused(self, toy, monkeypatch):
        monkeypatch.setitem(STAGES_OF_TOY, "curve", dataclasses.replace(CURVE, params=ManyParams))
        write_profile(toy, "x", {"stages": {"draw": {"a": {"study": "a"}}, "curve": {"c": {"study": "b"}}}})
        with pytest.raises(
            ParamError, match=r"curve.c: no stage of this profile writes draws.csv for study 'b'"
        ):
            plan(toy, "x")

    def test_a_run_may_do_without_a_file(self, toy):
        write_profile(toy, "x", {"stages": {"curve": {"c": {"draws": ""}}}})
        assert plan(toy, "x")[0].inputs == ()

    def test_paths_given_by_hand_may_turn_the_order_round(self, toy, monkeypatch):
        monkeypatch.setitem(STAGES_OF_TOY, "draw", dataclasses.replace(DRAW, params=LateParams))
        write_profile(
            toy,
            "x",
            {"stages": {"draw": {"d": {"after": "runs/x/curve/c/curve.csv"}}, "curve": {"c": {"draws": ""}}}},
        )
        assert [run.id for run in plan(toy, "x")] == ["curve.c", "draw.d"]

    def test_a_circle_of_paths_is_named(self, toy, monkeypatch):
        monkeypatch.setitem(STAGES_OF_TOY, "draw", dataclasses.replace(DRAW, params=LateParams))
        write_profile(
            toy,
            "x",
            {"stages": {"draw": {"d": {"after": "runs/x/curve/c/curve.csv"}}, "curve": {"c": {}}}},
        )
        with pytest.raises(ParamError, match=r"in a circle: draw.d, curve.c"):
            plan(toy, "x")

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

    def test_a_variant_has_a_folder_and_a_page_of_its_own_and_keeps_the_id(self):
        baseline, variant = curve_run(), vary(curve_run(), {"k_max": 3})
        assert variant.params.k_max == 3
        assert variant.changes == {"k_max": 3}
        assert variant.folder.as_posix() == "runs/toy/variants/curve.small/k_max=3"
        assert (variant.id, variant.full_id) == ("curve.small", "curve.small/k_max=3")
        assert (baseline.page, variant.page) == ("20_curve-small", "20_curve-small--k_max-3")
        assert baseline.full_id == baseline.id

    @pytest.mark.parametrize(
        ("one", "other"), [(0.25, 0.025), ("A", "a"), ("a b", "a_b"), ("x--k-1", "x,k=1"), ("ä", "ö")]
    )
    def test_pages_of_two_variants_never_share_a_name_or_a_label(self, one, other):
        name = "rate" if isinstance(one, float) else "label"
        pages = [vary(draw_run(), {name: value}).page for value in (one, other)]
        assert pages[0].lower() != pages[1].lower()
        assert all(re.fullmatch(r"[\w-]+", page) for page in pages)

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
