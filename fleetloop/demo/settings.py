"""Settings of `fleetloop demo`."""

from typing import Annotated

import msgspec


def _doc(text: str, **limits: int) -> msgspec.Meta:
    return msgspec.Meta(description=text, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration may be told."""

    seed: Annotated[int, _doc("seed of training and of federated learning", ge=0)] = 0
    json: Annotated[bool, _doc("print one JSON object with everything measured as the last line")] = False
    keep: Annotated[bool, _doc("leave the hub and the fleet up afterwards, until interrupted")] = False
    workload: Annotated[str, _doc("what is trained: a name, or module:attribute")] = "watch"
    rounds: Annotated[int, _doc("federated rounds; 0 = as the workload plans", ge=0)] = 0
    agent_python: Annotated[str, _doc("Python of the devices' environment; empty = make one in .venv-agent")] = ""
    port: Annotated[int, _doc("port of the hub's API and page on loopback; 0 = a free one", ge=0, le=65535)] = 0
    workdir: Annotated[str, _doc("directory for all state; empty = a temporary one, removed at the end")] = ""
    health_window_s: Annotated[float, msgspec.Meta(description="how long a new model is on trial, seconds", ge=0)] = 2.0
