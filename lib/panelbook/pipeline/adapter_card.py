"""What a trained adapter is, and its model card: the page that goes with weights when they leave this book.

Everything on the card is read from what the run left (manifest, results, visits, held-out draws); nothing is typed.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from panelbook.engine.adapter import read_config
from panelbook.errors import BookError
from panelbook.measure.matched import paired_gain
from panelbook.measure.uncertainty import Resampling
from panelbook.pipeline.params import nearest
from panelbook.pipeline.run import read_manifest
from panelbook.pipeline.stages import RESULTS, plan
from panelbook.pipeline.variants import command_of, find_variants
from panelbook.project import Project
from panelbook.publish.markdown import code, table
from panelbook.publish.results import format_interval, format_value, read_results
from panelbook.rollouts.logbook import Checkpoint, read_checkpoints_file
from panelbook.rollouts.setting import Setting
from panelbook.study.arms import ARMS
from panelbook.study.vocabulary import ArmName

CHECKPOINTS = "checkpoints.json"

LIMITS = """- One run of one seed on one pool of problems. An interval is over the held-out problems; it says nothing
  about other seeds or other kinds of problems.
- Nothing was measured outside this prompt, or on questions unlike these problems.
- Nothing in the training rewards that the text before an answer is true, or that it is what led to the answer."""

MINIATURE_LIMIT = """
- The base is the book's miniature, of under a million parameters: it knows some fifty words and small arithmetic.
  It says nothing about language models."""

USE = {
    "train": "to repeat or extend this book's measurements: draws in its prompt, on problems like its own",
    "warmup": "a start for training runs that have met the scaffolds; it was shown demonstrations, not rewarded",
}
"""Stage -> what its weights are for."""


@dataclass(frozen=True)
class Adapter:
    """One checkpoint of one training run.

    Parameters
    ----------
    name
        Of the run, as the command line names it.
    command
        What makes the run again.
    folder
        Of the run's artefacts.
    manifest
        As the run left it.
    checkpoint
        Whose weights are meant.
    is_last
        Whether it is the run's last one, of which its results speak.
    repository
        Where the book's source is published.
    """

    name: str
    command: str
    folder: Path
    manifest: dict[str, Any]
    checkpoint: Checkpoint
    is_last: bool
    repository: str

    @functools.cached_property
    def setting(self) -> Setting:
        """The model that was trained, behind its engine."""
        return Setting(self.manifest["params"]["engine"], self.manifest["params"]["model"])

    @property
    def base(self) -> str:
        """Name of the base model: a hub id as it is, of a folder its name only, not where this machine has it."""
        model = self.setting.model
        return Path(model).name if Path(model).is_dir() or Path(model).is_absolute() else model

    @property
    def arms(self) -> tuple[ArmName, ...]:
        """Arms whose prompts it was trained on; a warm-up shows both."""
        arm: ArmName | None = self.manifest["params"].get("arm")
        return (arm,) if arm else ("panel", "think")


def find_adapter(project: Project, profile: str, name: str, checkpoint: str = "") -> Adapter:
    """Find a finished training run, and one of its checkpoints.

    Parameters
    ----------
    name
        ``train.panel_1``, or a variant, ``train.panel_1/rank=4``.
    checkpoint
        Name or step; empty for the last one.

    Raises
    ------
    BookError
        If there is no such run, it has not finished, or has no such checkpoint. The message lists what there is.
    """
    runs = [run for run in plan(project, profile) if CHECKPOINTS in run.stage.writes]
    known = {run.id: (run.folder, command_of(run)) for run in runs}
    for variant in find_variants(project, runs):
        known[variant.name] = (variant.folder, command_of(variant.run) if variant.run else "")
    if name not in known:
        there = f"There are: {', '.join(known)}." if known else "It trains nothing."
        raise BookError(f"profile {profile!r} has no training run {name!r}.{nearest(name, known)} {there}")
    folder, command = project.root / known[name][0], known[name][1]
    manifest = read_manifest(folder)
    if manifest is None or not (folder / CHECKPOINTS).is_file():
        raise BookError(
            f"{name} of profile {profile!r} has not been run. `{command or 'panelbook run'}` does it."
        )
    saved = read_checkpoints_file(folder / CHECKPOINTS)
    chosen = [one for one in saved if checkpoint in (one.name, str(one.step))] if checkpoint else saved[-1:]
    if not chosen:
        raise BookError(
            f"{name} has no checkpoint {checkpoint!r}; it has {', '.join(one.name for one in saved)}."
        )
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8")) or {}
    repository = str(config.get("repository", {}).get("url", ""))
    return Adapter(name, command, folder, manifest, chosen[0], chosen[0] == saved[-1], repository)


def write_card(adapter: Adapter, weights: Path, title: str, license_id: str = "") -> str:
    """Return the text of an adapter's README.md.

    Parameters
    ----------
    weights
        Folder with the adapter's configuration, which has its rank and scale.
    title
        Of the card, and of the folder in its example.
    license_id
        As the hub spells it; empty for ``mit`` where the base is the miniature, else for that of the base.
    """
    from huggingface_hub import ModelCardData  # deferred: it takes half a second

    is_mini = adapter.setting.is_miniature
    own_license = license_id or ("mit" if is_mini else "other")
    header = ModelCardData(
        base_model=adapter.base,
        library_name="peft",
        license=own_license,
        license_name=None if own_license != "other" else "as-the-base-model",
        pipeline_tag="text-generation",
        tags=["lora", "peft", "panelbook", *adapter.arms],
    ).to_yaml()
    config = read_config(weights)
    stage = adapter.manifest["stage"]
    example = "34 + 29 = ?" if is_mini else "What is 34 + 29?"
    frames = [
        f"{arm}:\n\n```text\n{adapter.setting.frame(arm) or '(the chat template of the model)'}\n```"
        for arm in adapter.arms
    ]
    frame = adapter.setting.frame(adapter.arms[0])
    prompt = (
        repr(frame.replace("{problem}", example))
        if frame
        else f"tokenizer.apply_chat_template([dict(role='user', content={example!r})], tokenize=False, "
        "add_generation_prompt=True)"
    )
    stops = list(ARMS[adapter.arms[0]].stop)
    # The stop strings of `generate` cannot be spelt by the miniature's tokenizer, whose tokens have no blanks; it ends
    # by itself.
    stop = "" if is_mini or not stops else f", stop_strings={stops!r}, tokenizer=tokenizer"
    n_tokens = adapter.manifest["params"].get("max_tokens", 256)
    base_note = "  # of the book's checkout: lib/panelbook/engine/abacus" if is_mini else ""
    return f"""---
{header}
---

# {title}

{_headline(adapter)}

## How it was made

{table(["setting", "value"], [[name, str(value)] for name, value in _facts(adapter, config)])}

## How far it got

{_gain(adapter)}

## Prompt

Problems took the place of `{{problem}}`{f", and a draw ended at {', '.join(map(code, stops))}" if stops else ""}.

{chr(10).join(frames)}

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({adapter.base!r}){base_note}
model = PeftModel.from_pretrained(base, {title!r})
tokenizer = AutoTokenizer.from_pretrained({title!r})
inputs = tokenizer({prompt}, return_tensors="pt")
inputs.pop("token_type_ids", None)
drawn = model.generate(**inputs, do_sample=False, max_new_tokens={n_tokens}{stop})
print(tokenizer.decode(drawn[0, inputs["input_ids"].shape[1]:]))
```

Intended use: {USE.get(stage, USE["train"])}. Not intended: answers that somebody relies on.

## Limits

{LIMITS}{MINIATURE_LIMIT if is_mini else ""}
"""


def _headline(adapter: Adapter) -> str:
    """Say in a sentence what this is."""
    how = (
        "shown worked solutions in the frames of both arms, as a start for training"
        if adapter.manifest["stage"] == "warmup"
        else f"the {adapter.arms[0]} arm after {adapter.checkpoint.step} updates of reinforcement learning"
    )
    what = f"checkpoint {code(adapter.checkpoint.name)} of {code(adapter.name)}"
    return f"A LoRA adapter for {code(adapter.base)}, {what}: {how}."


def _facts(adapter: Adapter, config: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return names and values of what decided the weights; a stage that lacks one leaves it out."""
    params, manifest = adapter.manifest["params"], adapter.manifest
    dirty = ", with local changes" if manifest["dirty"] else ""
    facts = [
        ("arm", ", ".join(adapter.arms)),
        ("engine", params["engine"]),
        ("trained on", _problems(adapter)),
        ("updates", f"{adapter.checkpoint.step} of {params['n_steps']}"),
        ("completion tokens in training", f"{adapter.checkpoint.tokens_total:,}"),
        ("groups per update, draws per group", _both(params, "groups_per_step", "group_size")),
        ("learning rate (Adam)", f"{params['learning_rate']:g}"),
        ("LoRA rank, alpha", f"{config['r']}, {config['lora_alpha']:g}"),
        ("seed", params.get("train_seed")),
        ("temperature, longest draw", _both(params, "temperature", "max_tokens")),
        ("started from", code(_place(params["start"])) if params.get("start") else "the base model"),
        ("source", adapter.repository or None),
        ("commit", f"{code(manifest['commit'])}{dirty}"),
        ("again", code(adapter.command) if adapter.command else "its profile has no such run any more"),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _both(params: dict[str, Any], first: str, second: str) -> str | None:
    return f"{params[first]}, {params[second]}" if {first, second} <= params.keys() else None


def _place(path: str) -> str:
    """Return a path from the project's root; of any other its name only, not where this machine has it."""
    return Path(path).name if Path(path).is_absolute() else path


def _problems(adapter: Adapter) -> str:
    """Say which problems were visited, by source."""
    path = adapter.folder / "visits.csv"
    pool = code(_place(adapter.manifest["params"]["problems"]))
    if not path.is_file():
        return pool
    visits = pd.read_csv(path)
    sources = visits[visits["n_visits"] > 0].groupby("source")["problem_id"].nunique()
    counts = ", ".join(f"{source} {count}" for source, count in sources.items())
    return f"{sources.sum()} of the pool's {len(visits)} problems in the whole run ({counts}); {pool}"


def _gain(adapter: Adapter) -> str:
    """Say what the held-out problems showed of this checkpoint."""
    results = read_results(adapter.folder / RESULTS)
    heldout = adapter.folder / "heldout.parquet"
    if "gain" not in results or not heldout.is_file():
        return "Nothing was measured on held-out problems in this run."
    record, step = results["gain"], adapter.checkpoint.step
    if not step:
        return "This is the start of the run: an adapter that changes nothing that the run changed."
    if not adapter.is_last:  # the results speak of the last checkpoint; every one was drawn from
        params = adapter.manifest["params"]
        gain = paired_gain(
            pd.read_parquet(heldout),
            adapter.arms[0],
            0,
            step,
            1,
            Resampling(
                seed=params["seed"], n_resamples=params["n_resamples"], confidence=params["confidence"]
            ),
        )
        record = {
            **vars(gain),
            "style": "points",
            "title": f"held-out pass@1: after {step} updates minus start, paired by problem",
        }
    level = adapter.manifest["params"]["confidence"]
    title = str(record["title"])
    return (
        f"{title[:1].upper()}{title[1:]}: **{format_value(record)}** ({level:.0%} interval {format_interval(record)}; "
        f"{record['n_problems']} problems, {record['n_draws']} draws).\nMethod: {record['method']}."
    )
