"""Finding a workload by name: our own by their short name, a user's by `module:attribute`."""

from __future__ import annotations

from importlib import import_module

from workloads.base import Workload, WorkloadError

OWN = {"watch": "workloads.watch:WATCH"}
"""Workloads that ship with Fleetloop, by short name."""

_MEMBERS = ("name", "about", "input_shape", "classes", "training", "federated", "hub_data", "model", "streams")


def load_workload(reference: str) -> Workload:
    """The workload called `reference`, a short name from `OWN` or `package.module:attribute`.

    Raises WorkloadError when there is no such module or attribute, or when the object lacks part of the protocol.
    """
    module_name, colon, attribute = OWN.get(reference, reference).partition(":")
    if not colon:
        raise WorkloadError(f"no workload {reference!r}: use one of {sorted(OWN)} or 'package.module:attribute'")
    try:
        workload: Workload = getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise WorkloadError(f"workload {reference!r}: cannot import {error.name!r}; is it installed here?") from error
    except AttributeError as error:
        raise WorkloadError(f"workload {reference!r}: module {module_name!r} has no {attribute!r}") from error
    missing = [member for member in _MEMBERS if not hasattr(workload, member)]
    if missing:
        raise WorkloadError(f"workload {reference!r} lacks {', '.join(missing)}; see workloads.base.Workload")
    return workload
