"""The Python call for applications on the device: `predict`, later `feedback`. Standard library only, one connection.

with AgentClient("/var/lib/fleetloop-agent/agent.sock") as agent:
    answer = agent.predict(window)          # float32 array or bytes (little-endian), or nested lists
    agent.feedback(answer.id, label)
"""

import http.client
import json
import os
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


class AgentError(Exception):
    """The agent refused a call (`status` is the HTTP status) or cannot be reached (`status` 0)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one input. `id` joins the truth to it later; `confidence` is 0..1."""

    id: str
    label: int
    name: str
    confidence: float
    version: int
    variant: str


class AgentClient:
    """A connection to the agent's local API, kept open between calls. Not for several threads at once."""

    def __init__(self, address: str | os.PathLike[str] | int, timeout_s: float = 30.0) -> None:
        """`address`: path of the agent's Unix socket, or a loopback port."""
        self._address = address
        if isinstance(address, int):
            self._connection = http.client.HTTPConnection("127.0.0.1", address, timeout=timeout_s)
        else:
            self._connection = _UnixConnection(os.fspath(address), timeout_s)

    def predict(self, window: object, *, slot: str = "") -> Answer:
        """Classify one input: anything with a float32 buffer (numpy array, bytes), or nested lists of numbers.

        Raises:
            AgentError: no model yet (503), wrong shape (400), too large (413), or the agent cannot be reached (0).
        """
        path = f"/v1/predict?slot={slot}" if slot else "/v1/predict"
        if isinstance(window, Sequence) and not isinstance(window, bytes):
            return Answer(**self._call("POST", path, json.dumps({"input": window}).encode()))
        return Answer(**self._call("POST", path, _float32(window), "application/octet-stream"))

    def feedback(self, prediction_id: str, label: int) -> None:
        """Tell the truth about an answer. Raises AgentError: unknown id (404), told before (409)."""
        self._call("POST", "/v1/feedback", json.dumps({"id": prediction_id, "label": label}).encode())

    def status(self) -> dict[str, Any]:
        """What the agent runs and how far it is."""
        return self._call("GET", "/v1/status")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> dict[str, Any]:
        try:
            if _is_over(self._connection.sock):
                self._connection.close()  # `request` opens it anew
            self._connection.request(method, path, body, {"Content-Type": kind})
            response = self._connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or repr(error)
            raise AgentError(0, f"the agent cannot be reached at {self._address}: {reason}") from error
        if response.status != http.HTTPStatus.OK:
            raise AgentError(response.status, str(answer.get("error", answer)))
        return answer


def _is_over(connection: socket.socket | None) -> bool:
    """The agent ends what rests for minutes. Between two calls it has nothing else to say, so anything is the end."""
    if connection is None:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _float32(window: Any) -> bytes:
    view = memoryview(window)
    if view.format not in ("f", "<f", "B"):
        raise TypeError(f"the window has items of format {view.format!r}, convert it to float32")
    return view.tobytes()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
