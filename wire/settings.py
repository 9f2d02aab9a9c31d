"""One rule for how every program is configured: command line over environment over TOML file over default.

Settings are a frozen struct; each field's description becomes the help text. The struct's name for the environment is
`PREFIX_FIELD`, for the command line `--field`, for the file `field = ...`. Values are passed in: nothing is read here.
"""

import math
import re
import tomllib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from wire.errors import MalformedError

S = TypeVar("S", bound=msgspec.Struct)


def load(kind: type[S], toml: bytes, environ: Mapping[str, str], flags: Mapping[str, str | None], prefix: str) -> S:
    """Merge the three sources and check the result.

    Raises:
        MalformedError: names the option and its variable, or the file, and what was expected.
    """
    values = _from_toml(kind, toml)
    for field in msgspec.structs.fields(kind):
        variable = variable_of(field.name, prefix)
        if variable in environ:
            values[field.name] = _from_text(kind, field.name, environ[variable])
        text = flags.get(field.name)
        if text is not None:
            values[field.name] = _from_text(kind, field.name, text)
    try:
        settings = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        told = re.split(r"[.`\[]", where)[0]
        raise MalformedError(f"{option(told, prefix)}: {what}" if told else what) from error
    for name, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, float) and not math.isfinite(value):  # no timer ends after that
            raise MalformedError(f"{option(name, prefix)}: must be a finite number, not {value}")
    return settings


def option(name: str, prefix: str) -> str:
    """A setting as people give it: its option, and its variable of the environment."""
    return f"--{name.replace('_', '-')} ({variable_of(name, prefix)})"


def variable_of(name: str, prefix: str) -> str:
    """A setting in the environment."""
    return f"{prefix}_{name}".upper()


def describe(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Field name -> help text, from `Annotated[..., msgspec.Meta(description=...)]`."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _description(hints[field.name]) for field in msgspec.structs.fields(kind)}


def _from_toml(kind: type[msgspec.Struct], toml: bytes) -> dict[str, Any]:
    try:
        values = tomllib.loads(toml.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"configuration file: {error}") from error
    known = {field.name for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        names = ", ".join(sorted(known))
        raise MalformedError(f"configuration file: unknown setting {unknown[0]!r}; known are {names}")
    return values


def _from_text(kind: type[msgspec.Struct], name: str, text: str) -> object:
    hint = get_type_hints(kind)[name]
    if _is_sequence(hint):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _is_sequence(hint: object) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_sequence(part) for part in get_args(hint))
    return get_origin(hint) in (tuple, list)


def _description(hint: object) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""
