"""The publisher as its own process against a real HTTP server: keys, ledger, signatures and a kill in between."""

import base64
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from cloud.publisher.adapters.hub_http import HttpHub
from cloud.publisher.adapters.ledger_file import LedgerFile
from cloud.publisher.core import Signed
from cloud.publisher.main import run
from cloud.publisher.ports import HubRefusalError, HubUnreachableError
from cloud.publisher.settings import Settings
from tests.live_server import serving
from tests.release_builders import MODEL, gate_report, release
from wire.adapters.keys import verifiers
from wire.codec import encode
from wire.dsse import RELEASE_TYPE, unseal
from wire.errors import MalformedError

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0


class SigningDesk:
    """The hub's side of signing, in memory."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, Any]] = {}
        self.envelopes: dict[str, bytes] = {}
        self.refusals: dict[str, str] = {}
        self.app = FastAPI()
        self.app.get("/api/v1/signing-requests")(self.pending)
        self.app.post("/api/v1/signing-requests/{name}/signature")(self.sign)
        self.app.post("/api/v1/signing-requests/{name}/refusal")(self.refuse)

    def put(self, name: str, version: int, counter: int) -> bytes:
        """Let a release wait; returns its bytes."""
        payload = encode(release(version, counter))
        body = {"payload": base64.b64encode(payload).decode(), "gate_report": gate_report(), "state": "pending"}
        self.waiting[name] = {"id": name, "model": MODEL, "version": version, **body, "reason": "", "created_ns": 1}
        return payload

    async def pending(self, request: Request) -> Any:
        """GET signing-requests."""
        if request.headers["authorization"] != "Bearer right-key":
            return JSONResponse({"title": "Forbidden", "status": 403, "detail": "not a publisher's key"}, 403)
        return list(self.waiting.values())

    async def sign(self, name: str, request: Request) -> dict[str, str]:
        """POST .../signature."""
        self.envelopes[name] = msgspec.json.encode((await request.json())["envelope"])
        self.waiting.pop(name)
        return {}

    async def refuse(self, name: str, request: Request) -> dict[str, str]:
        """POST .../refusal."""
        self.refusals[name] = (await request.json())["reason"]
        self.waiting.pop(name)
        return {}


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
    """Same key after kill -9, and a hub that forgot everything cannot get an old counter signed again."""
    desk, keys = SigningDesk(), tmp_path / "keys"
    with serving(desk.app) as url:
        payload = desk.put("first", version=1, counter=4)
        with publisher(url, keys) as process:
            until(process, desk.envelopes, "first")
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT_S)
        desk.put("stale", version=2, counter=4)
        desk.put("next", version=2, counter=5)
        with publisher(url, keys) as process:
            until(process, desk.refusals, "stale")
            until(process, desk.envelopes, "next")
            process.terminate()
            assert process.wait(WAIT_S) == 0
    trusted = verifiers([(keys / "publisher.pub").read_text().strip()])
    assert unseal(desk.envelopes["first"], RELEASE_TYPE, trusted, limit=1 << 20) == payload
    assert unseal(desk.envelopes["next"], RELEASE_TYPE, trusted, limit=1 << 20)
    assert "counter 4 is not above 4" in desk.refusals["stale"]
    assert stat.S_IMODE(os.stat(keys / "publisher.key").st_mode) == 0o600


def test_person_lists_and_approves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` tells what the policy thinks, `approve` signs, a second `approve` finds nothing."""
    desk = SigningDesk()
    key_file = tmp_path / "api.key"
    key_file.write_text("right-key")
    with serving(desk.app) as url:
        desk.put("first", version=1, counter=1)
        base = Settings(hub_url=url, key_dir=str(tmp_path), api_key_file=str(key_file), approve="manual")
        assert run(msgspec.structs.replace(base, action="list")) == 0
        assert "first  watch version 1: fine by the policy" in capsys.readouterr().out
        approve = msgspec.structs.replace(base, action="approve", request="first")
        assert run(approve) == 0
        assert run(approve) == 1
        assert "no pending signing request 'first'" in capsys.readouterr().err
    assert set(desk.envelopes) == {"first"}


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


def test_ledger_survives_and_refuses_to_be_forgotten(tmp_path: Path) -> None:
    """What was recorded is there after a restart; a damaged ledger stops the publisher rather than starting afresh."""
    path, signed = tmp_path / "ledger.json", Signed(version=3, counter=9, payload_sha256="a" * 64)
    LedgerFile(path).record(MODEL, signed)
    assert LedgerFile(path).last(MODEL) == signed
    assert LedgerFile(path).last("other") is None
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MalformedError, match="restore it from a backup"):
        LedgerFile(path)


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
