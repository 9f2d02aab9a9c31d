"""Where a federated run touches the world: MQTT and its SQLite file."""
