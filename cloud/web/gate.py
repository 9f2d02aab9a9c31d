"""No anonymous access: an API key is traded once for a signed cookie; all else below the page's path is refused.

Covers plain requests and websockets alike, so that page, assets and live updates share one rule. A cookie holds for
twelve hours, and no longer than its key: whoever revokes the key closes the page, open ones included. The key comes by
the form of the refusal, or in a link (`?token=`), which suits a viewer's key with an end; it leaves the address bar
with a redirect.
"""

from html import escape
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Protocol
from urllib.parse import parse_qs

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "fleetloop_view"
COOKIE_MAX_AGE_S = 12 * 3600
MAX_KEY_BYTES = 1_000
"""Longest form that is read."""
WEBSOCKET_POLICY_VIOLATION = 1008

_REFUSAL = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Fleetloop</title>
<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:34em;margin:16vh auto;padding:0 1em;color:#1b2330}}
code{{background:#eef0f4;padding:.1em .4em;border-radius:4px}}input,button{{font:inherit;padding:.2em .6em}}</style>
<h1>This page needs an API key</h1><p>{why}</p>
<form method="post"><input name="token" type="password" autocomplete="off" aria-label="API key" required autofocus>
<button>Open</button></form><p>Any role will do. <code>fleetloop access create NAME --role viewer --days 7</code>
makes a key for a viewer; this browser is then let in for twelve hours.</p></html>"""


class DoorError(Exception):
    """The key does not open the page: `status` as the API would say it, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Door(Protocol):
    """Who may see the page."""

    async def enter(self, address: str, key: str) -> str:
        """The id of this API key, shown from `address`. Raises DoorError."""

    async def is_good(self, key: str) -> bool:
        """Does the API key with this id still open the page? Raises DoorError when that cannot be told now."""


class ViewGate:
    """ASGI middleware in front of everything below `path`. `secret` signs the cookies."""

    def __init__(self, app: ASGIApp, *, path: str, door: Door, secret: str) -> None:
        if not secret:
            raise ValueError("the live page needs a secret for its cookies")
        self._app = app
        self._path = path
        self._door = door
        self._signer = TimestampSigner(secret, salt=COOKIE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, trade a key for a cookie, or refuse with 401 (websocket: 1008)."""
        if scope["type"] not in ("http", "websocket") or not self._guards(scope["path"]):
            await self._app(scope, receive, send)
            return
        key = self._holder(scope)
        if scope["type"] == "websocket":
            if key is None or not await self._is_good(key):
                await send({"type": "websocket.close", "code": WEBSOCKET_POLICY_VIOLATION})
                return
            await self._app(scope, self._while_good(key, receive), send)
            return
        refusal = await self._refused(Request(scope, receive), key)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    async def _refused(self, request: Request, key: str | None) -> Response | None:
        """What is answered instead of the page; None: the page."""
        try:
            if key is None or not await self._door.is_good(key):
                return await self._admit(request)
        except DoorError as error:
            return _refusal(error.status, str(error))
        except HTTPException as error:  # it took too long to send the form
            return _refusal(error.status_code, error.detail)
        except ClientDisconnect:
            return _refusal(HTTPStatus.BAD_REQUEST, "The form broke off.")
        return _to_itself(request) if _in_address(request) else None  # a link that was opened again

    async def _is_good(self, key: str) -> bool:
        try:
            return await self._door.is_good(key)
        except DoorError:
            return False

    def _guards(self, path: str) -> bool:
        return path == self._path or path.startswith(self._path + "/")

    def _holder(self, scope: Scope) -> str | None:
        """The id of the key that the cookie was given for."""
        try:
            cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(COOKIE)
            return None if cookie is None else self._signer.unsign(cookie.value, max_age=COOKIE_MAX_AGE_S).decode()
        except (BadSignature, CookieError):
            return None

    def _while_good(self, key: str, receive: Receive) -> Receive:
        """What the browser says (it answers a ping every few seconds), until the key is over."""

        async def received() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive" or await self._is_good(key):
                return message
            return {"type": "websocket.disconnect", "code": WEBSOCKET_POLICY_VIOLATION}

        return received

    async def _admit(self, request: Request) -> Response:
        """Raises DoorError, HTTPException."""
        given = await _given(request)
        if not given:
            return _refusal(HTTPStatus.UNAUTHORIZED, "It shows the whole fleet.")
        key = await self._door.enter(request.client.host if request.client else "", given)
        response = _to_itself(request)
        response.set_cookie(
            COOKIE,
            self._signer.sign(key).decode(),
            max_age=COOKIE_MAX_AGE_S,
            path=self._path,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response


async def _given(request: Request) -> str:
    """The key of a link, or of the form."""
    said = request.url.query.encode()
    if request.method == "POST":
        said = b""
        async for part in request.stream():
            said += part
            if len(said) > MAX_KEY_BYTES:
                return ""
    return _token(said)


def _in_address(request: Request) -> bool:
    return bool(_token(request.url.query.encode()))


def _token(said: bytes) -> str:
    return parse_qs(said.decode("latin-1")).get("token", [""])[0].strip()


def _to_itself(request: Request) -> Response:
    """The same page, with nothing but its path in the address."""
    return RedirectResponse(
        request.url.path, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )


def _refusal(status: int, why: str) -> HTMLResponse:
    return HTMLResponse(_REFUSAL.format(why=escape(why)), status, headers={"Cache-Control": "no-store"})
