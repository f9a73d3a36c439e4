"""Fixtures that several rooms share: the published files, a toy book, and the real book built once."""

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from toy_book import STAGES, make_checkout

from panelbook.pipeline import cli, stages
from panelbook.pipeline.book import without_published
from panelbook.pipeline.commands import terminal
from panelbook.pipeline.stages import plan
from panelbook.project import Project
from panelbook.rollouts import published

# A deadline on one example measures the machine, not the code.
settings.register_profile("panelbook", deadline=None)
settings.load_profile("panelbook")

# Workers run side by side, and the models are tiny: threads below the workers would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asks a hub; where none answers, the library takes half a minute to say so.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--allow-file-access-from-files"]
ROOT = Path(__file__).resolve().parents[1]
BUILD_LIMIT_S = 1500


@pytest.fixture(scope="session")
def published_folder() -> Path:
    """Return the folder of the published files, verified; skip where this machine has none."""
    try:
        return published.locate()
    except published.PublishedDataMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def published_copy(published_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the published files that a test may damage."""
    return Path(shutil.copytree(published_folder, tmp_path / "published"))


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """Return a fresh toy checkout."""
    return make_checkout(tmp_path / "toy")


@pytest.fixture
def toy_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy's stages the ones that `plan` and the command line know."""
    monkeypatch.setattr(stages, "STAGES", STAGES)


@pytest.fixture
def panelbook(capsys, monkeypatch):
    """Return a function that runs a command line and gives exit status, stdout and stderr."""
    monkeypatch.setattr(terminal.console, "width", 160)
    monkeypatch.setattr(terminal.errors, "width", 160)

    def call(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as exit_:
            status = exit_.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def here(toy, toy_stages, monkeypatch, tmp_path):
    """Return a toy checkout that is the working directory, on a machine without the published files."""
    monkeypatch.chdir(toy.root)
    monkeypatch.delenv("PANELBOOK_PUBLISHED", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("panelbook.rollouts.published.fetch", offline)
    return toy


def offline(**_):
    from panelbook.rollouts.published import PublishedDataError

    raise PublishedDataError("no connection")


@dataclass(frozen=True)
class Built:
    """A checkout in which `panelbook build` was run once."""

    root: Path
    status: int
    output: str
    wall_s: float
    environment: dict[str, str]

    @property
    def html(self) -> Path:
        return self.root / "_build" / "html"

    @property
    def pages(self) -> list[Path]:
        found = (path for path in self.html.rglob("*.html") if "_static" not in path.parts)
        return sorted(path for path in found if path.parent != self.html / "explore")  # no page of the theme


def run_panelbook(root: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run the command line as a reader does, in a process of its own."""
    command = [sys.executable, "-c", "from panelbook.pipeline.cli import main; main()", *arguments]
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )


def copy_checkout(target: Path) -> Path:
    """Copy what is tracked, or would be, into a fresh repository with one commit."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=target, check=True, capture_output=True)
    return target


def build_copy(target: Path, *arguments: str, **changes: str) -> Built:
    """Copy the checkout to `target` and build it; `changes` are laid over this process's environment.

    The copy runs its own code, not the installed one, so that editing the checkout does not disturb it.
    """
    root = copy_checkout(target)
    environment = {k: v for k, v in os.environ.items() if k != published.ENVIRONMENT}
    environment |= changes | {"PYTHONPATH": str(root / "lib")}
    started = time.monotonic()
    done = run_panelbook(root, "build", "--profile", "smoke", *arguments, environment=environment)
    return Built(root, done.returncode, done.stdout + done.stderr, time.monotonic() - started, environment)


@pytest.fixture(scope="session")
def built_book(published_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the smoke profile of this checkout, with the published files: minutes, so once.

    Workers that run side by side share one book: the first to come builds it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # that of a worker lies in that of the whole run
    record = shared / "book.pickle"
    with FileLock(shared / "book.lock"):
        if not record.exists():
            built = build_copy(
                shared / "book" / "checkout", **{published.ENVIRONMENT: str(published_folder.resolve())}
            )
            record.write_bytes(pickle.dumps(built))
    return pickle.loads(record.read_bytes())


@pytest.fixture(scope="session")
def bare_book(built_book: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the same on a machine without the published files.

    The live study is taken over from `built_book`, which ran the same code: only what is missing is at stake here.
    """
    folder = tmp_path_factory.mktemp("bare")
    (folder / "home").mkdir()
    homes = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home")}
    root = folder / "checkout"
    for run in without_published(plan(Project.find(), "smoke"))[0]:
        shutil.copytree(built_book.root / run.folder, root / run.folder)
    return build_copy(root, "--no-download", **homes)


@pytest.fixture(scope="session")
def book(built_book: Built) -> Built:
    """Return the built book, whose build must have ended well."""
    assert built_book.status == 0, built_book.output[-3000:]
    return built_book


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start headless Chromium; without one, skip, or fail in continuous integration."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("Continuous integration needs Chromium: install Debian's package `chromium`.")
        pytest.skip("no Chromium on this machine; install one to test the pages in it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()
