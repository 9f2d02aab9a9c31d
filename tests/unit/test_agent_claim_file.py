"""Which claim the daemon starts with: the given one, or its own once that was used and removed."""

from pathlib import Path

import pytest

from edge_agent.errors import EnrolmentError
from edge_agent.main import given_claim
from edge_agent.service.claims import CLAIM
from edge_agent.settings import Settings


def settings(root: Path, claim: str) -> Settings:
    """Settings of a device under `root`."""
    return Settings(data_dir=str(root), claim=claim)


def test_a_claim_that_was_used_and_removed_is_not_missed(tmp_path: Path) -> None:
    """The token in it is spent, so removing the file is right; the unit file still names it."""
    own = tmp_path / CLAIM
    own.parent.mkdir()
    own.write_text("{}")
    assert given_claim(settings(tmp_path, str(tmp_path / "claim.json"))) is None
    assert given_claim(settings(tmp_path, "")) is None


def test_without_any_claim_the_missing_file_is_named(tmp_path: Path) -> None:
    """A new device cannot start without one."""
    with pytest.raises(FileNotFoundError, match=r"claim\.json"):
        given_claim(settings(tmp_path, str(tmp_path / "claim.json")))


def test_a_file_that_is_no_claim_is_refused(tmp_path: Path) -> None:
    """Also when the device has one of its own: the operator meant something by giving it."""
    given = tmp_path / "claim.json"
    given.write_text("not json")
    with pytest.raises(EnrolmentError, match=r"claim\.json is not a claim file"):
        given_claim(settings(tmp_path, str(given)))
