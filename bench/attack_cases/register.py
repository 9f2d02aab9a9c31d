"""All attacks, in the order of the threat table."""

from bench.attack_cases import assignments, metadata

ATTACKS = (*assignments.ATTACKS, *metadata.ATTACKS)
