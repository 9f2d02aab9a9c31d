"""The local API for the application on the device: HTTP/1.1 with keep-alive over a Unix socket or a loopback port.

POST /v1/predict   JSON {"input": nested lists} or float32 little-endian octets; `?slot=` picks one of several
POST /v1/feedback  JSON {"id", "label"}
GET  /v1/status
Every error is JSON {"error": reason}. A request is bounded in size and must arrive in time; nothing is kept of it here.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from edge_agent.errors import AgentError, RequestError, SettingsError
from edge_agent.service.inference import Answer, Inference

if TYPE_CHECKING:
    from edge_agent.ports import Floats

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_HEAD_BYTES = 8 * 1024
REQUEST_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 300.0
HEAR_OUT_S = 2.0
"""For what a client goes on sending after a request that is refused unread."""
OCTETS = "application/octet-stream"


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """JSON of a prediction request."""

    input: list[Any]


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """JSON of feedback: the id that `predict` gave, and the true class."""

    id: str
    label: int


class HttpError(Exception):
    """Answered with this status; `fatal` closes the connection since what follows cannot be told apart."""

    def __init__(self, status: HTTPStatus, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Header names are lower-case."""

    method: str
    path: str
    slot: str
    headers: dict[str, str]
    body: bytes

    @property
    def keep_alive(self) -> bool:
        """Does the client want to go on with this connection?"""
        return self.headers.get("connection", "").lower() != "close"


class LocalApi:
    """Serves one agent's inference."""

    def __init__(self, inference: Inference, status: Callable[[], Awaitable[bytes]]) -> None:
        self.inference = inference
        self._status = status
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._routes: dict[tuple[str, str], Callable[[HttpRequest], Awaitable[bytes]]] = {
            ("POST", "/v1/predict"): self._predict,
            ("POST", "/v1/feedback"): self._feedback,
            ("GET", "/v1/status"): self._get_status,
        }

    async def bind_unix(self, path: Path) -> None:
        """Take a socket that only this user may open. Raises SettingsError: there can be none."""
        self._servers.append(
            await asyncio.start_unix_server(
                self._serve, sock=_private_socket(path), limit=MAX_HEAD_BYTES, start_serving=False
            )
        )

    async def bind_loopback(self, port: int) -> None:
        """Take a port of 127.0.0.1. Raises OSError."""
        self._servers.append(
            await asyncio.start_server(self._serve, "127.0.0.1", port, limit=MAX_HEAD_BYTES, start_serving=False)
        )

    async def serve(self) -> None:
        """Let applications connect to what was bound."""
        for server in self._servers:
            await server.start_serving()

    async def close(self) -> None:
        """Stop listening and end the connections."""
        for server in self._servers:
            server.close()
        for writer in tuple(self._connections):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the application went away
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; may there be another on this connection?"""
        fatal = False
        try:
            request = await _read_request(reader)
            if request is None:
                return False
            status, body = await self._respond(request)
            keep = request.keep_alive
        except HttpError as error:
            fatal = error.fatal
            status, body, keep = error.status, _problem(str(error)), not fatal
        writer.write(_response(status, body, keep=keep))
        await asyncio.wait_for(writer.drain(), REQUEST_TIMEOUT_S)
        if fatal:
            writer.write_eof()
            await _hear_out(reader)
        return keep

    async def _respond(self, request: HttpRequest) -> tuple[HTTPStatus, bytes]:
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = ", ".join(f"{method} {path}" for method, path in self._routes)
            return HTTPStatus.NOT_FOUND, _problem(f"no {request.method} {request.path}; there are {known}")
        try:
            return HTTPStatus.OK, await handler(request)
        except RequestError as error:
            return HTTPStatus(error.status), _problem(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return HTTPStatus.BAD_REQUEST, _problem(f"body: {error}")
        except AgentError as error:
            log.warning("%s %s: %s", request.method, request.path, error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, _problem(str(error))

    async def _predict(self, request: HttpRequest) -> bytes:
        self.inference.ready(request.slot)  # before numpy is imported for nothing
        answer: Answer = await self.inference.predict(_input(request), request.slot)
        return msgspec.json.encode(answer)

    async def _feedback(self, request: HttpRequest) -> bytes:
        body = msgspec.json.decode(request.body, type=FeedbackBody)
        await self.inference.feedback(body.id, body.label)
        return b"{}"

    async def _get_status(self, request: HttpRequest) -> bytes:
        return await self._status()


def _input(request: HttpRequest) -> "Floats":
    """The input as an array: flat from octets, in the shape of the nested lists from JSON."""
    import numpy as np

    if request.headers.get("content-type", "").split(";")[0].strip().lower() == OCTETS:
        if not request.body or len(request.body) % 4:
            raise RequestError(f"body: {len(request.body)} bytes are not a whole number of float32 values")
        return np.frombuffer(request.body, dtype="<f4").astype(np.float32)
    nested = msgspec.json.decode(request.body, type=PredictBody).input
    try:
        return np.asarray(nested, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"input: not numbers in equal rows: {error}") from error


def _private_socket(path: Path) -> socket.socket:
    """Bound before anything else can run: the umask is the whole process's, children included.

    A socket that lies there, of an agent that is gone, is replaced; any other file is somebody's. Raises SettingsError.
    """
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        reason = f"socket {path}: {error.strerror or error}; name another place with --socket"
        raise SettingsError(reason) from error
    finally:
        os.umask(before)
    return listener


async def _hear_out(reader: asyncio.StreamReader) -> None:
    """Drop what still comes: a socket closed on it would be reset, and the client would never see its answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEAR_OUT_S):
            while await reader.read(MAX_HEAD_BYTES):
                pass


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_TIMEOUT_S)
    except asyncio.LimitOverrunError as error:
        reason = f"the request's head exceeds {MAX_HEAD_BYTES} bytes"
        raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason, fatal=True) from error
    except asyncio.IncompleteReadError:
        return None
    method, target, headers = _parse_head(head)
    body = await asyncio.wait_for(reader.readexactly(_length(headers)), REQUEST_TIMEOUT_S)
    url = urlsplit(target)
    return HttpRequest(method, url.path, parse_qs(url.query).get("slot", [""])[0], headers, body)


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    try:
        first, *lines = head.decode("ascii").split("\r\n")[:-2]
        method, target, version = first.split(" ")
        headers = {}
        for line in lines:
            name, separator, value = line.partition(":")
            if not separator or not name or name != name.strip():
                raise ValueError(f"header {line[:80]!r}")
            if name.lower() in headers and name.lower() in ("content-length", "transfer-encoding"):
                raise ValueError(f"two headers {name}")
            headers[name.lower()] = value.strip()
        if version != "HTTP/1.1":
            raise ValueError(f"version {version[:20]!r}")
        urlsplit(target)
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"not an HTTP/1.1 request: {error}", fatal=True) from error
    return method, target, headers


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise HttpError(HTTPStatus.LENGTH_REQUIRED, "send Content-Length, not Transfer-Encoding", fatal=True)
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"Content-Length {text[:40]!r} is not a number", fatal=True)
    if int(text) > MAX_BODY_BYTES:
        reason = f"body: {text} bytes, at most {MAX_BODY_BYTES} allowed"
        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, fatal=True)
    return int(text)


def _problem(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


def _response(status: HTTPStatus, body: bytes, *, keep: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + body
