"""The hub's HTTP API, one router per noun. It validates, authorises and audits; the services do the work."""
