"""From a trained network to what devices run: candidates, gates, and the graphs devices learn with."""

from wire.adapters import no_telemetry as no_telemetry
