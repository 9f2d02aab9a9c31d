"""Files for secrets: what keeps one from being made is said as it is, and nothing empty stays."""

from pathlib import Path

import pytest

from fleetloop.console.secret_files import reserved
from wire.errors import MalformedError


def test_a_directory_that_is_not_there_is_not_called_a_file_in_the_way(tmp_path: Path) -> None:
    """Nor the other way round; what was made before is gone in either case."""
    there = tmp_path / "there.json"
    there.write_text("a secret")
    for path, reason in ((tmp_path / "no" / "a.json", "No such file or directory$"), (there, "never written over")):
        with pytest.raises(MalformedError, match=reason), reserved([tmp_path / "first.json", path]):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
