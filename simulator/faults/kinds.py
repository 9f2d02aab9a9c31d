"""The kinds of faults. Each is plain data; what it does is in `inject`."""

from simulator.durations import Duration
from simulator.faults.clocks import ClockJump
from simulator.faults.fault import EVERYBODY, Among, Count, Fault, Share
from simulator.faults.forgery import ForgedDesired, StaleOrders
from simulator.faults.hub_side import BadHubNetwork, HubCutOff
from simulator.faults.learning import AggregatorKill, Drift, LabelNoise, PoisonedUpdates
from simulator.faults.storage import FailingDisk, FullDisk, SlowDisk


class BadNetwork(Fault, frozen=True, kw_only=True):
    """Messages of these devices get lost, doubled, overtaken by later ones, delayed, squeezed: on top of how their
    network is anyway. `bandwidth` in bytes per second, 0 = as it is."""

    lasts: Duration
    devices: Among = EVERYBODY
    loss: Share = 0.0
    duplication: Share = 0.0
    reordering: Share = 0.0
    delay: Duration = "0s"
    bandwidth: int = 0


class Partition(Fault, frozen=True, kw_only=True):
    """These devices and the broker do not reach each other; the broker notices by the keep-alive."""

    lasts: Duration
    devices: Among = EVERYBODY


class CutConnections(Fault, frozen=True, kw_only=True):
    """The connections of these devices are reset, all at once: a reconnect storm when it is everybody's."""

    devices: Among = EVERYBODY


class PowerCut(Fault, frozen=True, kw_only=True):
    """Power of these devices fails: at once, or at random within their next `operations` on the disk.

    It comes back after `off`, or after a while that the seed decides.
    """

    devices: Among = EVERYBODY
    operations: int = 0
    off: Duration | None = None


class HubKill(Fault, frozen=True, kw_only=True):
    """The hub's process is killed, and started again when it was `down` so long."""

    down: Duration = "5s"


class BrokerKill(Fault, frozen=True, kw_only=True):
    """The broker is killed; it comes back empty."""

    down: Duration = "5s"


class SlowBroker(Fault, frozen=True, kw_only=True):
    """The broker hands out only so many messages per second; the others queue."""

    lasts: Duration
    messages_per_s: Count


AnyFault = (
    BadNetwork | Partition | CutConnections | PowerCut | HubKill | BrokerKill | SlowBroker
    | FullDisk | SlowDisk | FailingDisk | ClockJump | BadHubNetwork | HubCutOff | ForgedDesired | StaleOrders
    | PoisonedUpdates | LabelNoise | Drift | AggregatorKill
)  # fmt: skip
