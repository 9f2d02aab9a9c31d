"""YAML with its places: the values, and the line of every field, so that a mistake can be pointed at.

Plain words are read as YAML 1.2 does: only true and false are booleans, and 22:30 is no number.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import yaml

from simulator.durations import PATTERN
from wire.errors import MalformedError

T = TypeVar("T")

Path = tuple[str | int, ...]
"""Where something stands: ("faults", 2, "at")."""
MAX_BYTES = 1 << 20
MAX_FIELDS = 100_000
"""Every alias counts as often as it stands for something: a few lines of aliases of aliases are millions of fields."""
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_SAID = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`(?P<where>\$[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("merge", r"<<", "<"),
):
    letters = ["", *_first] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), letters)


class Places:
    """The lines of a document. Aliases and merges keep the line of what they stand for."""

    def __init__(self, root: yaml.Node) -> None:
        self._lines: dict[Path, int] = {}
        self._note((), root, root.start_mark.line + 1)

    def line(self, path: Path) -> int:
        """The line of the field, or of what it would be in."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _note(self, path: Path, node: yaml.Node, line: int) -> None:
        self._lines[path] = line
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._note((*path, str(key.value)), value, key.start_mark.line + 1)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._note((*path, index), item, item.start_mark.line + 1)


class _Looked:
    """Looks at every node once, before anything is built of it. Raises MarkedYAMLError: a field is there twice, an
    alias stands for what it is a part of, or aliases make more of the document than anybody meant."""

    def __init__(self) -> None:
        self._fields: dict[int, int | None] = {}
        """Node -> how many fields it stands for; None while its parts are looked at."""

    def at(self, node: yaml.Node, path: Path) -> int:
        """How many fields it stands for."""
        if id(node) in self._fields:
            known = self._fields[id(node)]
            if known is None:
                raise _marked(node, f"{said(path)}: an alias of what it is in")
            return known
        self._fields[id(node)] = None
        fields = 1 + sum(self.at(part, where) for where, part in _parts(node, path))
        if fields > MAX_FIELDS:
            raise _marked(node, f"{said(path)}: with its aliases it has more than {MAX_FIELDS} fields")
        self._fields[id(node)] = fields
        return fields


def _parts(node: yaml.Node, path: Path) -> Iterator[tuple[Path, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise _marked(key, f"{said((*path, name))}: it is there twice")
            seen.add(name)
            yield (*path, name), value
    elif isinstance(node, yaml.SequenceNode):
        yield from (((*path, index), item) for index, item in enumerate(node.value))


def _marked(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def load(text: bytes, name: str) -> tuple[Any, Places]:
    """Plain values and their places. Raises MalformedError with file and line."""
    if len(text) > MAX_BYTES:
        raise MalformedError(f"{name}: {len(text)} bytes; a file has at most {MAX_BYTES}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise MalformedError(f"{name}: the file is empty")
        _Looked().at(node, ())
        return loader.construct_document(node), Places(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MalformedError(f"{name}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise MalformedError(f"{name}: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise MalformedError(f"{name}: it is nested too deeply") from error
    except ValueError as error:
        raise MalformedError(f"{name}: a number is too long") from error


def convert(values: Any, kind: type[T], name: str, places: Places, at: Path = ()) -> T:
    """What stands at this place of the file, as a `kind`. Raises MalformedError with file, line and field."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        found = _SAID.match(str(error))
        assert found is not None
        path, what = (*at, *path_of(found["where"] or "$")), found["what"]
        unknown = _FIELD.match(what)
        if unknown is not None:
            raise malformed(name, places, (*path, unknown["name"]), "there is no such field") from error
        if PATTERN in what.replace("\\\\", "\\"):
            what = "a span of time is wanted, like 90s, 15m or 6h"
        raise malformed(name, places, path, what) from error


def malformed(name: str, places: Places, path: Path, what: str) -> MalformedError:
    """What is wrong with a field, said with its line."""
    return MalformedError(f"{name}:{places.line(path)}: {said(path)}: {what}")


def path_of(text: str) -> Path:
    """`$.faults[2].at` as a path; what stands for "any entry" ends it."""
    steps = _STEP.finditer(text.removeprefix("$").partition("[...]")[0])
    return tuple(step[1] if step[1] is not None else int(step[2]) for step in steps)


def said(path: Path) -> str:
    """A path for people: faults[2].at."""
    text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return text.removeprefix(".") or "the file"
