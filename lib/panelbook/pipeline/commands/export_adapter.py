"""`panelbook export adapter`: a trained LoRA as a folder in PEFT's format, with a model card."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelbook.errors import BookError
from panelbook.pipeline.commands.complete import complete_profile
from panelbook.pipeline.commands.terminal import console
from panelbook.project import DEFAULT_PROFILE, Project

if TYPE_CHECKING:  # loading these takes seconds, and `--help` needs none
    from panelbook.pipeline.adapter_card import Adapter

ADAPTER_HELP = """Take a trained adapter away: a folder that plain transformers and peft load.

RUN is a training run of the profile, as train.panel_1, or a variant of one, as [bold]panelbook variants list[/bold] \
names it. The folder holds the weights of its last checkpoint, or of the one that [bold]--checkpoint[/bold] names, \
their configuration, the tokenizer, and a model card that says how the weights were made and how far they got.

[bold]Examples[/bold]

  panelbook export adapter train.panel_1 --out my-adapter

  panelbook chat "34 + 29 = ?" --model ./my-adapter
"""


def export_adapter(
    run: Annotated[str, typer.Argument(help="A training run, as train.panel_1.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; made if need be.")],
    profile: Annotated[
        str,
        typer.Option("--profile", help="A file of params/, without .yml.", autocompletion=complete_profile),
    ] = DEFAULT_PROFILE,
    checkpoint: Annotated[
        str, typer.Option(help="Its name or step, as step000030 or 30; the last one by default.")
    ] = "",
    license_id: Annotated[
        str, typer.Option("--license", help="Of the weights, as apache-2.0; mit for the miniature's.")
    ] = "",
) -> None:
    """Write the folder; see `ADAPTER_HELP`."""
    from panelbook.engine.adapter import AdapterError, write_adapter
    from panelbook.engine.load import load_tokenizer
    from panelbook.engine.smollm import ModelMissing
    from panelbook.pipeline.adapter_card import find_adapter, write_card

    project = Project.find()
    adapter = find_adapter(project, profile, run, checkpoint)
    if out.exists() and (out.is_file() or any(out.iterdir())):  # before anything is fetched or loaded
        raise BookError(f"{out} is there already. Give a new folder, or remove it.")
    try:
        tokenizer = load_tokenizer(adapter.setting.model)
    except (OSError, ValueError, ModelMissing) as error:
        raise AdapterError(
            f"the tokenizer of {adapter.setting.model}, which belongs into the folder, is not to be had: "
            f"{str(error).splitlines()[0]}"
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        source = _fetch(project, adapter, Path(scratch))
        write_adapter(source, out, adapter.base, tokenizer, write_card(adapter, source, out.name, license_id))
    console.print(
        f"{adapter.name} after {adapter.checkpoint.step} updates, a LoRA adapter for {adapter.base}: {out}\n"
        f"  {', '.join(sorted(path.name for path in out.iterdir()))}\n"
        f"  panelbook chat --profile {profile} --model {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _fetch(project: Project, adapter: "Adapter", scratch: Path) -> Path:
    """Return the folder of the weights, downloaded to `scratch` where a service has them."""
    path = adapter.checkpoint.sampler_path
    if not path.startswith("tinker://"):
        folder = project.path(path)
        if not folder.is_dir():
            raise BookError(
                f"the weights of {adapter.name}, {path}, were removed. `{adapter.command}` makes them again."
            )
        return folder
    from panelbook.engine.tinker import TinkerEngine

    try:
        engine = adapter.setting.open(scratch)
    except ValueError as error:  # no key, or no server
        raise BookError(str(error)) from None
    assert isinstance(engine, TinkerEngine)  # its paths say so
    engine.download_adapter(path, adapter.checkpoint.state_path, scratch)
    return scratch
