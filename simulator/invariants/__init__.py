"""What must be true of a fleet at any instant, and what once faults have stopped. The rules are here, nowhere else."""
