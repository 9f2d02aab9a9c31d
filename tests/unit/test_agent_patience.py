"""When a transfer asks again: by how long chunks take once they were asked for."""

from edge_agent.core.patience import FIRST_SILENCE_NS, Patience, Watch
from wire.assignment import TransferPolicy
from wire.ports import SECOND


def test_finding_out_whom_to_ask_is_not_how_slow_the_link_is() -> None:
    """Nobody retains the chunks: the first comes at the third question, quickly; a lost one is then missed soon."""
    watch, now_ns = Watch(Patience(stall_s=60.0), TransferPolicy(), 0), 0
    for silence_ns in (FIRST_SILENCE_NS, 2 * FIRST_SILENCE_NS):
        now_ns += silence_ns
        assert watch.turn(0, now_ns, link_up=True) == ""
        assert watch.silent()
        watch.asked()
    now_ns += SECOND // 10
    assert watch.turn(60_000, now_ns, link_up=True) == ""
    watch.asked()
    now_ns += SECOND
    assert watch.turn(0, now_ns, link_up=True) == ""
    assert watch.silent()


def test_a_slow_link_is_given_its_time() -> None:
    """A chunk that takes twenty seconds is not asked for again after one."""
    watch = Watch(Patience(stall_s=60.0), TransferPolicy(min_rate=1), 0)
    watch.asked()
    assert watch.turn(60_000, 20 * SECOND, link_up=True) == ""
    watch.asked()
    watch.turn(0, 40 * SECOND, link_up=True)
    assert not watch.silent()
