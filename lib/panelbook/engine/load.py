"""Which weights a name stands for, and loading them: the miniature, a model, or a LoRA adapter on one of these.

A name is ``abacus`` (the miniature), a folder or a hub id. Where the folder, or the page on the hub, holds an
``adapter_config.json``, the name stands for a LoRA adapter in PEFT's format: the base that its configuration names
is loaded, the adapter is merged into it, and the result is a model like any other. The base may be an adapter in
turn. Its name is looked for as it stands, then as a folder next to the adapter's, then on the hub; the hub is asked
as `huggingface_hub` does, so its cache and HF_HUB_OFFLINE=1 work.

What is *not* handled: adapters that are no LoRA, weights in pickles (``adapter_model.bin``), quantised bases.
"""

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panelbook.engine import smollm
from panelbook.engine.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    AdapterError,
    check_adapter,
    first_line,
    read_config,
)

if TYPE_CHECKING:  # loading it takes seconds, and naming weights needs none of it
    import torch

MINIATURE = "abacus"
"""The name of the model that this package carries; as the name of a base, it is looked for nowhere else."""

_MODELS = (MINIATURE, smollm.HUB_ID)
"""Names of models that are known to be no adapters."""

_ADAPTER_FILES = ["adapter_*", "*token*", "vocab*", "merges.txt", "*.jinja"]


@dataclass(frozen=True)
class Lineage:
    """What a name stands for.

    Parameters
    ----------
    base
        Name of a model that is no adapter.
    adapters
        Folders of the adapters to merge into it, in this order; empty where the name is a model's.
    """

    base: str
    adapters: tuple[Path, ...] = ()

    def digest(self) -> str:
        """Return the SHA-256 of the adapters' configurations and weights, as hexadecimal digits."""
        digest = hashlib.sha256()
        for folder in self.adapters:
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                with (folder / name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def trace(name: str | os.PathLike[str]) -> Lineage:
    """Return the base that a name leads to, and the adapters on the way.

    Raises
    ------
    AdapterError
        If an adapter lacks a file or names no base, or adapters name each other.
    """
    name, adapters = str(name), list[Path]()
    while name not in _MODELS and (folder := _find_adapter(name)) is not None:
        if folder.resolve() in [other.resolve() for other in adapters]:
            raise AdapterError(
                f"the adapter {folder} is its own base, by way of its {ADAPTER_CONFIG}. Set base_model_name_or_path "
                "there to the model that it was trained on."
            )
        adapters.append(folder)
        name = _find_base(folder)
    return Lineage(name, tuple(reversed(adapters)))


def load_model(name: str | os.PathLike[str], dtype: "torch.dtype | None" = None) -> tuple[Any, Any]:
    """Return a model with its adapters merged into it, and its tokenizer: the adapter's own where it has one.

    Parameters
    ----------
    name
        ``abacus``, a folder or a hub id, of a model or of a LoRA adapter.
    dtype
        Of the weights; None for single precision. The miniature has always that.

    Raises
    ------
    AdapterError
        If an adapter is incomplete, its base is not to be had, or it is no LoRA or does not fit its base.
    ModelMissing
        If a folder holds neither a model nor an adapter, or a name is unknown here and on the hub.
    """
    import torch

    lineage = trace(name)
    try:
        model, tokenizer = _load_base(lineage.base, dtype or torch.float32)
    except (OSError, ValueError, smollm.ModelMissing) as error:
        if not lineage.adapters:
            raise smollm.ModelMissing(
                f"the model {lineage.base!r} is not to be had: {first_line(error)} Give the folder of a model, or a "
                "hub id where the hub, or its cache, can be reached."
            ) from error
        raise AdapterError(
            f"the adapter {name} was trained on {lineage.base!r}, which is not to be had: {first_line(error)} Put the "
            f"folder of that model next to the adapter's, or set base_model_name_or_path in its {ADAPTER_CONFIG}."
        ) from error
    for folder in lineage.adapters:
        model = merge_adapter(model, folder, lineage.base)
        tokenizer = _load_tokenizer(folder) or tokenizer
    if lineage.adapters:
        model.name_or_path = str(name)  # what an adapter trained on this one names as its base
    return model, tokenizer


def merge_adapter(model: Any, folder: Path, base: str) -> Any:
    """Return the model with a LoRA adapter added to its weights; the model that is passed is used up.

    Raises
    ------
    AdapterError
        If the adapter is no LoRA, or its layers or their sizes are not those of the model.
    """
    import peft
    import torch
    from safetensors.torch import load_file

    config = peft.PeftConfig.from_pretrained(str(folder))
    if config.peft_type != peft.PeftType.LORA:
        raise AdapterError(f"the adapter {folder} is of type {config.peft_type.value}; only LoRA is merged.")
    saved = load_file(folder / ADAPTER_WEIGHTS)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # Nothing a reader could act on: a property asked for by its former name, and a base found elsewhere.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*base_model_name_or_path. was renamed")
            adapted = peft.get_peft_model(model, config)
    except ValueError as error:
        raise AdapterError(
            f"the adapter {folder} does not fit {base!r}: {first_line(error)} Give the model that it was trained on."
        ) from error
    own = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    wanted, found = ({key: tuple(weight.shape) for key, weight in each.items()} for each in (own, saved))
    if wanted != found:
        key = next(key for key in (*found, *wanted) if wanted.get(key) != found.get(key))
        raise AdapterError(
            f"the adapter {folder} does not fit {base!r}: its {key} has the shape {found.get(key, 'none')}, the model "
            f"with rank {config.r} asks for {wanted.get(key, 'none')}. Give the model that it was trained on."
        )
    peft.set_peft_model_state_dict(adapted, saved)
    return adapted.merge_and_unload().eval()


def load_tokenizer(name: str | os.PathLike[str]) -> Any:
    """Return the tokenizer of a model or an adapter, without loading weights.

    Raises
    ------
    AdapterError
        As `trace`.
    OSError
        If there is none here or on the hub.
    """
    lineage = trace(name)
    for folder in reversed(lineage.adapters):
        if (tokenizer := _load_tokenizer(folder)) is not None:
            return tokenizer
    return _load_tokenizer(_folder_of(lineage.base), needed=True)


def _folder_of(base: str) -> str | Path:
    """Return where the weights of a model are, or its hub id."""
    if base == MINIATURE:
        from panelbook.engine.backbone import ABACUS

        return ABACUS
    return smollm.locate() if base == smollm.HUB_ID else base


def _load_base(name: str, dtype: "torch.dtype") -> tuple[Any, Any]:
    """Load a model that is no adapter."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if name == MINIATURE:
        from panelbook.engine.backbone import load_backbone

        return load_backbone()
    name = str(_folder_of(name))
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise ValueError(
            f"the folder {name} holds neither a model (config.json) nor an adapter ({ADAPTER_CONFIG})."
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except SafetensorError as error:
        raise ValueError(
            f"the weights of {name} are broken ({error}); remove that folder, or what the hub's cache has of it, and "
            "fetch it again."
        ) from error
    return model, _load_tokenizer(name, needed=True)


def _load_tokenizer(name: str | Path, *, needed: bool = False) -> Any:
    """Load a tokenizer; None for a folder that has none of its own, unless it is needed."""
    from transformers import AutoTokenizer

    if not needed and not Path(name, "tokenizer_config.json").is_file():
        return None
    return AutoTokenizer.from_pretrained(name)


def _find_adapter(name: str) -> Path | None:
    """Return the folder of an adapter, fetched from the hub if it is there; None where the name is no adapter's."""
    folder = Path(name)
    if not folder.is_dir():
        found = _fetch_adapter(name)
        if found is None:
            return None
        folder = found
    elif not (folder / ADAPTER_CONFIG).is_file():
        return None
    check_adapter(folder)
    return folder


@functools.cache  # a name is asked for several times in a run, and a hub that does not answer takes long to say so
def _fetch_adapter(hub_id: str) -> Path | None:
    """Return the snapshot of an adapter's page on the hub; None where there is no such page, or it is a model's.

    What the cache can tell is not asked for, so a model that is there needs no connection.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = huggingface_hub.try_to_load_from_cache(hub_id, ADAPTER_CONFIG)
        if not isinstance(cached, str):
            if isinstance(huggingface_hub.try_to_load_from_cache(hub_id, "config.json"), str):
                return None
            huggingface_hub.hf_hub_download(hub_id, ADAPTER_CONFIG)
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=_ADAPTER_FILES))
    except (OSError, HFValidationError):  # what else it may be will come out when it is loaded as a model
        return None


def _find_base(folder: Path) -> str:
    """Return what an adapter's base is to be loaded by."""
    named = read_config(folder).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise AdapterError(
            f"{folder / ADAPTER_CONFIG} names no base model. Set base_model_name_or_path to the hub id or folder of "
            "the model that the adapter was trained on."
        )
    beside = folder.parent / Path(named).name
    if named not in _MODELS and not Path(named).is_dir() and beside.is_dir() and beside != folder:
        return str(beside)
    return named
