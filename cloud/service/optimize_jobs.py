"""Training and deriving: jobs of `optimize.job` whose result becomes the next version of a model."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, update

from cloud.ports import JobError, JobOrder, Launcher, Objects, Store
from cloud.service import build, registry
from cloud.service.build import Origin
from cloud.service.effects import NOTHING, Effects
from cloud.service.federated_runs import fail_run
from cloud.service.jobs import Event, output_as
from cloud.service.registry import Built
from cloud.tables import federated_runs, models, versions
from optimize.spec import RESULT_FILE, DeriveSpec, Result, TrainSpec
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.ports import Clock, Ids
from wire.release import ObjectRef, Release, object_ref

MODULE = "optimize.job"


class OptimizeJobs:
    """The `cloud.service.jobs.JobKind` for "train" and "derive"."""

    lane = "optimize"

    def __init__(self, store: Store, objects: Objects, launcher: Launcher, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._objects = objects
        self._launcher = launcher
        self._clock = clock
        self._ids = ids

    async def done(self, job: Row[Any]) -> bool:
        """Has the version been entered?"""
        return await self._store.read(lambda conn: registry.version_of_job(conn, job.id)) is not None

    async def order(self, job: Row[Any]) -> JobOrder:
        """The specification, and for a derivation the files that it starts from."""
        out, request = self._launcher.directory(job.id), job.request
        workload = await self._store.read(lambda conn: _workload(conn, job.model))
        if job.kind == "train":
            spec = TrainSpec(workload=workload, out=out, seed=request["seed"])
            return JobOrder(job.id, MODULE, encode(spec), {})
        companions = (await self._store.read(lambda conn: _release(conn, job.model, request["version"]))).companions
        if companions.eval is None or companions.train_step is None:
            raise JobError(f"{job.model} version {request['version']} has no graphs to learn with")
        names = {
            "parent.safetensors": request["parameters"],
            "parent_eval.onnx": companions.eval.sha256,
            "parent_train_step.onnx": companions.train_step.sha256,
        }
        files = {name: await self._objects.get(sha256) for name, sha256 in names.items()}
        parameters, graph, step = (f"{out}/{name}" for name in names)
        derive = DeriveSpec(
            workload=workload, out=out, parameters=parameters, eval_graph=graph, train_step=step, seed=request["seed"]
        )
        return JobOrder(job.id, MODULE, encode(derive), files)

    def progress(self, conn: Connection, job: Row[Any], event: Event) -> None:
        """Events are only stored."""

    async def finish(self, job: Row[Any]) -> Effects:
        """Store the files as objects, then enter the version."""
        result = await output_as(self._launcher, job.id, RESULT_FILE, Result)
        refs: dict[str, ObjectRef] = {}
        for report in build.files(result):
            data = await self._launcher.output(job.id, report.file)
            refs[report.file] = build.check(report, data)
            await self._objects.put(data)
        origin = await self._store.read(lambda conn: _origin(conn, job))
        while not await self._enter(result, origin, refs):
            pass  # another job took the number between reading and entering it: the next one is free
        return NOTHING

    def failed(self, conn: Connection, job: Row[Any], reason: str, now_ns: int) -> None:
        """A failed derivation fails its federated run."""
        if job.federated_run:
            fail_run(conn, job.federated_run, reason, now_ns)

    async def _enter(self, result: Result, origin: Origin, refs: Mapping[str, ObjectRef]) -> bool:
        numbers = await self._store.read(lambda conn: registry.next_numbers(conn, origin.model))
        card = build.card(result, origin, numbers)
        card_bytes = encode(card)
        await self._objects.put(card_bytes)
        release = build.release(result, origin, numbers, refs, object_ref(card_bytes))
        report = build.gate_report(result, origin)
        built = Built(release, card, result.chosen, report, self._ids.new())
        now_ns = self._clock.now_ns()

        def enter(conn: Connection) -> bool:
            if not registry.enter(conn, built, now_ns):
                return False
            if origin.federated_run:
                values = {"state": "succeeded", "result_version": release.version, "finished_ns": now_ns}
                run = update(federated_runs).where(federated_runs.c.id == origin.federated_run)
                conn.execute(run.values(values))
            return True

        return await self._store.write(enter)


def _workload(conn: Connection, model: str) -> str:
    return str(conn.execute(select(models.c.workload).where(models.c.name == model)).scalar_one())


def _release(conn: Connection, model: str, version: int) -> Release:
    query = select(versions.c.release).where(versions.c.model == model, versions.c.version == version)
    return decode(conn.execute(query).scalar_one(), Release, limit=MAX_RELEASE_BYTES)


def _origin(conn: Connection, job: Row[Any]) -> Origin:
    if not job.federated_run:
        return Origin(job.model, job.id)
    run = conn.execute(select(federated_runs).where(federated_runs.c.id == job.federated_run)).one()
    return Origin(job.model, job.id, parent_version=run.version, federated_run=run.id, verdict=run.verdict)
