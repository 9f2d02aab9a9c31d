"""The daemon as a process: enrols over a real broker, installs real ONNX files, serves its API, survives kills."""

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.client import AgentClient, AgentError, Answer
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.agent_world import (
    DEVICE,
    assign,
    committed,
    wanted,
)
from tests.worlds.daemon_world import (
    RELEASES,
    ROOT,
    WAIT_S,
    Daemon,
    call,
    hub_of,
    run,
)
from wire.messages import Outcome, Phase


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """A plain broker."""
    process = BrokerProcess()
    yield process
    process.kill()


@pytest.fixture
def daemon(tmp_path: Path, broker: BrokerProcess) -> Iterator[Daemon]:
    """A daemon that is killed at the end if it still runs."""
    one = Daemon(tmp_path, broker)
    yield one
    if one.process is not None and one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_a_new_device_enrols_installs_serves_and_comes_back_after_a_kill(broker: BrokerProcess, daemon: Daemon) -> None:
    """From a claim file to a committed real model; then kill -9 and a start without any claim."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            await hub.retain(RELEASES[1])
            daemon.start()
            with AgentClient(daemon.socket) as application:
                with pytest.raises(AgentError, match="no model is installed yet") as refused:
                    await call(lambda: application.predict([0.0] * 4))
                assert refused.value.status == 503
                identity = json.loads((daemon.directory / "identity" / "identity.json").read_bytes())
                assert hub.requests[0].verifier == hashlib.sha256(identity["password"].encode()).hexdigest()

                await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
                report = await hub.slot(committed(1))
                assert report.golden is not None
                assert (report.outcome, report.golden.matched) == (Outcome.SUCCEEDED, 32)
                assert report.figures.canary_rss_bytes > 0
                answer: Answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                same = await call(lambda: application.predict([1.0, 1.0, 1.0, 1.0]))
                assert (answer.version, answer.variant, answer.label) == (1, "fp32", same.label)
                await call(lambda: application.feedback(answer.id, answer.label))
                print(f"peak RSS {daemon.peak_rss_mb():.0f} MB, canary {report.figures}")

            daemon.end(signal.SIGKILL)
            await hub.until(lambda: not hub.statuses[-1].online)
            daemon.start(claim=False)
            with AgentClient(daemon.socket) as application:
                answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                assert answer.version == 1
                status = await call(application.status)
                assert (status["predictions"], status["captured"], status["boot"]) == (3, 3, 2)
            await hub.until(lambda: hub.statuses[-1].online)
            assert await asyncio.to_thread(daemon.end, signal.SIGTERM) == 0
            await hub.until(lambda: not hub.statuses[-1].online)
            assert "Traceback" not in daemon.log.read_text()
            for secret in (identity["password"], "t" * 32):
                assert secret not in daemon.log.read_text()

    run(scenario)


def test_a_silent_broker_does_not_hold_up_the_end(broker: BrokerProcess, daemon: Daemon) -> None:
    """A network that is gone and has not been missed yet: whoever stops the agent does not wait for its broker."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            daemon.start()
            await hub.until(lambda: bool(hub.statuses) and hub.statuses[-1].online)
            broker.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.end, signal.SIGTERM) == 0
            assert time.monotonic() - began < 5.0
            broker.process.send_signal(signal.SIGCONT)

    run(scenario)


def test_a_start_that_finds_its_port_taken_counts_for_nothing(broker: BrokerProcess, daemon: Daemon) -> None:
    """Starts that do not last cast doubt on the models in use, and somebody else's port is none of their doing."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            daemon.start()
            await hub.until(lambda: bool(hub.statuses) and hub.statuses[-1].online)

    run(scenario)
    daemon.end(signal.SIGKILL)
    before = (daemon.directory / "state.json").read_text()
    command = daemon.command("--port", str(broker.port))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, "address already in use" in done.stderr) == (1, True)
    assert (daemon.directory / "state.json").read_text() == before


def test_killed_during_an_installation_it_always_ends_with_the_new_model(broker: BrokerProcess, daemon: Daemon) -> None:
    """kill -9 as soon as each phase is on the disk; a model answers after every start."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            for shipped in RELEASES.values():
                await hub.retain(shipped)
            daemon.start()
            await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
            await hub.slot(committed(1))
            timing = {"step_timeout_s": 20.0, "health_window_s": 0.5}
            for number, phase in enumerate((Phase.FETCHING_RELEASE, Phase.VERIFYING, Phase.TRIAL), start=2):
                target = RELEASES[1 + (number - 1) % 2]
                await hub.desire(assign(number, wanted(target, f"e{number}", timing=timing)))
                await daemon.reach(phase)
                daemon.end(signal.SIGKILL)
                daemon.start(claim=False)
                with AgentClient(daemon.socket) as application:
                    answer = await call(lambda a=application: a.predict(np.ones(4, np.float32)))  # type: ignore[misc]
                    assert answer.version in (1, 2)
                report = await hub.slot(committed(target.release.version))
                assert report.execution == f"e{number}"

    run(scenario)


def raw(path: Path, request: bytes) -> bytes:
    """Send bytes to the local API and read the first answer."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(WAIT_S)
        plain.connect(str(path))
        plain.sendall(request)
        return plain.recv(65536)


BAD_REQUESTS = {
    "wrong shape": (b'{"input": [1, 2, 3]}', 400, b"the model takes float32 [4] (4 values), got [3]"),
    "ragged": (b'{"input": [[1], [2, 3]]}', 400, b"not numbers in equal rows"),
    "words": (b'{"input": ["a", "b", "c", "d"]}', 400, b"not numbers"),
    "unknown field": (b'{"input": [1, 2, 3, 4], "more": 1}', 400, b"unknown field `more`"),
    "not JSON": (b"]", 400, b"body: "),
    "not finite": (b'{"input": [1, 2, 3, 1e39]}', 400, b"not finite"),
}


def test_the_local_api_refuses_bad_requests_with_their_reason(broker: BrokerProcess, daemon: Daemon) -> None:
    """Each with its status; the connection and the daemon go on."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            await hub.retain(RELEASES[1])
            daemon.start()
            await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
            await hub.slot(committed(1))
            for name, (body, status, reason) in BAD_REQUESTS.items():
                head = b"POST /v1/predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
                answer = await asyncio.to_thread(raw, daemon.socket, head + body)
                assert answer.startswith(b"HTTP/1.1 %d " % status), (name, answer)
                assert reason in answer, (name, answer)
            for head, status in (
                (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
                (b"POST /v1/predict HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
                (b"POST /v1/predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
                (b"GET /v1/nothing HTTP/1.1\r\n\r\n", 404),
                (b"nonsense\r\n\r\n", 400),
                (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 431),
            ):
                assert (await asyncio.to_thread(raw, daemon.socket, head)).startswith(b"HTTP/1.1 %d " % status)
            with AgentClient(daemon.socket) as application:
                with pytest.raises(AgentError, match="no prediction 'nobody' is known") as unknown:
                    await call(lambda: application.feedback("nobody", 1))
                assert unknown.value.status == 404
                answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                await call(lambda: application.feedback(answer.id, 1))
                with pytest.raises(AgentError, match="was given before") as twice:
                    await call(lambda: application.feedback(answer.id, 1))
                assert twice.value.status == 409
                with pytest.raises(TypeError, match="float32"):
                    application.predict(np.ones(4))
            assert oct(daemon.socket.stat().st_mode & 0o777) == "0o600"

    run(scenario)


def test_doctor_and_status_say_what_is_wrong_and_what_to_do(broker: BrokerProcess, daemon: Daemon) -> None:
    """Before the first start, and with a running daemon; a second daemon in the same directory is refused."""

    def ask(*words: str) -> tuple[int, str]:
        done = subprocess.run(daemon.command(*words), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
        return done.returncode, done.stdout + done.stderr

    code, text = ask("doctor")
    assert (code, "does not exist" in text) == (1, True)
    code, text = ask()
    assert (code, "start it with --claim FILE" in text) == (1, True)
    code, text = ask("status")
    assert (code, "cannot be reached" in text) == (1, True)
    code, text = ask("doctor")
    assert code == 1
    assert "identity: none yet" in text

    async def scenario() -> None:
        async with hub_of(broker):
            daemon.start()
            with AgentClient(daemon.socket) as application:
                await call(application.status)
            code, text = await asyncio.to_thread(ask, "doctor")
            assert code == 0, text
            code, text = await asyncio.to_thread(ask, "status", "--json")
            assert json.loads(text)["device"] == DEVICE
            code, text = await asyncio.to_thread(ask)
            assert (code, "another agent runs" in text) == (1, True)

    run(scenario)
    broker.kill()
    code, text = ask("doctor")
    broker.start()
    assert (code, "see that hub and broker run" in text) == (1, True)
