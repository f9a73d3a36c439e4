"""Variants on disk: found, judged, named, described, and entered in the appendix."""

import json
import shlex

import pytest
from toy_book import CURVE, RECORD, change_notebook, curve_run, draw_run, write_profile

from panelbook.pipeline.params import ParamError, parse_assignments
from panelbook.pipeline.run import run_stage
from panelbook.pipeline.stages import plan, vary
from panelbook.pipeline.variants import (
    Variant,
    VariantError,
    assign,
    code,
    command_of,
    delete,
    describe_variant,
    find_variants,
    judge,
    pick,
    read_appendix,
    write_appendix,
)

NAMES = ("curve.small/k_max=3", "curve.small/k_max=30", "draw.all/n=3")


@pytest.fixture
def made(toy, toy_stages):
    """Return a toy checkout in which one variant was run."""
    draw, curve = plan(toy, "toy")
    run_stage(toy, draw)
    run_stage(toy, vary(curve, {"k_max": 3}))
    return toy


def found(project):
    return find_variants(project, plan(project, "toy"))


class TestFind:
    def test_a_variant_is_found_with_the_run_that_would_make_it_again(self, made):
        (variant,) = found(made)
        assert variant.name == "curve.small/k_max=3"
        assert variant.folder.as_posix() == "runs/toy/variants/curve.small/k_max=3"
        assert variant.run.params.k_max == 3
        assert judge(made, variant) == "current"

    def test_a_comparison_of_a_sweep_is_no_variant(self, made):
        (made.runs / "toy" / "variants" / "curve.small" / "sweeps" / "k_max=2+3").mkdir(parents=True)
        assert [v.name for v in found(made)] == ["curve.small/k_max=3"]

    def test_other_code_another_input_or_a_changed_baseline_make_it_stale(self, made):
        change_notebook(made, CURVE, work="output = Path(output_dir)")
        assert judge(made, *found(made)) == "stale: code, parameters or input changed"

    def test_a_missing_input_makes_it_stale(self, made):
        (made.root / draw_run().folder / "draws.csv").unlink()
        assert judge(made, *found(made)) == "stale: what it reads is gone"

    def test_a_run_that_the_profile_lacks_makes_it_stale(self, made):
        write_profile(made, "toy", {"stages": {"draw": {"all": {}}}})
        variants = found(made)
        assert [judge(made, v) for v in variants] == ["stale: the profile has no such run now"]
        assert variants[0].run is None

    def test_a_file_that_was_touched_or_a_manifest_that_is_gone_make_it_broken(self, made):
        folder = made.root / found(made)[0].folder
        (folder / "curve.csv").write_text("mine", encoding="utf-8")
        assert judge(made, *found(made)) == "broken: a file was changed"
        (folder / "manifest.json").write_text("{", encoding="utf-8")
        assert judge(made, *found(made)) == "broken: no readable manifest"

    def test_a_variant_of_before_changes_were_recorded_is_listed_and_stale(self, made):
        path = made.root / found(made)[0].folder / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        del manifest["changes"]
        path.write_text(json.dumps(manifest), encoding="utf-8")
        assert judge(made, *found(made)).startswith("stale")

    def test_deleting_takes_the_folder_and_the_page_alone(self, made, tmp_path):
        page = tmp_path / "page.html"
        page.write_text("x", encoding="utf-8")
        (variant,) = found(made)
        delete(made, variant, page)
        assert not (made.root / variant.folder).exists()
        assert not page.exists()
        assert (made.root / draw_run().folder).is_dir()
        assert found(made) == []


class TestPick:
    @pytest.fixture
    def variants(self, tmp_path):
        return [Variant(name, tmp_path / name, None, None) for name in NAMES]

    @pytest.mark.parametrize(
        ("part", "name"),
        [
            ("curve.small/k_max=30", NAMES[1]),
            ("k_max=3", NAMES[0]),
            ("k_max=30", NAMES[1]),
            ("draw", NAMES[2]),
            ("n=3", NAMES[2]),
        ],
    )
    def test_a_name_may_be_any_part_that_one_has(self, variants, part, name):
        assert pick(variants, part).name == name

    def test_a_part_that_several_have_is_answered_with_these(self, variants):
        with pytest.raises(VariantError, match="several variants") as refusal:
            pick(variants, "curve")
        assert NAMES[0] in str(refusal.value)
        assert NAMES[1] in str(refusal.value)
        assert NAMES[2] not in str(refusal.value)

    def test_a_name_that_none_has_is_answered_with_the_nearest(self, variants):
        with pytest.raises(VariantError, match=r"Did you mean 'curve\.small/k_max=30?'"):
            pick(variants, "curve.small/k_max=31")

    def test_where_there_is_none_it_says_how_to_make_one(self):
        with pytest.raises(VariantError, match="panelbook run STAGE -p"):
            pick([], "k_max=3")


class TestAppendix:
    def test_what_was_entered_is_read_again_profile_by_profile(self, toy, toy_stages):
        runs = plan(toy, "toy")
        wanted = [vary(curve_run(), {"k_max": 3, "label": 'a, "b"'}), vary(draw_run(n=4), {"rate": 0.25})]
        write_appendix(toy, "other", [vary(draw_run(), {"n": 9})])
        write_appendix(toy, "toy", wanted)
        assert [(r.full_id, r.changes) for r in read_appendix(toy, runs)] == [
            (r.full_id, r.changes) for r in wanted
        ]
        assert read_appendix(toy, runs)[0].params.k_max == 3
        write_appendix(toy, "toy", [])
        assert read_appendix(toy, runs) == []
        assert "other" in (toy.params / "appendix.yml").read_text(encoding="utf-8")

    def test_an_empty_list_leaves_no_file(self, toy, toy_stages):
        write_appendix(toy, "toy", [vary(draw_run(), {"n": 9})])
        write_appendix(toy, "toy", [])
        assert not (toy.params / "appendix.yml").exists()

    def test_without_a_file_there_is_none(self, toy, toy_stages):
        assert read_appendix(toy, plan(toy, "toy")) == []
        assert read_appendix(toy, []) == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("toy: [", "is not valid YAML"),
            ("- a", "must map names of profiles"),
            ("toy: [{run: curve.small}]", "must map names of profiles"),
            ("toy: [{run: curve.smal, params: {k_max: 3}}]", "Did you mean 'curve.small'"),
            ("toy: [{run: curve.small, params: {kmax: 3}}]", "curve.small: .*Did you mean 'k_max'"),
            ("toy: [{run: draw.all, params: {n: 0}}]", "draw.all: .*n must be at least 1; got 0"),
        ],
    )
    def test_a_broken_file_says_what_to_correct(self, toy, toy_stages, text, said):
        (toy.params / "appendix.yml").write_text(text, encoding="utf-8")
        with pytest.raises(ParamError, match=rf"params/appendix\.yml.*{said}"):
            read_appendix(toy, plan(toy, "toy"))


class TestNote:
    def note(self, variant, before, after):
        return describe_variant(curve_run(), variant, before, after)

    def test_it_says_what_differs_what_moved_and_where_the_baseline_is(self):
        before = {"k": RECORD | {"value": 2}, "same": RECORD | {"value": 1}}
        text = self.note(vary(curve_run(), {"k_max": 3}), before, before | {"k": RECORD | {"value": 3}})
        assert "{doc}`its baseline </chapters/20_curve-small>`" in text
        assert "`k_max` = `3` instead of `2`" in text
        assert "1 of 2 results moved" in text
        assert "| a number | 2 (none: a toy) | 3 (none: a toy) |" in text
        assert "`panelbook run curve.small --profile toy -p k_max=3`" in text

    def test_it_says_so_where_nothing_moved_or_one_was_not_run(self):
        records = {"k": RECORD | {"value": 2}}
        variant = vary(curve_run(), {"k_max": 3})
        assert "No result moved." in self.note(variant, records, records)
        assert "One of the two has not been run yet." in self.note(variant, {}, records)

    def test_a_value_cannot_become_markup(self):
        evil = "a`b ``` {glue:text}`x` <b>\n:::"
        text = self.note(vary(curve_run(), {"label": evil}), {}, {})
        assert text.count("\n:::") == 1  # the end of the note itself
        assert "````` a`b ``` {glue" not in text or "` <b> :::" in text
        record = RECORD | {"value": 1, "title": "a | b <i> `c`"}
        moved = self.note(vary(curve_run(), {"k_max": 3}), {"k": record}, {"k": record | {"value": 2}})
        assert r"a \| b \<i\> \`c\`" in moved

    @pytest.mark.parametrize("text", ["plain", "a`b", "``", "` `", ""])
    def test_code_is_closed_by_a_longer_fence_than_any_inside(self, text):
        written = code(text)
        fence = written[: len(written) - len(written.lstrip("`"))]
        assert written.endswith(fence)
        assert fence not in text


@pytest.mark.parametrize(
    "value", ["plain", "a, b", 'say "c", twice', '"quoted"', "it's", "a=b", "x;y $HOME `z`", ""]
)
def test_a_command_gives_the_same_text_again(value):
    (word,) = shlex.split(assign("label", value))
    assert parse_assignments(CURVE.params, [word]) == {"label": [value]}


def test_a_command_gives_the_same_numbers_again():
    run = vary(draw_run(), {"n": 7, "rate": 0.25})
    words = shlex.split(command_of(run))
    assert words[:5] == ["panelbook", "run", "draw.all", "--profile", "toy"]
    assert parse_assignments(type(run.params), words[6::2]) == {"n": [7], "rate": [0.25]}
