"""The demonstration over several seeds: does the fleet learn left arms without losing right ones, and at what cost?

It runs `fleetloop demo --json` once a seed and reports the means and, per run, what they were made of.
"""

import json
import statistics
import subprocess
import sys
from typing import Annotated, Any

import msgspec

from bench.result import Outcome, finish


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    seeds: Annotated[int, msgspec.Meta(description="how many seeds, from 0 on", ge=1)] = 3
    agent_python: Annotated[str, msgspec.Meta(description="Python of an environment without torch and flwr")] = ""
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Run all seeds; 1 when a run failed or a device did not commit."""
    runs = []
    for seed in range(settings.seeds):
        one = demo(seed, settings.agent_python)
        if one is None:
            return 1
        runs.append(one)
        print(json.dumps(row(one)), file=sys.stderr, flush=True)
    figures = summary(runs)
    return finish(Outcome(figures, passed=figures["all_committed"]), as_json=settings.json)


def demo(seed: int, agent_python: str) -> dict[str, Any] | None:
    """One run; None (and its words on standard error) when it failed."""
    command = [sys.executable, "-m", "fleetloop", "demo", "--json", "--seed", str(seed), "--agent-python", agent_python]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"seed {seed}: the demonstration ended with code {done.returncode}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def row(run: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run that matter here."""
    first, second = run["versions"]
    return {
        "seed": run["seed"],
        "committed": [first["committed"], second["committed"]],
        "left": [first["accuracy_unseen_left"], second["accuracy_unseen_left"]],
        "right": [first["accuracy_unseen_right"], second["accuracy_unseen_right"]],
        "confidence_left": first["mean_confidence_left"],
        "shipped": [first["variant"], second["variant"]],
        "size_ratio": [round(version["fp32_bytes"] / version["bytes"], 2) for version in run["versions"]],
        "accuracy_hub": [first["accuracy_hub_fp32"], first["accuracy_hub_shipped"]],
        "agent_peak_rss_mb": run["agent_peak_rss_mb"],
        "agent_with_children_peak_mb": run["agent_with_children_peak_mb"],
        "seconds_per_round": run["federated"]["seconds_per_round"],
        "wall_s": run["wall_s"],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the runs."""
    rows = [row(run) for run in runs]
    return {
        "runs": len(rows),
        "left_gain_mean": round(statistics.mean(one["left"][1] - one["left"][0] for one in rows), 4),
        "right_loss_mean": round(statistics.mean(one["right"][0] - one["right"][1] for one in rows), 4),
        "all_committed": all(one["committed"] == [run["devices"]] * 2 for one, run in zip(rows, runs, strict=True)),
        "agent_peak_rss_mb": max(one["agent_peak_rss_mb"] for one in rows),
        "wall_s_mean": round(statistics.mean(one["wall_s"] for one in rows), 1),
        "rows": rows,
    }
