"""Which devices are meant: a selector over labels and what is known of a device. Text in, a condition out.

    arm=left, role in (learner, tester), site!=lab, spare, !broken, @online=true, @version=watch/3

Terms are joined by "and". `name` asks that a label is there, `!name` that it is not; `!=` and `notin` are true for
devices without the label, too. Names that begin with @ are facts: @name, @online, @federated, @held ("true", "false"),
@agent, @model and @version (MODEL/NUMBER), the last two true if any slot runs it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_LENGTH: Final = 1000
MAX_TERMS: Final = 32
FLAGS: Final = frozenset({"@online", "@federated", "@held"})
"""Facts that are "true" or "false" of every device, so that a selector has to say which is meant."""
FACTS: Final = frozenset({"@name", "@online", "@federated", "@held", "@agent", "@model", "@version"})
_NAME: Final = r"@?[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"
_VALUE: Final = r"[A-Za-z0-9._/+-]{0,63}"
_TERM: Final = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<no>{_NAME})"
    rf"|(?P<name>{_NAME})\s*(?:(?P<sign>==|=|!=)\s*(?P<value>{_VALUE})"
    rf"|\s(?P<word>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?P<end>,|$)"
)


class SelectorError(Exception):
    """The selector cannot be understood; the message says where."""


class Operator(StrEnum):
    """What a term asks."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on a label or a fact."""

    name: str
    operator: Operator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms that must all hold; none = every device."""

    terms: tuple[Term, ...] = ()


EVERYTHING: Final = Selector()


def parse(text: str) -> Selector:
    """Raises SelectorError."""
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"selector: {len(text)} characters; {MAX_LENGTH} are allowed")
    terms, at = [], 0
    while text[at:].strip():
        found = _TERM.match(text, at)
        if found is None or (found["end"] == "," and not text[found.end() :].strip()):
            raise SelectorError(
                f"selector, character {at + 1}: {text[at : at + 40].strip()!r} is no term; terms are like "
                "arm=left, role in (a, b), site!=lab, spare, !broken"
            )
        terms.append(_checked(_term(found)))
        at = found.end()
    if len(terms) > MAX_TERMS:
        raise SelectorError(f"selector: {len(terms)} terms; {MAX_TERMS} are allowed")
    return Selector(tuple(terms))


def equal(pairs: Mapping[str, str]) -> Selector:
    """All of these labels and facts have exactly these values. Raises SelectorError for an unknown fact."""
    terms = (Term(name, Operator.IN, (value,)) for name, value in sorted(pairs.items()))
    return Selector(tuple(_checked(term) for term in terms))


def matches(selector: Selector, attributes: Mapping[str, Collection[str]]) -> bool:
    """Do the attributes (labels and facts, each with its values) fulfil every term?"""
    return all(_holds(term, attributes.get(term.name, ())) for term in selector.terms)


def _holds(term: Term, values: Collection[str]) -> bool:
    match term.operator:
        case Operator.IN:
            return any(value in term.values for value in values)
        case Operator.NOT_IN:
            return not any(value in term.values for value in values)
        case Operator.EXISTS:
            return bool(values)
        case Operator.ABSENT:
            return not values


def _term(found: re.Match[str]) -> Term:
    if found["absent"]:
        return Term(found["no"], Operator.ABSENT)
    name = found["name"]
    if found["word"]:
        values = tuple(one.strip() for one in found["values"].split(","))
        wrong = next((one for one in values if not re.fullmatch(_VALUE, one)), None)
        if wrong is not None:
            raise SelectorError(f"selector, character {found.start('values') + 1}: {wrong!r} cannot be a value")
        return Term(name, Operator.IN if found["word"] == "in" else Operator.NOT_IN, values)
    if found["sign"]:
        return Term(name, Operator.NOT_IN if found["sign"] == "!=" else Operator.IN, (found["value"],))
    return Term(name, Operator.EXISTS)


def _checked(term: Term) -> Term:
    """What could never be meant is refused, so that it does not quietly choose nobody or everybody."""
    if term.name.startswith("@") and term.name not in FACTS:
        raise SelectorError(f"selector: there is no fact {term.name!r}, only {', '.join(sorted(FACTS))}")
    if term.name in FLAGS and (not term.values or not {"true", "false"}.issuperset(term.values)):
        raise SelectorError(f"selector: {term.name} is true or false: say {term.name}=true")
    return term
