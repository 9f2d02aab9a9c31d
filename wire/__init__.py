"""Everything that crosses a process boundary: topics, messages, signed documents, chunk transfer.

The package is pure: values in, values out. It touches no clock, file, socket, thread or logger. The one exception is
`wire.adapters`, where the MQTT client and the system clock that every program shares are kept apart from the contract.
"""
