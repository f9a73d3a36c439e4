"""The Tinker engine: the protocol of `engine.base` on a model behind the Tinker service.

The SDK speaks that protocol almost word for word, so this module only settles what differs: clients arrive
as futures or as themselves depending on the SDK's version (0.25 and 0.38 both work), requests are handed
out in the order in which they end, a saved state is taken over by a new client of the service, a draw ends
with its end-of-text token, and the log-probabilities of a prompt start with None. Retries
and the number of requests in flight are the SDK's business; how long all that may take, and what its errors mean, is
settled by `engine.service`.

The key is read from ``TINKER_API_KEY`` and the service's URL from ``TINKER_BASE_URL`` where that is set, so
the same code talks to any server that speaks the Tinker API.
"""

import concurrent.futures
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import tinker

from panelbook.engine.adapter import fetch_adapter
from panelbook.engine.base import (
    Future,
    LossFn,
    Request,
    SampledSequence,
    SampleResponse,
    Saved,
    StopReason,
    Tokenizer,
)
from panelbook.engine.service import USUAL, Patience, ServiceError, Watch

T = TypeVar("T")


class TinkerEngine:
    """A base model of the service.

    Parameters
    ----------
    service
        A `tinker.ServiceClient`, or whatever stands in for one.
    base_model
        Its name there, such as ``Qwen/Qwen3-30B-A3B``.
    watch
        Bounds every wait; by default one that cannot ask whether the service is there.
    """

    def __init__(self, service: tinker.ServiceClient, base_model: str, watch: Watch | None = None) -> None:
        self._service = service
        self._base_model = base_model
        self._watch = watch or Watch()

    @classmethod
    def connect(cls, base_model: str, patience: Patience = USUAL) -> "TinkerEngine":
        """Open a session with the key and URL of the environment.

        Raises
        ------
        ServiceError
            If ``TINKER_API_KEY`` is not set, or the service does not answer, refuses the key or has halted.
        """
        watch = Watch.from_environment(patience)
        _silence()
        watch.connect()
        # The session is opened here, where it fails in a line: newer SDKs put that off to the first use.
        service = watch.call(lambda: _open(tinker.ServiceClient(api_key=watch.key, base_url=watch.url)))
        return cls(service, base_model, watch)

    @classmethod
    def connect_to_folder(cls, folder: str) -> "TinkerEngine":
        """Open a session with a server of one's own that was started on a folder of this name, wherever that lies.

        Raises
        ------
        ServiceError
            As `connect`, or if the server serves no such folder.
        """
        engine = cls.connect(folder)
        service, watch = engine._service, engine._watch
        offered = watch.call(service.get_server_capabilities).supported_models
        served = [one.model_name or "" for one in offered]
        found = next((name for name in served if Path(name).name == folder), None)
        if found is None:
            raise ServiceError(
                f"the server at {os.environ.get('TINKER_BASE_URL')} serves {served}, no folder named {folder!r}; start "
                "it with --base-model and the path of that folder.",
                "refused",
            )
        return cls(service, found, watch)

    def create_lora_training_client(self, rank: int, seed: int) -> "TinkerTrainingClient":
        """Put a fresh LoRA adapter on the base model."""
        client = self._watch.call(
            lambda: _settle(self._service.create_lora_training_client(self._base_model, rank=rank, seed=seed))
        )
        return TinkerTrainingClient(self._service, client, self._watch)

    def create_sampling_client(self, model_path: str | None = None) -> "TinkerSamplingClient":
        """Sample from the sampler weights at a ``tinker://`` path, or from the base model."""
        base_model = self._base_model if model_path is None else None
        client = self._watch.call(
            lambda: _settle(
                self._service.create_sampling_client(model_path=model_path, base_model=base_model)
            )
        )
        return TinkerSamplingClient(client, self._watch)

    def download_adapter(self, sampler_path: str, state_path: str, folder: Path) -> None:
        """Download a checkpoint, given by its two paths, as a folder in PEFT's format; see `engine.adapter`."""
        fetch_adapter(self._service, sampler_path, state_path, folder)

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the base model, loaded from its hub page."""
        return self.create_sampling_client().get_tokenizer()


class TinkerSamplingClient:
    """Fixed weights to draw from, at the service."""

    def __init__(self, client: tinker.SamplingClient, watch: Watch | None = None) -> None:
        self._client = client
        self._watch = watch or Watch()

    def sample(
        self, prompt: tinker.ModelInput, num_samples: int, sampling_params: tinker.SamplingParams
    ) -> Future[SampleResponse]:
        """Draw completions of one prompt."""
        drawn = _standard(
            self._client.sample(prompt=prompt, num_samples=num_samples, sampling_params=sampling_params)
        )
        return _Ended(_Watched(drawn, self._watch), self._end_token(sampling_params))

    def sample_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, Future[SampleResponse]]]:
        """Send all requests at once; yields (index, finished future) in the order in which they end.

        Whoever stops listening early cancels the requests still under way. A `ServiceError` ends it if nothing
        moves for too long.
        """
        pending = {
            _standard(self._client.sample(one.prompt, one.num_samples, one.sampling_params)): index
            for index, one in enumerate(requests)
        }
        try:
            for future in self._watch.as_completed(pending):
                index = pending[future]
                drawn: _Watched[SampleResponse] = _Watched(future, self._watch)
                yield index, _Ended(drawn, self._end_token(requests[index].sampling_params))
        finally:
            for future in pending:
                future.cancel()

    def compute_logprobs_many(self, prompts: Sequence[tinker.ModelInput]) -> list[list[float | None]]:
        """Log-probability of every token of every prompt, in nats; None for the first, which SkyRL leaves out."""
        futures = [self._client.compute_logprobs(prompt) for prompt in prompts]
        scored: list[list[float | None]] = []
        for prompt, future in zip(prompts, futures, strict=True):
            watched: _Watched[Sequence[float | None]] = _Watched(future, self._watch)
            row = list(watched.result())
            scored.append([*[None] * (prompt.length - len(row)), *row])
        return scored

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer: Any = self._client.get_tokenizer()
        return tokenizer  # type: ignore[no-any-return]

    def _end_token(self, params: tinker.SamplingParams) -> int | None:
        """Return the token that ends a text; None where there is none or every stop is switched off."""
        switched_off = params.stop is not None and not params.stop
        return None if switched_off else getattr(self._tokenizer, "eos_token_id", None)


@dataclass(frozen=True)
class _Watched(Generic[T]):
    """A future of the SDK that is waited for with an end, and whose errors are translated."""

    future: Any
    watch: Watch

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result."""
        if timeout is None and not isinstance(self.future, concurrent.futures.Future):
            fetched: T = self.watch.call(self.future.result)  # older SDKs have no standard future everywhere
            return fetched
        if timeout is None:
            for _ in self.watch.as_completed([self.future]):
                pass
        result: T = self.watch.result(self.future, timeout)
        return result


@dataclass(frozen=True)
class _Draw:
    """A draw that was cut."""

    tokens: list[int]
    logprobs: list[float] | None
    stop_reason: StopReason


@dataclass(frozen=True)
class _Draws:
    """The draws of one request; meets `base.SampleResponse`."""

    sequences: list[SampledSequence]


@dataclass(frozen=True)
class _Ended:
    """Draws under way, each of which will end with its first end-of-text token.

    SkyRL draws on past that token, up to `max_tokens`, whether or not it was given stop strings.
    """

    drawn: Future[SampleResponse]
    end_token: int | None

    def result(self, timeout: float | None = None) -> SampleResponse:
        """Wait for the draws and cut them."""
        response = self.drawn.result(timeout)
        if self.end_token is None:
            return response
        return _Draws([_cut(sequence, self.end_token) for sequence in response.sequences])


def _cut(sequence: SampledSequence, end_token: int) -> SampledSequence:
    """Return a draw up to its first end-of-text token, that token included."""
    tokens = list(sequence.tokens)
    if end_token not in tokens:
        return sequence
    n = tokens.index(end_token) + 1
    return _Draw(tokens[:n], None if sequence.logprobs is None else list(sequence.logprobs)[:n], "stop")


class TinkerTrainingClient:
    """A LoRA adapter in training, at the service."""

    def __init__(
        self, service: tinker.ServiceClient, client: tinker.TrainingClient, watch: Watch | None = None
    ) -> None:
        self._service = service
        self._client = client
        self._watch = watch or Watch()

    def forward_backward(
        self, data: list[tinker.Datum], loss_fn: LossFn
    ) -> Future[tinker.ForwardBackwardOutput]:
        """Add the gradient of the loss, summed over every token of every datum."""
        return _Watched(self._client.forward_backward(data, loss_fn), self._watch)

    def optim_step(self, adam_params: tinker.AdamParams) -> Future[tinker.OptimStepResponse]:
        """Take one AdamW step, and clear the gradients."""
        return _Watched(self._client.optim_step(adam_params), self._watch)

    def save_state(self, name: str) -> Future[Saved]:
        """Save weights and optimizer, to go on training; a state of the same name is replaced."""
        return _Watched(self._client.save_state(name, overwrite=True), self._watch)

    def load_state(self, path: str, *, optimizer: bool = True) -> None:
        """Go on from a saved state, in a new client of the service that takes the place of this one's."""
        create = (
            self._service.create_training_client_from_state_with_optimizer
            if optimizer
            else self._service.create_training_client_from_state
        )
        self._client = self._watch.call(lambda: _settle(create(path)))

    def save_weights_for_sampler(self, name: str) -> Future[Saved]:
        """Save weights to sample from later."""
        return _Watched(self._client.save_weights_for_sampler(name), self._watch)

    def save_weights_and_get_sampling_client(self) -> TinkerSamplingClient:
        """Freeze a copy of the current weights to sample from now."""
        save = self._client.save_weights_and_get_sampling_client
        return TinkerSamplingClient(self._watch.call(lambda: _settle(save())), self._watch)

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        tokenizer: Any = self._client.get_tokenizer()
        return tokenizer  # type: ignore[no-any-return]


def _silence() -> None:
    """Keep the SDK's log out of notebooks, unless ``TINKER_LOG`` asks for it.

    Whatever ends a request there is raised as well, and its log quotes the service, which may quote the key.
    """
    if not os.environ.get("TINKER_LOG"):
        logging.getLogger("tinker").setLevel(logging.CRITICAL)


def _open(service: tinker.ServiceClient) -> tinker.ServiceClient:
    """Open the session, and switch off the hour for which the SDK sits out a halt for billing."""
    holder = service.holder
    no_pause = {"billing_exception_max_pause_duration_sec": 0}
    holder._client_config = holder.get_client_config().model_copy(update=no_pause)
    return service


def _settle(client: Any) -> Any:
    """Wait for a client: newer SDKs return a future of it, which still poses as the client itself."""
    result = getattr(client, "result", None)
    return client if result is None else result()


def _standard(future: Any) -> concurrent.futures.Future[Any]:
    """Return the standard future behind the SDK's own, which older SDKs return as it is."""
    if isinstance(future, concurrent.futures.Future):
        return future
    standard: concurrent.futures.Future[Any] = future.future()
    return standard
