"""Two hubs on one PostgreSQL, killed and paused over and over while they roll out versions to agents.

Killed: SIGKILL at random moments, most often the leader. Paused: SIGSTOP of the leader until the other one has taken
over, then SIGCONT: what it was about to do, it must not do any more. "Lost" is what a device did or should have and the
database does not know; "doubled" is what happened more often than ordered: a wave, an assignment, an installation, a
prediction.
"""

import asyncio
import contextlib
import functools
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
from sqlalchemy import select

from bench import ledger
from bench.mosquitto_devices import RealDevice
from bench.mosquitto_fleet import OverdueError, RealHub, free_port, operated, until
from bench.postgres_server import installed, postgres_server
from bench.replicas import Replica, beside, external_mosquitto
from bench.result import Outcome, finish
from cloud.settings import Settings as HubSettings
from cloud.tables import leadership

MODEL_BYTES = 100_000
CONVERGE_S = 600.0
QUIET_S = 120.0
"""Nothing came for so long, twice what a device waits at most before it repeats itself: what is missing is lost."""
NAMES = ("a", "b")
UP_MOST_S = 1.0
"""A hub lives at most so long between two kills."""
LEADER_SHARE = 0.7
"""Of the kills, at least."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    kills: Annotated[int, msgspec.Meta(description="how often a hub is killed during rollouts", ge=1)] = 1000
    pauses: Annotated[int, msgspec.Meta(description="how often the leader is paused beyond its lease", ge=0)] = 100
    agents: Annotated[int, msgspec.Meta(description="devices that take part in the rollouts", ge=2)] = 6
    lease_s: Annotated[float, msgspec.Meta(description="seconds that a lease lasts", ge=0.5)] = 1.0
    seed: Annotated[int, msgspec.Meta(description="of the moments of the kills")] = 0
    short: Annotated[bool, msgspec.Meta(description="4 kills, 1 pause, 3 agents")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Run it; 1 when anything was lost, doubled, or did not converge, or when a program is missing."""
    if shutil.which("mosquitto") is None or not installed():
        print("mosquitto and PostgreSQL are needed: install the packages mosquitto and postgresql", file=sys.stderr)
        return 1
    if settings.short:
        settings = msgspec.structs.replace(settings, kills=4, pauses=1, agents=3)
    logging.disable(logging.WARNING)  # links that say that they were cut
    try:
        with tempfile.TemporaryDirectory(prefix="fleetloop-") as directory, postgres_server() as server:
            outcome = asyncio.run(_Proof(settings, Path(directory), server.database()).run())
    finally:
        logging.disable(logging.NOTSET)
    return finish(outcome, as_json=settings.json)


class _Proof:
    """One run, and what it has counted so far."""

    def __init__(self, settings: Settings, directory: Path, database: str) -> None:
        self._settings = settings
        self._random = random.Random(settings.seed)
        self._operator = HubSettings(
            data_dir=str(directory / "operator"),
            database_url=database,
            replica="operator",
            lease_s=settings.lease_s,
            broker="external",
            broker_port=free_port(),
            broker_enrol_port=free_port(),
        )
        self._replicas: list[Replica] = []
        self._agents: list[RealDevice] = []
        self._crashes: list[BaseException] = []
        self._troubles: list[str] = []
        self._rollouts: dict[str, int] = {}
        self._done = {"kills": 0, "leader_kills": 0, "pauses": 0, "ended_by_themselves": 0}

    async def run(self) -> Outcome:
        """Everything; the operator's own hub serves the API and never leads."""
        began = time.monotonic()
        async with operated(self._operator) as (hub, _), contextlib.AsyncExitStack() as stack:
            self._replicas = [Replica(beside(self._operator, name)) for name in NAMES]
            await stack.enter_async_context(external_mosquitto(self._operator, [one.holder for one in self._replicas]))
            for one in self._replicas:
                one.start()
                stack.callback(one.kill)
            for claim in await hub.claims("agent", self._settings.agents):
                agent = RealDevice(claim)
                await stack.enter_async_context(agent.working(self._crashes.append))
                self._agents.append(agent)
            try:
                await self._work(hub)
            except OverdueError as error:
                self._troubles.append(str(error))
            figures = await self._count(hub)
        figures |= {"crashes": len(self._crashes), "seconds": round(time.monotonic() - began, 1)}
        passed = not self._troubles and not any(
            figures[name] for name in ("lost", "doubled", "crashes", "ended_by_themselves")
        )
        return Outcome({**figures, "troubles": self._troubles}, passed)

    async def _work(self, hub: RealHub) -> None:
        """Rollouts for as long as there is trouble, and the last one in peace."""
        trouble = asyncio.create_task(self._trouble(hub))
        try:
            while not self._rollouts or not trouble.done():
                version = await hub.publish_version(len(self._rollouts), MODEL_BYTES)
                rollout = await hub.roll_out(version, {})
                self._rollouts[rollout] = version
                what = f"rollout of version {version} ends"
                await until(what, functools.partial(hub.settled, rollout), CONVERGE_S)
            await trouble
        finally:
            trouble.cancel()

    async def _trouble(self, hub: RealHub) -> None:
        kinds = ["kill"] * self._settings.kills + ["pause"] * self._settings.pauses
        self._random.shuffle(kinds)
        for kind in kinds:
            await asyncio.sleep(self._random.uniform(0.0, UP_MOST_S))
            for one in filter(Replica.died, self._replicas):  # as a supervisor does
                self._done["ended_by_themselves"] += 1
                one.start()
            await (self._kill(hub) if kind == "kill" else self._pause(hub))

    async def _kill(self, hub: RealHub) -> None:
        leader = await self._leader(hub)
        aimed = leader is not None and self._random.random() < LEADER_SHARE
        victim = leader if aimed and leader is not None else self._random.choice(self._replicas)
        victim.kill()
        victim.start()
        self._done["kills"] += 1
        self._done["leader_kills"] += victim is leader

    async def _pause(self, hub: RealHub) -> None:
        """Until another hub leads, and a little longer."""
        paused = None
        while paused is None:
            await asyncio.sleep(0.05)
            paused = await self._leader(hub)
        paused.pause()
        try:
            await until("another hub leads", lambda: self._other_leads(hub, paused), CONVERGE_S)
            await asyncio.sleep(self._random.uniform(0.0, self._settings.lease_s))
        finally:
            paused.resume()
        self._done["pauses"] += 1

    async def _other_leads(self, hub: RealHub, paused: Replica) -> bool:
        return await self._leader(hub) not in (None, paused)

    async def _leader(self, hub: RealHub) -> Replica | None:
        holder = await hub.look(lambda conn: conn.scalar(select(leadership.c.holder)))
        return next((one for one in self._replicas if one.holder == holder), None)

    async def _drained(self, hub: RealHub) -> None:
        """Until the hubs know all that devices have counted, or learn no more: on a busy machine it takes a while."""
        missing, changed = -1, time.monotonic()
        while missing and time.monotonic() - changed < QUIET_S:
            await asyncio.sleep(0.2)
            now = await hub.look(lambda conn: sum(map(abs, ledger.uncounted(conn, self._agents))))
            if now != missing:
                missing, changed = now, time.monotonic()

    async def _count(self, hub: RealHub) -> dict[str, Any]:
        await asyncio.gather(*(agent.rest() for agent in self._agents))
        await self._drained(hub)
        newest = max(self._rollouts.values(), default=0)
        found = await hub.look(lambda conn: ledger.balance(conn, self._agents, len(self._rollouts), newest))
        return {
            **self._done,
            "terms": await hub.look(lambda conn: conn.scalar(select(leadership.c.term))),
            "rollouts": len(self._rollouts),
            "installations": sum(sum(agent.installer.tried.values()) for agent in self._agents),
            "predictions": sum(agent.predictions for agent in self._agents),
            "lost": found.lost,
            "doubled": found.doubled,
        }
