"""The scenario file as a whole."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from cloud.core.rollout import Plan
from simulator.durations import Duration
from simulator.faults.kinds import AnyFault
from simulator.scenario.expectations import AnyExpectation
from simulator.scenario.models import Model
from simulator.scenario.population import PROFILES, Clock, DeviceClass, Name, Population, Profile, Strict
from simulator.scenario.steps import AnyStep, RollOut


class Policy(Strict, frozen=True, kw_only=True):
    """A plan to be compared with others: it takes the place of that of every rollout, or of the ones named."""

    name: Name
    plan: Plan
    rollouts: tuple[str, ...] = ()


class Scenario(Strict, frozen=True, kw_only=True):
    """A fleet and its fate. The clock starts when the fleet is up: enrolled, or connected if it had enrolled before.

    It is `starts` o'clock (UTC) when the hub is switched on. The run ends when all steps and faults have happened and
    every rollout is at rest, after `lasts` at the latest.
    """

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    about: str = ""
    starts: Clock = "08:00"
    lasts: Duration = "6h"
    population: Population = Population()
    networks: tuple[Profile, ...] = ()
    models: tuple[Model, ...] = (Model(),)
    timeline: tuple[AnyStep, ...] = ()
    faults: tuple[AnyFault, ...] = ()
    expect: Annotated[tuple[AnyExpectation, ...], msgspec.Meta(min_length=1)]
    policies: tuple[Policy, ...] = ()

    def profile(self, name: str) -> Profile:
        """A network by its name; those of the scenario come first. Raises KeyError."""
        return {one.name: one for one in (*PROFILES, *self.networks)}[name]

    def device_class(self, name: str) -> DeviceClass:
        """A class by its name. Raises KeyError."""
        return {one.name: one for one in self.population.classes}[name]

    def model(self, name: str) -> Model:
        """A model by its name. Raises KeyError."""
        return {one.name: one for one in self.models}[name]

    def learners(self, selector: Mapping[str, str]) -> int:
        """How many devices of the population learn in a federated run for this selector."""
        sizes = self.population.sizes()
        kinds = [one for one in self.population.classes if one.federated and selector.items() <= one.labels.items()]
        return sum(sizes[one.name] for one in kinds)

    def under(self, policy: Policy) -> "Scenario":
        """The same with the policy's plan."""
        steps = tuple(
            msgspec.structs.replace(step, plan=policy.plan)
            if isinstance(step, RollOut) and (not policy.rollouts or step.name in policy.rollouts)
            else step
            for step in self.timeline
        )
        return msgspec.structs.replace(self, timeline=steps)

    def sized(self, devices: int) -> "Scenario":
        """The same with a fleet of another size."""
        return msgspec.structs.replace(self, population=msgspec.structs.replace(self.population, devices=devices))
