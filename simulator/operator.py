"""Carries out what a scenario's operator does, through the hub's own services. While the hub is down, he waits."""

import math
from collections.abc import Callable
from typing import assert_never

from sqlalchemy import Connection, select

from cloud.core.rollout import Command
from cloud.errors import HubError
from cloud.service import federated_runs, holds, revocation, rollouts, upkeep
from cloud.service.effects import Effects
from cloud.service.federated_runs import NewRun
from cloud.service.rollouts import NewRollout
from cloud.tables import federated_runs as runs
from cloud.tables import models
from federated.records import save_arrays
from simulator.core.loop import SimulationError
from simulator.durations import nanoseconds
from simulator.fakes.learner import PROTOTYPES, first_prototypes
from simulator.fleet import Fleet
from simulator.hub import OPERATOR
from simulator.scenario.document import Scenario
from simulator.scenario.models import MEGABYTE, Needs
from simulator.scenario.steps import (
    Abort,
    AddDevices,
    Adopt,
    AnyStep,
    Approve,
    Decommission,
    Federate,
    Halt,
    Hold,
    LiftHalt,
    Pause,
    Publish,
    Release,
    RenewMetadata,
    Resume,
    Revert,
    Revoke,
    RollOut,
    RotateKeys,
)
from simulator.settlers import Settlers
from simulator.version import NEEDS, learning_files, random_files
from wire.ports import SECOND
from wire.release import RuntimeNeeds

LEAST_CLIENTS = 2
"""No strategy makes anything of one device alone."""
COMMANDS = {
    Pause: Command.PAUSE,
    Approve: Command.APPROVE,
    Resume: Command.RESUME,
    Abort: Command.ABORT,
    Revert: Command.REVERT,
}


class StepError(SimulationError):
    """A step that the hub refused: the scenario cannot go on as it is written."""


class Operator:
    """The person at the hub. `good` says of each published (model, version) whether it ought to reach the fleet."""

    def __init__(self, fleet: Fleet, settlers: Settlers, scenario: Scenario) -> None:
        self.good: dict[tuple[str, int], bool] = {}
        self._fleet = fleet
        self._settlers = settlers
        self._scenario = scenario
        self._steps = 0

    async def carry_out(self, step: AnyStep) -> None:
        """Do it. Raises StepError when the hub refuses."""
        self._steps += 1
        while not self._fleet.hub.open:
            await self._fleet.world.clock.sleep(SECOND)
        try:
            await self._do(step)
        except HubError as error:
            kind = step.__struct_config__.tag
            raise StepError(f"step {self._steps} of the timeline ({kind} {step.name}) was refused: {error}") from error

    async def _do(self, step: AnyStep) -> None:
        hub, clock = self._fleet.hub, self._fleet.world.clock
        match step:
            case Publish():
                await self._publish(step)
            case RollOut():
                await self._roll_out(step)
            case Pause() | Approve() | Resume() | Abort() | Revert():
                command, rollout = COMMANDS[type(step)], step.rollout
                await hub.change(lambda conn: rollouts.control(conn, rollout, command, OPERATOR, clock.now_ns()))
            case Hold() | Release() | Revoke() | Decommission():
                await self._each(step)
            case Halt() | LiftHalt():
                await self._halt(step)
            case RotateKeys():
                await hub.rotate(step.keys)
            case RenewMetadata():
                await hub.renew()
            case AddDevices():
                await self._settlers.add(step.device_class, step.count)
            case Federate() | Adopt():
                await self._learn(step)
            case _:
                assert_never(step)

    async def _publish(self, step: Publish) -> None:
        model = self._scenario.model(step.model)
        number = 1 + self._published(model.name)
        version = model.version(number)
        rng = self._fleet.world.rng.child(f"version {model.name} {number}")
        if model.learns is None:
            files = random_files(rng, model.bytes)
        else:
            files = learning_files(rng, model.bytes, save_arrays({PROTOTYPES: first_prototypes(model.learns.skill)}))
        release = await self._fleet.hub.publish_version(model.name, files, _needs(version.needs))
        if model.learns is not None:
            self._settlers.teach(release, files.parameters)
        self.good[model.name, release.version] = version.is_good
        self._settlers.spoil(release, version.traits)

    async def _roll_out(self, step: RollOut) -> None:
        version = step.version or self._published(step.model)
        new = NewRollout(step.name, step.model, version, step.slot, step.selector, None, step.plan)
        await self._fleet.hub.roll_out(new)

    async def _halt(self, step: Halt | LiftHalt) -> None:
        hub, now_ns = self._fleet.hub, self._fleet.world.clock.now_ns()
        if isinstance(step, Halt):
            await hub.change(lambda conn: holds.halt(conn, step.reason, OPERATOR, now_ns))
        else:
            await hub.change(lambda conn: holds.resume(conn, OPERATOR, now_ns))

    async def _learn(self, step: Federate | Adopt) -> None:
        await (self._federate(step) if isinstance(step, Federate) else self._adopt(step))

    async def _federate(self, step: Federate) -> None:
        """The request is that of `POST /federated-runs`."""
        hub, clock = self._fleet.hub, self._fleet.world.clock
        version = step.version or self._published(step.model)
        learners = self._scenario.learners(step.selector)
        request = {
            "strategy": step.strategy,
            "strategy_args": {"fraction_train": step.clients, **step.strategy_args},
            "rounds": step.rounds,
            "evaluate_every": 1,
            "train": {"local-epochs": step.epochs, "lr": step.lr, "momentum": 0.0},
            "seed": 1,
            "tolerances": {
                "step_timeout_s": nanoseconds(step.deadline) / SECOND,
                "gather_s": nanoseconds(step.patience) / SECOND,
                "quorum": max(LEAST_CLIENTS, math.ceil(step.quorum * step.clients * learners)),
            },
        }
        new = NewRun(step.name, f"{step.name}-job", step.model, version, step.selector, request)
        await hub.change(lambda conn: federated_runs.create(conn, new, OPERATOR, clock.now_ns()))

    async def _adopt(self, step: Adopt) -> None:
        """What has made no version leaves nothing to be signed."""
        query = select(runs.c.model, runs.c.result_version).where(runs.c.id == step.run)
        row = self._fleet.hub.look(lambda conn: conn.execute(query).one())
        if row.result_version is None:
            return
        release = await self._fleet.hub.sign(row.model, row.result_version)
        self._settlers.teach(release, await self._fleet.hub.content(release.companions.parameters.sha256))

    async def _each(self, step: Hold | Release | Revoke | Decommission) -> None:
        hub, clock = self._fleet.hub, self._fleet.world.clock
        for device in self._settlers.meant(step.devices, f"step {self._steps}"):
            call = _about(step, device.name, (OPERATOR, clock.now_ns()), self._fleet)
            await hub.change(call)

    def _published(self, model: str) -> int:
        query = select(models.c.last_version).where(models.c.name == model)
        return self._fleet.hub.look(lambda conn: conn.execute(query).scalar_one_or_none()) or 0


def _about(
    step: Hold | Release | Revoke | Decommission, device: str, by: tuple[str, int], fleet: Fleet
) -> Callable[[Connection], Effects]:
    topics = fleet.hub.topics
    match step:
        case Hold():
            return lambda conn: holds.hold(conn, device, step.reason, *by)
        case Release():
            return lambda conn: holds.release(conn, device, *by)
        case Revoke():
            return lambda conn: revocation.revoke(conn, device, step.reason, by, topics)
        case Decommission():
            return lambda conn: upkeep.decommission(conn, device, step.reason, by, topics)


def _needs(wanted: Needs) -> RuntimeNeeds:
    return RuntimeNeeds(
        opset=wanted.opset,
        operators=NEEDS.operators,
        min_version=wanted.min_version or NEEDS.min_version,
        ram_bytes=wanted.ram_mb * MEGABYTE,
        flash_bytes=int(wanted.flash_mb * MEGABYTE),
    )
