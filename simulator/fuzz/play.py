"""Plays one life to its end and says what was broken: the fleet enrols or wakes, acts pass under faults, then peace.

Every promise is watched from the first moment. When the last fault is over, everything has to come to rest within
PEACE_S; then the whole is swept once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select

from cloud.core.rollout import ACTIVE, Command, Plan, RolloutState
from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.service import federated_runs, holds
from cloud.service.effects import Effects
from cloud.service.rollouts import NewRollout, control
from cloud.tables import rollouts
from edge_agent.service.inference import Inference
from simulator.alarm import listening
from simulator.core.loop import SimulationError
from simulator.core.network import Quality
from simulator.device import Device
from simulator.faults.inject import Injector
from simulator.federation import counted_too_often
from simulator.fleet import Fleet
from simulator.fuzz.application import Application
from simulator.fuzz.draw import Action, Life
from simulator.fuzz.learning import federated_run
from simulator.fuzz.standing import FIRST_ACT_AT_S, FIRST_PLAN, INTERVALS, LOOK_EVERY_S, MODEL, SIZE, SLOT, standing
from simulator.invariants import hub as hub_rules
from simulator.invariants.devices import DeviceWatch, Signed
from simulator.invariants.hub import HubWatch
from simulator.invariants.rest import outstanding, wrong_at_rest
from simulator.surroundings import Surroundings
from simulator.version import random_files
from simulator.world import World
from wire.ports import SECOND
from wire.release import Release

OPERATOR = "operator"
ACT_LIMIT_S = 900
PEACE_S = 2_400
WAKING_S = 4
MESSAGES, MESSAGES_PER_S = 300, 2
"""For each device, both ways: far more than an eventful life needs."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life ended. `problem` is empty when every promise was kept; `fired` counts faults that did harm."""

    seed: int
    problem: str
    fired: Counter[str]
    virtual_s: float
    events: int
    transactions: int
    digest: str


class Playing:
    """One run. `steps`: numbers of the faults and actions that happen; None: all."""

    def __init__(self, life: Life, steps: Iterable[int] | None = None) -> None:
        chosen = frozenset(range(life.steps) if steps is None else steps)
        self.world = World(life.seed)
        self._life = life
        self._signed = Signed()
        learns = life.learning is not None
        self._standing = None if life.newborn else standing(life.devices, life.model_bytes, learns=learns)
        self.fleet = self._fleet()
        self.watches: list[DeviceWatch] = []
        self.applications: list[Application] = []
        self._faults = [one for number, one in enumerate(life.faults) if number in chosen]
        self._actions = [one for number, one in enumerate(life.actions, len(life.faults)) if number in chosen]
        self._injector = Injector(self.fleet)
        self._rng = self.world.rng.child("playing")
        self._hub_watch = HubWatch(self.fleet.hub.store, self.world.fail)
        self._latest = ""

    def play(self) -> Ending:
        """To the end."""
        problem = ""
        try:
            with listening(self.world.fail):
                self.world.loop.run(self._play())
        except SimulationError as error:
            problem = f"at {self.world.loop.time():.3f} s: {error}"
        except Exception as error:  # of the rules or of a program: the seed has to be told all the same
            problem = f"at {self.world.loop.time():.3f} s: {type(error).__name__}: {error}"
        finally:
            self._hub_watch.close()
            self.fleet.hub.store.close()
        world = self.world
        return Ending(
            seed=self._life.seed,
            problem=problem,
            fired=harm_done(self.fleet),
            virtual_s=world.loop.time(),
            events=world.loop.events,
            transactions=self._hub_watch.checked,
            digest=world.trace.digest,
        )

    async def _play(self) -> None:
        fleet = self.fleet
        fleet.on_device = self._watch
        fleet.hub.start()
        await asyncio.sleep(1)
        self._begin_faults(0)
        if self._life.newborn:
            for _ in range(self._life.devices):
                await fleet.join(SIZE)
            await asyncio.sleep(FIRST_ACT_AT_S)
            await self._act(0, FIRST_PLAN)
        else:
            fleet.wake(SIZE)
            await asyncio.sleep(WAKING_S)
        if self._goes_on():
            await self._act(1, self._life.plan)
        self._begin_faults(1)
        self._operate()
        await asyncio.sleep(self._life.trouble_s)
        await self._peace()

    def _fleet(self) -> Fleet:
        """A new one, or a copy of one that stands."""
        if self._standing is None:
            return Fleet(self.world, INTERVALS, certificate_life_ns=self._life.certificate_life_s * SECOND)
        self._signed.add(self._standing.release)
        return Fleet(self.world, INTERVALS, self._standing.estate)

    def _goes_on(self) -> bool:
        """Is version 2 rolled out?"""
        return self._life.learning is None or not self._life.learning.alone

    # The acts.

    async def _act(self, act: int, plan: Plan) -> None:
        """Begin the rollout of the next version once nothing stands against that."""
        release = await self._release(act)
        self._signed.add(release)
        for name, manner in self._life.bad if act else ():
            self._device(name).manners[release.variants[0].file.sha256] = manner
        self._latest = f"r{release.version}"
        new = NewRollout(self._latest, MODEL, release.version, SLOT, {}, None, plan)
        for _ in range(ACT_LIMIT_S // LOOK_EVERY_S):
            try:
                await self.fleet.hub.roll_out(new)
            except (InvalidError, ConflictError):  # nobody has enrolled yet, or an earlier rollout is active
                await self._give_up_halted()
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                return
        raise SimulationError(f"after {ACT_LIMIT_S} s, rollout {self._latest} still cannot begin")

    async def _release(self, act: int) -> Release:
        """What is rolled out: of a fleet that stands, what waits there, else a new version."""
        if self._standing:
            return self._standing.next
        files = random_files(self._rng.child(f"version {act}"), self._life.model_bytes)
        return await self.fleet.hub.publish_version(MODEL, files)

    async def _give_up_halted(self) -> None:
        """An operator looks after what stands in the way."""
        stuck = select(rollouts.c.id).where(rollouts.c.state.in_(sorted(ACTIVE - {RolloutState.RUNNING})))
        for name in self.fleet.hub.look(lambda conn: list(conn.execute(stuck).scalars())):
            await self._command(name, Command.ABORT)

    def _begin_faults(self, act: int) -> None:
        for when, fault in self._faults:
            if when == act:
                self._injector.plan(fault)

    def _operate(self) -> None:
        for action in self._actions:
            self.fleet.later(int(action.at_s * SECOND), partial(self._begin, action))

    def _begin(self, action: Action) -> None:
        self.world.watch(asyncio.ensure_future(self._carry_out(action)))

    async def _carry_out(self, action: Action) -> None:
        """What is impossible at the moment is refused, and that is all."""
        if action.what == "join":
            await self.fleet.join(SIZE)
            return
        calls: dict[str, Callable[[Connection, int], Effects]] = {
            "hold": lambda conn, now_ns: holds.hold(conn, action.device, "a test", OPERATOR, now_ns),
            "release": lambda conn, now_ns: holds.release(conn, action.device, OPERATOR, now_ns),
            "halt": lambda conn, now_ns: holds.halt(conn, "a test", OPERATOR, now_ns),
            "unhalt": lambda conn, now_ns: holds.resume(conn, OPERATOR, now_ns),
            "federate": self._federate,
        }
        if action.what in calls:
            await self._do(calls[action.what])
        else:
            await self._command(self._latest, Command(action.what))

    def _federate(self, conn: Connection, now_ns: int) -> Effects:
        assert self._life.learning is not None
        return federated_runs.create(conn, federated_run(MODEL, self._life.learning.rounds), OPERATOR, now_ns)

    async def _command(self, rollout: str, command: Command) -> None:
        await self._do(lambda conn, now_ns: control(conn, rollout, command, OPERATOR, now_ns))

    async def _do(self, call: Callable[[Connection, int], Effects]) -> None:
        now_ns = self.world.clock.now_ns()
        try:
            await self.fleet.hub.change(lambda conn: call(conn, now_ns))
        except (ConflictError, UnknownError):
            self.world.trace.note(self.world.clock.monotonic_ns(), "refused", OPERATOR)

    # Peace.

    async def _peace(self) -> None:
        """No fault is left: everything comes to rest."""
        for device, application in zip(self.fleet.devices, self.applications, strict=True):
            device.cuts.clear()
            device.disk.cut_at = None
            device.network.quality = Quality()
            application.stopped = True
        await self._lift()
        left: list[str] = []
        for _ in range(PEACE_S // LOOK_EVERY_S):
            await asyncio.sleep(LOOK_EVERY_S)
            left = outstanding(self.fleet)
            if not left:
                break
        else:
            raise SimulationError(f"{PEACE_S} s after the last fault: {'; '.join(left[:4])}")
        self._sweep()

    async def _lift(self) -> None:
        """A fleet that people have halted would wait for them for ever, and so it should: here they let it go on."""
        await self._do(lambda conn, now_ns: holds.resume(conn, OPERATOR, now_ns))

    def _sweep(self) -> None:
        found = [f"{watch.device.name}: {problem}" for watch in self.watches for problem in watch.at_rest()]
        found += self.fleet.hub.look(lambda conn: list(wrong_at_rest(conn, self.fleet.devices)))
        found += self.fleet.hub.look(hub_rules.sweep)
        found += counted_too_often(self.fleet)
        for device, application in zip(self.fleet.devices, self.applications, strict=True):
            found += list(_miscounted(device, application))
        said = self.world.broker.publishes / len(self.fleet.devices)
        if said > MESSAGES + MESSAGES_PER_S * self.world.loop.time():
            found.append(f"{said:.0f} messages for each device: some report goes round in circles")
        if found:
            raise SimulationError("; ".join(found[:4]))

    # Who is there.

    def _watch(self, device: Device) -> None:
        watch = DeviceWatch(device, self._signed, self.world.fail)
        rng = self._rng.child(f"application of {device.name}")
        application = Application(rng, Surroundings(rng.child("surroundings")) if self._life.learning else None)
        application.on_unanswered = watch.unanswered

        def started(device: Device, inference: Inference) -> None:
            watch.start()
            application.start(device, inference)

        device.on_started = started
        self.watches.append(watch)
        self.applications.append(application)

    def _device(self, name: str) -> Device:
        return next(device for device in self.fleet.devices if device.name == name)


def _miscounted(device: Device, application: Application) -> list[str]:
    """Each answer is counted once. One that was on its way when the agent ended may be counted or not."""
    counted = Counter({tally.variant.version: tally.predictions for tally in device.captures.tallies})
    ended = device.reboots + device.crashes
    return [
        f"{device.name} counts {counted[version]} predictions of version {version}, its application got {answers}"
        for version, answers in application.answers.items()
        if not answers <= counted[version] <= answers + ended
    ]


def harm_done(fleet: Fleet) -> Counter[str]:
    """Faults that did harm, by kind: messages and operations, not spans of time."""
    faults = fleet.world.faults
    network = Counter(
        lost_messages=faults.lost_publishes + faults.lost_acks + faults.lost_deliveries,
        duplicates=faults.duplicates,
        reordered=faults.reordered,
        reconnects=fleet.reconnects,
        power_cuts=fleet.reboots,
        kills=fleet.kills,
    )
    return +(network + fleet.world.fired)
