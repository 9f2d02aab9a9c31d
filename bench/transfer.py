"""One object to many devices over mosquitto: the hub publishes it once, every device pulls it; beside bare readers.

Both ways run in turns, in as many processes, against the same broker, which keeps what the hub's own publisher
retained. What storing costs by itself is measured beside them, without a network: no device can do without.
"""

import asyncio
import itertools
import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, insert

from bench.mosquitto import Mosquitto, NoBrokerError, running
from bench.pull_process import Share, Taken, Way, together
from bench.result import Outcome, finish
from cloud.adapters.fsspec_objects import FsspecObjects
from cloud.core.rollout import Plan, RolloutState, Wave
from cloud.service import registry
from cloud.service.blobs import Blobs
from cloud.service.registry import Numbers
from cloud.tables import objects, rollouts, versions
from simulator.fakes.store import MemoryStore
from simulator.version import VARIANT, Files, build
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import ThreadOffload
from wire.codec import encode
from wire.identity import Broker
from wire.release import ObjectRef, object_ref
from wire.topics import Topics
from wire.transfer.chunks import count

MAX_RATIO = 1.5
MAX_OVERHEAD = 1.05
MODEL = "bench"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    devices: Annotated[int, msgspec.Meta(description="how many devices pull the object", ge=1)] = 1000
    bytes: Annotated[int, msgspec.Meta(description="length of the object", ge=1)] = 4 * 1024 * 1024
    loss: Annotated[float, msgspec.Meta(description="share of chunks lost at the device", ge=0, lt=1)] = 0.02
    at_once: Annotated[int, msgspec.Meta(description="devices that pull at the same time", ge=1)] = 200
    processes: Annotated[int, msgspec.Meta(description="that the devices share; 0 = one for each core", ge=0)] = 0
    rounds: Annotated[int, msgspec.Meta(description="how often each way runs, in turns", ge=1)] = 2
    dir: Annotated[str, msgspec.Meta(description="directory of the devices; its file system is reported")] = ""
    short: Annotated[bool, msgspec.Meta(description="40 devices and a smaller object, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


@dataclass
class Round:
    """Totals of one way over all rounds."""

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    broker_cpu_s: float = 0.0
    taken: list[Taken] = field(default_factory=list)

    def total(self, name: str) -> float:
        """The sum of one figure over all who pulled."""
        return sum(getattr(one, name) for one in self.taken)

    def operations(self) -> Counter[str]:
        """Of the disks, by name."""
        return sum((Counter(one.operations) for one in self.taken), Counter())

    def busy_s(self) -> Counter[str]:
        """Time in the operations of the disks, over all threads."""
        return sum((Counter(one.busy_s) for one in self.taken), Counter())


def run(settings: Settings) -> int:
    """1 when the promise was not kept; with a visible reason and 0 when there is no mosquitto."""
    if settings.short:
        settings = msgspec.structs.replace(settings, devices=40, bytes=2 * 1024 * 1024, rounds=1)
    with tempfile.TemporaryDirectory(dir=settings.dir or None, prefix="fleetloop-bench-") as name:
        directory = Path(name)
        try:
            with running(directory) as broker:
                figures = asyncio.run(_measure(settings, directory, broker))
        except NoBrokerError as error:
            return finish(Outcome({"skipped": str(error)}, passed=True), as_json=settings.json)
    return finish(Outcome(figures, passed=_kept(settings, figures)), as_json=settings.json)


def _kept(settings: Settings, figures: dict[str, Any]) -> bool:
    """A ratio of two runs of a fraction of a second says little, so the short version does not judge it."""
    return bool(
        figures["completed"] == settings.devices * settings.rounds
        and figures["hub_publishes"] == figures["chunks"]
        and figures["delivered_over_needed"] <= MAX_OVERHEAD
        and (settings.short or figures["ratio_to_bare"] <= MAX_RATIO)
    )


async def _measure(settings: Settings, directory: Path, broker: Mosquitto) -> dict[str, Any]:
    topics = Topics()
    data = random.Random(7).randbytes(settings.bytes)
    ref = object_ref(data)
    publishes = await _publish(data, topics, directory, broker.broker.port)
    shares = _shares(settings, ref, broker.broker.port, directory)
    bare, device, stored = Round(), Round(), Round()
    for _ in range(settings.rounds):
        for total, way in ((bare, Way.BARE), (device, Way.DEVICE), (stored, Way.STORE)):
            await _add(total, [msgspec.structs.replace(share, way=way) for share in shares], broker)
    pulled = settings.rounds * settings.devices
    operations, busy_s = device.operations(), device.busy_s()
    return {
        "devices": settings.devices,
        "processes": len(shares),
        "bytes": settings.bytes,
        "loss": settings.loss,
        "rounds": settings.rounds,
        "chunks": count(settings.bytes),
        "hub_publishes": publishes[ref.sha256],
        "completed": device.total("completed"),
        "delivered_over_needed": round(device.total("delivered") / (pulled * count(settings.bytes)), 4),
        "ratio_to_bare": round(device.seconds / bare.seconds, 3),
        "floor_to_bare": round((bare.seconds + stored.seconds) / bare.seconds, 3),
        "seconds": round(device.seconds / settings.rounds, 2),
        "bare_seconds": round(bare.seconds / settings.rounds, 2),
        "store_seconds": round(stored.seconds / settings.rounds, 2),
        "client_cpu_s": round(device.client_cpu_s / settings.rounds, 2),
        "bare_client_cpu_s": round(bare.client_cpu_s / settings.rounds, 2),
        "store_cpu_s": round(stored.client_cpu_s / settings.rounds, 2),
        "broker_cpu_s": round(device.broker_cpu_s / settings.rounds, 2),
        "bare_broker_cpu_s": round(bare.broker_cpu_s / settings.rounds, 2),
        "broker_rss_mb": round(broker.rss_mb()),
        "asked_hub": device.total("asked_hub"),
        "fsyncs": operations["fsync"] + operations["fsync_dir"],
        "fsync_s": round(busy_s["fsync"] + busy_s["fsync_dir"], 2),
        "disk_busy_s": {name: round(seconds, 2) for name, seconds in sorted(busy_s.items())},
        "filesystem": _filesystem(directory),
    }


def _shares(settings: Settings, ref: ObjectRef, port: int, directory: Path) -> list[Share]:
    """The devices, spread over processes."""
    number = min(settings.processes or os.cpu_count() or 1, settings.devices)
    ends = [settings.devices * part // number for part in range(number + 1)]
    return [
        Share(
            ref=ref,
            port=port,
            first=first,
            devices=end - first,
            loss=settings.loss,
            at_once=max(1, settings.at_once // number),
            directory=str(directory),
        )
        for first, end in itertools.pairwise(ends)
    ]


async def _add(total: Round, shares: list[Share], broker: Mosquitto) -> None:
    broker_s = broker.cpu_s()
    seconds, taken = await together(shares)
    total.seconds += seconds
    total.client_cpu_s += sum(one.cpu_s for one in taken)
    total.broker_cpu_s += broker.cpu_s() - broker_s
    total.taken += taken


class _CountingLink(MqttLink):
    """The hub's connection; counts what it publishes of each object."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        super().__init__(broker, Credentials("hub", "unused"))
        self.published: dict[str, int] = {}

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish and count."""
        await super().publish(topic, payload, retain=retain)
        sha256 = topic.split("/")[-2]
        self.published[sha256] = self.published.get(sha256, 0) + 1


async def _publish(data: bytes, topics: Topics, directory: Path, port: int) -> dict[str, int]:
    """The hub's own publisher retains what an active rollout of `data` needs; digest -> publishes."""
    offload, store = ThreadOffload(1, "files"), MemoryStore()
    kept = FsspecObjects(str(directory / "objects"), offload)
    link, up = _CountingLink(Broker(host="127.0.0.1", port=port), topics), asyncio.Event()
    link.on_up = up.set
    try:
        files = Files(parent=data, model=data, golden=b"golden", parameters=b"parameters")
        built = build(MODEL, Numbers(1, 1), files, "bench")
        document = encode(built.release)
        for content in (*files.all(), document):
            await kept.put(content)
        await store.write(lambda conn: _enter(conn, built, object_ref(document)))
        await link.start()
        await up.wait()
        await Blobs(store, kept, link, topics).sync()
    finally:
        await link.stop()
        offload.close()
        store.close()
    return link.published


def _enter(conn: Connection, built: registry.Built, release: ObjectRef) -> None:
    """A released version and a rollout that runs."""
    registry.add_model(conn, MODEL, "none", 0)
    registry.enter(conn, built, 0)
    conn.execute(insert(objects).values(sha256=release.sha256, bytes=release.bytes, created_ns=0))
    conn.execute(versions.update().values(release_ref=msgspec.to_builtins(release)))
    plan = msgspec.to_builtins(Plan((Wave(percent=100),))) | {"variant": VARIANT}
    row = {"id": "r1", "model": MODEL, "version": 1, "slot": "main", "selector": {}, "plan": plan}
    state = {"state": RolloutState.RUNNING, "wave": 0, "evidence": {}, "created_ns": 0, "updated_ns": 0}
    conn.execute(insert(rollouts).values(**row, **state))


def _filesystem(directory: Path) -> str:
    """Its type, from the mount table (Linux); "unknown" elsewhere."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = str(directory.resolve())
    holding = [mount for mount in mounts if path == mount[1] or path.startswith(mount[1].rstrip("/") + "/")]
    return max(holding, key=lambda mount: len(mount[1]))[2] if holding else "unknown"
