"""Services run unchanged in virtual time, so they may not reach for a thread, a file or the loop's own clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(
    path
    for folder in ("cloud/service", "edge_agent/service", "cloud/core", "edge_agent/core")
    for path in (ROOT / folder).rglob("*.py")
)
BANNED_NAMES = {"open", "input", "print"}
BANNED_CALLS = {
    "to_thread",
    "run_in_executor",
    "as_completed",
    "call_at",
    "call_later",
    "get_event_loop",
    "new_event_loop",
}


def violations(source: str) -> Iterator[str]:
    """Calls in `source` that a service may not make; what a port named clock offers is allowed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and banned(node.func):
            yield f"line {node.lineno}: {ast.unparse(node.func)}()"


def banned(function: ast.expr) -> bool:
    """May a service not call this?"""
    match function:
        case ast.Name(id=name):
            return name in BANNED_NAMES | BANNED_CALLS
        case ast.Attribute(value=owner, attr=name):
            on_clock = ast.unparse(owner).endswith("clock")
            return not on_clock and (name in BANNED_CALLS or ast.unparse(function) == "asyncio.sleep")
        case _:
            return False


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: str(path.relative_to(ROOT)))
def test_service_goes_through_ports(path: Path) -> None:
    """No banned call in this file."""
    assert list(violations(path.read_text())) == []


def test_the_lint_can_fail() -> None:
    """Each kind of violation is seen."""
    assert (
        len(
            list(
                violations("asyncio.sleep(1)\nopen('x')\nloop.run_in_executor(None, f)\nself._clock.call_later(1, f)\n")
            )
        )
        == 3
    )


def test_there_is_something_to_check() -> None:
    """The folders are where this test thinks they are."""
    assert len(SERVICES) > 10
