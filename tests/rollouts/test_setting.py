"""Which model answers, to what prompt, and under what name of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from panelbook.engine.backbone import ABACUS
from panelbook.engine.local import LocalEngine
from panelbook.errors import BookError
from panelbook.rollouts import setting as module
from panelbook.rollouts.setting import Setting
from panelbook.study.arithmetic import draw_problems, miniature_prompt

PROBLEMS = draw_problems(1, seed=3)
ABACUS_SETTING = Setting("local", "abacus")


def test_the_miniature_is_loaded_with_its_own_prompt(tmp_path: Path) -> None:
    assert isinstance(ABACUS_SETTING.open(tmp_path), LocalEngine)
    render = ABACUS_SETTING.render("think")
    assert render is not None
    assert render(PROBLEMS[0]) == miniature_prompt("think", PROBLEMS[0].question)


def test_any_other_model_is_loaded_from_its_folder_with_the_published_prompt(tmp_path: Path) -> None:
    folder = Setting("local", str(ABACUS))
    assert isinstance(folder.open(tmp_path), LocalEngine)
    assert folder.render("panel") is None


def test_the_service_has_no_miniature_and_needs_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    with pytest.raises(ValueError, match=r"no model 'abacus'.*TINKER_BASE_URL"):
        Setting("tinker", "abacus").open(tmp_path)
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    with pytest.raises(BookError, match="TINKER_API_KEY is not set"):
        Setting("tinker", "Qwen/Qwen3-30B-A3B-Base").open(tmp_path)


class TestNameOfARun:
    def test_is_the_same_for_the_same_in_any_order(self):
        name = ABACUS_SETTING.name_run("panel", PROBLEMS, seed=1, max_tokens=9)
        assert name == ABACUS_SETTING.name_run("panel", PROBLEMS[::-1], max_tokens=9, seed=1)

    def test_changes_with_whatever_the_draws_depend_on(self, monkeypatch: pytest.MonkeyPatch):
        name = ABACUS_SETTING.name_run("panel", PROBLEMS, seed=1)
        others = [
            ABACUS_SETTING.name_run("think", PROBLEMS, seed=1),
            ABACUS_SETTING.name_run("panel", PROBLEMS[1:], seed=1),
            ABACUS_SETTING.name_run("panel", [replace(PROBLEMS[0], gold="7"), *PROBLEMS[1:]], seed=1),
            ABACUS_SETTING.name_run("panel", PROBLEMS, seed=2),
            Setting("local", "some/model").name_run("panel", PROBLEMS, seed=1),
            Setting("tinker", "some/model").name_run("panel", PROBLEMS, seed=1),
        ]
        monkeypatch.setattr(module, "DRAWS_VERSION", module.DRAWS_VERSION + 1)
        others.append(ABACUS_SETTING.name_run("panel", PROBLEMS, seed=1))
        assert len({name, *others}) == len(others) + 1

    def test_does_not_change_with_the_batch(self):
        wide = Setting("local", "abacus", batch_size=7)
        assert wide.name_run("panel", PROBLEMS) == ABACUS_SETTING.name_run("panel", PROBLEMS)

    def test_weights_in_a_folder_count_by_content(self, tmp_path: Path):
        folder = Setting("local", str(tmp_path))
        (tmp_path / "model.safetensors").write_bytes(b"one")
        before = folder.name_weights()
        (tmp_path / "model.safetensors").write_bytes(b"two")
        assert folder.name_weights() != before
