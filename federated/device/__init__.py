"""The device's side of federated learning. Imports neither flwr nor torch, and numpy only once there is a task."""
