"""The public Python client of the hub's HTTP API: synchronous, and nothing but a thin skin over `/api/v1`.

Answers are the API's JSON objects (described by `cloud.api.schemas`, served as `/openapi.json`), so that a client needs
nothing of the hub installed. A call that returns has succeeded; everything else is a `HubError` that says what the hub
said. Nothing is retried here: callers know what is worth repeating.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlencode

from fleetloop.connection import Connection, HubError, Json

__all__ = ["HubClient", "HubError", "Json", "Role", "RolloutCommand"]

RolloutCommand: TypeAlias = Literal["pause", "approve", "resume", "abort", "revert"]
SigningState: TypeAlias = Literal["pending", "signed", "refused"]
Role: TypeAlias = Literal["viewer", "operator", "publisher", "admin"]
BAD_BYTES = 502


class HubClient:
    """The API of the hub at `base_url`, with the rights of `key`. Use it as a context manager, or call `close`."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float = 30.0, ca_file: str = "") -> None:
        """`ca_file`: the authority (PEM) of the hub's certificate, if it is none that this machine trusts anyway.

        Raises MalformedError when the key would travel in the clear, or the file is none.
        """
        self._hub = Connection(base_url, key, timeout_s, ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._hub.close()

    def health(self) -> Json:
        """Is the hub up? Needs no key."""
        return self._hub.object("GET", "/health")

    def overview(self) -> Json:
        """The whole loop at one moment: what the live page shows."""
        return self._hub.object("GET", "/overview")

    # Devices.

    def create_claim(self, device: str, **terms: Any) -> Json:
        """Announce a device. The answer is its claim file; the token in it is shown only now.

        Terms: labels, federated (left out: as they are, for a known device), replaces (new hardware takes the name).
        """
        return self._hub.object("POST", "/claims", {"device": device, **terms})

    def create_claims(self, devices: Sequence[str] | None = None, **terms: Any) -> Iterator[Json]:
        """Announce many devices, by name or by `prefix` and `count` (from number `first` on); their claim files.

        Terms: as for `create_claim`. An answer that breaks off is asked for again: the newest claim files are good.
        """
        body = terms if devices is None else {"devices": list(devices), **terms}
        yield from self._hub.lines("POST", "/claims/batch", body)

    def revoke_device(self, name: str, reason: str) -> Json:
        """Put a device out of the fleet; only a new claim brings it back."""
        return self._hub.object("POST", f"/devices/{name}/revoke", {"reason": reason})

    def call_off_clone_alarm(self, name: str) -> Json:
        """Say that there is no second device under this name (any more)."""
        return self._hub.object("POST", f"/devices/{name}/clone-alarm/off")

    def devices(self, selector: str = "") -> list[Json]:
        """Devices that the selector means, such as "arm=left, @online=true"; all of them without one."""
        return self._hub.rows(f"/devices?{urlencode({'selector': selector, 'limit': 1000})}")

    def device(self, name: str) -> Json:
        """One device, with its newest report and telemetry."""
        return self._hub.object("GET", f"/devices/{name}")

    def label_device(self, name: str, put: Mapping[str, str], drop: Sequence[str] = ()) -> Json:
        """Put and drop labels."""
        return self._hub.object("PATCH", f"/devices/{name}/labels", {"put": dict(put), "drop": list(drop)})

    def hold_device(self, name: str, reason: str) -> Json:
        """No rollout takes the device until it is released."""
        return self._hub.object("POST", f"/devices/{name}/hold", {"reason": reason})

    def release_device(self, name: str) -> Json:
        """Rollouts may take the device again."""
        return self._hub.object("POST", f"/devices/{name}/release")

    def edit_device(self, name: str, *, federated: bool) -> Json:
        """May it take part in federated learning?"""
        return self._hub.object("PATCH", f"/devices/{name}", {"federated": federated})

    def pin_device(self, name: str, version: tuple[str, int], reason: str, slot: str = "main") -> Json:
        """Keep a slot at `version` = (model, number): rollouts of another one leave it alone. Its twin."""
        model, number = version
        return self._hub.object(
            "PUT", f"/devices/{name}/pins/{slot}", {"model": model, "version": number, "reason": reason}
        )

    def unpin_device(self, name: str, slot: str = "main") -> Json:
        """Any version may take the slot again. Its twin."""
        return self._hub.object("DELETE", f"/devices/{name}/pins/{slot}")

    def decommission_device(self, name: str, reason: str) -> Json:
        """Take a device out for good; its history stays."""
        return self._hub.object("POST", f"/devices/{name}/decommission", {"reason": reason})

    def device_twin(self, name: str) -> Json:
        """What the device shall run beside what it says it runs; its holds and pins, and how old its agent is."""
        return self._hub.object("GET", f"/devices/{name}/twin")

    def device_history(self, name: str, limit: int = 100) -> list[Json]:
        """What happened to the device, newest first: at most 1,000 events."""
        return self._hub.rows(f"/devices/{name}/history?limit={limit}")

    # The fleet as a whole.

    def fleet(self) -> Json:
        """Is it halted, who is there, and which agents does it run?"""
        return self._hub.object("GET", "/fleet")

    def halt_fleet(self, reason: str) -> Json:
        """Assign nobody anything, in whatever rollout."""
        return self._hub.object("POST", "/fleet/halt", {"reason": reason})

    def resume_fleet(self) -> Json:
        """Rollouts go on where they stopped."""
        return self._hub.object("POST", "/fleet/resume")

    # Groups.

    def groups(self) -> list[Json]:
        """All groups."""
        return self._hub.rows("/groups")

    def group_devices(self, name: str) -> list[Json]:
        """Devices that belong to the group now."""
        return self._hub.rows(f"/groups/{name}/devices")

    def put_group(self, name: str, selector: str, description: str | None = None) -> Json:
        """Make the group, or give it another selector. Without a description it keeps the one it has."""
        said = {"selector": selector} if description is None else {"selector": selector, "description": description}
        return self._hub.object("PUT", f"/groups/{name}", said)

    def remove_group(self, name: str) -> None:
        """Forget the group; its devices stay as they are."""
        self._hub.send("DELETE", f"/groups/{name}")

    # Jobs, models, signatures.

    def create_job(self, model: str, *, workload: str, seed: int = 0) -> Json:
        """Train; the result is the next version of `model`."""
        return self._hub.object("POST", "/jobs", {"kind": "train", "model": model, "workload": workload, "seed": seed})

    def jobs(self) -> list[Json]:
        """All jobs."""
        return self._hub.rows("/jobs")

    def job(self, job: str) -> Json:
        """One job, with its progress."""
        return self._hub.object("GET", f"/jobs/{job}")

    def models(self) -> list[Json]:
        """All models."""
        return self._hub.rows("/models")

    def versions(self, model: str) -> list[Json]:
        """All versions of a model."""
        return self._hub.rows(f"/models/{model}/versions")

    def version(self, model: str, version: int) -> Json:
        """One version, with its release and model card."""
        return self._hub.object("GET", f"/models/{model}/versions/{version}")

    def signing_requests(self, state: SigningState | None = "pending") -> list[Json]:
        """Versions that wait for the publisher (pending), those that it signed or refused, or all of them."""
        return self._hub.rows(f"/signing-requests?{urlencode({} if state is None else {'state': state})}")

    def signing_request(self, request: str) -> Json:
        """One of them, with its gate report and the exact bytes to sign."""
        return self._hub.object("GET", f"/signing-requests/{request}")

    def sign(self, request: str, metadata: Mapping[str, str]) -> None:
        """Hand in the bin in which the publisher lists the release: role -> base64."""
        self._hub.send("POST", f"/signing-requests/{request}/signature", {"metadata": dict(metadata)})

    def refuse(self, request: str, reason: str) -> None:
        """Refuse to sign."""
        self._hub.send("POST", f"/signing-requests/{request}/refusal", {"reason": reason})

    def import_version(self, model: str, **terms: Any) -> Json:
        """Enter a version that was made elsewhere, from uploaded artefacts. Terms: as the API takes them."""
        return self._hub.object("POST", f"/models/{model}/versions", terms)

    def promotion(self, model: str, version: int) -> Json:
        """How far a version is promoted, and what its model's rule still asks for."""
        return self._hub.object("GET", f"/models/{model}/versions/{version}/promotion")

    def promote(self, model: str, version: int, override: str = "") -> Json:
        """Put a version into production. `override`: why, although its rule is not met."""
        return self._hub.object("POST", f"/models/{model}/versions/{version}/promote", {"override": override})

    def retire(self, model: str, version: int, reason: str) -> Json:
        """Nobody rolls the version out any more; devices that run it keep it."""
        return self._hub.object("POST", f"/models/{model}/versions/{version}/retire", {"reason": reason})

    # Artefacts.

    def artefacts(self) -> list[Json]:
        """Uploaded files."""
        return self._hub.rows("/artefacts?limit=1000")

    def artefact(self, sha256: str) -> Json:
        """What an uploaded file is."""
        return self._hub.object("GET", f"/artefacts/{sha256}")

    def upload_artefact(self, file: Path) -> Json:
        """Upload an ONNX, TFLite or safetensors file under its digest; what it is. Raises HubError, OSError."""
        with file.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        return self._hub.upload(f"/artefacts/{sha256}", file)

    def download_artefact(self, sha256: str, to: Path) -> None:
        """Bring an object of the registry into the file `to`, which is whole or not there.

        What came before a cut stays beside it (`to` with `.part`), and the next call goes on from there. Raises
        HubError (502: other bytes came than the digest says), OSError.
        """
        part = to.with_name(f"{to.name}.part")
        with part.open("a+b") as file:
            self._hub.download(f"/artefacts/{sha256}/content", file, sha256)
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            part.unlink()
            raise HubError(BAD_BYTES, f"bytes with the digest {found} came for {sha256}: ask for them again")
        part.replace(to)

    # Access and audit.

    def me(self) -> Json:
        """The API key that asks."""
        return self._hub.object("GET", "/me")

    def keys(self) -> list[Json]:
        """All API keys, those that are over among them."""
        return self._hub.rows("/keys")

    def revoke_key(self, key: str) -> Json:
        """End the API key with this id."""
        return self._hub.object("POST", f"/keys/{key}/revoke")

    def audit(self, **filters: str | int) -> Iterator[Json]:
        """Changes, oldest first. Filters: actor, action, subject, request, since_ns, until_ns."""
        yield from self._hub.lines("GET", f"/audit/export?{urlencode(filters)}")

    def create_key(self, name: str, role: Role, **terms: Any) -> Json:
        """Make an API key; it is shown only now. Terms: labels, models, expires_in_s, requests_per_s."""
        return self._hub.object("POST", "/keys", {"name": name, "role": role, **terms})

    # Trust.

    def trust(self) -> Json:
        """Keys by role, newest metadata versions, and the public keys that a root for this hub has to name."""
        return self._hub.object("GET", "/trust")

    def adopt_root(self, root: str) -> Json:
        """Hand in the first or the next root of trust (base64 of a signed root.json)."""
        return self._hub.object("POST", "/trust/roots", {"root": root})

    # Rollouts.

    def create_rollout(self, model: str, version: int, *, waves: Sequence[Mapping[str, float]], **options: Any) -> Json:
        """Bring devices to a released version, wave by wave.

        A wave is {"count": n} or {"percent": p}, a gate an expression or {"expression": ..., "false_halt": ...}.
        Options: slot, selector, gates, rate, max_in_flight, disruption, retry, window, install_window, variant, and
        times in seconds.
        """
        body = {"model": model, "version": version, "waves": [dict(wave) for wave in waves], **options}
        return self._hub.object("POST", "/rollouts", body)

    def rollouts(self) -> list[Json]:
        """All rollouts."""
        return self._hub.rows("/rollouts")

    def rollout(self, rollout: str) -> Json:
        """One rollout, wave by wave."""
        return self._hub.object("GET", f"/rollouts/{rollout}")

    def rollout_members(self, rollout: str) -> list[Json]:
        """The devices of a rollout, by name."""
        return self._hub.rows(f"/rollouts/{rollout}/members?limit=1000")

    def rollout_states(self, rollout: str) -> Iterator[Json]:
        """The rollout as it is, then whenever it is different, until the hub ends the stream."""
        yield from self._hub.events(f"/rollouts/{rollout}/events")

    def command_rollout(self, rollout: str, command: RolloutCommand) -> Json:
        """Pause, approve the next wave, resume (acknowledges what was seen), abort (devices keep what they have) or
        revert (they get back what they ran)."""
        return self._hub.object("POST", f"/rollouts/{rollout}/{command}")

    # Federated learning.

    def create_federated_run(self, model: str, *, version: int, **options: Any) -> Json:
        """Let devices learn, starting from a released version.

        Options: selector, strategy, strategy_args, rounds, train, evaluate_every, non_inferiority, tolerances, seed.
        """
        return self._hub.object("POST", "/federated-runs", {"model": model, "version": version, **options})

    def federated_runs(self) -> list[Json]:
        """All federated runs."""
        return self._hub.rows("/federated-runs")

    def federated_run(self, run: str) -> Json:
        """One federated run, with its rounds."""
        return self._hub.object("GET", f"/federated-runs/{run}")

    def stop_federated_run(self, run: str) -> Json:
        """End a run in which devices still learn; nothing of what they learned is kept."""
        return self._hub.object("POST", f"/federated-runs/{run}/stop")
