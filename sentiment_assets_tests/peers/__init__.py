"""Local servers that speak the protocols of the live sources, faults included.

Belongs here: what the service would send. Does not belong here: what our side should make of it (the tests).
"""
