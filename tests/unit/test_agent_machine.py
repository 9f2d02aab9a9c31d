"""What a device says of itself: found without importing a runtime, corrected by a file."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.adapters.machine import Overrides, ThisMachine, read_overrides
from edge_agent.errors import SettingsError


def test_what_a_reduced_build_has_is_told_in_a_file(tmp_path: Path) -> None:
    """What the file does not name stays as it was found."""
    path = tmp_path / "capabilities.toml"
    path.write_text('max_opset = 17\noperators = ["Conv", "com.microsoft::QGemm"]\naccelerators = ["qnn"]\n')
    found, told = ThisMachine().capabilities(5), ThisMachine(read_overrides(str(path))).capabilities(5)
    assert (told.max_opset, told.operators) == (17, ("Conv", "com.microsoft::QGemm"))
    assert told.accelerators == ("qnn",)
    assert (told.engines, told.ram_bytes, told.disk_free_bytes) == (found.engines, found.ram_bytes, 5)
    assert found.operators is None
    assert read_overrides("") == Overrides()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("max_opset = 'x'", "Expected `int"), ("colour = 1", "colour"), ("=", "Invalid"), (None, "No such file")],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(text: str | None, reason: str, tmp_path: Path) -> None:
    """Rather than claiming what the device may not have."""
    path = tmp_path / "capabilities.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=reason) as failure:
        read_overrides(str(path))
    assert str(path) in str(failure.value)


def test_no_runtime_is_imported_to_find_out() -> None:
    """The daemon has neither numpy nor onnxruntime before there is a model."""
    code = (
        "import sys\n"
        "from edge_agent.adapters.machine import ThisMachine\n"
        "assert ThisMachine().capabilities(1).engines\n"
        "assert not {'numpy', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
