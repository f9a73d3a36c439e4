"""The published study's tracked files: where they are, and whether they are what they should be.

The project commits names and hashes, never the files. They come from a local folder named by
`PANELBOOK_PUBLISHED`, or from `panelbook fetch`, which downloads the pinned commit with pooch into the
user's cache. Every file is checked against its SHA-256 before anything reads it.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from panelbook.errors import BookError

REPOSITORY = "scasella/multi-model"
COMMIT = "a1ebbfce8a24aa6c3d16be45e0e26c33e5038ea7"
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
ENVIRONMENT = "PANELBOOK_PUBLISHED"


class PublishedDataError(BookError, ValueError):
    """A published file is absent, damaged, or not of the shape that its reader expects."""


class PublishedDataMissing(PublishedDataError):
    """The files are not on this machine. The book is built without the chapters that need them."""


@functools.cache
def registry() -> Mapping[str, str]:
    """Return the pinned files: path in the repository -> SHA-256 in hex."""
    text = (
        resources.files("panelbook.rollouts").joinpath("published_registry.txt").read_text(encoding="utf-8")
    )
    return dict(line.split() for line in text.splitlines() if line)


def registry_hash() -> str:
    """Return one SHA-256 for the whole set of files: the data hash in the book's footer."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(registry().items()))
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Return where `fetch` puts the files: one folder per pinned commit, below the user's cache."""
    import pooch  # deferred: it is slow to import and most commands do not need it

    return Path(pooch.os_cache("panelbook")) / COMMIT


def locate() -> Path:
    """Return the folder that holds the published files, every one of them verified.

    Raises
    ------
    PublishedDataMissing
        If no folder is named and the cache holds none of the files.
    PublishedDataError
        If a named folder does not exist, or a file is absent or does not have its pinned hash.
    """
    named = os.environ.get(ENVIRONMENT)
    folder = Path(named).expanduser() if named else cache_folder()
    if named and not folder.is_dir():
        raise PublishedDataError(
            f"{ENVIRONMENT} names {named}, which is not a folder. Correct it, or unset it."
        )
    if not folder.is_dir() or not any((folder / name).is_file() for name in registry()):
        raise PublishedDataMissing(
            f"The published study's files are not in {folder}. Run `panelbook fetch`, or set {ENVIRONMENT} to a copy."
        )
    verify(folder)
    return folder


def verify(folder: Path) -> None:
    """Check that `folder` holds every file with its pinned hash.

    Raises
    ------
    PublishedDataError
        Naming the first file that is absent or altered.
    """
    for name, expected in registry().items():
        path = folder / name
        if not path.is_file():
            raise PublishedDataError(
                f"{name} is missing from {folder}, which holds only part of the published files. "
                "Run `panelbook fetch` to complete them."
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise PublishedDataError(
                f"{name} in {folder} is not the published file: its SHA-256 is {found[:12]}…, pinned is "
                f"{expected[:12]}…. Delete it and run `panelbook fetch`."
            )


def fetch(
    on_file: Callable[[str, int, int], None] = lambda name, done, total: None, base_url: str = BASE_URL
) -> Path:
    """Download what is missing or damaged in the cache, verified, and return the folder.

    Each file is written under a temporary name and renamed once its hash is right, so an interrupted
    download leaves nothing that looks finished; running it again fetches only the rest.

    Parameters
    ----------
    on_file
        Called with (name, files finished, files in all).
    base_url
        Where the pinned tree is served from.

    Raises
    ------
    PublishedDataError
        If a file cannot be downloaded or arrives with another hash.
    """
    import pooch
    import requests  # what pooch downloads with

    folder = cache_folder()
    source = pooch.create(path=folder, base_url=base_url, registry=dict(registry()), retry_if_failed=2)
    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(timeout=20)
    for done, name in enumerate(registry(), start=1):
        try:
            source.fetch(name, downloader=downloader)
        except requests.ConnectionError:
            raise _fetch_error(name, f"no connection to {urlsplit(base_url).netloc}") from None
        except OSError as error:  # a refusal by the server, or a full disk
            raise _fetch_error(name, str(error)) from None
        except ValueError:
            raise _fetch_error(name, "what arrived does not have the pinned SHA-256") from None
        on_file(name, done, len(registry()))
    return folder


def _fetch_error(name: str, why: str) -> PublishedDataError:
    return PublishedDataError(
        f"Could not fetch {name} of {REPOSITORY}: {why}. Run `panelbook fetch` when you are online, "
        f"or set {ENVIRONMENT} to a folder with a copy of the files."
    )
