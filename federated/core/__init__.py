"""Pure decisions of a federated run: which step comes next, what an acceptable reply is, who has still to answer."""
