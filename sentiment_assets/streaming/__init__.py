"""The leased stream: Kafka -> parse -> score -> Delta, and what keeps it alive.

Belongs here: the streaming query and its lease, dead letters, the pair of checkpoint and table, heartbeat,
supervisor decisions, status.
Does not belong here: Dagster (``defs``), the broker (``kafka``), the model (``spark``, ``models``).
"""
