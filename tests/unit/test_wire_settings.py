"""Configuration: flag over environment over file over default, and mistakes are named."""

from typing import Annotated

import msgspec
import pytest

from wire.errors import MalformedError
from wire.settings import common, describe, load


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """An example."""

    port: Annotated[int, msgspec.Meta(description="where to listen", ge=1)] = 80
    names: tuple[str, ...] = ()
    fast: bool = False


def test_precedence() -> None:
    """Each source overrides the next weaker one."""
    assert load(Settings, b"", {}, {}, "X").port == 80
    assert load(Settings, b"port = 81", {}, {}, "X").port == 81
    assert load(Settings, b"port = 81", {"X_PORT": "82"}, {}, "X").port == 82
    assert load(Settings, b"port = 81", {"X_PORT": "82"}, {"port": "83"}, "X").port == 83


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A program that shares a setting with others."""

    url: Annotated[str, common("where the hub is", "ALL_URL")] = "here"


def test_a_variable_for_all_programs_counts_where_the_programs_own_is_not_set() -> None:
    """Own before common, both before the file; the help names the common one, and an own empty one is said, too."""
    assert load(Guest, b"url = 'file'", {"ALL_URL": "common"}, {}, "X").url == "common"
    assert load(Guest, b"", {"ALL_URL": "common", "X_URL": "own"}, {}, "X").url == "own"
    assert load(Guest, b"", {"ALL_URL": "common", "X_URL": ""}, {}, "X").url == ""
    assert load(Guest, b"", {"ALL_URL": "common", "X_URL": "own"}, {"url": "flag"}, "X").url == "flag"
    assert describe(Guest) == {"url": "where the hub is; common to all programs: ALL_URL"}


def test_text_becomes_lists_and_booleans() -> None:
    """Environment and flags are text; lists are separated by commas."""
    settings = load(Settings, b"", {"X_NAMES": "a, b", "X_FAST": "true"}, {}, "X")
    assert settings == Settings(names=("a", "b"), fast=True)


@pytest.mark.parametrize(
    ("toml", "environ", "named"),
    [
        (b"prot = 1", {}, "prot"),
        (b"port = 0", {}, r"^--port \(X_PORT\): Expected `int` >= 1$"),
        (b"port = ", {}, "configuration file"),
        (b"", {"X_PORT": "many"}, r"^--port \(X_PORT\): Expected `int`"),
        (b"names = [1]", {}, r"^--names \(X_NAMES\): Expected `str`"),
    ],
)
def test_mistakes_are_named(toml: bytes, environ: dict[str, str], named: str) -> None:
    """Unknown keys, bad values and bad TOML say what and where: the option, and its variable."""
    with pytest.raises(MalformedError, match=named):
        load(Settings, toml, environ, {}, "X")


def test_help_text_comes_from_the_struct() -> None:
    """A field without a description has an empty one."""
    assert describe(Settings) == {"port": "where to listen", "names": "", "fast": ""}
