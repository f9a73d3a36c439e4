"""Who answers, and to what prompt: the engine and model that a profile names.

The one place where the miniature differs from any other model: it is loaded from this package, its prompt is its
own, because its vocabulary cannot spell the published one, and it can afford draws that are exact to the token.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from panelbook.engine.base import Engine, Tokenizer
from panelbook.engine.load import MINIATURE, load_model, trace
from panelbook.rollouts.ask import RenderPrompt
from panelbook.rollouts.draw import derive_run_id
from panelbook.study.arithmetic import miniature_prompt
from panelbook.study.arms import ARMS
from panelbook.study.problems import Problem
from panelbook.study.vocabulary import ArmName

EngineName = Literal["local", "tinker"]

MICROBATCH_TOKENS = 768
"""Tokens in one training pass of any other model on a processor: half as many again took a fifth more time each."""

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
        ``abacus`` for the miniature, else a hub id or folder (of a model, or of a LoRA adapter), or a model of the
        Tinker service.
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
            If the Tinker service has no key, or the miniature is asked of one that does not serve it.
        ModelMissing, AdapterError
            If the model is not to be had, or an adapter does not fit its base; see `engine.load`.
        """
        if self.engine == "tinker":
            from panelbook.engine.tinker import TinkerEngine  # deferred, like torch below: each takes seconds

            if self.model != MINIATURE:
                return TinkerEngine.connect(self.model)
            if not os.environ.get("TINKER_BASE_URL"):
                raise ValueError(
                    f"the Tinker service has no model {MINIATURE!r}; give the name of one it has, or set "
                    "TINKER_BASE_URL to a server of your own on the miniature (page `tinker` of the book)."
                )
            return TinkerEngine.connect_to_folder(MINIATURE)
        from panelbook.engine.local import LocalEngine

        if self.is_miniature:
            model, tokenizer = load_model(self.model)
            return LocalEngine(
                model, cast(Tokenizer, tokenizer), checkpoints=checkpoints, batch_size=self.batch_size
            )
        return LocalEngine.from_pretrained(
            self.location,
            checkpoints=checkpoints,
            batch_size=self.batch_size,
            microbatch_tokens=MICROBATCH_TOKENS,
            exact=False,
        )

    @property
    def location(self) -> str:
        """Hub id or folder of the weights: the model's name, but for the one model that has a second source."""
        from panelbook.engine import smollm

        return smollm.locate() if self.engine == "local" and self.model == smollm.HUB_ID else self.model

    @property
    def is_miniature(self) -> bool:
        """Whether the model is the miniature, or an adapter trained on it."""
        return self.model == MINIATURE or (self.engine == "local" and trace(self.model).base == MINIATURE)

    def frame(self, arm: ArmName) -> str | None:
        """Return the prompt with ``{problem}`` where the question goes; None stands for the chat template."""
        return miniature_prompt(arm, "{problem}") if self.is_miniature else ARMS[arm].frame

    def render(self, arm: ArmName) -> RenderPrompt | None:
        """Return how a problem becomes a prompt; None stands for the arm's own, published one."""
        if not self.is_miniature:
            return None
        return lambda problem: miniature_prompt(arm, problem.question)

    def name_weights(self) -> str:
        """Return what identifies the weights: a digest where they are files here, else the model's name."""
        if self.model == MINIATURE:
            from panelbook.engine.backbone import read_record

            return read_record().weights_sha256
        if self.engine == "local" and (lineage := trace(self.model)).adapters:
            return f"{lineage.digest()} on {replace(self, model=lineage.base).name_weights()}"
        folder = Path(self.location)
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
        return derive_run_id(
            version=DRAWS_VERSION,
            engine=self.engine,
            weights=self.name_weights(),
            arm=arm,
            prompt=self.frame(arm),
            problems=hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
            **settings,
        )
