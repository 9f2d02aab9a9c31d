"""The demonstration: every program for real, on this machine, through public interfaces only.

It owns no logic of the system. It starts processes, asks the hub's API for what an operator would ask for, plays
recordings into the agents' local API as an application would, and reports what was measured.
"""
