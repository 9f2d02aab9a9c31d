"""The contracts on `wire` name its modules one by one, so a new one is watched only once it is entered."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_module_of_wire_outside_its_adapters_is_watched() -> None:
    """In the contract of what is pure, or, with numpy, in that of the cores."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    watched = {name for one in contracts if one["type"] == "forbidden" for name in one["source_modules"]}
    modules = {
        f"wire.{path.stem}"
        for path in (ROOT / "wire").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert modules - {"wire.__init__", "wire.adapters"} <= watched
