"""The server that the tests of this folder share, and clients of it."""

import importlib.metadata
import os
import signal
from collections.abc import Iterator

import pytest

from panelbook.engine.backbone import ABACUS

from .server import SDK_VERSION, Server, Unavailable, prepare


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server on the miniature; skip where this machine cannot run one."""
    installed = importlib.metadata.version("tinker")
    if installed != SDK_VERSION:
        pytest.skip(f"SkyRL 0.4.0 speaks with SDK {SDK_VERSION}, not {installed}; run `make tinker`.")
    try:
        environment = prepare()
    except Unavailable as reason:
        pytest.skip(str(reason))
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a killed run stops its server too
    try:
        with Server(environment, ABACUS, tmp_path_factory.mktemp("server")) as running:
            yield running
    finally:
        signal.signal(signal.SIGTERM, former)


@pytest.fixture(scope="session")
def environment(server: Server) -> Iterator[dict[str, str]]:
    """Point this process, and what it starts, to the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINKER_BASE_URL", server.url)
        patch.setenv("TINKER_API_KEY", "tml-no-secret")
        patch.setenv("TINKER_TELEMETRY", "0")
        yield dict(os.environ)
