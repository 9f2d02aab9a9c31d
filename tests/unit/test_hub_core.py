"""The hub's pure decisions: identity, access, presence, the registry and the federated gate."""

import pytest

from cloud.core import federated_gate
from cloud.core.access import AGGREGATOR, DEVICE, covers, permitted
from cloud.core.federated_gate import DeviceResult, NonInferiority
from cloud.core.identity import Role, Scope, allowed
from cloud.core.presence import Presence, on_message, on_status
from cloud.core.registry import DECISIONS, SigningDecision, VersionState, why_not_rolled_out

SHA = "a" * 64


def result(device: str, before: float, after: float, arm: str = "left", examples: int = 10) -> DeviceResult:
    """What one device measured."""
    return DeviceResult(device, {"arm": arm}, examples, before, after)


class TestRoles:
    """What API keys may do."""

    def test_roles_do_not_leak_into_each_other(self) -> None:
        """An operator does not sign, a publisher does not operate, only an administrator makes keys."""
        assert not allowed(Role.OPERATOR, Scope.PUBLISH)
        assert not allowed(Role.PUBLISHER, Scope.OPERATE)
        assert not allowed(Role.VIEWER, Scope.OPERATE)
        assert [role for role in Role if allowed(role, Scope.ADMINISTER)] == [Role.ADMIN]


class TestAccess:
    """Topic patterns."""

    @pytest.mark.parametrize(
        ("pattern", "topic", "expected"),
        [
            ("dn/p01/#", "dn/p01/desired", True),
            ("dn/p01/#", "dn/p01/#", True),
            ("dn/p01/#", "dn/+/desired", False),
            ("dn/p01/#", "dn/#", False),
            ("blob/*/*", f"blob/{SHA}/0", True),
            ("blob/*/*", "blob/+/+", False),
            ("blob/*/*", "blob/#", False),
            ("up/+/status", "up/+/status", True),
            ("up/+/status", "up/#", False),
            ("up/+/status", "up/p01/status", True),
            ("up/+/status", "up/p01/status/x", False),
            ("#", "anything/at/all", True),
        ],
    )
    def test_a_pattern_covers_a_filter_only_as_a_whole(self, pattern: str, topic: str, expected: bool) -> None:
        """A wildcard in a filter never reaches beyond its pattern."""
        assert covers(pattern, topic) is expected

    def test_a_device_may_not_speak_for_another(self) -> None:
        """Its own name is in the pattern."""
        assert permitted(DEVICE.publish, "p01", "up/p01/reported")
        assert not permitted(DEVICE.publish, "p01", "up/p02/reported")
        assert not permitted(DEVICE.publish, "p01", "dn/p01/desired")

    def test_the_aggregator_may_not_assign_models(self) -> None:
        """It speaks on fed, want and blob, never on desired."""
        assert permitted(AGGREGATOR.publish, "aggregator", "dn/p01/fed")
        assert not permitted(AGGREGATOR.publish, "aggregator", "dn/p01/desired")


class TestPresence:
    """Wills may be late."""

    def test_a_late_will_of_an_earlier_boot_changes_nothing(self) -> None:
        """The device is back already."""
        now = Presence(True, 7, 100)
        assert on_status(now, online=False, boot=6, now_ns=200) == now
        assert on_status(now, online=False, boot=7, now_ns=200).online is False

    def test_any_message_brings_a_device_back(self) -> None:
        """It can only come from a living device."""
        assert on_message(Presence(False, 7, 100), 300) == Presence(True, 7, 300)


class TestRegistry:
    """Only what is signed rolls out, and a decision stays."""

    def test_only_released_versions_roll_out(self) -> None:
        """The others say why not."""
        assert why_not_rolled_out(VersionState.RELEASED, "", "") == ""
        assert "not signed" in why_not_rolled_out(VersionState.AWAITING_SIGNATURE, "", "")
        assert "too slow" in why_not_rolled_out(VersionState.REFUSED, "too slow", "")
        assert "retired: leaks" in why_not_rolled_out(VersionState.RELEASED, "", "leaks")

    def test_a_decision_cannot_be_turned_round(self) -> None:
        """Repeating it can."""
        assert (VersionState.RELEASED, SigningDecision.REFUSED) not in DECISIONS
        assert (VersionState.REFUSED, SigningDecision.SIGNED) not in DECISIONS
        assert DECISIONS[VersionState.RELEASED, SigningDecision.SIGNED] is VersionState.RELEASED


class TestFederatedGate:
    """Better for the fleet, and not at the cost of a group."""

    def test_an_improvement_passes(self) -> None:
        """With the figures of each group."""
        verdict = federated_gate.judge([result("a", 0.3, 0.7), result("b", 0.9, 0.88, "right")], None)
        assert verdict.passed
        assert verdict.groups[0].before == pytest.approx(0.6)

    def test_no_improvement_is_refused(self) -> None:
        """Equal is not better."""
        verdict = federated_gate.judge([result("a", 0.5, 0.5)], None)
        assert not verdict.passed
        assert "fleet mean accuracy went from 0.500 to 0.500" in verdict.reason

    def test_a_group_that_pays_for_the_others_stops_it(self) -> None:
        """The reason names the group."""
        guard = NonInferiority({"arm": "right"}, 0.10)
        verdict = federated_gate.judge([result("a", 0.2, 0.8), result("b", 0.9, 0.79, "right")], guard)
        assert not verdict.passed
        assert "arm=right" in verdict.reason

    def test_a_loss_within_the_margin_passes(self) -> None:
        """Exactly the margin is still allowed."""
        guard = NonInferiority({"arm": "right"}, 0.125)
        assert federated_gate.judge([result("a", 0.2, 0.8), result("b", 0.875, 0.75, "right")], guard).passed

    def test_a_guard_without_devices_is_not_satisfied(self) -> None:
        """Nobody measured is not the same as nothing lost."""
        assert not federated_gate.judge([result("a", 0.2, 0.8)], NonInferiority({"arm": "right"}, 0.1)).passed

    def test_devices_without_examples_say_nothing(self) -> None:
        """And a run that nobody measured is refused."""
        assert not federated_gate.judge([result("a", 0.2, 0.8, examples=0)], None).passed
