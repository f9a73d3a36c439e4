"""A server that speaks the Tinker API, on this machine and for as long as a test needs it.

`prepare` makes what it runs on, once, under ``_build/skyrl``: an environment of Python 3.12 with SkyRL, and the one
version of the SDK that SkyRL 0.4 speaks with, apart from the project's own. `Server` starts it on a free port of
loopback, with a database and checkpoints of its own, and ends every process of it. Run as a program, this module
only prepares: ``make tinker`` does so before the tests.

What is *not* handled: graphics cards, and servers for anybody but a test.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build" / "skyrl"
SDK = BUILD / "sdk"
SDK_VERSION = "0.25.0"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

PYTHON_VARIABLE = "PANELBOOK_PYTHON312"
"""Environment variable: an interpreter of Python 3.12, where none is found."""

ENVIRONMENT_VARIABLE = "PANELBOOK_SKYRL"
"""Environment variable: the folder of an environment that has the requirements already."""

START_LIMIT_S = 180
STOP_LIMIT_S = 30
INSTALL_LIMIT_S = 3600
TAIL = 3000

BACKEND = {
    "max_lora_adapters": 32,
    "max_lora_rank": 8,
    "train_micro_batch_size": 16,
    "sample_max_num_sequences": 64,
}
"""Room for every adapter of a test run; batches of one size, because every further size is compiled for seconds."""


class Unavailable(Exception):
    """This machine cannot run the server; the message says why."""


class ServerFailed(Exception):
    """The server did not start or did not stop."""


def find_python() -> Path:
    """Return an interpreter of Python 3.12 that runs: named, on the path, or one of pyenv's.

    Raises
    ------
    Unavailable
        If there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE) or shutil.which("python3.12")
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [Path(named)] if named else []
    for path in [*candidates, *sorted(versions.glob("3.12.*/bin/python3.12"), reverse=True)]:
        asked = [path, "-c", "import sys, ensurepip; print(sys.version_info[:2] == (3, 12))"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        if done.stdout.strip() == "True":  # a shim of pyenv is on the path and runs nothing
            return path
    raise Unavailable(
        f"SkyRL needs Python 3.12, and none is on the path or among pyenv's; name one in {PYTHON_VARIABLE}."
    )


def prepare() -> Path:
    """Return the folder of an environment with SkyRL, and put the SDK into `SDK`; both are made once.

    Raises
    ------
    Unavailable
        If there is no interpreter, or the packages are not to be had.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    if not (SDK / f"tinker-{SDK_VERSION}.dist-info" / "RECORD").is_file():
        shutil.rmtree(SDK, ignore_errors=True)
        apart = ["--target", str(SDK), "--no-deps", f"tinker=={SDK_VERSION}"]
        _install(Path(sys.executable), *apart)
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    folder, ready = BUILD / "venv", BUILD / "venv" / ".ready"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not ready.is_file() or ready.read_text(encoding="utf-8") != wanted:
        python = find_python()
        print(f"making an environment for SkyRL in {folder.relative_to(ROOT)}; this takes minutes, once")
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True, timeout=INSTALL_LIMIT_S)
        _install(folder / "bin" / "python", "-r", str(REQUIREMENTS))
        ready.write_text(wanted, encoding="utf-8")
    return folder


def _install(python: Path, *arguments: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--progress-bar", "off"]
    command = [python, "-m", "pip", "install", *quiet, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    if done.returncode:
        raise Unavailable(f"pip install {' '.join(arguments)} failed:\n{done.stderr[-TAIL:]}")


@dataclass
class Server:
    """A server on one base model, running between entry and exit.

    Parameters
    ----------
    environment
        What `prepare` returned.
    base_model
        Folder of its weights, which is also the model's name there.
    folder
        For its database, checkpoints and log.
    """

    environment: Path
    base_model: Path
    folder: Path

    @property
    def url(self) -> str:
        """Return what TINKER_BASE_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def checkpoints(self) -> Path:
        """Return the folder in which it saves weights."""
        return self.folder / "checkpoints"

    @property
    def log(self) -> Path:
        """Return the file that it writes its log to."""
        return self.folder / "server.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        # SkyRL reads the command line of its parent, which must be `uv run`, to start its engine alike.
        command = [
            *("uv", "run", "--no-project", "--active", "-m", "skyrl.tinker.api"),
            *(
                "--base-model",
                str(self.base_model),
                "--backend",
                "jax",
                "--backend-config",
                json.dumps(BACKEND),
            ),
            *("--checkpoints-base", str(self.checkpoints), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--session-timeout-sec", "-1"),
        ]
        binaries = self.environment.resolve() / "bin"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
            "VIRTUAL_ENV": str(binaries.parent),
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(BUILD / "compiled"),
            "SKYRL_DATABASE_URL": f"sqlite:///{self.folder / 'database.sqlite'}",
            "HF_HUB_OFFLINE": "1",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of the server.

        Raises
        ------
        ServerFailed
            If one is left, or something still listens on the port.
        """
        for number, limit_s in ((signal.SIGTERM, STOP_LIMIT_S), (signal.SIGKILL, STOP_LIMIT_S)):
            _signal_group(self._process.pid, number)
            deadline = time.monotonic() + limit_s
            # A process that is leaving holds the port for a moment after it has stopped being one.
            while (self.processes() or _listens(self.port)) and time.monotonic() < deadline:
                self._process.poll()  # takes leave of the first process, which would stay on as a zombie
                time.sleep(0.1)
        if left := self.processes():
            raise ServerFailed(f"processes of the server are left: {left}.")
        if _listens(self.port):
            raise ServerFailed(f"port {self.port} is still in use after the server was stopped.")

    def processes(self) -> list[int]:
        """Return the processes of the server's session that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/v1/healthz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-TAIL:]
        raise ServerFailed(f"the server did not become healthy in {START_LIMIT_S} s. Its log ends:\n{tail}")


def _signal_group(session: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    try:
        prepare()
    except Unavailable as reason:
        print(f"The tests against a server will be skipped. {reason}")
