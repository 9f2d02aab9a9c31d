"""One rule for how every program is configured: command line over environment over TOML file over default.

Settings are a frozen struct; each field's description becomes the help text. The struct's name for the environment is
`PREFIX_FIELD`, for the command line `--field`, for the file `field = ...`. What several programs have in `common` has
one variable for all of them, too, which counts where `PREFIX_FIELD` is not set. Values are passed in: nothing is read
here.
"""

import re
import tomllib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from wire.errors import MalformedError

S = TypeVar("S", bound=msgspec.Struct)

_COMMON = "common variable"
_NOTHING = msgspec.Meta(description="")


def common(description: str, variable: str) -> msgspec.Meta:
    """Describes a setting that several programs have, and which `variable` sets for all of them."""
    return msgspec.Meta(description=f"{description}; common to all programs: {variable}", extra={_COMMON: variable})


def load(kind: type[S], toml: bytes, environ: Mapping[str, str], flags: Mapping[str, str | None], prefix: str) -> S:
    """Merge the three sources and check the result.

    Raises:
        MalformedError: names the option and its variable, or the file, and what was expected.
    """
    values = _from_toml(kind, toml)
    for name, meta in _metas(kind).items():
        shared = (meta.extra or {}).get(_COMMON, "")
        texts = (flags.get(name), environ.get(variable_of(name, prefix)), environ.get(shared))
        text = next((one for one in texts if one is not None), None)
        if text is not None:
            values[name] = _from_text(kind, name, text)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        told = re.split(r"[.`\[]", where)[0]
        raise MalformedError(f"{option(told, prefix)}: {what}" if told else what) from error


def option(name: str, prefix: str) -> str:
    """A setting as people give it: its option, and its variable of the environment."""
    return f"--{name.replace('_', '-')} ({variable_of(name, prefix)})"


def variable_of(name: str, prefix: str) -> str:
    """A setting in the environment."""
    return f"{prefix}_{name}".upper()


def describe(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Field name -> help text, from `Annotated[..., msgspec.Meta(description=...)]`."""
    return {name: meta.description or "" for name, meta in _metas(kind).items()}


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


def _metas(kind: type[msgspec.Struct]) -> dict[str, msgspec.Meta]:
    """Field name -> what describes it."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _meta(hints[field.name]) for field in msgspec.structs.fields(kind)}


def _meta(hint: object) -> msgspec.Meta:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta
    return _NOTHING
