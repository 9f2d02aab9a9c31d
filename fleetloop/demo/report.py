"""The JSON object of a run. Every figure in it was measured in that run by the devices, the hub or the stage."""

import statistics
from collections.abc import Sequence
from typing import Any

from fleetloop.demo.story import MODEL, Story
from wire.histogram import merge, quantile


def report(story: Story, wall_s: float) -> dict[str, Any]:
    """Gather the report while everything still runs."""
    devices = [story.hub.device(device["name"]) for device in story.hub.devices()]
    return {
        "devices": len(devices),
        "seed": story.plan.seed,
        "versions": [_version(story, rollout) for rollout in story.rollouts],
        "federated": _federated(story, devices),
        "agent_modules": _modules(devices),
        "agent_peak_rss_mb": _mb(max(process.peak_rss_bytes() for process in story.stage.agents.values())),
        "agent_with_children_peak_mb": _mb(story.stage.agent_tree_peak_bytes),
        "lineage": _lineage(story),
        "seconds": story.timings.seconds,
        "wall_s": round(wall_s, 1),
    }


def _version(story: Story, rollout: dict[str, Any]) -> dict[str, Any]:
    number = int(rollout["version"])
    version = story.hub.version(MODEL, number)
    shipped = next(row for row in version["release"]["variants"] if row["name"] == version["chosen"])
    rows = story.stats(number)
    latencies = merge(*({int(bucket): count for bucket, count in row["latency_us"].items()} for row in rows))
    parent = next(row for row in version["card"]["candidates"] if row["name"] == "fp32")
    chosen = next(row for row in version["card"]["candidates"] if row["name"] == version["chosen"])
    return {
        "version": number,
        "variant": version["chosen"],
        "bytes": shipped["file"]["bytes"],
        "fp32_bytes": version["release"]["parent"]["bytes"],
        "committed": rollout["committed"],
        "failed": rollout["failed"],
        "accuracy_unseen_right": round(story.accuracy(number, arm="right"), 4),
        "accuracy_unseen_left": round(story.accuracy(number, arm="left"), 4),
        "mean_confidence_right": round(story.confidence(number, arm="right"), 4),
        "mean_confidence_left": round(story.confidence(number, arm="left"), 4),
        "accuracy_hub_fp32": parent["metrics"].get("accuracy"),
        "accuracy_hub_shipped": chosen["metrics"].get("accuracy"),
        "p50_ms": round(quantile(latencies, 0.5) / 1000, 3),
    }


def _federated(story: Story, devices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    run = story.federated
    rounds = [entry for entry in run["rounds"] if entry["round"] > 0]
    unseen = [device for device in devices if device["labels"].get("role") == "unseen"]
    return {
        "rounds": len(rounds),
        "clients": min(entry["clients"] for entry in rounds),
        "asked": len(run["devices"]),
        "devices": run["devices"],
        "strategy": run["strategy"],
        "bytes_down_per_round": round(statistics.mean(entry["bytes_down"] for entry in rounds)),
        "bytes_up_per_round": round(statistics.mean(entry["bytes_up"] for entry in rounds)),
        "seconds_per_round": round(statistics.median(entry["seconds"] for entry in rounds), 3),
        "updates_from_unseen": sum((device["telemetry"] or {}).get("federated_updates_sent", 0) for device in unseen),
        "verdict": run["verdict"],
    }


def _modules(devices: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Could any agent import torch or flwr? As the agents themselves report."""
    found = {"torch": False, "flwr": False}
    for device in devices:
        modules = device["reported"]["capabilities"]["modules"]
        found = {name: found[name] or modules[name] for name in found}
    return found


def _lineage(story: Story) -> list[dict[str, Any]]:
    return [{"version": row["version"], **row["card"]["lineage"]} for row in story.hub.versions(MODEL)]


def _mb(count: int) -> float:
    return round(count / 1e6, 1)
