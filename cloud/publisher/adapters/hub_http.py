"""The hub's signing desk over HTTP. Everything that can go wrong on the way becomes one of the port's two errors."""

import base64
from collections.abc import Mapping, Sequence

import httpx
import msgspec

from cloud.publisher.ports import HubRefusalError, HubTrust, HubUnreachableError
from cloud.publisher.request import SigningRequest
from wire.adapters.https import check_private, verification

API = "/api/v1"
TIMEOUT_S = 10.0
MAX_REASON = 500


class HttpHub:
    """`cloud.publisher.ports.Hub` on `base_url`, with an API key of the role publisher."""

    def __init__(self, base_url: str, key: str, ca_file: str = "") -> None:
        """Raises MalformedError when the key would travel in the clear, or `ca_file` (PEM) cannot be read."""
        check_private(base_url)
        headers, url = {"Authorization": f"Bearer {key}"}, f"{base_url.rstrip('/')}{API}"
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=verification(ca_file))

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def pending(self) -> Sequence[SigningRequest]:
        """Versions that wait, oldest first."""
        found: list[SigningRequest] = []
        path = "/signing-requests?state=pending"
        while path:
            answer = self._accepted("GET", path)
            try:
                found += msgspec.json.decode(answer.content, type=list[SigningRequest])
            except msgspec.DecodeError as error:
                raise HubRefusalError(f"the hub's list of signing requests makes no sense: {error}") from error
            path = answer.links.get("next", {}).get("url", "").removeprefix(API)
        return found

    def trust(self) -> HubTrust:
        """What the hub's repository shows."""
        answer = self._send("GET", "/trust")
        try:
            return msgspec.json.decode(answer, type=HubTrust)
        except msgspec.DecodeError as error:
            raise HubRefusalError(f"the hub's account of its trust metadata makes no sense: {error}") from error

    def file(self, name: str) -> bytes | None:
        """A file of the repository."""
        answer = self._request("GET", f"/trust/metadata/{name}")
        return answer.content if answer.is_success else None

    def sign(self, request: str, metadata: Mapping[str, bytes]) -> None:
        """Hand in the bin that lists the release."""
        self._send("POST", f"/signing-requests/{request}/signature", _body(metadata))

    def deliver(self, metadata: Mapping[str, bytes], *, restored: bool = False) -> None:
        """Hand in what was signed anew, or what a restored hub has lost."""
        self._send("POST", "/trust/metadata", {**_body(metadata), "restored": restored})

    def refuse(self, request: str, reason: str) -> None:
        """Say no, for good."""
        self._send("POST", f"/signing-requests/{request}/refusal", {"reason": reason})

    def _send(self, method: str, path: str, body: object = None) -> bytes:
        return self._accepted(method, path, body).content

    def _accepted(self, method: str, path: str, body: object = None) -> httpx.Response:
        answer = self._request(method, path, body)
        if not answer.is_success:
            raise HubRefusalError(f"{method} {path}: {answer.status_code} {_reason(answer)}")
        return answer

    def _request(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise HubUnreachableError(f"{self._http.base_url}: {error}; is the hub up, is hub_url right?") from error
        if answer.is_server_error:
            raise HubUnreachableError(f"{method} {path}: {answer.status_code} {_reason(answer)}")
        return answer


def _body(metadata: Mapping[str, bytes]) -> dict[str, object]:
    return {"metadata": {role: base64.b64encode(data).decode() for role, data in metadata.items()}}


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:MAX_REASON]
    except (ValueError, KeyError, TypeError):
        return answer.text[:MAX_REASON]
