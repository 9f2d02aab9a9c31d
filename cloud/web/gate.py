"""No anonymous access: the link's token is traded once for a signed cookie; all else below the page's path is refused.

Covers plain requests and websockets alike, so that page, assets and live updates share one rule. The token is compared
in constant time and leaves the address bar with a redirect. A new token voids all cookies.
"""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "fleetloop_view"
COOKIE_MAX_AGE_S = 12 * 3600
WEBSOCKET_POLICY_VIOLATION = 1008

_REFUSAL = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Fleetloop</title>
<style>body{font:16px/1.6 system-ui,sans-serif;max-width:34em;margin:16vh auto;padding:0 1em;color:#1b2330}
code{background:#eef0f4;padding:.1em .4em;border-radius:4px}</style>
<h1>This page needs its link</h1><p>It ends in <code>?token=…</code>; the token stands in
the file <code>view.token</code> in the hub's data directory.</p><p>Open the page once through that
link; this browser is then let in for twelve hours.</p></html>"""


class ViewGate:
    """ASGI middleware in front of everything below `path`. `token` opens, `secret` signs the cookies."""

    def __init__(self, app: ASGIApp, *, path: str, token: str, secret: str) -> None:
        if not token or not secret:
            raise ValueError("the live page needs a view token and a cookie secret, neither may be empty")
        self._app = app
        self._path = path
        self._token = token.encode()
        salt = hashlib.sha256(self._token).hexdigest()
        self._signer = TimestampSigner(secret, salt=salt, digest_method=hashlib.sha256)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, trade a token for a cookie, or refuse with 401 (websocket: 1008)."""
        if scope["type"] not in ("http", "websocket") or not self._guards(scope["path"]) or self._has_cookie(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": WEBSOCKET_POLICY_VIOLATION})
        elif self._has_token(scope):
            await self._admit(scope)(scope, receive, send)
        else:
            await HTMLResponse(_REFUSAL, 401, headers={"Cache-Control": "no-store"})(scope, receive, send)

    def _guards(self, path: str) -> bool:
        return path == self._path or path.startswith(self._path + "/")

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(COOKIE)
            if cookie is None:
                return False
            self._signer.unsign(cookie.value, max_age=COOKIE_MAX_AGE_S)
        except (BadSignature, CookieError):
            return False
        return True

    def _has_token(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._token)

    def _admit(self, scope: Scope) -> RedirectResponse:
        response = RedirectResponse(
            scope["path"], 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        response.set_cookie(
            COOKIE,
            self._signer.sign("viewer").decode(),
            max_age=COOKIE_MAX_AGE_S,
            path=self._path,
            secure=scope["scheme"] == "https",
            httponly=True,
            samesite="lax",
        )
        return response
