"""One tick of a running rollout on a cold database: it takes 5,000 reports, judges the wave and starts the next one.

The database is written for the purpose: every device enrolled, with a report and a desired document of its own, one
rollout over all of them, and a first wave of 5,000 devices that are in flight. A new process opens it, takes the
reports in one batch as the inbox hands them over, and ticks. The same with fewer devices shows how the time grows.
"""

import asyncio
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, event, insert, select, update

from bench.postgres_server import PostgresServer, installed
from bench.result import Outcome, finish
from cloud.adapters.postgres_store import PostgresStore
from cloud.adapters.sql_store import SqlStore
from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.members import Status
from cloud.garbage import set_aside_what_stays
from cloud.service import ingest, registry, rollouts
from cloud.service.enrolment import Door
from cloud.service.ingest import Received
from cloud.service.registry import Numbers
from cloud.service.rollouts import NewRollout
from cloud.service.rollouts.ledger import recount
from cloud.service.rollouts.plans import rollout_row
from cloud.tables import devices, members, objects, rollout_waves, versions
from cloud.tables import rollouts as rollout_table
from simulator.version import VARIANT, Files, build
from wire.adapters.keys import SigningKey
from wire.adapters.system import SystemIds
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.messages import Capabilities, GoldenResult, Installed, Phase, Reported, SlotReport
from wire.messages import Outcome as Ended
from wire.release import Release, object_ref
from wire.topics import Topics

MODEL = "watch"
SECOND = 10**9
LIMIT_S = 2.0
SMALLER = 0.01
"""Share of the devices in the first run, which the growth is measured from."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    devices: Annotated[int, msgspec.Meta(description="devices in the rollout", ge=1000)] = 100_000
    reports: Annotated[int, msgspec.Meta(description="devices of the first wave, all of which report", ge=1)] = 5_000
    short: Annotated[bool, msgspec.Meta(description="3,000 devices, 200 reports, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """1 when the tick took longer than 2 s, something was lost, or it grows faster than the number of devices."""
    if settings.short:
        settings = msgspec.structs.replace(settings, devices=3_000, reports=200)
    few = max(1_000, int(settings.devices * SMALLER))
    small = _measured(few, min(settings.reports, few // 2), "")
    large = _measured(settings.devices, settings.reports, "")
    growth = large["tick_s"] / small["tick_s"]
    figures = {"devices": settings.devices, **large, "small": small, "growth": round(growth, 2)}
    quick = large["tick_s"] < LIMIT_S and growth <= settings.devices / few
    passed = large["correct"] and (quick or settings.short)  # a fraction of a second says little
    figures["postgresql"] = _on_postgres(settings)
    return finish(Outcome(figures, passed=passed and figures["postgresql"].get("correct", True)), as_json=settings.json)


def _on_postgres(settings: Settings) -> dict[str, Any]:
    """The same there, where a server can be started."""
    if not installed():
        return {"skipped": "PostgreSQL is not installed (package postgresql)"}
    server = PostgresServer()
    try:
        return _measured(settings.devices, settings.reports, server.database())
    finally:
        server.stop()


def _measured(number: int, reports: int, url: str) -> dict[str, Any]:
    """Build the database here, tick in a process of its own: nothing of it is warm there. `url` "": SQLite."""
    with tempfile.TemporaryDirectory(prefix="fleetloop-tick-") as folder:
        path = Path(folder)
        asyncio.run(_build(path, url, number, reports))
        if url:
            _settle(url)
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_tick, args=(path, url, sender))
        child.start()
        sender.close()
        figures: dict[str, Any] = receiver.recv()
        child.join()
        return figures


def _settle(url: str) -> None:
    """A server that has just been given 200,000 rows cleans up after that for a minute: done before, not beside it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _store(folder: Path, url: str) -> SqlStore | PostgresStore:
    """A database that is patient: it is filled in few, long transactions."""
    return PostgresStore(url, idle_limit_s=600.0) if url else SqlStore(folder / "hub.sqlite")


async def _build(folder: Path, url: str, number: int, reports: int) -> None:
    store = _store(folder, url)
    await store.open()
    try:
        release = await store.write(_enter_version)
        await store.write(lambda conn: _enter_devices(conn, number))
        new = NewRollout("r1", MODEL, 1, "main", {}, None, Plan((Wave(count=reports), Wave(percent=100))))
        await store.write(lambda conn: rollouts.create(conn, new, "bench", SECOND))
        sent = await store.write(lambda conn: _in_flight(conn, release))
    finally:
        store.close()
    (folder / "reports.json").write_text(json.dumps(sent))


def _enter_version(conn: Connection) -> Release:
    """A version that is released."""
    files = Files(parent=b"parent", model=b"model", golden=b"golden", parameters=b"parameters")
    built = build(MODEL, Numbers(1, 1), files, "bench")
    document = object_ref(encode(built.release))
    registry.add_model(conn, MODEL, "none", 0)
    registry.enter(conn, built, 0)
    conn.execute(insert(objects).values(sha256=document.sha256, bytes=document.bytes, created_ns=0))
    conn.execute(update(versions).values(release_ref=msgspec.to_builtins(document), state="released"))
    return built.release


def _enter_devices(conn: Connection, number: int) -> None:
    """Enrolled, each with a report of its own."""
    rows = [
        {
            "name": f"d{index:06}",
            "labels": {"site": f"s{index % 50}"},
            "federated": False,
            "claimed_ns": 1,
            "enrolled_ns": 1,
            "online": True,
            "reported": encode(_report(1, 0)),
            "reported_seq": 1,
            "reported_ns": 1,
        }
        for index in range(number)
    ]
    conn.execute(insert(devices), rows)


def _report(seq: int, sequence: int, *told: SlotReport) -> Reported:
    have = Capabilities(
        engines={"onnxruntime": "1.31.1"},
        max_opset=23,
        machine="aarch64",
        python="3.11",
        ram_bytes=1 << 30,
        disk_free_bytes=1 << 30,
    )
    return Reported(seq=seq, sequence=sequence, agent="bench", capabilities=have, slots=told)


def _in_flight(conn: Connection, release: Release) -> list[tuple[str, str]]:
    """The first wave has been assigned; returns what its devices are going to say."""
    first = (members.c.rollout == "r1") & (members.c.wave == 0)
    flying: dict[str, Any] = {"status": Status.IN_FLIGHT, "assigned_ns": SECOND, "due_ns": 900 * SECOND}
    conn.execute(update(members).where(first).values(execution=members.c.device, **flying))
    recount(conn, rollout_row(conn, "r1"))
    sha256 = release.variants[0].file.sha256
    installed = Installed(model=MODEL, version=1, variant=VARIANT, sha256=sha256)
    sent = []
    for name in conn.execute(select(members.c.device).where(first)).scalars():
        told = SlotReport(
            slot="main",
            phase=Phase.COMMITTED,
            current=installed,
            execution=name,
            outcome=Ended.SUCCEEDED,
            golden=GoldenResult(matched=32, total=32, max_error=0.0),
        )
        sent.append((Topics().up(name, "reported"), encode(_report(2, 1, told)).decode()))
    return sent


def _tick(folder: Path, url: str, answer: Any) -> None:
    answer.send(asyncio.run(_ticked(folder, url)))


async def _ticked(folder: Path, url: str) -> dict[str, Any]:
    """Take the reports and tick, as the hub does: one transaction each."""
    sent = [Received(topic, payload.encode()) for topic, payload in json.loads((folder / "reports.json").read_text())]
    signers, topics = SigningKey(Ed25519PrivateKey.generate()).signers(), Topics()
    means = rollouts.Means(lambda payload: seal(payload, ASSIGNMENT_TYPE, signers), SystemIds(), topics, 100 * SECOND)
    store, rows = _store(folder, url), _Rows()
    await store.open()
    try:
        await store.write(rows.watch)
        set_aside_what_stays()  # as the hub does when it has started
        began, busy = time.perf_counter(), time.process_time()
        await store.write(lambda conn: ingest.apply(conn, sent, 99 * SECOND, Door(topics)))
        taken = time.perf_counter()
        await store.write(lambda conn: rollouts.tick(conn, means))
        ended, busy = time.perf_counter(), time.process_time() - busy
        peak_mb = _peak_mb()
        correct = await store.write(_correct)
    finally:
        store.close()
    return {
        "tick_s": round(ended - began, 3),
        "ingest_s": round(taken - began, 3),
        "decide_s": round(ended - taken, 3),
        "cpu_s": round(busy, 3),
        "rows_written": rows.written,
        "peak_rss_mb": peak_mb,
        "reports": len(sent),
        "correct": correct,
    }


def _peak_mb() -> float:
    """The most memory that this program ever held (Linux). The figure of `getrusage` has the parent's in it."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(kilobytes) / 1024, 1)


class _Rows:
    """Counts what is written."""

    def __init__(self) -> None:
        self.written = 0

    def watch(self, conn: Connection) -> None:
        """From now on."""
        event.listen(conn.engine, "after_cursor_execute", self._note)

    def _note(self, conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self.written += max(0, cursor.rowcount)


def _correct(conn: Connection) -> bool:
    """All reports counted, the second wave open and begun; and the counters are what a count from scratch gives."""
    row = conn.execute(select(rollout_table)).one()
    stored = conn.execute(select(rollout_waves).order_by(rollout_waves.c.wave)).all()
    begun = (row.state, row.wave, stored[0].committed, stored[0].in_flight) == ("running", 1, stored[0].planned, 0)
    recount(conn, row)
    again = conn.execute(select(rollout_waves).order_by(rollout_waves.c.wave)).all()
    numbers = [[tuple(one)[:-1] for one in rows] for rows in (stored, again)]
    return bool(begun and stored[1].in_flight > 0 and numbers[0] == numbers[1])
