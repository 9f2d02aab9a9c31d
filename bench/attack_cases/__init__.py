"""Attacks on the way from a published model to a committed one, each with the guard that stops it.

`attack` says what a case is, `scene` is a device, its cloud and whoever stands between them; the other modules hold the
cases, by what is attacked.
"""
