"""The broker killed over and over during rollouts, reconnect storms, and revocation, on mosquitto with mutual TLS.

Everything is counted where it matters: what the hub's tables say against what the devices did. "Lost" is what a device
did or should have and the hub does not know or it does not have; "doubled" is what happened more often than ordered.
"""

import asyncio
import contextlib
import functools
import logging
import math
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
from sqlalchemy import select

from bench import ledger
from bench.mosquitto_devices import LeanDevice, RealDevice, lean_devices
from bench.mosquitto_fleet import OverdueError, RealHub, free_port, real_hub, until
from bench.result import Outcome, finish
from cloud.tables import devices
from wire.ports import Inbound

MODEL_BYTES = 300_000
CONVERGE_S = 240.0
HANDSHAKES_AT_ONCE = 64
"""Devices of one process share its threads for connecting; each of a real fleet has its own."""
UP_MOST_S = 0.8
"""The broker lives at most so long between two kills, counted from when the hub has reached it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    kills: Annotated[int, msgspec.Meta(description="how often the broker is killed during rollouts", ge=1)] = 100
    agents: Annotated[int, msgspec.Meta(description="devices that take part in the rollouts", ge=2)] = 8
    storms: Annotated[int, msgspec.Meta(description="how often all devices have to reconnect at once", ge=0)] = 20
    devices: Annotated[int, msgspec.Meta(description="lean devices that take part in the storms", ge=2)] = 1000
    watch_s: Annotated[float, msgspec.Meta(description="how long revoked devices go on trying, seconds", gt=0)] = 70.0
    seed: Annotated[int, msgspec.Meta(description="of the moments of the kills")] = 0
    short: Annotated[bool, msgspec.Meta(description="5 kills, one storm of 100 devices, 3 s of revoked devices")] = (
        False
    )
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Run everything; 1 when anything was lost, doubled, accepted or did not converge."""
    if shutil.which("mosquitto") is None:
        print("mosquitto is not installed: install the package of that name", file=sys.stderr)
        return 1
    if settings.short:
        settings = msgspec.structs.replace(settings, kills=5, agents=3, storms=1, devices=100, watch_s=3.0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.disable(logging.WARNING)  # a thousand links that say that they were cut
    try:
        with tempfile.TemporaryDirectory(prefix="fleetloop-") as directory:
            outcome = asyncio.run(_Proof(settings, Path(directory)).run())
    finally:
        logging.disable(logging.NOTSET)
    return finish(outcome, as_json=settings.json)


class _Proof:
    """One run, and what it has counted so far."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self._random = random.Random(settings.seed)
        self._agents: list[RealDevice] = []
        self._lean: list[LeanDevice] = []
        self._crashes: list[BaseException] = []
        self._troubles: list[str] = []
        self._figures: dict[str, Any] = {"transport": "mutual TLS (P-256)"}

    async def run(self) -> Outcome:
        """All three parts, one after the other."""
        began = time.monotonic()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(HANDSHAKES_AT_ONCE))
        async with real_hub(self._directory, (free_port(), free_port())) as hub, contextlib.AsyncExitStack() as stack:
            for claim in await hub.claims("agent", self._settings.agents):
                agent = RealDevice(claim)
                await stack.enter_async_context(agent.working(self._crashes.append))
                self._agents.append(agent)
            for part in (self._kills, self._storms, self._revocation):
                try:
                    await part(hub)
                except OverdueError as error:
                    self._troubles.append(str(error))
        self._figures |= {"crashes": len(self._crashes), "seconds": round(time.monotonic() - began, 1)}
        figures = {**self._figures, "troubles": self._troubles}
        return Outcome(figures, self._passed(figures))

    def _passed(self, figures: dict[str, Any]) -> bool:
        none = ("lost", "doubled", "revoked_accepted", "crashes")
        whole = figures.get("converged") == self._settings.storms * self._settings.devices
        return not self._troubles and whole and all(figures.get(name) == 0 for name in none)

    # Kills during rollouts.

    async def _kills(self, hub: RealHub) -> None:
        killing = asyncio.create_task(self._kill(hub))
        started: dict[str, int] = {}
        while not started or not killing.done():
            version = await hub.publish_version(len(started), MODEL_BYTES)
            rollout = await hub.roll_out(version, {})
            started[rollout] = version
            await until(f"rollout of version {version} ends", functools.partial(hub.settled, rollout), CONVERGE_S)
        await killing
        await self._count(hub, started)

    async def _kill(self, hub: RealHub) -> None:
        for _ in range(self._settings.kills):
            await until("the hub reaches its broker again", lambda: hub.context.link.connected, CONVERGE_S)
            await asyncio.sleep(self._random.uniform(0.0, UP_MOST_S))
            hub.kill_broker()
            await until("the hub notices", lambda: not hub.context.link.connected, CONVERGE_S)

    async def _count(self, hub: RealHub, started: dict[str, int]) -> None:
        await asyncio.gather(*(agent.rest() for agent in self._agents))
        done = lambda: hub.look(lambda conn: not any(ledger.uncounted(conn, self._agents)))  # noqa: E731
        with contextlib.suppress(OverdueError):  # what is missing is counted
            await until("everything that devices counted is known", done, CONVERGE_S)
        found = await hub.look(lambda conn: ledger.balance(conn, self._agents, len(started), max(started.values())))
        self._figures |= {
            "kills": hub.broker_kills,
            "rollouts": len(started),
            "installations": sum(count for agent in self._agents for count in agent.installer.tried.values()),
            "predictions": sum(agent.predictions for agent in self._agents),
            "lost": found.lost,
            "doubled": found.doubled,
        }

    # Reconnect storms.

    async def _storms(self, hub: RealHub) -> None:
        self._lean = await lean_devices(await hub.claims("lean", self._settings.devices))
        for one in self._lean:
            await one.link.start()
        self._figures |= {"storms": 0, "converged": 0, "storm_s": []}
        await until("all devices are there", lambda: self._all_back(hub, [0] * len(self._lean)), CONVERGE_S)
        for _ in range(self._settings.storms):
            began = time.monotonic()
            before = [len(one.ups) for one in self._lean]
            hub.kill_broker()
            try:
                await until("all devices are back", functools.partial(self._all_back, hub, before), CONVERGE_S)
            finally:
                self._figures["converged"] += sum(self._back(before))
            self._figures["storms"] += 1
            self._figures["storm_s"].append(round(time.monotonic() - began, 1))
        self._figures["peak_connects_per_s"] = _peak(self._lean)

    def _back(self, before: list[int]) -> list[bool]:
        """Which lean devices have come in more often than `before`?"""
        return [len(one.ups) > count for one, count in zip(self._lean, before, strict=True)]

    async def _all_back(self, hub: RealHub, before: list[int]) -> bool:
        """Have all of them, and does the hub know of everybody?"""
        return all(self._back(before)) and await hub.online() == len(self._lean) + len(self._agents)

    # Revocation.

    async def _revocation(self, hub: RealHub) -> None:
        """One that is connected, and one that comes back later; both go on trying with all they have."""
        live, late = self._lean[:2]
        await late.link.stop()
        heard: list[float] = []
        prefixes = tuple(f"{hub.context.topics.root}/up/{one.name}/" for one in (live, late))
        revoked = math.inf

        def note(message: Inbound) -> None:
            if message.topic.startswith(prefixes) and _is_presence(message):
                heard.append(time.monotonic())

        hub.tap(note)
        trying = asyncio.create_task(_keep_saying(live))
        await until("it is heard", lambda: bool(heard), CONVERGE_S)
        began = time.monotonic()
        for one in (live, late):
            await hub.api("POST", f"/devices/{one.name}/revoke", {"reason": "proof"})
        await until("its connection ends", lambda: not live.link.connected, 60)
        revoked = time.monotonic()
        boots = await hub.look(lambda conn: _boots(conn, (live.name, late.name)))
        while time.monotonic() < revoked + self._settings.watch_s:
            await asyncio.gather(_come_back(live), _come_back(late))
        trying.cancel()
        changed = await hub.look(lambda conn: _boots(conn, (live.name, late.name))) != boots
        self._figures |= {
            "revoked_cut_off_s": round(revoked - began, 2),
            "revoked_attempts": live.boot + late.boot,
            "revoked_accepted": sum(moment > revoked for moment in heard) + changed,
        }
        for one in self._lean:
            await one.link.stop()


def _is_presence(message: Inbound) -> bool:
    """Not the hub's own word that the device is gone."""
    return b'"online":true' in message.payload


async def _keep_saying(device: LeanDevice) -> None:
    while True:
        device.boot += 1
        await device.say()
        await asyncio.sleep(0.05)


async def _come_back(device: LeanDevice) -> None:
    """Start anew with the same certificate and say so at once."""
    link = device.new_link()
    await link.start()
    for _ in range(5):
        await asyncio.sleep(0.2)
        device.boot += 1
        await device.say(link)
    await link.stop()


def _boots(conn: Any, names: tuple[str, str]) -> list[Any]:
    query = select(devices.c.boot, devices.c.online, devices.c.seen_ns).where(devices.c.name.in_(names))
    return [tuple(row) for row in conn.execute(query.order_by(devices.c.name))]


def _peak(lean: list[LeanDevice]) -> int:
    """Most connections within one second."""
    seconds = Counter(int(moment) for one in lean for moment in one.ups)
    return max(seconds.values(), default=0)
