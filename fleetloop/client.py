"""The public Python client of the hub's HTTP API: synchronous, and nothing but a thin skin over `/api/v1`.

Answers are the API's JSON objects (described by `cloud.api.schemas`, served as `/openapi.json`), so that a client needs
nothing of the hub installed. A call that returns has succeeded; everything else is a `HubError` that says what the hub
said. Nothing is retried here: callers know what is worth repeating.
"""

import ipaddress
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import httpx
from httpx_sse import connect_sse

from wire.errors import MalformedError

Json: TypeAlias = dict[str, Any]
RolloutCommand: TypeAlias = Literal["pause", "approve", "resume", "abort", "revert"]
Role: TypeAlias = Literal["viewer", "operator", "publisher", "admin"]

API = "/api/v1"
MAX_DETAIL = 1_000
UNREACHABLE = 0
STREAM_TIMEOUT_S = 60.0
"""The hub says something at least every 15 seconds."""


class HubError(Exception):
    """The hub refused, or could not be asked. `status` is the HTTP status, `detail` what its problem document says."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the hub does not answer: {detail}" if status == UNREACHABLE else f"hub {status}: {detail}")
        self.status = status
        self.detail = detail

    @property
    def unreachable(self) -> bool:
        """Did no answer come at all? Then asking again later may help."""
        return self.status == UNREACHABLE


class HubClient:
    """The API of the hub at `base_url`, with the rights of `key`. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_s: float = 30.0,
        ca_file: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`ca_file`: the authority (PEM) of the hub's certificate, if it is none that this machine trusts anyway.

        Raises MalformedError when the key would travel in the clear, or the file is none.
        """
        _in_private(base_url, key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{base_url.rstrip('/')}{API}"
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s, verify=_authority(ca_file), transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def health(self) -> Json:
        """Is the hub up? Needs no key."""
        return self._object("GET", "/health")

    def overview(self) -> Json:
        """The whole loop at one moment: what the live page shows."""
        return self._object("GET", "/overview")

    # Devices.

    def create_claim(self, device: str, **terms: Any) -> Json:
        """Announce a device. The answer is its claim file; the token in it is shown only now.

        Terms: labels, federated (left out: as they are, for a known device), replaces (new hardware takes the name).
        """
        return self._object("POST", "/claims", device=device, **terms)

    def create_claims(self, devices: Sequence[str] | None = None, **terms: Any) -> Iterator[Json]:
        """Announce many devices, by name or by `prefix` and `count` (from number `first` on); their claim files.

        Terms: as for `create_claim`. An answer that breaks off is asked for again: the newest claim files are good.
        """
        body = terms if devices is None else {"devices": list(devices), **terms}
        yield from self._lines("POST", "/claims/batch", body)

    def revoke_device(self, name: str, reason: str) -> Json:
        """Put a device out of the fleet; only a new claim brings it back."""
        return self._object("POST", f"/devices/{name}/revoke", reason=reason)

    def call_off_clone_alarm(self, name: str) -> Json:
        """Say that there is no second device under this name (any more)."""
        return self._object("POST", f"/devices/{name}/clone-alarm/off")

    def devices(self, selector: str = "") -> list[Json]:
        """Devices that the selector means, such as "arm=left, @online=true"; all of them without one."""
        return self._list(f"/devices?{httpx.QueryParams({'selector': selector} if selector else {})}")

    def device(self, name: str) -> Json:
        """One device, with its newest report and telemetry."""
        return self._object("GET", f"/devices/{name}")

    def label_device(self, name: str, put: Mapping[str, str], drop: Sequence[str] = ()) -> Json:
        """Put and drop labels."""
        return self._object("PATCH", f"/devices/{name}/labels", put=dict(put), drop=list(drop))

    def hold_device(self, name: str, reason: str) -> Json:
        """No rollout takes the device until it is released."""
        return self._object("POST", f"/devices/{name}/hold", reason=reason)

    def release_device(self, name: str) -> Json:
        """Rollouts may take the device again."""
        return self._object("POST", f"/devices/{name}/release")

    # Groups.

    def groups(self) -> list[Json]:
        """All groups."""
        return self._list("/groups")

    def group_devices(self, name: str) -> list[Json]:
        """Devices that belong to the group now."""
        return self._list(f"/groups/{name}/devices")

    def put_group(self, name: str, selector: str, description: str = "") -> Json:
        """Make the group, or give it another selector."""
        return self._object("PUT", f"/groups/{name}", selector=selector, description=description)

    def remove_group(self, name: str) -> None:
        """Forget the group; its devices stay as they are."""
        self._send("DELETE", f"/groups/{name}")

    # Jobs, models, signatures.

    def create_job(self, model: str, *, workload: str, seed: int = 0) -> Json:
        """Train; the result is the next version of `model`."""
        return self._object("POST", "/jobs", kind="train", model=model, workload=workload, seed=seed)

    def jobs(self) -> list[Json]:
        """All jobs."""
        return self._list("/jobs")

    def job(self, job: str) -> Json:
        """One job, with its progress."""
        return self._object("GET", f"/jobs/{job}")

    def models(self) -> list[Json]:
        """All models."""
        return self._list("/models")

    def versions(self, model: str) -> list[Json]:
        """All versions of a model."""
        return self._list(f"/models/{model}/versions")

    def version(self, model: str, version: int) -> Json:
        """One version, with its release and model card."""
        return self._object("GET", f"/models/{model}/versions/{version}")

    def signing_requests(self, state: Literal["pending", "signed", "refused"] = "pending") -> list[Json]:
        """Versions that wait for the publisher, or what became of them."""
        return self._list(f"/signing-requests?state={state}")

    def sign(self, request: str, metadata: Mapping[str, str]) -> None:
        """Hand in the bin in which the publisher lists the release: role -> base64."""
        self._send("POST", f"/signing-requests/{request}/signature", {"metadata": dict(metadata)})

    def refuse(self, request: str, reason: str) -> None:
        """Refuse to sign."""
        self._send("POST", f"/signing-requests/{request}/refusal", {"reason": reason})

    # Access and audit.

    def me(self) -> Json:
        """The API key that asks."""
        return self._object("GET", "/me")

    def keys(self) -> list[Json]:
        """All API keys, those that are over among them."""
        return self._list("/keys")

    def revoke_key(self, key: str) -> Json:
        """End the API key with this id."""
        return self._object("POST", f"/keys/{key}/revoke")

    def audit(self, **filters: str | int) -> Iterator[Json]:
        """Changes, oldest first. Filters: actor, action, subject, request, since_ns, until_ns."""
        yield from self._lines("GET", f"/audit/export?{httpx.QueryParams(filters)}")

    def create_key(self, name: str, role: Role, **terms: Any) -> Json:
        """Make an API key; it is shown only now. Terms: labels, models, expires_in_s, requests_per_s."""
        return self._object("POST", "/keys", name=name, role=role, **terms)

    # Trust.

    def trust(self) -> Json:
        """Keys by role, newest metadata versions, and the public keys that a root for this hub has to name."""
        return self._object("GET", "/trust")

    def adopt_root(self, root: str) -> Json:
        """Hand in the first or the next root of trust (base64 of a signed root.json)."""
        return self._object("POST", "/trust/roots", root=root)

    # Rollouts.

    def create_rollout(self, model: str, version: int, *, waves: Sequence[Mapping[str, float]], **options: Any) -> Json:
        """Bring devices to a released version, wave by wave.

        A wave is {"count": n} or {"percent": p}, a gate an expression or {"expression": ..., "false_halt": ...}.
        Options: slot, selector, gates, rate, max_in_flight, disruption, retry, window, install_window, variant, and
        times in seconds.
        """
        cumulative = [dict(wave) for wave in waves]
        return self._object("POST", "/rollouts", model=model, version=version, waves=cumulative, **options)

    def rollouts(self) -> list[Json]:
        """All rollouts."""
        return self._list("/rollouts")

    def rollout(self, rollout: str) -> Json:
        """One rollout, wave by wave."""
        return self._object("GET", f"/rollouts/{rollout}")

    def rollout_members(self, rollout: str) -> list[Json]:
        """The devices of a rollout, by name."""
        return self._list(f"/rollouts/{rollout}/members?limit=1000")

    def rollout_states(self, rollout: str) -> Iterator[Json]:
        """The rollout as it is, then whenever it is different, until the hub ends the stream."""
        path = f"/rollouts/{rollout}/events"
        try:
            with connect_sse(self._http, "GET", path, timeout=STREAM_TIMEOUT_S) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise HubError(source.response.status_code, _detail(source.response))
                for event in source.iter_sse():
                    yield event.json()
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error

    def command_rollout(self, rollout: str, command: RolloutCommand) -> Json:
        """Pause, approve the next wave, resume (acknowledges what was seen), abort (devices keep what they have) or
        revert (they get back what they ran)."""
        return self._object("POST", f"/rollouts/{rollout}/{command}")

    # Federated learning.

    def create_federated_run(self, model: str, *, version: int, **options: Any) -> Json:
        """Let devices learn, starting from a released version.

        Options: selector, strategy, strategy_args, rounds, train, evaluate_every, non_inferiority, seed.
        """
        return self._object("POST", "/federated-runs", model=model, version=version, **options)

    def federated_runs(self) -> list[Json]:
        """All federated runs."""
        return self._list("/federated-runs")

    def federated_run(self, run: str) -> Json:
        """One federated run, with its rounds."""
        return self._object("GET", f"/federated-runs/{run}")

    def _object(self, method: str, path: str, **body: Any) -> Json:
        answer = self._send(method, path, body or None)
        if not isinstance(answer, dict):
            raise HubError(502, f"{path} answered with something else than a JSON object")
        return answer

    def _list(self, path: str) -> list[Json]:
        """All pages of a list."""
        found: list[Json] = []
        while path:
            answer, page = self._answer("GET", path)
            if not isinstance(page, list):
                raise HubError(502, f"{path} answered with something else than a JSON list")
            found += page
            path = answer.links.get("next", {}).get("url", "").removeprefix(API)
        return found

    def _lines(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """An answer of JSON lines, as it comes in."""
        try:
            with self._http.stream(method, path, json=body) as answer:
                if not answer.is_success:
                    answer.read()
                    raise HubError(answer.status_code, _detail(answer))
                for line in answer.iter_lines():
                    yield json.loads(line)
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error
        except ValueError as error:
            raise HubError(502, f"{path} answered with something else than JSON lines; is this the hub?") from error

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._answer(method, path, body)[1]

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[httpx.Response, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error
        if not answer.is_success:
            raise HubError(answer.status_code, _detail(answer))
        try:
            return answer, answer.json() if answer.content else None
        except ValueError as error:
            raise HubError(502, f"{path} answered with something else than JSON; is this the hub?") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:MAX_DETAIL]
    except (ValueError, KeyError, TypeError):
        return answer.text[:MAX_DETAIL] or answer.reason_phrase


def _in_private(base_url: str, key: str) -> None:
    url = httpx.URL(base_url)
    if url.scheme == "https" or not key or url.host == "localhost":
        return
    try:
        if ipaddress.ip_address(url.host).is_loopback:
            return
    except ValueError:
        pass
    raise MalformedError(f"refusing to send an API key to {base_url} in the clear: use https://")


def _authority(ca_file: str) -> ssl.SSLContext | bool:
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise MalformedError(f"ca_file {ca_file}: {error.strerror or error}") from error
