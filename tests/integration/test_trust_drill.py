"""The whole way of trust with real programs: root, release, and a drill in which every key is replaced.

Devices are played by python-tuf's own client on what the hub serves.
"""

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, TargetFile, Updater

from tests.scenes.hub_steps import train_order
from tests.servers.hub_process import PATIENCE_S, HubProcess, keys_command
from tests.worlds.hub_world import MODEL, World
from wire.trust import target_path

PASSPHRASE = "correct horse battery staple"
SECRET_NAMES = ("*.key", "passphrase", "*.secret")


class ApiFetcher(FetcherInterface):
    """Fetches metadata from the hub's API."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub

    def _fetch(self, url: str) -> Iterator[bytes]:
        key = (self._hub.directory / "admin.key").read_text().strip()
        answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"})
        if answer.status_code != 200:
            raise DownloadHTTPError(answer.text, answer.status_code)
        yield answer.content


class Device:
    """A TUF client that was set up with the first root, and keeps its cache."""

    def __init__(self, hub: HubProcess, directory: Path, root: bytes) -> None:
        directory.mkdir()
        self._hub, self._directory, self._root = hub, directory, root

    def look(self) -> TargetFile | None:
        """Refresh, and say what is known of version 1."""
        url = f"{self._hub.url}/api/v1/trust/metadata/"
        client = Updater(str(self._directory), url, fetcher=ApiFetcher(self._hub), bootstrap=self._root)
        client.refresh()
        return client.get_targetinfo(target_path(MODEL, 1))


class Drill:
    """Hub, publisher and root keys, each in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = HubProcess(directory / "hub")
        self.root_keys, self.publisher_keys = directory / "root-keys", directory / "publisher"
        self.passphrase = directory / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")

    def keys(self, action: str, **options: object) -> str:
        """`fleetloop keys`."""
        return keys_command(
            self.hub, action, keys_dir=self.root_keys, passphrase_file=self.passphrase, **options
        )  # fmt: skip

    def replace(self, role: str, key_file: Path) -> None:
        """Make a new key where its owner looks for it, let a root name it instead of the old one, hand that in."""
        new = keys_command(self.hub, "new", key_file=key_file).strip()
        self.rotate(role, new, self.trust()["keys"][role][0])

    def rotate(self, role: str, new: str, old: str) -> None:
        """The next root."""
        assert "complete" in self.keys("rotate", role=role, add=new, remove=old[:12])
        assert "has taken" in self.keys("push")

    def trust(self) -> dict[str, Any]:
        """What the hub says."""
        answer: dict[str, Any] = self.hub.api("GET", "/trust")
        return answer

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for it."""
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, f"{what}; {(self.directory / 'publisher.log').read_text()}"
            time.sleep(0.1)

    def secrets(self) -> list[bytes]:
        """Everything that must never be seen outside its file."""
        files = [path for name in SECRET_NAMES for path in self.directory.rglob(name)]
        texts = [path.read_bytes().strip() for path in files if b"PRIVATE KEY" not in path.read_bytes()]
        bodies = [line for path in files for line in path.read_bytes().splitlines() if b"-----" not in line]
        return [text for text in {*texts, *bodies} if len(text) > 16]

    @contextmanager
    def publisher(self) -> Iterator[int]:
        """A running publisher; its process id."""
        key = self.hub.api("POST", "/keys", {"name": "publisher", "role": "publisher"})["key"]
        key_file = self.publisher_keys / "api.key"
        key_file.write_text(key)
        options = ["--hub-url", self.hub.url, "--key-dir", self.publisher_keys, "--api-key-file", key_file]
        command = [sys.executable, "-m", "fleetloop", "publisher", *map(str, options), "--poll-s", "0.1"]
        with (self.directory / "publisher.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """A hub with a version that waits for its signature, and no root yet."""
    one = Drill(tmp_path)

    async def build() -> None:
        one.hub.directory.mkdir()
        async with World(one.hub.directory, rooted=False) as world:
            await train_order(world)
            await world.train()

    asyncio.run(build())
    try:
        one.hub.start()
        yield one
    finally:
        if one.hub.process is not None and one.hub.process.poll() is None:
            one.hub.end(signal.SIGKILL)


def test_a_release_and_a_fleet_survive_the_replacement_of_every_key(drill: Drill, tmp_path: Path) -> None:
    """Root, then online, director, targets and a root key: after each, a device that was set up at first follows."""
    command = [sys.executable, "-m", "fleetloop", "publisher", "key", "--key-dir", str(drill.publisher_keys)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    with drill.publisher() as publisher:
        drill.keys("init", publisher=drill.publisher_keys / "publisher.pub")
        drill.until(lambda: _state(drill) == "released", "the version is not released")
        root = (drill.root_keys / "1.root.json").read_bytes()
        device = Device(drill.hub, tmp_path / "device", root)
        release = device.look()
        assert release is not None
        assert release.custom == {"counter": 1}

        keys = drill.hub.directory / "keys"
        for role, key_file in (
            ("online", keys / "online-2.key"),
            ("director", keys / "director-2.key"),
            ("targets", drill.publisher_keys / "publisher-2.key"),
        ):
            drill.replace(role, key_file)
            drill.until(lambda: bool(drill.trust()["ready"]), f"nobody signs after the new {role} key")
            assert device.look() == release
        fresh = keys_command(
            drill.hub, "new", key_file=drill.root_keys / "root-4.key", passphrase_file=drill.passphrase
        ).strip()
        drill.rotate("root", fresh, drill.trust()["keys"]["root"][0])
        assert device.look() == release
        assert drill.trust()["roles"]["root"]["version"] == 5
        _assert_nothing_leaks(drill, publisher)


def test_a_hub_that_was_killed_goes_on_with_its_repository(drill: Drill, tmp_path: Path) -> None:
    """kill -9 after a release; the next one serves the same, and says what it has."""
    publisher = keys_command(drill.hub, "new", key_file=tmp_path / "publisher.key").strip()
    drill.keys("init", publisher=publisher)
    before = drill.trust()
    drill.hub.end(signal.SIGKILL)
    drill.hub.start()
    assert drill.trust() == before
    claim = drill.hub.api("POST", "/claims", {"device": "p01"})
    assert claim["root"]


def _state(drill: Drill) -> str:
    return str(drill.hub.api("GET", f"/models/{MODEL}/versions/1")["state"])


def _assert_nothing_leaks(drill: Drill, publisher: int) -> None:
    """No private key, passphrase or API key in logs, arguments, environments, database or the API's answers."""
    assert drill.hub.process is not None
    processes = [psutil.Process(drill.hub.process.pid), psutil.Process(publisher)]
    seen = [path.read_bytes() for path in drill.directory.rglob("*.log")]
    seen += [repr((one.cmdline(), one.environ())).encode() for one in processes]
    seen += [path.read_bytes() for path in drill.hub.directory.glob("hub.sqlite*")]
    seen += [repr(drill.hub.api("GET", path)).encode() for path in ("/trust", "/overview")]
    secrets = drill.secrets()
    assert len(secrets) > 12
    for secret in secrets:
        assert not any(secret in text for text in seen), re.sub(b".", b"*", secret[4:])
