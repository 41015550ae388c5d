"""Kafka: an embedded broker for one machine, a client that never hangs, a producer that replays a file.

Belongs here: everything that speaks to Kafka outside Spark.
Does not belong here: reading messages (``streaming``).
"""
