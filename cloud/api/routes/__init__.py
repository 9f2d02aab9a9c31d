"""One router per noun, all under /api/v1."""

from fastapi import APIRouter

from cloud.api.routes import (
    access,
    artefacts,
    audit,
    claims,
    device_changes,
    devices,
    events,
    fleet,
    groups,
    learning,
    registry,
    rollouts,
    trust,
    versions,
)
from cloud.api.schemas.base import Problem

PREFIX = "/api/v1"
PROBLEM = {
    "description": "Refused, or failed: a problem document (RFC 9457) that says why",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
}


def router() -> APIRouter:
    """Every route of the API."""
    api = APIRouter(prefix=PREFIX, responses={"default": PROBLEM})
    for noun in (
        access,
        audit,
        events,
        trust,
        fleet,
        claims,
        devices,
        device_changes,
        groups,
        artefacts,
        registry,
        versions,
        rollouts,
        learning,
    ):
        api.include_router(noun.router)
    return api
