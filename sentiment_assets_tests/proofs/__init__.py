"""Heavy proofs of acceptance measures, run by hand with make targets; the test suite has their small siblings."""
