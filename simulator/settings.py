"""How the simulator is configured (flags over FLEETLOOP_SIM_* over TOML over these defaults)."""

from typing import Annotated, Literal

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)] | None
Count = Annotated[int, msgspec.Meta(ge=0)] | None
Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `fleetloop sim`."""

    action: Annotated[
        Literal["run", "compare", "fuzz", "check", "list", "schema"],
        msgspec.Meta(
            description="run: play a scenario; compare: its policies, side by side; "
            "fuzz: random small fleets under random faults; check: is the file right?; "
            "list: the scenarios that come with this; schema: JSON schema of scenario files"
        ),
    ] = "run"
    scenario: Annotated[str, msgspec.Meta(description="file, or the name of one of `list`")] = "happy-rollout"
    devices: Annotated[Size, msgspec.Meta(description="size of the fleet instead of the file's")] = None
    seed: Annotated[int, msgspec.Meta(description="decides everything random; the same seed repeats the run", ge=0)] = 1
    seeds: Annotated[int, msgspec.Meta(description="runs, from that seed on", ge=1, le=100_000)] = 1
    processes: Annotated[int, msgspec.Meta(description="runs at a time; 0: one for each core", ge=0)] = 0
    only: Annotated[str, msgspec.Meta(description="fuzz: these steps of the life of --seed, or none")] = ""
    policies: Annotated[
        tuple[str, ...], msgspec.Meta(description="files of the policies to compare, beside the scenario's own")
    ] = ()
    loss: Annotated[Share, msgspec.Meta(description="share of messages lost, each way, on every network")] = None
    duplication: Annotated[Share, msgspec.Meta(description="share of messages delivered twice, on every network")] = (
        None
    )
    reboots: Annotated[
        Count, msgspec.Meta(description="power cuts in all, at random disk operations, in place of the file's")
    ] = None
    reconnects: Annotated[Count, msgspec.Meta(description="connections broken in all, in place of the file's")] = None
    kills: Annotated[
        Count, msgspec.Meta(description="how often hub or broker is killed, in all, in place of the file's")
    ] = None
    html: Annotated[str, msgspec.Meta(description="write a report with plots to this file")] = ""
    json: Annotated[bool, msgspec.Meta(description="print the result as one JSON object")] = False
