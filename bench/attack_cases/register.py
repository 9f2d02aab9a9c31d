"""All attacks, in the order of the threat table."""

from bench.attack_cases import (
    assignments,
    brokers,
    endless,
    freezes,
    hubs,
    identities,
    learning,
    metadata,
    models,
    replays,
    transfers,
)

ATTACKS = (
    *metadata.ATTACKS,
    *replays.ATTACKS,
    *freezes.ATTACKS,
    *endless.ATTACKS,
    *assignments.ATTACKS,
    *transfers.ATTACKS,
    *models.ATTACKS,
    *brokers.ATTACKS,
    *identities.ATTACKS,
    *hubs.ATTACKS,
    *learning.ATTACKS,
)
