"""The local engine: any Hugging Face causal LM, in this process, on CPU or CUDA.

Sampling
    Draws are decoded in batches across prompts. Equal prompts are prefilled once; a row leaves the batch in
    the step in which it stops. What differs between architectures is one small class, the *decoder*:

    - `_CachedDecoder` is `transformers`' own forward with the cache that the model makes. It serves every
      architecture, but it copies the whole cache at every step and pays for the generality of each layer.
    - `_DirectDecoder` writes out one step of Qwen3 or Llama by hand over a preallocated cache. On the miniature
      at batch 256 sampling is then some one and a half to two times as fast as `transformers.generate` where all
      draws are equally long, and three to four times where they stop by themselves. These two are worth the
      hundred lines, being what the book itself runs on; the tests hold it to the forward of `transformers`. It
      serves float32 only, where that comparison is tight.

    A LoRA adapter is merged into a copy of the base weights first, so that sampling pays nothing for it.

Seeds
    *Same seed, same tokens, whatever else is in the batch.* The token at position t of a draw seeded s is
    the inverse of the cumulative distribution at ``u(s, t)``, a uniform number from a counter-based generator
    (SplitMix64), so no draw uses up another's randomness. That leaves rounding: matrix products of different
    shapes differ in the last bits of float32, and would move a token whenever u falls that close to a
    boundary of the distribution, about once in a hundred thousand tokens. So where an error of `TOLERANCE`
    could change the token (about twice in ten thousand), the distribution is computed again from that draw's
    own tokens alone, without batch, padding or cache, and that result decides. The token therefore depends
    on prompt, seed and weights only, as long as batched logits are right to `TOLERANCE`. Those of bfloat16
    are not, and no such guarantee is given there: the same seeds in the same batches give the same tokens.
    Nor with ``exact=False``: among fifty thousand words one token in thirty is close to a boundary, and a model
    of hundreds of millions of parameters then spends more time on second looks than on drawing. The
    log-probabilities are those of the batch, right to about 1e-5 in either case.

Training
    LoRA through PEFT on all linear layers except the output, scaled by alpha / rank. Losses follow Tinker:
    sums over tokens, ``cross_entropy`` = - sum of weight * logp, and ``importance_sampling`` =
    - sum of exp(logp - logp_sampled) * advantage. Weights are held in bfloat16 on CUDA and in float32 on
    CPU, where bfloat16 gains nothing without hardware for it; the adapter is always float32.

Not here: top-k and nucleus sampling, gradient checkpointing, more than one device. A training client copies
the base model, and so does every sampling client that has an adapter.
"""

import copy
import inspect
import itertools
import secrets
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import peft
import tinker
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from panelbook.engine.base import LossFn, Request, StopReason, Tokenizer
from panelbook.engine.load import load_model

#: Bound on the rounding error of the difference of two logits in float32, ten times the largest seen on the
#: pretrained miniature; a draw that an error of this size could change is decided from its own tokens alone.
TOLERANCE = 2e-4

T = TypeVar("T")

_OPTIMIZER_FILE = "optimizer.pt"
_ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Draw:
    """One sampled completion; meets `base.SampledSequence`."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: StopReason


@dataclass(frozen=True)
class Draws:
    """The completions of one request; meets `base.SampleResponse`."""

    sequences: list[Draw]


@dataclass(frozen=True)
class Checkpoint:
    """A folder of saved weights; meets `base.Saved`."""

    path: str


class LocalEngine:
    """A base model held in this process.

    Parameters
    ----------
    model
        A `transformers` causal LM. It is put in evaluation mode and frozen; its weights never change.
    tokenizer
        Its tokenizer.
    checkpoints
        Folder under which training clients save; made when first needed.
    batch_size
        Most draws decoded side by side. Each keeps two vectors per key head and layer for every token: on
        the miniature 2 kB a token, on a model of 0.6 billion parameters 200 kB, where 256 is too many.
    microbatch_tokens
        Most tokens, padding included, in one forward and backward pass. Its logits alone take
        ``4 * microbatch_tokens * vocabulary`` bytes. On CPU one to two thousand run fastest: the
        activations of more no longer fit the cache. A GPU wants more.
    exact
        Whether a draw's tokens may depend on nothing but prompt, seed and weights; see *Seeds* above.

    Examples
    --------
    >>> engine = LocalEngine.from_pretrained("Qwen/Qwen3-0.6B", checkpoints=Path("runs"))  # doctest: +SKIP
    >>> sampler = engine.create_sampling_client()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        checkpoints: Path,
        batch_size: int = 256,
        microbatch_tokens: int = 2048,
        exact: bool = True,
    ) -> None:
        if batch_size < 1 or microbatch_tokens < 1:
            raise ValueError(
                "batch_size and microbatch_tokens must be at least 1; "
                f"got {batch_size} and {microbatch_tokens}. Leave them out for 256 and 2048."
            )
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._checkpoints = Path(checkpoints)
        self._batch_size = batch_size
        self._microbatch_tokens = microbatch_tokens
        self._tolerance = TOLERANCE if exact and model.dtype == torch.float32 else 0.0
        self._vocabulary = _Vocabulary(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        checkpoints: Path,
        device: str | None = None,
        batch_size: int = 256,
        microbatch_tokens: int = 2048,
        exact: bool = True,
    ) -> "LocalEngine":
        """Load a model, or a LoRA adapter with its base, by hub id or folder (`engine.load`).

        It goes to CUDA where there is one, unless `device` says otherwise.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        loaded, tokenizer = load_model(model, dtype)
        return cls(
            loaded.to(device),
            tokenizer,
            checkpoints=checkpoints,
            batch_size=batch_size,
            microbatch_tokens=microbatch_tokens,
            exact=exact,
        )

    @property
    def n_parameters(self) -> int:
        """Weights of the base model, tied ones once."""
        return sum(weight.numel() for weight in self._model.parameters())

    def create_lora_training_client(
        self, rank: int = 32, seed: int = 0, alpha: int = 32
    ) -> "LocalTrainingClient":
        """Put a fresh adapter on a copy of the base model.

        Parameters
        ----------
        rank
            Of every adapter matrix, at least 1.
        seed
            Of the adapter's initial weights. Its second factor starts at zero, so the fresh adapter changes
            nothing.
        alpha
            The adapter is scaled by ``alpha / rank``; 32 is the value Tinker uses.
        """
        if rank < 1:
            raise ValueError(f"the LoRA rank must be at least 1; got {rank}. Try 8.")
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(), _without_peft_warning():
            torch.manual_seed(seed)
            model = peft.get_peft_model(copy.deepcopy(self._model), config)
        # Saved beside the adapter: a hub id as it is, of a folder its name only, not where this machine has it.
        base = Path(model.active_peft_config.base_model_name_or_path or "")
        if base.is_dir():
            model.active_peft_config.base_model_name_or_path = base.name
        return LocalTrainingClient(
            model.eval(), self._sampling_client, self._tokenizer, self._checkpoints, self._microbatch_tokens
        )

    def create_sampling_client(self, model_path: str | None = None) -> "LocalSamplingClient":
        """Sample from the weights that a training client saved at `model_path`, or from the base model."""
        if model_path is None:
            return self._sampling_client(self._model)
        _check_saved(Path(model_path), _ADAPTER_FILE)
        with _without_peft_warning():
            adapted = peft.PeftModel.from_pretrained(copy.deepcopy(self._model), model_path)
        return self._sampling_client(adapted.merge_and_unload().eval())

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        return self._tokenizer

    def _sampling_client(self, model: Any) -> "LocalSamplingClient":
        """Wrap plain (merged) weights."""
        return LocalSamplingClient(
            model,
            self._tokenizer,
            self._vocabulary,
            self._batch_size,
            self._microbatch_tokens,
            self._tolerance,
        )


# Sampling ------------------------------------------------------------------------------------------------


class LocalSamplingClient:
    """Fixed weights to draw from; made by `LocalEngine` and `LocalTrainingClient`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        vocabulary: "_Vocabulary",
        batch_size: int,
        microbatch_tokens: int,
        tolerance: float,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._batch_size = batch_size
        self._microbatch_tokens = microbatch_tokens
        self._decoder = _DirectDecoder if _DirectDecoder.serves(model) else _CachedDecoder
        self._tolerance = tolerance

    def sample(
        self, prompt: tinker.ModelInput, num_samples: int, sampling_params: tinker.SamplingParams
    ) -> Future[Draws]:
        """Draw completions of one prompt; the future is finished on return."""
        ((_, future),) = self.sample_many([Request(prompt, num_samples, sampling_params)])
        return future

    def sample_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, Future[Draws]]]:
        """Draw completions of many prompts, `batch_size` at a time, shortest prompts first.

        Parameters
        ----------
        requests
            Their `SamplingParams` may differ. `stop` is a string, strings or token ids, besides which the
            end-of-text token stops too; an empty list switches every stop off. `temperature` 0 takes the
            most probable token. Without `seed` one is drawn from the operating system. Without
            `max_tokens` a draw may fill the model's context.

        Yields
        ------
        index, future
            Position in `requests` and its finished future, once the batch that held its last draw is done.

        Raises
        ------
        ValueError
            If a request asks for no draw or no token, for top-k or nucleus sampling, has an empty prompt or
            more tokens than the context holds. The message names the request. Raised before any draw.
        """
        rows = [row for index, request in enumerate(requests) for row in self._rows(index, request)]
        rows.sort(key=lambda row: len(row.prompt))  # least padding
        return self._run(rows, [request.num_samples for request in requests])

    def stream(self, requests: Sequence[Request]) -> Iterator[list["_Row"]]:
        """Make the draws of `sample_many` in one batch, token by token; whoever stops listening ends them.

        Parameters
        ----------
        requests
            As for `sample_many`.

        Yields
        ------
        draws
            Those of the first request, then those of the next: the same objects every time, one token longer
            where they go on. A draw with a `stop_reason` has ended.

        Raises
        ------
        ValueError
            As `sample_many`, before any draw.
        """
        rows = [row for index, request in enumerate(requests) for row in self._rows(index, request)]
        return (rows for _ in self._decode(rows))

    def compute_logprobs_many(self, prompts: Sequence[tinker.ModelInput]) -> list[list[float | None]]:
        """Log-probability of every token of every prompt, in nats; None for the first."""
        tokens = [prompt.to_ints() for prompt in prompts]
        scored: list[list[float | None]] = [[None] for _ in prompts]
        several = [i for i, one in enumerate(tokens) if len(one) > 1]
        with torch.inference_mode():
            for batch in _microbatches([len(tokens[i]) for i in several], self._microbatch_tokens):
                rows = [several[place] for place in batch]
                logprobs = _score(self._model, [tokens[i][:-1] for i in rows], [tokens[i][1:] for i in rows])
                for i, row in zip(rows, logprobs.tolist(), strict=True):
                    scored[i] += row[: len(tokens[i]) - 1]
        return scored

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        return self._tokenizer

    def _rows(self, index: int, request: Request) -> list["_Row"]:
        """Check one request and spell out its draws."""
        params, prompt = request.sampling_params, tuple(request.prompt.to_ints())
        context = getattr(self._model.config, "max_position_embeddings", None)
        max_tokens = params.max_tokens
        if max_tokens is None:
            if context is None:
                raise ValueError(f"request {index}: the model states no context length; give max_tokens.")
            max_tokens = context - len(prompt)
        complaint = None
        if not prompt:
            complaint = "the prompt is empty; start it with at least one token"
        elif request.num_samples < 1 or max_tokens < 1:
            complaint = (
                f"num_samples and max_tokens must be at least 1; got {request.num_samples} and {max_tokens}"
            )
        elif params.top_k != -1 or params.top_p != 1:
            complaint = (
                f"the local engine samples from the whole distribution; got top_k={params.top_k}, "
                f"top_p={params.top_p}. Leave both out"
            )
        elif params.temperature < 0:
            complaint = f"the temperature must not be negative; got {params.temperature}"
        elif context is not None and len(prompt) + max_tokens > context:
            complaint = (
                f"{len(prompt)} prompt tokens and max_tokens={max_tokens} exceed the model's context of "
                f"{context}. Lower max_tokens"
            )
        if complaint is not None:
            raise ValueError(f"request {index}: {complaint}.")
        seed = secrets.randbits(63) if params.seed is None else params.seed
        stop = self._vocabulary.stop_rule(params.stop, _end_of_text(self._model, self._tokenizer))
        return [
            _Row(index, draw, prompt, (seed + draw) % 2**64, params.temperature, max_tokens, stop)
            for draw in range(request.num_samples)
        ]

    def _run(self, rows: list["_Row"], n_draws: list[int]) -> Iterator[tuple[int, Future[Draws]]]:
        """Decode batch by batch, handing out each request with its last draw."""
        done: dict[int, list[_Row]] = {index: [] for index in range(len(n_draws))}
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            for _ in self._decode(batch):
                pass
            for row in batch:
                done[row.request].append(row)
                if len(done[row.request]) == n_draws[row.request]:
                    finished = sorted(done.pop(row.request), key=lambda row: row.draw)
                    yield row.request, _finished(Draws([row.result() for row in finished]))

    @torch.inference_mode()
    def _decode(self, rows: list["_Row"]) -> Iterator[None]:
        """Fill every row, dropping each from the batch as soon as it has stopped; yields after each token."""
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        place = {prompt: i for i, prompt in enumerate(prompts)}
        decoder = self._decoder(self._model, prompts, [place[row.prompt] for row in rows])
        active = list(rows)
        logits = decoder.logits
        seeds = np.array([row.seed for row in rows], dtype=np.uint64)
        temperatures = logits.new_tensor([row.temperature for row in rows], dtype=torch.float64)
        for position in itertools.count():
            uniforms = torch.from_numpy(draw_uniforms(seeds, position)).to(logits.device)
            choice = _choose(logits, uniforms, temperatures, self._tolerance)
            for i in choice.unsure.nonzero().flatten().tolist():
                alone = self._logits_alone(active[i])
                decided = _choose(alone, uniforms[i : i + 1], temperatures[i : i + 1], 0.0)
                choice.tokens[i] = decided.tokens[0]
                choice.logprobs[i] = decided.logprobs[0]
            tokens, logprobs = choice.tokens.tolist(), choice.logprobs.tolist()
            going = [row.append(*pair) for row, *pair in zip(active, tokens, logprobs, strict=True)]
            yield
            if not any(going):
                return
            kept = choice.tokens
            if not all(going):
                order = _closing_gaps(going)
                decoder.keep(order)
                active, seeds = [active[i] for i in order], seeds[order]
                temperatures, kept = temperatures[order], kept[order]
            logits = decoder.step(kept)

    def _logits_alone(self, row: "_Row") -> Tensor:
        """Logits [1, vocabulary] that follow one unfinished draw, without batch, padding or cache."""
        ids = torch.tensor([[*row.prompt, *row.tokens]], device=self._model.device)
        logits: Tensor = _forward(self._model, input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return logits[:, -1]


@dataclass(slots=True)
class _Row:
    """One draw under way."""

    request: int
    draw: int
    prompt: tuple[int, ...]
    seed: int
    temperature: float
    max_tokens: int
    stop: "_StopRule"
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: StopReason | None = None

    def append(self, token: int, logprob: float) -> bool:
        """Take one more token; True while the draw goes on."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in self.stop.watched and self.stop.ends(self.tokens):
            self.stop_reason = "stop"
        elif len(self.tokens) == self.max_tokens:
            self.stop_reason = "length"
        return self.stop_reason is None

    def result(self) -> Draw:
        """Return the finished draw."""
        assert self.stop_reason is not None, "asked for the result of a draw under way"
        return Draw(self.tokens, self.logprobs, self.stop_reason)


@dataclass(frozen=True)
class _Choice:
    """A token for every row, its log-probability at temperature 1, and whether rounding could change it."""

    tokens: Tensor  # [rows], int64
    logprobs: Tensor  # [rows], float64
    unsure: Tensor  # [rows], bool


def _choose(logits: Tensor, uniforms: Tensor, temperatures: Tensor, tolerance: float) -> _Choice:
    """Invert the cumulative distribution of each row at its uniform number, in float64.

    An error of at most `tolerance` in the difference of any two logits moves a boundary at c of the
    distribution at temperature T by at most ``c * (1 - c) * tolerance / T``, to first order: dc is
    c * (1 - c) times the difference between the mean logit errors of the tokens below and above it.
    """
    logprobs = logits.double().log_softmax(-1)
    greedy = temperatures == 0
    scale = torch.where(greedy, 1.0, temperatures)[:, None]
    probabilities = (logprobs / scale).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    targets = uniforms[:, None]
    # The clamp is for u beyond a total that rounds to less than 1.
    tokens = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logits.shape[-1] - 1)
    upper = cumulative.gather(1, tokens)
    lower = upper - probabilities.gather(1, tokens)
    reach = tolerance / scale
    unsure = (upper - targets < reach * upper * (1 - upper)) | (targets - lower < reach * lower * (1 - lower))
    if bool(greedy.any()):
        best = logprobs.topk(2, dim=-1)
        tokens = torch.where(greedy[:, None], best.indices[:, :1], tokens)
        tied = best.values[:, :1] - best.values[:, 1:] < tolerance
        unsure = torch.where(greedy[:, None], tied, unsure)
    return _Choice(tokens[:, 0], logprobs.gather(1, tokens)[:, 0], unsure[:, 0])


def draw_uniforms(seeds: NDArray[np.uint64], position: int) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1), one per seed, for the token at `position`.

    SplitMix64 (Steele, Lea & Flood 2014, figure 16) started at the mixed seed and read off at `position`
    directly, as its state only ever grows by a constant.

    Examples
    --------
    >>> seeds = np.array([1, 2], dtype=np.uint64)
    >>> bool(draw_uniforms(seeds, 5)[1] == draw_uniforms(seeds[1:], 5)[0])
    True
    """
    state = _mix(seeds) + np.uint64((position + 1) * 0x9E3779B97F4A7C15 % 2**64)
    return np.asarray(((_mix(state) >> np.uint64(11)) + 0.5) * 2.0**-53)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words: the output function of SplitMix64; products wrap around."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _closing_gaps(going: list[bool]) -> list[int]:
    """Order of the rows that go on in which as few as possible move: the last ones fill the gaps."""
    n = sum(going)
    movers = (i for i in range(n, len(going)) if going[i])
    return [i if going[i] else next(movers) for i in range(n)]


@dataclass(frozen=True)
class _StopRule:
    """When a draw ends: on a token id, or on a string that its text now ends with."""

    token_ids: frozenset[int]
    strings: tuple[str, ...]
    watched: frozenset[int]
    tokenizer: Tokenizer

    def ends(self, tokens: list[int]) -> bool:
        """Whether the last of `tokens` (one of `watched`) completes a stop."""
        if tokens[-1] in self.token_ids:
            return True
        if not self.strings:
            return False
        # A character takes at most four tokens (its UTF-8 bytes), so this tail holds any stop string.
        tail = self.tokenizer.decode(tokens[-4 * max(map(len, self.strings)) :])
        return any(string in tail for string in self.strings)


class _Vocabulary:
    """The text of every token, to know which ones can complete a stop string.

    Decoding each row's tail after each token would cost more than the model. A stop string can only be
    completed by a token whose own text holds the string's last character (or part of a character, shown as
    U+FFFD), so only after those is the text looked at.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts: list[str] | None = None
        self._rules: dict[tuple[object, ...], _StopRule] = {}

    def stop_rule(
        self, stop: str | Sequence[str] | Sequence[int] | None, end_of_text: frozenset[int]
    ) -> _StopRule:
        """Build the rule for Tinker's `stop` argument, or find it among those built before."""
        entries = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
        key = (stop is None, *entries)
        if key not in self._rules:
            strings = tuple(entry for entry in entries if isinstance(entry, str))
            if "" in strings:
                raise ValueError("a stop string must not be empty; to switch every stop off give stop=[].")
            ids = frozenset(entry for entry in entries if isinstance(entry, int))
            if stop is None or entries:
                ids |= end_of_text
            watched = ids.union(*(self._completing(string[-1]) for string in strings))
            self._rules[key] = _StopRule(ids, strings, watched, self._tokenizer)
        return self._rules[key]

    def _completing(self, character: str) -> frozenset[int]:
        """Token ids whose text may bring `character`; all of them for a blank, which decoders add."""
        if self._texts is None:
            self._texts = [self._tokenizer.decode([i]) for i in range(len(self._tokenizer))]  # type: ignore[arg-type]
        return frozenset(
            i
            for i, text in enumerate(self._texts)
            if character.isspace() or character in text or "\ufffd" in text
        )


def _end_of_text(model: Any, tokenizer: Any) -> frozenset[int]:
    """Token ids with which the model says it is done."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset(() if ids is None else (ids,) if isinstance(ids, int) else ids)


# Decoders ------------------------------------------------------------------------------------------------


class _CachedDecoder:
    """Next-token logits through `transformers`, for any architecture.

    Attributes
    ----------
    logits
        Logits [rows, vocabulary] after the prompts.
    """

    def __init__(self, model: Any, prompts: list[tuple[int, ...]], row_prompts: list[int]) -> None:
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):  # padded on the left, so that all rows grow at the same place
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            mask[i, longest - len(prompt) :] = 1
        ids, mask = ids.to(model.device), mask.to(model.device)
        rows = torch.tensor(row_prompts, device=model.device)
        output = _forward(
            model,
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits: Tensor = output.logits[rows, -1]
        self._model = model
        self._mask = mask[rows]
        self._cache = output.past_key_values
        self._cache.reorder_cache(rows)

    def step(self, tokens: Tensor) -> Tensor:
        """Take one token [rows] per row; returns the logits [rows, vocabulary] that follow."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        output = _forward(
            self._model,
            input_ids=tokens[:, None].to(self._mask.device),
            attention_mask=self._mask,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""
        index = torch.tensor(rows, device=self._mask.device)
        self._mask = self._mask[index]
        self._cache.reorder_cache(index)


class _DirectDecoder(_CachedDecoder):
    """Next-token logits of a float32 Qwen3 or Llama model over a preallocated cache.

    The prompts go through `transformers`; each later token through `step`, the block written out: RMS norm,
    grouped-query attention with rotary positions (and, in Qwen3, normalised queries and keys), RMS norm, SwiGLU.
    """

    _ROOM = 128  # cache columns to begin with; doubled when they run out

    def __init__(self, model: Any, prompts: list[tuple[int, ...]], row_prompts: list[int]) -> None:
        super().__init__(model, prompts, row_prompts)
        config = model.config
        self._layers = list(model.model.layers)
        self._n_queries, self._n_keys = config.num_attention_heads, config.num_key_value_heads
        self._head_dim, self._eps = config.head_dim, config.rms_norm_eps
        self._normed = config.model_type == "qwen3"
        self._length = int(self._mask.shape[1])
        self._starts = self._length - self._mask.sum(-1)
        self._padding = None
        if bool(self._starts.any()):
            self._padding = torch.where(self._mask == 0, -torch.inf, 0.0)[:, None]
        # Of each layer: one product for queries, keys and values, and their gains with the attention scale.
        self._projections, self._gains = [], []
        for layer in self._layers:
            block = layer.self_attn
            weights = (block.q_proj.weight, block.k_proj.weight, block.v_proj.weight)
            self._projections.append(torch.cat(weights))
            plain = torch.ones(self._head_dim, device=model.device)
            query_gain = (block.q_norm.weight if self._normed else plain) * block.scaling
            key_gain = block.k_norm.weight if self._normed else plain
            gains = query_gain.expand(self._n_queries, -1), key_gain.expand(self._n_keys, -1)
            self._gains.append(torch.cat(gains))
        # [layer and kind (key, value), row, head, column, dimension]
        shape = (2 * len(self._layers), len(row_prompts), self._n_keys, self._length, self._head_dim)
        cache, self._cache = self._cache, None
        self._kv = torch.empty(shape, device=model.device)
        for i, layer in enumerate(cache.layers):
            self._kv[2 * i], self._kv[2 * i + 1] = layer.keys, layer.values
        self._reserve(self._length + self._ROOM)

    @staticmethod
    def serves(model: Any) -> bool:
        """Whether `step` computes exactly this model."""
        config = model.config
        return bool(
            type(model).__name__ in ("Qwen3ForCausalLM", "LlamaForCausalLM")
            and model.dtype == torch.float32
            and config.rope_parameters["rope_type"] == "default"
            and config.hidden_act == "silu"
            and not config.attention_bias
            and not getattr(config, "mlp_bias", False)
            and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        )

    def step(self, tokens: Tensor) -> Tensor:
        """Take one token [rows] per row; returns the logits [rows, vocabulary] that follow."""
        if self._length == self._kv.shape[3]:
            self._reserve(2 * self._length)
        end = self._length + 1
        model, tokens = self._model.model, tokens.to(self._kv.device)
        rows, n_queries, n_keys, dim = len(tokens), self._n_queries, self._n_keys, self._head_dim
        positions = self._length - self._starts
        cosines, sines = self._cosines[positions][:, None], self._sines[positions][:, None]
        hidden = F.embedding(tokens, model.embed_tokens.weight)
        for i, layer in enumerate(self._layers):
            normed = self._rms_norm(hidden, layer.input_layernorm.weight)
            heads = F.linear(normed, self._projections[i]).view(rows, n_queries + 2 * n_keys, dim)
            turned = heads[:, : n_queries + n_keys]
            turned = self._rms_norm(turned, self._gains[i]) if self._normed else turned * self._gains[i]
            turned = turned * cosines + turned.roll(dim // 2, -1) * sines
            keys, values = self._kv[2 * i], self._kv[2 * i + 1]
            keys[:, :, self._length] = turned[:, n_queries:]
            values[:, :, self._length] = heads[:, n_queries + n_keys :]
            queries = turned[:, :n_queries].reshape(rows * n_keys, n_queries // n_keys, dim)
            scores = torch.bmm(queries, keys.view(rows * n_keys, -1, dim)[:, :end].transpose(1, 2))
            if self._padding is not None:
                scores.view(rows, n_queries, end)[:, :, : self._padding.shape[2]] += self._padding
            mixed = torch.bmm(scores.softmax(-1), values.view(rows * n_keys, -1, dim)[:, :end])
            hidden = hidden + layer.self_attn.o_proj(mixed.view(rows, n_queries * dim))
            normed = self._rms_norm(hidden, layer.post_attention_layernorm.weight)
            gate = F.silu(layer.mlp.gate_proj(normed))
            hidden = hidden + layer.mlp.down_proj(gate * layer.mlp.up_proj(normed))
        self._length = end
        logits: Tensor = self._model.lm_head(self._rms_norm(hidden, model.norm.weight))
        return logits

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""
        index = torch.tensor(rows, device=self._kv.device)
        self._starts = self._starts[index]
        if self._padding is not None:
            self._padding = self._padding[index]
        # In place: only the rows that fill a gap are copied.
        moved = (index != torch.arange(len(rows), device=index.device)).nonzero().flatten()
        self._kv[:, moved, :, : self._length] = self._kv[:, index[moved], :, : self._length]
        self._kv = self._kv[:, : len(rows)]

    def _reserve(self, columns: int) -> None:
        """Make room for so many cache columns and rotary positions."""
        grown = self._kv.new_empty(*self._kv.shape[:3], columns, self._head_dim)
        grown[:, :, :, : self._length] = self._kv[:, :, :, : self._length]
        self._kv = grown
        every = torch.arange(columns, device=grown.device)[None]
        cosines, sines = self._model.model.rotary_emb(grown, every)
        # `roll` swaps the halves of a head; the rotation subtracts the second half from the first.
        self._cosines, self._sines = cosines[0], sines[0].clone()
        self._sines[:, : self._head_dim // 2] *= -1

    def _rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root-mean-square norm; `F.rms_norm` takes twice the time on CPU."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scaled: Tensor = x * norm.square_().div_(x.shape[-1]).add_(self._eps).rsqrt_()
        return scaled * weight


def _forward(model: Any, **kwargs: Any) -> Any:
    """Call a model with those of the arguments that its architecture knows."""
    known = inspect.signature(model.forward).parameters
    return model(**{name: value for name, value in kwargs.items() if name in known})


# Training ------------------------------------------------------------------------------------------------


class LocalTrainingClient:
    """A LoRA adapter on a copy of the base model, with AdamW; made by `LocalEngine`.

    Every method has done its work when it returns; the futures are finished. States go to
    ``<checkpoints>/weights/<name>`` (PEFT adapter and optimizer), sampler weights to
    ``<checkpoints>/sampler_weights/<name>`` (PEFT adapter). A folder is written under a temporary name and
    renamed when complete, so a folder with its final name is never half-written.
    """

    def __init__(
        self,
        model: Any,
        sampling_client: Callable[[Any], LocalSamplingClient],
        tokenizer: Tokenizer,
        checkpoints: Path,
        microbatch_tokens: int,
    ) -> None:
        self._model = model
        self._sampling_client = sampling_client
        self._tokenizer = tokenizer
        self._checkpoints = checkpoints
        self._microbatch_tokens = microbatch_tokens
        self._parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters)

    def forward_backward(
        self, data: list[tinker.Datum], loss_fn: LossFn
    ) -> Future[tinker.ForwardBackwardOutput]:
        """Add the gradient of the loss, summed over every token of every datum.

        Parameters
        ----------
        data
            With ``target_tokens``, and ``weights`` for ``cross_entropy`` or ``logprobs`` and ``advantages``
            for ``importance_sampling``, each as long as the input. See `base.build_policy_datum`.
        loss_fn
            ``importance_sampling`` or ``cross_entropy``.

        Returns
        -------
        future
            Per datum the ``logprobs`` of its targets under the current weights; metric ``loss:sum``.

        Raises
        ------
        ValueError
            If there is no datum, or one lacks an input of the loss or has one of another length. Nothing is
            added then.
        """
        if loss_fn not in _LOSSES:
            raise ValueError(f"the local engine has the losses {sorted(_LOSSES)}; got {loss_fn!r}.")
        if not data:
            raise ValueError("forward_backward needs at least one datum; got none.")
        rows = [_training_row(index, datum, _LOSSES[loss_fn]) for index, datum in enumerate(data)]
        outputs: list[dict[str, tinker.TensorData]] = [{} for _ in data]
        total = 0.0
        for batch in _microbatches([len(row.tokens) for row in rows], self._microbatch_tokens):
            targets = [rows[i].targets for i in batch]
            logprobs = _score(self._model, [rows[i].tokens for i in batch], targets)
            terms = [
                _LOSSES[loss_fn].terms(one[: len(rows[i].tokens)], rows[i].inputs)
                for i, one in zip(batch, logprobs, strict=True)
            ]
            loss = torch.cat(terms).sum()
            torch.autograd.backward(loss)
            total += loss.item()
            for i, one in zip(batch, logprobs.detach().cpu(), strict=True):
                outputs[i] = {"logprobs": tinker.TensorData.from_torch(one[: len(rows[i].tokens)].clone())}
        return _finished(tinker.ForwardBackwardOutput("TensorRecord", outputs, {"loss:sum": total}))

    def optim_step(self, adam_params: tinker.AdamParams) -> Future[tinker.OptimStepResponse]:
        """Take one AdamW step with decoupled weight decay, and clear the gradients.

        Returns
        -------
        future
            Metric ``grad_norm``: global Euclidean norm of the gradient before any clipping.

        Raises
        ------
        ValueError
            If no gradient was added since the last step.
        """
        if not self._has_gradients():
            raise ValueError("optim_step found no gradients; call forward_backward first.")
        limit = adam_params.grad_clip_norm or torch.inf
        norm = nn.utils.clip_grad_norm_(self._parameters, limit)
        for group in self._optimizer.param_groups:
            group.update(
                lr=adam_params.learning_rate,
                betas=(adam_params.beta1, adam_params.beta2),
                eps=adam_params.eps,
                weight_decay=adam_params.weight_decay,
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return _finished(tinker.OptimStepResponse(metrics={"grad_norm": float(norm)}))

    def save_state(self, name: str) -> Future[Checkpoint]:
        """Save adapter and optimizer; going on from `load_state` gives the same bits as going on from here.

        Raises
        ------
        ValueError
            If gradients wait for `optim_step`: they would not be saved.
        """
        if self._has_gradients():
            raise ValueError(
                f"state {name!r}: gradients wait to be applied; call optim_step before save_state."
            )

        def write(folder: Path) -> None:
            self._model.save_pretrained(folder, save_embedding_layers=False)
            torch.save(self._optimizer.state_dict(), folder / _OPTIMIZER_FILE)

        return self._save("weights", name, write)

    def save_weights_for_sampler(self, name: str) -> Future[Checkpoint]:
        """Save the adapter alone, for `LocalEngine.create_sampling_client`."""
        return self._save(
            "sampler_weights",
            name,
            lambda folder: self._model.save_pretrained(folder, save_embedding_layers=False),
        )

    def load_state(self, path: str, *, optimizer: bool = True) -> None:
        """Take over a saved adapter, and the optimizer's state unless told to start it afresh.

        Raises
        ------
        ValueError
            If nothing complete was saved there, or the adapter has another rank or other layers.
        """
        folder = Path(path)
        _check_saved(folder, _ADAPTER_FILE, *([_OPTIMIZER_FILE] if optimizer else []))
        saved, own = (
            load_file(folder / _ADAPTER_FILE),
            peft.get_peft_model_state_dict(self._model, save_embedding_layers=False),
        )
        if {name: weight.shape for name, weight in saved.items()} != {
            name: weight.shape for name, weight in own.items()
        }:
            rank = peft.PeftConfig.from_pretrained(path).r
            raise ValueError(
                f"the adapter saved in {path} (rank {rank}) does not fit this client's (rank "
                f"{self._model.active_peft_config.r}); create the client with the rank and base model it "
                "was saved with."
            )
        peft.set_peft_model_state_dict(self._model, saved)
        self._optimizer = torch.optim.AdamW(self._parameters)
        self._optimizer.zero_grad(set_to_none=True)
        if optimizer:
            self._optimizer.load_state_dict(torch.load(folder / _OPTIMIZER_FILE, weights_only=True))

    def save_weights_and_get_sampling_client(self) -> LocalSamplingClient:
        """Merge the current adapter into a copy of the base weights to sample from; nothing is written."""
        merged = copy.deepcopy(self._model).merge_and_unload()
        return self._sampling_client(merged.eval().requires_grad_(False))

    def get_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the model."""
        return self._tokenizer

    def _has_gradients(self) -> bool:
        return any(weight.grad is not None for weight in self._parameters)

    def _save(self, kind: str, name: str, write: Callable[[Path], None]) -> Future[Checkpoint]:
        """Write a checkpoint folder under a temporary name, then rename it."""
        parent = self._checkpoints / kind
        if Path(name).name != name:
            raise ValueError(f"a checkpoint's name must be a plain folder name; got {name!r}.")
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".saving-") as scratch:
            complete, former = Path(scratch, "complete"), Path(scratch, "former")
            complete.mkdir()
            write(complete)
            if (parent / name).exists():
                (parent / name).rename(former)
            complete.rename(parent / name)
        return _finished(Checkpoint(str(parent / name)))


@dataclass(frozen=True)
class _Loss:
    """A loss by token, and the inputs it reads besides the targets."""

    inputs: tuple[str, ...]
    terms: Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def _cross_entropy(logprobs: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    return -logprobs * inputs["weights"]


def _importance_sampling(logprobs: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    return -(logprobs - inputs["logprobs"]).exp() * inputs["advantages"]


_LOSSES: Mapping[str, _Loss] = {
    "cross_entropy": _Loss(("weights",), _cross_entropy),
    "importance_sampling": _Loss(("logprobs", "advantages"), _importance_sampling),
}


@dataclass(frozen=True)
class _TrainingRow:
    """One datum, checked."""

    tokens: list[int]
    targets: list[int]
    inputs: Mapping[str, Tensor]


def _training_row(index: int, datum: tinker.Datum, loss: _Loss) -> _TrainingRow:
    """Check that a datum has what the loss reads, all of the length of its input."""
    tokens = datum.model_input.to_ints()
    inputs = {}
    for name in ("target_tokens", *loss.inputs):
        if name not in datum.loss_fn_inputs:
            raise ValueError(
                f"datum {index} lacks {name!r}, which this loss reads; it has {sorted(datum.loss_fn_inputs)}."
            )
        inputs[name] = datum.loss_fn_inputs[name].to_torch()
        if not tokens or inputs[name].shape != (len(tokens),):
            raise ValueError(
                f"datum {index}: {name!r} must hold one value per input token; the input has {len(tokens)}, "
                f"{name!r} the shape {tuple(inputs[name].shape)}."
            )
    return _TrainingRow(tokens, inputs.pop("target_tokens").tolist(), inputs)


def _microbatches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Split indices into batches of like length, each within `budget` padded tokens where one row allows."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _score(model: Any, inputs: list[list[int]], targets: list[list[int]]) -> Tensor:
    """Log-probability [row, longest] of each target; whatever stands beyond a row's length is padding.

    Rows are padded on the right and no mask is given: a causal model never looks ahead.
    """
    ids, wanted = (
        nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(model.device)
        for rows in (inputs, targets)
    )
    logits = _forward(model, input_ids=ids, use_cache=False).logits
    return -F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none").view_as(wanted)


def _check_saved(folder: Path, *names: str) -> None:
    """Complain where a checkpoint folder lacks one of its files."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"no complete checkpoint at {folder}: it lacks {', '.join(missing)}. Give the path that "
            "save_state or save_weights_for_sampler returned; sampler weights load with optimizer=False only."
        )


@contextmanager
def _without_peft_warning() -> Iterator[None]:
    """Keep quiet that PEFT asks transformers for a property by its former name; the reader can do nothing about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _finished(value: T) -> Future[T]:
    """Wrap what is already known."""
    future: Future[T] = Future()
    future.set_result(value)
    return future
