"""Starts the publisher: its own keys and ledger, one loop over the hub's signing desk, or one command of a person."""

import logging
import signal
import sys
import threading
from pathlib import Path

from cloud.publisher.adapters.hub_http import HttpHub
from cloud.publisher.adapters.ledger_file import LedgerFile
from cloud.publisher.core import Policy, Verdict
from cloud.publisher.ports import HubRefusalError, HubUnreachableError
from cloud.publisher.service import Desk, NotApprovableError, UnknownRequestError
from cloud.publisher.settings import Settings
from wire.adapters.keys import SigningKey, load_or_create
from wire.errors import MalformedError

_log = logging.getLogger(__name__)

KEY, PUBLIC, LEDGER = "publisher.key", "publisher.pub", "ledger.json"


def run(settings: Settings) -> int:
    """Do what `settings.action` says; returns the exit code. Raises MalformedError for unusable settings or files."""
    data = Path(settings.key_dir)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = load_or_create(data / KEY)
        (data / PUBLIC).write_text(f"{key.public_hex}\n")
    except OSError as error:
        raise MalformedError(f"key_dir {data}: {error.strerror}; name a directory that can be written") from error
    if settings.action == "key":
        print(key.public_hex)
        return 0
    hub = HttpHub(settings.hub_url, _api_key(settings))
    try:
        return _act(settings, _desk(settings, hub, key, data), key)
    except (HubUnreachableError, HubRefusalError, UnknownRequestError, NotApprovableError) as error:
        print(f"fleetloop publisher: {error}", file=sys.stderr)
        return 1
    finally:
        hub.close()


def _desk(settings: Settings, hub: HttpHub, key: SigningKey, data: Path) -> Desk:
    policy = Policy(
        max_accuracy_drop=settings.max_accuracy_drop,
        min_agreement=settings.min_agreement,
        max_bytes_ratio=settings.max_bytes_ratio,
    )
    return Desk(hub, LedgerFile(data / LEDGER), key.signers(), policy)


def _act(settings: Settings, desk: Desk, key: SigningKey) -> int:
    match settings.action:
        case "list":
            for request, verdict in desk.review():
                print(f"{request.id}  {request.model} version {request.version}: {_opinion(verdict)}")
        case "approve":
            desk.approve(settings.request)
        case "refuse":
            desk.refuse(settings.request, settings.reason)
        case _:
            _log.info(
                "publisher serves %s with key %s, approval by %s", settings.hub_url, key.public_hex, settings.approve
            )
            _serve(settings, desk)
    return 0


def _serve(settings: Settings, desk: Desk) -> None:
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    reachable = True
    while not stop.is_set():
        try:
            desk.work(by_policy=settings.approve == "policy")
            reachable = True
        except HubUnreachableError as error:
            if reachable:
                _log.warning("the hub does not answer, trying again: %s", error)
            reachable = False
        except HubRefusalError as error:
            _log.error("the hub did not take it: %s", error)
        stop.wait(settings.poll_s)
    _log.info("publisher stopped")


def _opinion(verdict: Verdict) -> str:
    if verdict.integrity:
        return f"broken: {'; '.join(verdict.integrity)}"
    return f"against the policy: {'; '.join(verdict.merit)}" if verdict.merit else "fine by the policy"


def _api_key(settings: Settings) -> str:
    if not settings.api_key_file:
        raise MalformedError("api_key_file is not set: the publisher needs a hub API key of the role publisher")
    try:
        key = Path(settings.api_key_file).read_text(errors="replace").strip()
    except OSError as error:
        raise MalformedError(f"api_key_file {settings.api_key_file}: {error.strerror}") from error
    if not (key.isascii() and key.isprintable() and key):
        raise MalformedError(f"api_key_file {settings.api_key_file} holds no API key (one line, flk_...)")
    return key
