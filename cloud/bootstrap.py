"""Puts the hub together: the only module that knows the concrete classes behind the ports."""

import asyncio
import contextlib
import fcntl
import functools
import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import FastAPI
from sqlalchemy import Connection, select

from cloud import brokers
from cloud.adapters.fsspec_objects import FsspecObjects
from cloud.adapters.inspection_child import InspectionChild
from cloud.adapters.postgres_store import PostgresStore
from cloud.adapters.sql_store import SqlStore
from cloud.adapters.subprocess_launcher import SubprocessLauncher
from cloud.adapters.tuf_notary import DIRECTOR, ONLINE, TufNotary
from cloud.adapters.upload_files import UploadFiles
from cloud.adapters.wakeups import Wakeups
from cloud.adapters.zstd_deltas import ZstdDeltas
from cloud.api import problems, routes
from cloud.api.context import Context, FleetIdentity
from cloud.brokers import BrokerAccess
from cloud.core.access import AGGREGATOR_USER, ENROL_USER, HUB_USER
from cloud.core.identity import api_key
from cloud.ports import Store
from cloud.service import keys
from cloud.service.artefacts import Artefacts
from cloud.service.asks import Asks
from cloud.service.blobs import Blobs
from cloud.service.certificates import Renewals
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.enrolment import Door
from cloud.service.federated_runs import Access as AggregatorAccess
from cloud.service.federated_runs import FederatedJobs
from cloud.service.hub import Hub, Intervals, Parts
from cloud.service.imports import Imports
from cloud.service.inbox import Inbox
from cloud.service.jobs import JobKind, Jobs
from cloud.service.leadership import Leadership, LeadersLink
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.service.outbox import Outbox
from cloud.service.overview import overview
from cloud.service.trust.service import Trust
from cloud.settings import Settings, told
from cloud.settings_check import SettingsError, check, check_replica
from cloud.tables import api_keys
from federated.spec import Login
from wire.adapters.key_ring import key_files
from wire.adapters.mqtt_link import MqttLink
from wire.adapters.system import SystemClock, SystemIds, ThreadOffload
from wire.asks import AskChunks, AskRenewal
from wire.ports import SECOND
from wire.topics import Topics

log = logging.getLogger(__name__)

DAY_S = 24 * 3600
ADMIN_KEY_FILE = "admin.key"
KEYS_FRESH_NS = SECOND
"""How long a key that another hub revokes may still be taken by this one."""


@dataclass(frozen=True)
class Running:
    """A hub whose adapters are up: run its services and serve its app."""

    hub: Hub
    app: FastAPI
    page: str
    """Path of the live page; empty when the page is not installed."""
    closing: asyncio.Event
    """To be set when the hub ends: streams of events end then."""


@dataclass(frozen=True)
class _Base:
    """What everything else is built on."""

    directory: Path
    clock: SystemClock
    ids: SystemIds
    offload: ThreadOffload
    topics: Topics


OpenBroker = Callable[[str, contextlib.AsyncExitStack], Awaitable[BrokerAccess]]
"""(password of the enrolment, what closes it again) -> a broker."""


@contextlib.asynccontextmanager
async def started(settings: Settings, open_broker: OpenBroker | None = None) -> AsyncIterator[Running]:
    """Open the store, start the broker, wire the services; close everything in the reverse order.

    `open_broker` brings a broker that the settings cannot describe: that of a simulation.
    """
    check(settings)
    check_replica(settings)
    base = _base(settings)
    directory = base.directory
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(base.offload.close)
        stack.enter_context(_locked(directory / "lock"))
        store = _store(settings, directory)
        await store.open()
        stack.callback(store.close)
        await store.write(functools.partial(_first_start, base=base))
        access = await _access(settings, base, stack, open_broker)
        yield await _wire(settings, base, store, access, stack)


def _base(settings: Settings) -> _Base:
    directory = Path(settings.data_dir).absolute()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _Base(directory, SystemClock(), SystemIds(), ThreadOffload(2, "files"), Topics(settings.topic_root))


def _store(settings: Settings, directory: Path) -> SqlStore | PostgresStore:
    """The database of the settings, not yet open. Raises SettingsError, StoreError."""
    if not settings.database_url:
        return SqlStore(directory / "hub.sqlite")
    password = settings.database_password_file
    try:
        return PostgresStore(
            settings.database_url, Path(password).read_text().strip() if password else "", settings.lease_s
        )
    except OSError as error:
        raise SettingsError(f"{told('database_password_file')}: {password!r}: {error.strerror}") from error


def _locked(path: Path) -> BinaryIO:
    """One hub per data directory; the lock goes with the process. Raises SettingsError."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise SettingsError(f"another hub uses {path.parent}: end it, or choose another {told('data_dir')}") from error
    return file


async def _wire(
    settings: Settings, base: _Base, store: Store, access: BrokerAccess, stack: contextlib.AsyncExitStack
) -> Running:
    clock, ids, topics, broker = base.clock, base.ids, base.topics, access.control
    me = f"{HUB_USER}@{settings.replica}" if settings.replica else HUB_USER  # no device can have a name with an @
    link = MqttLink(access.endpoint, access.login(me))
    stack.push_async_callback(link.stop)
    leadership = Leadership(store, clock, me, lease_s=settings.lease_s, alone=not settings.database_url)
    outbox = Outbox(store, link, broker, topics, clock)
    outbox.own_users = access.own_users
    await outbox.users()
    objects = _objects(settings, base)
    staging = UploadFiles(base.directory / "uploads", base.offload)
    artefacts = Artefacts(store, objects, staging, InspectionChild())
    launcher = SubprocessLauncher(base.directory / "jobs", base.offload)
    aggregator = AggregatorAccess(lambda: access.endpoint, lambda: _aggregator_login(access), topics)
    optimizing = OptimizeJobs(leadership, objects, launcher, clock, ids)
    learning = FederatedJobs(leadership, objects, launcher, (clock, ids), aggregator)
    kinds: dict[str, JobKind] = {"train": optimizing, "derive": optimizing, "federated": learning}
    trust = Trust(leadership, _notary(base), clock)
    wakeups = Wakeups()
    keys_in_use = keys.KeysInUse()
    packing = ThreadOffload(1, "deltas")
    stack.callback(packing.close)
    renewals = Renewals(store, clock, access.authority)
    chunk_answers = ChunkAnswers(store, objects, link, clock, topics)
    parts = Parts(
        store=store,
        link=link,
        clock=clock,
        ids=ids,
        topics=topics,
        outbox=outbox,
        inbox=Inbox(store, outbox, clock, Door(topics, access.authority), shared=bool(settings.replica)),
        asks=Asks(
            store,
            link,
            clock,
            topics,
            {AskChunks: chunk_answers.answer, AskRenewal: renewals.answer},
            trust.looks(),
        ),
        blobs=Blobs(leadership, objects, LeadersLink(link, leadership), topics),
        chunk_answers=chunk_answers,
        deltas=Deltas(leadership, objects, ZstdDeltas(packing), clock),
        jobs=Jobs(leadership, outbox, launcher, clock, kinds),
        trust=trust,
        leadership=leadership,
        keys_in_use=keys_in_use,
        group=HUB_USER if settings.replica else "",
    )
    hub = Hub(parts, wakeups, intervals(settings))
    wakeups.start()
    stack.callback(wakeups.stop)
    imports = Imports(store, objects, ids)
    fleet = FleetIdentity(ENROL_USER, access.enrol_password)
    ports = (store, objects, outbox, broker, link, clock, ids, topics)
    known_keys = keys.KnownKeys(KEYS_FRESH_NS if settings.database_url else None)
    context = Context(*ports, fleet, trust, artefacts, imports, keys_in_use=keys_in_use, known_keys=known_keys)
    return Running(hub, *_app(base, context), context.closing)


def _objects(settings: Settings, base: _Base) -> FsspecObjects:
    """Where the files of versions are. Raises SettingsError."""
    try:
        return FsspecObjects(settings.objects_url or str(base.directory / "objects"), base.offload)
    except (ValueError, ImportError) as error:
        raise SettingsError(f"{told('objects_url')}: {settings.objects_url!r}: {error}") from error


def intervals(settings: Settings) -> Intervals:
    """The hub's timers."""
    return Intervals(
        silence_s=settings.silence_s,
        keep_telemetry_s=settings.telemetry_days * DAY_S,
        keep_hours_s=settings.telemetry_hour_days * DAY_S,
    )


def _app(base: _Base, context: Context) -> tuple[FastAPI, str]:
    app = FastAPI(title="Fleetloop hub", version="1", docs_url=None, redoc_url=None)
    app.state.context = context
    page = _page(app, base, context)
    problems.install(app)  # last, so that its bounds hold for the page, too
    routes.install(app)
    return app, page


def _page(app: FastAPI, base: _Base, context: Context) -> str:
    """Serve the live page, if it is installed; its path."""
    if importlib.util.find_spec("nicegui") is None:
        return ""
    from cloud.api.door import PageDoor
    from cloud.web.pages import PATH, mount

    async def read_overview() -> Any:
        now_ns = context.clock.now_ns()
        return await context.read(lambda conn: overview(conn, now_ns))

    mount(app, read_overview, PageDoor(context), _secret_file(base, "keys/cookies.secret"))
    return f"{PATH}/"


def _first_start(conn: Connection, base: _Base) -> None:
    """An administrator's key when there is none yet."""
    if conn.execute(select(api_keys.c.id).limit(1)).first() is None:
        keys.first(conn, _secret_file(base, ADMIN_KEY_FILE, prefix=api_key("")), base.clock.now_ns())


def _aggregator_login(access: BrokerAccess) -> Login:
    mine = access.login(AGGREGATOR_USER)
    names = {"username": mine.username, "client_id": mine.client_id}
    return Login(**names, password=mine.password, certificate=mine.certificate, key=mine.key)


async def _access(
    settings: Settings, base: _Base, stack: contextlib.AsyncExitStack, open_broker: OpenBroker | None
) -> BrokerAccess:
    """The broker of the settings, unless another is brought. Raises SettingsError, BrokerError."""
    password = _secret_file(base, "keys/enrol.secret")
    if open_broker is not None:
        return await open_broker(password, stack)
    try:
        match settings.broker:
            case "embedded":
                return await brokers.embedded(settings, base.directory, base.topics, password, stack)
            case "mosquitto":
                return brokers.mosquitto(settings, base.directory, password, stack)
            case "external":
                return brokers.external(settings, base.directory, password)
    except ValueError as error:
        raise SettingsError(f"{told('broker')}: {settings.broker!r}: {error}") from error


def _notary(base: _Base) -> TufNotary:
    keys = base.directory / "keys"
    return TufNotary(key_files(keys, ONLINE), key_files(keys, DIRECTOR))


def _secret_file(base: _Base, name: str, prefix: str = "") -> str:
    """The secret in a file of the data directory (0600); made, durably, when it is not there."""
    path = base.directory / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(prefix + base.ids.secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path.read_text().strip()
