"""Who answers, and to what prompt: the engine and model that a profile names.

The one place where the miniature differs from any other model: it is loaded from this package, and its
prompt is its own, because its vocabulary cannot spell the published one.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from panelbook.engine.base import Engine, Tokenizer
from panelbook.rollouts.ask import RenderPrompt
from panelbook.rollouts.draw import derive_run_id
from panelbook.study.arithmetic import miniature_prompt
from panelbook.study.arms import ARMS
from panelbook.study.problems import Problem
from panelbook.study.vocabulary import ArmName

EngineName = Literal["local", "tinker"]

MINIATURE = "abacus"

DRAWS_VERSION = 1
"""Raise it with any change of the code that changes what is drawn: kept draws of older code are then left alone."""


@dataclass(frozen=True)
class Setting:
    """A model behind an engine.

    Parameters
    ----------
    engine
        ``local`` or ``tinker``.
    model
        ``abacus`` for the miniature, else a hub id, a folder, or a model of the Tinker service.
    batch_size
        Draws that the local engine decodes side by side.
    """

    engine: EngineName
    model: str
    batch_size: int = 256

    def open(self, checkpoints: Path) -> Engine:
        """Load the model, or connect to the service.

        Parameters
        ----------
        checkpoints
            Where the local engine saves weights.

        Raises
        ------
        ValueError
            If the Tinker service has no key, or serves no miniature.
        OSError
            If the model is not to be had.
        """
        if self.engine == "tinker":
            from panelbook.engine.tinker import TinkerEngine  # deferred, like torch below: each takes seconds

            if self.model == MINIATURE:
                raise ValueError(
                    f"the Tinker service has no model {MINIATURE!r}; give the name of one it has."
                )
            return TinkerEngine.connect(self.model)
        from panelbook.engine.backbone import load_backbone
        from panelbook.engine.local import LocalEngine

        if self.model == MINIATURE:
            model, tokenizer = load_backbone()
            return LocalEngine(
                model, cast(Tokenizer, tokenizer), checkpoints=checkpoints, batch_size=self.batch_size
            )
        return LocalEngine.from_pretrained(self.model, checkpoints=checkpoints, batch_size=self.batch_size)

    def render(self, arm: ArmName) -> RenderPrompt | None:
        """Return how a problem becomes a prompt; None stands for the arm's own, published one."""
        if self.model != MINIATURE:
            return None
        return lambda problem: miniature_prompt(arm, problem.question)

    def name_weights(self) -> str:
        """Return what identifies the weights: a digest where they are files here, else the model's name."""
        if self.model == MINIATURE:
            from panelbook.engine.backbone import read_record

            return read_record().weights_sha256
        folder = Path(self.model)
        if self.engine == "local" and folder.is_dir():
            digest = hashlib.sha256()
            for path in sorted(folder.glob("*.safetensors")):
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            return digest.hexdigest()
        return self.model

    def name_run(self, arm: ArmName, problems: list[Problem], **settings: object) -> str:
        """Name the run that these draws belong to; see `panelbook.rollouts.draw.derive_run_id`.

        Parameters
        ----------
        arm, problems
            What is asked; the order of problems does not matter.
        settings
            Whatever else the draws depend on, in JSON's types.
        """
        asked = sorted([p.problem_id, p.question, p.gold, p.answer_type] for p in problems)
        prompt = ARMS[arm].frame if self.model != MINIATURE else miniature_prompt(arm, "{problem}")
        return derive_run_id(
            version=DRAWS_VERSION,
            engine=self.engine,
            weights=self.name_weights(),
            arm=arm,
            prompt=prompt,
            problems=hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
            **settings,
        )
