"""How the simulator is configured (flags over FLEETLOOP_SIM_* over TOML over these defaults)."""

from typing import Annotated, Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `fleetloop sim`."""

    action: Annotated[
        Literal["run"], msgspec.Meta(description="run: roll two versions out over a fleet in virtual time")
    ] = "run"
    devices: Annotated[int, msgspec.Meta(description="how many devices the fleet has", ge=1, le=99_999)] = 50
    seed: Annotated[int, msgspec.Meta(description="decides everything random; the same seed repeats the run", ge=0)] = 1
    loss: Annotated[float, msgspec.Meta(description="share of messages lost, each way", ge=0, le=0.5)] = 0.02
    duplication: Annotated[float, msgspec.Meta(description="share of messages delivered twice", ge=0, le=1)] = 0.02
    reboots: Annotated[int, msgspec.Meta(description="power cuts in all, at random disk operations", ge=0)] = 10
    reconnects: Annotated[int, msgspec.Meta(description="connections broken in all", ge=0)] = 10
    kills: Annotated[int, msgspec.Meta(description="how often hub or broker is killed, in all", ge=0)] = 2
    bad_share: Annotated[
        float, msgspec.Meta(description="share of devices on which version 2 fails its golden vectors", ge=0, le=1)
    ] = 0.0
    json: Annotated[bool, msgspec.Meta(description="print the report as one JSON object")] = False
