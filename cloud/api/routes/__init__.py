"""One router per noun, all under /api/v1."""

from fastapi import APIRouter

from cloud.api.routes import access, audit, events, fleet, learning, registry, rollouts, trust
from cloud.api.schemas import Problem

PREFIX = "/api/v1"
PROBLEM = {
    "description": "Refused, or failed: a problem document (RFC 9457) that says why",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
}


def router() -> APIRouter:
    """Every route of the API."""
    api = APIRouter(prefix=PREFIX, responses={"default": PROBLEM})
    for noun in (access, audit, events, trust, fleet, registry, rollouts, learning):
        api.include_router(noun.router)
    return api
