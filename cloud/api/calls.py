"""One request on its way through the hub: its id, and whether it may be carried out only once.

Every answer carries the id as `X-Request-Id`; the audit rows of what it changed and problem documents have it, too.
"""

import hashlib
import logging
import re
import uuid
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy import Connection
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.errors import InvalidError
from cloud.service import idempotency
from cloud.service.idempotency import Answer, Once

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"
IDEMPOTENCY_KEY = "Idempotency-Key"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_KEPT_HEADERS = ("content-type", "etag", "link")


@dataclass(slots=True)
class Call:
    """The request."""

    id: str = ""
    once: Once | None = None
    """Set when it carried an Idempotency-Key."""
    kept: bool = False
    """Its answer is to be kept."""
    begun: bool = False

    def carry_out(self, conn: Connection, now_ns: int, *, secret: bool) -> None:
        """Its change is about to be made in this transaction, which may have to be run again. Raises ConflictError."""
        if self.once is not None and not self.begun:
            idempotency.begin(conn, self.once, now_ns, secret=secret)

    def carried_out(self, *, secret: bool) -> None:
        """Its change is committed."""
        if self.once is not None and not self.begun:
            self.begun, self.kept = True, not secret


class ReplayError(Exception):
    """The request was made before: it is answered as it was then."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


async def once_of(request: Request, api_key: str) -> Once | None:
    """What the request says of being made once. Raises InvalidError."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None or request.method != "POST":
        return None
    if not _KEY.fullmatch(key):
        raise InvalidError(f"{IDEMPOTENCY_KEY}: 1 to 200 visible ASCII characters are needed")
    said = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return Once(api_key, key, hashlib.sha256(said + await request.body()).hexdigest())


class Calls:
    """ASGI middleware: gives every request its `Call`, says its id, and keeps answers that are to be given again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        call = Call(given if _ID.fullmatch(given) else uuid.uuid4().hex)
        scope.setdefault("state", {})["call"] = call
        await self._app(scope, receive, _Keeping(scope, call, send))


class _Keeping:
    """Sends on what it is given; the last part of an answer that is to be kept only after it was kept."""

    def __init__(self, scope: Scope, call: Call, send: Send) -> None:
        self._scope, self._call, self._send = scope, call, send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            MutableHeaders(scope=message)[REQUEST_ID] = self._call.id
        elif message["type"] == "http.response.body" and self._call.kept:
            self._body += message.get("body", b"")
            self._call.kept = len(self._body) <= idempotency.MAX_BODY_BYTES and self._start["status"] < 500
            if self._call.kept and not message.get("more_body", False):
                await self._keep()
        await self._send(message)

    async def _keep(self) -> None:
        once, store = self._call.once, self._scope["app"].state.context.store
        assert once is not None
        headers = Headers(raw=self._start["headers"])
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        answer = Answer(self._start["status"], kept, self._body)
        try:
            await store.write(lambda conn: idempotency.finish(conn, once, answer))
        except Exception:
            log.exception("the answer to request %s could not be kept", self._call.id)
