"""Progress reaches the runner's file, or the terminal of a notebook opened by hand, and never a notebook."""

from pathlib import Path

import pytest

from panelbook.rollouts.progress import VARIABLE, tell, tell_sampling, tell_step
from panelbook.rollouts.sample import Progress


def test_the_file_holds_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "progress.txt"
    monkeypatch.setenv(VARIABLE, str(target))
    tell("first")
    tell_sampling(Progress(n_done=30, n_total=90, n_reused=10, n_tokens=4000, elapsed_s=2.0))
    assert target.read_text(encoding="utf-8") == "30 of 90 draws, 2,000 tokens/s, 6 s left"
    assert list(tmp_path.iterdir()) == [target]


def test_before_the_first_new_draw_there_is_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "p"))
    tell_sampling(Progress(n_done=5, n_total=5, n_reused=5, n_tokens=0, elapsed_s=0.1))
    assert (tmp_path / "p").read_text(encoding="utf-8") == "5 of 5 draws, 5 of them kept from before"


def test_steps_are_counted_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "p"))
    tell_step({"step": 0, "reward": 0.5, "tokens_total": 1234}, n_steps=60)
    assert (tmp_path / "p").read_text(encoding="utf-8") == "step 1 of 60: reward 0.50, 1,234 tokens so far"


def test_without_a_runner_it_goes_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    tell("hello")
    assert capfd.readouterr() == ("", "hello\n")
