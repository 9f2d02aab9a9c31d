"""A log that its owner would otherwise fill the disk with."""

from pathlib import Path

from cloud.adapters.log_files import make_room


def test_a_log_is_put_aside_once_it_is_large(tmp_path: Path) -> None:
    """One generation is kept; a small log, and one that is not there yet, stay as they are."""
    log = tmp_path / "broker.log"
    make_room(log, 4)
    for line in ("one\n", "two\n", "three\n", "4"):
        make_room(log, 4)
        with log.open("a") as end:
            end.write(line)
    assert (log.read_text(), (tmp_path / "broker.log.1").read_text()) == ("4", "three\n")
    make_room(log, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"broker.log", "broker.log.1"}
    assert log.read_text() == "4"
