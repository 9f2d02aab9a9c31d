"""A live fleet in the hands of its operator: it joins, is rolled out to, loses its connections, and is looked at.

The hub is in this process, if it is ours; the devices are in processes of their own, so that their memory is theirs.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import func, select

from cloud.settings import Settings as HubSettings
from cloud.tables import slots
from simulator.live import broker
from simulator.live.device import Habits
from simulator.live.hub import LOOK_EVERY_S, MODEL, OverdueError, RealHub, free_port, operated, until
from simulator.live.settings import Settings
from simulator.live.worker import Command, Order
from simulator.live.workers import LimitError, Workers, addresses, raise_file_limit, shares, working
from wire.codec import decode, encode
from wire.errors import WireError
from wire.identity import Broker, ClaimFile

PREFIX = "live"
HUB_TIMEOUT_S = 30.0
PATIENT = {"waves": [{"percent": 100}], "step_timeout_s": 900.0, "total_timeout_s": 7200.0}
"""A rollout to everybody that gives up on nobody because one machine plays them all."""
ASK_EVERY_S = 0.25
"""How often the hub's database is asked how far a rollout is, at its own expense."""
Show = Callable[[str, int, int], None]
"""(what, how many, of how many)."""


class ClaimsError(Exception):
    """The claims cannot be used; says why."""


class Storm(NamedTuple):
    """How long it took from the moment at which all connections broke, in seconds."""

    back_s: float
    """Until all devices were back and, if it is ours, the hub knew."""
    met_s: float | None
    """Until all of them had told our hub again that nothing else is desired of them; None: the hub is another."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices at work."""

    settings: Settings
    workers: Workers
    hub: RealHub | None
    show: Show

    async def joined(self) -> float:
        """All have an identity and are connected; returns seconds. Raises OverdueError."""
        began = time.monotonic()
        await self._until("enrolled", lambda: self.workers.now.enrolled)
        await self._until("connected", lambda: self.workers.now.connected)
        return time.monotonic() - began

    async def roll_out(self, number: int) -> tuple[int, float]:
        """Bring version `number` of the model to everybody; returns (its number, seconds until the hub knew it).

        What the devices say of themselves is looked at after that: their processes tell only now and then.

        Raises OverdueError.
        """
        assert self.hub is not None
        version = await self.hub.publish_version(number, self.settings.model_bytes)
        began = time.monotonic()
        rollout = await self.hub.roll_out(version, {}, **PATIENT, max_in_flight=self.settings.in_flight)
        await self._until(f"version {version}", functools.partial(self.hub.committed, rollout), ASK_EVERY_S)
        await until("the hub has judged", functools.partial(self.hub.settled, rollout), self.settings.limit_s)
        seconds = time.monotonic() - began
        await self._until(
            f"found with version {version}", lambda: self.workers.now.running.get(f"{MODEL} {version}", 0)
        )
        return version, seconds

    async def storm(self) -> Storm:
        """Break all connections at once, and see everybody back. Raises OverdueError."""
        before, began = self.workers.now.connects, time.monotonic()
        since_ns = self.hub.context.clock.now_ns() if self.hub is not None else 0
        if self.hub is not None and not self.settings.broker:
            self.hub.kill_broker()
        else:
            await self.workers.command(Command(do="cut"))

        def back() -> int:
            now = self.workers.now
            return min(now.connected, now.connects - before)

        await self._until("back", back)
        if self.hub is None:
            return Storm(time.monotonic() - began, None)
        await self._until("the hub knows", self.hub.online)
        back_s = time.monotonic() - began
        await self._until("as desired", functools.partial(self.hub.met, since_ns))
        return Storm(back_s, time.monotonic() - began)

    async def lost(self, version: int) -> int:
        """Devices that do not run this version (0 = nothing was rolled out), or of which the hub does not know it."""
        now = self.workers.now
        if not version or self.hub is None:
            return self.settings.devices - now.connected
        query = select(func.count()).where(slots.c.model == MODEL, slots.c.version == version)
        known = await self.hub.look(lambda conn: conn.execute(query).scalar_one())
        return self.settings.devices - min(int(known), now.running.get(f"{MODEL} {version}", 0))

    async def _until(self, what: str, count: Callable[[], Any], every_s: float = LOOK_EVERY_S) -> None:
        async def all_of_them() -> bool:
            if self.workers.lost:
                raise OverdueError(self.workers.lost)
            seen = count()
            done = await seen if asyncio.iscoroutine(seen) else seen
            self.show(what, done, self.settings.devices)
            return bool(done >= self.settings.devices)

        await until(f"all devices are {what}", all_of_them, self.settings.limit_s, every_s)


@contextlib.asynccontextmanager
async def fleet(settings: Settings, directory: Path, hub: RealHub | None, show: Show) -> AsyncIterator[Fleet]:
    """Devices at work, of this hub or of the one that made the claims. Raises LimitError, ClaimsError."""
    path = Path(settings.claims) if hub is None else directory / "claims.jsonl"
    if hub is None:
        first = _first_claim(path, settings.devices)
    else:
        claims = await hub.claims(PREFIX, settings.devices)
        path.write_bytes(b"".join(encode(claim) + b"\n" for claim in claims))
        first = claims[0]
    async with working(_orders(settings, path, first)) as workers:
        yield Fleet(settings, workers, hub, show)


@contextlib.asynccontextmanager
async def own_hub(settings: Settings, directory: Path) -> AsyncIterator[RealHub]:
    """A hub with the broker that the settings ask for, at work.

    Raises:
        LimitError: the broker cannot hold so many. BrokerError, OverdueError: it does not come up.
    """
    data, ports = directory / "hub", (free_port(), free_port())
    if settings.broker:
        opened = operated(_hub_settings(data), broker.found(data, broker_at(settings.broker)))
    elif settings.transport == "mtls":
        raise_file_limit(settings.devices, "mosquitto", "or give --broker another one")
        opened = operated(_hub_settings(data, broker="mosquitto", broker_port=ports[0], broker_enrol_port=ports[1]))
    else:
        raise_file_limit(settings.devices, "mosquitto", "or give --broker another one")
        opened = operated(_hub_settings(data), broker.opened(data, ports))
    async with opened as (hub, work), _at_work(work):
        await _connected(hub)
        yield hub


async def _connected(hub: RealHub) -> None:
    """Return when the hub has its broker. Raises OverdueError, which says what is in the way."""
    link: Any = hub.context.link
    try:
        await until("the hub reaches its broker", lambda: link.connected, HUB_TIMEOUT_S)
    except OverdueError as error:
        raise OverdueError(f"{error}: {link.trouble or 'it does not answer'}") from error


def broker_at(url: str) -> Broker:
    """The broker of a URL. Raises LimitError."""
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname:
        raise LimitError(f"--broker {url!r}: mqtt://HOST:PORT is needed")
    return Broker(host=parts.hostname, port=parts.port or 1883)


@contextlib.asynccontextmanager
async def _at_work(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    working_hub = asyncio.create_task(work(), name="hub")
    try:
        yield
    finally:
        working_hub.cancel()
        await asyncio.gather(working_hub, return_exceptions=True)


def _hub_settings(data: Path, **others: Any) -> HubSettings:
    return HubSettings(data_dir=str(data), **others)


def _orders(settings: Settings, path: Path, claim: ClaimFile) -> list[Order]:
    """What each process is to hold. Raises LimitError."""
    per_process = -(-settings.devices // settings.processes)
    raise_file_limit(per_process, "a process of devices", "or more --processes")
    habits = Habits(
        keepalive_s=settings.keepalive_s,
        telemetry_interval_s=settings.telemetry_interval_s,
        predict_every_s=settings.predict_every_s,
    )
    loopback = claim.broker.host in ("localhost", broker.LOOPBACK)
    sources = addresses(settings.devices, settings.source_addresses, loopback=loopback)
    return [
        Order(
            claims=str(path.resolve()),
            first=first,
            count=count,
            habits=habits,
            source_addresses=sources,
            joining_at_once=settings.joining_at_once,
        )
        for first, count in shares(settings.devices, settings.processes)
    ]


def _first_claim(path: Path, devices: int) -> ClaimFile:
    """The first one; there have to be as many as devices. Raises ClaimsError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ClaimsError(f"--claims {path}: {error.strerror}") from error
    if len(lines) < devices:
        raise ClaimsError(f"--claims {path} holds {len(lines)} claims for {devices} devices")
    try:
        return decode(lines[0], ClaimFile)
    except WireError as error:
        raise ClaimsError(f"--claims {path}: {error}") from error
