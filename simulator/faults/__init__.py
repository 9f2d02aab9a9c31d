"""What goes wrong: faults as data (`kinds`), and what brings them about on a fleet (`inject`)."""
