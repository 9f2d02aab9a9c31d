"""Whom a device believes: a director replaced or stolen, a publisher who does not vouch, strangers' orders."""

from edge_agent.core.trust import Judgement, Question
from edge_agent.ports import FetchMetadata
from edge_agent.service.freshness import UNKNOWN_DIRECTOR_NS
from simulator.core.clock import EPOCH_NS
from simulator.fakes.trust import InlineTrust
from simulator.fakes.tuf_repository import new_key
from tests.scenes.agent_life import HOUR, ONE, TWO, Life, answers, ended
from tests.worlds.agent_world import Device, assign, committed, ship, wanted
from tests.worlds.trust_world import DIRECTOR, NOW_NS, ROOT, STRANGER, fork
from wire.messages import Outcome
from wire.ports import SECOND
from wire.trust import DAY_S

# The director.


def test_a_replaced_director_is_heard_of_though_nothing_is_installed_and_the_old_key_is_dead() -> None:
    """The first assignment of the new key makes the device look; its sequence starts anew, the old one's is over."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 2**40)
        await life.clock.sleep(10 * SECOND)
        looks = life.air.cloud.names.count("timestamp.json")
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        life.air.cloud.director = STRANGER
        life.air.desire(assign(3, wanted(TWO, "e3"), key=STRANGER))
        await life.slot(committed(2))
        assert (await life.report(lambda one: one.refused == "")).sequence == 3
        life.air.desire(assign(2**41, wanted(ONE, "evil"), key=DIRECTOR))
        report = await life.report(lambda one: bool(one.refused))
        assert "no trusted key" in report.refused
        assert (report.trust.root, report.sequence) == (2, 3)
        assert life.air.cloud.names.count("timestamp.json") - looks < 6
        assert await answers(unit) == 2

    life.live(scene)


def test_a_stranger_who_assigns_again_and_again_costs_one_look_a_minute() -> None:
    """And is refused each time."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        await life.clock.sleep(UNKNOWN_DIRECTOR_NS)
        before = len(life.air.cloud.asked)
        for sequence in range(2, 52):
            life.air.desire(assign(sequence, wanted(TWO), key=STRANGER))
            await life.clock.sleep(SECOND)
        assert "no trusted key" in life.air.reports[-1].refused
        assert len(life.air.cloud.asked) - before == 3, "the time, the next root, the timestamp"
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_a_rotation_reaches_a_device_by_the_hour_without_any_assignment() -> None:
    """And what it knows of trust is reported."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.report(lambda one: one.trust.verified_ns == NOW_NS)
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        await life.clock.sleep(5 * HOUR)
        assert life.air.reports[-1].trust.root == 2
        assert unit.reconciler.record.trust.directors == (STRANGER.public_hex,)

    life.live(scene)


def test_a_device_whose_clock_stands_at_1970_still_learns_who_the_director_is_now() -> None:
    """The new key tells the time, but only the root says that it may: the root is learned before the time is known."""
    life = Life()
    life.live(lambda unit: life.install(1, 1))
    life.skew_ns = -EPOCH_NS
    life.repository.director_keys = (STRANGER.public_hex,)
    life.repository.rotate()
    life.air.cloud.director = STRANGER

    async def scene(unit: Device) -> None:
        life.air.desire(assign(1, wanted(TWO, "e2"), key=STRANGER))
        await life.slot(committed(2))

    life.live(scene)


def test_a_rotation_found_while_installing_does_not_fail_the_installation() -> None:
    """The time came from nobody known and all looked expired; with the new root it is asked once more."""
    life = Life(skew_ns=2 * DAY_S * SECOND)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        await life.clock.sleep(10 * SECOND)
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        life.air.cloud.director = STRANGER
        unit.reconciler._trusting._told = None
        life.air.desire(assign(2, wanted(TWO, "e2")))
        while not (life.air.reports[-1].slots[0].execution == "e2" and life.air.reports[-1].slots[0].outcome):
            await life.clock.sleep(SECOND)
        assert life.air.reports[-1].slots[0].outcome is Outcome.SUCCEEDED

    life.live(scene)


# Director and publisher must agree.


def test_what_the_publisher_does_not_list_is_never_even_fetched() -> None:
    """A stolen director key ships nothing of its own."""
    life = Life()
    evil = ship(3)
    life.air.hold(evil, vouched=False)
    other = ship(2, model=b"another model" * 9_000)
    life.air.hold(other, vouched=False)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        cases = {
            "e3": (wanted(evil, "e3"), "does not list watch/3.json"),
            "e4": (wanted(other, "e4"), "is another file for the publisher than for the director"),
            "e5": (wanted(TWO, "e5", min_counter=3), "counter 2 is below the floor 3"),
            "e6": (wanted(TWO, "e6", release=other.ref), "is another file for the publisher"),
        }
        for sequence, (execution, (slot, reason)) in enumerate(cases.items(), 2):
            life.air.desire(assign(sequence, slot))
            report = await life.slot(ended(execution))
            assert (report.outcome, reason in report.reason) == (Outcome.REJECTED, True), report.reason
        assert not {evil.ref.sha256, other.ref.sha256} & set(await life.disk.list("objects"))
        assert await answers(unit) == 1

    life.live(scene)


# Whole keys stolen.


def test_a_fleet_locked_out_by_stolen_online_keys_comes_back_with_a_new_root() -> None:
    """Versions may begin again at one."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        honest = fork(life.repository)
        life.repository.versions |= {"timestamp": 2**40, "snapshot": 2**40}
        life.repository.refresh()
        await life.clock.sleep(5 * HOUR)
        assert life.air.reports[-1].trust.timestamp == 2**40 + 1
        life.air.cloud.repository = honest
        life.air.desire(assign(2, wanted(TWO, "e2")))
        assert "version" in (await life.slot(ended("e2"))).reason
        honest.online_key = new_key()
        honest.rotate()
        honest.versions |= {"timestamp": 0, "snapshot": 0}
        honest.refresh()
        life.air.desire(assign(3, wanted(TWO, "e3")))
        await life.slot(committed(2))

    life.live(scene)


def test_with_targets_and_online_keys_stolen_nothing_moves_without_the_director() -> None:
    """A listed model is not an assigned one."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.air.hold(ship(3))
        await life.clock.sleep(5 * HOUR)
        assert await answers(unit) == 1
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_the_assignment_of_another_device_is_nothing_to_this_one() -> None:
    """Though the director signed it."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.air.desire(assign(9, wanted(TWO), device="p02-left"))
        assert "meant for device 'p02-left'" in (await life.report(lambda one: bool(one.refused))).refused
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_a_device_that_cannot_judge_has_failed_and_not_been_refused() -> None:
    """Its disk or memory is at fault, so the same assignment may be tried again."""
    life = Life()

    class Unable(InlineTrust):
        async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
            return Judgement(refusal="no space left", unable=True, floors=question.floors, files=question.files)

    life.trust = Unable(ROOT)

    async def scene(unit: Device) -> None:
        life.air.desire(assign(1, wanted(ONE, "e1")))
        report = await life.slot(ended("e1"))
        assert (report.outcome, report.reason) == (Outcome.FAILED_NO_CHANGE, "trust: no space left")

    life.live(scene)
