"""The hub's decisions as pure functions: values in, values out."""
