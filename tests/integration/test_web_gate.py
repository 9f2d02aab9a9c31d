"""The gate in front of the live page, around a page that would show anything to anyone."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from cloud.web.gate import COOKIE, ViewGate

PATH, TOKEN, SECRET = "/live", "right-token", "cookie-secret"


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Everything behind the gate."""
    await PlainTextResponse("twenty devices")(scope, receive, send)


def gate(token: str = TOKEN, secret: str = SECRET) -> ViewGate:
    """The gate under test."""
    return ViewGate(page, path=PATH, token=token, secret=secret)


def ask(app: ViewGate, path: str, *, cookie: str = "", scheme: str = "http") -> httpx.Response:
    """One request, no redirect followed."""

    async def get() -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{scheme}://hub") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


def test_token_is_traded_for_a_cookie_and_leaves_the_address() -> None:
    """Scripts cannot read the cookie, other sites cannot use it, and no cache keeps the answer."""
    answer = ask(gate(), f"{PATH}/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"], answer.headers["cache-control"]) == (
        303,
        f"{PATH}/",
        "no-store",
    )
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={PATH}" in cookie
    assert "Secure" not in cookie
    assert "Secure" in ask(gate(), f"{PATH}/?token={TOKEN}", scheme="https").headers["set-cookie"]
    assert ask(gate(), f"{PATH}/anything", cookie=answer.cookies[COOKIE]).text == "twenty devices"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", "?token=%C3%A9", f"?x={TOKEN}"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"{PATH}/_nicegui/any.js", f"{PATH}/_nicegui_ws/socket.io/"])
def test_everything_else_is_refused_with_the_way_in(path: str, query: str) -> None:
    """401 and where to find the link; assets are no exception, and nothing of the page leaks."""
    refused = ask(gate(), path + query)
    assert refused.status_code == 401
    assert "view.token" in refused.text
    assert "twenty devices" not in refused.text


@pytest.mark.parametrize("path", ["/", "/api/v1/health", "/liveliness"])
def test_other_paths_are_not_the_gates_business(path: str) -> None:
    """The API has keys of its own."""
    assert ask(gate(), path).text == "twenty devices"


def test_forged_and_voided_cookies_are_refused() -> None:
    """Made up, tampered with, signed by another hub, or given for a token that was replaced since."""
    good = ask(gate(), f"{PATH}?token={TOKEN}").cookies[COOKIE]
    foreign = ask(gate(secret="other"), f"{PATH}?token={TOKEN}").cookies[COOKIE]
    replaced = ask(gate(token="old"), f"{PATH}?token=old").cookies[COOKIE]
    assert ask(gate(), PATH, cookie=good).status_code == 200
    for cookie in ("viewer", good[:-1], f"x{good}", foreign, replaced):
        assert ask(gate(), PATH, cookie=cookie).status_code == 401, cookie


@pytest.mark.parametrize("path", [PATH, f"{PATH}/_nicegui_ws/socket.io/"])
def test_websockets_need_the_cookie_too(path: str) -> None:
    """Live updates are as private as the page; a token in the address is not enough for them."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": f"token={TOKEN}".encode()}
    asyncio.run(gate()(scope, receive, send))
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


@pytest.mark.parametrize(("token", "secret"), [("", SECRET), (TOKEN, "")])
def test_gate_without_a_secret_is_no_gate(token: str, secret: str) -> None:
    """An empty token would let everyone in."""
    with pytest.raises(ValueError, match="neither may be empty"):
        gate(token, secret)
