"""What mosquitto is told, as text: rules that come from the hub's own access patterns."""

from pathlib import Path

import pytest

from cloud.adapters.mosquitto_files import access_rules, enrolment_rules, password_line

IDENTITY = Path(__file__).parents[2] / "docs" / "identity.md"


def test_the_rules_in_the_documentation_are_those_that_the_hub_writes() -> None:
    """An operator of another broker copies them from there."""
    text = IDENTITY.read_text()
    assert f"```\n{access_rules('fl/1', ())}```" in text
    assert f"```\n{enrolment_rules('fl/1')}```" in text


def test_denials_come_first_and_name_everybody_once() -> None:
    """mosquitto lets a denial of the user win over a pattern."""
    rules = access_rules("a/b", {"p02", "p01"})
    assert rules.startswith("user p01\ntopic deny #\n\nuser p02\ntopic deny #\n\nuser hub\n")
    assert "pattern write a/b/up/%u/#\n" in rules


@pytest.mark.parametrize("password", ["correct horse", "p\u00e4ss:word"])
def test_the_password_is_kept_as_a_salted_digest(password: str) -> None:
    """Twice the same password, two lines; none of them holds it."""
    one, other = password_line(password), password_line(password)
    assert one != other
    assert one.startswith("enrol:$7$101$")
    assert password not in one.removeprefix("enrol:")
