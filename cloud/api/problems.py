"""The one place where errors become HTTP problems (RFC 9457): what is wrong, and what to do about it."""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cloud.api.bounds import Bounds
from cloud.api.calls import REQUEST_ID, Calls, ReplayError
from cloud.api.schemas.base import RULES, Problem
from cloud.errors import (
    BusyError,
    ConflictError,
    ForbiddenError,
    HubError,
    InvalidError,
    PreconditionError,
    StoreError,
    TooLongError,
    TooManyError,
    UnauthorisedError,
    UnavailableError,
    UnknownError,
)

log = logging.getLogger(__name__)

STATUS: dict[type[HubError], HTTPStatus] = {
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    TooLongError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnauthorisedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    PreconditionError: HTTPStatus.PRECONDITION_FAILED,
    TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
}
TO_THE_LOG: dict[type[HubError], str] = {
    StoreError: "the hub's database cannot be used now: ask again in a while",
    UnavailableError: "the hub lacks what it needs for this now, its log says what: ask again in a while",
}
"""Errors of the hub's own surroundings, which may name its files and servers: what callers are told instead."""
MAX_SHOWN = 80
"""Characters of what was sent that an answer repeats at most."""
RETRY_AFTER_S = 5.0
MEDIA_TYPE = "application/problem+json"


def status_of(error: HubError) -> HTTPStatus:
    """What HTTP calls it."""
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)


def problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error answer."""
    call = request.state.call.id
    more = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=call).model_dump()
    return JSONResponse(body, status, headers={**(headers or {}), **more}, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Map every error of the app, give every request its id, and bound what it may send."""
    app.add_exception_handler(HubError, _hub_error)
    app.add_exception_handler(ReplayError, _replay)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _broken_off)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(Bounds, refuse=problem)
    app.add_middleware(Calls)


async def _hub_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HubError)
    status = status_of(error)
    wait_s = getattr(error, "retry_after_s", RETRY_AFTER_S if status == HTTPStatus.SERVICE_UNAVAILABLE else None)
    told = TO_THE_LOG.get(type(error))
    if told is not None:
        call = request.state.call.id
        log.warning("%s %s was put off (request %s): %s", request.method, request.url.path, call, error)
    headers = None if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}
    return problem(request, status, told or str(error), headers)


async def _replay(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReplayError)
    answer = error.answer
    return Response(answer.body, answer.status, {**answer.headers, "Idempotency-Replayed": "true"})


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(_explain(error.errors())))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(request, error.status_code, str(error.detail), error.headers)


async def _broken_off(request: Request, error: Exception) -> JSONResponse:
    """Nobody is there to read it."""
    return problem(request, HTTPStatus.BAD_REQUEST, "the body broke off: send it again")


async def _defect(request: Request, error: Exception) -> JSONResponse:
    call = request.state.call.id
    log.exception("%s %s failed (request %s)", request.method, request.url.path, call, exc_info=error)
    said = "a defect of the hub; its log has the details"  # this answer passes no middleware on its way out
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, said, {REQUEST_ID: call})


def _explain(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(str(part) for part in one['loc'])}: {_what(one)}" for one in errors]


def _what(error: Any) -> str:
    """Of a text that does not match, what would; of anything else, what pydantic says."""
    rule = RULES.get(error.get("ctx", {}).get("pattern", ""))
    return error["msg"] if rule is None else f"{error['input'][:MAX_SHOWN]!r} {rule}"
