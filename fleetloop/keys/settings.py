"""Settings of `fleetloop keys` (see `wire.settings` for how they are merged)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.adapters.https import API_KEY_VARIABLE, CA_VARIABLE, HUB_URL, OF_CERTIFICATE, URL_VARIABLE
from wire.settings import common

Texts = tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, and with which files. A public key is given as 64 hex digits or as a file that holds some."""

    action: Annotated[
        Literal["init", "show", "new", "rotate", "sign", "push"],
        Meta(
            description="init: root keys and the first root; show: who may sign what; new: one more key file; "
            "rotate: the next root; sign: add signatures to it; push: hand it to the hub"
        ),
    ]
    keys_dir: Annotated[str, Meta(description="directory of the roots, and of the root keys that are here")] = (
        "fleetloop-keys"
    )
    publisher: Annotated[Texts, Meta(description="init: public key of the publisher (its publisher.pub)")] = ()
    online: Annotated[Texts, Meta(description="init: public online key of the hub; by default the hub is asked")] = ()
    director: Annotated[Texts, Meta(description="init: public director key of the hub; by default it is asked")] = ()
    root_keys: Annotated[
        Texts, Meta(description="init: public root keys that were made elsewhere (`new`); by default three are made")
    ] = ()
    role: Annotated[
        Literal["online", "targets", "director", "root", ""],
        Meta(description="rotate: whose keys change; without it only the root's life is renewed"),
    ] = ""
    add: Annotated[Texts, Meta(description="rotate: public keys that may sign from now on")] = ()
    remove: Annotated[Texts, Meta(description="rotate: public keys that are revoked; their first digits suffice")] = ()
    key_file: Annotated[str, Meta(description="new: where to put it; sign: the key to sign with")] = ""
    passphrase_file: Annotated[str, Meta(description="file with the passphrase of the root keys, if they have one")] = (
        ""
    )
    hub_url: Annotated[str, common("URL of the hub, for init and push", URL_VARIABLE)] = HUB_URL
    api_key_file: Annotated[
        str, common("file with a hub API key of the role admin; without it, or empty, offline", API_KEY_VARIABLE)
    ] = ""
    ca_file: Annotated[str, common(OF_CERTIFICATE, CA_VARIABLE)] = ""
