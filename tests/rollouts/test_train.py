import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fake_engine import (
    EMPTY,
    PROBLEMS,
    TRAINING,
    FakeSampler,
    FakeTrainer,
    make_params,
    make_problem,
    run_training,
)

from panelbook.engine.service import ServiceError
from panelbook.rollouts.advantages import pass_at_k_advantages
from panelbook.rollouts.ask import BudgetReached, CallParams, SampleError
from panelbook.rollouts.batch import Group, Visit, estimate_kl, measure_batch, visit_problems
from panelbook.rollouts.draw import Answer, Draw
from panelbook.rollouts.logbook import TrainError, read_checkpoints, read_metrics, read_training_draws
from panelbook.rollouts.schema import check_rollouts
from panelbook.rollouts.store import StoreError
from panelbook.rollouts.train import TrainParams, train
from panelbook.study.arms import reward
from panelbook.study.grading import Grader

POOL = [make_problem(f"{s}{i}", source=s) for s, n in (("x", 6), ("y", 3), ("z", 1)) for i in range(n)]
SHORT = TrainParams(n_steps=3, groups_per_step=3, group_size=4, learning_rate=0.05, checkpoint_every=2)


@pytest.fixture(scope="module")
def grader():
    with Grader(n_workers=1) as grader:
        yield grader


def run(folder, grader, params=SHORT, problems=POOL, client=None, draws=None, **options):
    client = client or FakeTrainer(folder / "weights")
    return train(client, problems, params, draws or make_params(), folder / "run", grader, **options)


def make_group(marks, n_tokens=2, logprob=-0.5, stop_reason="stop"):
    """A group from (correct, tag_valid) pairs."""
    problem = make_problem("p")
    drawn = [2] * n_tokens, [logprob] * n_tokens, stop_reason
    answers = [Answer(Draw(problem, i, i), [1], *drawn, completion="") for i in range(len(marks))]
    records = [
        {
            "status": "correct" if correct else "wrong",
            "tag_valid": tag_valid,
            "reward": reward(correct, tag_valid),
            "completion_tokens": n_tokens,
            "stop_reason": stop_reason,
        }
        for correct, tag_valid in marks
    ]
    return Group(Visit(problem, 0), answers, records)


def named(client, name):
    return [argument for called, argument in client.calls if called == name]


# --- budget ------------------------------------------------------------------------------------------


def test_a_budget_stops_before_an_update_and_raising_it_goes_on_as_if_undisturbed(tmp_path, grader):
    params = replace(SHORT, n_steps=4, checkpoint_every=4)
    whole = run(tmp_path / "whole", grader, params)
    spent = list(whole.metrics["tokens_total"])
    most = params.groups_per_step * params.group_size * make_params().max_tokens
    calls = CallParams(budget_tokens=spent[1] + most)  # pays for the third update, not for the fourth
    with pytest.raises(BudgetReached, match=f"{spent[2]:,} are drawn, and update 4 may take {most:,}"):
        run(tmp_path / "capped", grader, params, calls=calls)
    folder = tmp_path / "capped" / "run"
    assert [checkpoint.step for checkpoint in read_checkpoints(folder)] == [0, 3]
    with pytest.raises(BudgetReached):  # the same again changes nothing
        run(tmp_path / "capped", grader, params, calls=calls)
    assert [checkpoint.step for checkpoint in read_checkpoints(folder)] == [0, 3]
    again = run(tmp_path / "capped", grader, params)
    assert list(again.metrics["tokens_total"]) == spent
    assert again.metrics.drop(columns="kl").equals(whole.metrics.drop(columns="kl"))


# --- visits -----------------------------------------------------------------------------------------


def first(n, sampling, problems=POOL, seed=1):
    return list(itertools.islice(visit_problems(problems, sampling, seed), n))


def test_round_robin_visits_sources_in_turn():
    visits = first(30, "round_robin")
    assert [visit.problem.source for visit in visits] == ["x", "y", "z"] * 10
    assert Counter(visit.problem.problem_id for visit in visits)["z0"] == 10


def test_proportional_visits_each_problem_once_per_pass():
    visits = first(30, "proportional")
    for start in range(0, 30, 10):
        assert {v.problem.problem_id for v in visits[start : start + 10]} == {p.problem_id for p in POOL}
    assert [visit.number for visit in visits] == [0] * 10 + [1] * 10 + [2] * 10
    assert Counter(visit.problem.source for visit in visits) == {"x": 18, "y": 9, "z": 3}


@pytest.mark.parametrize("sampling", ["round_robin", "proportional"])
def test_visits_depend_on_the_seed_and_not_on_the_order_of_problems(sampling):
    visits = first(40, sampling)
    assert first(40, sampling, POOL[::-1]) == visits
    assert first(40, sampling, seed=2) != visits
    passes = [[v.problem.problem_id for v in visits if v.problem.source == "x"][i : i + 6] for i in (0, 6)]
    if sampling == "proportional":
        passes = [[v.problem.problem_id for v in visits[i : i + 10]] for i in (0, 10)]
    assert sorted(passes[0]) == sorted(passes[1])
    assert passes[0] != passes[1], "each pass has an order of its own"


def test_no_problem_is_an_error():
    with pytest.raises(ValueError, match="no problem"):
        first(1, "proportional", [])


# --- what a group teaches ---------------------------------------------------------------------------


def test_advantage_is_reward_minus_mean_without_scaling():
    group = make_group([(True, True), (False, True), (True, False), (False, False)])
    assert [record["reward"] for record in group.records] == pytest.approx([1.0, 0.0, 0.8, -0.2])
    assert group.advantages == pytest.approx([0.6, -0.4, 0.4, -0.6])
    assert not group.is_constant


@pytest.mark.parametrize("mark", [(True, True), (True, False), (False, True), (False, False)])
def test_equal_rewards_teach_nothing(mark):
    group = make_group([mark] * 7)
    assert group.is_constant
    assert group.advantages == [0.0] * 7


def test_a_datum_weighs_the_draw_and_not_the_prompt(tmp_path, grader):
    client = FakeTrainer(tmp_path)
    trained = run(tmp_path, grader, client=client)
    data, loss = named(client, "forward_backward")[0]
    assert loss == "importance_sampling"
    assert len(data) == 3 * 4
    records = [record for record in trained.records if record["step"] == 0]
    for group in range(3):
        rows = records[4 * group : 4 * group + 4]
        mean = sum(row["reward"] for row in rows) / 4
        for row, datum in zip(rows, data[4 * group :], strict=False):
            inputs = {name: tensor.data for name, tensor in datum.loss_fn_inputs.items()}
            drawn = row["completion_tokens"]
            assert "".join(map(chr, inputs["target_tokens"][-drawn:])) == row["completion"]
            assert inputs["advantages"] == pytest.approx(
                [0.0] * (row["prompt_tokens"] - 1) + [row["reward"] - mean] * drawn, abs=1e-6
            )
            assert set(inputs["logprobs"][:-drawn]) == {0.0}
            assert all(logprob < 0 for logprob in inputs["logprobs"][-drawn:])


def test_constant_groups_can_be_dropped(tmp_path, grader):
    rates = dict(zip((problem.question for problem in POOL), itertools.cycle((0.0, 0.5, 1.0)), strict=False))
    sizes = {}
    for drop in (False, True):
        client = FakeTrainer(tmp_path / str(drop) / "weights", lambda skill: FakeSampler(rates=rates))
        params = TrainParams(1, 10, 4, 0.05, sampling="proportional", drop_constant_groups=drop)
        trained = run(tmp_path / str(drop), grader, params, client=client)
        sizes[drop] = len(named(client, "forward_backward")[0][0])
        n_constant = int(trained.metrics["n_constant"][0])
    assert n_constant >= 6
    assert sizes == {False: 40, True: 40 - 4 * n_constant}


def test_a_step_with_nothing_to_learn_leaves_the_weights_alone(tmp_path, grader):
    rates = {problem.question: 1.0 for problem in POOL}
    client = FakeTrainer(tmp_path, lambda skill: FakeSampler(rates=rates), momentum=3.0)
    trained = run(tmp_path, grader, replace(SHORT, drop_constant_groups=True), client=client)
    assert named(client, "optim_step") == []
    assert client.skill == 0.0
    assert trained.metrics["n_constant"].tolist() == [3, 3, 3]


def test_draws_without_tokens_are_kept_but_teach_nothing(tmp_path, grader):
    problems = [make_problem("p0", question=f"{EMPTY}?"), make_problem("p1")]
    client = FakeTrainer(tmp_path)
    params = replace(SHORT, groups_per_step=2, n_steps=1)
    trained = run(tmp_path, grader, params, problems, client)
    assert len(named(client, "forward_backward")[0][0]) == 4
    assert len(trained.records) == 8


def test_one_update_per_step_at_the_learning_rate(tmp_path, grader):
    client = FakeTrainer(tmp_path)
    run(tmp_path, grader, client=client)
    assert [params.learning_rate for params in named(client, "optim_step")] == [0.05] * 3
    order = [name for name, _ in client.calls]
    update = ["forward_backward", "optim_step"]
    assert order == ["save_state", *update, *update, "save_state", *update, "save_state"]


def test_an_engine_without_logprobs_is_refused(tmp_path, grader):
    class Silent(FakeSampler):
        def _answer(self, request):
            response = super()._answer(request)
            object.__setattr__(response.sequences[0], "logprobs", None)
            return response

    with pytest.raises(SampleError, match="no log-probabilities"):
        run(tmp_path, grader, client=FakeTrainer(tmp_path, lambda skill: Silent()))


# --- another objective ------------------------------------------------------------------------------


def test_a_pass_at_k_objective_weighs_outcomes_by_it_and_tags_by_their_mean():
    marks = [(True, True), (False, True), (False, False), (False, True)]
    group = make_group(marks)
    outcome = pass_at_k_advantages([True, False, False, False], 3)
    tags = [0.05, 0.05, -0.15, 0.05]  # 0.2 (tag_valid - 1) minus its mean
    assert group.advantages_for(3) == pytest.approx([a + b for a, b in zip(outcome, tags, strict=True)])
    assert group.advantages_for(1) == group.advantages


def test_a_group_can_be_mixed_and_teach_an_objective_nothing():
    group = make_group([(True, True)] * 3 + [(False, True)])
    assert group.teaches(1)
    assert not group.teaches(2)  # every pair holds a right draw
    assert make_group([(True, True)] * 3 + [(False, False)]).teaches(2), "tags differ"
    assert not make_group([(False, True)] * 4).teaches(2)


def test_the_objective_reaches_the_update(tmp_path, grader):
    client = FakeTrainer(tmp_path)
    trained = run(tmp_path, grader, replace(SHORT, objective_k=3, n_steps=1), client=client)
    data, _ = named(client, "forward_backward")[0]
    for start in range(0, len(data), 4):
        rows = trained.records[start : start + 4]
        wanted = pass_at_k_advantages([row["status"] == "correct" for row in rows], 3)
        assert {row["tag_valid"] for row in rows} == {True}
        sent = [datum.loss_fn_inputs["advantages"].data[-1] for datum in data[start : start + 4]]
        assert sent == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("change", [{"objective_k": 0}, {"objective_k": 4}, {"max_extra_groups": -1}])
def test_options_are_checked(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SHORT, **change)


def test_a_run_without_the_options_is_described_as_before_there_were_any(tmp_path, grader):
    """So that a run that was kept is found again and goes on."""
    run(tmp_path, grader)
    settings = json.loads((tmp_path / "run" / "checkpoints.jsonl").read_text().splitlines()[0])["settings"]
    assert not {"objective_k", "max_extra_groups"} & settings.keys()
    assert SHORT.departures == {}
    params = replace(SHORT, objective_k=2, max_extra_groups=3)
    assert params.departures == {"objective_k": 2, "max_extra_groups": 3}
    with pytest.raises(TrainError, match="run with max_extra_groups=None; this one has 3"):
        run(tmp_path, grader, replace(SHORT, max_extra_groups=3))


# --- dynamic sampling -------------------------------------------------------------------------------

HALF_DONE = {problem.question: 1.0 for problem in POOL[::2]}  # every second problem is always solved
DYNAMIC = replace(SHORT, n_steps=5, group_size=8, max_extra_groups=4, drop_constant_groups=True)


def run_dynamic(folder, grader, params=DYNAMIC, make=FakeTrainer, **options):
    client = make(folder / "weights", lambda skill: FakeSampler(rates=HALF_DONE, skill=skill))
    return run(folder, grader, params, client=client, **options), client


def test_further_problems_are_drawn_until_enough_groups_teach(tmp_path, grader):
    trained, client = run_dynamic(tmp_path, grader)
    metrics = trained.metrics
    taught = metrics["n_groups"] - metrics["n_constant"]
    full = metrics["n_groups"] < 3 + 4
    assert full.any()
    assert (taught[full] == 3).all()
    assert (taught <= 3).all()
    assert (metrics["n_groups"] > 3).any()
    assert [len(data) for data, _ in named(client, "forward_backward")] == (8 * taught).tolist()


def test_the_extra_groups_are_capped(tmp_path, grader):
    client = FakeTrainer(tmp_path, lambda skill: FakeSampler(rates={p.question: 1.0 for p in POOL}))
    trained = run(tmp_path, grader, DYNAMIC, client=client)
    assert trained.metrics["n_groups"].tolist() == [3 + 4] * 5
    assert named(client, "optim_step") == []


def test_what_is_drawn_in_vain_is_kept_and_paid_for(tmp_path, grader):
    trained, _ = run_dynamic(tmp_path, grader)
    table = pd.DataFrame(trained.records)
    assert len(table) == 8 * trained.metrics["n_groups"].sum()
    spent = table.groupby("step")["completion_tokens"].sum()
    assert trained.metrics["tokens"].tolist() == spent.tolist()
    assert trained.checkpoints[-1].tokens_total == spent.sum()
    drawn = table.groupby("problem_id").size()
    visits = trained.visits.set_index("problem_id")["n_visits"]
    assert (8 * visits[visits > 0]).to_dict() == drawn.to_dict()
    assert not table.duplicated(["problem_id", "sample_id"]).any()


def test_the_visits_of_a_dynamic_run_are_those_of_the_plan_without_a_gap(tmp_path, grader):
    trained, _ = run_dynamic(tmp_path, grader)
    n_groups = int(trained.metrics["n_groups"].sum())
    planned = [v.problem.problem_id for v in first(n_groups, "round_robin", seed=make_params().seed)]
    assert [record["problem_id"] for record in trained.records][::8] == planned


def test_without_groups_that_teach_nothing_dynamic_sampling_changes_nothing(tmp_path, grader):
    params = replace(SHORT, group_size=32)  # at a rate of one half, all 32 equal does not happen
    plain = run(tmp_path / "a", grader, params)
    dynamic = run(tmp_path / "b", grader, replace(params, max_extra_groups=5))
    assert plain.metrics["n_constant"].sum() == 0
    compare(plain, dynamic)


@pytest.mark.parametrize("crash", [1, 4, 6, 7, 9, 11, 12])
def test_a_dynamic_run_that_breaks_goes_on_from_its_checkpoint(tmp_path, grader, crash):
    n_calls = itertools.count(1)
    breakable = {"forward_backward", "optim_step", "save_state", "save_weights_for_sampler"}

    class Breaking(FakeTrainer):
        def __getattribute__(self, name):
            if name in breakable and next(n_calls) == crash:
                raise KeyboardInterrupt
            return super().__getattribute__(name)

    with pytest.raises(KeyboardInterrupt):
        run_dynamic(tmp_path / "a", grader, make=Breaking)
    again, calm = run_dynamic(tmp_path / "a", grader)[0], run_dynamic(tmp_path / "b", grader)[0]
    compare(again, calm)
    assert len(set(calm.metrics["n_groups"])) > 1, "the steps differ in their groups, or this proves little"


def test_a_dynamic_run_goes_on_to_more_steps_as_if_asked_for_them_at_once(tmp_path, grader):
    run_dynamic(tmp_path / "a", grader)
    longer = replace(DYNAMIC, n_steps=9)
    compare(run_dynamic(tmp_path / "a", grader, longer)[0], run_dynamic(tmp_path / "b", grader, longer)[0])


# --- metrics ----------------------------------------------------------------------------------------


def test_metrics_of_a_batch_by_hand():
    groups = [
        make_group([(False, True), (False, False)]),  # all wrong, but tags differ
        make_group([(True, False), (True, False)], n_tokens=4, logprob=-1.0),  # all right at 0.8
        make_group([(True, True), (False, True)], stop_reason="length"),
        make_group([(False, False), (False, False)]),
    ]
    metrics = measure_batch(groups)
    assert metrics == {
        "n_groups": 4,
        "n_constant": 2,
        "n_draws": 8,
        "reward": pytest.approx((0.0 - 0.2 + 0.8 + 0.8 + 1.0 + 0.0 - 0.2 - 0.2) / 8),
        "correct": 3 / 8,
        "tag_valid": 3 / 8,
        "truncated": 2 / 8,
        "entropy": pytest.approx((6 * 2 * 0.5 + 2 * 4 * 1.0) / 20),
        "tokens": 20,
        "mean_tokens": 2.5,
        "outcome_all_bad": 2 / 4,
        "outcome_mixed": 1 / 4,
        "outcome_all_good": 1 / 4,
        "reward_all_bad": 1 / 4,
        "reward_mixed": 2 / 4,
        "reward_all_good": 1 / 4,
    }


def test_a_large_tag_weight_can_turn_right_answers_into_bad_groups():
    group = make_group([(True, False)] * 2)
    for record in group.records:
        record["reward"] = 0.4
    metrics = measure_batch([group])
    assert (metrics["outcome_all_good"], metrics["reward_all_bad"]) == (1.0, 1.0)


def test_metrics_do_not_depend_on_order():
    groups = [make_group([(True, True), (False, True)], n_tokens=n, logprob=-n / 7) for n in range(1, 9)]
    assert measure_batch(groups) == measure_batch(groups[::-1])


def test_kl_is_exact_in_expectation():
    p, q = [0.7, 0.2, 0.1], [0.5, 0.1, 0.4]
    exact = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = sum(a * estimate_kl([math.log(a)], [math.log(b)]) for a, b in zip(p, q, strict=True))
    assert expected == pytest.approx(exact, rel=1e-12)


def test_kl_is_a_mean_over_tokens_and_never_negative():
    assert estimate_kl([-1.0, -1.0], [-1.0, -3.0]) == pytest.approx((math.exp(-2) - 1 + 2) / 2)
    rng = random.Random(1)
    for _ in range(100):
        ours, theirs = ([-rng.expovariate(1) for _ in range(5)] for _ in range(2))
        assert estimate_kl(ours, theirs) >= 0


def test_kl_is_zero_at_the_start_and_measured_on_as_many_draws_as_asked(tmp_path, grader):
    scored = []

    class Reference(FakeSampler):
        def compute_logprobs_many(self, prompts):
            scored.append(["".join(map(chr, prompt.to_ints())) for prompt in prompts])
            return super().compute_logprobs_many(prompts)

    params = replace(SHORT, kl_draws=5)
    client = FakeTrainer(tmp_path / "weights", lambda skill: FakeSampler(skill=skill, logprob=-0.7 + skill))
    trained = run(tmp_path, grader, params, client=client, reference=Reference(logprob=-0.7))
    assert [len(texts) for texts in scored] == [5, 5, 5]
    first_five = {text.split("User: ")[1].split("?.")[0] for text in scored[0]}
    assert len(first_five) == 3, "from as many groups as possible"
    kl = trained.metrics["kl"]
    assert kl[0] == 0.0
    assert (kl[1:] > 0).all()


def test_kl_is_off_by_default_and_needs_a_reference(tmp_path, grader):
    assert run(tmp_path, grader).metrics["kl"].isna().all()
    with pytest.raises(ValueError, match="needs a reference"):
        run(tmp_path, grader, replace(SHORT, kl_draws=1))


# --- a run ------------------------------------------------------------------------------------------


def test_a_run_keeps_everything(tmp_path, grader):
    steps = []
    trained = run(tmp_path, grader, on_step=steps.append)
    table = check_rollouts(pd.DataFrame(trained.records))
    assert len(table) == 3 * 3 * 4
    assert (table["checkpoint"] == table["step"].map("step{:06d}".format)).all()
    metrics = trained.metrics
    pd.testing.assert_frame_equal(metrics, pd.DataFrame(steps).astype({"kl": float}), check_exact=True)
    assert metrics["step"].tolist() == [0, 1, 2]
    tokens = table.groupby("step")["completion_tokens"].sum()
    assert metrics["tokens"].tolist() == tokens.tolist()
    assert metrics["tokens_total"].tolist() == tokens.cumsum().tolist()
    by_step = table.assign(correct=table["status"] == "correct").groupby("step")[["reward", "correct"]].mean()
    assert metrics["reward"].tolist() == pytest.approx(by_step["reward"].tolist())
    assert metrics["correct"].tolist() == pytest.approx(by_step["correct"].tolist())


def test_start_and_end_are_saved_and_every_few_steps(tmp_path, grader):
    trained = run(tmp_path, grader)
    names = [(0, "step000000"), (2, "step000002"), (3, "step000003")]
    assert [(c.step, c.name) for c in trained.checkpoints] == names
    totals = [0, *trained.metrics["tokens_total"]]
    assert [c.tokens_total for c in trained.checkpoints] == [totals[0], totals[2], totals[3]]
    skills = [json.loads(Path(c.sampler_path).read_text())["skill"] for c in trained.checkpoints]
    assert skills[0] == 0.0
    assert len(set(skills)) == 3


def test_visits_are_recorded_for_the_whole_pool(tmp_path, grader):
    trained = run(tmp_path, grader)
    visits = trained.visits.set_index("problem_id")["n_visits"]
    drawn = Counter(record["problem_id"] for record in trained.records)
    assert (visits * 4).to_dict() == {problem.problem_id: drawn[problem.problem_id] for problem in POOL}
    assert visits["z0"] == 3
    assert (visits == 0).sum() == 3


def test_a_problem_visited_again_is_drawn_anew(tmp_path, grader):
    trained = run(tmp_path, grader, problems=POOL[-1:])  # one problem, three groups a step
    assert [record["sample_id"] for record in trained.records] == list(range(36))
    assert len({record["seed"] for record in trained.records}) == 36


def test_training_moves_the_policy_and_the_policy_is_what_draws(tmp_path, grader):
    params = TrainParams(n_steps=12, groups_per_step=6, group_size=8, learning_rate=0.05)
    correct = run(tmp_path, grader, params).metrics["correct"]
    assert correct[:3].mean() + 0.2 < correct[9:].mean()


def test_both_engines_calls_go_through_batches(tmp_path, grader):
    samplers = []

    def make(skill):
        samplers.append(FakeSampler(skill=skill))
        return samplers[-1]

    client, calls = FakeTrainer(tmp_path / "a", make), CallParams(batch_size=5, n_calls=2)
    trained = run(tmp_path, grader, client=client, calls=calls)
    assert [sorted(len(call) for call in sampler.calls) for sampler in samplers] == [[2, 5, 5]] * 3
    assert trained.records == run(tmp_path / "b", grader).records


@pytest.mark.parametrize(
    "bad",
    [
        {"n_steps": 0},
        {"groups_per_step": 0},
        {"group_size": 1},
        {"learning_rate": 0.0},
        {"checkpoint_every": 0},
        {"kl_draws": -1},
    ],
)
def test_train_params_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(SHORT, **bad)


def test_a_problem_twice_is_refused(tmp_path, grader):
    with pytest.raises(ValueError, match="'x0' is in the pool twice"):
        run(tmp_path, grader, problems=[*POOL, POOL[0]])


# --- going on ---------------------------------------------------------------------------------------


def compare(one, other):
    pd.testing.assert_frame_equal(one.metrics, other.metrics, check_exact=True)
    pd.testing.assert_frame_equal(one.visits, other.visits)
    assert one.records == other.records
    first, second = ({c.step: Path(c.state_path).read_text() for c in r.checkpoints} for r in (one, other))
    shared = first.keys() & second.keys()
    assert len(shared) >= 3
    assert {step: first[step] for step in shared} == {step: second[step] for step in shared}


def test_a_finished_run_is_read_back_without_the_engine(tmp_path, grader):
    trained = run(tmp_path, grader)
    client = FakeTrainer(tmp_path / "weights", lambda skill: pytest.fail("drew again"))
    compare(trained, run(tmp_path, grader, client=client))
    assert client.skill == json.loads(Path(trained.checkpoints[-1].state_path).read_text())["skill"]


def test_a_run_goes_on_to_more_steps_as_if_asked_for_them_at_once(tmp_path, grader):
    run(tmp_path / "a", grader)
    longer = replace(SHORT, n_steps=7)
    compare(run(tmp_path / "a", grader, longer), run(tmp_path / "b", grader, longer))


def test_a_run_that_lost_its_checkpoints_is_not_overwritten(tmp_path, grader):
    run(tmp_path, grader)
    (tmp_path / "run" / "checkpoints.jsonl").unlink()
    with pytest.raises(TrainError, match=r"think\.jsonl holds draws, but there is no checkpoint"):
        run(tmp_path, grader)
    assert len(read_training_draws(tmp_path / "run")) == 36


def test_fewer_steps_are_refused(tmp_path, grader):
    run(tmp_path, grader)
    with pytest.raises(TrainError, match="run of 3 steps; n_steps=2 would undo some"):
        run(tmp_path, grader, replace(SHORT, n_steps=2))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"params": replace(SHORT, learning_rate=0.06)}, "learning_rate=0.05; this one has 0.06"),
        ({"params": replace(SHORT, sampling="proportional")}, "sampling='round_robin'"),
        ({"draws": make_params(seed=6)}, "seed=5; this one has 6"),
        ({"problems": POOL[:-1]}, "problems_sha256"),
    ],
)
def test_a_run_does_not_go_on_otherwise_than_it_began(tmp_path, grader, changes, named):
    run(tmp_path, grader)
    with pytest.raises(TrainError, match=named):
        run(tmp_path, grader, **changes)


def test_two_runs_do_not_share_a_folder_at_once(tmp_path, grader, monkeypatch):
    monkeypatch.setattr("panelbook.rollouts.store.Shard.__init__.__defaults__", (0.0,))
    with pytest.raises(StoreError, match="written by another process"):
        run(tmp_path, grader, on_step=lambda metrics: run(tmp_path, grader))


@pytest.mark.parametrize("crash", range(1, 12))
def test_a_run_that_breaks_anywhere_goes_on_from_its_checkpoint(tmp_path, grader, crash):
    """Break at the n-th call of the engine, whichever it is: drawing, updating or saving."""
    n_calls = itertools.count(1)

    breakable = {"forward_backward", "optim_step", "save_state", "save_weights_for_sampler"}

    class Breaking(FakeTrainer):
        def __getattribute__(self, name):
            if name in breakable and next(n_calls) == crash:
                raise KeyboardInterrupt
            return super().__getattribute__(name)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", grader, client=Breaking(tmp_path / "a" / "weights"))
    compare(run(tmp_path / "a", grader), run(tmp_path / "b", grader))


@pytest.mark.parametrize("kind", ["lost", "unreachable"])
def test_a_checkpoint_that_the_service_does_not_give_back_costs_nothing(tmp_path, grader, kind):
    """The run is left as it was, draws after the checkpoint included, and goes on once the service has it again."""

    class Amnesiac(FakeTrainer):
        def load_state(self, path, *, optimizer=True):
            raise ServiceError("gone", kind)

    def stop(metrics):
        if metrics["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", grader, on_step=stop)
    files = sorted((tmp_path / "a").rglob("*.jsonl"))
    before = [path.read_bytes() for path in files]
    expected = (
        (TrainError, "remove the folder to train from the start")
        if kind == "lost"
        else (ServiceError, "gone")
    )
    with pytest.raises(expected[0], match=expected[1]):
        run(tmp_path / "a", grader, client=Amnesiac(tmp_path / "a" / "weights"))
    assert [path.read_bytes() for path in files] == before
    compare(run(tmp_path / "a", grader), run(tmp_path / "b", grader))


# --- SIGKILL ----------------------------------------------------------------------------------------


def fork(folder):
    process = multiprocessing.get_context("fork").Process(target=run_training, args=(folder, 0.001))
    process.start()
    return process.pid, lambda: (process.join(), process.exitcode)[1]


def start_python(folder):
    code = f"import pathlib, fake_engine; fake_engine.run_training(pathlib.Path({str(folder)!r}), 0.001)"
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    return process.pid, process.wait


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(
    ("start", "n_kills"), [(fork, 6), pytest.param(start_python, 2, marks=pytest.mark.slow)]
)
def test_a_run_killed_again_and_again_ends_as_if_undisturbed(tmp_path, start, n_kills):
    undisturbed = run_training(tmp_path / "calm")
    folder, rng = tmp_path / "killed", random.Random(20260424)
    metrics = folder / "run" / "metrics.jsonl"
    n_redone = 0
    for _ in range(n_kills):
        there = count_lines(metrics)
        saved = read_checkpoints(folder / "run")[-1].step if there else 0
        pid, finish = start(folder)
        goal, deadline = min(saved + rng.randint(1, 4), TRAINING.n_steps - 1), time.monotonic() + 120
        while not (folder / "run" / "metrics.jsonl").exists() or count_lines(metrics) < max(goal, 1):
            assert time.monotonic() < deadline, "training does not move"
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        assert finish() == -signal.SIGKILL
        n_redone += count_lines(metrics) - read_checkpoints(folder / "run")[-1].step
    assert n_redone > 0, "no kill fell between two checkpoints"
    _, finish = start(folder)
    assert finish() == 0
    compare(run_training(folder), undisturbed)
    for name in ("metrics.jsonl", "draws/think.jsonl"):
        assert (folder / "run" / name).read_bytes() == (tmp_path / "calm" / "run" / name).read_bytes()
    assert [c.step for c in read_checkpoints(folder / "run")] == [0, 3, 6, 8]
    assert len(read_metrics(folder / "run")) == TRAINING.n_steps
    assert len(read_training_draws(folder / "run")) == TRAINING.n_steps * 16
    assert set(undisturbed.visits["problem_id"]) == {problem.problem_id for problem in PROBLEMS}
