"""Carries out what a scenario's operator does, through the hub's own services. While the hub is down, he waits."""

from collections.abc import Callable
from typing import assert_never

from sqlalchemy import Connection, select

from cloud.core.rollout import Command
from cloud.errors import HubError
from cloud.service import holds, revocation, rollouts, upkeep
from cloud.service.effects import Effects
from cloud.service.rollouts import NewRollout
from cloud.tables import models
from simulator.core.loop import SimulationError
from simulator.fleet import Fleet
from simulator.hub import OPERATOR
from simulator.scenario.document import Scenario
from simulator.scenario.models import MEGABYTE, Needs
from simulator.scenario.steps import (
    Abort,
    AddDevices,
    AnyStep,
    Approve,
    Decommission,
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
from simulator.version import NEEDS, random_files
from wire.ports import SECOND
from wire.release import RuntimeNeeds

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
            case Halt():
                reason = step.reason
                await hub.change(lambda conn: holds.halt(conn, reason, OPERATOR, clock.now_ns()))
            case LiftHalt():
                await hub.change(lambda conn: holds.resume(conn, OPERATOR, clock.now_ns()))
            case RotateKeys():
                await hub.rotate(step.keys)
            case RenewMetadata():
                await hub.renew()
            case AddDevices():
                await self._settlers.add(step.device_class, step.count)
            case _:
                assert_never(step)

    async def _publish(self, step: Publish) -> None:
        model = self._scenario.model(step.model)
        number = 1 + self._published(model.name)
        version = model.version(number)
        files = random_files(self._fleet.world.rng.child(f"version {model.name} {number}"), model.bytes)
        release = await self._fleet.hub.publish_version(model.name, files, _needs(version.needs))
        self.good[model.name, release.version] = version.is_good
        self._settlers.spoil(release, version.traits)

    async def _roll_out(self, step: RollOut) -> None:
        version = step.version or self._published(step.model)
        new = NewRollout(step.name, step.model, version, step.slot, step.selector, None, step.plan)
        await self._fleet.hub.roll_out(new)

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
