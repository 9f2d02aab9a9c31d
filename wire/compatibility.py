"""Can this device run that variant? One pure answer, asked by the hub before it assigns and by the device before it
downloads; whoever asks, the reason names what is needed and what is there.

Operators of the standard set are known by the opset alone. A full build of onnxruntime brings two more domains, so a
device that names no operators runs these, too: `ai.onnx.ml`, and `com.microsoft`, whose contrib operators are what its
own quantizer writes. Anything else is a custom operator, and only a device that lists it has it.
"""

from typing import Final

from wire.messages import Capabilities
from wire.release import RuntimeNeeds

BUILT_IN_DOMAINS: Final = {"onnxruntime": ("ai.onnx.ml", "com.microsoft")}
"""Engine -> domains beside the standard one that its official builds contain."""
_DIGITS = 9
"""A peer may send any number of digits, and int() gives up beyond some thousands."""
_NAMED = 3
"""Missing operators that a reason names; the rest are counted."""


def unmet_need(needs: RuntimeNeeds, have: Capabilities, held_bytes: int = 0) -> str:
    """The first need that the device does not meet, in words; empty when it can run the variant.

    `held_bytes` of what the variant needs in flash lie on the device already.
    """
    return _engine(needs, have) or _operators(needs, have) or _machine(needs, have, held_bytes)


def unreadable(schema: int, speaks: tuple[int, int], agent: str) -> str:
    """Why an agent that speaks these schemas does not read a document of this one, in words; empty when it does."""
    lowest, highest = speaks
    if schema > highest:
        return f"needs an agent that speaks schema {schema}, {agent} speaks up to {highest}: update it"
    if schema < lowest:
        return f"the document is of schema {schema}, {agent} speaks {lowest} and later"
    return ""


def version_tuple(version: str) -> tuple[int, ...]:
    """Leading numbers of a dotted version: "1.31.1rc2" -> (1, 31, 1). Of a number's digits the first 9 count."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:_DIGITS]))
    return tuple(numbers)


def _engine(needs: RuntimeNeeds, have: Capabilities) -> str:
    version = have.engines.get(needs.engine)
    if version is None:
        offered = ", ".join(sorted(have.engines)) or "none"
        return f"needs engine {needs.engine}, this device has {offered}"
    if version_tuple(version) < version_tuple(needs.min_version):
        return f"needs {needs.engine} {needs.min_version} or later, this device has {version}"
    if needs.opset > have.max_opset:
        return f"needs opset {needs.opset}, this device runs at most {have.max_opset}"
    return ""


def _operators(needs: RuntimeNeeds, have: Capabilities) -> str:
    if have.operators is not None:
        missing, offered = set(needs.operators) - set(have.operators), f"a build of {len(have.operators)} operators"
    else:
        domains = BUILT_IN_DOMAINS.get(needs.engine, ())
        missing = {one for one in needs.operators if "::" in one and one.split("::")[0] not in domains}
        offered = f"a full build of {needs.engine}"
    if not missing:
        return ""
    named = sorted(missing)[:_NAMED]
    more = f" and {len(missing) - len(named)} more" if len(missing) > len(named) else ""
    return f"needs operator {', '.join(named)}{more}, this device has {offered} without it"


def _machine(needs: RuntimeNeeds, have: Capabilities, held_bytes: int) -> str:
    if needs.accelerator and needs.accelerator not in have.accelerators:
        return f"needs accelerator {needs.accelerator}, this device has {', '.join(have.accelerators) or 'none'}"
    if needs.ram_bytes > have.ram_bytes:
        return f"needs {needs.ram_bytes} bytes of RAM, this device has {have.ram_bytes}"
    room = needs.flash_bytes - held_bytes
    if room > have.disk_free_bytes:
        return f"needs {room} bytes of flash, this device has {have.disk_free_bytes} free"
    return ""
