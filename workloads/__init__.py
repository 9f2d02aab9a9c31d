"""What is trained: a workload brings a model, the hub's own data, the plans, and the devices that play more data."""
