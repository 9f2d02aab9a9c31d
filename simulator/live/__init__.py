"""Live mode: the agent's real services as many real MQTT sessions in one process, against a real hub and broker."""
