"""Settings of `fleetloop demo`."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration may be told."""

    seed: Annotated[int, Meta(description="seed of training and of federated learning", ge=0)] = 0
    json: Annotated[bool, Meta(description="print one JSON object with everything measured as the last line")] = False
    keep: Annotated[bool, Meta(description="leave the hub and the fleet up afterwards, until interrupted")] = False
    workload: Annotated[str, Meta(description="what is trained: a name, or module:attribute")] = "watch"
    rounds: Annotated[int, Meta(description="federated rounds; 0 = as the workload plans", ge=0)] = 0
    agent_python: Annotated[
        str, Meta(description="Python of the devices' environment; empty = make one in .venv-agent")
    ] = ""
    port: Annotated[
        int, Meta(description="port of the hub's API and page on loopback; 0 = a free one", ge=0, le=65535)
    ] = 0
    workdir: Annotated[
        str, Meta(description="directory for all state; empty = a temporary one, removed at the end")
    ] = ""
    health_window_s: Annotated[float, Meta(description="how long a new model is on trial, seconds", ge=0)] = 2.0
