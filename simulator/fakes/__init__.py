"""In-memory stand-ins for the ports of hub and agent. They may fail before, halfway and after; tests use them too."""
