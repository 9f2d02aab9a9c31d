"""Where the agent touches the world: files, SQLite, runtimes, sockets, child processes."""
