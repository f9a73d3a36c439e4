"""The warm-up: a model that has never met a scaffold is shown it, before it is rewarded for keeping to it.

Plain supervised learning (``cross_entropy``) through the same training client as RL. Each arm has an adapter of its
own, and both see the same demonstrations in the same order (`panelbook.study.demonstrations`), each in its own frame.
One adapter for both was tried: a quarter of its monologues then had the panel's labels in them.

What is left behind is a run of the logbook without draws, so a killed warm-up goes back to its last checkpoint.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import tinker

from panelbook.engine.base import TrainingClient, build_supervised_datum
from panelbook.rollouts.logbook import Checkpoint, Logbook, read_checkpoints
from panelbook.rollouts.store import Record, read_lines
from panelbook.study.arms import ARMS
from panelbook.study.demonstrations import Demonstration, FramedArm


@dataclass(frozen=True)
class WarmupParams:
    """How a scaffold is shown.

    Parameters
    ----------
    arm
        Whose frame.
    n_steps
        Updates.
    per_step
        Demonstrations in one update.
    learning_rate
        Of Adam.
    checkpoint_every
        Updates between checkpoints; the start and the end are always kept.
    """

    arm: FramedArm
    n_steps: int
    per_step: int
    learning_rate: float
    checkpoint_every: int = 10


@dataclass(frozen=True)
class Warmed:
    """One row per update (`step`, `arm`, `loss` in nats per completion token, `tokens`), and the checkpoints."""

    metrics: pd.DataFrame
    checkpoints: list[Checkpoint]


def warm_up(
    client: TrainingClient,
    demonstrations: Sequence[Demonstration],
    params: WarmupParams,
    folder: Path,
    on_step: Callable[[Record], None] = lambda metrics: None,
) -> Warmed:
    """Show demonstrations in their order, or go on from the last checkpoint in `folder`.

    Parameters
    ----------
    client
        A fresh adapter, on every call.
    demonstrations
        As many as the updates show; further ones are left out.
    params
        How they are shown.
    folder
        Where the run is kept, and no other run.
    on_step
        Called with the metrics of every finished update.

    Raises
    ------
    ValueError
        If there are too few demonstrations: each is shown once.
    TrainError
        If the folder holds a run with other settings.
    """
    n_shown = params.n_steps * params.per_step
    if len(demonstrations) < n_shown:
        raise ValueError(
            f"{params.n_steps} updates of {params.per_step} show {n_shown} demonstrations; got {len(demonstrations)}."
        )
    shown = json.dumps([[one.problem.problem_id, one.steps] for one in demonstrations[:n_shown]])
    settings = {**asdict(params), "shown": hashlib.sha256(shown.encode()).hexdigest()}
    with Logbook(folder, "warmup", settings) as logbook:
        start = logbook.resume(client, params.n_steps)
        for step in range(start, params.n_steps):
            batch = demonstrations[step * params.per_step : (step + 1) * params.per_step]
            on_step(logbook.keep(step, [], _update(client, batch, params)))
            if (step + 1) % params.checkpoint_every == 0 or step + 1 == params.n_steps:
                logbook.save(client, step + 1)
    metrics = pd.DataFrame(read_lines(folder / "metrics.jsonl")[0])
    return Warmed(metrics, read_checkpoints(folder))


def _update(client: TrainingClient, batch: Sequence[Demonstration], params: WarmupParams) -> Record:
    """Take one step; return the loss before it, in nats per token of the completions."""
    tokenizer = client.get_tokenizer()
    data, lengths = [], []
    for one in batch:
        prompt = tokenizer.encode(ARMS[params.arm].prompt(one.problem.question, one.problem.answer_type))
        completion = tokenizer.encode(one.render(params.arm))
        data.append(build_supervised_datum(prompt, completion))
        lengths.append(len(completion))
    gradient = client.forward_backward(data, "cross_entropy")
    step = client.optim_step(tinker.AdamParams(learning_rate=params.learning_rate))
    outputs = gradient.result().loss_fn_outputs
    step.result()
    pairs = zip(outputs, lengths, strict=True)
    total = -sum(sum(output["logprobs"].data[-length:]) for output, length in pairs)
    return {"arm": params.arm, "tokens": sum(lengths), "loss": total / sum(lengths)}
