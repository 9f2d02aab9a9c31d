"""The gate in front of the live page, around a page that would show anything to anyone."""

import asyncio

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from cloud.web.gate import COOKIE, MAX_KEY_BYTES, DoorError, ViewGate

PATH, KEY, SECRET = "/live", "flk_right", "cookie-secret"


class OneKey:
    """A door that one key opens, until it is revoked."""

    def __init__(self) -> None:
        self.revoked = False
        self.trouble = ""
        self.asked_from = ""

    async def enter(self, address: str, key: str) -> str:
        """Its id."""
        self.asked_from = address
        if key != KEY or self.revoked:
            raise DoorError(401, "this <API> key is not known")
        return "key-1"

    async def is_good(self, key: str) -> bool:
        """Is it the one, still?"""
        if self.trouble:
            raise DoorError(503, self.trouble)
        return key == "key-1" and not self.revoked


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Everything behind the gate."""
    await PlainTextResponse("twenty devices")(scope, receive, send)


def gate(secret: str = SECRET, door: OneKey | None = None) -> ViewGate:
    """The gate under test."""
    return ViewGate(page, path=PATH, door=door or OneKey(), secret=secret)


def ask(
    app: ViewGate, path: str, *, cookie: str = "", scheme: str = "http", form: dict[str, str] | None = None
) -> httpx.Response:
    """One request, no redirect followed."""

    async def get() -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{scheme}://hub") as client:
            return await client.request("POST" if form else "GET", path, headers=headers, data=form)

    return asyncio.run(get())


def test_a_key_is_traded_for_a_cookie_and_leaves_the_address() -> None:
    """By a link or by the form. No script reads the cookie, no other site uses it, no cache keeps the answer."""
    answer = ask(gate(), f"{PATH}/?token={KEY}")
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
    assert KEY not in cookie
    assert "Secure" in ask(gate(), f"{PATH}/?token={KEY}", scheme="https").headers["set-cookie"]
    assert ask(gate(), f"{PATH}/anything", cookie=answer.cookies[COOKIE]).text == "twenty devices"
    formed = ask(gate(), f"{PATH}/", form={"token": f" {KEY} "})
    assert (formed.status_code, formed.headers["location"]) == (303, f"{PATH}/")
    assert ask(gate(), PATH, cookie=formed.cookies[COOKIE]).text == "twenty devices"


def test_a_link_leaves_the_address_of_whoever_is_in_already() -> None:
    """A browser with its cookie opens the link again: no key stays in sight, and a bad one shuts nobody out."""
    cookie = ask(gate(), f"{PATH}/?token={KEY}").cookies[COOKIE]
    for key in (KEY, "wrong"):
        answer = ask(gate(), f"{PATH}/?x=1&token={key}", cookie=cookie)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{PATH}/")
    assert ask(gate(), f"{PATH}/?x=1", cookie=cookie).text == "twenty devices"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", f"?token={KEY}x", "?token=%C3%A9", f"?x={KEY}"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"{PATH}/_nicegui/any.js", f"{PATH}/_nicegui_ws/socket.io/"])
def test_everything_else_is_refused_with_the_way_in(path: str, query: str) -> None:
    """401 and a form for the key; assets are no exception, and nothing of the page leaks."""
    refused = ask(gate(), path + query)
    assert refused.status_code == 401
    assert '<form method="post">' in refused.text
    assert "<API>" not in refused.text
    assert "twenty devices" not in refused.text


@pytest.mark.parametrize("given", ["wrong", "x" * (MAX_KEY_BYTES + 1)])
def test_a_form_with_something_else_is_refused(given: str) -> None:
    """However long it is."""
    assert ask(gate(), f"{PATH}/", form={"token": given}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/api/v1/health", "/liveliness"])
def test_other_paths_are_not_the_gates_business(path: str) -> None:
    """The API has keys of its own."""
    assert ask(gate(), path).text == "twenty devices"


def test_forged_cookies_and_those_of_a_revoked_key_are_refused() -> None:
    """Made up, tampered with, signed by another hub, or given for a key that is over."""
    door = OneKey()
    app = gate(door=door)
    good = ask(app, f"{PATH}?token={KEY}").cookies[COOKIE]
    foreign = ask(gate(secret="other"), f"{PATH}?token={KEY}").cookies[COOKIE]
    assert ask(app, PATH, cookie=good).status_code == 200
    for cookie in ("key-1", good[:-1], f"x{good}", foreign):
        assert ask(app, PATH, cookie=cookie).status_code == 401, cookie
    door.revoked = True
    assert ask(app, PATH, cookie=good).status_code == 401


def test_guesses_are_counted_at_the_place_they_come_from() -> None:
    """The door hears the address."""
    door = OneKey()
    ask(gate(door=door), f"{PATH}?token=guess")
    assert door.asked_from == "127.0.0.1"


@pytest.mark.parametrize("path", [PATH, f"{PATH}/_nicegui_ws/socket.io/"])
def test_websockets_need_the_cookie_too(path: str) -> None:
    """Live updates are as private as the page; a key in the address is not enough for them."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": f"token={KEY}".encode()}
    asyncio.run(gate()(scope, receive, send))
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


def test_an_open_page_ends_with_its_key() -> None:
    """The next thing that the browser says, be it the answer to a ping, is the last."""
    door, heard = OneKey(), []

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            heard.append(message["type"])
            if message["type"] == "websocket.disconnect":
                return
            door.revoked = len(heard) == 3

    async def receive() -> Message:
        return {"type": "websocket.receive" if heard else "websocket.connect", "text": "3"}

    async def send(message: Message) -> None:
        """Nothing listens."""

    app = ViewGate(listener, path=PATH, door=door, secret=SECRET)
    cookie = ask(gate(door=door), f"{PATH}?token={KEY}").cookies[COOKIE]
    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())]
    asyncio.run(app({"type": "websocket", "path": PATH, "headers": headers, "query_string": b""}, receive, send))
    assert heard == ["websocket.connect", "websocket.receive", "websocket.receive", "websocket.disconnect"]


def test_where_no_key_can_be_looked_up_nobody_is_asked_for_one() -> None:
    """The hub is in trouble: a cookie is neither good nor bad then, and an open page ends."""
    door = OneKey()
    cookie = ask(gate(door=door), f"{PATH}?token={KEY}").cookies[COOKIE]
    door.trouble = "ask again"
    answer = ask(gate(door=door), PATH, cookie=cookie)
    assert (answer.status_code, "ask again" in answer.text) == (503, True)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())]
    scope = {"type": "websocket", "path": PATH, "headers": headers, "query_string": b""}
    asyncio.run(gate(door=door)(scope, never, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


async def never() -> Message:
    """Nothing comes."""
    raise HTTPException(408, "nothing came of the body for 30 s")


async def gone() -> Message:
    """Nobody is there any more."""
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(("receive", "status"), [(never, 408), (gone, 400)])
def test_a_form_that_never_comes_is_no_defect(receive: Receive, status: int) -> None:
    """Whatever ends it is answered as what it is."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": [], "query_string": b"", "scheme": "http"}
    asyncio.run(gate()(scope, receive, send))
    assert sent[0]["status"] == status


def test_a_gate_without_a_secret_is_no_gate() -> None:
    """Anybody could sign its cookies."""
    with pytest.raises(ValueError, match="needs a secret"):
        gate("")
