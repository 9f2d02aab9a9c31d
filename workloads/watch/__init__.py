"""Exercise recognition on a smartwatch: the workload that ships, with a real drift inside it (right arm, left arm)."""

from workloads.watch.workload import WATCH, WatchWorkload

__all__ = ["WATCH", "WatchWorkload"]
