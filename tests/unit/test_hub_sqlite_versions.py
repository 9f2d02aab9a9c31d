"""Which SQLite can corrupt a database that several connections write to."""

import pytest

from cloud.adapters.sql_store import has_wal_reset_defect


@pytest.mark.parametrize(
    ("version", "defective"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_wal_reset_defect_is_known_by_its_versions(version: tuple[int, int, int], defective: bool) -> None:
    """As its release notes tell, with the two lines that got the correction later."""
    assert has_wal_reset_defect(version) is defective
