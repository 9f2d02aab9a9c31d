"""How live mode is configured (flags over FLEETLOOP_SIM_LIVE_* over TOML over these defaults)."""

from typing import Annotated, Literal

import msgspec

from edge_agent.service.telemetry import INTERVAL_S


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `fleetloop sim live`."""

    devices: Annotated[int, msgspec.Meta(description="how many devices there are", ge=1)] = 1000
    claims: Annotated[
        str,
        _doc("claims of a hub that runs already, one a line, as POST /api/v1/claims/batch gives (empty = its own hub)"),
    ] = ""
    broker: Annotated[
        str,
        _doc("mqtt://HOST:PORT of a broker that believes names, for its own hub (empty = a mosquitto of its own)"),
    ] = ""
    transport: Annotated[
        Literal["plain", "mtls"],
        _doc("between its own hub, mosquitto and devices: TCP on loopback without TLS, or mutual TLS"),
    ] = "plain"
    processes: Annotated[int, msgspec.Meta(description="how many processes hold the devices", ge=1, le=64)] = 1
    source_addresses: Annotated[
        int,
        msgspec.Meta(description="addresses 127.0.0.x that sessions come from (0 = one for 5,000 devices)", ge=0),
    ] = 0
    joining_at_once: Annotated[
        int, msgspec.Meta(description="devices of a process that enrol at the same time", ge=1)
    ] = 100
    rollouts: Annotated[
        int, msgspec.Meta(description="versions that its own hub rolls out, one after the other", ge=0)
    ] = 1
    in_flight: Annotated[int, msgspec.Meta(description="devices that install at the same time", ge=1)] = 500
    model_bytes: Annotated[int, msgspec.Meta(description="length of each version's model", ge=1)] = 1024 * 1024
    storm_after_s: Annotated[
        float,
        msgspec.Meta(description="all connections break so long after the last rollout began (0 = never)", ge=0),
    ] = 0.0
    stay_s: Annotated[
        float, msgspec.Meta(description="how long the devices stay at the end; Ctrl-C ends it sooner", ge=0)
    ] = 0.0
    limit_s: Annotated[
        float, msgspec.Meta(description="how long joining, a rollout and coming back may take, each", gt=0)
    ] = 900.0
    predict_every_s: Annotated[
        float, msgspec.Meta(description="pause between two predictions of each device (0 = none)", ge=0)
    ] = 0.0
    telemetry_interval_s: Annotated[
        float, msgspec.Meta(description="seconds between two measurements at rest", ge=0.1)
    ] = INTERVAL_S
    keepalive_s: Annotated[int, msgspec.Meta(description="keep-alive of the sessions", ge=5, le=3600)] = 60
    state: Annotated[str, _doc("directory for the hub's data and the claims (empty = a temporary one)")] = ""
    json: Annotated[bool, _doc("print the report as one JSON object")] = False
