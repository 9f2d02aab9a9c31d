"""How much a request may send, and what every answer tells browsers and proxies. Checked before any route sees it."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wire.release import MAX_OBJECT_BYTES

MAX_BODY_BYTES: Final = 3 * 1024 * 1024
"""Room for the largest trust metadata (`wire.trust.MAX_TARGETS_BYTES`) in base64."""
MAX_HEADER_BYTES: Final = 16 * 1024
"""All headers of a request together: no Range with thousands of parts gets in."""

STALL_S: Final = 30.0
"""How long nothing may come of a body."""
SLOWEST_BYTES_PER_S: Final = 4 * 1024
"""What has to come of a body once that time is over, on average: who drips holds no place for long."""

_ALWAYS: Final = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
API: Final = "/api/"
UPLOADS: Final = "/api/v1/artefacts/"
"""Bodies of these paths are files, taken part by part."""


class Bounds:
    """ASGI middleware: too much in headers is refused with 431, too much in a body with 413, announced or not; and with
    408 a body that stalls or drips."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Request, int, str], Response], stall_s: float = STALL_S) -> None:
        self._app = app
        self._refuse = refuse
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or count while the body comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        careful = _marked(send) if scope["path"].startswith(API) else send
        if (refusal := self._too_much(scope)) is not None:
            await refusal(scope, receive, careful)
        else:
            await self._app(scope, _counted(receive, _most(scope), self._stall_s), careful)

    def _too_much(self, scope: Scope) -> Response | None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            status, what = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"headers may have {MAX_HEADER_BYTES} bytes"
        elif _announced_bytes(scope) > _most(scope):
            status, what = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {_most(scope)} bytes"
        else:
            return None
        return self._refuse(Request(scope), status, what)


def _most(scope: Scope) -> int:
    """An upload may be as long as an object."""
    return MAX_OBJECT_BYTES if scope["path"].startswith(UPLOADS) else MAX_BODY_BYTES


def _announced_bytes(scope: Scope) -> int:
    said = Headers(scope=scope).get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() else 0


def _counted(receive: Receive, most: int, stall_s: float) -> Receive:
    taken, complete, now = 0, False, asyncio.get_running_loop().time
    begun = now()

    async def counted() -> Message:
        nonlocal taken, complete
        try:
            async with asyncio.timeout(None if complete else stall_s):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, f"nothing came of the body for {stall_s:g} s") from error
        taken += len(message.get("body", b""))
        if not complete and taken < (now() - begun - stall_s) * SLOWEST_BYTES_PER_S:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, f"{taken} bytes of the body came in {now() - begun:.0f} s")
        complete = not message.get("more_body", False)
        if taken > most:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {most} bytes")
        return message

    return counted


def _marked(send: Send) -> Send:
    """Answers are for who asked, and are what they say they are."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return marked
