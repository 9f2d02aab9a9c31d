"""Starts the publisher: its own key and book, one loop over the hub's signing desk, or one command of a person."""

import logging
import signal
import sys
import threading
from pathlib import Path

from cloud.publisher.adapters.hub_http import HttpHub
from cloud.publisher.adapters.metadata_files import MetadataFiles
from cloud.publisher.book import Book, ForeignRootError, NotNamedError
from cloud.publisher.core import Policy, Verdict
from cloud.publisher.ports import HubRefusalError, HubUnreachableError, ShelfError
from cloud.publisher.service import Desk, DisagreementError, NoRootError, NotApprovableError, UnknownRequestError
from cloud.publisher.settings import Settings
from wire.adapters.https import read_api_key
from wire.adapters.key_ring import Ring, key_files
from wire.adapters.system import SystemClock
from wire.errors import MalformedError

_log = logging.getLogger(__name__)

KEY, BOOK = "publisher", "metadata"
ROLE = "an API key of the role publisher"
CANNOT_SIGN = (NoRootError, NotNamedError, ForeignRootError, DisagreementError, ShelfError)
"""Nothing can be signed until a person has done something; the message says what."""


def run(settings: Settings) -> int:
    """Do what `settings.action` says; returns the exit code. Raises MalformedError for unusable settings or files."""
    data = Path(settings.key_dir)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        ring = key_files(data, KEY)
    except OSError as error:
        raise MalformedError(f"key_dir {data}: {error.strerror}; name a directory that can be written") from error
    if settings.action == "key":
        print("\n".join(key.public_hex for key in ring()))
        return 0
    hub = HttpHub(settings.hub_url, read_api_key(settings.api_key_file, ROLE), settings.ca_file)
    try:
        return _act(settings, _desk(settings, hub, ring, data), ring)
    except (HubUnreachableError, HubRefusalError, UnknownRequestError, NotApprovableError, *CANNOT_SIGN) as error:
        print(f"fleetloop publisher: {error}", file=sys.stderr)
        return 1
    finally:
        hub.close()


def _desk(settings: Settings, hub: HttpHub, ring: Ring, data: Path) -> Desk:
    policy = Policy(
        max_accuracy_drop=settings.max_accuracy_drop,
        min_agreement=settings.min_agreement,
        max_bytes_ratio=settings.max_bytes_ratio,
    )
    return Desk(hub, Book(MetadataFiles(data / BOOK), ring, SystemClock().now_ns), policy)


def _act(settings: Settings, desk: Desk, ring: Ring) -> int:
    match settings.action:
        case "list":
            waiting = desk.review()
            if not waiting:
                print("nothing waits for a signature", file=sys.stderr)
            for request, verdict in waiting:
                print(f"{request.id}  {request.model} version {request.version}: {_opinion(verdict)}")
        case "approve":
            desk.approve(settings.request)
        case "refuse":
            desk.refuse(settings.request, settings.reason)
        case "renew":
            desk.agree(restart=settings.restart_versions, restored=settings.hub_restored)
        case _:
            keys = ", ".join(key.public_hex for key in ring())
            _log.info("publisher serves %s with key %s, approval by %s", settings.hub_url, keys, settings.approve)
            _serve(settings, desk)
    return 0


def _serve(settings: Settings, desk: Desk) -> None:
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        trouble = _pass(desk, by_policy=settings.approve == "policy")
        if trouble and trouble != said:
            _log.warning("nothing is signed for now: %s", trouble)
        said = trouble
        stop.wait(settings.poll_s)
    _log.info("publisher stopped")


def _pass(desk: Desk, *, by_policy: bool) -> str:
    """One pass; what was in its way, if anything was."""
    try:
        desk.work(by_policy=by_policy)
    except HubUnreachableError as error:
        return f"the hub does not answer, trying again: {error}"
    except HubRefusalError as error:
        return f"the hub did not take it: {error}"
    except CANNOT_SIGN as error:
        return str(error)
    return ""


def _opinion(verdict: Verdict) -> str:
    if verdict.integrity:
        return f"broken: {'; '.join(verdict.integrity)}"
    return f"against the policy: {'; '.join(verdict.merit)}" if verdict.merit else "fine by the policy"
