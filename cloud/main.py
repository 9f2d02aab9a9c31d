"""`fleetloop hub`: API, services and live page in one event loop; broker and jobs in child processes."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence

import uvicorn

from cloud.backup import BackupError, backup, restore
from cloud.bootstrap import Running, started
from cloud.errors import StoreError
from cloud.garbage import set_aside_what_stays
from cloud.ports import BrokerError
from cloud.settings import Settings, told
from cloud.settings_check import SettingsError, check
from wire.errors import WireError

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETTINGS = 2
GRACE_S = 5


def run(settings: Settings) -> int:
    """Run the hub until SIGTERM or SIGINT, or back it up, or restore it; returns the exit code."""
    os.umask(0o077)  # whatever the hub and its children write is for their owner only
    try:
        match settings.action:
            case "run":
                return asyncio.run(_run(settings))
            case "backup":
                backup(settings)
            case "restore":
                restore(settings)
        return EXIT_OK
    except (SettingsError, WireError) as error:
        log.error("%s", error)
        return EXIT_SETTINGS
    except BackupError as error:
        log.error("%s", error)
        return EXIT_FAILED
    except (StoreError, BrokerError, OSError) as error:
        log.error("the hub cannot start: %s", error)
        return EXIT_FAILED


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the hub's decide."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def _run(settings: Settings) -> int:
    with _bound(settings) as listener:
        return await _serve(settings, listener)


async def _serve(settings: Settings, listener: socket.socket) -> int:
    async with started(settings) as running:
        server = _Server(_configuration(settings, running))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _asked_to_stop, number, server, running)
        serving = asyncio.create_task(server.serve([listener]), name="http")
        working = asyncio.create_task(running.hub.run(), name="hub")
        _announce(settings, running)
        set_aside_what_stays()
        await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        _stop(server, running)
        working.cancel()
        code = _exit_code(await asyncio.gather(serving, working, return_exceptions=True))
        log.info(
            "the API is closed and nobody is heard any more; waiting for what is being written, then for the broker"
        )
    log.info("the hub has ended")
    return code


def _bound(settings: Settings) -> socket.socket:
    """The API's port, taken before anything is started; nobody can connect yet. Raises SettingsError."""
    check(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        place = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"cannot serve the API on {place}: {error.strerror}; choose another {told('host', 'port')}"
        ) from error
    return listener


def _exit_code(outcomes: Sequence[BaseException | None]) -> int:
    code = EXIT_OK
    for outcome in outcomes:
        if isinstance(outcome, Exception | SystemExit):
            log.error("the hub stopped on an error", exc_info=outcome)
            code = EXIT_FAILED
    return code


def _asked_to_stop(number: signal.Signals, server: uvicorn.Server, running: Running) -> None:
    log.info("%s: the hub ends; requests under way have %d s", number.name, GRACE_S)
    _stop(server, running)


def _stop(server: uvicorn.Server, running: Running) -> None:
    """No more requests; streams, which would keep the server waiting, end by themselves."""
    server.should_exit = True
    running.closing.set()


def _configuration(settings: Settings, running: Running) -> uvicorn.Config:
    return uvicorn.Config(
        running.app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=GRACE_S,
    )


def _announce(settings: Settings, running: Running) -> None:
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    place = f"{scheme}://{host}:{settings.port}"
    log.info("API at %s/api/v1, administrator's key in %s/admin.key", place, settings.data_dir)
    if running.page:
        log.info("live page: %s%s (it asks for an API key)", place, running.page)
