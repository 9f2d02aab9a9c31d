"""Federated runs: launch the aggregator for eligible devices, keep its rounds, judge the result, have variants derived.

The result becomes a version only when the devices' own holdouts say so (`core.federated_gate`); it then goes through
signing and rollout like any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from cloud.core.federated_gate import DeviceResult, NonInferiority, Verdict, judge
from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.ports import JobOrder, Launcher, Objects, Store
from cloud.service import audit, jobs, selecting
from cloud.service.effects import Effects, Wake, wake
from cloud.service.jobs import Event, output_as
from cloud.service.rollouts import released
from cloud.tables import ENROLLED, devices, federated_rounds, federated_runs
from cloud.upsert import upsert
from federated.core.report import Result, RoundReport
from federated.spec import Login, Participant, Spec, Tolerances
from wire.codec import encode
from wire.identity import Broker
from wire.ports import Clock, Ids
from wire.topics import Topics

MODULE = "federated.aggregator"
RESULT_FILE = "result.json"
PARAMETERS_FILE = "starting.safetensors"


@dataclass(frozen=True, slots=True)
class NewRun:
    """What the operator orders; `request` is kept as it came, `job` is the id for the aggregator's job."""

    id: str
    job: str
    model: str
    version: int
    selector: Mapping[str, str]
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """How the aggregator reaches the devices: broker, login (a new one for each start) and topics."""

    broker: Callable[[], Broker]
    login: Callable[[], Login]
    topics: Topics


def create(conn: Connection, new: NewRun, actor: str, now_ns: int) -> Effects:
    """Start a run.

    Raises:
        UnknownError, ConflictError: the version is not there, not released, or in another run already.
        InvalidError: it cannot learn, or no device is eligible.
    """
    release = released(conn, new.model, new.version)
    if release.learning is None or release.companions.train_step is None or release.companions.eval is None:
        raise InvalidError(f"{new.model} version {new.version} has no train-step graph: devices cannot learn with it")
    _refuse_if_running(conn, new.model)
    eligible = _eligible(conn, new.selector)
    if not eligible:
        raise InvalidError(selecting.why_nobody(conn, new.selector, (~devices.c.federated, "not federated")))
    conn.execute(
        insert(federated_runs).values(
            id=new.id,
            model=new.model,
            version=new.version,
            state="running",
            request=dict(new.request),
            devices=eligible,
            created_ns=now_ns,
        )
    )
    request = {"run": new.id, "version": new.version}
    audit.record(conn, now_ns, actor, ("federated.create", new.id), model=new.model, version=new.version)
    return jobs.add(conn, new.job, "federated", new.model, request, now_ns) + wake(Wake.BLOBS)


def stop(conn: Connection, run: str, actor: str, now_ns: int) -> Effects:
    """End a run in which devices still learn; nothing of what they learned is kept.

    Raises UnknownError, and ConflictError when it is over or its result is judged already.
    """
    state = conn.scalar(select(federated_runs.c.state).where(federated_runs.c.id == run))
    if state is None:
        raise UnknownError(f"there is no federated run {run!r}")
    if state != "running":
        raise ConflictError(f"federated run {run} is {state}: only one in which devices learn can be stopped")
    audit.record(conn, now_ns, actor, ("federated.stop", run))
    return jobs.stop(conn, run, f"stopped by {actor}")


class FederatedJobs:
    """The `cloud.service.jobs.JobKind` for "federated"."""

    lane = "federated"

    def __init__(
        self, store: Store, objects: Objects, launcher: Launcher, means: tuple[Clock, Ids], access: Access
    ) -> None:
        self._store = store
        self._objects = objects
        self._launcher = launcher
        self._clock, self._ids = means
        self._access = access

    async def done(self, job: Row[Any]) -> bool:
        """Has the run been judged?"""
        run = await self._store.read(lambda conn: _run(conn, job.federated_run))
        return bool(run.state != "running")

    async def order(self, job: Row[Any]) -> JobOrder:
        """The aggregator's specification, with the parameters that learning starts from."""
        run = await self._store.read(lambda conn: _run(conn, job.federated_run))
        release = await self._store.read(lambda conn: released(conn, run.model, run.version))
        assert release.learning is not None
        request, directory = run.request, self._launcher.directory(job.id)
        spec = Spec(
            run=run.id,
            model=run.model,
            version=run.version,
            devices=tuple(Participant(name=name, labels=labels) for name, labels in sorted(run.devices.items())),
            strategy=request["strategy"],
            strategy_kwargs=request["strategy_args"],
            rounds=request["rounds"],
            evaluate_every=request["evaluate_every"],
            train_config={**request["train"], "seed": request["seed"]},
            seed=request["seed"],
            parameters=f"{directory}/{PARAMETERS_FILE}",
            order=tuple(tensor.name for tensor in release.learning.parameters),
            broker=self._access.broker(),
            login=self._access.login(),
            topic_root=self._access.topics.root,
            run_directory=directory,
            tolerances=msgspec.convert(request.get("tolerances") or {}, Tolerances),
        )
        starting = await self._objects.get(release.companions.parameters.sha256)
        return JobOrder(job.id, MODULE, encode(spec), {PARAMETERS_FILE: starting})

    def progress(self, conn: Connection, job: Row[Any], event: Event) -> None:
        """Rounds are kept in their own table; a resumed aggregator may report one again."""
        if event.get("event") != "round":
            return
        report = msgspec.convert(event, RoundReport)
        values = msgspec.to_builtins(report)
        values.pop("event")
        keys = {"run": job.federated_run, "round": values.pop("round")}
        row = upsert(federated_rounds).values(**keys, **values)
        conn.execute(row.on_conflict_do_update(index_elements=list(keys), set_=values))

    async def finish(self, job: Row[Any]) -> Effects:
        """Judge the result; when it passes, have variants derived from it."""
        result = await output_as(self._launcher, job.id, RESULT_FILE, Result)
        run = await self._store.read(lambda conn: _run(conn, job.federated_run))
        verdict = judge(_device_results(result), _guard(run.request))
        parameters = await self._objects.put(await self._launcher.output(job.id, result.parameters))
        derive, now_ns = self._ids.new(), self._clock.now_ns()
        request = {
            "run": run.id,
            "version": run.version,
            "parameters": parameters,
            "seed": run.request["seed"],
        }

        def enter(conn: Connection) -> Effects:
            _enter_verdict(conn, run, verdict, now_ns)
            if not verdict.passed:
                return wake(Wake.BLOBS)
            return jobs.add(conn, derive, "derive", run.model, request, now_ns) + wake(Wake.BLOBS)

        return await self._store.write(enter)

    def failed(self, conn: Connection, job: Row[Any], reason: str, now_ns: int) -> None:
        """The run has failed, unless its result was taken just before."""
        if _run(conn, job.federated_run).state == "running":
            fail_run(conn, job.federated_run, reason, now_ns)


def fail_run(conn: Connection, run: str, reason: str, now_ns: int) -> None:
    """The run has failed, its own job or the derivation from its result."""
    values = {"state": "failed", "reason": reason, "finished_ns": now_ns}
    conn.execute(update(federated_runs).where(federated_runs.c.id == run).values(values))


def _refuse_if_running(conn: Connection, model: str) -> None:
    running = select(federated_runs.c.id).where(
        federated_runs.c.model == model, federated_runs.c.state.in_(("running", "deriving"))
    )
    other = conn.execute(running.limit(1)).scalar_one_or_none()
    if other is not None:
        raise ConflictError(f"federated run {other} of model {model!r} is still under way: wait for it")


def _eligible(conn: Connection, selector: Mapping[str, str]) -> dict[str, dict[str, str]]:
    may = select(devices.c.name, devices.c.labels).where(devices.c.federated, ENROLLED)
    rows = conn.execute(may.where(selecting.selected(conn, selector)).order_by(devices.c.name))
    return {row.name: row.labels for row in rows}


def _run(conn: Connection, run: str) -> Row[Any]:
    return conn.execute(select(federated_runs).where(federated_runs.c.id == run)).one()


def _guard(request: Mapping[str, Any]) -> NonInferiority | None:
    guard = request.get("non_inferiority")
    return None if guard is None else NonInferiority(guard["selector"], guard["margin"])


def _device_results(result: Result) -> list[DeviceResult]:
    """Devices that measured both the start and the end; the others cannot be compared."""
    return [
        DeviceResult(name, one.labels, one.examples, one.accuracy_before, one.accuracy_after)
        for name, one in sorted(result.devices.items())
        if one.accuracy_before is not None and one.accuracy_after is not None
    ]


def _enter_verdict(conn: Connection, run: Row[Any], verdict: Verdict, now_ns: int) -> None:
    values: dict[str, Any] = {"verdict": msgspec.to_builtins(asdict(verdict)), "state": "deriving"}
    if not verdict.passed:
        values |= {"state": "refused", "reason": verdict.reason, "finished_ns": now_ns}
    conn.execute(update(federated_runs).where(federated_runs.c.id == run.id).values(values))
    action = "federated.pass" if verdict.passed else "federated.refuse"
    audit.record(conn, now_ns, audit.HUB, (action, run.id), reason=verdict.reason)
