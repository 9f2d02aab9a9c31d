"""Heavy proofs: each module measures one promise and prints one JSON object as its last line."""
