"""Where the publisher touches the world: the hub's HTTP API and its own ledger file."""
