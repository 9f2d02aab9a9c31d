"""Ten thousand agents as real sessions on one mosquitto: what one costs, how fast a rollout is, what a storm loses.

The measure is the broker's own: beside the rollout, as many bare clients fetch as many bytes, keeping and checking
nothing. Plain TCP; verdicts and digests that are the same for all are computed once per process.
"""

import asyncio
import logging
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psutil

from bench.bare_fetch import Fetch, Fetched, fetched
from bench.result import Outcome, finish
from simulator.live.fleet import Fleet, fleet, own_hub
from simulator.live.hub import OverdueError, RealHub
from simulator.live.report import MEMOISED, TRANSPORTS
from simulator.live.settings import Settings as Live
from simulator.live.workers import LimitError
from simulator.main import quiet_programs
from wire.release import ObjectRef, object_ref
from wire.topics import Topics
from wire.transfer.chunks import count, frames

log = logging.getLogger(__name__)

MAX_KB_PER_DEVICE = 40.0
MAX_RATIO = 3.0
BARE_AT_ONCE = 200
INSTALLING_AT_ONCE = 1_250
"""The hub tells 500 at a time, and those who were told together end together: while it judges one group and tells the
next, the others have something to do. Still more of them would take longer than it takes to have progress to report."""
LOG_EVERY_S = 10.0
REST_S, SHORT_REST_S = 10.0, 1.0
"""After which what a rollout needed has been given back."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    devices: Annotated[int, msgspec.Meta(description="how many sessions", ge=2)] = 10_000
    bytes: Annotated[int, msgspec.Meta(description="length of the object that is rolled out", ge=1)] = 1024 * 1024
    processes: Annotated[int, msgspec.Meta(description="how many processes hold the devices", ge=1)] = 1
    limit_s: Annotated[float, msgspec.Meta(description="how long each part may take", gt=0)] = 1800.0
    short: Annotated[bool, msgspec.Meta(description="100 devices and a smaller object; judges what is lost only")] = (
        False
    )
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """1 when a figure is missed or anything was lost; with a visible reason and 0 when there is no mosquitto."""
    if shutil.which("mosquitto") is None and shutil.which("/usr/sbin/mosquitto") is None:
        return finish(Outcome({"skipped": "mosquitto is not installed"}, passed=True), as_json=settings.json)
    if settings.short:
        settings = msgspec.structs.replace(settings, devices=100, bytes=128 * 1024, limit_s=60.0)
    with tempfile.TemporaryDirectory(prefix="fleetloop-") as directory, quiet_programs():
        try:
            figures = asyncio.run(_Proof(settings).run(Path(directory)))
        except (OverdueError, LimitError) as error:
            figures = {"trouble": str(error), "lost": settings.devices}
    return finish(Outcome(figures, _passed(settings, figures)), as_json=settings.json)


def _passed(settings: Settings, figures: dict[str, Any]) -> bool:
    """A hundred devices say nothing of what one of many costs, nor a second of what a minute takes."""
    whole = figures.get("connected") == settings.devices and not figures["lost"] and not figures["crashes"]
    if not whole or settings.short:
        return whole
    return bool(figures["kb_per_device"] <= MAX_KB_PER_DEVICE and figures["ratio_to_broker"] <= MAX_RATIO)


class _Proof:
    """One run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rest_s = SHORT_REST_S if settings.short else REST_S
        self._live = Live(
            devices=settings.devices,
            model_bytes=settings.bytes,
            processes=settings.processes,
            in_flight=INSTALLING_AT_ONCE,
            limit_s=settings.limit_s,
        )

    async def run(self, directory: Path) -> dict[str, Any]:
        """Bare clients, then devices: the broker has files for one such crowd at a time."""
        async with own_hub(self._live, directory) as hub:
            bare = await self._bare(hub)
            async with fleet(self._live, directory, hub, _Log()) as one:
                figures = await self._devices(one, hub, bare)
        return figures

    async def _bare(self, hub: RealHub) -> Fetched:
        data = random.Random(7).randbytes(self._settings.bytes)
        ref, endpoint = object_ref(data), hub.context.control.endpoint
        await _retain(hub, ref, frames(data))
        fetch = Fetch(ref=ref, port=endpoint.port, clients=self._settings.devices, at_once=BARE_AT_ONCE)
        try:
            return await fetched(fetch)
        finally:
            await _retain(hub, ref, (b"" for _ in range(count(ref.bytes))))

    async def _devices(self, one: Fleet, hub: RealHub, bare: Fetched) -> dict[str, Any]:
        joined_s = await one.joined()
        await asyncio.sleep(self._rest_s)
        at_rest = one.workers.now
        before_s, broker = time.process_time(), psutil.Process(_pid(hub))
        version, rollout_s = await one.roll_out(0)
        hub_cpu_s = time.process_time() - before_s
        await asyncio.sleep(self._rest_s)
        after = one.workers.now
        broker_rss_mb = broker.memory_info().rss / 1e6
        storm = await one.storm()
        await asyncio.sleep(self._rest_s)
        last = one.workers.now
        return {
            "devices": self._settings.devices,
            "connected": last.connected,
            "kb_per_device": round(max(after.kib_per_device, last.kib_per_device), 1),
            "kb_per_device_enrolled": round(at_rest.kib_per_device, 1),
            "kb_per_device_rolled_out": round(after.kib_per_device, 1),
            "kb_per_device_after_storm": round(last.kib_per_device, 1),
            "rollout_s": round(rollout_s, 1),
            "bare_s": round(bare.seconds, 1),
            "ratio_to_broker": round(rollout_s / bare.seconds, 2),
            "ratio_of_cpu": round((after.cpu_s - at_rest.cpu_s) / bare.cpu_s, 2),
            "storm_s": round(storm.back_s, 1),
            "met_s": round(storm.met_s or 0.0, 1),
            "lost": await one.lost(version),
            "crashes": list(last.crashes),
            "joined_s": round(joined_s, 1),
            "failed": dict(last.failed),
            "transport": TRANSPORTS["plain"],
            "memoised": MEMOISED,
            "judged": last.judged,
            "hashed": last.hashed,
            "processes": self._settings.processes,
            "bare_cpu_s": round(bare.cpu_s, 1),
            "devices_cpu_s": round(after.cpu_s - at_rest.cpu_s, 1),
            "hub_cpu_s": round(hub_cpu_s, 1),
            "broker_rss_mb": round(broker_rss_mb, 1),
            "received_mb": round(after.received_bytes / 1e6, 1),
            "load": round(os.getloadavg()[1], 1),
        }


async def _retain(hub: RealHub, ref: ObjectRef, payloads: Any) -> None:
    topics = Topics()
    for index, payload in enumerate(payloads):
        await hub.context.link.publish(topics.blob(ref.sha256, index), payload, retain=True)


def _pid(hub: RealHub) -> int:
    control: Any = hub.context.control
    pid: int = control.pid
    return pid


class _Log:
    """Says now and then how far it is: ten thousand take their time."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """A `Show`."""
        if time.monotonic() - self._said >= LOG_EVERY_S:
            self._said = time.monotonic()
            log.info("%s: %d of %d", what, done, total)
