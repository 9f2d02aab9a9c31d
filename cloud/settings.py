"""Settings of `fleetloop hub`."""

from typing import Annotated, Literal

import msgspec

from wire.settings import option
from wire.topics import DEFAULT_ROOT

PREFIX = "FLEETLOOP_HUB"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]

Replica = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{0,32}$")]


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub may be told."""

    action: Annotated[
        Literal["run", "backup", "restore"],
        _doc("run the hub, copy its state to backup_dir (while it runs or not), or make data_dir anew from there"),
    ] = "run"
    backup_dir: Annotated[str, _doc("directory of the backup, for backup and restore")] = ""
    data_dir: Annotated[str, _doc("directory of all state: database, objects, keys, jobs")] = "fleetloop-hub"
    database_url: Annotated[
        str,
        _doc("PostgreSQL database, postgresql://user@host/name, that several hubs may share (empty = a SQLite file)"),
    ] = ""
    database_password_file: Annotated[str, _doc("file with the password of that database's user")] = ""
    replica: Annotated[
        Replica,
        _doc("name of this hub among several on one database and one external broker (empty = it is the only one)"),
    ] = ""
    lease_s: Annotated[
        float, msgspec.Meta(description="seconds of silence after which another hub takes the lead", ge=0.5)
    ] = 10.0
    objects_url: Annotated[
        str, _doc("where model files are kept: a path or an fsspec URL such as s3://bucket/prefix (empty = data_dir)")
    ] = ""
    host: Annotated[str, _doc("address of the API and the page; other than loopback needs TLS files")] = "127.0.0.1"
    port: Annotated[Port, _doc("port of the API and the page")] = 8600
    tls_certificate: Annotated[str, _doc("certificate file (PEM) for the API")] = ""
    tls_key: Annotated[str, _doc("private key file (PEM) for the API")] = ""
    trusted_proxies: Annotated[
        str, _doc("addresses of reverse proxies, with commas, whose X-Forwarded-For is believed (empty = none)")
    ] = ""
    broker: Annotated[
        Literal["embedded", "mosquitto", "external"],
        _doc("who runs the broker: the hub itself, the hub by means of mosquitto, or somebody else"),
    ] = "embedded"
    broker_bind: Annotated[str, _doc("address that the broker listens on, unless it is external")] = "127.0.0.1"
    broker_port: Annotated[Port, _doc("port on which devices work")] = 8883
    broker_enrol_port: Annotated[Port, _doc("port on which devices enrol, where they have certificates")] = 8884
    broker_host: Annotated[str, _doc("name or address under which devices reach the broker")] = "127.0.0.1"
    mosquitto_path: Annotated[str, _doc("the mosquitto program (empty = the one of the system)")] = ""
    broker_ca: Annotated[str, _doc("file with the authority (PEM) of the external broker (empty = the hub's)")] = ""
    broker_username: Annotated[
        str, _doc("login of hub and aggregator at the external broker (empty = certificates of the hub's authority)")
    ] = ""
    broker_password_file: Annotated[str, _doc("file with the password of that login")] = ""
    certificate_days: Annotated[
        float, msgspec.Meta(description="life of a device's certificate, renewed after two thirds of it", gt=0, le=825)
    ] = 14.0
    topic_root: Annotated[str, _doc("first levels of every MQTT topic of this fleet")] = DEFAULT_ROOT
    silence_s: Annotated[
        float,
        msgspec.Meta(description="seconds of silence after which a device counts as gone, last will or not", gt=0),
    ] = 2700.0
    telemetry_days: Annotated[
        float, msgspec.Meta(description="days after which the devices' telemetry is rolled up into hours", gt=0)
    ] = 7.0
    telemetry_hour_days: Annotated[float, msgspec.Meta(description="days that those hours are kept", gt=0)] = 365.0
    job_days: Annotated[
        float, msgspec.Meta(description="days after which the files of jobs that have ended are removed", gt=0)
    ] = 30.0


def told(*names: str) -> str:
    """Settings as people give them, for errors."""
    return ", ".join(option(name, PREFIX) for name in names)
