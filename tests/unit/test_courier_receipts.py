"""Reports until they are receipted: one that is lost is sent again, and how far an installation is waits for more."""

from collections.abc import Callable, Coroutine
from typing import Any

from edge_agent.service.courier import CALM_NS, FIRST_RETRY_NS, PACE_NS, Courier, Uplink
from edge_agent.service.tasks import Tasks
from simulator.world import World
from wire.ports import MILLISECOND, SECOND
from wire.topics import DEFAULT_ROOT, Topics


class NotingLink:
    """Notes what is sent, and when."""

    connected = True

    def __init__(self, world: World) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self._world = world

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Into the list."""
        self.sent.append((round(self._world.loop.time(), 1), payload))


class Scene:
    """A courier, and the state that it tells."""

    def __init__(self, world: World, link: NotingLink) -> None:
        self.state, self.patience_ns = "", PACE_NS
        uplink = Uplink("d1", Topics(DEFAULT_ROOT), link, world.clock, Tasks(world.fail))  # type: ignore[arg-type]
        self.courier = Courier(uplink, self._build, patience=lambda: self.patience_ns)

    async def become(self, state: str, *, patience_ns: int = PACE_NS) -> None:
        """The state is another one now."""
        self.state, self.patience_ns = state, patience_ns
        self.courier.changed()

    async def _build(self, seq: int) -> bytes:
        return f"{seq} {self.state}".encode()


def sent(story: Callable[[World, Scene], Coroutine[Any, Any, None]]) -> list[tuple[float, bytes]]:
    """What the link carried in this story, with the second."""
    world = World(1)
    link = NotingLink(world)
    world.loop.run(story(world, Scene(world, link)))
    return link.sent


def test_a_report_without_a_receipt_is_sent_again_ever_more_rarely() -> None:
    """Under a new number, as things stand by then; the receipt ends it."""

    async def story(world: World, scene: Scene) -> None:
        await scene.become("fetching")
        scene.state = "verifying"
        await world.clock.sleep(4 * FIRST_RETRY_NS)
        scene.courier.on_receipt(3)
        await world.clock.sleep(100 * SECOND)

    again_s = FIRST_RETRY_NS / SECOND
    assert sent(story) == [(0.0, b"1 verifying"), (again_s, b"2 verifying"), (3 * again_s, b"3 verifying")]


def test_steps_that_follow_one_another_are_one_report_and_the_end_is_told_at_once() -> None:
    """The receipt of the first one, in between, does not end the waiting of what came after it."""

    async def story(world: World, scene: Scene) -> None:
        await scene.become("fetching release")
        await world.clock.sleep(300 * MILLISECOND)
        await scene.become("fetching")
        scene.courier.on_receipt(1)
        await world.clock.sleep(300 * MILLISECOND)
        await scene.become("verifying")
        await world.clock.sleep(PACE_NS)
        scene.courier.on_receipt(2)
        await scene.become("trial")
        await world.clock.sleep(100 * MILLISECOND)
        await scene.become("committed", patience_ns=0)
        await world.clock.sleep(100 * MILLISECOND)
        scene.courier.on_receipt(3)
        await world.clock.sleep(100 * SECOND)

    told = sent(story)
    assert [payload for _, payload in told] == [b"1 fetching release", b"2 verifying", b"3 committed"]
    assert [at for at, _ in told] == [0.0, PACE_NS / SECOND, 0.7 + PACE_NS / SECOND]


def test_what_nobody_waits_for_goes_with_the_next_report_or_after_a_while() -> None:
    """Also where the report before it has no receipt yet, which is not sent again the later for it."""

    async def story(world: World, scene: Scene) -> None:
        await scene.become("committed", patience_ns=0)
        await world.clock.sleep(SECOND)
        await scene.become("committed, fresh", patience_ns=CALM_NS)
        scene.courier.on_receipt(1)
        await world.clock.sleep(9 * SECOND)
        await scene.become("fetching release", patience_ns=0)
        await world.clock.sleep(SECOND)
        await scene.become("committed, fresh again", patience_ns=CALM_NS)
        await world.clock.sleep(FIRST_RETRY_NS)
        scene.courier.on_receipt(3)
        await scene.become("committed, still fresh", patience_ns=CALM_NS)
        await world.clock.sleep(2 * CALM_NS)

    at_s, again_s = [0.0, 10.0, 10.0], FIRST_RETRY_NS / SECOND
    told = sent(story)
    assert [payload for _, payload in told[:3]] == [b"1 committed", b"2 fetching release", b"3 committed, fresh again"]
    assert told[3] == (at_s[2] + again_s + CALM_NS / SECOND, b"4 committed, still fresh")
    assert [at for at, _ in told[:3]] == [*at_s[:2], at_s[2] + again_s]
