"""A LoRA adapter as a folder in PEFT's format, to be taken away: checked, written, and fetched from a service.

The folder holds what `peft.PeftModel.from_pretrained` reads (``adapter_config.json``, ``adapter_model.safetensors``),
the tokenizer, so that nothing but the base model is needed beside it, and a model card as its ``README.md``.

What is *not* handled: loading (`engine.load`), and adapters whose tensors are no pairs ``lora_A`` and ``lora_B`` of
linear layers; a service may train others, of the experts of a mixture, say.
"""

import json
import re
import shutil
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from panelbook.errors import BookError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_EXPORT_TTL_S = 3600  # how long a service keeps what it exported for the download; the least it takes


class AdapterError(BookError):
    """An adapter is incomplete, does not fit its base, or cannot be written or fetched."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return what an adapter's configuration says.

    Raises
    ------
    AdapterError
        If it is missing, or no JSON object.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}. Export the adapter again.") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path} is no JSON object. Export the adapter again.")
    return config


def check_adapter(folder: Path) -> None:
    """Complain where a folder is no whole adapter.

    Raises
    ------
    AdapterError
        If its configuration cannot be read, or its weights are missing.
    """
    read_config(folder)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickle = (folder / "adapter_model.bin").is_file()
        raise AdapterError(
            f"the adapter {folder} has no {ADAPTER_WEIGHTS}. "
            + (
                "Its adapter_model.bin is a pickle, which may run code when opened; save it as safetensors."
                if pickle
                else "Copy or download the whole folder."
            )
        )


def write_adapter(source: Path, target: Path, base: str, tokenizer: Any, card: str) -> None:
    """Write an adapter as a folder to take away; it appears whole or not at all.

    Parameters
    ----------
    source
        Folder with weights and configuration, as an engine saved them.
    target
        Folder to write; it must not exist, or be empty.
    base
        What loads the base model: a hub id, or a name.
    tokenizer
        Of the base model, with `save_pretrained`.
    card
        The text of its README.md.

    Raises
    ------
    AdapterError
        If the target is taken, or the source is no whole LoRA adapter of linear layers.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise AdapterError(f"{target} is there already. Give a new folder, or remove it.")
    check_adapter(source)
    config = complete_config(source, base)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        whole = Path(scratch, "adapter")
        whole.mkdir()
        shutil.copyfile(source / ADAPTER_WEIGHTS, whole / ADAPTER_WEIGHTS)
        (whole / ADAPTER_CONFIG).write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        tokenizer.save_pretrained(whole)
        (whole / "README.md").write_text(card, encoding="utf-8")
        if target.exists():
            target.rmdir()
        whole.rename(target)


def complete_config(folder: Path, base: str) -> dict[str, Any]:
    """Return an adapter's configuration with base and layers filled in, as PEFT needs it to load the weights.

    A service may leave out which layers its adapter is for (`target_modules`); their names are in the weights.

    Raises
    ------
    AdapterError
        If a tensor is no part of a LoRA pair, or the ranks of the tensors are not that of the configuration.
    """
    from safetensors import safe_open

    config = read_config(folder)
    modules, ranks = set[str](), set[int]()
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118  # it is no mapping
            match = _TENSOR.fullmatch(key)
            if match is None:
                raise AdapterError(
                    f"{folder / ADAPTER_WEIGHTS} holds {key!r}, which is no LoRA of a linear layer in PEFT's names. "
                    "Convert it with the tools of the service that trained it."
                )
            modules.add(match["module"].rpartition(".")[2])
            ranks.add(weights.get_slice(key).get_shape()[0 if match["side"] == "A" else 1])
    if ranks != {config.get("r")}:
        raise AdapterError(
            f"{folder}: the configuration says rank {config.get('r')}, the weights have {sorted(ranks) or 'none'}. "
            "Save or fetch the adapter again."
        )
    return {
        **config,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "target_modules": sorted(config.get("target_modules") or modules),
        "task_type": "CAUSAL_LM",
    }


def fetch_adapter(service: Any, sampler_path: str, state_path: str, folder: Path) -> None:
    """Download an adapter that was trained behind the Tinker service.

    Older SDKs (0.25) give the address of an archive of the sampler weights. Newer ones (0.38) give none: there the
    training state is opened in a new session, exported for an hour, downloaded, and the export deleted.

    Parameters
    ----------
    service
        A `tinker.ServiceClient`.
    sampler_path, state_path
        Of one checkpoint, each ``tinker://...``.
    folder
        Existing, empty folder to write into.

    Raises
    ------
    AdapterError
        If the service has no such checkpoint, or what it sends is no adapter.
    """
    rest = service.create_rest_client()
    try:
        if hasattr(rest, "get_checkpoint_archive_url"):
            archive = folder / ".archive"
            _download(_archive_url(rest, sampler_path), archive)
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            archive.unlink()
        else:
            _fetch_export(service, rest, state_path, folder)
    except AdapterError:
        raise
    except (
        Exception
    ) as error:  # the SDK's own errors share no base with those of the archive and the connection
        raise AdapterError(
            f"{sampler_path} could not be downloaded: {first_line(error)} Ask the service whether the checkpoint is "
            "still there, and run the command again."
        ) from error
    check_adapter(folder)


def _archive_url(rest: Any, path: str) -> str:
    """Return where an archive is; some servers know a checkpoint by its bare name only."""
    run_id, checkpoint_id = path.removeprefix("tinker://").split("/", 1)
    try:
        found = rest.get_checkpoint_archive_url(run_id, checkpoint_id).result()
    except Exception:
        found = rest.get_checkpoint_archive_url(run_id, checkpoint_id.rpartition("/")[2]).result()
    return str(found.url)


def _fetch_export(service: Any, rest: Any, state_path: str, folder: Path) -> None:
    """Download a training state as the service exports it for others."""
    client = service.create_training_client_from_state(state_path)
    client = client.result() if hasattr(client, "result") else client
    path = client.save_weights_external("download", ttl_seconds=_EXPORT_TTL_S).result().path
    try:
        for name, url in sorted(rest.get_external_weights_urls(path).result().urls.items()):
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise AdapterError(f"{path} names a file outside its folder, {name!r}; nothing is kept.")
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(url, target)
    finally:
        rest.delete_checkpoint_from_tinker_path(path).result()


def _download(url: str, target: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise AdapterError(f"the service gives {url.partition(':')[0]!r} as an address; only http is opened.")
    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as file:
        shutil.copyfileobj(response, file)


def first_line(error: BaseException) -> str:
    """Return the first line of what went wrong, ended like a sentence."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return said if said.endswith((".", "!", "?")) else f"{said}."
