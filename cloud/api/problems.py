"""The one place where errors become HTTP problems (RFC 9457): what is wrong, and what to do about it."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.api.schemas import Problem
from cloud.errors import (
    ConflictError,
    ForbiddenError,
    HubError,
    InvalidError,
    StoreError,
    TooLongError,
    UnauthorisedError,
    UnavailableError,
    UnknownError,
)
from wire.release import MAX_OBJECT_BYTES

log = logging.getLogger(__name__)

STATUS: dict[type[HubError], HTTPStatus] = {
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    TooLongError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnauthorisedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}
MAX_BODY_BYTES = 3 * 1024 * 1024
"""Room for the largest trust metadata (`wire.trust.MAX_TARGETS_BYTES`) in base64."""
UPLOADS = "/api/v1/artefacts/"
"""Bodies of these paths are files, taken part by part."""


def problem(status: int, detail: str) -> JSONResponse:
    """An error answer."""
    title = HTTPStatus(status).phrase
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    body = Problem(title=title, status=status, detail=detail).model_dump()
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Map every error of the app, and bound the size of bodies."""
    app.add_exception_handler(HubError, _hub_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(BodyLimit)


async def _hub_error(request: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    return problem(status, str(error))


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(_explain(error.errors())))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail))


async def _defect(request: Request, error: Exception) -> JSONResponse:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of the hub; its log has the details")


def _explain(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in errors]


class BodyLimit:
    """ASGI middleware: a body longer than MAX_BODY_BYTES is refused with 413, whatever its announced length.

    An upload may be as long as an object.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count while the body comes in."""
        taken = 0
        most = MAX_OBJECT_BYTES if scope.get("path", "").startswith(UPLOADS) else MAX_BODY_BYTES

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {most} bytes")
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)
