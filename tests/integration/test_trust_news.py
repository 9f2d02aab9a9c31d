"""What is newer comes along with the time: one question for a judgement, and more only where it does not fit."""

import pytest
from msgspec import UNSET

from cloud.core.rollout import Plan, RolloutState, Wave
from cloud.service.rollouts import NewRollout
from cloud.service.trust import news
from cloud.service.trust.service import Trust
from cloud.tables import rollouts
from simulator.core.network import Quality
from simulator.fleet import Fleet, Size
from simulator.version import random_files
from simulator.world import World
from wire.asks import AskTime, Holding, TimeTold
from wire.ports import SECOND

DEVICES = 3


def questions(fleet: Fleet, world: World) -> list[str]:
    """Who asked anything while a fleet started and took one version, once for each question."""
    asked: list[str] = []
    world.trace.watch = lambda line: asked.append(line.split()[2]) if _is_ask(line) else None

    async def scene() -> None:
        await fleet.start(Size(DEVICES, Quality(), enrolled=True))
        await world.clock.sleep(60 * SECOND)
        release = await fleet.hub.publish_version("m", random_files(world.rng.child("version"), 20_000))
        plan = Plan(waves=(Wave(percent=100),))
        await fleet.hub.roll_out(NewRollout("r1", "m", release.version, "main", {}, None, plan))
        await world.clock.sleep(120 * SECOND)

    world.loop.run(scene())
    states = fleet.hub.look(lambda conn: conn.execute(rollouts.select()).all())
    assert [row.state for row in states] == [RolloutState.SUCCEEDED]
    return asked


def _is_ask(line: str) -> bool:
    _, kind, who, *topic = line.split()
    return kind == "publish" and who != "hub" and topic[0].endswith("/ask")


def test_a_judgement_takes_one_question() -> None:
    """One at the start, one for the installation: time and metadata together."""
    world = World(3)
    asked = questions(Fleet(world), world)
    assert sorted(asked) == sorted(f"d{number:05}" for number in range(DEVICES) for _ in range(2))


def test_what_does_not_fit_into_the_answer_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judgement comes to the same."""
    monkeypatch.setattr(news, "MAX_BYTES", 1_000)
    world = World(3)
    assert len(questions(Fleet(world), world)) > 2 * DEVICES


def test_what_comes_along_is_looked_up_once_for_all_who_hold_the_same() -> None:
    """And nothing comes along for who does not say what he holds."""
    world = World(4)
    hub = Fleet(world).hub
    look = Trust(hub.store, hub._notary, world.clock).looks()[AskTime]
    holdings = (Holding(), UNSET, Holding(), Holding(versions={"root": 1}))
    asked = [AskTime(nonce="0" * 32, holding=one) for one in holdings]
    same, nothing, again, other = hub.look(lambda conn: look.find(conn, asked))
    assert same is again
    assert nothing is UNSET
    assert set(other) == set(same) - {"1.root.json"}
    told = look.reply("d1", asked[3], other)
    assert isinstance(told, TimeTold)
    assert told.files == other


def test_only_what_is_newer_is_sent() -> None:
    """To whoever holds everything: the timestamp, and that there is no newer root."""
    hub = Fleet(World(4)).hub
    everything = hub.look(lambda conn: news.newer(conn, Holding(paths=("m/1.json",))))
    versions = [name.split(".") for name, data in everything.items() if data is not None and name != "timestamp.json"]
    roles = {"root": 1} | {role: int(number) for number, role, _ in versions}
    held = hub.look(lambda conn: news.newer(conn, Holding(versions=roles, paths=("m/1.json",))))
    assert [name.split(".", 1)[1] for name in everything][:5] == [
        "root.json",
        "root.json",
        "json",
        "snapshot.json",
        "targets.json",
    ]
    assert list(held) == ["2.root.json", "timestamp.json"]
    assert held["2.root.json"] is None
