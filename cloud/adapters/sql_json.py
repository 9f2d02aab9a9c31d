"""How JSON columns are written and read, on either database: many times faster than by the standard library."""

from typing import Any

import msgspec


def written(value: Any) -> str:
    """The text of a value. What is no number becomes null, as no database takes it. Raises TypeError."""
    return msgspec.json.encode(value).decode()


JSON = {"json_serializer": written, "json_deserializer": msgspec.json.decode}
"""For `create_engine`."""
