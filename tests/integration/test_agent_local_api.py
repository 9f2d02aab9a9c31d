"""The local API and its client where the two sides meet at a bad moment, over a real socket."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.adapters import http_api
from edge_agent.adapters.http_api import LocalApi
from edge_agent.client import AgentClient, AgentError
from edge_agent.errors import SettingsError

Call = Callable[[AgentClient], Any]


async def _tell() -> bytes:
    return b'{"device": "press-07"}'


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[LocalApi]:
    """An API that knows its status and nothing else."""
    api = LocalApi(None, _tell)  # type: ignore[arg-type]
    await api.bind_unix(path)
    await api.serve()
    try:
        yield api
    finally:
        await api.close()


def test_an_application_that_paused_or_outlived_the_agent_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent ends a connection at rest, and all of them when it restarts; the next call is no error."""
    monkeypatch.setattr(http_api, "IDLE_TIMEOUT_S", 0.05)
    path = tmp_path / "agent.sock"

    async def scenario() -> None:
        with AgentClient(path) as application:
            async with serving(path):
                await asyncio.to_thread(application.status)
                await asyncio.sleep(0.2)
                await asyncio.to_thread(application.status)
            async with serving(path):
                assert await asyncio.to_thread(application.status) == {"device": "press-07"}

    asyncio.run(scenario())


def test_an_input_that_is_too_large_is_answered_so(tmp_path: Path) -> None:
    """It is refused before it has been read, and the client still sends it then: it must see the reason."""

    async def scenario() -> None:
        async with serving(tmp_path / "agent.sock"):
            with AgentClient(tmp_path / "agent.sock") as application:
                with pytest.raises(AgentError, match="at most 4194304 allowed") as refused:
                    await asyncio.to_thread(application.predict, np.zeros(2_000_000, np.float32))
                assert refused.value.status == 413
                await asyncio.to_thread(application.status)

    asyncio.run(scenario())


def test_nothing_else_runs_under_the_umask_of_the_socket(tmp_path: Path) -> None:
    """A child that is started meanwhile would make folders that it cannot enter."""
    seen: set[int] = set()

    async def watch() -> None:
        while True:
            os.umask(before := os.umask(0o022))
            seen.add(before)
            await asyncio.sleep(0)

    async def scenario() -> None:
        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        async with serving(tmp_path / "agent.sock"):
            assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o600
        watcher.cancel()

    asyncio.run(scenario())
    assert len(seen) == 1


def test_a_socket_replaces_one_that_is_left_and_nothing_else(tmp_path: Path) -> None:
    """A file is kept, whatever was meant by naming it; a place that cannot be is named with what to do."""
    path, file = tmp_path / "agent.sock", tmp_path / "notes"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    file.write_text("kept")

    async def scenario() -> None:
        async with serving(path):
            pass
        for place in (file, tmp_path / ("x" * 110)):
            with pytest.raises(SettingsError, match=f"{place.name}: .*name another place with --socket"):
                async with serving(place):
                    pass

    asyncio.run(scenario())
    assert file.read_text() == "kept"
