"""The record of one training run, and the way back to its last checkpoint.

A run lives in a folder: `draws/` (every rollout seen in training), `metrics.jsonl` (one line per step) and
`checkpoints.jsonl`. A checkpoint is taken by appending one line to the last, after weights and optimizer
have been saved; the line says how long the other two files were. A killed run goes back to the last such
line, cuts the files to those lengths, and goes on as if it had never gone further.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from panelbook.engine.base import TrainingClient
from panelbook.engine.service import ServiceError
from panelbook.errors import BookError
from panelbook.rollouts.store import Record, Shard, read_draws, read_lines


class TrainError(BookError):
    """Training cannot go on from what the folder holds."""


@dataclass(frozen=True)
class Checkpoint:
    """Saved weights: after `step` updates, for which `tokens_total` completion tokens were drawn.

    `state_path` is for `load_state` (to go on training), `sampler_path` for `create_sampling_client`.
    """

    step: int
    name: str
    tokens_total: int
    state_path: str
    sampler_path: str


class Logbook:
    """Writes what a run does; use it as a context manager.

    Parameters
    ----------
    folder
        Of the run.
    shard
        Name of the shard in `draws/`.
    settings
        What must be the same for a run to be continued, in JSON's types.
    """

    def __init__(self, folder: Path, shard: str, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self.tokens_total = 0
        self.saved_step = -1
        self._shard = shard
        self._files = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as files:
            self._checkpoints = files.enter_context(Shard(self.folder / "checkpoints.jsonl"))
            self._draws = files.enter_context(Shard(self.folder / "draws" / f"{self._shard}.jsonl"))
            self._metrics = files.enter_context(Shard(self.folder / "metrics.jsonl"))
            self._files = files.pop_all()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._files.close()

    def resume(self, client: TrainingClient, n_steps: int) -> int:
        """Bring client and files to the last checkpoint; return its step. A new run saves its start.

        Raises
        ------
        TrainError
            If the run was made with other settings, has more than `n_steps` steps or lost its checkpoints,
            here or at the service. The files are then as they were.
        """
        lines = read_lines(self._checkpoints.path)[0]
        if not lines:
            if self._draws.n_lines:
                raise TrainError(
                    f"{self._draws.path} holds draws, but there is no checkpoint; use another folder."
                )
            self.save(client, 0)
            return 0
        last = lines[-1]
        self._check(last, n_steps)
        try:
            client.load_state(last["state_path"])  # first: nothing is cut for a run that cannot go on
        except ServiceError as error:
            if error.kind not in ("lost", "refused"):
                raise
            raise TrainError(
                f"the service does not give back {last['state_path']}, from which {self.folder} goes on: {error} "
                "If the checkpoint is gone there, remove the folder to train from the start."
            ) from None
        self._draws.rewind(last["draws_bytes"])
        self._metrics.rewind(last["metrics_bytes"])
        self.tokens_total = last["tokens_total"]
        self.saved_step = int(last["step"])
        return self.saved_step

    def save(self, client: TrainingClient, step: int) -> None:
        """Take a checkpoint. Until its line is written there is none."""
        name = name_checkpoint(step)
        checkpoint = Checkpoint(
            step=step,
            name=name,
            tokens_total=self.tokens_total,
            state_path=client.save_state(name).result().path,
            sampler_path=client.save_weights_for_sampler(name).result().path,
        )
        sizes = {"draws_bytes": self._draws.size, "metrics_bytes": self._metrics.size}
        self._checkpoints.append({**asdict(checkpoint), **sizes, "settings": self.settings})
        self.saved_step = step

    def keep(self, step: int, records: Sequence[Record], metrics: Mapping[str, Any]) -> Record:
        """Write down one step; return its line of metrics."""
        for record in records:
            self._draws.append(record)
        self.tokens_total += metrics["tokens"]
        line = {"step": step, **metrics, "tokens_total": self.tokens_total}
        self._metrics.append(line)
        return line

    def _check(self, last: Record, n_steps: int) -> None:
        for key in sorted(self.settings.keys() | last["settings"].keys()):
            here, there = self.settings.get(key), last["settings"].get(key)
            if here != there:
                raise TrainError(
                    f"{self.folder} holds a run with {key}={there!r}; this one has {here!r}. "
                    "A run goes on only as it began: use another folder, or remove this one."
                )
        if last["step"] > n_steps:
            raise TrainError(
                f"{self.folder} holds a run of {last['step']} steps; n_steps={n_steps} would undo some. "
                f"Ask for {last['step']} or more, or use another folder."
            )


def name_checkpoint(step: int) -> str:
    """Name the weights after `step` updates.

    Examples
    --------
    >>> name_checkpoint(20)
    'step000020'
    """
    return f"step{step:06d}"


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints of a run in order of steps.

    Raises
    ------
    StoreError
        If there are none to read.
    """
    names = [field.name for field in fields(Checkpoint)]
    lines = read_lines(folder / "checkpoints.jsonl")[0]
    return [Checkpoint(**{name: line[name] for name in names}) for line in lines]


def read_checkpoints_file(path: Path) -> list[Checkpoint]:
    """Return the checkpoints that a training run listed in its `checkpoints.json`.

    Raises
    ------
    TrainError
        If the file is no such list.
    """
    try:
        return [Checkpoint(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise TrainError(f"{path} is no list of checkpoints: {error}") from None


def read_metrics(folder: Path) -> pd.DataFrame:
    """Return the metrics of a run, one row per step.

    Raises
    ------
    StoreError
        If there are none to read.
    """
    return pd.DataFrame(read_lines(folder / "metrics.jsonl")[0]).astype({"kl": "float64"})


def read_training_draws(folder: Path) -> list[Record]:
    """Return every rollout a run has seen.

    Raises
    ------
    StoreError
        As `read_draws` does.
    """
    return read_draws(folder / "draws")[0]
