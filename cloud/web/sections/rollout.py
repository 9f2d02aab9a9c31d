"""The newest rollout wave by wave with its gates, and one line for each earlier one."""

from cloud.service.overview.shapes import GateView, Overview, RolloutView, WaveView
from cloud.web.markup import Markup, card, empty, tag


def render(overview: Overview) -> Markup:
    """Waves and gates."""
    hint = "A device counts once it verified, loaded, reproduced the golden outputs and committed."
    if not overview.rollouts:
        return card("Rollout", hint, empty("Nothing has been rolled out yet."), class_="rollout")
    *earlier, newest = overview.rollouts
    waves = [_wave(wave) for wave in newest.waves]
    gates = tag("div", *(_gate(gate) for gate in newest.gates), class_="gates") if newest.gates else None
    reason = tag("p", newest.reason, class_="reason") if newest.reason else None
    title = f"Rollout of version {newest.version}"
    past = [_past(rollout) for rollout in reversed(earlier[-3:])]
    return card(title, hint, _state(newest), *waves, gates, reason, *past, class_="rollout")


def _state(rollout: RolloutView) -> Markup:
    return tag("span", rollout.state.replace("_", " "), class_=f"state {rollout.state}")


def _wave(wave: WaveView) -> Markup:
    planned = max(1, wave.planned)
    done = tag("i", class_="committed", style=f"width: {100 * wave.committed / planned:.1f}%")
    failed = tag("i", class_="failed", style=f"width: {100 * wave.failed / planned:.1f}%")
    count = f"{wave.committed} of {wave.planned}" + (f", {wave.failed} failed" if wave.failed else "")
    name = "canary" if wave.number == 1 and wave.planned == 1 else f"wave {wave.number}"
    return tag(
        "div",
        tag("span", name, class_="name"),
        tag("div", done, failed, class_="bar"),
        tag("span", count, class_="count"),
        class_=f"wave {wave.state}",
    )


def _gate(gate: GateView) -> Markup:
    verdict = "open" if gate.passed is None else ("passed" if gate.passed else "failed")
    rule = gate.name.replace("_", " ")
    return tag("span", tag("b", rule), tag("small", gate.evidence), class_=f"gate {verdict}")


def _past(rollout: RolloutView) -> Markup:
    committed, planned = (sum(getattr(wave, field) for wave in rollout.waves) for field in ("committed", "planned"))
    text = f"version {rollout.version}: {committed} of {planned} committed, {rollout.state.replace('_', ' ')}"
    return tag("p", text, class_="past")
