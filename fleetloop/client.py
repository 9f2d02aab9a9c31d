"""The public Python client of the hub's HTTP API: synchronous, and nothing but a thin skin over `/api/v1`.

Answers are the API's JSON objects (described by `cloud.api.schemas`, served as `/openapi.json`), so that a client needs
nothing of the hub installed. A call that returns has succeeded; everything else is a `HubError` that says what the hub
said. Nothing is retried here: callers know what is worth repeating.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote

import httpx

Json: TypeAlias = dict[str, Any]
RolloutCommand: TypeAlias = Literal["pause", "approve", "resume", "abort", "revert"]
Role: TypeAlias = Literal["viewer", "operator", "publisher", "admin"]

MAX_DETAIL = 1_000
UNREACHABLE = 0


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
        self, base_url: str, key: str, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{base_url.rstrip('/')}/api/v1"
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

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
        try:
            with self._http.stream("POST", "/claims/batch", json=body) as answer:
                if not answer.is_success:
                    answer.read()
                    raise HubError(answer.status_code, _detail(answer))
                for line in answer.iter_lines():
                    yield json.loads(line)
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error
        except ValueError as error:
            raise HubError(
                502, "/claims/batch answered with something else than JSON lines; is this the hub?"
            ) from error

    def revoke_device(self, name: str, reason: str) -> Json:
        """Put a device out of the fleet; only a new claim brings it back."""
        return self._object("POST", f"/devices/{name}/revoke", reason=reason)

    def call_off_clone_alarm(self, name: str) -> Json:
        """Say that there is no second device under this name (any more)."""
        return self._object("POST", f"/devices/{name}/clone-alarm/off")

    def devices(self) -> list[Json]:
        """All devices."""
        return self._list("/devices")

    def device(self, name: str) -> Json:
        """One device, with its newest report and telemetry."""
        return self._object("GET", f"/devices/{name}")

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

    # Keys.

    def create_key(self, name: str, role: Role) -> Json:
        """Make an API key; it is shown only now."""
        return self._object("POST", "/keys", name=name, role=role)

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
        Options: slot, selector, gates, rate, max_in_flight, disruption, retry, window, variant, times in seconds.
        """
        cumulative = [dict(wave) for wave in waves]
        return self._object("POST", "/rollouts", model=model, version=version, waves=cumulative, **options)

    def rollouts(self) -> list[Json]:
        """All rollouts."""
        return self._list("/rollouts")

    def rollout(self, rollout: str) -> Json:
        """One rollout, wave by wave."""
        return self._object("GET", f"/rollouts/{rollout}")

    def rollout_members(self, rollout: str, after: str = "", limit: int = 100) -> Json:
        """The devices of a rollout behind the name `after`, and where the next page begins (`after`, or None)."""
        return self._object("GET", f"/rollouts/{rollout}/members?after={quote(after)}&limit={limit}")

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
        answer = self._send("GET", path)
        if not isinstance(answer, list):
            raise HubError(502, f"{path} answered with something else than a JSON list")
        return answer

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise HubError(UNREACHABLE, f"{self._http.base_url} ({error or type(error).__name__})") from error
        if not answer.is_success:
            raise HubError(answer.status_code, _detail(answer))
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise HubError(502, f"{path} answered with something else than JSON; is this the hub?") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:MAX_DETAIL]
    except (ValueError, KeyError, TypeError):
        return answer.text[:MAX_DETAIL] or answer.reason_phrase
