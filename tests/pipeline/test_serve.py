"""The server: one folder, this machine, nothing else."""

import http.client
import os
import signal
import socket
import threading
import time

import pytest

from panelbook.pipeline.serve import ServeError, serve, serving


@pytest.fixture
def folder(tmp_path):
    """Return a folder to serve, beside a secret."""
    (tmp_path / "secret.txt").write_text("secret")
    site = tmp_path / "site"
    (site / "data").mkdir(parents=True)
    (site / "index.html").write_text("<p>hello</p>")
    (site / "explorer.js").write_text("1")
    (site / "explorer.css").write_text("p{}")
    (site / "data" / "index.js").write_text("2")
    (site / "notes.exe").write_text("x")
    (site / "out.txt").symlink_to(tmp_path / "secret.txt")
    return site


def ask(address, path="/", method="GET", **headers):
    """Return status, headers and body of one request; `host` replaces the Host header."""
    name, port = address.removeprefix("http://").rstrip("/").split(":")
    connection = http.client.HTTPConnection(name, int(port), timeout=5)
    connection.putrequest(method, path, skip_host=True)
    host = headers.pop("host", f"{name}:{port}")
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    found = {key.lower(): value for key, value in response.getheaders()}
    return response.status, found, response.read()


class TestServing:
    @pytest.mark.parametrize(
        ("path", "kind", "body"),
        [
            ("/", "text/html; charset=utf-8", b"<p>hello</p>"),
            ("/index.html?x=1", "text/html; charset=utf-8", b"<p>hello</p>"),
            ("/explorer.js", "text/javascript; charset=utf-8", b"1"),
            ("/explorer.css", "text/css; charset=utf-8", b"p{}"),
            ("/data/index.js", "text/javascript; charset=utf-8", b"2"),
            ("/notes.exe", "application/octet-stream", b"x"),
        ],
    )
    def test_files_have_their_type_and_are_not_guessed_at(self, folder, path, kind, body):
        with serving(folder) as address:
            status, headers, found = ask(address, path)
        assert (status, headers["content-type"], found) == (200, kind, body)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        "path",
        ["/data/", "/data", "/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/out.txt", "/absent"],
    )
    def test_no_listing_and_nothing_outside(self, folder, path):
        with serving(folder) as address:
            status, _, body = ask(address, path)
        assert status in (301, 404)
        assert b"secret\n" not in body
        assert b"index.js" not in body

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:80", "127.0.0.1", "", None, "127.0.0.1.evil:1"]
    )
    def test_a_request_by_another_name_gets_nothing(self, folder, host):
        with serving(folder) as address:
            status, _, body = ask(address, "/", host=host)
        assert status == 421
        assert b"hello" not in body

    def test_this_machine_may_also_be_called_localhost(self, folder):
        with serving(folder) as address:
            port = address.rstrip("/").rpartition(":")[2]
            assert ask(address, "/", host=f"localhost:{port}")[0] == 200

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_nothing_can_be_written(self, folder, method):
        with serving(folder) as address:
            assert ask(address, "/index.html", method)[0] == 501
        assert (folder / "index.html").read_text() == "<p>hello</p>"

    def test_it_listens_on_this_machine_alone_and_stops_when_told(self, folder):
        with serving(folder) as address:
            assert address.startswith("http://127.0.0.1:")
            port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)

    def test_a_port_in_use_is_said_so(self, folder):
        with serving(folder) as address:
            port = int(address.rstrip("/").rpartition(":")[2])
            with (
                pytest.raises(ServeError, match=rf"port {port} cannot be used: .*--port 0"),
                serving(folder, port),
            ):
                pass

    def test_it_writes_nothing_to_the_terminal(self, folder, capfd):
        with serving(folder) as address:
            ask(address, "/")
            ask(address, "/absent")
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_interrupted_having_said_where_it_was(folder, number, monkeypatch):
    said, opened = [], []
    monkeypatch.setattr("webbrowser.open", opened.append)
    # A shell that runs the tests in the background lets them ignore Ctrl-C, and this one would not end.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=lambda: (time.sleep(0.4), os.kill(os.getpid(), number)), daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    try:
        serve(folder, 0, said.append, open_browser=True)
    finally:
        signal.signal(signal.SIGINT, ours)
    assert said[0].startswith("http://127.0.0.1:")
    assert "Ctrl-C" in said[0]
    assert said[1:] == ["ended"]
    assert opened == [said[0].split()[0]]
    assert signal.getsignal(signal.SIGTERM) is before
