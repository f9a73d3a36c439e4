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

import pytest
from fake_engine import (
    EMPTY,
    PROBLEMS,
    SAMPLES,
    TRUNCATED,
    FakeSampler,
    make_params,
    make_problem,
    run_sampling,
)

from panelbook.engine.service import ServiceError
from panelbook.errors import BookError
from panelbook.rollouts.ask import BudgetReached, CallParams, SampleError, ask
from panelbook.rollouts.draw import derive_run_id, derive_seed
from panelbook.rollouts.sample import Progress, list_draws, sample_rollouts
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS
from panelbook.rollouts.store import StoreError, draw_key, read_draws, read_lines
from panelbook.study.arms import ARMS
from panelbook.study.grading import Grader

QUICK = CallParams(batch_size=4, backoff_s=0.001)
POOL = [make_problem(f"p{i}") for i in range(5)]


@pytest.fixture(scope="module")
def grader():
    with Grader(n_workers=1) as grader:
        yield grader


def sample(client, folder, grader, problems=POOL, n_samples=3, calls=QUICK, **options):
    return sample_rollouts(
        client,
        problems,
        n_samples,
        make_params(**options.pop("params", {})),
        folder,
        grader,
        calls=calls,
        **options,
    )


def n_requests(client):
    return sum(len(call) for call in client.calls)


# --- what a draw is ---------------------------------------------------------------------------------


def test_every_draw_is_made_once_with_every_column(tmp_path, grader):
    sampled = sample(FakeSampler(), tmp_path, grader)
    assert [(r["problem_id"], r["sample_id"]) for r in sampled.records] == [
        (problem.problem_id, i) for problem in POOL for i in range(3)
    ]
    assert sampled.n_reused == 0
    assert all(list(record) == list(ROLLOUTS_COLUMNS) for record in sampled.records)
    assert sorted(map(draw_key, read_draws(tmp_path)[0])) == sorted(map(draw_key, sampled.records))


def test_a_draw_is_recorded_as_it_was_made(tmp_path, grader):
    client = FakeSampler(rates={"what is p0?": 1.0})
    (record,) = sample(client, tmp_path, grader, POOL[:1], 1, params={"temperature": 0.7, "step": 3}).records
    ((request,),) = client.calls
    prompt = ARMS["think"].prompt("what is p0?", "int")
    assert "".join(map(chr, request.prompt.to_ints())) == prompt
    assert record["completion"].endswith("<answer>42</answer>")
    assert {**record, "completion": None} == {
        "study": "live",
        "profile": "test",
        "run_id": "run",
        "benchmark": "toy",
        "problem_id": "p0",
        "source": "a",
        "arm": "think",
        "checkpoint": "base",
        "step": 3,
        "sample_id": 0,
        "prompt_tokens": len(prompt),
        "completion": None,
        "completion_tokens": len(record["completion"]),
        "stop_reason": "stop",
        "predicted": "42",
        "status": "correct",
        "tag_valid": True,
        "reward": 1.0,
        "seed": derive_seed(5, "p0", "think", "base", 0),
        "temperature": 0.7,
        "max_tokens": 64,
    }
    params = request.sampling_params
    assert (params.seed, params.temperature, params.max_tokens) == (record["seed"], 0.7, 64)
    assert params.stop == ["</answer>"]


def test_an_answer_cut_off_is_not_closed(tmp_path, grader):
    problem = make_problem("p0", question=f"this is {TRUNCATED}")
    (record,) = sample(FakeSampler(rates={problem.question: 1.0}), tmp_path, grader, [problem], 1).records
    assert record["completion"].endswith("<answer>42")
    assert (record["stop_reason"], record["status"], record["predicted"]) == ("length", "no_answer", None)
    assert (record["tag_valid"], record["reward"]) == (False, -0.2)


def test_an_empty_completion_is_a_draw_without_an_answer(tmp_path, grader):
    problem = make_problem("p0", question=EMPTY)
    (record,) = sample(FakeSampler(), tmp_path, grader, [problem], 1, params={"tag_coef": 0.5}).records
    assert (record["completion_tokens"], record["status"], record["reward"]) == (0, "no_answer", -0.5)


def test_end_of_text_is_no_part_of_the_completion(tmp_path, grader):
    class Ended(FakeSampler):
        def _answer(self, request):
            response = super()._answer(request)
            response.sequences[0].tokens.append(3)
            return response

    (record,) = sample(Ended(), tmp_path, grader, POOL[:1], 1).records
    assert record["completion"].endswith("</answer>")
    assert record["completion_tokens"] == len(record["completion"]) + 1


def test_a_prompt_can_be_rendered_otherwise(tmp_path, grader):
    client = FakeSampler()
    sample(client, tmp_path, grader, POOL[:1], 1, render=lambda p: f"User: {p.gold}. Assistant:")
    assert "".join(map(chr, client.calls[0][0].prompt.to_ints())) == "User: 42. Assistant:"


def test_rates_come_out(tmp_path, grader):
    rates = dict(zip((p.question for p in POOL), (0.0, 0.25, 0.5, 0.75, 1.0), strict=True))
    records = sample(FakeSampler(rates=rates), tmp_path, grader, n_samples=400).records
    correct = Counter(r["problem_id"] for r in records if r["status"] == "correct")
    for problem in POOL:
        rate = rates[problem.question]
        assert abs(correct[problem.problem_id] / 400 - rate) <= 4 * math.sqrt(rate * (1 - rate) / 400)


# --- seeds ------------------------------------------------------------------------------------------


def test_a_seed_never_changes():
    assert derive_seed(20260423, "aime_2024__7", "panel", "step000020", 3) == 1747100146


def test_seeds_differ_by_every_part_of_the_name():
    name = (1, "p", "panel", "base", 0)
    others = [
        (2, *name[1:]),
        (1, "q", *name[2:]),
        (1, "p", "think", "base", 0),
        (*name[:3], "step", 0),
        (*name[:4], 1),
    ]
    assert len({derive_seed(*one) for one in [name, *others]}) == 6
    seeds = {derive_seed(1, f"p{i}", "panel", "base", j) for i in range(100) for j in range(100)}
    assert len(seeds) > 9_990
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_draws_do_not_depend_on_batches_threads_or_order(tmp_path, grader):
    one = sample(FakeSampler(), tmp_path / "a", grader, calls=CallParams(batch_size=100)).records
    other = sample(
        FakeSampler(), tmp_path / "b", grader, POOL[::-1], calls=CallParams(batch_size=2, n_calls=3)
    ).records
    assert sorted(one, key=draw_key) == sorted(other, key=draw_key)


# --- resuming ---------------------------------------------------------------------------------------


def test_what_is_there_is_not_asked_again(tmp_path, grader):
    first = sample(FakeSampler(), tmp_path, grader)
    client = FakeSampler(fail=lambda call, request: AssertionError("asked"))
    again = sample(client, tmp_path, grader)
    assert (again.records, again.n_reused) == (first.records, 15)
    assert client.calls == []


def test_more_samples_or_problems_ask_for_the_difference(tmp_path, grader):
    few = sample(FakeSampler(), tmp_path, grader, POOL[:4], 3).records
    client = FakeSampler()
    more = sample(client, tmp_path, grader, POOL, 5)
    assert n_requests(client) == 25 - 12
    assert more.records == sample(FakeSampler(), tmp_path / "fresh", grader, POOL, 5).records
    assert sample(client, tmp_path, grader, POOL[:4], 3).records == few, (
        "a smaller run gets what it asked for"
    )


def test_a_torn_draw_is_reported_and_made_again(tmp_path, grader):
    first = sample(FakeSampler(), tmp_path, grader)
    (shard,) = tmp_path.iterdir()
    shard.write_bytes(shard.read_bytes()[:-10])
    client = FakeSampler()
    again = sample(client, tmp_path, grader)
    assert again.records == first.records
    assert (again.n_reused, n_requests(client)) == (14, 1)
    assert [torn.line for torn in again.torn] == [15]


def test_arms_and_checkpoints_have_shards_of_their_own(tmp_path, grader):
    for changes in ({}, {"arm": "panel"}, {"checkpoint": "tinker://x/step 20"}):
        assert sample(FakeSampler(), tmp_path, grader, params=changes).n_reused == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"think-base.jsonl", "panel-base.jsonl", "think-tinker_x_step_20.jsonl"}
    assert len(read_draws(tmp_path)[0]) == 45


@pytest.mark.parametrize(
    "changes", [{"seed": 6}, {"temperature": 0.5}, {"max_tokens": 65}, {"tag_coef": 0.3}]
)
def test_draws_of_two_settings_do_not_mix(tmp_path, grader, changes):
    problems = [make_problem("p0", question=TRUNCATED)]  # no tags, so their weight shows in the reward
    sample(FakeSampler(), tmp_path, grader, problems)
    (setting,) = changes
    column = "reward" if setting == "tag_coef" else setting
    with pytest.raises(SampleError, match=f"sample 0 of problem 'p0', arm 'think', is kept with {column}="):
        sample(FakeSampler(), tmp_path, grader, problems, params=changes)


def test_another_run_is_drawn_anew(tmp_path, grader):
    ids = [derive_run_id(weights=weights, problems="p") for weights in "ab"]
    assert ids == [derive_run_id(problems="p", weights=weights) for weights in "ab"]
    assert len(set(ids)) == 2
    n_reused = [sample(FakeSampler(), tmp_path, grader, params={"run_id": i}).n_reused for i in [*ids, *ids]]
    assert n_reused == [0, 0, 15, 15]


def test_a_problem_twice_is_refused(tmp_path, grader):
    with pytest.raises(ValueError, match="'p0' is asked twice"):
        sample(FakeSampler(), tmp_path, grader, [*POOL, POOL[0]])


# --- failures ---------------------------------------------------------------------------------------


def test_a_call_that_fails_is_repeated_until_it_answers(tmp_path, grader):
    client = FakeSampler(
        fail=lambda call, request: ConnectionError("down") if call in (0, 1) and request is None else None
    )
    records = sample(client, tmp_path, grader, calls=CallParams(batch_size=100, backoff_s=0.001)).records
    assert [len(call) for call in client.calls] == [15, 15, 15]
    assert records == sample(FakeSampler(), tmp_path / "calm", grader).records


def test_only_draws_without_an_answer_are_repeated(tmp_path, grader):
    client = FakeSampler(
        fail=lambda call, request: TimeoutError() if call == 0 and request in (3, 7) else None
    )
    records = sample(client, tmp_path, grader, calls=CallParams(batch_size=100, backoff_s=0.001)).records
    assert [len(call) for call in client.calls] == [15, 2]
    assert records == sample(FakeSampler(), tmp_path / "calm", grader).records


def test_an_engine_that_stays_down_ends_in_a_clear_error_and_keeps_the_rest(tmp_path, grader):
    def fail(call, request):
        return RuntimeError("402 billing") if call >= 1 and request is None else None

    client = FakeSampler(fail=fail)
    with pytest.raises(SampleError) as error:
        sample(client, tmp_path, grader, calls=CallParams(batch_size=4, max_tries=3, backoff_s=0.001))
    assert "failed 3 times on 4 of 4 draws, the first being sample 1 of problem 'p1'" in str(error.value)
    assert "RuntimeError: 402 billing" in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert len(read_draws(tmp_path)[0]) == 4
    assert sample(FakeSampler(), tmp_path, grader).n_reused == 4


def test_tries_and_waits_are_bounded(monkeypatch):
    waits = []
    monkeypatch.setattr("threading.Event.wait", lambda event, seconds=None: waits.append(seconds))
    client = FakeSampler(fail=lambda call, request: OSError("no"))
    draws = list_draws(POOL[:1], 1, make_params())
    with pytest.raises(SampleError):
        list(ask(client, draws, make_params(), CallParams(max_tries=4, backoff_s=0.5)))
    assert len(client.calls) == 4
    assert [wait for wait in waits if wait is not None] == [0.5, 1.0, 2.0]
    assert CallParams(backoff_s=1).wait_s(40) == 60.0


@pytest.mark.parametrize("error", [BookError("no key"), ValueError("prompt too long"), TypeError("defect")])
@pytest.mark.parametrize("where", ["call", "request"])
def test_a_failure_that_repeating_cannot_mend_is_not_repeated(tmp_path, grader, error, where):
    client = FakeSampler(fail=lambda call, request: error if (request is None) == (where == "call") else None)
    with pytest.raises(type(error), match=str(error)):
        sample(client, tmp_path, grader)
    assert len(client.calls) <= 2  # the next batch may have been under way


@pytest.mark.parametrize("kind", ["broken", "failing"])
def test_a_service_that_fails_once_is_asked_again(tmp_path, grader, kind):
    client = FakeSampler(
        fail=lambda call, request: ServiceError("bad answer", kind) if (call, request) == (0, 2) else None
    )
    records = sample(client, tmp_path, grader, calls=CallParams(batch_size=100, backoff_s=0.001)).records
    assert [len(call) for call in client.calls] == [15, 1]
    assert records == sample(FakeSampler(), tmp_path / "calm", grader).records


def test_a_service_that_refuses_is_asked_no_more_and_what_it_drew_is_kept(tmp_path, grader):
    """Of the batch under way every other draw is kept, those that end after the refusal too; no batch follows."""
    client = FakeSampler(
        fail=lambda call, request: ServiceError("no credit", "billing") if request == 2 else None
    )
    with pytest.raises(ServiceError, match="no credit"):
        sample(client, tmp_path, grader, calls=CallParams(batch_size=5, n_calls=1))
    assert len(client.calls) == 1
    assert len(read_draws(tmp_path)[0]) == 4
    again = sample(FakeSampler(), tmp_path, grader)
    assert again.n_reused == 4
    assert again.records == sample(FakeSampler(), tmp_path / "calm", grader).records


def test_the_batch_beside_the_one_that_is_refused_is_heard_out(tmp_path, grader):
    client = FakeSampler(
        delay_s=0.02,
        fail=lambda call, request: ServiceError("no", "billing") if (call, request) == (0, 4) else None,
    )
    with pytest.raises(ServiceError):
        sample(client, tmp_path, grader, calls=CallParams(batch_size=5, n_calls=2))
    assert len(client.calls) == 2
    assert len(read_draws(tmp_path)[0]) == 4 + 5


def test_an_engine_that_forgets_an_answer_is_asked_again(tmp_path, grader):
    class Forgetful(FakeSampler):
        def sample_many(self, requests):
            yield from list(super().sample_many(requests))[: max(1, len(requests) - 1)]

    records = sample(Forgetful(), tmp_path, grader).records
    assert records == sample(FakeSampler(), tmp_path / "calm", grader).records

    class Mute(FakeSampler):
        def sample_many(self, requests):
            return iter(())

    with pytest.raises(SampleError, match="it returned no answer"):
        sample(Mute(), tmp_path / "mute", grader)


def test_an_interrupt_keeps_what_was_finished(tmp_path, grader):
    def interrupt(progress):
        if progress.n_done >= 4:
            raise KeyboardInterrupt

    client = FakeSampler(delay_s=0.002)
    with pytest.raises(KeyboardInterrupt):
        sample(client, tmp_path, grader, on_progress=interrupt)
    n_kept = len(read_draws(tmp_path)[0])
    assert 4 <= n_kept < 15
    assert client.n_running == 0
    again = sample(FakeSampler(), tmp_path, grader)
    assert again.n_reused == n_kept
    assert again.records == sample(FakeSampler(), tmp_path / "calm", grader).records


def test_an_interrupted_call_is_not_drawn_to_its_end(tmp_path, grader):
    def interrupt(progress):
        if progress.n_done:
            raise KeyboardInterrupt

    client = FakeSampler(delay_s=0.01, log=tmp_path / "answered")
    calls = CallParams(batch_size=100)
    with pytest.raises(KeyboardInterrupt):
        sample(client, tmp_path, grader, n_samples=20, calls=calls, on_progress=interrupt)
    assert len((tmp_path / "answered").read_text().split()) < 90


def test_a_thread_that_ends_otherwise_does_not_leave_the_caller_waiting(tmp_path, grader):
    def leave(call, request):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        sample(FakeSampler(fail=leave), tmp_path, grader)


def test_a_budget_is_never_passed_and_raising_it_goes_on(tmp_path, grader):
    whole = sample(FakeSampler(), tmp_path / "whole", grader)
    n_tokens = sum(record["completion_tokens"] for record in whole.records)
    limit = make_params().max_tokens
    budget = n_tokens // 2 + limit
    short = replace(QUICK, budget_tokens=budget)
    with pytest.raises(BudgetReached, match=f"budget of {budget:,} completion tokens is used up"):
        sample(FakeSampler(), tmp_path / "capped", grader, calls=short)
    kept, _ = read_draws(tmp_path / "capped")
    spent = sum(record["completion_tokens"] for record in kept)
    assert budget - limit < spent <= budget
    client = FakeSampler()
    with pytest.raises(BudgetReached):  # the same budget again draws nothing
        sample(client, tmp_path / "capped", grader, calls=short)
    assert n_requests(client) == 0
    enough = replace(QUICK, budget_tokens=n_tokens + limit)
    assert sample(client, tmp_path / "capped", grader, calls=enough).records == whole.records
    assert n_requests(client) == len(whole.records) - len(kept)


def test_a_budget_that_pays_for_no_draw_makes_none(tmp_path, grader):
    client = FakeSampler()
    with pytest.raises(BudgetReached, match="raise budget_tokens"):
        sample(client, tmp_path, grader, calls=replace(QUICK, budget_tokens=make_params().max_tokens - 1))
    assert n_requests(client) == 0


def test_a_draw_asked_for_twice_is_refused():
    (draw,) = list_draws(POOL[:1], 1, make_params())
    with pytest.raises(ValueError, match="asked for twice"):
        next(ask(FakeSampler(), [draw, draw], make_params()))


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(tmp_path, grader, monkeypatch):
    from panelbook.rollouts import store

    append = store.Shard.append

    def fill(shard, record):
        if shard.n_lines == 6:
            raise StoreError("full")
        append(shard, record)

    monkeypatch.setattr(store.Shard, "append", fill)
    with pytest.raises(StoreError, match="full"):
        sample(FakeSampler(), tmp_path, grader)
    monkeypatch.undo()
    again = sample(FakeSampler(), tmp_path, grader)
    assert again.n_reused == 6
    assert again.records == sample(FakeSampler(), tmp_path / "calm", grader).records


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"n_calls": 0}, {"max_tries": 0}, {"backoff_s": -1.0}])
def test_call_params_are_checked(bad):
    with pytest.raises(ValueError, match="must be 1 or more"):
        CallParams(**bad)


@pytest.mark.parametrize("bad", [{"step": -1}, {"max_tokens": 0}, {"temperature": -0.1}])
def test_draw_params_are_checked(bad):
    with pytest.raises(ValueError, match="must be 0 or more"):
        make_params(**bad)


# --- concurrency and progress -----------------------------------------------------------------------


def test_batches_and_calls_are_bounded(tmp_path, grader):
    client = FakeSampler(delay_s=0.002)
    sample(client, tmp_path, grader, n_samples=8, calls=CallParams(batch_size=4, n_calls=3))
    assert client.most_running == 3
    assert [len(call) for call in client.calls] == [4] * 10


def test_equal_prompts_meet_in_a_batch(tmp_path, grader):
    client = FakeSampler()
    sample(client, tmp_path, grader, n_samples=4, calls=CallParams(batch_size=4))
    assert all(len({tuple(r.prompt.to_ints()) for r in call}) == 1 for call in client.calls)


def test_progress_counts_up_to_the_end(tmp_path, grader):
    sample(FakeSampler(), tmp_path, grader, POOL[:2], 3)
    seen = []
    sampled = sample(FakeSampler(delay_s=0.002), tmp_path, grader, on_progress=seen.append)
    assert (seen[0].n_done, seen[0].n_reused, seen[0].n_tokens) == (6, 6, 0)
    assert math.isnan(seen[0].left_s)
    assert math.isnan(seen[0].tokens_per_s)
    assert [p.n_done for p in seen] == sorted({p.n_done for p in seen})
    last = seen[-1]
    assert (last.n_done, last.n_total, last.n_reused, last.left_s) == (15, 15, 6, 0.0)
    assert last.n_tokens == sum(r["completion_tokens"] for r in sampled.records[6:])


def test_rates_and_time_left_leave_out_what_was_there():
    progress = Progress(n_done=30, n_total=100, n_reused=10, n_tokens=5000, elapsed_s=4.0)
    assert progress.tokens_per_s == 1250.0
    assert progress.left_s == 14.0  # 20 new draws in 4 s, 70 to go


# --- SIGKILL ----------------------------------------------------------------------------------------


def fork(folder):
    process = multiprocessing.get_context("fork").Process(target=run_sampling, args=(folder, 0.002))
    process.start()
    return process


def start_python(folder):
    code = f"import pathlib, fake_engine; fake_engine.run_sampling(pathlib.Path({str(folder)!r}), 0.002)"
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def wait_for(process, path, n_bytes):
    """Wait until a file has grown to `n_bytes` or the process has ended."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size >= n_bytes):
        assert time.monotonic() < deadline, f"{path} did not grow"
        if isinstance(process, subprocess.Popen) and process.poll() is not None:
            return
        if not isinstance(process, subprocess.Popen) and not process.is_alive():
            return
        time.sleep(0.001)


def finish(process):
    return process.wait() if isinstance(process, subprocess.Popen) else (process.join(), process.exitcode)[1]


@pytest.mark.parametrize(
    ("start", "n_kills"), [(fork, 6), pytest.param(start_python, 3, marks=pytest.mark.slow)]
)
def test_a_run_killed_again_and_again_ends_as_if_undisturbed(tmp_path, start, n_kills):
    undisturbed = run_sampling(tmp_path / "calm")
    folder, rng = tmp_path / "killed", random.Random(20260424)
    shard, requests = folder / "shards" / "think-base.jsonl", folder / "requests"
    n_bytes = (tmp_path / "calm" / "shards" / "think-base.jsonl").stat().st_size
    moments = sorted(rng.uniform(0, 0.8) for _ in range(n_kills))
    n_in_flight = 0
    for moment in moments:
        before = [record["seed"] for record in read_draws(folder / "shards")[0]]
        process = start(folder)
        wait_for(process, shard, moment * n_bytes)
        os.kill(process.pid, signal.SIGKILL)
        assert finish(process) == -signal.SIGKILL
        kept = [record["seed"] for record in read_draws(folder / "shards")[0]]
        asked = requests.read_text().split() if requests.exists() else []
        assert kept[: len(before)] == before, "finished draws are never lost"
        assert not set(map(int, asked)) & set(before), "finished draws are never asked for again"
        assert len(asked) == len(set(asked))
        n_in_flight = max(n_in_flight, len(asked) - (len(kept) - len(before)))
        requests.unlink(missing_ok=True)
    assert 0 < len(kept) < len(PROBLEMS) * SAMPLES, "the last kill came before the end"
    assert n_in_flight <= 2 * 8, "lost: at most two calls of eight draws"
    assert finish(start(folder)) == 0
    parquet = "rollouts.parquet"
    assert (folder / parquet).read_bytes() == (tmp_path / "calm" / parquet).read_bytes()
    lines = read_lines(shard)[0]
    assert sorted(lines, key=draw_key) == sorted(undisturbed.records, key=draw_key)
