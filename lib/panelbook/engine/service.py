"""A service that fails: what went wrong, said in a line, and how long it is waited for.

The Tinker SDK retries by itself, and partly without end: a sample that gets HTTP 429 or 5xx, or no answer, is sent
again for two hours; a result that cannot be fetched is asked for until it can; a halt for billing is sat out for one
hour. Its knobs differ from version to version and reach only some of that. So its calls are left to retry, and
`Watch` bounds the waiting from outside: while nothing moves it asks the service whether it is there, and gives up
with a `ServiceError` once one of the limits below is reached, or at once where waiting cannot help.

What the SDK raises becomes a `ServiceError` too (`explain`), whose message names the service, what happened and the
next step, and never holds the key. Errors that are none of the service's are left as they are.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from panelbook.errors import BookError

T = TypeVar("T")

Kind = Literal[
    "unauthorised", "billing", "unreachable", "limited", "failing", "broken", "lost", "refused", "stuck"
]

DEFAULT_URL = "https://tinker.thinkingmachines.dev/services/tinker-prod"
"""Where the SDK looks for the service unless ``TINKER_BASE_URL`` says otherwise."""

CONNECT_S = 30.0
"""Seconds that a service may take to answer at all when a run starts."""

LOST_S = 300.0
"""Seconds without any sign of life in the middle of a run: enough for a server that is started again."""

STALL_S = 1800.0
"""Seconds in which a service that is there may finish nothing: the longest completion or training step, and a queue."""

PROBE_S = 15.0
"""Seconds between two questions whether the service is there, and the time it has for its answer."""

MAX_DETAIL = 200
"""Characters of a service's own words that a message keeps."""

RETRIED: frozenset[Kind] = frozenset({"broken", "failing"})
"""What another try may mend: one bad answer, or one request that failed at the service."""

HOPELESS: frozenset[Kind] = frozenset({"unauthorised", "billing"})
"""What no waiting mends."""

_AGAIN = "Run the same command again then; what is finished is kept."

_TEXTS: dict[Kind, str] = {
    "unauthorised": "refuses the key in TINKER_API_KEY ({detail}). Set a key that is valid there and run the same "
    "command again.",
    "billing": f"has halted for billing ({{detail}}). Add credit to the account. {_AGAIN}",
    "unreachable": f"does not answer ({{detail}}). Is it up, and is TINKER_BASE_URL its address? {_AGAIN}",
    "limited": f"turns requests away for being too many ({{detail}}). Wait, or lower n_calls. {_AGAIN}",
    "failing": f"failed ({{detail}}). Look at its log or its status page. {_AGAIN}",
    "broken": "sent an answer that cannot be read ({detail}). Is TINKER_BASE_URL its address, and does it speak with "
    "the installed version of the Tinker SDK?",
    "lost": "does not know what it was asked for ({detail}): it was started again without its state, or never had "
    "it. Run the same command again for a new session; what is finished is kept.",
    "refused": "refuses a request ({detail}). Asking again would not help: change what it objects to.",
    "stuck": f"is there but finished nothing ({{detail}}). Look at its queue or its status page. {_AGAIN}",
}

_SECRET = re.compile(r"\b(tml-[\w-]+|eyJ[\w-]+\.[\w.-]+)")
"""What a key looks like: the service's own form, or a JSON web token."""


class ServiceError(BookError):
    """The service does not do what it was asked for; `kind` says why."""

    def __init__(self, message: str, kind: Kind = "failing") -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def may_retry(self) -> bool:
        """Return whether the same request may succeed when it is sent again."""
        return self.kind in RETRIED


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds; see the constants of the same names."""

    connect_s: float = CONNECT_S
    lost_s: float = LOST_S
    stall_s: float = STALL_S
    probe_s: float = PROBE_S


USUAL = Patience()


class Watch:
    """Waits for a service, with an end.

    One watch serves all clients of an engine, whatever thread they wait in: as long as something of the engine's
    finishes, nothing of it is stuck.

    Parameters
    ----------
    url
        Of the service; empty for one that cannot be asked whether it is there.
    key
        What it is asked with.
    patience
        When to give up.
    """

    def __init__(self, url: str = "", key: str = "", patience: Patience = USUAL) -> None:
        self.url, self.key, self.patience = url, key, patience
        self._moved = self._alive = self._asked = time.monotonic()
        self._fault: ServiceError | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, patience: Patience = USUAL) -> "Watch":
        """Watch the service that the environment names.

        Raises
        ------
        ServiceError
            If ``TINKER_API_KEY`` is not set.
        """
        key, url = os.environ.get("TINKER_API_KEY"), os.environ.get("TINKER_BASE_URL")
        if not key:
            raise ServiceError(
                "no key for the Tinker service: TINKER_API_KEY is not set. Set it, or choose a profile with the "
                "local engine.",
                "unauthorised",
            )
        return cls((url or DEFAULT_URL).rstrip("/"), key, patience)

    def connect(self) -> None:
        """Wait until the service answers.

        Raises
        ------
        ServiceError
            If it refuses the key or has halted, or does not answer within `connect_s`.
        """
        started = time.monotonic()
        while (fault := self._ask()) is not None:
            if fault.kind in HOPELESS or time.monotonic() - started >= self.patience.connect_s:
                raise fault
            time.sleep(min(1.0, self.patience.probe_s))

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, if it does so in time; it runs in a thread of its own.

        Raises
        ------
        ServiceError
            If the service fails, or nothing moves for too long; the thread is then left behind.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:  # raised again where it is waited for
                outcome.set_exception(error)

        threading.Thread(target=run, name="tinker-call", daemon=True).start()
        (finished,) = self.as_completed([outcome])
        result: T = self.result(finished)
        return result

    def as_completed(self, futures: Collection[Future[T]]) -> Iterator[Future[T]]:
        """Yield futures as they end, those that failed included.

        Raises
        ------
        ServiceError
            If nothing moves for too long.
        """
        left, started = set(futures), time.monotonic()
        while left:
            done, left = wait(left, timeout=self.patience.probe_s, return_when=FIRST_COMPLETED)
            if done:
                self._moved = self._alive = time.monotonic()
                yield from done
            else:
                self._give_up_in_time(started)

    def result(self, future: Any, timeout: float | None = None) -> Any:
        """Return the result of a future that has ended, or wait for it as its own class does.

        Raises
        ------
        ServiceError
            If that is what its error means.
        """
        try:
            return future.result(timeout)
        except Exception as error:
            if timeout is not None and isinstance(error, TimeoutError):
                raise  # the caller's own limit
            raise explain(error, self.url, self.key) or error from None

    def _give_up_in_time(self, started: float) -> None:
        """Look whether the service is there; raise if it has had its time."""
        with self._lock:
            if time.monotonic() - self._asked >= self.patience.probe_s:
                self._fault, self._asked = self._ask(), time.monotonic()
                if self._fault is None:
                    self._alive = self._asked
            fault, now = self._fault, time.monotonic()
        if fault is not None and (
            fault.kind in HOPELESS or now - max(self._alive, started) >= self.patience.lost_s
        ):
            raise fault
        if now - max(self._moved, started) >= self.patience.stall_s:
            raise _describe("stuck", f"{self.patience.stall_s:,.0f} s", self.url)

    def _ask(self) -> ServiceError | None:
        """Send what the SDK sends first, which needs the key and costs nothing; return what is wrong."""
        if not self.url:
            return None
        import requests  # deferred: whoever only names the error needs none of it

        try:
            answer = requests.post(
                f"{self.url}/api/v1/client/config",
                json={"sdk_version": "panelbook"},
                headers={"X-API-Key": self.key},
                timeout=self.patience.probe_s,
            )
        except requests.RequestException as error:
            return _describe("unreachable", type(error).__name__, self.url)
        kind = _judge(answer.status_code, answer.text)
        if answer.ok or kind in ("refused", "lost"):  # it is there, whatever it thinks of the question
            return None
        return _describe(kind, _quote(answer.status_code, answer.text, self.key), self.url)


def check_service(patience: Patience = USUAL) -> None:
    """Find out before anything is computed that the service of the environment is there and takes the key.

    Raises
    ------
    ServiceError
        If it is not, or does not.
    """
    Watch.from_environment(patience).connect()


def explain(error: BaseException, url: str, key: str = "") -> ServiceError | None:
    """Say what an error of the SDK means, or return None if it is none of the service's.

    The SDK wraps what it gets in a ValueError more than once, so the errors that an error came from count too.

    Parameters
    ----------
    error
        As raised by the SDK, or by its HTTP library.
    url, key
        Of the service; the key is taken out of whatever the service says.
    """
    if isinstance(error, ServiceError):
        return error
    for cause in _chain(error):
        if "APIStatusError" in _names(cause):
            status, text = int(getattr(cause, "status_code", 0)), str(getattr(cause, "body", None) or cause)
            return _describe(_judge(status, text), _quote(status, text, key), url)
    for cause in _chain(error):
        if (kind := _judge_class(cause)) is not None:
            return _describe(kind, f"{type(cause).__name__}: {_shorten(str(cause), key)}", url)
    return None


def redact(text: str, key: str = "") -> str:
    """Take keys out of a text.

    Examples
    --------
    >>> redact("invalid key tml-a1b2 (or 'hunter2')", key="hunter2")
    "invalid key [key] (or '[key]')"
    """
    return _SECRET.sub("[key]", text.replace(key, "[key]") if key else text)


def _judge(status: int, text: str) -> Kind:
    """Return what an HTTP status means."""
    if status == 402 or (400 <= status < 500 and re.search(r"\bbilling\b", text, re.IGNORECASE)):
        return "billing"
    if status in (401, 403):
        return "unauthorised"
    if status == 404:
        return "lost"
    if status == 429:
        return "limited"
    return "failing" if status >= 500 or status in (408, 410) else "refused"


def _judge_class(error: BaseException) -> Kind | None:
    """Return what an error without an HTTP status means; by name, so that this module needs no SDK."""
    names, text = _names(error), str(error)
    if "TinkerError" in names and re.search(r"billing", text, re.IGNORECASE):
        return "billing"
    if names & {"APIResponseValidationError", "JSONDecodeError", "ValidationError"}:
        return "broken"
    if names & {"APIConnectionError", "TimeoutError"}:
        return "unreachable"
    if "RequestFailedError" in names:
        category = getattr(getattr(error, "category", None), "name", "")
        return "refused" if category == "User" else "failing"
    if "RetryableException" in names:
        return "failing"
    if "TinkerError" in names:
        wrong_key = re.search(r"api_key|credential|AuthenticationError|PermissionDenied", text)
        return "unauthorised" if wrong_key else "failing"
    if re.match(r"Error retrieving result|Proto deserialization failed|Server returned a JSON", text):
        return "broken"
    if "AssertionError" in names and "sample_sequence_ids" in text:  # a server older than the SDK
        return "refused"
    return None


def _names(error: BaseException) -> set[str]:
    """Return the names of an error's class and of those it derives from."""
    return {base.__name__ for base in type(error).__mro__}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    here: BaseException | None = error
    while here is not None:
        yield here
        here = here.__cause__


def _describe(kind: Kind, detail: str, url: str) -> ServiceError:
    where = f"the Tinker service at {re.sub('//[^/@]*@', '//', redact(url))}" if url else "the Tinker service"
    return ServiceError(f"{where} {_TEXTS[kind].format(detail=detail)}", kind)


def _quote(status: int, text: str, key: str) -> str:
    said = _shorten(text, key)
    return f"HTTP {status}: {said}" if said else f"HTTP {status}"


def _shorten(text: str, key: str) -> str:
    """Bring a service's own words onto one line; they may be a page of HTML."""
    line = " ".join(redact(text, key).split())
    return line if len(line) <= MAX_DETAIL else f"{line[:MAX_DETAIL]} ..."
