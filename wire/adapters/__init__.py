"""What hub, agent and aggregator need of the world in the same form: the MQTT client, the clock, ed25519 keys.

The contract modules of `wire` never import from here.
"""
