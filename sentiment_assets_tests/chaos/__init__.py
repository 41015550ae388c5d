"""Proofs that take too long for the tests: faults under load (``make chaos``), an hour of operation (``make soak``)."""
