"""The TUF repository."""

from typing import Annotated

from pydantic import Base64Bytes, BaseModel, Field

from cloud.api.schemas.base import Request


class MetadataRequest(Request):
    """TUF metadata by role ("targets", "bin-0" to "bin-f"): base64 of the signed files."""

    metadata: Annotated[dict[str, Base64Bytes], Field(min_length=1, max_length=17)]

    def files(self) -> dict[str, bytes]:
        """The files themselves."""
        return dict(self.metadata)


class DeliveryRequest(MetadataRequest):
    """What was signed anew. `restored`: this hub came back from a backup and takes what was signed since, too."""

    restored: bool = False


class RootRequest(Request):
    """A root of trust: base64 of a signed root.json."""

    root: Base64Bytes


class RoleView(BaseModel):
    """The newest metadata of a role."""

    version: int
    expires_ns: int
    sha256: str


class TrustKeys(BaseModel):
    """Public ed25519 keys (hex) by role; `threshold` of the root keys must sign a root."""

    root: list[str]
    threshold: int
    targets: list[str]
    online: list[str]
    director: list[str]


class HeldKeys(BaseModel):
    """Public keys (hex) whose private halves this hub holds."""

    online: list[str]
    director: list[str]


class TrustView(BaseModel):
    """What devices can trust today. `ready`: there is a root, and the publisher has signed everything under it."""

    ready: bool
    keys: TrustKeys | None
    """As the newest root says; null while there is none."""
    held: HeldKeys
    roles: dict[str, RoleView]
