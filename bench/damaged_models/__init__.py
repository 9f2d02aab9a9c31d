"""What `bench.model_gate` is made of: a real model, ways to damage it, and a child that judges one after the other."""
