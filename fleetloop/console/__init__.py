"""The operator's commands: a noun and what is done with it (`fleetloop.cli.NOUNS`), `plan`, `apply` and `export`.

They speak to a hub through `fleetloop.client` alone. Where the hub is and which key to use is said by `--url` and
`--api-key-file`, or by FLEETLOOP_URL and FLEETLOOP_API_KEY_FILE. Tables and lines are for people; `--json` prints what
the API said.
"""
