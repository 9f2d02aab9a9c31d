"""docs/pains.md names a test for every pain, and each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_pain_has_tests_that_exist() -> None:
    """By its name, wherever it lives."""
    defined = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"def (test_\w+)", file.read_text()))
    rows = [line for line in (ROOT / "docs" / "pains.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= defined, row
