"""Jobs: rows that become processes. A job is queued, runs in its own process, and its kind makes facts of the outcome.

The row is the truth. When the hub starts, what was running has died with the last hub and is queued again; jobs go on
in their directory. One job per lane at a time: the machine's processors, and the aggregator's one login. Who wants a
job stopped says so in its row, and whichever hub leads ends the process.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from cloud.errors import StoreError
from cloud.many import among
from cloud.ports import JobError, JobKilledError, JobOrder, Launcher, ObjectMissingError, ObjectStoreError, Store
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.service.leadership import DeposedError
from cloud.service.outbox import Outbox
from cloud.tables import job_events, jobs
from wire.ports import SECOND, Clock

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 50
"""A job that the hub's own deaths have interrupted so often is given up."""
MAX_KILLED = 5
"""A job whose process was killed is launched again, unless it was so often."""
MAX_ERROR = 1000
PUT_BACK_NS = SECOND
Event = Mapping[str, Any]
T = TypeVar("T")

OPEN = ("queued", "running")
CLOSED = ("succeeded", "failed")
STOPPING = "stopping"
_WAITING = select(jobs).where(jobs.c.state.in_(("queued", STOPPING))).order_by(jobs.c.created_ns, jobs.c.id)
_ENDED = (
    select(jobs.c.id)
    .where(among(jobs.c.id, "names"), jobs.c.finished_ns < bindparam("before_ns"), jobs.c.state.in_(CLOSED))
    .order_by(jobs.c.id)
)
WAITING = _WAITING.order_by(None).exists()
"""Does a job wait, to be launched or to be stopped?"""


class JobKind(Protocol):
    """What is special about a kind of job."""

    lane: str
    """Jobs of one lane run one after the other."""

    async def done(self, job: Row[Any]) -> bool:
        """Has `finish` already been done for this job (the hub died just after it)?"""

    async def order(self, job: Row[Any]) -> JobOrder:
        """What to launch. Raises JobError."""

    def progress(self, conn: Connection, job: Row[Any], event: Event) -> None:
        """A line of progress, in the transaction that stores it."""

    async def finish(self, job: Row[Any]) -> Effects:
        """The process ended well: turn its files into facts, once and for all. Raises JobError."""

    def failed(self, conn: Connection, job: Row[Any], reason: str, now_ns: int) -> None:
        """The job has failed for good."""


async def output_as(launcher: Launcher, job: str, name: str, kind: type[T]) -> T:
    """A document of this kind that the job left behind. Raises JobError."""
    raw = await launcher.output(job, name)
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise JobError(f"{name} of the job cannot be understood: {error}") from error


class Jobs:
    """Runs queued jobs."""

    def __init__(
        self, store: Store, outbox: Outbox, launcher: Launcher, clock: Clock, kinds: Mapping[str, JobKind]
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._launcher = launcher
        self._clock = clock
        self._kinds = kinds
        self._busy: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """Lane -> the job that has it, and what looks after that; one that is being ended has a lane of its own."""

    async def run(self) -> None:
        """Run jobs for ever. Cancelling it ends the processes; their jobs stay queued for the next hub."""
        await self._store.write(_requeue)
        self._outbox.post(wake(Wake.JOBS))
        async with asyncio.TaskGroup() as group:
            while True:
                await self._outbox.woken(Wake.JOBS)
                for job in await self._store.read(_waiting):
                    lane = self._lane(job)
                    if lane not in self._busy:
                        task = group.create_task(self._supervise(job, lane), name=f"job-{job.id[:8]}")
                        self._busy[lane] = (job.id, task)
                    elif job.state == STOPPING and lane != job.id and not self._busy[lane][1].cancelling():
                        self._busy[lane][1].cancel()  # its process ends with it, after which the row is looked at again

    async def discard(self, before_ns: int) -> None:
        """Remove the files of jobs that ended before: what was worth keeping of them is in the registry."""
        kept = await self._launcher.kept()
        if kept:
            for job in await self._store.read(lambda conn: _ended(conn, kept, before_ns)):
                await self._launcher.discard(job)

    def _lane(self, job: Row[Any]) -> str:
        """Where it waits for its turn: what is to be stopped and does not run waits for nobody."""
        lane = self._kinds[job.kind].lane
        runs = lane in self._busy and self._busy[lane][0] == job.id
        return lane if runs or job.state != STOPPING else str(job.id)

    async def _supervise(self, job: Row[Any], lane: str) -> None:
        try:
            await (self._end(job) if job.state == STOPPING else self._work(job))
        except JobKilledError as error:
            await self._after_a_kill(job, error)
        except (JobError, ObjectMissingError, ObjectStoreError) as error:
            log.warning("%s job %s failed: %s", job.kind, job.id, error)
            await self._fail(job, str(error))
        except StoreError as error:
            log.warning("%s job %s is put back: %s", job.kind, job.id, error)
            await self._put_back(job)
        except Exception as error:  # a defect of ours must not take the hub down with it
            log.exception("%s job %s failed", job.kind, job.id)
            await self._fail(job, f"{type(error).__name__}: {error}")
        finally:
            self._busy.pop(lane, None)
            self._outbox.post(wake(Wake.JOBS))

    async def _after_a_kill(self, job: Row[Any], error: JobKilledError) -> None:
        """Once more, for a while: what does not fit into memory will not fit the next time."""
        log.warning("%s job %s was killed: %s", job.kind, job.id, error)
        now_ns = self._clock.now_ns()
        try:
            times = await self._store.write(lambda conn: _note_kill(conn, job.id, str(error), now_ns))
        except StoreError:
            times = 0  # it is put back as after any other trouble with the database
        if times >= MAX_KILLED:
            await self._fail(job, f"killed {times} times: {error}")
        else:
            await self._put_back(job)

    async def _put_back(self, job: Row[Any]) -> None:
        """Its process has ended. Once the database is back it is launched again, here or on the hub that leads then."""
        while True:
            try:
                await self._store.write(lambda conn: _update(conn, job.id, {"state": "queued"}))
                break
            except DeposedError:
                break
            except StoreError:
                await self._clock.sleep(PUT_BACK_NS)

    async def _work(self, job: Row[Any]) -> None:
        kind, now_ns = self._kinds[job.kind], self._clock.now_ns()
        if job.attempts >= MAX_ATTEMPTS:
            raise JobError(f"given up after {job.attempts} interrupted attempts")
        effects = NOTHING
        if not await kind.done(job):
            order = await kind.order(job)
            started = {"state": "running", "attempts": job.attempts + 1, "started_ns": job.started_ns or now_ns}
            if not await self._store.write(lambda conn: _update(conn, job.id, started)):
                return  # somebody wants it stopped
            await self._follow(job, order, kind)
            effects = await kind.finish(job)
        finished = {"state": "succeeded", "finished_ns": self._clock.now_ns()}
        await self._store.write(lambda conn: _update(conn, job.id, finished))
        self._outbox.post(effects)

    async def _end(self, job: Row[Any]) -> None:
        """Nothing of it runs any more. If its result has been taken it came to its end before it was stopped."""
        if not await self._kinds[job.kind].done(job):
            await self._fail(job, job.error)
            return
        finished = {"state": "succeeded", "error": "", "finished_ns": self._clock.now_ns()}
        await self._store.write(lambda conn: _update(conn, job.id, finished, (STOPPING,)))

    async def _follow(self, job: Row[Any], order: JobOrder, kind: JobKind) -> None:
        async with contextlib.aclosing(self._launcher.run(order)) as lines:
            async for line in lines:
                entry = functools.partial(_note, kind=kind, job=job, event=_event(line), now_ns=self._clock.now_ns())
                await self._store.write(entry)

    async def _fail(self, job: Row[Any], reason: str) -> None:
        now_ns = self._clock.now_ns()

        def store(conn: Connection) -> None:
            _update(
                conn, job.id, {"state": "failed", "error": reason[:MAX_ERROR], "finished_ns": now_ns}, (*OPEN, STOPPING)
            )
            self._kinds[job.kind].failed(conn, job, reason[:MAX_ERROR], now_ns)
            audit.record(conn, now_ns, audit.HUB, ("job.fail", job.id), kind=job.kind, reason=reason[:MAX_ERROR])

        await self._store.write(store)
        self._outbox.post(wake(Wake.BLOBS))


def add(conn: Connection, job: str, kind: str, model: str, request: Mapping[str, Any], now_ns: int) -> Effects:
    """Queue a job."""
    run = request.get("run")
    values = {"kind": kind, "state": "queued", "model": model, "request": dict(request), "federated_run": run}
    conn.execute(insert(jobs).values(id=job, created_ns=now_ns, **values))
    return wake(Wake.JOBS)


def stop(conn: Connection, run: str, reason: str) -> Effects:
    """Have the aggregator of a federated run ended, which is no success; again, it changes nothing."""
    here = (jobs.c.federated_run == run) & (jobs.c.kind == "federated") & jobs.c.state.in_(OPEN)
    conn.execute(update(jobs).where(here).values(state=STOPPING, error=reason[:MAX_ERROR]))
    return wake(Wake.JOBS)


def _requeue(conn: Connection) -> None:
    conn.execute(update(jobs).where(jobs.c.state == "running").values(state="queued"))


def _ended(conn: Connection, names: Collection[str], before_ns: int) -> list[str]:
    """Those of these jobs that ended before. What no row knows of is somebody else's."""
    rows = conn.execute(_ENDED, {"names": sorted(names), "before_ns": before_ns})
    return list(rows.scalars())


def _waiting(conn: Connection) -> list[Row[Any]]:
    return list(conn.execute(_WAITING))


def _update(conn: Connection, job: str, values: Mapping[str, Any], of: Collection[str] = OPEN) -> bool:
    """Change a job that is in one of these states. Was it?"""
    here = (jobs.c.id == job) & jobs.c.state.in_(sorted(of))
    return bool(conn.execute(update(jobs).where(here).values(dict(values))).rowcount)


def _note(conn: Connection, *, kind: JobKind, job: Row[Any], event: Event, now_ns: int) -> None:
    conn.execute(insert(job_events).values(job=job.id, at_ns=now_ns, event=dict(event)))
    kind.progress(conn, job, event)


def _note_kill(conn: Connection, job: str, reason: str, now_ns: int) -> int:
    """Keep it on record; how often has it been now?"""
    conn.execute(insert(job_events).values(job=job, at_ns=now_ns, event={"event": "killed", "reason": reason}))
    told = conn.execute(select(job_events.c.event).where(job_events.c.job == job)).scalars()
    return sum(event.get("event") == "killed" for event in told)


def _event(line: bytes) -> Event:
    """A line of progress; a job that prints something else is still followed."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"event": "output", "text": line.decode(errors="replace")[:500]}
