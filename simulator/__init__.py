"""The fleet simulator: the real hub and agent services in virtual time, on an in-memory network, disk and database."""
