"""Federated runs: start, watch and stop."""

from fastapi import APIRouter

from cloud.api import views
from cloud.api.context import Hub, ScopedOperator, ScopedViewer
from cloud.api.paging import Paged
from cloud.api.reaching import model_in, selector_in
from cloud.api.schemas.learning import FederatedRequest, FederatedView
from cloud.service import federated_runs
from cloud.service.federated_runs import NewRun

router = APIRouter(prefix="/federated-runs", tags=["federated"])


@router.post("", status_code=201)
async def start(body: FederatedRequest, hub: Hub, actor: ScopedOperator) -> FederatedView:
    """Learn on the devices, starting from a released version."""
    model_in(actor.reach, body.model)
    selector_in(actor.reach, body.selector)
    new = NewRun(
        id=hub.ids.new(),
        job=hub.ids.new(),
        model=body.model,
        version=body.version,
        selector=body.selector,
        request=body.model_dump(by_alias=True),
    )
    await hub.change(lambda conn, now_ns: federated_runs.create(conn, new, actor.name, now_ns))
    return await hub.read(lambda conn: views.federated_view(conn, new.id))


@router.get("")
async def all_runs(hub: Hub, actor: ScopedViewer, page: Paged) -> list[FederatedView]:
    """Federated runs, oldest first."""
    return page.answer(await hub.read(lambda conn: views.federated_views(conn, page.window, actor.reach)))


@router.get("/{run}")
async def one(run: str, hub: Hub, actor: ScopedViewer) -> FederatedView:
    """One federated run with its rounds, its verdict and the version it made."""
    return await hub.read(lambda conn: views.federated_view(conn, run, actor.reach))


@router.post("/{run}/stop")
async def stop(run: str, hub: Hub, actor: ScopedOperator) -> FederatedView:
    """End a run in which devices still learn; it has failed as soon as its aggregator has ended."""
    await one(run, hub, actor)
    await hub.change(lambda conn, now_ns: federated_runs.stop(conn, run, actor.name, now_ns))
    return await one(run, hub, actor)
