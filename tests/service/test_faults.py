"""A live server that fails: runs end in time, say why in a line, keep what is finished and ask for the rest once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from panelbook.engine.backbone import ABACUS
from panelbook.engine.service import USUAL, Patience, ServiceError
from panelbook.engine.tinker import TinkerEngine
from panelbook.rollouts.ask import CallParams
from panelbook.rollouts.draw import DrawParams
from panelbook.rollouts.sample import sample_rollouts
from panelbook.rollouts.store import draw_key, read_draws
from panelbook.study.arithmetic import draw_problems, miniature_prompt
from panelbook.study.grading import Grader

from .proxy import Fault, Proxy

pytestmark = pytest.mark.service

KEY = "tml-secret-0123456789"
HASTY = Patience(connect_s=5, lost_s=8, stall_s=30, probe_s=2)
LIMIT_S = 120
N_SAMPLES = 4
PROBLEMS = draw_problems(1, seed=3)[:4]
REFUSAL = '{"detail": "Invalid API key tml-secret-0123456789"}'

MENDED = {
    "connections dropped": Fault("asample", "drop", times=3),
    "answers lost on the way": Fault("asample", "lose", times=2),
    "too many requests": Fault("asample", "status", times=2, status=429),
    "too many requests, with a time to wait": Fault(
        "asample", "status", times=2, status=429, headers={"Retry-After": "1"}
    ),
    "errors of the server": Fault("asample", "status", times=2),
    "garbage": Fault("asample", "garbage", times=2),
    "answers cut off": Fault("asample", "truncate", times=2),
    "results dropped": Fault("retrieve_future", "drop", times=3),
    "results as garbage": Fault("retrieve_future", "garbage", times=2),
    "results cut off": Fault("retrieve_future", "truncate", times=2),
    "results with an error": Fault("retrieve_future", "status", times=3),
    "a slow server": Fault("asample", "delay", times=4, delay_s=1.5),
}

FATAL = {
    "a key refused at the start": (Fault("/api", "status", status=401, body=REFUSAL), "refuses the key"),
    "a key refused on the way": (Fault("asample", "status", status=401, body=REFUSAL), "refuses the key"),
    "billing at the start": (Fault("/api", "status", status=402), "has halted for billing"),
    "billing on the way": (Fault("asample", "status", status=402, after=3), "has halted for billing"),
    "down at the start": (Fault("/api", "drop"), "does not answer"),
    "down on the way": (Fault("/api", "drop", after=12), "does not answer"),
    "errors without end": (Fault("asample", "status"), "finished nothing"),
    "too many requests without end": (Fault("asample", "status", status=429), "finished nothing"),
    "a result that is not known": (
        Fault("retrieve_future", "status", status=404),
        "does not know what it was asked",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def compiled(environment, tmp_path_factory):
    """Let the server compile what it needs for such draws: that takes longer than the tests have patience for."""
    draw(tmp_path_factory.mktemp("compiled"), USUAL)


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    with Proxy(server.url) as between:
        monkeypatch.setenv("TINKER_BASE_URL", between.url)
        yield between


def draw(folder, patience=HASTY):
    """Ask for every draw that the folder lacks; returns the records."""
    params = DrawParams("service", "service", "run", "panel", "base", 0, seed=1, max_tokens=32)
    client = TinkerEngine.connect(str(ABACUS), patience).create_sampling_client()
    calls = CallParams(batch_size=8, n_calls=2, backoff_s=0.1)
    with Grader(n_workers=1) as grader:
        return sample_rollouts(
            client,
            PROBLEMS,
            N_SAMPLES,
            params,
            folder,
            grader,
            calls=calls,
            render=lambda problem: miniature_prompt("panel", problem.question),
        ).records


def check_whole(folder, records):
    """Every draw is there once, in what was returned and on disk."""
    expected = {(problem.problem_id, i) for problem in PROBLEMS for i in range(N_SAMPLES)}
    kept, torn = read_draws(folder)
    assert not torn
    assert len({draw_key(record) for record in kept}) == len(kept) == len(records) == len(expected)
    assert {(record["problem_id"], record["sample_id"]) for record in records} == expected


@pytest.mark.parametrize("name", MENDED)
def test_what_passes_is_waited_out_and_nothing_is_kept_twice(proxy, tmp_path, name):
    proxy.inject(MENDED[name])
    started = time.monotonic()
    check_whole(tmp_path, draw(tmp_path))
    assert time.monotonic() - started < LIMIT_S


@pytest.mark.parametrize("name", FATAL)
def test_what_does_not_pass_ends_in_a_line_and_the_next_run_asks_for_the_rest(
    server, proxy, tmp_path, monkeypatch, name
):
    fault, expected = FATAL[name]
    proxy.inject(fault)
    started = time.monotonic()
    with pytest.raises(ServiceError) as failed:
        draw(tmp_path)
    assert time.monotonic() - started < LIMIT_S
    said = str(failed.value)
    assert expected in said
    assert KEY not in said
    assert "\n" not in said
    kept = read_draws(tmp_path)[0] if list(tmp_path.glob("*.jsonl")) else []
    with Proxy(server.url) as healed:
        monkeypatch.setenv("TINKER_BASE_URL", healed.url)
        check_whole(tmp_path, draw(tmp_path))
        assert healed.count("asample") == len(PROBLEMS) * N_SAMPLES - len(kept)


def test_a_server_killed_on_the_way_and_started_again(environment, tmp_path, monkeypatch, request):
    """Killed with everything it holds in memory; a second run goes on with a new session."""
    from .server import Server, prepare

    with Server(prepare(), ABACUS, tmp_path / "server") as victim:
        monkeypatch.setenv("TINKER_BASE_URL", victim.url)
        code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from service.test_faults import draw
from pathlib import Path
from panelbook.engine.service import USUAL
draw(Path({str(tmp_path / "draws")!r}), USUAL)
"""
        client = subprocess.Popen(
            [sys.executable, "-c", code],
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        time.sleep(12)
        for pid in victim.processes():
            os.kill(pid, signal.SIGKILL)
        said = client.communicate(timeout=600)[
            0
        ].decode()  # five minutes without a sign of life, then it gives up
        if client.returncode:  # it had not finished before the server was killed
            assert "ServiceError" in said
            assert "run the same command again" in said.lower()
    with Server(prepare(), ABACUS, tmp_path / "again") as again:
        monkeypatch.setenv("TINKER_BASE_URL", again.url)
        check_whole(tmp_path / "draws", draw(tmp_path / "draws", USUAL))
