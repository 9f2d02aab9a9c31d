"""Settings of `fleetloop hub`."""

from typing import Annotated

import msgspec

from wire.topics import DEFAULT_ROOT

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub may be told."""

    data_dir: Annotated[str, _doc("directory of all state: database, objects, keys, jobs")] = "fleetloop-hub"
    host: Annotated[str, _doc("address of the API and the page; other than loopback needs TLS files")] = "127.0.0.1"
    port: Annotated[Port, _doc("port of the API and the page")] = 8600
    tls_certificate: Annotated[str, _doc("certificate file (PEM) for the API")] = ""
    tls_key: Annotated[str, _doc("private key file (PEM) for the API")] = ""
    broker_bind: Annotated[str, _doc("address that the embedded broker listens on")] = "127.0.0.1"
    broker_port: Annotated[Port, _doc("port of the embedded broker")] = 8883
    broker_host: Annotated[str, _doc("name or address under which devices reach the broker")] = "127.0.0.1"
    topic_root: Annotated[str, _doc("first levels of every MQTT topic of this fleet")] = DEFAULT_ROOT
    publisher_key_files: Annotated[
        tuple[str, ...], _doc("files with public keys (64 hex digits) of publishers to trust, comma between")
    ] = ()
    silence_s: Annotated[
        float, msgspec.Meta(description="seconds of silence after which a device counts as gone", gt=0)
    ] = 180.0
    telemetry_days: Annotated[
        float, msgspec.Meta(description="days that the points of the devices' telemetry are kept", gt=0)
    ] = 7.0
