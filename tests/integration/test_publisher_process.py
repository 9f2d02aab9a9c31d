"""The publisher as its own process against a real HTTP server: keys, ledger, signatures and a kill in between."""

import base64
import datetime
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from cloud.adapters.certificates import ensure
from cloud.publisher.adapters.hub_http import HttpHub
from cloud.publisher.adapters.metadata_files import MetadataFiles
from cloud.publisher.book import Book
from cloud.publisher.main import run
from cloud.publisher.ports import HubRefusalError, HubUnreachableError
from cloud.publisher.settings import Settings
from tests.samples.release_builders import MODEL, release
from tests.servers.live_server import serving
from tests.worlds.publisher_world import FakeHub, request
from wire.adapters.key_ring import key_files
from wire.errors import MalformedError
from wire.trust import target_path

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0


class SigningDesk(FakeHub):
    """The hub's side of signing in memory, over HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.app = FastAPI()
        self.app.get("/api/v1/signing-requests")(self.list)
        self.app.get("/api/v1/trust")(self.show)
        self.app.get("/api/v1/trust/metadata/{name}")(self.give)
        self.app.post("/api/v1/trust/metadata")(self.take)
        self.app.post("/api/v1/signing-requests/{name}/signature")(self.take_signature)
        self.app.post("/api/v1/signing-requests/{name}/refusal")(self.take_refusal)

    def wait_for(self, name: str, version: int, counter: int) -> None:
        """Let a release wait."""
        self.waiting.append(request(release(version, counter), name))

    async def list(self, call: Request) -> Any:
        """GET signing-requests."""
        if call.headers["authorization"] != "Bearer right-key":
            return JSONResponse({"title": "Forbidden", "status": 403, "detail": "not a publisher's key"}, 403)
        return Response(msgspec.json.encode(self.waiting), media_type="application/json")

    async def show(self) -> Any:
        """GET trust."""
        return Response(msgspec.json.encode(self.trust()), media_type="application/json")

    async def give(self, name: str) -> Any:
        """GET trust/metadata/..."""
        found = self.file(name)
        return Response(found or b"", 200 if found else 404)

    async def take(self, call: Request) -> dict[str, str]:
        """POST trust/metadata."""
        self.deliver(await _metadata(call))
        return {}

    async def take_signature(self, name: str, call: Request) -> dict[str, str]:
        """POST .../signature."""
        self.sign(name, await _metadata(call))
        return {}

    async def take_refusal(self, name: str, call: Request) -> dict[str, str]:
        """POST .../refusal."""
        self.refuse(name, (await call.json())["reason"])
        return {}


async def _metadata(call: Request) -> dict[str, bytes]:
    return {role: base64.b64decode(text) for role, text in (await call.json())["metadata"].items()}


@contextmanager
def publisher(hub: str, keys: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `fleetloop publisher`; stopped by SIGTERM unless the block ended it."""
    keys.mkdir(exist_ok=True)
    (keys / "api.key").write_text("right-key\n")
    options = ["--hub-url", hub, "--key-dir", str(keys), "--api-key-file", str(keys / "api.key"), "--poll-s", "0.05"]
    command = [sys.executable, "-m", "fleetloop", "publisher", *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)


def until(process: subprocess.Popen[bytes], found: Any, name: str) -> None:
    """Wait until `name` is in `found`."""
    end = time.monotonic() + WAIT_S
    while name not in found:
        assert process.poll() is None, "the publisher ended by itself"
        assert time.monotonic() < end, f"{name} was not decided"
        time.sleep(0.02)


def test_publisher_signs_survives_a_kill_and_remembers_its_counter(tmp_path: Path) -> None:
    """Same key after kill -9, and a hub that forgot a release cannot get its counter signed again."""
    keys = tmp_path / "keys"
    public = key_files(_made(keys), "publisher")()[0].public_hex
    desk = SigningDesk()
    desk.rotate(targets=(public,))
    with serving(desk.app) as url:
        desk.wait_for("first", version=1, counter=4)
        with publisher(url, keys) as process:
            until(process, desk.signed, "first")
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT_S)
        desk.wait_for("stale", version=2, counter=4)
        desk.wait_for("next", version=2, counter=5)
        with publisher(url, keys) as process:
            until(process, desk.signed, "next")
            process.terminate()
            assert process.wait(WAIT_S) == 0
    assert (keys / "publisher.pub").read_text() == f"{public}\n"
    listed = {path: target.counter for path in map(path_of, (1, 2)) for path, target in desk.targets(path).items()}
    assert listed == {path_of(1): 4, path_of(2): 5}
    assert "counter 4 is not above 4" in desk.refusals[0]
    assert stat.S_IMODE(os.stat(keys / "publisher.key").st_mode) == 0o600


def test_it_waits_for_a_root_that_names_it_and_says_so_once(tmp_path: Path) -> None:
    """Started first, it signs as soon as the root is there."""
    desk, keys = SigningDesk(), tmp_path / "keys"
    with serving(desk.app) as url:
        desk.wait_for("first", version=1, counter=1)
        with publisher(url, keys) as process:
            assert process.stderr is not None
            while b"nothing is signed for now" not in (line := process.stderr.readline()):
                assert line
            assert b"fleetloop keys rotate" in line
            desk.rotate(targets=((keys / "publisher.pub").read_text().strip(),))
            until(process, desk.signed, "first")
            process.terminate()
            assert b"nothing is signed" not in process.stderr.read()


def test_it_outlives_a_full_disk(tmp_path: Path) -> None:
    """What cannot be kept is not signed, the publisher says why, and goes on once there is room."""
    desk, keys = SigningDesk(), tmp_path / "keys"
    public = key_files(_made(keys), "publisher")()[0].public_hex
    full = _made(keys / "metadata") / "targets.tmp"
    full.symlink_to("/dev/full")
    desk.rotate(targets=(public,))
    with serving(desk.app) as url:
        desk.wait_for("first", version=1, counter=1)
        with publisher(url, keys) as process:
            assert process.stderr is not None
            while b"No space left" not in (line := process.stderr.readline()):
                assert line
            assert (desk.signed, process.poll()) == ([], None)
            full.unlink()
            until(process, desk.signed, "first")


def path_of(version: int) -> str:
    """Target path of a version."""
    return target_path(MODEL, version)


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def test_person_lists_and_approves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` tells what the policy thinks, `approve` signs, a second `approve` finds nothing."""
    desk = SigningDesk()
    desk.rotate(targets=(key_files(tmp_path, "publisher")()[0].public_hex,))
    key_file = tmp_path / "api.key"
    key_file.write_text("right-key")
    with serving(desk.app) as url:
        desk.wait_for("first", version=1, counter=1)
        base = Settings(hub_url=url, key_dir=str(tmp_path), api_key_file=str(key_file), approve="manual")
        assert run(msgspec.structs.replace(base, action="list")) == 0
        assert "first  watch version 1: fine by the policy" in capsys.readouterr().out
        approve = msgspec.structs.replace(base, action="approve", request="first")
        assert run(approve) == 0
        assert run(approve) == 1
        assert "no pending signing request 'first'" in capsys.readouterr().err
    assert desk.signed == ["first"]


def test_http_errors_become_the_ports_errors() -> None:
    """Refused and unreachable are told apart, with the hub's own reason."""
    desk = SigningDesk()
    with serving(desk.app) as url:
        with pytest.raises(HubRefusalError, match="403 not a publisher's key"):
            HttpHub(url, "wrong-key").pending()
        with pytest.raises(HubRefusalError, match="404"):
            HttpHub(f"{url}/nowhere", "right-key").pending()
    with pytest.raises(HubUnreachableError):
        HttpHub(url, "right-key").pending()


def test_a_key_goes_to_this_machine_or_to_a_hub_that_an_authority_vouches_for(tmp_path: Path) -> None:
    """Never in the clear to another machine, and never to a certificate that nobody here has named."""
    with pytest.raises(MalformedError, match=r"http://hub\.example\.org in the clear"):
        HttpHub("http://hub.example.org", "right-key")
    with pytest.raises(MalformedError, match="ca_file /nowhere"):
        HttpHub("https://hub.example.org", "right-key", "/nowhere")
    tls = ensure(tmp_path, ("127.0.0.1",), datetime.datetime.now(datetime.UTC))
    with serving(SigningDesk().app, tls) as url:
        with closing(HttpHub(url, "right-key", str(tls.authority))) as hub:
            assert hub.pending() == []
        with closing(HttpHub(url, "right-key")) as hub, pytest.raises(HubUnreachableError, match="VERIFY_FAILED"):
            hub.pending()


def test_the_shelf_survives_and_a_damaged_document_stops_the_publisher(tmp_path: Path) -> None:
    """What was kept is there after a restart; half a document is no document, and never a reason to start afresh."""
    MetadataFiles(tmp_path / "metadata").write("bin-0", b"signed")
    shelf = MetadataFiles(tmp_path / "metadata")
    assert (shelf.read("bin-0"), shelf.read("bin-1")) == (b"signed", None)
    book = Book(shelf, list, lambda: 0)
    with pytest.raises(MalformedError, match="bin-0"):
        book.last(MODEL)


def test_missing_api_key_is_told(tmp_path: Path) -> None:
    """Before anything is asked of the hub."""
    with pytest.raises(MalformedError, match="api_key_file"):
        run(Settings(key_dir=str(tmp_path), action="list"))


@pytest.mark.parametrize("content", [b"", b"flk_\xff\xfe", b"two\nlines", "sch\u00f6n".encode()])
def test_an_api_key_that_cannot_be_one_is_told(tmp_path: Path, content: bytes) -> None:
    """A wrong file is named, and nothing of it is shown or sent."""
    key_file = tmp_path / "api.key"
    key_file.write_bytes(content)
    with pytest.raises(MalformedError, match="holds no API key"):
        run(Settings(key_dir=str(tmp_path), action="list", api_key_file=str(key_file)))


def test_an_unusable_key_directory_is_told(tmp_path: Path) -> None:
    """With what to do, not with a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(MalformedError, match=r"key_dir .*file"):
        run(Settings(key_dir=str(tmp_path / "file"), action="key"))
