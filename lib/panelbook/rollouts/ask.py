"""Asking an engine for draws: in batches, several calls at once, and again where it failed.

Answers come as they end, so that each can be kept at once. A failed call is repeated for the draws that it
left out, after a pause that doubles; after `max_tries` the failure is the caller's. A failure that says it
is final (a message for the reader, a defect of the program) is not repeated; the calls that are under way then are
heard out, because what a service has drawn has been paid for.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import cast

import tinker

from panelbook.engine.base import Request, SampledSequence, SamplingClient, Tokenizer
from panelbook.engine.service import ServiceError
from panelbook.errors import BookError
from panelbook.rollouts.draw import Answer, Draw, DrawParams, read_answer
from panelbook.study.arms import ARMS, ChatTokenizer
from panelbook.study.problems import Problem
from panelbook.study.vocabulary import ArmName

MAX_WAIT_S = 60.0
"""Waiting longer than this between two tries helps nobody."""

FINAL = (BookError, ValueError, TypeError, AttributeError, NotImplementedError)
"""Failures that another try cannot mend: a message for the reader, a bad argument or a defect.

A `ServiceError` says for itself whether it is one.
"""

RenderPrompt = Callable[[Problem], str]


class SampleError(BookError):
    """Draws could not be made, or those that are there answer another question."""


class BudgetReached(SampleError):
    """What is left of the budget does not pay for what is asked next; everything that was drawn is kept."""

    def __init__(self, spent: int, budget: int, needed: int, what: str) -> None:
        super().__init__(
            f"the budget of {budget:,} completion tokens is used up: {spent:,} are drawn, and {what} may take "
            f"{needed:,}. Everything is kept; raise budget_tokens and run the same command again to go on."
        )


@dataclass(frozen=True)
class CallParams:
    """How the engine is called. Nothing here changes a draw.

    Parameters
    ----------
    batch_size
        Draws per engine call.
    n_calls
        Calls under way at once. The local engine computes in one; a service gains from several.
    max_tries
        Calls that may fail to answer a draw before the loop gives up.
    backoff_s
        Seconds to wait after the first failure; doubled after each further one.
    budget_tokens
        Most completion tokens that a run may draw, those it has drawn before included; 0 for no limit. It is never
        passed: a call is made only if it would stay within it with every completion at its limit.
    """

    batch_size: int = 256
    n_calls: int = 1
    max_tries: int = 5
    backoff_s: float = 1.0
    budget_tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.n_calls, self.max_tries) < 1 or self.backoff_s < 0:
            raise ValueError(
                f"batch_size, n_calls and max_tries must be 1 or more, backoff_s 0 or more; got {self}."
            )

    def wait_s(self, n_failures: int) -> float:
        """Seconds to wait after so many failures.

        Examples
        --------
        >>> [CallParams(backoff_s=0.5).wait_s(n) for n in (1, 2, 3, 20)]
        [0.5, 1.0, 2.0, 60.0]
        """
        return float(min(self.backoff_s * 2 ** (n_failures - 1), MAX_WAIT_S))


ONE_CALL = CallParams()


def ask(
    client: SamplingClient,
    draws: Sequence[Draw],
    params: DrawParams,
    calls: CallParams = ONE_CALL,
    render: RenderPrompt | None = None,
) -> Generator[list[Answer], None, None]:
    """Yield answers in bunches as they end, in no fixed order, until every draw has one.

    Parameters
    ----------
    client
        Weights to draw from.
    draws
        What to ask for, each once; draws of one problem side by side share a batch and its prefill.
    params, calls
        How draws are made, and how the engine is called.
    render
        Prompt of a problem; the arm's own by default.

    Raises
    ------
    SampleError
        If the engine fails `max_tries` times. The answers that were there have been yielded before.
    ValueError
        If a draw is asked for twice.
    """
    if len(set(draws)) < len(draws):
        raise ValueError("a draw is asked for twice; give each draw of a problem a sample_id of its own.")
    tokenizer = client.get_tokenizer()
    prompts = _encode_prompts(draws, params.arm, tokenizer, render)
    inbox: SimpleQueue[Answer | BaseException | None] = SimpleQueue()  # None: a batch has ended
    enough, gone = Event(), Event()  # no further tries; nobody listens

    def ask_batch(batch: Sequence[Draw]) -> None:
        try:
            if enough.is_set():  # another batch has failed for good: this one would only cost
                return
            requests = {draw: make_request(draw, prompts[draw.problem.problem_id], params) for draw in batch}
            for draw, drawn in _ask_patiently(client, requests, calls, enough):
                if gone.is_set():
                    return
                inbox.put(read_answer(draw, drawn, prompts[draw.problem.problem_id], params.arm, tokenizer))
        except BaseException as error:  # raised again where the caller sees it
            enough.set()
            inbox.put(error)
        finally:
            inbox.put(None)

    with ThreadPoolExecutor(calls.n_calls, thread_name_prefix="ask") as pool:
        try:
            starts = range(0, len(draws), calls.batch_size)
            waiting = [pool.submit(ask_batch, draws[start : start + calls.batch_size]) for start in starts]
            n_left, first_error = len(waiting), None
            while n_left:
                answers, errors, n_ended = _take_all(inbox)
                if answers:
                    yield answers
                if errors and first_error is None:
                    first_error = errors[0]
                    n_left -= sum(batch.cancel() for batch in waiting)
                n_left -= n_ended
            if first_error is not None:
                raise first_error
        finally:
            enough.set()
            gone.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _encode_prompts(
    draws: Sequence[Draw], arm_name: ArmName, tokenizer: Tokenizer, render: RenderPrompt | None
) -> dict[str, list[int]]:
    """Return the prompt of each problem, in tokens."""
    arm, chat = ARMS[arm_name], cast(ChatTokenizer, tokenizer)
    prompts = {}
    for problem in {draw.problem.problem_id: draw.problem for draw in draws}.values():
        text = render(problem) if render else arm.prompt(problem.question, problem.answer_type, chat)
        prompts[problem.problem_id] = list(tokenizer.encode(text))
    return prompts


def make_request(draw: Draw, prompt: list[int], params: DrawParams) -> Request:
    """Return the request of one draw. One draw per request is the only way to name its seed on every engine."""
    sampling_params = tinker.SamplingParams(
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        seed=draw.seed,
        stop=list(ARMS[params.arm].stop),
    )
    return Request(tinker.ModelInput.from_ints(prompt), 1, sampling_params)


def _ask_patiently(
    client: SamplingClient, requests: Mapping[Draw, Request], calls: CallParams, enough: Event
) -> Iterator[tuple[Draw, SampledSequence]]:
    """Ask, and ask again for what failed, waiting longer each time."""
    left = dict(requests)
    for n_failures in range(1, calls.max_tries + 1):
        failures: list[Exception] = []
        for draw, sequence in _ask_once(client, dict(left), failures, enough):
            del left[draw]
            yield draw, sequence
        if not left or (n_failures < calls.max_tries and enough.wait(calls.wait_s(n_failures))):
            return
    first = next(iter(left))
    reason = f"{type(failures[-1]).__name__}: {failures[-1]}" if failures else "it returned no answer"
    raise SampleError(
        f"the engine failed {calls.max_tries} times on {len(left)} of {len(requests)} draws, the first being "
        f"sample {first.sample_id} of problem {first.problem.problem_id!r}. Its last message: {reason}. "
        "What is finished is kept; run the same command again once the engine answers."
    ) from (failures[-1] if failures else None)


def _ask_once(
    client: SamplingClient, requests: Mapping[Draw, Request], failures: list[Exception], enough: Event
) -> Iterator[tuple[Draw, SampledSequence]]:
    """Yield what one engine call answers; note in `failures` why the rest is missing.

    Raises
    ------
    Exception
        The first final failure, after all that was answered in spite of it.
    """
    draws = list(requests)
    final: Exception | None = None

    def note(failure: Exception) -> None:
        nonlocal final
        failures.append(failure)
        if final is None and _is_final(failure):
            final = failure
            enough.set()  # at once: no other batch is begun while this one is heard out

    try:
        for index, future in client.sample_many(list(requests.values())):
            try:
                (sequence,) = future.result().sequences
            except Exception as failure:
                note(failure)
            else:
                yield draws[index], sequence
    except Exception as failure:
        note(failure)
    if final is not None:
        raise final


def _is_final(failure: Exception) -> bool:
    """Return whether another try is vain."""
    return isinstance(failure, FINAL) and not (isinstance(failure, ServiceError) and failure.may_retry)


def _take_all(
    inbox: SimpleQueue[Answer | BaseException | None],
) -> tuple[list[Answer], list[BaseException], int]:
    """Wait for something, then take all there is: answers, errors, and how many batches have ended."""
    taken = [inbox.get()]
    while True:
        try:
            taken.append(inbox.get_nowait())
        except Empty:
            break
    answers = [item for item in taken if isinstance(item, Answer)]
    return answers, [item for item in taken if isinstance(item, BaseException)], taken.count(None)
