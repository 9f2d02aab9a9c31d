"""The device side of Fleetloop: a small daemon that keeps a proven model running, whatever happens around it.

`core` decides (pure), `service` awaits and acts through ports, `adapters` touch the world, `bootstrap` knows them all.
"""

from wire.adapters import no_telemetry as no_telemetry

VERSION = "0.1.0"
