"""Training jobs, models and versions, and the publisher's signatures."""

from typing import Literal

from fastapi import APIRouter
from sqlalchemy import Connection, select

from cloud.api import views
from cloud.api.context import Hub, Operator, Publisher, Viewer
from cloud.api.schemas import (
    JobRequest,
    JobView,
    MetadataRequest,
    ModelView,
    RefusalRequest,
    SigningRequestView,
    VersionNumber,
    VersionView,
)
from cloud.errors import UnknownError
from cloud.service import audit, jobs, registry
from cloud.service.effects import Effects
from cloud.tables import models

router = APIRouter(tags=["registry"])


@router.post("/jobs", status_code=201)
async def start_job(body: JobRequest, hub: Hub, actor: Operator) -> JobView:
    """Train the next version of a model."""
    job = hub.ids.new()

    def change(conn: Connection, now_ns: int) -> Effects:
        registry.add_model(conn, body.model, body.workload, now_ns)
        audit.record(conn, now_ns, actor.name, ("job.create", job), **body.model_dump())
        return jobs.add(conn, job, body.kind, body.model, {"workload": body.workload, "seed": body.seed}, now_ns)

    await hub.change(change)
    return await hub.read(lambda conn: views.job_view(conn, job))


@router.get("/jobs")
async def all_jobs(hub: Hub, actor: Viewer) -> list[JobView]:
    """All jobs."""
    return await hub.read(views.job_views)


@router.get("/jobs/{job}")
async def one_job(job: str, hub: Hub, actor: Viewer) -> JobView:
    """One job with its progress."""
    return await hub.read(lambda conn: views.job_view(conn, job))


@router.get("/models")
async def all_models(hub: Hub, actor: Viewer) -> list[ModelView]:
    """All models."""
    rows = await hub.read(lambda conn: conn.execute(select(models).order_by(models.c.name)).all())
    return [
        ModelView(name=row.name, workload=row.workload, last_version=row.last_version, production=row.production)
        for row in rows
    ]


@router.get("/models/{model}/versions")
async def all_versions(model: str, hub: Hub, actor: Viewer) -> list[VersionView]:
    """All versions of a model."""
    found = await hub.read(lambda conn: views.version_views(conn, model))
    known = await hub.read(lambda conn: conn.scalar(select(models.c.name).where(models.c.name == model)))
    if known is None:
        raise UnknownError(f"there is no model {model!r}")
    return found


@router.get("/models/{model}/versions/{version}")
async def one_version(model: str, version: VersionNumber, hub: Hub, actor: Viewer) -> VersionView:
    """One version with its release and its card."""
    return await hub.read(lambda conn: views.version_view(conn, model, version))


@router.get("/signing-requests")
async def signing_requests(
    hub: Hub, actor: Viewer, state: Literal["pending", "signed", "refused"] | None = None
) -> list[SigningRequestView]:
    """What the publisher has to decide, or has decided."""
    return await hub.read(lambda conn: views.signing_views(conn, state))


@router.post("/signing-requests/{request}/signature")
async def sign(request: str, body: MetadataRequest, hub: Hub, actor: Publisher) -> SigningRequestView:
    """Hand in the bin in which the publisher lists the release; the version is released."""
    files = body.files()
    row = await hub.read(lambda conn: registry.request_row(conn, request))
    await hub.objects.put(row.payload)
    notary = hub.trust.notary
    await hub.change(lambda conn, now_ns: registry.accept(conn, notary, request, files, actor.name, now_ns))
    return await _signing_request(hub, request)


@router.post("/signing-requests/{request}/refusal")
async def refuse(request: str, body: RefusalRequest, hub: Hub, actor: Publisher) -> SigningRequestView:
    """The publisher does not sign; the version is refused."""
    await hub.change(lambda conn, now_ns: registry.refuse(conn, request, body.reason, actor.name, now_ns))
    return await _signing_request(hub, request)


async def _signing_request(hub: Hub, request: str) -> SigningRequestView:
    return next(one for one in await hub.read(lambda conn: views.signing_views(conn, None)) if one.id == request)
