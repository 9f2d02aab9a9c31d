"""The fleet as a whole, and its groups."""

from typing import Annotated

from pydantic import BaseModel, Field

from cloud.api.schemas.base import Request
from cloud.api.schemas.devices import Skew


class AgentView(BaseModel):
    """Devices that run one version of the agent."""

    agent: str
    skew: Skew
    devices: int


class FleetView(BaseModel):
    """The fleet as a whole. `halted`: why nobody is assigned anything; null = it is not halted."""

    halted: str | None
    online: int
    away: int
    offline: int
    agents: list[AgentView]


class GroupRequest(Request):
    """A group: everything that the selector means, at any time."""

    selector: Annotated[str, Field(max_length=1000, examples=["arm=left, role in (learner, tester), !broken"])]
    description: Annotated[str, Field(max_length=500)] | None = None
    """None = as it is; of a new group it is empty."""


class GroupView(BaseModel):
    """A group and how many devices of the fleet belong to it now."""

    name: str
    selector: str
    description: str
    devices: int
    created_ns: int
    updated_ns: int
