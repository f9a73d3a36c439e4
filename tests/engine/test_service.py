"""What the SDK's errors mean, and that no wait lasts: real errors of the SDK, and a server on loopback that obeys."""

import json
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import tinker
from tinker import types
from tinker._client import AsyncTinker

from panelbook.engine.service import Patience, ServiceError, Watch, check_service, explain, redact
from panelbook.errors import BookError

KEY = "tml-secret-0123"
URL = "http://tinker.test"
HASTY = Patience(connect_s=0.2, lost_s=0.2, stall_s=0.6, probe_s=0.05)
NEVER = 30  # seconds after which a test that hangs has failed


def status_error(status, detail):
    """As the SDK makes them from an answer."""
    response = httpx.Response(status, json={"detail": detail}, request=httpx.Request("POST", URL))
    return tinker.APIStatusError(f"Error code: {status}", response=response, body={"detail": detail})


def wrapped(error):
    """As the SDK wraps what goes wrong while it fetches a result."""
    try:
        raise ValueError("Error retrieving result: ...") from error
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("status", "kind", "may_retry"),
    [
        (400, "refused", False),
        (401, "unauthorised", False),
        (402, "billing", False),
        (403, "unauthorised", False),
        (404, "lost", False),
        (410, "failing", True),
        (422, "refused", False),
        (429, "limited", False),
        (500, "failing", True),
        (503, "failing", True),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, wrapped], ids=["bare", "wrapped"])
def test_a_status_is_translated_and_keeps_what_the_service_said(status, kind, may_retry, wrap):
    told = explain(wrap(status_error(status, "so it is")), URL, KEY)
    assert (told.kind, told.may_retry) == (kind, may_retry)
    assert isinstance(told, BookError)
    assert f"{URL} " in str(told)
    assert f"HTTP {status}" in str(told)
    assert "so it is" in str(told)


@pytest.mark.parametrize("status", [400, 403])
def test_a_halt_for_billing_shows_in_the_words_too(status):
    assert explain(status_error(status, "Access blocked due to Billing status"), URL).kind == "billing"


REQUEST = httpx.Request("POST", URL)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (tinker.APIConnectionError(request=REQUEST), "unreachable"),
        (tinker.APITimeoutError(request=REQUEST), "unreachable"),
        (TimeoutError("no progress"), "unreachable"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), "broken"),
        (tinker.APIResponseValidationError(httpx.Response(200, request=REQUEST), None), "broken"),
        (ValueError("Proto deserialization failed: wire format was corrupt"), "broken"),
        (AssertionError("asample promises always carry sample_sequence_ids"), "refused"),
        (tinker.RequestFailedError("bad prompt", "1", types.RequestErrorCategory.User), "refused"),
        (tinker.RequestFailedError("out of memory", "1", types.RequestErrorCategory.Server), "failing"),
        (tinker.TinkerError("The api_key must start with the 'tml-' prefix"), "unauthorised"),
        (tinker.TinkerError("retrieve_futures polling failed: BillingError: 402"), "billing"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_errors_without_a_status_are_translated(error, kind):
    assert explain(error, URL).kind == kind


@pytest.mark.parametrize(
    "error", [ValueError("a prompt is empty"), TypeError("x"), KeyError("x"), OSError("disk")]
)
def test_errors_that_are_not_the_services_are_left_alone(error):
    assert explain(error, URL) is None
    failed = Future()
    failed.set_exception(error)
    with pytest.raises(type(error)) as raised:
        Watch().result(failed)
    assert raised.value is error


def test_no_message_holds_a_key_or_more_than_a_line():
    page = f"<html>\n<p>key {KEY} and eyJhbGciOi.J9payload.sig are wrong</p>\n" + "long " * 500
    told = str(explain(status_error(401, page), f"http://user:{KEY}@host", KEY))
    assert KEY not in told
    assert "eyJ" not in told
    assert "\n" not in told
    assert "[key]" in told
    assert len(told) < 600
    assert redact("the odd key hunter2", "hunter2") == "the odd key [key]"
    assert redact("no key") == "no key"


# --- waiting ----------------------------------------------------------------------------------------


class Service:
    """Answers every question with `status`; `asked` counts them, `keys` has what they carried."""

    def __init__(self):
        self.status, self.body, self.keys = 200, b"{}", []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                service.keys.append((self.path, self.headers["X-API-Key"]))
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    running = Service()
    yield running
    running.stop()


@pytest.fixture
def nowhere():
    """Return the address of a server that has been stopped."""
    gone = Service()
    gone.stop()
    return gone.url


def gives_up(call):
    """Return the kind of error that a call ends in, in time."""
    started = time.monotonic()
    with pytest.raises(ServiceError) as failed:
        call()
    assert time.monotonic() - started < NEVER / 3
    return failed.value.kind


def wait_for_nothing(watch):
    return list(watch.as_completed([Future()]))


@pytest.mark.parametrize("status", [200, 400, 404, 405])
def test_a_service_that_answers_is_there(service, status):
    service.status = status  # an older server may not know the question
    Watch(service.url, KEY, HASTY).connect()
    assert service.keys == [("/api/v1/client/config", KEY)]


@pytest.mark.parametrize(("status", "kind"), [(401, "unauthorised"), (402, "billing")])
def test_a_service_that_refuses_is_asked_once(service, status, kind):
    service.status, service.body = status, f'{{"detail": "not {KEY}"}}'.encode()
    patient = Watch(service.url, KEY, Patience())
    with pytest.raises(ServiceError) as failed:
        patient.connect()
    assert failed.value.kind == kind
    assert KEY not in str(failed.value)
    assert len(service.keys) == 1


def test_a_service_that_fails_or_is_away_is_given_time(service, nowhere):
    service.status = 500
    assert gives_up(Watch(service.url, KEY, HASTY).connect) == "failing"
    assert len(service.keys) > 1
    assert gives_up(Watch(nowhere, KEY, HASTY).connect) == "unreachable"


def test_a_service_that_comes_up_late_is_waited_for(service):
    service.status = 503
    threading.Timer(0.15, lambda: setattr(service, "status", 200)).start()
    Watch(service.url, KEY, Patience(connect_s=NEVER, probe_s=0.05)).connect()


def test_waiting_ends_when_the_service_is_gone_refuses_or_stands_still(service, nowhere):
    assert gives_up(lambda: wait_for_nothing(Watch(nowhere, KEY, HASTY))) == "unreachable"
    assert gives_up(lambda: wait_for_nothing(Watch(service.url, KEY, HASTY))) == "stuck"
    service.status = 402
    patient = Patience(lost_s=NEVER, stall_s=NEVER, probe_s=0.05)
    assert gives_up(lambda: wait_for_nothing(Watch(service.url, KEY, patient))) == "billing"


def test_a_short_absence_is_sat_out(service):
    watch = Watch(service.url, KEY, Patience(lost_s=0.5, stall_s=NEVER, probe_s=0.05))
    service.status = 503
    threading.Timer(0.2, lambda: setattr(service, "status", 200)).start()
    late: Future = Future()
    threading.Timer(1.0, lambda: late.set_result("late")).start()
    assert [future.result() for future in watch.as_completed([late])] == ["late"]


def test_as_long_as_something_finishes_nothing_is_stuck(service):
    watch = Watch(service.url, KEY, Patience(lost_s=NEVER, stall_s=0.4, probe_s=0.05))
    futures = [Future() for _ in range(6)]
    for i, future in enumerate(futures):  # the last ends after more than twice the limit
        threading.Timer(0.2 * (i + 1), future.set_result, [i]).start()
    other = []  # another thread waits for the last alone
    thread = threading.Thread(target=lambda: other.extend(watch.as_completed(futures[-1:])))
    thread.start()
    assert [future.result() for future in watch.as_completed(futures)] == list(range(6))
    thread.join(NEVER)
    assert other == futures[-1:]


def test_a_call_returns_raises_or_is_left_behind(service):
    watch = Watch(service.url, KEY, HASTY)
    assert watch.call(lambda: 7) == 7

    def refuse():
        raise status_error(401, "no")

    assert gives_up(lambda: watch.call(refuse)) == "unauthorised"
    released = threading.Event()
    assert gives_up(lambda: watch.call(lambda: released.wait(NEVER))) == "stuck"
    released.set()


def test_the_callers_own_limit_stays_a_timeout():
    with pytest.raises(TimeoutError):
        Watch().result(Future(), timeout=0.01)


def test_the_environment_names_service_and_key(service, monkeypatch):
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_BASE_URL", f"{service.url}/")
    check_service(HASTY)
    assert service.keys == [("/api/v1/client/config", KEY)]
    monkeypatch.delenv("TINKER_BASE_URL")
    assert Watch.from_environment().url == str(AsyncTinker(api_key=KEY).base_url).rstrip("/")
    monkeypatch.delenv("TINKER_API_KEY")
    with pytest.raises(ServiceError, match=r"TINKER_API_KEY is not set\. Set it"):
        check_service(HASTY)
