"""What the data card and the model card say is what the code and the records hold."""

import hashlib
import json
from pathlib import Path

import pytest

from panelbook import engine
from panelbook.errors import BookError
from panelbook.publish.cards import list_files, list_prompts, list_settings, list_weights

ABACUS = Path(engine.__file__).parent / "abacus"


def test_files_are_listed_with_their_hashes():
    text = list_files({"b_1.json": "1" * 64, "a.json": "2" * 64})
    assert text.splitlines()[2:] == [
        "| a.json | `2222222222222222…` |",
        r"| b\_1.json | `1111111111111111…` |",
    ]


def test_prompts_stand_word_for_word():
    text = list_prompts()
    assert "Multi-Persona Panel of Experts first deliberates and debates" in text
    assert text.count("{problem}") >= 4
    for name in ("panel", "think", "no_panel", "native"):
        assert f"**{name}**, a draw ends at `" in text


class TestSettings:
    def test_a_row_for_each_run_that_drew_and_none_for_the_others(self):
        manifests = {
            "rollouts.panel": {
                "stage": "rollouts",
                "params": {"arm": "panel", "temperature": 1.0, "n_samples": 8},
            },
            "train.x|y": {
                "stage": "train",
                "params": {"arm": "think", "temperature": 0.7, "label": "hidden"},
            },
            "pass_at_k.aime": {"stage": "pass_at_k", "params": {"arm": "nobody"}},
        }
        assert list_settings(manifests).splitlines() == [
            r"| run | arm | n\_samples | temperature |",
            "|---|---|---|---|",
            "| rollouts.panel | panel | 8 | 1.0 |",
            r"| train.x\|y | think |  | 0.7 |",
        ]

    def test_a_build_without_draws_says_so(self):
        assert "drew from no model" in list_settings({"a.b": {"stage": "claims", "params": {}}})


class TestWeights:
    def test_the_hash_is_that_of_the_file(self):
        digest = hashlib.sha256((ABACUS / "model.safetensors").read_bytes()).hexdigest()
        text = list_weights(ABACUS)
        record = json.loads((ABACUS / "training.json").read_text(encoding="utf-8"))
        assert f"`{record['weights_sha256'][:16]}…`" in text
        assert f"| model.safetensors, SHA-256 | `{digest[:16]}…` |" in text
        assert f"| parameters | {record['n_parameters']:,} |" in text

    @pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"curve": []}'])
    def test_a_broken_record_is_refused_with_the_way_back(self, tmp_path, text):
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        (tmp_path / "training.json").write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match="git checkout"):
            list_weights(tmp_path)

    def test_so_is_a_folder_without_one(self, tmp_path):
        with pytest.raises(BookError, match="cannot be read"):
            list_weights(tmp_path)
