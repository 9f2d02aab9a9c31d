"""The hub: fleet state, registry, rollouts, jobs, and the HTTP API over them. Tied together in `cloud.bootstrap`."""
