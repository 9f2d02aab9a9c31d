"""The language of gates: comparisons of facts, joined by `and`, checked against the catalogue before a plan is taken.

    commit_rate >= 95 %
    latency_ms <= 1.2 * previous(latency_ms) and latency_ms <= 40 ms
    accuracy >= control(accuracy) - 3 points

The right-hand side is linear: a literal, or what the same device measured before (`previous`) or devices that still
wait (`control`), times a factor, plus an offset. Numbers carry units where the fact has one.
"""

import functools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from cloud.core.gates.catalogue import CATALOGUE, Fact, Unit

MAX_LENGTH: Final = 500
MAX_NUMBER: Final = 1e9

_GRAMMAR: Final = r"""
    start: comparison ("and" comparison)*
    comparison: NAME RELATION sum
    ?sum: product
        | sum "+" product  -> add
        | sum "-" product  -> subtract
    ?product: atom
        | product "*" atom -> multiply
    ?atom: NUMBER [UNIT]   -> number
        | NAME "(" NAME ")" -> reference
        | "(" sum ")"
    RELATION: ">=" | "<="
    UNIT: "%" | "points" | "point" | "ms" | "MB" | "s"
    NAME: /(?!and\b)[a-z][a-z_0-9]*/
    NUMBER: /\d+(\.\d+)?/
    %ignore /[ \t\n]+/
"""
_PARSER: Final = Lark(_GRAMMAR, parser="lalr", maybe_placeholders=True)
_UNITS: Final[dict[str, tuple[Unit, float]]] = {
    "%": (Unit.SHARE, 0.01),
    "point": (Unit.SHARE, 0.01),
    "points": (Unit.SHARE, 0.01),
    "ms": (Unit.MILLISECONDS, 1.0),
    "s": (Unit.MILLISECONDS, 1000.0),
    "MB": (Unit.MEGABYTES, 1.0),
}


class GateError(Exception):
    """An expression that is no gate. `column` counts from 1."""

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(f"column {column}: {problem}")
        self.column = column


class Against(StrEnum):
    """What the fact is compared with."""

    LITERAL = "literal"
    PREVIOUS = "previous"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`fact` at least (or at most) factor x reference + offset; a literal has the factor 0."""

    fact: Fact
    at_least: bool
    against: Against
    factor: float
    offset: float
    text: str

    @property
    def relative(self) -> bool:
        """Is it about a ratio? Then devices are compared by the logarithm, so that slow ones do not outweigh others."""
        return self.against is not Against.LITERAL and self.offset == 0 and self.fact.unit is not Unit.SHARE


@dataclass(frozen=True, slots=True)
class _Linear:
    """A right-hand side on the way: factor x reference + offset. `unit` None: a bare number."""

    column: int
    offset: float
    unit: Unit | None
    factor: float = 0.0
    against: Against = Against.LITERAL
    fact: str = ""


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> tuple[Comparison, ...]:
    """The comparisons of an expression, all of which must hold. Raises GateError with the position of the mistake."""
    if len(text) > MAX_LENGTH:
        raise GateError(MAX_LENGTH, f"an expression may have {MAX_LENGTH} characters")
    try:
        tree = _PARSER.parse(text)
        found: tuple[Comparison, ...] = _Check(text).transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, GateError):
            raise error.orig_exc from None
        raise
    except UnexpectedInput as error:
        raise _syntax(text, error) from None
    return found


def _syntax(text: str, error: UnexpectedInput) -> GateError:
    """What stands where something else should."""
    position = error.pos_in_stream or 0
    wanted = error.accepts if isinstance(error, UnexpectedToken) else getattr(error, "allowed", None)
    names = ", ".join(sorted(_SAID.get(name, name) for name in wanted or ())) or "a comparison"
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    if at_end:
        return GateError(len(text) + 1, f"it ends too early; expected {names}")
    seen = error.char if isinstance(error, UnexpectedCharacters) else text[position : position + 1]
    return GateError(position + 1, f"{seen!r} is not expected here; expected {names}")


_SAID: Final = {
    "NAME": "a fact",
    "RELATION": "'>=' or '<='",
    "NUMBER": "a number",
    "UNIT": "a unit (%, points, ms, s, MB)",
    "LPAR": "'('",
    "RPAR": "')'",
    "PLUS": "'+'",
    "MINUS": "'-'",
    "STAR": "'*'",
    "AND": "'and'",
    "$END": "the end",
}


class _Check(Transformer[Token, tuple[Comparison, ...]]):
    """Types: what may be added, multiplied and compared. Method names are those of the grammar's rules."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, children: list[Comparison]) -> tuple[Comparison, ...]:
        """All comparisons."""
        return tuple(children)

    def number(self, children: list[Token | None]) -> _Linear:
        """A literal, with its unit if it has one."""
        value, unit = children
        assert value is not None
        number = float(value)
        if number > MAX_NUMBER:
            raise GateError(_column(value), f"{value} is too large")
        if unit is None:
            return _Linear(_column(value), number, None)
        kind, scale = _UNITS[unit]
        return _Linear(_column(value), number * scale, kind)

    def reference(self, children: list[Token]) -> _Linear:
        """`previous(fact)` or `control(fact)`."""
        kind, name = children
        if kind not in (Against.PREVIOUS, Against.CONTROL):
            raise GateError(_column(kind), f"{kind!s} is no reference; there are previous(...) and control(...)")
        fact = _fact(name)
        if not fact.compared:
            raise GateError(_column(name), f"{fact.name} has no {kind!s}: only the rollout itself measures it")
        return _Linear(_column(kind), 0.0, fact.unit, 1.0, Against(str(kind)), fact.name)

    def add(self, children: list[_Linear]) -> _Linear:
        """Like with like."""
        return _sum(children[0], children[1], 1)

    def subtract(self, children: list[_Linear]) -> _Linear:
        """Like with like."""
        return _sum(children[0], children[1], -1)

    def multiply(self, children: list[_Linear]) -> _Linear:
        """One side is a bare number."""
        left, right = children
        number, other = (left, right) if left.unit is None else (right, left)
        if number.unit is not None:
            raise GateError(right.column, "one side of '*' must be a bare number")
        by = number.offset
        return _Linear(left.column, other.offset * by, other.unit, other.factor * by, other.against, other.fact)

    def comparison(self, children: list[Token | _Linear]) -> Comparison:
        """A fact against something of its own kind."""
        name, relation, right = children
        assert isinstance(name, Token)
        assert isinstance(right, _Linear)
        fact = _fact(name)
        if right.fact not in ("", fact.name):
            raise GateError(right.column, f"{fact.name} must be compared with itself, not with {right.fact}")
        if right.unit not in (None, fact.unit) or (right.unit is None and fact.unit is not Unit.SHARE):
            told = right.unit or "a bare number"
            raise GateError(right.column, f"{fact.name} is in {fact.unit}, but this is {told}")
        if right.against is Against.LITERAL and fact.unit is Unit.SHARE and not 0 <= right.offset <= 1:
            raise GateError(right.column, f"a share lies between 0 and 100 %, not at {right.offset:g}")
        if not math.isfinite(right.offset) or (right.against is not Against.LITERAL and right.factor <= 0):
            raise GateError(right.column, "the reference must have a positive factor")
        text = _shown(fact, str(relation), right)
        return Comparison(fact, relation == ">=", right.against, right.factor, right.offset, text)


def _sum(left: _Linear, right: _Linear, sign: int) -> _Linear:
    if left.fact and right.fact:
        raise GateError(right.column, "there may be one reference in a comparison")
    units = {one.unit for one in (left, right)} - {None}
    if len(units) > 1 or (None in (left.unit, right.unit) and units - {Unit.SHARE}):
        names = " and ".join(one.unit or "a bare number" for one in (left, right))
        raise GateError(right.column, f"{names} do not add up")
    known = left if left.fact else right
    factor = left.factor + sign * right.factor
    offset = left.offset + sign * right.offset
    return _Linear(left.column, offset, left.unit or right.unit, factor, known.against, known.fact)


def _fact(name: Token) -> Fact:
    fact = CATALOGUE.get(str(name))
    if fact is None:
        raise GateError(_column(name), f"there is no fact {str(name)!r}; there are {', '.join(CATALOGUE)}")
    return fact


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _shown(fact: Fact, relation: str, right: _Linear) -> str:
    """The comparison in normal form, as people read it."""
    points = fact.unit is Unit.SHARE and right.fact != ""
    number = f"{100 * abs(right.offset):.4g} points" if points else figure(fact, abs(right.offset))
    if right.against is Against.LITERAL:
        return f"{fact.name} {relation} {number}"
    factor = "" if right.factor == 1 else f"{right.factor:g} * "
    sign = "+" if right.offset > 0 else "-"
    offset = "" if right.offset == 0 else f" {sign} {number}"
    return f"{fact.name} {relation} {factor}{right.against}({fact.name}){offset}"


def figure(fact: Fact, value: float) -> str:
    """A value of `fact` for people."""
    if fact.unit is Unit.SHARE:
        return f"{100 * value:.4g} %"
    return f"{value:.4g} {fact.unit}"
