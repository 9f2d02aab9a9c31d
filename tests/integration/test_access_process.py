"""The hub as a process: the first administrator's key, guesses from made-up addresses, and what it writes down."""

import signal
import stat
from pathlib import Path

import httpx

from cloud.api.bounds import MAX_BODY_BYTES
from tests.servers.hub_process import HubProcess, keys_command


def ask(hub: HubProcess, key: str, path: str = "/me", **headers: str) -> httpx.Response:
    """GET with a key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{hub.url}/api/v1{path}", headers={"Authorization": f"Bearer {key}", **named})


def test_the_first_key_guesses_and_logs(tmp_path: Path) -> None:
    """One life of a hub at its most talkative, with a restart: no secret stands in any log, nor in the database."""
    hub = HubProcess(tmp_path / "hub", "--log-level", "debug")
    hub.start()
    try:
        file = hub.directory / "admin.key"
        admin = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert ask(hub, admin).json()["role"] == "admin"

        made = hub.api("POST", "/keys", {"name": "ci", "role": "viewer"})
        hub.api("POST", f"/keys/{made['id']}/revoke")
        (tmp_path / "publisher.pub").write_text("ab" * 32)
        keys_command(hub, "init", keys_dir=tmp_path / "roots", publisher=tmp_path / "publisher.pub")
        claim = hub.api("POST", "/claims", {"device": "p01"})

        page = httpx.post(f"{hub.url}/live/", data={"token": admin})
        assert page.status_code == 303
        assert httpx.get(f"{hub.url}/live/", cookies=page.cookies).status_code == 200
        assert httpx.post(f"{hub.url}/live/", data={"token": made["key"]}).status_code == 401
        assert httpx.post(f"{hub.url}/live/", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413

        codes = [
            ask(hub, f"flk_guess-{number}", X_Forwarded_For=f"10.0.0.{number}").status_code for number in range(14)
        ]
        assert (codes[:9], set(codes[9:])) == ([401] * 9, {429})  # the page has counted one
        assert ask(hub, admin).status_code == 200

        with httpx.stream("GET", f"{hub.url}/api/v1/events", headers={"Authorization": f"Bearer {admin}"}) as stream:
            assert stream.status_code == 200
            hub.end(signal.SIGTERM)
            assert list(stream.iter_lines()) == []  # it raises when a stream was cut off instead of ended
        hub.start()
        assert ask(hub, admin).status_code == 200
        assert ask(hub, made["key"]).status_code == 401
        assert ask(hub, f"flk_{made['id']}").status_code == 401
        assert file.read_text().strip() == admin
    finally:
        hub.end(signal.SIGTERM)

    logs = b"".join(path.read_bytes() for path in tmp_path.rglob("*.log"))
    assert b"refused an API key from 127.0.0.1" in logs
    enrol = (hub.directory / "keys/enrol.secret").read_text().strip()
    database = b"".join(path.read_bytes() for path in hub.directory.glob("hub.sqlite*"))
    secrets = (admin, made["key"], claim["token"], "flk_guess-", enrol)
    for secret in secrets:
        assert secret.removeprefix("flk_").encode() not in logs + database
