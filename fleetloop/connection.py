"""How the Python client speaks HTTP to a hub: one key, bounded waiting, and every refusal as a `HubError`.

Nothing is retried here: callers know what is worth repeating. A key never travels in the clear.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import httpx
from httpx_sse import connect_sse

from wire.adapters.https import check_private, verification

Json: TypeAlias = dict[str, Any]

API = "/api/v1"
MAX_DETAIL = 1_000
UNREACHABLE = 0
BUSY = (429, 503)
STREAM_TIMEOUT_S = 60.0
"""The hub says something at least every 15 seconds."""
UPLOAD_TIMEOUT_S = 300.0
"""The hub looks into what was uploaded before it answers."""
PIECE_BYTES = 1024 * 1024


class HubError(Exception):
    """The hub refused, or could not be asked. `status` is the HTTP status, `detail` what its problem document says."""

    def __init__(self, status: int, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"the hub does not answer: {detail}" if status == UNREACHABLE else f"hub {status}: {detail}")
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        """How long the hub asks to be left alone; 0 = it does not say."""

    @property
    def unreachable(self) -> bool:
        """Did no answer come at all? Then asking again later may help."""
        return self.status == UNREACHABLE

    @property
    def passing(self) -> bool:
        """May the same request succeed later: is the hub away, or busy?"""
        return self.unreachable or self.status in BUSY


class Connection:
    """The API of the hub at `base_url`, with the rights of `key`."""

    def __init__(self, base_url: str, key: str, timeout_s: float, ca_file: str) -> None:
        """Raises MalformedError when the key would travel in the clear, or `ca_file` is none."""
        if key:
            check_private(base_url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{base_url.rstrip('/')}{API}"
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, verify=verification(ca_file))

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Whatever is answered. Raises HubError."""
        return self._answer(method, path, body)[1]

    def object(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """A JSON object. Raises HubError."""
        return _as_object(path, self.send(method, path, body))

    def rows(self, path: str) -> list[Json]:
        """All pages of a list. Raises HubError."""
        found: list[Json] = []
        while path:
            answer, page = self._answer("GET", path)
            if not isinstance(page, list):
                raise HubError(502, f"{path} answered with something else than a JSON list")
            found += page
            path = answer.links.get("next", {}).get("url", "").removeprefix(API)
        return found

    def lines(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """An answer of JSON lines, as it comes in. Raises HubError."""
        with self._translated(), self._http.stream(method, path, json=body) as answer:
            _check(answer)
            try:
                for line in answer.iter_lines():
                    yield json.loads(line)
            except ValueError as error:
                raise HubError(502, f"{path} answered with something else than JSON lines; is this the hub?") from error

    def events(self, path: str) -> Iterator[Json]:
        """Server-sent events, until the hub ends the stream. Raises HubError."""
        with self._translated(), connect_sse(self._http, "GET", path, timeout=STREAM_TIMEOUT_S) as source:
            _check(source.response)
            for event in source.iter_sse():
                yield event.json()

    def upload(self, path: str, file: Path) -> Json:
        """Send a file piece by piece. Raises HubError, OSError."""
        with self._translated(), file.open("rb") as source:
            headers = {"Content-Length": str(file.stat().st_size), "Content-Type": "application/octet-stream"}
            pieces = iter(lambda: source.read(PIECE_BYTES), b"")
            answer = self._http.put(path, content=pieces, headers=headers, timeout=UPLOAD_TIMEOUT_S)
        return _as_object(path, _decoded(path, _check(answer)))

    def download(self, path: str, part: BinaryIO, tag: str) -> None:
        """Append to `part` what it lacks of the bytes with this entity tag, or write it anew. Raises HubError."""
        have = part.seek(0, 2)
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{tag}"'} if have else {}
        with self._translated(), self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # there is no more
            _check(answer)
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                part.seek(0)
                part.truncate()
            for piece in answer.iter_raw(PIECE_BYTES):
                part.write(piece)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[httpx.Response, Any]:
        with self._translated():
            answer = self._http.request(method, path, json=body)
        return answer, _decoded(path, _check(answer))


def _check(answer: httpx.Response) -> httpx.Response:
    """Raises HubError with what the hub said."""
    if answer.is_success:
        return answer
    answer.read()
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = answer.text or answer.reason_phrase
    wait = answer.headers.get("retry-after", "")
    raise HubError(answer.status_code, detail[:MAX_DETAIL], float(wait) if wait.isdecimal() else 0.0)


def _decoded(path: str, answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise HubError(502, f"{path} answered with something else than JSON; is this the hub?") from error


def _as_object(path: str, answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise HubError(502, f"{path} answered with something else than a JSON object")
    return answer
