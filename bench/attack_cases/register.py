"""All attacks, in the order of the threat table."""

from bench.attack_cases import assignments, brokers, hubs, identities, learning, metadata, models, transfers

ATTACKS = (
    *metadata.ATTACKS,
    *assignments.ATTACKS,
    *transfers.ATTACKS,
    *models.ATTACKS,
    *brokers.ATTACKS,
    *identities.ATTACKS,
    *hubs.ATTACKS,
    *learning.ATTACKS,
)
