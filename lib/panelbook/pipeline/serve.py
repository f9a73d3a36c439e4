"""A web server for one folder, for one reader, on this machine alone.

It listens on 127.0.0.1 and answers only requests that name it so: a page elsewhere that makes the browser look up
its own name as 127.0.0.1 gets nothing. It lists no folder, writes nothing and logs nothing.
"""

import contextlib
import signal
import threading
import webbrowser
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from panelbook.errors import BookError

HOST = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}


class ServeError(BookError):
    """The server cannot start."""


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, to those who ask for this server by its own name."""

    server_version = "panelbook"
    sys_version = ""

    def guess_type(self, path: Any) -> str:
        """Return the type by the name alone; what this machine has registered for it may differ."""
        return TYPES.get(Path(path).suffix, "application/octet-stream")

    def send_head(self) -> Any:
        """Refuse other names and whatever is not a file of the folder."""
        assert isinstance(self.server, ThreadingHTTPServer)
        if self.headers.get("Host") not in {
            f"{name}:{self.server.server_port}" for name in (HOST, "localhost")
        }:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server answers on 127.0.0.1 alone.")
            return None
        found = Path(self.translate_path(self.path)).resolve()
        if not found.is_relative_to(Path(self.directory).resolve()):  # a link that leads out
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """Show no folder."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Keep browsers from guessing types, telling other sites, and holding on to old data."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal shows the address, and that is enough."""


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder while the block runs, and give its address.

    Parameters
    ----------
    port
        0 takes any that is free.

    Raises
    ------
    ServeError
        If the port is taken or not allowed.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise ServeError(
            f"port {port} cannot be used: {error}. Another program may have it; choose another with --port, or "
            "--port 0 for any that is free."
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve(folder: Path, port: int, say: Callable[[str], None], *, open_browser: bool) -> None:
    """Serve a folder until Ctrl-C, or a request to end, comes.

    Parameters
    ----------
    say
        Called with the address, and at the end.
    open_browser
        Whether to open the address.
    """
    over = threading.Event()
    with serving(folder, port) as address:
        before = signal.signal(signal.SIGTERM, lambda *_: over.set())
        try:
            say(f"{address}  (Ctrl-C ends it)")
            if open_browser:
                webbrowser.open(address)
            while not over.wait(0.5):  # in turns: a wait without end would not see Ctrl-C on every system
                pass
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
    say("ended")
