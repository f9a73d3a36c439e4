"""The generated parts of the data card and the model card: files, prompts, settings and weights as the code has them.

A card that is typed goes stale; these are read from what the pipeline itself uses.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from panelbook.errors import BookError
from panelbook.publish.markdown import escape
from panelbook.study.arms import ARMS

SETTINGS = ("arm", "n_samples", "n_steps", "temperature", "max_tokens", "learning_rate", "seed", "train_seed")
"""Parameters of stages that draw, in the order of the table."""


def list_files(registry: Mapping[str, str]) -> str:
    """Return the published files and their hashes as a markdown table.

    Parameters
    ----------
    registry
        Path in the study's repository -> SHA-256.
    """
    rows = [f"| {escape(name)} | `{digest[:16]}…` |" for name, digest in sorted(registry.items())]
    return "\n".join(["| file | SHA-256 |", "|---|---|", *rows]) + "\n"


def list_prompts() -> str:
    """Return the prompt of every arm as markdown, word for word, and what ends its draws."""
    blocks = []
    for name, arm in ARMS.items():
        stop = ", ".join(f"`{text}`" for text in arm.stop)
        blocks.append(f"**{name}**, a draw ends at {stop}:")
        if arm.frame is None:
            blocks.append(
                "The model's own chat template with thinking enabled, one user turn, no system prompt."
            )
            continue
        blocks.append(f"```text\n{arm.frame}\n```")
        if arm.integer_frame:
            blocks.append(f"and for answers that are integers:\n\n```text\n{arm.integer_frame}\n```")
    return "\n\n".join(blocks) + "\n"


def list_settings(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the settings of every run that drew from a model, as a markdown table.

    Parameters
    ----------
    manifests
        Run id -> what the run recorded of itself.
    """
    drew = {name: m["params"] for name, m in manifests.items() if m["stage"] in ("rollouts", "train")}
    if not drew:
        return "*This build drew from no model.*\n"
    columns = [key for key in SETTINGS if any(key in params for params in drew.values())]
    rows = [
        f"| {escape(name)} | " + " | ".join(escape(str(params.get(key, ""))) for key in columns) + " |"
        for name, params in sorted(drew.items())
    ]
    heading = f"| run | {' | '.join(escape(key) for key in columns)} |"
    return "\n".join([heading, "|---" * (len(columns) + 1) + "|", *rows]) + "\n"


def list_weights(folder: Path) -> str:
    """Return what decided the miniature's weights, and their hash, as a markdown table.

    Parameters
    ----------
    folder
        Holds `training.json`, `config.json` and `model.safetensors`, as pretraining left them.

    Raises
    ------
    BookError
        If either is missing or lacks an entry.
    """
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        last = record["curve"][-1]
        entries: Iterable[tuple[str, str]] = [
            ("parameters", f"{record['n_parameters']:,}"),
            ("vocabulary", f"{config['vocab_size']} tokens"),
            (
                "width, layers, heads",
                f"{config['hidden_size']}, {config['num_hidden_layers']}, {config['num_attention_heads']}",
            ),
            ("longest text", f"{config['max_position_embeddings']} tokens"),
            ("pretraining", f"{last['step']:,} steps, {last['n_tokens']:,} tokens"),
            ("recipe", ", ".join(f"{key} {value}" for key, value in record["recipe"].items())),
            ("last loss", f"{last['loss']:.3f} nats a token"),
            ("PyTorch", record["torch_version"]),
            ("documents, SHA-256", f"`{record['documents_sha256'][:16]}…`"),
            ("weights, SHA-256 of the tensors", f"`{record['weights_sha256'][:16]}…`"),
            ("model.safetensors, SHA-256", f"`{_hash(folder / 'model.safetensors')[:16]}…`"),
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BookError(
            f"{folder}: the record of the miniature's pretraining cannot be read: {type(error).__name__}: {error}. "
            "Restore the folder with git checkout, or make it again with `make pretrain`."
        ) from None
    rows = [f"| {name} | {text if text.startswith('`') else escape(text)} |" for name, text in entries]
    return "\n".join(["| quantity | value |", "|---|---|", *rows]) + "\n"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
