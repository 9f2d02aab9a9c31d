"""What `bench.gates` is made of: synthetic fleets whose truth is known, our gates, and the fixed rules of others."""
