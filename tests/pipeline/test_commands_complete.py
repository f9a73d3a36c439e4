"""What the TAB key offers, asked as bash and zsh ask: through the environment."""

import os
import subprocess
import sys
import time

import pytest

from panelbook.pipeline.commands.complete import join_words
from panelbook.project import Project

RUN = "panelbook run pass_at_k.aime"


def ask(shell, line, cwd=None, expect_clean=True):
    """Return the lines that a shell is given for a command line; bash splits it at blanks and at `=`."""
    environment = os.environ | {"_PANELBOOK_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        words = line.replace("=", " = ").split(" ")
        words = [w for i, w in enumerate(words) if w or i == len(words) - 1]
        environment |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        environment["_TYPER_COMPLETE_ARGS"] = line
    program = "import sys; sys.argv[0] = 'panelbook'; from panelbook.pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=cwd or Project.find().root,
        capture_output=True,
        text=True,
    )
    if expect_clean:
        assert done.stderr == ""
    return done.stdout.splitlines()


class TestBash:
    def test_commands(self):
        assert "run" in ask("bash", "panelbook r")

    def test_stages_and_then_their_groups(self):
        assert {"pass_at_k", "power", "problems"} <= set(ask("bash", "panelbook run p"))
        groups = ask("bash", "panelbook run pass_at_k.a")
        assert {"pass_at_k.aime", "pass_at_k.arithmetic"} <= set(groups)
        assert all(name.startswith("pass_at_k.a") for name in groups)

    def test_the_groups_are_those_of_the_profile(self):
        offered = ask("bash", "panelbook run --profile published pass_at_k.a")
        assert "pass_at_k.aime" in offered
        assert "pass_at_k.arithmetic" not in offered

    def test_parameters_of_the_stage_with_the_values_of_now(self):
        offered = ask("bash", f"{RUN} -p ")
        assert "k_max=0" in offered
        assert not any(name.startswith(("counts=", "output_dir=", "group_size=")) for name in offered)
        assert ask("bash", f"{RUN} -p k_m") == ["k_max=0"]

    def test_a_parameter_that_was_given_is_not_offered_again(self):
        assert "k_max=0" not in ask("bash", f"{RUN} -p k_max=8 -p ")
        assert "n_resamples=4000" in ask("bash", f"{RUN} -p k_max=8 -p n_r")

    def test_values_after_the_equals_sign_without_the_name_that_bash_keeps(self):
        assert ask("bash", f"{RUN} -p benchmark=a") == ["aime", "arithmetic"]
        assert ask("bash", f"{RUN} -p benchmark=aime,ol") == ["aime,olympiad"]
        assert ask("bash", "panelbook run embed.arithmetic -p turns=") == ["true", "false"]
        assert set(ask("bash", "panelbook run rollouts.panel -p engine=")) == {"local", "tinker"}

    def test_profiles_are_those_files_that_are_profiles(self):
        offered = ask("bash", "panelbook run --profile ")
        assert {"miniature", "published", "smoke"} <= set(offered)
        assert not {"base", "claims", "live", "prices", "appendix"} & set(offered)

    def test_variants(self, toy):
        (toy.runs / "miniature" / "variants" / "draw.all" / "n=3").mkdir(parents=True)
        (toy.runs / "miniature" / "variants" / "draw.all" / "sweeps").mkdir()
        assert ask("bash", "panelbook variants open d", cwd=toy.root) == ["draw.all/n=3"]

    @pytest.mark.parametrize(
        "line", [f"{RUN[:-9]}nonsense -p ", "panelbook run --profile nowhere ", "panelbook run -p "]
    )
    def test_where_something_is_amiss_nothing_is_offered_and_nothing_printed(self, line):
        assert [text for text in ask("bash", line) if text] == []


class TestZsh:
    def test_names_come_with_help_range_and_default(self):
        (line,) = [line for line in ask("zsh", f"{RUN} -p n_re") if "n_resamples" in line]
        assert '"n_resamples=4000":"bootstrap resamples of problems; at least 100; default 4000"' in line

    def test_values_come_with_the_name_that_zsh_wants_back(self):
        text = "\n".join(ask("zsh", f"{RUN} -p benchmark=ol"))
        assert '"benchmark=olympiad"' in text
        assert '"benchmark=aime"' not in text

    def test_stages_come_with_the_labels_of_their_groups(self):
        assert '"pass_at_k.aime":"AIME 2024 and 2025"' in "\n".join(ask("zsh", "panelbook run pass_at_k.ai"))


class TestWords:
    @pytest.mark.parametrize(
        ("words", "joined", "position"),
        [
            (["p", "run", "x", "-p", "k", "=", "8"], "p run x -p k=8", 4),
            (["p", "run", "x", "-p", "k", "="], "p run x -p k=", 4),
            (["p", "run", "x", "-p", "k", "=", ""], "p run x -p k=", 4),
            (["p", "run", "x", "-p", "k", "=", "8", "-p", ""], "p run x -p k=8 -p ", 6),
            (["p", "run", ""], "p run ", 2),
        ],
    )
    def test_what_bash_split_is_joined(self, words, joined, position):
        environment = {
            "_PANELBOOK_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        join_words(environment)
        assert (environment["COMP_WORDS"], environment["COMP_CWORD"]) == (joined, str(position))

    def test_nothing_else_is_touched(self):
        environment = {"_PANELBOOK_COMPLETE": "complete_zsh", "COMP_WORDS": "a = b", "COMP_CWORD": "2"}
        before = dict(environment)
        join_words(environment)
        assert environment == before
        join_words(empty := {})
        assert empty == {}


def test_it_loads_none_of_what_takes_long():
    """A check of what is imported, not of the clock: a busy machine must not fail it."""
    program = (
        "import os, sys; os.environ.update(_PANELBOOK_COMPLETE='complete_zsh', "
        "_TYPER_COMPLETE_ARGS='panelbook run pass_at_k.aime -p k'); sys.argv[0] = 'panelbook'\n"
        "from panelbook.pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pandas', 'numpy', 'scipy', 'matplotlib', 'torch', 'papermill', 'nbformat', 'pytask'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Project.find().root
    )
    assert "k_max=0" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - started < 10
