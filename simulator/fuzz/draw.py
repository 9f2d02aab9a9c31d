"""From a seed, a small fleet's life: devices, models, a staged rollout, what operators do, and what goes wrong when.

A life has two acts: version 1 for everybody, and version 2 by a plan. Faults belong to an act and are counted from its
beginning, so that they meet what they are to disturb.
"""

from dataclasses import dataclass, replace
from typing import Final

from cloud.core.gates.judge import Gate
from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.plan import Rate, Retry
from cloud.core.rollout.windows import Window
from simulator.core.rng import Rng
from simulator.durations import nanoseconds
from simulator.fakes.runtime import Manner
from simulator.faults.kinds import AnyFault
from simulator.fuzz.trouble import EARLY_S, SAMPLED_S, SECOND_ACT_S, Faults, faults, faults_of_learning
from wire.messages import Outcome
from wire.ports import MILLISECOND, SECOND

FEWEST, USUALLY_MOST, MOST = 2, 4, 6
"""Devices of a fleet."""
NEWBORN = 0.2
"""Share of the lives that begin with enrolment."""
CERTIFICATE_LIVES_S = (40, 120)
LEARNING = 0.08
"""Share of the others in which devices learn."""
MOST_ROUNDS = 3
SMALL_BYTES, LARGE_BYTES = 6_000, 130_000
"""Sizes of models: one chunk, or three."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an operator does in the second act, `at_s` from its beginning."""

    at_s: float
    what: str
    device: str


@dataclass(frozen=True, slots=True)
class Learning:
    """A federated run, from version 1 on. `alone`: version 2 is not rolled out beside it, and nobody has to refuse."""

    rounds: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Life:
    """All that a seed decides beside chance itself. `bad`: (device, how version 2 behaves there)."""

    seed: int
    devices: int
    model_bytes: int
    plan: Plan
    bad: tuple[tuple[str, Manner], ...]
    actions: tuple[Action, ...]
    faults: Faults
    newborn: bool
    """Nobody has enrolled when it begins: it has a first act. The others begin with a fleet that stands."""
    certificate_life_s: int = 0
    """Of devices that log in with certificates; 0: with passwords."""
    learning: Learning | None = None

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
    life = Life(
        seed=seed,
        devices=devices,
        model_bytes=LARGE_BYTES if rng.chance(0.3) else SMALL_BYTES,
        plan=_plan(rng),
        bad=_bad(rng, names),
        actions=_actions(rng, names),
        faults=faults(rng, names, acts=(0, 1) if newborn else (1,)),
        newborn=newborn,
        certificate_life_s=_certificate_life_s(rng.child("certificates")) if newborn else 0,
    )
    return life if newborn else _learning(rng.child("learning"), life)


def _learning(rng: Rng, life: Life) -> Life:
    """Few fleets learn; then more goes wrong, with the aggregator and with what devices send it."""
    if not rng.chance(LEARNING):
        return life
    learning = Learning(1 + rng.below(MOST_ROUNDS), alone=rng.chance(0.5))
    begins = Action(SAMPLED_S + rng.below(EARLY_S * 1_000) / 1_000, "federate", "")
    actions = tuple(sorted((*life.actions, begins), key=lambda action: action.at_s))
    return replace(life, learning=learning, actions=actions, faults=(*life.faults, *faults_of_learning(rng)))


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


_STORIES: Final = (
    ("hold", "release"), ("hold", "release"), ("pause", "resume"), ("halt", "unhalt"), ("approve", "approve"),
    ("join", "join"), ("resume", "resume"), ("abort", ""), ("revert", ""),
)  # fmt: skip
"""What an operator does, and what may follow."""
