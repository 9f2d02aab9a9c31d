"""What the hub does: load facts, ask core, persist in one transaction, perform the effects after the commit."""
