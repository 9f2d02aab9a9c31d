"""Settings that do not go together are refused before anything is opened, with the ones to change."""

import ssl

from cloud.settings import Settings, told
from wire.adapters.https import is_this_machine


class SettingsError(Exception):
    """The settings do not go together."""


def check(settings: Settings) -> None:
    """Refuse to listen beyond this machine without TLS, and TLS files that cannot be used. Raises SettingsError."""
    if not is_this_machine(settings.host) and not (settings.tls_certificate and settings.tls_key):
        raise SettingsError(
            f"refusing to serve the API on {settings.host} without TLS: set "
            f"{told('tls_certificate', 'tls_key')}, or bind to 127.0.0.1"
        )
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError(f"{told('tls_certificate', 'tls_key')} go together: set both or neither")
    if settings.tls_certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
        except OSError as error:  # an SSLError is one
            files = f"{told('tls_certificate', 'tls_key')}: {settings.tls_certificate}, {settings.tls_key}"
            raise SettingsError(
                f"{files}: {error.strerror or error}; PEM files that belong together are needed"
            ) from error


def check_replica(settings: Settings) -> None:
    """Several hubs need a database and a broker that several can use. Raises SettingsError."""
    if settings.replica and not (settings.database_url and settings.broker == "external"):
        raise SettingsError(
            f"{told('replica')}: several hubs need a PostgreSQL database and an external broker: set "
            f"{told('database_url', 'broker')}"
        )
