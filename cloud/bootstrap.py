"""Puts the hub together: the only module that knows the concrete classes behind the ports."""

import asyncio
import contextlib
import functools
import importlib.util
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from cloud.data_directory import locked, secret
from cloud.ports import Store
from cloud.service import keys
from cloud.service.artefacts import Artefacts
from cloud.service.asks import Asks, Handler
from cloud.service.blobs import Blobs
from cloud.service.certificates import Renewals
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.enrolment import Door
from cloud.service.federated_runs import Access as AggregatorAccess
from cloud.service.federated_runs import FederatedJobs
from cloud.service.hub import Hub
from cloud.service.imports import Imports
from cloud.service.inbox import Inbox
from cloud.service.jobs import JobKind, Jobs
from cloud.service.leadership import Leadership, LeadersLink
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.service.outbox import Outbox
from cloud.service.overview import overview
from cloud.service.parts import Intervals, Parts
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


@dataclass(frozen=True)
class _Core:
    """What services and API share."""

    base: _Base
    store: Store
    access: BrokerAccess
    link: MqttLink
    leadership: Leadership
    outbox: Outbox
    objects: FsspecObjects


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
        stack.enter_context(locked(directory))
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


async def _wire(
    settings: Settings, base: _Base, store: Store, access: BrokerAccess, stack: contextlib.AsyncExitStack
) -> Running:
    core = await _core(settings, base, store, access, stack)
    packing = ThreadOffload(1, "deltas")
    stack.callback(packing.close)
    parts = _parts(settings, core, packing)
    wakeups = Wakeups()
    hub = Hub(parts, wakeups, intervals(settings))
    wakeups.start()
    stack.callback(wakeups.stop)
    context = _context(settings, core, parts)
    return Running(hub, *_app(base, context), context.closing)


async def _core(
    settings: Settings, base: _Base, store: Store, access: BrokerAccess, stack: contextlib.AsyncExitStack
) -> _Core:
    """The connection to the broker, which knows by the end who may come in, and where files are."""
    me = f"{HUB_USER}@{settings.replica}" if settings.replica else HUB_USER  # no device can have a name with an @
    link = MqttLink(access.endpoint, access.login(me))
    stack.push_async_callback(link.stop)
    leadership = Leadership(store, base.clock, me, lease_s=settings.lease_s, alone=not settings.database_url)
    outbox = Outbox(store, link, access.control, base.topics, base.clock)
    outbox.own_users = access.own_users
    await outbox.users()
    return _Core(base, store, access, link, leadership, outbox, _objects(settings, base))


def _parts(settings: Settings, core: _Core, packing: ThreadOffload) -> Parts:
    """The services of the hub."""
    base, store, link, leadership, outbox = core.base, core.store, core.link, core.leadership, core.outbox
    clock, topics, authority = base.clock, base.topics, core.access.authority
    trust = Trust(leadership, _notary(base), clock)
    chunk_answers = ChunkAnswers(store, core.objects, link, clock, topics)
    answers: dict[type, Handler] = {
        AskChunks: chunk_answers.answer,
        AskRenewal: Renewals(store, clock, authority).answer,
    }
    return Parts(
        store=store,
        link=link,
        clock=clock,
        ids=base.ids,
        topics=topics,
        outbox=outbox,
        inbox=Inbox(store, outbox, clock, Door(topics, authority), shared=bool(settings.replica)),
        asks=Asks(store, link, clock, topics, answers, trust.looks()),
        blobs=Blobs(leadership, core.objects, LeadersLink(link, leadership), topics),
        chunk_answers=chunk_answers,
        deltas=Deltas(leadership, core.objects, ZstdDeltas(packing), clock),
        jobs=_jobs(core),
        trust=trust,
        leadership=leadership,
        group=HUB_USER if settings.replica else "",
    )


def _jobs(core: _Core) -> Jobs:
    """Every kind of job, and who runs its processes."""
    base, leadership, access = core.base, core.leadership, core.access
    launcher = SubprocessLauncher(base.directory / "jobs", base.offload)
    aggregator = AggregatorAccess(lambda: access.endpoint, lambda: _aggregator_login(access), base.topics)
    optimizing = OptimizeJobs(leadership, core.objects, launcher, base.clock, base.ids)
    learning = FederatedJobs(leadership, core.objects, launcher, (base.clock, base.ids), aggregator)
    kinds: dict[str, JobKind] = {"train": optimizing, "derive": optimizing, "federated": learning}
    return Jobs(leadership, core.outbox, launcher, base.clock, kinds)


def _context(settings: Settings, core: _Core, parts: Parts) -> Context:
    """What the API works with."""
    base, store, objects = core.base, core.store, core.objects
    staging = UploadFiles(base.directory / "uploads", base.offload)
    return Context(
        store=store,
        objects=objects,
        outbox=core.outbox,
        control=core.access.control,
        link=core.link,
        clock=base.clock,
        ids=base.ids,
        topics=base.topics,
        fleet=FleetIdentity(ENROL_USER, core.access.enrol_password),
        trust=parts.trust,
        artefacts=Artefacts(store, objects, staging, InspectionChild()),
        imports=Imports(store, objects, base.ids),
        keys_in_use=parts.keys_in_use,
        known_keys=keys.KnownKeys(KEYS_FRESH_NS if settings.database_url else None),
        failures=parts.failures,
    )


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
        keep_jobs_s=settings.job_days * DAY_S,
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

    mount(app, read_overview, PageDoor(context), secret(base.directory / "keys/cookies.secret", base.ids))
    return f"{PATH}/"


def _first_start(conn: Connection, base: _Base) -> None:
    """An administrator's key when there is none yet."""
    if conn.execute(select(api_keys.c.id).limit(1)).first() is None:
        keys.first(conn, secret(base.directory / ADMIN_KEY_FILE, base.ids, prefix=api_key("")), base.clock.now_ns())


def _aggregator_login(access: BrokerAccess) -> Login:
    mine = access.login(AGGREGATOR_USER)
    names = {"username": mine.username, "client_id": mine.client_id}
    return Login(**names, password=mine.password, certificate=mine.certificate, key=mine.key)


async def _access(
    settings: Settings, base: _Base, stack: contextlib.AsyncExitStack, open_broker: OpenBroker | None
) -> BrokerAccess:
    """The broker of the settings, unless another is brought. Raises SettingsError, BrokerError."""
    password = secret(base.directory / "keys/enrol.secret", base.ids)
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
