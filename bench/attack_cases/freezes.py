"""Attacks on the freshness of trust metadata, and on the clock by which it is judged."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bench.attack_cases.assignments import believing_anyone
from bench.attack_cases.attack import Outcome
from bench.attack_cases.guards import case, timeless
from bench.attack_cases.scene import STRANGER, Scene
from bench.crash_states.releases import ship
from bench.replacing import replaced, together
from edge_agent.core.trust import Trusted
from edge_agent.service import trusting
from simulator.core.clock import EPOCH_NS
from wire.asks import AskTime, TimeTold
from wire.ports import SECOND

GOOD, NEXT = ship(1), ship(2)
FREEZE, CLOCK = "freeze", "wrong device clock"
ALARM = "the newest trust metadata expired"
DAY_S = 24 * 3600
SHORT_LIFE_S = 600


async def _expired(scene: Scene) -> Outcome:
    """The set in which version 2 was still listed, long after its timestamp expired."""
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.cloud.publish(GOOD)
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.cloud.assign(GOOD)
    await scene.settle()
    await scene.wait(2 * SHORT_LIFE_S)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _silence(scene: Scene) -> Outcome:
    """Nobody answers any more, for days: the attacker wants nobody to notice."""
    await scene.install(GOOD)
    scene.cloud.serve = lambda ask: None
    scene.cloud.tell = lambda ask: None
    await _days_later(scene, 3)
    return Outcome(ALARM not in scene.device.says(), scene.device.says())


async def _same_for_days(scene: Scene) -> Outcome:
    """The same set day after day: the attacker wants nobody to notice."""
    await scene.install(GOOD)
    await _days_later(scene, 3)
    return Outcome(ALARM not in scene.device.says(), scene.device.says())


async def _days_later(scene: Scene, days: int) -> None:
    scene.device.power_off()
    await scene.wait(days * DAY_S)
    await scene.device.start()
    await scene.wait(300)


async def _clock_at_1970(scene: Scene) -> Outcome:
    scene.device.skew_ns = -EPOCH_NS
    scene.cloud.tell = lambda ask: None
    return await _expired_for_a_device_that_is_wrong(scene)


async def _clock_set_back(scene: Scene) -> Outcome:
    """The device's clock goes back an hour while it is off, and nobody tells the time any more."""
    scene.device.skew_ns = -3600 * SECOND
    scene.cloud.tell = lambda ask: None
    return await _expired_for_a_device_that_is_wrong(scene)


async def _expired_for_a_device_that_is_wrong(scene: Scene) -> Outcome:
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    scene.device.power_off()
    await scene.wait(2 * SHORT_LIFE_S)
    await scene.device.start()
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _clock_back_while_running(scene: Scene) -> Outcome:
    """The time was told once; then the wall clock is set back, and nobody tells the time any more."""
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.wait(2 * SHORT_LIFE_S)
    scene.cloud.tell = lambda ask: None
    clock = scene.device.clock
    clock.skew_ns = -2 * SHORT_LIFE_S * SECOND
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _clock_at_2099(scene: Scene) -> Outcome:
    """Everything looks expired to the device: the attacker wants it never to be updated again."""
    scene.device.power_off()
    scene.device.skew_ns = 72 * 365 * DAY_S * SECOND
    await scene.device.start()
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.settle()
    return Outcome(not scene.device.runs(GOOD), "updated" if scene.device.runs(GOOD) else scene.device.says())


async def _time_by_a_stranger(scene: Scene) -> Outcome:
    return await _told_wrong(scene, lambda ask: scene.cloud.truly(ask, signer=STRANGER, now_ns=EPOCH_NS))


async def _time_told_before(scene: Scene) -> Outcome:
    """An old answer to an old question, again."""
    said: list[TimeTold] = []
    nonce = AskTime(nonce="0" * 32)
    said.append(scene.cloud.truly(nonce))
    return await _told_wrong(scene, lambda ask: said[0])


async def _told_wrong(scene: Scene, tell: Callable[[AskTime], TimeTold]) -> Outcome:
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    scene.device.power_off()
    await scene.cloud.assign(NEXT)
    await scene.wait(2 * SHORT_LIFE_S)
    scene.cloud.tell = tell
    await scene.device.start()
    await scene.settle()
    return scene.judged(NEXT)


def _any_nonce() -> AbstractContextManager[None]:
    from edge_agent.core import reading
    from wire.asks import SignedTime
    from wire.dsse import TIME_TYPE

    def read_time(envelope: bytes, director: Any, device: str, nonce: str) -> tuple[int, str]:
        told, unsealed = reading._signed(envelope, SignedTime, TIME_TYPE, 1 << 16, director)
        return told.now_ns, unsealed.keyid

    return replaced(trusting, read_time=read_time)


def _raw_clock() -> AbstractContextManager[None]:
    return together(
        replaced(trusting, judging_time=lambda told_ns, clock_ns, floor_ns: clock_ns),
        replaced(trusting.Trusting, _floor_ns=lambda self: 0),
    )


ATTACKS = (
    case("expired set", FREEZE, "expiry", "expired", _expired, timeless),
    case("nothing is answered for days", FREEZE, "alarm on stale metadata", ALARM,
         _silence, lambda: replaced(Trusted, stale_s=lambda self, now_ns: 0.0)),
    case("the same set for days", FREEZE, "alarm on stale metadata", ALARM,
         _same_for_days, lambda: replaced(Trusted, stale_s=lambda self, now_ns: 0.0)),
    case("clock at 1970", CLOCK, "time floor", "behind what was signed before", _clock_at_1970, _raw_clock),
    case("clock set back while it was off", CLOCK, "time floor", "behind what was signed before",
         _clock_set_back, _raw_clock),
    case("clock set back while it runs", CLOCK, "told time runs on the monotonic clock", "expired",
         _clock_back_while_running, _raw_clock),
    case("clock at 2099", CLOCK, "director tells the time", "updated", _clock_at_2099, _raw_clock),
    case("time told by a stranger", CLOCK, "director's signature on the time", "expired",
         _time_by_a_stranger, believing_anyone),
    case("time told before", CLOCK, "nonce in the time", "expired", _time_told_before, _any_nonce),
)  # fmt: skip
