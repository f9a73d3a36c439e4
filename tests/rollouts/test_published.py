"""The published files: found, verified, fetched in part, and never taken for what they are not."""

import hashlib
import http.server
import re
import shutil
import socket
import threading
from pathlib import Path

import pytest

from panelbook.rollouts import published
from panelbook.rollouts.published import PublishedDataError, PublishedDataMissing, fetch, locate, verify

FILES = {
    "reports/a/summary.json": b'{"a": 1}\n' * 500,
    "reports/a/per_problem.jsonl": b'{"uid": "x"}\n' * 3000,
    "data/pool.jsonl": b'{"uid": "y"}\n' * 20,
}
NAMES = list(FILES)


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Pin three small files in place of the real ones and return this machine's empty cache folder."""
    monkeypatch.setattr(
        published, "registry", lambda: {name: digest(content) for name, content in FILES.items()}
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(published.ENVIRONMENT, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between pooch's attempts
    return published.cache_folder()


def write_files(folder: Path, names=NAMES) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class Server:
    """A web server on this machine that serves FILES under /tree/, and can be told to misbehave."""

    def __init__(self):
        self.requests: list[str] = []
        self.status: dict[str, int] = {}
        self.content: dict[str, bytes] = {}
        self.cut_after: dict[str, int] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.removeprefix("/tree/")
                outer.requests.append(name)
                if name in outer.status:
                    self.send_error(outer.status[name])
                    return
                body = outer.content.get(name, FILES[name])
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cut_after.get(name, len(body))])

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tree/"


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


class TestRegistry:
    def test_names_are_relative_and_hashes_are_whole(self):
        assert published.registry()
        for name, pinned in published.registry().items():
            assert not Path(name).is_absolute()
            assert ".." not in Path(name).parts
            assert re.fullmatch(r"[0-9a-f]{64}", pinned)

    def test_the_commit_is_pinned_in_the_address(self):
        assert re.fullmatch(r"[0-9a-f]{40}", published.COMMIT)
        assert published.COMMIT in published.BASE_URL
        assert published.BASE_URL.endswith("/")

    def test_one_hash_stands_for_all_and_changes_with_any(self, monkeypatch):
        before = published.registry_hash()
        changed = dict(published.registry())
        changed[next(iter(changed))] = "0" * 64
        monkeypatch.setattr(published, "registry", lambda: changed)
        assert published.registry_hash() != before

    @pytest.mark.published
    def test_the_files_here_are_the_pinned_ones(self, published_folder):
        verify(published_folder)


class TestLocate:
    def test_a_named_folder_with_every_file_is_used(self, small, monkeypatch, tmp_path):
        folder = write_files(tmp_path / "copy")
        monkeypatch.setenv(published.ENVIRONMENT, str(folder))
        assert locate() == folder

    def test_a_named_folder_wins_over_the_cache(self, small, monkeypatch, tmp_path):
        write_files(small)
        folder = write_files(tmp_path / "copy")
        monkeypatch.setenv(published.ENVIRONMENT, str(folder))
        assert locate() == folder

    def test_the_home_sign_is_understood(self, small, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_files(tmp_path / "copy")
        monkeypatch.setenv(published.ENVIRONMENT, "~/copy")
        assert locate() == tmp_path / "copy"

    def test_the_cache_is_used_when_no_folder_is_named(self, small):
        write_files(small)
        assert locate() == small

    def test_nothing_named_and_nothing_cached_is_missing_and_says_how_to_get_it(self, small):
        with pytest.raises(PublishedDataMissing, match=r"Run `panelbook fetch`, or set PANELBOOK_PUBLISHED"):
            locate()

    def test_a_named_folder_that_does_not_exist_is_an_error_and_not_merely_missing(self, small, monkeypatch):
        monkeypatch.setenv(published.ENVIRONMENT, "/nowhere/at/all")
        with pytest.raises(
            PublishedDataError, match=r"names /nowhere/at/all, which is not a folder"
        ) as error:
            locate()
        assert not isinstance(error.value, PublishedDataMissing)

    def test_a_named_file_is_no_folder(self, small, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("x", encoding="utf-8")
        monkeypatch.setenv(published.ENVIRONMENT, str(tmp_path / "file"))
        with pytest.raises(PublishedDataError, match="which is not a folder"):
            locate()

    def test_part_of_the_files_is_an_error_that_names_the_first_that_lacks(self, small):
        write_files(small, NAMES[:2])
        with pytest.raises(PublishedDataError, match=rf"{NAMES[2]} is missing from .*only part") as error:
            locate()
        assert not isinstance(error.value, PublishedDataMissing)

    @pytest.mark.parametrize("name", NAMES)
    def test_one_altered_byte_is_an_error_that_names_the_file_and_both_hashes(self, small, name):
        write_files(small)
        altered = FILES[name][:-1] + b" "
        (small / name).write_bytes(altered)
        with pytest.raises(PublishedDataError) as error:
            locate()
        for part in (
            name,
            digest(altered)[:12],
            digest(FILES[name])[:12],
            "Delete it and run `panelbook fetch`",
        ):
            assert part in str(error.value)

    def test_a_shortened_file_is_an_error(self, small):
        write_files(small)
        (small / NAMES[1]).write_bytes(FILES[NAMES[1]][:100])
        with pytest.raises(PublishedDataError, match=NAMES[1]):
            locate()

    @pytest.mark.published
    def test_the_real_files_with_one_altered_byte(self, published_copy, monkeypatch):
        monkeypatch.setenv(published.ENVIRONMENT, str(published_copy))
        assert locate() == published_copy
        name = "reports/token_efficiency/summary.json"
        text = (published_copy / name).read_text(encoding="utf-8")
        (published_copy / name).write_text(text.replace("1", "2", 1), encoding="utf-8")
        with pytest.raises(PublishedDataError, match=name):
            locate()


class TestFetch:
    def test_every_file_arrives_and_each_is_reported(self, small, server):
        told = []
        assert fetch(lambda *progress: told.append(progress), server.url) == small
        assert told == [(name, done, 3) for done, name in enumerate(NAMES, start=1)]
        assert files_in(small) == sorted(NAMES)
        assert locate() == small

    def test_what_is_there_is_not_asked_for_again(self, small, server):
        write_files(small, NAMES[:2])
        fetch(base_url=server.url)
        assert server.requests == [NAMES[2]]
        fetch(base_url=server.url)
        assert server.requests == [NAMES[2]]

    def test_a_damaged_file_is_fetched_again(self, small, server):
        write_files(small)
        (small / NAMES[0]).write_bytes(b"damaged")
        fetch(base_url=server.url)
        assert server.requests == [NAMES[0]]
        assert locate() == small

    def test_an_interrupted_download_goes_on_where_it_stopped(self, small, server):
        def interrupt(name, done, total):
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(interrupt, server.url)
        assert files_in(small) == sorted(NAMES[:2])
        with pytest.raises(PublishedDataError, match=NAMES[2]):
            locate()
        fetch(base_url=server.url)
        assert server.requests == NAMES
        assert locate() == small

    def test_a_connection_that_breaks_off_leaves_nothing_that_looks_finished(self, small, server):
        server.cut_after[NAMES[1]] = 1000
        with pytest.raises(PublishedDataError, match=rf"Could not fetch {NAMES[1]} of scasella/multi-model"):
            fetch(base_url=server.url)
        assert files_in(small) == [NAMES[0]]
        del server.cut_after[NAMES[1]]
        server.requests.clear()
        fetch(base_url=server.url)
        assert server.requests == NAMES[1:]
        assert locate() == small

    def test_a_file_with_another_hash_is_refused_and_not_kept(self, small, server):
        server.content[NAMES[1]] = b"something else"
        with pytest.raises(PublishedDataError, match=rf"{NAMES[1]} .*does not have the pinned SHA-256"):
            fetch(base_url=server.url)
        assert files_in(small) == [NAMES[0]]

    @pytest.mark.parametrize("status", [404, 429, 500, 503])
    def test_a_refusal_by_the_server_is_passed_on(self, small, server, status):
        server.status[NAMES[0]] = status
        with pytest.raises(PublishedDataError, match=rf"Could not fetch {NAMES[0]} .*{status}"):
            fetch(base_url=server.url)
        assert files_in(small) == []

    def test_without_a_connection_the_way_out_is_named(self, small):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with pytest.raises(PublishedDataError) as error:
            fetch(base_url=f"http://127.0.0.1:{port}/tree/")
        assert f"no connection to 127.0.0.1:{port}" in str(error.value)
        assert published.ENVIRONMENT in str(error.value)
        assert len(str(error.value)) < 500

    def test_a_cache_that_cannot_be_written_is_reported(self, small, server):
        small.parent.parent.mkdir(parents=True, exist_ok=True)
        small.parent.write_text("a file where the cache belongs", encoding="utf-8")
        with pytest.raises(PublishedDataError, match=NAMES[0]):
            fetch(base_url=server.url)

    def test_a_folder_named_by_the_reader_is_never_written(self, small, server, monkeypatch, tmp_path):
        folder = write_files(tmp_path / "copy", NAMES[:1])
        monkeypatch.setenv(published.ENVIRONMENT, str(folder))
        fetch(base_url=server.url)
        assert files_in(folder) == NAMES[:1]

    def test_a_copy_of_the_cache_serves_as_named_folder(self, small, server, monkeypatch, tmp_path):
        fetch(base_url=server.url)
        folder = Path(shutil.copytree(small, tmp_path / "carried"))
        shutil.rmtree(small)
        monkeypatch.setenv(published.ENVIRONMENT, str(folder))
        assert locate() == folder
