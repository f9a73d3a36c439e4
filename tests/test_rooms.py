"""The project as a whole: which room may import which, documents that match the code, and what is tracked."""

import ast
import hashlib
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from typer.main import get_command

from panelbook.pipeline.cli import app
from panelbook.rollouts import published

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "panelbook"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_TRACKED_BYTES = 5_000_000


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Return every tracked file that is there; skip outside a repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def documented(docstring: str, section: str) -> list[str]:
    """Return the names that a section of a NumPy docstring describes."""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=^\w[\w ]*\n-{{3,}}|\Z)", docstring, re.M | re.S)
    if found is None:
        return []
    heads = [line for line in found[1].splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for head in heads for name in head.split(" : ")[0].split(",")]


def test_imports_keep_to_the_rooms(capsys):
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    out = capsys.readouterr().out
    assert status == 0, out
    assert re.search(r"[1-9]\d* kept, 0 broken", out), out


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
class TestDocuments:
    def test_documented_parameters_are_parameters(self, path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = {a.arg for a in (*arguments, node.args.vararg, node.args.kwarg) if a}
                unknown = set(documented(ast.get_docstring(node) or "", "Parameters")) - names
                assert unknown == set(), f"{node.name} documents what it does not take"

    def test_documented_attributes_are_attributes(self, path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                known = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                known |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                known |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                unknown = set(documented(ast.get_docstring(node) or "", "Attributes")) - known
                assert unknown == set(), f"{node.name} documents what it does not have"

    def test_says_what_it_is_for_in_its_first_line(self, path):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert text
        assert len(text.splitlines()[0]) > 20


def test_the_reader_of_docstrings_finds_names():
    """Guard the two tests above: a parser that finds nothing would let everything pass."""
    text = "Do.\n\nParameters\n----------\nfirst, second\n    Two.\nthird\n    One.\n\nReturns\n-------\nint\n    It.\n"
    assert documented(text, "Parameters") == ["first", "second", "third"]
    assert documented(text, "Returns") == ["int"]
    assert documented(text, "Raises") == []


def test_every_test_module_has_its_module():
    for path in (ROOT / "tests").glob("*/test_*.py"):
        if path.parent.name == "service":  # held to a live server, not to a module
            continue
        name = path.stem.removeprefix("test_")
        room = PACKAGE / path.parent.name
        package, _, part = name.partition("_")  # tests/publish/test_figures_passk.py: figures/passk.py
        mirrored = [
            *(room / f"{name}.py", room / name / "__init__.py", room / package / f"{part}.py"),
            room / f"{name.removesuffix('_engine')}.py",  # test_tinker_engine.py: its module's name is taken
        ]
        assert any(module.is_file() for module in mirrored), f"{path.name} mirrors no module"


class TestEnvironment:
    @pytest.fixture(scope="class")
    @staticmethod
    def pinned():
        lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").split()
        assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines)
        return {
            name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)
        }

    @pytest.fixture(scope="class")
    @staticmethod
    def needed():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return [
            Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"]["dev"])
        ]

    def test_everything_needed_is_pinned_to_a_version_that_serves(self, pinned, needed):
        for requirement in needed:
            name = requirement.name.lower().replace("_", "-")
            assert name in pinned, f"{name} is not in requirements.lock"
            assert pinned[name] in requirement.specifier, name

    def test_what_runs_here_is_what_is_pinned(self, pinned, needed):
        for requirement in needed:
            name = requirement.name.lower().replace("_", "-")
            assert importlib.metadata.version(name).partition("+")[0] == pinned[name], name

    def test_conda_installs_the_same_lock(self):
        environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
        (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
        assert "-r requirements.lock" in pip
        for line in pip:  # pip reads these lines as a requirements file, which knows few options
            assert re.fullmatch(r"(-r|-e|-c|--index-url|--extra-index-url) \S+", line), line


class TestTracked:
    def test_no_published_file_is_tracked(self, tracked):
        pinned = set(published.registry().values())
        found = [p.name for p in tracked if hashlib.sha256(p.read_bytes()).hexdigest() in pinned]
        assert found == []

    def test_nothing_large_is_tracked(self, tracked):
        large = {p.name: p.stat().st_size for p in tracked if p.stat().st_size > MAX_TRACKED_BYTES}
        assert large == {}

    def test_nothing_generated_is_tracked(self, tracked):
        generated = {"runs", "_build", ".venv", ".pytask", "__pycache__", "pytask.lock"}
        found = [
            p.relative_to(ROOT).as_posix() for p in tracked if generated & set(p.relative_to(ROOT).parts)
        ]
        assert found == []

    def test_no_text_names_a_folder_of_the_machine_it_was_written_on(self, tracked):
        folders = [folder for folder in (ROOT, Path.home()) if len(folder.parts) > 2]  # not a bare /src
        for path in tracked:
            content = path.read_bytes()
            for folder in folders:
                assert f"{folder}/".encode() not in content, path.relative_to(ROOT)


class TestCommands:
    """What the hand-written texts tell a reader to type exists."""

    TEXTS = (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")))

    def mentioned(self, pattern):
        return {name for path in self.TEXTS for name in re.findall(pattern, path.read_text(encoding="utf-8"))}

    def test_of_the_command_line(self):
        commands = set(get_command(app).commands)
        named = {
            name for pair in self.mentioned(r"(?m)`panelbook (\w+)|^panelbook (\w+)") for name in pair if name
        }
        assert {"run", "params"} <= named <= commands

    def test_of_make(self):
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
        named = {name for pair in self.mentioned(r"(?m)`make (\w+)`|^make (\w+)") for name in pair if name}
        assert {"book", "test"} <= named <= targets
