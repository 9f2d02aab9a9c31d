"""Random small fleets under random faults, each from one seed; what fails is shrunk and can be replayed."""
