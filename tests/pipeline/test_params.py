"""Parameters: names and types are checked before any kernel starts, and every refusal says what to do."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_book import make_checkout, write_profile

from panelbook.pipeline.params import (
    CoverageParams,
    DiversityParams,
    EmbedParams,
    HillClimbParams,
    ParamError,
    PassAtKParams,
    RolloutsParams,
    StageParams,
    VarianceBandParams,
    check_values,
    load_profile,
    parse_assignments,
    render_parameters_cell,
    spell_range,
)
from panelbook.pipeline.stages import STAGES

ALL_PARAMS = sorted({stage.params for stage in STAGES.values()}, key=lambda cls: cls.__name__)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("params") / "toy")


class TestNames:
    @pytest.mark.parametrize(
        ("typo", "meant"), [("kmax", "k_max"), ("n_resample", "n_resamples"), ("sede", "seed")]
    )
    def test_unknown_name_is_answered_with_the_nearest_spelling(self, typo, meant):
        with pytest.raises(ParamError, match=f"no parameter '{typo}'. Did you mean '{meant}'\\?"):
            check_values(PassAtKParams, {typo: 1})

    def test_unknown_name_unlike_any_other_is_answered_with_the_list(self):
        with pytest.raises(ParamError, match=r"Known: label, study, seed.*k_max"):
            check_values(PassAtKParams, {"zzzzzz": 1})

    def test_a_name_of_another_stage_is_unknown(self):
        with pytest.raises(ParamError, match="no parameter 'group_size'"):
            check_values(PassAtKParams, {"group_size": 8})


class TestTypes:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("k_max", "8", "int"),
            ("k_max", 8.0, "int"),
            ("k_max", True, "int"),
            ("k_max", None, "int"),
            ("confidence", "wide", "float"),
            ("confidence", "0.9", "float"),
            ("confidence", [0.9], "float"),
            ("label", 3, "str"),
            ("benchmark", ["aime"], "str"),
        ],
    )
    def test_wrong_type_is_refused_with_name_value_and_expected_type(self, name, value, expected):
        with pytest.raises(ParamError) as refusal:
            check_values(PassAtKParams, {name: value})
        assert f"{name} must be {expected}; got {value!r} ({type(value).__name__})" in str(refusal.value)

    def test_a_whole_number_serves_where_a_float_is_expected(self):
        assert check_values(VarianceBandParams, {"confidence": 0})["confidence"] == 0.0
        assert isinstance(check_values(VarianceBandParams, {"confidence": 0})["confidence"], float)

    @pytest.mark.parametrize(("text", "value"), [("1e-1", 0.1), ("9E-1", 0.9), ("1e0", 1.0)])
    def test_a_float_without_a_point_is_read_although_yaml_takes_it_for_text(self, text, value):
        assert check_values(PassAtKParams, {"confidence": text}) == {"confidence": value}

    def test_good_values_come_back_unchanged_and_nothing_is_added(self):
        assert check_values(PassAtKParams, {"k_max": 8, "first": "panel"}) == {"k_max": 8, "first": "panel"}

    def test_the_namespace_of_a_notebook_is_checked_too(self):
        namespace = {f.name: f.default for f in dataclasses.fields(PassAtKParams)} | {"other": 1}
        assert PassAtKParams.from_namespace(namespace) == PassAtKParams()
        with pytest.raises(ParamError, match="k_max must be int; got 'four'"):
            PassAtKParams.from_namespace(namespace | {"k_max": "four"})


class TestRanges:
    @pytest.mark.parametrize(
        ("cls", "values", "named"),
        [
            (StageParams, {"seed": -1}, "seed"),
            (StageParams, {"n_resamples": 0}, "n_resamples"),
            (StageParams, {"confidence": 1.0}, "confidence"),
            (StageParams, {"confidence": 0.0}, "confidence"),
            (PassAtKParams, {"k_max": -1}, "k_max"),
            (PassAtKParams, {"first": "panel", "second": "panel"}, "first and second"),
            (DiversityParams, {"n_permutations": 998}, "n_permutations"),
            (VarianceBandParams, {"group_size": 1}, "group_size"),
            (HillClimbParams, {"window": 1}, "window"),
            (HillClimbParams, {"step_from": 90, "step_to": 90}, "step_from"),
        ],
    )
    def test_out_of_range_is_refused_with_the_parameters_name_and_value(self, cls, values, named):
        with pytest.raises(ParamError, match=named) as refusal:
            cls(**values)
        assert str(next(iter(values.values()))) in str(refusal.value)

    @pytest.mark.parametrize(
        ("cls", "values"),
        [
            (StageParams, {"seed": 0}),
            (PassAtKParams, {"k_max": 0}),
            (DiversityParams, {"n_permutations": 999}),
            (VarianceBandParams, {"group_size": 2}),
            (HillClimbParams, {"window": 2, "step_from": 89, "step_to": 90}),
        ],
    )
    def test_the_last_value_in_range_is_taken(self, cls, values):
        made = cls(**values)
        assert {name: getattr(made, name) for name in values} == values

    @pytest.mark.parametrize("cls", ALL_PARAMS)
    def test_the_defaults_of_every_stage_are_in_range_and_of_their_types(self, cls):
        values = dataclasses.asdict(cls())
        assert check_values(cls, values) == values

    @pytest.mark.parametrize("cls", ALL_PARAMS)
    def test_parameters_cannot_be_changed_after_the_check(self, cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            cls().seed = 1


class TestCommandLine:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("k_max=8", {"k_max": 8}),
            ("k_max=0x10", {"k_max": 16}),
            ("confidence=0.9", {"confidence": 0.9}),
            ("confidence=9e-1", {"confidence": 0.9}),
            ("label=007", {"label": "007"}),
            ("label=yes", {"label": "yes"}),
            ("label=", {"label": ""}),
            ("label=a=b", {"label": "a=b"}),
            ("label=[not a list]", {"label": "[not a list]"}),
            ("label={unclosed", {"label": "{unclosed"}),
        ],
    )
    def test_text_becomes_the_declared_type(self, text, value):
        assert parse_assignments(PassAtKParams, [text]) == {name: [only] for name, only in value.items()}

    @pytest.mark.parametrize(
        ("cls", "text", "values"),
        [
            (PassAtKParams, "k_max=4,8,16", [4, 8, 16]),
            (PassAtKParams, "k_max=4, 8", [4, 8]),
            (PassAtKParams, "k_max=8,4,8,0x8", [8, 4]),
            (PassAtKParams, "confidence=0.9,9e-1,0.95", [0.9, 0.95]),
            (PassAtKParams, "benchmark=aime,olympiad", ["aime", "olympiad"]),
            (PassAtKParams, 'label="first, second"', ["first, second"]),
            (PassAtKParams, 'label="a, b","say ""c"""', ["a, b", 'say "c"']),
            (PassAtKParams, "label=it's 5\" wide", ["it's 5\" wide"]),
            (PassAtKParams, "label=,x", ["", "x"]),
            (EmbedParams, "turns=true,false", [True, False]),
            (CoverageParams, "sizes=[20,50]", [[20, 50]]),
            (CoverageParams, "sizes=[20,50];[20,134]", [[20, 50], [20, 134]]),
            (CoverageParams, 'benchmarks=["a;b"]; ["c,d"]', [["a;b"], ["c,d"]]),
        ],
    )
    def test_several_values_are_those_of_a_sweep(self, cls, text, values):
        name = text.partition("=")[0]
        assert parse_assignments(cls, [text]) == {name: values}

    def test_several_parameters_are_kept_in_their_order(self):
        assert list(parse_assignments(PassAtKParams, ["k_max=2", "seed=1,2"]).items()) == [
            ("k_max", [2]),
            ("seed", [1, 2]),
        ]

    @pytest.mark.parametrize(
        ("cls", "texts", "said"),
        [
            (PassAtKParams, ["k_max=2", "k_max=3"], "k_max is given twice.*-p k_max=A,B"),
            (PassAtKParams, ["n_resamples=1,000"], "write a thousand as 1000"),
            (PassAtKParams, ['label="open'], 'label="open: .*label="a, b"'),
            (PassAtKParams, ["k_max=4,eight"], "k_max must be int; got 'eight'"),
            (PassAtKParams, ["k_max=4,"], "k_max must be int; got None"),
            (CoverageParams, ["sizes=20,50"], "sizes must be .*int.*; got '20,50'"),
        ],
    )
    def test_a_sweep_that_is_not_clear_is_refused(self, cls, texts, said):
        with pytest.raises(ParamError, match=said):
            parse_assignments(cls, texts)

    def test_an_assignment_without_an_equals_sign_is_shown_how(self):
        with pytest.raises(ParamError, match=r"name=value; got 'k_max 8'.*-p k_max=8"):
            parse_assignments(PassAtKParams, ["k_max 8"])

    @pytest.mark.parametrize("text", ["k_max=eight", "k_max=8.5", "k_max=", "k_max=[8", "k_max=true"])
    def test_text_of_another_type_is_refused(self, text):
        with pytest.raises(ParamError, match="k_max must be int; got"):
            parse_assignments(PassAtKParams, [text])

    def test_unknown_name_is_answered_with_the_nearest_spelling(self):
        with pytest.raises(ParamError, match="Did you mean 'k_max'"):
            parse_assignments(PassAtKParams, ["k_mx=8"])


class TestDeclared:
    """What a parameter declares to be allowed is what the check allows."""

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"k_max": -1}, "k_max must be at least 0; got -1"),
            ({"confidence": 1.0}, r"confidence must be in \(0, 1\); got 1.0"),
            ({"confidence": float("nan")}, r"confidence must be in \(0, 1\); got nan"),
        ],
    )
    def test_a_value_outside_is_refused(self, values, said):
        with pytest.raises(ParamError, match=said):
            PassAtKParams(**values)

    def test_a_choice_has_no_other_value(self):
        with pytest.raises(ParamError, match="engine must be local or tinker; got 'remote'"):
            RolloutsParams(engine="remote")
        with pytest.raises(ParamError, match="arm must be panel, think, no_panel or native; got 'x'"):
            RolloutsParams(arm="x")

    @pytest.mark.parametrize(
        ("within", "words"),
        [("[2, inf)", "at least 2"), ("(0, inf)", "above 0"), ("(0, 1]", "in (0, 1]")],
    )
    def test_a_range_is_said_in_words(self, within, words):
        assert spell_range(within) == words


class TestCell:
    @pytest.mark.parametrize("cls", ALL_PARAMS)
    def test_running_the_cell_gives_the_defaults(self, cls):
        namespace: dict = {}
        exec(render_parameters_cell(cls), namespace)
        assert cls.from_namespace(namespace) == cls()

    @pytest.mark.parametrize("cls", ALL_PARAMS)
    def test_every_line_is_annotated_and_explained(self, cls):
        lines = render_parameters_cell(cls).splitlines()
        assert len(lines) == len(dataclasses.fields(cls))
        for line, field in zip(lines, dataclasses.fields(cls), strict=True):
            assert line.startswith(f"{field.name}: ")
            assert len(line.partition("  # ")[2]) > 3

    @given(label=st.text(), seed=st.integers(0, 2**40), confidence=st.floats(0.01, 0.99))
    def test_any_values_survive_the_cell(self, label, seed, confidence):
        wanted = PassAtKParams(label=label, seed=seed, confidence=confidence)
        namespace: dict = {}
        exec(render_parameters_cell(PassAtKParams, dataclasses.asdict(wanted)), namespace)
        assert PassAtKParams.from_namespace(namespace) == wanted

    def test_the_table_of_a_page_leaves_out_names_of_the_run_and_paths(self):
        shown = PassAtKParams(k_max=4).table().data
        assert set(shown["parameter"]).isdisjoint({"label", "study", "output_dir", "counts"})
        assert shown.set_index("parameter")["value"]["k_max"] == "4"


class TestProfiles:
    def test_every_profile_inherits_from_base_unless_it_says_otherwise(self, project):
        write_profile(project, "base", {"defaults": {"n_resamples": 100, "seed": 3}})
        write_profile(project, "one", {"defaults": {"seed": 4}})
        assert load_profile(project, "one").defaults == {"n_resamples": 100, "seed": 4}

    def test_the_nearer_file_wins_value_by_value(self, project):
        write_profile(project, "parent", {"stages": {"draw": {"a": {"n": 1, "rate": 0.2}, "b": {"n": 2}}}})
        write_profile(project, "child", {"inherits": "parent", "stages": {"draw": {"a": {"n": 9}}}})
        assert load_profile(project, "child").stages == {"draw": {"a": {"n": 9, "rate": 0.2}, "b": {"n": 2}}}

    def test_null_removes_a_group_and_a_stage(self, project):
        write_profile(project, "parent", {"stages": {"draw": {"a": {}, "b": {}}, "curve": {"c": {}}}})
        write_profile(project, "child", "inherits: parent\nstages: {draw: {a: null}, curve: null}\n")
        assert load_profile(project, "child").stages == {"draw": {"b": {}}, "curve": {}}

    def test_a_group_may_be_named_by_a_number(self, project):
        write_profile(project, "year", {"stages": {"draw": {2024: {"n": 1}}}})
        assert load_profile(project, "year").stages == {"draw": {"2024": {"n": 1}}}

    @pytest.mark.parametrize("text", ["", "defaults:\n", "stages:\n", "# nothing but a remark\n"])
    def test_what_is_left_empty_is_empty(self, project, text):
        write_profile(project, "empty", text)
        assert load_profile(project, "empty").stages == {}

    @pytest.mark.parametrize(
        ("first", "second", "chain"),
        [("loop_a", "loop_b", "loop_a -> loop_b -> loop_a"), ("selfish", "selfish", "selfish -> selfish")],
    )
    def test_a_circle_is_named(self, project, first, second, chain):
        write_profile(project, second, {"inherits": first})
        write_profile(project, first, {"inherits": second})
        with pytest.raises(ParamError, match=f"inherits from itself: {chain}"):
            load_profile(project, first)

    def test_unknown_profile_is_answered_with_the_nearest_spelling(self, project):
        with pytest.raises(ParamError, match=r"no profile 'toi' \(params/toi.yml\). Did you mean 'toy'"):
            load_profile(project, "toi")

    def test_a_missing_parent_is_named(self, project):
        write_profile(project, "orphan", {"inherits": "nowhere"})
        with pytest.raises(ParamError, match="no profile 'nowhere'"):
            load_profile(project, "orphan")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("default: {seed: 1}\n", "unknown key 'default'. Did you mean 'defaults'"),
            ("- a\n- list\n", "must be a mapping; it is a list"),
            ("stages: {draw: [\n", "is not valid YAML"),
            ("defaults: 3\n", "defaults must be a mapping of names to values; got 3"),
            ("stages: {draw: [all]}\n", r"draw must be a mapping of names to values; got \['all'\]"),
            ("stages: {draw: {all: 7}}\n", "draw.all must be a mapping of names to values; got 7"),
            ("stages: {draw: {../../out: {}}}\n", "draw has a group '../../out'"),
            ("stages: {draw: {two words: {}}}\n", "draw has a group 'two words'"),
        ],
    )
    def test_a_broken_file_is_named_with_what_is_wrong(self, project, text, expected):
        write_profile(project, "broken", text)
        with pytest.raises(ParamError, match=r"params/broken\.yml") as refusal:
            load_profile(project, "broken")
        assert refusal.match(expected)
