"""`fleetloop agent`: run the daemon until SIGTERM, or show its state, or say what is wrong."""

import asyncio
import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from edge_agent.adapters.directory_lock import DirectoryLock
from edge_agent.adapters.posix_disk import prepare
from edge_agent.client import AgentClient
from edge_agent.client import AgentError as CallError
from edge_agent.errors import AgentError
from edge_agent.service.claims import CLAIM, parse_claim
from edge_agent.settings import DEFAULT_SOCKET, Settings
from wire.identity import ClaimFile

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Do what `settings.action` says; returns the exit code (1: something is wrong and was said)."""
    match settings.action:
        case "run":
            return serve(settings)
        case "status":
            return status(settings)
        case "doctor":
            return doctor(settings)


def serve(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT."""
    root = Path(settings.data_dir)
    try:
        prepare(root)
        lock = DirectoryLock(root)
        try:
            asyncio.run(_serve(settings))
        finally:
            lock.release()
    except (AgentError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


def status(settings: Settings) -> int:
    """Print the running daemon's state; returns 1 when there is none."""
    from edge_agent.status import lines

    try:
        with AgentClient(_socket(settings)) as client:
            seen = client.status()
    except CallError as error:
        print(f"{error}; see `fleetloop agent doctor`", file=sys.stderr)
        return 1
    print(json.dumps(seen, indent=2) if settings.json else "\n".join(lines(seen)))
    return 0


def doctor(settings: Settings) -> int:
    """Print findings, each problem with what to do about it; returns 1 when there is a problem."""
    from edge_agent.doctor import examine

    findings = list(examine(settings, _socket(settings)))
    healthy = not any(finding.advice for finding in findings)
    if settings.json:
        print(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return 0 if healthy else 1
    for finding in findings:
        print(f"{'WRONG' if finding.advice else 'ok':5}  {finding.what}: {finding.seen}")
        if finding.advice:
            print(f"       -> {finding.advice}")
    return 0 if healthy else 1


async def _serve(settings: Settings) -> None:
    from edge_agent.bootstrap import running_agent

    task = asyncio.current_task()
    assert task is not None
    ends: list[BaseException | None] = []

    def end(error: BaseException | None = None) -> None:
        if not ends:
            task.cancel()
        ends.append(error)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        async with running_agent(settings, given_claim(settings), end):
            log.info("agent runs in %s", settings.data_dir)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not ends:
            raise
    for error in ends:
        if error is not None:
            raise error
    log.info("agent stopped")


def given_claim(settings: Settings) -> ClaimFile | None:
    """The claim of the settings; None when there is none, or when it was used already and then removed.

    Raises:
        EnrolmentError: the file is not a claim. OSError: it cannot be read, and this device has none of its own yet.
    """
    if not settings.claim:
        return None
    path = Path(settings.claim)
    if not path.exists() and (Path(settings.data_dir) / CLAIM).exists():
        return None
    return parse_claim(path.read_bytes(), settings.claim)


def _socket(settings: Settings) -> str:
    return settings.socket or str(Path(settings.data_dir) / DEFAULT_SOCKET)
