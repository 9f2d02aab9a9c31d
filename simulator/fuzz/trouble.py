"""From a seed, what goes wrong in a life, and when.

Most of it takes the devices of which a coin said so; of each act it is counted from its beginning.
"""

from collections.abc import Callable
from typing import Final

from simulator.core.rng import Rng
from simulator.durations import written
from simulator.fakes.learner import Poison
from simulator.faults.clocks import ClockJump
from simulator.faults.fault import EVERYBODY, Among
from simulator.faults.forgery import ForgedDesired, StaleOrders
from simulator.faults.hub_side import BadHubNetwork, HubCutOff
from simulator.faults.kinds import (
    AnyFault,
    BadNetwork,
    BrokerKill,
    CutConnections,
    HubKill,
    Partition,
    PowerCut,
    SlowBroker,
)
from simulator.faults.learning import AggregatorKill, PoisonedUpdates
from simulator.faults.storage import FailingDisk, FullDisk, SlowDisk
from wire.ports import MILLISECOND, SECOND

FIRST_ACT_S, SECOND_ACT_S = 25, 30
"""Within so many seconds of an act its faults begin and its operator acts."""
EARLY_S = 12
"""While the second rollout is young."""
LONGEST_S, LONGEST_OFF_S = 25, 15
"""What lasts, and what is down, does so for at most so many seconds."""
INSTALL_OPERATIONS = 70
"""About as many disk operations as an installation has."""
SAMPLED_S = 10
"""From then on devices that learn have windows to learn from."""
POISONS: Final[tuple[Poison, ...]] = ("nan", "inf", "scaled", "sign_flipped", "wrong_shape", "stale")

Faults = tuple[tuple[int, AnyFault], ...]
"""(act, fault)"""


def faults(rng: Rng, names: list[str], acts: tuple[int, ...]) -> Faults:
    """Three that are sure to do harm, to everybody, and three to seven of any kind, over all acts."""
    sure = (_bad_network, _connections, _clock)
    found = [(1, one(rng, _moment(rng, EARLY_S), EVERYBODY)) for one in sure]
    for _ in range(rng.between(3, 7)):
        act = acts[rng.below(len(acts))]
        at = _moment(rng, (FIRST_ACT_S, SECOND_ACT_S)[act])
        some = Among(names=tuple(name for name in names if rng.chance(0.5)))
        found.append((act, _KINDS[rng.below(len(_KINDS))](rng, at, some)))
    return tuple(found)


def faults_of_learning(rng: Rng) -> Faults:
    """The aggregator is killed once or twice, one of the devices sends poison, and messages come twice."""
    kinds = (_aggregator, _aggregator, _poison, _twice)
    found = tuple((1, one(rng, f"{rng.between(SAMPLED_S, 2 * SECOND_ACT_S)}s", EVERYBODY)) for one in kinds)
    return found[rng.below(2) :]


def _moment(rng: Rng, within_s: int) -> str:
    return written(rng.below(within_s * SECOND) // MILLISECOND * MILLISECOND)


def _span(rng: Rng) -> str:
    return f"{rng.between(2, LONGEST_S)}s"


def _off(rng: Rng) -> str:
    return f"{rng.between(1, LONGEST_OFF_S)}s"


def _bad_network(rng: Rng, at: str, some: Among) -> AnyFault:
    loss, doubled = rng.between(5, 40) / 100, rng.between(5, 30) / 100
    late = f"{rng.below(800)}ms"
    return BadNetwork(at=at, lasts=_span(rng), devices=some, loss=loss, duplication=doubled, delay=late)


def _muddle(rng: Rng, at: str, some: Among) -> AnyFault:
    return BadNetwork(at=at, lasts=_span(rng), devices=some, reordering=0.3, duplication=0.3, delay="100ms")


def _squeeze(rng: Rng, at: str, some: Among) -> AnyFault:
    return BadNetwork(at=at, lasts=_span(rng), devices=some, bandwidth=rng.between(1_000, 30_000))


def _partition(rng: Rng, at: str, some: Among) -> AnyFault:
    return Partition(at=at, lasts=_span(rng), devices=some)


def _connections(rng: Rng, at: str, some: Among) -> AnyFault:
    return CutConnections(at=at, devices=some)


def _power(rng: Rng, at: str, some: Among) -> AnyFault:
    return PowerCut(at=at, devices=some, operations=rng.between(1, INSTALL_OPERATIONS), off=_off(rng))


def _hub(rng: Rng, at: str, some: Among) -> AnyFault:
    return HubKill(at=at, down=_off(rng))


def _broker(rng: Rng, at: str, some: Among) -> AnyFault:
    return BrokerKill(at=at, down=_off(rng))


def _hub_network(rng: Rng, at: str, some: Among) -> AnyFault:
    loss, doubled, late = rng.below(20) / 100, rng.below(40) / 100, f"{rng.below(1_500)}ms"
    return BadHubNetwork(at=at, lasts=_span(rng), loss=loss, duplication=doubled, reordering=0.1, delay=late)


def _hub_cut_off(rng: Rng, at: str, some: Among) -> AnyFault:
    return HubCutOff(at=at)


def _full(rng: Rng, at: str, some: Among) -> AnyFault:
    return FullDisk(at=at, lasts=_span(rng), devices=some)


def _slow(rng: Rng, at: str, some: Among) -> AnyFault:
    return SlowDisk(at=at, lasts=_span(rng), devices=some, delay=f"{rng.between(10, 500)}ms")


def _failing(rng: Rng, at: str, some: Among) -> AnyFault:
    operations, errors = rng.between(1, INSTALL_OPERATIONS), rng.between(1, 5)
    return FailingDisk(at=at, lasts=_span(rng), devices=some, operations=operations, errors=errors)


def _clock(rng: Rng, at: str, some: Among) -> AnyFault:
    return ClockJump(at=at, devices=some, by=f"{rng.between(1, 400)}{'sd'[rng.below(2)]}", back=rng.chance(0.5))


def _hub_clock(rng: Rng, at: str, some: Among) -> AnyFault:
    return ClockJump(at=at, hub=True, by=f"{rng.between(1, LONGEST_S)}s", back=rng.chance(0.5))


def _slow_broker(rng: Rng, at: str, some: Among) -> AnyFault:
    return SlowBroker(at=at, lasts=_span(rng), messages_per_s=rng.between(5, 40))


def _forged(rng: Rng, at: str, some: Among) -> AnyFault:
    return ForgedDesired(at=at, version=1, devices=some)


def _stale(rng: Rng, at: str, some: Among) -> AnyFault:
    return StaleOrders(at=at, age=_span(rng), devices=some)


def _aggregator(rng: Rng, at: str, some: Among) -> AnyFault:
    return AggregatorKill(at=at)


def _poison(rng: Rng, at: str, some: Among) -> AnyFault:
    poison = POISONS[rng.below(len(POISONS))]
    return PoisonedUpdates(at=at, devices=Among(count=1), poison=poison, factor=5.0)


def _twice(rng: Rng, at: str, some: Among) -> AnyFault:
    return BadNetwork(at=at, lasts="40s", devices=some, duplication=0.4)


_KINDS: Final[tuple[Callable[[Rng, str, Among], AnyFault], ...]] = (
    _bad_network, _bad_network, _muddle, _squeeze, _partition, _connections, _power, _power, _power, _hub, _hub,
    _hub_network, _hub_network, _hub_cut_off, _broker, _slow_broker, _full, _slow, _failing, _clock, _hub_clock,
    _forged, _stale,
)  # fmt: skip
"""Each is as likely as it stands here."""
