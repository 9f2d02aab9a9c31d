"""Where the hub touches the world: SQL, files, certificates, the broker child, job processes, wake-ups."""
