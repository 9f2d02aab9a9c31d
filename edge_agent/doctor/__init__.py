"""`fleetloop agent doctor`: what is wrong with this device and what to do about it, found without changing anything.

Each check is a function of the patient that yields findings; a new one is written and added to `CHECKS`. What a check
needs and cannot read was reported by an earlier one, so it then yields nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.doctor import broker, daemon, identity, storage
from edge_agent.doctor.patient import Finding, Patient
from edge_agent.settings import Settings

CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    daemon.engines,
    storage.directory,
    storage.permissions,
    storage.space,
    storage.record,
    storage.objects,
    identity.claim,
    identity.login,
    identity.certificate,
    identity.clock,
    daemon.process,
    broker.address,
    broker.connection,
    broker.encryption,
    broker.acceptance,
    daemon.models,
    daemon.assignments,
    daemon.trust,
)


def examine(settings: Settings, api: str) -> Iterator[Finding]:
    """Look at everything in turn; `api` is the path of the local API's socket."""
    patient = Patient(settings, Path(settings.data_dir), api)
    for check in CHECKS:
        try:
            yield from check(patient)
        except OSError as error:
            advice = "run as the user who owns the data directory, and see that its disk is well (dmesg)"
            yield Finding(check.__name__, str(error), advice)
