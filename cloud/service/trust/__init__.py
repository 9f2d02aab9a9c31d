"""The hub's TUF repository: the root that was made offline, what the publisher signed, and what the hub signs itself.

Everything lies in one table and is judged before it gets there; snapshot and timestamp follow in the same transaction.
The hub can keep the repository fresh and let it grow; it can neither vouch for a release nor change who may.
"""
