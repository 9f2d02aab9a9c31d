"""From a seed, a small fleet's life: devices, models, a staged rollout, what operators do, and what goes wrong when.

A life has two acts: version 1 for everybody, and version 2 by a plan. Faults belong to an act and are counted from its
beginning, so that they meet what they are to disturb.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cloud.core.gates.judge import Gate
from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.plan import Rate, Retry
from cloud.core.rollout.windows import Window
from simulator.core.rng import Rng
from simulator.durations import nanoseconds, written
from simulator.fakes.runtime import Manner
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
from simulator.faults.storage import FailingDisk, FullDisk, SlowDisk
from wire.messages import Outcome
from wire.ports import MILLISECOND, SECOND

FEWEST, USUALLY_MOST, MOST = 2, 4, 6
"""Devices of a fleet."""
NEWBORN = 0.2
"""Share of the lives that begin with enrolment."""
CERTIFICATE_LIVES_S = (40, 120)
FIRST_ACT_S, SECOND_ACT_S = 25, 30
"""Within so many seconds of an act its faults begin and its operator acts."""
EARLY_S = 12
"""While the second rollout is young."""
LONGEST_S, LONGEST_OFF_S = 25, 15
"""What lasts, and what is down, does so for at most so many seconds."""
INSTALL_OPERATIONS = 70
"""About as many disk operations as an installation has."""
SMALL_BYTES, LARGE_BYTES = 6_000, 130_000
"""Sizes of models: one chunk, or three."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an operator does in the second act, `at_s` from its beginning."""

    at_s: float
    what: str
    device: str


@dataclass(frozen=True, slots=True)
class Life:
    """All that a seed decides beside chance itself. `bad`: (device, how version 2 behaves there)."""

    seed: int
    devices: int
    model_bytes: int
    plan: Plan
    bad: tuple[tuple[str, Manner], ...]
    actions: tuple[Action, ...]
    faults: tuple[tuple[int, AnyFault], ...]
    """(act, fault)"""
    newborn: bool
    """Nobody has enrolled when it begins: it has a first act. The others begin with a fleet that stands."""
    certificate_life_s: int = 0
    """Of devices that log in with certificates; 0: with passwords."""

    @property
    def steps(self) -> int:
        """How many things happen: faults first, then actions."""
        return len(self.faults) + len(self.actions)

    @property
    def trouble_s(self) -> float:
        """From the beginning of the second act until nothing new goes wrong, in seconds."""
        ends = [_end_ns(fault) / SECOND for _, fault in self.faults]
        return max([5.0, *ends, *(action.at_s for action in self.actions)]) + 1.0


def draw(seed: int) -> Life:
    """The life of this seed."""
    rng = Rng(seed, "life")
    devices = rng.between(FEWEST, MOST if rng.chance(0.2) else USUALLY_MOST)
    names = [f"d{number:05}" for number in range(devices)]
    newborn = rng.chance(NEWBORN)
    return Life(
        seed=seed,
        devices=devices,
        model_bytes=LARGE_BYTES if rng.chance(0.3) else SMALL_BYTES,
        plan=_plan(rng),
        bad=_bad(rng, names),
        actions=_actions(rng, names),
        faults=_faults(rng, names, acts=(0, 1) if newborn else (1,)),
        newborn=newborn,
        certificate_life_s=_certificate_life_s(rng.child("certificates")) if newborn else 0,
    )


def _certificate_life_s(rng: Rng) -> int:
    """Half of the newborn fleets have certificates, so short that they are renewed in the midst of trouble."""
    return rng.between(*CERTIFICATE_LIVES_S) if rng.chance(0.5) else 0


def _end_ns(fault: AnyFault) -> int:
    lasts = (
        getattr(fault, "lasts", None)
        or getattr(fault, "down", None)
        or getattr(fault, "off", None)
        or getattr(fault, "age", None)
    )
    return nanoseconds(fault.at) + (nanoseconds(lasts) if lasts else 0)


def _plan(rng: Rng) -> Plan:
    canary, half = Wave(count=1, soak_s=4.0 * rng.below(2)), Wave(percent=50.0, approval=rng.chance(0.2))
    waves = (canary, half, Wave(percent=100))[max(0, rng.below(5) - 2) :]
    gate = Gate(f"commit_rate >= {(100, 100, 75, 50)[rng.below(4)]} %")
    retry = Retry((Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT, Outcome.ROLLED_BACK), 1 + rng.below(3), 5.0, 4)
    return Plan(
        waves=waves,
        gates=(gate,),
        health_window_s=float(1 + rng.below(5)),
        step_timeout_s=20.0 + 10.0 * rng.below(3),
        total_timeout_s=60.0 + 40.0 * rng.below(3),
        evidence_timeout_s=30.0,
        rate=Rate(per_minute=30) if rng.chance(0.2) else None,
        max_in_flight=1 + rng.below(2) if rng.chance(0.5) else None,
        retry=retry if rng.chance(0.6) else Retry(),
        window=_window(rng),
        install_window=_window(rng),
    )


def _window(rng: Rng) -> Window | None:
    """Seldom one, which then is open every other minute."""
    if not rng.chance(0.1):
        return None
    return Window("*/2 * * * *", "UTC", duration_s=60.0, jitter_s=5.0 * rng.below(3))


def _bad(rng: Rng, names: list[str]) -> tuple[tuple[str, Manner], ...]:
    """Half of the fleets get a good version 2, the others one that is bad on some of them or on all."""
    if rng.chance(0.5):
        return ()
    manners = (
        Manner(golden_matched=20),
        Manner(crashes="when tried"),
        Manner(crashes="when used"),
        Manner(crashes="when used"),
        Manner(crashes="with the agent"),
        Manner(leak_bytes=1 << 28),
        Manner(predict_ns=900 * MILLISECOND),
    )
    share = (0.34, 1.0)[rng.below(2)]
    manner = manners[rng.below(len(manners))]
    return tuple((name, manner) for name in names if rng.chance(share))


def _actions(rng: Rng, names: list[str]) -> tuple[Action, ...]:
    """A few things that operators do, most of which they take back after a while."""
    found: list[Action] = []
    for _ in range(rng.below(4)):
        first, then = _STORIES[rng.below(len(_STORIES))]
        device, at_s = names[rng.below(len(names))], rng.below(EARLY_S * 1_000) / 1_000
        found.append(Action(at_s, first, device))
        if then and rng.chance(0.7):
            found.append(Action(at_s + rng.between(2, SECOND_ACT_S - EARLY_S), then, device))
    return tuple(sorted(found, key=lambda action: action.at_s))


def _faults(rng: Rng, names: list[str], acts: tuple[int, ...]) -> tuple[tuple[int, AnyFault], ...]:
    """Three that are sure to do harm, to everybody, and three to seven of any kind, over all acts."""
    sure = (_bad_network, _connections, _clock)
    found = [(1, one(rng, _moment(rng, EARLY_S), EVERYBODY)) for one in sure]
    for _ in range(rng.between(3, 7)):
        act = acts[rng.below(len(acts))]
        at = _moment(rng, (FIRST_ACT_S, SECOND_ACT_S)[act])
        some = Among(names=tuple(name for name in names if rng.chance(0.5)))
        found.append((act, _KINDS[rng.below(len(_KINDS))](rng, at, some)))
    return tuple(found)


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


_STORIES: Final = (
    ("hold", "release"), ("hold", "release"), ("pause", "resume"), ("halt", "unhalt"), ("approve", "approve"),
    ("join", "join"), ("resume", "resume"), ("abort", ""), ("revert", ""),
)  # fmt: skip
"""What an operator does, and what may follow."""
_KINDS: Final[tuple[Callable[[Rng, str, Among], AnyFault], ...]] = (
    _bad_network, _bad_network, _muddle, _squeeze, _partition, _connections, _power, _power, _power, _hub, _hub,
    _hub_network, _hub_network, _hub_cut_off, _broker, _slow_broker, _full, _slow, _failing, _clock, _hub_clock,
    _forged, _stale,
)  # fmt: skip
"""Each is as likely as it stands here."""
