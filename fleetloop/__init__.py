"""The command line and the public Python client of Fleetloop. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
