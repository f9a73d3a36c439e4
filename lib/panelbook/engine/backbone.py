r"""The miniature: a language model small enough to pretrain, sample and train on a laptop's processor.

"Abacus" has the architecture of Qwen3, 0.8 million parameters and a vocabulary of some fifty words, ten of
them digits. It is pretrained from scratch on worked solutions to small arithmetic, each in both scaffolds;
the documents are passed in, so this module knows nothing about arithmetic. Its weights are committed in
``abacus/`` beside this file: `load_backbone` needs neither network nor training.

Everything is in single precision. Half precision would halve the file, but processors without bfloat16
instructions emulate it, which made pretraining ten times slower.

Reproducibility: the weights follow from the documents and the `Recipe` (seed and number of threads
included), bit for bit on one machine with one version of torch. Other processors round differently and give
other weights, as good as these.

Not handled: resuming a pretraining run; it takes minutes.

References
----------
Jordan, K. et al. (2024). Muon: an optimizer for hidden layers in neural networks. kellerjordan.github.io/posts/muon.
Liu, J. et al. (2025). Muon is scalable for LLM training. arXiv:2502.16982, equation 4.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

Document = tuple[str, str]  # prompt, completion

ABACUS = Path(__file__).parent / "abacus"
RECORD_NAME = "training.json"
PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"
# Longest text in tokens; worked solutions end well before.
MAX_TOKENS = 256
# Batches drawn at a time and sorted by length, so that little time goes into padding.
BUCKET = 16
IGNORED = -100
# Of Adam: a shorter memory than the usual 0.999, for a run of few steps.
BETAS = (0.9, 0.98)
# Of Muon: its momentum, and the coefficients of the quintic iteration of Jordan et al. (2024).
MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class Recipe:
    """How the miniature is pretrained. The defaults made the committed weights.

    Parameters
    ----------
    seed
        Seed of the initial weights and of the order of batches.
    n_steps
        Optimiser steps.
    batch_size
        Documents per step.
    learning_rate
        Peak for the weight matrices of the layers (Muon); reached after `warmup_steps`, then down to zero
        along a cosine.
    rest_learning_rate
        The same for embeddings and norms (Adam).
    warmup_steps
        Steps of linear warm-up.
    weight_decay
        Of the weight matrices.
    n_threads
        Threads of torch during pretraining: sums are split by thread, so it is part of the result.
    """

    seed: int = 20260424
    n_steps: int = 2200
    batch_size: int = 32
    learning_rate: float = 6e-3
    rest_learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    n_threads: int = 2

    def __post_init__(self) -> None:
        if min(self.n_steps, self.batch_size, self.n_threads) < 1:
            raise ValueError(f"n_steps, batch_size and n_threads must be at least 1; got {self}.")
        if not 0 <= self.warmup_steps < self.n_steps:
            raise ValueError(f"warmup_steps must lie in [0, n_steps); got {self}.")
        if not min(self.learning_rate, self.rest_learning_rate) > 0:
            raise ValueError(f"learning_rate and rest_learning_rate must be positive; got {self}.")

    @property
    def n_documents(self) -> int:
        """Documents used, each once."""
        return self.n_steps * self.batch_size


@dataclass(frozen=True)
class CurvePoint:
    """One point of the pretraining curve.

    Parameters
    ----------
    step
        Optimiser steps done.
    n_tokens
        Tokens learnt from so far (those of completions; prompts and padding are not learnt).
    loss
        Mean cross-entropy per token in nats over the steps since the last point.
    """

    step: int
    n_tokens: int
    loss: float


@dataclass(frozen=True)
class TrainingRecord:
    """What is known about a set of weights: enough to make them again and to tell whether one has."""

    recipe: Recipe
    documents_sha256: str
    weights_sha256: str
    n_parameters: int
    torch_version: str
    curve: tuple[CurvePoint, ...]


def load_backbone(folder: Path = ABACUS) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Return the miniature, ready to sample, and its tokenizer.

    Parameters
    ----------
    folder
        Where `save_backbone` wrote; by default the committed weights.

    Raises
    ------
    FileNotFoundError
        If the folder holds no weights.
    """
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"no pretrained weights in {folder}: model.safetensors is missing. Run the stage 00_backbone, or "
            "restore the file from version control."
        )
    with _no_progress_bar():
        model = Qwen3ForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    return model.eval(), PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def save_backbone(
    folder: Path, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, record: TrainingRecord
) -> None:
    """Write weights, configuration, tokenizer and `record` to a folder, in the format of Hugging Face."""
    with _no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / RECORD_NAME).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path = ABACUS) -> TrainingRecord:
    """Return the record beside a set of weights."""
    fields = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    fields["recipe"] = Recipe(**fields["recipe"])
    fields["curve"] = tuple(CurvePoint(**point) for point in fields["curve"])
    return TrainingRecord(**fields)


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per word and per digit.

    Text is split at blanks, and numbers into digits. Decoding puts a blank between words and none between
    digits, so text survives the round trip as long as no two numbers stand side by side.

    Parameters
    ----------
    words
        The vocabulary, without the three special tokens; ids follow its order.

    Examples
    --------
    >>> tokenizer = build_tokenizer([*"0123456789", "+"])
    >>> tokenizer.tokenize("34 + 29")
    ['3', '4', '+', '2', '9']
    >>> tokenizer.decode(tokenizer.encode("34 + 29"))
    '34 + 29'
    """
    vocabulary = {word: index for index, word in enumerate([PAD, END, UNKNOWN, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]
    )
    # WordPiece is used for one thing only: it joins tokens with blanks.
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=[0-9]) (?=[0-9])"), ""),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
        padding_side="left",  # for sampling in batches
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Return the miniature with fresh weights. The caller's random state is left as it was."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_TOKENS,
        # The usual 10,000 is for long texts; at this length it leaves half of each head blind to position.
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def pretrain(
    documents: Iterable[Document],
    words: Sequence[str],
    recipe: Recipe,
    report: Callable[[CurvePoint], None] = lambda point: None,
    every: int = 25,
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, TrainingRecord]:
    """Pretrain the miniature from scratch on the completions of documents.

    Parameters
    ----------
    documents
        Pairs of prompt and completion; the first ``recipe.n_documents`` are used, each once.
    words
        The vocabulary; see `build_tokenizer`.
    recipe
        Everything else that decides the weights.
    report
        Called with each point of the curve, for a progress bar.
    every
        Steps between two points.

    Raises
    ------
    ValueError
        If documents run out, hold an unknown word or are too long.
    """
    corpus = list(islice(documents, recipe.n_documents))
    if len(corpus) < recipe.n_documents:
        raise ValueError(
            f"{recipe.n_steps} steps of {recipe.batch_size} documents need {recipe.n_documents}; "
            f"got {len(corpus)}. Pass more documents or lower n_steps."
        )
    tokenizer = build_tokenizer(words)
    batches = _cut_batches([_encode(tokenizer, document) for document in corpus], recipe)
    model = build_model(tokenizer, recipe.seed).train()
    optimizers = _build_optimizers(model, recipe)
    schedules = [
        LambdaLR(optimizer, lambda step: _share_of_peak(step + 1, recipe)) for optimizer in optimizers
    ]
    curve: list[CurvePoint] = []
    n_tokens, loss = 0, 0.0
    with _threads(recipe.n_threads):
        for step, (tokens_B_T, targets_B_T) in enumerate(batches, start=1):
            loss += _learn(model, optimizers, tokens_B_T, targets_B_T)
            for schedule in schedules:
                schedule.step()
            n_tokens += int((targets_B_T != IGNORED).sum())
            if step % every == 0 or step == recipe.n_steps:
                since = step - (curve[-1].step if curve else 0)
                curve.append(CurvePoint(step, n_tokens, loss / since))
                loss = 0.0
                report(curve[-1])
    record = TrainingRecord(
        recipe=recipe,
        documents_sha256=digest_documents(corpus),
        weights_sha256=digest_weights(model),
        n_parameters=model.num_parameters(),
        torch_version=torch.__version__.partition("+")[0],
        curve=tuple(curve),
    )
    return model.eval(), tokenizer, record


def digest_documents(documents: Iterable[Document]) -> str:
    """Return the SHA-256 of documents in order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(document).encode())
    return digest.hexdigest()


def digest_weights(model: torch.nn.Module) -> str:
    """Return the SHA-256 of names and bytes of all weights, in the order of names."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], int]:
    """Return the token ids of a document, its end marked, and how many of them are prompt."""
    prompt, completion = (tokenizer.encode(text) for text in document)
    tokens = [*prompt, *completion, tokenizer.eos_token_id]
    if tokenizer.unk_token_id in tokens:
        raise ValueError(f"document {document!r} has a word outside the vocabulary. Add it to words.")
    if len(tokens) > MAX_TOKENS:
        raise ValueError(
            f"document {document!r} has {len(tokens)} tokens; at most {MAX_TOKENS} fit. Shorten it."
        )
    return tokens, len(prompt)


def _cut_batches(
    encoded: list[tuple[list[int], int]], recipe: Recipe
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of about equally long documents: tokens and next-token targets, both (B, T)."""
    rng = random.Random(recipe.seed)
    for start in range(0, len(encoded), BUCKET * recipe.batch_size):
        bucket = sorted(encoded[start : start + BUCKET * recipe.batch_size], key=lambda item: len(item[0]))
        cuts = list(range(0, len(bucket), recipe.batch_size))
        for cut in rng.sample(cuts, len(cuts)):
            yield _pad(bucket[cut : cut + recipe.batch_size])


def _pad(batch: list[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, where causal attention cannot see it; prompts and padding are no targets."""
    length = max(len(tokens) for tokens, _ in batch)
    tokens_B_T = torch.zeros(len(batch), length, dtype=torch.long)
    targets_B_T = torch.full((len(batch), length), IGNORED)
    for row, (tokens, n_prompt) in enumerate(batch):
        tokens_B_T[row, : len(tokens)] = torch.tensor(tokens)
        targets_B_T[row, n_prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[n_prompt:])
    return tokens_B_T, targets_B_T


class _Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all drawn to one, for weight matrices (Jordan et al., 2024).

    On this model it needs about half of AdamW's steps. `torch.optim.Muon` is the same in bfloat16, which
    processors without bfloat16 instructions emulate, and takes one matrix at a time; here matrices of one
    shape are stacked.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            by_shape.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": alike} for alike in by_shape.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix, each stack of one shape at once."""
        for group in self.param_groups:
            gradients = torch.stack([matrix.grad for matrix in group["params"]])
            momentum = group.setdefault("momentum", torch.zeros_like(gradients))
            momentum.lerp_(gradients, 1 - MOMENTUM)
            moves = _orthogonalise(gradients.lerp(momentum, MOMENTUM))
            # Liu et al. (2025): a move then has the size of one of Adam's, whatever the shape.
            size = 0.2 * max(moves.shape[1:]) ** 0.5
            for matrix, move in zip(group["params"], moves, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(move, alpha=-group["lr"] * size)


def _orthogonalise(stack_N_R_C: torch.Tensor) -> torch.Tensor:
    """Draw the singular values of each matrix into about 0.7 to 1.2 by five steps of the quintic iteration."""
    tall = stack_N_R_C.shape[1] > stack_N_R_C.shape[2]
    x: torch.Tensor = stack_N_R_C.mT if tall else stack_N_R_C
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _build_optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for embeddings and norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    rest = [weight for weight in model.parameters() if all(weight is not matrix for matrix in matrices)]
    return [
        _Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.Adam(rest, lr=recipe.rest_learning_rate, betas=BETAS),
    ]


def _learn(
    model: Qwen3ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    tokens_B_T: torch.Tensor,
    targets_B_T: torch.Tensor,
) -> float:
    """Take one step down the mean cross-entropy per token, and return it."""
    logits = model(input_ids=tokens_B_T, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets_B_T.flatten(), ignore_index=IGNORED
    )
    model.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return float(loss.detach())


def _share_of_peak(step: int, recipe: Recipe) -> float:
    """Learning rate as a fraction of its peak: up a line, then down half a cosine to zero."""
    if step <= recipe.warmup_steps:
        return step / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / (recipe.n_steps - recipe.warmup_steps)
    return (1 + math.cos(math.pi * progress)) / 2


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Run a block with a number of torch threads, then put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a progress bar for four megabytes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
