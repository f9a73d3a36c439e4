"""What every engine offers: prompts to tokens, gradients to weights, in Tinker's vocabulary.

One sampling loop and one RL loop serve a model in this process (`engine.local`) and a model behind the
Tinker service (`engine.tinker`), because both speak the protocol below. The data types are the SDK's own
(`tinker.ModelInput`, `Datum`, `SamplingParams`, `AdamParams`); results are protocols, so that what the SDK
returns passes through unchanged and the local engine need not imitate fields it has no use for.

Notation: a *request* is one prompt with its number of draws; a *draw* is one completion of it.

Conventions that both engines share:

- The log-probability of a sampled token is the model's own, ``log softmax(logits)[token]``: that of the
  distribution at temperature 1, whatever the temperature drawn at. It is the quantity `forward_backward`
  recomputes, so at temperature 1 the importance ratio of a fresh draw is 1.
- The tokens of a draw include those of the stop string that ended it.
- Losses are sums over tokens (no mean), and gradients add up until `optim_step`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import tinker

LossFn = Literal["importance_sampling", "cross_entropy"]
StopReason = Literal["length", "stop"]

T_co = TypeVar("T_co", covariant=True)


class Future(Protocol[T_co]):
    """A result that may still be under way."""

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the result, or raise what went wrong."""
        ...


class SampledSequence(Protocol):
    """One draw."""

    @property
    def tokens(self) -> Sequence[int]:
        """Token ids, those of the stop string included."""
        ...

    @property
    def logprobs(self) -> Sequence[float] | None:
        """Log-probability of each token at temperature 1, in nats."""
        ...

    @property
    def stop_reason(self) -> StopReason:
        """``stop`` on a stop string or end of text, ``length`` at `max_tokens`."""
        ...


class SampleResponse(Protocol):
    """The draws of one request."""

    @property
    def sequences(self) -> Sequence[SampledSequence]:
        """As many as were asked for."""
        ...


class Saved(Protocol):
    """Where weights were put."""

    @property
    def path(self) -> str:
        """What `load_state` or `create_sampling_client` takes."""
        ...


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that the loops use."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        ...

    def decode(self, token_ids: list[int]) -> str:
        """Text of `token_ids`."""
        ...


@dataclass(frozen=True)
class Request:
    """`num_samples` draws that continue `prompt`.

    Draw i is seeded with ``sampling_params.seed + i`` by the local engine, so one draw of a group can be
    asked for again alone; the Tinker service derives the seeds of a group by a rule of its own. To name the
    seed of every draw on both, ask for one draw per request: equal prompts still share their prefill.
    """

    prompt: tinker.ModelInput
    num_samples: int
    sampling_params: tinker.SamplingParams


class SamplingClient(Protocol):
    """Fixed weights to draw from."""

    def sample(
        self, prompt: tinker.ModelInput, num_samples: int, sampling_params: tinker.SamplingParams
    ) -> Future[SampleResponse]:
        """Draw completions of one prompt."""
        ...

    def sample_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, Future[SampleResponse]]]:
        """Draw completions of many prompts; yields (index of the request, its finished future) as they end.

        A request that failed raises from its own future, so the others are kept.
        """
        ...

    def compute_logprobs_many(self, prompts: Sequence[tinker.ModelInput]) -> list[list[float | None]]:
        """Log-probability of every token of every prompt; None for the first, which nothing precedes."""
        ...

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        ...


class UnderWay(Protocol):
    """One draw, finished or not; when it is, it is a `SampledSequence`."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: StopReason | None


@runtime_checkable
class StreamingClient(Protocol):
    """What a sampling client can do besides where the engine is in this process."""

    def stream(self, requests: Sequence[Request]) -> Iterator[Sequence[UnderWay]]:
        """Draw all requests side by side and hand out all draws after every token."""
        ...


class TrainingClient(Protocol):
    """A LoRA adapter in training, with its optimizer."""

    def forward_backward(
        self, data: list[tinker.Datum], loss_fn: LossFn
    ) -> Future[tinker.ForwardBackwardOutput]:
        """Add the gradient of the loss; returns ``logprobs`` per datum."""
        ...

    def optim_step(self, adam_params: tinker.AdamParams) -> Future[tinker.OptimStepResponse]:
        """Move the weights by the gradients added since the last step, and clear them."""
        ...

    def save_state(self, name: str) -> Future[Saved]:
        """Save weights and optimizer, to go on training; a name is used once, for not every server replaces it."""
        ...

    def load_state(self, path: str, *, optimizer: bool = True) -> None:
        """Take over saved weights, and the optimizer's state unless told to start it afresh."""
        ...

    def save_weights_for_sampler(self, name: str) -> Future[Saved]:
        """Save weights to sample from later."""
        ...

    def save_weights_and_get_sampling_client(self) -> SamplingClient:
        """Freeze a copy of the current weights to sample from now."""
        ...

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        ...


class Engine(Protocol):
    """A base model: where clients come from."""

    def create_lora_training_client(self, rank: int, seed: int) -> TrainingClient:
        """Put a fresh LoRA adapter, which changes nothing yet, on the base model."""
        ...

    def create_sampling_client(self, model_path: str | None = None) -> SamplingClient:
        """Sample from saved weights, or from the base model where `model_path` is None."""
        ...

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        ...


def build_policy_datum(
    prompt: Sequence[int], tokens: Sequence[int], logprobs: Sequence[float], advantage: float
) -> tinker.Datum:
    """Turn one draw and its advantage into the datum of the ``importance_sampling`` loss.

    The input at position t predicts the target at position t, which is the token that follows it; targets
    that belong to the prompt get advantage 0 and so no gradient.

    Parameters
    ----------
    prompt
        Token ids, at least one.
    tokens
        Token ids of the draw, at least one.
    logprobs
        As sampled, one per token of the draw, in nats.
    advantage
        Reward minus the group's mean.

    Raises
    ------
    ValueError
        If the prompt or the draw is empty, or the lengths of `tokens` and `logprobs` differ.

    Examples
    --------
    >>> datum = build_policy_datum([7, 8], [9, 5], [-0.5, -0.25], advantage=2.0)
    >>> datum.model_input.to_ints(), datum.loss_fn_inputs["target_tokens"].data
    ([7, 8, 9], [8, 9, 5])
    >>> datum.loss_fn_inputs["advantages"].data
    [0.0, 2.0, 2.0]
    """
    if not prompt or not tokens or len(tokens) != len(logprobs):
        raise ValueError(
            "a policy datum needs a prompt, a draw and one log-probability per token of the draw; got "
            f"{len(prompt)} prompt tokens, {len(tokens)} drawn tokens and {len(logprobs)} log-probabilities"
        )
    whole = [*prompt, *tokens]
    before = len(prompt) - 1
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(whole[:-1]),
        loss_fn_inputs={
            "target_tokens": _tensor(whole[1:], "int64"),
            "logprobs": _tensor([0.0] * before + list(logprobs), "float32"),
            "advantages": _tensor([0.0] * before + [advantage] * len(tokens), "float32"),
        },
    )


def build_supervised_datum(prompt: Sequence[int], tokens: Sequence[int], weight: float = 1.0) -> tinker.Datum:
    """Turn a prompt and the completion to learn into the datum of the ``cross_entropy`` loss.

    Raises
    ------
    ValueError
        If the prompt or the completion is empty.

    Examples
    --------
    >>> build_supervised_datum([7, 8], [9]).loss_fn_inputs["weights"].data
    [0.0, 1.0]
    """
    if not prompt or not tokens:
        raise ValueError(
            f"a supervised datum needs a prompt and a completion; got {len(prompt)} and {len(tokens)} tokens"
        )
    whole = [*prompt, *tokens]
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(whole[:-1]),
        loss_fn_inputs={
            "target_tokens": _tensor(whole[1:], "int64"),
            "weights": _tensor([0.0] * (len(prompt) - 1) + [weight] * len(tokens), "float32"),
        },
    )


def _tensor(values: Sequence[float], dtype: Literal["int64", "float32"]) -> tinker.TensorData:
    """One row of a datum; the SDK wants the shape spelt out."""
    return tinker.TensorData(data=list(values), dtype=dtype, shape=[len(values)])
