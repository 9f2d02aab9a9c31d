"""One router per noun, all under /api/v1."""

from fastapi import APIRouter

from cloud.api.routes import access, artefacts, devices, fleet, groups, learning, registry, rollouts, trust, versions

PREFIX = "/api/v1"


def router() -> APIRouter:
    """Every route of the API."""
    api = APIRouter(prefix=PREFIX)
    for noun in (access, trust, fleet, devices, groups, artefacts, registry, versions, rollouts, learning):
        api.include_router(noun.router)
    return api
