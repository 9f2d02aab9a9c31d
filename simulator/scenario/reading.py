"""A scenario from its file. Whatever is wrong with it is said with file, line and field, before anything is run."""

from importlib import resources
from pathlib import Path as File
from typing import Any

from simulator.scenario.document import Policy, Scenario
from simulator.scenario.meaning import MistakeError, check, check_plan
from simulator.scenario.places import Places, convert, load, malformed
from wire.errors import MalformedError

SHIPPED = resources.files("simulator") / "scenarios"


def shipped() -> dict[str, str]:
    """Name -> text of every scenario that comes with this package."""
    files = (one for one in SHIPPED.iterdir() if one.name.endswith(".yaml"))
    return {one.name.removesuffix(".yaml"): one.read_text() for one in sorted(files, key=lambda one: one.name)}


def find(name: str) -> Scenario:
    """The scenario in this file, or the one that comes under this name. Raises MalformedError."""
    known = shipped()
    if name in known:
        return parse(known[name].encode(), f"{name}.yaml")
    try:
        return parse(File(name).read_bytes(), name)
    except OSError as error:
        names = ", ".join(known)
        raise MalformedError(f"{name}: {error.strerror}; scenarios that come with it: {names}") from error


def parse(text: bytes, name: str) -> Scenario:
    """Raises MalformedError that names file, line and field."""
    values, places = load(text, name)
    scenario = convert(values, Scenario, name, places)
    _judge(lambda: check(scenario, values), name, places)
    return scenario


def parse_policy(text: bytes, name: str) -> Policy:
    """A policy from a file of its own; unless it has a name, that of the file. Raises MalformedError."""
    values, places = load(text, name)
    if isinstance(values, dict):
        values.setdefault("name", File(name).stem.lower())
    policy = convert(values, Policy, name, places)
    _judge(lambda: check_plan(policy.plan, values["plan"], ("plan",)), name, places)
    return policy


def _judge(call: Any, name: str, places: Places) -> None:
    try:
        call()
    except MistakeError as error:
        raise malformed(name, places, error.path, str(error)) from error
