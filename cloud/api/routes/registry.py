"""Training jobs, models and versions, and the publisher's signatures."""

from typing import Literal

from fastapi import APIRouter
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Actor, Context, Hub, ScopedOperator, ScopedPublisher, ScopedViewer
from cloud.api.paging import Paged
from cloud.api.reaching import model_in
from cloud.api.schemas.base import VersionNumber
from cloud.api.schemas.registry import JobRequest, JobView, ModelView, RefusalRequest, SigningRequestView, VersionView
from cloud.api.schemas.trust import MetadataRequest
from cloud.errors import UnavailableError
from cloud.ports import ObjectStoreError
from cloud.service import audit, jobs, registry
from cloud.service.effects import Effects

router = APIRouter(tags=["registry"])


@router.post("/jobs", status_code=201)
async def start_job(body: JobRequest, hub: Hub, actor: ScopedOperator) -> JobView:
    """Train the next version of a model."""
    model_in(actor.reach, body.model)
    job = hub.ids.new()

    def change(conn: Connection, now_ns: int) -> Effects:
        registry.add_model(conn, body.model, body.workload, now_ns)
        audit.record(conn, now_ns, actor.name, ("job.create", job), **body.model_dump())
        return jobs.add(conn, job, body.kind, body.model, {"workload": body.workload, "seed": body.seed}, now_ns)

    await hub.change(change)
    return await hub.read(lambda conn: views.job_view(conn, job))


@router.get("/jobs")
async def all_jobs(hub: Hub, actor: ScopedViewer, page: Paged) -> list[JobView]:
    """Jobs, oldest first, without their progress."""
    return page.answer(await hub.read(lambda conn: views.job_views(conn, page.window, actor.reach)))


@router.get("/jobs/{job}")
async def one_job(job: str, hub: Hub, actor: ScopedViewer) -> JobView:
    """One job with its progress."""
    return await hub.read(lambda conn: views.job_view(conn, job, actor.reach))


@router.get("/models")
async def all_models(hub: Hub, actor: ScopedViewer, page: Paged) -> list[ModelView]:
    """Models by name."""
    return page.answer(await hub.read(lambda conn: views.model_views(conn, page.window, actor.reach)))


@router.get("/models/{model}/versions")
async def all_versions(model: str, hub: Hub, actor: ScopedViewer, page: Paged) -> list[VersionView]:
    """Versions of a model, oldest first."""
    model_in(actor.reach, model)
    return page.answer(await hub.read(lambda conn: views.version_views(conn, page.window, model)))


@router.get("/models/{model}/versions/{version}")
async def one_version(model: str, version: VersionNumber, hub: Hub, actor: ScopedViewer) -> VersionView:
    """One version with its release and its card."""
    model_in(actor.reach, model)
    return await hub.read(lambda conn: views.version_view(conn, model, version))


@router.get("/signing-requests")
async def signing_requests(
    hub: Hub, actor: ScopedViewer, page: Paged, state: Literal["pending", "signed", "refused"] | None = None
) -> list[SigningRequestView]:
    """What the publisher has to decide, or has decided, oldest first."""
    return page.answer(await hub.read(lambda conn: views.signing_views(conn, page.window, state, actor.reach)))


@router.get("/signing-requests/{request}")
async def signing_request(request: str, hub: Hub, actor: ScopedViewer) -> SigningRequestView:
    """One of them, whatever became of it."""
    return await _signing_request(hub, request, actor)


@router.post("/signing-requests/{request}/signature")
async def sign(request: str, body: MetadataRequest, hub: Hub, actor: ScopedPublisher) -> SigningRequestView:
    """Hand in the bin in which the publisher lists the release; the version is released."""
    files = body.files()
    await _signing_request(hub, request, actor)
    row = await hub.read(lambda conn: registry.request_row(conn, request))
    try:
        await hub.objects.put(row.payload)
    except ObjectStoreError as error:
        raise UnavailableError(str(error)) from error
    notary = hub.trust.notary
    await hub.change(lambda conn, now_ns: registry.accept(conn, notary, request, files, actor.name, now_ns))
    return await _signing_request(hub, request, actor)


@router.post("/signing-requests/{request}/refusal")
async def refuse(request: str, body: RefusalRequest, hub: Hub, actor: ScopedPublisher) -> SigningRequestView:
    """The publisher does not sign; the version is refused."""
    await _signing_request(hub, request, actor)
    await hub.change(lambda conn, now_ns: registry.refuse(conn, request, body.reason, actor.name, now_ns))
    return await _signing_request(hub, request, actor)


async def _signing_request(hub: Context, request: str, actor: Actor) -> SigningRequestView:
    return await hub.read(lambda conn: views.signing_view(conn, request, actor.reach))
