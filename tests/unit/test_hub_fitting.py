"""Which variant of a release a device gets, and why it gets none."""

import msgspec

from cloud.core.fitting import fit, preferred
from tests.samples.release_builders import release, variant
from wire.messages import Capabilities, Installed, Phase, Reported, SlotReport
from wire.release import RuntimeNeeds, Variant

HAVE = Capabilities(
    engines={"onnxruntime": "1.20.1"},
    max_opset=21,
    machine="aarch64",
    python="3.11",
    ram_bytes=512 << 20,
    disk_free_bytes=1 << 20,
)
NEEDS = RuntimeNeeds(opset=17, operators=("Conv",), flash_bytes=1 << 20)


def needing(name: str, **needs: object) -> Variant:
    """A variant whose needs are changed."""
    one = variant(name, b"x" * (400 if name == "int8" else 900))
    return msgspec.structs.replace(one, needs=msgspec.structs.replace(NEEDS, **needs))


def reporting(*slots: SlotReport, **have: object) -> Reported:
    """A device with these slots and capabilities."""
    capabilities = msgspec.structs.replace(HAVE, **have)
    return Reported(seq=1, sequence=1, agent="x", capabilities=capabilities, slots=slots)


def test_a_device_gets_the_first_variant_that_it_can_run() -> None:
    """The chosen one, else the smallest of the others; one that the plan pins, or none."""
    int8, fp32 = needing("int8", operators=("com.microsoft::QLinearAdd",)), needing("fp32")
    one = release(variants=(int8, fp32))
    assert preferred(one, "fp32", None) == ("fp32", "int8")
    assert preferred(one, "fp32", "int8") == ("int8",)
    assert fit(one, ("int8", "fp32"), reporting())[0] == int8
    assert fit(one, ("int8", "fp32"), reporting(operators=("Conv",)))[0] == fp32
    found, reason = fit(one, ("int8",), reporting(operators=("Conv",)))
    assert found is None
    assert reason.startswith("variant int8: needs operator com.microsoft::QLinearAdd")
    found, reason = fit(one, ("int8", "fp32"), reporting(max_opset=11))
    assert reason == "variant int8: needs opset 17, this device runs at most 11; nor can it run fp32"


def test_a_device_that_has_not_reported_is_not_judged() -> None:
    """It judges itself."""
    assert fit(release(variants=(needing("int8", opset=99),)), ("int8",), None)[0] is not None


def test_a_device_that_runs_the_variant_has_the_room_for_it() -> None:
    """Its flash is full of just that."""
    one = release(variants=(needing("int8"),))
    installed = Installed(model="watch", version=1, variant="int8", sha256=one.variants[0].file.sha256)
    slot = SlotReport(slot="main", phase=Phase.COMMITTED, current=installed)
    assert fit(one, ("int8",), reporting(disk_free_bytes=0))[0] is None
    assert fit(one, ("int8",), reporting(slot, disk_free_bytes=0))[0] is not None
