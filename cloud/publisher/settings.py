"""Settings of `fleetloop publisher` (see `wire.settings` for how they are merged)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.adapters.https import API_KEY_VARIABLE, CA_VARIABLE, HUB_URL, OF_CERTIFICATE, URL_VARIABLE
from wire.settings import common


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the publisher needs to know."""

    action: Annotated[
        Literal["serve", "list", "approve", "refuse", "renew", "key"],
        Meta(
            description="serve until stopped; list what waits; approve or refuse one request; renew what is due; "
            "show the public key"
        ),
    ] = "serve"
    key_dir: Annotated[
        str, Meta(description="directory of the signing key and of everything it signed; created with mode 0700")
    ] = "publisher-data"
    hub_url: Annotated[str, common("URL of the hub", URL_VARIABLE)] = HUB_URL
    api_key_file: Annotated[str, common("file that holds the hub API key (role publisher)", API_KEY_VARIABLE)] = ""
    ca_file: Annotated[str, common(OF_CERTIFICATE, CA_VARIABLE)] = ""
    approve: Annotated[
        Literal["policy", "manual"],
        Meta(description="who approves: the thresholds below, or a person (list, approve, refuse)"),
    ] = "policy"
    poll_s: Annotated[float, Meta(gt=0, description="seconds between two looks at the hub")] = 1.0
    max_accuracy_drop: Annotated[
        float, Meta(ge=0, le=1, description="policy: largest loss of accuracy against the fp32 parent")
    ] = 0.01
    min_agreement: Annotated[
        float, Meta(ge=0, le=1, description="policy: least agreement of a variant with a parent that devices learned")
    ] = 0.97
    max_bytes_ratio: Annotated[
        float, Meta(gt=0, description="policy: largest size of a variant as a share of the fp32 parent")
    ] = 1.0
    request: Annotated[str, Meta(description="id of the signing request to approve or refuse")] = ""
    restart_versions: Annotated[
        bool, Meta(description="renew: sign everything, with versions from 1 on (docs/security.md says when)")
    ] = False
    hub_restored: Annotated[
        bool, Meta(description="renew: the hub came back from a backup; hand in all that it has lost")
    ] = False
    reason: Annotated[str, Meta(description="why it is refused; shown on the hub")] = "refused by a person"
