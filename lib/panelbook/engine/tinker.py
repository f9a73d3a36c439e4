"""The Tinker engine: the protocol of `engine.base` on a model behind the Tinker service.

The SDK speaks that protocol almost word for word, so this module only settles what differs: clients arrive
as futures or as themselves depending on the SDK's version (0.25 and 0.38 both work), requests are handed
out in the order in which they end, and a saved state is taken over by a new client of the service. Retries,
timeouts and the number of requests in flight are the SDK's business; nothing here second-guesses it.

The key is read from ``TINKER_API_KEY`` and the service's URL from ``TINKER_BASE_URL`` where that is set, so
the same code talks to any server that speaks the Tinker API.
"""

import concurrent.futures
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tinker

from panelbook.engine.base import Future, LossFn, Request, SampleResponse, Saved, Tokenizer


class TinkerEngine:
    """A base model of the service.

    Parameters
    ----------
    service
        A `tinker.ServiceClient`, or whatever stands in for one.
    base_model
        Its name there, such as ``Qwen/Qwen3-30B-A3B``.
    """

    def __init__(self, service: tinker.ServiceClient, base_model: str) -> None:
        self._service = service
        self._base_model = base_model

    @classmethod
    def connect(cls, base_model: str) -> "TinkerEngine":
        """Open a session with the key and URL of the environment.

        Raises
        ------
        ValueError
            If ``TINKER_API_KEY`` is not set.
        """
        key, url = os.environ.get("TINKER_API_KEY"), os.environ.get("TINKER_BASE_URL")
        if not key:
            raise ValueError(
                f"no key for the Tinker service, which is to serve {base_model!r}: TINKER_API_KEY is not "
                "set. Set it, or choose a profile with the local engine."
            )
        return cls(tinker.ServiceClient(api_key=key, base_url=url or None), base_model)

    def create_lora_training_client(self, rank: int, seed: int) -> "TinkerTrainingClient":
        """Put a fresh LoRA adapter on the base model."""
        client = self._service.create_lora_training_client(self._base_model, rank=rank, seed=seed)
        return TinkerTrainingClient(self._service, _settle(client))

    def create_sampling_client(self, model_path: str | None = None) -> "TinkerSamplingClient":
        """Sample from the sampler weights at a ``tinker://`` path, or from the base model."""
        base_model = self._base_model if model_path is None else None
        client = self._service.create_sampling_client(model_path=model_path, base_model=base_model)
        return TinkerSamplingClient(_settle(client))

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the base model, loaded from its hub page."""
        return self.create_sampling_client().get_tokenizer()


class TinkerSamplingClient:
    """Fixed weights to draw from, at the service."""

    def __init__(self, client: tinker.SamplingClient) -> None:
        self._client = client

    def sample(
        self, prompt: tinker.ModelInput, num_samples: int, sampling_params: tinker.SamplingParams
    ) -> Future[SampleResponse]:
        """Draw completions of one prompt."""
        return _standard(
            self._client.sample(prompt=prompt, num_samples=num_samples, sampling_params=sampling_params)
        )

    def sample_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, Future[SampleResponse]]]:
        """Send all requests at once; yields (index, finished future) in the order in which they end.

        Whoever stops listening early cancels the requests still under way.
        """
        pending = {
            _standard(self._client.sample(one.prompt, one.num_samples, one.sampling_params)): index
            for index, one in enumerate(requests)
        }
        try:
            for future in concurrent.futures.as_completed(pending):
                yield pending[future], future
        finally:
            for future in pending:
                future.cancel()

    def compute_logprobs_many(self, prompts: Sequence[tinker.ModelInput]) -> list[list[float | None]]:
        """Log-probability of every token of every prompt, in nats; None for the first."""
        futures = [self._client.compute_logprobs(prompt) for prompt in prompts]
        return [future.result() for future in futures]

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        tokenizer: Any = self._client.get_tokenizer()
        return tokenizer  # type: ignore[no-any-return]


class TinkerTrainingClient:
    """A LoRA adapter in training, at the service."""

    def __init__(self, service: tinker.ServiceClient, client: tinker.TrainingClient) -> None:
        self._service = service
        self._client = client

    def forward_backward(
        self, data: list[tinker.Datum], loss_fn: LossFn
    ) -> Future[tinker.ForwardBackwardOutput]:
        """Add the gradient of the loss, summed over every token of every datum."""
        return self._client.forward_backward(data, loss_fn)

    def optim_step(self, adam_params: tinker.AdamParams) -> Future[tinker.OptimStepResponse]:
        """Take one AdamW step, and clear the gradients."""
        return self._client.optim_step(adam_params)

    def save_state(self, name: str) -> Future[Saved]:
        """Save weights and optimizer, to go on training; a state of the same name is replaced."""
        return self._client.save_state(name, overwrite=True)

    def load_state(self, path: str, *, optimizer: bool = True) -> None:
        """Go on from a saved state, in a new client of the service that takes the place of this one's."""
        create = (
            self._service.create_training_client_from_state_with_optimizer
            if optimizer
            else self._service.create_training_client_from_state
        )
        self._client = _settle(create(path))

    def save_weights_for_sampler(self, name: str) -> Future[Saved]:
        """Save weights to sample from later."""
        return self._client.save_weights_for_sampler(name)

    def save_weights_and_get_sampling_client(self) -> TinkerSamplingClient:
        """Freeze a copy of the current weights to sample from now."""
        return TinkerSamplingClient(_settle(self._client.save_weights_and_get_sampling_client()))

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        tokenizer: Any = self._client.get_tokenizer()
        return tokenizer  # type: ignore[no-any-return]


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
