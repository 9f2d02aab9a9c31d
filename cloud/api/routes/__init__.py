"""One router per noun, all under /api/v1."""

from fastapi import APIRouter

from cloud.api.routes import access, audit, events, fleet, learning, registry, rollouts, trust

PREFIX = "/api/v1"


def router() -> APIRouter:
    """Every route of the API."""
    api = APIRouter(prefix=PREFIX)
    for noun in (access, audit, events, trust, fleet, registry, rollouts, learning):
        api.include_router(noun.router)
    return api
