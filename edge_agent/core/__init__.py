"""Decisions of the device: values in, values out."""
