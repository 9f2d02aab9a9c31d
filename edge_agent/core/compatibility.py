"""Can this device run that variant? The hub asked the same question before; the device does not take its word."""

from wire.messages import Capabilities
from wire.release import RuntimeNeeds


def unmet_need(needs: RuntimeNeeds, have: Capabilities) -> str:
    """The first need that the device does not meet, in words; empty when it can run the variant."""
    version = have.engines.get(needs.engine)
    if version is None:
        offered = ", ".join(sorted(have.engines)) or "none"
        return f"needs engine {needs.engine}, this device has {offered}"
    if version_tuple(version) < version_tuple(needs.min_version):
        return f"needs {needs.engine} {needs.min_version} or later, this device has {version}"
    if needs.opset > have.max_opset:
        return f"needs opset {needs.opset}, this device runs at most {have.max_opset}"
    if needs.ram_bytes > have.ram_bytes:
        return f"needs {needs.ram_bytes} bytes of RAM, this device has {have.ram_bytes}"
    return ""


def version_tuple(version: str) -> tuple[int, ...]:
    """Leading numbers of a dotted version: "1.31.1rc2" -> (1, 31, 1)."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
