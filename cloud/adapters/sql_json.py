"""How JSON columns are written, on either database: compact, and many times faster than by the standard library."""

from typing import Any

import msgspec


def written(value: Any) -> str:
    """The text of a value. What is no number becomes null, as no database takes it. Raises TypeError."""
    return msgspec.json.encode(value).decode()
