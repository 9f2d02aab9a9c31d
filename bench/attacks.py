"""The threat table as cases: each attack is stopped by its guard, and succeeds once that guard is taken away."""

import logging
import sys
import time
from typing import Annotated, Any

import msgspec

from bench.attack_cases.attack import Attack, Outcome
from bench.attack_cases.register import ATTACKS
from bench.result import Outcome as Proof
from bench.result import finish

LEAST = 40


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    only: Annotated[str, msgspec.Meta(description="only attacks whose name or row contains this")] = ""
    short: Annotated[bool, msgspec.Meta(description="only attacks that need neither processes nor brokers")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Try them all; 1 when one succeeded, or failed without its guard."""
    began = time.monotonic()
    logging.disable(logging.ERROR)  # devices under attack have a lot to say
    try:
        rows = [_row(attack) for attack in ATTACKS if _asked_for(attack, settings)]
    finally:
        logging.disable(logging.NOTSET)
    judged = [row for row in rows if not row["residual"]]
    figures = {
        "attacks": len(judged),
        "stopped": sum(row["stopped"] for row in judged),
        "guards_removed_detected": sum(row["succeeds_without"] for row in judged),
        "residual": [row["name"] for row in rows if row["residual"]],
        "threats": len({row["row"] for row in rows}),
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }
    enough = bool(settings.only) or len(judged) >= LEAST
    passed = enough and all(row["stopped"] and row["succeeds_without"] for row in judged)
    return finish(Proof(figures, passed), as_json=settings.json)


def _asked_for(attack: Attack, settings: Settings) -> bool:
    return settings.only in f"{attack.name} {attack.row}" and not (settings.short and attack.heavy)


def _row(attack: Attack) -> dict[str, Any]:
    began = time.monotonic()
    guarded = _try(attack)
    with attack.without():
        bare = _try(attack)
    stopped = not guarded.succeeded and attack.reason in guarded.reason
    for problem in _problems(attack, guarded, bare, stopped=stopped):
        print(f"{attack.name}: {problem}", file=sys.stderr)
    return {
        "name": attack.name,
        "row": attack.row,
        "guard": attack.guard,
        "stopped": stopped,
        "succeeds_without": bare.succeeded,
        "residual": attack.residual,
        "seconds": round(time.monotonic() - began, 2),
    }


def _try(attack: Attack) -> Outcome:
    try:
        return attack.attempt()
    except Exception as error:  # a case that cannot be played shows nothing: neither a guard nor its absence
        return Outcome(False, f"the case is broken: {type(error).__name__}: {error}")


def _problems(attack: Attack, guarded: Outcome, bare: Outcome, *, stopped: bool) -> list[str]:
    if attack.residual:
        return []
    problems = [] if stopped else [f"not stopped for {attack.reason!r}: {guarded}"]
    return problems if bare.succeeded else [*problems, f"does not succeed without its guard: {bare}"]
