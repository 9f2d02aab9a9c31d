"""Who is in the fleet: device classes, their shares of it, and the networks they live on."""

from typing import Annotated, Final

import msgspec

from simulator.core.network import Quality
from simulator.durations import Duration, nanoseconds
from simulator.faults.fault import Count, FleetSize, Share

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Clock = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="a time of day, UTC: 22:30")]
Megabytes = Annotated[int, msgspec.Meta(ge=1)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a scenario file: what it does not know is a mistake."""


class Hours(Strict, frozen=True, kw_only=True):
    """When of the day devices have a network at all: from `opens` on (UTC) for so long."""

    opens: Clock
    lasts: Duration


class Outages(Strict, frozen=True, kw_only=True):
    """The network goes about every so often, for so long."""

    every: Duration
    lasts: Duration


class Profile(Strict, frozen=True, kw_only=True):
    """A kind of network. `delay` is one way, between half of it and one and a half; `bandwidth` in bytes per second,
    each way, 0 = no limit."""

    name: Name
    loss: Share = 0.0
    duplication: Share = 0.0
    reordering: Share = 0.0
    delay: Duration = "20ms"
    bandwidth: Annotated[int, msgspec.Meta(ge=0)] = 0
    present: Hours | None = None
    outages: Outages | None = None

    @property
    def quality(self) -> Quality:
        """The same for the simulated network."""
        delay_ns = nanoseconds(self.delay)
        return Quality(self.loss, self.duplication, delay_ns // 2, delay_ns * 3 // 2, self.reordering, self.bandwidth)


PROFILES: Final = (
    Profile(name="fibre", delay="5ms"),
    Profile(name="4g", delay="60ms", loss=0.01, duplication=0.005, bandwidth=1_500_000),
    Profile(name="nb-iot", delay="1500ms", loss=0.03, duplication=0.01, bandwidth=3_000),
    Profile(
        name="flaky-wifi",
        delay="40ms",
        loss=0.05,
        duplication=0.02,
        bandwidth=500_000,
        outages=Outages(every="10m", lasts="20s"),
    ),
    Profile(name="night-only", delay="20ms", bandwidth=1_000_000, present=Hours(opens="22:00", lasts="8h")),
)
"""Networks that every scenario may name; its own come on top."""


class Use(Strict, frozen=True, kw_only=True):
    """What applications do on the device: predictions per minute, and for which share of them the truth is told."""

    per_minute: Count
    feedback: Share = 0.0


class DeviceClass(Strict, frozen=True, kw_only=True):
    """A kind of device. `count`: so many, whatever the size of the fleet; the others share the rest by `weight`.

    `engines`: runtimes with their versions. `disk_mb` is what the agent may use. `federated`: they learn from what they
    sense, as far as their `use` tells them the truth.
    """

    name: Name
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    count: FleetSize | None = None
    labels: dict[str, str] = {}
    network: Name = "fibre"
    engines: dict[str, str] = msgspec.field(default_factory=lambda: {"onnxruntime": "1.20.0"})
    max_opset: Count = 21
    ram_mb: Megabytes = 1024
    disk_mb: Annotated[float, msgspec.Meta(gt=0)] = 1024.0
    use: Use | None = None
    federated: bool = False


class Population(Strict, frozen=True, kw_only=True):
    """The fleet at the start. `enrolled`: devices have their identities already, as after an earlier life.

    `certificates`: devices log in with certificates that live so long, not with passwords.

    `disk_turn_every`: so many operations on a disk are one event; more of them make a large fleet faster.
    """

    devices: FleetSize = 50
    classes: Annotated[tuple[DeviceClass, ...], msgspec.Meta(min_length=1)] = (DeviceClass(name="device"),)
    enrolled: bool = False
    certificates: Duration | None = None
    disk_turn_every: Count = 1

    def sizes(self) -> dict[str, int]:
        """How many of each class: fixed numbers first; of the rest one each, as far as it goes, and then by weight."""
        sizes = {one.name: one.count or 0 for one in self.classes}
        weighted = [one for one in self.classes if one.count is None]
        for _ in range(max(0, self.devices - sum(sizes.values()))):
            poorest = min(weighted, key=lambda one: sizes[one.name] / one.weight)
            sizes[poorest.name] += 1
        return sizes
