"""The loop as a strip of stages, the present one lit, each with the figure that sums it up."""

from cloud.service.overview.shapes import Overview, Stage
from cloud.web.figures import percent, share, shipped_bytes, size
from cloud.web.markup import Markup, tag

STAGES: tuple[tuple[Stage, str, str], ...] = (
    ("train", "Train", "on the hub's data"),
    ("optimize", "Optimize", "prune, quantize, measure"),
    ("sign", "Sign", "the publisher's own key"),
    ("roll_out", "Roll out", "wave by wave, over MQTT"),
    ("watch", "Infer and watch", "on every device"),
    ("learn", "Learn on device", "federated, no raw data leaves"),
)


def render(overview: Overview) -> Markup:
    """Six stages in a row; the arrow under them leads back to the second."""
    sums = _sums(overview)
    stages = [_stage(overview, stage, name, hint, sums[stage]) for stage, name, hint in STAGES]
    back = tag("div", tag("span", "the result is the next version"), class_="back")
    return tag("section", tag("ol", *stages, class_="stages"), back, class_="card loop")


def _stage(overview: Overview, stage: Stage, name: str, hint: str, figure: str) -> Markup:
    lit = " lit" if overview.stage == stage else ""
    return tag("li", tag("b", name), tag("span", figure or hint), class_=f"stage{lit}", title=hint)


def _sums(overview: Overview) -> dict[Stage, str]:
    return {
        "enrol": "",
        "train": _trained(overview),
        "optimize": _optimized(overview),
        "sign": _signed(overview),
        "roll_out": _rolled_out(overview),
        "watch": _watched(overview),
        "learn": _learned(overview),
    }


def _trained(overview: Overview) -> str:
    job = next((job for job in reversed(overview.jobs) if job.kind == "train"), None)
    if job is not None and job.state != "succeeded":
        return job.progress or job.state
    version = next((version for version in overview.versions if version.origin == "trained"), None)
    return f"version {version.version}" if version else ""


def _optimized(overview: Overview) -> str:
    if not overview.versions:
        return ""
    version = overview.versions[-1]
    shipped = shipped_bytes(version)
    if not shipped:
        return ""
    return f"{size(version.fp32_bytes)} → {size(shipped)}" if version.fp32_bytes else size(shipped)


def _signed(overview: Overview) -> str:
    if not overview.versions:
        return ""
    newest = overview.versions[-1]
    words = {"awaiting_signature": "waits for the publisher", "released": "signed", "refused": "refused"}
    return f"version {newest.version} {words.get(newest.state, newest.state)}"


def _rolled_out(overview: Overview) -> str:
    if not overview.rollouts:
        return ""
    rollout = overview.rollouts[-1]
    committed = sum(wave.committed for wave in rollout.waves)
    planned = sum(wave.planned for wave in rollout.waves)
    return f"version {rollout.version}: {committed} of {planned} committed"


def _watched(overview: Overview) -> str:
    measured = [device.quality for device in overview.devices if device.quality.accuracy is not None]
    if not measured:
        return ""
    feedback = sum(quality.feedback for quality in measured)
    accuracy = sum((quality.accuracy or 0.0) * quality.feedback for quality in measured) / max(1, feedback)
    return f"accuracy {percent(accuracy)} over the fleet"


def _learned(overview: Overview) -> str:
    if not overview.federated:
        return ""
    run = overview.federated[-1]
    done = run.rounds[-1].round if run.rounds else 0
    newest = next((r.accuracy for r in reversed(run.rounds) if r.accuracy is not None), None)
    accuracy = newest if run.accuracy_after is None else run.accuracy_after
    tail = f", accuracy {share(accuracy)}" if accuracy is not None else ""
    return f"round {done} of {run.rounds_planned}{tail}"
