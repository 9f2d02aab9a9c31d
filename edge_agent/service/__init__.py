"""What the agent does over time: awaits, writes down, acts. No thread, clock, file or socket but through ports."""
