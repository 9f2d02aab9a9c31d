"""Steps that tests of the hub's services share, on top of `tests.worlds.hub_world`."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.windows import Window
from cloud.service import registry
from cloud.service import rollouts as rollout_service
from cloud.service.asks import Asks
from cloud.service.blobs import Blobs
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.hub import Hub
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.leadership import Leadership
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.service.parts import Intervals, Parts
from cloud.service.rollouts import NewRollout
from cloud.tables import devices, jobs, members, rollouts, signing_requests, stats
from simulator.fakes.store import InlineDeltas
from tests.worlds.hub_world import MODEL, ROOT, World, as_json
from wire.codec import encode
from wire.messages import ModelStats, Telemetry

WAVES = (Wave(count=1), Wave(percent=50), Wave(percent=100))


def hub(tmp_path: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario against a fresh hub."""

    async def run() -> None:
        async with World(tmp_path) as world:
            await scenario(world)

    asyncio.run(run())


async def released(world: World) -> None:
    """Version 1 is built and signed."""
    await world.train()
    await world.sign(await request_id(world))


async def request_id(world: World) -> str:
    """The newest signing request."""
    newest = select(signing_requests.c.id).order_by(signing_requests.c.created_ns.desc()).limit(1)
    return str(await world.store.read(lambda conn: conn.scalar(newest)))


async def train_order(world: World) -> None:
    """Queue a training job."""
    from cloud.service import jobs as job_service

    def add(conn: Any, now_ns: int) -> Any:
        registry.add_model(conn, MODEL, "watch", now_ns)
        return job_service.add(conn, world.ids.new(), "train", MODEL, {"workload": "watch", "seed": 0}, now_ns)

    await world.change(add)


async def roll_out(
    world: World,
    identity: str = "r1",
    waves: tuple[Wave, ...] = WAVES,
    window: Window | None = None,
    **selector: str,
) -> None:
    """Start a rollout of version 1; `window` is that for installing."""
    new = NewRollout(identity, MODEL, 1, "main", selector, None, Plan(waves, install_window=window))
    await world.change(lambda conn, now_ns: rollout_service.create(conn, new, "test", now_ns))


async def outcomes(world: World, rollout: str = "r1") -> dict[str, str | None]:
    """Device -> how its execution in the rollout ended."""
    query = select(members.c.device, members.c.outcome).where(members.c.rollout == rollout)
    return {row.device: row.outcome for row in await world.store.read(lambda conn: conn.execute(query).all())}


async def fleet(world: World, size: int) -> list[str]:
    """Enrolled devices and a released version."""
    names = [f"p{number:02}" for number in range(size)]
    for name in names:
        await world.enrol(name, arm="left" if name < "p02" else "right")
    await train_order(world)
    await released(world)
    return names


async def waiting(world: World, rollout: str = "r1") -> list[str]:
    """Devices that have been assigned and have not ended."""
    query = select(members.c.device).where(
        members.c.rollout == rollout, members.c.assigned_ns.is_not(None), members.c.outcome.is_(None)
    )
    return list(await world.store.read(lambda conn: conn.scalars(query.order_by(members.c.device)).all()))


async def quiet(world: World, seconds: int) -> None:
    """Time passes, the rollouts are looked after, and nobody says anything."""
    for _ in range(0, seconds, 20):
        world.clock.ns += 20 * 10**9
        await world.tick()


async def state(world: World, rollout: str = "r1") -> tuple[str, int, str]:
    """State, open wave and reason of a rollout."""
    query = select(rollouts.c.state, rollouts.c.wave, rollouts.c.reason).where(rollouts.c.id == rollout)
    row = await world.store.read(lambda conn: conn.execute(query).one())
    return row.state, row.wave, row.reason


async def refusal(world: World, device: str) -> str:
    """Why the hub refused the device's last message."""
    query = select(devices.c.last_refusal).where(devices.c.name == device)
    return str(await world.store.read(lambda conn: conn.scalar(query)))


def job_runner(world: World) -> Jobs:
    """Jobs of one kind."""
    kind = OptimizeJobs(world.store, world.objects, world.launcher, world.clock, world.ids)
    return Jobs(world.store, world.outbox, world.launcher, world.clock, {"train": kind})


async def job_state(world: World) -> tuple[str, int]:
    """State and attempts of the only job."""
    row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
    return row.state, row.attempts


def telemetry(seq: int, predictions: int, correct: int) -> bytes:
    """Counters of one variant."""
    one = ModelStats(
        model=MODEL,
        version=1,
        variant="int8",
        predictions=predictions,
        feedback=predictions,
        correct=correct,
        confidence_sum=0.9 * predictions,
        latency_us={40: predictions},
    )
    return encode(Telemetry(seq=seq, stats=(one,)))


async def counters(world: World, device: str) -> Any:
    """What the hub holds of the device's counters."""
    return await world.store.read(lambda conn: conn.execute(select(stats).where(stats.c.device == device)).one())


class Bells:
    """A scheduler whose alarms the test rings itself."""

    def __init__(self, scheduled: list[Callable[[], None]]) -> None:
        self._scheduled = scheduled

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Note the alarm."""
        self._scheduled.append(call)


def a_hub(world: World, scheduled: list[Callable[[], None]]) -> Hub:
    """The hub's services together; it starts listening when it runs."""
    parts = Parts(
        store=world.store,
        link=world.link,
        clock=world.clock,
        ids=world.ids,
        topics=ROOT,
        outbox=world.outbox,
        inbox=Inbox(world.store, world.outbox, world.clock, world.door),
        asks=Asks(world.store, world.link, world.clock, ROOT, {}, world.trust.looks()),
        blobs=Blobs(world.store, world.objects, world.link, ROOT),
        chunk_answers=ChunkAnswers(world.store, world.objects, world.link, world.clock, ROOT),
        deltas=Deltas(world.store, world.objects, InlineDeltas(), world.clock),
        jobs=Jobs(world.store, world.outbox, world.launcher, world.clock, {}),
        trust=world.trust,
        leadership=Leadership(world.store, world.clock, "hub", lease_s=10.0, alone=True),
    )
    return Hub(parts, Bells(scheduled), Intervals())


async def newest_after_report(world: World, device: str) -> dict[str, Any]:
    """The device's report of success, as plain values."""
    await world.report(device)
    return as_json(await newest(world, device))


async def newest(world: World, device: str) -> bytes:
    """Its newest report, as received."""
    query = select(devices.c.reported).where(devices.c.name == device)
    return bytes(await world.store.read(lambda conn: conn.scalar(query)) or b"")


async def row(world: World, device: str) -> dict[str, Any]:
    """Everything that a refused message must not change."""
    query = select(devices)
    found = await world.store.read(lambda conn: conn.execute(query.where(devices.c.name == device)).one())
    return {name: value for name, value in found._mapping.items() if "refus" not in name}
