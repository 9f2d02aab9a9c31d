"""What the command line changes about a scenario: the fleet's size, the quality of networks, how much fails."""

from collections.abc import Iterable

import msgspec

from simulator.faults.fault import Among
from simulator.faults.kinds import AnyFault, BrokerKill, CutConnections, HubKill, PowerCut
from simulator.scenario.document import Scenario
from simulator.scenario.meaning import about_nobody
from simulator.scenario.places import said
from simulator.scenario.population import PROFILES, Profile
from simulator.scenario.steps import RollOut
from simulator.settings import Settings
from wire.errors import MalformedError

ONE = Among(count=1)
INSTALL_OPERATIONS = 90
"""About as many disk operations as an installation has; power cuts are spread over them."""
WITHIN = "60s"


def adjusted(scenario: Scenario, settings: Settings) -> Scenario:
    """The scenario as the settings want it."""
    if settings.devices is not None:
        scenario = _sized(scenario, settings.devices)
    networks = tuple(_quality(one, settings) for one in _networks(scenario))
    faults = tuple(_faults(scenario, settings))
    return msgspec.structs.replace(scenario, networks=networks, faults=faults)


def _sized(scenario: Scenario, devices: int) -> Scenario:
    counts = [one.count for one in scenario.population.classes]
    fixed = sum(count or 0 for count in counts)
    if devices < fixed or (devices > fixed and None not in counts):
        raise MalformedError(f"--devices {devices}: classes that have a count already make {fixed} devices")
    sized = scenario.sized(devices)
    for path, problem in about_nobody(sized):
        raise MalformedError(f"--devices {devices}: {said(path)}: {problem}")
    return sized


def _networks(scenario: Scenario) -> Iterable[Profile]:
    """Every network by its name, the scenario's own over those that every scenario has."""
    return {one.name: one for one in (*PROFILES, *scenario.networks)}.values()


def _quality(profile: Profile, settings: Settings) -> Profile:
    wanted = {"loss": settings.loss, "duplication": settings.duplication}
    return msgspec.structs.replace(profile, **{name: one for name, one in wanted.items() if one is not None})


def _faults(scenario: Scenario, settings: Settings) -> Iterable[AnyFault]:
    """The file's faults but for the kinds that the settings count; those come with the rollouts, shared out evenly."""
    asked: list[tuple[int | None, tuple[type[AnyFault], ...]]] = [
        (settings.reboots, (PowerCut,)),
        (settings.reconnects, (CutConnections,)),
        (settings.kills, (HubKill, BrokerKill)),
    ]
    replaced = tuple(kind for count, kinds in asked if count is not None for kind in kinds)
    yield from (fault for fault in scenario.faults if not isinstance(fault, replaced))
    rollouts = [step.name for step in scenario.timeline if isinstance(step, RollOut)]
    for number, since in enumerate(rollouts):
        for kind, total in (("power", settings.reboots), ("link", settings.reconnects), ("kill", settings.kills)):
            count = ((total or 0) + number) // len(rollouts)
            if count:
                yield from _planned(kind, since, count)


def _planned(kind: str, since: str, count: int) -> Iterable[AnyFault]:
    if kind == "power":
        yield PowerCut(since=since, times=count, devices=ONE, operations=INSTALL_OPERATIONS)
    elif kind == "link":
        yield CutConnections(since=since, times=count, within=WITHIN, devices=ONE)
    else:
        hub, broker = count - count // 2, count // 2
        yield HubKill(since=since, times=hub, within=WITHIN, down="4s")
        if broker:
            yield BrokerKill(since=since, times=broker, within=WITHIN, down="4s")
