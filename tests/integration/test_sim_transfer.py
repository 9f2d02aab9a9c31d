"""Transfers between the real hub and devices in virtual time: deltas, what the broker may not hold, who may ask."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select

from cloud.core.rollout import Plan, Wave
from cloud.service import blobs
from cloud.service.rollouts import NewRollout
from cloud.tables import deltas, retained
from edge_agent.service.objects import path_of
from simulator.core.network import Quality
from simulator.device import Device
from simulator.fleet import Fleet, Size
from simulator.scenario import MODEL, SLOT
from simulator.version import Files, random_files
from simulator.world import World
from wire.asks import Answer, Ask, AskChunks, Refused
from wire.codec import decode, encode
from wire.messages import InstallFigures
from wire.ports import Inbound

MODEL_BYTES = 600_000


def live(
    scene: Callable[[Fleet], Coroutine[Any, Any, None]], devices: int = 3, quality: Quality | None = None, seed: int = 5
) -> None:
    """Play a scene with a fleet that has enrolled."""
    world = World(seed)
    fleet = Fleet(world)

    async def whole() -> None:
        await fleet.start(Size(devices, quality or Quality()))
        await world.clock.sleep(60 * 10**9)
        await scene(fleet)

    world.loop.run(whole())


def files(fleet: Fleet, *, changed: int = 0) -> Files:
    """Version 1, or with `changed` bytes of the model altered."""
    first = random_files(fleet.world.rng.child("model"), MODEL_BYTES)
    model = bytearray(first.model)
    for at in range(0, changed * 1000, 1000):
        model[at] ^= 255
    return Files(bytes(model), bytes(model), first.golden, first.parameters)


async def roll_out(fleet: Fleet, content: Files, seconds: int = 300) -> None:
    """Publish the next version, roll it out to everybody, and let time pass."""
    version = (await fleet.hub.publish_version(MODEL, content)).version
    plan = Plan(waves=(Wave(percent=100),))
    await fleet.hub.roll_out(NewRollout(f"r{version}", MODEL, version, SLOT, {}, None, plan))
    await fleet.world.clock.sleep(seconds * 10**9)


def runs(device: Device) -> tuple[int, InstallFigures]:
    """The committed version, and what its installation cost."""
    slot = device.record().slot(SLOT)
    assert slot.current is not None
    return slot.current.installed.version, slot.figures


def test_a_small_change_of_a_large_model_travels_as_a_delta() -> None:
    """Made once for the base that all devices hold; nothing of it is left when the rollout is over."""

    async def scene(fleet: Fleet) -> None:
        await roll_out(fleet, files(fleet))
        await roll_out(fleet, files(fleet, changed=20))
        for device in fleet.devices:
            version, figures = runs(device)
            assert (version, figures.by_delta, figures.delta_refused) == (2, True, "")
            assert figures.downloaded_bytes < 20_000
        made = fleet.hub.look(lambda conn: conn.execute(select(deltas)).all())
        assert len(made) == 1
        assert all(device.disk.peek(path_of(made[0].object["sha256"])) is None for device in fleet.devices)
        assert fleet.hub.look(lambda conn: conn.execute(select(retained)).all()) == []

    live(scene)


def test_a_delta_that_is_not_worth_it_is_not_made_twice() -> None:
    """Another random model: nothing in common. The rollout goes on with the whole object."""

    async def scene(fleet: Fleet) -> None:
        await roll_out(fleet, files(fleet))
        await roll_out(fleet, random_files(fleet.world.rng.child("other"), MODEL_BYTES))
        for device in fleet.devices:
            version, figures = runs(device)
            assert (version, figures.by_delta) == (2, False)
            assert figures.downloaded_bytes > MODEL_BYTES
        made = fleet.hub.look(lambda conn: conn.execute(select(deltas)).all())
        assert [row.object for row in made] == [None]

    live(scene)


@pytest.mark.parametrize(("loss", "seed"), [(0.0, 5), (0.05, 5), (0.05, 16)])
def test_what_the_broker_may_not_hold_comes_to_each_device_that_asks(
    loss: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit leaves room for the small objects only. With seed 16, the first two questions to the hub get lost."""
    monkeypatch.setattr(blobs, "MAX_RETAINED_BYTES", 50_000)

    async def scene(fleet: Fleet) -> None:
        await roll_out(fleet, files(fleet))
        assert [runs(device)[0] for device in fleet.devices] == [1, 1, 1]

    live(scene, quality=Quality(loss=loss), seed=seed)


def test_a_device_may_ask_only_for_what_it_was_told_to_fetch() -> None:
    """It is told so; the object exists, and belongs to nobody's assignment."""

    async def scene(fleet: Fleet) -> None:
        built = await fleet.hub.publish_version(MODEL, files(fleet))
        device = fleet.devices[0]
        answers: list[Answer] = []
        assert device.link is not None
        before = device.link.on_message

        def listen(message: Inbound) -> None:
            if message.topic.endswith("/answer"):
                answers.append(decode(message.payload, Answer))
            before(message)

        device.link.on_message = listen
        ask = Ask(id="a1", what=AskChunks(sha256=built.variants[0].file.sha256, indices=(0,)))
        await device.link.publish(fleet.hub.topics.up(device.name, "ask"), encode(ask))
        await fleet.world.clock.sleep(10**9)
        assert isinstance(answers[0].what, Refused)
        assert "nothing that this device was told to fetch" in answers[0].what.reason

    live(scene)
