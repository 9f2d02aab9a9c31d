"""Selectors mean the same in pure code and in the database, and whatever text comes is understood or refused."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select

from cloud.core.selector import MAX_TERMS, Operator, Selector, SelectorError, Term, equal, matches, parse
from cloud.service.selecting import condition
from cloud.tables import devices, slots
from simulator.fakes.store import MemoryStore

NAMES, VALUES = ("arm", "role", "a.b/c"), ("left", "right", "", "1")
LABELS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))
FACT_VALUES = {
    "@online": ("true", "false", "perhaps"),
    "@held": ("true", "false"),
    "@federated": ("true",),
    "@agent": ("1.0", "2.0"),
    "@name": ("d0", "d1"),
    "@model": ("watch", "press"),
    "@version": ("watch/1", "watch/2", "press/1", "nonsense", "watch/99999999999999999999"),
}


@st.composite
def terms(draw: st.DrawFn) -> Term:
    """Any term over the labels and facts above."""
    name = draw(st.sampled_from((*NAMES, *FACT_VALUES)))
    operator = draw(st.sampled_from(Operator))
    if operator in (Operator.EXISTS, Operator.ABSENT):
        return Term(name, operator)
    values = st.sampled_from(FACT_VALUES.get(name, VALUES))
    return Term(name, operator, tuple(draw(st.lists(values, min_size=1, max_size=3))))


@st.composite
def fleets(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few devices."""
    runs = st.one_of(st.none(), st.tuples(st.sampled_from(("watch", "press")), st.sampled_from((1, 2))))
    return [
        {
            "name": f"d{index}",
            "labels": draw(LABELS),
            "online": draw(st.booleans()),
            "federated": draw(st.booleans()),
            "held_ns": draw(st.sampled_from((None, 5))),
            "agent": draw(st.sampled_from(("", "1.0", "2.0"))),
            "runs": draw(runs),
        }
        for index in range(3)
    ]


@pytest.fixture(scope="module")
def store() -> Iterator[MemoryStore]:
    """One database for all examples."""
    one = MemoryStore()
    yield one
    one.close()


def attributes(device: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """What the pure rule is told of a device."""
    known = {name: (value,) for name, value in device["labels"].items()}
    known |= {"@name": (device["name"],), "@agent": (device["agent"],) if device["agent"] else ()}
    for fact, column in (("@online", "online"), ("@federated", "federated")):
        known[fact] = (str(device[column]).lower(),)
    known["@held"] = (str(device["held_ns"] is not None).lower(),)
    if device["runs"] is not None:
        model, version = device["runs"]
        known |= {"@model": (model,), "@version": (f"{model}/{version}",)}
    return known


@settings(deadline=None, max_examples=150)
@given(fleet=fleets(), chosen=st.lists(terms(), max_size=3))
def test_the_database_chooses_what_the_rule_chooses(
    store: MemoryStore, fleet: list[dict[str, Any]], chosen: list[Term]
) -> None:
    """For any fleet and any selector."""
    selector = Selector(tuple(chosen))

    def look(conn: Connection) -> set[str]:
        conn.execute(delete(slots))
        conn.execute(delete(devices))
        for device in fleet:
            row = {name: value for name, value in device.items() if name != "runs"}
            conn.execute(insert(devices).values(**row, claimed_ns=1))
            if device["runs"] is not None:
                model, version = device["runs"]
                slot = {"device": device["name"], "slot": "main", "phase": "committed", "execution": "", "reason": ""}
                conn.execute(insert(slots).values(**slot, model=model, version=version))
        return set(conn.execute(select(devices.c.name).where(condition(selector))).scalars())

    assert store.now(look) == {device["name"] for device in fleet if matches(selector, attributes(device))}


@settings(deadline=None)
@given(st.text(alphabet="arm=left!,() in notin@", max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Never another error."""
    with contextlib.suppress(SelectorError):
        assert len(parse(text).terms) <= MAX_TERMS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("arm=left", (Term("arm", Operator.IN, ("left",)),)),
        (" arm == left , !broken ", (Term("arm", Operator.IN, ("left",)), Term("broken", Operator.ABSENT))),
        ("site!=lab,spare", (Term("site", Operator.NOT_IN, ("lab",)), Term("spare", Operator.EXISTS))),
        ("role in (a, b)", (Term("role", Operator.IN, ("a", "b")),)),
        ("role notin (a)", (Term("role", Operator.NOT_IN, ("a",)),)),
        ("inner=1", (Term("inner", Operator.IN, ("1",)),)),
        ("@version=watch/3", (Term("@version", Operator.IN, ("watch/3",)),)),
    ],
)
def test_selectors_are_read(text: str, expected: tuple[Term, ...]) -> None:
    """Every form."""
    assert parse(text).terms == expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("arm=left,,role=x", "character 10"),
        ("arm=left,", "character 1"),
        ("arm left", "character 1"),
        ("role in a", "character 1"),
        ("a=1, role in (x, 'y')", "character 15"),
        ("@colour=red", "no fact '@colour'"),
        ("@held", "say @held=true"),
        ("!@held", "say @held=true"),
        ("@online=yes", "say @online=true"),
        ('a="; DROP TABLE devices', "character 1"),
        ("a," * 600, "1000 are allowed"),
        ("a," * 40 + "a", "32 are allowed"),
    ],
)
def test_a_mistake_is_refused_with_its_place(text: str, where: str) -> None:
    """The person who wrote it finds it."""
    with pytest.raises(SelectorError, match=where):
        parse(text)


def test_pairs_are_a_selector_too() -> None:
    """What rollouts were ordered by before there was anything else."""
    assert equal({"arm": "left"}) == parse("arm=left")
