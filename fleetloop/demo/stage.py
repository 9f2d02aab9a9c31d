"""The processes of the demonstration and where their state lies: hub, publisher, agents, feeder."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetloop.client import HubClient, HubError
from fleetloop.demo.processes import Process, ProcessError, free_port

START_TIMEOUT_S = 90.0
RSS_SAMPLE_S = 1.0
PAGE_LIFE_S = 7 * 24 * 3600
"""How long the link of the live page opens it."""


@dataclass(frozen=True)
class Interpreters:
    """The hub's environment and the devices' own, without torch and flwr."""

    agent: Path
    hub: Path = Path(sys.executable)


class Feeder:
    """The process that plays the application on every device."""

    def __init__(self, directory: Path, workload: str, sockets: dict[str, Path]) -> None:
        self.finished: set[str] = set()
        spec = directory / "feeder.json"
        spec.write_text(
            json.dumps({"workload": workload, "sockets": {name: str(path) for name, path in sockets.items()}})
        )
        command = [sys.executable, "-m", "fleetloop.demo.feeder", str(spec)]
        self._log = (directory / "feeder.log").open("ab")
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def play(self, on_device: Callable[[int, int], None]) -> dict[str, Any]:
        """Play every recording once; `on_device(done, total)` after each device. Returns windows and seconds."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self.finished.clear()
        self._child.stdin.write("play\n")
        self._child.stdin.flush()
        for line in self._child.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "device":
                self.finished.add(event["name"])
                on_device(event["done"], event["total"])
            elif event["event"] == "played":
                return event
        raise ProcessError(f"feeder ended with code {self._child.wait()}; see {self._log.name}")

    def stop(self) -> None:
        """Close its standard input and wait."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(10)
        self._log.close()


class Stage:
    """Starts, watches and stops everything. Agents live in an environment without torch and flwr."""

    def __init__(self, directory: Path, workload: str, interpreters: Interpreters, port: int = 0) -> None:
        self.directory, self.port = directory, port or free_port()
        self.agents: dict[str, Process] = {}
        self._workload, self._interpreters = workload, interpreters
        self._hub_dir, self._publisher_dir = directory / "hub", directory / "publisher"
        hub = self._fleetloop(interpreters.hub, "hub", "--data-dir", self._hub_dir, "--port", self.port)
        self.hub = Process("hub", [*hub, "--broker-port", str(free_port())], directory / "logs")
        self.publisher = Process("publisher", self._publisher_command(), directory / "logs")
        self._client: HubClient | None = None
        self._page_key = ""
        self._feeder: Feeder | None = None
        self._sampler = RssSampler(self)

    @property
    def client(self) -> HubClient:
        """The API as the administrator that the hub made at its first start."""
        assert self._client is not None
        return self._client

    @property
    def feeder(self) -> Feeder:
        """The feeder, started when it is first wanted."""
        if self._feeder is None:
            sockets = {name: self.agent_directory(name) / "agent.sock" for name in self.agents}
            self._feeder = Feeder(self.directory, self._workload, sockets)
        return self._feeder

    @property
    def page_url(self) -> str:
        """Where a browser sees the live page (the link carries a viewer's key that ends by itself)."""
        return f"http://127.0.0.1:{self.port}/?token={self._page_key}"

    @property
    def agent_tree_peak_bytes(self) -> int:
        """Largest memory of one agent with its children at one moment, as far as sampling saw it."""
        return self._sampler.peak_bytes

    def agent_directory(self, name: str) -> Path:
        """State of one agent."""
        return self.directory / "agents" / name

    def start_cloud(self) -> None:
        """Hub and publisher, and a root of trust that names the keys of both, made as an operator makes it."""
        self.hub.start()
        self._wait_for(self._hub_answers, "the hub does not answer")
        key = self.client.create_key("publisher", "publisher")["key"]
        self._publisher_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
        key_file = self._publisher_dir / "api.key"
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        self._page_key = self.client.create_key("live-page", "viewer", expires_in_s=PAGE_LIFE_S)["key"]
        self.publisher.start()
        public = self._publisher_dir / "publisher.pub"
        self._wait_for(public.is_file, "the publisher does not start")
        self._make_root(public)
        self._wait_for(lambda: bool(self.client.trust()["ready"]), "the publisher does not sign")

    def _make_root(self, publisher: Path) -> None:
        url, admin = f"http://127.0.0.1:{self.port}", self._hub_dir / "admin.key"
        options = ("--keys-dir", self.directory / "root-keys", "--publisher", publisher, "--hub-url", url)
        command = self._fleetloop(self._interpreters.hub, "keys", "init", *options, "--api-key-file", admin)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProcessError(f"no root of trust could be made: {done.stderr.strip()}")

    def start_agent(self, name: str, claim: dict[str, Any]) -> None:
        """Write the claim file and start the daemon."""
        directory = self.agent_directory(name)
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        claim_file = directory / "claim.json"
        claim_file.touch(mode=0o600)
        claim_file.write_text(json.dumps(claim))
        command = self._fleetloop(
            self._interpreters.agent,
            "agent",
            "--claim",
            claim_file,
            "--data-dir",
            directory,
            "--telemetry-interval-s",
            2,
        )
        self.agents[name] = Process(name, command, self.directory / "logs")
        self.agents[name].start()
        self._sampler.start()

    def check(self) -> None:
        """Raise ProcessError if anything ended by itself."""
        for process in (self.hub, self.publisher, *self.agents.values()):
            process.check()

    def stop(self) -> None:
        """Stop everything gently, agents first."""
        self._sampler.stop()
        if self._feeder is not None:
            self._feeder.stop()
        everything = [*self.agents.values(), self.publisher, self.hub]
        for process in everything:
            process.ask_to_stop()
        for process in everything:
            process.wait_stopped()
        if self._client is not None:
            self._client.close()

    def _hub_answers(self) -> bool:
        admin = self._hub_dir / "admin.key"
        if not admin.is_file():
            return False
        if self._client is None:
            self._client = HubClient(f"http://127.0.0.1:{self.port}", admin.read_text().strip())
        with suppress(HubError):
            return bool(self._client.health()["status"] == "ok")
        return False

    def _wait_for(self, ready: Callable[[], bool], problem: str) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not ready():
            for process in (self.hub, self.publisher):
                process.check()
            if time.monotonic() > end:
                raise ProcessError(f"{problem} within {START_TIMEOUT_S:.0f} s; see {self.directory / 'logs'}")
            time.sleep(0.1)

    def _publisher_command(self) -> list[str]:
        url, directory = f"http://127.0.0.1:{self.port}", self._publisher_dir
        key_file = directory / "api.key"
        return self._fleetloop(
            self._interpreters.hub, "publisher", "--hub-url", url, "--key-dir", directory, "--api-key-file", key_file
        )

    @staticmethod
    def _fleetloop(python: Path, program: str, *options: object) -> list[str]:
        return [str(python), "-m", "fleetloop", program, *map(str, options), "--log-format", "json"]


class RssSampler:
    """Looks at every agent and its children once a second; keeps the largest sum seen."""

    def __init__(self, stage: Stage) -> None:
        self.peak_bytes = 0
        self._stage = stage
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start once; further calls do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._sample, name="rss-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(RSS_SAMPLE_S):
            for agent in list(self._stage.agents.values()):
                self.peak_bytes = max(self.peak_bytes, agent.tree_rss_bytes())
