"""The key of a service is nowhere in what a run leaves behind, whatever the service does with it.

A service that refuses the key and repeats it in its answer; a stage that runs into it; then every file is searched.
"""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from panelbook.pipeline.run import StageFailed, run_stage
from panelbook.pipeline.stages import STAGES, StageRun
from panelbook.project import Project
from panelbook.study.arithmetic import draw_problems
from panelbook.study.problems import write_problems

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = "runs/canary/problems/g/problems.parquet"
CANARIES = ("tml-canary-0123456789abcdef", "a-key-of-another-shape-42")

pytestmark = pytest.mark.slow


class Telltale(BaseHTTPRequestHandler):
    """Answers every request with `status` and everything it was told."""

    status = 401

    def do_GET(self):
        body = f"no: {dict(self.headers)}".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def telltale():
    """Serve on a free port of loopback; returns the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Telltale)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path):
    """Return a checkout with the stage `rollouts` and two problems."""
    root = tmp_path / "checkout"
    (root / "notebooks").mkdir(parents=True)
    (root / "params").mkdir()
    shutil.copy(ROOT / "notebooks" / STAGES["rollouts"].notebook, root / "notebooks")
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / PROBLEMS).parent.mkdir(parents=True)
    problems = draw_problems(1, seed=1)[:2]
    write_problems(problems, {one.problem_id: "train" for one in problems}, root / PROBLEMS)
    return Project(root.resolve())


@pytest.mark.parametrize("key", CANARIES)
@pytest.mark.parametrize("status", [401, 402])
def test_a_key_that_is_refused_is_told_in_a_line_and_written_nowhere(
    project, telltale, monkeypatch, capfd, key, status
):
    monkeypatch.setattr(Telltale, "status", status)
    monkeypatch.setenv("TINKER_BASE_URL", telltale)
    monkeypatch.setenv("TINKER_API_KEY", key)
    stage = STAGES["rollouts"]
    params = stage.params(engine="tinker", model="Some/Model", problems=PROBLEMS, weights="", label="x")
    with pytest.raises(StageFailed) as failed:
        run_stage(project, StageRun(stage, "canary", "g", params, (PROBLEMS,)))
    said = str(failed.value)
    assert ("refuses the key in TINKER_API_KEY" if status == 401 else "has halted for billing") in said
    printed = "".join(capfd.readouterr())
    left = [path for path in project.root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ipynb" and "failed" in path.parts for path in left)
    assert key not in said + printed
    assert [path for path in left if key.encode() in path.read_bytes()] == []
