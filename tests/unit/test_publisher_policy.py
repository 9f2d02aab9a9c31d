"""The publisher's rules: each can refuse by itself, says why, and only the policy's own may be waived by a person."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from cloud.publisher.core import Policy, Signed, Verdict, judge
from cloud.publisher.request import SigningRequest
from tests.samples.release_builders import MODEL, PARENT, SMALL, gate_report, release, variant
from wire.codec import encode
from wire.release import Learning, Release, object_ref

PASSED = {"passed": True, "reason": "", "groups": [{"name": "fleet", "passed": True, "text": "better"}]}


def request(document: Release | None = None, **report: Any) -> SigningRequest:
    """A signing request as it comes from the hub."""
    document = document or release()
    report = gate_report(**report)
    payload = encode(document)
    return SigningRequest(id="r1", model=MODEL, version=document.version, payload=payload, gate_report=report)


def judged(document: Release | None = None, last: Signed | None = None, **report: Any) -> Verdict:
    """The default policy's verdict."""
    return judge(request(document, **report), last, Policy())


def only(verdict: Verdict) -> str:
    """The single reason of either kind."""
    (reason,) = verdict.integrity + verdict.merit
    return reason


def candidates(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's candidates with fields of some replaced."""
    return [{**candidate, **changed.get(candidate["name"], {})} for candidate in gate_report()["candidates"]]


def test_a_sound_release_has_nothing_against_it() -> None:
    """The builders' release passes every rule, so each test below shows one rule alone."""
    assert judged() == Verdict(counter=1)


def test_payload_that_is_no_release_is_refused() -> None:
    """What cannot be read is never signed, and the field is named."""
    broken = msgspec.structs.replace(request(), payload=b'{"schema":1,"model":"watch","surprise":true}')
    assert "surprise" in only(judge(broken, None, Policy()))


def test_report_that_lacks_a_field_is_refused() -> None:
    """No report, no signature."""
    without = msgspec.structs.replace(request(), gate_report={"kind": "train"})
    assert "gate report" in only(judge(without, None, Policy()))


def test_release_of_another_version_is_refused() -> None:
    """The request's label must be the release's own."""
    other = msgspec.structs.replace(request(), version=2)
    assert "the release says watch version 1" in only(judge(other, None, Policy()))


def test_counter_may_not_fall_or_repeat() -> None:
    """A different release with a counter that was used already would let a hub roll a fleet back unseen."""
    last = Signed(version=1, counter=5, payload_sha256="0" * 64)
    assert "counter 5 is not above 5" in only(judged(release(2, counter=5), last))
    assert judged(release(2, counter=6), last) == Verdict(counter=6)


def test_the_very_same_release_may_be_signed_again() -> None:
    """A crash between ledger and hub must not end in a refusal."""
    last = Signed(version=1, counter=1, payload_sha256=sha256(encode(release())).hexdigest())
    assert judged(last=last) == Verdict(counter=1)


def test_parent_must_be_the_measured_file() -> None:
    """The figures are worth nothing for another parent."""
    other = msgspec.structs.replace(release(), parent=object_ref(b"x" * 1000))
    assert "not the release's parent file" in only(judged(other))


def test_chosen_variant_must_be_in_the_release() -> None:
    """Rollouts ship the chosen one."""
    assert "chosen variant fp16" in only(judged(chosen="fp16"))


def test_train_step_needs_to_say_how_it_is_fed() -> None:
    """A device could not learn from such a release."""
    companions = msgspec.structs.replace(release().companions, train_step=object_ref(b"step"))
    with_step = msgspec.structs.replace(release(), companions=companions)
    assert "does not say how to feed it" in only(judged(with_step))
    fed = msgspec.structs.replace(with_step, learning=Learning(batch=16, parameters=()))
    assert judged(fed) == Verdict(counter=1)


def test_variant_must_have_been_measured() -> None:
    """Nothing unmeasured ships."""
    report = [candidate for candidate in gate_report()["candidates"] if candidate["name"] == "fp32"]
    assert only(judged(candidates=report)) == "variant int8 was never measured"


def test_variant_that_a_gate_refused_is_refused() -> None:
    """The gate's own reason is passed on."""
    refused = {"accepted": False, "reasons": ["latency: 3.00 times the parent's"]}
    assert "latency: 3.00" in only(judged(candidates=candidates(int8=refused)))


def test_variant_must_be_the_measured_file() -> None:
    """Same name and length, other bytes: the digest tells."""
    swapped = release(variants=(variant(data=b"t" * len(SMALL)),))
    assert only(judged(swapped)) == "variant int8 is not the file that was measured"


def test_variant_may_not_claim_other_figures_than_measured() -> None:
    """Devices and people read the figures in the release."""
    assert "claims accuracy 0.999, but 0.975" in only(judged(release(variants=(variant(accuracy=0.999),))))


@pytest.mark.parametrize(("accuracy", "sign"), [(0.97, True), (0.9699, False), (float("nan"), False)])
def test_accuracy_may_drop_only_so_far(accuracy: float, sign: bool) -> None:
    """The parent has 0.98 and the policy allows 0.01; not-a-number is no permission."""
    document = release(variants=(variant(accuracy=accuracy),))
    verdict = judged(document, candidates=candidates(int8={"metrics": document.variants[0].metrics}))
    assert (verdict.integrity + verdict.merit == ()) is sign


def test_unmeasured_accuracy_is_refused() -> None:
    """Silence is not a pass."""
    bare = msgspec.structs.replace(variant(), metrics={})
    assert judged(release(variants=(bare,))).merit == ("accuracy of variant int8 was not measured",)
    assert judged(candidates=candidates(fp32={"metrics": None})).merit == ("accuracy of the parent was not measured",)


def test_variant_larger_than_allowed_is_refused() -> None:
    """A policy may demand that variants are half the parent's size."""
    verdict = judge(request(), None, Policy(max_bytes_ratio=0.3))
    assert (
        only(verdict) == f"variant int8 is {len(SMALL) / len(PARENT):.2f} times the parent's size, at most 0.30 allowed"
    )


def test_learned_parent_needs_the_devices_verdict() -> None:
    """Only devices can say how good a federated parent is."""
    assert "federated evaluation did not approve" in only(judged(kind="derive"))
    worse = {**PASSED, "passed": False, "reason": "group arm=right went from 0.97 to 0.80"}
    assert "group arm=right" in only(judged(kind="derive", federated=worse))
    assert judged(kind="derive", federated=PASSED) == Verdict(counter=1)


def test_learned_variant_must_agree_with_its_parent() -> None:
    """Its accuracy on the hub's data is not asked; whether it still is that parent is."""
    document = release(variants=(variant(agreement=0.9, accuracy=0.5),))
    report = candidates(int8={"metrics": document.variants[0].metrics})
    verdict = judged(document, kind="derive", federated=PASSED, candidates=report)
    assert only(verdict) == "variant int8 agrees with the parent on 0.9000, at least 0.9700 required"
