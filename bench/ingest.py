"""Telemetry into the database beside what the broker can deliver at all, and the API's answers meanwhile.

One process publishes for all devices; first a bare reader takes the messages, then a whole hub (`fleetloop hub`, a
process of its own) puts the same number of them into a database that knows `devices` devices, while its API is asked
for the device list, a rollout and a version, one question after the other. Nothing is sent twice: what is not in the
database at the end is lost.
"""

import asyncio
import contextlib
import datetime
import itertools
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from sqlalchemy import Connection, Engine, create_engine, func, insert, select

from bench.mosquitto_fleet import RealHub, free_port, operated, until
from bench.postgres_server import installed, postgres_server
from bench.replicas import external_mosquitto
from bench.result import Outcome, finish
from cloud.adapters import postgres_store
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.settings import Settings as HubSettings
from cloud.tables import devices, telemetry_points
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.codec import encode
from wire.identity import Broker
from wire.messages import ModelStats, Telemetry
from wire.ports import Inbound
from wire.topics import Topics

PUBLISHER, READER = "hub@publisher", "hub@reader"
AT_ONCE = 400
ROWS_AT_ONCE = 5_000
PATIENCE_S = 180.0
QUIET_S = 60.0
"""Nothing new in the database for so long: the rest is lost."""
P99_MS = 100.0
ROLLED_OUT = 100
"""Devices in the rollout whose status is asked for."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    messages: Annotated[int, msgspec.Meta(description="telemetry messages", ge=100)] = 120_000
    talking: Annotated[int, msgspec.Meta(description="devices that send them", ge=10)] = 2_000
    devices: Annotated[int, msgspec.Meta(description="devices that the database knows", ge=200)] = 100_000
    rate: Annotated[int, msgspec.Meta(description="messages a second; 0: as fast as the broker takes them", ge=0)] = 0
    postgresql: Annotated[bool, msgspec.Meta(description="on a PostgreSQL server of its own instead of SQLite")] = False
    short: Annotated[bool, msgspec.Meta(description="1,000 messages of 50 devices of 500")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Run it; 1 when a message was lost or the API was slow, or when a program is missing."""
    if shutil.which("mosquitto") is None or (settings.postgresql and not installed()):
        print("mosquitto, and for --postgresql a server, are needed: install these packages", file=sys.stderr)
        return 1
    if settings.short:
        settings = msgspec.structs.replace(settings, messages=1_000, talking=50, devices=500)
    with tempfile.TemporaryDirectory(prefix="fleetloop-") as directory, _database(settings) as url:
        hub = HubSettings(
            data_dir=str(Path(directory) / "hub"),
            database_url=url,
            port=free_port(),
            broker="external",
            broker_port=free_port(),
            broker_enrol_port=free_port(),
        )
        outcome = asyncio.run(_measure(settings, hub))
    return finish(outcome, as_json=settings.json)


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[str]:
    if not settings.postgresql:
        yield ""
        return
    with postgres_server(durable=True) as server:
        yield server.database()


async def _measure(settings: Settings, hub: HubSettings) -> Outcome:
    async with operated(hub) as (operator, _):
        rollout = await _fill(operator, settings)
    names = (PUBLISHER, READER)
    async with external_mosquitto(hub, names):
        fan_in = await _fan_in(settings, hub)
        async with _process(hub):
            key = (Path(hub.data_dir) / "admin.key").read_text().strip()
            asking = asyncio.create_task(_ask(f"http://127.0.0.1:{hub.port}/api/v1", key, rollout))
            seconds, landed = await _ingest(settings, hub)
            asking.cancel()
            answers = await asking
    figures = {
        "database": "postgresql" if hub.database_url else "sqlite",
        "devices": settings.devices,
        "messages": settings.messages,
        "rate": settings.rate,
        "broker_per_s": round(fan_in),
        "database_per_s": round(settings.messages / seconds),
        "share_of_broker": round(settings.messages / seconds / fan_in, 2),
        "lost": settings.messages - landed,
        **{f"{name}_p99_ms": round(_p99(times) * 1000, 1) for name, times in answers.items()},
        **{f"{name}_p50_ms": round(statistics.median(times or [0.0]) * 1000, 1) for name, times in answers.items()},
        "asked": sum(map(len, answers.values())),
    }
    slow = any(_p99(times) * 1000 > P99_MS for times in answers.values())
    return Outcome(figures, figures["lost"] == 0 and (settings.short or not slow))


async def _fill(hub: RealHub, settings: Settings) -> str:
    """Devices, a released version, and a rollout to some of them; its id."""

    def enter(conn: Connection, start: int) -> None:
        numbers = range(start, min(start + ROWS_AT_ONCE, settings.devices))
        common = {"federated": False, "claimed_ns": 1, "enrolled_ns": 1}
        rows = [{"name": _name(one), "labels": _labels(one), **common} for one in numbers]
        conn.execute(insert(devices), rows)

    for start in range(0, settings.devices, ROWS_AT_ONCE):
        await hub.context.store.write(lambda conn, start=start: enter(conn, start))  # type: ignore[misc]
    version = await hub.publish_version(0, 10_000)
    return await hub.roll_out(version, {"group": "rollout"})


def _name(number: int) -> str:
    return f"device-{number:06}"


def _labels(number: int) -> dict[str, str]:
    return {"site": f"site-{number % 100:02}", "group": "rollout" if number < ROLLED_OUT else "other"}


@contextlib.asynccontextmanager
async def _process(hub: HubSettings) -> AsyncIterator[None]:
    """`fleetloop hub`, until it answers."""
    options = ("data_dir", "database_url", "port", "broker", "broker_port", "broker_enrol_port")
    flags = [word for name in options for word in (f"--{name.replace('_', '-')}", str(getattr(hub, name)))]
    command = [sys.executable, "-m", "fleetloop", "hub", *flags, "--log-level", "warning"]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with httpx.AsyncClient() as http:
            await until("the hub answers", lambda: _healthy(http, hub.port), PATIENCE_S)
        yield
    finally:
        process.terminate()
        await process.wait()


async def _healthy(http: httpx.AsyncClient, port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        answer = await http.get(f"http://127.0.0.1:{port}/api/v1/health")
        return answer.status_code == 200 and bool(answer.json()["status"] == "ok")
    return False


# The publishing process.


def _login(hub: HubSettings, name: str) -> tuple[Broker, Credentials]:
    keys = Path(hub.data_dir) / "keys" / "tls"
    authority = DeviceAuthority(keys, datetime.timedelta(days=1))
    certificate, key = authority.login(name, datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC))
    broker = Broker(host=hub.broker_host, port=hub.broker_port, ca_pem=(keys / "ca.pem").read_text())
    return broker, Credentials(name, certificate=certificate, key=key)


def publish(document: bytes, settings: Settings, channel: str) -> None:
    """Send all messages, those of each device in order, on `channel` of its topics."""
    hub = msgspec.json.decode(document, type=HubSettings)

    async def send() -> None:
        link = MqttLink(*_login(hub, PUBLISHER))
        await link.start()
        await until("the publisher is connected", lambda: link.connected, PATIENCE_S)
        root, began = Topics(hub.topic_root).root, time.monotonic()
        at_once = max(1, min(AT_ONCE, settings.rate // 10)) if settings.rate else AT_ONCE
        for start in range(0, settings.messages, at_once):
            if settings.rate:
                await asyncio.sleep(began + start / settings.rate - time.monotonic())
            numbers = range(start, min(start + at_once, settings.messages))
            await asyncio.gather(
                *(
                    link.publish(f"{root}/up/{_name(number % settings.talking)}/{channel}", _message(number, settings))
                    for number in numbers
                )
            )
        await link.stop()

    asyncio.run(send())


def _message(number: int, settings: Settings) -> bytes:
    seq = number // settings.talking + 1
    latency = {bucket: seq for bucket in range(30, 50)}
    counted = {"predictions": 20 * seq, "feedback": seq, "correct": seq, "confidence_sum": 0.0, "latency_us": latency}
    one = ModelStats(model="proof", version=1, variant="int8", **counted)  # type: ignore[arg-type]
    return encode(Telemetry(seq=seq, after=seq - 1, at_ns=number, stats=(one,)))


def _publishing(settings: Settings, hub: HubSettings, channel: str) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.ingest"])
    process = context.Process(target=publish, args=(msgspec.json.encode(hub), settings, channel), daemon=True)
    process.start()
    return process


async def _fan_in(settings: Settings, hub: HubSettings) -> float:
    """Messages a second that a reader gets which does nothing with them."""
    link, times = MqttLink(*_login(hub, READER)), list[float]()

    def take(message: Inbound) -> None:
        message.ack()
        times.append(time.monotonic())

    link.on_message = take
    await link.subscribe(f"{hub.topic_root}/up/+/bare")
    await link.start()
    await until("the reader is connected", lambda: link.connected, PATIENCE_S)
    process = _publishing(settings, hub, "bare")
    await until("everything is read", lambda: len(times) >= settings.messages, PATIENCE_S)
    process.join()
    await link.stop()
    return settings.messages / (times[-1] - times[0])


async def _ingest(settings: Settings, hub: HubSettings) -> tuple[float, int]:
    """Seconds from the first message in the database to the last, and how many are there."""
    engine = _engine(hub)
    process, began = _publishing(settings, hub, "telemetry"), 0.0
    landed, changed = 0, time.monotonic()
    while landed < settings.messages and time.monotonic() - changed < QUIET_S:
        await asyncio.sleep(0.1)
        now = await asyncio.to_thread(_landed, engine)
        if now != landed:
            began, changed = began or time.monotonic() - 0.1, time.monotonic()
        landed = now
    process.join()
    engine.dispose()
    return changed - began, landed


def _engine(hub: HubSettings) -> Engine:
    """A second connection, which only reads."""
    if hub.database_url:
        return postgres_store.make_engine(postgres_store.parse(hub.database_url), 10.0)
    return create_engine(f"sqlite:///file:{hub.data_dir}/hub.sqlite?mode=ro&uri=true")


def _landed(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(telemetry_points)) or 0


async def _ask(url: str, key: str, rollout: str) -> dict[str, list[float]]:
    """Until it is cancelled: seconds of every answer, by question."""
    times: dict[str, list[float]] = {"device_list": [], "rollout_status": [], "version_lookup": []}
    paths = ("/devices?limit=100", f"/rollouts/{rollout}", "/models/proof/versions/1")
    with contextlib.suppress(asyncio.CancelledError):
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            for number in itertools.count():
                for taken, path in zip(times.values(), paths, strict=True):
                    began = time.monotonic()
                    (await http.get(url + path)).raise_for_status()
                    if number:  # the first time, code is still being loaded
                        taken.append(time.monotonic() - began)
                    await asyncio.sleep(0.02)
    return times


def _p99(times: list[float]) -> float:
    """The slowest one, while there are too few for that."""
    return statistics.quantiles(times, n=100)[98] if len(times) >= 100 else max(times, default=0.0)
