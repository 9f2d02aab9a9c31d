"""The topic grammar: what is built can be parsed, and nothing else can."""

import pytest

from wire.errors import TopicError
from wire.topics import Chunk, Downward, Enrolment, Topics, Upward, UpwardChunk, valid_name

SHA = "ab" * 32


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        (Topics().up("p01-left", "reported"), Upward("p01-left", "reported")),
        (Topics().up_chunk("p01-left", SHA, 7), UpwardChunk("p01-left", SHA, 7)),
        (Topics().dn("p01-left", "desired"), Downward("p01-left", "desired")),
        (Topics().blob(SHA, 0), Chunk(SHA, 0)),
        (Topics().enrol("up", "p01-left"), Enrolment("up", "p01-left")),
    ],
)
def test_what_is_built_is_parsed(topic: str, parsed: object) -> None:
    """Every builder has its parser."""
    assert Topics().parse(topic) == parsed


@pytest.mark.parametrize(
    "topic",
    [
        "fl/2/up/a/reported",
        "fl/1/up/a/unknown",
        "fl/1/up/a/reported/more",
        "fl/1/up//reported",
        "fl/1/up/A/reported",
        "fl/1/up/../reported",
        "fl/1/blob/xyz/0",
        f"fl/1/blob/{SHA}/01",
        f"fl/1/blob/{SHA}/-1",
        "fl/1/enrol/sideways/a",
        "fl/1",
        "",
    ],
)
def test_anything_else_is_refused(topic: str) -> None:
    """A topic outside the grammar raises and names itself."""
    with pytest.raises(TopicError):
        Topics().parse(topic)


def test_wildcards_cannot_be_smuggled_into_a_built_topic() -> None:
    """A device name with a wildcard or separator never reaches a topic."""
    for name in ("+", "#", "a/b", "", "a" * 64):
        assert not valid_name(name)
        with pytest.raises(TopicError):
            Topics().up(name, "status")


def test_topics_have_at_most_seven_slashes() -> None:
    """Public brokers allow no more, even with the longest root."""
    assert Topics("a/b/c").up_chunk("dev", SHA, 1).count("/") <= 7
    with pytest.raises(TopicError):
        Topics("a/b/c/d")
