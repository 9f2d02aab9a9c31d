"""The live page on a real server: NiceGUI keeps one app per process, so it gets a process of its own here."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
SERVER = """
import socket, sys, uvicorn
from fastapi import FastAPI
from cloud.service.overview.shapes import Overview
from cloud.web.gate import DoorError
from cloud.web.pages import mount

async def read():
    return Overview(now_ns=1, stage="enrol", headline="Waiting for <twenty> devices")

class Door:
    async def enter(self, address, key):
        if key != "right-key":
            raise DoorError(401, "no")
        return "1"

    async def is_good(self, key):
        return key == "1"

app = FastAPI()
mount(app, read, Door(), "cookie-secret")
app.get("/api/v1/health")(lambda: {"status": "ok"})  # added after the page, and still reached
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a hub that has only the page."""
    directory = tmp_path_factory.mktemp("page")
    command = [sys.executable, "-c", SERVER]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(directory)}
    with subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
            process.wait(20)
    assert not list(directory.glob(".nicegui")), "the page must not write beside the hub's data"


def test_link_opens_the_page_and_the_cookie_keeps_it_open(url: str) -> None:
    """The root leads to the page, the key leaves the address, the overview is in what is delivered."""
    with httpx.Client(base_url=url, follow_redirects=True) as client:
        opened = client.get("/?token=right-key")
        assert opened.status_code == 200
        assert "token" not in str(opened.url)
        assert "Waiting for &lt;twenty&gt; devices" in opened.text.replace("\\u003c", "<").replace("&amp;", "&")
        assert client.get("/live/").status_code == 200


def test_without_the_link_there_is_nothing_to_see(url: str) -> None:
    """Page and assets say 401; the API beside them is not touched."""
    assert httpx.get(url, follow_redirects=True).status_code == 401
    assert httpx.get(f"{url}/live/_nicegui/anything").status_code == 401
    assert httpx.get(f"{url}/api/v1/health").json() == {"status": "ok"}


def test_page_needs_no_other_host(url: str) -> None:
    """It works on a machine without the internet: every address in it is its own."""
    with httpx.Client(base_url=url, follow_redirects=True) as client:
        text = client.get("/?token=right-key").text
    for mark in ('src="http', "src='http", 'href="http', "url(http", 'url("http'):
        assert mark not in text
