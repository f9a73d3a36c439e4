"""A proxy on loopback that makes a server fail to order: it drops, delays, refuses or garbles what it is told to.

What it is not told to touch passes through unchanged. Faults are matched in the order in which they were added, by
a part of the path, and each is used up after `times` requests.
"""

import contextlib
import http.client
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

What = Literal["drop", "lose", "delay", "status", "garbage", "truncate"]

ALWAYS = 10**9


@dataclass
class Fault:
    """What happens to requests.

    Parameters
    ----------
    path
        Part of the paths that it happens to.
    what
        ``drop`` closes the connection before the server sees the request, ``lose`` after the server has answered
        it; ``delay`` waits; ``status`` answers in the server's place; ``garbage`` and ``truncate`` spoil its answer.
    times
        Requests that it happens to.
    after
        Requests on such paths that pass before the first.
    status, body, headers
        Of the answer in the server's place.
    delay_s
        Seconds to wait.
    """

    path: str
    what: What
    times: int = ALWAYS
    after: int = 0
    status: int = 500
    body: str = '{"detail": "made to fail"}'
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class Proxy:
    """Forwards to `target` from `url`, between entry and exit.

    `log` has one (path, status) per request that reached the proxy; the status is that of the answer sent, 0 for none.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.log: list[tuple[str, int]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return what TINKER_BASE_URL is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def inject(self, *faults: Fault) -> None:
        """Make further requests fail."""
        with self._lock:
            self._faults += faults

    def heal(self) -> None:
        """Let everything pass from now on, and forget what was seen."""
        with self._lock:
            self._faults.clear()
            self.log.clear()

    def count(self, path: str) -> int:
        """Return how many requests on paths with this part have come."""
        return sum(path in seen for seen, _ in list(self.log))

    def pick(self, path: str) -> Fault | None:
        """Return the fault of a request, and count it as used."""
        with self._lock:
            for fault in self._faults:
                if fault.path not in path or not fault.times:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(proxy.target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.pick(self.path)
            what = fault.what if fault else None
            if fault:
                time.sleep(fault.delay_s)
            if fault and what == "status":
                self._send(fault.status, fault.headers, fault.body.encode())
                return
            if what == "drop":
                self._hang_up()
                return
            try:
                status, headers, answer = self._forward(body)
            except OSError:  # the server is down: so is the proxy
                self._hang_up()
                return
            if what == "lose":
                self._hang_up()
            elif what == "garbage":
                self._send(status, headers, b"<html>not what was asked for</html>")
            elif what == "truncate":
                self._send(status, headers, answer, keep=len(answer) // 2)
            else:
                self._send(status, headers, answer)

        do_POST = do_DELETE = do_GET

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=120)
            try:
                passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                connection.request(self.command, self.path, body, passed)
                answer = connection.getresponse()
                kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
                if encoding := answer.headers.get("Content-Encoding"):
                    kept["Content-Encoding"] = encoding
                return answer.status, kept, answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error
            finally:
                connection.close()

        def _send(self, status: int, headers: dict[str, str], body: bytes, keep: int | None = None) -> None:
            proxy.log.append((self.path, status))
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:keep])
            except OSError:  # the client has gone
                self.close_connection = True
            if keep is not None:
                self._close()

        def _hang_up(self) -> None:
            proxy.log.append((self.path, 0))
            self._close()

        def _close(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
