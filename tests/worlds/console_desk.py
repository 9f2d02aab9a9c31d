"""A hub that answers, and somebody who types commands and reads what they print."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.tables import signing_requests
from fleetloop.cli import main
from fleetloop.console.exits import Exit
from tests.servers.live_server import serving
from tests.worlds.api_world import ROLES, app_of
from tests.worlds.hub_world import MODEL, World, add_key


@dataclass
class Desk:
    """A hub that answers, and somebody who types."""

    world: World
    url: str
    directory: Path
    capture: pytest.CaptureFixture[str]

    def type(self, *words: str, role: str = "admin", url: str = "") -> int:
        """Run `fleetloop WORDS`."""
        key = self.directory / f"{role}.key"
        return main([*words, "--url", url or self.url, "--api-key-file", str(key)])

    def ask(self, *words: str) -> Any:
        """The JSON that a command prints."""
        self.capture.readouterr()
        assert self.type(*words, "--json") == Exit.DONE
        return json.loads(self.capture.readouterr().out)


@contextmanager
def desk_in(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A fresh hub with a device, and a key file for each role; commands that follow something look often."""
    monkeypatch.setattr("fleetloop.console.following.AGAIN_S", 0.05)
    world = World(tmp_path)

    async def quick(ns: int) -> None:
        await asyncio.sleep(0.02)

    async def prepare() -> None:
        await world.__aenter__()
        await world.enrol("p01", hall="3")
        for role in ROLES:
            await add_key(world, f"flk_{role}", role)
            (tmp_path / f"{role}.key").write_text(f"flk_{role}\n")

    asyncio.run(prepare())
    world.clock.sleep = quick  # type: ignore[method-assign]
    with serving(app_of(world)) as url:
        yield Desk(world, url, tmp_path, capsys)
    asyncio.run(world.__aexit__())


def heard(desk: Desk, word: str) -> None:
    """Wait until a command that runs has said this."""
    said, deadline = "", time.monotonic() + 30
    while word not in said:
        assert time.monotonic() < deadline, said
        said += "".join(desk.capture.readouterr())
        time.sleep(0.02)


def release(desk: Desk) -> None:
    """Version 1 of the model is there and signed."""
    assert desk.type("models", "train", MODEL, "--workload", "watch") == Exit.DONE

    async def go_on() -> None:
        await desk.world.train()
        (request,) = await desk.world.store.read(_requests)
        await desk.world.sign(request)

    asyncio.run(go_on())
    desk.capture.readouterr()


def _requests(conn: Any) -> list[str]:
    return list(conn.execute(select(signing_requests.c.id)).scalars())
