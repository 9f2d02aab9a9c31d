"""How the agent is configured (flags over FLEETLOOP_AGENT_* over TOML over these defaults)."""

from typing import Annotated, Literal

import msgspec

DEFAULT_SOCKET = "agent.sock"
"""The local API's socket, in the data directory."""


REFRESH_TRUST_S = 4 * 3600.0
"""Well below the life of a timestamp, so that a freeze shows within hours and a replaced key is heard of."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `fleetloop agent`."""

    action: Annotated[
        Literal["run", "status", "doctor"],
        msgspec.Meta(description="run the daemon, show its state, or find out what is wrong"),
    ] = "run"
    data_dir: Annotated[str, msgspec.Meta(description="data directory of this device")] = "fleetloop-agent"
    claim: Annotated[str, msgspec.Meta(description="claim file from the hub; needed until enrolled")] = ""
    json: Annotated[bool, msgspec.Meta(description="status and doctor: print JSON")] = False
    socket: Annotated[
        str, msgspec.Meta(description="Unix socket of the local API; default: agent.sock in the data directory")
    ] = ""
    port: Annotated[
        int, msgspec.Meta(description="also serve the local API on this loopback port; 0: no", ge=0, le=65535)
    ] = 0
    telemetry_interval_s: Annotated[
        float,
        msgspec.Meta(description="seconds between two telemetry messages at rest; after an installation fewer", gt=0),
    ] = 900.0
    refresh_trust_s: Annotated[
        float, msgspec.Meta(description="most seconds between two looks at the trust metadata", gt=0)
    ] = REFRESH_TRUST_S
    capabilities: Annotated[
        str, msgspec.Meta(description="TOML file that says what this device can run where the agent cannot find it out")
    ] = ""
    outbox_bytes: Annotated[
        int, msgspec.Meta(description="most bytes of telemetry kept on the disk until the hub has it", ge=4096)
    ] = 4 * 1024 * 1024
    enrol_timeout_s: Annotated[
        float, msgspec.Meta(description="seconds to wait for the hub to admit a new device", gt=0)
    ] = 120.0
    keepalive_s: Annotated[
        int, msgspec.Meta(description="MQTT keep-alive; the last will follows after 1.5 of it", ge=5)
    ] = 20
