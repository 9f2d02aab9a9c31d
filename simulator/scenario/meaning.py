"""What a scenario must mean beyond its shape: names that exist, plans that can work, moments that come."""

import dataclasses
import types
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

from cloud.core.rollout import Plan
from cloud.core.rollout.plan import PlanError
from cloud.core.rollout.plan import check as check_work
from simulator.core.clock import EPOCH_NS
from simulator.faults.fault import Among
from simulator.scenario.document import Scenario
from simulator.scenario.expectations import RolloutEnds
from simulator.scenario.places import Path
from simulator.scenario.population import PROFILES
from simulator.scenario.steps import AddDevices, Publish, RollOut, Steering


class MistakeError(Exception):
    """Something in the file cannot be meant; `path` says where."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(problem)
        self.path = path


def check(scenario: Scenario, values: Any) -> None:
    """Raises MistakeError. `values` are the plain values that the scenario was read from."""
    _no_twins(scenario)
    _classes(scenario)
    _timeline(scenario)
    _moments(scenario)
    _expectations(scenario)
    _everybody(scenario)
    for index, step in enumerate(scenario.timeline):
        if isinstance(step, RollOut) and "plan" in values["timeline"][index]:
            check_plan(step.plan, values["timeline"][index]["plan"], ("timeline", index, "plan"))
    for index, policy in enumerate(scenario.policies):
        check_plan(policy.plan, values["policies"][index]["plan"], ("policies", index, "plan"))
        _known(policy.rollouts, _rollouts(scenario), ("policies", index, "rollouts"), "rollout")


def check_plan(plan: Plan, values: Any, path: Path) -> None:
    """Unknown fields, and plans that cannot be carried out. Raises MistakeError."""
    stranger = next(_strangers(Plan, values, path), None)
    if stranger is not None:
        raise MistakeError(stranger, "there is no such field")
    try:
        check_work(plan, EPOCH_NS)
    except PlanError as error:
        where, _, what = str(error).partition(": ")
        steps = (int(one) if one.isdecimal() else one for one in where.split("."))
        raise MistakeError((*path, *steps), what) from error


def _no_twins(scenario: Scenario) -> None:
    for field, names in (
        ("networks", [one.name for one in scenario.networks]),
        ("models", [one.name for one in scenario.models]),
        ("policies", [one.name for one in scenario.policies]),
        ("timeline", [one.name for one in scenario.timeline]),
    ):
        for index, name in enumerate(names):
            if name and name in names[:index]:
                raise MistakeError((field, index, "name"), f"there is another {name!r}")
    classes = [one.name for one in scenario.population.classes]
    for index, name in enumerate(classes):
        if name in classes[:index]:
            raise MistakeError(("population", "classes", index, "name"), f"there is another {name!r}")


def _classes(scenario: Scenario) -> None:
    networks = [one.name for one in (*PROFILES, *scenario.networks)]
    for index, one in enumerate(scenario.population.classes):
        _known([one.network], networks, ("population", "classes", index, "network"), "network")
    fixed = [one.count for one in scenario.population.classes if one.count is not None]
    if len(fixed) == len(scenario.population.classes) and sum(fixed) != scenario.population.devices:
        told = f"all classes have a count, and they add up to {sum(fixed)}, not to {scenario.population.devices}"
        raise MistakeError(("population", "devices"), told)


def _timeline(scenario: Scenario) -> None:
    models, classes = [one.name for one in scenario.models], [one.name for one in scenario.population.classes]
    begun: list[str] = []
    for index, step in enumerate(scenario.timeline):
        path: Path = ("timeline", index)
        if isinstance(step, Publish | RollOut):
            _known([step.model], models, (*path, "model"), "model")
        if isinstance(step, RollOut):
            if not step.name:
                raise MistakeError(path, "a roll_out needs a name, by which later steps and expectations refer to it")
            begun.append(step.name)
        if isinstance(step, Steering):
            _known([step.rollout], begun, (*path, "rollout"), "rollout that an earlier step began")
        if isinstance(step, AddDevices):
            _known([step.device_class], classes, (*path, "class"), "class")


def _moments(scenario: Scenario) -> None:
    """Steps refer to earlier ones; faults to any."""
    names, about = [one.name for one in scenario.timeline if one.name], _about_rollouts(scenario)
    moments: list[tuple[Path, Any, list[str]]] = [
        (("timeline", index), step, [one.name for one in scenario.timeline[:index] if one.name])
        for index, step in enumerate(scenario.timeline)
    ]
    moments += [(("faults", index), fault, names) for index, fault in enumerate(scenario.faults)]
    for path, moment, known in moments:
        if moment.since and moment.after:
            raise MistakeError((*path, "after"), "give since or after, not both")
        _known([moment.since] if moment.since else [], known, (*path, "since"), "earlier step")
        _known([moment.after] if moment.after else [], known, (*path, "after"), "earlier step")
        _known([moment.after] if moment.after else [], about, (*path, "after"), "step about a rollout")


def _expectations(scenario: Scenario) -> None:
    rollouts = _rollouts(scenario)
    for index, one in enumerate(scenario.expect):
        wanted = getattr(one, "rollout", None)
        if wanted is not None:
            _known([wanted], rollouts, ("expect", index, "rollout"), "rollout")
        if isinstance(one, RolloutEnds) and one.state == "running":
            raise MistakeError(
                ("expect", index, "state"), "a scenario ends when rollouts are at rest; name where it rests"
            )


def _everybody(scenario: Scenario) -> None:
    """Classes that devices are picked from."""
    classes = [one.name for one in scenario.population.classes]
    for path, among in _choices(scenario):
        _known([among.device_class] if among.device_class else [], classes, (*path, "class"), "class")


def _choices(scenario: Scenario) -> Iterator[tuple[Path, Among]]:
    for field, parts in (
        ("timeline", scenario.timeline),
        ("faults", scenario.faults),
        ("expect", scenario.expect),
    ):
        for index, part in enumerate(parts):
            among = getattr(part, "devices", None)
            if isinstance(among, Among):
                yield (field, index, "devices"), among
    for number, model in enumerate(scenario.models):
        for place, version in enumerate(model.versions):
            for index, trait in enumerate(version.traits):
                yield ("models", number, "versions", place, "traits", index, "devices"), trait.devices


def _rollouts(scenario: Scenario) -> list[str]:
    return [step.name for step in scenario.timeline if isinstance(step, RollOut)]


def _about_rollouts(scenario: Scenario) -> list[str]:
    return [step.name for step in scenario.timeline if isinstance(step, RollOut | Steering)]


def _known(names: Iterable[str], known: Iterable[str], path: Path, what: str) -> None:
    there = list(dict.fromkeys(known))
    for name in names:
        if name not in there:
            offered = ", ".join(one for one in there if one) or "none"
            raise MistakeError(path, f"there is no {what} {name!r}; there is {offered}")


def _strangers(kind: Any, values: Any, path: Path) -> Iterator[Path]:
    """Fields that a dataclass, or one inside it, does not have."""
    if get_origin(kind) in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _strangers(one, values, path)
    elif get_origin(kind) is tuple and isinstance(values, list):
        for index, value in enumerate(values):
            yield from _strangers(get_args(kind)[0], value, (*path, index))
    elif dataclasses.is_dataclass(kind) and isinstance(values, dict):
        hints = get_type_hints(kind)
        for name, value in values.items():
            if name not in hints:
                yield (*path, name)
            else:
                yield from _strangers(hints[name], value, (*path, name))
