"""What makes a run repeatable: the event loop, its clock, its randomness, and what the network does to messages."""
