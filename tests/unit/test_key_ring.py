"""Keys that are to replace each other lie side by side; the root says which one signs."""

from pathlib import Path

import pytest

from wire.adapters.key_ring import key_files, newest_named
from wire.adapters.keys import load_or_create
from wire.errors import MalformedError


def test_a_first_key_is_made_and_its_public_half_written(tmp_path: Path) -> None:
    """For whoever makes the root."""
    (key,) = key_files(tmp_path, "online")()
    assert (tmp_path / "online.pub").read_text() == f"{key.public_hex}\n"
    assert load_or_create(tmp_path / "online.key").public_hex == key.public_hex


def test_a_key_is_found_as_soon_as_its_file_is_there_and_signs_when_it_is_named(tmp_path: Path) -> None:
    """Nobody restarts anything; of several that are named, the last one signs."""
    ring = key_files(tmp_path, "online")
    (old,) = ring()
    new = load_or_create(tmp_path / "online-2.key")
    named = (old.public_hex, new.public_hex)
    assert [key.public_hex for key in ring()] == list(named)
    for names, signer in ((named, new), (named[:1], old), (named[::-1], old)):
        found = newest_named(ring(), names)
        assert found is not None
        assert found.public_hex == signer.public_hex
    assert newest_named(ring(), ("a" * 64,)) is None


def test_the_file_of_a_replaced_key_can_be_removed(tmp_path: Path) -> None:
    """It is not made anew while there is another."""
    ring = key_files(tmp_path, "online")
    ring()
    new = load_or_create(tmp_path / "online-2.key")
    (tmp_path / "online.key").unlink()
    assert [key.public_hex for key in ring()] == [new.public_hex]
    assert not (tmp_path / "online.key").exists()


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    """And nothing of it is shown."""
    (tmp_path / "online-2.key").write_text("my other secret")
    with pytest.raises(MalformedError, match=r"online-2\.key") as refused:
        key_files(tmp_path, "online")
    assert "secret" not in str(refused.value)
