"""An engine without a model: known success rates, recorded calls, failures to order.

It speaks `engine.base`'s protocols. A draw depends on its prompt and seed alone, as an engine promises.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import tinker

from panelbook.engine.base import Request
from panelbook.rollouts.ask import CallParams
from panelbook.rollouts.draw import DrawParams
from panelbook.rollouts.sample import Sampled, sample_rollouts
from panelbook.rollouts.store import compact, read_draws
from panelbook.rollouts.train import Trained, TrainParams, train
from panelbook.study.grading import Grader
from panelbook.study.problems import Problem

TRUNCATED = "cut off"  # a question with these words is answered up to the token limit
EMPTY = "no tokens"  # ... with nothing at all


class CharTokenizer:
    """One token per character."""

    eos_token = "\x03"

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(map(chr, token_ids))


@dataclass(frozen=True)
class FakeSequence:
    tokens: list[int]
    logprobs: list[float] | None
    stop_reason: str


@dataclass(frozen=True)
class FakeResponse:
    sequences: list[FakeSequence]


@dataclass(frozen=True)
class FakeSaved:
    path: str


def uniform(*name: object) -> float:
    """A number in [0, 1) that depends on `name` alone."""
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def finished(value: object) -> Future:
    future: Future = Future()
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


@dataclass
class FakeSampler:
    """Right with probability ``rates[question] + skill``; the right answer is 42, a wrong one 7.

    `fail(call, request)` may return an exception: for request None the whole call raises it, else that
    request's future does. `log` is a file that gets one line per request, also seen by other processes.
    """

    rates: dict[str, float] = field(default_factory=dict)
    skill: float = 0.0
    logprob: float | None = None
    fail: Callable[[int, int | None], Exception | None] = lambda call, request: None
    delay_s: float = 0.0
    log: Path | None = None
    calls: list[list[Request]] = field(default_factory=list)
    n_running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get_tokenizer(self) -> CharTokenizer:
        return CharTokenizer()

    def sample_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, Future]]:
        with self.lock:
            call = len(self.calls)
            self.calls.append(list(requests))
            self.n_running += 1
            self.most_running = max(self.most_running, self.n_running)
        try:
            if error := self.fail(call, None):
                raise error
            for index in reversed(range(len(requests))):  # in no useful order
                time.sleep(self.delay_s)
                yield index, finished(self.fail(call, index) or self._answer(requests[index]))
        finally:
            with self.lock:
                self.n_running -= 1

    def compute_logprobs_many(self, prompts: Sequence[tinker.ModelInput]) -> list[list[float | None]]:
        return [[None, *[self.logprob or -0.5] * (len(prompt.to_ints()) - 1)] for prompt in prompts]

    def _answer(self, request: Request) -> FakeResponse:
        assert request.num_samples == 1
        prompt, seed = "".join(map(chr, request.prompt.to_ints())), request.sampling_params.seed
        question = prompt.split("User: ")[1].split(". Assistant:")[0]
        if self.log:
            with self.log.open("ab", buffering=0) as log:
                log.write(f"{seed}\n".encode())
        right = uniform("right", prompt, seed) < self.rates.get(question, 0.5) + self.skill
        thought = "x" * (1 + int(9 * uniform("length", prompt, seed)))
        text = f"<think>{thought}</think> <answer>{42 if right else 7}"
        stop_reason = "length" if TRUNCATED in question else "stop"
        text = "" if EMPTY in question else text if stop_reason == "length" else f"{text}</answer>"
        logprob = self.logprob or -0.1 - uniform("logprob", prompt, seed) + self.skill / 10
        return FakeResponse([FakeSequence([ord(c) for c in text], [logprob] * len(text), stop_reason)])


@dataclass
class FakeTrainer:
    """A policy of one number, `skill`: it is raised where saying 42 had an advantage.

    It moves with momentum, so a resume that forgets the optimizer shows.
    """

    folder: Path
    sampler: Callable[[float], FakeSampler] = lambda skill: FakeSampler(skill=skill)
    skill: float = 0.0
    momentum: float = 0.0
    gradient: float = 0.0
    calls: list[tuple[str, object]] = field(default_factory=list)

    def get_tokenizer(self) -> CharTokenizer:
        return CharTokenizer()

    def forward_backward(self, data: list[tinker.Datum], loss_fn: str) -> Future:
        self.calls.append(("forward_backward", (data, loss_fn)))
        for datum in data:
            said_42 = [ord("4"), ord("2")] == datum.loss_fn_inputs["target_tokens"].data[-11:-9]
            self.gradient += datum.loss_fn_inputs["advantages"].data[-1] * (1 if said_42 else -1) / len(data)
        return finished(None)

    def optim_step(self, adam_params: tinker.AdamParams) -> Future:
        self.calls.append(("optim_step", adam_params))
        self.momentum = 0.5 * self.momentum + self.gradient
        self.skill += adam_params.learning_rate * self.momentum
        self.gradient = 0.0
        return finished(None)

    def save_state(self, name: str) -> Future:
        self.calls.append(("save_state", name))
        return self._save(f"{name}.state", {"skill": self.skill, "momentum": self.momentum})

    def save_weights_for_sampler(self, name: str) -> Future:
        return self._save(f"{name}.weights", {"skill": self.skill})

    def load_state(self, path: str, *, optimizer: bool = True) -> None:
        self.calls.append(("load_state", path))
        saved = json.loads(Path(path).read_text())
        self.skill, self.momentum = saved["skill"], saved["momentum"] if optimizer else 0.0

    def save_weights_and_get_sampling_client(self) -> FakeSampler:
        return self.sampler(self.skill)

    def _save(self, name: str, state: dict[str, float]) -> Future:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps(state))
        partial.replace(self.folder / name)
        return finished(FakeSaved(str(self.folder / name)))


def make_problem(name: str, source: str = "a", question: str | None = None) -> Problem:
    return Problem(name, "toy", source, question or f"what is {name}?", "42", "int", None)


def make_params(**changes: object) -> DrawParams:
    settings = {
        "study": "live",
        "profile": "test",
        "run_id": "run",
        "arm": "think",
        "checkpoint": "base",
        "step": 0,
        "seed": 5,
        "max_tokens": 64,
    }
    return DrawParams(**{**settings, **changes})


# What a child process does that is going to be killed; also run whole, to compare with.

PROBLEMS = [make_problem(f"p{i}", source="abc"[i % 3]) for i in range(12)]
SAMPLES = 10
TRAINING = TrainParams(
    n_steps=8, groups_per_step=4, group_size=4, learning_rate=0.1, checkpoint_every=3, kl_draws=2
)


def run_sampling(folder: Path, delay_s: float = 0.0) -> Sampled:
    client = FakeSampler(delay_s=delay_s, log=folder / "requests")
    folder.mkdir(parents=True, exist_ok=True)
    calls = CallParams(batch_size=8, n_calls=2)
    with Grader(n_workers=1) as grader:
        sampled = sample_rollouts(
            client, PROBLEMS, SAMPLES, make_params(), folder / "shards", grader, calls=calls
        )
    compact(read_draws(folder / "shards")[0], folder / "rollouts.parquet")
    return sampled


def run_training(folder: Path, delay_s: float = 0.0) -> Trained:
    client = FakeTrainer(folder / "weights", lambda skill: FakeSampler(skill=skill, delay_s=delay_s))
    reference = FakeSampler(logprob=-0.7)
    with Grader(n_workers=1) as grader:
        return train(client, PROBLEMS, TRAINING, make_params(), folder / "run", grader, reference=reference)
